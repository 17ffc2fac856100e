"""ReinPatch with independent labels, and an environment that limits how many of them count."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harness import Patches, Rows, from_marks
from methods._policy import PolicyPatcher, log_prob_of_labels


class ReinPatchBernoulli(PolicyPatcher):
    """Labels every step on its own; the environment drops labels at random beyond K - 1.

    Source: ReinPatch and GRPG (Wu et al., arXiv 2603.26097), of which the abstract could be read.

    Fidelity: re-implementation, the most literal reading: the policy emits labels, the environment
    enforces a minimum compression. Our design: labels start at the rate (K - 1) / (L - 1); which
    ones are dropped does not depend on the policy, since a score-function gradient cannot see an
    environment that does; the log-probability is that of all labels, including those dropped;
    evaluation takes the K - 1 largest logits. A row may have fewer than K patches in training.
    """

    strict = False

    @property
    def slots(self) -> int:
        return self.task.patches

    def draw(self, logits: Tensor, rows: Rows, draws: int) -> Patches:
        row, _, steps = logits.shape
        rate = min(max((self.task.patches - 1) / steps, 1e-3), 1 - 1e-3)
        rated = logits[:, 0] + math.log(rate / (1 - rate))
        uniform = rows.uniform(2 * draws * steps).view(row, 2, draws, steps).permute(1, 2, 0, 3)
        label = uniform[0] < rated.detach().sigmoid()
        return from_marks(
            label.flatten(0, 1),
            self.slots,
            priority=uniform[1].flatten(0, 1),
            log_prob=log_prob_of_labels(rated, label.to(torch.float32)).flatten(),
        )
