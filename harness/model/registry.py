"""Methods by name: a file in ``methods/`` or an entry point of the group ``patchbench.methods``.

A file's name is its method's name and the one class in it is the method. Files are loaded one at a
time, when asked for, so a broken one hides no other.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeGuard

from harness.core import identity
from harness.core.job import Job
from harness.core.names import NOT_METHODS, misnamed
from harness.core.words import unknown
from harness.model.declared import (
    GROUP,
    METHODS,
    Card,
    Declared,
    Hyperparameter,
    complete,
    is_plain,
    names,
    outside,
)
from harness.model.forecaster import Forecaster
from harness.model.patcher import Patcher

__all__ = [
    "GROUP",
    "METHODS",
    "Card",
    "Method",
    "arguments",
    "card",
    "complete_hyperparameters",
    "declaration",
    "declared",
    "find",
    "kind",
    "learns",
    "names",
    "ranked",
    "source_hash",
]

Method = type[Patcher] | type[Forecaster]


def find(name: str, folder: Path = METHODS) -> Method:
    """The class of a method.

    Raises:
        ValueError: no such method, a name that none can have, or its file cannot be loaded or does
            not hold exactly one.
    """
    if name not in names(folder):
        raise ValueError(unknown("method", name, names(folder)))
    if why := misnamed(name, NOT_METHODS):
        raise ValueError(why)
    path = folder / f"{name}.py"
    if path.is_file():
        return _the_one(_loaded(path))
    point = outside([], folder)[name]
    try:
        found = point.load()
    except Exception as error:
        raise ValueError(
            f"method {name!r} ({point.value}) cannot be loaded: {_said(error)}"
        ) from error
    if isinstance(found, ModuleType):
        return _the_one(found)
    if not _is_method(found):
        raise ValueError(f"method {name!r} ({point.value}) is not a Patcher or Forecaster class")
    return found


def kind(method: Method) -> Literal["patcher", "reference"]:
    """Whether the method cuts patches for the shared forecaster or is a forecaster of its own."""
    return "patcher" if issubclass(method, Patcher) else "reference"


def ranked(method: Method) -> bool:
    """Only patchers compete, and only those that are not shown the true boundaries."""
    return issubclass(method, Patcher) and not method.uses_truth


def declared(method: Method) -> dict[str, Any]:
    """What a row says of its method: columns of a record, by name.

    ``rules`` are joined by a space. A reference forecaster has no patch budget and no boundaries:
    ``strict``, ``grid`` and ``rules`` are None.
    """
    own: dict[str, Any] = {"kind": kind(method), "ranked": ranked(method)}
    own |= {"strict": None, "grid": None, "rules": None}
    if issubclass(method, Patcher):
        rules = " ".join(method.rules)
        own |= {"strict": method.strict, "grid": method.grid, "rules": rules}
    return own


def arguments(method: Method) -> list[inspect.Parameter]:
    """What the method's constructor takes, itself left out."""
    # Of __init__: the class itself answers with the __new__ that all patchers share.
    return list(inspect.signature(method.__init__).parameters.values())[1:]


def card(method: Method) -> Card:
    """The method's declarations; what it does not say is what the class above says, or empty."""

    def after(word: str) -> str:
        for above in method.__mro__:
            for paragraph in _paragraphs(above):
                if paragraph.startswith(word):
                    return paragraph.removeprefix(word).strip()
        return ""

    summary = _paragraphs(method)[0]
    return Card(summary, after("Source:"), after("Fidelity:"), ", ".join(_track(method)))


def _paragraphs(kind: type) -> list[str]:
    text = inspect.cleandoc(vars(kind).get("__doc__") or "")
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _track(method: Method) -> list[str]:
    if not issubclass(method, Patcher):
        return ["reference", "a path of its own from the look-back to the forecast"]
    said = {
        "sees the true boundaries": method.uses_truth,
        "causal": method.causal,
        "needs pre-training": method.pretrained,
    }
    budget = "strict budget" if method.strict else "soft budget"
    return [budget, "no bypass", *(words for words, is_so in said.items() if is_so)]


def declaration(method: Method) -> Declared:
    """All that the method declares, as plain values.

    Raises:
        ValueError: a file of its code that cannot be parsed.
    """
    return Declared(
        source=source_hash(method),
        where=_where(method),
        **declared(method),
        cuts_its_own=issubclass(method, Patcher) and method.free_count,
        hyperparameters=tuple(_hyperparameters(method)),
        card=card(method),
    )


def complete_hyperparameters(
    method: Method, hyperparameters: Mapping[str, object]
) -> dict[str, object]:
    """All hyperparameters of the constructor, defaults filled in, so that a job is complete.

    Raises:
        ValueError: a hyperparameter that it does not take, or one without a default left out.
    """
    return complete(_where(method), [*_hyperparameters(method)], hyperparameters)


def learns(method: Method, job: Job) -> bool:
    """Whether there is anything to tune: weights that training changes.

    Raises:
        ValueError: a method that cannot be built.
    """
    own = complete_hyperparameters(method, dict(job.hyperparameters))
    if issubclass(method, Patcher):
        method(job.task, **own)
        return True  # the shared forecaster has some
    weights = method(job.task, job.architecture, **own).parameters()
    return any(weight.requires_grad for weight in weights)


def _hyperparameters(method: Method) -> Iterator[Hyperparameter]:
    for parameter in arguments(method):
        name, default = parameter.name, parameter.default
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        if default is parameter.empty:
            yield Hyperparameter(name, is_required=True)
        elif is_plain(default):
            yield Hyperparameter(name, default)
        else:
            yield Hyperparameter(name, odd=repr(default))


def source_hash(method: Method) -> str:
    """Sha256 of what the method's code does: :func:`harness.core.identity.source_hash`."""
    return identity.source_hash(method.__module__, _file(method))


def _loaded(path: Path) -> ModuleType:
    name = f"methods.{path.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it is being loaded
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{path} cannot be loaded: {_said(error)}") from error
    return module


def _the_one(module: ModuleType) -> Method:
    own = [
        value
        for name, value in vars(module).items()
        if _is_method(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    if len(own) != 1:
        found = ", ".join(value.__name__ for value in own) or "none"
        raise ValueError(
            f"{module.__file__} must hold exactly one public class that is a Patcher or a"
            f" Forecaster; found: {found}"
        )
    return own[0]


def _is_method(value: object) -> TypeGuard[Method]:
    return isinstance(value, type) and issubclass(value, Patcher | Forecaster)


def _where(method: Method) -> str:
    return f"{method.__name__} ({_file(method)})"


def _file(method: Method) -> Path:
    return Path(inspect.getfile(method))


def _said(error: Exception) -> str:
    """The error in one line, with the line of the method's file where there is one."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    line = error.lineno if isinstance(error, SyntaxError) else last and last.tb_lineno
    return f"line {line}: {type(error).__name__}: {error}"
