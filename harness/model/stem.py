"""What methods that decide on features look at: features of each step, and a score from them.

The stem is the same small net for every such method, and it is trained with the forecaster.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Stem(nn.Module):
    """Features of each step for methods that decide on features: one small net for all of them.

    One convolution over values and differences; at full resolution a second layer would cost more
    than the backbone.
    """

    width = 8

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv1d(2, self.width, 5, padding=2)

    def forward(self, values: Float[Tensor, "row time"]) -> Float[Tensor, "row time width"]:
        steps = torch.stack([values, functional.pad(values.diff(dim=1), (1, 0))], dim=1)
        return functional.relu(self.near(steps)).transpose(1, 2)


class Votes(nn.Module):
    """A score for each inner boundary from the stem's features: the sum of the votes nearby.

    The same as a convolution to one channel over ``reach`` steps on either side, without a bias,
    in a third of the time on a CPU.
    """

    def __init__(self, reach: int = 2) -> None:
        super().__init__()
        self.reach = reach
        size = (2 * reach + 1, Stem.width)
        bound = math.prod(size) ** -0.5  # as torch starts a convolution
        self.weight = nn.Parameter(torch.empty(size).uniform_(-bound, bound))

    def forward(self, features: Float[Tensor, "row time width"]) -> Float[Tensor, "row step"]:
        row, time, _ = features.shape
        # The stem's memory is channel by channel, so this transposition copies nothing.
        votes = torch.bmm(self.weight.expand(row, -1, -1), features.transpose(1, 2))
        votes = functional.pad(votes, (self.reach, self.reach))
        near = [vote[:, i + 1 : i + time] for i, vote in enumerate(votes.unbind(1))]
        return torch.stack(near).sum(dim=0)
