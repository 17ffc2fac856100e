"""A suite, from plan to rows: see what is missing, run it, store each record as it finishes.

One process, the parent, writes results and tracking; workers write only their own bundle.
"""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from harness import catalog, data, executors, store
from harness.blocks import HEADS
from harness.executors import Finished, Said, Slot, Started
from harness.patcher import Patcher
from harness.store import Job, Provenance, Record

State = Literal["done", "failed", "stale", "missing", "absent", "broken"]
"""Of a planned run.

done: its row is there; a diverged run too, since it would diverge again. failed: its row says so.
stale: its row is of other code, settings or data, or there is one of keywords that are no longer
planned, which goes when the run is stored. missing: no row. absent: its data set is not at hand.
broken: its method or data cannot be used.
"""


@dataclass(frozen=True)
class Folders:
    """Where things are: results, the places data sets are looked for, downloads, methods."""

    results: Path
    data: tuple[Path, ...]
    cache: Path
    methods: Path = catalog.METHODS

    @property
    def runs(self) -> Path:
        """The bundles."""
        return self.results / "runs"

    def rows(self, job: Job) -> Path:
        """The file that holds the job's row."""
        return self.results / job.suite / f"{job.method}.csv"


@dataclass(frozen=True)
class Cell:
    """A planned run and how it stands; ``identity`` is what its row says about method and data.

    ``outdated`` are the keys of rows that go when its own is stored: those of the same method,
    task and seed with keywords that are no longer planned.
    """

    job: Job
    state: State
    identity: Mapping[str, Any]
    record: Record | None = None
    why: str = ""
    outdated: frozenset[str] = frozenset()

    @property
    def row(self) -> tuple[Any, ...]:
        """The :attr:`Record.cell` of its row."""
        job, task = self.job, self.job.task
        size = (task.look_back, task.horizon, task.patches)
        keywords = store.canonical(dict(job.keywords))
        return (job.method, task.dataset, *size, job.seed, keywords)

    @property
    def key(self) -> str:
        """The key its row would have."""
        return store.key(self.job, self.identity["method_source"], self.identity["data_hash"])


@dataclass(frozen=True)
class Stored:
    """A record has reached its file."""

    cell: Cell
    record: Record
    seconds: float


@dataclass(frozen=True)
class Warned:
    """Something went wrong that costs no result."""

    message: str


Event = Started[Cell] | Said[Cell] | Stored | Warned
CellWork = Callable[[Cell, executors.Say], Record]


def survey(jobs: Sequence[Job], folders: Folders) -> list[Cell]:
    """How each job stands. A method or data set that cannot be used costs its own jobs only.

    Raises:
        ValueError: a results file that cannot be read, or a method of two origins.
    """
    methods = {name: _method(name, folders) for name in {job.method: None for job in jobs}}
    sources = {job.task.dataset: job.source for job in jobs}
    data_sets = {name: _data_set(name, source, folders) for name, source in sources.items()}
    planned = [_planned(job, methods[job.method], data_sets[job.task.dataset]) for job in jobs]
    paths = {folders.rows(job): None for job in jobs}
    return _judged(planned, [record for path in paths for record in store.read(path)])


def to_run(cells: Sequence[Cell], *, force: bool = False) -> list[Cell]:
    """The runs that can be run and are not done; with ``force`` the done ones too."""
    due = ("missing", "failed", "stale", *(("done",) if force else ()))
    return [cell for cell in cells if cell.state in due]


def execute(
    cells: Sequence[Cell],
    work: CellWork,
    slots: Sequence[Slot],
    folders: Folders,
    provenance: Provenance,
    *,
    device: str = "cpu",
    timeout: float | None = None,
    track: Callable[[Path], object] | None = None,
) -> Generator[Event]:
    """Run the cells and yield what happens; each record is stored before it is told.

    ``track`` is given each bundle; it is left alone after its first error. ``timeout`` is in
    seconds a run.

    Raises:
        OSError: results cannot be written; nothing is half-written.
    """
    with closing(executors.local(cells, work, slots, timeout=timeout)) as events:
        for event in events:
            if not isinstance(event, Finished):
                yield event
                continue
            cell = event.job
            record = _record(event, provenance, device, folders.runs)
            _store(folders.rows(cell.job), record, cell.outdated)
            yield Stored(cell, record, event.seconds)
            bundle = folders.runs / record.key
            if track is not None and bundle.exists():
                try:
                    track(bundle)
                except Exception as error:  # noqa: BLE001 - the result stands
                    yield Warned(f"tracking stopped: {type(error).__name__}: {error}")
                    track = None


def run_cell(
    cell: Cell,
    say: executors.Say,
    *,
    directories: Sequence[Path],
    device: str,
    runs: Path,
    provenance: Provenance,
) -> Record:
    """The work of a worker."""
    from harness.run import run  # here: the parent has no need of it

    return run(
        cell.job,
        directories=directories,
        device=device,
        runs=runs,
        provenance=provenance,
        say=say,
    )


@contextmanager
def alone(results: Path) -> Iterator[None]:
    """Hold the results folder, so that two benches cannot overwrite each other's rows.

    Raises:
        ValueError: another process holds it.
        OSError: the folder cannot be written.
    """
    path = results / "runs" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise ValueError(
                f"{results} is in use by process {file.read().strip()}: wait until it has"
                " finished, or choose another folder with RESULTS=dir (--results dir)"
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield  # the system lets go of the lock when the file is closed, even by a kill


def provenance(checkout: Path) -> Provenance:
    """The checkout's commit, ``-dirty`` if what computes a result differs, and versions."""
    packages = [f"{name} {version(name)}" for name in ("torch", "numpy", "sktime")]
    versions = ", ".join([f"python {platform.python_version()}", *packages])
    return Provenance(_commit(checkout), versions)


def _commit(checkout: Path) -> str:
    try:
        top, commit = _git(checkout, "rev-parse", "--show-toplevel", "HEAD").split()
        if Path(top).resolve() != checkout.resolve():
            return "unknown"  # copied into somebody else's repository
        changed = _git(checkout, "status", "--porcelain", "--", "harness", "methods", "suites")
    except (OSError, subprocess.CalledProcessError, ValueError):
        return "unknown"
    return f"{commit}-dirty" if changed else commit


def _git(checkout: Path, *words: str) -> str:
    command = ["git", "-C", str(checkout), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own words, no shell
    return done.stdout


@dataclass(frozen=True)
class _Part:
    """What is known of a method or data set: its columns of a row, or why it cannot be used."""

    columns: Mapping[str, Any]
    method: catalog.Method | None = None
    state: State | None = None
    why: str = ""


def _method(name: str, folders: Folders) -> _Part:
    known = catalog.names(folders.methods)
    try:
        method = catalog.find(name, folders.methods)
        source = catalog.source_hash(method)
    except ValueError as error:
        if name not in known:
            raise
        blank = {"method_source": "", "kind": "patcher", "ranked": False}
        return _Part(blank, state="broken", why=str(error))
    kind, ranked = catalog.kind(method), catalog.ranked(method)
    return _Part({"method_source": source, "kind": kind, "ranked": ranked}, method)


def _data_set(name: str, source: data.Source | None, folders: Folders) -> _Part:
    blank = {"data_hash": "", "data_verified": False}
    absent = source is None and bool(data.missing([name], folders.data, cache=folders.cache))
    state: State | None = "absent" if absent else None
    # A set whose values are known need not be read to know what its rows are worth.
    if source is None and (pinned := data.pinned(name)) is not None:
        return _Part({"data_hash": pinned, "data_verified": True}, state=state)
    if absent:
        return _Part(blank, state=state)
    try:
        series = data.load(name, folders.data, source, cache=folders.cache)
    except (ValueError, OSError) as error:
        return _Part(blank, state="broken", why=str(error))
    return _Part({"data_hash": series.hash, "data_verified": series.verified})


def _planned(job: Job, method: _Part, data_set: _Part) -> Cell:
    """The run with all its keywords, before a look at the rows."""
    identity = {**method.columns, **data_set.columns}
    if method.method is None:
        return Cell(job, "broken", identity, why=method.why)
    try:
        complete = catalog.check_keywords(method.method, dict(job.keywords))
        job = replace(job, keywords=tuple(complete.items()))
        _refuse_more_patches_than_fit(method.method, job)
    except ValueError as error:
        return Cell(job, "broken", identity, why=str(error))
    return Cell(job, data_set.state or "missing", identity, why=data_set.why)


def _refuse_more_patches_than_fit(method: catalog.Method, job: Job) -> None:
    """A number of patches of the method's own must suit the head as any K of a task must."""
    if not issubclass(method, Patcher) or not method.strict or method.slots is Patcher.slots:
        return
    task, architecture = job.task, job.architecture
    with torch.device("meta"):  # sizes without numbers
        slots = method(task, **dict(job.keywords)).slots
        HEADS[architecture.head](replace(task, patches=slots), architecture, slots)


def _judged(planned: Sequence[Cell], rows: Sequence[Record]) -> list[Cell]:
    """How the runs stand, by the rows there are."""
    own = {record.cell: record for record in rows}
    wanted = {cell.row for cell in planned}
    outdated: dict[tuple[Any, ...], set[str]] = {}
    for record in rows:
        if record.cell not in wanted:
            outdated.setdefault(record.cell[:-1], set()).add(record.key)
    found = [
        replace(
            cell,
            record=own.get(cell.row),
            outdated=frozenset(outdated.get(cell.row[:-1], ())),
        )
        for cell in planned
    ]
    cells = [replace(cell, state=_state(cell)) for cell in found]
    due = {cell.row[:-1] for cell in cells if cell.state in ("stale", "failed")}
    for index, cell in enumerate(cells):
        if cell.state == "done" and cell.outdated and cell.row[:-1] not in due:
            # A sweep that has become smaller: one run is repeated, and the outdated rows go.
            cells[index] = replace(cell, state="stale")
            due.add(cell.row[:-1])
    return cells


def _state(cell: Cell) -> State:
    """Of a planned run whose row, if any, has been found."""
    if cell.state == "broken":
        return "broken"
    record = cell.record
    if record is not None and record.key == cell.key and record.status != "failed":
        # Also without the data at hand: rows that others committed count as done.
        return "done"
    if cell.state == "absent":
        return "absent"
    if record is None:
        return "stale" if cell.outdated else "missing"
    return "failed" if record.key == cell.key else "stale"


def _store(path: Path, record: Record, outdated: Collection[str]) -> None:
    store.put(path, record)
    if outdated:
        store.write(path, [row for row in store.read(path) if row.key not in outdated])


def _record(
    event: Finished[Cell, Record], provenance: Provenance, device: str, runs: Path
) -> Record:
    """What the run measured, or the record of its failure, with a bundle that keeps the trace."""
    cell, record, error = event.job, event.result, event.error
    if record is not None and record.key == cell.key:
        return record
    if record is not None:
        error = (
            f"the run's key is {record.key}, planned was {cell.key}: method or data have changed"
        )
    failed = store.row(
        cell.job, provenance, status="failed", device=device, error=error, **cell.identity
    )
    store.write_bundle(runs, failed, curves=(), overlay=None, log=event.trace or error)
    return failed
