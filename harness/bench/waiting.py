"""Jobs that wait for their turn, some for the result of another one: what executors share.

Nothing here knows what a job is, or where it is done.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Any, Generic

from harness.bench.events import Blocked, Event, Finished, Flaw, J, R, Retried, no_result

Key = Callable[[J], Hashable]
"""By what a job is known to those that need it."""

After = Callable[[J], Hashable | None]
"""The key of the one job whose result a job needs, or None."""


def itself(job: object) -> Hashable:
    """A job that is known by what it is."""
    return job


def nothing(job: object) -> None:
    """A job that needs no other."""


class Waiting(Generic[J, R]):
    """The jobs of a call that are not begun yet, each by its place in the call.

    A job can be begun when the one that it is ``after`` has finished without a ``flaw``; a job
    that is not of this call is taken to have. Of those that can, the first of the call comes
    first. Keys are asked for only where some job needs another. What is done here with one of n
    jobs takes O(log n), and a moment more for each job that needs it.

    Raises:
        ValueError: jobs need each other in a circle, or one needs a key that two jobs have.
    """

    def __init__(
        self,
        jobs: Sequence[J],
        key: Key[J] = itself,
        after: After[J] = nothing,
        flaw: Flaw[J, R] = no_result,
    ) -> None:
        self._jobs, self._flaw = jobs, flaw
        needed = {
            place: other for place, job in enumerate(jobs) if (other := after(job)) is not None
        }
        self._behind: dict[int, list[int]] = defaultdict(list)  # who needs the job of a place
        before = _before(jobs, needed, key) if needed else {}
        _refuse_circles(jobs, before)
        for place, other in before.items():
            self._behind[other].append(place)
        # Turns, of which the lowest is next, and places: sorted, and so a heap.
        self._turns = [(place, place) for place in range(len(jobs)) if place not in before]
        self._first = 0

    @property
    def ready(self) -> bool:
        """Whether a job can be begun now."""
        return bool(self._turns)

    def take(self) -> int:
        """The place of the job that is to be begun next."""
        return heappop(self._turns)[1]

    def hear(self, place: int, event: Event[J, R]) -> list[Blocked[J]]:
        """What has happened to the job of this place: its end lets those begin that need it.

        Where it has a flaw they never are, nor those that need them: returned is, in at most one
        event, which ones these are. A job that is Retried is the next to be begun.
        """
        if isinstance(event, Retried):
            self._first -= 1
            heappush(self._turns, (self._first, place))
        if not isinstance(event, Finished):
            return []
        behind = self._behind.pop(place, [])
        if not behind:
            return []
        error = self._flaw(event)
        if not error:
            for other in behind:
                heappush(self._turns, (other, other))
            return []
        for other in behind:  # it grows as it is gone through
            behind += self._behind.pop(other, ())
        lost = tuple(self._jobs[other] for other in behind)
        return [Blocked(event.job, " ".join(error.split()), lost)]


def _before(jobs: Sequence[J], needed: Mapping[int, Hashable], key: Key[J]) -> dict[int, int]:
    """The place of the job that a job needs, by the place of that one; of this call only."""
    wanted = {*needed.values()}
    places: dict[Hashable, int] = {}
    for place, job in enumerate(jobs):
        if (own := key(job)) in wanted and places.setdefault(own, place) != place:
            raise ValueError(f"two jobs are {own!r}, which another one needs: {job}")
    return {place: places[other] for place, other in needed.items() if other in places}


def _refuse_circles(jobs: Sequence[Any], before: Mapping[int, int]) -> None:
    settled: set[int] = set()
    for start in before:
        place, path = start, dict[int, None]()
        while place in before and place not in settled:
            if place in path:
                circle = [*path][[*path].index(place) :]
                names = ", which needs ".join(str(jobs[each]) for each in [*circle, place])
                raise ValueError(f"jobs need each other in a circle: {names}")
            path[place] = None
            place = before[place]
        settled.update(path)
