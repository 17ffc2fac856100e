"""Arms of a method: lines of their own on a leaderboard, each against another."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from small_rows import JOB, row

from harness.core.job import Job, Stage
from harness.report import board, tables, transfer
from harness.report.page import write_page
from harness.results.rows import write_rows
from harness.results.table import charged, read_table

DATASETS = ("ETTh1", "ETTh2", "ETTm1", "weather")
Arm = tuple[str, Stage | None, str | None]
ERRORS: Mapping[Arm, tuple[float, ...]] = {
    ("uniform", None, None): (1.0, 1.0, 1.0, 1.0),
    ("reinpatch", None, None): (0.81, 0.9, 0.9, 1.0),
    ("reinpatch", "untrained", None): (1.0, 1.0, 1.0, 1.0),
    ("reinpatch", "frozen", "open"): (0.9, 0.9, 1.0, 1.0),
    ("reinpatch", "frozen", "synthetic"): (0.9, 0.9, 0.9, 0.9),
}
"""MSE by data set."""


def job(arm: Arm, dataset: str, seed: int) -> Job:
    method, stage, corpus = arm
    task = replace(JOB.task, dataset=dataset)
    needs = None
    if corpus is not None:
        needs = replace(JOB, suite="pretraining", method=method, stage="pretrain")
        needs = replace(needs, task=replace(task, dataset=corpus))
    return replace(JOB, method=method, task=task, seed=seed, stage=stage, needs=needs)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows of two seeds of each arm on four data sets."""
    place = tmp_path / "small"
    place.mkdir()
    for method in ("uniform", "reinpatch"):
        records = [
            row(
                job(arm, dataset, seed),
                mse=error,
                mse_raw=error,
                mae_raw=1.0,
                mase=1.0,
                smape=1.0,
                strict=True,
                rules="best",
                rule="best",
                tokens_mean=12.0,
                needs=None if arm[2] is None else "0" * 16,
            )
            for arm, errors in ERRORS.items()
            if arm[0] == method
            for dataset, error in zip(DATASETS, errors, strict=True)
            for seed in (1, 2)
        ]
        write_rows(place / f"{method}.csv", records)
    return place


def geometric(*changes: float) -> float:
    return 100 * (math.prod(changes) ** (1 / len(changes)) - 1)


def test_each_question_is_the_geometric_mean_over_data_sets(folder: Path) -> None:
    """Frozen against untrained, trained on the target against frozen, corpora, equal patches."""
    found = transfer.questions(charged(read_table(folder)))
    changes = {(line.method, line.control): line.change for line in found.itertuples()}
    here, there = "reinpatch_frozen_open", "reinpatch_frozen_synthetic"
    assert changes == pytest.approx(
        {
            (here, "reinpatch_untrained"): geometric(0.9, 0.9, 1.0, 1.0),
            (there, "reinpatch_untrained"): -10.0,
            ("reinpatch", here): geometric(0.9, 1.0, 0.9, 1.0),
            ("reinpatch", there): geometric(0.9, 1.0, 1.0, 1 / 0.9),
            (here, there): geometric(1.0, 1.0, 1 / 0.9, 1 / 0.9),
            (here, "uniform"): geometric(0.9, 0.9, 1.0, 1.0),
            (there, "uniform"): -10.0,
        }
    )
    assert set(found.datasets) == {4}
    assert (found.low <= found.change).all()
    assert (found.change <= found.high).all()


def test_without_a_frozen_arm_nothing_is_asked(folder: Path) -> None:
    """As in every other suite."""
    rows = charged(read_table(folder))
    assert transfer.questions(rows[rows.stage != "frozen"]).empty


def test_arms_are_lines_of_their_own_and_an_untrained_one_is_never_ranked(folder: Path) -> None:
    """By label; the usual arm keeps the name of its method, and what belongs to that."""
    rows = read_table(folder)
    arms = rows.drop_duplicates("method").set_index("method")
    assert set(arms.index) == {
        "uniform",
        "reinpatch",
        "reinpatch_untrained",
        "reinpatch_frozen_open",
        "reinpatch_frozen_synthetic",
    }
    assert set(arms.base) == {"uniform", "reinpatch"}
    assert not arms.ranked["reinpatch_untrained"]
    assert arms.ranked.sum() == 4
    found = board.count(rows)
    places = found.ranking.set_index("method").place
    assert pd.isna(places["reinpatch_untrained"])
    assert places["reinpatch_frozen_synthetic"] == 1


def test_table_and_page_ask_the_questions(folder: Path) -> None:
    """In words, beside what the controls say; a card of the method serves all of its arms."""
    text, *_ = tables.write(folder, holes="show")
    said = text.read_text(encoding="utf-8")
    assert transfer.TAUGHT in said
    assert "| `reinpatch_frozen_synthetic` | `reinpatch_untrained` | -10.00 % |" in said
    cards = {"reinpatch": {"summary": "Learns where to cut.", "source": "", "fidelity": ""}}
    *_, page = write_page(folder, about="", cards=cards)
    whole = page.read_text(encoding="utf-8")
    assert whole.count("Learns where to cut.") >= 4
    assert transfer.TARGET in whole
