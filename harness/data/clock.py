"""Stamps of a user's own file: read as its description says, and held to their frequency."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.frequencies import to_offset

from harness.core.source import EPOCHS, Source
from harness.data.tables import place

_YEAR_FIRST = r"\d{4}(?:\D.*|\d{4}(?:\D.*)?)?"
_QUARTER = re.compile(r"^(\d{4})-?Q([1-4])$")
_ZONE = r"[T ]\d.*?(?P<offset>Z|[+-]\d{2}(?::?\d{2})?)$"
_DAY_OR_MONTH = re.compile(
    r"\d{1,2}([/.-])\d{1,2}\1(\d{4}|\d{2})(?:(T|\s+)\d{1,2}:\d{2}(:\d{2})?)?"
)


@dataclass(frozen=True, eq=False)
class Clock:
    """Stamps [time] in microseconds: ``instants`` in UTC, ``wall`` as a clock on the wall shows.

    The two are the same for stamps without a zone.
    """

    instants: NDArray[np.int64]
    wall: NDArray[np.int64]


def read(source: Source, cells: pd.Series[pd.Timestamp]) -> Clock:
    """The stamps in a column of the file.

    Raises:
        ValueError: a cell that is no stamp, or one of which nobody can know whether the day or the
            month stands first; names the key of the description that would help.
    """
    if isinstance(cells.dtype, pd.DatetimeTZDtype):
        instants = cells.dt.tz_convert("UTC").dt.tz_localize(None)
        wall = cells.dt.tz_localize(None)
    elif pd.api.types.is_datetime64_dtype(cells):
        instants = wall = cells
    elif unit := next((unit for unit in EPOCHS if unit == source.stamp_format), None):
        numbers = pd.to_numeric(cells, errors="coerce")
        numbers = numbers.where(numbers.abs() < 2.0**63)  # pandas refuses more without a word
        instants = wall = pd.to_datetime(numbers, unit=unit, errors="coerce")
    else:
        text = _text(cells)
        instants = _parsed(source, text)
        wall = instants + _offsets(source, text)
    if len(bad := np.flatnonzero(instants.isna())):
        at = int(bad[0])
        where = place(source.path, at, source.time)
        if pd.isna(cells.iloc[at]):
            raise ValueError(f"{where}: the stamp is missing")
        raise ValueError(f"{where}: {str(cells.iloc[at])!r} is not a stamp{_format_of(source)}")
    return Clock(_micros(instants), _micros(wall))


def require_regular(source: Source, cells: pd.Series[pd.Timestamp], clock: Clock) -> None:
    """Refuse stamps of which one is not a step after the one before it.

    Hours and what is shorter have a fixed length and are counted in UTC. Days and what is longer
    are units of the calendar that the file keeps: midnight follows midnight, also over a change
    of the clock.
    """
    steps = np.diff(clock.instants)
    for bad, what in ((steps < 0, "is earlier than"), (steps == 0, "is the same as")):
        if len(rows := np.flatnonzero(bad)):
            at = int(rows[0]) + 1
            where = place(source.path, at, source.time)
            raise ValueError(f"{where}: {_shown(cells, clock, at)} {what} the stamp before it")
    step = to_offset(source.frequency)
    fixed = isinstance(step, pd.offsets.Tick) and not isinstance(step, pd.offsets.Day)
    there = pd.DatetimeIndex((clock.instants if fixed else clock.wall).astype("datetime64[us]"))
    due = pd.date_range(there[0], periods=len(there), freq=step, unit="us")
    if len(rows := np.flatnonzero(there != due)):
        at = int(rows[0])
        expected = due[at] + pd.Timedelta(int(clock.wall[at] - _micros(there)[at]), "us")
        raise ValueError(
            f"{place(source.path, at, source.time)}: {_shown(cells, clock, at)} does not keep the "
            f"frequency {source.frequency!r}, by which {expected} is due"
        )


def _micros(times: pd.Series[pd.Timestamp] | pd.DatetimeIndex) -> NDArray[np.int64]:
    return np.asarray(times.to_numpy(dtype="datetime64[us]").astype(np.int64))


def _shown(cells: pd.Series[pd.Timestamp], clock: Clock, at: int) -> str:
    """The cell as it stands in the file, and what it says where it is a bare number."""
    cell = str(cells.iloc[at])
    is_number = cell.replace(".", "", 1).isdigit()
    return f"{cell} ({np.datetime64(int(clock.wall[at]), 'us')})" if is_number else cell


def _text(cells: pd.Series[pd.Timestamp]) -> pd.Series[str]:
    """The cells as texts: of a number its digits, without the fraction that a gap gives it."""
    if pd.api.types.is_float_dtype(cells):
        return cells.map("{:.17g}".format, na_action="ignore").astype("string")
    return cells.astype("string").str.strip()


def _parsed(source: Source, text: pd.Series[str]) -> pd.Series[pd.Timestamp]:
    """UTC without its zone; NaT where there is no stamp."""
    form = source.stamp_format
    if form is None:
        _require_year_first(source, text)
        text = text.str.replace(_QUARTER, _first_month, regex=True)
        text = text.str.replace(r"^(\d{4})\.(\d{1,2})\.", r"\1-\2-", regex=True)
        form = "ISO8601"
    return pd.to_datetime(text, format=form, errors="coerce", utc=True).dt.tz_localize(None)


def _first_month(quarter: re.Match[str]) -> str:
    return f"{quarter[1]}-{3 * int(quarter[2]) - 2:02d}"


def _offsets(source: Source, text: pd.Series[str]) -> pd.Series[pd.Timedelta]:
    """By how much the clock on the wall is ahead of UTC."""
    offset = text.str.extract(_ZONE)["offset"]
    bare = offset.isna() & text.notna()
    if bare.any() and offset.notna().any():
        at = int(np.flatnonzero(bare)[0])
        where = place(source.path, at, source.time)
        raise ValueError(f"{where}: {str(text.iloc[at])!r} has no zone, other stamps have one")
    digits = offset.fillna("Z").str.replace("Z", "+0000").str.replace(":", "").str.ljust(5, "0")
    minutes = digits.str[1:3].astype(int) * 60 + digits.str[3:5].astype(int)
    return pd.to_timedelta(minutes.where(digits.str[0] == "+", -minutes).astype(int), unit="min")


def _require_year_first(source: Source, text: pd.Series[str]) -> None:
    other = text.notna() & ~text.str.fullmatch(_YEAR_FIRST).fillna(value=True)
    numbers = text.str.fullmatch(r"-?\d+(?:\.\d+)?").fillna(value=True)
    if numbers.all() and text.notna().any():
        near = _format_of_number(float(text.dropna().iloc[0]))
        hint = f"; stamp_format = {json.dumps(near[0])} reads them as {near[1]}" if near else ""
        raise ValueError(
            f"{source.path}: column {source.time!r} holds numbers, where stamps are needed{hint}"
        )
    if other.any():
        at = int(np.flatnonzero(other)[0])
        cell = str(text.iloc[at])
        said = f"{place(source.path, at, source.time)}: {cell!r}"
        if (found := _DAY_OR_MONTH.fullmatch(cell)) is None:
            raise ValueError(f"{said} is not a stamp{_format_of(source)}")
        mark, year, gap, seconds = found.groups()
        rest = f"{mark}%Y" if len(year) == 4 else f"{mark}%y"
        rest += f"{gap}%H:%M{':%S' if seconds else ''}" if gap else ""
        raise ValueError(
            f'{said} does not begin with the year; stamp_format = "%d{mark}%m{rest}" reads a day '
            f'first, "%m{mark}%d{rest}" a month'
        )


def _format_of(source: Source) -> str:
    """What is expected of a stamp."""
    if source.stamp_format is None:
        return "; without a stamp_format it has to be as in ISO 8601, 2024-02-28 13:00:00"
    return f" of stamp_format = {json.dumps(source.stamp_format)}"


def _format_of_number(first: float) -> tuple[str, str] | None:
    """The format that a number fits by its size, and what it means."""
    for format_, least, end, meaning in (
        ("%Y", 1800, 2200, "years"),
        ("%Y%m%d", 18_000_101, 22_000_101, "year, month and day"),
        ("s", 1e8, 1e11, "seconds since 1970"),
        ("ms", 1e11, 1e14, "milliseconds since 1970"),
        ("us", 1e14, 1e17, "microseconds since 1970"),
        ("ns", 1e17, 1e20, "nanoseconds since 1970"),
    ):
        if least <= first < end:
            return format_, meaning
    return None
