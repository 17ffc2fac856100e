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
from harness.model.contract import Watch
from harness.model.embedders import AreaEmbedder
from harness.model.heads import TimeDecoder
from harness.model.patcher import Patcher, Patches, Rows
from harness.model.stem import Stem

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of the quantiles that are forecast."""

FURTHEST = 30.0
"""Standard deviations of its past beyond which a future value is taken to be no further away."""


@dataclass(frozen=True)
class Quantiles:
    """Forecasts in normalised units, and what leads back to those of the series.

    ``steps`` is the length of the pasts. ``values`` are under the first draw of boundaries,
    ``rollouts`` under each draw, without a gradient, of the rows that the patcher has ``judged``;
    None where there is one draw only.
    """

    values: Float[Tensor, "row level step"]
    mean: Float[Tensor, "row 1"]
    scale: Float[Tensor, "row 1"]
    patches: Patches
    steps: int
    rollouts: Float[Tensor, "draw judged level step"] | None = None

    @property
    def original(self) -> Float[Tensor, "row level step"]:
        """In the units of the series and float64, each level at least as high as the one below."""
        ordered = self.values.double().sort(dim=1).values
        return ordered * self.scale[..., None] + self.mean[..., None]

    def aim(self, future: Float[Tensor, "row step"]) -> Float[Tensor, "row step"]:
        """What came true, in normalised units."""
        return ((future - self.mean) / self.scale).clamp(-FURTHEST, FURTHEST).float()


def standardised(
    past: Float[Tensor, "row time"],
) -> tuple[Float[Tensor, "row time"], Float[Tensor, "row 1"], Float[Tensor, "row 1"]]:
    """Rows at mean 0 and standard deviation 1 in float32, and what leads back, in float64.

    Neither a level nor a unit costs digits. Constant rows are 0, and their scale is 1.
    """
    exact = past.double()
    variance, mean = torch.var_mean(exact, dim=1, correction=0, keepdim=True)
    scale = torch.where(variance > 0, variance.sqrt(), 1.0)
    return ((exact - mean) / scale).float(), mean, scale


class QuantileHead(nn.Module):
    """Tokens written back to time, echoed from there, and a decoder that says what to make of it.

    The decoder has a learned query for each ``span`` steps ahead. In each layer the queries attend
    to the tokens and to each other. Each query chooses shares of the echoes, how far they are
    moved towards the last value, and a trend; what it adds makes quantiles of their sum.
    """

    def __init__(
        self, task: Task, architecture: Architecture, span: int = 16, echoes: int = 8
    ) -> None:
        super().__init__()
        width, horizon = architecture.width, task.horizon
        if horizon % span:
            raise ValueError(f"a horizon of {horizon} steps is no multiple of {span}")
        self.span, self.horizon = span, horizon
        self.time = TimeDecoder(task, architecture)
        self.echo = Echo(echoes)
        self.query = nn.Parameter(torch.randn(horizon // span, width) * width**-0.5)
        self.told = nn.Linear(self.echo.told, width)
        self.layers = nn.ModuleList(DecoderLayer(architecture) for _ in range(architecture.layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, span * len(LEVELS))
        self.choice = nn.Linear(width, 2 * echoes + self.echo.slopes + 1)
        nn.init.zeros_(self.choice.weight)
        nn.init.zeros_(self.choice.bias)

    def forward(
        self,
        token: Float[Tensor, "row patch width"],
        mask: Bool[Tensor, "row 1 1 patch"] | None,
        patches: Patches,
        last: Float[Tensor, "row 1"],
        steps: int,
    ) -> Float[Tensor, "row level step"]:
        past = self.time.written(token, patches)[:, -steps:]
        echo, before, slope, told = self.echo(past, self.horizon)
        asked = self.query + self.told(told)[:, None]
        if mask is not None:
            mask = functional.pad(mask, (0, len(self.query)), value=True)
        for layer in self.layers:
            asked = layer(asked, token, mask)
        asked = self.norm(asked)
        share, level, trend, scale = self.choice(asked).split(
            (echo.shape[1], echo.shape[1], slope.shape[1], 1), dim=2
        )
        share = share.softmax(dim=2)
        # [row query span]
        ahead = torch.einsum("rqe,reqs->rqs", share, echo.unflatten(2, (-1, self.span)))
        moved = (share * level.sigmoid() * (last - before)[:, None]).sum(2, keepdim=True)
        rising = (trend * slope[:, None]).sum(2, keepdim=True)
        clock = torch.arange(1, self.horizon + 1, device=token.device).view(-1, self.span)
        ahead = ahead + moved + rising * clock
        spread = self.out(asked).unflatten(2, (len(LEVELS), -1))
        spread = spread * scale.clamp(max=5.0).exp()[..., None]
        return (ahead[:, :, None] + spread).transpose(1, 2).flatten(2)


class Echo(nn.Module):
    """The past as it came before: at each lag from 1 to the whole past, weighed by likeness.

    Auto-correlation attention (Wu et al., Autoformer, NeurIPS 2021). A small network
    scores each lag by how unlike the past is to itself at that lag: over its last 16 and 64 steps
    and over all of it.
    """

    windows = (16, 64, 512)

    def __init__(self, echoes: int, slopes: int = 2, hidden: int = 16) -> None:
        super().__init__()
        self.echoes, self.slopes = echoes, slopes
        self.features = len(self.windows) + 2
        self.told = (echoes + slopes) * self.features
        self.widen = nn.Conv1d(self.features, hidden, 5, padding=2, padding_mode="replicate")
        self.score = nn.Conv1d(hidden, echoes + slopes, 1)

    def forward(
        self, past: Float[Tensor, "row time"], horizon: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Echoes [row, echo, horizon] and the values right before each of them [row, echo].

        Besides, slopes a step [row, slope], and what is known of the lags chosen [row, told].
        """
        steps = past.shape[1]
        lag = torch.arange(1, steps, device=past.device)
        unlike = (self.unlikeness(past, lag) + 1e-5).log()
        places = torch.stack([lag.log() / 2 - 1.5, (steps / lag).log() - 1.5])
        feature = torch.cat([unlike, places.expand(len(past), -1, -1)], dim=1)
        weight = self.score(functional.gelu(self.widen(feature))).softmax(dim=2)
        told = (weight @ feature.transpose(1, 2)).flatten(1)
        weight, slope = weight.split((self.echoes, self.slopes), dim=1)
        before = weight @ past[:, :-1].flip(1)[..., None]
        gradient = (past[:, -1:] - past[:, :-1].flip(1)) / lag
        return (
            self.repeated(past, weight, horizon),
            before[..., 0],
            (slope @ gradient[..., None])[..., 0],
            told,
        )

    def unlikeness(
        self, past: Float[Tensor, "row time"], lag: Int[Tensor, " lag"]
    ) -> Float[Tensor, "row window lag"]:
        """The mean squared difference of the last steps, of each window, to those a lag before."""
        steps = past.shape[1]
        size = 2 * steps
        spectrum = torch.fft.rfft(past, size)
        energy = functional.pad(past.square().cumsum(1), (1, 0))
        found = []
        for window in self.windows:
            first = max(0, steps - window)
            ending = past * (torch.arange(steps, device=past.device) >= first)
            product = torch.fft.irfft(torch.fft.rfft(ending, size) * spectrum.conj(), size)
            begin = torch.maximum(lag, torch.full_like(lag, first))
            own = energy[:, -1:] - energy[:, begin]
            other = energy[:, steps - lag] - energy[:, begin - lag]
            found.append((own + other - 2 * product[:, 1:steps]).clamp_min(0) / (steps - begin))
        return torch.stack(found, dim=1)

    def repeated(
        self, past: Float[Tensor, "row time"], weight: Float[Tensor, "row echo lag"], horizon: int
    ) -> Float[Tensor, "row echo step"]:
        """Sums over lags of what came a lag, or the fewest whole lags that suffice, before."""
        steps, near = past.shape[1], min(horizon, past.shape[1] - 1)
        lag = torch.arange(1, near + 1, device=past.device)[:, None]
        index = steps - lag + torch.arange(horizon, device=past.device) % lag
        echo = weight[:, :, :near] @ past[:, index]
        if steps - 1 > near:
            ahead = past.unfold(1, horizon, 1)[:, 1 : steps - near]  # the longest lag first
            echo = echo + weight[:, :, near:].flip(2) @ ahead
        return echo


class DecoderLayer(nn.Module):
    """Queries attend to tokens and to themselves, then a feed-forward part; both start at zero."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        width, hidden = architecture.width, architecture.feedforward
        self.heads = architecture.heads
        self.norm_query, self.norm_token = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_feedforward = nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.join = nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)
        for last in (self.join, self.narrow):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(
        self,
        asked: Float[Tensor, "row query width"],
        token: Float[Tensor, "row patch width"],
        mask: Bool[Tensor, "row 1 1 key"] | None,
    ) -> Float[Tensor, "row query width"]:
        normal = self.norm_query(asked)
        seen = torch.cat([self.norm_token(token), normal], dim=1)
        query = self.query(normal).unflatten(2, (self.heads, -1)).transpose(1, 2)
        packed = self.key_value(seen).unflatten(2, (2, self.heads, -1))
        key, value = packed.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        asked = asked + self.join(mixed.transpose(1, 2).flatten(2))
        hidden = functional.gelu(self.widen(self.norm_feedforward(asked)))
        added: Tensor = self.narrow(hidden)
        return asked + added


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
        self.head = QuantileHead(self.task, architecture)
        self.head.time.undo(self.embedder.content)
        self.watch: Watch | None = None
        """Looks at all patches while it is set."""
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
        spacing: Float[Tensor, " row"] | None = None,
    ) -> Quantiles:
        """The forecast of each row; all rows have as many steps, and none is missing.

        ``spacing`` is as in :class:`harness.model.patcher.Rows`: for the patcher alone.
        """
        values, mean, scale = standardised(past)
        patcher = self.at(past.shape[1])
        patches: Patches = patcher(
            Rows(
                values=values,
                ids=ids,
                features=None if self.stem is None else self.stem(values),
                generator=None if patcher.frozen else generator,
                rule=patcher.evaluation_rule,
                spacing=spacing,
            )
        )
        if self.watch is not None:
            self.watch.see(patches, patcher, len(past))
        rows, draws = len(past), len(patches.start) // len(past)
        first = self._ahead(values, patches if draws == 1 else patches.rows(slice(rows)), patcher)
        if draws == 1:
            return Quantiles(first, mean, scale, patches, past.shape[1])
        with torch.no_grad():
            fixed = patches.judged_draws(draws)
            values = patches.judged_of(values)
            rollouts = torch.stack(
                [
                    self._ahead(values, fixed.rows(slice(begin, begin + len(values))), patcher)
                    for begin in range(0, draws * len(values), len(values))
                ]
            )
        return Quantiles(first, mean, scale, patches, past.shape[1], rollouts)

    def _ahead(
        self, values: Float[Tensor, "row time"], patches: Patches, patcher: Patcher
    ) -> Float[Tensor, "row level step"]:
        mask = None if patcher.strict else patches.valid[:, None, None]
        moved, placed = self._at_the_end(values, patches)
        token = self.embedder(moved, placed)
        token = dechunk(self.backbone(token, mask, patches.coarse), patches)
        ahead: Tensor = self.head(token, mask, placed, values[:, -1:], values.shape[1])
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
        aim = forecast.aim(future)
        own = pinball(forecast.values[None], aim, scored)
        judged, patches = own, forecast.patches
        if forecast.rollouts is not None:
            judged = pinball(forecast.rollouts, patches.judged_of(aim), patches.judged_of(scored))
        losses = [patches.loss, None]
        if not self.patcher.frozen:
            # Of the patcher that cut: it may remember how, and knows its look-back.
            losses[1] = self.at(forecast.steps).learn(patches, judged.detach())
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
