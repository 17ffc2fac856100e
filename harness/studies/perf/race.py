"""Taking turns: contenders in fresh processes of one thread, a round each, A B A B.

Whatever else the machine does then meets all of them alike, so that ratios of rounds side by side
mean something where seconds would not.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Literal, NamedTuple

import torch


@dataclass(frozen=True)
class Spent:
    """Seconds of one round: ``busy`` of the processor (of the GPU, if there is one), and wall."""

    busy: float
    wall: float


@dataclass(frozen=True)
class Timing:
    """A contender's rounds; ``start`` is the first, with all that is done only once."""

    start: Spent
    rounds: tuple[Spent, ...]

    @property
    def busy(self) -> float:
        """Seconds of the median round."""
        return median(spent.busy for spent in self.rounds)

    def over(self, other: Timing, clock: Literal["busy", "wall"] = "busy") -> list[float]:
        """How many times as long as ``other`` it took, round by round."""
        both = zip(self.rounds, other.rounds, strict=True)
        return [getattr(mine, clock) / getattr(its, clock) for mine, its in both]


Work = Callable[[Callable[[], None]], None]
"""Calls what it is given after each round; the first one is the warm-up, and there is no last."""


def race(works: Sequence[Work], rounds: int) -> list[Timing]:
    """Let the works take turns, for a warm-up and then ``rounds`` rounds. Works are pickled.

    Raises:
        RuntimeError: a work that failed; says with what.
    """
    with ExitStack() as stack:
        lanes = [stack.enter_context(_lane(work)) for work in works]
        laps = [[_turn(lane) for lane in lanes] for _ in range(rounds + 1)]
    return [Timing(start, tuple(rounds)) for start, *rounds in zip(*laps, strict=True)]


@contextmanager
def _lane(work: Work) -> Iterator[Connection[Any, Any]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_take_turns, args=(work, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()  # at which the work stops, wherever it waits for its turn
        process.join(timeout=5)
        process.kill()
        process.join()


def _turn(lane: Connection[Any, Any]) -> Spent:
    lane.send("go")
    try:
        answer = lane.recv()
    except EOFError:
        raise RuntimeError("a process that was being measured has died") from None
    if isinstance(answer, Spent):
        return answer
    raise RuntimeError(answer)


def _take_turns(work: Work, pipe: Connection[Any, Any]) -> None:
    torch.set_num_threads(1)

    def wait() -> _Clocks:
        try:
            pipe.recv()
        except EOFError:
            raise SystemExit from None
        return _clocks()

    since = wait()

    def lap() -> None:
        nonlocal since
        pipe.send(_spent(since, _clocks()))
        since = wait()

    try:
        work(lap)
    except Exception as error:  # noqa: BLE001 - the parent raises it
        pipe.send(f"{type(error).__name__}: {error}")


class _Clocks(NamedTuple):
    process: float
    wall: float
    event: torch.cuda.Event | None


def _clocks() -> _Clocks:
    event = None
    if torch.cuda.is_available():
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        event.synchronize()
    return _Clocks(time.process_time(), time.perf_counter(), event)


def _spent(since: _Clocks, now: _Clocks) -> Spent:
    wall = now.wall - since.wall
    if since.event is None or now.event is None:
        return Spent(now.process - since.process, wall)
    return Spent(since.event.elapsed_time(now.event) / 1000, wall)
