"""TimeSqueeze's rule: boundaries where a jump is large relative to the signal around it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from harness import Patcher, Patches, Rows, Task, from_marks, from_scores, sample_rows


class TimeSqueeze(Patcher):
    """Starts a patch where ``|x_t - x_(t-1)|`` is large relative to the power of the last steps.

    The score is that difference over the root mean square of the ``window`` steps up to t.
    ``rule`` "threshold" cuts above one threshold for all rows, fitted on the training part so that
    K patches come out on average; "topk" takes exactly the K - 1 largest scores of each row.

    Source: TimeSqueeze (arXiv 2603.11352).

    Fidelity: re-implementation of the boundary rule alone, from the abstract, reviews and
    summaries: the paper's body could not be read and no code is public. Its encoder, decoder and
    pre-training are left out. Unknown and chosen here: power rather than magnitude, a trailing
    window of 16 steps that includes step t, no minimum or maximum length of a patch. Their
    threshold is tuned; ours follows from K. A row with more boundaries than slots loses those of
    the smallest scores, which the fit takes into account; for this reason alone the form with a
    threshold is not causal. A straw man? Of the model, yes: without its state-space encoder and
    decoder a rule is all that is left. Of the rule we cannot know; windows of 8, 16 and 32 steps
    are in the search space.
    """

    strict = False
    fixed = True
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {"window": (8, 16, 32)}

    threshold: Tensor

    def __init__(self, task: Task, *, rule: str = "threshold", window: int = 16) -> None:
        super().__init__(task)
        if rule not in {"threshold", "topk"}:
            raise ValueError(f"rule is {rule!r}; allowed: threshold, topk")
        self.rule, self.window = rule, window
        self.register_buffer("threshold", torch.ones(()))

    @property
    def slots(self) -> int:
        """A quarter more than K under "threshold", where only the mean number of patches is K."""
        return super().slots if self.rule == "threshold" else self.task.patches

    def prepare(self, rows: Iterable[Float[Tensor, "row time"]]) -> None:
        if self.rule == "topk":
            return
        score = self.score(sample_rows(rows, most=4000))
        # The patches of a row are 1 and as many as exceed the threshold of its best `slots - 1`
        # scores. They are K on average if, of these best scores of all rows together, as many
        # exceed it as K - 1 for each row.
        best = score.topk(min(self.slots - 1, score.shape[1]), dim=1).values
        ranked = functional.pad(best.flatten().sort(descending=True).values, (0, 1), value=-1.0)
        self.threshold.copy_(ranked[len(best) * (self.task.patches - 1)])

    def forward(self, rows: Rows) -> Patches:
        score = self.score(rows.values)
        if self.rule == "topk":
            return from_scores(score, self.task.patches)
        return from_marks(score > self.threshold, self.slots, score / (1 + score))

    def score(self, values: Float[Tensor, "row time"]) -> Float[Tensor, "row step"]:
        """How much of a jump each step but the first is."""
        # Steps before the first one count neither as power nor as steps.
        there = torch.stack([values.square(), torch.ones_like(values)], dim=1)
        power, steps = functional.avg_pool1d(
            functional.pad(there, (self.window - 1, 0)), self.window, stride=1
        ).unbind(1)
        return values.diff(dim=1).abs() / (power / steps + 1e-5).sqrt()[:, 1:]
