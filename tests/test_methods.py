"""What is peculiar to each method; what all share is in test_checks.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.core.task import Architecture, Task
from harness.model.patcher import Rows
from methods.dlinear import DLinear
from methods.local_difference import LocalDifference
from methods.oracle import Oracle
from methods.patchtst import PatchTST
from methods.random_frozen import RandomFrozen
from methods.random_step import RandomStep
from methods.repeat_last import RepeatLast
from methods.seasonal_naive import SeasonalNaive
from methods.straight_through import StraightThrough
from methods.theta import Theta
from methods.uniform import Uniform

TASK = Task("x", 48, 12, 6, season=12)
SMALL = Architecture(width=8, layers=2, heads=2, feedforward=16, dropout=0.0)
IDS = torch.arange(2)[:, None]


def rows(values: torch.Tensor, **more: object) -> Rows:
    return Rows(values, torch.arange(len(values)), **more)  # type: ignore[arg-type]  # fields of several types


def test_uniform_patches_are_equal_or_differ_by_one_step() -> None:
    """Where K divides the look-back all are equal; elsewhere no two differ by more than one."""
    assert Uniform(TASK)(rows(torch.zeros(1, 48))).length[0].tolist() == [8] * 6
    uneven = Uniform(Task("x", 50, 12, 6))(rows(torch.zeros(1, 50))).length[0]
    assert uneven.sum() == 50
    assert uneven.max() - uneven.min() == 1


@pytest.mark.parametrize(("look_back", "patches"), [(10, 4), (96, 7), (13, 5)])
def test_the_last_uniform_patch_is_a_longest_one(look_back: int, patches: int) -> None:
    """Where K does not divide the look-back, it is the first patch that is short."""
    length = Uniform(Task("x", look_back, 4, patches))(rows(torch.zeros(1, look_back))).length[0]
    assert length[-1] == length.max() == length[0] + 1


def test_random_step_draws_anew_in_training() -> None:
    """Two training steps cut the same row at different places; evaluation always at the same."""
    patcher, generator = RandomStep(TASK), torch.Generator().manual_seed(0)
    first, second = (patcher(rows(torch.zeros(4, 48), generator=generator)) for _ in range(2))
    assert not torch.equal(first.start, second.start)
    again = [patcher(rows(torch.zeros(4, 48))).start for _ in range(2)]
    assert torch.equal(*again)


def test_random_frozen_keeps_one_grid_a_run() -> None:
    """All rows and steps share the grid of the constructor; it travels with the weights."""
    torch.manual_seed(0)
    first = RandomFrozen(TASK)
    second = RandomFrozen(TASK)
    plans = first(rows(torch.randn(5, 48))).start
    assert (plans == plans[0]).all()
    assert not torch.equal(first.start, second.start)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.start, second.start)


def test_local_difference_cuts_at_the_jumps() -> None:
    """Five steps in a staircase are the five inner boundaries."""
    stairs = torch.zeros(1, 48)
    jumps = [5, 9, 20, 33, 47]
    for jump in jumps:
        stairs[:, jump:] += 1.0
    assert LocalDifference(TASK)(rows(stairs)).start[0].tolist() == [0, *jumps]


@pytest.mark.parametrize(
    ("true", "expected"),
    [
        ([3, 5, 20, 30, 41], [0, 3, 5, 20, 30, 41]),
        ([3, 5, 7, 20, 30, 41, 44], [0, 7, 20, 30, 41, 44]),
        ([], [0, 8, 16, 24, 32, 40]),
        ([8, 16, 25, 40], [0, 8, 16, 25, 32, 40]),
    ],
)
def test_oracle_takes_the_true_boundaries_and_fills_up_from_the_grid(
    true: list[int], expected: list[int]
) -> None:
    """All of them, the latest if too many, the far grid points if too few, the grid if none."""
    truth = torch.zeros(1, 48, dtype=torch.bool)
    truth[0, true] = True
    assert Oracle(TASK)(rows(torch.zeros(1, 48), truth=truth)).start[0].tolist() == expected


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_straight_through_edges_move_with_their_scores(temperature: float) -> None:
    """Raising the score just after a boundary pulls its edge right, by the soft-argmax's slope."""
    torch.manual_seed(0)
    patcher = StraightThrough(TASK, reach=1, temperature=temperature)
    features = torch.randn(1, 48, 8)
    scores = patcher.score(features)
    scores.retain_grad()

    class Known(nn.Module):
        def forward(self, features: Tensor) -> Tensor:
            return scores

    patcher.register_module("score", Known())
    patches = patcher(rows(torch.zeros(1, 48), features=features))
    edge = int(patches.start[0, 3])
    weight = (scores.detach()[0, edge - 2 : edge + 1] / temperature).softmax(0)
    # d soft / d score_j = weight_j (offset_j - soft) / temperature, with offsets -1, 0, 1.
    offsets = torch.tensor([-1.0, 0.0, 1.0])
    expected = weight * (offsets - (weight * offsets).sum()) / temperature
    patches.edges[0, 3].backward()
    assert torch.allclose(scores.grad[0, edge - 2 : edge + 1], expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # sktime's own, of its defaults and pandas
@pytest.mark.parametrize("season", [1, 5, 12, 40])
def test_seasonal_naive_equals_sktimes(season: int) -> None:
    """The same forecast as sktime's NaiveForecaster, row for row."""
    from sktime.forecasting.naive import NaiveForecaster

    past = torch.randn(2, 1, 48)
    got = SeasonalNaive(Task("x", 48, 12, 6, season=season), SMALL)(past, IDS).future[0]
    for window in range(2):
        model = NaiveForecaster(strategy="last", sp=season)
        expected = model.fit(past[window, 0].numpy(), fh=np.arange(1, 13)).predict().ravel()
        assert got[window, 0].numpy() == pytest.approx(expected)


def test_seasonal_naive_falls_back_where_no_season_fits() -> None:
    """A season longer than the look-back repeats the last value."""
    past = torch.randn(2, 1, 48)
    long_season = Task("x", 48, 12, 6, season=100)
    expected = RepeatLast(long_season, SMALL)(past, IDS).future
    assert torch.equal(SeasonalNaive(long_season, SMALL)(past, IDS).future, expected)


def test_theta_continues_a_trend_and_a_season() -> None:
    """A line goes on upwards, and a season added to it comes back."""
    clock = torch.arange(60.0)
    season = 3 * torch.sin(2 * torch.pi * clock / 12)
    series = 0.1 * clock + season
    past, future = series[None, None, :48].expand(2, 1, -1), series[48:]
    got = Theta(TASK, SMALL)(past, IDS).future[0, 0, 0]
    assert (got - future).abs().max() < 0.6
    assert got[11] > got[0] - season[48] + season[59] + 0.3


def test_theta_takes_a_flat_look_back() -> None:
    """A constant row gives the constant, without a warning."""
    got = Theta(Task("x", 48, 12, 6), SMALL)(torch.full((2, 1, 48), 2.0), IDS).future
    assert torch.allclose(got, torch.tensor(2.0), atol=1e-4)


def test_dlinear_starts_as_the_mean_of_the_look_back() -> None:
    """Before training, trend plus rest with equal weights is the mean, up to its biases."""
    model = DLinear(TASK, SMALL)
    for layer in (model.trend, model.rest):
        nn.init.zeros_(layer.bias)
    past = torch.randn(2, 3, 48)
    expected = past.mean(-1, keepdim=True).expand(-1, -1, 12)
    assert torch.allclose(model(past, IDS.expand(-1, 3)).future[0], expected, atol=1e-5)


def test_patchtst_cuts_overlapping_patches_over_a_padded_end() -> None:
    """42 and 64 tokens for look-backs of 336 and 512, as published."""
    for look_back, tokens in ((336, 42), (512, 64)):
        model = PatchTST(Task("x", look_back, 96, look_back // 16), SMALL)
        assert model.tokens == tokens
        assert model.head.in_features == tokens * 8


def test_patchtst_adds_up_attention_scores_over_layers() -> None:
    """The second layer's scores are its own plus the first one's."""
    torch.manual_seed(0)
    model = PatchTST(TASK, SMALL).eval()
    token = torch.randn(2, 5, 8)
    below = torch.randn(2, 2, 5, 5)
    layer = model.layers[1]
    assert torch.allclose(layer(token, below)[1], layer(token, None)[1] + below, atol=1e-5)


def test_references_keep_settings_of_their_own() -> None:
    """PatchTST's size and dropout go before the suite's; both learn at their own pace."""
    suite = Architecture(width=32, layers=2, dropout=0.2)
    task = Task("x", 96, 24, 12)
    given = PatchTST(task, suite, width=16, layers=3, dropout=0.5)
    assert given.embed.out_features == 16
    assert len(given.layers) == 3
    assert given.dropout.dropped == 128
    own = PatchTST(task, suite)
    assert (own.embed.out_features, len(own.layers)) == (32, 2)
    for model in (PatchTST(task, suite, pace=0.25), DLinear(task, suite, pace=0.25)):
        assert [group["lr"] for group in model.parameter_groups(4e-3)] == [1e-3]
