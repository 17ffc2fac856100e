"""The values a run is made of: what to forecast, with which shared forecaster, on what budget.

A suite makes them; nothing changes them afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.core.names import DataSetName
from harness.core.schema import STRICT

LARGEST = 10**9
"""No length and no count is larger: tables and tensors have to hold it."""


@dataclass(frozen=True, order=True)
class Task:
    """Forecast ``horizon`` steps of ``dataset`` from ``look_back`` steps cut into patches.

    ``look_back``, ``horizon`` and ``season`` are in time steps. ``patches`` is the budget K:
    strict methods emit exactly that many patches for every row.

    Raises:
        ValueError: a length that is not a positive whole number, or more patches than steps.
    """

    __pydantic_config__ = STRICT

    dataset: DataSetName
    look_back: int
    horizon: int
    patches: int
    season: int = 1

    def __post_init__(self) -> None:
        _positive(self, "look_back", "horizon", "patches", "season")
        if self.patches > self.look_back:
            raise ValueError(
                f"{self.dataset!r} asks for {self.patches} patches"
                f" in a look-back of {self.look_back} steps"
            )

    def __str__(self) -> str:
        return f"{self.dataset} {self.look_back}->{self.horizon} K={self.patches}"


@dataclass(frozen=True)
class Architecture:
    """The shared forecaster: the same for every patcher in a comparison.

    ``points`` is R, the values to which a patch is resampled, and from which the head writes it
    back; a token narrower than that cannot hold a patch of R steps. ``pace`` is the learning rate
    of the backbone as a multiple of the forecaster's.
    ``embedder`` "mean" is the lossy summary of the planted tasks. ``instance_norm`` is RevIN.
    """

    __pydantic_config__ = STRICT

    width: int = 32
    layers: int = 2
    heads: int = 4
    feedforward: int = 128
    dropout: float = 0.2
    points: int = 16
    embedder: Literal["area", "mean"] = "area"
    backbone: Literal["transformer", "identity"] = "transformer"
    head: Literal["decoding", "query", "flatten"] = "decoding"
    instance_norm: bool = True
    pace: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, "width", "layers", "heads", "feedforward", "points")
        if self.width % self.heads:
            raise ValueError(f"a width of {self.width} cannot be shared by {self.heads} heads")
        _fraction(self, "dropout")
        if not self.pace > 0:
            raise ValueError(f"pace is {self.pace!r}; a number above 0 is needed")
        _one_of(self, "embedder", ("area", "mean"))
        _one_of(self, "backbone", ("transformer", "identity"))
        _one_of(self, "head", ("decoding", "query", "flatten"))


@dataclass(frozen=True)
class Budget:
    """What every method may spend on training, and how: the same for all of them.

    ``batch`` is in windows (all channels of a window go together). ``steps`` caps the optimiser
    steps of an epoch; None means a full pass over the training windows. ``patience`` is in epochs
    without a better validation loss. ``warmup`` is the fraction of all steps over which the
    learning rate rises.

    ``valid_windows``, ``test_windows`` and ``probe_windows`` cap how many windows, evenly spaced
    and the same for all, the validation error, the test error and the errors under other
    boundaries are taken on; None means all, of the last one at most 4096. An error on some of the
    test windows is for trials: it is marked and never ranked beside those on all.
    """

    __pydantic_config__ = STRICT

    epochs: int = 10
    steps: int | None = None
    batch: int = 32
    learning_rate: float = 1e-3
    patience: int = 3
    optimiser: Literal["adam", "adamw"] = "adamw"
    weight_decay: float = 0.0
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: float = 0.0
    clip: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    valid_windows: int | None = None
    test_windows: int | None = None
    probe_windows: int | None = None

    def __post_init__(self) -> None:
        _positive(self, "epochs", "batch", "patience")
        caps = ("steps", "valid_windows", "test_windows", "probe_windows")
        _positive(self, *(cap for cap in caps if getattr(self, cap) is not None))
        if not self.learning_rate > 0:
            raise ValueError(
                f"learning_rate is {self.learning_rate!r}; a number above 0 is needed"
            )
        if not self.clip > 0:
            raise ValueError(f"clip is {self.clip!r}; a gradient norm above 0 is needed")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay is {self.weight_decay!r}; 0 or more is needed")
        _fraction(self, "warmup")
        _one_of(self, "optimiser", ("adam", "adamw"))
        _one_of(self, "schedule", ("constant", "cosine"))
        _one_of(self, "precision", ("float32", "bfloat16"))


def _positive(value: object, *fields: str) -> None:
    for field in fields:
        number = getattr(value, field)
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ValueError(f"{field} is {number!r}; a whole number of 1 or more is needed")
        if number > LARGEST:
            raise ValueError(f"{field} is {number}; at most {LARGEST} is possible")


def _fraction(value: object, field: str) -> None:
    number = getattr(value, field)
    if not 0 <= number < 1:
        raise ValueError(
            f"{field} is {number!r}; a number from 0 up to, not including, 1 is needed"
        )


def _one_of(value: object, field: str, allowed: tuple[str, ...]) -> None:
    choice = getattr(value, field)
    if choice not in allowed:
        raise ValueError(f"{field} is {choice!r}; allowed: {', '.join(allowed)}")
