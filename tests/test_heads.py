"""Heads: shares of the grid, refused grids, and slots that count for nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.core.task import Architecture, Task
from harness.model.backbones import Transformer
from harness.model.heads import FlattenHead, GridHead, QueryHead
from harness.model.patcher import Patches, from_scores

TASK = Task("x", 96, 24, 12, season=24)


def random_patches(rows: int, task: Task = TASK, seed: int = 0) -> Patches:
    generator = torch.Generator().manual_seed(seed)
    score = torch.rand(rows, task.look_back - 1, generator=generator)
    return from_scores(score, task.patches)


def test_the_grid_gives_every_bin_its_shares_of_the_patches() -> None:
    """Rows of the overlap sum to one: a head that averages constant tokens gives the constant."""
    head = GridHead(TASK, Architecture(width=4, grid=8, dropout=0.0), 12)
    nn.init.constant_(head.out.weight, 1 / head.out.in_features)
    nn.init.zeros_(head.out.bias)
    tokens = torch.full((3, 12, 4), 2.5)
    assert torch.allclose(head(tokens, random_patches(3)), torch.tensor(2.5))


def test_a_grid_coarser_than_the_patches_is_refused() -> None:
    """A head that would blur the tokens says so, with both numbers."""
    with pytest.raises(ValueError, match="grid has 6 bins of 16 steps, fewer than the 12 patches"):
        GridHead(TASK, Architecture(grid=16), 12)


def test_unused_slots_change_nothing() -> None:
    """Whatever stands in a masked slot, valid tokens and forecast stay the same."""
    torch.manual_seed(0)
    architecture = Architecture(dropout=0.0)
    backbone, token = Transformer(architecture), torch.randn(2, 6, 16)
    valid = torch.tensor([[True] * 4 + [False] * 2] * 2)
    start = torch.tensor([[0, 20, 50, 70, 96, 96]] * 2)
    length = torch.tensor([[20, 30, 20, 26, 0, 0]] * 2)
    patches = Patches(start, length, valid)
    other = token.clone()
    other[:, 4:] = 100.0
    for head_type in (GridHead, FlattenHead, QueryHead):
        head = head_type(TASK, architecture, 6)
        first, second = (
            head(backbone(one, valid[:, None, None]), patches) for one in (token, other)
        )
        assert torch.allclose(first, second, atol=1e-6), head_type


@pytest.mark.parametrize("head_type", [GridHead, FlattenHead, QueryHead])
def test_a_head_drops_of_what_it_reads_in_training_alone(
    head_type: type[GridHead | FlattenHead | QueryHead],
) -> None:
    """Its linear layer finds a share of zeros that is the rate of dropout, and in a test none."""
    torch.manual_seed(0)
    head = head_type(TASK, Architecture(dropout=0.25), 12)
    token, patches = torch.randn(50, 12, 16), random_patches(50)
    zeros: list[float] = []
    head.out.register_forward_pre_hook(
        lambda _, inputs: zeros.append(float((inputs[0] == 0).float().mean()))
    )
    head.train()(token, patches)
    head.eval()(token, patches)
    assert zeros == [pytest.approx(0.25, abs=0.02), 0]
