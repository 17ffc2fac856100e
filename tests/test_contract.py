"""Patches that break the contract fail their run, and say what, where and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from small_waves import BUDGET, SMALL, TASK, waves

from harness.model.contract import ContractError, Watch
from harness.model.forecaster import PatchForecaster
from harness.model.patcher import (
    Patcher,
    Patches,
    Rows,
    from_inclusion,
    from_marks,
    from_scores,
    from_starts,
    uniform_starts,
)
from harness.run import windows
from harness.run.cost import cost
from harness.run.evaluate import evaluate
from harness.run.fit import fit
from methods.uniform import Uniform

Cut = Callable[[Rows], Patches]


def equal(rows: Rows, patches: int = TASK.patches) -> Patches:
    start = uniform_starts(TASK.look_back, patches).repeat(len(rows.values), 1)
    return from_starts(start, TASK.look_back)


def overlapping(rows: Rows) -> Patches:
    plan = equal(rows)
    return replace(plan, length=plan.length + 1)


def uncovered(rows: Rows) -> Patches:
    plan = equal(rows)
    return replace(plan, start=plan.start + 1, length=plan.length - 1)


def endless(rows: Rows) -> Patches:
    plan = equal(rows)
    return replace(plan, gain=torch.full(plan.start.shape, torch.inf))


def far_edges(rows: Rows) -> Patches:
    plan = equal(rows)
    edges = torch.cat([plan.start, plan.end[:, -1:]], dim=1) + 3.0
    return replace(plan, edges=edges)


def untold(rows: Rows) -> Patches:
    return from_scores(rows.values[:, 1:] * torch.nan, TASK.patches)


def made(cut: Cut, *, is_strict: bool = True) -> PatchForecaster:
    class Mine(Patcher):
        strict = is_strict

        def forward(self, rows: Rows) -> Patches:
            return cut(rows)

    torch.manual_seed(0)
    return PatchForecaster(TASK, SMALL, Mine(TASK))


def judging(judged: object) -> Cut:
    """A cut that names these rows as judged, past the type checks that tests have."""

    def cut(rows: Rows) -> Patches:
        plan = equal(rows)
        object.__setattr__(plan, "judged", judged)
        return plan

    return cut


BREACHES: dict[str, tuple[Cut, str]] = {
    "too long a row": (
        lambda rows: from_scores(torch.rand(len(rows.values), 95), TASK.patches),
        "have a gap or an overlap",
    ),
    "more patches": (
        lambda rows: equal(rows, TASK.patches + 3),
        r"start is int64 \[16, 7\], not int64 \[16, 4\]",
    ),
    "no patches": (lambda rows: equal(rows).start, "returned Tensor; Patches are needed"),  # type: ignore[dict-item,return-value]  # the mistake
    "overlap": (overlapping, r"first training batch: 16 of 16 rows have a gap or an overlap"),
    "uncovered": (
        uncovered,
        "first patch that does not start at 0; allowed are exactly 4 patches that cover",
    ),
    "endless": (endless, "numbers in gain that are not finite"),
    "more judged than there are": (
        judging(torch.arange(17)),
        r"judged is int64 \[17\], not int64 \[16\]",
    ),
    "judged by a mask": (
        judging(torch.ones(16, dtype=torch.bool)),
        r"judged is bool \[16\], not int64 \[16\]",
    ),
    "judged in a list": (judging([0, 1]), "judged is list, not a tensor"),
    "far edges": (far_edges, "edges more than a step from its boundaries"),
    "no numbers": (untold, "the scores of 16 of 16 rows are not numbers"),
}


@pytest.mark.parametrize(("cut", "message"), BREACHES.values(), ids=BREACHES)
def test_what_breaks_the_contract_fails_its_run(cut: Cut, message: str) -> None:
    """In the first step already, whatever the breach would lead to further on."""
    train, valid = windows.development(waves(), TASK)
    with pytest.raises(ValueError, match=message):
        fit(made(cut), train, valid, BUDGET, seed=0)


def test_a_breach_on_any_test_or_validation_window_is_found() -> None:
    """Even where it is a single row of the last batch, and training saw none."""
    series = waves()
    train, valid = windows.development(series, TASK)
    tested = windows.test(series, TASK)
    last = int(tested.batch(torch.tensor([len(tested) - 1])).ids.max())

    def late(rows: Rows) -> Patches:
        plan = equal(rows)
        return replace(plan, length=plan.length + (rows.ids == last)[:, None])

    model = made(late)
    fit(model, train, valid, replace(BUDGET, epochs=1), seed=0)
    with pytest.raises(ContractError, match="on the test windows: 1 of 186 rows have a gap"):
        evaluate(model, tested, series, budget=BUDGET)
    end_of_valid = int(valid.batch(torch.tensor([len(valid) - 1])).ids.max())

    def soon(rows: Rows) -> Patches:
        plan = equal(rows)
        return replace(plan, length=plan.length + (rows.ids == end_of_valid)[:, None])

    with pytest.raises(ContractError, match="on the validation windows: 1 of 106 rows"):
        fit(made(soon), train, valid, replace(BUDGET, epochs=1), seed=0)


def test_breaches_add_up_over_batches() -> None:
    """A batch that keeps the contract does not make up for one before it."""
    model = made(equal)
    good = equal(Rows(torch.zeros(3, TASK.look_back), torch.arange(3)))
    bad = replace(good, length=good.length + 1)
    watch = Watch()
    for plan in (bad, good):
        watch.see(plan, model.patcher.eval(), 3)
    with pytest.raises(ContractError, match="broke the contract of patchers here: 3 of 6 rows"):
        watch.verify("here")


def test_too_many_patches_of_a_relaxed_method_are_a_breach() -> None:
    """It may leave slots empty, and has no more than a quarter above K."""
    train, _ = windows.development(waves(), TASK)

    class Lavish(Patcher):
        strict = False

        @property
        def slots(self) -> int:
            return 8

        def forward(self, rows: Rows) -> Patches:
            return equal(rows, 8)

    with pytest.raises(ContractError, match="it has 8 slots; at most 5 are allowed"):
        cost(PatchForecaster(TASK, SMALL, Lavish(TASK)), train, BUDGET)


def test_a_fixed_method_is_held_to_it_before_its_boundaries_are_remembered() -> None:
    """They are never looked at again."""
    train, valid = windows.development(waves(), TASK)

    class Fixed(Patcher):
        fixed = True

        def forward(self, rows: Rows) -> Patches:
            return overlapping(rows)

    model = PatchForecaster(TASK, SMALL, Fixed(TASK))
    with pytest.raises(ContractError, match=r"before training: .* have a gap or an overlap"):
        fit(model, train, valid, replace(BUDGET, steps=None), seed=0)


def test_after_the_first_step_training_is_not_watched() -> None:
    """The conditions cost time, and what is trained is scored on validation windows anyway."""
    model = made(equal)
    train, valid = windows.development(waves(), TASK)
    seen: list[bool] = []
    model.patcher.register_forward_hook(lambda *_: seen.append(model.watch is not None))
    fit(model, train, valid, replace(BUDGET, epochs=1, steps=3), seed=0)
    assert seen == [True, False, False, True]
    assert model.watch is None


@pytest.mark.parametrize(
    "choose",
    [
        lambda score: from_scores(score, 3),
        lambda score: from_inclusion(score, 3),
        lambda score: from_marks(torch.ones_like(score, dtype=torch.bool), 3, score),
    ],
    ids=["scores", "inclusion", "marks"],
)
def test_scores_that_are_not_numbers_are_refused(
    choose: Callable[[torch.Tensor], Patches],
) -> None:
    """Their order would be that of memory; the row count tells a slip from a collapse."""
    score = torch.rand(5, 11)
    choose(score)
    score[3, 7] = torch.nan
    with pytest.raises(ValueError, match="the scores of 1 of 5 rows are not numbers"):
        choose(score)


def test_the_references_have_no_contract_to_be_held_to() -> None:
    """What watches a patcher lets every other forecaster pass."""
    model = PatchForecaster(TASK, SMALL, Uniform(TASK))
    with super(PatchForecaster, model).watched("anywhere"):
        assert model.watch is None


def test_a_count_of_its_own_is_declared_or_a_breach() -> None:
    """More patches than K are for a method that says so, and then exactly as many as it says."""
    train, valid = windows.development(waves(), TASK)

    class More(Patcher):
        @property
        def slots(self) -> int:
            return 8

        def forward(self, rows: Rows) -> Patches:
            return equal(rows, 8)

    class Free(More):
        free_count = True

    fit(PatchForecaster(TASK, SMALL, Free(TASK)), train, valid, BUDGET, seed=0)
    with pytest.raises(ContractError, match="it has 8 slots; at most 4 are allowed"):
        fit(PatchForecaster(TASK, SMALL, More(TASK)), train, valid, BUDGET, seed=0)
