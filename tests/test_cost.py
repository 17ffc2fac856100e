"""Costs: operations as counted by hand, and a model that does not notice."""

from __future__ import annotations

import torch
from small_waves import BUDGET, SMALL, TASK, build, waves

from harness.run import windows
from harness.run.cost import cost
from methods.dlinear import DLinear
from methods.straight_through import StraightThrough


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
