"""What is published of other models on the same tasks: context beside our rows, never ranked.

Figures and their sources are those of the repositories of fev-bench and GIFT-Eval, both under
Apache-2.0, rounded to six digits. Other models have other corpora and sizes, and some of them
know covariates, which no task here has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from harness.core.schema import STRICT, from_texts
from harness.zero_shot.tasks import BenchmarkName, lines

RATIOS = (0.01, 100.0)
"""Smallest and largest ratio to the seasonal naive that counts: one task must not decide."""


@dataclass(frozen=True)
class PublishedScore:
    """Scores of a model on a task; ``leaked`` says whether it had seen the data.

    ``quantile`` is the quantile metric of the benchmark: SQL, WQL or CRPS.
    """

    __pydantic_config__ = STRICT

    benchmark: BenchmarkName
    task: str
    model: str
    mase: float
    quantile: float
    leaked: bool

    @property
    def name(self) -> str:
        """Of the task, as :func:`harness.zero_shot.tasks.tasks` has it."""
        return f"{self.benchmark}/{self.task}"


@dataclass(frozen=True)
class PublishedModel:
    """Where the scores of a model stand: repository, file, commit.

    ``kind`` is what its benchmark calls it, "zero-shot" or "statistical" for example; fev-bench
    and Chronos say nothing.
    """

    __pydantic_config__ = STRICT

    benchmark: BenchmarkName
    model: str
    source: str
    kind: str | None = None


@cache
def published_scores() -> tuple[PublishedScore, ...]:
    """All published scores on the tasks."""
    return tuple(from_texts(PublishedScore, line) for line in lines("published.csv"))


@cache
def published_models() -> Mapping[tuple[str, str], PublishedModel]:
    """All published models, by benchmark and name: a name may mean another model elsewhere."""
    found = (from_texts(PublishedModel, line) for line in lines("models.csv"))
    return {(model.benchmark, model.model): model for model in found}


def relative_error(errors: Iterable[float], naive: Iterable[float]) -> float:
    """The geometric mean, over tasks, of errors as shares of those of the seasonal naive.

    Raises:
        ValueError: no task, not as many of the one as of the other, or an error below 0.
    """
    errors, naive = np.array([*errors]), np.array([*naive])
    if not errors.size or errors.shape != naive.shape or (errors < 0).any() or (naive <= 0).any():
        raise ValueError(
            f"errors of {errors.size} tasks and of the seasonal naive on {naive.size}; "
            "as many are needed, at least one, and none below 0"
        )
    return float(np.exp(np.log(np.clip(errors / naive, *RATIOS)).mean()))
