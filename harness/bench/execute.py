"""A suite, from plan to rows: see what is missing, run it, store each record as it finishes.

One process, the parent, writes rows and tracking; workers write only their own bundle, whole and
before the parent hears of it. So a run whose bundle is there is never lost: where its row is not
there yet, because a parent was killed, :func:`survey` takes the record from the bundle.
"""

from __future__ import annotations

import csv
import errno
import platform
import subprocess
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryFile
from typing import Any, Literal, Protocol, runtime_checkable

import torch

from harness import data
from harness.bench import local
from harness.bench.local import Finished, Retried, Said, Started
from harness.bench.watch import Board
from harness.core.files import write_text, writing
from harness.core.job import Job, Provenance, Record, canonical, job_key, new_record, why_stale
from harness.model import registry
from harness.model.heads import HEADS
from harness.model.patcher import Patcher
from harness.results.bundles import recorded, write_bundle
from harness.results.rows import RowFiles, read_rows

State = Literal["done", "failed", "stale", "missing", "absent", "broken"]
"""Of a planned run.

done: its row is there; a diverged run too, since it would diverge again. failed: its row says so.
stale: its row is of other code, settings or data, or there is one of hyperparameters that are no
longer planned, which goes when the run is stored. missing: no row. absent: its data set is not at
hand. broken: its method or data cannot be used.
"""


@dataclass(frozen=True)
class Folders:
    """Where things are: results, the places data sets are looked for, downloads, methods."""

    results: Path
    data: tuple[Path, ...]
    cache: Path
    methods: Path = registry.METHODS

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

    ``why`` says what makes it stale or broken. ``outdated`` are the keys of rows that go when its
    own is stored: those of the same method, task and seed with hyperparameters that are no longer
    planned. ``found`` is a record that is in its bundle and has no row yet. ``attempts`` counts
    how often it is started in this bench, ``micro_batch`` is as for :func:`harness.run.fit.fit`.
    """

    job: Job
    state: State
    identity: Mapping[str, Any]
    record: Record | None = None
    why: str = ""
    outdated: frozenset[str] = frozenset()
    found: Record | None = None
    attempts: int = 1
    micro_batch: int | None = None

    @cached_property
    def row(self) -> tuple[Any, ...]:
        """The :attr:`Record.cell` of its row."""
        job, task = self.job, self.job.task
        size = (task.look_back, task.horizon, task.patches)
        hyperparameters = canonical(dict(job.hyperparameters))
        return (job.method, task.dataset, *size, job.seed, hyperparameters)

    @cached_property
    def key(self) -> str:
        """The key its row would have."""
        return job_key(self.job, self.identity["method_source"], self.identity["data_hash"])


@dataclass(frozen=True)
class Stored:
    """A record is safe: in its bundle, where there is one, and in a moment also in its file."""

    cell: Cell
    record: Record
    seconds: float


@dataclass(frozen=True)
class Warned:
    """Something went wrong that costs no result."""

    message: str


Event = Started[Cell] | Said[Cell] | Retried[Cell] | Stored | Warned


@runtime_checkable
class Executor(Protocol):
    """Does a piece of work for every cell, somewhere, and tells what happens."""

    def __call__(
        self, jobs: Sequence[Cell], /, *, again: local.Again[Cell, Record]
    ) -> Generator[local.Event[Cell, Record]]: ...


def second_try(finished: Finished[Cell, Record]) -> Cell | None:
    """The run once more, where that may help: with half the memory, or if it was killed.

    An exception, a loss that is not finite and a time that was too short would come again.
    """
    cell = finished.job
    size = cell.micro_batch or cell.job.budget.batch
    if cell.attempts > 1:
        return None
    if finished.failure == "killed":
        return replace(cell, attempts=2)
    if finished.failure == "out-of-memory" and size > 1:
        return replace(cell, attempts=2, micro_batch=size // 2)
    return None


def survey(jobs: Sequence[Job], folders: Folders) -> list[Cell]:
    """How each job stands, by its row, or by its bundle where that has not become a row yet.

    A method or data set that cannot be used costs its own jobs only.

    Raises:
        ValueError: a results file that cannot be read, or a method of two origins.
    """
    methods = {name: _method(name, folders) for name in {job.method: None for job in jobs}}
    sources = {job.task.dataset: job.source for job in jobs}
    data_sets = {name: _data_set(name, source, folders) for name, source in sources.items()}
    planned = [_planned(job, methods[job.method], data_sets[job.task.dataset]) for job in jobs]
    paths = {folders.rows(job): None for job in jobs}
    cells = _judged(planned, [record for path in paths for record in read_rows(path)])
    records = recorded(folders.runs, (cell.key for cell in cells if cell.state != "done"))
    return [_with_bundle(cell, records.get(cell.key)) for cell in cells]


def adopt(cells: Sequence[Cell], folders: Folders) -> list[Record]:
    """Give the runs that have only a bundle their rows, and return these.

    Raises:
        OSError: results cannot be written; nothing is half-written.
    """
    files = RowFiles()
    with writing(folders.results):
        for cell in cells:
            if cell.found is not None:
                files.put(folders.rows(cell.job), cell.found, cell.outdated)
        files.save()
    return [cell.found for cell in cells if cell.found is not None]


def to_run(cells: Sequence[Cell], *, force: bool = False) -> list[Cell]:
    """The runs that can be run and are not done; with ``force`` the done ones too."""
    due = ("missing", "failed", "stale", *(("done",) if force else ()))
    return [cell for cell in cells if cell.state in due]


def execute(
    cells: Sequence[Cell],
    executor: Executor,
    folders: Folders,
    provenance: Provenance,
    *,
    device: str = "cpu",
    track: Callable[[Path], object] | None = None,
) -> Generator[Event]:
    """Run the cells and yield what happens; each record is stored before it is told.

    ``executor`` does the work on all of them, wherever it does, as :func:`executors.local` does.
    ``track`` is given each bundle; it is left alone after its first error.

    Raises:
        OSError: results cannot be written; nothing is half-written.
    """
    files, traces = RowFiles(), dict[str, str]()

    def again(finished: Finished[Cell, Record]) -> Cell | None:
        cell = second_try(finished)
        if cell is not None:
            traces[cell.key] = finished.trace
        return cell

    with writing(folders.results):
        for path in {folders.rows(cell.job).parent: None for cell in cells}:
            path.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=path).close()  # before anything is computed
        board = Board(folders.results, cells[0].job.suite if cells else "", len(cells))
    try:
        with closing(executor(cells, again=again)) as events:
            for event in events:
                cell = event.job
                with writing(folders.results):
                    _tell(board, event)
                    if isinstance(event, Finished):
                        _refuse_unwritable(event)
                        earlier = traces.pop(cell.key, "")
                        record = _record(event, provenance, device, folders.runs, earlier)
                        files.put(folders.rows(cell.job), record, cell.outdated)
                    files.save_at_times()
                if not isinstance(event, Finished):
                    yield event
                    continue
                yield Stored(cell, record, event.seconds)
                if track is not None and (trouble := _untracked(track, folders.runs / record.key)):
                    later = f"`make track SUITE={cell.job.suite}` logs the rest"
                    yield Warned(f"tracking stopped: {trouble}; {later}")
                    track = None
    finally:
        board.close()
        with writing(folders.results):
            files.save()


def run_cell(
    cell: Cell,
    say: local.Say,
    *,
    directories: Sequence[Path],
    device: str,
    runs: Path,
    provenance: Provenance,
) -> Record:
    """The work of a worker."""
    from harness.run.job import run  # here: the parent has no need of it

    return run(
        cell.job,
        directories=directories,
        device=device,
        runs=runs,
        provenance=provenance,
        on_epoch=say,
        attempts=cell.attempts,
        micro_batch=cell.micro_batch,
    )


# --- how long it will take -----------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """Seconds of work, one run after another, and how many runs nothing is known of."""

    seconds: float
    unknown: int


def estimate(cells: Sequence[Cell], folders: Folders) -> Estimate:
    """How long the runs will take, from rows there are, of whatever age.

    What is known of a run is, the nearest first: the mean of its method on its task; that of
    uniform patches there, times what ``cost.csv`` says of a step; that of its method elsewhere.
    """
    paths = {folders.rows(cell.job): None for cell in cells}
    paths |= {path.with_name("uniform.csv"): None for path in paths}
    spent: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for record in (record for path in paths for record in read_rows(path)):
        if record.train_seconds is not None:
            seconds = record.train_seconds + (record.evaluate_seconds or 0.0)
            place = (record.dataset, record.look_back, record.horizon)
            spent[record.method, *place].append(seconds)
            spent[record.method,].append(seconds)
    ratio = _step_ratios(folders.results / "cost.csv")
    known = []
    for method, task in ((cell.job.method, cell.job.task) for cell in cells):
        place = (task.dataset, task.look_back, task.horizon)
        if own := spent.get((method, *place)):
            known.append(fmean(own))
        elif (others := spent.get(("uniform", *place))) and method in ratio:
            known.append(fmean(others) * ratio[method])
        elif elsewhere := spent.get((method,)):
            known.append(fmean(elsewhere))
    return Estimate(sum(known), len(cells) - len(known))


def _step_ratios(path: Path) -> dict[str, float]:
    """What a training step of each method costs, in steps with uniform patches."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["method"]: float(row["ratio"]) for row in csv.DictReader(file)}


# --- where a number comes from -------------------------------------------------------------------


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


# --- how a run stands ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """What is known of a method or data set: its columns of a row, or why it cannot be used."""

    columns: Mapping[str, Any]
    method: registry.Method | None = None
    state: State | None = None
    why: str = ""


def _method(name: str, folders: Folders) -> _Part:
    known = registry.names(folders.methods)
    try:
        method = registry.find(name, folders.methods)
        source = registry.source_hash(method)
    except ValueError as error:
        if name not in known:
            raise
        blank = {"method_source": "", "kind": "patcher", "ranked": False}
        return _Part(blank, state="broken", why=str(error))
    return _Part({"method_source": source, **registry.declared(method)}, method)


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
    """The run with all its hyperparameters, before a look at the rows."""
    identity = {**method.columns, **data_set.columns}
    if method.method is None:
        return Cell(job, "broken", identity, why=method.why)
    try:
        complete = registry.complete_hyperparameters(method.method, dict(job.hyperparameters))
        job = replace(job, hyperparameters=tuple(complete.items()))
        _refuse_more_patches_than_fit(method.method, job)
    except ValueError as error:
        return Cell(job, "broken", identity, why=str(error))
    return Cell(job, data_set.state or "missing", identity, why=data_set.why)


def _refuse_more_patches_than_fit(method: registry.Method, job: Job) -> None:
    """A number of patches of the method's own must suit the head as any K of a task must."""
    if not issubclass(method, Patcher) or not method.strict or method.slots is Patcher.slots:
        return
    task, architecture = job.task, job.architecture
    with torch.device("meta"):  # sizes without numbers
        slots = method(task, **dict(job.hyperparameters)).slots
        HEADS[architecture.head](replace(task, patches=slots), architecture, slots)


def _judged(planned: Sequence[Cell], rows: Sequence[Record]) -> list[Cell]:
    """How the runs stand, by the rows there are."""
    own = {record.cell: record for record in rows}
    wanted = {cell.row for cell in planned}
    outdated: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in rows:
        if record.cell not in wanted:
            outdated[record.cell[:-1]].append(record)
    places = [cell.row[:-1] for cell in planned]
    cells = [
        _stands(cell, own.get(cell.row), outdated.get(place, ()))
        for cell, place in zip(planned, places, strict=True)
    ]
    due = {
        place
        for cell, place in zip(cells, places, strict=True)
        if cell.state in ("stale", "failed")
    }
    for index, (cell, place) in enumerate(zip(cells, places, strict=True)):
        if cell.state == "done" and cell.outdated and place not in due:
            # A sweep that has become smaller: one run is repeated, and the outdated rows go.
            cells[index] = replace(cell, state="stale", why=_NO_LONGER_PLANNED)
            due.add(place)
    return cells


_NO_LONGER_PLANNED = "a row of settings that are no longer planned"


def _stands(cell: Cell, record: Record | None, outdated: Iterable[Record]) -> Cell:
    """A planned run beside its row, if there is one, and those rows that go when it is stored."""
    state, why = cell.state, cell.why
    has_key = record is not None and record.key == cell.key
    if state == "broken":
        pass
    elif record is not None and has_key and record.status != "failed":
        # Also without the data at hand: rows that others committed count as done.
        state = "done"
    elif state == "absent":
        pass
    elif record is not None:
        state = "failed" if has_key else "stale"
        why = "" if has_key else _other(record, cell)
    elif earlier := list(outdated):
        state = "stale"
        why = _other(earlier[0], cell) if len(earlier) == 1 else _NO_LONGER_PLANNED
    keys = frozenset(row.key for row in outdated)
    return replace(cell, state=state, why=why, record=record, outdated=keys)


def _other(record: Record, cell: Cell) -> str:
    identity = cell.identity
    reasons = why_stale(record, cell.job, identity["method_source"], identity["data_hash"])
    return "; ".join(reasons) or "its key was edited"


def _with_bundle(cell: Cell, record: Record | None) -> Cell:
    """The run as its bundle says it stands, where that says more than its row."""
    if record is None or record.suite != cell.job.suite or cell.state == "broken":
        return cell
    failed = record.status == "failed"
    if failed and cell.state == "failed":
        return cell
    return replace(cell, state="failed" if failed else "done", record=record, found=record, why="")


# --- storing -------------------------------------------------------------------------------------


def _untracked(track: Callable[[Path], object], bundle: Path) -> str:
    """Hand the bundle over, if there is one; what went wrong, which costs no result."""
    try:
        if bundle.exists():
            track(bundle)
    except Exception as error:  # noqa: BLE001 - whatever it was, the result stands
        return f"{type(error).__name__}: {error}"
    return ""


def _tell(board: Board, event: local.Event[Cell, Record]) -> None:
    cell = event.job
    match event:
        case Started():
            board.begin(cell.key, str(cell.job), cell.attempts)
        case Said(_, message):
            board.say(cell.key, message)
        case Retried() | Finished():
            board.end(cell.key, stored=isinstance(event, Finished))


def _record(
    event: Finished[Cell, Record], provenance: Provenance, device: str, runs: Path, earlier: str
) -> Record:
    """What the run measured, or the record of its failure; its bundle keeps every trace."""
    cell, record, error, failure = event.job, event.result, event.error, event.failure
    if record is not None and record.key == cell.key:
        if earlier and (runs / record.key).exists():
            write_text(runs / record.key / "log.txt", earlier)
        return record
    if record is not None:
        failure = "exception"
        error = (
            f"the run's key is {record.key}, planned was {cell.key}: method or data have changed"
        )
    failed = new_record(
        cell.job,
        provenance,
        status="failed",
        device=device,
        error=error,
        failure=failure,
        attempts=cell.attempts,
        micro_batch=cell.micro_batch or cell.job.budget.batch,
        **cell.identity,
    )
    log = "\n\nthe second time:\n".join(text for text in (earlier, event.trace or error) if text)
    write_bundle(runs, failed, curves=(), overlay=None, log=log)
    return failed


_UNWRITABLE = tuple(
    f"OSError: [Errno {code}]" for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
)


def _refuse_unwritable(event: Finished[Cell, Record]) -> None:
    """A worker that could not write its bundle: no run after it could, so it is no run's fault."""
    if event.error.startswith(_UNWRITABLE):
        raise OSError(event.error.removeprefix("OSError: "))
