"""The list of jobs that wait, some of them for another one: what both executors go by."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from harness.bench.events import Blocked, Finished, Retried, Started
from harness.bench.waiting import Waiting


def key(job: str) -> str:
    """A job `b<a` is `b`, and needs `a`."""
    return job.partition("<")[0]


def after(job: str) -> str | None:
    """What the job needs."""
    return job.partition("<")[2] or None


def listed(*jobs: str) -> Waiting[str, int]:
    """The jobs, all waiting."""
    return Waiting(jobs, key, after)


def taken(waiting: Waiting[str, int]) -> list[int]:
    """The places of all that can be begun."""
    found = []
    while waiting.ready:
        found.append(waiting.take())
    return found


def done(job: str, error: str = "") -> Finished[str, int]:
    """The end of a job."""
    return Finished(job, 1.0, error=error, failure="killed" if error else None)


def test_jobs_without_needs_come_in_their_order() -> None:
    """Nobody asks what they are: they may be of any kind, and the same one may be there twice."""

    def ask(job: object) -> str:
        raise AssertionError(job)

    jobs: list[object] = [{}, [], {}]
    waiting = Waiting[object, int](jobs, key=ask)
    assert [waiting.take() for _ in jobs] == [0, 1, 2]
    assert not waiting.ready


def test_a_job_comes_out_when_the_one_it_needs_has_a_result() -> None:
    """Not when that is begun or tried again; then in the order of the call, before later ones."""
    waiting = listed("b<a", "c<a", "a", "d", "e")
    assert [waiting.take(), waiting.take()] == [2, 3]
    assert waiting.hear(2, Started("a")) == waiting.hear(2, Retried("a", "no")) == []
    assert waiting.take() == 2
    assert waiting.hear(2, done("a")) == []
    assert taken(waiting) == [0, 1, 4]


def test_the_last_to_be_retried_is_the_next_to_be_begun() -> None:
    """Before all that were never begun."""
    waiting = listed("a", "b", "c")
    first, second = waiting.take(), waiting.take()
    for place in (first, second):
        waiting.hear(place, Retried("x", "no"))
    assert taken(waiting) == [1, 0, 2]


def test_what_is_not_of_this_call_is_taken_to_be_done() -> None:
    """A job needs nothing that nobody is going to do."""
    assert taken(listed("b<a", "c<b")) == [0]


def test_a_failure_blocks_all_that_need_it() -> None:
    """Also those that need it through others: told once, with the job that failed, in one line."""
    waiting = listed("c<b", "b<a", "a", "d<a", "e")
    assert taken(waiting) == [2, 4]
    told = waiting.hear(2, done("a", "killed\n  by night"))
    assert told == [Blocked("a", "killed by night", ("b<a", "d<a", "c<b"))]
    assert not waiting.ready
    assert waiting.hear(4, done("e", "killed")) == []  # nobody needs it


def test_a_result_from_which_no_job_can_start_blocks_as_a_failure_does() -> None:
    """What is wrong with a result is for the caller to say."""
    jobs = ["b<a", "a", "d<c", "c"]
    waiting = Waiting[str, int](jobs, key, after, lambda end: "odd" if end.result == 1 else "")
    assert taken(waiting) == [1, 3]
    assert waiting.hear(1, Finished("a", 1.0, 1)) == [Blocked("a", "odd", ("b<a",))]
    assert waiting.hear(3, Finished("c", 1.0, 2)) == []
    assert taken(waiting) == [2]


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        (["a<a"], "in a circle: a<a, which needs a<a$"),
        (["d", "c<b", "b<a", "a<b"], "in a circle: b<a, which needs a<b, which needs b<a$"),
        (["a", "a", "b<a"], "two jobs are 'a', which another one needs: a$"),
    ],
)
def test_jobs_that_could_never_be_begun_are_refused(jobs: Sequence[str], message: str) -> None:
    """With the jobs of the circle, and not those that only lead to it."""
    with pytest.raises(ValueError, match=message):
        listed(*jobs)


@pytest.mark.parametrize("shape", ["chain", "star", "circle"])
def test_a_plan_of_many_jobs_takes_no_time(shape: str) -> None:
    """20,000 that need one another, or all the same one: a second, where n² steps take minutes."""
    count, began = 20_000, time.monotonic()
    needed = [0 if shape == "star" else place - 1 for place in range(count)]
    jobs = [f"{place}<{other}" if place else "0" for place, other in enumerate(needed)]
    jobs.reverse()
    if shape == "circle":
        jobs[-1] = f"0<{count - 1}"
        with pytest.raises(ValueError, match="in a circle"):
            listed(*jobs)
    else:
        waiting, order = listed(*jobs), list[str]()
        while waiting.ready:
            place = waiting.take()
            order.append(jobs[place])
            waiting.hear(place, done(jobs[place]))
        assert len(order) == count
        assert order[0] == "0"
        waiting = listed(*jobs)
        (lost,) = waiting.hear(waiting.take(), done("0", "no"))
        assert len(lost.behind) == count - 1
    assert time.monotonic() - began < 5
