"""Embedders: a token of fixed width from a patch of any length, wherever it lies.

``AreaEmbedder`` is the one that suites use; ``MeanEmbedder`` loses what is inside a patch, for
planted tasks. Both read the patches' optional parts: edges, spans, weights and gains.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harness.core.task import Architecture, Task
from harness.model.layers import bounds, interpolate, running_sum
from harness.model.patcher import Patches


class AreaEmbedder(nn.Module):
    """Tokens from patches of any length: area resampling to ``points`` values, and a place code.

    Each patch is resampled to R values by exact area averages; of a patch of R steps these are its
    values, as in PatchTST's linear embedding. Differentiable in the patch edges.

    The content map starts orthogonal and the place code at right angles to it, so that where a
    token is at least R wide nothing of the R values is lost or blurred at the start.
    """

    def __init__(self, task: Task, architecture: Architecture) -> None:
        super().__init__()
        width, self.points = architecture.width, architecture.points
        self.content = nn.Linear(self.points, width)
        self.place = Place(task, width)
        nn.init.orthogonal_(self.content.weight)
        nn.init.zeros_(self.content.bias)
        with torch.no_grad():
            for layer in (self.place.centre, self.place.length):
                layer.weight.sub_(self.content.weight @ (self.content.weight.T @ layer.weight))

    def forward(
        self, values: Float[Tensor, "row time"], patches: Patches
    ) -> Float[Tensor, "row patch width"]:
        start, end = stretches(patches)
        values, factor = weighted(values, patches)
        token: Tensor = self.content(self._resample(values, start, end) * factor * gain(patches))
        return token + self.place(start, end)

    def _resample(
        self, values: Tensor, start: Tensor, end: Tensor
    ) -> Float[Tensor, "row patch point"]:
        length = end - start
        fraction = torch.arange(self.points + 1, device=values.device) / self.points
        place = start[..., None] + length[..., None] * fraction
        area = interpolate(running_sum(values), place.flatten(1)).view(place.shape).diff(dim=-1)
        return (area / (length.clamp_min(1e-6) / self.points)[..., None]).to(values.dtype)


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


EMBEDDERS = {"area": AreaEmbedder, "mean": MeanEmbedder}
