"""Scores of forecasts by the three rules of the benchmarks.

- fev-bench: SQL, MASE and WAPE of each window and variable, then their mean.
- chronos-II: MASE and WQL over all series, of which each has one window.
- gift-eval: MASE and CRPS over one pool of items, windows and steps. What it calls CRPS is the
  quantile loss divided by the mean size of what came true, which is WQL.

Values that are missing, and cases without a scale, are masked: left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.zero_shot.cases import Cases
from harness.zero_shot.tasks import BENCHMARKS

Array = NDArray[np.float64]

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of the quantiles that every forecast has."""

MEDIAN = LEVELS.index(0.5)

MOST_MASKED = 0.05
"""Share of the cases of a task with masked values beyond which its scores are flagged."""


@dataclass(frozen=True)
class Scores:
    """How good the forecasts of a task are; lower is better.

    ``quantile`` is SQL, WQL or CRPS, as ``metric`` says. ``wape`` is None where the benchmark has
    none, and where it is undefined: a variable is 0 throughout a window. ``masked`` of all
    ``cases`` have a value that could not be scored.
    """

    mase: float
    metric: str
    quantile: float
    wape: float | None
    cases: int
    masked: int

    @property
    def flagged(self) -> bool:
        """More than five in a hundred cases were masked, in part or as a whole."""
        return self.masked > MOST_MASKED * self.cases


@dataclass(frozen=True, eq=False)
class Losses:
    """Losses of each case and step, NaN where what came true is missing.

    ``absolute`` [case, step] is |error| of the median; ``quantile`` [case, step] twice the pinball
    loss, the mean over levels; ``size`` [case, step] is |value|; ``scale`` [case, 1] is the mean
    absolute seasonal difference of the past, NaN where there is none or it is 0.
    """

    absolute: Array
    quantile: Array
    size: Array
    scale: Array

    def of(self, chosen: NDArray[np.bool_]) -> Losses:
        """Those of some cases."""
        return Losses(
            self.absolute[chosen], self.quantile[chosen], self.size[chosen], self.scale[chosen]
        )

    @property
    def masked(self) -> int:
        """Cases with a value that cannot be scored."""
        return int(np.isnan(self.absolute / self.scale).any(1).sum())

    @property
    def mase(self) -> float:
        return _mean(self.absolute / self.scale)

    @property
    def sql(self) -> float:
        return _mean(self.quantile / self.scale)

    @property
    def wql(self) -> float:
        return _ratio(_mean(self.quantile), _mean(self.size))

    @property
    def wape(self) -> float:
        return _ratio(_mean(self.absolute), _mean(self.size))


def losses(cases: Cases, quantiles: Array) -> Losses:
    """The losses of forecasts ``quantiles`` [case, level, step], at all of :data:`LEVELS`.

    Raises:
        ValueError: forecasts of another shape, or that are no numbers.
    """
    truth = cases.futures
    expected = (len(truth), len(LEVELS), truth.shape[1])
    if quantiles.shape != expected:
        raise ValueError(
            f"{cases.task}: forecasts [case, level, step] of shape {list(expected)} are needed, "
            f"not {list(quantiles.shape)}"
        )
    if not np.isfinite(quantiles).all():
        # They would be masked like a value that is missing, and so cost nothing.
        raise ValueError(f"{cases.task}: forecasts are NaN or infinite")
    error = truth[:, None] - quantiles
    level = np.array(LEVELS)[:, None]
    pinball = np.maximum(level * error, (level - 1) * error)
    scale = np.array([seasonal_scale(case.past, cases.task.season) for case in cases])
    return Losses(
        absolute=np.abs(error[:, MEDIAN]),
        quantile=2 * pinball.mean(1),
        size=np.abs(truth),
        scale=scale[:, None],
    )


def score(cases: Cases, quantiles: Array) -> Scores:
    """The scores of a task by the rule of its benchmark; shapes as in :func:`losses`.

    Raises:
        ValueError: forecasts of another shape, or nothing that could be scored.
    """
    found = losses(cases, quantiles)
    if cases.task.benchmark == "fev-bench":
        pools = [found.of(chosen) for chosen in _windows_and_channels(cases)]
        quantile, wape = [pool.sql for pool in pools], _mean_of([pool.wape for pool in pools])
    else:
        pools, quantile, wape = [found], [found.wql], None
    mase, loss = _mean_of([pool.mase for pool in pools]), _mean_of(quantile)
    if mase is None or loss is None:
        raise ValueError(f"{cases.task}: nothing of a window can be scored, all is masked or 0")
    return Scores(
        mase=mase,
        metric=BENCHMARKS[cases.task.benchmark].quantile_metric,
        quantile=loss,
        wape=wape,
        cases=len(cases),
        masked=found.masked,
    )


def seasonal_scale(past: NDArray[np.float32], season: int) -> float:
    """The mean absolute difference over a season of a past [time], or NaN if it is 0."""
    past = past.astype(np.float64)
    scale = _mean(np.abs(past[season:] - past[:-season]))
    return scale if scale > 0 else np.nan


def _windows_and_channels(cases: Cases) -> Iterator[NDArray[np.bool_]]:
    """Which cases are of one window and one variable."""
    windows = np.array([case.window for case in cases])
    channels = np.array([case.item.channel for case in cases])
    for window in np.unique(windows):
        for channel in np.unique(channels):
            yield (windows == window) & (channels == channel)


def _mean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def _ratio(loss: float, size: float) -> float:
    return loss / size if size > 0 else np.nan


def _mean_of(scores: list[float]) -> float | None:
    """The mean over pools; None where one of them has no score."""
    return None if np.isnan(scores).any() else float(np.mean(scores))
