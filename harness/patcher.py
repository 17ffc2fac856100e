"""The contract of a patching method: rows in, patches out.

A method is one file under ``methods/`` with one :class:`Patcher`. It decides where patches start;
everything else (embedder, backbone, head, training) is the same for every method.

Axis names used throughout: ``row`` is one channel of one window (times the number of groups when a
method draws several sets of boundaries a row), ``time`` the look-back, ``patch`` the patch slots,
``group`` the sets drawn for one row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from harness.task import Task


@dataclass(frozen=True)
class Patches:
    """Where each patch starts, how long it is, and which slots count. Static shapes, no gaps.

    ``edges`` equal the integer boundaries in value (``start`` and, last, the look-back) and carry
    a gradient: the embedder is differentiable in them. ``log_prob`` is that of the variable really
    sampled, one a row. ``loss`` is an auxiliary loss, already weighted.
    """

    start: Int[Tensor, "row patch"]
    length: Int[Tensor, "row patch"]
    valid: Bool[Tensor, "row patch"]
    edges: Float[Tensor, "row edge"] | None = None
    log_prob: Float[Tensor, " row"] | None = None
    loss: Float[Tensor, ""] | None = None

    @property
    def end(self) -> Int[Tensor, "row patch"]:
        """The step after the last one of each patch."""
        return self.start + self.length


@dataclass(frozen=True)
class Rows:
    """What a patcher may look at: normalised look-backs, nothing of the future.

    ``values`` are the look-backs after instance normalisation; ``features`` come from the shared
    stem (methods with ``uses_features`` only); ``ids`` number the rows of a data set, so that a
    method that draws at random can draw the same for the same row whatever the batch; ``truth``
    marks the true boundaries of planted series (methods with ``uses_truth`` only, never ranked);
    ``generator`` is the source of randomness in training and None in evaluation.
    """

    values: Float[Tensor, "row time"]
    ids: Int[Tensor, " row"]
    features: Float[Tensor, "row time width"] | None = None
    truth: Bool[Tensor, "row time"] | None = None
    generator: torch.Generator | None = None

    def uniform(self, columns: int) -> Float[Tensor, "row column"]:
        """Uniform draws in (0, 1): fresh in training, a function of the row's id in evaluation."""
        shape, device = (len(self.ids), columns), self.values.device
        if self.generator is not None:
            return torch.rand(shape, generator=self.generator, device=device)
        # One counter a draw, mixed by two rounds of a 64-bit finaliser (Steele et al. 2014, the
        # mixing step of SplitMix): no state, so neither batch size nor order can change a plan.
        mixed = (self.ids[:, None] * columns + torch.arange(columns, device=device)) * _GOLDEN
        for factor, shift in ((_MIX_1, 30), (_MIX_2, 27)):
            mixed = (mixed ^ ((mixed >> shift) & ((1 << (64 - shift)) - 1))) * factor
        return ((mixed >> 40) & 0xFFFFFF).to(torch.float32).add(0.5) / (1 << 24)


# As signed 64-bit numbers, because torch has no unsigned multiplication.
_GOLDEN, _MIX_1, _MIX_2 = (
    number - (1 << 64) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


class Patcher(nn.Module):
    """Cuts rows into patches. Subclass, implement :meth:`forward`, done.

    The constructor takes the task and the method's own keyword-only arguments; the class docstring
    says source, fidelity and deviations. ``space`` maps keywords to the values a search may try.
    """

    strict: ClassVar[bool] = True
    """Exactly ``task.patches`` patches a row; otherwise at most :attr:`slots`, with a mask."""
    uses_features: ClassVar[bool] = False
    uses_truth: ClassVar[bool] = False
    """Sees the true boundaries of planted series: an upper bound, shown but never ranked."""
    space: ClassVar[dict[str, tuple[object, ...]]] = {}

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    @property
    def slots(self) -> int:
        """Patch slots the method fills: K, or a cap of 1.25 K for methods that only aim at K."""
        return (
            self.task.patches
            if self.strict
            else min(math.ceil(1.25 * self.task.patches), self.task.look_back)
        )

    @property
    def groups(self) -> int:
        """Sets of boundaries drawn for each row in training; several for policy gradients only."""
        return 1

    def prepare(self, rows: Iterable[Float[Tensor, "row time"]]) -> None:
        """Fit thresholds or a frozen scorer on normalised training look-backs, before training."""

    def forward(self, rows: Rows) -> Patches:
        """Patches for each row; in training ``groups`` sets, group-major: [group * row, patch]."""
        raise NotImplementedError(f"{type(self).__name__} does not say where its patches start")

    def learn(
        self, patches: Patches, row_loss: Float[Tensor, "group row"]
    ) -> Float[Tensor, ""] | None:
        """An extra loss from the forecast loss of each row (policy gradients); None by default."""
        return None

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Optimiser settings for the patcher's own parameters."""
        return [{"params": list(self.parameters()), "lr": learning_rate}]


def from_starts(
    start: Int[Tensor, "row patch"], look_back: int, **extra: Tensor | None
) -> Patches:
    """Patches from strictly increasing starts, the first one 0; every slot is used."""
    length = torch.diff(start, append=torch.full_like(start[:, :1], look_back))
    valid = torch.ones_like(start, dtype=torch.bool)
    return Patches(start, length, valid, **extra)


def from_scores(score: Float[Tensor, "row step"], patches: int, **extra: Tensor | None) -> Patches:
    """Exactly ``patches`` patches, starting where the score is largest.

    ``score[:, i]`` rates a boundary at time step ``i + 1`` (step 0 always starts a patch), so a
    row of L steps has L - 1 scores. The choice is exact and has a static shape: no threshold.
    """
    interior = score.topk(patches - 1, dim=1).indices.sort(dim=1).values + 1
    start = torch.cat([torch.zeros_like(score[:, :1], dtype=torch.long), interior], dim=1)
    return from_starts(start, score.shape[1] + 1, **extra)


def uniform_starts(
    look_back: int, patches: int, device: torch.device | None = None
) -> Int[Tensor, " patch"]:
    """Starts of equal patches; where K does not divide the look-back, lengths differ by one step.

    The longer patches come last, as in left padding: the most recent step closes a full patch.
    """
    return torch.arange(patches, device=device) * look_back // patches
