"""Plans that have collapsed are marked wherever a method stands."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.core.job import Job, Provenance, Record, new_record
from harness.core.task import Task
from harness.report import board, collapse, tables
from harness.report.page import page_text
from harness.results.rows import write_rows
from harness.results.table import METRICS, read_table


def record(method: str, dataset: str, seed: int, **measured: Any) -> Record:  # noqa: ANN401 - columns
    numbers = {"tokens_mean": 12.0, "position_bias": 0.2, "ranked": True, "strict": True}
    values: dict[str, Any] = dict.fromkeys(METRICS, 1.0) | {"status": "done"} | numbers | measured
    return new_record(
        Job("tiny", method, Task(dataset, 96, 24, 12), seed),
        Provenance("c0ffee", "torch"),
        kind="patcher",
        rules="best",
        method_source="m" * 64,
        data_hash="d" * 64,
        data_verified=True,
        device="cpu",
        **values,
    )


def rows(folder: Path, *records: Record) -> pd.DataFrame:
    folder.mkdir()
    everyone = [*records, *equal(), *(record("random_step", "ETTh1", seed) for seed in (1, 2))]
    for method in {one.method for one in everyone}:
        write_rows(folder / f"{method}.csv", [one for one in everyone if one.method == method])
    return read_table(folder)


def equal() -> Iterable[Record]:
    return (record("uniform", "ETTh1", seed, position_bias=1.0, grid=True) for seed in (1, 2))


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        ({"position_bias": 1.0}, "collapsed: one plan for all rows"),
        ({"position_bias": None, "strict": False, "tokens_mean": 1.0}, "collapsed: 1.0 tokens"),
        (
            {"position_bias": None, "strict": False, "tokens_mean": 96.0},
            "collapsed: patches of one step",
        ),
    ],
)
def test_a_method_that_cuts_without_looking_is_marked(
    tmp_path: Path, measured: dict[str, Any], said: str
) -> None:
    """On the board beside its place, on the page beside its name, and in the notes."""
    table = rows(
        tmp_path / "tiny", *(record("learned", "ETTh1", seed, **measured) for seed in (1, 2))
    )
    counted = board.count(table)
    marked = counted.ranking.set_index("method").collapsed
    assert dict(marked) == {"learned": said, "uniform": "", "random_step": ""}
    text = tables.markdown(counted)
    (line,) = [line for line in text.splitlines() if line.startswith("| 1 | `learned`")]
    assert line.endswith(f"| {said} |")
    assert f"whatever its error says: learned, look-back 96: {said}." in text
    promise = "" if measured.get("strict", True) else "about K patches; "
    assert f"<small>{promise}{said}</small>" in page_text(tmp_path / "tiny")


def test_a_seed_that_collapsed_is_counted(tmp_path: Path) -> None:
    """A method may do so in some of its runs; failed ones, without boundaries, are none."""
    unknown = dict.fromkeys([*METRICS, "tokens_mean", "position_bias"])
    failed = record("learned", "ETTh1", 3, status="failed", **unknown)
    table = rows(
        tmp_path / "tiny",
        record("learned", "ETTh1", 1, tokens_mean=1.02),
        record("learned", "ETTh1", 2),
        failed,
    )
    assert collapse.collapsed(table) == {(96, "learned"): "collapsed in 1 of 2 runs: 1.0 tokens"}


def test_grids_by_design_and_what_is_never_ranked_are_not_called_collapsed(
    tmp_path: Path,
) -> None:
    """All rows alike is what these are for; an oracle cuts where the truth is."""
    grids = [
        record(name, "ETTh1", 1, position_bias=1.0, grid=True)
        for name in ("mine", "random_frozen")
    ]
    oracle = record("oracle", "ETTh1", 1, position_bias=1.0, ranked=False)
    assert collapse.collapsed(rows(tmp_path / "tiny", *grids, oracle)) == {}


def test_where_nothing_collapsed_nothing_is_said(tmp_path: Path) -> None:
    """Neither column nor note, also of older rows, which have no such numbers."""
    table = rows(tmp_path / "tiny", record("learned", "ETTh1", 1), record("learned", "ETTh1", 2))
    older = table.drop(columns="position_bias")
    for known in (table, older):
        assert "collapse" not in tables.markdown(board.count(known)).lower()
