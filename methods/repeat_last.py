"""Repeat the last value: the least a forecaster must beat."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness import Forecast, Forecaster


class RepeatLast(Forecaster):
    """Forecasts that everything stays as it is.

    Source: the naive ``Repeat`` of Zeng et al. (AAAI 2023, arXiv 2205.13504).

    Fidelity: paper.
    """

    def forward(
        self,
        past: Float[Tensor, "batch channel time"],
        ids: Int[Tensor, "batch channel"],
        truth: Bool[Tensor, "batch time"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Forecast:
        return Forecast(past[..., -1:].expand(-1, -1, self.task.horizon)[None])
