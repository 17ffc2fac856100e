"""Theta through sktime: the classical reference of forecasting competitions."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness import Architecture, Forecast, Forecaster, Task


class Theta(Forecaster):
    """Fits sktime's ``ThetaForecaster`` to each look-back, row by row: slow, for small sets.

    Source: Assimakopoulos & Nikolopoulos 2000, as the simple exponential smoothing with drift of
    Hyndman & Billah 2003.

    Fidelity: code, of sktime. Where the look-back holds two seasons, the season is removed first:
    additively, because the usual multiplicative way needs positive values, which standardised
    values are not.
    """

    def __init__(self, task: Task, architecture: Architecture) -> None:
        super().__init__(task, architecture)
        # Imported here: no other method needs it, and it takes seconds.
        from sktime.forecasting.theta import ThetaForecaster
        from sktime.transformations.series.detrend import Deseasonalizer

        seasonal = 1 < task.season <= task.look_back // 2
        with warnings.catch_warnings():
            # sktime will soon not keep the series it was fitted to, which is not used here.
            warnings.filterwarnings("ignore", "The default of config ``remember_data``")
            self._model = ThetaForecaster(
                deseasonalize=seasonal and Deseasonalizer(sp=task.season, model="additive")
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
            # A flat look-back makes the smoother's optimiser complain; its forecast is still flat.
            warnings.simplefilter("ignore")
            futures = [self._model.fit(row, fh=steps).predict().ravel() for row in rows]
        future = torch.from_numpy(np.stack(futures)).to(past)
        return Forecast(future.view(*past.shape[:2], -1)[None])
