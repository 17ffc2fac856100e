"""Heads: tokens written back in time, slots that count for nothing, and dropout."""

from __future__ import annotations

import pytest
import torch

from harness.core.task import Architecture, Task
from harness.model.backbones import Transformer
from harness.model.heads import DecodingHead, FlattenHead, QueryHead
from harness.model.patcher import Patches, from_scores

TASK = Task("x", 96, 24, 12, season=24)


def random_patches(rows: int, task: Task = TASK, seed: int = 0) -> Patches:
    generator = torch.Generator().manual_seed(seed)
    score = torch.rand(rows, task.look_back - 1, generator=generator)
    return from_scores(score, task.patches)


def test_what_a_token_says_of_its_patch_is_laid_between_its_edges() -> None:
    """Pieces of equal length from edge to edge, averaged over each step: worked out by hand."""
    head = DecodingHead(Task("x", 6, 1, 2), Architecture(points=2), 2)
    value = torch.tensor([[[1.0, 3.0], [5.0, 9.0]]])
    start, end = torch.tensor([[0.0, 5.0]]), torch.tensor([[5.0, 6.0]])
    # 1 up to 2.5 and 3 up to 5: the third step is half of each; the last step is half 5, half 9.
    by_hand = torch.tensor([1.0, 1.0, 2.0, 3.0, 3.0, 7.0])
    assert torch.allclose(head.in_time(value, start, end)[0], by_hand)


def test_a_long_row_keeps_its_digits() -> None:
    """Averages are differences of sums over the row: they are right where values are large."""
    task = Task("x", 4096, 1, 256)
    head = DecodingHead(task, Architecture(points=16), 256)
    value = 1000 + torch.randn(1, 256, 16, generator=torch.Generator().manual_seed(0))
    start = torch.arange(0.0, 4096, 16)[None]
    in_time = head.in_time(value, start, start + 16)
    assert torch.allclose(in_time.flatten(), value.flatten(), atol=1e-3, rtol=0)


def test_unused_slots_change_nothing() -> None:
    """Whatever stands in a masked slot, valid tokens and forecast stay the same."""
    torch.manual_seed(0)
    architecture = Architecture(dropout=0.0)
    backbone, token = Transformer(architecture), torch.randn(2, 6, 32)
    valid = torch.tensor([[True] * 4 + [False] * 2] * 2)
    start = torch.tensor([[0, 20, 50, 70, 96, 96]] * 2)
    length = torch.tensor([[20, 30, 20, 26, 0, 0]] * 2)
    patches = Patches(start, length, valid)
    other = token.clone()
    other[:, 4:] = 100.0
    for head_type in (DecodingHead, FlattenHead, QueryHead):
        head = head_type(TASK, architecture, 6)
        first, second = (
            head(backbone(one, valid[:, None, None]), patches) for one in (token, other)
        )
        assert torch.allclose(first, second, atol=1e-6), head_type


@pytest.mark.parametrize("head_type", [DecodingHead, FlattenHead, QueryHead])
def test_a_head_drops_of_what_it_reads_in_training_alone(
    head_type: type[DecodingHead | FlattenHead | QueryHead],
) -> None:
    """Its linear layer finds a share of zeros that is the rate of dropout, and in a test none."""
    torch.manual_seed(0)
    head = head_type(TASK, Architecture(dropout=0.25), 12)
    token, patches = torch.randn(50, 12, 32), random_patches(50)
    zeros: list[float] = []
    head.out.register_forward_pre_hook(
        lambda _, inputs: zeros.append(float((inputs[0] == 0).float().mean()))
    )
    head.train()(token, patches)
    head.eval()(token, patches)
    assert zeros == [pytest.approx(0.25, abs=0.02), 0]
