"""Point metrics in one table: what each one adds up, its label and which way is better.

The leaderboard, the figures and the tracker know a metric by its name only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Errors:
    """A batch of forecasts beside what came true, in scaled and in original (raw) units.

    ``naive_scale`` comes from :func:`naive_scale` and is in original units.
    """

    forecast: Float[Tensor, "batch channel horizon"]
    target: Float[Tensor, "batch channel horizon"]
    forecast_raw: Float[Tensor, "batch channel horizon"]
    target_raw: Float[Tensor, "batch channel horizon"]
    naive_scale: Float[Tensor, " channel"]


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
    return (errors.forecast_raw - errors.target_raw).square()


def _mae_raw(errors: Errors) -> Tensor:
    return (errors.forecast_raw - errors.target_raw).abs()


def _mase(errors: Errors) -> Tensor:
    # A channel without a scale counts for nothing and the others for more by as much: the mean
    # over all channels is then the mean over those that have one.
    scale = errors.naive_scale
    has_scale = scale > 0
    weight = torch.where(has_scale, len(scale) / has_scale.sum(), 0)
    return _mae_raw(errors) * (weight / torch.where(has_scale, scale, 1))[:, None]


def _smape(errors: Errors) -> Tensor:
    size = errors.forecast_raw.abs() + errors.target_raw.abs()
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


def naive_scale(train: Float[Tensor, "time channel"], season: int) -> Float[Tensor, " channel"]:
    """Mean absolute seasonal difference of the training part: the unit of MASE, per channel.

    A channel that repeats itself perfectly with the season is scaled by its differences of one
    step instead. A constant channel has no scale: it gets 0 and stays out of MASE.

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
    # Seasonal differences of a computed sine are rounding, not variation.
    rounding = 1e-9 * train.abs().amax(0)
    scale = torch.where(seasonal > rounding, seasonal, stepwise)
    if not scale.any():
        raise ValueError("every channel is constant in the training part: MASE has no unit")
    return scale
