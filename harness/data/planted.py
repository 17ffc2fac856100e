"""Planted series: tasks in which it is known whether, and where, a patch boundary matters.

In *ordinal* and *bursts* the boundaries decide what a token keeps, so placing them well provably
helps; in *const* and *sinus* placement provably cannot help; *levels* is shown and never judged.
Every window is drawn independently: a look-back, and a future that is a given function of it, plus
noise. Values are about as large as standardised ones, so nothing is scaled.
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

SEGMENTS = 12  # of an ordinal look-back
SHORTEST = 3  # steps: the shortest segment of ordinal, the smallest gap of bursts, a chip
STEP = 0.5  # the smallest difference of two adjacent ordinal levels
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


def families() -> tuple[str, ...]:
    """The names that :func:`plant` knows."""
    return tuple(_FAMILIES)


def plant(family: str, windows: int = sum(WINDOWS), *, seed: int | None = None) -> Planted:
    """Draw independent windows of ``family``, from the seed of that family unless one is given.

    Raises:
        ValueError: an unknown family, or fewer windows than one.
    """
    if family not in _FAMILIES:
        raise ValueError(unknown("planted family", family, _FAMILIES))
    if windows < 1:
        raise ValueError(f"{windows} windows of {family!r} were asked for; 1 or more are needed")
    draw, own_seed = _FAMILIES[family]
    return draw(windows, np.random.default_rng(own_seed if seed is None else seed))


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


# A family and its seed. The seeds are part of the data sets: another seed is another data set.
_FAMILIES: dict[str, tuple[Callable[[int, np.random.Generator], Planted], int]] = {
    "ordinal": (_ordinal, 1),
    "bursts": (_bursts, 2),
    "const": (_const, 3),
    "sinus": (_sinus, 4),
    "levels": (_levels, 5),
}
