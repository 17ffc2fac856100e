"""What else is asked of a tested model: other boundaries, rows to keep, a window to look at.

None of it trains or selects anything. Errors under boundaries that belong elsewhere say how much
a forecast rests on where patches start; the boundaries of some rows, and one window with its
forecast, are kept for figures.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.core.task import Budget, Task
from harness.model.forecaster import Forecaster, PatchForecaster
from harness.run.boundaries import Agreement, Habits, of_next_channel, permuted
from harness.run.evaluate import testing
from harness.run.windows import Windows, evenly_spaced

SAMPLE = 4096
"""The most windows whose boundaries are examined, evenly spaced over the test part, where a budget
does not set fewer."""


def under_other_boundaries(
    model: PatchForecaster, windows: Windows, *, budget: Budget, at_once: int | None = None
) -> dict[str, float | None]:
    """The MSE of the same weights under other boundaries, and how well its own ones are placed.

    - ``mse_sample``, ``mse_best``, ``mse_even``: under the boundaries of each evaluation rule that
      the method declares. That of the rule in use is what all others are to be compared with: it
      is the score itself, but on the windows of this function.
    - ``mse_swapped``: under those of the same channel in another window, about half the test part
      away (later, or earlier where there is no such later one), with another phase of the season
      (:func:`far_away`).
    - ``mse_other_channel``: under those of the next channel of the same window.
    - ``mse_permuted``: under its own patch lengths in a random order.
    - ``mse_no_content``: under its own boundaries, with values of zero: what place and length of
      the patches tell by themselves, beside mean and scale of the row.
    - ``f1_0`` to ``f1_3``, ``recall_3``, ``covering``, ``distance``, ``rand``: how near its
      boundaries come to the true ones (:class:`harness.run.boundaries.Agreement`).
    - ``position_bias``, ``distinct``, ``equal``: whether its boundaries differ from row to row
      (:class:`harness.run.boundaries.Habits`).

    None, or no entry, for what does not exist: another channel or window, a true boundary. Each
    error costs no more than the test itself, and is taken on the budget's ``probe_windows`` or on
    at most ``SAMPLE`` windows; none depends on the batch size.
    """
    count, device, patcher = len(windows), windows.values.device, model.patcher
    far = far_away(count, model.task.season)
    squares: dict[str, torch.Tensor] = defaultdict(
        lambda: torch.zeros((), dtype=torch.float64, device=device)
    )
    agreement = Agreement(device)
    habits = Habits(windows.look_back, model.task.patches, device)
    spread = evenly_spaced(count, budget.probe_windows or SAMPLE, device)
    with testing(model, device, budget):
        for index in spread.split(at_once or windows.at_once):
            batch = windows.batch(index)
            past = batch.past.clone()
            own = model.cut(past, batch.ids, batch.truth)
            cuts = {f"mse_{patcher.evaluation_rule}": own}
            for rule in patcher.rules:
                if rule != patcher.evaluation_rule:
                    cuts[f"mse_{rule}"] = model.cut(past, batch.ids, batch.truth, rule=rule)
            cuts["mse_permuted"] = permuted(own, batch.ids.flatten())
            if far:
                other = windows.batch(torch.where(index + far < count, index + far, index - far))
                cuts["mse_swapped"] = model.cut(other.past.clone(), other.ids, other.truth)
            if windows.channels > 1:
                cuts["mse_other_channel"] = of_next_channel(own, windows.channels)
            for name, patches in cuts.items():
                error = model.predict(past, patches).float() - batch.future
                squares[name] += error.square().sum(dtype=torch.float64)
            error = model.predict(past, own, content=False).float() - batch.future
            squares["mse_no_content"] += error.square().sum(dtype=torch.float64)
            habits.add(own)
            if batch.truth is not None:
                agreement.add(own, batch.truth.repeat_interleave(windows.channels, dim=0))
    values = len(spread) * windows.channels * windows.horizon
    errors = {name: float(total) / values for name, total in squares.items()}
    return errors | agreement.scores() | habits.scores()


def far_away(count: int, season: int) -> int:
    """How many of ``count`` windows to go for one that has little in common; 0 for a single one.

    Half of them, less what it takes to be half a season off: windows a whole number of seasons
    apart would share the clock, and boundaries that only follow it would lose nothing. Planted
    windows have a season of 1. With fewer windows than a season, it is as far as there are.
    """
    half = count // 2
    return half - (half - season // 2) % season if half >= season // 2 else half


def sampled_boundaries(
    model: PatchForecaster, windows: Windows, *, budget: Budget, at_once: int | None = None
) -> dict[str, NDArray[Any]]:
    """The boundaries of at most 256 rows: the same rows for every run of a task, evenly spaced.

    The channels take turns.

    - ``window``, ``channel`` [row]: which row it is, both counted from 0.
    - ``values`` [row, time]: its standardised look-back, rounded to three decimals.
    - ``starts`` [row, slot]: the first step of each patch, in order; -1 in slots without one.
    - ``true_starts`` [row, segment]: the true boundaries, likewise; left out if unknown.
    """
    device = windows.values.device
    number = evenly_spaced(len(windows) * windows.channels, 256, device)
    window = number // windows.channels
    channel = torch.arange(len(number), device=device) % windows.channels
    size = at_once or windows.at_once
    parts: dict[str, list[Tensor]] = defaultdict(list)
    with testing(model, device, budget):
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


def _in_order(starts: NDArray[np.int64], look_back: int) -> NDArray[np.integer[Any]]:
    """Starts first, -1 where the look-back stands for none, and no column without a start."""
    starts = np.sort(starts, axis=1)
    used = (starts < look_back).any(axis=0)
    narrow = np.promote_types(np.int16, np.min_scalar_type(-look_back))
    return np.where(starts < look_back, starts, -1)[:, used].astype(narrow)


def window_to_show(
    model: Forecaster, windows: Windows, task: Task, budget: Budget
) -> dict[str, Any]:
    """One test window, the middle one, of its last channel: what a patch overlay is drawn from."""
    device = windows.values.device
    batch = windows.batch(torch.tensor([len(windows) // 2], device=device))
    with testing(model, device, budget):
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
