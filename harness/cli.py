"""The verbs: ``python -m harness VERB``, or ``make VERB``, which also sets Python up.

The only place that reads environment variables. Each verb imports what it needs when it runs, so
that ``--help`` answers at once.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
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
Tracking = Annotated[
    str | None,
    typer.Option(
        "--tracking", envvar="MLFLOW_TRACKING_URI", help="MLflow store; else a local one."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Also what is done already.")]
Plan = Annotated[bool, typer.Option("--plan", help="Show the runs and stop.")]
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
    device: Device = "auto",
    timeout: Annotated[
        float | None, typer.Option(min=1, help="Seconds after which a run has failed.")
    ] = None,
    tracking: Tracking = None,
    force: Force = False,  # noqa: FBT002 - a flag
    plan: Plan = False,  # noqa: FBT002 - a flag
) -> None:
    """Run what is missing of a suite, then show its leaderboard."""
    from harness import bench as bench_

    folders = _folders(results, data)
    selected = _plan(suite, datasets, look_backs, horizons, methods, seeds)
    if plan:
        _show_plan(bench_.survey(selected, folders))
        return
    with bench_.alone(results):
        cells = bench_.survey(selected, folders)
        due = bench_.to_run(cells, force=force)
        _announce(cells, due, folders)
        finished: list[Record] = []
        try:
            if due:
                events = _events(due, folders, device, jobs, timeout, tracking)
                _follow(events, due, finished)
        except KeyboardInterrupt:
            _summary(cells, due, finished, folders)
            left = f"{len(due) - len(finished)} of {len(due)} runs are left"
            _print(f"Interrupted: {left}; the same command goes on from here.")
            raise typer.Exit(INTERRUPTED) from None
        _summary(cells, due, finished, folders)
        if finished or any(cell.state == "done" for cell in cells):
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
    """Say how much of a suite is done, for each method and data set."""
    from harness import bench as bench_

    folders = _folders(results, data)
    cells = bench_.survey(_plan(suite, datasets, look_backs, horizons, methods, seeds), folders)
    states: dict[tuple[str, str], Counter[str]] = {}
    for cell in cells:
        where = (cell.job.method, cell.job.task.dataset)
        states.setdefault(where, Counter())[cell.state] += 1
    names = get_args(bench_.State)
    _table(
        ("method", "data set", "planned", *names),
        [
            (*where, count.total(), *(count[name] for name in names))
            for where, count in states.items()
        ],
    )
    _explain(cells, folders)


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
        if old := leaderboard_.stale(readme, results):
            names = ", ".join(os.path.relpath(path) for path in old)
            _stop(f"stale: {names}. Bring up to date with make leaderboard SUITE=...", code=1)
        _print("Every leaderboard and the README's excerpts are up to date.")
        return
    _show_leaderboard(results / suite)
    if results.resolve() == RESULTS.resolve():
        leaderboard_.update_readme(readme, results)


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
    trials: Annotated[
        int, typer.Option(min=1, help="Settings tried for each method, data set and horizon.")
    ] = 20,
    data: Data = None,
    results: Results = RESULTS,
    jobs: Workers = None,
    device: Device = "auto",
) -> None:
    """Search the methods' keywords, the same number of trials each, on validation data only."""
    from harness import bench as bench_
    from harness import tune as tune_

    slots, kind = _slots(device, jobs)
    folders = _folders(results, data)
    selected = _plan(suite, datasets, "", "", methods, "")
    with bench_.alone(results):
        try:
            written = tune_.tune(
                selected,
                trials=trials,
                results=results,
                directories=(*folders.data, folders.cache),
                slots=slots,
                device=kind,
                say=_tell_trial,
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
    planned = bench_.survey(_plan(suite, datasets, look_backs, horizons, methods, ""), folders)
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
def ui(
    results: Results = RESULTS,
    port: Annotated[int, typer.Option(help="On 127.0.0.1.")] = 5000,
) -> None:
    """Open the tracked runs in MLflow's own pages."""
    from harness import track

    track.serve(results, port)


# --- what the options mean -----------------------------------------------------------------------


def _plan(
    suite: str, datasets: str, look_backs: str, horizons: str, methods: str, seeds: str
) -> list[Job]:
    from harness import suite as suite_

    return suite_.plan(
        _suite(suite),
        datasets=_words(datasets) or None,
        look_backs=_numbers("--look-backs", look_backs) or None,
        horizons=_numbers("--horizons", horizons) or None,
        methods=_words(methods) or None,
        seeds=_numbers("--seeds", seeds) or None,
    )


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


def _slots(device: str, jobs: int | None) -> tuple[list[Slot], str]:
    """Room for workers, and the device they use."""
    from harness import executors

    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"--device {device}: auto, cpu or cuda is needed")
    if device != "cpu":
        import torch

        if count := torch.cuda.device_count():
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            ids = visible.split(",") if visible else [str(number) for number in range(count)]
            return executors.gpu_slots(ids[:count], jobs), "cuda"
    if device == "cuda":
        raise ValueError("--device cuda: no GPU can be seen; --device cpu or auto works")
    return executors.cpu_slots(jobs), "cpu"


def _events(
    due: Sequence[Cell],
    folders: Folders,
    device: str,
    jobs: int | None,
    timeout: float | None,
    tracking: str | None,
) -> Generator[Event]:
    from harness import bench as bench_

    slots, kind = _slots(device, jobs)
    origin = bench_.provenance(ROOT)
    work = partial(
        bench_.run_cell,
        directories=(*folders.data, folders.cache),
        device=kind,
        runs=folders.runs,
        provenance=origin,
    )
    track = _tracker(folders.results, due[0].job.suite, tracking)
    return bench_.execute(
        due, work, slots, folders, origin, device=kind, timeout=timeout, track=track
    )


def _tracker(results: Path, suite: str, uri: str | None) -> Callable[[Path], object] | None:
    # Before the workers start: two processes that create one MLflow store at a time both fail.
    try:
        from harness.track import Tracker

        return Tracker(results, suite, uri).record
    except Exception as error:  # noqa: BLE001 - results do not depend on it
        _print(f"Runs are not tracked in MLflow: {type(error).__name__}: {error}", "yellow")
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
    rows = []
    for cell in cells:
        task = cell.job.task
        length = (task.look_back, task.horizon, task.patches)
        key = "" if cell.state == "broken" else cell.key
        rows.append((cell.state, cell.job.method, task.dataset, *length, cell.job.seed, key))
    columns = ("state", "method", "data set", "look-back", "horizon", "K", "seed", "key")
    _table(columns, rows)
    counts = Counter(cell.state for cell in cells)
    _print(f"{len(cells)} runs: " + ", ".join(f"{count} {name}" for name, count in counts.items()))


def _announce(cells: Sequence[Cell], due: Sequence[Cell], folders: Folders) -> None:
    suite = cells[0].job.suite
    _explain(cells, folders)
    if stale := Counter(cell.job.method for cell in cells if cell.state == "stale"):
        rows = ", ".join(f"{method} ({count})" for method, count in stale.items())
        _print(f"Rows of other code, settings or data will be replaced: {rows}.", "yellow")
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
    from harness.executors import Said, Started

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
    """Write the tables and the pictures of a suite, and print the page."""
    from harness import figures, ledger
    from harness import leaderboard as leaderboard_

    # A selection leaves holes; they are named on the page.
    leaderboard_.write(folder, holes="show")
    rows = ledger.selected(ledger.rows(folder), "show")
    if (rows.status == "done").any():
        figures.save(figures.errors(rows), folder / "errors")
    for name, overlays in _overlays(rows, folder.parent / "runs"):
        figures.save(figures.gallery(overlays), folder / f"patches-{name}")
    _print((folder / "leaderboard.md").read_text(encoding="utf-8"))


def _overlays(rows: pd.DataFrame, runs: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """For each task its name and, best first, where every patcher cut the window that is shown.

    Of the first seed, from bundles, which are not committed: a task without all of its bundles is
    left out, so that a picture drawn where they are is not replaced by a poorer one.
    """
    from harness import store

    patchers = rows[(rows.kind == "patcher") & (rows.status == "done")].sort_values("mse")
    for (look_back, name, horizon), task in patchers.groupby(["look_back", "dataset", "horizon"]):
        first = task[task.seed == task.groupby("method").seed.transform("min")]
        bundles = [runs / key for key in first.key]
        if all((bundle / "overlay.json").exists() for bundle in bundles):
            read = [store.read_bundle(bundle).overlay for bundle in bundles]
            yield f"{name}-{look_back}-{horizon}", [shown for shown in read if shown is not None]


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
