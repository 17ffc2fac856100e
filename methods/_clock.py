"""Soft boundaries that add up to K patches: a clock that runs from 0 to K along each row.

Each step has a share of a boundary, K - 1 in all, and the clock advances by about its share; patch
k is the time from mark k to mark k + 1. Used by ``soft`` and ``gated_mix``.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from harness import Patches, Task, from_starts, threshold


def soft_patches(
    score: Float[Tensor, "row step"], task: Task, temperature: Float[Tensor, ""]
) -> Patches:
    """K patches with real-valued edges, and stretches that reach half a temperature beyond them.

    A patch starts with the first step at which the clock has reached its mark. Neither edges nor
    stretches (``spans``) are whole steps; both have a gradient.
    """
    look_back, patches = task.look_back, task.patches
    share = shares(score, patches - 1, temperature)
    # At the centre of step t, t + 1/2, the clock reads half a unit more than the shares up to
    # step t: the ends of a row count as boundaries of share 1, and half of each lies inside.
    half = torch.full_like(share[:, :1], 0.5)
    steps = torch.cat([half, half + share.cumsum(dim=1)], dim=1)
    clock = torch.cat([0 * half, steps, 2 * patches * half], dim=1)

    mark = torch.arange(patches + 1.0, device=clock.device)
    edges = times(clock, mark)
    order = torch.arange(patches, device=clock.device)
    # The first step at whose centre the clock has reached the mark.
    start = (edges.detach()[:, :-1] - 0.5).ceil().long()
    # Where shares are 1, marks are one step apart, and rounding can make them meet.
    start = order + (start - order).clamp(0, look_back - patches).cummax(dim=1).values
    reach = temperature / 2
    ends = torch.cat([(mark[:-1] - reach).clamp_min(0), (mark[1:] + reach).clamp_max(patches)])
    spans = times(clock, ends).unflatten(1, (2, patches))
    return from_starts(start, look_back, edges=edges, spans=spans)


def shares(
    score: Float[Tensor, "row step"], total: int, temperature: Float[Tensor, ""]
) -> Float[Tensor, "row step"]:
    """Sigmoids of (score - threshold) / temperature that add up to ``total`` in each row.

    The threshold is found without a gradient. One Newton step on the shares then makes the sum
    exact, and gives the shares the gradient that they have as functions of the scores under this
    constraint (the implicit function theorem).
    """
    logits = score / temperature
    share = (logits - threshold(logits, total)).sigmoid()
    slope = (share * (1 - share)).detach()
    slope = slope / slope.sum(1, keepdim=True).clamp_min(1e-12)
    return share + slope * (total - share.sum(1, keepdim=True))


def times(
    clock: Float[Tensor, "row knot"], mark: Float[Tensor, " mark"]
) -> Float[Tensor, "row mark"]:
    """When each clock reads each mark, in steps from the start of the row.

    The clock is known at the start of the row, at the centre of each step and at the end, and is
    linear in between.
    """
    look_back = clock.shape[1] - 2
    time = torch.arange(look_back + 2, device=clock.device, dtype=clock.dtype) - 0.5
    time = time.clamp(0, look_back)
    marks = mark.expand(len(clock), -1).contiguous()
    after = torch.searchsorted(clock.detach(), marks).clamp(1, look_back + 1)
    low, high = clock.gather(1, after - 1), clock.gather(1, after)
    passed = (mark - low) / (high - low).clamp_min(1e-6)
    return torch.lerp(time[after - 1], time[after], passed.clamp(0, 1))
