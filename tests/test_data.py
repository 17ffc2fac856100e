"""Published data sets: found by name, compared value by value, split as stated."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness import data
from harness.data import Entry, Series, load
from harness.data.series import value_hash

VERIFIED = [name for name, found in data.CATALOGUE.items() if found.hash is not None]
ROWS = 40


def table() -> pd.DataFrame:
    """The content of the small set."""
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "date": pd.date_range("2020-01-01", periods=ROWS, freq="h"),
            "load": generator.normal(size=ROWS),
            "sun (W/m²)": generator.normal(size=ROWS) / 3,
        }
    )


def content_hash(frame: pd.DataFrame) -> str:
    """Its value hash."""
    stamps = frame["date"].to_numpy("datetime64[us]").astype(np.int64)
    return value_hash(
        [str(name) for name in frame.columns[1:]], stamps, frame.iloc[:, 1:].to_numpy()
    )


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A small published set, in the catalogue for the time of a test."""
    found = Entry(
        name="tiny",
        stems=("tiny",),
        urls=("https://example.invalid/tiny.csv",),
        megabytes=0.01,
        frequency="h",
        season=24,
        rows=ROWS,
        channels=2,
        hash=content_hash(table()),
    )
    monkeypatch.setitem(data.CATALOGUE, "tiny", found)
    return found


@pytest.fixture
def unverified(tiny: Entry, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """The same set, had no copy of it ever been hashed."""
    monkeypatch.setitem(data.CATALOGUE, "tiny", replace(tiny, hash=None))
    return data.CATALOGUE["tiny"]


def write(frame: pd.DataFrame, path: Path) -> Path:
    """Parquet or csv, by the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False)
    return path


# --- one content, many files ------------------------------------------------------------------


@pytest.mark.parametrize("file", ["tiny.csv", "tiny.csv.gz", "tiny.parquet"])
def test_the_same_content_is_accepted_from_any_form(
    tiny: Entry, tmp_path: Path, file: str
) -> None:
    """csv, csv.gz and parquet give one hash and the same digits."""
    write(table(), tmp_path / file)
    series = load("tiny", [tmp_path])
    assert series.hash == tiny.hash
    assert series.verified
    assert series.values.tobytes() == table().iloc[:, 1:].to_numpy().tobytes()
    assert series.channels == ("load", "sun (W/m²)")


def change_value(frame: pd.DataFrame) -> None:
    """One value by its last bit."""
    values = frame["load"].to_numpy(copy=True)
    values[17] = np.nextafter(values[17], 9)
    frame["load"] = values


def change_stamp(frame: pd.DataFrame) -> None:
    """One stamp by a microsecond."""
    stamps = frame["date"].to_numpy("datetime64[us]", copy=True)
    stamps[17] += np.timedelta64(1, "us")
    frame["date"] = stamps


def change_name(frame: pd.DataFrame) -> None:
    """One name by a letter."""
    frame.columns = pd.Index(["date", "lo4d", "sun (W/m²)"])


def change_order(frame: pd.DataFrame) -> None:
    """Two names by their order."""
    frame.columns = pd.Index(["date", "sun (W/m²)", "load"])


@pytest.mark.parametrize("change", [change_value, change_stamp, change_name, change_order])
@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.usefixtures("tiny")
def test_any_altered_content_is_refused(tmp_path: Path, change: object, form: str) -> None:
    """One changed bit, stamp or name: the error has the file, the expected and the got hash."""
    frame = table()
    assert callable(change)
    change(frame)
    path = write(frame, tmp_path / f"tiny.{form}")
    with pytest.raises(ValueError, match="value hash expected") as refusal:
        load("tiny", [tmp_path])
    message = str(refusal.value)
    assert str(path) in message
    assert content_hash(table()) in message
    assert content_hash(frame) in message


@pytest.mark.parametrize("name", ["sun (W/m)", "sun (W/m\ufffd)", "sun (W/mÂ²)"])
@pytest.mark.usefixtures("tiny")
def test_lost_superscripts_do_not_matter(tmp_path: Path, name: str) -> None:
    """Public copies of weather lost characters outside ASCII; such a name is the same name."""
    frame = table()
    frame.columns = pd.Index(["date", "load", name])
    write(frame, tmp_path / "tiny.csv")
    assert load("tiny", [tmp_path]).verified


@pytest.mark.usefixtures("tiny")
def test_a_latin_1_header_is_read(tmp_path: Path) -> None:
    """A file in another encoding is the same data set."""
    (tmp_path / "tiny.csv").write_text(table().to_csv(index=False), encoding="latin-1")
    assert load("tiny", [tmp_path]).verified


def test_the_value_hash_is_the_bytes_it_says() -> None:
    """The docstring is a specification: sha256 of shape, names, stamps and values."""
    values = np.array([[1.5, -0.0], [2.0, 3.0]])
    specified = (
        (2).to_bytes(8, "little")
        + (2).to_bytes(8, "little")
        + b"a\0"
        + b"b\0"
        + np.array([0, 60_000_000], "<i8").tobytes()
        + np.array([1.5, 0.0, 2.0, 3.0], "<f8").tobytes()
    )
    got = value_hash(["a", "b²"], np.array([0, 60_000_000]), values)
    assert got == hashlib.sha256(specified).hexdigest()


@pytest.mark.usefixtures("tiny")
def test_a_wrong_shape_is_refused_in_numbers(tmp_path: Path) -> None:
    """Rows and channels, expected and got."""
    write(table().head(39), tmp_path / "tiny.csv")
    with pytest.raises(ValueError, match=r"expected 40 rows x 2 channels, got 39 x 2"):
        load("tiny", [tmp_path])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tiny.parquet", b"PAR1 not a table"),
        ("tiny.csv.gz", gzip.compress(b"date,a,b\n" * 2000, mtime=0)[:40]),
        ("tiny.csv.gz", b"date,a,b\n"),
        ("tiny.csv", b""),
        ("tiny.csv", b'date,a,b\n2020-01-01,1,2\n2020-01-01,"1,2,3,4\n'),
    ],
)
@pytest.mark.usefixtures("tiny")
def test_a_damaged_file_is_named(tmp_path: Path, file: str, content: bytes) -> None:
    """A file that cannot be read is an error with its path, whatever is wrong with it."""
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"{file} cannot be read as"):
        load("tiny", [tmp_path])


# --- looking ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("tiny")
def test_folders_are_searched_in_order_and_one_level_deep(tmp_path: Path) -> None:
    """The first folder that has the set wins, flat or not; the cache comes last."""
    bad = table()
    change_value(bad)
    given, other, cache = tmp_path / "given", tmp_path / "other", tmp_path / "cache"
    write(table(), cache / "tiny.csv")
    assert load("tiny", [given], cache=cache).verified
    write(bad, other / "deep" / "tiny.parquet")
    write(table(), given / "ltsf" / "tiny.parquet")
    assert load("tiny", [given, other], cache=cache).verified
    with pytest.raises(ValueError, match=r"other.deep.tiny\.parquet"):
        load("tiny", [other, given], cache=cache)


def test_one_message_says_what_is_missing_where_it_was_looked_for_and_what_to_type(
    tmp_path: Path,
) -> None:
    """Names, folders, sizes and the command."""
    here, nowhere = tmp_path, tmp_path / "nowhere"
    gone = data.missing(["electricity", "ordinal", "mitdb", "ETTh1"], [here, nowhere])
    assert [found.name for found in gone] == ["electricity", "ETTh1"]
    message = data.explain_missing(gone, [here, nowhere])
    assert "electricity (96 MB), ETTh1 (2.6 MB)" in message
    assert f"{here}, {nowhere} (no such folder)" in message
    assert "make data DATASETS=electricity,ETTh1" in message
    assert "PATCHBENCH_DATA" in message
    with pytest.raises(FileNotFoundError, match=r"make data DATASETS=traffic"):
        load("traffic", [here])


@pytest.mark.usefixtures("tiny")
def test_a_set_that_is_there_is_not_missing(tmp_path: Path) -> None:
    """What load would find, missing does not name."""
    write(table(), tmp_path / "cache" / "tiny.csv.gz")
    assert data.missing(["tiny"], [tmp_path], cache=tmp_path / "cache") == []


def test_unknown_names_get_a_suggestion() -> None:
    """A typing error is answered with the name that was meant."""
    with pytest.raises(ValueError, match=r"'ETTh3'; did you mean 'ETTh"):
        load("ETTh3", [])
    with pytest.raises(ValueError, match=r"unknown data set 'xyzzy'; known: ETTh1, "):
        data.entry("xyzzy")
    with pytest.raises(ValueError, match="'ordinal' is embedded"):
        data.entry("ordinal")


# --- sets without a known hash ----------------------------------------------------------------


@pytest.mark.usefixtures("unverified")
def test_an_unverified_set_is_held_to_what_it_was_at_first(tmp_path: Path) -> None:
    """The first use is remembered in the cache, and a later change is refused."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "hashes.json").write_text('{"other": "1"}')
    path = write(table(), tmp_path / "tiny.csv")
    first = load("tiny", [tmp_path], cache=cache)
    assert not first.verified
    assert json.loads((cache / "hashes.json").read_text()) == {"other": "1", "tiny": first.hash}
    assert load("tiny", [tmp_path], cache=cache).hash == first.hash
    frame = table()
    change_value(frame)
    write(frame, path)
    with pytest.raises(ValueError, match=first.hash):
        load("tiny", [tmp_path], cache=cache)


@pytest.mark.usefixtures("unverified")
def test_an_unverified_set_must_still_have_its_shape_and_no_holes(tmp_path: Path) -> None:
    """Without a hash, the shape and the values being numbers is what can be checked."""
    write(table().drop(columns="load"), tmp_path / "tiny.csv")
    with pytest.raises(ValueError, match="40 rows x 2 channels, got 40 x 1"):
        load("tiny", [tmp_path])
    frame = table()
    frame.loc[4, "load"] = np.nan
    write(frame, tmp_path / "tiny.csv")
    with pytest.raises(ValueError, match="row 5, column 'load': the value is missing"):
        load("tiny", [tmp_path])


@pytest.mark.usefixtures("unverified")
def test_a_damaged_memory_is_named(tmp_path: Path) -> None:
    """A broken hashes.json is neither trusted nor thrown away in silence."""
    write(table(), tmp_path / "tiny.csv")
    (tmp_path / "hashes.json").write_text("{")
    with pytest.raises(ValueError, match=r"hashes\.json is damaged.*delete it"):
        load("tiny", [tmp_path], cache=tmp_path)


def test_a_text_file_without_stamps_gets_them_from_the_catalogue(
    unverified: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The LSTNet form: bare numbers; a set with no start in the catalogue is refused in it."""
    table().iloc[:, 1:].to_csv(tmp_path / "tiny.txt.gz", header=False, index=False)
    with pytest.raises(ValueError, match="needed with its stamps"):
        load("tiny", [tmp_path])
    monkeypatch.setitem(data.CATALOGUE, "tiny", replace(unverified, start="2020-01-01"))
    series = load("tiny", [tmp_path])
    assert series.channels == ("0", "1")
    assert series.values.tobytes() == table().iloc[:, 1:].to_numpy().tobytes()


def test_a_repaired_set_differs_only_where_the_sentinels_were(
    unverified: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-9999 becomes the point on the line, in time, between its neighbours; all else stays."""
    frame = table()
    frame.loc[[10, 11], "load"] = -9999.0
    frame.loc[9:12, "date"] = pd.to_datetime(
        ["2020-01-01 09:00", "2020-01-01 10:00", "2020-01-01 11:30", "2020-01-01 12:00"]
    )
    write(frame, tmp_path / "tiny.parquet")
    clean = replace(unverified, name="clean", cleans="tiny")
    monkeypatch.setitem(data.CATALOGUE, "clean", clean)
    before, after = load("tiny", [tmp_path]), load("clean", [tmp_path])
    low, high = before.values[[9, 12], 0]
    expected = before.values.copy()
    expected[10:12, 0] = low + (high - low) * np.array([1 / 3, 2.5 / 3])
    np.testing.assert_allclose(after.values, expected, rtol=1e-14)
    assert after.hash != before.hash


# --- the catalogue ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("ETTh1", "ETTh2"), (8640, 2880, 2880)),
        (("ETTm1", "ETTm2"), (34560, 11520, 11520)),
        (("weather", "weather_clean"), (36887, 5270, 10539)),
        (("electricity",), (18412, 2632, 5260)),
        (("traffic",), (12280, 1756, 3508)),
        (("exchange_rate",), (5311, 760, 1517)),
        (("solar",), (36792, 5256, 10512)),
        (("national_illness",), (676, 97, 193)),
    ],
)
def test_borders_are_those_of_the_protocol(
    names: tuple[str, ...], parts: tuple[int, int, int]
) -> None:
    """From rows and rule they give the train, validation and test rows of the protocol."""
    for name in names:
        assert tuple(np.diff([0, *data.entry(name).borders])) == parts


@pytest.mark.parametrize("name", VERIFIED)
def test_real_sets_are_verified(name: str, data_folder: Path) -> None:
    """Every set with a known hash loads from the data folder and has its stated shape."""
    series, found = load(name, [data_folder]), data.entry(name)
    assert series.verified
    assert series.hash == found.hash
    assert series.values.shape == (found.rows, found.channels)
    assert series.borders == found.borders


def test_the_original_csv_of_etth1_equals_its_parquet(data_folder: Path, tmp_path: Path) -> None:
    """The original, byte for byte, has the value hash of the parquet copy."""
    original = next(data_folder.glob("**/ETTh1.csv"), None)
    if original is None:
        pytest.skip("the data folder has no ETTh1.csv")
    (tmp_path / "ETTh1.csv").write_bytes(original.read_bytes())
    assert load("ETTh1", [tmp_path]).hash == data.entry("ETTh1").hash


def test_weather_clean_repairs_81_values_of_the_training_part(data_folder: Path) -> None:
    """Only sentinels change, and all of them lie in the training part."""
    soiled, clean = (load(name, [data_folder]).values for name in ("weather", "weather_clean"))
    rows, _ = np.nonzero(soiled != clean)
    assert len(rows) == 81
    assert (soiled[soiled != clean] == -9999).all()
    assert clean.min() > -100
    assert rows.max() < data.entry("weather").borders[0]


# --- what comes out ---------------------------------------------------------------------------


def test_a_series_checks_itself() -> None:
    """Values, channels and borders that do not fit are refused at birth."""
    values = np.zeros((10, 2))
    Series("x", values, ("a", "b"), "h", 1, (6, 8, 10), "")
    with pytest.raises(ValueError, match=r"borders \(6, 6, 10\) do not cut 10 steps"):
        Series("x", values, ("a", "b"), "h", 1, (6, 6, 10), "")
    with pytest.raises(ValueError, match=r"values \[time, 1\] are needed"):
        Series("x", values, ("a",), "h", 1, (6, 8, 10), "")
