"""Theta through sktime: the classical reference of forecasting competitions."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.forecaster import Forecast, Forecaster
from harness.task import Architecture, Task


class Theta(Forecaster):
    """Fits sktime's ``ThetaForecaster`` to each look-back, one row at a time; slow, and meant for small sets.

    Source: Assimakopoulos & Nikolopoulos 2000, as the simple exponential smoothing with drift of Hyndman & Billah 2003.
    A season is removed where the look-back holds two of them and sktime can (multiplicative needs positive values:
    standardised ones are not, so the season is removed additively by sktime's ``Deseasonalizer``).
    """

    def __init__(self, task: Task, architecture: Architecture) -> None:
        super().__init__(task, architecture)
        # Imported here: no other method needs it, and it takes seconds.
        from sktime.forecasting.compose import TransformedTargetForecaster
        from sktime.forecasting.theta import ThetaForecaster
        from sktime.transformations.series.detrend import Deseasonalizer

        seasonal = 1 < task.season <= task.look_back // 2
        theta = ThetaForecaster(deseasonalize=False)
        self._model = (
            TransformedTargetForecaster([Deseasonalizer(sp=task.season, model="additive"), theta])
            if seasonal
            else theta
        )

    def forward(
        self,
        past: Float[Tensor, "batch channel time"],
        ids: Int[Tensor, "batch channel"],
        truth: Bool[Tensor, "batch time"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Forecast:
        rows = past.flatten(0, 1).double().cpu().numpy()
        steps = np.arange(1, self.task.horizon + 1)
        with warnings.catch_warnings():
            # A flat look-back makes the smoother's optimiser complain; its forecast is still the flat line.
            warnings.simplefilter("ignore")
            futures = [self._model.clone().fit(row, fh=steps).predict().ravel() for row in rows]
        future = torch.from_numpy(np.stack(futures)).to(past)
        return Forecast(future.view(*past.shape[:2], -1)[None])
