"""Values out of TOML, JSON and CSV: nothing is guessed, and a mistake is named with its place."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.schema import STRICT, MistakeError, from_json, from_table, from_texts


@dataclass(frozen=True)
class Inner:
    """Part of a value."""

    __pydantic_config__ = STRICT

    rate: float
    size: int = 1

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; 1 or more is needed")


@dataclass(frozen=True)
class Outer:
    """A value with a field of every kind that is read."""

    __pydantic_config__ = STRICT

    name: str
    sizes: tuple[int, ...]
    pair: tuple[float, float] | None = None
    path: Path | None = None
    is_on: bool | None = None
    kind: Literal["a", "b"] = "a"
    parts: tuple[Inner, ...] = ()
    by_name: dict[str, Inner] | None = None
    free: dict[str, Any] | None = None


WHOLE = {
    "name": "x",
    "sizes": [1, 2],
    "pair": [1, 0.5],
    "path": "a/b",
    "is_on": True,
    "parts": [{"rate": 1}],
    "by_name": {"first": {"rate": 2.5, "size": 3}},
    "free": {"any": [1, "two", None, {"deep": 0.1}]},
}


def test_a_table_becomes_the_value_that_its_class_describes() -> None:
    """Lists are tuples, a whole number will do for a fraction, and a text for a path."""
    value = from_table(Outer, WHOLE)
    assert value == Outer(
        name="x",
        sizes=(1, 2),
        pair=(1.0, 0.5),
        path=Path("a/b"),
        is_on=True,
        parts=(Inner(1.0),),
        by_name={"first": Inner(2.5, 3)},
        free={"any": [1, "two", None, {"deep": 0.1}]},
    )
    assert isinstance(value.parts[0].rate, float)
    assert from_json(Outer, json.dumps(WHOLE)) == value


@pytest.mark.parametrize(
    ("changes", "message", "where"),
    [
        ({"nmae": "y"}, "unknown key 'nmae'; did you mean 'name'?", ("nmae",)),
        ({"sizes": 3}, "sizes is 3; a list (each a whole number) is needed", ("sizes",)),
        ({"sizes": [1, 2.5]}, "sizes holds 2.5; a whole number is needed", ("sizes", 1)),
        ({"sizes": [True]}, "sizes holds True; a whole number is needed", ("sizes", 0)),
        ({"pair": 1}, "pair is 1; a list of 2 (each a number) is needed", ("pair",)),
        ({"pair": [1, "2"]}, "pair holds '2'; a number is needed", ("pair", 1)),
        ({"path": 1}, "path is 1; a path is needed", ("path",)),
        ({"is_on": 1}, "is_on is 1; true or false is needed", ("is_on",)),
        ({"is_on": "yes"}, "is_on is 'yes'; true or false is needed", ("is_on",)),
        ({"kind": "c"}, "kind is 'c'; one of 'a', 'b' is needed", ("kind",)),
        ({"parts": 1}, "parts is 1; an array of tables is needed", ("parts",)),
        ({"parts": [1]}, "parts holds 1; a table is needed", ("parts", 0)),
        ({"parts": [{}]}, "rate must be given", ("parts", 0)),
        ({"parts": [{"rate": 1, "size": 0}]}, "size is 0; 1 or more", ("parts", 0, "size")),
        ({"parts": [{"rate": 1, "sise": 2}]}, "unknown key 'sise'", ("parts", 0, "sise")),
        ({"parts": [{"rtae": 1}]}, "unknown key 'rtae'; did you", ("parts", 0, "rtae")),
        ({"by_name": {"a": 1}}, "a is 1; a table is needed", ("by_name", "a")),
        ({"free": 1}, "free is 1; a table is needed", ("free",)),
    ],
)
def test_a_mistake_says_what_is_needed_and_where(
    changes: dict[str, object], message: str, where: tuple[str | int, ...]
) -> None:
    """A misspelt name comes before what it leaves out, so that the cause is told."""
    with pytest.raises(MistakeError) as caught:
        from_table(Outer, WHOLE | changes)
    assert str(caught.value).startswith(message)
    assert caught.value.where == where


def test_all_that_is_missing_is_named_at_once() -> None:
    """One error for a table, not one for each try."""
    with pytest.raises(MistakeError, match=r"^name, sizes must be given$"):
        from_table(Outer, {})


def test_a_date_is_no_text() -> None:
    """TOML has dates, and none of our values is one."""
    with pytest.raises(MistakeError, match="2020-01-01 is a date or a time"):
        from_table(Outer, WHOLE | {"free": {"day": date(2020, 1, 1)}})


@dataclass(frozen=True)
class Line:
    """A line of a table of texts."""

    __pydantic_config__ = STRICT

    name: str
    count: int
    is_on: bool
    score: float | None = None
    note: str | None = None


@given(score=st.floats(allow_nan=False, allow_infinity=False), count=st.integers())
def test_numbers_come_back_to_the_last_digit(score: float, count: int) -> None:
    """From texts as Python writes them, and through JSON."""
    texts = {"name": "", "count": str(count), "is_on": "False", "score": repr(score), "note": ""}
    assert from_texts(Line, texts) == Line("", count, is_on=False, score=score)
    assert from_table(Inner, {"rate": score}).rate == score


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": "1.5"}, "column 'count' holds '1.5'; a whole number is expected"),
        ({"count": ""}, "column 'count' holds ''; a whole number is expected"),
        ({"score": "O.1"}, "column 'score' holds 'O.1'; a number is expected"),
        ({"is_on": "yes"}, "column 'is_on' holds 'yes'; True or False is expected"),
        ({"is_on": ""}, "column 'is_on' holds ''; True or False is expected"),
    ],
)
def test_a_text_that_is_no_value_of_its_column_is_named(
    changes: dict[str, str], message: str
) -> None:
    """Pydantic by itself would take yes for true; only what may be None may be empty."""
    with pytest.raises(MistakeError, match=message):
        from_texts(Line, {"name": "x", "count": "1", "is_on": "True"} | changes)
