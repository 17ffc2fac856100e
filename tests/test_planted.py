"""Planted series are what they say: the future is the stated function of the true segments."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.data.planted import (
    DURATIONS,
    FAMILIES,
    HORIZON,
    LEVELS,
    LOOK_BACK,
    Planted,
    family_of,
    names,
    plant,
)

WINDOWS = 4000


def draw(family: str) -> Planted:
    """Fewer windows than the data set has, from its own seed."""
    return plant(family, WINDOWS)


def segments(planted: Planted) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and lengths [window, segment] of families with equally many segments a window."""
    starts = np.nonzero(planted.boundaries)[1].reshape(len(planted.values), -1)
    edges = np.pad(starts, ((0, 0), (1, 1)), constant_values=((0, 0), (0, LOOK_BACK)))
    return edges[:, :-1], np.diff(edges, axis=1)


def means(planted: Planted) -> NDArray[np.float64]:
    """The mean of every true segment [window, segment]: an estimate of its level."""
    starts, lengths = segments(planted)
    totals = np.pad(planted.values[:, :LOOK_BACK].cumsum(axis=1), ((0, 0), (1, 0)))
    edges = (np.take_along_axis(totals, at, axis=1) for at in (starts + lengths, starts))
    level: NDArray[np.float64] = np.subtract(*edges) / lengths
    return level


def future(planted: Planted) -> NDArray[np.float64]:
    """What is to be forecast [window, HORIZON]."""
    return planted.values[:, LOOK_BACK:]


@pytest.mark.parametrize("name", names())
def test_a_data_set_is_the_same_to_the_last_digit_each_time(name: str) -> None:
    """One seed a data set: two draws agree in every digit, another seed in next to none."""
    first, again, other = draw(name), draw(name), plant(name, WINDOWS, seed=99)
    assert first.values.tobytes() == again.values.tobytes()
    assert np.array_equal(first.boundaries, again.boundaries)
    assert np.mean(first.values == other.values) < 0.01


def test_a_data_set_names_its_family_and_has_a_seed_of_its_own() -> None:
    """A family's sets are the same kind drawn again; an instrument that learns has three."""
    assert family_of("ordinal") == ("ordinal", 1)
    assert family_of("decoys-3") == ("decoys", FAMILIES["decoys"].seeds[2])
    assert len({family_of(name)[1] for name in names()}) == len(names())
    for family, instrument in FAMILIES.items():
        assert len(instrument.seeds) == (3 if instrument.least is not None else 1), family
        assert instrument.least is None or instrument.margin is None
    assert np.mean(draw("ordinal").values == draw("ordinal-2").values) < 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_windows_have_the_stated_shape_and_no_boundary_at_their_first_step(family: str) -> None:
    """A window is a look-back and a future; step 0 needs no boundary, and nothing repeats."""
    planted = draw(family)
    assert planted.values.shape == (WINDOWS, LOOK_BACK + HORIZON)
    assert planted.boundaries.shape == (WINDOWS, LOOK_BACK)
    assert not planted.boundaries[:, 0].any()
    assert len(np.unique(planted.values[:, 0])) == WINDOWS


def test_ordinal_segments_are_long_enough_and_differ() -> None:
    """Twelve segments of at least 3 steps, the levels of neighbours at least 0.5 apart."""
    planted = draw("ordinal")
    _, lengths = segments(planted)
    assert lengths.shape == (WINDOWS, 12)
    assert lengths.min() == 3
    step = np.diff(means(planted), axis=1)
    error = 0.15 * np.sqrt(1 / lengths[:, 1:] + 1 / lengths[:, :-1])
    assert (np.abs(step) > 0.5 - 5 * error).all()
    assert np.mean(np.abs(step) < 0.5) < 0.05


def test_ordinal_lengths_are_uniform_among_compositions() -> None:
    """Every composition is equally likely: lengths have the same distribution at every place."""
    _, lengths = segments(draw("ordinal"))
    spare = LOOK_BACK - 12 * 3
    shortest = (12 - 1) / (spare + 12 - 1)  # the share of compositions with no extra step there
    assert np.abs((lengths == 3).mean(axis=0) - shortest).max() < 0.03
    assert np.abs(lengths.mean(axis=0) - 8).max() < 0.5


def test_ordinal_future_follows_from_the_levels_in_order() -> None:
    """Block j is (level j + level j+6) / sqrt 2: true levels leave the noise floor, 0.0225."""
    planted = draw("ordinal")
    level = means(planted)
    forecast = np.repeat((level[:, :6] + level[:, 6:]) / np.sqrt(2), 4, axis=1)
    blocks = (future(planted) - forecast).reshape(WINDOWS, 6, 4)
    assert blocks.var(axis=2, ddof=1).mean() == pytest.approx(0.0225, rel=0.03)
    extra = 0.0225 / 2 * (1 / segments(planted)[1][:, :6] + 1 / segments(planted)[1][:, 6:])
    assert np.mean(blocks**2) == pytest.approx(0.0225 + extra.mean(), rel=0.03)


def test_bursts_are_two_events_of_four_chips_on_a_flat_background() -> None:
    """Gaps of at least 3 steps, chips of exactly 3, background zero but for the noise."""
    planted = draw("bursts")
    _, lengths = segments(planted)
    chips = [1, 2, 3, 4, 6, 7, 8, 9]
    gaps = [0, 5, 10]
    assert lengths.shape == (WINDOWS, 11)
    assert (lengths[:, chips] == 3).all()
    assert lengths[:, gaps].min() == 3
    assert np.abs(lengths[:, gaps].mean(axis=0) - 24).max() < 1
    assert (np.abs(means(planted)[:, gaps]) < 5 * 0.1 / np.sqrt(lengths[:, gaps])).all()
    assert means(planted)[:, chips].std() == pytest.approx(1, rel=0.03)


def test_bursts_future_is_the_sum_of_both_events() -> None:
    """Block j is (chip j + chip j) / sqrt 2 of the two events, noise floor 0.01."""
    planted = draw("bursts")
    level = means(planted)
    forecast = np.repeat((level[:, 1:5] + level[:, 6:10]) / np.sqrt(2), 6, axis=1)
    blocks = (future(planted) - forecast).reshape(WINDOWS, 4, 6)
    assert blocks.var(axis=2, ddof=1).mean() == pytest.approx(0.01, rel=0.03)
    assert np.mean(blocks**2) == pytest.approx(0.01 + 0.01 / 3, rel=0.03)


def test_decoys_future_follows_from_the_means_of_whole_segments() -> None:
    """Block j is the mean of segment j + that of j+6, whatever falls within: floor 0.0225."""
    planted = draw("decoys")
    mean, lengths = means(planted), segments(planted)[1]
    assert lengths.shape == (WINDOWS, 12)
    assert lengths.min() == 4
    blocks = (future(planted) - np.repeat(mean[:, :6] + mean[:, 6:], 4, axis=1)).reshape(-1, 6, 4)
    assert blocks.var(axis=2, ddof=1).mean() == pytest.approx(0.0225, rel=0.03)
    extra = 0.0225 * (1 / lengths[:, :6] + 1 / lengths[:, 6:])
    assert np.mean(blocks**2) == pytest.approx(0.0225 + extra.mean(), rel=0.03)


def test_decoys_are_known_by_their_direction_and_not_by_their_size() -> None:
    """Every true boundary is a rise; the falls, one a segment, are as large."""
    planted = draw("decoys")
    change = np.diff(planted.values[:, :LOOK_BACK], axis=1, prepend=-np.inf)
    rises = change[planted.boundaries].reshape(WINDOWS, 11)
    noise = 0.15 * np.sqrt(2)
    assert rises.min() > 0.5 - 6 * noise
    starts = segments(planted)[0] + LOOK_BACK * np.arange(WINDOWS)[:, None]
    change[planted.boundaries] = np.inf
    falls = -np.minimum.reduceat(change.ravel(), starts.ravel()).reshape(WINDOWS, 12)
    assert falls.min() > 0.5 - 6 * noise
    # Beside noise, because a fall is found as the largest one of its segment.
    assert np.abs(rises.mean(axis=0) - falls[:, 1:].mean(axis=0)).max() < 0.06
    assert rises.std() == pytest.approx(falls.std(), rel=0.03)


def test_a_detector_of_edges_spends_half_of_its_boundaries_on_decoys() -> None:
    """Of the 11 largest jumps about half are true boundaries."""
    planted = draw("decoys")
    jump = np.abs(np.diff(planted.values[:, :LOOK_BACK], axis=1))
    largest = np.argsort(jump, axis=1)[:, -11:] + 1
    hits = np.take_along_axis(planted.boundaries, largest, axis=1)
    assert hits.mean() == pytest.approx(0.5, abs=0.03)


def test_controls_have_no_true_boundary() -> None:
    """Placement cannot matter where there is nothing to place."""
    assert not draw("const").boundaries.any()
    assert not draw("sinus").boundaries.any()


def test_const_is_a_level_and_noise() -> None:
    """Past and future share one N(0, 1) level; the rest is noise of 0.7."""
    planted = draw("const")
    assert planted.values.var(axis=1, ddof=1).mean() == pytest.approx(0.49, rel=0.02)
    assert planted.values.mean(axis=1).std() == pytest.approx(1, rel=0.05)


def test_sinus_goes_on_into_the_future() -> None:
    """The wave that fits the look-back best forecasts nearly to the floor, 0.09."""
    planted = plant("sinus", 50)
    steps = np.arange(LOOK_BACK + HORIZON)
    periods = np.linspace(46, 98, 209)
    errors = np.empty((len(periods), 50))
    residuals = np.empty((len(periods), 50, HORIZON))
    for i, period in enumerate(periods):
        basis = np.stack(
            [np.sin(2 * np.pi * steps / period), np.cos(2 * np.pi * steps / period)], 1
        )
        weights = np.linalg.lstsq(basis[:LOOK_BACK], planted.values[:, :LOOK_BACK].T)[0]
        residual = planted.values.T - basis @ weights
        errors[i] = (residual[:LOOK_BACK] ** 2).mean(axis=0)
        residuals[i] = residual[LOOK_BACK:].T
    best = residuals[errors.argmin(axis=0), np.arange(50)]
    assert errors.min(axis=0).mean() == pytest.approx(0.09, rel=0.1)
    assert np.mean(best**2) < 0.12


def test_levels_name_their_durations_and_their_successor() -> None:
    """A whole segment lasts as its level says, and two levels in a row name the third."""
    planted = draw("levels")
    after: dict[tuple[int, int], set[int]] = {}
    for row, marks in zip(planted.values[:200], planted.boundaries[:200], strict=True):
        edges = np.flatnonzero(marks)
        inner = [row[a:b].mean() for a, b in pairwise(edges)]
        states = [int(np.abs(LEVELS - mean).argmin()) for mean in inner]
        assert np.diff(edges).tolist() == DURATIONS[states].tolist()
        for a, b, c in zip(states, states[1:], states[2:], strict=False):
            after.setdefault((a, b), set()).add(c)
    assert len(after) == 20
    assert all(len(following) == 1 for following in after.values())


def test_bad_requests_are_refused() -> None:
    """An unknown family and an empty draw say what would be right."""
    with pytest.raises(ValueError, match=r"'ordinals'; did you mean 'ordinal'\?"):
        plant("ordinals")
    with pytest.raises(ValueError, match="1 or more"):
        plant("ordinal", 0)
