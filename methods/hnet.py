"""H-Net's dynamic chunking: a patch starts where neighbouring features point apart."""

from __future__ import annotations

from typing import ClassVar

from harness import Patcher, Patches, Rows, Stem, Task
from methods._routing import CosineRouter, chunks, ratio_loss, target_rate


class HNet(Patcher):
    """Starts a patch wherever a cosine router finds a step more unlike than like the one before.

    Decisions have no gradient of their own. The router learns in three ways: its probabilities are
    the weights of a running mean over tokens after the backbone; each token is multiplied by a
    factor of 1 that has the gradient of the router's confidence; and a loss draws the mean number
    of patches to K.

    Source: H-Net (Hwang et al., arXiv 2507.07955) and its published code: router, identity
    initialisation, threshold, clamped gates, running mean over chunks, straight-through
    confidence, ratio loss.

    Fidelity: re-implementation. The shared embedder reads all steps of a patch, where H-Net keeps
    the vector at its boundary, and there is no residual past the backbone (``hnet_full`` has
    both). Features are centred over the row, and the cosine is damped where they are small (see
    the router). Step 0 is left out of the ratio loss, whose target is (K - 1) / (L - 1). Of more
    boundaries than slots, the least probable are dropped. The confidence of a patch is the mean
    over its steps. ``weight`` is 0.03 in H-Net: at that weight, the number of patches would need
    most of one of our short trainings to come near K; at 1 it needs some hundred steps.
    """

    strict = False
    uses_features = True
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {"weight": (0.03, 0.3, 1.0)}

    def __init__(self, task: Task, *, weight: float = 1.0) -> None:
        super().__init__(task)
        self.weight, self.rate = weight, target_rate(task)
        self.router = CosineRouter(Stem.width)

    def forward(self, rows: Rows) -> Patches:
        assert rows.features is not None
        probability = self.router(rows.features)
        chosen = probability > 0.5
        loss = self.weight * ratio_loss(chosen, probability, self.rate)
        return chunks(probability, chosen, self.slots, loss)
