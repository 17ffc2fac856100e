"""Suites that start from pre-trainings: what is planned, in which order, and how it stands."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.bench import audit, execute, suite
from harness.bench.events import Tell
from harness.bench.plan import plan
from harness.bench.survey import Folders, PlannedRun, survey, to_run
from harness.cli import options, verbs
from harness.core.job import Job, Provenance, Record, job_of, new_record
from harness.report import excerpts
from harness.results.bundles import write_bundle
from harness.results.rows import put_row, read_rows
from harness.run.job import run

PRE = """
methods = ["uniform", "reinpatch"]
seeds = [1]
[forecaster]
width = 16
layers = 1
heads = 2
feedforward = 32
[budget]
epochs = 1
steps = 2
batch = 8
valid_windows = 12
[[tasks]]
corpora = ["tiny", "other"]
look_back = 128
horizons = [64]
patch = 16
"""
TRANSFER = """
pretraining = "pre"
methods = ["uniform", "reinpatch"]
seeds = [1]
[budget]
epochs = 1
steps = 2
batch = 8
valid_windows = 20
test_windows = 20
probe_windows = 20
[forecaster]
width = 16
layers = 1
heads = 2
feedforward = 32
[[tasks]]
datasets = ["mitdb"]
look_back = 128
horizons = [12]
patch = 16
corpora = ["tiny"]
frozen = ["reinpatch"]
untrained = ["reinpatch"]
"""
ZERO_SHOT = """
pretraining = "pre"
methods = ["uniform"]
seeds = [1]
[references.theta]
path = "harness.zero_shot.classical:Classical"
options = { model = "theta" }
[[tasks]]
corpora = ["tiny", "other"]
zero_shot = ["chronos-II/monash_m1_yearly", "fev-bench"]
"""
CORPUS = 'description = "drawn"\n[synthetic]\nseed = {}\nseries = 40\n'


@pytest.fixture(autouse=True)
def _suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three suites and two corpora."""
    for name, text in (("pre", PRE), ("transfer", TRANSFER), ("zs", ZERO_SHOT)):
        (tmp_path / f"{name}.toml").write_text(text)
    corpora = tmp_path / "corpora"
    corpora.mkdir()
    for seed, name in enumerate(("tiny", "other")):
        (corpora / f"{name}.toml").write_text(CORPUS.format(seed))
    monkeypatch.setattr("harness.data.corpora.CORPORA", corpora)


def jobs(place: Path, name: str, methods: Sequence[str] | None = None) -> list[Job]:
    return plan(suite.find(name, place), methods=methods)


def surveyed(place: Path, name: str = "transfer") -> list[PlannedRun]:
    folders = Folders(place / "results", (), place / "cache")
    return survey(jobs(place, name), folders)


def done(place: Path, runs: Sequence[PlannedRun]) -> list[Record]:
    """Do these runs, as a bench does them one after the other."""
    records = []
    for each in runs:
        record = run(
            each.job,
            directories=(),
            device="cpu",
            runs=place / "results" / "runs",
            provenance=Provenance("c", "v"),
        )
        assert record.key == each.key
        put_row(place / "results" / record.suite / f"{record.method}.csv", record)
        records.append(record)
    return records


def test_every_arm_is_planned_and_a_pre_training_stands_before_those_that_need_it(
    tmp_path: Path,
) -> None:
    """One of each arm; the pre-training is a job of its own suite, planned once."""
    planned = jobs(tmp_path, "transfer")
    assert [(job.suite, job.label) for job in planned] == [
        ("transfer", "uniform"),
        ("transfer", "reinpatch"),
        ("transfer", "reinpatch_untrained"),
        ("pre", "reinpatch_pretrain"),
        ("transfer", "reinpatch_frozen_tiny"),
    ]
    assert planned[4].needs == planned[3]
    assert planned[3] in jobs(tmp_path, "pre")


def test_a_zero_shot_suite_scores_every_forecaster_on_every_task(tmp_path: Path) -> None:
    """A benchmark stands for its tasks, references are asked once, and K is that of the corpus."""
    planned = jobs(tmp_path, "zs")
    scored = [job for job in planned if job.stage == "zero_shot"]
    assert len(scored) == 13 * (2 + 1)
    assert sum(job.stage == "pretrain" for job in planned) == 2
    for job in scored:
        assert (job.task.look_back, job.task.patches) == (128, 8)
        assert (job.method == "theta") == (job.needs is None)
        if job.needs is not None:
            assert planned.index(job.needs) < planned.index(job)
            assert job.budget == job.needs.budget


def test_a_method_that_no_suite_names_has_every_arm(tmp_path: Path) -> None:
    """One file, no edit of a suite: trained on the target, untrained, pre-trained and frozen."""
    labels = [job.label for job in jobs(tmp_path, "transfer", ["soft"])]
    assert labels == ["soft", "soft_untrained", "soft_pretrain", "soft_frozen_tiny"]
    assert {job.label for job in jobs(tmp_path, "zs", ["soft"])} == {
        "soft_pretrain",
        "soft_zero_shot_tiny",
        "soft_zero_shot_other",
    }


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("transfer", 'pretraining = "pre"', "", "line 22: corpora need a suite that pre-trains"),
        ("transfer", '"pre"', '"zs"', "line 2: 'zs' does not only pre-train"),
        ("transfer", '["tiny"]', '["tinny"]', "line 22: unknown corpus 'tinny'"),
        ("transfer", 'corpora = ["tiny"]\n', "", "frozen names methods, and no corpora"),
        ("zs", '"chronos-II/monash_m1_yearly"', '"m1"', "line 10: unknown zero-shot task 'm1'"),
        ("zs", "[[tasks]]", "[[tasks]]\nlook_back = 96", "look_back is given beside zero_shot"),
        ("zs", "references.theta", "references.uniform", "'uniform' is a method too"),
        ("zs", 'corpora = ["tiny", "other"]', "corpora = []", "corpora must be given"),
        ("pre", "horizons = [64]", "horizons = []", "horizons must be given"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, name: str, old: str, new: str, message: str) -> None:
    """With the file and, where that is known, the line."""
    path = tmp_path / f"{name}.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"{name}\.toml.*{message}"):
        suite.find(name, tmp_path)


def test_a_run_knows_the_key_of_what_it_needs(tmp_path: Path) -> None:
    """Its own key depends on it: an edit of the pre-training makes the run another one."""
    before = {run.job.label: run for run in surveyed(tmp_path)}
    frozen = before["reinpatch_frozen_tiny"]
    assert frozen.needs == before["reinpatch_pretrain"].key
    path = tmp_path / "pre.toml"
    path.write_text(path.read_text().replace("steps = 2", "steps = 3"))
    after = {run.job.label: run for run in surveyed(tmp_path)}
    assert after["reinpatch_frozen_tiny"].key != frozen.key
    assert after["reinpatch"].key == before["reinpatch"].key
    (tmp_path / "corpora" / "tiny.toml").write_text(CORPUS.format(7))
    corpus = {run.job.label: run for run in surveyed(tmp_path)}
    assert corpus["reinpatch_frozen_tiny"].key != after["reinpatch_frozen_tiny"].key


def test_rows_are_done_until_something_changes_and_validate(tmp_path: Path) -> None:
    """Rows of every arm stand beside each other; what they were made of makes them stale."""
    done(tmp_path, surveyed(tmp_path))
    assert {run.state for run in surveyed(tmp_path)} == {"done"}
    assert audit.validate(tmp_path / "results", tmp_path) == []
    path = tmp_path / "pre.toml"
    path.write_text(path.read_text().replace("steps = 2", "steps = 3"))
    stale = {run.job.label: run.why for run in surveyed(tmp_path) if run.state == "stale"}
    assert stale == {
        "reinpatch_pretrain": "other settings: budget.steps 2 -> 3",
        "reinpatch_frozen_tiny": "other settings: needs.budget.steps 2 -> 3",
    }
    wrong = [str(problem) for problem in audit.validate(tmp_path / "results", tmp_path)]
    assert len(wrong) == 2
    assert all("stale: other settings" in problem for problem in wrong)


def test_a_pre_training_is_due_again_only_where_its_artefact_is_needed(tmp_path: Path) -> None:
    """Rows come with git and artefacts do not: done rows are enough until a run needs one."""
    done(tmp_path, surveyed(tmp_path))
    shutil.rmtree(tmp_path / "results" / "runs")
    assert to_run(surveyed(tmp_path)) == []
    row = tmp_path / "results" / "transfer" / "reinpatch.csv"
    lines = row.read_text().splitlines(keepends=True)
    row.write_text("".join(line for line in lines if ",frozen," not in line))
    due = {run.job.label: run.why for run in to_run(surveyed(tmp_path))}
    assert due == {
        "reinpatch_pretrain": "its artefact is not on this machine",
        "reinpatch_frozen_tiny": "",
    }


def in_order(job: Job) -> Job:
    """With its hyperparameters by letter, as JSON has them."""
    needs = None if job.needs is None else in_order(job.needs)
    return replace(job, hyperparameters=tuple(sorted(job.hyperparameters)), needs=needs)


def test_a_row_says_its_whole_job(tmp_path: Path) -> None:
    """The pre-training within it too, so that a row repeats without a suite."""
    records = done(tmp_path, surveyed(tmp_path))
    told = [job_of(record) for record in records]
    assert [*map(in_order, told)] == [in_order(run.job) for run in surveyed(tmp_path)]
    forged = replace(records[-1], needs="0" * 16)
    put_row(tmp_path / "results" / "transfer" / "reinpatch.csv", forged)
    wrong = [str(problem) for problem in audit.validate(tmp_path / "results", tmp_path)]
    assert any("the row gives" in problem for problem in wrong)


# --- a pre-training that leaves nothing to start from --------------------------------------------


def stand_in(
    planned: PlannedRun,
    tell: Tell,
    *,
    directories: object,
    device: str,
    runs: Path,
    provenance: Provenance,
) -> Record:
    """What a worker does, without training; a pre-training ends as the file `luck` has it."""
    is_first = planned.job.stage == "pretrain"
    luck = (runs.parent / "luck").read_text() if is_first else "done"
    if luck == "failed":
        raise ValueError("no luck")
    ends: dict[str, Any] = {"status": luck}
    if luck == "diverged":
        ends |= {"error": "not finite", "failure": "diverged"}
    costs = ["valid_loss", "parameters"]
    scores = costs if is_first else ["mse", "mae", "mse_raw", "mae_raw", "mase", "smape"]
    measured: dict[str, Any] = dict.fromkeys(scores if luck == "done" else [], 0.5)
    record = new_record(
        planned.job,
        provenance,
        device=device,
        needs=planned.needs,
        train_seconds=0.1,
        **planned.identity,
        **ends,
        **measured,
    )
    artefact = Path.mkdir if is_first and luck == "done" else None
    write_bundle(runs, record, curves=(), overlay=None, artefact=artefact)
    return record


Bench = Callable[..., tuple[int, str]]


@pytest.fixture
def verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Bench:
    """Exit code and output of a verb on the suite `transfer`."""
    monkeypatch.setattr(options, "SUITES", tmp_path)
    monkeypatch.setattr(execute, "run_planned", stand_in)
    monkeypatch.setattr(verbs, "_tracker", lambda *_: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PATCHBENCH_DATA", raising=False)

    def run(name: str, *words: str) -> tuple[int, str]:
        asked = ("--suite", "transfer", "--results", str(tmp_path / "results"))
        monkeypatch.setattr(sys, "argv", ["harness", name, *asked, *words])
        with pytest.raises(SystemExit) as end:
            verbs.main()
        assert isinstance(end.value.code, int)
        return end.value.code, capsys.readouterr().out

    return run


@pytest.mark.parametrize("end", ["failed", "diverged"])
def test_what_needs_a_pre_training_that_left_nothing_is_blocked(
    tmp_path: Path, verb: Bench, end: str
) -> None:
    """It is not begun and has no row; it is due when the pre-training has been done again."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "luck").write_text(end)
    code, out = verb("bench", "--jobs", "1")
    name = "reinpatch (pretrain) tiny 128->64 K=8 seed=1"
    assert code == 1
    assert out.count(f"{name}  left nothing to start from; runs that wait for it: 1") == 1
    blocked = f"blocked (1): needs {name}, which {end}; due once that is done"
    assert out.count(blocked) == 1
    assert [row.arm for row in read_rows(folder / "transfer" / "reinpatch.csv")] == [
        "",
        "untrained",
    ]
    assert [row.status for row in read_rows(folder / "pre" / "reinpatch.csv")] == [end]

    _, out = verb("status")
    assert out.count(blocked) == 1
    states = {run.job.label: run.state for run in surveyed(tmp_path)}
    first = {"failed": "failed", "diverged": "done"}[end]  # it would diverge again
    assert (states["reinpatch_pretrain"], states["reinpatch_frozen_tiny"]) == (first, "blocked")
    due = [run.job.label for run in to_run(surveyed(tmp_path))]
    both = ["reinpatch_pretrain", "reinpatch_frozen_tiny"]
    assert due == (both if end == "failed" else [])

    (folder / "luck").write_text("done")
    code, out = verb("bench", "--jobs", "1", *(["--force"] if end == "diverged" else []))
    assert code == 0
    assert "blocked (" not in out
    assert {run.state for run in surveyed(tmp_path)} == {"done"}


def test_what_needs_a_corpus_that_is_not_here_is_blocked(tmp_path: Path) -> None:
    """Its pre-training cannot be done, so nothing is begun for want of an artefact."""
    path = tmp_path / "corpora" / "tiny.toml"
    member = '[members."pool/none.csv"]\nfamily = "f"\nlicence = "l"\nhash = "h"\n'
    path.write_text(f'description = "a file"\n{member}')
    planned = surveyed(tmp_path)
    needed, frozen = planned[3:]
    assert (needed.state, frozen.state) == ("absent", "blocked")
    assert frozen.why == f"needs {needed}, whose data are not at hand"
    assert to_run(planned) == planned[:3]
    assert to_run(planned, fetched=True) == planned


def test_every_suite_that_has_got_rows_has_its_leaderboard(tmp_path: Path, verb: Bench) -> None:
    """That of the pre-trainings too, as often as one of them is done."""
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "luck").write_text("done")
    verb("bench", "--jobs", "1")
    board = folder / "pre" / "leaderboard.md"
    assert "reinpatch" in board.read_text()
    assert excerpts.stale([], folder) == []
    path = tmp_path / "pre.toml"
    path.write_text(path.read_text().replace("steps = 2", "steps = 3"))
    (folder / "luck").write_text("diverged")
    verb("bench", "--jobs", "1")
    assert excerpts.stale([], folder) == []
