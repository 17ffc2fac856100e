"""Rows in, ranking out: what ``results/<suite>/*.csv`` say, as tables, Markdown and CSV.

Everything here is a function of the rows (:mod:`harness.ledger`): the same rows give the same
bytes. Two look-backs are two tracks and never share a table. A cell with failures ranks behind all
that have fewer; so a crash can cost places, but not win one.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import gmean, rankdata

from harness.ledger import (
    CELL,
    METRICS,
    NAIVE,
    OWN,
    TASK,
    UNIFORM,
    WRITTEN,
    Holes,
    charged,
    gaps_in_sweeps,
    in_order,
    listed,
    missing_runs,
    of_method,
    rows,
    selected,
)
from harness.store import write_text

_BOUNDARIES = {
    "mse_as_trained": "as trained",
    "mse_swapped": "swapped",
    "mse_other_channel": "other channel",
    "mse_permuted": "permuted",
    "f1_0": "F1 at 0",
    "f1_1": "F1 at 1",
    "f1_2": "F1 at 2",
    "f1_3": "F1 at 3",
}
_BOUNDARIES_CAPTION = (
    "MSE with the boundaries that evaluation uses, and with others: as in training, where that is "
    "not the same; of another window; of another channel; with the patch lengths shuffled. F1 is "
    "the agreement with the true boundaries within so many steps. Means over runs."
)
_START, _END = r"<!-- leaderboard:start (?P<suite>\w+) -->", "<!-- leaderboard:end -->"
_BLOCK = re.compile(rf"(?P<start>{_START})(?:(?!<!-- leaderboard:start).)*?{_END}", re.DOTALL)


def cells(rows: pd.DataFrame, holes: Holes = "refuse") -> pd.DataFrame:
    """Mean and standard deviation over seeds, by method and cell; failures charged, see above.

    Columns: the cell, ``method``, ``kind``, ``ranked``, ``runs`` (seeds), ``failures`` (of
    them), and for each metric its mean and ``<metric>_sd``, empty for a single seed.
    """
    runs = charged(in_order(selected(rows, holes)))
    groups = runs.groupby([*CELL, "method", "kind", "ranked"], sort=True)
    mean = groups[METRICS].mean()
    spread = groups[METRICS].std().add_suffix("_sd")
    columns = [column for metric in METRICS for column in (metric, f"{metric}_sd")]
    counts = groups["failed"].agg(runs="size", failures="sum")
    return pd.concat([counts, mean.join(spread)[columns]], axis=1).reset_index()


def ranking(rows: pd.DataFrame, holes: Holes = "refuse") -> pd.DataFrame:
    """One line per look-back and method, the ranked ones first and in order.

    ``place`` is empty for references, for methods that are never ranked, and for those with holes.
    ``skill`` is 1 - the geometric mean over cells of MSE / MSE of the seasonal-naive forecast;
    ``change`` is that of MSE against uniform patches at the same K in percent, averaged within
    each data set and then over data sets; both are empty where a cell lacks what they are held to.
    ``mean_rank`` is over cells, among the methods with a place; ties share their ranks. ``step``
    is there where costs were measured (:func:`rows`).

    Raises:
        ValueError: a ranked method lacks a run that another one has, or a sweep is not complete
            (:func:`selected`), and ``holes`` is "refuse".
    """
    rows = selected(rows, holes)
    missing = missing_runs(rows)
    if missing and holes == "refuse":
        names = listed([name for *_, name in missing])
        raise ValueError(f"runs are missing (run them, or ask for holes='show'): {names}")
    incomplete = {(look_back, method) for look_back, method, _ in missing}
    table = cells(rows)
    tracks = [
        _track(track, rows[rows.look_back == look_back], incomplete)
        for look_back, track in table.groupby("look_back")
    ]
    order = pd.concat(tracks, ignore_index=True)
    return order.drop(columns="step") if order.step.isna().all() else order


def markdown(rows: pd.DataFrame, holes: Holes = "refuse") -> str:
    """The leaderboard page: by look-back the ranking, what stands beside it, and every cell."""
    gaps = gaps_in_sweeps(rows)
    rows = selected(rows, holes)
    order = ranking(rows, holes)
    suite = ", ".join(sorted(rows.suite.unique()))
    parts = [f"# Leaderboard: {suite}", _caption(rows, order)]
    if missing := [name for *_, name in missing_runs(rows)]:
        parts.append(f"**Holes**, so these methods have no place. Missing: {listed(missing)}.")
    if gaps:
        what = "**Sweeps in part**, which choose nothing, so these cells are left out"
        parts.append(f"{what}: {listed([why for _, why in gaps])}.")
    table = cells(rows)
    for look_back, track in order.groupby("look_back"):
        here, runs = table[table.look_back == look_back], rows[rows.look_back == look_back]
        parts += [f"## Look-back {look_back}", _ranked(track)]
        if beside := _beside(track):
            parts += ["Beside the ranking:", beside]
        parts += [
            "MSE by cell, mean ± standard deviation over seeds:",
            _by_cell(here, track, rows),
        ]
        if sweeps := _sweeps(runs):
            parts += ["Swept; of each cell the setting with the least validation error:", sweeps]
        if boundaries := _boundaries(runs, track):
            parts += [f"### Boundaries\n\n{_BOUNDARIES_CAPTION}", boundaries]
    if notes := _notes(rows):
        parts.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(parts) + "\n"


def write(folder: Path, holes: Holes = "refuse") -> list[Path]:
    """Write ``leaderboard.md``, ``leaderboard.csv`` and ``cells.csv`` beside the records."""
    pages = {folder / name: text for name, text in _pages(rows(folder), holes).items()}
    for path, text in pages.items():
        write_text(path, text)
    return list(pages)


def excerpt(folder: Path, lines: int = 10) -> str:
    """The first ``lines`` places of the suite's longest look-back, in Markdown.

    Methods with holes have no place and are named below; their cells are on the suite's page.
    """
    table = selected(rows(folder), "show")
    order = ranking(table, "show")
    longest = order[order.look_back == order.look_back.max()]
    title = f"**{table.suite.iloc[0]}**, look-back {longest.look_back.iloc[0]}. {_measured(table)}"
    parts = [title, _ranked(longest.head(lines))]
    waiting = longest[longest.ranked & (longest.kind == "patcher") & longest.place.isna()]
    if len(waiting):
        names = ", ".join(f"`{name}`" for name in sorted(waiting.method))
        parts.append(f"Runs are missing, so no place yet: {names}.")
    return "\n\n".join(parts) + "\n"


def update_readme(readme: Path, results: Path) -> None:
    """Put the current excerpt into every leaderboard block of ``readme``.

    A block starts with ``<!-- leaderboard:start SUITE -->`` and ends with
    ``<!-- leaderboard:end -->``; its rows are in ``results/SUITE``.

    Raises:
        ValueError: there is no block, or one without an end.
    """
    write_text(readme, _updated(readme, results))


def stale(readme: Path, results: Path) -> list[Path]:
    """The pages that differ from what the rows say: every suite's, and the README."""
    folders = sorted({path.parent for path in results.glob("*/*.csv")})
    pages = {
        folder / name: text
        for folder in folders
        for name, text in _pages(rows(folder), "show").items()
    }
    pages[readme] = _updated(readme, results)
    return [path for path, text in pages.items() if _text(path) != text]


def _track(
    table: pd.DataFrame, rows: pd.DataFrame, incomplete: set[tuple[int, str]]
) -> pd.DataFrame:
    look_back = int(table.look_back.iloc[0])
    naive = of_method(table, NAIVE).mse
    uniform = (
        table[CELL].merge(table[table.method == UNIFORM], "left", CELL).set_index(table.index)
    )
    table = table.assign(
        # Nothing is a multiple of a naive forecast without error.
        error=table.mse / naive.where(naive > 0),
        change=100 * (table.mse / uniform.mse - 1),
        placed=[
            ranked and kind == "patcher" and (look_back, method) not in incomplete
            for ranked, kind, method in zip(table.ranked, table.kind, table.method, strict=True)
        ],
    )
    ranks = [_ranks(cell) for _, cell in table[table.placed].groupby(CELL)]
    table["rank"] = pd.concat(ranks) if ranks else math.nan
    lines = [
        {
            "look_back": look_back,
            "method": method,
            "kind": own.kind.iloc[0],
            "ranked": own.ranked.iloc[0],
            "placed": own.placed.iloc[0],
            "mean_rank": own["rank"].mean(),
            "skill": 1 - gmean(own.error),
            "change": _by_dataset(own) if own.change.notna().all() else math.nan,
            **_costs(rows[rows.method == method]),
            "cells": len(own),
            "cells_of": len(table[CELL].drop_duplicates()),
        }
        for method, own in table.groupby("method")
    ]
    order = pd.DataFrame(lines).assign(worse=lambda table: -table.skill)
    # Failures decide ties before skill does: being charged the naive error can raise a low skill.
    order = order.sort_values(
        ["placed", "mean_rank", "failures", "worse", "method"],
        ascending=[False, True, True, True, True],
        ignore_index=True,
    )
    place = pd.Series(range(1, len(order) + 1), dtype="Int64").where(order.placed)
    order.insert(1, "place", place)
    return order.drop(columns=["worse", "placed"])


def _by_dataset(own: pd.DataFrame) -> float:
    """Mean of the data sets' means: horizons of one data set are no independent witnesses."""
    return own.groupby("dataset").change.mean().mean()


def _ranks(cell: pd.DataFrame) -> pd.Series[float]:
    """Ranks in one cell: fewer failed seeds first, then the smaller error."""
    keys = np.column_stack([cell.failures, cell.mse.fillna(np.inf)])
    levels = np.unique(keys, axis=0, return_inverse=True)[1]
    return pd.Series(rankdata(levels.ravel()), index=cell.index)


def _costs(runs: pd.DataFrame) -> dict[str, float]:
    done = runs[runs.status == "done"]
    return {
        "tokens": done.tokens_mean.mean(),
        "parameters": done.parameters.median(),
        "train_seconds": done.train_seconds.median(),
        "step": runs.step.iloc[0],
        "failures": len(runs) - len(done),
        "runs": len(runs),
    }


# Showing


def _pages(rows: pd.DataFrame, holes: Holes) -> dict[str, str]:
    def csv(table: pd.DataFrame) -> str:
        return table.to_csv(index=False, float_format="%.10g", lineterminator="\n")

    pages = markdown(rows, holes), csv(ranking(rows, holes)), csv(cells(rows, holes))
    return dict(zip(WRITTEN, pages, strict=True))


def _measured(rows: pd.DataFrame) -> str:
    seeds = rows[rows.kind == "patcher"].groupby(["method", *CELL]).size()
    low, high = (seeds.min(), seeds.max()) if len(seeds) else (1, 1)
    count = f"{low} to {high} seeds" if low != high else f"{low} seed{'s' if low > 1 else ''}"
    return f"Mean over {count}; no statistical test yet, so a difference is not a finding."


def _caption(rows: pd.DataFrame, order: pd.DataFrame) -> str:
    step = f" `step` is the cost of a training step, that of `{UNIFORM}` being 1."
    return (
        f"{_measured(rows)} Methods are ordered by mean rank over cells (data set, horizon, K). "
        f"Skill is 1 - the geometric mean of MSE / MSE of `{NAIVE}`; the change of MSE is against "
        f"`{UNIFORM}` at the same K, averaged within each data set, then over data sets. A failed "
        f"run is charged the error of `{NAIVE}` at least, and ranks last. Parameters and seconds "
        f"are medians over runs.{step if 'step' in order else ''} "
        f"Protocol {rows.protocol.iloc[0]}."
    )


def _notes(rows: pd.DataFrame) -> list[str]:
    scored = rows[rows.status == "done"]
    unverified = sorted(scored[~scored.data_verified].dataset.unique())
    bare = [
        method for method in (NAIVE, UNIFORM) if len(_tasks(scored, method)) < len(_tasks(rows))
    ]
    devices = sorted(scored.device.unique())
    notes = {
        "† data compared with no published checksum": unverified,
        "skill or change is empty where a cell lacks a finished run of": bare,
        "seconds cannot be compared, they were taken on": devices if len(devices) > 1 else [],
    }
    return [f"{note}: {', '.join(names)}" for note, names in notes.items() if names]


def _tasks(rows: pd.DataFrame, method: str | None = None) -> pd.DataFrame:
    chosen = rows if method is None else rows[rows.method == method]
    return chosen[TASK].drop_duplicates()


def _ranked(track: pd.DataFrame) -> str:
    placed = track[track.place.notna()]
    lines = [[str(line.place), f"{line.mean_rank:.2f}", *_shared(line)] for line in _lines(placed)]
    head = ["place", "mean rank", *_head(track)]
    return _table(head, lines) if lines else "No method has a place."


def _beside(track: pd.DataFrame) -> str:
    beside = track[track.place.isna()]
    return _table(
        ["why", *_head(track)], [[_why(line), *_shared(line)] for line in _lines(beside)]
    )


def _head(track: pd.DataFrame) -> list[str]:
    step = ["step"] if "step" in track else []
    return ["method", "skill", "change", "tokens", "parameters", "train s", *step, "failures"]


def _shared(line: pd.Series[Any]) -> list[str]:
    return [
        f"`{line.method}`",
        _number(line.skill, "{:.3f}"),
        _number(line.change, "{:+.2f} %"),
        _number(line.tokens, "{:.1f}"),
        _number(line.parameters, "{:,.0f}"),
        _number(line.train_seconds, "{:.1f}"),
        *([_number(line.step, "{:.2f}")] if "step" in line else []),
        f"{line.failures} of {line.runs}",
    ]


def _why(line: pd.Series[Any]) -> str:
    if line.kind == "reference":
        why = "no patcher"
    elif line.ranked:
        why = "has holes"
    else:
        why = "never ranked"
    part = f"{line.cells} of {line.cells_of} cells"
    return why if line.cells == line.cells_of else f"{why}; {part}"


def _by_cell(table: pd.DataFrame, track: pd.DataFrame, rows: pd.DataFrame) -> str:
    """One line a cell, one column a method in the order of the ranking; the best place bold."""
    unverified = set(rows[~rows.data_verified & (rows.status == "done")].dataset)
    placed = set(track[track.place.notna()].method)
    lines = []
    for (_, dataset, horizon, patches), cell in table.groupby(CELL):
        own = {line.method: line for line in _lines(cell)}
        best = min((own[name].mse for name in placed if not own[name].failures), default=None)
        marked = f"{dataset}†" if dataset in unverified else str(dataset)
        scores = [_score(own.get(name), best if name in placed else None) for name in track.method]
        lines.append([marked, str(horizon), str(patches), *scores])
    return _table(["data set", "horizon", "K", *(f"`{method}`" for method in track.method)], lines)


def _score(line: pd.Series[Any] | None, best: float | None) -> str:
    if line is None:
        return ""
    if math.isnan(line.mse):
        return "failed"
    decimals = _decimals(line.mse)
    score = f"{line.mse:.{decimals}f}"
    if not math.isnan(line.mse_sd):
        score += f" ± {line.mse_sd:.{decimals}f}"
    if line.failures:
        return f"{score} ({line.failures} of {line.runs} failed)"
    return f"**{score}**" if line.mse == best else score


def _decimals(error: float) -> int:
    """Four digits that count; what stands beside the error has the same decimal places."""
    return max(0, 3 - math.floor(math.log10(error))) if error > 0 else 4


def _sweeps(rows: pd.DataFrame) -> str:
    """One line a cell of each sweep: what was tried, what was chosen, and its patches."""
    head = ["method", "data set", "horizon", "swept", "runs done", "chosen", "its K"]
    lines = []
    for (method, _, dataset, horizon, _), own in rows[rows.swept != ""].groupby(OWN):
        first, tokens = own.iloc[0], _number(own.tokens_mean.mean(), "{:.0f}")
        tried = [first.swept, first.trained, first.setting]
        lines.append([f"`{method}`", dataset, str(horizon), *tried, tokens])
    return _table(head, lines)


def _boundaries(rows: pd.DataFrame, track: pd.DataFrame) -> str:
    """One line a data set and method that has these numbers, in the order of the ranking."""
    there = [name for name in _BOUNDARIES if name in rows and rows[name].notna().any()]
    runs = rows[(rows.status == "done") & rows[there].notna().any(axis=1)]
    means = runs.groupby(["dataset", "method"])[["mse", *there]].mean()
    lines = []
    for dataset in sorted(runs.dataset.unique()):
        for method in track.method:
            if (dataset, method) in means.index:
                own = means.loc[dataset, method]
                error = f"{{:.{_decimals(own.mse)}f}}"
                forms = {name: "{:.3f}" if name.startswith("f1") else error for name in own.index}
                numbers = [_number(own[name], form) for name, form in forms.items()]
                lines.append([dataset, f"`{method}`", *numbers])
    return _table(["data set", "method", "mse", *(_BOUNDARIES[name] for name in there)], lines)


def _lines(table: pd.DataFrame) -> Iterator[pd.Series[Any]]:
    return (line for _, line in table.iterrows())


def _number(value: float, form: str) -> str:
    return "" if math.isnan(value) else form.format(value)


def _table(head: list[str], lines: list[list[str]]) -> str:
    if not lines:
        return ""
    align = ["---" if name in _WORDS else "---:" for name in head]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, align, *lines))


_WORDS = ("method", "why", "data set", "swept", "chosen")


# Files


def _updated(readme: Path, results: Path) -> str:
    text = readme.read_text(encoding="utf-8")
    starts = len(re.findall(_START, text))
    if not starts or starts != len(_BLOCK.findall(text)) or starts != text.count(_END):
        raise ValueError(
            f"{readme} needs lines <!-- leaderboard:start SUITE --> and, below each, {_END}"
        )

    def block(match: re.Match[str]) -> str:
        folder = results / match["suite"]
        page = Path(os.path.relpath(folder / WRITTEN[0], readme.parent)).as_posix()
        link = f"All cells, references and notes: [{page}]({page})."
        return f"{match['start']}\n{excerpt(folder)}\n{link}\n{_END}"

    return _BLOCK.sub(block, text)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
