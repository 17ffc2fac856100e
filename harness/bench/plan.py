"""The jobs of a suite, in a fixed order, with what searches have chosen where it is tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
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

    Before the first job that needs a pre-training stands that pre-training, which is a job of the
    suite's ``pretraining``; jobs that need the same one follow each other.

    A method that the suite does not name runs on every block: so a new one needs no edit of a
    suite. With the folder ``results``, the jobs of a suite that is tuned carry what searches
    chose; ``learns`` says of a method for which nothing was chosen whether it has anything to
    tune. Without the folder they are what a search starts from.

    Raises:
        ValueError: a data set, horizon or seed that the suite does not have; nothing selected; or
            a search that is missing, or had another number of trials than the suite gives.
    """
    _within(suite, "data set", datasets, suite.datasets)
    tasks = [run.task for run in suite.runs()]
    _within(suite, "look-back", look_backs, [task.look_back for task in tasks])
    _within(suite, "horizon", horizons, [task.horizon for task in tasks])
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
    jobs = _with_needs(jobs)
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
    pretraining = cache(partial(_pretraining, suite))
    for block, method, task, seed, stage, corpus in suite.runs(selected):
        job = Job(
            suite=suite.name,
            method=method,
            task=task,
            seed=seed,
            architecture=block.forecaster,
            budget=block.budget,
            source=suite.sources.get(task.dataset),
            stage=stage,
            needs=None if corpus is None else pretraining(method, corpus, seed),
        )
        place = (task.dataset, task.look_back, task.horizon, task.patches)
        if stage == "zero_shot":
            yield _scoring(suite, job)
        elif (choice := chosen.get((method, *place))) is not None:
            # In the place of a sweep, too: the search chose among its values.
            yield _with(job, block.hyperparameters.get(method, {}), choice)
        else:
            for hyperparameters in _settings(suite, block, method):
                yield replace(job, hyperparameters=hyperparameters)


def _pretraining(suite: Suite, method: str, corpus: str, seed: int) -> Job:
    """The job that pre-trains a method on a corpus.

    Raises:
        ValueError: the suite's ``pretraining`` has no such job, or one of a sweep.
    """
    of = suite.pretraining
    assert of is not None  # a block with corpora is refused without it
    found = [job for job in _jobs(of, [method]) if (job.task.dataset, job.seed) == (corpus, seed)]
    if len(found) != 1:
        raise ValueError(
            f"suite {of.name!r} plans {len(found)} pre-trainings of {method} on {corpus} with seed"
            f" {seed}; suite {suite.name!r} needs one"
        )
    return found[0]


def _scoring(suite: Suite, job: Job) -> Job:
    """A job of a zero-shot task: of a pre-trained forecaster as it is, or of a reference."""
    if job.needs is not None:
        of = job.needs
        return replace(
            job,
            hyperparameters=of.hyperparameters,
            architecture=of.architecture,
            budget=of.budget,
        )
    reference = suite.references[job.method]
    settings = (("path", reference.path), *reference.options.items())
    return replace(job, hyperparameters=settings)


def _with_needs(jobs: Sequence[Job]) -> list[Job]:
    """The jobs with the pre-trainings that they need, each before those that need it."""
    usual = [job for job in jobs if job.needs is None]
    carried: dict[object, list[Job]] = {}
    for job in jobs:
        if job.needs is not None:
            carried.setdefault((job.needs.method, job.needs.task, job.needs.seed), []).append(job)
    return [*usual, *(job for of in carried.values() for job in (of[0].needs, *of) if job)]


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
