"""Rows to pre-train on, drawn from a corpus: a past of random length and its future."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.data.corpora import Pool
from harness.data.series import filled

SHORTEST, LONGEST = 64, 512
"""Steps of a past."""

HORIZON = 64
"""Steps of a future."""

DECIMATIONS = (1, 2, 3, 4, 6, 12, 24)
"""Of a row only each first, second, third ... step of its series is taken."""

MOST_MISSING = 0.2
"""Share of a row; one with more missing values is drawn anew."""

HELD_OUT = 20
"""Of so many series of a member one is held out, and of so many parts in time the last one."""

TRIES = 1000
JITTER = 0.5  # standard deviation of the logarithm of a row's factor

Part = Literal["train", "late", "held_out"]


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows of a corpus, in float32.

    ``past`` [row, LONGEST] ends at the last step before the ``future`` [row, HORIZON]. ``known``
    and ``scored`` are their masks. What is not known is padding, at the left, and 0. A gap in a
    past has the value before it and counts as known; one in a future is 0 and not scored.
    ``spacing`` [row] is in seconds from step to step, 0 where it is not known.
    """

    past: NDArray[np.float32]
    known: NDArray[np.bool_]
    future: NDArray[np.float32]
    scored: NDArray[np.bool_]
    spacing: NDArray[np.float32]


class Sampler:
    """Draws rows of one part of a corpus.

    "train" are the series that are not held out, up to their last twentieth in time; "late" has
    the futures in that last twentieth, "held_out" the series that are held out: every twentieth
    of a member.

    Raises:
        ValueError: no series of the part is long enough for a row.
    """

    def __init__(self, pools: Sequence[Pool], part: Part = "train") -> None:
        self._part = part
        chosen = [(pool, self._series(pool)) for pool in pools]
        self._members = [(pool, found) for pool, found in chosen if found]
        if not self._members:
            raise ValueError(
                f"no series of part {part!r} holds {SHORTEST + HORIZON} steps, which a row needs"
            )
        weights = np.array([pool.share for pool, _ in self._members])
        self._shares = weights / weights.sum()

    def draw(
        self, count: int, generator: np.random.Generator, length: int | None = None
    ) -> Sample:
        """So many rows, each of a random length, or all of one.

        Raises:
            ValueError: a member with next to no row that has enough values; names it.
        """
        past = np.zeros((count, LONGEST), dtype=np.float32)
        future = np.zeros((count, HORIZON), dtype=np.float32)
        known, scored = past.astype(bool), future.astype(bool)
        spacing = np.zeros(count, dtype=np.float32)
        members = generator.choice(len(self._members), size=count, p=self._shares)
        for row, member in enumerate(members):
            values, spacing[row] = self._row(int(member), generator, length)
            head, tail = filled(values[:-HORIZON]), values[-HORIZON:]
            known[row, LONGEST - len(head) :] = ~np.isnan(head)
            scored[row] = ~np.isnan(tail)
            factor = generator.choice((-1, 1)) * np.exp(JITTER * generator.normal())
            past[row, LONGEST - len(head) :] = np.nan_to_num(factor * head)
            future[row] = np.nan_to_num(factor * tail)
        return Sample(past, known, future, scored, spacing)

    def _row(
        self, member: int, generator: np.random.Generator, steps: int | None
    ) -> tuple[NDArray[np.float32], float]:
        """A past and its future, one after the other, with few gaps; and their spacing."""
        pool, series = self._members[member]
        for _ in range(TRIES):
            values = pool.series[series[generator.integers(len(series))]]
            length = steps or int(generator.integers(SHORTEST, LONGEST + 1))
            decimation = int(generator.choice(DECIMATIONS))
            first, last = self._starts(len(values), (length + HORIZON) * decimation, decimation)
            if last < first:
                continue
            start = int(generator.integers(first, last + 1))
            row = values[start : start + (length + HORIZON) * decimation : decimation]
            past = row[:-HORIZON][~np.isnan(row[:-HORIZON])]
            if np.isnan(row).mean() <= MOST_MISSING and len(past) and past.min() < past.max():
                return row, pool.spacing * decimation
        raise ValueError(
            f"{pool.name}: of {TRIES} rows of part {self._part!r} none had few gaps and a past "
            "that is not constant"
        )

    def _starts(self, steps: int, span: int, decimation: int) -> tuple[int, int]:
        """The first and the last start of a row of ``span`` steps in a series of ``steps``."""
        late = steps - steps // HELD_OUT
        if self._part == "train":
            return 0, late - span
        if self._part == "late":
            return max(0, late - span + HORIZON * decimation), steps - span
        return 0, steps - span

    def _series(self, pool: Pool) -> list[int]:
        """Which series of a member belong to the part and are long enough."""
        every = range(len(pool.series))
        out = {number for number in every if number % HELD_OUT == HELD_OUT - 1}
        chosen = [number for number in every if (number in out) == (self._part == "held_out")]
        spans = {
            number: self._starts(len(pool.series[number]), SHORTEST + HORIZON, 1)
            for number in chosen
        }
        return [number for number, (first, last) in spans.items() if first <= last]
