"""The page of a zero-shot suite: whole, the same each time, and drawn from what is at hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_zero_shot as small
from matplotlib.axes import Axes
from small_zero_shot import FEW
from test_site import Html

from harness.core.job import Record
from harness.report import figures, kinds
from harness.report.page import PAGE
from harness.report.tables import MADE
from harness.report.zero_shot.board import Board
from harness.report.zero_shot.page import page_text
from harness.report.zero_shot.rows import read
from harness.results.bundles import read_bundle
from harness.results.rows import read_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite with all of its bundles, and what is made of them."""
    place = tmp_path_factory.mktemp("results")
    folder = small.write(place / "zero_shot", seeds=1, runs=place / "runs")
    kinds.write(folder, about="Tasks <of> others.")
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Html:
    return Html((folder / MADE / PAGE).read_text(encoding="utf-8"))


def test_the_page_holds_all_that_it_shows(page: Html) -> None:
    """Nothing is loaded from elsewhere, and the policy says so."""
    loaded = [own["src"] for own, _ in page.of("img")]
    assert loaded
    assert all(address.startswith("data:image/svg+xml,") for address in loaded)
    [policy] = [own["content"] for own, _ in page.of("meta") if "http-equiv" in own]
    assert "default-src 'none'" in policy
    assert "Tasks <of> others." in [text for _, text in page.of("p")]


def test_each_task_has_a_picture_of_its_forecast(page: Html) -> None:
    """In both themes, under its benchmark."""
    titles = [text for _, text in page.of("strong") if text.startswith("Forecast: ")]
    assert len(titles) == len(FEW)
    files = [own["href"] for own, _ in page.of("a") if own["href"].startswith("forecast-")]
    assert sorted(files) == sorted(f"forecast-{name.replace('/', '.')}.svg" for name in FEW)
    assert "3 of 3 tasks have a picture." in [text for _, text in page.of("p")]


def test_without_bundles_the_page_says_so(tmp_path: Path) -> None:
    """Rows are enough for a page; what is not at hand is no fault."""
    folder = small.write(tmp_path / "zero_shot", seeds=1)
    *_, path = kinds.write(folder)
    page = Html(path.read_text(encoding="utf-8"))
    [said] = [text for _, text in page.of("p") if text.startswith("0 of 3 tasks have a picture")]
    assert said
    drawn = {path.name for path in (folder / MADE).glob("*.svg")}
    assert drawn == {"sources.svg", "sources-dark.svg"}


def test_pictures_that_lack_their_bundles_stay(folder: Path) -> None:
    """On a machine without the bundles, the pictures that lie there are not poorer."""
    before = {path: path.read_bytes() for path in (folder / MADE).glob("*.svg")}
    away = folder.parent / "away"
    (folder.parent / "runs").rename(away)
    try:
        kinds.write(folder, about="Tasks <of> others.")
    finally:
        away.rename(folder.parent / "runs")
    assert before == {path: path.read_bytes() for path in (folder / MADE).glob("*.svg")}


def test_the_same_rows_and_pictures_give_the_same_page(folder: Path) -> None:
    """To the byte, and without a path of this machine."""
    board = Board(read(folder))
    text = page_text(board, folder.name, folder / MADE, "Tasks <of> others.")
    assert text == (folder / MADE / PAGE).read_text(encoding="utf-8")
    assert str(folder.parent) not in text


def test_tables_stand_side_by_side(page: Html) -> None:
    """Each corpus is a group of columns above the numbers of all patchers."""
    groups = [own for own, _ in page.of("th") if own.get("scope") == "colgroup"]
    assert len(groups) == 2 * 4
    assert {own["colspan"] for own in groups} == {"6"}
    text = " ".join(page.texts)
    for patcher in small.LEVEL:
        assert patcher in text


# Figures


def overlays(folder: Path, name: str) -> list[dict[str, Any]]:
    """What the runs on a task left, of equal patches and of learned ones."""
    found: list[dict[str, Any]] = []
    for method in ("uniform", "straight_through"):
        rows: list[Record] = read_rows(folder / f"{method}.csv")
        [key] = [
            row.key
            for row in rows
            if (row.dataset, row.corpus) == (name.replace("/", "."), "open")
        ]
        bundle = read_bundle(folder.parent / "runs" / key)
        assert bundle.overlay is not None
        found.append(bundle.overlay)
    return found


def edges(axes: Axes) -> list[tuple[float, float]]:
    """Where the shaded patches of a panel lie."""
    rectangles: Any = axes.patches
    return [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in rectangles]


def test_a_forecast_shows_bands_median_truth_and_patches(folder: Path) -> None:
    """Every other patch of the past that is shown is shaded, and the median begins at 0."""
    uniform, learned = figures.bands(overlays(folder, FEW[1]), FEW[1]).axes
    shown = 72  # three horizons of 24 steps
    assert uniform.get_xlim() == (-shown, 23)
    assert edges(uniform) == [(-64.0, -48.0), (-32.0, -16.0)]
    assert next(high - low for low, high in edges(learned)) == 12
    lines = {str(line.get_label()): list(np.asarray(line.get_xdata())) for line in uniform.lines}
    assert lines["median"] == lines["truth"] == list(range(24))
    assert lines["past"] == list(range(-shown, 0))
    bands = [str(band.get_label()) for band in uniform.collections]
    assert {"10\N{EN DASH}90 %", "30\N{EN DASH}70 %"} <= set(bands)


def test_panels_of_different_cases_have_scales_of_their_own(folder: Path) -> None:
    """Patchers may show different items, whose values have nothing in common."""
    one, other = overlays(folder, FEW[0])
    alike = figures.bands([one, other], "same").axes
    assert alike[0].get_ylim() == alike[1].get_ylim()
    far = {name: (np.array(one[name]) + 1000).tolist() for name in ("past", "future", "quantiles")}
    apart = figures.bands([one, {**other, **far, "item": "another"}], "other").axes
    assert apart[0].get_ylim()[1] < apart[1].get_ylim()[0]


def test_missing_values_of_a_series_are_gaps(folder: Path) -> None:
    """JSON has None for them."""
    [one, _] = overlays(folder, FEW[0])
    axes = figures.bands([{**one, "past": [None, *one["past"][1:]]}], "gap").axes
    assert len(axes) == 1


def test_a_forecast_of_another_length_is_refused(folder: Path) -> None:
    """It would be drawn beside a truth that is not its own."""
    [one, _] = overlays(folder, FEW[0])
    with pytest.raises(ValueError, match="uniform: forecasts are not as long as the future"):
        figures.bands([{**one, "future": one["future"][1:]}], "short")


def test_errors_along_an_axis_stand_above_changes() -> None:
    """Equal patches have errors and no change against themselves."""
    table = pd.DataFrame(
        {
            "panel": "fev-bench",
            "method": ["uniform", "uniform", "soft", "soft"],
            "at": [10.0, 20.0, 10.0, 20.0],
            "error": [1.0, 2.0, 0.9, 1.9],
            "change": [0.0, 0.0, -10.0, -5.0],
        }
    )
    above, below = figures.profiles(table, "steps").axes
    assert [list(np.asarray(line.get_ydata())) for line in above.lines] == [[1, 2], [0.9, 1.9]]
    _, soft = below.lines
    assert list(np.asarray(soft.get_ydata())) == [-10, -5]


def test_errors_by_step_have_a_panel_for_each_benchmark(folder: Path) -> None:
    """A panel a benchmark, in their own order."""
    text = (folder / MADE / "steps-open.svg").read_text(encoding="utf-8")
    assert [*re.findall(r">(fev-bench|chronos-II|gift-eval)<", text)] == [
        "fev-bench",
        "chronos-II",
        "gift-eval",
    ]


def test_sources_with_many_tasks_stand_above() -> None:
    """A line a source, a dot a patcher, a rule at the seasonal naive."""
    table = pd.DataFrame(
        {
            "corpus": "open",
            "method": ["uniform", "uniform", "soft", "soft"],
            "family": ["m4", "ett"] * 2,
            "tasks": [1, 22] * 2,
            "share": [0.9, 0.8, 0.7, 1.1],
        }
    )
    [axes] = figures.sources(table).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ett (22)", "m4 (1)"]
    rule, uniform, soft = axes.lines
    assert list(np.asarray(rule.get_xdata())) == [1, 1]
    assert list(np.asarray(uniform.get_ydata())) == list(np.asarray(soft.get_ydata())) == [1, 0]
