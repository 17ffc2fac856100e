"""Training: best weights kept, equal seeds equal digits, and no road to the test part."""

from __future__ import annotations

import copy
import dataclasses
import gc
import inspect
import math
from collections.abc import Iterable

import pytest
import torch
from small_waves import BUDGET, SECRET, SMALL, TASK, build, waves
from torch import Tensor, nn

from harness.core.task import Budget, Task
from harness.model.forecaster import Forecast, Forecaster, PatchForecaster
from harness.model.layers import Dropout
from harness.model.patcher import (
    RULES,
    Patcher,
    Patches,
    Rows,
    Rule,
    from_scores,
    from_starts,
    uniform_starts,
)
from harness.run import windows
from harness.run.device import has_bfloat16
from harness.run.fit import DivergedError, fit, validation_error, validation_errors
from harness.run.windows import Windows
from methods.l2_optimal import L2Optimal
from methods.mosaic import Mosaic
from methods.patchtst import PatchTST
from methods.random_step import RandomStep
from methods.soft import Soft
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
        "record",
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


@pytest.mark.skipif(not has_bfloat16("cpu"), reason="this processor has no units for bfloat16")
def test_mixed_precision_trains_the_same_model() -> None:
    """bfloat16 training ends near the plain result: an option, not another method."""
    train, valid = windows.development(waves(), TASK)
    plain = fit(build(), train, valid, BUDGET, seed=0).valid_mse
    half = fit(build(), train, valid, dataclasses.replace(BUDGET, precision="bfloat16"), seed=0)
    assert half.valid_mse == pytest.approx(plain, rel=0.1)


def test_a_precision_that_must_be_emulated_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the processor has no units for it, bfloat16 is slower than float32, and said so."""
    train, valid = windows.development(waves(), TASK)
    half = dataclasses.replace(BUDGET, precision="bfloat16")
    able = {"avx512_bf16": False, "avx512_f": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    with pytest.raises(ValueError, match=r"'bfloat16', for which CPU.* has no units.* 'float32'"):
        fit(build(), train, valid, half, seed=0)
    fit(build(), train, valid, dataclasses.replace(BUDGET, epochs=1), seed=0)
    assert not has_bfloat16("cpu")
    able["avx512_bf16"] = True
    assert has_bfloat16("cpu")


def test_validation_leaves_no_trace_of_its_windows() -> None:
    """A model with batch norm is as it was before, and its error is that of a trained one."""
    torch.manual_seed(0)
    model, (_, valid) = PatchTST(TASK, SMALL), windows.development(waves(), TASK)
    expected = validation_error(model.eval(), valid, BUDGET)
    before = copy.deepcopy(model.state_dict())
    assert validation_error(model.train(), valid, BUDGET) == expected
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


# --- written out -------------------------------------------------------------------------------


def written_out(
    model: PatchForecaster, train: Windows, valid: Windows, budget: Budget, rates: list[float]
) -> list[dict[str, Tensor]]:
    """The weights after each epoch of AdamW at these rates, in plain arithmetic, under seed 7."""
    order, drawing = (torch.Generator().manual_seed(7) for _ in range(2))
    groups = [
        (group["lr"] / budget.learning_rate, list(group["params"]))
        for group in model.parameter_groups(budget.learning_rate)
    ]
    moments = {id(value): (0.0, 0.0) for _, group in groups for value in group}
    number, ends = 0, []
    for _ in range(budget.epochs):
        model.train()
        shuffled = torch.randperm(len(train), generator=order)
        for index in shuffled.split(budget.batch)[:3]:
            model.patcher.progress.fill_(number / len(rates))
            batch = train.batch(index)
            forecast = model(batch.past, batch.ids, batch.truth, drawing)
            loss = (forecast.future[0] - batch.future).square().mean()
            if forecast.patches.loss is not None:
                loss = loss + forecast.patches.loss
            slopes = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
            found = {
                id(value): slope
                for value, slope in zip(model.parameters(), slopes, strict=True)
                if slope is not None
            }
            number += 1
            for pace, group in groups:
                norm = sum(float(found[id(v)].square().sum()) for v in group if id(v) in found)
                shrink = min(1.0, budget.clip / (norm**0.5 + 1e-6))
                rate = pace * rates[number - 1]
                for value in group:
                    if id(value) in found:
                        slope = found[id(value)] * shrink
                        mean, square = moments[id(value)]
                        mean = 0.9 * mean + 0.1 * slope
                        square = 0.999 * square + 0.001 * slope.square()
                        moments[id(value)] = mean, square
                        root = (square / (1 - 0.999**number)).sqrt()
                        step = mean / (1 - 0.9**number) / (root + 1e-8)
                        value.data -= rate * (step + budget.weight_decay * value.data)
        validation_errors(model, valid, budget)
        ends.append(copy.deepcopy(model.state_dict()))
    return ends


@pytest.mark.parametrize("method", [Uniform, Soft, Mosaic, RandomStep])
def test_fit_is_the_loop_written_out(method: type[Patcher]) -> None:
    """Six steps: rising rate, cosine, clipping by group, decay, own rates, own losses, dropout."""
    rate = 0.02
    budget = Budget(
        epochs=2,
        steps=3,
        batch=8,
        learning_rate=rate,
        weight_decay=0.5,
        warmup=1 / 3,
        clip=0.05,
    )
    quarters = [0.5 * (1 + math.cos(math.pi * passed)) for passed in (0, 0.25, 0.5, 0.75)]
    rates = [rate / 2, rate, *(rate * part for part in quarters)]
    train, valid = windows.development(waves(), TASK)
    # No attention: its keys have a bias without a slope, and Adam makes whole steps of rounding.
    plain = dataclasses.replace(SMALL, backbone="identity")
    torch.manual_seed(0)
    model = PatchForecaster(TASK, plain, method(TASK))
    expected = copy.deepcopy(model)
    torch.manual_seed(1)
    ends = written_out(expected, train, valid, budget, rates)
    torch.manual_seed(1)
    seen: list[dict[str, Tensor]] = []
    fitted = fit(
        model,
        train,
        valid,
        budget,
        seed=7,
        on_epoch=lambda epoch: seen.append(copy.deepcopy(model.state_dict())),
    )
    assert fitted.steps == 6
    for found, end in zip(seen, ends, strict=True):
        for name, value in end.items():
            # Along the smallest slopes rounding makes up to a thousandth of a step.
            assert torch.allclose(found[name], value, rtol=0, atol=rate / 1000), name


def test_the_weights_kept_are_those_of_the_best_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come back after two worse epochs, and patience counts from the best epoch so far."""
    errors = iter([5.0, 6.0, 4.0, 6.0, 3.0, 7.0, 6.0, 1.0, *[9.0] * 12])
    monkeypatch.setattr("harness.run.fit.validation_error", lambda *_: next(errors))
    model, seen = build(StraightThrough), []
    train, valid = windows.development(waves(), TASK)
    fitted = fit(
        model,
        train,
        valid,
        dataclasses.replace(BUDGET, epochs=20, steps=2, patience=2),
        seed=0,
        on_epoch=lambda epoch: seen.append(copy.deepcopy(model.state_dict())),
    )
    assert (fitted.epochs, fitted.valid_mse) == (7, 3.0)
    assert not torch.equal(seen[4]["head.out.weight"], seen[6]["head.out.weight"])
    for name, value in model.state_dict().items():
        assert torch.equal(value, seen[4][name]), name


# --- evaluation rules ----------------------------------------------------------------------------


class Threefold(Patcher):
    """Equal patches whose content is wrong, but by the ``good`` rule and in training."""

    rules = ("sample", "best", "even")

    def __init__(self, task: Task, *, good: str = "even") -> None:
        super().__init__(task)
        self.good = good
        self.trained_by: list[Rule] = []
        """The rule in use at each training step."""

    def forward(self, rows: Rows) -> Patches:
        if rows.generator is not None:
            self.trained_by.append(rows.rule)
        start = uniform_starts(self.task.look_back, self.task.patches).expand(len(rows.ids), -1)
        wrong = -1.0 - RULES.index(rows.rule)
        factor = 1.0 if rows.rule == self.good or rows.generator is not None else wrong
        return from_starts(
            start, self.task.look_back, gain=torch.full_like(start, factor, dtype=torch.float32)
        )


class Settled(Threefold):
    """Its authors have evaluated it by its mode."""

    authors_rule = "best"


def threefold(kind: type[Threefold] = Threefold, good: str = "even") -> PatchForecaster:
    torch.manual_seed(0)
    return PatchForecaster(TASK, SMALL, kind(TASK, good=good))


@pytest.mark.parametrize("good", RULES)
def test_the_rule_of_least_validation_error_is_kept(good: Rule) -> None:
    """It is named, in use afterwards, and what the error of the weights kept is by."""
    train, valid = windows.development(waves(), TASK)
    model = threefold(good=good)
    fitted = fit(model, train, valid, BUDGET, seed=0)
    assert fitted.rule == model.patcher.evaluation_rule == good
    for epoch in fitted.curves:
        by_rule = {rule: epoch[f"valid_mse_{rule}"] for rule in RULES}
        assert epoch["valid_mse"] == min(by_rule.values()) == by_rule[good]
        assert len(set(by_rule.values())) == 3
    assert fitted.valid_mse == min(epoch["valid_mse"] for epoch in fitted.curves)
    errors = {}
    for rule in RULES:
        model.patcher.evaluation_rule = rule
        errors[rule] = validation_error(model, valid, BUDGET)
    assert min(errors, key=lambda rule: errors[rule]) == good
    assert errors[good] == pytest.approx(fitted.valid_mse, rel=1e-12)


def test_weights_are_kept_with_the_rule_of_their_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least error of all epochs and rules decides; each epoch trains on the last choice."""
    by_epoch = {
        "sample": [5.0, 9.0, 4.0, 8.0],
        "best": [6.0, 3.0, 9.0, 7.0],
        "even": [7.0, 8.0, 9.0, 6.0],
    }
    errors = {rule: iter(each) for rule, each in by_epoch.items()}
    monkeypatch.setattr(
        "harness.run.fit.validation_error",
        lambda model, *_: next(errors[model.patcher.evaluation_rule]),
    )
    train, valid = windows.development(waves(), TASK)
    model, seen = threefold(), []
    fitted = fit(
        model,
        train,
        valid,
        dataclasses.replace(BUDGET, epochs=9, steps=1, patience=2),
        seed=0,
        on_epoch=lambda epoch: seen.append((epoch, copy.deepcopy(model.state_dict()))),
    )
    assert (fitted.epochs, fitted.valid_mse, fitted.rule) == (4, 3.0, "best")
    assert [epoch["valid_mse"] for epoch, _ in seen] == [5.0, 3.0, 4.0, 6.0]
    assert [epoch["valid_mse_even"] for epoch, _ in seen] == by_epoch["even"]
    assert model.patcher.trained_by == ["sample", "sample", "best", "sample"]
    assert model.patcher.evaluation_rule == "best"
    for name, value in model.state_dict().items():
        assert torch.equal(value, seen[1][1][name]), name


def test_of_equal_rules_the_first_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order in which they are declared decides, and not chance."""
    monkeypatch.setattr("harness.run.fit.validation_error", lambda *_: 1.0)
    train, valid = windows.development(waves(), TASK)
    assert fit(threefold(), train, valid, BUDGET, seed=0).rule == "sample"


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_is_settled_is_not_chosen(rule: Rule) -> None:
    """That of the authors, and that of a frozen patcher, stay, whatever validation says."""
    train, valid = windows.development(waves(), TASK)
    settled, frozen = threefold(Settled), threefold()
    frozen.patcher.evaluation_rule = rule
    frozen.patcher.freeze()
    for model, expected in ((settled, "best"), (frozen, rule)):
        fitted = fit(model, train, valid, dataclasses.replace(BUDGET, epochs=1), seed=0)
        assert fitted.rule == model.patcher.evaluation_rule == expected
        assert not any(name.startswith("valid_mse_") for name in fitted.curves[0])
        assert validation_error(model, valid, BUDGET) == fitted.valid_mse


def test_an_error_that_is_not_finite_by_any_rule_is_divergence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also by one that would not be chosen: no row could hold it."""
    errors = iter([1.0, math.inf, math.nan])
    monkeypatch.setattr("harness.run.fit.validation_error", lambda *_: next(errors))
    train, valid = windows.development(waves(), TASK)
    with pytest.raises(DivergedError):
        fit(threefold(), train, valid, BUDGET, seed=0)


def test_one_rule_is_one_pass_over_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method without a choice, or a reference, is validated once an epoch, as ever."""
    models: tuple[tuple[Forecaster, str | None], ...] = (
        (build(), "best"),
        (PatchTST(TASK, SMALL), None),
    )
    train, valid = windows.development(waves(), TASK)
    for model, rule in models:
        calls = iter(range(9))
        monkeypatch.setattr(
            "harness.run.fit.validation_error", lambda *_, to=calls: 9.0 - next(to)
        )
        fitted = fit(model, train, valid, BUDGET, seed=0)
        assert (next(calls), fitted.rule) == (BUDGET.epochs, rule)
        names = ["epoch", "train_mse", "valid_mse", "learning_rate", "seconds"]
        assert list(fitted.curves[0]) == names


# --- the rest ------------------------------------------------------------------------------------


def test_a_flat_schedule_stays_at_its_rate() -> None:
    """Without cosine and warm-up each epoch has the rate of the budget."""
    train, valid = windows.development(waves(), TASK)
    budget = dataclasses.replace(BUDGET, schedule="constant")
    fitted = fit(build(), train, valid, budget, seed=0)
    assert [epoch["learning_rate"] for epoch in fitted.curves] == [5e-3] * 3


def test_the_error_in_training_is_the_mean_over_the_epochs_steps() -> None:
    """With a rate too small to move anything it is the error of the first windows in order."""
    train, valid = windows.development(waves(), TASK)
    budget = dataclasses.replace(BUDGET, epochs=1, steps=3, learning_rate=1e-30)
    model = build().eval()
    index = torch.randperm(len(train), generator=torch.Generator().manual_seed(5))[:24]
    batch = train.batch(index)
    error = (model(batch.past, batch.ids).future[0] - batch.future).square().mean()
    for dropout in (part for part in model.modules() if isinstance(part, Dropout)):
        dropout.dropped = 0
    fitted = fit(model, train, valid, budget, seed=5)
    assert fitted.curves[0]["train_mse"] == pytest.approx(error.item(), rel=1e-5)


def test_fixed_boundaries_are_computed_once_for_each_window() -> None:
    """All training and validation windows before the first step, and none again until the end."""

    class Counting(Patcher):
        fixed = True
        cuts = 0

        def forward(self, rows: Rows) -> Patches:
            self.cuts += len(rows.values)
            return from_scores(rows.values.diff(dim=1).abs(), self.task.patches)

    train, valid = windows.development(waves(), TASK)
    patcher = Counting(TASK)
    model = PatchForecaster(TASK, SMALL, patcher)
    budget = dataclasses.replace(BUDGET, steps=None)
    fit(model, train, valid, dataclasses.replace(budget, epochs=3), seed=0)
    assert patcher.cuts == (len(train) + len(valid)) * 2
    batch = valid.batch(torch.arange(3))
    model.cut(batch.past, batch.ids)
    assert patcher.cuts == (len(train) + len(valid) + 3) * 2


@pytest.mark.parametrize("look_back", [32, 33_000])
def test_the_validation_error_is_that_of_the_weights_kept_at_any_look_back(look_back: int) -> None:
    """Long look-backs, too."""
    task = dataclasses.replace(TASK, look_back=look_back)
    series = waves(look_back + 400)
    series = dataclasses.replace(
        series, borders=(look_back + 200, look_back + 220, look_back + 400)
    )
    train, valid = windows.development(series, task)
    torch.manual_seed(0)
    model = PatchForecaster(task, SMALL, L2Optimal(task) if look_back == 32 else Uniform(task))
    budget = dataclasses.replace(BUDGET, epochs=1, steps=2, batch=100)
    fitted = fit(model, train, valid, budget, seed=0)
    assert validation_error(model, valid, budget) == fitted.valid_mse


@pytest.mark.parametrize("method", [Uniform, StraightThrough])
@pytest.mark.parametrize(("level", "scale"), [(1e8, 1.0), (0.0, 1e-20), (0.0, 1e20), (1e4, 1e20)])
def test_training_does_not_see_units(method: type[Patcher], level: float, scale: float) -> None:
    """Whatever units a series comes in, the same windows are learned from, to the same error."""
    moved = dataclasses.replace(waves(), values=(waves().values + level) * scale)
    errors = []
    for series in (waves(), moved):
        train, valid = windows.development(series, TASK)
        errors.append(fit(build(method), train, valid, BUDGET, seed=0).valid_mse)
    assert errors[1] == pytest.approx(errors[0], rel=1e-4)
