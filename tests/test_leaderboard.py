"""The leaderboard is a function of rows: small tables, worked out by hand."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.report import board, excerpts, tables
from harness.report.statistics import CONTROLS, NOT_JUDGED, TOO_FEW, VERDICTS
from harness.results.table import METRICS, MORE_CHOICES, Holes, read_table, selected
from harness.run import metrics
from harness.studies import scale

Row = dict[str, Any]


def row(method: str, mse: float | None, **changes: object) -> Row:
    """A record of ``method``; without an error it is one that failed."""
    return {
        "suite": "tiny",
        "method": method,
        "kind": "reference" if method == "seasonal_naive" else "patcher",
        "ranked": method != "seasonal_naive",
        "strict": None if method == "seasonal_naive" else True,
        "rules": None if method == "seasonal_naive" else "best",
        "dataset": "ETTh1",
        "look_back": 512,
        "horizon": 96,
        "patches": 42,
        "season": 24,
        "seed": 1,
        "status": "failed" if mse is None else "done",
        **dict.fromkeys(METRICS, mse),
        "tokens_mean": 42.0,
        "parameters": 1000,
        "train_seconds": 2.0,
        "valid_mse": mse,
        "hyperparameters": "{}",
        "job": '{"hyperparameters":{}}',
        "step": math.nan,
        "device": "cpu",
        "protocol": "1",
        "data_hash": "abc",
        "data_verified": True,
        "key": f"{method}-{changes}",
        **changes,
    }


def trial(patch: int, valid: float | None, test: float | None = 1.0, **changes: object) -> Row:
    """A record of ``uniform_best`` at one length; without a validation error one that failed."""
    job = json.dumps({"hyperparameters": {"patch": patch, "same": True}})
    test = None if valid is None else test
    size = {"tokens_mean": 512.0 // patch, "hyperparameters": job}
    return row("uniform_best", test, valid_mse=valid, job=job, **size, **changes)


def save(folder: Path, *rows: Row) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for method, own in pd.DataFrame(rows).groupby("method", sort=False):
        own.to_csv(folder / f"{method}.csv", index=False)
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., pd.DataFrame]:
    return lambda *rows: read_table(save(tmp_path / "tiny", *rows))


def ranking(rows: pd.DataFrame, holes: Holes = "refuse") -> pd.DataFrame:
    return board.count(rows, holes).ranking


def cells(rows: pd.DataFrame, holes: Holes = "refuse") -> pd.DataFrame:
    return board.count(rows, holes).cells


def markdown(rows: pd.DataFrame, holes: Holes = "refuse") -> str:
    return tables.markdown(board.count(rows, holes))


def by_method(lines: pd.DataFrame) -> dict[str, Any]:
    return {str(line.method): line for line in lines.itertuples()}


TWO_SETS = [
    row("seasonal_naive", 1.0),
    row("seasonal_naive", 4.0, dataset="weather"),
    row("uniform", 0.5),
    row("uniform", 2.0, dataset="weather"),
    row("learned", 0.25),
    row("learned", 3.0, dataset="weather"),
]

Table = Callable[..., pd.DataFrame]


def test_the_metrics_are_those_the_harness_measures() -> None:
    """The leaderboard does not import torch, so it repeats the names; this holds them together."""
    assert list(metrics.METRICS) == METRICS
    assert metrics.METRICS["mse"].lower_is_better


def test_importing_the_leaderboard_leaves_torch_alone() -> None:
    """A ranking needs a table, not a tensor library."""
    code = "import sys, harness.report.tables; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_ranking_by_hand(table: Table) -> None:
    """Skill, change, interval, wins and rank of two methods on two data sets, on paper."""
    lines = by_method(ranking(table(*TWO_SETS)))
    assert lines["uniform"].skill == pytest.approx(0.5)
    assert lines["learned"].skill == pytest.approx(1 - math.sqrt(0.25 * 0.75))
    assert lines["learned"].change == pytest.approx(100 * (math.sqrt(0.5 * 1.5) - 1))
    assert lines["uniform"].change == 0
    assert lines["learned"].low < -50 < 50 < lines["learned"].high
    assert lines["learned"].win_rate == 0.5
    assert (lines["learned"].verdict, lines["uniform"].verdict) == (TOO_FEW, NOT_JUDGED)
    assert set(ranking(table(*TWO_SETS)).reference) == {"uniform"}
    assert lines["uniform"].mean_rank == lines["learned"].mean_rank == 1.5
    # The same rank: the change decides.
    assert (lines["learned"].place, lines["uniform"].place) == (1, 2)
    assert lines["seasonal_naive"].place is pd.NA
    assert lines["seasonal_naive"].skill == pytest.approx(0)


def test_a_data_set_with_many_horizons_has_one_voice(table: Table) -> None:
    """A change is averaged in a data set first: 2 and 8 times there, a quarter elsewhere, is 0."""
    cells = [("ETTh1", 96, 2.0), ("ETTh1", 192, 8.0), ("weather", 96, 0.25)]
    rows = [
        row(method, mse, dataset=dataset, horizon=horizon)
        for dataset, horizon, learned in cells
        for method, mse in (("uniform", 1.0), ("learned", learned))
    ]
    assert by_method(ranking(table(*rows)))["learned"].change == pytest.approx(0)


def test_the_mean_change_decides_and_not_the_mean_rank(table: Table) -> None:
    """A method that loses little on two sets and gains much on a third one goes first."""
    errors = {"a": (1.01, 1.01, 0.5), "uniform": (1.0, 1.0, 1.0)}
    rows = [
        row(method, error, dataset=f"set{number}")
        for method, own in errors.items()
        for number, error in enumerate(own)
    ]
    lines = by_method(ranking(table(*rows)))
    assert (lines["a"].place, lines["uniform"].place) == (1, 2)
    assert lines["a"].mean_rank > lines["uniform"].mean_rank
    assert lines["a"].change == pytest.approx(100 * ((1.01 * 1.01 * 0.5) ** (1 / 3) - 1))


@pytest.mark.parametrize(
    ("rows", "reference", "change"),
    [
        ([row("uniform", 1.0), row("uniform_best", 0.8)], "uniform", 20),
        ([row("uniform_best", 0.8)], "uniform_best", 50),
        # A seed is missing: the mean over the others might be another one.
        (
            [row("uniform", 1.0), row("uniform_best", 0.8, seed=2), row("uniform_best", 0.8)],
            "uniform_best",
            50,
        ),
        ([row("random_step", 1.0)], "", math.nan),
    ],
)
def test_changes_are_against_the_first_equal_patches_that_are_all_there(
    table: Table, rows: list[Row], reference: str, change: float
) -> None:
    """Those at the same K, else those that validation prefers, and the page says which."""
    rows = [*rows, row("learned", 1.2)]
    line = by_method(ranking(table(*rows), "show"))["learned"]
    assert (line.reference, line.change) == (reference, pytest.approx(change, nan_ok=True))
    page = markdown(table(*rows), "show")
    against = f"`{reference}`" if reference else "nothing, since neither kind of equal patches"
    assert f"Exactly K patches; change against {against}" in page


def test_methods_that_only_aim_at_k_have_a_table_of_their_own(tmp_path: Path) -> None:
    """What they declare decides, not what they used; the README shows both tracks."""
    rows = [row("uniform", 1.0), row("learned", 0.9), row("free", 0.1, tokens_mean=64.0)]
    rows += [row("hnet", 0.1, strict=False, rules="best sample")]
    folder = save(tmp_path, *rows)
    lines = by_method(ranking(read_table(folder)))
    tracks = {name: (line.track, line.place, line.mean_rank) for name, line in lines.items()}
    assert tracks == {
        "learned": ("strict", 1, 1),
        "uniform": ("strict", 2, 2),
        "hnet": ("soft", 1, 1),
        "free": ("", pd.NA, pytest.approx(math.nan, nan_ok=True)),
    }
    assert lines["free"].beside == MORE_CHOICES
    text = tables.excerpt(folder)
    soft = text.index("About K patches:")
    assert text.index("| 1 | `learned` |") < soft < text.index("| 1 | `hnet` |")


def test_what_a_method_declares_is_in_every_table_of_data(tmp_path: Path) -> None:
    """Kind, budget and evaluation rules, as the rows have them; empty for a reference."""
    rows = [row("uniform", 1.0), row("seasonal_naive", 2.0)]
    folder = save(tmp_path, *rows, row("hnet", 0.1, strict=False, rules="best sample"))
    tables.write(folder)
    names = ["method", "kind", "ranked", "strict", "rules"]
    path = folder / tables.MADE / "leaderboard.csv"
    assert pd.read_csv(path, dtype=str, keep_default_na=False)[names].to_numpy().tolist() == [
        ["uniform", "patcher", "True", "True", "best"],
        ["hnet", "patcher", "True", "False", "best sample"],
        ["seasonal_naive", "reference", "False", "", ""],
    ]
    content = json.loads((folder / tables.MADE / "leaderboard.json").read_text())
    assert [[line[name] for name in names] for line in content["ranking"]] == [
        ["uniform", "patcher", True, True, "best"],
        ["hnet", "patcher", True, False, "best sample"],
        ["seasonal_naive", "reference", False, None, None],
    ]


def test_rows_older_than_what_a_method_declares_are_refused(tmp_path: Path) -> None:
    """Whether the column is empty or not there at all, with the place and what to do."""
    message = (
        r"uniform\.csv, line 2: strict is ''; needed: .*delete its line and run the suite again"
    )
    with pytest.raises(ValueError, match=message):
        read_table(save(tmp_path / "empty", row("uniform", 1.0, strict=None)))
    older = {name: value for name, value in row("uniform", 1.0).items() if name != "strict"}
    with pytest.raises(ValueError, match=message):
        read_table(save(tmp_path / "absent", older))
    naive = {name: value for name, value in row("seasonal_naive", 1.0).items() if name != "strict"}
    assert read_table(save(tmp_path / "reference", naive)).strict.isna().all()


def test_rows_of_two_versions_of_a_method_are_refused(table: Table) -> None:
    """A method is strict or it is not."""
    rows = [row("uniform", 1.0), row("learned", 1.0), row("learned", 1.0, seed=2, strict=False)]
    with pytest.raises(ValueError, match="learned: its rows disagree about strict"):
        table(*rows)


def test_uniform_is_compared_at_the_same_patch_budget(table: Table) -> None:
    """With two budgets, each one is held against uniform patches of its own."""
    rows = [row("uniform", 1.0), row("uniform", 2.0, patches=21)]
    rows += [row("learned", 1.1), row("learned", 2.2, patches=21)]
    assert by_method(ranking(table(*rows)))["learned"].change == pytest.approx(10)


def test_cells_are_means_and_deviations_over_seeds(table: Table) -> None:
    """Seeds 1, 2, 3 with errors 1, 2, 6."""
    cell = cells(table(*(row("uniform", e, seed=s) for s, e in ((1, 1), (2, 2), (3, 6)))))
    assert cell[["mse", "runs", "failures"]].to_numpy().tolist() == [[3, 3, 0]]
    assert cell.mse_sd.item() == pytest.approx(math.sqrt(7))


def test_look_backs_are_ranked_apart(table: Table) -> None:
    """A short look-back neither helps nor hurts a method on the long one."""
    rows = [row("uniform", 0.5), row("learned", 0.4)]
    rows += [row("uniform", 0.5, look_back=96), row("learned", 0.9, look_back=96)]
    lines = ranking(table(*rows))
    assert lines[["look_back", "place", "method"]].to_numpy().tolist() == [
        [96, 1, "uniform"],
        [96, 2, "learned"],
        [512, 1, "learned"],
        [512, 2, "uniform"],
    ]


def test_ties_share_their_ranks(table: Table) -> None:
    """Two equal firsts have rank 1.5 each, and the third has rank 3."""
    lines = ranking(table(row("a", 1.0), row("b", 1.0), row("c", 2.0)))
    assert lines.mean_rank.tolist() == [1.5, 1.5, 3]


def test_an_oracle_is_shown_and_never_ranked(table: Table) -> None:
    """It sees the truth: no place, and no influence on the ranks of the others."""
    lines = by_method(ranking(table(*TWO_SETS, row("oracle", 0.1, ranked=False))))
    assert lines["oracle"].place is pd.NA
    assert math.isnan(lines["oracle"].mean_rank)
    assert lines["learned"].mean_rank == 1.5
    assert "| never ranked; 1 of 2 tasks | `oracle` |" in markdown(
        table(*TWO_SETS, row("oracle", 0.1, ranked=False))
    )


def test_a_failed_run_is_charged_the_naive_error(table: Table) -> None:
    """One of two seeds failed: naive 1.0 and own 0.5 make 0.75, and the failure is counted."""
    rows = [row("seasonal_naive", 1.0), row("uniform", 0.5), row("uniform", None, seed=2)]
    cell = cells(table(*rows)).set_index("method").loc["uniform"]
    assert (cell.mse, cell.runs, cell.failures) == (0.75, 2, 1)
    assert by_method(ranking(table(*rows)))["uniform"].failures == 1


def test_a_failed_run_is_no_better_than_the_other_seeds(table: Table) -> None:
    """A method worse than naive does not improve by crashing."""
    rows = [row("seasonal_naive", 1.0), row("uniform", 5.0), row("uniform", None, seed=2)]
    assert cells(table(*rows)).set_index("method").mse["uniform"] == 5


def test_a_diverged_run_is_a_failed_run(table: Table) -> None:
    """Whatever number it left behind is not used, not even that of the naive forecast."""
    rows = [row("seasonal_naive", 1.0), row("seasonal_naive", 9.0, seed=2, status="diverged")]
    rows += [row("uniform", 0.01, status="diverged")]
    assert cells(table(*rows)).set_index("method").mse["uniform"] == 1


def test_a_failed_cell_without_a_naive_forecast_has_no_number(table: Table) -> None:
    """It is shown as failed, ranks last, and its method has neither skill nor change."""
    rows = table(*TWO_SETS[2:5], row("learned", None, dataset="weather"))
    line = by_method(ranking(rows))["learned"]
    assert line.mean_rank == 1.5
    assert math.isnan(line.skill)
    assert math.isnan(line.change)
    page = markdown(rows)
    assert "| failed |" in page
    assert "empty where a task lacks a finished run of: seasonal_naive" in page


def test_fewer_failures_go_before_a_better_change(table: Table) -> None:
    """What a failed run would have scored is not known: nobody who finished stands behind it."""
    names = ("a", "b", "c")
    rows = [row("seasonal_naive", 1.5, dataset=name) for name in names]
    rows += [row("uniform", 1.0, dataset=name) for name in names]
    rows += [row("risky", {"c": None}.get(name, 0.01), dataset=name) for name in names]
    order = ranking(table(*rows))
    assert order[order.place.notna()].method.tolist() == ["uniform", "risky"]
    assert by_method(order)["risky"].change < -40


def test_a_method_of_which_nothing_finished_has_no_place(table: Table) -> None:
    """It is shown beside the ranking, and the page says why."""
    rows = table(*TWO_SETS[:4], row("learned", None), row("learned", None, dataset="weather"))
    assert by_method(ranking(rows))["learned"].place is pd.NA
    page = markdown(rows)
    assert "| no run finished | `learned` | +100.00 % |" in page
    assert "| failed, counts as 1.000 |" in page


def test_beside_failures_stand_the_tasks_that_all_finished(table: Table) -> None:
    """The dense view leaves out whole tasks, for all, and there is none without failures."""
    assert "on which no ranked method failed" not in markdown(table(*TWO_SETS))
    rows = table(*TWO_SETS[:5], row("learned", None, dataset="weather"))
    assert set(board.dense(rows).dataset) == {"ETTh1"}
    page = markdown(rows)
    _, dense = page.split(
        "Exactly K patches, only the 1 of 2 tasks on which no ranked method failed:"
    )
    assert dense.split("Beside")[0].split("---: |\n")[-1].splitlines()[:2] == [
        "| 1 | `learned` | -50.00 % | too few data sets | 1.00 | 0.750 | 42.0 | 0 of 1 |",
        "| 2 | `uniform` | reference | control | 2.00 | 0.500 | 42.0 | 0 of 1 |",
    ]


def test_a_method_with_holes_takes_no_task_from_the_dense_view(table: Table) -> None:
    """It does not compete, so neither do its failures."""
    rows = table(*TWO_SETS[:4], row("learned", None))
    assert set(board.dense(rows).dataset) == {"ETTh1", "weather"}


METHODS = (*CONTROLS, "learned")
ERRORS = st.one_of(st.none(), st.sampled_from([0.5, 0.9, 1.0, 2.0, 8.0]))


@settings(max_examples=15, deadline=None)
# Its one bad error would cost it the first place; the charge for a crash would not.
@example(errors=[1.0] * 15 + [8.0] + [0.9] * 4, crash=15, has_naive=True)
@given(
    errors=st.lists(ERRORS, min_size=20, max_size=20),
    crash=st.integers(0, 19),
    has_naive=st.booleans(),
)
def test_a_crash_never_helps(errors: list[float | None], crash: int, *, has_naive: bool) -> None:
    """A method that loses a run gains neither place nor mean rank nor a better verdict."""

    def standing(errors: list[float | None], method: str) -> tuple[float, float, int]:
        rows = [row("seasonal_naive", 1.0, dataset=f"set{i}") for i in range(5 * has_naive)]
        rows += [
            row(METHODS[i // 5], error, dataset=f"set{i % 5}") for i, error in enumerate(errors)
        ]
        table = pd.DataFrame(rows).astype(dict.fromkeys(METRICS, float))
        line = by_method(ranking(table))[method]
        place = math.inf if line.place is pd.NA else line.place
        rank = math.inf if math.isnan(line.mean_rank) else line.mean_rank
        return place, rank, VERDICTS.index(line.verdict)

    method = METHODS[crash // 5]
    before = standing(errors, method)
    after = standing([None if i == crash else error for i, error in enumerate(errors)], method)
    assert all(lower <= higher for lower, higher in zip(before, after, strict=True))


def test_holes_are_refused_by_name(table: Table) -> None:
    """A run that another ranked method has is missing: say which one."""
    with pytest.raises(ValueError, match=r"learned on weather 512->96 K=42 seed 1"):
        ranking(table(*TWO_SETS[:-1]))


def test_holes_can_be_shown_and_win_no_place(table: Table) -> None:
    """A method with holes stands beside the ranking, with what it has."""
    rows = table(*TWO_SETS[:-1])
    lines = by_method(ranking(rows, holes="show"))
    assert lines["learned"].place is pd.NA
    assert lines["uniform"].mean_rank == 1
    page = markdown(rows, holes="show")
    assert "Missing: learned on weather 512->96 K=42 seed 1" in page
    assert "| has holes; 1 of 2 tasks | `learned` | -50.00 % |  | 0.750 | 0 of 1 |" in page


def test_small_errors_keep_their_digits_in_json(tmp_path: Path) -> None:
    """A set of 1e-12 has errors, too; what is empty is null."""
    folder = save(
        tmp_path / "tiny",
        *(row("uniform", 1.23456789012345e-12, seed=seed) for seed in (1, 2)),
        row("seasonal_naive", 2e-300),
    )
    tables.write(folder)
    content = json.loads((folder / tables.MADE / "leaderboard.json").read_text())
    errors = {line["method"]: (line["mse"], line["mse_sd"]) for line in content["cells"]}
    assert errors == {"uniform": (1.23456789012345e-12, 0.0), "seasonal_naive": (2e-300, None)}
    kinds = {type(line["look_back"]) for line in content["ranking"]}
    assert (kinds, {type(line["ranked"]) for line in content["ranking"]}) == ({int}, {bool})


def test_a_cell_is_no_formula_for_a_spreadsheet() -> None:
    """Text that begins like one is quoted; numbers below zero are numbers."""
    table = pd.DataFrame({"name": ["=1+1", "@x", "-a", "+b", "fine"], "change": -1.5})
    lines = tables._csv(table).splitlines()
    assert lines == ["name,change", "'=1+1,-1.5", "'@x,-1.5", "'-a,-1.5", "'+b,-1.5", "fine,-1.5"]


def test_many_holes_are_counted_and_not_all_named(table: Table) -> None:
    """A wall of names hides the pattern."""
    rows = [row("uniform", 1.0, seed=seed) for seed in range(20)] + [row("learned", 1.0, seed=0)]
    with pytest.raises(ValueError, match=r"seed 12 and 7 more$"):
        ranking(table(*rows))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [row("uniform", 1.0)] * 2,
            r"more than once: uniform on ETTh1 512->96 K=42 seed 1 \(.*m.csv, lines 2 and 3\)",
        ),
        ([row("uniform", 1.0, dataset="x/../y")], r"dataset is 'x/../y'; needed: a name is of"),
        ([row("uniform", 1.0, dataset="=cmd()")], r"dataset is '=cmd\(\)'; needed: a name is of"),
        ([row("cells", 1.0)], r"method is 'cells'; needed: a name"),
        ([row("uniform", math.nan, status="done")], r"line 2: mse is ''; needed: a finite number"),
        (
            [row("uniform", math.inf)],
            r"uniform.csv, line 2: mse is 'inf'; needed: a finite number",
        ),
        ([row("uniform", 1.0, status="ok")], r"'ok'; needed: one of done, failed, diverged"),
        ([row("uniform", 1.0, kind="rule")], r"'rule'; needed: one of patcher, reference"),
        ([row("uniform", 1.0, ranked="yes")], r"ranked is 'yes'; needed: True or False"),
        ([row("uniform", 1.0, strict="no")], r"strict is 'no'; needed: True, False or nothing"),
        ([row("uniform", 1.0, rules="")], r"rules is ''; needed: what the patcher declares"),
        ([row("uniform", 1.0, seed="1.5")], r"seed is '1.5'; needed: a whole number"),
        (
            [row("uniform", 1.0, parameters="1k")],
            r"parameters is '1k'; needed: a number or nothing",
        ),
        ([row("uniform", 1.0, job="{}")], r"job is '\{\}'; needed: a job in JSON"),
        ([trial(8, 1.0), trial(8, 1.0)], r"more than once: uniform_best on ETTh1"),
        (
            [row("uniform", 1.0), row("b", 1.0, protocol="2")],
            r"protocol versions 1, 2 cannot share",
        ),
        (
            [row("uniform", 1.0), row("b", 1.0, data_hash="def")],
            r"ETTh1: .* different data .*abc, def",
        ),
    ],
)
def test_rows_that_cannot_be_trusted_are_refused(
    table: Table, rows: list[Row], message: str
) -> None:
    """The message names the run, or the file, line and value, and says what was needed."""
    with pytest.raises(ValueError, match=message):
        table(*rows)


SOME = '{"budget":{"test_windows":512},"hyperparameters":{}}'


def test_runs_on_some_of_the_test_windows_are_marked(table: Table, tmp_path: Path) -> None:
    """In caption, cells and notes, and without the published error; the others are not."""
    (tmp_path / "published.csv").write_text(
        "method,dataset,look_back,horizon,metric,value,source,note\n"
        "uniform,ETTh1,512,96,mse,0.37,paper,\n"
        "uniform,weather,512,96,mse,0.15,paper,\n"
    )
    rows = [row(name, 1.0, windows=512, job=SOME) for name in ("uniform", "learned")]
    # The cap is larger than the set, so these are all of its windows.
    rows += [row(name, 1.0, windows=400, job=SOME, dataset="weather") for name in ("uniform",)]
    read = table(*rows, row("learned", 1.0, windows=400, job=SOME, dataset="weather"))
    page = markdown(read)
    assert "A trial: some of the test windows only, 512 of a task" in page
    assert "| ETTh1‡ |" in page
    assert "| weather |" in page
    assert "‡ Scored on some of its test windows only: ETTh1." in page
    assert read.published.notna().tolist() == [False, False, False, True]
    whole = markdown(table(row("uniform", 1.0, windows=2785), row("learned", 1.0, windows=2785)))
    assert "trial" not in whole
    assert "‡" not in whole


@pytest.mark.parametrize("status", ["done", "failed"])
def test_runs_on_other_test_windows_are_never_ranked_together(table: Table, status: str) -> None:
    """Some of a task's windows beside all of them are refused; a failed run has none."""
    whole = row("uniform", 1.0, windows=2785)
    some = row("learned", 1.0 if status == "done" else None, windows=512, job=SOME)
    other = row("learned", 1.0, windows=512, job=SOME, dataset="weather")
    if status == "failed":
        assert len(table(whole, {**some, "windows": None}, other)) == 3
        return
    with pytest.raises(ValueError, match=r"ETTh1 512->96: runs scored on 512 and 2,785 test"):
        table(whole, some, other)


def test_a_file_of_another_method_is_refused(tmp_path: Path) -> None:
    """A copied file must not enter under a second name."""
    folder = save(tmp_path, row("uniform", 1.0))
    (folder / "uniform.csv").rename(folder / "copy.csv")
    with pytest.raises(ValueError, match=r"copy\.csv, .*'uniform'; needed: the name of the file"):
        read_table(folder)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    """An old or foreign file says which columns it lacks."""
    lacking = {name: value for name, value in row("uniform", 1.0).items() if name != "mase"}
    with pytest.raises(ValueError, match="has no column mase"):
        read_table(save(tmp_path, lacking))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """Nothing to rank, and what to do about it."""
    with pytest.raises(FileNotFoundError, match="run the suite first"):
        read_table(tmp_path)


def test_a_run_that_failed_before_its_data_were_read_is_accepted(table: Table) -> None:
    """It has no data hash, no costs and no errors, and still counts as a failure."""
    early = dict.fromkeys(("data_hash", "data_verified", "tokens_mean", "device"))
    rows = table(
        *TWO_SETS[:4], row("learned", 0.5), row("learned", None, dataset="weather", **early)
    )
    assert by_method(ranking(rows))["learned"].failures == 1


def test_order_of_rows_and_files_does_not_matter(tmp_path: Path) -> None:
    """The same records in another order give the same bytes."""
    rows = [
        {**r, "seed": s, **dict.fromkeys(METRICS, r["mse"] + s / 7)}
        for r in TWO_SETS
        for s in (1, 2, 3)
    ]
    first, second = save(tmp_path / "a", *rows), save(tmp_path / "b", *rows[::-1])
    assert read_table(first).equals(read_table(second))
    for one, other in zip(tables.write(first), tables.write(second), strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


def test_written_tables_are_not_read_back(tmp_path: Path) -> None:
    """Writing twice changes nothing and leaves no drafts behind."""
    folder = save(tmp_path, *TWO_SETS)
    before = [path.read_bytes() for path in tables.write(folder)]
    assert [path.read_bytes() for path in tables.write(folder)] == before
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    assert names == [
        "leaderboard.md",
        "learned.csv",
        "report/cells.csv",
        "report/leaderboard.csv",
        "report/leaderboard.html",
        "report/leaderboard.json",
        "report/leaderboard.tex",
        "seasonal_naive.csv",
        "uniform.csv",
    ]


def test_the_page_by_hand(table: Table) -> None:
    """Caption, ranking, what stands beside it, every cell, and a mark on unverified data."""
    rows = [row("seasonal_naive", 1.0), row("uniform", 0.5), row("uniform", 0.52, seed=2)]
    rows += [row("learned", 0.41, data_verified=False), row("learned", None, seed=2)]
    rows += [row("seasonal_naive", 1.0, dataset="ILI"), row("uniform", 12.0, dataset="ILI")]
    rows += [
        row("learned", 0.01234, dataset="ILI"),
        row("learned", 0.01234, dataset="ILI", seed=2),
    ]
    rows += [row("uniform", 12.0, dataset="ILI", seed=2)]
    page = markdown(table(*rows))
    assert "Mean over 2 seeds. The change of MSE is against `uniform`, with its" in page
    assert "a change below 0.5 % is of no practical interest" in page
    assert "| 2 | `learned` |" in page
    assert "| too few data sets | 1.50 | 75% | 0.907 | 1 of 4 |" in page
    assert "| `learned` | 42.0 | 1,000 | 2.0 |" in page
    assert "| own forecaster | `seasonal_naive` |" in page
    assert (
        "| ETTh1† | 96 | 42 | **0.5100 ± 0.0141** | 0.7050 ± 0.4172 (1 of 2 failed) "
        "| 1.000 (1 seed) |" in page
    )
    assert "| ILI | 96 | 42 | 12.00 ± 0.00 | **0.01234 ± 0.00000** | 1.000 (1 seed) |" in page
    assert "† Data with no published checksum to compare with: ETTh1" in page


def test_the_page_names_a_suspicious_value(table: Table) -> None:
    """By data set, row and column; without one there is no such note."""
    said = "row 7, column 'load': -9999 lies far out"
    rows = [row("uniform", 0.5), row("uniform", 0.6, dataset="own", data_warning=said)]
    assert f"all scaled errors, of: own ({said})." in markdown(table(*rows))
    assert "suspicious" not in markdown(table(row("uniform", 0.5)))


def test_bold_are_the_best_and_what_is_surely_as_good(table: Table) -> None:
    """To be as good takes three seeds; an oracle is never bold, and noise makes nothing so."""
    rows = [
        row(method, error + 0.001 * seed, seed=seed, ranked=method != "oracle")
        for method, errors in {
            "uniform": (1.0, 1.0, 1.0),
            "near": (1.001, 1.0005, 1.001),
            "noisy": (1.01, 0.995, 1.004),
            "far": (1.2, 1.201, 1.2),
            "oracle": (0.5, 0.5, 0.5),
        }.items()
        for seed, error in enumerate(errors)
    ]
    scores = {
        method: rf"{mean} ± 0\.\d+"
        for method, mean in {
            "uniform": "1.001",
            "near": "1.002",
            "noisy": "1.004",
            "far": "1.201",
        }.items()
    }
    page = markdown(table(*rows))
    assert re.search(rf"\*\*{scores['uniform']}\*\*", page)
    assert re.search(rf"\*\*{scores['near']}\*\*", page)
    assert re.search(rf"\| {scores['noisy']} \|", page)
    assert re.search(rf"\| {scores['far']} \|", page)
    assert "| 0.5010 ± 0.0010 |" in page
    few = markdown(table(*(r for r in rows if r["seed"] < 2)))
    assert re.findall(r"\*\*(1\.0+5?) ±", few) == ["1.000"]


PUBLISHED = """\
dataset,look_back,horizon,method,metric,value,source,note
ETTh1,512,96,learned,mse,0.37,Somebody (2023),another loader
ETTh1,512,96,learned,mae,0.4,Somebody (2023),another loader
ETTh1,96,96,learned,mse,0.9,Somebody (2023),another loader
"""


def test_published_errors_stand_beside_ours(tmp_path: Path) -> None:
    """Of the same method, data set, look-back and horizon, with the source and what differs."""
    folder = save(tmp_path / "tiny", row("uniform", 0.5), row("learned", 0.36))
    assert "published" not in markdown(read_table(folder))
    (tmp_path / "published.csv").write_text(PUBLISHED)
    page = markdown(read_table(folder))
    assert "measured by another protocol" in page
    source = "Somebody (2023); another loader"
    assert f"| ETTh1 | 96 | `learned` | 0.3600 | 0.3700 | -2.7 % | {source} |" in page
    assert page.count("Somebody") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PUBLISHED.replace("0.37", "good"), "published.csv: .*good"),
        (PUBLISHED.replace("0.37", "-1"), "no error above 0"),
        (PUBLISHED.replace(",note", ",remark"), "published.csv: .*note"),
        (PUBLISHED.replace("mae", "mse"), "learned 512 ETTh1 96 is there twice"),
    ],
)
def test_published_errors_that_cannot_be_are_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    """A slip of the pen in the literature's column would look like a finding."""
    folder = save(tmp_path / "tiny", row("uniform", 0.5))
    (tmp_path / "published.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_table(folder)


def test_seconds_of_two_devices_come_with_a_warning(table: Table) -> None:
    """Times taken on different machines say nothing about methods."""
    page = markdown(table(row("uniform", 1.0), row("b", 1.0, device="H100")))
    assert "Seconds cannot be compared, because they were measured on: H100, cpu" in page


def test_a_data_set_that_was_trained_on_for_less_is_named(table: Table) -> None:
    """A few steps on a small set are another budget; an early stop of one method is not."""
    rows = [
        row("uniform", 1.0, dataset="ETTh1", steps=500),
        row("b", 1.0, dataset="ETTh1", steps=300),
        row("uniform", 1.0, dataset="illness", steps=45),
        row("b", 1.0, dataset="illness", steps=45),
    ]
    assert "Steps of training, at most: 45 on illness, 500 on ETTh1." in markdown(table(*rows))
    assert "Steps of training" not in markdown(table(*rows[:2]))


SWEEP = [
    row("uniform", 1.0),
    row("uniform", 1.0, seed=2),
    # Test errors are best where validation errors are worst, and the other way round.
    trial(8, 2.0, test=0.1),
    trial(8, 2.2, test=0.1, seed=2),
    trial(16, 1.0, test=0.7),
    trial(16, 1.4, test=0.9, seed=2),
    trial(128, 0.1, test=0.5),
    trial(128, 3.0, test=0.5, seed=2),
]
ELSEWHERE = [
    {**line, "dataset": "weather", "valid_mse": 5.0 - (line["valid_mse"] or 0.0)} for line in SWEEP
]


def test_validation_errors_choose_and_test_errors_never_do(table: Table) -> None:
    """The least mean validation error over seeds wins, though its test errors are the worst."""
    rows = table(*SWEEP)
    chosen = selected(rows)
    assert chosen[chosen.method == "uniform_best"].setting.tolist() == ["patch = 16"] * 2
    assert chosen[chosen.method == "uniform_best"].mse.tolist() == [0.7, 0.9]
    assert len(chosen[chosen.method == "uniform"]) == 2
    lines = by_method(ranking(rows))
    assert (lines["uniform_best"].tokens, lines["uniform_best"].runs) == (32, 2)
    assert lines["uniform_best"].reference == "uniform"
    assert lines["uniform_best"].change == pytest.approx(100 * (math.sqrt(0.7 * 0.9) - 1))
    own = cells(rows).set_index("method").loc["uniform_best"]
    assert (own.mse, own.runs) == (pytest.approx(0.8), 2)


def test_test_errors_could_be_anything_without_a_change_of_the_choice(table: Table) -> None:
    """Whatever the test errors of a sweep, the same settings are chosen."""
    drawn = [{**line, **dict.fromkeys(METRICS, 9.0 / (1 + i))} for i, line in enumerate(SWEEP)]
    first, second = (selected(table(*rows)).setting for rows in (SWEEP, drawn))
    assert first.tolist() == second.tolist()


def test_each_cell_has_its_own_choice_and_a_choice_is_final(table: Table) -> None:
    """Another data set prefers another length; selecting the selected changes nothing."""
    chosen = selected(table(*SWEEP, *ELSEWHERE))
    best = chosen[chosen.method == "uniform_best"]
    assert best.groupby("dataset").setting.unique().map(list).to_dict() == {
        "ETTh1": ["patch = 16"],
        "weather": ["patch = 8"],
    }
    assert selected(chosen).equals(chosen)
    assert ranking(chosen).equals(ranking(table(*SWEEP, *ELSEWHERE)))


def test_the_page_says_what_was_swept_and_chosen(tmp_path: Path) -> None:
    """Values in order, runs that went through, the choice and its K; one column in the table."""
    folder = save(tmp_path, *SWEEP, *ELSEWHERE)
    page = markdown(read_table(folder))
    assert "on each task the setting with the least validation error counts" in page
    swept = "patch = 8, 16, 128 | 6 of 6"
    assert f"| `uniform_best` | ETTh1 | 96 | {swept} | patch = 16 | 32 |" in page
    assert f"| `uniform_best` | weather | 96 | {swept} | patch = 8 | 64 |" in page
    assert "| data set | horizon | K | `uniform` | `uniform_best` |" in page
    assert "change against `uniform`" in page
    assert "| more choices than the others | `uniform_best` |" in page
    assert "Mean over 2 seeds" in page
    tables.write(folder)
    assert len(pd.read_csv(folder / tables.MADE / "cells.csv")) == 4
    assert "Mean over 2 seeds" in tables.excerpt(folder)
    assert "Swept" not in markdown(read_table(save(tmp_path / "b", *TWO_SETS)))


def test_a_setting_that_failed_in_a_seed_comes_after_all_that_did_not(table: Table) -> None:
    """The seeds it lost might have been its bad ones."""
    crashed = [*SWEEP[:5], trial(16, None, seed=2), *SWEEP[6:]]
    rows = selected(table(*crashed))
    assert set(rows.setting) == {"", "patch = 128"}
    assert "| 5 of 6 | patch = 128 |" in markdown(rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (SWEEP[:-1], r"uniform_best on ETTh1 512->96 K=42, patch = 128 lacks seed 2"),
        ([*SWEEP[:-2], *ELSEWHERE], r"on ETTh1 .*, patch = 128 lacks seed 1, 2"),
        (
            [*SWEEP[:-2], trial(128, None), trial(128, None, seed=2)],
            r"ETTh1 512->96 K=42, patch = 128 has no run that went through",
        ),
    ],
)
def test_a_sweep_in_part_chooses_nothing(table: Table, rows: list[Row], message: str) -> None:
    """Refused by name; shown, its cell is left out, and the page says so: it wins no place."""
    with pytest.raises(ValueError, match=rf"a part of a sweep chooses nothing .*{message}"):
        ranking(table(*rows))
    shown = selected(table(*rows), holes="show")
    assert "uniform_best" not in set(shown[shown.dataset == "ETTh1"].method)
    page = markdown(table(*rows), holes="show")
    assert re.search(rf"\*\*Sweeps in part\*\*.*{message}", page)
    assert re.search(r"\| 1 \| `uniform` \| reference \|.* control \|", page)


def test_nothing_but_a_sweep_in_part_is_no_leaderboard(table: Table) -> None:
    """There is nothing to show either."""
    with pytest.raises(ValueError, match="patch = 16 lacks seed 2"):
        markdown(table(*SWEEP[2:5]), holes="show")


def test_a_method_rerun_in_part_with_other_keywords_is_no_sweep(table: Table) -> None:
    """Old and new settings, each with some of the seeds, are not mixed in silence."""
    old = row("learned", 0.1, job='{"hyperparameters":{"hidden":8}}')
    new = row("learned", 0.2, job='{"hyperparameters":{"hidden":16}}', seed=2)
    rows = table(row("uniform", 1.0), row("uniform", 1.0, seed=2), old, new)
    with pytest.raises(ValueError, match=r"hidden = 16 lacks seed 1, .*hidden = 8 lacks seed 2"):
        ranking(rows)


def test_who_had_more_choices_stands_beside_the_ranking(table: Table) -> None:
    """A sweep, or trials that not all had; it ties with no cell, and still is a control."""
    rows = table(*SWEEP, *(row("tuned", 0.1, seed=seed, trials=8) for seed in (1, 2)))
    found = board.count(rows)
    lines = by_method(found.ranking)
    more = "more choices than the others"
    assert {name: line.beside for name, line in lines.items()} == {
        "uniform": "",
        "uniform_best": more,
        "tuned": more,
    }
    assert lines["tuned"].verdict == NOT_JUDGED
    assert lines["tuned"].why == more
    assert lines["uniform_best"].why.startswith("a control")
    assert set(found.cell_tests.method) == {"uniform"}
    even = pd.DataFrame([row(name, 1.0, trials=8) for name in ("uniform", "tuned")])
    assert set(ranking(even).beside) == {""}


def test_the_page_says_what_controls_cost_and_what_it_can_find(table: Table) -> None:
    """A line a data set for the controls, a line a method for the costs, and the power below."""
    rows = [
        row(method, error * (1 + seed / 100), dataset=dataset, seed=seed, **costs)
        for method, error, costs in (
            ("uniform", 1.0, {"flops": 2.0}),
            ("phase_shift", 1.02, {"flops": 2.0}),
            ("random_step", 1.1, {"flops": 2.0}),
            ("uniform_identity", 1.01, {"flops": 1.0, "kind": "reference", "ranked": False}),
            ("learned", 0.9, {"flops": 6.0}),
        )
        for dataset in ("ETTh1", "weather")
        for seed in (1, 2)
    ]
    page = markdown(table(*rows))
    assert "| data set | moving grid | random boundaries | no backbone | note |" in page
    idle = "cannot show what patches are for"
    assert f"| ETTh1 | +2.00 % | +10.00 % | +1.00 % | {idle} |" in page
    assert "| `learned` | -10.00 % | 3.00 | forward FLOPs |" in page
    assert "| `uniform` | +0.00 % | 1.00 | forward FLOPs |" in page
    assert "| `phase_shift` | +2.00 % | 1.00 |  |" in page
    assert (
        "| 1 | `learned` | -10.00 % | -10.00 to -10.00 % | too few data sets | -18.18 % |" in page
    )
    assert "Power at look-back 512 (2 data sets, 2 tasks, 2 seeds): of the judged method," in page
    assert "With fewer than 5 data sets there is no verdict." in page


def test_boundaries_have_a_table_of_their_own(table: Table) -> None:
    """Means over runs by data set; what nobody measured has no line, no column and no table."""
    measured = {"mse_swapped": 1.0, "f1_1": 0.25, "mse_even": 0.375, "mse_no_content": 2.0}
    plain = table(row("uniform", 0.5), row("learned", 0.4))
    assert "### Boundaries" not in markdown(plain)
    rows = [row("uniform", 0.5), row("uniform", 0.5, dataset="weather")]
    rows += [
        row("learned", 0.4, rule="even", **measured),
        row("learned", 0.3, seed=2, rule="even", **measured, f1_2=1.0),
    ]
    rows += [row("uniform", 0.5, seed=2), row("oracle", 0.02, ranked=False, mse_permuted=0.5)]
    page = markdown(table(*rows), holes="show")
    boundaries = page[page.index("### Boundaries") : page.index("## Columns")]
    head, _, *lines = [line for line in boundaries.splitlines() if line.startswith("|")]
    assert head == (
        "| data set | method | scored by | mse | even | swapped | permuted | no content | F1 at 1 "
        "| F1 at 2 |"
    )
    assert lines == [
        "| ETTh1 | `oracle` |  | 0.02000 |  |  | 0.50000 |  |  |  |",
        "| ETTh1 | `learned` | even | 0.3500 | 0.3750 | 1.0000 |  | 2.0000 | 0.250 | 1.000 |",
    ]
    assert "| scored by | The evaluation rule that counts" in page


def test_rules_that_differ_from_run_to_run_are_counted(table: Table) -> None:
    """The most frequent first, with the number of runs; runs that failed have none."""
    chosen = ["even", "best", "sample", "best", None]
    rows = [
        row("learned", 0.3 if rule else None, seed=seed, rule=rule, mse_best=0.5)
        for seed, rule in enumerate(chosen, 1)
    ]
    assert "| ETTh1 | `learned` | best (2), even (1), sample (1) | 0.3000 |" in markdown(
        table(*rows)
    )


def test_costs_of_a_step_are_shown_where_they_were_measured(tmp_path: Path) -> None:
    """A column from `cost.csv` beside the suites; none without it; a broken one is named."""
    folder = save(tmp_path / "tiny", *TWO_SETS)
    assert "step" not in ranking(read_table(folder))
    assert "| step |" not in markdown(read_table(folder))
    (tmp_path / "cost.csv").write_text("method,ratio\nuniform,1.0\nlearned,2.345\nother,9\n")
    lines = by_method(ranking(read_table(folder)))
    assert (lines["uniform"].step, lines["learned"].step) == (1, 2.345)
    page = markdown(read_table(folder))
    assert "| step | Cost of a training step, that of `uniform` being 1. |" in page
    assert "| train s | step |" in page
    assert "| `learned` | 42.0 | 1,000 | 2.0 | 2.35 |" in page
    assert "| `seasonal_naive` | 42.0 | 1,000 | 2.0 |  |" in page
    assert "| 1.50 | 0.567 | 42.0 | 2.35 | 0 of 2 |" in tables.excerpt(folder)
    (tmp_path / "cost.csv").write_text("method,ratio\nuniform,fast\n")
    with pytest.raises(ValueError, match=r"cost\.csv: .*fast"):
        read_table(folder)


def test_every_format_has_every_method_and_cell(tmp_path: Path) -> None:
    """Six files of one suite: the same lines in each, and none lost on the way."""
    folder = scale.write_suite(tmp_path / "many", methods=6, datasets=6, seeds=3)
    pages = {path.name: path.read_text() for path in tables.write(folder)}
    assert set(pages) == {tables.LEADERBOARD, *tables.TABLES}
    content = json.loads(pages["leaderboard.json"])
    assert (content["schema"], content["suite"]) == (tables.SCHEMA, "many")
    for name in ("ranking", "cells"):
        file = {"ranking": "leaderboard.csv", "cells": "cells.csv"}[name]
        table = pd.read_csv(folder / tables.MADE / file)
        assert pd.DataFrame(content[name]).columns.tolist() == table.columns.tolist()
        assert [line["mse" if name == "cells" else "skill"] for line in content[name]] == (
            pytest.approx(table["mse" if name == "cells" else "skill"].tolist())
        )
    assert len(content["cells"]) == 6 * 6 * 4
    methods = {line["method"] for line in content["ranking"]}
    assert len(methods) == 6
    for name, mark in {"md": "`{}`", "tex": r"\texttt{{{}}}", "html": "<code>{}</code>"}.items():
        for method in methods:
            shown = method.replace("_", r"\_") if name == "tex" else method
            assert mark.format(shown) in pages[f"leaderboard.{name}"], (name, method)
    assert (
        pages["leaderboard.html"].count("set_05") == pages["leaderboard.md"].count("set_05") == 5
    )


BLOCK = "<!-- leaderboard:start tiny -->\nold\n<!-- leaderboard:end -->\n"
README = f"# Title\n\n{BLOCK}\nThe rest.\n"


def test_the_readme_follows_the_rows(tmp_path: Path) -> None:
    """Stale until updated; fresh after; stale again when a row or the text changes."""
    results, readme = tmp_path / "results", tmp_path / "README.md"
    folder = save(results / "tiny", *TWO_SETS)
    readme.write_text(README)
    tables.write(folder)
    assert excerpts.stale([readme], results) == [readme]
    excerpts.update(readme, results)
    assert excerpts.stale([readme], results) == []
    text = readme.read_text()
    assert text.startswith(
        "# Title\n\n<!-- leaderboard:start tiny -->\n**tiny**, look-back 512. Mean over"
    )
    assert "| 1 | `learned` | -13.40 % |" in text
    assert "[results/tiny/leaderboard.md](results/tiny/leaderboard.md)" in text
    assert text.endswith("<!-- leaderboard:end -->\n\nThe rest.\n")
    readme.write_text(text.replace("0.567", "0.967"))
    assert excerpts.stale([readme], results) == [readme]
    readme.write_text(text)
    save(folder, *TWO_SETS[:4], row("learned", 0.2), row("learned", 3.0, dataset="weather"))
    assert readme in excerpts.stale([readme], results)


def test_every_block_of_the_readme_shows_its_own_suite(tmp_path: Path) -> None:
    """Two blocks, two suites; what stands between them stays."""
    readme = tmp_path / "README.md"
    readme.write_text(README + BLOCK.replace("tiny", "other"))
    for suite, method in (("tiny", "a"), ("other", "b")):
        save(tmp_path / suite, *(row(name, 1.0) for name in ("uniform", method)))
    excerpts.update(readme, tmp_path)
    first, second = readme.read_text().split("The rest.")
    assert "`a`" in first
    assert "`b`" not in first
    assert "`b`" in second


def test_a_suite_without_rows_has_a_sentence_until_it_has_some(tmp_path: Path) -> None:
    """After a change of the protocol a page says what to run, and is up to date with that."""
    readme = tmp_path / "README.md"
    readme.write_text(README)
    excerpts.update(readme, tmp_path)
    assert "There are no rows of `tiny` yet: `make bench SUITE=tiny`." in readme.read_text()
    assert excerpts.stale([readme], tmp_path) == []
    tables.write(save(tmp_path / "tiny", *TWO_SETS))
    assert excerpts.stale([readme], tmp_path) == [readme]


def test_written_tables_that_lag_behind_are_stale(tmp_path: Path) -> None:
    """The excerpt may still hold while a cell does not; what git ignores is never stale."""
    folder, readme = save(tmp_path / "tiny", *TWO_SETS), tmp_path / "README.md"
    readme.write_text(README)
    excerpts.update(readme, tmp_path)
    written = tables.write(folder)
    assert excerpts.stale([readme], tmp_path) == []
    leaderboard, *made = written
    for path in made:
        path.write_text("old")
    assert excerpts.stale([readme], tmp_path) == []
    leaderboard.write_text("old")
    assert excerpts.stale([readme], tmp_path) == [leaderboard]


def test_git_keeps_rows_and_leaderboards_and_nothing_that_is_made_of_them() -> None:
    """What `make leaderboard` makes is ignored, whatever it is."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        pytest.skip("not a checkout of the repository")
    made = [f"results/planted/{tables.MADE}/{name}" for name in (*tables.TABLES, "index.html")]
    kept = ["results/planted/uniform.csv", f"results/planted/{tables.LEADERBOARD}"]

    def git(*words: str) -> list[str]:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    assert git("check-ignore", *made, *kept) == made
    files = git("ls-files", "results")
    assert {Path(path).suffix for path in files} <= {".csv", ".md", ".toml"}
    assert [path for path in files if f"/{tables.MADE}/" in path] == []


def test_documents_are_those_with_an_excerpt(tmp_path: Path) -> None:
    """README and the pages of docs; one with half a mark is among them, to be refused."""
    (tmp_path / "docs" / "more").mkdir(parents=True)
    for name, text in {
        "README.md": README,
        "docs/more/results.md": BLOCK,
        "docs/half.md": "<!-- leaderboard:end -->",
        "docs/other.md": "nothing",
        "CHANGELOG.md": BLOCK,
    }.items():
        (tmp_path / name).write_text(text)
    found = [path.relative_to(tmp_path).as_posix() for path in excerpts.documents(tmp_path)]
    assert found == ["README.md", "docs/half.md", "docs/more/results.md"]


def test_an_excerpt_keeps_the_first_places(tmp_path: Path) -> None:
    """Two lines asked for, two methods shown, in order."""
    rows = [row(name, error) for name, error in (("c", 3.0), ("a", 1.0), ("b", 2.0))]
    text = tables.excerpt(save(tmp_path, *rows), lines=2)
    assert [name for name in "abc" if f"`{name}`" in text] == ["a", "b"]


def test_an_excerpt_names_who_has_no_place_yet(tmp_path: Path) -> None:
    """A method that lacks a seed is neither ranked nor forgotten."""
    rows = [row("a", 1.0, seed=1), row("a", 1.0, seed=2), row("b", 0.5, seed=1)]
    text = tables.excerpt(save(tmp_path, *rows))
    assert "| 1 | `a` |" in text
    assert text.endswith("Runs are missing, so no place yet: `b`.\n")


@pytest.mark.parametrize(
    "text", ["none", README.replace(":end", ":stop"), README.replace("start", "begin")]
)
def test_a_readme_without_marks_is_refused(tmp_path: Path, text: str) -> None:
    """Better no excerpt than one in the wrong place."""
    readme = tmp_path / "README.md"
    readme.write_text(text)
    save(tmp_path / "tiny", *TWO_SETS)
    with pytest.raises(ValueError, match="needs lines <!-- leaderboard:start SUITE -->"):
        excerpts.update(readme, tmp_path)
