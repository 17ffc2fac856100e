"""TimeMosaic's granularity: each region of the row is cut into one, two or four patches."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from harness import Patcher, Patches, Rows, Task, from_marks


class Mosaic(Patcher):
    """A small network looks at each region and cuts it into one patch, or two or four equal ones.

    A region is as long as two mean patches, and each of its quarters half as long as one: 32 steps
    where a patch has 16 on average, as published, and 16 where it has 8. So two patches a region
    make the budget K. Training starts there, and a loss of weight ``hold`` keeps the mean number
    of patches there.

    Source: TimeMosaic (arXiv 2509.19406) and its code.

    Fidelity: re-implementation of the selector alone, after the code. As there: raw normalised
    regions, a hidden layer of 64, hard Gumbel-softmax at temperature 0.5 in training and the best
    class in evaluation, a loss of weight 0.001 on uneven use of the classes (mean absolute error).
    Deviations: theirs repeats coarse tokens until every row has as many as the finest cut, and so
    saves none; here a row has the tokens of its cut. So the loss that holds the budget is ours:
    ``hold`` times the squared relative error of the mean number of patches in a batch, once as
    expected under the draw and once at the best classes. A row with more patches than slots joins
    patches of the finest class, first in the regions that are least sure of that class. Theirs
    embeds every region at all sizes, so its gradient compares them; here it reaches the chosen
    class only, through a gain of 1 on its tokens. The last region may be shorter. A straw man? In
    part: as published no token is saved, so that a choice of size costs nothing; the comparison of
    embeddings and the decoder by segments are what its authors would miss. There is no plan that
    is spread evenly: boundaries of a region come together or not at all.
    """

    strict = False
    rules = ("best", "sample")
    authors_rule = "best"
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {
        "temperature": (0.3, 0.5, 1.0),
        "usage": (0.001, 0.01, 0.1),
    }

    starts: Bool[Tensor, "class quarter"]
    counts: Float[Tensor, "region class"]

    def __init__(
        self, task: Task, *, temperature: float = 0.5, usage: float = 0.001, hold: float = 1.0
    ) -> None:
        super().__init__(task)
        self.temperature, self.usage, self.hold = temperature, usage, hold
        self.quarter = max(1, round(task.look_back / task.patches / 2))
        self.regions = math.ceil(task.look_back / (4 * self.quarter))
        # The quarters of a region that start a patch, where it is cut into one, two or four.
        starts = torch.tensor([[1, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]])
        self.register_buffer("starts", starts.bool(), persistent=False)
        there = torch.arange(self.regions * 4) * self.quarter < task.look_back
        counts = there.view(-1, 4).float() @ starts.T.float()
        self.register_buffer("counts", counts, persistent=False)
        self.look, self.classify = nn.Linear(4 * self.quarter, 64), nn.Linear(64, len(starts))
        # Two patches in most regions, and four in half as many regions as one: two on average, so
        # that both training and evaluation begin at K.
        with torch.no_grad():
            self.classify.bias.copy_(torch.tensor([2.0, 4.0, 1.0]).log())

    def forward(self, rows: Rows) -> Patches:
        row, look_back = rows.values.shape
        whole = functional.pad(rows.values, (0, self.regions * 4 * self.quarter - look_back))
        logits = self.logits(whole.view(row, self.regions, -1))
        noisy = logits
        if rows.as_trained:
            draws = rows.uniform(logits[0].numel()).view_as(logits)
            noisy = logits - (-draws.log()).log()
        chosen = noisy.argmax(dim=-1)
        share = (noisy / self.temperature).softmax(dim=-1)

        patches = self.cut(chosen, logits.detach().softmax(dim=-1)[..., 2])
        region = (patches.start // (4 * self.quarter)).clamp_max(self.regions - 1)
        of_chosen = share.gather(2, chosen[..., None])[..., 0].gather(1, region)
        return Patches(
            patches.start,
            patches.length,
            patches.valid,
            gain=1 + (of_chosen - of_chosen.detach()),
            loss=self._loss(logits, share, chosen),
        )

    def logits(
        self, regions: Float[Tensor, "row region step"]
    ) -> Float[Tensor, "row region class"]:
        """How good one patch, two and four of each region look."""
        return self.classify(functional.relu(self.look(regions)))

    def cut(
        self, chosen: Int[Tensor, "row region"], finest: Float[Tensor, "row region"]
    ) -> Patches:
        """Patches from the regions' classes; of too many, those of low ``finest`` are joined."""
        look_back = self.task.look_back
        starts = self.starts[chosen].flatten(1)
        # Starts of regions have the highest priority, then those of halves, then those of other
        # quarters. Rounded, so that equally sure regions tie whatever the size of the batch.
        quarters = finest.round(decimals=4)[..., None].expand(-1, -1, 4).flatten(1) / 2
        priority = torch.where(self.starts[1].repeat(self.regions), 0.5 + quarters / 2, quarters)
        priority[:, ::4] = 1.0
        there = math.ceil(look_back / self.quarter)
        plan = from_marks(starts[:, 1:there], self.slots, priority[:, 1:there])
        start = (plan.start * self.quarter).clamp_max(look_back)
        length = torch.diff(start, append=torch.full_like(start[:, :1], look_back))
        return Patches(start, length, length > 0)

    def _loss(
        self,
        logits: Float[Tensor, "row region class"],
        share: Float[Tensor, "row region class"],
        chosen: Int[Tensor, "row region"],
    ) -> Float[Tensor, ""]:
        drawn = functional.one_hot(chosen, share.shape[-1]) + (share - share.detach())
        usage = (drawn.mean(dim=(0, 1)) - 1 / share.shape[-1]).abs().mean()

        expected = (logits.softmax(dim=-1) * self.counts).sum(dim=(1, 2)).mean()
        # What evaluation will cut, with the gradient of what training cuts on average.
        best = self.counts.expand_as(logits).gather(2, logits.argmax(-1, keepdim=True))
        best = expected + (best.sum(dim=(1, 2)).mean() - expected).detach()
        drift = (torch.stack([expected, best]) / self.task.patches - 1).square().sum()
        return self.usage * usage + self.hold * drift
