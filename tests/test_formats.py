"""A page is written once and reads the same in Markdown, LaTeX and HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from harness.report import formats
from harness.report.formats import Block, Heading, Table, bold, code

AWKWARD = r"a_b & 50% <script>alert('x')</script> | {~^\} #$ ±"
PAGE: list[Block] = [
    Heading("Look-back 512"),
    f"Held against {code('uniform')}.",
    Table(
        f"By {code('mean_rank')}:",
        ("method", "data set", "mse ±"),
        ((code("soft_max"), "ETT|h1", bold("0.1")), (code(AWKWARD), AWKWARD, "<0.001")),
        frozenset(("method", "data set")),
    ),
]


def test_markdown_by_hand() -> None:
    """Captions stand above, numbers to the right, and a bar in a cell ends no cell."""
    table = Table(
        "By rank:", ("method", "mse"), ((code("a|b"), bold("0.1")),), frozenset(["method"])
    )
    assert formats.markdown([Heading("One", 3), "Text.", table]) == (
        "### One\n\nText.\n\nBy rank:\n\n| method | mse |\n| --- | ---: |\n| `a\\|b` | **0.1** |\n"
    )


def test_markdown_begins_no_tag() -> None:
    """Markdown may hold HTML: no name or message can, wherever it stands."""
    bad = "<img src=x onerror=alert(1)> & a < b"
    page: list[Block] = [
        Heading(bad),
        bad,
        Table(bad, (bad,), ((bold(bad),),), frozenset([bad])),
    ]
    text = formats.markdown(page)
    assert text.count("&lt;img src=x onerror=alert(1)> &amp; a &lt; b") == 5
    assert "<" not in text
    # In code nothing is a tag, and an entity would be shown as it is written.
    assert formats.markdown([code("a<b & c")]) == "`a<b & c`\n"


def cells(line: str) -> list[str]:
    """The cells of a line of a tabular: split where an ampersand is not escaped."""
    return re.split(r"(?<!\\)&", line.removesuffix(r"\\"))


def test_latex_is_balanced_and_every_line_has_its_cells() -> None:
    """Environments and braces close, special characters are escaped, names are set as code."""
    text = formats.latex(PAGE)
    assert re.findall(r"\\begin\{(\w+)\}", text) == ["table", "tabular"]
    assert re.findall(r"\\end\{(\w+)\}", text) == ["tabular", "table"]
    assert r"\begin{tabular}{llr}" in text
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert [len(cells(line)) for line in lines] == [3, 3, 3]
    bare = re.sub(r"\\[&%$#_{}]", "", text)
    assert bare.count("{") == bare.count("}")
    tables = "\n".join(line for line in bare.splitlines() if not line.startswith("%"))
    math = re.sub(r"\$\\(pm|dagger)\$", "", tables)
    assert not set("_#$%~^<>|") & set(math)
    assert r"\caption{By \texttt{mean\_rank}:}" in text
    assert r"\texttt{soft\_max} & ETT\textbar{}h1 & \textbf{0.1} \\" in text
    assert r"mse $\pm$" in text
    assert r"50\% \textless{}script\textgreater{}" in text


def test_what_is_no_table_is_a_comment_in_latex() -> None:
    """A paragraph of two lines cannot slip out of it."""
    text = formats.latex([Heading("One"), "two\nthree"])
    assert all(line.startswith("%") for line in text.splitlines() if line)


class Tags(HTMLParser):
    """The tags of a page, in order, with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.opened: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_says_what_heads_what_and_runs_nothing() -> None:
    """Captions, scopes of columns and rows, every tag closed, and a script shown as text."""
    page = Tags(formats.html(PAGE))
    assert page.open == []
    names = [tag for tag, _ in page.opened]
    assert "script" not in names
    assert "<script>alert('x')</script>" in page.text
    assert (names.count("caption"), names.count("tr"), names.count("code")) == (1, 3, 4)
    heads = [attributes for tag, attributes in page.opened if tag == "th"]
    assert [head["scope"] for head in heads] == ["col"] * 3 + ["row"] * 2
    assert [tag for tag, attributes in page.opened if attributes.get("class") == "number"] == [
        "th",
        "td",
        "td",
    ]


@pytest.mark.parametrize("form", [formats.markdown, formats.latex, formats.html])
def test_a_name_cannot_end_its_own_marks(form: object) -> None:
    """Backticks become quotes, and asterisks in a name stay what they are."""
    assert callable(form)
    shown = form([Table("", ("a",), ((code("x`**y**`"),),))])
    assert "x'**y**'" in shown or "x&#x27;**y**&#x27;" in shown


def test_a_line_of_another_length_is_refused() -> None:
    """It would shift numbers under the wrong heading."""
    with pytest.raises(ValueError, match=r"'By rank' has 1 entries under 2 headings: 0\.1"):
        Table("By rank", ("method", "mse"), (("0.1",),))
