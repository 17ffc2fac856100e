"""From plan to rows: only what is missing is run, and every record is stored as it comes."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from harness import bench, catalog, data, store
from harness.bench import Cell, Folders, Stored, Warned
from harness.executors import Say, cpu_slots
from harness.store import Job, Provenance, Record
from harness.task import Budget, Task

ORIGIN = Provenance("abc", "python 3")
TASK = Task("mitdb", 48, 12, 6, 300)
METHOD = """\
from harness.patcher import Patcher


class Plain(Patcher):
    def __init__(self, task, *, hidden=16):
        super().__init__(task)
"""


def finish(cell: Cell, say: Say) -> Record:
    """The work of a worker, done at once; seed 13 brings bad luck, seed 14 edits the method."""
    if cell.job.seed == 13:
        raise ValueError("bad\nluck")
    identity = dict(cell.identity)
    if cell.job.seed == 14:
        identity["method_source"] = "edited"
    return store.row(
        cell.job, ORIGIN, status="done", device="cpu", mse=0.5, mae=cell.job.seed, **identity
    )


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Two methods, no results, no data but what is embedded."""
    (tmp_path / "methods").mkdir()
    for name in ("plain", "other"):
        (tmp_path / "methods" / f"{name}.py").write_text(METHOD)
    return Folders(tmp_path / "results", (), tmp_path / "cache", tmp_path / "methods")


def job(seed: int = 1, method: str = "plain", dataset: str = "mitdb") -> Job:
    """A job of the suite `small`."""
    return Job("small", method, replace(TASK, dataset=dataset), seed)


def states(jobs: list[Job], folders: Folders) -> list[str]:
    """How the jobs stand."""
    return [cell.state for cell in bench.survey(jobs, folders)]


def store_all(jobs: list[Job], folders: Folders) -> None:
    """As if all had run."""
    for cell in bench.survey(jobs, folders):
        bench._store(folders.rows(cell.job), finish(cell, lambda _: None), cell.outdated)


def test_a_plan_starts_missing_and_ends_done(folders: Folders) -> None:
    """What has a row of its key is not repeated, unless forced."""
    jobs = [job(1), job(2), job(1, "other")]
    assert states(jobs, folders) == ["missing"] * 3
    store_all(jobs[:2], folders)
    assert states(jobs, folders) == ["done", "done", "missing"]
    cells = bench.survey(jobs, folders)
    assert [cell.job.method for cell in bench.to_run(cells)] == ["other"]
    assert len(bench.to_run(cells, force=True)) == 3


def test_a_job_is_completed_before_it_gets_its_key(folders: Folders) -> None:
    """Saying a default out loud makes no other run."""
    (silent,) = bench.survey([job()], folders)
    (spoken,) = bench.survey([replace(job(), keywords=(("hidden", 16),))], folders)
    assert silent.key == spoken.key
    assert silent.job.keywords == (("hidden", 16),)


@pytest.mark.parametrize(
    "change",
    [
        lambda folders: (folders.methods / "plain.py").write_text(METHOD.replace("16", "32")),
        lambda folders: replace(job(), budget=Budget(epochs=99)),
        lambda folders: replace(job(), keywords=(("hidden", 8),)),
    ],
    ids=["code", "budget", "keywords"],
)
def test_a_row_of_other_code_or_settings_is_stale(folders: Folders, change: object) -> None:
    """It is run again, and its new row takes the place of the old one."""
    store_all([job()], folders)
    changed = change(folders)  # type: ignore[operator]  # the parameter is one of the callables above
    changed = changed if isinstance(changed, Job) else job()
    assert states([changed], folders) == ["stale"]
    store_all([changed], folders)
    assert states([changed], folders) == ["done"]
    assert len(store.read(folders.rows(changed))) == 1


def sweep(*sizes: int, seed: int = 1) -> list[Job]:
    """The runs of one seed, a run a size."""
    return [replace(job(seed), keywords=(("hidden", size),)) for size in sizes]


def sizes(folders: Folders) -> list[int]:
    """The settings in the file of rows."""
    return [json.loads(row.job)["keywords"]["hidden"] for row in store.read(folders.rows(job()))]


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
    due = bench.to_run(bench.survey(fewer, folders))
    list(bench.execute(due, finish, cpu_slots(1), folders, ORIGIN))
    assert states(fewer, folders) == ["done"] * 5
    assert sorted(sizes(folders)) == [4, 8, 8, 16, 16]


def test_more_patches_than_the_head_has_cells_are_refused_before_a_run(folders: Folders) -> None:
    """A patch length is a setting like others, but K tokens must suit the head, whoever sets K."""
    real = replace(folders, methods=catalog.METHODS)
    planned = [
        replace(job(method="uniform_best"), keywords=(("patch", patch),)) for patch in (8, 2, 49)
    ]
    fits, blurred, long = bench.survey(planned, real)
    assert (fits.state, blurred.state, long.state) == ("missing", "broken", "broken")
    assert "6 cells of 8 steps, fewer than the 24 patches" in blurred.why
    assert "patch is 49; a length from 1 to 48" in long.why


def test_a_comment_makes_nothing_stale(folders: Folders) -> None:
    """Only code counts."""
    store_all([job()], folders)
    (folders.methods / "plain.py").write_text(f"# a remark\n{METHOD}")
    assert states([job()], folders) == ["done"]


def test_failed_is_tried_again_and_diverged_is_not(folders: Folders) -> None:
    """A failure may be the machine's; the same digits diverge again."""
    store_all([job(1), job(2)], folders)
    path = folders.rows(job())
    first, second = store.read(path)
    store.write(path, [replace(first, status="failed"), replace(second, status="diverged")])
    assert states([job(1), job(2)], folders) == ["failed", "done"]


def test_missing_data_keep_committed_rows_and_stop_nothing_else(folders: Folders) -> None:
    """Where a data set is not at hand, its rows still count and other sets still run."""
    jobs = [job(1, dataset="ETTh1"), job(2, dataset="ETTh1"), job(1)]
    known = data.entry("ETTh1").hash
    (cell, *_) = bench.survey(jobs, folders)
    assert cell.identity["data_hash"] == known
    store.put(folders.rows(cell.job), finish(cell, lambda _: None))
    assert states(jobs, folders) == ["done", "absent", "missing"]
    assert [cell.job for cell in bench.to_run(bench.survey(jobs, folders))] == [
        bench.survey([jobs[2]], folders)[0].job
    ]


def test_a_broken_method_or_own_file_costs_its_jobs_alone(folders: Folders) -> None:
    """And says why; a method nobody has is the user's mistake."""
    (folders.methods / "other.py").write_text("1 / 0")
    source = data.Source(folders.results / "none.csv", "h", 24)
    own = replace(job(dataset="mine"), source=source)
    wrong = replace(job(), keywords=(("hiden", 8),))
    broken, absent, misspelt, fine = bench.survey(
        [job(method="other"), own, replace(wrong, seed=3), job()], folders
    )
    assert [cell.state for cell in (broken, absent, misspelt, fine)] == ["broken"] * 3 + [
        "missing"
    ]
    assert "ZeroDivisionError" in broken.why
    assert "none.csv" in absent.why
    assert "did you mean 'hidden'" in misspelt.why
    with pytest.raises(ValueError, match="unknown method 'plane'; did you mean 'plain'"):
        bench.survey([job(method="plane")], folders)


def test_records_are_stored_as_they_come(folders: Folders) -> None:
    """Done, failed and suspicious runs each leave a row; tracking that breaks costs none."""
    cells = bench.survey([job(seed) for seed in (1, 13, 14, 2)], folders)
    tracked: list[Path] = []

    def track(bundle: Path) -> None:
        tracked.append(bundle)
        raise RuntimeError("no database")

    events = bench.execute(cells, finish, cpu_slots(1), folders, ORIGIN, track=track)
    stored, warnings = [], []
    for event in events:
        if isinstance(event, Stored):
            stored.append(event.record)
            assert event.record in store.read(folders.rows(job()))
        elif isinstance(event, Warned):
            warnings.append(event.message)
    first, unlucky, edited, last = stored
    assert (first.status, first.mae, last.status) == ("done", 1.0, "done")
    assert (unlucky.status, unlucky.error) == ("failed", "ValueError: bad luck")
    assert unlucky.key == cells[1].key
    assert "method or data have changed" in edited.error
    assert warnings == ["tracking stopped: RuntimeError: no database"]
    assert tracked == [folders.runs / unlucky.key]  # once, and the failed run had the first bundle
    assert "in finish" in store.read_bundle(tracked[0]).log
    assert states([job(seed) for seed in (1, 13, 14, 2)], folders) == [
        "done",
        "failed",
        "failed",
        "done",
    ]


def test_stopping_in_the_middle_keeps_what_is_finished(folders: Folders) -> None:
    """Closing the events ends the work; the rows told of so far are in their files."""
    jobs = [job(seed) for seed in (1, 2, 3)]
    cells = bench.survey(jobs, folders)
    events = bench.execute(cells, finish, cpu_slots(1), folders, ORIGIN)
    with closing(events):
        next(event for event in events if isinstance(event, Stored))
    assert states(jobs, folders) == ["done", "missing", "missing"]


def test_results_that_cannot_be_written_stop_the_bench(folders: Folders) -> None:
    """A file where the folder should be, say: the error names it, nothing is half-written."""
    folders.results.mkdir()
    (folders.results / "small").write_text("in the way")
    jobs = [job()]
    with pytest.raises(OSError, match="small"):
        list(bench.execute(bench.survey(jobs, folders), finish, cpu_slots(1), folders, ORIGIN))


def test_one_bench_at_a_time_holds_a_results_folder(tmp_path: Path) -> None:
    """A second one declines, naming the first; afterwards the folder is free."""
    with (
        bench.alone(tmp_path),
        pytest.raises(ValueError, match=f"in use by process {os.getpid()}: wait"),
        bench.alone(tmp_path),
    ):
        pass
    with bench.alone(tmp_path):
        pass


def git(folder: Path, *words: str) -> None:
    """A git command."""
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *author, "-C", str(folder), *words], check=True, capture_output=True)  # noqa: S607 - git from PATH, as users have it


def test_provenance_names_the_commit_and_says_dirty(tmp_path: Path) -> None:
    """Changed code makes a checkout dirty, changed results do not; no checkout, no commit."""
    commit = partial(lambda: bench.provenance(tmp_path).commit)
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
    assert bench.provenance(tmp_path / "methods").commit == "unknown"
    assert "torch 2" in bench.provenance(tmp_path).versions
