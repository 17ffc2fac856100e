"""Past in, future out: the forecaster all patchers share, and the base of the references."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from harness.blocks import BACKBONES, EMBEDDERS, HEADS, Stem, instance_norm
from harness.patcher import Patcher, Patches, Rows
from harness.task import Architecture, Task


@dataclass(frozen=True)
class Forecast:
    """What a forecaster says; ``group`` is 1 unless a patcher in training draws several plans."""

    future: Float[Tensor, "group batch channel horizon"]
    patches: Patches | None = None


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision where the budget asks for it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


class Forecaster(nn.Module):
    """Past in, future out, in standardised units. Reference models subclass this in ``methods/``.

    The constructor takes the task, the suite's architecture (for its size) and keyword-only
    arguments of its own.
    """

    space: ClassVar[dict[str, tuple[object, ...]]] = {}

    def __init__(self, task: Task, architecture: Architecture) -> None:
        super().__init__()
        self.task = task

    def prepare(self, pasts: Iterable[Float[Tensor, "batch channel time"]]) -> None:
        """Look at training look-backs once, before training starts."""

    def forward(
        self,
        past: Float[Tensor, "batch channel time"],
        ids: Int[Tensor, "batch channel"],
        truth: Bool[Tensor, "batch time"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Forecast:
        raise NotImplementedError(f"{type(self).__name__} does not forecast")

    def learn(
        self, forecast: Forecast, row_loss: Float[Tensor, "group row"]
    ) -> Float[Tensor, ""] | None:
        """Losses beside the forecast loss; ``row_loss`` carries no gradient."""
        return None

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Optimiser settings by group; each group's gradient is clipped on its own."""
        return [{"params": list(self.parameters()), "lr": learning_rate}]

    @property
    def tokens(self) -> int | None:
        """Tokens a row, for models that make the same number of each and give no patches."""
        return None

    def parts(self) -> dict[str, nn.Module]:
        """The modules whose parameters are counted apart: patcher, backbone, head."""
        return {"backbone": self}


class PatchForecaster(Forecaster):
    """The one forecaster all patchers share: norm, stem, patcher, embedder, backbone, head."""

    def __init__(self, task: Task, architecture: Architecture, patcher: Patcher) -> None:
        super().__init__(task, architecture)
        self.embedder = EMBEDDERS[architecture.embedder](task, architecture)
        self.backbone = BACKBONES[architecture.backbone](architecture)
        self.head = HEADS[architecture.head](task, architecture, patcher.slots)
        self.stem = Stem() if patcher.uses_features else None
        self.patcher = patcher
        self.instance_norm = architecture.instance_norm

    def prepare(self, pasts: Iterable[Float[Tensor, "batch channel time"]]) -> None:
        self.patcher.prepare(self._normalise(past)[0].flatten(0, 1) for past in pasts)

    def forward(
        self,
        past: Float[Tensor, "batch channel time"],
        ids: Int[Tensor, "batch channel"],
        truth: Bool[Tensor, "batch time"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Forecast:
        batch, channel, time = past.shape
        normal, mean, scale = self._normalise(past)
        values = normal.reshape(batch * channel, time)
        rows = Rows(
            values=values,
            ids=ids.flatten(),
            features=None if self.stem is None else self.stem(values),
            truth=_per_row(truth, channel) if self.patcher.uses_truth else None,
            generator=generator,
        )
        patches: Patches = self.patcher(rows)
        groups = len(patches.start) // len(values)
        grouped = values if groups == 1 else values.repeat(groups, 1)
        mask = None if self.patcher.strict else patches.valid[:, None, None]
        token = self.backbone(self.embedder(grouped, patches), mask)
        future = self.head(token, patches).view(groups, batch, channel, -1)
        return Forecast(future * scale + mean, patches)

    def learn(
        self, forecast: Forecast, row_loss: Float[Tensor, "group row"]
    ) -> Float[Tensor, ""] | None:
        patches = forecast.patches
        assert patches is not None
        losses = [
            loss
            for loss in (patches.loss, self.patcher.learn(patches, row_loss))
            if loss is not None
        ]
        return torch.stack(losses).sum() if losses else None

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        own = {id(parameter) for parameter in self.patcher.parameters()}
        shared = [parameter for parameter in self.parameters() if id(parameter) not in own]
        groups = [
            {"params": shared, "lr": learning_rate},
            *self.patcher.parameter_groups(learning_rate),
        ]
        return [group for group in groups if group["params"]]

    def parts(self) -> dict[str, nn.Module]:
        deciding = [self.patcher] if self.stem is None else [self.patcher, self.stem]
        return {
            "patcher": nn.ModuleList(deciding),
            "backbone": nn.ModuleList([self.embedder, self.backbone]),
            "head": self.head,
        }

    def _normalise(
        self, past: Float[Tensor, "batch channel time"]
    ) -> tuple[Tensor, Tensor | float, Tensor | float]:
        return instance_norm(past) if self.instance_norm else (past, 0.0, 1.0)


def _per_row(truth: Tensor | None, channels: int) -> Bool[Tensor, "row time"] | None:
    """One set of true boundaries serves all channels of a window."""
    return None if truth is None else truth.repeat_interleave(channels, dim=0)
