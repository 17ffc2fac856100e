"""Jobs, records, and where records are kept."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.core import job
from harness.core.files import clear_unfinished
from harness.core.job import (
    Job,
    Provenance,
    Record,
    job_key,
    new_record,
    recomputed_key,
    why_stale,
)
from harness.core.protocol import PROTOCOL
from harness.core.task import Architecture, Budget, Task
from harness.data import Source
from harness.results import rows
from harness.results.bundles import read_bundle, recorded, write_bundle
from harness.results.rows import RowFiles, put_row, read_rows, write_rows

JOB = Job("small", "uniform", Task("ETTh1", 96, 24, 12, 24), 1, (("hidden", 16),))
ORIGIN = Provenance(commit="abc", versions="python 3.11, torch 2")


def row(job: Job = JOB, **changes: object) -> Record:
    """A finished record."""
    values = {
        "status": "done",
        "kind": "patcher",
        "ranked": True,
        "method_source": "aa",
        "data_hash": "bb",
        "data_verified": True,
        "device": "cpu",
        "mse": 0.1,
        "mae": 0.2,
    }
    return new_record(job, ORIGIN, **values | changes)  # type: ignore[arg-type]  # columns of several types


@pytest.mark.parametrize(
    "other",
    [
        replace(JOB, method="random_step"),
        replace(JOB, seed=2),
        replace(JOB, hyperparameters=(("hidden", 32),)),
        replace(JOB, task=replace(JOB.task, season=1)),
        replace(JOB, architecture=Architecture(dropout=0.1)),
        replace(JOB, budget=Budget(epochs=11)),
        replace(JOB, source=Source(Path("a.csv"), "h", 24)),
    ],
)
def test_the_key_changes_with_whatever_could_change_the_number(other: Job) -> None:
    """Every part of a job counts."""
    assert job_key(JOB, "aa", "bb") != job_key(other, "aa", "bb")


def test_the_key_changes_with_code_data_and_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same job of other code, other data or other rules is another run."""
    before = job_key(JOB, "aa", "bb")
    assert len({before, job_key(JOB, "ax", "bb"), job_key(JOB, "aa", "bx")}) == 3
    monkeypatch.setattr(job, "PROTOCOL", PROTOCOL + 1)
    assert before != job_key(JOB, "aa", "bb")


def test_the_key_knows_neither_suite_nor_path_nor_order_of_keywords() -> None:
    """What cannot change the number leaves the key alone."""
    job = replace(JOB, hyperparameters=(("a", 1), ("b", 2)), source=Source(Path("a.csv"), "h", 24))
    same = replace(
        job,
        suite="other",
        hyperparameters=(("b", 2), ("a", 1)),
        source=Source(Path("/else/where/a.csv"), "h", 24),
    )
    assert job_key(job, "aa", "bb") == job_key(same, "aa", "bb")


def test_the_key_can_be_recomputed_from_the_row(tmp_path: Path) -> None:
    """A row read back proves which run it is; an edited one does not."""
    job = replace(JOB, source=Source(Path("a.csv"), "h", 24), budget=Budget(learning_rate=3e-4))
    write_rows(tmp_path / "uniform.csv", [row(job)])
    (read,) = read_rows(tmp_path / "uniform.csv")
    assert recomputed_key(read) == read.key == job_key(job, "aa", "bb")
    assert recomputed_key(replace(read, data_hash="bx")) != read.key


@given(
    mse=st.floats(0, 1e30),
    windows=st.none() | st.integers(0),
    error=st.text(),
    verified=st.booleans(),
)
def test_rows_survive_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    mse: float,
    windows: int | None,
    error: str,
    *,
    verified: bool,
) -> None:
    """Every digit, every empty cell and every odd character comes back as it was."""
    path = tmp_path_factory.mktemp("store") / "uniform.csv"
    error = error.encode("utf-8", "ignore").decode()
    record = row(mse=mse, windows=windows, error=error, data_verified=verified)
    write_rows(path, [record])
    assert read_rows(path) == [record]


def test_rows_are_in_one_order_whatever_order_they_came_in(tmp_path: Path) -> None:
    """The same rows give the same bytes, so that a new row is a diff of one line."""
    jobs = [
        replace(JOB, seed=seed, task=Task("B", 96, h, 12)) for seed in (2, 1) for h in (24, 12)
    ]
    jobs.append(replace(JOB, task=Task("A", 96, 24, 12)))
    write_rows(tmp_path / "a.csv", map(row, jobs))
    write_rows(tmp_path / "b.csv", map(row, reversed(jobs)))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    cells = [record.coordinates[1:] for record in read_rows(tmp_path / "a.csv")]
    assert cells == sorted(cells)


def test_a_newer_row_replaces_that_of_its_key_and_its_cell(tmp_path: Path) -> None:
    """One row a cell: neither a repetition nor other code leaves an older one behind."""
    path = tmp_path / "uniform.csv"
    write_rows(path, [row(mse=1.0), row(mse=2.0)])
    assert [record.mse for record in read_rows(path)] == [2.0]
    put_row(path, row(mse=3.0, method_source="changed"))
    put_row(path, row(replace(JOB, seed=2), mse=4.0))
    assert [record.mse for record in read_rows(path)] == [3.0, 4.0]


def test_rows_are_saved_at_times_and_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that takes two seconds to write is then left alone for forty; not by `save`."""
    clock, saved = [0.0], []
    whole = write_rows

    def write(path: Path, records: Iterable[Record]) -> None:
        clock[0] += 2.0
        whole(path, records)

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(rows, "write_rows", write)
    path, files = tmp_path / "uniform.csv", RowFiles()
    for seed in range(50):
        files.put(path, row(replace(JOB, seed=seed)))
        files.save_at_times()
        saved.append(len(read_rows(path)))
        clock[0] += 1.0
    assert saved == [1] * 40 + [41] * 10
    files.save()
    assert len(read_rows(path)) == 50
    before = path.stat().st_mtime_ns
    files.save()
    assert path.stat().st_mtime_ns == before  # nothing new, nothing written


def test_rows_in_memory_replace_as_those_in_the_file_do(tmp_path: Path) -> None:
    """One row a cell, and none of those that are called outdated."""
    path = tmp_path / "uniform.csv"
    old, other = row(method_source="old"), row(replace(JOB, hyperparameters=(("hidden", 8),)))
    write_rows(path, [old, other])
    files = RowFiles()
    files.put(path, row(mse=3.0), outdated={other.key})
    files.save()
    assert read_rows(path) == [row(mse=3.0)]


def test_records_are_found_in_bundles_that_are_whole(tmp_path: Path) -> None:
    """A damaged bundle, one under another name and one that was edited are no records."""
    assert recorded(tmp_path / "none", ["a"]) == {}
    fine, torn, moved, edited = (row(replace(JOB, seed=seed)) for seed in (1, 2, 3, 4))
    for record in (fine, torn, moved, edited):
        write_bundle(tmp_path, record, curves=(), overlay=None)
    (tmp_path / torn.key / "record.json").write_text('{"suite":')
    (tmp_path / moved.key).rename(tmp_path / "0123456789abcdef")
    told = tmp_path / edited.key / "record.json"
    told.write_text(told.read_text().replace('"bb"', '"xx"'))
    keys = [fine.key, torn.key, "0123456789abcdef", edited.key]
    assert recorded(tmp_path, keys) == {fine.key: fine}
    assert recorded(tmp_path, []) == {}


def test_what_dead_processes_have_begun_is_cleared(tmp_path: Path) -> None:
    """Files and folders of a process that is gone, and nothing else."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead, alive = process.pid, os.getpid()
    for name in (f".a.csv.{dead}", f".a.csv.{alive}", ".hidden", "b.csv", ".0x.12x"):
        (tmp_path / name).write_text("")
    for name in (f".key.{dead}", f".key.{dead}.older", f".key.{alive}"):
        (tmp_path / name / "inside").mkdir(parents=True)
    clear_unfinished(tmp_path)
    left = {".a.csv." + str(alive), ".hidden", "b.csv", ".0x.12x", f".key.{alive}"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_what_makes_a_row_another_is_named() -> None:
    """Each setting with its value then and now; data, method and protocol in words."""
    budget, task = replace(JOB.budget, epochs=3), replace(JOB.task, season=12)
    changed = replace(
        JOB, budget=budget, task=task, hyperparameters=(("hidden", 8), ("new", None))
    )
    assert why_stale(row(), JOB, "aa", "bb") == []
    assert why_stale(row(), JOB, "ax", "bx") == ["the method was edited", "other data"]
    (settings,) = why_stale(row(), changed, "aa", "bb")
    assert settings == (
        "other settings: budget.epochs 10 -> 3, hyperparameters.hidden 16 -> 8,"
        " hyperparameters.new nothing -> null, task.season 24 -> 12"
    )
    (protocol,) = why_stale(replace(row(), protocol=0), JOB, "aa", "bb")
    assert protocol == f"protocol 0 -> {PROTOCOL}"


def test_a_row_of_an_earlier_version_lacks_later_columns(tmp_path: Path) -> None:
    """Columns that may be empty may be absent, and then they are empty."""
    path = tmp_path / "uniform.csv"
    write_rows(path, [row()])
    table = [line.split(",") for line in path.read_text().splitlines()]
    place = table[0].index("covering")
    path.write_text("\n".join(",".join([*line[:place], *line[place + 1 :]]) for line in table))
    assert read_rows(path) == [row()]


def test_no_file_is_no_rows(tmp_path: Path) -> None:
    """A suite that was never run has no results, which is no error."""
    assert read_rows(tmp_path / "none.csv") == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda text: text.replace(",0.1,", ",O.1,"),
            r"line 2: column 'mse' holds 'O.1'; a number",
        ),
        (
            lambda text: text.replace("True", "yes", 1),
            r"line 2: column 'ranked' holds 'yes'; True",
        ),
        (
            lambda text: text.replace(",24,12,24,", ",24,12.5,24,"),
            r"'patches' holds '12.5'; a whole",
        ),
        (
            lambda text: text.replace(",done,", ",finished,"),
            r"line 2: status is 'finished'; allowed",
        ),
        (lambda text: text.replace(",0.1,", ",inf,"), r"line 2: mse is inf"),
        (lambda text: text.replace(",0.1,", ",,"), r"line 2: .* needs mse and mae"),
        (lambda text: text.replace(",mse,", ",MSE,"), r"line 1: .* column 'MSE' is unknown"),
        (lambda text: text.replace(",season,", ","), r"line 1: .* column 'season' is missing"),
        (lambda text: text.replace(",key", ",key,extra"), r"line 1: .* column 'extra' is unknown"),
        (lambda text: text.replace("mse,mae", "mae,mse"), r"line 1: .* in another order"),
        (lambda text: text[:-40], r"line 2: "),
        (lambda text: "", r"line 1: not a results file"),
        (lambda text: "\udcff" + text, r"line 1: .utf-8. codec"),
    ],
)
def test_a_damaged_file_is_refused_by_line_and_column(
    tmp_path: Path, damage: object, message: str
) -> None:
    """No row is guessed: the error says file, line, column and what belongs there."""
    path = tmp_path / "uniform.csv"
    write_rows(path, [row()])
    text = damage(path.read_text())  # type: ignore[operator]  # the parameter is a callable
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=rf"uniform\.csv.*{message}"):
        read_rows(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "ok"}, "status is 'ok'; allowed: done, failed, diverged"),
        ({"mse": None}, "needs mse and mae"),
        ({"failure": "bad luck"}, "failure is 'bad luck'; allowed: exception, out-of-memory"),
        ({"valid_mse": float("nan"), "status": "failed"}, "valid_mse is nan"),
    ],
)
def test_a_record_checks_itself(changes: dict[str, object], message: str) -> None:
    """No row says done without a score, and none holds a number that is not one."""
    with pytest.raises(ValueError, match=message):
        row(JOB, **changes)


def test_a_record_holds_plain_numbers_and_a_one_line_error() -> None:
    """Numpy's numbers print as calls in numpy 2; a row is one line of text."""
    record = row(mse=np.float64(0.5), windows=3, flops=7, error="a\n  b")
    assert [type(value) for value in (record.mse, record.windows, record.flops)] == [
        float,
        int,
        float,
    ]
    assert record.error == "a b"


def test_an_unknown_column_is_refused() -> None:
    """A misspelt measurement does not vanish."""
    with pytest.raises(TypeError, match="mze"):
        row(mze=1.0)


def test_a_full_disk_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """A write that fails half-way costs nothing that was there, and leaves nothing behind."""
    path = tmp_path / "uniform.csv"
    write_rows(path, [row()])
    before = path.read_bytes()
    small = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before)},) * 2)\n"
    script = small + (
        "import sys; from pathlib import Path; from dataclasses import replace\n"
        "from harness.results.rows import put_row, read_rows\n"
        "path = Path(sys.argv[1])\n"
        "(record,) = read_rows(path)\n"
        "put_row(path, replace(record, seed=2, key='other'))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=False
    )
    assert "File too large" in ran.stderr
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_bundle_comes_back_as_it_was_left(tmp_path: Path) -> None:
    """Record, curves, overlay, weights, patcher, log; a second run of the key takes the place."""
    curves = [{"epoch": 1.0, "valid_mse": 0.1}, {"epoch": 2.0, "valid_mse": 0.3}]
    overlay = {"values": [1.0, 2.0], "true_starts": None}

    def save(place: Path) -> None:
        place.write_bytes(place.stem.encode())

    for log in ("old", "new"):
        path = write_bundle(
            tmp_path,
            row(),
            curves=curves,
            overlay=overlay,
            weights=save,
            patcher=save,
            log=log,
        )
    bundle = read_bundle(path)
    assert path == tmp_path / row().key
    assert bundle.record == row()
    assert bundle.curves == tuple(curves)
    assert bundle.overlay == overlay
    assert bundle.log == "new"
    assert bundle.weights is not None
    assert bundle.weights.read_bytes() == b"weights"
    assert bundle.patcher is not None
    assert bundle.patcher.read_bytes() == b"patcher"
    assert list(tmp_path.iterdir()) == [path]


def test_a_bundle_may_hold_the_record_alone(tmp_path: Path) -> None:
    """A failed run has no curves, no overlay, no weights and no patcher."""
    path = write_bundle(tmp_path, row(status="failed"), curves=(), overlay=None)
    bundle = read_bundle(path)
    assert (bundle.curves, bundle.overlay, bundle.log) == ((), None, "")
    assert bundle.weights is None
    assert bundle.patcher is None


def test_a_bundle_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """Weights that cannot be saved leave no folder that looks like a run."""

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_bundle(tmp_path, row(), curves=(), overlay=None, weights=fail)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_where_torch_does_not_name_it(small_disk: Path) -> None:
    """Weights that do not fit are an OSError like any file that does not fit."""
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_bundle(
            small_disk,
            row(),
            curves=(),
            overlay=None,
            weights=lambda path: torch.save(torch.zeros(1_000_000), path),
        )
    assert caught.value.errno == errno.ENOSPC
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("content", [None, "{}", "{", "[]"])
def test_what_is_no_bundle_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    """The error names the folder."""
    if content is not None:
        (tmp_path / "record.json").write_text(content)
    with pytest.raises(ValueError, match=f"{tmp_path} is not the bundle of a run"):
        read_bundle(tmp_path)
