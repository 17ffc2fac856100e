"""Forecasts of predictors: each checked before it is scored, and predictors by import path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_cases import TASK, Spread, item, small_cases

from harness.zero_shot.cases import cut
from harness.zero_shot.forecasts import ask, entries
from harness.zero_shot.gate import seasonal_naive
from harness.zero_shot.predictors import Entry, Predictor, QuantileForecast, make
from harness.zero_shot.scores import LEVELS, MEDIAN, score

NAIVE = "gluonts.model.seasonal_naive:SeasonalNaivePredictor"
CLASSICAL = "harness.zero_shot.classical:Classical"


class Altered(Spread):
    """Spread, with something done to its list of forecasts."""

    def __init__(self, alter: Callable[[list[Any]], object]) -> None:
        super().__init__(TASK.horizon)
        self.alter = alter

    def predict(self, dataset: Iterable[Entry]) -> Iterator[QuantileForecast]:
        forecasts = list(super().predict(dataset))
        self.alter(forecasts)
        return iter(forecasts)


def drop_last(forecasts: list[Any]) -> None:
    """One too few."""
    del forecasts[-1]


def drop_first(forecasts: list[Any]) -> None:
    """One too few, so that all others are at the wrong place."""
    del forecasts[0]


def repeat_last(forecasts: list[Any]) -> None:
    """One too many."""
    forecasts.append(forecasts[-1])


def swap_items(forecasts: list[Any]) -> None:
    """Two items change places."""
    forecasts[0], forecasts[2] = forecasts[2], forecasts[0]


def swap_windows(forecasts: list[Any]) -> None:
    """Two windows of one item change places."""
    forecasts[0], forecasts[1] = forecasts[1], forecasts[0]


def forget_item(forecasts: list[Any]) -> None:
    """One does not say whose it is."""
    forecasts[5].item_id = None


def set_to(value: float) -> Callable[[list[Any]], None]:
    """One value of one quantile."""

    def alter(forecasts: list[Any]) -> None:
        forecasts[3].forecast_array[2, 1] = value

    return alter


def shorten(forecasts: list[Any]) -> None:
    """One forecast lacks its last step."""
    found = forecasts[4]
    forecasts[4] = QuantileForecast(
        found.forecast_array[:, :-1], found.start_date, found.forecast_keys, found.item_id
    )


def median_only(forecasts: list[Any]) -> None:
    """One forecast has no quantile but the median."""
    found = forecasts[4]
    forecasts[4] = QuantileForecast(
        found.forecast_array[:1], found.start_date, ["0.5"], found.item_id
    )


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (
            drop_last,
            "7 forecasts for 8 cases; the first without is item '3' from 2020-01-01 20:00",
        ),
        (drop_first, "forecast 1 is of item '0' from 2020-01-01 17:00; item '0' from .* 14:00 is"),
        (repeat_last, "more forecasts than the 8 cases"),
        (swap_items, "forecast 1 is of item '1' from .*; item '0' from .* is expected"),
        (swap_windows, "forecast 1 is of item '0' from 2020-01-01 17:00"),
        (forget_item, "forecast 6 is of item None"),
        (set_to(np.nan), "item '1' from 2020-01-01 18:00: the 0.3 quantile of step 2 is nan"),
        (set_to(-np.inf), "the 0.3 quantile of step 2 is -inf"),
        (shorten, r"item '2' from 2020-01-01 16:00: a forecast of shape \[2\]; 3 steps"),
        (median_only, "item '2' from 2020-01-01 16:00: the 0.1 quantile of step 1 is nan"),
    ],
)
def test_forecasts_that_are_not_whole_or_not_in_order_are_refused(
    alter: Callable[[list[Any]], object], message: str
) -> None:
    """Each mistake is one line that names predictor, task and the first case concerned."""
    cases = small_cases()
    with pytest.raises(ValueError, match=message) as refusal:
        ask(Altered(alter), cases)
    assert str(refusal.value).startswith("Altered on gift-eval/tiny")
    assert "\n" not in str(refusal.value)


def test_no_predictor_sees_a_future() -> None:
    """What it is given ends where its forecast begins, and is its own to spoil."""
    cases = small_cases()
    given = entries(cases)
    assert [entry["start"] + len(entry["target"]) for entry in given] == [
        case.start for case in cases
    ]
    given[0]["target"][:] = 0
    assert (cases.cases[0].past != 0).all()
    assert cases.cases[0].past.base is not given[0]["target"].base


def test_the_seasonal_naive_of_gluonts_is_ours() -> None:
    """By import path, with horizon and season of the task: the same points to the digit."""
    cases = small_cases("chronos-II")
    np.testing.assert_array_equal(ask(make(NAIVE, cases.task), cases), seasonal_naive(cases))
    spread = seasonal_naive(small_cases("gift-eval"))
    np.testing.assert_array_equal(spread[:, MEDIAN], seasonal_naive(cases)[:, MEDIAN])


@pytest.mark.parametrize("model", ["theta", "ets"])
def test_classical_models_of_sktime_forecast(model: str) -> None:
    """Quantiles in order, better than the seasonal naive on a trend with a season, gap or not."""
    steps = np.arange(60.0)
    noise = np.random.default_rng(0).normal(size=60)
    values = steps + np.tile([0.0, 3.0, 9.0, 3.0], 15) + 0.5 * noise
    values[7] = np.nan
    cases = cut(TASK, [item(values), item(np.full(60, 2.0) + (steps < 4), "flat at its end")])
    predictor = make(CLASSICAL, cases.task, {"model": model, "context": 48})
    quantiles = ask(predictor, cases)
    assert (np.diff(quantiles, axis=1) >= 0).all()
    first = quantiles[:2]
    moving = cut(TASK, [item(values)])
    assert score(moving, first).mase < 0.7 * score(moving, seasonal_naive(moving)).mase
    assert (quantiles[2:] == 2).all()


def test_classical_models_use_the_season_where_there_are_two(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A past of less than two seasons, or a season too long for ETS, is fitted without."""
    from harness.zero_shot import classical

    seen: list[int] = []
    for model in ("theta", "ets"):
        monkeypatch.setitem(classical._MODELS, model, lambda season: _Flat(seen, season))
        for season, length in ((4, 7), (4, 8), (24, 60), (25, 60)):
            found = classical.Classical(prediction_length=2, season_length=season, model=model)
            past = np.arange(float(length))
            found.forecast({"start": pd.Period("2020", "h"), "item_id": "a", "target": past})
    assert seen == [1, 4, 24, 25, 1, 4, 24, 1]


class _Flat:
    """A forecaster as sktime has them, that knows nothing."""

    def __init__(self, seen: list[int], season: int) -> None:
        seen.append(season)

    def fit(self, past: np.ndarray, fh: np.ndarray) -> _Flat:
        return self

    def predict_quantiles(self, fh: np.ndarray, alpha: list[float]) -> pd.DataFrame:
        return pd.DataFrame(np.zeros((len(fh), len(alpha))))


def no_predictor(prediction_length: int) -> object:
    """Something that can be made, but cannot forecast."""
    return object()


def any_options(**options: object) -> Predictor:
    """A function that makes a predictor, and takes whatever it is given."""
    return Spread(len(options))


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("gluonts.model", {}, "'gluonts.model' is no import path; 'package.module:Class'"),
        ("no_such.place:Model", {}, "module 'no_such.place' cannot be imported"),
        (
            "gluonts.model.seasonal_naive:SeasonalNaive",
            {},
            "no class or function 'SeasonalNaive'; did you mean 'SeasonalNaivePredictor'",
        ),
        ("test_forecasts:no_predictor", {}, "makes a object, which is no predictor of gluonts"),
        (NAIVE, {"season": 3}, "unknown option 'season'; did you mean 'season_length'"),
        (NAIVE, {"season_length": "x"}, "cannot be made with .*'season_length': 'x'"),
        (CLASSICAL, {"model": "arima"}, "cannot be made with .*'arima'"),
        ("gluonts.model.npts:NPTSPredictor", {"kernel_type": "x"}, "cannot be made with"),
    ],
)
def test_a_predictor_that_cannot_be_made_is_named(
    path: str, options: dict[str, object], message: str
) -> None:
    """In one line: no module, no class, no predictor, or options it does not take."""
    with pytest.raises(ValueError, match=message) as refusal:
        make(path, TASK, options)
    assert "\n" not in str(refusal.value)
    assert path in str(refusal.value)


def test_options_of_the_user_come_first() -> None:
    """They override what the task says; a function may make the predictor, too."""
    assert make(NAIVE, TASK, {"season_length": 1}).season_length == 1
    assert make("test_forecasts:any_options", TASK, {"a": 1, "b": 2}).prediction_length == 2
    assert len(LEVELS) == 9
