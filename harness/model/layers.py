"""Small parts that stem, embedders, backbones, heads and methods share.

Shapes, here and in all of them: ``row`` is a look-back of one channel, ``time`` its steps,
``patch`` its slots, ``width`` the features of a token. None of them mixes rows: what comes out for
a row never depends on the other rows of the batch.
"""

from __future__ import annotations

import sys

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from harness.model.patcher import Patches


def instance_norm(
    values: Float[Tensor, "*row time"],
) -> tuple[Float[Tensor, "*row time"], Float[Tensor, "*row 1"], Float[Tensor, "*row 1"]]:
    """RevIN without its affine map: look-backs at mean 0 and standard deviation 1.

    Returns the normalised values, and the mean and the scale of each row, which lead back. The
    1e-5 under the root keeps constant rows finite (Kim et al., ICLR 2022).
    """
    variance, mean = torch.var_mean(values, dim=-1, correction=0, keepdim=True)
    scale = (variance + 1e-5).sqrt()
    return (values - mean) / scale, mean, scale


class Dropout(nn.Module):
    """Dropout from random bytes: an eighth of the random numbers that ``nn.Dropout`` draws.

    Drawing them is a good part of a training step on a CPU; this takes 2 ns an element where
    ``nn.Dropout`` takes 9 (one core). The rate is rounded to 1/256 and the kept values are scaled
    by the rounded rate, so the mean is exact. On other devices it is torch's, at the same rate.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.dropped = round(rate * 256)

    def forward(self, values: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        # Not without a gradient either: rollouts are to differ in their boundaries only.
        if not (self.training and self.dropped and torch.is_grad_enabled()):
            return values
        if values.device.type != "cpu":
            return functional.dropout(values, self.dropped / 256)
        count = values.numel()
        words = torch.empty((count + 7) // 8, dtype=torch.int64, device=values.device)
        # From -2**63 without an upper end: all 64 bits are random, the sign bit too.
        random = words.random_(-(2**63), None).view(torch.uint8)[:count].view(values.shape)
        kept = (random >= self.dropped).to(values.dtype)
        return values * kept.mul_(256 / (256 - self.dropped))

    def extra_repr(self) -> str:
        return f"rate={self.dropped}/256"


def rows_at_once(device: torch.device, numbers: int) -> int:
    """How many rows to pass through layers at a time, if these hold ``numbers`` numbers a row.

    On a CPU as many as fit into the cache of a core, which is a fifth to a third faster; on other
    devices all of them.
    """
    return max(1, _CACHED // numbers) if device.type == "cpu" else sys.maxsize


_CACHED = 2**18


def bounds(patches: Patches) -> tuple[Float[Tensor, "row patch"], Float[Tensor, "row patch"]]:
    """First and last edge of each patch as real numbers, with the patcher's gradient if any."""
    if patches.edges is not None:
        return patches.edges[:, :-1], patches.edges[:, 1:]
    return patches.start.to(torch.float32), patches.end.to(torch.float32)


def running_sum(values: Float[Tensor, "row time"]) -> Float[Tensor, "row edge"]:
    """The sum of all steps before each edge, 0 first; in float64, as differences lose digits."""
    return functional.pad(values.double().cumsum(dim=1), (1, 0))


def interpolate(
    table: Float[Tensor, "row edge"], place: Float[Tensor, "row point"]
) -> Float[Tensor, "row point"]:
    """Linear interpolation of a table along its second axis; differentiable in the place."""
    low = place.detach().floor().clamp(0, table.shape[1] - 2).long()
    left, right = table.gather(1, low), table.gather(1, low + 1)
    return torch.addcmul(left, right - left, (place - low).to(table.dtype))
