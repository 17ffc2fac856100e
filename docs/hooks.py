"""What MkDocs leaves to us: pages from the top of the checkout, and pictures in two themes.

The same Markdown is read on a hosting site and here. There a link may lead to any file of the
repository, and a picture follows the reader's theme through ``<picture>``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
FROM_THE_TOP = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files at the top of the checkout, and the pages they become."""

_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_PICTURE = re.compile(
    r'<picture>\s*<source[^>]*srcset="(?P<dark>[^"]+)"[^>]*>\s*'
    r'<img alt="(?P<alt>[^"]*)" src="(?P<light>[^"]+)">\s*</picture>'
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of files at the top of the checkout."""
    for name, page in FROM_THE_TOP.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=translated(text, name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Translate what lies in docs/; the other pages were translated when they were made."""
    uri = page.file.src_uri
    made = uri in FROM_THE_TOP.values()
    return markdown if made else translated(markdown, f"docs/{uri}")


def translated(markdown: str, name: str) -> str:
    """The Markdown of a file of the repository, as a page of the site.

    Links to other pages lead there, links to other files of the repository become plain text, and
    a picture in two themes becomes two, of which the site shows one.
    """
    folder = PurePosixPath(name).parent
    here = PurePosixPath(FROM_THE_TOP.get(name, name.removeprefix("docs/"))).parent

    def at(target: str) -> str | None:
        """The address from this page of what lies at ``target`` from the file, if it has one."""
        path = os.path.normpath(folder / target)
        page = FROM_THE_TOP.get(path, path.removeprefix("docs/"))
        on_site = path in FROM_THE_TOP or path.startswith("docs/")
        return os.path.relpath(page, here) if on_site else None

    def link(match: re.Match[str]) -> str:
        target, mark, anchor = match["target"].partition("#")
        if not target or "://" in target:
            return match[0]
        address = at(target)
        return match["text"] if address is None else f"[{match['text']}]({address}{mark}{anchor})"

    def picture(match: re.Match[str]) -> str:
        themes = ("light", at(match["light"])), ("dark", at(match["dark"]))
        return "\n".join(f"![{match['alt']}]({path}#only-{theme})" for theme, path in themes)

    return _PICTURE.sub(picture, _LINK.sub(link, markdown))
