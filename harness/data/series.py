"""A data set in memory, and the hash that says which one it is."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Triple = tuple[int, int, int]


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
