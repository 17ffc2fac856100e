"""A suite as large as it gets: rows without runs, to measure what reading and ranking costs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.job import Job, Provenance, Record, new_record
from harness.core.task import Task
from harness.results.rows import write_rows
from harness.results.table import METRICS

HORIZONS = (96, 192, 336, 720)
_CONTROLS = ("uniform", "uniform_best", "random_step", "seasonal_naive")


def write(
    folder: Path, *, methods: int = 200, datasets: int = 25, seeds: int = 5, seed: int = 0
) -> Path:
    """Leave ``methods x datasets x 4 x seeds`` rows in ``folder``; the same ones each time.

    Methods differ by about a percent, data sets by a factor, seeds by half a percent; one run in a
    thousand has failed.
    """
    draw = np.random.default_rng(seed)
    names = [*_CONTROLS, *(f"method_{index:03d}" for index in range(methods - len(_CONTROLS)))]
    level = draw.uniform(0.1, 1.0, (datasets, len(HORIZONS)))
    for method in names:
        effect = 1 + 0.01 * draw.standard_normal() + (method == "seasonal_naive")
        local = effect + 0.01 * draw.standard_normal((datasets, 1, 1))
        noise = 1 + 0.005 * draw.standard_normal((datasets, len(HORIZONS), seeds))
        failed = draw.random((datasets, len(HORIZONS), seeds)) < 0.001
        records = _records(folder.name, method, level[..., None] * local * noise, failed)
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
            relaxed=False if kind == "patcher" else None,
            method_source="a" * 64,
            data_hash=f"{dataset:064x}",
            data_verified=True,
            device="CPU",
            **({} if failed[at] else scores | costs),
        )
