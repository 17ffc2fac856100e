"""Leaderboards made up by chance: what the statistics say where the truth is known.

``python -m harness simulate`` measures the large version, in a few minutes on one core:
``results/calibration.csv`` says how often an interval holds the truth, how often a table has a
false win, how often a cell is bold that should not be, and whether a gain is found as often as
:mod:`harness.report.power` foretells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy import stats

from harness.core.files import write_text
from harness.report import statistics
from harness.report.percent import MARGIN
from harness.report.power import gain_found
from harness.report.statistics import CONTROLS, LEVEL

# table: a made-up leaderboard. method: the controls, then the candidates, which are held to them.
Errors = Float[np.ndarray, "table method dataset horizon seed"]
Means = Float[np.ndarray, "table candidate dataset"]
Found = Bool[np.ndarray, "table candidate"]
Rule = Callable[[Errors], Found]
Ends = Callable[[Float[np.ndarray, "dataset candidate"]], tuple[np.ndarray, np.ndarray]]

NORMAL, HEAVY, SKEWED = "normal", "heavy", "skewed"
TAILS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    NORMAL: lambda source, shape: source.standard_normal(shape),
    HEAVY: lambda source, shape: source.standard_t(3, shape) / np.sqrt(3),
    SKEWED: lambda source, shape: source.standard_exponential(shape) - 1,
}


@dataclass(frozen=True)
class World:
    """What logarithms of errors are made of; sizes in hundredths, which are percent nearly.

    ``spread`` is the standard deviation over data sets of the true difference between two methods,
    ``noise`` that of a method's error over seeds, half of whose variance all horizons of a data
    set share. Equal patches have a noise of 0.4 to 0.6 on ETTh1 (rows of ``ltsf_full``).
    ``uneven`` is the standard deviation of the logarithm of a data set's scale, by which spread
    and noise are multiplied. ``rare_losses`` leaves the spread to the methods alone, so that with
    skewed tails what one gains on most data sets it loses on few. All methods are held to the
    same runs of a control, whose noise their differences share.
    """

    methods: int = 12
    datasets: int = 7
    horizons: int = 4
    seeds: int = 5
    spread: float = 0.5
    noise: float = 0.6
    tails: str = NORMAL
    uneven: float = 0.0
    rare_losses: bool = False

    def errors(self, tables: int, source: np.random.Generator) -> Errors:
        """MSE of the controls, in their order, and of the methods: none is better than another."""
        places = (tables, len(CONTROLS) + self.methods, self.datasets, 1, 1)
        own = self.spread / np.sqrt(2) * TAILS[self.tails](source, places)
        if self.rare_losses:
            own[:, : len(CONTROLS)] = 0
        shared = source.standard_normal((*places[:4], self.seeds))
        single = source.standard_normal((*places[:3], self.horizons, self.seeds))
        scale = np.exp(self.uneven * source.standard_normal((tables, 1, self.datasets, 1, 1)))
        return np.exp(scale * (own + self.noise * (shared + single) / np.sqrt(2)) / 100)


WORLDS = {
    "plain": World(),
    "seed noise only": World(spread=0.0),
    "large spread": World(spread=2.0),
    "heavy tails": World(spread=1.0, tails=HEAVY),
    "skewed": World(spread=1.0, tails=SKEWED),
    "uneven data sets": World(uneven=0.8),
    "heavy tails, uneven": World(spread=1.0, tails=HEAVY, uneven=0.8),
    "5 data sets": World(datasets=5),
    "12 data sets": World(datasets=12),
    "30 methods": World(methods=30),
    "3 seeds, much noise": World(seeds=3, noise=3.0),
    "little noise": World(noise=0.1),
    "rare losses": World(spread=1.0, tails=SKEWED, rare_losses=True),
}
"""The last one breaks what is assumed, to show how much that matters."""


def rows(errors: Errors) -> pd.DataFrame:
    """The errors as rows of a ledger; each table is a track, because tracks are never mixed."""
    methods = [*CONTROLS, *map(str, range(errors.shape[1] - len(CONTROLS)))]
    axes = ["look_back", "method", "dataset", "horizon", "seed"]
    places = np.indices(errors.shape).reshape(len(axes), -1)
    table = pd.DataFrame(dict(zip(axes, places, strict=True)))
    return table.assign(
        method=np.array(methods)[table.method],
        dataset=table.dataset.astype(str),
        mse=errors.ravel(),
        patches=8,
        kind="patcher",
        ranked=True,
        failed=False,
        hyperparameters="{}",
    )


def against(errors: Errors, control: int) -> Means:
    """The candidates' log ratios to a control, by data set."""
    return np.log(errors[:, len(CONTROLS) :] / errors[:, [control]]).mean(axis=(3, 4))


def p_value(
    values: Float[np.ndarray, "table candidate unit"],
) -> Float[np.ndarray, "table candidate"]:
    """Of the t-test that the mean over units, data sets or cells, is 0."""
    return stats.ttest_1samp(values, 0, axis=2).pvalue


def holm(p: Float[np.ndarray, "table candidate"]) -> Float[np.ndarray, "table candidate"]:
    """Holm's correction within each table."""
    order = p.argsort(axis=1)
    steps = np.take_along_axis(p, order, axis=1) * np.arange(p.shape[1], 0, -1)
    corrected = np.maximum.accumulate(steps, axis=1).clip(max=1)
    return np.take_along_axis(corrected, order.argsort(axis=1), axis=1)


def better(errors: Errors) -> Found:
    """The rule of :func:`harness.report.statistics.verdicts` for "better", for many tables."""
    means = [against(errors, control) for control in range(len(CONTROLS))]
    changes = np.stack([mean.mean(axis=2) for mean in means])
    p = np.stack([p_value(mean) for mean in means])
    hardest = np.where(changes < 0, p, 1).max(axis=0)
    return (holm(hardest) < LEVEL) & (changes <= -MARGIN).all(axis=0)


# What others do


def percentile(means: Float[np.ndarray, "dataset candidate"]) -> tuple[np.ndarray, np.ndarray]:
    """The percentile bootstrap over data sets as it comes."""
    many = len(means)
    draw = np.random.default_rng(0).multinomial(many, [1 / many] * many, 2000) / many
    low, high = np.quantile(draw @ means, [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    return low, high


def uncorrected(errors: Errors) -> Found:
    """A t-test over data sets for each method, as if there were no other."""
    means = against(errors, 0)
    return (p_value(means) < LEVEL) & (means.mean(axis=2) < 0)


def pooled(errors: Errors) -> Found:
    """t-tests over cells as if these were independent, with Holm's correction over methods."""
    cells = np.log(errors).mean(axis=4).reshape(*errors.shape[:2], -1)
    deltas = cells[:, len(CONTROLS) :] - cells[:, :1]
    return (holm(p_value(deltas)) < LEVEL) & (deltas.mean(axis=2) < 0)


# Measuring


def coverage(world: World, tables: int, ends: Ends = statistics.interval) -> float:
    """How often an interval of 95 % holds the true change of one method, which is 0."""
    errors = replace(world, methods=1).errors(tables, np.random.default_rng(1))
    low, high = ends(against(errors, 0)[:, 0].T)
    return float(((low <= 0) & (high >= 0)).mean())


def false_wins(world: World, tables: int, rule: Rule = better) -> float:
    """The share of tables in which some method is found better although none is.

    The other controls are 5 % worse than the reference: then it alone stands between a method and
    a win, which is the worst case.
    """
    errors = world.errors(tables, np.random.default_rng(2))
    errors[:, 1 : len(CONTROLS)] *= 1.05
    return float(rule(errors).any(axis=1).mean())


def false_bold(world: World, tables: int) -> float:
    """How often a method is bold on a task that is worse than the best one by the smallest effect.

    The share of all such methods, of which every one is exactly that much worse; who has the least
    error that a cell shows is left out, as bold says nothing of it.
    """
    alone = replace(world, datasets=1, horizons=1, spread=0.0)
    errors = alone.errors(tables, np.random.default_rng(4))[:, len(CONTROLS) :, 0, 0]
    errors[:, 1:] *= np.exp(MARGIN)
    best = errors.mean(axis=2).argmin(axis=1)
    ratios = np.log(errors / errors[np.arange(tables), best][:, None])
    p = statistics.equivalence(ratios.reshape(-1, world.seeds).T).reshape(tables, world.methods)
    is_worse = np.ones(p.shape, bool)
    is_worse[:, 0] = is_worse[np.arange(tables), best] = False
    return float((p < LEVEL)[is_worse].mean())


def found(world: World, gain: float, tables: int, *, alike: bool) -> float:
    """How often a method with a true ``gain``, a logarithm, is called better.

    The controls are ``alike``, or all but the reference are 5 % worse, so that it alone decides.
    """
    errors = world.errors(tables, np.random.default_rng(3))
    if not alike:
        errors[:, 1 : len(CONTROLS)] *= 1.05
    errors[:, len(CONTROLS)] *= np.exp(-gain)
    return float(better(errors)[:, 0].mean())


def foretold(world: World, tables: int, *, alike: bool) -> float:
    """How often the gain is found of which :mod:`harness.report.power` says 80 %.

    It is told the true spread of a method's gains over data sets.
    """
    spread = against(world.errors(tables, np.random.default_rng(5)), 0).std()
    gain = gain_found(float(spread), world.datasets, world.methods)
    return found(world, gain, tables, alike=alike)


def calibration(tables: int) -> pd.DataFrame:
    """Coverage, false wins, false bold and gains found, by world, also of what does not ship."""
    measures: dict[str, Callable[[World], float]] = {
        "coverage": lambda world: coverage(world, tables),
        "coverage, plain percentiles": lambda world: coverage(world, tables, percentile),
        "false wins": lambda world: false_wins(world, tables),
        "false wins, uncorrected": lambda world: false_wins(world, tables, uncorrected),
        "false wins, cells pooled": lambda world: false_wins(world, tables, pooled),
        "false bold": lambda world: false_bold(world, tables),
        "found, 80 % foretold": lambda world: foretold(world, tables, alike=False),
        "found, all controls alike": lambda world: foretold(world, tables, alike=True),
    }
    shares = [
        (name, what, measure(world))
        for name, world in WORLDS.items()
        for what, measure in measures.items()
    ]
    return with_error(pd.DataFrame(shares, columns=["world", "measure", "share"]), tables)


def with_error(table: pd.DataFrame, tables: int) -> pd.DataFrame:
    """The same with the Monte-Carlo standard error of the share, and the number of tables."""
    spread = np.sqrt(table.share * (1 - table.share) / tables)
    return table.assign(error=spread, tables=tables)


def main(results: Path, tables: int = 4000) -> Path:
    """Measure all of it and write ``calibration.csv``, whose path is returned.

    ``tables`` made-up leaderboards stand behind every number.
    """
    path = results / "calibration.csv"
    text = calibration(tables).to_csv(index=False, float_format="%.4g", lineterminator="\n")
    write_text(path, text)
    return path
