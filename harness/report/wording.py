"""Numbers and sentences that the tables and the page share, each written once.

Sentences are marked as :mod:`harness.report.formats` says: backticks around names. A ``line`` is
one of :attr:`harness.report.board.Board.ranking`, as a named tuple.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd

from harness.core.protocol import SMALLEST_EFFECT
from harness.report.formats import code
from harness.report.statistics import CONTROLS, LEAST_SEEDS, NOT_JUDGED
from harness.results.table import NAIVE, TASK, UNIFORM

SMALL = f"{SMALLEST_EFFECT:g} %"
"""The smallest change of practical interest."""
BUDGETS = {"strict": "exactly K patches", "soft": "about K patches"}
"""What the methods of each track promise."""

CONTROL = "control"
"""What stands in place of a verdict where a method is a control."""

# Numbers


class Column(NamedTuple):
    """A column of the ranking as readers see it: its values in units of ``unit``, as ``form``."""

    key: str
    head: str
    form: str
    legend: str
    unit: float = 1.0

    def text(self, value: float) -> str:
        """The value as it reads; nothing for an empty one."""
        return number(value / self.unit, self.form)


COLUMNS = {
    column.key: column
    for column in (
        Column(
            "mean_rank",
            "mean rank",
            "{:.2f}",
            "Mean over tasks of the rank among the methods that are ranked together.",
        ),
        Column(
            "win_rate",
            "wins",
            "{:.0%}",
            "Share of paired runs with less error than the reference.",
        ),
        Column(
            "skill",
            "skill",
            "{:.3f}",
            f"1 - the geometric mean over tasks of MSE / MSE of {code(NAIVE)}.",
        ),
        Column(
            "p",
            "p",
            "{:.3f}",
            "Of the test that decides the verdict, after Holm's correction.",
        ),
        Column("tokens", "tokens", "{:.1f}", "Patches that a row really has, on average."),
        Column("parameters", "parameters", "{:,.0f}", "Of the whole model; median over runs."),
        Column(
            "flops",
            "MFLOPs",
            "{:,.2f}",
            "Millions of operations to forecast one window; median over runs.",
            1e6,
        ),
        Column(
            "flops_step",
            "GFLOPs a step",
            "{:,.2f}",
            "Billions of operations of a training step; median over runs.",
            1e9,
        ),
        Column(
            "train_seconds",
            "train s",
            "{:,.1f}",
            "Seconds of training on the device of each run; median over runs.",
        ),
        Column(
            "step",
            "step",
            "{:.2f}",
            f"Cost of a training step, that of {code(UNIFORM)} being 1.",
        ),
        Column(
            "trials",
            "trials",
            "{:.0f}",
            "Settings tried in the search for hyperparameters, on validation data.",
        ),
    )
}
"""Numbers of the ranking by their names there, in the order in which the page shows them."""

LEGEND = {
    "place": "Methods in the order of their change, those with fewer failed runs first. Methods "
    "that promise every row exactly K patches and those that aim at K, with at most a quarter "
    "more, are ranked apart. Empty for what is never ranked or lacks runs.",
    "change": "Of MSE against the reference, paired by run; mean over seeds, then over the tasks "
    "(horizon, K) of a data set, then over data sets.",
    "95 % interval": "Of the change, over data sets.",
    "verdict": "Better means better than equal patches at the same K, than equal patches of the "
    "length that validation prefers, and than random ones, after correction for the number of "
    "methods.",
    "failed": "Runs that failed or diverged, of all runs.",
    "scored by": "The evaluation rule that counts, chosen on validation data in each run, or that "
    "of the method's authors; of runs that chose several, with the number of each.",
    **{column.head: column.legend for column in COLUMNS.values()},
}
"""What each column says, by its heading."""


def number(value: float, form: str) -> str:
    """The number as ``form`` has it; nothing for an empty one."""
    return "" if pd.isna(value) else form.format(value)


def decimals(error: float) -> int:
    """How many decimal places give an error four significant digits."""
    return max(0, 3 - math.floor(math.log10(error))) if error > 0 else 4


def change(line: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """The change of MSE in percent; the reference is called that."""
    if line.method == line.reference:
        return "reference"
    return number(line.change, "{:+.2f} %")


def interval(line: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Both ends of the change's interval in percent; nothing for the reference."""
    if pd.isna(line.low) or line.method == line.reference:
        return ""
    return f"{line.low:+.2f} to {line.high:+.2f} %"


def verdict(line: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """The verdict on a method that is judged; controls are called that."""
    if line.method in CONTROLS:
        return CONTROL
    return "" if line.verdict == NOT_JUDGED else str(line.verdict)


def failures(line: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """How many of the runs failed."""
    return f"{line.failures} of {line.runs}"


def promise(strict: Any) -> str:  # noqa: ANN401 - a truth or nothing
    """What a method that declares ``strict`` promises; a reference forecaster declares nothing."""
    if pd.isna(strict):
        return "reference forecaster"
    return BUDGETS["strict" if strict else "soft"]


def scored_by(rules: pd.Series[str]) -> str:
    """The evaluation rules of some runs, the most frequent first; empty ones are none."""
    counts = rules[rules != ""].value_counts()
    often = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(often) == 1:
        return str(often[0][0])
    return ", ".join(f"{rule} ({count})" for rule, count in often)


# Sentences

CHARGED = f"A failed run is charged the error of {code(NAIVE)} at least."
BEST = (
    "Bold: the best ranked method, and all that a paired test over at least "
    f"{LEAST_SEEDS} seeds cannot tell from it."
)
OF_CELLS = f"MSE by task and method, mean ± standard deviation over seeds. {BEST}"
UNVERIFIED = "no published checksum to compare with"


def measured(rows: pd.DataFrame) -> str:
    """How many seeds the means are over."""
    seeds = rows[rows.kind == "patcher"].groupby(["method", *TASK]).size()
    low, high = (seeds.min(), seeds.max()) if len(seeds) else (1, 1)
    count = f"{low} to {high} seeds" if low != high else f"{low} seed{'s' if low > 1 else ''}"
    return f"Mean over {count}."


def references(ranking: pd.DataFrame) -> str:
    """What changes are measured against."""
    names = [code(name) for name in sorted(ranking.reference.unique()) if name]
    return " or ".join(names) or "nothing, since neither kind of equal patches has run"


def what_change_is(ranking: pd.DataFrame) -> str:
    """Against what the change is, how sure, and from where on it matters."""
    sure = (
        "with its 95 % interval over data sets"
        if ranking.low.notna().any()
        else "of one data set, so without an interval"
    )
    return (
        f"The change of MSE is against {references(ranking)}, {sure}. Less is better; a change "
        f"below {SMALL} is of no practical interest."
    )
