"""What a person sees of long work while it goes on: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from harness.cli.display import console, duration, say

if TYPE_CHECKING:
    from rich.progress import Progress

    from harness.bench.estimate import Guess, Left
    from harness.bench.execute import Event
    from harness.bench.survey import PlannedRun
    from harness.core.job import Record
    from harness.data import Entry


def follow(
    events: Generator[Event],
    due: Sequence[PlannedRun],
    guesses: Mapping[str, Guess],
    workers: int,
    finished: list[Record],
) -> None:
    """Show what happens until nothing is left; one line stays for each finished run.

    A line says how long the rest takes, and on a terminal so does a bar for the whole bench.
    """
    from harness.bench.estimate import Left, spent
    from harness.bench.events import Blocked, Retried, Said, Started
    from harness.bench.execute import Stored, Warned

    left = Left({run.key: guesses[run.key] for run in due}, workers)
    width = max(len(run.job.label) for run in due)
    say(f"Begun, {min(workers, len(due))} at a time: a line follows when a run is over.")
    with closing(events), progress_bars() as bars:
        whole = bars.add_task("all runs", total=1.0, note=f"0/{len(due)}", until=_until(left))
        rows = {}
        for event in events:
            match event:
                case Started(run):
                    rows[run.key] = bars.add_task(f"  {run.job}", total=None, note="")
                    left.begin(run.key)
                case Said(run, message):
                    epoch, epochs = message["epoch"], message["epochs"]
                    note = _note(message)
                    bars.update(rows[run.key], completed=epoch, total=epochs, note=note)
                    left.reach(run.key, epoch / epochs)
                case Retried(run, error):
                    bars.remove_task(rows.pop(run.key))
                    how = f" with {run.micro_batch} windows at a time" if run.micro_batch else ""
                    say(f"{run.job}  once more{how}: {error}", "yellow")
                case Stored(run, record, seconds):
                    finished.append(record)
                    bars.remove_task(rows.pop(run.key))
                    left.end(run.key, spent(record) or seconds)
                    head = f"{f'{len(finished)}/{len(due)}':>9}  {record.label:<{width}}"
                    line, style = _line(record, head, seconds)
                    say(line + _rest(left), style)
                case Blocked(run, _, behind):
                    for other in behind:
                        left.end(other.key, 0.0)
                    waits = f"runs that wait for it: {len(behind)}"
                    say(f"{run.job}  left nothing to start from; {waits}", "red")
                case Warned(message):
                    say(message, "yellow")
            bars.update(
                whole,
                completed=left.done,
                note=f"{len(finished)}/{len(due)}",
                until=_until(left),
            )


def _note(message: Mapping[str, Any]) -> str:
    """How far a run is, its validation error and, of a pre-training, its speed."""
    said = [f"epoch {message['epoch']}/{message['epochs']}"]
    error = message.get("valid_mse", message.get("valid_loss"))
    if error is not None:
        said.append(f"valid {error:.4f}")
    if "rows_per_second" in message:
        said.append(f"{message['rows_per_second']:,.0f} rows a second")
    return ", ".join(said)


_ERRORS = {"mse": "mse", "mae": "mae", "valid_loss": "valid", "quantile_loss": "quantile loss"}


def _line(record: Record, head: str, seconds: float) -> tuple[str, str | None]:
    length = f"{record.look_back}->{record.horizon} K={record.patches} seed={record.seed}"
    where = f"{head}  {record.dataset} {length}"
    if record.status == "done":
        names = _ERRORS if record.mse is not None else {"mase": "mase", **_ERRORS}
        said = [
            f"{word} {value:.4f}"
            for name, word in names.items()
            if (value := getattr(record, name)) is not None
        ]
        return "  ".join([where, *said, f"{seconds:.1f} s"]), None
    return f"{where}  {record.status.upper()}: {record.error}", "red"


def _rest(left: Left) -> str:
    seconds = left.seconds()
    return f"  (about {duration(seconds)} left)" if seconds else ""


def _until(left: Left) -> float | None:
    seconds = left.seconds()
    return None if seconds is None else time.monotonic() + seconds


# --- bars ----------------------------------------------------------------------------------------


def progress_bars() -> Progress:
    """Bars for long work; nothing where there is no terminal.

    A task with a field ``until``, on the clock of :func:`time.monotonic`, counts down to it; what
    others need is guessed from how fast they were.
    """
    from rich.progress import BarColumn, Progress, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Remaining(TimeRemainingColumn):
        def render(self, task: Task) -> Text:
            if "until" not in task.fields:
                return super().render(task)
            seconds = (task.fields["until"] or 0.0) - time.monotonic()
            said = f"{duration(seconds)} left" if seconds > 0 else ""  # or any moment
            return Text(said, style="progress.remaining")

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[note]}"),
        Remaining(),
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


@contextmanager
def download_bar(entry: Entry) -> Iterator[Callable[[int, int | None], None]]:
    """A line and a bar for one download."""
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    say(f"Fetching {entry.name} ({entry.megabytes:g} MB) ...")
    columns = (*Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, console=console(), disable=not console().is_terminal, transient=True
    ) as bars:
        task = bars.add_task(entry.name, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
