"""Files as people have them are read as described, or refused with the key that would help.

What is in them, and how it is checked cell by cell, is in ``test_own_data.py``.
"""

from __future__ import annotations

import gzip
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data import Series, Source, load

ROWS = 20
PARTS = [b",", b"\n", b'"', b"date", b"2024", b"T", b"Z", b"+01:00", b"9" * 40, b"1e400", b"\0"]
"""What a damaged file may hold where something else belongs."""


def table(**stamps: object) -> pd.DataFrame:
    """Twenty sound hours of two channels, or other stamps as ``pandas.date_range`` makes them."""
    clock = pd.date_range(**{"start": "2024-02-28", "periods": ROWS, "freq": "h", **stamps})  # type: ignore[call-overload]  # options of several types
    ramp = np.arange(float(ROWS))
    return pd.DataFrame({"date": clock, "load": ramp / 4, "price": ramp[::-1] ** 2})


@pytest.fixture
def own(tmp_path: Path) -> Source:
    """The description of a file that each test writes for itself."""
    return Source(tmp_path / "own.csv", frequency="h", season=4)


def read(source: Source, content: str | bytes) -> Series:
    """The data set in a file with this content."""
    source.path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load("mine", [], source)


def refusal(source: Source, content: str | bytes) -> str:
    """The message with which a file with this content is refused; it names the file."""
    with pytest.raises(ValueError, match="own") as refused:
        read(source, content)
    return str(refused.value)


def csv(frame: pd.DataFrame | None = None) -> str:
    """A csv file as pandas writes it without its index."""
    return (table() if frame is None else frame).to_csv(index=False)


def in_quotes(frame: pd.DataFrame, column: str) -> str:
    """What a message quotes of the first cell of a column."""
    return repr(str(frame[column].iloc[0]))


# --- names ------------------------------------------------------------------------------------


def test_an_index_that_was_written_along_is_no_channel(own: Source) -> None:
    """A column without a name is refused, and the key that the message shows leaves it out."""
    content = table().to_csv()
    message = refusal(own, content)
    assert "column 1 has no name in the header" in message
    assert 'columns = ["load", "price"] leaves it out' in message
    assert read(replace(own, columns=("load", "price")), content).channels == ("load", "price")


def test_stamps_may_stand_in_the_column_without_a_name(own: Source) -> None:
    """As ``frame.to_csv`` writes stamps that are the index."""
    content = table().set_index("date").rename_axis(None).to_csv()
    assert 'time = "" is the column without a name' in refusal(own, content)
    assert read(replace(own, time=""), content).channels == ("load", "price")


def test_two_columns_of_one_name_are_refused(own: Source) -> None:
    """Both places are named; where neither of the two is wanted, nothing is wrong."""
    content = csv().replace("load,price", "load,load")
    assert "columns 2 and 3 are both called 'load'" in refusal(own, content)
    frame = table().assign(a=1.0, b=2.0)
    content = csv(frame).replace("a,b", "a,a")
    assert read(replace(own, columns=("load",)), content).channels == ("load",)


def test_blanks_around_a_name_do_not_belong_to_it(own: Source) -> None:
    """``date, load , price`` names the channels load and price."""
    content = csv().replace("date,load,price", "date, load , price")
    assert read(own, content).channels == ("load", "price")


def test_the_columns_to_keep_are_named_where_one_has_no_numbers(own: Source) -> None:
    """Of texts and of constants, constant up to rounding too; all of them at once."""
    frame = table().assign(city="Berlin", country="DE")
    message = refusal(own, csv(frame))
    assert "row 1, column 'city': 'Berlin' is not a number" in message
    assert 'columns = ["load", "price"] leaves it out, and 1 more like it' in message
    turns = np.where(np.arange(ROWS) % 2, 0.1 + 0.2, 0.3)
    message = refusal(own, csv(table().assign(flat=turns)))
    assert "column 'flat': the training part (rows 1 to 14) is 0.3 throughout, up to" in message
    assert 'columns = ["load", "price"] leaves it out' in message


def test_a_cell_among_numbers_costs_no_column(own: Source) -> None:
    """Where others of the column are numbers, leaving it out is not what helps."""
    assert "columns" not in refusal(own, csv().replace("0.25,", "n.v.,"))


# --- text files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("separator", "decimal"), [(";", ","), (";", "."), ("\t", "."), ("\t", ","), ("|", ".")]
)
def test_separator_and_decimal_sign_are_keys(own: Source, separator: str, decimal: str) -> None:
    """The same data set as with commas, to the last bit; without the key it is named."""
    content = table().to_csv(index=False, sep=separator, decimal=decimal)
    key = '"\\t"' if separator == "\t" else f'"{separator}"'
    assert f"separator = {key} finds the header" in refusal(own, content)
    described = replace(own, separator=separator, decimal=decimal)
    assert read(described, content).hash == read(own, csv()).hash


def test_a_spreadsheet_in_german_is_described_by_four_keys(own: Source) -> None:
    """As docs/data.md has it: separator, decimal sign, encoding and stamps."""
    frame = table().rename(columns={"load": "Wärme"})
    stamps = frame.date.dt.strftime("%d.%m.%Y %H:%M")
    content = frame.assign(date=stamps).to_csv(index=False, sep=";", decimal=",").encode("cp1252")
    described = replace(
        own, separator=";", decimal=",", encoding="cp1252", stamp_format="%d.%m.%Y %H:%M"
    )
    series = read(described, content)
    assert series.channels == ("Wärme", "price")
    assert series.hash == read(own, csv(frame)).hash


def test_the_decimal_sign_is_named_by_the_first_cell_that_shows_it(own: Source) -> None:
    """A comma where points are expected, and a point where commas are."""
    content = table().to_csv(index=False, sep=";", decimal=",")
    message = refusal(replace(own, separator=";"), content)
    assert "row 1, column 'load': '0,0' is not a number; decimal = \",\" reads it" in message
    content = table().to_csv(index=False, sep=";")
    message = refusal(replace(own, separator=";", decimal=","), content)
    assert "row 1, column 'load': '0.0' is not a number; decimal = \".\" reads it" in message


def test_a_thousands_separator_makes_no_smaller_number(own: Source) -> None:
    """1.250 is not 1.25 where the comma is the decimal sign."""
    content = table().to_csv(index=False, sep=";", decimal=",").replace(";0,25;", ";1.250;")
    message = refusal(replace(own, separator=";", decimal=","), content)
    assert "row 2, column 'load': '1.250' is not a number" in message


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_the_encoding_is_a_key(own: Source, encoding: str) -> None:
    """Names keep their letters, and a mark at the beginning of a file belongs to none."""
    content = csv().replace("load", "Kühlung").encode(encoding)
    described = own if encoding == "utf-8-sig" else replace(own, encoding=encoding)
    assert read(described, content).channels == ("Kühlung", "price")


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("utf-16", 'own.csv is not utf-8; it begins as UTF-16 does: encoding = "utf-16"'),
        ("latin-1", 'line 1 holds the byte 0xfc; encoding = "latin-1", or'),
    ],
)
def test_what_cannot_be_decoded_is_refused(own: Source, encoding: str, words: str) -> None:
    """No letter is replaced by another one; the message names the encoding that would do."""
    content = csv().replace("load", "Kühlung").encode(encoding)
    assert words in refusal(own, content)
    assert "own.csv is not utf-16" in refusal(replace(own, encoding="utf-16"), csv()[1:])


@pytest.mark.parametrize("above", ["# exported by our meter\n", "# exported, by, our meter\n"])
def test_a_line_above_the_header_is_named(own: Source, above: str) -> None:
    """Whether it has as many fields as the header or not."""
    assert "line 2 is the header: take away what stands above it" in refusal(own, above + csv())


def test_a_row_with_too_many_fields_is_named(own: Source) -> None:
    """By its line, and not in the words of a parser."""
    head, *rows = csv().splitlines()
    message = refusal(own, "\n".join([head, *rows[:3], rows[3] + ",7", *rows[4:]]))
    assert "own.csv, line 5: 4 fields, where the lines before have 3" in message
    assert "C error" not in message
    wider = "\n".join([head, *(f"{row},7" for row in rows)])
    assert "the rows have up to 4 fields, the header has 3" in refusal(own, wider)


def test_an_empty_file_is_refused(own: Source) -> None:
    """Of no byte, and of a gzip file that holds none."""
    assert "own.csv is empty" in refusal(own, b"")
    packed = replace(own, path=own.path.with_name("own.csv.gz"))
    assert "own.csv.gz is empty" in refusal(packed, gzip.compress(b""))


@given(at=st.integers(0, 300), cut=st.integers(0, 30), put=st.binary() | st.sampled_from(PARTS))
def test_whatever_a_file_holds_is_read_or_refused(at: int, cut: int, put: bytes) -> None:
    """A damaged file costs its own runs only: what is raised is a ValueError, and nothing else."""
    content = csv().encode()
    with TemporaryDirectory() as folder:
        path = Path(folder, "own.csv")
        path.write_bytes(content[:at] + put + content[at + cut :])
        with suppress(ValueError):
            load("mine", [], Source(path, "h", 4))


# --- stamps -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d.%m.%y %H:%M:%S"])
def test_day_and_month_are_not_guessed(own: Source, form: str) -> None:
    """Without a format the first such stamp is refused, and the message shows the right format."""
    frame = table(start="2024-03-01")
    frame = frame.assign(date=frame.date.dt.strftime(form))
    message = refusal(own, csv(frame))
    assert f"row 1, column 'date': {in_quotes(frame, 'date')} does not begin with the" in message
    assert f'"{form}"' in message
    described = replace(own, stamp_format=form)
    assert read(described, csv(frame)).hash == read(own, csv(table(start="2024-03-01"))).hash


@pytest.mark.parametrize(
    ("form", "divisor", "meaning"),
    [
        ("s", 10**9, "seconds"),
        ("ms", 10**6, "milliseconds"),
        ("us", 10**3, "microseconds"),
        ("ns", 1, "nanoseconds"),
    ],
)
def test_stamps_may_count_from_1970(own: Source, form: str, divisor: int, meaning: str) -> None:
    """The unit is never guessed; the message names the one that fits the size of the number."""
    frame = table()
    frame = frame.assign(date=frame.date.astype("int64") // divisor)
    message = refusal(own, csv(frame))
    assert f'stamp_format = "{form}" reads them as {meaning} since 1970' in message
    assert read(replace(own, stamp_format=form), csv(frame)).hash == read(own, csv()).hash


def test_digits_alone_can_be_dates(own: Source) -> None:
    """Their first digit may be a zero; pandas would have taken it away."""
    days = replace(own, frequency="D", stamp_format="%d%m%Y")
    frame = table(freq="D", start="2024-02-01")
    digits = frame.assign(date=frame.date.dt.strftime("%d%m%Y"))
    expected = read(replace(own, frequency="D"), csv(frame)).hash
    assert read(days, csv(digits)).hash == expected
    compact = frame.assign(date=frame.date.dt.strftime("%Y%m%d"))
    assert 'stamp_format = "%Y%m%d" reads them as year' in refusal(own, csv(compact))


@pytest.mark.parametrize("form", ["%Y-%m-%dT%H:%M:%S", "%Y/%m/%d %H:%M", "%Y.%m.%d %H:%M"])
def test_where_the_year_stands_first_there_is_nothing_to_guess(own: Source, form: str) -> None:
    """ISO 8601, and the same with other marks between its parts."""
    frame = table(start="2024-03-01")
    text = csv(frame.assign(date=frame.date.dt.strftime(form)))
    assert read(own, text).hash == read(own, csv(frame)).hash


def test_quarters_are_stamps(own: Source) -> None:
    """2024Q1 is its first month."""
    frame = table(freq="QS")
    quarters = frame.assign(
        date=frame.date.dt.year.astype(str) + "Q" + frame.date.dt.quarter.astype(str)
    )
    described = replace(own, frequency="QS")
    assert read(described, csv(quarters)).hash == read(described, csv(frame)).hash


def test_a_stamp_of_another_format_is_named(own: Source) -> None:
    """With the format that it should have; an empty cell is missing."""
    described = replace(own, stamp_format="%Y-%m-%d %H:%M:%S")
    message = refusal(described, csv().replace("2024-02-28 06:00:00", "28.02.2024"))
    assert "row 7, column 'date': '28.02.2024' is not a stamp of stamp_format = \"%Y-" in message
    assert "row 7, column 'date': the stamp is missing" in refusal(
        own, csv().replace("2024-02-28 06:00:00", "")
    )


@pytest.mark.parametrize(
    ("zone", "frequency", "start"),
    [
        ("Europe/Berlin", "D", "2024-03-25"),  # the clock is changed on the 31st
        ("America/New_York", "D", "2024-10-28"),
        ("Asia/Tokyo", "W-MON", "2024-01-01"),
        ("Asia/Tokyo", "MS", "2024-01-01"),
        ("Europe/Berlin", "MS", "2024-01-01"),
        ("Europe/Berlin", "h", "2024-03-31"),
        ("Asia/Kolkata", "15min", "2024-01-01"),
    ],
)
@pytest.mark.parametrize("form", [".csv", ".parquet"])
def test_each_step_is_a_unit_of_its_own_calendar(
    own: Source, zone: str, frequency: str, start: str, form: str
) -> None:
    """Midnight follows midnight where people live; hours and less are counted in UTC."""
    frame = table(start=start, freq=frequency, tz=zone)
    source = replace(own, path=own.path.with_suffix(form), frequency=frequency)
    frame.to_csv(source.path, index=False) if form == ".csv" else frame.to_parquet(source.path)
    assert len(load("mine", [], source).values) == ROWS


def test_a_zoned_stamp_out_of_step_is_shown_as_it_stands(own: Source) -> None:
    """In the file's own time, and so is the stamp that is due."""
    frame = table(start="2024-03-25", freq="D", tz="Europe/Berlin").drop(index=8)
    message = refusal(replace(own, frequency="D"), csv(frame))
    assert "row 9, column 'date': 2024-04-03 00:00:00+02:00 does not keep" in message
    assert "by which 2024-04-02 00:00:00 is due" in message
    frame = table(tz="Asia/Tokyo").drop(index=8)
    message = refusal(own, csv(frame))
    assert "2024-02-28 09:00:00+09:00 does not keep" in message
    assert "by which 2024-02-28 08:00:00 is due" in message


def test_zones_are_given_for_all_stamps_or_none(own: Source) -> None:
    """The first one without is named."""
    content = csv(table(tz="Asia/Tokyo")).replace("06:00:00+09:00", "06:00:00")
    assert "row 7, column 'date': '2024-02-28 06:00:00' has no zone" in refusal(own, content)


# --- parquet ----------------------------------------------------------------------------------


def test_stamps_may_be_the_index_of_a_parquet_file(own: Source) -> None:
    """Under their name, or as the column without one; the number of a row is no channel."""
    expected = read(own, csv()).hash
    packed = replace(own, path=own.path.with_suffix(".parquet"))
    table().set_index("date").to_parquet(packed.path)
    assert load("mine", [], packed).hash == expected
    table().set_index("date").rename_axis(None).to_parquet(packed.path)
    with pytest.raises(ValueError, match='time = "" is the column without a name'):
        load("mine", [], packed)
    assert load("mine", [], replace(packed, time="")).hash == expected
    frame = table().set_index(pd.Index(range(ROWS, 0, -1), name="id"))
    frame.to_parquet(packed.path)
    assert load("mine", [], packed).channels == ("load", "price")


# --- the long format --------------------------------------------------------------------------


@pytest.fixture
def long(own: Source) -> Source:
    """The description of a file in the long format."""
    return replace(own, time="ds")


def in_long(frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """One series below the other, as Nixtla's libraries take them."""
    wide = (table() if frame is None else frame).rename(columns={"date": "ds"})
    return wide.melt("ds", var_name="unique_id", value_name="y")[["unique_id", "ds", "y"]]


def test_each_series_of_the_long_format_is_a_channel(own: Source, long: Source) -> None:
    """In the order in which they appear, whether the file goes by series or by stamp."""
    expected = read(own, csv())
    by_stamp = in_long().sort_values("ds", kind="stable")
    for frame in (in_long(), by_stamp):
        series = read(long, csv(frame))
        assert series.channels == ("load", "price")
        assert series.hash == expected.hash
    packed = replace(long, path=long.path.with_suffix(".parquet"))
    in_long().set_index("unique_id").to_parquet(packed.path)
    assert load("mine", [], packed).hash == expected.hash
    assert 'time = "ds" makes a channel of each series' in refusal(own, csv(in_long()))


def test_some_series_of_the_long_format_can_be_chosen(long: Source) -> None:
    """Only they must share their clock; of a file with one series, ``y`` is a channel too."""
    frame = pd.concat([in_long(), in_long().head(3).assign(unique_id="short")])
    assert read(replace(long, columns=("price",)), csv(frame)).channels == ("price",)
    assert "no column 'prise'; did you mean 'price'?" in refusal(
        replace(long, columns=("prise",)), csv(in_long())
    )
    alone = in_long().head(ROWS)
    assert read(replace(long, columns=("y",)), csv(alone)).channels == ("y",)


def test_series_with_clocks_of_their_own_are_refused(long: Source) -> None:
    """The first stamp that differs is named, or the lengths where one series ends before."""
    frame = in_long()
    message = refusal(long, csv(frame.drop(index=ROWS + 5)))
    assert "row 26, column 'ds': the series 'price' has 2024-02-28 06:00:00 where" in message
    assert "'load' has 2024-02-28 05:00:00; series of one data set share their clock" in message
    message = refusal(long, csv(frame.head(2 * ROWS - 1)))
    assert "the series 'price' has 19 rows, 'load' has 20; series of one data set" in message


def test_the_long_format_has_three_columns(long: Source) -> None:
    """Nothing beside them is dropped unnoticed, each series has a name, each value is a number."""
    assert "has 'trend' beside" in refusal(long, csv(in_long().assign(trend=1.0)))
    frame = in_long()
    frame.loc[6, "unique_id"] = None
    assert "row 7, column 'unique_id': the name of the series is missing" in refusal(
        long, csv(frame)
    )
    frame = in_long().astype({"y": object})
    frame.loc[26, "y"] = "n.v."
    assert "row 27, column 'y': 'n.v.' is not a number" in refusal(long, csv(frame))


# --- the description --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"frequency": "0h"}, "frequency is '0h'; a step that leads forward"),
        ({"frequency": "-1D"}, "frequency is '-1D'; a step that leads forward"),
        ({"separator": ""}, "separator is ''"),
        ({"separator": ", "}, "separator is ', '"),
        ({"separator": '"'}, "separator is '\"'"),
        ({"separator": "a"}, "separator is 'a'"),
        ({"decimal": "'"}, "decimal is"),
        ({"decimal": ","}, "separator is ',', and decimal is the same"),
        ({"encoding": "utf-9"}, "encoding is 'utf-9'; utf-8, utf-16 or latin-1"),
        ({"encoding": "zip"}, "encoding is 'zip'"),
        ({"stamp_format": "%Q"}, "stamp_format is '%Q'; as in '%d.%m.%Y %H:%M', or one of s, ms"),
        ({"stamp_format": "seconds"}, "stamp_format is 'seconds', which has no year"),
        ({"stamp_format": "%d.%m."}, r"stamp_format is '%d\.%m\.', which has no year"),
        ({"path": Path("own.parquet"), "separator": ";"}, "separator is ';'; parquet has none"),
        ({"path": Path("own.parquet"), "encoding": "ascii"}, "encoding is 'ascii'; parquet has"),
    ],
)
def test_keys_of_text_files_are_checked_at_birth(fields: dict[str, object], words: str) -> None:
    """Before any file is opened, each message beginning with its key."""
    good: dict[str, object] = {"path": Path("own.csv"), "frequency": "h", "season": 4}
    with pytest.raises(ValueError, match=words):
        Source(**{**good, **fields})  # type: ignore[arg-type]  # fields of several types
