"""Layers every forecaster shares: one of each, so that methods differ in their boundaries only.

Shapes: ``row`` is a look-back of one channel, ``time`` its steps, ``patch`` its slots, ``width``
the features of a token. No layer here mixes rows: a row's output never depends on its batch mates.
"""

from __future__ import annotations

import math
import sys
from itertools import repeat

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from harness.core.task import Architecture, Task
from harness.model.patcher import Patches


def instance_norm(
    values: Float[Tensor, "*row time"],
) -> tuple[Float[Tensor, "*row time"], Float[Tensor, "*row 1"], Float[Tensor, "*row 1"]]:
    """RevIN without its affine map: look-backs at mean 0 and deviation 1, and what they had.

    The 1e-5 under the root keeps constant rows finite (Kim et al., ICLR 2022).
    """
    variance, mean = torch.var_mean(values, dim=-1, correction=0, keepdim=True)
    scale = (variance + 1e-5).sqrt()
    return (values - mean) / scale, mean, scale


def at_once(device: torch.device, numbers: int) -> int:
    """Rows to pass through layers at a time that hold up to so many numbers of each.

    On a CPU as many as stay in the cache of a core, where they go through a fifth to a third
    faster; elsewhere all.
    """
    return max(1, _CACHED // numbers) if device.type == "cpu" else sys.maxsize


_CACHED = 2**18


class Dropout(nn.Module):
    """Dropout from random bytes: an eighth of the random numbers that ``nn.Dropout`` draws.

    Drawing them is a good part of a training step on a CPU; this takes 2 ns an element where
    ``nn.Dropout`` takes 9 (one core). The rate is rounded to 1/256 and the kept values are scaled
    by the rounded rate, so the mean is exact.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.dropped = round(rate * 256)

    def forward(self, values: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        # None without a gradient either: rollouts are to differ in their boundaries only.
        if not (self.training and self.dropped and torch.is_grad_enabled()):
            return values
        count = values.numel()
        words = torch.empty((count + 7) // 8, dtype=torch.int64, device=values.device)
        # From -2**63 without an upper end: all 64 bits are random, the sign bit too.
        random = words.random_(-(2**63), None).view(torch.uint8)[:count].view(values.shape)
        kept = (random >= self.dropped).to(values.dtype)
        return values * kept.mul_(256 / (256 - self.dropped))

    def extra_repr(self) -> str:
        return f"rate={self.dropped}/256"


def fourier(
    position: Float[Tensor, "*any"], periods: Float[Tensor, " period"]
) -> Float[Tensor, "*any two"]:
    """Cosines and sines of a position in steps at each period: [..., 2 * period]."""
    angle = position[..., None] * (2 * math.pi / periods)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def octaves(look_back: int) -> Float[Tensor, " period"]:
    """Periods that halve from twice the look-back down to four steps: coarse to fine places."""
    count = max(1, int(math.log2(2 * look_back / 4)) + 1)
    return 2.0 * look_back / 2.0 ** torch.arange(count)


class Place(nn.Module):
    """Codes where a patch lies and how long it is: centre in time and log2 of the length."""

    periods: Tensor

    def __init__(self, task: Task, width: int) -> None:
        super().__init__()
        self.register_buffer("periods", octaves(task.look_back), persistent=False)
        self.centre = nn.Linear(2 * len(self.periods), width, bias=False)
        self.length = nn.Linear(1, width, bias=False)
        self.usual_length = task.look_back / task.patches

    def forward(
        self, start: Float[Tensor, "row patch"], end: Float[Tensor, "row patch"]
    ) -> Float[Tensor, "row patch width"]:
        relative = ((end - start).clamp_min(0.5) / self.usual_length).log2()
        centre = fourier((start + end) / 2, self.periods)
        place: Tensor = self.centre(centre) + self.length(relative[..., None])
        return place


def bounds(patches: Patches) -> tuple[Float[Tensor, "row patch"], Float[Tensor, "row patch"]]:
    """First and last edge of each patch, real numbers, with the patcher's gradient if any."""
    if patches.edges is not None:
        return patches.edges[:, :-1], patches.edges[:, 1:]
    return patches.start.to(torch.float32), patches.end.to(torch.float32)


def stretches(
    patches: Patches,
) -> tuple[Float[Tensor, "row patch"], Float[Tensor, "row patch"]]:
    """First and last edge of what each token is read from: the patch, or its soft stretch."""
    return bounds(patches) if patches.spans is None else patches.spans.unbind(1)  # type: ignore[return-value]  # a tuple of two


def weighted(
    values: Float[Tensor, "row time"], patches: Patches
) -> tuple[Float[Tensor, "row time"], Float[Tensor, "row patch 1"] | float]:
    """Values by the weight of their step, and what sums over a patch are to be multiplied by.

    Weights are relative to the patch; weights of 1 leave both as they are.
    """
    if patches.weight is None:
        return values, 1.0
    start, end = stretches(patches)
    total = running_sum(patches.weight)
    mean = (read(total, end) - read(total, start)) / (end - start).clamp_min(1e-6)
    return values * patches.weight, 1 / mean.clamp_min(1e-6).to(values.dtype)[..., None]


def gain(patches: Patches) -> Float[Tensor, "row patch 1"] | float:
    """What the content of each token is multiplied by."""
    return 1.0 if patches.gain is None else patches.gain[..., None]


def running_sum(values: Float[Tensor, "row time"]) -> Float[Tensor, "row edge"]:
    """Sums of all steps before each edge, 0 first; float64, as their differences lose digits."""
    return functional.pad(values.double().cumsum(dim=1), (1, 0))


def read(
    table: Float[Tensor, "row edge"], place: Float[Tensor, "row point"]
) -> Float[Tensor, "row point"]:
    """Linear interpolation of a table along its second axis; differentiable in the place."""
    low = place.detach().floor().clamp(0, table.shape[1] - 2).long()
    left, right = table.gather(1, low), table.gather(1, low + 1)
    return torch.addcmul(left, right - left, (place - low).to(table.dtype))


class AreaEmbedder(nn.Module):
    """Tokens from patches of any length: area resampling to R cells, and a phase term.

    Content: each patch is resampled to ``cells`` values by exact area averages (for a patch of R
    steps these are its points: PatchTST's linear embedding). Phase: the sums over the patch of
    ``x_t cos(w t)`` and ``x_t sin(w t)`` in absolute time. Without it a patch knows its points
    only on its own clock, and every method with uneven patches pays for the embedder what looks
    like a cost of its boundaries; for equal patches the term is one more position-dependent linear
    layer. Differentiable in the patch edges.
    """

    def __init__(self, task: Task, architecture: Architecture) -> None:
        super().__init__()
        width, self.cells = architecture.width, architecture.cells
        self.content = nn.Linear(self.cells, width)
        self.place = Place(task, width)
        # A sum over a patch of usual length, of rows at deviation 1, has this size. Divided by
        # the length itself the term starts too small, is learned late, and irregular patches pay:
        # after six epochs on ETTh1 random boundaries were 28 % behind equal ones, not 7 %.
        self.unit = (task.look_back / task.patches) ** 0.5
        self.phase: nn.Linear | None = None
        if architecture.phase:
            periods = phase_periods(task)
            self.waves = WaveSums(task.look_back, periods)
            self.phase = nn.Linear(2 * len(periods), width, bias=False)

    def forward(
        self, values: Float[Tensor, "row time"], patches: Patches
    ) -> Float[Tensor, "row patch width"]:
        start, end = stretches(patches)
        values, factor = weighted(values, patches)
        token: Tensor = self.content(self._resample(values, start, end) * factor * gain(patches))
        token = token + self.place(start, end)
        if self.phase is not None:
            if patches.spans is None:
                edges = torch.cat([start, end[:, -1:]], dim=1)
                waves = self.waves(values, edges).diff(dim=1)
            else:
                waves = self.waves(values, end) - self.waves(values, start)
            token = token + self.phase(waves * (factor / self.unit))
        return token

    def _resample(
        self, values: Tensor, start: Tensor, end: Tensor
    ) -> Float[Tensor, "row patch cell"]:
        length = end - start
        fraction = torch.arange(self.cells + 1, device=values.device) / self.cells
        place = start[..., None] + length[..., None] * fraction
        area = read(running_sum(values), place.flatten(1)).view(place.shape).diff(dim=-1)
        return (area / (length.clamp_min(1e-6) / self.cells)[..., None]).to(values.dtype)


class WaveSums(nn.Module):
    """Running sums of ``x_t cos(w t)`` and ``x_t sin(w t)`` up to given edges.

    Whole blocks of steps are summed by one matrix product; the steps between an edge and the block
    before it are weighted by how much of them lies before the edge (so a real-valued edge gets a
    gradient), summed on the block's own clock and turned to absolute time by the block's angle.
    The sums of every step, [row, time, wave], are never held: they cost more than the backbone.
    """

    basis: Tensor
    turn: Tensor
    block = 16

    def __init__(self, look_back: int, periods: Float[Tensor, " period"]) -> None:
        super().__init__()
        blocks = math.ceil(look_back / self.block)
        basis = fourier(torch.arange(float(blocks * self.block)), periods)
        self.register_buffer("basis", basis.view(blocks, self.block, -1), persistent=False)
        turn = fourier(torch.arange(float(blocks)) * self.block, periods)
        self.register_buffer("turn", turn, persistent=False)

    def forward(
        self, values: Float[Tensor, "row time"], edges: Float[Tensor, "row edge"]
    ) -> Float[Tensor, "row edge wave"]:
        blocks, block, _ = self.basis.shape
        values = functional.pad(values, (0, blocks * block - values.shape[1]))
        chunk = values.view(len(values), blocks, block)
        whole = torch.einsum("nbi,bif->nbf", chunk, self.basis)
        before = functional.pad(whole.cumsum(dim=1), (0, 0, 1, 0))

        number = (edges.detach() / block).long().clamp_max(blocks - 1)
        row = torch.arange(len(values), device=values.device)[:, None]
        step = number[..., None] * block + torch.arange(block, device=values.device)
        inside = chunk[row, number] * (edges[..., None] - step).clamp(0, 1)
        local_cos, local_sin = (inside @ self.basis[0]).chunk(2, dim=-1)
        cos, sin = self.turn[number].chunk(2, dim=-1)
        turned = (local_cos * cos - local_sin * sin, local_sin * cos + local_cos * sin)
        return before[row, number] + torch.cat(turned, dim=-1)


def phase_periods(task: Task) -> Float[Tensor, " period"]:
    """Periods of the phase term: six harmonics of the season, or octaves where there is none.

    Slower waves were tried beside them on ETTh1: random boundaries did no better with them.
    """
    if task.season < 4:
        return octaves(task.look_back)
    return task.season / torch.arange(1.0, 7.0)


class MeanEmbedder(nn.Module):
    """A lossy token: the patch's mean, length and place.

    For planted tasks, where boundaries must matter.
    """

    def __init__(self, task: Task, architecture: Architecture) -> None:
        super().__init__()
        self.content = nn.Linear(1, architecture.width)
        self.place = Place(task, architecture.width)

    def forward(
        self, values: Float[Tensor, "row time"], patches: Patches
    ) -> Float[Tensor, "row patch width"]:
        start, end = stretches(patches)
        values, factor = weighted(values, patches)
        total = running_sum(values)
        area = read(total, end) - read(total, start)
        mean = (area / (end - start).clamp_min(1e-6)).to(values.dtype)
        token: Tensor = self.content(mean[..., None] * factor * gain(patches)) + self.place(
            start, end
        )
        return token


def attention(
    packed: Float[Tensor, "row patch three head feature"],
    mask: Bool[Tensor, "row 1 1 patch"] | None,
) -> Float[Tensor, "row patch width"]:
    """Scaled dot-product attention of packed queries, keys and values.

    Torch's fused kernel, but for CPUs: there it takes half of a training step at the narrow heads
    used here, and the same product written out with the tokens last makes the whole step 1.3 times
    as fast (width 16, look-back 336, 21 patches).
    """
    row, patch, _, heads, feature = packed.shape
    if packed.device.type != "cpu":
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return mixed.transpose(1, 2).flatten(2)
    query, key, value = packed.permute(2, 0, 3, 4, 1).flatten(1, 2)  # [row * head, feature, patch]
    query = query.transpose(1, 2) * feature**-0.5
    if mask is None:
        scores = query @ key
    else:
        # Added within the product: a pass over all scores for the mask alone costs a third more.
        shut = torch.zeros(mask.shape, dtype=query.dtype, device=query.device)
        shut = shut.masked_fill(~mask, -math.inf).expand(-1, heads, -1, -1)
        scores = torch.baddbmm(shut.reshape(row * heads, 1, patch), query, key)
    mixed = value @ scores.softmax(dim=-1).transpose(1, 2)
    return mixed.view(row, heads * feature, patch).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm transformer layer: LayerNorm, attention, LayerNorm, feed-forward."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width, hidden = architecture.width, architecture.feedforward
        self.heads = architecture.heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.norm_feedforward = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
        )
        self.dropout = Dropout(architecture.dropout)

    def forward(
        self, token: Float[Tensor, "row patch width"], mask: Bool[Tensor, "row 1 1 patch"] | None
    ) -> Float[Tensor, "row patch width"]:
        row, patch, _ = token.shape
        packed = self.query_key_value(self.norm_attention(token))
        mixed = attention(packed.view(row, patch, 3, self.heads, -1), mask)
        token = token + self.dropout(self.join(mixed))
        return token + self.dropout(self.feedforward(self.norm_feedforward(token)))


class Transformer(nn.Module):
    """The shared backbone: tokens attend to the valid tokens of their own row.

    With a second level of patches, layers after the first one work on one token a group (the mean
    of its members), and what they make of it is added to each member.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.dropout = Dropout(architecture.dropout)
        self.blocks = nn.ModuleList(Block(architecture) for _ in range(architecture.layers))
        self.norm = nn.LayerNorm(architecture.width)
        self.widest = max(3 * architecture.width, architecture.feedforward)

    def forward(
        self,
        token: Float[Tensor, "row patch width"],
        mask: Bool[Tensor, "row 1 1 patch"] | None,
        coarse: Int[Tensor, "row coarse"] | None = None,
    ) -> Float[Tensor, "row patch width"]:
        if torch.is_grad_enabled():
            return self._mix(token, mask, coarse)
        rows = at_once(token.device, token.shape[1] * self.widest)
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
            token = (member / member.sum(-1, keepdim=True)) @ fine
            for block in self.blocks[1:]:
                token = block(token, None)
            token = fine + member.transpose(1, 2) @ token
        normed: Tensor = self.norm(token)
        return normed


class Identity(nn.Module):
    """No mixing of tokens at all: the sensitivity control for the backbone."""

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

    H-Net's de-chunking (Hwang et al., arXiv 2507.07955) without its residual: a running mean over
    tokens, and copies to the steps of each patch whose factor is 1 in value. The copies are left
    to the head; a patch's factor is the mean of those of its steps.
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

    Doubling: after each round a mean reaches back over twice as many tokens, and ``kept`` is what
    it still lacks of those before them. Only shares of values are added, so float32 will do.
    """
    share = functional.pad(gate[:, 1:], (1, 0), value=1.0)[..., None]
    kept, mean, reach = 1 - share, share * token, 1
    while reach < token.shape[1]:
        mean = mean + kept * functional.pad(mean, (0, 0, reach, -reach))
        kept = kept * functional.pad(kept, (0, 0, reach, -reach))
        reach *= 2
    return mean.to(token.dtype)


class GridHead(nn.Module):
    """Tokens spread back over equal cells of the look-back by overlap, then one linear layer.

    Slots regain a fixed meaning in time whatever the boundaries, and the parameters do not depend
    on K. With as many equal patches as cells it is exactly PatchTST's flatten head.
    """

    edges: Tensor

    def __init__(self, task: Task, architecture: Architecture, slots: int) -> None:
        super().__init__()
        cells = math.ceil(task.look_back / architecture.grid)
        if cells < task.patches:
            raise ValueError(
                f"the head's grid has {cells} cells of {architecture.grid} steps, fewer than the "
                f"{task.patches} patches: it would blur them; choose a smaller grid"
            )
        edges = (torch.arange(cells + 1.0) * architecture.grid).clamp_max(task.look_back)
        self.register_buffer("edges", edges, persistent=False)
        self.dropout = Dropout(architecture.dropout)
        self.out = nn.Linear(cells * architecture.width, task.horizon)

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

    Slots have no meaning of their own here.
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
    """One linear layer on the slots as they come: right where the order of segments counts."""

    def __init__(self, task: Task, architecture: Architecture, slots: int) -> None:
        super().__init__()
        self.dropout = Dropout(architecture.dropout)
        self.out = nn.Linear(slots * architecture.width, task.horizon)

    def forward(
        self, token: Float[Tensor, "row patch width"], patches: Patches
    ) -> Float[Tensor, "row horizon"]:
        future: Tensor = self.out(self.dropout((token * patches.valid[..., None]).flatten(1)))
        return future


class Stem(nn.Module):
    """Features of each step for methods that decide on features: one small net for all of them.

    One convolution over values and differences: at full resolution every further layer costs more
    than the backbone.
    """

    width = 8

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv1d(2, self.width, 5, padding=2)

    def forward(self, values: Float[Tensor, "row time"]) -> Float[Tensor, "row time width"]:
        steps = torch.stack([values, functional.pad(values.diff(dim=1), (1, 0))], dim=1)
        return functional.relu(self.near(steps)).transpose(1, 2)


class Votes(nn.Module):
    """A score for each inner boundary from the stem's features: what the steps nearby vote, added.

    A convolution of ``reach`` steps on either side to one channel without a bias, in a third of
    the time that it takes on a CPU.
    """

    def __init__(self, reach: int = 2) -> None:
        super().__init__()
        self.reach = reach
        size = (2 * reach + 1, Stem.width)
        bound = math.prod(size) ** -0.5  # as torch starts a convolution
        self.weight = nn.Parameter(torch.empty(size).uniform_(-bound, bound))

    def forward(self, features: Float[Tensor, "row time width"]) -> Float[Tensor, "row step"]:
        row, time, _ = features.shape
        # The stem's memory is channel by channel, so this transposition copies nothing.
        votes = torch.bmm(self.weight.expand(row, -1, -1), features.transpose(1, 2))
        votes = functional.pad(votes, (self.reach, self.reach))
        near = [vote[:, i + 1 : i + time] for i, vote in enumerate(votes.unbind(1))]
        return torch.stack(near).sum(dim=0)


EMBEDDERS = {"area": AreaEmbedder, "mean": MeanEmbedder}
BACKBONES = {"transformer": Transformer, "identity": Identity}
HEADS = {"grid": GridHead, "query": QueryHead, "flatten": FlattenHead}
