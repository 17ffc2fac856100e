"""Values out of text: TOML tables, JSON and the fields of a CSV become checked dataclasses.

A dataclass says itself which fields there are, of which types, and checks their values. What does
not fit is a :class:`MistakeError`: what was found, what is needed, which known name is near. The
dataclasses that are read set ``__pydantic_config__ = STRICT``: no unknown field, and no value that
would have to be turned into another one first, as a text into a number.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import (
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import ConfigDict, TypeAdapter, ValidationError

from harness.core.words import unknown

Value = TypeVar("Value")
Where = tuple[str | int, ...]

STRICT: ConfigDict = {"extra": "forbid", "strict": True}


class MistakeError(ValueError):
    """Something wrong in what was read; ``where`` are the names and indices that lead there."""

    def __init__(self, message: str, where: Where = ()) -> None:
        super().__init__(message)
        self.where = where


def from_json(kind: type[Value], text: str) -> Value:
    """A dataclass from JSON: whole numbers do for floats, lists for tuples and texts for paths.

    Raises:
        MistakeError: the first thing that is wrong, unknown names before all others.
    """
    try:
        return cast("Value", _adapter(cast("Hashable", kind)).validate_json(text))
    except ValidationError as error:
        raise _mistake(kind, error, "needed") from error


def from_table(kind: type[Value], table: Mapping[str, Any]) -> Value:
    """A dataclass from nested tables, as TOML has them; as :func:`from_json` reads them."""
    _refuse_infinite(table, ())
    return from_json(kind, json.dumps(table, default=_refuse))


def from_texts(kind: type[Value], texts: Mapping[str, str]) -> Value:
    """A dataclass from the texts of its fields; for one that may be None, empty is None.

    Raises:
        MistakeError: the first thing that is wrong.
    """
    hashable = cast("Hashable", kind)
    optional, flags = _kinds(hashable)
    given = {name: text for name, text in texts.items() if text or name not in optional}
    for name in flags:  # pydantic would also take yes, on and 1
        if given.get(name, "True") not in ("True", "False"):
            raise MistakeError(
                f"column {name!r} holds {given[name]!r}; True or False is expected", (name,)
            )
    try:
        return cast("Value", _adapter(hashable).validate_strings(given))
    except ValidationError as error:
        raise _mistake(kind, error, "expected") from error


def _refuse_infinite(value: object, where: Where) -> None:
    """TOML knows nan and inf, which no setting can be: no key could be made of it."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _refuse_infinite(inner, (*where, str(name)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_infinite(inner, (*where, index))
    elif isinstance(value, float) and not math.isfinite(value):
        name = next((part for part in reversed(where) if isinstance(part, str)), "")
        raise MistakeError(f"{name} is {value}; a finite number is needed", where)


def _refuse(value: object) -> None:
    raise MistakeError(f"{value} is a date or a time, which nothing here takes")


@cache
def _adapter(kind: Any) -> Any:  # noqa: ANN401 - a TypeAdapter, which beartype does not take
    return TypeAdapter(kind)


# --- what went wrong -----------------------------------------------------------------------------


def _mistake(kind: type, error: ValidationError, verb: str) -> MistakeError:
    """The first error as a sentence."""
    errors = error.errors(include_url=False)
    strange = [found for found in errors if found["type"] == "unexpected_keyword_argument"]
    first = (strange or errors)[0]
    where, given = first["loc"], first["input"]
    match first["type"]:
        case "unexpected_keyword_argument":
            known = _names(_hint(kind, where[:-1]))
            return MistakeError(unknown("key", str(where[-1]), known), where)
        case "missing":
            beside = [
                str(found["loc"][-1])
                for found in errors
                if found["type"] == "missing" and found["loc"][:-1] == where[:-1]
            ]
            return MistakeError(f"{', '.join(beside)} must be given", where[:-1])
        case "value_error":
            # The dataclasses begin their messages with the field's name, which leads to its line.
            said = str(first["ctx"]["error"])
            return MistakeError(said, (*where, said.split(" ", 1)[0]))
        case "json_invalid":
            return MistakeError(first["msg"])
    wanted = _wanted(_hint(kind, where))
    name = next((part for part in reversed(where) if isinstance(part, str)), "")
    if verb == "expected":
        return MistakeError(f"column {name!r} holds {given!r}; {wanted} is expected", where)
    does = "is" if where and where[-1] == name else "holds"
    return MistakeError(f"{name or 'what is given'} {does} {given!r}; {wanted} is needed", where)


def _hint(hint: Any, where: Where) -> Any:  # noqa: ANN401 - an annotation
    """The annotation of what lies at ``where`` below one."""
    for part in where:
        hint = next(iter(_choices(hint)), hint)
        inner = get_args(hint)
        if is_dataclass(hint):
            hint = get_type_hints(hint).get(str(part), Any)
        elif get_origin(hint) in (tuple, list):
            hint = inner[0] if len(inner) == 1 or inner[-1] is Ellipsis else inner[int(part)]
        elif get_origin(hint) is dict:
            hint = inner[1]
    return hint


def _choices(hint: Any) -> Sequence[Any]:  # noqa: ANN401 - an annotation
    """What a value that may be left out is, or what it may be."""
    if get_origin(hint) not in (Union, types.UnionType):
        return [hint]
    return [choice for choice in get_args(hint) if choice is not types.NoneType]


@cache
def _kinds(kind: type) -> tuple[frozenset[str], frozenset[str]]:
    """The fields that may be None, and those that are true or false."""
    hints = get_type_hints(kind)
    optional = (name for name, hint in hints.items() if types.NoneType in get_args(hint))
    flags = (name for name, hint in hints.items() if bool in _choices(hint))
    return frozenset(optional), frozenset(flags)


def _names(kind: Any) -> list[str]:  # noqa: ANN401 - an annotation
    return [field.name for field in fields(kind)] if is_dataclass(kind) else []


def _wanted(hint: Any) -> str:  # noqa: ANN401 - an annotation
    choices = _choices(hint)
    if len(choices) > 1:
        return " or ".join(map(_wanted, choices))
    [hint] = choices
    inner = get_args(hint)
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, inner))}"
    if get_origin(hint) in (tuple, list):
        if is_dataclass(inner[0]):
            return "an array of tables"
        many = "a list" if inner[-1] is Ellipsis or len(inner) == 1 else f"a list of {len(inner)}"
        return f"{many} of values" if inner[0] is Any else f"{many} (each {_wanted(inner[0])})"
    if is_dataclass(hint) or get_origin(hint) is dict:
        return "a table"
    return _NAMES.get(hint, str(hint))


_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    Path: "a path",
}
