"""Runs and searches to look at in MLflow, local or a team's: the only module that writes there.

No result is read back from there: the truth is the rows, the bundles and the files of the
searches, and the store can be deleted and filled again from them. Only one process writes, the
parent of a sweep, which makes the :class:`Tracker` before its workers start.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import pandas as pd

# MLflow reports its use to its makers; this is its only switch, and it is read on import.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
# By default MLflow waits minutes for a server that is down. Nothing is lost by giving up at once:
# what was not logged is logged by `make track`.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

from mlflow.entities import Dataset, DatasetInput, Experiment, Metric, Param, Run
from mlflow.store.db import utils as databases
from mlflow.tracking import MlflowClient

from harness.core.files import locked
from harness.core.job import Record
from harness.report import browsing, figures, store
from harness.results.bundles import Bundle, read_bundle
from harness.results.table import TASK, name_of_run

databases.MAX_RETRY_COUNT = 1  # the same for a database, which has no other switch

_TAGS = (
    *("suite", "method", "dataset", "look_back", "horizon", "patches", "seed", "status", "key"),
    *("stage", "corpus", "needs", "leak"),
)
_PROVENANCE = ("device", "commit", "versions", "protocol", "data_hash", "failure", "error")
_CARD = ("summary", "source", "fidelity")
# MLflow takes 1000 items in one call, of which a job's settings are fewer than 100.
_AT_ONCE = 900
_ENDED = {"done": "FINISHED", "complete": "FINISHED", "pruned": "KILLED"}


class TrackingError(OSError):
    """MLflow did not take something; the message says what to do about it."""


@dataclass(frozen=True)
class Filled:
    """What :func:`fill` did: runs and searches logged, already there, and why not the others."""

    logged: int
    there: int
    refused: Sequence[str]


class Tracker:
    """An experiment a suite, a run a bundle: in ``results/mlflow.db``, or in the store at ``uri``.

    Making one creates or migrates a local store, which takes seconds the first time. A local one
    that cannot be used in this folder is put aside (:func:`harness.report.store.flaw`): ``flaw``
    says why. It ``is_new`` where there was none to use. An experiment that was deleted is
    restored. ``cards`` are what the methods say of themselves, by name; the description of a run
    repeats it.

    Raises:
        TrackingError: the store cannot be reached or used; also by its methods, after at most
            a few seconds.
    """

    def __init__(
        self,
        results: Path,
        experiment: str,
        uri: str | None = None,
        *,
        cards: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        results.mkdir(parents=True, exist_ok=True)
        self.cards = cards
        self._suite, self._uri = experiment, store_of(results, uri)
        # A server keeps artifacts itself; for a database the default would be the working folder.
        artifacts = None if self._uri.startswith("http") else store.artifacts(results)
        # Of two processes that make one local store at a time, both would fail.
        with self._or_later(), locked(results):
            self.flaw = "" if uri else store.flaw(results)
            if self.flaw:
                store.put_aside(results)
            self.is_new = not uri and not store.is_there(results)
            self._client = MlflowClient(self._uri)
            known = self._client.get_experiment_by_name(experiment)
            if known and known.lifecycle_stage == "deleted":
                self._client.restore_experiment(known.experiment_id)
            self._experiment = (
                known.experiment_id
                if known
                else self._client.create_experiment(experiment, artifact_location=artifacts)
            )
            _keep_views(self._client, known or self._client.get_experiment(self._experiment))

    def record(self, bundle: Path) -> str:
        """Log the bundle of a run and return MLflow's id for it.

        A bundle that is logged twice is one run; another one with the same key replaces the first.

        Raises:
            ValueError: no bundle there, or a damaged one.
        """
        content = read_bundle(bundle)
        digest = _digest(bundle / "record.json")
        with self._or_later():
            return self._there(content.record.key, digest) or self._log(bundle, content, digest)

    def study(self, path: Path) -> str:
        """Log the file of a search, and in it a run for each trial; as :meth:`record` does.

        Raises:
            ValueError: the file is not one that a search has left.
        """
        try:
            search = json.loads(path.read_text(encoding="utf-8"))
            key, trials = search["key"], pd.DataFrame(search["trials"])
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"{path} is not the file of a search: {error}") from error
        digest = _digest(path)
        with self._or_later():
            return self._there(key, digest) or self._log_study(path, search, trials, digest)

    def digests(self) -> set[str]:
        """Of which files there are whole runs: their sha256."""
        with self._or_later():
            runs = self._runs("tags.digest != ''")
            return {run.data.tags["digest"] for run in runs if _is_whole(run)}

    def _there(self, key: str, digest: str) -> str | None:
        """The run of that key if it is whole and of that content; any other one is removed."""
        for run in self._runs(f"tags.key = '{key}'"):
            if _is_whole(run) and run.data.tags.get("digest") == digest:
                return str(run.info.run_id)
            for nested in self._runs(f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"):
                self._client.delete_run(nested.info.run_id)
            self._client.delete_run(run.info.run_id)
        return None

    def _runs(self, what: str) -> Iterator[Run]:
        token = None
        while token != "":
            page = self._client.search_runs(
                [self._experiment], what, max_results=1000, page_token=token
            )
            yield from page
            token = page.token or ""

    def _log(self, bundle: Path, content: Bundle, digest: str) -> str:
        record = content.record
        now = _now()
        spent = 1000 * ((record.train_seconds or 0) + (record.evaluate_seconds or 0))
        tags = _said({name: getattr(record, name) for name in (*_TAGS, *_PROVENANCE)})
        tags |= _origin(record.commit, _description(record, self.cards.get(record.method, {})))
        run = self._client.create_run(
            self._experiment,
            start_time=now - int(spent),
            tags={**tags, "level": "run", "digest": digest},
            run_name=_name(record),
        ).info.run_id
        with TemporaryDirectory() as folder:
            _artifacts(bundle, content, Path(folder))
            self._client.log_artifacts(run, folder)
        self._log_numbers(run, _metrics(content, now), json.loads(record.job))
        self._log_data(run, record.dataset, record.data_hash)
        self._client.set_terminated(run, _ENDED.get(record.status, "FAILED"))
        return str(run)

    def _log_study(
        self, path: Path, search: Mapping[str, Any], trials: pd.DataFrame, digest: str
    ) -> str:
        job, choice = search["job"], search["choice"]
        task = {name: choice[name] for name in ("dataset", "look_back", "horizon", "patches")}
        place = {"suite": job["suite"], "method": job["method"], "seed": job["seed"], **task}
        origin = {name: search[name] for name in ("device", "commit", "versions", "data_hash")}
        tags = _said({**place, **origin}) | _origin(search["commit"], "")
        parent = self._client.create_run(
            self._experiment,
            start_time=int(1000 * trials.started.min()),
            tags={**tags, "key": search["key"], "level": "study", "digest": digest},
            run_name=f"tuning {choice['study']}",
        ).info.run_id
        with TemporaryDirectory() as folder:
            shutil.copy(path, Path(folder) / "study.json")
            figure = figures.tuning(trials, search["importances"])
            figure.savefig(Path(folder) / "tuning.png", dpi=100)
            self._client.log_artifacts(parent, folder)
        counts = {f"trials_{state}": count for state, count in choice["states"].items()}
        measured = {"valid_mse": choice["valid_mse"], "trials": choice["trials"], **counts}
        mattered = {f"importance/{name}": value for name, value in search["importances"].items()}
        measured |= {"seconds": trials.seconds.sum(), **mattered}
        chosen = {"learning_rate": choice["learning_rate"], **choice["hyperparameters"]}
        params = {**job, "chosen": chosen}
        self._log_numbers(parent, _points(measured, (), _now()), params)
        self._log_data(parent, task["dataset"], search["data_hash"])
        for trial in search["trials"]:
            self._log_trial(parent, trial, tags)
        self._client.set_terminated(parent, "FINISHED", _end(search["trials"][-1]))
        return str(parent)

    def _log_trial(self, parent: str, trial: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        start = int(1000 * trial["started"])
        run = self._client.create_run(
            self._experiment,
            start_time=start,
            tags={
                **tags,
                "mlflow.parentRunId": parent,
                "level": "trial",
                "state": trial["state"],
            },
            run_name=f"trial {trial['number'] + 1}",
        ).info.run_id
        measured = {"valid_mse": trial["value"], "seconds": trial["seconds"]}
        curve = [
            {"epoch": int(epoch), "valid_mse": error} for epoch, error in trial["epochs"].items()
        ]
        self._log_numbers(run, _points(measured, curve, start), trial["params"])
        self._client.set_terminated(run, _ENDED.get(trial["state"], "FAILED"), _end(trial))

    def _log_numbers(
        self, run: str, metrics: Sequence[Metric], settings: Mapping[str, Any]
    ) -> None:
        params = [Param(name, text) for name, text in _flat(settings)]
        # One call is the rule: the others are for very long curves.
        self._client.log_batch(run, metrics[:_AT_ONCE], params)
        for start in range(_AT_ONCE, len(metrics), _AT_ONCE):
            self._client.log_batch(run, metrics[start : start + _AT_ONCE])

    def _log_data(self, run: str, name: str, digest: str) -> None:
        if digest:
            source = Dataset(name, digest[:36], "local", name)
            self._client.log_inputs(run, [DatasetInput(source)])

    def _or_later(self) -> AbstractContextManager[None]:
        return _or_later(self._uri, self._suite)


@contextmanager
def _or_later(uri: str, suite: str) -> Iterator[None]:
    """Turn an error of MLflow into one that says what logs later what is missing now."""
    try:
        with quiet():
            yield
    except Exception as error:
        said = f"MLflow at {uri}: {type(error).__name__}: {' '.join(str(error).split())}"
        secret = re.compile(r"(?<=://)[^/@\s]*@")  # user and password of an address
        raise TrackingError(
            f"{secret.sub('', said)[:300]}. Results stand; make track SUITE={suite}"
            " logs what is missing"
        ) from error


def open_tracker(
    results: Path,
    suite: str,
    uri: str | None = None,
    *,
    cards: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    progress: Callable[[int, int], object] = lambda done, of: None,
) -> Tracker:
    """A tracker for the suite; a local store that is new is first filled with all there is.

    Raises:
        TrackingError: as :class:`Tracker`.
    """
    tracker = Tracker(results, suite, uri, cards=cards)
    if tracker.is_new:
        for name in suites_of_bundles(results):
            fill(results, name, cards=cards, progress=progress)
    return tracker


def suites_of_bundles(results: Path) -> list[str]:
    """The suites that left bundles or searches in the folder."""
    found = {path.name for path in (results / "tuning").glob("*/")}
    for path in (results / "runs").glob("[!.]*/record.json"):
        with suppress(AttributeError, ValueError):  # damaged: `fill` names it
            found.add(json.loads(path.read_text(encoding="utf-8")).get("suite"))
    return sorted(name for name in found if isinstance(name, str))


def fill(
    results: Path,
    suite: str,
    uri: str | None = None,
    *,
    cards: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    progress: Callable[[int, int], object] = lambda done, of: None,
) -> Filled:
    """Log all bundles and searches of a suite that the store lacks.

    ``progress`` is called with the number of files looked at and the number of all. A file that
    cannot be logged is left out and named in :attr:`Filled.refused`.

    Raises:
        TrackingError: the store cannot be reached; what was logged before stays.
    """
    tracker = Tracker(results, suite, uri, cards=cards)
    there = tracker.digests()
    files = [
        *_bundles(results / "runs", suite),
        *sorted((results / "tuning" / suite).glob("*.json")),
    ]
    logged, refused = 0, []
    for number, path in enumerate(files, 1):
        if _digest(path) not in there:
            try:
                is_run = path.name == "record.json"
                _ = tracker.record(path.parent) if is_run else tracker.study(path)
                logged += 1
            except ValueError as error:
                refused.append(str(error))
        progress(number, len(files))
    return Filled(logged, len(files) - logged - len(refused), refused)


def store_of(results: Path, uri: str | None = None) -> str:
    """The address of the store of these results: that at ``uri``, else the local one."""
    return _driven(uri) if uri else store.address(results)


def suites(address: str, suite: str = "") -> dict[str, str]:
    """By suite the number of its experiment in the store, the one with the newest run first.

    Of ``suite`` alone if it is named. Experiments without runs of ours are left out; the others
    get the views that they lack.

    Raises:
        TrackingError: the store cannot be reached.
    """
    with _or_later(address, "..."):
        client, found = MlflowClient(address), []
        for experiment in client.search_experiments():
            if suite not in {"", experiment.name}:
                continue
            number, newest = experiment.experiment_id, ["attributes.start_time DESC"]
            runs = client.search_runs([number], "tags.level != ''", max_results=1, order_by=newest)
            if runs:
                _keep_views(client, experiment)
                found.append((-runs[0].info.start_time, experiment.name, number))
    return {name: number for _, name, number in sorted(found)}


def _keep_views(client: MlflowClient, experiment: Experiment) -> None:
    """Leave there what its pages show of it, if it is not there already."""
    for name, text in browsing.tags().items():
        if experiment.tags.get(name) != text:
            client.set_experiment_tag(experiment.experiment_id, name, text)


def _bundles(runs: Path, suite: str) -> Iterator[Path]:
    """The records of a suite's bundles, and damaged ones, which may be of any suite."""
    for path in sorted(runs.glob("[!.]*/record.json")):
        try:
            if json.loads(path.read_text(encoding="utf-8")).get("suite") == suite:
                yield path
        except (AttributeError, ValueError):
            yield path


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _is_whole(run: Run) -> bool:
    return bool(run.info.status != "RUNNING")


def _now() -> int:
    return time.time_ns() // 1_000_000


def _end(trial: Mapping[str, Any]) -> int:
    return int(1000 * (trial["started"] + trial["seconds"]))


def _driven(uri: str) -> str:
    """A database's address with the driver that is installed, and with a short timeout."""
    if not uri.startswith("postgresql://"):
        return uri
    uri = uri.replace("postgresql://", "postgresql+psycopg://", 1)
    return (
        uri if "connect_timeout" in uri else f"{uri}{'&' if '?' in uri else '?'}connect_timeout=5"
    )


def _name(record: Record) -> str:
    return name_of_run(record.label, [getattr(record, name) for name in TASK], record.seed)


def _said(values: Mapping[str, object]) -> dict[str, str]:
    """The values as tags; what is empty is none."""
    return {name: str(value) for name, value in values.items() if value not in {None, ""}}


def _origin(commit: str, description: str) -> dict[str, str]:
    """MLflow's own tags, of which its pages make their source and their description."""
    named = {
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "python -m harness",
        "mlflow.source.git.commit": commit,
        "mlflow.note.content": description,
    }
    return _said(named)


def _description(record: Record, card: Mapping[str, str]) -> str:
    """In Markdown: why the run failed, where its cell and row are, what the method says of itself.

    The links lead to what the local server (:mod:`harness.report.serving`) has.
    """
    task = [getattr(record, name) for name in TASK]
    places = (
        f"[Its cell on the page]({browsing.cell(record.suite, record.label, task)}), "
        f"[the rows of the method]({browsing.rows(record.suite, record.method)}). "
        f"Once more: `make rerun KEY={record.key}`"
    )
    said = [f"{name.capitalize()}: {card[name]}" for name in _CARD if card.get(name)]
    failed = [f"Failed: {record.error}"] if record.error else []
    return "\n\n".join([*failed, places, *said])


def _metrics(content: Bundle, now: int) -> list[Metric]:
    """Scores and costs, and the curves under ``epoch/``; what is not finite stays out."""
    settings = {*_TAGS, *_PROVENANCE, "season"}
    row = asdict(content.record).items()
    measured = {name: value for name, value in row if name not in settings}
    return _points(measured, content.curves, now)


def _points(
    measured: Mapping[str, Any], curves: Iterable[Mapping[str, float]], now: int
) -> list[Metric]:
    """Numbers as they are, curves by epoch; MLflow would read infinity back as 1.8e308."""
    numbers = [(name, value, 0) for name, value in measured.items()]
    numbers += [
        (f"epoch/{name}", value, int(epoch["epoch"]))
        for epoch in curves
        for name, value in epoch.items()
        if name != "epoch"
    ]
    return [
        Metric(name, float(value), now, step)
        for name, value, step in numbers
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
    if content.overlay is not None and content.record.stage != "zero_shot":
        figures.overlay(content.overlay).savefig(folder / "patches.png", dpi=100)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what MLflow says about its migrations and its own deprecated calls."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.disable(before)
