"""What methods there are and what they declare, without loading torch.

To know what a method declares it has to be loaded, and with it torch, which takes longer than all
else that a survey does. So a child process loads it once, and its answer is kept in the user's
cache until the method's code, or the contract that it stands on, is edited.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from hashlib import sha256
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from harness.core.files import write_text
from harness.core.identity import source_hash
from harness.core.job import Job, canonical
from harness.core.names import NOT_METHODS, misnamed
from harness.core.schema import STRICT, from_json
from harness.core.words import unknown

METHODS = Path(__file__).resolve().parents[2] / "methods"
GROUP = "patchbench.methods"


def names(folder: Path = METHODS) -> list[str]:
    """Every method there is, sorted, without loading any.

    Raises:
        ValueError: the same name inside and outside, or in two packages.
    """
    inside = [path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")]
    return sorted([*inside, *outside(inside, folder)])


def outside(inside: Sequence[str], folder: Path) -> dict[str, EntryPoint]:
    """The methods of other packages, by name; ``inside`` are those of ``folder``.

    Raises:
        ValueError: the same name inside and outside, or in two packages.
    """
    points: dict[str, EntryPoint] = {}
    for point in _installed(tuple(sys.path)):
        if point.name in inside:
            raise ValueError(
                f"method {point.name!r} is in {folder} and also {point.value}; rename one"
            )
        if point.name in points:
            other = points[point.name].value
            raise ValueError(
                f"method {point.name!r} is {other} and also {point.value}; remove one"
            )
        points[point.name] = point
    return points


@cache
def _installed(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:  # noqa: ARG001 - it is what to remember by
    """The entry points of installed packages, looked for once: all that is installed is read.

    ``path`` is ``sys.path``, which decides what is found.
    """
    # Read anew: where the backport of importlib.metadata is loaded, as by MLflow, it is the
    # backport's finder that answers, with a class of its own.
    return tuple(
        EntryPoint(point.name, point.value, point.group) for point in entry_points(group=GROUP)
    )


@dataclass(frozen=True)
class Card:
    """What a method declares of itself, in words: the paragraphs of its docstring, and its track.

    ``fidelity`` begins with paper, code, re-implementation or our design.
    """

    __pydantic_config__ = STRICT

    summary: str
    source: str
    fidelity: str
    track: str


@dataclass(frozen=True)
class Hyperparameter:
    """A keyword-only argument of a method; ``odd`` shows a default that is no plain value."""

    __pydantic_config__ = STRICT

    name: str
    default: Any = None
    is_required: bool = False
    odd: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.default, list):  # a tuple that was JSON
            object.__setattr__(self, "default", tuple(self.default))


@dataclass(frozen=True)
class Declared:
    """What a method declares, as plain values.

    ``source`` is the hash of its code, ``where`` its class and file, for messages, ``rules`` its
    evaluation rules, joined by a space. A method that
    ``cuts_its_own`` number of patches promises exactly those, in the place of the task's K.
    """

    __pydantic_config__ = STRICT

    source: str
    where: str
    kind: Literal["patcher", "reference"]
    ranked: bool
    strict: bool | None
    grid: bool | None
    rules: str | None
    cuts_its_own: bool
    hyperparameters: tuple[Hyperparameter, ...]
    card: Card

    @property
    def columns(self) -> dict[str, Any]:
        """What a row says of its method: columns of a record, by name."""
        return {
            "method_source": self.source,
            "kind": self.kind,
            "ranked": self.ranked,
            "strict": self.strict,
            "grid": self.grid,
            "rules": self.rules,
        }

    def complete(self, given: Mapping[str, object]) -> dict[str, object]:
        """All hyperparameters, defaults filled in: :func:`complete`."""
        return complete(self.where, self.hyperparameters, given)


def complete(
    where: str, known: Sequence[Hyperparameter], given: Mapping[str, object]
) -> dict[str, object]:
    """All hyperparameters of a method, defaults filled in, so that a job is complete.

    Raises:
        ValueError: a hyperparameter that it does not take, or one without a default left out.
    """
    allowed = [parameter.name for parameter in known]
    for name in given:
        if name not in allowed:
            raise ValueError(f"{where}: {unknown('hyperparameter', name, allowed)}")
    values = {}
    for parameter in known:
        name, odd = parameter.name, parameter.odd
        if name in given:
            odd = "" if is_plain(given[name]) else repr(given[name])
        elif parameter.is_required:
            raise ValueError(f"{where}: hyperparameter {name!r} has no default and is not given")
        if odd:
            raise ValueError(
                f"{where}: hyperparameter {name!r} is {odd}, which is not a plain value"
            )
        values[name] = given.get(name, parameter.default)
    return values


def is_plain(value: object) -> bool:
    """Whether it is a number, a text, true, false, none, or a list of such: what JSON can say."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


# --- asking --------------------------------------------------------------------------------------


Question = tuple[str, tuple[Any, ...]]
"""A function of :mod:`harness.model.inspection`, and its arguments."""


class Declarations:
    """Asks the methods of a folder what they declare, until it is closed.

    Answers are kept in ``cache``, a folder that need not be there. Where torch is loaded anyway,
    the methods are loaded here.

    Raises:
        ValueError: when first asked, a method of two origins.
    """

    def __init__(self, cache: Path, folder: Path = METHODS) -> None:
        self._folder, self._path = folder, cache / "declared.json"
        self._sources: dict[str, tuple[str, str] | None] = {}
        self._kept: dict[str, str] | None = None
        self._new: dict[str, str] = {}
        self._child: tuple[BaseProcess, Connection[Any, Any]] | None = None

    def close(self) -> None:
        """End the child process, and keep what is new."""
        if self._child is not None:
            self._hang_up()
        if self._new:
            # The newest last, and not without end. A cache that cannot be written is none.
            kept = {**self._cached(), **self._new}
            with suppress(OSError):
                write_text(self._path, json.dumps(dict([*kept.items()][-_KEPT:])))

    @cached_property
    def names(self) -> list[str]:
        """Every method that can be asked, sorted."""
        return names(self._folder)

    def of(self, name: str) -> Declared:
        """What the method declares.

        Raises:
            ValueError: no such method, a name that none can have, or its file cannot be loaded or
                does not hold exactly one.
        """
        if name not in self.names:
            raise ValueError(unknown("method", name, self.names))
        if why := misnamed(name, NOT_METHODS):
            raise ValueError(why)
        return from_json(Declared, self._ask("declaration", name))

    def misfit(self, job: Job) -> str:
        """Why the head cannot use as many patches as the job's method has, or nothing."""
        return str(json.loads(self._ask("misfit", job.method, job)))

    def learns(self, job: Job) -> bool:
        """Whether there is anything to tune: weights that training changes.

        Raises:
            ValueError: a method that cannot be built.
        """
        return bool(json.loads(self._ask("learns", job.method, job)))

    def _ask(self, what: str, name: str, job: Job | None = None) -> str:
        """The answer as JSON: from the cache, or from whoever has torch."""
        question = (what, (name, self._folder) if job is None else (name, self._folder, job))
        if "torch" in sys.modules:
            return _answer(question)
        key = self._key(what, name, job)
        if key is None or (answer := self._cached().get(key) or self._new.get(key)) is None:
            answer = self._ask_child(question, name)
            if key is not None:
                self._new[key] = answer
        return answer

    def _key(self, what: str, name: str, job: Job | None) -> str | None:
        """What the answer depends on; None where that cannot be known without loading it."""
        if name not in self._sources:
            self._sources[name] = _source(name, self._folder)
        if self._sources[name] is None:
            return None
        parts = () if job is None else (asdict(job.task), asdict(job.architecture))
        settings = {} if job is None else dict(job.hyperparameters)
        content = canonical([what, self._sources[name], self._contract, parts, settings])
        return sha256(content.encode()).hexdigest()

    @cached_property
    def _contract(self) -> str:
        """The hash of this room: what methods stand on, and what asks them."""
        files = sorted(Path(__file__).parent.glob("*.py"))
        return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()

    def _cached(self) -> dict[str, str]:
        if self._kept is None:
            try:
                self._kept = dict(json.loads(self._path.read_text(encoding="utf-8")))
            except (OSError, TypeError, ValueError):
                self._kept = {}
        return self._kept

    def _ask_child(self, question: Question, name: str) -> str:
        # Once more where it was killed: that may have been no fault of the method.
        reply = self._reply(question) or self._reply(question)
        if reply is None or reply == _NO_REPLY:
            raise ValueError(f"method {name!r} ended the process that loaded it")
        answer, error = reply
        if error:
            raise ValueError(error)
        return answer

    def _reply(self, question: Question) -> tuple[str, str] | None:
        """What the child answers, or its error; None where it was killed."""
        if self._child is None:
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            started = context.Process(target=_serve, args=(theirs,), daemon=True)
            started.start()
            theirs.close()
            self._child = started, ours
        process, pipe = self._child
        try:
            pipe.send(question)
            answer, error = pipe.recv()
        except (EOFError, OSError):
            self._hang_up()
            return None if (process.exitcode or 0) < 0 else _NO_REPLY
        return str(answer), str(error)

    def _hang_up(self) -> None:
        assert self._child is not None
        process, pipe = self._child
        pipe.close()
        process.join()
        self._child = None


_NO_REPLY = ("", "")
_KEPT = 2000  # answers, of about a kilobyte each


def _source(name: str, folder: Path) -> tuple[str, str] | None:
    """Where the method is, and the hash of its code as far as that is seen from there."""
    path, module = folder / f"{name}.py", f"methods.{name}"
    try:
        if not path.is_file():
            module = outside([], folder)[name].module
            spec = find_spec(module)
            path = Path(spec.origin or "") if spec is not None else path
        return str(path), source_hash(module, path)
    except (ImportError, OSError, ValueError):
        return None


def _answer(question: Question) -> str:
    what, arguments = question
    # By name: the parent has no need of it, and it imports this module.
    return str(getattr(import_module("harness.model.inspection"), what)(*arguments))


def _serve(pipe: Connection[Any, Any]) -> None:
    """The child's side: answer until the parent hangs up."""
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            question = pipe.recv()
            try:
                pipe.send((_answer(question), ""))
            except ValueError as error:
                pipe.send(("", str(error)))
