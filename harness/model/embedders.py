"""Embedders: a token of fixed width from a patch of any length, wherever it lies.

``AreaEmbedder`` is the one that suites use; ``MeanEmbedder`` loses what is inside a patch, for
planted tasks. Both read the patches' optional parts: edges, spans, weights and gains.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from harness.core.task import Architecture, Task
from harness.model.layers import bounds, running_sum
from harness.model.patcher import Patches


class AreaEmbedder(nn.Module):
    """Tokens from patches of any length: area resampling to R points, and a phase term.

    Content: each patch is resampled to ``points`` values by exact area averages (of a patch of R
    steps these are its values, as in PatchTST's linear embedding). Phase: the sums over the patch
    of ``x_t cos(w t)`` and ``x_t sin(w t)`` in absolute time. Without it a token says where its
    values lie within the patch but not where they lie in time, and what this costs a method with
    uneven patches looks like a cost of its boundaries; for equal patches the term is one more
    linear layer that depends on position. Differentiable in the patch edges.
    """

    def __init__(self, task: Task, architecture: Architecture) -> None:
        super().__init__()
        width, self.points = architecture.width, architecture.points
        self.content = nn.Linear(self.points, width)
        self.place = Place(task, width)
        # The size of a sum over a patch of usual length, in rows of standard deviation 1. Divided
        # by the length itself, the term starts too small and is learned late, at the expense of
        # uneven patches: after six epochs on ETTh1, random boundaries were 28 % worse than equal
        # ones instead of 7 %.
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
    ) -> Float[Tensor, "row patch point"]:
        length = end - start
        fraction = torch.arange(self.points + 1, device=values.device) / self.points
        place = start[..., None] + length[..., None] * fraction
        area = interpolate(running_sum(values), place.flatten(1)).view(place.shape).diff(dim=-1)
        return (area / (length.clamp_min(1e-6) / self.points)[..., None]).to(values.dtype)


class WaveSums(nn.Module):
    """Running sums of ``x_t cos(w t)`` and ``x_t sin(w t)`` up to given edges.

    Whole blocks of steps are summed by one matrix product. Each step of the block that holds an
    edge is weighted by how much of it lies before the edge, so that a real-valued edge gets a
    gradient; their sum, in time since the start of the block, is rotated to absolute time by the
    angle of the block. Sums up to every step, [row, time, wave], are never held: that would cost
    more than the backbone.
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

    Slower waves in addition to them were tried on ETTh1; random boundaries did no better.
    """
    if task.season < 4:
        return octaves(task.look_back)
    return task.season / torch.arange(1.0, 7.0)


class MeanEmbedder(nn.Module):
    """A lossy token: the patch's mean, length and place.

    For planted tasks, in which boundaries have to matter.
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
        area = interpolate(total, end) - interpolate(total, start)
        mean = (area / (end - start).clamp_min(1e-6)).to(values.dtype)
        token: Tensor = self.content(mean[..., None] * factor * gain(patches)) + self.place(
            start, end
        )
        return token


class Place(nn.Module):
    """Encodes where a patch lies and how long it is: centre in time and log2 of the length."""

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


def fourier(
    position: Float[Tensor, "*any"], periods: Float[Tensor, " period"]
) -> Float[Tensor, "*any two"]:
    """Cosines and sines of a position in steps at each period: [..., 2 * period]."""
    angle = position[..., None] * (2 * math.pi / periods)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def octaves(look_back: int) -> Float[Tensor, " period"]:
    """Periods that halve from twice the look-back down to four steps: coarse to fine."""
    count = max(1, int(math.log2(2 * look_back / 4)) + 1)
    return 2.0 * look_back / 2.0 ** torch.arange(count)


def stretches(
    patches: Patches,
) -> tuple[Float[Tensor, "row patch"], Float[Tensor, "row patch"]]:
    """First and last edge of what each token is read from: the patch, or its soft stretch."""
    return bounds(patches) if patches.spans is None else patches.spans.unbind(1)  # type: ignore[return-value]  # a tuple of two


def weighted(
    values: Float[Tensor, "row time"], patches: Patches
) -> tuple[Float[Tensor, "row time"], Float[Tensor, "row patch 1"] | float]:
    """Values times the weight of their step, and the factor for sums over each patch.

    The factor is one over the mean weight in the patch: only the ratios of its weights matter.
    """
    if patches.weight is None:
        return values, 1.0
    start, end = stretches(patches)
    total = running_sum(patches.weight)
    mean = (interpolate(total, end) - interpolate(total, start)) / (end - start).clamp_min(1e-6)
    return values * patches.weight, 1 / mean.clamp_min(1e-6).to(values.dtype)[..., None]


def gain(patches: Patches) -> Float[Tensor, "row patch 1"] | float:
    """What the content of each token is multiplied by."""
    return 1.0 if patches.gain is None else patches.gain[..., None]


def interpolate(
    table: Float[Tensor, "row edge"], place: Float[Tensor, "row point"]
) -> Float[Tensor, "row point"]:
    """Linear interpolation of a table along its second axis; differentiable in the place."""
    low = place.detach().floor().clamp(0, table.shape[1] - 2).long()
    left, right = table.gather(1, low), table.gather(1, low + 1)
    return torch.addcmul(left, right - left, (place - low).to(table.dtype))


EMBEDDERS = {"area": AreaEmbedder, "mean": MeanEmbedder}
