"""One job, from data to record: the function every executor calls."""

from __future__ import annotations

import resource
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
from harness.run import windows
from harness.run.evaluate import cost, cuts, evaluate, look, tokens_of
from harness.run.fit import DivergedError, fit


def run(
    job: Job,
    *,
    directories: Sequence[Path],
    device: str,
    runs: Path,
    provenance: Provenance,
    say: Callable[[Mapping[str, float]], object] = lambda epoch: None,
    methods: Path = registry.METHODS,
    attempts: int = 1,
    micro_batch: int | None = None,
) -> Record:
    """Train on train, stop on validation, score every test window once; leave a bundle.

    ``directories`` are where data sets are looked for, ``runs`` where the bundle goes; ``say``
    hears of each epoch. ``attempts`` is how often the job has been started, this time included;
    ``micro_batch`` as for :func:`harness.run.fit.fit`. A loss that is not finite is a record with
    status "diverged"; every other error is raised.
    """
    method = registry.find(job.method, methods)
    series = load(job, tuple(directories))
    task = job.task
    _forget_peak(device)
    model = build(method, job, device)
    train, valid = windows.development(series, task, device)
    spent = cost(model, train, job.budget)

    torch.manual_seed(seed_of(job, "dropout"))
    status, error, overlay, boundaries = "done", "", None, None
    measured: dict[str, Any] = {}
    try:
        fitted = fit(
            model,
            train,
            valid,
            job.budget,
            seed=seed_of(job, "order"),
            say=lambda epoch: say({"epochs": job.budget.epochs, **epoch}),
            micro_batch=micro_batch,
        )
    except DivergedError as diverged:
        status, error, fitted = "diverged", str(diverged), diverged.fitted
    else:
        test = windows.test(series, task, device)
        scored = evaluate(model, test, series, budget=job.budget)
        overlay = look(model, test, task, job.budget) | {"method": job.method, "seed": job.seed}
        if isinstance(model, PatchForecaster):
            boundaries = partial(write_boundaries, cuts(model, test, budget=job.budget))
        measured = {
            **scored.metrics,
            "windows": scored.windows,
            "tokens_mean": scored.tokens_mean,
            "tokens_p95": scored.tokens_p95,
            "tokens_padded": scored.tokens_padded,
            "tokens_train": tokens_of(model, train, budget=job.budget),
            **scored.regions,
            **scored.boundaries,
            "evaluate_seconds": scored.seconds,
            "valid_mse": fitted.valid_mse,
        }
    record = new_record(
        job,
        provenance,
        status=status,
        **registry.declared(method),
        method_source=registry.source_hash(method),
        data_hash=series.hash,
        data_verified=series.verified,
        device=device_name(device),
        error=error,
        failure="diverged" if status == "diverged" else None,
        attempts=attempts,
        micro_batch=micro_batch or job.budget.batch,
        parameters=spent.parameters["all"],
        parameters_patcher=spent.parameters.get("patcher", 0),
        parameters_backbone=spent.parameters["backbone"],
        parameters_head=spent.parameters.get("head", 0),
        flops=spent.flops,
        flops_step=spent.flops_step,
        epochs=fitted.epochs,
        steps=fitted.steps,
        train_seconds=fitted.seconds,
        peak_memory_mb=_peak(device),
        **measured,
    )
    write_bundle(
        runs,
        record,
        curves=fitted.curves,
        overlay=overlay,
        weights=lambda path: torch.save(model.state_dict(), path),
        patcher=_portable(model),
        boundaries=boundaries,
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


def device_name(device: str) -> str:
    """What the machine calls the device, for the record."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    with Path("/proc/cpuinfo").open() as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"CPU {names[0]}" if names else "CPU"


def seed_of(job: Job, purpose: str) -> int:
    """A seed for one purpose: initialisation, data order and dropout do not share a stream."""
    purposes = ("method", "forecaster", "order", "dropout")
    return job.seed * len(purposes) + purposes.index(purpose)


def _forget_peak(device: str) -> None:
    """Start the count of peak memory anew: a worker runs one job after another."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # not allowed here: the peak is then that of the worker so far


def _peak(device: str) -> float:
    """Peak memory in MiB: allocated on a GPU, resident for the worker on a CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
