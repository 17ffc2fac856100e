"""Boundaries moved elsewhere and held against true ones, and what an evaluation says of them."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from ruptures.metrics import randindex
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from sktime.performance_metrics.detection import DirectedChamfer, EventTPR, RandIndex
from torch import Tensor

from harness.core.task import Architecture, Budget, Task
from harness.data.planted import HORIZON, LOOK_BACK, WINDOW, plant
from harness.data.series import Series
from harness.model.forecaster import PatchForecaster
from harness.model.patcher import Patcher, Patches, Rows, from_scores, from_starts
from harness.run import evaluate as evaluation
from harness.run import windows as windows_of
from harness.run.boundaries import (
    TOLERANCES,
    Agreement,
    Habits,
    covering,
    distance,
    marks,
    matches,
    of_next_channel,
    permuted,
    rand_index,
)
from harness.run.evaluate import evaluate
from harness.run.metrics import RARE
from harness.run.windows import Windows
from methods.oracle import Oracle
from methods.random_step import RandomStep
from methods.repeat_last import RepeatLast
from methods.straight_through import StraightThrough
from methods.uniform import Uniform

TASK = Task("planted", LOOK_BACK, HORIZON, patches=12)
SMALL = Architecture(width=8, layers=1, heads=2, feedforward=16)
BUDGET = Budget()
COUNT = 23  # windows, odd


def drawn(rows: int, look_back: int = 30, patches: int = 6, seed: int = 0) -> Patches:
    """Random boundaries."""
    generator = torch.Generator().manual_seed(seed)
    return from_scores(torch.rand(rows, look_back - 1, generator=generator), patches)


def drawn_truth(rows: int, look_back: int = 30, share: float = 0.2, seed: int = 1) -> Tensor:
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


def agreed(patches: Patches, truth: Tensor, at_once: int = 16) -> dict[str, float | None]:
    """All scores against true boundaries, in batches."""
    found = Agreement()
    for rows in torch.arange(len(truth)).split(at_once):
        found.add(patches.rows(rows), truth[rows])
    return found.scores()


def f1(patches: Patches, truth: Tensor, at_once: int = 16) -> list[float | None]:
    scores = agreed(patches, truth, at_once)
    return [scores[f"f1_{tolerance}"] for tolerance in TOLERANCES]


@pytest.mark.parametrize(("patches", "share"), [(1, 0.2), (6, 0.2), (15, 0.5), (30, 0.9), (6, 0)])
def test_pairs_are_as_many_as_there_can_be(patches: int, share: float) -> None:
    """Left to right loses no pair: as many as scipy's maximum matching, at every tolerance."""
    placed, truth = drawn(40, patches=patches), drawn_truth(40, share=share)
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
    assert marks(patches, 12).nonzero()[:, 1].tolist() == [4, 11]
    # Two boundaries, at 4 and 11, one true one: 2 * 1 / (2 + 1).
    assert f1(patches, truth) == [pytest.approx(2 / 3)] * 4


def test_f1_is_over_all_boundaries_of_all_rows() -> None:
    """Counts are added up before they are divided, whatever the batches; by hand for two rows."""
    patches = from_starts(torch.tensor([[0, 10], [0, 10]]), 30)
    truth = torch.zeros(2, 30, dtype=torch.bool)
    truth[0, [8, 11, 20]] = True  # one step off, one of three found; the second row has none
    assert f1(patches, truth, at_once=1) == f1(patches, truth) == [0, 0.4, 0.4, 0.4]


def test_nothing_is_found_without_a_true_boundary() -> None:
    """Where no row has one, not even beyond step 0, every score is left empty rather than 0."""
    truth = torch.zeros(4, 30, dtype=torch.bool)
    truth[:, 0] = True
    scores = agreed(drawn(4), truth)
    assert list(scores) == ["f1_0", "f1_1", "f1_2", "f1_3", "covering", "distance", "rand"]
    assert set(scores.values()) == {None}


# --- alike ---------------------------------------------------------------------------------------

Pair = tuple[Tensor, Tensor]


def pairs(rows: int = 60) -> Pair:
    """Random segmentations beside true ones, few and many boundaries, some rows with none."""
    parts = [(1, 0.2), (6, 0.2), (15, 0.5), (30, 0.9), (6, 0.0), (30, 1.0)]
    placed = [marks(drawn(rows // 6, patches=patches, seed=7), 30) for patches, _ in parts]
    truth = [drawn_truth(rows // 6, share=share, seed=9) for _, share in parts]
    return torch.cat(placed), torch.cat(truth)


def ends(marked: Tensor) -> list[int]:
    """Where the segments of a row end, as ruptures writes a segmentation."""
    return [*(1 + marked[1:].nonzero()[:, 0]).tolist(), len(marked)]


def overlap_by_hand(placed: Tensor, truth: Tensor) -> float:
    """Segment covering of one row, as its definition reads: sets of steps."""
    cut, known = (
        [set(range(first, end)) for first, end in pairwise([0, *ends(row)])]
        for row in (placed, truth)
    )
    best = [max(len(part & patch) / len(part | patch) for patch in cut) for part in known]
    return sum(len(part) * share for part, share in zip(known, best, strict=True)) / len(truth)


def test_covering_is_that_of_sets_of_steps() -> None:
    """Each row by hand, over all patches; the same segments cover each other fully."""
    placed, truth = pairs()
    expected = [overlap_by_hand(*row) for row in zip(placed, truth, strict=True)]
    assert covering(placed, truth).tolist() == pytest.approx(expected)
    assert covering(truth, truth).tolist() == [1.0] * len(truth)


def test_rand_index_is_that_of_ruptures_and_of_sktime() -> None:
    """Row by row the number of both, and 1 for the same segments."""
    placed, truth = pairs()
    found = rand_index(placed, truth).tolist()
    assert found == pytest.approx(
        [randindex(ends(known), ends(cut)) for cut, known in zip(placed, truth, strict=True)]
    )
    for cut, known, score in list(zip(placed, truth, found, strict=True))[::7]:
        breaks = (pd.IntervalIndex.from_breaks([0, *ends(row)], "left") for row in (known, cut))
        # One label for all: sktime counts overlaps between segments of the same label only.
        segments = (pd.DataFrame({"ilocs": each, "label": 0}) for each in breaks)
        assert score == pytest.approx(RandIndex()(*segments))
    assert rand_index(truth, truth).tolist() == [1.0] * len(truth)


def test_distance_is_that_of_sktime_both_ways() -> None:
    """The mean of sktime's normalised Chamfer distances, there and back; 0 to itself."""
    placed, truth = pairs()
    chamfer = DirectedChamfer(normalize=True)
    for cut, known, score in zip(placed, truth, distance(placed, truth).tolist(), strict=True):
        here, there = (pd.DataFrame({"ilocs": ends(row)[:-1]}) for row in (cut, known))
        if len(here) and len(there):
            both = chamfer(there, here) + chamfer(here, there)
            assert score == pytest.approx(both / 2)
        else:
            assert score == 30  # nothing to be near to: as far as the row is long
    some = truth[truth[:, 1:].any(1)]
    assert distance(some, some).tolist() == [0.0] * len(some)


def test_alike_are_rows_with_a_true_boundary() -> None:
    """Means over these rows alone, whatever the batches: the others say nothing of placement."""
    patches, truth = drawn(40), drawn_truth(40, share=0.03)
    known = truth[:, 1:].any(1)
    assert 5 < known.sum() < 35
    for measure, name in ((covering, "covering"), (distance, "distance"), (rand_index, "rand")):
        expected = measure(marks(patches, 30), truth)[known].mean()
        for at_once in (1, 7, 40):
            assert agreed(patches, truth, at_once)[name] == pytest.approx(float(expected))


# --- habits --------------------------------------------------------------------------------------


def habits(patches: Patches, look_back: int = 30, at_once: int = 16) -> dict[str, float | None]:
    """Position bias and distinct plans, in batches."""
    found = Habits(look_back)
    for rows in torch.arange(len(patches.start)).split(at_once):
        found.add(patches.rows(rows))
    return found.scores()


def test_the_same_cut_everywhere_is_the_largest_bias_and_one_plan() -> None:
    """Equal patches, or any other fixed ones: bias 1, one plan in 50 rows; K need not be fixed."""
    for patches in (drawn(1).rows(torch.zeros(50).long()), partly_empty()):
        assert habits(patches) == {
            "position_bias": pytest.approx(1),
            "distinct": 1 / len(patches.start),
        }


def test_even_spread_is_no_bias() -> None:
    """A grid that stands at each step once over the rows has no habit; half of them has one."""
    start = torch.stack([torch.zeros(29, dtype=torch.long), torch.arange(1, 30)], dim=1)
    assert habits(from_starts(start, 30)) == {"position_bias": pytest.approx(0), "distinct": 1.0}
    # All boundaries in the last 14 of 29 steps: 1 - 14 / 29, of at most 1 - 1 / 29.
    late = habits(from_starts(start[15:], 30))
    assert late["position_bias"] == pytest.approx((1 - 14 / 29) / (1 - 1 / 29))


def test_position_bias_and_plans_are_those_that_a_loop_counts() -> None:
    """Half of the rows cut alike: plans counted as sets, positions with numpy; any batch size."""
    twice = drawn(200, look_back=12, patches=3)
    plans = {tuple(sorted(row)) for row in twice.start.tolist()}
    often = np.bincount(twice.start[:, 1:].flatten().numpy(), minlength=12)[1:] / 400
    expected = np.abs(often - 1 / 11).sum() / 2 / (1 - 2 / 11)
    for at_once in (1, 7, 200):
        found = habits(twice, 12, at_once)
        assert found["distinct"] == len(plans) / 200 < 0.5
        assert found["position_bias"] == pytest.approx(expected)


def test_empty_slots_make_no_other_plan() -> None:
    """Two patches are the same two wherever among the slots they are; three are others."""
    length = torch.tensor([[4, 0, 8, 0], [4, 8, 0, 0], [4, 4, 4, 0], [0, 4, 0, 8]])
    patches = Patches(length.cumsum(1) - length, length, length > 0)
    assert habits(patches, 12)["distinct"] == 0.5


def test_where_there_is_no_choice_there_is_no_bias() -> None:
    """No boundary at all, or one at each step: the bias is left empty."""
    for patches in (drawn(5, patches=1), drawn(5, patches=30)):
        assert habits(patches) == {"position_bias": None, "distinct": 0.2}


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
    planted = plant("ordinal", count * channels, seed=3)
    values = planted.values.reshape(channels, count * WINDOW)
    truth = np.zeros((count, WINDOW), dtype=bool)
    truth[:, :LOOK_BACK] = planted.boundaries[:count]
    windows = Windows(
        values=torch.from_numpy(values).float(),
        starts=torch.arange(count) * WINDOW,
        look_back=LOOK_BACK,
        horizon=HORIZON,
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
    assert (exact["covering"], exact["distance"], exact["rand"]) == (1, 0, 1)
    equal = scores(Uniform, windows)
    rough = [equal[f"f1_{n}"] or 0.0 for n in TOLERANCES]
    assert 0 < rough[0] < rough[1] < rough[2] < rough[3] < 1
    assert 0 < (equal["covering"] or 0) < 1 < (equal["distance"] or 0) < 8
    assert (exact["distinct"], equal["distinct"]) == (1.0, 1 / COUNT)
    assert equal["position_bias"] == pytest.approx(1)
    every = windows.batch(torch.arange(COUNT))
    own = build(Oracle).cut(every.past, every.ids, every.truth)
    bias = habits(own, TASK.look_back)["position_bias"]
    assert 0 < (bias or 0) < 0.5
    assert exact["position_bias"] == pytest.approx(bias)


def test_errors_by_region_are_those_that_a_loop_sorts() -> None:
    """Rows whose look-back holds a rare jump, and all others, window by window; any batch size."""
    windows, series = planted()
    half = len(series.values) // 2
    series = dataclasses.replace(series, borders=(half, half + 1, len(series.values)))
    rare = np.quantile(np.abs(np.diff(series.values[:half], axis=0)), RARE, axis=0)
    model = build(Wavering)
    errors: dict[bool, list[float]] = {True: [], False: []}
    with torch.inference_mode():
        for number, start in enumerate(windows.starts.tolist()):
            one = windows.batch(torch.tensor([number]))
            error = model.predict(one.past, model.cut(one.past, one.ids)) - one.future
            jumps = np.abs(np.diff(series.values[start : start + TASK.look_back], axis=0))
            for channel, is_event in enumerate(np.any(jumps > rare, axis=0).tolist()):
                errors[is_event].append(float(error[0, channel].square().mean()))
    assert len(errors[True]) > 1
    for size in (1, 7, 32):
        found = evaluate(model, windows, series, budget=BUDGET, at_once=size).regions
        assert found["windows_event"] == len(errors[True])
        assert found["mse_event"] == pytest.approx(np.mean(errors[True]), rel=1e-5)
        assert found["mse_calm"] == pytest.approx(np.mean(errors[False]), rel=1e-5)


def test_events_are_looked_for_where_the_test_part_lies() -> None:
    """Windows that begin late in the series have its own steps: one spike, in some of them."""
    clock = np.arange(400.0)[:, None]
    values = np.sin(2 * np.pi * clock / np.array([8.0, 16.0]))
    values[330, 1] += 9
    series = Series("waves", values, ("a", "b"), "h", 8, (240, 300, 400), "x")
    task = Task("waves", 32, 8, 4, season=8)
    scored = evaluate(
        RepeatLast(task, SMALL), windows_of.test(series, task), series, budget=BUDGET
    )
    # The jump from 330 to 331 and, for one window less, that from 329 to 330: look-backs that
    # begin at 299 to 330, of those that begin at 268 to 360.
    assert scored.regions["windows_event"] == 32


# --- kept ----------------------------------------------------------------------------------------


def kept(method: type[Patcher], windows: Windows, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - options of several types
    return evaluation.cuts(build(method), windows, budget=BUDGET, **more)


@pytest.mark.parametrize("at_once", [1, 7, 300])
def test_kept_boundaries_are_those_of_their_rows(at_once: int) -> None:
    """Window and channel name the row: its look-back, its starts and its true boundaries."""
    windows, _ = planted()
    model, found = build(RandomStep), kept(RandomStep, windows, at_once=at_once)
    assert {name: values.dtype.name for name, values in found.items()} == {
        "window": "int32",
        "channel": "int32",
        "values": "float32",
        "starts": "int16",
        "true_starts": "int16",
    }
    assert {len(values) for values in found.values()} == {COUNT * 2}
    for row, (window, channel) in enumerate(zip(found["window"], found["channel"], strict=True)):
        one = windows.batch(torch.tensor([int(window)]))
        assert found["values"][row] == pytest.approx(one.past[0, channel].numpy(), abs=6e-4)
        with torch.inference_mode():
            own = model.cut(one.past, one.ids).start[channel]
        assert found["starts"][row].tolist() == own.tolist()
        assert one.truth is not None
        assert found["true_starts"][row].tolist() == one.truth[0].nonzero()[:, 0].tolist()


def test_kept_rows_are_few_different_and_evenly_spaced() -> None:
    """256 of 600 rows from the first to the last window, channels in turn, whatever the method."""
    windows, _ = planted(300)
    first, second = kept(Uniform, windows), kept(RandomStep, windows)
    assert len(first["starts"]) == 256
    rows = [*zip(first["window"].tolist(), first["channel"].tolist(), strict=True)]
    assert len(set(rows)) == 256
    assert [channel for _, channel in rows] == [0, 1] * 128
    assert set(np.diff(first["window"])) == {1, 2}
    assert (first["window"][0], first["window"][-1]) == (0, 298)
    for name in ("window", "channel", "values"):
        np.testing.assert_array_equal(first[name], second[name])


def test_slots_without_a_patch_are_kept_as_such() -> None:
    """Starts come first and in order, -1 stands for none; slots that no row uses are dropped."""

    class Few(Patcher):
        strict = False

        def forward(self, rows: Rows) -> Patches:
            length = torch.tensor([[40, 0, 56, 0], [96, 0, 0, 0]])[rows.ids % 2]
            return Patches(length.cumsum(1) - length, length, length > 0)

    windows, _ = planted(2)
    found = kept(Few, dataclasses.replace(windows, marks=None))
    assert found["starts"].tolist() == [[0, 40], [0, -1]] * 2
    assert "true_starts" not in found


def test_tokens_are_counted_on_any_windows() -> None:
    """The mean over evenly spaced windows, strict or not; a reference says what it makes."""

    class Growing(Patcher):
        strict = False

        def forward(self, rows: Rows) -> Patches:
            window = rows.ids // 2 // WINDOW
            length = torch.tensor([[48, 48, 0], [32, 32, 32]])[(window >= 100).long()]
            return Patches(length.cumsum(1) - length, length, length > 0)

    windows, _ = planted(300)
    for size in (1, 7, 300):
        counted = evaluation.tokens_of(build(Growing), windows, budget=BUDGET, at_once=size)
        assert counted == pytest.approx((100 * 2 + 200 * 3) / 300)
    assert evaluation.tokens_of(build(Uniform), windows, budget=BUDGET) == 12
    reference = RepeatLast(TASK, SMALL)
    assert evaluation.tokens_of(reference, windows, budget=BUDGET) is None


def test_what_does_not_exist_is_not_measured() -> None:
    """One window has no other, one channel no next, and boundaries nobody knows have no F1."""
    windows, _ = planted(1, channels=1)
    unmarked = scores(Uniform, dataclasses.replace(windows, marks=None))
    there = [name for name, value in unmarked.items() if value is not None]
    assert there == ["mse_permuted", "position_bias", "distinct"]


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
