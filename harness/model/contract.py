"""What has to hold of the patches of every method, in every run.

A method that cuts more often than it may, or leaves out a part of a row, cannot be compared with
others. The conditions are cheap; they are added up on the device and read once.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor

from harness.model.patcher import Patcher, Patches


class ContractError(ValueError):
    """Patches that break the contract: what of them, where, and what is allowed."""


def shape_of(patches: object, patcher: Patcher, rows: int) -> str:
    """What is wrong with type, shapes and dtypes of what a patcher returned; "" if nothing.

    ``rows`` is the number of rows it was given; in training it returns each as often as it draws.
    """
    if not isinstance(patches, Patches):
        return f"it returned {type(patches).__name__}; Patches are needed"
    given, rows = rows, rows * (patcher.draws if patcher.training else 1)
    slots, cap = patcher.slots, Patcher.slots.fget(patcher)  # type: ignore[attr-defined]  # of the base class: what is allowed
    if slots > cap and not patcher.free_count:
        return f"it has {slots} slots; at most {cap} are allowed"
    steps, whole, real = patcher.task.look_back, ("int64",), ("float32", "float64", "bfloat16")
    expected: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
        "start": ((rows, slots), whole),
        "length": ((rows, slots), whole),
        "valid": ((rows, slots), ("bool",)),
        "edges": ((rows, slots + 1), real),
        "spans": ((rows, 2, slots), real),
        "weight": ((rows, steps), real),
        "gain": ((rows, slots), real),
        "gate": ((rows, slots), real),
        "confidence": ((rows, steps), real),
        "log_prob": ((rows,), real),
        "judged": ((min(given, _length(patches.judged)),), whole),
        "loss": ((), real),
    }
    for name, (shape, kinds) in expected.items():
        value = getattr(patches, name)
        if value is None and name not in ("start", "length", "valid"):
            continue
        if not isinstance(value, Tensor):
            return f"{name} is {type(value).__name__}, not a tensor"
        kind = str(value.dtype).removeprefix("torch.")
        if tuple(value.shape) != shape or kind not in kinds:
            return f"{name} is {kind} {list(value.shape)}, not {kinds[0]} {list(shape)}"
    return ""


def _length(value: object) -> int:
    """Of a tensor with one axis; of anything else more than there can be."""
    return len(value) if isinstance(value, Tensor) and value.dim() == 1 else sys.maxsize


def breaches(patches: Patches, patcher: Patcher) -> dict[str, Bool[Tensor, " row"]]:
    """The rows that break each condition, by words that say what is wrong with them."""
    task = patcher.task
    last = torch.full_like(patches.start[:, :1], task.look_back)
    following = torch.cat([patches.start[:, 1:], last], dim=1)
    found = {
        "no patch that counts": ~patches.valid.any(1),
        "a first patch that does not start at 0": patches.start[:, 0] != 0,
        "a gap or an overlap": (patches.end != following).any(1),
        "an empty patch that counts": (patches.valid & (patches.length < 1)).any(1),
        "a slot with steps that does not count": (~patches.valid & (patches.length != 0)).any(1),
    }
    if patcher.strict:
        count = _count(patcher)
        found[f"a number of patches other than {count}"] = patches.valid.sum(dim=1) != count
    if patches.edges is not None:
        whole = torch.cat([patches.start, patches.end[:, -1:]], dim=1)
        far = ((patches.edges.detach() - whole).abs() > 1).any(1)
        found["edges more than a step from its boundaries"] = far
    for name in ("edges", "spans", "weight", "gain", "gate", "confidence", "log_prob"):
        value: Tensor | None = getattr(patches, name)
        if value is not None:
            finite = value.detach().isfinite().view(len(value), -1).all(1)
            found[f"numbers in {name} that are not finite"] = ~finite
    return found


def _count(patcher: Patcher) -> int:
    """How many patches a row may have, or has to have."""
    if patcher.strict and not patcher.free_count:
        return patcher.task.patches
    return patcher.slots


class Watch:
    """Holds patchers to their contract over many batches, without waiting for the device."""

    def __init__(self) -> None:
        self._rows: Counter[Patcher] = Counter()
        self._broken: dict[tuple[Patcher, str], Tensor] = {}

    def see(self, patches: object, patcher: Patcher, rows: int) -> None:
        """Take in what the patcher made of so many rows.

        Raises:
            ContractError: another type, shape or dtype than allowed.
        """
        wrong = shape_of(patches, patcher, rows)
        if wrong:
            raise ContractError(f"{type(patcher).__name__}: {wrong}")
        assert isinstance(patches, Patches)
        for what, broken in breaches(patches.detached(), patcher).items():
            count, key = broken.sum(), (patcher, what)
            self._broken[key] = self._broken[key] + count if key in self._broken else count
        self._rows[patcher] += len(patches.start)

    def verify(self, where: str) -> None:
        """Wait for the device, once, and complain of the first condition that was broken.

        Raises:
            ContractError: rows that break it.
        """
        if not self._broken:
            return
        counts = torch.stack(list(self._broken.values())).tolist()
        for (patcher, what), count in zip(self._broken, counts, strict=True):
            if count:
                budget = f"{'exactly' if patcher.strict else 'at most'} {_count(patcher)}"
                raise ContractError(
                    f"{type(patcher).__name__} broke the contract of patchers {where}: {count} of"
                    f" {self._rows[patcher]} rows have {what}; allowed are {budget} patches that"
                    f" cover the {patcher.task.look_back} steps of a row once each"
                )


@runtime_checkable
class Watched(Protocol):
    """A forecaster whose ``watch`` looks at all patches while it is set."""

    watch: Watch | None


@contextmanager
def watching(model: Watched, where: str) -> Iterator[None]:
    """Hold the patchers of the model to their contract here; ``where`` are words for an error.

    Raises:
        ContractError: on the way out, or at once where a shape is wrong.
    """
    watch = Watch()
    outer, model.watch = model.watch, watch
    try:
        yield
    except Exception:
        watch.verify(where)  # the cause, if it is this, is what to tell
        raise
    finally:
        model.watch = outer
    watch.verify(where)
