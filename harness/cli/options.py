"""The options of the verbs, and what their values mean."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from harness.bench.events import Slot
    from harness.bench.suite import Suite
    from harness.bench.survey import Folders
    from harness.core.job import Job

ROOT = Path(__file__).resolve().parents[2]
SUITES = Path(os.path.relpath(ROOT / "suites"))  # messages with short paths
RESULTS = Path(os.path.relpath(ROOT / "results"))

SuiteName = Annotated[
    str, typer.Option("--suite", help="Name of a file in suites/, or path of a .toml file.")
]
Results = Annotated[Path, typer.Option("--results", help="Folder of the results.")]
Data = Annotated[
    list[Path] | None,
    typer.Option(
        "--data",
        envvar="PATCHBENCH_DATA",
        help="Folder of data sets; may be given more than once.",
    ),
]
DataSets = Annotated[str, typer.Option("--datasets", help="Only these: A,B.")]
Patchers = Annotated[
    bool, typer.Option("--patchers", help="Only what patchers cost beside one another.")
]
Peers = Annotated[
    str,
    typer.Option(
        "--peers", help="Checkouts of Time-Series-Library or PatchTST to race as well: A,B."
    ),
]
LookBacks = Annotated[str, typer.Option("--look-backs", help="Only these: 512,96.")]
Horizons = Annotated[str, typer.Option("--horizons", help="Only these: 96,192.")]
Methods = Annotated[
    str, typer.Option("--methods", help="Only these: a,b; also ones the suite does not name.")
]
Seeds = Annotated[str, typer.Option("--seeds", help="Only these: 1,2.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
Workers = Annotated[
    int | None, typer.Option("--jobs", min=1, help="Runs at a time; else one a core or GPU.")
]
PerGpu = Annotated[int, typer.Option("--per-gpu", min=1, help="Runs at a time on each GPU.")]
Executor = Annotated[
    str, typer.Option("--executor", help="Where runs are done: local or ray, a Ray cluster.")
]
Address = Annotated[
    str, typer.Option("--address", envvar="RAY_ADDRESS", help="Ray cluster: host:port or auto.")
]
Cpus = Annotated[int, typer.Option("--cpus", min=1, help="Cores a run reserves on a cluster.")]
Tracking = Annotated[
    str | None,
    typer.Option(
        "--tracking", envvar="MLFLOW_TRACKING_URI", help="MLflow store; else a local one."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Also what is done already.")]
Plan = Annotated[
    bool,
    typer.Option(
        "--plan", help="Only show what would run, what it waits for and how long it takes."
    ),
]
By = Annotated[
    str,
    typer.Option(
        "--by",
        help="What a line of the table is for: dataset, method, look_back, horizon, patches, seed,"
        " several of them with commas, or run.",
    ),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline/--no-offline",
        envvar="PATCHBENCH_OFFLINE",
        help="Do not fetch data sets that are not at hand; their runs are left out.",
    ),
]
Wait = Annotated[
    bool, typer.Option("--wait", help="If the results are in use, wait instead of declining.")
]
Format = Annotated[str, typer.Option("--format", help="fev (also Chronos Benchmark II) or gift.")]
Out = Annotated[
    Path | None, typer.Option("--out", help="Folder to write to; else one beside the page.")
]
Check = Annotated[
    bool, typer.Option("--check", help="Only say whether leaderboards and excerpts are current.")
]


def plan_of(
    suite: Suite,
    datasets: str,
    look_backs: str,
    horizons: str,
    methods: str,
    seeds: str,
    results: Path | None = None,
) -> list[Job]:
    """The jobs of a selection; with the results, those that their searches have tuned."""
    from harness.bench.plan import plan
    from harness.data import user_cache
    from harness.model.declared import Declarations

    with closing(Declarations(user_cache())) as declarations:

        def learns(job: Job) -> bool:
            """Whether a method that was not tuned should have been."""
            try:
                return declarations.learns(job)
            except ValueError:
                return False  # it cannot be used: the bench says why

        return plan(
            suite,
            datasets=words(datasets) or None,
            look_backs=numbers("--look-backs", look_backs) or None,
            horizons=numbers("--horizons", horizons) or None,
            methods=words(methods) or None,
            seeds=numbers("--seeds", seeds) or None,
            results=results,
            learns=learns,
        )


def find_suite(name: str) -> Suite:
    """The suite of that name, or in that file."""
    from harness.bench.suite import find

    return find(name, SUITES)


def name_of(suite: str) -> str:
    """What the results of a suite are called: its name, or the stem of its file."""
    return Path(suite).stem if suite.endswith(".toml") else suite


def words(text: str) -> list[str]:
    """The words of a list with commas."""
    return [word for word in (part.strip() for part in text.split(",")) if word]


def grouping(by: str) -> list[str]:
    """What the lines of a table of runs are for."""
    from harness.cli.display import BY
    from harness.core.words import unknown

    names = words(by)
    if strange := [name for name in names if name not in BY]:
        raise ValueError(f"--by {by}: {unknown('column', strange[0], BY)}")
    if not names:
        raise ValueError(f"--by {by}: one of {', '.join(BY)} is needed")
    return names


def numbers(option: str, text: str) -> list[int]:
    """The numbers of a list with commas; ``option`` is named where one is none."""
    try:
        return [int(word) for word in words(text)]
    except ValueError:
        raise ValueError(f"{option} {text}: whole numbers with commas are needed") from None


def folders_of(results: Path, data: list[Path] | None) -> Folders:
    """Where results and data are."""
    from harness.bench.survey import Folders
    from harness.data import user_cache

    for folder in data or ():
        if not folder.is_dir():
            raise ValueError(f"--data {folder} (or PATCHBENCH_DATA) is not a folder")
    return Folders(results, tuple(data or ()), user_cache())


def slots_of(device: str, jobs: int | None, per_gpu: int = 1) -> tuple[list[Slot], str]:
    """Room for workers, and the device they use."""
    from harness.bench import local

    _refuse_device(device)
    if device != "cpu" and _has_driver():
        import torch

        if count := torch.cuda.device_count():
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            ids = visible.split(",") if visible else [str(number) for number in range(count)]
            return local.gpu_slots(ids[:count], jobs, per_gpu=per_gpu), "cuda"
    if device == "cuda":
        raise ValueError("--device cuda: no GPU can be seen; --device cpu or auto works")
    return local.cpu_slots(jobs), "cpu"


def room_of(
    executor: str, address: str, device: str, jobs: int | None, per_gpu: int, cpus: int
) -> tuple[tuple[list[Slot], str], Callable[..., Any] | None]:
    """Room for workers and the device they use; for a cluster, also what does jobs there."""
    if executor == "local":
        return slots_of(device, jobs, per_gpu), None
    if executor != "ray":
        raise ValueError(f"--executor {executor}: local or ray is needed")
    from harness.bench import cluster
    from harness.bench.events import Slot

    _refuse_device(device)
    cluster.join(address)
    kind = "cuda" if device == "cuda" or (device == "auto" and cluster.has_gpus()) else "cpu"
    gpus = 1 / per_gpu if kind == "cuda" else 0.0
    count = cluster.room(cpus, gpus)
    on_ray = partial(cluster.on_ray, address=address, cpus=float(cpus), gpus=gpus, count=jobs)
    return ([Slot()] * min(count, jobs or count), kind), on_ray


def _refuse_device(name: str) -> None:
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"--device {name}: auto, cpu or cuda is needed")


def _has_driver() -> bool:
    """Whether a GPU's driver can be loaded; without one torch, which takes long, finds none."""
    for name in ("libcuda.so.1", "libamdhip64.so"):
        with suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False
