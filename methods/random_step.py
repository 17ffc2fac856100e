"""Random boundaries, new at every step: the control for any irregularity."""

from __future__ import annotations

from harness import Patcher, Patches, Rows, from_scores


class RandomStep(Patcher):
    """Draws the K - 1 inner boundaries without replacement, anew for each row and training step.

    In evaluation the draw depends on the row's id alone, so that it is the same in every batch.
    What a learned method gains over it does not come from its patches being irregular.

    Source: a control of this project.

    Fidelity: our design.
    """

    def forward(self, rows: Rows) -> Patches:
        return from_scores(rows.uniform(self.task.look_back - 1), self.task.patches)
