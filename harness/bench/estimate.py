"""How long runs will take, from the rows there are."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.bench.survey import Folders, PlannedRun
from harness.results.rows import read_rows


@dataclass(frozen=True)
class Estimate:
    """Seconds of work, one run after another, and how many runs nothing is known of."""

    seconds: float
    unknown: int


def estimate(planned: Sequence[PlannedRun], folders: Folders) -> Estimate:
    """How long the runs will take, from rows there are, of whatever age.

    What is known of a run is, the nearest first: the mean of its method on its task; that of
    uniform patches there, times what ``cost.csv`` says of a step; that of its method elsewhere.
    """
    paths = {folders.rows(run.job): None for run in planned}
    paths |= {path.with_name("uniform.csv"): None for path in paths}
    spent: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for record in (record for path in paths for record in read_rows(path)):
        if record.train_seconds is not None:
            seconds = record.train_seconds + (record.evaluate_seconds or 0.0)
            place = (record.dataset, record.look_back, record.horizon)
            spent[record.method, *place].append(seconds)
            spent[record.method,].append(seconds)
    ratio = _step_ratios(folders.results / "cost.csv")
    known = []
    for method, task in ((run.job.method, run.job.task) for run in planned):
        place = (task.dataset, task.look_back, task.horizon)
        if own := spent.get((method, *place)):
            known.append(fmean(own))
        elif (others := spent.get(("uniform", *place))) and method in ratio:
            known.append(fmean(others) * ratio[method])
        elif elsewhere := spent.get((method,)):
            known.append(fmean(elsewhere))
    return Estimate(sum(known), len(planned) - len(known))


def _step_ratios(path: Path) -> dict[str, float]:
    """What a training step of each method costs, in steps with uniform patches."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["method"]: float(row["ratio"]) for row in csv.DictReader(file)}
