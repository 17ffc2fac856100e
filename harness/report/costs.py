"""What an error costs: training steps, operations and seconds, in units of equal patches."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.results.table import TASK, UNIFORM

COSTS = {
    "steps": "steps",
    "training": "training FLOPs",
    "forward": "forward FLOPs",
    "seconds": "seconds a window",
}
"""Training steps; operations of all of them; operations, and seconds, to forecast a window."""
VIEWS = ("steps", "training", "forward")
"""The costs that a front is drawn for. Seconds make none: they depend on what else the machine
did."""


def costs(rows: pd.DataFrame, ranking: pd.DataFrame) -> pd.DataFrame:
    """A line a look-back and method: its change of MSE, what it cost, and whose front it is on.

    ``rows`` as :func:`harness.results.table.charged` gives them, ``ranking`` that of
    :class:`harness.report.board.Board`, whose order is kept. The costs are ratios to those of
    ``uniform``, paired and averaged as changes are, over runs that finished; empty where a cost is
    not known, is nothing, or was measured on several devices. ``front`` names the
    :data:`VIEWS` in which no other method with a place has less error at no more cost; who failed
    in a run is on none.
    """
    done = rows[~rows.failed]
    table = ranking[["look_back", "track", "method", "change", "failures"]]
    for cost, spent in _spent(done).items():
        table = table.merge(_relative(done.assign(spent=spent)).rename(cost).reset_index(), "left")
    able = (table.track != "") & (table.failures == 0)
    fronts = pd.Series("", table.index)
    for cost in VIEWS:
        for _, own in table[able].groupby("look_back"):
            undominated = own.index[_undominated(own.change, own[cost])]
            fronts[undominated] += ", " + COSTS[cost]
    table = table.assign(front=fronts.str.removeprefix(", "))
    return table.drop(columns=["track", "failures"])


def _spent(done: pd.DataFrame) -> dict[str, pd.Series[float]]:
    """What each run cost; empty without the columns it is made of."""
    steps, step, forward, seconds, windows = (
        done[name] if name in done else pd.Series(np.nan, done.index)
        for name in ("steps", "flops_step", "flops", "evaluate_seconds", "windows")
    )
    # A second here is not a second there.
    one_device = done.groupby("look_back").device.transform("nunique") == 1
    spent = (steps, step * steps, forward, (seconds / windows).where(one_device))
    return dict(zip(COSTS, spent, strict=True))


def _relative(done: pd.DataFrame) -> pd.Series[float]:
    """By look-back and method the geometric mean of what was spent over what ``uniform`` spent."""
    runs = done.assign(logarithm=np.log(done.spent.where(done.spent > 0)))
    uniform = runs[runs.method == UNIFORM].set_index([*TASK, "seed"]).logarithm
    partner = uniform.reindex(pd.MultiIndex.from_frame(runs[[*TASK, "seed"]])).to_numpy()
    ratios = runs.assign(ratio=runs.logarithm - partner)
    by = ["look_back", "method"]
    tasks = ratios.groupby([*by, *TASK[1:]]).ratio.mean()
    means = tasks.groupby([*by, "dataset"]).mean().groupby(by).mean()
    # Digits that sums of logarithms leave behind must not decide what costs more.
    return np.exp(means).round(6)


def _undominated(change: pd.Series[float], cost: pd.Series[float]) -> np.ndarray:
    """Where both are known and no other one has less change at no more cost."""
    better = change.to_numpy()[:, None] > change.to_numpy()
    no_dearer = cost.to_numpy()[:, None] >= cost.to_numpy()
    return (change.notna() & cost.notna()).to_numpy() & ~(better & no_dearer).any(axis=1)
