"""The only module that slices time: splits, scaling, windows, and one gather for each batch.

Training and validation come from :func:`development`, whose tensors end where the test part
begins; the test windows from :func:`test`, which only evaluation calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from harness.core.task import Task
from harness.data import TEST_WINDOWS, Series, is_constant


@dataclass(frozen=True)
class Batch:
    """Some windows: standardised past and future, stable row ids, true boundaries if known."""

    past: Float[Tensor, "batch channel time"]
    future: Float[Tensor, "batch channel horizon"]
    ids: Int[Tensor, "batch channel"]
    truth: Bool[Tensor, "batch time"] | None


@dataclass(frozen=True)
class Windows:
    """Windows over one resident tensor, ``values`` [channel, time], already standardised.

    ``starts`` are the first steps of the windows in ``values``, ``offset`` the place of step 0 in
    the whole series (row ids count from there). ``mean`` and ``scale`` [channel] lead back to
    original units. ``marks`` are the true boundaries, ``margin`` the steps by which they may be
    off where people set them.
    """

    values: Float[Tensor, "channel time"]
    starts: Int[Tensor, " window"]
    look_back: int
    horizon: int
    offset: int
    mean: Float64[Tensor, " channel"]
    scale: Float64[Tensor, " channel"]
    marks: Bool[Tensor, " time"] | None = None
    margin: int | None = None

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def channels(self) -> int:
        return self.values.shape[0]

    @property
    def at_once(self) -> int:
        """Windows in one forward pass without gradients."""
        # Enough rows to fill a GPU, few enough for the cache of a CPU core.
        rows = 512 if self.values.device.type == "cpu" else 16384
        return max(1, rows // self.channels)

    @cached_property
    def _all(self) -> Float[Tensor, "channel start step"]:
        return self.values.unfold(1, self.look_back + self.horizon, 1)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """The windows numbered ``index``: one gather."""
        start = self.starts[index]
        steps = self._all[:, start].transpose(0, 1)
        numbers = (start + self.offset)[:, None] * self.channels
        return Batch(
            past=steps[..., : self.look_back],
            future=steps[..., self.look_back :],
            ids=numbers + torch.arange(self.channels, device=start.device),
            truth=None if self.marks is None else self.marks.unfold(0, self.look_back, 1)[start],
        )

    def spread(self, most: int | None) -> Windows:
        """At most so many of these windows, evenly spaced; all of them for None."""
        if most is None:
            return self
        return replace(
            self, starts=self.starts[evenly_spaced(len(self), most, self.starts.device)]
        )

    def batches(self, size: int) -> Iterator[Batch]:
        """Every window once, in order, ``size`` at a time; the last batch may be smaller."""
        for first in range(0, len(self), size):
            last = min(first + size, len(self))
            yield self.batch(torch.arange(first, last, device=self.starts.device))


def development(series: Series, task: Task, device: str = "cpu") -> tuple[Windows, Windows]:
    """Training and validation windows; nothing at or after the test border is in their memory.

    Raises:
        ValueError: a part too short for one window, a constant channel, or planted windows of
            another size.
    """
    series.outline.require_room(task)
    train, valid, _ = series.borders
    fitted = _cut(series, task, 0, train, device)
    return fitted, _cut(series, task, train - task.look_back, valid, device)


def test(series: Series, task: Task, device: str = "cpu") -> Windows:
    """Every test window, stride 1; the look-back reaches back over the border.

    Raises:
        ValueError: as in :func:`development`, or a count other than the protocol's.
    """
    series.outline.require_room(task)
    _, valid, end = series.borders
    windows = _cut(series, task, valid - task.look_back, end, device)
    expected = TEST_WINDOWS.get(series.name, {}).get(task.horizon, len(windows))
    if len(windows) != expected:
        raise ValueError(
            f"{series.name} has {len(windows)} test windows at horizon {task.horizon};"
            f" the protocol has {expected}"
        )
    return windows


def evenly_spaced(count: int, most: int, device: torch.device) -> Int[Tensor, " number"]:
    """At most ``most`` of the numbers from 0 to ``count`` - 1, evenly spaced, 0 first."""
    chosen = min(count, most)
    return torch.arange(chosen, device=device) * count // chosen


def standard(series: Series) -> tuple[Float64[Tensor, " channel"], Float64[Tensor, " channel"]]:
    """Mean and standard deviation (by n) of each channel over the training part only."""
    train = torch.from_numpy(series.values[: series.borders[0]].copy())
    if not series.standardise:
        return torch.zeros_like(train[0]), torch.ones_like(train[0])
    if (constant := is_constant(train.numpy())).any():
        name = series.channels[int(constant.argmax())]
        raise ValueError(
            f"channel {name!r} of {series.name} is constant over the training part, up to"
            " rounding: it has no scale; leave it out or move the borders"
        )
    return train.mean(dim=0), train.std(dim=0, correction=0)


def _cut(series: Series, task: Task, first: int, end: int, device: str) -> Windows:
    size = task.look_back + task.horizon
    if series.episode is not None or series.joins is not None:
        first += 0 if first == 0 else task.look_back
    stride = series.episode or 1
    starts = torch.arange(0, end - first - size + 1, stride)
    if series.joins is not None:
        starts = starts[_are_whole(starts + first, size, series)]
    mean, scale = standard(series)
    # A copy, not a view: the storage holds this part and nothing after it.
    part_values = (torch.from_numpy(series.values[first:end].copy()) - mean) / scale
    marks = None
    if series.boundaries is not None:
        marks = torch.zeros(end - first, dtype=torch.bool)
        inside = series.boundaries[(series.boundaries >= first) & (series.boundaries < end)]
        marks[torch.from_numpy(inside) - first] = True
        marks = marks.to(device)
    return Windows(
        values=part_values.T.to(device, torch.float32).contiguous(),
        starts=starts.to(device),
        look_back=task.look_back,
        horizon=task.horizon,
        offset=first,
        mean=mean.to(device),
        scale=scale.to(device),
        marks=marks,
        margin=series.margin,
    )


def _are_whole(
    starts: Int[Tensor, " window"], size: int, series: Series
) -> Bool[Tensor, " window"]:
    """Whether no other series begins inside a window."""
    joins = torch.tensor([*(series.joins or ()), len(series.values)])
    return starts + size <= joins[torch.searchsorted(joins, starts, side="right")]
