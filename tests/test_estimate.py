"""How long a bench takes: from rows of like runs, else from arithmetic, and as it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import data
from harness.bench.estimate import (
    PER_RUN,
    Guess,
    Left,
    arithmetic,
    estimate,
    smaller,
    wall,
)
from harness.bench.survey import PlannedRun
from harness.core.job import Job, Provenance, new_record
from harness.core.task import Architecture, Budget, Task
from harness.model import registry
from harness.results.rows import put_row
from harness.run import windows
from harness.run.cost import cost
from harness.run.job import build

ETTH1 = Task("ETTh1", 96, 24, 12, 24)
IDENTITY: Mapping[str, Any] = {
    "kind": "patcher",
    "ranked": True,
    "method_source": "m",
    "data_hash": "d",
    "data_verified": True,
}


def planned(method: str = "uniform", seed: int = 1, task: Task = ETTH1, **of: Any) -> PlannedRun:  # noqa: ANN401 - fields of a job
    """A run that is missing."""
    job = Job("small", method, task, seed, **of)
    known = task.dataset in data.known()
    outline = data.outline(task.dataset) if known else None
    return PlannedRun(job, "missing", IDENTITY, outline=outline)


def store(results: Path, run: PlannedRun, seconds: float | None, device: str = "CPU x") -> None:
    """As if the run had been done and had taken so long."""
    spent: dict[str, Any] = {"train_seconds": seconds, "evaluate_seconds": seconds and 1.0}
    status = "failed" if seconds is None else "done"
    errors: dict[str, Any] = {} if seconds is None else {"mse": 0.5, "mae": 0.5}
    record = new_record(
        run.job, Provenance("c", "v"), status=status, device=device, **IDENTITY, **spent, **errors
    )
    put_row(results / "small" / f"{run.job.method}.csv", record)


def test_rows_of_like_runs_tell_what_a_run_takes(tmp_path: Path) -> None:
    """The mean over seeds of the same method, task, forecaster and budget; failed ones not."""
    for seed, seconds in ((1, 10.0), (2, 20.0), (3, None)):
        store(tmp_path, planned(seed=seed), seconds)
    store(tmp_path, planned(seed=5, budget=Budget(epochs=1)), 999.0)
    assert estimate([planned(seed=4)], [tmp_path]) == [Guess(16.0 + PER_RUN, "rows")]


def test_without_a_like_run_its_operations_count_at_the_pace_of_rows(tmp_path: Path) -> None:
    """That of the method elsewhere; else that of uniform patches by the cost of a step."""
    wide = Architecture(width=128)
    for method, times in (("uniform", 3.0), ("soft", 5.0)):
        run = planned(method)
        assert run.outline is not None
        store(tmp_path, run, times * arithmetic(run.job, run.outline) - 1.0 - PER_RUN)
    (tmp_path / "cost.csv").write_text("method,ratio\nsoft,7.0\nhnet,2.0\n")
    runs = [planned(method, architecture=wide) for method in ("uniform", "soft", "hnet", "merge")]
    assert runs[0].outline is not None
    alone = arithmetic(runs[0].job, runs[0].outline)
    guesses = estimate(runs, [tmp_path])
    assert [guess.seconds / alone for guess in guesses] == pytest.approx([3.0, 5.0, 6.0, 3.0])
    assert {guess.basis for guess in guesses} == {"operations"}


def test_without_any_row_there_is_an_estimate_all_the_same(tmp_path: Path) -> None:
    """On a CPU; of a GPU that no row is of, nothing is known but which runs take longer."""
    own = planned(task=replace(ETTH1, dataset="own"))
    short = planned(budget=Budget(epochs=2))
    long = planned(budget=Budget(epochs=4))
    basis = [guess.basis for guess in estimate([short, own], [tmp_path / "none"])]
    assert basis == ["operations", "nothing"]
    store(tmp_path, short, 100.0)
    on_gpu = estimate([short, long], [tmp_path], device="cuda")
    assert [guess.basis for guess in on_gpu] == ["nothing", "nothing"]
    assert 1.5 < on_gpu[1].seconds / on_gpu[0].seconds < 2.0
    store(tmp_path, planned(seed=2, budget=short.job.budget), 4.0, device="NVIDIA x")
    assert estimate([short], [tmp_path], device="cuda") == [Guess(5.0 + PER_RUN, "rows")]


def test_a_damaged_file_of_another_suite_costs_no_estimate(tmp_path: Path) -> None:
    """Only what it would have told is missing."""
    store(tmp_path, planned(), 10.0)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "uniform.csv").write_text("no,results\n1,2\n")
    assert estimate([planned(seed=2)], [tmp_path]) == [Guess(11.0 + PER_RUN, "rows")]


def counts(task: Task, *folders: Path) -> tuple[int, int, int]:
    """Windows as they are cut, of a set that its outline describes."""
    series = data.load(task.dataset, folders)
    assert data.outline(task.dataset) == series.outline
    train, valid = windows.development(series, task)
    return len(train), len(valid), len(windows.test(series, task))


@pytest.mark.parametrize("task", [Task("const", 96, 24, 12), Task("mitdb", 96, 24, 12, 300)])
def test_an_outline_counts_the_windows_that_will_be_cut(task: Task) -> None:
    """Of planted and bundled sets, before they are drawn or read."""
    assert data.outline(task.dataset).windows(task.look_back, task.horizon) == counts(task)


def test_an_outline_counts_those_of_a_published_set(data_folder: Path) -> None:
    """It need not be at hand; here it is, to compare."""
    assert data.outline("ETTh1").windows(96, 24) == counts(ETTH1, data_folder)


def test_where_no_window_fits_an_outline_counts_none() -> None:
    """A look-back that is longer than a part, or planted windows of another size."""
    assert data.outline("national_illness").windows(2000, 24)[0] == 0
    assert data.outline("const").windows(96, 48) == (0, 0, 0)


@pytest.mark.parametrize("width", [16, 64])
@pytest.mark.parametrize("backbone", ["transformer", "identity"])
def test_operations_are_those_that_torch_counts(width: int, backbone: str) -> None:
    """A training step of the shared forecaster with uniform patches, to a third of it."""
    task, budget = Task("mitdb", 96, 24, 12, 300), Budget(epochs=1, steps=1, batch=8)
    of = Architecture(width=width, backbone=backbone)  # type: ignore[arg-type]  # one of two words
    job = planned(task=task, architecture=of, budget=budget).job
    outline = data.outline("mitdb")
    more = replace(job, budget=replace(budget, steps=2))
    step = (arithmetic(more, outline) - arithmetic(job, outline)) * (9e9 + 2e8 * width)
    train, _ = windows.development(data.load("mitdb", ()), task)
    model = build(registry.find("uniform"), job, "cpu")
    assert step == pytest.approx(cost(model, train, budget).flops_step, rel=0.33)


# --- what is left --------------------------------------------------------------------------------


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def four(basis: str = "rows") -> dict[str, Guess]:
    """Four runs of a hundred seconds."""
    return {key: Guess(100.0, basis) for key in "abcd"}  # type: ignore[arg-type]  # one of three words


def test_before_anything_is_done_the_estimate_is_what_is_left() -> None:
    """All workers working; a run that is longer than all others together is waited for."""
    assert Left(four(), 2).seconds() == pytest.approx(200.0)
    assert Left(four() | {"e": Guess(900.0, "rows")}, 2).seconds() == pytest.approx(900.0)
    assert wall([*four().values()], 2) == 200.0


def test_what_runs_took_corrects_what_is_left() -> None:
    """Runs that take thrice as long as thought make the rest nearly thrice as long."""
    left = Left(four(), 1)
    left.begin("a")
    left.end("a", 300.0)
    assert 700 < (left.seconds() or 0) < 900
    assert left.done == pytest.approx(0.25)


def test_a_run_that_goes_on_counts_by_its_share_without_the_start_of_its_worker() -> None:
    """The minute before its first epoch is over says nothing of the others."""
    clock = Clock()
    left = Left(four(), 1, clock=clock)
    left.begin("a")
    clock.now = 60.0
    left.reach("a", 0.2)
    assert left.seconds() == pytest.approx(380.0)
    clock.now = 180.0
    left.reach("a", 0.6)  # 40 seconds by the estimate, 120 by the clock
    assert 340 * 1.5 < (left.seconds() or 0) < 340 * 3
    left.begin("a")  # once more
    assert left.done == 0.0
    left.reach("z", 0.5)  # of a run that is over
    left.end("a", 100.0)
    assert left.done == pytest.approx(0.25)


def test_a_run_that_was_never_begun_says_nothing_of_the_others() -> None:
    """What it needs has failed: it is over after no time, and the rest takes as long as before."""
    left = Left(four(), 1)
    left.end("a", 0.0)
    assert left.seconds() == pytest.approx(300.0)
    assert left.done == pytest.approx(0.25)


def test_where_nothing_is_known_the_first_run_tells() -> None:
    """Before it, nothing is said."""
    left = Left(four("nothing"), 2)
    assert left.seconds() is None
    left.begin("a")
    left.end("a", 10.0)
    assert left.seconds() == pytest.approx(15.0)
    for key in "bcd":
        left.begin(key)
        left.end(key, 10.0)
    assert (left.seconds(), left.done) == (0.0, 1.0)


# --- a smaller part ------------------------------------------------------------------------------


def test_the_smaller_part_has_as_many_data_sets_as_there_is_time_for() -> None:
    """One seed and horizon, all methods; where none is short enough, the shortest."""
    tasks = [
        replace(ETTH1, dataset=name, horizon=horizon)
        for name in ("ETTh1", "ETTh2", "weather")
        for horizon in (24, 48)
    ]
    runs = [
        planned(method, seed, task)
        for task in tasks
        for seed in (3, 4)
        for method in ("uniform", "soft")
    ]
    costs = {"ETTh1": 30.0, "ETTh2": 20.0, "weather": 500.0}
    guesses = [
        Guess(costs[run.job.task.dataset] * run.job.task.horizon / 24, "rows") for run in runs
    ]
    part = smaller(runs, guesses, 2, within=60.0)
    assert (part.datasets, part.look_back, part.horizon, part.seed) == (
        ("ETTh2", "ETTh1"),
        96,
        24,
        3,
    )
    assert len(part.guesses) == 4
    assert smaller(runs, guesses, 2, within=1.0).datasets == ("ETTh2",)
