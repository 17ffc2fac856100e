"""What a table can find: the power of its verdicts, from the spread of its own rows."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import optimize, stats

from harness.report import statistics
from harness.report.percent import MARGIN, percent
from harness.report.statistics import EQUAL, LEVEL
from harness.results.table import TASK

OFTEN = 0.8
"""How often a gain is to be found that counts as one that can be found."""
GAINS = (1, 2)
"""Percent: gains whose chance is told."""
_QUANTILES = (np.arange(1000) + 0.5) / 1000


def power(rows: pd.DataFrame) -> pd.DataFrame:
    """A line a look-back: which true gain over equal patches its table would find, and how often.

    ``rows`` as :func:`harness.results.table.charged` gives them. Only judged methods without
    failures count, ``methods`` of them, and their log ratios to ``reference``, the first of
    :data:`harness.report.statistics.EQUAL` that has run:

    - ``datasets``, ``tasks``; ``seeds``, the fewest and the most on a task;
    - ``noise``: their standard deviation over seeds, in percent, of the median method; empty with
      one seed;
    - ``spread``: that of the means of ``unit``, in percent; of the median method. The unit is the
      data set, and its spread holds the noise of seeds. Where there is one data set, the unit is
      the seed, and nothing is known of the spread between sets;
    - ``gain``: percent of the error that a method must save to be told from the reference in 80 %
      of such tables, with the spread of the median method; ``gain_least`` and ``gain_most`` with
      that of the steadiest and of the least steady one;
    - ``chance_1`` and ``chance_2``: how often a true gain of 1 % and 2 % is found.

    Found is what :func:`harness.report.statistics.verdicts` asks for against one control: the
    smallest effect or more, and p < 0.05 in a t-test over units after Holm's correction as if the
    method were the only one that gains. A verdict needs this of all controls, so the chance of
    "better" is less where several are as good as the reference.
    """
    judged = statistics.judged_methods(rows)
    lines = [
        line
        for look_back, track in rows.groupby("look_back")
        if (line := _of_track(track, {method for where, method in judged if where == look_back}))
    ]
    return pd.DataFrame(lines)


def chance(gain: float, spread: float, units: int, tests: int) -> float:
    """How often a true ``gain`` is found, both it and the ``spread`` over units as logarithms.

    ``tests`` methods are judged. Gains of units are taken as normal, so that the mean and the
    deviation that a table shows are independent.
    """
    error = spread / np.sqrt(units)
    if error == 0:
        return float(gain >= MARGIN)
    shown = error * np.sqrt(stats.chi2.ppf(_QUANTILES, units - 1) / (units - 1))
    needed = np.maximum(MARGIN, stats.t.isf(LEVEL / 2 / tests, units - 1) * shown)
    return float(stats.norm.cdf((gain - needed) / error).mean())


def gain_found(spread: float, units: int, tests: int, often: float = OFTEN) -> float:
    """The least true gain, as a logarithm, that is found as often as that."""
    if spread == 0:
        return MARGIN
    # Beyond this a table finds it even with a deviation that is four times the true one.
    error = spread / np.sqrt(units)
    most = MARGIN + error * (4 + 4 * stats.t.isf(LEVEL / 2 / tests, units - 1))
    return float(optimize.brentq(lambda gain: chance(gain, spread, units, tests) - often, 0, most))


def _of_track(track: pd.DataFrame, judged: set[str]) -> dict[str, object]:
    """The line of one look-back; nothing where no method can be held to the reference."""
    reference = next((name for name in EQUAL if name in set(track.method)), "")
    sound = judged - set(track.method[track.failed])
    if not reference or not sound:
        return {}
    pairs = statistics.paired(track, reference)
    pairs = pairs[pairs.method.isin(sound) & np.isfinite(pairs.delta)]
    seeds = pairs.groupby(["method", *TASK]).delta.agg(["var", "size"])
    datasets = pairs.dataset.nunique()
    if datasets > 1:
        means = statistics.by_dataset(pairs)
    else:
        means = pairs.groupby(["look_back", "method", "seed"]).delta.mean()
    units = means.groupby("method").agg(["std", "size"])
    # A method that lacks some of the units would be compared with others on other ones.
    spreads = units["std"][units["size"] == units["size"].max()].dropna()
    if spreads.empty:
        return {}
    many, spread = int(units["size"].max()), float(spreads.median())
    steadiest, median, shakiest = (
        _saved(gain_found(float(each), many, len(judged)))
        for each in (spreads.min(), spread, spreads.max())
    )
    noises = np.sqrt(seeds["var"].groupby("method").mean().dropna())
    return {
        "look_back": int(track.look_back.iloc[0]),
        "reference": reference,
        "methods": len(spreads),
        "datasets": datasets,
        "tasks": len(pairs[TASK].drop_duplicates()),
        "seeds_least": int(seeds["size"].min()),
        "seeds_most": int(seeds["size"].max()),
        "noise": percent(float(noises.median())) if len(noises) else math.nan,
        "unit": "data set" if datasets > 1 else "seed",
        "spread": percent(spread),
        "gain": median,
        "gain_least": steadiest,
        "gain_most": shakiest,
        **{
            f"chance_{gain}": chance(-np.log1p(-gain / 100), spread, many, len(judged))
            for gain in GAINS
        },
    }


def _saved(gain: float) -> float:
    """Percent of the error that a gain, as a logarithm, saves."""
    return -percent(-gain)
