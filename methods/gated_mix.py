"""A gate for each row: equal patches, or learned ones?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from harness import (
    Patcher,
    Patches,
    Rows,
    Stem,
    Task,
    Votes,
    from_scores,
    from_starts,
    uniform_starts,
)


class GatedMix(Patcher):
    """Chooses for each row whether it is cut into equal patches or at learned boundaries.

    The learned boundaries are those of ``straight_through``: the K - 1 best scores, with a
    gradient through their edges. A gate gives each row its probability of taking them. In training
    the plan of a row is drawn, at first evenly and by the end of training with that probability;
    the forecaster learns from the plan that was drawn. The row is then forecast under both plans,
    and the difference of the two losses is the gradient of the gate. In evaluation a row takes its
    more likely plan.

    A row that fell back has exactly the starts of equal patches: :meth:`fell_back` tells from
    boundaries alone how many rows did.

    Source: none. Straight-through estimation is from Bengio et al. (arXiv 1308.3432).

    Fidelity: our design. The gate reads mean and standard deviation over time of each feature of
    the shared stem. The gradient of its expected loss is exact for the batch, since both plans of
    a row are scored, without dropout; that of the learned boundaries is biased, as in
    ``straight_through``, and only rows that take them contribute.
    """

    rules = ("best", "sample")
    uses_features = True
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {
        "reach": (1, 2, 4),
        "temperature": (0.3, 1.0, 3.0),
        "learning_rate_factor": (1.0, 3.0, 10.0),
    }

    def __init__(
        self,
        task: Task,
        *,
        reach: int = 2,
        temperature: float = 1.0,
        learning_rate_factor: float = 3.0,
    ) -> None:
        super().__init__(task)
        self.reach, self.temperature = reach, temperature
        self.learning_rate_factor = learning_rate_factor
        self.score = Votes()
        self.gate = nn.Linear(2 * Stem.width, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        # Of the last training step, kept for `learn`: each row's chance and its choice.
        self.last: tuple[Tensor, Tensor] | None = None

    @property
    def draws(self) -> int:
        """Two: the plan that was drawn and the other one."""
        return 2

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """The gate at a higher rate than the rest: it has few and slow rewards to learn from."""
        return [
            {"params": list(self.score.parameters()), "lr": learning_rate},
            {
                "params": list(self.gate.parameters()),
                "lr": learning_rate * self.learning_rate_factor,
            },
        ]

    def forward(self, rows: Rows) -> Patches:
        assert rows.features is not None
        chance = self._chance(rows.features)
        learned = self._learned(rows.features)
        equal = self._equal(learned)
        # At first both plans are as likely, whatever the gate says: the forecaster has to know
        # both before it can tell which is better.
        drawn_at = torch.lerp(torch.full_like(chance, 0.5), chance.detach(), self.progress)
        taken = rows.uniform(1)[:, 0] < drawn_at if rows.as_trained else chance > 0.5
        if not self.training:
            return _mixed(taken, learned, equal)
        self.last = chance, taken
        # The first draw of a row is the plan it takes, the second one the other plan.
        return _mixed(torch.cat([taken, ~taken]), _twice(learned), _twice(equal))

    def learn(self, patches: Patches, row_loss: Float[Tensor, "draw row"]) -> Float[Tensor, ""]:
        """The expected loss, up to a constant: each chance times what the learned plan adds."""
        assert self.last is not None
        (chance, taken), self.last = self.last, None
        added = torch.where(taken, row_loss[0] - row_loss[1], row_loss[1] - row_loss[0])
        return (chance * added).mean()

    def fell_back(self, patches: Patches) -> Bool[Tensor, " row"]:
        """The rows cut into equal patches; their share is what falls back to the uniform plan."""
        look_back, patch = self.task.look_back, self.task.patches
        equal = uniform_starts(look_back, patch, patches.start.device)
        return (patches.start == equal).all(dim=1)

    def _chance(self, features: Float[Tensor, "row time width"]) -> Float[Tensor, " row"]:
        """How likely each row is to take the learned plan."""
        spread, mean = torch.var_mean(features.float(), dim=1, correction=0)
        logit: Tensor = self.gate(torch.cat([mean, (spread + 1e-5).sqrt()], dim=1))
        return logit[:, 0].float().sigmoid()

    def _learned(self, features: Float[Tensor, "row time width"]) -> Patches:
        """The best scores, with edges that have the gradient of a soft-argmax near each."""
        score = self.score(features)
        patches = from_scores(score.detach(), self.task.patches)
        inner = patches.start[:, 1:]
        # `score` starts at step 1, so step s has index s - 1.
        offset = torch.arange(-self.reach, self.reach + 1, device=score.device)
        near = (inner[..., None] - 1 + offset).clamp(0, score.shape[1] - 1)
        weight = (
            score.gather(1, near.flatten(1)).view(near.shape).div(self.temperature).softmax(-1)
        )
        soft = (weight * offset).sum(dim=-1)
        moving = functional.pad(inner + (soft - soft.detach()), (1, 0))
        edges = functional.pad(moving, (0, 1), value=float(self.task.look_back))
        return replace(patches, edges=edges)

    def _equal(self, learned: Patches) -> Patches:
        start = uniform_starts(self.task.look_back, self.task.patches, learned.start.device)
        equal = from_starts(start.expand(len(learned.start), -1), self.task.look_back)
        whole = torch.cat([equal.start, equal.end[:, -1:]], dim=1)
        assert learned.edges is not None
        return replace(equal, edges=whole.to(learned.edges.dtype))


def _mixed(taken: Bool[Tensor, " row"], learned: Patches, equal: Patches) -> Patches:
    """The learned plan in the rows that take it, equal patches in the others."""
    assert learned.edges is not None
    assert equal.edges is not None
    row = taken[:, None]
    return Patches(
        start=torch.where(row, learned.start, equal.start),
        length=torch.where(row, learned.length, equal.length),
        valid=learned.valid,
        edges=torch.where(row, learned.edges, equal.edges),
    )


def _twice(patches: Patches) -> Patches:
    row = torch.arange(len(patches.start), device=patches.start.device)
    return patches.rows(torch.cat([row, row]))
