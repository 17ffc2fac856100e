"""ReinPatch in its four forms: who learns from what, what the options do, and that it learns."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from branches import with_branches
from scipy import stats
from torch import Tensor, nn

from harness.core.task import Architecture, Budget, Task
from harness.model.forecaster import Forecast, PatchForecaster, autocast, training_loss
from harness.model.patcher import Patcher, Patches, Rows, Rule, uniform_starts
from harness.run.fit import fit, rate_factor
from harness.run.windows import Windows
from methods._policy import PolicyPatcher
from methods.random_step import RandomStep
from methods.reinpatch import ReinPatch
from methods.reinpatch_bernoulli import ReinPatchBernoulli
from methods.reinpatch_cb import ReinPatchCB
from methods.reinpatch_levels import ReinPatchLevels

METHODS = [ReinPatch, ReinPatchBernoulli, ReinPatchCB, ReinPatchLevels]
EVERY = pytest.mark.parametrize("method", METHODS)
TASK = Task("x", look_back=24, horizon=6, patches=6)
SMALL = Architecture(width=8, layers=2, heads=2, feedforward=16, dropout=0.3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(values: Tensor, seed: int | None = 0) -> Rows:
    generator = None if seed is None else seeded(seed)
    return Rows(values, torch.arange(len(values)), generator=generator)


def noise(count: int, look_back: int = 24) -> Tensor:
    return torch.randn(count, look_back, generator=seeded())


def opinionated(patcher: Patcher) -> PolicyPatcher:
    """With a last layer that is not 0, as if it had learned something."""
    assert isinstance(patcher, PolicyPatcher)
    nn.init.normal_(patcher.policy.out.weight, generator=seeded())
    patcher.train()
    return patcher


def given(patcher: PolicyPatcher, logits: Tensor) -> nn.Parameter:
    """Make these [row, level, step] its logits, in double precision; returns the parameter."""

    class Given(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logits = nn.Parameter(logits)

        def forward(self, values: Tensor) -> Tensor:
            return self.logits

    policy = Given()
    patcher.register_module("policy", policy)
    patcher.double().train()
    return policy.logits


def slope(value: Tensor | None, at: Tensor) -> Tensor:
    assert value is not None
    return torch.autograd.grad(value, at, retain_graph=True)[0]


def policy_gradient(patcher: PolicyPatcher, patches: Patches, row_loss: Tensor) -> Tensor:
    loss, parameters = patcher.learn(patches, row_loss), list(patcher.parameters())
    slopes = torch.autograd.grad(loss, parameters, retain_graph=True)
    return torch.cat([one.flatten() for one in slopes])


def update(optimiser: torch.optim.Optimizer, loss: Tensor | None) -> None:
    assert loss is not None
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


# --- who learns from what ------------------------------------------------------------------------


def step_of(model: PatchForecaster, windows: int = 8) -> tuple[Forecast, Tensor, Tensor]:
    """A training step's forecast, forecast loss and policy loss."""
    past = noise(windows)[:, None]
    forecast: Forecast = model(past, torch.arange(windows)[:, None], generator=seeded())
    loss, beside = training_loss(model, forecast, past[..., :6].square())
    assert beside is not None
    return forecast, loss, beside


@EVERY
def test_forecaster_and_policy_learn_from_their_own_loss_only(
    method: type[PolicyPatcher],
) -> None:
    """The policy gets exactly nothing from the forecast loss, all others nothing from its own."""
    torch.manual_seed(0)
    model = with_branches(PatchForecaster(TASK, SMALL, opinionated(method(TASK)))).train()
    own = {id(parameter) for parameter in model.patcher.parameters()}

    def reached(loss: Tensor) -> list[bool]:
        model.zero_grad(set_to_none=True)
        loss.backward()
        return [
            id(parameter) in own
            for parameter in model.parameters()
            if parameter.grad is not None and parameter.grad.any()
        ]

    _, loss, beside = step_of(model)
    assert not any(by_forecast := reached(loss))
    assert len(by_forecast) > 20
    assert all(by_policy := reached(beside))
    # A bias of all logits moves no distribution of a fixed number.
    assert len(by_policy) >= len(own) - 1


@EVERY
@pytest.mark.parametrize("share", [1.0, 0.9])
def test_rollouts_are_forecasts_under_each_set_and_nothing_else(
    share: float, method: type[PolicyPatcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draw by draw in their order, without dropout and without a graph; the first one learns.

    Of all rows or of those that are judged, and so are the losses that the policy is told.
    """
    torch.manual_seed(0)
    windows = 300  # more than fit in one call with all five draws
    patcher = opinionated(method(TASK, draws=5, rollout_share=share))
    told: list[Tensor] = []
    monkeypatch.setattr(patcher, "learn", lambda _, row_loss: told.append(row_loss))
    model = PatchForecaster(TASK, SMALL, patcher).train()
    past = noise(windows)[:, None]
    forecast = model(past, torch.arange(windows)[:, None], generator=seeded())
    future = past[..., :6].square()
    training_loss(model, forecast, future)
    assert forecast.rollouts is not None
    assert forecast.patches is not None
    assert not forecast.rollouts.requires_grad
    assert forecast.future.requires_grad
    judged = forecast.patches.judged
    if judged is None:
        judged = torch.arange(windows)
    assert forecast.rollouts.shape == (5, round(share * windows), 6)
    learned = forecast.future[0, judged, 0]
    assert not torch.allclose(learned, forecast.rollouts[0])  # dropout, in learning
    model.eval()
    for one in range(5):
        patches = forecast.patches.rows(slice(one * windows, (one + 1) * windows))
        expected = model.predict(past, patches)[judged, 0]
        torch.testing.assert_close(forecast.rollouts[one], expected, rtol=1e-4, atol=1e-5)
        error = (expected - future[judged, 0]).square().mean(1)
        torch.testing.assert_close(told[0][one], error, rtol=1e-4, atol=1e-5)


@EVERY
def test_a_constant_added_to_the_rewards_of_a_row_changes_nothing(
    method: type[PolicyPatcher],
) -> None:
    """Sets of a row are compared with each other only."""
    patcher = opinionated(method(TASK)).double()
    patches = patcher(rows(noise(16).double()))
    row_loss = torch.rand(8, 16, generator=seeded(1), dtype=torch.float64)
    shift = 10 * torch.rand(16, generator=seeded(2), dtype=torch.float64)
    plain = policy_gradient(patcher, patches, row_loss)
    shifted = policy_gradient(patcher, patches, row_loss + shift)
    assert plain.abs().max() > 1e-3
    torch.testing.assert_close(shifted, plain, rtol=0, atol=1e-6)


@EVERY
def test_the_same_seeds_give_the_same_run(method: type[PolicyPatcher]) -> None:
    """Weights and losses after three steps, to the last bit."""

    def run() -> list[Tensor]:
        torch.manual_seed(0)
        model = PatchForecaster(TASK, SMALL, method(TASK)).train()
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
        for _ in range(3):
            _, loss, beside = step_of(model)
            update(optimiser, loss + beside)
        return [loss, beside, *model.parameters()]

    for one, other in zip(run(), run(), strict=True):
        assert torch.equal(one, other)


# --- before it has learned -----------------------------------------------------------------------


def marks(patches: Patches, look_back: int) -> Tensor:
    """Which inner steps start a patch that counts."""
    starts = torch.where(patches.valid, patches.start, 0)
    return (starts[:, None] == torch.arange(1, look_back)[:, None]).any(-1)


@EVERY
def test_a_policy_that_never_learns_is_random_step(method: type[PolicyPatcher]) -> None:
    """At a pace of 0 its draws have the same distribution as those of the control."""
    task = Task("x", look_back=8, horizon=4, patches=3)
    patcher = method(task, pace=0.0).train()
    optimiser = torch.optim.Adam(patcher.parameter_groups(1e-2))
    values = noise(4, 8)
    for seed in range(3):
        patches = patcher(rows(values, seed))
        update(optimiser, patcher.learn(patches, torch.rand(8, 4, generator=seeded(seed))))
    mark = marks(patcher(rows(noise(3_000, 8))), 8)
    full = mark[mark.sum(1) == 2]  # independent labels may be fewer
    pairs = (full.double().T @ full.double())[*torch.triu_indices(7, 7, 1)]
    assert stats.chisquare(pairs.numpy()).pvalue > 1e-3
    control = marks(RandomStep(task).train()(rows(noise(24_000, 8))), 8).double()
    both = torch.stack([pairs, (control.T @ control)[*torch.triu_indices(7, 7, 1)]])
    assert stats.chi2_contingency(both.numpy()).pvalue > 1e-3


def test_the_first_draws_are_those_of_random_step() -> None:
    """Asked to sample in evaluation, a new policy cuts each row just where the control does."""
    asked = replace(rows(noise(50), None), rule="sample")
    assert torch.equal(ReinPatch(TASK).eval()(asked).start, RandomStep(TASK).eval()(asked).start)


def test_the_policy_sees_neither_level_nor_place() -> None:
    """A row raised as a whole has the same logits, and a row moved in time has them moved."""
    policy = opinionated(ReinPatch(TASK)).policy
    values = noise(4, 96)
    logits = policy(values)
    torch.testing.assert_close(policy(values + 3), logits, rtol=1e-3, atol=1e-4)
    inside = slice(policy.reach, -policy.reach)  # what lies nearer to the ends sees them
    moved = policy(values[:, 5:])[..., inside]
    torch.testing.assert_close(moved, logits[..., 5:][..., inside], rtol=1e-3, atol=1e-4)


def test_mixed_precision_keeps_the_digits_of_log_probabilities() -> None:
    """What the policy says may be rounded; what is made of it is not."""
    patcher = opinionated(ReinPatch(TASK))
    with autocast(torch.device("cpu"), "bfloat16"):
        assert patcher.policy(noise(4)).dtype == torch.bfloat16
        assert patcher(rows(noise(4))).log_prob.dtype == torch.float32


# --- learning ------------------------------------------------------------------------------------

BANDIT = Task("x", look_back=24, horizon=6, patches=5)


def bandit(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Staircases with four jumps, one of them large: values, best boundaries, best group."""
    jump = torch.rand(count, 23, generator=generator).topk(4, dim=1).indices
    sign = torch.randint(0, 2, (count, 4), generator=generator) * 2.0 - 1
    size = sign * torch.tensor([4.0, 1.0, 1.0, 1.0])
    values = torch.zeros(count, 24).scatter(1, jump + 1, size).cumsum(1)
    values = values + 0.05 * torch.randn(count, 24, generator=generator)
    mark = torch.zeros(count, 23, dtype=torch.bool).scatter(1, jump, True)
    return values, mark, torch.zeros_like(mark).scatter(1, jump[:, :1], True)


def missed(patches: Patches, best: Tensor, large: Tensor) -> Tensor:
    """How many of the best boundaries are not there, the start of a second group among them."""
    draws = len(patches.start) // len(best)
    lost = (best.repeat(draws, 1) & ~marks(patches, 24)).sum(1)
    if patches.coarse is not None:
        group = patches.start.gather(1, patches.coarse)[:, 1]
        lost = lost + ~large.repeat(draws, 1).gather(1, group[:, None] - 1)[:, 0]
    return lost.float()


@EVERY
def test_a_planted_plan_is_found(method: type[PolicyPatcher]) -> None:
    """In rows never seen its best boundaries are the planted ones, and it has grown surer."""
    torch.manual_seed(0)
    patcher = method(BANDIT, width=16).train()
    optimiser = torch.optim.Adam(patcher.parameters(), lr=0.03)
    generator, surprise = seeded(), []
    for _ in range(150):
        values, best, large = bandit(32, generator)
        patches = patcher(Rows(values, torch.arange(32), generator=generator))
        update(optimiser, patcher.learn(patches, missed(patches, best, large).view(8, 32)))
        surprise.append(-float(patches.log_prob.detach().mean()))
    values, best, large = bandit(1_000, seeded(9))
    found = missed(patcher.eval()(rows(values, None)), best, large) == 0
    assert found.float().mean() > 0.95
    assert surprise[-1] < surprise[0] / 2


@EVERY
def test_a_constant_reward_moves_nothing(method: type[PolicyPatcher]) -> None:
    """The gradient is exactly 0: no drift."""
    patcher = opinionated(method(TASK))
    patches = patcher(rows(noise(16)))
    assert not policy_gradient(patcher, patches, torch.full((8, 16), 0.7)).any()


# --- options -------------------------------------------------------------------------------------


@EVERY
def test_the_policy_rests_while_it_warms_up(method: type[PolicyPatcher]) -> None:
    """Until then it has no gradient at all; after that it learns to the end."""
    patcher = opinionated(method(TASK, warm_up=0.2))
    row_loss = torch.rand(8, 16, generator=seeded(1))
    for progress, learns in ((0.1, False), (0.2, True), (0.6, True), (0.99, True)):
        patcher.progress.fill_(progress)
        patches = patcher(rows(noise(16)))
        assert bool(policy_gradient(patcher, patches, row_loss).any()) == learns


def plans(patches: Patches) -> list[Tensor]:
    """Boundaries [draw, row, patch], with groups where there are any."""
    parts = (patches.start, patches.length, patches.valid, patches.coarse)
    return [part.view(-1, 16, part.shape[1]) for part in parts if part is not None]


@pytest.mark.parametrize("rule", ["even", "best"])
@EVERY
def test_the_forecaster_learns_the_plan_in_use_at_the_end(
    method: type[PolicyPatcher], rule: Rule
) -> None:
    """In the last phase the first draw of a row is the plan of evaluation; before, a draw is."""
    patcher = opinionated(method(TASK, final=0.3))
    patcher.evaluation_rule = rule
    values = noise(16)
    settled = plans(patcher.eval()(replace(rows(values, None), rule=rule)))
    patcher.train()
    drawn = plans(patcher(rows(values)))
    for progress in (0.6, 0.7, 0.9):
        patcher.progress.fill_(progress)
        patches = patcher(rows(values))
        for now, before, last in zip(plans(patches), drawn, settled, strict=True):
            assert torch.equal(now[1:], before[1:])
            assert torch.equal(now[:1], last if progress >= 0.7 else before[:1])
        # A plan without chance has no slope; the draws have.
        slopes = policy_gradient(patcher, patches, torch.eye(8)[0, :, None].expand(8, 16))
        assert slopes.any()
        only = torch.autograd.grad(
            patches.log_prob.view(8, 16)[0].sum(), patcher.policy.out.weight, retain_graph=True
        )
        assert bool(only[0].any()) == (progress < 0.7)


@EVERY
def test_where_draws_are_scored_draws_go_on(method: type[PolicyPatcher]) -> None:
    """Under the rule "sample" the last phase is as any other."""
    patcher = opinionated(method(TASK))
    patcher.evaluation_rule = "sample"
    first = plans(patcher(rows(noise(16))))
    patcher.progress.fill_(0.99)
    for now, before in zip(plans(patcher(rows(noise(16)))), first, strict=True):
        assert torch.equal(now, before)


@pytest.mark.parametrize(
    "budget",
    [
        Budget(epochs=15, steps=100, warmup=0.1),  # planted
        Budget(epochs=8, steps=80),
        Budget(epochs=3, steps=7, warmup=0.1),
    ],
)
def test_the_last_phase_has_a_tenth_of_all_rates(budget: Budget) -> None:
    """Of the rates that the real schedule gives, summed over the steps; .1 of steps has none."""
    assert budget.steps is not None
    total = budget.epochs * budget.steps
    rates = [rate_factor(step, budget, total) for step in range(total)]

    def share(final: float) -> float:
        settled = [rate for step, rate in enumerate(rates) if step / total >= 1 - final]
        return sum(settled) / sum(rates)

    assert share(ReinPatch(TASK).final) >= 0.1
    assert share(0.1) < 0.01


def test_the_forecaster_moves_in_the_last_phase() -> None:
    """Its weights go a twentieth of their way or more there, in a training by ``fit``."""
    torch.manual_seed(0)
    model = PatchForecaster(TASK, SMALL, ReinPatch(TASK, draws=2, width=4))
    moved = []

    def note(_: object) -> None:
        shared = [part for name, part in model.named_parameters() if "patcher" not in name]
        moved.append(nn.utils.parameters_to_vector(shared).detach().clone())

    note(None)
    part = Windows(
        values=noise(1, 200),
        starts=torch.arange(150),
        look_back=24,
        horizon=6,
        offset=0,
        mean=torch.zeros(1, dtype=torch.float64),
        scale=torch.ones(1, dtype=torch.float64),
    )
    budget = Budget(epochs=10, steps=4, batch=8, learning_rate=5e-3, patience=10)
    fit(model, part, part, budget, seed=0, on_epoch=note)
    way = [float((b - a).norm()) for a, b in itertools.pairwise(moved)]
    assert isinstance(model.patcher, PolicyPatcher)
    assert model.patcher.final > 0.4
    assert sum(way[6:]) > 0.05 * sum(way)


@EVERY
def test_a_relative_reward_divides_by_the_loss_under_equal_patches(
    method: type[PolicyPatcher],
) -> None:
    """They are one draw more; rows that are hard to forecast weigh no more than others."""
    plain = opinionated(method(TASK, scaled=False))
    patcher = opinionated(method(TASK, scaled=False, reward="relative"))
    patcher.load_state_dict(plain.state_dict())
    assert (plain.draws, patcher.draws) == (8, 9)
    patches = patcher(rows(noise(16)))
    assert len(patches.start) == 9 * 16
    assert (patches.start[-16:] == uniform_starts(24, 6)).all()
    if patches.coarse is not None:
        assert (patches.coarse[-16:] == uniform_starts(6, 2)).all()
    row_loss = torch.rand(9, 16, generator=seeded(1)) + 0.1
    own = policy_gradient(patcher, patches, row_loss)
    expected = policy_gradient(plain, plain(rows(noise(16))), row_loss[:8] / row_loss[8])
    torch.testing.assert_close(own, expected)


@EVERY
def test_the_policy_learns_at_its_own_pace(method: type[PolicyPatcher]) -> None:
    """Its rate is that of the forecaster times its pace, and the forecaster's stays as it is."""
    model = PatchForecaster(TASK, SMALL, method(TASK, pace=3.0))
    shared, _, own = model.parameter_groups(0.01)
    assert (shared["lr"], own["lr"]) == pytest.approx((0.01, 0.03))


@pytest.mark.parametrize("method", [ReinPatchBernoulli, ReinPatchCB])
def test_a_better_draw_becomes_likelier(method: type[PolicyPatcher]) -> None:
    """Whatever the loss is divided by, its descent raises the probability of the best draw."""
    patcher = opinionated(method(TASK, entropy=0.0))
    shown = noise(1)
    patches = patcher(rows(shown))
    assert patches.log_prob is not None
    row_loss = torch.ones(patcher.draws, 1)
    row_loss[0] = 0.5
    slopes = torch.autograd.grad(
        patcher.learn(patches, row_loss), patcher.policy.out.weight, retain_graph=True
    )
    [rising] = torch.autograd.grad(patches.log_prob[0], patcher.policy.out.weight)
    assert float((slopes[0] * rising).sum()) < 0


def test_scaling_gives_every_batch_the_same_say() -> None:
    """By one number for the whole batch: the direction stays, the size of rewards goes."""
    scaled, plain = (
        opinionated(ReinPatch(TASK, entropy=0.0, scaled=choice)) for choice in (True, False)
    )
    plain.load_state_dict(scaled.state_dict())
    patches = scaled(rows(noise(16)))
    row_loss = torch.rand(8, 16, generator=seeded(1))
    first = policy_gradient(scaled, patches, row_loss)
    torch.testing.assert_close(policy_gradient(scaled, patches, 50 * row_loss), first)
    other = policy_gradient(plain, plain(rows(noise(16))), row_loss)
    ratio = float(first @ other / (other @ other))
    torch.testing.assert_close(first, other * ratio)
    better = (row_loss - row_loss.mean(0)) * 8 / 7
    assert ratio == pytest.approx(float(1 / better.square().mean().sqrt()), rel=1e-4)


@pytest.mark.parametrize("progress", [0.0, 0.5])
def test_the_entropy_bonus_has_the_slope_of_the_entropy(progress: float) -> None:
    """Of 56 sets, enumerated; rewards that do not depend on the sets add noise only."""
    task, count, logits = Task("x", 9, 4, 4), 50_000, noise(1, 9)[0, 1:].double()
    patcher = ReinPatchCB(task, draws=4, scaled=False, entropy=0.5)
    own = given(patcher, logits.expand(count, 1, 8).clone())
    patcher.progress.fill_(progress)
    patches = patcher(rows(torch.zeros(count, 9).double()))
    row_loss = torch.randn(4, count, generator=seeded(1), dtype=torch.float64)
    got = -slope(patcher.learn(patches, row_loss), own)[:, 0] * count
    # Half a standard deviation of the rewards, and less and less of it.
    weight = 0.5 * (1 - progress) * float(row_loss.std(0).mean())

    at = logits.requires_grad_()
    chosen = torch.tensor(list(itertools.combinations(range(8), 3)))
    log_prob = at[chosen].sum(1).log_softmax(0)
    expected = weight * slope(-(log_prob.exp() * log_prob).sum(), at)
    error = got.std(0) / count**0.5
    assert ((got.mean(0) - expected).abs() < 4 * error).all()
    assert (expected.abs() > 8 * error).any()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"advantage": "x"}, "advantage is 'x'; allowed: loo, mean, grpo"),
        ({"reward": "x"}, "reward is 'x'; allowed: loss, relative"),
        ({"draws": 1}, "draws is 1; 2 or more"),
        ({"entropy": -0.1}, "entropy is -0.1; 0 or more"),
        ({"warm_up": -0.1}, "warm_up is -0.1; 0 and at most 1"),
        ({"final": -0.1}, "final is -0.1; 0 and at most 1"),
        ({"final": 1.1}, "final is 1.1; 0 and at most 1"),
        ({"pace": -1.0}, "pace is -1.0; 0 or more"),
        ({"width": 1}, "width is 1; 2 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, object], said: str) -> None:
    """At once, with what is allowed."""
    make: Callable[..., Patcher] = ReinPatch
    with pytest.raises(ValueError, match=said):
        make(TASK, **wrong)


# --- two levels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("patches", [1, 4, 5, 9, 24])
def test_groups_start_at_boundaries(patches: int) -> None:
    """Drawn, best, even and equal: ceil(K / 4) groups of patches, the first one at 0, in order."""
    patcher = opinionated(ReinPatchLevels(replace(TASK, patches=patches), reward="relative"))
    values = noise(16)
    drawn, best = patcher(rows(values)), patcher.eval()(rows(values, None))
    even = patcher(replace(rows(values, None), rule="even"))
    for plan in (drawn, best, even):
        assert plan.coarse.shape[1] == (patches + 3) // 4
        assert (plan.coarse[:, 0] == 0).all()
        assert (plan.coarse.diff(dim=1) > 0).all()
        assert (plan.coarse < patches).all()
    if 4 < patches < 24:
        assert len(drawn.coarse.unique(dim=0)) > 1


def without_replacement(logits: Tensor, count: int) -> dict[frozenset[int], Tensor]:
    """Probability of each set that ``count`` draws may give, one draw after another."""
    distribution = {frozenset[int](): torch.ones((), dtype=logits.dtype)}
    for _ in range(count):
        longer: dict[frozenset[int], Tensor] = {}
        for taken, probability in distribution.items():
            left = [step for step in range(len(logits)) if step not in taken]
            for step, share in zip(left, logits[left].softmax(0), strict=True):
                now = taken | {step}
                longer[now] = longer.get(now, 0) + probability * share
        distribution = longer
    return distribution


def test_both_levels_are_learned_without_bias() -> None:
    """The slope of the cost enumerated over all nested sets, in both rows of logits."""
    task, count = Task("x", look_back=10, horizon=4, patches=9), 50_000  # 3 groups, 2 drawn
    logits = noise(2, 9).double()
    # A cost for each pair of steps that start a group, beside one for each boundary.
    pair, alone = 3 * noise(9, 9).double(), noise(1, 9)[0].double()

    def cost(start: Tensor, coarse: Tensor) -> Tensor:
        first, second = (start.gather(-1, coarse)[..., 1:] - 1).unbind(-1)
        return 5 + pair[first, second] + alone[start[..., 1:] - 1].sum(-1)

    at = logits.clone().requires_grad_()
    expected = torch.zeros((), dtype=torch.float64)
    for fine, probability in without_replacement(at[0], 8).items():
        step = sorted(fine)
        start = torch.tensor([0, *(one + 1 for one in step)])
        for groups, share in without_replacement(at[1, step], 2).items():
            coarse = torch.tensor([0, *(one + 1 for one in sorted(groups))])
            expected = expected + probability * share * cost(start, coarse)
    true = slope(expected, at)

    patcher = ReinPatchLevels(task, draws=4, entropy=0.0, scaled=False)
    own = given(patcher, logits.expand(count, 2, 9).clone())
    patches = patcher(rows(torch.zeros(count, 10).double()))
    assert patches.coarse is not None
    row_loss = cost(patches.start, patches.coarse).view(4, count)
    estimate = slope(patcher.learn(patches, row_loss), own) * count
    error = estimate.std(0) / count**0.5
    assert ((estimate.mean(0) - true).abs() < 4 * error).all()
    assert ((estimate.mean(0) - true).norm(dim=1) < 0.03 * true.norm(dim=1)).all()


def test_a_training_step_reaches_the_logits_of_both_levels() -> None:
    """Of boundaries and of groups; with one group only there is nothing to learn of groups."""
    for patches, learns in ((6, [True, True]), (4, [True, False])):
        task = replace(TASK, patches=patches)
        torch.manual_seed(0)
        patcher = ReinPatchLevels(task)
        step_of(PatchForecaster(task, SMALL, patcher).train())[2].backward()
        gradient = patcher.policy.out.weight.grad
        assert gradient is not None
        assert gradient.any(dim=1).tolist() == learns
