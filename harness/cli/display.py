"""What a person sees: tables, progress bars and sentences, on a terminal or in a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from rich.console import Console

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import Progress

    from harness.bench.events import Slot
    from harness.bench.execute import Event
    from harness.bench.survey import Folders, PlannedRun
    from harness.bench.watch import Progress as Going
    from harness.core.job import Job, Record
    from harness.report.serving import Shown


@cache
def console() -> Console:
    """The terminal, or plain lines where there is none: no colours, no moving parts."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 120
    return console


def say(text: str, style: str | None = None) -> None:
    """Print one line."""
    console().print(text, style=style, soft_wrap=True)


def warn(text: str) -> None:
    """Print what costs no result."""
    say(text, "yellow")


def stop(message: str, code: int = 2) -> NoReturn:
    """Say what the user can put right, and end."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    console.print(f"error: {message}", style="red", soft_wrap=True)
    raise SystemExit(code)


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Text to the left, numbers to the right, a dot for none."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name, value in zip(columns, rows[0], strict=True):
        table.add_column(name, justify="right" if isinstance(value, int | float) else "left")
    for row in rows:
        table.add_row(*("·" if value == 0 else str(value) for value in row))
    console().print(table)


def show_plan(planned: Sequence[PlannedRun]) -> None:
    """Every run; of very many how many there are of each method and data set."""
    if len(planned) > _LISTED:
        show_states(planned, set())
    else:
        _list_runs(planned)
    show_stale(planned)
    counts = Counter(run.state for run in planned)
    say(f"{len(planned)} runs: " + ", ".join(f"{count} {name}" for name, count in counts.items()))


_LISTED = 60  # more are a wall of names


def _list_runs(planned: Sequence[PlannedRun]) -> None:
    rows = []
    for run in planned:
        task = run.job.task
        length = (task.look_back, task.horizon, task.patches)
        key = "" if run.state == "broken" else run.key
        rows.append((run.state, run.job.method, task.dataset, *length, run.job.seed, key))
    columns = ("state", "method", "data set", "look-back", "horizon", "K", "seed", "key")
    show_table(columns, rows)


def show_states(planned: Sequence[PlannedRun], running: Collection[str]) -> None:
    """How many runs of each method and data set are in which state; ``running`` are keys."""
    from harness.bench.survey import State

    states: dict[tuple[str, str], Counter[str]] = {}
    for run in planned:
        where = (run.job.method, run.job.task.dataset)
        state = "running" if run.key in running else run.state
        states.setdefault(where, Counter())[state] += 1
    names = ("running", *get_args(State))
    show_table(
        ("method", "data set", "planned", *names),
        [
            (*where, count.total(), *(count[name] for name in names))
            for where, count in states.items()
        ],
    )


def show_stale(planned: Sequence[PlannedRun]) -> None:
    """Why rows are stale: each reason once for each method."""
    reasons = Counter((run.job.method, run.why) for run in planned if run.state == "stale")
    for (method, why), count in reasons.items():
        say(f"stale: {method} ({count}): {why}", "yellow")


def show_failures(planned: Sequence[PlannedRun]) -> None:
    """How many runs of a method and data set failed in which way, and how the last one did."""
    failed: dict[tuple[str, ...], list[Record]] = {}
    for run in planned:
        if run.record is not None and (run.state == "failed" or run.record.status != "done"):
            what = run.record.failure or run.record.status
            where = (run.job.method, run.job.task.dataset, what)
            failed.setdefault(where, []).append(run.record)
    for (method, dataset, what), records in failed.items():
        say(f"{what}: {method} {dataset} ({len(records)}): {records[-1].error}", "red")


def show_progress(going: Going | None, holder: int | None) -> None:
    """What is being done right now, since when, and how far it is."""
    if going is None:
        busy = f"Process {holder} holds the results, and no run is under way."
        say("Nothing is running." if holder is None else busy)
        return
    over = f"{going.stored} of {going.planned} runs are over"
    say(f"Process {going.process}, suite {going.suite!r}, since {_clock(going.since)}: {over}.")
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
        show_table(("running", "since", "epoch", ""), rows)


def _clock(seconds: float) -> str:
    then = datetime.fromtimestamp(seconds, tz=UTC).astimezone()
    return f"{then:%Y-%m-%d %H:%M:%S}"


def show_estimate(
    due: Sequence[PlannedRun], folders: Folders, room: tuple[Sequence[Slot], str]
) -> None:
    """How long the runs will take."""
    from harness.bench.estimate import estimate

    guess, workers = estimate(due, folders), min(len(room[0]), max(1, len(due)))
    if known := len(due) - guess.unknown:
        left = timedelta(seconds=round(guess.seconds / workers))
        say(f"{known} of {len(due)} runs to do: about {left} with {workers} at a time,")
        say("from the seconds of recorded runs, on whatever machine these were.")
    if guess.unknown:
        say(f"No estimate for {guess.unknown} runs: no row says what one like them took.")


def tell_wait(process: int) -> None:
    """Who is in the way."""
    say(f"The results are in use by process {process}: waiting until it has finished.")


def announce(planned: Sequence[PlannedRun], due: Sequence[PlannedRun], folders: Folders) -> None:
    """What is about to be done, and why the rest is not."""
    suite = planned[0].job.suite
    explain(planned, folders)
    show_stale(planned)
    if any(run.state == "stale" for run in planned):
        say("Stale rows will be replaced.", "yellow")
    if all(run.state == "done" for run in planned) and not due:
        say(
            f"All {len(planned)} runs of suite {suite!r} are done: {folders.results / suite}."
            " To run them again: FORCE=1 (--force), or RESULTS=dir (--results dir) elsewhere."
        )
    else:
        say(f"Suite {suite!r}: {len(due)} of {len(planned)} runs to do.")


def explain(planned: Sequence[PlannedRun], folders: Folders) -> None:
    """Why some planned runs cannot be run, and what is suspicious in data: each reason once."""
    from harness.data import entry, explain_missing

    absent = {run.job.task.dataset: None for run in planned if run.state == "absent"}
    if absent:
        places = (*folders.data, folders.cache)
        say(explain_missing([entry(name) for name in absent], places), "yellow")
    for why in {run.why: None for run in planned if run.state == "broken"}:
        say(f"error: {why}", "red")
    doubts = {
        (run.job.task.dataset, doubt): None
        for run in planned
        if (doubt := run.identity.get("data_warning"))
    }
    for dataset, doubt in doubts:
        warn(f"warning: data set {dataset!r}: {doubt}.")


def follow(events: Generator[Event], due: Sequence[PlannedRun], finished: list[Record]) -> None:
    """Show what happens until nothing is left; one line stays for each finished run."""
    from harness.bench.events import Retried, Said, Started
    from harness.bench.execute import Stored, Warned

    shares: dict[str, float] = {}
    width = max(len(run.job.method) for run in due)
    with closing(events), progress_bars() as bars:
        whole = bars.add_task("all runs", total=len(due), note=f"0/{len(due)}")
        rows = {}
        for event in events:
            match event:
                case Started(run):
                    rows[run.key] = bars.add_task(f"  {run.job}", total=None, note="")
                case Said(run, message):
                    epoch, epochs = message["epoch"], message["epochs"]
                    note = f"epoch {epoch}/{epochs}, valid {message['valid_mse']:.4f}"
                    bars.update(rows[run.key], completed=epoch, total=epochs, note=note)
                    shares[run.key] = epoch / epochs
                case Retried(run, error):
                    bars.remove_task(rows.pop(run.key))
                    shares.pop(run.key, None)
                    how = f" with {run.micro_batch} windows at a time" if run.micro_batch else ""
                    say(f"{run.job}  once more{how}: {error}", "yellow")
                case Stored(run, record, seconds):
                    finished.append(record)
                    bars.remove_task(rows.pop(run.key))
                    shares.pop(run.key, None)
                    count = f"{len(finished)}/{len(due)}"
                    bars.update(whole, note=count)
                    say(*_line(record, f"{count:>9}  {record.method:<{width}}", seconds))
                case Warned(message):
                    say(message, "yellow")
            bars.update(whole, completed=len(finished) + sum(shares.values()))


def progress_bars() -> Progress:
    """Bars for long work; nothing where there is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console(),
        disable=not console().is_terminal,
        transient=True,
        speed_estimate_period=24 * 3600,  # runs take minutes; the default forgets after 30 s
    )


def bar(bars: Progress, name: str) -> Callable[[int, int], None]:
    """A bar of its own that hears how much is done."""
    bar = bars.add_task(name, total=None, note="")
    return lambda done, of: bars.update(bar, completed=done, total=of)


def tell_epoch(bar: Callable[[int, int], None]) -> Callable[[Mapping[str, Any]], None]:
    """What moves a bar with the epochs that a run tells of."""
    return lambda message: bar(message["epoch"], message["epochs"])


def _line(record: Record, head: str, seconds: float) -> tuple[str, str | None]:
    length = f"{record.look_back}->{record.horizon} K={record.patches} seed={record.seed}"
    where = f"{head}  {record.dataset} {length}"
    if record.status == "done":
        return f"{where}  mse {record.mse:.4f}  mae {record.mae:.4f}  {seconds:.1f} s", None
    return f"{where}  {record.status.upper()}: {record.error}", "red"


def tell_trial(job: Job, message: Mapping[str, Any]) -> None:
    """How a trial of a search went."""
    found = (
        f"{name} {message[name]:.4f}" for name in ("value", "best") if message[name] is not None
    )
    where = f"{job.method}  {job.task}  trial {message['trial']}/{message['trials']}"
    say("  ".join([where, *found]))


def show_summary(
    planned: Sequence[PlannedRun],
    due: Sequence[PlannedRun],
    finished: Sequence[Record],
    folders: Folders,
) -> None:
    """How many runs ended in which way, and where to look."""
    status = Counter(record.status for record in finished)
    state = Counter(run.state for run in planned)
    kept = sum(run.state == "done" for run in planned if run not in due)
    counts = {
        "done": status["done"],
        "diverged": status["diverged"],
        "failed": status["failed"],
        "there before": kept,
        "without data": state["absent"],
        "unusable": state["broken"],
        "left": len(due) - len(finished),
    }
    show_table(tuple(counts), [tuple(counts.values())])
    for record in finished:
        if record.status == "failed":
            log = folders.runs / record.key / "log.txt"
            say(f"failed: {record.method} {record.dataset} seed={record.seed}: see {log}", "red")
    say(f"Results: {folders.results / planned[0].job.suite}")


def tell_pages(shown: Sequence[Shown], *, is_open: bool) -> None:
    """Where each suite is in MLflow; in a browser the first one's runs, if ``is_open``."""
    for suite, runs, curves in shown:
        say(f"{suite}, runs: {runs}")
        say(f"{suite}, learning curves: {curves}")
    say("Ctrl-C ends it.")
    if is_open:
        import webbrowser

        webbrowser.open(shown[0].runs)


def show_hindsight(table: pd.DataFrame, path: Path) -> None:
    """Draw the curves of all tasks measured so far, and print their ends."""
    from harness.report import figures
    from harness.studies import hindsight

    figures.save(figures.hindsight(table), path.with_suffix(""))
    rows = []
    for _, end in hindsight.ends(table).iterrows():
        errors = (f"{end[name]:.4f}" for name in ("mse_random", "mse_chosen", "mse_corrected"))
        gains = (f"{end.gain:.2f} %", f"{end.corrected_gain:.2f} ± {end.corrected_sd:.2f} %")
        task = (end.dataset, end.look_back, end.horizon, end.patches)
        rows.append((*task, end.plans, *errors, *gains))
    where = ("data set", "look-back", "horizon", "K", "M")
    show_table((*where, "random", "best", "on another seed", "gain", "corrected gain"), rows)
    say(f"An oracle that sees the future, never ranked: {path}")


def list_data(folders: Folders) -> None:
    """Every data set, whether it is at hand, and how large a download it is."""
    from harness.data import CATALOGUE, known, missing

    absent = missing(CATALOGUE, folders.data, cache=folders.cache)
    rows: list[tuple[object, ...]] = []
    for name in known():
        if name in CATALOGUE:
            entry = CATALOGUE[name]
            state = "not at hand" if entry in absent else "at hand"
            rows.append((name, state, entry.megabytes))
        else:
            rows.append((name, "embedded", 0))
    show_table(("data set", "state", "download, MB"), rows)


@contextmanager
def download_bar(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar for the bytes of one download."""
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(), disable=not console().is_terminal) as bars:
        task = bars.add_task(name, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
