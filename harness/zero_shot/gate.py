"""The gate: a task may be scored if its seasonal naive has the error that is published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.data import filled
from harness.zero_shot.cases import Cases, cut
from harness.zero_shot.recipes import items
from harness.zero_shot.scores import LEVELS, score
from harness.zero_shot.tasks import BENCHMARKS, ZeroShotTask

TOLERANCE = 1e-6
"""Largest relative difference of the seasonal-naive MASE from the published one."""


def admit(task: ZeroShotTask, folders: Sequence[Path]) -> Cases:
    """The cases of a task, of which it is sure that they are those of the benchmark.

    Raises:
        FileNotFoundError: a file of the task is in none of the folders.
        ValueError: a file differs from what it should be, or the seasonal naive of the task has
            another MASE than the published one. The message names the file.
    """
    cases = cut(task, items(task, folders))
    mase = score(cases, seasonal_naive(cases)).mase
    if abs(mase / task.naive_mase - 1) > TOLERANCE:
        raise ValueError(
            f"{task} is refused: its seasonal naive has a MASE of {mase:.10g}, and "
            f"{task.naive_mase:.10g} is published ({BENCHMARKS[task.benchmark].source}); the "
            f"series that recipe {task.recipe!r} makes of {task.files} differ"
        )
    return cases


def seasonal_naive(cases: Cases) -> NDArray[np.float64]:
    """The last season of each past repeated, at every level [case, level, step].

    A value that is missing there is the last one before it that is not.
    """
    steps = np.arange(cases.task.horizon) % cases.task.season
    points = np.stack([filled(case.past)[-cases.task.season :][steps] for case in cases])
    return np.repeat(points[:, None].astype(np.float64), len(LEVELS), axis=1)
