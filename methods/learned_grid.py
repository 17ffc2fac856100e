"""One learned grid for all rows: is it content that helps, or only a better static grid?"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from harness import Patcher, Patches, Rows, Task, from_starts


class LearnedGrid(Patcher):
    """Cuts every row at the same K - 1 boundaries, which are learned with the forecaster.

    Each patch has one step for certain, and a learned share of the L - K steps that are left: a
    softmax over K logits, so that widths are free and their sum is the look-back. At the start all
    logits are 0, which is equal patches. In training edges are real-valued times, in which
    embedder and head are differentiable; in evaluation they are the nearest whole steps. A method
    that reads the content of a row has to beat this one to show that content matters.

    Source: a control of this project.

    Fidelity: our design. The logits are a parameter group of their own: they learn at
    ``learning_rate_factor`` times the rate of the forecaster, on the same schedule, and their
    gradient is clipped apart from the forecaster's, whose own rate is left as it is. At the
    forecaster's rate itself edges would hardly leave equal patches: with Adam a logit moves by at
    most about the rate in a step. Whole steps in training, with a gradient straight through the
    rounding, were tried: at a whole step the embedder sees only what comes after it, so that an
    edge swings between two steps. The gradient follows what lies next to an edge, not a better
    place far away. A straw man? As a control it should be strong; what may hold it back is that it
    moves in small steps only. Higher rates are in its search space.
    """

    grid = True
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {
        "learning_rate_factor": (3.0, 10.0, 30.0)
    }

    def __init__(self, task: Task, *, learning_rate_factor: float = 10.0) -> None:
        super().__init__(task)
        self.learning_rate_factor = learning_rate_factor
        self.share = nn.Parameter(torch.zeros(task.patches))

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """At a higher rate than the forecaster: a logit has to move by about 1 to matter."""
        return [{"params": [self.share], "lr": learning_rate * self.learning_rate_factor}]

    def forward(self, rows: Rows) -> Patches:
        row, look_back = rows.values.shape
        edges = self.edges()
        # Edges lie a step apart or more, but for what is lost in float32.
        order = torch.arange(self.task.patches, device=edges.device)
        start = (edges.detach()[:-1] + 0.5).floor().long()
        start = order + (start - order).clamp(0, look_back - self.task.patches).cummax(0).values
        real = edges.expand(row, -1) if rows.as_trained else None
        return from_starts(start.expand(row, -1), look_back, edges=real)

    def edges(self) -> Float[Tensor, " edge"]:
        """All K + 1 edges of the grid as real numbers, in steps: from 0 to the look-back."""
        spare = self.task.look_back - self.task.patches
        width = 1 + spare * self.share.float().softmax(dim=0)
        return functional.pad(width.cumsum(dim=0), (1, 0))
