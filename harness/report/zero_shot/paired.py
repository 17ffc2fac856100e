"""Each patcher against equal patches after the same corpus and under the same seed.

A difference is log(error / error of ``uniform``), so that less than 0 is better, and every mean is
over runs with a partner. Neither tasks nor seeds are independent: 22 of the 54 tasks are made of
two transformers, and one pre-training is scored on all of them. So an interval draws source
families with all their tasks, and draws seeds for all families at once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from harness.report.percent import MARGIN
from harness.report.statistics import LEVEL, NO_DIFFERENCE, TIE
from harness.report.zero_shot.rows import ARM, METRICS, logarithms
from harness.results.table import UNIFORM

LESS, MORE = "less error", "more error"
_RESAMPLES = 10_000


def deltas(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each run of a patcher that has a partner: columns called as the metrics.

    Beside them ``corpus``, ``method``, ``task``, ``benchmark``, ``family``, ``seed`` and
    ``failed``. A failed run of ``uniform`` is no partner, or its charge would be a gain of all
    others; a failed run of another patcher keeps its charge.
    """
    own = rows[rows.kind == "patcher"]
    own = own[[*ARM, "task", "benchmark", "family", "seed", "failed"]].join(logarithms(own))
    partners = own[(own.method == UNIFORM) & ~own.failed]
    partners = partners[["corpus", "task", "seed", *METRICS]]
    both = own.merge(partners, on=["corpus", "task", "seed"], suffixes=("", "_uniform"))
    differences = {metric: both[metric] - both[f"{metric}_uniform"] for metric in METRICS}
    kept = [name for name in both if not str(name).endswith("_uniform")]
    return both.assign(**differences)[kept]


def paired(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each corpus, metric and patcher but ``uniform``.

    ``change`` is the mean difference, a logarithm, with the ends ``low`` and ``high`` of its 95 %
    interval and a ``finding`` in words; ``pairs`` runs of ``families`` source families and
    ``seeds`` seeds are what it rests on.
    """
    found: list[dict[str, Any]] = []
    pairs = deltas(rows)
    others = pairs[pairs.method != UNIFORM]
    for (corpus, method), own in others.groupby(ARM):
        for metric in METRICS:
            by = [own.family, own.seed]
            sums = own[metric].groupby(by).sum().unstack(fill_value=0)  # noqa: PD010 - as columns
            counts = own[metric].groupby(by).size().unstack(fill_value=0)  # noqa: PD010 - as above
            change = own[metric].mean()
            low, high = interval(sums.to_numpy(), counts.to_numpy(dtype=float))
            found.append(
                {
                    "corpus": corpus,
                    "metric": metric,
                    "method": method,
                    "change": change,
                    "low": low,
                    "high": high,
                    "finding": finding(change, low, high),
                    "pairs": len(own),
                    "families": len(sums),
                    "seeds": sums.shape[1],
                }
            )
    columns = ["corpus", "metric", "method", "change", "low", "high", "finding", "pairs"]
    return pd.DataFrame(found, columns=[*columns, "families", "seeds"])


def finding(change: float, low: float, high: float) -> str:
    """What an interval of logarithms says, in words; nothing where there is none."""
    if math.isnan(low):
        return ""
    is_sure = low > 0 or high < 0
    if (low > -MARGIN and high < MARGIN) or (is_sure and abs(change) < MARGIN):
        return TIE
    if is_sure:
        return LESS if change < 0 else MORE
    return NO_DIFFERENCE


def interval(
    sums: Float[np.ndarray, "family seed"], counts: Float[np.ndarray, "family seed"]
) -> tuple[float, float]:
    """Both ends of the 95 % interval of a mean over runs, given by their sums and counts.

    Families are drawn anew, and seeds once for all of them. Of few seeds or families too little
    of their spread is left in a resample: deviations of seeds are made larger by
    sqrt(n / (n - 1)), and the percentiles are moved away from the mean as those of
    :func:`harness.report.statistics.interval`. With one seed the interval is of families alone;
    with one family there is none.
    """
    families, seeds = sums.shape
    if families < 2:
        return math.nan, math.nan
    level = counts * (sums.sum(1) / counts.sum(1))[:, None]
    if seeds > 1:
        sums = level + math.sqrt(seeds / (seeds - 1)) * (sums - level)
    generator = np.random.default_rng(0)
    of_families, of_seeds = (
        generator.multinomial(many, [1 / many] * many, _RESAMPLES) for many in (families, seeds)
    )
    totals, sizes = (
        np.einsum("rf,fs,rs->r", of_families, table, of_seeds, optimize=True)
        for table in (sums, counts)
    )
    drawn = totals[sizes > 0] / sizes[sizes > 0]
    centre = float(sums.sum() / counts.sum())
    wider = stats.t.ppf(1 - LEVEL / 2, families - 1) / stats.norm.ppf(1 - LEVEL / 2)
    ends = np.quantile(drawn - centre, [LEVEL / 2, 1 - LEVEL / 2])
    low, high = centre + wider * math.sqrt(families / (families - 1)) * ends
    return float(low), float(high)
