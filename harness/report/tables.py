"""The tables of a suite: its board as Markdown, LaTeX, HTML, CSV and JSON.

``leaderboard.md`` lies beside the rows and is committed with them. Everything else that is made of
the rows goes to the folder :data:`MADE` beside them, which is not. The same rows give the same
bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.core.files import write_text
from harness.core.protocol import SMALLEST_EFFECT
from harness.report import formats, panel, percent, wording
from harness.report.board import HAS_HOLES, Board, count, dense, placed
from harness.report.costs import COSTS
from harness.report.formats import Block, Heading, Table, bold, code
from harness.report.labels import FOUND, PLACES
from harness.report.statistics import CONTROLS, NOT_JUDGED
from harness.report.wording import BUDGETS, COLUMNS, LEGEND, decimals, number
from harness.results.table import (
    CELL,
    NAIVE,
    PHASE_SHIFT,
    RANDOM_STEP,
    TASK,
    UNIFORM,
    UNIFORM_IDENTITY,
    WINDOWS,
    Holes,
    listed,
    read_table,
    selected,
)

LEADERBOARD = "leaderboard.md"
MADE = "report"
"""The folder of a suite that holds what ``make leaderboard`` makes and git ignores."""
TABLES = (
    "leaderboard.csv",
    "cells.csv",
    "leaderboard.tex",
    "leaderboard.html",
    "leaderboard.json",
)
"""The files of tables in that folder."""
SCHEMA = 3
"""Version of ``leaderboard.json``; more when a field goes or changes its meaning."""


def markdown(board: Board) -> str:
    """The leaderboard: by look-back the ranking, what stands beside it, and every cell."""
    return formats.markdown(_page(board))


def write(folder: Path, holes: Holes = "refuse") -> list[Path]:
    """Write the leaderboard beside the records of a suite, and its other formats; return all.

    Raises:
        FileNotFoundError: the folder holds no records.
        ValueError: the rows cannot be read or counted (:func:`harness.report.board.count`).
    """
    board = count(read_table(folder), holes)
    page = _page(board)
    texts = {
        folder / LEADERBOARD: formats.markdown(page),
        folder / MADE / "leaderboard.csv": _csv(board.ranking),
        folder / MADE / "cells.csv": _csv(board.cells),
        folder / MADE / "leaderboard.tex": formats.latex(page),
        folder / MADE / "leaderboard.html": formats.html(page),
        folder / MADE / "leaderboard.json": _json(board),
    }
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def brief(board: Board, lines: int) -> list[Block]:
    """The first ``lines`` places of each track, and who has none yet because runs are missing."""
    order = board.ranking
    blocks: list[Block] = panel.brief(board.panel)
    blocks += [
        _brief("" if track == "strict" else f"{_title(track)}:", own.head(lines))
        for track, own in placed(order)
    ]
    waiting = order[order.beside == HAS_HOLES]
    if len(waiting):
        names = ", ".join(code(name) for name in sorted(waiting.method))
        blocks.append(f"Runs are missing, so no place yet: {names}.")
    return blocks


def excerpt(folder: Path, lines: int = 10) -> str:
    """The first ``lines`` places of each track of the suite's longest look-back, in Markdown.

    Of planted series the panel, of which methods that pass no positive instrument are named only.

    Methods with holes have no place and are named below; their cells are in the leaderboard.

    Raises:
        FileNotFoundError: the folder holds no records.
        ValueError: the rows cannot be read (:func:`harness.results.table.read_table`).
    """
    table = selected(read_table(folder), "show")
    look_back = table.look_back.max()
    board = count(table[table.look_back == look_back], "show")
    title = f"**{board.suite}**, look-back {look_back}."
    blocks: list[Block] = [f"{title} {about(board)}", *brief(board, lines)]
    return formats.markdown(blocks)


# The page


def _page(board: Board) -> list[Block]:
    rows = board.rows
    page: list[Block] = [Heading(f"Leaderboard: {board.suite}", 1), _caption(board)]
    if board.missing:
        names = listed([name for *_, name in board.missing])
        page.append(f"{bold('Holes')}, so these methods have no place. Missing: {names}.")
    if board.gaps:
        what = f"{bold('Sweeps in part')}, which choose nothing, so these cells are left out"
        page.append(f"{what}: {listed([why for *_, why in board.gaps])}.")
    page += panel.blocks(board.panel)
    for look_back, order in board.ranking.groupby("look_back"):
        runs = rows[rows.look_back == look_back]
        own = board.cells[board.cells.look_back == look_back]
        page += [Heading(f"Look-back {look_back}"), *_results(order), *_dense(runs, order)]
        page += [
            table
            for table in (
                _beside(order),
                _tests(order),
                _cost(order),
                *besides(board, int(str(look_back))),
                _by_task(own, order, board),
                _published(runs),
                _sweeps(runs),
            )
            if table.lines
        ]
        boundaries = _boundaries(runs, order)
        if boundaries.lines:
            page += [Heading("Boundaries", 3), boundaries]
    return [*page, *_notes(board), Heading("Columns"), _legend(page)]


def _caption(board: Board) -> str:
    sentences = (about(board), wording.CHARGED, f"Protocol {board.rows.protocol.iloc[0]}.")
    return " ".join(sentences)


def about(board: Board) -> str:
    """How many seeds means are over and, where there is a ranking, against what the change is."""
    measured = wording.measured(board.rows)
    if is_planted(board.ranking):
        return measured
    return f"{measured} {wording.what_change_is(board.ranking)}"


def is_planted(order: pd.DataFrame) -> bool:
    """Whether there is nothing to rank: all runs of these methods are on planted series."""
    return bool((order.beside == panel.ONLY_PLANTED).all())


def _notes(board: Board) -> list[str]:
    rows, order = board.rows, board.ranking
    scored = rows[rows.status == "done"]
    bare = [
        method
        for method in (NAIVE, UNIFORM)
        if len(_windows(scored[scored.method == method])) < len(_windows(rows))
    ]
    devices = sorted(scored.device.unique())
    lacking = order[(order.lacking > 0) & order.change.notna()]
    notes = {
        f"† Data with {wording.UNVERIFIED}": _unverified(rows),
        f"{wording.SUSPICIOUS} of": [
            f"{dataset} ({said})" for dataset, said in _suspicious(rows).items()
        ],
        "‡ Scored on some of its test windows only": trials(rows),
        "Skill or change is empty where a task lacks a finished run of": bare,
        "The reference lacks runs or failed in them, so the change rests on": [
            f"{line.runs - line.lacking:.0f} of {line.runs} runs of {line.method} "
            f"(look-back {line.look_back})"
            for line in each(lacking)
        ],
        wording.COLLAPSED: [
            f"{method}, look-back {look_back}: {how}"
            for (look_back, method), how in board.collapsed.items()
        ],
        "Steps of training, at most": _steps(scored),
        "Seconds cannot be compared, because they were measured on": (
            devices if len(devices) > 1 else []
        ),
    }
    said = [f"{note}: {listed(names)}." for note, names in notes.items() if names]
    return [*said, *map(wording.power, each(board.power))]


def _steps(rows: pd.DataFrame) -> list[str]:
    """How long was trained on which data sets, where it was not equally long on all of them."""
    most = rows.groupby("dataset").steps.max().dropna() if "steps" in rows else pd.Series()
    lengths = most.groupby(most).groups
    if len(lengths) < 2:
        return []
    return [f"{steps:,.0f} on {listed(sorted(names))}" for steps, names in lengths.items()]


def _unverified(rows: pd.DataFrame) -> list[str]:
    return sorted(rows[~rows.data_verified & (rows.status == "done")].dataset.unique())


def _suspicious(rows: pd.DataFrame) -> dict[str, str]:
    """By data set, what a run found suspicious in its training part."""
    if "data_warning" not in rows:
        return {}
    said = rows[rows.data_warning.fillna("") != ""]
    return dict(zip(said.dataset, said.data_warning, strict=True))


def trials(rows: pd.DataFrame) -> list[str]:
    """The data sets that were scored on some of their test windows."""
    return sorted(rows[rows.tested.notna()].dataset.unique()) if "tested" in rows else []


def _windows(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[WINDOWS].drop_duplicates()


# Tables


_CLAIM = ("place", "method", "change", "95 % interval", "verdict")
_WORDS = frozenset(
    {"method", "why", "verdict", "data set", "swept", "chosen", "source", "95 % interval"}
    | {"column", "what it says", "scored by", "on the front of", "note", "plans"}
    | {"question", "against"}
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


def each(table: pd.DataFrame) -> Iterator[Any]:
    """The lines as named tuples, of whatever types the columns have."""
    return iter(table.itertuples())


def _heads(names: Iterable[str]) -> list[str]:
    return [COLUMNS[name].head for name in names]


def _numbers(line: Any, names: Iterable[str]) -> list[str]:  # noqa: ANN401 - a named tuple of pandas
    """Numbers of a line of the ranking; a column that it lacks is empty."""
    return [COLUMNS[name].text(getattr(line, name, math.nan)) for name in names]


def _claim(line: Any) -> list[str]:  # noqa: ANN401 - a named tuple of pandas
    """The method, its change, the interval of that, and the verdict."""
    said = (wording.change(line), wording.interval(line), wording.verdict(line))
    return [code(line.method), *said]


def _ranked(caption: str, own: pd.DataFrame, names: Sequence[str]) -> Table:
    """The lines of a track in order, with these of their numbers."""
    return _table(
        caption,
        [*_CLAIM, *_heads(names), "failed", "plans"],
        (
            [
                str(line.place),
                *_claim(line),
                *_numbers(line, names),
                wording.failures(line),
                line.collapsed,
            ]
            for line in each(own)
        ),
    )


def _title(track: str) -> str:
    """What the methods of a track promise, as the beginning of a sentence."""
    return BUDGETS[track][0].upper() + BUDGETS[track][1:]


def _results(order: pd.DataFrame) -> list[Block]:
    return [
        _ranked(
            f"{_title(track)}; change against {wording.references(own)}:",
            own,
            ("over_random", "mean_rank", "win_rate", "skill"),
        )
        for track, own in placed(order)
    ] or ([] if is_planted(order) else ["No method has a place."])


def _brief(caption: str, own: pd.DataFrame) -> Table:
    """The lines of a track as a README has them."""
    return _ranked(caption, own, ("mean_rank", "skill", "tokens", "step"))


def _dense(runs: pd.DataFrame, order: pd.DataFrame) -> list[Block]:
    """The ranking once more, of the tasks that all ranked methods finished, if these are fewer."""
    if not order[order.track != ""].failures.any():
        return []
    runs = panel.real(runs)
    finished = dense(runs)
    there, of = (len(rows[TASK].drop_duplicates()) for rows in (finished, runs))
    if not there:
        return ["There is no task on which no ranked method has failed."]
    return [
        _brief(
            f"{_title(track)}, only the {there} of {of} tasks on which no ranked method failed:",
            own,
        )
        for track, own in placed(count(finished, "show").ranking)
    ]


def _beside(order: pd.DataFrame) -> Table:
    return _table(
        "Beside the ranking:",
        ["why", "method", "change", "95 % interval", "skill", "failed", "plans"],
        (
            [
                line.beside
                if line.tasks == line.tasks_of
                else f"{line.beside}; {line.tasks} of {line.tasks_of} tasks",
                *_claim(line)[:3],
                *_numbers(line, ["skill"]),
                wording.failures(line),
                line.collapsed,
            ]
            for line in each(order[(order.track == "") & (order.beside != panel.ONLY_PLANTED)])
        ),
    )


def _tests(order: pd.DataFrame) -> Table:
    judged = order[(order.track != "") & (order.verdict != NOT_JUDGED)]
    against = [f"p_{control}" for control in CONTROLS]
    form = COLUMNS["p"].form
    return _table(
        "Why these verdicts. Beside p of the test that decides stands p of Wilcoxon's test over "
        "data sets against each control, after the same correction; with few data sets it cannot "
        "be small:",
        ["method", *_heads(["p"]), *(f"p {code(control)}" for control in CONTROLS), "why"],
        (
            [
                code(line.method),
                *_numbers(line, ["p"]),
                *(number(getattr(line, name), form) for name in against),
                line.why,
            ]
            for line in each(judged)
        ),
    )


def _cost(order: pd.DataFrame) -> Table:
    """What every method cost, whether it is ranked or not."""
    names = ("tokens", "parameters", "flops", "flops_step", "train_seconds", "step", "trials")
    return _table(
        "Cost:",
        ["method", *_heads(names)],
        ([code(line.method), *_numbers(line, names)] for line in each(order)),
    )


def besides(board: Board, look_back: int) -> list[Table]:
    """What stands beside the errors of a look-back: what they cost, and what the controls say."""
    order = board.ranking[board.ranking.look_back == look_back].method
    tables = (
        _views(board.costs[board.costs.look_back == look_back]),
        _controls(board.controls[board.controls.look_back == look_back]),
        _arms(board.arms[board.arms.look_back == look_back]),
        _at_labels(board.labels[board.labels.look_back == look_back], order),
    )
    return [table for table in tables if table.lines]


def _views(costs: pd.DataFrame) -> Table:
    """The change of each method beside what it cost, and the fronts that it is on."""
    known = costs[[*COSTS]].notna().any(axis=1) & costs.change.notna()
    return _table(
        wording.VIEWS,
        ["method", "change", *COSTS.values(), "on the front of"],
        (
            [
                code(line.method),
                f"{percent.said(line.change)} %",
                *(number(getattr(line, cost), "{:.2f}") for cost in COSTS),
                line.front,
            ]
            for line in each(costs[known])
        ),
    )


def _arms(table: pd.DataFrame) -> Table:
    """A line a question and pair of arms."""
    return _table(
        wording.OF_ARMS,
        ["question", "method", "against", "change", "95 % interval", "data sets"],
        (
            [
                line.question,
                code(line.method),
                code(line.control),
                f"{percent.said(line.change)} %",
                "" if math.isnan(line.low) else percent.between(line.low, line.high),
                str(line.datasets),
            ]
            for line in each(table)
        ),
    )


def _controls(table: pd.DataFrame) -> Table:
    """A line a data set."""
    names = {
        PHASE_SHIFT: "moving grid",
        RANDOM_STEP: "random boundaries",
        UNIFORM_IDENTITY: "no backbone",
    }
    return _table(
        wording.OF_CONTROLS,
        ["data set", *names.values(), "note"],
        (
            [
                str(line.dataset),
                *(number(getattr(line, name), "{:+.2f} %") for name in names),
                wording.IDLE if line.idle else "",
            ]
            for line in each(table)
        ),
    )


def _at_labels(table: pd.DataFrame, ranked: Iterable[str]) -> Table:
    """A line a data set and method, in the order of the ranking."""
    heads = {**PLACES, **FOUND}
    places = {name: at for at, name in enumerate(ranked)}
    shown = table.assign(place=table.method.map(places))
    return _table(
        wording.AT_LABELS,
        ["data set", "method", *heads.values()],
        (
            [
                f"{line.dataset} ({100 * line.share_near:.0f} % near)",
                code(line.method),
                *(number(getattr(line, name), "{:+.2f} %") for name in PLACES),
                *(number(getattr(line, name), "{:.3f}") for name in FOUND),
            ]
            for line in each(shown.sort_values(["dataset", "place"]))
        ),
    )


def _by_task(cells: pd.DataFrame, order: pd.DataFrame, board: Board) -> Table:
    """A line a task, a column a method in the order of the ranking."""
    unverified, some = set(_unverified(board.runs)), set(trials(board.runs))
    tests = board.cell_tests
    best = set(tests[tests.ties_with_best][CELL].itertuples(False, None))
    scores = {tuple(getattr(line, name) for name in CELL): line for line in each(cells)}
    usual = usual_seeds(cells)
    lines = []
    for task in sorted(set(cells[TASK].itertuples(False, None))):
        _, dataset, horizon, patches = task
        own = [(method, *task) for method in order.method]
        marked = dataset + "†" * (dataset in unverified) + "‡" * (dataset in some)
        errors = [_score(scores.get(cell), usual, is_best=cell in best) for cell in own]
        lines.append([marked, str(horizon), str(patches), *errors])
    return _table(wording.OF_CELLS, ["data set", "horizon", "K", *map(code, order.method)], lines)


def usual_seeds(cells: pd.DataFrame) -> int:
    """How many seeds most cells have; the others say how many they have."""
    return int(cells.runs.mode().max())


def _score(line: Any, usual: int, *, is_best: bool) -> str:  # noqa: ANN401 - a named tuple of pandas, or None
    if line is None:
        return ""
    if math.isnan(line.mse):
        return "failed"
    places = decimals(line.mse)
    score = f"{line.mse:.{places}f}"
    if line.failures == line.runs:
        return f"failed, counts as {score}"
    if not math.isnan(line.mse_sd):
        score += f" ± {line.mse_sd:.{places}f}"
    if line.failures:
        return f"{score} ({wording.failures(line)} failed)"
    seeds = "" if line.runs == usual else f" ({wording.seeds(line.runs)})"
    return (bold(score) if is_best else score) + seeds


def _published(rows: pd.DataFrame) -> Table:
    """A line for each method and task of which an error was published, ours beside it."""
    there = "published" in rows and rows.published.notna().any()
    known = rows[(rows.status == "done") & rows.published.notna()] if there else rows[:0]
    lines = []
    for (method, _, dataset, horizon, _), own in known.groupby(CELL):
        ours, theirs = own.mse.mean(), own.published.iloc[0]
        digits = [f"{error:.{decimals(theirs)}f}" for error in (ours, theirs)]
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
    """A line for each task of a sweep: what was tried, what was chosen, and its patches."""
    lines = []
    for (method, _, dataset, horizon, _), own in rows[rows.swept != ""].groupby(CELL):
        first, tokens = own.iloc[0], number(own.tokens_mean.mean(), "{:.0f}")
        tried = [first.swept, first.trained, first.setting]
        lines.append([code(str(method)), str(dataset), str(horizon), *tried, tokens])
    return _table(
        "Swept; on each task the setting with the least validation error counts:",
        ["method", "data set", "horizon", "swept", "runs done", "chosen", "its K"],
        lines,
    )


_BOUNDARIES = {
    "mse_sample": "sample",
    "mse_best": "best",
    "mse_even": "even",
    "mse_swapped": "swapped",
    "mse_other_channel": "other channel",
    "mse_permuted": "permuted",
    "mse_no_content": "no content",
    **{f"f1_{steps}": f"F1 at {steps}" for steps in range(4)},
}


def _boundaries(rows: pd.DataFrame, order: pd.DataFrame) -> Table:
    """A line for each data set and method that has these numbers, in the order of the ranking."""
    there = [name for name in _BOUNDARIES if name in rows and rows[name].notna().any()]
    runs = rows[(rows.status == "done") & rows[there].notna().any(axis=1)]
    cells = runs.groupby(["dataset", "method"])
    means = cells[["mse", *there]].mean()
    rules = cells.rule.agg(wording.scored_by) if "rule" in runs else means.mse.map(lambda _: "")
    lines = []
    for dataset in sorted(runs.dataset.unique()):
        for method in order.method:
            if (dataset, method) in means.index:
                own = means.loc[dataset, method]
                error = f"{{:.{decimals(own.mse)}f}}"
                forms = {name: "{:.3f}" if name.startswith("f1") else error for name in own.index}
                numbers = [number(own[name], form) for name, form in forms.items()]
                lines.append([str(dataset), code(method), rules[dataset, method], *numbers])
    return _table(
        "MSE with the boundaries that evaluation uses, and with others: by each evaluation rule "
        "of the method; of another window; of another channel; with the patch lengths shuffled; "
        "and with its own ones, but values of zero. F1 is the agreement with the true boundaries "
        "within so many steps. Means over runs.",
        ["data set", "method", "scored by", "mse", *(_BOUNDARIES[name] for name in there)],
        lines,
    )


def _legend(page: Iterable[Block]) -> Table:
    """What each column says that stands in one of the tables above."""
    heads = {head for block in page if isinstance(block, Table) for head in block.head}
    said = [(head, text) for head, text in LEGEND.items() if head in heads]
    return _table("What the columns of these tables say:", ["column", "what it says"], said)


# Data


def _csv(table: pd.DataFrame) -> str:
    words = table.select_dtypes(["object", "string"]).columns
    safe = table.assign(**{name: table[name].map(_no_formula) for name in words})
    return safe.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def _no_formula(cell: object) -> object:
    """Text that a spreadsheet would take for a formula, quoted as spreadsheets do."""
    is_formula = isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{cell}" if is_formula else cell


def _json(board: Board) -> str:
    content = {
        "schema": SCHEMA,
        "suite": board.suite,
        "protocol": int(board.rows.protocol.iloc[0]),
        "smallest_effect_percent": SMALLEST_EFFECT,
        "missing": [name for *_, name in (*board.missing, *board.gaps)],
        "panel": _records(board.panel),
        "ranking": _records(board.ranking),
        "cells": _records(board.cells),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _records(table: pd.DataFrame) -> list[dict[str, object]]:
    """A dictionary a line, with null for what is empty; numbers to the last digit.

    Not of ``to_json``, which rounds to places after the point: an error of 1e-12 would be none.
    """
    lines = table.astype(object).to_dict(orient="records")
    return [{str(name): _plain(value) for name, value in line.items()} for line in lines]


def _plain(value: Any) -> object:  # noqa: ANN401 - whatever a table holds
    """A value of numpy as Python's own; for what is empty or not finite, JSON has no number."""
    value = value.item() if isinstance(value, np.generic) else value
    if pd.isna(value) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value
