"""What happens to jobs wherever they are done: the vocabulary of executors, here or on a cluster.

Nothing here knows what a job is, or where it is done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

J = TypeVar("J")
R = TypeVar("R")

Tell = Callable[[Mapping[str, Any]], None]
"""What the work on a job calls with a message about itself: an epoch, say, or a trial."""

Work = Callable[[J, Tell], R]

Failure = Literal["exception", "out-of-memory", "killed", "timeout"]
"""Why a job has no result.

exception: the work raised, or ended its process. out-of-memory: of a GPU or of the machine.
killed: its process ended by a signal. timeout: it took longer than allowed.
"""


@dataclass(frozen=True)
class Slot:
    """Room for one worker: the environment variables it starts with."""

    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Started(Generic[J]):
    """A worker has taken the job."""

    job: J


@dataclass(frozen=True)
class Said(Generic[J]):
    """What the work on a job said about itself as it went."""

    job: J
    message: Mapping[str, Any]


@dataclass(frozen=True)
class Retried(Generic[J]):
    """A job has failed with ``error`` and is tried once more, in the form it now has."""

    job: J
    error: str


@dataclass(frozen=True)
class Finished(Generic[J, R]):
    """The job's result, or why there is none: ``error`` in one line, ``trace`` at length.

    ``failure`` is None exactly where there is a result.
    """

    job: J
    seconds: float
    result: R | None = None
    error: str = ""
    trace: str = ""
    failure: Failure | None = None


@dataclass(frozen=True)
class Blocked(Generic[J]):
    """Jobs that are not begun, since the ``job`` that they need has left nothing to start from.

    ``behind`` holds those too that need it through others; ``error`` says in one line what it has
    come to.
    """

    job: J
    error: str
    behind: tuple[J, ...]


Event = Started[J] | Said[J] | Retried[J] | Finished[J, R] | Blocked[J]

Flaw = Callable[[Finished[J, R]], str]
"""Why no job can start from what one has come to, in one line; "" where one can."""


def no_result(finished: Finished[Any, Any]) -> str:
    """Only a failure: from any result a job can start."""
    return finished.error


Retry = Callable[[Finished[J, R]], J | None]
"""Asked about each failure: the job that is to be done in its place, or None."""


def never(finished: Finished[Any, Any]) -> None:
    """Retry nothing."""
