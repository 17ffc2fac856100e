"""Jobs that need each other, for tests of both executors: each is (name, needed name, how)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.bench.events import Blocked, Event, Finished

EDGE: dict[str, Any] = {
    "key": lambda job: job[0],
    "after": lambda job: job[1],
    "flaw": lambda end: end.error or ("not even" if end.result == "odd" else ""),
}
"""Which job needs which; nothing can start from the result "odd"."""


def summary(events: Iterable[Event[Any, Any]]) -> list[tuple[str, str]]:
    """What happens, each with the name of its job; a failure with its error."""
    found = []
    for event in events:
        what = type(event).__name__
        if isinstance(event, Finished) and event.failure:
            what = f"{event.failure}: {event.error}"
        if isinstance(event, Blocked):
            what = f"blocks {' and '.join(job[0] for job in event.behind)}: {event.error}"
        found.append((what, event.job[0]))
    return found
