"""Rows in, ranking out: what ``results/<suite>/*.csv`` say, as tables in five formats.

Everything here is a function of the rows (:mod:`harness.results.table`): the same rows give the
same
bytes. Two look-backs never share a table, and methods that give every window exactly K tokens are
ranked apart from those that only aim at K.

Methods are ordered by their mean change of MSE, and those with fewer failed runs come before all
with more: what a failed run would have scored is not known, so no charge can be sure to be enough.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import gmean

from harness.core.files import write_text
from harness.report import formats, statistics
from harness.report.formats import Block, Heading, Table, bold, code
from harness.report.statistics import CONTROLS, NOT_JUDGED, SMALLEST_EFFECT
from harness.results.table import (
    TASK,
    METRICS,
    NAIVE,
    CELL,
    WINDOWS,
    UNIFORM,
    UNIFORM_BEST,
    WRITTEN,
    Holes,
    charged,
    gaps_in_sweeps,
    in_order,
    listed,
    missing_runs,
    of_method,
    read_table,
    row_files,
    selected,
)

SCHEMA = 1
"""Version of ``leaderboard.json``; more when a field goes or changes its meaning."""

_BUDGETS = {
    "strict": "Exactly K tokens",
    "soft": "About K tokens, at most a quarter more",
}
"""Tracks of one look-back, in order; the rest stands beside them."""

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
    """Mean and standard deviation over seeds, by method and cell; failures charged.

    Columns: the cell, ``method``, ``kind``, ``ranked``, ``runs`` (seeds), ``failures`` (of
    them), and for each metric its mean and ``<metric>_sd``, empty for a single seed.
    """
    return _cells(charged(in_order(selected(rows, holes))))


def ranking(rows: pd.DataFrame, holes: Holes = "refuse") -> pd.DataFrame:
    """One line per look-back and method: the ranked ones of each track first, and in order.

    ``track`` is "strict" for methods that gave every window the same number of tokens and "soft"
    for the others. It and ``place`` are empty for what stands ``beside``, where that says why: no
    patcher, never ranked, holes, or no run that finished. ``change``, ``low`` to ``high``, and
    ``win_rate`` are those of :func:`harness.report.statistics.effects` against ``reference``:
    ``uniform_best``, or ``uniform`` where that one has holes; ``lacking`` runs found no partner
    there. ``p_<control>`` is Wilcoxon's p after Holm. ``skill`` is 1 - the geometric mean over
    cells of MSE / MSE of the seasonal-naive forecast. ``mean_rank`` is over cells, among the
    methods with a place in the track; ties share their ranks. What cannot be known is empty.

    Raises:
        ValueError: a ranked method lacks a run that another one has, or a sweep is not complete
            (:func:`selected`), and ``holes`` is "refuse".
    """
    return _board(rows, holes).ranking


def dense(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of those cells in which no run of a ranked method without holes has failed."""
    rows = selected(rows, "show")
    incomplete = {(look_back, method) for look_back, method, _ in missing_runs(rows)}
    holed = pd.MultiIndex.from_frame(rows[["look_back", "method"]]).isin(list(incomplete))
    competing = rows.ranked & (rows.kind == "patcher") & ~holed
    failed = (rows.status != "done") & competing
    return rows[~failed.groupby([rows[name] for name in TASK]).transform("any")]


def markdown(rows: pd.DataFrame, holes: Holes = "refuse") -> str:
    """The leaderboard page: by look-back the ranking, what stands beside it, and every cell."""
    return formats.markdown(_page(_board(rows, holes)))


def write(folder: Path, holes: Holes = "refuse") -> list[Path]:
    """Write the files of :data:`harness.results.table.WRITTEN` beside the records."""
    pages = {folder / name: text for name, text in _pages(read_table(folder), holes).items()}
    for path, text in pages.items():
        write_text(path, text)
    return list(pages)


def excerpt(folder: Path, lines: int = 10) -> str:
    """The first ``lines`` places of each track of the suite's longest look-back, in Markdown.

    Methods with holes have no place and are named below; their cells are on the suite's page.
    """
    table = selected(read_table(folder), "show")
    look_back = table.look_back.max()
    board = _board(table[table.look_back == look_back], "show")
    order = board.ranking
    suite = ", ".join(sorted(table.suite.unique()))
    parts: list[Block] = [
        f"**{suite}**, look-back {look_back}. {_measured(board.rows)} {_what_change_is(order)}"
    ]
    parts += [
        _brief("" if track == "strict" else f"{_BUDGETS[track]}:", own.head(lines))
        for track, own in _placed(order)
    ]
    waiting = order[order.beside == _HOLES]
    if len(waiting):
        names = ", ".join(code(name) for name in sorted(waiting.method))
        parts.append(f"Runs are missing, so no place yet: {names}.")
    return formats.markdown(parts)


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
    folders = sorted({path.parent for path in results.glob("*/*.csv") if row_files(path.parent)})
    pages = {
        folder / name: text
        for folder in folders
        for name, text in _pages(read_table(folder), "show").items()
    }
    pages[readme] = _updated(readme, results)
    return [path for path, text in pages.items() if _text(path) != text]


# Counting


@dataclass(frozen=True)
class _Board:
    """The rows that count, and what is computed of them once for all pages.

    ``gaps`` are the sweeps that choose nothing, in words.
    """

    rows: pd.DataFrame
    gaps: list[str]

    @cached_property
    def missing(self) -> list[tuple[int, str, str]]:
        return missing_runs(self.rows)

    @cached_property
    def runs(self) -> pd.DataFrame:
        return charged(in_order(self.rows))

    @cached_property
    def cells(self) -> pd.DataFrame:
        return _cells(self.runs)

    @cached_property
    def ranking(self) -> pd.DataFrame:
        incomplete = {(look_back, method) for look_back, method, _ in self.missing}
        return _ranking(self.runs, self.cells, incomplete)


def _board(rows: pd.DataFrame, holes: Holes) -> _Board:
    gaps = [why for _, why in gaps_in_sweeps(rows)]
    board = _Board(selected(rows, holes), gaps)
    if board.missing and holes == "refuse":
        names = listed([name for *_, name in board.missing])
        raise ValueError(f"runs are missing (run them, or ask for holes='show'): {names}")
    return board


def _cells(runs: pd.DataFrame) -> pd.DataFrame:
    groups = runs.groupby([*TASK, "method", "kind", "ranked"], sort=True)
    mean = groups[METRICS].mean()
    spread = groups[METRICS].std().add_suffix("_sd")
    columns = [column for metric in METRICS for column in (metric, f"{metric}_sd")]
    counts = groups["failed"].agg(runs="size", failures="sum")
    return pd.concat([counts, mean.join(spread)[columns]], axis=1).reset_index()


_HOLES = "has holes"


def _ranking(
    runs: pd.DataFrame, cells: pd.DataFrame, incomplete: set[tuple[int, str]]
) -> pd.DataFrame:
    effects, verdicts = statistics.effects(runs), statistics.verdicts(runs)
    tracks = [
        _track(
            own,
            cells[cells.look_back == look_back],
            effects[effects.look_back == look_back],
            verdicts[verdicts.look_back == look_back].set_index("method"),
            {method for where, method in incomplete if where == look_back},
        )
        for look_back, own in runs.groupby("look_back")
    ]
    order = pd.concat(tracks, ignore_index=True)
    return order.drop(columns="step") if order.step.isna().all() else order


def _track(
    runs: pd.DataFrame,
    cells: pd.DataFrame,
    effects: pd.DataFrame,
    verdicts: pd.DataFrame,
    incomplete: set[str],
) -> pd.DataFrame:
    """The lines of one look-back."""
    by_method = runs.groupby("method")
    table = by_method[["kind", "ranked"]].first()
    table.insert(0, "look_back", runs.look_back.iloc[0])
    table = table.join(_costs(runs))
    table["beside"] = [_beside(line, incomplete) for line in _lines(table)]
    table["track"] = _budgets(runs).reindex(table.index).where(table.beside == "", "")
    table["mean_rank"] = _mean_ranks(cells, table.track)
    table["skill"] = _skill(cells)
    table["reference"] = reference = _reference(effects, incomplete)
    own = effects[effects.control == reference].set_index("method")
    numbers = ["change", "low", "high", "win_rate", "lacking"]
    # A failed run without a charge has no number: a mean without it would be a gain.
    uncharged = by_method.mse.apply(lambda errors: errors.isna().any())
    table = table.join(own[numbers].mask(uncharged.reindex(own.index)))
    for control in CONTROLS:
        against = effects[effects.control == control].set_index("method").p_holm
        table[f"p_{control}"] = against.astype(float)
    table = table.join(verdicts[["verdict", "why", "p"]])
    table["cells"] = cells.groupby("method").size()
    table["cells_of"] = len(cells[TASK].drop_duplicates())
    return _placed_in_order(table.reset_index())


def _placed_in_order(table: pd.DataFrame) -> pd.DataFrame:
    """The lines by track, in each those with fewer failures first, then the better change."""
    tracks = [*_BUDGETS, ""]
    order = table.assign(_track=table.track.map(tracks.index), _skill=-table.skill).sort_values(
        ["_track", "failures", "change", "mean_rank", "_skill", "method"], ignore_index=True
    )
    place = order.groupby("_track").cumcount() + 1
    return order.assign(place=place.astype("Int64").where(order.track != ""))[_COLUMNS]


_COLUMNS = [
    *("look_back", "track", "place", "method", "kind", "ranked", "beside"),
    *("reference", "change", "low", "high", "verdict", "why", "p", "win_rate", "mean_rank"),
    *("skill", "failures", "runs", "lacking", *(f"p_{control}" for control in CONTROLS)),
    *("tokens", "parameters", "flops", "flops_step", "train_seconds", "step", "trials"),
    *("cells", "cells_of"),
]


def _costs(runs: pd.DataFrame) -> pd.DataFrame:
    """By method: failures, runs, and what the finished ones cost."""
    done = runs[~runs.failed].groupby("method")
    table = runs.groupby("method").agg(
        failures=("failed", "sum"), runs=("failed", "size"), step=("step", "first")
    )
    how = {"tokens_mean": "mean", "trials": "max"}
    for name in ("tokens_mean", "parameters", "flops", "flops_step", "train_seconds", "trials"):
        cost = done[name].agg(how.get(name, "median")) if name in runs else math.nan
        table[name.removesuffix("_mean")] = cost
    return table


def _beside(line: Any, incomplete: set[str]) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Why the method is not ranked; nothing if it is."""
    if line.kind == "reference":
        return "own forecaster"
    if not line.ranked:
        return "never ranked"
    if line.Index in incomplete:
        return _HOLES
    return "no run finished" if line.failures == line.runs else ""


def _budgets(runs: pd.DataFrame) -> pd.Series[str]:
    """The track of each method, by what its finished runs used."""
    if "tokens_padded" not in runs:
        return pd.Series("strict", runs.method.unique())
    varied = (runs.tokens_mean < runs.tokens_padded).groupby(runs.method).any()
    return varied.map({True: "soft", False: "strict"})


def _mean_ranks(cells: pd.DataFrame, track: pd.Series[str]) -> pd.Series[float]:
    """Over cells, among the methods of a track: fewer failed seeds first, then less error."""
    own = cells.assign(track=cells.method.map(track))
    own = own[own.track != ""]
    level = own.groupby(["failures", "mse"], dropna=False).ngroup()
    ranks = level.groupby([own[name] for name in ("track", *TASK)]).rank()
    return ranks.groupby(own.method).mean().astype(float)


def _skill(cells: pd.DataFrame) -> pd.Series[float]:
    naive = of_method(cells, NAIVE).mse
    # Nothing is a multiple of a naive forecast without error.
    relative = cells.mse / naive.where(naive > 0)
    return 1 - relative.groupby(cells.method).apply(gmean)


def _reference(effects: pd.DataFrame, incomplete: set[str]) -> str:
    """What changes are measured against: equal patches, the best ones if they are all there."""
    there = [control for control in _EQUAL if (effects.control == control).any()]
    whole = [control for control in there if control not in incomplete]
    return next(iter([*whole, *there]), "")


_EQUAL = (UNIFORM_BEST, UNIFORM)


# Showing


def _pages(rows: pd.DataFrame, holes: Holes) -> dict[str, str]:
    """The text of each file of :data:`WRITTEN`."""
    board = _board(rows, holes)
    page = _page(board)
    return dict(
        zip(
            WRITTEN,
            (
                formats.markdown(page),
                _csv(board.ranking),
                _csv(board.cells),
                formats.latex(page),
                formats.html(page),
                _json(board),
            ),
            strict=True,
        )
    )


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def _json(board: _Board) -> str:
    rows = board.rows
    content = {
        "schema": SCHEMA,
        "suite": ", ".join(sorted(rows.suite.unique())),
        "protocol": int(rows.protocol.iloc[0]),
        "smallest_effect_percent": SMALLEST_EFFECT,
        "missing": [name for *_, name in board.missing] + board.gaps,
        "ranking": _records(board.ranking),
        "cells": _records(board.cells),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _records(table: pd.DataFrame) -> list[dict[str, object]]:
    """A dictionary a line, with null for what is empty."""
    return json.loads(table.to_json(orient="records", double_precision=10))


def _page(board: _Board) -> list[Block]:
    rows = board.rows
    suite = ", ".join(sorted(rows.suite.unique()))
    page: list[Block] = [Heading(f"Leaderboard: {suite}", 1), _caption(board)]
    if board.missing:
        names = listed([name for *_, name in board.missing])
        page.append(f"{bold('Holes')}, so these methods have no place. Missing: {names}.")
    if board.gaps:
        what = f"{bold('Sweeps in part')}, which choose nothing, so these cells are left out"
        page.append(f"{what}: {listed(board.gaps)}.")
    for look_back, order in board.ranking.groupby("look_back"):
        runs = rows[rows.look_back == look_back]
        own = board.cells[board.cells.look_back == look_back]
        page += [
            Heading(f"Look-back {look_back}"),
            *_results(order),
            *_in_dense_cells(runs, order),
        ]
        page += [
            table
            for table in (
                _beside_table(order),
                _tests(order),
                _cost(order),
                _by_cell(own, order, board.runs),
                _published(runs),
                _sweeps(runs),
            )
            if table.lines
        ]
        boundaries = _boundaries(runs, order)
        if boundaries.lines:
            page += [Heading("Boundaries", 3), boundaries]
    return [*page, *_notes(board)]


def _measured(rows: pd.DataFrame) -> str:
    seeds = rows[rows.kind == "patcher"].groupby(["method", *TASK]).size()
    low, high = (seeds.min(), seeds.max()) if len(seeds) else (1, 1)
    count = f"{low} to {high} seeds" if low != high else f"{low} seed{'s' if low > 1 else ''}"
    return f"Mean over {count}."


def _against(order: pd.DataFrame) -> str:
    """What changes are measured against, in words."""
    names = [code(name) for name in sorted(order.reference.unique()) if name]
    return " or ".join(names) or "nothing, since neither kind of equal patches has run"


def _what_change_is(order: pd.DataFrame) -> str:
    many = order.low.notna().any()
    sure = "with its 95 % interval over data sets" if many else "of one data set, so no interval"
    return (
        f"The change of MSE is against {_against(order)}, {sure}; "
        f"one below {SMALLEST_EFFECT} % is of no interest."
    )


def _caption(board: _Board) -> str:
    step = f" Step is the cost of a training step, that of {code(UNIFORM)} being 1."
    return (
        f"{_measured(board.rows)} {_what_change_is(board.ranking)} Changes are paired by run and "
        "averaged over seeds, then over the cells (horizon, K) of a data set, then over data "
        "sets; methods are ordered by them, those with fewer failed runs first. "
        "Better means better than equal patches at the same K, than equal patches of the length "
        "that validation prefers and than random ones, after correction for the number of "
        "methods. Wins are the share of paired runs with less error than the reference; "
        "mean rank is over cells, among methods with the same budget. "
        f"Skill is 1 - the geometric mean of MSE / MSE of {code(NAIVE)}. A failed run is charged "
        f"the error of {code(NAIVE)} at least. Parameters, FLOPs and seconds are medians over "
        f"runs.{step if 'step' in board.ranking else ''} Protocol {board.rows.protocol.iloc[0]}."
    )


def _notes(board: _Board) -> list[str]:
    rows, order = board.rows, board.ranking
    scored = rows[rows.status == "done"]
    bare = [
        method for method in (NAIVE, UNIFORM) if len(_tasks(scored, method)) < len(_tasks(rows))
    ]
    devices = sorted(scored.device.unique())
    lacking = order[(order.lacking > 0) & order.change.notna()]
    notes = {
        "† Data compared with no published checksum": _unverified(rows),
        "Skill or change is empty where a cell lacks a finished run of": bare,
        "The reference lacks runs or failed in them, so the change rests on": [
            f"{line.runs - line.lacking:.0f} of {line.runs} runs of {line.method} "
            f"(look-back {line.look_back})"
            for line in _lines(lacking)
        ],
        "Seconds cannot be compared, they were taken on": devices if len(devices) > 1 else [],
    }
    return [f"{note}: {listed(names)}." for note, names in notes.items() if names]


def _unverified(rows: pd.DataFrame) -> list[str]:
    return sorted(rows[~rows.data_verified & (rows.status == "done")].dataset.unique())


def _tasks(rows: pd.DataFrame, method: str | None = None) -> pd.DataFrame:
    chosen = rows if method is None else rows[rows.method == method]
    return chosen[WINDOWS].drop_duplicates()


# Tables


_WORDS = frozenset(
    ("method", "why", "verdict", "data set", "swept", "chosen", "source", "95 % interval")
)


def _table(caption: str, head: Sequence[str], lines: Iterable[Sequence[str]]) -> Table:
    """The table, without the columns in which nothing stands."""
    lines = list(lines)
    kept = [at for at in range(len(head)) if not lines or any(line[at] for line in lines)]
    return Table(
        caption,
        tuple(head[at] for at in kept),
        tuple(tuple(line[at] for at in kept) for line in lines),
        _WORDS,
    )


def _lines(table: pd.DataFrame) -> Iterator[Any]:
    """The lines as named tuples, of whatever types the columns have."""
    return iter(table.itertuples())


def _number(value: float, form: str) -> str:
    return "" if pd.isna(value) else form.format(value)


def _placed(order: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The tracks that have methods, with these in order."""
    for track in _BUDGETS:
        own = order[order.track == track]
        if len(own):
            yield track, own


def _results(order: pd.DataFrame) -> list[Block]:
    return [
        _table(
            f"{_BUDGETS[track]}; change against {_against(own)}:",
            [*_CLAIM, "mean rank", "wins", "skill", "failures"],
            (
                [
                    str(line.place),
                    *_claim(line),
                    _number(line.mean_rank, "{:.2f}"),
                    _number(line.win_rate, "{:.0%}") if line.method != line.reference else "",
                    _number(line.skill, "{:.3f}"),
                    f"{line.failures} of {line.runs}",
                ]
                for line in _lines(own)
            ),
        )
        for track, own in _placed(order)
    ] or ["No method has a place."]


_CLAIM = ("place", "method", "change", "95 % interval", "verdict")


def _claim(line: Any) -> list[str]:  # noqa: ANN401 - a named tuple of pandas
    """The method, its change, the interval of that, and the verdict."""
    is_control = line.method in CONTROLS
    verdict = "control" if is_control else "" if line.verdict == NOT_JUDGED else line.verdict
    if line.method == line.reference:
        return [code(line.method), "reference", "", verdict]
    low, high = (_number(end, "{:+.2f}") for end in (line.low, line.high))
    interval = f"{low} to {high}" if low else ""
    return [code(line.method), _number(line.change, "{:+.2f} %"), interval, verdict]


def _brief(caption: str, own: pd.DataFrame) -> Table:
    """The lines of a track as the README has them."""
    return _table(
        caption,
        [*_CLAIM, "mean rank", "skill", "tokens", "step", "failures"],
        (
            [
                str(line.place),
                *_claim(line),
                _number(line.mean_rank, "{:.2f}"),
                _number(line.skill, "{:.3f}"),
                _number(line.tokens, "{:.1f}"),
                _number(getattr(line, "step", math.nan), "{:.2f}"),
                f"{line.failures} of {line.runs}",
            ]
            for line in _lines(own)
        ),
    )


def _in_dense_cells(runs: pd.DataFrame, order: pd.DataFrame) -> list[Block]:
    """The ranking once more, of the cells that all ranked methods finished, if these are fewer."""
    if not order[order.track != ""].failures.any():
        return []
    finished = dense(runs)
    count, of = (len(rows[TASK].drop_duplicates()) for rows in (finished, runs))
    if not count:
        return ["There is no cell in which no ranked method has failed."]
    return [
        _brief(
            f"{_BUDGETS[track]}, only the {count} of {of} cells in which no ranked method failed:",
            own,
        )
        for track, own in _placed(_board(finished, "show").ranking)
    ]


def _beside_table(order: pd.DataFrame) -> Table:
    return _table(
        "Beside the ranking:",
        ["why", "method", "change", "95 % interval", "skill", "failures"],
        (
            [
                line.beside
                if line.cells == line.cells_of
                else f"{line.beside}; {line.cells} of {line.cells_of} cells",
                *_claim(line)[:3],
                _number(line.skill, "{:.3f}"),
                f"{line.failures} of {line.runs}",
            ]
            for line in _lines(order[order.track == ""])
        ),
    )


def _tests(order: pd.DataFrame) -> Table:
    judged = order[(order.track != "") & (order.verdict != NOT_JUDGED)]
    return _table(
        "Why these verdicts: p of the test that decides, after Holm's correction; and, beside it, "
        "p of Wilcoxon's test over data sets against each control, after the same correction, "
        "which few data sets keep from ever being small:",
        ["method", "p", *(f"p {code(control)}" for control in CONTROLS), "why"],
        (
            [
                code(line.method),
                *(
                    _number(getattr(line, name), "{:.3f}")
                    for name in ("p", *(f"p_{control}" for control in CONTROLS))
                ),
                line.why,
            ]
            for line in _lines(judged)
        ),
    )


def _cost(order: pd.DataFrame) -> Table:
    """What every method cost, whether it is ranked or not."""
    return _table(
        "Cost: tokens of a window, parameters, FLOPs of a forecast and of a training step, "
        "seconds of training, and trials of a search before it:",
        ["method", "tokens", "parameters", "MFLOPs", "GFLOPs a step", "train s", "step", "trials"],
        (
            [
                code(line.method),
                _number(line.tokens, "{:.1f}"),
                _number(line.parameters, "{:,.0f}"),
                _number(line.flops / 1e6, "{:.2f}"),
                _number(line.flops_step / 1e9, "{:.2f}"),
                _number(line.train_seconds, "{:.1f}"),
                _number(getattr(line, "step", math.nan), "{:.2f}"),
                _number(line.trials, "{:.0f}"),
            ]
            for line in _lines(order)
        ),
    )


def _by_cell(cells: pd.DataFrame, order: pd.DataFrame, runs: pd.DataFrame) -> Table:
    """One line a cell, one column a method in the order of the ranking."""
    unverified = set(_unverified(runs))
    placed = order[order.track != ""].method
    here = runs[(runs.look_back == order.look_back.iloc[0]) & runs.method.isin(placed)]
    best: set[tuple[Any, ...]] = set()
    if len(here):
        tests = statistics.cell_tests(here)
        best = set(tests[tests.ties_with_best][[*TASK, "method"]].itertuples(False, None))
    scores = {
        tuple(getattr(line, name) for name in (*TASK, "method")): line for line in _lines(cells)
    }
    lines = []
    for cell in sorted(set(cells[TASK].itertuples(False, None))):
        _, dataset, horizon, patches = cell
        own = [(*cell, method) for method in order.method]
        marked = f"{dataset}†" if dataset in unverified else str(dataset)
        numbers = [_score(scores.get(where), is_best=where in best) for where in own]
        lines.append([marked, str(horizon), str(patches), *numbers])
    return _table(
        "MSE by cell, mean ± standard deviation over seeds; bold: the best ranked method and all "
        "that a paired test over at least 3 seeds does not tell from it:",
        ["data set", "horizon", "K", *map(code, order.method)],
        lines,
    )


def _score(line: Any, *, is_best: bool) -> str:  # noqa: ANN401 - a named tuple of pandas, or None
    if line is None:
        return ""
    if math.isnan(line.mse):
        return "failed"
    decimals = _decimals(line.mse)
    score = f"{line.mse:.{decimals}f}"
    if line.failures == line.runs:
        return f"failed, counts as {score}"
    if not math.isnan(line.mse_sd):
        score += f" ± {line.mse_sd:.{decimals}f}"
    if line.failures:
        return f"{score} ({line.failures} of {line.runs} failed)"
    return bold(score) if is_best else score


def _decimals(error: float) -> int:
    """Four digits that count; what stands beside the error has the same decimal places."""
    return max(0, 3 - math.floor(math.log10(error))) if error > 0 else 4


def _published(rows: pd.DataFrame) -> Table:
    """One line a method and cell of which an error was published, ours beside it."""
    there = "published" in rows and rows.published.notna().any()
    known = rows[(rows.status == "done") & rows.published.notna()] if there else rows[:0]
    lines = []
    for (method, _, dataset, horizon, _), own in known.groupby(CELL):
        ours, theirs = own.mse.mean(), own.published.iloc[0]
        digits = [f"{error:.{_decimals(theirs)}f}" for error in (ours, theirs)]
        difference = f"{100 * (ours / theirs - 1):+.1f} %"
        names = [str(dataset), str(horizon), code(str(method))]
        lines.append([*names, *digits, difference, own.published_in.iloc[0]])
    return _table(
        "MSE beside published ones. These were measured by another protocol, so a difference is "
        "no finding:",
        ["data set", "horizon", "method", "ours", "published", "difference", "source"],
        lines,
    )


def _sweeps(rows: pd.DataFrame) -> Table:
    """One line a cell of each sweep: what was tried, what was chosen, and its patches."""
    lines = []
    for (method, _, dataset, horizon, _), own in rows[rows.swept != ""].groupby(CELL):
        first, tokens = own.iloc[0], _number(own.tokens_mean.mean(), "{:.0f}")
        tried = [first.swept, first.trained, first.setting]
        lines.append([code(str(method)), str(dataset), str(horizon), *tried, tokens])
    return _table(
        "Swept; of each cell the setting with the least validation error:",
        ["method", "data set", "horizon", "swept", "runs done", "chosen", "its K"],
        lines,
    )


def _boundaries(rows: pd.DataFrame, order: pd.DataFrame) -> Table:
    """One line a data set and method that has these numbers, in the order of the ranking."""
    there = [name for name in _BOUNDARIES if name in rows and rows[name].notna().any()]
    runs = rows[(rows.status == "done") & rows[there].notna().any(axis=1)]
    means = runs.groupby(["dataset", "method"])[["mse", *there]].mean()
    lines = []
    for dataset in sorted(runs.dataset.unique()):
        for method in order.method:
            if (dataset, method) in means.index:
                own = means.loc[dataset, method]
                error = f"{{:.{_decimals(own.mse)}f}}"
                forms = {name: "{:.3f}" if name.startswith("f1") else error for name in own.index}
                numbers = [_number(own[name], form) for name, form in forms.items()]
                lines.append([str(dataset), code(method), *numbers])
    head = ["data set", "method", "mse", *(_BOUNDARIES[name] for name in there)]
    return _table(_BOUNDARIES_CAPTION, head, lines)


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
