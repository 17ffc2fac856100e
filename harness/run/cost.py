"""What a model costs: parameters, floating-point operations, and tokens on training windows."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness.core.task import Budget
from harness.model.forecaster import Forecaster, PatchForecaster, training_loss
from harness.model.patcher import Patches
from harness.run.evaluate import testing
from harness.run.windows import Batch, Windows, evenly_spaced


@dataclass(frozen=True)
class Cost:
    """Parameters that are trained, by part, and floating-point operations of matrix products.

    ``flops`` are of the forward pass of one window with all its channels, ``flops_step`` of one
    training step with a whole batch, forward and backward, with every draw of boundaries.
    """

    parameters: dict[str, int]
    flops: int
    flops_step: int

    def fields(self) -> dict[str, Any]:
        """What a record says of it, by the names of its fields."""
        return {
            "parameters": self.parameters["all"],
            "parameters_patcher": self.parameters.get("patcher", 0),
            "parameters_backbone": self.parameters["backbone"],
            "parameters_head": self.parameters.get("head", 0),
            "flops": self.flops,
            "flops_step": self.flops_step,
        }


def cost(model: Forecaster, train: Windows, budget: Budget) -> Cost:
    """Count on a copy of the model, so that neither weights nor random state are touched."""
    parts = {name: _count(part) for name, part in model.parts().items()}
    model = copy.deepcopy(model)
    sample = train.batch(torch.arange(min(2, len(train)), device=train.values.device))
    generator = torch.Generator(sample.past.device).manual_seed(0)
    with torch.random.fork_rng(devices=[]), model.watched("on training windows"):
        model.eval()
        with torch.no_grad():
            forward = _flops(model, sample, None)
        model.train()
        step = _flops(model, sample, generator) if _count(model) else 0
    windows = len(sample.past)
    return Cost(
        parameters={"all": _count(model), **parts},
        flops=forward // windows,
        flops_step=step * budget.batch // windows,
    )


def _flops(model: Forecaster, batch: Batch, generator: torch.Generator | None) -> int:
    # Attention as plain matrix products: the fused kernels of some devices are not counted.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        forecast = model(batch.past, batch.ids, batch.truth, generator)
        if generator is not None:
            loss, beside = training_loss(model, forecast, batch.future)
            (loss if beside is None else loss + beside).backward()
    return int(counter.get_total_flops())


def mean_tokens(
    model: Forecaster, windows: Windows, *, budget: Budget, at_once: int | None = None
) -> float | None:
    """Mean tokens a row over at most 512 windows, evenly spaced, cut as in a test.

    A method that learned on training windows how often to cut may cut other windows more or less.
    """
    device = windows.values.device
    used, rows = torch.zeros((), dtype=torch.long, device=device), 0
    with testing(model, device, budget, "on training windows"):
        for index in evenly_spaced(len(windows), 512, device).split(at_once or windows.at_once):
            batch = windows.batch(index)
            # Cheaper than a forecast, where a model can be asked for its patches alone.
            asked = model.cut if isinstance(model, PatchForecaster) else model.forward
            said = asked(batch.past.clone(), batch.ids, batch.truth)
            patches = said if isinstance(said, Patches) else said.patches
            if patches is None:
                return model.tokens
            used, rows = used + patches.valid.sum(), rows + len(patches.valid)
    return float(used) / rows


def _count(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters() if value.requires_grad)
