"""The board of a zero-shot suite counts every run once, and says what it leaves open."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_zero_shot as small
from small_zero_shot import FEW

from harness.core.job import Record
from harness.report.tables import each
from harness.report.zero_shot import context, paired, tables
from harness.report.zero_shot.board import ALL, Board
from harness.report.zero_shot.paired import LESS, MORE
from harness.report.zero_shot.rows import read
from harness.results.rows import write_rows
from harness.zero_shot import tasks

FEV, CHRONOS, GIFT = FEW


def save(folder: Path, *records: Record) -> Path:
    """A folder of these rows, a file a method."""
    for method in {record.method for record in records}:
        own = [record for record in records if record.method == method]
        write_rows(folder / f"{method}.csv", own)
    return folder


def runs(method: str, shares: Mapping[str, float | None], seed: int = 1) -> list[Record]:
    """Runs after the open corpus, by task the share of the seasonal naive's error."""
    return [
        small.record("zero_shot", method, name, "open", seed, share)
        for name, share in shares.items()
    ]


def board(folder: Path, *records: Record) -> Board:
    return Board(read(save(folder, *records)))


def line(table: pd.DataFrame, **where: object) -> pd.Series[float]:
    """The only line with these values."""
    for name, value in where.items():
        table = table[table[name] == value]
    [found] = [own for _, own in table.iterrows()]
    return found


def test_errors_are_shares_of_the_naive_and_means_are_geometric(tmp_path: Path) -> None:
    """0.5 and 2 of the seasonal naive's error cancel, in MASE and in the quantile metric."""
    found = board(tmp_path, *runs("uniform", {FEV: 0.5, CHRONOS: 2.0, GIFT: 0.9}))
    whole = line(found.standings, scope=ALL)
    assert math.isclose(whole.mase, 0.9 ** (1 / 3))
    assert math.isclose(whole["quantile"], 0.9 ** (1 / 3))
    assert math.isclose(line(found.standings, scope="chronos-II").mase, 2.0)
    assert math.isclose(line(found.standings, scope="chronos-II").skill, -1.0)


def test_one_task_does_not_decide(tmp_path: Path) -> None:
    """A share beyond a hundred counts as a hundred."""
    found = board(tmp_path, *runs("uniform", {FEV: 1e9}))
    assert math.isclose(line(found.standings, scope=ALL).mase, 100)


def test_a_failed_run_is_charged_and_counted(tmp_path: Path) -> None:
    """It costs the seasonal naive's error, or the worst finished seed's, and wins nothing."""
    found = board(
        tmp_path,
        *runs("uniform", {FEV: 0.9, GIFT: 0.9}),
        *runs("soft", {FEV: None, GIFT: 3.0}),
        *runs("soft", {FEV: 0.5, GIFT: None}, seed=2),
        *runs("uniform", {FEV: 0.9, GIFT: 0.9}, seed=2),
    )
    own = found.rows[found.rows.method == "soft"].set_index(["task", "seed"])
    assert math.isclose(own.mase_share[FEV, 1], 1)
    assert math.isclose(own.mase_share[GIFT, 2], 3)
    whole = line(found.standings, scope=ALL, method="soft")
    assert (2, 4, 0.25) == (whole.failures, whole.runs, whole.wins)
    assert "0.707 (1 of 2 failed)" in tables.markdown(tmp_path)


def test_a_failed_run_of_equal_patches_is_no_gain_of_others(tmp_path: Path) -> None:
    """It has no partner, so nothing is said of that pair."""
    found = board(
        tmp_path, *runs("uniform", {FEV: None, GIFT: 0.9}), *runs("soft", {FEV: 0.1, GIFT: 0.9})
    )
    assert [1, 1] == list(found.paired.pairs)
    assert np.allclose(found.paired.change, 0)


def test_what_leaked_is_shown_and_not_counted(tmp_path: Path) -> None:
    """A task whose source the corpus holds is in no mean and no rank, and its cell is marked."""
    leaked = [replace(record, leak="leaked") for record in runs("uniform", {GIFT: 0.01})]
    found = board(tmp_path, *runs("uniform", {FEV: 0.9}), *leaked)
    whole = line(found.standings, scope=ALL)
    assert (1, 1) == (whole.tasks, whole.runs)
    assert math.isclose(whole.mase, 0.9)
    page = tables.markdown(tmp_path)
    assert "1 near (epf) and 1 leaked (m4)" in page
    assert f"| {GIFT} | m4 | 13 | open: leaked | 0.010 |" in page
    models = page.split("Published models")[1].split("##")[0]
    assert "| TiRex-2 | fev-bench |" in models
    assert "gift-eval" not in models


def test_a_board_of_leaked_tasks_alone_counts_nothing(tmp_path: Path) -> None:
    """There is a page, and it says that nothing is known."""
    rows = [replace(record, leak="leaked") for record in runs("uniform", {GIFT: 0.01})]
    assert board(tmp_path, *rows).standings.empty
    assert "so this is not known" in tables.markdown(tmp_path)


def test_a_failed_run_knows_what_its_corpus_holds(tmp_path: Path) -> None:
    """Its row has no tag, so the corpus is asked."""
    [failed] = runs("uniform", {FEV: None})
    assert failed.leak is None
    assert ["near"] == list(read(save(tmp_path, failed)).leak)


def test_a_patcher_with_holes_has_no_rank(tmp_path: Path) -> None:
    """What is missing is named, and the others are ranked without it."""
    shares = {FEV: 0.9, CHRONOS: 0.8, GIFT: 0.7}
    found = board(
        tmp_path,
        *runs("uniform", shares),
        *runs("period", dict.fromkeys(shares, 0.95)),
        *runs("soft", {FEV: 0.1, CHRONOS: 0.1}),
    )
    assert [f"soft (open) on {GIFT} seed 1"] == found.holes
    ranks = found.standings[found.standings.scope == ALL].set_index("method").mean_rank
    assert ranks[["uniform", "period"]].tolist() == [1.0, 2.0]
    assert math.isnan(ranks["soft"])
    whole = line(found.standings, scope=ALL, method="soft")
    assert (2, 3) == (whole.runs, whole.runs_of)
    assert found.holes[0] in tables.markdown(tmp_path)


def test_fewer_failures_stand_before_less_error(tmp_path: Path) -> None:
    """What a failed seed would have scored is not known."""
    found = board(
        tmp_path,
        *runs("uniform", {FEV: 1.5}),
        *runs("uniform", {FEV: 1.5}, seed=2),
        *runs("soft", {FEV: 0.5}),
        *runs("soft", {FEV: None}, seed=2),
    )
    lines = found.standings[found.standings.scope == ALL].set_index("method")
    assert (1.0, 2.0) == (lines.mean_rank["uniform"], lines.mean_rank["soft"])
    assert lines.wins["soft"] == 0.5, "a charge below the error of equal patches is no win"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "**yes, in all three**; so patchers may be compared"),
        ({"chronos-II": 1.05}, "**no, not on chronos-II**; so no patcher is to be compared"),
        ({"gift-eval": None}, "**not known yet**; runs or tasks of gift-eval are missing"),
    ],
)
def test_the_criterion_is_said_plainly(
    tmp_path: Path, changes: dict[str, float | None], words: str
) -> None:
    """Equal patches beat the seasonal naive in all three benchmarks, or not, or nobody knows."""
    shares = {name: changes.get(task.benchmark, 0.9) for name, task in tasks.tasks().items()}
    there = {name: share for name, share in shares.items() if share is not None}
    save(tmp_path, *runs("uniform", there))
    assert words in tables.markdown(tmp_path)
    assert words in tables.excerpt(tmp_path)


def test_a_task_that_was_not_run_leaves_the_criterion_open(tmp_path: Path) -> None:
    """Half a benchmark is not the benchmark."""
    save(tmp_path, *runs("uniform", {FEV: 0.5, CHRONOS: 0.5, GIFT: 0.5}))
    assert "**not known yet**" in tables.markdown(tmp_path)


# Against equal patches


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ((0.90, 0.91, 0.92), LESS),
        ((1.10, 1.11, 1.12), MORE),
        ((0.999, 1.0, 1.001), "near-tie"),
        ((0.9, 1.0, 1.2), "no detectable difference"),
    ],
)
def test_a_change_is_found_where_sources_agree(
    tmp_path: Path, ratios: tuple[float, ...], said: str
) -> None:
    """Three source families that say the same suffice; three that differ do not."""
    found = board(
        tmp_path,
        *runs("uniform", dict.fromkeys(FEW, 0.9)),
        *runs("soft", {name: 0.9 * by for name, by in zip(FEW, ratios, strict=True)}),
    )
    assert {said} == set(found.paired.finding)
    assert {3} == set(found.paired.families)


def test_tasks_of_one_source_are_no_sample(tmp_path: Path) -> None:
    """With a single family there is a change, and no interval."""
    ett = [name for name, task in tasks.tasks().items() if task.family == "ett"]
    found = board(
        tmp_path, *runs("uniform", dict.fromkeys(ett, 0.9)), *runs("soft", dict.fromkeys(ett, 0.5))
    )
    assert found.paired.low.isna().all()
    assert {""} == set(found.paired.finding)
    assert np.allclose(found.paired.change, math.log(0.5 / 0.9))


def test_a_pre_training_that_is_good_everywhere_widens_the_interval() -> None:
    """One is scored on all tasks: its luck does not average out over them."""
    counts = np.ones((10, 4))
    luck = np.array([1.0, -1.0, 1.0, -1.0])
    common = np.tile(luck, (10, 1))
    of_cells = common * np.array([1, -1] * 5)[:, None]
    low, high = paired.interval(common, counts)
    narrow_low, narrow_high = paired.interval(of_cells, counts)
    assert high - low > 2 * (narrow_high - narrow_low) > 0


def test_an_interval_holds_the_truth_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources and seeds of a made-up benchmark of unequal families; 95 %, give or take."""
    monkeypatch.setattr(paired, "_RESAMPLES", 500)
    generator = np.random.default_rng(3)
    sizes = np.array([22.0, 5, 5, 3, 1, 1, 3, 3, 3, 2, 3, 3])[:, None]
    held = []
    for _ in range(200):
        levels = generator.normal(0, 0.02, (12, 1)) + generator.normal(0, 0.01, (1, 3))
        cells = levels + generator.normal(0, 0.01, (12, 3))
        low, high = paired.interval(sizes * cells, np.repeat(sizes, 3, axis=1))
        held.append(low <= 0 <= high)
    assert 0.9 <= np.mean(held) <= 0.99


# Context


def test_published_models_stand_as_published(tmp_path: Path) -> None:
    """On all 54 tasks their means are those that their benchmarks' tables give."""
    found = board(tmp_path, *runs("uniform", dict.fromkeys(tasks.tasks(), 0.9)))
    shown = context.published(found.rows)
    models = {(own.benchmark, own.model): own for own in each(shown)}
    for model, expected in {
        ("fev-bench", "TiRex-2"): (0.670, 0.576),
        ("chronos-II", "tirex"): (0.807, 0.632),
        ("gift-eval", "PatchTST-FM-r1"): (0.745, 0.541),
    }.items():
        own = models[model]
        assert expected == (round(own.mase, 3), round(own.quantile, 3))
        assert own.tasks == own.tasks_of
    for benchmark, names in context.NAMED.items():
        assert {*names} <= {model for of, model in models if of == benchmark}
    assert not {"seasonal_naive", "Seasonal Naive"} & {model for _, model in models}


def test_a_reference_stands_beside_and_is_never_ranked(tmp_path: Path) -> None:
    """Theta has its means by benchmark, and no line among the patchers."""
    found = Board(read(small.write(tmp_path)))
    assert "theta" not in set(found.standings.method)
    assert np.allclose(context.references(found.rows).mase, 0.97)


def test_references_alone_are_no_board_of_patchers(tmp_path: Path) -> None:
    """They may be scored first: then there is context, and nothing to compare."""
    save(tmp_path, small.record("zero_shot", "theta", FEV, "", 1, 0.97))
    page = tables.markdown(tmp_path)
    assert "No run of a patcher is there that counts." in page
    assert "| `theta` | fev-bench | 0.970 | 0.970 | 1 |" in page
    assert "Every task" not in page


def test_masked_cases_are_flagged(tmp_path: Path) -> None:
    """A task of which more than 5 in 100 cases could not be scored is named."""
    save(
        tmp_path,
        small.record("zero_shot", "uniform", FEV, "open", 1, 0.9, masked=6),
        small.record("zero_shot", "uniform", GIFT, "open", 1, 0.9, masked=5),
    )
    assert f"**Masked**: on {FEV} more than 5%" in tables.markdown(tmp_path)


# Rows


def test_rows_of_other_series_are_refused(tmp_path: Path) -> None:
    """The share would be of a naive on other values."""
    [row] = runs("uniform", {FEV: 0.9})
    save(tmp_path, replace(row, data_hash="0" * 64))
    with pytest.raises(ValueError, match=r"scored on other series.* fev-bench/epf_be"):
        read(tmp_path)


def test_a_run_counts_once(tmp_path: Path) -> None:
    """Two settings of a patcher after the same pre-training are two answers."""
    [row] = runs("uniform", {FEV: 0.9})
    other = replace(row, job=row.job.replace('"hyperparameters":{}', '"hyperparameters":{"a":1}'))
    save(tmp_path, row, other)
    with pytest.raises(ValueError, match=rf"more than once: uniform \(open\) on {FEV} seed 1"):
        read(tmp_path)


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    """There is nothing to count, which is no board without lines."""
    with pytest.raises(FileNotFoundError, match="holds no records"):
        read(tmp_path)


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    """The same runs give the same tables, to the byte."""
    rows = [*runs("uniform", dict.fromkeys(FEW, 0.9)), *runs("soft", dict.fromkeys(FEW, 0.8))]
    one = save(tmp_path / "zero_shot", *rows)
    before = [path.read_bytes() for path in tables.write(Board(read(one)), one)]
    save(one, *reversed(rows))
    assert before == [path.read_bytes() for path in tables.write(Board(read(one)), one)]


def test_every_table_can_be_read_back(tmp_path: Path) -> None:
    """Tables of data have a line for each scope, pair and cell."""
    folder = small.write(tmp_path / "zero_shot")
    found = Board(read(folder))
    tables.write(found, folder)
    made = folder / "report"
    for name, table in zip(
        tables.TABLES, (found.standings, found.paired, found.cells), strict=False
    ):
        assert len(table) == len(pd.read_csv(made / name)) > 0
