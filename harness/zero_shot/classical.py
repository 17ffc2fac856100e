"""Classical models of sktime as predictors: the context of the learned ones."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.words import unknown
from harness.data import filled
from harness.zero_shot.predictors import Entry, Predictor, QuantileForecast
from harness.zero_shot.scores import LEVELS

Array = NDArray[np.float64]


class Classical(Predictor):  # type: ignore[misc]  # gluonts has no annotations
    """Theta or AutoETS of sktime, fitted to the end of each past.

    ``model`` is "theta" or "ets"; ``context`` is the most steps that it is fitted to. The season
    counts where the past holds two of it, for "ets" only up to 24 steps, since its states are as
    many. Gaps are filled with the value before them. A past that is constant is forecast by its
    constant.
    """

    def __init__(
        self,
        prediction_length: int,
        season_length: int,
        model: str = "theta",
        context: int = 512,
    ) -> None:
        super().__init__(prediction_length=prediction_length)
        if model not in _MODELS:
            raise ValueError(unknown("classical model", model, _MODELS))
        self.model, self.season_length, self.context = model, season_length, context

    def predict(self, dataset: Iterable[Entry]) -> Iterator[QuantileForecast]:
        yield from map(self.forecast, dataset)

    def forecast(self, item: Entry) -> QuantileForecast:
        """That of one series."""
        target = item["target"]
        past = filled(target).astype(np.float64)
        past = past[np.isfinite(past)][-self.context :]
        if past.min() == past.max():
            quantiles = np.full((len(LEVELS), self.prediction_length), past[0])
        else:
            quantiles = self._fitted(past)
        return QuantileForecast(
            forecast_arrays=quantiles,
            forecast_keys=[str(level) for level in LEVELS],
            start_date=item["start"] + len(target),
            item_id=item["item_id"],
        )

    def _fitted(self, past: Array) -> Array:
        longest = min(_LONGEST_SEASON.get(self.model, len(past)), len(past) // 2)
        season = self.season_length if self.season_length <= longest else 1
        steps = np.arange(1, self.prediction_length + 1)
        with warnings.catch_warnings():
            # Optimisers that stop early, and what sktime says of its own coming versions.
            warnings.simplefilter("ignore")
            fitted = _MODELS[self.model](season).fit(past, fh=steps)
            return fitted.predict_quantiles(fh=steps, alpha=list(LEVELS)).to_numpy().T


def _theta(season: int) -> Any:  # noqa: ANN401 - sktime has no annotations
    from sktime.forecasting.theta import ThetaForecaster  # here and below: seconds
    from sktime.transformations.series.detrend import Deseasonalizer

    # Additive: the usual multiplicative way needs positive values.
    return ThetaForecaster(
        deseasonalize=season > 1 and Deseasonalizer(sp=season, model="additive")
    )


def _ets(season: int) -> Any:  # noqa: ANN401 - as above
    from sktime.forecasting.ets import AutoETS

    # Additive again; the intervals of the other models are simulated, for which this sktime calls
    # statsmodels with an argument that it does not know.
    return AutoETS(auto=True, additive_only=True, sp=season)


_MODELS = {"theta": _theta, "ets": _ets}
_LONGEST_SEASON = {"ets": 24}
