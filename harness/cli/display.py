"""What a person reads: tables and sentences, on a terminal or in a log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from rich.console import Console

if TYPE_CHECKING:
    import pandas as pd

    from harness.bench.estimate import Guess
    from harness.bench.events import Slot
    from harness.bench.survey import Folders, PlannedRun
    from harness.bench.watch import Progress as Going
    from harness.core.job import Job, Record
    from harness.data import Entry
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
        table.add_row(*map(_entry, row))
    console().print(table)


def _entry(value: object) -> str:
    if value == 0:
        return "·"
    if isinstance(value, float):
        return number(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


Room = tuple[Sequence["Slot"], str]
"""Room for workers, and the device they use."""


def show_plan(
    planned: Sequence[PlannedRun],
    by: Sequence[str],
    guesses: Mapping[str, Guess],
    room: Room,
    selection: Mapping[str, str],
) -> None:
    """How many runs of each kind are in which state, and how long those that are not done take.

    ``guesses``, by key, are of the runs that are to do; ``selection`` is what they were selected
    by, by option.
    """
    show_runs(planned, by, guesses=guesses, unit=_unit(room))
    show_stale(planned)
    show_blocked(planned)
    counts = Counter(run.state for run in planned)
    states = ", ".join(f"{count:,} {name}" for name, count in counts.items())
    say(f"{len(planned):,} runs: {states}")
    show_estimate(planned, guesses, room, selection)


def show_runs(
    planned: Sequence[PlannedRun],
    by: Sequence[str],
    *,
    running: Collection[str] = (),
    guesses: Mapping[str, Guess] = MappingProxyType({}),
    unit: str = "",
) -> None:
    """A line for each value of ``by``, names of :data:`BY`, and how many runs are in which state.

    ``running`` are keys. With ``guesses``, by key, there is a column of what they add up to in the
    ``unit``.
    """
    from harness.bench.survey import State

    states: dict[tuple[object, ...], Counter[str]] = {}
    hours: dict[tuple[object, ...], float] = {}
    is_each = "run" in by
    names = [*BY] if is_each else by
    for run in planned:
        key = "" if run.state == "broken" else run.key
        state = "running" if key in running else run.state
        where = (*((state,) if is_each else ()), *(BY[name][1](run) for name in names))
        states.setdefault(where, Counter())[state] += 1
        if (guess := guesses.get(key)) is not None:
            hours[where] = hours.get(where, 0.0) + guess.seconds / 3600
    there = {state for count in states.values() for state in count}
    shown = [] if is_each else [name for name in ("running", *get_args(State)) if name in there]
    columns = [*(["state"] if is_each else []), *(BY[name][0] for name in names)]
    columns += [] if is_each else ["runs", *shown]
    rows = [
        [*where, *([] if is_each else [count.total()]), *(count[name] for name in shown)]
        for where, count in states.items()
    ]
    if guesses:
        columns.append(unit)
        # Nothing that is to do takes no time at all.
        spent = {where: max(0.01, round(of, 2)) for where, of in hours.items()}
        rows = [[*row, spent.get(where, 0.0)] for row, where in zip(rows, states, strict=True)]
    show_table(columns, rows)


BY: dict[str, tuple[str, Callable[[PlannedRun], object]]] = {
    "method": ("method", lambda run: run.job.method),
    "dataset": ("data set", lambda run: run.job.task.dataset),
    "look_back": ("look-back", lambda run: run.job.task.look_back),
    "horizon": ("horizon", lambda run: run.job.task.horizon),
    "patches": ("K", lambda run: run.job.task.patches),
    "seed": ("seed", lambda run: run.job.seed),
    "run": ("key", lambda run: "" if run.state == "broken" else run.key),  # each by itself
}
"""What the lines of a table of runs may be for: name -> title of the column, and its value."""


def show_stale(planned: Sequence[PlannedRun]) -> None:
    """Why rows are stale: each reason once for each method."""
    reasons = Counter((run.job.method, run.why) for run in planned if run.state == "stale")
    for (method, why), count in reasons.items():
        say(f"stale: {method} ({count}): {why}", "yellow")


def show_blocked(planned: Sequence[PlannedRun]) -> None:
    """What runs are blocked by: each pre-training once, with how many runs need it."""
    causes = Counter(run.why for run in planned if run.state == "blocked")
    for why, count in causes.items():
        say(f"blocked ({count}): {why}; due once that is done", "yellow")


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
    planned: Sequence[PlannedRun],
    guesses: Mapping[str, Guess],
    room: Room,
    selection: Mapping[str, str],
) -> None:
    """How long the runs will take in all, on what that stands, and what else could be run."""
    from harness.bench.estimate import smaller, wall

    of, workers = [*guesses.values()], min(len(room[0]), max(1, len(guesses)))
    if not of:
        return
    bases = Counter(guess.basis for guess in of)
    if bases["nothing"]:
        say("How long they take is said after the first run: no row is of a GPU.")
        return
    told = {
        "rows of runs like them": bases["rows"],
        "their floating-point operations": bases["operations"],
    }
    basis = ", ".join(f"of {count:,} runs by {words}" for words, count in told.items() if count)
    total, whole = sum(guess.seconds for guess in of) / 3600, wall(of, workers)
    about = "Less than 0.01" if total < 0.01 else f"About {number(total)}"
    say(
        f"{about} {_unit(room)}, so {duration(whole)} with {workers} at a time;"
        f" estimated, roughly, {basis}."
    )
    due = [run for run in planned if run.state != "broken" and run.key in guesses]
    part = smaller(due, [guesses[run.key] for run in due], workers, within=_EVENING)
    if whole > _NIGHT and len(part.guesses) < len(of):
        options = {name: value for name, value in selection.items() if value} | {
            "DATASETS": ",".join(part.datasets),
            "LOOK_BACKS": str(part.look_back),
            "HORIZONS": str(part.horizon),
            "SEEDS": str(part.seed),
        }
        command = " ".join(f"{name}={value}" for name, value in options.items())
        short = duration(wall(part.guesses, workers))
        say(f"Smaller: {len(part.guesses):,} runs in about {short}: make bench {command}")


def _unit(room: Room) -> str:
    return "CPU-hours" if room[1] == "cpu" else "GPU-hours"


_NIGHT, _EVENING = 10 * 3600.0, 3 * 3600.0  # seconds


def duration(seconds: float) -> str:
    """A length of time as people say it, to two units."""
    whole = round(seconds)
    for size, name, below, part in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = round(whole % size / below)
            if rest * below == size:
                return duration(whole - whole % size + size)
            return f"{whole // size:,} {name}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"


def number(value: float) -> str:
    """A number above 0, to three digits or to the last one before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def tell_wait(process: int) -> None:
    """Who is in the way."""
    say(f"The results are in use by process {process}: waiting until it has finished.")


def announce(
    planned: Sequence[PlannedRun],
    by: Sequence[str],
    guesses: Mapping[str, Guess],
    room: Room,
    selection: Mapping[str, str],
    folders: Folders,
) -> None:
    """What is about to be done and how long that takes; arguments as of :func:`show_plan`."""
    suite = planned[0].job.suite
    if not guesses and all(run.state == "done" for run in planned):
        say(
            f"All {len(planned):,} runs of suite {suite!r} are done: {folders.results / suite}."
            " To run them again: FORCE=1 (--force), or RESULTS=dir (--results dir) elsewhere."
        )
        return
    say(f"Suite {suite!r}: {len(guesses):,} of {len(planned):,} runs to do.")
    show_runs(planned, by, guesses=guesses, unit=_unit(room))
    show_estimate(planned, guesses, room, selection)
    show_stale(planned)
    if any(run.state == "stale" for run in planned):
        say("Stale rows will be replaced.", "yellow")


def explain(
    planned: Sequence[PlannedRun],
    folders: Folders,
    refused: Sequence[str] = (),
    *,
    fetches: bool = False,
) -> None:
    """Why some planned runs cannot be run, and what is suspicious in data: each reason once.

    ``refused`` says why data sets could not be downloaded; with ``fetches``, a bench will try.
    """
    from harness.data import CATALOGUE, explain_missing, sizes

    if (missing := absent(planned)) and fetches:
        say(f"Fetched first, unless OFFLINE=1 (--offline): {sizes(missing)}.", "yellow")
    elif missing:
        for why in refused:
            say(why, "yellow")
        say(explain_missing(missing, (*folders.data, folders.cache)), "yellow")
    if files := {
        file: None for run in planned for file in run.absent if stem(file) not in CATALOGUE
    }:
        looked = ", ".join(map(str, (*folders.data, folders.cache)))
        say(
            f"not here: {', '.join(files)}\nlooked in: {looked}\nset PATCHBENCH_DATA to a folder"
            " that holds them",
            "yellow",
        )
    for why in {run.why: None for run in planned if run.state == "broken"}:
        say(f"error: {why}", "red")
    doubts = {
        (run.job.task.dataset, doubt): None
        for run in planned
        if (doubt := run.identity.get("data_warning"))
    }
    for dataset, doubt in doubts:
        warn(f"warning: data set {dataset!r}: {doubt}.")


def absent(planned: Sequence[PlannedRun]) -> list[Entry]:
    """The published sets that runs wait for."""
    from harness.data import CATALOGUE, entry

    waiting = [run for run in planned if run.state == "absent"]
    sets = {run.job.task.dataset: None for run in waiting if not run.files}
    sets |= {stem(file): None for run in waiting for file in run.absent if stem(file) in CATALOGUE}
    return [entry(name) for name in sets]


def stem(file: str) -> str:
    """The data set that a file of a corpus or a zero-shot task is, if it is a published one."""
    return PurePath(file).stem


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
    from harness.bench.survey import blocked

    status = Counter(record.status for record in finished)
    waiting = blocked(planned, finished)
    begun = {run.key for run in due} - {run.key for run in waiting}
    state = Counter(run.state for run in planned)
    kept = sum(run.state == "done" for run in planned if run not in due)
    counts = {
        "done": status["done"],
        "diverged": status["diverged"],
        "failed": status["failed"],
        "there before": kept,
        "without data": state["absent"],
        "unusable": state["broken"],
        "blocked": len(waiting),
        "left": len(begun) - len(finished),
    }
    show_table(tuple(counts), [tuple(counts.values())])
    for record in finished:
        if record.status == "failed":
            log = folders.runs / record.key / "log.txt"
            say(f"failed: {record.method} {record.dataset} seed={record.seed}: see {log}", "red")
    show_blocked(waiting)
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
    from harness.data import CATALOGUE, find_panel, known, labelled_files, missing

    looked = [*folders.data, folders.cache]
    absent = missing(CATALOGUE, folders.data, cache=folders.cache)
    rows: list[tuple[object, ...]] = []
    for name in known():
        if name in CATALOGUE:
            entry = CATALOGUE[name]
            state = "not at hand" if entry in absent else "at hand"
            rows.append((name, state, entry.megabytes))
        elif files := labelled_files(name):
            here = all(find_panel(file, looked) for file in files)
            rows.append((name, "at hand" if here else "not at hand", "none"))
        else:
            rows.append((name, "embedded", 0))
    show_table(("data set", "state", "download, MB"), rows)
