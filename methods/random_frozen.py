"""One random grid for a whole run: the control for irregular patches with stable slots."""

from __future__ import annotations

import torch
from torch import Tensor

from harness import Patcher, Patches, Rows, Task, from_scores, from_starts


class RandomFrozen(Patcher):
    """Draws the K - 1 inner boundaries once, at construction, and cuts every row there.

    It shows what an irregular grid costs while each slot keeps its place in time.

    Source: a control of this project.

    Fidelity: our design.
    """

    grid = True

    start: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        drawn = from_scores(torch.rand(1, task.look_back - 1), task.patches)
        self.register_buffer("start", drawn.start)

    def forward(self, rows: Rows) -> Patches:
        row, look_back = rows.values.shape
        return from_starts(self.start.expand(row, -1), look_back)
