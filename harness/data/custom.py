"""A user's own file: described by a :class:`Source`, checked cell by cell, filled if asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.core.source import STAMPED, Source, form_of
from harness.data import clock, own_table, tables
from harness.data.series import Series, Triple, is_constant, shares, value_hash


def load(name: str, source: Source) -> Series:
    """Read, check and split the file.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is not what its description says; names row and column.
    """
    path = source.path
    form_of(path.name, STAMPED)  # before all else: no other file is one of these
    if not path.is_file():
        raise FileNotFoundError(f"data set {name!r}: there is no file {path}")
    frame = own_table.read(source)
    channels = tuple(frame.columns[1:])
    stamps = clock.read(source, frame[source.time])
    clock.require_regular(source, frame[source.time], stamps)
    texts = [name for name in channels if tables.are_texts(frame[name], source.decimal)]
    try:
        values = tables.numbers(path, frame, channels, source.decimal)
    except ValueError as error:
        raise ValueError(f"{error}{_leave_out(channels, texts)}") from error
    borders = _borders(source, len(values))
    if source.missing == "interpolate":
        values = _filled(path, values, borders, channels)
    tables.require_finite(
        path, values[: borders[2]], channels, '; missing = "interpolate" fills gaps'
    )
    _require_scale(path, values[: borders[0]], channels)
    content = value_hash(channels, stamps.instants, values)
    return Series(
        name=name,
        values=values,
        channels=channels,
        frequency=source.frequency,
        season=source.season,
        borders=borders,
        hash=hashlib.sha256(f"{content} {borders}".encode()).hexdigest(),
    )


def _require_scale(path: Path, train: NDArray[np.float64], names: Sequence[str]) -> None:
    """Refuse channels that cannot be standardised by their training part [time, channel]."""
    large = np.argwhere(np.abs(train) > _LARGEST)
    if len(large):
        row, column = (int(at) for at in large[0])
        where = tables.place(path, row, names[column])
        raise ValueError(f"{where}: {train[row, column]:g} is too large; its square overflows")
    constant = [name for name, is_one in zip(names, is_constant(train), strict=True) if is_one]
    if constant:
        first = train[0, list(names).index(constant[0])]
        raise ValueError(
            f"{path}, column {constant[0]!r}: the training part (rows 1 to {len(train)}) is "
            f"{first} throughout, up to rounding, and has no scale{_leave_out(names, constant)}"
        )


_LARGEST = 1e150


def _leave_out(names: Sequence[str], wrong: Sequence[str]) -> str:
    """How to do without the columns, if that leaves any."""
    if not wrong or len(wrong) == len(names):
        return ""
    others = f", and {len(wrong) - 1} more like it" if len(wrong) > 1 else ""
    return f"; {own_table.keep(names, wrong)} leaves it out{others}"


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
