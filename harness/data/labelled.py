"""Real series with labels: heart beats, faults, and changes of regime that somebody marked.

A set is one long recording, or many series end to end, each cut into a training, a validation and
a test part or put into one of them as a whole. ``labelled.csv`` has the length of every series,
and the part of those that are put into one.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.core.source import STAMPED, form_of
from harness.data import embedded
from harness.data.panels import require_file
from harness.data.rates import NO_CLOCK
from harness.data.series import PARTS, Outline, Series, compare, shares, value_hash

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Item:
    """One series: ``values`` [time, channel], and the steps at which something is marked."""

    name: str
    values: NDArray[np.float64]
    marks: NDArray[np.int64]


@dataclass(frozen=True)
class Entry:
    """A labelled set.

    ``files`` are its tables, of values and of labels, looked for in any folder of data by their
    names; ``read`` makes series of them. ``split`` cuts each series in time, where the list of
    series does not say that it belongs to one part as a whole. With ``scale_each`` a series is
    standardised by its own training part, because levels and units differ between series. Within
    ``margin`` steps a label and what it marks are the same.
    """

    name: str
    files: tuple[str, ...]
    read: Callable[[Sequence[Path]], list[Item]]
    channels: tuple[str, ...]
    season: int
    margin: int
    split: tuple[float, float, float]
    hash: str
    scale_each: bool = False


@dataclass(frozen=True)
class _Piece:
    """Steps ``first`` to ``end`` of a series, in one part of the set."""

    item: str
    first: int
    end: int

    def __len__(self) -> int:
        return self.end - self.first


def names() -> list[str]:
    """The labelled sets."""
    return [*CATALOGUE]


def season(name: str) -> int:
    """The season in steps; 1 where there is none."""
    return CATALOGUE[name].season


def pinned(name: str) -> str:
    """The hash of values and marks, known before the set is read."""
    return CATALOGUE[name].hash


def files(name: str) -> tuple[str, ...]:
    """The files that a labelled set is read from."""
    return CATALOGUE[name].files


def outline(name: str) -> Outline:
    """What is known of the set before it is read."""
    parts, channels = _pieces(name), len(CATALOGUE[name].channels)
    train, valid, test = accumulate(sum(map(len, part)) for part in parts)
    return Outline(name, (train, valid, test), channels, joins=_joins(parts))


def load(name: str, folders: Sequence[Path]) -> Series:
    """The set, if it is what it was when its hash was taken.

    The hash is of values and marks, the values to six decimals where they are standardised here.

    Raises:
        FileNotFoundError: a file is in none of the folders; names it and them.
        ValueError: the files hold another set.
    """
    entry, known = CATALOGUE[name], outline(name)
    paths = [require_file(file, folders) for file in entry.files]
    items = {item.name: item for item in entry.read(paths)}
    values, marks = _joined(entry, items)
    table = np.column_stack([values, marks])
    digest = value_hash((*entry.channels, "mark"), np.arange(len(values)), table)
    compare(name, " and ".join(map(str, paths)) or "what sktime ships", entry.hash, digest)
    return Series(
        name=name,
        values=values,
        channels=entry.channels,
        frequency=NO_CLOCK,
        season=entry.season,
        borders=known.borders,
        hash=digest,
        boundaries=np.flatnonzero(marks),
        joins=known.joins,
        margin=entry.margin,
    )


# --- series end to end ---------------------------------------------------------------------------


@cache
def _pieces(name: str) -> tuple[tuple[_Piece, ...], ...]:
    """What each part is made of."""
    split = CATALOGUE[name].split
    parts: tuple[list[_Piece], ...] = ([], [], [])
    table = resources.files(__package__).joinpath("labelled.csv").read_text(encoding="utf-8")
    for line in csv.DictReader(table.splitlines()):
        if line["set"] != name:
            continue
        item, length = line["series"], int(line["length"])
        if line["part"]:
            parts[PARTS.index(line["part"])].append(_Piece(item, 0, length))
        else:
            ends = (0, *shares(length, split))
            for part, first, end in zip(parts, ends, ends[1:], strict=False):
                part.append(_Piece(item, first, end))
    return tuple(map(tuple, parts))


def _joins(parts: Sequence[Sequence[_Piece]]) -> tuple[int, ...] | None:
    """Where one series ends and another begins; None of a single recording."""
    pieces = [piece for part in parts for piece in part]
    if len({piece.item for piece in pieces}) == 1:
        return None
    return (0, *accumulate(map(len, pieces[:-1])))


def _joined(entry: Entry, items: dict[str, Item]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Values [time, channel] and marks [time] of all parts, piece after piece."""
    parts = _pieces(entry.name)
    known = {piece.item: piece.end for part in parts for piece in part}
    for name, steps in known.items():
        if name not in items:
            raise ValueError(f"{entry.name}: the series {name!r} is missing")
        there = int(np.isfinite(items[name].values[:steps]).all(axis=1).sum())
        if there < steps:
            raise ValueError(f"{entry.name}: {there} steps of {name!r} are there, not all {steps}")
    if entry.scale_each:
        ends = {piece.item: piece.end for piece in parts[0]}
        items = {name: _scaled(items[name], ends[name]) for name in known}
    pieces = [piece for part in parts for piece in part]
    values = [items[piece.item].values[piece.first : piece.end] for piece in pieces]
    marks = [np.isin(np.arange(p.first, p.end), items[p.item].marks) for p in pieces]
    return np.concatenate(values), np.concatenate(marks)


def _scaled(item: Item, train: int) -> Item:
    part = item.values[:train]
    # Six decimals: the last digits of a mean are the machine's own.
    values = ((item.values - part.mean(axis=0)) / part.std(axis=0)).round(6)
    return Item(item.name, values, item.marks)


# --- the files -----------------------------------------------------------------------------------


def _table(path: Path, *columns: str) -> pd.DataFrame:
    from harness.data import tables  # here, as in `sets.load`

    frame = tables.read(path, form_of(path.name, STAMPED))
    for column in columns:
        tables.require_column(path, column, frame)
    return frame


def _values(path: Path, frame: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    from harness.data import tables

    return tables.numbers(path, frame, columns)


def _segments(paths: Sequence[Path]) -> list[Item]:
    """TSSB: ``item_id, t, target``, and for each series the list of its change points."""
    frame = _table(paths[0], "item_id", "t", "target")
    labels = _table(paths[1], "item_id", "change_points")
    # A list; in a csv file its text.
    lists = [json.loads(own) if isinstance(own, str) else own for own in labels.change_points]
    marks = dict(zip(labels.item_id, lists, strict=True))
    return [
        Item(str(name), _values(paths[0], own, ["target"]), np.asarray(marks[name], np.int64))
        for name, own in frame.groupby("item_id", sort=False)
    ]


def _annotated(paths: Sequence[Path]) -> list[Item]:
    """TCPD: ``item_id, channel, t, target``, and a line for each mark that a person set.

    A mark counts where two people or more set one within five steps, as the median of theirs: one
    person's marks are no agreement.
    """
    frame = _table(paths[0], "item_id", "channel", "t", "target")
    labels = _table(paths[1], "item_id", "annotator", "change_point").dropna()
    items = []
    for (name, channel), own in frame.groupby(["item_id", "channel"], sort=False):
        marked = labels[labels.item_id == name].sort_values("change_point")
        near = marked.change_point.diff().gt(5).cumsum()
        agreed = [group for _, group in marked.groupby(near) if len({*group.annotator}) > 1]
        steps = np.array([int(group.change_point.median()) for group in agreed], np.int64)
        items.append(Item(f"{name}/{channel}", _values(paths[0], own, ["target"]), steps))
    return items


def _experiments(paths: Sequence[Path]) -> list[Item]:
    """SKAB: one row a second of eight sensors, by experiment, with a column of change points."""
    frame = _table(paths[0], "item_id", "changepoint", *_SENSORS)
    return [
        Item(str(name), _values(paths[0], own, _SENSORS), np.flatnonzero(own.changepoint == 1))
        for name, own in frame.groupby("item_id", sort=False)
    ]


def _beats(paths: Sequence[Path]) -> list[Item]:
    """MIT-BIH: two leads, and the step of every annotation."""
    values = _values(paths[0], _table(paths[0], *_LEADS), _LEADS)
    marks = _table(paths[1], "t").t.to_numpy(np.int64)
    return [Item("100", values[:_RECORDED], marks)]


def _devices(_: Sequence[Path]) -> list[Item]:
    series = embedded.load("electric_devices")
    marks = np.array([], np.int64) if series.boundaries is None else series.boundaries
    return [Item("electric_devices", series.values, marks)]


_SENSORS = (
    "Accelerometer1RMS",
    "Accelerometer2RMS",
    "Current",
    "Pressure",
    "Temperature",
    "Thermocouple",
    "Voltage",
    "Volume Flow RateRMS",
)
_LEADS = ("MLII", "V5")
_RECORDED = 72_000
"""200 seconds of the half hour."""

CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        # Time Series Segmentation Benchmark, 75 series (Ermshaus et al., DMKD 2023).
        Entry(
            name="tssb",
            files=("events/tssb.parquet", "events/tssb_labels.parquet"),
            read=_segments,
            channels=("value",),
            season=1,
            margin=10,
            split=(0.6, 0.15, 0.25),
            hash="0957be87a3050203d3d3a18f4df77f3c642fd46dcec54170a3dc75664526ee24",
            scale_each=True,
        ),
        # Turing Change Point Dataset, its series of 280 steps or more (van den Burg and Williams
        # 2020).
        Entry(
            name="tcpd",
            files=("events/tcpd.parquet", "events/tcpd_annotations.parquet"),
            read=_annotated,
            channels=("value",),
            season=1,
            margin=5,
            split=(0.4, 0.2, 0.4),
            hash="17000696ea073f5648e9020ad70b8d5b179135ee1ff97da1a95a4f2121d503c2",
            scale_each=True,
        ),
        # Skoltech Anomaly Benchmark 0.9, experiments with a pump.
        Entry(
            name="skab",
            files=("events/skab.parquet",),
            read=_experiments,
            channels=_SENSORS,
            season=1,
            margin=15,
            split=(0.6, 0.15, 0.25),
            hash="4229e81cb20a9c1cd4d808989e6825ad2d17bf75ef2d47d03cc8584e8fd62eb8",
        ),
        # MIT-BIH arrhythmia record 100, its first 200 seconds.
        Entry(
            name="mitbih",
            files=("events/mitbih_100.parquet", "events/mitbih_100_beats.parquet"),
            read=_beats,
            channels=_LEADS,
            season=290,
            margin=18,
            split=(0.6, 0.15, 0.25),
            hash="dda16e01b1e7ecc1c69253f8ac3257fc3df212d27cda6c73028204ec9dbe736c",
        ),
        # Power of household devices, which sktime ships. Half of its change points lie in the last
        # part, where `electric_devices` has none.
        Entry(
            name="devices",
            files=(),
            read=_devices,
            channels=("power",),
            season=10,
            margin=10,
            split=(0.3, 0.15, 0.55),
            hash="2df69177869bd02ede9e7025d0fa209470205464fba90f7c9186cd93c532592b",
        ),
    )
}
