"""Quantiles from pasts of any length: one set of weights, and nothing of a row in another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_corpus import TINY

from harness.core.task import Task
from harness.model.patcher import Patcher, Patches, Rows, from_scores
from harness.model.quantiles import (
    LEVELS,
    Echo,
    QuantileForecaster,
    QuantileHead,
    pinball,
    standardised,
)
from methods.gated_mix import GatedMix
from methods.learned_grid import LearnedGrid
from methods.random_step import RandomStep
from methods.reinpatch import ReinPatch
from methods.straight_through import StraightThrough
from methods.uniform import Uniform

METHODS = [Uniform, RandomStep, StraightThrough, ReinPatch]


def made(method: type[Patcher] = Uniform) -> QuantileForecaster:
    torch.manual_seed(0)
    return QuantileForecaster(method, TINY).eval()


def noise(rows: int, steps: int) -> torch.Tensor:
    return torch.randn(rows, steps, generator=torch.Generator().manual_seed(steps))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("steps", "patches"), [(2, 2), (17, 2), (64, 4), (496, 31), (512, 32)])
def test_any_length_is_forecast_from(method: type[Patcher], steps: int, patches: int) -> None:
    """A patch for each sixteen steps, at least two; nine quantiles of 64 steps."""
    model = made(method)
    forecast = model(noise(3, steps), torch.arange(3))
    assert forecast.original.shape == (3, len(LEVELS), 64)
    assert forecast.patches.valid.sum(dim=1).tolist() == [patches] * 3
    assert forecast.original.isfinite().all()
    assert (forecast.original.diff(dim=1) >= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_patchers_of_all_lengths_share_what_they_learn(method: type[Patcher]) -> None:
    """A gradient from short pasts moves the cuts of long ones, and no weight is there twice."""
    model = made(method)
    for steps in (64, 256, 512):
        own = model.at(steps)
        for mine, shared in zip(own.parameters(), model.patcher.parameters(), strict=True):
            assert mine is shared
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == len(set(names))
    other = made(method)
    other.load_state_dict(model.state_dict())


def test_a_method_of_one_look_back_is_refused() -> None:
    """Widths of a learned grid belong to its patches."""
    with pytest.raises(ValueError, match=r"LearnedGrid has .* for one look-back only"):
        made(LearnedGrid)


def test_a_past_is_forecast_alike_whatever_is_beside_it() -> None:
    """Rows do not mix, and a scale and a level come out as they went in."""
    model, past = made(), noise(5, 128)
    whole = model(past, torch.arange(5)).original
    alone = model(past[3:4], torch.arange(3, 4)).original
    torch.testing.assert_close(alone[0], whole[3], rtol=1e-4, atol=1e-4)
    moved = model(100 + 20 * past, torch.arange(5)).original
    torch.testing.assert_close(moved, 100 + 20 * whole, rtol=1e-3, atol=1e-2)


def test_the_place_of_a_patch_counts_from_the_end() -> None:
    """The last patches of a short and of a long past have the same tokens."""
    model, tokens = made(), list[torch.Tensor]()
    model.embedder.register_forward_hook(lambda _, __, out: tokens.append(out))
    past = noise(1, 512)
    past = (past - past.mean()) / past.std(correction=0)
    tail = past[:, -256:]
    tail = (tail - tail.mean()) / tail.std(correction=0)
    past[:, -256:] = tail
    model(past, torch.arange(1))
    model(tail, torch.arange(1))
    torch.testing.assert_close(tokens[0][:, -16:], tokens[1], rtol=0, atol=5e-2)


def test_the_head_does_not_see_empty_slots() -> None:
    """What lies in a slot that does not count changes no forecast."""
    task = Task("any", 64, 32, 4)
    head, last = QuantileHead(task, TINY), torch.zeros(2, 1)
    for parameter in head.parameters():  # its layers start at zero
        torch.nn.init.normal_(parameter, std=0.3)
    token = torch.randn(2, 4, TINY.width)
    start = torch.tensor([[0, 16, 40, 64]]).expand(2, -1)
    length = torch.tensor([[16, 24, 24, 0]]).expand(2, -1)
    patches = Patches(start, length, length > 0)
    mask = patches.valid[:, None, None]
    other = token.clone()
    other[:, 3] = 1e3
    expected = head(token, mask, patches, last, 64)
    torch.testing.assert_close(head(other, mask, patches, last, 64), expected)
    assert not torch.allclose(head(other, None, patches, last, 64), expected)
    with pytest.raises(ValueError, match="a horizon of 40 steps is no multiple of 16"):
        QuantileHead(Task("any", 64, 40, 4), TINY)


@pytest.mark.parametrize("steps", [32, 48, 512])
def test_tokens_are_written_back_where_they_were_read(steps: int) -> None:
    """At the start, before anything is learned, patches of 16 steps come out as they went in."""
    model, past = made(), standardised(noise(3, steps))[0]
    moved, patches = model._at_the_end(past, model(past, torch.arange(3)).patches)
    back = model.head.time.written(model.embedder(moved, patches), patches)[:, -steps:]
    torch.testing.assert_close(back, past, rtol=0, atol=1e-5)


def test_unlikeness_is_that_of_its_definition() -> None:
    """The mean squared difference of the last steps to those a lag before, pair by pair."""
    past, echo = noise(2, 50), Echo(1)
    found = echo.unlikeness(past, torch.arange(1, 50))
    for number, window in enumerate(echo.windows):
        for lag in range(1, 50):
            first = max(lag, 50 - window)
            pairs = (past[:, first:] - past[:, first - lag : 50 - lag]).square().mean(1)
            torch.testing.assert_close(found[:, number, lag - 1], pairs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("steps", [2, 20, 64, 65, 66, 200])
def test_an_echo_repeats_what_came_a_lag_before(steps: int) -> None:
    """Over and over if the lag is shorter than the horizon."""
    past, weight = noise(2, steps), torch.rand(2, 3, steps - 1)
    expected = torch.zeros(2, 3, 64)
    for lag in range(1, steps):
        repeated = past[:, [steps - lag + step % lag for step in range(64)]]
        expected += weight[:, :, lag - 1, None] * repeated[:, None]
    torch.testing.assert_close(Echo(3).repeated(past, weight, 64), expected, rtol=1e-4, atol=1e-4)


def test_pinball_is_that_of_its_definition() -> None:
    """By numpy over levels and scored steps; at the median alone it is the absolute error."""
    generator = np.random.default_rng(0)
    values, aim = generator.normal(size=(2, 3, 9, 5)), generator.normal(size=(3, 5))
    scored = generator.random((3, 5)) < 0.7
    scored[:, 0] = True
    level = np.array(LEVELS)[:, None]
    error = aim[:, None] - values
    loss = np.where(error > 0, level * error, (level - 1) * error).mean(axis=2) * 2
    expected = [
        [row[keep].mean() for row, keep in zip(draw, scored, strict=True)] for draw in loss
    ]
    found = pinball(*map(torch.from_numpy, (values, aim, scored)))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_draws_of_the_rows_that_are_judged_only_are_forecast() -> None:
    """Half of them, each under its own draws, and the policy is told their losses."""
    torch.manual_seed(0)
    model = QuantileForecaster(ReinPatch, TINY, hyperparameters={"rollout_share": 0.5}).train()
    past, scored = noise(6, 128), torch.ones(6, 64, dtype=torch.bool)
    forecast = model(past, torch.arange(6), torch.Generator().manual_seed(0))
    judged, future = forecast.patches.judged, torch.randn(6, 64)
    assert judged is not None
    assert forecast.rollouts is not None
    assert forecast.rollouts.shape == (8, 3, 9, 64)
    torch.testing.assert_close(forecast.rollouts[0], forecast.values.detach()[judged])
    _, beside = model.loss(forecast, future, scored)
    aim = forecast.aim(future)[judged]
    row_loss = pinball(forecast.rollouts, aim, scored[judged])
    torch.testing.assert_close(beside, model.at(128).learn(forecast.patches, row_loss))


def test_draws_are_judged_and_the_first_one_is_learned_from() -> None:
    """A policy gradient sees the loss of each row under each draw; the forecaster the first."""
    model = made(ReinPatch).train()
    forecast = model(noise(6, 128), torch.arange(6), torch.Generator().manual_seed(0))
    assert forecast.rollouts is not None
    assert forecast.rollouts.shape == (8, 6, 9, 64)
    torch.testing.assert_close(forecast.rollouts[0], forecast.values.detach())
    assert not forecast.rollouts.requires_grad
    scored = torch.ones(6, 64, dtype=torch.bool)
    loss, beside = model.loss(forecast, torch.randn(6, 64), scored)
    assert beside is not None
    loss.backward(retain_graph=True)
    assert all(value.grad is None for value in model.patcher.parameters())
    beside.backward()
    assert any(value.grad is not None and value.grad.any() for value in model.patcher.parameters())


@pytest.mark.parametrize("steps", [24, 96, 512])
def test_what_a_method_remembers_of_its_cuts_is_of_these_rows(steps: int) -> None:
    """A method that keeps its choices for its loss is asked where it made them."""
    model = made(GatedMix).train()
    generator = torch.Generator().manual_seed(0)
    forecast = model(noise(6, steps), torch.arange(6), generator)
    scored = torch.ones(6, 64, dtype=torch.bool)
    _, beside = model.loss(forecast, torch.randn(6, 64), scored)
    assert beside is not None
    beside.backward()
    gate = model.patcher.get_submodule("gate")
    assert all(value.grad is not None for value in gate.parameters())


def test_cuts_of_a_longer_past_are_those_of_the_method() -> None:
    """What the forecaster shifts in time, it does not cut anew."""

    class Peaks(Patcher):
        def forward(self, rows: Rows) -> Patches:
            return from_scores(rows.values[:, 1:], self.task.patches)

    torch.manual_seed(0)
    model = QuantileForecaster(Peaks, TINY).eval()
    past = noise(2, 96)
    patches = model(past, torch.arange(2)).patches
    highest = past[:, 1:].topk(5, dim=1).indices.sort(dim=1).values + 1
    assert torch.equal(patches.start[:, 1:], highest)


def test_a_past_of_no_or_too_many_steps_is_refused() -> None:
    """With what can be forecast from."""
    with pytest.raises(ValueError, match="a past of 513 steps; 2 to 512 can be forecast from"):
        made().at(513)
