"""Jobs in worker processes of this machine.

A worker sees nothing of the others: an exception, a kill by the system, or a job over its time
costs that job alone. Nothing here knows what a job is.
"""

from __future__ import annotations

import ctypes
import faulthandler
import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, Generic

import psutil

from harness.bench.events import (
    Event,
    Failure,
    Finished,
    Flaw,
    J,
    R,
    Retried,
    Retry,
    Said,
    Slot,
    Started,
    Work,
    never,
    no_result,
)
from harness.bench.waiting import After, Key, Waiting, itself, nothing


def cpu_slots(count: int | None = None) -> list[Slot]:
    """One single-threaded worker for each core this process may use: threads of rivals fight."""
    return [Slot(_SINGLE)] * (count or cores())


_SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def cores() -> int:
    """How many cores this process may use, as far as the system says."""
    if count := getattr(os, "process_cpu_count", lambda: None)():  # Python 3.13
        return int(count)
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpu_slots(visible: Sequence[str], count: int | None = None, *, per_gpu: int = 1) -> list[Slot]:
    """``per_gpu`` workers for each GPU of ``visible``; or ``count`` in all, GPUs taking turns.

    The ids are those of CUDA_VISIBLE_DEVICES. Workers on one GPU share its memory; nothing keeps
    one of them from taking it all.
    """
    return [
        Slot({"CUDA_VISIBLE_DEVICES": visible[index % len(visible)]})
        for index in range(count or per_gpu * len(visible))
    ]


def run_locally(
    jobs: Sequence[J],
    work: Work[J, R],
    slots: Sequence[Slot],
    *,
    timeout: float | None = None,
    retry: Retry[J, R] = never,
    key: Key[J] = itself,
    after: After[J] = nothing,
    flaw: Flaw[J, R] = no_result,
    modules: Sequence[str] = (),
) -> Generator[Event[J, R]]:
    """Do ``work(job, tell)`` for every job in worker processes; yield what happens.

    Work and jobs are pickled, so ``work`` is a top-level function or a partial of one. A job that
    takes longer than ``timeout`` seconds is killed. ``retry`` is asked about each failure: the job
    it gives is done next in the place of the one that failed, which is then :class:`Retried` and
    not :class:`Finished`. Closing the generator ends the workers.

    A job may need the result of one other: the one whose ``key`` is what ``after`` says of it, if
    that is among ``jobs``. It is begun when that one has finished, however often that was retried.
    Where ``flaw`` objects to what that one has come to, it never is: one event says of all such
    jobs that they are :class:`Blocked`.

    ``modules`` are what the work imports and what takes long: where it is safe, one process
    imports them, and workers on CPUs are forked from it.

    Raises:
        ValueError: jobs need each other in a circle; none has been begun.
    """
    waiting, forms = Waiting(jobs, key, after, flaw), [*jobs]
    workers: dict[int, _Worker[J, R]] = {}  # by the number of their slot
    places: dict[int, int] = {}  # of the job that each does, by the same number
    try:
        while waiting.ready or any(worker.busy for worker in workers.values()):
            for number, slot in enumerate(slots):
                if waiting.ready and (number not in workers or not workers[number].busy):
                    if number not in workers:
                        workers[number] = _Worker(slot, modules)
                    places[number] = waiting.take()
                    yield workers[number].begin(work, forms[places[number]], timeout)
            for number, heard in _heard(workers):
                if workers[number].spent:
                    workers.pop(number).end()  # the next job gets a fresh one
                event: Event[J, R] = heard
                if isinstance(heard, Finished) and heard.failure and (other := retry(heard)):
                    forms[places[number]] = other
                    event = Retried(other, heard.error)
                yield event
                yield from waiting.hear(places[number], event)
    finally:
        for worker in workers.values():
            worker.end()


def _heard(
    workers: Mapping[int, _Worker[J, R]],
) -> Iterator[tuple[int, Said[J] | Finished[J, R]]]:
    """What the busy workers say next, or do not live to say, each with its number."""
    busy = {number: worker for number, worker in workers.items() if worker.busy}
    patience = min(worker.deadline for worker in busy.values()) - time.monotonic()
    ready = wait(
        [worker.pipe for worker in busy.values()],
        None if math.isinf(patience) else max(patience, 0.0),
    )
    for number, worker in busy.items():
        if worker.pipe in ready:
            yield number, worker.hear()
        elif time.monotonic() >= worker.deadline:
            yield number, worker.give_up("timeout", f"took longer than {worker.timeout:g} s")


class _Worker(Generic[J, R]):
    """The parent's end of one worker process."""

    def __init__(self, slot: Slot, modules: Sequence[str]) -> None:
        # What a worker prints would tear the parent's display; it is kept for the job that fails.
        self.printed = NamedTemporaryFile()  # noqa: SIM115 - it lives as long as the worker: `end` closes it
        self.process, self.pipe = _forked(slot, modules) or _started(get_context("spawn"))
        # Before any work is unpickled there: that imports torch, which reads the environment once.
        self.pipe.send(({**os.environ, **slot.environment}, self.printed.name))
        self.busy = False

    def begin(self, work: Work[J, R], job: J, timeout: float | None) -> Started[J]:
        self.printed.truncate(0)
        self.job, self.busy, self.since = job, True, time.monotonic()
        self.kills = _kills_for_memory()
        self.timeout = math.inf if timeout is None else timeout
        self.deadline = self.since + self.timeout
        self.spent = False
        with suppress(BrokenPipeError):  # it died between two jobs: `hear` will find out
            self.pipe.send((work, job))
        return Started(job)

    def hear(self) -> Said[J] | Finished[J, R]:
        try:
            kind, content = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            if _kills_for_memory() > self.kills and self.process.exitcode == -signal.SIGKILL:
                error = "the worker process was killed: the machine ran out of memory"
                return self.give_up("out-of-memory", error)
            return self.give_up(*_cause_of_death(self.process.exitcode))
        if kind == "said":
            return Said(self.job, content)
        return self._finished(**content)

    def give_up(self, failure: Failure, error: str) -> Finished[J, R]:
        """The job has failed and its process is of no more use."""
        self.process.kill()
        self.process.join()
        return self._finished(error=error, trace=error, failure=failure)

    def end(self) -> None:
        """Stop the process, whatever it is doing."""
        self.process.kill()
        self.process.join()
        self.process.close()
        self.pipe.close()
        self.printed.close()

    def _finished(
        self,
        result: R | None = None,
        error: str = "",
        trace: str = "",
        failure: Failure | None = None,
    ) -> Finished[J, R]:
        self.busy = False
        # What a job that ran out of memory has left behind would be in the way of the next one.
        self.spent = failure == "out-of-memory" or self.process.exitcode is not None
        if failure:
            self.printed.seek(0)
            printed = self.printed.read().decode(errors="replace")
            trace = f"{trace.rstrip()}\n\nprinted by the worker:\n{printed}" if printed else trace
        return Finished(self.job, time.monotonic() - self.since, result, error, trace, failure)


_Process = tuple[BaseProcess, "Connection[Any, Any]"]  # text: it is generic to mypy alone


def _forked(slot: Slot, modules: Sequence[str]) -> _Process | None:
    """A worker forked from a process that has imported ``modules``; None where that is not safe.

    A forked child inherits the locks of threads and the state of CUDA. So workers on GPUs are
    spawned, and all are where an import has left a thread behind, or on a system whose own
    libraries start some unasked, as macOS does.
    """
    if not modules or slot.environment != _SINGLE or sys.platform != "linux":
        return None
    multiprocessing.set_forkserver_preload([*modules])
    # Looked for where this process would; the server of Python 3.11 to 3.14 forgets to.
    with _environment({**slot.environment, "PYTHONPATH": os.pathsep.join(sys.path)}):
        process, pipe = _started(get_context("forkserver"))
    server = psutil.Process(process.pid).parent()
    if server is not None and server.num_threads() == 1:
        return process, pipe
    process.kill()
    process.join()
    pipe.close()
    return None


def _started(context: SpawnContext | ForkServerContext) -> _Process:
    """A worker that waits for its environment, and the pipe to it."""
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    with _interrupts_blocked():
        process.start()
    theirs.close()
    return process, ours


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have a process that is started within start with these variables."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Ctrl-C reaches all processes of a terminal; one started here leaves it to its parent."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cause_of_death(code: int | None) -> tuple[Failure, str]:
    if code is None or code >= 0:
        return "exception", f"the worker process ended with code {code}"
    return "killed", f"the worker process was killed by {signal.Signals(-code).name}"


_COUNTERS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))


def _kills_for_memory() -> int:
    """How often this kernel has killed a process to get memory back; 0 where it does not say."""
    count = 0
    for path in _COUNTERS:
        with suppress(OSError):
            for line in path.read_text().splitlines():
                name, _, number = line.partition(" ")
                count += int(number) if name == "oom_kill" else 0
    return count


def _serve(pipe: Connection[Any, Any]) -> None:
    """The worker's side: take a job, do it, answer, until the parent is gone."""
    threading.Thread(target=_follow_parent, daemon=True).start()
    environment, printed = pipe.recv()
    os.environ.clear()  # a forked one has that of the time when the first one was forked
    os.environ.update(environment)
    with Path(printed).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.enable()
    keep_memory()
    with suppress(EOFError):
        while True:
            pipe.send_bytes(_attempt(pipe.recv_bytes(), pipe))
            release_memory()


def keep_memory() -> None:
    """Have glibc keep freed memory: by default each large tensor is mapped anew, page by page.

    That took a tenth to a third of a training step on CPU (5,400 page faults a step, none with
    this).
    """
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
    with suppress(AttributeError, OSError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, -1)


def release_memory() -> None:
    """Give back what a job has freed, so that the next one's peak is its own."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _follow_parent() -> None:
    """A parent that was killed can stop nobody, so workers stop by themselves."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _attempt(order: bytes, pipe: Connection[Any, Any]) -> bytes:
    """Unpickle, do, pickle the answer: whatever goes wrong in that is the job's failure."""
    try:
        work, job = pickle.loads(order)  # noqa: S301 - pickled by the parent, through its own pipe
        result = work(job, lambda message: pipe.send(("said", dict(message))))
        return pickle.dumps(("finished", {"result": result}))
    except Exception as error:  # noqa: BLE001 - whatever a method raises is its job's failure
        told = {
            "error": f"{type(error).__name__}: {error}",
            "trace": traceback.format_exc(),
            "failure": failure_of(error),
        }
        return pickle.dumps(("finished", told))
    finally:
        sys.stdout.flush()


def failure_of(error: BaseException) -> Failure:
    """The class of an exception, or of what was behind it.

    There are many ways to say that memory is out: torch has a class of its own for a GPU and none
    for a CPU.
    """
    cause: BaseException | None = error
    while cause is not None:
        said = isinstance(cause, RuntimeError) and any(text in str(cause) for text in _NO_MEMORY)
        if said or isinstance(cause, MemoryError):
            return "out-of-memory"
        cause = cause.__cause__ or cause.__context__
    return "exception"


_NO_MEMORY = (
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
)
