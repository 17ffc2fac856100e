"""H-Net's dynamic chunking: a patch starts where neighbouring features point apart."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from harness import Patcher, Patches, Rows, Stem, Task
from methods._routing import CosineRouter, chunks, ratio_loss, target_rate


class HNet(Patcher):
    """Starts a patch wherever a cosine router finds a step more unlike than like the one before.

    Decisions have no gradient of their own. The router learns in three ways: its probabilities are
    the weights of a running mean over tokens after the backbone; each token is multiplied by a
    factor of 1 that has the gradient of the router's confidence; and a loss draws the mean number
    of patches to K. With a ``curriculum`` above 0, for that share of training the loss draws it to
    a number that falls, from all slots to K; off by default.

    Source: H-Net (Hwang et al., arXiv 2507.07955) and its published code: router, identity
    initialisation, threshold, clamped gates, running mean over chunks, straight-through
    confidence, ratio loss. The curriculum is an idea of ATDC (Dang et al., arXiv 2605.30080),
    from low to high compression, after the abstract.

    Fidelity: re-implementation. The shared embedder reads all steps of a patch, where H-Net keeps
    the vector at its boundary, and there is no residual past the backbone (``hnet_full`` has
    both). Features are centred over the row, and the cosine is damped where they are small (see
    the router). Step 0 is left out of the ratio loss, whose target is (K - 1) / (L - 1). Of more
    boundaries than slots, the least probable are dropped. The confidence of a patch is the mean
    over its steps. ``weight`` is 0.03 in H-Net: at that weight, the number of patches would need
    most of one of our short trainings to come near K; at 1 it needs some hundred steps. A
    curriculum can only start a quarter above K, since there are no more slots; its path, a
    straight line in the target rate, is our design. A straw man? In part: its authors route states
    of several Mamba-2 layers and hand every step past the chunks; ``hnet_full`` has an encoder of
    its own and that residual. On `ordinal` it is 6 % better than equal patches (validation error,
    rows of protocol 1).
    """

    strict = False
    uses_features = True
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {"weight": (0.03, 0.3, 1.0)}

    def __init__(self, task: Task, *, weight: float = 1.0, curriculum: float = 0.0) -> None:
        super().__init__(task)
        if not 0 <= curriculum <= 1:
            raise ValueError(f"curriculum is {curriculum!r}; a share of training is needed")
        self.weight, self.curriculum = weight, curriculum
        self.router = CosineRouter(Stem.width)

    def rate(self) -> float | Float[Tensor, ""]:
        """The share of inner steps that is to start a patch at this point of training."""
        last = target_rate(self.task)
        if not self.curriculum:
            return last
        left = 1 - (self.progress / self.curriculum).clamp_max(1)
        return last + left * (target_rate(self.task, self.slots) - last)

    def forward(self, rows: Rows) -> Patches:
        assert rows.features is not None
        probability = self.router(rows.features)
        chosen = probability > 0.5
        loss = self.weight * ratio_loss(chosen, probability, self.rate())
        return chunks(probability, chosen, self.slots, loss)
