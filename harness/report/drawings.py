"""Drawing the figures of a suite, of its rows and of the bundles that are at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from harness.report import agreement, figures, panel, statistics
from harness.report.board import Board
from harness.results.bundles import Bundle, read_boundaries, read_bundle
from harness.results.table import TASK, WINDOWS

Drawing = tuple[str, Callable[[], Any]]
"""The name of a figure, one of a kind of :data:`harness.report.pictures.KINDS`, and what draws it;
that may refuse with :class:`harness.report.figures.NothingToDrawError`."""


def draw(board: Board, folder: Path, *, runs: Path, hindsight: Path) -> list[Path]:
    """Draw what there is to draw into ``folder``, and return the files.

    ``runs`` is the folder of bundles: what needs some of them is left as it lies in ``folder``
    where one of these is not at hand. ``hindsight`` is the table of plans chosen in hindsight
    (:mod:`harness.studies.hindsight`), if there is one.
    """
    drawn: list[Path] = []
    for name, make in _drawings(board, runs, hindsight):
        try:
            drawn += figures.save(make(), folder / name)
        except figures.NothingToDrawError:
            figures.remove(folder / name)  # one that was there is of rows that are no more
    return drawn


def _drawings(board: Board, runs: Path, hindsight: Path) -> Iterator[Drawing]:
    rows, charged = board.rows, board.pooled
    verdicts = board.ranking[["look_back", "method", "verdict"]]
    effects = statistics.effects(charged).merge(verdicts, "left")
    judged = effects[effects.method.isin(rows.method[rows.kind == "patcher"])]
    yield "errors", partial(figures.errors, rows)
    yield "forest", partial(figures.forest, judged)
    for look_back in sorted(set(charged.look_back)):
        yield f"ranks-{look_back}", partial(_ranks, charged, look_back)
    yield "pareto-tokens", partial(figures.pareto, charged, "tokens_mean")
    yield "pareto-flops", partial(figures.pareto, charged, "flops")
    yield "seeds", partial(figures.seed_spread, rows)
    yield "gap", partial(figures.gap_closed, panel.shares(board.panel))
    if hindsight.exists():
        yield "hindsight", lambda: figures.hindsight(pd.read_csv(hindsight))
    patchers = rows[(rows.kind == "patcher") & (rows.status == "done")]
    yield from _of_training(patchers, runs)
    yield from _of_boundaries(patchers, runs)


def _ranks(charged: pd.DataFrame, look_back: int) -> Any:  # noqa: ANN401 - only figures knows its type
    if charged[charged.look_back == look_back].dataset.nunique() < 2:
        raise figures.NothingToDrawError("ranks on one data set are its errors over again")
    ranks, groups, _ = statistics.critical_difference(charged, look_back)
    return figures.critical_difference(ranks, groups)


def _of_training(patchers: pd.DataFrame, runs: Path) -> Iterator[Drawing]:
    """What all seeds of all tasks say together: curves, and how alike seeds cut."""
    bundles = _read(patchers, runs)
    if not bundles:
        return
    lines = [
        {name: getattr(bundle.record, name) for name in (*TASK, "method", "seed")} | epoch
        for bundle in bundles
        for epoch in bundle.curves
    ]
    yield "curves", partial(figures.curves, pd.DataFrame(lines))
    if all(bundle.boundaries for bundle in bundles):
        yield "agreement", partial(figures.agreement, agreement.between_seeds(bundles))
        between = agreement.between_methods(bundles)
        yield "alike", partial(figures.agreement_of_methods, between)


def _of_boundaries(patchers: pd.DataFrame, runs: Path) -> Iterator[Drawing]:
    """Where methods cut each data set, at its shortest horizon: longer ones are cut much alike."""
    shortest = patchers.groupby(["look_back", "dataset"]).horizon.transform("min")
    tasks = patchers[patchers.horizon == shortest].sort_values("mse")
    for (look_back, dataset, horizon), task in tasks.groupby(WINDOWS):
        name = f"{dataset}-{look_back}-{horizon}"
        first = task[task.seed == task.groupby("method").seed.transform("min")]
        bundles = _read(first, runs)
        overlays = [bundle.overlay for bundle in bundles if bundle.overlay is not None]
        if overlays:
            yield f"patches-{name}", partial(figures.gallery, overlays)
        if bundles and all(bundle.boundaries for bundle in bundles):
            cuts = {
                bundle.record.method: read_boundaries(bundle.boundaries)
                for bundle in bundles
                if bundle.boundaries
            }
            starts = {method: cut["starts"] for method, cut in cuts.items()}
            values = next(iter(cuts.values()))["values"]
            title = f"{dataset} {look_back}\N{RIGHTWARDS ARROW}{horizon}"
            yield f"lengths-{name}", partial(figures.lengths, starts, values.shape[1], title)
            yield f"density-{name}", partial(figures.density, starts, values, title)


def _read(rows: pd.DataFrame, runs: Path) -> list[Bundle]:
    """The bundles of the rows; none where one is not at hand.

    So a picture drawn where all of them are is never replaced by a poorer one.
    """
    folders = [runs / key for key in rows.key]
    if not all((folder / "overlay.json").exists() for folder in folders):
        return []
    return [read_bundle(folder) for folder in folders]
