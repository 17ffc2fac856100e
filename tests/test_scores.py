"""Scores of forecasts: the rules of three benchmarks, equal to what gluonts computes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_cases import TASK, Spread, item, small_cases

from harness.zero_shot import gate, tasks
from harness.zero_shot.cases import Cases, cut
from harness.zero_shot.forecasts import ask
from harness.zero_shot.predictors import Entry, Predictor, QuantileForecast, make
from harness.zero_shot.recipes import Item
from harness.zero_shot.scores import LEVELS, losses, score
from harness.zero_shot.tasks import BENCHMARKS, ZeroShotTask

NAMES = {
    "mase": "MASE[0.5]",
    "SQL": "average_mean_scaled_quantile_loss",
    "WQL": "mean_weighted_sum_quantile_loss",
    "CRPS": "mean_weighted_sum_quantile_loss",
    "wape": "ND[0.5]",
}


def of_gluonts(predictor: Predictor, cases: Cases) -> dict[str, float]:
    """What gluonts makes of a predictor, with its own splitting: by name of the score."""
    from gluonts.dataset.split import split  # after `predictors`, which silences its import
    from gluonts.ev.metrics import (
        MASE,
        ND,
        AverageMeanScaledQuantileLoss,
        MeanWeightedSumQuantileLoss,
    )
    from gluonts.model.evaluation import evaluate_model

    task = cases.task
    metrics = [
        *(MASE(), ND(), MeanWeightedSumQuantileLoss(LEVELS)),
        AverageMeanScaledQuantileLoss(LEVELS),
    ]
    found = list(dict.fromkeys(case.item for case in cases))
    pools: Iterable[tuple[int, Sequence[Item]]] = [(task.tail, found)]
    if task.benchmark == "fev-bench":
        channels = sorted({one.channel for one in found})
        pools = [
            (task.tail - window * task.horizon, [one for one in found if one.channel == channel])
            for window in range(task.windows)
            for channel in channels
        ]
    answers = []
    for tail, chosen in pools:
        series = [
            {"item_id": one.name, "start": one.start, "target": one.values.astype(np.float64)}
            for one in chosen
        ]
        _, template = split(series, offset=-tail)
        windows = 1 if task.benchmark == "fev-bench" else task.windows
        data = template.generate_instances(task.horizon, windows=windows)
        table = evaluate_model(
            predictor, test_data=data, metrics=metrics, axis=None, seasonality=task.season
        )
        answers.append({name: float(table[column].iloc[0]) for name, column in NAMES.items()})
    return {name: float(np.mean([answer[name] for answer in answers])) for name in NAMES}


class Echo(Spread):
    """Spread, but by the entry and not by its place, so that it does not matter who asks."""

    def predict(self, dataset: Iterable[Entry]) -> Iterator[QuantileForecast]:
        for entry in dataset:
            [forecast] = super().predict([entry])
            yield forecast


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_scores_are_those_of_gluonts(benchmark: tasks.BenchmarkName, gaps: bool) -> None:  # noqa: FBT001 - a parameter
    """By each benchmark's rule, own splitting and scores equal gluonts' to 1e-9, gaps or not."""
    cases = small_cases(benchmark, gaps=gaps)
    predictor = Echo(cases.task.horizon)
    ours, theirs = score(cases, ask(predictor, cases)), of_gluonts(predictor, cases)
    assert ours.mase == pytest.approx(theirs["mase"], rel=1e-9)
    assert ours.quantile == pytest.approx(theirs[ours.metric], rel=1e-9)
    if benchmark == "fev-bench":
        assert ours.wape == pytest.approx(theirs["wape"], rel=1e-9)
    else:
        assert ours.wape is None


@pytest.mark.parametrize(
    "name",
    [
        "fev-bench/ETT_1W",
        "chronos-II/monash_m1_yearly",
        "chronos-II/ETTm",
        "gift-eval/us_births/W/short",
    ],
)
def test_scores_of_published_tasks_are_those_of_gluonts(name: str, data_folder: Path) -> None:
    """On published tasks, too, the seasonal naive of gluonts gets the same scores to 1e-9."""
    cases = gate.admit(tasks.find(name), [data_folder])
    predictor = make("gluonts.model.seasonal_naive:SeasonalNaivePredictor", cases.task)
    ours, theirs = score(cases, ask(predictor, cases)), of_gluonts(predictor, cases)
    if name != "chronos-II/ETTm":  # gluonts' own split cannot end a day before the series does
        assert ours.mase == pytest.approx(cases.task.naive_mase, rel=1e-6)
    assert ours.mase == pytest.approx(theirs["mase"], rel=1e-9)
    assert ours.quantile == pytest.approx(theirs[ours.metric], rel=1e-9)


def test_the_rules_differ_where_windows_differ() -> None:
    """The mean of quotients is not the quotient of means: each benchmark keeps its own."""
    scores = {
        benchmark: score(cases := small_cases(benchmark, gaps=True), ask(Spread(3), cases))
        for benchmark in BENCHMARKS
    }
    assert scores["chronos-II"].quantile == scores["gift-eval"].quantile
    assert scores["fev-bench"].quantile != pytest.approx(scores["gift-eval"].quantile, rel=1e-3)
    assert scores["fev-bench"].mase != pytest.approx(scores["gift-eval"].mase, rel=1e-6)
    assert [found.metric for found in scores.values()] == ["SQL", "WQL", "CRPS"]


def test_losses_by_hand() -> None:
    """The median alone counts for MASE; the quantile loss is twice the pinball loss."""
    cases = cut(replace(TASK, windows=1, tail=3), [item(np.r_[0, 0, 0, 0, 2, 2, 2, 2, 5, 5, 5])])
    quantiles = np.tile(np.array(LEVELS)[None, :, None], (1, 1, 3)) + 3
    found = losses(cases, quantiles)
    assert found.scale.tolist() == [[2.0]]
    np.testing.assert_allclose(found.absolute, [[1.5] * 3])
    pinball = np.mean([2 * level * (2 - level) for level in LEVELS])
    np.testing.assert_allclose(found.quantile, [[pinball] * 3])
    assert score(cases, quantiles).mase == pytest.approx(0.75)
    assert score(cases, quantiles).quantile == pytest.approx(pinball / 5)


def test_masked_cases_are_counted_and_flagged() -> None:
    """A case with a missing future value is counted, and more than 5 % of them are flagged."""
    whole, gaps = small_cases(), small_cases(gaps=True)
    assert (score(whole, ask(Spread(3), whole)).masked, len(whole)) == (0, 8)
    found = score(gaps, ask(Spread(3), gaps))
    assert (found.cases, found.masked, found.flagged) == (8, 1, True)
    assert not replace(found, cases=20).flagged
    assert not score(whole, ask(Spread(3), whole)).flagged


def test_a_past_that_repeats_its_season_is_masked() -> None:
    """It has no scale: the case is left out of MASE and counted."""
    values = np.tile([1.0, 2.0, 3.0, 4.0], 5)
    other = np.random.default_rng(0).normal(size=20)
    cases = cut(TASK, [item(values), item(other, "b")])
    found = score(cases, ask(Spread(3), cases))
    assert found.masked == 2
    alone = cut(TASK, [item(other, "b")])
    spread = ask(Spread(3), cases)[2:]
    assert found.mase == score(alone, spread).mase


def test_a_variable_that_is_zero_has_no_wape() -> None:
    """Where the values of a window are 0, WAPE is undefined and says so; SQL and MASE stand."""
    values = np.random.default_rng(0).normal(size=20)
    cases = cut(
        replace(TASK, benchmark="fev-bench"),
        [item(values), item(np.r_[values[:14], np.zeros(6)], "b", "rain")],
    )
    found = score(cases, ask(Spread(3), cases))
    assert found.wape is None
    assert np.isfinite([found.mase, found.quantile]).all()


def test_nothing_to_score_is_refused() -> None:
    """A task whose futures are all missing has no score, and the error names the task."""
    values = np.random.default_rng(0).normal(size=20)
    values[-6:] = np.nan
    cases = cut(TASK, [item(values)])
    with pytest.raises(ValueError, match="gift-eval/tiny: nothing of a window can be scored"):
        score(cases, ask(Spread(3), cases))


def test_forecasts_of_another_shape_are_refused() -> None:
    """Levels and steps have their places; what was needed and what came is said."""
    cases = small_cases()
    with pytest.raises(ValueError, match=r"shape \[8, 9, 3\] are needed, not \[8, 3, 9\]"):
        losses(cases, np.zeros((8, 3, 9)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_forecasts_that_are_no_numbers_are_not_masked(value: float) -> None:
    """Left out like values that are missing, they would cost nothing; they are refused."""
    cases = small_cases()
    quantiles = ask(Spread(3), cases)
    quantiles[3, 2, 1] = value
    with pytest.raises(ValueError, match="gift-eval/tiny: forecasts are NaN or infinite"):
        score(cases, quantiles)


def test_the_task_of_these_tests_is_a_task() -> None:
    """It is made as the published ones are."""
    assert isinstance(TASK, ZeroShotTask)
