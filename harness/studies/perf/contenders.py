"""What each contender does in a round: train or score, our way or the usual one, or multiply.

Each is given ``lap`` and calls it after every round; the first round is the warm-up.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.utils.data import DataLoader

from harness.bench import local
from harness.core.job import Job
from harness.model import registry
from harness.run import windows
from harness.run.fit import fit, validation_error
from harness.run.job import build
from harness.studies.perf.conventional import Conventional, Slices, conventional_error
from harness.studies.perf.setting import Configuration, Stage

PRODUCTS = 1e10  # floating-point operations in a round of matrix products


def train(
    job: Job,
    stage: Stage,
    lap: Callable[[], None],
    *,
    some: int | None = None,
    record: bool = True,
) -> None:
    """Our training: :func:`harness.run.fit.fit`, an epoch a round, one window to validate on.

    On the first ``some`` training windows, or on all; on a GPU with recorded steps, or without.
    """
    local.keep_memory()
    if job.budget.compile:
        # From cold, as in a first run, and not from what an earlier one left on disk.
        torch.compiler.config.force_disable_caches = True
        warnings.filterwarnings("ignore", message="dynamo_pgo force disabled")
    model = build(registry.find(job.method), job, stage.device)
    fitted, valid = windows.development(stage.series, job.task, stage.device)
    if some is not None:
        fitted = first(fitted, some)
    rounds = stage.rounds + 1
    budget = replace(job.budget, epochs=rounds, patience=rounds)
    fit(
        model,
        fitted,
        first(valid, 1),
        budget,
        seed=job.seed,
        on_epoch=lambda epoch: lap(),
        record=record,
    )


def train_conventionally(job: Job, stage: Stage, lap: Callable[[], None]) -> None:
    """The loop of most public code, for the same model from the same weights."""
    model = Conventional.like(build(registry.find(job.method), job, "cpu")).to(stage.device)
    fitted, _ = windows.development(stage.series, job.task)
    loader = DataLoader(Slices(fitted), job.budget.batch, shuffle=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=job.budget.learning_rate)
    criterion = nn.MSELoss()
    model.train()
    losses: list[float] = []
    while True:
        for step, (past, future) in enumerate(loader, 1):
            optimiser.zero_grad()
            output = model(past.float().to(stage.device))
            loss = criterion(output, future.float().to(stage.device))
            losses.append(loss.item())
            loss.backward()
            optimiser.step()
            if step == job.budget.steps:
                break
        lap()


def score(configuration: Configuration, stage: Stage, lap: Callable[[], None]) -> None:
    """Our inference: the validation error of some windows, over and over."""
    local.keep_memory()
    job = configuration.job()
    model = build(registry.find(job.method), job, stage.device)
    _, valid = windows.development(stage.series, job.task, stage.device)
    while True:
        validation_error(model, first(valid, configuration.windows), job.budget)
        lap()


def score_conventionally(
    configuration: Configuration, stage: Stage, lap: Callable[[], None]
) -> None:
    """The same error by the loop of most public code."""
    job = configuration.job()
    model = Conventional.like(build(registry.find(job.method), job, "cpu")).to(stage.device)
    _, valid = windows.development(stage.series, job.task)
    while True:
        conventional_error(model, first(valid, configuration.windows), stage.device)
        lap()


def multiply(shape: tuple[int, int, int], stage: Stage, lap: Callable[[], None]) -> None:
    """Matrix products [m, k] x [k, n] and nothing else."""
    rows, inner, columns = shape
    left = torch.rand(rows, inner, device=stage.device)
    right = torch.rand(inner, columns, device=stage.device)
    out = torch.empty(rows, columns, device=stage.device)
    while True:
        for _ in range(operations(shape) // (2 * math.prod(shape))):
            torch.mm(left, right, out=out)
        lap()


def operations(shape: tuple[int, int, int]) -> int:
    """Floating-point operations in a round of :func:`multiply`; an addition is one as well."""
    product = 2 * math.prod(shape)
    return math.ceil(PRODUCTS / product) * product


def first(some: windows.Windows, count: int) -> windows.Windows:
    """The first ``count`` windows."""
    return replace(some, starts=some.starts[:count])
