"""Measured beside the errors: other boundaries, regions, tokens, and the rows that are kept."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import small_waves
import torch
from branches import with_branches
from small_waves import waves
from torch import Tensor
from torch.nn import functional

from harness.core.task import Architecture, Budget, Task
from harness.data.planted import HORIZON, LOOK_BACK, WINDOW, plant
from harness.data.series import Series
from harness.model.forecaster import PatchForecaster
from harness.model.patcher import (
    RULES,
    Patcher,
    Patches,
    Rows,
    Rule,
    from_inclusion,
    from_scores,
    from_starts,
)
from harness.run import windows as windows_of
from harness.run.boundaries import (
    TOLERANCES,
    Agreement,
    Habits,
    permuted,
)
from harness.run.cost import mean_tokens
from harness.run.evaluate import evaluate
from harness.run.metrics import RARE
from harness.run.probes import (
    far_away,
    sampled_boundaries,
    under_other_boundaries,
    window_to_show,
)
from harness.run.windows import Windows
from methods.oracle import Oracle
from methods.random_step import RandomStep
from methods.repeat_last import RepeatLast
from methods.straight_through import StraightThrough
from methods.uniform import Uniform

TASK = Task("planted", LOOK_BACK, HORIZON, patches=12)
SMALL = Architecture(width=8, layers=1, heads=2, feedforward=16, points=4)
BUDGET = Budget()
COUNT = 23  # windows, odd


class Wavering(Patcher):
    """A few patches that follow the content, with a gain, at places that waver in training."""

    strict = False
    rules = ("best", "sample", "even")

    def forward(self, rows: Rows) -> Patches:
        score = rows.values.diff(dim=1).abs()
        if rows.as_trained:
            score = score + rows.uniform(score.shape[1])
        patches = from_inclusion(score, 6) if rows.rule == "even" else from_scores(score, 6)
        return dataclasses.replace(patches, gain=1 + patches.length / 100)

    @property
    def slots(self) -> int:
        return 6


def planted(count: int = COUNT, channels: int = 2) -> tuple[Windows, Series]:
    """Windows of stairs, every channel with steps of its own, and the series they are from."""
    planted = plant("ordinal", count * channels, seed=3)
    values = planted.values.reshape(channels, count * WINDOW)
    truth = np.zeros((count, WINDOW), dtype=bool)
    truth[:, :LOOK_BACK] = planted.boundaries[:count]
    windows = Windows(
        values=torch.from_numpy(values).float(),
        starts=torch.arange(count) * WINDOW,
        look_back=LOOK_BACK,
        horizon=HORIZON,
        offset=0,
        mean=torch.zeros(channels, dtype=torch.float64),
        scale=torch.ones(channels, dtype=torch.float64),
        marks=torch.from_numpy(truth.flatten()),
    )
    size = values.shape[1]
    names = tuple("abc"[:channels])
    borders = (size - 2, size - 1, size)
    return windows, Series("planted", values.T.copy(), names, "h", 1, borders, "x")


def build(method: type[Patcher], rule: Rule | None = None) -> PatchForecaster:
    torch.manual_seed(0)
    model = PatchForecaster(TASK, SMALL, method(TASK)).eval()
    model.patcher.evaluation_rule = rule or model.patcher.evaluation_rule
    return model


def scores(
    method: type[Patcher],
    windows: Windows,
    rule: Rule | None = None,
    **more: Any,  # noqa: ANN401 - options of several types
) -> dict[str, float | None]:
    return under_other_boundaries(build(method, rule), windows, budget=BUDGET, **more)


each_rule = pytest.mark.parametrize("rule", RULES)


@each_rule
def test_other_boundaries_are_those_that_a_loop_would_take(rule: Rule) -> None:
    """Each error again, window by window, around the boundaries of the rule that was chosen."""
    windows, _ = planted()
    model = build(Wavering)
    errors: dict[str, list[float]] = {}
    with torch.inference_mode():
        for number in range(COUNT):
            one = windows.batch(torch.tensor([number]))
            away = COUNT // 2 if number < COUNT - COUNT // 2 else -(COUNT // 2)
            far = windows.batch(torch.tensor([number + away]))
            cuts = {f"mse_{each}": model.cut(one.past, one.ids, rule=each) for each in RULES}
            own = cuts[f"mse_{rule}"]
            cuts |= {
                "mse_swapped": model.cut(far.past, far.ids, rule=rule),
                "mse_other_channel": own.rows(torch.tensor([1, 0])),
                "mse_permuted": permuted(own, one.ids[0]),
            }
            forecasts = {name: model.predict(one.past, cut) for name, cut in cuts.items()}
            forecasts["mse_no_content"] = model.predict(one.past, own, content=False)
            for name, forecast in forecasts.items():
                error = (forecast - one.future).square().mean()
                errors.setdefault(name, []).append(float(error))
    expected = {name: pytest.approx(np.mean(each), rel=1e-5) for name, each in errors.items()}
    found = scores(Wavering, windows, rule)
    assert {name: value for name, value in found.items() if name.startswith("mse")} == expected
    assert len({round(value or 0, 4) for value in found.values()}) > len(expected)


@each_rule
def test_the_error_by_the_chosen_rule_is_the_score(rule: Rule) -> None:
    """On all windows what is scored is the error by the chosen rule, and by no other one."""
    windows, series = planted()
    scored = evaluate(build(Wavering, rule), windows, series, budget=BUDGET).metrics["mse"]
    found = scores(Wavering, windows, rule)
    near = [each for each in RULES if found[f"mse_{each}"] == pytest.approx(scored, rel=1e-6)]
    assert near == [rule]


@each_rule
def test_habits_and_agreement_are_of_the_chosen_rule(rule: Rule) -> None:
    """They are those of its boundaries, and differ from rule to rule."""
    windows, _ = planted()
    every = windows.batch(torch.arange(COUNT))
    expected = {}
    for each in RULES:
        own = build(Wavering, each).cut(every.past, every.ids)
        habits, agreement = Habits(TASK.look_back, TASK.patches), Agreement()
        habits.add(own)
        assert every.truth is not None
        agreement.add(own, every.truth.repeat_interleave(2, dim=0))
        expected[each] = habits.scores() | agreement.scores()
    found = scores(Wavering, windows, rule)
    for name in ("position_bias", "f1_0", "covering", "distance", "rand"):
        assert found[name] == pytest.approx(expected[rule][name]), name
        assert len({expected[each][name] for each in RULES}) == len(RULES), name


@pytest.mark.parametrize(
    ("count", "season", "far"),
    # Half of 96 and of 2784 windows are whole days; half of 100 is two steps more than two days.
    [
        *((96, 24, 36), (2784, 24, 1380), (100, 24, 36), (96, 1, 48), (97, 1, 48)),
        *((30, 24, 12), (20, 24, 10), (7, 3, 1), (2, 24, 1), (1, 24, 0), (1, 1, 0)),
    ],
)
def test_the_other_window_has_another_time_of_day(count: int, season: int, far: int) -> None:
    """Half a season more than whole seasons; as far as there are windows, if these are too few."""
    assert far_away(count, season) == far


def test_boundaries_that_follow_the_clock_lose_much_when_swapped() -> None:
    """Half of the test part is two whole days; no window takes the boundaries of its own hour."""

    class Clock(Patcher):
        """A single boundary, at midnight."""

        def forward(self, rows: Rows) -> Patches:
            midnight = -(rows.ids // 2) % 24
            start = torch.stack([torch.zeros_like(midnight), midnight + 24], dim=1)
            return from_starts(start, self.task.look_back)

    seen: list[Tensor] = []

    class Watched(PatchForecaster):
        def predict(self, past: Tensor, patches: Patches, *, content: bool = True) -> Tensor:
            seen.append(patches.start[:, 1])
            return super().predict(past, patches, content=content)

    task = Task("waves", 72, 24, patches=2, season=24)
    values = torch.sin(torch.arange(96.0 + 95) * 2 * torch.pi / 24)
    windows = Windows(
        values=torch.stack([values, -values]),
        starts=torch.arange(96),
        look_back=72,
        horizon=24,
        offset=0,
        mean=torch.zeros(2, dtype=torch.float64),
        scale=torch.ones(2, dtype=torch.float64),
    )
    model = Watched(task, SMALL, Clock(task)).eval()
    under_other_boundaries(model, windows, budget=BUDGET, at_once=96)
    own, _, swapped, _, _ = seen
    assert set(((swapped - own) % 24).tolist()) == {12}


@each_rule
def test_what_is_kept_and_counted_is_of_the_chosen_rule(rule: Rule) -> None:
    """Kept rows, the window to look at, tokens and remembered cuts are all by that rule."""

    class Measured(Wavering):
        """As many patches as the rule has letters."""

        strict = False

        def forward(self, rows: Rows) -> Patches:
            count, slots = len("sample" if rows.as_trained else rows.rule), self.slots
            patches = from_scores(rows.values[:, 1:], count, slots=slots)
            return dataclasses.replace(patches, gain=torch.ones(len(rows.ids), slots))

    windows, _ = planted()
    model = build(Measured, rule)
    starts = sampled_boundaries(model, windows, budget=BUDGET)["starts"]
    assert starts.shape[1] == len(rule)
    assert len(window_to_show(model, windows, TASK, BUDGET)["starts"]) == len(rule)
    assert mean_tokens(model, windows, budget=BUDGET) == len(rule)


@each_rule
def test_remembered_boundaries_are_of_the_chosen_rule(rule: Rule) -> None:
    """What is looked up later is what the rule cuts now."""
    windows, _ = planted()
    model, batch = build(Wavering, rule), windows.batch(torch.arange(COUNT))
    with torch.inference_mode():
        own = model.cut(batch.past, batch.ids).start
        for other in RULES:
            same = torch.equal(model.cut(batch.past, batch.ids, rule=other).start, own)
            assert same == (other == rule)
        model.remember([(batch.past, batch.ids, None)])
        assert torch.equal(model.cut(batch.past, batch.ids).start, own)


def test_without_content_a_forecast_hangs_on_boundaries_and_scale_alone() -> None:
    """Other values of equal mean and deviation change nothing; other boundaries or scales do."""
    windows, _ = planted()
    model, batch = with_branches(build(Wavering)), windows.batch(torch.arange(COUNT))
    past = batch.past
    own = model.cut(past, batch.ids)
    with torch.inference_mode():
        bare = model.predict(past, own, content=False)
        assert torch.allclose(bare, model.predict(past.flip(-1), own, content=False), atol=1e-5)
        assert not torch.allclose(bare, model.predict(past, own), atol=1e-2)
        uneven = permuted(own, batch.ids.flatten())
        assert not torch.allclose(bare, model.predict(past, uneven, content=False), atol=1e-4)
        moved = model.predict(3 * past + 5, own, content=False)
        assert torch.allclose(moved, 3 * bare + 5, atol=1e-4)


@pytest.mark.parametrize("method", [RandomStep, StraightThrough, Wavering])
def test_other_boundaries_do_not_depend_on_the_batch_size(method: type[Patcher]) -> None:
    """One, seven or thirty-two windows at once: the same errors, the same F1."""
    windows, _ = planted()
    first, *others = (scores(method, windows, at_once=size) for size in (1, 7, 32))
    for other in others:
        assert other == pytest.approx(first, rel=1e-6)


def test_boundaries_that_follow_nothing_lose_nothing() -> None:
    """Equal patches are those of any window or channel in any order: the error stays the same."""
    windows, series = planted()
    scored, found = (
        evaluate(build(Uniform), windows, series, budget=BUDGET),
        scores(Uniform, windows),
    )
    for name in ("mse_swapped", "mse_other_channel", "mse_permuted"):
        assert found[name] == pytest.approx(scored.metrics["mse"], rel=1e-6)


def test_true_boundaries_agree_with_themselves() -> None:
    """The oracle finds all of them exactly; equal patches find some, and more when far off."""
    windows, _ = planted(channels=1)
    exact = scores(Oracle, windows)
    assert [exact[f"f1_{n}"] for n in TOLERANCES] == [1.0] * 4
    assert (exact["covering"], exact["distance"], exact["rand"]) == (1, 0, 1)
    equal = scores(Uniform, windows)
    rough = [equal[f"f1_{n}"] or 0.0 for n in TOLERANCES]
    assert 0 < rough[0] < rough[1] < rough[2] < rough[3] < 1
    assert 0 < (equal["covering"] or 0) < 1 < (equal["distance"] or 0) < 8
    assert (exact["distinct"], equal["distinct"]) == (1.0, 1 / COUNT)
    assert equal["position_bias"] == pytest.approx(1)
    every = windows.batch(torch.arange(COUNT))
    own = build(Oracle).cut(every.past, every.ids, every.truth)
    habits = Habits(TASK.look_back, TASK.patches)
    habits.add(own)
    bias = habits.scores()["position_bias"]
    assert 0 < (bias or 0) < 0.5
    assert exact["position_bias"] == pytest.approx(bias)


def test_errors_by_region_are_those_that_a_loop_sorts() -> None:
    """Rows whose look-back holds a rare jump, and all others, window by window; any batch size."""
    windows, series = planted()
    half = len(series.values) // 2
    series = dataclasses.replace(series, borders=(half, half + 1, len(series.values)))
    rare = np.quantile(np.abs(np.diff(series.values[:half], axis=0)), RARE, axis=0)
    model = build(Wavering)
    errors: dict[bool, list[float]] = {True: [], False: []}
    with torch.inference_mode():
        for number, start in enumerate(windows.starts.tolist()):
            one = windows.batch(torch.tensor([number]))
            error = model.predict(one.past, model.cut(one.past, one.ids)) - one.future
            jumps = np.abs(np.diff(series.values[start : start + TASK.look_back], axis=0))
            for channel, is_event in enumerate(np.any(jumps > rare, axis=0).tolist()):
                errors[is_event].append(float(error[0, channel].square().mean()))
    assert len(errors[True]) > 1
    for size in (1, 7, 32):
        found = evaluate(model, windows, series, budget=BUDGET, at_once=size).regions
        assert found["windows_event"] == len(errors[True])
        assert found["mse_event"] == pytest.approx(np.mean(errors[True]), rel=1e-5)
        assert found["mse_calm"] == pytest.approx(np.mean(errors[False]), rel=1e-5)


def test_events_are_looked_for_where_the_test_part_lies() -> None:
    """Windows that begin late in the series have its own steps: one spike, in some of them."""
    clock = np.arange(400.0)[:, None]
    values = np.sin(2 * np.pi * clock / np.array([8.0, 16.0]))
    values[330, 1] += 9
    series = Series("waves", values, ("a", "b"), "h", 8, (240, 300, 400), "x")
    task = Task("waves", 32, 8, 4, season=8)
    scored = evaluate(
        RepeatLast(task, SMALL), windows_of.test(series, task), series, budget=BUDGET
    )
    # The jump from 330 to 331 and, for one window less, that from 329 to 330: look-backs that
    # begin at 299 to 330, of those that begin at 268 to 360.
    assert scored.regions["windows_event"] == 32


# --- kept ----------------------------------------------------------------------------------------


def kept(method: type[Patcher], windows: Windows, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - options of several types
    return sampled_boundaries(build(method), windows, budget=BUDGET, **more)


@pytest.mark.parametrize("at_once", [1, 7, 300])
def test_kept_boundaries_are_those_of_their_rows(at_once: int) -> None:
    """Window and channel name the row: its look-back, its starts and its true boundaries."""
    windows, _ = planted()
    model, found = build(RandomStep), kept(RandomStep, windows, at_once=at_once)
    assert {name: values.dtype.name for name, values in found.items()} == {
        "window": "int32",
        "channel": "int32",
        "values": "float32",
        "starts": "int16",
        "true_starts": "int16",
    }
    assert {len(values) for values in found.values()} == {COUNT * 2}
    for row, (window, channel) in enumerate(zip(found["window"], found["channel"], strict=True)):
        one = windows.batch(torch.tensor([int(window)]))
        assert found["values"][row] == pytest.approx(one.past[0, channel].numpy(), abs=6e-4)
        with torch.inference_mode():
            own = model.cut(one.past, one.ids).start[channel]
        assert found["starts"][row].tolist() == own.tolist()
        assert one.truth is not None
        assert found["true_starts"][row].tolist() == one.truth[0].nonzero()[:, 0].tolist()


def test_kept_rows_are_few_different_and_evenly_spaced() -> None:
    """256 of 600 rows from the first to the last window, channels in turn, whatever the method."""
    windows, _ = planted(300)
    first, second = kept(Uniform, windows), kept(RandomStep, windows)
    assert len(first["starts"]) == 256
    rows = [*zip(first["window"].tolist(), first["channel"].tolist(), strict=True)]
    assert len(set(rows)) == 256
    assert [channel for _, channel in rows] == [0, 1] * 128
    assert set(np.diff(first["window"])) == {1, 2}
    assert (first["window"][0], first["window"][-1]) == (0, 298)
    for name in ("window", "channel", "values"):
        np.testing.assert_array_equal(first[name], second[name])


def test_slots_without_a_patch_are_kept_as_such() -> None:
    """Starts come first and in order, -1 stands for none; slots that no row uses are dropped."""

    class Few(Patcher):
        strict = False

        def forward(self, rows: Rows) -> Patches:
            length = torch.tensor([[40, 0, 56, 0], [96, 0, 0, 0]])[rows.ids % 2]
            length = functional.pad(length, (0, self.slots - 4))
            return Patches(length.cumsum(1) - length, length, length > 0)

    windows, _ = planted(2)
    found = kept(Few, dataclasses.replace(windows, marks=None))
    assert found["starts"].tolist() == [[0, 40], [0, -1]] * 2
    assert "true_starts" not in found


def test_tokens_are_counted_on_any_windows() -> None:
    """The mean over evenly spaced windows, strict or not; a reference says what it makes."""

    class Growing(Patcher):
        strict = False

        def forward(self, rows: Rows) -> Patches:
            window = rows.ids // 2 // WINDOW
            length = torch.tensor([[48, 48, 0], [32, 32, 32]])[(window >= 100).long()]
            length = functional.pad(length, (0, self.slots - 3))
            return Patches(length.cumsum(1) - length, length, length > 0)

    windows, _ = planted(300)
    for size in (1, 7, 300):
        counted = mean_tokens(build(Growing), windows, budget=BUDGET, at_once=size)
        assert counted == pytest.approx((100 * 2 + 200 * 3) / 300)
    assert mean_tokens(build(Uniform), windows, budget=BUDGET) == 12
    reference = RepeatLast(TASK, SMALL)
    assert mean_tokens(reference, windows, budget=BUDGET) is None


def test_what_does_not_exist_is_not_measured() -> None:
    """One window has no other, one channel no next, and boundaries nobody knows have no F1."""
    windows, _ = planted(1, channels=1)
    unmarked = scores(Uniform, dataclasses.replace(windows, marks=None))
    there = [name for name, value in unmarked.items() if value is not None]
    assert there == [
        "mse_best",
        "mse_permuted",
        "mse_no_content",
        "position_bias",
        "distinct",
        "equal",
    ]


def test_a_large_test_part_is_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 23 windows four: the first, and then one in every quarter; each with its own far one."""
    windows, _ = planted()
    seen: list[int] = []
    whole = Windows.batch

    def watched(self: Windows, index: Tensor) -> Any:  # noqa: ANN401 - what it stands for returns
        seen.extend(index.tolist())
        return whole(self, index)

    monkeypatch.setattr("harness.run.probes.SAMPLE", 4)
    monkeypatch.setattr(Windows, "batch", watched)
    scores(Uniform, windows)
    assert seen == [0, 5, 11, 17, 11, 16, 22, 6]


def test_a_model_that_changes_under_other_boundaries_is_refused() -> None:
    """Weights and buffers are compared after these passes, too."""

    class Learning(Wavering):
        def forward(self, rows: Rows) -> Patches:
            if rows.rule == "sample":
                self.progress.add_(1)
            return super().forward(rows)

    windows, _ = planted()
    with pytest.raises(ValueError, match="changed its own weights or buffers"):
        scores(Learning, windows)


def test_the_window_to_look_at_is_a_real_one() -> None:
    """Patch starts, values, future and forecast belong to one test window."""
    shown = window_to_show(
        small_waves.build(), windows_of.test(waves(), small_waves.TASK), small_waves.TASK, BUDGET
    )
    assert shown["starts"] == [0, 8, 16, 24]
    assert [len(shown[part]) for part in ("values", "future", "forecast")] == [32, 8, 8]
