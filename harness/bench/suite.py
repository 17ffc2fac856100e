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
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from harness import data
from harness.core.files import write_text
from harness.core.job import Stage
from harness.core.names import NOT_SUITES, DataSetName, MethodName, SuiteName, misnamed
from harness.core.schema import STRICT, MistakeError, Where, from_table
from harness.core.task import Architecture, Budget, Task
from harness.core.words import unknown
from harness.zero_shot import tasks as zero_shot

_SEEDS = 2**31  # generators and tables take no larger ones


@dataclass(frozen=True)
class Block:
    """One ``[[tasks]]``: tasks that share all but data set, look-back and horizon.

    Exactly one of ``patch`` (length in steps) and ``patches`` (K) is given. ``season`` None means
    the data set's own. ``methods`` and ``seeds`` are those of the suite where a block has none of
    its own: what runs are missing is judged task by task. ``hyperparameters``, by method, are
    those that are not the default; the suite's hold where the block says nothing else.

    A block with ``corpora`` in the place of data sets is of pre-trainings. Beside data sets,
    ``corpora`` are what the patchers of the methods that are ``frozen`` were pre-trained on;
    ``untrained`` are methods that are run with a patcher that has learned nothing. A block with
    ``zero_shot``, the names of benchmarks or of their tasks, scores the forecasters that were
    pre-trained on its corpora; look-back and K are theirs.
    """

    __pydantic_config__ = STRICT

    methods: tuple[MethodName, ...]
    seeds: tuple[int, ...]
    datasets: tuple[DataSetName, ...] = ()
    look_back: tuple[int, ...] = ()
    horizons: tuple[int, ...] = ()
    patch: int | None = None
    patches: int | None = None
    season: int | None = None
    corpora: tuple[DataSetName, ...] = ()
    frozen: tuple[MethodName, ...] = ()
    untrained: tuple[MethodName, ...] = ()
    zero_shot: tuple[str, ...] = ()
    budget: Budget = field(default_factory=Budget)
    forecaster: Architecture = field(default_factory=Architecture)
    hyperparameters: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("methods", "seeds", *self._needed()):
            if not getattr(self, name):
                raise ValueError(f"{name} must be given; it is empty")
        for look_back in self.look_back:
            if self.patch is not None and (self.patch < 1 or look_back % self.patch):
                raise ValueError(
                    f"patch is {self.patch}, which does not divide look_back = {look_back}"
                )
        for name in ("datasets", "look_back", "horizons", "methods", "seeds", "corpora"):
            values = getattr(self, name)
            if twice := [value for value in values if values.count(value) > 1]:
                raise ValueError(f"{name} names {twice[0]!r} twice")
        if strange := [seed for seed in self.seeds if not 0 <= seed < _SEEDS]:
            raise ValueError(
                f"seeds names {strange[0]}; whole numbers from 0 to {_SEEDS - 1} are needed"
            )

    def _needed(self) -> tuple[str, ...]:
        """What a block of its kind must have."""
        if self.zero_shot:
            own = ("datasets", "look_back", "horizons", "patch", "patches", "season")
            if given := [name for name in own if getattr(self, name)]:
                raise ValueError(f"{given[0]} is given beside zero_shot, where it has no meaning")
            return ("corpora",)
        if (self.patch is None) == (self.patches is None):
            raise ValueError("exactly one of patch (length in steps) and patches (K) is needed")
        if self.frozen and not self.corpora:
            raise ValueError("frozen names methods, and no corpora to pre-train them on")
        values = "corpora" if self.corpora and not self.datasets else "datasets"
        return (values, "look_back", "horizons")

    @property
    def pretrains(self) -> bool:
        """Whether it is of pre-trainings."""
        return not (self.datasets or self.zero_shot)

    @property
    def named(self) -> tuple[str, ...]:
        """Every method that it names."""
        return tuple(dict.fromkeys((*self.methods, *self.frozen, *self.untrained)))


@dataclass(frozen=True)
class Reference:
    """A predictor of gluonts that is scored beside the forecasters: import path and options."""

    __pydantic_config__ = STRICT

    path: str
    options: dict[str, Any] = field(default_factory=dict)


class Planned(NamedTuple):
    """A run of a suite: the block that it is of, and what it is a run of."""

    block: Block
    method: str
    task: Task
    seed: int
    stage: Stage | None = None
    corpus: str | None = None


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
    references: Mapping[str, Reference]
    pretraining: Suite | None

    @cached_property
    def datasets(self) -> list[str]:
        """Every data set, corpus and zero-shot task, in the order of the file."""
        return list(
            dict.fromkeys(task.dataset for block in self.blocks for task in self._tasks(block))
        )

    def runs(self, selected: Sequence[str] | None = None) -> Iterator[Planned]:
        """All runs of the suite; of ``selected`` methods, if given.

        A selected method that no block names runs on all of them, in each of their ways.

        Raises:
            ValueError: a task that cannot be, or a run that two blocks plan.
        """
        known = (*self.methods, *self.references)
        extra = [name for name in selected or () if name not in known]
        planned: set[object] = set()
        for block in self.blocks:
            for task in self._tasks(block):
                for seed in block.seeds:
                    for method, stage, corpus in self._ways(block, task, seed, selected, extra):
                        run = Planned(block, method, task, seed, stage, corpus)
                        if run[1:] in planned:
                            said = f"{method} {task} seed={seed}"
                            raise ValueError(f"two [[tasks]] blocks plan the same run: {said}")
                        planned.add(run[1:])
                        yield run

    def _ways(
        self,
        block: Block,
        task: Task,
        seed: int,
        selected: Sequence[str] | None,
        extra: Sequence[str],
    ) -> Iterator[tuple[str, Stage | None, str | None]]:
        """Method, stage and corpus of all runs of a block on a task with a seed."""

        def own(names: Iterable[str]) -> list[str]:
            return [*(name for name in names if selected is None or name in selected), *extra]

        if block.pretrains:
            yield from ((name, "pretrain", None) for name in own(block.methods))
        elif block.zero_shot:
            pairs = product(own(block.methods), block.corpora)
            yield from ((name, "zero_shot", corpus) for name, corpus in pairs)
            if seed == block.seeds[0]:  # they draw nothing
                names = [name for name in self.references if not selected or name in selected]
                yield from ((name, "zero_shot", None) for name in names)
        else:
            yield from ((name, None, None) for name in own(block.methods))
            if block.untrained:
                yield from ((name, "untrained", None) for name in own(block.untrained))
            if block.frozen:
                pairs = product(own(block.frozen), block.corpora)
                yield from ((name, "frozen", corpus) for name, corpus in pairs)

    def _tasks(self, block: Block) -> Iterator[Task]:
        if block.zero_shot:
            assert self.pretraining is not None
            [of] = {task for other in self.pretraining.blocks for task in _lengths(other)}
            for found in zero_shot.chosen(block.zero_shot):
                look_back, patches = of
                yield Task(found.dataset, look_back, found.horizon, patches, found.season)
            return
        for name in block.datasets or block.corpora:
            source = self.sources.get(name)
            season = block.season or 1
            if block.season is None and block.datasets:
                season = data.season(name) if source is None else source.season
            for look_back, patches in _lengths(block):
                for horizon in block.horizons:
                    yield Task(name, look_back, horizon, patches, season)


def _lengths(block: Block) -> Iterator[tuple[int, int]]:
    """Each look-back with its K."""
    for look_back in block.look_back:
        yield look_back, block.patches or look_back // (block.patch or 1)


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
    pretraining: SuiteName | None = None
    references: dict[MethodName, Reference] = field(default_factory=dict)
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
    _refuse_unknown_data(file, sources)
    if not file.tasks:
        raise MistakeError("a suite needs at least one [[tasks]] block")
    pretraining = _pretraining(path, file)
    named = [*file.methods, *(name for block in file.tasks for name in block.named)]
    for name in file.references:
        if name in named:
            raise MistakeError(f"{name!r} is a method too; choose another name", ("references",))
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
        references=file.references,
        pretraining=pretraining,
    )


def _refuse_unknown_data(file: _File, sources: Iterable[str]) -> None:
    there = {"datasets": [*data.known(), *sources], "corpora": data.corpus_names()}
    words = {"datasets": "data set", "corpora": "corpus"}
    for index, block in enumerate(file.tasks):
        for key, known in there.items():
            for name in getattr(block, key):
                if name not in known:
                    raise MistakeError(unknown(words[key], name, known), ("tasks", index, key))
        try:
            zero_shot.chosen(block.zero_shot)
        except ValueError as error:
            raise MistakeError(str(error), ("tasks", index, "zero_shot")) from error


def _pretraining(path: Path, file: _File) -> Suite | None:
    """The suite that makes the artefacts, where blocks start from any."""
    carried = [
        (index, corpus)
        for index, block in enumerate(file.tasks)
        if not block.pretrains
        for corpus in block.corpora
    ]
    if file.pretraining is None:
        if carried:
            where = ("tasks", carried[0][0], "corpora")
            raise MistakeError("corpora need a suite that pre-trains on them: pretraining", where)
        return None
    found = find(file.pretraining, path.parent)
    if not all(block.pretrains for block in found.blocks):
        raise MistakeError(f"{found.name!r} does not only pre-train", ("pretraining",))
    if len({lengths for block in found.blocks for lengths in _lengths(block)}) != 1:
        raise MistakeError(f"{found.name!r} has more than one look-back or K", ("pretraining",))
    for index, corpus in carried:
        if corpus not in found.datasets:
            where = ("tasks", index, "corpora")
            raise MistakeError(
                f"{corpus!r} is no corpus of suite {found.name!r}; there are:"
                f" {', '.join(found.datasets)}",
                where,
            )
    return found


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
