"""Cases: each series of a task up to one of its windows, and what came after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.zero_shot.recipes import Item
from harness.zero_shot.tasks import ZeroShotTask


@dataclass(frozen=True, eq=False)
class Case:
    """The ``past`` [time] of an item and its ``future`` [horizon], in float32.

    ``start`` is the period of the first future value; ``window`` counts from 0, the earliest.
    """

    item: Item
    window: int
    start: pd.Period
    past: NDArray[np.float32]
    future: NDArray[np.float32]

    def __str__(self) -> str:
        return f"item {self.item.name!r} from {self.start}"


@dataclass(frozen=True, eq=False)
class Cases:
    """All cases of a task: item after item, and of each the windows in their order."""

    task: ZeroShotTask
    cases: tuple[Case, ...]

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def __len__(self) -> int:
        return len(self.cases)

    @property
    def futures(self) -> NDArray[np.float64]:
        """What came true [case, step]."""
        return np.stack([case.future for case in self]).astype(np.float64)


def cut(task: ZeroShotTask, items: Sequence[Item]) -> Cases:
    """The cases of a task.

    Raises:
        ValueError: an item whose shortest past holds less than two seasons, nothing but NaN, or
            the same value throughout: no scale of an error can be taken from it.
    """
    cases = []
    for item in items:
        first = len(item.values) - task.tail
        _refuse(task, item, item.values[: max(first, 0)])
        for window in range(task.windows):
            at = first + window * task.horizon
            cases.append(
                Case(
                    item=item,
                    window=window,
                    start=item.start + at,
                    past=item.values[:at],
                    future=item.values[at : at + task.horizon],
                )
            )
    return Cases(task, tuple(cases))


def _refuse(task: ZeroShotTask, item: Item, past: NDArray[np.float32]) -> None:
    where = f"{task}, item {item.name!r}"
    if len(past) < 2 * task.season:
        raise ValueError(
            f"{where}: {len(past)} steps before the first forecast; "
            f"at least two seasons of {task.season} are needed"
        )
    known = past[np.isfinite(past)]
    if not len(known):
        raise ValueError(f"{where}: no value before the first forecast is a finite number")
    if known.min() == known.max():
        raise ValueError(
            f"{where}: all values before the first forecast are {known[0]:g}; "
            "errors are measured in units of their differences"
        )
