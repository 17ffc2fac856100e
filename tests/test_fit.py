"""Training: best weights kept, equal seeds equal digits, and no road to the test part."""

from __future__ import annotations

import dataclasses
import gc
import inspect
import math
from collections.abc import Iterable

import pytest
import torch
from small_waves import BUDGET, SECRET, SMALL, TASK, build, waves
from torch import Tensor, nn

from harness.core.task import Task
from harness.model.forecaster import Forecast, PatchForecaster
from harness.model.patcher import Patcher, Patches, Rows, from_scores
from harness.run import windows
from harness.run.fit import DivergedError, fit, validation_error
from methods.random_step import RandomStep
from methods.straight_through import StraightThrough
from methods.uniform import Uniform


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


def test_mixed_precision_trains_the_same_model() -> None:
    """bfloat16 training ends near the plain result: an option, not another method."""
    train, valid = windows.development(waves(), TASK)
    plain = fit(build(), train, valid, BUDGET, seed=0).valid_mse
    half = fit(build(), train, valid, dataclasses.replace(BUDGET, precision="bfloat16"), seed=0)
    assert half.valid_mse == pytest.approx(plain, rel=0.1)
