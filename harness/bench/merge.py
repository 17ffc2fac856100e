"""Rows of another results folder, as of a second machine, taken into this one.

Nothing is chosen between two rows of one run that say different things: that is refused with both
lines, before anything is written.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.bench import watch
from harness.bench.suite import Choice, choices, write_choices
from harness.core.files import put_folder, writing
from harness.core.job import Record
from harness.report.kinds import kind_of
from harness.results.bundles import recorded
from harness.results.compare import measured_differences
from harness.results.rows import read_rows, write_rows
from harness.results.table import listed, row_files


@dataclass(frozen=True)
class Merged:
    """What came of it: rows and bundles that were taken, and rows that were here before."""

    taken: int
    there: int
    bundles: int


@dataclass
class _Plan:
    """What is to be written, and why nothing is."""

    rows: dict[Path, list[Record]] = field(default_factory=dict)
    choices: dict[Path, list[Choice]] = field(default_factory=dict)
    studies: dict[Path, Path] = field(default_factory=dict)
    new: list[Record] = field(default_factory=list)
    there: int = 0
    conflicts: list[str] = field(default_factory=list)


def merge(source: Path, results: Path) -> Merged:
    """Take the rows of ``source`` that ``results`` has not, with their bundles and choices.

    Two rows of one run that measured the same are one; the one in ``results`` stays.

    Raises:
        ValueError: ``source`` has no rows; a bench is at work in one of the folders; two rows of
            one run are of other code, settings or data, or measured something else; or the rows
            of both cannot share a leaderboard. Then nothing is changed.
        OSError: results cannot be written.
    """
    suites = _suites(source, results)
    with ExitStack() as held:
        for name in suites:
            if (process := watch.holder(source, name)) is not None:
                raise ValueError(f"{source} is in use by process {process}: wait for its end")
            held.enter_context(watch.alone(results, name))
        plan = _Plan()
        for name in suites:
            _look_at_rows(source / name, results / name, plan)
            _look_at_searches(source, results, name, plan)
        if plan.conflicts:
            raise ValueError(
                f"nothing is taken from {source}: {listed(plan.conflicts)}. Only you can say which"
                " is right; remove the other one"
            )
        for name in suites:
            _refuse_mixture(results, name, plan)
        with writing(results):
            bundles = _copy_bundles(source / "runs", results / "runs", plan.new)
            for study, place in plan.studies.items():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(study, place)
            for path, found in plan.choices.items():
                write_choices(path, found)
            for path, rows in plan.rows.items():
                write_rows(path, rows)
    return Merged(len(plan.new), plan.there, bundles)


def _suites(source: Path, results: Path) -> list[str]:
    """The names of the suites that have rows in ``source``."""
    if not source.is_dir():
        raise ValueError(f"{source} is no folder of results: it is not there")
    if results.exists() and source.samefile(results):
        raise ValueError(f"{source} is {results} itself; rows of another folder are needed")
    names = sorted({path.parent.name for path in source.glob("*/*.csv")})
    if not names:
        raise ValueError(f"{source} holds no rows: {source}/<suite>/<method>.csv is looked for")
    return names


def _look_at_rows(source: Path, here: Path, plan: _Plan) -> None:
    for path in row_files(source):
        place = here / path.name
        own = read_rows(place)
        known = {record.coordinates: (line, record) for line, record in enumerate(own, 2)}
        new = []
        for line, record in enumerate(read_rows(path), 2):
            where = f"{path}, line {line}"
            if (record.suite, record.method) != (source.name, path.stem):
                plan.conflicts.append(f"{where} is of {record.method!r} in {record.suite!r}")
            elif (beside := known.get(record.coordinates)) is None:
                new.append(record)
            elif why := _why_not_one(beside[1], record):
                both = f"{place}, line {beside[0]}, and {where}"
                plan.conflicts.append(f"{both}, are of one run, {record}, and differ ({why})")
            else:
                plan.there += 1
        if new:
            plan.rows[place] = [*own, *new]
            plan.new += new


def _why_not_one(here: Record, other: Record) -> str:
    """Why two rows cannot stand for the same run, or nothing."""
    if here.key != other.key:
        return f"key: {here.key} -> {other.key}, so code, settings or data are others"
    found = measured_differences(here, other)
    return f"{found[0]}" + (f" and {len(found) - 1} more" if found[1:] else "") if found else ""


def _look_at_searches(source: Path, results: Path, suite: str, plan: _Plan) -> None:
    """What searches chose, and how they went."""
    for path in sorted((source / suite / "tuned").glob("*.toml")):
        place = results / suite / "tuned" / path.name
        known = {choice.coordinates: choice for choice in choices(place)}
        new = [choice for choice in choices(path) if known.get(choice.coordinates) != choice]
        for choice in new:
            if choice.coordinates in known:
                task = " ".join(map(str, choice.coordinates))
                plan.conflicts.append(f"{place} and {path} have other choices for {task}")
        if new:
            plan.choices[place] = [*known.values(), *new]
    for path in sorted((source / "tuning" / suite).glob("*.json")):
        place = results / "tuning" / suite / path.name
        if not place.exists():
            plan.studies[path] = place


def _refuse_mixture(results: Path, suite: str, plan: _Plan) -> None:
    """Read the suite as it would be: other data or another protocol show only side by side."""
    with TemporaryDirectory() as folder:
        made = Path(folder) / suite
        made.mkdir()
        for path in {*row_files(results / suite), *plan.rows}:
            if path.parent == results / suite:
                write_rows(made / path.name, plan.rows.get(path) or read_rows(path))
        try:
            kind_of(made).read(made)
        except ValueError as error:
            said = str(error).replace(f"{made}{os.sep}", "")
            raise ValueError(f"rows of suite {suite!r} cannot stand together: {said}") from error


def _copy_bundles(source: Path, runs: Path, rows: list[Record]) -> int:
    found = list(_bundles_to_copy(source, runs, rows))
    for bundle in found:
        temporary = runs / f".{bundle.name}.{os.getpid()}"
        try:
            shutil.copytree(bundle, temporary)
            put_folder(temporary, runs / bundle.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return len(found)


def _bundles_to_copy(source: Path, runs: Path, rows: list[Record]) -> Iterator[Path]:
    """Those of new rows that say what the row says, and are not here."""
    bundles = recorded(source, (row.key for row in rows))
    for row in rows:
        if bundles.get(row.key) == row and not (runs / row.key).exists():
            yield source / row.key
