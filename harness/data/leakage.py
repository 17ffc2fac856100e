"""Leakage: is a target in a corpus, by what is known of its source, or by its values?

Two tests, since each sees what the other does not. What is known of two sources stands in
``relations.csv``. By values, a stretch of a target is looked for in all series of a corpus,
wherever it may lie there and whatever its unit, its sign and its sampling rate.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from harness.data.panels import Channel
from harness.data.sampling import DECIMATIONS
from harness.data.series import filled

Relation = Literal["same", "derived", "near", "none"]
Tag = Literal["clean", "near", "leaked"]

WINDOW = 256
"""Steps of the stretch that is looked for."""

LIMIT = 0.999
"""Correlation of the differences of two stretches beyond which they are taken for one."""

BROADEST = 6
"""The largest step at which values of a target may have been picked to make a corpus of them."""

LEAST_SPREAD = 16
"""Differences that a stretch must consist of, in effect: one jump is like any other."""

Array = NDArray[np.float64]


# --- by source -----------------------------------------------------------------------------------


def relation(family: str, other: str) -> Relation:
    """What two source families are to each other; what is not written down is none."""
    if family == other:
        return "same"
    return _relations().get(frozenset((family, other)), "none")


def tag(corpus: Iterable[str], target: str) -> Tag:
    """What a result on a target is worth, if the families of the corpus were seen before."""
    found = {relation(family, target) for family in corpus}
    if found & {"same", "derived"}:
        return "leaked"
    return "near" if "near" in found else "clean"


@cache
def _relations() -> Mapping[frozenset[str], Relation]:
    path = Path(__file__).with_name("relations.csv")
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    wrong = [row for row in rows if row["relation"] not in get_args(Relation)[1:3]]
    assert not wrong, wrong
    return {frozenset((row["family"], row["other"])): row["relation"] for row in rows}  # type: ignore[misc]  # asserted above


# --- by values -----------------------------------------------------------------------------------


@dataclass(frozen=True, order=True)
class Match:
    """The best place for a stretch of ``target`` in a corpus: ``series`` and its ``correlation``.

    Of the target every ``target_step``-th value was taken, of the series every
    ``series_step``-th.
    """

    correlation: float
    target: str
    series: str
    target_step: int
    series_step: int

    @property
    def leaks(self) -> bool:
        """It is the same stretch."""
        return self.correlation > LIMIT

    def __str__(self) -> str:
        steps = f"every {self.target_step} and {self.series_step} steps"
        return f"{self.target} in {self.series} ({steps}, correlation {self.correlation:.6f})"


def matches(targets: Sequence[Channel], corpus: Iterable[Channel]) -> list[Match]:
    """For each target that is long enough, the best place that any of its stretches has.

    Stretches are of the target as it is, looked for in the corpus at all :data:`DECIMATIONS`; and
    of the target at steps of 2 to :data:`BROADEST`, from each of its first values, looked for in
    the corpus as it is. Differences are compared, standardised, so that offset, scale and trend do
    not matter, and by the size of the correlation, so that the sign does not either. Targets
    without a stretch of :data:`WINDOW` steps that is known and moves enough are left out: only
    what is known of their source speaks for them.
    """
    whole = [(target.name, 1, found) for target in targets for found in _stretches(target, 1)]
    picked = [
        (target.name, step, found)
        for target in targets
        for step in DECIMATIONS
        if 1 < step <= BROADEST
        for found in _stretches(target, step)
    ]
    best: dict[str, Match] = {}
    for channel in corpus:
        for step in DECIMATIONS:
            wanted = [*whole, *picked] if step == 1 else whole
            for phase in range(step):
                values = filled(channel.values[phase::step]).astype(np.float64)
                for (name, picking, _), found in zip(
                    wanted, _correlations(values, [found for _, _, found in wanted]), strict=True
                ):
                    match = Match(found, name, channel.name, picking, step)
                    best[name] = max(match, best.get(name, match))
    return [best[target.name] for target in targets if target.name in best]


def _stretches(target: Channel, step: int) -> Iterator[Array]:
    """Of each phase the stretch whose differences are spread most evenly, standardised."""
    for phase in range(step):
        values = target.values[phase::step]
        starts = range(0, len(values) - WINDOW + 1, WINDOW // 2)
        found = [np.diff(values[start : start + WINDOW]) for start in starts]
        found = [change for change in found if np.isfinite(change).all()]
        if found and _spread(best := max(found, key=_spread)) >= LEAST_SPREAD:
            centred = best - best.mean()
            yield centred / np.linalg.norm(centred)


def _spread(change: Array) -> float:
    """How many of the differences matter, in effect: 1 for a single jump, all for equal sizes."""
    squares = np.square(change - change.mean())
    return float(squares.sum() ** 2 / max(np.square(squares).sum(), 1e-300))


def _correlations(values: Array, stretches: Sequence[Array]) -> list[float]:
    """The largest size of the correlation of each stretch with any stretch of a series [time]."""
    from scipy import fft  # here: whoever only asks what sets there are need not wait for it

    change = np.nan_to_num(np.diff(values))
    width = WINDOW - 1
    if len(change) < width or not stretches:
        return [0.0] * len(stretches)
    change -= change.mean()
    sums, squares = _running(change, width), _running(np.square(change), width)
    variation = squares - np.square(sums) / width
    # Where next to nothing changes, rounding is all there is to compare.
    moves = variation > 1e-9 * np.square(change).max()
    size = fft.next_fast_len(len(change) + width - 1, real=True)
    spectrum = fft.rfft(change, size)
    scale = np.where(moves, 1 / np.sqrt(np.where(moves, variation, 1)), 0)
    largest = []
    for stretch in stretches:
        product = fft.irfft(spectrum * fft.rfft(stretch[::-1], size), size)
        largest.append(float(np.abs(product[width - 1 : len(change)] * scale).max()))
    return largest


def _running(values: Array, width: int) -> Array:
    """Sums of ``width`` neighbours."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return sums[width:] - sums[:-width]
