"""Figures draw what they are given, the same every time, and refuse what they cannot draw."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from harness.report import figures
from harness.report.figures import ink

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


def test_names_of_panels_fit_beside_each_other() -> None:
    """A long name is cut so that horizon and look-back still stand there, whole."""
    names = [f"{letter}{'_very_long_name' * 3}" for letter in "abc"]
    table = pd.concat(
        [
            runs().assign(dataset=name, look_back=look_back, horizon=horizon)
            for name in names
            for look_back, horizon in ((96, 720), (512, 96))
        ],
        ignore_index=True,
    )
    figure = figures.errors(table)
    figure.draw_without_rendering()
    for axes in figure.axes:
        title = axes.get_title("left")
        assert title.endswith(("… H=720 L=96", "… H=96 L=512"))
    boxes = [axes._left_title.get_window_extent() for axes in figure.axes[:3]]  # type: ignore[attr-defined]  # there is no public way to the title on the left
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_a_patcher_far_behind_does_not_squeeze_the_others() -> None:
    """Nor in the panels of errors; of five methods one may be far behind, and two are a scale."""
    table = scored(["a", "b", "c", "d", "e"], tasks=1)
    behind = table.assign(mse=table.mse.where(table.method != "e", 9.0))
    assert figures.errors(behind).axes[0].get_xlim()[1] < 2
    two = behind.assign(mse=behind.mse.where(table.method != "d", 9.0))
    assert figures.errors(two).axes[0].get_xlim()[1] > 9


def test_the_best_is_always_on_the_scale() -> None:
    """However far it is ahead; nobody is far behind where all are alike."""
    assert set(ink.without_far(pd.Series([-97.0, 0, 0.1, 0.2]), 1)) == {-97, 0, 0.1, 0.2}
    assert set(ink.without_far(pd.Series([0, 0.2, 1, 123.0]), 1)) == {0, 0.2, 1}
    assert set(ink.without_far(pd.Series([0, 0, 0, 4.0]), 1)) == {0, 4}
    assert set(ink.without_far(pd.Series([0, 123.0, np.nan]), 1)) == {0, 123}


def test_errors_of_nothing_are_refused() -> None:
    """All runs failed: there is no picture of that."""
    with pytest.raises(ValueError, match="no finished run"):
        figures.errors(runs().assign(status="failed"))


# Every figure, of made-up data


NAMES = ("learned", "uniform", "random_step", "hnet")
TASK = {"dataset": "ordinal", "look_back": 96, "horizon": 24, "patches": 12}


def scored(names: Iterable[str] = NAMES, tasks: int = 2, seeds: int = 2) -> pd.DataFrame:
    """Rows: the error of method n on task t with seed s is (1 + n / 10) (1 + t) (1 + s / 100)."""
    return pd.DataFrame(
        {
            **TASK,
            "dataset": f"set{task}",
            "method": name,
            "kind": "patcher",
            "ranked": True,
            "seed": seed,
            "status": "done",
            "mse": (1 + number / 10) * (1 + task) * (1 + seed / 100),
            "tokens_mean": 12.0 / (1 + number),
            "flops": 1e6 * (1 + number),
        }
        for number, name in enumerate(names)
        for task in range(tasks)
        for seed in range(seeds)
    )


def changed(names: Iterable[str] = NAMES) -> pd.DataFrame:
    """Effects against two controls: method n changes by 2 n - 3 percent."""
    return pd.DataFrame(
        {
            "look_back": 96,
            "method": name,
            "control": control,
            "change": 2.0 * number - 3,
            "low": 2.0 * number - 4,
            "high": 2.0 * number - 2,
            "verdict": ("better", "near-tie", "worse", "too few data sets")[number % 4],
        }
        for control in ("uniform", "random_step")
        for number, name in enumerate(names)
        if name != control
    )


def epochs(names: Iterable[str] = NAMES) -> pd.DataFrame:
    """Validation errors that fall, and rise again in the last of four epochs."""
    runs = scored(names)[["method", "seed", "mse", *TASK]]
    table = runs.merge(pd.DataFrame({"epoch": [1, 2, 3, 4], "by": [2, 1.2, 1, 1.1]}), how="cross")
    return table.assign(valid_mse=table.mse * table.by, train_mse=table.mse / table.epoch)


def plans(names: Iterable[str] = NAMES) -> dict[str, np.ndarray]:
    """Two rows: four equal patches, and a patch that takes all but the last two steps."""
    starts = np.array([[0, 6, 12, 18], [0, 22, -1, -1]], dtype=np.int16)
    return dict.fromkeys(names, starts)


def values() -> np.ndarray:
    return np.sin(np.arange(2 * LOOK_BACK, dtype=np.float32)).reshape(2, LOOK_BACK)


def alike(names: Iterable[str] = NAMES) -> pd.DataFrame:
    """Agreement of each two methods, and of two seeds of each."""
    names = list(names)
    pairs = [(a, b) for place, a in enumerate(names) for b in names[place:]]
    return pd.DataFrame(
        {**TASK, "method_a": a, "method_b": b, "f1_1": 0.9 if a == b else 0.4} for a, b in pairs
    )


def stable(names: Iterable[str] = NAMES) -> pd.DataFrame:
    table = alike(names).query("method_a == method_b").assign(f1_1_chance=0.25)
    return table.rename(columns={"method_a": "method"})


def closed(names: Iterable[str] = NAMES) -> pd.DataFrame:
    return scored(names).assign(closed=0.5).drop_duplicates(["method", "dataset"])


def forecast(method: str) -> dict[str, Any]:
    """A zero-shot forecast of a flat line."""
    return {
        "past": [1.0] * LOOK_BACK,
        "future": [1.0] * HORIZON,
        "levels": [0.1, 0.3, 0.5, 0.7, 0.9],
        "quantiles": [[level] * HORIZON for level in range(5)],
        "starts": [0, 12],
        "method": method,
        "item": method,
        "start": "2020-01-01",
    }


def profile(names: Iterable[str]) -> pd.DataFrame:
    table = pd.DataFrame({"method": [*names, "uniform"]}).merge(
        pd.DataFrame({"at": [1.0, 2.0], "error": [0.5, 0.6], "change": [-1.0, 1.0]}), how="cross"
    )
    return table.assign(panel="fev-bench")


TRIALS = pd.DataFrame(
    {
        "number": [0, 1, 2, 3, 4],
        "value": [0.9, 0.5, np.nan, 0.7, 0.4],
        "state": ["COMPLETE", "COMPLETE", "FAIL", "PRUNED", "complete"],
    }
)
FIGURES: dict[str, Callable[[Iterable[str]], Figure]] = {
    "overlay": lambda names: figures.overlay(window(method=next(iter(names)))),
    "gallery": lambda names: figures.gallery([window(method=name) for name in names]),
    "lengths": lambda names: figures.lengths(plans(names), LOOK_BACK, "ordinal"),
    "density": lambda names: figures.density(plans(names), values(), "ordinal"),
    "agreement": lambda names: figures.agreement(stable(names)),
    "agreement_of_methods": lambda names: figures.agreement_of_methods(alike(names)),
    "bands": lambda names: figures.bands([forecast(name) for name in names], next(iter(names))),
    "profiles": lambda names: figures.profiles(profile(names), "steps", doubling=True),
    "sources": lambda names: figures.sources(
        pd.DataFrame(
            {"corpus": "open", "method": [*names], "family": [*names], "share": 0.9}
        ).assign(tasks=2)
    ),
    "errors": lambda names: figures.errors(scored(names)),
    "critical_difference": lambda names: figures.critical_difference(
        pd.Series({name: 1.5 * place for place, name in enumerate(names)}), [list(names)[:2]]
    ),
    "forest": lambda names: figures.forest(changed(names)),
    "pareto": lambda names: figures.pareto(scored([*names, "uniform"]), "flops"),
    "seed_spread": lambda names: figures.seed_spread(scored(names)),
    "gap_closed": lambda names: figures.gap_closed(closed([*names, "other"])),
    "curves": lambda names: figures.curves(epochs(names)),
    "pretraining": lambda names: figures.pretraining(checks(names)),
    "tuning": lambda names: figures.tuning(TRIALS, dict.fromkeys(names, 0.2)),
    "hindsight": lambda names: figures.hindsight(
        pd.DataFrame(
            {**TASK, "plans": [1, 2], "seed_chosen_on": 1}
            | dict.fromkeys(["mse_chosen", "mse_corrected", "mse_random", "mse_uniform"], 0.5)
        )
    ),
}


def checks(names: Iterable[str]) -> pd.DataFrame:
    """Four checks of a pre-training of each on two corpora; the third is the best."""
    lines = [
        {"corpus": corpus, "method": name, "seed": 1, "step": 200 * check, "valid_loss": loss}
        for corpus in ("open", "drawn")
        for name in names
        for check, loss in enumerate((0.9, 0.5, 0.3, 0.4), 1)
    ]
    return pd.DataFrame(lines)


def texts(figure: Figure) -> list[str]:
    """Everything that is written on a figure, once it is drawn; nothing reaches beyond its rim."""
    figure.draw_without_rendering()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) > -0.02
    return [text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_text()]


def test_every_figure_has_its_example() -> None:
    """What follows is said of all figures, also of those to come."""
    assert FIGURES.keys() == set(figures.__all__) - {
        "NothingToDrawError",
        "files",
        "remove",
        "save",
    }


@pytest.fixture(scope="module", params=FIGURES)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of each figure, drawn of methods with odd names."""
    odd = ["$a_b$", "<b>&amp;</b>", "n" * 80]
    return figures.save(FIGURES[request.param](odd), tmp_path_factory.mktemp("f") / request.param)


def test_a_figure_has_two_themes(saved: list[Path]) -> None:
    """All colours of the light files are of the theme, and none of its own is left in the dark."""
    name = saved[0].stem
    assert [path.name for path in saved] == [
        f"{name}{theme}.{kind}" for theme in ("", "-dark") for kind in ("svg", "png")
    ]
    light, dark = (set(re.findall(r"#[0-9a-f]{6}\b", saved[n].read_text())) for n in (0, 2))
    pixels = [imread(saved[n]) for n in (1, 3)]
    assert {image.shape[1] for image in pixels} == {1350}
    grounds = [tuple(image[0, 0, :3].round(3)) for image in pixels]
    assert grounds == [
        pytest.approx(to_rgb(c), abs=0.01) for c in (ink.GROUND, ink.DARK[ink.GROUND])
    ]
    assert light <= {to_hex(colour) for colour in ink.DARK}
    assert dark == {to_hex(ink.DARK[colour.upper()]) for colour in light}


def test_a_name_is_written_as_it_is(saved: list[Path]) -> None:
    """Dollars make no formula and angles no markup; a name that is too long ends in dots."""
    written = unescape(" ".join(re.findall(r"<text .*?>(.*?)</text>", saved[0].read_text())))
    assert written
    assert "n" * 40 not in written
    if saved[0].stem != "hindsight":  # which show no methods
        assert "$a_b$" in written


@pytest.mark.parametrize("name", FIGURES)
def test_a_single_method_is_a_figure(name: str) -> None:
    """A first method has nobody to be compared with, and still its pictures."""
    assert texts(FIGURES[name](["learned"]))


@pytest.mark.parametrize("name", FIGURES)
def test_a_crowd_is_cut_down_to_what_is_legible(name: str) -> None:
    """Of 60 methods no figure is taller than two pages, controls stay, and the rest is counted."""
    names = [*(f"m{number:02}" for number in range(58)), "uniform", "random_step"]
    figure = FIGURES[name](names)
    written = texts(figure)
    assert figure.get_figheight() < 20
    if name in ("overlay", "hindsight", "tuning"):  # of one method, or of none
        return
    [note] = [text for text in written if "Not shown" in text]
    assert re.search(r"Not shown: \d+ more methods", note)
    assert any("random_step" in text for text in written)


def test_themes_can_be_read() -> None:
    """Text on its ground has the contrast that WCAG asks of the best, and lines can be seen."""

    def contrast(one: str, other: str) -> float:
        channels = np.array([to_rgb(one), to_rgb(other)])
        linear = np.where(
            channels > 0.04045, ((channels + 0.055) / 1.055) ** 2.4, channels / 12.92
        )
        dark, light = sorted(linear @ [0.2126, 0.7152, 0.0722])
        return float((light + 0.05) / (dark + 0.05))

    for themed in (lambda colour: colour, ink.DARK.__getitem__):
        ground = themed(ink.GROUND)
        assert contrast(themed(ink.INK), ground) > 7
        assert min(contrast(themed(hue), ground) for hue in (*ink.HUES, ink.GREY)) > 2
    assert len({ink.DARK[colour] for colour in ink.DARK}) == len(ink.DARK)


def test_a_disk_that_is_full_keeps_no_half_picture(small_disk: Path) -> None:
    """What cannot be written whole is not written; the picture that was there stays."""
    drawn = figures.overlay(window())
    figures.save(drawn, small_disk / "patches")
    before = {path.name: path.read_bytes() for path in small_disk.iterdir()}
    with (small_disk / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4096))
    with pytest.raises(OSError, match="No space"):
        figures.save(drawn, small_disk / "patches")
    (small_disk / "filler").unlink()
    assert {path.name: path.read_bytes() for path in small_disk.iterdir()} == before


def test_a_saved_figure_is_the_same_every_time(tmp_path: Path) -> None:
    """Bit for bit, so that a committed picture changes only with its data."""
    figure = figures.overlay(window())
    first = figures.save(figure, tmp_path / "v1.0")
    again = figures.save(figure, tmp_path / "again")
    second = figures.save(figures.overlay(window()), tmp_path / "other")
    assert [path.name for path in first] == [
        "v1.0.svg",
        "v1.0.png",
        "v1.0-dark.svg",
        "v1.0-dark.png",
    ]
    for one, other, third in zip(first, again, second, strict=True):
        assert one.read_bytes() == other.read_bytes() == third.read_bytes()
    assert "uniform on ordinal, seed 3, 4 patches" in first[0].read_text()


def test_drawing_leaves_the_settings_of_matplotlib_alone(tmp_path: Path) -> None:
    """Whoever imports the harness keeps their own style."""
    mpl.get_backend()  # Chosen on first use, by whoever asks.
    before = mpl.rcParams.copy()
    figures.save(figures.errors(runs()), tmp_path / "errors")
    assert mpl.rcParams == before


# Where patches lie


def test_lengths_count_every_patch_of_every_row() -> None:
    """Four of six steps, one of 22 and one of two; slots that are not used are no patches."""
    figure = figures.lengths({"mine": np.array([[0, 6, 12, 18], [0, 22, -1, -1]])}, 24, "ordinal")
    [axes] = figure.axes
    bars = {
        (bar.get_x() + 0.5, bar.get_x() + bar.get_width() + 0.5): bar.get_height()  # type: ignore[attr-defined]  # rectangles
        for bar in axes.patches
        if bar.get_height()  # type: ignore[attr-defined]  # as above
    }
    assert bars == {
        (2, 3): pytest.approx(100 / 6),
        (5, 7): pytest.approx(400 / 6),
        (20, 27): pytest.approx(100 / 6),
    }
    assert lines(axes)["mean"] == [8, 8]
    assert [text.get_text() for text in axes.texts] == ["longest 22"]


@pytest.mark.parametrize("starts", [[[2, 6]], [[0, 24]], [[-1, -1]]])
def test_lengths_of_no_plan_are_refused(starts: list[list[int]]) -> None:
    """A row without a patch at 0, or with one behind its end, is not cut."""
    with pytest.raises(ValueError, match="start a patch at 0, and none at or after 24"):
        figures.lengths({"mine": np.array(starts)}, 24, "ordinal")


def test_density_is_one_without_a_preference_and_ten_at_the_largest_changes() -> None:
    """Cuts everywhere are indifferent; a tenth of the steps, the largest changes, holds all."""
    row = np.cumsum(np.arange(41, dtype=np.float32))[None]  # step t changes by t
    cuts = {"all": np.arange(41)[None], "largest": np.array([[0, 37, 38, 39, 40]])}
    axes = figures.density(cuts, row, "ordinal").axes[0]
    drawn = {str(line.get_label()): list(np.asarray(line.get_ydata())) for line in axes.lines}
    assert drawn["all"] == [1] * 10
    assert drawn["largest"] == [0] * 9 + [10]


def test_density_of_longer_rows_is_refused() -> None:
    """A plan that starts a patch behind the end of these rows is of others."""
    starts = np.array([[0, LOOK_BACK], [0, -1]])
    with pytest.raises(ValueError, match="are no plans of 2 rows of 24 steps"):
        figures.density({"mine": starts}, values(), "ordinal")


def test_agreement_between_seeds_is_a_mean_over_pairs() -> None:
    """Two pairs of seeds make one number, in brackets what chance gives, the best on top."""
    pairs = [("a", 0.2, 0.1), ("a", 0.4, 0.3), ("b", 1.0, 1.0)]
    table = pd.DataFrame(
        {**TASK, "method": name, "f1_1": f1, "f1_1_chance": chance} for name, f1, chance in pairs
    )
    [axes] = figures.agreement(table).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]
    assert [text.get_text() for text in axes.texts] == ["1 (1)", ".30 (.20)"]


def test_the_lowest_panel_of_each_column_names_its_methods() -> None:
    """Of three panels two stand lowest, the second and the third."""
    table = pd.concat([alike().assign(dataset=name) for name in "abc"], ignore_index=True)
    figure = figures.agreement_of_methods(table)
    named = [bool(axes.xaxis.get_tick_params()["labelbottom"]) for axes in figure.axes]
    assert named == [False, True, True]


def test_the_lowest_curve_is_whole() -> None:
    """First epochs may be above the panel; no error is below it, however good."""
    table = epochs([*NAMES, "oracle"])
    table.loc[table.method == "oracle", "valid_mse"] = 0.001
    for axes in figures.curves(table).axes:
        assert axes.get_ylim()[0] < 0.001


def test_agreement_of_methods_is_the_same_both_ways() -> None:
    """A pair is drawn twice; one that was not compared is left empty."""
    table = alike(["a", "b"]).query("method_a == 'a'")
    [axes] = figures.agreement_of_methods(table).axes
    where = {text.get_position(): text.get_text() for text in axes.texts}
    assert where == {(0, 0): ".90", (1, 0): ".40", (0, 1): ".40"}


# How methods compare


def test_bars_join_what_is_not_told_apart() -> None:
    """Each from its best to its worst member, overlapping ones on levels of their own."""
    ranks = pd.Series({"d": 4.0, "a": 1.0, "c": 2.5, "b": 2.0})
    figure = figures.critical_difference(ranks, [["a", "b"], ["b", "c"], ["d"]])
    [axes] = figure.axes
    bars = [bar.get_segments()[0].tolist() for bar in axes.collections]  # type: ignore[attr-defined]  # line collections
    assert [[x for x, _ in bar] for bar in bars] == [[1.0, 2.0], [2.0, 2.5]]
    assert bars[0][0][1] != bars[1][0][1]
    names = [text.get_text().split() for text in axes.texts]
    assert names == [["a", "1.00"], ["b", "2.00"], ["d", "4.00"], ["c", "2.50"]]


@pytest.mark.parametrize(
    ("ranks", "groups", "message"),
    [
        ({}, [], "no mean rank to draw"),
        ({"a": np.nan}, [], "a mean rank is needed"),
        ({"a": 1.0}, [["a", "z"]], "no mean rank of z"),
    ],
)
def test_ranks_that_make_no_diagram(
    ranks: dict[str, float], groups: list[list[str]], message: str
) -> None:
    """Without a rank there is no place on the axis."""
    with pytest.raises(ValueError, match=message):
        figures.critical_difference(pd.Series(ranks, dtype=float), groups)


def test_a_forest_shows_changes_with_their_intervals_and_verdicts() -> None:
    """By the change against the first control, which stands at 0; colours are verdicts."""
    figure = figures.forest(changed())
    first, second = figure.axes
    names = [label.get_text() for label in first.get_yticklabels()]
    assert names == ["learned", "uniform", "random_step", "hnet"]
    assert first.get_title("left") == "against uniform"
    intervals: Any
    dots: Any
    intervals, dots = first.collections
    # A line without an interval, the control's own, has no points.
    ends = [ends[:, 0].tolist() for ends in intervals.get_segments() if ends.size]
    assert ends == [[-4, -2], [0, 2], [2, 4]]
    assert dots.get_offsets()[:, 0].compressed().tolist() == [-3, 1, 3]
    better, *_, tie = (to_hex(colour) for colour in dots.get_facecolor())
    assert (better, tie) == (to_hex(ink.BLUE), to_hex(ink.INK))
    assert "against random_step" in second.get_title("left")


def test_a_method_far_off_does_not_squeeze_the_forest() -> None:
    """It is a number at the rim, and its interval, which would cross it, is left out."""
    table = changed([*NAMES, "crashed", "a", "b", "c", "d"])
    table.loc[table.method == "crashed", ["change", "low", "high"]] = (900.0, 800.0, 1000.0)
    axes = figures.forest(table).axes[0]
    assert axes.get_xlim()[1] < 50
    intervals: Any = axes.collections[0]
    assert max(ends[:, 0].max() for ends in intervals.get_segments() if ends.size) < 50
    assert [text.get_text() for text in axes.texts] == [
        "+900 \N{BLACK RIGHT-POINTING SMALL TRIANGLE}"
    ]


def test_titles_of_the_forest_stand_apart() -> None:
    """Four controls and two look-backs: the look-back is said once a line, at its side."""
    controls = ("uniform", "uniform_best", "random_step", "phase_shift")
    effects = pd.concat(
        [
            changed().query("control == 'uniform'").assign(control=control, look_back=look_back)
            for look_back in (96, 512)
            for control in controls
        ]
    )
    figure = figures.forest(effects)
    assert "look-back 512" in texts(figure)
    assert [axes.get_title("left") for axes in figure.axes] == [
        *(f"against {control}" for control in controls),
        *[""] * 4,
    ]
    boxes = [axes._left_title.get_window_extent() for axes in figure.axes[:4]]  # type: ignore[attr-defined]  # as above
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_a_forest_without_intervals_is_dots() -> None:
    """One data set has a change and no interval, and none is spoken of."""
    figure = figures.forest(changed().assign(low=np.nan, high=np.nan))
    assert "change of MSE, %; lower is better" in texts(figure)
    axes = figure.axes[0]
    dots: Any = axes.collections[1]
    assert np.ma.count(dots.get_offsets()) == 2 * 3


def front(axes: Axes) -> list[tuple[float, float]]:
    [line] = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
    return list(zip(*(np.asarray(data).tolist() for data in line.get_data()), strict=True))


def test_the_front_is_what_no_other_method_beats_at_its_cost() -> None:
    """Relative to uniform, cell by cell; not references, oracles and methods with holes."""
    rows = scored(["hole", "oracle", "dlinear", "cheap", "dear", "uniform"], tasks=2)
    rows["ranked"] = rows.method != "oracle"
    rows["kind"] = np.where(rows.method == "dlinear", "reference", "patcher")
    rows = rows[(rows.method != "hole") | (rows.dataset == "set0")]
    rows["flops"] = rows.flops.where(rows.method != "dear", 9e6)
    [axes] = figures.pareto(rows, "flops").axes
    [point] = front(axes)
    assert point == pytest.approx((4 / 6, 100 * (1.3 / 1.5 - 1)))
    names = [text.get_text().strip() for text in axes.texts]
    assert names == ["hole", "oracle", "dlinear", "cheap", "dear", "uniform"]
    dots: Any
    [dots] = axes.collections
    hollow = [to_hex(face) == to_hex(ink.GROUND) for face in dots.get_facecolor()]
    assert hollow == [True, False, False, False, False, False]


def test_a_dearer_method_on_the_front_is_better() -> None:
    """The front falls: what costs more has to be worth it."""
    rows = scored(["best", "good", "uniform", "lazy"])
    rows["tokens_mean"] = rows.method.map({"best": 24, "good": 18, "uniform": 12, "lazy": 6})
    [axes] = figures.pareto(rows).axes
    costs, changes = zip(*front(axes), strict=True)
    assert costs == (0.5, 1, 1.5, 2)
    assert list(changes) == sorted(changes, reverse=True)
    assert changes[1] == 0


def test_names_beside_the_front_do_not_overlap() -> None:
    """Thirty methods in three crowds: names stand apart, in order and inside of the figure."""
    rows = scored([f"m{number:02}" for number in range(29)] + ["uniform"])
    rows["mse"] = 1 + rows.mse.round() / 10 + rows.mse / 1000
    figure = figures.pareto(rows)
    figure.draw_without_rendering()
    [axes] = figure.axes
    boxes = sorted((text.get_window_extent() for text in axes.texts), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(boxes))
    assert boxes[-1].y1 <= figure.bbox.y1
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_free_forecasts_have_no_ratio_of_costs() -> None:
    """The naive ones cost no FLOPs, and a logarithm of nothing is drawn nowhere."""
    rows = scored()
    rows["flops"] = rows.flops.where(rows.method != "hnet", 0.0)
    [axes] = figures.pareto(rows, "flops").axes
    assert "hnet" not in " ".join(text.get_text() for text in axes.texts)


def test_a_figure_that_is_there_no_more_leaves_no_file(tmp_path: Path) -> None:
    """All four are deleted, and no other; to delete what is not there is no error."""
    figures.save(figures.overlay(window()), tmp_path / "ranks")
    figures.save(figures.overlay(window()), tmp_path / "ranks-96")
    figures.remove(tmp_path / "ranks")
    figures.remove(tmp_path / "ranks")
    assert {path.name.partition(".")[0] for path in tmp_path.iterdir()} == {
        "ranks-96",
        "ranks-96-dark",
    }


def test_where_all_cost_the_same_there_is_no_front() -> None:
    """Strict methods all have K tokens: error against tokens would be one upright line."""
    with pytest.raises(figures.NothingToDrawError, match="the same for every method"):
        figures.pareto(scored().assign(tokens_mean=12.0))


def test_costs_are_held_against_uniform() -> None:
    """Without it there is nothing to be relative to."""
    with pytest.raises(ValueError, match="held against those of uniform"):
        figures.pareto(scored(["learned"]))


def test_the_spread_over_seeds_is_that_of_logarithms() -> None:
    """Three seeds 1 % apart; a method without chance stands at the rim; one seed is no spread."""
    table = scored(["learned", "uniform"], tasks=1, seeds=3)
    table.loc[table.method == "uniform", "mse"] = 1.0
    axes = figures.seed_spread(table).axes[0]
    dots, bars = axes.lines
    spread = 100 * np.expm1(np.std(np.log([1, 1.01, 1.02]), ddof=1))
    low = axes.get_xlim()[0]
    assert np.asarray(dots.get_xdata()).tolist() == [pytest.approx(spread), pytest.approx(low)]
    assert np.asarray(bars.get_xdata()).tolist() == [pytest.approx(low), pytest.approx(spread)]
    with pytest.raises(ValueError, match="no two finished seeds"):
        figures.seed_spread(table[table.seed == 1])


def test_a_gap_that_is_not_there_cannot_be_closed() -> None:
    """Data sets without a gap have no panel; with none at all there is no figure."""
    table = closed(["learned", "uniform", "oracle"])
    table["closed"] = table.closed.where(table.dataset == "set1")
    [axes] = figures.gap_closed(table).axes
    assert axes.get_title("left") == "set1"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["learned"]
    with pytest.raises(ValueError, match="no data set"):
        figures.gap_closed(table.assign(closed=np.nan))


# What went on before


@pytest.mark.parametrize(("error", "kept"), [("valid_mse", 1.0), ("train_mse", 1 / 3)])
def test_a_dot_marks_the_epoch_whose_weights_are_kept(error: Any, kept: float) -> None:  # noqa: ANN401 - a literal
    """That of the least validation error, whichever error is drawn; a line a seed."""
    axes = figures.curves(epochs(["uniform"]), error).axes[0]
    runs, dots = axes.lines[::2], axes.lines[1::2]
    assert [list(np.asarray(run.get_xdata())) for run in runs] == [[1, 2, 3, 4]] * 2
    assert [np.asarray(dot.get_data()).ravel().tolist() for dot in dots] == [
        [3, pytest.approx(kept)],
        [3, pytest.approx(1.01 * kept)],
    ]


def test_a_pre_training_is_a_line_on_its_corpus() -> None:
    """By steps, with a dot at the check that is kept."""
    figure = figures.pretraining(checks(["uniform"]))
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == [
        "open",
        "drawn",
    ]
    run, dot = figure.axes[1].lines
    assert np.asarray(run.get_data()).tolist() == [[200, 400, 600, 800], [0.9, 0.5, 0.3, 0.4]]
    assert np.asarray(dot.get_data()).ravel().tolist() == [600, 0.3]


def test_a_run_that_is_there_twice_is_refused() -> None:
    """Its line would go back and forth."""
    with pytest.raises(ValueError, match="an epoch of a run is there twice"):
        figures.curves(pd.concat([epochs(), epochs()]))


def test_a_search_shows_every_trial_and_the_best_so_far() -> None:
    """Pruned and failed ones too, which are never the best, and one that still runs."""
    running = pd.DataFrame({"number": [5], "value": [np.nan], "state": ["RUNNING"]})
    axes, beside = figures.tuning(pd.concat([TRIALS, running]), {"rate": 0.7, "size": 0.3}).axes
    drawn = {str(line.get_label()): line for line in axes.lines}
    best = drawn["best so far"]
    assert np.asarray(best.get_data()).tolist() == [[0, 1, 4], [0.9, 0.5, 0.4]]
    assert {"complete, 3", "pruned, 1", "fail, 1", "running, 1"} < drawn.keys()
    at_rim = [line for line in axes.lines if list(np.asarray(line.get_ydata())) == [0]]
    assert [list(np.asarray(line.get_xdata())) for line in at_rim] == [[2], [5]]
    assert [label.get_text() for label in beside.get_yticklabels()] == ["size", "rate"]


def test_a_search_in_which_nothing_finished_is_drawn() -> None:
    """Marks on the rim, no best, no importances."""
    [axes] = figures.tuning(TRIALS.assign(value=np.nan, state="FAIL"), {}).axes
    assert axes.lines


@pytest.mark.parametrize(
    ("draw", "table", "column"),
    [
        (figures.forest, changed(), "low"),
        (figures.pareto, scored(), "tokens_mean"),
        (figures.seed_spread, scored(), "status"),
        (figures.gap_closed, closed(), "closed"),
        (figures.curves, epochs(), "valid_mse"),
        (figures.agreement, stable(), "f1_1"),
        (figures.agreement_of_methods, alike(), "method_b"),
    ],
)
def test_a_table_that_lacks_something_is_refused(
    draw: Callable[[pd.DataFrame], Figure], table: pd.DataFrame, column: str
) -> None:
    """The message names the column; a table without rows says so."""
    with pytest.raises(ValueError, match=f"needs the column {column}"):
        draw(table.drop(columns=column))
    with pytest.raises(ValueError, match="no rows to draw"):
        draw(table.iloc[:0])
