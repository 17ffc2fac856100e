"""What the house costs beside its work: many runs that do nothing, and a suite as large as any.

:func:`schedule` takes runs without work through plan, executor and rows. :func:`write_suite` makes
up rows without runs, to measure what reading and ranking them costs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from harness.bench import execute, local
from harness.bench.events import Tell
from harness.bench.execute import Stored
from harness.bench.survey import Folders, PlannedRun, survey, to_run
from harness.core.job import Job, Provenance, Record, new_record
from harness.core.task import Task
from harness.report.statistics import CONTROLS
from harness.results.bundles import write_bundle
from harness.results.rows import write_rows
from harness.results.table import METRICS, read_table


def nothing(run: PlannedRun, tell: Tell, *, runs: Path) -> Record:  # noqa: ARG001 - nothing to tell
    """The work of a worker, done at once, with a bundle as small as they come."""
    record = new_record(
        run.job,
        Provenance("", ""),
        status="done",
        device="cpu",
        mse=0.5,
        mae=0.5,
        **run.identity,
    )
    write_bundle(runs, record, curves=(), overlay=None)
    return record


@dataclass(frozen=True)
class Costs:
    """Of ``jobs`` runs: seconds of each step, and MiB the parent held after a tenth and all."""

    jobs: int
    plan: float
    execute: float
    plan_again: float
    early: float
    late: float

    def __str__(self) -> str:
        together = self.plan + self.execute + self.plan_again
        return (
            f"{self.jobs:,} runs that do nothing, on 2 workers: planned in {self.plan:.1f} s, done"
            f" in {self.execute:.1f} s, planned again in {self.plan_again:.1f} s, together"
            f" {1000 * together / self.jobs:.1f} ms a run; the parent held {self.early:.0f} MiB"
            f" after a tenth of them and {self.late:.0f} MiB in the end."
        )


def schedule(results: Path, jobs: int) -> Costs:
    """Plan, execute on two workers and store so many runs that do nothing, then plan again."""
    folders = Folders(results, (), results / "cache")
    task = Task("mitdb", 48, 12, 6, 300)
    planned = [Job("nothing", "uniform", task, seed) for seed in range(jobs)]
    began = time.perf_counter()
    due = to_run(survey(planned, folders))
    surveyed = time.perf_counter()
    work = partial(nothing, runs=folders.runs)
    executor = partial(local.run_locally, work=work, slots=local.cpu_slots(2))
    stored, early = 0, 0.0
    for event in execute.execute(due, executor, folders, Provenance("", "")):
        stored += isinstance(event, Stored)
        early = early or (_resident() if stored >= jobs // 10 else 0.0)
    executed = time.perf_counter()
    planned_anew = survey(planned, folders)
    if undone := sum(run.state != "done" for run in planned_anew):
        raise RuntimeError(f"{undone} of {jobs} runs have no row")
    return Costs(
        jobs,
        plan=surveyed - began,
        execute=executed - surveyed,
        plan_again=time.perf_counter() - executed,
        early=early,
        late=_resident(),
    )


def _resident() -> float:
    return float(psutil.Process().memory_info().rss / 2**20)


def read(folder: Path) -> tuple[int, float]:
    """How many rows the table of a folder has, and the seconds that reading it takes."""
    began = time.perf_counter()
    rows = len(read_table(folder))
    return rows, time.perf_counter() - began


HORIZONS = (96, 192, 336, 720)
_ALWAYS = (*CONTROLS, "seasonal_naive")


def write_suite(
    folder: Path, *, methods: int = 200, datasets: int = 25, seeds: int = 5, seed: int = 0
) -> Path:
    """Leave ``methods x datasets x 4 x seeds`` rows in ``folder``; the same ones each time.

    Methods differ by about a percent, data sets by a factor, seeds by half a percent; one run in a
    thousand has failed.
    """
    draw = np.random.default_rng(seed)
    names = [*_ALWAYS, *(f"method_{index:03d}" for index in range(methods - len(_ALWAYS)))]
    level = draw.uniform(0.1, 1.0, (datasets, len(HORIZONS)))
    for method in names:
        effect = 1 + 0.01 * draw.standard_normal() + (method == "seasonal_naive")
        own = effect + 0.01 * draw.standard_normal((datasets, 1, 1))
        noise = 1 + 0.005 * draw.standard_normal((datasets, len(HORIZONS), seeds))
        failed = draw.random((datasets, len(HORIZONS), seeds)) < 0.001
        records = _records(folder.name, method, level[..., None] * own * noise, failed)
        write_rows(folder / f"{method}.csv", records)
    return folder


def _records(suite: str, method: str, errors: np.ndarray, failed: np.ndarray) -> Iterator[Record]:
    provenance = Provenance("0" * 40, "python 3.11.7, torch 2.13.0, numpy 2.4.6, sktime 1.2.0")
    kind = "reference" if method == "seasonal_naive" else "patcher"
    for at in product(*map(range, errors.shape)):
        dataset, horizon, seed = at
        task = Task(f"set_{dataset:02d}", 512, HORIZONS[horizon], 32, 24)
        error = float(errors[at])
        scores: dict[str, Any] = dict.fromkeys(METRICS, error)
        costs = {"tokens_mean": 32.0, "tokens_padded": 32.0, "parameters": 100_000}
        costs |= {"flops": 1e7, "flops_step": 1e9, "train_seconds": 60.0, "valid_mse": error}
        yield new_record(
            Job(suite, method, task, seed + 1),
            provenance,
            status="failed" if failed[at] else "done",
            kind=kind,
            ranked=kind == "patcher",
            strict=True if kind == "patcher" else None,
            rules="best" if kind == "patcher" else None,
            method_source="a" * 64,
            data_hash=f"{dataset:064x}",
            data_verified=True,
            device="CPU",
            **({} if failed[at] else scores | costs),
        )
