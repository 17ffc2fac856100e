"""Repeat the last season: the reference of the skill score."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness import Forecast, Forecaster


class SeasonalNaive(Forecaster):
    """Repeats the last season of the look-back, or the last value if the season is longer.

    Source: the seasonal naive method, as in Hyndman and Athanasopoulos, Forecasting: Principles
    and Practice.

    Fidelity: paper. The same numbers as sktime's ``NaiveForecaster(strategy="last", sp=season)``,
    as a test proves. It is written as one gather because every table needs it for every window: a
    fit for each row takes minutes, this takes milliseconds.
    """

    def forward(
        self,
        past: Float[Tensor, "batch channel time"],
        ids: Int[Tensor, "batch channel"],
        truth: Bool[Tensor, "batch time"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Forecast:
        look_back = past.shape[-1]
        season = self.task.season if self.task.season <= look_back else 1
        ahead = torch.arange(self.task.horizon, device=past.device) % season
        return Forecast(past[..., look_back - season + ahead][None])
