"""Scoring: the error of a trained model over every test window.

The test windows exist only after the weights are frozen, and nothing here may change them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn
from torch.nn import functional

from harness.core.task import Budget
from harness.data import Series
from harness.model.forecaster import Forecaster, autocast
from harness.run.metrics import AtLabels, Errors, Regions, Totals, last_event, naive_scale
from harness.run.windows import Windows


@dataclass(frozen=True)
class Evaluation:
    """Errors by metric name, over ``windows`` windows; tokens a row where the model has any.

    ``regions`` are errors apart for rows (a channel of a window) whose look-back holds an event
    and all others (:class:`harness.run.metrics.Regions`, :func:`harness.run.metrics.last_event`),
    and, in series that people labelled, at labels and elsewhere
    (:class:`harness.run.metrics.AtLabels`).
    """

    metrics: dict[str, float]
    windows: int
    seconds: float
    tokens_mean: float | None = None
    tokens_p95: float | None = None
    tokens_padded: float | None = None
    regions: dict[str, float | int | None] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """What a record says of it, by the names of its fields."""
        return {
            **self.metrics,
            **self.regions,
            "windows": self.windows,
            "tokens_mean": self.tokens_mean,
            "tokens_p95": self.tokens_p95,
            "tokens_padded": self.tokens_padded,
            "evaluate_seconds": self.seconds,
        }


def evaluate(
    model: Forecaster,
    windows: Windows,
    series: Series,
    *,
    budget: Budget,
    at_once: int | None = None,
) -> Evaluation:
    """Forecast every window and average every metric over windows, channels and steps.

    ``at_once`` is the number of windows in one forward pass; the result does not depend on it.

    Raises:
        ValueError: a model that changes while it forecasts, or whose forecast is not finite.
    """
    events = _events(series, windows)  # before the clock: the same for every model
    started = time.perf_counter()
    device = windows.values.device
    unit = naive_scale(torch.from_numpy(series.values[: series.borders[0]]), series.season)
    units = windows.mean, windows.scale, unit.to(device)
    totals, regions, at_labels = Totals(device), Regions(device), AtLabels(device)
    near = _near_labels(windows)
    tokens: list[torch.Tensor] = []
    padded = 0
    with testing(model, device, budget):
        for batch in windows.batches(at_once or windows.at_once):
            # A copy of the past: the windows' memory holds the future right after it.
            forecast = model(batch.past.clone(), batch.ids, batch.truth)
            errors = Errors(forecast.future[0].float(), batch.future, *units)
            totals.add(errors)
            first = batch.ids // windows.channels - windows.offset
            regions.add(errors, events.gather(0, first + windows.look_back - 1) >= first)
            if near is not None and batch.truth is not None:
                future = first[:, 0] + windows.look_back
                # A label at the very first step is no change in what is looked back on.
                at_labels.add(errors, near[future], batch.truth[:, 1:].any(dim=1))
            if forecast.patches is not None:
                tokens.append(forecast.patches.valid.sum(dim=1, dtype=torch.int32))
                padded = forecast.patches.valid.shape[1]
        metrics = totals.means()
        apart = regions.scores() | ({} if near is None else at_labels.scores())
        seconds = time.perf_counter() - started
    if not tokens:
        fixed = model.tokens
        return Evaluation(metrics, len(windows), seconds, fixed, fixed, fixed, regions=apart)
    used = torch.cat(tokens).double()
    p95 = used.kthvalue(max(1, round(0.95 * len(used)))).values
    return Evaluation(
        metrics,
        windows=len(windows),
        seconds=seconds,
        tokens_mean=float(used.mean()),
        tokens_p95=float(p95),
        tokens_padded=float(padded),
        regions=apart,
    )


@contextmanager
def testing(
    model: Forecaster,
    device: torch.device,
    budget: Budget,
    where: str = "on the test windows",
) -> Iterator[None]:
    """In evaluation, without gradients, in the budget's precision; nothing of the model changes.

    A patcher is held to its contract; ``where`` are words for an error.

    Raises:
        ContractError: patches that break the contract.
        ValueError: on the way out, a weight or a buffer that is not what it was.
    """
    model.eval()
    before = _state(model)
    with torch.inference_mode(), autocast(device, budget.precision), model.watched(where):
        yield
    changed = [(value != before[name]).any() for name, value in _state(model).items()]
    if changed and torch.stack(changed).any():  # the device is waited for once
        raise ValueError(
            f"{type(model).__name__} changed its own weights or buffers while it was being tested"
        )


def _events(series: Series, windows: Windows) -> Int[Tensor, "time channel"]:
    """The step at which the latest event before each step began; 0 is the windows' first value."""
    part = slice(windows.offset, windows.offset + windows.values.shape[1])
    train, season, breaks = series.borders[0], series.season, series.breaks
    began = [last_event(channel, train, season, breaks)[part] for channel in series.values.T]
    return torch.from_numpy(np.stack(began, axis=1) - windows.offset).to(windows.values.device)


def _near_labels(windows: Windows) -> Bool[Tensor, "start horizon"] | None:
    """For each step, which of the ``horizon`` steps from it on lie within the margin of a label.

    None where nobody labelled the series.
    """
    if windows.marks is None or windows.margin is None:
        return None
    marks, margin = windows.marks.float()[None], windows.margin
    near = functional.max_pool1d(marks, 2 * margin + 1, stride=1, padding=margin)[0] > 0
    return near.unfold(0, windows.horizon, 1)


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    return buffers | {name: value.detach().clone() for name, value in model.named_parameters()}
