"""The rows of a suite as one table: read, checked, chosen from, counted.

Everything here is a function of ``results/<suite>/*.csv``. Neither the order of the rows nor that
of their files matters.

A run that failed or diverged is never dropped: it is charged the error of the seasonal-naive
forecast, or of the method's own worst finished seed on that task where that is larger.

Of a method with several settings of its hyperparameters, a sweep, one setting counts on each task:
the one with the least validation error. Test errors choose nothing.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
import pandas as pd

from harness.core.job import Record, canonical, label
from harness.core.names import NAME_RULE, NOT_METHODS, NOT_SUITES, misnamed
from harness.core.words import shortened

NAIVE = "seasonal_naive"
"""The forecast that skill is measured against and that failures are charged."""
UNIFORM = "uniform"
"""Equal patches at the task's K: what changes are measured against."""
UNIFORM_BEST = "uniform_best"
"""Equal patches of the length that validation prefers."""
RANDOM_STEP = "random_step"
"""Random boundaries, new at every step."""
PHASE_SHIFT = "phase_shift"
"""Equal patches on a grid that is moved at random."""
UNIFORM_IDENTITY = "uniform_identity"
"""Equal patches without a backbone: tokens go straight to the head."""
MORE_CHOICES = "more choices than the others"
"""Why a method of :func:`more_choices` has no place."""
METRICS = ["mse", "mae", "mse_raw", "mae_raw", "mase", "smape"]

WINDOWS = ["look_back", "dataset", "horizon"]
"""What fixes the test windows of a task; its patch budget does not."""
TASK = [*WINDOWS, "patches"]
CELL = ["method", *TASK]
"""What fixes a cell of a leaderboard: a method on a task."""
_TEXT = ["suite", "method", "kind", "dataset", "status", "device", "protocol", "data_hash"]
_WHOLE = ["look_back", "horizon", "patches", "seed"]
_NUMBER = [*METRICS, "tokens_mean", "parameters", "train_seconds", "valid_mse"]
_CLAIM = ["ranked", "data_verified"]
_PATCHERS = ["strict", "rules"]
"""What every patcher declares and a reference forecaster cannot, where it is empty."""
_DECLARED = ["kind", "ranked", *_PATCHERS]
"""What a method says of itself, and so the same in all of its rows."""
_KINDS = {name: get_args(hint) or (hint,) for name, hint in get_type_hints(Record).items()}
_OPTIONAL = [
    name
    for name, kind in _KINDS.items()
    if name not in _NUMBER and kind[0] in (int, float) and NoneType in kind
]
_NOTES = [
    "key",
    "method_source",
    "commit",
    "versions",
    "rule",
    "failure",
    "error",
    "data_warning",
    "job",
]
_NAMES = {"suite": NOT_SUITES, "method": NOT_METHODS, "dataset": frozenset[str]()}
_ALLOWED = {"status": ("done", "failed", "diverged"), "kind": ("patcher", "reference")}
_COST, _PUBLISHED = "cost.csv", "published.csv"
Holes = Literal["refuse", "show"]


def read_table(folder: Path) -> pd.DataFrame:
    """All records of a suite, one a row, checked and in a fixed order.

    ``method`` is the label of the arm where a row is of a stage (:attr:`Record.label`), ``base``
    the method itself, and ``stage`` and ``corpus`` are empty for the usual rows; an untrained arm
    is never ranked. ``hyperparameters`` are those of the method, as JSON; ``strict`` and ``rules``
    what a patcher declares, empty for a reference forecaster; ``grid`` whether it is a grid by
    design. ``tested`` is how many test windows a run was scored on where these are not all.
    ``step`` is the cost of a training step in units of that of uniform patches, where
    ``cost.csv`` beside the suite's folder has it; ``published`` and ``published_in`` are the
    MSE of the method in the literature, where ``published.csv`` has one and all test windows
    were scored.

    Raises:
        FileNotFoundError: the folder holds no records.
        ValueError: a column is missing, a value is not what its column says, a run is there twice,
            or runs cannot be compared (other protocol, other data). The message names the case.
    """
    texts = [table for table in map(_texts, row_files(folder)) if len(table)]
    if not texts:
        raise FileNotFoundError(f"{folder} holds no records: run the suite first")
    columns = list(dict.fromkeys([*(name for text in texts for name in text), *_PATCHERS, "grid"]))
    # A column that is younger than a file is empty in it.
    texts = [text.reindex(columns=columns, fill_value="") for text in texts]
    text = pd.concat(texts, ignore_index=True)
    table = _typed(text)
    _refuse_repeats(table, text)
    _refuse_mixtures(table)
    steps = table.base.where(table.stage == "").map(_steps(folder.parent / _COST)).astype(float)
    table = table.assign(step=steps)
    table = table.merge(published_errors(folder.parent / _PUBLISHED), "left", _PUBLISHED_CELL)
    if "tested" in table:
        table["published"] = table.published.where(table.tested.isna())
    return in_order(table)


def row_files(folder: Path) -> list[Path]:
    """The files of a suite's folder that hold records: every CSV file in it."""
    return sorted(folder.glob("*.csv"))


def selected(rows: pd.DataFrame, holes: Holes = "refuse") -> pd.DataFrame:
    """The rows that count: of a sweep those of one setting a task, chosen on validation data.

    That is the setting with the fewest failures and, of these, the least mean validation error
    over seeds. Selecting again changes nothing.

    Raises:
        ValueError: a setting lacks a run that another one has, or has failed in every seed, and
            ``holes`` is "refuse" or nothing else is there. Otherwise the method is left out of
            that task.
    """
    if "trained" in rows:
        return rows
    gaps = gaps_in_sweeps(rows)
    usable = ~pd.MultiIndex.from_frame(rows[CELL]).isin([cell for cell, _ in gaps])
    if gaps and (holes == "refuse" or not usable.any()):
        raise ValueError(
            "a part of a sweep chooses nothing (run the rest, or ask for holes='show'): "
            f"{listed([why for _, why in gaps])}"
        )
    rows = _with_settings(rows)[usable]
    done = rows.status == "done"
    tried = done.groupby([rows[name] for name in CELL])
    finished, all_of_them = tried.transform("sum").astype(str), tried.transform("size").astype(str)
    rows = rows.assign(trained=finished + " of " + all_of_them)
    settings = rows.assign(failed=~done, error=rows.valid_mse.where(done)).groupby(
        [*CELL, "setting"], as_index=False
    )
    trials = settings.agg(failed=("failed", "sum"), error=("error", "mean"))
    best = trials.sort_values(["failed", "error", "setting"]).drop_duplicates(CELL)
    return in_order(rows.merge(best[[*CELL, "setting"]]))


# Reading and checking


def _texts(path: Path) -> pd.DataFrame:
    """The file's fields as they are, and which line of which file each row is."""
    text = pd.read_csv(path, dtype=str, keep_default_na=False)
    wanted = [*_TEXT, *_WHOLE, *_NUMBER, *_CLAIM, "job"]
    if absent := [column for column in wanted if column not in text]:
        raise ValueError(f"{path} has no column {', '.join(absent)}")
    # The header is line 1.
    return text.assign(file=str(path), line=range(2, len(text) + 2))


def _typed(text: pd.DataFrame) -> pd.DataFrame:
    """The columns that tables are made of, each checked and of its type."""
    columns: dict[str, pd.Series[Any]] = {name: text[name] for name in _TEXT}
    for column, allowed in _ALLOWED.items():
        _refuse(text, column, ~text[column].isin(allowed), f"one of {', '.join(allowed)}")
    stems = text.file.map({path: Path(path).stem for path in text.file.unique()})
    _refuse(text, "method", text.method != stems, "the name of the file")
    for column, reserved in _NAMES.items():
        why = {name: misnamed(name, reserved) for name in text[column].unique()}
        _refuse(text, column, text[column].map(why) != "", NAME_RULE)
    for column in _WHOLE:
        whole = [value for value in text[column].unique() if re.fullmatch(r"[0-9]+", value)]
        _refuse(text, column, ~text[column].isin(whole), "a whole number")
        columns[column] = text[column].astype("int64")
    for column in [*_NUMBER, *(name for name in _OPTIONAL if name in text)]:
        number = pd.to_numeric(text[column], errors="coerce").astype("float64")
        unreadable = number.isna() & ~text[column].isin(("", "nan", "NaN"))
        _refuse(text, column, unreadable, "a number or nothing")
        columns[column] = number
    for column in METRICS:
        unfinished = (text.status == "done") & ~np.isfinite(columns[column])
        _refuse(text, column, unfinished, "a finite number in a run that is done")
    for column in _CLAIM:
        # A run that failed before its data were read leaves the second one open.
        _refuse(text, column, ~text[column].isin(("True", "False", "")), "True or False")
        columns[column] = text[column] == "True"
    for column in _PATCHERS:
        _refuse(text, column, (text.kind == "patcher") & (text[column] == ""), _OLDER)
    _refuse(text, "strict", ~text.strict.isin((*_CLAIMS, "")), "True, False or nothing")
    columns["strict"] = text.strict.map(_CLAIMS).astype("boolean")
    _refuse(text, "grid", ~text.grid.isin((*_CLAIMS, "")), "True, False or nothing")
    columns["grid"] = text.grid == "True"  # a row older than the column is of no grid
    columns["rules"] = text.rules.mask(text.rules == "")
    columns |= {name: text[name] for name in _NOTES if name in text}
    if "windows" in columns:
        most = text.job.str.extract(r'"test_windows":\s*([0-9]+)', expand=False).astype("float64")
        columns["tested"] = most.where(columns["windows"] == most)
    columns |= _arms(text, columns)
    columns["hyperparameters"] = text.job.map(_hyperparameters)
    _refuse(
        text, "job", columns["hyperparameters"].isna(), "a job in JSON, with its hyperparameters"
    )
    return pd.DataFrame(columns)


def _arms(text: pd.DataFrame, columns: dict[str, pd.Series[Any]]) -> dict[str, pd.Series[Any]]:
    """Each arm of a method under a label of its own."""
    told = text.reindex(columns=["method", "stage", "corpus"], fill_value="")
    arms = [*told.itertuples(index=False, name=None)]
    labels = {arm: label(*arm) for arm in {*arms}}
    return {
        "base": text.method,
        "stage": told.stage,
        "corpus": told.corpus,
        "method": pd.Series([labels[arm] for arm in arms], text.index),
        "ranked": columns["ranked"] & (told.stage != "untrained"),
    }


_CLAIMS = {"True": True, "False": False}
_OLDER = (
    "what the patcher declares. The row is older than this column: delete its line and run the"
    " suite again"
)


def _hyperparameters(job: str) -> str | None:
    """Those of a job; the rest of its text is not parsed, which for many rows would be slow."""
    before = re.search(r'"hyperparameters":\s*', job)
    if before is None:
        return None
    try:
        _, end = _JSON.raw_decode(job, before.end())
    except ValueError:
        return None
    return _canonical(job[before.end() : end])


_JSON = json.JSONDecoder()


@cache
def _canonical(text: str) -> str:
    return canonical(json.loads(text))


def _steps(path: Path) -> dict[str, float]:
    """The cost of a training step by method, in units of that of uniform patches."""
    if not path.exists():
        return {}
    try:
        table = pd.read_csv(path, usecols=["method", "ratio"], dtype={"ratio": float})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return dict(zip(table.method, table.ratio, strict=True))


def published_errors(path: Path) -> pd.DataFrame:
    """The MSE of methods as published, by method and task, and where; nothing without the file.

    Raises:
        ValueError: a column is missing, a value is no error, or a task is there twice.
    """
    if not path.exists():
        return pd.DataFrame(columns=[*_PUBLISHED_CELL, "published", "published_in"]).astype(
            {"look_back": "int64", "horizon": "int64", "published": float}
        )
    try:
        table = pd.read_csv(path, keep_default_na=False)
        table = table.astype({"look_back": "int64", "horizon": "int64", "value": float})
        table = table[table.metric == "mse"]
        found = table[_PUBLISHED_CELL].assign(
            published=table.value, published_in=table.source + "; " + table.note
        )
    except (AttributeError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not (found.published > 0).all():
        raise ValueError(f"{path}: a value is no error above 0")
    if found.duplicated(_PUBLISHED_CELL).any():
        twice = found[found.duplicated(_PUBLISHED_CELL)].iloc[0]
        raise ValueError(f"{path}: {' '.join(map(str, twice[_PUBLISHED_CELL]))} is there twice")
    return found


_PUBLISHED_CELL = ["method", *WINDOWS]


_LONG = 80  # characters of a value, that a message can be read


def _refuse(rows: pd.DataFrame, column: str, wrong: pd.Series[bool], needed: str) -> None:
    if wrong.any():
        first = rows.iloc[int(np.argmax(wrong.to_numpy()))]
        where = f"{first.file}, line {first.line}"
        found = shortened(first[column], _LONG)
        raise ValueError(f"{where}: {column} is {found!r}; needed: {needed}")


def _refuse_repeats(table: pd.DataFrame, text: pd.DataFrame) -> None:
    runs: dict[Any, Any] = table.groupby([*CELL, "seed", "hyperparameters"]).indices
    repeated = [
        f"{name_of_run(str(method), task, int(seed))} ({text.file[lines[0]]}, lines"
        f" {' and '.join(map(str, text.line[lines]))})"
        for (method, *task, seed, _), lines in runs.items()
        if len(lines) > 1
    ]
    if repeated:
        raise ValueError(f"recorded more than once: {listed(repeated)}")


def _refuse_mixtures(table: pd.DataFrame) -> None:
    protocols = sorted(table.protocol.unique())
    if len(protocols) > 1:
        raise ValueError(f"protocol versions {', '.join(protocols)} cannot share a leaderboard")
    hashes = table[table.data_hash != ""].groupby("dataset").data_hash.unique()
    for dataset, found in hashes.items():
        if len(found) > 1:
            values = ", ".join(sorted(value[:12] for value in found))
            raise ValueError(f"{dataset}: runs on different data cannot be compared ({values})")
    scored = table[table.status == "done"]
    for windows, own in scored.groupby(WINDOWS) if "windows" in scored else ():
        counts = sorted(own.windows.dropna().unique())
        if len(counts) > 1:
            look_back, dataset, horizon = windows
            numbers = " and ".join(f"{count:,.0f}" for count in counts)
            raise ValueError(
                f"{dataset} {look_back}->{horizon}: runs scored on {numbers} test windows cannot"
                " be compared; run the suite again, which repeats those of another budget"
            )
    for column in _DECLARED:
        count = table.groupby("method")[column].nunique(dropna=False)
        if (count > 1).any():
            raise ValueError(
                f"{count.idxmax()}: its rows disagree about {column}, so some are of an earlier"
                " version of the method; run those again"
            )


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Task by task, method by method, seed by seed: so that no order of files matters."""
    return table.sort_values([*TASK, "method", "seed", "hyperparameters"], ignore_index=True)


def missing_runs(rows: pd.DataFrame) -> list[tuple[int, str, str]]:
    """Look-back, method and name of each run that some ranked method has and this one has not."""
    ranked = rows[rows.ranked & (rows.kind == "patcher")]
    run = [*TASK, "seed"]
    there = ranked.pivot_table(
        index=run, columns="method", values="kind", aggfunc="size", fill_value=0
    )
    counts = there.melt(ignore_index=False, value_name="count").reset_index()
    lacking = counts[counts["count"] == 0].sort_values(["method", *run])
    return [
        (task[0], method, name_of_run(method, task, seed))
        for method, *task, seed in lacking[["method", *run]].itertuples(index=False, name=None)
    ]


def more_choices(rows: pd.DataFrame) -> set[tuple[int, str]]:
    """Look-back and method of the ranked patchers that had more choices than another one there.

    A choice is a setting of a sweep (``swept`` of :func:`selected`), a trial of a search, or a
    number of patches other than K where exactly K are asked for. Where all have been swept, or all
    had the same number of trials, nobody had more.
    """
    own = rows[rows.ranked & (rows.kind == "patcher")]
    nothing = pd.Series(0.0, own.index)
    choices = pd.DataFrame(
        {
            "settings": (own.swept != "").astype(float) if "swept" in own else nothing,
            "trials": own.trials.fillna(0) if "trials" in own else nothing,
            "count": _another_count(own).astype(float) if "tokens_mean" in own else nothing,
        }
    )
    most = choices.groupby([own.look_back, own.method]).max()
    more = (most > most.groupby("look_back").transform("min")).any(axis=1)
    return set(most.index[more])


def _another_count(rows: pd.DataFrame) -> pd.Series[bool]:
    """Strict methods with a number of patches of their own."""
    differs = rows.tokens_mean.notna() & (rows.tokens_mean != rows.patches)
    return differs & rows.strict.isin([True])


# Choosing


def _with_settings(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with what was ``swept`` of their method, and the ``setting`` that each has of it.

    Both in words, and empty where a method has the same hyperparameters in all rows of a track.
    """
    table = rows.assign(swept="", setting="")
    for _, texts in rows.groupby(["method", "look_back"]).hyperparameters:
        settings = {text: json.loads(text) for text in texts.unique()}
        several = _several(settings.values())
        if several:
            names = {
                text: ", ".join(f"{name} = {_value(own, name)}" for name in several)
                for text, own in settings.items()
            }
            swept = "; ".join(f"{name} = {', '.join(tried)}" for name, tried in several.items())
            table.loc[texts.index, "setting"] = texts.map(names)
            table.loc[texts.index, "swept"] = swept
    return table


def _several(settings: Collection[dict[str, Any]]) -> dict[str, list[str]]:
    """The hyperparameters that are not the same in all settings, with their values in order."""
    names = sorted({name for setting in settings for name in setting})
    values = {name: {_value(setting, name) for setting in settings} for name in names}
    return {
        name: sorted(found, key=_numbers_first) for name, found in values.items() if len(found) > 1
    }


def _numbers_first(text: str) -> tuple[float, str]:
    """For sorting: numbers by size, then everything else by letter."""
    try:
        return float(text), text
    except ValueError:
        return math.inf, text


def _value(setting: dict[str, Any], name: str) -> str:
    return json.dumps(setting[name]) if name in setting else "not given"


def gaps_in_sweeps(rows: pd.DataFrame) -> list[tuple[tuple[Any, ...], str]]:
    """The parts of sweeps that choose nothing, as method and task, and why."""
    gaps: list[tuple[tuple[Any, ...], str]] = []
    if "trained" in rows:  # chosen before
        return gaps
    swept = _with_settings(rows).query("swept != ''")
    for (method, _), own in swept.groupby(["method", "look_back"]):
        for task, here in own.groupby(TASK):
            for setting in sorted(own.setting.unique()):
                runs = here[here.setting == setting]
                lacking = sorted(set(here.seed) - set(runs.seed))
                if lacking:
                    why = f"lacks seed {', '.join(map(str, lacking))}"
                elif runs.valid_mse.where(runs.status == "done").isna().all():
                    why = "has no run that went through"
                else:
                    continue
                gaps.append(
                    ((method, *task), f"{method} on {name_of_task(task)}, {setting} {why}")
                )
    return gaps


# Counting


def charged(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with failures charged as the module says, and marked in a column ``failed``."""
    done = rows.status == "done"
    finished = rows[METRICS].where(done, axis=0)
    naive = of_method(rows.assign(**finished), NAIVE)
    worst = finished.groupby([rows[column] for column in ("method", *TASK)]).transform("max")
    charge = naive.mask(worst > naive, worst).fillna(worst)
    return rows.assign(failed=~done, **finished.where(done, charge, axis=0))


def of_method(rows: pd.DataFrame, method: str) -> pd.DataFrame:
    """What ``method`` scores on the task of each row, whatever the K; NaN where it has none."""
    score = rows[rows.method == method].groupby(WINDOWS)[METRICS].mean()
    return score.reindex(pd.MultiIndex.from_frame(rows[WINDOWS])).set_axis(rows.index)


def name_of_run(method: str, task: Sequence[Any], seed: int) -> str:
    """A run in words; ``task`` has the values of :data:`TASK`."""
    return f"{method} on {name_of_task(task)} seed {seed}"


def name_of_task(task: Sequence[Any]) -> str:
    """A task in words."""
    look_back, dataset, horizon, patches = task
    return f"{dataset} {look_back}->{horizon} K={patches}"


def listed(names: list[str]) -> str:
    """The names with commas; of very many the first and a count."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


# Enough to see the pattern; a wall of names hides it.
_NAMED = 12
