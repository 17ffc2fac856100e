"""The command line: what is typed, what is shown, what the exit code says."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.bench import execute, local
from harness.bench.events import Tell
from harness.bench.survey import Folders, PlannedRun
from harness.cli import options, verbs
from harness.core.job import Job, Provenance, Record, new_record
from harness.core.task import Task
from harness.model import declared
from harness.results.bundles import write_bundle
from harness.results.rows import read_rows

HERE = Path(__file__).resolve().parent
RESULTS = ("--results", "results")  # not those of the checkout
SUITE = """\
seeds = [1, 2]
methods = ["uniform", "random_step"]

[[tasks]]
datasets = ["mitdb"]
look_back = 48
horizons = [12]
patch = 8

[[tasks]]
datasets = ["ETTh1"]
look_back = 48
horizons = [24]
patch = 8
"""


def stand_in(
    run: PlannedRun,
    tell: Tell,
    *,
    directories: object,
    device: str,
    runs: Path,
    provenance: Provenance,
) -> Record:
    """What a worker does, without training: seed 2 of random_step fails, ETTh1 takes long."""
    assert directories
    tell({"epoch": 1, "epochs": 2, "valid_mse": 0.5})
    if (run.job.method, run.job.seed) == ("random_step", 2):
        raise ValueError("no luck")
    if run.job.task.dataset in ("ETTh1", "electric_devices"):
        time.sleep(60)
    scores: dict[str, Any] = dict.fromkeys(
        ("mse", "mae", "mse_raw", "mae_raw", "mase", "smape"), 0.25
    )
    spent: dict[str, Any] = {"tokens_mean": 6.0, "parameters": 7, "train_seconds": 0.1}
    record = new_record(
        run.job, provenance, status="done", device=device, **run.identity, **scores, **spent
    )
    window = {"values": [0.0, 1.0] * 24, "starts": [0, 8, 16, 24, 32, 40], "true_starts": None}
    shown = {"future": [0.0] * 12, "forecast": [0.5] * 12, "method": run.job.method}
    overlay = {**window, **shown, "dataset": run.job.task.dataset, "seed": run.job.seed}
    write_bundle(runs, record, curves=(), overlay=overlay)
    return record


DRIVER = f"""\
import sys
from pathlib import Path
sys.path[:0] = [{str(HERE.parent)!r}, {str(HERE)!r}]
if __name__ == "__main__":
    import test_cli
    from harness.bench import execute
    from harness.cli import options, verbs
    options.SUITES = Path("suites")
    verbs._tracker = lambda *arguments: None
    execute.run_planned = test_cli.stand_in
    verbs.main()
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user cache without data, in which it is known what methods declare."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def place(tmp_path: Path, cache: Path) -> Path:
    """A folder with a suite and a program that does not train."""
    (tmp_path / "cache").symlink_to(cache)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "small.toml").write_text(SUITE)
    (tmp_path / "driver.py").write_text(DRIVER)
    return tmp_path


def start(place: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    """The program, started in that folder, with a user cache of its own."""
    kept = {name: value for name, value in os.environ.items() if name != "PATCHBENCH_DATA"}
    return subprocess.Popen(
        [sys.executable, "driver.py", *words],
        cwd=place,
        env={**kept, "XDG_CACHE_HOME": str(place / "cache"), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


Answer = tuple[int, str, str]
Verb = Callable[..., Answer]


@pytest.fixture
def verb(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Exit code, output and errors of a verb that needs no worker, in this process."""
    monkeypatch.chdir(place)
    monkeypatch.delenv("PATCHBENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    monkeypatch.setattr(options, "SUITES", Path("suites"))

    def run(*words: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["harness", *words])
        with pytest.raises(SystemExit) as end:
            verbs.main()
        assert isinstance(end.value.code, int)
        return end.value.code, *capsys.readouterr()

    return run


def test_help_loads_nothing_heavy() -> None:
    """Whoever asks for help does not wait for torch."""
    script = (
        "import runpy, sys\n"
        "sys.argv = ['harness', '--help']\n"
        "try:\n"
        "    runpy.run_module('harness', run_name='__main__')\n"
        "except SystemExit:\n"
        "    print(sorted(sys.modules))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert "leaderboard" in out
    heavy = ("torch", "numpy", "pandas", "mlflow", "optuna", "seaborn", "matplotlib", "sktime")
    assert [name for name in heavy if f"'{name}'" in out] == []


def test_a_suite_runs_fails_in_part_and_goes_on_from_there(place: Path, verb: Verb) -> None:
    """One line a run, a summary, the leaderboard; only what failed is due again."""
    process = start(place, "bench", "--suite", "small", "--jobs", "1", *RESULTS)
    out, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (1, "")
    assert "\x1b" not in out  # no terminal, no control characters
    assert out.count("ETTh1 (2.6 MB)") == 1  # named once
    first = out.index("Suite 'small': 8 of 8 runs to do.")
    assert first < out.index("CPU-hours") < out.index("Begun, 1 at a time") < out.index("1/4  ")
    assert out.index("not here: ETTh1 (2.6 MB)") < out.index("Begun, 1 at a time")
    assert all(" left)" in line for line in out.splitlines() if re.match(r" +[123]/4 ", line))
    assert "1/4  uniform      mitdb 48->12 K=6 seed=1  mse 0.2500  mae 0.2500" in out
    assert "random_step  mitdb 48->12 K=6 seed=2  FAILED: ValueError: no luck" in out
    failed = next(line for line in out.splitlines() if line.startswith("failed: random_step"))
    assert "no luck" in (place / failed.rsplit("see ")[1]).read_text()
    assert "# Leaderboard: small" in out
    assert (place / "results" / "small" / "leaderboard.md").exists()
    drawn = place / "results" / "small" / "report" / "patches-mitdb-48-12.svg"
    assert "random_step" in drawn.read_text()
    drawn.unlink()
    for bundle in (place / "results" / "runs").glob("*/overlay.json"):
        bundle.unlink()
    verbs._show_leaderboard(place / "results" / "small")
    assert not drawn.exists()  # without all bundles, none is drawn and none replaced

    code, out, _ = verb("bench", "--suite", "small", "--plan", *RESULTS)
    assert code == 0
    assert "8 runs: 3 done, 1 failed, 4 absent" in out

    code, out, _ = verb("status", "--suite", "small", "--by", "method,dataset", *RESULTS)
    counts = [line.split() for line in out.splitlines() if "mitdb  " in line or "  ETTh1" in line]
    assert code == 0
    assert "exception: random_step mitdb (1): ValueError: no luck" in out
    assert "Nothing is running." in out
    assert counts == [
        ["uniform", "mitdb", "2", "2", "·", "·"],
        ["random_step", "mitdb", "2", "1", "1", "·"],
        ["uniform", "ETTh1", "2", "·", "·", "2"],
        ["random_step", "ETTh1", "2", "·", "·", "2"],
    ]

    only = ("--datasets", "mitdb", "--methods", "uniform")
    code, out, _ = verb("bench", "--suite", "small", *only, *RESULTS)
    assert code == 0
    assert "All 2 runs of suite 'small' are done" in out
    assert "FORCE=1" in out
    assert "RESULTS=dir" in out


def lines_of(out: str, *first: str) -> list[list[str]]:
    """The words of the lines that begin with one of these."""
    lines = [line.split() for line in out.splitlines()]
    return [words for words in lines if words[:1] and words[0] in first]


def test_a_plan_runs_nothing(place: Path, verb: Verb) -> None:
    """It has a line a data set, and says how long all takes and what is fetched first."""
    plan = ("bench", "--suite", "small", "--plan", *RESULTS)
    code, out, _ = verb(*plan)
    assert code == 0
    assert [words[:3] for words in lines_of(out, "mitdb", "ETTh1")] == [
        ["mitdb", "4", "4"],
        ["ETTh1", "4", "·"],
    ]
    assert "8 runs: 4 missing, 4 absent" in out
    assert re.search(
        r"(About|Less than) [\d.]+ CPU-hours, so .* at a time; estimated, roughly, of \d", out
    )
    assert "not here: ETTh1" in out
    _, out, _ = verb(*plan, "--no-offline")
    assert "Fetched first, unless OFFLINE=1 (--offline): ETTh1 (2.6 MB)." in out
    assert "not here" not in out
    assert not (place / "results").exists()


def test_a_plan_says_what_is_wrong_with_own_data(place: Path, verb: Verb) -> None:
    """A file too short for its task, a value that is far out, and a file that cannot be read."""
    hours = pd.date_range("2024-01-01", periods=160, freq="h")
    frame = pd.DataFrame({"date": hours, "load": np.arange(160) % 7.0})
    frame.head(40).to_csv(place / "short.csv", index=False)
    frame.to_csv(place / "semicolon.csv", index=False, sep=";")
    frame.assign(load=frame.load.where(frame.index != 3, -9999)).to_csv(
        place / "far.csv", index=False
    )
    blocks = "".join(
        f'[data.{name}]\npath = "../{name}.csv"\nfrequency = "h"\nseason = 24\n'
        for name in ("short", "far", "semicolon")
    )
    tasks = SUITE.partition("[[tasks]]")[2].partition("[[tasks]]")[0]
    tasks = tasks.replace('"mitdb"', '"short", "far", "semicolon"').replace("48", "24")
    own = f'seeds = [1]\nmethods = ["uniform"]\n{blocks}[[tasks]]{tasks}'
    (place / "suites" / "own.toml").write_text(own)
    code, out, _ = verb("bench", "--suite", "own", "--plan", *RESULTS)
    assert code == 0
    assert "3 runs: 2 broken, 1 missing" in out
    assert "error: the training part of short has 28 steps with its look-back" in out
    assert 'separator = ";" finds the header' in out
    assert "warning: data set 'far': row 4, column 'load': -9999 lies more than 50 robust" in out


def test_a_plan_has_a_line_for_whatever_one_asks(verb: Verb) -> None:
    """A method, several columns together, or each run with its key."""
    plan = ("bench", "--suite", "small", "--plan", *RESULTS)
    _, out, _ = verb(*plan, "--by", "method")
    assert [words[:4] for words in lines_of(out, "uniform", "random_step")] == [
        ["uniform", "4", "2", "2"],
        ["random_step", "4", "2", "2"],
    ]
    _, out, _ = verb(*plan, "--by", "horizon,seed")
    assert [words[:3] for words in lines_of(out, "12", "24")] == [
        ["12", "1", "2"],
        ["12", "2", "2"],
        ["24", "1", "2"],
        ["24", "2", "2"],
    ]
    _, out, _ = verb(*plan, "--by", "run", "--datasets", "mitdb", "--seeds", "2")
    runs = lines_of(out, "missing")
    assert [words[1:7] for words in runs] == [
        [method, "mitdb", "48", "12", "6", "2"] for method in ("uniform", "random_step")
    ]
    assert all(re.fullmatch(r"[0-9a-f]{16}", words[7]) for words in runs)


def test_a_plan_of_days_names_a_smaller_command(place: Path, verb: Verb) -> None:
    """One that can be typed as it stands, with the methods that were asked for."""
    text = SUITE.replace("mitdb", "electricity").replace("ETTh1", "traffic")
    long = text.replace("[[tasks]]", "[budget]\nepochs = 99\n\n[[tasks]]", 1)
    (place / "suites" / "small.toml").write_text(long)
    asked = ("--methods", "uniform", "--jobs", "1", *RESULTS)
    _, out, _ = verb("bench", "--suite", "small", "--plan", *asked)
    assert re.search(r"About .* CPU-hours, so \d+ (h|d) .*with 1 at a time", out)
    smaller = re.search(r"Smaller: 1 runs in about .*: make bench (.*)", out)
    assert smaller is not None
    words = dict(word.split("=") for word in smaller[1].split())
    assert words == {
        "SUITE": "small",
        "METHODS": "uniform",
        "DATASETS": "electricity",
        "LOOK_BACKS": "48",
        "HORIZONS": "12",
        "SEEDS": "1",
    }


def test_a_plan_says_why_a_run_cannot_be_done(place: Path, verb: Verb) -> None:
    """A data block with a wrong suffix costs its own runs, and says so once."""
    own = '[data.table]\npath = "table.xlsx"\nfrequency = "h"\nseason = 24\n'
    text = SUITE.replace('["mitdb"]', '["mitdb", "table"]')
    (place / "suites" / "small.toml").write_text(text + own)
    code, out, _ = verb("bench", "--suite", "small", "--plan", "--seeds", "2", *RESULTS)
    assert code == 0
    assert re.search(r"6 runs: (?=.*2 missing)(?=.*2 broken)(?=.*2 absent)", out)
    assert out.count("error: 'table.xlsx' is no file that can be read; allowed: .parquet") == 1


def test_a_method_that_cannot_be_loaded_hides_no_other(
    place: Path, verb: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is listed with the others, why it cannot be used stands below, and the verb fails."""
    (place / "methods").mkdir()
    (place / "methods" / "torn.py").write_text("import nothing_there\n")
    (place / "methods" / "two words.py").write_text("import nothing_there\n")
    shutil.copy(HERE.parent / "methods" / "uniform.py", place / "methods")
    known = partial(declared.Declarations, folder=place / "methods")
    monkeypatch.setattr(declared, "Declarations", known)
    code, out, _ = verb("methods")
    assert code == 1
    assert re.search(r"uniform +strict", out)
    assert re.search(r"torn +cannot be used", out)
    assert "torn.py cannot be loaded: line 1: ModuleNotFoundError" in out
    assert "error: 'two words' cannot be a name: a name is of letters" in out


@pytest.mark.parametrize("where", ["here", "cluster"])
def test_a_run_that_starts_from_another_is_told_to_wait_for_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Wherever runs are done; a cluster is sent the data file, and the bundle of the other."""
    folders = Folders(place / "results", (place / "data",), place / "cache")
    identity = {"method_source": "m", "data_hash": "d"}
    first, second = (
        PlannedRun(Job("small", "uniform", Task(name, 48, 12, 6), 1), "missing", identity)
        for name in ("mitdb", "ETTh1")
    )
    second = replace(second, needs=first.key)
    given: dict[str, Any] = {}

    def executor(jobs: object, **options: object) -> Generator[Any]:
        given.update(options)
        yield from ()

    monkeypatch.setattr(local, "run_locally", executor)
    monkeypatch.setattr(verbs, "_tracker", lambda *_: None)
    on_ray = executor if where == "cluster" else None
    assert [
        *verbs._events("small", [second, first], folders, ([], "cpu"), on_ray, 9.0, None)
    ] == []
    assert [given["key"](run) for run in (first, second)] == [first.key, second.key]
    assert [given["after"](run) for run in (first, second)] == [None, first.key]
    assert given["flaw"] is execute.flaw
    assert given["timeout"] == 9.0
    if where == "cluster":
        (place / "data").mkdir()
        (place / "data" / "ETTh1.csv").touch()
        bundle = folders.runs / first.key
        assert list(given["needs"](first)) == []  # its data set is embedded
        assert list(given["needs"](second)) == [place / "data" / "ETTh1.csv", bundle]


@pytest.mark.parametrize("name", ["validate", "track"])
def test_a_folder_that_is_not_there_is_no_good_news(verb: Verb, name: str) -> None:
    """Neither is it made."""
    code, out, errors = verb(name, "--results", "nowhere")
    assert (code, out) == (2, "")
    assert errors.strip() == "error: there is no folder nowhere"
    assert not Path("nowhere").exists()


def test_a_suite_that_lies_elsewhere_is_planned_under_the_name_of_its_file(
    place: Path, verb: Verb
) -> None:
    """SUITE may be a path; the file need not be in the checkout."""
    (place / "mine").mkdir()
    (place / "suites" / "small.toml").rename(place / "mine" / "own.toml")
    words = ("--suite", "mine/own.toml", "--datasets", "mitdb", *RESULTS)
    code, out, _ = verb("bench", "--plan", *words)
    assert (code, "4 runs: 4 missing" in out) == (0, True)
    assert verb("status", *words)[0] == 0
    code, _, errors = verb("leaderboard", "--suite", "mine/own.toml", *RESULTS)
    assert (code, "results/own holds no records" in errors) == (2, True)
    code, _, errors = verb("bench", "--suite", "mine/none.toml", *RESULTS)
    assert (code, errors) == (2, "error: there is no suite mine/none.toml\n")


def test_without_a_driver_no_gpu_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch, which would look, is not even loaded."""

    def refuse(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it fails
    slots, device = options.slots_of("auto", 2)
    assert (len(slots), device) == (2, "cpu")
    with pytest.raises(ValueError, match="no GPU can be seen"):
        options.slots_of("cuda", 2)


def test_without_any_data_nothing_could_run(verb: Verb) -> None:
    """That is a failure, and the message says what to type."""
    code, out, _ = verb("bench", "--suite", "small", "--datasets", "ETTh1", *RESULTS)
    assert code == 1
    assert "make data DATASETS=ETTh1" in out


def test_data_sets_are_listed_with_where_they_are(verb: Verb) -> None:
    """Without a selection nothing is downloaded."""
    code, out, _ = verb("data")
    states = {line.split()[0]: line for line in out.splitlines() if line.split()}
    assert code == 0
    assert "embedded" in states["mitdb"]
    assert "not at hand" in states["ETTh1"]


def rows_of(place: Path, *names: str) -> list[Record]:
    """What a suite has stored so far."""
    folder = place / "results" / "small"
    return [record for name in names for record in read_rows(folder / f"{name}.csv")]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_gone(group: int) -> bool:
    """Whether no process of the group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


SLOW = SUITE.replace("ETTh1", "electric_devices")


def test_what_is_going_on_can_be_seen_while_it_does_and_ctrl_c_ends_it(
    place: Path, verb: Verb
) -> None:
    """Status from another terminal; then finished runs are kept, and no process stays."""
    (place / "suites" / "small.toml").write_text(SLOW)
    words = ("--suite", "small", "--methods", "uniform", "--seeds", "1", *RESULTS)
    process = start(place, "bench", "--jobs", "1", *words)
    wait_until(lambda: len(rows_of(place, "uniform")) == 1)
    wait_until(lambda: "1/2" in verb("status", *words)[1])
    code, out, _ = verb("status", "--by", "method,dataset", *words)
    assert code == 0
    assert f"Process {process.pid}, suite 'small', since" in out
    assert "1 of 2 runs are over" in out
    assert "uniform electric_devices 48->24 K=6 seed=1" in out
    counts = [line.split() for line in out.splitlines() if line.split()[:1] == ["uniform"]]
    assert counts[1][:4] == ["uniform", "electric_devices", "1", "1"]
    code, _, errors = verb("bench", *words)
    assert code == 2
    assert f"is in use by process {process.pid}" in errors

    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    assert "Interrupted: 1 of 2 runs are left" in out
    assert [record.dataset for record in rows_of(place, "uniform")] == ["mitdb"]
    wait_until(lambda: is_gone(process.pid))
    assert "Nothing is running." in verb("status", *words)[1]


def test_a_parent_that_is_killed_loses_no_finished_run(place: Path, verb: Verb) -> None:
    """Rows that it had not written yet are taken from the bundles, once."""
    words = ("--suite", "small", "--methods", "uniform", "--datasets", "mitdb", *RESULTS)
    process = start(place, "bench", "--jobs", "1", *words)
    process.communicate(timeout=120)
    assert process.returncode == 0
    rows = rows_of(place, "uniform")
    (place / "results" / "small" / "uniform.csv").unlink()
    code, out, _ = verb("bench", *words)
    assert code == 0
    assert "2 runs had finished but had no row" in out
    assert "All 2 runs of suite 'small' are done" in out
    assert rows_of(place, "uniform") == rows
    assert "had no row" not in verb("bench", *words)[1]


def test_a_full_disk_ends_the_bench_and_costs_nothing(place: Path, small_disk: Path) -> None:
    """Exit code 2, a message, no half-written file; with room again the same command goes on."""
    only = ("--suite", "small", "--methods", "uniform", "--datasets", "mitdb")
    words = ("bench", *only, "--jobs", "1", "--results", str(small_disk / "results"))
    filler = small_disk / "filler"
    filler.write_bytes(b"0" * (2**20 - 3 * 4096))
    process = start(place, *words)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "results cannot be written in" in errors
    assert "No space left on device" in errors
    assert "the same command goes on from here" in errors
    assert errors.count("\n") == 1
    written = [path for path in small_disk.rglob("*") if path.is_file()]
    assert [path for path in written if path.name.startswith(".")] == []
    filler.unlink()
    process = start(place, *words)
    process.communicate(timeout=120)
    assert len(read_rows(small_disk / "results" / "small" / "uniform.csv")) == 2


def test_a_folder_that_may_not_be_written_is_said_before_any_work(
    place: Path, small_disk: Path, verb: Verb
) -> None:
    """Root may write anywhere but on a disk that is mounted for reading only."""
    (small_disk / "results").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)  # noqa: S607 - from PATH, as on every Linux
    (place / "results").mkdir()
    (place / "results" / "small").symlink_to(small_disk)  # the rows' folder alone
    for results in (small_disk / "results", place / "results"):
        code, out, errors = verb("bench", "--suite", "small", "--results", str(results))
        assert code == 2
        assert "1/4" not in out
        assert "results cannot be written in" in errors
        assert "Read-only file system" in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("bench", "--suite", "smal"), "unknown suite 'smal'; did you mean 'small'?"),
        (("bench", "--suite", "small", "--datasets", "x"), "suite 'small': unknown data set 'x'"),
        (("bench", "--suite", "small", "--seeds", "x"), "--seeds x: whole numbers"),
        (("status", "--suite", "small", "--methods", "unifrom"), "did you mean 'uniform'"),
        (("bench", "--suite", "small", "--data", "none"), "--data none (or PATCHBENCH_DATA)"),
        (("bench", "--suite", "small", "--device", "tpu", *RESULTS), "--device tpu: auto, cpu or"),
        (("status", "--suite", "small", "--by", "data"), "--by data: unknown column 'data'"),
        (("bench", "--suite", "small", "--plan", "--by", ","), "--by ,: one of method, dataset"),
        (("leaderboard", "--suite", "small", *RESULTS), "small holds no records"),
        (("hindsight", "--suite", "small", *RESULTS), "has no finished run of random_step: run"),
        (("data", "--datasets", "ETTh3"), "unknown data set 'ETTh3'"),
    ],
)
def test_what_the_user_can_put_right_is_said_in_one_line(
    verb: Verb, words: tuple[str, ...], message: str
) -> None:
    """No traceback, exit code 2."""
    code, _, errors = verb(*words)
    assert code == 2
    assert message in errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1


def test_an_unwritable_results_folder_is_said_at_once(place: Path, verb: Verb) -> None:
    """Before any work is done."""
    (place / "file").write_text("")
    code, _, errors = verb("bench", "--suite", "small", "--results", "file")
    assert code == 2
    assert "Not a directory" in errors
