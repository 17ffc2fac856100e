"""One job, from data to record: the function every executor calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from harness import data
from harness.core.job import Job, Provenance, Record, new_record
from harness.model import registry
from harness.model.forecaster import Forecaster, PatchForecaster
from harness.results.bundles import write_boundaries, write_bundle
from harness.run import artefact, windows
from harness.run.cost import cost, mean_tokens
from harness.run.device import device_name, forget_peak, peak_memory
from harness.run.evaluate import evaluate
from harness.run.fit import DivergedError, fit
from harness.run.probes import sampled_boundaries, under_other_boundaries, window_to_show
from harness.run.stages import find_artefact, pretraining_key, run_pretraining, run_scoring
from harness.run.windows import Windows


def run(
    job: Job,
    *,
    directories: Sequence[Path],
    device: str,
    runs: Path,
    provenance: Provenance,
    on_epoch: Callable[[Mapping[str, float]], object] = lambda epoch: None,
    methods: Path = registry.METHODS,
    attempts: int = 1,
    micro_batch: int | None = None,
) -> Record:
    """Train on train, stop on validation, score every test window once; leave a bundle.

    A job of another stage is done as :mod:`harness.run.stages` has it.

    ``directories`` are where data sets are looked for, ``runs`` where the bundle goes;
    ``on_epoch`` is called with what each epoch measured. ``attempts`` is how often the job has
    been started, this time included; ``micro_batch`` as for :func:`harness.run.fit.fit`. A loss
    that is not finite is a record with status "diverged"; every other error is raised.
    """
    if job.stage in ("pretrain", "zero_shot"):
        return (run_pretraining if job.stage == "pretrain" else run_scoring)(
            job,
            directories=directories,
            device=device,
            runs=runs,
            provenance=provenance,
            on_epoch=on_epoch,
            methods=methods,
            attempts=attempts,
        )
    method = registry.find(job.method, methods)
    series = load(job, tuple(directories))
    forget_peak(device)
    model, needs = build(method, job, device), None
    if isinstance(model, PatchForecaster):
        model.spacing = data.spacing(series.frequency)
    if job.stage is not None:
        needs = _freeze(model, job, runs, directories)
    train, valid = windows.development(series, job.task, device)
    valid = valid.spread(job.budget.valid_windows)
    spent = cost(model, train, job.budget)

    torch.manual_seed(seed_of(job, "dropout"))
    diverged, measured, shown = "", dict[str, Any](), dict[str, Any]()
    try:
        fitted = fit(
            model,
            train,
            valid,
            job.budget,
            seed=seed_of(job, "order"),
            on_epoch=lambda epoch: on_epoch({"epochs": job.budget.epochs, **epoch}),
            micro_batch=micro_batch,
        )
    except DivergedError as error:
        diverged, fitted = str(error), error.fitted
    else:
        test = windows.test(series, job.task, device)
        measured = {
            "valid_mse": fitted.valid_mse,
            **evaluate(
                model, test.spread(job.budget.test_windows), series, budget=job.budget
            ).fields(),
            "tokens_train": mean_tokens(model, train, budget=job.budget),
        }
        # A reference may be the shared forecaster with a part left out; its boundaries are not the
        # question.
        if isinstance(model, PatchForecaster) and registry.kind(method) == "patcher":
            measured |= under_other_boundaries(model, test, budget=job.budget)
            measured["rule"] = fitted.rule
        shown = _to_show(model, test, job)

    record = new_record(
        job,
        provenance,
        status="diverged" if diverged else "done",
        **registry.declared(method),
        method_source=registry.source_hash(method),
        data_hash=series.hash,
        data_verified=series.verified,
        data_warning=series.warning or None,
        needs=needs,
        device=device_name(device),
        error=diverged,
        failure="diverged" if diverged else None,
        attempts=attempts,
        micro_batch=micro_batch or job.budget.batch,
        engine=fitted.engine,
        epochs=fitted.epochs,
        steps=fitted.steps,
        train_seconds=fitted.seconds,
        peak_memory_mb=peak_memory(device),
        **spent.fields(),
        **measured,
    )
    write_bundle(
        runs,
        record,
        curves=fitted.curves,
        weights=lambda path: torch.save(model.state_dict(), path),
        patcher=_portable(model),
        **{"overlay": None, **shown},
    )
    return record


def build(method: registry.Method, job: Job, device: str) -> Forecaster:
    """The method as a forecaster on the device, from the job's seed alone.

    Patcher and shared layers are seeded apart: a job's shared layers start from the same weights
    for every patcher.
    """
    hyperparameters = registry.complete_hyperparameters(method, dict(job.hyperparameters))
    torch.manual_seed(seed_of(job, "method"))
    if issubclass(method, Forecaster):
        return method(job.task, job.architecture, **hyperparameters).to(device)
    patcher = method(job.task, **hyperparameters)
    torch.manual_seed(seed_of(job, "forecaster"))
    return PatchForecaster(job.task, job.architecture, patcher).to(device)


def _freeze(model: Forecaster, job: Job, runs: Path, directories: Sequence[Path]) -> str | None:
    """Stop the patcher, after a pre-training where the job needs one; the key of that."""
    if not isinstance(model, PatchForecaster):
        raise ValueError(f"{job.method} has no patcher to be frozen")  # noqa: TRY004 - what a user can cause is a ValueError
    if job.needs is None:
        # As training would cut at its first step. A policy that has learned nothing rates all
        # steps alike: its mode would be what ties leave, and evenly spread it is a plain grid.
        if "sample" in model.patcher.rules:
            model.patcher.evaluation_rule = "sample"
        model.freeze()
        return None
    key = pretraining_key(job, type(model.patcher))
    learned = artefact.read(find_artefact(key, runs, directories))
    model.freeze(learned.patcher, learned.stem)
    return key


def _to_show(model: Forecaster, test: Windows, job: Job) -> dict[str, Any]:
    """What a bundle keeps for figures: one window, and the boundaries of some rows."""
    overlay = window_to_show(model, test, job.task, job.budget)
    shown: dict[str, Any] = {"overlay": overlay | {"method": job.label, "seed": job.seed}}
    if isinstance(model, PatchForecaster):
        sample = sampled_boundaries(model, test, budget=job.budget)
        shown["boundaries"] = partial(write_boundaries, sample)
    return shown


def _portable(model: Forecaster) -> Callable[[Path], None] | None:
    """What saves the patcher alone, where it has learned something and can stand alone."""
    if not isinstance(model, PatchForecaster) or model.patcher.uses_features:
        return None
    return model.patcher.save if any(True for _ in model.patcher.parameters()) else None


@lru_cache(maxsize=2)
def _cached(name: str, directories: tuple[Path, ...], source: data.Source | None) -> data.Series:
    return data.load(name, directories, source)


def load(job: Job, directories: tuple[Path, ...]) -> data.Series:
    """The job's data set; the last ones stay in memory, since a worker does many jobs on few sets.

    The season of the task, which a suite may set, is the season of everything that follows.
    """
    series = _cached(job.task.dataset, directories, job.source)
    return replace(series, season=job.task.season)


def seed_of(job: Job, purpose: str) -> int:
    """A seed for one purpose: initialisation, data order and dropout do not share a stream."""
    purposes = ("method", "forecaster", "order", "dropout")
    return job.seed * len(purposes) + purposes.index(purpose)
