"""Every metric is audited twice: by hand, and against GluonTS. And what counts as an event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from gluonts.ev import stats
from gluonts.ev.ts_stats import seasonal_error

from harness.run.metrics import METRICS, Errors, Regions, Totals, last_event, naive_scale

BATCH, CHANNELS, HORIZON = 50, 3, 8


def random_errors(dtype: torch.dtype = torch.float64) -> Errors:
    generator = torch.Generator().manual_seed(0)
    shape = (2, BATCH, CHANNELS, HORIZON)
    forecast, target = torch.randn(shape, generator=generator, dtype=dtype)
    units = torch.tensor([[5.0, -40.0, 0.0], [2.0, 10.0, 0.1], [1.5, 8.0, 0.05]])
    return Errors(forecast, target, *units.double())


def means(errors: Errors, batch: int = BATCH) -> dict[str, float]:
    totals = Totals()
    for start in range(0, len(errors.target), batch):
        totals.add(part(errors, slice(start, start + batch)))
    return totals.means()


def part(errors: Errors, windows: slice) -> Errors:
    return replace(errors, forecast=errors.forecast[windows], target=errors.target[windows])


def single(forecast: float, target: float, scale: float = 1.0) -> dict[str, float]:
    """One window, channel and step, with a scaler of mean 0 and deviation 10."""
    point = torch.tensor([[[forecast]]]), torch.tensor([[[target]]])
    units = torch.tensor([[0.0], [10.0], [scale]], dtype=torch.float64)
    return means(Errors(point[0] / 10, point[1] / 10, *units))


def gluonts_means(errors: Errors) -> dict[str, float]:
    scaled = {"label": errors.target.numpy(), "mean": errors.forecast.numpy()}
    raw = {
        "label": errors.raw(errors.target).numpy(),
        "mean": errors.raw(errors.forecast).numpy(),
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
        totals.add(Errors(values, zeros, *torch.ones(3, 1, dtype=torch.float64)))
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


@pytest.mark.parametrize("level", [0.0, 1e8, -1e8])
@pytest.mark.parametrize("noise", [0.0, 0.01, 0.3])
def test_the_naive_scale_does_not_depend_on_the_level(level: float, noise: float) -> None:
    """Of a wave of 1 with more or less noise: rounding at a high level makes it no other unit."""
    step = torch.arange(960, dtype=torch.float64)
    wave = torch.sin(step * 2 * torch.pi / 24) + noise * torch.from_numpy(
        np.random.default_rng(0).normal(size=960)
    )
    expected = naive_scale(wave[:, None], 24).item()
    assert naive_scale((wave + level)[:, None], 24).item() == pytest.approx(expected, rel=1e-4)


def test_a_channel_constant_up_to_rounding_has_no_naive_scale() -> None:
    """0.1 + 0.2 and 0.3 in turn, beside a channel that varies."""
    turns = torch.tensor([0.1 + 0.2, 0.3] * 5, dtype=torch.float64)
    both = torch.stack([turns, torch.arange(10, dtype=torch.float64)], dim=1)
    assert naive_scale(both, 1).tolist() == [0.0, 1.0]


def test_a_constant_channel_stays_out_of_mase() -> None:
    """MASE is then the mean over the channels that vary, and a finite number."""
    errors = random_errors()
    varying = Errors(
        errors.forecast[:, :2],
        errors.target[:, :2],
        errors.mean[:2],
        errors.scale[:2],
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


# --- events --------------------------------------------------------------------------------------


def rows_with_events(share: float = 0.3) -> torch.Tensor:
    return torch.rand(BATCH, CHANNELS, generator=torch.Generator().manual_seed(1)) < share


def regions(errors: Errors, event: torch.Tensor, batch: int = BATCH) -> dict[str, float]:
    found = Regions()
    for start in range(0, BATCH, batch):
        windows = slice(start, start + batch)
        found.add(part(errors, windows), event[windows])
    return {name: value for name, value in found.scores().items() if value is not None}


@pytest.mark.parametrize("batch", [1, 7, 50])
def test_regions_are_means_over_their_own_rows(batch: int) -> None:
    """By numpy, for rows with and without an event, whatever the batches; rows are counted."""
    errors, event = random_errors(), rows_with_events()
    square = (errors.forecast - errors.target).square().numpy()
    assert regions(errors, event, batch) == {
        "mse_event": pytest.approx(square[event.numpy()].mean()),
        "mse_calm": pytest.approx(square[~event.numpy()].mean()),
        "windows_event": int(event.sum()),
    }


def test_both_regions_together_are_the_mse() -> None:
    """Weighted by their rows they give the MSE: no row is in both, and none is in neither."""
    errors, event = random_errors(), rows_with_events()
    found = regions(errors, event)
    with_event, rows = found["windows_event"], BATCH * CHANNELS
    total = with_event * found["mse_event"] + (rows - with_event) * found["mse_calm"]
    assert total / rows == pytest.approx(means(errors)["mse"], rel=1e-12)


def test_a_region_without_rows_has_no_error() -> None:
    """Where every row has an event, or none has, the other error is left empty."""
    errors = random_errors()
    assert set(regions(errors, rows_with_events(0.0))) == {"mse_calm", "windows_event"}
    assert set(regions(errors, rows_with_events(1.0))) == {"mse_event", "windows_event"}


def noise(steps: int = 3000) -> np.ndarray:
    """Noise that, on its own, jumps no further after step 2000 than before."""
    values = np.random.default_rng(0).normal(size=steps)
    values[2000:] /= 3
    return values


def test_a_spike_a_new_level_and_a_long_stillness_are_events() -> None:
    """Each is found where it is over, with the step it began at, and remembered from then on."""
    channel = noise()
    channel[2100] += 50  # there and back
    channel[2300:] += 50
    channel[2500:2540] = channel[2500]
    latest = last_event(channel, 2000, 24)
    assert latest[2099] < 2000
    assert latest[2100:2103].tolist() == [2099, 2100, 2100]
    assert latest[2300] == latest[2400] == 2299
    # 25 steps after the first of them nothing has changed for more than a season.
    assert latest[2524:2527].tolist() == [2299, 2500, 2501]
    assert latest[-1] == 2514


def test_events_are_rare_in_the_training_part_and_known_from_it_alone() -> None:
    """One jump in a thousand is an event there; what comes later changes neither of the bars."""
    channel = noise()
    latest = last_event(channel, 2000, 24)
    assert len(set(latest[:2000].tolist()) - {-1}) == 2000 / 1000
    wild = channel.copy()
    wild[2000:] *= 100
    assert last_event(wild, 2000, 24)[:2000].tolist() == latest[:2000].tolist()
    assert len(set(last_event(wild, 2000, 24).tolist())) > 500


def test_stillness_that_is_common_is_no_event() -> None:
    """Zeros every night, and longer than a season: only a stretch longer than all is one."""
    night = np.where(np.arange(3000) % 100 < 40, 0.0, noise())
    assert (last_event(night, 2000, 24)[2000:] < 2000).all()
    night[2140:2190] = 0.0
    latest = last_event(night, 2000, 24)[2000:]
    assert (latest >= 2000).argmax() == 140
    assert latest[189] == latest[-1] == 2149


def test_a_jump_between_episodes_is_no_event() -> None:
    """Levels that differ between windows neither count nor raise the bar for those inside."""
    levels = np.repeat(100 * noise(30), 100) + noise(3000)
    levels[2650:] += 50
    inside = last_event(levels, 2000, 24, np.arange(0, 3000, 100))
    first = np.arange(3000) // 100 * 100
    # From 2650 to the end of that window, 2699, there is an event in the window.
    assert np.flatnonzero(inside[2000:] >= first[2000:]).tolist() == [*range(650, 700)]
    assert (last_event(levels, 2000, 24)[2650:2700] < 2600).all()
