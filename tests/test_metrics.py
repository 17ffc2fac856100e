"""Every metric is audited twice: by hand, and against GluonTS."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from gluonts.ev import stats
from gluonts.ev.ts_stats import seasonal_error

from harness.metrics import METRICS, Errors, Totals, naive_scale

BATCH, CHANNELS, HORIZON = 50, 3, 8


def random_errors(dtype: torch.dtype = torch.float64) -> Errors:
    generator = torch.Generator().manual_seed(0)
    shape = (2, BATCH, CHANNELS, HORIZON)
    forecast, target = torch.randn(shape, generator=generator, dtype=dtype)
    mean, spread = torch.tensor([[5.0, -40.0, 0.0], [2.0, 10.0, 0.1]], dtype=dtype)[..., None]
    return Errors(
        forecast,
        target,
        forecast * spread + mean,
        target * spread + mean,
        torch.tensor([1.5, 8.0, 0.05], dtype=dtype),
    )


def means(errors: Errors, batch: int = BATCH) -> dict[str, float]:
    totals = Totals()
    for start in range(0, len(errors.target), batch):
        part = slice(start, start + batch)
        cut = {
            f.name: getattr(errors, f.name)[part]
            for f in fields(Errors)
            if f.name != "naive_scale"
        }
        totals.add(replace(errors, **cut))
    return totals.means()


def single(forecast: float, target: float, scale: float = 1.0) -> dict[str, float]:
    """One window, channel and step, with a scaler of mean 0 and deviation 10."""
    point = torch.tensor([[[forecast]]]), torch.tensor([[[target]]])
    return means(Errors(point[0] / 10, point[1] / 10, point[0], point[1], torch.tensor([scale])))


def gluonts_means(errors: Errors) -> dict[str, float]:
    scaled = {"label": errors.target.numpy(), "mean": errors.forecast.numpy()}
    raw = {
        "label": errors.target_raw.numpy(),
        "mean": errors.forecast_raw.numpy(),
        "seasonal_error": errors.naive_scale.numpy()[:, None],
    }
    pointwise = {
        "mse": stats.squared_error(scaled, "mean"),
        "mae": stats.absolute_error(scaled, "mean"),
        "mse_raw": stats.squared_error(raw, "mean"),
        "mae_raw": stats.absolute_error(raw, "mean"),
        "mase": stats.absolute_scaled_error(raw, "mean"),
        "smape": 100 * stats.symmetric_absolute_percentage_error(raw, "mean"),
    }
    return {name: float(values.mean()) for name, values in pointwise.items()}


@pytest.mark.parametrize("name", METRICS)
def test_metrics_agree_with_gluonts(name: str) -> None:
    """Each metric is GluonTS's metric of the same name."""
    errors = random_errors()
    assert means(errors)[name] == pytest.approx(gluonts_means(errors)[name], rel=1e-12)


def test_metrics_of_one_point_by_hand() -> None:
    """Forecast 30, truth 50, scale 4: the six values worked out on paper."""
    assert single(30.0, 50.0, scale=4.0) == pytest.approx(
        {"mse": 4.0, "mae": 2.0, "mse_raw": 400.0, "mae_raw": 20.0, "mase": 5.0, "smape": 50.0}
    )


@pytest.mark.parametrize(
    ("forecast", "target", "expected"), [(0.0, 0.0, 0.0), (0.0, 3.0, 200.0), (-3.0, 3.0, 200.0)]
)
def test_smape_is_defined_where_values_vanish(
    forecast: float, target: float, expected: float
) -> None:
    """Both zero is no error; a wrong sign or a missed value is the full 200 %."""
    assert single(forecast, target)["smape"] == pytest.approx(expected)


@pytest.mark.parametrize("batch", [1, 7, 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_means_do_not_depend_on_batch_size(batch: int, dtype: torch.dtype) -> None:
    """The last batch may be short; no window weighs more or less for it."""
    errors = random_errors(dtype)
    assert means(errors, batch) == pytest.approx(means(errors), rel=1e-9)


def test_sums_keep_small_errors_beside_large_ones() -> None:
    """A million small errors after a large one would vanish in a float32 sum."""
    small, large = torch.full((1, 1, 1000), 1e-2), torch.full((1, 1, 1), 1e4)
    totals = Totals()
    for values in (large, *[small] * 100):
        zeros = torch.zeros_like(values)
        totals.add(Errors(values, zeros, values, zeros, torch.ones(1)))
    assert totals.means()["mse"] * totals.count == pytest.approx(1e8 + 10, rel=1e-9)
    assert totals.count == 100_001


def test_every_metric_says_which_way_is_better() -> None:
    """The table is keyed by the metric's own name, and all six are errors: lower is better."""
    assert {name: metric.name for name, metric in METRICS.items()} == {
        name: name for name in METRICS
    }
    assert all(metric.lower_is_better for metric in METRICS.values())


def test_nothing_added_is_refused() -> None:
    """An empty test set has no score."""
    with pytest.raises(ValueError, match="not one batch"):
        Totals().means()


def test_naive_scale_by_hand() -> None:
    """Two channels, season 2: the mean of |y[t] - y[t - 2]|."""
    train = torch.tensor([[0.0, 10.0], [1.0, 10.0], [2.0, 13.0], [5.0, 14.0]])
    assert naive_scale(train, 2).tolist() == [3.0, 3.5]


def test_naive_scale_agrees_with_gluonts() -> None:
    """The scale is GluonTS's seasonal error."""
    train = np.random.default_rng(0).normal(size=(100, 2))
    expected = seasonal_error(train, 24)[0].tolist()
    assert naive_scale(torch.from_numpy(train), 24).tolist() == pytest.approx(expected)


def test_a_perfectly_seasonal_channel_is_scaled_by_its_steps() -> None:
    """A computed sine repeats itself up to rounding, which is no unit to measure errors in."""
    sine = torch.sin(torch.arange(960, dtype=torch.float64) * 2 * torch.pi / 24)[:, None]
    assert naive_scale(sine, 24).item() == pytest.approx(sine.diff(dim=0).abs().mean().item())


def test_a_constant_channel_stays_out_of_mase() -> None:
    """MASE is then the mean over the channels that vary, and a finite number."""
    errors = random_errors()
    varying = Errors(
        errors.forecast[:, :2],
        errors.target[:, :2],
        errors.forecast_raw[:, :2],
        errors.target_raw[:, :2],
        errors.naive_scale[:2],
    )
    scale = naive_scale(torch.tensor([[0.0, 0.0, 7.0], [1.5, 8.0, 7.0]], dtype=torch.float64), 1)
    assert scale.tolist() == [1.5, 8.0, 0.0]
    assert means(replace(errors, naive_scale=scale))["mase"] == pytest.approx(
        means(varying)["mase"]
    )


def test_training_parts_without_a_scale_are_refused() -> None:
    """Nothing but constants, or less than a season, gives MASE no unit."""
    with pytest.raises(ValueError, match="every channel is constant"):
        naive_scale(torch.full((10, 2), 3.0), 1)
    with pytest.raises(ValueError, match=r"24 training steps .* season of 24 steps"):
        naive_scale(torch.randn(24, 1), 24)
