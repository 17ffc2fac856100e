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
from harness.model.layers import Dropout, bounds
from harness.model.patcher import Patches


class DecodingHead(nn.Module):
    """Tokens written back on their patches' own clocks, then one linear layer over time.

    A linear map gives ``points`` values for each of ``traces`` functions of time; they are laid as
    a piecewise constant function between the patch's edges and averaged over each step of the
    look-back: the embedder's resampling, the other way round. The layer behind it reads time and
    not slots, so that it need not know where patches lie, and its size does not depend on K. Only
    the tokens pass: there is no path around them. Differentiable in the patch edges.
    """

    steps: Tensor

    def __init__(self, task: Task, architecture: Architecture, slots: int) -> None:
        super().__init__()
        self.points, self.traces = architecture.points, architecture.traces
        self.register_buffer("steps", torch.arange(task.look_back + 1.0), persistent=False)
        self.decode = nn.Linear(architecture.width, self.points * self.traces)
        self.dropout = Dropout(architecture.dropout)
        self.out = nn.Linear(task.look_back * self.traces, task.horizon)

    def undo(self, content: nn.Linear) -> None:
        """Start as the inverse of an embedder's orthogonal content map, on the first trace."""
        with torch.no_grad():
            weight = self.decode.weight.view(self.points, self.traces, -1)
            weight.mul_(0.1)  # the other traces start small
            weight[:, 0] = content.weight.T
            nn.init.zeros_(self.decode.bias)

    def forward(
        self, token: Float[Tensor, "row patch width"], patches: Patches
    ) -> Float[Tensor, "row horizon"]:
        start, end = bounds(patches)
        in_time = self.in_time(self.decode(token), start, end)
        future: Tensor = self.out(self.dropout(in_time.flatten(1)))
        return future

    def in_time(
        self,
        value: Float[Tensor, "row patch point_trace"],
        start: Float[Tensor, "row patch"],
        end: Float[Tensor, "row patch"],
    ) -> Float[Tensor, "row time trace"]:
        """Averages over each step of what lies as ``points`` equal pieces between the edges."""
        rows, patches = start.shape
        value = value.view(rows, patches, self.points, self.traces)
        length = (end - start).clamp_min(1e-6)
        area = (value * (length / self.points)[..., None, None]).flatten(1, 2)
        # As in the embedder: differences of float32 sums over a long row lose digits.
        table = functional.pad(area.double().cumsum(dim=1), (0, 0, 1, 0))
        edge = self.steps.expand(rows, -1).contiguous()
        patch = torch.searchsorted(end.detach().contiguous(), edge, right=True)
        patch = patch.clamp_max(patches - 1)
        inside = (edge - start.gather(1, patch)) / length.gather(1, patch)
        place = (patch + inside.clamp(0, 1)) * self.points
        low = place.detach().floor().clamp_max(patches * self.points - 1).long()
        share = (place - low)[..., None].to(table.dtype)
        index = low[..., None].expand(-1, -1, self.traces)
        left, right = table.gather(1, index), table.gather(1, index + 1)
        return torch.addcmul(left, right - left, share).diff(dim=1).to(value.dtype)


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
