"""Equal patches of the length that is best on validation data: a control that has a choice."""

from __future__ import annotations

from harness import Patcher, Patches, Rows, Task, from_starts, uniform_starts


class UniformBest(Patcher):
    """Cuts every row into equal patches of ``patch`` steps, whatever the task's K; 0 means K.

    A suite sweeps ``patch``, and the leaderboard keeps the length with the least validation error.
    A method that beats ``uniform`` at the task's K but not this one may only have found a better
    K. It is the only method that may leave the task's K, and its tokens are reported. Where the
    length does not divide the look-back, patches are a little longer, the later ones the most.

    Source: the sweep of uniform patch sizes, selected on validation data, that arXiv 2606.04074
    compares adaptive patching with; patches as in PatchTST (Nie et al., ICLR 2023).

    Fidelity: our design; only the abstract of the first paper could be read, so the lengths in the
    sweep are ours. Patches do not overlap, as in ``uniform``.
    """

    free_count = True
    grid = True

    def __init__(self, task: Task, *, patch: int = 0) -> None:
        super().__init__(task)
        if not 0 <= patch <= task.look_back:
            raise ValueError(f"patch is {patch}; a length from 1 to {task.look_back}, or 0 for K")
        self.patches = task.look_back // patch if patch else task.patches

    @property
    def slots(self) -> int:
        return self.patches

    def forward(self, rows: Rows) -> Patches:
        row, look_back = rows.values.shape
        start = uniform_starts(look_back, self.patches, rows.values.device)
        return from_starts(start.expand(row, -1), look_back)
