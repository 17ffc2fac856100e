"""EntroPE's rule: boundaries where a frozen language model of quantised values is unsure."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from harness import Patcher, Patches, Rows, Task, from_marks, from_scores, sample_rows


class Entrope(Patcher):
    """Starts a patch after each step whose successor a small GPT finds hardest to predict.

    The GPT reads each step of the row as one of 256 bins; its entropy at t rates a boundary at
    t + 1. ``rule`` "quantile" takes the entropies above a quantile of the row's own, which gives K
    patches unless there are ties; "topk" takes exactly the K - 1 largest.

    Source: EntroPE (Abeywickrama et al., arXiv 2509.26157) and its code.

    Fidelity: re-implementation of where it cuts, after the code. As there: scaling by the mean of
    absolute values, uniform bins between the 2.5 % and 97.5 % quantiles of the training part, a
    GPT of 2 layers, width 32 and 4 heads with tied embeddings, a quantile per row. The GPT is
    causal; the scaling and the quantile are of the whole row. Deviations: the quantile is set by
    K, not searched; a limit on the length of a patch, which changes the count after the decision,
    is left out; the range of the bins is that of the scaled rows (theirs: of rows before scaling);
    all 256 bins are values (theirs keeps 5 for special tokens). The GPT sees 262,144 steps once,
    at five times their learning rate and without dropout (theirs: up to 50 epochs). In rows of 96
    steps, the length of theirs, a layer sees all steps before; in longer ones, the same block of
    32 steps and the two blocks before it (theirs starts anew every 96 steps). Its embedder,
    cross-attention and decoder at full resolution are not part of the rule. A straw man? Of the
    model, yes: its head reads every step, which no patcher here may. Of the rule, hardly: the GPT
    is trained for less long, and their quantile is searched where ours follows from K.
    """

    strict = False
    fixed = True
    pretrained = True

    limits: Tensor

    def __init__(self, task: Task, *, rule: str = "quantile") -> None:
        super().__init__(task)
        if rule not in {"quantile", "topk"}:
            raise ValueError(f"rule is {rule!r}; allowed: quantile, topk")
        self.rule = rule
        self.register_buffer("limits", torch.tensor([-2.0, 2.0]))
        self.model = _GPT(task.look_back).requires_grad_(requires_grad=False)

    @property
    def slots(self) -> int:
        """K: neither rule can ask for more."""
        return self.task.patches

    def prepare(self, rows: Iterable[Float[Tensor, "row time"]]) -> None:
        look_back = self.task.look_back
        some = sample_rows(rows, most=2**18 // look_back)
        scaled, _ = _scaled(some).flatten().sort()
        for index, share in enumerate((0.025, 0.975)):
            self.limits[index] = scaled[round(share * (len(scaled) - 1))]

        tokens = self._tokens(some[torch.randperm(len(some), device=some.device)])
        batches = tokens.split(max(1, 2048 // look_back))
        self.model.requires_grad_(requires_grad=True)
        optimiser = torch.optim.AdamW(self.model.parameters(), lr=5e-3, weight_decay=0.05)
        for batch in batches:
            self.model.surprise(batch).backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
        self.model.requires_grad_(requires_grad=False)

    def forward(self, rows: Rows) -> Patches:
        entropy = self.entropy(rows.values)
        if self.rule == "topk":
            return from_scores(entropy, self.task.patches)
        rank = max(1, self.task.look_back - self.task.patches)
        level = entropy.kthvalue(rank, dim=1, keepdim=True).values
        return from_marks(entropy > level, self.slots, entropy / math.log(_BINS))

    def entropy(self, values: Float[Tensor, "row time"]) -> Float[Tensor, "row step"]:
        """Entropy in nats of what comes at each step but the first."""
        # In parts, since each step needs a probability for each bin.
        parts = self._tokens(values)[:, :-1].split(max(1, 4096 // self.task.look_back))
        with torch.no_grad(), torch.autocast(values.device.type, enabled=False):
            return torch.cat([_entropy(self.model(part)) for part in parts])

    def _tokens(self, values: Float[Tensor, "row time"]) -> Int[Tensor, "row time"]:
        low, high = self.limits
        place = (_scaled(values) - low) / (high - low).clamp_min(1e-6)
        return (place * _BINS).long().clamp(0, _BINS - 1)


_BINS = 256


class _GPT(nn.Module):
    """Logits of the next bin, from the bins so far."""

    def __init__(self, look_back: int, width: int = 32, layers: int = 2) -> None:
        super().__init__()
        self.token = nn.Embedding(_BINS, width)
        self.place = nn.Parameter(torch.zeros(look_back, width))
        self.layers = nn.ModuleList(_Layer(width) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.place, std=0.02)

    def forward(self, tokens: Int[Tensor, "row time"]) -> Float[Tensor, "row time bin"]:
        hidden = self.token(tokens) + self.place[: tokens.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden)
        return functional.linear(self.norm(hidden), self.token.weight)

    def surprise(self, tokens: Int[Tensor, "row time"]) -> Float[Tensor, ""]:
        """Mean negative log-likelihood of all bins but the first, in nats."""
        logits = self(tokens[:, :-1])
        return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


class _Layer(nn.Module):
    """Pre-norm transformer layer; a step sees those before it in its block and the two before."""

    block = 32

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.norm_feedforward = nn.LayerNorm(width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, hidden: Float[Tensor, "row time width"]) -> Float[Tensor, "row time width"]:
        hidden = hidden + self.join(self._attend(self.norm_attention(hidden)))
        return hidden + self.feedforward(self.norm_feedforward(hidden))

    def _attend(self, hidden: Tensor) -> Float[Tensor, "row time width"]:
        row, time, width = hidden.shape
        blocks = math.ceil(time / self.block)
        packed = functional.pad(
            self.query_key_value(hidden), (0, 0, 0, blocks * self.block - time)
        )
        packed = packed.view(row, blocks, self.block, 3, self.heads, -1).transpose(2, 4)
        query, key, value = packed.unbind(3)  # [row, block, head, step, feature]
        near = [functional.pad(each, (0, 0, 0, 0, 0, 0, 2, 0)) for each in (key, value)]
        key, value = (torch.cat([each[:, i : i + blocks] for i in range(3)], 3) for each in near)

        step = torch.arange(self.block, device=hidden.device)
        seen = torch.arange(-2 * self.block, self.block, device=hidden.device)
        first = torch.arange(blocks, device=hidden.device)[:, None, None] * self.block
        mask = (seen <= step[:, None]) & (seen + first >= 0)
        # Rows and blocks on one axis: with an axis more, torch leaves its fused kernel.
        query, key, value = (each.flatten(0, 1) for each in (query, key, value))
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask.repeat(row, 1, 1)[:, None]
        )
        mixed = mixed.view(row, blocks, self.heads, self.block, -1).transpose(2, 3)
        return mixed.reshape(row, -1, width)[:, :time]


def _scaled(values: Float[Tensor, "row time"]) -> Float[Tensor, "row time"]:
    """Each row divided by the mean of its absolute values, unless it is 0."""
    scale = values.abs().mean(dim=1, keepdim=True)
    return values / torch.where(scale > 0, scale, 1.0)


def _entropy(logits: Float[Tensor, "*any bin"]) -> Float[Tensor, "*any"]:
    logits = logits - logits.amax(dim=-1, keepdim=True)
    odds = logits.exp()
    total = odds.sum(dim=-1)
    # If the model is certain, rounding may leave it just below 0.
    return (total.log() - (odds * logits).sum(dim=-1) / total).clamp_min(0)
