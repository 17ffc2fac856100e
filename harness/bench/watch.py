"""Who works on a suite's results, and what on: one bench at a time, and others may look.

The lock says which process that is, and the system drops it even when that one is killed. What it
is doing lies in a small file beside the lock, which counts only as long as the lock is held.
Suites do not stand in each other's way: of what they share, the bundles, each appears whole.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from harness.core.files import clear_unfinished, lock, writing


@contextmanager
def alone(
    results: Path, suite: str, wait: Callable[[int], object] | None = None
) -> Iterator[None]:
    """Hold the results of a suite, so that two benches cannot overwrite each other's rows.

    Who holds it clears what dead processes have left half-written. With ``wait``, which is told
    the id of the process that is in the way, it waits for that one to finish.

    Raises:
        ValueError: another process holds them, and there is no ``wait``.
        OSError: the folder cannot be written.
    """
    path = _lock_of(results, suite)
    with writing(results):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+")
    with file:
        if (other := _locked(file)) is not None:
            if wait is None:
                raise ValueError(
                    f"suite {suite!r} in {results} is in use by process {other}: wait until it has"
                    " finished (WAIT=1, --wait), or choose another folder with RESULTS=dir"
                    " (--results dir)"
                )
            wait(other)
            lock(file)
        with writing(results):
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        clear_unfinished(results / suite)
        if not _others(results, suite):  # which may be of another machine, whose processes
            clear_unfinished(path.parent)  # cannot be seen from here
        yield  # the system lets go of the lock when the file is closed, even by a kill


def holder(results: Path, suite: str) -> int | None:
    """The id of the process that holds the results of a suite, if one does."""
    try:
        with _lock_of(results, suite).open() as file:
            if not lock(file, shared=True, wait=False):
                return int(file.read())
    except (FileNotFoundError, ValueError):  # it was never held; or is being taken right now
        return None
    return None


_LOCK = "lock-"


def _lock_of(results: Path, suite: str) -> Path:
    return results / "runs" / f"{_LOCK}{suite}"


def _told_by(results: Path, suite: str) -> Path:
    return results / "runs" / f"running-{suite}.json"


def _others(results: Path, suite: str) -> list[str]:
    """The other suites that a process is at work on."""
    names = (path.name.removeprefix(_LOCK) for path in (results / "runs").glob(f"{_LOCK}*"))
    return [name for name in names if name != suite and holder(results, name) is not None]


def _locked(file: IO[str]) -> int | None:
    """Lock the file; if another process has done so, that one's id."""
    for _ in range(4):  # for a moment `holder` has it, too
        if lock(file, wait=False):
            return None
        time.sleep(0.05)
    file.seek(0)
    return int(file.read() or 0)


@dataclass(frozen=True)
class Running:
    """A run that is being done: since when (seconds of the epoch), and how far it is."""

    key: str
    job: str
    since: float
    attempts: int = 1
    epoch: int | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class Progress:
    """What a bench tells other processes: of ``planned`` runs ``stored`` are over."""

    process: int
    suite: str
    since: float
    planned: int
    stored: int = 0
    running: tuple[Running, ...] = ()


def progress(results: Path, suite: str) -> Progress | None:
    """What the bench that holds the results of a suite is doing; None where none does."""
    process = holder(results, suite)
    for _ in range(10):
        try:
            lines = _told_by(results, suite).read_text(encoding="utf-8").split("\n")
            told = json.loads(lines[0])
            running = [Running(**json.loads(line)) for line in lines[1 : 1 + told["running"]]]
        except FileNotFoundError:
            return None
        except ValueError:
            time.sleep(0.01)  # it is being written
            continue
        if told["process"] != process:
            return None  # left by one that was killed
        return Progress(**told | {"running": tuple(running)})
    return None


class Board:
    """Where others can read how far the bench is: a small file, a line a run.

    It is written over in place. To replace the file by a new one, as is done with rows, would be
    to wait for the disk each time: more than all else that a run costs here.
    """

    def __init__(self, results: Path, suite: str, planned: int) -> None:
        self._path = _told_by(results, suite)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w", encoding="utf-8")
        self._told = Progress(os.getpid(), suite, time.time(), planned)
        self._running: dict[str, Running] = {}
        self._texts: dict[str, str] = {}  # of the same runs: thousands may be going on

    def begin(self, key: str, job: str, attempts: int) -> None:
        """A run has been started, for the first time or the second."""
        self._show(Running(key, job, time.time(), attempts))

    def say(self, key: str, message: Mapping[str, Any]) -> None:
        """A run has done another epoch."""
        if run := self._running.get(key):  # from far away it may come too late
            self._show(replace(run, epoch=message.get("epoch"), epochs=message.get("epochs")))

    def end(self, key: str, *, stored: bool) -> None:
        """A run is over, or failed and will be tried again."""
        self._running.pop(key, None)
        self._texts.pop(key, None)
        self._told = replace(self._told, stored=self._told.stored + stored)
        self._write()

    def close(self) -> None:
        """The bench has ended."""
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _show(self, run: Running) -> None:
        self._running[run.key] = run
        self._texts[run.key] = json.dumps(asdict(run))
        self._write()

    def _write(self) -> None:
        told = json.dumps(asdict(self._told) | {"running": len(self._texts)})
        self._file.seek(0)
        # What is left in the file after these lines is old.
        self._file.write("\n".join([told, *self._texts.values(), ""]))
        self._file.flush()
