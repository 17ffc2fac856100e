"""A small corpus of waves, and a forecaster pre-trained on it for a moment."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.core.task import Architecture, Budget, Task
from harness.data import Pool
from harness.model.patcher import Patcher
from harness.run.pretrain import Pretrained, pretrain
from methods.uniform import Uniform

TINY = Architecture(width=16, layers=1, heads=2, feedforward=32, dropout=0.0)
TASK = Task("waves", look_back=512, horizon=64, patches=32)
BUDGET = Budget(epochs=3, steps=2, batch=8, valid_windows=12, learning_rate=3e-3, warmup=0.05)


def pools(series: int = 21, steps: int = 900) -> list[Pool]:
    """Noisy waves of different periods; the last series is held out."""
    generator, clock = np.random.default_rng(0), np.arange(steps)
    waves = tuple(
        (np.sin(2 * np.pi * clock / (8 + number)) + 0.1 * generator.normal(size=steps)).astype(
            np.float32
        )
        for number in range(series)
    )
    return [Pool("waves", 1.0, tuple(map(str, range(series))), waves)]


def pretrained(method: type[Patcher] = Uniform, **changes: Any) -> Pretrained:  # noqa: ANN401 - what pretrain takes
    """A few steps on the waves."""
    usual = {"task": TASK, "budget": BUDGET, "architecture": TINY, "seed": 1}
    return pretrain(method, pools(), **{**usual, **changes})
