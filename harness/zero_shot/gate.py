"""The gate: a task may be scored if its seasonal naive has the scores that are published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from harness.data import filled
from harness.zero_shot.cases import Cases, cut
from harness.zero_shot.recipes import items
from harness.zero_shot.scores import LEVELS, score
from harness.zero_shot.tasks import BENCHMARKS, ZeroShotTask

TOLERANCE = 1e-6
"""Largest relative difference of a score of the seasonal naive from the published one."""


def admit(task: ZeroShotTask, folders: Sequence[Path]) -> Cases:
    """The cases of a task, of which it is sure that they are those of the benchmark.

    Raises:
        FileNotFoundError: a file of the task is in none of the folders.
        ValueError: a file differs from what it should be, or the seasonal naive of the task has
            other scores than the published ones. The message names the file.
    """
    cases = cut(task, items(task, folders))
    found = score(cases, seasonal_naive(cases))
    for metric, ours, published in (
        ("MASE", found.mase, task.naive_mase),
        (found.metric, found.quantile, task.naive_quantile),
    ):
        if abs(ours / published - 1) > TOLERANCE:
            raise ValueError(
                f"{task} is refused: its seasonal naive has a {metric} of {ours:.10g}, and "
                f"{published:.10g} is published ({BENCHMARKS[task.benchmark].source}); the "
                f"series that recipe {task.recipe!r} makes of {task.files} differ"
            )
    return cases


def seasonal_naive(cases: Cases) -> NDArray[np.float64]:
    """The last season of each past repeated, with normal quantiles around it [case, level, step].

    A value that is missing there is the last one before it that is not. The standard deviation
    one season ahead is that of the seasonal differences, and grows with the root of the number of
    seasons. Chronos Benchmark II has no spread: all quantiles are the same.

    Source: Hyndman & Athanasopoulos, Forecasting: Principles and Practice, 3rd ed., section 5.5.
    """
    season, steps = cases.task.season, np.arange(cases.task.horizon)
    pasts = [filled(case.past).astype(np.float64) for case in cases]
    points = np.stack([past[-season:][steps % season] for past in pasts])
    widths = np.array([_spread(past, cases) for past in pasts])[:, None] * np.sqrt(
        1 + steps // season
    )
    normal = np.array([NormalDist().inv_cdf(level) for level in LEVELS])
    return points[:, None] + normal[:, None] * widths[:, None]


def _spread(past: NDArray[np.float64], cases: Cases) -> float:
    """The root mean square of the seasonal differences that the benchmark's naive goes by."""
    known = BENCHMARKS[cases.task.benchmark].naive_past
    if known == 0:
        return 0.0
    past = past if known is None else past[-known:]
    change = past[cases.task.season :] - past[: -cases.task.season]
    return float(np.sqrt(np.nansum(np.square(change)) / len(change)))
