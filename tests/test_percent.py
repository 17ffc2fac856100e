"""Changes are logarithms where they are computed and percent where they are read."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.core.protocol import SMALLEST_EFFECT
from harness.report import percent


def test_a_factor_and_its_inverse_are_as_far_from_nothing() -> None:
    """Twice and half the error are +100 and -50 %; the margin is the smallest effect upwards."""
    assert percent.percent(np.log([2.0, 0.5, 1.0])).tolist() == pytest.approx([100, -50, 0])
    assert percent.percent(percent.MARGIN) == pytest.approx(SMALLEST_EFFECT)
    assert percent.percent(-math.inf) == -100
    assert percent.percent(1e6) == math.inf


def test_percentages_can_be_read_however_large() -> None:
    """Two places, none from a thousand on, and beyond what means something only that."""
    assert percent.said(-1.234) == "-1.23"
    assert percent.said(12345.6) == "+12,346"
    assert percent.between(-99.999, math.inf) == "-100.00 to > +100,000 %"
