"""Published scores of other models on the zero-shot tasks."""

from __future__ import annotations

import pytest

from harness.zero_shot.published import (
    PublishedScore,
    published_models,
    published_scores,
    relative_error,
)
from harness.zero_shot.tasks import tasks


def scores_of(benchmark: str, model: str) -> dict[str, PublishedScore]:
    """Of one model, by task."""
    return {
        score.name: score
        for score in published_scores()
        if (score.benchmark, score.model) == (benchmark, model)
    }


def test_every_score_is_of_a_task_and_of_a_model_with_a_source() -> None:
    """3,956 scores, none twice, and no source of which nothing is shown."""
    scores = published_scores()
    assert len({(score.name, score.model) for score in scores}) == len(scores) == 3956
    assert {score.name for score in scores} == set(tasks())
    assert {(score.benchmark, score.model) for score in scores} == set(published_models())
    assert all("@" in model.source for model in published_models().values())


@pytest.mark.parametrize(
    ("benchmark", "naive"),
    [
        ("fev-bench", "Seasonal Naive"),
        ("chronos-II", "seasonal_naive"),
        ("gift-eval", "seasonal_naive"),
    ],
)
def test_the_anchors_are_among_the_scores(benchmark: str, naive: str) -> None:
    """The seasonal naive that tasks are held to is the one that is published."""
    found = scores_of(benchmark, naive)
    anchors = {str(task): task for task in tasks().values() if task.benchmark == benchmark}
    assert found.keys() == anchors.keys()
    for name, task in anchors.items():
        assert found[name].mase == pytest.approx(task.naive_mase, rel=1e-5)
        assert found[name].quantile == pytest.approx(task.naive_quantile, rel=1e-5)


@pytest.mark.parametrize(
    ("benchmark", "naive", "model", "quantile", "mase"),
    [
        ("gift-eval", "seasonal_naive", "PatchTST-FM-r1", 0.541, 0.745),
        ("gift-eval", "seasonal_naive", "Toto-2.0-4m", 0.574, 0.792),
        ("gift-eval", "seasonal_naive", "DLinear", 0.980, 1.158),
        ("chronos-II", "seasonal_naive", "tirex", 0.632, 0.807),
        ("chronos-II", "seasonal_naive", "ttm-r2", 1.108, 1.136),
        ("fev-bench", "Seasonal Naive", "TiRex-2", 0.576, 0.670),
        ("fev-bench", "Seasonal Naive", "TimesFM-2.5", 0.659, 0.757),
    ],
)
def test_published_standings(
    benchmark: str, naive: str, model: str, quantile: float, mase: float
) -> None:
    """Relative to the seasonal naive, over our tasks of a benchmark, to the third decimal."""
    ours, base = scores_of(benchmark, model), scores_of(benchmark, naive)
    pairs = [(ours[name], base[name]) for name in base]
    found = relative_error([one.mase for one, _ in pairs], [one.mase for _, one in pairs])
    assert found == pytest.approx(mase, abs=5e-4)
    found = relative_error([one.quantile for one, _ in pairs], [one.quantile for _, one in pairs])
    assert found == pytest.approx(quantile, abs=5e-4)


def test_one_task_cannot_decide() -> None:
    """A ratio counts as at least a hundredth and at most a hundredfold."""
    assert relative_error([0.0, 4.0], [1.0, 1.0]) == pytest.approx(0.2)
    assert relative_error([1e9, 1.0], [1.0, 1.0]) == pytest.approx(10)


@pytest.mark.parametrize(
    ("errors", "naive"), [([], []), ([1.0], [1.0, 2.0]), ([-1.0], [1.0]), ([1.0], [0.0])]
)
def test_errors_that_cannot_be_compared_are_refused(
    errors: list[float], naive: list[float]
) -> None:
    """None, not as many as of the naive, or below 0: the message has both numbers."""
    with pytest.raises(ValueError, match=f"of {len(errors)} tasks .* on {len(naive)}"):
        relative_error(errors, naive)
