"""The page of a suite: tables, figures and records in one file that opens from disk.

``index.html`` is a function of the rows, of the SVG files that lie beside it, and of what the
methods say of themselves: the same three give the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from harness.core.files import write_text
from harness.report.board import Board, count
from harness.report.content import NO_CARDS, Cards, content, scores
from harness.report.drawings import draw
from harness.report.packed import packed
from harness.report.pictures import pictures
from harness.report.rendered import rendered
from harness.report.tables import LEADERBOARD, MADE, TABLES
from harness.results.table import read_table

PAGE = "index.html"


def write_page(
    folder: Path, runs: Path | None = None, *, about: str = "", cards: Cards = NO_CARDS
) -> list[Path]:
    """Draw the figures of a suite, write its page beside them, and return all paths.

    All go to :data:`harness.report.tables.MADE` in the folder of its rows. ``runs`` is the folder
    of bundles, ``runs`` beside the suite's if not given: figures that need bundles are left as
    they lie where one of these is not at hand.

    Raises:
        FileNotFoundError: the folder holds no records.
        ValueError: the rows cannot be read (:func:`harness.results.table.read_table`).
    """
    board = count(read_table(folder), "show")
    hindsight = folder / "hindsight" / "curve.csv"
    drawn = draw(board, folder / MADE, runs=runs or folder.parent / "runs", hindsight=hindsight)
    path = folder / MADE / PAGE
    write_text(path, _page(board, folder / MADE, about, cards))
    return [*drawn, path]


def page_text(folder: Path, *, about: str = "", cards: Cards = NO_CARDS) -> str:
    """The page as text, of the rows in ``folder`` and the figures that were made of them.

    ``about`` is a sentence on the suite. A method without a card is shown by its rows alone.

    Raises:
        FileNotFoundError: the folder holds no records.
        ValueError: the rows cannot be read (:func:`harness.results.table.read_table`).
    """
    return _page(count(read_table(folder), "show"), folder / MADE, about, cards)


def _page(board: Board, made: Path, about: str, cards: Cards) -> str:
    cells = scores(board)
    return rendered(
        "page.html",
        ("basics.js", "page.js"),
        suite=board.suite,
        leaderboard=LEADERBOARD,
        files=TABLES,
        data=packed(board, cells),
        **content(board, cells, pictures(made), about, cards),
    )
