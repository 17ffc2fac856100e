"""Policy gradients against exact enumeration: distributions, and estimates made from draws.

A row of 9 steps in 4 patches has 8 places for 3 boundaries, few enough to go through all of them.
The oracles here know nothing of running sums or trees: they multiply probabilities out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from harness.core.task import Task
from harness.model.patcher import Patches, Rows, Rule
from methods._policy import (
    FixedSize,
    Policy,
    PolicyPatcher,
    advantage,
    better_than_expected,
    draw_in_order,
    gumbel,
    log_prob_in_order,
    log_prob_of_labels,
)
from methods.reinpatch import ReinPatch
from methods.reinpatch_bernoulli import ReinPatchBernoulli
from methods.reinpatch_cb import ReinPatchCB

TASK = Task("x", look_back=9, horizon=5, patches=4)
STEPS, COUNT = 8, 3


def random(*shape: int, seed: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


LOGITS = 0.7 * random(STEPS, seed=6)

# --- what is enumerated --------------------------------------------------------------------------

LABELS = torch.tensor(list(itertools.product([False, True], repeat=STEPS)))
ORDERS = torch.tensor(list(itertools.permutations(range(STEPS), COUNT)))
SETS = LABELS[LABELS.sum(1) == COUNT]


def marks(chosen: Tensor, steps: int = STEPS) -> Tensor:
    """Steps in any order as a mark for each step."""
    return torch.zeros(*chosen.shape[:-1], steps, dtype=torch.bool).scatter(-1, chosen, True)


def squared_error(mark: Tensor) -> float:
    """Of a fixed linear forecast from a random walk of which each patch keeps its mean."""
    past = random(len(mark) + 1, seed=10).cumsum(0)
    edges = [0, *(mark.nonzero()[:, 0] + 1).tolist(), len(past)]
    kept = torch.cat([past[a:b].mean().expand(b - a) for a, b in itertools.pairwise(edges)])
    weight, future = random(5, len(past), seed=11) / 2, random(5, seed=12)
    return float((future - weight @ kept).square().mean())


# An offset, which no right estimate minds.
COST = 5 + torch.tensor([squared_error(mark) for mark in LABELS], dtype=torch.float64)


def cost(mark: Tensor) -> Tensor:
    return COST[(mark * 2 ** torch.arange(STEPS).flip(0)).sum(-1)]


Distribution = Callable[[Tensor], Tensor]
LogProb = Callable[[Tensor, Tensor], Tensor]


def orders(logits: Tensor, order: Tensor = ORDERS) -> Tensor:
    """Probability of each order: softmax over what is left, again and again."""
    probability = torch.ones(len(order), dtype=logits.dtype)
    left = torch.ones(len(order), len(logits), dtype=torch.bool)
    for drawn in order.T:
        share = torch.where(left, logits.exp(), 0.0)
        probability = probability * share.gather(1, drawn[:, None])[:, 0] / share.sum(1)
        left = left.scatter(1, drawn[:, None], False)
    return probability


def labels(logits: Tensor) -> Tensor:
    """Probability of each of LABELS: coins, one a step."""
    return torch.where(LABELS, logits.sigmoid(), 1 - logits.sigmoid()).prod(1)


def sets(logits: Tensor) -> Tensor:
    """Probability of each of SETS: labels, given that there are so many."""
    weight = torch.where(SETS, logits.exp(), 1.0).prod(1)
    return weight / weight.sum()


def capped(label: Tensor) -> Tensor:
    """The mean cost of labels of which, where they are too many, COUNT are kept at random."""
    ones = label.nonzero()[:, 0]
    kept = torch.combinations(ones, min(len(ones), COUNT))
    return cost(marks(kept)).mean()


def rated(logits: Tensor) -> Tensor:
    """Labels start at the rate of the budget."""
    return logits + math.log(COUNT / (STEPS - COUNT))


CAPPED = torch.stack([capped(label) for label in LABELS])
EXPECTED: dict[type[PolicyPatcher], Distribution] = {
    ReinPatch: lambda logits: orders(logits) @ cost(marks(ORDERS)),
    ReinPatchBernoulli: lambda logits: labels(rated(logits)) @ CAPPED,
    ReinPatchCB: lambda logits: sets(logits) @ cost(SETS),
}
EACH = pytest.mark.parametrize("method", EXPECTED, ids=lambda method: method.__name__)


def slope(value: Tensor | None, at: Tensor) -> Tensor:
    assert value is not None
    return torch.autograd.grad(value, at, retain_graph=True)[0]


def differences(distribution: Distribution, at: Tensor) -> Tensor:
    """The slope of an expected cost by central differences."""
    nudges = 1e-5 * torch.eye(len(at), dtype=torch.float64)
    return (
        torch.stack([distribution(at + nudge) - distribution(at - nudge) for nudge in nudges])
        / 2e-5
    )


# --- the network ---------------------------------------------------------------------------------


def test_a_policy_says_the_same_of_rows_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits, and the slopes of its weights; each row has its own, as if alone."""
    torch.manual_seed(0)
    policy, values = Policy(8, outputs=2), torch.randn(7, 40)
    torch.nn.init.normal_(policy.out.weight)
    weight = torch.randn(7, 2, 39)
    whole = policy(values)
    expected = torch.autograd.grad((weight * whole).sum(), list(policy.parameters()))
    monkeypatch.setattr("harness.model.layers._CACHED", 3 * 8 * 40)
    parts = policy(values)
    got = torch.autograd.grad((weight * parts).sum(), list(policy.parameters()))
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(got, expected)
    for row in range(7):
        torch.testing.assert_close(policy(values[row, None])[0], whole[row])


# --- log-probabilities ---------------------------------------------------------------------------


def fixed_size(logits: Tensor, mark: Tensor) -> Tensor:
    """Log-probability of one mark a set, of rows that all have the same logits."""
    distribution = FixedSize.of(logits[None], int(mark[0].sum()))
    return distribution.log_prob(logits[None], mark[:, None])[:, 0]


def in_order(logits: Tensor, order: Tensor) -> Tensor:
    return log_prob_in_order(logits[None], order[:, None])[:, 0]


def of_labels(logits: Tensor, label: Tensor) -> Tensor:
    return log_prob_of_labels(logits[None], label[:, None].double())[:, 0]


def of_rated_labels(logits: Tensor, label: Tensor) -> Tensor:
    return of_labels(rated(logits), label)


@pytest.mark.parametrize(
    ("distribution", "outcomes", "slow"),
    [(in_order, ORDERS, orders), (of_labels, LABELS, labels), (fixed_size, SETS, sets)],
)
@pytest.mark.parametrize("spread", [0.0, 1.0, 12.0])
def test_log_probabilities_are_those_of_the_law(
    distribution: LogProb, outcomes: Tensor, slow: Distribution, spread: float
) -> None:
    """Of every outcome, flat or peaked, with its slope; and all outcomes together have 1."""
    at = (spread * LOGITS).requires_grad_()
    got, expected = distribution(at, outcomes), slow(at).log()
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-8)
    assert float(got.detach().exp().sum()) == pytest.approx(1, abs=1e-6)
    for index in range(0, len(outcomes), 41):
        right = slope(expected[index], at)
        torch.testing.assert_close(slope(got[index], at), right, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("steps", [1, 5])
def test_all_steps_can_be_drawn_in_order(steps: int) -> None:
    """With none left over all permutations are orders, each of the probability of its draws."""
    logits = random(steps, seed=5)
    order = torch.tensor(list(itertools.permutations(range(steps))))
    torch.testing.assert_close(in_order(logits, order).exp(), orders(logits, order))
    everything = draw_in_order(logits[None], steps, uniform(3, 1, steps))
    assert (everything.sort(-1).values == torch.arange(steps)).all()


def test_log_probability_in_order_equals_a_slow_loop() -> None:
    """On a long row in float32: the value, and autograd's slope through the loop."""
    source = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(2, 96, generator=source)).requires_grad_()
    order = draw_in_order(logits, 11, uniform(4, 2, 96))
    got = log_prob_in_order(logits, order)
    at = logits.detach().double().requires_grad_()
    slow = []
    for one, row in itertools.product(range(4), range(2)):
        left, total = list(range(96)), torch.zeros((), dtype=torch.float64)
        for step in order[one, row].tolist():
            total = total + at[row, step] - at[row, left].logsumexp(0)
            left.remove(step)
        slow.append(total)
    expected = torch.stack(slow).view(4, 2)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    weight = random(4, 2, seed=1)
    right = slope((weight * expected).sum(), at)
    wrong = (slope((weight.float() * got).sum(), logits) - right).abs().max()
    assert wrong < 1e-5


def test_a_policy_sure_of_everything_stays_finite() -> None:
    """Logits so far apart that what is not yet taken has no weight left in float32."""
    logits = torch.tensor([[400.0, 200.0, 0.0, -200.0, -200.0]], requires_grad=True)
    order = torch.tensor([[[0, 1, 2]], [[4, 3, 2]]])
    got = log_prob_in_order(logits, order)
    assert got[0].item() == pytest.approx(0, abs=1e-6)
    assert got[1].isfinite()
    assert slope(got.sum(), logits).isfinite().all()


def test_the_slope_of_a_set_is_the_set_minus_its_inclusion_probabilities() -> None:
    """Enumerated probabilities of each step, and differences of the enumerated logarithm."""
    distribution = FixedSize.of(LOGITS[None], COUNT)
    pi = distribution.inclusion()[0]
    torch.testing.assert_close(pi, sets(LOGITS) @ SETS.double(), rtol=0, atol=1e-12)
    at = LOGITS.clone().requires_grad_()
    for index in (0, 17, 55):
        got = slope(fixed_size(at, SETS[index, None])[0], at)
        torch.testing.assert_close(got, SETS[index].double() - pi, rtol=0, atol=1e-12)
        by_differences = differences(lambda logits: sets(logits)[index].log(), LOGITS)  # noqa: B023 - called at once
        torch.testing.assert_close(got, by_differences, rtol=0, atol=1e-7)


def plan(method: type[PolicyPatcher], logits: Tensor, rule: Rule) -> Tensor:
    """Which steps the rule cuts, given these logits."""
    patcher = made(method).eval()
    patcher.register_module("policy", Given(logits[None, None]))
    values = torch.zeros(1, STEPS + 1, dtype=torch.float64)
    return chosen(patcher(Rows(values, torch.zeros(1).long(), rule=rule)))[0]


@EACH
def test_the_best_plan_is_the_mode_and_the_even_one_is_not(method: type[PolicyPatcher]) -> None:
    """Of two humps of logits the mode cuts the higher one three times, the even plan both."""
    humps = torch.tensor([0.0, 1.0, 1.2, 0.9, -9.0, 0.8, 0.7, 0.7], dtype=torch.float64)
    assert plan(method, humps, "best").nonzero()[:, 0].tolist() == [1, 2, 3]
    even = plan(method, humps, "even").nonzero()[:, 0].tolist()
    assert len(even) == COUNT
    assert min(even) < 4 < max(even)


def test_inclusion_is_exact_where_the_distribution_has_it_and_near_elsewhere() -> None:
    """Enumerated: of sets exactly; of orders, whose law it is not, within a tenth or so."""
    cb, pl = (made(method).inclusion(LOGITS[None])[0] for method in (ReinPatchCB, ReinPatch))
    torch.testing.assert_close(cb, sets(LOGITS) @ SETS.double(), rtol=0, atol=1e-12)
    of_orders = orders(LOGITS) @ marks(ORDERS).double()
    assert float(pl.sum()) == pytest.approx(COUNT, abs=1e-5)
    assert (pl - of_orders).abs().max() < 0.11
    assert torch.equal(pl.argsort(), of_orders.argsort())
    for count in (1, STEPS + 1):  # one set alone is possible
        other = ReinPatchCB(replace(TASK, patches=count))
        assert other.inclusion(LOGITS[None]).tolist() == [[(count - 1) / STEPS] * STEPS]


# --- the distribution of fixed size on rows of any length ----------------------------------------


def elementary(odds: list[float], count: int) -> float:
    """Sum over all sets of ``count`` of the product of their odds, one step after another."""
    total = [1.0] + [0.0] * count
    for one in odds:
        for number in range(count, 0, -1):
            total[number] += one * total[number - 1]
    return total[count]


def without(odds: list[float], *steps: int) -> list[float]:
    return [one for step, one in enumerate(odds) if step not in steps]


LONG = {
    "plain": 1.5 * random(37, seed=2),
    "equal": torch.zeros(37, dtype=torch.float64),
    "peaked": 20 * random(37, seed=2).sign(),
    "a power of two": random(32, seed=2),
    "short": random(2, seed=2),
}


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("count", [1, 2, 12, -1])
def test_halves_of_halves_equal_a_loop_over_steps(kind: str, count: int) -> None:
    """Inclusion probabilities and the normaliser, from one step in the set to all but one."""
    logits = LONG[kind]
    steps = len(logits)
    count = count if 0 < count < steps else steps - 1
    odds = logits.exp().tolist()
    total = elementary(odds, count)
    expected = [
        one * elementary(without(odds, step), count - 1) / total for step, one in enumerate(odds)
    ]
    distribution = FixedSize.of(logits[None], count)
    assert distribution.inclusion()[0].tolist() == pytest.approx(expected, abs=1e-10)
    for chosen in (torch.arange(count), torch.arange(steps - count, steps)):
        got = float(fixed_size(logits, marks(chosen[None], steps))[0])
        assert got == pytest.approx(float(logits[chosen].sum()) - math.log(total), abs=1e-9)


def test_rows_of_a_law_are_their_own() -> None:
    """Different rows side by side have what each of them has alone, draws too."""
    logits, draws = 2 * random(3, 37, seed=6), uniform(50, 3, 37)
    together = FixedSize.of(logits, 9)
    for row in range(3):
        alone = FixedSize.of(logits[row, None], 9)
        assert torch.equal(alone.inclusion()[0], together.inclusion()[row])
        assert torch.equal(alone.draw(draws[:, row, None])[:, 0], together.draw(draws)[:, row])


@pytest.mark.parametrize(("kind", "count"), [("plain", 2), ("plain", 12), ("a power of two", 5)])
def test_sets_of_a_long_row_follow_the_law(kind: str, count: int) -> None:
    """So do pairs of steps, which would show two choices made from one random number."""
    logits, draws = LONG[kind], 30_000
    steps, odds = len(logits), LONG[kind].exp().tolist()
    drawn = FixedSize.of(logits[None], count).draw(uniform(draws, 1, steps))[:, 0].double()
    assert (drawn.sum(1) == count).all()
    total = elementary(odds, count)
    for first, second in itertools.combinations(range(steps), 2):
        rest = elementary(without(odds, first, second), count - 2)
        both = odds[first] * odds[second] * rest / total
        found = float(drawn[:, first] @ drawn[:, second]) / draws
        # 4.5: the largest of 666, not one alone.
        assert abs(found - both) < 4.5 * math.sqrt(both * (1 - both) / draws) + 1 / draws


@pytest.mark.parametrize("edge", [2**-25, 1 - 2**-24])
def test_the_ends_of_the_random_numbers_do_no_harm(edge: float) -> None:
    """The least and the largest draw give finite noise and a set of the right size that can be."""
    draws = torch.full((1, 1, 37), edge)
    assert gumbel(draws).isfinite().all()
    for kind in ("plain", "peaked"):
        drawn = FixedSize.of(LONG[kind][None], 12).draw(draws)[:, 0]
        assert drawn.sum() == 12
        assert fixed_size(LONG[kind], drawn).isfinite().all()


# --- draws ---------------------------------------------------------------------------------------

DRAWS = 200_000


def assert_follows(drawn: Tensor, outcomes: Tensor, probability: Tensor) -> None:
    """Pearson's test of what was drawn, and each step as often as it should be."""
    code = 10 ** torch.arange(outcomes.shape[1])
    place = {key: index for index, key in enumerate((outcomes * code).sum(1).tolist())}
    keys, counts = (drawn * code).sum(1).unique(return_counts=True)
    found = torch.zeros(len(outcomes), dtype=torch.float64)
    found[[place[key] for key in keys.tolist()]] = counts.double()
    assert (expected := DRAWS * probability).min() > 5
    assert stats.chisquare(found.numpy(), expected.numpy()).pvalue > 1e-3


def assert_includes(mark: Tensor, pi: Tensor) -> None:
    error = (pi * (1 - pi) / DRAWS).sqrt()
    assert ((mark.double().mean(0) - pi).abs() < 4 * error).all()


def test_gumbel_noise_draws_in_the_order_of_plackett_and_luce() -> None:
    """All 336 orders of three of eight as often as enumerated."""
    order = draw_in_order(LOGITS[None], COUNT, uniform(DRAWS, 1, STEPS))[:, 0]
    assert_follows(order, ORDERS, orders(LOGITS))
    assert_includes(marks(order), orders(LOGITS) @ marks(ORDERS).double())


def test_conditional_bernoulli_draws_are_exact() -> None:
    """All 56 sets of three of eight as often as enumerated."""
    distribution = FixedSize.of(LOGITS[None], COUNT)
    drawn = distribution.draw(uniform(DRAWS, 1, STEPS))[:, 0]
    assert_follows(drawn, SETS.long(), sets(LOGITS))
    assert_includes(drawn, distribution.inclusion()[0])


# --- estimates -----------------------------------------------------------------------------------


class Given(nn.Module):
    """A policy of given logits, a row its own: their slopes are each row's estimate."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, values: Tensor) -> Tensor:
        return self.logits


class Told(nn.Module):
    """The reward to expect of each row, by its number, which is all that its values are."""

    def __init__(self, expected: Tensor) -> None:
        super().__init__()
        self.expected = nn.Parameter(expected)

    def forward(self, values: Tensor) -> Tensor:
        return self.expected[values[:, 0].long()]


WILD = 10 * random(DRAWS, seed=3)
"""A reward to expect of each row that is far from right."""

Credit = dict[str, float]
"""Options of who gets credit."""
NO_CREDIT: Credit = {}

Wrong = Callable[[Tensor, Tensor, Patches], Tensor]
"""From logits, costs [draw, row] and patches to a policy loss in which something is wrong."""


def made(method: type[PolicyPatcher] = ReinPatch, /, **hyperparameters: object) -> PolicyPatcher:
    """For the task of these tests, ready to be trained."""
    make: Callable[..., PolicyPatcher] = method
    patcher = make(TASK, **hyperparameters)
    patcher.train()
    return patcher


def estimates(
    method: type[PolicyPatcher],
    draws: int = 4,
    kind: str = "loo",
    wrong: Wrong | None = None,
    logits: Tensor = LOGITS,
    expected: Tensor = WILD,
    credit: Credit = NO_CREDIT,
    progress: float = 0.0,
) -> Tensor:
    """Slopes [row, step] of the policy loss, through the real sampler and the real loss.

    The rows have ``logits`` in turn; a baseline expects the reward ``expected`` of each.
    """
    count = DRAWS // draws
    patcher = made(method, draws=draws, advantage=kind, entropy=0.0, scaled=False, **credit)
    patcher.progress.fill_(progress)
    each = logits.view(-1, STEPS)
    policy = Given(each.repeat(count // len(each), 1)[:, None])
    patcher.register_module("policy", policy)
    if patcher.baseline:
        patcher.register_module("expectation", Told(expected))
    values = torch.arange(count, dtype=torch.float64)[:, None].expand(-1, TASK.look_back)
    generator = torch.Generator().manual_seed(0)
    patches = patcher(Rows(values, torch.arange(count), generator=generator))
    row_loss = cost(chosen(patches)).view(draws, count)
    if wrong is None:
        some = slice(None) if patches.judged is None else patches.judged
        loss = patcher.learn(patches, row_loss[:, some])
    else:
        loss = wrong(policy.logits[:, 0], row_loss, patches)
    return slope(loss, policy.logits)[:, 0] * count


def chosen(patches: Patches) -> Tensor:
    """Which inner steps start a patch."""
    return (patches.start[:, None] == torch.arange(1, STEPS + 1)[:, None]).any(-1)


def judged(estimate: Tensor, true: Tensor) -> tuple[float, float, float]:
    """The largest z-score of a coordinate, the relative error, and the length beside the truth."""
    mean, error = estimate.mean(0), estimate.std(0) / len(estimate) ** 0.5
    return (
        float(((mean - true) / error).abs().max()),
        float((mean - true).norm() / true.norm()),
        float(mean @ true / (true @ true)),
    )


def truth(method: type[PolicyPatcher]) -> Tensor:
    at = LOGITS.clone().requires_grad_()
    return slope(EXPECTED[method](at), at)


@pytest.mark.parametrize(
    ("method", "log_prob", "outcomes", "costs"),
    [
        (ReinPatch, in_order, ORDERS, cost(marks(ORDERS))),
        (ReinPatchBernoulli, of_rated_labels, LABELS, CAPPED),
        (ReinPatchCB, fixed_size, SETS, cost(SETS)),
    ],
)
def test_the_score_function_is_the_slope_of_the_expected_cost(
    method: type[PolicyPatcher], log_prob: LogProb, outcomes: Tensor, costs: Tensor
) -> None:
    """Summed over all outcomes: cost times probability times slope of the log-probability."""
    at = LOGITS.clone().requires_grad_()
    logarithm = log_prob(at, outcomes)
    score = slope((logarithm.detach().exp() * costs * logarithm).sum(), at)
    assert (score - differences(EXPECTED[method], LOGITS)).abs().max() < 1e-7


@pytest.mark.parametrize("progress", [0.0, 0.9])
@EACH
def test_the_estimate_is_unbiased(method: type[PolicyPatcher], progress: float) -> None:
    """Every coordinate within 4 standard errors, and the right direction and length.

    In the last phase, too, where the first of the draws is not drawn.
    """
    true, estimate = truth(method), estimates(method, progress=progress)
    z, error, length = judged(estimate, true)
    assert z < 4
    assert error < 0.03
    assert torch.cosine_similarity(estimate.mean(0), true, dim=0) > 0.999
    assert length == pytest.approx(1, abs=0.01)


@EACH
def test_the_plan_to_settle_on_teaches_nothing(method: type[PolicyPatcher]) -> None:
    """In the last phase the first draw has no slope, and the others have that much more."""
    slopes = []
    for progress in (0.0, 0.9):
        patcher = made(method, draws=4)
        patcher.progress.fill_(progress)
        policy = Given(LOGITS.expand(3, 1, STEPS).clone())
        patcher.register_module("policy", policy)
        generator = torch.Generator().manual_seed(0)
        log_prob = patcher(Rows(uniform(3, 9), torch.arange(3), generator=generator)).log_prob
        assert log_prob is not None
        slopes.append(
            torch.stack([slope(each.sum(), policy.logits) for each in log_prob.view(4, 3)])
        )
    before, settled = slopes
    assert before[0].any()
    assert not settled[0].any()
    torch.testing.assert_close(settled[1:], 4 / 3 * before[1:])


@pytest.mark.parametrize("draws", [2, 4, 8])
def test_centring_on_all_draws_shortens_the_estimate(draws: int) -> None:
    """By (G - 1) / G, which leaving each draw out of its own mean makes good."""
    true = truth(ReinPatch)
    z, error, length = judged(estimates(ReinPatch, draws, "mean"), true)
    assert length == pytest.approx((draws - 1) / draws, abs=0.01)
    assert z > 8
    assert error > 0.06
    _, _, length = judged(estimates(ReinPatch, draws, "loo"), true)
    assert length == pytest.approx(1, abs=0.01)


def loss_of(log_prob: Tensor, row_loss: Tensor) -> Tensor:
    """The loss of draws that are compared with the others of their row."""
    return -(advantage(-row_loss, "loo") * log_prob.view(row_loss.shape)).mean()


def drawn_order(row_loss: Tensor) -> Tensor:
    """The order of what the generator of ``estimates`` gives."""
    draws, count = row_loss.shape
    numbers = uniform(count, draws * STEPS).view(count, draws, STEPS).transpose(0, 1)
    return draw_in_order(LOGITS.expand(count, -1), COUNT, numbers)


def nothing_wrong(logits: Tensor, row_loss: Tensor, patches: Patches) -> Tensor:
    return loss_of(log_prob_in_order(logits, drawn_order(row_loss)), row_loss)


def order_of_time(logits: Tensor, row_loss: Tensor, patches: Patches) -> Tensor:
    return loss_of(log_prob_in_order(logits, drawn_order(row_loss).sort(-1).values), row_loss)


def replaced_after_each_draw(logits: Tensor, row_loss: Tensor, patches: Patches) -> Tensor:
    every = logits.log_softmax(-1).expand(len(row_loss), -1, -1)
    return loss_of(every.gather(-1, drawn_order(row_loss)).sum(-1), row_loss)


def labels_without_a_baseline(logits: Tensor, row_loss: Tensor, patches: Patches) -> Tensor:
    return (row_loss * log_prob_of_labels(logits, marks(drawn_order(row_loss)).double())).mean()


def labels_that_survived(logits: Tensor, row_loss: Tensor, patches: Patches) -> Tensor:
    kept = chosen(patches).view(*row_loss.shape, STEPS).double()
    return loss_of(log_prob_of_labels(rated(logits), kept), row_loss)


def reward_with_a_slope(logits: Tensor, row_loss: Tensor, patches: Patches) -> Tensor:
    """As if the forecaster read how sure the policy was, by a straight-through factor of 1."""
    assert patches.log_prob is not None
    sure = (chosen(patches).view(*row_loss.shape, STEPS) * logits.sigmoid()).sum(-1)
    return loss_of(patches.log_prob, row_loss * (1 + sure - sure.detach()))


def test_wrong_losses_are_wrong_in_one_thing() -> None:
    """The one among them with nothing wrong is the real one, digit for digit."""
    got = estimates(ReinPatch, wrong=nothing_wrong)
    torch.testing.assert_close(got, estimates(ReinPatch), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        (ReinPatch, order_of_time),
        (ReinPatch, replaced_after_each_draw),
        (ReinPatch, labels_without_a_baseline),
        (ReinPatchBernoulli, labels_that_survived),
        (ReinPatchCB, reward_with_a_slope),
    ],
)
def test_wrong_losses_are_told(method: type[PolicyPatcher], wrong: Wrong) -> None:
    """What a baseline hides from the direction of the estimate, z-scores show."""
    z, error, _ = judged(estimates(method, wrong=wrong), truth(method))
    assert z > 8
    assert error > 0.06


# --- who gets credit -----------------------------------------------------------------------------

# Of a boundary at step i + 1 of 9, for a discount of 0.7.
DISCOUNTED = 0.7 ** torch.arange(7.0, -1.0, -1.0, dtype=torch.float64)


@EACH
@pytest.mark.parametrize(
    ("credit", "factor"),
    [
        ({"rollout_share": 0.5}, 1.0),
        ({"rollout_share": 0.25}, 1.0),
        ({"baseline": 3.0}, 1.0),
        ({"discount": 0.7}, DISCOUNTED),
        ({"rollout_share": 0.5, "baseline": 1.0, "discount": 0.7}, DISCOUNTED),
    ],
)
def test_the_estimate_with_credit_has_the_mean_it_should_have(
    method: type[PolicyPatcher], credit: Credit, factor: float | Tensor
) -> None:
    """Shares and baselines leave no bias; a discount multiplies each logit's slope, exactly."""
    expected = factor * truth(method)
    z, error, length = judged(estimates(method, credit=credit), expected)
    assert z < 4
    # A baseline as far off as this one makes estimates noisy.
    assert error < (0.15 if "baseline" in credit else 0.03)
    assert length == pytest.approx(1, abs=0.1 if "baseline" in credit else 0.02)


@EACH
def test_a_discount_is_another_objective(method: type[PolicyPatcher]) -> None:
    """The planted mistake is to take its estimate for one of the undiscounted slope."""
    z, error, _ = judged(estimates(method, credit={"discount": 0.7}), truth(method))
    assert z > 8
    assert error > 0.06


@EACH
def test_entropy_credit_weighs_rows_and_leaves_their_directions(
    method: type[PolicyPatcher],
) -> None:
    """Two kinds of rows, one surer: each has its own slope, times its relative entropy squared."""
    kinds = torch.stack([LOGITS, 3 * LOGITS])
    entropy = torch.distributions.Categorical(logits=kinds).entropy()
    weight = entropy**2 / (entropy**2).mean()
    assert weight[0] > 1.2
    estimate = estimates(method, logits=kinds, credit={"entropy_credit": 2.0})
    for kind in range(2):
        at = kinds[kind].clone().requires_grad_()
        true = slope(EXPECTED[method](at), at)
        z, error, length = judged(estimate[kind::2], weight[kind] * true)
        assert z < 4
        assert error < 0.05
        assert length == pytest.approx(1, abs=0.03)
        z, _, _ = judged(estimate[kind::2], true)
        assert z > 8


def test_credit_changes_no_boundary_and_no_log_probability() -> None:
    """Only slopes: the same draws are made, and are as likely as they were."""
    values = uniform(5, 9).double() + 1
    plain = made().double()
    other = made(rollout_share=0.5, discount=0.7, entropy_credit=1.0).double()
    nn.init.normal_(plain.policy.out.weight, generator=torch.Generator().manual_seed(0))
    other.load_state_dict(plain.state_dict())
    cut = [
        patcher(Rows(values, torch.arange(5), generator=torch.Generator().manual_seed(0)))
        for patcher in (plain, other)
    ]
    assert torch.equal(cut[0].start, cut[1].start)
    torch.testing.assert_close(cut[0].log_prob, cut[1].log_prob)


def test_the_draws_of_so_many_rows_are_judged() -> None:
    """Three of eight, each once, as likely one as another, and others in another step."""
    patcher = made(rollout_share=0.4)
    rows = Rows(torch.zeros(8, 9), torch.arange(8), generator=torch.Generator().manual_seed(0))
    judged = [patcher(rows).judged for _ in range(2000)]
    assert all(some is not None and len(some.unique()) == len(some) == 3 for some in judged)
    often = (
        torch.stack([some for some in judged if some is not None]).flatten().bincount(minlength=8)
    )
    assert stats.chisquare(often.numpy()).pvalue > 1e-3
    assert made(rollout_share=0.01)(rows).judged.shape == (1,)
    assert made()(rows).judged is None
    assert patcher.eval()(rows).judged is None


@pytest.mark.parametrize("options", [{}, {"reward": "relative"}, {"baseline": 2.0}])
def test_rows_that_are_not_judged_teach_the_policy_nothing(options: dict[str, object]) -> None:
    """Whatever their loss: it is not asked for."""
    patcher = made(draws=4, rollout_share=0.5, **options)
    policy = Given(LOGITS.expand(6, 1, STEPS).clone())
    patcher.register_module("policy", policy)
    values = uniform(6, 9)
    patches = patcher(Rows(values, torch.arange(6), generator=torch.Generator().manual_seed(0)))
    judged = patches.judged
    assert judged is not None
    loss = patcher.learn(patches, uniform(patcher.draws, 3, seed=1).float())
    learns = slope(loss, policy.logits).abs().sum((1, 2)) > 0
    assert learns.nonzero()[:, 0].tolist() == judged.sort().values.tolist()
    if "baseline" in options:  # what is expected is expected of them
        assert patcher.seen is not None
        assert torch.equal(patcher.seen, values[judged])


def unweighted(logits: Tensor, row_loss: Tensor, patches: Patches) -> Tensor:
    """Half of the rows, as if they were all."""
    log_prob = log_prob_in_order(logits, drawn_order(row_loss))
    some = torch.arange(log_prob.shape[1]) < log_prob.shape[1] // 2
    return loss_of(log_prob * some, row_loss)


def the_most_telling(logits: Tensor, row_loss: Tensor, patches: Patches) -> Tensor:
    """Half of the rows, but not at random: those whose draws differ most."""
    log_prob = log_prob_in_order(logits, drawn_order(row_loss))
    spread = row_loss.std(0)
    some = spread.argsort(descending=True)[: len(spread) // 2]
    return loss_of(log_prob[:, some], row_loss[:, some])


def a_baseline_with_the_draw_itself(logits: Tensor, row_loss: Tensor, patches: Patches) -> Tensor:
    """The mean of all draws and an expectation, instead of that of the others."""
    log_prob = log_prob_in_order(logits, drawn_order(row_loss))
    expected = (-row_loss.sum(0) - 5) / (len(row_loss) + 1)
    return -((-row_loss - expected) * log_prob).mean()


def an_expectation_that_saw_the_draws(
    logits: Tensor, row_loss: Tensor, patches: Patches
) -> Tensor:
    """An expectation fitted to these rewards before it is used."""
    log_prob = log_prob_in_order(logits, drawn_order(row_loss))
    better = better_than_expected(-row_loss, -row_loss.mean(0), 3.0)
    return -(better * log_prob).mean()


def the_surprise_of_the_draw(logits: Tensor, row_loss: Tensor, patches: Patches) -> Tensor:
    """Minus the log-probability of what was drawn, which is the entropy only on average."""
    log_prob = log_prob_in_order(logits, drawn_order(row_loss))
    surprise = -log_prob.detach() / -log_prob.detach().mean()
    return -(surprise * advantage(-row_loss, "loo") * log_prob).mean()


@pytest.mark.parametrize(
    "wrong",
    [
        unweighted,
        the_most_telling,
        a_baseline_with_the_draw_itself,
        an_expectation_that_saw_the_draws,
        the_surprise_of_the_draw,
    ],
)
def test_wrong_credit_is_told(wrong: Wrong) -> None:
    """What looks like each option, and is biased."""
    z, error, _ = judged(estimates(ReinPatch, wrong=wrong), truth(ReinPatch))
    assert z > 8
    assert error > 0.06


def test_a_discount_from_the_wrong_end_is_told() -> None:
    """Full credit for the last boundary that can be, not for the first."""
    estimate = estimates(ReinPatch, credit={"discount": 0.7})
    z, error, _ = judged(estimate, DISCOUNTED.flip(0) * truth(ReinPatch))
    assert z > 8
    assert error > 0.06


def test_an_expectation_makes_up_for_few_draws() -> None:
    """Two draws a row and a right expectation: less noise than with the draws alone."""
    right = -(orders(LOGITS) @ cost(marks(ORDERS))).expand(DRAWS)
    alone = estimates(ReinPatch, draws=2)
    beside = estimates(ReinPatch, draws=2, expected=right, credit={"baseline": 5.0})
    assert beside.var(0).sum() < 0.7 * alone.var(0).sum()


def test_the_expectation_learns_from_its_own_error_only() -> None:
    """It falls in with the mean reward of each row, and has nothing from the policy loss."""
    torch.manual_seed(0)
    patcher = made(draws=8, baseline=2.0, entropy=0.0)
    policy, own = (group["params"] for group in patcher.parameter_groups(1e-2))
    assert {id(p) for p in own} == {id(p) for p in patcher.expectation.parameters()}
    assert len(policy) + len(own) == len(list(patcher.parameters()))
    optimiser = torch.optim.Adam(own, lr=0.03)
    values = uniform(64, 9, seed=1) - 0.5
    # Rough rows are hard to forecast.
    row_loss = values.diff(dim=1).abs().mean(1) + 0.01 * uniform(8, 64, seed=2)
    rows = Rows(values, torch.arange(64), generator=torch.Generator())
    for _ in range(300):
        patches = patcher(rows)
        error = (patcher.expectation(values) + row_loss.mean(0)).square().mean()
        alone = torch.autograd.grad(error, own)
        loss = patcher.learn(patches, row_loss)
        assert loss is not None
        torch.testing.assert_close(torch.autograd.grad(loss, own, retain_graph=True), alone)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert error < 0.2 * row_loss.mean(0).var()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rollout_share": 0.0}, "rollout_share is 0.0; more than 0 and at most 1"),
        ({"rollout_share": 1.5}, "rollout_share is 1.5; more than 0 and at most 1"),
        ({"discount": 1.1}, "discount is 1.1; more than 0 and at most 1"),
        ({"baseline": -1.0}, "baseline is -1.0; 0 or more"),
        ({"entropy_credit": -1.0}, "entropy_credit is -1.0; 0 or more"),
        ({"baseline": 1.0, "advantage": "grpo"}, "a baseline needs the advantage 'loo'"),
    ],
)
def test_credit_that_cannot_be_is_refused(wrong: dict[str, object], said: str) -> None:
    """At once, with what is allowed."""
    with pytest.raises(ValueError, match=said):
        made(**wrong)


# --- advantages ----------------------------------------------------------------------------------


def test_leaving_one_out_compares_with_the_mean_of_the_others() -> None:
    """Draw by draw, in a slow loop; the other kinds are multiples of it, row by row."""
    reward = random(5, 3, seed=8)
    loo = advantage(reward, "loo")
    for one in range(5):
        others = torch.cat([reward[:one], reward[one + 1 :]])
        torch.testing.assert_close(loo[one], reward[one] - others.mean(0))
    torch.testing.assert_close(advantage(reward, "mean"), loo * 4 / 5)
    own = advantage(reward, "grpo")
    torch.testing.assert_close(own, loo * 4 / 5 / reward.std(0, correction=0))
    assert (advantage(torch.ones(4, 2), "grpo") == 0).all()


def test_dividing_by_each_rows_deviation_turns_the_direction() -> None:
    """Two contexts share their logits; that of 30 times the cost ought to have its way."""
    count = 25_000
    order = draw_in_order(LOGITS.expand(2 * count, -1), COUNT, uniform(4, 2 * count, STEPS))
    mark = marks(order)
    # In the small context the halves of the row have changed places.
    small = (torch.arange(2 * count) % 2).bool()
    loss = torch.where(small, cost(mark.roll(STEPS // 2, -1)), 30 * cost(mark))
    at = LOGITS.clone().requires_grad_()
    costs = 30 * cost(marks(ORDERS)) + cost(marks(ORDERS).roll(STEPS // 2, -1))
    true = slope(orders(at) @ costs, at)
    log_prob = log_prob_in_order(at.expand(2 * count, -1), order)
    cosine = {
        kind: torch.cosine_similarity(
            slope(-(advantage(-loss, kind) * log_prob).mean(), at), true, dim=0
        )
        for kind in ("loo", "mean", "grpo")
    }
    assert cosine["loo"] > 0.999
    assert cosine["mean"] > 0.999
    assert cosine["grpo"] < 0.6
