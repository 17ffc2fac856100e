"""Whatever a plan accepts can be run, ranked and run again: no name or number breaks a suite."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

from harness.bench import suite
from harness.bench.plan import plan
from harness.bench.survey import Folders, PlannedRun, survey, to_run
from harness.core.job import Provenance, Record, new_record
from harness.core.names import NOT_METHODS, NOT_SUITES
from harness.report import tables
from harness.results.bundles import recorded, write_bundle
from harness.results.rows import RowFiles
from harness.results.table import METRICS, read_table

ORIGIN = Provenance("abc", "python 3")
METHOD = """\
from harness.model.patcher import Patcher


class Plain(Patcher):
    def __init__(self, task, *, setting=None):
        super().__init__(task)
"""
# Names that file systems, CSV, Markdown, pandas, TOML or this harness may take for something else.
ODD = [
    *("cells", "leaderboard", "Leaderboard", "report", "runs", "tuning", "a/b", "../up", "..", ""),
    *("=1+1", "+a", "-a", "@a", "'a", "a b", "a|b", "a,b", 'a"b', "a`b", "<b>", "a\nb", "a\0b"),
    *("nan", "NA", "null", "None", "True", "1e5", "007", "a.b", "a.csv", "x-dark", "a-96-24"),
    *("ü", "a#b", "a%sb", "**a**", "_a", ".a", "a" * 100, "a" * 101),
]
ALLOWED = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,3}\Z")
NAMES = st.one_of(ALLOWED, st.sampled_from(ODD), ALLOWED, st.text(max_size=4))
NUMBERS = st.sampled_from([0.0, -1.0, 1e-3, 1, 1e300, 10**30, float("inf"), float("nan")])
WHOLE = st.sampled_from([1, 2, 4, 8, 10**9, 2**31 - 1, -1, 0, 2**31, 2**63, 10**30])
VALUES = st.one_of(NAMES, NUMBERS, st.booleans(), st.lists(NUMBERS, max_size=2))


def beside(good: object, odd: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """An odd value, alone or beside a good one."""
    return odd.flatmap(lambda value: st.sampled_from([[value], [good, value]]))


PLAIN: dict[str, Any] = {
    "name": "small",
    "methods": ["uniform", "random_step"],
    "datasets": ["own"],
    "seeds": [1],
    "look_back": 8,
    "horizons": [2],
    "patches": 2,
    "season": 4,
    "settings": {},
    "budget": {},
}
ODDITIES: dict[str, st.SearchStrategy[Any]] = {
    "name": NAMES,
    "methods": beside("uniform", NAMES),
    "datasets": beside("own", NAMES),
    "seeds": beside(1, WHOLE),
    "look_back": WHOLE,
    "horizons": beside(2, WHOLE),
    "patches": WHOLE,
    "season": WHOLE,
    "settings": st.fixed_dictionaries({"setting": VALUES}),
    "budget": st.dictionaries(
        st.sampled_from(["learning_rate", "epochs", "clip", "weight_decay"]), NUMBERS, max_size=1
    ),
}
SUITES = (
    st.sets(st.sampled_from([*["methods", "datasets"] * 3, *ODDITIES]), min_size=1, max_size=2)
    .flatmap(lambda names: st.fixed_dictionaries({name: ODDITIES[name] for name in names}))
    .map(lambda odd: PLAIN | odd)
)
OUTCOMES = st.lists(
    st.tuples(
        st.sampled_from(["done", "done", "failed", "diverged"]),
        st.sampled_from([0.0, 1e-12, 0.5, 0.25, 3e15]),
        st.one_of(st.text(), st.just('=a,"b"\n' * 40_000)),
    ),
    min_size=1,
    max_size=3,
)


def toml(value: object) -> str:
    """TOML's form of what JSON has, and of what it has not."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return json.dumps(value)


def written_as(drawn: dict[str, Any], place: Path) -> str:
    """The suite in TOML; all its data sets are the one file in ``place``."""
    text = [f"{name} = {toml(drawn[name])}" for name in ("methods", "seeds")]
    text += ["[budget]", *(f"{name} = {toml(value)}" for name, value in drawn["budget"].items())]
    for method in dict.fromkeys(drawn["methods"]):
        text.append(f"[hyperparameters.{json.dumps(method)}]")
        text += [f"{name} = {toml(value)}" for name, value in drawn["settings"].items()]
    for name in dict.fromkeys(drawn["datasets"]):
        own = [f'path = "{place}/own.csv"', 'frequency = "h"', f"season = {drawn['season']}"]
        text += [f"[data.{json.dumps(name)}]", *own]
    text += ["[[tasks]]", f"datasets = {toml(drawn['datasets'])}"]
    text += [f"{name} = {toml(drawn[name])}" for name in ("look_back", "horizons", "patches")]
    return "\n".join(text)


def written(place: Path, drawn: dict[str, Any]) -> Path:
    """The suite's file, its methods and its data."""
    path = place / f"{drawn['name']}.toml"
    path.write_text(written_as(drawn, place), encoding="utf-8")
    (place / "methods").mkdir()
    for method in drawn["methods"]:
        (place / "methods" / f"{method}.py").write_text(METHOD)
    stamps = [
        f"2020-01-{day:02d} {hour:02d}:00,{hour % 5}" for day in range(1, 3) for hour in range(24)
    ]
    (place / "own.csv").write_text("\n".join(["date,a", *stamps]))
    return path


def accepted(path: Path, folders: Folders) -> list[PlannedRun]:
    """What `PLAN=1` shows."""
    return survey(plan(suite.load(path), results=folders.results), folders)


Outcome = tuple[str, float, str]


def done(run: PlannedRun, outcome: Outcome) -> Record:
    """What a worker would leave."""
    status, error, words = outcome
    finished = status == "done"
    scores: dict[str, Any] = dict.fromkeys([*METRICS, "valid_mse"], error) if finished else {}
    failure = {"failed": "exception", "diverged": "diverged", "done": None}[status]
    said = "" if finished else words
    return new_record(
        run.job,
        ORIGIN,
        status=status,
        device="cpu",
        error=said,
        failure=failure,
        **run.identity,
        **scores,
    )


def stored(place: Path, drawn: dict[str, Any], outcomes: list[Outcome]) -> Path | None:
    """The folder of the suite's rows after every run that a plan accepts; None if there is none.

    Then all runs count as done, and nothing is written elsewhere.
    """
    import torch  # noqa: F401 - with it at hand a survey needs no process to load methods

    folders = Folders(place / "results", (), place / "cache", place / "methods")
    try:
        path = written(place, drawn)
    except (OSError, ValueError):
        event("no such file can be")
        return None
    try:
        planned = accepted(path, folders)
    except ValueError:
        event("refused")
        return None
    due = to_run(planned)
    assert len(due) + sum(run.state == "broken" for run in planned) == len(planned)
    assert all(run.why for run in planned if run.state == "broken")
    event(f"accepted, {'some' if due else 'none'} to run")
    if not due:
        return None
    files = RowFiles()
    for number, run in enumerate(due):
        record = done(run, outcomes[number % len(outcomes)])
        write_bundle(folders.runs, record, curves=(), overlay=None)
        files.put(folders.rows(run.job), record)
    files.save()
    again = {run.key: run for run in accepted(path, folders)}
    assert {again[run.key].state for run in due} <= {"done", "failed"}
    kept = recorded(folders.runs, [run.key for run in due])
    assert {run.key: again[run.key].record for run in due} == kept
    outside = {entry.name for entry in place.iterdir()}
    assert outside <= {"results", "cache", "methods", "own.csv", path.name}
    assert {entry.name for entry in folders.results.iterdir()} == {"runs", path.stem}
    return folders.results / path.stem


ENDS = [("done", 0.5, ""), ("failed", 0.0, '=a,"b"\0\r\n' * 40_000), ("diverged", 0.0, "<b>")]


@settings(max_examples=60)
@given(drawn=SUITES)
@example(drawn=PLAIN | {"datasets": ["a/b"]})
@example(drawn=PLAIN | {"datasets": ["x/../../../escape"], "seeds": [1, 2]})
@example(drawn=PLAIN | {"methods": ["cells", "leaderboard"]})
@example(drawn=PLAIN | {"seeds": [-1]})
def test_whatever_a_plan_accepts_can_be_run_and_run_again(
    tmp_path_factory: pytest.TempPathFactory, drawn: dict[str, Any]
) -> None:
    """And its rows are a table, in which every name is one that a file can have."""
    folder = stored(tmp_path_factory.mktemp("any"), drawn, ENDS)
    if folder is not None:
        rows = read_table(folder)
        for name in (*rows.method, *rows.dataset, *rows.suite):
            assert (folder / f"patches-{name}.svg").resolve().parent == folder.resolve()


# An outcome may be an error of any length, and hypothesis writes down what it draws.
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@settings(max_examples=6)
@given(drawn=SUITES, outcomes=OUTCOMES)
def test_whatever_a_plan_accepts_can_be_ranked(
    tmp_path_factory: pytest.TempPathFactory, drawn: dict[str, Any], outcomes: list[Outcome]
) -> None:
    """Whatever its runs came to."""
    folder = stored(tmp_path_factory.mktemp("any"), drawn, outcomes)
    if folder is not None:
        tables.write(folder, "show")


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_accepted_wherever_it_stands_or_nowhere(tmp_path: Path, name: str) -> None:
    """Of methods, data sets and suites; what is kept for one of these is refused there alone."""
    is_name = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name) is not None
    taken = {"methods": NOT_METHODS, "datasets": frozenset[str](), "name": NOT_SUITES}
    for place, reserved in taken.items():
        text = written_as(PLAIN | {place: name if place == "name" else [name]}, tmp_path)
        path = tmp_path / f"{name if place == 'name' else 'small'}.toml"
        try:
            path.write_text(text)
        except (OSError, ValueError):
            continue  # no such file can be
        if "/" in name and place == "name":
            continue  # then it is no name but a path
        if is_name and name.lower() not in reserved:
            suite.load(path)
        else:
            with pytest.raises(ValueError, match=r"cannot be a name: a name is of|is reserved"):
                suite.load(path)
