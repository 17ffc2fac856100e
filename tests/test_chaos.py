"""Nothing is lost when processes are killed: small here, in full with ``make chaos``.

A suite of real runs, a second each at most, is benched in processes of its own. At random moments
the parent or one of its workers is killed outright; a parent that was killed is started again. In
the end there must be one row a run, with the digits of a bench that nobody disturbed.

In full it also measures what a run costs beside its work: 10,000 that do nothing, through plan,
executor and rows, and 100,000 rows read back.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.bench import execute, local, watch
from harness.bench.execute import Cell, Folders, Stored
from harness.bench.local import Say
from harness.core.job import Job, Provenance, Record, new_record
from harness.core.task import Task
from harness.model import registry
from harness.results.bundles import write_bundle
from harness.results.rows import read_rows, write_rows
from harness.results.table import read_table

ROOT = Path(__file__).parents[1]
SUITE = """\
seeds = {seeds}
methods = ["uniform", "random_step", "local_difference", "seasonal_naive"]

[budget]
epochs = 2
steps = 2

[forecaster]
width = 8
layers = 1
feedforward = 16

[[tasks]]
datasets = ["mitdb"]
look_back = 48
horizons = [12]
patch = 8
"""
# The verb as it is typed, without MLflow and without the pictures at its end.
DRIVER = """\
import sys
from pathlib import Path
sys.path.insert(0, sys.argv.pop(1))
if __name__ == "__main__":
    from harness import cli
    cli.SUITES = Path("suites")
    cli._tracker = lambda *arguments: None
    cli._show_leaderboard = lambda folder: None
    cli.main()
"""
MEASURED = ("train_seconds", "evaluate_seconds", "peak_memory_mb", "attempts", "commit")


@dataclass
class Report:
    """What was done, and what became of it; ``retried`` are runs whose worker was killed."""

    jobs: int
    parents: int = 0
    workers: int = 0
    starts: int = 0
    rows: int = 0
    doubled: int = 0
    other_digits: int = 0
    retried: int = 0
    left_over: int = 0


def chaos(place: Path, jobs: int, kills: int, seed: int) -> Report:
    """Bench ``jobs`` runs under ``kills`` kills, and once more in peace, and compare."""
    (place / "suites").mkdir(parents=True)
    seeds = list(range(1, jobs // 4 + 1))
    (place / "suites" / "chaos.toml").write_text(SUITE.format(seeds=seeds))
    (place / "driver.py").write_text(DRIVER)
    report, dice = Report(4 * len(seeds)), random.Random(seed)  # noqa: S311 - moments, not secrets
    parent = _start(place, "disturbed", report)
    while report.parents + report.workers < kills and _is_at_work(place, parent):
        time.sleep(dice.uniform(0.0, 0.4))
        workers = _workers(parent.pid)
        if workers and dice.random() < 0.5:
            with suppress(ProcessLookupError):
                os.kill(dice.choice(workers), signal.SIGKILL)
                report.workers += 1
        else:
            parent.kill()
            parent.wait()
            report.parents += 1
            parent = _start(place, "disturbed", report)
    parent.wait()
    while parent.returncode:  # a run whose worker was killed twice has failed: once more
        assert report.starts < 3 * kills + 5, "it does not come to an end"
        parent = _start(place, "disturbed", report)
        parent.wait()
    _start(place, "undisturbed", Report(0)).wait()
    return _compared(place, report)


def _start(place: Path, results: str, report: Report) -> subprocess.Popen[bytes]:
    report.starts += 1
    words = ["bench", "--suite", "chaos", "--results", results, "--jobs", "2", "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, "driver.py", ROOT, *words],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )


def _is_at_work(place: Path, parent: subprocess.Popen[bytes]) -> bool:
    """Wait until it has done a run, before which little can be lost; False if it has ended."""
    while parent.poll() is None:
        going = watch.progress(place / "disturbed")
        if going is not None and going.stored:
            return True
        time.sleep(0.02)
    return False


def _workers(parent: int) -> list[int]:
    """The children of a process that are spawned workers."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended in the meantime
            is_child = f"\nPPid:\t{parent}\n" in (process / "status").read_text()
            if is_child and "spawn_main" in (process / "cmdline").read_text():
                found.append(int(process.name))
    return found


def _rows(place: Path, results: str) -> list[Record]:
    paths = sorted((place / results / "chaos").glob("*.csv"))
    return [record for path in paths for record in read_rows(path)]


def _compared(place: Path, report: Report) -> Report:
    rows, wanted = _rows(place, "disturbed"), _rows(place, "undisturbed")
    digits = {record.key: _digits(record) for record in wanted}
    report.rows = len(rows)
    report.doubled = len(rows) - len({record.cell for record in rows})
    report.other_digits = sum(digits.get(row.key) != _digits(row) for row in rows)
    report.retried = sum(row.attempts == 2 for row in rows)
    report.left_over = len(list((place / "disturbed").glob("*/.*")))
    return report


def _digits(record: Record) -> Mapping[str, object]:
    return {name: value for name, value in asdict(record).items() if name not in MEASURED}


def test_killing_parents_and_workers_loses_nothing(tmp_path: Path) -> None:
    """24 runs, 4 kills: as many rows as runs, none twice, and the digits of an undisturbed run."""
    report = chaos(tmp_path, jobs=24, kills=4, seed=1)
    assert report.parents > 0
    assert report.workers > 0
    assert (report.rows, report.doubled, report.other_digits) == (24, 0, 0)
    assert report.left_over == 0


# --- what a run costs beside its work ------------------------------------------------------------


def nothing(cell: Cell, say: Say, *, runs: Path) -> Record:
    """The work of a worker, done at once, with a bundle as small as they come."""
    record = new_record(
        cell.job,
        Provenance("", ""),
        status="done",
        device="cpu",
        mse=0.5,
        mae=0.5,
        **cell.identity,
    )
    write_bundle(runs, record, curves=(), overlay=None)
    return record


@dataclass(frozen=True)
class Costs:
    """Seconds of each step and, in MiB, what the parent held after a tenth and in the end."""

    plan: float
    execute: float
    plan_again: float
    early: float
    late: float


def schedule(results: Path, jobs: int) -> Costs:
    """Plan, execute on two workers and store so many runs that do nothing, then plan again."""
    folders = Folders(results, (), results / "cache", registry.METHODS)
    task = Task("mitdb", 48, 12, 6, 300)
    planned = [Job("nothing", "uniform", task, seed) for seed in range(jobs)]
    began = time.perf_counter()
    cells = execute.to_run(execute.survey(planned, folders))
    surveyed = time.perf_counter()
    work = partial(nothing, runs=folders.runs)
    executor = partial(local.run_locally, work=work, slots=local.cpu_slots(2))
    stored, early = 0, 0.0
    for event in execute.execute(cells, executor, folders, Provenance("", "")):
        stored += isinstance(event, Stored)
        early = early or (_resident() if stored >= jobs // 10 else 0.0)
    executed = time.perf_counter()
    again = execute.survey(planned, folders)
    assert [cell.state for cell in again] == ["done"] * jobs
    return Costs(
        plan=surveyed - began,
        execute=executed - surveyed,
        plan_again=time.perf_counter() - executed,
        early=early,
        late=_resident(),
    )


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def test_runs_that_do_nothing_are_all_stored(tmp_path: Path) -> None:
    """Plan, executor and rows, two hundred times over."""
    assert schedule(tmp_path / "results", 200).late > 0
    assert len(read_rows(tmp_path / "results" / "nothing" / "uniform.csv")) == 200


def time_to_read(folder: Path, count: int) -> float:
    """Seconds that the leaderboard's table of so many rows takes to read."""
    for method, records in _many(count):
        write_rows(folder / f"{method}.csv", records)
    began = time.perf_counter()
    assert len(read_table(folder)) == count
    return time.perf_counter() - began


def _many(count: int) -> Iterator[tuple[str, list[Record]]]:
    """Rows of a hundred methods, alike but for method and seed."""
    job = Job("many", "m", Task("ETTh1", 96, 24, 12, 24), 0)
    scores: dict[str, Any] = dict.fromkeys(
        ("mse", "mae", "mse_raw", "mae_raw", "mase", "smape"), 0.25
    )
    row = new_record(
        job,
        Provenance("a" * 40, "python 3"),
        status="done",
        kind="patcher",
        ranked=True,
        method_source="b" * 64,
        data_hash="c" * 64,
        data_verified=True,
        device="cpu",
        valid_mse=0.25,
        tokens_mean=12.0,
        parameters=7,
        train_seconds=1.0,
        **scores,
    )
    for number in range(100):
        name = f"method_{number}"
        yield (
            name,
            [
                replace(row, method=name, seed=seed, key=f"{number}-{seed}")
                for seed in range(count // 100)
            ],
        )


def main() -> None:
    """In full: a report on standard output, exit code 1 where something was lost."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        began = time.perf_counter()
        report = chaos(place / "chaos", jobs=200, kills=20, seed=1)
        _say(f"chaos, {time.perf_counter() - began:.0f} s", asdict(report))
        costs = schedule(place / "nothing", 10_000)
        _say("10,000 runs that do nothing, on 2 workers, seconds and MiB", asdict(costs))
        total = costs.plan + costs.execute + costs.plan_again
        _say("together", {"ms a run": total / 10})
        _say("100,000 rows", {"read in seconds": time_to_read(place / "many", 100_000)})
    lost = (report.rows, report.doubled, report.other_digits) != (report.jobs, 0, 0)
    raise SystemExit(int(lost))


def _say(title: str, values: Mapping[str, float]) -> None:
    said = ", ".join(f"{name} {value:.6g}" for name, value in values.items())
    sys.stdout.write(f"{title}: {said}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
