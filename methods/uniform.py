"""Equal patches: what every other method is compared with."""

from __future__ import annotations

from harness import Patcher, Patches, Rows, from_starts, uniform_starts


class Uniform(Patcher):
    """Cuts every row into K patches of equal length.

    Source: PatchTST (Nie et al., ICLR 2023).

    Fidelity: paper, but without overlap, since patches of variable length are a partition. Where K
    does not divide the look-back, lengths differ by one step.
    """

    grid = True

    def forward(self, rows: Rows) -> Patches:
        row, look_back = rows.values.shape
        start = uniform_starts(look_back, self.task.patches, rows.values.device)
        return from_starts(start.expand(row, -1), look_back)
