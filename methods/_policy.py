"""Policy gradients over boundaries: distributions to draw from, a policy network, and GRPG.

Source: ReinPatch (Wu et al., arXiv 2603.26097) names the method, Group Relative Policy Gradient:
boundaries are drawn several times for each row, and the policy moves towards those draws under
which the row was forecast better than under the others. What the abstract leaves open is our
design.

A distribution is over the L - 1 inner steps of a row (axis ``step``; step i is a boundary at time
i + 1); axis ``draw`` numbers independent draws. Every log-probability is that of the variable that
was really drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from harness import (
    Patcher,
    Patches,
    Rows,
    Rule,
    Task,
    from_inclusion,
    from_scores,
    from_starts,
    inclusion,
    rows_at_once,
    threshold,
    uniform_starts,
)

Logits = Float[Tensor, "row step"]
Uniform = Float[Tensor, "draw row step"]


# --- Plackett-Luce: one after another without replacement ----------------------------------------


def gumbel(uniform: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Standard Gumbel noise from uniform draws."""
    return uniform.log().neg_().log_().neg_()


def draw_in_order(logits: Logits, count: int, uniform: Uniform) -> Int[Tensor, "draw row count"]:
    """``count`` different steps in the order drawn, each by softmax over those not yet taken.

    The largest sums of logit and Gumbel noise, in descending order, are such a draw (Kool et al.,
    ICML 2019).
    """
    return gumbel(uniform).add_(logits.detach()).topk(count, dim=-1).indices


def log_prob_in_order(
    logits: Float[Tensor, "row step"], order: Int[Tensor, "draw row count"]
) -> Float[Tensor, "draw row"]:
    """Plackett-Luce log-probability of steps in the order they were drawn.

    A denominator is the sum of exp(logit) over the steps not yet taken. All of them are running
    sums from the end, first over the steps never taken, then over the drawn ones from last to
    first, so that none has to be a difference. The gradient is written out, which takes half as
    long as automatic differentiation: for step i it is 1 if the step was drawn, less its share in
    each denominator that it is part of.
    """
    fixed = logits.detach().log_softmax(-1)
    # In float32, e to the minus 104 would be 0.
    weight = fixed.double().exp().expand(len(order), -1, -1)
    drawn, never = weight.gather(-1, order), weight.scatter(-1, order, 0.0)
    left = torch.cat([never.sum(-1, keepdim=True), drawn.flip(-1)], dim=-1).cumsum(-1)
    left = left.flip(-1)[..., : order.shape[-1]]
    value = (drawn.log() - left.log()).sum(-1).to(logits.dtype)
    shares = functional.pad(left.reciprocal().cumsum(-1), (1, 0))
    slope = (fixed + shares[..., -1:].log().to(logits.dtype)).exp().neg_()
    slope = slope.scatter_(-1, order, (1 - drawn * shares[..., 1:]).to(logits.dtype))
    return value + (slope * (logits - logits.detach())).sum(-1)


# --- independent labels --------------------------------------------------------------------------


def log_prob_of_labels(
    logits: Float[Tensor, "row step"], label: Float[Tensor, "draw row step"]
) -> Float[Tensor, "draw row"]:
    """Log-probability of independent labels, with those that the environment drops."""
    return -functional.softplus(torch.where(label > 0, -logits, logits)).sum(-1)


def without_chance(logits: Logits, patches: int, slots: int, rule: Rule) -> Patches:
    """K patches by a rule of evaluation: the K - 1 largest logits, or spread evenly."""
    if rule == "best":
        return from_scores(logits, patches, slots=slots)
    return from_inclusion(inclusion(logits, patches - 1), patches, slots=slots)


# --- conditional Bernoulli: independent labels, given how many ----------------------------------


@dataclass(frozen=True)
class FixedSize:
    """Independent labels given that ``count`` of them are 1: p(S) ~ exp(sum of logits in S).

    ``shifted`` are the logits less one number a row, chosen so that independent labels have a sum
    of ``count`` on average: the same distribution, and probabilities near 1 to work with. ``tree``
    holds, for the row, its halves, their halves and so on down to single steps, the probability of
    each number of ones [row, node, number]. Sums and draws pass through it in log2(L) rounds,
    without a loop over steps. All in float64.
    """

    count: int
    shifted: Float[Tensor, "row step"]
    tree: list[Tensor]

    @classmethod
    def of(cls, logits: Logits, count: int) -> FixedSize:
        """The distribution of ``count`` steps, more than none and fewer than all."""
        logits = logits.detach().double()
        shifted = logits - threshold(logits, count)
        steps = shifted.shape[1]
        width = 1 << (steps - 1).bit_length()
        leaf = functional.pad(shifted, (0, width - steps), value=-math.inf)
        tree = [torch.stack([-leaf, leaf], dim=-1).sigmoid()]
        while tree[-1].shape[1] > 1:
            tree.append(_sums(tree[-1][:, 0::2], tree[-1][:, 1::2], count))
        return cls(count, shifted, tree)

    def draw(self, uniform: Uniform) -> Bool[Tensor, "draw row step"]:
        """Exact draws: the number of ones in a row is split over its halves, and so on down.

        ``uniform`` has as many columns as the row has steps.
        """
        draws, rows, steps = uniform.shape
        number = torch.full((draws, rows, 1), self.count, device=uniform.device)
        used = 0
        for level in reversed(self.tree[:-1]):
            left, right = level[:, 0::2], level[:, 1::2]
            here = torch.arange(left.shape[-1], device=uniform.device)
            rest = number[..., None] - here
            inside = (rest >= 0) & (rest < right.shape[-1])
            other = right.expand(draws, -1, -1, -1).gather(-1, rest.clamp(0, right.shape[-1] - 1))
            running = (left * other * inside).cumsum(-1)
            # A random number of its own for each node with steps in both halves, steps - 1 in all;
            # the other nodes, which come last, leave everything to the left, whatever it is.
            place = torch.arange(used, used + left.shape[1], device=uniform.device)
            bar = uniform[..., place.clamp_max(steps - 1), None].double() * running[..., -1:]
            taken = (running <= bar).sum(-1)
            number = torch.stack([taken, number - taken], dim=-1).flatten(2)
            half = len(self.tree[0][0]) // (2 * left.shape[1])
            used += (steps + half - 1) // (2 * half)
        return number[..., :steps] > 0

    def inclusion(self) -> Float[Tensor, "row step"]:
        """Exact probability that each step is in the set."""
        # For each node the probability of what lies outside it, by the number left for inside.
        outside = functional.pad(torch.ones_like(self.tree[-1][..., :1]), (self.count, 0))
        for level in reversed(self.tree[:-1]):
            left, right = level[:, 0::2], level[:, 1::2]
            both = [_left_over(outside, right, left), _left_over(outside, left, right)]
            outside = torch.stack(both, dim=2).flatten(1, 2)
        joint = outside * self.tree[0]
        return (joint[..., 1] / joint.sum(-1))[:, : self.shifted.shape[1]]

    def log_prob(
        self, logits: Float[Tensor, "row step"], drawn: Bool[Tensor, "draw row step"]
    ) -> Float[Tensor, "draw row"]:
        """Of sets of ``count`` steps; its gradient is the set less the inclusion probabilities."""
        terms = functional.logsigmoid(torch.where(drawn, self.shifted, -self.shifted))
        value = terms.sum(-1) - self.tree[-1][:, 0, self.count].log()
        slope = (drawn.double() - self.inclusion()).to(logits.dtype)
        moving = (slope * (logits - logits.detach())).sum(-1)
        return value.to(logits.dtype) + moving


def _sums(left: Tensor, right: Tensor, most: int) -> Tensor:
    """Distribution of the sum of two independent numbers, up to ``most``: a loop over the left.

    Only products of probabilities are added, so that small ones keep their digits.
    """
    size = min(left.shape[-1] + right.shape[-1] - 1, most + 1)
    total = left.new_zeros(*left.shape[:-1], size)
    for number in range(min(left.shape[-1], size)):
        more = right[..., : size - number]
        total[..., number : number + more.shape[-1]] += left[..., number, None] * more
    return total


def _left_over(outside: Tensor, sibling: Tensor, inside: Tensor) -> Tensor:
    """``outside`` of a child, from that of its parent, by the numbers its ``sibling`` may take."""
    size = inside.shape[-1]
    total = outside.new_zeros(*sibling.shape[:-1], size)
    for number in range(sibling.shape[-1]):
        part = outside[..., number : number + size]
        total[..., : part.shape[-1]] += sibling[..., number, None] * part
    return total


# --- GRPG ----------------------------------------------------------------------------------------


def leave_one_out(reward: Float[Tensor, "alike ..."]) -> Float[Tensor, "alike ..."]:
    """How much better each reward is than the mean of the others of the first axis: unbiased."""
    count = len(reward)
    return (reward - reward.mean(0)) * (count / max(count - 1, 1))


def advantage(reward: Float[Tensor, "draw row"], kind: str) -> Float[Tensor, "draw row"]:
    """How much better each draw was than the others of its row.

    "loo" subtracts the mean of the other draws (leave-one-out, unbiased); "mean" that of all draws
    (the same direction, (G - 1) / G as long); "grpo" divides "mean" by the standard deviation of
    the row, which gives rows other weights and so is another objective.
    """
    if kind == "loo":
        return leave_one_out(reward)
    centred = reward - reward.mean(0)
    if kind == "grpo":
        return centred / (reward.std(0, correction=0) + 1e-8)
    return centred


def better_than_expected(
    reward: Float[Tensor, "draw row"], expected: Float[Tensor, " row"], count: float
) -> Float[Tensor, "draw row"]:
    """Advantage over the mean of the other draws and an expectation, worth ``count`` draws.

    Unbiased whatever the expectation, as long as it does not depend on the draws of its row.
    """
    others = reward.sum(0) - reward
    return reward - (others + count * expected) / (len(reward) - 1 + count)


def with_slope(value: Tensor, factor: Tensor) -> Tensor:
    """The value unchanged, its gradient times a factor."""
    return value.detach() + factor * (value - value.detach())


class Expectation(nn.Module):
    """The reward to expect of a row, from windows over its values: a baseline that is learned.

    It sees no draws. Windows are averaged over the row, so that it fits any look-back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.window = nn.Conv1d(1, 16, 9)
        self.out = nn.Linear(16, 1)

    def forward(self, values: Float[Tensor, "row time"]) -> Float[Tensor, " row"]:
        wide = functional.pad(values[:, None], (4, 4), "replicate")
        return self.out(self.window(wide).relu().mean(-1))[:, 0]


class Policy(nn.Module):
    """Logits for each inner step of a row, from windows over values and absolute differences.

    The kernels over values sum to 0, so that a window does not see their level; otherwise the
    policy learns several times as slowly. A second, dilated layer was tried: steps near a boundary
    then look like the boundary, and boundaries end up a few steps off. There is no absolute
    position, so that a policy can be carried to other look-backs. All logits start at 0, so the
    first boundaries are those of ``random_step``.
    """

    reach = 4  # steps on either side

    def __init__(self, width: int, outputs: int = 1) -> None:
        super().__init__()
        self.window = nn.Conv1d(2, width, 2 * self.reach + 1)
        self.out = nn.Linear(width, outputs)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, values: Float[Tensor, "row time"]) -> Float[Tensor, "row output step"]:
        reach = self.reach
        level = functional.pad(values[:, None], (reach, reach), "replicate")[:, 0]
        change = functional.pad(values.diff(dim=1).abs(), (1 + reach, reach))
        seen = torch.stack([level, change], dim=1).unfold(-1, 2 * reach + 1, 1)[:, :, 1:]
        of_level, of_change = self.window.weight.unbind(1)
        of_level = of_level - of_level.mean(-1, keepdim=True)
        # A matrix product: a convolution takes up to twice as long here.
        kernel = torch.cat([of_level, of_change], dim=1).T
        logits = []
        for part in seen.split(rows_at_once(values.device, kernel.shape[1] * values.shape[1])):
            window = part.transpose(1, 2).flatten(2)  # [row, step, value or change of each step]
            hidden = functional.relu(window @ kernel + self.window.bias)
            logits.append(self.out(hidden))
        return torch.cat(logits).transpose(1, 2)


class PolicyPatcher(Patcher):
    """Draws boundaries from a policy and learns it by GRPG; subclasses choose the distribution.

    One update a batch, on the boundaries just drawn: no importance ratio, no clipping of one, no
    penalty. Rewards are minus the forecast loss of each row under each draw, without a gradient.

    ``draws`` is the number of draws G. ``reward`` "relative" divides the losses of a row by its
    loss under equal patches, which are one draw more. ``entropy`` weighs a bonus that falls to 0;
    its unit is the standard deviation of the rewards of a row, averaged over rows. For the first
    ``warm_up`` of training, a share, the policy stays at random boundaries. For the last ``final``
    the forecaster learns under the plan that evaluation would cut by the rule in use, and not
    under a draw; that plan stands in the place of one of the G draws, the others go on teaching
    the policy. Under the rule "sample" nothing changes. The default of .41 has a tenth of all
    learning there is, where the rate falls along a cosine: .1 has .2 %. A policy that rests in
    these .41 was tried: on `ordinal` (640 steps, seed 1) it ends at a validation error of .277
    where this one ends at .228. ``scaled`` divides all advantages of a
    batch by their root mean square: otherwise the optimiser's long memory of early, larger rewards
    would slow the policy down. ``pace`` is the policy's learning rate as a multiple of the
    forecaster's, ``width`` the number of channels of its network.

    Four options change who gets credit; each is off by default. Two leave the estimate unbiased:
    ``rollout_share`` below 1 judges the draws of that share of the rows of a batch only, chosen at
    random anew in each step, which saves the other rollouts (the idea of NAT, arXiv 2603.06619,
    which does so with tokens); the mean over them stands for the mean over all rows, so each is
    weighted by one over its probability to be chosen. ``baseline`` compares a draw not with the
    other draws alone, but also with a learned expectation of the row's reward, which counts as so
    many draws. Two multiply the slope in each logit by a factor that does not depend on the draws,
    and so change the objective wherever steps or rows share weights: ``discount`` below 1 is the
    factor for each step that a boundary lies before the end of the look-back; ``entropy_credit``
    is the power of the entropy of a row's softmax over steps, against the mean over the batch, so
    that rows the policy is undecided about count more.
    """

    rules = ("even", "sample", "best")
    levels: ClassVar[int] = 1
    """Logits for each step: one a level of boundaries."""
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {
        "draws": (4, 8, 16),
        "pace": (1.0, 2.0, 5.0),
    }

    def __init__(
        self,
        task: Task,
        *,
        draws: int = 8,
        advantage: str = "loo",
        reward: str = "loss",
        entropy: float = 0.01,
        warm_up: float = 0.0,
        final: float = 0.41,
        scaled: bool = True,
        pace: float = 5.0,
        width: int = 64,
        rollout_share: float = 1.0,
        baseline: float = 0.0,
        discount: float = 1.0,
        entropy_credit: float = 0.0,
    ) -> None:
        super().__init__(task)
        for name, choice, allowed in (
            ("advantage", advantage, ("loo", "mean", "grpo")),
            ("reward", reward, ("loss", "relative")),
        ):
            if choice not in allowed:
                raise ValueError(f"{name} is {choice!r}; allowed: {', '.join(allowed)}")
        for name, number, least in (
            ("draws", draws, 2),  # to be compared with each other
            ("entropy", entropy, 0),
            ("pace", pace, 0),
            ("width", width, 2),
            ("baseline", baseline, 0),
            ("entropy_credit", entropy_credit, 0),
        ):
            if number < least:
                raise ValueError(f"{name} is {number!r}; {least} or more is needed")
        for name, share, allowed_from in (
            ("warm_up", warm_up, "0"),
            ("final", final, "0"),
            ("rollout_share", rollout_share, "more than 0"),
            ("discount", discount, "more than 0"),
        ):
            if not 0 <= share <= 1 or (not share and allowed_from != "0"):
                raise ValueError(f"{name} is {share!r}; {allowed_from} and at most 1 is needed")
        if baseline and advantage != "loo":
            raise ValueError(f"a baseline needs the advantage 'loo', not {advantage!r}")
        self.own_draws, self.advantage, self.relative = draws, advantage, reward == "relative"
        self.entropy, self.warm_up, self.final, self.pace = entropy, warm_up, final, pace
        self.scaled = scaled
        self.discount, self.entropy_credit = discount, entropy_credit
        self.rollout_share = rollout_share
        self.policy = Policy(width, self.levels)
        self.baseline = baseline
        if baseline:
            self.expectation = Expectation()
        self.seen: Tensor | None = None
        """The values of the rows last judged in training, of which ``learn`` expects a reward."""

    @property
    def draws(self) -> int:
        return self.own_draws + self.relative

    def draw(self, logits: Float[Tensor, "row level step"], rows: Rows, draws: int) -> Patches:
        """Boundaries of each row, ``draws`` times, [draw * row], and their log-probabilities."""
        raise NotImplementedError

    def best(self, logits: Float[Tensor, "row level step"]) -> Patches:
        """The mode: the K - 1 largest logits."""
        return from_scores(logits[:, 0], self.task.patches)

    def even(self, logits: Float[Tensor, "row level step"]) -> Patches:
        """K - 1 boundaries spread evenly over their probabilities."""
        return from_inclusion(self.inclusion(logits[:, 0]), self.task.patches)

    def inclusion(self, logits: Logits) -> Float[Tensor, "row step"]:
        """How probable a boundary is at each step; of independent labels, if not known exactly."""
        return inclusion(logits, self.task.patches - 1)

    def planned(self, logits: Float[Tensor, "row level step"], rule: Rule) -> Patches:
        """The boundaries by a rule without chance."""
        return self.best(logits) if rule == "best" else self.even(logits)

    def equal(self, logits: Float[Tensor, "row level step"]) -> Patches:
        """Equal patches, which a relative reward compares with."""
        start = uniform_starts(self.task.look_back, self.task.patches, logits.device)
        return from_starts(start.expand(len(logits), -1), self.task.look_back)

    def forward(self, rows: Rows) -> Patches:
        # The values' precision in mixed precision, too: draws and gradients need all their digits.
        logits = self.policy(rows.values).to(rows.values.dtype)
        if not rows.as_trained:
            return self.planned(logits.detach(), rows.rule)
        draws = self.own_draws if self.training else 1
        drawn = self.draw(self._credited(logits), rows, draws)
        if not self.training:
            return drawn
        if self.evaluation_rule != "sample":
            drawn = self._settled(drawn, self.planned(logits.detach(), self.evaluation_rule))
        plan = {name: value for name, value in vars(drawn).items() if value is not None}
        if self.relative:
            equal = vars(self.equal(logits)) | {"log_prob": logits.new_zeros(len(logits))}
            plan = {name: torch.cat([value, equal[name]]) for name, value in plan.items()}
        judged = self._some(rows) if self.rollout_share < 1 else None
        if self.baseline:
            self.seen = rows.values if judged is None else rows.values[judged]
        return Patches(**plan, judged=judged)

    def _settled(self, drawn: Patches, last: Patches) -> Patches:
        """In the last phase, the plan to settle on in the place of the first draw of each row.

        The forecaster learns under it. The other draws teach the policy, weighted so that their
        estimate stays unbiased: a draw is compared with what does not depend on it.
        """
        rows, draws = len(last.start), self.own_draws
        settled = self.progress >= 1 - self.final
        of_first = settled & (torch.arange(draws * rows, device=settled.device) < rows)
        assert drawn.log_prob is not None
        factor = torch.where(settled, ~of_first * (draws / (draws - 1)), 1.0)
        last = last.rows(torch.arange(draws * rows, device=settled.device) % rows)
        plan = {
            name: torch.where(of_first[:, None], getattr(last, name), value)
            for name, value in vars(drawn).items()
            if value is not None and name != "log_prob"
        }
        return Patches(
            **plan, log_prob=with_slope(drawn.log_prob, factor.to(drawn.log_prob.dtype))
        )

    def _credited(
        self, logits: Float[Tensor, "row level step"]
    ) -> Float[Tensor, "row level step"]:
        """The logits, with the share of its slope that each of them is to learn from."""
        if self.discount < 1:
            before = torch.arange(logits.shape[-1] - 1, -1, -1, device=logits.device)
            logits = with_slope(logits, self.discount**before)
        if self.entropy_credit:
            likely = logits.detach().log_softmax(-1)
            entropy = -(likely.exp() * likely).sum(-1, keepdim=True)
            undecided = entropy.clamp_min(1e-8) ** self.entropy_credit
            logits = with_slope(logits, undecided / undecided.mean(0))
        return logits

    def _some(self, rows: Rows) -> Int[Tensor, " judged"]:
        """The rows whose draws are judged: as likely one as another, and at least one."""
        count = max(1, round(self.rollout_share * len(rows.values)))
        return rows.uniform(1)[:, 0].argsort()[:count]

    def learn(self, patches: Patches, row_loss: Float[Tensor, "draw judged"]) -> Float[Tensor, ""]:
        """The policy loss, whose gradient is minus that of the expected reward.

        With the loss of the expectation, where there is one; no weight is in both.
        """
        assert patches.log_prob is not None
        log_prob = patches.log_prob.view(self.draws, -1)[: self.own_draws]
        if patches.judged is not None:
            log_prob = log_prob[:, patches.judged]
        reward = -row_loss[: self.own_draws]
        if self.relative:
            reward = reward / row_loss[-1].clamp_min(1e-8)
        if self.entropy:
            # E[-log p] has the gradient of a reward of -log p.
            unit = reward.std(0).mean() * (1 - self.progress)
            reward = reward - self.entropy * unit * log_prob.detach()
        learning = self.progress >= self.warm_up
        better, surprise = advantage(reward, self.advantage), None
        if self.baseline:
            assert self.seen is not None
            expected = self.expectation(self.seen).to(reward.dtype)
            better = better_than_expected(reward, expected.detach(), self.baseline)
            surprise = (expected - reward.mean(0)).square().mean()
        if self.scaled:
            better = better / (better.square().mean().sqrt() + 1e-8)
        loss = -(better * log_prob).mean() * learning
        return loss if surprise is None else loss + surprise

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        # The expectation's own group: gradients are clipped by group.
        parts = [self.policy, self.expectation] if self.baseline else [self]
        return [
            {"params": list(part.parameters()), "lr": self.pace * learning_rate} for part in parts
        ]
