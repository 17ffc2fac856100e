"""The zero-shot tasks: what is published of each, known without having its data.

``tasks.csv`` has a line for each task, ``files.csv`` one for each file that they are made of.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Literal

from harness import data
from harness.core.schema import STRICT, from_texts
from harness.core.words import unknown

HERE = Path(__file__).parent

BenchmarkName = Literal["fev-bench", "chronos-II", "gift-eval"]


@dataclass(frozen=True)
class Benchmark:
    """Whose tasks they are: how it calls its quantile metric, and where its figures stand.

    ``source`` has the scores of the seasonal naive that tasks are held to: repository, file,
    commit. The spread of that naive was taken from the last ``naive_past`` steps of each past; of
    all if that is None, and with 0 all its quantiles are its point forecast.
    """

    quantile_metric: str
    source: str
    naive_past: int | None


BENCHMARKS: Mapping[BenchmarkName, Benchmark] = {
    "fev-bench": Benchmark(
        "SQL", "autogluon/fev:benchmarks/fev_bench/results/seasonal_naive.csv@1bc95fd", 1000
    ),
    "chronos-II": Benchmark(
        "WQL", "autogluon/fev:benchmarks/chronos_zeroshot/results/seasonal_naive.csv@1bc95fd", 0
    ),
    "gift-eval": Benchmark(
        "CRPS",
        "SalesforceAIResearch/gift-eval:results/seasonal_naive/all_results.csv@4fd98a9",
        None,
    ),
}


@dataclass(frozen=True)
class SourceFile:
    """A file that tasks are made of.

    ``family`` is the source that its values come from, which several files may share. ``channel``
    is the only column that is to be forecast; None means all of them. ``hash`` is the value hash
    (:func:`harness.data.read_panel`); None of a data set of the catalogue, which knows it.
    """

    __pydantic_config__ = STRICT

    file: str
    family: str
    licence: str
    channel: str | None = None
    hash: str | None = None

    @property
    def pinned(self) -> str:
        """The value hash that the file must have."""
        digest = self.hash or data.pinned(Path(self.file).stem)
        assert digest is not None, self.file
        return digest


@dataclass(frozen=True)
class ZeroShotTask:
    """Forecast ``windows`` windows of ``horizon`` steps of every series, from all that is before.

    ``task`` is its name in its benchmark. ``files``, separated by spaces, and ``recipe``, a
    function of :mod:`harness.zero_shot.recipes`, make its series; ``frequency`` is that of
    pandas' periods. ``season``, of the scale of MASE and of the seasonal naive, is in steps. The
    first window begins ``tail`` steps before the end of each series. ``naive_mase`` and
    ``naive_quantile`` are the published scores of the seasonal naive, by MASE and by the
    benchmark's quantile metric.
    """

    __pydantic_config__ = STRICT

    benchmark: BenchmarkName
    task: str
    files: str
    recipe: str
    frequency: str
    horizon: int
    windows: int
    season: int
    tail: int
    naive_mase: float
    naive_quantile: float

    def __str__(self) -> str:
        return f"{self.benchmark}/{self.task}"

    @property
    def dataset(self) -> str:
        """Its name where slashes cannot be: "gift-eval.ett1.H.short" for example."""
        return str(self).replace("/", ".")

    @property
    def hash(self) -> str:
        """The identity of its series: of its files' values, its recipe and its windows."""
        pinned = [f"{source.file} {source.channel} {source.pinned}" for source in self.sources]
        return sha256("\n".join([*map(str, vars(self).items()), *pinned]).encode()).hexdigest()

    @property
    def sources(self) -> tuple[SourceFile, ...]:
        """What is known of its files."""
        return tuple(files()[file] for file in self.files.split())

    @property
    def family(self) -> str:
        """The source of its values; tasks of one family are not independent of each other."""
        [family] = {source.family for source in self.sources}
        return family


@cache
def tasks() -> Mapping[str, ZeroShotTask]:
    """All tasks by name, "gift-eval/ett1/H/short" for example."""
    found = (from_texts(ZeroShotTask, line) for line in lines("tasks.csv"))
    return {str(task): task for task in found}


@cache
def files() -> Mapping[str, SourceFile]:
    """All files that tasks are made of, by their path in the data folder."""
    found = (from_texts(SourceFile, line) for line in lines("files.csv"))
    return {source.file: source for source in found}


def find(name: str) -> ZeroShotTask:
    """The task of that name, with slashes or with the dots of :attr:`ZeroShotTask.dataset`.

    Raises:
        ValueError: there is none; says which is near.
    """
    if (found := tasks().get(name) or _by_dataset().get(name)) is None:
        raise ValueError(unknown("zero-shot task", name, tasks()))
    return found


def chosen(names: Sequence[str]) -> list[ZeroShotTask]:
    """The tasks of these names, of which each is a task's or a benchmark's; each task once.

    Raises:
        ValueError: a name that is neither.
    """
    found: dict[str, ZeroShotTask] = {}
    for name in names:
        whole = {key: task for key, task in tasks().items() if task.benchmark == name}
        if not whole and name not in tasks() and name not in _by_dataset():
            raise ValueError(unknown("zero-shot task", name, [*BENCHMARKS, *tasks()]))
        found |= whole or {str(task): task for task in [find(name)]}
    return list(found.values())


@cache
def _by_dataset() -> Mapping[str, ZeroShotTask]:
    return {task.dataset: task for task in tasks().values()}


def lines(file: str) -> list[dict[str, str]]:
    """The lines of a table of this folder, as texts by column."""
    with (HERE / file).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))
