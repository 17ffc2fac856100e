"""Any change-point detector of ruptures or sktime, made to give exactly K patches."""

from __future__ import annotations

import inspect
import pkgutil
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any, ClassVar, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray

from harness import Patcher, Patches, Rows, Task, from_starts

Row = NDArray[np.float64]
Find = Callable[[Row, int], Sequence[int]]
"""Change points of a row, as first steps of segments, given how many are wanted."""


class Detector(Patcher):
    """Starts patches at the change points that a published detector finds in the row.

    ``detector`` is a class by name: ``ruptures.Binseg``, ``BottomUp``, ``Window``, ``Dynp``,
    ``KernelCPD`` or ``Pelt``, or any change-point detector of sktime that has a penalty or a
    threshold, such as ``sktime.SeededBinarySegmentation``. Detectors that can be asked for a
    number of change points are asked for K - 1. Others are run with one penalty after another, by
    bisection, until they give K - 1, which is not always possible. Of too many change points the
    weakest are then dropped, one at a time: those whose removal adds least to the squared error
    around the means of segments. Where there are too few, the longest patch is cut in half until
    there are K.

    ``cost`` is the detector's own name for what it minimises (of ruptures only; "l2" is the
    squared error around the mean), ``window`` the steps that a detector with a window compares.
    Boundaries may lie at any step, and a patch may be as short as one step.

    It works row by row on the CPU. For 1,000 rows of 512 steps and 32 patches, one core takes 2 s
    with ``Binseg``, 1 with ``Window``, 5 with ``KernelCPD`` and 11 with ``BottomUp``, but 340 with
    ``Pelt``: where the least squared error is wanted, ``KernelCPD`` finds it for K patches. Of
    sktime, ``MovingWindow`` takes 40 s, binary segmentations nearly an hour: for small data only.

    Source: ruptures (Truong, Oudre, Vayatis, Signal Processing 2020); sktime (Loening et al.,
    arXiv 1909.07872).

    Fidelity: code, called as it is installed, with two changes. The squared error of a segment
    comes from running sums, which gives the same number about forty times as fast. Exactly K
    patches, as said above, are ours. With the default, binary segmentation, neither bisection nor
    filling up is ever needed.
    """

    fixed = True
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {
        "detector": ("ruptures.Binseg", "ruptures.BottomUp", "ruptures.KernelCPD"),
    }

    def __init__(
        self,
        task: Task,
        *,
        detector: str = "ruptures.Binseg",
        cost: str = "l2",
        window: int = 16,
    ) -> None:
        super().__init__(task)
        library, _, name = detector.partition(".")
        if library not in _LIBRARIES or not name:
            raise ValueError(
                f"detector is {detector!r}; a class of ruptures or of sktime is needed, such as"
                " ruptures.Binseg or sktime.SeededBinarySegmentation"
            )
        if window < 2:
            raise ValueError(f"window is {window}; 2 steps or more are needed")
        self.find: Find = _LIBRARIES[library](name, cost, min(window, task.look_back // 2))

    def forward(self, rows: Rows) -> Patches:
        look_back, patches = rows.values.shape[1], self.task.patches
        values = rows.values.cpu().double().numpy()
        starts = [exactly(self.find(row, patches - 1), row, patches) for row in values]
        return from_starts(torch.tensor(starts, device=rows.values.device), look_back)


def exactly(found: Sequence[int], row: Row, patches: int) -> list[int]:
    """The starts of K patches: the strongest change points, or all and the longest patches cut."""
    starts = [0, *sorted({int(step) for step in found if 0 < step < len(row)})]
    total = np.concatenate([[0.0], row.cumsum()])
    while len(starts) > patches:
        edge = np.array([*starts, len(row)])
        length, mean = np.diff(edge), np.diff(total[edge]) / np.diff(edge)
        left, right = length[:-1], length[1:]
        added = np.diff(mean) ** 2 * left * right / (left + right)
        del starts[1 + int(added.argmin())]
    while len(starts) < patches:
        length = np.diff([*starts, len(row)])
        longest = int(length.argmax())
        starts.insert(longest + 1, starts[longest] + int(length[longest]) // 2)
    return starts


def by_bisection(detect: Callable[[float], Sequence[int]], wanted: int) -> Sequence[int]:
    """Change points under the penalty that gives ``wanted``; else the fewest that are too many.

    If no penalty gives so many, they are as many as there are.
    """
    penalty, low, high, best = 1.0, 0.0, np.inf, None
    most: Sequence[int] = []
    for _ in range(_TRIES):
        found = detect(penalty)
        if len(found) == wanted:
            return found
        if len(found) > wanted:
            low = penalty
            best = found if best is None or len(found) < len(best) else best
        else:
            high = penalty
            most = found if len(found) > len(most) else most
        if low == 0:
            penalty = high / 8
        elif high == np.inf:
            penalty = low * 8
        else:
            penalty = (low * high) ** 0.5
        if not _LEAST < penalty < 1 / _LEAST or high / max(low, _LEAST) < 1 + _LEAST:
            break
    return most if best is None else best


_TRIES = 30
_LEAST = 1e-6


# --- ruptures ------------------------------------------------------------------------------------


def _of_ruptures(name: str, cost: str, window: int) -> Find:
    try:
        import ruptures
    except ImportError as error:
        raise ValueError("ruptures is not installed; `pip install ruptures` brings it") from error

    kinds = [ruptures.Binseg, ruptures.BottomUp, ruptures.Window]
    kinds += [ruptures.Dynp, ruptures.KernelCPD, ruptures.Pelt]
    known = {kind.__name__: kind for kind in kinds}
    if name not in known:
        raise ValueError(f"ruptures has no detector {name!r}; known: {', '.join(known)}")
    squared = _squared_error(ruptures.base.BaseCost)
    kernels = {"l2": "linear"}

    def settings() -> dict[str, Any]:
        own: dict[str, Any] = {"min_size": 1, "jump": 1}
        if name == "KernelCPD":
            return own | {"kernel": kernels.get(cost, cost)}
        own |= {"custom_cost": squared()} if cost == "l2" else {"model": cost}
        return own | ({"width": window} if name == "Window" else {})

    def find(row: Row, wanted: int) -> Sequence[int]:
        if wanted == 0:
            return []
        model = known[name](**settings()).fit(row)
        # The last one that ruptures gives is the end of the row.
        if name == "Pelt":
            return by_bisection(lambda penalty: model.predict(pen=penalty)[:-1], wanted)
        return [int(step) for step in model.predict(n_bkps=wanted)[:-1]]

    try:
        find(_step(), 1)
    except Exception as error:
        raise ValueError(f"ruptures.{name} with cost {cost!r} does not work: {error}") from error
    return find


def _squared_error(base: type) -> type:
    """The cost "l2" of ruptures, from running sums: two differences for a segment."""

    class SquaredError(base):  # type: ignore[misc]  # known only where ruptures is installed
        model = "l2"
        min_size = 1

        def fit(self, signal: Row) -> SquaredError:
            self.signal = signal.reshape(len(signal), -1)
            values = self.signal[:, 0]
            # Lists, since a single number of an array takes ten times as long to read.
            self.total = [0.0, *values.cumsum().tolist()]
            self.power = [0.0, *(values * values).cumsum().tolist()]
            return self

        def error(self, start: SupportsIndex, end: SupportsIndex) -> float:
            total = self.total[end] - self.total[start]
            length = int(end) - int(start)
            return self.power[end] - self.power[start] - total * total / length

    return SquaredError


# --- sktime --------------------------------------------------------------------------------------


def _of_sktime(name: str, cost: str, window: int) -> Find:
    if cost != "l2":
        raise ValueError(f"cost is {cost!r}: detectors of sktime are used with their own cost")
    kind = _class_of_sktime(name)
    arguments = inspect.signature(kind).parameters
    penalty = next((word for word in ("penalty", "threshold") if word in arguments), None)
    if penalty is None:
        raise ValueError(f"sktime's {name} has neither a penalty nor a threshold to find K with")
    own = {"bandwidth": window // 2} if "bandwidth" in arguments else {}

    def detect(row: Row, strength: float) -> list[int]:
        import pandas as pd

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of coming versions, once a row
            detector = kind(**own, **{penalty: strength})
            return [int(step) for step in detector.fit_predict(pd.Series(row))["ilocs"]]

    try:
        # Some give the first step of the new segment, others the last one of the old.
        seen = detect(_step(), 1.0)
        offset = min((len(_step()) // 2 - step for step in seen), key=abs)
    except Exception as error:
        raise ValueError(f"sktime's {name} does not work here: {error}") from error
    if offset not in {0, 1}:
        raise ValueError(f"sktime's {name} finds the change of a clean step at {seen}")

    def find(row: Row, wanted: int) -> Sequence[int]:
        if wanted == 0:
            return []
        found = by_bisection(partial(detect, row), wanted)
        return [step + offset for step in found]

    return find


def _class_of_sktime(name: str) -> type:
    import sktime.detection

    known = set[str]()
    for module in pkgutil.iter_modules(sktime.detection.__path__):
        if module.name.startswith("_") or module.name in {"all", "tests"}:
            continue
        for kind in vars(import_module(f"sktime.detection.{module.name}")).values():
            if inspect.isclass(kind) and hasattr(kind, "get_class_tag"):
                if kind.get_class_tag("task") != "change_point_detection":
                    continue
                if kind.__name__ == name:
                    return kind
                known.add(kind.__name__)
    raise ValueError(f"sktime has no change-point detector {name!r}; known: {sorted(known)}")


_LIBRARIES: dict[str, Callable[[str, str, int], Find]] = {
    "ruptures": _of_ruptures,
    "sktime": _of_sktime,
}


def _step() -> Row:
    """A clean step in the middle of 128 steps: every detector is tried on it."""
    return np.repeat([-1.0, 1.0], 64)
