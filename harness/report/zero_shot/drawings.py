"""The figures of a zero-shot suite, of its rows and of the bundles that are at hand."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.data import ROW_PAST
from harness.report import figures
from harness.report.drawings import Drawing, draw_each, read_all
from harness.report.percent import percent
from harness.report.pictures import Kind
from harness.report.zero_shot.board import ALL, Board
from harness.report.zero_shot.rows import logarithms
from harness.results.bundles import Bundle
from harness.results.table import UNIFORM
from harness.zero_shot import tasks
from harness.zero_shot.published import RATIOS
from harness.zero_shot.tasks import BENCHMARKS

_CORPUS = (r"-(?P<corpus>.+)", ", corpus {corpus}")
FORECAST = "forecast"
"""The stem of figures that show how a task is forecast."""
KINDS = (
    Kind(
        "sources",
        "Errors by source",
        "Geometric mean over the tasks of a source; left of the dashed line is better than the "
        "seasonal naive.",
    ),
    Kind(
        "steps",
        "Errors by step ahead",
        "Mean scaled error along the horizon, in tenths of it, over the tasks of a benchmark; "
        "below, the change against equal patches. First seed.",
        *_CORPUS,
    ),
    Kind(
        "pasts",
        "Errors by length of the past",
        "Geometric mean of the scaled errors of cases with so many steps of past or more; below, "
        "the change against equal patches on the same cases. First seed.",
        *_CORPUS,
    ),
    Kind(
        FORECAST,
        "Forecast",
        "The case in the middle of the seasonal naive's errors; bands are of forecast quantiles, "
        "and every other patch is shaded.",
        r"-(?P<dataset>.+)",
        ": {dataset}",
    ),
)
_TENTHS = 10


def draw(board: Board, folder: Path, runs: Path) -> list[Path]:
    """Draw what there is to draw into ``folder``, and return the files.

    ``runs`` is the folder of bundles: what needs some that are not at hand is left as it lies.
    """
    return draw_each(_drawings(board, runs), folder)


def _drawings(board: Board, runs: Path) -> Iterator[Drawing]:
    order = list(dict.fromkeys(board.standings[board.standings.scope == ALL].method))
    yield Drawing("sources", figures.sources, [_by_source(board, order)])
    done = board.counted[~board.counted.failed]
    first = done[done.seed == done.seed.min()] if len(done) else done
    for corpus in board.corpora:
        bundles = read_all(first[first.corpus == corpus], runs)
        if bundles:
            bundles.sort(key=partial(_place, order))
            yield Drawing(f"steps-{corpus}", _steps, [bundles])
            yield Drawing(f"pasts-{corpus}", _pasts, [bundles])
    yield from _forecasts(board, runs)


def _place(order: Sequence[str], bundle: Bundle) -> tuple[int, int]:
    """Benchmark by benchmark, methods in this order."""
    of = tasks.find(bundle.record.dataset).benchmark
    return [*BENCHMARKS].index(of), order.index(bundle.record.method)


def _forecasts(board: Board, runs: Path) -> Iterator[Drawing]:
    """A figure a task: equal patches beside the best placed learned ones, of the first seed."""
    wanted = [name for name in (UNIFORM, board.learned) if name]
    done = board.patchers[~board.patchers.failed & board.patchers.method.isin(wanted)]
    done = done[done.corpus == (board.corpora[0] if board.corpora else "")]
    for task, own in done.groupby("task"):
        first = own[own.seed == own.seed.min()].set_index("method", drop=False)
        there = [name for name in wanted if name in first.index]
        bundles = read_all(first.loc[there], runs)
        if UNIFORM in there and bundles:
            of = tasks.find(str(task))
            overlays = [bundle.overlay for bundle in bundles]
            yield Drawing(f"{FORECAST}-{of.dataset}", figures.bands, [overlays, str(of)])


def _by_source(board: Board, order: Sequence[str]) -> pd.DataFrame:
    own = board.counted
    of = ["corpus", "method", "family"]
    by_task = logarithms(own)["quantile"].groupby([own[name] for name in (*of, "task")]).mean()
    groups = by_task.groupby(of)
    table = pd.DataFrame({"share": np.exp(groups.mean()), "tasks": groups.size()}).reset_index()
    places = table.method.map({name: place for place, name in enumerate(order)})
    return table.assign(place=places).sort_values(["corpus", "place"], kind="stable")


def _steps(bundles: list[Bundle]) -> Any:  # noqa: ANN401 - only figures knows its type
    lines = []
    for bundle in bundles:
        errors = np.array(_overlay(bundle)["by_step"], dtype=float)
        place = np.minimum(_TENTHS * np.arange(len(errors)) // len(errors), _TENTHS - 1)
        lines += [
            _of(bundle) | {"at": 10.0 * (tenth + 1), "error": float(np.nanmean(errors[own]))}
            for tenth in range(_TENTHS)
            if (own := place == tenth).any() and not np.isnan(errors[own]).all()
        ]
    return figures.profiles(_beside_uniform(lines, ["task"]), "share of the horizon, %")


def _pasts(bundles: list[Bundle]) -> Any:  # noqa: ANN401 - as above
    lines = [
        _of(bundle) | {"at": _power_of_two(steps), "case": case, "error": error}
        for bundle in bundles
        for case, (steps, error) in enumerate(_overlay(bundle)["by_case"])
    ]
    table = _beside_uniform(lines, ["task", "case"])
    label = f"steps of past, or up to twice as many; {ROW_PAST} is also all that are longer"
    return figures.profiles(table, label, doubling=True)


def _power_of_two(steps: int) -> float:
    """The greatest that is not more, and not more than a forecaster sees."""
    return float(2 ** math.floor(math.log2(min(max(steps, 1), ROW_PAST))))


def _of(bundle: Bundle) -> dict[str, Any]:
    task = tasks.find(bundle.record.dataset)
    return {"panel": task.benchmark, "method": bundle.record.method, "task": str(task)}


def _overlay(bundle: Bundle) -> dict[str, Any]:
    assert bundle.overlay is not None  # read_all wants it
    return bundle.overlay


def _beside_uniform(lines: list[dict[str, Any]], pair: list[str]) -> pd.DataFrame:
    """Geometric means by panel, method and place, with the mean change of each pair in percent."""
    table = pd.DataFrame(lines)
    table["log"] = np.log(table.error.clip(lower=1e-12))
    partners = table[table.method == UNIFORM].set_index(["panel", "at", *pair])["log"]
    mine = pd.MultiIndex.from_frame(table[["panel", "at", *pair]])
    change = table["log"] - partners.reindex(mine).to_numpy()
    table["delta"] = change.clip(*np.log(RATIOS))
    groups = table.groupby(["panel", "method", "at"], sort=False)[["log", "delta"]].mean()
    means = groups.reset_index()
    return means.assign(error=np.exp(means["log"]), change=percent(means.delta))
