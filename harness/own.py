"""A user's own file: described by a :class:`Source`, checked cell by cell, filled if asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

from harness import tables
from harness.series import Series, Triple, shares, value_hash


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
        tables.form_of(self.path.name, tables.STAMPED)
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


def load(name: str, source: Source) -> Series:
    """Read, check and split the file.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is not what its description says; names row and column.
    """
    path = source.path
    if not path.is_file():
        raise FileNotFoundError(f"data set {name!r}: there is no file {path}")
    frame = tables.read(path, tables.form_of(path.name))
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


def _is_one(total: float) -> bool:
    return abs(total - 1) < 1e-9
