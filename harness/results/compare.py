"""Two rows of one run beside each other: what they do not share."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass

from harness.core.job import Record

ELSEWHERE = (
    *("train_seconds", "evaluate_seconds", "peak_memory_mb", "attempts", "micro_batch", "trials"),
    *("suite", "device", "engine", "versions", "commit", "job", "error", "key"),
)
"""Columns that are others where the same run is done again."""


@dataclass(frozen=True)
class Difference:
    """A column that a row and its repetition do not share."""

    column: str
    then: object
    now: object

    def __str__(self) -> str:
        if isinstance(self.then, float) and isinstance(self.now, float) and self.then:
            relative = f" ({100 * (self.now / self.then - 1):+.2g} %)"
        else:
            relative = ""
        return f"{self.column}: {self.then} -> {self.now}{relative}"


def differences(
    then: Record, now: Record, besides: Collection[str] = ELSEWHERE
) -> list[Difference]:
    """The columns ``besides`` these that are not the same in both, to the last digit."""
    after = asdict(now)
    return [
        Difference(name, value, after[name])
        for name, value in asdict(then).items()
        if name not in besides and value != after[name]
    ]


def measured_differences(then: Record, now: Record) -> list[Difference]:
    """What the two rows measured, where it is not the same to the last digit.

    Not compared are times and memory, and columns that are younger than the first row.
    """
    return [found for found in differences(then, now) if found.then is not None]
