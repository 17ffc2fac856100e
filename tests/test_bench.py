"""From plan to rows: only what is missing is run, and every record is stored as it comes."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness import data
from harness.bench import events, execute, watch
from harness.bench.events import Blocked, Finished, Retried, Tell
from harness.bench.execute import Stored, Warned
from harness.bench.local import cpu_slots, run_locally
from harness.bench.provenance import provenance
from harness.bench.survey import Folders, PlannedRun, survey, to_run
from harness.core.job import Job, Provenance, Record, new_record
from harness.core.task import Budget, Task
from harness.model.declared import METHODS
from harness.results import rows
from harness.results.bundles import read_bundle, write_bundle
from harness.results.rows import RowFiles, put_row, read_rows, write_rows

ORIGIN = Provenance("abc", "python 3")
TASK = Task("mitdb", 48, 12, 6, 300)
RunWork = Callable[[PlannedRun, Tell], Record]
METHOD = """\
from harness.model.patcher import Patcher


class Plain(Patcher):
    def __init__(self, task, *, hidden=16):
        super().__init__(task)
"""


def finish(run: PlannedRun, tell: Tell) -> Record:
    """The work of a worker, done at once; seed 13 brings bad luck, seed 14 edits the method."""
    if run.job.seed == 13:
        raise ValueError("bad\nluck")
    identity = dict(run.identity)
    if run.job.seed == 14:
        identity["method_source"] = "edited"
    return new_record(
        run.job, ORIGIN, status="done", device="cpu", mse=0.5, mae=run.job.seed, **identity
    )


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Two methods, no results, no data but what is embedded."""
    # Here, where no worker comes by: with torch at hand a survey needs no process to load methods.
    import torch  # noqa: F401 - being loaded is all that is asked

    (tmp_path / "methods").mkdir()
    for name in ("plain", "other"):
        (tmp_path / "methods" / f"{name}.py").write_text(METHOD)
    return Folders(tmp_path / "results", (), tmp_path / "cache", tmp_path / "methods")


def job(seed: int = 1, method: str = "plain", dataset: str = "mitdb") -> Job:
    """A job of the suite `small`."""
    return Job("small", method, replace(TASK, dataset=dataset), seed)


def states(jobs: list[Job], folders: Folders) -> list[str]:
    """How the jobs stand."""
    return [run.state for run in survey(jobs, folders)]


def store_all(jobs: list[Job], folders: Folders) -> None:
    """As if all had run."""
    files = RowFiles()
    for run in survey(jobs, folders):
        files.put(folders.rows(run.job), finish(run, lambda _: None), run.outdated)
    files.save()


def run(
    planned: list[PlannedRun],
    folders: Folders,
    work: RunWork = finish,
    **options: Any,  # noqa: ANN401 - those of execute
) -> Generator[execute.Event]:
    """What the bench tells, with one worker."""
    executor = partial(run_locally, work=work, slots=cpu_slots(1))
    return execute.execute(planned, executor, folders, ORIGIN, **options)


def test_a_plan_starts_missing_and_ends_done(folders: Folders) -> None:
    """What has a row of its key is not repeated, unless forced."""
    jobs = [job(1), job(2), job(1, "other")]
    assert states(jobs, folders) == ["missing"] * 3
    store_all(jobs[:2], folders)
    assert states(jobs, folders) == ["done", "done", "missing"]
    planned = survey(jobs, folders)
    assert [run.job.method for run in to_run(planned)] == ["other"]
    assert len(to_run(planned, force=True)) == 3


def test_a_job_is_completed_before_it_gets_its_key(folders: Folders) -> None:
    """Saying a default out loud makes no other run."""
    (silent,) = survey([job()], folders)
    (spoken,) = survey([replace(job(), hyperparameters=(("hidden", 16),))], folders)
    assert silent.key == spoken.key
    assert silent.job.hyperparameters == (("hidden", 16),)


@pytest.mark.parametrize(
    "change",
    [
        lambda folders: (folders.methods / "plain.py").write_text(METHOD.replace("16", "32")),
        lambda folders: replace(job(), budget=Budget(epochs=99)),
        lambda folders: replace(job(), hyperparameters=(("hidden", 8),)),
    ],
    ids=["code", "budget", "hyperparameters"],
)
def test_a_row_of_other_code_or_settings_is_stale(folders: Folders, change: object) -> None:
    """It is run again, and its new row takes the place of the old one."""
    store_all([job()], folders)
    changed = change(folders)  # type: ignore[operator]  # the parameter is one of the callables above
    changed = changed if isinstance(changed, Job) else job()
    assert states([changed], folders) == ["stale"]
    store_all([changed], folders)
    assert states([changed], folders) == ["done"]
    assert len(read_rows(folders.rows(changed))) == 1


def sweep(*sizes: int, seed: int = 1) -> list[Job]:
    """The runs of one seed, a run a size."""
    return [replace(job(seed), hyperparameters=(("hidden", size),)) for size in sizes]


def sizes(folders: Folders) -> list[int]:
    """The settings in the file of rows."""
    return [
        json.loads(row.job)["hyperparameters"]["hidden"] for row in read_rows(folders.rows(job()))
    ]


def test_the_settings_of_a_sweep_have_a_row_each(folders: Folders) -> None:
    """A larger sweep keeps what is done and adds what is missing."""
    store_all(sweep(8, 16), folders)
    assert sizes(folders) == [16, 8]
    assert (
        states([*sweep(8, 16), *sweep(8, 16, seed=2)], folders) == ["done"] * 2 + ["missing"] * 2
    )
    assert states(sweep(8, 16, 32), folders) == ["done", "done", "missing"]


def test_settings_that_are_no_longer_planned_go_with_the_next_run(folders: Folders) -> None:
    """Their rows make one run of the place stale, even if all that is planned has its row."""
    everything = [*sweep(4, 8, 16), *sweep(4, 8, 16, seed=2)]
    store_all(everything, folders)
    fewer = [*sweep(8, 16), *sweep(4, 8, 16, seed=2)]
    assert states(fewer, folders) == ["stale", *["done"] * 4]
    assert states(sweep(8, 32), folders) == ["done", "stale"]
    due = to_run(survey(fewer, folders))
    list(run(due, folders))
    assert states(fewer, folders) == ["done"] * 5
    assert sorted(sizes(folders)) == [4, 8, 8, 16, 16]


def test_a_patch_length_that_cannot_be_is_refused_before_a_run(folders: Folders) -> None:
    """A patch length is a setting like others; the method itself says which ones it takes."""
    real = replace(folders, methods=METHODS)
    planned = [
        replace(job(method="uniform_best"), hyperparameters=(("patch", patch),))
        for patch in (8, 49)
    ]
    fits, long = survey(planned, real)
    assert (fits.state, long.state) == ("missing", "broken")
    assert "patch is 49; a length from 1 to 48" in long.why


def test_a_comment_or_docstring_makes_nothing_stale(folders: Folders) -> None:
    """Only code counts, and only for the method it is the code of."""
    jobs = [job(), job(method="other")]
    store_all(jobs, folders)
    said = METHOD.replace("Patcher):\n", 'Patcher):\n    """What it does."""\n\n', 1)
    assert said != METHOD
    (folders.methods / "plain.py").write_text(f"# a remark\n{said}")
    assert states(jobs, folders) == ["done", "done"]
    (folders.methods / "plain.py").write_text(METHOD.replace("16", "32"))
    assert states(jobs, folders) == ["stale", "done"]


def test_a_stale_run_says_why(folders: Folders) -> None:
    """The setting that differs with its values, the method, the data or the protocol."""
    store_all([job(seed) for seed in (1, 2, 3, 4)], folders)
    path = folders.rows(job())
    rows = read_rows(path)
    rows[2] = replace(rows[2], data_hash="other", key="0" * 16)
    rows[3] = replace(rows[3], key="1" * 16)
    write_rows(path, rows)
    changed = [
        replace(job(1), budget=Budget(epochs=99)),
        replace(job(2), hyperparameters=(("hidden", 8),)),
        job(3),
        job(4),
    ]
    planned = survey(changed, folders)
    assert [run.state for run in planned] == ["stale"] * 4
    assert [run.why for run in planned] == [
        "other settings: budget.epochs 10 -> 99",
        "other settings: hyperparameters.hidden 16 -> 8",
        "other data",
        "its key was edited",
    ]
    (folders.methods / "plain.py").write_text(METHOD.replace("hidden", "wide"))
    (run, *_) = survey([job()], folders)
    assert run.why == "the method was edited"


def test_failed_is_tried_again_and_diverged_is_not(folders: Folders) -> None:
    """A failure may be the machine's; the same digits diverge again."""
    store_all([job(1), job(2)], folders)
    path = folders.rows(job())
    first, second = read_rows(path)
    write_rows(path, [replace(first, status="failed"), replace(second, status="diverged")])
    assert states([job(1), job(2)], folders) == ["failed", "done"]


def test_missing_data_keep_committed_rows_and_stop_nothing_else(folders: Folders) -> None:
    """Where a data set is not at hand, its rows still count and other sets still run."""
    jobs = [job(1, dataset="ETTh1"), job(2, dataset="ETTh1"), job(1)]
    known = data.entry("ETTh1").hash
    (run, *_) = survey(jobs, folders)
    assert run.identity["data_hash"] == known
    put_row(folders.rows(run.job), finish(run, lambda _: None))
    assert states(jobs, folders) == ["done", "absent", "missing"]
    assert [run.job for run in to_run(survey(jobs, folders))] == [
        survey([jobs[2]], folders)[0].job
    ]


def test_a_broken_method_or_own_file_costs_its_jobs_alone(folders: Folders) -> None:
    """And says why; a method nobody has is the user's mistake."""
    (folders.methods / "other.py").write_text("1 / 0")
    source = data.Source(folders.results / "none.csv", "h", 24)
    own = replace(job(dataset="mine"), source=source)
    wrong = replace(job(), hyperparameters=(("hiden", 8),))
    broken, absent, misspelt, fine = survey(
        [job(method="other"), own, replace(wrong, seed=3), job()], folders
    )
    assert [run.state for run in (broken, absent, misspelt, fine)] == ["broken"] * 3 + ["missing"]
    assert "ZeroDivisionError" in broken.why
    assert "none.csv" in absent.why
    assert "did you mean 'hidden'" in misspelt.why
    with pytest.raises(ValueError, match="unknown method 'plane'; did you mean 'plain'"):
        survey([job(method="plane")], folders)


def test_a_file_too_short_is_known_before_its_runs(folders: Folders, tmp_path: Path) -> None:
    """Which part, how long it is and what it needs; of sets that are not at hand, too."""
    own = written(tmp_path / "mine.csv", [float(n % 7) for n in range(80)])
    fits, short = (job(dataset="mine") for _ in range(2))
    fits = replace(fits, task=Task("mine", 24, 6, 3, 24), source=own)
    short = replace(short, task=Task("mine", 24, 60, 3, 24), source=own)
    far = replace(job(), task=Task("ETTh1", 9000, 12, 3, 24))
    planted = replace(job(), task=Task("ordinal", 48, 12, 6))
    one, *others = survey([fits, short, far, planted], folders)
    assert one.state == "missing"
    assert [run.state for run in others] == ["broken"] * 3
    assert [run.why for run in others] == [
        f"the training part of {name} has {steps} steps with its look-back; {lengths}"
        for name, steps, lengths in (
            ("mine", 56, "look-back 24 + horizon 60 needs 84"),
            ("ETTh1", 8640, "look-back 9000 + horizon 12 needs 9012"),
        )
    ] + ["ordinal consists of windows of 120 steps; look-back 48 + horizon 12 = 60"]


def test_what_is_known_of_a_set_without_its_values_is_true_of_them() -> None:
    """Parts and windows of the embedded sets, which a plan takes for granted."""
    pytest.importorskip("sktime")  # two of them come with it
    for name in ("mitdb", "electric_devices", "ordinal"):
        assert data.outline(name) == data.load(name, ()).outline


def test_a_suspicious_value_is_in_the_row(folders: Folders, tmp_path: Path) -> None:
    """Of a run that failed, too, so that the board can say it."""
    values = [float(n % 7) for n in range(80)]
    values[3] = -9999
    own = written(tmp_path / "mine.csv", values)
    one = replace(job(13, dataset="mine"), task=Task("mine", 24, 6, 3, 24), source=own)
    [*_] = run(survey([one], folders), folders)
    [record] = read_rows(folders.rows(one))
    assert record.status == "failed"
    assert (record.data_warning or "").startswith("row 4, column 'x': -9999 lies more than 50")


def written(path: Path, values: list[float]) -> data.Source:
    """A file of hours with these values, and its description."""
    frame = pd.DataFrame({"x": values})
    frame.insert(0, "date", pd.date_range("2024-01-01", periods=len(values), freq="h"))
    frame.to_csv(path, index=False)
    return data.Source(path, "h", 24)


def test_records_are_stored_as_they_come(folders: Folders) -> None:
    """Done, failed and suspicious runs each leave a row; tracking that breaks costs none."""
    planned = survey([job(seed) for seed in (1, 13, 14, 2)], folders)
    tracked: list[Path] = []

    def track(bundle: Path) -> None:
        tracked.append(bundle)
        raise RuntimeError("no database")

    stored, warnings = [], []
    for event in run(planned, folders, track=track):
        if isinstance(event, Stored):
            stored.append(event.record)
        elif isinstance(event, Warned):
            warnings.append(event.message)
    first, unlucky, edited, last = stored
    assert (first.status, first.mae, last.status) == ("done", 1.0, "done")
    assert (unlucky.status, unlucky.error) == ("failed", "ValueError: bad luck")
    assert (unlucky.failure, unlucky.attempts, unlucky.micro_batch) == ("exception", 1, 32)
    assert unlucky.key == planned[1].key
    assert sorted(stored, key=rows._order) == read_rows(folders.rows(job()))
    assert "method or data have changed" in edited.error
    (warning,) = warnings
    assert warning.startswith("tracking stopped: RuntimeError: no database; `make track SUITE=s")
    assert tracked == [folders.runs / unlucky.key]  # once, and the failed run had the first bundle
    assert "in finish" in read_bundle(tracked[0]).log
    assert states([job(seed) for seed in (1, 13, 14, 2)], folders) == [
        "done",
        "failed",
        "failed",
        "done",
    ]


def test_a_run_that_was_never_begun_leaves_nothing(folders: Folders) -> None:
    """What it needs has failed: that is told, and there is neither a row nor a bundle of it."""
    unlucky, second, third, fine = survey([job(seed) for seed in (13, 1, 2, 3)], folders)
    second = replace(second, needs=unlucky.key)
    third = replace(third, needs=second.key)
    executor = partial(
        run_locally,
        work=finish,
        slots=cpu_slots(1),
        key=lambda run: run.key,
        after=lambda run: run.needs,
        flaw=execute.flaw,
    )
    stored, lost, shown = [], [], []
    with watch.alone(folders.results, "small"):
        for event in execute.execute(
            [third, second, unlucky, fine], executor, folders, ORIGIN, track=lambda bundle: None
        ):
            stored += [event] if isinstance(event, Stored) else []
            lost += [event] if isinstance(event, Blocked) else []
            going = watch.progress(folders.results, "small")
            shown.append((going.stored, len(going.running)) if going else None)
    assert [event.run.job.seed for event in stored] == [13, 3]
    assert lost == [Blocked(unlucky, "ValueError: bad luck", (second, third))]
    assert shown == [(0, 1), (1, 0), (1, 0), (1, 1), (2, 0)]
    assert [row.seed for row in read_rows(folders.rows(job()))] == [3, 13]
    assert not [run for run in (second, third) if (folders.runs / run.key).exists()]


def test_what_a_run_can_start_from(folders: Folders) -> None:
    """A result of the run that was planned, unless it diverged."""
    (planned,) = survey([job()], folders)
    record = finish(planned, lambda _: None)
    diverged = replace(record, status="diverged", failure="diverged", error="not finite")
    assert execute.flaw(Finished(planned, 1.0, record)) == ""
    assert execute.flaw(Finished(planned, 1.0, diverged)) == "not finite"
    assert execute.flaw(Finished(planned, 1.0, error="no", failure="timeout")) == "no"
    edited = execute.flaw(Finished(planned, 1.0, replace(record, key="0" * 16)))
    assert edited.endswith("method or data have changed")


def bundle_then_die(run: PlannedRun, tell: Tell, *, runs: Path) -> Record:
    """Seed 2 is killed when it is done; seed 3 each time it begins, leaving a note."""
    if run.job.seed == 3:
        with (runs / "started").open("a") as file:
            file.write(f"{run.attempts}\n")
        os.kill(os.getpid(), signal.SIGKILL)
    record = replace(finish(run, tell), attempts=run.attempts)
    write_bundle(runs, record, curves=(), overlay=None)
    if run.job.seed == 2 and run.attempts == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return record


@pytest.mark.usefixtures("kills_workers")
def test_a_killed_run_is_tried_once_more(folders: Folders) -> None:
    """With the same settings; killed again, it has failed. Both are told, and counted."""
    planned = survey([job(seed) for seed in (1, 2, 3)], folders)
    events = list(run(planned, folders, partial(bundle_then_die, runs=folders.runs)))
    retried = [event.job.job.seed for event in events if isinstance(event, Retried)]
    assert retried == [2, 3]
    assert (folders.runs / "started").read_text() == "1\n2\n"
    one, two, three = read_rows(folders.rows(job()))
    assert [(row.status, row.failure, row.attempts) for row in (one, two, three)] == [
        ("done", None, 1),
        ("done", None, 2),
        ("failed", "killed", 2),
    ]
    assert "killed by SIGKILL" in read_bundle(folders.runs / two.key).log
    log = read_bundle(folders.runs / three.key).log
    assert log.count("killed by SIGKILL") == 2
    assert "the second time:" in log


def eat(run: PlannedRun, tell: Tell, *, enough: int) -> Record:
    """There is memory for so many windows at a time, and no more."""
    windows = run.micro_batch or run.job.budget.batch
    if windows > enough:
        raise MemoryError(f"{windows} windows")
    return replace(finish(run, tell), attempts=run.attempts, micro_batch=windows)


@pytest.mark.parametrize(
    ("enough", "outcome"),
    [(16, ("done", None, 2, 16)), (8, ("failed", "out-of-memory", 2, 16))],
)
def test_out_of_memory_is_tried_once_more_in_halves(
    folders: Folders, enough: int, outcome: tuple[object, ...]
) -> None:
    """Of a batch of 32 first 16 windows at a time, and then no fewer."""
    planned = survey([job()], folders)
    list(run(planned, folders, partial(eat, enough=enough)))
    (row,) = read_rows(folders.rows(job()))
    assert (row.status, row.failure, row.attempts, row.micro_batch) == outcome
    assert row.key == planned[0].key


@pytest.mark.parametrize("failure", ["exception", "timeout"])
def test_what_would_come_again_is_not_tried_again(
    folders: Folders, failure: events.Failure
) -> None:
    """An error of the method and a time that is too short; nor one window that does not fit."""
    (run,) = survey([job()], folders)
    assert execute.retry(Finished(run, 1.0, failure=failure)) is None
    smallest = replace(run, micro_batch=1)
    assert execute.retry(Finished(smallest, 1.0, failure="out-of-memory")) is None


def lose_rows(jobs: list[Job], folders: Folders) -> None:
    """As if the parent had been killed when the bundles were there and the rows were not."""
    for run in survey(jobs, folders):
        write_bundle(folders.runs, finish(run, lambda _: None), curves=(), overlay=None)


def test_a_run_whose_parent_was_killed_has_only_to_be_written_down(folders: Folders) -> None:
    """Its bundle is as good as its row, and becomes one; no other bundle does."""
    jobs = [job(seed) for seed in (1, 2, 3)]
    lose_rows([*jobs[:2], replace(jobs[2], suite="other")], folders)
    planned = survey(jobs, folders)
    assert [run.state for run in planned] == ["done", "done", "missing"]
    assert not folders.rows(job()).exists()  # to look is not to write
    assert [record.seed for record in execute.adopt(planned, folders)] == [1, 2]
    assert [row.seed for row in read_rows(folders.rows(job()))] == [1, 2]
    assert execute.adopt(survey(jobs, folders), folders) == []
    assert [run.job.seed for run in to_run(survey(jobs, folders))] == [3]


def test_a_bundle_replaces_a_failed_or_stale_row_and_no_other(folders: Folders) -> None:
    """What is done stays as it was written; a failure in a bundle does not replace its row."""
    jobs = [job(seed) for seed in (1, 2, 3)]
    store_all(jobs, folders)
    path = folders.rows(job())
    kept, failed, stale = read_rows(path)
    failed = replace(failed, status="failed", failure="killed")
    write_rows(path, [replace(kept, mse=7.0), failed, replace(stale, key="0" * 16)])
    lose_rows([jobs[0], jobs[2]], folders)
    write_bundle(folders.runs, failed, curves=(), overlay=None)
    planned = survey(jobs, folders)
    assert [run.state for run in planned] == ["done", "failed", "done"]
    assert [record.seed for record in execute.adopt(planned, folders)] == [3]
    assert [row.mse for row in read_rows(path)] == [7.0, 0.5, 0.5]


def test_a_finished_bundle_spares_a_smaller_sweep_its_repetition(folders: Folders) -> None:
    """The rows that are no longer planned go all the same."""
    store_all(sweep(8, 16), folders)
    lose_rows(sweep(8), folders)
    planned = survey(sweep(8), folders)
    assert [run.state for run in planned] == ["done"]
    execute.adopt(planned, folders)
    assert sizes(folders) == [8]


def test_others_can_see_what_is_being_done(folders: Folders) -> None:
    """Each run since when, its epoch, and how many are over; nothing when the bench has ended."""
    planned = survey([job(1), job(13)], folders)
    with watch.alone(folders.results, "small"):
        seen = [watch.progress(folders.results, "small") for _ in run(planned, folders, speak)]
        assert watch.progress(folders.results, "small") is None
    assert all(going is not None and going.process == os.getpid() for going in seen)
    shown = [
        (going.stored, [(run.job, run.epoch, run.epochs) for run in going.running])
        for going in seen
        if going is not None
    ]
    first, second = "plain mitdb 48->12 K=6 seed=1", "plain mitdb 48->12 K=6 seed=13"
    assert shown == [
        (0, [(first, None, None)]),
        (0, [(first, 1, 2)]),
        (1, []),
        (1, [(second, None, None)]),
        (1, [(second, 1, 2)]),
        (2, []),
    ]


def speak(run: PlannedRun, tell: Tell) -> Record:
    """Say an epoch a moment after the start: what comes at once may be left out."""
    time.sleep(0.2)
    tell({"epoch": 1, "epochs": 2, "valid_mse": 0.5})
    return finish(run, tell)


def full(run: PlannedRun, tell: Tell) -> Record:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "weights.pt")


def test_a_full_disk_is_no_fault_of_a_run(folders: Folders) -> None:
    """A worker that could not write its bundle ends the bench; no row calls the run a failure."""
    jobs = [job(1), job(2)]
    with pytest.raises(OSError, match=r"cannot be written in .*No space left.*goes on"):
        list(run(survey(jobs, folders), folders, full))
    assert states(jobs, folders) == ["missing", "missing"]


def test_stopping_in_the_middle_keeps_what_is_finished(folders: Folders) -> None:
    """Closing the events ends the work; the rows told of so far are in their files."""
    jobs = [job(seed) for seed in (1, 2, 3)]
    planned = survey(jobs, folders)
    events = run(planned, folders)
    with closing(events):
        next(event for event in events if isinstance(event, Stored))
    assert states(jobs, folders) == ["done", "missing", "missing"]


def test_results_that_cannot_be_written_stop_the_bench(folders: Folders) -> None:
    """A file where the folder should be, say: the error names it, before any work is done."""
    folders.results.mkdir()
    (folders.results / "small").write_text("in the way")
    jobs = [job()]
    with pytest.raises(OSError, match="small"):
        next(run(survey(jobs, folders), folders))


def git(folder: Path, *words: str) -> None:
    """A git command."""
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *author, "-C", str(folder), *words], check=True, capture_output=True)  # noqa: S607 - git from PATH, as users have it


def test_provenance_names_the_commit_and_says_dirty(tmp_path: Path) -> None:
    """Changed code makes a checkout dirty, changed results do not; no checkout, no commit."""
    commit = partial(lambda: provenance(tmp_path).commit)
    assert commit() == "unknown"
    git(tmp_path, "init", "-q")
    assert commit() == "unknown"
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "a.py").write_text("")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    clean = commit()
    assert len(clean) == 40
    (tmp_path / "results.csv").write_text("")
    assert commit() == clean
    (tmp_path / "methods" / "b.py").write_text("")
    assert commit() == f"{clean}-dirty"
    assert provenance(tmp_path / "methods").commit == "unknown"
    assert "torch 2" in provenance(tmp_path).versions
