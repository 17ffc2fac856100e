"""Heads: the forecast of a row from its tokens.

``DecodingHead`` is the one that suites use; ``QueryHead`` and ``FlattenHead`` read the same tokens
in other ways, to see that a finding is not the head's.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from harness.core.task import Architecture, Task
from harness.model.layers import Dropout, bounds, interpolate, running_sum
from harness.model.patcher import Patches


class TimeDecoder(nn.Module):
    """Tokens written back on their patches' own clocks.

    A linear map makes ``points`` values of each token. They are laid in equal pieces between the
    edges of its patch and averaged over each step of the look-back: the embedder's resampling, the
    other way round. Differentiable in the patch edges.
    """

    steps: Tensor

    def __init__(self, task: Task, architecture: Architecture) -> None:
        super().__init__()
        self.points = architecture.points
        self.register_buffer("steps", torch.arange(task.look_back + 1.0), persistent=False)
        self.decode = nn.Linear(architecture.width, self.points)

    def undo(self, content: nn.Linear) -> None:
        """Start as the inverse of an embedder's orthogonal content map."""
        with torch.no_grad():
            self.decode.weight.copy_(content.weight.T)
        nn.init.zeros_(self.decode.bias)

    def written(
        self, token: Float[Tensor, "row patch width"], patches: Patches
    ) -> Float[Tensor, "row time"]:
        """A value for each step of the look-back."""
        return self.in_time(self.decode(token), *bounds(patches))

    def in_time(
        self,
        value: Float[Tensor, "row patch point"],
        start: Float[Tensor, "row patch"],
        end: Float[Tensor, "row patch"],
    ) -> Float[Tensor, "row time"]:
        """Averages over each step of what lies in equal pieces between the edges of each patch."""
        length = end - start
        table = running_sum((value * (length / self.points)[..., None]).flatten(1))
        edge = self.steps.expand(len(value), -1).contiguous()
        patch = torch.searchsorted(end.detach().contiguous(), edge, right=True)
        patch = patch.clamp_max(start.shape[1] - 1)
        inside = (edge - start.gather(1, patch)) / length.clamp_min(1e-6).gather(1, patch)
        place = (patch + inside.clamp(0, 1)) * self.points
        return interpolate(table, place).diff(dim=1).to(value.dtype)


class DecodingHead(TimeDecoder):
    """Tokens written back to time, then one linear layer over it.

    The layer reads time and not slots, so that it need not know where patches lie, and its size
    does not depend on K. Only the tokens pass: there is no path around them.
    """

    def __init__(self, task: Task, architecture: Architecture, slots: int) -> None:
        super().__init__(task, architecture)
        self.dropout = Dropout(architecture.dropout)
        self.out = nn.Linear(task.look_back, task.horizon)

    def forward(
        self, token: Float[Tensor, "row patch width"], patches: Patches
    ) -> Float[Tensor, "row horizon"]:
        future: Tensor = self.out(self.dropout(self.written(token, patches)))
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


HEADS = {"decoding": DecodingHead, "query": QueryHead, "flatten": FlattenHead}
