"""Boundaries at the largest jumps: the cheapest rule that reads the content."""

from __future__ import annotations

from harness import Patcher, Patches, Rows, from_scores


class LocalDifference(Patcher):
    """Starts a patch at each of the K - 1 largest absolute differences of neighbouring steps.

    The top-k form of rules that cut where a series is locally complex.

    Source: a control of this project.

    Fidelity: our design.
    """

    def forward(self, rows: Rows) -> Patches:
        return from_scores(rows.values.diff(dim=1).abs(), self.task.patches)
