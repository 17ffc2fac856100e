"""Small zero-shot tasks, cases and predictors for tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.zero_shot.cases import Cases, cut
from harness.zero_shot.predictors import Entry, Predictor, QuantileForecast
from harness.zero_shot.recipes import Item
from harness.zero_shot.scores import LEVELS
from harness.zero_shot.tasks import BenchmarkName, ZeroShotTask

TASK = ZeroShotTask(
    benchmark="gift-eval",
    task="tiny",
    files="tiny.parquet",
    recipe="as_it_is",
    frequency="h",
    horizon=3,
    windows=2,
    season=4,
    tail=6,
    naive_mase=1.0,
    naive_quantile=1.0,
)


def item(values: NDArray[np.floating], name: str = "a", channel: str = "target") -> Item:
    """A series that begins with the year 2020."""
    return Item(name, channel, pd.Period("2020-01-01", "h"), values.astype(np.float32))


def small_cases(benchmark: BenchmarkName = "gift-eval", *, gaps: bool = False) -> Cases:
    """Cases of four series, two of each variable, of which one has values that are missing."""
    generator = np.random.default_rng(0)
    items = [
        item(5 + generator.normal(size=20 + number), f"{number}", "even" if number % 2 else "odd")
        for number in range(4)
    ]
    if gaps:
        items[1].values[[3, 4, -2]] = np.nan  # two of a past, one of a future
    return cut(replace(TASK, benchmark=benchmark), items)


class Spread(Predictor):  # type: ignore[misc]  # gluonts has no annotations
    """Nine quantiles around the last value: a draw, which depends on the entry alone."""

    def __init__(self, prediction_length: int) -> None:
        super().__init__(prediction_length=prediction_length)

    def predict(self, dataset: Iterable[Entry]) -> Iterator[QuantileForecast]:
        for number, entry in enumerate(dataset):
            draws = np.random.default_rng(number).normal(
                size=(len(LEVELS), self.prediction_length)
            )
            known = entry["target"][np.isfinite(entry["target"])]
            yield QuantileForecast(
                forecast_arrays=np.sort(known[-1] + draws, axis=0),
                forecast_keys=[str(level) for level in LEVELS],
                start_date=entry["start"] + len(entry["target"]),
                item_id=entry["item_id"],
            )
