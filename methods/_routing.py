"""H-Net's routing: how unlike neighbouring steps are, chunks from that, and the loss that holds K.

Source: H-Net (Hwang et al., arXiv 2507.07955) and its published code. What becomes of the chunks
after the backbone is in :func:`harness.model.backbones.dechunk`. Axis ``step`` is over the L - 1
inner steps of a row: step i decides whether a chunk starts at time i + 1, since one always starts
at time 0.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from harness import Patches, Task, from_marks


class CosineRouter(nn.Module):
    """The probability of a boundary: half of 1 - cos(W_q h of the step before, W_k h of the step).

    Both maps start as the identity. Two things are not in H-Net, whose features come from a deep
    encoder; without them training starts from a single patch, or from as many as there are slots.
    Features are centred over the row: after a ReLU they never point in opposite directions, and no
    probability would be above one half. And both vectors get one more component, the root of
    ``flat``, so that features smaller than that count as alike; the cosine alone would follow
    their noise.
    """

    # Of 0.01, 0.03, 0.1 and so on, the value at which untrained routers cut planted series and
    # ETTh1 into the number of patches nearest to K: a quarter to three times as many, on pure
    # noise up to six times.
    flat = 0.03

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.eye(width))
        self.key = nn.Parameter(torch.eye(width))

    def forward(self, features: Float[Tensor, "row time width"]) -> Float[Tensor, "row step"]:
        # Time is the last axis, so that sums over the few features are sums of long vectors. One
        # convolution over two steps maps both steps of a pair: slices would cost more than maps.
        centred = (features - features.mean(dim=1, keepdim=True)).transpose(1, 2)
        none = torch.zeros_like(self.query)
        before, here = torch.cat([self.query, none]), torch.cat([none, self.key])
        pairs = functional.conv1d(centred, torch.stack([before, here], dim=-1)).float()
        query, key = pairs.chunk(2, dim=1)
        dot = (query * key).sum(dim=1) + self.flat
        sizes = ((query * query).sum(dim=1) + self.flat) * ((key * key).sum(dim=1) + self.flat)
        # Only rounding leaves the interval.
        return (0.5 - 0.5 * dot / sizes.sqrt()).clamp(0, 1)


def target_rate(task: Task, patches: int | None = None) -> float:
    """The share of inner steps that start a chunk in rows of K chunks: 1 / N of the papers.

    Of ``patches`` chunks instead, if given. At least half a step away from 0 and 1, where the
    ratio loss has no minimum.
    """
    inner = max(1, task.look_back - 1)
    chunks = task.patches if patches is None else patches
    return min(max(chunks - 1, 0.5), inner - 0.5) / inner


def ratio_loss(
    chosen: Bool[Tensor, "row step"],
    probability: Float[Tensor, "row step"],
    rate: float | Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """H-Net's ratio loss, with 1 / N written as ``rate``; over all rows and inner steps together.

    It is 1 where both shares are the rate. The share of chosen steps has no gradient; it decides
    in which direction the mean probability is pushed.
    """
    share, mean = chosen.to(probability.dtype).mean(), probability.mean()
    return share * mean / rate + (1 - share) * (1 - mean) / (1 - rate)


def chunks(
    probability: Float[Tensor, "row step"],
    chosen: Bool[Tensor, "row step"],
    slots: int,
    loss: Float[Tensor, ""] | None = None,
) -> Patches:
    """Patches that start at the chosen steps; of more than fit, those of highest probability."""
    plan = from_marks(chosen, slots, probability.detach())
    certain = functional.pad(functional.pad(probability, (1, 0), value=1.0), (0, 1))
    begins = torch.zeros_like(certain, dtype=torch.bool).scatter(1, plan.start, value=True)
    return replace(
        plan,
        gate=certain.gather(1, plan.start).clamp(1e-4, 1 - 1e-4),
        confidence=torch.where(begins, certain, 1 - certain)[:, :-1],
        loss=loss,
    )
