"""H-Net as it was meant: with a residual past the backbone, which patchers may not have."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from harness import (
    Architecture,
    Dropout,
    Forecast,
    Forecaster,
    Place,
    Task,
    Transformer,
    bounds,
    instance_norm,
    most_patches,
    running_mean,
)
from methods._routing import CosineRouter, chunks, ratio_loss, target_rate


class HNetFull(Forecaster):
    """Encodes every step, hands the backbone those where a chunk starts, and adds the rest back.

    A reference and not a patcher: every step reaches the head past the backbone, so the error says
    little about the boundaries.

    Source: H-Net (Hwang et al., arXiv 2507.07955) and its published code, one stage: the vector at
    the boundary stands for its chunk, a running mean over chunks, copies to the steps with a
    straight-through confidence, a linear residual that starts at zero and stays in float32.

    Fidelity: re-implementation. Convolutions over 25 steps are the encoder and one linear layer
    over all steps is decoder and head, where H-Net has Mamba-2 layers; tokens encode the place and
    length of their chunk, as in the shared forecaster; no learning rates by stage. Centred
    features, target rate, number of slots and ``weight`` (0.03 in H-Net) are as in ``hnet``. A
    straw man? Less than ``hnet``: what is left out is depth, of encoder and decoder, and stages.
    """

    search_space: ClassVar[dict[str, tuple[object, ...]]] = {"weight": (0.03, 0.3, 1.0)}

    def __init__(self, task: Task, architecture: Architecture, *, weight: float = 1.0) -> None:
        super().__init__(task, architecture)
        width = architecture.width
        self.weight, self.rate = weight, target_rate(task)
        self.slots = most_patches(task.patches, task.look_back)
        self.encoder = _Encoder(width)
        self.router = CosineRouter(width)
        self.place = Place(task, width)
        self.backbone = Transformer(architecture)
        self.residual = nn.Linear(width, width)
        nn.init.zeros_(self.residual.weight)
        nn.init.zeros_(self.residual.bias)
        self.dropout = Dropout(architecture.dropout)
        self.head = nn.Linear(task.look_back * width, task.horizon)

    def forward(
        self,
        past: Float[Tensor, "batch channel time"],
        ids: Int[Tensor, "batch channel"],
        truth: Bool[Tensor, "batch time"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Forecast:
        normal, mean, scale = instance_norm(past)
        fine = self.encoder(normal.flatten(0, 1))
        probability = self.router(fine)
        chosen = probability > 0.5
        loss = self.weight * ratio_loss(chosen, probability, self.rate)
        patches = chunks(probability, chosen, self.slots, loss)
        assert patches.gate is not None
        assert patches.confidence is not None

        first = patches.start.clamp_max(self.task.look_back - 1)
        token = _at(fine, first) + self.place(*bounds(patches))
        token = running_mean(self.backbone(token, patches.valid[:, None, None]), patches.gate)

        step = torch.arange(self.task.look_back, device=past.device).expand(len(fine), -1)
        chunk = torch.searchsorted(patches.start, step.contiguous(), right=True) - 1
        confidence = patches.confidence[..., None]
        copied = _at(token, chunk) * (1 + (confidence - confidence.detach()))
        with torch.autocast(past.device.type, enabled=False):
            copied = copied.float() + self.residual(fine.float())
        future = self.head(self.dropout(copied.flatten(1))).view(*past.shape[:2], -1)
        return Forecast((future * scale + mean)[None], patches)

    def learn(
        self, forecast: Forecast, row_loss: Float[Tensor, "draw row"]
    ) -> Float[Tensor, ""] | None:
        return None if forecast.patches is None else forecast.patches.loss

    def parts(self) -> dict[str, nn.Module]:
        between = [self.encoder, self.place, self.backbone, self.residual]
        return {
            "patcher": self.router,
            "backbone": nn.ModuleList(between),
            "head": self.head,
        }


class _Encoder(nn.Module):
    """Features of every step from the values and differences around it: 5 steps, then 25."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Conv1d(2, width, 5, padding=2)
        self.far = nn.Conv1d(width, width, 5, padding=10, dilation=5)

    def forward(self, values: Float[Tensor, "row time"]) -> Float[Tensor, "row time width"]:
        steps = torch.stack([values, functional.pad(values.diff(dim=1), (1, 0))], dim=1)
        near = functional.gelu(self.near(steps))
        return (near + self.far(near)).transpose(1, 2)


def _at(
    vectors: Float[Tensor, "row from width"], index: Int[Tensor, "row to"]
) -> Float[Tensor, "row to width"]:
    """The vectors of each row at the positions in ``index``."""
    return vectors.gather(1, index[..., None].expand(-1, -1, vectors.shape[-1]))
