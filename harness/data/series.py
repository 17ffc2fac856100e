"""A data set in memory, and the hash that says which one it is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.task import Task

Triple = tuple[int, int, int]
PARTS = ("training", "validation", "test")


@dataclass(frozen=True, eq=False)
class Series:
    """A data set in memory: float64 ``values`` [time, channel] in original units.

    ``borders`` are the ends, in time steps, of the training, validation and test parts; ``values``
    may go on after the last, and nothing there is ever used. ``season`` is in steps. ``hash`` is
    the value hash (that of own data covers the borders too, since no catalogue fixes them);
    ``verified`` is False for a published set whose true hash is not known. ``boundaries`` are the
    time steps at which a labelled segment starts: empty where there is none, None where nobody
    knows. ``margin`` are the steps by which a label that people set may be off; None where there
    are no such labels. ``episode``: the series is a chain of independent windows of that many
    steps, and no window may cross from one into the next. ``joins`` are the steps at which
    independent series, put end to end, begin, 0 and the borders among them; None of a single
    recording. No window may hold one inside. ``standardise`` is False for planted series, which
    are in standard units already.

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
    margin: int | None = None
    episode: int | None = None
    joins: tuple[int, ...] | None = None
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
        if self.joins is not None and not {0, train, valid} <= {*self.joins}:
            raise ValueError(f"{self.name!r}: a series goes on across one of its borders")

    @property
    def outline(self) -> Outline:
        """What is known of it without its values."""
        return Outline(self.name, self.borders, len(self.channels), self.episode, joins=self.joins)

    @property
    def breaks(self) -> NDArray[np.int64]:
        """The steps that do not follow from the one before: joins, or the starts of episodes."""
        if self.episode is not None:
            return np.arange(0, len(self.values), self.episode)
        return np.array(self.joins or (), dtype=np.int64)

    @cached_property
    def warning(self) -> str:
        """What is suspicious in the training part, in words, or nothing: see :func:`outliers`."""
        if not self.standardise:
            return ""
        return outliers(self.values[: self.borders[0]], self.channels)


@dataclass(frozen=True)
class Outline:
    """What is known of a data set without its values: as in :class:`Series`, channels counted."""

    name: str
    borders: Triple
    channels: int
    episode: int | None = None
    joins: tuple[int, ...] | None = None

    def windows(self, look_back: int, horizon: int) -> Triple:
        """Windows of the training, validation and test parts, at stride 1; 0 where none fits."""
        train, valid, test = self.borders
        size = look_back + horizon
        if self.episode is not None:
            each = size if size == self.episode else test + 1  # no window of another size fits
            return train // each, (valid - train) // each, (test - valid) // each
        if self.joins is not None:
            starts = np.array(self.joins)
            fit = np.maximum(0, np.diff(starts, append=test) - size + 1)
            parts = np.searchsorted((train, valid), starts, side="right")
            first, second, third = np.bincount(parts, fit, minlength=3).astype(int).tolist()
            return first, second, third
        # Validation and test reach back over the border before them.
        return (
            max(0, train - size + 1),
            max(0, valid - train - horizon + 1),
            max(0, test - valid - horizon + 1),
        )

    def require_room(self, task: Task) -> None:
        """Refuse a task for which some part of the data has not one window."""
        lengths = f"look-back {task.look_back} + horizon {task.horizon}"
        size = task.look_back + task.horizon
        reach = task.look_back  # of windows whose targets are in the part
        if self.episode is not None:
            # Planted windows are independent: each one is an episode of exactly this size.
            if size != self.episode:
                raise ValueError(
                    f"{self.name} consists of windows of {self.episode} steps; {lengths} = {size}"
                )
            reach = 0
        train, valid, test = self.borders
        if self.joins is not None:
            for part, count in zip(PARTS, self.windows(task.look_back, task.horizon), strict=True):
                if not count:
                    raise ValueError(
                        f"no series in the {part} part of {self.name} is as long as {lengths}"
                        f" = {size} steps"
                    )
            reach = 0
        steps_of = (train, valid - train + reach, test - valid + reach)
        for part, steps in zip(PARTS, steps_of, strict=True):
            if steps < size:
                raise ValueError(
                    f"the {part} part of {self.name} has {steps} steps with its look-back;"
                    f" {lengths} needs {size}"
                )
        if train <= task.season:
            raise ValueError(
                f"the training part of {self.name} has {train} steps: no difference over a season"
                f" of {task.season}, which is the unit of MASE"
            )


def filled(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Gaps of a series [time] filled with the value before them; one at the very start stays."""
    if not np.isnan(values).any():
        return values
    known = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(len(values))))
    return values[known]


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


ROUNDING = 1e-12
"""Share of a value by which another one may differ and still be the same but for rounding."""


def rounding(train: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences in a training part [time, channel] up to this are rounding: one a channel.

    That is :data:`ROUNDING` of the largest value, since 0.1 + 0.2 and 0.3 are the same; and a
    billionth of the range, since a sine of a large number of steps is not exact.
    """
    return ROUNDING * np.abs(train).max(axis=0) + 1e-9 * np.ptp(train, axis=0)


def is_constant(train: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a channel of a training part [time, channel] is constant up to rounding."""
    return np.ptp(train, axis=0) <= rounding(train)


FAR = 50
"""Robust standard deviations from the median beyond which a value is suspicious."""


def outliers(train: NDArray[np.float64], names: Sequence[str]) -> str:
    """The first suspicious value of a training part [time, channel], in words; nothing if none is.

    A sentinel such as -9999 or a broken sensor's 1e38 sets the scale of its channel and makes all
    errors small. The robust standard deviation is that of a normal distribution of the same median
    absolute deviation from the median. Values that are the median do not count in it: a channel
    that mostly stands still would have none. Where no more than a thousandth of the values are
    others, the scale of the channel hangs on them, and they are suspicious whatever they are.
    """
    found: dict[int, NDArray[np.int64]] = {}
    few = max(1, len(train) // 1000)
    for channel, middle in enumerate(np.median(train, axis=0)):
        distance = np.abs(train[:, channel] - middle)
        least = ROUNDING * abs(middle)
        moved = distance[distance > least]
        far = FAR * 1.4826 * np.median(moved) if len(moved) > few else least
        if len(rows := np.flatnonzero(distance > far)):
            found[channel] = rows
    if not found:
        return ""
    channel, rows = next(iter(found.items()))
    count = sum(map(len, found.values()))
    columns = f" in {len(found)} columns" if len(found) > 1 else ""
    more = f", the first of {count} such values{columns}," if count > 1 else ""
    return (
        f"row {rows[0] + 1}, column {names[channel]!r}: {train[rows[0], channel]:.6g}{more} lies"
        f" more than {FAR} robust standard deviations from the median of the training part,"
        f" {np.median(train[:, channel]):.6g}"
    )


def compare(name: str, where: object, expected: str | None, got: str) -> None:
    """Refuse content, found at ``where``, that has not the value hash of the set ``name``."""
    if expected is not None and got != expected:
        raise ValueError(
            f"{where} is not {name}: some value, stamp or column name differs "
            f"(value hash expected {expected}, got {got})"
        )


def shares(rows: int, fractions: tuple[float, ...]) -> Triple:
    """The ends of the parts: train and test are rounded down, validation takes the rest."""
    return int(fractions[0] * rows), rows - int(fractions[2] * rows), rows
