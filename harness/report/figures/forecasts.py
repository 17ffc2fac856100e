"""Zero-shot forecasts: quantile bands after a past in patches, and where errors are large."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from harness.report.figures.ink import (
    BAND,
    BAR,
    BLUE,
    GREEN,
    INK,
    LINES,
    ORANGE,
    PANELS,
    RULE,
    WIDTH,
    NothingToDrawError,
    foot,
    head,
    keys_of,
    line_styles,
    lines_of,
    need,
    panels,
    short,
    shown,
    styled,
)

_SHADES = (((0.1, 0.9), 0.2), ((0.3, 0.7), 0.35))
"""Between which levels a band lies, and how opaque it is."""
_SHORTEST = 64
"""Steps of the past that are shown at least, where there are as many."""


@styled
def bands(overlays: Sequence[Mapping[str, Any]], task: str) -> Figure:
    """One case of a task as each method forecasts it: a panel a method, in the order given.

    ``overlays`` are of bundles of zero-shot runs: ``past`` [time] and ``future`` [step], None
    where a value is missing; ``quantiles`` [level][step] at ``levels``; ``method``, ``item`` and
    ``start``; ``starts`` [patch] in steps of ``past``, absent where there are no patches. Of the
    past, three horizons are shown at most.

    Raises:
        ValueError: a forecast is not as long as the future.
    """
    if not overlays:
        raise NothingToDrawError("no forecast to draw")
    methods = shown([data["method"] for data in overlays], PANELS)
    drawn = [data for data in overlays if data["method"] in methods]
    cases = {(data["item"], data["start"]) for data in drawn}
    figure, grid = panels(len(drawn), 2.4, columns=2, sharey=len(cases) == 1)
    for axes, data in zip(grid, drawn, strict=True):
        _forecast(axes, data)
    foot(figure, "steps from the first that is forecast", method=len(overlays) - len(drawn))
    head(figure, task, keys_of(grid[0]))
    return figure


def _forecast(axes: Axes, data: Mapping[str, Any]) -> None:
    past, future = (np.array(data[name], dtype=float) for name in ("past", "future"))
    if any(len(level) != len(future) for level in data["quantiles"]):
        raise ValueError(f"{data['method']}: forecasts are not as long as the future")
    steps = min(len(past), max(_SHORTEST, 3 * len(future)))
    first = len(past) - steps
    starts = [start - first for start in data.get("starts", ()) if start >= first]
    _patches(axes, starts, steps)
    ahead = np.arange(len(future))
    levels = dict(zip(data["levels"], data["quantiles"], strict=True))
    for (low, high), opacity in _SHADES:
        style: dict[str, Any] = {"color": ORANGE, "alpha": opacity, "linewidth": 0}
        label = f"{low:.0%} to {high:.0%}".replace("%", "").replace(" to ", "\N{EN DASH}") + " %"
        axes.fill_between(ahead, levels[low], levels[high], label=label, **style)
    axes.plot(ahead, levels[0.5], color=ORANGE, linewidth=1.5, label="median")
    axes.plot(np.arange(-steps, 0), past[first:], color=INK, linewidth=0.9, label="past")
    axes.plot(ahead, future, color=GREEN, linewidth=1.2, label="truth")
    axes.axvline(-0.5, color=INK, linewidth=0.8)
    axes.set_title(
        f"{short(data['method'])}: {short(data['item'], 16)} from {short(data['start'], 16)}"
    )
    axes.set_xlim(-steps, len(future) - 1)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _patches(axes: Axes, starts: Sequence[int], steps: int) -> None:
    """Every other patch shaded, a rule at each start; both in steps before the forecast."""
    edges = [*(start - steps for start in starts), -0.5]
    for low, high in zip(edges[::2], edges[1::2], strict=False):
        axes.axvspan(low, high, color=BAND, linewidth=0)
    rim = axes.get_xaxis_transform()
    axes.vlines(edges[:-1], 0, 1, transform=rim, color=RULE, linewidth=0.6)


@styled
def profiles(table: pd.DataFrame, label: str, *, doubling: bool = False) -> Figure:
    """Error along an axis ``label``, and the change against equal patches below it.

    ``table`` has a line for each ``panel``, ``method`` and place ``at``: ``error``, a scaled
    error, and ``change``, percent against ``uniform``, whose own is not drawn. ``doubling`` says
    that places are powers of two. Methods stand in the order of their first lines.

    Raises:
        ValueError: a column is missing.
    """
    need(table, "panel", "method", "at", "error", "change")
    names, styles = list(dict.fromkeys(table.panel)), line_styles([*dict.fromkeys(table.method)])
    figure = Figure(figsize=(WIDTH, 5.0))
    grid = figure.subplots(2, len(names), squeeze=False, sharey="row", sharex="col")
    for column, name in enumerate(names):
        above, below = grid[0][column], grid[1][column]
        below.axhline(0, color=RULE, linewidth=0.8)
        own = table[table.panel == name]
        for method, style in styles.items():
            line = own[own.method == method].sort_values("at")
            above.plot(line["at"], line.error, marker="o", markersize=3, **style)
            if method != "uniform":
                below.plot(line["at"], line.change, marker="o", markersize=3, **style)
        above.set_title(str(name))
        if doubling:
            below.set_xscale("log", base=2)
            below.xaxis.set_major_formatter("{x:.0f}")
            below.minorticks_off()
    grid[0][0].set_ylabel("scaled error")
    grid[1][0].set_ylabel("change, %")
    foot(figure, label, method=table.method.nunique() - len(styles))
    keys = [Line2D([], [], label=short(name), **of) for name, of in styles.items()]
    figure.legend(handles=keys, loc="outside upper left", ncols=4)
    return figure


@styled
def sources(table: pd.DataFrame) -> Figure:
    """Errors as shares of the seasonal naive's: a panel a corpus, a line a source, a dot a method.

    ``table`` has ``corpus``, ``method``, ``family``, ``tasks`` and ``share``. Sources with many
    tasks stand above.

    Raises:
        ValueError: a column is missing.
    """
    need(table, "corpus", "method", "family", "tasks", "share")
    sizes = table.groupby("family").tasks.max().sort_values(ascending=False, kind="stable")
    order, methods = shown(list(sizes.index), 2 * LINES), [*dict.fromkeys(table.method)]
    table = table[table.family.isin(order)]
    styles = line_styles(methods)
    marks = dict(zip(styles, cycle("osD^vPX*"), strict=False))
    corpora = list(dict.fromkeys(table.corpus))
    figure, grid = panels(
        len(corpora), 0.27 * len(order) + 0.9, columns=2, sharex=True, sharey=True
    )
    for axes, corpus in zip(grid, corpora, strict=True):
        lines_of(axes, [f"{family} ({sizes[family]})" for family in order])
        axes.axvline(1, color=BLUE, linewidth=0.9, linestyle="--")
        for method, style in styles.items():
            own = table[(table.corpus == corpus) & (table.method == method)]
            places = [order.index(family) for family in own.family]
            mark = BAR | {"marker": "|"} if method == "uniform" else {"marker": marks[method]}
            line = {"label": short(method), "linestyle": ""} | mark | {"color": style["color"]}
            axes.plot(own.share, places, **line)
        axes.set_title(f"corpus {corpus}")
    label = "quantile error as a share of the seasonal naive's; in brackets the tasks"
    foot(figure, label, method=len(methods) - len(styles), source=len(sizes) - len(order))
    figure.legend(handles=keys_of(grid[0]), loc="outside upper left", ncols=4)
    return figure
