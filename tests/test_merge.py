"""Greedy joining: the same patches as joining one pair after another by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.core.task import Task
from harness.model.patcher import Rows
from methods.merge import Merge


def starts(values: Tensor, patches: int) -> list[list[int]]:
    rows = Rows(values, torch.arange(len(values)))
    plan = Merge(Task("x", values.shape[1], 4, patches))(rows)
    assert (plan.length >= 1).all()
    return plan.start.tolist()


def joined_by_hand(row: list[float], patches: int) -> list[int]:
    """Segments as a list; the first pair of the least difference becomes one, again and again."""
    total = [0.0, *np.cumsum(np.array(row)).tolist()]
    edge = list(range(len(row) + 1))
    while len(edge) - 1 > patches:
        costs = []
        for left, here, right in zip(edge, edge[1:], edge[2:], strict=False):
            m, n = here - left, right - here
            gap = (total[here] - total[left]) / m - (total[right] - total[here]) / n
            costs.append(np.float32(gap * gap * (m * n / (m + n))))
        del edge[1 + int(np.argmin(costs))]
    return edge[:-1]


@pytest.mark.parametrize("steps", [2, 9, 31, 32, 33, 64, 95])
def test_merge_joins_as_one_would_by_hand(steps: int) -> None:
    """On noise, walks, levels with ties and a ramp, for few patches and for many."""
    source = torch.Generator().manual_seed(steps)
    noise = torch.randn(6, steps, generator=source)
    levels = torch.randint(3, (6, steps), generator=source).float()
    ramp = torch.arange(float(steps))[None].square()
    values = torch.cat([noise, noise.cumsum(1), levels, ramp])
    for patches in {1, 2, steps // 4 + 1, steps // 2 + 1, steps - 1, steps}:
        expected = [joined_by_hand(row, patches) for row in values.double().tolist()]
        assert starts(values, patches) == expected


def test_merge_weighs_means_by_length() -> None:
    """Of gaps of equal height the one between longer segments stays."""
    row = torch.tensor([[0.0] * 10 + [1.0] * 2 + [0.0] * 2 + [1.0] * 10])
    # By means alone any of the three edges could be the first to go.
    assert starts(row, 4) == [[0, 10, 12, 14]]
    assert starts(row, 2)[0][1] in {10, 14}
    assert starts(row, 3) == [[0, 10, 14]]


def test_merge_takes_more_rows_than_fit_at_once() -> None:
    """A row is cut alike in a batch of 600, whose rows are handled in parts, and alone."""
    values = torch.randn(600, 40, generator=torch.Generator().manual_seed(0))
    together = starts(values, 7)
    for row in (0, 511, 512, 599):
        assert starts(values[row : row + 1], 7)[0] == together[row]
