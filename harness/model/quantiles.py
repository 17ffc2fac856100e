"""The shared forecaster for series it was not trained on: pasts of any length, quantiles ahead.

Stem, patcher, embedder and backbone are those of the shared forecaster of one look-back; the head
asks the tokens and not the steps of that look-back, so that it fits any length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from harness.core.task import Architecture, Task
from harness.model.backbones import Transformer, dechunk
from harness.model.embedders import AreaEmbedder
from harness.model.layers import instance_norm
from harness.model.patcher import Patcher, Patches, Rows
from harness.model.stem import Stem

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of the quantiles that are forecast."""

FURTHEST = 30.0
"""Standard deviations of its past beyond which a future value is taken to be no further away."""


@dataclass(frozen=True)
class Quantiles:
    """Forecasts in normalised units, and what leads back to those of the series.

    ``values`` are under the first draw of boundaries, ``rollouts`` under each draw, without a
    gradient; None where there is one draw only.
    """

    values: Float[Tensor, "row level step"]
    mean: Float[Tensor, "row 1"]
    scale: Float[Tensor, "row 1"]
    patches: Patches
    rollouts: Float[Tensor, "draw row level step"] | None = None

    @property
    def original(self) -> Float[Tensor, "row level step"]:
        """In the units of the series, each level at least as high as the one below."""
        ordered = self.values.sort(dim=1).values
        return ordered * self.scale[..., None] + self.mean[..., None]


class QuantileHead(nn.Module):
    """A learned query for each ``span`` steps ahead attends to the tokens of its row."""

    def __init__(self, architecture: Architecture, horizon: int, span: int = 16) -> None:
        super().__init__()
        width, hidden = architecture.width, architecture.feedforward
        if horizon % span:
            raise ValueError(f"a horizon of {horizon} steps is no multiple of {span}")
        self.query = nn.Parameter(torch.randn(horizon // span, width) * width**-0.5)
        self.heads = architecture.heads
        self.norm = nn.LayerNorm(width)
        self.key_value = nn.Linear(width, 2 * width)
        self.mix = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
        )
        self.out = nn.Linear(width, span * len(LEVELS))

    def forward(
        self, token: Float[Tensor, "row patch width"], mask: Bool[Tensor, "row 1 1 patch"] | None
    ) -> Float[Tensor, "row level step"]:
        row, patch, _ = token.shape
        key_value = self.key_value(self.norm(token)).view(row, patch, 2, self.heads, -1)
        key, value = key_value.permute(2, 0, 3, 1, 4)
        query = self.query.view(1, len(self.query), self.heads, -1).transpose(1, 2)
        query = query.expand(row, -1, -1, -1)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        asked = mixed.transpose(1, 2).flatten(2)
        asked = asked + self.mix(asked)
        ahead: Tensor = self.out(asked).unflatten(2, (len(LEVELS), -1))
        return ahead.transpose(1, 2).flatten(2)


class QuantileForecaster(nn.Module):
    """Quantiles of the next ``horizon`` steps, from pasts of any length up to ``look_back``.

    Of n steps K = n * patches / look_back patches are made, rounded up, but at least two. The
    patcher of each length is one of its own around the same weights; a past ends where the longest
    one ends, so that the place of a patch counts from the last step.

    Raises:
        ValueError: a method whose parameters belong to one look-back.
    """

    def __init__(
        self,
        method: type[Patcher],
        architecture: Architecture,
        *,
        look_back: int = 512,
        patches: int = 32,
        horizon: int = 64,
        hyperparameters: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__()
        self.task = Task("any", look_back, horizon, patches)
        self.method, self.hyperparameters = method, dict(hyperparameters or {})
        self.patcher = method(self.task, **self.hyperparameters)
        self.stem = Stem() if method.uses_features else None
        self.embedder = AreaEmbedder(self.task, architecture)
        self.backbone = Transformer(architecture)
        self.head = QuantileHead(architecture, horizon)
        self._of_length: dict[int, Patcher] = {look_back: self.patcher}
        self.at(look_back // 2)  # tells at once whether the method can be carried to other lengths

    def patches_of(self, steps: int) -> int:
        """K for a past of so many steps."""
        size = self.task.look_back // self.task.patches
        return max(2, -(-steps // size))

    def at(self, steps: int) -> Patcher:
        """The patcher for pasts of so many steps; it shares all that is learned."""
        if not 2 <= steps <= self.task.look_back:
            raise ValueError(
                f"a past of {steps} steps; 2 to {self.task.look_back} can be forecast from"
            )
        if steps not in self._of_length:
            task = replace(self.task, look_back=steps, patches=self.patches_of(steps))
            other = self.method(task, **self.hyperparameters)
            self._of_length[steps] = _sharing(self.patcher, other)
        patcher = self._of_length[steps]
        patcher.train(self.patcher.training)
        patcher.evaluation_rule = self.patcher.evaluation_rule
        return patcher

    def forward(
        self,
        past: Float[Tensor, "row time"],
        ids: Int[Tensor, " row"],
        generator: torch.Generator | None = None,
    ) -> Quantiles:
        """The forecast of each row; all rows have as many steps, and none is missing."""
        values, mean, scale = instance_norm(past)
        patcher = self.at(past.shape[1])
        patches: Patches = patcher(
            Rows(
                values=values,
                ids=ids,
                features=None if self.stem is None else self.stem(values),
                generator=None if patcher.frozen else generator,
                rule=patcher.evaluation_rule,
            )
        )
        rows, draws = len(past), len(patches.start) // len(past)
        first = self._ahead(values, patches if draws == 1 else patches.rows(slice(rows)), patcher)
        if draws == 1:
            return Quantiles(first, mean, scale, patches)
        with torch.no_grad():
            fixed = patches.detached()
            rollouts = torch.stack(
                [
                    self._ahead(values, fixed.rows(slice(draw * rows, (draw + 1) * rows)), patcher)
                    for draw in range(draws)
                ]
            )
        return Quantiles(first, mean, scale, patches, rollouts)

    def _ahead(
        self, values: Float[Tensor, "row time"], patches: Patches, patcher: Patcher
    ) -> Float[Tensor, "row level step"]:
        mask = None if patcher.strict else patches.valid[:, None, None]
        token = self.embedder(*self._at_the_end(values, patches))
        token = dechunk(self.backbone(token, mask, patches.coarse), patches)
        ahead: Tensor = self.head(token, mask)
        return ahead

    def _at_the_end(
        self, values: Float[Tensor, "row time"], patches: Patches
    ) -> tuple[Tensor, Patches]:
        """Values and patches moved so that they end with the longest look-back."""
        moved = self.task.look_back - values.shape[1]
        if not moved:
            return values, patches
        changes: dict[str, Any] = {"start": patches.start + moved}
        for name in ("edges", "spans"):
            if (value := getattr(patches, name)) is not None:
                changes[name] = value + moved
        if patches.weight is not None:
            changes["weight"] = functional.pad(patches.weight, (moved, 0), value=1.0)
        return functional.pad(values, (moved, 0)), replace(patches, **changes)

    def loss(
        self,
        forecast: Quantiles,
        future: Float[Tensor, "row step"],
        scored: Bool[Tensor, "row step"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""] | None]:
        """The forecast loss, and the patcher's own in addition to it, or None.

        The loss of a row is the mean pinball loss over levels and over the steps that are scored,
        in units of its past's standard deviation.
        """
        aim = ((future - forecast.mean) / forecast.scale).clamp(-FURTHEST, FURTHEST)
        own = pinball(forecast.values[None], aim, scored)
        judged = own if forecast.rollouts is None else pinball(forecast.rollouts, aim, scored)
        patches = forecast.patches
        losses = [patches.loss, None]
        if not self.patcher.frozen:
            losses[1] = self.patcher.learn(patches, judged.detach())
        beside = [loss for loss in losses if loss is not None]
        return own.mean(), torch.stack(beside).sum() if beside else None

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Optimiser settings: of the shared layers, and those that the patcher asks for."""
        own = {id(parameter) for parameter in self.patcher.parameters()}
        shared = [parameter for parameter in self.parameters() if id(parameter) not in own]
        groups = [{"params": shared, "lr": learning_rate}]
        groups += self.patcher.parameter_groups(learning_rate)
        return [group for group in groups if group["params"]]


def pinball(
    values: Float[Tensor, "draw row level step"],
    aim: Float[Tensor, "row step"],
    scored: Bool[Tensor, "row step"],
) -> Float[Tensor, "draw row"]:
    """Twice the pinball loss, mean over levels and scored steps; of the median it is |error|."""
    level = torch.tensor(LEVELS, device=values.device)[:, None]
    error = aim[:, None] - values
    loss = 2 * torch.maximum(level * error, (level - 1) * error).mean(2)
    return (loss * scored).sum(-1) / scored.sum(-1).clamp_min(1)


def _sharing(patcher: Patcher, other: Patcher) -> Patcher:
    """Another patcher of the method with the weights, and the fitting buffers, of the first."""
    name = type(patcher).__name__
    for module_name, module in other.named_modules():
        of = patcher.get_submodule(module_name)
        for key, value in module.named_parameters(recurse=False):
            if value.shape != getattr(of, key).shape:
                raise ValueError(
                    f"{name} has {key!r} for one look-back only, so it cannot cut pasts of any"
                    " length"
                )
            setattr(module, key, getattr(of, key))
        for key, buffer in module.named_buffers(recurse=False):
            if buffer.shape == getattr(of, key).shape:
                setattr(module, key, getattr(of, key))
    other.frozen = patcher.frozen
    return other
