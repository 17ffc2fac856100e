"""Pre-training on a corpus: one function, with the same budget of rows for every patcher."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from harness import data
from harness.core.files import write_bytes
from harness.core.task import Architecture, Budget, Task
from harness.model.contract import watching
from harness.model.patcher import Patcher, Rule
from harness.model.quantiles import QuantileForecaster, pinball, standardised
from harness.run.fit import DivergedError, Fitted, make_optimiser, rate_factor, set_rates

SHORTEST = 8
"""Steps of the shortest past that is trained on."""

VALID_ROWS = 2048
"""On which a check takes the loss, where a budget does not say."""


@dataclass(frozen=True)
class Pretrained:
    """A forecaster with its least validation loss, the rule of it, and a line for each check.

    ``seconds`` of training, those before a break included.
    """

    model: QuantileForecaster
    best: float
    rule: Rule
    curves: list[dict[str, float]]
    seconds: float


@dataclass
class _Progress:
    """How far pre-training is, and all that the next step needs."""

    step: int = 0
    seconds: float = 0.0
    best: float = math.inf
    rule: Rule | None = None
    curves: list[dict[str, float]] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)


def pretrain(
    method: type[Patcher],
    pools: Sequence[data.Pool],
    *,
    task: Task,
    budget: Budget,
    architecture: Architecture,
    seed: int,
    hyperparameters: dict[str, object] | None = None,
    device: str = "cpu",
    checkpoint: Path | None = None,
    on_check: Callable[[dict[str, float]], object] = lambda told: None,
) -> Pretrained:
    """A forecaster trained on the training part of a corpus, with the weights of its best check.

    The ``task`` has the corpus for a data set, and the longest past for a look-back. Of the
    ``budget``, ``steps`` are those between two checks and ``epochs`` the checks, of which none is
    left out (``patience`` is not asked); ``batch`` counts rows, and so does ``valid_windows``.
    Half of the validation rows are later than the training part, half are of series held out.

    With a ``checkpoint``, training goes on from there if the file exists, to the digits of
    training without a break, and writes it after each check. ``on_check`` is told "epoch",
    "epochs", "step", "train_loss", "valid_loss", "learning_rate", "rows_per_second", "seconds".

    Raises:
        ValueError: a budget or a task that cannot be kept, a corpus without a row long enough, or
            a checkpoint of another pre-training.
        DivergedError: a loss that is not finite.
        ContractError: patches that break the contract, in a step or on any validation row.
    """
    between = _between(task, budget)
    total_steps = between * budget.epochs
    torch.manual_seed(seed)
    model = QuantileForecaster(
        method,
        architecture,
        look_back=task.look_back,
        patches=task.patches,
        horizon=task.horizon,
        hyperparameters=hyperparameters,
    ).to(device)
    groups = model.parameter_groups(budget.learning_rate)
    rates = [group["lr"] for group in groups]
    optimiser = make_optimiser(groups, budget, torch.device(device))
    drawing = torch.Generator(device).manual_seed(seed)
    sampling = np.random.default_rng(seed)
    sampler = data.Sampler(pools)
    valid = _validation(pools, budget, task, device)
    model.patcher.prepare([_to_prepare(sampler, model, seed, device)])
    state = _Progress()
    settings = {
        "method": method.__name__,
        "hyperparameters": dict(hyperparameters or {}),
        "seed": seed,
        "task": asdict(task),
        "budget": asdict(budget),
        "architecture": asdict(architecture),
    }
    whole = _Checkpoint(settings, state, model, optimiser, drawing, sampling)
    if checkpoint is not None and checkpoint.exists():
        whole.resume(checkpoint)

    began = time.perf_counter()
    total = torch.zeros((), dtype=torch.float64, device=device)
    model.train()
    while state.step < total_steps:
        # Of every step, since each has a length and a patcher of its own, and validation few.
        with watching(model, "in pre-training"):
            for step in range(state.step, state.step + between):
                model.patcher.progress.fill_(step / total_steps)
                set_rates(optimiser, rates, rate := rate_factor(step, budget, total_steps))
                rows = _batch(sampler, budget, task, sampling, device)
                total += _step(model, rows, optimiser, groups, budget.clip, drawing)
        state.step += between
        with watching(model, "on the validation rows"):
            errors = _by_rule(model, valid)
        rule = min(errors, key=errors.__getitem__)
        model.patcher.evaluation_rule = rule
        took, began = time.perf_counter() - began, time.perf_counter()
        state.seconds += took
        told = {
            "epoch": state.step // between,
            "epochs": budget.epochs,
            "step": state.step,
            "train_loss": float(total) / between,
            "valid_loss": errors[rule],
            "learning_rate": rates[0] * rate,
            "rows_per_second": between * budget.batch / took,
            "seconds": state.seconds,
        }
        state.curves.append(told)
        if not math.isfinite(told["train_loss"] + told["valid_loss"]):
            epoch = int(told["epoch"])
            raise DivergedError(Fitted(state.best, epoch, state.step, state.seconds, state.curves))
        if errors[rule] < state.best:
            state.best, state.rule = errors[rule], rule
            state.kept = {name: value.clone() for name, value in model.state_dict().items()}
        on_check(told)
        total.zero_()
        model.train()
        if checkpoint is not None:
            whole.save(checkpoint)
    model.load_state_dict(state.kept)
    assert state.rule is not None
    return Pretrained(model.eval(), state.best, state.rule, state.curves, state.seconds)


def _between(task: Task, budget: Budget) -> int:
    """Steps between two checks, of a budget and a task that can be kept."""
    if budget.steps is None:
        raise ValueError("steps are missing; pre-training needs those between two checks")
    if budget.compile or budget.precision != "float32":
        raise ValueError("pre-training is in float32 and not compiled; its budget says otherwise")
    if task.look_back > data.ROW_PAST or task.horizon > data.ROW_HORIZON:
        raise ValueError(
            f"{task}: rows of a corpus have at most {data.ROW_PAST} steps of past and"
            f" {data.ROW_HORIZON} of future"
        )
    return budget.steps


class Drawn(NamedTuple):
    """Rows of a corpus of one length, on the device: ``scored`` says which steps of the future."""

    past: Float[Tensor, "row time"]
    future: Float[Tensor, "row step"]
    scored: Bool[Tensor, "row step"]
    spacing: Float[Tensor, " row"]


def _step(
    model: QuantileForecaster,
    rows: Drawn,
    optimiser: torch.optim.Optimizer,
    groups: list[dict[str, Any]],
    clip: float,
    drawing: torch.Generator,
) -> Tensor:
    """The forecast loss before the step."""
    ids = torch.arange(len(rows.past), device=rows.past.device)
    forecast = model(rows.past, ids, drawing, rows.spacing)
    loss, beside = model.loss(forecast, rows.future, rows.scored)
    (loss if beside is None else loss + beside).backward()
    for group in groups:
        nn.utils.clip_grad_norm_(group["params"], clip, foreach=True)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return loss.detach()


def _batch(
    sampler: data.Sampler,
    budget: Budget,
    task: Task,
    generator: np.random.Generator,
    device: str,
) -> Drawn:
    """The rows of a step."""
    length = _length(task, generator)
    return _rows(sampler.draw(budget.batch, generator, length), length, task, device)


def _length(task: Task, generator: np.random.Generator) -> int:
    """Of the pasts of a step; half of the steps have any number of patches, half are short.

    Those have the logarithm of their length from an even distribution, as a yearly series of a
    few decades needs what a long hourly one does not teach. From two patches on they are whole.
    """
    size = task.look_back // task.patches
    if generator.random() < 0.5:
        return size * int(generator.integers(2, task.patches + 1))
    length = int(np.exp(generator.uniform(np.log(SHORTEST), np.log(task.look_back))))
    return length if length < 2 * size else length // size * size


def _rows(sample: data.Sample, length: int, task: Task, device: str) -> Drawn:
    """Scored no further ahead than the past reaches back: further on its units say little."""
    ahead = slice(task.horizon)
    near = sample.scored[:, ahead] & (np.arange(task.horizon) < length)
    parts = (sample.past[:, -length:], sample.future[:, ahead], near, sample.spacing)
    return Drawn(*(torch.from_numpy(part.copy()).to(device) for part in parts))


def _to_prepare(
    sampler: data.Sampler, model: QuantileForecaster, seed: int, device: str
) -> Float[Tensor, "row time"]:
    """Normalised full pasts of one batch, for patchers that look at data before they start."""
    sample = sampler.draw(512, np.random.default_rng([seed, 1]), model.task.look_back)
    return standardised(_rows(sample, model.task.look_back, model.task, device).past)[0]


def _validation(
    pools: Sequence[data.Pool], budget: Budget, task: Task, device: str
) -> list[Drawn]:
    """Rows of the same numbers for every forecaster, at four lengths."""
    parts: list[data.Part] = ["late", "held_out"]
    found = []
    for number, part in enumerate(parts):
        try:
            sampler = data.Sampler(pools, part)
        except ValueError:
            continue  # a corpus of few series holds none out
        for length in (task.look_back // part for part in (16, 4, 2, 1)):
            generator = np.random.default_rng([number, length])
            count = (budget.valid_windows or VALID_ROWS) // 8 or 1
            found.append(_rows(sampler.draw(count, generator, length), length, task, device))
    if not found:
        raise ValueError("no row of the corpus is left for validation")
    return found


@torch.no_grad()
def _by_rule(model: QuantileForecaster, valid: Sequence[Drawn]) -> dict[Rule, float]:
    """The validation loss by each evaluation rule that is open."""
    model.eval()
    losses: dict[Rule, float] = {}
    for rule in model.patcher.open_rules:
        model.patcher.evaluation_rule = rule
        rows = []
        for past, future, scored, spacing in valid:
            ids = torch.arange(len(past), device=past.device)
            forecast = model(past, ids, spacing=spacing)
            rows.append(pinball(forecast.values[None], forecast.aim(future), scored)[0])
        losses[rule] = float(torch.cat(rows).double().mean())
    return losses


@dataclass(frozen=True)
class _Checkpoint:
    """All that changes while a forecaster is pre-trained, and what it is the checkpoint of."""

    settings: dict[str, Any]
    state: _Progress
    model: QuantileForecaster
    optimiser: torch.optim.Optimizer
    drawing: torch.Generator
    sampling: np.random.Generator

    def save(self, path: Path) -> None:
        content = {
            "settings": self.settings,
            "progress": vars(self.state),
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "drawing": self.drawing.get_state(),
            "everywhere": torch.get_rng_state(),
            "sampling": self.sampling.bit_generator.state,
        }
        written = io.BytesIO()
        torch.save(content, written)
        write_bytes(path, written.getvalue())

    def resume(self, path: Path) -> None:
        try:
            content = torch.load(path, weights_only=True)
            then = content["settings"]
        except Exception as error:
            raise ValueError(f"{path} is damaged, or no checkpoint of a pre-training") from error
        for name, value in self.settings.items():
            if then.get(name) != value:
                raise ValueError(
                    f"{path} is the checkpoint of another pre-training: its {name} is"
                    f" {then.get(name)!r}, not {value!r}"
                )
        vars(self.state).update(content["progress"])
        self.model.load_state_dict(content["model"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.drawing.set_state(content["drawing"])
        torch.set_rng_state(content["everywhere"])
        self.sampling.bit_generator.state = content["sampling"]
