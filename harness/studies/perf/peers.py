"""Opponents from outside: a checkout of Time-Series-Library or PatchTST, unmodified.

Its own script trains its own model in its own loop, on the series and the sizes of the race. Two
things are ours, or the rounds could not be compared: an epoch ends after as many steps as a round
has, and validation, which other loops of the race leave out, does nothing.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

from harness import data
from harness.studies.perf.setting import BATCH, TASK, Configuration, Stage


@dataclass(frozen=True)
class Kind:
    """A public code base: its ``script``, the module and class of its loop, and words for it."""

    name: str
    script: str
    module: str
    loop: str
    options: tuple[str, ...]
    on_cpu: tuple[str, ...] = ()


KINDS = (
    Kind(
        "Time-Series-Library",
        script="run.py",
        module="exp.exp_long_term_forecasting",
        loop="Exp_Long_Term_Forecast",
        options=("--task_name", "long_term_forecast"),
        on_cpu=("--no_use_gpu",),
    ),
    Kind(
        "PatchTST",
        script="run_longExp.py",
        module="exp.exp_main",
        loop="Exp_Main",
        options=("--stride", "8", "--head_dropout", "0"),
    ),
)


@dataclass(frozen=True)
class Peer:
    """A checkout, and which code base it is of."""

    kind: Kind
    folder: Path


def find(path: Path) -> Peer:
    """The code base in a folder, or in the one folder of it where PatchTST keeps this task.

    Raises:
        ValueError: it is none of those that are known.
    """
    for folder in (path, path / "PatchTST_supervised"):
        for kind in KINDS:
            if (folder / kind.script).is_file():
                return Peer(kind, folder.resolve())
    known = " or ".join(f"{kind.name} ({kind.script})" for kind in KINDS)
    raise ValueError(f"{path} is no checkout of {known}")


def train_peer(
    peer: Peer, configuration: Configuration, stage: Stage, lap: Callable[[], None]
) -> None:
    """Its training, so many steps a round, until whoever measures has seen enough."""
    with TemporaryDirectory() as place, Path(os.devnull).open("w") as nowhere:
        _write(stage.series, Path(place, "series.csv"))
        os.chdir(peer.folder)  # it looks for its models from there
        sys.path.insert(0, str(peer.folder))
        vars(np).setdefault("Inf", np.inf)  # a name that numpy 2 has dropped
        sys.argv = [peer.kind.script, *_options(peer.kind, configuration, stage, place)]
        torch.set_num_threads(1)
        with redirect_stdout(nowhere):
            _without_absent(peer, partial(_run, peer, configuration.steps, lap))


def _run(peer: Peer, steps: int, lap: Callable[[], None]) -> None:
    loop = getattr(import_module(peer.kind.module), peer.kind.loop)
    get_data, calls = loop._get_data, count()  # noqa: SLF001 - where its data come from

    def shortened(self: Any, flag: str) -> tuple[Any, _Short]:  # noqa: ANN401 - the peer's own
        several, loader = get_data(self, flag)
        return several, _Short(loader, steps)

    def validate(*_: object) -> float:
        """Called for validation and then test at the end of each epoch: a round is over."""
        if next(calls) % 2 == 0:
            lap()
        return 1.0

    with patch.object(loop, "_get_data", shortened), patch.object(loop, "vali", validate):
        runpy.run_path(peer.kind.script, run_name="__main__")


def _options(
    kind: Kind, configuration: Configuration, stage: Stage, place: str
) -> tuple[str, ...]:
    architecture, channels = configuration.architecture, len(stage.series.channels)
    settings = {
        "is_training": 1,
        "model_id": "race",
        "model": "PatchTST",
        "data": "ETTh1",
        "root_path": place,
        "data_path": "series.csv",
        "checkpoints": place,
        "features": "M",
        "seq_len": TASK.look_back,
        "label_len": 48,
        "pred_len": TASK.horizon,
        "enc_in": channels,
        "dec_in": channels,
        "c_out": channels,
        "patch_len": 16,
        "d_model": architecture.width,
        "n_heads": architecture.heads,
        "e_layers": architecture.layers,
        "d_ff": architecture.feedforward,
        "dropout": architecture.dropout,
        "batch_size": BATCH,
        "num_workers": 0,
        "itr": 1,
        "train_epochs": 10**6,
        "patience": 10**9,
    }
    on_cpu = () if stage.device.startswith("cuda") else kind.on_cpu
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return (*words, *kind.options, *on_cpu)


def _write(series: data.Series, path: Path) -> None:
    """The series as both code bases read it: hours from 2016-07, the last channel called OT."""
    names = [*map(str, range(len(series.channels) - 1)), "OT"]
    table = pd.DataFrame(series.values, columns=names)
    table.insert(0, "date", pd.date_range("2016-07-01", periods=len(table), freq="h"))
    table.to_csv(path, index=False)


@dataclass(frozen=True)
class _Short:
    """The first batches of a loader, as often as it is gone through."""

    loader: Any
    steps: int

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        return islice(self.loader, self.steps)


def _without_absent(peer: Peer, act: Callable[[], None]) -> None:
    """Do it, though packages that the checkout imports for other tasks are not installed."""
    stood_in: set[str] = set()
    while True:
        try:
            return act()
        except ModuleNotFoundError as error:
            name = error.name or ""
            if not name or name in stood_in or (peer.folder / name.partition(".")[0]).exists():
                raise
            stood_in.add(name)
            sys.modules[name] = _Absent(name)


class _Absent(ModuleType):
    """In the place of a package that is not installed: what is taken from it cannot be called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = list[str]()  # or nothing could be imported from below it

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: object, **__: object) -> None:
            raise ModuleNotFoundError(f"{self.__name__}.{name} is needed, which is not installed")

        return missing
