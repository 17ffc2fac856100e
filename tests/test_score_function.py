"""Score functions: the gradient they claim, and nothing beside it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch
from branches import with_branches
from torch import Tensor, nn

from harness.core.task import Architecture, Task
from harness.model.forecaster import PatchForecaster, training_loss
from harness.model.patcher import Patches, Rows, Rule
from harness.model.stem import Stem
from methods.score_function import ScoreFunction
from methods.score_function_discounted import ScoreFunctionDiscounted, discounted

Either = ScoreFunction | ScoreFunctionDiscounted
EITHER = pytest.mark.parametrize("method", [ScoreFunction, ScoreFunctionDiscounted])

TINY = Task("x", look_back=7, horizon=2, patches=3)  # 4 slots, so 3 of 6 labels may get through
LOGITS = torch.tensor([0.4, -0.3, 1.0, 0.2, 0.8, -0.9], dtype=torch.float64)
TASK = Task("x", look_back=48, horizon=12, patches=6)


class Given(nn.Module):
    """Logits that are given: one set for all rows, or one for each."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.pad(self.logits.expand(len(features), -1), (1, 0))[:, None]


@dataclass(frozen=True)
class Tossed(Rows):
    """Rows whose labels are settled, by draws that are sure to give them."""

    labels: Tensor | None = None

    def uniform(self, columns: int) -> Tensor:
        assert self.labels is not None
        return torch.cat([(~self.labels).double(), torch.rand_like(self.values[:, 1:])], dim=1)


def given(patcher: Either, logits: Tensor) -> Tensor:
    """Make a patcher toss coins with these logits, in double precision; returns the parameter."""
    policy = Given(logits)
    patcher.register_module("score", policy)
    patcher.bias = 0.0
    patcher.double().train()
    return policy.logits


def rows(values: Tensor, seed: int | None = 0) -> Rows:
    """Rows with features of a stem, in training unless there is no seed."""
    torch.manual_seed(0)
    with torch.no_grad():
        features = Stem().to(values.dtype)(values)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return Rows(values, torch.arange(len(values)), features, generator=generator)


def every_label(steps: int) -> Tensor:
    return torch.tensor(list(itertools.product([False, True], repeat=steps)))


def log_prob(logits: Tensor, label: Tensor) -> Tensor:
    return torch.where(label, logits, -logits).sigmoid().log().sum(-1)


def cost(mark: Tensor) -> Tensor:
    """A loss for each set of boundaries in TINY that is no sum over boundaries."""
    inner = mark.double()
    alone = torch.tensor([0.3, -1.1, 0.7, 0.2, 1.3, -0.4], dtype=torch.float64)
    return 5 + inner @ alone - 2 * inner[:, 1] * inner[:, 3] + inner[:, 2] * inner[:, 5]


def marks(patches: Patches, look_back: int) -> Tensor:
    """Which inner steps start a patch."""
    return (patches.start[:, None] == torch.arange(1, look_back)[:, None]).any(-1)


def expected_cost(logits: Tensor, most: int) -> Tensor:
    """Over all labels and, where more than ``most`` are set, over all choices among them."""
    costs = []
    for label in every_label(len(logits)):
        ones = label.nonzero()[:, 0].tolist()
        choices = list(itertools.combinations(ones, min(len(ones), most)))
        mark = torch.zeros(len(choices), len(logits), dtype=torch.bool)
        for row, choice in enumerate(choices):
            mark[row, list(choice)] = True
        costs.append(cost(mark).mean())
    return log_prob(logits, every_label(len(logits))).exp() @ torch.stack(costs)


def slope(value: Tensor | None, at: Tensor) -> Tensor:
    assert value is not None
    return torch.autograd.grad(value, at, retain_graph=True)[0]


def worst_z(sample: Tensor, true: Tensor) -> float:
    """The largest deviation of a sample's mean, in standard errors."""
    error = sample.std(0) / len(sample) ** 0.5
    return float(((sample.mean(0) - true) / error).abs().max())


# --- the gradient --------------------------------------------------------------------------------


def test_the_estimator_is_unbiased_over_tosses_and_dropped_boundaries() -> None:
    """It is the slope of the enumerated cost; with the labels that got through it is not."""
    at = LOGITS.clone().requires_grad_()
    most = ScoreFunction(TINY).slots - 1
    true = slope(expected_cost(at, most), at)
    steps = 1e-5 * torch.eye(len(at), dtype=torch.float64)
    for index, step in enumerate(steps):
        rise = expected_cost(LOGITS + step, most) - expected_cost(LOGITS - step, most)
        assert rise / 2e-5 == pytest.approx(float(true[index]), abs=1e-8)

    count = 100_000
    patcher = ScoreFunction(TINY, policy_weight=len(LOGITS))
    own = given(patcher, LOGITS.repeat(count, 1))  # logits of its own show each row's estimate
    patches = patcher(rows(torch.zeros(count, 7, dtype=torch.float64)))
    kept = marks(patches, 7)
    assert (kept.sum(1) == most).double().mean() > 0.4  # many rows are full
    row_loss = cost(kept)[None]
    right = slope(patcher.learn(patches, row_loss), own) * count
    assert worst_z(right, true) < 4
    survivors = replace(patches, log_prob=log_prob(own, kept))
    wrong = slope(patcher.learn(survivors, row_loss), own) * count
    assert worst_z(wrong, true) > 8


@EITHER
def test_comparing_with_the_other_rows_leaves_the_estimate_unbiased(method: type[Either]) -> None:
    """Over all pairs of tosses it comes to the slope; the mean of both rows would halve it."""
    at = LOGITS[:5].clone().requires_grad_()
    labels = every_label(5)
    losses = cost(torch.nn.functional.pad(labels, (0, 1)))
    true = slope(log_prob(at, labels).exp() @ losses, at)

    patcher = method(replace(TINY, look_back=6), policy_weight=5)
    drawn = log_prob(at, labels)
    slot = torch.zeros(2, 1, dtype=torch.long)
    total = torch.zeros(5, dtype=torch.float64)
    for pair in torch.cartesian_prod(torch.arange(32), torch.arange(32)):
        patches = Patches(slot, slot, slot == 0, log_prob=drawn[pair])
        estimate = slope(patcher.learn(patches, losses[None, pair]), at)
        total += drawn[pair].sum().exp().detach() * estimate
    assert torch.allclose(total, true, atol=1e-12)


@EITHER
def test_a_row_alone_in_its_batch_has_nothing_to_be_compared_with(method: type[Either]) -> None:
    """Its advantage is 0, and no number is missing."""
    patcher = method(TASK)
    patches = patcher(rows(torch.randn(1, 48)))
    assert patches.loss.isfinite()
    assert not patcher.learn(patches, torch.ones(1, 1)).any()


def test_the_heads_estimate_is_the_slope_of_what_the_late_one_gains() -> None:
    """Undiscounted, over all pairs of tosses for two different rows."""
    patcher = ScoreFunctionDiscounted(
        replace(TINY, look_back=5), discount=1.0, policy_weight=4, rate_weight=0, heads_weight=0
    )
    at = given(patcher, LOGITS[:4].clone())
    labels = every_label(4)
    plain = rows(torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).double())
    shown = plain.features
    assert shown is not None

    feature = nn.functional.pad(shown, (0, 0, 2, 0))[:, :5]
    objective = torch.zeros((), dtype=torch.float64)
    for row in range(2):
        with torch.no_grad():
            early, late = patcher.predictions(feature[[row] * 16], labels)
        gain = (early - plain.values[row, 1:]) ** 2 - (late - plain.values[row, 1:]) ** 2
        objective = objective + log_prob(at, labels).exp() @ gain.sum(1) / 2
    true = -slope(objective, at)  # a gain is a loss avoided

    total = torch.zeros(4, dtype=torch.float64)
    for pair in torch.cartesian_prod(torch.arange(16), torch.arange(16)):
        tossed = Tossed(**vars(plain), labels=labels[pair])
        loss = patcher(tossed).loss
        total += log_prob(at, labels[pair]).sum().exp().detach() * slope(loss, at)
        assert not slope(loss, patcher.heads.weight).any()  # a reward is no loss of the heads
    assert torch.allclose(total, true, atol=1e-12)
    assert true.abs().max() > 1e-3


@pytest.mark.parametrize("steps", [1, 7, 64])
@pytest.mark.parametrize("discount", [0.0, 0.9, 1.0])
def test_discounting_equals_a_loop_from_the_end(steps: int, discount: float) -> None:
    """Each step's sum is its own gain and the discounted sum of the next step."""
    gain = torch.randn(3, steps, dtype=torch.float64)
    expected, running = torch.empty_like(gain), torch.zeros(3, dtype=torch.float64)
    for step in reversed(range(steps)):
        running = gain[:, step] + discount * running
        expected[:, step] = running
    assert torch.allclose(discounted(gain, discount), expected, atol=1e-12)


# --- what is tossed and what gets through --------------------------------------------------------


@EITHER
def test_a_full_environment_does_not_ask_the_policy(method: type[Either]) -> None:
    """Of labels that are all set, each gets through as often, however sure the policy was."""
    patcher = method(TINY)
    shown = rows(torch.zeros(4000, 7, dtype=torch.float64))
    given(patcher, torch.linspace(40, 80, 6, dtype=torch.float64))
    first = marks(patcher(shown), 7)
    given(patcher, torch.linspace(80, 40, 6, dtype=torch.float64))
    assert torch.equal(first, marks(patcher(replace(shown, generator=again())), 7))
    assert (first.sum(1) == 3).all()
    assert (first.double().mean(0) - 0.5).abs().max() < 4 * 0.5 / math.sqrt(4000)


def again() -> torch.Generator:
    """The generator of :func:`rows`, from its beginning."""
    return torch.Generator().manual_seed(0)


@EITHER
def test_coins_start_at_the_budget(method: type[Either]) -> None:
    """Untrained, a row has K patches on average; K = 1 and K = L stay finite."""
    patches = method(TASK)(rows(torch.randn(4000, 48)))
    # The cap of 8 is rarely reached; it takes away a few per cent.
    assert patches.valid.sum(1).double().mean() == pytest.approx(6, rel=0.05)
    for extreme in (1, 48):
        patches = method(replace(TASK, patches=extreme))(rows(torch.randn(50, 48)))
        assert patches.log_prob.isfinite().all()
        assert patches.valid.sum(1).double().mean() == pytest.approx(extreme, abs=0.2)


@EITHER
def test_without_chance_it_takes_the_largest_logits_or_spreads_evenly(
    method: type[Either],
) -> None:
    """Exactly K patches, though there are slots for more; its authors' rule is a toss."""
    patcher = method(TINY)
    assert patcher.evaluation_rule == "sample"
    given(patcher, torch.tensor([-2.0, 3.0, 2.9, -2.0, 2.8, -2.0], dtype=torch.float64))
    shown = rows(torch.zeros(2, 7, dtype=torch.float64), seed=None)
    expected: dict[Rule, list[int]] = {"best": [0, 2, 3, 7], "even": [0, 2, 5, 7]}
    for rule, starts in expected.items():
        patches = patcher(replace(shown, rule=rule))
        assert patches.start.tolist() == [starts] * 2
        assert patches.valid.tolist() == [[True, True, True, False]] * 2


@EITHER
def test_the_rate_controller_brings_coins_back_to_the_budget(method: type[Either]) -> None:
    """From one half, on noise with rewards that are noise, 150 steps lead to the target rate."""
    torch.manual_seed(0)
    patcher = method(TASK)
    patcher.bias = 0.0
    rates: list[Tensor] = []
    patcher.score.register_forward_hook(
        lambda *call: rates.append(call[-1][:, 0, 1:].detach().sigmoid().mean())
    )
    optimiser = torch.optim.Adam(patcher.parameters(), lr=0.05)
    shown = rows(torch.randn(32, 48))
    for _ in range(150):
        patches = patcher(shown)
        (patches.loss + patcher.learn(patches, torch.rand(1, 32))).backward()
        optimiser.step()
        optimiser.zero_grad()
    assert rates[0] == pytest.approx(0.5, abs=1e-6)
    assert (torch.stack(rates[-20:]) - 5 / 47).abs().max() < 0.02


# --- the heads, and where gradients end ----------------------------------------------------------


def test_the_late_head_reads_the_last_boundary_and_the_mean_of_all() -> None:
    """The same predictions as from a loop over steps."""
    torch.manual_seed(0)
    patcher = ScoreFunctionDiscounted(TINY).double()
    feature = torch.randn(20, 7, Stem.width, dtype=torch.float64)
    label = torch.rand(20, 6) < 0.4
    early, late = patcher.predictions(feature, label)
    head = patcher.heads(feature)
    for row, step in itertools.product(range(20), range(6)):
        begun = [0, *(label[row, :step].nonzero()[:, 0] + 1).tolist()]
        expected = head[row, step, 1] + head[row, begun[-1], 2] + head[row, begun, 3].mean()
        assert torch.allclose(late[row, step], expected, atol=1e-12)
        assert torch.equal(early[row, step], head[row, step, 0])


def test_neither_coins_nor_predictions_see_a_later_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """With other values after a step, all up to it stays equal to the bit; after it, it moves."""
    torch.manual_seed(0)
    patcher = ScoreFunctionDiscounted(TASK)
    nn.init.normal_(patcher.score.weight)
    seen: list[Tensor] = []
    patcher.score.register_forward_hook(lambda *call: seen.append(call[-1][:, 0]))
    predict = patcher.predictions

    def spy(*shown: Tensor) -> tuple[Tensor, Tensor]:
        early, late = predict(*shown)
        seen.extend([early, late])
        return early, late

    monkeypatch.setattr(patcher, "predictions", spy)
    values = torch.randn(8, 48)
    other = values.clone()
    other[:, 21:] = torch.randn(8, 27)
    for shown in (values, other):
        patcher(rows(shown))
    for before, after in zip(seen[:3], seen[3:], strict=True):
        assert torch.equal(before[:, :21], after[:, :21])
        assert not torch.equal(before[:, 21], after[:, 21])


@EITHER
def test_no_loss_reaches_what_is_not_its_own(method: type[Either]) -> None:
    """The forecaster learns nothing from policy and heads; they learn nothing from forecasts."""
    torch.manual_seed(0)
    architecture = Architecture(layers=1, dropout=0.0)
    model = with_branches(PatchForecaster(TASK, architecture, method(TASK))).train()
    assert isinstance(model.patcher, Either)
    nn.init.normal_(model.patcher.score.weight)
    past, ids = torch.randn(16, 2, 48), torch.arange(32).view(16, 2)
    forecast = model(past, ids, None, torch.Generator().manual_seed(0))
    loss, beside = training_loss(model, forecast, torch.randn(16, 2, 12))
    deciding = {id(p) for p in model.parts()["patcher"].parameters()}
    every = dict(model.named_parameters())
    for value, owned in ((beside, True), (loss, False)):
        assert value is not None
        found = torch.autograd.grad(
            value, list(every.values()), allow_unused=True, retain_graph=True
        )
        for (name, parameter), gradient in zip(every.items(), found, strict=True):
            mine = (id(parameter) in deciding) == owned
            assert (gradient is not None and bool(gradient.any())) == mine, name


def test_the_loss_beside_the_forecast_is_that_of_rate_and_policy() -> None:
    """The forecaster adds up what the plan brings along and what is learned from the losses."""
    torch.manual_seed(0)
    patcher = ScoreFunction(TASK)
    patcher.bias += 0.5  # off its rate
    model = PatchForecaster(TASK, Architecture(), patcher).train()
    past, numbers = torch.randn(4, 1, 48), torch.arange(4)[:, None]
    forecast = model(past, numbers, generator=torch.Generator().manual_seed(0))
    row_loss = torch.rand(1, 4)
    policy, both = patcher.learn(forecast.patches, row_loss), model.learn(forecast, row_loss)
    assert abs(float(policy.detach())) > 1e-6 < abs(float(forecast.patches.loss.detach()))
    assert both is not None
    assert both.item() == pytest.approx((policy + forecast.patches.loss).item(), rel=1e-5)
