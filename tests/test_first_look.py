"""The first rows of a bench are shown when the first task is complete."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import pytest

from harness.bench.execute import Event, Stored, Warned
from harness.bench.survey import PlannedRun
from harness.cli.first_look import looking
from harness.core.job import Job, Provenance, new_record
from harness.core.task import Task

METHODS = {"uniform": 1.0, "soft": 0.5, "hnet": 1.1}


def runs(datasets: Sequence[str], methods: Sequence[str] = tuple(METHODS)) -> list[PlannedRun]:
    return [
        PlannedRun(Job("small", method, Task(dataset, 96, 24, 12, 24), seed), "missing", {})
        for method in methods
        for seed in (1, 2)
        for dataset in datasets
    ]


def stored(run: PlannedRun) -> Stored:
    """Its mean over the two seeds is that of METHODS; the second run of hnet fails."""
    failed = run.job.method == "hnet" and run.job.seed == 2
    own: dict[str, Any] = {"status": "failed", "error": "no", "failure": "exception"}
    if not failed:
        mse = METHODS[run.job.method] * (1 + (run.job.seed - 1.5) / 10)
        own = {"status": "done", "mse": mse, "mae": 1.0}
    identity: dict[str, Any] = {
        "kind": "patcher",
        "ranked": True,
        "method_source": "",
        "data_hash": "",
    }
    record = new_record(
        run.job, Provenance("", ""), **identity, data_verified=True, device="", **own
    )
    return Stored(run, record, 1.0)


def shown(
    capsys: pytest.CaptureFixture[str], due: Sequence[PlannedRun], done: Sequence[PlannedRun]
) -> str:
    """What is printed while these runs are stored; every event comes through."""

    def events() -> Generator[Event]:
        yield Warned("tracking stopped")
        yield from map(stored, done)

    assert len(list(looking(events(), due))) == len(done) + 1
    return capsys.readouterr().out


def test_the_first_complete_task_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Best first, with the change against uniform; a run that failed counts for nothing."""
    due = runs(["ordinal", "const"])
    text = shown(capsys, due, due)
    assert text.count("First rows, ordinal 96->24") == 1
    assert "const" not in text
    lines = [line.split() for line in text.splitlines()]
    assert [line for line in lines if line[:1] and line[0] in METHODS] == [
        ["soft", "2", "0.5000", "-50.0", "%"],
        ["uniform", "2", "1.0000"],
        ["hnet", "1", "1.0450", "+4.5", "%"],
    ]


@pytest.mark.parametrize(
    ("datasets", "methods"), [(["ordinal"], tuple(METHODS)), (["ordinal", "const"], ("soft",))]
)
def test_nothing_is_shown_where_it_would_say_nothing(
    datasets: list[str], methods: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A bench of one task shows its leaderboard next; without uniform there is no change."""
    due = runs(datasets, methods)
    assert shown(capsys, due, due) == ""


def test_an_incomplete_task_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """A mean over fewer runs than the others would be compared with them."""
    due = runs(["ordinal", "const"])
    assert shown(capsys, due, due[:-2]) == ""


def test_events_are_closed_with_their_end() -> None:
    """Whoever stops listening stops the work."""
    closed = []

    def events() -> Generator[Event]:
        try:
            yield Warned("one")
            yield Warned("two")
        finally:
            closed.append(True)

    due = runs(["ordinal", "const"])
    listening = looking(events(), due)
    next(listening)
    listening.close()
    assert closed == [True]
