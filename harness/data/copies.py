"""Copies of published sets: found in folders, read, and compared with what they should be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.core.files import locked
from harness.core.source import FORMS
from harness.data.published import CATALOGUE, Entry
from harness.data.series import Series, compare, value_hash

_HASHES = "hashes.json"


def find(entry: Entry, folders: Sequence[Path]) -> Path | None:
    """The first copy in folders that are flat or hold one level of sub-folders."""
    return first(folders, [f"{stem}{form}" for stem in entry.stems for form in FORMS])


def first(folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    """The first file of one of these names, in the folders or one level below."""
    places = (place for folder in folders for place in (folder, *sorted(folder.glob("*/"))))
    files = (place / name for place in places for name in names)
    return next(filter(Path.is_file, files), None)


def read(entry: Entry, path: Path, form: str, cache: Path | None) -> Series:
    """Read and verify. ``form`` is the suffix that counts: a partial download has another one.

    The value hash of a set whose true one is not known is remembered in ``cache``, so that it
    cannot change unnoticed from then on.

    Raises:
        ValueError: the file is not the set; says what was expected and what was found.
    """
    if entry.cleans is None:
        table = _table(path, form, entry)
        expected = entry.hash or remembered(entry.name, cache)
    else:
        soiled = CATALOGUE[entry.cleans]
        table = _table(path, form, soiled)
        compare(soiled.name, path, soiled.hash, table.hash)
        table = replace(table, values=_without_sentinels(table))
        expected = entry.hash
    digest = table.hash
    compare(entry.name, path, expected, digest)
    if expected is None and cache is not None:
        _remember(entry.name, digest, cache)
    return Series(
        name=entry.name,
        values=table.values,
        channels=table.names,
        frequency=entry.frequency,
        season=entry.season,
        borders=entry.borders,
        hash=digest,
        verified=entry.hash is not None,
    )


@dataclass(frozen=True, eq=False)
class _Table:
    """What a file holds: ``stamps`` [time] in microseconds, ``values`` [time, channel]."""

    names: tuple[str, ...]
    stamps: NDArray[np.int64]
    values: NDArray[np.float64]

    @property
    def hash(self) -> str:
        return value_hash(self.names, self.stamps, self.values)


def _table(path: Path, form: str, entry: Entry) -> _Table:
    import pandas as pd  # here, as in `sets.load`

    from harness.data import tables

    frame = tables.read(path, form)
    if form.startswith(".txt"):
        if entry.start is None:
            raise ValueError(f"{path}: {entry.name} is needed with its stamps, as csv or parquet")
        clock = pd.date_range(entry.start, periods=len(frame), freq=entry.frequency)
        frame.columns = pd.Index([str(column) for column in frame.columns])
        frame.insert(0, "date", clock)
    tables.require_column(path, "date", frame)
    channels = [column for column in frame.columns if column != "date"]
    if (len(frame), len(channels)) != (entry.rows, entry.channels):
        raise ValueError(
            f"{path} is not {entry.name}: expected {entry.rows} rows x {entry.channels} channels, "
            f"got {len(frame)} x {len(channels)}"
        )
    values = tables.numbers(path, frame, channels)
    tables.require_finite(path, values, channels)
    return _Table(tuple(channels), tables.stamps(path, frame["date"]), values)


def _without_sentinels(table: _Table) -> NDArray[np.float64]:
    """Every -9999 replaced by the line, in time, between the nearest good values of its channel.

    The sentinels of weather all lie deep in its training part, so nothing later is drawn on.
    """
    values = table.values.copy()
    for channel in values.T:
        bad = channel == -9999
        channel[bad] = np.interp(table.stamps[bad], table.stamps[~bad], channel[~bad])
    return values


def remembered(name: str, cache: Path | None) -> str | None:
    """The value hash that the set had when it was first seen here.

    Raises:
        ValueError: the memory is damaged.
    """
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
    with locked(path):
        hashes = json.loads(path.read_text()) if path.exists() else {}
        part = path.with_suffix(".part")
        part.write_text(json.dumps({name: digest} | hashes, indent=2, sort_keys=True) + "\n")
        part.replace(path)
