"""Soft boundaries and the Gumbel straight-through: exact counts and gradients, right shares."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from torch import Tensor

from harness.core.task import Architecture, Task
from harness.model.embedders import MeanEmbedder
from harness.model.forecaster import PatchForecaster
from harness.model.patcher import Rows, Rule
from harness.model.stem import Stem
from methods import _clock
from methods.soft import Soft
from methods.straight_through_gumbel import StraightThroughGumbel

TASK = Task("x", 48, 12, 6)


def rows(
    task: Task = TASK, count: int = 16, seed: int = 0, scale: float = 1.0, rule: Rule = "sample"
) -> Rows:
    """Random rows with random features, drawn from a seed."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, task.look_back, generator=generator)
    features = scale * torch.randn(count, task.look_back, Stem.width, generator=generator)
    return Rows(values, torch.arange(count), features=features, rule=rule)


# --- soft boundaries -----------------------------------------------------------------------------


@given(
    look_back=st.integers(2, 60),
    part=st.floats(0, 1),
    scale=st.sampled_from([0.0, 0.1, 1.0, 30.0, 1e4]),
    progress=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)
def test_soft_patches_are_exactly_k_and_never_empty(
    look_back: int, part: float, scale: float, progress: float, seed: int
) -> None:
    """Whatever scores and K, from 1 to the look-back, each slot holds a step, and edges fit."""
    task = Task("x", look_back, 4, 1 + round(part * (look_back - 1)))
    torch.manual_seed(seed)
    patcher = Soft(task)
    patcher.progress.fill_(progress)
    patches = patcher(rows(task, 4, seed, scale))
    assert (patches.length >= 1).all()
    assert (patches.length.sum(1) == look_back).all()
    assert patches.edges is not None
    assert ((patches.edges[:, :-1] - patches.start).abs() <= 1).all()
    assert patches.spans is not None
    assert (patches.spans[:, 1] > patches.spans[:, 0]).all()


def test_soft_patches_hold_a_step_where_rounding_makes_marks_meet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run of whole shares between two halves puts each mark on a step, give or take a digit."""
    task = Task("x", 48, 12, 32)
    score = torch.full((256, 47), -1e3)
    score[:, 1:31] = 1e3
    score[:, 0] = -torch.linspace(0, 1e-6, 256)
    score[:, 31] = -score[:, 0]
    patcher = Soft(task)
    monkeypatch.setattr(patcher.score, "forward", lambda features: score)
    patches = patcher(rows(task, 256))
    assert (patches.length >= 1).all()
    assert (patches.length.sum(1) == 48).all()
    assert patches.edges is not None
    assert ((patches.edges[:, :-1] - patches.start).abs() <= 1).all()


@pytest.mark.parametrize("temperature", [1.0, 0.1, 0.02])
def test_shares_add_up_to_the_total(temperature: float) -> None:
    """Each lies in (0, 1) and they come to the total, for every total and for ties."""
    generator = torch.Generator().manual_seed(0)
    score = torch.randn(8, 20, generator=generator).round(decimals=1)
    score[0] = 3.0
    for total in range(1, 20):
        share = _clock.shares(score, total, torch.tensor(temperature))
        assert share.sum(1) == pytest.approx(total, abs=1e-5)
        assert (share >= -1e-6).all()
        assert (share <= 1 + 1e-6).all()


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_threshold_has_its_implicit_gradient(temperature: float) -> None:
    """The gradient of the shares under their constraint is that of finite differences."""
    torch.manual_seed(0)
    score = torch.randn(3, 9, dtype=torch.float64, requires_grad=True)

    def shares(score: Tensor) -> Tensor:
        return _clock.shares(score, 4, torch.tensor(temperature))

    assert torch.autograd.gradcheck(shares, score, eps=1e-5, atol=1e-6)
    [slope] = torch.autograd.grad(shares(score).square().sum(), score)
    # A score added to all of a row moves the threshold, and nothing else.
    assert slope.sum(1) == pytest.approx(0, abs=1e-9)


def test_times_have_the_gradient_of_the_clock() -> None:
    """When a clock reads a mark is differentiable in the clock, as finite differences find it."""
    torch.manual_seed(0)
    steps = torch.rand(3, 7, dtype=torch.float64).add(0.1).requires_grad_()
    mark = torch.tensor([0.0, 0.37, 1.21, 1.9], dtype=torch.float64)

    def times(steps: Tensor) -> Tensor:
        clock = torch.nn.functional.pad(steps.cumsum(1), (1, 0))
        return _clock.times(clock, mark)

    assert torch.autograd.gradcheck(times, steps, eps=1e-6, atol=1e-6)


def test_soft_hardened_is_the_plan_of_its_clock() -> None:
    """Slot k holds the steps whose clock lies from k up to k + 1; nothing real-valued is left."""
    torch.manual_seed(0)
    patcher, shown = Soft(TASK, hottest=1.0), rows()
    share = _clock.shares(patcher.score(shown.features), 5, torch.ones(()))
    clock = 0.5 + torch.nn.functional.pad(share.cumsum(1), (1, 0))
    hard = patcher(rows(rule="even"))
    slot = (torch.arange(48) >= hard.start[..., None]).sum(1) - 1
    assert torch.equal(slot, clock.floor().long())
    assert hard.edges is None
    assert hard.spans is None
    assert torch.equal(patcher(shown).start, hard.start)


def test_soft_overlap_fades_until_it_is_the_patch() -> None:
    """Neighbours share half of their stretch at first; in the limit, spans are whole patches."""
    torch.manual_seed(0)
    patcher = Soft(TASK, hottest=1.0, coldest=1e-6)
    patcher.score.weight.data *= 10

    def plan(progress: float) -> tuple[Tensor, Tensor, Tensor]:
        patcher.progress.fill_(progress)
        patches = patcher(rows())
        assert patches.spans is not None
        assert patches.edges is not None
        return patches.spans.detach(), patches.edges.detach(), patches.start

    spans, edges, _ = plan(0.0)
    # A stretch runs to the middle, on the clock, of either neighbour: to the next but one's start.
    assert torch.allclose(spans[:, 1, :-2], spans[:, 0, 2:], atol=1e-4)
    assert (spans[:, 0, 1:] < edges[:, 1:-1]).all()
    spans, edges, start = plan(1.0)
    assert torch.allclose(edges[:, :-1], start.float(), atol=1e-4)
    assert torch.allclose(spans[:, 0], start.float(), atol=1e-4)
    assert torch.allclose(spans[:, 1], edges[:, 1:], atol=1e-4)


def test_soft_scores_are_a_convolution() -> None:
    """The votes of the steps around it are what a convolution of five steps adds up."""
    torch.manual_seed(0)
    patcher, shown = Soft(TASK), rows()
    assert shown.features is not None
    kernel = patcher.score.weight.T[None]
    expected = torch.nn.functional.conv1d(shown.features.transpose(1, 2), kernel, padding=2)
    assert torch.allclose(patcher.score(shown.features), expected[:, 0, 1:], atol=1e-5)


def test_soft_learns_at_its_own_rate() -> None:
    """All its parameters have the forecaster's rate times its factor, and those alone."""
    model = PatchForecaster(TASK, Architecture(), Soft(TASK, learning_rate_factor=7.0))
    shared, _, own = model.parameter_groups(1e-3)
    assert (shared["lr"], own["lr"]) == pytest.approx((1e-3, 7e-3))
    assert [id(value) for value in own["params"]] == [
        id(value) for value in model.patcher.parameters()
    ]


def test_soft_cools_from_hottest_to_coldest(monkeypatch: pytest.MonkeyPatch) -> None:
    """By equal factors: half-way through training it is as warm as the root of both."""
    seen: list[float] = []
    shares = _clock.shares

    def heard(score: Tensor, total: int, temperature: Tensor) -> Tensor:
        seen.append(float(temperature))
        return shares(score, total, temperature)

    monkeypatch.setattr(_clock, "shares", heard)
    patcher = Soft(TASK, hottest=0.8, coldest=0.05)
    for progress in (0.0, 0.5, 1.0):
        patcher.progress.fill_(progress)
        patcher(rows())
    assert seen == pytest.approx([0.8, 0.2, 0.05])


def test_gumbel_weighs_its_prior() -> None:
    """Of the same draw, twice the weight is twice the loss."""
    losses = []
    for weight in (1.0, 2.0):
        torch.manual_seed(0)
        losses.append(StraightThroughGumbel(TASK, weight=weight)(rows()).loss.item())
    assert losses[1] == pytest.approx(2 * losses[0], rel=1e-6)


# --- the Gumbel straight-through -----------------------------------------------------------------


def constant_rate(task: Task, logit: float) -> StraightThroughGumbel:
    """A patcher with the same log-odds at every step."""
    patcher = StraightThroughGumbel(task)
    torch.nn.init.zeros_(patcher.out.weight)
    torch.nn.init.constant_(patcher.out.bias, logit)
    return patcher


@pytest.mark.parametrize("logit", [-2.0, -3.0])
def test_gumbel_boundaries_come_at_their_probability(logit: float) -> None:
    """Of 48,000 steps the share that starts a patch is sigmoid(logit), within four deviations."""
    task = Task("x", 49, 12, 30)
    probability = torch.tensor(logit).sigmoid()
    patches = constant_rate(task, logit)(rows(task, 1000))
    found = (patches.valid[:, 1:].sum() / 48_000).item()
    deviation = (probability * (1 - probability) / 48_000).sqrt()
    assert found == pytest.approx(probability.item(), abs=4 * deviation.item())


def test_gumbel_starts_at_the_rate_of_its_budget() -> None:
    """Before training about K patches a row are drawn, with the default weights."""
    torch.manual_seed(0)
    patches = StraightThroughGumbel(TASK)(rows(count=1000, scale=0.1))
    assert patches.valid.sum(1).float().mean().item() == pytest.approx(TASK.patches, rel=0.1)


def test_gumbel_is_scored_as_its_code_evaluates() -> None:
    """By draws; spread evenly there are exactly K patches, whatever passes the threshold."""
    torch.manual_seed(0)
    patcher = StraightThroughGumbel(TASK)
    assert patcher.evaluation_rule == "sample"
    for bias in (-5.0, 5.0):
        torch.nn.init.constant_(patcher.out.bias, bias)
        even = patcher(rows(scale=3.0, rule="even"))
        assert (even.valid.sum(1) == TASK.patches).all()
        assert (patcher(rows(scale=0.1, rule="best")).valid.sum(1) == (1 if bias < 0 else 8)).all()
    assert len(even.start.unique(dim=0)) > 12  # by content, not by place


def test_gumbel_drops_the_lowest_samples() -> None:
    """Of more boundaries than slots the strongest stay; at its best, those most probable."""
    torch.manual_seed(0)
    patcher, shown = StraightThroughGumbel(TASK), rows(scale=3.0, rule="best")
    torch.nn.init.constant_(patcher.out.bias, 5.0)
    patches = patcher(shown)
    assert patcher.slots == 8
    assert patches.valid.all()
    assert shown.features is not None
    hidden = torch.nn.functional.gelu(patcher.hidden(shown.features))
    strongest = patcher.out(hidden)[:, 1:, 0].topk(7).indices.sort().values + 1
    assert torch.equal(patches.start[:, 1:], strongest)
    assert patches.weight is None
    assert patches.loss is None


def test_gumbel_gradient_stays_in_its_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample raises the weights from its step on, and tells in the mean of its patch only."""
    torch.manual_seed(0)
    patcher, shown = StraightThroughGumbel(TASK), rows(count=4)
    logit = torch.full((4, 47), -1.5, requires_grad=True)
    monkeypatch.setattr(patcher, "_log_odds", lambda rows: logit)
    patches = patcher(shown)
    assert patches.weight is not None
    assert torch.equal(patches.weight, torch.ones(4, 48))

    noise = -(1 / shown.uniform(47) - 1).log()
    sample = ((logit.detach() + noise) / 0.5).sigmoid()
    slope = sample * (1 - sample) / 0.5  # of the sample in the log-odds
    step = torch.arange(1, 48)
    [raised] = torch.autograd.grad(patches.weight[:, 20].sum(), logit, retain_graph=True)
    assert torch.allclose(raised, torch.where(step <= 20, slope, 0.0), atol=1e-6)

    token = MeanEmbedder(TASK, Architecture(width=4))(shown.values, patches)
    for slot in range(int(patches.valid.sum(1).min())):
        [felt] = torch.autograd.grad(token[:, slot, 0].sum(), logit, retain_graph=True)
        inside = (step > patches.start[:, slot, None]) & (step < patches.end[:, slot, None])
        assert (felt[~inside].abs() < 1e-6).all()
        assert (felt[inside].abs() > 1e-6).float().mean() > 0.9


@pytest.mark.parametrize(("look_back", "patches"), [(48, 6), (48, 1), (10, 9)])
def test_gumbel_prior_is_binomial(look_back: int, patches: int) -> None:
    """It is scipy's log-probability of the count, and draws it towards K from both sides."""
    patcher = StraightThroughGumbel(Task("x", look_back, 4, patches))
    for count in range(1, look_back + 1):
        chosen = torch.zeros(2, look_back - 1)
        chosen[:, : count - 1] = 1.0
        chosen.requires_grad_()
        loss = patcher._prior(chosen)
        expected = -binom.logpmf(count, look_back, patches / look_back) / look_back
        assert loss.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
        loss.backward()
        assert chosen.grad is not None
        if abs(count - patches) > 1:
            assert (chosen.grad.sign() == (1 if count > patches else -1)).all()


def test_gumbel_prior_counts_hard_choices() -> None:
    """The loss is that of the boundaries drawn; with too few, it raises their probability."""
    patcher = constant_rate(TASK, -3.5)
    patches = patcher(rows(count=64))
    count = patches.valid.sum(1)
    assert count.max() < patcher.slots
    assert patches.loss is not None
    expected = -binom.logpmf(count.numpy(), 48, 6 / 48).mean() / 48
    assert patches.loss.item() == pytest.approx(expected, rel=1e-4)
    patches.loss.backward()
    assert patcher.out.bias.grad is not None
    assert patcher.out.bias.grad.item() < 0
