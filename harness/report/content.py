"""What the page of a suite shows, as plain values for its template."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pandas as pd

from harness.core.protocol import SMALLEST_EFFECT
from harness.report import panel, statistics, wording
from harness.report.board import Board
from harness.report.percent import percent
from harness.report.pictures import GALLERY, Picture
from harness.report.tables import besides, trials, usual_seeds
from harness.report.wording import COLUMNS, LEGEND, Column, decimals
from harness.results.table import CELL, listed

Cards = Mapping[str, Mapping[str, str]]
"""By method what its file says of it: ``summary``, ``source`` and ``fidelity``."""
NO_CARDS: Cards = MappingProxyType({})
_Score = Mapping[Hashable, Any]  # a line of scores, by column


def content(
    board: Board, cells: pd.DataFrame, pictures: list[Picture], about: str, cards: Cards
) -> dict[str, Any]:
    """The variables of ``page.html`` that depend on the suite, by name.

    ``cells`` are the :func:`scores` of the board, ``about`` is a sentence on the suite. A method
    without a card is shown by its rows alone.
    """
    look_backs = sorted({look_back for look_back, *_ in board.tasks}, reverse=True)
    return {
        "about": about.rstrip("."),
        "facts": _facts(board),
        "tracks": [_track(board, cells, look_back) for look_back in look_backs],
        "filters": _filters(board),
        "figures": [picture for picture in pictures if not picture.dataset],
        "methods": [_method(board, name, cards, pictures) for name in board.methods],
        "datasets": [_dataset(board, name, pictures) for name in board.datasets],
    }


def scores(board: Board) -> pd.DataFrame:
    """A line a task and method: errors, costs, and the change against the reference in percent.

    The change is the geometric mean over the seeds that both have.
    """
    done = board.rows.status == "done"
    costs = board.rows[["tokens_mean", "train_seconds"]].where(done, axis=0)
    means = costs.groupby([board.rows[name] for name in CELL]).mean().reset_index()
    tests = board.cell_tests[[*CELL, "ties_with_best"]]
    table = board.cells.merge(means, "left", CELL).merge(tests, "left", CELL)
    pairs = [
        statistics.paired(board.runs[board.runs.look_back == look_back], reference)
        for look_back, reference in board.references.items()
        if reference
    ]
    if not pairs:
        return table.assign(change=math.nan)
    deltas = pd.concat(pairs).groupby(CELL).delta.mean()
    return table.assign(
        change=percent(deltas.reindex(list(map(tuple, table[CELL].to_numpy())))).to_numpy()
    )


# Numbers


class _Number(NamedTuple):
    """A number as it reads and as it sorts; both empty where there is none."""

    text: str = ""
    sort: float | None = None


def _number(value: Any, text: str) -> _Number:  # noqa: ANN401 - a number of a table, pd.NA included
    return _Number() if pd.isna(value) else _Number(_typeset(text), float(f"{value:.10g}"))


def _typeset(text: str) -> str:
    """With true minus signs, which are as wide as a plus."""
    return text.replace("-", "\N{MINUS SIGN}")


# Rankings


def _track(board: Board, cells: pd.DataFrame, look_back: int) -> dict[str, Any]:
    ranking = board.ranking[board.ranking.look_back == look_back]
    columns = [
        column
        for name, column in COLUMNS.items()
        if name in ranking and ranking[name].notna().any()
    ]
    scale = _scale(ranking)
    lines = [_line(line, columns, scale) for line in ranking.itertuples()]
    compared = ranking.beside != panel.ONLY_PLANTED
    verdicts = any(line["verdict"] for line in lines)
    intervals = any(line["interval"]["text"] for line in lines)
    heads = [
        "place",
        *(["verdict"] if verdicts else []),
        "change",
        *(["95 % interval"] if intervals else []),
        *(column.head for column in columns),
        "failed",
    ]
    caption = (
        wording.measured(board.rows[board.rows.look_back == look_back]),
        wording.what_change_is(ranking),
        wording.CHARGED,
    )
    return {
        "look_back": look_back,
        "panel": panel.on_page(board.panel, look_back),
        "ranked": bool(compared.any()),
        "caption": " ".join(caption),
        "holes": _holes(board, look_back),
        "head": [column.head for column in columns],
        "lines": [line for line, wanted in zip(lines, compared, strict=True) if wanted],
        "verdicts": verdicts,
        "intervals": intervals,
        "legend": [(head, LEGEND[head]) for head in heads],
        "power": [
            wording.power(line) for line in board.power.itertuples() if line.look_back == look_back
        ],
        "besides": besides(board, look_back),
        **_grid(board, cells, look_back, lines),
    }


def _line(line: Any, columns: Iterable[Column], scale: float) -> dict[str, Any]:  # noqa: ANN401 - a named tuple of pandas
    is_reference = line.method == line.reference
    values = [(column, getattr(line, column.key)) for column in columns]
    return {
        "method": line.method,
        "promise": wording.promise(line.strict),
        "note": _note(line),
        "verdict": wording.verdict(line),
        "place": _number(line.place, str(line.place)),
        "change": _number(0 if is_reference else line.change, wording.change(line)),
        "interval": _interval(line, scale),
        "numbers": [_number(value, column.text(value)) for column, value in values],
        "failed": _number(line.failures, wording.failures(line)),
    }


def _note(line: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Why a method has no place; of one that has, its promise, unless it is the strict one.

    And of both that its plans have collapsed.
    """
    first = line.beside or ("" if line.strict else wording.promise(line.strict))
    return "; ".join(filter(None, (first, line.collapsed)))


def _scale(ranking: pd.DataFrame) -> float:
    """Percent at either rim of the interval pictures: room for most, the widest are cut off."""
    ends = ranking[["low", "high"]].abs().max(axis=1).dropna()
    return max(2 * SMALLEST_EFFECT, float(ends.median()) * 1.5) if len(ends) else 1.0


def _interval(line: Any, scale: float) -> dict[str, Any]:  # noqa: ANN401 - a named tuple of pandas
    """The interval in words, and where its ends stand on a line of 100 % from rim to rim."""
    text = wording.interval(line)
    if not text:
        return {"text": "", "sort": ""}
    low_at, at, high_at = (
        round(50 + 50 * min(max(value / scale, -1), 1), 1)
        for value in (line.low, line.change, line.high)
    )
    return {"text": _typeset(text), "sort": line.low, "low": low_at, "at": at, "high": high_at}


def _holes(board: Board, look_back: int) -> dict[str, str]:
    """Which methods lack runs and how many, and the names of the runs; empty without holes."""
    holes = [
        (method, name)
        for where, method, name in (*board.missing, *board.gaps)
        if where == look_back
    ]
    if not holes:
        return {}
    counts = Counter(method for method, _ in holes)
    return {
        "methods": ", ".join(f"{method} ({count})" for method, count in sorted(counts.items())),
        "runs": listed([name for _, name in holes]),
    }


def _grid(
    board: Board, cells: pd.DataFrame, look_back: int, lines: list[dict[str, Any]]
) -> dict[str, Any]:
    """The table of all cells of a track: a line a method as ranked, a column a task."""
    tasks = [task for task in board.tasks if task[0] == look_back]
    own = cells[cells.look_back == look_back].to_dict("records")
    found = {tuple(line[name] for name in CELL): line for line in own}
    several = len({patches for *_, patches in tasks}) > 1
    usual = usual_seeds(cells[cells.look_back == look_back])
    return {
        "datasets": list(Counter(dataset for _, dataset, *_ in tasks).items()),
        "tasks": [
            {
                "dataset": dataset,
                "horizon": horizon,
                "patches": patches,
                "name": f"{horizon}, K={patches}" if several else str(horizon),
            }
            for _, dataset, horizon, patches in tasks
        ],
        "scores": [
            line
            | {"scores": [_score(found.get((line["method"], *task)), usual) for task in tasks]}
            for line in lines
        ],
        "cells_caption": wording.OF_CELLS,
    }


def _score(line: _Score | None, usual: int) -> dict[str, Any] | None:
    if line is None:
        return None
    mean, spread = line["mse"], line["mse_sd"]
    places = decimals(mean)
    return {
        "mean": "failed" if pd.isna(mean) else f"{mean:.{places}f}",
        "sd": "" if pd.isna(spread) else f"{spread:.{places}f}",
        "best": line["ties_with_best"] is True,
        "failures": line["failures"],
        "runs": line["runs"],
        "seeds": "" if line["runs"] == usual else wording.seeds(line["runs"]),
    }


_VERDICTS = (*statistics.VERDICTS, wording.CONTROL)


def _filters(board: Board) -> list[tuple[str, str, list[str]]]:
    """The name, the label and the choices of each selection; one with one choice is none."""
    there = {wording.verdict(line) for line in board.ranking.itertuples()}
    filters = [
        ("dataset", "Data set", board.datasets),
        ("verdict", "Verdict", [name for name in _VERDICTS if name in there]),
        ("promise", "Budget", sorted(set(board.ranking.strict.map(wording.promise)))),
    ]
    return [(name, label, choices) for name, label, choices in filters if len(choices) > 1]


# The suite, its methods and its data sets


def _facts(board: Board) -> list[tuple[str, str]]:
    rows = board.rows
    failed = int((rows.status != "done").sum())
    facts = {
        "methods": f"{len(board.methods)}",
        "data sets": f"{len(board.datasets)}",
        "tasks": f"{len(board.tasks)}",
        "runs": f"{len(rows):,}",
        "failed": f"{failed:,}",
        "holes": f"{len(board.missing) + len(board.gaps):,}",
        "protocol": str(rows.protocol.iloc[0]),
    }
    return list(facts.items())


def _method(
    board: Board, method: str, cards: Mapping[str, Mapping[str, str]], pictures: list[Picture]
) -> dict[str, Any]:
    rows = board.rows[board.rows.method == method]
    base = rows.base.iloc[0]
    card = cards.get(base, {})
    lines = list(board.ranking[board.ranking.method == method].itertuples())
    said = [(name.capitalize(), card[name]) for name in ("source", "fidelity") if card.get(name)]
    judged = [
        (f"Verdict, look-back {line.look_back}", f"{line.verdict}: {line.why}") for line in lines
    ]
    costs = _costs(rows)
    datasets = set(rows.dataset)
    return {
        "name": method,
        "summary": card.get("summary", ""),
        "card": [
            *said,
            ("Declares", _declares(lines[0], rows)),
            *(
                (f"Plans, look-back {line.look_back}", line.collapsed)
                for line in lines
                if line.collapsed
            ),
            *judged,
            *([("Cost, median", costs)] if costs else []),
        ],
        "file": f"{base}.csv",
        "galleries": [
            picture.dataset
            for picture in pictures
            if picture.dataset in datasets and picture.file.startswith(f"{GALLERY}-")
        ],
    }


def _declares(line: Any, rows: pd.DataFrame) -> str:  # noqa: ANN401 - a named tuple of pandas
    """What the rows say that the method declares, and by which of its rules they were scored."""
    said = [wording.promise(line.strict)]
    if not pd.isna(line.rules):
        is_same = len(line.rules.split()) == 1
        how = "the same in training" if is_same else "drawn, noisy or soft in training"
        said.append(f"boundaries {how}")
        if not is_same and (rules := wording.scored_by(rows.get("rule", pd.Series(dtype=str)))):
            said.append(f"scored by {rules}")
    return ", ".join(said if line.ranked or pd.isna(line.strict) else [*said, "never ranked"])


_COSTS = {
    "tokens_mean": COLUMNS["tokens"],
    **{name: COLUMNS[name] for name in ("parameters", "flops", "train_seconds", "step")},
    "peak_memory_mb": Column("peak_memory_mb", "peak MB", "{:,.0f}", "Memory."),
}


def _costs(rows: pd.DataFrame) -> str:
    done = rows[rows.status == "done"]
    return "; ".join(
        f"{column.head} {column.text(done[name].median())}"
        for name, column in _COSTS.items()
        if name in done and done[name].notna().any()
    )


def _dataset(board: Board, dataset: str, pictures: list[Picture]) -> dict[str, Any]:
    rows = board.rows[board.rows.dataset == dataset]
    tasks = [
        f"{look_back}\N{RIGHTWARDS ARROW}{horizon} K={patches}"
        for look_back, name, horizon, patches in board.tasks
        if name == dataset
    ]
    done = rows[rows.status == "done"]
    windows = sorted({f"{count:,.0f}" for count in done.get("windows", pd.Series()).dropna()})
    some = " (some of them, for a trial)" if trials(rows) else ""
    card = {
        "Look-back\N{RIGHTWARDS ARROW}horizon": ", ".join(tasks),
        "Test windows": ", ".join(windows) + some,
        "SHA-256 of values": ", ".join(sorted(set(rows.data_hash) - {""})),
        "Verified": "yes" if done.data_verified.all() else wording.UNVERIFIED,
    }
    return {
        "name": dataset,
        "summary": f"{len(tasks)} task{'s' * (len(tasks) != 1)}, {len(rows):,} runs",
        "card": [(name, text) for name, text in card.items() if text],
        "figures": [picture for picture in pictures if picture.dataset == dataset],
    }
