"""The panel of instruments: small tables worked out by hand, and no ranking of planted series."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import suite_page
from scipy import stats

from harness import data
from harness.report import panel, tables
from harness.report.board import Board, count
from harness.report.page import page_text
from harness.results.table import read_table


def runs(dataset: str, errors: dict[str, list[float | None]], first: int = 1) -> pd.DataFrame:
    """Rows with failures charged, by method an error a seed; None is a failure charged with 2."""
    return pd.DataFrame(
        {
            "look_back": 96,
            "dataset": dataset,
            "horizon": 24,
            "patches": 12,
            "method": method,
            "seed": seed,
            "mse": 2.0 if mse is None else mse,
            "failed": mse is None,
        }
        for method, own in errors.items()
        for seed, mse in enumerate(own, first)
    )


ENDS: dict[str, list[float | None]] = {"uniform": [1.0, 1.0], "oracle": [0.2, 0.2]}


def reading(rows: pd.DataFrame, method: str = "mine") -> Any:  # noqa: ANN401 - a named tuple of pandas
    """The only line of a method."""
    table = panel.readings(rows)
    [line] = table[table.method == method].itertuples()
    return line


def test_a_share_is_how_far_a_method_goes_from_equal_patches_to_the_true_boundaries() -> None:
    """Run by run, in the same data set and seed; with a t-interval over runs and the worst one."""
    rows = pd.concat(
        [
            runs("ordinal", {"uniform": [1.0, 0.8], "oracle": [0.2, 0.3], "mine": [0.4, 0.4]}),
            runs("ordinal-2", {"uniform": [1.1], "oracle": [0.1], "mine": [0.3]}, first=3),
        ]
    )
    own = [0.6 / 0.8, 0.4 / 0.5, 0.8 / 1.0]
    found = reading(rows)
    assert (found.family, found.runs, found.of, found.failed) == ("ordinal", 3, 3, 0)
    assert found.value == pytest.approx(np.mean(own))
    assert (found.worst, found.mark) == (pytest.approx(0.75), "fail")
    expected = stats.ttest_1samp(own, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert reading(rows, "oracle").value == 1
    assert reading(rows, "uniform").value == 0
    assert {reading(rows, name).mark for name in ("oracle", "uniform")} == {""}


@pytest.mark.parametrize(("family", "share"), [("ordinal", 0.8), ("bursts", 0.4), ("decoys", 0.5)])
def test_a_positive_instrument_is_passed_from_its_share_on(family: str, share: float) -> None:
    """The mean decides: the declared share passes, a hundredth less does not."""
    for closed, mark in ((share + 1e-9, "pass"), (share - 0.01, "fail")):
        error = 1 - 0.8 * closed
        assert reading(runs(family, ENDS | {"mine": [error, error]})).mark == mark


@pytest.mark.parametrize(
    ("dataset", "changes", "mark"),
    [
        ("const", [1.00, 1.01], "fail"),  # its mean lies within the margin, its interval does not
        ("const", [1.01, 1.011], "pass"),
        ("const", [0.97, 0.971], "fail"),
        ("sinus", [1.05, 1.051], "pass"),
        ("sinus", [1.12, 1.121], "fail"),
        ("sinus", [0.96, 0.961], "fail"),  # better than what is best: something is wrong
        ("const", [1.0], "open"),
    ],
)
def test_a_negative_instrument_is_passed_surely_within_its_margin(
    dataset: str, changes: list[float], mark: str
) -> None:
    """The change is the mean of log ratios in percent, the worst run the largest one."""
    own: dict[str, list[float | None]] = {
        "uniform": [0.5 + seed / 10 for seed in range(len(changes))],
        "mine": [(0.5 + seed / 10) * change for seed, change in enumerate(changes)],
    }
    found = reading(runs(dataset, own))
    assert found.value == pytest.approx(100 * (stats.gmean(changes) - 1))
    assert found.worst == pytest.approx(100 * (max(changes) - 1))
    assert found.mark == mark


def test_a_failed_run_fails_and_never_helps() -> None:
    """It counts with its charge; one that nothing is there to charge for leaves no number."""
    found = reading(runs("ordinal", ENDS | {"mine": [0.2, None]}))
    assert (found.value, found.worst, found.failed) == (pytest.approx((1 - 1.25) / 2), -1.25, 1)
    assert found.mark == "fail"
    rows = runs("ordinal", ENDS | {"mine": [0.2, None]})
    found = reading(rows.assign(mse=rows.mse.mask(rows.failed)))
    assert (found.mark, found.runs) == ("fail", 2)
    assert np.isnan(found.value)


def test_a_missing_run_leaves_an_instrument_open() -> None:
    """Which runs there should be is judged data set by data set: each has seeds of its own."""
    second = runs("ordinal-2", ENDS | {"mine": [0.21, 0.45]}, first=5)
    first = runs("ordinal", ENDS | {"mine": [0.25, 0.3]})
    assert reading(pd.concat([first, second])).mark == "pass"
    found = reading(pd.concat([first[:-1], second]))
    assert (found.mark, found.runs, found.of) == ("open", 3, 4)
    # A run that has no partner is none, since what it would have closed is not known.
    lost = runs("ordinal", {**ENDS, "uniform": [1.0, None], "mine": [0.2, 0.2]})
    assert (reading(lost).mark, reading(lost).runs) == ("open", 1)
    assert reading(runs("ordinal", {"mine": [0.2, 0.2], "uniform": [1.0, 1.0]})).mark == "open"


@pytest.mark.parametrize(
    ("error", "mark"), [(0.21, "pass"), (0.7, "fail"), (0.36, "open"), (0.37, "open")]
)
def test_some_runs_are_enough_where_they_leave_no_doubt(error: float, mark: str) -> None:
    """The whole interval is on one side of the share, and each draw of the data has a run."""
    first = runs("ordinal", ENDS | {"mine": [error, error + 0.01]})
    second = runs("ordinal-2", ENDS | {"mine": [error - 0.01, error]}, first=5)
    some = pd.concat([first, second[:-1]])
    found = reading(some)
    assert (found.mark, found.runs, found.of) == (mark, 3, 4)
    assert reading(pd.concat([first, second[:-2]])).mark == "open"


@pytest.mark.parametrize(("change", "mark"), [(1.0, "pass"), (1.3, "fail"), (1.019, "open")])
def test_a_negative_instrument_needs_no_more_runs_where_there_is_no_doubt(
    change: float, mark: str
) -> None:
    """The whole interval lies within the margin, or outside of it."""
    own: dict[str, list[float | None]] = {
        "uniform": [1.0, 1.0, 1.0],
        "mine": [change, change + 0.001],
    }
    found = reading(runs("const", own))
    assert (found.mark, found.runs, found.of) == (mark, 2, 3)


def test_levels_are_no_instrument_and_real_sets_are_not_in_the_panel() -> None:
    """Only families with a threshold are."""
    rows = pd.concat([runs(name, {**ENDS, "mine": [0.2, 0.3]}) for name in ("levels", "ETTh1")])
    assert panel.readings(rows).empty
    assert panel.blocks(panel.readings(rows)) == panel.brief(panel.readings(rows)) == []


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows on five real sets, and on planted ones, where alone the oracle has run."""
    folder = suite_page.write(tmp_path_factory.mktemp("mixed") / "small")
    return suite_page.add_planted(folder)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows on planted sets only."""
    return suite_page.add_planted(tmp_path_factory.mktemp("planted") / "small")


def board(folder: Path) -> Board:
    return count(read_table(folder), "show")


def test_planted_series_never_enter_a_ranking(mixed: Path) -> None:
    """Places, changes, verdicts and costs are those of the real rows alone."""
    whole = board(mixed).ranking
    rows = read_table(mixed)
    alone = count(rows[~rows.dataset.isin(data.planted_names())], "show").ranking
    pd.testing.assert_frame_equal(
        whole[whole.beside != panel.ONLY_PLANTED].reset_index(drop=True), alone, check_dtype=False
    )
    [oracle] = whole[whole.beside == panel.ONLY_PLANTED].itertuples()
    assert (oracle.method, oracle.look_back, oracle.track) == ("oracle", 96, "")


def test_a_suite_of_planted_series_has_a_panel_and_no_ranking(planted: Path) -> None:
    """No place, no mean over families, no verdict, in no format; costs and cells are there."""
    made = board(planted)
    numbers = ["place", "change", "low", "high", "win_rate", "mean_rank", "skill", "p"]
    assert made.ranking[numbers].isna().all(axis=None)
    assert (made.ranking.beside == panel.ONLY_PLANTED).all()
    text = tables.markdown(made)
    assert "## Panel of instruments, look-back 96" in text
    assert (
        "| method | ordinal: share of 0.8 or more, 5 runs | const: change of -2 to +2 %," in text
    )
    for said in ("| place |", "Beside the ranking", "verdict", "The change of MSE is against"):
        assert said not in text
    assert "Cost:" in text
    assert "| ordinal-2 |" in text
    [line] = [line for line in text.splitlines() if line.startswith("| `jumps` | ")][:1]
    assert re.fullmatch(r"\| `jumps` \| pass 0\.9\d \(.* to .*, worst 0\.\d+\) \| fail .*", line)


def test_the_excerpt_shows_who_passes_and_names_everyone_else(planted: Path) -> None:
    """The oracle is in the table as the end of the scale; no method is left out in silence."""
    text = tables.excerpt(planted)
    lines = re.findall(r"^\| `(.+?)` \|", text, re.MULTILINE)
    assert lines == ["oracle", "jumps"]
    rest = next(line for line in text.splitlines() if line.startswith("None of "))
    assert rest.startswith("None of `ordinal` is passed by `")
    assert set(rest.removesuffix(".").partition(" passed by ")[2].split(", ")) == {
        f"`{name}`" for name in board(planted).methods if name not in lines
    }


def test_the_page_shows_the_panel_in_words(planted: Path, mixed: Path) -> None:
    """Marks are words, so they need no colour; where nothing is ranked there is no ranking."""
    text = page_text(planted)
    assert 'class="panel sortable"' in text
    assert '<span class="mark" data-mark="pass">pass</span>' in text
    assert '<span class="mark" data-mark="fail">fail</span>' in text
    assert 'class="ranking sortable"' not in text
    both = page_text(mixed)
    assert both.count('class="panel sortable"') == 1
    assert both.count('class="ranking sortable"') == 2
    ranking = re.findall(r'<table class="ranking.*?</table>', both, re.DOTALL)
    assert not any("method-oracle" in table for table in ranking)
