"""A gate for each row: equal patches, or learned ones?"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from harness import Patcher, Patches, Rows, Stem, Task, Votes, from_starts, uniform_starts
from methods._clock import soft_patches


class GatedMix(Patcher):
    """Chooses for each row whether it is cut into equal patches or at learned boundaries.

    The learned boundaries are those of ``soft``. A gate gives each row its probability of taking
    them. Training shows each row under both plans, and the difference of the two losses is the
    gradient of the gate. The forecaster and the boundaries learn from one of them: for the first
    ``explore`` of training, a share, either one as often, whatever the gate says, so that neither
    plan is given up before it has learned; after that from the row's more likely plan, which is
    also what evaluation cuts.

    A row that fell back has exactly the starts of equal patches: :meth:`fell_back` tells from
    boundaries alone how many rows did.

    Source: none.

    Fidelity: our design. The gate reads mean and standard deviation over time of each feature of
    the shared stem. The gradient of its expected loss is exact for the batch, since both plans of
    a row are scored, without dropout. A straw man? An earlier form was: its boundaries learned
    only where the gate chose them, at the rate of the forecaster, and every row fell back
    everywhere. Now (validation errors, budget of quickstart, seed 1) no row falls back on
    `ordinal`, with .478 (``soft`` alone .408, equal patches .867), and every row on
    `electric_devices`, with 2.865 (4.541 and 2.862). With ``explore`` at .3 it is .516 and 2.857.
    What it pays is that for most of training the boundaries learn from half of the rows.
    """

    rules = ("best", "sample")
    uses_features = True
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {
        "explore": (0.3, 0.6, 0.8),
        "gate_rate_factor": (1.0, 3.0, 10.0),
    }

    def __init__(
        self,
        task: Task,
        *,
        explore: float = 0.6,
        hottest: float = 0.5,
        coldest: float = 0.03,
        learning_rate_factor: float = 10.0,
        gate_rate_factor: float = 3.0,
    ) -> None:
        super().__init__(task)
        if not 0 <= explore <= 1:
            raise ValueError(f"explore is {explore!r}; a share of training is needed")
        self.explore, self.hottest, self.coldest = explore, hottest, coldest
        self.learning_rate_factor, self.gate_rate_factor = learning_rate_factor, gate_rate_factor
        self.score = Votes()
        self.gate = nn.Linear(2 * Stem.width, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        # Of the last training step, kept for `learn`: each row's chance and its choice.
        self.last: tuple[Tensor, Tensor] | None = None

    @property
    def draws(self) -> int:
        """Two: the plan that the row takes and the other one."""
        return 2

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Both at higher rates than the forecaster: scores as in ``soft``, and the gate."""
        return [
            {"params": list(part.parameters()), "lr": learning_rate * factor}
            for part, factor in (
                (self.score, self.learning_rate_factor),
                (self.gate, self.gate_rate_factor),
            )
        ]

    def forward(self, rows: Rows) -> Patches:
        assert rows.features is not None
        chance = self._chance(rows.features)
        score = self.score(rows.features).to(rows.values.dtype)
        temperature = self.hottest * (self.coldest / self.hottest) ** self.progress
        learned = soft_patches(score, self.task, temperature)
        taken = chance > 0.5
        if rows.as_trained:
            tossed = rows.uniform(1)[:, 0] < 0.5
            taken = torch.where(self.progress < self.explore, tossed, taken)
        if not self.training:
            mixed = self._mixed(taken, learned)
            return mixed if rows.as_trained else from_starts(mixed.start, self.task.look_back)
        self.last = chance, taken
        row = torch.arange(2 * len(taken), device=taken.device) % len(taken)
        # The first draw of a row is the plan it takes, the second one the other plan.
        return self._mixed(torch.cat([taken, ~taken]), learned.rows(row))

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

    def _mixed(self, taken: Bool[Tensor, " row"], learned: Patches) -> Patches:
        """The learned plan in the rows that take it, equal patches in the others."""
        assert learned.edges is not None
        assert learned.spans is not None
        look_back = self.task.look_back
        start = uniform_starts(look_back, self.task.patches, taken.device)
        edge = torch.cat([start, start.new_full((1,), look_back)])
        row = taken[:, None]
        return from_starts(
            torch.where(row, learned.start, start),
            look_back,
            edges=torch.where(row, learned.edges, edge),
            spans=torch.where(row[..., None], learned.spans, torch.stack([edge[:-1], edge[1:]])),
        )
