"""Boundaries moved elsewhere and held against true ones, and what an evaluation says of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from sktime.performance_metrics.detection import EventTPR
from torch import Tensor

from harness import evaluate as evaluation
from harness import synthetic
from harness.boundaries import TOLERANCES, Agreement, matches, of_next_channel, permuted
from harness.evaluate import evaluate
from harness.forecaster import PatchForecaster
from harness.patcher import Patcher, Patches, Rows, from_scores, from_starts
from harness.series import Series
from harness.task import Architecture, Budget, Task
from harness.windows import Windows
from methods.oracle import Oracle
from methods.random_step import RandomStep
from methods.repeat_last import RepeatLast
from methods.straight_through import StraightThrough
from methods.uniform import Uniform

TASK = Task("planted", synthetic.LOOK_BACK, synthetic.HORIZON, patches=12)
SMALL = Architecture(width=8, layers=1, heads=2, feedforward=16)
BUDGET = Budget()
COUNT = 23  # windows, odd


def drawn(rows: int, look_back: int = 30, patches: int = 6, seed: int = 0) -> Patches:
    """Random boundaries."""
    generator = torch.Generator().manual_seed(seed)
    return from_scores(torch.rand(rows, look_back - 1, generator=generator), patches)


def marks(rows: int, look_back: int = 30, share: float = 0.2, seed: int = 1) -> Tensor:
    """Random true boundaries, step 0 among them at times."""
    return torch.rand(rows, look_back, generator=torch.Generator().manual_seed(seed)) < share


def partly_empty() -> Patches:
    """Four slots, of which the second does not count; each patch has a gate of its own."""
    length = torch.tensor([[4, 0, 7, 1]])
    return Patches(
        start=length.cumsum(1) - length,
        length=length,
        valid=length > 0,
        gain=10.0 * length,
        gate=0.01 * length,
    )


# --- moved ---------------------------------------------------------------------------------------


def test_permuted_patches_keep_lengths_and_cover_the_row() -> None:
    """Histogram and number of patches stay, each step is in one patch, alignment is gone."""
    patches = drawn(50)
    moved = permuted(patches, torch.arange(50))
    assert torch.equal(moved.length.sort(1).values, patches.length.sort(1).values)
    assert torch.equal(moved.start, from_starts(moved.start, 30).start)
    assert torch.equal(moved.length, from_starts(moved.start, 30).length)
    assert (moved.start != patches.start).any(1).float().mean() > 0.9


def test_gates_and_gains_go_with_their_patch_and_empty_slots_go_last() -> None:
    """A gate stays beside the length it was given for; a slot that does not count comes last."""
    patches = partly_empty()
    for row in range(20):
        moved = permuted(patches, torch.tensor([row]))
        assert moved.valid.tolist() == [[True, True, True, False]]
        assert moved.length[0, :3].sort().values.tolist() == [1, 4, 7]
        assert moved.start.tolist()[0][3] == 12
        assert moved.gain is not None
        assert moved.gate is not None
        assert torch.equal(moved.gain, 10.0 * moved.length)
        assert torch.equal(moved.gate, 0.01 * moved.length)


def test_what_belongs_to_steps_or_edges_is_not_permuted() -> None:
    """Groups keep their numbers of patches; edges, spans, weights and losses are left out."""
    patches = drawn(3)
    start, end = patches.start.float(), patches.end.float()
    full = dataclasses.replace(
        patches,
        edges=torch.cat([start, end[:, -1:]], dim=1),
        spans=torch.stack([start, end], dim=1),
        weight=torch.ones(3, 30),
        confidence=torch.ones(3, 30),
        coarse=torch.tensor([[0, 2]]).repeat(3, 1),
        loss=torch.ones(()),
    )
    moved = permuted(full, torch.arange(3))
    kept = {name for name, value in vars(moved).items() if value is not None}
    assert kept == {"start", "length", "valid", "coarse"}
    assert moved.coarse is full.coarse


def test_an_order_is_that_of_the_row_and_all_orders_are_as_likely() -> None:
    """A row's order does not depend on its batch; of three lengths each of six comes as often."""
    patches = from_starts(torch.tensor([[0, 1, 3]]).repeat(6000, 1), 6)
    ids = torch.arange(6000)
    moved = permuted(patches, ids)
    alone = permuted(patches.rows(slice(70, 71)), ids[70:71])
    assert torch.equal(alone.length[0], moved.length[70])
    _, often = moved.length.unique(dim=0, return_counts=True)
    assert len(often) == 6
    assert (often - 1000).abs().max() < 150  # five standard deviations


def test_lengths_that_were_drawn_by_row_are_shuffled_all_the_same() -> None:
    """The order comes from other numbers than those that a method's lengths may come from."""
    ids = torch.arange(500)
    draws = Rows(torch.zeros(500, 40), ids).uniform(4)
    length = 1 + (8 * draws).long()
    length = torch.cat([length[:, :3], 40 - length[:, :3].sum(1, keepdim=True)], dim=1)
    patches = from_starts(length.cumsum(1) - length, 40)
    first, second = permuted(patches, ids).length[:, :2].T
    assert 0.4 < (first < second).float().mean() < 0.6


def test_one_patch_and_single_steps_can_be_permuted() -> None:
    """K of 1 and K of the look-back have one order only."""
    for patches in (drawn(2, patches=1), drawn(2, patches=30)):
        assert torch.equal(permuted(patches, torch.arange(2)).start, patches.start)


def test_each_channel_gets_the_patches_of_the_next() -> None:
    """Two windows of three channels: 0 1 2 become 1 2 0 in each, gates and all."""
    start = torch.arange(6)[:, None] * torch.tensor([0, 1])
    gate = torch.rand(6, 2)
    patches = from_starts(start, 30, gate=gate)
    moved = of_next_channel(patches, 3)
    assert moved.start[:, 1].tolist() == [1, 2, 0, 4, 5, 3]
    assert moved.gate is not None
    assert torch.equal(moved.gate, gate[[1, 2, 0, 4, 5, 3]])


# --- found ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("patches", "share"), [(1, 0.2), (6, 0.2), (15, 0.5), (30, 0.9), (6, 0)])
def test_pairs_are_as_many_as_there_can_be(patches: int, share: float) -> None:
    """Left to right loses no pair: as many as scipy's maximum matching, at every tolerance."""
    placed, truth = drawn(40, patches=patches), marks(40, share=share)
    pairs = matches(placed, truth)
    for row in range(40):
        found = placed.start[row, 1:].numpy()
        true = 1 + truth[row, 1:].nonzero()[:, 0].numpy()
        for tolerance, count in zip(TOLERANCES, pairs[row].tolist(), strict=True):
            near = np.abs(found[:, None] - true) <= tolerance
            graph = csr_array(near.astype(np.int8).reshape(len(found), len(true)))
            most = (maximum_bipartite_matching(graph) >= 0).sum() if near.size else 0
            assert count == most


def test_recall_is_that_of_sktime_where_no_two_compete() -> None:
    """With boundaries far apart the pairs are the events that sktime's EventTPR finds hit."""
    truth = torch.zeros(12, 60, dtype=torch.bool)
    truth[:, [10, 30, 50]] = True
    shift = torch.randint(-5, 6, (12, 3), generator=torch.Generator().manual_seed(0))
    inner = torch.tensor([10, 30, 50]) + shift
    pairs = matches(from_starts(torch.nn.functional.pad(inner, (1, 0)), 60), truth)
    line, events = pd.DataFrame({"x": range(60)}), pd.DataFrame({"ilocs": [10, 30, 50]})
    for row in range(12):
        alarms = pd.DataFrame({"ilocs": inner[row].tolist()})
        for tolerance, count in zip(TOLERANCES, pairs[row].tolist(), strict=True):
            rate = EventTPR(min_offset=-tolerance, max_offset=tolerance)(events, alarms, line)
            assert count / 3 == pytest.approx(rate)


def test_neither_step_0_nor_an_empty_slot_is_a_boundary() -> None:
    """A mark at step 0 is no true boundary, and slots that do not count find none."""
    truth = torch.zeros(1, 12, dtype=torch.bool)
    truth[0, [0, 4]] = True
    patches = partly_empty()
    assert matches(patches, truth).tolist() == [[1, 1, 1, 1]]
    agreement = Agreement()
    agreement.add(patches, truth)
    # Two boundaries, at 4 and 11, one true one: 2 * 1 / (2 + 1).
    assert agreement.f1() == {f"f1_{n}": pytest.approx(2 / 3) for n in range(4)}


def test_f1_is_over_all_boundaries_of_all_rows() -> None:
    """Counts are added up before they are divided, whatever the batches; by hand for two rows."""
    patches = from_starts(torch.tensor([[0, 10], [0, 10]]), 30)
    truth = torch.zeros(2, 30, dtype=torch.bool)
    truth[0, [8, 11, 20]] = True  # one step off, one of three found; the second row has none
    agreement = Agreement()
    for row in range(2):
        agreement.add(patches.rows(slice(row, row + 1)), truth[row : row + 1])
    assert agreement.f1() == {"f1_0": 0, "f1_1": 0.4, "f1_2": 0.4, "f1_3": 0.4}


def test_there_is_no_f1_without_a_true_boundary() -> None:
    """Where no row has one, not even beyond step 0, F1 is left empty rather than 0."""
    agreement, truth = Agreement(), torch.zeros(4, 30, dtype=torch.bool)
    truth[:, 0] = True
    agreement.add(drawn(4), truth)
    assert set(agreement.f1().values()) == {None}


# --- in an evaluation ----------------------------------------------------------------------------


class Wavering(Patcher):
    """A few patches that follow the content, with a gain, at places that waver in training."""

    strict = False
    relaxed = True

    def forward(self, rows: Rows) -> Patches:
        score = rows.values.diff(dim=1).abs()
        if rows.as_trained:
            score = score + rows.uniform(score.shape[1])
        patches = from_scores(score, 6)
        return dataclasses.replace(patches, gain=1 + patches.length / 100)

    @property
    def slots(self) -> int:
        return 6


def planted(count: int = COUNT, channels: int = 2) -> tuple[Windows, Series]:
    """Windows of stairs, every channel with steps of its own, and the series they are from."""
    planted = synthetic.plant("ordinal", count * channels, seed=3)
    values = planted.values.reshape(channels, count * synthetic.WINDOW)
    truth = np.zeros((count, synthetic.WINDOW), dtype=bool)
    truth[:, : synthetic.LOOK_BACK] = planted.boundaries[:count]
    windows = Windows(
        values=torch.from_numpy(values).float(),
        starts=torch.arange(count) * synthetic.WINDOW,
        look_back=synthetic.LOOK_BACK,
        horizon=synthetic.HORIZON,
        offset=0,
        mean=torch.zeros(channels),
        scale=torch.ones(channels),
        marks=torch.from_numpy(truth.flatten()),
    )
    size = values.shape[1]
    names = tuple("abc"[:channels])
    borders = (size - 2, size - 1, size)
    return windows, Series("planted", values.T.copy(), names, "h", 1, borders, "x")


def build(method: type[Patcher]) -> PatchForecaster:
    torch.manual_seed(0)
    return PatchForecaster(TASK, SMALL, method(TASK)).eval()


def scores(method: type[Patcher], windows: Windows, **more: Any) -> dict[str, float | None]:  # noqa: ANN401 - options of several types
    return evaluation.under_other_boundaries(build(method), windows, budget=BUDGET, **more)


def test_other_boundaries_are_those_that_a_loop_would_take() -> None:
    """Each error again, window by window: swapped, of the next channel, permuted, as trained."""
    windows, _ = planted()
    model = build(Wavering)
    errors: dict[str, list[float]] = {}
    with torch.inference_mode():
        for number in range(COUNT):
            one = windows.batch(torch.tensor([number]))
            far = windows.batch(torch.tensor([(number + COUNT // 2) % COUNT]))
            own = model.cut(one.past, one.ids)
            cuts = {
                "mse_swapped": model.cut(far.past, far.ids),
                "mse_other_channel": own.rows(torch.tensor([1, 0])),
                "mse_permuted": permuted(own, one.ids[0]),
                "mse_as_trained": model.cut(one.past, one.ids, sampled=True),
            }
            for name, patches in cuts.items():
                error = (model.predict(one.past, patches) - one.future).square().mean()
                errors.setdefault(name, []).append(float(error))
    expected = {name: pytest.approx(np.mean(each), rel=1e-5) for name, each in errors.items()}
    found = scores(Wavering, windows)
    assert {name: value for name, value in found.items() if name.startswith("mse")} == expected
    assert len({round(value or 0, 4) for value in found.values()}) > len(expected)


@pytest.mark.parametrize("method", [RandomStep, StraightThrough, Wavering])
def test_other_boundaries_do_not_depend_on_the_batch_size(method: type[Patcher]) -> None:
    """One, seven or thirty-two windows at once: the same errors, the same F1."""
    windows, _ = planted()
    first, *others = (scores(method, windows, at_once=size) for size in (1, 7, 32))
    for other in others:
        assert other == pytest.approx(first, rel=1e-6)


def test_boundaries_that_follow_nothing_lose_nothing() -> None:
    """Equal patches are those of any window or channel in any order: the error stays the same."""
    windows, series = planted()
    scored = evaluate(build(Uniform), windows, series, budget=BUDGET)
    for name in ("mse_swapped", "mse_other_channel", "mse_permuted"):
        assert scored.boundaries[name] == pytest.approx(scored.metrics["mse"], rel=1e-6)


def test_true_boundaries_agree_with_themselves() -> None:
    """The oracle finds all of them exactly; equal patches find some, and more when far off."""
    windows, _ = planted(channels=1)
    exact = scores(Oracle, windows)
    assert [exact[f"f1_{n}"] for n in TOLERANCES] == [1.0] * 4
    rough = [scores(Uniform, windows)[f"f1_{n}"] or 0.0 for n in TOLERANCES]
    assert 0 < rough[0] < rough[1] < rough[2] < rough[3] < 1


def test_what_does_not_exist_is_not_measured() -> None:
    """One window has no other, one channel no next, and boundaries nobody knows have no F1."""
    windows, _ = planted(1, channels=1)
    unmarked = scores(Uniform, dataclasses.replace(windows, marks=None))
    assert [name for name, value in unmarked.items() if value is not None] == ["mse_permuted"]


def test_a_reference_has_no_boundaries() -> None:
    """A model that cuts nothing is scored and nothing more."""
    windows, series = planted()
    assert evaluate(RepeatLast(TASK, SMALL), windows, series, budget=BUDGET).boundaries == {}


def test_a_large_test_part_is_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 23 windows four: the first, and then one in every quarter; each with its own far one."""
    windows, _ = planted()
    seen: list[int] = []
    whole = Windows.batch

    def watched(self: Windows, index: Tensor) -> Any:  # noqa: ANN401 - what it stands for returns
        seen.extend(index.tolist())
        return whole(self, index)

    monkeypatch.setattr(evaluation, "SAMPLE", 4)
    monkeypatch.setattr(Windows, "batch", watched)
    scores(Uniform, windows)
    assert seen == [0, 5, 11, 17, 11, 16, 22, 5]


def test_a_model_that_changes_under_other_boundaries_is_refused() -> None:
    """Weights and buffers are compared after these passes, too."""

    class Learning(Wavering):
        def forward(self, rows: Rows) -> Patches:
            if rows.sampled:
                self.progress.add_(1)
            return super().forward(rows)

    windows, series = planted()
    with pytest.raises(ValueError, match="changed its own weights or buffers"):
        evaluate(build(Learning), windows, series, budget=BUDGET)
