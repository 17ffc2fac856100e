"""Leaderboards made up by chance: what the statistics say where the truth is known.

``python -m harness simulate`` measures the large version, in a minute or two on one core:
``results/calibration.csv`` says how often an interval holds the truth and how often a table has a
false win, ``results/power.csv`` how often a true gain is called better.
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
from harness.core.protocol import SMALLEST_EFFECT
from harness.report import figures, statistics
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
    """What errors are made of; sizes in percent of the MSE.

    ``spread`` is the standard deviation over data sets of the true difference between two methods,
    ``noise`` that of a method's error over seeds, half of whose variance all horizons of a data
    set share. Equal patches have a noise of 0.4 to 0.6 on ETTh1 (``results/ltsf/uniform.csv``).
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
        return 1 + scale * (own + self.noise * (shared + single) / np.sqrt(2)) / 100


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
    """The candidates' changes against a control, in percent of its error, by data set."""
    return (100 * (errors[:, len(CONTROLS) :] / errors[:, [control]] - 1)).mean(axis=(3, 4))


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
    return (holm(hardest) < LEVEL) & (changes <= -SMALLEST_EFFECT).all(axis=0)


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
    cells = errors.mean(axis=4).reshape(*errors.shape[:2], -1)
    deltas = 100 * (cells[:, len(CONTROLS) :] / cells[:, :1] - 1)
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


def power(world: World, gain: float, tables: int) -> float:
    """How often a method with a true ``gain`` in percent is called better than equal controls."""
    errors = world.errors(tables, np.random.default_rng(3))
    errors[:, len(CONTROLS)] *= 1 - gain / 100
    return float(better(errors)[:, 0].mean())


def calibration(tables: int) -> pd.DataFrame:
    """Coverage and false wins by world: of what ships, and of what does not."""
    measures: dict[str, Callable[[World], float]] = {
        "coverage": lambda world: coverage(world, tables),
        "coverage, plain percentiles": lambda world: coverage(world, tables, percentile),
        "false wins": lambda world: false_wins(world, tables),
        "false wins, uncorrected": lambda world: false_wins(world, tables, uncorrected),
        "false wins, cells pooled": lambda world: false_wins(world, tables, pooled),
    }
    shares = {
        (name, what): measure(world)
        for name, world in WORLDS.items()
        for what, measure in measures.items()
    }
    index = pd.MultiIndex.from_tuples(list(shares), names=["world", "measure"])
    return with_error(pd.DataFrame({"share": list(shares.values())}, index), "share", tables)


GAINS = (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3)
STUDIES = [
    *(World(spread=spread, datasets=sets) for sets in (7, 12) for spread in (0.25, 0.5, 1.0)),
    World(seeds=3),
]


def powers(tables: int) -> pd.DataFrame:
    """Power by study and true effect, in percent of the MSE."""
    shares = {
        (world.datasets, world.seeds, world.methods, world.spread, world.noise, gain): power(
            world, gain, tables
        )
        for world in STUDIES
        for gain in GAINS
    }
    names = ["datasets", "seeds", "methods", "spread", "noise", "effect"]
    index = pd.MultiIndex.from_tuples(list(shares), names=names)
    return with_error(pd.DataFrame({"power": list(shares.values())}, index), "power", tables)


def with_error(table: pd.DataFrame, share: str, tables: int) -> pd.DataFrame:
    """The same with the Monte-Carlo standard error of a share, and the number of tables."""
    spread = np.sqrt(table[share] * (1 - table[share]) / tables)
    return table.assign(error=spread, tables=tables)


def main(results: Path, tables: int = 4000) -> list[Path]:
    """Measure all of it, write the two files and draw the second; returns what is written.

    ``tables`` made-up leaderboards stand behind every number.
    """
    paths = []
    for name, table in (("calibration", calibration(tables)), ("power", powers(tables))):
        paths.append(results / f"{name}.csv")
        text = table.to_csv(float_format="%.4g", lineterminator="\n")
        write_text(paths[-1], text)
    return [*paths, *figures.save(figures.power(pd.read_csv(paths[-1])), results / "power")]
