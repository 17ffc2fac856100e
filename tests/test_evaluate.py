"""Scoring: errors as by hand, in any batch size, of a model that stays as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_waves import BUDGET, SMALL, TASK, build, waves
from torch import Tensor, nn

from harness.data import Series
from harness.model.forecaster import PatchForecaster
from harness.model.patcher import Patcher, Patches, Rows
from harness.run import windows
from harness.run.evaluate import evaluate
from methods.patchtst import PatchTST
from methods.random_step import RandomStep
from methods.repeat_last import RepeatLast
from methods.straight_through import StraightThrough
from methods.uniform import Uniform


def test_a_model_that_learns_while_it_is_tested_is_refused() -> None:
    """Weights and buffers are compared before and after: test-time training is an error."""

    def learn(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        model.get_buffer("seen").add_(inputs[0].mean())

    model = RepeatLast(TASK, SMALL)
    model.register_buffer("seen", torch.zeros(()))
    model.register_forward_pre_hook(learn)
    with pytest.raises(ValueError, match="RepeatLast changed its own weights or buffers"):
        evaluate(model, windows.test(waves(), TASK), waves(), budget=BUDGET)


def test_the_future_is_not_in_reach_of_a_forecast() -> None:
    """In evaluation the past's own memory ends with the look-back."""
    in_reach: list[int] = []

    def reach(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        past = inputs[0]
        in_reach.append(past.untyped_storage().nbytes() // past.element_size() - past.numel())

    model = RepeatLast(TASK, SMALL)
    model.register_forward_pre_hook(reach)
    evaluate(model, windows.test(waves(), TASK), waves(), budget=BUDGET)
    assert set(in_reach) == {0}


@pytest.mark.parametrize("method", [Uniform, RandomStep, StraightThrough])
def test_errors_do_not_depend_on_the_batch_size(method: type[Patcher]) -> None:
    """One, seven or thirty-two windows at once: the same windows, the same metrics to 1e-6."""
    model, tested = build(method), windows.test(waves(), TASK)
    scores = [evaluate(model, tested, waves(), budget=BUDGET, at_once=size) for size in (1, 7, 32)]
    for score in scores[1:]:
        assert score.windows == len(tested) == 100 - 8 + 1
        assert score.metrics == pytest.approx(scores[0].metrics, rel=1e-6)


def test_errors_are_those_computed_by_hand() -> None:
    """MSE, MAE, MASE and sMAPE of the repeated last value against plain numpy."""
    series = waves()
    scored = evaluate(RepeatLast(TASK, SMALL), windows.test(series, TASK), series, budget=BUDGET)
    starts = range(300, 400 - 8 + 1)
    error = np.stack([series.values[t : t + 8] - series.values[t - 1] for t in starts])
    scale = series.values[:240].std(axis=0)
    assert scored.metrics["mse_raw"] == pytest.approx((error**2).mean(), rel=1e-5)
    assert scored.metrics["mae_raw"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert scored.metrics["mse"] == pytest.approx(((error / scale) ** 2).mean(), rel=1e-5)
    assert scored.metrics["mae"] == pytest.approx(np.abs(error / scale).mean(), rel=1e-5)
    season = np.abs(series.values[8:240] - series.values[: 240 - 8]).mean(axis=0)
    assert scored.metrics["mase"] == pytest.approx(np.abs(error / season).mean(), rel=1e-5)
    last = np.stack(
        [np.abs(series.values[t : t + 8]) + np.abs(series.values[t - 1]) for t in starts]
    )
    assert scored.metrics["smape"] == pytest.approx((200 * np.abs(error) / last).mean(), rel=1e-4)


def test_a_model_left_in_training_is_tested_all_the_same() -> None:
    """Batch norm uses what it learned, and moves none of it: the errors are those of a test."""
    torch.manual_seed(0)
    model, tested = PatchTST(TASK, SMALL), windows.test(waves(), TASK)
    expected = evaluate(model.eval(), tested, waves(), budget=BUDGET).metrics
    assert evaluate(model.train(), tested, waves(), budget=BUDGET).metrics == expected


def test_tokens_are_counted_as_they_were_used() -> None:
    """A soft method is charged for its mean, its 95th percentile and its padded slots."""

    class Soft(Patcher):
        strict = False

        def forward(self, rows: Rows) -> Patches:
            # Four patches for rows of channel a, three for those of channel b, five slots for all.
            start = torch.tensor([0, 8, 16, 24, 32]).repeat(len(rows.values), 1)
            length = torch.tensor([8, 8, 8, 8, 0]).repeat(len(rows.values), 1)
            few = rows.ids % 2 == 1
            start[few, 3], length[few, 2], length[few, 3] = 32, 16, 0
            return Patches(start, length, length > 0)

    model = PatchForecaster(TASK, SMALL, Soft(TASK))
    scored = evaluate(model, windows.test(waves(), TASK), waves(), budget=BUDGET)
    assert (scored.tokens_mean, scored.tokens_p95, scored.tokens_padded) == (3.5, 4.0, 5.0)


@given(
    level=st.sampled_from([0.0, 1e4, 1e8, -1e8]),
    scale=st.sampled_from([1e-20, 1e-6, 1.0, 1e6, 1e20]),
)
@settings(deadline=None, max_examples=12)
def test_errors_survive_any_level_and_scale(level: float, scale: float) -> None:
    """A series in other units has the same scaled errors and MASE, and raw errors as large."""

    def scored(series: Series) -> dict[str, float]:
        model = RepeatLast(TASK, SMALL)
        return evaluate(model, windows.test(series, TASK), series, budget=BUDGET).metrics

    plain = scored(waves())
    moved = replace(waves(), values=(waves().values + level) * scale)
    expected = {
        "mse": plain["mse"],
        "mae": plain["mae"],
        "mse_raw": plain["mse_raw"] * scale**2,
        "mae_raw": plain["mae_raw"] * scale,
        "mase": plain["mase"],
    }
    got = scored(moved)
    assert {name: got[name] for name in expected} == pytest.approx(expected, rel=1e-4, abs=0)
    assert 0 < got["smape"] <= 200
