"""Synthetic series to pre-train on: drawn, so that no target can be among them.

Six kinds, as often as each other: sums of Gaussian processes, trend with seasons and noise, steps
between levels, bursts on a quiet background, regimes of different behaviour, and walks that drift
and grow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.core.identity import folder_hash

LENGTH = 1024
"""Steps of every series."""

PERIODS = (4, 7, 12, 24, 48, 52, 96, 144, 168, 288)
"""Of seasons, in steps: those of calendars, at the usual sampling rates."""

FEATURES = 32  # random waves that make up a smooth process
SCALES = (4, 256)  # of its length, in steps

Array = NDArray[np.float64]
Generator = np.random.Generator


def draw(seed: int, number: int) -> NDArray[np.float32]:
    """Series ``number`` of a seed [time], in whatever order they are drawn."""
    generator = np.random.default_rng([seed, number])
    kind = KINDS[number % len(KINDS)]
    return kind(generator).astype(np.float32)


def identity(seed: int, count: int) -> str:
    """The hash of so many series of a seed: of what draws them, as last digits are a machine's."""
    return sha256(f"{_source()} {seed} {count}".encode()).hexdigest()


@cache
def _source() -> str:
    return folder_hash([Path(__file__)])


def processes(generator: Generator) -> Array:
    """A sum of one to four Gaussian processes, each linear, smooth, periodic or white."""
    kinds = (_linear, _smooth, _periodic, _white)
    chosen = generator.integers(len(kinds), size=generator.integers(1, 5))
    parts = [kinds[kind](generator) for kind in chosen]
    # White noise or a line alone would be nothing to learn from.
    if not {_smooth, _periodic} & {kinds[kind] for kind in chosen}:
        parts.append(_smooth(generator))
    return np.sum(parts, axis=0)


def trend_and_seasons(generator: Generator) -> Array:
    """A trend, one or two seasons, which may grow with the level, and noise."""
    time = np.arange(LENGTH) / LENGTH
    trend = generator.normal() * time + generator.normal() * time**2
    periods = generator.choice(PERIODS, size=generator.integers(1, 3), replace=False)
    season = np.sum([_season(generator, int(period)) for period in periods], axis=0)
    growth = np.exp(generator.uniform(-1, 1) * time) if generator.random() < 0.5 else 1.0
    noise = np.exp(generator.uniform(-6, -0.5)) * generator.normal(size=LENGTH)
    return generator.uniform(0, 3) * trend + growth * (season + noise)


def steps(generator: Generator) -> Array:
    """Levels of random lengths, with noise, and in half of the series a season on top."""
    levels = _held(generator, generator.normal(size=LENGTH), mean=int(generator.integers(8, 128)))
    season = _season(generator, int(generator.choice(PERIODS)))
    noise = generator.uniform(0.01, 0.3) * generator.normal(size=LENGTH)
    return levels + (generator.random() < 0.5) * generator.uniform(0.1, 1) * season + noise


def bursts(generator: Generator) -> Array:
    """A quiet background and sudden events that fade, at random or at regular intervals."""
    background = generator.uniform(0.02, 0.2) * (_smooth(generator) + _white(generator))
    gap = int(generator.integers(16, 160))
    if generator.random() < 0.5:
        starts = np.arange(generator.integers(gap), LENGTH, gap)
    else:
        starts = np.flatnonzero(generator.random(LENGTH) < 1 / gap)
    events = np.zeros(LENGTH)
    events[starts] = generator.exponential(size=len(starts)) + 0.5
    fading = np.exp(-np.arange(64) / generator.uniform(0.5, 12))
    return background + np.convolve(events, fading)[:LENGTH]


def regimes(generator: Generator) -> Array:
    """Two or three behaviours, each with its own period, level and noise, that take turns."""
    behaviours = np.stack(
        [
            generator.normal()
            + generator.uniform(0.2, 1.5) * _season(generator, int(period))
            + generator.uniform(0.02, 0.4) * generator.normal(size=LENGTH)
            for period in generator.choice(PERIODS, size=generator.integers(2, 4), replace=False)
        ]
    )
    states = generator.integers(len(behaviours), size=LENGTH).astype(np.float64)
    turns = _held(generator, states, mean=int(generator.integers(32, 256))).astype(np.int64)
    return behaviours[turns, np.arange(LENGTH)]


def walks(generator: Generator) -> Array:
    """A random walk with a drift and some momentum, which may grow by factors, and a season.

    As of economies: sales, prices and numbers of people, by month, quarter or year.
    """
    momentum, drift = generator.uniform(0, 0.95), generator.normal() * generator.exponential()
    shocks = generator.standard_t(4, size=LENGTH) * (1 - momentum)
    pace = _faded(generator.uniform(0, 1) * shocks, momentum) + generator.uniform(0, 0.5) * drift
    level = np.cumsum(pace)
    season = np.zeros(LENGTH)
    if generator.random() < 0.6:
        size = np.exp(generator.uniform(-1, 2.5))
        season = size * _season(generator, int(generator.choice((4, 7, 12, 12, 52))))
    noise = np.exp(generator.uniform(-5, 1)) * generator.normal(size=LENGTH)
    values = level + season + noise
    if generator.random() < 0.5:
        values = np.exp(generator.uniform(0.2, 3) * values / np.ptp(values))
    return values


KINDS: tuple[Callable[[Generator], Array], ...] = (
    processes,
    trend_and_seasons,
    steps,
    bursts,
    regimes,
    walks,
)


def _linear(generator: Generator) -> Array:
    slope, offset = generator.normal(size=2)
    return 3 * slope * np.linspace(-1, 1, LENGTH) + offset


def _white(generator: Generator) -> Array:
    return generator.uniform(0.05, 0.5) * generator.normal(size=LENGTH)


def _smooth(generator: Generator) -> Array:
    """A draw of the RBF kernel of a random length scale, as a sum of random waves.

    Rahimi & Recht 2007: the frequencies of the waves follow the kernel's spectrum, a normal
    distribution of standard deviation 1 / length scale.
    """
    scale = np.exp(generator.uniform(*np.log(SCALES)))
    frequency = generator.normal(size=(FEATURES, 1)) / scale
    phase = generator.uniform(0, 2 * np.pi, size=(FEATURES, 1))
    waves = np.cos(frequency * np.arange(LENGTH) + phase)
    return np.sqrt(2 / FEATURES) * generator.normal(size=FEATURES) @ waves


def _periodic(generator: Generator) -> Array:
    return generator.uniform(0.3, 1.5) * _season(generator, int(generator.choice(PERIODS)))


def _season(generator: Generator, period: int) -> Array:
    """A shape of that period, from a sine to many harmonics, of standard deviation 1."""
    harmonics = np.arange(1, max(2, min(period // 2, 12)))[:, None]
    weight = harmonics ** -generator.uniform(1, 3) * generator.normal(size=harmonics.shape)
    phase = generator.uniform(0, 2 * np.pi, size=harmonics.shape)
    waves = np.cos(2 * np.pi * harmonics * np.arange(LENGTH) / period + phase)
    shape = (weight * waves).sum(0)
    return shape / shape.std()


def _faded(values: Array, kept: float) -> Array:
    """Sums of all values so far, of which each step keeps a share."""
    reach = np.arange(min(LENGTH, 256))
    return np.convolve(values, kept**reach)[:LENGTH]


def _held(generator: Generator, values: Array, mean: int) -> Array:
    """Values of which each is held for a random number of steps, of that mean."""
    change = generator.random(LENGTH) < 1 / mean
    return values[np.maximum.accumulate(np.where(change, np.arange(LENGTH), 0))]
