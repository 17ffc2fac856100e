"""What is measured: sizes of PatchTST, the task, and the series that all contenders work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness import data
from harness.core.job import Job
from harness.core.task import Architecture, Budget, Task

TASK = Task("ETTh1", look_back=336, horizon=96, patches=21, season=24)
LONG = Task("ETTh1", look_back=512, horizon=96, patches=32, season=24)
BATCH = 128


@dataclass(frozen=True)
class Configuration:
    """A size of PatchTST, and how many ``steps`` and ``windows`` are a round of it.

    ``target``: at least so many times the windows a second of the conventional loop;
    ``target_share``: at least that share of the best matrix-multiply rate.
    """

    architecture: Architecture
    steps: int
    windows: int
    target: float
    target_share: float

    def __str__(self) -> str:
        return f"d{self.architecture.width} ff{self.architecture.feedforward}"

    def job(self, **options: Any) -> Job:  # noqa: ANN401 - fields of a budget
        """Its training, with options of the budget."""
        budget = Budget(**{"batch": BATCH, "steps": self.steps} | options)
        return Job("perf", "patchtst", TASK, 1, architecture=self.architecture, budget=budget)


CONFIGURATIONS = (
    Configuration(Architecture(width=16), steps=3, windows=512, target=2.2, target_share=0.30),
    Configuration(
        Architecture(width=64, heads=8), steps=1, windows=256, target=1.8, target_share=0.55
    ),
    Configuration(
        Architecture(width=128, heads=16, feedforward=256, dropout=0.2),
        steps=1,
        windows=128,
        target=1.8,
        target_share=0.65,
    ),
)


@dataclass(frozen=True)
class Stage:
    """What all contenders share; ``rounds`` is how many rounds count, after the warm-up."""

    series: data.Series
    device: str
    rounds: int


def find_series(directories: Sequence[Path]) -> data.Series:
    """ETTh1, or a random walk of its shape: no time measured here depends on the values."""
    try:
        return data.load(TASK.dataset, directories)
    except FileNotFoundError:
        real = data.entry(TASK.dataset)
        steps = np.random.default_rng(1).standard_normal((real.rows, real.channels))
        return data.Series(
            name=f"a random walk of the shape of {TASK.dataset}",
            values=steps.cumsum(axis=0),
            channels=tuple(map(str, range(real.channels))),
            frequency=real.frequency,
            season=real.season,
            borders=real.borders,
            hash="",
        )
