"""Jobs of each stage: pre-training leaves an artefact, and others start from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_cases import item
from small_corpus import TINY

from harness.core.job import Job, Provenance, Record, recomputed_key
from harness.core.task import Budget, Task
from harness.data import corpora
from harness.results.bundles import read_bundle
from harness.run import artefact, stages
from harness.run.job import run
from harness.zero_shot import tasks
from harness.zero_shot.cases import Cases, cut

CORPUS = 'description = "drawn"\n[synthetic]\nseed = 1\nseries = 40\n'
YEARLY = tasks.find("chronos-II/monash_m1_yearly")
MEASURED = ("train_seconds", "evaluate_seconds", "peak_memory_mb")


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus of forty drawn series, and a task of three short ones."""
    (tmp_path / "tiny.toml").write_text(CORPUS)
    monkeypatch.setattr("harness.data.corpora.CORPORA", tmp_path)
    monkeypatch.setattr(stages, "_cases", lambda name, directories: yearly())


def yearly() -> Cases:
    clock = np.arange(30)
    return cut(
        YEARLY, [item(clock[: 20 + n] * (n + 1.0) + np.sin(clock[: 20 + n])) for n in range(3)]
    )


def pretraining(method: str = "reinpatch") -> Job:
    return Job(
        suite="pretraining",
        method=method,
        task=Task("tiny", 128, 64, 8),
        seed=1,
        architecture=TINY,
        budget=Budget(epochs=2, steps=2, batch=8, valid_windows=12),
        stage="pretrain",
    )


def target(method: str = "reinpatch", **changes: Any) -> Job:  # noqa: ANN401 - of any type
    usual: dict[str, Any] = {
        "suite": "transfer",
        "method": method,
        "task": Task("mitdb", 128, 12, 8),
        "seed": 1,
        "architecture": TINY,
        "budget": Budget(
            epochs=1, steps=3, batch=8, valid_windows=20, test_windows=20, probe_windows=20
        ),
    }
    return Job(**usual | changes)


def scoring(method: str = "uniform") -> Job:
    task = Task(YEARLY.dataset, 128, YEARLY.horizon, 8, YEARLY.season)
    return replace(
        pretraining(method),
        suite="zero_shot",
        task=task,
        stage="zero_shot",
        needs=pretraining(method),
    )


def go(job: Job, runs: Path, **others: Any) -> Record:  # noqa: ANN401 - of any type
    return run(
        job, directories=(), device="cpu", runs=runs, provenance=Provenance("c", "v"), **others
    )


def same(first: Record, second: Record) -> bool:
    blank: dict[str, Any] = dict.fromkeys(MEASURED)
    return replace(first, **blank) == replace(second, **blank)


def test_pre_training_leaves_a_row_and_an_artefact(tmp_path: Path) -> None:
    """The row has the loss, the bundle the weights and a card that says what they were fed."""
    record = go(pretraining(), tmp_path / "runs")
    assert (record.status, record.stage, record.epochs, record.steps) == ("done", "pretrain", 2, 4)
    assert record.valid_loss is not None
    assert record.key == recomputed_key(record)
    assert record.data_hash == corpora.find_corpus("tiny").hash
    bundle = read_bundle(tmp_path / "runs" / record.key)
    assert bundle.artefact is not None
    assert [epoch["epoch"] for epoch in bundle.curves] == [1.0, 2.0]
    card = artefact.read_card(bundle.artefact)
    assert (card.corpus, card.rows, card.valid_loss) == ("tiny", 32, record.valid_loss)
    assert not [*(tmp_path / "runs").glob("*.checkpoint")]


def test_a_pre_training_that_was_broken_off_goes_on(tmp_path: Path) -> None:
    """After its last check, to the digits of one without a break."""

    def interrupt(told: Mapping[str, float]) -> None:
        if told["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(pretraining(), tmp_path / "a", on_epoch=interrupt)
    assert [*(tmp_path / "a").glob("*.checkpoint")]
    epochs: list[float] = []
    again = go(pretraining(), tmp_path / "a", on_epoch=lambda told: epochs.append(told["epoch"]))
    assert epochs == [2]
    assert same(again, go(pretraining(), tmp_path / "b"))


@pytest.mark.parametrize("method", ["reinpatch", "straight_through"])
def test_a_frozen_patcher_is_the_one_that_was_pre_trained(method: str, tmp_path: Path) -> None:
    """After training on the target, too: its weights, and those of the features it decides on."""
    runs = tmp_path / "runs"
    before = go(pretraining(method), runs)
    record = go(target(method, stage="frozen", needs=pretraining(method)), runs)
    assert (record.status, record.needs, record.corpus) == ("done", before.key, "tiny")
    assert record.label == f"{method}_frozen_tiny"
    learned = artefact.read(runs / before.key / "artefact")
    state = torch.load(runs / record.key / "weights.pt", weights_only=True)
    parts = {"patcher": learned.patcher} | ({"stem": learned.stem} if learned.stem else {})
    compared = 0
    for name, part in parts.items():
        for key, value in part.named_parameters():
            assert torch.equal(state[f"{name}.{key}"], value), key
            compared += 1
    assert compared
    assert record.rule == before.rule


def test_an_untrained_patcher_learns_nothing_and_differs_from_the_usual_arm(
    tmp_path: Path,
) -> None:
    """Three arms, three keys, three lines of a leaderboard; one of them learns to cut."""
    untrained, usual = (go(target(stage=stage), tmp_path) for stage in ("untrained", None))
    assert len({untrained.key, usual.key}) == 2
    assert (untrained.label, usual.label) == ("reinpatch_untrained", "reinpatch")
    first, second = (
        torch.load(tmp_path / record.key / "weights.pt", weights_only=True)
        for record in (untrained, usual)
    )
    moved = [key for key in first if key.startswith("patcher.") and "weight" in key]
    assert any(not torch.equal(first[key], second[key]) for key in moved)
    again = go(target(stage="untrained", seed=1), tmp_path / "again")
    assert same(untrained, again)


def test_an_untrained_policy_cuts_at_random(tmp_path: Path) -> None:
    """It rates all steps alike: its mode would be one plan, left by ties, for all rows."""
    record = go(target(stage="untrained"), tmp_path)
    assert record.rule == "sample"
    assert record.distinct is not None
    assert record.distinct > 0.9
    assert go(target("straight_through", stage="untrained"), tmp_path).rule == "best"


def test_a_pre_trained_forecaster_is_scored_on_a_task(tmp_path: Path) -> None:
    """By the rule of its benchmark; the row says what it started from and what that may leak."""
    before = go(pretraining("uniform"), tmp_path)
    record = go(scoring(), tmp_path)
    assert (record.status, record.needs, record.leak) == ("done", before.key, "clean")
    assert (record.cases, record.masked) == (3, 0)
    assert record.mase is not None
    assert record.quantile_loss is not None
    assert record.mse is None
    assert record.key == recomputed_key(record) != before.key
    shown = read_bundle(tmp_path / record.key).overlay
    assert shown is not None
    assert len(shown["quantiles"]) == len(shown["levels"]) == 9
    assert len(shown["future"]) == len(shown["by_step"]) == YEARLY.horizon
    assert shown["starts"][0] >= 0
    assert len(shown["by_case"]) == 3
    json.dumps(asdict(record), allow_nan=False)


def test_a_reference_is_scored_by_its_import_path(tmp_path: Path) -> None:
    """It needs no pre-training, and is never ranked."""
    path = (("path", "harness.zero_shot.classical:Classical"), ("model", "theta"))
    job = replace(scoring(), method="theta", needs=None, hyperparameters=path)
    record = go(job, tmp_path)
    assert (record.kind, record.ranked, record.needs, record.leak) == (
        "reference",
        False,
        None,
        None,
    )
    assert record.mase is not None


def test_all_forecasters_show_the_same_case(tmp_path: Path) -> None:
    """Which one does not depend on who forecasts, so that forecasts can be held side by side."""
    go(pretraining("uniform"), tmp_path)
    path = (("path", "harness.zero_shot.classical:Classical"), ("model", "theta"))
    jobs = scoring(), replace(scoring(), method="theta", needs=None, hyperparameters=path)
    shown = [read_bundle(tmp_path / go(job, tmp_path).key).overlay for job in jobs]
    first, second = ({**one, "method": ""} for one in shown if one is not None)
    for name in ("item", "start", "past", "future"):
        assert first[name] == second[name]
    assert first["quantiles"] != second["quantiles"]


def test_what_cannot_be_done_is_named(tmp_path: Path) -> None:
    """No artefact, a method of one look-back, a reference that has no patcher to freeze."""
    with pytest.raises(
        FileNotFoundError, match=r"the artefact of pre-training [0-9a-f]{16} is not"
    ):
        go(scoring(), tmp_path)
    with pytest.raises(ValueError, match=r"LearnedGrid has .* for one look-back only"):
        go(pretraining("learned_grid"), tmp_path)
    with pytest.raises(ValueError, match="dlinear is no patcher: it cannot be pre-trained"):
        go(pretraining("dlinear"), tmp_path)
    with pytest.raises(ValueError, match="dlinear has no patcher to be frozen"):
        go(target("dlinear", stage="untrained"), tmp_path)


def test_a_run_without_its_artefact_is_not_the_run_of_another_one(tmp_path: Path) -> None:
    """An artefact of other settings has another key, so that it is never taken by mistake."""
    go(replace(pretraining("uniform"), seed=2), tmp_path)
    with pytest.raises(FileNotFoundError):
        go(scoring(), tmp_path)
