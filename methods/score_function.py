"""Score function: a coin for each step, and REINFORCE with the other rows as its baseline."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from harness import Patcher, Patches, Rows, Stem, Task, from_marks
from methods._policy import leave_one_out, log_prob_of_labels, without_chance


class ScoreFunction(Patcher):
    """Tosses a coin at each step for a boundary; labels of rows forecast well get more likely.

    Source: Dauncey and Wattenhofer (arXiv 2602.13940, ICML 2026), read through its abstract, a
    second-hand note and an earlier version of its code.

    Fidelity: re-implementation of what remains of it where a row has one reward, at its end: the
    estimator, advantages centred over the batch, the rate controller, the weights of both, and
    labels that are drawn in evaluation, too, as its code does without asking. Early exit and
    discounting do not apply (see ``score_function_discounted``). Decisions do not depend on
    earlier decisions (w = 0; the paper has w = 8 and finds w = 1 as good), since they would have
    to be drawn step by step. The target rate (K - 1) / (L - 1) makes the expected number of
    patches K. Of more boundaries than there are slots, those to be dropped are chosen at random
    and not by their probability: an environment that depends on the policy would make the gradient
    wrong. Ours are the plans without chance that are scored beside it, ``pace``, the policy's
    learning rate as a multiple of the forecaster's, the mean over steps in the policy loss, and
    that a row is compared with the mean of the other rows (theirs: of all, with a factor of (B -
    1) / B). The baseline is a mean over other rows, so differences in how hard rows are add
    variance. A straw man? In part: a reward for each step is what its authors credit it with, and
    a forecast has one. Their decisions come from a deep network; ours see 9 steps.
    """

    strict = False
    uses_features = True
    rules = ("sample", "even", "best")
    authors_rule = "sample"
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {
        "pace": (1.0, 5.0),
        "policy_weight": (0.01, 0.1, 1.0),
    }

    def __init__(
        self,
        task: Task,
        *,
        policy_weight: float = 1e-2,
        rate_weight: float = 1e-2,
        pace: float = 5.0,
    ) -> None:
        super().__init__(task)
        self.policy_weight, self.rate_weight, self.pace = policy_weight, rate_weight, pace
        self.rate = (task.patches - 1) / (task.look_back - 1)
        self.score = nn.Conv1d(Stem.width, 1, 5, padding=2)
        for parameter in self.score.parameters():
            nn.init.zeros_(parameter)
        # Clamped: K = 1 and K = L would need infinite logits.
        start = min(max(self.rate, 1e-3), 1 - 1e-3)
        self.bias = math.log(start / (1 - start))

    def forward(self, rows: Rows) -> Patches:
        assert rows.features is not None
        score = self.score(rows.features.transpose(1, 2))[:, 0, 1:]
        # In the precision of the values: half precision is too coarse for sums over a long row.
        logit = score.to(rows.values.dtype) + self.bias
        if not rows.as_trained:
            return without_chance(logit, self.task.patches, self.slots, rows.rule)
        draw, priority = rows.uniform(2 * logit.shape[1]).chunk(2, dim=1)
        probability = logit.sigmoid()
        label = draw < probability
        return from_marks(
            label,
            self.slots,
            priority,
            log_prob=log_prob_of_labels(logit, label[None].to(logit.dtype))[0],
            loss=self.rate_weight * logit.mean() * (probability.mean() - self.rate).detach(),
        )

    def learn(self, patches: Patches, row_loss: Float[Tensor, "draw row"]) -> Float[Tensor, ""]:
        assert patches.log_prob is not None
        advantage = leave_one_out(-row_loss[0])
        steps = self.task.look_back - 1
        return -self.policy_weight * (advantage * patches.log_prob).mean() / steps

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters()), "lr": self.pace * learning_rate}]
