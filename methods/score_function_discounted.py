"""Score function with time discounting: each coin answers for the predictions soon after it."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from harness import Patcher, Patches, Rows, Stem, Task, from_marks
from methods._policy import leave_one_out, without_chance


class ScoreFunctionDiscounted(Patcher):
    """Tosses a coin at each step, rewarded by how much the boundaries help predict what follows.

    Two small causal heads predict the next step: an early one from the feature of the step itself,
    a late one also from what passes a bottleneck, the features at boundaries. By how much the late
    head is better, summed over the steps that follow with a discount, is the advantage of a label;
    the forecast adds an advantage of its own.

    Source: Dauncey and Wattenhofer (arXiv 2602.13940, ICML 2026), read through its abstract, a
    second-hand note and an earlier version of its code.

    Fidelity: re-implementation of its estimator for forecasts. As there: the reward relative to an
    early exit, the discount, advantages centred over the batch at the same position, the rate
    controller, the weights, and labels that are drawn in evaluation, too. Our design: linear
    heads; instead of the language model a late head that sees the feature of the step, the feature
    at the last boundary and the mean of those at all boundaries so far (``heads_weight`` is the
    weight of both heads; there the late loss has weight 1); and the advantage from the forecast,
    which is that of ``score_function``, times ``forecast_weight``. Features are those of the
    shared stem, delayed until they are causal: otherwise labels could tell the late head what
    comes next. The heads see all labels as drawn, even those dropped for lack of slots, since that
    choice makes early labels depend on later ones. As in ``score_function``: w = 0, the target
    rate (K - 1) / (L - 1), the random choice of those dropped, the comparison with the mean of the
    other rows, the two plans without chance that are scored beside it, ``pace`` and the mean over
    steps. A straw man? In part: the heads are linear in eight features, and what they gain by a
    boundary may have little to do with the forecast; its authors' early exit is a language model.
    """

    strict = False
    uses_features = True
    rules = ("sample", "even", "best")
    authors_rule = "sample"
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {
        "discount": (0.9, 0.99),
        "forecast_weight": (1.0, 10.0),
        "pace": (1.0, 5.0),
    }

    def __init__(
        self,
        task: Task,
        *,
        discount: float = 0.99,
        forecast_weight: float = 1.0,
        policy_weight: float = 1e-2,
        rate_weight: float = 1e-2,
        heads_weight: float = 0.1,
        pace: float = 5.0,
    ) -> None:
        super().__init__(task)
        self.discount, self.forecast_weight, self.pace = discount, forecast_weight, pace
        self.policy_weight, self.rate_weight = policy_weight, rate_weight
        self.heads_weight = heads_weight
        self.rate = (task.patches - 1) / (task.look_back - 1)
        self.score = nn.Conv1d(Stem.width, 1, 5)
        for parameter in self.score.parameters():
            nn.init.zeros_(parameter)
        # Clamped: K = 1 and K = L would need infinite logits.
        start = min(max(self.rate, 1e-3), 1 - 1e-3)
        self.bias = math.log(start / (1 - start))
        self.heads = nn.Linear(Stem.width, 4)

    def forward(self, rows: Rows) -> Patches:
        assert rows.features is not None
        feature = _causal(rows.features)
        score = self.score(functional.pad(feature.transpose(1, 2), (4, 0)))[:, 0, 1:]
        # In the precision of the values: half precision is too coarse for sums over a long row.
        logit = score.to(rows.values.dtype) + self.bias
        if not rows.as_trained:
            return without_chance(logit, self.task.patches, self.slots, rows.rule)
        draw, priority = rows.uniform(2 * logit.shape[1]).chunk(2, dim=1)
        probability = logit.sigmoid()
        label = draw < probability
        log_prob = -functional.softplus(torch.where(label, -logit, logit))
        early, late = (
            (prediction - rows.values[:, 1:]).square()
            for prediction in self.predictions(feature, label)
        )
        # Labels begin at step 1, where step 2 is predicted; the last step predicts nothing.
        gain = functional.pad((early - late).detach()[:, 1:], (0, 1))
        advantage = leave_one_out(discounted(gain, self.discount))
        rate = logit.mean() * (probability.mean() - self.rate).detach()
        return from_marks(
            label,
            self.slots,
            priority,
            log_prob=log_prob.sum(1),
            loss=self.heads_weight * (early.mean() + late.mean())
            + self.rate_weight * rate
            - self.policy_weight * (advantage * log_prob).mean(),
        )

    def predictions(
        self, feature: Float[Tensor, "row time width"], label: Bool[Tensor, "row step"]
    ) -> tuple[Float[Tensor, "row step"], Float[Tensor, "row step"]]:
        """Each step but the first, predicted from the one before: early, and late.

        Heads are linear, so a late prediction is the sum of three numbers: of the step itself, of
        the last boundary, and the mean over the boundaries so far.
        """
        begins = functional.pad(label, (1, 0), value=True)
        step = torch.arange(begins.shape[1], device=begins.device)
        last = torch.where(begins, step, 0).cummax(dim=1).values
        early, own, token, tokens = self.heads(feature).unbind(-1)
        mean = (tokens * begins).cumsum(dim=1) / begins.cumsum(dim=1)
        late = own + token.gather(1, last) + mean
        return early[:, :-1], late[:, :-1]

    def learn(self, patches: Patches, row_loss: Float[Tensor, "draw row"]) -> Float[Tensor, ""]:
        """The forecast's part of the policy loss; the heads' part is in ``patches.loss``."""
        assert patches.log_prob is not None
        advantage = self.forecast_weight * leave_one_out(-row_loss[0])
        steps = self.task.look_back - 1
        return -self.policy_weight * (advantage * patches.log_prob).mean() / steps

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters()), "lr": self.pace * learning_rate}]


def discounted(gain: Float[Tensor, "row step"], discount: float) -> Float[Tensor, "row step"]:
    """At t the sum of ``discount^(j - t) gain_j`` over j >= t, first of 2 steps, then 4, 8, ..."""
    total, span = gain, 1
    while span < gain.shape[1]:
        total = total + discount**span * functional.pad(total[:, span:], (0, span))
        span *= 2
    return total


def _causal(feature: Float[Tensor, "row time width"]) -> Float[Tensor, "row time width"]:
    """The stem's features two steps late, which is as far as it looks ahead; zeros at first."""
    return functional.pad(feature, (0, 0, 2, -2))
