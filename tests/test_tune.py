"""Tuning: the same trials for every method, on validation data, and the same digits every time."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import HeartbeatThread
from optuna.trial import FrozenTrial, TrialState

from harness import data
from harness.bench import local, tune
from harness.bench.events import Finished
from harness.bench.local import cpu_slots
from harness.bench.suite import Tuning, choices
from harness.core.job import Job, Provenance
from harness.core.task import Architecture, Budget, Task
from harness.model import registry
from harness.run import windows
from harness.run.job import run

TASK = Task("waves", 48, 12, 6, 24)
SMALL = Architecture(width=8, layers=1, heads=2, feedforward=8, dropout=0.1)
BUDGET = Budget(epochs=1, steps=3, batch=8)
ORIGIN = Provenance("abc", "python 3")
SECRET = 12345.0
METHOD = """\
from harness.model.patcher import Patcher, from_starts, uniform_starts


class Moody(Patcher):
    search_space = {"mood": ("well", "ill")}

    def __init__(self, task, *, mood="ill"):
        super().__init__(task)
        self.mood = mood

    def forward(self, rows):
        start = uniform_starts(self.task.look_back, self.task.patches).expand(len(rows.ids), -1)
        gain = 1e36 * (1.0 + start) if self.mood == "ill" and self.training else None
        return from_starts(start, self.task.look_back, gain=gain)
"""
MORTAL = """\
import os, pathlib, signal
from harness.model.patcher import Patcher, from_starts, uniform_starts


class Mortal(Patcher):
    def forward(self, rows):
        if not pathlib.Path("DEATHS").read_text():
            pathlib.Path("DEATHS").write_text("one")
            os.kill(os.getpid(), signal.SIGKILL)
        start = uniform_starts(self.task.look_back, self.task.patches).expand(len(rows.ids), -1)
        return from_starts(start, self.task.look_back)
"""
THIEF = """\
import gc
import numpy as np
import torch
from harness.model.patcher import Patcher, from_starts, uniform_starts


def everything():
    alive = gc.get_objects()
    return [*alive, *gc.get_referents(*alive)]


def largest(value):
    if type(value) is np.ndarray and value.dtype.kind == "f" and value.size:
        return float(np.nanmax(np.abs(value)))
    if type(value) is torch.Tensor and value.is_floating_point() and value.numel():
        whole = torch.empty(0, dtype=value.dtype).set_(value.untyped_storage())
        return float(whole.nan_to_num().abs().max())
    return 0.0


class Thief(Patcher):
    search_space = {"steal": (True, False)}

    def __init__(self, task, *, steal=True):
        super().__init__(task)
        self.searching = steal

    def forward(self, rows):
        if self.training and self.searching:
            self.searching = False  # once in a training is enough
            if any(largest(value) == SECRET for value in everything()):
                raise RuntimeError("it has seen the test part")
        start = uniform_starts(self.task.look_back, self.task.patches).expand(len(rows.ids), -1)
        return from_starts(start, self.task.look_back)
"""


def written(path: Path, secret: float | None = None) -> data.Source:
    """Noisy waves, small enough for a trial to take an instant; ``secret`` is the test part."""
    steps = np.arange(400)
    noise = np.random.default_rng(0).standard_normal(len(steps))
    values = np.sin(2 * np.pi * steps / 24) + 0.3 * noise
    if secret is not None:
        values[320:] = secret
    stamps = pd.date_range("2020-01-01", periods=len(steps), freq="h")
    pd.DataFrame({"date": stamps, "value": values}).to_csv(path, index=False)
    return data.Source(path, "h", 24)


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> data.Source:
    return written(tmp_path_factory.mktemp("data") / "waves.csv")


@pytest.fixture
def job(waves: data.Source) -> Job:
    """A job that has something to search."""
    return Job("small", "straight_through", TASK, 1, (), SMALL, BUDGET, waves)


def searched(
    jobs: Job | list[Job],
    storage: Path | str,
    trials: int,
    methods: Path = registry.METHODS,
    epochs: int | None = None,
) -> tune.Found:
    """What a search finds, run in this process."""
    if isinstance(storage, Path):
        storage.mkdir(exist_ok=True)
    settings = jobs if isinstance(jobs, list) else [jobs]
    (wanted,) = tune._searches(settings, epochs, methods)
    return tune.search(
        wanted,
        lambda message: None,
        trials=trials,
        storage=str(storage),
        directories=(),
        device="cpu",
        methods=methods,
    )


def opened(storage: Path | str) -> list[BaseStorage]:
    """The journals in a folder, or a database."""
    if isinstance(storage, str):
        return [tune._open(storage, "")]
    return [tune._open(str(storage), path.stem) for path in storage.glob("*.journal")]


def recorded(storage: Path | str) -> dict[str, list[FrozenTrial]]:
    """All trials of all studies."""
    return {
        study.study_name: kept.get_all_trials(study._study_id)
        for kept in opened(storage)
        for study in kept.get_all_studies()
    }


def digits(
    storage: Path | str,
) -> list[tuple[str, dict[str, Any], float | None, dict[int, float]]]:
    """What the trials of the only study tried and found."""
    (trials,) = recorded(storage).values()
    return [(t.state.name, t.params, t.value, t.intermediate_values) for t in trials]


def tuned(jobs: list[Job], results: Path, trials: int = 1, **options: Any) -> list[Path]:  # noqa: ANN401 - options of several types
    """The whole search, in a worker process."""
    return tune.tune(
        jobs,
        partial(local.run_locally, slots=cpu_slots(1)),
        tuning=Tuning(trials),
        results=results,
        directories=(),
        provenance=ORIGIN,
        **options,
    )


def test_every_method_gets_the_same_trials_and_the_first_seed(job: Job, tmp_path: Path) -> None:
    """Through worker processes: a file a method, a choice a task: not for what cannot learn."""
    names = ("uniform", "straight_through", "seasonal_naive")
    jobs = [replace(job, method=name, seed=seed) for name in names for seed in (5, 6)]
    heard: list[tuple[str, Mapping[str, Any]]] = []
    files = tuned(
        jobs, tmp_path, trials=2, on_trial=lambda job, message: heard.append((job.method, message))
    )
    folder = tmp_path / "small" / "tuned"
    assert files == [folder / "uniform.toml", folder / "straight_through.toml"]
    for path in files:
        (choice,) = tomllib.loads(path.read_text())["choices"]
        assert (choice["dataset"], choice["look_back"], choice["horizon"]) == ("waves", 48, 12)
        assert (choice["patches"], choice["seed"], choice["trials"]) == (6, 5, 2)
        assert choice["states"] == {"complete": 2}
        assert tune.RATES[0] <= choice["learning_rate"] <= tune.RATES[1]
        trials = recorded(tmp_path / "tuning" / "small")[choice["study"]]
        assert choice["valid_mse"] == min(trial.values[0] for trial in trials)
    assert set(choice["hyperparameters"]) == {"reach", "temperature"}
    assert [method for method, _ in heard] == ["uniform"] * 2 + ["straight_through"] * 2
    assert [(message["trial"], message["trials"]) for _, message in heard] == [(1, 2), (2, 2)] * 2


@pytest.mark.parametrize("kind", ["journal", "database"])
def test_interrupted_and_resumed_is_as_if_never_interrupted(
    job: Job, tmp_path: Path, kind: str
) -> None:
    """Between two trials nothing is lost, wherever they are kept: the same digits."""
    whole = searched(job, tmp_path / "whole", 4)

    def interrupt(message: Mapping[str, Any]) -> None:
        if message["trial"] == 2:
            raise KeyboardInterrupt

    (tmp_path / "parts").mkdir()
    parts: Path | str = tmp_path / "parts"
    if kind == "database":
        parts = f"sqlite:///{tmp_path / 'parts.db'}"
    (wanted,) = tune._searches([job], None, registry.METHODS)
    with pytest.raises(KeyboardInterrupt):
        tune.search(wanted, interrupt, trials=4, storage=str(parts), directories=(), device="cpu")
    assert len(digits(parts)) == 2
    resumed = searched(job, parts, 4)
    assert digits(tmp_path / "whole") == digits(parts)
    assert resumed.choice == whole.choice
    assert resumed.importances == whole.importances
    rates = {params[tune._RATE] for _, params, _, _ in digits(parts)}
    assert len(rates) == len(digits(parts)) == 4  # nothing was left to do


def ask(storage: Path | str) -> tuple[BaseStorage, int]:
    """Begin a trial of the only study, and go no further: then the machine stopped."""
    (kept,) = opened(storage)
    (study,) = kept.get_all_studies()
    waiting = [t for t in kept.get_all_trials(study._study_id) if t.state is TrialState.WAITING]
    if not waiting:
        return kept, kept.create_new_trial(study._study_id)
    kept.set_trial_state_values(waiting[0]._trial_id, TrialState.RUNNING)
    return kept, waiting[0]._trial_id


def test_a_trial_that_was_cut_off_counts(job: Job, tmp_path: Path) -> None:
    """It may have looked at the validation data: nobody gets a look more than others."""
    searched(job, tmp_path / "a", 1)
    ask(tmp_path / "a")
    assert [state for state, *_ in digits(tmp_path / "a")] == ["COMPLETE", "RUNNING"]
    assert searched(job, tmp_path / "a", 3).choice.states == {"complete": 2, "fail": 1}
    assert [state for state, *_ in digits(tmp_path / "a")] == ["COMPLETE", "FAIL", "COMPLETE"]


def test_the_first_trial_is_tried_again_if_it_was_cut_off(job: Job, tmp_path: Path) -> None:
    """It is the one with which tuning cannot do worse than not tuning; it counts twice."""
    study = searched(job, tmp_path / "a", 1).choice.study
    (journal,) = (tmp_path / "a").glob("*.journal")
    journal.unlink()
    kept = tune._open(str(tmp_path / "a"), journal.stem)
    optuna.create_study(study_name=study, storage=kept).enqueue_trial({tune._RATE: 1e-3})
    ask(tmp_path / "a")
    assert searched(job, tmp_path / "a", 3).choice.states == {"complete": 2, "fail": 1}
    _, (_, params, _, _), (_, other, _, _) = digits(tmp_path / "a")
    assert params == {tune._RATE: BUDGET.learning_rate, "reach": 2, "temperature": 1.0}
    assert other != params


def test_a_database_tells_the_dead_from_the_living(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial whose heart beats belongs to another process; one that fell silent has failed."""
    monkeypatch.setattr(tune, "_HEARTBEAT", 1)
    monkeypatch.setattr(tune, "_GRACE", 1)
    address = f"sqlite:///{tmp_path / 'trials.db'}"
    searched(job, address, 1)
    kept, trial = ask(address)
    alive = HeartbeatThread(trial, kept)
    alive.start()
    with pytest.raises(ValueError, match="another process is at work on 'straight_through waves"):
        searched(job, address, 3)
    alive.join()
    assert searched(job, address, 3).choice.states == {"complete": 2, "fail": 1}


@pytest.mark.usefixtures("kills_workers")
def test_a_search_whose_worker_is_killed_goes_on_once(job: Job, tmp_path: Path) -> None:
    """The trial that died counts, and the search has as many as all others in the end."""
    (tmp_path / "deaths").write_text("")
    (tmp_path / "mortal.py").write_text(MORTAL.replace("DEATHS", str(tmp_path / "deaths")))
    job = replace(job, method="mortal")
    warned: list[str] = []
    (path,) = tuned([job], tmp_path, trials=3, methods=tmp_path, warn=warned.append)
    assert warned == [f"mortal {TASK} goes on after the worker process was killed by SIGKILL"]
    (choice,) = choices(path)
    assert (choice.trials, choice.states) == (3, {"complete": 2, "fail": 1})


def test_what_would_fail_again_is_not_tried_again(job: Job) -> None:
    """Neither a search killed for the second time, nor an exception."""
    (wanted,) = tune._searches([job], None, registry.METHODS)
    killed: Finished[tune.Search, tune.Found] = Finished(
        wanted, 1.0, error="killed", failure="killed"
    )
    retried = tune.retry(killed)
    assert retried == replace(wanted, attempts=2)
    assert tune.retry(replace(killed, job=retried)) is None
    assert tune.retry(replace(killed, failure="exception")) is None


PARENT = """\
import sys
from functools import partial
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_tune import ORIGIN, BUDGET, SMALL, TASK, Job, Tuning, cpu_slots, data, local, tune

if __name__ == "__main__":
    source = data.Source(Path({file!r}), "h", 24)
    tune.tune(
        [Job("small", "straight_through", TASK, 1, (), SMALL, BUDGET, source)],
        partial(local.run_locally, slots=cpu_slots(1)),
        tuning=Tuning(40),
        results=Path({results!r}),
        directories=(),
        provenance=ORIGIN,
        on_trial=lambda job, message: print(message["trial"], flush=True),
    )
"""


def test_a_search_whose_parent_is_killed_is_resumed(job: Job, tmp_path: Path) -> None:
    """At most the trial at work is lost, and counted; finished ones stand, digit for digit."""
    assert job.source is not None
    results = tmp_path / "results"
    script = PARENT.format(
        tests=str(Path(__file__).parent), file=str(job.source.path), results=str(results)
    )
    (tmp_path / "parent.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as parent:
        assert parent.stdout is not None
        for line in parent.stdout:
            if int(line) >= 2:
                parent.kill()
                break
    folder = results / "tuning" / "small"
    stopped_at = len(digits(folder))
    assert 2 <= stopped_at < 40
    found = searched(job, folder, stopped_at + 2)
    lost = found.choice.states.get("fail", 0)
    assert lost <= 1
    assert found.choice.trials == stopped_at + 2 == sum(found.choice.states.values())
    searched(job, tmp_path / "whole", stopped_at + 2)
    whole, resumed = digits(tmp_path / "whole"), digits(folder)
    until = stopped_at - 1 if lost else len(resumed)
    assert resumed[:until] == whole[:until]


def opens_and_tries(number: int, storage: str) -> int:
    """One of eight processes that meet a storage at the same time."""
    study = optuna.create_study(
        study_name=f"study {number % 2}", storage=tune._open(storage, "one"), load_if_exists=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # there is no heart to beat in an instant
        study.tell(study.ask(), float(number))
    return os.getpid()


def test_eight_processes_may_meet_one_storage(tmp_path: Path) -> None:
    """Of eight on a new journal, or in a database whose tables the parent has made, none fails."""
    database = f"sqlite:///{tmp_path / 'trials.db'}"
    tune._open(database, "")
    # Forked from a process that has imported everything: all eight arrive at once.
    context = get_context("forkserver")
    context.set_forkserver_preload(["harness.bench.tune"])
    with context.Pool(8) as pool:
        for storage in (str(tmp_path), database):
            calls = [(number, storage) for number in range(8)]
            pool.starmap(opens_and_tries, calls, chunksize=1)
            kept = tune._open(storage, "one")
            studies = kept.get_all_studies()
            assert [len(kept.get_all_trials(study._study_id)) for study in studies] == [4, 4]


def test_test_windows_are_never_made(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is chosen by them; and no value of the test part changes what is chosen."""

    def never(*_: object) -> None:
        raise AssertionError("test windows were made")

    monkeypatch.setattr(windows, "test", never)
    expected = searched(job, tmp_path / "one", 2).choice
    load = data.load

    def spoilt(*arguments: Any, **options: Any) -> data.Series:  # noqa: ANN401 - as the real one
        series = load(*arguments, **options)
        values = series.values.copy()
        values[series.borders[1] :] = 1e9
        return replace(series, values=values)

    monkeypatch.setattr(data, "load", spoilt)
    assert searched(job, tmp_path / "other", 2).choice == expected


def test_a_setting_that_steals_test_values_finds_none(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a trial trains, no array and no tensor in its process holds a value of the test part.

    The thief of this test walks all of them, and finds its loot as soon as the series stays alive.
    """
    (tmp_path / "thief.py").write_text(THIEF.replace("SECRET", repr(SECRET)))
    source = written(tmp_path / "secret.csv", SECRET)
    job = replace(job, method="thief", source=source)
    gc.collect()
    found = searched(job, tmp_path / "honest", 3, tmp_path)
    assert found.choice.states == {"complete": 3}
    assert {True, False} >= {trial["params"]["steal"] for trial in found.trials} >= {True}

    kept = []
    load = data.load
    monkeypatch.setattr(data, "load", lambda *given: kept.append(load(*given)) or kept[0])  # type: ignore[func-returns-value]  # that is the trick
    with pytest.raises(RuntimeError, match="it has seen the test part"):
        searched(job, tmp_path / "robbed", 1, tmp_path)


def test_a_run_with_what_was_chosen_has_the_error_it_was_chosen_for(
    job: Job, tmp_path: Path
) -> None:
    """A trial trains as a run does, digit for digit."""
    choice = searched(job, tmp_path / "a", 3).choice
    chosen = replace(
        job,
        hyperparameters=tuple(choice.hyperparameters.items()),
        budget=replace(job.budget, learning_rate=choice.learning_rate),
    )
    record = run(chosen, directories=(), device="cpu", runs=tmp_path, provenance=ORIGIN)
    assert record.valid_mse == choice.valid_mse


def test_the_first_trial_is_the_job_as_it_stands(job: Job, tmp_path: Path) -> None:
    """So tuning cannot do worse than not tuning; a rate out of range is tried at its end."""
    job = replace(job, hyperparameters=(("reach", 4),))
    searched(job, tmp_path / "a", 1)
    ((_, params, _, _),) = digits(tmp_path / "a")
    assert params == {tune._RATE: BUDGET.learning_rate, "reach": 4, "temperature": 1.0}
    fast = replace(job, budget=replace(BUDGET, learning_rate=0.5))
    searched(fast, tmp_path / "fast", 1)
    ((_, params, _, _),) = digits(tmp_path / "fast")
    assert params[tune._RATE] == tune.RATES[1]


def test_what_a_suite_sweeps_is_searched(job: Job, tmp_path: Path) -> None:
    """All values of a sweep are part of the search space; another sweep is another search."""
    job = replace(job, method="uniform_best")
    sweep = [replace(job, hyperparameters=(("patch", patch),)) for patch in (4, 8, 16)]
    found = searched([*sweep, replace(sweep[0], seed=2)], tmp_path / "a", 8)
    assert found.trials[0]["params"]["patch"] == 4
    assert {trial["params"]["patch"] for trial in found.trials} == {4, 8, 16}
    best = min(found.trials, key=lambda trial: trial["value"])
    assert found.choice.hyperparameters == {"patch": best["params"]["patch"]}
    ((wanted,), (other,)) = (
        tune._searches(jobs, None, registry.METHODS) for jobs in (sweep, sweep[:2])
    )
    assert wanted.search_space == {"patch": (4, 8, 16)}
    assert tune._key(wanted, "s", "d") != tune._key(other, "s", "d")


def test_a_search_has_the_epochs_of_the_suite(job: Job, tmp_path: Path) -> None:
    """The same for every method; without them, those of the runs."""
    searched(job, tmp_path / "two", 1, epochs=2)
    ((_, _, _, seen),) = digits(tmp_path / "two")
    assert list(seen) == [1, 2]
    searched(job, tmp_path / "own", 1)
    ((_, _, _, seen),) = digits(tmp_path / "own")
    assert list(seen) == [1]


def test_a_choice_depends_on_the_first_trials_asked_for(job: Job, tmp_path: Path) -> None:
    """Fewer trials than there are: the others were not asked for and are not looked at."""
    two = searched(job, tmp_path / "two", 2)
    searched(job, tmp_path / "four", 4)
    fewer = searched(job, tmp_path / "four", 2)
    assert (fewer.choice, fewer.importances) == (two.choice, two.importances)
    assert len(fewer.trials) == 2


def test_hopeless_trials_are_pruned_and_counted(job: Job, tmp_path: Path) -> None:
    """From the sixth on, a trial behind the median of those before stops, if not in epoch 1."""
    job = replace(job, method="uniform", budget=replace(BUDGET, epochs=4))
    choice = searched(job, tmp_path / "a", 10).choice
    assert choice.states["pruned"] > 0
    assert sum(choice.states.values()) == choice.trials == 10
    pruned = [found for state, *_, found in digits(tmp_path / "a") if state == "PRUNED"]
    assert {len(found) for found in pruned} == {2}


def test_a_setting_that_diverges_costs_its_trial(job: Job, tmp_path: Path) -> None:
    """It counts, is never chosen, and stops nothing; a search of nothing else fails."""
    (tmp_path / "moody.py").write_text(METHOD)
    job = replace(job, method="moody")
    choice = searched(job, tmp_path / "a", 4, tmp_path).choice
    assert choice.hyperparameters == {"mood": "well"}
    assert choice.states["fail"] >= 1
    with pytest.raises(ValueError, match="none of 1 trials went through"):
        searched(job, tmp_path / "b", 1, tmp_path)


def test_another_setting_or_another_code_is_another_study(job: Job, tmp_path: Path) -> None:
    """Trials of an older method or budget are not taken for those of this one."""
    (tmp_path / "moody.py").write_text(METHOD.replace('mood="ill"', 'mood="well"'))
    job = replace(job, method="moody")
    names = [searched(job, tmp_path / "a", 1, tmp_path).choice.study]
    other = replace(job, budget=replace(BUDGET, steps=2))
    names += [searched(other, tmp_path / "a", 1, tmp_path).choice.study]
    assert sorted(recorded(tmp_path / "a")) == sorted(set(names))
    assert len(set(names)) == 2
    assert all(name.startswith("moody waves 48->12 K=6 ") for name in names)


def test_choices_made_before_stay_in_the_file(job: Job, tmp_path: Path) -> None:
    """A selection replaces its own choices; what was written reads back as it was."""
    found = searched(job, tmp_path / "a", 1)
    other = replace(found, choice=replace(found.choice, horizon=24, valid_mse=1e-7))
    tune._keep(tmp_path, other)
    tune._keep(tmp_path, replace(found, choice=replace(found.choice, valid_mse=9.0)))
    hyperparameters = {"of": 'a "b"\n', "on": True, "at": 1e-5}
    path = tune._keep(
        tmp_path, replace(found, choice=replace(found.choice, hyperparameters=hyperparameters))
    )
    first, second = choices(path)
    assert (first.horizon, first.valid_mse) == (12, found.choice.valid_mse)
    assert first.hyperparameters == hyperparameters
    assert (second.horizon, second.valid_mse) == (24, 1e-7)


def test_a_search_is_told_whole_and_once(job: Job, tmp_path: Path) -> None:
    """All trials as plain values with what mattered; looked at again, the file stays as it is."""
    found = searched(job, tmp_path / "a", 5)
    path = tune._tell(tmp_path, found, ORIGIN)
    told = json.loads(path.read_text())
    assert told["commit"] == "abc"
    assert told["job"]["task"]["horizon"] == 12
    assert told["choice"]["valid_mse"] == min(trial["value"] for trial in told["trials"])
    assert [trial["number"] for trial in told["trials"]] == list(range(5))
    assert {trial["state"] for trial in told["trials"]} == {"complete"}
    assert all(list(trial["epochs"]) == ["1"] for trial in told["trials"])
    assert set(told["importances"]) == {tune._RATE, "reach", "temperature"}
    assert sum(told["importances"].values()) == pytest.approx(1)
    before = path.read_bytes()
    tune._tell(tmp_path, searched(job, tmp_path / "a", 5), Provenance("later", "python 4"))
    assert path.read_bytes() == before
    tune._tell(tmp_path, searched(job, tmp_path / "a", 4), ORIGIN)
    assert path.read_bytes() != before


def test_tracking_that_fails_costs_no_search(job: Job, tmp_path: Path) -> None:
    """It is left alone after the first error, of which the user hears once; choices stand."""
    asked: list[Path] = []
    warned: list[str] = []

    def down(path: Path) -> None:
        asked.append(path)
        raise ConnectionError("nobody there")

    names = ("uniform", "straight_through")
    jobs = [replace(job, method=name) for name in names]
    files = tuned(jobs, tmp_path, track=down, warn=warned.append)
    assert [path.stem for path in files] == ["uniform", "straight_through"]
    assert warned == ["tracking stopped: ConnectionError: nobody there"]
    assert [path.parent for path in asked] == [tmp_path / "tuning" / "small"]


def test_a_search_that_fails_costs_no_other(job: Job, tmp_path: Path) -> None:
    """Those that went through are stored before the error is raised; it names task and cause."""
    long = replace(job, method="uniform", task=replace(TASK, horizon=300))
    with pytest.raises(
        ValueError, match=r"1 of 2 searches failed; uniform waves 48->300 .* needs"
    ):
        tuned([long, replace(job, method="uniform")], tmp_path)
    path = tmp_path / "small" / "tuned" / "uniform.toml"
    assert [choice.horizon for choice in choices(path)] == [12]


def test_nothing_to_tune_is_said(job: Job, tmp_path: Path) -> None:
    """And a method that nobody has, by its nearest neighbour."""
    with pytest.raises(ValueError, match="nothing to tune: no parameters in repeat_last"):
        tuned([replace(job, method="repeat_last")], tmp_path)
    with pytest.raises(ValueError, match="did you mean 'uniform'"):
        tuned([replace(job, method="unifrom")], tmp_path)


def test_a_value_that_the_file_cannot_hold_is_refused_first(job: Job, tmp_path: Path) -> None:
    """Not after hours of search."""
    (tmp_path / "moody.py").write_text(METHOD.replace('"ill")', "None)"))
    with pytest.raises(ValueError, match="moody: mood may be None, which TOML cannot say"):
        tuned([replace(job, method="moody")], tmp_path, methods=tmp_path)
