"""Straight-through boundaries: hard top-k forward, the gradient of a soft placement backward."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from harness import Patcher, Patches, Rows, Task, Votes, from_scores


class StraightThrough(Patcher):
    """Scores every step and starts patches at the K - 1 best; gradients pass straight through.

    Source: straight-through estimation (Bengio et al., arXiv 1308.3432).

    Fidelity: our design. The forward pass is a top-k, so training and evaluation choose alike and
    the budget is exact. The backward pass treats each edge as the soft-argmax of the scores within
    ``reach`` steps of it. The derivative of the forecast in that real-valued edge is exact, since
    the shared embedder is differentiable in its edges. What the gradient cannot see is a boundary
    that would appear elsewhere. A straw man? The estimator's authors propose no patcher. It is the
    plainest use of it, and weak: in the rows of protocol 1 it is 3 % better than equal patches on
    `ordinal`, and worse on `sinus`. Tried and no better: soft edges (that is ``soft``, which
    closes most of the gap on `ordinal`).
    """

    uses_features = True
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {
        "reach": (1, 2, 4),
        "temperature": (0.3, 1.0, 3.0),
    }

    def __init__(self, task: Task, *, reach: int = 2, temperature: float = 1.0) -> None:
        super().__init__(task)
        self.reach, self.temperature = reach, temperature
        self.score = Votes()

    def forward(self, rows: Rows) -> Patches:
        assert rows.features is not None
        look_back = rows.values.shape[1]
        score = self.score(rows.features)
        patches = from_scores(score.detach(), self.task.patches)
        inner = patches.start[:, 1:]
        # `score` starts at step 1, so step s has index s - 1.
        offset = torch.arange(-self.reach, self.reach + 1, device=score.device)
        near = (inner[..., None] - 1 + offset).clamp(0, look_back - 2)
        weight = (
            score.gather(1, near.flatten(1)).view(near.shape).div(self.temperature).softmax(dim=-1)
        )
        soft = (weight * offset).sum(dim=-1)
        moving = inner + (soft - soft.detach())
        return Patches(
            patches.start, patches.length, patches.valid, edges=_with_ends(moving, look_back)
        )


def _with_ends(inner: Tensor, look_back: int) -> Tensor:
    """Inner edges with the two fixed ones, 0 and the look-back."""
    return functional.pad(functional.pad(inner, (1, 0)), (0, 1), value=float(look_back))
