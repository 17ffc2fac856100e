"""Knots of an adaptive spline: the same share of curvature in each patch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.core.task import Task
from harness.model.patcher import Rows
from methods.bspline import BSpline

TASK = Task("x", 96, 24, 12)


def lengths(values: Tensor, patcher: BSpline) -> Tensor:
    return patcher(Rows(values, torch.arange(len(values)))).length


def test_bspline_cuts_straight_inner_stretches_equally() -> None:
    """A constant row has equal patches; where K does not divide, they differ by a step."""
    assert lengths(torch.ones(1, 96), BSpline(TASK))[0].tolist() == [8] * 12
    uneven = lengths(torch.ones(1, 50), BSpline(Task("x", 50, 4, 7)))[0]
    assert uneven.sum() == 50
    assert uneven.max() - uneven.min() == 1


def test_bspline_puts_boundaries_where_the_row_bends() -> None:
    """Half of a row is a fast wave: almost all boundaries; with a high floor, fewer of them."""
    clock = torch.arange(96.0)
    row = torch.where(clock < 48, 0.0, (clock - 48).mul(0.8).sin())[None]
    plans = [lengths(row, BSpline(TASK, floor=floor)) for floor in (0.01, 5.0)]
    inside = [int((plan.cumsum(1) > 48).sum()) for plan in plans]
    assert inside[0] >= 11
    assert inside[1] <= 8


def test_bspline_patches_hold_equal_shares_of_the_density() -> None:
    """Up to what the two steps at its ends hold, since boundaries lie at whole steps."""
    values = torch.randn(20, 96, generator=torch.Generator().manual_seed(0)).cumsum(1)
    patcher = BSpline(TASK)
    density = patcher.density(values)
    share = density / density.sum(1, keepdim=True)
    plan = patcher(Rows(values, torch.arange(20)))
    held = torch.zeros(20, 12, dtype=torch.float64)
    place = torch.repeat_interleave(torch.arange(12).repeat(20), plan.length.flatten())
    held.scatter_add_(1, place.view(20, 96), share)
    assert ((held - 1 / 12).abs() <= share.amax(1, keepdim=True) + 1e-9).all()


def test_bspline_density_is_a_power_of_the_smoothed_bend() -> None:
    """Of a kink: its size, over the window, to the power, relative to the row's mean."""
    row = torch.zeros(1, 96)
    row[0, 50:] = torch.arange(46.0)
    smooth = torch.zeros(96, dtype=torch.float64)
    smooth[49:52] = 1 / 3
    # The end of the row is a kink, too: beyond it the row stays where it was.
    smooth[94], smooth[95] = 1 / 3, 1 / 2
    smooth = smooth.sqrt()
    expected = smooth / smooth.mean() + 0.25
    density = BSpline(TASK, power=0.5, window=3, floor=0.25).density(row)[0]
    assert torch.allclose(density, expected)


def test_bspline_leaves_no_patch_empty_at_a_spike() -> None:
    """All density in three steps, and as many patches as half of the row, or all of it."""
    values = torch.zeros(3, 16)
    for row, place in enumerate((0, 8, 15)):
        values[row, place] = 1e3
    for patches in (2, 8, 15, 16):
        plan = lengths(values, BSpline(Task("x", 16, 4, patches), floor=1e-3, window=1))
        assert (plan >= 1).all()
        assert (plan.sum(1) == 16).all()


@pytest.mark.parametrize(
    "settings", [{"power": 0.0}, {"floor": 0.0}, {"window": 4}, {"window": 0}]
)
def test_bspline_refuses_settings_without_a_meaning(settings: dict[str, Any]) -> None:
    """The message names what is wrong."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        BSpline(TASK, **settings)
