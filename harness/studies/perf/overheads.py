"""What a job costs beside its work: its key, its bundle, its row, tracking; and its memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from harness.bench import local
from harness.bench.events import Finished, Tell
from harness.core.job import Job, Provenance, Record, new_record
from harness.results.bundles import write_bundle
from harness.results.rows import put_row, write_rows
from harness.run.job import run
from harness.studies.perf.report import Table
from harness.studies.perf.setting import BATCH, CONFIGURATIONS, TASK, Stage


def overheads(stage: Stage, directories: Sequence[Path]) -> Table:
    """What a job costs beside its work, and the memory that a whole run takes."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        records = [_record(seed) for seed in range(1009)]
        write_rows(place / "rows.csv", records[:1000])
        bundles = [_bundle(place, record) for record in records[:9]]
        spent = {
            "a job's key": _seconds([partial(_record, seed) for seed in range(9)]),
            "its bundle": _seconds([partial(_bundle, place, record) for record in records[:9]]),
            "its row, into a file of 1,000": _seconds(
                [partial(put_row, place / "rows.csv", record) for record in records[1000:]]
            ),
            "tracking": _seconds(_tracked(place, bundles)),
        }
    together = sum(spent.values())
    return Table(
        title="Overheads of a job",
        note="Wall time, medians of nine. Memory: a d16 run on ETTh1, a few steps and all of"
        " validation and test.",
        header=("what", "measured", "target"),
        lines=[
            *((name, f"{1000 * seconds:.1f} ms", "") for name, seconds in spent.items()),
            ("together", f"{together:.2f} s", "under 0.3 s"),
            ("peak memory, batch 32", _memory(stage, directories, 32), "under 450 MB"),
            (f"peak memory, batch {BATCH}", _memory(stage, directories, BATCH), ""),
        ],
    )


def _record(seed: int) -> Record:
    return new_record(
        replace(CONFIGURATIONS[0].job(), seed=seed),
        Provenance("", ""),
        status="done",
        kind="reference",
        ranked=False,
        method_source="",
        data_hash="",
        data_verified=True,
        device="",
        mse=1.0,
        mae=1.0,
    )


def _bundle(runs: Path, record: Record) -> Path:
    curves = [{"epoch": number, "valid_mse": 1 / number} for number in range(1, 11)]
    return write_bundle(runs, record, curves=curves, overlay=None)


def _tracked(results: Path, bundles: Sequence[Path]) -> list[Callable[[], object]]:
    from harness.report.tracking import (
        Tracker,  # MLflow takes seconds to import, and only this needs it
    )

    tracker = Tracker(results, "perf")
    return [partial(tracker.record, bundle) for bundle in bundles]


def _seconds(acts: Sequence[Callable[[], object]]) -> float:
    """Median wall time of an act."""
    spent = []
    for act in acts:
        since = time.perf_counter()
        act()
        spent.append(time.perf_counter() - since)
    return median(spent)


def _memory(stage: Stage, directories: Sequence[Path], batch: int) -> str:
    if stage.series.name != TASK.dataset:
        return f"not measured: {TASK.dataset} is not at hand"
    job = CONFIGURATIONS[0].job(epochs=1, batch=batch)
    with TemporaryDirectory() as folder:
        work = partial(_run, directories=directories, device=stage.device, runs=Path(folder))
        *_, last = local.run_locally([job], work, local.cpu_slots(1))
    assert isinstance(last, Finished)
    if last.result is None:
        raise RuntimeError(last.error)
    return f"{last.result.peak_memory_mb:.0f} MB"


def _run(job: Job, tell: Tell, *, directories: Sequence[Path], device: str, runs: Path) -> Record:
    origin = Provenance("", "")
    return run(
        job, directories=directories, device=device, runs=runs, provenance=origin, on_epoch=tell
    )
