"""What went on before a result: epochs, trials, and plans chosen in hindsight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from harness.report.figures.ink import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PANELS,
    RED,
    WIDTH,
    NothingToDrawError,
    foot,
    line_styles,
    need,
    panels,
    short,
    styled,
    task_names,
    view,
)
from harness.results.table import TASK

_STATES = {"complete": (BLUE, "o"), "pruned": (ORANGE, "v"), "fail": (RED, "x")}


@styled
def curves(table: pd.DataFrame, error: Literal["valid_mse", "train_mse"] = "valid_mse") -> Figure:
    """Error by epoch: a panel a task, a line a seed, a dot where ``valid_mse`` is least.

    That is the epoch whose weights are kept. ``table`` has a line an epoch: the columns of the
    task, ``method``, ``seed``, ``epoch``, ``valid_mse`` and the ``error`` asked for. Errors far
    above the others, which are those of first epochs, are beyond the panel.

    Raises:
        ValueError: no epoch to draw, one that is there twice, or a column is missing.
    """
    need(table, *TASK, "method", "seed", "epoch", "valid_mse", error)
    table = table.dropna(subset=["valid_mse", error])
    if table.empty:
        raise NothingToDrawError(f"no epoch with valid_mse and {error} to draw")
    if table.duplicated([*TASK, "method", "seed", "epoch"]).any():
        raise ValueError("an epoch of a run is there twice: choose one run a seed")
    table = table.assign(panel=task_names(table), least=table.valid_mse)
    what = {"valid_mse": "validation", "train_mse": "training"}[error]
    figure = _lines(table, "epoch", error)
    figure.supylabel(f"{what} MSE", fontsize=9)
    return figure


@styled
def pretraining(table: pd.DataFrame) -> Figure:
    """Validation loss by step: a panel a corpus, a line a seed, a dot where it is least.

    ``table`` has a line a check: ``corpus``, ``method``, ``seed``, ``step``, ``valid_loss``.

    Raises:
        ValueError: no check to draw, or a column is missing.
    """
    need(table, "corpus", "method", "seed", "step", "valid_loss")
    if table.empty:
        raise NothingToDrawError("no check of a pre-training to draw")
    table = table.assign(panel=table.corpus, least=table.valid_loss)
    figure = _lines(table, "step", "valid_loss")
    figure.supylabel("validation loss", fontsize=9)
    return figure


def _lines(table: pd.DataFrame, time: str, error: str) -> Figure:
    """``error`` by ``time``, a picture a ``panel``, a line a seed; a dot where ``least`` is so."""
    least = table.groupby(["panel", "method", "seed"]).least.min()
    ranks = least.groupby(["panel", "method"]).mean().groupby("panel").rank()
    everyone = ranks.groupby("method").mean().sort_values(kind="stable")
    styles = line_styles(list(everyone.index))
    names = list(dict.fromkeys(table.panel))
    figure, grid = panels(min(len(names), PANELS), 2.6)
    for axes, name in zip(grid, names[:PANELS], strict=True):
        own = table[(table.panel == name) & table.method.isin(list(styles))].sort_values(time)
        for (method, _), run in own.groupby(["method", "seed"]):
            style = styles[str(method)]
            axes.plot(run[time], run[error], linewidth=1, alpha=0.8, **style)
            kept = run.loc[run.least.idxmin()]
            axes.plot(kept[time], kept[error], "o", markersize=3.5, color=style["color"])
        if len(own):
            axes.set_ylim(*view(own[error]))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(name)
    left_out = {"method": len(everyone) - len(styles), "panel": len(names) - len(grid)}
    foot(figure, f"{time}; the dot is the one whose weights are kept", **left_out)
    keys = [Line2D([], [], label=short(method), **style) for method, style in styles.items()]
    figure.legend(handles=keys, loc="outside upper left", ncols=4)
    return figure


@styled
def tuning(trials: pd.DataFrame, importances: Mapping[str, float]) -> Figure:
    """A search: what each trial reached and the best so far, beside what each parameter decided.

    ``trials`` has ``number``, ``value`` (validation MSE) and ``state``, as Optuna names it; one
    without a value is marked on the lower rim. Without ``importances`` there is one panel.

    Raises:
        ValueError: no trial, or a column is missing.
    """
    need(trials, "number", "value", "state")
    trials = trials.assign(
        value=trials.value.astype(float), state=trials.state.str.lower()
    ).sort_values("number")
    figure = Figure(figsize=(WIDTH, max(2.8, 0.22 * len(importances) + 1.2)))
    axes, *beside = figure.subplots(1, 2 if importances else 1, squeeze=False)[0]
    for state, own in trials.groupby("state"):
        colour, marker = _STATES.get(str(state), (GREY, "s"))
        style: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": ""}
        axes.plot(own.number, own.value, label=f"{state}, {len(own)}", **style)
        unknown = own.number[own.value.isna()]
        if len(unknown):  # an empty line outside of its axes would have no place in the layout
            rim = {"transform": axes.get_xaxis_transform(), "clip_on": False}
            axes.plot(unknown, [0] * len(unknown), **rim, **style)
    finished = trials[(trials.state == "complete") & trials.value.notna()]
    best = finished.value.cummin()
    axes.step(finished.number, best, where="post", color=INK, label="best so far")
    if trials.value.notna().any():
        axes.set_ylim(*view(trials.value.dropna()))
    axes.set(xlabel="trial", ylabel="validation MSE")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper left", ncols=5)
    for panel in beside:
        names = sorted(importances, key=lambda name: (importances[name], name))
        panel.barh(
            [short(name) for name in names], [importances[name] for name in names], 0.5, color=BLUE
        )
        panel.set(xlabel="importance", xlim=(0, 1))
        panel.tick_params(axis="y", length=0)
    return figure


@styled
def hindsight(table: pd.DataFrame) -> Figure:
    """Errors of the best of M random plans against M: a panel a task, a thin line a pair of seeds.

    ``table`` as :func:`harness.studies.hindsight.measure` gives it. Thick lines are means over
    the pairs.
    """
    table = table.assign(task=task_names(table))
    tasks = list(dict.fromkeys(table.task))
    means = {
        "mse_chosen": (ORANGE, "best of M on the backbone that chose it"),
        "mse_corrected": (BLUE, "the same plan on another backbone"),
        "mse_random": (INK, "mean of M random plans"),
    }
    figure, grid = panels(min(len(tasks), PANELS), 2.6)
    for axes, task in zip(grid, tasks[:PANELS], strict=True):
        own = table[table.task == task]
        for column, (colour, _) in means.items():
            pairs = own.pivot_table(column, "plans", "seed_chosen_on")
            axes.plot(pairs, color=colour, linewidth=0.6, alpha=0.4)
            axes.plot(pairs.mean(axis=1), color=colour, linewidth=1.6)
        if own.mse_uniform.notna().all():
            axes.axhline(own.mse_uniform.mean(), color=GREEN, linewidth=1.2, linestyle="--")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_title(task)
    foot(figure, "random plans to choose from, M", task=len(tasks) - len(grid))
    figure.supylabel("MSE, lower is better", fontsize=9)
    keys = [Line2D([], [], color=colour, label=label) for colour, label in means.values()]
    keys.append(Line2D([], [], color=GREEN, linestyle="--", label="uniform"))
    figure.legend(handles=keys, loc="outside upper left", ncols=2)
    return figure
