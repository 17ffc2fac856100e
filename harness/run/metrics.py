"""Point metrics in one table: what each one adds up, its label and which way is better.

The leaderboard, the figures and the tracker know a metric by its name only. Beside the table: what
an event is, and the squared error of rows with an event in their look-back, apart from all others;
and the same near labels that people set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from harness.data import is_constant, rounding


@dataclass(frozen=True)
class Errors:
    """A batch of forecasts beside what came true, in scaled units, and what leads back.

    ``mean`` and ``scale`` are of the scaler, ``naive_scale`` comes from :func:`naive_scale`; all
    three are in original (raw) units and in float64. A raw error is the scaled one times the
    scale: as a difference of raw values it would lose its digits to the level of the series.
    """

    forecast: Float[Tensor, "batch channel horizon"]
    target: Float[Tensor, "batch channel horizon"]
    mean: Float64[Tensor, " channel"]
    scale: Float64[Tensor, " channel"]
    naive_scale: Float64[Tensor, " channel"]

    def raw(self, scaled: Float[Tensor, "batch channel horizon"]) -> Tensor:
        """Scaled values in original units, float64."""
        return scaled.double() * self.scale[:, None] + self.mean[:, None]


@dataclass(frozen=True)
class Metric:
    """A mean over every window, channel and step of what ``pointwise`` makes of one of them."""

    name: str
    label: str
    lower_is_better: bool
    pointwise: Callable[[Errors], Float[Tensor, "batch channel horizon"]]


def _mse(errors: Errors) -> Tensor:
    return (errors.forecast - errors.target).square()


def _mae(errors: Errors) -> Tensor:
    return (errors.forecast - errors.target).abs()


def _mse_raw(errors: Errors) -> Tensor:
    return _mae_raw(errors).square()


def _mae_raw(errors: Errors) -> Tensor:
    return _mae(errors).double() * errors.scale[:, None]


def _mase(errors: Errors) -> Tensor:
    # A channel without a scale gets weight 0 and the others more by as much: the mean over all
    # channels is then the mean over those that have a scale.
    scale = errors.naive_scale
    has_scale = scale > 0
    weight = torch.where(has_scale, len(scale) / has_scale.sum(), 0)
    return _mae_raw(errors) / torch.where(has_scale, scale, 1)[:, None] * weight[:, None]


def _smape(errors: Errors) -> Tensor:
    size = errors.raw(errors.forecast).abs() + errors.raw(errors.target).abs()
    return 200 * _mae_raw(errors) / torch.where(size > 0, size, 1)


METRICS = {
    metric.name: metric
    for metric in (
        Metric("mse", "MSE", lower_is_better=True, pointwise=_mse),
        Metric("mae", "MAE", lower_is_better=True, pointwise=_mae),
        Metric("mse_raw", "MSE, original units", lower_is_better=True, pointwise=_mse_raw),
        Metric("mae_raw", "MAE, original units", lower_is_better=True, pointwise=_mae_raw),
        Metric("mase", "MASE", lower_is_better=True, pointwise=_mase),
        Metric("smape", "sMAPE, %", lower_is_better=True, pointwise=_smape),
    )
}


class Totals:
    """Sums of every metric over a stream of batches: float64, on the device, any batch size."""

    def __init__(self, device: torch.device | str | None = None) -> None:
        self._sums = torch.zeros(len(METRICS), dtype=torch.float64, device=device)
        self.count = 0
        """Forecast values seen so far: windows x channels x steps."""

    def add(self, errors: Errors) -> None:
        """Take in one batch; nothing is copied off the device."""
        self._sums += torch.stack(
            [metric.pointwise(errors).sum(dtype=torch.float64) for metric in METRICS.values()]
        )
        self.count += errors.target.numel()

    def means(self) -> dict[str, float]:
        """Each metric's mean by name; the one place that waits for the device.

        Raises:
            ValueError: no batch was added.
        """
        if not self.count:
            raise ValueError("no forecasts to average: not one batch was added")
        return dict(zip(METRICS, (self._sums / self.count).tolist(), strict=True))


class Regions:
    """The squared error of rows with an event in their look-back, and of all others, over batches.

    A row is one channel of one window.
    """

    def __init__(self, device: torch.device | str | None = None) -> None:
        self._squares = torch.zeros(2, dtype=torch.float64, device=device)
        self._rows = torch.zeros(2, dtype=torch.long, device=device)
        self._horizon = 0

    def add(self, errors: Errors, event: Bool[Tensor, "batch channel"]) -> None:
        """Take in one batch; nothing is copied off the device."""
        square = METRICS["mse"].pointwise(errors).sum(dim=-1, dtype=torch.float64)
        region = torch.stack([event, ~event])
        self._squares += torch.where(region, square, 0).sum(dim=(1, 2))
        self._rows += region.sum(dim=(1, 2))
        self._horizon = errors.target.shape[-1]

    def scores(self) -> dict[str, float | int | None]:
        """``mse_event``, ``mse_calm``, and ``windows_event``, the number of rows with an event.

        An error over no rows is None.
        """
        rows = self._rows.tolist()
        means = [
            square / (count * self._horizon) if count else None
            for square, count in zip(self._squares.tolist(), rows, strict=True)
        ]
        return {"mse_event": means[0], "mse_calm": means[1], "windows_event": rows[0]}


class AtLabels:
    """The squared error where something is labelled, and elsewhere, over batches."""

    def __init__(self, device: torch.device | str | None = None) -> None:
        self._squares = torch.zeros(4, dtype=torch.float64, device=device)
        self._counts = torch.zeros(4, dtype=torch.long, device=device)

    def add(
        self, errors: Errors, near: Bool[Tensor, "batch horizon"], change: Bool[Tensor, " batch"]
    ) -> None:
        """Take in one batch: its steps near a label, its windows that look back on one."""
        square = METRICS["mse"].pointwise(errors).sum(dim=1, dtype=torch.float64)
        after = change[:, None].expand_as(near)
        where = torch.stack([near, ~near, after, ~after])
        self._squares += torch.where(where, square, 0).sum(dim=(1, 2))
        self._counts += where.sum(dim=(1, 2)) * errors.target.shape[1]

    def scores(self) -> dict[str, float | int | None]:
        """What there is at labels, and elsewhere; an error over nothing is None.

        - ``mse_near``, ``mse_away``: the errors of forecast steps within the margin of a label,
          and of all others; ``share_near`` is the share of the former.
        - ``mse_change``, ``mse_steady``: the errors of windows with a label in their look-back,
          and of all others; ``share_change`` is the share of the former.
        """
        squares, counts = self._squares.tolist(), self._counts.tolist()
        means = [
            square / count if count else None
            for square, count in zip(squares, counts, strict=True)
        ]
        names = ("mse_near", "mse_away", "mse_change", "mse_steady")
        near, away, change, _ = counts
        shares = {"share_near": near / (near + away), "share_change": change / (near + away)}
        return dict(zip(names, means, strict=True)) | shares


RARE = 0.999
"""Share of training steps beyond which a jump, or a stretch without change, is an event."""


def last_event(
    channel: Float[np.ndarray, " time"],
    train: int,
    season: int,
    breaks: Int[np.ndarray, " break"] | None = None,
) -> Int[np.ndarray, " time"]:
    """For each step, the one at which the latest event over by then began; -1 if there is none.

    A look-back holds an event if this number, at its last step, is not before its first step. An
    event is one of two things, both rare in the first ``train`` steps of the channel. A jump from
    one step to the next, a spike or a change of level, larger than a share of ``RARE`` of the
    jumps there. Or no change for more than a season, and for longer than at a share of ``RARE`` of
    the steps there, as where values are missing. The ``breaks``, steps that do not follow
    from the one before, say nothing of what is rare.
    """
    step = np.arange(len(channel))
    jump = np.abs(np.diff(channel, prepend=channel[0]))
    still = step - np.maximum.accumulate(np.where(jump > 0, step, 0))
    known = step[:train] if breaks is None else step[:train][~np.isin(step[:train], breaks)]
    # Jumps of a computed sine differ by rounding, as in naive_scale.
    large = np.quantile(jump[known], RARE) + 1e-9 * np.abs(channel[:train]).max()
    long = max(season, int(np.quantile(still[known], RARE)))
    began = np.where(still > long, step - long - 1, -1)
    began = np.where(jump > large, step - 1, began)
    return np.maximum.accumulate(began)


def naive_scale(train: Float[Tensor, "time channel"], season: int) -> Float[Tensor, " channel"]:
    """Mean absolute seasonal difference of the training part: the unit of MASE, per channel.

    A channel that repeats exactly with the season, up to rounding, is scaled by the differences of
    neighbouring steps instead. A constant channel has no scale: it gets 0 and stays out of MASE.

    Raises:
        ValueError: the training part is no longer than a season, or every channel is constant.
    """
    if len(train) <= season:
        raise ValueError(
            f"{len(train)} training steps hold no difference over a season of {season} steps"
        )
    train = train.double()
    seasonal = (train[season:] - train[:-season]).abs().mean(0)
    stepwise = train.diff(dim=0).abs().mean(0)
    values = train.numpy()
    is_variation = seasonal > torch.from_numpy(rounding(values))
    scale = torch.where(is_variation, seasonal, stepwise)
    scale = torch.where(torch.from_numpy(is_constant(values)), 0, scale)
    if not scale.any():
        raise ValueError("every channel is constant in the training part: MASE has no unit")
    return scale
