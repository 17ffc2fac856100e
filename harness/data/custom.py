"""A user's own file: described by a :class:`Source`, checked cell by cell, filled if asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.core.source import Source, form_of
from harness.data import tables
from harness.data.series import Series, Triple, shares, value_hash


def load(name: str, source: Source) -> Series:
    """Read, check and split the file.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is not what its description says; names row and column.
    """
    path = source.path
    if not path.is_file():
        raise FileNotFoundError(f"data set {name!r}: there is no file {path}")
    frame = tables.read(path, form_of(path.name))
    for column in (source.time, *(source.columns or ())):
        tables.require_column(path, column, frame)
    if frame.empty:
        raise ValueError(f"{path} has no rows")
    channels = tuple(source.columns or (str(c) for c in frame.columns if c != source.time))
    if not channels:
        raise ValueError(f"{path} has no column beside {source.time!r}")
    stamps = tables.stamps(path, frame[source.time])
    _regular(source, stamps)
    values = tables.numbers(path, frame, channels)
    borders = _borders(source, len(values))
    if source.missing == "interpolate":
        values = _filled(path, values, borders, channels)
    tables.require_finite(
        path, values[: borders[2]], channels, '; missing = "interpolate" fills gaps'
    )
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
            where = tables.place(source.path, at, source.time)
            raise ValueError(f"{where}: {clock[at]} {what} the stamp before it")
    due = pd.date_range(clock[0], periods=len(clock), freq=source.frequency, unit="us")
    if len(rows := np.flatnonzero(clock != due)):
        at = int(rows[0])
        where = tables.place(source.path, at, source.time)
        raise ValueError(
            f"{where}: {clock[at]} does not keep the frequency {source.frequency!r}, "
            f"by which {due[at]} is due"
        )


def _borders(source: Source, rows: int) -> Triple:
    train, valid, test = source.split
    if isinstance(train, int) and isinstance(valid, int) and isinstance(test, int):
        ends = train, train + valid, train + valid + test
        if ends[2] > rows:
            raise ValueError(
                f"{source.path} has {rows} rows; the split {source.split} needs {ends[2]}"
            )
        return ends
    ends = shares(rows, source.split)
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
