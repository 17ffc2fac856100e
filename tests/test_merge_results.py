"""Two results folders become one: what is new is taken, what contradicts is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_rows import JOB, row

from harness.bench import merge, watch
from harness.bench.suite import Choice, choices, write_choices
from harness.cli import verbs
from harness.core.job import Record
from harness.results.bundles import read_bundle, write_bundle
from harness.results.rows import read_rows, write_rows

SCORES = {"mse_raw": 0.3, "mae_raw": 0.3, "mase": 0.9, "smape": 9.0, "tokens_mean": 12.0}
DECLARED = {"strict": True, "rules": "best", **SCORES}


def run(seed: int, **changes: object) -> Record:
    return row(replace(JOB, seed=seed), **{**DECLARED, **changes})


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Results with seeds 1 and 2."""
    write_rows(tmp_path / "here" / "small" / "uniform.csv", [run(1), run(2)])
    return tmp_path / "here"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Results with seeds 2 and 3, and a method that is not here; seed 3 has its bundle."""
    folder = tmp_path / "other"
    elsewhere = {"device": "H100", "train_seconds": 5.0}
    write_rows(folder / "small" / "uniform.csv", [run(2, **elsewhere), run(3)])
    new = row(replace(JOB, method="random_step"), **DECLARED)
    write_rows(folder / "small" / "random_step.csv", [new])
    write_bundle(folder / "runs", run(3), curves=[{"epoch": 1.0}], overlay=None)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and "lock-" not in path.name)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_new_rows_come_with_their_bundles(here: Path, other: Path) -> None:
    """What is here stays, and the same run done elsewhere to the same digits is no news."""
    assert merge.merge(other, here) == merge.Merged(taken=2, there=1, bundles=1)
    assert read_rows(here / "small" / "uniform.csv") == [run(1), run(2), run(3)]
    assert [own.method for own in read_rows(here / "small" / "random_step.csv")] == ["random_step"]
    assert read_bundle(here / "runs" / run(3).key).curves == ({"epoch": 1.0},)
    before = contents(here)
    assert merge.merge(other, here) == merge.Merged(taken=0, there=3, bundles=0)
    assert contents(here) == before


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (run(2, mse=0.2), r"mse: 0.1 -> 0.2 \(\+1e\+02 %\)"),
        (run(2, mse=0.2, mae=0.3), "mse: .* and 1 more"),
        (run(2, method_source="other"), "key: .* code, settings or data are others"),
        (run(2, status="failed", mse=None, mae=None), "status: done -> failed"),
    ],
)
def test_two_rows_of_one_run_that_differ_are_refused_with_both_lines(
    here: Path, other: Path, second: Record, why: str
) -> None:
    """Nothing is taken then, not even what is new elsewhere."""
    write_rows(other / "small" / "uniform.csv", [second, run(3)])
    before = contents(here)
    both = r"here/small/uniform.csv, line 3, and .*other/small/uniform.csv, line 2, are of one run"
    with pytest.raises(ValueError, match=rf"{both}, uniform .*seed=2, and differ \({why}"):
        merge.merge(other, here)
    assert contents(here) == before


def test_rows_that_cannot_share_a_leaderboard_are_refused(here: Path, other: Path) -> None:
    """Other data under the same name show only where both stand side by side."""
    write_rows(other / "small" / "uniform.csv", [run(3, data_hash="cc")])
    before = contents(here)
    with pytest.raises(ValueError, match=r"'small' cannot stand together: ETTh1: runs on"):
        merge.merge(other, here)
    assert contents(here) == before


def test_a_row_in_the_wrong_file_is_refused(here: Path, other: Path) -> None:
    """It would get lost among rows of another method."""
    write_rows(other / "small" / "soft.csv", [run(3)])
    with pytest.raises(ValueError, match=r"soft.csv, line 2 is of 'uniform' in 'small'"):
        merge.merge(other, here)


def choice(horizon: int = 24, rate: float = 0.1) -> Choice:
    place = {"dataset": "ETTh1", "look_back": 96, "horizon": horizon, "patches": 12}
    found = {"states": {"complete": 2}, "study": "s", "valid_mse": 0.5, "learning_rate": rate}
    return Choice(**place, seed=1, trials=2, hyperparameters={"hidden": 8}, **found)  # type: ignore[arg-type]  # fields of several types


def test_what_searches_chose_is_taken_too(here: Path, other: Path) -> None:
    """Task by task, and the file of a search that is not here; another choice is refused."""
    write_choices(here / "small" / "tuned" / "uniform.toml", [choice()])
    write_choices(other / "small" / "tuned" / "uniform.toml", [choice(48), choice()])
    study = other / "tuning" / "small" / "key.json"
    study.parent.mkdir(parents=True)
    study.write_text(json.dumps({"key": 1}))
    merge.merge(other, here)
    assert choices(here / "small" / "tuned" / "uniform.toml") == [choice(), choice(48)]
    assert (here / "tuning" / "small" / "key.json").read_bytes() == study.read_bytes()
    write_choices(other / "small" / "tuned" / "uniform.toml", [choice(rate=0.2)])
    with pytest.raises(ValueError, match=r"uniform.toml have other choices for ETTh1 96 24 12"):
        merge.merge(other, here)


def test_folders_that_cannot_be_merged_are_named(here: Path, other: Path) -> None:
    """One that is not there, the same one, one without rows, one in which a bench is at work."""
    with pytest.raises(ValueError, match="nowhere is no folder of results"):
        merge.merge(here.parent / "nowhere", here)
    with pytest.raises(ValueError, match="itself"):
        merge.merge(here, here.parent / "here" / "." / ".." / "here")
    (here.parent / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no rows"):
        merge.merge(here.parent / "empty", here)
    for folder in (here, other):
        with (
            watch.alone(folder, "small"),
            pytest.raises(ValueError, match=rf"{folder.name} is in use by process"),
        ):
            merge.merge(other, here)


def test_the_verb_says_what_was_taken(
    here: Path, other: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make merge FROM=other`."""
    verbs.merge(other, here)
    said = capsys.readouterr().out
    assert "2 rows and 1 bundles; 1 rows were here before" in said
