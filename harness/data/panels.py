"""Files of many series, wide or long: read whole, with a hash of what they hold.

Corpora and zero-shot tasks are made of such files. A wide one has a column ``date`` and a column
for each channel, a long one the columns ``item_id``, ``timestamp`` and ``target``, the values of
each series one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.core.source import STAMPED, form_of
from harness.data import copies
from harness.data.series import compare, value_hash

LONG = ("item_id", "timestamp", "target")


@dataclass(frozen=True, eq=False)
class Channel:
    """One series of a file: ``values`` [time], NaN where one is missing.

    ``stamps`` [time] are in microseconds since 1970. ``is_column``: it is one of several variables
    on one clock, and not one of many items.
    """

    name: str
    stamps: NDArray[np.int64]
    values: NDArray[np.float64]
    is_column: bool


def read_panel(path: Path) -> tuple[list[Channel], str]:
    """All series of a file, and its value hash.

    That of a wide file is :func:`harness.data.series.value_hash`. A long file counts as a single
    column of all its values; in place of the column's name stand those of the series, each with
    its length.

    Raises:
        ValueError: a damaged file, a cell that is no number or no stamp, or a series of a long
            file that lies in several pieces.
    """
    from harness.data import tables  # here, as in `sets.load`

    frame = tables.read(path, form_of(path.name, STAMPED))
    if "item_id" not in frame.columns:
        tables.require_column(path, "date", frame)
        names = [str(name) for name in frame.columns if name != "date"]
        clock = tables.stamps(path, frame["date"])
        values = _canonical(tables.numbers(path, frame, names))
        channels = [
            Channel(name, clock, column, is_column=True)
            for name, column in zip(names, values.T, strict=True)
        ]
        return channels, value_hash(names, clock, values)
    for column in LONG:
        tables.require_column(path, column, frame)
    clock = tables.stamps(path, frame["timestamp"])
    values = _canonical(tables.numbers(path, frame, ["target"]))
    items = frame["item_id"].astype(str).to_numpy()
    starts = np.flatnonzero(np.r_[True, items[1:] != items[:-1]])
    names = [str(name) for name in items[starts]]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path}: the values of item {twice!r} are not one after the other")
    pieces = list(zip(starts, [*starts[1:], len(items)], strict=True))
    channels = [
        Channel(name, clock[start:end], values[start:end, 0], is_column=False)
        for name, (start, end) in zip(names, pieces, strict=True)
    ]
    lengths = [f"{name}:{end - start}" for name, (start, end) in zip(names, pieces, strict=True)]
    return channels, value_hash(lengths, clock, values)


def find_panel(file: str, folders: Sequence[Path]) -> Path | None:
    """Where ``file`` ("monash/hospital.parquet") is, as :func:`load_panel` looks for it."""
    return copies.first(folders, [f"{Path(file).stem}{form}" for form in STAMPED])


def require_file(file: str, folders: Sequence[Path]) -> Path:
    """Where ``file`` is, as :func:`find_panel` says.

    Raises:
        FileNotFoundError: no folder has it; names it and the folders.
    """
    if (path := find_panel(file, folders)) is None:
        looked = ", ".join(map(str, folders)) or "no folder was given"
        raise FileNotFoundError(
            f"not here: {file}; looked in: {looked}; set PATCHBENCH_DATA to a folder that holds it"
        )
    return path


def load_panel(file: str, folders: Sequence[Path], expected: str) -> list[Channel]:
    """The series of ``file`` ("monash/hospital.parquet"), if they are what ``expected`` says.

    A folder may have the file in a sub-folder of any name, or be flat; csv and csv.gz will do as
    well as parquet.

    Raises:
        FileNotFoundError: no folder has the file; names it and the folders.
        ValueError: what is there is not what it should be; names the file.
    """
    path = require_file(file, folders)
    channels, digest = read_panel(path)
    compare(file, path, expected, digest)
    return channels


def _canonical(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """With NaN of one bit pattern: the hash is of bytes."""
    return np.where(np.isnan(values), np.nan, values)
