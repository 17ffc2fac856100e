"""Plans from probabilities of a boundary: they add up, and patches are spread evenly over them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.model.patcher import from_chosen, from_inclusion, from_scores, inclusion, threshold


def noise(rows: int, steps: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    return scale * torch.randn(rows, steps, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
@pytest.mark.parametrize("count", [1, 5, 46])
def test_probabilities_add_up_and_keep_the_order_of_logits(scale: float, count: int) -> None:
    """Whatever was added to all logits of a row; and no gradient comes through the threshold."""
    logits = noise(8, 47, scale).requires_grad_()
    probability = inclusion(logits + 100 * torch.arange(8.0)[:, None], count)
    assert probability.sum(1).tolist() == pytest.approx([count] * 8, abs=2e-3)
    order = logits.argsort(dim=1)
    assert (probability.gather(1, order).diff(dim=1) >= 0).all()
    assert not threshold(logits, count).requires_grad


@given(
    steps=st.integers(1, 40),
    part=st.floats(0, 1),
    scale=st.sampled_from([0.0, 1.0, 100.0]),
    spare=st.integers(0, 3),
    seed=st.integers(0, 100),
)
def test_spread_patches_are_k_and_hold_a_step_each(
    steps: int, part: float, scale: float, spare: int, seed: int
) -> None:
    """Also where all probability lies on a few steps next to each other; other slots are empty."""
    patches = 1 + round(part * steps)
    plan = from_inclusion(
        inclusion(noise(4, steps, scale, seed), patches - 1), patches, slots=patches + spare
    )
    assert plan.start.shape == (4, patches + spare)
    assert (plan.length[:, :patches] >= 1).all()
    assert (plan.length.sum(1) == steps + 1).all()
    assert plan.valid.tolist() == [[True] * patches + [False] * spare] * 4
    assert (plan.start[:, patches:] == steps + 1).all()


def test_equal_probabilities_are_equal_patches() -> None:
    """But for the first one, which has no boundary before it: one step."""
    plan = from_inclusion(torch.full((1, 47), 5 / 47), 6)
    assert sorted(set(plan.length[0].tolist())) in ([4, 5, 9, 10], [5, 9, 10], [4, 9, 10])
    assert plan.length[0, 1:5].tolist() == pytest.approx([9.4] * 4, abs=0.6)


def test_sure_boundaries_are_taken_and_others_meet_half_way() -> None:
    """Steps of probability 1 start patches; of four steps that share one, the third does."""
    probability = torch.zeros(1, 20)
    probability[0, [2, 15]] = 1.0
    probability[0, 6:10] = 0.25
    assert from_inclusion(probability, 4).start[0].tolist() in ([0, 3, 8, 16], [0, 3, 9, 16])


def test_slots_beyond_k_are_left_empty() -> None:
    """By scores as by choice: they start at the end of the row and have no step."""
    plan = from_scores(torch.tensor([[0.0, 3.0, 1.0, 2.0]]), 3, slots=5)
    assert plan.start.tolist() == [[0, 2, 4, 5, 5]]
    assert plan.length.tolist() == [[2, 2, 1, 0, 0]]
    assert plan.valid.tolist() == [[True, True, True, False, False]]
    assert torch.equal(plan.start, from_chosen(torch.tensor([[3, 1]]), 5, slots=5).start)
