"""The page of a zero-shot suite: its tables, and what it forecast, in one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.report.pictures import Picture, pictures
from harness.report.rendered import rendered
from harness.report.tables import LEADERBOARD
from harness.report.zero_shot import tables
from harness.report.zero_shot.board import Board
from harness.report.zero_shot.drawings import FORECAST, KINDS
from harness.zero_shot.tasks import BENCHMARKS


def page_text(board: Board, suite: str, made: Path, about: str = "") -> str:
    """The page of a board and of the figures that lie in ``made``: the same give the same bytes.

    ``about`` is a sentence on the suite.
    """
    found = pictures(made, KINDS)
    forecasts = [picture for picture in found if picture.file.startswith(f"{FORECAST}-")]
    galleries = {name: _of_benchmark(forecasts, name) for name in BENCHMARKS}
    return rendered(
        "zero_shot.html",
        ("basics.js",),
        suite=suite,
        about=about.rstrip("."),
        what=tables.what(board),
        notices=tables.notices(board),
        criterion=tables.criterion(board),
        standings=[_grouped(board, scope) for scope, _ in board.scopes() if len(board.counted)],
        notes=tables.notes(board),
        legend=tables.legend().lines,
        paired=tables.against_uniform(board),
        figures=[picture for picture in found if picture not in forecasts],
        drawn=_drawn(len(forecasts), board.patchers.task.nunique()),
        galleries=[(name, own) for name, own in galleries.items() if own],
        beside=tables.beside(board),
        by_task=tables.by_task(board),
        leaderboard=LEADERBOARD,
        files=tables.TABLES,
    )


def _of_benchmark(forecasts: list[Picture], name: str) -> list[Picture]:
    return [picture for picture in forecasts if picture.dataset.startswith(f"{name}.")]


def _drawn(count: int, of: int) -> str:
    """How many tasks there is a picture of, and why not of the others."""
    words = f"{count} of {of} tasks have a picture"
    if count < of:
        words += (
            ". It is drawn from the bundles of runs (`results/runs/`), and those of the others "
            "are not where this page was made"
        )
    return f"{words}."


def _grouped(board: Board, scope: str) -> dict[str, Any]:
    """A table of :func:`harness.report.zero_shot.tables.standing`, with corpora above columns."""
    columns, lines = tables.standing(board, scope)
    return {
        "name": scope,
        "caption": tables.caption(board, scope),
        "corpora": board.corpora,
        "columns": columns,
        "lines": lines,
    }
