"""Numbers and sentences that the tables and the page share, each written once.

Sentences are marked as :mod:`harness.report.formats` says: backticks around names. A ``line`` is
one of :attr:`harness.report.board.Board.ranking`, as a named tuple.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import pandas as pd

from harness.core.protocol import SMALLEST_EFFECT
from harness.report import percent
from harness.report.controls import BACKBONE_GIVES
from harness.report.formats import code
from harness.report.statistics import CONTROLS, LEAST_DATASETS, LEAST_SEEDS, NOT_JUDGED
from harness.results.table import NAIVE, RANDOM_STEP, TASK, UNIFORM

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
            "over_random",
            "vs random",
            "{:+.2f} %",
            f"Change of MSE against {code(RANDOM_STEP)}, averaged in the same way.",
        ),
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
    "more, are ranked apart. Empty for what is never ranked, lacks runs or had more choices than "
    "others.",
    "change": "Of MSE against the reference, paired by run: a geometric mean over seeds, then "
    "over the tasks (horizon, K) of a data set, then over data sets.",
    "95 % interval": "Of the change, over data sets.",
    "verdict": "Better means better than equal patches at the same K, than equal patches of the "
    "length that validation prefers, than random ones and, where they have run, than equal ones "
    "moved at random, after correction for the number of methods. The second of these controls "
    "has more choices than the methods, so the verdict is careful.",
    "failed": "Runs that failed or diverged, of all runs.",
    "plans": "Collapsed: rows have one patch, as many as steps, or are all cut at the same steps, "
    "by a method that is not meant to do so.",
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
    return "" if pd.isna(line.change) else f"{percent.said(line.change)} %"


def interval(line: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Both ends of the change's interval in percent; nothing for the reference."""
    if pd.isna(line.low) or line.method == line.reference:
        return ""
    return percent.between(line.low, line.high)


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
    f"Bold: the least error of a method with a place, and all that are shown to be within {SMALL} "
    f"of it, by an equivalence test over at least {LEAST_SEEDS} common seeds; noise makes nothing "
    "bold."
)
OF_CELLS = f"MSE by task and method, mean ± standard deviation over seeds. {BEST}"
VIEWS = (
    f"What the error costs, relative to {code(UNIFORM)}. All methods train for the same number of "
    "steps at most; a method is on the front of a view, at equal steps, equal training FLOPs or "
    "equal FLOPs of a forecast, where no other ranked method has less error at no more cost. "
    "Searches outside of tensors cost seconds and no FLOPs:"
)
OF_CONTROLS = (
    f"What controls say of each data set: change of MSE against {code(UNIFORM)} of the same "
    "patches on a grid that moves, of random boundaries, and of equal patches without a backbone. "
    f"Where doing without one costs {BACKBONE_GIVES:g} % or less, the set cannot show what "
    "patches are for:"
)
OF_ARMS = (
    "What learning elsewhere brings: change of MSE between two arms of a method, with the same "
    "forecaster and budget on the target. Less than 0 is in favour of the first:"
)
AT_LABELS = (
    "Errors where people marked something and elsewhere: change of MSE against "
    f"{code(UNIFORM)}, of forecast steps near a label and of all others, and of windows that look "
    "back on a label and of all others. Labels are never shown to a method. F1 and recall compare "
    "its boundaries with them, each boundary with one label at most, within three steps; what "
    f"chance finds, {code(RANDOM_STEP)} says:"
)
COLLAPSED = "A method whose plans have collapsed does not cut by content, whatever its error says"
IDLE = "cannot show what patches are for"
SUSPICIOUS = "A suspicious value may set the scale, and so all scaled errors,"
UNVERIFIED = "no published checksum to compare with"


def measured(rows: pd.DataFrame) -> str:
    """How many seeds the means are over, and whether all test windows were scored."""
    counts = rows[rows.kind == "patcher"].groupby(["method", *TASK]).size()
    low, high = (int(counts.min()), int(counts.max())) if len(counts) else (1, 1)
    said = f"Mean over {_range(low, high)}."
    some = sorted(rows.tested.dropna().unique()) if "tested" in rows else []
    if not some:
        return said
    numbers = ", ".join(f"{count:,.0f}" for count in some)
    return (
        f"A trial: some of the test windows only, {numbers} of a task, evenly spaced; so no error"
        f" here can be compared with one of another table. {said}"
    )


def seeds(count: int) -> str:
    """So many seeds."""
    return _counted(count, "seed")


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


def power(line: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """What a table can find, from a line of :func:`harness.report.power.power`."""
    one = line.unit == "seed"
    size = ", ".join(
        (
            _counted(line.datasets, "data set"),
            _counted(line.tasks, "task"),
            _range(line.seeds_least, line.seeds_most),
        )
    )
    methods = "the judged method" if line.methods == 1 else "the median judged method"
    over = " and ".join(
        [f"{line.spread:.2g} % between data sets"] * (not one)
        + [f"{line.noise:.2g} % over seeds"] * (not math.isnan(line.noise))
    )
    gains = " to ".join(dict.fromkeys(f"{gain:.2g}" for gain in (line.gain_least, line.gain_most)))
    found = (
        f"a true gain over {code(line.reference)} of {line.gain:.2g} % is found in 80 % of such "
        f"tables ({gains} % from the steadiest method to the least steady one), one of 1 % in "
        f"{100 * line.chance_1:.0f} % and one of 2 % in {100 * line.chance_2:.0f} % of them"
    )
    limits = (
        "One data set says nothing of how methods differ between sets: this is of a test over "
        "seeds, and there is no verdict."
        if one
        else "To be called better a method must be found so against every control."
    )
    if not one and line.datasets < LEAST_DATASETS:
        limits = f"With fewer than {LEAST_DATASETS} data sets there is no verdict."
    return (
        f"Power at look-back {line.look_back} ({size}): of {methods}, the log ratio of errors "
        f"varies by {over}, so that {found}. {limits}"
    )


def _range(low: int, high: int) -> str:
    return f"{low} to {high} seeds" if low != high else seeds(low)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
