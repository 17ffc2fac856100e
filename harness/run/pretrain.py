"""Pre-training on a corpus: one function, with the same budget of rows for every patcher."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness import data
from harness.core.files import write_bytes
from harness.core.task import Architecture, Budget, Task
from harness.model.patcher import Patcher, Rule
from harness.model.quantiles import FURTHEST, QuantileForecaster, pinball
from harness.run.fit import rate_factor

SIZES = {
    "S": Architecture(width=64, layers=3, heads=4, feedforward=256, dropout=0.0),
    "M": Architecture(width=128, layers=4, heads=8, feedforward=512, dropout=0.0),
    "L": Architecture(width=256, layers=6, heads=8, feedforward=1024, dropout=0.0),
}
"""Of shared forecasters; 0.2, 0.9 and 5 million parameters."""


@dataclass(frozen=True)
class Diet:
    """What every forecaster is fed: ``steps`` of ``batch`` rows, at one look-back a step.

    Look-backs are multiples of the usual patch, from ``shortest`` to the longest, each as likely
    as any other. ``checks`` is how often during training the validation rows are forecast; the
    weights that do best on them are kept.
    """

    steps: int = 2000
    batch: int = 512
    learning_rate: float = 1e-3
    warmup: float = 0.05
    clip: float = 1.0
    shortest: int = 64
    checks: int = 10
    valid_rows: int = 2048

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "shortest", "checks", "valid_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; 1 or more is needed")
        if self.steps % self.checks:
            raise ValueError(
                f"{self.steps} steps cannot be divided into {self.checks} equal parts"
            )


@dataclass(frozen=True)
class Pretrained:
    """A forecaster with its least validation loss, the rule of it, and a line for each check."""

    model: QuantileForecaster
    best: float
    rule: Rule
    curves: list[dict[str, float]]


@dataclass
class _Progress:
    """How far pre-training is, and all that the next step needs."""

    step: int = 0
    best: float = math.inf
    rule: Rule | None = None
    curves: list[dict[str, float]] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)


def pretrain(
    method: type[Patcher],
    pools: Sequence[data.Pool],
    *,
    seed: int,
    diet: Diet = Diet(),
    architecture: Architecture = SIZES["S"],
    hyperparameters: dict[str, object] | None = None,
    device: str = "cpu",
    checkpoint: Path | None = None,
    on_check: Callable[[dict[str, float]], object] = lambda told: None,
) -> Pretrained:
    """A forecaster trained on the training part of a corpus, with the weights of its best check.

    Half of the validation rows are later than the training part, half are of series held out. With
    a ``checkpoint``, training goes on from there if the file exists, to the digits of training
    without a break, and writes it after each check.

    Raises:
        ValueError: a corpus without a row long enough, or a checkpoint of another pre-training.
        ArithmeticError: a loss that is not finite.
    """
    torch.manual_seed(seed)
    model = QuantileForecaster(method, architecture, hyperparameters=hyperparameters).to(device)
    groups = model.parameter_groups(diet.learning_rate)
    rates = [group["lr"] for group in groups]
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
    drawing = torch.Generator(device).manual_seed(seed)
    sampling = np.random.default_rng(seed)
    sampler = data.Sampler(pools)
    valid = _validation(pools, diet, model.task.look_back, device)
    model.patcher.prepare(part for part, _, _ in _prepared(sampler, model, seed, device))
    state = _Progress()
    settings = {
        "method": method.__name__,
        "hyperparameters": dict(hyperparameters or {}),
        "seed": seed,
        "diet": asdict(diet),
        "architecture": asdict(architecture),
    }
    whole = _Checkpoint(settings, state, model, optimiser, drawing, sampling)
    if checkpoint is not None and checkpoint.exists():
        whole.resume(checkpoint)

    began, every = time.perf_counter(), diet.steps // diet.checks
    total = torch.zeros((), dtype=torch.float64, device=device)
    model.train()
    while state.step < diet.steps:
        model.patcher.progress.fill_(state.step / diet.steps)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * rate_factor(state.step, Budget(warmup=diet.warmup), diet.steps)
        past, future, scored = _batch(sampler, diet, model.task, sampling, device)
        forecast = model(past, torch.arange(len(past), device=device), drawing)
        loss, beside = model.loss(forecast, future, scored)
        (loss if beside is None else loss + beside).backward()
        for group in groups:
            nn.utils.clip_grad_norm_(group["params"], diet.clip, foreach=True)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        total += loss.detach()
        state.step += 1
        if state.step % every:
            continue
        errors = _by_rule(model, valid)
        rule = min(errors, key=errors.__getitem__)
        model.patcher.evaluation_rule = rule
        told = {
            "step": float(state.step),
            "train_loss": float(total) / every,
            "valid_loss": errors[rule],
            "seconds": time.perf_counter() - began,
        }
        if not math.isfinite(told["train_loss"] + told["valid_loss"]):
            raise ArithmeticError(f"the loss was not finite within {state.step} steps")
        state.curves.append(told)
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
    return Pretrained(model.eval(), state.best, state.rule, state.curves)


Rows3 = tuple[Tensor, Tensor, Tensor]


def _batch(
    sampler: data.Sampler,
    diet: Diet,
    task: Task,
    generator: np.random.Generator,
    device: str,
) -> Rows3:
    """Past [row, time], future [row, step] and which steps of it are scored: all of one length."""
    size = task.look_back // task.patches
    length = size * int(generator.integers(-(-diet.shortest // size), task.patches + 1))
    sample = sampler.draw(diet.batch, generator, length)
    parts = (sample.past[:, -length:], sample.future, sample.scored)
    past, future, scored = (torch.from_numpy(part.copy()).to(device) for part in parts)
    return past, future, scored


def _prepared(
    sampler: data.Sampler, model: QuantileForecaster, seed: int, device: str
) -> list[Rows3]:
    """Normalised full pasts of one batch, for patchers that look at data before they start."""
    sample = sampler.draw(512, np.random.default_rng([seed, 1]), model.task.look_back)
    past = torch.from_numpy(sample.past).to(device)
    normal = (past - past.mean(1, keepdim=True)) / past.std(1, keepdim=True).clamp_min(1e-5)
    return [(normal, past, past)]


def _validation(
    pools: Sequence[data.Pool], diet: Diet, look_back: int, device: str
) -> list[Rows3]:
    """Rows of the same numbers for every forecaster, at a short, a middle and the full length."""
    parts: list[data.Part] = ["late", "held_out"]
    found = []
    for number, part in enumerate(parts):
        try:
            sampler = data.Sampler(pools, part)
        except ValueError:
            continue  # a corpus of few series holds none out
        for length in (look_back // 4, look_back // 2, look_back):
            generator = np.random.default_rng([number, length])
            sample = sampler.draw(diet.valid_rows // 6 or 1, generator, length)
            kept = (sample.past[:, -length:], sample.future, sample.scored)
            past, future, scored = (torch.from_numpy(one.copy()).to(device) for one in kept)
            found.append((past, future, scored))
    if not found:
        raise ValueError("no row of the corpus is left for validation")
    return found


@torch.no_grad()
def _by_rule(model: QuantileForecaster, valid: Sequence[Rows3]) -> dict[Rule, float]:
    """The validation loss by each evaluation rule that is open."""
    model.eval()
    losses: dict[Rule, float] = {}
    for rule in model.patcher.open_rules:
        model.patcher.evaluation_rule = rule
        rows = []
        for past, future, scored in valid:
            forecast = model(past, torch.arange(len(past), device=past.device))
            aim = ((future - forecast.mean) / forecast.scale).clamp(-FURTHEST, FURTHEST)
            rows.append(pinball(forecast.values[None], aim, scored)[0])
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
