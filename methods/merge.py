"""Greedy joining: neighbours that differ least become one patch, until K are left."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from harness import Patcher, Patches, Rows, from_starts, running_sum


class Merge(Patcher):
    """Starts with a patch for each step and joins the two neighbours that differ least, down to K.

    How much neighbours differ is Ward's criterion: what the squared error around the means of
    patches grows by when they are joined, m n / (m + n) times the squared difference of their
    means for lengths m and n. It is the greedy counterpart, from below, of ``l2_optimal``.

    Source: Ward (1963), joining neighbours in time only; bottom-up segmentation as in Keogh et al.
    (ICDM 2001), with constant instead of linear pieces.

    Fidelity: our design. Exactly the greedy order, one pair after another: where only neighbours
    can be joined, joining two may make a third one nearer than any was before, so that pairs far
    apart cannot be joined at once without a change of the result. Differences are compared in
    float32, from sums in float64; of equal ones the earliest pair is joined first.
    """

    fixed = True

    def forward(self, rows: Rows) -> Patches:
        # As many rows as suit the cache of a CPU core, or the memory of a GPU.
        at_once = 512 if rows.values.device.type == "cpu" else 8192
        starts = [_starts(part, self.task.patches) for part in rows.values.split(at_once)]
        return from_starts(torch.cat(starts), rows.values.shape[1])


def _starts(values: Float[Tensor, "row time"], patches: int) -> Int[Tensor, "row patch"]:
    """Where the patches of each row start that are left in the end."""
    rows, steps = values.shape
    # Of each edge from 0 to L the edges before and after it that are still there, and the cost of
    # its removal; both ends stay. All flat, each row in a stretch of its own, of whole blocks.
    width = -(-(steps + 1) // _BLOCK) * _BLOCK
    total = functional.pad(running_sum(values), (0, width - steps - 1)).flatten()
    row = torch.arange(rows, device=values.device)
    first, last = row * width, row * width + steps
    ends = torch.cat([first, last])
    before = torch.arange(-1, rows * width - 1, device=values.device)
    after = before + 2
    cost = values.new_full((rows, width), torch.inf)
    cost[:, 1:steps] = values.double().diff(dim=1).square().float() / 2
    flat, blocks = cost.view(-1), cost.view(-1, _BLOCK)

    def removal(edge: Tensor, left: Tensor, right: Tensor) -> Tensor:
        m, n = (edge - left).double(), (right - edge).double()
        here = total[edge]
        gap = (here - total[left]) / m - (total[right] - here) / n
        return (gap.square() * (m * n / (m + n))).float()

    for _ in range(steps - patches):
        # The first of the least costs: of a block, then within it. A search over the whole row
        # for a place takes ten times as long as one for a value.
        block = blocks.amin(dim=1).view(rows, -1).argmin(dim=1) + row * (width // _BLOCK)
        edge = block * _BLOCK + blocks[block].argmin(dim=1)
        left, right = before[edge], after[edge]
        flat[edge] = torch.inf
        after[left], before[right] = right, left
        # The removal of either neighbour costs something else now. An end of the row has no other
        # side: what comes out for it is no number, and is not kept.
        edges = torch.cat([left, right])
        new = removal(
            edges,
            torch.cat([before[left].maximum(first), left]),
            torch.cat([right, after[right].minimum(last)]),
        )
        flat[edges] = torch.where(edges == ends, torch.inf, new)
    # What is left, in order: step 0 and the edges of finite cost.
    there = cost < torch.inf
    there[:, 0] = True
    return there.nonzero()[:, 1].view(rows, patches)


_BLOCK = 32
