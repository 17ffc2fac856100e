"""What a window may contain, how many there are, and where the numbers meet the published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness import data
from harness.core.task import Task
from harness.data import Series
from harness.run import windows

# Zeng et al. (AAAI 2023), column "Repeat": horizon -> MSE, MAE. Published from loaders that threw
# the last incomplete batch of 32 test windows away.
PUBLISHED_REPEAT = {
    "ETTh1": {96: (1.295, 0.713), 192: (1.325, 0.733), 336: (1.323, 0.744), 720: (1.339, 0.756)},
    "ETTh2": {96: (0.432, 0.422), 192: (0.534, 0.473), 336: (0.591, 0.508), 720: (0.588, 0.517)},
    "ETTm1": {96: (1.214, 0.665), 192: (1.261, 0.690), 336: (1.283, 0.707), 720: (1.319, 0.729)},
    "ETTm2": {96: (0.266, 0.328), 192: (0.340, 0.371), 336: (0.412, 0.410), 720: (0.521, 0.465)},
    "weather": {96: (0.259, 0.254), 192: (0.309, 0.292), 336: (0.377, 0.338), 720: (0.465, 0.394)},
    "exchange_rate": {
        96: (0.081, 0.196),
        192: (0.167, 0.289),
        336: (0.305, 0.396),
        720: (0.823, 0.681),
    },
    "national_illness": {
        24: (6.587, 1.701),
        36: (7.130, 1.884),
        48: (6.575, 1.798),
        60: (5.893, 1.677),
    },
}


def series(steps: int = 100, channels: int = 2, **changes: object) -> Series:
    """A ramp, so that every value tells its own place in time."""
    ramp = np.arange(float(steps))[:, None] + 1000.0 * np.arange(channels)
    fields = {
        "name": "ramp",
        "values": ramp,
        "channels": tuple(f"c{i}" for i in range(channels)),
        "frequency": "h",
        "season": 1,
        "borders": (60, 80, steps),
        "hash": "x",
    }
    return Series(**(fields | changes))  # type: ignore[arg-type]  # fields of several types


def repeat_errors(
    name: str, horizon: int, data_folder: Path, *, drop_last: bool
) -> tuple[float, float]:
    loaded = data.load(name, [data_folder])
    parts = windows.test(loaded, Task(name, 36, horizon, 1))
    kept = len(parts) // 32 * 32 if drop_last else len(parts)
    squared = absolute = torch.zeros((), dtype=torch.float64)
    for batch in parts.batches(32):
        if drop_last and len(batch.past) < 32:
            break
        error = batch.past[..., -1:] - batch.future
        squared = squared + error.square().sum(dtype=torch.float64)
        absolute = absolute + error.abs().sum(dtype=torch.float64)
    count = kept * horizon * parts.channels
    return float(squared) / count, float(absolute) / count


@pytest.mark.parametrize(
    ("name", "horizon"), [(n, h) for n, horizons in PUBLISHED_REPEAT.items() for h in horizons]
)
def test_repeating_the_last_value_gives_the_published_errors(
    name: str, horizon: int, data_folder: Path
) -> None:
    """With the public loaders' dropped batch, every published pair comes out to three decimals."""
    got = repeat_errors(name, horizon, data_folder, drop_last=True)
    assert got == pytest.approx(PUBLISHED_REPEAT[name][horizon], abs=6e-4)


def test_all_windows_give_other_values_where_many_were_dropped(data_folder: Path) -> None:
    """Without the deviation the smallest set's errors are those of all its windows."""
    got = repeat_errors("national_illness", 48, data_folder, drop_last=False)
    assert got == pytest.approx((7.851, 1.952), abs=6e-4)


def test_every_window_is_there_and_reaches_back_over_the_border() -> None:
    """Stride 1, none dropped, and the first target of a part is its first step."""
    train, valid = windows.development(series(), Task("ramp", 10, 5, 2))
    tested = windows.test(series(), Task("ramp", 10, 5, 2))
    assert (len(train), len(valid), len(tested)) == (60 - 15 + 1, 20 - 5 + 1, 20 - 5 + 1)
    mean, scale = tested.mean[0], tested.scale[0]
    first = next(tested.batches(1))
    assert torch.allclose(first.future[0, 0] * scale + mean, torch.arange(80.0, 85.0), atol=1e-3)
    assert torch.allclose(first.past[0, 0] * scale + mean, torch.arange(70.0, 80.0), atol=1e-3)
    *_, last = tested.batches(7)
    assert torch.allclose(last.future[-1, 0] * scale + mean, torch.arange(95.0, 100.0), atol=1e-3)


def test_the_scaler_sees_the_training_part_only() -> None:
    """Values after the training border change nothing in it."""
    changed = series().values.copy()
    changed[60:] = -1e6
    for one in (series(), series(values=changed)):
        mean, scale = windows.standard(one)
        assert mean[0] == pytest.approx(29.5)
        assert scale[0] == pytest.approx(np.arange(60.0).std())


def test_no_memory_of_training_or_validation_holds_a_test_value() -> None:
    """The storage itself ends at the test border: there is nothing to reach for."""
    marked = series().values.copy()
    marked[80:] = np.nan
    for part in windows.development(series(values=marked), Task("ramp", 10, 5, 2)):
        storage = torch.tensor([], dtype=torch.float32).set_(part.values.untyped_storage())
        assert not storage.isnan().any()


def test_row_ids_do_not_depend_on_the_batch() -> None:
    """A row has one number, whatever window it is fetched with, and no two rows share one."""
    tested = windows.test(series(), Task("ramp", 10, 5, 2))
    alone = torch.cat([batch.ids for batch in tested.batches(1)])
    together = torch.cat([batch.ids for batch in tested.batches(16)])
    assert torch.equal(alone, together)
    assert len(alone.unique()) == alone.numel()


def test_row_ids_count_from_the_start_of_the_series() -> None:
    """A row has the number of its first step in the whole series, so no two parts share one."""
    task = Task("ramp", 10, 5, 2)
    parts = [*windows.development(series(), task), windows.test(series(), task)]
    first = [int(part.batch(torch.tensor([0])).ids[0, 0]) for part in parts]
    assert first == [0, (60 - 10) * parts[0].channels, (80 - 10) * parts[0].channels]


def test_planted_windows_never_cross_episodes() -> None:
    """Windows of a chain of independent episodes start at episodes, and nowhere else."""
    chain = series(150, 1, episode=15, borders=(60, 90, 150), boundaries=np.array([3, 94, 97]))
    train, valid = windows.development(chain, Task("ramp", 10, 5, 2))
    tested = windows.test(chain, Task("ramp", 10, 5, 2))
    assert (len(train), len(valid), len(tested)) == (4, 2, 4)
    batch = next(tested.batches(4))
    assert batch.truth is not None
    assert batch.truth[0].nonzero().flatten().tolist() == [4, 7]
    with pytest.raises(ValueError, match="windows of 15 steps; look-back 12 \\+ horizon 5"):
        windows.development(chain, Task("ramp", 12, 5, 2))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Task("ramp", 50, 20, 2), "training part of ramp has 60 steps .* needs 70"),
        (Task("ramp", 30, 25, 2), "validation part of ramp has 50 steps .* needs 55"),
        (Task("ramp", 10, 5, 2, season=60), "training part of ramp has 60 steps: no difference"),
    ],
)
def test_a_part_too_short_is_refused_by_name(task: Task, message: str) -> None:
    """Look-back and horizon that do not fit say which part, how long it is and what it needs."""
    with pytest.raises(ValueError, match=message):
        windows.development(series(), task)


@pytest.mark.parametrize("other", [3.0, 3.0 * (1 + 1e-15)])
def test_a_constant_channel_is_refused_by_name(other: float) -> None:
    """A channel without scale cannot be standardised, and the message names it.

    What differs by rounding alone is constant.
    """
    flat = series().values.copy()
    flat[:60, 1] = 3.0
    flat[:60:2, 1] = other
    with pytest.raises(ValueError, match="channel 'c1' of ramp is constant"):
        windows.development(series(values=flat), Task("ramp", 10, 5, 2))


def test_a_test_part_too_short_is_known_before_training() -> None:
    """No run is trained that could not be tested."""
    with pytest.raises(ValueError, match=r"test part of ramp has 13 steps .* needs 15"):
        windows.development(series(83), Task("ramp", 10, 5, 2))


def test_another_number_of_test_windows_than_the_protocols_is_refused() -> None:
    """The classic sets' counts are frozen: other borders cannot pass under the same name."""
    with pytest.raises(ValueError, match=r"ETTh1 has 105 test windows at horizon 96; .* has 2785"):
        windows.test(
            series(1000, name="ETTh1", borders=(600, 800, 1000)), Task("ETTh1", 10, 96, 2)
        )
