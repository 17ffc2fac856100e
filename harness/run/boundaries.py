"""Boundaries alone: moved where they do not belong, compared with the true ones, and described.

How much worse a forecast gets under boundaries of other content says how much it depends on where
exactly patches start.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from harness.model.patcher import Patches, Rows, uniform_starts

TOLERANCES = (0, 1, 2, 3)
"""Steps by which a boundary may miss the true one and still be counted as found."""


def permuted(patches: Patches, ids: Int[Tensor, " row"]) -> Patches:
    """The same lengths in another order, drawn from the row's id: histogram and count are kept.

    Gate and gain move with their patch, unused slots go last, and groups of patches keep their
    number of patches. What belongs to single steps or to edges no longer fits and is left out.
    """
    # The complement of each id, whose random numbers no method sees: lengths that a method drew
    # from the same numbers as shuffle them here could come out sorted.
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
    """How well boundaries agree with the true ones, over batches; step 0 is no boundary."""

    def __init__(self, device: torch.device | str | None = None) -> None:
        self._found = torch.zeros(len(TOLERANCES), dtype=torch.long, device=device)
        self._true = torch.zeros((), dtype=torch.long, device=device)
        self._placed = torch.zeros((), dtype=torch.long, device=device)
        self._rows = torch.zeros((), dtype=torch.long, device=device)
        self._sums = torch.zeros(len(_ALIKE), dtype=torch.float64, device=device)

    def add(self, patches: Patches, truth: Bool[Tensor, "row time"]) -> None:
        """Take in one batch; nothing is copied off the device."""
        self._found += matches(patches, truth).sum(dim=0)
        self._true += truth[:, 1:].sum()
        self._placed += _counts(patches).sum()
        placed, has_truth = marks(patches, truth.shape[1]), truth[:, 1:].any(dim=1)
        self._rows += has_truth.sum()
        self._sums += torch.stack(
            [(measure(placed, truth) * has_truth).sum() for measure in _ALIKE.values()]
        )

    def scores(self) -> dict[str, float | None]:
        """How well the true boundaries are found; all None if no row has one.

        - ``f1_0`` to ``f1_3``: F1 over all boundaries of all rows, within as many steps.
        - ``recall_3``: the share of the true boundaries that are found within three steps.
        - ``covering``, ``distance``, ``rand``: means over the rows that have a true boundary, of
          :func:`covering`, :func:`distance` and :func:`rand_index`.
        """
        names = [*(f"f1_{tolerance}" for tolerance in TOLERANCES), "recall_3", *_ALIKE]
        if not self._true:
            return dict.fromkeys(names)
        f1 = 2 * self._found.double() / (self._true + self._placed)
        recall = self._found[-1:].double() / self._true
        alike = self._sums / self._rows
        return dict(zip(names, torch.cat([f1, recall, alike]).tolist(), strict=True))


class Habits:
    """Whether boundaries differ from row to row, over batches; a row's boundaries are its plan.

    Neither score can tell a good boundary from a bad one: both are alarms. Boundaries that follow
    the content cannot have a ``position_bias`` near 1, nor only a few ``distinct`` plans.
    """

    def __init__(
        self, look_back: int, patches: int, device: torch.device | str | None = None
    ) -> None:
        # The number of a plan is the sum of a random number for each boundary (Zobrist 1970): the
        # chance that two of n different plans share one is n^2 in 2^65.
        draw = torch.Generator().manual_seed(0)
        numbers = torch.randint(-(2**63), 2**63 - 1, (look_back,), generator=draw)
        self._numbers = numbers.to(device)
        self._equal = self._numbers[uniform_starts(look_back, patches)[1:]].sum()
        self._often = torch.zeros(look_back, dtype=torch.long, device=device)
        self._plans: list[Tensor] = []

    def add(self, patches: Patches) -> None:
        """Take in one batch; nothing is copied off the device."""
        placed = marks(patches, len(self._often))
        self._often += placed.sum(dim=0)
        number = self._numbers[patches.start.clamp_max(len(self._often) - 1)]
        self._plans.append(torch.where(_counts(patches), number, 0).sum(dim=1))

    def scores(self) -> dict[str, float | None]:
        """Three numbers from 0 to 1.

        - ``position_bias``: the total variation distance between where boundaries lie in the
          look-back and an even spread over its steps, as a share of the largest distance possible
          with as many boundaries: 0 if every step is equally likely, 1 if all rows are cut at the
          same steps, as equal patches are by design. Chance alone gives a little: 0.03 for 11
          random boundaries in each of 2000 rows of 96 steps. None if there is no boundary, or one
          at each step.
        - ``distinct``: different plans as a share of the rows: 1 if no two rows are cut alike,
          1 / rows if all are.
        - ``equal``: the share of rows that are cut into K equal patches, as ``uniform`` cuts them.
        """
        plans, often = torch.cat(self._plans), self._often[1:].double()
        scores = {
            "distinct": len(plans.unique()) / len(plans),
            "equal": float((plans == self._equal).double().mean()),
        }
        steps, placed = len(often), float(often.sum())
        if placed in (0, steps * len(plans)):
            return {"position_bias": None, **scores}
        variation = float((often / placed - 1 / steps).abs().sum()) / 2
        largest = 1 - placed / len(plans) / steps
        return {"position_bias": variation / largest, **scores}


def matches(patches: Patches, truth: Bool[Tensor, "row time"]) -> Int[Tensor, "row tolerance"]:
    """The most pairs of a boundary and a true one within each tolerance, each in one pair only.

    From left to right each boundary takes the first true one that is near enough and still free;
    with one tolerance for all, no other choice makes more pairs.
    """
    device, look_back = truth.device, truth.shape[1]
    tolerance = torch.tensor(TOLERANCES, device=device)
    # After the last step there is no true boundary.
    following = functional.pad(_following(truth), (0, 1), value=_never(truth))
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


def covering(
    placed: Bool[Tensor, "row time"], truth: Bool[Tensor, "row time"]
) -> Float[Tensor, " row"]:
    """How well patches cover the true segments: 1 if they are the same.

    Of each true segment the largest overlap with a patch, intersection over union, weighted by
    the segment's length (Arbelaez et al. 2011, as for change points in van den Burg and Williams
    2020).
    """
    (first, end), (true_first, true_end) = _segments(placed), _segments(truth)
    # Both segments hold the step, so that their union has no gap.
    both = torch.minimum(end, true_end) - torch.maximum(first, true_first)
    either = torch.maximum(end, true_end) - torch.minimum(first, true_first)
    overlap = both.double() / either
    best = torch.zeros_like(overlap).scatter_reduce(1, true_first, overlap, "amax")
    return best.gather(1, true_first).mean(dim=1)


def distance(
    placed: Bool[Tensor, "row time"], truth: Bool[Tensor, "row time"]
) -> Float[Tensor, " row"]:
    """Steps from a boundary to the nearest true one and back: the mean of both mean distances.

    One direction alone would be small for a method that places a single boundary well; the other
    one, for a boundary at every step. With no boundary to be near to, it is the look-back.
    """
    placed, truth = (functional.pad(marked[:, 1:], (1, 0)) for marked in (placed, truth))
    there, back = _mean_where(placed, _to_nearest(truth)), _mean_where(truth, _to_nearest(placed))
    return (there + back) / 2


def rand_index(
    placed: Bool[Tensor, "row time"], truth: Bool[Tensor, "row time"]
) -> Float[Tensor, " row"]:
    """Share of the pairs of steps that are together in both segmentations or in neither."""
    look_back = truth.shape[1]
    # A step is together with the later steps of its segment: between the ends of its segments in
    # the two segmentations lie those with which it is together in one of them only.
    apart = (_segments(placed)[1] - _segments(truth)[1]).abs().sum(dim=1)
    return 1 - apart.double() / max(1, look_back * (look_back - 1) // 2)


_ALIKE = {"covering": covering, "distance": distance, "rand": rand_index}


def marks(patches: Patches, look_back: int) -> Bool[Tensor, "row time"]:
    """The steps at which a patch starts, but for step 0."""
    # What is no boundary goes to a step behind the last one, which is then cut off.
    place = torch.where(_counts(patches), patches.start, look_back)
    shape = (len(place), look_back + 1)
    at = torch.zeros(shape, dtype=torch.bool, device=place.device).scatter(1, place, value=True)
    return at[:, :look_back]


def _counts(patches: Patches) -> Bool[Tensor, "row patch"]:
    """Slots whose start is a boundary: all that are used, but for the one at step 0."""
    return patches.valid & (patches.start > 0)


def _segments(
    marked: Bool[Tensor, "row time"],
) -> tuple[Int[Tensor, "row time"], Int[Tensor, "row time"]]:
    """For each step the first step of its segment, and the one after its last."""
    look_back = marked.shape[1]
    first = _preceding(marked).clamp_min(0)
    end = functional.pad(_following(marked)[:, 1:], (0, 1), value=look_back)
    return first, end.clamp_max(look_back)


def _to_nearest(marked: Bool[Tensor, "row time"]) -> Int[Tensor, "row time"]:
    """Steps from each step to the nearest mark; the look-back if there is none."""
    look_back = marked.shape[1]
    steps = torch.arange(look_back, device=marked.device)
    nearest = torch.minimum(steps - _preceding(marked), _following(marked) - steps)
    return nearest.clamp_max(look_back)


def _mean_where(
    marked: Bool[Tensor, "row time"], values: Int[Tensor, "row time"]
) -> Float[Tensor, " row"]:
    """Mean over the marks; the look-back if there are none."""
    count = marked.sum(dim=1)
    mean = (values * marked).sum(dim=1).double() / count.clamp_min(1)
    return torch.where(count > 0, mean, marked.shape[1])


def _never(marked: Tensor) -> int:
    """A step so far behind the last one that nothing is near it; negative, before the first."""
    return 2 * marked.shape[1] + TOLERANCES[-1]


def _following(marked: Bool[Tensor, "row time"]) -> Int[Tensor, "row time"]:
    """The first mark at or after each step."""
    steps = torch.arange(marked.shape[1], device=marked.device)
    place = torch.where(marked, steps, _never(marked))
    return place.flip(1).cummin(dim=1).values.flip(1)


def _preceding(marked: Bool[Tensor, "row time"]) -> Int[Tensor, "row time"]:
    """The last mark at or before each step."""
    steps = torch.arange(marked.shape[1], device=marked.device)
    return torch.where(marked, steps, -_never(marked)).cummax(dim=1).values
