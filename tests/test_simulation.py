"""The study of false and missed wins writes what the README and the tests of statistics read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from harness.studies import simulation

RESULTS = Path(__file__).parents[1] / "results"


def test_it_writes_tables_of_the_form_that_is_committed(tmp_path: Path) -> None:
    """Few leaderboards give the same lines and columns as many."""
    written = simulation.main(tmp_path, tables=2)
    assert written == tmp_path / "calibration.csv"
    few, many = (pd.read_csv(folder / "calibration.csv") for folder in (tmp_path, RESULTS))
    assert few.columns.tolist() == many.columns.tolist()
    pd.testing.assert_frame_equal(few[["world", "measure"]], many[["world", "measure"]])
    assert set(few.tables) == {2}


def test_the_error_of_a_share_shrinks_with_the_leaderboards_behind_it() -> None:
    """A share of a half is known to 5 % from a hundred leaderboards, to 1 % from 2,500."""
    shares = pd.DataFrame({"share": [0.5]})
    errors = [simulation.with_error(shares, tables).error.item() for tables in (100, 2500)]
    assert errors == [pytest.approx(0.05), pytest.approx(0.01)]
