"""Heads: the forecast of a row from its tokens.

``GridHead`` is the one that suites use; ``QueryHead`` and ``FlattenHead`` read the same tokens in
other ways, to see that a finding is not the head's.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from harness.core.task import Architecture, Task
from harness.model.layers import Dropout, bounds
from harness.model.patcher import Patches


class GridHead(nn.Module):
    """Tokens spread back over equal bins of the look-back by overlap, then one linear layer.

    Slots regain a fixed meaning in time whatever the boundaries, and the parameters do not depend
    on K. With as many equal patches as bins it is exactly PatchTST's flatten head.
    """

    edges: Tensor

    def __init__(self, task: Task, architecture: Architecture, slots: int) -> None:
        super().__init__()
        bins = math.ceil(task.look_back / architecture.grid)
        if bins < task.patches:
            raise ValueError(
                f"the head's grid has {bins} bins of {architecture.grid} steps, fewer than the "
                f"{task.patches} patches: it would blur them; choose a smaller grid"
            )
        edges = (torch.arange(bins + 1.0) * architecture.grid).clamp_max(task.look_back)
        self.register_buffer("edges", edges, persistent=False)
        self.dropout = Dropout(architecture.dropout)
        self.out = nn.Linear(bins * architecture.width, task.horizon)

    def forward(
        self, token: Float[Tensor, "row patch width"], patches: Patches
    ) -> Float[Tensor, "row horizon"]:
        start, end = bounds(patches)
        low, high = self.edges[:-1, None], self.edges[1:, None]
        shared = torch.minimum(end[:, None], high) - torch.maximum(start[:, None], low)
        overlap = (shared.clamp_min(0) / (high - low)).to(token.dtype)
        future: Tensor = self.out(self.dropout((overlap @ token).flatten(1)))
        return future


class QueryHead(nn.Module):
    """A learned query for each eight steps of the horizon attends to the tokens.

    The order of the slots means nothing here.
    """

    def __init__(self, task: Task, architecture: Architecture, slots: int) -> None:
        super().__init__()
        self.horizon, steps = task.horizon, 8
        self.query = nn.Parameter(
            torch.randn(math.ceil(task.horizon / steps), architecture.width) * 0.02
        )
        self.key_value = nn.Linear(architecture.width, 2 * architecture.width)
        self.heads = architecture.heads
        self.dropout = Dropout(architecture.dropout)
        self.out = nn.Linear(architecture.width, steps)

    def forward(
        self, token: Float[Tensor, "row patch width"], patches: Patches
    ) -> Float[Tensor, "row horizon"]:
        row, patch, _ = token.shape
        key, value = (
            self.key_value(token).view(row, patch, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        )
        query = (
            self.query.view(1, len(self.query), self.heads, -1)
            .transpose(1, 2)
            .expand(row, -1, -1, -1)
        )
        mask = patches.valid[:, None, None]
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        future: Tensor = self.out(self.dropout(mixed.transpose(1, 2).flatten(2)))
        return future.flatten(1)[:, : self.horizon]


class FlattenHead(nn.Module):
    """One linear layer on the slots in their order: right where the order of segments counts."""

    def __init__(self, task: Task, architecture: Architecture, slots: int) -> None:
        super().__init__()
        self.dropout = Dropout(architecture.dropout)
        self.out = nn.Linear(slots * architecture.width, task.horizon)

    def forward(
        self, token: Float[Tensor, "row patch width"], patches: Patches
    ) -> Float[Tensor, "row horizon"]:
        future: Tensor = self.out(self.dropout((token * patches.valid[..., None]).flatten(1)))
        return future


HEADS = {"grid": GridHead, "query": QueryHead, "flatten": FlattenHead}
