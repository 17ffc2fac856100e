"""What is peculiar to the controls that cut by a rule; what all methods share: test_checks.py."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch import Tensor

from harness.core.task import Architecture, Task
from harness.model.forecaster import PatchForecaster
from harness.model.patcher import Patches, Rows
from harness.model.registry import kind
from methods.l2_optimal import L2Optimal
from methods.phase_shift import PhaseShift
from methods.uniform import Uniform
from methods.uniform_best import UniformBest
from methods.uniform_identity import UniformIdentity

SMALL = Architecture(width=8, layers=1, heads=2, feedforward=16)


def rows(values: Tensor, generator: torch.Generator | None = None) -> Rows:
    return Rows(values, torch.arange(len(values)), generator=generator)


def task(look_back: int, patches: int) -> Task:
    return Task("x", look_back, 12, patches)


def squared_error(row: Tensor, start: list[int]) -> float:
    """Around the mean of each segment, in float64."""
    parts = row.double().tensor_split(start[1:])
    return sum(float((part - part.mean()).square().sum()) for part in parts)


def enumerated(row: Tensor, patches: int) -> list[list[int]]:
    """Every way to cut a row, the earliest last boundary first."""
    cuts = combinations(range(1, len(row)), patches - 1)
    return [[0, *inner] for inner in sorted(cuts, key=lambda inner: inner[::-1])]


@pytest.mark.parametrize("patches", [1, 2, 3, 5, 9])
def test_l2_optimal_is_the_best_of_all_ways_to_cut(patches: int) -> None:
    """On noise, walks and levels with ties, the first of the best of an enumeration."""
    source = torch.Generator().manual_seed(patches)
    noise = torch.randn(12, 9, generator=source)
    levels = torch.randint(3, (12, 9), generator=source).float()
    values = torch.cat([noise, noise.cumsum(1), levels])
    plans = L2Optimal(task(9, patches))(rows(values)).start.tolist()
    for row, plan in zip(values, plans, strict=True):
        errors = [squared_error(row, start) for start in enumerated(row, patches)]
        assert squared_error(row, plan) == pytest.approx(min(errors), abs=1e-6)
        first = next(i for i, error in enumerate(errors) if error < min(errors) + 1e-9)
        assert plan == enumerated(row, patches)[first]


def test_l2_optimal_finds_the_levels_of_a_long_row() -> None:
    """In more rows than are planned at once, each with steps at places of its own."""
    source = torch.Generator().manual_seed(0)
    inner = torch.rand(70, 199, generator=source).topk(7).indices.sort().values + 1
    levels = (torch.arange(200) >= inner[..., None]).sum(1)
    values = levels % 2 * 3.0 + 0.1 * torch.randn(70, 200, generator=source)
    plans = L2Optimal(task(200, 8))(rows(values)).start
    # One step alone is moved only where the noise says so.
    assert (plans[:, 1:] == inner).float().mean() > 0.99


def test_l2_optimal_cuts_a_constant_row_at_its_first_steps() -> None:
    """All segmentations are equal there: the earliest boundaries, and no patch is empty."""
    assert L2Optimal(task(20, 4))(rows(torch.zeros(1, 20))).start[0].tolist() == [0, 1, 2, 3]


def test_l2_optimal_leaves_no_patch_empty_where_rounding_decides() -> None:
    """With more patches than levels most cuts are free, and errors are 0 but for noise."""
    source = torch.Generator().manual_seed(0)
    values = 0.1 * torch.randint(3, (200, 40), generator=source).sort().values
    assert L2Optimal(task(40, 30))(rows(values)).length.min() == 1


def test_phase_shift_moves_equal_patches_by_up_to_half_of_one() -> None:
    """Every whole step in (-P/2, P/2], each as often; only the first and last length change."""
    lengths = PhaseShift(task(48, 6))(rows(torch.zeros(8000, 48))).length
    assert (lengths[:, 1:-1] == 8).all()
    assert (lengths[:, 0] + lengths[:, -1] == 16).all()
    moves, counts = (lengths[:, 0] - 8).unique(return_counts=True)
    assert moves.tolist() == [-3, -2, -1, 0, 1, 2, 3, 4]
    assert (counts - 1000).abs().max() < 150


def test_phase_shift_is_drawn_anew_in_training_and_by_row_in_evaluation() -> None:
    """Two steps move a row differently; asked twice in evaluation it moves the same."""
    patcher, values = PhaseShift(task(48, 6)), torch.zeros(20, 48)
    generator = torch.Generator().manual_seed(0)
    first, second = (patcher(rows(values, generator)).start for _ in range(2))
    assert not torch.equal(first, second)
    assert torch.equal(patcher(rows(values)).start, patcher(rows(values)).start)
    assert len(patcher(rows(values)).start.unique(dim=0)) > 1


class Extreme(Rows):
    """Rows whose draws are all the same number, an end of the range included."""

    drawn = 0.0

    def uniform(self, columns: int) -> Tensor:
        return torch.full((len(self.ids), columns), self.drawn)


@pytest.mark.parametrize("drawn", [0.0, 0.5, 1.0])
def test_phase_shift_leaves_no_patch_empty_whatever_is_drawn(drawn: float) -> None:
    """For every K from one patch to one a step, at both ends of the draw."""
    for look_back in (8, 9, 50):
        for patches in range(1, look_back + 1):
            extreme = Extreme(torch.zeros(1, look_back), torch.zeros(1, dtype=torch.long))
            object.__setattr__(extreme, "drawn", drawn)
            lengths = PhaseShift(task(look_back, patches))(extreme).length
            assert lengths.min() >= 1
            assert (lengths[:, 0] - look_back / patches).abs() < 1 + look_back / patches / 2


def plan(look_back: int, patches: int, patch: int) -> Patches:
    """The patches of ``uniform_best``."""
    return UniformBest(task(look_back, patches), patch=patch)(rows(torch.zeros(2, look_back)))


def test_uniform_best_has_patches_of_its_own_length() -> None:
    """As many as fit, the later ones longer where some steps are left; 0 is the task's K."""
    assert plan(48, 6, patch=4).length[1].tolist() == [4] * 12
    assert plan(50, 6, patch=16).length[1].tolist() == [16, 17, 17]
    assert plan(48, 6, patch=48).length[1].tolist() == [48]
    own = Uniform(task(50, 7))(rows(torch.zeros(2, 50)))
    assert torch.equal(plan(50, 7, patch=0).start, own.start)
    assert torch.equal(plan(50, 7, patch=0).length, own.length)


@pytest.mark.parametrize("patch", [-1, 49])
def test_uniform_best_refuses_a_length_that_cannot_be(patch: int) -> None:
    """The message says which lengths can."""
    with pytest.raises(ValueError, match=f"patch is {patch}; a length from 1 to 48, or 0 for K"):
        UniformBest(task(48, 6), patch=patch)


def test_uniform_best_at_the_tasks_own_length_forecasts_as_uniform() -> None:
    """The same shared layers, fed the same patches, say the same."""
    past, ids = torch.randn(2, 3, 48), torch.arange(6).view(2, 3)
    forecasts = []
    for patcher in (Uniform(task(48, 6)), UniformBest(task(48, 6), patch=8)):
        torch.manual_seed(0)
        forecasts.append(PatchForecaster(task(48, 6), SMALL, patcher).eval()(past, ids).future)
    assert torch.equal(*forecasts)


def test_uniform_identity_is_the_shared_forecaster_without_its_backbone() -> None:
    """On equal patches, with the suite's embedder and head, and no weight in between."""
    place = task(48, 6)
    torch.manual_seed(0)
    own = UniformIdentity(place, SMALL).eval()
    torch.manual_seed(0)
    other = PatchForecaster(place, replace(SMALL, backbone="identity"), Uniform(place)).eval()
    past, ids = torch.randn(4, 2, 48), torch.arange(8).view(4, 2)
    assert torch.equal(own(past, ids).future, other(past, ids).future)
    assert not list(own.backbone.parameters())
    assert kind(UniformIdentity) == "reference"
