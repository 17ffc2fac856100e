"""Boundaries moved elsewhere, held against true ones, and counted over rows."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from ruptures.metrics import randindex
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from sktime.performance_metrics.detection import DirectedChamfer, EventTPR, RandIndex
from torch import Tensor

from harness.model.patcher import Patches, Rows, from_scores, from_starts
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
    # One of the three true ones.
    assert agreed(patches, truth, at_once=1)["recall_3"] == pytest.approx(1 / 3)


def test_nothing_is_found_without_a_true_boundary() -> None:
    """Where no row has one, not even beyond step 0, every score is left empty rather than 0."""
    truth = torch.zeros(4, 30, dtype=torch.bool)
    truth[:, 0] = True
    scores = agreed(drawn(4), truth)
    names = ["f1_0", "f1_1", "f1_2", "f1_3", "recall_3", "covering", "distance", "rand"]
    assert list(scores) == names
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
    found = Habits(look_back, min(patches.start.shape[1], look_back))
    for rows in torch.arange(len(patches.start)).split(at_once):
        found.add(patches.rows(rows))
    return found.scores()


def test_the_same_cut_everywhere_is_the_largest_bias_and_one_plan() -> None:
    """Equal patches, or any other fixed ones: bias 1, one plan in 50 rows; K need not be fixed."""
    for patches in (drawn(1).rows(torch.zeros(50).long()), partly_empty()):
        assert habits(patches) == {
            "position_bias": pytest.approx(1),
            "distinct": 1 / len(patches.start),
            "equal": 0,
        }


def test_equal_is_the_share_of_rows_that_uniform_would_cut_alike() -> None:
    """One of four: K equal patches, whatever slots they are in; other numbers do not count."""
    length = torch.tensor([[4, 0, 4, 4], [4, 8, 0, 0], [3, 3, 3, 3], [4, 4, 3, 1]])
    found = Habits(12, 3)
    found.add(Patches(length.cumsum(1) - length, length, length > 0))
    assert found.scores()["equal"] == 0.25


def test_even_spread_is_no_bias() -> None:
    """A grid that stands at each step once over the rows has no habit; half of them has one."""
    start = torch.stack([torch.zeros(29, dtype=torch.long), torch.arange(1, 30)], dim=1)
    even = habits(from_starts(start, 30))
    assert even == {"position_bias": pytest.approx(0), "distinct": 1.0, "equal": 1 / 29}
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
        assert habits(patches) == {"position_bias": None, "distinct": 0.2, "equal": 1}
