"""How long runs will take: from the rows there are, or from their arithmetic; and what is left.

Seconds are those of one worker, which on a CPU is one core. A row says what a run took on whatever
machine did it.
"""

from __future__ import annotations

import csv
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Literal

from harness import data
from harness.bench.survey import PlannedRun
from harness.core.job import Job, Record, job_of
from harness.core.task import Architecture, Task
from harness.data import Outline
from harness.results.rows import read_rows

PER_RUN = 0.5
"""Seconds of a run beside training and test: data, bundle, row."""


Basis = Literal["rows", "operations", "nothing"]
"""What an estimate stands on: rows of runs like it, its floating-point operations, or nothing."""


@dataclass(frozen=True)
class Guess:
    """What a run may take, in seconds; on the basis of nothing they only compare two runs."""

    seconds: float
    basis: Basis


def estimate(
    planned: Sequence[PlannedRun], results: Sequence[Path], *, device: str = "cpu"
) -> list[Guess]:
    """How long each run will take.

    Where there are rows of its method, task, forecaster and training budget, it is their mean.
    Else it is the time of the run's floating-point operations, at the pace that rows of its method
    had elsewhere; or at that of uniform patches, times what ``cost.csv`` says of a training step.
    Rows and ``cost.csv`` are looked for in the folders ``results``. Of a GPU that no row is of,
    nothing is known.
    """
    rows = list(_rows({run.job.method for run in planned} | {_YARDSTICK}, results, device))
    outlines = {name: data.outline(name) for name in data.known()}
    outlines |= {run.job.task.dataset: run.outline for run in planned if run.outline is not None}
    like: dict[object, list[float]] = defaultdict(list)
    paces: dict[str, list[float]] = defaultdict(list)
    for job, seconds in rows:
        like[_kind(job)].append(seconds)
        if (outline := outlines.get(job.task.dataset)) is not None:  # of an own set it may be gone
            paces[job.method].append(seconds / arithmetic(job, outline))
    pace = {method: median(own) for method, own in paces.items()}
    ratio = _step_ratios(results)
    basis: Basis = "operations" if device == "cpu" or rows else "nothing"

    def guess(run: PlannedRun) -> Guess:
        if own := like.get(_kind(run.job)):
            return Guess(fmean(own), "rows")
        method = run.job.method
        slower = pace.get(method) or pace.get(_YARDSTICK, 1.0) * ratio.get(method, 1.0)
        if run.job.stage == "zero_shot":
            return Guess(2 * PER_RUN, basis)
        if run.job.stage == "pretrain":
            return Guess(of_pretraining(run.job) * slower, basis)
        if run.outline is None:
            return Guess(PER_RUN, "nothing")
        return Guess(arithmetic(run.job, run.outline) * slower, basis)

    return [guess(run) for run in planned]


def wall(guesses: Sequence[Guess], workers: int) -> float:
    """Seconds until the last of the runs is over."""
    seconds = [guess.seconds for guess in guesses]
    return max(sum(seconds) / workers, max(seconds, default=0.0))


@dataclass(frozen=True)
class Part:
    """A selection of a suite: one seed, look-back and horizon, on some of its data sets."""

    datasets: tuple[str, ...]
    look_back: int
    horizon: int
    seed: int
    guesses: tuple[Guess, ...]


def smaller(
    due: Sequence[PlannedRun], guesses: Sequence[Guess], workers: int, within: float
) -> Part:
    """The part with all methods and the most data sets that takes ``within`` seconds or less.

    Of equal ones it is the shortest, and where none is so short, the shortest of one data set.
    """
    seed = due[0].job.seed
    tasks: dict[tuple[int, int], dict[str, list[Guess]]] = defaultdict(lambda: defaultdict(list))
    for run, guess in zip(due, guesses, strict=True):
        if run.job.seed == seed:
            task = run.job.task
            tasks[task.look_back, task.horizon][task.dataset].append(guess)
    parts = []
    for lengths, of in tasks.items():
        names = sorted(of, key=lambda name: sum(guess.seconds for guess in of[name]))
        for count in range(1, len(names) + 1):
            chosen = tuple(guess for name in names[:count] for guess in of[name])
            parts.append(Part(tuple(names[:count]), *lengths, seed, chosen))
    seconds = {part: wall(part.guesses, workers) for part in parts}
    fits = [part for part in parts if seconds[part] <= within]
    most = max((len(part.datasets) for part in fits), default=1)
    return min(
        (part for part in fits or parts if len(part.datasets) == most), key=seconds.__getitem__
    )


def arithmetic(job: Job, outline: Outline) -> float:
    """Seconds that the job's floating-point operations take a core, were it of uniform patches.

    A training step counts as three forecasts; each epoch forecasts the validation windows once,
    and the test windows are forecast once and under other boundaries. Operations a second rise
    with the width of the products, as in ``results/perf.md``.
    """
    task, budget, of = job.task, job.budget, job.architecture
    train, valid, test = outline.windows(task.look_back, task.horizon)
    trained = min(train, (budget.steps or train) * budget.batch)
    valid = min(valid, budget.valid_windows or valid)
    tested = min(test, budget.test_windows or test)
    probed = min(test, budget.probe_windows or test)
    windows = budget.epochs * (3 * trained + valid) + tested + _OTHERS * probed
    return PER_RUN + windows * outline.channels * _of_a_row(task, of)


def of_pretraining(job: Job) -> float:
    """The same of a pre-training: rows of its budget in the place of windows of a data set."""
    budget = job.budget
    rows = budget.epochs * (3 * (budget.steps or 0) * budget.batch + (budget.valid_windows or 0))
    return PER_RUN + rows * _of_a_row(job.task, job.architecture)


def _of_a_row(task: Task, of: Architecture) -> float:
    """Seconds that the forecast of one row takes."""
    tokens, width = task.patches, of.width
    layers = of.layers if of.backbone == "transformer" else 0
    layer = tokens * width * (8 * width + 4 * of.feedforward + 4 * tokens)
    ends = 4 * tokens * width * of.points + 2 * task.look_back * task.horizon
    return (layers * layer + ends) / (9e9 + 2e8 * width)


_YARDSTICK = "uniform"
_OTHERS = 4  # forecasts under other boundaries


def _rows(
    methods: Iterable[str], results: Sequence[Path], device: str
) -> Iterator[tuple[Job, float]]:
    """Jobs that have run on such a device, each with its seconds."""
    folders = {folder.resolve() for folder in results}
    paths = {
        path for folder in folders for name in methods for path in folder.glob(f"*/{name}.csv")
    }
    for path in sorted(paths):
        with suppress(ValueError):  # a damaged file, maybe of another suite, costs only its part
            for record in read_rows(path):
                is_cpu = record.device.startswith("CPU")
                seconds = spent(record)
                if seconds is not None and is_cpu == (device == "cpu"):
                    yield job_of(record), seconds


def spent(record: Record) -> float | None:
    """The seconds that a run took, without the start of its worker; None of one that failed."""
    if record.train_seconds is None and record.evaluate_seconds is None:
        return None
    return (record.train_seconds or 0.0) + (record.evaluate_seconds or 0.0) + PER_RUN


def _kind(job: Job) -> object:
    """What runs have in common that take equally long."""
    return (job.method, job.stage, job.task, job.architecture, job.budget)


def _step_ratios(results: Sequence[Path]) -> dict[str, float]:
    """What a training step of each method costs, in steps with uniform patches."""
    for path in (folder / "cost.csv" for folder in results):
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                return {row["method"]: float(row["ratio"]) for row in csv.DictReader(file)}
    return {}


# --- while runs are being done -------------------------------------------------------------------


class Left:
    """How many seconds are left of a bench, by what its runs were thought to take and then took.

    What has been done corrects what is expected of the rest, more with every second of work; at
    first a tenth of the estimate, and a minute at most, is believed beside it. Where the estimate
    stands on nothing, only what has been done counts. ``clock`` is in seconds.
    """

    def __init__(
        self,
        expected: Mapping[str, Guess],
        workers: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._due = {key: guess.seconds for key, guess in expected.items()}
        self._workers, self._clock = workers, clock
        self._whole = sum(self._due.values())
        is_blind = any(guess.basis == "nothing" for guess in expected.values())
        # Seconds that runs took, and were thought to take.
        self._spent = self._thought = 0.0 if is_blind else min(60.0, self._whole / 10)
        self._running: dict[str, list[tuple[float, float]]] = {}

    def begin(self, key: str) -> None:
        """A run has been started, for the first time or the second."""
        self._running[key] = []

    def reach(self, key: str, share: float) -> None:
        """A share of a run, from 0 to 1, is done."""
        if key in self._running:  # from far away it may come too late
            # The first and the last is what counts: before the first, a worker had to start.
            self._running[key] = [*self._running[key][:1], (self._clock(), share)]

    def end(self, key: str, seconds: float) -> None:
        """A run is over and took so long, without the start of its worker.

        One that was never begun is over, and says nothing of the others.
        """
        thought = self._due.pop(key)
        if self._running.pop(key, None) is not None:
            self._thought += thought
            self._spent += seconds

    @property
    def done(self) -> float:
        """The share of the whole work, from 0 to 1, that is done."""
        return 1.0 - sum(self._rest()) / self._whole

    def seconds(self) -> float | None:
        """Until the last run is over; None while nothing is known."""
        spent, thought = self._spent, self._thought
        for key, heard in self._running.items():
            if len(heard) > 1:
                (began, at_first), (last, share) = heard
                spent += last - began
                thought += (share - at_first) * self._due[key]
        rest = self._rest()
        pace = spent / thought if thought else None
        return pace and pace * max(max(rest, default=0.0), sum(rest) / self._workers)

    def _rest(self) -> list[float]:
        """What is left of each run, as it was thought."""
        shares = {key: heard[-1][1] for key, heard in self._running.items() if heard}
        return [seconds * (1.0 - shares.get(key, 0.0)) for key, seconds in self._due.items()]
