"""The table in a user's own file: one column for each channel, and names that can be trusted.

What a file may be instead, with another separator, lines above its header or in the long format of
one series below the other, is read if the description says so, and named where it does not.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness.core.source import Source, form_of
from harness.data import tables

LONG = ("unique_id", "ds", "y")
"""The columns of the long format: name of the series, stamp and value."""


def read(source: Source) -> pd.DataFrame:
    """The column of stamps and those of the channels, in this order, cells as they are.

    A row of the long format becomes a cell of the column of its series.

    Raises:
        ValueError: no such table; names the line, or the column, and the key that would help.
    """
    path, form = source.path, form_of(source.path.name)
    frame = _of_parquet(source) if form == ".parquet" else _of_text(source, form)
    names = list(frame.columns)
    if source.time not in names:
        hint = "" if form == ".parquet" else _misread(source, form)
        if set(LONG) <= set(names):
            hint = '; time = "ds" makes a channel of each series'
        elif "" in names:
            hint += '; time = "" is the column without a name'
        tables.require_column(path, source.time, frame, hint)
    if _is_long(source, names):
        frame = _widened(source, frame)
        names = list(frame.columns)
    channels = source.columns or [name for name in names if name != source.time]
    for name in channels:
        tables.require_column(path, name, frame)
    _require_names(path, names, [source.time, *channels])
    if not channels:
        raise ValueError(f"{path} has no column beside {source.time!r}")
    if frame.empty:
        raise ValueError(f"{path} has no rows")
    return frame[[source.time, *channels]]


def keep(names: Iterable[str], without: Collection[str]) -> str:
    """The key of a description that leaves these columns out, as it would stand in a suite."""
    kept = [name for name in names if name not in without]
    shown = [*kept[:_SHOWN], "..."] if len(kept) > _SHOWN else kept
    return f"columns = {json.dumps(shown, ensure_ascii=False)}"


_SHOWN = 12


def _require_names(path: Path, names: Sequence[str], used: Sequence[str]) -> None:
    """Each column that is used has a name, and none has that of another one."""
    unnamed = [at for at, name in enumerate(names, 1) if not name]
    if "" in used[1:]:
        raise ValueError(
            f"{path}: column {unnamed[0]} has no name in the header, as an index that was written"
            f" along; {keep(used[1:], [''])} leaves it out"
        )
    for name, count in Counter(names).items():
        if count > 1 and name in used:
            places = [str(at) for at, other in enumerate(names, 1) if other == name]
            raise ValueError(
                f"{path}: columns {' and '.join(places)} are both called {name!r}; rename one"
            )


# --- parquet -------------------------------------------------------------------------------------


def _of_parquet(source: Source) -> pd.DataFrame:
    """What pandas wrote as its index is a column like others, where stamps or series need it."""
    frame = tables.read(source.path, ".parquet")
    frame.columns = pd.Index([str(name) for name in frame.columns])
    levels = [str(name or "") for name in frame.index.names]
    index = frame.index.set_names(levels).to_frame(index=False)
    frame = frame.reset_index(drop=True)
    for name in index.columns.difference(frame.columns):
        is_clock = source.time not in frame and pd.api.types.is_datetime64_any_dtype(index[name])
        if is_clock or name in (source.time, *LONG):
            frame.insert(0, name, index[name])
    return frame


# --- text ----------------------------------------------------------------------------------------


def _of_text(source: Source, form: str) -> pd.DataFrame:
    """A csv file; stamps stay texts, so that 01022024 keeps its first digit."""
    how = {
        "sep": source.separator,
        "decimal": source.decimal,
        "encoding": _encoding(source),
        "encoding_errors": "strict",
    }
    try:
        head = tables.read(
            source.path, form, **how, header=None, nrows=1, dtype=str, keep_default_na=False
        )
        names = [name.strip() for name in head.iloc[0]]
        stamps = {at: str for at, name in enumerate(names) if name == source.time}
        frame = tables.read(source.path, form, **how, names=range(len(names)), dtype=stamps)
    except ValueError as error:
        raise ValueError(_explained(source, form, error)) from error
    if beyond := frame.index.nlevels * (not isinstance(frame.index, pd.RangeIndex)):
        # What the names do not reach takes pandas for an index.
        width = len(names) + beyond
        raise ValueError(
            f"{source.path}: the rows have up to {width} fields, the header has {len(names)}"
            f"{_misread(source, form)}"
        )
    frame.columns = pd.Index(names)
    return frame


def _explained(source: Source, form: str, error: ValueError) -> str:
    """Why pandas could not read the file, in our words and with the key that would help."""
    cause = error.__cause__
    if isinstance(cause, UnicodeError):
        return _undecodable(source, form, cause)
    if isinstance(cause, pd.errors.EmptyDataError):
        return f"{source.path} is empty"
    wider = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(cause))
    if wider is None:
        return str(error)
    fields, line, saw = wider.groups()
    return (
        f"{source.path}, line {line}: {saw} fields, where the lines before have {fields}"
        f"{_misread(source, form)}"
    )


def _encoding(source: Source) -> str:
    """UTF-8 may begin with a mark that says so and belongs to no name."""
    return "utf-8-sig" if source.encoding.lower() in ("utf-8", "utf8") else source.encoding


def _bytes(path: Path, form: str) -> bytes:
    with gzip.open(path) if form.endswith(".gz") else path.open("rb") as file:
        return file.read()


def _undecodable(source: Source, form: str, error: UnicodeError) -> str:
    """Where a file is not of its encoding, and of which it may be."""
    content = _bytes(source.path, form)
    said = f"{source.path} is not {source.encoding}"
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return f'{said}; it begins as UTF-16 does: encoding = "utf-16"'
    try:
        content.decode(_encoding(source))
    except UnicodeDecodeError as found:
        line = content.count(b"\n", 0, found.start) + 1
        byte = f"line {line} holds the byte 0x{content[found.start]:02x}"
        return (
            f'{said}: {byte}; encoding = "latin-1", or "cp1252" of Windows, reads files of Western'
            " Europe"
        )
    except UnicodeError:
        pass
    return f"{said}: {error}"


def _misread(source: Source, form: str) -> str:
    """Why the header of a text file is not found, as far as its first lines tell."""
    text = _bytes(source.path, form)[:65536].decode(_encoding(source), errors="replace")
    for line, content in enumerate(text.splitlines()[:50], 1):
        for separator in (source.separator, ";", "\t", "|", ","):
            fields = [field.strip().strip('"') for field in content.split(separator)]
            if source.time not in fields or (line == 1 and separator == source.separator):
                continue
            above = f"; line {line} is the header: take away what stands above it"
            other = f"; separator = {json.dumps(separator)} finds the header"
            return (above if line > 1 else "") + (other if separator != source.separator else "")
    return ""


# --- the long format -----------------------------------------------------------------------------


def _is_long(source: Source, names: Sequence[str]) -> bool:
    """Of a file with one series, ``y`` may also be chosen as the channel."""
    asked = source.time == LONG[1] and "y" not in (source.columns or ())
    return asked and set(LONG) <= set(names)


def _widened(source: Source, frame: pd.DataFrame) -> pd.DataFrame:
    """One column for each series, in the order in which they appear."""
    path = source.path
    if beside := [str(name) for name in frame.columns if name not in LONG]:
        raise ValueError(
            f"{path} is in the long format of {', '.join(LONG)}, and has {beside[0]!r} beside; "
            "take it out of the file"
        )
    if frame.empty:
        raise ValueError(f"{path} has no rows")
    series = frame[LONG[0]].astype("string")
    if series.isna().any():
        at = int(np.flatnonzero(series.isna())[0])
        raise ValueError(f"{tables.place(path, at, LONG[0])}: the name of the series is missing")
    frame = frame.assign(y=tables.numbers(path, frame, ["y"], source.decimal)[:, 0])
    if source.columns is not None and (chosen := series.isin(source.columns)).any():
        frame, series = frame[chosen], series[chosen]
    parts = {str(name): part for name, part in frame.groupby(series.to_numpy(), sort=False)}
    first = next(iter(parts))
    for name in parts:
        _require_same_clock(path, parts, first, name)
    stamps = parts[first]["ds"].reset_index(drop=True)
    return pd.DataFrame({"ds": stamps} | {name: part["y"].array for name, part in parts.items()})


def _require_same_clock(
    path: Path, parts: Mapping[str, pd.DataFrame], first: str, other: str
) -> None:
    theirs, own = parts[first]["ds"].to_numpy(), parts[other]["ds"].to_numpy()
    both = min(len(theirs), len(own))
    differ = np.flatnonzero(theirs[:both] != own[:both])
    if len(differ):
        at = int(differ[0])
        where = tables.place(path, int(parts[other].index[at]), "ds")
        what = f"{where}: the series {other!r} has {own[at]} where {first!r} has {theirs[at]}"
    elif len(theirs) != len(own):
        what = f"{path}: the series {other!r} has {len(own)} rows, {first!r} has {len(theirs)}"
    else:
        return
    raise ValueError(
        f"{what}; series of one data set share their clock, and columns = [...] picks some of them"
    )
