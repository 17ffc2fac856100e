"""The true boundaries of planted series: what perfect placement would reach."""

from __future__ import annotations

import torch

from harness import Patcher, Patches, Rows, from_scores, uniform_starts


class Oracle(Patcher):
    """Starts a patch at every true boundary, the latest ones if there are too many; never ranked.

    Where there are fewer true boundaries than K - 1, those of equal patches that lie farthest from
    a true one are added; without any true boundary it is ``uniform``.

    Source: a control of this project.

    Fidelity: our design.
    """

    uses_truth = True

    def forward(self, rows: Rows) -> Patches:
        row, look_back = rows.values.shape
        steps = torch.arange(look_back, device=rows.values.device)
        score = torch.zeros(row, look_back, device=rows.values.device)
        score[:, uniform_starts(look_back, self.task.patches, rows.values.device)] = 1
        if rows.truth is not None:
            # Distance to the nearest true boundary, from the last one before and the next one.
            before = torch.where(rows.truth, steps, -look_back).cummax(dim=1).values
            after = (
                torch.where(rows.truth, steps, 2 * look_back).flip(1).cummin(dim=1).values.flip(1)
            )
            gap = torch.minimum(steps - before, after - steps).clamp_max(look_back)
            score = torch.where(rows.truth, look_back + 1 + steps, score * gap)
        return from_scores(score[:, 1:], self.task.patches)
