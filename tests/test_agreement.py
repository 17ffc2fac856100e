"""Boundaries of runs kept in bundles, and how far two runs cut the same rows alike."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from harness.core.job import Job, Provenance, new_record
from harness.core.task import Architecture, Budget, Task
from harness.report.agreement import between_methods, between_seeds, stability
from harness.results.bundles import (
    Bundle,
    read_boundaries,
    read_bundle,
    write_boundaries,
    write_bundle,
)
from harness.run.job import run

TASK = Task("waves", 30, 8, 6)


def starts(rows: int = 40, boundaries: int = 5, seed: int = 0) -> np.ndarray:
    """Random starts, step 0 first, with slots that are not used behind them in some rows."""
    generator = np.random.default_rng(seed)
    drawn = np.zeros((rows, boundaries + 1), np.int16)
    drawn[:, 1:] = np.sort(
        generator.permuted(np.tile(np.arange(1, 30), (rows, 1)), axis=1)[:, :boundaries], axis=1
    )
    drawn[::3, -2:] = -1
    return drawn


def sample(seed: int = 0, rows: int = 40) -> dict[str, Any]:
    return {
        "window": np.arange(rows, dtype=np.int32),
        "channel": np.zeros(rows, np.int32),
        "values": np.zeros((rows, 30), np.float32),
        "starts": starts(rows, seed=seed),
    }


def bundle(
    folder: Path, seed: int, where: dict[str, Any] | None, method: str = "learned"
) -> Bundle:
    """A finished run that left these boundaries."""
    record = new_record(
        Job("tiny", method, TASK, seed),
        Provenance("c", "v"),
        status="done",
        kind="patcher",
        ranked=True,
        method_source="aa",
        data_hash="bb",
        data_verified=True,
        device="cpu",
        mse=1.0,
        mae=1.0,
    )
    save = None if where is None else lambda path: write_boundaries(where, path)
    place = write_bundle(folder, record, curves=(), overlay=None, boundaries=save)
    return read_bundle(place)


@pytest.mark.parametrize("tolerance", [0, 1, 3])
@pytest.mark.parametrize(("mine", "theirs"), [(5, 5), (3, 12), (29, 4)])
def test_partners_are_as_many_as_there_can_be(mine: int, theirs: int, tolerance: int) -> None:
    """The F1 of scipy's maximum matching, row by row; both ways round the same."""
    first, second = starts(boundaries=mine), starts(boundaries=theirs, seed=1)
    pairs = 0
    for a, b in zip(first, second, strict=True):
        near = np.abs(a[a > 0][:, None] - b[b > 0]) <= tolerance
        graph = csr_array(near.astype(np.int8))
        pairs += (maximum_bipartite_matching(graph) >= 0).sum()
    expected = 2 * pairs / ((first > 0).sum() + (second > 0).sum())
    assert stability(first, second, tolerance) == pytest.approx(expected)
    assert stability(second, first, tolerance) == pytest.approx(expected)


def test_the_same_starts_agree_fully_and_far_ones_not_at_all() -> None:
    """1 and 0; step 0 and slots without a patch count for neither."""
    same = starts()
    assert stability(same, same, 0) == 1
    assert stability(np.array([[0, 5, -1]]), np.array([[0, 8, 20]])) == 0
    assert stability(np.array([[0, 5, -1]]), np.array([[0, 6]])) == 1
    assert math.isnan(stability(np.array([[0, -1]]), np.array([[0]])))


def test_other_rows_cannot_be_compared() -> None:
    """Two sets of starts are of the same rows, so of as many."""
    with pytest.raises(ValueError, match="40 rows cannot be compared with 39 others"):
        stability(starts(), starts(39))


def test_a_line_for_each_two_seeds(tmp_path: Path) -> None:
    """Three seeds of a method make three lines, and methods are kept apart."""
    runs = [bundle(tmp_path, seed, sample(seed % 2)) for seed in (3, 1, 2)]
    runs += [bundle(tmp_path, 1, sample(), "other"), bundle(tmp_path, 1, None, "reference")]
    table = between_seeds(runs)
    assert [*zip(table.seed_a, table.seed_b, strict=True)] == [(1, 2), (1, 3), (2, 3)]
    assert set(table.method) == {"learned"}
    task = table[["dataset", "look_back", "horizon", "patches"]].drop_duplicates()
    assert task.to_numpy().tolist() == [["waves", 30, 8, 6]]
    # Seeds 1 and 3 were given the same boundaries.
    by_hand = stability(sample(1)["starts"], sample(0)["starts"])
    assert table.f1_1.tolist() == [pytest.approx(by_hand), 1.0, pytest.approx(by_hand)]
    assert ((0 < table.f1_1_chance) & (table.f1_1_chance < 0.8)).all()


def test_habit_alone_is_told_from_content(tmp_path: Path) -> None:
    """Cut at the same steps in every row, two runs agree by chance as much as on the same rows."""
    fixed = {**sample(), "starts": np.tile(starts(2)[1:], (40, 1))}
    table = between_seeds([bundle(tmp_path, seed, fixed) for seed in (1, 2)])
    assert (table.f1_1[0], table.f1_1_chance[0]) == (1, 1)


def test_without_two_seeds_there_is_an_empty_table(tmp_path: Path) -> None:
    """The columns are there all the same."""
    table = between_seeds([bundle(tmp_path, 1, sample())])
    assert len(table) == 0
    assert {"method", "f1_1", "f1_1_chance"} < set(table)


def test_seeds_that_cut_different_rows_are_refused(tmp_path: Path) -> None:
    """The message names the seeds and the task."""
    other = {**sample(), "window": np.arange(1, 41, dtype=np.int32)}
    runs = [bundle(tmp_path, 1, sample()), bundle(tmp_path, 2, other)]
    with pytest.raises(ValueError, match="seeds 1 and 2 of learned on waves 30->8 K=6 were cut"):
        between_seeds(runs)


def test_a_run_leaves_where_it_cuts(tmp_path: Path) -> None:
    """The bundle of a patcher holds 256 rows of the test part; a reference cuts nothing."""
    job = Job(
        suite="tiny",
        method="uniform",
        task=Task("mitdb", 48, 12, 6),
        seed=1,
        architecture=Architecture(width=8, layers=1, heads=2, feedforward=16),
        budget=Budget(epochs=1, steps=1, batch=8),
    )
    left = [
        read_bundle(tmp_path / record.key).boundaries
        for record in (
            run(
                each,
                directories=(),
                device="cpu",
                runs=tmp_path,
                provenance=Provenance("c", "v"),
            )
            for each in (job, replace(job, method="repeat_last"))
        )
    ]
    assert left[0] is not None
    where = read_boundaries(left[0])
    assert where["starts"].tolist() == [[0, 8, 16, 24, 32, 40]] * 256
    assert where["values"].shape == (256, 48)
    assert left[1] is None


def test_boundaries_are_read_as_they_were_written(tmp_path: Path) -> None:
    """Types and values, and the same bytes from the same arrays."""
    for name in ("a.npz", "b.npz"):
        write_boundaries(sample(), tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = read_boundaries(tmp_path / "a.npz")
    for name, values in sample().items():
        assert again[name].dtype == values.dtype
        np.testing.assert_array_equal(again[name], values)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut short"])
def test_damaged_boundaries_are_named(tmp_path: Path, content: bytes) -> None:
    """An empty, a strange and a broken file are refused with their path."""
    path = tmp_path / "boundaries.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"boundaries\.npz is damaged"):
        read_boundaries(path)
    with pytest.raises(FileNotFoundError):
        read_boundaries(tmp_path / "none.npz")


def test_methods_are_compared_by_their_first_seeds(tmp_path: Path) -> None:
    """Each pair once, and a method that has two seeds with itself."""
    mine, theirs = sample(), sample(3)
    runs = [
        bundle(tmp_path, 2, sample(1), "a"),
        bundle(tmp_path, 1, mine, "a"),
        bundle(tmp_path, 1, theirs, "b"),
        bundle(tmp_path, 1, None, "c"),
    ]
    table = between_methods(runs)
    assert list(zip(table.method_a, table.method_b, strict=True)) == [("a", "a"), ("a", "b")]
    assert table.f1_1[0] == stability(mine["starts"], sample(1)["starts"])
    assert table.f1_1[1] == stability(mine["starts"], theirs["starts"])


def test_methods_cut_on_different_rows_are_not_compared(tmp_path: Path) -> None:
    """The message names both and their data set."""
    other = sample() | {"window": np.arange(1, 41, dtype=np.int32)}
    runs = [bundle(tmp_path, 1, sample(), "a"), bundle(tmp_path, 1, other, "b")]
    with pytest.raises(ValueError, match="a and b on waves 30->8 K=6 were cut on different rows"):
        between_methods(runs)
