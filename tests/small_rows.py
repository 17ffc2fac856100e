"""Rows to test with: what a run of one small job would leave."""

from __future__ import annotations

from harness.core.job import Job, Provenance, Record, new_record
from harness.core.task import Task

JOB = Job("small", "uniform", Task("ETTh1", 96, 24, 12, 24), 1, (("hidden", 16),))
ORIGIN = Provenance(commit="abc", versions="python 3.11, torch 2")


def row(job: Job = JOB, **changes: object) -> Record:
    """A finished record."""
    values = {
        "status": "done",
        "kind": "patcher",
        "ranked": True,
        "method_source": "aa",
        "data_hash": "bb",
        "data_verified": True,
        "device": "cpu",
        "mse": 0.1,
        "mae": 0.2,
    }
    return new_record(job, ORIGIN, **values | changes)  # type: ignore[arg-type]  # columns of several types
