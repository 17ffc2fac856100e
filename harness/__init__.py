"""The public face of patchbench: what people who write methods, or notebooks, need of it.

``from harness import Patcher, Patches, Rows, from_scores`` is all that most methods import. Names
are looked up when they are first asked for, so that ``import harness`` loads neither torch nor
pandas.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.core.protocol import most_patches
    from harness.core.task import Architecture, Budget, Task
    from harness.model.backbones import Transformer, running_mean
    from harness.model.embedders import Place
    from harness.model.forecaster import Forecast, Forecaster, PatchForecaster
    from harness.model.layers import Dropout, bounds, instance_norm, rows_at_once, running_sum
    from harness.model.patcher import (
        Patcher,
        Patches,
        Rows,
        Rule,
        from_chosen,
        from_inclusion,
        from_marks,
        from_scores,
        from_starts,
        inclusion,
        sample_rows,
        threshold,
        uniform_starts,
    )
    from harness.model.stem import Stem, Votes

__all__ = [
    "Architecture",
    "Budget",
    "Dropout",
    "Forecast",
    "Forecaster",
    "PatchForecaster",
    "Patcher",
    "Patches",
    "Place",
    "Rows",
    "Rule",
    "Stem",
    "Task",
    "Transformer",
    "Votes",
    "bounds",
    "from_chosen",
    "from_inclusion",
    "from_marks",
    "from_scores",
    "from_starts",
    "inclusion",
    "instance_norm",
    "most_patches",
    "rows_at_once",
    "running_mean",
    "running_sum",
    "sample_rows",
    "threshold",
    "uniform_starts",
]

_HOMES = {
    "harness.core.protocol": ("most_patches",),
    "harness.core.task": ("Architecture", "Budget", "Task"),
    "harness.model.backbones": ("Transformer", "running_mean"),
    "harness.model.embedders": ("Place",),
    "harness.model.forecaster": ("Forecast", "Forecaster", "PatchForecaster"),
    "harness.model.layers": (
        *("Dropout", "bounds", "instance_norm", "rows_at_once", "running_sum"),
    ),
    "harness.model.patcher": (
        *("Patcher", "Patches", "Rows", "Rule", "from_chosen", "from_inclusion", "from_marks"),
        *("from_scores", "from_starts", "inclusion", "sample_rows", "threshold"),
        "uniform_starts",
    ),
    "harness.model.stem": ("Stem", "Votes"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """The public name, from the room it lives in."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
