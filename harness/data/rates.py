"""Sampling rates: seconds between two steps of a series, from its frequency or from its stamps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pandas.tseries.offsets import BaseOffset

NO_CLOCK = "step"
"""The frequency of a series whose steps are no times."""


def spacing(frequency: str | BaseOffset) -> float:
    """Of a frequency of pandas, "h" or that of a period; 0 of a series without a clock.

    Months, quarters and years differ: it is that of the first ones of 2001.
    """
    if frequency == NO_CLOCK:
        return 0.0
    import pandas as pd  # here, as in `sets.load`
    from pandas.tseries.frequencies import to_offset

    step = to_offset(frequency)
    first = pd.Timestamp(2001, 1, 1) + step
    return float((first + step - first).total_seconds())


def spacing_of_stamps(stamps: NDArray[np.int64]) -> float:
    """Of stamps [time] in microseconds since 1970: the median; 0 where there are less than two."""
    return float(np.median(np.diff(stamps))) / 1e6 if len(stamps) > 1 else 0.0
