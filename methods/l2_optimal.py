"""The best piecewise-constant reconstruction of the look-back, by dynamic programming."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness import Patcher, Patches, Rows, from_starts, running_sum


class L2Optimal(Patcher):
    """Cuts each row into the K patches of least squared error around their own means.

    A rule that places boundaries by content and learns nothing from forecasts: what is best for
    reconstructing the past need not be best for forecasting.

    Source: a control of this project; optimal segmentation by dynamic programming (Bellman 1961).

    Fidelity: our design. Exact up to the rounding of float32 (sums are kept in float64), in
    O(L^2 K) a row. Of equally good segmentations it takes the one with the earliest last boundary,
    then the earliest one before that, and so on.
    """

    fixed = True

    def forward(self, rows: Rows) -> Patches:
        # As many rows as suit the cache of a CPU core, or the memory of a GPU.
        at_once = 64 if rows.values.device.type == "cpu" else 8192
        starts = [_starts(part, self.task.patches) for part in rows.values.split(at_once)]
        return from_starts(torch.cat(starts), rows.values.shape[1])


def _starts(values: Float[Tensor, "row time"], patches: int) -> Int[Tensor, "row patch"]:
    """Where the best ``patches`` segments of each row start."""
    row, steps = values.shape
    # Time first and rows last: each pass below runs over whole stretches of memory.
    total = running_sum(values).T.contiguous()
    power = running_sum(values.double().square()).T.contiguous()
    shares = 1 / torch.arange(steps, 0, -1, dtype=torch.float64, device=values.device)[:, None]

    # least[i, k]: the least error of the first i steps in k + 1 segments or fewer. For i > k "or
    # fewer" changes nothing, since a cut never adds to the error; for the rest it is defined, too.
    least = values.new_zeros(steps + 1, patches - 1, row)
    trial = values.new_empty(steps, max(patches - 2, 0), row)
    for end in range(1, steps + 1):
        error = _error(total[end] - total[:end], power[end] - power[:end], shares[steps - end :])
        least[end, :1] = error[0]
        torch.add(least[:end, :-1], error[:, None], out=trial[:end])
        torch.amin(trial[:end], dim=0, out=least[end, 1:])

    # Only errors are kept: each cut is found again by one more pass over its row of the table.
    start = torch.arange(steps, device=values.device)[:, None]
    ends = [torch.full((1, row), steps, device=values.device)]
    for cuts in range(patches - 1, 0, -1):
        last = ends[-1]
        share = 1 / (last - start).clamp_min(1).double()
        sums = total.gather(0, last) - total[:-1], power.gather(0, last) - power[:-1]
        error = _error(*sums, share)
        allowed = (start >= cuts) & (start < last)
        whole = (least[:-1, cuts - 1] + error).where(allowed, torch.inf)
        ends.append(whole.argmin(dim=0, keepdim=True))
    ends.append(torch.zeros_like(ends[0]))
    return torch.cat(ends[:0:-1]).T


def _error(
    total: Float[Tensor, "time row"],
    power: Float[Tensor, "time row"],
    share: Float[Tensor, "#time #row"],
) -> Float[Tensor, "time row"]:
    """Squared error around the mean of stretches with this sum, sum of squares and 1 / length."""
    return power.sub_(total.square_().mul_(share)).clamp_min_(0).float()
