"""Exported rows have the columns and task definitions of other benchmarks, and invent nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import small_zero_shot as small
from small_zero_shot import FEW

from harness.report.zero_shot.export import export
from harness.results.rows import read_rows, write_rows
from harness.zero_shot import tasks

FEV, CHRONOS, GIFT = FEW


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small.write(tmp_path / "zero_shot", seeds=1)


def test_fev_has_a_file_for_each_patcher_corpus_and_seed(folder: Path, tmp_path: Path) -> None:
    """Of fev-bench and Chronos Benchmark II apart, references too."""
    written = export(folder, "fev", tmp_path / "out")
    names = {str(file.path.relative_to(tmp_path / "out")) for file in written}
    arms = [f"{method}-{corpus}-1" for method in small.LEVEL for corpus in small.CORPORA]
    assert names == {
        f"{place}/{arm}.csv"
        for place in ("fev_bench", "chronos_zeroshot")
        for arm in (*arms, "theta")
    }
    assert {(file.rows, file.missing) for file in written} == {(1, 11), (1, 13)}


def test_a_line_of_fev_says_what_was_measured(folder: Path, tmp_path: Path) -> None:
    """The main metric is the test error; a fingerprint or version of fev is not made up."""
    export(folder, "fev", tmp_path / "out")
    [row] = [row for row in read_rows(folder / "uniform.csv") if row.corpus == "open"][:1]
    assert row.dataset == "chronos-II.ETTh"
    [own] = lines(tmp_path / "out" / "chronos_zeroshot" / "uniform-open-1.csv")
    assert (own["test_error"], own["MASE"]) == (repr(row.mase), repr(row.mase))
    assert (own["WQL"], own["SQL"]) == (repr(row.quantile_loss), "")
    assert (own["dataset_fingerprint"], own["fev_version"]) == ("", "")
    assert (own["trained_on_this_dataset"], own["num_forecasts"]) == ("False", "100")
    [main] = lines(tmp_path / "out" / "fev_bench" / "uniform-open-1.csv")
    assert main["eval_metric"] == "SQL"
    assert main["test_error"] == main["SQL"]
    assert main["known_dynamic_columns"] == "['Generation forecast', 'System load forecast']"
    assert (main["initial_cutoff"], main["window_step_size"]) == ("-480", "24")


def test_gift_has_a_folder_a_model(folder: Path, tmp_path: Path) -> None:
    """With MASE and CRPS under the names that its tables read, and all else empty."""
    written = export(folder, "gift", tmp_path)
    path = tmp_path / "uniform-open-1" / "all_results.csv"
    assert path in {file.path for file in written}
    [own] = lines(path)
    assert own["dataset"] == "m4_weekly/W/short"
    known = {name for name, value in own.items() if value}
    assert known == {
        *("dataset", "model", "domain", "num_variates", "eval_metrics/MASE[0.5]"),
        "eval_metrics/mean_weighted_sum_quantile_loss",
    }


def test_failed_runs_are_left_out_and_counted(tmp_path: Path) -> None:
    """No number is made up for them."""
    failed = small.record("zero_shot", "soft", FEV, "open", 1, None)
    done = small.record("zero_shot", "soft", "fev-bench/epf_de", "open", 1, 0.9)
    write_rows(tmp_path / "soft.csv", [failed, done])
    [file] = export(tmp_path, "fev", tmp_path / "out")
    assert (file.rows, file.missing) == (1, 11)


def test_every_task_is_described(tmp_path: Path) -> None:
    """None of the 54 lacks what its benchmark says of it."""
    records = [
        small.record("zero_shot", "uniform", name, "open", 1, 0.9) for name in tasks.tasks()
    ]
    write_rows(tmp_path / "uniform.csv", records)
    written = [*export(tmp_path, "fev", tmp_path), *export(tmp_path, "gift", tmp_path)]
    assert [file.missing for file in written] == [0, 0, 0]
    for file in written:
        for own in lines(file.path):
            assert own.get("dataset_path") or own["domain"]


def test_an_unknown_form_is_refused(folder: Path, tmp_path: Path) -> None:
    """And the nearest one named."""
    with pytest.raises(ValueError, match="gift"):
        export(folder, "gifts", tmp_path)
