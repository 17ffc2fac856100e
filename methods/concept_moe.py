"""ConceptMoE's chunking: H-Net's router, random flips in training, and sums as tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness import Patcher, Patches, Rows, Stem, Task
from methods._routing import CosineRouter, chunks, ratio_loss, target_rate


class ConceptMoE(Patcher):
    """Starts a patch where neighbouring features point apart, in close cases by chance.

    In training each boundary is drawn, with a probability that ``sharpness`` moves away from one
    half, so that the number of patches in evaluation does not depend on steps close to one half.
    A token is the sum of its steps, in units of a patch of usual length.

    Source: ConceptMoE (arXiv 2601.21420), its full text and its published demonstration: the flips
    and their sharpness of 6, the threshold that a tie passes, the sum, and all that it takes over
    from H-Net (Hwang et al., arXiv 2507.07955).

    Fidelity: re-implementation. No mixture of experts and no joint decoding, which belong to the
    backbone. Centred features, target rate, number of slots, confidence by patch and ``weight``
    (0.03 in the paper) are as in ``hnet``.
    """

    strict = False
    uses_features = True
    rules = ("best", "sample")
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {
        "weight": (0.03, 0.3, 1.0),
        "sharpness": (4.0, 6.0),
    }

    def __init__(self, task: Task, *, weight: float = 1.0, sharpness: float = 6.0, tie: float = 1, decided: int = 0) -> None:
        super().__init__(task)
        self.decided = decided
        if tie: sharpness = sharpness * tie * max(1.0, task.look_back / task.patches - 1)
        self.weight, self.sharpness, self.rate = weight, sharpness, target_rate(task)
        self.router = CosineRouter(Stem.width)

    def forward(self, rows: Rows) -> Patches:
        assert rows.features is not None
        probability = self.router(rows.features)
        chosen = self._drawn(probability, rows) if rows.as_trained else probability >= 0.5
        loss = self.weight * ratio_loss(probability >= 0.5 if self.decided else chosen, probability, self.rate)
        patches = chunks(probability, chosen, self.slots, loss)
        usual = self.task.look_back / self.task.patches
        return replace(patches, gain=patches.length / usual)

    def _drawn(
        self, probability: Float[Tensor, "row step"], rows: Rows
    ) -> Bool[Tensor, "row step"]:
        likely = probability >= 0.5
        # The probability of the more probable answer, whichever it is, is raised.
        sharp = torch.where(likely, probability, 1 - probability) ** (1 / self.sharpness)
        return likely == (rows.uniform(probability.shape[1]) < sharp)
