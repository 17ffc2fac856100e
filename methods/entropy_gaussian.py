"""Boundaries where the next value is hardest to predict: entropy patching for real values."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from harness import Patcher, Patches, Rows, Task, from_scores, sample_rows


class EntropyGaussian(Patcher):
    """Starts a patch at each of the K - 1 steps that a small causal model is least sure of.

    The model predicts each step as a Gaussian given the steps before it; the differential entropy
    of a Gaussian is its log sigma, up to a constant. It is trained on the training look-backs
    before the forecaster, and never again.

    Source: entropy patching of the Byte Latent Transformer (Pagnoni et al., arXiv 2412.09871), in
    its form without a threshold: the largest entropies, an exact count.

    Fidelity: our design, after reading their code. Bytes have an entropy, real values a density:
    their transformer of 14 layers over bytes becomes four dilated convolutions with a Gaussian
    head, trained in seconds on at most 2,000 look-backs. Step 0 starts a patch, step 1 only if it
    is chosen (in theirs it always does). Scores are causal; the choice among all scores of a row
    is not.
    """

    fixed = True
    pretrained = True

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.model = _Gaussian().requires_grad_(requires_grad=False)

    def prepare(self, rows: Iterable[Float[Tensor, "row time"]]) -> None:
        some = sample_rows(rows, most=2000)
        self.model.requires_grad_(requires_grad=True)
        optimiser = torch.optim.Adam(self.model.parameters(), lr=3e-3)
        for _ in range(3):
            for batch in some[torch.randperm(len(some), device=some.device)].split(32):
                self.model.surprise(batch).backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                optimiser.step()
                optimiser.zero_grad()
        self.model.requires_grad_(requires_grad=False)

    def forward(self, rows: Rows) -> Patches:
        return from_scores(self.log_sigma(rows.values), self.task.patches)

    def log_sigma(self, values: Float[Tensor, "row time"]) -> Float[Tensor, "row step"]:
        """How unsure the model is of each step but the first, given those before it."""
        # In full precision whatever the forecaster's, since half of a row would tie otherwise.
        # Rounded, so that equally hard steps tie whatever the size of the batch.
        with torch.no_grad(), torch.autocast(values.device.type, enabled=False):
            return self.model(values)[1].round(decimals=4)


_STEPS = (3, 9, 27)


class _Gaussian(nn.Module):
    """Mean and log sigma of each step but the first, given the 80 steps before it."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.near = nn.Conv1d(1, width, 3)
        self.far = nn.ModuleList(nn.Conv1d(width, width, 3, dilation=step) for step in _STEPS)
        self.out = nn.Conv1d(width, 2, 1)

    def forward(
        self, values: Float[Tensor, "row time"]
    ) -> tuple[Float[Tensor, "row step"], Float[Tensor, "row step"]]:
        hidden = functional.relu(self.near(functional.pad(values[:, None, :-1], (2, 0))))
        for step, layer in zip(_STEPS, self.far, strict=True):
            hidden = hidden + functional.relu(layer(functional.pad(hidden, (2 * step, 0))))
        mean, raw = self.out(hidden).unbind(1)
        # At least 0.01: a constant stretch has no density.
        return mean, (functional.softplus(raw) + 0.01).log()

    def surprise(self, values: Float[Tensor, "row time"]) -> Float[Tensor, ""]:
        """Negative log-likelihood of a step, without its constant."""
        mean, log_sigma = self(values)
        error = (values[:, 1:] - mean) * (-log_sigma).exp()
        return (log_sigma + error.square() / 2).mean()
