"""Planted series: tasks in which it is known whether, and where, a patch boundary matters.

In *ordinal*, *bursts* and *decoys* the boundaries decide what a token keeps, so placing them well
provably helps; in *const* and *sinus* placement provably cannot help; *levels* is never judged.
What each family is an instrument for stands in :data:`FAMILIES`, and nowhere else. Every window is
drawn independently: a look-back, and a future that is a given function of it, plus noise. Values
are about as large as standardised ones, so nothing is scaled.

A family has one data set or several, which are the same but for the seed of their values: findings
on ``ordinal`` should hold on ``ordinal-2``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.core.words import unknown

LOOK_BACK = 96
HORIZON = 24
WINDOW = LOOK_BACK + HORIZON
WINDOWS = (20_000, 2_000, 2_000)  # train, valid, test

SEGMENTS = 12  # of an ordinal look-back, and of one of decoys
SHORTEST = 3  # steps: the shortest segment of ordinal, the smallest gap of bursts, a chip
SHORTEST_PART = 2  # steps: the shortest part of a segment of decoys
STEP = 0.5  # the smallest difference of two adjacent levels of ordinal and decoys
SETTLED = 4  # levels of decoys that are dropped; the first rises would be larger than the others
EVENTS = 2
CHIPS = 4  # of an event
LEVELS = np.array([-1.6, -0.8, 0.0, 0.8, 1.6])
DURATIONS = np.array([4, 10, 6, 12, 8])  # of those levels, in steps
# Every ordered pair of different levels comes once, so the last two levels determine the next.
TOUR = np.array([0, 1, 2, 0, 3, 1, 4, 3, 0, 4, 2, 3, 4, 1, 3, 2, 1, 0, 2, 4])


@dataclass(frozen=True, eq=False)
class Planted:
    """Windows and their true boundaries.

    ``values`` [window, WINDOW] are look-back and future, one after the other; ``boundaries``
    [window, LOOK_BACK] mark the first step of every true segment but the first.
    """

    values: NDArray[np.float64]
    boundaries: NDArray[np.bool_]


@dataclass(frozen=True)
class Family:
    """How windows are drawn, the seed of each data set, and what the family is an instrument for.

    With ``least`` it is a positive instrument: a method passes that closes this share of the gap
    between equal patches and the true boundaries, or more. With ``margin`` it is a negative one:
    a method passes whose error surely lies within this many percent of that of equal patches.
    With neither it is not judged.
    """

    draw: Callable[[int, np.random.Generator], Planted]
    seeds: tuple[int, ...]
    least: float | None = None
    margin: tuple[float, float] | None = None


def names() -> list[str]:
    """The data sets: of a family called f they are f, f-2, f-3 and so on."""
    return list(_DATASETS)


def family_of(name: str) -> tuple[str, int]:
    """The family of a data set, and the seed that its values are drawn from.

    Raises:
        ValueError: no planted data set is called so.
    """
    if name not in _DATASETS:
        raise ValueError(unknown("planted data set", name, _DATASETS))
    return _DATASETS[name]


def plant(name: str, windows: int = sum(WINDOWS), *, seed: int | None = None) -> Planted:
    """Draw independent windows of a data set, from its own seed unless one is given.

    Raises:
        ValueError: an unknown data set, or fewer windows than one.
    """
    family, own_seed = family_of(name)
    if windows < 1:
        raise ValueError(f"{windows} windows of {name!r} were asked for; 1 or more are needed")
    generator = np.random.default_rng(own_seed if seed is None else seed)
    return FAMILIES[family].draw(windows, generator)


def _ordinal(windows: int, generator: np.random.Generator) -> Planted:
    """Twelve segments of random length; the order of their levels alone decides the future."""
    lengths = _compositions(windows, SEGMENTS, LOOK_BACK, SHORTEST, generator)
    levels = _stepping_levels(windows, generator)
    past, boundaries = _staircase(levels, lengths)
    half = SEGMENTS // 2
    blocks = (levels[:, :half] + levels[:, half:]) / np.sqrt(2)
    future = np.repeat(blocks, HORIZON // half, axis=1)
    return _noisy(past, future, 0.15, boundaries, generator)


def _bursts(windows: int, generator: np.random.Generator) -> Planted:
    """A flat background with two short events of four chips; the chips decide, not the places."""
    chips = generator.standard_normal((windows, EVENTS, CHIPS))
    event = SHORTEST * CHIPS
    gaps = _compositions(windows, EVENTS + 1, LOOK_BACK - EVENTS * event, SHORTEST, generator)
    levels = np.zeros((windows, EVENTS, CHIPS + 1))
    levels[..., 1:] = chips
    lengths = np.full((windows, EVENTS, CHIPS + 1), SHORTEST)
    lengths[..., 0] = gaps[:, :EVENTS]
    past, boundaries = _staircase(
        np.hstack([levels.reshape(windows, -1), np.zeros((windows, 1))]),
        np.hstack([lengths.reshape(windows, -1), gaps[:, EVENTS:]]),
    )
    blocks = chips.sum(axis=1) / np.sqrt(EVENTS)
    future = np.repeat(blocks, HORIZON // CHIPS, axis=1)
    return _noisy(past, future, 0.1, boundaries, generator)


def _decoys(windows: int, generator: np.random.Generator) -> Planted:
    """Twelve segments that all begin high and end low: the rises between them are the boundaries.

    As in *ordinal*, the mean of each segment counts. The fall within it is the decoy: a patch that
    holds the whole segment has the same mean with or without it. Rises and falls are equally many
    and large, more together than K patches have boundaries, so that a detector of edges spends
    half of them on falls. To know that rises are what matters takes the forecast; to see which one
    is a rise takes two neighbouring steps.
    """
    lengths = _compositions(windows, 2 * SEGMENTS, LOOK_BACK, SHORTEST_PART, generator)
    levels = _falling_and_rising_levels(windows, generator)
    past, edges = _staircase(levels, lengths)
    parts = (levels * lengths).reshape(windows, SEGMENTS, 2)
    whole = lengths.reshape(windows, SEGMENTS, 2).sum(axis=2)
    means = parts.sum(axis=2) / whole
    half = SEGMENTS // 2
    # Not divided by sqrt 2, as in ordinal: means of two levels vary half as much as a level.
    future = np.repeat(means[:, :half] + means[:, half:], HORIZON // half, axis=1)
    boundaries = edges & (np.cumsum(edges, axis=1) % 2 == 0)
    return _noisy(past, future, 0.15, boundaries, generator)


def _const(windows: int, generator: np.random.Generator) -> Planted:
    """Negative control: a level and noise. The mean of the look-back is all that can be known."""
    level = generator.standard_normal((windows, 1))
    past, future = (np.repeat(level, steps, axis=1) for steps in (LOOK_BACK, HORIZON))
    return _noisy(past, future, 0.7, _nowhere(windows), generator)


def _sinus(windows: int, generator: np.random.Generator) -> Planted:
    """Negative control: random period and phase, for which a regular grid is best."""
    period = generator.uniform(LOOK_BACK / 2, LOOK_BACK, (windows, 1))
    phase = generator.uniform(0, 2 * np.pi, (windows, 1))
    wave = 1.2 * np.sin(2 * np.pi * np.arange(WINDOW) / period + phase)
    return _noisy(wave[:, :LOOK_BACK], wave[:, LOOK_BACK:], 0.3, _nowhere(windows), generator)


def _levels(windows: int, generator: np.random.Generator) -> Planted:
    """A walk over five levels, each with its duration; the last two levels determine the next."""
    cycle = np.repeat(LEVELS[TOUR], DURATIONS[TOUR])
    turns = np.repeat(TOUR, DURATIONS[TOUR])
    time = generator.integers(len(cycle), size=(windows, 1)) + np.arange(WINDOW)
    boundaries = (turns != np.roll(turns, 1))[time[:, :LOOK_BACK] % len(cycle)]
    boundaries[:, 0] = False
    signal = cycle[time % len(cycle)]
    return _noisy(signal[:, :LOOK_BACK], signal[:, LOOK_BACK:], 0.15, boundaries, generator)


def _compositions(
    windows: int, parts: int, total: int, least: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """``parts`` lengths >= ``least`` that sum to ``total``, equally likely; [window, part].

    Stars and bars: the bars are at a random subset of places among the steps to spare.
    """
    spare = total - parts * least
    places = spare + parts - 1
    bars = np.sort(generator.random((windows, places)).argsort(axis=1)[:, : parts - 1], axis=1)
    fences = np.hstack([np.full((windows, 1), -1), bars, np.full((windows, 1), places)])
    return np.diff(fences, axis=1) - 1 + least


def _stepping_levels(windows: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """N(0, 1) levels, each drawn again until it differs by ``STEP`` from the one before."""
    levels = generator.standard_normal((windows, SEGMENTS))
    for j in range(1, SEGMENTS):
        while len(close := np.flatnonzero(np.abs(levels[:, j] - levels[:, j - 1]) < STEP)):
            levels[close, j] = generator.standard_normal(len(close))
    return levels


def _falling_and_rising_levels(
    windows: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    """N(0, 1) levels, two a segment, which fall and rise by turns by ``STEP`` or more.

    Each is drawn under that condition on the one before, so that falls and rises have one law.
    """
    from scipy.special import ndtr, ndtri  # here: whoever only asks for names need not load scipy

    levels = generator.standard_normal((windows, SETTLED + 2 * SEGMENTS))
    share = generator.random(levels.shape)
    for j in range(1, levels.shape[1]):
        sign = 1 if j % 2 else -1  # a rise is a fall upside down
        levels[:, j] = sign * ndtri(share[:, j] * ndtr(sign * levels[:, j - 1] - STEP))
    return levels[:, SETTLED:]


def _staircase(
    levels: NDArray[np.float64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Look-backs of flat segments, one after another, and where each but the first starts."""
    boundaries = np.zeros((len(levels), LOOK_BACK), dtype=np.bool_)
    np.put_along_axis(boundaries, np.cumsum(lengths, axis=1)[:, :-1], True, axis=1)
    return np.take_along_axis(levels, np.cumsum(boundaries, axis=1), axis=1), boundaries


def _nowhere(windows: int) -> NDArray[np.bool_]:
    return np.zeros((windows, LOOK_BACK), dtype=np.bool_)


def _noisy(
    past: NDArray[np.float64],
    future: NDArray[np.float64],
    noise: float,
    boundaries: NDArray[np.bool_],
    generator: np.random.Generator,
) -> Planted:
    values = np.hstack([past, future])
    return Planted(values + noise * generator.standard_normal(values.shape), boundaries)


FAMILIES: dict[str, Family] = {
    "ordinal": Family(_ordinal, seeds=(1, 11, 21), least=0.8),
    "bursts": Family(_bursts, seeds=(2, 12, 22), least=0.4),
    # Detectors of edges close less than a tenth: that is what this family is there to show.
    "decoys": Family(_decoys, seeds=(6, 16, 26), least=0.5),
    "const": Family(_const, seeds=(3,), margin=(-2, 2)),
    # Nothing can be better than a regular grid here, and moving edges cost something: hence the
    # two sides differ. Random boundaries cost 13 %.
    "sinus": Family(_sinus, seeds=(4,), margin=(-3, 10)),
    "levels": Family(_levels, seeds=(5,)),
}
"""The families. Their seeds are part of the data sets: another seed is another data set."""

_DATASETS = {
    family + (f"-{number}" if number > 1 else ""): (family, seed)
    for family, found in FAMILIES.items()
    for number, seed in enumerate(found.seeds, 1)
}
