"""What stands below a board as context: reference predictors, and models of other people.

Other models have other corpora and sizes, and some know covariates. They are shown on the tasks
that the board counts, and never ranked.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from harness.report.zero_shot.rows import LEAKED, METRICS, logarithms
from harness.zero_shot import tasks
from harness.zero_shot.published import RATIOS, published_scores

NAMED: Mapping[str, tuple[str, ...]] = {
    "fev-bench": ("TiRex-2", "TimesFM-2.5", "Chronos-2", "Toto-2.0-4m"),
    "chronos-II": ("tirex", "chronos_bolt_tiny", "ttm-r2"),
    "gift-eval": ("PatchTST-FM-r1", "Toto-2.0-4m", "Kairos_10m", "Reverso-Nano", "DLinear"),
}
"""Models that are always shown: small ones, ones that patch, and those that lead elsewhere."""
BEST = 3
"""So many models more of each benchmark are shown, the best ones on our tasks."""


def references(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each benchmark and reference: geometric means of shares, failures charged.

    Columns: ``benchmark``, ``method``, ``mase``, ``quantile``, ``tasks``, ``runs``, ``failures``.
    """
    own = rows[rows.kind == "reference"]
    of = ["benchmark", "method"]
    by_task = logarithms(own).groupby([own[name] for name in (*of, "task")]).mean()
    shares = by_task.groupby(of).mean().transform(np.exp)
    counts = own.groupby(of).agg(
        tasks=("task", "nunique"), runs=("failed", "size"), failures=("failed", "sum")
    )
    return _in_order(shares.join(counts).reset_index(), ["method"])


def published(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each benchmark and model: those of :data:`NAMED`, and the best of the others.

    All shares are on the tasks that the board counts: those of patchers' rows that leaked after no
    corpus, ``tasks_of`` in number. A model is among the best if it has scores on all of them.
    ``leaked`` of its ``tasks`` are ones that it had seen, says its benchmark.
    """
    own = rows[rows.kind == "patcher"] if (rows.kind == "patcher").any() else rows
    counted = set(own.task) - set(own.task[own.leak == LEAKED])
    known = tasks.tasks()
    lines = [
        {
            "benchmark": score.benchmark,
            "model": score.model,
            "mase": score.mase / known[score.name].naive_mase,
            "quantile": score.quantile / known[score.name].naive_quantile,
            "leaked": score.leaked,
        }
        for score in published_scores()
        if score.name in counted
    ]
    table = pd.DataFrame(lines, columns=["benchmark", "model", *METRICS, "leaked"])
    logs = table[[*METRICS]].clip(*RATIOS).transform(np.log)
    groups = table.assign(mase=logs["mase"], quantile=logs["quantile"]).groupby(
        ["benchmark", "model"]
    )
    found = (
        groups[[*METRICS]]
        .mean()
        .transform(np.exp)
        .join(groups.leaked.agg(leaked="sum", tasks="size").astype(int))
    )
    found = found.reset_index()
    found["tasks_of"] = found.benchmark.map(
        {name: sum(task.startswith(f"{name}/") for task in counted) for name in NAMED}
    )
    names = zip(found.benchmark, found.model, strict=True)
    named = np.array([model in NAMED[benchmark] for benchmark, model in names], dtype=bool)
    whole = found[(found.tasks == found.tasks_of) & ~_is_naive(found.model)]
    order = whole.sort_values(["quantile", "model"])
    best = order[~order.index.isin(found.index[named])].groupby("benchmark").head(BEST).index
    shown = found[named | found.index.isin(best)]
    return _in_order(shown, ["quantile", "model"])


def _in_order(table: pd.DataFrame, within: list[str]) -> pd.DataFrame:
    """Benchmark by benchmark, in the order of :data:`NAMED`."""
    places = table.benchmark.map({name: place for place, name in enumerate(NAMED)})
    ordered = table.assign(place=places).sort_values(["place", *within], ignore_index=True)
    return ordered.drop(columns="place")


def _is_naive(models: pd.Series[str]) -> pd.Series[bool]:
    return models.str.lower().str.replace(" ", "_").eq("seasonal_naive")
