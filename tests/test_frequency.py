"""Patches by the sampling rate: the right length, at most K, and a rate wherever there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_corpus import pools, pretrained

from harness import data
from harness.core.job import Job, Provenance
from harness.core.task import Budget, Task
from harness.model.patcher import Patches, Rows
from harness.run.job import run
from harness.run.predictor import PatchPredictor
from harness.zero_shot import tasks
from methods.frequency import Frequency
from methods.uniform import Uniform

HOUR, DAY = 3600.0, 86400.0


def cut(
    spacing: list[float] | None, look_back: int = 512, patches: int = 64, **size: str
) -> Patches:
    count = 1 if spacing is None else len(spacing)
    rate = None if spacing is None else torch.tensor(spacing)
    method = Frequency(Task("x", look_back, 4, patches), **size)
    return method(Rows(torch.zeros(count, look_back), torch.arange(count), spacing=rate))


@pytest.mark.parametrize(
    ("frequency", "least", "largest"),
    [
        ("YE", 8, 8),
        ("QS", 8, 8),
        ("MS", 8, 32),
        ("W-TUE", 16, 32),
        ("D", 16, 32),
        ("6h", 32, 64),
        ("h", 32, 64),
        ("15min", 32, 128),
        ("min", 32, 128),
        ("10s", 64, 128),
    ],
)
def test_the_length_is_that_of_the_sampling_rate(frequency: str, least: int, largest: int) -> None:
    """Those of Moirai's table, where K leaves room for them."""
    for size, length in (("least", least), ("largest", largest)):
        patches = cut([data.spacing(frequency)], size=size)
        assert set(patches.length[patches.valid].tolist()) == {length}
        assert patches.valid.sum() == 512 // length


@given(
    st.lists(st.sampled_from([0.0, 1.0, 600.0, HOUR, DAY, 30 * DAY, 365 * DAY]), min_size=1),
    st.integers(2, 200),
    st.data(),
)
def test_a_row_has_k_patches_at_most(
    spacing: list[float], look_back: int, chosen: st.DataObject
) -> None:
    """All but the first are as long; each row is cut as it would be alone."""
    count = chosen.draw(st.integers(1, look_back))
    patches = cut(spacing, look_back, count)
    assert patches.start.shape == (len(spacing), count)
    assert torch.equal(patches.length.sum(1), torch.full((len(spacing),), look_back))
    for number, seconds in enumerate(spacing):
        lengths = patches.length[number, patches.valid[number]]
        assert (lengths > 0).all()
        if seconds:
            assert len(set(lengths[1:].tolist())) <= 1
            assert lengths[0] <= lengths[-1]
        assert torch.equal(cut([seconds], look_back, count).start[0], patches.start[number])


def test_a_row_without_a_rate_has_equal_patches() -> None:
    """Whether nothing is known of any row, or of this one."""
    task = Task("x", 100, 4, 8)
    equal = Uniform(task)(Rows(torch.zeros(1, 100), torch.arange(1))).start
    assert torch.equal(cut(None, 100, 8).start, equal)
    assert torch.equal(cut([0.0, HOUR], 100, 8).start[:1], equal)


def test_a_size_that_there_is_not_is_refused() -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match="size is 'some'; allowed: least, largest"):
        cut(None, size="some")


# --- where the rate is known ---------------------------------------------------------------------


class Listening(Frequency):
    """Remembers the rates that it was told."""

    heard: set[float]

    def forward(self, rows: Rows) -> Patches:
        told = [0.0] if rows.spacing is None else rows.spacing.tolist()
        type(self).heard |= set(told)
        return super().forward(rows)


@pytest.fixture
def listening() -> type[Listening]:
    """The method, which has heard nothing yet."""
    Listening.heard = set()
    return Listening


@pytest.mark.parametrize(
    ("frequency", "seconds"),
    [("step", 0), ("h", HOUR), ("10min", 600), ("W-TUE", 7 * DAY), ("MS", 28 * DAY)],
)
def test_a_frequency_has_its_seconds(frequency: str, seconds: float) -> None:
    """Of what has no clock there are none."""
    assert data.spacing(frequency) == seconds


def test_every_zero_shot_task_has_a_rate() -> None:
    """As its periods have it."""
    seconds = {
        task.frequency: data.spacing(pd.Period("2001-01-01", task.frequency).freq)
        for task in tasks.tasks().values()
    }
    assert min(seconds.values()) == 600
    assert (seconds["Y"], seconds["Q"], seconds["M"]) == (365 * DAY, 91 * DAY, 28 * DAY)


def test_rows_of_a_corpus_have_the_rate_at_which_they_are_taken(
    listening: type[Listening],
) -> None:
    """Every second step of an hourly series is two hours from the last; drawn ones have none."""
    hourly, drawn = pools()[0], data.Pool("drawn", 1.0, ("a",), pools(1)[0].series)
    hourly = data.Pool("hourly", 1.0, hourly.names, hourly.series, HOUR)
    sample = data.Sampler([hourly, drawn]).draw(400, np.random.default_rng(0), 64)
    assert set(sample.spacing / HOUR) == {0, 1, 2, 3, 4, 6}  # too short for 12 and 24
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("small_corpus.pools", lambda: [hourly])
        pretrained(listening)
    assert 0 not in listening.heard
    assert listening.heard <= {HOUR * step for step in (1, 2, 3, 4, 6, 12)}


def test_a_forecast_is_told_the_rate_of_its_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listening: type[Listening]
) -> None:
    """By the period at which the series starts."""
    model = pretrained(listening).model
    monkeypatch.setattr("harness.run.predictor.read", lambda *_, **__: model)
    monkeypatch.setattr("harness.run.predictor.hash_of", lambda *_: "h")
    listening.heard = set()
    predictor = PatchPredictor(str(tmp_path), 100)
    start = pd.Period("2001-01-01", "D")
    [*predictor.predict([{"start": start, "target": np.arange(70.0, dtype=np.float32)}])]
    assert listening.heard == {DAY}
    listening.heard = set()
    predictor.cuts(np.arange(70.0, dtype=np.float32), HOUR)
    assert listening.heard == {HOUR}


def test_rows_of_a_data_set_have_its_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listening: type[Listening]
) -> None:
    """In training, validation and test alike."""
    steps = np.arange(400)
    clock = pd.date_range("2020-01-01", periods=len(steps), freq="15min")
    pd.DataFrame({"date": clock, "x": np.sin(steps / 5)}).to_csv(tmp_path / "own.csv", index=False)
    monkeypatch.setattr("harness.model.registry.find", lambda *_: listening)
    job = Job(
        "small",
        "frequency",
        Task("own", 48, 12, 6),
        1,
        budget=Budget(epochs=1, steps=1, batch=4),
        source=data.Source(tmp_path / "own.csv", "15min", 4),
    )
    run(job, directories=(), device="cpu", runs=tmp_path, provenance=Provenance("c", "v"))
    assert listening.heard == {900.0}
