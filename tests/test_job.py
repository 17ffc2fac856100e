"""Jobs, records and the key that joins them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_rows import JOB, row

from harness.core import job
from harness.core.job import (
    Job,
    job_key,
    job_of,
    recomputed_key,
    why_stale,
)
from harness.core.protocol import PROTOCOL
from harness.core.task import Architecture, Budget
from harness.data import Source
from harness.results.rows import read_rows, write_rows


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


def test_the_key_knows_neither_suite_nor_path_nor_order_of_hyperparameters() -> None:
    """What cannot change the number leaves the key alone."""
    job = replace(JOB, hyperparameters=(("a", 1), ("b", 2)), source=Source(Path("a.csv"), "h", 24))
    same = replace(
        job,
        suite="other",
        hyperparameters=(("b", 2), ("a", 1)),
        source=Source(Path("/else/where/a.csv"), "h", 24),
    )
    assert job_key(job, "aa", "bb") == job_key(same, "aa", "bb")


def test_how_an_own_file_is_written_is_no_part_of_the_key() -> None:
    """The data's hash covers what was read: a row stays valid when its file is exported anew."""
    own = Source(Path("a.csv"), "h", 24)
    other = replace(own, separator=";", decimal=",", encoding="latin-1", stamp_format="s")
    job, same = replace(JOB, source=own), replace(JOB, source=other)
    assert job_key(job, "aa", "bb") == job_key(same, "aa", "bb")
    assert not why_stale(row(job), same, "aa", "bb")
    assert job_of(row(same)).source == other


def test_a_key_of_own_data_stays_what_it_was() -> None:
    """A row from before there were keys for how a file is written keeps the one it has."""
    record = row(replace(JOB, source=Source(Path("a.csv"), "h", 24)))
    told = json.loads(record.job)
    for name in ("separator", "decimal", "encoding", "stamp_format"):
        del told["source"][name]
    assert recomputed_key(replace(record, job=json.dumps(told))) == record.key


def test_the_key_can_be_recomputed_from_the_row(tmp_path: Path) -> None:
    """A row read back proves which run it is; an edited one does not."""
    job = replace(JOB, source=Source(Path("a.csv"), "h", 24), budget=Budget(learning_rate=3e-4))
    write_rows(tmp_path / "uniform.csv", [row(job)])
    (read,) = read_rows(tmp_path / "uniform.csv")
    assert recomputed_key(read) == read.key == job_key(job, "aa", "bb")
    assert recomputed_key(replace(read, data_hash="bx")) != read.key


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "ok"}, "status is 'ok'; allowed: done, failed, diverged"),
        ({"mse": None}, "needs mse and mae"),
        ({"rules": "sample best", "rule": "even"}, "rule is 'even'; declared: sample best"),
        ({"rules": None, "rule": "best"}, "rule is 'best'; declared: none"),
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
