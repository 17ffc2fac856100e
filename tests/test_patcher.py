"""A patcher travels alone: saved, loaded for other data, frozen for good."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from harness.core.task import Architecture, Budget, Task
from harness.data.planted import HORIZON, LOOK_BACK, WINDOW, plant
from harness.model.forecaster import PatchForecaster, training_loss
from harness.model.patcher import (
    RULES,
    Patcher,
    Patches,
    Rows,
    Rule,
    from_inclusion,
    from_scores,
    from_starts,
    inclusion,
)
from harness.run.fit import fit
from harness.run.windows import Windows
from methods.random_frozen import RandomFrozen
from methods.straight_through import StraightThrough
from methods.uniform import Uniform

TASK = Task("planted", LOOK_BACK, HORIZON, patches=12)
LONGER = dataclasses.replace(TASK, look_back=200, patches=20)
SMALL = Architecture(width=8, layers=1, heads=2, feedforward=16)


class Drawing(Patcher):
    """A learned method with all that freezing has to stop.

    It prepares, draws three times a row in training, and learns by a loss of its own.
    """

    offset: Tensor
    draws = 3

    def __init__(self, task: Task, *, width: int = 5) -> None:
        super().__init__(task)
        self.score = nn.Conv1d(1, 1, width, padding=width // 2)
        self.register_buffer("offset", torch.zeros(()))

    def prepare(self, rows: Iterable[Tensor]) -> None:
        self.offset.fill_(sum(float(part.mean()) for part in rows) + 1)

    def forward(self, rows: Rows) -> Patches:
        logits = self.score(rows.values[:, None])[:, 0, 1:]
        if not rows.as_trained:
            return from_scores(logits.detach(), self.task.patches)
        logits = logits.repeat(self.draws if self.training else 1, 1)
        noise = rows.uniform(logits.numel() // len(rows.values)).view(logits.shape)
        return from_scores(
            logits.detach() + noise, self.task.patches, log_prob=logits.log_softmax(1)[:, 0]
        )

    def learn(self, patches: Patches, row_loss: Tensor) -> Tensor:
        assert patches.log_prob is not None
        return (patches.log_prob * row_loss.flatten()).mean()


def rows(look_back: int, generator: torch.Generator | None = None) -> Rows:
    values = torch.randn(6, look_back, generator=torch.Generator().manual_seed(0))
    return Rows(values, torch.arange(6), generator=generator)


def windows(count: int, seed: int) -> Windows:
    planted = plant("ordinal", count, seed=seed)
    return Windows(
        values=torch.from_numpy(planted.values).float().reshape(1, -1),
        starts=torch.arange(count) * WINDOW,
        look_back=LOOK_BACK,
        horizon=HORIZON,
        offset=0,
        mean=torch.zeros(1, dtype=torch.float64),
        scale=torch.ones(1, dtype=torch.float64),
    )


def built(*, frozen: bool) -> PatchForecaster:
    torch.manual_seed(0)
    patcher = Drawing(TASK)
    return PatchForecaster(TASK, SMALL, patcher.freeze() if frozen else patcher)


def state(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


# --- saved and loaded ----------------------------------------------------------------------------


def test_a_patcher_is_carried_to_another_look_back(tmp_path: Path) -> None:
    """Hyperparameters, weights and progress come along; it cuts as these weights would there."""
    patcher = Drawing(TASK, width=7)
    patcher.progress.fill_(0.5)
    patcher.save(tmp_path / "patcher.pt")
    carried = Drawing.load(tmp_path / "patcher.pt", LONGER)
    assert (carried.task, carried.hyperparameters) == (LONGER, {"width": 7})
    for name, value in patcher.state_dict().items():
        assert torch.equal(carried.state_dict()[name], value), name
    twin = Drawing(LONGER, width=7)
    twin.load_state_dict(patcher.state_dict())
    start = carried(rows(200)).start
    assert start.shape == (6, 20)
    assert torch.equal(start, twin(rows(200)).start)
    assert all(parameter.requires_grad for parameter in carried.parameters())
    assert carried.training


@pytest.mark.parametrize("named", [True, False])
def test_the_task_is_no_keyword(tmp_path: Path, *, named: bool) -> None:
    """However it was given, the task is not saved: the patcher is for that of the loader."""
    patcher = Drawing(task=TASK, width=3) if named else Drawing(TASK, width=3)
    copy.deepcopy(patcher).save(tmp_path / "patcher.pt")
    assert Drawing.load(tmp_path / "patcher.pt", LONGER).hyperparameters == {"width": 3}


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_no_code_of_a_file_is_run(tmp_path: Path) -> None:
    """A file that would run a command when loaded is refused, and runs none."""
    bomb, trace = tmp_path / "patcher.pt", tmp_path / "trace"
    torch.save(
        {"method": "Drawing", "look_back": 96, "hyperparameters": {}, "state": Bomb(trace)}, bomb
    )
    with pytest.raises(ValueError, match=rf"{bomb} is damaged, or no patcher was saved there"):
        Drawing.load(bomb, TASK)
    assert not trace.exists()
    torch.load(bomb, weights_only=False)
    assert trace.exists()  # It would have gone off.


@pytest.mark.parametrize("content", ["half", "text", "empty", "weights", "tensor", "folder"])
def test_what_is_no_saved_patcher_is_refused_by_name(tmp_path: Path, content: str) -> None:
    """Damaged, cut short, empty, or of something else: the error names the file."""
    path, patcher = tmp_path / "patcher.pt", Drawing(TASK)
    if content == "half":
        patcher.save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif content == "weights":
        torch.save(patcher.state_dict(), path)
    elif content == "tensor":
        torch.save(torch.zeros(3), path)
    elif content == "folder":
        path.mkdir()
    else:
        path.write_text("patcher" if content == "text" else "")
    with pytest.raises(ValueError, match=rf"{path} is damaged, or no patcher was saved there"):
        Drawing.load(path, TASK)


def test_no_file_is_another_error(tmp_path: Path) -> None:
    """A wrong path is told from a wrong file, and named."""
    with pytest.raises(FileNotFoundError, match=r"patcher\.pt"):
        Drawing.load(tmp_path / "patcher.pt", TASK)


def test_the_patcher_of_another_method_is_refused(tmp_path: Path) -> None:
    """The error names the file and both methods."""
    Uniform(TASK).save(tmp_path / "patcher.pt")
    with pytest.raises(ValueError, match=r"patcher\.pt does not fit: it is a Uniform, not a Draw"):
        Drawing.load(tmp_path / "patcher.pt", TASK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hyperparameters": {"length": 7}}, "unexpected keyword argument 'length'"),
        ({"state": {}}, 'Missing key.* "score.weight"'),
        ({"hyperparameters": {"width": 7}}, r"'score.weight' is \[1, 1, 5\], not \[1, 1, 7\]"),
    ],
)
def test_a_patcher_of_other_code_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    """Hyperparameters and weights that the method does not have now are named."""
    path = tmp_path / "patcher.pt"
    Drawing(TASK).save(path)
    torch.save({**torch.load(path, weights_only=True), **change}, path)
    with pytest.raises(ValueError, match=rf"(?s){path} does not fit: .*{message}"):
        Drawing.load(path, TASK)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (LONGER, r"'start' is \[1, 12\], not \[1, 20\] as for planted 200->24 K=20"),
        (
            dataclasses.replace(TASK, look_back=200),
            "'start' holds steps of a look-back of 96, not of 200",
        ),
    ],
)
def test_a_patcher_tied_to_its_look_back_stays_there(
    tmp_path: Path, other: Task, message: str
) -> None:
    """A grid of steps is refused for another look-back, even where its shape would fit."""
    grid = RandomFrozen(TASK)
    grid.save(tmp_path / "patcher.pt")
    again = RandomFrozen.load(tmp_path / "patcher.pt", dataclasses.replace(TASK, horizon=48))
    assert torch.equal(again.get_buffer("start"), grid.start)
    with pytest.raises(ValueError, match=message):
        RandomFrozen.load(tmp_path / "patcher.pt", other)


def test_a_patcher_on_features_stays_with_its_forecaster(tmp_path: Path) -> None:
    """Without the stem its scores mean nothing: it is neither saved alone nor frozen alone."""
    with pytest.raises(ValueError, match="StraightThrough decides on features of the forecaster"):
        StraightThrough(TASK).save(tmp_path / "patcher.pt")
    with pytest.raises(ValueError, match="StraightThrough decides on features of the forecaster"):
        StraightThrough(TASK).freeze()
    assert list(tmp_path.iterdir()) == []


# --- frozen --------------------------------------------------------------------------------------


def test_a_frozen_patcher_cuts_in_training_as_in_evaluation() -> None:
    """Once a row, by the rule in use, nothing drawn anew; and no gradient reaches it."""
    model = built(frozen=True).train()
    batch = windows(4, seed=1).batch(torch.arange(4))
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    forecast = model(batch.past, batch.ids, batch.truth, generator)
    assert torch.equal(generator.get_state(), before)
    assert forecast.rollouts is None
    best = model.eval().cut(batch.past, batch.ids).start
    assert torch.equal(forecast.patches.start, best)
    training_loss(model, forecast, batch.future)[0].backward()
    assert {parameter.grad for parameter in model.patcher.parameters()} == {None}
    assert any(parameter.grad is not None for parameter in model.parameters())


def test_a_patcher_that_is_not_frozen_draws() -> None:
    """The same forecaster around the same patcher, not frozen, has three draws and a gradient."""
    model = built(frozen=False).train()
    batch = windows(4, seed=1).batch(torch.arange(4))
    forecast = model(batch.past, batch.ids, batch.truth, torch.Generator().manual_seed(0))
    assert forecast.rollouts is not None
    assert len(forecast.rollouts) == 3
    _, beside = training_loss(model, forecast, batch.future)
    assert beside is not None
    beside.backward()
    assert all(parameter.grad is not None for parameter in model.patcher.parameters())


class Ruled(Patcher):
    """A single boundary, elsewhere by each rule; in training at step 1."""

    rules: ClassVar[tuple[Rule, ...]] = ("best", "sample", "even")

    def forward(self, rows: Rows) -> Patches:
        place = 1 if rows.generator is not None else 2 + RULES.index(rows.rule)
        start = torch.tensor([0, place]).expand(len(rows.ids), -1)
        return from_starts(start, self.task.look_back)


@pytest.mark.parametrize("rule", RULES)
def test_a_carried_patcher_cuts_by_the_rule_it_was_chosen_with(tmp_path: Path, rule: Rule) -> None:
    """Saved, loaded and frozen, in training and in evaluation; unfrozen it trains as ever."""
    task = dataclasses.replace(TASK, patches=2)
    chosen = Ruled(task)
    assert chosen.evaluation_rule == "best"
    chosen.evaluation_rule = rule
    chosen.save(tmp_path / "patcher.pt")
    carried = Ruled.load(tmp_path / "patcher.pt", task)
    assert (carried.evaluation_rule, carried.open_rules) == (rule, Ruled.rules)
    batch = windows(4, seed=1).batch(torch.arange(4))
    generator = torch.Generator().manual_seed(0)

    def boundary(patcher: Patcher) -> set[int]:
        model = PatchForecaster(task, SMALL, patcher).train()
        return {
            int(step) for step in model.cut(batch.past, batch.ids, None, generator).start[:, 1]
        }

    assert boundary(carried) == {1}
    assert boundary(carried.freeze()) == {2 + RULES.index(rule)}
    assert carried.open_rules == (rule,)


def test_weights_are_loaded_with_their_rule() -> None:
    """As the weights of a bundle are: into a new forecaster around the same patcher."""
    task = dataclasses.replace(TASK, patches=2)
    first, second = (PatchForecaster(task, SMALL, Ruled(task)) for _ in range(2))
    first.patcher.evaluation_rule = "even"
    second.load_state_dict(first.state_dict())
    assert second.patcher.evaluation_rule == "even"


def test_a_rule_that_is_gone_is_refused(tmp_path: Path) -> None:
    """A file of a method that had more rules then: which one it was, and which there are."""
    chosen = Ruled(TASK)
    chosen.evaluation_rule = "even"
    chosen.save(tmp_path / "patcher.pt")

    class Fewer(Ruled):
        rules = ("best", "sample")

    Fewer.__name__ = "Ruled"
    message = r"does not fit: it was evaluated by the rule 'even'; Ruled has best, sample"
    with pytest.raises(ValueError, match=message):
        Fewer.load(tmp_path / "patcher.pt", TASK)


@pytest.mark.parametrize(
    ("rules", "authors", "message"),
    [
        (
            ("best", "evn"),
            None,
            r"Odd.rules: unknown rule 'evn'; did you mean 'even'\? Known: best",
        ),
        (("sample", "mode"), None, r"unknown rule 'mode'.* Known: best, even, sample"),
        ("best", None, r"Odd.rules is 'best'; a tuple of different rules is needed, of sample"),
        ((), None, r"Odd.rules is \(\); a tuple"),
        (("best", "best"), None, r"\('best', 'best'\); a tuple of different rules"),
        (("best",), "sample", r"Odd.authors_rule is 'sample', none of its rules: best"),
    ],
)
def test_rules_that_there_are_not_are_refused_where_they_are_declared(
    rules: object, authors: object, message: str
) -> None:
    """Before anything is built or trained, with what is allowed."""
    with pytest.raises(ValueError, match=message):
        type("Odd", (Ruled,), {"rules": rules, "authors_rule": authors})


def test_the_rule_of_the_authors_is_in_use_from_the_start() -> None:
    """It is the one that is open, and wins over one that was saved before it was declared."""

    class Published(Ruled):
        authors_rule = "sample"

    patcher = Published(TASK)
    assert (patcher.evaluation_rule, patcher.open_rules) == ("sample", ("sample",))
    patcher.load_state_dict(Ruled(TASK).state_dict())
    assert patcher.open_rules == ("sample",)


@pytest.mark.parametrize("patches", [1, 2, 5, 15, 16])
def test_even_boundaries_are_where_the_running_sum_passes(patches: int) -> None:
    """The k-th where the sum, scaled to K - 1, passes k - 1/2, or at the next free step."""
    source = torch.Generator().manual_seed(0)
    probability = torch.rand(20, 15, generator=source).pow(4)
    found = from_inclusion(probability, patches).start
    for row, starts in zip(probability.double(), found.tolist(), strict=True):
        total = row.cumsum(0) * ((patches - 1) / row.sum())
        expected = [0]
        for number in range(patches - 1):
            passed = int((total < number + 0.5).sum()) + 1
            room = 16 - (patches - 1) + number  # what is still to come has to fit
            expected.append(min(max(passed, expected[-1] + 1), room))
        assert starts == expected


def test_inclusion_adds_up_and_keeps_the_order() -> None:
    """As many boundaries are expected as asked for, by one shift of all logits of a row."""
    logits = 4 * torch.randn(6, 31, generator=torch.Generator().manual_seed(0)).double()
    found = inclusion(logits, 7)
    assert found.sum(1).tolist() == pytest.approx([7.0] * 6, abs=1e-4)
    shift = logits - found.logit()
    assert torch.allclose(shift, shift[:, :1].expand_as(shift), atol=1e-3)


def test_frozen_survives_train_and_copies() -> None:
    """Neither ``train`` on it or around it nor a deep copy thaws it."""
    model = built(frozen=True)
    for patcher in (model.patcher, model.train().patcher, copy.deepcopy(model).train().patcher):
        assert patcher.train().frozen
        assert not any(module.training for module in patcher.modules())
        assert not any(parameter.requires_grad for parameter in patcher.parameters())
    assert model.training
    assert model.head.training


@pytest.mark.parametrize("frozen", [True, False])
def test_a_forecaster_trains_on_around_a_frozen_patcher(*, frozen: bool) -> None:
    """Weights, thresholds and progress stay to the bit, weight decay or not; all else learns."""
    model = built(frozen=frozen)
    patcher, head = state(model.patcher), state(model.head)
    budget = Budget(epochs=2, batch=8, learning_rate=1e-2, weight_decay=0.1)
    fit(model, windows(32, seed=1), windows(8, seed=2), budget, seed=0)
    same = {
        name: torch.equal(value, patcher[name]) for name, value in state(model.patcher).items()
    }
    assert same == {
        **dict.fromkeys(("progress", "offset", "score.weight", "score.bias"), frozen),
        "_extra_state": True,  # its only rule
    }
    assert not torch.equal(model.head.state_dict()["out.weight"], head["out.weight"])
    assert model.patcher.frozen is frozen


def test_a_loaded_patcher_can_be_frozen(tmp_path: Path) -> None:
    """Frozen is not saved: a file is of a patcher that may learn on, until it is frozen there."""
    Drawing(TASK).freeze().save(tmp_path / "patcher.pt")
    carried = Drawing.load(tmp_path / "patcher.pt", TASK)
    assert carried.frozen is False
    drawn = carried(rows(96, torch.Generator().manual_seed(0)))
    best = carried.freeze().train()(rows(96))
    assert len(drawn.start) == 3 * len(best.start)
    assert torch.equal(best.start, from_starts(best.start, 96).start)
