"""ReinPatch with the conditional Bernoulli distribution: exact in everything, and slower."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import Patches, Rows, from_scores
from methods._policy import FixedSize, PolicyPatcher


class ReinPatchCB(PolicyPatcher):
    """Draws K - 1 boundaries from independent labels given that there are K - 1 of them.

    Source: ReinPatch and GRPG (Wu et al., arXiv 2603.26097), of which the abstract could be read;
    the distribution: Chen and Liu, Statistica Sinica 7 (1997).

    Fidelity: re-implementation; our reference among the three distributions. A set of boundaries
    has a probability whatever the order; the gradient of its logarithm is the set minus the exact
    inclusion probabilities; and the K - 1 largest logits are exactly the mode.
    """

    def draw(self, logits: Tensor, rows: Rows, draws: int) -> Patches:
        row, _, steps = logits.shape
        count = self.task.patches - 1
        uniform = rows.uniform(draws * steps).view(row, draws, steps).transpose(0, 1)
        if count in (0, steps):
            everything = uniform.flatten(0, 1)
            # Only one set is possible; its probability is 1 whatever the logits are.
            certain = (logits * 0).sum((1, 2)).repeat(draws)
            return from_scores(everything, self.task.patches, log_prob=certain)
        labels = FixedSize.of(logits[:, 0], count)
        drawn = labels.draw(uniform)
        return from_scores(
            drawn.flatten(0, 1).float(),
            self.task.patches,
            log_prob=labels.log_prob(logits[:, 0], drawn).flatten(),
        )

    def inclusion(self, logits: Tensor) -> Tensor:
        """Exact."""
        count = self.task.patches - 1
        if count in (0, logits.shape[1]):
            return torch.full_like(logits, count / logits.shape[1])
        return FixedSize.of(logits, count).inclusion()
