"""ReinPatch on two levels: groups of patches, whose boundaries are also boundaries of patches."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional

from harness import Patches, Rows, from_chosen, from_inclusion, inclusion, uniform_starts
from methods._policy import PolicyPatcher, draw_in_order, log_prob_in_order


class ReinPatchLevels(PolicyPatcher):
    """Draws K - 1 boundaries, and among them those that start a group; K / 4 groups in all.

    The first layer of the backbone works on patches, the others on groups of them.

    Source: ReinPatch and GRPG (Wu et al., arXiv 2603.26097), of which the abstract could be read:
    it states multi-level boundaries and no more.

    Fidelity: re-implementation. Our design: nested sets of boundaries, each Plackett-Luce with
    logits of its own, whose log-probabilities add up. The token of a group is the mean of the
    tokens of its patches, and is added to each of them after the backbone.
    """

    levels = 2

    @property
    def coarse(self) -> int:
        """Groups of patches, the first one included."""
        return math.ceil(self.task.patches / 4)

    def draw(self, logits: Tensor, rows: Rows, draws: int) -> Patches:
        row, _, steps = logits.shape
        inner = self.task.patches - 1
        uniform = rows.uniform(draws * (steps + inner)).view(row, draws, -1).transpose(0, 1)
        order = draw_in_order(logits[:, 0], inner, uniform[..., :steps])
        step = order.sort(dim=-1).values
        second = logits[:, 1].expand(draws, -1, -1).gather(-1, step).flatten(0, 1)
        groups = draw_in_order(second, self.coarse - 1, uniform[..., steps:].flatten(0, 1)[None])
        log_prob = log_prob_in_order(logits[:, 0], order).flatten()
        return _nested(
            step.flatten(0, 1),
            groups[0],
            self.task.look_back,
            log_prob + log_prob_in_order(second, groups)[0],
        )

    def best(self, logits: Tensor) -> Patches:
        step = logits[:, 0].topk(self.task.patches - 1, dim=1).indices.sort(dim=1).values
        group = logits[:, 1].gather(1, step).topk(self.coarse - 1, dim=1).indices
        return _nested(step, group, self.task.look_back)

    def even(self, logits: Tensor) -> Patches:
        """Boundaries spread evenly, and groups spread evenly over their probability at those."""
        step = super().even(logits).start[:, 1:] - 1
        chance = inclusion(logits[:, 1].gather(1, step), self.coarse - 1)
        group = from_inclusion(chance, self.coarse).start[:, 1:] - 1
        return _nested(step, group, self.task.look_back)

    def equal(self, logits: Tensor) -> Patches:
        start = uniform_starts(self.task.look_back, self.task.patches, logits.device)
        coarse = uniform_starts(self.task.patches, self.coarse, logits.device)
        return _nested(
            (start[1:] - 1).expand(len(logits), -1),
            (coarse[1:] - 1).expand(len(logits), -1),
            self.task.look_back,
        )


def _nested(
    step: Tensor, group: Tensor, look_back: int, log_prob: Tensor | None = None
) -> Patches:
    """Patches at the chosen steps, and groups that start at some of the chosen boundaries."""
    coarse = functional.pad(group.sort(dim=1).values + 1, (1, 0))
    return from_chosen(step, look_back, coarse=coarse, log_prob=log_prob)
