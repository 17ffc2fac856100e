"""Suites: which tasks, methods and seeds, on what budget; one TOML file each, in ``suites/``.

A suite that is tuned takes hyperparameters and learning rates from the choices of its searches,
one TOML file a method in ``results/<suite>/tuned/``. In both kinds of file a key that is not
known is an error, because a misspelt one would silently change what is compared.
"""

from __future__ import annotations

import os
import re
import tomllib
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from harness import data
from harness.core.job import Job
from harness.core.task import Architecture, Budget, Task
from harness.core.words import unknown

Value = TypeVar("Value")
Where = tuple[str | int, ...]


@dataclass(frozen=True)
class Block:
    """One ``[[tasks]]``: tasks that share all but data set, look-back and horizon.

    Exactly one of ``patch`` (length in steps) and ``patches`` (K) is given. ``season`` None means
    the data set's own.
    """

    datasets: tuple[str, ...]
    look_back: tuple[int, ...]
    horizons: tuple[int, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    patch: int | None = None
    patches: int | None = None
    season: int | None = None
    budget: Budget = field(default_factory=Budget)
    forecaster: Architecture = field(default_factory=Architecture)

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


@dataclass(frozen=True)
class Tuning:
    """What a search may spend: settings tried, the same number for every method, and epochs each.

    ``epochs`` None means those of the task's own budget.
    """

    trials: int = 20
    epochs: int | None = None

    def __post_init__(self) -> None:
        for name, count in (("trials", self.trials), ("epochs", self.epochs)):
            if count is not None and count < 1:
                raise ValueError(f"{name} is {count!r}; a whole number of 1 or more is needed")


@dataclass(frozen=True)
class Choice:
    """What a search chose for a method and a cell: one ``[[cells]]`` of its file.

    ``states`` counts how the ``trials`` ended. The learning rate goes into the budget, the
    ``hyperparameters`` to the method.
    """

    dataset: str
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
    def place(self) -> tuple[str, int, int, int]:
        """The cell; a file has one choice for each."""
        return (self.dataset, self.look_back, self.horizon, self.patches)


@dataclass(frozen=True)
class Suite:
    """A named comparison; ``hyperparameters`` are the methods' own, where not the default.

    ``sweep`` has several values a hyperparameter, for methods whose setting validation data
    choose: every combination is a run of its own, and the leaderboard keeps the best one of each
    cell. A suite that is ``tuned`` runs each method with what its search chose.
    """

    name: str
    description: str
    methods: tuple[str, ...]
    blocks: tuple[Block, ...]
    hyperparameters: Mapping[str, Mapping[str, object]]
    sweep: Mapping[str, Mapping[str, Sequence[object]]]
    sources: Mapping[str, data.Source]
    tuned: bool
    tuning: Tuning

    @property
    def datasets(self) -> list[str]:
        """Every data set, in the order of the file."""
        return list(dict.fromkeys(name for block in self.blocks for name in block.datasets))


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
    """The suite in a file; its name is the file's."""
    text = path.read_text(encoding="utf-8")
    with _named(path, text):
        suite = _suite(path, tomllib.loads(text))
        for _ in _jobs(suite):  # every task checks itself
            pass
    return suite


def choices(path: Path) -> dict[tuple[str, int, int, int], Choice]:
    """What searches chose for the cells of one method; nothing if there is no such file.

    Raises:
        ValueError: a mistake in the file, named with its line.
    """
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    with _named(path, text):
        table = tomllib.loads(text)
        _known_keys(table, ("cells",), (), "key")
        cells = _typed(table.get("cells", []), list, ("cells",))
        found = [_build(Choice, cell, ("cells", number)) for number, cell in enumerate(cells)]
    return {choice.place: choice for choice in found}


def plan(
    suite: Suite,
    *,
    datasets: Sequence[str] | None = None,
    look_backs: Sequence[int] | None = None,
    horizons: Sequence[int] | None = None,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    results: Path | None = None,
    learns: Callable[[Job], bool] = lambda job: True,
) -> list[Job]:
    """All jobs of a suite, or those of a selection, in a fixed order: cell by cell, seed by seed.

    A method that the suite does not name runs on every block: so a new one needs no edit of a
    suite. With the folder ``results``, the jobs of a suite that is tuned carry what searches
    chose; ``learns`` says of a method for which nothing was chosen whether it has anything to
    tune. Without the folder they are what a search starts from.

    Raises:
        ValueError: a data set, horizon or seed that the suite does not have; nothing selected; or
            a search that is missing, or had another number of trials than the suite gives.
    """
    _within(suite, "data set", datasets, suite.datasets)
    _within(suite, "look-back", look_backs, [n for block in suite.blocks for n in block.look_back])
    _within(suite, "horizon", horizons, [h for block in suite.blocks for h in block.horizons])
    _within(suite, "seed", seeds, [seed for block in suite.blocks for seed in block.seeds])
    chosen = {} if results is None or not suite.tuned else _choices(suite, results, methods)
    jobs = [
        job
        for job in _jobs(suite, methods, chosen)
        if (datasets is None or job.task.dataset in datasets)
        and (look_backs is None or job.task.look_back in look_backs)
        and (horizons is None or job.task.horizon in horizons)
        and (seeds is None or job.seed in seeds)
    ]
    if not jobs:
        raise ValueError(f"suite {suite.name!r} has no job with all of what was selected")
    if results is not None and suite.tuned:
        _refuse_unequal(suite, jobs, learns)
    return jobs


def _choices(
    suite: Suite, results: Path, selected: Sequence[str] | None
) -> dict[tuple[object, ...], Choice]:
    folder = results / suite.name / "tuned"
    return {
        (name, *place): choice
        for name in selected or suite.methods
        for place, choice in choices(folder / f"{name}.toml").items()
    }


def _refuse_unequal(suite: Suite, jobs: Sequence[Job], learns: Callable[[Job], bool]) -> None:
    """Every method that has something to tune was tuned, with as many trials as all others."""
    trials = suite.tuning.trials
    untuned = {job.method: job for job in jobs if not job.trials}
    able = {name for name, job in untuned.items() if learns(job)}
    wrong = {
        f"{job.method} {job.task} had {job.trials}": job.method
        for job in jobs
        if job.trials != trials and (job.trials or job.method in able)
    }
    if wrong:
        first, *others = wrong
        more = f", and {len(others)} more had not {trials}" if others else ""
        raise ValueError(
            f"suite {suite.name!r} is tuned with {trials} trials for each method and cell; {first}"
            f"{more}. To search: make tune SUITE={suite.name}"
            f" METHODS={','.join(dict.fromkeys(wrong.values()))}"
        )


def _jobs(
    suite: Suite,
    selected: Sequence[str] | None = None,
    chosen: Mapping[tuple[object, ...], Choice] = MappingProxyType({}),
) -> Iterator[Job]:
    extra = [] if selected is None else [name for name in selected if name not in suite.methods]
    cells: set[object] = set()
    for block in suite.blocks:
        own = [name for name in block.methods if selected is None or name in selected]
        for task in _tasks(suite, block):
            for seed in block.seeds:
                for method in (*own, *extra):
                    if (method, task, seed) in cells:
                        run = f"{method} {task} seed={seed}"
                        raise ValueError(f"two [[tasks]] blocks plan the same run: {run}")
                    cells.add((method, task, seed))
                    job = Job(
                        suite=suite.name,
                        method=method,
                        task=task,
                        seed=seed,
                        architecture=block.forecaster,
                        budget=block.budget,
                        source=suite.sources.get(task.dataset),
                    )
                    cell = (task.dataset, task.look_back, task.horizon, task.patches)
                    if (choice := chosen.get((method, *cell))) is not None:
                        # In the place of a sweep, too: the search chose among its values.
                        yield _with(job, suite.hyperparameters.get(method, {}), choice)
                    else:
                        for hyperparameters in _settings(suite, method):
                            yield replace(job, hyperparameters=hyperparameters)


def _with(job: Job, fixed: Mapping[str, object], choice: Choice) -> Job:
    return replace(
        job,
        hyperparameters=tuple({**fixed, **choice.hyperparameters}.items()),
        budget=replace(job.budget, learning_rate=choice.learning_rate),
        trials=choice.trials,
    )


def _settings(suite: Suite, method: str) -> Iterator[tuple[tuple[str, object], ...]]:
    """The hyperparameters of a method, once for each combination of those that are swept."""
    fixed, swept = suite.hyperparameters.get(method, {}), suite.sweep.get(method, {})
    for values in product(*swept.values()):
        yield (*fixed.items(), *zip(swept, values, strict=True))


def _tasks(suite: Suite, block: Block) -> Iterator[Task]:
    for name in block.datasets:
        source = suite.sources.get(name)
        season = block.season or (data.season(name) if source is None else source.season)
        for look_back in block.look_back:
            patches = block.patches or look_back // (block.patch or 1)
            for horizon in block.horizons:
                yield Task(name, look_back, horizon, patches, season)


def _within(suite: Suite, what: str, wanted: Sequence[Any] | None, there: Sequence[Any]) -> None:
    for value in wanted or ():
        if value not in there:
            known = sorted({str(value) for value in there})
            raise ValueError(f"suite {suite.name!r}: {unknown(what, str(value), known)}")


# --- from TOML to values -------------------------------------------------------------------------


class _MistakeError(ValueError):
    """Something wrong in the file; ``where`` are the keys and indices that lead there."""

    def __init__(self, message: str, where: Where) -> None:
        super().__init__(message)
        self.where = where


@contextmanager
def _named(path: Path, text: str) -> Iterator[None]:
    """Say of a mistake in which file it is and, where that is known, on which line."""
    try:
        yield
    except _MistakeError as mistake:
        line = _line(text, mistake.where)
        raise ValueError(f"{path}{line and f', line {line}'}: {mistake}") from mistake.__cause__
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _suite(path: Path, table: dict[str, Any]) -> Suite:
    _known_keys(table, _TOP, (), "key")
    methods = _typed(table.get("methods", []), tuple[str, ...], ("methods",))
    seeds = _typed(table.get("seeds", []), tuple[int, ...], ("seeds",))
    shared = {"budget": table.get("budget", {}), "forecaster": table.get("forecaster", {})}
    # The shared tables are built once for themselves, so that a mistake is reported where it
    # stands.
    _build(Budget, shared["budget"], ("budget",))
    _build(Architecture, shared["forecaster"], ("forecaster",))
    sources = {name: _source(path, name, given) for name, given in _tables(table, "data").items()}
    blocks = []
    for index, given in enumerate(_typed(table.get("tasks", []), list, ("tasks",))):
        where = ("tasks", index)
        block = {"methods": methods, "seeds": seeds, **given}
        if isinstance(block.get("look_back"), int):
            block["look_back"] = [block["look_back"]]
        for name, kind in (("budget", Budget), ("forecaster", Architecture)):
            own = _typed(given.get(name, {}), dict, (*where, name))
            block[name] = _build(kind, shared[name] | own, (*where, name))
        blocks.append(_build(Block, block, where))
        for dataset in blocks[-1].datasets:
            known = [*data.known(), *sources]
            if dataset not in known:
                raise _MistakeError(unknown("data set", dataset, known), (*where, "datasets"))
    if not blocks:
        raise _MistakeError("a suite needs at least one [[tasks]] block", ())
    named = dict.fromkeys([*methods, *(name for block in blocks for name in block.methods)])
    hyperparameters = _tables(table, "hyperparameters")
    _known_keys(hyperparameters, named, ("hyperparameters",), "method")
    sweep = _tables(table, "sweep")
    _known_keys(sweep, named, ("sweep",), "method")
    for method, swept in sweep.items():
        _check_sweep(swept, hyperparameters.get(method, {}), ("sweep", method))
    return Suite(
        name=path.stem,
        description=_typed(table.get("description", ""), str, ("description",)),
        methods=tuple(named),
        blocks=tuple(blocks),
        hyperparameters=hyperparameters,
        sweep=sweep,
        sources=sources,
        tuned=_typed(table.get("tuned", False), bool, ("tuned",)),
        tuning=_build(Tuning, _typed(table.get("tuning", {}), dict, ("tuning",)), ("tuning",)),
    )


_TOP = (
    "description",
    "tuned",
    "tuning",
    "seeds",
    "methods",
    "budget",
    "forecaster",
    "hyperparameters",
    "sweep",
    "tasks",
    "data",
)


def _check_sweep(swept: dict[str, Any], fixed: Mapping[str, object], where: Where) -> None:
    for name, values in swept.items():
        here = (*where, name)
        if not isinstance(values, list) or not values:
            raise _MistakeError(f"{name} is {values!r}; a list of values is needed", here)
        if twice := [value for value in values if values.count(value) > 1]:
            raise _MistakeError(f"{name} names {twice[0]!r} twice", here)
        if name in fixed:
            raise _MistakeError(
                f"{name} is in [hyperparameters.{where[-1]}] too: fixed or swept?", here
            )


def _source(suite: Path, name: str, table: dict[str, Any]) -> data.Source:
    where = ("data", name)
    if name in data.known():
        raise _MistakeError(f"{name!r} is the name of a known data set; choose another", where)
    source = _build(data.Source, table, where)
    if source.path.is_absolute():
        return source
    # Relative to the suite's file, and written from here, so that a row does not depend on the
    # machine.
    here = Path(os.path.relpath(suite.parent / source.path))
    return _build(data.Source, {**table, "path": str(here)}, where)


def _tables(table: dict[str, Any], name: str) -> dict[str, dict[str, Any]]:
    outer = _typed(table.get(name, {}), dict, (name,))
    return {key: _typed(inner, dict, (name, key)) for key, inner in outer.items()}


def _known_keys(table: Iterable[str], known: Iterable[str], where: Where, what: str) -> None:
    names = list(known)
    for key in table:
        if key not in names:
            raise _MistakeError(unknown(what, key, names), (*where, key))


def _build(kind: type[Value], table: Mapping[str, Any], where: Where) -> Value:
    """A dataclass from a table: keys known, types right, its own check passed."""
    hints = get_type_hints(kind)
    _known_keys(table, hints, where, "key")
    values = {key: _typed(value, hints[key], (*where, key)) for key, value in table.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise _MistakeError(_what_is_missing(kind, table, error), where) from error
    except ValueError as error:
        # The dataclasses begin their messages with the field's name, which leads to its line.
        at = str(error).split(" ", 1)[0]
        raise _MistakeError(str(error), (*where, at)) from error


def _what_is_missing(kind: type, table: Mapping[str, Any], error: TypeError) -> str:
    missing = [name for name in re.findall(r"'(\w+)'", str(error)) if name not in table]
    return f"{', '.join(missing)} must be given" if missing else f"{kind.__name__}: {error}"


def _typed(value: Any, hint: Any, where: Where) -> Any:  # noqa: ANN401 - from TOML
    """The value as annotated: whole numbers become floats, lists tuples, text paths."""
    inner = get_args(hint)
    if get_origin(hint) is dict:
        return _typed(value, dict, where)
    if get_origin(hint) in (Union, types.UnionType):
        for choice in inner:
            with suppress(_MistakeError):
                return _typed(value, choice, where)
    elif get_origin(hint) is tuple and isinstance(value, list | tuple):
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        if len(kinds) == len(value):
            return tuple(
                _typed(item, kind, where) for item, kind in zip(value, kinds, strict=True)
            )
    elif get_origin(hint) is Literal and value in inner:
        return value
    elif isinstance(value, bool) and hint is not bool:
        pass  # to Python a bool is a number; to a reader of a suite it is not
    elif isinstance(hint, type) and isinstance(value, hint):
        return value
    elif (type(value), hint) in ((int, float), (str, Path)):
        return hint(value)
    raise _MistakeError(f"{where[-1]} is {value!r}; {_wanted(hint)} is needed", where)


def _wanted(hint: Any) -> str:  # noqa: ANN401 - an annotation
    inner = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_wanted(choice) for choice in inner if choice is not types.NoneType)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if get_origin(hint) is tuple:
        many = "a list" if inner[-1] is Ellipsis else f"a list of {len(inner)}"
        return f"{many} (each {_wanted(inner[0])})"
    return _NAMES.get(hint, str(hint))


_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
    dict: "a table",
    list: "an array of tables",
}


# --- the line of a mistake -----------------------------------------------------------------------


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
        if header := re.match(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]", line):
            brackets, dotted = header.groups()
            name, *rest = (part.strip(" \"'") for part in dotted.split("."))
            if brackets == "[[":
                counts[name] = counts.get(name, -1) + 1
            table = (name, *((counts[name],) if name in counts else ()), *rest)
            yield table, number
        elif key := re.match(r"\s*([\w-]+)\s*=", line):
            yield (*table, key[1]), number
