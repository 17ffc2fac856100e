"""Committed rows, checked without trust: by what they say, and by running one of them again.

Whoever contributes rows has run them elsewhere. :func:`validate` holds every row to its own key,
to the suite that plans it, to data, windows and budget of the protocol, and to the code of its
method as it is here, and to its bundle where that is at hand. :func:`rerun` repeats a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness import data
from harness.bench import local
from harness.bench.events import Finished, Said, Slot, Tell
from harness.bench.plan import plan
from harness.bench.suite import find as find_suite
from harness.core.identity import import_hash
from harness.core.job import (
    Job,
    Provenance,
    Record,
    is_reference,
    job_key,
    job_of,
    recomputed_key,
    why_stale,
)
from harness.core.protocol import most_patches
from harness.core.task import Task
from harness.core.words import unknown
from harness.model import registry
from harness.model.patcher import Patcher
from harness.report.kinds import kind_of
from harness.results.bundles import recorded
from harness.results.compare import ELSEWHERE, differences
from harness.results.rows import read_rows
from harness.results.table import UNIFORM_BEST, row_files
from harness.run.job import run
from harness.zero_shot import tasks as zero_shot


@dataclass(frozen=True, order=True)
class Problem:
    """What is wrong with a line of a file; line 1 is the header, 0 the whole file or folder."""

    path: Path
    line: int
    what: str

    def __str__(self) -> str:
        where = f"{self.path}, line {self.line}" if self.line else str(self.path)
        return f"{where}: {self.what}"


def validate(results: Path, suites: Path, methods: Path = registry.METHODS) -> list[Problem]:
    """Everything that is wrong with the rows of all suites in ``results``, in order.

    Data sets need not be at hand.

    Raises:
        ValueError: there is no such folder.
    """
    if not results.is_dir():
        raise ValueError(f"there is no folder {results}")
    folders = sorted({path.parent for path in results.glob("*/*.csv")})
    return sorted(
        problem
        for folder in folders
        if row_files(folder)
        for problem in _in_folder(folder, suites, methods)
    )


def _in_folder(folder: Path, suites: Path, methods: Path) -> list[Problem]:
    rows, problems = [], []
    for path in row_files(folder):
        own, damaged = _read(path)
        rows += own
        problems += damaged
    bundles = recorded(folder.parent / "runs", (row.record.key for row in rows))
    plan, why_not = _plan(folder, suites, sorted({row.record.method for row in rows}), methods)
    problems += [Problem(folder, 0, why) for why in why_not]
    for row in rows:
        said = [*_of_itself(row), *_of_its_task(row), *_of_its_budget(row)]
        said += _of_its_bundle(row, bundles.get(row.record.key))
        if not why_not:
            said += _of_the_plan(row, plan, methods)
        problems += [Problem(row.path, row.line, what) for what in said]
    problems += _repeated(rows)
    if not problems:
        try:
            kind_of(folder).read(folder)
        except ValueError as error:
            problems.append(Problem(folder, 0, str(error)))
    return problems


# Reading


@dataclass(frozen=True)
class _Row:
    """A record, where it stands, and the job it says it is of."""

    path: Path
    line: int
    record: Record
    job: Job


def _read(path: Path) -> tuple[list[_Row], list[Problem]]:
    """The rows of a file; of a damaged one those that can be read, and what is wrong elsewhere."""
    rows: list[_Row] = []
    problems: list[Problem] = []
    for line, record in _records(path, problems):
        try:
            rows.append(_Row(path, line, record, job_of(record)))
        except ValueError as error:
            problems.append(Problem(path, line, str(error)))
    return rows, problems


def _records(path: Path, problems: list[Problem]) -> Iterator[tuple[int, Record]]:
    """The file's records with their lines: one by one where the whole cannot be read."""
    try:
        yield from enumerate(read_rows(path), 2)
    except ValueError:
        head, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
        with TemporaryDirectory() as place:
            alone = Path(place, path.name)
            for line, text in enumerate(["", *lines], 1):  # first the header by itself
                alone.write_text(head + text, encoding="utf-8")
                try:
                    yield from ((line, record) for record in read_rows(alone))
                except ValueError as error:
                    what = str(error).removeprefix(f"{alone}, line ").partition(": ")[2]
                    problems.append(Problem(path, line, what))
                    if line == 1:
                        return


# What a row says of itself


def _of_itself(row: _Row) -> Iterator[str]:
    record, job = row.record, row.job
    if record.method != row.path.stem:
        yield f"method is {record.method!r} in a file of {row.path.stem!r}"
    if record.suite != row.path.parent.name:
        yield f"suite is {record.suite!r} in a folder of {row.path.parent.name!r}"
    if (key := recomputed_key(record)) != record.key:
        yield f"key is {record.key}, the row gives {key}: it was edited"
    for column, value in {"method": job.method, "seed": job.seed, **asdict(job.task)}.items():
        if getattr(record, column) != value:
            yield f"{column} is {getattr(record, column)!r}, in its job it is {value!r}"


def _of_its_bundle(row: _Row, bundle: Record | None) -> Iterator[str]:
    """Every column; only what it measured where the bundle is of the same run in another suite."""
    if bundle is None:
        return
    is_own = bundle.suite == row.record.suite
    for found in differences(row.record, bundle, () if is_own else ELSEWHERE):
        yield f"{found.column} is {found.then!r}, in its bundle it is {found.now!r}"


def _repeated(rows: Sequence[_Row]) -> Iterator[Problem]:
    first: dict[tuple[Any, ...], _Row] = {}
    for row in rows:
        other = first.setdefault(row.record.coordinates, row)
        if other is not row:
            where = f"{other.path}, line {other.line}"
            yield Problem(row.path, row.line, f"{row.job} is there already: {where}")


# What the protocol says


def _of_its_task(row: _Row) -> Iterator[str]:
    """Data, windows and tokens."""
    record, task = row.record, row.job.task
    is_known = row.job.source is None and task.dataset in data.known()
    pinned = _digest(row.job.stage, task.dataset)
    if is_known:
        pinned = data.pinned(task.dataset)
    if pinned not in (None, record.data_hash) and record.status != "failed":
        yield f"data_hash is {record.data_hash[:12]}..., that of {task.dataset} {pinned[:12]}..."
    if record.status != "done":
        return
    if counts := _counts(row.job):
        count = min(counts[2], row.job.budget.test_windows or counts[2])
        if record.windows != count:
            whose = "the protocol" if count == counts[2] else "the budget"
            yield f"windows is {record.windows}, {whose} has {count}"
    if record.kind == "patcher" and record.method != UNIFORM_BEST and record.stage not in STAGES:
        cap = most_patches(task.patches, task.look_back)
        used = max(record.tokens_mean or 0, record.tokens_p95 or 0, record.tokens_padded or 0)
        if not 0 < used <= cap:
            yield f"tokens are up to {used}, at most {cap} are allowed at K = {task.patches}"


STAGES = ("pretrain", "zero_shot")
"""Of which data are no data set, and no windows of one are trained on."""


@cache
def _digest(stage: str | None, name: str) -> str | None:
    """The hash of a corpus or of a zero-shot task, as it is now; None of all else."""
    with suppress(ValueError):
        if stage == "pretrain":
            return data.find_corpus(name).hash
        if stage == "zero_shot":
            return zero_shot.find(name).hash
    return None


def _of_its_budget(row: _Row) -> Iterator[str]:
    record, budget, counts = row.record, row.job.budget, _counts(row.job)
    if (record.epochs or 0) > budget.epochs:
        yield f"epochs is {record.epochs}, the budget is {budget.epochs}"
    whole = math.ceil(counts[0] / budget.batch) if counts else math.inf
    most = budget.epochs * min(whole, budget.steps or math.inf)
    if (record.steps or 0) > most:
        yield f"steps is {record.steps}, the budget is {most}"


def _counts(job: Job) -> tuple[int, int, int] | None:
    """Windows to train on, validate and test on; None of an own set, which only its owner has."""
    if job.source is not None or job.task.dataset not in data.known():
        return None
    counts = data.outline(job.task.dataset).windows(job.task.look_back, job.task.horizon)
    return counts if all(counts) else None  # lengths that do not fit it: no suite can plan them


# What the suite says


Plan = Mapping[tuple[str, str, Task, int], Sequence[Job]]
"""By method, arm, task and seed the jobs: several where hyperparameters are swept."""


def _plan(
    folder: Path, suites: Path, names: Sequence[str], methods: Path
) -> tuple[Plan, list[str]]:
    """What the suite plans for these methods, or why that cannot be known."""
    jobs: dict[tuple[str, str, Task, int], list[Job]] = {}
    if not (set(names) & {*registry.names(methods)}):
        return jobs, []
    if not (suites / f"{folder.name}.toml").exists():
        elsewhere = "the rows of a suite that is kept elsewhere cannot be checked"
        there = (path.stem for path in suites.glob("*.toml"))
        return jobs, [f"{unknown('suite', folder.name, there)}; {elsewhere}"]
    try:
        found = find_suite(folder.name, suites)
        known = {*registry.names(methods), *found.references}
        own = [name for name in names if name in known]
        planned = plan(found, methods=own, results=folder.parent, learns=lambda job: False)
        for job in planned:
            complete = _complete(job, methods)
            jobs.setdefault((job.method, job.arm, job.task, job.seed), []).append(complete)
    except ValueError as error:
        return jobs, [str(error)]
    return jobs, []


def _complete(job: Job, methods: Path) -> Job:
    """The job with all its hyperparameters, as its row has them."""
    if is_reference(job):
        return job
    values = registry.complete_hyperparameters(
        _method(job.method, methods), dict(job.hyperparameters)
    )
    needs = None if job.needs is None else _complete(job.needs, methods)
    return replace(job, hyperparameters=tuple(values.items()), needs=needs)


def _of_the_plan(row: _Row, plan: Plan, methods: Path) -> Iterator[str]:
    record, job = row.record, row.job
    try:
        source, declared, is_strict = _known(job, methods)
    except ValueError as error:
        yield str(error)
        return
    for column, value in declared.items():
        if getattr(record, column) != value:
            yield f"{column} is {getattr(record, column)!r}, that of the method is {value!r}"
    if is_strict and record.status == "done" and record.stage not in STAGES:
        tokens = {record.tokens_mean, record.tokens_p95, record.tokens_padded}
        if tokens != {job.task.patches}:
            yield f"tokens are {sorted(tokens, key=str)}, the method gives {job.task.patches}"
    planned = plan.get((job.method, job.arm, job.task, job.seed))
    if not planned:
        yield f"not of this suite: it does not plan {job}"
        return
    same = [own for own in planned if dict(own.hyperparameters) == dict(job.hyperparameters)]
    now = (same or planned)[0]
    needs = None
    if now.needs is not None:
        corpus = _digest("pretrain", now.needs.task.dataset)
        needs = job_key(now.needs, source, corpus or "")
    if why := why_stale(record, now, source, record.data_hash, needs):
        yield f"stale: {'; '.join(why)}"
    if (record.trials or 0) != now.trials:
        yield f"trials is {record.trials or 0}, its search had {now.trials}"


def _known(job: Job, methods: Path) -> tuple[str, Mapping[str, Any], bool]:
    """Of a job's method: the hash of its code, what it declares, and whether it is strict."""
    if is_reference(job):
        path = str(dict(job.hyperparameters)["path"])
        return import_hash(path), {"kind": "reference", "ranked": False}, False
    method = _method(job.method, methods)
    return registry.source_hash(method), registry.declared(method), _is_strict(method)


def _is_strict(method: registry.Method) -> bool:
    """Whether it promises exactly K tokens; a method with slots of its own has another number."""
    return issubclass(method, Patcher) and method.strict and method.slots is Patcher.slots


@cache
def _method(name: str, methods: Path) -> registry.Method:
    return registry.find(name, methods)


# Once more


def find(key: str, results: Path) -> Record:
    """The committed row of that key.

    Raises:
        ValueError: there is none, or a file cannot be read.
    """
    paths = sorted(path for folder in results.glob("*/") for path in row_files(folder))
    keys = {record.key: record for path in paths for record in read_rows(path)}
    if key not in keys:
        raise ValueError(f"no row in {results} has the key {key!r}; it is the row's last column")
    return keys[key]


def rerun(
    record: Record,
    *,
    slot: Slot,
    directories: Sequence[Path],
    device: str,
    provenance: Provenance,
    on_epoch: Callable[[Mapping[str, Any]], object] = lambda epoch: None,
) -> Record:
    """Do the row's job once more, as the bench does, and leave nothing behind.

    ``on_epoch`` hears of each epoch.

    Raises:
        ValueError: the run fails this time; or the row's text is no job.
    """
    with TemporaryDirectory() as place:
        work = partial(
            _once_more,
            directories=directories,
            device=device,
            runs=Path(place),
            provenance=provenance,
            micro_batch=record.micro_batch,
        )
        for event in local.run_locally([job_of(record)], work, [slot]):
            if isinstance(event, Said):
                on_epoch(event.message)
            if isinstance(event, Finished):
                if event.result is None:
                    raise ValueError(f"{record.key} fails now: {event.error}")
                return event.result
    raise AssertionError("a worker always answers")


def _once_more(
    job: Job,
    tell: Tell,
    *,
    directories: Sequence[Path],
    device: str,
    runs: Path,
    provenance: Provenance,
    micro_batch: int | None,
) -> Record:
    return run(
        job,
        directories=directories,
        device=device,
        runs=runs,
        provenance=provenance,
        on_epoch=tell,
        micro_batch=micro_batch,
    )
