"""Pictures of what was measured. The only module that knows matplotlib and seaborn.

Figures are made without a screen and without global state: importing this module changes no
setting of matplotlib, and saving the same figure twice gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette: told apart with every common kind of colour blindness, and in grey.
BLUE, ORANGE, GREEN, RED = "#0072B2", "#E69F00", "#009E73", "#D55E00"
INK, RULE, BAND = "#222222", "#9AA8B5", "#E6ECF2"
_ROLES = {"patcher": BLUE, "patcher, never ranked": GREEN, "no patcher": RED}
_KEYS = ("values", "starts", "true_starts", "future", "forecast", "method", "dataset", "seed")
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


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
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.5, 2.7))
        axes = figure.subplots()
        _cut(axes, starts, look_back)
        axes.axvline(look_back, color=INK, linewidth=0.8)
        time = range(look_back + horizon)
        axes.plot(time[:look_back], data["values"], color=INK, linewidth=0.9, label="past")
        axes.plot(time[look_back:], data["future"], color=GREEN, linewidth=1.4, label="future")
        axes.plot(
            time[look_back:], data["forecast"], color=ORANGE, linewidth=1.6, label="forecast"
        )
        _mark(axes, data["true_starts"])
        axes.set(xlim=(0, look_back + horizon - 1), xlabel="time step", ylabel="value")
        title = f"{data['method']} on {data['dataset']}, seed {data['seed']}{_count(starts)}"
        _head(figure, axes, title)
    return figure


def gallery(overlays: Sequence[Mapping[str, Any]]) -> Figure:
    """One look-back as every method cuts it: a panel a method, in the order given.

    ``overlays`` are as for :func:`overlay`, all of one window; forecasts are not shown. A panel's
    title has the number of patches that the method really made of the window.

    Raises:
        ValueError: no overlays, one that cannot be drawn, or windows that differ.
    """
    if not overlays:
        raise ValueError("no overlay to draw")
    for data in overlays:
        _refuse_unless_drawable(data)
        if any(data[name] != overlays[0][name] for name in ("dataset", "values")):
            raise ValueError(f"{data['method']} and {overlays[0]['method']} cut different windows")
    columns = min(len(overlays), 2)
    lines = math.ceil(len(overlays) / columns)
    look_back = len(overlays[0]["values"])
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 1.25 * lines + 0.9))
        grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for number, (axes, data) in enumerate(zip_longest(grid.flat, overlays)):
            if data is None:
                axes.remove()
                continue
            starts = list(data["starts"])
            _cut(axes, starts, look_back)
            axes.plot(data["values"], color=INK, linewidth=0.9, label="past")
            _mark(axes, data["true_starts"])
            axes.set(title=f"{data['method']}{_count(starts)}", xlim=(0, look_back))
            # The last of its column, which need not be in the last line.
            axes.tick_params(labelbottom=number + columns >= len(overlays))
        figure.supxlabel("time step", fontsize=9)
        title = f"One window of {overlays[0]['dataset']}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        figure.legend(
            *grid.flat[0].get_legend_handles_labels(), loc="outside upper right", ncols=2
        )
    return figure


def errors(rows: pd.DataFrame) -> Figure:
    """MSE of every finished run: a panel a task, a line a method, a dot a seed, a bar their mean.

    ``rows`` as :func:`harness.ledger.rows` gives them. Methods stand in the order of their
    median rank, the same in every panel. A panel's scale spans what the patchers reached, so that
    their near-ties can be seen; a reference beyond it is given as a number at the rim.

    Raises:
        ValueError: no run is done.
    """
    done = rows[rows.status == "done"]
    if done.empty:
        raise ValueError("no finished run to draw")
    done = done.assign(task=_task_names(done), role=_roles(done))
    means = done.groupby(["task", "method"]).mse.mean()
    methods = list(means.groupby("task").rank().groupby("method").median().sort_values().index)
    tasks = list(dict.fromkeys(done.task))
    columns = min(len(tasks), 3)
    lines = math.ceil(len(tasks) / columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, (0.24 * len(methods) + 0.75) * lines + 0.6))
        grid = figure.subplots(lines, columns, sharey=True, squeeze=False)
        for axes, task in zip_longest(grid.flat, tasks):
            if task is None:
                axes.remove()
            else:
                _panel(axes, done[done.task == task], means[task].reindex(methods), task)
        figure.supxlabel("MSE, lower is better", fontsize=9)
        marks: dict[str, Any] = {"linestyle": "", "marker": "o", "alpha": 0.6}
        keys = [
            Line2D([], [], color=colour, label=role, **marks) for role, colour in _ROLES.items()
        ]
        keys.append(Line2D([], [], color=INK, linestyle="", marker="|", label="mean over seeds"))
        figure.legend(handles=keys, loc="outside upper right", ncols=len(keys))
    return figure


def _panel(axes: Axes, runs: pd.DataFrame, means: pd.Series[float], task: str) -> None:
    # Only this figure needs it, and an overlay need not wait for the import.
    import seaborn as sns

    style: dict[str, Any] = {"jitter": False, "size": 5, "alpha": 0.6, "legend": False}
    palette = {"hue": "role", "palette": _ROLES}
    order = list(means.index)
    sns.stripplot(runs, x="mse", y="method", order=order, ax=axes, **palette, **style)
    axes.plot(means, range(len(means)), "|", color=INK, markersize=11, markeredgewidth=1.4)
    axes.set(title=task, xlabel="", ylabel="")
    axes.grid(axis="y", color=BAND, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    patchers = runs[runs.kind == "patcher"].mse
    if patchers.empty or patchers.min() == patchers.max():
        return
    margin = 0.08 * (patchers.max() - patchers.min())
    low, high = patchers.min() - margin, patchers.max() + margin
    axes.set_xlim(low, high)
    for line, mean in enumerate(means):
        if mean > high:
            _at_rim(axes, f"{mean:.3g} \N{BLACK RIGHT-POINTING SMALL TRIANGLE}", 1, line, "right")
        elif mean < low:
            _at_rim(axes, f"\N{BLACK LEFT-POINTING SMALL TRIANGLE} {mean:.3g}", 0, line, "left")


def _at_rim(axes: Axes, text: str, side: int, line: int, align: Literal["left", "right"]) -> None:
    transform = axes.get_yaxis_transform()
    axes.text(side, line, text, transform=transform, ha=align, va="center", fontsize=8)


def _roles(runs: pd.DataFrame) -> list[str]:
    patcher, unranked, reference = _ROLES
    return [
        reference if kind == "reference" else patcher if ranked else unranked
        for kind, ranked in zip(runs.kind, runs.ranked, strict=True)
    ]


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


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem``.svg and ``stem``.png; the same figure gives the same bytes."""
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("svg", "png")]
    # Text stays text in the SVG, and its ids come from the salt and not from chance.
    with mpl.rc_context({"svg.hashsalt": "patchbench", "svg.fonttype": "none"}):
        figure.savefig(paths[0], metadata={"Date": None, "Creator": None})
        figure.savefig(paths[1], dpi=150, metadata={"Software": None})
    return paths


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


def _task_names(rows: pd.DataFrame) -> pd.Series[str]:
    """A name a task that says no more than tells them apart."""
    name = rows.dataset.astype(str)
    for column, form in (("horizon", " H={}"), ("look_back", " L={}"), ("patches", " K={}")):
        if len(rows[column].unique()) > 1:
            name += rows[column].map(form.format)
    return name


def _head(figure: Figure, axes: Axes, title: str) -> None:
    """Title and legend side by side above the axes, where no line can hide them."""
    axes.set_title(title, pad=9)
    figure.legend(loc="outside upper right", ncols=5)


def hindsight(table: pd.DataFrame) -> Figure:
    """Errors of the best of M random plans against M: a panel a cell, a thin line a pair of seeds.

    ``table`` as :func:`harness.hindsight.measure` gives it. Thick lines are means over the pairs.
    """
    table = table.assign(cell=_task_names(table))
    cells = list(dict.fromkeys(table.cell))
    columns = min(len(cells), 3)
    lines = math.ceil(len(cells) / columns)
    curves = {
        "mse_chosen": (ORANGE, "best of M on the backbone that chose it"),
        "mse_corrected": (BLUE, "the same plan on another backbone"),
        "mse_random": (INK, "mean of M random plans"),
    }
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(max(3.2 * columns, 7.5), 2.6 * lines + 0.5))
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes, cell in zip_longest(grid.flat, cells):
            if cell is None:
                axes.remove()
                continue
            own = table[table.cell == cell]
            for column, (colour, _) in curves.items():
                pairs = own.pivot_table(column, "plans", "seed_chosen_on")
                axes.plot(pairs, color=colour, linewidth=0.6, alpha=0.4)
                axes.plot(pairs.mean(axis=1), color=colour, linewidth=1.6)
            if own.mse_uniform.notna().all():
                axes.axhline(own.mse_uniform.mean(), color=GREEN, linewidth=1.2, linestyle="--")
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter("{x:.0f}")
            axes.set_title(cell)
        figure.supxlabel("random plans to choose from, M", fontsize=9)
        figure.supylabel("MSE, lower is better", fontsize=9)
        keys = [Line2D([], [], color=colour, label=label) for colour, label in curves.values()]
        keys.append(Line2D([], [], color=GREEN, linestyle="--", label="uniform"))
        figure.legend(handles=keys, loc="outside upper left", ncols=2)
    return figure
