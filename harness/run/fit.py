"""Training: one function for every forecaster, given train and validation windows, no others."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from harness.core.task import Budget
from harness.model.forecaster import Forecaster, PatchForecaster, autocast
from harness.model.patcher import Rule
from harness.run.device import refuse_emulation
from harness.run.step import Plain, Recorded
from harness.run.windows import Windows


@dataclass(frozen=True)
class Fitted:
    """How training went: ``valid_mse`` is of the weights kept, evaluated by ``rule``.

    ``rule`` is None for a forecaster without a patcher. ``curves`` has a row an epoch, in which
    ``valid_mse`` is by the epoch's best rule; where there is a choice, ``valid_mse_sample`` and so
    on are by each. ``engine`` says how steps were taken (:mod:`harness.run.step`).
    """

    valid_mse: float
    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    curves: list[dict[str, float]] = field(default_factory=list)
    rule: Rule | None = None
    engine: str = "eager"


class DivergedError(ArithmeticError):
    """The loss is not a finite number any more; ``fitted`` says how far training got."""

    def __init__(self, fitted: Fitted) -> None:
        super().__init__(
            f"the loss was not finite in epoch {fitted.epochs} after {fitted.steps} steps"
        )
        self.fitted = fitted


def fit(
    model: Forecaster,
    train: Windows,
    valid: Windows,
    budget: Budget,
    *,
    seed: int,
    on_epoch: Callable[[dict[str, float]], object] = lambda epoch: None,
    micro_batch: int | None = None,
    record: bool = True,
) -> Fitted:
    """Minimise the squared error on ``train``; keep the weights that do best on ``valid``.

    After each epoch the validation error is taken by every evaluation rule that is open
    (:attr:`harness.model.patcher.Patcher.open_rules`), and the best one is in use in the next
    epoch. Kept are the weights and the rule of the least error of all, so what stops training and
    chooses weights is the error by the rule that is scored. Of equal rules the first one declared
    is taken, of equal epochs the earlier one.

    Data order and the drawing of boundaries have generators of their own, seeded by ``seed``.
    ``on_epoch`` is called with each epoch's row of the curves and may raise to stop.

    With ``micro_batch``, at most that many windows pass through the model at a time, to save
    memory. A step is still taken on the whole batch, on the same windows in the same order, with
    the gradients of its parts added up. The result is not the same to the last digit: statistics
    of a batch are then those of its parts (the batch norm of a reference, a patcher's losses over
    its rows, averages that it moves at every pass), and random numbers are drawn part by part.

    On a GPU steps are recorded and replayed (:mod:`harness.run.step`), unless ``record`` is False.

    Raises:
        DivergedError: a loss that is not finite.
        ContractError: patches that break the contract, in the first step or on any validation
            window.
        ValueError: a precision that the device has no units for.
    """
    started = time.perf_counter()
    device = train.values.device
    refuse_emulation(budget.precision, str(device))
    model.prepare(batch.past for batch in train.batches(train.at_once))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        return Fitted(
            validation_error(model, valid, budget), seconds=time.perf_counter() - started
        )

    order = torch.Generator().manual_seed(seed)
    drawing = torch.Generator(device).manual_seed(seed)
    groups = model.parameter_groups(budget.learning_rate)
    rates = [group["lr"] for group in groups]
    optimiser = make_optimiser(groups, budget, device)
    per_epoch = int(min(math.ceil(len(train) / budget.batch), budget.steps or math.inf))
    total_steps = per_epoch * budget.epochs
    forward = torch.compile(model) if budget.compile else model
    step = Plain(forward, model, train, groups, optimiser, budget, drawing, micro_batch)
    may_record = record and device.type == "cuda" and not budget.compile
    recorded = Recorded(step) if may_record else None

    if isinstance(model, PatchForecaster):
        _remember(model, train, valid, uses=total_steps * budget.batch)

    curves: list[dict[str, float]] = []
    best, best_weights, steps, worse = math.inf, _weights(model), 0, 0
    for epoch in range(1, budget.epochs + 1):
        model.train()
        total = torch.zeros((), dtype=torch.float64, device=device)
        shuffled = torch.randperm(len(train), generator=order).to(device)
        for index in shuffled.split(budget.batch)[:per_epoch]:
            model.advance(steps / total_steps)
            set_rates(optimiser, rates, rate := rate_factor(steps, budget, total_steps))
            with nullcontext() if steps else model.watched("on the first training batch"):
                total += (recorded or step)(index)
            steps += 1
        if recorded is not None:
            recorded.renew()
        by_rule = validation_errors(model, valid, budget)
        error = min(by_rule.values())
        curves.append(
            {
                "epoch": epoch,
                "train_mse": float(total) / per_epoch,
                "valid_mse": error,
                **_of_each(by_rule),
                "learning_rate": rates[0] * rate,
                "seconds": time.perf_counter() - started,
            }
        )
        on_epoch(curves[-1])
        if not math.isfinite(sum(by_rule.values()) + curves[-1]["train_mse"]):
            raise DivergedError(Fitted(best, epoch, steps, time.perf_counter() - started, curves))
        worse = 0 if error < best else worse + 1
        if error < best:
            best, best_weights = error, _weights(model)
        if worse >= budget.patience:
            break
    model.load_state_dict(best_weights)
    rule = None
    if isinstance(model, PatchForecaster):
        model.forget()
        rule = model.patcher.evaluation_rule
    engine = "eager" if recorded is None else recorded.engine
    return Fitted(best, len(curves), steps, time.perf_counter() - started, curves, rule, engine)


def validation_errors(
    model: Forecaster, valid: Windows, budget: Budget
) -> dict[Rule | None, float]:
    """The validation error by each rule that is open; the best one is in use from here on.

    A forecaster without a patcher has one error, by no rule.
    """
    if not isinstance(model, PatchForecaster):
        return {None: validation_error(model, valid, budget)}
    patcher, errors = model.patcher, dict[Rule | None, float]()
    for rule in patcher.open_rules:
        patcher.evaluation_rule = rule
        errors[rule] = validation_error(model, valid, budget)
    patcher.evaluation_rule = min(patcher.open_rules, key=errors.__getitem__)
    return errors


def _of_each(errors: dict[Rule | None, float]) -> dict[str, float]:
    """Columns of the curves, where there is a choice."""
    return {f"valid_mse_{rule}": error for rule, error in errors.items() if len(errors) > 1}


def validation_error(model: Forecaster, valid: Windows, budget: Budget) -> float:
    """Mean squared error over every validation window, in standardised units."""
    model.eval()
    total = torch.zeros((), dtype=torch.float64, device=valid.values.device)
    watched = model.watched("on the validation windows")
    with torch.inference_mode(), autocast(valid.values.device, budget.precision), watched:
        for batch in valid.batches(valid.at_once):
            future = model(batch.past, batch.ids, batch.truth).future[0]
            total += (future - batch.future).square().sum(dtype=torch.float64)
    return float(total) / (len(valid) * valid.channels * valid.horizon)


def _remember(model: PatchForecaster, train: Windows, valid: Windows, *, uses: int) -> None:
    """Cut all windows in advance where boundaries never change, if that is less work and fits."""
    rows = len(train) * train.channels
    fits = rows * model.patcher.slots * 4 <= _REMEMBERED_MB * 2**20
    if model.patcher.fixed and fits and uses >= len(train):
        with torch.no_grad(), model.watched("before training"):
            model.remember(
                (batch.past, batch.ids, batch.truth)
                for part in (train, valid)
                for batch in part.batches(part.at_once)
            )


_REMEMBERED_MB = 256


def make_optimiser(
    groups: list[dict[str, Any]], budget: Budget, device: torch.device
) -> torch.optim.Optimizer:
    """The budget's optimiser over the groups, each with its own learning rate."""
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[budget.optimiser]
    if device.type == "cuda":  # rates that a recorded step reads anew each time
        groups = [group | {"lr": torch.tensor(group["lr"], device=device)} for group in groups]
    return kind(
        groups,
        weight_decay=budget.weight_decay,
        fused=device.type in ("cpu", "cuda"),
        capturable=device.type == "cuda",
    )


def set_rates(optimiser: torch.optim.Optimizer, rates: Sequence[float], factor: float) -> None:
    """The learning rate of each group; of a recorded step the rate is a tensor that stays."""
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * factor)
        else:
            group["lr"] = rate * factor


def rate_factor(step: int, budget: Budget, total: int) -> float:
    """The learning rate at a step, as a multiple of the budget's."""
    rising = max(1, round(budget.warmup * total))
    if step < rising and budget.warmup:
        return (step + 1) / rising
    if budget.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
