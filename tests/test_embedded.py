"""Embedded data sets: drawn or shipped, always the same, and known before they are loaded."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from harness import data
from harness.bench import suite
from harness.bench.plan import plan
from harness.bench.survey import Folders, survey
from harness.data import embedded, load
from harness.data.planted import FAMILIES, names, plant


@pytest.mark.parametrize("family", FAMILIES)
def test_planted_series_are_windows_end_to_end(family: str) -> None:
    """Episodes of 120 steps, boundaries inside look-backs, parts of whole windows."""
    series, planted = load(family, []), plant(family)
    assert series.episode == 120
    assert series.borders == (20_000 * 120, 22_000 * 120, 24_000 * 120)
    assert not series.standardise
    assert (
        series.values[120 * 21_000 : 120 * 21_001, 0].tolist() == planted.values[21_000].tolist()
    )
    assert series.boundaries is not None
    window, step = np.divmod(series.boundaries, 120)
    assert ((step > 0) & (step < 96)).all()
    marks: NDArray[np.bool_] = np.zeros_like(planted.boundaries)
    marks[window, step] = True
    assert np.array_equal(marks, planted.boundaries)


def test_electric_devices_are_those_of_sktime() -> None:
    """Read without importing sktime, yet the values, period and change points of its loader."""
    from sktime.datasets import load_electric_devices_segmentation

    values, period, change_points = load_electric_devices_segmentation()
    series = load("electric_devices", [])
    assert series.boundaries is not None
    assert series.values[:, 0].tolist() == values.tolist()
    assert series.season == period
    assert series.boundaries.tolist() == change_points.tolist()
    assert series.borders == (8072, 9226, 11532)


def test_mitdb_has_its_heart_beat_as_season_and_its_labelled_stretch() -> None:
    """300 steps is where the autocorrelation of the training part peaks after its first fall."""
    series = load("mitdb", [])
    assert series.values.shape == (7500, 1)
    train = series.values[: series.borders[0], 0] - series.values[: series.borders[0], 0].mean()
    correlation = [float(train[lag:] @ train[:-lag]) for lag in range(100, 800)]
    assert 100 + int(np.argmax(correlation)) == series.season == 300
    assert series.boundaries is not None
    assert series.boundaries.tolist() == [6936, 7288]


def test_every_planted_data_set_can_be_loaded_by_name() -> None:
    """None is drawn without a hash that says so, and all are among the known ones."""
    assert set(names()) == set(embedded._PLANTED)
    assert set(names()) <= set(data.known())


@pytest.mark.parametrize("name", embedded.names())
def test_hash_and_season_are_known_without_loading(name: str) -> None:
    """A plan, which only asks for these, is made of the same data as its runs."""
    series = load(name, [])
    assert (data.pinned(name), data.season(name)) == (series.hash, series.season)


def test_a_plan_loads_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """How every planned run stands is known at once: no series is drawn or read for it."""

    def load(name: str) -> data.Series:
        raise AssertionError(f"{name} was loaded")

    monkeypatch.setattr(embedded, "load", load)
    path = tmp_path / "all.toml"
    path.write_text(
        f'methods = ["uniform"]\nseeds = [1]\n[[tasks]]\ndatasets = {embedded.names()}\n'
        "look_back = 96\nhorizons = [24]\npatches = 12\n"
    )
    jobs = plan(suite.load(path))
    cells = survey(jobs, Folders(tmp_path, (), tmp_path))
    assert [(cell.job.task.dataset, cell.state) for cell in cells] == [
        (name, "missing") for name in embedded.names()
    ]


def test_an_altered_bundle_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should sktime ever ship other values, the name does not quietly mean them."""
    other = replace(embedded._BUNDLED["mitdb"], column=1)
    monkeypatch.setitem(embedded._BUNDLED, "mitdb", other)
    with pytest.raises(ValueError, match=r"mitdb\.csv is not mitdb"):
        load("mitdb", [])


def drawn_differently(monkeypatch: pytest.MonkeyPatch, by: float) -> None:
    """From now on, one planted value is another."""
    planted = plant("const")
    planted.values[7, 7] += by
    monkeypatch.setattr(embedded, "plant", lambda family: planted)


def test_the_last_digits_of_a_planted_value_may_be_the_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another mathematical library rounds otherwise; the data set is the same, and so its rows."""
    drawn_differently(monkeypatch, by=1e-12)
    assert load("const", []).hash == data.pinned("const")


def test_an_altered_planted_series_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should numpy ever draw other values, the name does not quietly mean them."""
    drawn_differently(monkeypatch, by=1e-5)
    with pytest.raises(ValueError, match=r"what numpy [\d.]+ draws here is not const: "):
        load("const", [])


def test_loading_costs_no_heavy_import() -> None:
    """Neither torch nor sktime is imported, whatever embedded set is loaded."""
    script = (
        "import sys; from harness.data import load;"
        "load('electric_devices', []); load('const', []);"
        "print(sorted({'torch', 'sktime', 'gluonts'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
