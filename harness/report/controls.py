"""What the controls say of each data set: the cost of a moving grid, the worth of a backbone."""

from __future__ import annotations

import pandas as pd

from harness.report import statistics
from harness.report.percent import percent
from harness.results.table import PHASE_SHIFT, RANDOM_STEP, UNIFORM, UNIFORM_IDENTITY

BACKBONE_GIVES = 3.0
"""Percent: where doing without one costs no more, a data set cannot show what patches are for."""


def by_dataset(rows: pd.DataFrame) -> pd.DataFrame:
    """A line a look-back and data set: changes against ``uniform``, in percent.

    ``rows`` as :func:`harness.results.table.charged` gives them. ``phase_shift`` is the cost of a
    moving grid: the same patches, only moved. ``random_step`` is that of random boundaries, and
    ``uniform_identity``, equal patches without a backbone, is what the backbone gives. ``idle``
    says that it gives less than :data:`BACKBONE_GIVES`; false where that is not known. A method
    that has not run is an empty column; without any of the three, or ``uniform``, there are no
    lines.
    """
    names = [PHASE_SHIFT, RANDOM_STEP, UNIFORM_IDENTITY]
    own = rows[rows.method.isin([UNIFORM, *names])]
    if own.method.nunique() < 2 or UNIFORM not in set(own.method):
        return pd.DataFrame(columns=["look_back", "dataset", *names, "idle"])
    means = percent(statistics.by_dataset(statistics.paired(own, UNIFORM)))
    table = means.unstack("method").reindex(columns=names).dropna(how="all")  # noqa: PD010  # a series
    idle = table[UNIFORM_IDENTITY] <= BACKBONE_GIVES
    return table.assign(idle=idle).reset_index()
