"""Patches as long as the sampling rate has them: short ones of slow series, long ones of fast."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch.nn import functional

from harness import Patcher, Patches, Rows, Task, from_starts, uniform_starts


class Frequency(Patcher):
    """Cuts each row into patches of a length that follows from its sampling rate alone.

    The length, in steps, is the least or the largest (``size``) that Moirai allows:

    ============================  ======  ========
    time from step to step        least   largest
    ============================  ======  ========
    a quarter of a year or more   8       8
    a month or more               8       32
    a day or more                 16      32
    an hour or more               32      64
    a minute or more              32      128
    less                          64      128
    ============================  ======  ========

    It is made longer where the row would have more than K patches. Patches are counted back from
    the end of the row, and the first one takes up what is left. Long patches leave slots empty. A
    row of which the rate is not known is cut into K equal patches.

    Source: Moirai (Woo et al., arXiv 2402.02592), multi patch size projection layers; a control
    of this project.

    Fidelity: our design. Moirai has a projection for each length, and no bound on the number of
    patches; it draws a length from the range in training, and chooses one on validation data.
    """

    strict = False
    grid = True
    fixed = True
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {"size": ("least", "largest")}

    def __init__(self, task: Task, *, size: str = "least") -> None:
        super().__init__(task)
        if size not in {"least", "largest"}:
            raise ValueError(f"size is {size!r}; allowed: least, largest")
        self.size = size

    @property
    def slots(self) -> int:
        return self.task.patches

    def forward(self, rows: Rows) -> Patches:
        look_back, patches = rows.values.shape[1], self.task.patches
        device = rows.values.device
        equal = uniform_starts(look_back, patches, device).expand(len(rows.values), -1)
        if rows.spacing is None:
            return from_starts(equal, look_back)
        number = torch.bucketize(rows.spacing, torch.tensor(_SECONDS, device=device), right=True)
        lengths = torch.tensor(_LEAST if self.size == "least" else _LARGEST, device=device)
        length = lengths[number].clamp_min(-(-look_back // patches))[:, None]
        count = (look_back + length - 1) // length
        # Slots after the last patch start where the row ends.
        back = count - torch.arange(1, patches, device=device)
        inner = look_back - length * back.clamp_min(0)
        start = functional.pad(inner, (1, 0))
        return from_starts(torch.where(rows.spacing[:, None] > 0, start, equal), look_back)


_DAY = 24 * 3600.0
# A February has 28 days, a first quarter 90.
_SECONDS = (60.0, 3600.0, _DAY, 28 * _DAY, 90 * _DAY)
_LEAST = (64, 32, 32, 16, 8, 8)
_LARGEST = (128, 128, 64, 32, 32, 8)
