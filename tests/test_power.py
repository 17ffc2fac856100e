"""The power of a table is foretold from its own rows, and holds where gains are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.report import power, wording
from harness.report.percent import MARGIN
from harness.studies import simulation
from harness.studies.simulation import World


def rows(deltas: dict[str, dict[tuple[str, int], list[float]]], **changes: object) -> pd.DataFrame:
    """Log ratios to ``uniform`` by method, data set and horizon, a seed each."""
    lines: list[dict[str, Any]] = [
        {
            "look_back": 96,
            "method": name,
            "dataset": dataset,
            "horizon": horizon,
            "patches": 8,
            "seed": seed,
            "mse": math.exp(delta),
            "kind": "patcher",
            "ranked": True,
            "failed": False,
            **changes,
        }
        for method, cells in deltas.items()
        for (dataset, horizon), own in cells.items()
        for seed, delta in enumerate(own)
        for name, delta in ((method, delta), *((("uniform", 0.0),) * (method == min(deltas))))
    ]
    return pd.DataFrame(lines)


def only(table: pd.DataFrame) -> Any:  # noqa: ANN401 - a named tuple of pandas
    """The one line that is there."""
    [line] = table.itertuples()
    return line


@pytest.mark.parametrize("world", [World(), World(datasets=5, methods=3), World(seeds=3, noise=3)])
def test_a_gain_is_found_as_often_as_foretold(world: World) -> None:
    """The gain of which it says 80 % is found in 80 % of made-up tables, by the verdicts' rule."""
    slack = 3 * np.sqrt(0.8 * 0.2 / 500)
    assert simulation.foretold(world, 500, alike=False) == pytest.approx(0.8, abs=slack)
    assert simulation.foretold(world, 200, alike=True) < 0.7


def test_more_data_find_smaller_gains() -> None:
    """So do less noise and fewer methods; below the smallest effect nothing is found often."""
    found = power.chance(0.01, spread=0.01, units=7, tests=12)
    assert power.chance(0.02, 0.01, 7, 12) > found
    assert power.chance(0.01, 0.01, 12, 12) > found
    assert power.chance(0.01, 0.005, 7, 12) > found
    assert power.chance(0.01, 0.01, 7, 3) > found
    assert power.chance(0.9 * MARGIN, 0.01, 1000, 1) < 0.5
    gain = power.gain_found(0.01, 7, 12)
    assert power.chance(gain, 0.01, 7, 12) == pytest.approx(0.8, abs=1e-6)


def test_without_any_spread_the_smallest_effect_is_found_for_certain() -> None:
    """There is nothing that it could be mistaken for."""
    assert power.gain_found(0.0, 7, 12) == MARGIN
    assert (power.chance(MARGIN, 0.0, 7, 12), power.chance(0.9 * MARGIN, 0.0, 7, 12)) == (1, 0)


def test_spread_and_noise_are_those_of_the_rows() -> None:
    """By hand: seeds .01 to either side, and means of data sets of 0, .02 and .04."""
    cells = {
        (name, horizon): [mean - 0.01, mean + 0.01]
        for name, mean in (("a", 0.0), ("b", 0.02), ("c", 0.04))
        for horizon in (24, 48)
    }
    line = only(power.power(rows({"learned": cells})))
    assert (line.datasets, line.tasks, line.seeds_least, line.seeds_most) == (3, 6, 2, 2)
    assert (line.unit, line.methods, line.reference) == ("data set", 1, "uniform")
    assert line.spread == pytest.approx(100 * math.expm1(0.02))
    assert line.noise == pytest.approx(100 * math.expm1(0.01 * math.sqrt(2)))
    assert line.gain == pytest.approx(-100 * math.expm1(-power.gain_found(0.02, 3, 1)))
    assert line.chance_2 == pytest.approx(power.chance(-math.log(0.98), 0.02, 3, 1))
    assert line.gain_least == line.gain == line.gain_most


def test_of_one_data_set_it_speaks_of_seeds_and_says_so() -> None:
    """The unit is the seed, the median method decides, and the range is that of all methods."""
    shapes = {"calm": 0.001, "usual": 0.01, "wild": 0.1}
    cells = {name: {("a", 24): [-size, 0.0, size]} for name, size in shapes.items()}
    line = only(power.power(rows(cells)))
    assert (line.unit, line.methods, line.datasets) == ("seed", 3, 1)
    assert line.spread == pytest.approx(100 * math.expm1(0.01)) == pytest.approx(line.noise)
    assert line.gain_least < line.gain < line.gain_most
    said = wording.power(line)
    assert "(1 data set, 1 task, 3 seeds)" in said
    assert "One data set says nothing of how methods differ between sets" in said


def test_where_nothing_can_be_said_nothing_is() -> None:
    """Without a reference, without a judged method that finished, and with one unit."""
    cells = {("a", 24): [0.0, 0.01], ("b", 24): [0.0, 0.02]}
    table = rows({"learned": cells})
    assert power.power(table[table.method == "learned"]).empty
    assert power.power(table[table.method == "uniform"]).empty
    assert power.power(table.assign(failed=table.method == "learned")).empty
    assert power.power(rows({"learned": {("a", 24): [0.0]}})).empty
    assert not power.power(table).empty


def test_rows_that_were_not_charged_are_refused() -> None:
    """A failed run must not pass for a measurement."""
    table = rows({"learned": {("a", 24): [0.0, 0.01]}})
    with pytest.raises(AttributeError, match="failed"):
        power.power(table.drop(columns="failed"))
