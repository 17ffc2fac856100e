"""Equal patches without a backbone: is the backbone worth anything on this data set?"""

from __future__ import annotations

from dataclasses import replace

from harness import Architecture, PatchForecaster, Task
from methods.uniform import Uniform


class UniformIdentity(PatchForecaster):
    """The shared forecaster on equal patches, with nothing between its embedder and its head.

    Patches reach the forecast each on its own. On data sets where this reference does not lose to
    ``uniform``, the backbone only overfits, and they cannot show what patches are good for.

    Source: the identity encoder as a control (CombinationTS, arXiv 2605.01231, read through a
    second-hand note).

    Fidelity: our design. Everything but the backbone is the suite's, training included. No straw
    man, but no tuned model either: it trains at the rate that suits the backbone.
    """

    def __init__(self, task: Task, architecture: Architecture) -> None:
        super().__init__(task, replace(architecture, backbone="identity"), Uniform(task))
