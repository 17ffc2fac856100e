"""A small corpus of waves, and a forecaster pre-trained on it for a moment."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.core.task import Architecture
from harness.data import Pool
from harness.model.patcher import Patcher
from harness.run.pretrain import Diet, Pretrained, pretrain
from methods.uniform import Uniform

TINY = Architecture(width=16, layers=1, heads=2, feedforward=32, dropout=0.0)
DIET = Diet(steps=6, batch=8, checks=3, valid_rows=12, learning_rate=3e-3)


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
    return pretrain(method, pools(), **{"seed": 1, "diet": DIET, "architecture": TINY, **changes})
