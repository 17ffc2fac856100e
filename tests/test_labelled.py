"""Series that people labelled: no window joins two, and errors at labels stand apart."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small_rows import JOB, row

from harness.bench import suite
from harness.bench.plan import plan
from harness.bench.survey import Folders, survey
from harness.cli import display
from harness.core.task import Architecture, Budget, Task
from harness.data import Series, entry, labelled_files, load, outline
from harness.data.labelled import CATALOGUE
from harness.report import labels, tables
from harness.report.board import count
from harness.results.rows import write_rows
from harness.results.table import charged, read_table
from harness.run import windows as windows_of
from harness.run.evaluate import evaluate
from harness.run.metrics import last_event
from methods.repeat_last import RepeatLast

JOINS = (0, 30, 50, 90, 110, 150, 165)
TASK = Task("joined", 8, 4, 2, season=1)
BUDGET = Budget(epochs=1, steps=8)
SMALL = Architecture(width=8, layers=1, heads=2, feedforward=16, points=4)


def joined(marks: tuple[int, ...] = (), margin: int | None = 2) -> Series:
    """Seven series of 15 to 40 steps, end to end: three to train on, two to validate."""
    values = np.random.default_rng(1).normal(size=(200, 2))
    return Series(
        name="joined",
        values=values,
        channels=("a", "b"),
        frequency="step",
        season=1,
        borders=(90, 150, 200),
        hash="x",
        boundaries=np.array(marks, dtype=np.int64),
        joins=JOINS,
        margin=margin,
    )


# --- windows -------------------------------------------------------------------------------------


def test_no_window_holds_the_end_of_a_series() -> None:
    """Each one lies in a single series, all that do are there, as many as known before."""
    series, size = joined(), TASK.look_back + TASK.horizon
    ends = (*JOINS[1:], 200)
    parts = [*windows_of.development(series, TASK), windows_of.test(series, TASK)]
    found = [(part.starts + part.offset).tolist() for part in parts]
    series_of = {0: range(3), 1: range(3, 5), 2: range(5, 7)}
    for part, own in series_of.items():
        wanted = [range(JOINS[one], ends[one] - size + 1) for one in own]
        assert found[part] == [*chain(*wanted)]
    assert series.outline.windows(TASK.look_back, TASK.horizon) == tuple(map(len, found))


def test_a_part_without_a_series_long_enough_is_refused_by_name() -> None:
    """The part and the lengths are named."""
    task = replace(TASK, look_back=32, horizon=4)
    with pytest.raises(ValueError, match="no series in the test part of joined is as long as"):
        joined().outline.require_room(task)


def test_a_series_across_a_border_is_refused() -> None:
    """A window of one part would hold steps of another."""
    with pytest.raises(ValueError, match="goes on across one of its borders"):
        replace(joined(), borders=(91, 150, 200))


def test_a_jump_from_one_series_to_the_next_does_not_hide_a_rare_one() -> None:
    """Levels differ by far: next to such steps a spike within a series would be nothing."""
    level = np.repeat(np.arange(7.0), np.diff((*JOINS, 200))) * 100
    channel = level + np.random.default_rng(1).normal(size=200)
    channel[180] += 20
    assert last_event(channel, 200, 1)[-1] < 179
    assert last_event(channel, 200, 1, np.array(JOINS))[-1] in (179, 180)


# --- errors at labels ----------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 7, 50])
def test_errors_at_labels_are_those_that_a_loop_sorts(at_once: int) -> None:
    """Step by step and window by window, whatever the batches."""
    series = joined((155, 162, 180, 181))
    windows = windows_of.test(series, TASK)
    steps: dict[bool, list[float]] = {True: [], False: []}
    whole: dict[bool, list[float]] = {True: [], False: []}
    marks = series.boundaries
    assert marks is not None
    for number, start in enumerate((windows.starts + windows.offset).tolist()):
        one = windows.batch(torch.tensor([number]))
        error = (one.past[0, :, -1:] - one.future[0]).square()
        first = start + TASK.look_back
        for step in range(TASK.horizon):
            near = bool((abs(marks - (first + step)) <= 2).any())
            steps[near] += error[:, step].tolist()
        whole[bool(((marks > start) & (marks < first)).any())] += error.flatten().tolist()
    model = RepeatLast(TASK, SMALL)
    found = evaluate(model, windows, series, budget=BUDGET, at_once=at_once).regions
    assert found["mse_near"] == pytest.approx(np.mean(steps[True]), rel=1e-5)
    assert found["mse_away"] == pytest.approx(np.mean(steps[False]), rel=1e-5)
    assert found["mse_change"] == pytest.approx(np.mean(whole[True]), rel=1e-5)
    assert found["mse_steady"] == pytest.approx(np.mean(whole[False]), rel=1e-5)
    everything = len(steps[True]) + len(steps[False])
    assert found["share_near"] == pytest.approx(len(steps[True]) / everything)
    assert found["share_change"] == pytest.approx(len(whole[True]) / everything)


def test_without_labels_there_is_no_error_at_labels() -> None:
    """Planted boundaries have no margin: nobody set them. Labels of none leave the error empty."""
    model = RepeatLast(TASK, SMALL)
    drawn, unmarked = joined((155,), margin=None), joined(())
    for series, known in ((drawn, False), (unmarked, True)):
        windows = windows_of.test(series, TASK)
        found = evaluate(model, windows, series, budget=BUDGET).regions
        assert ("share_near" in found) is known
        assert found.get("mse_near") is None


# --- the sets ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*CATALOGUE])
def test_a_set_is_what_its_hash_and_its_list_of_series_say(name: str, data_folder: Path) -> None:
    """Read and verified; every part has labels, and room for the windows that are promised."""
    series, known = load(name, [data_folder]), outline(name)
    assert series.hash == CATALOGUE[name].hash
    assert (series.borders, series.joins) == (known.borders, known.joins)
    assert series.boundaries is not None
    train, valid, test = series.borders
    for first, end in ((0, train), (train, valid), (valid, test)):
        assert ((series.boundaries >= first) & (series.boundaries < end)).any()
    assert min(known.windows(48, 12)) > 0


def test_devices_need_no_file_and_have_changes_in_the_test_part() -> None:
    """The embedded series, cut elsewhere."""
    series, embedded = load("devices", []), load("electric_devices", [])
    assert np.array_equal(series.values, embedded.values)
    assert series.boundaries is not None
    assert (series.boundaries >= series.borders[1]).sum() == 2


def test_each_series_of_many_units_is_scaled_by_its_own_training_part(data_folder: Path) -> None:
    """Mean 0 and deviation 1 there, so that no series outweighs the others."""
    series = load("tssb", [data_folder])
    assert series.joins is not None
    first = series.values[: series.joins[1]]
    assert (first.mean(), first.std()) == (pytest.approx(0, abs=1e-6), pytest.approx(1, abs=1e-6))


def test_copies_as_csv_are_the_same_set(tmp_path: Path, data_folder: Path) -> None:
    """Lists of change points are text there."""
    for name in ("tssb", "tssb_labels"):
        frame = pd.read_parquet(data_folder / "events" / f"{name}.parquet")
        if "change_points" in frame:
            frame["change_points"] = frame.change_points.map(lambda own: str(own.tolist()))
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    assert load("tssb", [tmp_path]).hash == CATALOGUE["tssb"].hash


def test_a_file_that_is_missing_or_altered_is_named(tmp_path: Path, data_folder: Path) -> None:
    """A value, a series, a gap, a column: each is refused with what is wrong."""
    with pytest.raises(FileNotFoundError, match=r"not here: events/skab\.parquet; looked in"):
        load("skab", [tmp_path])
    place = tmp_path / "skab.parquet"
    shutil.copy(data_folder / "events" / "skab.parquet", place)
    frame = pd.read_parquet(place)
    frame["Pressure"] += 1e-9
    frame.to_parquet(place)
    with pytest.raises(ValueError, match=r"skab\.parquet is not skab: some value"):
        load("skab", [tmp_path])
    frame[frame.item_id != "valve1/3"].to_parquet(place)
    with pytest.raises(ValueError, match="skab: the series 'valve1/3' is missing"):
        load("skab", [tmp_path])
    frame.loc[9, "Current"] = np.nan
    frame.to_parquet(place)
    with pytest.raises(ValueError, match=r"9404 steps of 'anomaly-free/anomaly-free' are there"):
        load("skab", [tmp_path])
    frame.drop(columns="Voltage").to_parquet(place)
    with pytest.raises(ValueError, match="no column 'Voltage'"):
        load("skab", [tmp_path])


def test_a_bench_without_the_files_says_so_and_loses_no_other_run(tmp_path: Path) -> None:
    """Runs on sets that are not here are absent, the others are planned."""
    path = tmp_path / "own.toml"
    path.write_text(
        'methods = ["uniform"]\nseeds = [1]\n[budget]\nepochs = 1\n[[tasks]]\n'
        'datasets = ["devices", "skab"]\nlook_back = 48\n'
        "horizons = [12]\npatch = 8\n"
    )
    jobs = plan(suite.load(path))
    planned = survey(jobs, Folders(results=tmp_path, data=(tmp_path,), cache=tmp_path))
    assert {run.job.task.dataset: run.state for run in planned} == {
        "devices": "missing",
        "skab": "absent",
    }
    assert planned[-1].absent == labelled_files("skab")


def test_the_list_of_data_sets_says_which_labelled_ones_are_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make data` shows them, and says why one cannot be downloaded."""
    display.list_data(Folders(results=tmp_path, data=(tmp_path,), cache=tmp_path))
    lines = {
        line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()
    }
    assert "not at hand" in lines["skab"]
    assert "not" not in lines["devices"]
    with pytest.raises(ValueError, match=r"read from events/skab\.parquet: it cannot be downl"):
        entry("skab")


# --- the table -----------------------------------------------------------------------------------


PATCHER = {"strict": True, "rules": "best", "rule": "best", "tokens_mean": 12.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two seeds of three methods on labelled devices, and on a set without labels."""
    place = tmp_path / "small"
    place.mkdir()
    task_of = {name: replace(JOB.task, dataset=name) for name in ("devices", "ETTh1")}
    errors = {"uniform": (1.0, 1.0), "reinpatch": (0.81, 1.0), "seasonal_naive": (4.0, 2.0)}
    for method, (near, away) in errors.items():
        write_rows(
            place / f"{method}.csv",
            [
                row(
                    replace(JOB, method=method, seed=seed, task=task_of[dataset]),
                    kind="reference" if method == "seasonal_naive" else "patcher",
                    mse=away,
                    mse_raw=away,
                    mae_raw=1.0,
                    mase=1.0,
                    smape=1.0,
                    **({} if method == "seasonal_naive" else PATCHER),
                    mse_near=near if is_labelled else None,
                    mse_away=away if is_labelled else None,
                    share_near=0.25 if is_labelled else None,
                    share_change=0.0 if is_labelled else None,
                    recall_3=None if method == "seasonal_naive" else near / 2,
                )
                for dataset, is_labelled in (("devices", True), ("ETTh1", False))
                for seed in (1, 2)
            ],
        )
    return place


def test_changes_at_labels_are_those_against_equal_patches(folder: Path) -> None:
    """Paired by run, in percent; empty where nothing is of the kind."""
    table = labels.by_dataset(charged(read_table(folder))).set_index("method")
    assert set(table.dataset) == {"devices"}
    assert table.mse_near.to_dict() == pytest.approx(
        {"uniform": 0.0, "reinpatch": -19.0, "seasonal_naive": 300.0}
    )
    assert table.mse_away.to_dict() == pytest.approx(
        {"uniform": 0.0, "reinpatch": 0.0, "seasonal_naive": 100.0}
    )
    assert table.mse_change.drop("uniform").isna().all()
    assert table.recall_3["reinpatch"] == pytest.approx(0.405)
    assert np.isnan(table.recall_3["seasonal_naive"])


def test_the_leaderboard_shows_errors_at_labels(folder: Path) -> None:
    """A line for each method on labelled sets, and on no other."""
    said = tables.markdown(count(read_table(folder)))
    lines = [line for line in said.splitlines() if line.startswith("| devices (25 % near)")]
    assert lines[0].startswith("| devices (25 % near) | `reinpatch` | -19.00 % | +0.00 % |")
    assert [line.split("`")[1] for line in lines] == ["reinpatch", "uniform", "seasonal_naive"]
    assert "ETTh1 (" not in said


def test_rows_without_labels_have_no_such_table(folder: Path) -> None:
    """Nor have rows that are older than the columns, or without equal patches."""
    rows = charged(read_table(folder))
    assert labels.by_dataset(rows[rows.dataset == "ETTh1"]).empty
    assert labels.by_dataset(rows.drop(columns="share_near")).empty
    assert labels.by_dataset(rows[rows.method != "uniform"]).empty
