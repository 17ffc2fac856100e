"""Kairos' mixture of sizes: parent patches, each halved as often as the finest expert chosen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from harness import Patcher, Patches, Rows, Task, from_marks, sample_rows


class Kairos(Patcher):
    """Routes each parent patch to experts of three sizes and cuts it to the finest size chosen.

    A parent is as long as two mean patches. A linear router scores, from its values, experts for
    the whole parent, for halves and for quarters, and ``idle`` experts that stand for no size. The
    best ``active`` of them are chosen; the parent is cut to the finest size among them, or left
    whole where there is none. There is no loss beside that of the forecast: each size has a bias,
    which moves by ``bias_rate`` times how far the share of parents cut to that size falls short of
    its target. The targets are the mix of sizes of largest entropy that makes K patches a row on
    average. So the number of patches is K on average over the training rows only: a row may have
    half as many, or as many as there are slots.

    Source: Kairos (Feng et al., arXiv 2509.25826), its abstract and its published inference code:
    the linear router without a hidden layer, experts of no size, three sizes that halve, the
    choice of the finest, gates that are a softmax over score and bias, shared out over the chosen,
    and the moving bias.

    Fidelity: re-implementation after the code, in which neither training nor the settings of the
    published models could be found; ``idle`` is the one that a port of its checkpoints falls back
    on, whose ``active`` is 3. Theirs embeds a patch once for each size chosen, and adds these up
    by their gates, so that its gradient compares sizes. Here the shared embedder reads the patch
    alone; the gradient is that of reading the mean of the stretches chosen, weighted by the gates,
    times the sum of the gates, taken where it is the patch itself. Deviations: their bias follows
    shares of gates, its targets are given and it also moves in evaluation, at a rate of 0.001;
    here it follows shares of parents, is fitted to K before training, and rests in evaluation.
    Parents are the length of a row over K, times two, not 128. Of more patches than slots, halves
    and quarters of the least probable parents are joined. The last parent may be shorter. Defaults
    are those of least validation error (budget of quickstart, seed 1) on `ordinal`, and on
    `electric_devices`: ``active`` 2 at pace 5 .866 and 2.935; 3 at pace 5 .887 and 3.007; at pace
    1 2 .900 and 2.986, 3 .892 and 2.962, and with a ``bias_rate`` of .1 .905 and 2.969. Equal
    patches have .867 and 2.862. A second seed agrees. A straw man? In part: its authors would miss
    their embedding of several sizes, and hundreds of billions of steps of training.
    """

    strict = False
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {
        "active": (2, 3),
        "bias_rate": (0.01, 0.03, 0.1),
        "pace": (1.0, 5.0),
    }

    starts: Bool[Tensor, "size quarter"]
    target: Float[Tensor, " size"]
    bias: Float[Tensor, " expert"]

    def __init__(
        self,
        task: Task,
        *,
        active: int = 2,
        idle: int = 2,
        bias_rate: float = 0.03,
        pace: float = 5.0,
    ) -> None:
        super().__init__(task)
        # The quarters of a parent that start a patch, where it is whole, halved, or halved twice.
        starts = torch.tensor([[1, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]]).bool()
        if not 1 <= active <= len(starts) + idle:
            raise ValueError(f"active is {active!r}; 1 to {len(starts) + idle} experts are there")
        self.active, self.bias_rate, self.pace = active, bias_rate, pace
        self.quarter = max(1, round(task.look_back / task.patches / 2))
        self.parents = math.ceil(task.look_back / (4 * self.quarter))
        self.register_buffer("starts", starts, persistent=False)
        there = (torch.arange(self.parents * 4) * self.quarter < task.look_back).view(-1, 4)
        counts = (there[:, None] & starts).sum(-1).double().sum(0)
        self.register_buffer("target", size_mix(counts, task.patches), persistent=False)
        self.route = nn.Linear(4 * self.quarter, len(starts) + idle, bias=False)
        self.register_buffer("bias", torch.zeros(len(starts) + idle))

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters()), "lr": self.pace * learning_rate}]

    def prepare(self, rows: Iterable[Float[Tensor, "_ time"]]) -> None:
        """Move the bias until the untrained router cuts training rows to K patches on average."""
        values = sample_rows(rows, 2048)
        with torch.no_grad():
            score = self.route(self._whole_parents(values))
            for step in range(300):
                size = self._chosen(score)[2]
                self._balance(size, rate=2 / (1 + step / 10))

    def forward(self, rows: Rows) -> Patches:
        score = self.route(self._whole_parents(rows.values)).to(rows.values.dtype)
        expert, gate, size = self._chosen(score)
        patches = self._cut(size, (gate.detach() * (expert == size[..., None])).sum(-1))
        if rows.generator is None:
            return patches
        self._balance(size, self.bias_rate)
        gain, spans = self._reading(patches, expert, gate)
        return Patches(patches.start, patches.length, patches.valid, gain=gain, spans=spans)

    def _whole_parents(
        self, values: Float[Tensor, "row time"]
    ) -> Float[Tensor, "row parent step"]:
        missing = self.parents * 4 * self.quarter - values.shape[1]
        return functional.pad(values, (0, missing)).unflatten(1, (self.parents, -1))

    def _chosen(
        self, score: Float[Tensor, "row parent expert"]
    ) -> tuple[
        Int[Tensor, "row parent active"],
        Float[Tensor, "row parent active"],
        Int[Tensor, "row parent"],
    ]:
        """The experts chosen for each parent, their gates, and the size it is cut to."""
        share, expert = (score + self.bias).softmax(-1).topk(self.active, dim=-1)
        size = torch.where(expert < len(self.starts), expert, 0).amax(-1)
        return expert, share / share.sum(-1, keepdim=True), size

    @torch.no_grad()
    def _balance(self, size: Int[Tensor, "row parent"], rate: float) -> None:
        """Raise the bias of sizes that too few parents are cut to, and lower the others."""
        share = functional.one_hot(size, len(self.starts)).float().mean((0, 1))
        self.bias[: len(self.starts)] += rate * (self.target - share)

    def _cut(self, size: Int[Tensor, "row parent"], sure: Float[Tensor, "row parent"]) -> Patches:
        """Patches from the sizes of parents; of too many, those of low ``sure`` are joined."""
        look_back = self.task.look_back
        # Starts of parents have the highest priority, then those of halves, then those of other
        # quarters. Rounded, so that equally sure parents tie whatever the size of the batch.
        quarters = sure.round(decimals=4)[..., None].expand(-1, -1, 4).flatten(1) / 2
        priority = torch.where(self.starts[1].repeat(self.parents), 0.5 + quarters / 2, quarters)
        priority[:, ::4] = 1.0
        there = math.ceil(look_back / self.quarter)
        marks = self.starts[size].flatten(1)
        plan = from_marks(marks[:, 1:there], self.slots, priority[:, 1:there])
        start = (plan.start * self.quarter).clamp_max(look_back)
        length = torch.diff(start, append=torch.full_like(start[:, :1], look_back))
        return Patches(start, length, length > 0)

    def _reading(
        self,
        patches: Patches,
        expert: Int[Tensor, "row parent active"],
        gate: Float[Tensor, "row parent active"],
    ) -> tuple[Float[Tensor, "row patch"], Float[Tensor, "row two patch"]]:
        """Gain 1 and the stretch of each patch, with the gradient of all sizes chosen for it."""
        parent = (patches.start // (4 * self.quarter)).clamp_max(self.parents - 1)
        index = parent[..., None].expand(-1, -1, self.active)
        expert, gate = expert.gather(1, index), gate.gather(1, index)
        gate = gate * (expert < len(self.starts))
        gain = gate.sum(-1)
        # The half or the whole parent around a patch, where these were chosen too.
        long = (4 * self.quarter) >> expert.clamp_max(len(self.starts) - 1)
        first = patches.start[..., None] // long * long
        begin = torch.minimum(first, patches.start[..., None])
        end = (first + long).clamp_max(self.task.look_back)
        end = torch.maximum(end, patches.end[..., None])
        share = gate / gain.clamp_min(1e-6)[..., None]
        exact = torch.stack([patches.start, patches.end], dim=1).to(gate.dtype)
        read = torch.stack([(share * begin).sum(-1), (share * end).sum(-1)], dim=1)
        return 1 + (gain - gain.detach()), exact + (read - read.detach())


def size_mix(counts: Float[Tensor, " size"], patches: int) -> Float[Tensor, " size"]:
    """Shares of the sizes that make ``patches`` on average, of largest entropy.

    ``counts`` are the patches of a row all of whose parents are cut to one size, in ascending
    order. Where no mix makes so many, or so few, it is the nearest.
    """
    low, high = -50.0, 50.0
    scaled = (counts - counts[0]) / (counts[-1] - counts[0]).clamp_min(1)
    for _ in range(60):
        middle = (low + high) / 2
        many = float((middle * scaled).softmax(0) @ counts) > patches
        low, high = (low, middle) if many else (middle, high)
    return (low * scaled).softmax(0).float()
