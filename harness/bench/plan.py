"""The jobs of a suite, in a fixed order, with what searches have chosen where it is tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.bench.suite import Block, Choice, Suite, choices
from harness.core.job import Job
from harness.core.words import unknown

Chosen = Mapping[tuple[object, ...], Choice]
"""What was chosen, by method, data set, look-back, horizon and K."""


def plan(
    suite: Suite,
    *,
    datasets: Sequence[str] | None = None,
    look_backs: Sequence[int] | None = None,
    horizons: Sequence[int] | None = None,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    results: Path | None = None,
    learns: Callable[[Job], bool] = lambda job: True,
) -> list[Job]:
    """All jobs of a suite, or those of a selection, in a fixed order: task by task, seed by seed.

    A method that the suite does not name runs on every block: so a new one needs no edit of a
    suite. With the folder ``results``, the jobs of a suite that is tuned carry what searches
    chose; ``learns`` says of a method for which nothing was chosen whether it has anything to
    tune. Without the folder they are what a search starts from.

    Raises:
        ValueError: a data set, horizon or seed that the suite does not have; nothing selected; or
            a search that is missing, or had another number of trials than the suite gives.
    """
    _within(suite, "data set", datasets, suite.datasets)
    _within(suite, "look-back", look_backs, [n for block in suite.blocks for n in block.look_back])
    _within(suite, "horizon", horizons, [h for block in suite.blocks for h in block.horizons])
    _within(suite, "seed", seeds, [seed for block in suite.blocks for seed in block.seeds])
    chosen = _choices(suite, results, methods) if results is not None and suite.tuned else {}
    jobs = [
        job
        for job in _jobs(suite, methods, chosen)
        if (datasets is None or job.task.dataset in datasets)
        and (look_backs is None or job.task.look_back in look_backs)
        and (horizons is None or job.task.horizon in horizons)
        and (seeds is None or job.seed in seeds)
    ]
    if not jobs:
        raise ValueError(f"suite {suite.name!r} has no job with all of what was selected")
    if results is not None and suite.tuned:
        _refuse_unequal(suite, jobs, learns)
    return jobs


def _choices(suite: Suite, results: Path, selected: Sequence[str] | None) -> Chosen:
    folder = results / suite.name / "tuned"
    return {
        (name, *choice.coordinates): choice
        for name in selected or suite.methods
        for choice in choices(folder / f"{name}.toml")
    }


def _refuse_unequal(suite: Suite, jobs: Sequence[Job], learns: Callable[[Job], bool]) -> None:
    """Every method that has something to tune was tuned, with as many trials as all others."""
    trials = suite.tuning.trials
    untuned = {job.method: job for job in jobs if not job.trials}
    able = {name for name, job in untuned.items() if learns(job)}
    wrong = {
        f"{job.method} {job.task} had {job.trials}": job.method
        for job in jobs
        if job.trials != trials and (job.trials or job.method in able)
    }
    if wrong:
        first, *others = wrong
        more = f", and {len(others)} more had not {trials}" if others else ""
        raise ValueError(
            f"suite {suite.name!r} is tuned with {trials} trials for each method and task; {first}"
            f"{more}. To search: make tune SUITE={suite.name}"
            f" METHODS={','.join(dict.fromkeys(wrong.values()))}"
        )


def _jobs(
    suite: Suite, selected: Sequence[str] | None, chosen: Chosen = MappingProxyType({})
) -> Iterator[Job]:
    for block, method, task, seed in suite.runs(selected):
        job = Job(
            suite=suite.name,
            method=method,
            task=task,
            seed=seed,
            architecture=block.forecaster,
            budget=block.budget,
            source=suite.sources.get(task.dataset),
        )
        place = (task.dataset, task.look_back, task.horizon, task.patches)
        if (choice := chosen.get((method, *place))) is not None:
            # In the place of a sweep, too: the search chose among its values.
            yield _with(job, block.hyperparameters.get(method, {}), choice)
        else:
            for hyperparameters in _settings(suite, block, method):
                yield replace(job, hyperparameters=hyperparameters)


def _with(job: Job, fixed: Mapping[str, object], choice: Choice) -> Job:
    return replace(
        job,
        hyperparameters=tuple({**fixed, **choice.hyperparameters}.items()),
        budget=replace(job.budget, learning_rate=choice.learning_rate),
        trials=choice.trials,
    )


def _settings(suite: Suite, block: Block, method: str) -> Iterator[tuple[tuple[str, object], ...]]:
    """The hyperparameters of a method, once for each combination of those that are swept."""
    fixed, swept = block.hyperparameters.get(method, {}), suite.sweep.get(method, {})
    for values in product(*swept.values()):
        yield (*fixed.items(), *zip(swept, values, strict=True))


def _within(suite: Suite, what: str, wanted: Sequence[Any] | None, there: Sequence[Any]) -> None:
    for value in wanted or ():
        if value not in there:
            known = sorted({str(value) for value in there})
            raise ValueError(f"suite {suite.name!r}: {unknown(what, str(value), known)}")
