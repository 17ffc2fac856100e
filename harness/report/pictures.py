"""The figures of a suite: which kinds there are, what each says, and how a page holds them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from harness.report.wording import SMALL


class Picture(NamedTuple):
    """A figure as it stands in the page; ``dataset`` is empty where it is of the whole suite."""

    title: str
    caption: str
    alt: str
    file: str
    light: str
    dark: str
    width: str
    height: str
    dataset: str


class Kind(NamedTuple):
    """A kind of figure: files called ``stem`` and ``rest``, which says what each is ``of``."""

    stem: str
    title: str
    caption: str
    rest: str = ""
    of: str = ""


_TRACK = (r"-(?P<look_back>\d+)", ", look-back {look_back}")
_TASK = (
    r"-(?P<dataset>.+)-(?P<look_back>\d+)-(?P<horizon>\d+)",
    ": {dataset} {look_back}\N{RIGHTWARDS ARROW}{horizon}",
)
_FRONT = "Change of MSE against cost; the line joins patchers that no other one beats in both."
GALLERY = "patches"
"""The stem of figures that show where methods cut a data set."""
KINDS = (
    Kind(
        "forest",
        "Changes and their intervals",
        "Change of MSE against each control, of several data sets with its 95 % interval; in the "
        f"band it is less than {SMALL}, which is of no practical interest.",
    ),
    Kind(
        "ranks",
        "Mean ranks",
        "Mean rank over data sets, best first; a bar joins methods that no test tells apart.",
        *_TRACK,
    ),
    Kind(
        "errors",
        "Every run",
        "MSE of every finished run: a panel a task, a dot a seed, a bar their mean.",
    ),
    Kind("pareto-tokens", "Error and tokens", _FRONT),
    Kind("pareto-flops", "Error and computation", _FRONT),
    Kind(
        "seeds",
        "Seeds",
        "Standard deviation over the seeds of a method of the logarithm of its error.",
    ),
    Kind(
        "gap",
        "The oracle's gap",
        "Share of the way from equal patches to the true boundaries that a method goes.",
    ),
    Kind("curves", "Training", "Validation error by epoch."),
    Kind(
        "agreement",
        "Agreement of seeds",
        "How far two seeds of a method cut the same rows at the same steps; in brackets, how far "
        "they agree on different rows, by habit alone.",
    ),
    Kind(
        "alike",
        "Agreement of methods",
        "How far two methods cut the same rows at the same steps; on the diagonal, two seeds.",
    ),
    Kind(
        "hindsight",
        "Chosen in hindsight",
        "Error of the best of M random plans, on the backbone that chose it and on another one.",
    ),
    Kind(
        GALLERY,
        "Where methods cut",
        "One test window as each method cuts it; triangles are true boundaries, where known.",
        *_TASK,
    ),
    Kind(
        "lengths",
        "Patch lengths",
        "Distribution of the lengths of the patches that each method makes of test windows.",
        *_TASK,
    ),
    Kind(
        "density",
        "Boundaries and content",
        "How much likelier a boundary is where the series changes much than where it rests.",
        *_TASK,
    ),
)


def pictures(folder: Path, kinds: Sequence[Kind] = KINDS) -> list[Picture]:
    """The figures of these kinds that lie in the folder as SVG, in that order."""
    return [
        _picture(path, kind, match.groupdict())
        for kind in kinds
        for path in sorted(folder.glob(f"{kind.stem}*.svg"))
        if (match := re.fullmatch(kind.stem + kind.rest + "(?<!-dark)", path.stem))
    ]


def _picture(path: Path, kind: Kind, of: Mapping[str, str]) -> Picture:
    text = path.read_text(encoding="utf-8")
    box = re.search(r'viewBox="[\d.]+ [\d.]+ ([\d.]+) ([\d.]+)"', text)
    width, height = (f"{float(side):.0f}" for side in box.groups()) if box else ("", "")
    night = path.with_name(f"{path.stem}-dark.svg")
    title = kind.title + kind.of.format(**of)
    return Picture(
        title,
        kind.caption,
        f"{title}. {kind.caption}",
        path.name,
        _embedded(text),
        _embedded(night.read_text(encoding="utf-8")) if night.exists() else "",
        width,
        height,
        of.get("dataset", ""),
    )


def _embedded(svg: str) -> str:
    """The picture as an address that holds all of it: no ids to clash, no styles to leak."""
    return f"data:image/svg+xml,{quote(svg.replace(chr(10), ' '), safe=_IN_ADDRESS)}"


_IN_ADDRESS = " !$()*+,/:;=?@[]^_{|}~'"
