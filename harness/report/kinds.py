"""Which board the rows of a suite have: of zero-shot tasks, of pre-trainings, or the usual one.

The only place that decides it, by what the rows are. Every function of a kind takes the folder of
the rows, and raises ValueError where these cannot be read and FileNotFoundError where there are
none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.core.files import write_text
from harness.report import pretraining, tables
from harness.report.board import count
from harness.report.content import NO_CARDS, Cards
from harness.report.page import PAGE, write_page
from harness.report.tables import MADE
from harness.report.zero_shot import drawings as zero_shot_drawings
from harness.report.zero_shot import page as zero_shot_page
from harness.report.zero_shot import rows as zero_shot_rows
from harness.report.zero_shot import tables as zero_shot_tables
from harness.report.zero_shot.board import Board
from harness.results.table import read_table, row_files


@dataclass(frozen=True)
class Kind:
    """What is made of the rows of a suite.

    ``read`` refuses rows that cannot stand together. ``markdown`` is the text of the leaderboard,
    ``excerpt`` its first lines. ``write`` leaves all that there is of tables, figures and a page,
    also of a suite with holes, and returns the paths, the leaderboard's first.
    """

    read: Callable[[Path], object]
    markdown: Callable[[Path], str]
    excerpt: Callable[[Path], str]
    write: Callable[[Path, str, Cards], list[Path]]


def kind_of(folder: Path) -> Kind:
    """By the stages of the rows in a folder; those of several kinds are read, and so refused."""
    stages = {stage for path in row_files(folder) for stage in _stages(path)}
    for stage, kind in KINDS.items():
        if stage in stages:
            return kind
    return USUAL


def write(folder: Path, *, about: str = "", cards: Cards = NO_CARDS) -> list[Path]:
    """All that is made of the rows in ``folder``; the leaderboard comes first.

    ``about`` is a sentence on the suite, ``cards`` are what its methods say of themselves.
    """
    return kind_of(folder).write(folder, about, cards)


def _stages(path: Path) -> set[str]:
    """What the rows of a file are of; rows that are older than stages are of none."""
    column = pd.read_csv(path, dtype=str, keep_default_na=False, usecols=_is_stage)
    return set(column.stage) if "stage" in column else set()


def _is_stage(column: str) -> bool:
    return column == "stage"


def _write_usual(folder: Path, about: str, cards: Cards) -> list[Path]:
    return [
        *tables.write(folder, holes="show"),
        *write_page(folder, about=about, cards=cards),
    ]


def _write_zero_shot(folder: Path, about: str) -> list[Path]:
    board = Board(zero_shot_rows.read(folder))
    made = folder / MADE
    written = zero_shot_tables.write(board, folder)
    written += zero_shot_drawings.draw(board, made, folder.parent / "runs")
    page = made / PAGE
    write_text(page, zero_shot_page.page_text(board, folder.name, made, about))
    return [*written, page]


USUAL = Kind(
    read=read_table,
    markdown=lambda folder: tables.markdown(count(read_table(folder), "show")),
    excerpt=tables.excerpt,
    write=_write_usual,
)
KINDS = {
    "zero_shot": Kind(
        read=zero_shot_rows.read,
        markdown=zero_shot_tables.markdown,
        excerpt=zero_shot_tables.excerpt,
        write=lambda folder, about, cards: _write_zero_shot(folder, about),
    ),
    "pretrain": Kind(
        read=pretraining.read,
        markdown=pretraining.markdown,
        excerpt=pretraining.excerpt,
        write=lambda folder, about, cards: pretraining.write(folder, about),
    ),
}
"""By the stage of rows, all others being usual ones."""
