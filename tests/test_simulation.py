"""The study of false and missed wins writes what the README and the tests of statistics read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from harness.studies import simulation

RESULTS = Path(__file__).parents[1] / "results"


def test_it_writes_tables_of_the_form_that_is_committed(tmp_path: Path) -> None:
    """Few leaderboards give the same lines and columns as many, and a picture of the power."""
    written = simulation.main(tmp_path, tables=2)
    assert {path.name for path in written} >= {"calibration.csv", "power.csv", "power.svg"}
    assert all(path.stat().st_size for path in written)
    for name, index in (
        ("calibration", ["world", "measure"]),
        ("power", ["datasets", "seeds", "methods", "spread", "noise", "effect"]),
    ):
        few, many = (pd.read_csv(folder / f"{name}.csv") for folder in (tmp_path, RESULTS))
        assert few.columns.tolist() == many.columns.tolist()
        pd.testing.assert_frame_equal(few[index], many[index])
        assert set(few.tables) == {2}


def test_the_error_of_a_share_shrinks_with_the_leaderboards_behind_it() -> None:
    """A share of a half is known to 5 % from a hundred leaderboards, to 1 % from 2,500."""
    shares = pd.DataFrame({"power": [0.5]})
    errors = [
        simulation.with_error(shares, "power", tables).error.item() for tables in (100, 2500)
    ]
    assert errors == [pytest.approx(0.05), pytest.approx(0.01)]
