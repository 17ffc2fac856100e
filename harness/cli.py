"""The verbs: ``python -m harness VERB``, or ``make VERB``, which also sets Python up.

The only place that reads environment variables. Each verb imports what it needs when it runs, so
that ``--help`` answers at once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, get_args

import typer
from rich.console import Console

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import Progress

    from harness.bench import Cell, Event, Folders
    from harness.executors import Slot
    from harness.store import Job, Record
    from harness.suite import Suite
    from harness.track import Tracker
    from harness.watch import Progress as Going

ROOT = Path(__file__).resolve().parent.parent
SUITES = Path(os.path.relpath(ROOT / "suites"))  # messages with short paths
RESULTS = Path(os.path.relpath(ROOT / "results"))
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Compare dynamic patching methods for time-series forecasting: one shared forecaster,"
    " only the patcher changes.",
)

SuiteName = Annotated[str, typer.Option("--suite", help="Name of a file in suites/.")]
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
    bool, typer.Option("--plan", help="Show the runs, what they wait for and how long they take.")
]
Wait = Annotated[
    bool, typer.Option("--wait", help="If the results are in use, wait instead of declining.")
]
Check = Annotated[
    bool, typer.Option("--check", help="Only say whether all pages and the README are up to date.")
]


def main() -> None:
    """Run a verb; what the user can put right is said in one line, with exit code 2."""
    try:
        app()
    except (ValueError, OSError) as error:
        _stop(str(error))


@app.command()
def bench(
    suite: SuiteName = "quickstart",
    datasets: DataSets = "",
    look_backs: LookBacks = "",
    horizons: Horizons = "",
    methods: Methods = "",
    seeds: Seeds = "",
    data: Data = None,
    results: Results = RESULTS,
    jobs: Workers = None,
    per_gpu: PerGpu = 1,
    device: Device = "auto",
    executor: Executor = "local",
    address: Address = "auto",
    cpus: Cpus = 1,
    timeout: Annotated[
        float | None, typer.Option(min=1, help="Seconds after which a run has failed.")
    ] = None,
    tracking: Tracking = None,
    force: Force = False,  # noqa: FBT002 - a flag
    plan: Plan = False,  # noqa: FBT002 - a flag
    wait: Wait = False,  # noqa: FBT002 - a flag
) -> None:
    """Run what is missing of a suite, then show its leaderboard."""
    from harness import bench as bench_
    from harness import store, watch

    folders = _folders(results, data)
    selected = _plan(suite, datasets, look_backs, horizons, methods, seeds, results)
    where = partial(_where, executor, address, device, jobs, per_gpu, cpus)
    if plan:
        cells = bench_.survey(selected, folders)
        _show_plan(cells)
        _show_estimate(bench_.to_run(cells, force=force), folders, where()[0])
        return
    with watch.alone(results, _tell_wait if wait else None):
        cells = bench_.survey(selected, folders)
        if not force and (adopted := bench_.adopt(cells, folders)):
            _print(f"{len(adopted)} runs had finished but had no row: taken from {folders.runs}.")
        due = bench_.to_run(cells, force=force)
        _announce(cells, due, folders)
        finished: list[Record] = []
        try:
            if due:
                events = _events(due, folders, *where(), timeout, tracking)
                _follow(events, due, finished)
        except KeyboardInterrupt:
            _summary(cells, due, finished, folders)
            left = f"{len(due) - len(finished)} of {len(due)} runs are left"
            _print(f"Interrupted: {left}; the same command goes on from here.")
            raise typer.Exit(INTERRUPTED) from None
        _summary(cells, due, finished, folders)
        if finished or any(cell.state == "done" for cell in cells):
            with store.writing(results):
                _show_leaderboard(results / suite)
    raise typer.Exit(_exit_code(cells, finished))


@app.command()
def status(
    suite: SuiteName = "quickstart",
    datasets: DataSets = "",
    look_backs: LookBacks = "",
    horizons: Horizons = "",
    methods: Methods = "",
    seeds: Seeds = "",
    data: Data = None,
    results: Results = RESULTS,
) -> None:
    """Say how much of a suite is done, for each method and data set, and what is going on."""
    from harness import bench as bench_
    from harness import watch

    folders = _folders(results, data)
    going = watch.progress(results)
    planned = _plan(suite, datasets, look_backs, horizons, methods, seeds, results)
    cells = bench_.survey(planned, folders)
    _show_states(cells, {run.key for run in going.running} if going else set())
    _explain(cells, folders)
    _show_failures(cells)
    _show_stale(cells)
    _show_progress(going, watch.holder(results))


@app.command()
def leaderboard(
    suite: SuiteName = "quickstart",
    results: Results = RESULTS,
    check: Check = False,  # noqa: FBT002 - a flag
) -> None:
    """Write and show the leaderboard of a suite from its rows."""
    from harness import leaderboard as leaderboard_

    readme = ROOT / "README.md"
    if check:
        if old := [*leaderboard_.stale(readme, results), *_stale_pages(results)]:
            names = ", ".join(os.path.relpath(path) for path in old)
            _stop(f"stale: {names}. Bring up to date with make leaderboard SUITE=...", code=1)
        _print("Every leaderboard and the README's excerpts are up to date.")
        return
    _show_leaderboard(results / suite)
    if results.resolve() == RESULTS.resolve():
        leaderboard_.update_readme(readme, results)


@app.command()
def validate(results: Results = RESULTS) -> None:
    """Hold every row to its suite, its budget and the code here; name all that is wrong."""
    from harness import audit

    problems = audit.validate(results, SUITES)
    for problem in problems:
        _print(str(problem))
    if problems:
        _stop(f"{len(problems)} problems with the rows in {results}", code=1)
    _print(f"Every row in {results} is of a run that its suite plans, as it stands.")


@app.command()
def rerun(
    key: Annotated[str, typer.Option("--key", help="The last column of the row.")],
    results: Results = RESULTS,
    data: Data = None,
    device: Device = "auto",
) -> None:
    """Do the run of a row again, and compare what it measures; the row stays as it is."""
    from harness import audit
    from harness import bench as bench_

    folders = _folders(results, data)
    record = audit.find(key, results)
    slots, kind = _slots(device, 1)
    with _progress() as bars:
        again = audit.rerun(
            record,
            slot=slots[0],
            directories=(*folders.data, folders.cache),
            device=kind,
            provenance=bench_.provenance(ROOT),
            say=_tell_epoch(_bar(bars, str(audit.job_of(record)))),
        )
    for what in ("device", "versions", "commit"):
        then, now = getattr(record, what), getattr(again, what)
        if then != now:
            _print(f"Other {what}: {then} -> {now}", "yellow")
    found = audit.differences(record, again)
    for difference in found:
        _print(str(difference), "red")
    if found:
        _stop(f"{len(found)} columns of {key} are not what they were", code=1)
    _print(f"{key}: the same to the last digit, mse {again.mse}.")


@app.command()
def data(
    datasets: DataSets = "",
    suite: Annotated[str, typer.Option("--suite", help="Those of this suite.")] = "",
    directories: Data = None,
) -> None:
    """Download data sets; without --datasets or --suite, list all there are."""
    from harness import data as data_
    from harness import download

    folders = _folders(RESULTS, directories)
    if not datasets and not suite:
        _list_data(folders)
        return
    names = _words(datasets) or _suite(suite).datasets
    published = [name for name in names if name in data_.CATALOGUE]
    for name in names:
        if name not in published and not suite:
            data_.entry(name)  # says why there is nothing to download
    absent = data_.missing(published, folders.data, cache=folders.cache)
    for entry in absent:
        with _download(entry.name) as progress:
            path = download.fetch(entry, folders.cache, progress=progress)
        _print(f"{entry.name}: {path}")
    if not absent:
        _print("Nothing to download: every data set is at hand.")


@app.command()
def check(
    method: Annotated[str, typer.Option("--method", help="A file of methods/.")],
) -> None:
    """Put a method through the promises that every method keeps."""
    from harness import catalog, checks

    found = catalog.find(method)
    for name, text in vars(catalog.card(found)).items():
        _print(f"{name:<9} {text}")
    promises = checks.check(found)
    _print(checks.report(promises))
    raise typer.Exit(0 if all(promise.kept for promise in promises) else 1)


@app.command()
def methods() -> None:
    """List every method with its track and what it does."""
    from harness import catalog

    cards = {name: catalog.card(catalog.find(name)) for name in catalog.names()}
    _table(
        ("method", "track", "what it does"),
        [(name, card.track, card.summary) for name, card in cards.items()],
    )


@app.command()
def tune(
    suite: SuiteName = "quickstart",
    methods: Methods = "",
    datasets: DataSets = "",
    look_backs: LookBacks = "",
    horizons: Horizons = "",
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Settings tried for each method and cell; else the suite's."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            envvar="PATCHBENCH_STORAGE",
            help="Database of the trials, postgresql://...; else files in the results.",
        ),
    ] = None,
    data: Data = None,
    results: Results = RESULTS,
    jobs: Workers = None,
    device: Device = "auto",
    tracking: Tracking = None,
) -> None:
    """Search the methods' keywords, the same number of trials each, on validation data only."""
    from harness import bench as bench_
    from harness import executors, watch
    from harness import tune as tune_

    slots, kind = _slots(device, jobs)
    folders = _folders(results, data)
    tuning = _suite(suite).tuning
    selected = _plan(suite, datasets, look_backs, horizons, methods, "")
    with watch.alone(results):
        tracker = _tracker(results, suite, tracking)
        try:
            written = tune_.tune(
                selected,
                partial(executors.local, slots=slots),
                tuning=tuning if trials is None else replace(tuning, trials=trials),
                results=results,
                directories=(*folders.data, folders.cache),
                provenance=bench_.provenance(ROOT),
                storage=storage,
                device=kind,
                say=_tell_trial,
                track=None if tracker is None else tracker.study,
                warn=_warn,
            )
        except KeyboardInterrupt:
            _print("Interrupted: the same command goes on from here.")
            raise typer.Exit(INTERRUPTED) from None
    for path in written:
        _print(f"Chosen: {path}")


@app.command()
def hindsight(
    suite: SuiteName = "quickstart",
    datasets: DataSets = "",
    look_backs: LookBacks = "",
    horizons: Horizons = "",
    plans: Annotated[int, typer.Option(min=1, help="Random plans to choose from.")] = 64,
    windows: Annotated[int, typer.Option(min=1, help="Test windows of a cell, at most.")] = 1000,
    data: Data = None,
    results: Results = RESULTS,
    device: Device = "auto",
) -> None:
    """Show what the best of many random plans would gain, chosen with hindsight: never ranked."""
    from harness import bench as bench_
    from harness import hindsight as hindsight_

    folders = _folders(results, data)
    methods = f"{hindsight_.RANDOM},{hindsight_.UNIFORM}"
    jobs = _plan(suite, datasets, look_backs, horizons, methods, "", results)
    planned = bench_.survey(jobs, folders)
    cells, left_out = hindsight_.cells(
        [(cell.job, cell.record) for cell in planned if cell.record and cell.state == "done"],
        suite,
        folders.runs,
    )
    for why in left_out:
        _print(f"Left out: {why}.", "yellow")
    _, kind = _slots(device, None)
    path = results / suite / "hindsight" / "curve.csv"
    with _progress() as bars:
        for cell in cells:
            measured = hindsight_.measure(
                cell,
                directories=(*folders.data, folders.cache),
                plans=plans,
                sample=windows,
                device=kind,
                say=_bar(bars, str(cell.task)),
            )
            table = hindsight_.write(path, measured)
    _show_hindsight(table, path)


@app.command()
def perf(
    results: Results = RESULTS,
    data: Data = None,
    pairs: Annotated[int, typer.Option(min=1, help="Rounds of each side, taking turns.")] = 9,
    patchers: Patchers = False,  # noqa: FBT002 - a flag
) -> None:
    """Measure speed against a conventional loop and the machine's limit, and patchers' costs."""
    from harness import perf as perf_

    folders = _folders(results, data)
    perf_.main(results, (*folders.data, folders.cache), pairs=pairs, only_patchers=patchers)


@app.command()
def track(
    suite: SuiteName = "quickstart", results: Results = RESULTS, tracking: Tracking = None
) -> None:
    """Log in MLflow the runs and searches of a suite that are not there yet."""
    from harness import track as track_
    from harness import watch

    with watch.alone(results), _progress() as bars:
        done = track_.fill(results, suite, tracking, say=_bar(bars, suite))
    for why in done.refused:
        _warn(f"left out: {why}")
    _print(f"Runs and searches of {suite!r}: {done.logged} logged, {done.there} there before.")


@app.command()
def ui(
    results: Results = RESULTS,
    port: Annotated[int, typer.Option(help="On 127.0.0.1.")] = 5000,
    tracking: Tracking = None,
) -> None:
    """Open the tracked runs in MLflow's own pages."""
    from harness import track

    track.serve(results, port, tracking)


# --- what the options mean -----------------------------------------------------------------------


def _plan(
    suite: str,
    datasets: str,
    look_backs: str,
    horizons: str,
    methods: str,
    seeds: str,
    results: Path | None = None,
) -> list[Job]:
    """The jobs of a selection; with the results, those that their searches have tuned."""
    from harness import suite as suite_

    return suite_.plan(
        _suite(suite),
        datasets=_words(datasets) or None,
        look_backs=_numbers("--look-backs", look_backs) or None,
        horizons=_numbers("--horizons", horizons) or None,
        methods=_words(methods) or None,
        seeds=_numbers("--seeds", seeds) or None,
        results=results,
        learns=_learns,
    )


def _learns(job: Job) -> bool:
    """Whether a method that was not tuned should have been."""
    from harness import tune as tune_

    try:
        return tune_.learns(job)
    except ValueError:
        return False  # it cannot be used: the bench says why


def _suite(name: str) -> Suite:
    from harness import suite as suite_

    return suite_.find(name, SUITES)


def _words(text: str) -> list[str]:
    return [word for word in (part.strip() for part in text.split(",")) if word]


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(word) for word in _words(text)]
    except ValueError:
        raise ValueError(f"{option} {text}: whole numbers with commas are needed") from None


def _folders(results: Path, data: list[Path] | None) -> Folders:
    from harness.bench import Folders
    from harness.data import user_cache

    for folder in data or ():
        if not folder.is_dir():
            raise ValueError(f"--data {folder} (or PATCHBENCH_DATA) is not a folder")
    return Folders(results, tuple(data or ()), user_cache())


def _slots(device: str, jobs: int | None, per_gpu: int = 1) -> tuple[list[Slot], str]:
    """Room for workers, and the device they use."""
    from harness import executors

    _refuse_device(device)
    if device != "cpu":
        import torch

        if count := torch.cuda.device_count():
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            ids = visible.split(",") if visible else [str(number) for number in range(count)]
            return executors.gpu_slots(ids[:count], jobs, per_gpu=per_gpu), "cuda"
    if device == "cuda":
        raise ValueError("--device cuda: no GPU can be seen; --device cpu or auto works")
    return executors.cpu_slots(jobs), "cpu"


def _where(
    executor: str, address: str, device: str, jobs: int | None, per_gpu: int, cpus: int
) -> tuple[tuple[list[Slot], str], Callable[..., Any] | None]:
    """Room for workers and the device they use; for a cluster, also what does jobs there."""
    if executor == "local":
        return _slots(device, jobs, per_gpu), None
    if executor != "ray":
        raise ValueError(f"--executor {executor}: local or ray is needed")
    from harness import cluster
    from harness.executors import Slot

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


def _events(
    due: Sequence[Cell],
    folders: Folders,
    room: tuple[list[Slot], str],
    on_ray: Callable[..., Any] | None,
    timeout: float | None,
    tracking: str | None,
) -> Generator[Event]:
    from harness import bench as bench_
    from harness import cluster, executors

    slots, kind = room
    origin = bench_.provenance(ROOT)
    work = partial(bench_.run_cell, device=kind, provenance=origin)
    directories = (*folders.data, folders.cache)
    if on_ray is None:
        work = partial(work, directories=directories, runs=folders.runs)
        executor = partial(executors.local, work=work, slots=slots, timeout=timeout)
    else:
        executor = partial(
            on_ray,
            work=work,
            runs=folders.runs,
            directories=directories,
            needs=lambda cell: cluster.file_of(cell.job, directories),
            timeout=timeout,
        )
    tracker = _tracker(folders.results, due[0].job.suite, tracking)
    track = None if tracker is None else tracker.record
    return bench_.execute(due, executor, folders, origin, device=kind, track=track)


def _tracker(results: Path, suite: str, uri: str | None) -> Tracker | None:
    # Before the workers start: two processes that create one MLflow store at a time both fail.
    try:
        from harness.track import Tracker

        return Tracker(results, suite, uri)
    except Exception as error:  # noqa: BLE001 - results do not depend on it
        _warn(f"Nothing is tracked: {error}")
        return None


def _exit_code(cells: Sequence[Cell], finished: Sequence[Record]) -> int:
    failed = any(record.status == "failed" for record in finished)
    broken = any(cell.state == "broken" for cell in cells)
    nothing = not finished and not any(cell.state == "done" for cell in cells)
    return int(failed or broken or nothing)


# --- what is shown -------------------------------------------------------------------------------


@cache
def _out() -> Console:
    """The terminal, or plain lines where there is none: no colours, no moving parts."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 120
    return console


def _print(text: str, style: str | None = None) -> None:
    _out().print(text, style=style, soft_wrap=True)


def _warn(text: str) -> None:
    _print(text, "yellow")


def _stop(message: str, code: int = 2) -> NoReturn:
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    console.print(f"error: {message}", style="red", soft_wrap=True)
    raise SystemExit(code)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Text to the left, numbers to the right, a dot for none."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name, value in zip(columns, rows[0], strict=True):
        table.add_column(name, justify="right" if isinstance(value, int | float) else "left")
    for row in rows:
        table.add_row(*("·" if value == 0 else str(value) for value in row))
    _out().print(table)


def _show_plan(cells: Sequence[Cell]) -> None:
    """Every run; of very many how many there are of each method and data set."""
    if len(cells) > _LISTED:
        _show_states(cells, set())
    else:
        _list_runs(cells)
    _show_stale(cells)
    counts = Counter(cell.state for cell in cells)
    _print(f"{len(cells)} runs: " + ", ".join(f"{count} {name}" for name, count in counts.items()))


_LISTED = 60  # more are a wall of names


def _list_runs(cells: Sequence[Cell]) -> None:
    rows = []
    for cell in cells:
        task = cell.job.task
        length = (task.look_back, task.horizon, task.patches)
        key = "" if cell.state == "broken" else cell.key
        rows.append((cell.state, cell.job.method, task.dataset, *length, cell.job.seed, key))
    columns = ("state", "method", "data set", "look-back", "horizon", "K", "seed", "key")
    _table(columns, rows)


def _show_states(cells: Sequence[Cell], running: Collection[str]) -> None:
    """How many runs of each method and data set are in which state; ``running`` are keys."""
    from harness import bench as bench_

    states: dict[tuple[str, str], Counter[str]] = {}
    for cell in cells:
        where = (cell.job.method, cell.job.task.dataset)
        state = "running" if cell.key in running else cell.state
        states.setdefault(where, Counter())[state] += 1
    names = ("running", *get_args(bench_.State))
    _table(
        ("method", "data set", "planned", *names),
        [
            (*where, count.total(), *(count[name] for name in names))
            for where, count in states.items()
        ],
    )


def _show_stale(cells: Sequence[Cell]) -> None:
    reasons = Counter((cell.job.method, cell.why) for cell in cells if cell.state == "stale")
    for (method, why), count in reasons.items():
        _print(f"stale: {method} ({count}): {why}", "yellow")


def _show_failures(cells: Sequence[Cell]) -> None:
    """How many runs of a method and data set failed in which way, and how the last one did."""
    failed: dict[tuple[str, ...], list[Record]] = {}
    for cell in cells:
        if cell.record is not None and (cell.state == "failed" or cell.record.status != "done"):
            what = cell.record.failure or cell.record.status
            where = (cell.job.method, cell.job.task.dataset, what)
            failed.setdefault(where, []).append(cell.record)
    for (method, dataset, what), records in failed.items():
        _print(f"{what}: {method} {dataset} ({len(records)}): {records[-1].error}", "red")


def _show_progress(going: Going | None, holder: int | None) -> None:
    """What is being done right now, since when, and how far it is."""
    if going is None:
        busy = f"Process {holder} holds the results, and no run is under way."
        _print("Nothing is running." if holder is None else busy)
        return
    over = f"{going.stored} of {going.planned} runs are over"
    _print(f"Process {going.process}, suite {going.suite!r}, since {_clock(going.since)}: {over}.")
    rows = [
        (
            run.job,
            _clock(run.since),
            "" if run.epoch is None else f"{run.epoch}/{run.epochs}",
            "" if run.attempts == 1 else f"attempt {run.attempts}",
        )
        for run in going.running
    ]
    if rows:
        _table(("running", "since", "epoch", ""), rows)


def _clock(seconds: float) -> str:
    then = datetime.fromtimestamp(seconds, tz=UTC).astimezone()
    return f"{then:%Y-%m-%d %H:%M:%S}"


def _show_estimate(
    due: Sequence[Cell], folders: Folders, room: tuple[Sequence[Slot], str]
) -> None:
    from harness import bench as bench_

    guess, workers = bench_.estimate(due, folders), min(len(room[0]), max(1, len(due)))
    if known := len(due) - guess.unknown:
        left = timedelta(seconds=round(guess.seconds / workers))
        _print(f"{known} of {len(due)} runs to do: about {left} with {workers} at a time,")
        _print("from the seconds of recorded runs, on whatever machine these were.")
    if guess.unknown:
        _print(f"No estimate for {guess.unknown} runs: no row says what one like them took.")


def _tell_wait(process: int) -> None:
    _print(f"The results are in use by process {process}: waiting until it has finished.")


def _announce(cells: Sequence[Cell], due: Sequence[Cell], folders: Folders) -> None:
    suite = cells[0].job.suite
    _explain(cells, folders)
    _show_stale(cells)
    if any(cell.state == "stale" for cell in cells):
        _print("Stale rows will be replaced.", "yellow")
    if all(cell.state == "done" for cell in cells) and not due:
        _print(
            f"All {len(cells)} runs of suite {suite!r} are done: {folders.results / suite}."
            " To run them again: FORCE=1 (--force), or RESULTS=dir (--results dir) elsewhere."
        )
    else:
        _print(f"Suite {suite!r}: {len(due)} of {len(cells)} runs to do.")


def _explain(cells: Sequence[Cell], folders: Folders) -> None:
    """Why some cells cannot be run: each reason once."""
    from harness import data as data_

    absent = {cell.job.task.dataset: None for cell in cells if cell.state == "absent"}
    if absent:
        places = (*folders.data, folders.cache)
        _print(data_.explain_missing([data_.entry(name) for name in absent], places), "yellow")
    for why in {cell.why: None for cell in cells if cell.state == "broken"}:
        _print(f"error: {why}", "red")


def _follow(events: Generator[Event], due: Sequence[Cell], finished: list[Record]) -> None:
    """Show what happens until nothing is left; one line stays for each finished run."""
    from harness.bench import Stored, Warned
    from harness.executors import Retried, Said, Started

    shares: dict[str, float] = {}
    width = max(len(cell.job.method) for cell in due)
    with closing(events), _progress() as bars:
        whole = bars.add_task("all runs", total=len(due), note=f"0/{len(due)}")
        rows = {}
        for event in events:
            match event:
                case Started(cell):
                    rows[cell.key] = bars.add_task(f"  {cell.job}", total=None, note="")
                case Said(cell, message):
                    epoch, epochs = message["epoch"], message["epochs"]
                    note = f"epoch {epoch}/{epochs}, valid {message['valid_mse']:.4f}"
                    bars.update(rows[cell.key], completed=epoch, total=epochs, note=note)
                    shares[cell.key] = epoch / epochs
                case Retried(cell, error):
                    bars.remove_task(rows.pop(cell.key))
                    shares.pop(cell.key, None)
                    how = f" with {cell.micro_batch} windows at a time" if cell.micro_batch else ""
                    _print(f"{cell.job}  once more{how}: {error}", "yellow")
                case Stored(cell, record, seconds):
                    finished.append(record)
                    bars.remove_task(rows.pop(cell.key))
                    shares.pop(cell.key, None)
                    count = f"{len(finished)}/{len(due)}"
                    bars.update(whole, note=count)
                    _print(*_line(record, f"{count:>9}  {record.method:<{width}}", seconds))
                case Warned(message):
                    _print(message, "yellow")
            bars.update(whole, completed=len(finished) + sum(shares.values()))


def _progress() -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=_out(),
        disable=not _out().is_terminal,
        transient=True,
        speed_estimate_period=24 * 3600,  # runs take minutes; the default forgets after 30 s
    )


def _bar(bars: Progress, name: str) -> Callable[[int, int], None]:
    """A bar of its own that hears how much is done."""
    bar = bars.add_task(name, total=None, note="")
    return lambda done, of: bars.update(bar, completed=done, total=of)


def _tell_epoch(bar: Callable[[int, int], None]) -> Callable[[Mapping[str, Any]], None]:
    return lambda message: bar(message["epoch"], message["epochs"])


def _line(record: Record, head: str, seconds: float) -> tuple[str, str | None]:
    length = f"{record.look_back}->{record.horizon} K={record.patches} seed={record.seed}"
    where = f"{head}  {record.dataset} {length}"
    if record.status == "done":
        return f"{where}  mse {record.mse:.4f}  mae {record.mae:.4f}  {seconds:.1f} s", None
    return f"{where}  {record.status.upper()}: {record.error}", "red"


def _tell_trial(job: Job, message: Mapping[str, Any]) -> None:
    found = (
        f"{name} {message[name]:.4f}" for name in ("value", "best") if message[name] is not None
    )
    where = f"{job.method}  {job.task}  trial {message['trial']}/{message['trials']}"
    _print("  ".join([where, *found]))


def _summary(
    cells: Sequence[Cell], due: Sequence[Cell], finished: Sequence[Record], folders: Folders
) -> None:
    status = Counter(record.status for record in finished)
    state = Counter(cell.state for cell in cells)
    kept = sum(cell.state == "done" for cell in cells if cell not in due)
    counts = {
        "done": status["done"],
        "diverged": status["diverged"],
        "failed": status["failed"],
        "there before": kept,
        "without data": state["absent"],
        "unusable": state["broken"],
        "left": len(due) - len(finished),
    }
    _table(tuple(counts), [tuple(counts.values())])
    for record in finished:
        if record.status == "failed":
            log = folders.runs / record.key / "log.txt"
            _print(
                f"failed: {record.method} {record.dataset} seed={record.seed}: see {log}", "red"
            )
    _print(f"Results: {folders.results / cells[0].job.suite}")


def _show_leaderboard(folder: Path) -> None:
    """Write the tables, the pictures and the page of a suite; print the first, name the last."""
    from harness import leaderboard as leaderboard_
    from harness import site

    # A selection leaves holes; they are named on the page.
    leaderboard_.write(folder, holes="show")
    *_, page = site.write(folder, **_words_for_page(folder))
    _print((folder / "leaderboard.md").read_text(encoding="utf-8"))
    _print(f"Page: {page}")


def _stale_pages(results: Path) -> list[Path]:
    """The suites' pages that differ from what rows, figures and methods say."""
    from harness import site

    pages = (path.parent / site.PAGE for path in results.glob("*/*.csv"))
    return [
        page
        for page in sorted(set(pages))
        if not page.exists()
        or page.read_text(encoding="utf-8")
        != site.page(page.parent, **_words_for_page(page.parent))
    ]


def _words_for_page(folder: Path) -> dict[str, Any]:
    """What the suite and its methods say of themselves; what is not in this checkout, nothing."""
    from harness import catalog, ledger

    cards = {}
    for name in {path.stem for path in ledger.files(folder)} & set(catalog.names()):
        with suppress(ValueError):  # a file that cannot be loaded: its rows are shown all the same
            cards[name] = vars(catalog.card(catalog.find(name)))
    is_suite = (SUITES / f"{folder.name}.toml").exists()
    return {"about": _suite(folder.name).description if is_suite else "", "cards": cards}


def _show_hindsight(table: pd.DataFrame, path: Path) -> None:
    """Draw the curves of all cells measured so far, and print their ends."""
    from harness import figures
    from harness import hindsight as hindsight_

    figures.save(figures.hindsight(table), path.with_suffix(""))
    rows = []
    for _, end in hindsight_.ends(table).iterrows():
        errors = (f"{end[name]:.4f}" for name in ("mse_random", "mse_chosen", "mse_corrected"))
        gains = (f"{end.gain:.2f} %", f"{end.corrected_gain:.2f} ± {end.corrected_sd:.2f} %")
        task = (end.dataset, end.look_back, end.horizon, end.patches)
        rows.append((*task, end.plans, *errors, *gains))
    where = ("data set", "look-back", "horizon", "K", "M")
    _table((*where, "random", "best", "on another seed", "gain", "corrected gain"), rows)
    _print(f"An oracle that sees the future, never ranked: {path}")


def _list_data(folders: Folders) -> None:
    from harness import data as data_

    absent = data_.missing(data_.CATALOGUE, folders.data, cache=folders.cache)
    rows: list[tuple[object, ...]] = []
    for name in data_.known():
        if name in data_.CATALOGUE:
            entry = data_.entry(name)
            state = "not at hand" if entry in absent else "at hand"
            rows.append((name, state, entry.megabytes))
        else:
            rows.append((name, "embedded", 0))
    _table(("data set", "state", "download, MB"), rows)


@contextmanager
def _download(name: str) -> Iterator[Callable[[int, int | None], None]]:
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=_out(), disable=not _out().is_terminal) as bars:
        task = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
