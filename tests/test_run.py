"""One job, one record: the same digits every time, costs counted, divergence recorded."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.core.job import Job, Provenance, Record, recomputed_key
from harness.core.task import Architecture, Budget, Task
from harness.model import registry
from harness.model.forecaster import PatchForecaster
from harness.model.patcher import Patcher
from harness.results.bundles import read_bundle
from harness.run.job import build, load, run, seed_of

TASK = Task("mitdb", 48, 12, 6, season=1)
JOB = Job(
    suite="tiny",
    method="straight_through",
    task=TASK,
    seed=3,
    architecture=Architecture(width=8, layers=1, heads=2, feedforward=16),
    budget=Budget(epochs=2, steps=3, batch=8),
)


def go(job: Job, runs: Path, methods: Path = registry.METHODS) -> Record:
    return run(
        job,
        directories=(),
        device="cpu",
        runs=runs,
        provenance=Provenance("c", "v"),
        methods=methods,
    )


MEASURED = ("train_seconds", "evaluate_seconds", "peak_memory_mb")


def test_the_same_job_gives_the_same_digits(tmp_path: Path) -> None:
    """Two runs of a job differ in seconds and memory only; another seed differs in its errors."""
    first, again = (go(JOB, tmp_path / name) for name in ("a", "b"))
    blank: dict[str, Any] = dict.fromkeys(MEASURED)
    assert dataclasses.replace(first, **blank) == dataclasses.replace(again, **blank)
    other = go(dataclasses.replace(JOB, seed=4), tmp_path)
    assert other.mse != first.mse


def test_a_record_is_complete_and_knows_its_key(tmp_path: Path) -> None:
    """Metrics, windows, tokens, boundaries, operations, memory and device are all there."""
    record = go(JOB, tmp_path)
    assert record.key == recomputed_key(record)
    row = dataclasses.asdict(record)
    # One channel, and a method that does in training what it does when it is tested.
    absent = [name for name, value in row.items() if value is None]
    others = ["mse_sample", "mse_even", "mse_other_channel"]
    # Of other stages than the usual one.
    stages = ["stage", "corpus", "needs", "valid_loss"]
    stages += ["quantile_loss", "wape", "cases", "masked", "leak"]
    # Of series that people labelled.
    labels = ["mse_near", "mse_away", "share_near", "mse_change", "mse_steady", "share_change"]
    assert absent == [*others, *labels, "trials", *stages, "failure", "data_warning"]
    assert (record.rules, record.rule) == ("best", "best")
    assert record.mse_best == pytest.approx(record.mse)
    assert (record.attempts, record.micro_batch) == (1, JOB.budget.batch)
    parts = [row[f"parameters_{part}"] for part in ("patcher", "backbone", "head")]
    assert all(parts)
    assert row["parameters"] == sum(parts)
    assert row["flops_step"] > 2 * row["flops"] * JOB.budget.batch
    assert row["tokens_mean"] == row["tokens_padded"] == 6
    assert 10 < row["peak_memory_mb"] < 4000


def test_a_run_leaves_its_bundle(tmp_path: Path) -> None:
    """Curves an epoch, the window to look at, and weights that load without running code."""
    record = go(JOB, tmp_path)
    bundle = read_bundle(tmp_path / record.key)
    assert bundle.record == record
    assert [epoch["epoch"] for epoch in bundle.curves] == [1.0, 2.0]
    assert bundle.overlay is not None
    assert len(bundle.overlay["starts"]) == 6
    assert bundle.weights is not None
    weights = torch.load(bundle.weights, weights_only=True)
    assert any(name.startswith("patcher.") for name in weights)


PORTABLE = """
from torch import nn
from harness.model.patcher import Patcher, from_scores

class Portable(Patcher):
    def __init__(self, task, *, bias: bool = True):
        super().__init__(task)
        self.score = nn.Conv1d(1, 1, 3, padding=1, bias=bias)

    def forward(self, rows):
        score = self.score(rows.values[:, None])[:, 0, 1:]
        return from_scores(score.detach(), self.task.patches, loss=score.square().mean())
"""


def test_a_patcher_that_can_stand_alone_is_left_alone_in_the_bundle(tmp_path: Path) -> None:
    """What it learned loads for another look-back; others leave none: fixed, or on features."""
    (tmp_path / "portable.py").write_text(PORTABLE)
    job = dataclasses.replace(JOB, method="portable", hyperparameters=(("bias", False),))
    record = go(job, tmp_path / "runs", tmp_path)
    bundle = read_bundle(tmp_path / "runs" / record.key)
    assert bundle.patcher is not None
    assert bundle.weights is not None
    method = registry.find("portable", tmp_path)
    assert issubclass(method, Patcher)
    carried = method.load(bundle.patcher, dataclasses.replace(TASK, look_back=96))
    weights = torch.load(bundle.weights, weights_only=True)
    assert torch.equal(carried.state_dict()["score.weight"], weights["patcher.score.weight"])
    for other in ("straight_through", "uniform", "repeat_last"):
        record = go(dataclasses.replace(JOB, method=other), tmp_path / "runs")
        assert read_bundle(tmp_path / "runs" / record.key).patcher is None


RULED = """
import torch
from torch import nn
from harness.model.patcher import Patcher, from_starts, uniform_starts

class Ruled(Patcher):
    rules = ("sample", "best", "even")

    def __init__(self, task):
        super().__init__(task)
        self.size = nn.Parameter(torch.ones(()))

    def forward(self, rows):
        start = uniform_starts(self.task.look_back, self.task.patches).expand(len(rows.ids), -1)
        right = rows.generator is not None or rows.rule == "even"
        gain = torch.full_like(start, 1 if right else -1, dtype=torch.float32)
        return from_starts(start, self.task.look_back, gain=gain, loss=self.size.square())
"""


def test_the_chosen_rule_is_scored_told_and_left_in_the_bundle(tmp_path: Path) -> None:
    """It is named in the row, its error is the row's, and weights and patcher come with it."""
    (tmp_path / "ruled.py").write_text(RULED)
    budget = dataclasses.replace(JOB.budget, epochs=3, steps=None, learning_rate=5e-3)
    job = dataclasses.replace(JOB, method="ruled", budget=budget)
    record = go(job, tmp_path / "runs", tmp_path)
    assert (record.rules, record.rule) == ("sample best even", "even")
    assert record.mse_even == pytest.approx(record.mse)
    assert record.mse_sample == record.mse_best
    assert (record.mse_best or 0.0) > 1.05 * (record.mse_even or math.inf)
    bundle = read_bundle(tmp_path / "runs" / record.key)
    least = min(bundle.curves, key=lambda epoch: epoch["valid_mse"])
    assert record.valid_mse == least["valid_mse"] == least["valid_mse_even"]
    assert least["valid_mse_best"] > least["valid_mse_even"]
    method = registry.find("ruled", tmp_path)
    assert issubclass(method, Patcher)
    assert bundle.patcher is not None
    assert method.load(bundle.patcher, TASK).evaluation_rule == "even"
    model = build(method, job, "cpu")
    assert bundle.weights is not None
    model.load_state_dict(torch.load(bundle.weights, weights_only=True))
    assert isinstance(model, PatchForecaster)
    assert model.patcher.evaluation_rule == "even"


def test_shared_layers_start_alike_for_every_patcher() -> None:
    """Under one seed the embedder, backbone and head begin with the same weights."""
    from methods.random_frozen import RandomFrozen
    from methods.straight_through import StraightThrough
    from methods.uniform import Uniform

    states = [
        build(method, JOB, "cpu").state_dict()
        for method in (Uniform, RandomFrozen, StraightThrough)
    ]
    for name, value in states[0].items():
        assert all(torch.equal(value, state[name]) for state in states[1:]), name


def test_the_seeds_of_a_job_share_no_stream() -> None:
    """Patcher, shared layers, data order and dropout have seeds that no other job has either."""
    purposes = ("method", "forecaster", "order", "dropout")
    jobs = [dataclasses.replace(JOB, seed=seed) for seed in range(5)]
    assert len({seed_of(job, purpose) for job in jobs for purpose in purposes}) == 20


def test_the_season_of_a_task_is_that_of_its_series() -> None:
    """What a suite says of it holds for all that is computed from the data set."""
    task = dataclasses.replace(TASK, season=7)
    assert load(dataclasses.replace(JOB, task=task), ()).season == 7


def test_divergence_is_a_record_not_a_number(tmp_path: Path) -> None:
    """A learning rate that blows up gives status diverged, no errors, and what was spent."""
    budget = dataclasses.replace(JOB.budget, learning_rate=1e30, clip=1e30, schedule="constant")
    record = go(dataclasses.replace(JOB, method="uniform", budget=budget), tmp_path)
    assert (record.status, record.failure, record.mse) == ("diverged", "diverged", None)
    assert "not finite" in record.error
    assert record.steps


def test_a_second_attempt_says_so_and_keeps_its_key(tmp_path: Path) -> None:
    """A run in halves is a run of the same job: its row says how it was done."""
    whole = go(JOB, tmp_path / "whole")
    halves = run(
        JOB,
        directories=(),
        device="cpu",
        runs=tmp_path,
        provenance=Provenance("c", "v"),
        attempts=2,
        micro_batch=4,
    )
    assert (halves.attempts, halves.micro_batch) == (2, 4)
    assert (halves.key, halves.steps) == (whole.key, whole.steps)
    assert halves.mse == pytest.approx(whole.mse, rel=0.2)


def test_references_run_like_methods(tmp_path: Path) -> None:
    """One without parameters needs no training, is marked as a reference and has no boundaries."""
    record = go(dataclasses.replace(JOB, method="repeat_last"), tmp_path)
    assert (record.kind, record.ranked, record.epochs, record.parameters) == (
        "reference", False, 0, 0,
    )  # fmt: skip
    for name in (
        "mse_swapped",
        "mse_permuted",
        "f1_0",
        "covering",
        "position_bias",
        "distinct",
        "rule",
        "rules",
        "mse_best",
        "mse_no_content",
    ):
        assert getattr(record, name) is None
    assert read_bundle(tmp_path / record.key).boundaries is None


def test_an_unknown_method_is_refused_with_the_nearest(tmp_path: Path) -> None:
    """A misspelt method says what it may have meant."""
    with pytest.raises(ValueError, match="did you mean 'uniform'"):
        go(dataclasses.replace(JOB, method="unifrom"), tmp_path)


def test_windows_are_capped_where_the_budget_says_so(tmp_path: Path) -> None:
    """Some of the windows are other errors, another key, and a row that says how many."""
    whole = go(JOB, tmp_path)
    assert whole.windows is not None
    for cap, other in (
        ("valid_windows", "valid_mse"),
        ("test_windows", "mse"),
        ("probe_windows", "mse_swapped"),
    ):
        budget = dataclasses.replace(JOB.budget, **{cap: 5})  # type: ignore[arg-type]  # named by a text
        some = go(dataclasses.replace(JOB, budget=budget), tmp_path)
        assert some.key != whole.key
        assert getattr(some, other) != getattr(whole, other)
        assert some.windows == (5 if cap == "test_windows" else whole.windows)
    with pytest.raises(ValueError, match="valid_windows is 0; a whole number of 1 or more"):
        dataclasses.replace(JOB.budget, valid_windows=0)
