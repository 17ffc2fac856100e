"""Nothing is lost when processes are killed: a bench is killed many times, and its rows compared.

A suite of real runs, a second each at most, is benched in processes of its own. At random moments
the parent or one of its workers is killed outright; a parent that was killed is started again. In
the end there must be one row a run, with the digits of a bench that nobody disturbed.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from harness.bench import watch
from harness.core.job import Record
from harness.results.rows import read_rows

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
METHODS = 4
MEASURED = ("train_seconds", "evaluate_seconds", "peak_memory_mb", "attempts", "commit")
"""What two runs of one job may differ in."""


@dataclass
class Report:
    """What was done, and what became of it.

    ``parents`` and ``workers`` were killed, the bench had ``starts``. ``doubled`` counts rows of
    a run that has one already, ``other_digits`` rows that differ from the undisturbed bench,
    ``retried`` runs that were done a second time because their worker was killed, ``left_over``
    files half-written in the end.
    """

    jobs: int
    parents: int = 0
    workers: int = 0
    starts: int = 0
    rows: int = 0
    doubled: int = 0
    other_digits: int = 0
    retried: int = 0
    left_over: int = 0

    def __str__(self) -> str:
        return (
            f"{self.jobs} runs; killed: {self.parents} parents, {self.workers} workers; the bench"
            f" was started {self.starts} times. {self.rows} rows, {self.doubled} of them doubled,"
            f" {self.other_digits} with other digits; {self.retried} runs done a second time,"
            f" {self.left_over} files left half-written."
        )

    @property
    def lost(self) -> bool:
        """Whether the kills have cost or changed anything."""
        return (self.rows, self.doubled, self.other_digits) != (self.jobs, 0, 0)


def chaos(place: Path, bench: Sequence[str | Path], *, jobs: int, kills: int, seed: int) -> Report:
    """Bench ``jobs`` runs under ``kills`` kills, and once more in peace, and compare.

    ``place`` is a folder to do it in, ``bench`` the command that benches, before its options.

    Raises:
        RuntimeError: the bench fails without a kill, or time and again.
    """
    place = place.resolve()
    place.mkdir(parents=True, exist_ok=True)
    seeds = list(range(1, jobs // METHODS + 1))
    (place / "chaos.toml").write_text(SUITE.format(seeds=seeds), encoding="utf-8")
    report = Report(METHODS * len(seeds))
    dice = random.Random(seed)  # noqa: S311 - moments, not secrets

    def start() -> subprocess.Popen[bytes]:
        report.starts += 1
        return _start(bench, place, "disturbed")

    parent = start()
    while report.parents + report.workers < kills and _is_at_work(place, parent):
        time.sleep(dice.uniform(0.0, 0.4))
        workers = _workers(parent.pid)
        if workers and dice.random() < 0.5:
            with suppress(psutil.NoSuchProcess):
                dice.choice(workers).kill()
                report.workers += 1
        else:
            parent.kill()
            parent.wait()
            report.parents += 1
            parent = start()
    parent.wait()
    while parent.returncode:  # a run whose worker was killed twice has failed: once more
        if report.starts > 3 * kills + 5:
            raise RuntimeError(f"the bench does not come to an end: code {parent.returncode}")
        parent = start()
        parent.wait()
    if code := _start(bench, place, "undisturbed").wait():
        raise RuntimeError(f"the bench that nobody disturbed ended with code {code}")
    return _compared(place, report)


def _start(bench: Sequence[str | Path], place: Path, results: str) -> subprocess.Popen[bytes]:
    where: list[str | Path] = ["--suite", place / "chaos.toml", "--results", place / results]
    return subprocess.Popen(  # noqa: S603 - this project's own command
        [*bench, *where, "--jobs", "2", "--device", "cpu"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
    )


def _is_at_work(place: Path, parent: subprocess.Popen[bytes]) -> bool:
    """Wait until it has done a run, before which little can be lost; False if it has ended."""
    while parent.poll() is None:
        going = watch.progress(place / "disturbed", "chaos")
        if going is not None and going.stored:
            return True
        time.sleep(0.02)
    return False


def _workers(parent: int) -> list[psutil.Process]:
    """The workers of a process: children that were spawned, or forked from the one server."""
    found = []
    with suppress(psutil.NoSuchProcess):  # it has ended in the meantime
        for child in psutil.Process(parent).children(recursive=True):
            with suppress(psutil.Error):
                mark = "spawn_main" if child.ppid() == parent else "forkserver"
                if any(mark in word for word in child.cmdline()):
                    found.append(child)
    return found


def _compared(place: Path, report: Report) -> Report:
    rows, wanted = _rows(place, "disturbed"), _rows(place, "undisturbed")
    digits = {record.key: _digits(record) for record in wanted}
    report.rows = len(rows)
    report.doubled = len(rows) - len({record.coordinates for record in rows})
    report.other_digits = sum(digits.get(row.key) != _digits(row) for row in rows)
    report.retried = sum(row.attempts == 2 for row in rows)
    report.left_over = len(list((place / "disturbed").glob("*/.*")))
    return report


def _rows(place: Path, results: str) -> list[Record]:
    paths = sorted((place / results / "chaos").glob("*.csv"))
    return [record for path in paths for record in read_rows(path)]


def _digits(record: Record) -> Mapping[str, object]:
    return {name: value for name, value in asdict(record).items() if name not in MEASURED}
