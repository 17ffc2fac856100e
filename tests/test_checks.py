"""The promises of a method: ours keep them, and each is broken by a method planted to break it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from harness.cli import verbs
from harness.core.task import Architecture, Task
from harness.model import registry
from harness.model.forecaster import Forecast, Forecaster
from harness.model.patcher import (
    Patcher,
    Patches,
    Rows,
    from_inclusion,
    from_scores,
    from_starts,
    uniform_starts,
)
from harness.studies import checks


@pytest.mark.parametrize("name", registry.names())
def test_every_method_keeps_every_promise(name: str) -> None:
    """Whatever lies in methods/ is held to them, with no test of its own."""
    promises = checks.check(registry.find(name))
    assert all(promise.kept for promise in promises), checks.report(promises)


# --- planted: each breaks one promise ------------------------------------------------------------


class Equal(Patcher):
    """Equal patches; keeps every promise.

    Source: this file.

    Fidelity: our design.
    """

    def forward(self, rows: Rows) -> Patches:
        return from_starts(self.start(rows), self.task.look_back)

    def start(self, rows: Rows) -> Tensor:
        """Of equal patches."""
        return uniform_starts(self.task.look_back, self.task.patches).expand(len(rows.ids), -1)


class Positional(Equal):
    """Takes its hyperparameter by position."""

    def __init__(self, task: Task, reach: int = 1) -> None:
        super().__init__(task)


class Undefaulted(Positional):
    """Takes a hyperparameter that is not plain."""

    def __init__(self, task: Task, *, where: object = print) -> None:
        super().__init__(task)


class Silent(Equal):  # noqa: D101 - that is what is wrong with it
    __doc__ = None


class ForeignSpace(Equal):
    """Would search a hyperparameter that it does not take."""

    search_space: ClassVar[dict[str, tuple[object, ...]]] = {"reach": (1, 2)}


class BareSpace(Equal):
    """Would search a single value that is no tuple."""

    search_space: ClassVar[dict[str, tuple[object, ...]]] = {"reach": 1}  # type: ignore[dict-item]  # wrong on purpose

    def __init__(self, task: Task, *, reach: int = 1) -> None:
        super().__init__(task)


class RefusedSpace(BareSpace):
    """Would search a value that its constructor refuses."""

    search_space: ClassVar[dict[str, tuple[object, ...]]] = {"reach": (1, 0)}

    def __init__(self, task: Task, *, reach: int = 1) -> None:
        super().__init__(task)
        if reach < 1:
            raise ValueError("reach is 0; 1 or more is needed")


class Nested(BareSpace):
    """Would search a value that no file of results can hold."""

    search_space: ClassVar[dict[str, tuple[object, ...]]] = {"reach": (1, (2, 3))}


class Short(Equal):
    """Leaves the last step out."""

    def forward(self, rows: Rows) -> Patches:
        whole = super().forward(rows)
        length = whole.length.clone()
        length[:, -1] -= 1
        return Patches(whole.start, length, whole.valid)


class Baseless(Equal):
    """Says of its fidelity what nobody can place.

    Fidelity: good.
    """


class Late(Equal):
    """Leaves the first step out."""

    def forward(self, rows: Rows) -> Patches:
        whole = super().forward(rows)
        start, length = whole.start.clone(), whole.length.clone()
        start[:, 0], length[:, 0] = 1, length[:, 0] - 1
        return Patches(start, length, whole.valid)


class Empty(Equal):
    """Gives all but the last patch no steps."""

    def start(self, rows: Rows) -> Tensor:
        return torch.zeros_like(super().start(rows))


class Narrow(Equal):
    """Counts steps in 32 bits."""

    def forward(self, rows: Rows) -> Patches:
        whole = super().forward(rows)
        return Patches(whole.start.int(), whole.length.int(), whole.valid)


class Uncounted(Equal):
    """Aims at K and marks a patch with steps as not there."""

    strict = False
    slots = property(lambda self: self.task.patches)

    def forward(self, rows: Rows) -> Patches:
        whole = super().forward(rows)
        valid = whole.valid.clone()
        valid[:, -1] = False
        return Patches(whole.start, whole.length, valid)


class Sparing(Equal):
    """Strict, but merges the last two patches."""

    def forward(self, rows: Rows) -> Patches:
        return merged(super().forward(rows), self.task)


def merged(whole: Patches, task: Task) -> Patches:
    """Without the last boundary, if there is one."""
    if task.patches == 1:
        return whole
    start, valid = whole.start.clone(), whole.valid.clone()
    start[:, -1], valid[:, -1] = task.look_back, False
    return Patches(start, from_starts(start, task.look_back).length, valid)


class Lavish(Equal):
    """Makes each step a patch."""

    strict = False
    slots = property(lambda self: self.task.look_back)

    def start(self, rows: Rows) -> Tensor:
        return torch.arange(self.task.look_back).expand(len(rows.ids), -1)


class Sociable(Equal):
    """Cuts where a row differs from the mean of the batch."""

    def start(self, rows: Rows) -> Tensor:
        odd = (rows.values - rows.values.mean(dim=0)).abs()
        return from_scores(odd[:, 1:], self.task.patches).start


class Counting(Equal):
    """Counts in evaluation, too."""

    seen: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.register_buffer("seen", torch.zeros(()))

    def start(self, rows: Rows) -> Tensor:
        self.seen += 1
        return super().start(rows)


class Global(Equal):
    """Draws from the global generator in training."""

    def start(self, rows: Rows) -> Tensor:
        score = rows.uniform(self.task.look_back - 1)
        if self.training:
            score = torch.rand(score.shape)
        return from_scores(score, self.task.patches).start


class Grabbing(Equal):
    """Clips the rows where they lie."""

    def start(self, rows: Rows) -> Tensor:
        rows.values.clamp_(-1, 1)
        return super().start(rows)


class Forgetful(Equal):
    """Keeps what it has prepared outside of its state."""

    sign = 1.0

    def prepare(self, rows: Iterable[Tensor]) -> None:
        for _ in rows:
            self.sign = -1.0

    def start(self, rows: Rows) -> Tensor:
        score = self.sign * rows.values.diff(dim=1).abs()
        return from_scores(score, self.task.patches).start


class Moved(Equal):
    """Has edges two steps from its boundaries."""

    def forward(self, rows: Rows) -> Patches:
        whole = super().forward(rows)
        edges = torch.cat([whole.start, whole.end[:, -1:]], dim=1) + 2.0
        return Patches(whole.start, whole.length, whole.valid, edges=edges.requires_grad_())


class Stiff(Equal):
    """Has edges that nothing can move."""

    def forward(self, rows: Rows) -> Patches:
        whole = super().forward(rows)
        edges = torch.cat([whole.start, whole.end[:, -1:]], dim=1).float()
        return Patches(whole.start, whole.length, whole.valid, edges=edges)


class Endless(Equal):
    """Has an auxiliary loss that is no number."""

    def forward(self, rows: Rows) -> Patches:
        return from_starts(self.start(rows), self.task.look_back, loss=torch.tensor(math.nan))


class Boundless(Equal):
    """Learns from a loss that is no number."""

    def learn(self, patches: Patches, row_loss: Tensor) -> Tensor:
        return row_loss.mean() * math.inf


class Impossible(Equal):
    """Has drawn what cannot be drawn."""

    def forward(self, rows: Rows) -> Patches:
        never = torch.full((len(rows.ids),), -math.inf)
        return from_starts(self.start(rows), self.task.look_back, log_prob=never)


class Deaf(Equal):
    """Has a score that no gradient reaches."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.score = nn.Conv1d(1, 1, 3, padding=1)

    def start(self, rows: Rows) -> Tensor:
        score = self.score(rows.values[:, None])[:, 0, 1:]
        return from_scores(score, self.task.patches).start


class Prophetic(Equal):
    """Says that it is causal, and looks for the largest values of the whole row."""

    causal = True

    def start(self, rows: Rows) -> Tensor:
        return from_scores(rows.values[:, 1:], self.task.patches).start


class Wavering(Equal):
    """Says that its boundaries are fixed, and draws them from the number of the row."""

    fixed = True

    def start(self, rows: Rows) -> Tensor:
        return from_scores(rows.uniform(self.task.look_back - 1), self.task.patches).start


class Laden(Equal):
    """Says that its boundaries are fixed, and adds a gain that would be lost."""

    fixed = True

    def forward(self, rows: Rows) -> Patches:
        whole = super().forward(rows)
        return Patches(whole.start, whole.length, whole.valid, gain=whole.length.float())


class Noisy(Equal):
    """Draws in training and not in evaluation, and does not say so."""

    def start(self, rows: Rows) -> Tensor:
        if not rows.as_trained:
            return super().start(rows)
        return from_scores(rows.uniform(self.task.look_back - 1), self.task.patches).start


class Calm(Equal):
    """Says that it can draw, and does not."""

    rules = ("best", "sample")


class Drawing(Equal):
    """Draws in training and has all three rules; keeps every promise."""

    rules = ("sample", "best", "even")

    def start(self, rows: Rows) -> Tensor:
        if rows.as_trained:
            return from_scores(rows.uniform(self.task.look_back - 1), self.task.patches).start
        return self.even(rows) if rows.rule == "even" else super().start(rows)

    def even(self, rows: Rows) -> Tensor:
        """Shorter and shorter patches."""
        ramp = torch.arange(1.0, self.task.look_back).expand(len(rows.ids), -1)
        return from_inclusion(ramp, self.task.patches).start


class Unruly(Drawing):
    """Takes one rule for another."""

    def even(self, rows: Rows) -> Tensor:
        return Equal.start(self, rows)


class Lagging(Drawing):
    """Begins too late by one of its rules."""

    def even(self, rows: Rows) -> Tensor:
        return super().even(rows).clamp_min(1)


class Prodigal(Drawing):
    """Has a patch too few by one of its rules."""

    def forward(self, rows: Rows) -> Patches:
        whole = super().forward(rows)
        return merged(whole, self.task) if rows.rule == "even" else whole


class Gregarious(Drawing):
    """Looks at the batch by one of its rules."""

    def even(self, rows: Rows) -> Tensor:
        return Sociable.start(self, rows)  # type: ignore[arg-type]  # of another class


class Ageing(Drawing):
    """Changes while it is evaluated by one of its rules."""

    def even(self, rows: Rows) -> Tensor:
        self.progress.add_(1)
        return super().even(rows)


class Oracular(Drawing):
    """Looks ahead by one of its rules."""

    causal = True

    def even(self, rows: Rows) -> Tensor:
        return Prophetic.start(self, rows)  # type: ignore[arg-type]  # of another class


class Unfaithful(Drawing):
    """Forgets which rule it was chosen with."""

    def set_extra_state(self, state: Tensor) -> None:
        pass


class Stubborn(Drawing):
    """Is evaluated by its last rule, whatever was chosen."""

    def train(self, mode: bool = True) -> Stubborn:  # noqa: FBT001, FBT002 - torch's own signature
        self.evaluation_rule = self.rules[-1]
        super().train(mode)
        return self


class Mixed(Equal):
    """Learns one number both from a log-probability and through the forecast."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.size = nn.Parameter(torch.zeros(()))

    def forward(self, rows: Rows) -> Patches:
        drawn = self.size.expand(len(rows.ids))
        gain = self.size.exp().expand(len(rows.ids), self.task.patches)
        return from_starts(self.start(rows), self.task.look_back, gain=gain, log_prob=drawn)


class Spent(Equal):
    """Has a schedule of five training steps."""

    left = 5

    def start(self, rows: Rows) -> Tensor:
        self.left -= self.training
        if self.left < 0:
            raise IndexError("the schedule is over")
        return super().start(rows)


class Linear(Forecaster):
    """One linear map; keeps every promise of a reference.

    Source: this file.

    Fidelity: our design.
    """

    def __init__(self, task: Task, architecture: Architecture) -> None:
        super().__init__(task, architecture)
        self.map = nn.Linear(task.look_back, task.horizon)

    def forward(
        self,
        past: Tensor,
        ids: Tensor,
        truth: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Forecast:
        return Forecast(self.future(past)[None])

    def future(self, past: Tensor) -> Tensor:
        """The linear map."""
        return self.map(past)


class Infinite(Linear):
    """Has no forecast for a constant look-back."""

    def future(self, past: Tensor) -> Tensor:
        constant = (past == 0).all(-1, keepdim=True)
        return super().future(past).masked_fill(constant, math.inf)


class Longer(Linear):
    """Forecasts one step more than it is asked for when the look-back is short."""

    def future(self, past: Tensor) -> Tensor:
        more = int(self.task.look_back < self.task.horizon)
        return nn.functional.pad(super().future(past), (0, more))


class Averaging(Linear):
    """Forecasts from the mean of the batch."""

    def future(self, past: Tensor) -> Tensor:
        return super().future(past - past.mean(dim=0))


class CountingReference(Linear):
    """Counts in evaluation, too."""

    seen: Tensor

    def __init__(self, task: Task, architecture: Architecture) -> None:
        super().__init__(task, architecture)
        self.register_buffer("seen", torch.zeros(()))

    def future(self, past: Tensor) -> Tensor:
        self.seen += 1
        return super().future(past)


class GrabbingReference(Linear):
    """Clips the past where it lies."""

    def future(self, past: Tensor) -> Tensor:
        return super().future(past.clamp_(-1, 1))


class ForgetfulReference(Linear):
    """Keeps what it has prepared outside of its state."""

    shift = 0.0

    def prepare(self, pasts: Iterable[Tensor]) -> None:
        self.shift = sum(float(past.square().mean()) for past in pasts)

    def future(self, past: Tensor) -> Tensor:
        return super().future(past) + self.shift


class Unmoved(Linear):
    """Has weights that change no forecast."""

    def future(self, past: Tensor) -> Tensor:
        return super().future(past) * 0


class Moving(Equal):
    """Says that it is a grid, and moves with the row."""

    grid = True

    def forward(self, rows: Rows) -> Patches:
        return from_scores(rows.values[:, 1:], self.task.patches)


PLANTED = [
    (Equal, None),
    (Positional, "constructor"),
    (Silent, "docstring"),
    (Baseless, "docstring"),
    (ForeignSpace, "search space"),
    (BareSpace, "search space"),
    (RefusedSpace, "search space"),
    (Nested, "search space"),
    (Short, "whole rows"),
    (Late, "whole rows"),
    (Empty, "whole rows"),
    (Narrow, "returned patches"),
    (Uncounted, "whole rows"),
    (Sparing, "whole rows"),
    (Lavish, "returned patches"),
    (Sociable, "batch mates"),
    (Counting, "repeatable evaluation"),
    (Global, "seeded training"),
    (Grabbing, "untouched rows"),
    (Forgetful, "state"),
    (Prophetic, "causal"),
    (Wavering, "fixed"),
    (Moving, "grid"),
    (Laden, "fixed, same error"),
    (Noisy, "rules"),
    (Calm, "rules"),
    (Drawing, None),
    (Unruly, "rules"),
    (Lagging, "whole rows"),
    (Prodigal, "whole rows"),
    (Gregarious, "batch mates"),
    (Ageing, "repeatable evaluation"),
    (Oracular, "causal"),
    (Unfaithful, "state"),
    (Stubborn, "scored rule"),
    (Moved, "whole rows"),
    (Stiff, "edges"),
    (Endless, "extra losses"),
    (Boundless, "extra losses"),
    (Impossible, "whole rows"),
    (Deaf, "training signal"),
    (Mixed, "separate losses"),
    (Spent, "training"),
    (Linear, None),
    (Infinite, "finite forecast"),
    (Longer, "finite forecast"),
    (Averaging, "batch mates"),
    (CountingReference, "repeatable evaluation"),
    (GrabbingReference, "untouched rows"),
    (ForgetfulReference, "state"),
    (Unmoved, "training"),
]


def broken(method: registry.Method) -> dict[str, str]:
    """What is found where a promise is broken."""
    promises = checks.check(method)
    return {promise.name: promise.detail for promise in promises if not promise.kept}


@pytest.mark.parametrize(("method", "promise"), PLANTED)
def test_a_planted_method_breaks_its_promise_and_no_other(
    method: registry.Method, promise: str | None
) -> None:
    """A promise is no stricter, and no laxer, than what it says."""
    found = broken(method)
    assert list(found) == (promise.split(", ") if promise else []), found


def test_each_promise_has_been_seen_broken() -> None:
    """None is kept by everything."""
    promised = [*checks.check(Equal), *checks.check(Linear)]
    broken = {name for _, names in PLANTED if names for name in names.split(", ")}
    assert {promise.name for promise in promised} == broken


class Erratic(Equal):
    """Draws in evaluation, where it must not."""

    def start(self, rows: Rows) -> Tensor:
        return from_scores(torch.rand(rows.values[:, 1:].shape), self.task.patches).start


class Tensors(Equal):
    """Returns where patches start, and no patches."""

    def forward(self, rows: Rows) -> Patches:
        return super().forward(rows).start  # type: ignore[return-value]  # the mistake


def test_a_detail_says_what_and_where() -> None:
    """Size, mode and kind of row; what was found and what should be; or the line that raised."""
    assert broken(Short)["whole rows"] == (
        "L=96 K=12 in evaluation: row 0 (noise) has a gap or an overlap"
        "; the promises after this one rest on it and were not tried"
    )
    assert broken(Narrow)["returned patches"] == (
        "L=96 K=12 in evaluation: start is int32 [32, 12], not int64 [32, 12]"
        "; the promises after this one rest on it and were not tried"
    )
    assert list(broken(Tensors)) == ["returned patches"]
    assert "it returned Tensor; Patches are needed" in broken(Tensors)["returned patches"]
    assert "IndexError: the schedule is over" in broken(Spent)["training"]
    assert "test_checks.py, line" in broken(Spent)["training"]
    assert "argument 'reach' is not keyword-only" in broken(Positional)["constructor"]
    assert "draw from Rows.uniform" in broken(Erratic)["repeatable evaluation"]
    assert broken(Undefaulted)["constructor"].endswith("which is not a plain value")
    assert broken(Lagging)["whole rows"] == (
        "L=96 K=12 in evaluation by the rule 'even': row 0 (noise) has a first patch that does not"
        " start at 0; the promises after this one rest on it and were not tried"
    )
    assert broken(Unruly)["rules"] == (
        "every row is cut alike by the rules 'best' and 'even'; leave one out"
    )
    assert broken(Stubborn)["scored rule"] == "'sample' was chosen, 'even' is used"
    assert "by the rule 'sample'" in broken(Unfaithful)["state"]


def test_keywords_reach_the_method() -> None:
    """One that it does not take breaks its constructor's promise, with a suggestion."""
    method = registry.find("straight_through")
    assert all(promise.kept for promise in checks.check(method, reach=1))
    (first, *_) = checks.check(method, reech=1)
    assert (first.name, first.kept) == ("constructor", False)
    assert "did you mean 'reach'?" in first.detail


def test_a_check_leaves_the_generators_alone() -> None:
    """Whoever checks a method in the middle of something draws on as before."""
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    checks.check(Equal)
    assert torch.equal(expected, torch.rand(3))


@pytest.mark.parametrize(("method", "code"), [("uniform", 0), ("unifrom", 2)])
def test_the_verb_shows_the_report(
    method: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line a promise and the count; the exit code says whether all are kept."""
    monkeypatch.setattr(sys, "argv", ["harness", "check", "--method", method])
    with pytest.raises(SystemExit) as end:
        verbs.main()
    shown = capsys.readouterr()
    assert end.value.code == code
    if code:
        assert "did you mean 'uniform'?" in shown.err
    else:
        assert "source    PatchTST" in shown.out
        assert "track     strict budget, no bypass" in shown.out
        assert "kept    constructor: " in shown.out
        assert shown.out.splitlines()[-1] == "21 of 21 promises are kept."


def test_the_verb_fails_where_a_promise_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, for whoever runs it in a pipeline."""
    monkeypatch.setattr(registry, "find", lambda name: Spent)
    monkeypatch.setattr(sys, "argv", ["harness", "check", "--method", "spent"])
    with pytest.raises(SystemExit) as end:
        verbs.main()
    assert end.value.code == 1
    assert "BROKEN  training: " in capsys.readouterr().out
