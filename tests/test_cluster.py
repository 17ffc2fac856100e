"""A Ray cluster does what worker processes do, and loses nothing when a node dies."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_edges import EDGE, summary

from harness.bench import cluster, execute
from harness.bench.cluster import on_ray
from harness.bench.events import Event, Finished, Retried, Said, Started, Tell
from harness.bench.execute import Stored
from harness.bench.local import cpu_slots, run_locally
from harness.bench.survey import Folders, PlannedRun, survey
from harness.cli import options
from harness.core.files import locked
from harness.core.job import Job, Provenance, Record
from harness.core.task import Architecture, Budget, Task

ray = pytest.importorskip("ray")

# Ray leaves sockets and the handles of processes that it has ended to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

ORIGIN = Provenance("abc", "python 3")


class TwoNodes:
    """A cluster of two machines of one core, both of them this one."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        # A node that is gone is known as such after three seconds instead of half a minute; one
        # that is merely slow, on a loaded machine, has as long as ever.
        quick = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}
        small = {"num_cpus": 1, "object_store_memory": 100 * 2**20, "include_dashboard": False}
        self.cluster = Cluster(
            initialize_head=True, head_node_args={**small, "_system_config": quick}
        )
        self.second = self.cluster.add_node(**small)
        self.address = self.cluster.address
        self.session = self.cluster.head_node.get_session_dir_path()

    def processes(self) -> list[int]:
        """All that have been started for the cluster and are alive."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # it has ended meanwhile
                if self.session.encode() in path.read_bytes():
                    found.append(int(path.parent.name))
        return found

    def kill_second(self) -> None:
        """What keeps the node in the cluster dies; its workers do not even notice."""
        (raylet,) = self.second.all_processes["raylet"]
        os.kill(raylet.process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def nodes() -> Iterator[TwoNodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # or they wait for all else on a busy machine
        # Annotations are checked in tests by a wrapper, which hides that this is a generator.
        patch.setattr(cluster, "_attend", inspect.unwrap(cluster._attend))
        two = TwoNodes()
        # The nodes get the code of the harness, not that of the tests.
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        try:
            yield two
        finally:
            ray.shutdown()
            two.cluster.shutdown()
    wait_for(lambda: not two.processes())


# --- work to do ------------------------------------------------------------------------------


def double(job: int, tell: object, **places: object) -> int:
    return 2 * job


def where(job: int, tell: object, **places: object) -> tuple[str, str | None, int]:
    import harness

    return harness.__file__, os.environ.get("OMP_NUM_THREADS"), os.getpid()


def speak(job: int, tell: Callable[[Mapping[str, int]], None], **places: object) -> int:
    for epoch in range(job):
        tell({"epoch": epoch})
        time.sleep(0.2)
    return job


def fail_on_odd(job: int, tell: object, **places: object) -> int:
    if job % 2:
        print(f"loading {job}")  # noqa: T201 - that a job may print is the point
        raise ValueError(f"{job} is odd")
    return job


def leave(job: int, tell: object, **places: object) -> int:
    sys.exit(7)


def exhaust(job: int, tell: object, **places: object) -> int:
    raise MemoryError


def sleep_on_odd(job: int, tell: object, **places: object) -> int:
    time.sleep(60 if job % 2 else 0)
    return job


def die_at_first(job: str, tell: object, **places: object) -> str:
    if not Path(job).exists():
        Path(job).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def die(job: int, tell: object, **places: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def touch_and_sleep(job: str, tell: object, **places: object) -> None:
    Path(job).write_text(str(os.getpid()))
    time.sleep(60)


def leave_bundle(job: int, tell: object, *, runs: Path, **places: object) -> str:
    (runs / f"run{job}").mkdir()
    (runs / f"run{job}" / "number.txt").write_text(str(job))
    return str(runs)


def read_and_remove(job: Path, tell: object, *, directories: Sequence[Path], **_: object) -> str:
    copy = next(path for folder in directories if (path := folder / job.name).exists())
    text = copy.read_text()
    job.unlink(missing_ok=True)
    return f"{text} at {copy}"


# A job is (its name, the name of the one that it needs, what it does).
Step = tuple[str, str | None, str]


def step(job: Step, tell: object, *, folder: Path, **places: object) -> str:
    """Leave a file, where the job that is needed has left one."""
    name, needed, how = job
    assert needed is None or (folder / needed).exists(), f"{needed} is not done"
    if how == "fail":
        raise ValueError(f"{name} went wrong")
    if how == "die once":
        die_at_first(str(folder / f"{name} has died"), tell)
    if how.startswith("await "):
        wait_for((folder / how.removeprefix("await ")).exists)
    if how == "sleep":
        time.sleep(60)
    (folder / name).touch()
    return name


def start_from(
    job: tuple[str, str | None], tell: object, *, directories: Sequence[Path], runs: Path
) -> str:
    """Make a bundle; or find that of another job, and say where and what is in it."""
    name, needed = job
    if needed is None:
        (runs / name / "deep").mkdir(parents=True)
        (runs / name / "weights.bin").write_bytes(bytes(2 * 2**20))
        (runs / name / "deep" / "name.txt").write_text(name)
        return ""
    found = [path for folder in directories if (path := folder / needed).is_dir()]
    if not found:
        raise FileNotFoundError(f"no bundle {needed}")
    (copy,) = found
    assert bytes(2 * 2**20) == (copy / "weights.bin").read_bytes()
    assert [copy.name] == [path.name for path in copy.parent.iterdir()]
    time.sleep(1)  # so that both nodes come by
    return f"{(copy / 'deep' / 'name.txt').read_text()} at {copy}"


def events(
    nodes: TwoNodes,
    folder: Path,
    jobs: Sequence[Any],
    work: Callable[..., Any],
    **options: Any,  # noqa: ANN401 - those of on_ray
) -> list[Event[Any, Any]]:
    """All that is told of the jobs."""
    return list(on_ray(jobs, work, address=nodes.address, runs=folder / "runs", **options))


def ends(told: Sequence[Event[Any, Any]]) -> dict[object, Finished[Any, Any]]:
    return {event.job: event for event in told if isinstance(event, Finished)}


def told_of(
    nodes: TwoNodes,
    folder: Path,
    jobs: Sequence[Step],
    **options: Any,  # noqa: ANN401 - those of on_ray
) -> list[tuple[str, str]]:
    """What happens, each with the name of its job; a failure with its error.

    What is odd is nothing to start from.
    """
    work = partial(step, folder=folder)
    return summary(events(nodes, folder, jobs, work, **EDGE, **options))


# --- promises --------------------------------------------------------------------------------


def test_every_job_is_done_once_and_answers_with_its_result(
    nodes: TwoNodes, tmp_path: Path
) -> None:
    """More jobs than cores: each is started, then finished with its own result."""
    told = events(nodes, tmp_path, range(6), double)
    assert {job: 2 * job for job in range(6)} == {job: e.result for job, e in ends(told).items()}
    assert 6 == sum(isinstance(event, Started) for event in told)
    assert 12 == len(told)


def test_nodes_run_a_copy_of_this_code_on_one_thread(nodes: TwoNodes, tmp_path: Path) -> None:
    """What was edited a moment ago is what runs, whatever is installed on the node."""
    (end,) = ends(events(nodes, tmp_path, [1], where)).values()
    assert end.result is not None
    file, threads, process = end.result
    assert "/runtime_resources/" in file
    assert "1" == threads
    assert process != os.getpid()
    assert not Path(file).parents[1].joinpath("results").exists()


def test_what_the_work_says_arrives_thinned_out(nodes: TwoNodes, tmp_path: Path) -> None:
    """The first message comes, and then one in half a second at most."""
    said = [e.message for e in events(nodes, tmp_path, [5], speak) if isinstance(e, Said)]
    assert {"epoch": 0} == said[0]
    assert 3 >= len(said)


def test_failures_have_the_classes_of_local_ones(nodes: TwoNodes, tmp_path: Path) -> None:
    """An exception, an exit and a lack of memory cost their job alone, and are told as at home."""
    told = ends(events(nodes, tmp_path, [1, 2], fail_on_odd))
    assert ("exception", "ValueError: 1 is odd") == (told[1].failure, told[1].error)
    assert "in fail_on_odd" in told[1].trace
    assert "printed by the worker:\nloading 1" in told[1].trace
    assert (None, 2) == (told[2].failure, told[2].result)
    assert "SystemExit: 7" == ends(events(nodes, tmp_path, [1], leave))[1].error
    assert "out-of-memory" == ends(events(nodes, tmp_path, [1], exhaust))[1].failure


def test_a_failure_is_tried_again_if_somebody_wants_it(nodes: TwoNodes, tmp_path: Path) -> None:
    """In the form that it then has: 3 fails, 4 in its place does not."""
    told = events(nodes, tmp_path, [3], fail_on_odd, retry=lambda end: end.job + 1)
    assert [Started(3), Retried(4, "ValueError: 3 is odd"), Started(4)] == told[:3]
    assert 4 == ends(told)[4].result


def test_a_job_over_its_time_is_cancelled(nodes: TwoNodes, tmp_path: Path) -> None:
    """It alone has failed; the core is free for the next one."""
    told = ends(events(nodes, tmp_path, [1, 2, 3, 4], sleep_on_odd, timeout=2))
    assert ["timeout", None, "timeout", None] == [told[job].failure for job in (1, 2, 3, 4)]
    assert "took longer than 2 s" == told[1].error


def test_a_worker_that_dies_costs_nothing(nodes: TwoNodes, tmp_path: Path) -> None:
    """The job is done again without counting as failed: nobody is asked."""
    never = pytest.fail
    told = events(nodes, tmp_path, [str(tmp_path / "mark")], die_at_first, retry=never)
    kinds = [type(event) for event in told]
    assert [Started, Retried, Started, Finished] == kinds
    assert "WorkerCrashedError" in told[1].error  # type: ignore[union-attr]  # it is Retried
    assert "alive" == told[3].result  # type: ignore[union-attr]  # it is Finished


def test_a_job_that_kills_its_workers_has_failed_in_the_end(
    nodes: TwoNodes, tmp_path: Path
) -> None:
    """After some losses it is not the machines' fault."""
    told = events(nodes, tmp_path, [1], die)
    assert cluster.LOSSES - 1 == sum(isinstance(event, Retried) for event in told)
    assert "killed" == ends(told)[1].failure


def test_bundles_come_home_before_their_jobs_are_finished(nodes: TwoNodes, tmp_path: Path) -> None:
    """Written on the node, they are here when the parent hears; an older one gives way."""
    (tmp_path / "runs" / "run1").mkdir(parents=True)
    (tmp_path / "runs" / "run1" / "old.txt").touch()
    with closing(
        on_ray([1, 2], leave_bundle, address=nodes.address, runs=tmp_path / "runs")
    ) as told:
        for event in told:
            if isinstance(event, Finished):
                number = tmp_path / "runs" / f"run{event.job}" / "number.txt"
                assert str(event.job) == number.read_text()
                assert not Path(str(event.result)).exists()  # nothing stays on the node
    assert {"run1", "run2"} == {path.name for path in (tmp_path / "runs").iterdir()}
    assert not (tmp_path / "runs" / "run1" / "old.txt").exists()


def test_a_file_is_sent_to_nodes_that_lack_it(nodes: TwoNodes, tmp_path: Path) -> None:
    """It is used where it lies as at home; gone from there, each job finds the copy sent once."""
    home, disk = tmp_path / "data" / "kitchen.csv", tmp_path / "disk.csv"
    home.parent.mkdir()
    disk.write_text("a table")
    home.symlink_to(disk)
    told = events(
        nodes,
        tmp_path,
        [home] * 3,
        read_and_remove,
        directories=[home.parent],
        needs=lambda job: [job],
        count=1,
    )
    results = [str(event.result) for event in told if isinstance(event, Finished)]
    assert f"a table at {home}" == results[0]
    assert results[1].startswith("a table at ")
    assert str(home) not in results[1]
    assert 2 == len(set(results))


def test_a_bundle_that_a_job_left_is_sent_to_nodes_whole_and_once(
    nodes: TwoNodes, tmp_path: Path
) -> None:
    """It is looked up when the job that needs it is handed over, and found by its name there.

    Four jobs on two nodes want it at a time: each finds all of it, in one of at most two copies.
    """
    runs = tmp_path / "runs"
    (runs / "made").mkdir(parents=True)  # of an earlier day, and empty
    jobs = [*((f"user {number}", "made") for number in range(4)), ("made", None)]
    packed: list[str] = []
    whole = cluster._packed_whole

    def noted(path: Path) -> bytes:
        packed.append(path.name)
        return whole(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "_packed_whole", noted)
        told = events(
            nodes,
            tmp_path,
            jobs,
            start_from,
            key=lambda job: job[0],
            after=lambda job: job[1],
            needs=lambda job: [runs / job[1]] if job[1] else [],
            directories=[tmp_path / "data"],
        )
    results = [ends(told)[job] for job in jobs[:4]]
    assert [None] * 4 == [end.failure for end in results], results[0].trace
    copies = {str(end.result) for end in results}
    assert all(copy.startswith("made at ") and str(runs) not in copy for copy in copies)
    assert ["made"] == packed


@dataclass(frozen=True)
class Reference:
    """What stands for a thing in the cluster's memory."""

    content: bytes
    slow: float = 0.0

    def hex(self) -> str:
        return "abc"


def test_a_copy_on_a_node_is_whole_or_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that broke off leaves nothing; of two jobs that need it, one waits for the other."""
    asked = []

    def get(reference: Reference) -> bytes:
        asked.append(reference)
        time.sleep(reference.slow)
        return reference.content

    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(cluster, "_CODE", tmp_path / "node")
    bundle = tmp_path / "runs" / "made"
    bundle.mkdir(parents=True)
    for name in "ab":
        (bundle / name).write_bytes(name.encode() * 20_000)
    content = cluster._packed_whole(bundle)
    with pytest.raises(tarfile.ReadError):
        cluster._delivered(cluster._Loan(bundle, Reference(content[:30_000])))
    lent = tmp_path / "node" / "lent" / "abc"
    assert [] == list(lent.iterdir())
    loan = cluster._Loan(bundle, Reference(content, slow=0.3))
    with ThreadPoolExecutor() as threads:
        assert [[lent], [lent]] == list(threads.map(cluster._delivered, [loan, loan]))
    assert 2 == len(asked)
    assert ["made"] == [path.name for path in lent.iterdir()]
    assert {"a", "b"} == {path.name for path in (lent / "made").iterdir()}


def test_a_bundle_is_not_packed_while_another_takes_its_place(tmp_path: Path) -> None:
    """What puts it there holds the folder of all bundles."""
    bundle = tmp_path / "runs" / "made"
    bundle.mkdir(parents=True)
    with ThreadPoolExecutor() as threads:
        with locked(bundle.parent):
            bundle.rename(tmp_path / "older")
            packed = threads.submit(cluster._packed_whole, bundle)
            with pytest.raises(TimeoutError):
                packed.result(timeout=0.2)
            (tmp_path / "older").rename(bundle)
        assert packed.result(timeout=20)


def test_what_is_not_there_to_be_sent_costs_the_job_that_needs_it(
    nodes: TwoNodes, tmp_path: Path
) -> None:
    """As at home: the work does not find it, and says so."""
    runs, nowhere = tmp_path / "runs", tmp_path / "no" / "such" / "data.csv"
    runs.mkdir()
    told = events(
        nodes,
        tmp_path,
        [("user", "gone"), ("made", None)],
        start_from,
        needs=lambda job: [runs / job[1], nowhere] if job[1] else (),
    )
    assert "FileNotFoundError: no bundle gone" == ends(told)["user", "gone"].error
    assert ends(told)["made", None].failure is None


def test_a_job_is_begun_when_the_one_that_it_needs_is_finished(
    nodes: TwoNodes, tmp_path: Path
) -> None:
    """Wherever it stands, also if a worker is lost over the other; nothing waits beside it."""
    jobs: list[Step] = [
        ("late", "slow", "go"),
        ("slow", None, "await quick 2"),
        ("heir", "dead", "go"),
        ("dead", None, "die once"),
        ("quick 1", "of another day", "go"),
        ("quick 2", None, "go"),
    ]
    (tmp_path / "of another day").touch()
    happened = told_of(nodes, tmp_path, jobs)
    assert ("Retried", "dead") in happened
    assert happened.index(("Finished", "slow")) < happened.index(("Started", "late"))
    assert happened.index(("Finished", "dead")) < happened.index(("Started", "heir"))
    for job in jobs:
        assert 1 == happened.count(("Finished", job[0]))


def test_what_needs_a_failed_job_is_never_begun(nodes: TwoNodes, tmp_path: Path) -> None:
    """Nor what needs one of no use; told once for all that need it, and nobody is asked."""
    jobs: list[Step] = [
        ("third", "second", "go"),
        ("second", "bad", "go"),
        ("bad", None, "fail"),
        ("child", "long", "go"),
        ("long", None, "sleep"),
        ("even", "odd", "go"),
        ("odd", None, "go"),
    ]
    asked: list[str] = []
    happened = told_of(
        nodes,
        tmp_path,
        jobs,
        count=1,
        timeout=2,
        retry=lambda end: asked.append(end.job[0]),
    )
    wrong, late = "ValueError: bad went wrong", "took longer than 2 s"
    assert happened == [
        ("Started", "bad"),
        (f"exception: {wrong}", "bad"),
        (f"blocks second and third: {wrong}", "bad"),
        ("Started", "long"),
        (f"timeout: {late}", "long"),
        (f"blocks child: {late}", "long"),
        ("Started", "odd"),
        ("Finished", "odd"),
        ("blocks even: not even", "odd"),
    ]
    assert asked == ["bad", "long"]


def test_what_needs_a_job_waits_while_that_is_retried(nodes: TwoNodes, tmp_path: Path) -> None:
    """Also where it is called something else by then."""
    jobs: list[Step] = [("weak", None, "fail"), ("next", "weak", "go")]
    (tmp_path / "weak").touch()  # it is the end of the other form that is waited for
    happened = told_of(nodes, tmp_path, jobs, retry=lambda end: ("firm", None, "go"))
    assert happened == [
        ("Started", "weak"),
        ("Retried", "firm"),
        ("Started", "firm"),
        ("Finished", "firm"),
        ("Started", "next"),
        ("Finished", "next"),
    ]


def test_jobs_that_need_each_other_are_refused_before_any_is_begun(
    nodes: TwoNodes, tmp_path: Path
) -> None:
    """Nobody would ever begin them."""
    jobs: list[Step] = [("fine", None, "go"), ("a", "b", "go"), ("b", "a", "go")]
    with pytest.raises(ValueError, match="need each other in a circle"):
        told_of(nodes, tmp_path, jobs)
    assert [] == list(tmp_path.iterdir())


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_closing_the_generator_ends_the_jobs_and_not_the_cluster(
    nodes: TwoNodes, tmp_path: Path
) -> None:
    """Whoever stops listening stops the work; others may be using the cluster."""
    mark = tmp_path / "mark"
    told = on_ray([str(mark)], touch_and_sleep, address=nodes.address, runs=tmp_path)
    assert Started(str(mark)) == next(told)
    wait_for(lambda: mark.exists() and mark.read_text() != "")
    told.close()
    wait_for(lambda: not alive(int(mark.read_text())))
    assert [True, True] == [node["Alive"] for node in ray.nodes()]


def test_a_cluster_that_cannot_do_such_jobs_is_refused(nodes: TwoNodes, tmp_path: Path) -> None:
    """Ray itself would wait for a node with a GPU for ever; other packages give other digits."""
    with pytest.raises(ValueError, match=r"takes CPU 1 and GPU 0.5; all together have CPU 2"):
        events(nodes, tmp_path, [1], double, gpus=0.5)
    ours = cluster._versions()
    with pytest.raises(ValueError, match=r"node there has torch 1.0 where 2.13.0 is needed"):
        cluster._refuse_other_versions({**ours, "torch": "1.0", "host": "there"})


def test_the_bench_asks_the_cluster_for_its_room(nodes: TwoNodes) -> None:
    """Cores and GPUs are those of the nodes, not of the machine where the command is typed."""
    (slots, device), spread = options.room_of("ray", nodes.address, "auto", None, 1, 1)
    assert (2, "cpu") == (len(slots), device)
    assert spread is not None
    (slots, device), _ = options.room_of("ray", nodes.address, "cuda", None, 1, 1)
    assert (0, "cuda") == (len(slots), device)
    with pytest.raises(ValueError, match="--executor slurm: local or ray is needed"):
        options.room_of("slurm", "auto", "auto", None, 1, 1)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers at '127.0.0.1:1'"),
        ("ray://head:10001", "start this on a node of the cluster"),
        ("nonsense", "no Ray cluster answers at 'nonsense'"),
    ],
)
def test_an_address_without_a_cluster_is_refused_at_once(address: str, message: str) -> None:
    """With what to give instead."""
    with pytest.raises(ValueError, match=message):
        cluster._found(address)


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: who has one machine does not need it."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[ray\]'"):
        cluster.join("auto")


def test_ray_out_of_memory_is_told_as_such() -> None:
    """When Ray kills a worker to save its node, the run is told so, and may try with less."""

    def stream() -> Iterator[Any]:
        raise ray.exceptions.OutOfMemoryError("node full\nmore")
        yield

    kind, content = cluster._next(stream())
    assert ("finished", "out-of-memory") == (kind, content["failure"])
    assert "killed by Ray: node full" == content["error"]


# --- real runs -------------------------------------------------------------------------------


def jobs() -> list[Job]:
    """Six runs of a second or two on embedded data."""
    task = Task("mitdb", 48, 12, 6, 300)
    few = Budget(epochs=3, steps=15, batch=16)
    small = Architecture(width=16, layers=1)
    return [
        Job("small", method, task, seed, architecture=small, budget=few)
        for method in ("uniform", "random_step")
        for seed in (1, 2, 3)
    ]


def rows(
    folders: Folders, executor: execute.Executor, heard: Callable[[execute.Event], object] = print
) -> list[Record]:
    """What is stored in the end: each run's row, told of once."""
    told = []
    for event in execute.execute(survey(jobs(), folders), executor, folders, ORIGIN):
        heard(event)
        if isinstance(event, Stored):
            told.append(event.record)
    stored = [record for run in survey(jobs(), folders) if (record := run.record)]
    assert sorted(record.key for record in told) == sorted(record.key for record in stored)
    return stored


def stay(
    run: PlannedRun,
    tell: Tell,
    *,
    node: str,
    mark: Path,
    directories: Sequence[Path],
    runs: Path,
) -> Record:
    """Do the run; on one of the nodes, do not get round to telling its result."""
    record = run_planned(run, tell, directories=directories, runs=runs)
    while ray.get_runtime_context().get_node_id() == node:
        mark.touch()
        tell({"epoch": 3})
        time.sleep(0.1)
    return record


run_planned = partial(execute.run_planned, device="cpu", provenance=ORIGIN)


def test_a_node_that_dies_in_the_middle_costs_no_row(nodes: TwoNodes, tmp_path: Path) -> None:
    """As many rows as runs, none twice, with the digits and weights that one machine gives."""
    mark = tmp_path / "mark"
    retried: list[str] = []

    def kill_when_it_is_busy(event: execute.Event) -> None:
        if mark.exists() and not retried:
            nodes.kill_second()
        if isinstance(event, Retried):
            retried.append(event.error)

    here, there = (Folders(tmp_path / name, (), tmp_path / "cache") for name in ("here", "there"))
    far = rows(
        there,
        partial(
            on_ray,
            work=partial(stay, node=nodes.second.node_id, mark=mark),
            address=nodes.address,
            runs=there.runs,
        ),
        kill_when_it_is_busy,
    )
    assert 1 == len(retried)
    assert [1, 2] == sorted({sum(n["Alive"] for n in ray.nodes()), len(ray.nodes())})
    at_home = partial(run_planned, directories=(), runs=here.runs)
    near = rows(here, partial(run_locally, work=at_home, slots=cpu_slots(2)))
    assert 6 == len(near) == len(far)
    same = ("key", "status", "mse", "mae", "mse_raw", "valid_mse", "tokens_mean", "attempts")
    for ours, theirs in zip(near, far, strict=True):
        assert [getattr(ours, name) for name in same] == [getattr(theirs, name) for name in same]
        first, second = (
            torch.load(folders.runs / ours.key / "weights.pt") for folders in (here, there)
        )
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
