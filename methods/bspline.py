"""Boundaries placed as the knots of an adaptive spline: dense where the row bends."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from harness import Patcher, Patches, Rows, Task, from_starts, running_sum


class BSpline(Patcher):
    """Gives every patch the same share of the row's curvature, so that patches are short at bends.

    The curvature of a step is the size of the second difference around it, averaged over
    ``window`` steps and raised to ``power``. ``floor`` times the row's mean is added, so that
    flat stretches get patches, too; a row without any curvature is cut into equal patches.
    Boundaries stand where the running sum passes each K-th part of its total, at the nearest
    whole step. Where they would meet, later ones move on by as many steps as they must.

    Source: BSAT, the B-Spline Adaptive Tokenizer (Althoff et al., arXiv 2601.00698); the placement
    of knots at equal parts of a power of a derivative is de Boor's NEWNOT (A Practical Guide to
    Splines, 1978; described at mathworks.com/help/curvefit/newknt.html).

    Fidelity: re-implementation of the placement alone, after the abstract: neither the paper's
    body nor any code could be read. No spline is fitted: the token is the shared one, not a
    coefficient with its position, and patches do not overlap as basis functions do. Its rotary
    positions are left out. The second difference, the average, the floor and K as a given number
    are ours; de Boor's power for pieces of degree k - 1 is 1 / k, here 1/2 for straight lines.
    """

    fixed = True
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {
        "power": (0.5, 1.0),
        "window": (1, 5, 9),
        "floor": (0.1, 0.5),
    }

    def __init__(
        self, task: Task, *, power: float = 0.5, window: int = 5, floor: float = 0.1
    ) -> None:
        super().__init__(task)
        if power <= 0 or floor <= 0:
            raise ValueError(f"power is {power} and floor is {floor}; both must be above 0")
        if window < 1 or window % 2 == 0:
            raise ValueError(f"window is {window}; an odd number of steps, with one in its middle")
        self.power, self.window, self.floor = power, window, floor

    def forward(self, rows: Rows) -> Patches:
        look_back, patches = rows.values.shape[1], self.task.patches
        total = running_sum(self.density(rows.values))
        part = torch.arange(1, patches, device=total.device) / patches
        target = part * total[:, -1:]
        after = torch.searchsorted(total, target).clamp(1, look_back)
        below, above = total.gather(1, after - 1), total.gather(1, after)
        inner = after - (target - below < above - target).long()
        start = functional.pad(inner, (1, 0))
        order = torch.arange(patches, device=start.device)
        start = order + (start - order).clamp(0, look_back - patches).cummax(dim=1).values
        return from_starts(start, look_back)

    def density(self, values: Float[Tensor, "row time"]) -> Float[Tensor, "row time"]:
        """How densely boundaries should lie around each step, up to a factor for each row."""
        # Beyond its ends a row goes on as it ended.
        bend = functional.pad(values.double(), (1, 1), mode="replicate").diff(n=2, dim=1).abs()
        near = self.window // 2
        smooth = functional.avg_pool1d(bend, self.window, 1, near, count_include_pad=False)
        smooth = smooth.pow(self.power)
        # Rows whose bends are all rounding are flat.
        relative = smooth / smooth.mean(dim=1, keepdim=True).clamp_min(1e-3)
        return relative + self.floor
