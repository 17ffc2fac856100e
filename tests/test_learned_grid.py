"""One grid for all rows: equal at first, whole steps, and a gradient that finds better edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.core.task import Task
from harness.model.layers import interpolate, running_sum
from harness.model.patcher import Patches, Rows
from methods.learned_grid import LearnedGrid


def plan(patcher: LearnedGrid, values: Tensor, *, training: bool = False) -> Patches:
    generator = torch.Generator() if training else None
    return patcher(Rows(values, torch.arange(len(values)), generator=generator))


@pytest.mark.parametrize(("look_back", "patches"), [(48, 6), (50, 7), (512, 32), (16, 16), (9, 1)])
def test_learned_grid_starts_as_equal_patches(look_back: int, patches: int) -> None:
    """Before a step of training, in every row; where K does not divide, at the nearest steps."""
    own = plan(LearnedGrid(Task("x", look_back, 4, patches)), torch.zeros(3, look_back))
    equal = torch.arange(patches) * look_back / patches
    assert torch.equal(own.start, equal.round().long().expand(3, -1))


def test_learned_grid_keeps_a_step_for_each_patch() -> None:
    """However much one patch wants; in training, too."""
    patcher = LearnedGrid(Task("x", 48, 4, 6))
    with torch.no_grad():
        patcher.share[2] = 100.0
    own = plan(patcher, torch.zeros(2, 48))
    assert own.length[1].tolist() == [1, 1, 43, 1, 1, 1]
    assert own.edges is None
    edges = plan(patcher, torch.zeros(2, 48), training=True).edges
    assert edges is not None
    assert edges[1].tolist() == pytest.approx([0, 1, 2, 45, 46, 47, 48])


def test_learned_grid_edges_have_the_gradient_of_the_widths() -> None:
    """That of a running sum of softmax shares of the free steps."""
    patcher = LearnedGrid(Task("x", 50, 4, 7))
    with torch.no_grad():
        patcher.share.copy_(torch.linspace(-1, 1, 7))
    own = plan(patcher, torch.zeros(1, 50), training=True)
    assert own.edges is not None
    (got,) = torch.autograd.grad(own.edges[0, 3], patcher.share)
    share = patcher.share.detach().softmax(0)
    inside = (torch.arange(7) < 3).float()
    assert torch.allclose(got, 43 * share * (inside - share[:3].sum()), atol=1e-5)


def test_learned_grid_finds_edges_that_all_rows_share() -> None:
    """Rows of four levels that change at the same uneven places: it comes to cut exactly there."""
    levels = torch.randn(256, 4, generator=torch.Generator().manual_seed(0))
    values = levels.repeat_interleave(torch.tensor([11, 6, 10, 5]), dim=1)
    patcher = LearnedGrid(Task("x", 32, 4, 4))
    optimiser = torch.optim.Adam(patcher.parameters(), lr=0.02)
    for _ in range(300):
        edges = plan(patcher, values, training=True).edges
        assert edges is not None
        area = interpolate(running_sum(values), edges).diff(dim=1)
        # Squared error around the mean of each patch.
        error = values.square().sum(1) - (area.square() / edges.diff(dim=1)).sum(1)
        optimiser.zero_grad()
        error.mean().backward()
        optimiser.step()
    assert plan(patcher, values).length[0].tolist() == [11, 6, 10, 5]


def test_learned_grid_has_a_rate_of_its_own() -> None:
    """As many times the forecaster's as it is told."""
    (group,) = LearnedGrid(Task("x", 48, 4, 6), learning_rate_factor=7.0).parameter_groups(1e-3)
    assert group["lr"] == pytest.approx(7e-3)
    assert len(group["params"]) == 1
