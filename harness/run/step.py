"""One training step: taken as it is written, or on a GPU recorded once and replayed.

A step of a small forecaster is some hundred small kernels, and a GPU waits for each of them to be
asked for. A CUDA graph asks for all at once. It cannot be trusted blindly: whatever Python decides
while it is recorded stays decided. So it is recorded anew after each validation, and each time the
first step is taken both ways and compared; a difference, or a step that cannot be recorded, falls
back to the step as written, and the row says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from harness.core.task import Budget
from harness.model.forecaster import Forecast, Forecaster, autocast, training_loss
from harness.run.windows import Windows

Index = Int[Tensor, " window"]


@dataclass(frozen=True)
class Plain:
    """The step as it is written.

    ``forward`` is the model, or what a compiler made of it. ``drawing`` is the source of what a
    patcher draws, ``micro_batch`` the most windows that pass through the model at a time.
    """

    forward: Callable[..., Forecast]
    model: Forecaster
    train: Windows
    groups: list[dict[str, Any]]
    optimiser: torch.optim.Optimizer
    budget: Budget
    drawing: torch.Generator
    micro_batch: int | None = None

    def __call__(self, index: Index) -> Float[Tensor, ""]:
        """Move the weights by the windows numbered ``index``; their mean loss."""
        total = torch.zeros((), device=index.device)
        for part in index.split(self.micro_batch or self.budget.batch):
            batch = self.train.batch(part)
            with autocast(index.device, self.budget.precision):
                forecast = self.forward(batch.past, batch.ids, batch.truth, self.drawing)
                loss, beside = training_loss(self.model, forecast, batch.future)
            share = len(part) / len(index)
            (share * (loss if beside is None else loss + beside)).backward()
            total += share * loss.detach()
        for group in self.groups:
            nn.utils.clip_grad_norm_(group["params"], self.budget.clip, foreach=True)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return total


Recorder = Callable[
    [Callable[[], Tensor], Sequence[torch.Generator]], tuple[Callable[[], object], Tensor]
]
"""Records what a function does on the device: gives what does it again, and where its result is.

The generators are those that the function draws from, beside the global one.
"""


def cuda_graph(
    act: Callable[[], Tensor], generators: Sequence[torch.Generator]
) -> tuple[Callable[[], object], Tensor]:
    """What replays ``act`` as a CUDA graph, and where its result then is. Nothing is done yet."""
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        result = act()
    return graph.replay, result


class Recorded:
    """The same step, recorded and replayed: whole batches only, and not the first ones.

    ``engine`` says how steps are taken: "graph", or "eager" with the reason.
    """

    WARM_UP = 3
    """Steps before the first recording, in which libraries and optimiser allocate their memory."""

    def __init__(self, plain: Plain, record: Recorder = cuda_graph) -> None:
        self.plain, self.record = plain, record
        self.engine = "graph"
        self._taken = 0
        self._index: Tensor | None = None
        self._replay: Callable[[], object] | None = None
        self._loss = torch.zeros(())

    def renew(self) -> None:
        """Forget the recording: something else may hold from here on, as after a validation."""
        self._replay = None

    def __call__(self, index: Index) -> Float[Tensor, ""]:
        self._taken += 1
        whole = len(index) == self.plain.budget.batch and self.plain.micro_batch is None
        if not whole or self._taken <= self.WARM_UP or self.engine != "graph":
            return self.plain(index)
        if self._replay is None:
            return self._both_ways(index)
        assert self._index is not None
        self._index.copy_(index)
        self._replay()
        return self._loss

    def _both_ways(self, index: Index) -> Float[Tensor, ""]:
        """Take the step as written, then once more from the same state by a new recording."""
        before = self._snapshot()
        written = self.plain(index).clone()
        after = self._snapshot()
        self._restore(before)
        self._index = index.clone()
        try:
            self._replay, self._loss = self.record(self._step, [self.plain.drawing])
            self._replay()
            same = self._same(after) and bool(torch.isclose(self._loss, written, rtol=1e-3))
            reason = "" if same else "the recorded step gives other numbers"
        except RuntimeError as error:  # whatever a step does that a graph cannot hold
            reason = f"a step cannot be recorded: {str(error).splitlines()[0]}"
        if reason:
            self.engine, self._replay = f"eager: {reason}", None
            self._restore(after)
            return written
        return self._loss

    def _step(self) -> Tensor:
        assert self._index is not None
        return self.plain(self._index)

    # What a step changes: weights, buffers, the optimiser's state, and the random generators.

    def _tensors(self) -> Iterable[Tensor]:
        yield from self.plain.model.parameters()
        yield from self.plain.model.buffers()
        for state in self.plain.optimiser.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))

    def _snapshot(self) -> tuple[list[Tensor], Tensor, Tensor]:
        tensors = [value.detach().clone() for value in self._tensors()]
        return tensors, self.plain.drawing.get_state(), _global_state(self.plain.train.values)

    def _restore(self, state: tuple[list[Tensor], Tensor, Tensor]) -> None:
        tensors, drawing, everywhere = state
        with torch.no_grad():
            for value, then in zip(self._tensors(), tensors, strict=True):
                value.copy_(then)
        self.plain.drawing.set_state(drawing)
        _set_global_state(self.plain.train.values, everywhere)

    def _same(self, state: tuple[list[Tensor], Tensor, Tensor]) -> bool:
        """Up to what atomic additions in another order change."""
        return all(
            torch.allclose(value, then, rtol=1e-3, atol=1e-5, equal_nan=True)
            for value, then in zip(self._tensors(), state[0], strict=True)
        )


def _global_state(beside: Tensor) -> Tensor:
    """The state of the global generator of the device that a tensor is on."""
    if beside.device.type == "cuda":
        return torch.cuda.get_rng_state(beside.device)
    return torch.get_rng_state()


def _set_global_state(beside: Tensor, state: Tensor) -> None:
    if beside.device.type == "cuda":
        torch.cuda.set_rng_state(state, beside.device)
    else:
        torch.set_rng_state(state)
