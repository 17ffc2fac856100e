"""One page, three formats: headings, sentences and tables as Markdown, LaTeX and HTML.

Text is written once, with backticks around names and two asterisks around what is bold. Each
format renders these two and escapes everything else, so that no name can break a page.
"""

from __future__ import annotations

import html as html_
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """A heading; ``level`` 1 is the page's own."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Table:
    """A table under its caption; ``words`` are the columns of text, all others are numbers.

    Raises:
        ValueError: a line with more or fewer entries than the head.
    """

    caption: str
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    words: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for line in self.lines:
            if len(line) != len(self.head):
                entries = f"{len(line)} entries under {len(self.head)} headings"
                raise ValueError(f"{self.caption!r} has {entries}: {' | '.join(line)}")


Block = Heading | Table | str
"""A part of a page; a string is a paragraph."""


def code(text: str) -> str:
    """A name, to be set as code; backticks of its own could end that and become quotes."""
    return f"`{text.replace('`', chr(39))}`"


def bold(text: str) -> str:
    """The text, to be set in bold."""
    return f"**{text}**"


def markdown(page: Sequence[Block]) -> str:
    """The page for a README or the viewer of a repository."""
    return "\n\n".join(map(_in_markdown, page)) + "\n"


def latex(page: Sequence[Block]) -> str:
    """The tables, for a document that uses booktabs; headings and paragraphs become comments."""
    return "\n\n".join(["% Needs \\usepackage{booktabs}.", *map(_in_latex, page)]) + "\n"


def html(page: Sequence[Block]) -> str:
    """A fragment for any page: tables have captions, and headers say what they head."""
    return "\n".join(['<section class="leaderboard">', *map(_in_html, page), "</section>\n"])


def html_text(text: str) -> str:
    """A marked sentence as a part of HTML."""
    return _html(text)


def html_block(block: Block) -> str:
    """One block as a part of HTML."""
    return _in_html(block)


# Marked text


@dataclass(frozen=True)
class _Marks:
    """How a format writes plain text, what stands in code, and both marks."""

    plain: Callable[[str], str]
    in_code: Callable[[str], str]
    code: str
    bold: str

    def __call__(self, text: str) -> str:
        # Every other part is marked: code first, so that asterisks in a name stay asterisks.
        plain, *rest = re.split(r"(`[^`]+`|\*\*.+?\*\*)", text)
        parts = [self.plain(plain)]
        for marked, after in zip(rest[::2], rest[1::2], strict=True):
            if marked[0] == "`":
                parts.append(self.code.format(self.in_code(marked[1:-1])))
            else:
                parts.append(self.bold.format(self.plain(marked[2:-2])))
            parts.append(self.plain(after))
        return "".join(parts)


def _plain_markdown(text: str) -> str:
    # Markdown may hold HTML, and no name or message may begin a tag.
    return _code_markdown(text.replace("&", "&amp;").replace("<", "&lt;"))


def _code_markdown(text: str) -> str:
    return text.replace("|", "\\|")


_TEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "†": r"$\dagger$",
}


def _plain_tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


_markdown = _Marks(_plain_markdown, _code_markdown, "`{}`", "**{}**")
_tex = _Marks(_plain_tex, _plain_tex, r"\texttt{{{}}}", r"\textbf{{{}}}")
_html = _Marks(html_.escape, html_.escape, "<code>{}</code>", "<strong>{}</strong>")


# Blocks


def _in_markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_markdown(text)}"
        case Table():
            align = ["---" if column in block.words else "---:" for column in block.head]
            cells = [[_markdown(cell) for cell in line] for line in (block.head, *block.lines)]
            lines = [f"| {' | '.join(line)} |" for line in (cells[0], align, *cells[1:])]
            caption = [_markdown(block.caption), ""] if block.caption else []
            return "\n".join([*caption, *lines])
        case _:
            return _markdown(block)


def _in_latex(block: Block) -> str:
    match block:
        case Table():
            align = "".join("l" if column in block.words else "r" for column in block.head)
            head, *lines = [
                " & ".join(map(_tex, line)) + r" \\" for line in (block.head, *block.lines)
            ]
            return "\n".join(
                [
                    r"\begin{table}",
                    r"\centering",
                    rf"\caption{{{_tex(block.caption)}}}",
                    rf"\begin{{tabular}}{{{align}}}",
                    *(r"\toprule", head, r"\midrule", *lines, r"\bottomrule"),
                    r"\end{tabular}",
                    r"\end{table}",
                ]
            )
        case Heading(text):
            return _comment(text)
        case _:
            return _comment(block)


def _comment(text: str) -> str:
    return "\n".join(f"% {line}" for line in text.splitlines())


def _in_html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_html(text)}</h{level}>"
        case Table():
            kinds = ["" if column in block.words else ' class="number"' for column in block.head]
            head = [
                f'<th scope="col"{kind}>{_html(cell)}</th>'
                for kind, cell in zip(kinds, block.head, strict=True)
            ]
            return "\n".join(
                [
                    "<table>",
                    f"<caption>{_html(block.caption)}</caption>",
                    f"<thead>\n<tr>{''.join(head)}</tr>\n</thead>",
                    "<tbody>",
                    *(f"<tr>{_html_line(kinds, line)}</tr>" for line in block.lines),
                    "</tbody>",
                    "</table>",
                ]
            )
        case _:
            return f"<p>{_html(block)}</p>"


def _html_line(kinds: Sequence[str], line: Sequence[str]) -> str:
    """The entries of a line; the first one heads it."""
    cells = [f"<td{kind}>{_html(cell)}</td>" for kind, cell in zip(kinds, line, strict=True)]
    return f'<th scope="row"{kinds[0]}>{_html(line[0])}</th>{"".join(cells[1:])}'
