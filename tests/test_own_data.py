"""A user's own file works without touching Python, and bad input is refused by row and column."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.data import Source, load
from harness.data.series import outliers

ROWS = 20


def table() -> pd.DataFrame:
    """Twenty sound hours of two channels."""
    return pd.DataFrame(
        {
            "date": pd.date_range("2024-02-28", periods=ROWS, freq="h").astype(str),
            "load": np.arange(ROWS, dtype=float),
            "price": np.arange(ROWS, dtype=float)[::-1] ** 2,
        }
    )


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A sound file of 20 hours and two channels, alone in its folder."""
    (tmp_path / "kept").mkdir()
    return written(table(), tmp_path / "kept" / "own.csv")


def written(frame: pd.DataFrame, path: Path) -> Source:
    """A csv file and its description."""
    frame.to_csv(path, index=False)
    return Source(path, frequency="h", season=4)


def refusal(source: Source) -> str:
    """The message with which a file is refused; it names the file."""
    with pytest.raises(ValueError, match="own") as refused:
        load("mine", [], source)
    return str(refused.value)


def test_an_own_file_becomes_a_series(source: Source) -> None:
    """Values, channels, season and 7:1:2 borders, with nothing but the description."""
    series = load("mine", [], source)
    assert series.name == "mine"
    assert series.values.tolist() == table().iloc[:, 1:].to_numpy().tolist()
    assert series.channels == ("load", "price")
    assert series.borders == (14, 16, 20)
    assert (series.frequency, series.season) == ("h", 4)
    assert series.verified
    assert series.boundaries is None


def test_an_own_file_may_lie_in_a_folder_of_data_sets(source: Source, tmp_path: Path) -> None:
    """Where its path leads nowhere, as on another machine, a file of its name is taken.

    As for published sets, the folder is flat or holds one level of sub-folders.
    """
    moved = replace(source, path=Path("elsewhere") / source.path.name)
    for folder in (source.path.parent, tmp_path):
        found = load("mine", [tmp_path / "empty", folder], moved)
        assert found.hash == load("mine", [], source).hash
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        load("mine", [tmp_path / "empty"], moved)


def test_columns_time_and_split_can_be_chosen(tmp_path: Path) -> None:
    """Parquet with real stamps, its own name for time, one channel, a split in rows."""
    frame = (
        table().rename(columns={"date": "when"}).assign(when=lambda f: pd.to_datetime(f["when"]))
    )
    frame.to_parquet(tmp_path / "own.parquet")
    source = Source(
        tmp_path / "own.parquet", "h", 4, split=(8, 4, 6), time="when", columns=("price",)
    )
    series = load("mine", [], source)
    assert series.channels == ("price",)
    assert series.borders == (8, 12, 18)


def test_stamps_with_a_zone_are_regular_across_the_clock_change(tmp_path: Path) -> None:
    """Hours are counted in UTC, so neither the missing nor the double hour is an error."""
    clock = pd.date_range("2024-03-31", periods=ROWS, freq="h", tz="Europe/Berlin")
    frame = table().assign(date=clock)
    assert len(load("mine", [], written(frame, tmp_path / "own.csv")).values) == ROWS


def test_months_are_a_frequency(tmp_path: Path) -> None:
    """Steps need not be equally long; they must be those of the frequency."""
    frame = table().assign(date=pd.date_range("2020-01-01", periods=ROWS, freq="MS"))
    source = replace(written(frame, tmp_path / "own.csv"), frequency="MS")
    assert load("mine", [], source).frequency == "MS"


def test_another_split_is_another_data_set(source: Source) -> None:
    """The hash covers the borders: results of one split are not taken for those of another."""
    first = load("mine", [], source).hash
    assert load("mine", [], source).hash == first
    assert load("mine", [], replace(source, split=(10, 4, 6))).hash != first
    assert load("mine", [], replace(source, columns=("load",))).hash != first


# --- refusals of what is in the file ----------------------------------------------------------


def test_a_missing_file_is_named(source: Source) -> None:
    """The path that was tried."""
    with pytest.raises(FileNotFoundError, match=r"'mine'.*gone\.csv"):
        load("mine", [], replace(source, path=source.path.with_name("gone.csv")))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"time": "dat"}, "no column 'dat'; did you mean 'date'?; it has date, load, price"),
        ({"columns": ("load", "prise")}, "no column 'prise'; did you mean 'price'?"),
    ],
)
def test_a_missing_column_gets_a_suggestion(
    source: Source, fields: dict[str, object], words: str
) -> None:
    """The name that was not found, the nearest one, and all there are."""
    assert words in refusal(replace(source, **fields))  # type: ignore[arg-type]  # fields of several types


def test_a_cell_that_is_no_number_is_named(tmp_path: Path) -> None:
    """Row, column and what stands there."""
    frame = table().astype({"price": object})
    frame.loc[6, "price"] = "n.v."
    message = refusal(written(frame, tmp_path / "own.csv"))
    assert "own.csv, row 7, column 'price': 'n.v.' is not a number" in message


def test_a_cell_that_is_no_stamp_is_named(tmp_path: Path) -> None:
    """Row, column and what stands there."""
    frame = table()
    frame.loc[6, "date"] = "soon"
    message = refusal(written(frame, tmp_path / "own.csv"))
    assert "row 7, column 'date': 'soon' is not a stamp" in message


def test_numbers_are_no_stamps(tmp_path: Path) -> None:
    """A column of years is not guessed to be nanoseconds since 1970."""
    message = refusal(written(table().assign(date=range(ROWS)), tmp_path / "own.csv"))
    assert "column 'date' holds numbers, where stamps are needed" in message


@pytest.mark.parametrize(
    ("stamp", "words"),
    [
        ("2024-02-28 04:00:00", "row 7, column 'date': 2024-02-28 04:00:00 is earlier than"),
        ("2024-02-28 05:00:00", "row 7, column 'date': 2024-02-28 05:00:00 is the same as"),
        ("2024-02-28 06:30:00", "row 7, column 'date': 2024-02-28 06:30:00 does not keep"),
    ],
)
def test_stamps_out_of_step_are_named(tmp_path: Path, stamp: str, words: str) -> None:
    """Unsorted, repeated and irregular stamps: the first offender."""
    frame = table()
    frame.loc[6, "date"] = stamp
    assert words in refusal(written(frame, tmp_path / "own.csv"))


def test_a_wrong_frequency_says_what_was_due(source: Source) -> None:
    """Hourly data called half-hourly: the second row is where it shows."""
    message = refusal(replace(source, frequency="30min"))
    assert "row 2, column 'date': 2024-02-28 01:00:00 does not keep" in message
    assert "'30min', by which 2024-02-28 00:30:00 is due" in message


def test_gaps_are_refused_unless_asked_for(tmp_path: Path) -> None:
    """The first missing cell, how many there are, and what would fill them."""
    frame = table()
    frame.loc[[6, 9], "price"] = np.nan
    message = refusal(written(frame, tmp_path / "own.csv"))
    assert "row 7, column 'price': the value is missing, the first of 2 such cells" in message
    assert 'missing = "interpolate"' in message


@pytest.mark.parametrize("policy", ["refuse", "interpolate"])
def test_infinities_are_always_refused(tmp_path: Path, policy: str) -> None:
    """No policy makes a number of an infinity."""
    frame = table()
    frame.loc[6, "price"] = np.inf
    source = replace(written(frame, tmp_path / "own.csv"), missing=policy)
    assert "row 7, column 'price': the value is infinite" in refusal(source)


def test_a_channel_without_scale_is_refused(tmp_path: Path) -> None:
    """Constant over the training part: there is nothing to divide by, whatever comes later."""
    frame = table()
    frame.loc[:13, "price"] = 3.0
    message = refusal(written(frame, tmp_path / "own.csv"))
    assert "column 'price': the training part (rows 1 to 14) is 3.0 throughout" in message


@pytest.mark.parametrize("shift", [0.0, 1e6, -1e6])
def test_a_channel_that_varies_by_rounding_alone_is_refused(tmp_path: Path, shift: float) -> None:
    """At any level: a scale of 1e-16 would make an error of 1e31."""
    frame = table()
    frame.loc[:13, "price"] = np.where(np.arange(14) % 2, 0.1 + 0.2, 0.3) + shift
    message = refusal(written(frame, tmp_path / "own.csv"))
    assert "column 'price': the training part (rows 1 to 14) is" in message
    assert 'columns = ["load"] leaves it out' in message


def test_a_small_variation_at_a_high_level_is_none_of_rounding(tmp_path: Path) -> None:
    """1e8 and a wave of 1, as of a meter that counts."""
    frame = table().assign(price=1e8 + np.sin(np.arange(ROWS)))
    assert load("mine", [], written(frame, tmp_path / "own.csv")).channels == ("load", "price")


@pytest.mark.parametrize("value", [-9999.0, 1e38, -1e38])
def test_a_suspicious_value_is_told_by_row_and_column(tmp_path: Path, value: float) -> None:
    """In training it sets the scale; elsewhere it is the forecast that shows it."""
    frame = table().assign(load=np.sin(np.arange(ROWS)))
    assert not load("mine", [], written(frame, tmp_path / "own.csv")).warning
    frame.loc[[6, 9], "load"] = value
    warning = load("mine", [], written(frame, tmp_path / "own.csv")).warning
    assert f"row 7, column 'load': {value:g}, the first of 2 such values, lies" in warning
    assert (
        "more than 50 robust standard deviations from the median of the training part" in warning
    )
    late = table()
    late.loc[16, "load"] = value
    assert not load("mine", [], written(late, tmp_path / "own.csv")).warning


@pytest.mark.parametrize(
    ("values", "suspicious"),
    [
        ([20.0] * 999 + [-9999.0], True),  # stands still but for the sentinel
        ([0.0] * 950 + [1.0] * 50, False),  # a switch that is seldom on
        ([0.0] * 900 + [*np.linspace(0.1, 3, 99), 5.0], False),  # rain
        ([0.0] * 900 + [*np.linspace(0.1, 3, 99), 500.0], True),
        ([0.3, 0.1 + 0.2] * 475 + [1.0] * 50, False),  # a switch, with rounding
        (list(np.tan(np.linspace(-1.5, 1.5, 1000))), False),  # heavy tails
    ],
)
def test_a_channel_that_mostly_stands_still_has_a_robust_scale(
    values: list[float], *, suspicious: bool
) -> None:
    """It is that of the values that are not the median, as long as these are more than a few."""
    assert bool(outliers(np.array(values)[:, None], ["x"])) == suspicious


def test_a_value_whose_square_overflows_is_refused(tmp_path: Path) -> None:
    """No scale could be computed with it."""
    frame = table()
    frame.loc[6, "price"] = 1e200
    message = refusal(written(frame, tmp_path / "own.csv"))
    assert "row 7, column 'price': 1e+200 is too large" in message


def test_empty_files_are_refused(tmp_path: Path) -> None:
    """A header without rows, and rows without a channel."""
    assert "has no rows" in refusal(written(table().head(0), tmp_path / "own.csv"))
    alone = written(table()[["date"]], tmp_path / "own.csv")
    assert "has no column beside 'date'" in refusal(alone)


def test_a_split_must_fit_the_rows(source: Source) -> None:
    """More rows than there are, or so few that a part is empty."""
    assert "has 20 rows; the split (10, 10, 1) needs 21" in refusal(
        replace(source, split=(10, 10, 1))
    )
    assert "leaves a part empty" in refusal(replace(source, split=(0.02, 0.9, 0.08)))


def test_a_known_name_is_not_taken(source: Source) -> None:
    """An own file cannot pass for a published set."""
    with pytest.raises(ValueError, match="cannot be called 'ETTh1'"):
        load("ETTh1", [], source)


# --- filling ----------------------------------------------------------------------------------


def test_gaps_are_filled_on_the_line_between_neighbours(tmp_path: Path) -> None:
    """Linear in time; at the edge of a part, the nearest value of that part."""
    frame = table().assign(price=lambda f: f["load"] * 10)
    frame.loc[[0, 5, 6, 13, 14, 19], "price"] = np.nan
    source = replace(written(frame, tmp_path / "own.csv"), missing="interpolate")
    price = load("mine", [], source).values[:, 1]
    assert price[[5, 6]] == pytest.approx([50, 60])
    assert price[[0, 13, 14, 19]].tolist() == [10, 120, 150, 180]


def test_filling_lets_nothing_of_a_later_part_into_an_earlier_one(tmp_path: Path) -> None:
    """Change every test value: training and validation stay the same to the last digit."""
    frame = table()
    frame.loc[[12, 13, 14, 15, 16, 17], "load"] = np.nan
    frame.loc[15, "load"] = 1.0
    before = load("mine", [], replace(written(frame, tmp_path / "own.csv"), missing="interpolate"))
    frame.loc[18:, "load"] = 1e6
    after = load("mine", [], replace(written(frame, tmp_path / "own.csv"), missing="interpolate"))
    end = before.borders[1]
    assert before.values[:end].tobytes() == after.values[:end].tobytes()
    assert before.values[end:].tobytes() != after.values[end:].tobytes()


@pytest.mark.parametrize("name", ["own.xlsx", "own.txt", "own"])
def test_a_file_of_another_form_is_refused_when_it_is_read(tmp_path: Path, name: str) -> None:
    """And not before: a data set that cannot be used costs its own runs only."""
    (tmp_path / name).write_text("date,load\n")
    said = refusal(Source(tmp_path / name, "h", 4))
    assert f"{name!r} is no file that can be read; allowed: .parquet, .csv, .csv.gz" in said


def test_a_part_without_any_value_cannot_be_filled(tmp_path: Path) -> None:
    """Nothing to draw a line between."""
    frame = table()
    frame.loc[14:15, "price"] = np.nan
    source = replace(written(frame, tmp_path / "own.csv"), missing="interpolate")
    assert "column 'price': a whole part of the split is missing" in refusal(source)


# --- refusals of the description --------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"frequency": "fortnight"}, "frequency is 'fortnight'"),
        ({"season": 0}, "season is 0"),
        ({"split": (0.7, 0.1, 0.1)}, "sum to 1"),
        ({"split": (0.7, 0.3)}, "sum to 1"),
        ({"split": (10, 0, 5)}, "sum to 1"),
        ({"missing": "ignore"}, "allowed: refuse, interpolate"),
        ({"columns": ()}, "columns are"),
        ({"columns": ("load", "load")}, "columns are"),
        ({"columns": ("load", "date")}, "without 'date'"),
    ],
)
def test_a_description_that_cannot_be_is_refused(fields: dict[str, object], words: str) -> None:
    """At birth, before any file is opened, with what would be right."""
    good: dict[str, object] = {"path": Path("own.csv"), "frequency": "h", "season": 4}
    with pytest.raises(ValueError, match=words):
        Source(**{**good, **fields})  # type: ignore[arg-type]  # fields of several types
