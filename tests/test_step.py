"""A recorded step is the step as written, or it is not used. A CPU records in these tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from small_waves import BUDGET, TASK, build, waves
from torch import Tensor

from harness.run import windows
from harness.run.step import Plain, Recorded, Recorder
from methods.random_step import RandomStep

STEPS = [8, 8, 8, 8, 8, 8, 5, 8]
"""Windows a step: more than the warm-up, and a last batch of an epoch that is smaller."""


def faithful(
    act: Callable[[], Tensor], generators: Sequence[torch.Generator]
) -> tuple[Callable[[], object], Tensor]:
    """Replays what was recorded, and does nothing before, as a CUDA graph."""
    result = torch.zeros(())
    return (lambda: result.copy_(act())), result


def twice(
    act: Callable[[], Tensor], generators: Sequence[torch.Generator]
) -> tuple[Callable[[], object], Tensor]:
    """Replays something else."""
    result = torch.zeros(())
    return (lambda: (act(), result.copy_(act()))), result


def refusing(
    act: Callable[[], Tensor], generators: Sequence[torch.Generator]
) -> tuple[Callable[[], object], Tensor]:
    """What torch raises for a step that waits for the device."""
    raise RuntimeError("operation not permitted when stream is capturing\nmore words")


def trained(
    record: Recorder | None, renew: Sequence[int] = ()
) -> tuple[str, list[Tensor], list[float]]:
    """How steps were taken; the weights after them, and their losses. Boundaries are drawn."""
    model = build(RandomStep).train()
    train, _ = windows.development(waves(), TASK)
    groups = model.parameter_groups(5e-3)
    optimiser = torch.optim.AdamW(groups)
    drawing = torch.Generator().manual_seed(1)
    torch.manual_seed(2)
    plain = Plain(model, model, train, groups, optimiser, BUDGET, drawing)
    step = plain if record is None else Recorded(plain, record)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(3)).split(8)
    losses = []
    for number, (index, size) in enumerate(zip(order, STEPS, strict=False)):
        if number in renew and isinstance(step, Recorded):
            step.renew()
        losses.append(float(step(index[:size])))
    engine = step.engine if isinstance(step, Recorded) else "eager"
    return engine, [value.detach() for value in model.parameters()], losses


def test_a_recorded_step_is_the_step_as_written() -> None:
    """To the last bit, with the odd last batch taken as written; recorded anew when asked to."""
    recorded: list[int] = []

    def counting(
        act: Callable[[], Tensor], generators: Sequence[torch.Generator]
    ) -> tuple[Callable[[], object], Tensor]:
        recorded.append(len(generators))
        return faithful(act, generators)

    _, weights, losses = trained(None)
    engine, again, same = trained(counting, renew=(5,))
    assert engine == "graph"
    assert same == losses
    assert all(map(torch.equal, again, weights))
    assert recorded == [1, 1]


def test_a_recording_that_does_something_else_is_not_used() -> None:
    """Training goes on as written, from the very step in which it was found out."""
    _, weights, losses = trained(None)
    engine, again, same = trained(twice)
    assert engine == "eager: the recorded step gives other numbers"
    assert same == losses
    assert all(map(torch.equal, again, weights))


def test_a_step_that_cannot_be_recorded_is_taken_as_written() -> None:
    """The reason is told in one line, and nothing is lost."""
    _, weights, losses = trained(None)
    engine, again, same = trained(refusing)
    assert engine == (
        "eager: a step cannot be recorded: operation not permitted when stream is capturing"
    )
    assert same == losses
    assert all(map(torch.equal, again, weights))


def test_a_step_in_parts_is_never_recorded() -> None:
    """It saves memory, which a recording would hold on to."""
    model = build(RandomStep).train()
    train, _ = windows.development(waves(), TASK)
    groups = model.parameter_groups(5e-3)
    plain = Plain(
        model, model, train, groups, torch.optim.AdamW(groups), BUDGET, torch.Generator(), 4
    )
    step = Recorded(plain, refusing)
    for first in range(6):
        step(torch.arange(8) + first)
    assert step.engine == "graph"
    assert replace(plain, micro_batch=None) != plain
