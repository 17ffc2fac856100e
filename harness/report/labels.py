"""What happens at labels: errors near what people marked and elsewhere, and who cuts there.

Boundaries that follow what matters would err less than equal patches near a heart beat, or after a
change of regime; boundaries that erase it would err more there and nowhere else.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.report import statistics
from harness.report.percent import percent
from harness.results.table import UNIFORM

PLACES = {
    "mse_near": "forecast near a label",
    "mse_away": "forecast away from labels",
    "mse_change": "label in the look-back",
    "mse_steady": "none in the look-back",
}
"""Errors of one kind of forecast steps or windows, with what they are."""
FOUND = {"f1_3": "F1 at 3", "recall_3": "recall at 3"}
"""Agreement of boundaries and labels; of patchers only."""


def by_dataset(rows: pd.DataFrame) -> pd.DataFrame:
    """A line a look-back, data set and method: errors at labels and elsewhere.

    ``rows`` as :func:`harness.results.table.charged` gives them. The columns of :data:`PLACES` are
    changes against ``uniform`` in percent, paired by run, those of :data:`FOUND` means over runs;
    ``share_near`` and ``share_change`` are the shares of forecast steps and of windows that lie at
    labels. Empty where there is nothing of the kind. Rows of series without labels have no lines.
    """
    if "share_near" not in rows:
        return pd.DataFrame(columns=_COLUMNS)
    own = rows[~rows.failed & rows.share_near.notna()]
    if UNIFORM not in set(own.method):
        return pd.DataFrame(columns=_COLUMNS)
    cells = own.groupby(["look_back", "method", "dataset"])
    table = cells[["share_near", "share_change"]].mean()
    for name in PLACES:
        table[name] = _changes(own, name)
    for name in FOUND:
        table[name] = cells[name].mean() if name in own else np.nan
    return table.reset_index()[_COLUMNS]


_COLUMNS = ["look_back", "dataset", "method", "share_near", "share_change", *PLACES, *FOUND]


def _changes(rows: pd.DataFrame, name: str) -> pd.Series[float]:
    """In percent, of the runs that have such an error; none where ``uniform`` has none."""
    there = rows[rows[name].notna()]
    if UNIFORM not in set(there.method):
        return pd.Series(np.nan, rows.groupby(["look_back", "method", "dataset"]).size().index)
    pairs = statistics.paired(there.assign(mse=there[name]), UNIFORM)
    return percent(statistics.by_dataset(pairs))
