"""Deformable patches: what moves, how far, what it is read from, and that gradients reach it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.core.task import Architecture, Task
from harness.model.embedders import MeanEmbedder
from harness.model.patcher import Patches, Rows, Rule, uniform_starts
from methods.deformable import Deformable

TASK = Task("x", 48, 12, 6)


def rows(count: int = 8, look_back: int = 48, rule: Rule = "sample") -> Rows:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(count, look_back, generator=generator)
    return Rows(values, torch.arange(count), rule=rule)


def moved(patcher: Deformable, centre: float, width: float) -> Deformable:
    """All patches by so many steps, and wider by so many on either side."""
    goal = torch.tensor([centre, width]) / (patcher.reach * patcher.usual)
    with torch.no_grad():
        patcher.say.bias.copy_(goal.atanh())
    return patcher


def spans(patches: Patches) -> Tensor:
    assert patches.spans is not None
    return patches.spans.detach()


def test_it_starts_at_equal_patches() -> None:
    """Hard, soft and in its edges, whether or not K divides the look-back."""
    for look_back in (48, 50):
        task = replace(TASK, look_back=look_back)
        patches = Deformable(task)(rows(look_back=look_back))
        edge = torch.arange(7) * look_back / 6
        assert patches.edges is not None
        torch.testing.assert_close(patches.edges, edge.expand(8, -1))
        torch.testing.assert_close(spans(patches)[:, 0], edge[:-1].expand(8, -1))
        torch.testing.assert_close(spans(patches)[:, 1], edge[1:].expand(8, -1))
        assert ((patches.start - uniform_starts(look_back, 6)).abs() <= 1).all()


def test_centres_move_and_widths_grow() -> None:
    """By the network's two numbers; the ends of the row stop a stretch, not a boundary."""
    patches = moved(Deformable(TASK), 2.0, 1.5)(rows(1))
    start = torch.arange(6.0) * 8
    expected = torch.stack([start + 0.5, (start + 11.5).clamp_max(48)])
    torch.testing.assert_close(spans(patches)[0], expected, atol=1e-4, rtol=0)
    # Stretches overlap by 3 steps: the boundary is in the middle of that.
    assert patches.edges is not None
    edges = patches.edges[0].detach()
    torch.testing.assert_close(edges[1:5], start[1:5] + 2, atol=1e-4, rtol=0)
    assert edges[5] == pytest.approx((44.5 + 40 + 3.5) / 2 - 1, abs=1.1)


def test_reach_bounds_every_move() -> None:
    """Whatever the network says, a centre moves at most so many usual lengths."""
    patcher = Deformable(TASK, reach=0.5)
    nn.init.normal_(patcher.say.weight, std=100)
    begin, end = patcher.stretches(rows(64).values)
    centre = (begin + end) / 2
    inner = (centre[:, 1:-1] - (torch.arange(1, 5) + 0.5) * 8).abs()
    assert 3.9 < inner.max() <= 4 + 1e-4
    assert (end - begin)[:, 1:-1].max() <= 16 + 1e-4


def test_it_sees_its_own_patch_only() -> None:
    """Another value at a step changes the stretch of the patch that holds it, and no other."""
    torch.manual_seed(0)
    patcher = Deformable(TASK)
    nn.init.normal_(patcher.say.weight)
    values = rows(1).values
    other = values.clone()
    other[0, 20] += 1
    change = (patcher.stretches(values)[0] - patcher.stretches(other)[0]).abs()[0]
    assert change.nonzero()[:, 0].tolist() == [2]


@given(
    look_back=st.integers(1, 60),
    part=st.floats(0, 1),
    size=st.sampled_from([0.1, 1.0, 100.0]),
    reach=st.sampled_from([0.5, 1.0, 5.0]),
    progress=st.sampled_from([0.0, 0.8, 1.0]),
)
def test_patches_are_exactly_k_and_never_empty(
    look_back: int, part: float, size: float, reach: float, progress: float
) -> None:
    """Whatever the moves and K, from 1 to the look-back, each slot holds a step, and edges fit."""
    task = Task("x", look_back, 4, 1 + round(part * (look_back - 1)))
    torch.manual_seed(0)
    patcher = Deformable(task, reach=reach)
    nn.init.normal_(patcher.say.weight, std=size)
    patcher.progress.fill_(progress)
    patches = patcher(rows(4, look_back))
    assert (patches.length >= 1).all()
    assert (patches.length.sum(1) == look_back).all()
    assert patches.edges is not None
    assert ((patches.edges[:, :-1] - patches.start).abs() <= 1).all()
    assert (patches.edges.diff(dim=1) > -1e-4).all()
    width = spans(patches)[:, 1] - spans(patches)[:, 0]
    assert (width > -1e-4).all()


def test_a_partition_in_whole_steps_stands_beside_its_authors_rule() -> None:
    """The same starts as in training, and nothing that is real-valued."""
    torch.manual_seed(0)
    patcher = Deformable(TASK)
    assert patcher.evaluation_rule == "sample"
    nn.init.normal_(patcher.say.weight)
    best, trained = patcher(rows(rule="best")), patcher(rows())
    assert torch.equal(best.start, trained.start)
    assert best.edges is None
    assert best.spans is None


def test_the_gradient_of_moves_is_that_of_finite_differences() -> None:
    """Through the stretches that the shared embedder reads, into the network's last layer."""
    torch.manual_seed(0)
    patcher = Deformable(TASK).double()
    nn.init.normal_(patcher.say.weight, std=0.1)
    embedder = MeanEmbedder(TASK, Architecture(width=4)).double()
    given = replace(rows(3), values=rows(3).values.double())

    def token(bias: Tensor) -> Tensor:
        with torch.no_grad():
            patcher.say.bias.copy_(bias)
        return embedder(given.values, patcher(given)).square().sum()

    at = torch.tensor([0.011, 0.023], dtype=torch.float64)
    value = token(at)
    [slope] = torch.autograd.grad(value, patcher.say.bias)
    for index in range(2):
        nudge = torch.zeros(2, dtype=torch.float64).index_fill(0, torch.tensor(index), 1e-6)
        difference = float((token(at + nudge) - token(at - nudge)).detach()) / 2e-6
        assert float(slope[index]) == pytest.approx(difference, rel=1e-4)


def test_not_only_the_last_bias_learns() -> None:
    """After one step the first layer has a gradient too; with all weights at 0 it never would."""
    torch.manual_seed(0)
    patcher = Deformable(TASK)
    embedder = MeanEmbedder(TASK, Architecture(width=4))
    optimiser = torch.optim.SGD(patcher.parameters(), lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        embedder(rows().values, patcher(rows())).square().sum().backward()
        optimiser.step()
    assert patcher.look.weight.grad is not None
    assert patcher.look.weight.grad.any()
