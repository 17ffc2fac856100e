"""Training: best weights kept, equal seeds equal digits, and no road to the test part."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.core.task import Architecture, Budget, Task
from harness.data import Series
from harness.model.forecaster import Forecast, PatchForecaster
from harness.model.patcher import Patcher, Patches, Rows, from_scores
from harness.run import windows
from harness.run.cost import cost
from harness.run.evaluate import evaluate
from harness.run.fit import DivergedError, fit, validation_error
from harness.run.probes import window_to_show
from methods.dlinear import DLinear
from methods.random_step import RandomStep
from methods.repeat_last import RepeatLast
from methods.straight_through import StraightThrough
from methods.uniform import Uniform

TASK = Task("waves", 32, 8, 4, season=8)
SMALL = Architecture(width=8, layers=1, heads=2, feedforward=16, dropout=0.1)
BUDGET = Budget(epochs=3, steps=6, batch=8, learning_rate=5e-3)
SECRET = 12345.0


def waves(steps: int = 400, *, secret: bool = False) -> Series:
    """Two noisy sines; with ``secret`` the whole test part is one telling number."""
    clock = np.arange(float(steps))[:, None]
    values = np.sin(2 * np.pi * clock / np.array([8.0, 16.0]))
    values += 0.1 * np.random.default_rng(0).normal(size=values.shape)
    if secret:
        values[300:] = SECRET
    return Series("waves", values, ("a", "b"), "h", 8, (240, 300, steps), "x")


def build(method: type[Patcher] = Uniform, seed: int = 0) -> PatchForecaster:
    torch.manual_seed(seed)
    patcher = method(TASK)
    torch.manual_seed(seed)
    return PatchForecaster(TASK, SMALL, patcher)


def trained(method: type[Patcher], seed: int) -> PatchForecaster:
    model = build(method, seed)
    torch.manual_seed(seed)
    train, valid = windows.development(waves(), TASK)
    fit(model, train, valid, BUDGET, seed=seed)
    return model


@pytest.mark.parametrize("method", [Uniform, RandomStep, StraightThrough])
def test_the_same_seed_gives_the_same_digits(method: type[Patcher]) -> None:
    """Two trainings under one seed end in the same weights, bit for bit; another seed does not."""
    first, again, other = (trained(method, seed).state_dict() for seed in (0, 0, 1))
    for name, value in first.items():
        assert torch.equal(value, again[name]), name
    assert not torch.equal(first["head.out.weight"], other["head.out.weight"])


def test_the_seed_of_fit_is_that_of_the_data_order() -> None:
    """From equal weights and dropout, two seeds see the windows in two orders and part ways."""
    train, valid = windows.development(waves(), TASK)
    errors = []
    for seed in (0, 0, 1):
        model = build()
        torch.manual_seed(0)
        errors.append(fit(model, train, valid, BUDGET, seed=seed).valid_mse)
    assert errors[0] == errors[1] != errors[2]


def test_training_lowers_the_error_and_keeps_the_best_weights() -> None:
    """The reported validation error is the least of all epochs, and the weights kept reach it."""
    train, valid = windows.development(waves(), TASK)
    model = build()
    before = validation_error(model, valid, BUDGET)
    heard: list[dict[str, float]] = []
    fitted = fit(
        model,
        train,
        valid,
        dataclasses.replace(BUDGET, epochs=6, learning_rate=0.05),
        seed=0,
        on_epoch=heard.append,
    )
    assert fitted.valid_mse < before / 2
    assert fitted.valid_mse == min(epoch["valid_mse"] for epoch in fitted.curves)
    assert validation_error(model, valid, BUDGET) == pytest.approx(fitted.valid_mse, rel=1e-12)
    assert heard == fitted.curves
    assert fitted.steps == 6 * len(fitted.curves)


def test_training_stops_when_validation_stops_getting_better() -> None:
    """With a learning rate that only does harm, patience ends the run."""
    train, valid = windows.development(waves(), TASK)
    budget = dataclasses.replace(
        BUDGET, epochs=50, steps=3, learning_rate=3.0, patience=2, schedule="constant"
    )
    fitted = fit(build(), train, valid, budget, seed=0)
    errors = [epoch["valid_mse"] for epoch in fitted.curves]
    assert len(errors) == errors.index(min(errors)) + 1 + 2 < 50


def test_a_loss_that_is_not_finite_is_said_so() -> None:
    """Divergence ends training with an error that knows how far it got."""

    def spoil(model: nn.Module, inputs: tuple[object, ...], forecast: Forecast) -> Forecast:
        return dataclasses.replace(forecast, future=forecast.future * math.nan)

    model = build()
    model.register_forward_hook(spoil)
    train, valid = windows.development(waves(), TASK)
    with pytest.raises(DivergedError, match="not finite in epoch 1 after 6 steps") as caught:
        fit(model, train, valid, BUDGET, seed=0)
    assert caught.value.fitted.steps == 6


@pytest.mark.parametrize("size", [1, 3, 8])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(size: int) -> None:
    """Without dropout the same windows in parts of any size lead to the same weights."""
    train, valid = windows.development(waves(), TASK)
    budget = dataclasses.replace(BUDGET, epochs=1, optimiser="adam", warmup=0.0)
    ends = []
    for micro_batch in (None, size):
        torch.manual_seed(0)
        model = PatchForecaster(TASK, dataclasses.replace(SMALL, dropout=0.0), Uniform(TASK))
        fitted = fit(model, train, valid, budget, seed=0, micro_batch=micro_batch)
        ends.append((fitted.curves[0]["train_mse"], fitted.valid_mse))
        assert fitted.steps == 6
    assert ends[1] == pytest.approx(ends[0], rel=1e-5)
    assert (ends[1] == ends[0]) == (size == budget.batch)  # the whole at once: the same digits


def test_parts_need_less_memory_at_a_time() -> None:
    """No part that passes through the model is larger than was asked for, and none is lost."""
    seen: list[int] = []
    model = build()
    model.register_forward_pre_hook(
        lambda module, inputs: seen.append(len(inputs[0])) if module.training else None
    )
    train, valid = windows.development(waves(), TASK)
    fit(model, train, valid, dataclasses.replace(BUDGET, epochs=1), seed=0, micro_batch=3)
    assert seen == [3, 3, 2] * 6


def test_fit_has_no_parameter_for_test_windows() -> None:
    """What fit can be given is train, validation and plain settings."""
    assert list(inspect.signature(fit).parameters) == [
        "model", "train", "valid", "budget", "seed", "on_epoch", "micro_batch",
    ]  # fmt: skip


def test_a_method_that_looks_for_test_values_finds_none() -> None:
    """A method that walks all it is given, and every tensor alive, in training never sees one."""
    seen: list[float] = []

    class Spy(Patcher):
        def __init__(self, task: Task) -> None:
            super().__init__(task)
            self.weight = nn.Parameter(torch.ones(1))

        def prepare(self, rows: Iterable[Tensor]) -> None:
            for batch in rows:
                self.search(batch)

        def forward(self, rows: Rows) -> Patches:
            self.search(rows.values)
            return from_scores(rows.values[:, 1:] * self.weight.detach(), self.task.patches)

        @staticmethod
        def search(tensor: Tensor) -> None:
            every = [value for value in gc.get_objects() if type(value) is Tensor]
            bases = [value for value in (tensor, tensor._base) if value is not None]
            for value in [*bases, *every]:
                if value.is_floating_point() and value.numel():
                    # The whole storage, not only the part the tensor shows.
                    whole = torch.empty(0, dtype=value.dtype).set_(value.untyped_storage())
                    seen.append(float(whole.nan_to_num().abs().max()))

    # Unscaled, so that a test value cannot hide behind the scaler.
    series = dataclasses.replace(waves(secret=True), standardise=False)
    train, valid = windows.development(series, TASK)
    fit(PatchForecaster(TASK, SMALL, Spy(TASK)), train, valid, BUDGET, seed=0)
    assert len(seen) > 100
    assert max(seen) < SECRET


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
    """MSE and MAE, scaled and raw, of the repeated last value against plain numpy."""
    series = waves()
    scored = evaluate(RepeatLast(TASK, SMALL), windows.test(series, TASK), series, budget=BUDGET)
    starts = range(300, 400 - 8 + 1)
    error = np.stack([series.values[t : t + 8] - series.values[t - 1] for t in starts])
    scale = series.values[:240].std(axis=0)
    assert scored.metrics["mse_raw"] == pytest.approx((error**2).mean(), rel=1e-5)
    assert scored.metrics["mae_raw"] == pytest.approx(np.abs(error).mean(), rel=1e-5)
    assert scored.metrics["mse"] == pytest.approx(((error / scale) ** 2).mean(), rel=1e-5)
    assert scored.metrics["mae"] == pytest.approx(np.abs(error / scale).mean(), rel=1e-5)


def test_tokens_are_counted_as_they_were_used() -> None:
    """A soft method is charged for its mean, its 95th percentile and its padded slots."""

    class Soft(Patcher):
        strict = False

        def forward(self, rows: Rows) -> Patches:
            # Four patches for rows of channel a, three for those of channel b, five slots for all.
            start = torch.tensor([0, 8, 16, 24, 32]).repeat(len(rows.values), 1)
            length = torch.tensor([8, 8, 8, 8, 0]).repeat(len(rows.values), 1)
            few = rows.ids % 2 == 1
            length[few, 2], length[few, 3] = 16, 0
            return Patches(start, length, length > 0)

    model = PatchForecaster(TASK, SMALL, Soft(TASK))
    scored = evaluate(model, windows.test(waves(), TASK), waves(), budget=BUDGET)
    assert (scored.tokens_mean, scored.tokens_p95, scored.tokens_padded) == (3.5, 4.0, 5.0)


def test_operations_are_counted_as_by_hand() -> None:
    """A linear layer: 2 x in x out forward for each row; its weight gradient as much again."""
    model, (train, _) = DLinear(TASK, SMALL), windows.development(waves(), TASK)
    spent = cost(model, train, BUDGET)
    layers, channels = 2, 2
    assert spent.flops == layers * channels * 2 * 32 * 8
    assert spent.flops_step == 2 * spent.flops * BUDGET.batch
    assert spent.parameters["all"] == layers * (32 * 8 + 8)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_counting_costs_leaves_no_trace() -> None:
    """Neither weights nor random state are touched, so counting cannot change a result."""
    model, (train, _) = build(StraightThrough), windows.development(waves(), TASK)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    cost(model, train, BUDGET)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_window_to_look_at_is_a_real_one() -> None:
    """Patch starts, values, future and forecast belong to one test window."""
    shown = window_to_show(build(), windows.test(waves(), TASK), TASK, BUDGET)
    assert shown["starts"] == [0, 8, 16, 24]
    assert [len(shown[part]) for part in ("values", "future", "forecast")] == [32, 8, 8]


def test_mixed_precision_trains_the_same_model() -> None:
    """bfloat16 training ends near the plain result: an option, not another method."""
    train, valid = windows.development(waves(), TASK)
    plain = fit(build(), train, valid, BUDGET, seed=0).valid_mse
    half = fit(build(), train, valid, dataclasses.replace(BUDGET, precision="bfloat16"), seed=0)
    assert half.valid_mse == pytest.approx(plain, rel=0.1)
