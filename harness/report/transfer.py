"""What a patcher that was learned elsewhere brings: its arms, each against another.

An arm is a method at a stage (:class:`harness.core.job.Job`): trained on the target as usual,
frozen after a pre-training, or frozen without any. All of them have the same forecaster and
budget on the target, so that a difference is one of where is cut.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from harness.core.job import label
from harness.report import statistics
from harness.report.percent import percent
from harness.results.table import UNIFORM

TAUGHT = "what pre-training taught: frozen against untrained"
TARGET = "what the target adds: trained on it against frozen"
CORPUS = "another corpus: frozen after the one against the other"
AT_ALL = "against equal patches"


def questions(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each look-back, question and pair of arms: the change of MSE, in percent.

    ``rows`` as :func:`harness.results.table.charged` gives them. Columns: look_back, question,
    method, control, change, low, high, datasets. Differences are paired and averaged as all
    others are (:mod:`harness.report.statistics`): ``low`` and ``high`` enclose 95 % by the
    bootstrap over data sets. Without a frozen arm there are no lines.
    """
    lines = []
    for question, method, control in _pairs(rows):
        own = rows[rows.method.isin([method, control])]
        pairs = statistics.paired(own, control)
        means = statistics.by_dataset(pairs[pairs.method == method])
        for look_back, of in means.groupby("look_back"):
            low, high = statistics.interval(of.to_numpy()[:, None])
            ends = (percent(value) for value in (float(of.mean()), float(low[0]), float(high[0])))
            lines.append((look_back, question, method, control, *ends, len(of)))
    return pd.DataFrame(lines, columns=_COLUMNS)


_COLUMNS = [
    *("look_back", "question", "method", "control", "change", "low", "high", "datasets"),
]


def _pairs(rows: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    there = set(rows.method)
    frozen = rows[rows.stage == "frozen"]
    arms = sorted(frozen[["base", "corpus"]].drop_duplicates().itertuples(index=False, name=None))
    corpora = sorted(set(frozen.corpus))
    asked = [
        *(
            (TAUGHT, label(base, "frozen", of), label(base, "untrained", None))
            for base, of in arms
        ),
        *((TARGET, base, label(base, "frozen", of)) for base, of in arms),
        *(
            (CORPUS, label(base, "frozen", of), label(base, "frozen", other))
            for base, of in arms
            for other in corpora
            if of < other
        ),
        *((AT_ALL, label(base, "frozen", of), UNIFORM) for base, of in arms),
    ]
    return (pair for pair in asked if {*pair[1:]} <= there)
