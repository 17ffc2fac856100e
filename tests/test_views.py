"""What stands beside the errors: what they cost, and what the controls say of each data set."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from harness.report import controls, costs


def row(
    method: str, mse: float, dataset: str = "a", seed: int = 1, **changes: object
) -> dict[str, Any]:
    """A finished run of which the costs are known."""
    return {
        "look_back": 96,
        "method": method,
        "dataset": dataset,
        "horizon": 24,
        "patches": 8,
        "seed": seed,
        "mse": mse,
        "failed": False,
        "device": "cpu",
        "steps": 100.0,
        "flops_step": 10.0,
        "flops": 2.0,
        "evaluate_seconds": 4.0,
        "windows": 8.0,
        **changes,
    }


def ranked(changes: dict[str, float]) -> pd.DataFrame:
    """The lines of a ranking that costs stand beside."""
    table = pd.DataFrame({"method": list(changes), "change": list(changes.values())})
    return table.assign(look_back=96, track="strict", failures=0)


def test_costs_are_ratios_to_uniform_and_their_means_are_geometric() -> None:
    """By hand: a factor 4 on one data set and 1 on the other is 2; half the steps are halves."""
    rows = pd.DataFrame(
        [
            *(row("uniform", 1.0, dataset) for dataset in "ab"),
            row("learned", 1.0, "a", flops_step=40.0, steps=50.0, flops=8.0),
            row("learned", 1.0, "b", flops_step=10.0, steps=50.0, flops=2.0),
        ]
    )
    found = costs.costs(rows, ranked({"uniform": 0.0, "learned": -1.0})).set_index("method")
    ratios = found[[*costs.COSTS]].T.to_dict("list")
    assert ratios == {"uniform": [1.0] * 4, "learned": [0.5, 1.0, 2.0, 1.0]}


def test_what_was_not_measured_or_cannot_be_compared_is_empty() -> None:
    """A cost of nothing, one without its column, seconds of two devices, and no uniform at all."""
    rows = pd.DataFrame([row("uniform", 1.0), row("naive", 1.0, steps=0.0, device="gpu")])
    ranking = ranked({"uniform": 0.0, "naive": 50.0})
    found = costs.costs(rows.drop(columns="flops"), ranking).set_index("method")
    assert found[[*costs.COSTS]].loc["naive"].isna().all()
    assert found.steps.uniform == 1
    alone = costs.costs(rows[rows.method != "uniform"], ranking)
    assert alone[[*costs.COSTS]].isna().all(axis=None)
    assert (alone.front == "").all()


def test_a_front_has_who_is_not_beaten_at_the_same_cost() -> None:
    """The best, and who is cheaper than all that are better; nobody who failed or has no place."""
    spent = {"best": 4.0, "uniform": 1.0, "cheap": 0.5, "lazy": 0.5, "failing": 0.1, "beside": 0.1}
    rows = pd.DataFrame(
        [row(name, 1.0, flops=cost, flops_step=cost) for name, cost in spent.items()]
    )
    changes = {
        "best": -5.0,
        "uniform": 0.0,
        "cheap": 2.0,
        "lazy": 3.0,
        "failing": -9,
        "beside": -9,
    }
    ranking = ranked(changes)
    ranking.loc[ranking.method == "failing", "failures"] = 1
    ranking.loc[ranking.method == "beside", "track"] = ""
    front = costs.costs(rows, ranking).set_index("method").front
    everywhere = "steps, training FLOPs, forward FLOPs"
    assert front.to_dict() == {
        "best": everywhere,
        "uniform": "training FLOPs, forward FLOPs",
        "cheap": "training FLOPs, forward FLOPs",
        "lazy": "",
        "failing": "",
        "beside": "",
    }


def test_controls_say_what_a_moving_grid_and_a_backbone_do() -> None:
    """By hand, geometric over seeds; 3 % without a backbone is still too little, 4 % is not."""
    rows = pd.DataFrame(
        [
            *(row("uniform", 1.0, dataset, seed) for dataset in "ab" for seed in (1, 2)),
            *(row("phase_shift", 2.0**seed, "a", seed) for seed in (1, 2)),
            *(row("random_step", 0.5, dataset, seed) for dataset in "ab" for seed in (1, 2)),
            *(row("uniform_identity", 1.029, "a", seed) for seed in (1, 2)),
            *(row("uniform_identity", 1.04, "b", seed) for seed in (1, 2)),
            row("learned", 9.0),
        ]
    )
    found = controls.by_dataset(rows).set_index("dataset")
    assert found.index.tolist() == ["a", "b"]
    assert found.phase_shift["a"] == pytest.approx(100 * (2**1.5 - 1))
    assert math.isnan(found.phase_shift["b"])
    assert found.random_step.tolist() == pytest.approx([-50, -50])
    assert found.idle.to_dict() == {"a": True, "b": False}


def test_without_controls_there_is_nothing_to_say() -> None:
    """No lines without uniform or with it alone; without an identity no set is called idle."""
    alone = pd.DataFrame([row("uniform", 1.0), row("learned", 1.0)])
    assert controls.by_dataset(alone).empty
    assert controls.by_dataset(pd.DataFrame([row("random_step", 1.0)])).empty
    some = controls.by_dataset(pd.DataFrame([row("uniform", 1.0), row("random_step", 1.0)]))
    assert some.idle.tolist() == [False]
    assert some.uniform_identity.isna().all()
