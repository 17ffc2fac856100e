"""The shared forecaster: gradients where they belong, and every row on its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from branches import with_branches
from torch import Tensor

from harness.core.task import Architecture, Task
from harness.model.forecaster import PatchForecaster, training_loss
from harness.model.patcher import Patcher, Patches, Rows, from_marks, from_scores
from methods.hnet import HNet
from methods.random_step import RandomStep
from methods.straight_through import StraightThrough
from methods.uniform import Uniform

TASK = Task("x", 96, 24, 12, season=24)
SMALL = Architecture(layers=1, dropout=0.0)


class Sampler(Patcher):
    """A policy gradient in miniature: G random plans a row, and a log-probability."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.logit = torch.nn.Parameter(torch.zeros(task.look_back - 1))

    @property
    def draws(self) -> int:
        return 3

    def forward(self, rows: Rows) -> Patches:
        draws = self.draws if self.training else 1
        row = len(rows.values)
        noise = torch.rand(draws * row, self.task.look_back - 1, generator=rows.generator)
        score = (self.logit.detach() + noise) if self.training else self.logit.expand(row, -1)
        log_prob = self.logit.log_softmax(0)[:2].sum().expand(draws * row)
        return from_scores(score.detach(), self.task.patches, log_prob=log_prob)

    def learn(self, patches: Patches, row_loss: Tensor) -> Tensor:
        assert patches.log_prob is not None
        return (patches.log_prob.view_as(row_loss) * row_loss).mean()


def ids(batch: int, channels: int, first: int = 0) -> Tensor:
    return (first + torch.arange(batch))[:, None] * channels + torch.arange(channels)


@pytest.mark.parametrize("method", [Uniform, RandomStep, StraightThrough])
@pytest.mark.parametrize("head", ["decoding", "query", "flatten"])
def test_a_forecast_does_not_depend_on_batch_mates(
    method: type[Patcher], head: Literal["decoding", "query", "flatten"]
) -> None:
    """A window forecast alone and in a batch comes out the same, random boundaries included."""
    torch.manual_seed(0)
    model = PatchForecaster(TASK, Architecture(layers=1, head=head), method(TASK)).eval()
    past = torch.randn(5, 2, 96)
    with torch.inference_mode():
        together = model(past, ids(5, 2)).future
        alone = torch.cat([model(past[i : i + 1], ids(1, 2, i)).future for i in range(5)], dim=1)
    assert (together - alone).abs().max() < 1e-5


def test_random_boundaries_of_a_row_are_the_same_in_every_batch() -> None:
    """In evaluation the draw is a function of the row's id: bit-equal plans, alone or together."""
    patcher = RandomStep(TASK)
    together = patcher(Rows(torch.zeros(6, 96), torch.arange(6)))
    alone = [patcher(Rows(torch.zeros(1, 96), torch.tensor([i]))).start for i in range(6)]
    assert torch.equal(together.start, torch.cat(alone))
    assert len(together.start.unique(dim=0)) == 6


def test_random_boundaries_are_uniform_over_the_steps() -> None:
    """Every inner step starts a patch equally often: counts within five standard errors."""
    plans = RandomStep(TASK)(Rows(torch.zeros(20_000, 96), torch.arange(20_000)))
    share = torch.zeros(96).index_add_(0, plans.start.flatten(), torch.ones(20_000 * 12)) / 20_000
    expected = 11 / 95
    error = (expected * (1 - expected) / 20_000) ** 0.5
    assert (share[1:] - expected).abs().max() < 5 * error


def test_straight_through_sends_gradient_to_its_scores_and_cuts_where_it_says() -> None:
    """Edges equal the integer boundaries in value, and the forecast loss reaches the scores."""
    torch.manual_seed(0)
    model = PatchForecaster(TASK, SMALL, StraightThrough(TASK))
    forecast = model(torch.randn(3, 1, 96), ids(3, 1), generator=torch.Generator())
    edges, start = forecast.patches.edges, forecast.patches.start
    assert torch.equal(edges[:, :-1].detach(), start.float())
    forecast.future.square().mean().backward()
    for name in ("patcher.score.weight", "stem.near.weight"):
        gradient = model.get_parameter(name).grad
        assert gradient is not None
        assert gradient.any()


def test_forecast_loss_and_policy_loss_do_not_mix() -> None:
    """Forecast loss moves all but the sampling patcher, and the policy loss that patcher alone."""
    torch.manual_seed(0)
    model = PatchForecaster(TASK, SMALL, Sampler(TASK)).train()
    future = torch.randn(4, 2, 24)

    def reached(which: str) -> set[str]:
        model.zero_grad(set_to_none=True)
        forecast = model(
            torch.randn(4, 2, 96), ids(4, 2), generator=torch.Generator().manual_seed(0)
        )
        assert forecast.rollouts is not None
        assert forecast.rollouts.shape == (3, 4 * 2, 24)
        loss, policy = training_loss(model, forecast, future)
        assert policy is not None
        (loss if which == "forecast" else policy).backward()
        return {name for name, value in model.named_parameters() if value.grad is not None}

    everything = {name for name, _ in model.named_parameters()}
    assert reached("forecast") == everything - {"patcher.logit"}
    assert reached("policy") == {"patcher.logit"}
    gradient = model.get_parameter("patcher.logit").grad
    assert gradient is not None
    assert gradient.any()


def test_parts_and_parameter_groups_hold_every_parameter_once() -> None:
    """Nothing is counted twice, nothing is left untrained."""
    model = PatchForecaster(TASK, SMALL, StraightThrough(TASK))
    all_of_them = sorted(id(parameter) for parameter in model.parameters())
    grouped = [id(p) for group in model.parameter_groups(1e-3) for p in group["params"]]
    counted = [id(p) for part in model.parts().values() for p in part.parameters()]
    assert sorted(grouped) == all_of_them
    assert sorted(counted) == all_of_them


def test_the_backbone_learns_at_its_own_pace() -> None:
    """Its learning rate is ``pace`` times that of embedder and head."""
    model = PatchForecaster(TASK, Architecture(pace=0.25), Uniform(TASK))
    rates = {id(p): group["lr"] for group in model.parameter_groups(4e-3) for p in group["params"]}
    assert {rates[id(value)] for value in model.backbone.parameters()} == {1e-3}
    assert {rates[id(value)] for value in model.head.parameters()} == {4e-3}


def test_equal_scores_cut_like_a_frozen_grid() -> None:
    """Straight-through with its scores frozen to an equal grid is `uniform`, digit for digit."""

    class Frozen(StraightThrough):
        def forward(self, rows: Rows) -> Patches:
            comb = torch.zeros(len(rows.values), 95)
            comb[:, 7::8] = 1.0
            return from_scores(comb, 12)

    futures = []
    for patcher in (Uniform(TASK), Frozen(TASK)):
        torch.manual_seed(1)
        model = PatchForecaster(TASK, SMALL, patcher).eval()
        if model.stem is not None:
            torch.manual_seed(1)
            bare = PatchForecaster(TASK, SMALL, Uniform(TASK)).state_dict()
            model.load_state_dict(bare, strict=False)
        past = torch.randn(3, 1, 96, generator=torch.Generator().manual_seed(0))
        futures.append(model(past, ids(3, 1)).future)
    assert torch.equal(*futures)


# --- empty slots and remembered boundaries -------------------------------------------------------


@pytest.mark.parametrize("embedder", ["area", "mean"])
@pytest.mark.parametrize("head", ["decoding", "query"])
def test_two_more_empty_slots_change_no_forecast(
    embedder: Literal["area", "mean"], head: Literal["decoding", "query"]
) -> None:
    """What attends to the tokens of a row does not see the slots that the row leaves empty."""
    torch.manual_seed(0)
    architecture = Architecture(layers=2, dropout=0.0, embedder=embedder, head=head)
    model = with_branches(PatchForecaster(TASK, architecture, HNet(TASK))).eval()
    past = torch.randn(3, 2, 96)
    length = torch.tensor([[20, 30, 46, 0, 0], [96, 0, 0, 0, 0]]).repeat(3, 1)
    with torch.inference_mode():
        few, more = (
            model.predict(past, Patches(slots.cumsum(1) - slots, slots, slots > 0))
            for slots in (length[:, :3], length)
        )
    assert torch.allclose(few, more, atol=1e-6)


class Steep(Patcher):
    """Starts a patch at each steep step, up to its slots: a few in some rows, many in others."""

    strict = False
    fixed = True

    def forward(self, rows: Rows) -> Patches:
        change = rows.values.diff(dim=1).abs()
        return from_marks(change > 2.5, self.slots, change / (1 + change))


def test_remembered_boundaries_are_those_of_their_own_window() -> None:
    """Looked up in any order each row has the boundaries, and the empty slots, it has when cut."""
    torch.manual_seed(0)
    model, past = PatchForecaster(TASK, SMALL, Steep(TASK)).eval(), torch.randn(7, 2, 96)
    numbers = ids(7, 2, first=3)
    cut = model.cut(past, numbers)
    assert len(cut.start.unique(dim=0)) == 14
    assert not cut.valid.all(dim=1).all()
    mixed = torch.tensor([4, 0, 6, 2, 5, 1, 3])
    model.remember((past[part], numbers[part], None) for part in mixed.split(3))
    for order in (torch.arange(7), torch.tensor([6, 2, 2, 0])):
        rows = numbers[order].flatten() - numbers[0, 0]
        # Values no longer matter: only the number of a row says which boundaries are its own.
        found, own = model.cut(torch.zeros(len(order), 2, 96), numbers[order]), cut.rows(rows)
        for name in ("start", "length", "valid"):
            assert torch.equal(getattr(found, name), getattr(own, name)), name
    model.forget()
    assert torch.equal(model.cut(past, numbers).start, cut.start)


def test_remembered_boundaries_may_lie_beyond_what_16_bits_hold() -> None:
    """At step 32,768 and later ones."""
    task = replace(TASK, look_back=33_000, patches=200)
    model = PatchForecaster(task, SMALL, Uniform(task)).eval()
    past, numbers = torch.randn(1, 1, 33_000), ids(1, 1)
    cut = model.cut(past, numbers)
    assert cut.start.max() > 2**15
    model.remember([(past, numbers, None)])
    assert torch.equal(model.cut(past, numbers).start, cut.start)


def test_forecasts_are_in_the_units_of_their_look_back() -> None:
    """A look-back moved and stretched is forecast moved and stretched, channel by channel."""
    torch.manual_seed(0)
    model = PatchForecaster(TASK, SMALL, Uniform(TASK)).eval()
    past = torch.randn(2, 2, 96)
    move, stretch = torch.tensor([[5.0], [-2.0]]), torch.tensor([[3.0], [10.0]])
    with torch.inference_mode():
        plain, other = (model(each, ids(2, 2)).future for each in (past, past * stretch + move))
    assert torch.allclose(other, plain * stretch + move, atol=1e-3)
