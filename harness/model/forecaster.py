"""Past in, future out: the forecaster all patchers share, and the base of the references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from harness.core.task import Architecture, Task
from harness.model.backbones import BACKBONES, dechunk
from harness.model.contract import Watch, watching
from harness.model.embedders import EMBEDDERS, AreaEmbedder
from harness.model.heads import HEADS, DecodingHead
from harness.model.layers import instance_norm
from harness.model.patcher import Patcher, Patches, Rows, Rule
from harness.model.stem import Stem


@dataclass(frozen=True)
class Forecast:
    """What a forecaster says; ``rollouts`` are forecasts, one under each draw of boundaries.

    They are what a policy gradient is rewarded by: made without a gradient and without dropout, so
    that they differ in their boundaries only, of the rows that the patcher has ``judged``.
    ``future`` is then the forecast under the first draw. Both have the axis of draws first.
    """

    future: Float[Tensor, "1 batch channel horizon"]
    patches: Patches | None = None
    rollouts: Float[Tensor, "draw judged horizon"] | None = None


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision where the budget asks for it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


class Forecaster(nn.Module):
    """Past in, future out, in standardised units. Reference models subclass this in ``methods/``.

    The constructor takes the task, the suite's architecture (for its size) and keyword-only
    arguments of its own.
    """

    search_space: ClassVar[dict[str, tuple[object, ...]]] = {}

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

    @contextmanager
    def watched(self, where: str) -> Iterator[None]:
        """Hold it to the contract of patchers here, if it has one; ``where`` is for errors."""
        yield

    def advance(self, progress: float) -> None:
        """Take note of how much of training has passed: 0 at the first step, 1 after the last."""

    def learn(
        self, forecast: Forecast, row_loss: Float[Tensor, "draw row"]
    ) -> Float[Tensor, ""] | None:
        """A loss in addition to the forecast loss, or None; ``row_loss`` carries no gradient."""
        return None

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Optimiser settings by group of parameters; the gradient of each is clipped by itself."""
        return [{"params": list(self.parameters()), "lr": learning_rate}]

    @property
    def tokens(self) -> int | None:
        """Tokens a row, for models that make as many of every row and give no patches."""
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
        if isinstance(self.embedder, AreaEmbedder) and isinstance(self.head, DecodingHead):
            self.head.undo(self.embedder.content)
        self.stem = Stem() if patcher.uses_features else None
        self.patcher = patcher
        self.instance_norm, self.pace = architecture.instance_norm, architecture.pace
        self.spacing = 0.0
        """Seconds between two steps of the data set, 0 where that is not known."""
        self.known: Int[Tensor, "row patch two"] | None = None
        self.watch: Watch | None = None
        """Looks at all patches while it is set."""

    def prepare(self, pasts: Iterable[Float[Tensor, "batch channel time"]]) -> None:
        if not self.patcher.frozen:
            self.patcher.prepare(self._normalise(past)[0].flatten(0, 1) for past in pasts)

    def advance(self, progress: float) -> None:
        if not self.patcher.frozen:
            self.patcher.progress.fill_(progress)

    def forward(
        self,
        past: Float[Tensor, "batch channel time"],
        ids: Int[Tensor, "batch channel"],
        truth: Bool[Tensor, "batch time"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Forecast:
        patches = self.cut(past, ids, truth, generator)
        rows, draws = ids.numel(), len(patches.start) // ids.numel()
        normal, mean, scale = self._normalise(past)
        values, shape = normal.flatten(0, 1), (-1, *past.shape[:2], self.task.horizon)
        first = self._forecast(values, patches if draws == 1 else patches.rows(slice(rows)))
        future = first.view(shape) * scale + mean
        if draws == 1:
            return Forecast(future, patches)
        with torch.no_grad():
            values, mean, scale = (
                patches.judged_of(each.flatten(0, 1)) for each in (normal, mean, scale)
            )
            rows = len(values)
            # As many draws in one call as suit the cache of a CPU core, or fill a GPU.
            together = max(1, (1024 if past.device.type == "cpu" else 16384) // rows)
            # A part of edges that have a gradient would keep it, even where none is recorded.
            fixed = patches.judged_draws(draws)
            rollouts = [
                self._forecast(
                    values.repeat(min(together, draws - done), 1),
                    fixed.rows(slice(done * rows, (done + together) * rows)),
                )
                for done in range(0, draws, together)
            ]
            of_draws = torch.cat(rollouts).view(draws, rows, -1)
            return Forecast(future, patches, of_draws * scale + mean)

    def cut(
        self,
        past: Float[Tensor, "batch channel time"],
        ids: Int[Tensor, "batch channel"],
        truth: Bool[Tensor, "batch time"] | None = None,
        generator: torch.Generator | None = None,
        *,
        rule: Rule | None = None,
    ) -> Patches:
        """Where the patcher cuts each channel of each window, by its own rule or another one."""
        if self.known is not None:
            start, length = self.known[ids.flatten()].long().unbind(-1)
            return Patches(start, length, length > 0)  # watched when they were made
        values = self._normalise(past)[0].flatten(0, 1)
        rows = Rows(
            values=values,
            ids=ids.flatten(),
            features=None if self.stem is None else self.stem(values),
            truth=_per_row(truth, past.shape[1]) if self.patcher.uses_truth else None,
            generator=None if self.patcher.frozen else generator,
            rule=rule or self.patcher.evaluation_rule,
            spacing=values.new_full((len(values),), self.spacing) if self.spacing else None,
        )
        patches: Patches = self.patcher(rows)
        if self.watch is not None:
            self.watch.see(patches, self.patcher, len(values))
        return patches

    @contextmanager
    def watched(self, where: str) -> Iterator[None]:
        """As :func:`harness.model.contract.watching`."""
        with watching(self, where):
            yield

    def predict(
        self,
        past: Float[Tensor, "batch channel time"],
        patches: Patches,
        *,
        content: bool = True,
    ) -> Float[Tensor, "batch channel horizon"]:
        """The forecast from the look-back, cut into these patches.

        Without ``content`` the normalised values are zeros, so that tokens say where their patch
        lies, how long it is, and what else the patches carry; mean and scale stay the row's own.
        """
        normal, mean, scale = self._normalise(past)
        values = (normal if content else torch.zeros_like(normal)).flatten(0, 1)
        return self._forecast(values, patches).view(*past.shape[:2], -1) * scale + mean

    def _forecast(
        self, values: Float[Tensor, "row time"], patches: Patches
    ) -> Float[Tensor, "row horizon"]:
        """The forecast of normalised rows, in their normalised units."""
        mask = None if self.patcher.strict else patches.valid[:, None, None]
        token = self.embedder(values, patches)
        token = dechunk(self.backbone(token, mask, patches.coarse), patches)
        future: Tensor = self.head(token, patches)
        return future

    def remember(
        self, windows: Iterable[tuple[Tensor, Int[Tensor, "batch channel"], Tensor | None]]
    ) -> None:
        """Cut every window (past, ids, truth) now and look it up from here on.

        For patchers whose boundaries are ``fixed``. Until :meth:`forget`, no other windows may be
        cut.
        """
        parts = [(ids.flatten(), self.cut(past, ids, truth)) for past, ids, truth in windows]
        rows = int(torch.stack([ids.max() for ids, _ in parts]).max()) + 1
        shape = (rows, self.patcher.slots, 2)
        # int16 where it can hold every step: half of the memory.
        fits = self.task.look_back <= torch.iinfo(torch.int16).max
        kind = torch.int16 if fits else torch.int32
        known = torch.zeros(shape, dtype=kind, device=parts[0][0].device)
        for ids, patches in parts:
            known[ids] = torch.stack([patches.start, patches.length], dim=-1).to(kind)
        self.known = known

    def forget(self) -> None:
        """Cut windows as they come, as before :meth:`remember`."""
        self.known = None

    def freeze(self, patcher: Patcher | None = None, stem: Stem | None = None) -> None:
        """Stop learning where to cut; cut as a ``patcher`` learned to, where one is given.

        A patcher that decides on features is given with the ``stem`` that they came from.

        Raises:
            ValueError: what it has learned belongs to one look-back.
        """
        if patcher is not None:
            self.patcher.take(patcher)
            if self.stem is not None:
                assert stem is not None, "features come with their stem"
                self.stem.load_state_dict(stem.state_dict())
        self.patcher.stop()
        if self.stem is not None:
            self.stem.requires_grad_(requires_grad=False)

    def learn(
        self, forecast: Forecast, row_loss: Float[Tensor, "draw row"]
    ) -> Float[Tensor, ""] | None:
        patches = forecast.patches
        assert patches is not None
        if self.patcher.frozen:
            return None
        losses = [
            loss
            for loss in (patches.loss, self.patcher.learn(patches, row_loss))
            if loss is not None
        ]
        return torch.stack(losses).sum() if losses else None

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        backbone = list(self.backbone.parameters())
        apart = {id(parameter) for parameter in [*backbone, *self.patcher.parameters()]}
        shared = [parameter for parameter in self.parameters() if id(parameter) not in apart]
        groups = [
            {"params": shared, "lr": learning_rate},
            {"params": backbone, "lr": self.pace * learning_rate},
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
    ) -> tuple[
        Float[Tensor, "batch channel time"],
        Float[Tensor, "batch channel 1"],
        Float[Tensor, "batch channel 1"],
    ]:
        if self.instance_norm:
            return instance_norm(past)
        one = past.new_ones(*past.shape[:2], 1)
        return past, torch.zeros_like(one), one


def _per_row(truth: Tensor | None, channels: int) -> Bool[Tensor, "row time"] | None:
    """One set of true boundaries serves all channels of a window."""
    return None if truth is None else truth.repeat_interleave(channels, dim=0)


def training_loss(
    model: Forecaster, forecast: Forecast, future: Float[Tensor, "batch channel horizon"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""] | None]:
    """The forecast loss, and the model's own loss in addition to it, or None."""
    loss = judged = (forecast.future - future).square().mean(-1).flatten(1)
    if forecast.rollouts is not None:
        assert forecast.patches is not None
        aim = forecast.patches.judged_of(future.flatten(0, 1))
        judged = (forecast.rollouts - aim).square().mean(-1)
    # Detached here, so that no method can send its own loss into the forecaster through it.
    return loss.mean(), model.learn(forecast, judged.detach())
