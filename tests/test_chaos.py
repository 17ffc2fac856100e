"""Nothing is lost when processes are killed: small here, in full with ``make chaos``."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.results.rows import read_rows
from harness.studies import scale
from harness.studies.chaos import Report, chaos

ROOT = Path(__file__).parents[1]
# The verb as it is typed, without MLflow and without the pictures at its end.
DRIVER = f"""\
import sys
sys.path.insert(0, {str(ROOT)!r})
if __name__ == "__main__":
    from harness.cli import verbs
    verbs._tracker = lambda *arguments: None
    verbs._show_leaderboard = lambda folder: None
    verbs.main()
"""


@pytest.fixture
def bench(tmp_path: Path) -> list[str | Path]:
    """The command that benches."""
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    return [sys.executable, driver, "bench"]


@pytest.mark.usefixtures("kills_workers")
def test_killing_parents_and_workers_loses_nothing(
    tmp_path: Path, bench: list[str | Path]
) -> None:
    """24 runs, 4 kills: as many rows as runs, none twice, and the digits of an undisturbed run."""
    report = chaos(tmp_path / "chaos", bench, jobs=24, kills=4, seed=1)
    assert report.parents > 0
    assert report.workers > 0
    assert not report.lost
    assert report.left_over == 0


@pytest.mark.parametrize("harm", [{"rows": 11}, {"doubled": 1}, {"other_digits": 1}])
def test_a_report_with_any_harm_is_one_of_loss(harm: dict[str, int]) -> None:
    """A row too few, a row too many or a changed digit makes the study fail."""
    sound = Report(jobs=12, rows=12, parents=2, workers=2, starts=3, retried=1)
    assert not sound.lost
    assert replace(sound, **harm).lost


def test_a_bench_that_cannot_work_is_no_success(tmp_path: Path) -> None:
    """A command that fails at once is started a few times more and then given up."""
    with pytest.raises(RuntimeError, match="does not come to an end"):
        chaos(
            tmp_path / "chaos",
            [sys.executable, "-c", "raise SystemExit(3)"],
            jobs=4,
            kills=1,
            seed=1,
        )


def test_runs_that_do_nothing_are_all_stored(tmp_path: Path) -> None:
    """Plan, executor and rows, two hundred times over."""
    costs = scale.schedule(tmp_path / "results", 200)
    assert costs.late > 0
    assert "200 runs that do nothing" in str(costs)
    assert len(read_rows(tmp_path / "results" / "nothing" / "uniform.csv")) == 200


def test_a_made_up_suite_is_read_whole(tmp_path: Path) -> None:
    """Every row that is written comes back, and the time it takes is told."""
    folder = scale.write_suite(tmp_path / "many", methods=5, datasets=2, seeds=2)
    rows, seconds = scale.read(folder)
    assert rows == 5 * 2 * 4 * 2
    assert seconds > 0
