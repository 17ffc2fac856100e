"""Scoring: every test window, the cost of a forecast, and one window to look at.

The test windows exist only here, after the weights are frozen.
"""

from __future__ import annotations

import copy
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness.core.task import Budget, Task
from harness.data import Series
from harness.model.forecaster import Forecaster, PatchForecaster, autocast, training_loss
from harness.model.patcher import Patches
from harness.run.boundaries import Agreement, Habits, of_next_channel, permuted
from harness.run.metrics import Errors, Regions, Totals, last_event, naive_scale
from harness.run.windows import Batch, Windows


@dataclass(frozen=True)
class Evaluation:
    """Errors by metric name, over ``windows`` windows; tokens a row where the model has any.

    ``regions`` are errors apart for rows (a channel of a window) whose look-back holds an event
    and all others (:class:`harness.run.metrics.Regions`, :func:`harness.run.metrics.last_event`).
    ``boundaries`` is what :func:`under_other_boundaries` measured, and stays out of ``seconds``.
    """

    metrics: dict[str, float]
    windows: int
    seconds: float
    tokens_mean: float | None = None
    tokens_p95: float | None = None
    tokens_padded: float | None = None
    regions: dict[str, float | int | None] = field(default_factory=dict)
    boundaries: dict[str, float | None] = field(default_factory=dict)


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
    model.eval()
    before = _state(model)
    unit = naive_scale(torch.from_numpy(series.values[: series.borders[0]]), series.season)
    unit = unit.to(device, torch.float32)
    mean, scale = windows.mean[:, None], windows.scale[:, None]
    totals, regions = Totals(device), Regions(device)
    tokens: list[torch.Tensor] = []
    padded = 0
    with torch.inference_mode(), autocast(device, budget.precision):
        for batch in windows.batches(at_once or windows.at_once):
            # A copy of the past: the windows' memory holds the future right after it.
            forecast = model(batch.past.clone(), batch.ids, batch.truth)
            future = forecast.future[0].float()
            raw, raw_target = future * scale + mean, batch.future * scale + mean
            errors = Errors(future, batch.future, raw, raw_target, unit)
            totals.add(errors)
            first = batch.ids // windows.channels - windows.offset
            regions.add(errors, events.gather(0, first + windows.look_back - 1) >= first)
            if forecast.patches is not None:
                tokens.append(forecast.patches.valid.sum(dim=1, dtype=torch.int16))
                padded = forecast.patches.valid.shape[1]
    metrics = totals.means()
    seconds = time.perf_counter() - started
    boundaries: dict[str, float | None] = {}
    if isinstance(model, PatchForecaster):
        boundaries = under_other_boundaries(model, windows, budget=budget, at_once=at_once)
    if any(not torch.equal(value, before[name]) for name, value in _state(model).items()):
        raise ValueError(
            f"{type(model).__name__} changed its own weights or buffers while it was being tested"
        )
    if not tokens:
        fixed = model.tokens
        return Evaluation(
            metrics, len(windows), seconds, fixed, fixed, fixed, regions=regions.scores()
        )
    used = torch.cat(tokens).double()
    p95 = used.kthvalue(max(1, round(0.95 * len(used)))).values
    return Evaluation(
        metrics,
        windows=len(windows),
        seconds=seconds,
        tokens_mean=float(used.mean()),
        tokens_p95=float(p95),
        tokens_padded=float(padded),
        regions=regions.scores(),
        boundaries=boundaries,
    )


def _events(series: Series, windows: Windows) -> Int[Tensor, "time channel"]:
    """The step at which the latest event before each step began; 0 is the windows' first value."""
    part = slice(windows.offset, windows.offset + windows.values.shape[1])
    train, season, episode = series.borders[0], series.season, series.episode
    began = [last_event(channel, train, season, episode)[part] for channel in series.values.T]
    return torch.from_numpy(np.stack(began, axis=1) - windows.offset).to(windows.values.device)


SAMPLE = 4096
"""Windows, at most, of which boundaries are examined, evenly spaced over the test part."""


def under_other_boundaries(
    model: PatchForecaster, windows: Windows, *, budget: Budget, at_once: int | None = None
) -> dict[str, float | None]:
    """The MSE of the same weights under other boundaries, and how well the own ones are placed.

    - ``mse_as_trained``: drawn, noisy or soft as in training, for methods that are relaxed.
    - ``mse_swapped``: those of the same channel in the window half the test part away. Where half
      of it is a whole number of seasons (as on the ETT sets of hours), both share the clock.
    - ``mse_other_channel``: those of the next channel of the same window.
    - ``mse_permuted``: the own patch lengths in a random order.
    - ``f1_0`` to ``f1_3``, ``covering``, ``distance``, ``rand``: how near they come to the true
      ones (:class:`harness.run.boundaries.Agreement`).
    - ``position_bias``, ``distinct``: whether they differ from row to row
      (:class:`harness.run.boundaries.Habits`).

    None for what does not exist: another channel or window, a true boundary. Each error costs no
    more than the test itself, on at most ``SAMPLE`` windows; none depends on the batch size.
    """
    count, device = len(windows), windows.values.device
    squares: dict[str, torch.Tensor] = defaultdict(
        lambda: torch.zeros((), dtype=torch.float64, device=device)
    )
    agreement, habits = Agreement(device), Habits(windows.look_back, device)
    spread = _spread(count, SAMPLE, device)
    model.eval()
    with torch.inference_mode(), autocast(device, budget.precision):
        for index in spread.split(at_once or windows.at_once):
            batch = windows.batch(index)
            past = batch.past.clone()
            own = model.cut(past, batch.ids, batch.truth)
            cuts = {"mse_permuted": permuted(own, batch.ids.flatten())}
            if model.patcher.relaxed:
                cuts["mse_as_trained"] = model.cut(past, batch.ids, batch.truth, sampled=True)
            if count > 1:
                other = windows.batch((index + count // 2) % count)
                cuts["mse_swapped"] = model.cut(other.past.clone(), other.ids, other.truth)
            if windows.channels > 1:
                cuts["mse_other_channel"] = of_next_channel(own, windows.channels)
            for name, patches in cuts.items():
                error = model.predict(past, patches).float() - batch.future
                squares[name] += error.square().sum(dtype=torch.float64)
            habits.add(own)
            if batch.truth is not None:
                agreement.add(own, batch.truth.repeat_interleave(windows.channels, dim=0))
    values = len(spread) * windows.channels * windows.horizon
    errors = {name: float(total) / values for name, total in squares.items()}
    return errors | agreement.scores() | habits.scores()


def tokens_of(
    model: Forecaster, windows: Windows, *, budget: Budget, at_once: int | None = None
) -> float | None:
    """Mean tokens a row over at most 512 windows, evenly spaced, cut as in a test.

    A method that learned its rate on training windows may not keep it elsewhere.
    """
    device = windows.values.device
    used, rows = torch.zeros((), dtype=torch.long, device=device), 0
    model.eval()
    with torch.inference_mode(), autocast(device, budget.precision):
        for index in _spread(len(windows), 512, device).split(at_once or windows.at_once):
            batch = windows.batch(index)
            # Cheaper than a forecast, where a model can be asked for its patches alone.
            asked = model.cut if isinstance(model, PatchForecaster) else model.forward
            said = asked(batch.past.clone(), batch.ids, batch.truth)
            patches = said if isinstance(said, Patches) else said.patches
            if patches is None:
                return model.tokens
            used, rows = used + patches.valid.sum(), rows + len(patches.valid)
    return float(used) / rows


def cuts(
    model: PatchForecaster, windows: Windows, *, budget: Budget, at_once: int | None = None
) -> dict[str, NDArray[Any]]:
    """Where at most 256 rows are cut: the same rows for every run of a task, evenly spaced.

    The channels take turns.

    - ``window``, ``channel`` [row]: which row it is, both counted from 0.
    - ``values`` [row, time]: its standardised look-back, rounded to three decimals.
    - ``starts`` [row, slot]: the first step of each patch, in order; -1 in slots without one.
    - ``true_starts`` [row, segment]: the true boundaries, likewise; not there if nobody knows.
    """
    device = windows.values.device
    number = _spread(len(windows) * windows.channels, 256, device)
    window = number // windows.channels
    channel = torch.arange(len(number), device=device) % windows.channels
    size = at_once or windows.at_once
    parts: dict[str, list[Tensor]] = defaultdict(list)
    model.eval()
    with torch.inference_mode(), autocast(device, budget.precision):
        for index, own in zip(window.split(size), channel.split(size), strict=True):
            batch, row = windows.batch(index), torch.arange(len(index), device=device)
            past, ids = batch.past[row, own][:, None], batch.ids[row, own][:, None]
            patches = model.cut(past, ids, batch.truth)
            parts["values"].append(past[:, 0])
            parts["starts"].append(torch.where(patches.valid, patches.start, windows.look_back))
            if batch.truth is not None:
                steps = torch.arange(windows.look_back, device=device)
                parts["true_starts"].append(torch.where(batch.truth, steps, windows.look_back))
    whole = {name: torch.cat(each).cpu().numpy() for name, each in parts.items()}
    return {
        "window": window.cpu().numpy().astype(np.int32),
        "channel": channel.cpu().numpy().astype(np.int32),
        "values": whole.pop("values").round(3),
        **{name: _in_order(starts, windows.look_back) for name, starts in whole.items()},
    }


def _in_order(starts: NDArray[np.int64], look_back: int) -> NDArray[np.int16]:
    """Starts first, -1 where the look-back stands for none, and no column without a start."""
    starts = np.sort(starts, axis=1)
    used = (starts < look_back).any(axis=0)
    return np.where(starts < look_back, starts, -1)[:, used].astype(np.int16)


def _spread(count: int, most: int, device: torch.device) -> Int[Tensor, " number"]:
    """At most ``most`` of so many numbers, evenly spaced from 0."""
    chosen = min(count, most)
    return torch.arange(chosen, device=device) * count // chosen


@dataclass(frozen=True)
class Cost:
    """Parameters that are trained, by part, and floating-point operations of matrix products.

    ``flops`` are of the forward pass of one window with all its channels, ``flops_step`` of one
    training step with a whole batch, forward and backward, every group of boundaries included.
    """

    parameters: dict[str, int]
    flops: int
    flops_step: int


def cost(model: Forecaster, train: Windows, budget: Budget) -> Cost:
    """Count on a copy of the model, so that neither weights nor random state are touched."""
    parts = {name: _count(part) for name, part in model.parts().items()}
    model = copy.deepcopy(model)
    sample = train.batch(torch.arange(min(2, len(train)), device=train.values.device))
    generator = torch.Generator(sample.past.device).manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        model.eval()
        with torch.no_grad():
            forward = _flops(model, sample, None)
        model.train()
        step = _flops(model, sample, generator) if _count(model) else 0
    windows = len(sample.past)
    return Cost(
        parameters={"all": _count(model), **parts},
        flops=forward // windows,
        flops_step=step * budget.batch // windows,
    )


def _flops(model: Forecaster, batch: Batch, generator: torch.Generator | None) -> int:
    # Attention as plain matrix products: the fused kernels of some devices are not counted.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        forecast = model(batch.past, batch.ids, batch.truth, generator)
        if generator is not None:
            loss, beside = training_loss(model, forecast, batch.future)
            (loss if beside is None else loss + beside).backward()
    return int(counter.get_total_flops())


def look(model: Forecaster, windows: Windows, task: Task, budget: Budget) -> dict[str, Any]:
    """One test window, the middle one, of its last channel: what a patch overlay is drawn from."""
    device = windows.values.device
    batch = windows.batch(torch.tensor([len(windows) // 2], device=device))
    model.eval()
    with torch.inference_mode(), autocast(device, budget.precision):
        forecast = model(batch.past.clone(), batch.ids, batch.truth)
    shown: dict[str, Any] = {
        "dataset": task.dataset,
        "values": batch.past[0, -1].tolist(),
        "future": batch.future[0, -1].tolist(),
        "forecast": forecast.future[0, 0, -1].tolist(),
        "starts": [],
        "true_starts": None,
    }
    if forecast.patches is not None:
        valid = forecast.patches.valid[-1]
        shown["starts"] = forecast.patches.start[-1][valid].tolist()
    if batch.truth is not None:
        shown["true_starts"] = batch.truth[0].nonzero().flatten().tolist()
    return shown


def _count(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters() if value.requires_grad)


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    return buffers | {name: value.detach().clone() for name, value in model.named_parameters()}
