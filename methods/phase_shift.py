"""Equal patches on a grid that starts anywhere: the control for the phase of the grid."""

from __future__ import annotations

from harness import Patcher, Patches, Rows, from_starts, uniform_starts


class PhaseShift(Patcher):
    """Cuts every row into K equal patches moved by up to half a patch, at random.

    The inner boundaries of a row move together, by a whole number of steps in (-P/2, P/2] for
    patches of P steps; the first and the last patch take up the shift, and none is empty. The move
    is drawn anew for each row and training step, and from the row's id in evaluation.

    Source: a control of this project: what equal patches gain by always lying at the same place.

    Fidelity: our design.
    """

    def forward(self, rows: Rows) -> Patches:
        look_back, patches = rows.values.shape[1], self.task.patches
        least, most = 1 + -look_back // (2 * patches), look_back // (2 * patches)
        count = most - least + 1
        # A random number may be rounded up to 1.
        shift = least + (rows.uniform(1) * count).long().clamp_max(count - 1)
        start = uniform_starts(look_back, patches, rows.values.device) + shift
        start[:, 0] = 0
        return from_starts(start, look_back)
