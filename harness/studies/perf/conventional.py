"""The opponent: PatchTST, its data and its scoring as most public code has them.

It computes the same function from the same weights as ours, so that a ratio of times compares two
ways of doing one thing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from harness.run.windows import Windows
from harness.studies.perf.setting import BATCH


class Slices(Dataset[tuple[NDArray[np.float64], NDArray[np.float64]]]):
    """Windows cut one by one out of a numpy table [time, channel], as most loaders do."""

    def __init__(self, some: Windows) -> None:
        self.table = some.values.T.cpu().double().numpy().copy()
        self.look_back, self.horizon, self.count = some.look_back, some.horizon, len(some)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        end = index + self.look_back
        return self.table[index:end], self.table[end : end + self.horizon]


class Conventional(nn.Module):
    """PatchTST with the usual parts: separate projections, convolutions for the feed-forward net.

    The same function as ``methods/patchtst.py`` of weights laid out in another way, in
    [batch, time, channel] as loaders deliver it.
    """

    def __init__(self, ours: Any) -> None:  # noqa: ANN401 - the harness may not import a method
        super().__init__()
        count, width = ours.position.shape
        rate = ours.dropout.dropped / 256
        self.length, self.stride = ours.length, ours.stride
        self.pad = nn.ReplicationPad1d((0, ours.stride))
        self.embed = nn.Linear(ours.length, width)
        self.position = nn.Parameter(torch.empty(count, width))
        self.dropout = nn.Dropout(rate)
        self.layers = nn.ModuleList(ConventionalLayer(layer, rate) for layer in ours.layers)
        self.flatten = nn.Flatten(start_dim=-2)
        self.head = nn.Linear(count * width, ours.task.horizon)

    @classmethod
    def like(cls, ours: nn.Module) -> Conventional:
        """The same model with the same weights."""
        model = cls(ours)
        model.load_state_dict(_renamed(ours.state_dict()))
        return model

    def forward(
        self, past: Float[Tensor, "batch time channel"]
    ) -> Float[Tensor, "batch horizon channel"]:
        mean = past.mean(1, keepdim=True)
        scale = torch.sqrt(torch.var(past, dim=1, keepdim=True, unbiased=False) + 1e-5)
        normal = ((past - mean) / scale).permute(0, 2, 1)
        patches = self.pad(normal).unfold(dimension=-1, size=self.length, step=self.stride)
        batch, channel, count, length = patches.shape
        token = self.embed(patches.reshape(batch * channel, count, length))
        token = self.dropout(token + self.position)
        scores = None
        for layer in self.layers:
            token, scores = layer(token, scores)
        token = token.reshape(batch, channel, count, -1).permute(0, 1, 3, 2)
        future = self.head(self.flatten(token))
        return future.permute(0, 2, 1) * scale + mean


class ConventionalLayer(nn.Module):
    """Attention, then convolutions of width 1 as feed-forward net; transposes at batch norms."""

    def __init__(self, ours: Any, rate: float) -> None:  # noqa: ANN401 - as above
        super().__init__()
        width, hidden = ours.widen.in_features, ours.widen.out_features
        self.heads = ours.heads
        self.query, self.key, self.value, self.join = (nn.Linear(width, width) for _ in range(4))
        self.widen = nn.Conv1d(width, hidden, kernel_size=1)
        self.narrow = nn.Conv1d(hidden, width, kernel_size=1)
        self.norm_attention, self.norm_feedforward = nn.BatchNorm1d(width), nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(rate)

    def forward(
        self,
        token: Float[Tensor, "row patch width"],
        below: Float[Tensor, "row head patch patch"] | None,
    ) -> tuple[Float[Tensor, "row patch width"], Float[Tensor, "row head patch patch"]]:
        row, patch, width = token.shape
        query = self.query(token).view(row, patch, self.heads, -1).transpose(1, 2)
        key = self.key(token).view(row, patch, self.heads, -1).permute(0, 2, 3, 1)
        value = self.value(token).view(row, patch, self.heads, -1).transpose(1, 2)
        scores = torch.matmul(query, key) * (width // self.heads) ** -0.5
        if below is not None:
            scores = scores + below
        mixed = torch.matmul(torch.softmax(scores, dim=-1), value)
        mixed = self.join(mixed.transpose(1, 2).contiguous().view(row, patch, width))
        token = token + self.dropout(mixed)
        token = self.norm_attention(token.transpose(1, 2)).transpose(1, 2)
        hidden = self.dropout(nn.functional.gelu(self.widen(token.transpose(1, 2))))
        token = token + self.dropout(self.narrow(hidden).transpose(1, 2))
        return self.norm_feedforward(token.transpose(1, 2)).transpose(1, 2), scores


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if "query_key_value" in name:
            thirds = zip(("query", "key", "value"), value.chunk(3), strict=True)
            renamed |= {name.replace("query_key_value", part): third for part, third in thirds}
        elif name.endswith(("widen.weight", "narrow.weight")):
            renamed[name] = value[..., None]
        else:
            renamed[name] = value
    return renamed


def conventional_error(model: nn.Module, some: Windows, device: str) -> float:
    """Mean squared error over the windows: all forecasts to numpy first, then the mean."""
    model.eval()
    outputs, targets = [], []
    with torch.no_grad():
        for past, future in DataLoader(Slices(some), BATCH):
            outputs.append(model(past.float().to(device)).cpu().numpy())
            targets.append(future.numpy())
    return float(np.mean((np.concatenate(outputs) - np.concatenate(targets)) ** 2))
