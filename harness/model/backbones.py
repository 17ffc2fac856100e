"""Backbones: tokens of a row in, as many tokens out, each knowing of the others.

``Transformer`` is the one that suites use, ``Identity`` the control that mixes nothing. What gated
methods need after the backbone is :func:`dechunk`.
"""

from __future__ import annotations

from itertools import repeat

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from harness.core.task import Architecture
from harness.model.attention import attention
from harness.model.layers import Dropout, rows_at_once, running_sum
from harness.model.patcher import Patches


class Block(nn.Module):
    """Pre-norm transformer layer: LayerNorm, attention, LayerNorm, feed-forward.

    Both branches start at zero.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width, hidden = architecture.width, architecture.feedforward
        self.heads = architecture.heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.norm_feedforward = nn.LayerNorm(width)
        self.join, self.narrow = nn.Linear(width, width), nn.Linear(hidden, width)
        for last in (self.join, self.narrow):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.widen = nn.Linear(width, hidden)
        self.dropout = Dropout(architecture.dropout)

    def forward(
        self, token: Float[Tensor, "row patch width"], mask: Bool[Tensor, "row 1 1 patch"] | None
    ) -> Float[Tensor, "row patch width"]:
        row, patch, _ = token.shape
        packed = self.query_key_value(self.norm_attention(token))
        mixed = attention(packed.view(row, patch, 3, self.heads, -1), mask)
        token = token + self.dropout(self.join(mixed))
        hidden = functional.gelu(self.widen(self.norm_feedforward(token)))
        return token + self.dropout(self.narrow(hidden))


class Transformer(nn.Module):
    """The shared backbone: tokens attend to the valid tokens of their own row.

    Layers add to the tokens, at the start nothing, and no norm comes last: the forecaster starts
    as the one without a backbone, and how large a token is reaches the head.

    With a second level, groups of patches, the layers after the first one work on one token for
    each group (the mean of its members), and what they add to it is added to each member.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.dropout = Dropout(architecture.dropout)
        self.blocks = nn.ModuleList(Block(architecture) for _ in range(architecture.layers))
        self.widest = max(3 * architecture.width, architecture.feedforward)

    def forward(
        self,
        token: Float[Tensor, "row patch width"],
        mask: Bool[Tensor, "row 1 1 patch"] | None,
        coarse: Int[Tensor, "row coarse"] | None = None,
    ) -> Float[Tensor, "row patch width"]:
        if torch.is_grad_enabled():
            return self._mix(token, mask, coarse)
        rows = rows_at_once(token.device, token.shape[1] * self.widest)
        masks, groups = (
            repeat(None) if some is None else some.split(rows) for some in (mask, coarse)
        )
        parts = zip(token.split(rows), masks, groups, strict=False)
        return torch.cat([self._mix(*part) for part in parts])  # the same to the last bit

    def _mix(
        self, token: Tensor, mask: Tensor | None, coarse: Tensor | None
    ) -> Float[Tensor, "row patch width"]:
        token = self.dropout(token)
        if coarse is None:
            for block in self.blocks:
                token = block(token, mask)
        else:
            fine = self.blocks[0](token, mask)
            member = membership(coarse, token.shape[1])
            before = token = (member / member.sum(-1, keepdim=True)) @ fine
            for block in self.blocks[1:]:
                token = block(token, None)
            token = fine + member.transpose(1, 2) @ (token - before)
        return token


class Identity(nn.Module):
    """No mixing of tokens at all: a control that shows how much depends on the backbone."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()

    def forward(
        self,
        token: Float[Tensor, "row patch width"],
        mask: Bool[Tensor, "row 1 1 patch"] | None,
        coarse: Int[Tensor, "row coarse"] | None = None,
    ) -> Float[Tensor, "row patch width"]:
        return token


def membership(
    start: Int[Tensor, "row coarse"], members: int
) -> Float[Tensor, "row coarse member"]:
    """1 where a member belongs to the group that begins at ``start``, else 0."""
    index = torch.arange(members, device=start.device)
    begun = (index >= start[..., None]).to(torch.float32)
    return begun - functional.pad(begun[:, 1:], (0, 0, 0, 1))


def dechunk(
    token: Float[Tensor, "row patch width"], patches: Patches
) -> Float[Tensor, "row patch width"]:
    """Tokens smoothed by the patcher's gates, and a gradient to its confidence in each step.

    H-Net's de-chunking (Hwang et al., arXiv 2507.07955) without its residual. H-Net smooths tokens
    by a running mean and copies each to the steps of its patch, times a factor that is 1 in value
    and carries the gradient to the confidence. Here the head does the copying, and a token is
    multiplied by the mean of the factors of its steps.
    """
    if patches.gate is not None:
        token = running_mean(token, patches.gate)
    if patches.confidence is not None:
        total = running_sum(patches.confidence)
        sums = total.gather(1, patches.end) - total.gather(1, patches.start)
        mean = (sums / patches.length.clamp_min(1)).to(token.dtype)
        token = token * (1 + (mean - mean.detach()))[..., None]  # 1 to the last bit
    return token


def running_mean(
    token: Float[Tensor, "row patch width"], gate: Float[Tensor, "row patch"]
) -> Float[Tensor, "row patch width"]:
    """``z_m = p_m t_m + (1 - p_m) z_(m-1)``, the first token as it is, for all patches at once.

    By doubling: after each round a mean reaches back over twice as many tokens, and ``kept`` is
    the weight of all tokens before these. Nothing is subtracted, so float32 is precise enough.
    """
    share = functional.pad(gate[:, 1:], (1, 0), value=1.0)[..., None]
    kept, mean, reach = 1 - share, share * token, 1
    while reach < token.shape[1]:
        mean = mean + kept * functional.pad(mean, (0, 0, reach, -reach))
        kept = kept * functional.pad(kept, (0, 0, reach, -reach))
        reach *= 2
    return mean.to(token.dtype)


BACKBONES = {"transformer": Transformer, "identity": Identity}
