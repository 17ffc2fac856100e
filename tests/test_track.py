"""Tracking writes to a real MLflow store in a temporary folder."""

from __future__ import annotations

import json
import logging
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from harness import store, track
from harness.task import Task
from harness.track import Tracker

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
        "import sys, pathlib; from harness.track import Tracker;"
        "Tracker(pathlib.Path(sys.argv[1]), 'empty');"
        "from mlflow.telemetry.client import get_telemetry_client as report; assert not report()"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(folder)]
    return folder, subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def results(tmp_path: Path, making: tuple[Path, CompletedProcess[str]]) -> Path:
    shutil.copy(making[0] / "mlflow.db", tmp_path)
    return tmp_path


def bundle(results: Path, seed: int = 7, status: str = "done", **options: Any) -> Path:  # noqa: ANN401 - fields of several types
    job = store.Job("tiny", "uniform", Task("ordinal", 4, 1, 2), seed, (("width", 3),))
    record = store.row(
        job,
        store.Provenance("c0ffee", "torch 2.13.0"),
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
    return store.write_bundle(results / "runs", record, **content)


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
    assert run.data.params["architecture.head"] == "grid"
    assert run.data.params["keywords.width"] == "3"
    expected = {"method": "uniform", "dataset": "ordinal", "seed": "7", "status": "done"}
    expected |= {"look_back": "4", "horizon": "1", "device": "cpu", "commit": "c0ffee"}
    expected |= {"versions": "torch 2.13.0"}
    assert expected.items() <= run.data.tags.items()
    assert run.info.run_name == "uniform on ordinal 4->1 K=2 seed 7"
    assert (run.info.status, run.info.end_time - run.info.start_time >= 3000) == ("FINISHED", True)
    (dataset,) = [given.dataset for given in run.inputs.dataset_inputs]
    assert (dataset.name, dataset.digest) == ("ordinal", "d" * 36)


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
    record = replace(store.read_bundle(path).record, mse=0.125)
    tracker.record(store.write_bundle(results / "runs", record, curves=(), overlay=None))
    (run,) = tracked(results)
    assert run.data.metrics["mse"] == 0.125


def test_a_run_left_half_logged_is_logged_again(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine stopped between two calls: the next try does not take the stump for the run."""
    tracker, path = Tracker(results, "tiny"), bundle(results)
    with monkeypatch.context() as broken:
        broken.setattr(track, "_artifacts", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
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


def test_there_is_nothing_to_serve_before_the_first_run(tmp_path: Path) -> None:
    """Say what to do, and do not leave an empty store behind."""
    with pytest.raises(FileNotFoundError, match="run a suite first"):
        track.serve(tmp_path, 5000)
    assert not list(tmp_path.iterdir())


def test_serving_is_local_and_says_where(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process becomes MLflow's server, reachable from this machine only."""
    calls: list[list[str]] = []
    monkeypatch.setattr("os.execv", lambda _, command: calls.append(command))
    monkeypatch.setenv("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "")  # Put back afterwards.
    track.serve(results, 5001)
    assert "http://127.0.0.1:5001" in capsys.readouterr().out
    ((python, *command),) = calls
    assert python == sys.executable
    assert command[:3] == ["-m", "mlflow", "ui"]
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--port") + 1] == "5001"
    assert command[command.index("--backend-store-uri") + 1].endswith(f"{results}/mlflow.db")
