"""Worker processes: a failure costs one job, and nothing outlives the parent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_edges import EDGE, summary

from harness.bench import local
from harness.bench.events import Finished, Retried, Said, Slot, Started, Work
from harness.bench.local import cpu_slots, failure_of, gpu_slots, run_locally


def double(job: int, tell: object) -> int:
    return 2 * job


def pid(job: int, tell: object) -> int:
    return os.getpid()


def variable(job: str, tell: object) -> str | None:
    return os.environ.get(job)


def epochs(job: int, tell: object) -> int:
    for epoch in range(job):
        tell({"epoch": epoch + 1, "epochs": job})  # type: ignore[operator]  # a job is a number here
    return job


def fail_on_odd(job: int, tell: object) -> int:
    if job % 2:
        sys.stdout.write(f"loading {job}")
        raise ValueError(f"{job} is odd")
    return job


def die_on_odd(job: int, tell: object) -> int:
    if job % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def leave(job: int, tell: object) -> int:
    sys.exit(7)


def unpicklable(job: int, tell: object) -> object:
    return lambda: job


def sleep_on_odd(job: int, tell: object) -> int:
    time.sleep(60 if job % 2 else 0)
    return job


def touch_and_sleep(job: str, tell: object) -> None:
    Path(job).write_text(str(os.getpid()))
    time.sleep(60)


def outcomes(
    jobs: list[Any], work: Work[Any, Any], slots: int = 1, timeout: float | None = None
) -> dict[object, Finished[Any, Any]]:
    events = run_locally(jobs, work, cpu_slots(slots), timeout=timeout)
    return {event.job: event for event in events if isinstance(event, Finished)}


def test_every_job_is_done_once_and_answers_with_its_result() -> None:
    """More jobs than workers: each has its own result."""
    done = outcomes([1, 2, 3, 4, 5], double, slots=2)
    assert {job: 2 * job for job in range(1, 6)} == {job: end.result for job, end in done.items()}


def test_no_jobs_start_no_workers() -> None:
    """An empty list yields nothing at once."""
    assert [] == list(run_locally([], double, cpu_slots(2)))


def test_a_worker_does_one_job_after_the_other() -> None:
    """Start-up (torch) is paid once for a worker, not once for a job."""
    assert 1 == len({end.result for end in outcomes([1, 2, 3], pid).values()})


def test_events_come_in_order() -> None:
    """A job starts, says its epochs, and finishes."""
    start, first, second, end = run_locally([2], epochs, cpu_slots(1))
    assert Started(2) == start
    assert [Said(2, {"epoch": e, "epochs": 2}) for e in (1, 2)] == [first, second]
    assert isinstance(end, Finished)


def test_an_exception_costs_its_job_alone() -> None:
    """The error is one line, the trace has the source line and what the worker printed."""
    done = outcomes([0, 1, 2], fail_on_odd)
    assert [0, None, 2] == [done[job].result for job in (0, 1, 2)]
    assert "ValueError: 1 is odd" == done[1].error
    assert "in fail_on_odd" in done[1].trace
    assert "loading 1" in done[1].trace


@pytest.mark.usefixtures("kills_workers")
def test_a_killed_worker_costs_its_job_alone() -> None:
    """SIGKILL, as when memory ends: that job fails, a new worker does the rest."""
    done = outcomes([0, 1, 2, 3, 4], die_on_odd, slots=2)
    assert [0, None, 2, None, 4] == [done[job].result for job in range(5)]
    assert "killed by SIGKILL" in done[1].error
    assert "killed" == done[1].failure


def die_of_memory(job: tuple[str, int], tell: object) -> int:
    """Need so many bytes in a group of processes that may have fewer."""
    group, size = job
    if group:
        Path(group, "cgroup.procs").write_text(str(os.getpid()))
    held = bytearray(size)
    for page in range(0, size, 4096):
        held[page] = 1
    return len(held)


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A group of processes with 200 MB between them, which only root can make."""
    top = Path("/sys/fs/cgroup")
    first = (top / "cgroup.controllers").exists()
    parent, limit = (top, "memory.max") if first else (top / "memory", "memory.limit_in_bytes")
    group = parent / f"patchbench-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(200 * 2**20))
    except OSError:
        with suppress(OSError):
            group.rmdir()
        pytest.skip("memory cannot be limited here")
    yield group
    for _ in range(100):
        with suppress(OSError):
            group.rmdir()
            return
        time.sleep(0.05)


@pytest.mark.usefixtures("kills_for_memory")
def test_a_worker_killed_for_memory_is_told_from_one_that_was_killed(small_memory: Path) -> None:
    """The kernel counts such kills; its word decides, and the next job finds room."""
    large, small = (str(small_memory), 400 * 2**20), (str(small_memory), 4096)
    done = outcomes([large, small], die_of_memory)
    assert "out-of-memory" == done[large].failure
    assert "the machine ran out of memory" in done[large].error
    assert 4096 == done[small].result


def count_kill(job: Path, tell: object) -> None:
    job.write_text("pgfault 7\noom_kill 4\n")
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_count_of_kills_for_memory_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the kernel's counter, which went up while the job ran."""
    counter = tmp_path / "vmstat"
    counter.write_text("pgfault 5\noom_kill 3\n")
    monkeypatch.setattr(local, "_COUNTERS", (counter, tmp_path / "none"))
    assert "out-of-memory" == outcomes([counter], count_kill)[counter].failure


def allocate(job: int, tell: object) -> None:
    import torch  # here: the other tests' workers start faster without it

    torch.empty(job)


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (MemoryError(), "out-of-memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out-of-memory"),
        (RuntimeError("CUDA error: out of memory"), "out-of-memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"), "out-of-memory"),
        (RuntimeError("CUDA error: device-side assert triggered"), "exception"),
        (ValueError("CUDA out of memory"), "exception"),
    ],
)
def test_the_many_words_for_no_memory_are_one_class(error: Exception, failure: str) -> None:
    """Also where another error was raised because of it."""
    assert failure == failure_of(error)
    wrapped = KeyError("wrapped")
    wrapped.__cause__ = error
    assert failure == failure_of(wrapped)


def test_a_worker_that_ran_out_of_memory_is_replaced() -> None:
    """What the process holds would be in the way of the next job, so that one has another."""
    ends = list(run_locally(["eat", ""], pid_or_eat, cpu_slots(1), retry=lambda _: "pid"))
    assert [Started, Retried, Started, Finished, Started, Finished] == list(map(type, ends))
    assert isinstance(ends[1], Retried)
    retried, last = (event.result for event in ends if isinstance(event, Finished))
    assert retried == last
    assert str(retried) not in ends[1].error  # the pid that it told


def pid_or_eat(job: str, tell: object) -> int:
    if job == "eat":
        raise MemoryError(os.getpid())
    return os.getpid()


def test_torch_says_that_there_is_no_memory() -> None:
    """Its error for the CPU, as it really is, and its class for a GPU."""
    import torch  # here: workers of the other tests start faster without it

    assert "out-of-memory" == outcomes([2**50], allocate)[2**50].failure
    assert issubclass(torch.OutOfMemoryError, RuntimeError)


def test_a_failed_job_is_tried_again_where_that_is_asked_for() -> None:
    """It goes first, in its new form; what failed is told as retried, once."""
    asked: list[tuple[int, str | None]] = []

    def again(finished: Finished[int, int]) -> int | None:
        asked.append((finished.job, finished.failure))
        return finished.job + 1 if finished.job == 3 else None

    events = list(run_locally([2, 3, 6, 5], fail_on_odd, cpu_slots(1), retry=again))
    ends = [event for event in events if not isinstance(event, Started)]
    assert [2, 4, 4, 6, 5] == [event.job for event in ends]
    assert Retried(4, "ValueError: 3 is odd") == ends[1]
    assert [(3, "exception"), (5, "exception")] == asked
    assert "exception" == ends[-1].failure  # type: ignore[union-attr]  # the last is Finished
    assert all(event.failure is None for event in ends[2:-1] if isinstance(event, Finished))


# --- a job that needs another ----------------------------------------------------------------

# A job is (its name, the name of the one that it needs, what it does).
Step = tuple[str, str | None, str]


def step(job: Step, tell: object, *, folder: Path) -> str:
    """Leave a file, where the job that is needed has left one."""
    name, needed, how = job
    assert needed is None or (folder / needed).exists(), f"{needed} is not done"
    if how == "fail":
        raise ValueError(f"{name} went wrong")
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how.startswith("await "):
        wait_for(partial((folder / how.removeprefix("await ")).exists))
    if how == "sleep":
        time.sleep(60)
    (folder / name).touch()
    return name


def told(
    jobs: Sequence[Step],
    folder: Path,
    slots: int = 1,
    **options: Any,  # noqa: ANN401 - those of run_locally
) -> list[tuple[str, str]]:
    """What happens, each with the name of its job; a failure with its error.

    What is odd is nothing to start from.
    """
    events = run_locally(
        jobs,
        partial(step, folder=folder),
        cpu_slots(slots),
        **EDGE,
        **options,
    )
    return summary(events)


def test_a_job_is_begun_when_the_one_that_it_needs_is_finished(tmp_path: Path) -> None:
    """Wherever it stands; what needs nothing keeps its order, and no worker waits beside it."""
    jobs: list[Step] = [
        ("late", "slow", "go"),
        ("slow", None, "await quick 2"),
        ("quick 1", "of another day", "go"),
        ("quick 2", None, "go"),
        ("last", None, "go"),
    ]
    (tmp_path / "of another day").touch()
    happened = told(jobs, tmp_path, slots=2)
    assert [("Started", "slow"), ("Started", "quick 1")] == happened[:2]
    assert happened.index(("Finished", "slow")) < happened.index(("Started", "late"))
    assert happened.index(("Started", "quick 2")) < happened.index(("Started", "last"))
    assert sorted(happened) == sorted(
        (what, job[0]) for job in jobs for what in ("Started", "Finished")
    )


@pytest.mark.usefixtures("kills_workers")
def test_what_needs_a_failed_job_is_never_begun(tmp_path: Path) -> None:
    """However that failed, or is of no use; told once for all, and nobody is asked."""
    jobs: list[Step] = [
        ("third", "second", "go"),
        ("second", "bad", "go"),
        ("bad", None, "fail"),
        ("heir", "dead", "go"),
        ("dead", None, "die"),
        ("child", "long", "go"),
        ("long", None, "sleep"),
        ("even", "odd", "go"),
        ("odd", None, "go"),
        ("fine", None, "go"),
    ]
    asked: list[str] = []
    wrong, died, late = (
        "ValueError: bad went wrong",
        "the worker process was killed by SIGKILL",
        "took longer than 1.5 s",
    )
    happened = told(jobs, tmp_path, timeout=1.5, retry=lambda end: asked.append(end.job[0]))
    assert happened == [
        ("Started", "bad"),
        (f"exception: {wrong}", "bad"),
        (f"blocks second and third: {wrong}", "bad"),
        ("Started", "dead"),
        (f"killed: {died}", "dead"),
        (f"blocks heir: {died}", "dead"),
        ("Started", "long"),
        (f"timeout: {late}", "long"),
        (f"blocks child: {late}", "long"),
        ("Started", "odd"),
        ("Finished", "odd"),
        ("blocks even: not even", "odd"),
        ("Started", "fine"),
        ("Finished", "fine"),
    ]
    assert asked == ["bad", "dead", "long"]


def test_what_needs_a_job_waits_while_that_is_retried(tmp_path: Path) -> None:
    """Also where it is called something else by then."""
    jobs: list[Step] = [("weak", None, "fail"), ("next", "weak", "go")]
    (tmp_path / "weak").touch()  # it is the end of the other form that is waited for
    happened = told(jobs, tmp_path, slots=2, retry=lambda end: ("firm", None, "go"))
    assert happened == [
        ("Started", "weak"),
        ("Retried", "firm"),
        ("Started", "firm"),
        ("Finished", "firm"),
        ("Started", "next"),
        ("Finished", "next"),
    ]


def test_jobs_that_need_each_other_are_refused_before_any_is_begun(tmp_path: Path) -> None:
    """Nobody would ever begin them."""
    jobs: list[Step] = [("fine", None, "go"), ("a", "b", "go"), ("b", "a", "go")]
    with pytest.raises(ValueError, match="need each other in a circle"):
        told(jobs, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_closing_the_generator_leaves_what_waits_undone(tmp_path: Path) -> None:
    """The worker is stopped, and nobody begins the job that needs its."""
    jobs: list[Step] = [("long", None, "sleep"), ("child", "long", "go")]
    events = run_locally(
        jobs,
        partial(step, folder=tmp_path),
        cpu_slots(2),
        key=lambda j: j[0],
        after=lambda j: j[1],
    )
    assert Started(jobs[0]) == next(events)
    events.close()
    assert [] == list(events)
    assert [] == list(tmp_path.iterdir())


def test_a_job_that_ends_its_process_has_failed() -> None:
    """sys.exit in a method is no result."""
    assert "ended with code 7" in outcomes([1], leave)[1].error


def test_a_result_that_cannot_travel_is_a_failure() -> None:
    """The worker survives an answer that pickle refuses."""
    # Python 3.13 names what it cannot get, earlier ones say that it cannot be pickled.
    assert re.search("[Pp]ickle|local object", outcomes([1], unpicklable)[1].error)


def test_a_job_over_its_time_is_killed() -> None:
    """The timeout ends that job; the others are done."""
    began = time.monotonic()
    done = outcomes([1, 2], sleep_on_odd, timeout=1.5)
    assert "took longer than 1.5 s" == done[1].error
    assert "timeout" == done[1].failure
    assert 2 == done[2].result
    assert 20 > time.monotonic() - began


@pytest.mark.parametrize("modules", [[], ["xml.dom.minidom"]])
def test_workers_have_the_environment_of_now(
    modules: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that are forked from a process that was started earlier; and no more than it."""
    for value in ("early", "late"):
        monkeypatch.setenv("PATCHBENCH_TEST", value)
        monkeypatch.setenv(f"PATCHBENCH_{value}", value)
        names = ["PATCHBENCH_TEST", "PATCHBENCH_early", "OMP_NUM_THREADS", "PYTHONPATH"]
        ends = run_locally(names, variable, cpu_slots(1), modules=modules)
        told = [event.result for event in ends if isinstance(event, Finished)]
        assert told == [value, os.environ.get(names[1]), "1", os.environ.get("PYTHONPATH")]
        monkeypatch.delenv(f"PATCHBENCH_{value}")


def test_the_environment_is_set_before_the_work_is_loaded() -> None:
    """One thread a CPU worker, one device a GPU worker."""
    assert "1" == outcomes(["OMP_NUM_THREADS"], variable)["OMP_NUM_THREADS"].result
    events = run_locally(["CUDA_VISIBLE_DEVICES"], variable, gpu_slots(["3", "5"], 1))
    assert ["3"] == [event.result for event in events if isinstance(event, Finished)]


def family(job: str, tell: object) -> tuple[int, int]:
    """The worker and its parent; the job is a module that must be loaded already."""
    assert job in sys.modules
    return os.getpid(), os.getppid()


def forked(jobs: list[str], slots: list[Slot], modules: list[str]) -> list[tuple[int, int]]:
    events = run_locally(jobs, family, slots, modules=modules)
    ends = [event for event in events if isinstance(event, Finished)]
    assert [None] * len(jobs) == [end.failure for end in ends], ends[0].trace
    return [end.result for end in ends if end.result]


# Of the standard library, and nothing that a worker needs: loaded only where that was asked for.
SLOW = "xml.dom.minidom"


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
def test_what_workers_import_is_imported_once() -> None:
    """They are forked from one process that has it, which is not the parent."""
    jobs = [SLOW, SLOW, SLOW, SLOW]
    servers = {server for _, server in forked(jobs, cpu_slots(2), [SLOW])}
    assert 1 == len(servers)
    assert os.getpid() not in servers


def parent_of(job: str, tell: object) -> int:
    return os.getppid()


@pytest.mark.parametrize("why", ["GPU", "threads", "system"])
def test_workers_are_spawned_where_to_fork_is_not_safe(
    why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU, after an import that starts a thread, and on systems that start some unasked."""
    slots, modules = cpu_slots(1), [SLOW]
    if why == "GPU":
        slots = gpu_slots(["0"])
    elif why == "system":
        monkeypatch.setattr(sys, "platform", "darwin")
    else:
        monkeypatch.setattr(psutil.Process, "num_threads", lambda self: 2)
    events = run_locally(["job"], parent_of, slots, modules=modules)
    assert [os.getpid()] == [event.result for event in events if isinstance(event, Finished)]


def kill_parent_on_odd(job: int, tell: object) -> int:
    if job % 2:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(0.1)
    return job


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
@pytest.mark.usefixtures("kills_workers")
def test_the_death_of_the_process_that_workers_are_forked_from_costs_nothing() -> None:
    """The job goes on, and what comes next is forked from a new one."""
    events = run_locally([1, 2, 3], kill_parent_on_odd, cpu_slots(1), modules=[SLOW])
    ends = [event for event in events if isinstance(event, Finished)]
    assert [1, 2, 3] == [end.result for end in ends]


def test_slots() -> None:
    """As many as asked for; else one a core or one a GPU; GPUs take turns."""
    assert len(os.sched_getaffinity(0)) == len(cpu_slots())
    assert 3 == len(cpu_slots(3))
    ids = [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in gpu_slots(["3", "5"], 3)]
    assert ["3", "5", "3"] == ids
    shared = [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in gpu_slots("35", per_gpu=2)]
    assert ["3", "5", "3", "5"] == shared
    assert Slot({}) == Slot()


def test_cores_are_counted_where_the_system_says_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS, say, no process is bound to some of the cores; and some systems say nothing."""
    monkeypatch.delattr(os, "process_cpu_count", raising=False)  # of Python 3.13
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert len(cpu_slots()) == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert len(cpu_slots()) == 1
    monkeypatch.setattr(os, "process_cpu_count", lambda: 5, raising=False)
    assert len(cpu_slots()) == 5


def test_a_kill_is_told_where_the_system_counts_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without /proc nobody says that memory was out: a worker was killed, the rest is done."""
    monkeypatch.setattr(local, "_COUNTERS", (tmp_path / "none",))
    ends = outcomes([1, 2], die_on_odd)
    assert (ends[1].failure, ends[2].failure) == ("killed", None)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()


def wait_for(condition: partial[bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, condition
        time.sleep(0.02)


def test_closing_the_generator_ends_the_workers(tmp_path: Path) -> None:
    """Whoever stops listening stops the work."""
    mark = tmp_path / "mark"
    events: Iterator[object] = run_locally([str(mark)], touch_and_sleep, cpu_slots(1))
    next(events)
    events.close()  # type: ignore[attr-defined]  # a generator, declared an iterator
    assert not mark.exists() or not alive(int(mark.read_text()))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_do_not_outlive_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C for the whole terminal, or a parent that is killed outright: no process is left."""
    mark = tmp_path / "mark"
    script = (
        "import sys; sys.path[:0] = sys.argv[1:3]\n"
        "from test_local import touch_and_sleep\n"
        "from harness.bench.local import cpu_slots, run_locally\n"
        "if __name__ == '__main__':\n"
        "    list(run_locally([sys.argv[3]], touch_and_sleep, cpu_slots(1)))\n"
    )
    (tmp_path / "parent.py").write_text(script)
    here = Path(__file__).parents[1], Path(__file__).parent
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "parent.py", *here, mark],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(partial(lambda: mark.exists() and mark.read_text() != ""))
    worker = int(mark.read_text())
    if how is signal.SIGINT:
        os.killpg(parent.pid, how)
    else:
        parent.send_signal(how)
    _, printed = parent.communicate(timeout=60)
    wait_for(partial(lambda: not alive(worker)))
    assert printed.count("Traceback") == (1 if how is signal.SIGINT else 0)  # the parent's own
