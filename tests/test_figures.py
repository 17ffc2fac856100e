"""Figures draw what they are given, the same every time, and refuse what they cannot draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from harness import figures

LOOK_BACK, HORIZON = 24, 6


def window(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of several types
    return {
        "values": np.sin(np.arange(LOOK_BACK)).tolist(),
        "starts": [0, 5, 12, 20],
        "true_starts": [4, 12],
        "future": [0.5] * HORIZON,
        "forecast": [0.4] * HORIZON,
        "method": "uniform",
        "dataset": "ordinal",
        "seed": 3,
        **changes,
    }


def lines(axes: Axes) -> dict[str, list[float]]:
    return {str(line.get_label()): list(np.asarray(line.get_xdata())) for line in axes.lines}


def runs() -> pd.DataFrame:
    errors = {"oracle": 0.1, "learned": 0.5, "uniform": 0.6, "seasonal_naive": 2.0}
    return pd.DataFrame(
        {
            "method": method,
            "kind": "reference" if method == "seasonal_naive" else "patcher",
            "ranked": method != "oracle",
            "dataset": dataset,
            "look_back": 96,
            "horizon": 24,
            "patches": 12,
            "seed": seed,
            "status": "done",
            "mse": error + 0.01 * seed,
        }
        for method, error in errors.items()
        for dataset in ("ordinal", "bursts")
        for seed in (1, 2, 3)
    )


def test_an_overlay_shows_patches_truth_future_and_forecast() -> None:
    """Bands are every other patch; rules stand at the starts, marks at the true boundaries."""
    (axes,) = figures.overlay(window()).axes
    bands = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]  # type: ignore[attr-defined]  # rectangles, which the stubs call patches
    assert bands == [(0, 5), (12, 20)]
    rules = [segment[0][0] for segment in axes.collections[0].get_segments()]  # type: ignore[attr-defined]  # a line collection
    assert rules == [5, 12, 20]
    drawn = lines(axes)
    assert drawn["true boundary"] == [4, 12]
    assert drawn["past"] == list(range(LOOK_BACK))
    assert drawn["future"] == drawn["forecast"] == list(range(LOOK_BACK, LOOK_BACK + HORIZON))
    assert axes.get_title("left") == "uniform on ordinal, seed 3, 4 patches"


def test_an_odd_number_of_patches_ends_in_a_band() -> None:
    """The last patch reaches to the end of the look-back."""
    (axes,) = figures.overlay(window(starts=[0, 5, 12])).axes
    last = axes.patches[-1]
    assert last.get_x() + last.get_width() == LOOK_BACK  # type: ignore[attr-defined]  # a rectangle


def test_a_model_without_patches_has_an_overlay_too() -> None:
    """A reference forecaster: lines, no bands, no count of patches."""
    (axes,) = figures.overlay(window(starts=[], true_starts=None)).axes
    assert not axes.patches
    assert "true boundary" not in lines(axes)
    assert axes.get_title("left") == "uniform on ordinal, seed 3"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"starts": [3, 9]}, "starts must rise from 0 to below 24"),
        ({"starts": [0, 9, 9]}, "starts must rise"),
        ({"starts": [0, 24]}, "starts must rise"),
        ({"forecast": [0.4] * 5}, "a forecast of 5 steps for a future of 6"),
    ],
)
def test_an_overlay_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    """A picture of a broken plan would look like a plan."""
    with pytest.raises(ValueError, match=message):
        figures.overlay(window(**changes))


def test_an_overlay_names_what_it_lacks() -> None:
    """An old bundle says which of its parts is missing."""
    data = window()
    del data["future"], data["seed"]
    with pytest.raises(ValueError, match="an overlay needs future, seed"):
        figures.overlay(data)


def test_a_panel_each_shows_where_every_method_cuts_one_window() -> None:
    """Its own boundaries and how many patches they make; the truth and the line in all."""
    cuts = {"uniform": [0, 8, 16], "hnet": [0, 3, 9, 11, 20], "lazy": [0], "patchtst": []}
    figure = figures.gallery([window(method=name, starts=cut) for name, cut in cuts.items()])
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["uniform, 3 patches", "hnet, 5 patches", "lazy, 1 patch", "patchtst"]
    for axes, cut in zip(figure.axes, cuts.values(), strict=True):
        rules = [segment[0][0] for segment in axes.collections[0].get_segments()]  # type: ignore[attr-defined]  # a line collection
        assert rules == cut[1:]
        assert lines(axes) == {"past": list(range(LOOK_BACK)), "true boundary": [4, 12]}
        assert axes.get_xlim() == (0, LOOK_BACK)
    assert len(figure.legends[0].get_texts()) == 2


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("truth", [None, [], [4, 12]])
def test_the_lowest_panels_have_the_clock(
    tmp_path: Path, count: int, truth: list[int] | None
) -> None:
    """The last panel of each column, and no other, has its time steps; an empty truth has room."""
    figure = figures.gallery([window(method=f"m{n}", true_starts=truth) for n in range(count)])
    figures.save(figure, tmp_path / "gallery")  # A figure without room for its panels warns.
    clocks = [
        any(label.get_visible() and label.get_text() for label in axes.get_xticklabels())
        for axes in figure.axes
    ]
    assert clocks == [False, False, False, True, True][-count:]


@pytest.mark.parametrize(
    ("overlays", "message"),
    [
        ([], "no overlay"),
        ([window(), window(method="hnet", values=[0.0] * LOOK_BACK)], "hnet and uniform cut diff"),
        ([window(), window(dataset="bursts")], "cut different windows"),
        ([window(starts=[3])], "starts must rise"),
    ],
)
def test_a_gallery_is_of_one_window(overlays: list[dict[str, Any]], message: str) -> None:
    """Methods are compared on the same values, each with a plan that is one."""
    with pytest.raises(ValueError, match=message):
        figures.gallery(overlays)


def test_errors_order_methods_by_rank_and_show_every_seed() -> None:
    """Three dots a method in each panel, panels share the order, failed runs are left out."""
    table = runs()
    table.loc[len(table)] = table.iloc[0].to_dict() | {
        "seed": 4,
        "status": "failed",
        "mse": np.nan,
    }
    figure = figures.errors(table)
    assert [axes.get_title("left") for axes in figure.axes] == ["ordinal", "bursts"]
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["oracle", "learned", "uniform", "seasonal_naive"]
    for axes in figure.axes:
        dots = [len(group.get_offsets()) for group in axes.collections]  # type: ignore[arg-type]  # offsets are an array
        assert dots == [3, 3, 3, 3]


def test_a_reference_far_off_does_not_squeeze_the_patchers() -> None:
    """It is given as a number at the rim; what the patchers reached fills the panel."""
    axes = figures.errors(runs()).axes[0]
    low, high = axes.get_xlim()
    assert (low < 0.11, 0.63 < high < 0.7) == (True, True)
    assert [text.get_text() for text in axes.texts] == [
        "2.02 \N{BLACK RIGHT-POINTING SMALL TRIANGLE}"
    ]


def test_panels_are_named_by_what_tells_them_apart() -> None:
    """With two horizons, the horizon joins the name of the data set."""
    table = pd.concat([runs(), runs().assign(horizon=48)], ignore_index=True)
    titles = [axes.get_title("left") for axes in figures.errors(table).axes]
    assert titles == ["ordinal H=24", "bursts H=24", "ordinal H=48", "bursts H=48"]


def test_errors_of_nothing_are_refused() -> None:
    """All runs failed: there is no picture of that."""
    with pytest.raises(ValueError, match="no finished run"):
        figures.errors(runs().assign(status="failed"))


def test_a_saved_figure_is_the_same_every_time(tmp_path: Path) -> None:
    """Bit for bit, so that a committed picture changes only with its data."""
    first = figures.save(figures.overlay(window()), tmp_path / "v1.0")
    second = figures.save(figures.overlay(window()), tmp_path / "other")
    assert [path.name for path in first] == ["v1.0.svg", "v1.0.png"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_drawing_leaves_the_settings_of_matplotlib_alone(tmp_path: Path) -> None:
    """Whoever imports the harness keeps their own style."""
    mpl.get_backend()  # Chosen on first use, by whoever asks.
    before = mpl.rcParams.copy()
    figures.save(figures.errors(runs()), tmp_path / "errors")
    assert mpl.rcParams == before
