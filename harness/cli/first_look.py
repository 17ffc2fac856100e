"""The first rows of a bench: a table as soon as the first of its tasks is complete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from statistics import fmean
from typing import TYPE_CHECKING

from harness.bench.events import Blocked
from harness.bench.execute import Event, Stored
from harness.cli import display

if TYPE_CHECKING:
    from harness.bench.survey import PlannedRun
    from harness.core.job import Record

_CONTROL = "uniform"


def looking(events: Generator[Event], due: Sequence[PlannedRun]) -> Generator[Event]:
    """Pass the events on; show a table of the first task whose last run is stored.

    A bench of one task, or a task without a row of ``uniform``, shows none: the leaderboard
    follows.
    """
    left = Counter(run.job.task for run in due)
    several, stored = len(left) > 1, list[Stored]()
    with closing(events):
        for event in events:
            yield event
            if isinstance(event, Blocked):
                left.subtract(run.job.task for run in event.behind)
            if not several or not isinstance(event, Stored):
                continue
            stored.append(event)
            task = event.run.job.task
            left[task] -= 1
            records = [other.record for other in stored if other.run.job.task == task]
            if left[task] == 0 and any(
                record.label == _CONTROL and record.mse is not None for record in records
            ):
                several = False
                length = f"{task.look_back}->{task.horizon}"
                display.say(f"First rows, {task.dataset} {length}; the rest goes on:")
                display.show_table(
                    ("method", "runs", "mse", f"against {_CONTROL}"), lines(records)
                )


def lines(records: Sequence[Record]) -> list[tuple[str, int, str, str]]:
    """By method how many runs there are, their mean error and its change, best first."""
    errors: dict[str, list[float]] = {}
    for record in records:
        if record.status == "done" and record.mse is not None:
            errors.setdefault(record.label, []).append(record.mse)
    means = {method: fmean(each) for method, each in errors.items()}
    control = means.get(_CONTROL)
    return [
        (
            method,
            len(errors[method]),
            f"{mse:.4f}",
            "" if not control or method == _CONTROL else f"{100 * (mse / control - 1):+.1f} %",
        )
        for method, mse in sorted(means.items(), key=lambda item: item[1])
    ]
