"""Search of keywords and learning rate on validation data: the only module that knows Optuna.

One study a method and cell, each with the same number of trials whatever became of them. Trials of
a study run in order, studies side by side. A trial is training and nothing else: test windows are
never made here.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from harness import catalog, executors, store, windows
from harness.executors import Finished, Said, Say, Slot
from harness.fit import DivergedError, fit
from harness.run import build, load, seed_of
from harness.store import Job

RATES = (1e-4, 1e-2)
"""Learning rates searched, log-uniformly: the same for every method, beside its own ``space``."""

_RATE = "budget.learning_rate"  # no keyword of a method can have this name


@dataclass(frozen=True)
class Tuned:
    """The best of a study's ``trials`` on validation data; ``states`` counts how they ended."""

    job: Job
    study: str
    trials: int
    states: Mapping[str, int]
    valid_mse: float
    learning_rate: float
    keywords: Mapping[str, object]


def tune(
    jobs: Sequence[Job],
    *,
    trials: int,
    results: Path,
    directories: Sequence[Path],
    slots: Sequence[Slot],
    device: str = "cpu",
    methods: Path = catalog.METHODS,
    say: Callable[[Job, Mapping[str, Any]], object] = lambda job, message: None,
) -> list[Path]:
    """Search each method and cell of ``jobs`` with its first seed; return the files written.

    They are ``results/<suite>/tuned/<method>.toml``, stored study by study. Interrupted, a search
    goes on where it was, and a trial that was cut off counts as one. Methods without parameters
    are left out. ``say`` hears of each trial.

    Raises:
        ValueError: no method with parameters; or studies that failed, after all others are stored.
    """
    studies = _studies(jobs, methods)
    journal = results / "tuning" / f"{studies[0].suite}.journal"
    journal.parent.mkdir(parents=True, exist_ok=True)
    work = partial(
        search,
        trials=trials,
        journal=journal,
        directories=tuple(directories),
        device=device,
        methods=methods,
    )
    written: dict[Path, None] = {}  # in order, each once
    failed = []
    with closing(executors.local(studies, work, slots)) as events:
        for event in events:
            if isinstance(event, Said):
                say(event.job, event.message)
            elif isinstance(event, Finished) and event.result is not None:
                written[_keep(results, event.result)] = None
            elif isinstance(event, Finished):
                failed.append(f"{event.job.method} {event.job.task}: {event.error}")
    if failed:
        raise ValueError(f"{len(failed)} of {len(studies)} studies failed; {'; '.join(failed)}")
    return list(written)


def search(
    job: Job,
    say: Say,
    *,
    trials: int,
    journal: Path,
    directories: tuple[Path, ...],
    device: str,
    methods: Path = catalog.METHODS,
) -> Tuned:
    """Run what is missing of one study, and choose: the work of a worker.

    The first trial is the job as it stands, so that tuning never does worse than not tuning.

    Raises:
        ValueError: no trial of the study went through.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    method, series = catalog.find(job.method, methods), load(job, directories)
    parts = windows.development(series, job.task, device)
    key = store.key(job, catalog.source_hash(method), series.hash)
    study = optuna.create_study(
        study_name=f"{job.method} {job.task} {key}",
        storage=JournalStorage(JournalFileBackend(str(journal))),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
        load_if_exists=True,
    )
    for cut_off in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(cut_off.number, state=TrialState.FAIL)
    if not study.trials:
        study.enqueue_trial(_as_it_stands(job, method))
    for number in range(len(_used(study)), trials):
        # A sampler a trial, seeded by its number: a search that was interrupted draws as one that
        # was not, and all methods try the same learning rates while the draws are still random.
        study.sampler = optuna.samplers.TPESampler(seed=number)
        objective = partial(_train, job=job, method=method, parts=parts, device=device)
        study.optimize(objective, n_trials=1, catch=(DivergedError,))
        done = _used(study)
        say({"trial": number + 1, "trials": trials, "value": done[-1].value, "best": _best(done)})
    return _choose(job, study.study_name, _used(study)[:trials])


def _studies(jobs: Sequence[Job], methods: Path) -> list[Job]:
    """Of each method and cell the job with the first seed, where there is something to train."""
    first: dict[tuple[object, ...], Job] = {}
    for job in jobs:
        first.setdefault((job.method, job.task), job)
    found = {name: catalog.find(name, methods) for name in {job.method: None for job in jobs}}
    studies = [
        job
        for job in first.values()
        if any(
            weight.requires_grad for weight in build(found[job.method], job, "cpu").parameters()
        )
    ]
    if not studies:
        raise ValueError(f"there is nothing to tune: no parameters in {', '.join(found)}")
    return studies


def _train(
    trial: Trial,
    *,
    job: Job,
    method: catalog.Method,
    parts: tuple[windows.Windows, windows.Windows],
    device: str,
) -> float:
    """The validation error that a run of the job with the trial's setting would have."""
    rate = trial.suggest_float(_RATE, *RATES, log=True)
    own = {name: trial.suggest_categorical(name, list(of)) for name, of in method.space.items()}
    budget = replace(job.budget, learning_rate=rate)
    job = replace(job, keywords=tuple((dict(job.keywords) | own).items()), budget=budget)

    def report(epoch: Mapping[str, float]) -> None:
        trial.report(epoch["valid_mse"], int(epoch["epoch"]))
        if trial.should_prune():
            raise optuna.TrialPruned

    model = build(method, job, device)
    torch.manual_seed(seed_of(job, "dropout"))
    return fit(model, *parts, budget, seed=seed_of(job, "order"), say=report).valid_mse


def _as_it_stands(job: Job, method: catalog.Method) -> dict[str, Any]:
    """The job's own setting, as far as the search knows its values."""
    own = catalog.check_keywords(method, dict(job.keywords))
    known = {name: own[name] for name, values in method.space.items() if own[name] in values}
    low, high = RATES
    return known | {_RATE: min(max(job.budget.learning_rate, low), high)}


def _used(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that have been spent, in whatever state they ended."""
    return [trial for trial in study.get_trials() if trial.state.is_finished()]


def _best(trials: Sequence[FrozenTrial]) -> float | None:
    values = [trial.value for trial in trials if trial.state is TrialState.COMPLETE]
    return min((value for value in values if value is not None), default=None)


def _choose(job: Job, study: str, trials: Sequence[FrozenTrial]) -> Tuned:
    best = _best(trials)
    if best is None:
        raise ValueError(f"none of {len(trials)} trials went through")
    chosen = next(trial.params for trial in trials if trial.value == best)
    return Tuned(
        job=job,
        study=study,
        trials=len(trials),
        states=Counter(trial.state.name.lower() for trial in trials),
        valid_mse=best,
        learning_rate=chosen[_RATE],
        keywords={name: value for name, value in chosen.items() if name != _RATE},
    )


# --- results/<suite>/tuned/<method>.toml ---------------------------------------------------------


def _keep(results: Path, tuned: Tuned) -> Path:
    """Put the cell into its method's file, in the place of the one that was there."""
    path = results / tuned.job.suite / "tuned" / f"{tuned.job.method}.toml"
    there = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cells": []}
    cells = {_place(cell): cell for cell in [*there["cells"], _cell(tuned)]}
    tables = (_table(cells[place]) for place in sorted(cells))
    store.write_text(path, "\n".join(["# Chosen on validation data by `make tune`.\n", *tables]))
    return path


def _place(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(cell[name] for name in ("dataset", "look_back", "horizon", "patches"))


def _cell(tuned: Tuned) -> dict[str, Any]:
    task = tuned.job.task
    return {
        "dataset": task.dataset,
        "look_back": task.look_back,
        "horizon": task.horizon,
        "patches": task.patches,
        "seed": tuned.job.seed,
        "trials": tuned.trials,
        "states": dict(sorted(tuned.states.items())),
        "study": tuned.study,
        "valid_mse": tuned.valid_mse,
        "learning_rate": tuned.learning_rate,
        "keywords": dict(tuned.keywords),
    }


def _table(cell: Mapping[str, Any]) -> str:
    lines = (f"{name} = {_toml(value)}" for name, value in cell.items())
    return "\n".join(["[[cells]]", *lines, ""])


def _toml(value: object) -> str:
    """Numbers, texts and flat tables; JSON's form of them is TOML's."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + "}"
    return json.dumps(value)
