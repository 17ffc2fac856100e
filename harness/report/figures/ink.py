"""What all figures share: two themes, saving, panels, names, and what there is no room for."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex, to_rgba, to_rgba_array
from matplotlib.figure import Figure

from harness.core.files import write_bytes, write_text

# Okabe and Ito's palette: told apart with every common kind of colour blindness, and in grey.
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
GROUND, INK, GREY, RULE, BAND = "#FFFFFF", "#222222", "#7A7A7A", "#9AA8B5", "#E6ECF2"
HUES = (BLUE, ORANGE, GREEN, RED, PURPLE)
DARK = {
    GROUND: "#0D1117",
    INK: "#E6EDF3",
    GREY: "#8B949E",
    RULE: "#5B6875",
    BAND: "#212A35",
    BLUE: "#56B4E9",  # the palette's other blue: this one drowns
    **{hue: hue for hue in HUES[1:]},
}
"""Each colour of the light theme, and what it is in the dark one."""

CONTROLS = {
    "uniform": (INK, "-"),
    "uniform_best": (INK, "--"),
    "random_step": (GREY, "-"),
    "phase_shift": (GREY, "--"),
}
"""Methods that are never left out, with the line that is theirs in every figure."""

WIDTH = 9.0
"""Inches. At the 830 pixels of a README the letters are then 11 pixels high."""
LINES, PANELS, LETTERS = 16, 9, 26
"""The most methods, the most panels and the longest name that stay legible."""
TINY = 8
_DPI = 150
BAR: dict[str, Any] = {"color": INK, "markersize": 11, "markeredgewidth": 1.4}
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.facecolor": GROUND,
    "figure.facecolor": GROUND,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a name is no formula, even with two dollars in it
}
_SAVING = _STYLE | {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "patchbench",  # ids come from here and not from chance
}

styled = mpl.rc_context(_STYLE)
"""Decorates a function that draws; the settings are back as they were when it returns."""


def files(stem: Path) -> list[Path]:
    """What :func:`save` writes: ``stem``.svg and .png, and both as ``stem``-dark."""
    return [
        stem.with_name(f"{stem.name}{theme}.{kind}")
        for theme in ("", "-dark")
        for kind in ("svg", "png")
    ]


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write the :func:`files` of a figure; the same figure, the same bytes."""
    shown, paths = copy.deepcopy(figure), files(stem)
    with mpl.rc_context(_SAVING):
        # One layout for all four files: to find it takes longer than to draw.
        shown.set_dpi(_DPI)
        shown.draw_without_rendering()
        shown.set_layout_engine("none")
        _write(shown, *paths[:2])
        _darken(shown)
        _write(shown, *paths[2:])
    return paths


def remove(stem: Path) -> None:
    """Delete what :func:`save` has written there, if anything."""
    for path in files(stem):
        path.unlink(missing_ok=True)


def _write(figure: Figure, svg: Path, png: Path) -> None:
    # Not savefig, which goes through everything once more to find a layout. Into memory first, so
    # that no file is ever half a picture.
    text, picture = io.StringIO(), io.BytesIO()
    vector: Any = FigureCanvasSVG(figure)
    vector.print_svg(text, metadata={"Date": None, "Creator": None})
    figure.set_dpi(_DPI)  # the other canvas left its own
    pixels: Any = FigureCanvasAgg(figure)
    pixels.print_png(picture, metadata={"Software": None})
    write_text(svg, text.getvalue())
    write_bytes(png, picture.getvalue())


def _darken(figure: Figure) -> None:
    """Every colour of the light theme becomes that of the dark one; opacities stay."""
    dark = {to_hex(colour): to_rgba(other)[:3] for colour, other in DARK.items()}
    parts = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")
    for artist in figure.findobj():
        for part in parts:
            read, write = (getattr(artist, f"{act}_{part}", None) for act in ("get", "set"))
            if read is None or write is None:
                continue
            colours = to_rgba_array(read())
            for colour in colours:
                colour[:3] = dark.get(to_hex(colour), colour[:3])
            if len(colours):
                write(colours if len(colours) > 1 else tuple(colours[0]))


def panels(
    count: int, height: float, *, columns: int = 3, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels of ``height`` inches, line by line.

    Panels that share their x axis have its labels at the last one of each column, which need not
    be in the last line.
    """
    columns = min(count, columns)
    lines = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, height * lines + 0.7))
    grid = figure.subplots(lines, columns, squeeze=False, sharex=sharex, sharey=sharey)
    for number, axes in enumerate(grid.flat):
        if number >= count:
            axes.remove()
        elif sharex:
            axes.tick_params(labelbottom=number + columns >= count)
    return figure, list(grid.flat[:count])


def head(figure: Figure, title: str, keys: Sequence[Any] = ()) -> None:
    """The title and, at the other end of its line, the keys: artists that have a label."""
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    if keys:
        figure.legend(handles=keys, loc="outside upper right", ncols=len(keys))


def keys_of(axes: Axes) -> list[Any]:
    """The artists of a panel that have a label."""
    return list(axes.get_legend_handles_labels()[0])


def foot(figure: Figure, label: str, **left_out: int) -> None:
    """The label of the common x axis, and below it how much there was no room for, by kind."""
    counted = {kind: count for kind, count in left_out.items() if count}
    more = [f"{n} more {kind}{'s' if n > 1 else ''}" for kind, n in counted.items()]
    note = [f"Not shown: {' and '.join(more)}."] if more else []
    figure.supxlabel("\n".join([label, *note]), fontsize=9)


def shown(methods: Sequence[str], most: int = LINES) -> list[str]:
    """The first ``most`` methods, and the controls among the others."""
    return [*methods[:most], *(name for name in methods[most:] if name in CONTROLS)]


def line_styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Lines for the controls, always the same ones, and for as many others as there are hues."""
    others = (name for name in methods if name not in CONTROLS)
    styles = CONTROLS | {name: (hue, "-") for hue, name in zip(HUES, others, strict=False)}
    return {
        name: {"color": styles[name][0], "linestyle": styles[name][1]}
        for name in methods
        if name in styles
    }


def lines_of(axes: Axes, methods: Sequence[str]) -> None:
    """A line a method, the first one on top, with a rule to guide the eye."""
    axes.set_yticks(range(len(methods)), [short(name) for name in methods])
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.grid(axis="y", color=BAND, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)


def at_rims(axes: Axes, values: Iterable[float], form: str) -> None:
    """Values beyond the panel as numbers at its rim, one a line."""
    low, high = axes.get_xlim()
    style: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "fontsize": TINY}
    for line, value in enumerate(values):
        text = form.format(value).replace("-", "\N{MINUS SIGN}")
        if value > high:
            text += " \N{BLACK RIGHT-POINTING SMALL TRIANGLE}"
            axes.text(1, line, text, ha="right", va="center", **style)
        elif value < low:
            text = f"\N{BLACK LEFT-POINTING SMALL TRIANGLE} {text}"
            axes.text(0, line, text, ha="left", va="center", **style)


def view(errors: pd.Series[float]) -> tuple[float, float]:
    """The span of errors but those far above the others: by three quartile ranges."""
    first, third = errors.quantile(0.25), errors.quantile(0.75)
    reach = 3 * (third - first) or math.inf
    return span(errors[errors <= third + reach])


def span(values: pd.Series[float]) -> tuple[float, float]:
    """From the least to the greatest, and a little more to either side."""
    margin = 0.06 * (values.max() - values.min()) or 0.05 * abs(values.max()) or 1.0
    return values.min() - margin, values.max() + margin


def without_far(values: pd.Series[float], unit: float) -> pd.Series[float]:
    """The values of methods, less is better, without those far behind: at most a quarter, or one.

    Far behind is more than five times as far from the best as the next better one, and as five of
    the ``unit``. The best are never left out.
    """
    ordered = values.dropna().sort_values()
    behind = ordered - ordered.min()
    most = max(1, len(ordered) // 4) if len(ordered) > 2 else 0
    for place in range(len(ordered) - most, len(ordered)):
        if behind.iloc[place] > 5 * max(behind.iloc[place - 1], unit):
            return ordered.iloc[:place]
    return ordered


def short(name: str, letters: int = LETTERS) -> str:
    """A name that fits beside its panel."""
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def task_names(rows: pd.DataFrame) -> pd.Series[str]:
    """A name a task that says no more than tells them apart, and fits above its panel."""
    lengths = pd.Series("", rows.index)
    for column, form in (("horizon", " H={}"), ("look_back", " L={}"), ("patches", " K={}")):
        if len(rows[column].unique()) > 1:
            lengths += rows[column].map(form.format)
    room = LETTERS - max(map(len, lengths), default=0)
    return rows.dataset.astype(str).map(lambda name: short(name, max(room, 8))) + lengths


class NothingToDrawError(ValueError):
    """There is nothing of the kind: no figure, and no fault."""


def need(table: pd.DataFrame, *columns: str) -> None:
    """Refuse a table without rows, or without some of the columns."""
    if table.empty:
        raise NothingToDrawError("the table has no rows to draw")
    if absent := [column for column in columns if column not in table]:
        raise ValueError(f"the figure needs the column {', '.join(absent)}")
