"""Suites: which tasks, methods and seeds, on what budget; one TOML file each, in ``suites/``.

A suite that is tuned takes hyperparameters and learning rates from the choices of its searches,
one TOML file a method in ``results/<suite>/tuned/``. In both kinds of file a key that is not
known is an error, because a misspelt one would silently change what is compared.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness import data
from harness.core.files import write_text
from harness.core.names import NOT_SUITES, DataSetName, MethodName, misnamed
from harness.core.schema import STRICT, MistakeError, Where, from_table
from harness.core.task import Architecture, Budget, Task
from harness.core.words import unknown

_SEEDS = 2**31  # generators and tables take no larger ones


@dataclass(frozen=True)
class Block:
    """One ``[[tasks]]``: tasks that share all but data set, look-back and horizon.

    Exactly one of ``patch`` (length in steps) and ``patches`` (K) is given. ``season`` None means
    the data set's own. ``methods`` and ``seeds`` are those of the suite where a block has none of
    its own: what runs are missing is judged task by task. ``hyperparameters``, by method, are
    those that are not the default; the suite's hold where the block says nothing else.
    """

    __pydantic_config__ = STRICT

    datasets: tuple[DataSetName, ...]
    look_back: tuple[int, ...]
    horizons: tuple[int, ...]
    methods: tuple[MethodName, ...]
    seeds: tuple[int, ...]
    patch: int | None = None
    patches: int | None = None
    season: int | None = None
    budget: Budget = field(default_factory=Budget)
    forecaster: Architecture = field(default_factory=Architecture)
    hyperparameters: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.patch is None) == (self.patches is None):
            raise ValueError("exactly one of patch (length in steps) and patches (K) is needed")
        for look_back in self.look_back:
            if self.patch is not None and (self.patch < 1 or look_back % self.patch):
                raise ValueError(
                    f"patch is {self.patch}, which does not divide look_back = {look_back}"
                )
        for name in ("datasets", "look_back", "horizons", "methods", "seeds"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} is empty")
            if twice := [value for value in values if values.count(value) > 1]:
                raise ValueError(f"{name} names {twice[0]!r} twice")
        if strange := [seed for seed in self.seeds if not 0 <= seed < _SEEDS]:
            raise ValueError(
                f"seeds names {strange[0]}; whole numbers from 0 to {_SEEDS - 1} are needed"
            )


@dataclass(frozen=True)
class Tuning:
    """What a search may spend: settings tried, the same number for every method, and epochs each.

    ``epochs`` None means those of the task's own budget.
    """

    __pydantic_config__ = STRICT

    trials: int = 20
    epochs: int | None = None

    def __post_init__(self) -> None:
        for name, count in (("trials", self.trials), ("epochs", self.epochs)):
            if count is not None and count < 1:
                raise ValueError(f"{name} is {count!r}; a whole number of 1 or more is needed")


@dataclass(frozen=True)
class Choice:
    """What a search chose for a method on a task: one ``[[choices]]`` of its file.

    ``states`` counts how the ``trials`` ended. The learning rate goes into the budget, the
    ``hyperparameters`` to the method.
    """

    __pydantic_config__ = STRICT

    dataset: DataSetName
    look_back: int
    horizon: int
    patches: int
    seed: int
    trials: int
    states: dict[str, Any]
    study: str
    valid_mse: float
    learning_rate: float
    hyperparameters: dict[str, Any]

    @property
    def coordinates(self) -> tuple[str, int, int, int]:
        """Data set, look-back, horizon and K; a file has one choice for each."""
        return (self.dataset, self.look_back, self.horizon, self.patches)


@dataclass(frozen=True)
class Suite:
    """A named comparison.

    ``sweep`` has several values a hyperparameter, for methods whose setting validation data
    choose: every combination is a run of its own, and the leaderboard keeps the best one on each
    task. A suite that is ``tuned`` runs each method with what its search chose.
    """

    name: str
    description: str
    methods: tuple[str, ...]
    blocks: tuple[Block, ...]
    sweep: Mapping[str, Mapping[str, Sequence[object]]]
    sources: Mapping[str, data.Source]
    tuned: bool
    tuning: Tuning

    @property
    def datasets(self) -> list[str]:
        """Every data set, in the order of the file."""
        return list(dict.fromkeys(name for block in self.blocks for name in block.datasets))

    def runs(
        self, selected: Sequence[str] | None = None
    ) -> Iterator[tuple[Block, str, Task, int]]:
        """Every block, method, task and seed that go together; of ``selected`` methods, if given.

        A selected method that no block names runs on all of them.

        Raises:
            ValueError: a task that cannot be, or one that two blocks plan for a method and seed.
        """
        extra = [name for name in selected or () if name not in self.methods]
        planned: set[object] = set()
        for block in self.blocks:
            own = [name for name in block.methods if selected is None or name in selected]
            for task in self._tasks(block):
                for seed in block.seeds:
                    for method in (*own, *extra):
                        if (method, task, seed) in planned:
                            run = f"{method} {task} seed={seed}"
                            raise ValueError(f"two [[tasks]] blocks plan the same run: {run}")
                        planned.add((method, task, seed))
                        yield block, method, task, seed

    def _tasks(self, block: Block) -> Iterator[Task]:
        for name in block.datasets:
            source = self.sources.get(name)
            season = block.season or (data.season(name) if source is None else source.season)
            for look_back in block.look_back:
                patches = block.patches or look_back // (block.patch or 1)
                for horizon in block.horizons:
                    yield Task(name, look_back, horizon, patches, season)


def find(name: str, folder: Path) -> Suite:
    """The suite of that name in ``folder``, or in the file that ``name`` is the path of.

    Raises:
        ValueError: no such file, or a mistake in it; names file and line.
    """
    if name.endswith(".toml"):
        if not Path(name).is_file():
            raise ValueError(f"there is no suite {name}")
        return load(Path(name))
    path = folder / f"{name}.toml"
    if not path.is_file():
        raise ValueError(unknown("suite", name, (path.stem for path in folder.glob("*.toml"))))
    return load(path)


def load(path: Path) -> Suite:
    """The suite in a file; its name is the file's.

    Raises:
        ValueError: a name that no suite can have, or a mistake in the file; names file and line.
    """
    if why := misnamed(path.stem, NOT_SUITES):
        raise ValueError(f"{path}: a suite has the name of its file, and {why}")
    text = path.read_text(encoding="utf-8")
    with _named(path, text):
        suite = _suite(path, tomllib.loads(text))
        for _ in suite.runs():  # every task checks itself
            pass
    return suite


def choices(path: Path) -> list[Choice]:
    """What searches chose for one method, a choice for each task; nothing if there is no file.

    Raises:
        ValueError: a mistake in the file, named with its line.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    with _named(path, text):
        return list(from_table(_Choices, tomllib.loads(text)).choices)


def write_choices(path: Path, found: Iterable[Choice]) -> None:
    """Replace the file that :func:`choices` reads."""
    tables = map(_table, sorted(found, key=lambda choice: choice.coordinates))
    write_text(path, "\n".join(["# Chosen on validation data by `make tune`.\n", *tables]))


def _table(choice: Choice) -> str:
    lines = (f"{name} = {_toml(value)}" for name, value in asdict(choice).items())
    return "\n".join(["[[choices]]", *lines, ""])


def _toml(value: object) -> str:
    """Numbers, texts and flat tables; JSON's form of them is TOML's."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(value)


# --- from TOML to values -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Choices:
    """The file of a method's choices."""

    __pydantic_config__ = STRICT

    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class _File:
    """The file of a suite; what blocks share stands before them, and is checked first."""

    __pydantic_config__ = STRICT

    description: str = ""
    tuned: bool = False
    tuning: Tuning = field(default_factory=Tuning)
    seeds: tuple[int, ...] = ()
    methods: tuple[MethodName, ...] = ()
    budget: Budget = field(default_factory=Budget)
    forecaster: Architecture = field(default_factory=Architecture)
    hyperparameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    sweep: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    data: dict[DataSetName, data.Source] = field(default_factory=dict)
    tasks: tuple[Block, ...] = ()


def _suite(path: Path, table: dict[str, Any]) -> Suite:
    blocks = table.get("tasks")
    if isinstance(blocks, list):
        table = table | {"tasks": [_shared(table, block) for block in blocks]}
    file = from_table(_File, table)
    sources = {name: _from_here(path, name, source) for name, source in file.data.items()}
    known = [*data.known(), *sources]
    for index, block in enumerate(file.tasks):
        for dataset in block.datasets:
            if dataset not in known:
                raise MistakeError(
                    unknown("data set", dataset, known), ("tasks", index, "datasets")
                )
    if not file.tasks:
        raise MistakeError("a suite needs at least one [[tasks]] block")
    named = [*file.methods, *(name for block in file.tasks for name in block.methods)]
    _refuse_unknown(file.hyperparameters, named, "hyperparameters")
    _refuse_unknown(file.sweep, named, "sweep")
    for index, block in enumerate(file.tasks):
        _refuse_unknown(block.hyperparameters, named, "tasks", index, "hyperparameters")
        for method, swept in file.sweep.items():
            _check_sweep(swept, block.hyperparameters.get(method, {}), ("sweep", method))
    return Suite(
        name=path.stem,
        description=file.description,
        methods=tuple(dict.fromkeys(named)),
        blocks=file.tasks,
        sweep=file.sweep,
        sources=sources,
        tuned=file.tuned,
        tuning=file.tuning,
    )


def _shared(table: Mapping[str, Any], block: object) -> object:
    """A block with what the suite says for all of them, as far as both are tables."""
    if not isinstance(block, dict):
        return block
    whole = {"methods": table.get("methods", []), "seeds": table.get("seeds", [])} | block
    if isinstance(block.get("look_back"), int):
        whole["look_back"] = [block["look_back"]]
    for name in ("budget", "forecaster"):
        shared, own = table.get(name, {}), block.get(name, {})
        whole[name] = shared | own if isinstance(shared, dict) and isinstance(own, dict) else own
    name = "hyperparameters"
    shared, own = table.get(name, {}), block.get(name, {})
    if all(isinstance(each, dict) for each in (shared, own, *shared.values(), *own.values())):
        whole[name] = {
            method: shared.get(method, {}) | own.get(method, {}) for method in shared | own
        }
    return whole


def _from_here(suite: Path, name: str, source: data.Source) -> data.Source:
    """The source with its path, which is relative to the suite's file, relative to this folder.

    So a row does not depend on the machine.
    """
    if name in data.known():
        raise MistakeError(
            f"{name!r} is the name of a known data set; choose another", ("data", name)
        )
    if source.path.is_absolute():
        return source
    return replace(source, path=Path(os.path.relpath(suite.parent / source.path)))


def _refuse_unknown(tables: Iterable[str], methods: Sequence[str], *where: str | int) -> None:
    for method in tables:
        if method not in methods:
            raise MistakeError(unknown("method", method, set(methods)), (*where, method))


def _check_sweep(
    swept: Mapping[str, Sequence[Any]], fixed: Mapping[str, object], where: Where
) -> None:
    for name, values in swept.items():
        here = (*where, name)
        if not values:
            raise MistakeError(f"{name} is []; a list of values is needed", here)
        if twice := [value for value in values if values.count(value) > 1]:
            raise MistakeError(f"{name} names {twice[0]!r} twice", here)
        if name in fixed:
            raise MistakeError(
                f"{name} is in [hyperparameters.{where[-1]}] too: fixed or swept?", here
            )


# --- the line of a mistake -----------------------------------------------------------------------


@contextmanager
def _named(path: Path, text: str) -> Iterator[None]:
    """Say of a mistake in which file it is and, where that is known, on which line."""
    try:
        yield
    except MistakeError as mistake:
        line = _line(text, mistake.where)
        raise ValueError(f"{path}{line and f', line {line}'}: {mistake}") from mistake.__cause__
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _line(text: str, where: Where) -> int | str:
    """The line on which ``where`` begins, or the nearest thing around it, or nothing."""
    lines = dict(reversed(list(_places(text))))
    while where and where not in lines:
        where = where[:-1]
    return lines.get(where, "")


def _places(text: str) -> Iterator[tuple[Where, int]]:
    """Tables and keys with their lines, as they come; tomllib keeps no lines."""
    table: Where = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if header := _header(line):
            (name, *rest), is_one_of_many = header
            if is_one_of_many:
                counts[name] = counts.get(name, -1) + 1
            table = (name, *((counts[name],) if name in counts else ()), *rest)
            yield table, number
        elif key := re.match(r"\s*([\w-]+)\s*=", line):
            yield (*table, key[1]), number


def _header(line: str) -> tuple[list[str], bool] | None:
    """The names in ``[a."b.c"]`` or ``[[a]]``, and whether it is the latter; or None."""
    if not line.lstrip().startswith("["):
        return None
    try:
        inner: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None  # a list over several lines
    names = []
    while inner and isinstance(inner, dict):
        [(name, inner)] = inner.items()
        names.append(name)
    return names, isinstance(inner, list)
