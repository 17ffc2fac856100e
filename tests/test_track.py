"""Tracking writes to a real MLflow store in a temporary folder."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from harness.bench import tune
from harness.bench.suite import Choice
from harness.cli import verbs
from harness.core.job import Job, Provenance, new_record
from harness.core.task import Task
from harness.report import browsing, tracking
from harness.report.tracking import Tracker, TrackingError
from harness.results.bundles import read_bundle, write_bundle

CURVES = [
    {"epoch": 1, "train_mse": 0.9, "valid_mse": math.inf, "learning_rate": 0.1, "seconds": 1.0},
    {"epoch": 2, "train_mse": 0.5, "valid_mse": 0.6, "learning_rate": 0.05, "seconds": 2.0},
]
OVERLAY = {
    "values": [0.0, 1.0, 0.0, 1.0],
    "starts": [0, 2],
    "true_starts": None,
    "future": [1.0],
    "forecast": [0.5],
    "method": "uniform",
    "dataset": "ordinal",
    "seed": 7,
}


@pytest.fixture(scope="module")
def making(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CompletedProcess[str]]:
    """A store with its tables, made in a process of its own: it takes seconds, so once for all."""
    folder = tmp_path_factory.mktemp("store")
    code = (
        "import sys, pathlib; from harness.report.tracking import Tracker;"
        "Tracker(pathlib.Path(sys.argv[1]), 'empty');"
        "from mlflow.telemetry.client import get_telemetry_client as report; assert not report()"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        # Its artifacts would be in this folder: a copy of the store would be that of another one.
        database.execute("DELETE FROM experiments WHERE name = 'empty'")
    return folder, done


@pytest.fixture
def results(tmp_path: Path, making: tuple[Path, CompletedProcess[str]]) -> Path:
    shutil.copy(making[0] / "mlflow.db", tmp_path)
    return tmp_path


def bundle(results: Path, seed: int = 7, status: str = "done", **options: Any) -> Path:  # noqa: ANN401 - fields of several types
    job = Job("tiny", "uniform", Task("ordinal", 4, 1, 2), seed, (("width", 3),))
    record = new_record(
        job,
        Provenance("c0ffee", "torch 2.13.0"),
        status=status,
        kind="patcher",
        ranked=True,
        method_source="m" * 64,
        data_hash="d" * 64,
        data_verified=True,
        device="cpu",
        error="" if status == "done" else "out of memory",
        mse=0.25,
        mae=0.5,
        parameters=1234,
        train_seconds=2.0,
        evaluate_seconds=1.0,
    )
    content: dict[str, Any] = {"curves": CURVES, "overlay": OVERLAY, **options}
    return write_bundle(results / "runs", record, **content)


def tracked(results: Path, experiment: str = "tiny") -> list[Run]:
    client = MlflowClient(f"sqlite:///{results / 'mlflow.db'}")
    known = client.get_experiment_by_name(experiment)
    return list(client.search_runs([known.experiment_id])) if known else []


def test_a_run_can_be_found_by_what_it_was(results: Path) -> None:
    """Settings are parameters, identity and provenance are tags, the data set is an input."""
    Tracker(results, "tiny").record(bundle(results))
    (run,) = tracked(results)
    assert run.data.params["task.horizon"] == "1"
    assert run.data.params["budget.learning_rate"] == "0.001"
    assert run.data.params["architecture.head"] == "decoding"
    assert run.data.params["hyperparameters.width"] == "3"
    expected = {"method": "uniform", "dataset": "ordinal", "seed": "7", "status": "done"}
    expected |= {"look_back": "4", "horizon": "1", "device": "cpu", "commit": "c0ffee"}
    expected |= {"versions": "torch 2.13.0"}
    assert expected.items() <= run.data.tags.items()
    assert run.info.run_name == "uniform on ordinal 4->1 K=2 seed 7"
    assert (run.info.status, run.info.end_time - run.info.start_time >= 3000) == ("FINISHED", True)
    (dataset,) = [given.dataset for given in run.inputs.dataset_inputs]
    assert (dataset.name, dataset.digest) == ("ordinal", "d" * 36)


def test_a_run_says_what_it_is_and_where_more_of_it_stands(results: Path) -> None:
    """Its description has the method's card, its cell and its row; nothing empty is a tag."""
    cards = {"uniform": {"summary": "Equal patches.", "source": "this project", "fidelity": ""}}
    tracker = Tracker(results, "tiny", cards=cards)
    tracker.record(bundle(results))
    tracker.record(bundle(results, 8, "failed"))
    failed, done = sorted(tracked(results), key=lambda run: run.info.status)
    for run in (failed, done):
        assert not {"", "None"} & set(run.data.tags.values())
        assert run.data.tags["mlflow.source.name"] == "python -m harness"
        assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    said = done.data.tags["mlflow.note.content"]
    assert "Summary: Equal patches.\n\nSource: this project" in said
    assert "Fidelity" not in said
    assert "(/patchbench/tiny/report/index.html#cell/uniform/ordinal/4/1/2)" in said
    assert "(/patchbench/tiny/uniform.csv)" in said
    assert f"make rerun KEY={done.data.tags['key']}" in said
    assert failed.data.tags["mlflow.note.content"].startswith("Failed: out of memory\n\n")


def test_an_experiment_keeps_the_views_that_its_pages_open_with(results: Path) -> None:
    """One that is older, or whose views were edited, gets them when it is opened next."""
    Tracker(results, "tiny").record(bundle(results))
    client = MlflowClient(f"sqlite:///{results / 'mlflow.db'}")
    (known,) = [one for one in client.search_experiments() if one.name == "tiny"]
    assert browsing.tags().items() <= known.tags.items()
    client.set_experiment_tag(known.experiment_id, "mlflow.sharedViewState.runs", "{}")
    assert tracking.suites(tracking.store_of(results)) == {"tiny": known.experiment_id}
    assert browsing.tags().items() <= client.get_experiment(known.experiment_id).tags.items()


def test_suites_of_a_store_are_those_with_runs_the_newest_first(results: Path) -> None:
    """An experiment of something else is none, and neither is one without runs."""
    client = MlflowClient(f"sqlite:///{results / 'mlflow.db'}")
    client.create_run(client.create_experiment("another project"))
    Tracker(results, "tiny").record(bundle(results))
    Tracker(results, "later").study(search(results, "later"))
    Tracker(results, "bare")
    found = tracking.suites(tracking.store_of(results))
    assert list(found) == ["tiny", "later"]  # the search says that it ran in 2001


def test_scores_costs_and_curves_are_metrics(results: Path) -> None:
    """Final numbers under their own names, a point an epoch under epoch/; settings are none."""
    run = Tracker(results, "tiny").record(bundle(results))
    client = MlflowClient(f"sqlite:///{results / 'mlflow.db'}")
    metrics = client.get_run(run).data.metrics
    assert metrics == {
        "mse": 0.25,
        "mae": 0.5,
        "parameters": 1234,
        "train_seconds": 2,
        "evaluate_seconds": 1,
        "epoch/train_mse": 0.5,
        "epoch/valid_mse": 0.6,
        "epoch/learning_rate": 0.05,
        "epoch/seconds": 2,
    }
    history = client.get_metric_history(run, "epoch/train_mse")
    assert [(point.step, point.value) for point in history] == [(1, 0.9), (2, 0.5)]


def test_what_is_not_finite_is_not_logged(results: Path) -> None:
    """MLflow would read infinity back as 1.8e308."""
    run = Tracker(results, "tiny").record(bundle(results))
    client = MlflowClient(f"sqlite:///{results / 'mlflow.db'}")
    history = client.get_metric_history(run, "epoch/valid_mse")
    assert [(point.step, point.value) for point in history] == [(2, 0.6)]


def test_long_curves_are_logged_whole(results: Path) -> None:
    """MLflow takes a thousand numbers in one call; 400 epochs have 1600."""
    curves = [{**CURVES[1], "epoch": epoch} for epoch in range(1, 401)]
    run = Tracker(results, "tiny").record(bundle(results, curves=curves))
    client = MlflowClient(f"sqlite:///{results / 'mlflow.db'}")
    for name in ("train_mse", "seconds"):
        assert len(client.get_metric_history(run, f"epoch/{name}")) == 400


def test_the_picture_the_record_and_the_log_are_artifacts(results: Path) -> None:
    """They lie beside the store, in one folder whose address is absolute."""
    Tracker(results, "tiny").record(bundle(results, log="one line"))
    (run,) = tracked(results)
    folder = results / "mlflow-artifacts" / run.info.run_id / "artifacts"
    assert run.info.artifact_uri == folder.as_uri()
    assert json.loads((folder / "record.json").read_text())["mse"] == 0.25
    assert (folder / "log.txt").read_text() == "one line"
    assert (folder / "patches.png").read_bytes().startswith(b"\x89PNG")


def test_a_failed_run_is_logged_as_failed(results: Path) -> None:
    """Without curves or picture, with its reason."""
    Tracker(results, "tiny").record(bundle(results, status="failed", curves=(), overlay=None))
    (run,) = tracked(results)
    assert (run.info.status, run.data.tags["error"]) == ("FAILED", "out of memory")


def test_the_same_bundle_twice_is_one_run(results: Path) -> None:
    """Also through a second tracker, as after an interrupted sweep."""
    path = bundle(results)
    first = Tracker(results, "tiny").record(path)
    assert Tracker(results, "tiny").record(path) == first
    assert len(tracked(results)) == 1


def test_a_bundle_made_anew_replaces_its_run(results: Path) -> None:
    """A repeated run has the same key; its older numbers must not stay beside the new ones."""
    tracker = Tracker(results, "tiny")
    path = bundle(results)
    tracker.record(path)
    record = replace(read_bundle(path).record, mse=0.125)
    tracker.record(write_bundle(results / "runs", record, curves=(), overlay=None))
    (run,) = tracked(results)
    assert run.data.metrics["mse"] == 0.125


def test_a_run_left_half_logged_is_logged_again(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine stopped between two calls: the next try does not take the stump for the run."""
    tracker, path = Tracker(results, "tiny"), bundle(results)
    with monkeypatch.context() as broken:
        broken.setattr(tracking, "_artifacts", lambda *_: 1 / 0)
        with pytest.raises(TrackingError, match="ZeroDivisionError"):
            tracker.record(path)
    tracker.record(path)
    (run,) = tracked(results)
    assert run.info.status == "FINISHED"


def test_each_suite_is_an_experiment(results: Path) -> None:
    """Two suites in one store do not see each other's runs."""
    Tracker(results, "tiny").record(bundle(results))
    Tracker(results, "other").record(bundle(results, seed=8))
    assert [run.data.tags["seed"] for run in tracked(results)] == ["7"]
    assert [run.data.tags["seed"] for run in tracked(results, "other")] == ["8"]


def test_another_store_can_be_named(
    results: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Then nothing is written beside the results."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(results / "mlflow.db", elsewhere)
    uri = f"sqlite:///{elsewhere / 'mlflow.db'}"
    Tracker(results, "tiny", uri).record(bundle(results))
    assert [run.data.metrics["mse"] for run in tracked(elsewhere)] == [0.25]
    assert sorted(path.name for path in results.iterdir()) == ["mlflow-artifacts", "runs"]


def test_a_fresh_store_is_made_without_a_word(making: tuple[Path, CompletedProcess[str]]) -> None:
    """Neither tables nor migrations interest the user, and nobody is told of the use."""
    folder, done = making
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [path.name for path in folder.iterdir()] == ["mlflow.db"]


def test_logging_is_left_as_it_was(results: Path) -> None:
    """Keeping MLflow quiet must not silence the program around it."""
    logging.disable(logging.DEBUG)
    try:
        Tracker(results, "tiny")
        assert logging.root.manager.disable == logging.DEBUG
    finally:
        logging.disable(logging.NOTSET)


def test_a_folder_that_is_no_bundle_is_refused(results: Path) -> None:
    """And nothing is logged for it."""
    tracker = Tracker(results, "tiny")
    (results / "runs" / "nothing").mkdir(parents=True)
    with pytest.raises(ValueError, match="is not the bundle of a run"):
        tracker.record(results / "runs" / "nothing")
    assert not tracked(results)


def search(results: Path, suite: str = "tiny") -> Path:
    """The file that a search of four trials leaves: one pruned, one failed."""
    job = Job(suite, "uniform", Task("ordinal", 4, 1, 2), 7, (("width", 3),))
    states = {"complete": 2, "fail": 1, "pruned": 1}
    choice = Choice("ordinal", 4, 1, 2, 7, 4, states, "uniform ordinal", 0.5, 0.002, {"width": 5})
    ends = [("complete", 0.75), ("pruned", 0.875), ("fail", None), ("complete", 0.5)]
    trials = [
        {
            "number": number,
            "state": state,
            "value": value,
            "params": {"budget.learning_rate": 0.001 * (number + 1), "width": 3 + number},
            "epochs": {} if value is None else {"1": 1.0, "2": value},
            "started": 1e9 + 10.0 * number,
            "seconds": 5.0,
        }
        for number, (state, value) in enumerate(ends)
    ]
    importances = {"width": 0.75, "budget.learning_rate": 0.25}
    found = tune.Found(job, "e" * 16, choice, "d" * 64, "cpu", importances, trials)
    folder = results / "tuning" / suite
    folder.mkdir(parents=True, exist_ok=True)
    return tune._tell(folder, found, Provenance("c0ffee", "torch 2.13.0"))


def test_a_search_is_a_run_with_its_trials_nested(results: Path) -> None:
    """Settings, values, states and curves of all trials; what was chosen, and what mattered."""
    parent = Tracker(results, "tiny").study(search(results))
    runs = tracked(results)
    (study,) = [run for run in runs if run.data.tags["level"] == "study"]
    assert study.info.run_id == parent
    expected = {"key": "e" * 16, "method": "uniform", "dataset": "ordinal", "horizon": "1"}
    expected |= {"seed": "7", "commit": "c0ffee", "device": "cpu", "versions": "torch 2.13.0"}
    assert expected.items() <= study.data.tags.items()
    assert study.data.params["chosen.width"] == "5"
    assert study.data.params["chosen.learning_rate"] == "0.002"
    assert study.data.params["task.horizon"] == "1"
    assert study.data.metrics == {
        "valid_mse": 0.5,
        "trials": 4,
        "trials_complete": 2,
        "trials_fail": 1,
        "trials_pruned": 1,
        "importance/width": 0.75,
        "importance/budget.learning_rate": 0.25,
        "seconds": 20,
    }
    assert (study.info.start_time, study.info.end_time) == (10**12, 10**12 + 35_000)
    (given,) = study.inputs.dataset_inputs
    assert given.dataset.digest == "d" * 36
    folder = results / "mlflow-artifacts" / parent / "artifacts"
    assert (folder / "tuning.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((folder / "study.json").read_text())["key"] == "e" * 16
    trials = sorted(
        (run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent),
        key=lambda run: run.info.start_time,
    )
    assert [run.info.run_name for run in trials] == [f"trial {number}" for number in (1, 2, 3, 4)]
    states = [(run.data.tags["state"], run.info.status) for run in trials]
    assert states == [
        ("complete", "FINISHED"),
        ("pruned", "KILLED"),
        ("fail", "FAILED"),
        ("complete", "FINISHED"),
    ]
    assert trials[1].data.params == {"budget.learning_rate": "0.002", "width": "4"}
    assert trials[3].data.metrics == {"valid_mse": 0.5, "epoch/valid_mse": 0.5, "seconds": 5}
    assert trials[2].data.metrics == {"seconds": 5}
    client = MlflowClient(f"sqlite:///{results / 'mlflow.db'}")
    curve = client.get_metric_history(trials[3].info.run_id, "epoch/valid_mse")
    assert [(point.step, point.value) for point in curve] == [(1, 1.0), (2, 0.5)]


def test_a_search_told_again_replaces_its_runs(results: Path) -> None:
    """The same file twice is one run; one with more trials takes its place, trials and all."""
    path = search(results)
    first = Tracker(results, "tiny").study(path)
    assert Tracker(results, "tiny").study(path) == first
    content = json.loads(path.read_text())
    content["trials"] = content["trials"][:2]
    path.write_text(json.dumps(content))
    assert Tracker(results, "tiny").study(path) != first
    levels = sorted(run.data.tags["level"] for run in tracked(results))
    assert levels == ["study", "trial", "trial"]


def test_a_file_that_is_no_search_is_refused(results: Path) -> None:
    """And nothing is logged for it."""
    (results / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json is not the file of a search"):
        Tracker(results, "tiny").study(results / "other.json")
    assert not tracked(results)


def content(results: Path) -> list[dict[str, Any]]:
    """All that a store says, without ids, times and MLflow's own notes on where it was called."""
    client = MlflowClient(f"sqlite:///{results / 'mlflow.db'}")
    runs = tracked(results)
    names = {run.info.run_id: run.info.run_name for run in runs}
    told = []
    for run in runs:
        tags = {name: text for name, text in run.data.tags.items() if "mlflow." not in name}
        folder = results / "mlflow-artifacts" / run.info.run_id / "artifacts"
        told.append(
            {
                "name": run.info.run_name,
                "status": run.info.status,
                "in": names.get(run.data.tags.get("mlflow.parentRunId", "")),
                "tags": tags,
                "params": run.data.params,
                "metrics": {
                    name: [
                        (point.step, point.value)
                        for point in client.get_metric_history(run.info.run_id, name)
                    ]
                    for name in run.data.metrics
                },
                "data": [
                    (given.dataset.name, given.dataset.digest)
                    for given in run.inputs.dataset_inputs
                ],
                "artifacts": {path.name: path.read_bytes() for path in folder.glob("*")},
            }
        )
    return sorted(told, key=lambda run: (run["in"] or "", run["name"]))


def test_a_store_that_was_deleted_is_filled_again_from_files(
    results: Path, making: tuple[Path, CompletedProcess[str]]
) -> None:
    """Parameters, metrics with their curves, tags, data sets and artifacts: all are back."""
    tracker = Tracker(results, "tiny")
    for seed, status in ((7, "done"), (8, "failed")):
        tracker.record(bundle(results, seed, status, log="a line"))
    tracker.study(search(results))
    before = content(results)
    assert len(before) == 2 + 1 + 4
    assert [len(run["artifacts"]) for run in before if run["in"] is None] == [2, 3, 3]
    # In another place, since this process still has the old store open.
    anew = results / "anew"
    anew.mkdir()
    shutil.copy(making[0] / "mlflow.db", anew)  # empty, without the seconds that making one takes
    for name in ("runs", "tuning"):
        (results / name).rename(anew / name)
    heard: list[tuple[int, int]] = []
    filled = tracking.fill(anew, "tiny", progress=lambda done, of: heard.append((done, of)))
    assert (filled.logged, filled.there, filled.refused) == (3, 0, [])
    assert heard == [(1, 3), (2, 3), (3, 3)]
    assert content(anew) == before


def test_an_experiment_deleted_in_the_ui_is_restored(results: Path) -> None:
    """Its name stays taken, so nothing could be logged under it ever again."""
    tracker = Tracker(results, "tiny")
    tracker.record(bundle(results))
    client = MlflowClient(f"sqlite:///{results / 'mlflow.db'}")
    client.delete_experiment(client.get_experiment_by_name("tiny").experiment_id)
    bundle(results, 8)
    filled = tracking.fill(results, "tiny")
    assert (filled.logged, filled.there) == (1, 1)
    assert sorted(run.data.tags["seed"] for run in tracked(results)) == ["7", "8"]


@pytest.mark.parametrize("fault", ["copied", "garbage", "deleted"])
def test_a_local_store_that_cannot_be_used_is_made_anew_from_bundles(
    results: Path,
    tmp_path_factory: pytest.TempPathFactory,
    making: tuple[Path, CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
) -> None:
    """With all suites of the folder; what was there is put aside, and nothing goes elsewhere."""

    def client(uri: str) -> MlflowClient:
        """A store that has to be made is there without the seconds that making one takes."""
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.exists():
            shutil.copy(making[0] / "mlflow.db", path)
        return MlflowClient(uri)

    monkeypatch.setattr(tracking, "MlflowClient", client)
    Tracker(results, "tiny").record(bundle(results))
    bundle(results, 8)
    search(results, "another")
    there = content(results)
    copy = tmp_path_factory.mktemp("copy") / "results"
    shutil.copytree(results, copy)
    if fault == "garbage":
        (copy / "mlflow.db").write_bytes(b"no database" * 100)
    if fault == "deleted":
        (copy / "mlflow.db").unlink()
    tracker = tracking.open_tracker(copy, "tiny")
    tracker.record(bundle(copy, 9))
    assert sorted(run.data.tags["seed"] for run in tracked(copy)) == ["7", "8", "9"]
    assert len(tracked(copy, "another")) == 1 + 4
    for run in tracked(copy):
        assert run.info.artifact_uri.startswith((copy / "mlflow-artifacts").as_uri())
    assert content(results) == there
    words = {"copied": "is of another folder", "garbage": "is damaged", "deleted": ""}
    assert words[fault] in tracker.flaw
    assert (copy / "mlflow.db.old").exists() == (fault != "deleted")


def test_a_server_that_is_down_ends_the_verb_with_a_sentence(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback: there is something the user can do about it."""
    words = ["track", "--suite", "tiny", "--results", str(results)]
    monkeypatch.setattr(sys, "argv", ["patchbench", *words, "--tracking", "http://127.0.0.1:9"])
    with pytest.raises(SystemExit) as ended:
        verbs.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: MLflow at http://127.0.0.1:9: ")


def test_only_what_is_missing_is_logged_later(results: Path) -> None:
    """Of this suite alone; a damaged bundle is named and stops nothing; twice changes nothing."""
    tracker = Tracker(results, "tiny")
    tracker.record(bundle(results))
    bundle(results, 8)
    other = bundle(results, 9)
    text = (other / "record.json").read_text()
    (other / "record.json").write_text(text.replace('"tiny"', '"another"', 1))
    (results / "runs" / "torn").mkdir()
    (results / "runs" / "torn" / "record.json").write_text("{")
    (results / "runs" / ".half.123").mkdir()
    (results / "runs" / ".half.123" / "record.json").write_text("{")
    search(results)
    search(results, "another")
    filled = tracking.fill(results, "tiny")
    assert (filled.logged, filled.there) == (2, 1)
    assert [why.split(" is not")[0] for why in filled.refused] == [str(results / "runs" / "torn")]
    before = content(results)
    again = tracking.fill(results, "tiny")
    assert (again.logged, again.there, len(again.refused)) == (0, 3, 1)
    assert content(results) == before
    seeds = [run["tags"]["seed"] for run in before if run["tags"]["level"] == "run"]
    assert sorted(seeds) == ["7", "8"]


@contextmanager
def mute_server(calls: list[int]) -> Iterator[int]:
    """A server that takes every call and answers none; its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            with suppress(OSError), ExitStack() as callers:
                while True:
                    callers.enter_context(server.accept()[0])
                    calls.append(1)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(
    "address", ["http://me:secret@127.0.0.1:{}", "postgresql://me:secret@127.0.0.1:{}/runs"]
)
def test_a_store_that_does_not_answer_is_called_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Neither one that hangs nor one that is not there; the password stays out of the message."""
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert 0 < int(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) <= 5
    assert tracking._driven("postgresql://h/runs").endswith("connect_timeout=5")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    calls: list[int] = []
    with mute_server(calls) as port:
        uri = address.format(port)
        uri += "?connect_timeout=2" if "postgresql" in uri else ""  # the least there is
        with pytest.raises(TrackingError, match="make track SUITE=tiny logs what is missing") as e:
            Tracker(tmp_path, "tiny", uri)
    assert calls == [1]
    assert "secret" not in str(e.value)
    assert f"127.0.0.1:{port}" in str(e.value)
    with pytest.raises(TrackingError, match="make track SUITE=tiny"):
        Tracker(tmp_path, "tiny", uri)  # nobody is there any more


def opens_and_records(results: str, bundle: str) -> str:
    """One of eight processes that meet a store at the same time."""
    return Tracker(Path(results), "tiny").record(Path(bundle))


def test_eight_processes_may_meet_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    """One of them makes it, and every run reaches it."""
    bundles = [str(bundle(tmp_path, seed)) for seed in range(8)]
    # Forked from a process that has imported everything: all eight arrive at once.
    context = get_context("forkserver")
    context.set_forkserver_preload(["harness.report.tracking"])
    with context.Pool(8) as pool:
        runs = pool.starmap(
            opens_and_records, [(str(tmp_path), path) for path in bundles], chunksize=1
        )
    assert len(set(runs)) == 8
    assert sorted(run.data.tags["seed"] for run in tracked(tmp_path)) == list("01234567")
