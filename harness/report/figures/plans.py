"""Where patches lie: over one window, by length, by content, between seeds and methods."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from harness.report.figures.ink import (
    BAND,
    BLUE,
    GREEN,
    GROUND,
    INK,
    LINES,
    ORANGE,
    RED,
    RULE,
    TINY,
    WIDTH,
    NothingToDrawError,
    foot,
    head,
    keys_of,
    line_styles,
    need,
    panels,
    short,
    shown,
    styled,
    task_names,
)
from harness.results.table import TASK

Plans = Mapping[str, Int[np.ndarray, "row slot"]]
"""By method the step at which each patch of each row starts; -1 in slots that are not used."""
_KEYS = ("values", "starts", "true_starts", "future", "forecast", "method", "dataset", "seed")
_TENTHS = 10
_BRACKETS = 8
"""The most columns that have room for a second number in brackets."""


@styled
def overlay(data: Mapping[str, Any]) -> Figure:
    """A look-back cut into patches, and the forecast beside the true future.

    ``data``: ``values`` [time]; ``starts`` [patch], the step at which each patch starts, the first
    one 0, or empty for a model without patches; ``true_starts`` [segment] or None; ``future`` and
    ``forecast`` [horizon]; ``method``, ``dataset``, ``seed``.

    Raises:
        ValueError: a key is missing, starts do not rise from 0 within the look-back, or the
            forecast is not as long as the future.
    """
    _refuse_unless_drawable(data)
    look_back, horizon = len(data["values"]), len(data["future"])
    starts = list(data["starts"])
    figure = Figure(figsize=(WIDTH, 2.9))
    axes = figure.subplots()
    _cut(axes, starts, look_back)
    axes.axvline(look_back, color=INK, linewidth=0.8)
    time = range(look_back + horizon)
    axes.plot(time[:look_back], data["values"], color=INK, linewidth=0.9, label="past")
    axes.plot(time[look_back:], data["future"], color=GREEN, linewidth=1.4, label="future")
    axes.plot(time[look_back:], data["forecast"], color=ORANGE, linewidth=1.6, label="forecast")
    _mark(axes, data["true_starts"])
    axes.set(xlim=(0, look_back + horizon - 1), xlabel="time step", ylabel="value")
    method, dataset = short(data["method"]), short(data["dataset"])
    # Title and legend side by side above the axes, where no line can hide them.
    axes.set_title(f"{method} on {dataset}, seed {data['seed']}{_count(starts)}", pad=9)
    figure.legend(loc="outside upper right", ncols=5)
    return figure


@styled
def gallery(overlays: Sequence[Mapping[str, Any]]) -> Figure:
    """One look-back as every method cuts it: a panel a method, in the order given.

    ``overlays`` are as for :func:`overlay`, all of one window; forecasts are not shown. A panel's
    title has the number of patches that the method really made of the window.

    Raises:
        ValueError: no overlays, one that cannot be drawn, or windows that differ.
    """
    if not overlays:
        raise NothingToDrawError("no overlay to draw")
    for data in overlays:
        _refuse_unless_drawable(data)
        if any(data[name] != overlays[0][name] for name in ("dataset", "values")):
            raise ValueError(f"{data['method']} and {overlays[0]['method']} cut different windows")
    methods = shown([data["method"] for data in overlays], 2 * LINES)
    drawn = [data for data in overlays if data["method"] in methods]
    look_back = len(overlays[0]["values"])
    figure, grid = panels(len(drawn), 1.1, columns=2, sharex=True, sharey=True)
    for axes, data in zip(grid, drawn, strict=True):
        starts = list(data["starts"])
        _cut(axes, starts, look_back)
        axes.plot(data["values"], color=INK, linewidth=0.9, label="past")
        _mark(axes, data["true_starts"])
        axes.set(title=f"{short(data['method'])}{_count(starts)}", xlim=(0, look_back))
    foot(figure, "time step", method=len(overlays) - len(drawn))
    head(figure, f"One window of {short(overlays[0]['dataset'])}", keys_of(grid[0]))
    return figure


@styled
def lengths(plans: Plans, look_back: int, task: str) -> Figure:
    """How long patches are: a panel a method, in the order given; two bars to a doubling.

    ``task`` is what the rows of ``plans`` are windows of, for the title. The heights of two panels
    cannot be compared: equal patches are a single bar, beside which all others would be flat.

    Raises:
        ValueError: no plans, or a row that does not start at 0 or leaves the look-back.
    """
    if not plans:
        raise NothingToDrawError("no plan to draw")
    methods = shown(list(plans))
    # Half a step off, so that bars stand around whole numbers, and none between two of them.
    doublings = np.arange(2 * math.ceil(math.log2(look_back)) + 2) / 2 - 0.25
    edges = np.unique(np.ceil(2**doublings)) - 0.5
    figure, grid = panels(len(methods), 1.25, columns=4, sharex=True)
    for axes, method in zip(grid, methods, strict=True):
        found = _lengths(plans[method], look_back)
        share = 100 * np.histogram(found, edges)[0] / len(found)
        style: dict[str, Any] = {"color": BLUE, "edgecolor": GROUND, "linewidth": 0.6}
        axes.bar(edges[:-1], share, np.diff(edges), align="edge", **style)
        axes.axvline(found.mean(), color=INK, linewidth=0.9, linestyle="--", label="mean")
        axes.set_title(short(method))
        where: dict[str, Any] = {
            "transform": axes.transAxes,
            "ha": "right",
            "va": "top",
            "fontsize": TINY,
        }
        axes.text(1, 0.98, f"longest {found.max()}", **where)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.minorticks_off()
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(top=1.3 * share.max())
        axes.yaxis.set_major_locator(MaxNLocator(3))
    figure.supylabel("share of patches, %", fontsize=9)
    foot(figure, "steps in a patch", method=len(plans) - len(methods))
    head(figure, f"Patch lengths on {short(task)}", keys_of(grid[0]))
    return figure


@styled
def density(plans: Plans, values: Float[np.ndarray, "row time"], task: str) -> Figure:
    """How much likelier a boundary is where the row changes much than where it changes little.

    Each step's change from the step before is ranked among those of its row. Of the steps in each
    tenth of the ranks, the share that starts a patch is drawn, relative to that of all steps: 1 is
    what boundaries do that look at nothing. ``plans``, best first, are of the rows ``values``.

    Raises:
        ValueError: no plans, or one that is not of these rows.
    """
    if not plans:
        raise NothingToDrawError("no plan to draw")
    ranks = pd.DataFrame(np.abs(np.diff(values, axis=1))).rank(axis=1, pct=True).to_numpy()
    tenth = np.ceil(_TENTHS * ranks).astype(int) - 1
    steps = np.bincount(tenth.ravel(), minlength=_TENTHS)
    styles = line_styles(list(plans))
    figure = Figure(figsize=(WIDTH, 3.4))
    axes = figure.subplots()
    axes.axhline(1, color=RULE, linewidth=0.8)
    for method, style in styles.items():
        row, start = _boundaries(plans[method], values.shape)
        found = np.bincount(tenth[row, start - 1], minlength=_TENTHS)
        with np.errstate(invalid="ignore"):  # no boundary, or no step of that rank: no point
            relative = (found / steps) / (len(row) / steps.sum())
        middles = 100 * (np.arange(_TENTHS) + 0.5) / _TENTHS
        axes.plot(middles, relative, marker="o", markersize=3, label=short(method), **style)
    axes.set(xlim=(0, 100), ylabel="boundaries, relative to all steps")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter("{x:.0f} %")
    axes.set_title(f"Where boundaries lie on {short(task)}")
    figure.legend(loc="outside right upper")
    label = "rank of the change from the step before, within its row"
    foot(figure, label, method=len(plans) - len(styles))
    return figure


@styled
def agreement(table: pd.DataFrame) -> Figure:
    """How far two seeds of a method cut the same rows at the same steps: a line a method.

    ``table`` as :func:`harness.report.agreement.between_seeds` gives it: the columns of the task,
    ``method``, ``f1_1`` and, for the number in brackets, ``f1_1_chance``: what a habit of the
    method agrees on without looking at the content. Several pairs of seeds are averaged.

    Raises:
        ValueError: no pairs, or a column is missing.
    """
    need(table, *TASK, "method", "f1_1")
    table = table.assign(task=task_names(table))
    means = table.groupby(["method", "task"])[[name for name in _F1 if name in table]].mean()
    tasks = list(dict.fromkeys(table.task))
    everyone = means.f1_1.groupby("method").mean().sort_values(ascending=False, kind="stable")
    methods = shown(list(everyone.index), 2 * LINES)
    wide = {name: means[name].unstack().reindex(methods)[tasks[:LINES]] for name in means}  # noqa: PD010  # an index becomes columns: nothing is aggregated
    figure = Figure(figsize=(WIDTH, 0.24 * len(methods) + 2.2))
    axes = figure.subplots()
    beside = wide.get("f1_1_chance") if len(tasks) <= _BRACKETS else None
    _squares(axes, wide["f1_1"], beside)
    left_out = {"method": len(everyone) - len(methods), "task": max(len(tasks) - LINES, 0)}
    note = "" if beside is None else "; in brackets, between different rows: habit alone"
    foot(figure, f"F1 within 1 step{note}", **left_out)
    head(figure, "Agreement of boundaries between seeds", _OPACITIES)
    return figure


@styled
def agreement_of_methods(table: pd.DataFrame) -> Figure:
    """How far two methods cut the same rows at the same steps: a panel a task.

    ``table`` has a line a pair: the columns of the task, ``method_a`` and ``method_b``, and
    ``f1_1`` (:func:`harness.report.agreement.stability`). A method with itself is two of its
    seeds. Methods stand in the order of the table; a pair that is not there is left empty.

    Raises:
        ValueError: no pairs, or a column is missing.
    """
    need(table, *TASK, "method_a", "method_b", "f1_1")
    table = table.assign(task=task_names(table))
    tasks = list(dict.fromkeys(table.task))
    everyone = list(dict.fromkeys([*table.method_a, *table.method_b]))
    methods = shown(everyone)
    mirrored = table.rename(columns={"method_a": "method_b", "method_b": "method_a"})
    both = pd.concat([table, mirrored])
    # Names of columns stand upright below the squares.
    height = 0.24 * len(methods) + max(0.6, 0.09 * max(map(len, methods)))
    figure, grid = panels(min(len(tasks), 4), height, columns=2)
    for number, (axes, task) in enumerate(zip(grid, tasks[: len(grid)], strict=True)):
        square = both[both.task == task].pivot_table("f1_1", "method_a", "method_b")
        _squares(axes, square.reindex(index=methods, columns=methods))
        axes.set_title(task)
        # Columns are in the order of lines: names once a side are enough.
        axes.tick_params(labelleft=number % 2 == 0, labelbottom=number + 2 >= len(grid))
    left_out = {"method": len(everyone) - len(methods), "task": len(tasks) - len(grid)}
    foot(figure, "F1 within 1 step; on the diagonal, two seeds of one method", **left_out)
    head(figure, "Agreement of boundaries between methods", _OPACITIES)
    return figure


# Parts


_F1 = ("f1_1", "f1_1_chance")
_OPACITIES = [
    Patch(facecolor=(BLUE, share), edgecolor=RULE, linewidth=0.5, label=f"{share:g}")
    for share in (0, 0.5, 1)
]


def _refuse_unless_drawable(data: Mapping[str, Any]) -> None:
    if absent := [name for name in _KEYS if name not in data]:
        raise ValueError(f"an overlay needs {', '.join(absent)}")
    starts, look_back = list(data["starts"]), len(data["values"])
    rising = all(left < right for left, right in pairwise([*starts, look_back]))
    if starts and (starts[0] != 0 or not rising):
        raise ValueError(f"starts must rise from 0 to below {look_back}; got {starts}")
    if len(data["forecast"]) != len(data["future"]):
        raise ValueError(
            f"a forecast of {len(data['forecast'])} steps for a future of {len(data['future'])}"
        )


def _cut(axes: Axes, starts: Sequence[int], look_back: int) -> None:
    """Every other patch as a band, and a rule at each boundary."""
    for left, right in list(pairwise([*starts, look_back]))[::2]:
        axes.axvspan(left, right, color=BAND, linewidth=0)
    rim = axes.get_xaxis_transform()
    axes.vlines(starts[1:], 0, 1, transform=rim, color=RULE, linewidth=0.6)


def _mark(axes: Axes, truth: Sequence[int] | None) -> None:
    """True boundaries, where there are any, on the upper rim, out of the way of the line."""
    if not truth:
        return  # An empty line outside of its axes would have no place in the layout.
    style: dict[str, Any] = {"clip_on": False, "color": RED, "markersize": 5}
    rim = axes.get_xaxis_transform()
    axes.plot(truth, [1] * len(truth), "v", label="true boundary", transform=rim, **style)


def _count(starts: Sequence[int]) -> str:
    match len(starts):
        case 0:
            return ""
        case 1:
            return ", 1 patch"
        case number:
            return f", {number} patches"


def _lengths(starts: Int[np.ndarray, "row slot"], look_back: int) -> Int[np.ndarray, " patch"]:
    """The lengths of all patches of all rows."""
    # A slot that is not used moves behind the last patch, where it has no length.
    rising = np.sort(np.where(starts < 0, look_back, starts.astype(int)), axis=1)
    if (rising[:, 0] != 0).any() or starts.max() >= look_back:
        raise ValueError(f"each row must start a patch at 0, and none at or after {look_back}")
    found = np.diff(rising, axis=1, append=look_back)
    return found[found > 0]


def _boundaries(
    starts: Int[np.ndarray, "row slot"], shape: tuple[int, ...]
) -> tuple[Int[np.ndarray, " boundary"], Int[np.ndarray, " boundary"]]:
    """Row and step of each boundary; step 0, where every row starts, is none."""
    if len(starts) != shape[0] or starts.max() >= shape[1]:
        last = f"{len(starts)} rows that start a patch at {starts.max()}"
        raise ValueError(f"{last} are no plans of {shape[0]} rows of {shape[1]} steps")
    row, slot = np.nonzero(starts > 0)
    return row, starts[row, slot].astype(int)


def _squares(axes: Axes, shares: pd.DataFrame, beside: pd.DataFrame | None = None) -> None:
    """A field a share, the fuller the larger, with its number; nothing where there is none."""
    values = shares.to_numpy()
    there = np.argwhere(np.isfinite(values))
    corners = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]])
    # Opacities and no map of colours: they are right on a light ground and on a dark one.
    colours = [to_rgba(BLUE, values[line, column]) for line, column in there]
    axes.add_collection(PolyCollection(there[:, None, ::-1] + corners, facecolors=colours))
    many = shares.shape[1]
    for line, column in there if many <= LINES + 2 else ():
        text = _brief(values[line, column])
        if beside is not None:
            text += f" ({_brief(beside.iloc[line, column])})"
        ink = GROUND if values[line, column] > 0.75 else INK
        axes.text(column, line, text, color=ink, ha="center", va="center", fontsize=TINY)
    names = [short(name) for name in shares.columns]
    upright = sum(map(len, names)) > 45
    axes.set_xticks(range(many), names, rotation=90 if upright else 0)
    axes.set_yticks(range(len(shares)), [short(name) for name in shares.index])
    axes.set(xlim=(-0.5, many - 0.5), ylim=(len(shares) - 0.5, -0.5))
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def _brief(share: float) -> str:
    return f"{share:.2f}".removeprefix("0").replace("1.00", "1")
