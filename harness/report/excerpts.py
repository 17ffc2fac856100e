"""The first places of a suite in README and docs, and whether what is committed is up to date.

An excerpt stands between ``<!-- leaderboard:start SUITE -->`` and ``<!-- leaderboard:end -->``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.core.files import write_text
from harness.report.kinds import kind_of
from harness.report.tables import LEADERBOARD
from harness.results.table import row_files

_START, _END = r"<!-- leaderboard:start (?P<suite>[\w.-]+) -->", "<!-- leaderboard:end -->"
_BLOCK = re.compile(rf"(?P<start>{_START})(?:(?!<!-- leaderboard:start).)*?{_END}", re.DOTALL)


def documents(root: Path) -> list[Path]:
    """README.md and the pages in docs/, those of them that have a mark of an excerpt."""
    pages = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    marks = ("<!-- leaderboard:start", _END)
    return [
        page
        for page in pages
        if page.exists() and any(mark in page.read_text(encoding="utf-8") for mark in marks)
    ]


def update(document: Path, results: Path) -> None:
    """Put the current excerpts into every block of ``document``; rows are in ``results/SUITE``.

    A suite without rows, as after a change of the protocol, has a sentence instead.

    Raises:
        ValueError: there is no block, or one without an end.
    """
    write_text(document, _updated(document, results))


def stale(documents: list[Path], results: Path) -> list[Path]:
    """What is committed and differs from what the rows say: leaderboards and excerpts."""
    folders = sorted({path.parent for path in results.glob("*/*.csv")})
    texts = {folder / LEADERBOARD: kind_of(folder).markdown(folder) for folder in folders}
    texts |= {document: _updated(document, results) for document in documents}
    return [
        path
        for path, text in texts.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]


def _updated(document: Path, results: Path) -> str:
    text = document.read_text(encoding="utf-8")
    starts = len(re.findall(_START, text))
    if not starts or starts != len(_BLOCK.findall(text)) or starts != text.count(_END):
        raise ValueError(
            f"{document} needs lines <!-- leaderboard:start SUITE --> and, below each, {_END}"
        )

    def block(match: re.Match[str]) -> str:
        folder = results / match["suite"]
        if not row_files(folder):
            said = f"There are no rows of `{folder.name}` yet: `make bench SUITE={folder.name}`."
            return f"{match['start']}\n{said}\n{_END}"
        page = Path(os.path.relpath(folder / LEADERBOARD, document.parent)).as_posix()
        link = f"All cells, references and notes: [{page}]({page})."
        return f"{match['start']}\n{kind_of(folder).excerpt(folder)}\n{link}\n{_END}"

    return _BLOCK.sub(block, text)
