"""Forecasts of any predictor of gluonts, asked for and checked, one for each case.

What evaluates forecasts in gluonts takes them as they come, if there are too few of them, too, or
if they are in another order. Here each one must be of its own case, and whole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.zero_shot.cases import Case, Cases
from harness.zero_shot.predictors import Entry, Forecast, Predictor
from harness.zero_shot.scores import LEVELS


def entries(cases: Cases) -> list[Entry]:
    """The pasts of all cases, as gluonts has series; nothing of any future is in them."""
    return [
        {"item_id": case.item.name, "start": case.item.start, "target": case.past.copy()}
        for case in cases
    ]


def ask(predictor: Predictor, cases: Cases) -> NDArray[np.float64]:
    """The forecasts of a predictor [case, level, step], at all of :data:`LEVELS`.

    Raises:
        ValueError: too few or too many forecasts, one of another item or start than is its turn,
            one of another length, or a value that is NaN or infinite. Names the first such case.
    """
    who = f"{type(predictor).__name__} on {cases.task}"
    given = iter(predictor.predict(entries(cases)))
    quantiles = np.empty((len(cases), len(LEVELS), cases.task.horizon))
    for number, case in enumerate(cases):
        forecast = next(given, None)
        if forecast is None:
            raise ValueError(
                f"{who}: {number} forecasts for {len(cases)} cases; the first without is {case}"
            )
        _require_its_turn(who, number, case, forecast)
        quantiles[number] = _quantiles(who, case, forecast)
    if next(given, None) is not None:
        raise ValueError(f"{who}: more forecasts than the {len(cases)} cases")
    return quantiles


def _require_its_turn(who: str, number: int, case: Case, forecast: Forecast) -> None:
    if (forecast.item_id, forecast.start_date) == (case.item.name, case.start):
        return
    raise ValueError(
        f"{who}: forecast {number + 1} is of item {forecast.item_id!r} from "
        f"{forecast.start_date}; {case} is expected, in the order of the cases"
    )


def _quantiles(who: str, case: Case, forecast: Forecast) -> NDArray[np.float64]:
    """All levels of one forecast [level, step], if they are whole."""
    levels = [np.asarray(forecast.quantile(level), dtype=np.float64) for level in LEVELS]
    for level, values in zip(LEVELS, levels, strict=True):
        if values.shape != case.future.shape:
            raise ValueError(
                f"{who}, {case}: a forecast of shape {list(values.shape)}; "
                f"{len(case.future)} steps are needed"
            )
        if len(bad := np.flatnonzero(~np.isfinite(values))):
            raise ValueError(
                f"{who}, {case}: the {level} quantile of step {bad[0] + 1} is {values[bad[0]]}"
            )
    return np.stack(levels)
