"""Boundaries as such: moved to where they do not belong, and held against the true ones.

What a forecast loses under boundaries of other content says how much of it rests on where,
exactly, patches start.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional

from harness.patcher import Patches, Rows

TOLERANCES = (0, 1, 2, 3)
"""Steps by which a boundary may miss the true one and still be counted as found."""


def permuted(patches: Patches, ids: Int[Tensor, " row"]) -> Patches:
    """The same lengths in another order, drawn from the row's id: histogram and count are kept.

    Gate and gain go with their patch, slots that do not count go last, groups keep their number of
    patches. What belongs to single steps or to edges fits no more and is left out.
    """
    # Complements, whose draws no method sees: lengths drawn from the very numbers that shuffle
    # them here could come out sorted.
    draw = Rows(patches.start.to(torch.float32), ~ids).uniform(patches.start.shape[1])
    order = (draw + ~patches.valid).argsort(dim=1, stable=True)
    length = patches.length.gather(1, order)
    return Patches(
        start=length.cumsum(dim=1) - length,
        length=length,
        valid=patches.valid.gather(1, order),
        gain=None if patches.gain is None else patches.gain.gather(1, order),
        gate=None if patches.gate is None else patches.gate.gather(1, order),
        coarse=patches.coarse,
    )


def of_next_channel(patches: Patches, channels: int) -> Patches:
    """Each channel gets the patches of the next one of its window, the last those of the first."""
    rows = torch.arange(len(patches.start), device=patches.start.device)
    return patches.rows(rows.view(-1, channels).roll(-1, dims=1).flatten())


class Agreement:
    """Boundaries found beside true ones, over a stream of batches; step 0 is no boundary."""

    def __init__(self, device: torch.device | str | None = None) -> None:
        self._found = torch.zeros(len(TOLERANCES), dtype=torch.long, device=device)
        self._true = torch.zeros((), dtype=torch.long, device=device)
        self._placed = torch.zeros((), dtype=torch.long, device=device)

    def add(self, patches: Patches, truth: Bool[Tensor, "row time"]) -> None:
        """Take in one batch; nothing is copied off the device."""
        self._found += matches(patches, truth).sum(dim=0)
        self._true += truth[:, 1:].sum()
        self._placed += _counts(patches).sum()

    def f1(self) -> dict[str, float | None]:
        """F1 over all boundaries of all rows, by tolerance; None if no row has a true one."""
        names = [f"f1_{tolerance}" for tolerance in TOLERANCES]
        if not self._true:
            return dict.fromkeys(names)
        scores = 2 * self._found.double() / (self._true + self._placed)
        return dict(zip(names, scores.tolist(), strict=True))


def matches(patches: Patches, truth: Bool[Tensor, "row time"]) -> Int[Tensor, "row tolerance"]:
    """The most pairs of a boundary and a true one within each tolerance, each in one pair only.

    From left to right each boundary takes the first true one that is near enough and still free:
    on a line, with one tolerance for all, no other choice makes more pairs.
    """
    device, look_back = truth.device, truth.shape[1]
    tolerance = torch.tensor(TOLERANCES, device=device)
    steps = torch.arange(look_back, device=device)
    never = look_back + TOLERANCES[-1]
    place = torch.where(truth, steps, never)
    # The first true boundary at or after each step, and after the last step none.
    following = functional.pad(
        place.flip(1).cummin(dim=1).values.flip(1), (0, 1), value=float(never)
    )
    # The true boundary that was paired last; before the first pair step 0, which is none.
    taken = torch.zeros(len(truth), len(TOLERANCES), dtype=torch.long, device=device)
    pairs = torch.zeros_like(taken)
    for start, counts in zip(patches.start.T, _counts(patches).T, strict=True):
        earliest = torch.maximum(start[:, None] - tolerance, taken + 1)
        candidate = following.gather(1, earliest.clamp_max(look_back))
        near = (candidate <= start[:, None] + tolerance) & counts[:, None]
        taken = torch.where(near, candidate, taken)
        pairs += near
    return pairs


def _counts(patches: Patches) -> Bool[Tensor, "row patch"]:
    """Slots whose start is a boundary: all that count, but the one at step 0."""
    return patches.valid & (patches.start > 0)
