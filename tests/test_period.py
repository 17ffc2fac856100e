"""Patches on the period: the right period, boundaries at its multiples, K whole patches."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.core.task import Task
from harness.model.patcher import Rows
from methods.period import Period


def wave(period: float, steps: int = 96, peak: float = 0.0) -> Tensor:
    """A cosine with a peak at this time, which counts from the start of step 0."""
    clock = torch.arange(steps, dtype=torch.float64) + 0.5
    return (2 * math.pi * (clock - peak) / period).cos().float()


def starts(row: Tensor, patches: int, **settings: str) -> list[int]:
    task = Task("x", len(row), 4, patches)
    return Period(task, **settings)(Rows(row[None], torch.arange(1))).start[0].tolist()


@pytest.mark.parametrize(
    ("patches", "expected"),
    [
        (1, [0]),
        (2, [0, 48]),
        (3, [0, 48, 72]),  # the earliest patch has two cycles
        (4, [0, 24, 48, 72]),
        (6, [0, 24, 48, 60, 72, 84]),  # the latest two cycles have two parts
        (8, [0, 12, 24, 36, 48, 60, 72, 84]),
        (9, [0, 12, 24, 36, 48, 60, 72, 80, 88]),
        (96, list(range(96))),
    ],
)
def test_boundaries_are_at_cycles_or_at_equal_parts_of_them(
    patches: int, expected: list[int]
) -> None:
    """Four cycles of 24 steps, whatever K."""
    assert starts(wave(24), patches) == expected


def test_what_is_left_of_a_cycle_goes_to_the_first_one() -> None:
    """100 steps: a first cycle of 28; 110 steps: one of 14 of its own."""
    assert starts(wave(24, 100), 4) == [0, 28, 52, 76]
    assert starts(wave(24, 110), 5) == [0, 14, 38, 62, 86]


def test_a_period_that_is_no_whole_number_is_not_rounded() -> None:
    """Ten cycles of 20.5 steps end where they should, to within a step."""
    ends = [205 - 20.5 * cycle for cycle in range(9, 0, -1)]
    got = starts(wave(20.5, 205), 10)[1:]
    assert max(abs(a - b) for a, b in zip(got, ends, strict=True)) <= 1


@pytest.mark.parametrize("second", [0.0, 0.9, 1.2])
def test_a_strong_harmonic_is_not_taken_for_the_period(second: float) -> None:
    """Nor are twice the period and a half of it, for narrow peaks with many harmonics."""
    row = wave(24, 192) + second * wave(12, 192, peak=3)
    assert starts(row, 8) == list(range(0, 192, 24))
    peaks = (torch.arange(192) % 24 == 5).float()
    assert starts(peaks, 8) == list(range(0, 192, 24))


def test_a_trend_is_no_period() -> None:
    """A steep line under the wave changes nothing."""
    assert starts(wave(24) + torch.linspace(0, 20, 96), 4) == [0, 24, 48, 72]


@pytest.mark.parametrize("peak", [3, 11, 12, 13, 20])
def test_phase_peak_starts_cycles_at_peaks(peak: int) -> None:
    """Every boundary of one patch a cycle is at a peak; those near the ends are left out."""
    inner = starts(wave(24, 192, peak=peak), 8, phase="peak")[1:]
    assert [step % 24 for step in inner] == [peak] * 7
    assert inner[0] >= 12
    assert inner[-1] <= 180


def test_scope_data_takes_one_period_for_all_rows() -> None:
    """That of most training rows, and whatever the row itself has; it travels with the weights."""
    task = Task("x", 96, 4, 5)
    patcher = Period(task, scope="data")
    training = torch.stack([wave(16, peak=peak) for peak in range(6)] + [wave(40)])
    patcher.prepare(iter([training]))
    other = Period(task, scope="data")
    other.load_state_dict(patcher.state_dict())
    for own in (patcher, other):
        plan = own(Rows(wave(24)[None], torch.arange(1)))
        assert plan.start[0].tolist() == [0, 32, 48, 64, 80]
    assert starts(wave(24), 5) == [0, 24, 48, 72, 84]


def test_scope_row_learns_nothing_from_training_rows() -> None:
    """Its period is the row's own."""
    patcher = Period(Task("x", 96, 4, 4))
    patcher.prepare(iter([wave(16)[None]]))
    assert patcher(Rows(wave(24)[None], torch.arange(1))).start[0].tolist() == [0, 24, 48, 72]


def test_a_flat_row_has_equal_patches() -> None:
    """And so has a look-back too short for two cycles of anything."""
    assert starts(torch.ones(48), 5) == [0, 10, 19, 29, 38]
    assert starts(torch.randn(3), 3) == [0, 1, 2]


@given(
    look_back=st.integers(1, 60),
    part=st.floats(0, 1),
    phase=st.sampled_from(["end", "peak"]),
    seed=st.integers(0, 1000),
)
def test_rows_of_noise_have_k_whole_patches(
    look_back: int, part: float, phase: str, seed: int
) -> None:
    """For every K from 1 to the look-back, whatever period comes out."""
    task = Task("x", look_back, 4, 1 + round(part * (look_back - 1)))
    values = torch.randn(20, look_back, generator=torch.Generator().manual_seed(seed))
    plan = Period(task, phase=phase)(Rows(values, torch.arange(20)))
    assert (plan.length >= 1).all()
    assert (plan.length.sum(1) == look_back).all()


@pytest.mark.parametrize(("name", "value"), [("scope", "all"), ("phase", "start")])
def test_period_refuses_what_it_does_not_know(name: str, value: str) -> None:
    """The message lists what is allowed."""
    with pytest.raises(ValueError, match=f"{name} is '{value}'; allowed: "):
        starts(wave(24), 4, **{name: value})
