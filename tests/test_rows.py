"""Rows in their files: nothing is lost, guessed or half-written."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_rows import JOB, row

from harness.core.job import (
    Record,
)
from harness.core.task import Task
from harness.results import rows
from harness.results.rows import RowFiles, put_row, read_rows, write_rows


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
    """Every digit, every empty field and every odd character comes back as it was."""
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
    places = [record.coordinates[1:] for record in read_rows(tmp_path / "a.csv")]
    assert places == sorted(places)


def test_a_newer_row_replaces_that_of_its_key_and_its_coordinates(tmp_path: Path) -> None:
    """Neither a repetition nor other code leaves an older one behind."""
    path = tmp_path / "uniform.csv"
    put_row(path, row(mse=1.0))
    put_row(path, row(mse=2.0))
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
    """One row for the same coordinates, and none of those that are called outdated."""
    path = tmp_path / "uniform.csv"
    old, other = row(method_source="old"), row(replace(JOB, hyperparameters=(("hidden", 8),)))
    write_rows(path, [old, other])
    files = RowFiles()
    files.put(path, row(mse=3.0), outdated={other.key})
    files.save()
    assert read_rows(path) == [row(mse=3.0)]


def test_a_row_of_an_earlier_version_lacks_later_columns(tmp_path: Path) -> None:
    """Columns that may be empty may be absent, and then they are empty."""
    path = tmp_path / "uniform.csv"
    write_rows(path, [row()])
    table = [line.split(",") for line in path.read_text().splitlines()]
    place = table[0].index("covering")
    path.write_text("\n".join(",".join([*line[:place], *line[place + 1 :]]) for line in table))
    assert read_rows(path) == [row()]


@pytest.mark.parametrize("second", [row(mse=2.0), row(method_source="other")])
def test_two_rows_of_one_run_are_refused_with_both_lines(tmp_path: Path, second: Record) -> None:
    """As after a merge of what two machines measured: none of them is dropped without a word."""
    path = tmp_path / "uniform.csv"
    write_rows(path, [row(), second, row(replace(JOB, seed=2))])
    before = path.read_bytes()
    message = r"uniform\.csv, line 3: the same run is in line 2 already: uniform ETTh1 .* seed=1"
    with pytest.raises(ValueError, match=message):
        put_row(path, row(replace(JOB, seed=3)))
    assert path.read_bytes() == before


def test_an_error_as_long_as_a_log_is_cut_and_a_long_row_is_read(tmp_path: Path) -> None:
    """A row says how the error begins; a setting of many values has its row, too."""
    path = tmp_path / "uniform.csv"
    job = replace(JOB, hyperparameters=(("levels", [0.5] * 50_000),))
    record = row(job, status="failed", error="bad luck " * 30_000)
    assert (len(record.error), record.error[-8:]) == (1000, "d lu ...")
    write_rows(path, [record])
    assert read_rows(path) == [record]


@pytest.mark.parametrize("name", ["a/b", "../x", "=cmd", "<b>", "", "Leaderboard", "x" * 101])
def test_a_row_whose_method_has_no_name_is_refused(tmp_path: Path, name: str) -> None:
    """A name becomes a file's: rows that others made are held to that, too."""
    path = tmp_path / "uniform.csv"
    write_rows(path, [row(replace(JOB, method=name))])
    with pytest.raises(ValueError, match=r"uniform\.csv, line 2: .* (cannot be a name|reserved)"):
        read_rows(path)


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
