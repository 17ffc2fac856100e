"""The tree of docs/architecture.md, made of first lines of docstrings.

It is written between two marks of the page. With ``--check`` nothing is written, and a tree that
is not current is an error.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
START, END = "<!-- tree:start -->", "<!-- tree:end -->"


def main(arguments: list[str]) -> None:
    """Bring the page up to date, or say that it is not."""
    old = PAGE.read_text(encoding="utf-8")
    new = with_tree(old, tree(ROOT))
    if "--check" in arguments and new != old:
        sys.exit(
            f"{PAGE.relative_to(ROOT)}: the tree is not current; python docs/tree.py writes it"
        )
    if new != old:
        PAGE.write_text(new, encoding="utf-8")


def with_tree(page: str, lines: str) -> str:
    """The page with these lines between its marks."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{lines}\n{END}{after}"


def tree(root: Path) -> str:
    """A table a folder: each module and the first line of its docstring."""
    return "\n".join(line for folder in folders(root) for line in table(root, folder))


def folders(root: Path) -> Iterator[Path]:
    """The packages of the harness, above before within, then the methods."""
    yield root / "harness"
    yield from sorted(path.parent for path in (root / "harness").rglob("*/__init__.py"))
    yield root / "methods"


def table(root: Path, folder: Path) -> Iterator[str]:
    """The lines on one folder: what it is for, then a table of its modules."""
    name = folder.relative_to(root).as_posix()
    yield f"### `{name}/`\n"
    if about := first_line(folder / "__init__.py"):
        yield f"{about}\n"
    modules = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    if modules:
        yield "| module | what it is for |"
        yield "| --- | --- |"
        yield from (f"| `{path.name}` | {first_line(path)} |" for path in modules)
        yield ""


def first_line(path: Path) -> str:
    """The first line of a module's docstring, in Markdown; nothing where there is none."""
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = said.partition("\n")[0].replace("``", "`").replace("|", "\\|")
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", line)


if __name__ == "__main__":
    main(sys.argv[1:])
