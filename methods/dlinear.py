"""DLinear: one linear map for the trend and one for the rest. No patches."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from harness import Architecture, Forecast, Forecaster, Task


class DLinear(Forecaster):
    """Splits the look-back into a moving average and the rest; one linear layer forecasts each.

    Source: Zeng et al., AAAI 2023 (arXiv 2205.13504).

    Fidelity: paper. Weights shared by all channels; a window of 25 steps, end values repeated;
    weights that start as the mean of the look-back, as in its published script; the shared
    training budget. ``pace`` is the learning rate as a multiple of the suite's.
    """

    def __init__(
        self, task: Task, architecture: Architecture, *, window: int = 25, pace: float = 1.0
    ) -> None:
        super().__init__(task, architecture)
        self.window, self.pace = window, pace
        self.trend = nn.Linear(task.look_back, task.horizon)
        self.rest = nn.Linear(task.look_back, task.horizon)
        for layer in (self.trend, self.rest):
            nn.init.constant_(layer.weight, 1 / task.look_back)

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return super().parameter_groups(self.pace * learning_rate)

    def forward(
        self,
        past: Float[Tensor, "batch channel time"],
        ids: Int[Tensor, "batch channel"],
        truth: Bool[Tensor, "batch time"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Forecast:
        before = (self.window - 1) // 2
        padded = functional.pad(past, (before, self.window - 1 - before), mode="replicate")
        trend = functional.avg_pool1d(padded, self.window, stride=1)
        return Forecast((self.trend(trend) + self.rest(past - trend))[None])
