"""Embedded data sets: planted series, which are drawn, and two series that sktime ships."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from harness.data.planted import WINDOW, WINDOWS, plant
from harness.data.rates import NO_CLOCK
from harness.data.series import Outline, Series, compare, shares, value_hash


@dataclass(frozen=True)
class _Bundle:
    """A series without a clock in a file that sktime ships."""

    file: str
    header: int | None
    column: int
    rows: int
    channel: str
    season: int
    boundaries: tuple[int, ...]
    hash: str


def names() -> list[str]:
    """The data sets that need no file."""
    return [*_PLANTED, *_BUNDLED]


def season(name: str) -> int:
    """The season in steps; 1 for planted series: their windows share no period."""
    return _BUNDLED[name].season if name in _BUNDLED else 1


def pinned(name: str) -> str:
    """The value hash, known before the set is drawn or read."""
    return _BUNDLED[name].hash if name in _BUNDLED else _PLANTED[name]


def outline(name: str) -> Outline:
    """What is known of the set before it is drawn or read."""
    if name in _BUNDLED:
        return Outline(name, shares(_BUNDLED[name].rows, _SPLIT), 1)
    train, valid, test = (WINDOW * int(ends) for ends in np.cumsum(WINDOWS))
    return Outline(name, (train, valid, test), 1, episode=WINDOW)


def load(name: str, _: Sequence[Path] = ()) -> Series:
    """The set, if it is what it was when its hash was taken.

    Raises:
        FileNotFoundError: sktime, or its file, is not there.
        ValueError: other values than those.
    """
    return _bundled(name) if name in _BUNDLED else _planted(name)


def _planted(name: str) -> Series:
    """Independent windows end to end: train, then valid, then test.

    Hashed to six decimals: the last digits of a sine or a logarithm are the machine's own.
    """
    planted = plant(name)
    values = planted.values.reshape(-1, 1)
    digest = value_hash(("value",), np.arange(len(values)), values.round(6))
    compare(name, f"what numpy {np.__version__} draws here", pinned(name), digest)
    window, step = np.nonzero(planted.boundaries)
    return Series(
        name=name,
        values=values,
        channels=("value",),
        frequency=NO_CLOCK,
        season=season(name),
        borders=outline(name).borders,
        hash=digest,
        boundaries=window * WINDOW + step,
        episode=WINDOW,
        standardise=False,
    )


def _bundled(name: str) -> Series:
    """Read from sktime's folder without importing sktime, which takes seconds."""
    bundle = _BUNDLED[name]
    package = find_spec("sktime")
    if package is None or not package.submodule_search_locations:
        raise FileNotFoundError(f"data set {name!r} comes with sktime, which is not installed")
    path = Path(package.submodule_search_locations[0]) / "datasets" / "data" / bundle.file
    if not path.is_file():
        raise FileNotFoundError(
            f"data set {name!r} comes with sktime, which has no {path} any more"
        )
    import pandas as pd  # here, as in `sets.load`

    frame = pd.read_csv(path, header=bundle.header, float_precision="round_trip")
    values = frame.iloc[:, [bundle.column]].to_numpy(np.float64)
    digest = value_hash((bundle.channel,), np.arange(len(values)), values)
    compare(name, path, bundle.hash, digest)
    return Series(
        name=name,
        values=values,
        channels=(bundle.channel,),
        frequency=NO_CLOCK,
        season=bundle.season,
        borders=outline(name).borders,
        hash=digest,
        boundaries=np.array(bundle.boundaries, dtype=np.int64),
    )


_SPLIT = (0.7, 0.1, 0.2)

# By data set; another version of numpy may draw other values, and these say so.
_PLANTED = {
    "ordinal": "f3c13baade6d2d54ffabbbec1e3d901d6352804c73d2016e7ed8fb3c1ae6a9ba",
    "ordinal-2": "c36c7c637a404c840ddda59cd74ee9870cab4f3d49fb89b3df3c5a14966db7b1",
    "ordinal-3": "1247d9ea8f10d927a1cfbd3f5bea1c3a5e2703176b2743af4f3ba03d5159ac7b",
    "bursts": "1ff226608e6eced820957a638681f2604df311625bb800b9d984384ac0789d84",
    "bursts-2": "a59ebec1950cd2d4c43c190276df3f6b3de02d26a8ce722df96effeaa3bc3ce9",
    "bursts-3": "84dc23a571836307ebeed78d012b924e58aee922894032b34a00ff79237079f7",
    "decoys": "3a085943e398b77092ec69da88b569c1533a7921abc78ea3f26420217833a4c1",
    "decoys-2": "5905868815c85d909fe9d2952b3ebf350ab46797d4fa4a143fa57f82db192980",
    "decoys-3": "6cf2fed6104e2668c60901f4c2408b0757be9ac40a0d895c5a45191aa5212e89",
    "const": "0d5b93036bb1baaf3a7519bcdb32fe73293380e21ab880edc7f74f228a1581d0",
    "sinus": "07f83e850d6678aff7963b500609cdbe3a7471f87e8b45304b8eb0cbcca5ee04",
    "levels": "eedcd1f9574e4605dd83b89d20adaa43bd15ffa9301d6783d7332eaea09bd55b",
}

_BUNDLED: dict[str, _Bundle] = {
    # Power of household devices; the period and the change points are sktime's annotation.
    "electric_devices": _Bundle(
        file="segmentation/ElectricDevices.csv",
        header=None,
        column=1,
        rows=11_532,
        channel="power",
        season=10,
        boundaries=(1090, 4436, 5712, 7923),
        hash="01a62ef3afa8aa1ff2394e57e6651b6d922a51108a875d134b61b42f5ebb497d",
    ),
    # An electrocardiogram with one abnormal stretch; 300 steps, a heart beat, is where the
    # autocorrelation of the training part peaks.
    "mitdb": _Bundle(
        file="mitdb/mitdb.csv",
        header=0,
        column=0,
        rows=7_500,
        channel="ecg",
        season=300,
        boundaries=(6936, 7288),
        hash="e0b0f81fc917a5b13ca47a1a219454c5c68e2a59fff3cda53bfd474002d7248d",
    ),
}
