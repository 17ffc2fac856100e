"""One bench at a time, and what others can see of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.bench import watch

SUITE = "small"
HOLD = """\
import sys
from pathlib import Path
from harness.bench import watch
with watch.alone(Path(sys.argv[1]), 'small'):
    board = watch.Board(Path(sys.argv[1]), "small", 3)
    board.begin("key", "a run", 1)
    print("held", flush=True)
    sys.stdin.read()
    board.close()
"""


# As `holder` does, but for longer, and often.
LOOK = """\
import fcntl, sys, time
with open(sys.argv[1]) as file:
    print("on", flush=True)
    while True:
        fcntl.flock(file, fcntl.LOCK_SH)
        time.sleep(0.02)
        fcntl.flock(file, fcntl.LOCK_UN)
        time.sleep(0.2)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_one_bench_at_a_time_holds_the_results_of_a_suite(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    """A second one declines, naming the first; afterwards they are free."""
    message = (
        f"suite 'small' in .* is in use by process {other.pid}: wait until it has fin.* .WAIT=1"
    )
    with pytest.raises(ValueError, match=message), watch.alone(tmp_path, SUITE):
        pass
    assert watch.holder(tmp_path, SUITE) == other.pid
    other.communicate("")
    with watch.alone(tmp_path, SUITE):
        assert watch.holder(tmp_path, SUITE) == os.getpid()
    assert watch.holder(tmp_path, SUITE) is None


def test_two_suites_do_not_stand_in_each_others_way(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    """Both are at work in one folder; what the other has half-written stays."""
    half = tmp_path / "runs" / ".key.4194304"  # of another machine: no process here has that id
    half.mkdir()
    with watch.alone(tmp_path, "other"):
        assert watch.holder(tmp_path, "other") == os.getpid()
        assert watch.holder(tmp_path, SUITE) == other.pid
        going = watch.progress(tmp_path, SUITE)
        assert going is not None
        assert going.process == other.pid
        assert watch.progress(tmp_path, "other") is None
    assert half.exists()


def test_a_second_bench_waits_where_that_is_asked_for(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    """It is told whom it waits for, and goes on when that one has ended."""
    told = []

    def wait(process: int) -> None:
        told.append(process)
        assert other.stdin is not None
        other.stdin.close()

    with watch.alone(tmp_path, SUITE, wait):
        assert watch.holder(tmp_path, SUITE) == os.getpid()
    assert told == [other.pid]


def test_a_glance_does_not_stand_in_the_way_of_a_bench(tmp_path: Path) -> None:
    """Whoever asks who holds the folder holds it for a moment himself."""
    with watch.alone(tmp_path, SUITE):
        pass
    with subprocess.Popen(
        [sys.executable, "-c", LOOK, tmp_path / "runs" / "lock-small"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            for _ in range(50):
                time.sleep(0.01)
                with watch.alone(tmp_path, SUITE):
                    pass
        finally:
            process.kill()


def test_what_a_bench_does_is_seen_as_long_as_it_lives(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    """A killed one leaves its note behind, which counts no more."""
    going = watch.progress(tmp_path, SUITE)
    assert going is not None
    assert (going.process, going.suite, going.planned, going.stored) == (other.pid, "small", 3, 0)
    assert [(run.job, run.epoch) for run in going.running] == [("a run", None)]
    assert 0 <= time.time() - going.since < 300
    other.kill()
    other.wait()
    assert (tmp_path / "runs" / "running-small.json").exists()
    assert watch.progress(tmp_path, SUITE) is None
    assert watch.holder(tmp_path, SUITE) is None
    with watch.alone(tmp_path, SUITE):
        assert watch.progress(tmp_path, SUITE) is None  # nor for the next one


def test_nothing_is_seen_where_nothing_was(tmp_path: Path) -> None:
    """Neither a folder without a lock nor one that has ended."""
    assert watch.progress(tmp_path / "none", SUITE) is None
    with watch.alone(tmp_path, SUITE):
        board = watch.Board(tmp_path, "small", 1)
        board.begin("key", "a run", 2)
        board.end("key", stored=True)
        going = watch.progress(tmp_path, SUITE)
        board.close()
        assert going is not None
        assert (going.stored, going.running) == (1, ())
        assert watch.progress(tmp_path, SUITE) is None


def test_who_holds_the_folder_clears_what_dead_processes_began(
    tmp_path: Path, other: subprocess.Popen[str]
) -> None:
    """Half-written files and bundles, beside rows and among the runs."""
    left = [
        tmp_path / "small" / f".uniform.csv.{other.pid}",
        tmp_path / "runs" / f".key.{other.pid}",
    ]
    left[0].parent.mkdir()
    left[0].write_text("half")
    left[1].mkdir()
    other.kill()
    other.wait()
    with watch.alone(tmp_path, SUITE):
        assert [path.exists() for path in left] == [False, False]
