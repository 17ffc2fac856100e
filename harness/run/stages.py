"""Jobs of a corpus: pre-training a forecaster, and scoring one on a zero-shot task."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import data
from harness.core.identity import import_hash
from harness.core.job import Job, Provenance, Record, job_key, new_record
from harness.model import registry
from harness.model.patcher import Patcher
from harness.results.bundles import ARTEFACT, write_bundle
from harness.run import artefact
from harness.run.device import device_name, forget_peak, peak_memory
from harness.run.fit import DivergedError
from harness.run.predictor import PatchPredictor
from harness.run.pretrain import pretrain
from harness.zero_shot import forecasts, gate, leaks, predictors, scores, tasks
from harness.zero_shot.cases import Cases

Told = Callable[[Mapping[str, float]], object]


def run_pretraining(
    job: Job,
    *,
    directories: Sequence[Path],
    device: str,
    runs: Path,
    provenance: Provenance,
    on_epoch: Told,
    methods: Path = registry.METHODS,
    attempts: int = 1,
) -> Record:
    """Pre-train a forecaster on the job's corpus; its bundle holds the artefact.

    A job that was broken off goes on from its last check, which is kept beside the bundles.

    Raises:
        FileNotFoundError: a member of the corpus is in none of the folders.
        ValueError: a member does not hold what it should, or a method that cannot be carried to
            other lengths.
    """
    method = _patcher(job, methods)
    corpus = data.find_corpus(job.task.dataset)
    source = registry.source_hash(method)
    key = job_key(job, source, corpus.hash)
    checkpoint = runs / f"{key}.checkpoint"
    forget_peak(device)
    model, curves, diverged, measured = None, [], "", dict[str, Any]()
    try:
        trained = pretrain(
            method,
            _pools(job.task.dataset, corpus.hash, tuple(directories)),
            task=job.task,
            budget=job.budget,
            architecture=job.architecture,
            seed=job.seed,
            hyperparameters=registry.complete_hyperparameters(method, dict(job.hyperparameters)),
            device=device,
            checkpoint=checkpoint,
            on_check=on_epoch,
        )
    except DivergedError as error:
        diverged, curves = str(error), [*error.fitted.curves]
        measured = {"epochs": error.fitted.epochs, "steps": error.fitted.steps}
    else:
        model, curves = trained.model, trained.curves
        own = {id(parameter) for parameter in model.patcher.parameters()}
        sizes = {id(parameter): parameter.numel() for parameter in model.parameters()}
        measured = {
            "valid_loss": trained.best,
            "rule": trained.rule,
            "epochs": job.budget.epochs,
            "steps": job.budget.epochs * (job.budget.steps or 0),
            "train_seconds": trained.seconds,
            "parameters": sum(sizes.values()),
            "parameters_patcher": sum(sizes[name] for name in own),
        }
    record = new_record(
        job,
        provenance,
        status="diverged" if diverged else "done",
        **registry.declared(method),
        method_source=source,
        data_hash=corpus.hash,
        data_verified=True,
        device=device_name(device),
        error=diverged,
        failure="diverged" if diverged else None,
        attempts=attempts,
        micro_batch=job.budget.batch,
        peak_memory_mb=peak_memory(device),
        **measured,
    )
    told = {
        "method": job.method,
        "architecture": job.architecture,
        "corpus": job.task.dataset,
        "corpus_hash": corpus.hash,
        "families": sorted(corpus.families),
        "licences": sorted({member.licence for member in corpus.members.values()}),
        "seed": job.seed,
        "steps": record.steps,
        "rows": (record.steps or 0) * job.budget.batch,
        "valid_loss": record.valid_loss,
        "versions": provenance.versions,
        "commit": provenance.commit,
    }
    write_bundle(
        runs,
        record,
        curves=curves,
        overlay=None,
        artefact=None if model is None else lambda place: artefact.write(model, place, **told),
    )
    checkpoint.unlink(missing_ok=True)
    return record


def run_scoring(
    job: Job,
    *,
    directories: Sequence[Path],
    device: str,
    runs: Path,
    provenance: Provenance,
    on_epoch: Told,
    methods: Path = registry.METHODS,
    attempts: int = 1,
) -> Record:
    """Score a pre-trained forecaster, or a reference predictor, on a zero-shot task.

    Raises:
        FileNotFoundError: a file of the task, or the artefact, is in none of the folders.
        ValueError: the task is refused, or the forecasts are not whole; names the task.
    """
    task = tasks.find(job.task.dataset)
    cases = _cases(job.task.dataset, tuple(directories))
    identity: dict[str, Any]
    about: dict[str, Any] = {}
    if job.needs is None:
        options = dict(job.hyperparameters)
        path = str(options.pop("path"))
        predictor = predictors.make(path, task, options)
        identity = {"kind": "reference", "ranked": False, "method_source": import_hash(path)}
    else:
        method = _patcher(job, methods)
        corpus = data.find_corpus(job.needs.task.dataset)
        key = pretraining_key(job, method)
        place = find_artefact(key, runs, directories)
        predictor = PatchPredictor(str(place), task.horizon)
        identity = {
            **registry.declared(method),
            "method_source": registry.source_hash(method),
            "needs": key,
            "leak": leaks.tags(corpus)[str(task)],
        }
        about = {
            "rule": predictor.model.patcher.evaluation_rule,
            "parameters": sum(one.numel() for one in predictor.model.parameters()),
        }
    on_epoch({"epoch": 0, "epochs": 1})
    began = time.perf_counter()
    quantiles = forecasts.ask(predictor, cases)
    seconds = time.perf_counter() - began
    found = scores.score(cases, quantiles)
    record = new_record(
        job,
        provenance,
        status="done",
        **identity,
        data_hash=task.hash,
        data_verified=True,
        device=device_name(device),
        attempts=attempts,
        mase=found.mase,
        quantile_loss=found.quantile,
        wape=found.wape,
        cases=found.cases,
        masked=found.masked,
        evaluate_seconds=seconds,
        **about,
    )
    shown = _to_show(cases, quantiles, predictor)
    write_bundle(runs, record, curves=(), overlay=shown | {"method": job.method, "arm": job.arm})
    return record


def pretraining_key(job: Job, method: type[Patcher]) -> str:
    """The key of the pre-training that a job needs."""
    assert job.needs is not None
    corpus = data.find_corpus(job.needs.task.dataset)
    return job_key(job.needs, registry.source_hash(method), corpus.hash)


def find_artefact(key: str, runs: Path, directories: Sequence[Path]) -> Path:
    """The artefact of a pre-training, in its bundle here or where it was lent to.

    Raises:
        FileNotFoundError: it is nowhere.
    """
    for folder in (runs, *directories):
        if (place := folder / key / ARTEFACT).is_dir():
            return place
    raise FileNotFoundError(f"the artefact of pre-training {key} is not in {runs}")


def _patcher(job: Job, methods: Path) -> type[Patcher]:
    method = registry.find(job.method, methods)
    if not issubclass(method, Patcher):
        raise ValueError(f"{job.method} is no patcher: it cannot be pre-trained")  # noqa: TRY004 - what a user can cause is a ValueError
    return method


@lru_cache(maxsize=1)
def _pools(name: str, digest: str, directories: tuple[Path, ...]) -> list[data.Pool]:  # noqa: ARG001 - what to remember by
    """The series of a corpus; a worker pre-trains several forecasters on it."""
    return data.load_corpus(data.find_corpus(name), directories)


@lru_cache(maxsize=64)
def _cases(name: str, directories: tuple[Path, ...]) -> Cases:
    """The cases of a task that has passed the gate; a worker scores many forecasters on it."""
    return gate.admit(tasks.find(name), directories)


SHOWN = 256
"""Steps of the past that are shown before a forecast."""


def _to_show(cases: Cases, quantiles: NDArray[np.float64], predictor: object) -> dict[str, Any]:
    """One case as it was forecast, and how errors depend on the step and on the past's length.

    The case is the one in the middle of the seasonal naive's errors: neither the easiest nor the
    hardest, and the same for all forecasters, so that they can be held against each other.
    ``by_step`` is the mean scaled error of each step ahead; ``by_case`` has the steps of the past
    and the scaled error of each case, of many an even choice.
    """
    losses = scores.losses(cases, quantiles)
    scaled = losses.absolute / losses.scale
    with np.errstate(invalid="ignore"):
        of_case = np.array([_mean(row) for row in scaled])
        of_step = [_mean(column) for column in scaled.T]
    known = np.flatnonzero(~np.isnan(of_case))
    middle = _middle(cases, known)
    case = cases.cases[middle]
    chosen = known[:: max(1, len(known) // MOST_CASES)]
    shown: dict[str, Any] = {
        "item": case.item.name,
        "start": str(case.start),
        "past": _plain(case.past[-SHOWN:]),
        "future": _plain(case.future),
        "quantiles": [_plain(level) for level in quantiles[middle]],
        "levels": list(scores.LEVELS),
        "by_step": _plain(np.array(of_step)),
        "by_case": [
            [len(cases.cases[number].past), float(of_case[number])] for number in chosen.tolist()
        ],
    }
    if isinstance(predictor, PatchPredictor):
        steps, starts = predictor.cuts(case.past, data.spacing(case.start.freq))
        first = steps - len(shown["past"])
        shown["starts"] = [start - first for start in starts if start >= first]
    return shown


MOST_CASES = 200


def _middle(cases: Cases, known: NDArray[np.intp]) -> int:
    """Of the cases that can be scored the one on which the seasonal naive does middling well."""
    naive = scores.losses(cases, gate.seasonal_naive(cases))
    errors = np.array([_mean(row) for row in (naive.absolute / naive.scale)[known]])
    return int(known[np.argsort(errors, kind="stable")[len(known) // 2]])


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def _plain(values: NDArray[np.float32] | NDArray[np.float64]) -> list[float | None]:
    """For JSON, which has no NaN."""
    return [None if np.isnan(value) else float(value) for value in values]
