"""Kairos: the mix of sizes, what a choice cuts, the bias that holds K, and what has a gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from harness.core.task import Architecture, Task
from harness.model.embedders import MeanEmbedder
from harness.model.patcher import Rows, Rule
from methods.kairos import Kairos, size_mix

TASK = Task("x", 96, 24, 12)  # parents of 16 steps, six of them


def rows(count: int = 16, *, training: bool = True) -> Rows:
    source = torch.Generator().manual_seed(0)
    values = torch.randn(count, 96, generator=source)
    return Rows(values, torch.arange(count), generator=source if training else None)


def scored(patcher: Kairos, score: Tensor) -> Kairos:
    """With these scores [parent, expert], whatever the row."""

    class Known(torch.nn.Module):
        def forward(self, parents: Tensor) -> Tensor:
            return score.expand(len(parents), -1, -1)

    patcher.register_module("route", Known())
    return patcher


def experts(*chosen: tuple[int, ...]) -> Tensor:
    """Scores of six parents, by the experts that each is to choose, the first one most."""
    score = torch.full((6, 5), -9.0)
    for parent, best in enumerate(chosen):
        for place, expert in enumerate(best):
            score[parent, expert] = 3.0 - place
    return score


# --- the mix of sizes ----------------------------------------------------------------------------


@pytest.mark.parametrize("patches", [7, 8, 12, 17, 23])
def test_the_mix_makes_k_patches_with_the_largest_entropy(patches: int) -> None:
    """As a general solver finds it."""
    counts = torch.tensor([6.0, 12.0, 24.0], dtype=torch.float64)
    mix = size_mix(counts, patches).double()
    assert float(mix.sum()) == pytest.approx(1, abs=1e-6)
    assert float(mix @ counts) == pytest.approx(patches, abs=1e-4)
    found = minimize(
        lambda share: float((share * torch.tensor(share).log().numpy()).sum()),
        [1 / 3] * 3,
        bounds=[(1e-9, 1)] * 3,
        constraints=[
            {"type": "eq", "fun": lambda share: share.sum() - 1},
            {"type": "eq", "fun": lambda share: share @ counts.numpy() - patches},
        ],
    )
    assert mix.tolist() == pytest.approx(found.x.tolist(), abs=2e-3)


def test_a_mix_that_cannot_be_is_the_nearest() -> None:
    """Fewer patches than parents, or more than quarters."""
    counts = torch.tensor([6.0, 12.0, 24.0], dtype=torch.float64)
    assert size_mix(counts, 1).tolist() == pytest.approx([1, 0, 0], abs=1e-6)
    assert size_mix(counts, 50).tolist() == pytest.approx([0, 0, 1], abs=1e-6)


# --- choices and cuts ----------------------------------------------------------------------------


def test_a_parent_is_cut_to_the_finest_size_among_its_experts() -> None:
    """Whole, halved or halved twice, whichever is best; experts of no size count nothing."""
    score = experts((0, 3, 4), (1, 0, 3), (0, 1, 4), (4, 3, 2), (3, 4, 0), (0, 3, 4))
    patches = scored(Kairos(TASK, active=3), score)(rows(1, training=False))
    starts = [0, 16, 24, 32, 40, 48, 52, 56, 60, 64, 80]
    assert patches.start[0, : len(starts)].tolist() == starts
    assert patches.valid.sum() == len(starts)


def test_with_one_expert_that_one_is_the_size() -> None:
    """The gate of the only one is 1, as it is shared out over those chosen."""
    score = experts((0, 2), (2, 0), (1,), (3,), (4,), (0,))
    expert, gate, size = scored(Kairos(TASK, active=1), score)._chosen(score[None])
    assert size.tolist() == [[0, 2, 1, 0, 0, 0]]
    assert torch.equal(gate, torch.ones(1, 6, 1))
    assert expert[0, 3] == 3


def test_of_too_many_patches_those_of_the_least_sure_parents_are_joined() -> None:
    """All quarters would be 24 of 15 slots; parents keep their starts and their halves."""
    score = experts(*[(2, 1, 0)] * 6)
    score[4, 2] = 6.0  # surest of its quarters
    patches = scored(Kairos(TASK), score)(rows(1, training=False))
    start = patches.start[0].tolist()
    assert len(start) == 15
    assert set(range(0, 96, 8)) <= set(start)
    assert {68, 76} <= set(start)


# --- the bias ------------------------------------------------------------------------------------


def test_preparation_makes_k_patches() -> None:
    """On average over the rows it saw, whatever the random router."""
    for seed in range(3):
        for active in (2, 3):
            torch.manual_seed(seed)
            patcher = Kairos(TASK, active=active)
            patcher.prepare([rows(512).values])
            size = patcher._chosen(patcher.route(patcher._whole_parents(rows(512).values)))[2]
            assert float((2.0**size).sum(1).mean()) == pytest.approx(12, abs=0.3)
            share = torch.stack([(size == one).float().mean() for one in range(3)])
            torch.testing.assert_close(share, patcher.target, atol=0.03, rtol=0)


def test_the_bias_moves_with_the_realised_shares() -> None:
    """Up by the rate for all that a size falls short of its target; experts of no size stay."""
    patcher = scored(Kairos(TASK, bias_rate=0.1), experts(*[(0, 3, 4)] * 6))
    patcher.train()
    patcher(rows())
    expected = 0.1 * (patcher.target - torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(patcher.bias, torch.cat([expected, torch.zeros(2)]))


@pytest.mark.parametrize("rule", ["best", "sample"])
def test_the_bias_rests_in_evaluation(rule: Rule) -> None:
    """Otherwise the forecast of a row would depend on the rows before it."""
    patcher = Kairos(TASK).eval()
    patcher(replace(rows(training=False), rule=rule))
    assert not patcher.bias.any()


def test_the_bias_follows_a_router_that_moves() -> None:
    """A router that comes to favour quarters is held near K, without a loss."""
    torch.manual_seed(0)
    patcher = Kairos(TASK, bias_rate=0.1)
    patcher.prepare([rows(512).values])
    patcher.train()
    with torch.no_grad():
        patcher.route.weight[2] += 1.0
    patches = [patcher(rows(512)) for _ in range(150)]
    assert patches[0].valid.sum(1).double().mean() > 12.5
    assert float(patches[-1].valid.sum(1).double().mean()) == pytest.approx(12, abs=0.5)
    assert patches[-1].loss is None


# --- what has a gradient -------------------------------------------------------------------------


def test_tokens_are_read_from_their_patches() -> None:
    """Stretches and gains are those of the patches in value, to the last digit that counts."""
    torch.manual_seed(0)
    patches = Kairos(TASK)(rows())
    assert patches.spans is not None
    assert patches.gain is not None
    torch.testing.assert_close(patches.spans[:, 0], patches.start.float())
    torch.testing.assert_close(patches.spans[:, 1], patches.end.float())
    torch.testing.assert_close(patches.gain, torch.ones_like(patches.gain))


def test_the_gradient_is_that_of_the_mean_of_the_stretches() -> None:
    """By hand, for the third quarter of a parent that chose the whole and quarters, and none."""
    score = experts((2, 0, 3), *[(0, 3, 4)] * 5).requires_grad_()
    patches = scored(Kairos(TASK, active=3), score)(rows(1))
    assert patches.start[0, 2] == 8
    gate = score[0, [2, 0, 3]].softmax(0)
    sized = gate[0] + gate[1]
    for got, value in (
        (patches.spans[0, 0, 2], (8 * gate[0] + 0 * gate[1]) / sized),
        (patches.spans[0, 1, 2], (12 * gate[0] + 16 * gate[1]) / sized),
        (patches.gain[0, 2], sized),
    ):
        [found] = torch.autograd.grad(got, score, retain_graph=True)
        [expected] = torch.autograd.grad(value, score, retain_graph=True)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
        assert expected.any()


def test_with_one_expert_there_is_nothing_to_learn_from() -> None:
    """As in the published code: a gate shared out over one is 1 whatever the score."""
    embedder = MeanEmbedder(TASK, Architecture(width=4))
    for active, learns in ((1, False), (2, True)):
        torch.manual_seed(0)
        patcher = Kairos(TASK, active=active)
        embedder(rows().values, patcher(rows())).square().sum().backward()
        assert patcher.route.weight.grad is not None
        assert (patcher.route.weight.grad.abs().max() > 1e-3) == learns


def test_experts_that_are_not_there_cannot_be_chosen() -> None:
    """Three sizes and the idle ones."""
    with pytest.raises(ValueError, match="active is 6; 1 to 5"):
        Kairos(TASK, active=6)
