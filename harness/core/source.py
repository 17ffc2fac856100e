"""Where a data set of the user's own comes from, as a suite describes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.core.schema import STRICT

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

    def __post_init__(self) -> None:
        form_of(self.path.name, STAMPED)
        from pandas.tseries.frequencies import to_offset  # here: reading rows must not wait for it

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


def _is_one(total: float) -> bool:
    return abs(total - 1) < 1e-9
