"""Soft boundaries: a clock that runs from 0 to K, and patches that sharpen during training."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from harness import Patcher, Patches, Rows, Task, Votes, from_starts


class Soft(Patcher):
    """Gives each step a share of a boundary, K - 1 in all; patches lie between unit marks.

    Shares are sigmoids of (score - threshold) / temperature, with the one threshold for each row
    at which they add up to K - 1; the gradient goes through that threshold, too. A clock runs from
    0 to K and advances at each step by about its share; patch k is the time from mark k to mark
    k + 1 on that clock. In training these edges are real-valued times, and a token is read from
    half a temperature beyond them on either side, so that neighbours overlap; the temperature
    falls from ``hottest`` to ``coldest``. In evaluation a patch starts with the first step at
    which the clock has reached its mark: no share exceeds 1, so no patch is empty.

    Source: none that defines it; soft discretisation is the class of methods that ReinPatch (arXiv
    2603.26097) sets itself apart from.

    Fidelity: our design. A token weighs all of a stretch with real-valued ends alike, without a
    kernel, so that the shared embedder can read it. Soft tokens overlap: scored soft, K of them
    hold more than K patches can. Temperatures and rate are the best of twelve settings by the
    validation error on `ordinal`, mean of three seeds.
    """

    rules = ("best", "sample")
    uses_features = True
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {
        "hottest": (0.5, 1.0),
        "coldest": (0.03, 0.1),
        "learning_rate_factor": (3.0, 10.0, 30.0),
    }

    def __init__(
        self,
        task: Task,
        *,
        hottest: float = 0.5,
        coldest: float = 0.03,
        learning_rate_factor: float = 10.0,
    ) -> None:
        super().__init__(task)
        self.hottest, self.coldest = hottest, coldest
        self.learning_rate_factor = learning_rate_factor
        self.score = Votes()

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """At a higher rate than the forecaster, which adapts to any boundaries it is given."""
        return [
            {"params": list(self.parameters()), "lr": learning_rate * self.learning_rate_factor}
        ]

    def forward(self, rows: Rows) -> Patches:
        assert rows.features is not None
        look_back, patches = self.task.look_back, self.task.patches
        score = self.score(rows.features).to(rows.values.dtype)
        temperature = self.hottest * (self.coldest / self.hottest) ** self.progress
        share = _shares(score, patches - 1, temperature)
        # At the centre of step t, t + 1/2, the clock reads half a unit more than the shares up to
        # step t: the ends of a row count as boundaries of share 1, and half of each lies inside.
        half = torch.full_like(rows.values[:, :1], 0.5)
        steps = torch.cat([half, half + share.cumsum(dim=1)], dim=1)
        clock = torch.cat([0 * half, steps, 2 * patches * half], dim=1)

        mark = torch.arange(patches + 1.0, device=clock.device)
        edges = _times(clock, mark)
        order = torch.arange(patches, device=clock.device)
        # The first step at whose centre the clock has reached the mark.
        start = (edges.detach()[:, :-1] - 0.5).ceil().long()
        # Where shares are 1, marks are one step apart, and rounding can make them meet.
        start = order + (start - order).clamp(0, look_back - patches).cummax(dim=1).values
        if not rows.as_trained:
            return from_starts(start, look_back)
        reach = temperature / 2
        ends = torch.cat([(mark[:-1] - reach).clamp_min(0), (mark[1:] + reach).clamp_max(patches)])
        spans = _times(clock, ends).unflatten(1, (2, patches))
        return from_starts(start, look_back, edges=edges, spans=spans)


def _shares(
    score: Float[Tensor, "row step"], total: int, temperature: Float[Tensor, ""]
) -> Float[Tensor, "row step"]:
    """Sigmoids of (score - threshold) / temperature that add up to ``total`` in each row.

    The threshold is found without a gradient, by halving an interval that holds it. One Newton
    step on the shares then makes the sum exact, and gives the shares the gradient that they have
    as functions of the scores under this constraint (the implicit function theorem).
    """
    with torch.no_grad():
        mean = min(max(total / score.shape[1], 1e-6), 1 - 1e-6)
        # The threshold, if all scores were equal to the smallest, or to the largest.
        shift = temperature * math.log(mean / (1 - mean))
        low, high = (extreme - shift for extreme in score.aminmax(dim=1, keepdim=True))
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            too_many = ((score - middle) / temperature).sigmoid().sum(1, keepdim=True) > total
            low, high = torch.where(too_many, middle, low), torch.where(too_many, high, middle)
        threshold = (low + high) / 2
    share = ((score - threshold) / temperature).sigmoid()
    slope = (share * (1 - share)).detach()
    slope = slope / slope.sum(1, keepdim=True).clamp_min(1e-12)
    return share + slope * (total - share.sum(1, keepdim=True))


_HALVINGS = 20


def _times(
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
