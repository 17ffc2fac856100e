"""How the runs of a plan stand: done, missing, stale, ... by the rows and bundles there are.

Workers write their bundle whole and before the parent hears of it. So a run whose bundle is there
is never lost: where its row is not there yet, because a parent was killed, :func:`survey` takes
the record from the bundle. Nothing here loads torch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from harness import data
from harness.core.identity import import_hash
from harness.core.job import Job, Record, canonical, is_reference, job_key, why_stale
from harness.model.declared import METHODS, Declarations, Declared
from harness.results.bundles import ARTEFACT, recorded
from harness.results.rows import read_rows
from harness.zero_shot import tasks as zero_shot

State = Literal["done", "failed", "stale", "missing", "blocked", "absent", "broken"]
"""Of a planned run.

done: its row is there; a diverged run too, since it would diverge again. failed: its row says so.
stale: its row is of other code, settings or data, or there is one of hyperparameters that are no
longer planned, which goes when the run is stored. missing: no row. blocked: failed, stale or
missing, and the pre-training that it needs failed, diverged or has no data: it is due once that is
done. absent: its data set is not at hand. broken: its method or data cannot be used.
"""


@dataclass(frozen=True)
class Folders:
    """Where things are: results, the places data sets are looked for, downloads, methods."""

    results: Path
    data: tuple[Path, ...]
    cache: Path
    methods: Path = METHODS

    @property
    def runs(self) -> Path:
        """The bundles."""
        return self.results / "runs"

    def rows(self, job: Job) -> Path:
        """The file that holds the job's row."""
        return self.results / job.suite / f"{job.method}.csv"


@dataclass(frozen=True)
class PlannedRun:
    """A planned run and how it stands; ``identity`` is what its row says about method and data.

    ``why`` says what makes it stale, blocked or broken. ``outdated`` are the keys of rows that go
    when its own is stored: those of the same method, task and seed with hyperparameters that are
    no longer planned. ``outline`` is what is known of its data set, None where that cannot be
    used. ``found`` is a record that is in its bundle and has no row yet. ``attempts`` counts how
    often it is started in this bench, ``micro_batch`` is as for :func:`harness.run.fit.fit`.
    ``needs`` is the key of the run whose artefact, in its bundle, it starts from. ``files`` are
    what it reads where that is no single data set but a corpus or a zero-shot task, ``absent``
    those of them that are not at hand.
    """

    job: Job
    state: State
    identity: Mapping[str, Any]
    record: Record | None = None
    why: str = ""
    outdated: frozenset[str] = frozenset()
    outline: data.Outline | None = None
    found: Record | None = None
    attempts: int = 1
    micro_batch: int | None = None
    needs: str | None = None
    files: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    def __str__(self) -> str:
        return str(self.job)

    @cached_property
    def coordinates(self) -> tuple[Any, ...]:
        """The :attr:`Record.coordinates` of its row."""
        job, task = self.job, self.job.task
        size = (task.look_back, task.horizon, task.patches)
        hyperparameters = canonical(dict(job.hyperparameters))
        return (job.method, task.dataset, *size, job.seed, job.arm, hyperparameters)

    @cached_property
    def key(self) -> str:
        """The key its row would have."""
        identity = self.identity
        return job_key(self.job, identity["method_source"], identity["data_hash"], self.needs)


def survey(jobs: Sequence[Job], folders: Folders) -> list[PlannedRun]:
    """How each job stands, by its row, or by its bundle where that has not become a row yet.

    A method or data set that cannot be used costs its own jobs only.

    Raises:
        ValueError: a results file that cannot be read, or a method of two origins.
    """
    values = {_values(job): job for job in jobs}
    data_sets = {named: _read(job, folders) for named, job in values.items()}
    own = {job.method: job for job in jobs if not is_reference(job)}
    with closing(Declarations(folders.cache, folders.methods)) as methods:
        known = {name: _method(name, methods) for name in own}
        fresh: list[PlannedRun] = []
        before: dict[object, PlannedRun] = {}  # pre-trainings
        for job in jobs:
            of = _reference(job) if is_reference(job) else known[job.method]
            run = _planned(job, of, data_sets[_values(job)], methods)
            if job.needs is not None:
                run = _needing(run, before[_place(job.needs)])
            elif job.stage == "pretrain":
                before[_place(job)] = run
            fresh.append(run)
    paths = {folders.rows(job): None for job in jobs}
    planned = _judged(fresh, [record for path in paths for record in read_rows(path)])
    records = recorded(folders.runs, (run.key for run in planned if run.state != "done"))
    found = [_with_bundle(run, records.get(run.key)) for run in planned]
    return _with_blocked(_with_artefacts(found, folders.runs))


def to_run(
    planned: Sequence[PlannedRun], *, force: bool = False, fetched: bool = False
) -> list[PlannedRun]:
    """The runs that can be run and are not done; with ``force`` the done ones too.

    With ``fetched`` also those that can once their data set is at hand. What is blocked can be
    run if the pre-training that it needs is run, too.
    """
    states = {*_DUE, *(("done",) if force else ()), *(("absent",) if fetched else ())}
    due = {run.key for run in planned if run.state in states}
    return [
        run
        for run in planned
        if run.state in states or (run.state == "blocked" and run.needs in due)
    ]


_DUE = ("missing", "failed", "stale")


def blocked(planned: Sequence[PlannedRun], finished: Sequence[Record]) -> list[PlannedRun]:
    """The runs that are blocked once the records of some of them are stored."""
    records = {record.key: record for record in finished}

    def now(run: PlannedRun) -> PlannedRun:
        if run.state in ("absent", "broken"):
            return run
        if (record := records.get(run.key)) is None:
            return replace(run, state="missing") if run.state == "blocked" else run
        return replace(run, state="failed" if record.status == "failed" else "done", record=record)

    return [run for run in _with_blocked([*map(now, planned)]) if run.state == "blocked"]


# --- how a run stands ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """What is known of a method or data set: its columns of a row, or why it cannot be used."""

    columns: Mapping[str, Any]
    declared: Declared | None = None
    outline: data.Outline | None = None
    state: State | None = None
    why: str = ""
    files: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def _values(job: Job) -> tuple[str, bool, bool]:
    """What the job's data are: the same for all jobs of a data set, a corpus or a task."""
    return job.task.dataset, job.stage == "pretrain", job.stage == "zero_shot"


def _place(job: Job) -> tuple[object, ...]:
    return job.method, job.task, job.seed


def _read(job: Job, folders: Folders) -> _Part:
    name = job.task.dataset
    if job.stage == "pretrain":
        try:
            corpus = data.find_corpus(name)
        except ValueError as error:
            return _Part({"data_hash": "", "data_verified": False}, state="broken", why=str(error))
        return _pinned(corpus.hash, tuple(corpus.members), folders)
    if job.stage == "zero_shot":
        task = zero_shot.find(name)
        return _pinned(task.hash, tuple(source.file for source in task.sources), folders)
    return _data_set(name, job.source, folders)


def _pinned(digest: str, files: tuple[str, ...], folders: Folders) -> _Part:
    """Of files whose value hashes are known; the run itself holds them to these."""
    looked = [*folders.data, folders.cache]
    absent = tuple(file for file in files if data.find_panel(file, looked) is None)
    columns = {"data_hash": digest, "data_verified": True}
    return _Part(columns, state="absent" if absent else None, files=files, absent=absent)


def _reference(job: Job) -> _Part:
    """A predictor by its import path."""
    blank = {"method_source": "", "kind": "reference", "ranked": False}
    try:
        source = import_hash(str(dict(job.hyperparameters)["path"]))
    except ValueError as error:
        return _Part(blank, state="broken", why=f"{job.method}: {error}")
    return _Part(blank | {"method_source": source})


def _method(name: str, methods: Declarations) -> _Part:
    try:
        declared = methods.of(name)
    except ValueError as error:
        if name not in methods.names:
            raise
        blank = {"method_source": "", "kind": "patcher", "ranked": False}
        return _Part(blank, state="broken", why=str(error))
    return _Part(declared.columns, declared)


def _data_set(name: str, source: data.Source | None, folders: Folders) -> _Part:
    blank = {"data_hash": "", "data_verified": False}
    known = None if source is not None else data.outline(name)
    if source is None and (files := data.labelled_files(name)):
        part = _pinned(data.pinned(name) or "", files, folders)
        return replace(part, outline=known)
    absent = source is None and bool(data.missing([name], folders.data, cache=folders.cache))
    state: State | None = "absent" if absent else None
    # A set whose values are known need not be read to know what its rows are worth.
    if source is None and (pinned := data.pinned(name)) is not None:
        columns = {"data_hash": pinned, "data_verified": True}
        return _Part(columns, outline=known, state=state)
    if absent:
        return _Part(blank, outline=known, state=state)
    try:
        series = data.load(name, folders.data, source, cache=folders.cache)
    except (ValueError, OSError) as error:
        return _Part(blank, state="broken", why=str(error))
    columns = {"data_hash": series.hash, "data_verified": series.verified}
    if series.warning:
        columns["data_warning"] = series.warning
    return _Part(columns, outline=series.outline)


def _planned(job: Job, method: _Part, data_set: _Part, methods: Declarations) -> PlannedRun:
    """The run with all its hyperparameters, before a look at the rows."""
    identity = {**method.columns, **data_set.columns}
    declared = method.declared
    if "broken" in (method.state, data_set.state):
        return PlannedRun(job, "broken", identity, why=method.why or data_set.why)
    if declared is None:  # a reference by its import path
        state = data_set.state or "missing"
        return _of_files(PlannedRun(job, state, identity, why=data_set.why), data_set)
    try:
        complete = declared.complete(dict(job.hyperparameters))
        job = replace(job, hyperparameters=tuple(complete.items()))
        if job.needs is not None:
            own = declared.complete(dict(job.needs.hyperparameters))
            job = replace(job, needs=replace(job.needs, hyperparameters=tuple(own.items())))
        if data_set.outline is not None:
            data_set.outline.require_room(job.task)
        if declared.cuts_its_own and (misfit := methods.misfit(job)):
            return PlannedRun(job, "broken", identity, why=misfit)
    except ValueError as error:
        return PlannedRun(job, "broken", identity, why=str(error))
    state, outline = data_set.state or "missing", data_set.outline
    run = PlannedRun(job, state, identity, why=data_set.why, outline=outline)
    return _of_files(run, data_set)


def _of_files(run: PlannedRun, part: _Part) -> PlannedRun:
    return replace(run, files=part.files, absent=part.absent) if part.files else run


def _judged(fresh: Sequence[PlannedRun], rows: Sequence[Record]) -> list[PlannedRun]:
    """How the runs stand, by the rows there are."""
    own = {record.coordinates: record for record in rows}
    wanted = {run.coordinates for run in fresh}
    outdated: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in rows:
        if record.coordinates not in wanted:
            outdated[record.coordinates[:-1]].append(record)
    places = [run.coordinates[:-1] for run in fresh]
    planned = [
        _beside(run, own.get(run.coordinates), outdated.get(place, ()))
        for run, place in zip(fresh, places, strict=True)
    ]
    due = {
        place
        for run, place in zip(planned, places, strict=True)
        if run.state in ("stale", "failed")
    }
    for index, (run, place) in enumerate(zip(planned, places, strict=True)):
        if run.state == "done" and run.outdated and place not in due:
            # A sweep that has become smaller: one run is repeated, and the outdated rows go.
            planned[index] = replace(run, state="stale", why=_NO_LONGER_PLANNED)
            due.add(place)
    return planned


_NO_LONGER_PLANNED = "a row of settings that are no longer planned"


def _beside(run: PlannedRun, record: Record | None, outdated: Iterable[Record]) -> PlannedRun:
    """A planned run beside its row, if there is one, and those rows that go when it is stored."""
    state, why = run.state, run.why
    has_key = record is not None and record.key == run.key
    if state == "broken":
        pass
    elif record is not None and has_key and record.status != "failed":
        # Also without the data at hand: rows that others committed count as done.
        state = "done"
    elif state == "absent":
        pass
    elif record is not None:
        state = "failed" if has_key else "stale"
        why = "" if has_key else _other(record, run)
    elif earlier := list(outdated):
        state = "stale"
        why = _other(earlier[0], run) if len(earlier) == 1 else _NO_LONGER_PLANNED
    keys = frozenset(row.key for row in outdated)
    return replace(run, state=state, why=why, record=record, outdated=keys)


def _needing(run: PlannedRun, needed: PlannedRun) -> PlannedRun:
    """The run with the key of the pre-training that it needs; broken if that is."""
    if run.state != "broken" and needed.state == "broken":
        return replace(run, state="broken", why=needed.why)
    return run if run.state == "broken" else replace(run, needs=needed.key)


def _with_blocked(planned: Sequence[PlannedRun]) -> list[PlannedRun]:
    """The runs, of which those are blocked whose pre-training left nothing to start from."""
    causes = {
        run.key: f"needs {run}, {cause}"
        for run in planned
        if run.job.stage == "pretrain" and (cause := _left_nothing(run))
    }
    return [
        replace(run, state="blocked", why=causes[run.needs])
        if run.state in _DUE and run.needs in causes
        else run
        for run in planned
    ]


def _left_nothing(run: PlannedRun) -> str:
    if run.state == "absent":
        return "whose data are not at hand"
    if run.state == "failed":
        return "which failed"
    diverged = run.state == "done" and run.record is not None and run.record.status == "diverged"
    return "which diverged" if diverged else ""


def _with_artefacts(planned: Sequence[PlannedRun], runs: Path) -> list[PlannedRun]:
    """The runs, of which pre-trainings are due again whose artefact is needed and not here.

    One that diverged has none, and would diverge again.
    """
    needed = {run.needs for run in to_run(planned) if run.needs is not None}

    def lacks(run: PlannedRun) -> bool:
        is_needed = run.state == "done" and run.key in needed and not _left_nothing(run)
        return is_needed and not (runs / run.key / ARTEFACT).is_dir()

    why = "its artefact is not on this machine"
    return [
        replace(run, state="absent" if run.absent else "stale", why=why) if lacks(run) else run
        for run in planned
    ]


def _other(record: Record, run: PlannedRun) -> str:
    identity = run.identity
    source, digest = identity["method_source"], identity["data_hash"]
    reasons = why_stale(record, run.job, source, digest, run.needs)
    return "; ".join(reasons) or "its key was edited"


def _with_bundle(run: PlannedRun, record: Record | None) -> PlannedRun:
    """The run as its bundle says it stands, where that says more than its row."""
    if record is None or record.suite != run.job.suite or run.state == "broken":
        return run
    failed = record.status == "failed"
    if failed and run.state == "failed":
        return run
    return replace(run, state="failed" if failed else "done", record=record, found=record, why="")
