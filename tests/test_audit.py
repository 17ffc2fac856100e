"""Committed rows are not taken on trust: every kind of mistake is named with its line."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness import data
from harness.bench import audit, local, suite
from harness.bench.plan import plan
from harness.cli import options, verbs
from harness.core.job import Job, Provenance, Record, job_key, job_of, new_record
from harness.core.protocol import PROTOCOL
from harness.model import registry
from harness.report import tables
from harness.results.bundles import write_bundle
from harness.results.compare import measured_differences
from harness.results.rows import put_row, read_rows, write_rows
from harness.results.table import METRICS
from harness.run import windows
from harness.run.job import run

SUITE = """\
seeds = [1, 2]
methods = ["uniform", "random_step", "hnet"]

[budget]
epochs = 2
steps = 3
batch = 8

[forecaster]
width = 8
layers = 1
heads = 2
feedforward = 8

[[tasks]]
datasets = ["const"]
look_back = 96
horizons = [24]
patches = 12
"""
PROVENANCE = Provenance("0" * 40, "python 3.11.7")


def rows(suites: Path) -> list[Record]:
    """A row for each run of the suite, as if it had been done."""
    return [recorded(job) for job in plan(suite.find("small", suites))]


def recorded(job: Job, **changes: Any) -> Record:  # noqa: ANN401 - columns of any type
    """The row of a job, with what a run of it would say, or other things."""
    method = registry.find(job.method)
    job = replace(
        job,
        hyperparameters=tuple(
            registry.complete_hyperparameters(method, dict(job.hyperparameters)).items()
        ),
    )
    series = data.load("const", ())
    said: dict[str, Any] = {
        "status": "done",
        **registry.declared(method),
        "method_source": registry.source_hash(method),
        "data_hash": series.hash,
        "data_verified": True,
        "device": "CPU",
        **dict.fromkeys(METRICS, 0.5),
        **dict.fromkeys(("tokens_mean", "tokens_p95", "tokens_padded"), 12.0),
        "windows": len(windows.test(series, job.task)),
        "epochs": 2,
        "steps": 6,
    }
    return new_record(job, PROVENANCE, **said | changes)


@pytest.fixture
def suites(tmp_path: Path) -> Path:
    """The folder of a suite called small."""
    folder = tmp_path / "suites"
    folder.mkdir()
    (folder / "small.toml").write_text(SUITE)
    return folder


@pytest.fixture
def results(tmp_path: Path, suites: Path) -> Path:
    """Results in which nothing is wrong: line 2 is of seed 1, line 3 of seed 2."""
    for record in rows(suites):
        put_row(tmp_path / "results" / "small" / f"{record.method}.csv", record)
    return tmp_path / "results"


def edit(path: Path, line: int, **fields: str) -> None:
    """Write something else into columns of one line."""
    with path.open(newline="") as file:
        head, *lines = csv.reader(file)
    for column, text in fields.items():
        lines[line - 2][head.index(column)] = text
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *lines])


def found(results: Path, suites: Path) -> list[tuple[str, int, str]]:
    """What is wrong: file, line, and the words for it."""
    problems = audit.validate(results, suites)
    return [(problem.path.name, problem.line, problem.what) for problem in problems]


def test_rows_as_a_bench_leaves_them_are_accepted(results: Path, suites: Path) -> None:
    """Nothing is wrong with them, with failed ones either, nor with the tables made of them."""
    assert found(results, suites) == []
    [job, *_] = plan(suite.find("small", suites), methods=["uniform"])
    nothing = dict.fromkeys([*METRICS, "windows", "epochs", "steps", "tokens_mean", "tokens_p95"])
    failed = recorded(job, status="failed", tokens_padded=None, **nothing)
    put_row(results / "small" / "uniform.csv", failed)
    tables.write(results / "small", holes="show")
    assert found(results, suites) == []


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"mse": "nan"}, "mse is nan; a record holds finite numbers only"),
        ({"mae": "inf"}, "mae is inf; a record holds finite numbers only"),
        ({"seed": "x"}, "column 'seed' holds 'x'; a whole number is expected"),
        ({"status": "fine"}, "status is 'fine'; allowed: done, failed, diverged"),
        ({"job": "{}"}, "the job is none: suite, method, task, seed, hyperparameters, "),
        ({"seed": "3"}, "seed is 3, in its job it is 2"),
        ({"horizon": "48"}, "horizon is 48, in its job it is 24"),
        ({"suite": "large"}, "suite is 'large' in a folder of 'small'"),
        ({"method": "hnet"}, "method is 'hnet' in a file of 'uniform'"),
        ({"kind": "reference"}, "kind is 'reference', that of the method is 'patcher'"),
        ({"ranked": "False"}, "ranked is False, that of the method is True"),
        ({"windows": "100"}, "windows is 100, the protocol has "),
        ({"epochs": "3"}, "epochs is 3, the budget is 2"),
        ({"steps": "7"}, "steps is 7, the budget is 6"),
        ({"tokens_mean": "11.5"}, "tokens are [11.5, 12.0], the method gives 12"),
        ({"tokens_padded": "16"}, "tokens are up to 16.0, at most 15 are allowed at K = 12"),
        (
            {"tokens_mean": "", "tokens_p95": "", "tokens_padded": ""},
            "tokens are up to 0, at most",
        ),
        ({"data_hash": "abc"}, "data_hash is abc..., that of const "),
        ({"method_source": "abc"}, "stale: the method was edited"),
        ({"protocol": "0"}, f"stale: protocol 0 -> {PROTOCOL}"),
        ({"trials": "20"}, "trials is 20, its search had 0"),
        ({"key": "0123456789abcdef"}, "key is 0123456789abcdef, the row gives "),
    ],
)
def test_a_wrong_field_is_named(
    results: Path, suites: Path, fields: dict[str, str], what: str
) -> None:
    """With its file, its line, what stands there and what should."""
    edit(results / "small" / "uniform.csv", 3, **fields)
    problems = found(results, suites)
    assert ("uniform.csv", 3) in {(name, line) for name, line, _ in problems}
    assert [said for name, line, said in problems if line == 3 and said.startswith(what)]
    assert not [said for name, line, said in problems if name != "uniform.csv"]


def test_a_run_is_held_to_the_test_windows_of_its_budget(results: Path, suites: Path) -> None:
    """A row of a trial says as many as the suite gives it, and no others."""
    (suites / "small.toml").write_text(SUITE.replace("[budget]", "[budget]\ntest_windows = 50"))
    for row in rows(suites):
        put_row(results / "small" / f"{row.method}.csv", replace(row, windows=50))
    assert found(results, suites) == []
    edit(results / "small" / "uniform.csv", 2, windows="2000")
    assert "windows is 2000, the budget has 50" in {what for *_, what in found(results, suites)}


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (
            lambda job: replace(job, budget=replace(job.budget, epochs=9)),
            "stale: other settings: budget.epochs 9 -> 2",
        ),
        (lambda job: replace(job, seed=7), "not of this suite: it does not plan uniform const"),
        (
            lambda job: replace(job, task=replace(job.task, patches=10)),
            "not of this suite: it does not plan uniform const 96->24 K=10 seed=1",
        ),
    ],
)
def test_a_row_of_a_run_that_is_not_planned_is_named(
    results: Path, suites: Path, other: Callable[[Job], Job], what: str
) -> None:
    """Its key is right; it is another run, and the page would mix it with those of the suite."""
    [job, *_] = plan(suite.find("small", suites), methods=["uniform"])
    tokens = dict.fromkeys(("tokens_mean", "tokens_p95", "tokens_padded"), other(job).task.patches)
    path = results / "small" / "uniform.csv"
    kept = [record for record in read_rows(path) if record.seed == 2]
    write_rows(path, [*kept, recorded(other(job), **tokens)])
    [(name, _, said)] = found(results, suites)
    assert name == "uniform.csv"
    assert said.startswith(what)


def test_a_row_is_held_to_its_bundle(results: Path, suites: Path) -> None:
    """An error that was edited by hand is named; without a bundle nobody can tell."""
    path = results / "small" / "uniform.csv"
    for record in read_rows(path):
        write_bundle(results / "runs", record, curves=(), overlay=None)
    assert found(results, suites) == []
    edit(path, 3, mse="0.4", train_seconds="9.0")
    assert found(results, suites) == [
        ("uniform.csv", 3, "mse is 0.4, in its bundle it is 0.5"),
        ("uniform.csv", 3, "train_seconds is 9.0, in its bundle it is None"),
    ]
    shutil.rmtree(results / "runs")
    assert found(results, suites) == []


def test_the_bundle_of_another_suite_tells_what_was_measured(results: Path, suites: Path) -> None:
    """The same run in two suites is one key and one bundle: times differ, errors must not."""
    path = results / "small" / "uniform.csv"
    first, _ = read_rows(path)
    job = replace(job_of(first), suite="large")
    large = recorded(job, train_seconds=7.0)
    assert large.key == first.key
    write_bundle(results / "runs", large, curves=(), overlay=None)
    assert found(results, suites) == []
    edit(path, 2, mse="0.4")
    assert found(results, suites) == [("uniform.csv", 2, "mse is 0.4, in its bundle it is 0.5")]


def test_a_folder_that_is_not_there_is_no_folder_without_mistakes(tmp_path: Path) -> None:
    """A misspelt path must not look like good news."""
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        audit.validate(tmp_path / "nowhere", tmp_path)


def test_a_run_that_is_there_twice_is_named(results: Path, suites: Path) -> None:
    """The second line says where the first one is."""
    path = results / "small" / "uniform.csv"
    path.write_text(path.read_text() + path.read_text().splitlines(keepends=True)[1])
    problems = found(results, suites)
    assert [(name, line) for name, line, _ in problems] == [("uniform.csv", 4)]
    assert problems[0][2].endswith("is there already: " + f"{path}, line 2")


def test_every_problem_is_listed(results: Path, suites: Path) -> None:
    """Damaged lines do not hide what is wrong with others, nor one file what is in another."""
    folder = results / "small"
    edit(folder / "uniform.csv", 2, mse="much", windows="3")
    edit(folder / "uniform.csv", 3, windows="3", epochs="5")
    edit(folder / "hnet.csv", 2, mse="inf")
    (folder / "random_step.csv").write_text(
        (folder / "uniform.csv").read_text().replace(",kind,", ",")
    )
    problems = found(results, suites)
    assert [(name, line) for name, line, _ in problems] == [
        ("hnet.csv", 2),
        ("random_step.csv", 1),
        ("uniform.csv", 2),
        ("uniform.csv", 3),
        ("uniform.csv", 3),
    ]


def test_a_method_that_is_not_here_is_named(results: Path, suites: Path) -> None:
    """Rows without their code cannot be checked, and nobody could run them again."""
    text = (results / "small" / "uniform.csv").read_text()
    (results / "small" / "unifrom.csv").write_text(text.replace("uniform", "unifrom"))
    said = {what for name, _, what in found(results, suites) if name == "unifrom.csv"}
    assert any(
        what.startswith("unknown method 'unifrom'; did you mean 'uniform'?") for what in said
    )


def test_rows_of_no_suite_are_named(results: Path, suites: Path) -> None:
    """A folder without its suite is said once, whatever its rows."""
    (suites / "small.toml").rename(suites / "other.toml")
    [(name, line, what)] = found(results, suites)
    assert (name, line) == ("small", 0)
    assert what.startswith("unknown suite 'small'")
    assert what.endswith("the rows of a suite that is kept elsewhere cannot be checked")


def test_what_no_row_shows_by_itself_is_named_too(results: Path, suites: Path) -> None:
    """A number that the record may lack and the ranking needs."""
    edit(results / "small" / "uniform.csv", 2, mase="")
    [(name, line, what)] = found(results, suites)
    assert (name, line) == ("small", 0)
    assert "uniform.csv, line 2: mase is ''; needed: a finite number" in what


def test_the_verb_lists_all_and_fails(
    results: Path,
    suites: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 1 and a line for each problem; without any, a sentence."""
    monkeypatch.setattr(options, "SUITES", suites)
    verbs.validate(results)
    assert "Every row in" in capsys.readouterr().out
    edit(results / "small" / "uniform.csv", 3, windows="3")
    with pytest.raises(SystemExit, match="1"):
        verbs.validate(results)
    said = capsys.readouterr()
    assert f"{results / 'small' / 'uniform.csv'}, line 3: windows is 3" in said.out
    assert "1 problems" in said.err


def test_a_job_is_told_by_its_row(suites: Path, tmp_path: Path) -> None:
    """With hyperparameters, budget and own file described, so that it can be run again."""
    own = data.Source(tmp_path / "a.csv", "h", 24, columns=("x", "y"))
    [job, *_] = plan(suite.find("small", suites), methods=["hnet"])
    record = recorded(replace(job, source=own))
    told = job_of(record)
    assert (told.task, told.budget, told.architecture) == (job.task, job.budget, job.architecture)
    assert told.source == own
    assert job_key(told, record.method_source, record.data_hash) == record.key


def test_a_run_repeated_measures_the_same(suites: Path, tmp_path: Path) -> None:
    """To the last digit, in a worker as the bench has them; what differs is shown."""
    [job, *_] = plan(suite.find("small", suites), methods=["uniform"])
    [slot] = local.cpu_slots(1)
    settings: dict[str, Any] = {"directories": (), "device": "cpu", "provenance": PROVENANCE}
    path = tmp_path / "results" / "small" / "uniform.csv"
    put_row(path, run(job, runs=tmp_path / "runs", **settings))
    before = path.read_bytes()
    [record] = read_rows(path)
    again = audit.rerun(audit.find(record.key, tmp_path / "results"), slot=slot, **settings)
    assert measured_differences(record, again) == []
    assert again.key == record.key
    assert path.read_bytes() == before
    edited = replace(record, mse=2 * (again.mse or 0), tokens_mean=None)
    [difference] = measured_differences(edited, again)
    assert str(difference) == f"mse: {edited.mse} -> {again.mse} (-50 %)"


def test_a_run_that_fails_when_repeated_says_why(suites: Path) -> None:
    """The error of the worker, and the key."""
    [job, *_] = plan(suite.find("small", suites), methods=["uniform"])
    record = recorded(replace(job, task=replace(job.task, dataset="ETTh1")))
    [slot] = local.cpu_slots(1)
    with pytest.raises(ValueError, match=rf"{record.key} fails now: FileNotFoundError: not here"):
        audit.rerun(record, slot=slot, directories=(), device="cpu", provenance=PROVENANCE)


def test_an_unknown_key_is_refused(results: Path) -> None:
    """It says where keys are found."""
    with pytest.raises(ValueError, match=r"no row in .* has the key 'abc'; it is the row's last"):
        audit.find("abc", results)
