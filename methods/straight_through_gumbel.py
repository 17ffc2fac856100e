"""Straight-through Gumbel boundaries: each step flips a relaxed coin, and K is only aimed at."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Binomial
from torch.nn import functional

from harness import (
    Patcher,
    Patches,
    Rows,
    Stem,
    Task,
    from_inclusion,
    from_marks,
    inclusion,
)


class StraightThroughGumbel(Patcher):
    """Draws a relaxed Bernoulli variable for each step and starts a patch where it exceeds 1/2.

    In the forward pass the choice is hard; in the backward pass it is the relaxed sample. That
    sample reaches the forecast through the weights of the steps in the mean of their patch: a
    larger sample at step j raises the weights of j and of all steps after it, which matters only
    in the patch of j, as weights are relative. So the sample at the first step of a patch gets no
    gradient from the forecast. A binomial prior holds the number of patches near K. Evaluation
    draws ("sample"), spreads K patches evenly over the probabilities ("even"), or starts a patch
    where the probability exceeds 1/2 ("best").

    Source: Nawrot et al. (arXiv 2211.09761) and its published code: head, relaxed sample, pooling
    weights, prior.

    Fidelity: re-implementation. The head reads the shared stem, not transformer layers, and is as
    wide as the stem; it starts at the rate of the prior. Its code starts a segment after a
    boundary and samples in evaluation too, which is the rule scored here. The prior's rate is K /
    L, where theirs is 0.2, and counts step 0, which always starts a patch. Of more boundaries than
    slots, those with the lowest samples are dropped; the prior still counts them. No null group,
    and no residual around the patches. A straw man? In part: its authors decide from the states of
    transformer layers, and their residual hands every step past the patches; here boundaries have
    to carry all, and are found from five steps around. The threshold alone ("best") would be one:
    at rates of 1 in 8 or 16 few steps pass one half, and a row is left with a patch or two. Spread
    evenly ("even") it has K.
    """

    strict = False
    rules = ("sample", "even", "best")
    authors_rule = "sample"
    uses_features = True
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {
        "temperature": (0.3, 0.5, 1.0),
        "weight": (0.3, 1.0, 3.0),
    }

    def __init__(self, task: Task, *, temperature: float = 0.5, weight: float = 1.0) -> None:
        super().__init__(task)
        self.temperature, self.weight = temperature, weight
        self.rate = task.patches / task.look_back
        self.hidden = nn.Linear(Stem.width, Stem.width)
        self.out = nn.Linear(Stem.width, 1)
        rate = min(self.rate, 0.99)  # K = L has no finite odds
        nn.init.constant_(self.out.bias, math.log(rate / (1 - rate)))

    def forward(self, rows: Rows) -> Patches:
        logit = self._log_odds(rows)
        if not rows.as_trained:
            if rows.rule == "best":
                return from_marks(logit > 0, self.slots, logit.sigmoid())
            patches = self.task.patches
            return from_inclusion(inclusion(logit, patches - 1), patches, slots=self.slots)
        noise = -(1 / rows.uniform(logit.shape[1]) - 1).log()
        sample = ((logit + noise) / self.temperature).sigmoid()
        chosen = sample > 0.5
        begun = functional.pad(sample.cumsum(dim=1), (1, 0))
        return from_marks(
            chosen,
            self.slots,
            sample.detach(),
            weight=1 + (begun - begun.detach()),
            loss=self.weight * self._prior(sample + (chosen.float() - sample).detach()),
        )

    def _log_odds(self, rows: Rows) -> Float[Tensor, "row step"]:
        """Of a boundary at steps 1 to L - 1."""
        assert rows.features is not None
        hidden = functional.gelu(_each_step(self.hidden, rows.features.transpose(1, 2)))
        return _each_step(self.out, hidden)[:, 0, 1:].to(rows.values.dtype)

    def _prior(self, chosen: Float[Tensor, "row step"]) -> Float[Tensor, ""]:
        """How unlikely so many patches are where all steps choose at the rate, in nats a step."""
        # Not validated: the straight-through count is a whole number only up to rounding.
        number = Binomial(self.task.look_back, torch.tensor(self.rate), validate_args=False)
        return -number.log_prob(1 + chosen.sum(dim=1)).mean() / self.task.look_back


def _each_step(
    layer: nn.Linear, features: Float[Tensor, "row width time"]
) -> Float[Tensor, "row out time"]:
    """A linear layer on the features of each step, with time as the last axis, as in the stem.

    Two transpositions would take longer than the product itself.
    """
    weight = layer.weight.expand(len(features), -1, -1)
    return torch.baddbmm(layer.bias[:, None], weight, features)
