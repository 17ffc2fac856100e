"""Pre-training resumes to the digits, artefacts are whole, predictors can be stored."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from gluonts.dataset.pandas import PandasDataset
from gluonts.evaluation import make_evaluation_predictions
from gluonts.model.predictor import Predictor
from small_corpus import BUDGET, TASK, TINY, pools, pretrained

from harness.data import Sampler
from harness.model.contract import ContractError
from harness.model.patcher import Patches, Rows
from harness.run import artefact
from harness.run.fit import DivergedError
from harness.run.predictor import PatchPredictor
from harness.run.pretrain import SHORTEST, _length, _rows, pretrain
from methods.reinpatch import ReinPatch
from methods.soft import Soft
from methods.uniform import Uniform

TOLD: dict[str, Any] = {
    "method": "uniform",
    "architecture": TINY,
    "corpus": "waves",
    "corpus_hash": "c",
    "families": ["waves"],
    "licences": ["CC0"],
    "seed": 1,
    "steps": 6,
    "rows": 48,
    "valid_loss": 0.5,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact of equal patches."""
    folder = tmp_path_factory.mktemp("artefacts") / "uniform"
    artefact.write(pretrained().model, folder, **TOLD)
    return folder


def test_the_same_seed_gives_the_same_digits() -> None:
    """And another one does not."""
    first, again, other = (pretrained(seed=seed) for seed in (1, 1, 2))
    assert first.best == again.best != other.best
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name])


def test_training_lowers_the_loss_and_keeps_the_best_weights() -> None:
    """The loss of the weights kept is the least of the curve, by the rule that was chosen."""
    told: list[dict[str, float]] = []
    budget = dataclasses.replace(BUDGET, epochs=6, steps=10)
    found = pretrained(ReinPatch, budget=budget, on_check=told.append)
    losses = [each["valid_loss"] for each in told]
    assert found.best == min(losses) < losses[0]
    assert [each["epoch"] for each in told] == [1, 2, 3, 4, 5, 6]
    assert told[-1]["step"] == 60
    assert all(each["rows_per_second"] > 0 for each in told)
    assert found.seconds == told[-1]["seconds"] > 0
    assert found.model.patcher.evaluation_rule == found.rule


@pytest.mark.parametrize("method", [Soft, ReinPatch])
def test_a_break_changes_no_digit(method: Any, tmp_path: Path) -> None:  # noqa: ANN401 - a patcher
    """Killed after a check, it goes on from there."""
    whole = pretrained(method)
    seen: list[float] = []

    def stop(told: dict[str, float]) -> None:
        seen.append(told["step"])
        if len(seen) == 2:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "checkpoint.pt"
    with pytest.raises(KeyboardInterrupt):
        pretrained(method, checkpoint=checkpoint, on_check=stop)
    resumed = pretrained(
        method, checkpoint=checkpoint, on_check=lambda told: seen.append(told["step"])
    )
    assert seen == [2, 4, 4, 6]
    assert resumed.best == whole.best
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    """With what differs; and so is what is none."""
    checkpoint = tmp_path / "checkpoint.pt"
    pretrained(checkpoint=checkpoint)
    with pytest.raises(ValueError, match="another pre-training: its seed is 1, not 2"):
        pretrained(checkpoint=checkpoint, seed=2)
    checkpoint.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged, or no checkpoint"):
        pretrained(checkpoint=checkpoint)


def test_a_loss_that_is_not_finite_stops_training() -> None:
    """With the step by which it was found."""
    with pytest.raises(DivergedError, match="not finite in epoch 1 after 2 steps"):
        pretrained(budget=dataclasses.replace(BUDGET, learning_rate=math.inf))


class Torn(Uniform):
    """Equal patches, the last of which is a step too short where `torn` says so."""

    def torn(self) -> bool:
        return False

    def forward(self, rows: Rows) -> Patches:
        patches = super().forward(rows)
        length = patches.length.clone()
        length[0, -1] -= int(self.torn())
        return dataclasses.replace(patches, length=length)


class TornInTraining(Torn):
    """Where training takes a length that validation does not."""

    def torn(self) -> bool:
        return self.training and self.task.look_back not in (32, 128, 256, 512)


class TornInValidation(Torn):
    """At the last of its lengths."""

    def torn(self) -> bool:
        return not self.training and self.task.look_back == 512


def test_patches_are_held_to_the_contract_at_every_length() -> None:
    """In training and validation; the steps of the length, its K and the rows are named."""
    pretrained(Torn)
    found = (
        r"in pre-training: \d of \d+ rows have a gap .* exactly \d+ patches that cover the \d+ "
    )
    with pytest.raises(ContractError, match=found):
        pretrained(TornInTraining)
    found = (
        r"on the validation rows: 1 of 1 rows have a gap .* 32 patches that cover the 512 steps"
    )
    with pytest.raises(ContractError, match=found):
        pretrained(TornInValidation)


def test_forecasts_are_held_to_the_contract(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of whatever series is asked for."""
    predictor = PatchPredictor(str(place), prediction_length=8)
    predictor.quantiles([np.arange(100, dtype=np.float32)])
    torn = TornInTraining(dataclasses.replace(TASK, look_back=96, patches=6))
    monkeypatch.setitem(predictor.model._of_length, 96, torn)
    monkeypatch.setattr(TornInTraining, "torn", lambda self: True)
    with pytest.raises(ContractError, match=r"on pasts to forecast from: 1 of 1 rows have a gap"):
        predictor.quantiles([np.arange(100, dtype=np.float32)])


def test_a_budget_that_cannot_be_kept_is_refused() -> None:
    """There is no pass over a corpus, and no half precision."""
    with pytest.raises(ValueError, match="steps are missing"):
        pretrained(budget=dataclasses.replace(BUDGET, steps=None))
    with pytest.raises(ValueError, match="in float32 and not compiled"):
        pretrained(budget=dataclasses.replace(BUDGET, precision="bfloat16"))


def test_lengths_of_pasts_are_whole_or_short() -> None:
    """From two patches on whole ones; more than a quarter of the steps are below 64."""
    generator = np.random.default_rng(0)
    found = np.array([_length(TASK, generator) for _ in range(2000)])
    assert (found.min(), found.max()) == (SHORTEST, TASK.look_back)
    assert (found[found >= 32] % 16 == 0).all()
    assert set(found[found < 32]) == set(range(SHORTEST, 32))
    assert (found < 64).mean() == pytest.approx(0.28, abs=0.04)


def test_a_short_past_is_scored_no_further_than_it_reaches() -> None:
    """What comes after as many steps as it has counts for nothing."""
    sample = Sampler(pools()).draw(4, np.random.default_rng(0), 20)
    scored = _rows(sample, 20, TASK, "cpu").scored
    assert scored.sum(dim=1).tolist() == [20] * 4


def test_a_task_that_rows_cannot_serve_is_refused() -> None:
    """With what they can; a shorter horizon is forecast as it is."""
    with pytest.raises(ValueError, match="at most 512 steps of past and 64 of future"):
        pretrained(task=dataclasses.replace(TASK, look_back=1024))
    task = dataclasses.replace(TASK, look_back=256, patches=16, horizon=32)
    assert pretrained(task=task).model(torch.randn(1, 256), torch.arange(1)).values.shape[2] == 32


def test_a_corpus_without_rows_is_refused() -> None:
    """Series that are too short for a past and a future."""
    with pytest.raises(ValueError, match="no series of part 'train' holds"):
        pretrain(Uniform, pools(steps=100), task=TASK, budget=BUDGET, architecture=TINY, seed=1)


# --- artefacts -----------------------------------------------------------------------------------


def test_an_artefact_forecasts_as_what_it_was_made_of(place: Path) -> None:
    """To the last bit."""
    past, ids = torch.randn(3, 200), torch.arange(3)
    expected = pretrained().model(past, ids).original
    assert torch.equal(artefact.read(place)(past, ids).original, expected)


def test_a_changed_artefact_is_refused(place: Path, tmp_path: Path) -> None:
    """Weights, card, method or identity: each by name."""
    own = tmp_path / "own"
    for name in (artefact.WEIGHTS, artefact.CARD):
        own.mkdir(exist_ok=True)
        (own / name).write_bytes((place / name).read_bytes())
    with pytest.raises(ValueError, match=r"holds artefact .*, not another"):
        artefact.read(own, expected="another")
    content = bytearray((own / artefact.WEIGHTS).read_bytes())
    content[-1] ^= 1
    (own / artefact.WEIGHTS).write_bytes(content)
    with pytest.raises(ValueError, match=r"weights.safetensors is not what its card says"):
        artefact.read(own)
    card = json.loads((own / artefact.CARD).read_text())
    (own / artefact.CARD).write_text(json.dumps(card | {"method_source": "x"}))
    with pytest.raises(ValueError, match="was made by other code of uniform"):
        artefact.read(own)
    (own / artefact.CARD).write_text(json.dumps(card | {"patchs": 3}))
    with pytest.raises(ValueError, match=r"card.json: .*patchs"):
        artefact.read(own)
    with pytest.raises(FileNotFoundError, match=r"no artefact in .*: card.json is missing"):
        artefact.read(tmp_path)


# --- predictors ----------------------------------------------------------------------------------


def series(steps: int = 300, items: int = 3) -> PandasDataset:
    index = pd.date_range("2020-01-01", periods=steps, freq="h")
    clock = np.arange(steps)
    frames = {
        f"item {number}": pd.DataFrame(
            {"target": np.float32(1e6 + np.sin(clock / (3 + number)))}, index=index
        )
        for number in range(items)
    }
    return PandasDataset(frames)


def test_gluonts_tools_work_on_it(place: Path) -> None:
    """Its backtest gets a forecast for each series, at its start and of its length."""
    predictor = PatchPredictor(str(place), prediction_length=100)
    forecasts, truth = make_evaluation_predictions(series(), predictor=predictor)
    for forecast, true in zip(forecasts, truth, strict=True):
        assert forecast.start_date == true.index[-100]
        assert forecast.quantile(0.5).shape == (100,)
        assert (forecast.quantile(0.9) >= forecast.quantile(0.1)).all()
        assert abs(forecast.quantile(0.5) - 1e6).max() < 100


def test_a_stored_predictor_is_the_same_in_another_process(place: Path, tmp_path: Path) -> None:
    """The same digits from a fresh Python, which is told the folder alone."""
    predictor = PatchPredictor(str(place), prediction_length=70)
    past = np.sin(np.arange(90) / 5).astype(np.float32)
    expected = predictor.quantiles([past])
    predictor.serialize(tmp_path)
    asked = f"""
import numpy as np, sys
from pathlib import Path
from gluonts.model.predictor import Predictor
predictor = Predictor.deserialize(Path({str(tmp_path)!r}))
past = np.sin(np.arange(90) / 5).astype(np.float32)
np.save({str(tmp_path / "out.npy")!r}, predictor.quantiles([past]))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", asked], check=True)
    assert np.array_equal(np.load(tmp_path / "out.npy"), expected)


def test_a_predictor_of_another_artefact_is_refused(place: Path) -> None:
    """When it is loaded, by the hash that it was stored with."""
    with pytest.raises(ValueError, match="not 0000000000000000"):
        PatchPredictor(str(place), 24, artefact_hash="0" * 16)


def test_pasts_may_be_short_gappy_and_of_different_lengths(place: Path) -> None:
    """One forecast each, in their order, whatever else is asked for beside it."""
    predictor = PatchPredictor(str(place), prediction_length=8)
    gappy = np.sin(np.arange(100) / 4).astype(np.float32)
    gappy[10:20] = np.nan
    pasts = [gappy, gappy[-33:], gappy[-3:], gappy[-1:], np.tile(gappy, 8)]
    together = predictor.quantiles(pasts)
    assert np.isfinite(together).all()
    for past, expected in zip(pasts, together, strict=True):
        np.testing.assert_allclose(predictor.quantiles([past])[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("unit", [1e-20, 1e-6, 1e6, 1e20])
def test_the_unit_of_a_series_is_no_matter(place: Path, unit: float) -> None:
    """Of its forecast neither, however far it is rolled; and a level costs few digits."""
    predictor = PatchPredictor(str(place), prediction_length=100)
    past = np.cumsum(np.sin(np.arange(300) / 4)).astype(np.float32)
    expected = predictor.quantiles([past])
    found = predictor.quantiles([(past.astype(np.float64) * unit).astype(np.float32)])
    np.testing.assert_allclose(found / unit, expected, rtol=1e-4, atol=1e-4)
    level = np.float32(2**16)  # of which the digits of float32 leave 1/128
    raised = predictor.quantiles([(np.round(past * 128) / 128 + level).astype(np.float32)])
    raised -= level
    np.testing.assert_allclose(raised, expected, rtol=1e-2, atol=5e-2)


def test_a_constant_past_goes_on(place: Path) -> None:
    """Whatever it is, the forecast is finite and of its size."""
    predictor = PatchPredictor(str(place), prediction_length=4)
    for value in (0.0, 0.1, 1e20):
        found = predictor.quantiles([np.full(70, value, dtype=np.float32)])
        assert np.isfinite(found).all()
        assert abs(found).max() <= 2 * value + 10


def test_a_horizon_too_far_is_refused(place: Path) -> None:
    """Twelve rolls are enough."""
    with pytest.raises(ValueError, match=r"a horizon of 1000 steps; .* forecasts at most 768"):
        PatchPredictor(str(place), prediction_length=1000)
    assert isinstance(PatchPredictor(str(place), prediction_length=768), Predictor)
