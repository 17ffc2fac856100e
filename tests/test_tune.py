"""Tuning: the same trials for every method, on validation data, and the same digits every time."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from harness import data, run, tune, windows
from harness.executors import cpu_slots
from harness.store import Job, Provenance
from harness.task import Architecture, Budget, Task

TASK = Task("waves", 48, 12, 6, 24)
SMALL = Architecture(width=8, layers=1, heads=2, feedforward=8, dropout=0.1)
BUDGET = Budget(epochs=1, steps=3, batch=8)
METHOD = """\
from harness.patcher import Patcher, from_starts, uniform_starts


class Moody(Patcher):
    space = {"mood": ("well", "ill")}

    def __init__(self, task, *, mood="ill"):
        super().__init__(task)
        self.mood = mood

    def forward(self, rows):
        start = uniform_starts(self.task.look_back, self.task.patches).expand(len(rows.ids), -1)
        gain = start * float("nan") if self.mood == "ill" and self.training else None
        return from_starts(start, self.task.look_back, gain=gain)
"""


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory) -> data.Source:
    """Noisy waves, small enough for a trial to take an instant."""
    steps = np.arange(400)
    noise = np.random.default_rng(0).standard_normal(len(steps))
    values = np.sin(2 * np.pi * steps / 24) + 0.3 * noise
    stamps = pd.date_range("2020-01-01", periods=len(steps), freq="h")
    path = tmp_path_factory.mktemp("data") / "waves.csv"
    pd.DataFrame({"date": stamps, "value": values}).to_csv(path, index=False)
    return data.Source(path, "h", 24)


@pytest.fixture
def job(waves: data.Source) -> Job:
    """A job that has something to search."""
    return Job("small", "straight_through", TASK, 1, (), SMALL, BUDGET, waves)


def searched(job: Job, journal: Path, trials: int, **places: Path) -> tune.Tuned:
    """What a study chooses, run in this process."""
    return tune.search(
        job,
        lambda message: None,
        trials=trials,
        journal=journal,
        directories=(),
        device="cpu",
        **places,
    )


def recorded(journal: Path) -> dict[str, list[FrozenTrial]]:
    """All trials of all studies."""
    storage = JournalStorage(JournalFileBackend(str(journal)))
    return {
        study.study_name: storage.get_all_trials(study._study_id)
        for study in storage.get_all_studies()
    }


def digits(journal: Path) -> list[tuple[str, dict[str, Any], float | None, dict[int, float]]]:
    """What the trials of the only study tried and found."""
    (trials,) = recorded(journal).values()
    return [(t.state.name, t.params, t.value, t.intermediate_values) for t in trials]


def test_every_method_gets_the_same_trials_and_the_first_seed(job: Job, tmp_path: Path) -> None:
    """Through worker processes: a file a method, a cell a task; what cannot learn is left out."""
    names = ("uniform", "straight_through", "seasonal_naive")
    jobs = [replace(job, method=name, seed=seed) for name in names for seed in (5, 6)]
    heard: list[tuple[str, Mapping[str, Any]]] = []
    files = tune.tune(
        jobs,
        trials=2,
        results=tmp_path,
        directories=(),
        slots=cpu_slots(1),
        say=lambda job, message: heard.append((job.method, message)),
    )
    folder = tmp_path / "small" / "tuned"
    assert files == [folder / "uniform.toml", folder / "straight_through.toml"]
    for path in files:
        (cell,) = tomllib.loads(path.read_text())["cells"]
        assert (cell["dataset"], cell["look_back"], cell["horizon"]) == ("waves", 48, 12)
        assert (cell["patches"], cell["seed"], cell["trials"]) == (6, 5, 2)
        assert cell["states"] == {"complete": 2}
        assert tune.RATES[0] <= cell["learning_rate"] <= tune.RATES[1]
        trials = recorded(tmp_path / "tuning" / "small.journal")[cell["study"]]
        assert cell["valid_mse"] == min(trial.values[0] for trial in trials)
    assert set(cell["keywords"]) == {"reach", "temperature"}
    assert [method for method, _ in heard] == ["uniform"] * 2 + ["straight_through"] * 2
    assert [(message["trial"], message["trials"]) for _, message in heard] == [(1, 2), (2, 2)] * 2


def test_interrupted_and_resumed_is_as_if_never_interrupted(job: Job, tmp_path: Path) -> None:
    """Between two trials nothing is lost: the same number, the same digits."""
    searched(job, tmp_path / "whole", 4)

    def interrupt(message: Mapping[str, Any]) -> None:
        if message["trial"] == 2:
            raise KeyboardInterrupt

    places: dict[str, Any] = {"journal": tmp_path / "parts", "directories": (), "device": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        tune.search(job, interrupt, trials=4, **places)
    assert len(digits(tmp_path / "parts")) == 2
    resumed = searched(job, tmp_path / "parts", 4)
    assert digits(tmp_path / "whole") == digits(tmp_path / "parts")
    assert resumed == searched(job, tmp_path / "whole", 4)
    rates = {params[tune._RATE] for _, params, _, _ in digits(tmp_path / "whole")}
    assert len(rates) == len(digits(tmp_path / "whole")) == 4  # nothing was left to do


def test_a_trial_that_was_cut_off_counts(job: Job, tmp_path: Path) -> None:
    """It may have looked at the validation data: nobody gets a look more than others."""
    journal = tmp_path / "journal"
    name = searched(job, journal, 1).study
    storage = JournalStorage(JournalFileBackend(str(journal)))
    optuna.load_study(study_name=name, storage=storage).ask()  # and then the machine stopped
    assert [state for state, *_ in digits(journal)] == ["COMPLETE", "RUNNING"]
    assert searched(job, journal, 3).states == {"fail": 1, "complete": 2}
    assert [state for state, *_ in digits(journal)] == ["COMPLETE", "FAIL", "COMPLETE"]


def test_test_windows_are_never_made(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is chosen by them; and no value of the test part changes what is chosen."""

    def never(*_: object) -> None:
        raise AssertionError("test windows were made")

    monkeypatch.setattr(windows, "test", never)
    expected = searched(job, tmp_path / "one", 2)
    load = run.load

    def spoilt(job: Job, directories: tuple[Path, ...]) -> data.Series:
        series = load(job, directories)
        values = series.values.copy()
        values[series.borders[1] :] = 1e9
        return replace(series, values=values)

    monkeypatch.setattr(tune, "load", spoilt)
    assert searched(job, tmp_path / "other", 2) == expected


def test_a_run_with_what_was_chosen_has_the_error_it_was_chosen_for(
    job: Job, tmp_path: Path
) -> None:
    """A trial trains as a run does, digit for digit."""
    tuned = searched(job, tmp_path / "journal", 3)
    chosen = replace(
        job,
        keywords=tuple(tuned.keywords.items()),
        budget=replace(job.budget, learning_rate=tuned.learning_rate),
    )
    origin = Provenance("abc", "python 3")
    record = run.run(chosen, directories=(), device="cpu", runs=tmp_path, provenance=origin)
    assert record.valid_mse == tuned.valid_mse


def test_the_first_trial_is_the_job_as_it_stands(job: Job, tmp_path: Path) -> None:
    """So tuning cannot do worse than not tuning; a rate out of range is tried at its end."""
    job = replace(job, keywords=(("reach", 4),))
    searched(job, tmp_path / "journal", 1)
    ((_, params, _, _),) = digits(tmp_path / "journal")
    assert params == {tune._RATE: BUDGET.learning_rate, "reach": 4, "temperature": 1.0}
    fast = replace(job, budget=replace(BUDGET, learning_rate=0.5))
    searched(fast, tmp_path / "fast", 1)
    ((_, params, _, _),) = digits(tmp_path / "fast")
    assert params[tune._RATE] == tune.RATES[1]


def test_a_choice_depends_on_the_first_trials_asked_for(job: Job, tmp_path: Path) -> None:
    """Fewer trials than there are: the others were not asked for and are not looked at."""
    two = searched(job, tmp_path / "two", 2)
    searched(job, tmp_path / "four", 4)
    assert searched(job, tmp_path / "four", 2) == two


def test_hopeless_trials_are_pruned_and_counted(job: Job, tmp_path: Path) -> None:
    """From the sixth on, a trial behind the median of those before stops, if not in epoch 1."""
    job = replace(job, method="uniform", budget=replace(BUDGET, epochs=4))
    tuned = searched(job, tmp_path / "journal", 10)
    assert tuned.states["pruned"] > 0
    assert sum(tuned.states.values()) == tuned.trials == 10
    pruned = [found for state, *_, found in digits(tmp_path / "journal") if state == "PRUNED"]
    assert {len(found) for found in pruned} == {2}


def test_a_setting_that_diverges_costs_its_trial(job: Job, tmp_path: Path) -> None:
    """It counts, is never chosen, and stops nothing; a study of nothing else fails."""
    (tmp_path / "moody.py").write_text(METHOD)
    job = replace(job, method="moody")
    tuned = searched(job, tmp_path / "journal", 4, methods=tmp_path)
    assert tuned.keywords == {"mood": "well"}
    assert tuned.states["fail"] >= 1
    with pytest.raises(ValueError, match="none of 1 trials went through"):
        searched(job, tmp_path / "other", 1, methods=tmp_path)


def test_another_setting_or_another_code_is_another_study(job: Job, tmp_path: Path) -> None:
    """Trials of an older method or budget are not taken for those of this one."""
    (tmp_path / "moody.py").write_text(METHOD.replace('mood="ill"', 'mood="well"'))
    job = replace(job, method="moody")
    names = [searched(job, tmp_path / "journal", 1, methods=tmp_path).study]
    budget = replace(BUDGET, steps=2)
    names += [
        searched(replace(job, budget=budget), tmp_path / "journal", 1, methods=tmp_path).study
    ]
    assert len(recorded(tmp_path / "journal")) == 2
    assert len(set(names)) == 2
    assert all(name.startswith("moody waves 48->12 K=6 ") for name in names)


def test_cells_tuned_before_stay_in_the_file(job: Job, tmp_path: Path) -> None:
    """A selection replaces its own cells; what was written reads back as it was."""
    tuned = searched(job, tmp_path / "journal", 1)
    other = replace(tuned, job=replace(job, task=replace(TASK, horizon=24)), valid_mse=1e-7)
    tune._keep(tmp_path, other)
    tune._keep(tmp_path, replace(tuned, valid_mse=9.0))
    path = tune._keep(tmp_path, replace(tuned, keywords={"of": 'a "b"\n', "on": True, "at": 1e-5}))
    first, second = tomllib.loads(path.read_text())["cells"]
    assert (first["horizon"], first["valid_mse"]) == (12, tuned.valid_mse)
    assert first["keywords"] == {"of": 'a "b"\n', "on": True, "at": 1e-5}
    assert (second["horizon"], second["valid_mse"]) == (24, 1e-7)


def test_a_study_that_fails_costs_no_other(job: Job, tmp_path: Path) -> None:
    """Those that went through are stored before the error is raised; it names cell and cause."""
    long = replace(job, method="uniform", task=replace(TASK, horizon=300))
    jobs = [long, replace(job, method="uniform")]
    arguments: dict[str, Any] = {"trials": 1, "directories": (), "slots": cpu_slots(1)}
    with pytest.raises(ValueError, match=r"1 of 2 studies failed; uniform waves 48->300 .* needs"):
        tune.tune(jobs, results=tmp_path, **arguments)
    path = tmp_path / "small" / "tuned" / "uniform.toml"
    assert [cell["horizon"] for cell in tomllib.loads(path.read_text())["cells"]] == [12]


def test_nothing_to_tune_is_said(job: Job, tmp_path: Path) -> None:
    """And a method that nobody has, by its nearest neighbour."""
    arguments: dict[str, Any] = {"trials": 1, "directories": (), "slots": cpu_slots(1)}
    with pytest.raises(ValueError, match="nothing to tune: no parameters in repeat_last"):
        tune.tune([replace(job, method="repeat_last")], results=tmp_path, **arguments)
    with pytest.raises(ValueError, match="did you mean 'uniform'"):
        tune.tune([replace(job, method="unifrom")], results=tmp_path, **arguments)
