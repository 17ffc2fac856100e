"""A zero-shot suite with all that its board has to show: real rows, and bundles on request."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness import data
from harness.core.job import Job, Provenance, Record, new_record
from harness.core.task import Task
from harness.results.bundles import write_bundle
from harness.results.rows import write_rows
from harness.zero_shot import leaks, tasks
from harness.zero_shot.scores import LEVELS

CORPORA = ("open", "synthetic")
LEVEL = {"uniform": 0.9, "random_step": 0.95, "straight_through": 0.85}
"""By patcher what its error is of the seasonal naive's, on average."""
FEW = ("fev-bench/epf_be", "chronos-II/ETTh", "gift-eval/m4_weekly/W/short")
"""A task of each benchmark, of three source families."""
_ORIGIN = Provenance("0123456789abcdef", "python 3.11.7, torch 2.13.0+cpu")


def write(
    folder: Path, names: Sequence[str] = FEW, seeds: int = 2, runs: Path | None = None
) -> Path:
    """Leave rows in ``folder``, theta's too; with ``runs`` also bundles with forecasts."""
    for method in (*LEVEL, "theta"):
        records = [*_records(folder.name, method, names, seeds)]
        write_rows(folder / f"{method}.csv", records)
        for record in records:
            if runs is not None:
                write_bundle(runs, record, curves=(), overlay=_overlay(record))
    return folder


def _records(suite: str, method: str, names: Sequence[str], seeds: int) -> Iterator[Record]:
    for name in names:
        if method == "theta":
            yield record(suite, method, name, "", 1, 0.97)
            continue
        for corpus in CORPORA:
            for seed in range(1, seeds + 1):
                # A little of its own to every run, the same each time.
                own = math.sin(7 * len(name) + 3 * seed + len(method) + len(corpus)) / 50
                yield record(suite, method, name, corpus, seed, LEVEL[method] * math.exp(own))


def record(
    suite: str, method: str, name: str, corpus: str, seed: int, share: float | None, **changes: int
) -> Record:
    """A run that scored ``share`` of the seasonal naive's errors; without it one that failed."""
    task = tasks.find(name)
    of = Task(task.dataset, 512, task.horizon, 32, task.season)
    needs = pretraining(method, corpus, seed) if corpus else None
    measured: dict[str, Any] = {"masked": 0, **changes}
    if share is not None:
        measured |= {
            "mase": share * task.naive_mase,
            "quantile_loss": share * task.naive_quantile,
            "cases": 100,
            "evaluate_seconds": 0.5,
        }
    return new_record(
        Job(suite, method, of, seed, stage="zero_shot", needs=needs and needs[0]),
        _ORIGIN,
        status="failed" if share is None else "done",
        kind="patcher" if corpus else "reference",
        ranked=bool(corpus),
        strict=True if corpus else None,
        rules="best" if corpus else None,
        grid=method == "uniform",
        method_source=f"{len(method):064x}",
        data_hash=task.hash,
        data_verified=True,
        device="CPU",
        error="" if share is not None else "MemoryError: <b>no room</b>",
        needs=needs and needs[1].key,
        leak=leaks.tags(data.find_corpus(corpus))[name] if corpus and share is not None else None,
        **measured,
    )


def pretraining(
    method: str, corpus: str, seed: int, loss: float | None = 0.3
) -> tuple[Job, Record]:
    """A pre-training, and its row; without a loss one that failed."""
    job = Job("pretraining", method, Task(corpus, 512, 64, 32), seed, stage="pretrain")
    measured: dict[str, Any] = {
        "valid_loss": loss,
        "steps": 2000,
        "train_seconds": 3600.0,
        "parameters": 300_000,
    }
    row = new_record(
        job,
        _ORIGIN,
        status="failed" if loss is None else "done",
        kind="patcher",
        ranked=True,
        strict=True,
        rules="best",
        method_source=f"{len(method):064x}",
        data_hash=f"{len(corpus):064x}",
        data_verified=True,
        device="CPU",
        **({} if loss is None else measured),
    )
    return job, row


def _overlay(row: Record) -> dict[str, object] | None:
    """A made-up forecast: a wave, and what a forecaster with that error would say of it."""
    if row.mase is None:
        return None
    task = tasks.find(row.dataset)
    time = np.arange(256 + task.horizon)
    season = max(task.season, 6)
    values = 20 + np.sin(2 * np.pi * time / season) + np.sin(time / 97) + np.sin(time**2) / 5
    past, future = values[:256], values[256:]
    ahead = np.arange(1, task.horizon + 1)
    bias = np.sin(len(row.method) + row.seed + time[256:] / 9) * row.mase / 4
    spread = 0.3 * np.sqrt(ahead / task.horizon + 0.2)
    quantiles = [future + bias + spread * 2.5 * (level - 0.5) for level in LEVELS]
    shown = {
        "item": "made up",
        "start": "2020-01-01",
        "past": past.tolist(),
        "future": future.tolist(),
        "quantiles": [level.tolist() for level in quantiles],
        "levels": list(LEVELS),
        "by_step": (row.mase * (0.7 + 0.6 * ahead / task.horizon)).tolist(),
        "by_case": [[20 * 2 ** (k % 6), row.mase * (0.6 + 0.1 * (k % 9))] for k in range(60)],
        "method": row.method,
        "arm": row.arm,
    }
    step = 16 if row.method == "uniform" else 11 + row.seed
    return shown | ({"starts": list(range(0, 256, step))} if row.corpus else {})
