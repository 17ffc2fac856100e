"""Detectors by name: what they find, and exactly K patches from whatever it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.core.task import Task
from harness.model.patcher import Rows
from methods import detector
from methods.detector import Detector
from methods.l2_optimal import L2Optimal

TRUE = [0, 7, 20, 31, 44, 58]
RUPTURES = ["Binseg", "BottomUp", "Dynp", "KernelCPD", "Pelt"]


def levels(noise: float = 0.05, count: int = 2) -> Tensor:
    """Rows of 64 steps that change their level at the same five places."""
    source = torch.Generator().manual_seed(0)
    height = torch.tensor([0.0, 3.0, -1.0, 2.0, -2.0, 1.0])
    row = height.repeat_interleave(torch.tensor([*TRUE[1:], 64]) - torch.tensor(TRUE))
    return row + noise * torch.randn(count, 64, generator=source)


def starts(
    values: Tensor, name: str, patches: int = 6, *, cost: str = "l2", window: int = 16
) -> list[list[int]]:
    task = Task("x", values.shape[1], 4, patches)
    patcher = Detector(task, detector=name, cost=cost, window=window)
    return patcher(Rows(values, torch.arange(len(values)))).start.tolist()


@pytest.mark.parametrize("name", RUPTURES)
def test_detectors_of_ruptures_find_clear_changes(name: str) -> None:
    """All five, exactly."""
    assert starts(levels(), f"ruptures.{name}") == [TRUE, TRUE]


def test_a_window_compares_as_many_steps_as_it_is_told() -> None:
    """Narrow enough for the shortest segment it finds all five; a wide one overlooks some."""
    assert starts(levels(), "ruptures.Window", window=8) == [TRUE, TRUE]
    assert starts(levels(), "ruptures.Window", window=32) != [TRUE, TRUE]


@pytest.mark.parametrize("name", ["BinarySegmentation", "SeededBinarySegmentation"])
def test_detectors_of_sktime_find_clear_changes(name: str) -> None:
    """As first steps of segments, whichever of the two steps the detector itself names."""
    assert starts(levels(count=1), f"sktime.{name}") == [TRUE]


def test_pelt_and_kernel_detection_are_optimal() -> None:
    """On noise, the same patches as the dynamic programme; Pelt only where a penalty gives K."""
    values = torch.randn(4, 40, generator=torch.Generator().manual_seed(0))
    best = [
        L2Optimal(Task("x", 40, 4, patches))(Rows(values, torch.arange(4))).start.tolist()
        for patches in (3, 5)
    ]
    assert starts(values, "ruptures.KernelCPD", 5) == best[1]
    assert starts(values, "ruptures.Pelt", 3) == best[0]
    # No penalty gives five patches of the first row: six, and the weakest boundary dropped.
    assert starts(values, "ruptures.Pelt", 5)[1:] == best[1][1:]


def test_the_fast_squared_error_is_that_of_ruptures() -> None:
    """For every segment, on values far from 0, too."""
    import ruptures

    values = 5 + np.random.default_rng(0).normal(size=20)
    fast = detector._squared_error(ruptures.base.BaseCost)().fit(values)
    theirs = ruptures.costs.CostL2().fit(values)
    for start in range(20):
        for end in range(start + 1, 21):
            assert fast.error(start, end) == pytest.approx(theirs.error(start, end), abs=1e-9)


def test_another_cost_is_handed_on() -> None:
    """The cost "l1" of ruptures does not cut at an outlier where the squared error does."""
    row = levels(noise=0.0, count=1)[:, :31].clone()
    row[0, 12] = 30.0
    assert 12 in starts(row, "ruptures.Binseg", 3)[0]
    assert starts(row, "ruptures.Binseg", 3, cost="l1") == [TRUE[:3]]


def test_too_many_change_points_lose_the_weakest() -> None:
    """One after another: the small step first, then the one between the shortest segments."""
    row = np.repeat([0.0, 5.0, 5.5, 0.0], [8, 8, 8, 2])
    assert detector.exactly([24, 16, 8], row, 3) == [0, 8, 24]
    assert detector.exactly([24, 16, 8], row, 2) == [0, 8]
    assert detector.exactly([0, 8, 8, 26], row, 2) == [0, 8]


def test_too_few_change_points_are_filled_up() -> None:
    """The longest patch is halved, the earliest of equally long ones first."""
    row = np.zeros(32)
    assert detector.exactly([], row, 4) == [0, 8, 16, 24]
    assert detector.exactly([24], row, 4) == [0, 6, 12, 24]
    assert detector.exactly([], row, 32) == list(range(32))


def stairs(steps: Sequence[tuple[float, int]]) -> Callable[[float], list[int]]:
    """A detector that finds so many change points under penalties below each limit."""

    def detect(penalty: float) -> list[int]:
        return list(range(1, 1 + next((many for limit, many in steps if penalty < limit), 0)))

    return detect


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_bisection_finds_the_penalty(scale: float) -> None:
    """Exactly as many where some penalty gives them, whatever its size."""
    detect = stairs([(scale * 0.1, 40), (scale * 0.7, 12), (scale, 7), (scale * 2, 3)])
    assert len(detector.by_bisection(detect, 7)) == 7
    assert len(detector.by_bisection(detect, 3)) == 3


def test_bisection_makes_do_where_no_penalty_fits() -> None:
    """The fewest that are too many; or, if there are never enough, all there are."""
    detect = stairs([(0.1, 40), (0.7, 12), (2.0, 3)])
    assert len(detector.by_bisection(detect, 7)) == 12
    assert len(detector.by_bisection(detect, 50)) == 40
    assert detector.by_bisection(stairs([]), 5) == []


def test_rows_without_a_change_have_k_patches() -> None:
    """A constant row, under a detector with a number and one with a penalty; and K = 1."""
    for name in ("ruptures.Binseg", "ruptures.Pelt"):
        assert len(starts(torch.zeros(1, 20), name, 5)[0]) == 5
        assert starts(levels(), name, 1) == [[0], [0]]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "Binseg"}, "a class of ruptures or of sktime is needed"),
        ({"name": "aeon.ClaSP"}, "a class of ruptures or of sktime is needed"),
        ({"name": "ruptures.Pelz"}, "ruptures has no detector 'Pelz'; known: Binseg, BottomUp"),
        ({"name": "ruptures.Binseg", "cost": "l3"}, "with cost 'l3' does not work"),
        ({"name": "sktime.Pelz"}, "sktime has no change-point detector 'Pelz'; known: "),
        ({"name": "sktime.ZeroChangePoints"}, "has neither a penalty nor a threshold"),
        ({"name": "sktime.BinarySegmentation", "cost": "l1"}, "with their own cost"),
        ({"name": "ruptures.Window", "window": 1}, "window is 1"),
    ],
)
def test_detector_says_what_it_cannot_use(settings: dict[str, Any], said: str) -> None:
    """Before any row is seen."""
    with pytest.raises(ValueError, match=said):
        starts(levels(), **settings)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that brings it."""
    monkeypatch.setitem(sys.modules, "ruptures", None)
    with pytest.raises(ValueError, match="ruptures is not installed; `pip install ruptures`"):
        Detector(Task("x", 48, 12, 6))
