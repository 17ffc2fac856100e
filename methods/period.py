"""Patches on the dominant period: boundaries at whole cycles, or at equal parts of cycles."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from harness import Patcher, Patches, Rows, Task, from_starts, sample_rows


class Period(Patcher):
    """Cuts each row into cycles of its strongest period, and these into K patches in all.

    The row is first divided into cycles: round(L / period) of them, where the first one takes up
    what is left (``phase`` "end": the last step of the look-back ends a cycle), or cycles begin at
    the peaks of the wave of that period, and both end cycles take up what is left ("peak"). No
    cycle is shorter than half a period or, but for a row of a single cycle, longer than one and a
    half. With at least as many patches as cycles, each cycle is cut into equal parts; where the
    numbers do not go up, the latest cycles have one part more. With fewer patches, each patch is a
    whole number of cycles, and the earliest ones have one cycle more. Every boundary is rounded to
    a whole step; where two would meet, they move by as many steps as they must.

    The period is the one of most power in the spectrum of the row, less its linear trend. Power
    at the second to fourth harmonic of a period counts for it, too, divided by the number of the
    harmonic: a wave of sharp peaks is then taken neither for its own overtones nor for one of
    twice its period. Periods from 2 steps to half the look-back are considered, on a grid of
    frequencies eight times as fine as the look-back's own, and between its points by a parabola.
    The period is then rounded to a whole number of steps where that moves no boundary by more than
    one. A flat row, and a look-back of less than 4 steps, is cut into equal patches.

    ``scope`` "data" takes one period for all rows: the best of the mean of the spectra of training
    rows. With ``phase`` "end" that is a static grid.

    Source: a control of this project: patches on the period, as LightGTS (Wang et al., arXiv
    2506.06005) divides each data set into patches of one cycle.

    Fidelity: our design. Nothing is learned. LightGTS takes one period a data set and as many
    patches as there are cycles; here K is given.
    """

    fixed = True
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {
        "scope": ("row", "data"),
        "phase": ("end", "peak"),
    }

    period: Tensor

    def __init__(self, task: Task, *, scope: str = "row", phase: str = "end") -> None:
        super().__init__(task)
        if scope not in {"row", "data"}:
            raise ValueError(f"scope is {scope!r}; allowed: row, data")
        if phase not in {"end", "peak"}:
            raise ValueError(f"phase is {phase!r}; allowed: end, peak")
        self.scope, self.phase = scope, phase
        # Of the data; before `prepare`, that of equal patches.
        fallback = task.look_back / task.patches
        self.register_buffer("period", torch.tensor(fallback, dtype=torch.float64))

    def prepare(self, rows: Iterable[Float[Tensor, "row time"]]) -> None:
        if self.scope == "data":
            power = _power(_without_trend(sample_rows(rows, most=4000)))
            # Each row counts alike, however much of it its trend was.
            share = power / power.sum(dim=1, keepdim=True).clamp_min(_FLAT)
            self.period.copy_(_strongest(share.mean(dim=0, keepdim=True), self.task)[0])

    def forward(self, rows: Rows) -> Patches:
        look_back, patches = rows.values.shape[1], self.task.patches
        steady = _without_trend(rows.values)
        period = (
            _strongest(_power(steady), self.task)
            if self.scope == "row"
            else self.period.expand(len(steady))
        )
        last = self._last_cycle(steady, period) if self.phase == "peak" else period
        start = _starts(period[:, None], last[:, None], look_back, patches)
        return from_starts(start, look_back)

    def _last_cycle(
        self, steady: Float[Tensor, "row time"], period: Float[Tensor, " row"]
    ) -> Float[Tensor, " row"]:
        """From the last peak that begins a cycle to the end: half a period to one and a half."""
        look_back = steady.shape[1]
        # Centres of steps, counted back from the end of the look-back.
        back = look_back - 0.5 - torch.arange(look_back, device=steady.device)
        angle = 2 * math.pi * back / period[:, None]
        sine, cosine = (steady * angle.sin()).sum(1), (steady * angle.cos()).sum(1)
        # The wave is largest where its angle is that of (cosine, sine).
        peak = torch.atan2(sine, cosine) / (2 * math.pi) * period
        return peak + period * torch.ceil(0.5 - peak / period)


def _starts(
    period: Float[Tensor, "row 1"], last: Float[Tensor, "row 1"], look_back: int, patches: int
) -> Tensor:
    """Where patches start, from the period and the length of the last cycle of each row."""
    # The first cycle lies between half a period and one and a half.
    cycles = (1 + ((look_back - last) / period).round()).clamp_min(1)
    # Counted back from the end: so many cycles come after boundary j.
    j = torch.arange(patches - 1, 0, -1, device=period.device, dtype=period.dtype)
    # Many patches: `more` latest cycles have a part more than the others. Few: `longer` earliest
    # patches have a cycle more.
    parts, more = (patches / cycles).floor().clamp_min(1), patches % cycles
    fine = torch.where(
        j <= more * (parts + 1), j / (parts + 1), more + (j - more * (parts + 1)) / parts
    )
    joined, longer = (cycles / patches).floor(), cycles % patches
    coarse = j * joined + (j - (patches - longer)).clamp_min(0)
    after = torch.where(cycles <= patches, fine, coarse)

    def edge(number: Tensor) -> Tensor:
        inner = look_back - last - (number - 1) * period
        inner = torch.where(number == 0, look_back, inner)
        return torch.where(number >= cycles, 0.0, inner)

    whole = after.floor()
    place = torch.lerp(edge(whole), edge(whole + 1), after - whole)
    # Rounded once more, so that a half is a half whatever the batch.
    inner = (place.round(decimals=6) + 0.5).floor().long()
    start = functional.pad(inner, (1, 0))
    order = torch.arange(patches, device=start.device)
    return order + (start - order).clamp(0, look_back - patches).cummax(dim=1).values


def _without_trend(values: Float[Tensor, "row time"]) -> Float[Tensor, "row time"]:
    """The row less the straight line that fits it best, in float64."""
    steps = torch.arange(values.shape[1], device=values.device, dtype=torch.float64)
    steps = steps - steps.mean()
    steady = values.double() - values.double().mean(dim=1, keepdim=True)
    slope = (steady * steps).sum(dim=1, keepdim=True) / steps.square().sum().clamp_min(1.0)
    return steady - slope * steps


def _power(steady: Float[Tensor, "row time"]) -> Float[Tensor, "row frequency"]:
    """Power at the frequencies from 0 to 1/2, eight times as fine as the row's own."""
    return torch.fft.rfft(steady, n=_FINER * steady.shape[1]).abs().square()


_FINER = 8


def _strongest(power: Float[Tensor, "row frequency"], task: Task) -> Float[Tensor, " row"]:
    """The period of most power, that of its harmonics included; that of equal patches if none."""
    fallback = task.look_back / task.patches
    size, lowest = power.shape[1], 2 * _FINER  # two cycles in the look-back
    if size <= lowest:
        return torch.full_like(power[:, 0], fallback)
    score = power.clone()
    for harmonic in range(2, _HARMONICS + 1):
        there = power[:, ::harmonic]
        score[:, : there.shape[1]] += there / harmonic
    best = score[:, lowest:].argmax(dim=1, keepdim=True) + lowest
    # Between two frequencies of the grid: the top of the parabola through the best and the two
    # beside it.
    around = best + torch.tensor([-1, 0, 1], device=best.device)
    low, top, high = score.gather(1, around.clamp_max(size - 1)).unbind(1)
    bend = (2 * top - low - high).clamp_min(_FLAT * _FLAT)
    offset = ((high - low) / (2 * bend)).clamp(-0.5, 0.5)
    period = _FINER * task.look_back / (best[:, 0] + offset)
    drift = (period - period.round()).abs() * task.look_back / period
    period = torch.where(drift <= 1, period.round(), period)
    return torch.where(power.sum(dim=1) > _FLAT, period, fallback)


_HARMONICS = 4
_FLAT = 1e-6
