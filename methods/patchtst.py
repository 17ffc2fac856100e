"""PatchTST as published, with an encoder and head of its own: a reference, not a patcher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from harness import Architecture, Dropout, Forecast, Forecaster, Task, instance_norm


class PatchTST(Forecaster):
    """Overlapping patches, a post-norm encoder with residual attention scores, a flatten head.

    Source: Nie et al., ICLR 2023 (arXiv 2211.14730) and its published code.

    Fidelity: re-implementation: patches of 16 steps every 8, the look-back padded by one stride of
    its last value, learned positions, attention scores added up over layers, batch norm over rows
    and tokens, one linear head on all tokens. ``width``, ``layers`` and ``dropout`` are those of
    the suite where they are None; a suite sets them as the published scripts do for each data set.
    ``pace`` is the learning rate as a multiple of the suite's. Deviations: instance norm without
    an affine map, and the shared training budget instead of a learning rate of 1e-4 over 100
    epochs.
    """

    def __init__(
        self,
        task: Task,
        architecture: Architecture,
        *,
        length: int = 16,
        stride: int = 8,
        width: int | None = None,
        layers: int | None = None,
        dropout: float | None = None,
        pace: float = 1.0,
    ) -> None:
        super().__init__(task, architecture)
        architecture = replace(
            architecture,
            width=width or architecture.width,
            layers=layers or architecture.layers,
            dropout=architecture.dropout if dropout is None else dropout,
        )
        width, dropout = architecture.width, architecture.dropout
        self.pace = pace
        self.length, self.stride = length, stride
        count = (task.look_back - length) // stride + 2
        self.embed = nn.Linear(length, width)
        self.position = nn.Parameter(torch.empty(count, width).uniform_(-0.02, 0.02))
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(_Layer(architecture) for _ in range(architecture.layers))
        self.head = nn.Linear(count * width, task.horizon)

    def forward(
        self,
        past: Float[Tensor, "batch channel time"],
        ids: Int[Tensor, "batch channel"],
        truth: Bool[Tensor, "batch time"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Forecast:
        batch, channel, _ = past.shape
        normal, mean, scale = instance_norm(past)
        padded = functional.pad(normal.flatten(0, 1)[:, None], (0, self.stride), mode="replicate")[
            :, 0
        ]
        token = self.dropout(
            self.embed(padded.unfold(1, self.length, self.stride)) + self.position
        )
        scores: Tensor | None = None
        for layer in self.layers:
            token, scores = layer(token, scores)
        future = self.head(token.transpose(1, 2).flatten(1))
        return Forecast((future.view(batch, channel, -1) * scale + mean)[None])

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return super().parameter_groups(self.pace * learning_rate)

    @property
    def tokens(self) -> int:
        return len(self.position)

    def parts(self) -> dict[str, nn.Module]:
        return {"backbone": nn.ModuleList([self.embed, self.layers]), "head": self.head}


class _Layer(nn.Module):
    """Attention with the scores of the layer below added, then a feed-forward net; batch norm."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width, feedforward = architecture.width, architecture.feedforward
        self.heads = architecture.heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.widen = nn.Linear(width, feedforward)
        self.narrow = nn.Linear(feedforward, width)
        self.norm_attention = nn.BatchNorm1d(width)
        self.norm_feedforward = nn.BatchNorm1d(width)
        self.dropout = Dropout(architecture.dropout)

    def forward(
        self,
        token: Float[Tensor, "row patch width"],
        below: Float[Tensor, "row head patch patch"] | None,
    ) -> tuple[Float[Tensor, "row patch width"], Float[Tensor, "row head patch patch"]]:
        row, patch, width = token.shape
        packed = self.query_key_value(token).view(row, patch, 3, self.heads, -1)
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        scores = (query * (width // self.heads) ** -0.5) @ key.transpose(-1, -2)
        if below is not None:
            scores = scores + below
        mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(row, patch, width)
        token = _norm(self.norm_attention, token + self.dropout(self.join(mixed)))
        hidden = self.dropout(functional.gelu(self.widen(token)))
        return _norm(self.norm_feedforward, token + self.dropout(self.narrow(hidden))), scores


def _norm(
    norm: nn.BatchNorm1d, token: Float[Tensor, "row patch width"]
) -> Float[Tensor, "row patch width"]:
    """Batch norm over rows and tokens together: the published statistics without transposing."""
    normed: Tensor = norm(token.flatten(0, 1))
    return normed.view_as(token)
