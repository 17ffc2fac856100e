"""A gate for each row: two plans, an exact gradient for the choice, and who fell back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.core.task import Task
from harness.model.patcher import Rows, Rule, uniform_starts
from harness.model.stem import Stem
from methods.gated_mix import GatedMix
from methods.soft import Soft

TASK = Task("x", 48, 12, 6)
EQUAL = uniform_starts(48, 6)


def rows(count: int = 64, seed: int = 0, rule: Rule = "best", *, training: bool = False) -> Rows:
    """Noise with features of its own, of another size in each row."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.rand(count, 1, 1, generator=generator)
    features = size * torch.randn(count, 48, Stem.width, generator=generator)
    drawing = torch.Generator().manual_seed(seed) if training else None
    values = torch.randn(count, 48, generator=generator)
    return Rows(values, torch.arange(count), features, generator=drawing, rule=rule)


def made(bias: float = 0.0) -> GatedMix:
    torch.manual_seed(0)
    patcher = GatedMix(TASK)
    torch.nn.init.constant_(patcher.gate.bias, bias)
    return patcher


@pytest.mark.parametrize("rule", ["best", "sample"])
def test_the_learned_plan_is_that_of_soft(rule: Rule) -> None:
    """Hard in evaluation, soft by the rule "sample", with the same gradient of its scores."""
    mix, other = made(bias=100.0).eval(), Soft(TASK).eval()
    other.score.load_state_dict(mix.score.state_dict())
    for patcher in (mix, other):
        patcher.progress.fill_(0.7)
    ours, theirs = mix(rows(rule=rule)), other(rows(rule=rule))
    assert torch.equal(ours.start, theirs.start)
    if rule == "best":
        assert ours.edges is None
        assert ours.spans is None
        return
    for name in ("edges", "spans"):
        gradients: list[torch.Tensor] = []
        for plan, patcher in ((ours, mix), (theirs, other)):
            real = getattr(plan, name)
            weight = torch.randn(real.shape, generator=torch.Generator().manual_seed(1))
            total = (real * weight).sum()
            gradients += torch.autograd.grad(total, patcher.score.weight, retain_graph=True)
        assert gradients[0].abs().sum() > 0
        assert torch.equal(*gradients)


def test_equal_patches_are_read_as_they_are() -> None:
    """Their edges and stretches are whole steps, without a gradient."""
    patcher = made(bias=-100.0).eval()
    patcher.progress.fill_(1.0)
    plan = patcher(rows(rule="sample"))
    assert (plan.start == EQUAL).all()
    assert (plan.edges[:, :-1] == EQUAL).all()
    assert (plan.spans[:, 0] == EQUAL).all()
    assert (plan.spans[:, 1] == EQUAL + 8).all()


def test_training_shows_both_plans_of_each_row() -> None:
    """One of them equal patches; at first either is learned from as often, whatever the gate says.

    After the exploration each row learns from its more likely plan.
    """
    for bias, share in ((-2.0, 0.0), (2.0, 1.0)):
        patcher = made(bias)
        for progress, least, most in ((0.0, 0.4, 0.6), (0.59, 0.4, 0.6), (0.6, share, share)):
            patcher.progress.fill_(progress)
            plan = patcher(rows(400, training=True))
            first, second = patcher.fell_back(plan).view(2, 400)
            assert (first != second).all()
            assert least <= float((~first).float().mean()) <= most


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


def test_a_gate_that_says_no_does_not_stop_the_scores() -> None:
    """While it explores, half of the rows still teach the boundaries that no row would take."""
    patcher = made(bias=-100.0)
    plan = patcher(rows(training=True)).rows(slice(64))
    plan.spans.square().sum().backward()
    gradient = patcher.score.weight.grad
    assert gradient is not None
    assert gradient.any()


def test_evaluation_takes_the_likelier_plan() -> None:
    """No row falls back at a chance above 1/2, and all do below."""
    for bias, share in ((1.0, 0.0), (-1.0, 1.0)):
        patcher = made(bias).eval()
        assert patcher.fell_back(patcher(rows())).float().mean() == share


def test_gate_and_scores_have_rates_of_their_own() -> None:
    """Multiples of the forecaster's."""
    patcher = GatedMix(TASK, learning_rate_factor=5.0, gate_rate_factor=2.0)
    scores, gate = patcher.parameter_groups(1e-3)
    assert (scores["lr"], gate["lr"]) == pytest.approx((5e-3, 2e-3))
    assert [len(group["params"]) for group in (scores, gate)] == [1, 2]


def test_an_exploration_that_cannot_be_is_refused() -> None:
    """A share of training is asked for."""
    with pytest.raises(ValueError, match=r"explore is 1\.5"):
        GatedMix(TASK, explore=1.5)
