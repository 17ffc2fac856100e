"""A small series of two sines, a task on it and a small model: what tests of runs share."""

from __future__ import annotations

import numpy as np
import torch

from harness.core.task import Architecture, Budget, Task
from harness.data import Series
from harness.model.forecaster import PatchForecaster
from harness.model.patcher import Patcher
from methods.uniform import Uniform

TASK = Task("waves", 32, 8, 4, season=8)
SMALL = Architecture(width=8, layers=1, heads=2, feedforward=16, dropout=0.1)
BUDGET = Budget(epochs=3, steps=6, batch=8, learning_rate=5e-3)
SECRET = 12345.0


def waves(steps: int = 400, *, secret: bool = False) -> Series:
    """Two noisy sines; with ``secret`` the whole test part is one telling number."""
    clock = np.arange(float(steps))[:, None]
    values = np.sin(2 * np.pi * clock / np.array([8.0, 16.0]))
    values += 0.1 * np.random.default_rng(0).normal(size=values.shape)
    if secret:
        values[300:] = SECRET
    return Series("waves", values, ("a", "b"), "h", 8, (240, 300, steps), "x")


def build(method: type[Patcher] = Uniform, seed: int = 0) -> PatchForecaster:
    torch.manual_seed(seed)
    patcher = method(TASK)
    torch.manual_seed(seed)
    return PatchForecaster(TASK, SMALL, patcher)
