"""Recipes: how the series of a task are made of the series of its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness import data
from harness.core.words import unknown
from harness.zero_shot.tasks import SourceFile, ZeroShotTask

Stamped = pd.Series  # of float64, by stamp
Recipe = Callable[[Stamped], Stamped]


@dataclass(frozen=True, eq=False)
class Item:
    """One series of a task: ``values`` [time] in float32, as all benchmarks have them.

    ``channel`` is the name of the variable, which several items may have; ``start`` is the period
    of the first value.
    """

    name: str
    channel: str
    start: pd.Period
    values: NDArray[np.float32]


def items(task: ZeroShotTask, folders: Sequence[Path]) -> list[Item]:
    """The series of a task, made of its files as these lie in ``folders``.

    Raises:
        FileNotFoundError: a file is in none of the folders.
        ValueError: a file does not hold what it should.
    """
    if task.recipe not in RECIPES:
        raise ValueError(f"{task}: {unknown('recipe', task.recipe, RECIPES)}")
    recipe, found = RECIPES[task.recipe], []
    for source in task.sources:
        for channel in to_forecast(source, folders):
            clock = pd.DatetimeIndex(channel.stamps.view("datetime64[us]"))
            made = recipe(pd.Series(channel.values, index=clock))
            found.append(
                Item(
                    name=f"{Path(source.file).stem}/{channel.name}",
                    channel=channel.name if channel.is_column else "target",
                    start=pd.Period(made.index[0], freq=task.frequency),
                    values=made.to_numpy(np.float32),
                )
            )
    return found


def to_forecast(source: SourceFile, folders: Sequence[Path]) -> list[data.Channel]:
    """Those series of a file that tasks forecast; errors as of :func:`items`."""
    channels = data.load_panel(source.file, folders, source.pinned)
    return [channel for channel in channels if source.channel in (None, channel.name)]


def as_it_is(series: Stamped) -> Stamped:
    """Nothing is done."""
    return series


def regular_grid(series: Stamped) -> Stamped:
    """Every 10 minutes: of a stamp that occurs twice the first, in the gap NaN, sentinels kept."""
    return series[~series.index.duplicated()].asfreq("10min")


def regular_grid_hourly(series: Stamped) -> Stamped:
    """Hourly means of the regular grid, without the last hour, of which one value is there."""
    return _means(regular_grid(series), "h").iloc[:-1]


def hourly_mean(series: Stamped) -> Stamped:
    """Means over hours, all of which are whole."""
    return _means(series, "h")


def daily_mean(series: Stamped) -> Stamped:
    """Means over days, without the last one, of which a part is missing."""
    return _means(series, "D").iloc[:-1]


def inner_days(series: Stamped) -> Stamped:
    """Means over days, without the first and the last."""
    return _means(series, "D").iloc[1:-1]


def whole_weeks(series: Stamped) -> Stamped:
    """Means over weeks from Monday to Sunday, of daily means; only weeks of seven days."""
    weeks = _means(series, "D").resample("W-SUN")
    return weeks.mean()[weeks.count() == 7]


def thursday_week_mean(series: Stamped) -> Stamped:
    """Means over weeks that end on Thursday, without the last."""
    return _means(series, "W-THU").iloc[:-1]


def tuesday_week_sum(series: Stamped) -> Stamped:
    """Sums over weeks that end on Tuesday, without the last."""
    return series.resample("W-TUE").sum().iloc[:-1]


def monthly_mean(series: Stamped) -> Stamped:
    """Means over months."""
    return _means(series, "MS")


def monthly_sum(series: Stamped) -> Stamped:
    """Sums over months."""
    return series.resample("MS").sum()


def _means(series: Stamped, frequency: str) -> Stamped:
    return series.resample(frequency).mean()


RECIPES: dict[str, Recipe] = {
    recipe.__name__: recipe
    for recipe in (
        *(as_it_is, regular_grid, regular_grid_hourly, hourly_mean, daily_mean, inner_days),
        *(whole_weeks, thursday_week_mean, tuesday_week_sum, monthly_mean, monthly_sum),
    )
}
