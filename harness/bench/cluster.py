"""Jobs on a Ray cluster: the only module that knows Ray.

The parent is a driver of the cluster. A job is one Ray task, and the task's stream brings back
everything: that it has begun, what the work says, the result, and the bundle that the work left
on the node. A node that dies takes with it the jobs that it was doing, and these are done
elsewhere. Nodes get the parent's code; they need the packages it stands on and nothing else.
"""

from __future__ import annotations

import io
import logging
import math
import os
import pickle
import shutil
import socket
import tarfile
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, Generic, Protocol, runtime_checkable

from harness.bench import local
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
    Started,
    never,
    no_result,
)
from harness.bench.waiting import After, Key, Waiting, itself, nothing
from harness.core.files import locked, put_folder

LOSSES = 3
"""So many workers or nodes may die over a job before it has failed: it may be what kills them."""

QUIET = 0.5
"""Seconds between two messages of a job; what is said in between is dropped."""

LOOK = 2.0
"""Seconds after which it is looked anew which nodes there are."""

_CODE = Path(__file__).resolve().parents[2]  # the checkout; on a node, the copy it was sent
_SAME = ("torch", "numpy")  # the digits of a result depend on their versions


def on_ray(
    jobs: Sequence[J],
    work: Callable[..., R],
    *,
    address: str,
    runs: Path,
    directories: Sequence[Path] = (),
    needs: Callable[[J], Sequence[Path]] = lambda job: (),
    cpus: float = 1.0,
    gpus: float = 0.0,
    count: int | None = None,
    timeout: float | None = None,
    retry: Retry[J, R] = never,
    key: Key[J] = itself,
    after: After[J] = nothing,
    flaw: Flaw[J, R] = no_result,
) -> Generator[Event[J, R]]:
    """Do ``work(job, tell, directories=..., runs=...)`` for every job on a cluster.

    Events, ``timeout``, ``retry``, ``key``, ``after`` and ``flaw`` are those of
    :func:`harness.bench.local.run_locally`. A job whose worker or node dies is :class:`Retried`
    without asking, up to :data:`LOSSES` times. What the work leaves in the ``runs`` it is given, a
    folder of the node, is in ours before the job is :class:`Finished`.

    ``directories`` are the same places on every node. What a job ``needs``, files and folders, is
    looked up when the job is handed over, after all that it is ``after``; what is not there by
    then is for the work to miss. A file is sent, once, to a node that does not have it where we
    do, a folder to every node: the work finds either by its name in one of the directories that it
    is given.

    A job reserves ``cpus`` cores, of which it uses one unless it has a GPU, and ``gpus``, which
    may be a fraction. Ray only counts them: nothing keeps a job from taking all the memory of a
    GPU that it shares. At most ``count`` jobs are done at a time, or as many as there is room for,
    while nodes come and go. Closing the generator ends the jobs; the cluster stays up.

    Raises:
        ValueError: jobs need each other in a circle, no cluster can be joined there, or it cannot
            do such jobs.
        OSError: ``runs`` cannot be written.
    """
    waiting, tries = Waiting(jobs, key, after, flaw), [_Try(*each) for each in enumerate(jobs)]
    join(address)
    _refuse_without_room(cpus, gpus)
    task, lender = _task(cpus, gpus), _Lender()
    folders = tuple(folder.absolute() for folder in directories)
    running: dict[_Stream, _Try[J]] = {}
    look = 0.0
    try:
        while waiting.ready or running:
            if time.monotonic() >= look:
                nodes, look = _nodes(), time.monotonic() + LOOK
            # Twice the room: no worker waits for us, and an autoscaler sees what else there is.
            most = count or max(1, 2 * _room(nodes, cpus, gpus))
            while waiting.ready and len(running) < most:
                tried = tries[waiting.take()]
                order, loans = _order(work, tried.job), lender.lend(needs(tried.job))
                running[task.remote(order, folders, loans)] = tried
            for stream, kind, content in _heard(running, nodes, timeout):
                tried = running[stream]
                if tried.since is None:
                    tried.since = time.monotonic()
                    yield Started(tried.job)
                if kind == "started":
                    _refuse_other_versions(content)
                    tried.node = content["node"]
                elif kind == "said":
                    yield Said(tried.job, content)
                else:
                    del running[stream]
                    event, tries[tried.place] = _after(tried, kind, content, runs, retry)
                    yield event
                    yield from waiting.hear(tried.place, event)
    finally:
        for stream in running:
            _cancel(stream)


def join(address: str) -> None:
    """Make this process a driver of the cluster, with our code for its workers, if it is none yet.

    Raises:
        ValueError: Ray is not installed, or no cluster can be joined at ``address``, which is
            host:port, or auto for the one that this machine is a node of.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "Ray is not installed: .venv/bin/python -m pip install -e '.[ray]' does it;"
            " without it, EXECUTOR=local (--executor local)"
        ) from error
    if ray.is_initialized():
        return
    found = _found(address)
    with TemporaryDirectory() as folder:
        for package in ("harness", "methods", "suites"):
            shutil.copytree(
                _CODE / package,
                Path(folder, package),
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        try:
            ray.init(
                address=found,
                runtime_env={"working_dir": folder},
                log_to_driver=False,  # what workers print would tear the parent's display
                logging_level=logging.WARNING,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise ValueError(f"the Ray cluster at {found} cannot be joined: {error}") from error


def has_gpus() -> bool:
    """Whether the cluster joined has a GPU."""
    return _total("GPU") > 0


def room(cpus: float, gpus: float) -> int:
    """How many jobs the cluster joined can do at a time, as it is now."""
    return _room(_nodes(), cpus, gpus)


@runtime_checkable
class _Task(Protocol):
    """What Ray, which is loaded late, makes of a function: begun, it is a stream of answers."""

    def remote(self, *arguments: object) -> _Stream: ...


_Stream = Iterator[Any]


@dataclass
class _Try(Generic[J]):
    """A job on its way, by its place in the call.

    How often it was lost, since when it is being done, and on which node.
    """

    place: int
    job: J
    losses: int = 0
    since: float | None = None
    node: str | None = None

    def due(self, timeout: float | None) -> float:
        """When it will have taken too long."""
        return math.inf if timeout is None or self.since is None else self.since + timeout


Nodes = Mapping[str, Mapping[str, float]]
"""What the nodes that are alive have, by their ids."""


def _heard(
    running: Mapping[_Stream, _Try[J]], nodes: Nodes, timeout: float | None
) -> Iterator[tuple[Any, str, Any]]:
    """What streams say next, or what is to be said for them; after a while, nothing."""
    import ray

    patience = min(tried.due(timeout) for tried in running.values()) - time.monotonic()
    ready, _ = ray.wait([*running], timeout=min(max(patience, 0.0), LOOK))
    for stream in ready:
        yield stream, *_next(stream)
    for stream, tried in list(running.items()):
        if tried.due(timeout) <= time.monotonic():
            _cancel(stream)
            yield stream, "finished", _failed("timeout", f"took longer than {timeout:g} s")
        elif tried.node is not None and tried.node not in nodes:
            # A stream does not end by itself where its node has stopped answering, or where a
            # worker goes on after the process that looks after the node has died.
            _cancel(stream)
            yield stream, "lost", _failed("killed", f"node {tried.node} died")


def _next(stream: _Stream) -> tuple[str, Any]:
    """What the node says, or what Ray says in its place."""
    import ray
    from ray import exceptions

    try:
        return ray.get(next(stream))
    except exceptions.OutOfMemoryError as error:
        return "finished", _failed("out-of-memory", f"killed by Ray: {_first_line(error)}", error)
    except exceptions.RayTaskError as error:
        # Our own side of the task: the code, the packages or the pickles do not fit.
        cause = f"{type(error.cause).__name__}: {error.cause}"
        return "finished", _failed("exception", cause, error)
    except (exceptions.RayError, StopIteration) as error:
        return "lost", _failed("killed", f"{type(error).__name__}: {_first_line(error)}", error)


def _failed(failure: Failure, error: str, trace: object = "") -> dict[str, Any]:
    return {"failure": failure, "error": error, "trace": str(trace) or error}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _after(
    tried: _Try[J], kind: str, content: dict[str, Any], runs: Path, retry: Retry[J, R]
) -> tuple[Retried[J] | Finished[J, R], _Try[J]]:
    """What to tell of a job that has ended, and the form in which it is to be tried again."""
    if kind == "lost" and tried.losses + 1 < LOSSES:
        once_more = _Try(tried.place, tried.job, tried.losses + 1)
        return Retried(tried.job, content["error"]), once_more
    _unpack(content.pop("bundles", b""), runs)
    assert tried.since is not None
    end = Finished(tried.job, time.monotonic() - tried.since, **content)
    other = retry(end) if end.failure else None
    if other is None:
        return end, tried
    return Retried(other, end.error), _Try(tried.place, other)


def _cancel(stream: _Stream) -> None:
    import ray

    ray.cancel(
        stream, force=True
    )  # the worker is killed: work in the middle of a step hears nothing


# --- the cluster ---------------------------------------------------------------------------------


def _found(address: str) -> str:
    """The cluster's host:port, after a knock: Ray itself would try for minutes, then exit."""
    from ray._private.services import canonicalize_bootstrap_address  # there is no public one

    if address.startswith("ray://"):
        raise ValueError(
            f"{address} is for Ray Client, which cannot follow runs: start this on a node of the"
            " cluster (ray start --address=... --num-cpus=0 makes one of any machine) with"
            " RAY_ADDRESS=auto"
        )
    try:
        found = canonicalize_bootstrap_address(address)
        host, _, port = str(found).rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise ValueError(
            f"no Ray cluster answers at {address!r} ({error}); RAY_ADDRESS is host:port of its"
            " head, or auto on a machine where `ray start` has been run"
        ) from error
    return str(found)


def _task(cpus: float, gpus: float) -> _Task:
    """What runs one job. With a GPU, a worker does one job only: so Ray has it by default."""
    import ray

    single = {} if gpus else dict(local.cpu_slots(1)[0].environment)
    return ray.remote(
        num_cpus=cpus,
        num_gpus=gpus,
        num_returns="streaming",
        max_retries=0,  # here it is tried again, and told
        runtime_env={"env_vars": single},
    )(_attend)


def _nodes() -> Nodes:
    import ray

    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def _room(nodes: Nodes, cpus: float, gpus: float) -> int:
    needed = {name: amount for name, amount in (("CPU", cpus), ("GPU", gpus)) if amount}
    return sum(
        int(min(node.get(name, 0.0) / amount for name, amount in needed.items()) + 1e-6)
        for node in nodes.values()
    )


def _refuse_without_room(cpus: float, gpus: float) -> None:
    if not room(cpus, gpus):
        raise ValueError(
            f"no node of the Ray cluster has room for a run, which takes CPU {cpus:g} and GPU"
            f" {gpus:g}; all together have CPU {_total('CPU'):g} and GPU {_total('GPU'):g}"
        )


def _total(resource: str) -> float:
    import ray

    return ray.cluster_resources().get(resource, 0.0)


def _refuse_other_versions(theirs: Mapping[str, str]) -> None:
    """A row names the versions of the parent, so those of the nodes have to be the same."""
    for name, ours in _versions().items():
        if theirs[name] != ours:
            raise ValueError(
                f"node {theirs['host']} has {name} {theirs[name]} where {ours} is needed: set it"
                " up from the constraints.txt of this checkout"
            )


def _versions() -> dict[str, str]:
    """Without the build: that of a node with GPUs may be another one."""
    found = {}
    for name in _SAME:
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            found[name] = "none"
    return found


# --- what goes to a node, and what comes back ----------------------------------------------------


def _order(work: Callable[..., R], job: J) -> bytes:
    from ray import cloudpickle

    return cloudpickle.dumps((work, job))


@dataclass(frozen=True)
class _Loan:
    """A file or folder of the parent's, and where in the cluster's memory it is, packed."""

    path: Path
    stored: Any  # a reference that is not looked up before somebody asks for it


class _Lender:
    """Puts each file or folder in the cluster's memory once, when it is first needed."""

    def __init__(self) -> None:
        self._lent: dict[Path, _Loan] = {}

    def lend(self, paths: Sequence[Path]) -> tuple[_Loan, ...]:
        """What there is of them, now or when it was needed before."""
        import ray

        for path in paths:
            if path not in self._lent and (packed := _packed_whole(path)):
                self._lent[path] = _Loan(path.absolute(), ray.put(packed))
        return tuple(self._lent[path] for path in paths if path in self._lent)


def _packed_whole(path: Path) -> bytes:
    """A file or folder as it is now, and nothing where there is none."""
    if path.is_file():
        return _packed([path])
    if not path.parent.is_dir():
        return b""
    with locked(path.parent):  # nobody puts another one in its place meanwhile
        return _packed([path]) if path.exists() else b""


def _unpack(packed: bytes, runs: Path) -> None:
    """Put the folders in their places, each whole or not at all."""
    if not packed:
        return
    temporary = runs / f".arriving.{os.getpid()}"
    temporary.mkdir(parents=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(temporary, filter="data")
        for bundle in list(temporary.iterdir()):
            put_folder(bundle, runs / bundle.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# --- on a node -----------------------------------------------------------------------------------


def _attend(
    order: bytes, places: tuple[Path, ...], loans: tuple[_Loan, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The worker's side: do the job and tell of it."""
    import ray

    here = {"node": ray.get_runtime_context().get_node_id(), "host": socket.gethostname()}
    yield "started", here | _versions()
    local.keep_memory()
    told: SimpleQueue[tuple[str, dict[str, Any]]] = SimpleQueue()
    printed, quiet_until = io.StringIO(), 0.0
    with (
        TemporaryDirectory(prefix="patchbench-") as folder,
        redirect_stdout(printed),
        redirect_stderr(printed),
    ):
        # Only this thread can feed the stream, so another one does the work.
        arguments = (order, places, loans, Path(folder), told)
        Thread(target=_work, args=arguments, daemon=True).start()
        while (said := told.get())[0] != "finished":
            if time.monotonic() >= quiet_until:
                quiet_until = time.monotonic() + QUIET
                yield said
    local.release_memory()  # as a local worker does: the next peak is its own
    kind, content = said
    if "trace" in content and printed.getvalue():
        content["trace"] += f"\n\nprinted by the worker:\n{printed.getvalue()}"
    yield kind, content


def _work(
    order: bytes,
    places: tuple[Path, ...],
    loans: tuple[_Loan, ...],
    runs: Path,
    told: SimpleQueue[tuple[str, dict[str, Any]]],
) -> None:
    """Whatever goes wrong in loading and doing the job is its failure, an exit included."""
    try:
        work, job = pickle.loads(order)  # noqa: S301 - pickled by the bench itself, which sent it here
        lent = [folder for loan in loans for folder in _delivered(loan)]
        result = work(
            job,
            lambda message: told.put(("said", dict(message))),
            directories=(*places, *lent),
            runs=runs,
        )
        told.put(("finished", {"result": result, "bundles": _packed(runs.iterdir())}))
    except BaseException as error:  # noqa: BLE001 - an exit too is the job's failure, told here or nowhere
        failure, said = local.failure_of(error), f"{type(error).__name__}: {error}"
        told.put(("finished", _failed(failure, said, traceback.format_exc())))


def _delivered(loan: _Loan) -> list[Path]:
    """The folder of this node's copy; none is needed where a file lies as it does at home.

    A folder is copied all the same: what lies there may be an older one of that name.
    """
    if loan.path.is_file():
        return []
    import ray

    copy = _CODE / "lent" / loan.stored.hex() / loan.path.name  # goes when Ray clears the code
    copy.parent.mkdir(parents=True, exist_ok=True)
    with locked(copy.parent):  # of several jobs that need it now, one unpacks it
        if not copy.exists():
            with (
                TemporaryDirectory(dir=copy.parent, prefix=".") as part,
                tarfile.open(fileobj=io.BytesIO(ray.get(loan.stored))) as archive,
            ):
                archive.extractall(part, filter="data")
                Path(part, copy.name).replace(copy)
    return [copy.parent]


def _packed(paths: Iterable[Path]) -> bytes:
    """Files and folders by their names; where one is a link, what it leads to."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", dereference=True) as archive:
        for path in paths:
            archive.add(path, path.name)
    return packed.getvalue()
