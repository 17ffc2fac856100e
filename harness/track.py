"""Runs for looking at: MLflow in a local store. The only module that knows MLflow.

Nothing is read back from there: the truth is the rows and the bundles, and the store can be
deleted and filled again from the bundles. Only one process may create a store, so the parent of a
sweep makes the :class:`Tracker` before its workers start.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# MLflow reports its use to its makers; this is its only switch, and it is read on import.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from mlflow.entities import Dataset, DatasetInput, Metric, Param
from mlflow.tracking import MlflowClient

from harness import figures
from harness.store import Bundle, Record, read_bundle

_TAGS = ("suite", "method", "dataset", "look_back", "horizon", "patches", "seed", "status", "key")
_PROVENANCE = ("device", "commit", "versions", "protocol", "data_hash", "error")
# MLflow takes 1000 items in one call, of which a job's settings are fewer than 100.
_AT_ONCE = 900


class Tracker:
    """An experiment, a run a bundle: in ``results/mlflow.db``, or in the store at ``uri``.

    Making one creates or migrates the store, which takes seconds the first time.
    """

    def __init__(self, results: Path, experiment: str, uri: str | None = None) -> None:
        results.mkdir(parents=True, exist_ok=True)
        # A server keeps artifacts itself; for a database the default would be the working folder.
        is_server = (uri or "").startswith("http")
        artifacts = None if is_server else (results / "mlflow-artifacts").resolve().as_uri()
        with _quiet():
            self._client = MlflowClient(uri or _local(results))
            known = self._client.get_experiment_by_name(experiment)
            self._experiment = (
                known.experiment_id
                if known
                else self._client.create_experiment(experiment, artifact_location=artifacts)
            )

    def record(self, bundle: Path) -> str:
        """Log the bundle of a run and return MLflow's id for it.

        The same bundle twice is one run; a bundle made anew under the same key replaces the older.
        """
        content = read_bundle(bundle)
        digest = sha256((bundle / "record.json").read_bytes()).hexdigest()
        with _quiet():
            for run in self._client.search_runs(
                [self._experiment], f"tags.key = '{content.record.key}'"
            ):
                is_whole = run.info.status != "RUNNING"
                if is_whole and run.data.tags.get("digest") == digest:
                    return str(run.info.run_id)
                self._client.delete_run(run.info.run_id)
            return self._log(bundle, content, digest)

    def _log(self, bundle: Path, content: Bundle, digest: str) -> str:
        record = content.record
        now = time.time_ns() // 1_000_000
        spent = 1000 * ((record.train_seconds or 0) + (record.evaluate_seconds or 0))
        tags = {name: str(getattr(record, name)) for name in (*_TAGS, *_PROVENANCE)}
        tags["digest"] = digest
        run = self._client.create_run(
            self._experiment, start_time=now - int(spent), tags=tags, run_name=_name(record)
        ).info.run_id
        with TemporaryDirectory() as folder:
            _artifacts(bundle, content, Path(folder))
            self._client.log_artifacts(run, folder)
        metrics = _metrics(content, now)
        params = [Param(name, text) for name, text in _flat(json.loads(record.job))]
        # One call is the rule: the others are for very long curves.
        self._client.log_batch(run, metrics[:_AT_ONCE], params)
        for start in range(_AT_ONCE, len(metrics), _AT_ONCE):
            self._client.log_batch(run, metrics[start : start + _AT_ONCE])
        if record.data_hash:
            source = Dataset(record.dataset, record.data_hash[:36], "local", record.dataset)
            self._client.log_inputs(run, [DatasetInput(source)])
        self._client.set_terminated(run, "FINISHED" if record.status == "done" else "FAILED")
        return str(run)


def serve(results: Path, port: int) -> None:
    """Turn this process into MLflow's web server on 127.0.0.1; say where to look.

    Raises:
        FileNotFoundError: nothing has been tracked in ``results`` yet.
    """
    if not (results / "mlflow.db").exists():
        raise FileNotFoundError(f"nothing is tracked in {results} yet: run a suite first")
    sys.stdout.write(f"MLflow: http://127.0.0.1:{port} (Ctrl-C ends it)\n")
    sys.stdout.flush()
    server = ("-m", "mlflow", "ui", "--backend-store-uri", _local(results))
    address = ("--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    # One reader needs no workers to share the load, nor the seven processes of a job queue.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    os.execv(sys.executable, [sys.executable, *server, *address])  # noqa: S606 - no shell needed


def _local(results: Path) -> str:
    return f"sqlite:///{(results / 'mlflow.db').resolve()}"


def _name(record: Record) -> str:
    task = f"{record.dataset} {record.look_back}->{record.horizon} K={record.patches}"
    return f"{record.method} on {task} seed {record.seed}"


def _metrics(content: Bundle, now: int) -> list[Metric]:
    """Scores and costs, and the curves under ``epoch/``; what is not finite stays out."""
    settings = {*_TAGS, *_PROVENANCE, "season"}
    row = asdict(content.record).items()
    measured = [(name, value, 0) for name, value in row if name not in settings]
    curves = [
        (f"epoch/{name}", value, int(epoch["epoch"]))
        for epoch in content.curves
        for name, value in epoch.items()
        if name != "epoch"
    ]
    return [
        Metric(name, float(value), now, step)
        for name, value, step in (*measured, *curves)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    ]


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(inner)


def _artifacts(bundle: Path, content: Bundle, folder: Path) -> None:
    for name in ("record.json", "log.txt"):
        if (bundle / name).exists():
            shutil.copy(bundle / name, folder)
    if content.overlay is not None:
        figures.overlay(content.overlay).savefig(folder / "patches.png", dpi=100)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what MLflow says about its migrations and its own old calls, and nothing after."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.disable(before)
