"""Where a data set of the user's own comes from, as a suite describes it."""

from __future__ import annotations

import codecs
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from harness.core.schema import STRICT

Epoch = Literal["s", "ms", "us", "ns"]
EPOCHS: tuple[Epoch, ...] = get_args(Epoch)
"""Stamp formats that count from the beginning of 1970, UTC."""
READING = ("separator", "decimal", "stamp_format", "encoding")
"""Fields of a :class:`Source` that say how its file is written: what is in it has its own hash."""

STAMPED = (".parquet", ".csv", ".csv.gz")  # with names and stamps
FORMS = (*STAMPED, ".txt", ".txt.gz")  # text is bare numbers


def form_of(file: str, allowed: tuple[str, ...] = FORMS) -> str:
    """The suffix that says how to read a file.

    Raises:
        ValueError: none of ``allowed``.
    """
    for form in allowed:
        if file.endswith(form):
            return form
    raise ValueError(f"{file!r} is no file that can be read; allowed: {', '.join(allowed)}")


@dataclass(frozen=True)
class Source:
    """A user's own file: csv, csv.gz or parquet with a column of stamps and one for each channel.

    ``frequency`` is one of pandas ("h", "15min", "MS"): every stamp must be one such step after
    the one before. ``season`` is in steps. ``split`` is the training, validation and test part, as
    three fractions of all rows or as three numbers of rows. ``columns`` picks channels; None takes
    all. ``missing`` = "interpolate" fills gaps linearly, each part from its own values only, so
    that nothing of a later part reaches an earlier one; a gap at the edge of a part takes the
    nearest value in it. Within a part, a filled value does know the value after its gap.

    ``separator``, ``decimal`` and ``encoding`` say how a csv file is written. ``stamp_format`` is
    in the directives of Python's ``strptime`` ("%d.%m.%Y %H:%M"), or one of :data:`EPOCHS`; None
    is for stamps in which the year stands first, as in ISO 8601.

    Raises:
        ValueError: a field that cannot be.
    """

    __pydantic_config__ = STRICT

    path: Path
    frequency: str
    season: int
    split: tuple[int | float, ...] = (0.7, 0.1, 0.2)
    time: str = "date"
    missing: str = "refuse"
    columns: tuple[str, ...] | None = None
    separator: str = ","
    decimal: str = "."
    stamp_format: str | None = None
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        _check_frequency(self.frequency)
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
        if self.path.name.endswith(".parquet"):
            for name, usual in (("separator", ","), ("decimal", "."), ("encoding", "utf-8")):
                if getattr(self, name) != usual:
                    raise ValueError(f"{name} is {getattr(self, name)!r}; parquet has none")
        self._check_text()
        if self.stamp_format is not None:
            _check_stamp_format(self.stamp_format)

    def _check_text(self) -> None:
        if len(self.separator) != 1 or self.separator in '"\r\n' or self.separator.isalnum():
            raise ValueError(f"separator is {self.separator!r}; one of , ; | and the tab, say")
        if self.decimal not in (".", ","):
            raise ValueError(f"decimal is {self.decimal!r}; allowed: . and ,")
        if self.separator == self.decimal:
            raise ValueError(f"separator is {self.separator!r}, and decimal is the same")
        try:
            codecs.lookup(self.encoding)
            "".encode(self.encoding)  # zip and the like are codecs, but none of text
        except LookupError as error:
            raise ValueError(
                f"encoding is {self.encoding!r}; utf-8, utf-16 or latin-1, say"
            ) from error


def _check_frequency(frequency: str) -> None:
    from pandas.tseries.frequencies import to_offset  # here: reading rows must not wait for it

    try:
        step = to_offset(frequency)
    except ValueError as error:
        raise ValueError(f"frequency is {frequency!r}; 'h', '15min' or 'D', say") from error
    if step.n < 1:
        raise ValueError(f"frequency is {frequency!r}; a step that leads forward is needed")


def _check_stamp_format(text: str) -> None:
    if text in EPOCHS:
        return
    known = f"as in '%d.%m.%Y %H:%M', or one of {', '.join(EPOCHS)} since 1970"
    moment = datetime(2024, 2, 28, 13, tzinfo=UTC)
    try:
        with warnings.catch_warnings():
            # Of a day without a year Python 3.13 warns; it is refused below.
            warnings.simplefilter("ignore", DeprecationWarning)
            read = datetime.strptime(moment.strftime(text), text)  # noqa: DTZ007 - its year alone counts
    except ValueError as error:
        raise ValueError(f"stamp_format is {text!r}; {known}") from error
    if read.year != moment.year:
        raise ValueError(f"stamp_format is {text!r}, which has no year; {known}")


def _is_one(total: float) -> bool:
    return abs(total - 1) < 1e-9
