"""Runs of a plan, done and stored: each record as it finishes.

One process, the parent, writes rows and tracking; workers write only their own bundle.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Protocol, runtime_checkable

from harness.bench import events
from harness.bench.events import Blocked, Finished, Retried, Retry, Said, Started, Tell
from harness.bench.survey import Folders, PlannedRun
from harness.bench.watch import Board
from harness.core.files import write_text, writing
from harness.core.job import Provenance, Record, new_record
from harness.results.bundles import write_bundle
from harness.results.rows import RowFiles


@dataclass(frozen=True)
class Stored:
    """A record is safe: in its bundle, where there is one, and in a moment also in its file."""

    run: PlannedRun
    record: Record
    seconds: float


@dataclass(frozen=True)
class Warned:
    """Something went wrong that costs no result."""

    message: str


Event = (
    Started[PlannedRun]
    | Said[PlannedRun]
    | Retried[PlannedRun]
    | Blocked[PlannedRun]
    | Stored
    | Warned
)


@runtime_checkable
class Executor(Protocol):
    """Does a piece of work for every run of a plan, somewhere, and tells what happens."""

    def __call__(
        self, jobs: Sequence[PlannedRun], /, *, retry: Retry[PlannedRun, Record]
    ) -> Generator[events.Event[PlannedRun, Record]]: ...


def retry(finished: Finished[PlannedRun, Record]) -> PlannedRun | None:
    """The run once more, where that may help: with half the memory, or if it was killed.

    An exception, a loss that is not finite and a time that was too short would come again.
    """
    run = finished.job
    size = run.micro_batch or run.job.budget.batch
    if run.attempts > 1:
        return None
    if finished.failure == "killed":
        return replace(run, attempts=2)
    if finished.failure == "out-of-memory" and size > 1:
        return replace(run, attempts=2, micro_batch=size // 2)
    return None


def flaw(finished: Finished[PlannedRun, Record]) -> str:
    """Why no run can start from this one: it failed, it diverged, or it is not the one planned."""
    run, record = finished.job, finished.result
    if record is None:
        return finished.error
    return _other_key(run, record) or ("" if record.status == "done" else record.error)


def adopt(planned: Sequence[PlannedRun], folders: Folders) -> list[Record]:
    """Give the runs that have only a bundle their rows, and return these.

    Raises:
        OSError: results cannot be written; nothing is half-written.
    """
    files = RowFiles()
    with writing(folders.results):
        for run in planned:
            if run.found is not None:
                files.put(folders.rows(run.job), run.found, run.outdated)
        files.save()
    return [run.found for run in planned if run.found is not None]


def execute(
    planned: Sequence[PlannedRun],
    executor: Executor,
    folders: Folders,
    provenance: Provenance,
    *,
    suite: str = "",
    device: str = "cpu",
    track: Callable[[Path], object] | None = None,
) -> Generator[Event]:
    """Do all runs of ``planned`` and yield what happens; each record is stored before it is told.

    A run that is :class:`Blocked` leaves nothing: it was never begun.

    ``suite`` is the one that was asked for; pre-trainings that it needs are of another.
    ``executor`` does the work on them, wherever it does, as
    :func:`harness.bench.local.run_locally` does. ``track`` is given each bundle; it is left alone
    after its first error.

    Raises:
        OSError: results cannot be written; nothing is half-written.
    """
    files, traces = RowFiles(), dict[str, str]()

    def noted(finished: Finished[PlannedRun, Record]) -> PlannedRun | None:
        run = retry(finished)
        if run is not None:
            traces[run.key] = finished.trace
        return run

    with writing(folders.results):
        for path in {folders.rows(run.job).parent: None for run in planned}:
            path.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=path).close()  # before anything is computed
        named = suite or (planned[0].job.suite if planned else "")
        board = Board(folders.results, named, len(planned))
    try:
        with closing(executor(planned, retry=noted)) as happening:
            for event in happening:
                run = event.job
                with writing(folders.results):
                    _show(board, event)
                    if isinstance(event, Finished):
                        _refuse_unwritable(event)
                        earlier = traces.pop(run.key, "")
                        record = _record(event, provenance, device, folders.runs, earlier)
                        files.put(folders.rows(run.job), record, run.outdated)
                    files.save_at_times()
                if not isinstance(event, Finished):
                    yield event
                    continue
                yield Stored(run, record, event.seconds)
                if track is not None and (trouble := untracked(track, folders.runs / record.key)):
                    later = f"`make track SUITE={run.job.suite}` logs the rest"
                    yield Warned(f"tracking stopped: {trouble}; {later}")
                    track = None
    finally:
        board.close()
        with writing(folders.results):
            files.save()


MODULES = ("harness.run.job",)
"""What the work of a worker imports, with torch: seconds that need be spent but once."""


def run_planned(
    planned: PlannedRun,
    tell: Tell,
    *,
    directories: Sequence[Path],
    device: str,
    runs: Path,
    provenance: Provenance,
) -> Record:
    """The work of a worker."""
    from harness.run.job import run  # here: the parent has no need of it, and of torch

    return run(
        planned.job,
        directories=directories,
        device=device,
        runs=runs,
        provenance=provenance,
        on_epoch=tell,
        attempts=planned.attempts,
        micro_batch=planned.micro_batch,
    )


# --- storing -------------------------------------------------------------------------------------


def untracked(track: Callable[[Path], object], left: Path) -> str:
    """Hand over what a run or a search left, if it is there; what went wrong, or nothing."""
    try:
        if left.exists():
            track(left)
    except Exception as error:  # noqa: BLE001 - tracking may fail in any way and costs no result
        return f"{type(error).__name__}: {error}"
    return ""


def _show(board: Board, event: events.Event[PlannedRun, Record]) -> None:
    run = event.job
    match event:
        case Started():
            board.begin(run.key, str(run.job), run.attempts)
        case Said(_, message):
            board.say(run.key, message)
        case Retried() | Finished():
            board.end(run.key, stored=isinstance(event, Finished))


def _record(
    event: Finished[PlannedRun, Record],
    provenance: Provenance,
    device: str,
    runs: Path,
    earlier: str,
) -> Record:
    """What the run measured, or the record of its failure; its bundle keeps every trace."""
    run, record, error, failure = event.job, event.result, event.error, event.failure
    if record is not None and not (other := _other_key(run, record)):
        if earlier and (runs / record.key).exists():
            write_text(runs / record.key / "log.txt", earlier)
        return record
    if record is not None:
        failure, error = "exception", other
    failed = new_record(
        run.job,
        provenance,
        status="failed",
        device=device,
        error=error,
        failure=failure,
        attempts=run.attempts,
        micro_batch=run.micro_batch or run.job.budget.batch,
        needs=run.needs,
        **run.identity,
    )
    log = "\n\nthe second time:\n".join(text for text in (earlier, event.trace or error) if text)
    write_bundle(runs, failed, curves=(), overlay=None, log=log)
    return failed


def _other_key(run: PlannedRun, record: Record) -> str:
    """What is wrong where a worker has found other code or data than were planned with."""
    if record.key == run.key:
        return ""
    return f"the run's key is {record.key}, planned was {run.key}: method or data have changed"


_UNWRITABLE = tuple(
    f"OSError: [Errno {code}]" for code in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
)


def _refuse_unwritable(event: Finished[PlannedRun, Record]) -> None:
    """A worker that could not write its bundle: no run after it could, so it is no run's fault."""
    if event.error.startswith(_UNWRITABLE):
        raise OSError(event.error.removeprefix("OSError: "))
