"""Search of hyperparameters and learning rate on validation data, with Optuna.

One search a method and task, each with the same number of trials whatever became of them. Trials
of a search run in order, searches side by side. A trial is training and nothing else: its process
holds no value of the test part.
"""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import optuna
import torch
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from harness import data
from harness.bench import events
from harness.bench.events import Finished, Retried, Retry, Said, Tell, Work
from harness.bench.execute import untracked
from harness.bench.suite import Choice, Tuning, choices, write_choices
from harness.core.files import write_text
from harness.core.job import Job, Provenance, canonical, job_key
from harness.model import registry
from harness.run import windows
from harness.run.device import device_name
from harness.run.fit import DivergedError, fit
from harness.run.job import build, seed_of

RATES = (1e-4, 1e-2)
"""Learning rates searched, log-uniformly: the same for every method."""

_RATE = "budget.learning_rate"  # no hyperparameter of a method can have this name

# A trial in a database that has not been heard of for so long is dead; seconds.
_HEARTBEAT, _GRACE = 10, 30


@dataclass(frozen=True)
class Search:
    """What is to be tuned: a run as it stands, and the values its hyperparameters may take."""

    job: Job
    search_space: Mapping[str, tuple[object, ...]]
    attempts: int = 1

    def __str__(self) -> str:
        return f"{self.job.method} {self.job.task}"


@dataclass(frozen=True)
class Found:
    """What a search chose and how: all of its trials, as plain values, in order.

    A trial is its ``number``, ``state``, ``value``, ``params``, ``epochs`` (validation error by
    epoch), ``started`` (seconds since 1970) and ``seconds``. ``importances`` say how much each
    parameter mattered; they sum to 1.
    """

    job: Job
    key: str
    choice: Choice
    data_hash: str
    device: str
    importances: Mapping[str, float]
    trials: Sequence[Mapping[str, Any]]


@runtime_checkable
class Executor(Protocol):
    """Does ``work(search, tell)`` for every search, somewhere, and tells what happens."""

    def __call__(
        self,
        jobs: Sequence[Search],
        work: Work[Search, Found],
        /,
        *,
        retry: Retry[Search, Found],
    ) -> Generator[events.Event[Search, Found]]: ...


def tune(
    jobs: Sequence[Job],
    executor: Executor,
    *,
    tuning: Tuning,
    results: Path,
    directories: Sequence[Path],
    provenance: Provenance,
    storage: str | None = None,
    device: str = "cpu",
    methods: Path = registry.METHODS,
    on_trial: Callable[[Job, Mapping[str, Any]], object] = lambda job, message: None,
    track: Callable[[Path], object] | None = None,
    warn: Callable[[str], object] = lambda message: None,
) -> list[Path]:
    """Search for each method and task of ``jobs`` with its first seed; return the files written.

    They are ``results/<suite>/tuned/<method>.toml``, stored search by search. Hyperparameters
    that differ between the jobs of a task, a sweep, are searched as the method's own
    ``search_space`` is. Trials are kept in ``storage``, a database's address, or else in
    ``results/tuning``. Interrupted, a search goes on where it was, and a trial that was cut off
    counts as one.
    Methods without parameters are left out. ``on_trial`` hears of each trial; ``track`` is given a
    file for each search, and is left alone after its first error. Of that and of a killed process
    ``warn`` hears.

    Raises:
        ValueError: no method with parameters; or searches that failed, after all others are
            stored.
    """
    searches = _searches(jobs, tuning.epochs, methods)
    folder = results / "tuning" / searches[0].job.suite
    folder.mkdir(parents=True, exist_ok=True)
    if storage is not None:
        _open(storage, "")  # before the workers start: of two that make its tables one fails
    work = partial(
        search,
        trials=tuning.trials,
        storage=storage or str(folder),
        directories=tuple(directories),
        device=device,
        methods=methods,
    )
    written: dict[Path, None] = {}  # in order, each once
    failed = []
    with closing(executor(searches, work, retry=retry)) as happening:
        for event in happening:
            if isinstance(event, Said):
                on_trial(event.job.job, event.message)
            elif isinstance(event, Retried):
                warn(f"{event.job} goes on after {event.error}")
            elif isinstance(event, Finished) and event.result is not None:
                written[_keep(results, event.result)] = None
                told = _tell(folder, event.result, provenance)
                if track is not None and (trouble := untracked(track, told)):
                    warn(f"tracking stopped: {trouble}")
                    track = None
            elif isinstance(event, Finished):
                failed.append(f"{event.job}: {event.error}")
    if failed:
        raise ValueError(f"{len(failed)} of {len(searches)} searches failed; {'; '.join(failed)}")
    return list(written)


def retry(finished: Finished[Search, Found]) -> Search | None:
    """The search once more where its process was killed: it goes on with the trial after that."""
    if finished.job.attempts == 1 and finished.failure in ("killed", "out-of-memory"):
        return replace(finished.job, attempts=2)
    return None


def search(
    wanted: Search,
    tell: Tell,
    *,
    trials: int,
    storage: str,
    directories: tuple[Path, ...],
    device: str,
    methods: Path = registry.METHODS,
) -> Found:
    """Run what is missing of one search, and choose: the work of a worker.

    The first trial is the job as it stands, so that tuning never does worse than not tuning.
    ``storage`` is the address of a database, or a folder.

    Raises:
        ValueError: no trial went through, or another process is at work on the same search.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    job, method = wanted.job, registry.find(wanted.job.method, methods)
    parts, data_hash = _development(job, directories, device)
    key = _key(wanted, registry.source_hash(method), data_hash)
    kept = _open(storage, key)
    study = optuna.create_study(
        study_name=f"{wanted} {key}",
        storage=kept,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
        load_if_exists=True,
    )
    cut_off = _give_up_the_dead(study, kept)
    if not study.trials or 0 in cut_off:
        study.enqueue_trial(_as_it_stands(wanted, method))
    for number in range(len(_used(study)), trials):
        # A sampler a trial, seeded by its number: a search that was interrupted draws as one that
        # was not, and all methods try the same learning rates while the draws are still random.
        study.sampler = optuna.samplers.TPESampler(seed=number)
        objective = partial(_train, wanted=wanted, method=method, parts=parts, device=device)
        # A setting that diverges or does not fit costs its trial.
        study.optimize(objective, n_trials=1, catch=(DivergedError, torch.OutOfMemoryError))
        done = _used(study)
        tell({"trial": number + 1, "trials": trials, "value": done[-1].value, "best": _best(done)})
    used = _used(study)[:trials]
    return Found(
        job=job,
        key=key,
        choice=_choose(job, study.study_name, used),
        data_hash=data_hash,
        device=device_name(device),
        importances=_importances(used),
        trials=[_plain(trial) for trial in used],
    )


def _searches(jobs: Sequence[Job], epochs: int | None, methods: Path) -> list[Search]:
    """One for each method and task, with the first seed, where there is something to train."""
    settings: dict[tuple[object, ...], list[Job]] = {}
    for job in jobs:
        settings.setdefault((job.method, job.task), []).append(job)
    firsts = {job.method: job for job in reversed(jobs)}
    able = {
        name for name, job in firsts.items() if registry.learns(registry.find(name, methods), job)
    }
    if not able:
        names = ", ".join(dict.fromkeys(job.method for job in jobs))
        raise ValueError(f"there is nothing to tune: no parameters in {names}")
    return [_wanted(own, epochs, methods) for own in settings.values() if own[0].method in able]


def _wanted(settings: Sequence[Job], epochs: int | None, methods: Path) -> Search:
    """The search that begins with the first of a task's settings and may try all of them."""
    first = settings[0]
    search_space = dict(registry.find(first.method, methods).search_space)
    for name, _ in first.hyperparameters:
        values = tuple(dict.fromkeys(dict(job.hyperparameters)[name] for job in settings))
        if len(values) > 1:
            search_space[name] = values
    for name, values in search_space.items():
        if odd := [value for value in values if not isinstance(value, bool | int | float | str)]:
            raise ValueError(f"{first.method}: {name} may be {odd[0]!r}, which TOML cannot say")
    budget = first.budget if epochs is None else replace(first.budget, epochs=epochs)
    return Search(replace(first, budget=budget), search_space)


def _development(
    job: Job, directories: Sequence[Path], device: str
) -> tuple[tuple[windows.Windows, windows.Windows], str]:
    """Training and validation windows, and the hash of the data they were cut from.

    The series is read for this and let go of: no trial can find what is no longer there.
    """
    series = data.load(job.task.dataset, directories, job.source)
    return windows.development(series, job.task, device), series.hash


def _key(wanted: Search, source: str, data_hash: str) -> str:
    """16 hex digits: a search is another one where its run, its code or what may be tried is."""
    content = [job_key(wanted.job, source, data_hash), dict(wanted.search_space), RATES]
    return sha256(canonical(content).encode()).hexdigest()[:16]


def _train(
    trial: Trial,
    *,
    wanted: Search,
    method: registry.Method,
    parts: tuple[windows.Windows, windows.Windows],
    device: str,
) -> float:
    """The validation error that a run of the job with the trial's setting would have."""
    rate = trial.suggest_float(_RATE, *RATES, log=True)
    own = {
        name: trial.suggest_categorical(name, list(of)) for name, of in wanted.search_space.items()
    }
    job = wanted.job
    budget = replace(job.budget, learning_rate=rate)
    job = replace(
        job, hyperparameters=tuple((dict(job.hyperparameters) | own).items()), budget=budget
    )

    def report(epoch: Mapping[str, float]) -> None:
        trial.report(epoch["valid_mse"], int(epoch["epoch"]))
        if trial.should_prune():
            raise optuna.TrialPruned

    model = build(method, job, device)
    torch.manual_seed(seed_of(job, "dropout"))
    return fit(model, *parts, budget, seed=seed_of(job, "order"), on_epoch=report).valid_mse


def _as_it_stands(wanted: Search, method: registry.Method) -> dict[str, Any]:
    """The job's own setting, as far as the search knows its values."""
    own = registry.complete_hyperparameters(method, dict(wanted.job.hyperparameters))
    known = {
        name: own[name] for name, values in wanted.search_space.items() if own[name] in values
    }
    low, high = RATES
    return known | {_RATE: min(max(wanted.job.budget.learning_rate, low), high)}


def _used(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that have been spent, in whatever state they ended."""
    return [trial for trial in study.get_trials() if trial.state.is_finished()]


def _best(trials: Sequence[FrozenTrial]) -> float | None:
    values = [trial.value for trial in trials if trial.state is TrialState.COMPLETE]
    return min((value for value in values if value is not None), default=None)


def _choose(job: Job, study: str, trials: Sequence[FrozenTrial]) -> Choice:
    best = _best(trials)
    if best is None:
        raise ValueError(f"none of {len(trials)} trials went through")
    params = next(trial.params for trial in trials if trial.value == best)
    return Choice(
        dataset=job.task.dataset,
        look_back=job.task.look_back,
        horizon=job.task.horizon,
        patches=job.task.patches,
        seed=job.seed,
        trials=len(trials),
        states=dict(sorted(Counter(trial.state.name.lower() for trial in trials).items())),
        study=study,
        valid_mse=best,
        learning_rate=params[_RATE],
        hyperparameters={name: value for name, value in params.items() if name != _RATE},
    )


def _importances(trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """What each parameter mattered; nothing where too few trials went through to tell."""
    if len({trial.value for trial in trials if trial.state is TrialState.COMPLETE}) < 2:
        return {}
    study = optuna.create_study()
    study.add_trials(trials)
    return dict(optuna.importance.get_param_importances(study))


def _plain(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value,
        "params": dict(trial.params),
        "epochs": {str(epoch): error for epoch, error in trial.intermediate_values.items()},
        "started": trial.datetime_start.timestamp(),
        "seconds": trial.duration.total_seconds(),
    }


# --- where trials are kept -----------------------------------------------------------------------


def _open(storage: str, key: str) -> BaseStorage:
    """The database at an address, or a journal of the search's own in a folder."""
    if "://" not in storage:
        return JournalStorage(JournalFileBackend(str(Path(storage) / f"{key}.journal")))
    with warnings.catch_warnings():
        # Heartbeats may change in a later Optuna: its exact version is in constraints.txt.
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RDBStorage(
            # The driver that is installed; SQLAlchemy would look for its predecessor.
            storage.replace("postgresql://", "postgresql+psycopg://", 1),
            # A trial may take longer than a server keeps a silent connection.
            engine_kwargs={"pool_pre_ping": True},
            heartbeat_interval=_HEARTBEAT,
            grace_period=_GRACE,
        )


def _give_up_the_dead(study: optuna.Study, kept: BaseStorage) -> list[int]:
    """Trials whose process is no more have failed; return their numbers.

    A journal's trials are all dead: nobody else writes to the results. What a database says is
    running may run elsewhere; it shows by its heartbeat.
    """
    running = study.get_trials(states=(TrialState.RUNNING,))
    if not isinstance(kept, RDBStorage):
        for trial in running:
            study.tell(trial.number, state=TrialState.FAIL)
        return [trial.number for trial in running]
    patience = time.monotonic() + _GRACE + _HEARTBEAT
    while study.get_trials(states=(TrialState.RUNNING,)):
        if time.monotonic() > patience:
            raise ValueError(f"another process is at work on {study.study_name!r}")
        time.sleep(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # as in `_open`
            optuna.storages.fail_stale_trials(study)
    return [trial.number for trial in running]


# --- what is left of a search --------------------------------------------------------------------


def _keep(results: Path, found: Found) -> Path:
    """Put the choice into its method's file, in the place of the one that was there."""
    path = results / found.job.suite / "tuned" / f"{found.job.method}.toml"
    there = {choice.coordinates: choice for choice in (*choices(path), found.choice)}
    write_choices(path, there.values())
    return path


def _tell(folder: Path, found: Found, provenance: Provenance) -> Path:
    """The whole search as JSON, for tracking; once told, the same trials are not told anew."""
    path = folder / f"{found.key}.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8"))["trials"] == found.trials:
        return path
    content = asdict(found) | asdict(provenance)
    content["job"]["hyperparameters"] = dict(found.job.hyperparameters)
    write_text(path, json.dumps(content, indent=1, default=str) + "\n")
    return path
