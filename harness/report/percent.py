"""Changes of an error: computed as logarithms of ratios, shown in percent.

A gain of a factor and the loss of the same factor are the same size as logarithms, and not as
percentages: half the error (-50 %) and twice the error (+100 %) cancel. So means, intervals and
tests are of logarithms, and only what is shown is turned into percent.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np

from harness.core.protocol import SMALLEST_EFFECT

Number = TypeVar("Number")

MARGIN = math.log1p(SMALLEST_EFFECT / 100)
"""A change nearer to 0 than this, as a logarithm and to either side, is of no interest."""


def percent(logarithm: Number) -> Number:
    """The change in percent: log(2) is +100, -log(2) is -50."""
    with np.errstate(over="ignore"):
        return 100 * np.expm1(logarithm)  # type: ignore[call-overload]  # of a table, a column or a number the same


def said(change: float) -> str:
    """A change in percent, in words; two places, and none from 1,000 % on."""
    if change > _LARGEST:
        return f"> +{_LARGEST:,}"
    return f"{change:+.2f}" if change < 1000 else f"{change:+,.0f}"


def between(low: float, high: float) -> str:
    """Both ends of an interval in percent, in words."""
    return f"{said(low)} to {said(high)} %"


_LARGEST = 100_000
"""Percent. What is beyond, as an end of the interval of two data sets may be, says only that."""
