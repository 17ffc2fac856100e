"""What is seen of a bench while it goes on: bars on a terminal, lines in a pipe."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from harness.bench.estimate import Guess
from harness.bench.events import Blocked, Retried, Said, Started
from harness.bench.execute import Event, Stored, Warned
from harness.bench.survey import PlannedRun
from harness.cli import display, progress
from harness.core.job import Job, Provenance, Record, new_record
from harness.core.task import Task

IDENTITY: dict[str, Any] = {
    "kind": "patcher",
    "ranked": True,
    "method_source": "m",
    "data_hash": "d",
    "data_verified": True,
}
RUNS = [
    PlannedRun(Job("small", "uniform", Task("mitdb", 48, 12, 6), seed), "missing", IDENTITY)
    for seed in (1, 2, 3)
]
GUESSES = {run.key: Guess(100.0, "operations") for run in RUNS}


def stored(run: PlannedRun, seconds: float) -> Stored:
    """A run is over."""
    record = new_record(
        run.job,
        Provenance("c", "v"),
        status="done",
        device="CPU",
        mse=0.5,
        mae=0.25,
        train_seconds=seconds,
        **IDENTITY,
    )
    return Stored(run, record, seconds + 15.0)


def happening() -> Iterator[Event]:
    """Three runs, one after another; the second is tried twice, the third fails to be tracked."""
    first, second, third = RUNS
    yield Started(first)
    for epoch in (1, 2):
        yield Said(first, {"epoch": epoch, "epochs": 4, "valid_mse": 0.5})
    time.sleep(0.25)  # bars are drawn anew ten times a second
    yield stored(first, 300.0)
    yield Started(second)
    yield Retried(second, "killed")
    yield Started(second)
    yield stored(second, 300.0)
    yield Started(third)
    yield stored(third, 300.0)
    yield Warned("tracking stopped")


def plain(shown: str) -> str:
    """What is left without control characters."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", shown)


@pytest.fixture(params=["terminal", "pipe"])
def shown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything that is written while these runs are done."""
    screen = io.StringIO()
    is_terminal = request.param == "terminal"
    console = Console(file=screen, force_terminal=is_terminal, width=160, highlight=False)
    for module in (display, progress):
        monkeypatch.setattr(module, "console", lambda: console)
    finished: list[Record] = []
    progress.follow((event for event in happening()), RUNS, GUESSES, 1, finished)
    assert [record.seed for record in finished] == [1, 2, 3]
    return screen.getvalue()


def test_a_line_at_the_start_and_an_estimate_with_each_run(shown: str) -> None:
    """On a terminal and in a pipe: runs that take thrice as long as thought correct it."""
    lines = plain(shown).splitlines()
    assert lines[0].startswith("Begun, 1 at a time")
    left = [re.search(r"(\d)/3  uniform .*\(about (\d+) min.* left\)", line) for line in lines]
    minutes = {int(found[1]): int(found[2]) for found in left if found}
    assert minutes.keys() == {1, 2}
    assert 6 <= minutes[1] <= 10  # 200 s by the estimate, 600 by the first run
    assert 3 <= minutes[2] <= 5
    assert any("once more: killed" in line for line in lines)
    assert any("tracking stopped" in line for line in lines)


@pytest.mark.parametrize("shown", ["terminal"], indirect=True)
def test_a_terminal_has_a_bar_for_all_runs_and_one_for_each(shown: str) -> None:
    """The first says how long the rest takes."""
    assert re.search(r"all runs [^\n]*0/3 [^\n]*\d s left", plain(shown))
    assert "epoch 2/4, valid 0.5000" in plain(shown)


@pytest.mark.parametrize("shown", ["pipe"], indirect=True)
def test_a_pipe_has_no_moving_parts(shown: str) -> None:
    """One line for what begins, what is over, and what goes wrong."""
    assert "\x1b" not in shown
    assert "all runs" not in shown
    assert len(shown.splitlines()) == 6


def test_runs_that_are_not_begun_have_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """With the run that they need; nothing is left to wait for."""
    first, *behind = RUNS
    happened: list[Event] = [
        Started(first),
        stored(first, 300.0),
        Blocked(first, "no", tuple(behind)),
    ]
    finished: list[Record] = []
    progress.follow((event for event in happened), RUNS, GUESSES, 1, finished)
    assert len(finished) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [f"{first.job}  left nothing to start from; runs that wait for it: 2"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3599.4, "59 min 59 s"),
        (3600 * 2 - 20, "2 h"),
        (3600 * 5.5, "5 h 30 min"),
        (86400 - 20, "1 d"),
        (86400 * 1376 + 3 * 3600, "1,376 d 3 h"),
    ],
)
def test_a_length_of_time_is_said_in_two_units(seconds: float, text: str) -> None:
    """Rounded, and never with sixty of anything."""
    assert display.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00123, "0.00123"), (0.1234, "0.123"), (47.61, "47.6"), (128000.4, "128,000")],
)
def test_numbers_of_any_size_are_readable(value: float, text: str) -> None:
    """Three digits, or all before the point."""
    assert display.number(value) == text
