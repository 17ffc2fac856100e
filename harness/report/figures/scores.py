"""How methods compare: errors, ranks, effects, costs, seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from harness.core.protocol import SMALLEST_EFFECT
from harness.report.figures.ink import (
    BAND,
    BAR,
    BLUE,
    CONTROLS,
    GREEN,
    GREY,
    GROUND,
    INK,
    LINES,
    PANELS,
    RED,
    RULE,
    WIDTH,
    NothingToDrawError,
    at_rims,
    foot,
    head,
    keys_of,
    lines_of,
    need,
    panels,
    short,
    shown,
    span,
    styled,
    task_names,
    without_far,
)
from harness.report.percent import percent
from harness.results.table import TASK

_ROLES = {"patcher": BLUE, "patcher, never ranked": GREEN, "own forecaster": RED}
_VERDICTS = {"better": BLUE, "near-tie": GREEN, "worse": RED}
_COSTS = {"tokens_mean": "tokens of a window", "flops": "FLOPs of a window's forward pass"}
_UNIT = 2 * SMALLEST_EFFECT
"""Percent: differences between methods that are worth a scale of their own."""
_DOT: dict[str, Any] = {"linestyle": "", "marker": "o"}


@styled
def errors(rows: pd.DataFrame) -> Figure:
    """MSE of every finished run: a panel a task, a line a method, a dot a seed, a bar their mean.

    ``rows`` as :func:`harness.results.table.read_table` gives them. Methods stand in the order of
    their median rank, the same in every panel. A panel's scale spans what the patchers reached, so
    that their near-ties can be seen; a reference beyond it, or a patcher far behind the others, is
    given as a number at the rim.

    Raises:
        ValueError: no run is done.
    """
    done = rows[rows.status == "done"]
    if done.empty:
        raise NothingToDrawError("no finished run to draw")
    done = done.assign(task=task_names(done), role=_roles(done))
    means = done.groupby(["task", "method"]).mse.mean()
    ranks = means.groupby("task").rank().groupby("method").median().sort_values(kind="stable")
    methods = shown(list(ranks.index))
    tasks = list(dict.fromkeys(done.task))
    drawn = done[done.method.isin(methods)]
    height = 0.22 * len(methods) + 0.6
    figure, grid = panels(min(len(tasks), PANELS), height, sharey=True)
    for axes, task in zip(grid, tasks[:PANELS], strict=True):
        _runs(axes, drawn[drawn.task == task], means[task].reindex(methods))
        axes.set_title(task)
    left_out = {"method": len(ranks) - len(methods), "task": len(tasks) - len(grid)}
    foot(figure, "MSE, lower is better", **left_out)
    bar = Line2D([], [], color=INK, linestyle="", marker="|", label="mean over seeds")
    head(figure, "", [*_role_keys(drawn.role), bar])
    return figure


@styled
def critical_difference(mean_ranks: pd.Series[float], groups: Sequence[Sequence[str]]) -> Figure:
    """Methods on an axis of their mean ranks, and a bar over each group that is not told apart.

    ``mean_ranks`` by method, lower is better; a method may be in none or several ``groups``. The
    diagram is that of Demšar, "Statistical comparisons of classifiers over multiple data sets",
    JMLR 7, 2006.

    Raises:
        ValueError: no ranks, one that is no number, or a group with a method that has none.
    """
    if mean_ranks.empty:
        raise NothingToDrawError("no mean rank to draw")
    if mean_ranks.isna().any():
        raise ValueError("a mean rank is needed of every method")
    if unranked := {name for group in groups for name in group} - set(mean_ranks.index):
        raise ValueError(f"no mean rank of {', '.join(sorted(unranked))}")
    ranks = mean_ranks.sort_index().sort_values(kind="stable")
    ranks = ranks[shown(list(ranks.index), 2 * LINES)]
    bars = _levels(ranks[ranks.index.isin(group)] for group in groups)
    low = math.floor(ranks.min())
    high = max(math.ceil(ranks.max()), low + 1)
    first = 0.45 * max((level for *_, level in bars), default=0) + 1.2
    half = math.ceil(len(ranks) / 2)
    figure = Figure(figsize=(WIDTH, 0.2 * (first + half) + 0.8))
    axes = figure.subplots()
    for left, right, level in bars:
        axes.hlines(0.45 * level, left, right, color=BLUE, linewidth=3.5)
    # The better half hangs to the left and the other one to the right, so that no lines cross.
    for rim, align, side in (
        (low, "right", ranks.iloc[:half]),
        (high, "left", ranks.iloc[half:][::-1]),
    ):
        for line, (name, rank) in enumerate(side.items()):
            depth = first + line
            hook: dict[str, Any] = {"color": GREY, "linewidth": 0.8, "clip_on": False}
            axes.plot([rank, rank, rim], [0, depth, depth], **hook)
            weight = "bold" if name in CONTROLS else "normal"
            text = f"  {short(str(name))}  {rank:.2f}  "
            axes.text(rim, depth, text, ha=align, va="center", weight=weight)
    axes.set(xlim=(low, high), ylim=(first + half - 0.5, 0), yticks=[])
    axes.xaxis.tick_top()
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.spines["top"].set_visible(True)
    key = Line2D([], [], color=BLUE, linewidth=3.5, label="not told apart")
    head(figure, "Mean rank, lower is better", [key] if bars else ())
    if len(mean_ranks) > len(ranks):
        foot(figure, "", method=len(mean_ranks) - len(ranks))
    return figure


@styled
def forest(effects: pd.DataFrame) -> Figure:
    """The change of each method against each control, with its interval.

    ``effects`` as :func:`harness.report.statistics.effects` gives them: ``look_back``, ``method``,
    ``control`` and, in percent, ``change``, ``low`` and ``high``; if they were merged with
    :func:`harness.report.statistics.verdicts`, colours say better, near-tie and worse. A line of
    panels a look-back, a column a control; methods in the order of their change against the first
    one. A method without an interval is a dot, one beyond the panel a number at its rim.

    Raises:
        ValueError: no effects, or a column is missing.
    """
    need(effects, "look_back", "method", "control", "change", "low", "high")
    controls = list(dict.fromkeys(effects.control))
    orders = {
        track: _by_change(effects[effects.look_back == track], controls)
        for track in sorted(set(effects.look_back), reverse=True)
    }
    methods = {track: shown(order, 2 * LINES) for track, order in orders.items()}
    sizes = [len(names) + 2 for names in methods.values()]
    figure = Figure(figsize=(WIDTH, 0.2 * sum(sizes) + 0.5 * len(sizes) + 0.6))
    shape: dict[str, Any] = {"sharey": "row", "squeeze": False, "height_ratios": sizes}
    grid = figure.subplots(len(sizes), len(controls), **shape)
    for line, (track, names) in zip(grid, methods.items(), strict=True):
        here = effects[effects.look_back == track].set_index(["control", "method"])
        for axes, control in zip(line, controls, strict=True):
            _effects(axes, here.reindex([(control, name) for name in names]), names)
        line[0].set_ylabel(f"look-back {track}" if len(sizes) > 1 else "")
    for axes, control in zip(grid[0], controls, strict=True):
        axes.set_title(f"against {short(control)}")
    left_out = max(len(orders[track]) - len(names) for track, names in methods.items())
    interval = ", with its 95 % interval" if effects.low.notna().any() else ""
    foot(figure, f"change of MSE, %{interval}; lower is better", method=left_out)
    there = set(effects.get("verdict", ()))
    keys: list[Any] = [
        Line2D([], [], color=colour, marker="o", label=verdict)
        for verdict, colour in _VERDICTS.items()
        if verdict in there
    ]
    head(figure, "", [*keys, Patch(color=BAND, label=f"within {SMALLEST_EFFECT} %")])
    return figure


@styled
def pareto(rows: pd.DataFrame, cost: Literal["tokens_mean", "flops"] = "tokens_mean") -> Figure:
    """Error against cost, both relative to uniform patches, and the front of ranked patchers.

    ``rows`` as :func:`harness.results.table.charged` gives them. Both are compared task by task
    and averaged as ratios over data sets; a panel a look-back. A method that lacks tasks is hollow
    and never on the front, since its error and cost there are unknown. A method that costs nothing
    has no place on the logarithmic axis and is not drawn.

    Raises:
        ValueError: a column is missing, no method can be held against ``uniform``, or all cost the
            same, which is no question of cost.
    """
    need(rows, *TASK, "method", "kind", "ranked", "mse", cost)
    tracks = {
        track: table
        for track in sorted(set(rows.look_back), reverse=True)
        if len(table := _relative(rows[rows.look_back == track], cost))
    }
    if not tracks:
        raise NothingToDrawError(
            f"no method whose mse and {cost} can be held against those of uniform"
        )
    if all((own.cost == own.cost.iloc[0]).all() for own in tracks.values()):
        raise NothingToDrawError(f"{cost} is the same for every method")
    drawn = {track: own.loc[shown(list(own.index), 2 * LINES)] for track, own in tracks.items()}
    sizes = [max(0.2 * len(table), 2.2) for table in drawn.values()]
    figure = Figure(figsize=(WIDTH, sum(sizes) + 0.5 * len(sizes) + 0.6))
    grid = figure.subplots(len(sizes), 1, squeeze=False, height_ratios=sizes)[:, 0]
    for axes, (track, table) in zip(grid, drawn.items(), strict=True):
        _front(axes, table)
        axes.set_title(f"look-back {track}" if len(drawn) > 1 else "")
    figure.supylabel("change of MSE against uniform, %", fontsize=9)
    left_out = max(len(tracks[track]) - len(table) for track, table in drawn.items())
    foot(figure, f"{_COSTS[cost]}, relative to those of uniform", method=left_out)
    everyone = pd.concat(drawn.values())
    keys = _role_keys(everyone.role)
    if not everyone.complete.all():
        keys.append(Line2D([], [], color=INK, markerfacecolor=GROUND, label="lacks tasks", **_DOT))
    front = "front: the least error of a patcher at no more of the cost"
    head(figure, "", [*keys, Line2D([], [], color=RULE, label=front)])
    return figure


@styled
def seed_spread(rows: pd.DataFrame) -> Figure:
    """How far seeds of one method lie apart: a panel a look-back, a dot a cell, a bar all cells.

    A dot is the standard deviation over seeds of log MSE in percent, the bar the root of the mean
    square. Only finished runs count, and only cells with two of them or more. A difference between
    methods that is smaller than this takes many seeds to see.

    Raises:
        ValueError: no cell has two finished runs, or a column is missing.
    """
    need(rows, *TASK, "method", "status", "mse")
    done = rows[(rows.status == "done") & (rows.mse > 0)]
    logarithms = np.log(done.mse).groupby([done[name] for name in ("method", *TASK)])
    table = logarithms.std().dropna().rename("deviation").reset_index()
    if table.empty:
        raise NothingToDrawError("no two finished seeds of one cell to compare")
    table["spread"] = percent(table.deviation)
    squares = (table.deviation**2).groupby([table.look_back, table.method])
    bars = percent(squares.mean() ** 0.5)
    everyone = bars.groupby("method").mean().sort_values(kind="stable")
    methods = shown(list(everyone.index), 2 * LINES)
    tracks = sorted(set(table.look_back), reverse=True)
    # A method without randomness has a spread of 0, which has no logarithm: it stands at the rim.
    several = table.spread[table.spread > 1e-3]
    rim = several.min() / 2 if len(several) else 1e-3
    height = 0.2 * len(methods) + 0.6
    figure, grid = panels(len(tracks), height, columns=2, sharex=True, sharey=True)
    for axes, track in zip(grid, tracks, strict=True):
        own = table[(table.look_back == track) & table.method.isin(methods)]
        dots = own.spread.clip(lower=rim)
        style: dict[str, Any] = {
            "alpha": 0.6,
            "markersize": 5,
            "markeredgewidth": 0,
            "clip_on": False,
        }
        small = f"below {SMALLEST_EFFECT} %"
        axes.axvspan(rim, max(SMALLEST_EFFECT, rim), color=BAND, linewidth=0, label=small)
        axes.plot(dots, own.method.map(methods.index), "o", color=BLUE, label="a cell", **style)
        mean = bars[track].reindex(methods).clip(lower=rim)
        axes.plot(mean, range(len(methods)), "|", label="all cells", **BAR)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlim(rim, max(2 * table.spread.max(), 2 * SMALLEST_EFFECT))
        lines_of(axes, methods)
        axes.set_title(f"look-back {track}" if len(tracks) > 1 else "")
    label = "standard deviation over seeds of log MSE, %"
    foot(figure, label, method=len(everyone) - len(methods))
    head(figure, "Spread over seeds", keys_of(grid[0]))
    return figure


@styled
def gap_closed(table: pd.DataFrame) -> Figure:
    """How much of what true boundaries gain over equal patches each method gains.

    ``table`` as :func:`harness.report.panel.shares` gives it: ``look_back``, ``dataset``,
    ``method`` and ``closed``, 0 for ``uniform``, 1 for ``oracle`` and empty where there is no gap.
    A panel a family; methods in the order of their mean, one beyond a panel as a number.

    Raises:
        ValueError: no data set with a gap, or a column is missing.
    """
    need(table, "look_back", "dataset", "method", "closed")
    table = table[table.closed.notna() & ~table.method.isin(["uniform", "oracle"])]
    if table.empty:
        raise NothingToDrawError("no data set on which true boundaries gain anything")
    table = table.assign(task=task_names(table.assign(horizon=0, patches=0)))
    means = table.groupby("method").closed.mean().sort_values(ascending=False, kind="stable")
    methods = shown(list(means.index), 2 * LINES)
    tasks = list(dict.fromkeys(table.task))
    height = 0.2 * len(methods) + 0.6
    figure, grid = panels(min(len(tasks), PANELS), height, sharex=True, sharey=True)
    for axes, task in zip(grid, tasks[:PANELS], strict=True):
        closed = table[table.task == task].groupby("method").closed.mean().reindex(methods)
        axes.vlines([0, 1], 0, 1, transform=axes.get_xaxis_transform(), color=RULE, linewidth=0.8)
        axes.set_xlim(-0.5, 1.2)
        near = closed.where(closed.between(*axes.get_xlim()))
        axes.hlines(range(len(methods)), 0, near, color=BLUE, linewidth=2)
        axes.plot(near, range(len(methods)), "o", color=BLUE, markersize=5)
        axes.set_xticks([0, 1], ["uniform", "oracle"])
        lines_of(axes, methods)
        at_rims(axes, closed, "{:.1f}")
        axes.set_title(task)
    left_out = {"method": len(means) - len(methods), "task": len(tasks) - len(grid)}
    foot(figure, "share of the way from uniform, 0, to the true boundaries, 1", **left_out)
    return figure


# Parts


def _runs(axes: Axes, runs: pd.DataFrame, means: pd.Series[float]) -> None:
    """One panel of errors; ``means`` are by method, in order."""
    # Only this figure needs it, and an overlay need not wait for the import.
    import seaborn as sns

    style: dict[str, Any] = {"jitter": False, "size": 5, "alpha": 0.6, "legend": False}
    palette = {"hue": "role", "palette": _ROLES}
    order = list(means.index)
    sns.stripplot(runs, x="mse", y="method", order=order, ax=axes, **palette, **style)
    axes.plot(means, range(len(means)), "|", **BAR)
    lines_of(axes, order)
    axes.set(xlabel="", ylabel="")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    patchers = runs[runs.kind == "patcher"]
    if patchers.empty:
        return
    likely = without_far(means[means.index.isin(patchers.method)], means.min() / 100)
    spread = patchers.mse[patchers.method.isin(likely.index)]
    if spread.min() == spread.max():
        return
    margin = 0.08 * (spread.max() - spread.min())
    axes.set_xlim(spread.min() - margin, spread.max() + margin)
    at_rims(axes, means, "{:.3g}")


def _roles(runs: pd.DataFrame) -> list[str]:
    patcher, unranked, reference = _ROLES
    return [
        reference if kind == "reference" else patcher if ranked else unranked
        for kind, ranked in zip(runs.kind, runs.ranked, strict=True)
    ]


def _role_keys(roles: Iterable[str]) -> list[Line2D]:
    there = set(roles)
    return [
        Line2D([], [], color=colour, alpha=0.7, label=role, **_DOT)
        for role, colour in _ROLES.items()
        if role in there
    ]


def _levels(groups: Iterable[pd.Series[float]]) -> list[tuple[float, float, int]]:
    """Ends of each group of at least two, and the first level on which it touches no other."""
    spans = {(float(own.min()), float(own.max())) for own in groups if len(own) > 1}
    ends: list[float] = []
    placed = []
    for low, high in sorted(spans):
        level = next((line for line, end in enumerate(ends) if end < low), len(ends))
        ends[level : level + 1] = [high]
        placed.append((low, high, level + 1))
    return placed


def _by_change(effects: pd.DataFrame, controls: list[str]) -> list[str]:
    """Methods in the order of their change against the first control, then the next."""
    table = effects.pivot_table("change", "method", "control", dropna=False)
    table = table.reindex(index=sorted(set(effects.method)), columns=controls)
    for control in set(controls) & set(table.index):
        table.loc[control, control] = 0.0
    return list(table.sort_values(controls, kind="stable").index)


def _effects(axes: Axes, effects: pd.DataFrame, methods: Sequence[str]) -> None:
    """One panel of a forest; ``effects`` has a line a method, in order."""
    changes = without_far(effects.change, _UNIT)
    low, high = span(changes) if len(changes) else (0.0, 0.0)
    room = 0.35 * max(high - low, 2 * SMALLEST_EFFECT)  # for intervals
    axes.set_xlim(min(low - room, -2 * SMALLEST_EFFECT), max(high + room, 2 * SMALLEST_EFFECT))
    axes.axvspan(-SMALLEST_EFFECT, SMALLEST_EFFECT, color=BAND, linewidth=0)
    axes.axvline(0, color=RULE, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    lines_of(axes, methods)
    at_rims(axes, effects.change, "{:+.0f}")
    near = effects.where(effects.change.between(*axes.get_xlim()))
    verdicts = effects.get("verdict", pd.Series("", effects.index))
    colours = [_VERDICTS.get(str(verdict), INK) for verdict in verdicts]
    lines = np.arange(len(methods))
    axes.hlines(lines, near.low, near.high, color=colours, linewidth=1.4)
    axes.scatter(near.change, lines, color=colours, s=18, zorder=3)


def _relative(rows: pd.DataFrame, cost: str) -> pd.DataFrame:
    """By method ``change`` of MSE (%) and ``cost`` against uniform, geometric means, best first.

    ``complete`` says whether the method has every task that uniform has.
    """
    costly = rows[(rows.mse > 0) & (rows[cost] > 0)]
    logarithms = costly[["mse", cost]].transform(np.log)
    cells = logarithms.groupby([costly[name] for name in ("method", *TASK)]).mean()
    if "uniform" not in cells.index:
        return pd.DataFrame()
    uniform = cells.loc["uniform"]
    against = uniform.reindex(cells.index.droplevel("method")).set_axis(cells.index)
    ratio = (cells - against).dropna().set_axis(["change", "cost"], axis=1)
    means = ratio.groupby(["method", "dataset"]).mean().groupby("method").mean()
    # Digits that sums of logarithms leave behind must not decide what costs more.
    means = means.transform(np.exp).round(9)
    first = rows.drop_duplicates("method").set_index("method")
    table = means.assign(
        change=100 * (means.change - 1),
        complete=ratio.groupby("method").size() == len(uniform),
        role=pd.Series(_roles(first), first.index),
    )
    return table.sort_values("change", kind="stable")


def _front(axes: Axes, table: pd.DataFrame) -> None:
    """One panel of errors against cost; ``table`` has a line a method, best first."""
    low, high = span(without_far(table.change, _UNIT))
    left, right = min(table.cost.min() / 1.2, 0.5), max(1.2 * table.cost.max(), 2)
    axes.set_xscale("log", base=2)
    axes.set(xlim=(left, right), ylim=(low, high))
    axes.xaxis.set_major_formatter("{x:.3g}")
    axes.minorticks_off()
    axes.axhline(0, color=BAND, linewidth=0.8)
    able = table[table.complete & (table.role == "patcher")].sort_values(["cost", "change"])
    front = able[able.change < able.change.cummin().shift(fill_value=math.inf)]
    axes.step(front.cost, front.change, where="post", color=RULE, linewidth=1.6)
    heights = table.change.clip(low, high).to_numpy()
    edges = [_ROLES[role] for role in table.role]
    faces = [edge if whole else GROUND for edge, whole in zip(edges, table.complete, strict=True)]
    dots: dict[str, Any] = {"s": 26, "zorder": 3, "clip_on": False}
    axes.scatter(table.cost, heights, color=faces, edgecolors=edges, **dots)
    # Names stand beside the panel, each as near to its dot as the others let it.
    places = _apart(heights, (high - low) / max(len(table), 11), high)
    for name, cost, change, height, place in zip(
        table.index, table.cost, table.change, heights, places, strict=True
    ):
        axes.plot([cost, right], [height, place], color=RULE, linewidth=0.5, clip_on=False)
        beyond = "" if height == change else f" {change:+.0f} %"
        axes.text(right, place, f"  {short(name)}{beyond}", va="center")


def _apart(
    heights: Float[np.ndarray, " line"], gap: float, top: float
) -> Float[np.ndarray, " line"]:
    """Rising heights, moved so that they are a gap apart and end at the top at most."""
    steps = gap * np.arange(len(heights))
    raised = np.maximum.accumulate(heights - steps) + steps
    return np.minimum(raised, top - steps[::-1])
