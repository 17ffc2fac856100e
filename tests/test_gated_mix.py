"""A gate for each row: two plans, an exact gradient for the choice, and who fell back."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.core.task import Task
from harness.model.patcher import Rows, uniform_starts
from harness.model.stem import Stem
from methods.gated_mix import GatedMix
from methods.straight_through import StraightThrough

TASK = Task("x", 48, 12, 6)
EQUAL = uniform_starts(48, 6)


def rows(count: int = 64, seed: int = 0, *, sampled: bool = False, training: bool = False) -> Rows:
    """Noise with features of its own, of another size in each row."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.rand(count, 1, 1, generator=generator)
    features = size * torch.randn(count, 48, Stem.width, generator=generator)
    drawing = torch.Generator().manual_seed(seed) if training else None
    return Rows(
        torch.randn(count, 48, generator=generator),
        torch.arange(count),
        features=features,
        generator=drawing,
        sampled=sampled,
    )


def made(bias: float = 0.0) -> GatedMix:
    torch.manual_seed(0)
    patcher = GatedMix(TASK)
    torch.nn.init.constant_(patcher.gate.bias, bias)
    return patcher


def test_the_learned_plan_is_that_of_straight_through() -> None:
    """The same boundaries and the same gradient of edges, given the same scores."""
    mix, other = made(bias=100.0), StraightThrough(TASK)
    mix.eval()
    other.score.load_state_dict(mix.score.state_dict())
    ours, theirs = mix(rows()), other(rows())
    assert torch.equal(ours.start, theirs.start)
    weight = torch.randn(ours.edges.shape, generator=torch.Generator().manual_seed(1))
    gradients = [
        torch.autograd.grad((plan.edges * weight).sum(), patcher.score.weight)[0]
        for plan, patcher in ((ours, mix), (theirs, other))
    ]
    assert gradients[0].abs().sum() > 0
    assert torch.allclose(gradients[0], gradients[1])


def test_training_shows_both_plans_of_each_row() -> None:
    """One of them equal patches; which one comes first is drawn, evenly before training."""
    plan = made()(rows(400, training=True))
    first, second = plan.start.view(2, 400, 6).unbind(0)
    equal = (first == EQUAL).all(1), (second == EQUAL).all(1)
    assert (equal[0] != equal[1]).all()
    assert 150 < equal[0].sum() < 250


@pytest.mark.parametrize("seed", [0, 1])
def test_the_gate_gets_the_gradient_of_the_expected_loss(seed: int) -> None:
    """Chance times the learned plan's loss, plus the rest times that of equal patches."""
    patcher = made(bias=0.4)
    plan = patcher(rows(training=True, seed=seed))
    losses = torch.rand(2, 64, generator=torch.Generator().manual_seed(seed))  # learned, equal
    fell_back = patcher.fell_back(plan).view(2, 64).long()
    loss = patcher.learn(plan, losses.gather(0, fell_back))
    (got,) = torch.autograd.grad(loss, patcher.gate.bias)
    bias = torch.tensor([0.4], requires_grad=True)
    expected = (bias.sigmoid() * losses[0] + (1 - bias.sigmoid()) * losses[1]).mean()
    assert torch.allclose(got, torch.autograd.grad(expected, bias)[0], atol=1e-6)


def test_the_gate_learns_which_rows_need_the_learned_plan() -> None:
    """Where it helps rows of large features and harms the others, each row comes to its better."""
    patcher = made()
    optimiser = torch.optim.Adam(patcher.gate.parameters(), lr=0.1)
    for step in range(200):
        batch = rows(training=True, seed=step)
        plan = patcher(batch)
        harm = torch.where(large(batch), -1.0, 1.0)
        loss = torch.where(patcher.fell_back(plan).view(2, 64), 0.0, harm)
        optimiser.zero_grad()
        patcher.learn(plan, loss).backward()
        optimiser.step()
    test = rows(500, seed=1000)
    patcher.eval()
    fell_back = patcher.fell_back(patcher(test))
    assert (fell_back != large(test)).float().mean() > 0.95


def large(batch: Rows) -> Tensor:
    assert batch.features is not None
    return batch.features.std(dim=(1, 2)) > 0.5


def test_evaluation_takes_the_likelier_plan_and_sampling_draws() -> None:
    """No row falls back at a chance above 1/2, and all do below; drawn, some do.

    Evenly before training, and by the end as often as the gate says.
    """
    for bias, share in ((1.0, 0.0), (-1.0, 1.0)):
        patcher = made(bias)
        patcher.eval()
        assert patcher.fell_back(patcher(rows())).float().mean() == share
        for progress, often in ((0.0, 0.5), (1.0, 1 / (1 + math.exp(bias)))):
            patcher.progress.fill_(progress)
            drawn = patcher.fell_back(patcher(rows(400, rule="sample"))).float().mean()
            assert float(drawn) == pytest.approx(often, abs=0.08)


def test_gate_and_scores_have_rates_of_their_own() -> None:
    """The scores that of the forecaster, the gate more."""
    groups = GatedMix(TASK, learning_rate_factor=5.0).parameter_groups(1e-3)
    assert [group["lr"] for group in groups] == pytest.approx([1e-3, 5e-3])
    assert sum(len(group["params"]) for group in groups) == 3
