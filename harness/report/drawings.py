"""Drawing the figures of a suite, of its rows and of the bundles that are at hand."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from harness.core.files import write_text
from harness.report import agreement, figures, panel, statistics
from harness.report.board import Board
from harness.results.bundles import Bundle, read_boundaries, read_bundle
from harness.results.table import TASK, WINDOWS

DRAWN = "figures.json"
"""By figure, beside them: the hash of all that it was made of, and the hash of its files."""


class Drawing(NamedTuple):
    """A figure: its name, what draws it, and of what.

    The name is of a kind of :data:`harness.report.pictures.KINDS`. What draws it may refuse with
    :class:`harness.report.figures.NothingToDrawError`.
    """

    name: str
    make: Callable[..., Any]
    of: Sequence[Any]


def draw(board: Board, folder: Path, *, runs: Path, hindsight: Path) -> list[Path]:
    """Draw what there is to draw into ``folder``, and return the files.

    ``runs`` is the folder of bundles: what needs some of them is left as it lies in ``folder``
    where one of these is not at hand. ``hindsight`` is the table of plans chosen in hindsight
    (:mod:`harness.studies.hindsight`), if there is one.
    """
    return draw_each(_drawings(board, runs, hindsight), folder)


def draw_each(drawings: Iterable[Drawing], folder: Path) -> list[Path]:
    """Draw these into ``folder``, and return the files of those that there was something of.

    A figure that lies there already, made of the same numbers by the same code, would be the same
    to the byte: it is not drawn again.
    """
    before, now = _drawn_before(folder / DRAWN), dict[str, list[str]]()
    code, drawn = _code(), list[Path]()
    for name, make, of in drawings:
        made_of = _hash(code, pickle.dumps([_content(part) for part in of]))
        paths = figures.files(folder / name)
        if before.get(name) != [made_of, _hash_of_files(paths)]:
            try:
                figures.save(make(*of), folder / name)
            except figures.NothingToDrawError:
                figures.remove(folder / name)  # one that was there is of rows that are no more
                continue
        now[name] = [made_of, _hash_of_files(paths)]
        drawn += paths
    write_text(folder / DRAWN, json.dumps(now, indent=1))
    return drawn


def _drawn_before(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError):
        return {}  # then everything is drawn


def _code() -> bytes:
    """What draws: all code of the harness, and the versions of what it stands on."""
    house = Path(__file__).parents[1]
    files = b"".join(path.read_bytes() for path in sorted(house.rglob("*.py")))
    libraries = ("matplotlib", "numpy", "pandas", "scipy", "seaborn")
    return files + f"{sys.version} {[version(name) for name in libraries]}".encode()


def _content(part: Any) -> Any:  # noqa: ANN401 - whatever a figure is made of
    """The part without the places where its files lie, and with what is in them."""
    if isinstance(part, Path):
        return part.read_bytes()
    if isinstance(part, Bundle):
        # The record's fields alone: it also remembers what it has been asked for.
        cuts = part.boundaries and _content(part.boundaries)
        return asdict(part.record), part.curves, part.overlay, cuts
    return [_content(each) for each in part] if isinstance(part, list) else part


def _hash_of_files(paths: Sequence[Path]) -> str:
    return _hash(*(path.read_bytes() if path.exists() else b"" for path in paths))


def _hash(*parts: bytes) -> str:
    return sha256(b"".join(sha256(part).digest() for part in parts)).hexdigest()


def _drawings(board: Board, runs: Path, hindsight: Path) -> Iterator[Drawing]:
    rows, charged = board.rows, board.pooled
    verdicts = board.ranking[["look_back", "method", "verdict"]]
    effects = statistics.effects(charged).merge(verdicts, "left")
    judged = effects[effects.method.isin(rows.method[rows.kind == "patcher"])]
    yield Drawing("errors", figures.errors, [rows])
    yield Drawing("forest", figures.forest, [judged])
    for look_back in sorted(set(charged.look_back)):
        yield Drawing(f"ranks-{look_back}", _ranks, [charged, look_back])
    yield Drawing("pareto-tokens", figures.pareto, [charged, "tokens_mean"])
    yield Drawing("pareto-flops", figures.pareto, [charged, "flops"])
    yield Drawing("seeds", figures.seed_spread, [rows])
    yield Drawing("gap", figures.gap_closed, [panel.shares(board.panel)])
    if hindsight.exists():
        yield Drawing("hindsight", _hindsight, [hindsight])
    patchers = rows[(rows.kind == "patcher") & (rows.status == "done")]
    yield from _of_training(patchers, runs)
    yield from _of_boundaries(patchers, runs)


def _hindsight(path: Path) -> Any:  # noqa: ANN401 - only figures knows its type
    return figures.hindsight(pd.read_csv(path))


def _ranks(charged: pd.DataFrame, look_back: int) -> Any:  # noqa: ANN401 - as above
    if charged[charged.look_back == look_back].dataset.nunique() < 2:
        raise figures.NothingToDrawError("ranks on one data set are its errors over again")
    ranks, groups, _ = statistics.critical_difference(charged, look_back)
    return figures.critical_difference(ranks, groups)


def _of_training(patchers: pd.DataFrame, runs: Path) -> Iterator[Drawing]:
    """What all seeds of all tasks say together: curves, and how alike seeds cut."""
    bundles = read_all(patchers, runs)
    if not bundles:
        return
    yield Drawing("curves", _curves, [bundles])
    if all(bundle.boundaries for bundle in bundles):
        yield Drawing("agreement", _agreement, [bundles])
        yield Drawing("alike", _agreement_of_methods, [bundles])


def _curves(bundles: list[Bundle]) -> Any:  # noqa: ANN401 - as above
    lines = [
        {name: getattr(bundle.record, name) for name in (*TASK, "seed")}
        | {"method": bundle.record.label}
        | epoch
        for bundle in bundles
        for epoch in bundle.curves
    ]
    return figures.curves(pd.DataFrame(lines))


def _agreement(bundles: list[Bundle]) -> Any:  # noqa: ANN401 - as above
    return figures.agreement(agreement.between_seeds(bundles))


def _agreement_of_methods(bundles: list[Bundle]) -> Any:  # noqa: ANN401 - as above
    return figures.agreement_of_methods(agreement.between_methods(bundles))


def _of_boundaries(patchers: pd.DataFrame, runs: Path) -> Iterator[Drawing]:
    """Where methods cut each data set, at its shortest horizon: longer ones are cut much alike."""
    shortest = patchers.groupby(["look_back", "dataset"]).horizon.transform("min")
    tasks = patchers[patchers.horizon == shortest].sort_values("mse")
    for (look_back, dataset, horizon), task in tasks.groupby(WINDOWS):
        name = f"{dataset}-{look_back}-{horizon}"
        first = task[task.seed == task.groupby("method").seed.transform("min")]
        bundles = read_all(first, runs)
        overlays = [bundle.overlay for bundle in bundles if bundle.overlay is not None]
        if overlays:
            yield Drawing(f"patches-{name}", figures.gallery, [overlays])
        if bundles and all(bundle.boundaries for bundle in bundles):
            cuts = {
                bundle.record.label: read_boundaries(bundle.boundaries)
                for bundle in bundles
                if bundle.boundaries
            }
            starts = {method: cut["starts"] for method, cut in cuts.items()}
            values = next(iter(cuts.values()))["values"]
            title = f"{dataset} {look_back}\N{RIGHTWARDS ARROW}{horizon}"
            length = values.shape[1]
            yield Drawing(f"lengths-{name}", figures.lengths, [starts, length, title])
            yield Drawing(f"density-{name}", figures.density, [starts, values, title])


def read_all(rows: pd.DataFrame, runs: Path, file: str = "overlay.json") -> list[Bundle]:
    """The bundles of the rows; none where one is not at hand, or has no such file.

    So a picture drawn where all of them are is never replaced by a poorer one.
    """
    folders = [runs / key for key in rows.key]
    if not all((folder / file).exists() for folder in folders):
        return []
    return [read_bundle(folder) for folder in folders]
