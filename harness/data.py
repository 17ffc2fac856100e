"""Data sets by name: find, verify, split.

:func:`load` knows three kinds: published sets, which are looked for in folders and compared with a
value hash; embedded sets, which need no file (planted series, and two that come with sktime); and
a user's own file, described by a :class:`Source`. Only :func:`fetch` uses the network.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import platformdirs
import requests
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

from harness import synthetic

Triple = tuple[int, int, int]
Progress = Callable[[int, int | None], None]

_TABLES = (".parquet", ".csv", ".csv.gz")  # with names and stamps
_FORMS = (*_TABLES, ".txt", ".txt.gz")  # text is bare numbers
_HASHES = "hashes.json"
_PASSING = (408, 429, 500, 502, 503, 504)  # answers of a server that may change its mind


@dataclass(frozen=True, eq=False)
class Series:
    """A data set in memory: float64 ``values`` [time, channel] in original units.

    ``borders`` are the ends, in time steps, of the training, validation and test parts; ``values``
    may go on after the last, and nothing there is ever used. ``season`` is in steps. ``hash`` is
    the value hash (that of own data covers the borders too, since no catalogue fixes them);
    ``verified`` is False for a published set whose true hash is not known. ``boundaries`` are the
    time steps at which a labelled segment starts: empty where there is none, None where nobody
    knows. ``episode``: the series is a chain of independent windows of that many steps, and no
    window may cross from one into the next. ``standardise`` is False for planted series, which are
    in standard units already.

    Raises:
        ValueError: values, channels and borders that do not fit each other.
    """

    name: str
    values: NDArray[np.float64]
    channels: tuple[str, ...]
    frequency: str
    season: int
    borders: Triple
    hash: str
    verified: bool = True
    boundaries: NDArray[np.int64] | None = None
    episode: int | None = None
    standardise: bool = True

    def __post_init__(self) -> None:
        shape, (train, valid, test) = self.values.shape, self.borders
        if self.values.dtype != np.float64 or shape[1:] != (len(self.channels),):
            raise ValueError(
                f"{self.name!r}: float64 values [time, {len(self.channels)}] are needed, "
                f"not {self.values.dtype} {list(shape)}"
            )
        if not 0 < train < valid < test <= shape[0]:
            raise ValueError(f"{self.name!r}: borders {self.borders} do not cut {shape[0]} steps")


@dataclass(frozen=True)
class Source:
    """A user's own file: csv, csv.gz or parquet with a column of stamps and one for each channel.

    ``frequency`` is one of pandas ("h", "15min", "MS"): every stamp must be one such step after
    the one before. ``season`` is in steps. ``split`` is the training, validation and test part, as
    three fractions of all rows or as three numbers of rows. ``columns`` picks channels; None takes
    all. ``missing`` = "interpolate" fills gaps linearly, each part from its own values only, so
    that nothing of a later part reaches an earlier one; a gap at the edge of a part takes the
    nearest value in it. Within a part, a filled value does know the value after its gap.

    Raises:
        ValueError: a field that cannot be.
    """

    path: Path
    frequency: str
    season: int
    split: tuple[float, ...] = (0.7, 0.1, 0.2)
    time: str = "date"
    missing: str = "refuse"
    columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _form(self.path.name, _TABLES)
        try:
            to_offset(self.frequency)
        except ValueError as error:
            raise ValueError(
                f"frequency is {self.frequency!r}; 'h', '15min' or 'D', say"
            ) from error
        if not isinstance(self.season, int) or self.season < 1:
            raise ValueError(f"season is {self.season!r}; a whole number of steps is needed")
        whole = all(isinstance(part, int) for part in self.split)
        if len(self.split) != 3 or min(self.split) <= 0 or not (whole or _is_one(sum(self.split))):
            raise ValueError(
                f"split is {self.split}; three numbers of rows, or three fractions that sum to 1"
            )
        if self.missing not in ("refuse", "interpolate"):
            raise ValueError(f"missing is {self.missing!r}; allowed: refuse, interpolate")
        if self.columns is not None and (
            not self.columns or len({self.time, *self.columns}) <= len(self.columns)
        ):
            raise ValueError(f"columns are {self.columns}; different ones, without {self.time!r}")


@dataclass(frozen=True)
class Entry:
    """A published data set.

    ``stems`` are the file names, without suffix, that it goes by. ``urls`` are tried in order;
    ``megabytes`` is what the first one sends. ``season`` is in steps. ``hash`` is the value hash
    of a verified copy, or None where there was no copy to hash. ``months`` is the split in months
    of 30 days (of a set with a season of a day), or None for 7:1:2. ``start`` is the first stamp
    of a text file without stamps. ``cleans`` names the set that this one is a repair of.
    """

    name: str
    stems: tuple[str, ...]
    urls: tuple[str, ...]
    megabytes: float
    frequency: str
    season: int
    rows: int
    channels: int
    hash: str | None
    months: Triple | None = None
    start: str | None = None
    cleans: str | None = None

    @property
    def borders(self) -> Triple:
        """Where the training, validation and test parts end, in time steps."""
        if self.months is None:
            return _shares(self.rows, (0.7, 0.1, 0.2))
        train, valid, test = (30 * self.season * months for months in self.months)
        return train, train + valid, train + valid + test


def known() -> list[str]:
    """The names of all data sets that :func:`load` can give without a :class:`Source`."""
    return [*CATALOGUE, *embedded()]


def embedded() -> list[str]:
    """The names of the data sets that need no file."""
    return [*synthetic.families(), *_BUNDLED]


def entry(name: str) -> Entry:
    """The catalogue's entry of a published data set.

    Raises:
        ValueError: a name that is not in the catalogue.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    if name in embedded():
        raise ValueError(f"data set {name!r} is embedded: it has no file and needs none")
    raise ValueError(
        f"unknown data set {name!r}{_near(name, known())}; known: {', '.join(known())}"
    )


def user_cache() -> Path:
    """Where downloads go unless the user says otherwise."""
    return platformdirs.user_cache_path("patchbench")


def load(
    name: str,
    directories: Sequence[Path],
    source: Source | None = None,
    *,
    cache: Path | None = None,
) -> Series:
    """The data set ``name``, verified, from the first of ``directories``, ``cache`` that has it.

    A directory may be flat or hold one level of sub-folders. ``cache`` also remembers the value
    hash of a set whose true one is not known, so that it cannot change unnoticed from then on.

    Raises:
        FileNotFoundError: the set is in none of the folders; the message says what to type.
        ValueError: an unknown name, or a file that is not what it should be.
    """
    if source is not None:
        return _own(name, source)
    if name in synthetic.families():
        return _planted(name)
    if name in _BUNDLED:
        return _bundled(name)
    found = entry(name)
    folders = _folders(directories, cache)
    path = _locate(found, folders)
    if path is None:
        raise FileNotFoundError(explain_missing([found], folders))
    return _published(found, path, _form(path.name), cache)


def missing(
    names: Iterable[str], directories: Sequence[Path], *, cache: Path | None = None
) -> list[Entry]:
    """The published sets among ``names`` that are in none of the folders."""
    folders = _folders(directories, cache)
    published = [entry(name) for name in names if name not in embedded()]
    return [found for found in published if _locate(found, folders) is None]


def explain_missing(entries: Sequence[Entry], folders: Sequence[Path]) -> str:
    """What is not here, where it was looked for, how large it is, and what to type."""
    sets = ", ".join(f"{found.name} ({found.megabytes:g} MB)" for found in entries)
    looked = ", ".join(f"{at}{'' if at.is_dir() else ' (no such folder)'}" for at in folders)
    return (
        f"not here: {sets}\n"
        f"looked in: {looked or 'no folder was given'}\n"
        f"type `make data DATASETS={','.join(found.name for found in entries)}` to download, "
        f"or set PATCHBENCH_DATA to a folder that holds them"
    )


def value_hash(
    names: Sequence[str], stamps: NDArray[np.int64], values: NDArray[np.float64]
) -> str:
    """The identity of a table's content, whatever file it came in.

    sha256, in hexadecimal, over these bytes in this order: rows and columns as two little-endian
    int64; the column names, each in ASCII and followed by a zero byte; the stamps [time] as
    little-endian int64 microseconds since 1970 (sample numbers where there is no clock); the
    values [time, channel] as little-endian float64, row after row, minus zero as zero. Characters
    outside ASCII are dropped from the names before, because public copies of weather have lost the
    superscripts and micro signs of theirs in several ways.
    """
    digest = hashlib.sha256(np.array(values.shape, dtype="<i8").tobytes())
    for name in names:
        digest.update(name.encode("ascii", "ignore") + b"\0")
    digest.update(stamps.astype("<i8").tobytes())
    digest.update((values + 0.0).astype("<f8").tobytes())
    return digest.hexdigest()


# --- published sets ---------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Table:
    """What a file holds: ``stamps`` [time] in microseconds, ``values`` [time, channel]."""

    names: tuple[str, ...]
    stamps: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def hash(self) -> str:
        return value_hash(self.names, self.stamps, self.values)


def _folders(directories: Sequence[Path], cache: Path | None) -> list[Path]:
    return [*directories] if cache is None or cache in directories else [*directories, cache]


def _locate(found: Entry, folders: Sequence[Path]) -> Path | None:
    for folder in folders:
        for place in (folder, *sorted(folder.glob("*/"))):
            for stem in found.stems:
                for form in _FORMS:
                    if (path := place / f"{stem}{form}").is_file():
                        return path
    return None


def _published(found: Entry, path: Path, form: str, cache: Path | None) -> Series:
    """Read and verify. ``form`` is the suffix that counts: a partial download has another one."""
    if found.cleans is None:
        table = _table(path, form, found)
        expected = found.hash or _remembered(found.name, cache)
    else:
        soiled = entry(found.cleans)
        table = _table(path, form, soiled)
        _compare(soiled.name, path, soiled.hash, table.hash)
        table = replace(table, values=_without_sentinels(table))
        expected = found.hash
    digest = table.hash
    _compare(found.name, path, expected, digest)
    if expected is None and cache is not None:
        _remember(found.name, digest, cache)
    return Series(
        name=found.name,
        values=table.values,
        channels=table.names,
        frequency=found.frequency,
        season=found.season,
        borders=found.borders,
        hash=digest,
        verified=found.hash is not None,
    )


def _table(path: Path, form: str, found: Entry) -> _Table:
    frame = _frame(path, form)
    if form.startswith(".txt"):
        if found.start is None:
            raise ValueError(f"{path}: {found.name} is needed with its stamps, as csv or parquet")
        clock = pd.date_range(found.start, periods=len(frame), freq=found.frequency)
        frame.columns = pd.Index([str(column) for column in frame.columns])
        frame.insert(0, "date", clock)
    _require(path, "date", frame)
    channels = [column for column in frame.columns if column != "date"]
    if (len(frame), len(channels)) != (found.rows, found.channels):
        raise ValueError(
            f"{path} is not {found.name}: expected {found.rows} rows x {found.channels} channels, "
            f"got {len(frame)} x {len(channels)}"
        )
    values = _numbers(path, frame, channels)
    _finite(path, values, channels)
    return _Table(tuple(channels), _stamps(path, frame["date"]), values)


def _compare(name: str, path: Path, expected: str | None, got: str) -> None:
    if expected is not None and got != expected:
        raise ValueError(
            f"{path} is not {name}: some value, stamp or column name differs "
            f"(value hash expected {expected}, got {got})"
        )


def _without_sentinels(table: _Table) -> NDArray[np.float64]:
    """Every -9999 replaced by the line, in time, between the nearest good values of its channel.

    The sentinels of weather all lie deep in its training part, so nothing later is drawn on.
    """
    values = table.values.copy()
    for channel in values.T:
        bad = channel == -9999
        channel[bad] = np.interp(table.stamps[bad], table.stamps[~bad], channel[~bad])
    return values


def _remembered(name: str, cache: Path | None) -> str | None:
    if cache is None or not (path := cache / _HASHES).exists():
        return None
    try:
        digest = json.loads(path.read_text()).get(name)
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to start it anew") from error
    return None if digest is None else str(digest)


def _remember(name: str, digest: str, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / _HASHES
    with _locked(path):
        hashes = json.loads(path.read_text()) if path.exists() else {}
        part = path.with_suffix(".part")
        part.write_text(json.dumps({name: digest} | hashes, indent=2, sort_keys=True) + "\n")
        part.replace(path)


# --- files ------------------------------------------------------------------------------------


def _form(file: str, allowed: tuple[str, ...] = _FORMS) -> str:
    for form in allowed:
        if file.endswith(form):
            return form
    raise ValueError(f"{file!r} is no file that can be read; allowed: {', '.join(allowed)}")


def _frame(path: Path, form: str) -> pd.DataFrame:
    try:
        if form == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(
            path,
            header=None if form.startswith(".txt") else "infer",
            compression="gzip" if form.endswith(".gz") else None,
            float_precision="round_trip",  # the same digits as a parquet copy, to the last bit
            low_memory=False,  # one type per column, not one per chunk of it
            encoding="utf-8-sig",
            encoding_errors="replace",
        )
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as {form[1:]}: {error}") from error


def _require(path: Path, column: str, frame: pd.DataFrame) -> None:
    if column not in frame.columns:
        names = [str(name) for name in frame.columns]
        shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        raise ValueError(f"{path} has no column {column!r}{_near(column, names)}; it has {shown}")


def _numbers(path: Path, frame: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    return np.column_stack([_number(path, frame[column]) for column in columns])


def _number(path: Path, column: pd.Series[float]) -> NDArray[np.float64]:
    if not pd.api.types.is_numeric_dtype(column):
        numbers = pd.to_numeric(column.astype("string"), errors="coerce")
        if len(bad := np.flatnonzero(numbers.isna() & column.notna())):
            cell = column.iloc[bad[0]]
            raise ValueError(
                f"{_cell(path, int(bad[0]), column.name)}: {str(cell)!r} is not a number"
            )
        column = numbers
    return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)


def _stamps(path: Path, column: pd.Series[pd.Timestamp]) -> NDArray[np.int64]:
    """Microseconds since 1970; stamps with a zone are counted in UTC."""
    if pd.api.types.is_numeric_dtype(column):
        raise ValueError(f"{path}: column {column.name!r} holds numbers, where stamps are needed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a format it must guess cell by cell
        stamps = pd.DatetimeIndex(pd.to_datetime(column, errors="coerce", utc=True))
    if len(bad := np.flatnonzero(stamps.isna())):
        cell = str(column.iloc[bad[0]])
        raise ValueError(f"{_cell(path, int(bad[0]), column.name)}: {cell!r} is not a stamp")
    return stamps.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64)


def _finite(path: Path, values: NDArray[np.float64], names: Sequence[str], hint: str = "") -> None:
    rows, columns = np.nonzero(~np.isfinite(values))
    if len(rows):
        row, column = int(rows[0]), int(columns[0])
        gap = np.isnan(values[row, column])
        raise ValueError(
            f"{_cell(path, row, names[column])}: the value is {'missing' if gap else 'infinite'}, "
            f"the first of {len(rows)} such cells{hint if gap else ''}"
        )


def _cell(path: Path, row: int, column: object) -> str:
    """The place of a cell; the first row of data is row 1."""
    return f"{path}, row {row + 1}, column {column!r}"


def _near(word: str, words: Iterable[str]) -> str:
    near = get_close_matches(word, words, 1)
    return f"; did you mean {near[0]!r}?" if near else ""


# --- own files --------------------------------------------------------------------------------


def _own(name: str, source: Source) -> Series:
    if name in known():
        raise ValueError(f"an own data set cannot be called {name!r}: a known one is")
    path = source.path
    if not path.is_file():
        raise FileNotFoundError(f"data set {name!r}: there is no file {path}")
    form = _form(path.name)
    frame = _frame(path, form)
    for column in (source.time, *(source.columns or ())):
        _require(path, column, frame)
    if frame.empty:
        raise ValueError(f"{path} has no rows")
    channels = tuple(source.columns or (str(c) for c in frame.columns if c != source.time))
    if not channels:
        raise ValueError(f"{path} has no column beside {source.time!r}")
    stamps = _stamps(path, frame[source.time])
    _regular(source, stamps)
    values = _numbers(path, frame, channels)
    borders = _own_borders(source, len(values))
    if source.missing == "interpolate":
        values = _filled(path, values, borders, channels)
    _finite(path, values[: borders[2]], channels, '; missing = "interpolate" fills gaps')
    for channel, train in zip(channels, values[: borders[0]].T, strict=True):
        if np.ptp(train) == 0:
            raise ValueError(
                f"{path}, column {channel!r}: the training part (rows 1 to {borders[0]}) is "
                f"{train[0]} throughout and has no scale; leave the column out"
            )
    content = value_hash(channels, stamps, values)
    return Series(
        name=name,
        values=values,
        channels=channels,
        frequency=source.frequency,
        season=source.season,
        borders=borders,
        hash=hashlib.sha256(f"{content} {borders}".encode()).hexdigest(),
    )


def _regular(source: Source, stamps: NDArray[np.int64]) -> None:
    clock = pd.DatetimeIndex(stamps.astype("datetime64[us]"))
    steps = np.diff(stamps)
    for bad, what in ((steps < 0, "is earlier than"), (steps == 0, "is the same as")):
        if len(rows := np.flatnonzero(bad)):
            at = int(rows[0]) + 1
            raise ValueError(
                f"{_cell(source.path, at, source.time)}: {clock[at]} {what} the stamp before it"
            )
    due = pd.date_range(clock[0], periods=len(clock), freq=source.frequency, unit="us")
    if len(rows := np.flatnonzero(clock != due)):
        at = int(rows[0])
        raise ValueError(
            f"{_cell(source.path, at, source.time)}: {clock[at]} does not keep the frequency "
            f"{source.frequency!r}, by which {due[at]} is due"
        )


def _own_borders(source: Source, rows: int) -> Triple:
    train, valid, test = source.split
    if isinstance(train, int) and isinstance(valid, int) and isinstance(test, int):
        ends = train, train + valid, train + valid + test
        if ends[2] > rows:
            raise ValueError(
                f"{source.path} has {rows} rows; the split {source.split} needs {ends[2]}"
            )
        return ends
    ends = _shares(rows, source.split)
    if not 0 < ends[0] < ends[1] < ends[2]:
        raise ValueError(
            f"{source.path} has {rows} rows; split {source.split} leaves a part empty"
        )
    return ends


def _filled(
    path: Path, values: NDArray[np.float64], borders: Triple, names: Sequence[str]
) -> NDArray[np.float64]:
    values = values.copy()
    for part in np.split(values, borders)[:3]:
        steps = np.arange(len(part))
        for name, channel in zip(names, part.T, strict=True):
            gap = np.isnan(channel)
            if gap.all():
                raise ValueError(f"{path}, column {name!r}: a whole part of the split is missing")
            channel[gap] = np.interp(steps[gap], steps[~gap], channel[~gap])
    return values


def _shares(rows: int, fractions: tuple[float, ...]) -> Triple:
    """The ends of the parts: train and test are rounded down, validation takes the rest."""
    return int(fractions[0] * rows), rows - int(fractions[2] * rows), rows


def _is_one(total: float) -> bool:
    return abs(total - 1) < 1e-9


# --- embedded sets ----------------------------------------------------------------------------


def _planted(family: str) -> Series:
    """Independent windows end to end: train, then valid, then test."""
    planted = synthetic.plant(family)
    values = planted.values.reshape(-1, 1)
    window, step = np.nonzero(planted.boundaries)
    train, valid, test = (synthetic.WINDOW * int(ends) for ends in np.cumsum(synthetic.WINDOWS))
    return Series(
        name=family,
        values=values,
        channels=("value",),
        frequency="h",
        season=1,  # no family has a period that all its windows share
        borders=(train, valid, test),
        hash=value_hash(("value",), np.arange(len(values)), values),
        boundaries=window * synthetic.WINDOW + step,
        episode=synthetic.WINDOW,
        standardise=False,
    )


@dataclass(frozen=True)
class _Bundle:
    """A series without a clock in a file that sktime ships."""

    file: str
    header: int | None
    column: int
    channel: str
    season: int
    boundaries: tuple[int, ...]
    hash: str


def _bundled(name: str) -> Series:
    """Read from sktime's folder without importing sktime, which takes seconds."""
    bundle = _BUNDLED[name]
    package = find_spec("sktime")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError(f"data set {name!r} comes with sktime, which is not installed")
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / bundle.file
    if not path.is_file():
        raise FileNotFoundError(
            f"data set {name!r} comes with sktime, which has no {path} any more"
        )
    frame = pd.read_csv(path, header=bundle.header, float_precision="round_trip")
    values = frame.iloc[:, [bundle.column]].to_numpy(np.float64)
    digest = value_hash((bundle.channel,), np.arange(len(values)), values)
    _compare(name, path, bundle.hash, digest)
    return Series(
        name=name,
        values=values,
        channels=(bundle.channel,),
        frequency="step",
        season=bundle.season,
        borders=_shares(len(values), (0.7, 0.1, 0.2)),
        hash=digest,
        boundaries=np.array(bundle.boundaries, dtype=np.int64),
    )


# --- download ---------------------------------------------------------------------------------


def fetch(
    name: str,
    cache: Path,
    *,
    progress: Progress,
    urls: Sequence[str] | None = None,
    retries: int = 4,
    pause: float = 1.0,
    timeout: float = 30.0,
) -> Path:
    """Put a published set into ``cache`` and return its path, at once if a sound copy is there.

    It arrives in a partial file, is verified there, and only then gets its name. A partial file of
    an earlier try is continued. Two processes that want the same set do not download it twice.
    ``progress`` is called with the bytes here and the bytes in all, None if the server does not
    say. Each url gets ``retries`` tries, ``pause``, 2 ``pause``, 4 ``pause`` ... seconds apart; a
    silence of ``timeout`` seconds ends a try.

    Raises:
        ConnectionError: no url gave the set; the message has the reason for each.
        ValueError: an unknown name.
    """
    found = entry(name)
    cache.mkdir(parents=True, exist_ok=True)
    _remembered(found.name, cache)  # if that is damaged, no copy is to blame
    with _locked(cache / found.stems[0]):
        there = _locate(found, [cache])
        if there is not None:
            if _is_sound(found, there, _form(there.name), cache):
                return there
            there.unlink()
        failures = []
        for url in found.urls if urls is None else urls:
            form = _form(url)
            part = cache / f".{found.stems[0]}{form}.part"
            try:
                continued = part.exists()
                _receive(url, part, progress, retries, pause, timeout)
                if continued and not _is_sound(found, part, form, cache):
                    part.unlink()  # the earlier try was of other content
                    _receive(url, part, progress, retries, pause, timeout)
                _published(found, part, form, cache)
            except ValueError as error:
                part.unlink(missing_ok=True)
                failures.append(f"{url}: {error}")
            except OSError as error:
                failures.append(f"{url}: {error}")
            else:
                return part.replace(cache / f"{found.stems[0]}{form}")
        raise ConnectionError(f"data set {found.name!r} did not arrive\n" + "\n".join(failures))


def _is_sound(found: Entry, path: Path, form: str, cache: Path) -> bool:
    try:
        _published(found, path, form, cache)
    except ValueError:
        return False
    return True


def _receive(
    url: str, part: Path, progress: Progress, retries: int, pause: float, timeout: float
) -> None:
    for attempt in range(1, retries + 1):
        try:
            _receive_rest(url, part, progress, timeout)
        except OSError as error:
            if attempt == retries or (
                isinstance(error, requests.HTTPError)
                and error.response.status_code not in _PASSING
            ):
                raise
            time.sleep(pause * 2 ** (attempt - 1))
        else:
            return


def _receive_rest(url: str, part: Path, progress: Progress, timeout: float) -> None:
    """Append what ``part`` lacks, or write it anew where the server cannot continue."""
    done = part.stat().st_size if part.exists() else 0
    # Unpacked on the way, a file would have another length than the one the server says.
    headers = {"Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # it is as long as the whole, or longer
            return _receive_rest(url, part, progress, timeout)
        answer.raise_for_status()
        if answer.status_code != requests.codes.partial_content:
            done = 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        try:
            with part.open("ab" if done else "wb") as file:
                for block in answer.iter_content(1 << 14):
                    file.write(block)
                    done += len(block)
                    progress(done, total)
        except requests.RequestException as error:
            raise ConnectionError(f"broke off after {done} of {total or '?'} bytes") from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; the lock of a process that dies is released by the system."""
    with path.with_name(f".{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- the catalogue ----------------------------------------------------------------------------

_GITHUB = "https://raw.githubusercontent.com"
_ETT = f"{_GITHUB}/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small"
_HICR = f"{_GITHUB}/ljnvs/HiCR-Mamba/d472c100956ed4373e9ca3700481ce88f8f1e4dd/datasets"
_JUNWOO = (
    f"{_GITHUB}/junwoopark92/Self-Supervised-Contrastive-Forecsating"
    "/f394705adbf5217811276f5e59576c6e7ea7586c/dataset"
)
_THUML = (
    "https://huggingface.co/datasets/thuml/Time-Series-Library/resolve"
    "/2b66e59ee19dac8f6f19fb5d4997f289fdfea357"
)
_LSTNET = f"{_GITHUB}/laiguokun/multivariate-time-series-data/master"

# Seasons are the shortest natural cycle: a day, and a year for weekly data. Exchange rates have
# none; 7 is the week of the benchmark's unbroken daily index.
_WEATHER = Entry(
    name="weather",
    stems=("weather",),
    urls=(f"{_HICR}/weather/weather.csv.gz", f"{_THUML}/weather/weather.csv"),
    megabytes=2.3,
    frequency="10min",
    season=144,
    rows=52_696,
    channels=21,
    hash="3fbc8c01bb2daf04c8356d0ae0174f29ecdea83e3446fd520e9240cfa11512de",
)

CATALOGUE: dict[str, Entry] = {
    found.name: found
    for found in (
        *(
            Entry(
                name=name,
                stems=(name,),
                urls=(f"{_ETT}/{name}.csv", f"{_THUML}/ETT-small/{name}.csv"),
                megabytes=megabytes,
                frequency=frequency,
                season=season,
                rows=rows,
                channels=7,
                hash=digest,
                months=(12, 4, 4),
            )
            for name, megabytes, frequency, season, rows, digest in (
                (
                    "ETTh1",
                    2.6,
                    "h",
                    24,
                    17_420,
                    "80cec9568b40defa515808d8a9c40c52f59720b4fd4dadaf278f0ac400bed491",
                ),
                (
                    "ETTh2",
                    2.4,
                    "h",
                    24,
                    17_420,
                    "6c32dd408becced695de495ce2bf7a8d3c1154789897b17bf6e47e895510a674",
                ),
                (
                    "ETTm1",
                    10.4,
                    "15min",
                    96,
                    69_680,
                    "9b2fb449c873c640930dcae5b6729788b9d94129498399f3d6a820637d1e0e3d",
                ),
                (
                    "ETTm2",
                    9.7,
                    "15min",
                    96,
                    69_680,
                    "0a2f4b881a657214f29d7481a855f4dd283e95d97b8fa9e044a4ce3152df1107",
                ),
            )
        ),
        _WEATHER,
        replace(
            _WEATHER,
            name="weather_clean",
            hash="0cd333370e572ffccc35f8a2ba407c1aafbd53d70dc49b9a0a2c0cac155af36f",
            cleans="weather",
        ),
        Entry(
            name="exchange_rate",
            stems=("exchange_rate",),
            urls=(
                f"{_JUNWOO}/exchange_rate/exchange_rate.csv",
                f"{_THUML}/exchange_rate/exchange_rate.csv",
            ),
            megabytes=0.63,
            frequency="D",
            season=7,
            rows=7_588,
            channels=8,
            hash="4d6a7b7110aba9dea83dd49cc7f8a89bc9329da361bc8f140d47d8326671ff33",
        ),
        Entry(
            name="national_illness",
            stems=("national_illness",),
            urls=(
                f"{_JUNWOO}/illness/national_illness.csv",
                f"{_THUML}/illness/national_illness.csv",
            ),
            megabytes=0.067,
            frequency="W-TUE",
            season=52,
            rows=966,
            channels=7,
            hash="65ad277fb73f2d4d231df3bafde388571b024d628f6c74a1a47de6f0fad22bcc",
        ),
        # Unverified upstream: no copy could be hashed. The addresses are those the field uses.
        Entry(
            name="electricity",
            stems=("electricity",),
            urls=(f"{_THUML}/electricity/electricity.csv",),
            megabytes=96,
            frequency="h",
            season=24,
            rows=26_304,
            channels=321,
            hash=None,
        ),
        Entry(
            name="traffic",
            stems=("traffic",),
            urls=(f"{_THUML}/traffic/traffic.csv",),
            megabytes=136,
            frequency="h",
            season=24,
            rows=17_544,
            channels=862,
            hash=None,
        ),
        Entry(
            name="solar",
            stems=("solar_AL", "solar"),
            urls=(f"{_LSTNET}/solar-energy/solar_AL.txt.gz",),
            megabytes=8.5,
            frequency="10min",
            season=144,
            rows=52_560,
            channels=137,
            hash=None,
            start="2006-01-01 00:00",
        ),
    )
}

_BUNDLED: dict[str, _Bundle] = {
    # Power of household devices; the period and the change points are sktime's annotation.
    "electric_devices": _Bundle(
        file="segmentation/ElectricDevices.csv",
        header=None,
        column=1,
        channel="power",
        season=10,
        boundaries=(1090, 4436, 5712, 7923),
        hash="01a62ef3afa8aa1ff2394e57e6651b6d922a51108a875d134b61b42f5ebb497d",
    ),
    # An electrocardiogram with one abnormal stretch; 300 steps, a heart beat, is where the
    # autocorrelation of the training part peaks.
    "mitdb": _Bundle(
        file="mitdb/mitdb.csv",
        header=0,
        column=0,
        channel="ecg",
        season=300,
        boundaries=(6936, 7288),
        hash="e0b0f81fc917a5b13ca47a1a219454c5c68e2a59fff3cda53bfd474002d7248d",
    ),
}
