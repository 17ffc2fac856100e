"""The promises every method keeps, for ours and for yours: ``make check METHOD=name``.

A promise is a generator of complaints, and kept if there are none; the first line of its docstring
is what is promised. That a patcher sees no future needs no promise: :class:`Rows` has none.
"""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from harness.core.task import Architecture, Budget, Task
from harness.data import PLANTED_HORIZON, PLANTED_LOOK_BACK, PLANTED_WINDOW, plant
from harness.model import registry
from harness.model.contract import breaches, shape_of
from harness.model.forecaster import Forecast, Forecaster, PatchForecaster, training_loss
from harness.model.layers import instance_norm
from harness.model.patcher import Patcher, Patches, Rows, Rule
from harness.model.registry import Method
from harness.model.stem import Stem
from harness.run.fit import fit, validation_error
from harness.run.windows import Windows

_TASK = Task("check", PLANTED_LOOK_BACK, PLANTED_HORIZON, patches=12, season=24)
# One patch, as many as steps, a K that does not divide, and look-backs shorter than any season.
_TASKS = (
    _TASK,
    replace(_TASK, patches=1),
    replace(_TASK, look_back=50, patches=7),
    replace(_TASK, look_back=16, patches=16),
    replace(_TASK, look_back=8, patches=3),
)
_ROWS = 32
_ARCHITECTURE = Architecture(width=16, layers=1, feedforward=32, dropout=0.0)
_BUDGET = Budget(epochs=2, batch=16, learning_rate=3e-3, schedule="constant")


@dataclass(frozen=True)
class Promise:
    """One promise and whether a method keeps it; ``detail`` says where it does not."""

    name: str
    promised: str
    kept: bool
    detail: str = ""

    def __str__(self) -> str:
        verdict = "kept  " if self.kept else "BROKEN"
        detail = f"\n        {self.detail}" if self.detail else ""
        return f"{verdict}  {self.name}: {self.promised}{detail}"


@dataclass(frozen=True)
class Subject:
    """A method with its hyperparameters, to be built as often as a promise needs it."""

    method: Method
    hyperparameters: Mapping[str, object]

    def built(self, task: Task = _TASK, seed: int = 0) -> Patcher | Forecaster:
        """Ready for evaluation, but without a look at any data."""
        torch.manual_seed(seed)
        if issubclass(self.method, Forecaster):
            return self.method(task, _ARCHITECTURE, **self.hyperparameters).eval()
        return self.method(task, **self.hyperparameters).eval()

    def prepared(self, task: Task = _TASK) -> Patcher | Forecaster:
        """Ready for evaluation, after a look at some training look-backs."""
        model, values = self.built(task), self.rows(task).values
        model.prepare(
            part if isinstance(model, Patcher) else part[:, None] for part in values.split(8)
        )
        return model

    def forecaster(self) -> Forecaster:
        """A reference itself, or the shared forecaster around a patcher."""
        model = self.built()
        if isinstance(model, Patcher):
            return PatchForecaster(_TASK, _ARCHITECTURE, model)
        return model

    @property
    def rules(self) -> tuple[Rule, ...]:
        """A patcher's evaluation rules; a reference forecaster does not look at them."""
        return self.method.rules if issubclass(self.method, Patcher) else ("best",)

    def by_each_rule(self) -> Iterator[tuple[str, Rows]]:
        """The rows as each evaluation rule asks for them, with words for where."""
        for rule in self.rules:
            yield _by(self, rule), replace(self.rows(), rule=rule)

    def rows(self, task: Task = _TASK, generator: torch.Generator | None = None) -> Rows:
        """Rows of every kind in turn, the same at each call, with what the method says it uses."""
        source = torch.Generator().manual_seed(task.look_back)
        noise = torch.randn(_ROWS, task.look_back, generator=source)
        kinds = list(_KINDS.values())
        raw = torch.stack([kinds[row % len(kinds)](noise[row]) for row in range(_ROWS)])
        rows = Rows(instance_norm(raw)[0], 1000 + torch.arange(_ROWS), generator=generator)
        if getattr(self.method, "uses_truth", False):
            truth = torch.rand(noise.shape, generator=source) < 0.1
            truth[:, 0] = False
            rows = replace(rows, truth=truth)
        if getattr(self.method, "uses_features", False):
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                torch.manual_seed(0)
                rows = replace(rows, features=Stem()(rows.values))
        return rows


Check = Callable[[Subject], Iterator[str]]


def check(method: Method, **hyperparameters: object) -> list[Promise]:
    """Hold a method, so built, to every promise of its kind; takes seconds."""
    promises = _OF_PATCHERS if issubclass(method, Patcher) else _OF_REFERENCES
    subject, held = Subject(method, hyperparameters), list[Promise]()
    with torch.random.fork_rng(devices=[]):
        for promise in promises:
            held.append(_held(promise, subject))
            if promise in (returned_patches, whole_rows) and not held[-1].kept:
                # The others would say the same in other words.
                detail = "the promises after this one rest on it and were not tried"
                held[-1] = replace(held[-1], detail=f"{held[-1].detail}; {detail}")
                break
    return held


def report(promises: Sequence[Promise]) -> str:
    """A line a promise, what was found where one is broken, and the count."""
    kept = sum(promise.kept for promise in promises)
    return "\n".join([*map(str, promises), f"{kept} of {len(promises)} promises are kept."])


def _held(promise: Check, subject: Subject) -> Promise:
    try:
        complaint = next(promise(subject), "")
    except Exception as error:  # noqa: BLE001 - whatever a method raises breaks the promise
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}, line {last.lineno}"
        complaint = f"{place}: {type(error).__name__}: {error}"
    promised = (promise.__doc__ or "").split("\n")[0]
    return Promise(promise.__name__.replace("_", " "), promised, not complaint, complaint)


# --- what a method says of itself ----------------------------------------------------------------


def constructor(subject: Subject) -> Iterator[str]:
    """After the task (and a reference's architecture) come keyword-only, plain defaults."""
    given = ["task"] if issubclass(subject.method, Patcher) else ["task", "architecture"]
    arguments = registry.arguments(subject.method)
    if (names := [argument.name for argument in arguments[: len(given)]]) != given:
        yield f"the first arguments are {names}, not {given}"
    for other in arguments[len(given) :]:
        if other.kind is not other.KEYWORD_ONLY:
            yield f"argument {other.name!r} is not keyword-only: put `*` before it"
    try:
        registry.complete_hyperparameters(subject.method, subject.hyperparameters)
    except ValueError as error:
        yield str(error)


def docstring(subject: Subject) -> Iterator[str]:
    """The class says what it does, its ``Source:`` and its ``Fidelity:``, a paragraph each."""
    declared = registry.card(subject.method)
    for name, text in vars(declared).items():
        if not text:
            yield f"the docstring of {subject.method.__name__} does not say its {name}"
    kinds = ("paper", "code", "re-implementation", "our design")
    if not declared.fidelity.lower().startswith(kinds):
        yield f"its fidelity begins with none of: {', '.join(kinds)}"


def search_space(subject: Subject) -> Iterator[str]:
    """The search space maps its hyperparameters to tuples of numbers and texts it accepts."""
    known = registry.complete_hyperparameters(subject.method, subject.hyperparameters)
    for name, values in subject.method.search_space.items():
        if name not in known:
            yield f"{name!r} is no hyperparameter of {subject.method.__name__}"
        if not isinstance(values, tuple) or not values:
            yield f"{name!r} has {values!r}, not a tuple of values to try"
        for value in values:
            if not isinstance(value, bool | int | float | str):
                yield f"{name!r} may be {value!r}, which is neither a number nor a text"
            replace(subject, hyperparameters={**subject.hyperparameters, name: value}).built()


# --- plans and forecasts -------------------------------------------------------------------------


def returned_patches(subject: Subject) -> Iterator[str]:
    """It returns ``Patches`` of the contract's shapes and types, in no more slots than allowed."""
    for where, patches, patcher in _plans(subject):
        if wrong := shape_of(patches, patcher, _ROWS):
            yield f"{where}: {wrong}"


def whole_rows(subject: Subject) -> Iterator[str]:
    """Every step of a row lies in exactly one patch; a strict method makes exactly K of them.

    What every run holds it to: none that counts is empty, a slot that does not count has no steps
    (the head spreads tokens over the steps of their slots), and every number is finite.
    """
    for where, patches, patcher in _plans(subject):
        yield from (
            f"{where}: {_first(rows)} has {what}"
            for what, rows in breaches(patches.detached(), patcher).items()
            if rows.any()
        )


def finite_forecast(subject: Subject) -> Iterator[str]:
    """One forecast [1, batch, channel, horizon] of finite numbers, whatever the look-back."""
    for task in _TASKS:
        model, rows = subject.prepared(task), subject.rows(task)
        future = _forecast(model, rows).future
        shape = [1, _ROWS, 1, task.horizon]
        if list(future.shape) != shape:
            yield f"{task}: the forecast is {list(future.shape)}, not {shape}"
        elif (wrong := ~future[0, :, 0].isfinite().all(dim=1)).any():
            yield f"{task}: the forecast of {_first(wrong)} is not finite"


def batch_mates(subject: Subject) -> Iterator[str]:
    """In evaluation a row's answer is its own: alone, among 7 or 32, in whatever order."""
    model = subject.prepared()
    for by, rows in subject.by_each_rule():
        among_all = _answer(model, rows)
        for index in (torch.arange(1), torch.arange(7), torch.arange(_ROWS - 1, _ROWS - 8, -1)):
            answer = _answer(model, _part(rows, index))
            if not _same(answer, among_all[index]):
                yield f"rows {index.tolist()} are answered otherwise than among all {_ROWS}{by}"


def repeatable_evaluation(subject: Subject) -> Iterator[str]:
    """Asked twice in evaluation, it answers the same and changes none of its state."""
    model = subject.prepared()
    before = copy.deepcopy(model.state_dict())
    for by, rows in subject.by_each_rule():
        torch.manual_seed(1)
        first = _answer(model, rows)
        torch.manual_seed(2)
        if not _same(_answer(model, rows), first):
            yield f"the same rows get two answers{by}; draw from Rows.uniform, which knows the row"
    for name, value in model.state_dict().items():
        if not torch.equal(value, before[name]):
            yield f"{name!r} changes while the method is evaluated"


def seeded_training(subject: Subject) -> Iterator[str]:
    """In training the only randomness of a plan is ``rows.generator``."""
    model, answers = subject.prepared().train(), []
    for seed in (1, 2):  # of the global generators, which must not matter
        torch.manual_seed(seed)
        rows = subject.rows(generator=torch.Generator().manual_seed(0))
        answers.append(_answer(copy.deepcopy(model), rows))
    if not _same(*answers):
        yield "the same generator gives two plans; draw from rows.generator or Rows.uniform"


def untouched_rows(subject: Subject) -> Iterator[str]:
    """What it is shown is left as it was: others read the same memory."""
    for training in (False, True):
        model = subject.prepared().train(training)
        rows = subject.rows(generator=torch.Generator().manual_seed(0) if training else None)
        before = {name: value.clone() for name, value in _shown(rows).items()}
        _answer(model, rows)
        for name, value in _shown(rows).items():
            if not torch.equal(value, before[name]):
                yield f"rows.{name} are changed in {'training' if training else 'evaluation'}"


def state(subject: Subject) -> Iterator[str]:
    """A new one into which its state is loaded gives the same answers; a patcher's from a file."""
    model, other = subject.prepared(), subject.built(seed=1)
    if isinstance(model, Patcher):
        model.evaluation_rule = model.rules[-1]
    if isinstance(model, Patcher) and not model.uses_features:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "patcher.pt"
            model.save(path)
            other = type(model).load(path, _TASK).eval()
    else:
        other.load_state_dict(model.state_dict())
    if isinstance(other, Patcher) and other.evaluation_rule != subject.rules[-1]:
        yield f"a copy with the saved state is in evaluation{_by(subject, other.evaluation_rule)}"
    for by, rows in subject.by_each_rule():
        if not _same(_answer(model, rows), _answer(other, rows)):
            yield (
                f"a copy with the saved state answers otherwise{by}; register what is learned as"
                " a buffer"
            )


# --- what it declares ----------------------------------------------------------------------------


def causal(subject: Subject) -> Iterator[str]:
    """If it says so, no boundary depends on a later step."""
    if not getattr(subject.method, "causal", False):
        return
    patcher = subject.prepared()
    step = _TASK.look_back // 2
    for by, rows in subject.by_each_rule():
        other = rows.values.clone()
        other[:, step:] = other[:, step:].flip(0)
        marks = [_marks(patcher, replace(rows, values=values)) for values in (rows.values, other)]
        if (wrong := (marks[0][:, :step] != marks[1][:, :step]).any(1)).any():
            yield (
                f"boundaries of {_first(wrong)} before step {step} change with the steps after"
                f" it{by}"
            )


def fixed(subject: Subject) -> Iterator[str]:
    """If it says so, boundaries are the same in training, and there is nothing else."""
    if not getattr(subject.method, "fixed", False):
        return
    patcher, rows = subject.prepared(), subject.rows()
    best = _answer(patcher, rows)
    other = patcher.train()(replace(rows, ids=rows.ids + 1, generator=torch.Generator()))
    if not torch.equal(torch.stack([other.start, other.length, other.valid.long()], 1), best):
        yield "boundaries in training, or of a row of another number, are others"
    for name in _beside(other):
        yield f"patches carry {name}, which is lost when they are looked up"


def grid(subject: Subject) -> Iterator[str]:
    """If it says so, all rows are cut alike, in training and in evaluation."""
    if not getattr(subject.method, "grid", False):
        return
    for where, patches, _ in _plans(subject):
        if (wrong := (patches.start != patches.start[:1]).any(1)).any():
            yield f"{where}: {_first(wrong)} is cut in another way than the first"


def rules(subject: Subject) -> Iterator[str]:
    """It has several evaluation rules, no two of them alike, if and only if training differs.

    That is, if boundaries in training are drawn, noisy or soft, and not its best ones.
    """
    patcher, rows = subject.prepared(), subject.rows()
    with torch.no_grad():
        plans: dict[Rule, Patches] = {
            rule: patcher(replace(rows, rule=rule)) for rule in {"sample", "best", *subject.rules}
        }
    relaxed, several = not _alike(plans["sample"], plans["best"]), len(subject.rules) > 1
    if relaxed and not several:
        yield 'boundaries in training are not its best ones; say `rules = ("best", "sample")`'
    if several and not relaxed:
        yield "boundaries in training are its best ones; leave `rules` out"
    for rule, other in combinations(subject.rules, 2):
        if _alike(plans[rule], plans[other]):
            yield f"every row is cut alike by the rules {rule!r} and {other!r}; leave one out"


# --- training ------------------------------------------------------------------------------------


def edges(subject: Subject) -> Iterator[str]:
    """Edges, if there are any, carry a gradient to the patcher."""
    patcher = subject.prepared().train()
    drawn: Tensor | None = patcher(subject.rows(generator=torch.Generator().manual_seed(0))).edges
    if drawn is None:
        return
    if not drawn.requires_grad:
        yield "edges carry no gradient; leave them out"
    weights = torch.rand(drawn.shape, generator=torch.Generator().manual_seed(0))
    (drawn * weights).sum().backward()
    yield from _gradients(patcher, "the edges")


def extra_losses(subject: Subject) -> Iterator[str]:
    """An extra loss is a finite scalar."""
    model = subject.forecaster()
    assert isinstance(model, PatchForecaster)
    _, _, beside = _step(model)
    if beside is not None and (beside.shape != () or not beside.isfinite()):
        yield f"patches.loss and what learn returns come to {beside.detach()}, not a finite scalar"


def training_signal(subject: Subject) -> Iterator[str]:
    """If it has parameters, a training step reaches them, through edges or an extra loss."""
    model = subject.forecaster()
    assert isinstance(model, PatchForecaster)
    _, loss, beside = _step(model)
    (loss if beside is None else loss + beside).backward()
    yield from _gradients(model.patcher, "a training step")


def separate_losses(subject: Subject) -> Iterator[str]:
    """What is learned from a log-probability gets a gradient of exactly 0 from the forecast."""
    model = subject.forecaster()
    assert isinstance(model, PatchForecaster)
    forecast, loss, _ = _step(model)
    if forecast.patches is None or forecast.patches.log_prob is None:
        return
    loss.backward()
    for name, value in model.patcher.named_parameters():
        if value.grad is not None and value.grad.any():
            yield f"the forecast loss has a gradient for {name}"


def training(subject: Subject) -> Iterator[str]:
    """A short training run on planted series goes through and lowers the loss, by 1 % or more."""
    model = subject.forecaster()
    curves = fit(model, _windows(192, seed=1), _windows(32, seed=2), _BUDGET, seed=0).curves
    if curves and not curves[-1]["train_mse"] < 0.99 * curves[0]["train_mse"]:
        losses = ", ".join(f"{epoch['train_mse']:.4f}" for epoch in curves)
        yield f"the loss of the epochs is {losses}"


def same_error(subject: Subject) -> Iterator[str]:
    """After training its validation error, taken anew, is that of the weights that were kept."""
    model, train, valid = subject.forecaster(), _windows(32, seed=1), _windows(32, seed=2)
    budget = replace(_BUDGET, epochs=1)
    kept = fit(model, train, valid, budget, seed=0).valid_mse
    again = validation_error(model, valid, budget)
    if again != kept:
        yield f"it was {kept}, and is {again}; is something in use that state_dict() lacks?"


def scored_rule(subject: Subject) -> Iterator[str]:
    """After training it cuts by the rule that was chosen, and by no other."""
    model = subject.forecaster()
    assert isinstance(model, PatchForecaster)
    windows = _windows(_BUDGET.batch, seed=1)
    chosen = fit(model, windows, windows, replace(_BUDGET, epochs=1), seed=0).rule
    batch = windows.batch(torch.arange(len(windows)))
    with torch.no_grad():
        scored = model.eval()(batch.past, batch.ids, batch.truth).patches
        other = model.cut(batch.past, batch.ids, batch.truth, rule=chosen)
    if model.patcher.evaluation_rule != chosen or not _alike(scored, other):
        yield f"{chosen!r} was chosen, {model.patcher.evaluation_rule!r} is used"


_OF_PATCHERS: tuple[Check, ...] = (
    constructor,
    docstring,
    search_space,
    returned_patches,
    whole_rows,
    batch_mates,
    repeatable_evaluation,
    seeded_training,
    untouched_rows,
    state,
    causal,
    fixed,
    grid,
    rules,
    edges,
    extra_losses,
    training_signal,
    separate_losses,
    training,
    same_error,
    scored_rule,
)
_OF_REFERENCES: tuple[Check, ...] = (
    constructor,
    docstring,
    search_space,
    finite_forecast,
    batch_mates,
    repeatable_evaluation,
    untouched_rows,
    state,
    training,
    same_error,
)


# --- what they are tried on ----------------------------------------------------------------------


def _plans(subject: Subject) -> Iterator[tuple[str, Patches, Patcher]]:
    """Plans for every size, in evaluation by each rule and in training, with words for where."""
    for task in _TASKS:
        patcher, size = subject.prepared(task), f"L={task.look_back} K={task.patches}"
        assert isinstance(patcher, Patcher)
        for rule in subject.rules:
            rows = replace(subject.rows(task), rule=rule)
            yield f"{size} in evaluation{_by(subject, rule)}", patcher(rows), patcher
        patcher = subject.prepared(task).train()
        assert isinstance(patcher, Patcher)
        rows = subject.rows(task, torch.Generator().manual_seed(0))
        yield f"{size} in training", patcher(rows), patcher


def _by(subject: Subject, rule: Rule) -> str:
    """Words for a rule, where there are several."""
    return f" by the rule {rule!r}" if len(subject.rules) > 1 else ""


_KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "noise": lambda noise: noise,
    "random walk": lambda noise: noise.cumsum(dim=0),
    "constant": lambda noise: torch.full_like(noise, 3.0),
    "spike": lambda noise: torch.where(noise == noise.max(), 1e3, 0.0),
    "tiny": lambda noise: 1 + 1e-6 * noise,
    "steps": lambda noise: noise.sign(),
}


def _first(wrong: Bool[Tensor, " row"]) -> str:
    """Words for the first of the rows marked; draws come one after another."""
    row = int(wrong.nonzero()[0]) % _ROWS
    return f"row {row} ({list(_KINDS)[row % len(_KINDS)]})"


def _part(rows: Rows, index: Tensor) -> Rows:
    return replace(rows, **{name: value[index] for name, value in _shown(rows).items()})  # type: ignore[arg-type]  # the fields' types differ


def _shown(rows: Rows) -> dict[str, Tensor]:
    """The tensors of ``rows``."""
    fields = vars(rows).items()
    return {name: value for name, value in fields if isinstance(value, Tensor)}


def _answer(model: Patcher | Forecaster, rows: Rows) -> Tensor:
    """A patcher's plan [row, 3, patch] or a reference's forecast [row, channel, horizon]."""
    with torch.no_grad():
        if isinstance(model, Forecaster):
            return _forecast(model, rows).future[0]
        patches = model(rows)
        return torch.stack([patches.start, patches.length, patches.valid.long()], dim=1)


def _forecast(model: nn.Module, rows: Rows) -> Forecast:
    return model(rows.values[:, None], rows.ids[:, None], rows.truth, rows.generator)


def _same(answer: Tensor, other: Tensor) -> bool:
    """Plans to the step; forecasts as near as products of matrices of another size come."""
    if answer.is_floating_point():
        return torch.allclose(answer, other, rtol=1e-4, atol=1e-4)
    return torch.equal(answer, other)


def _alike(plan: Patches, other: Patches) -> bool:
    """Whether all rows are cut at the same steps, into patches or into soft stretches."""
    where = [(one.start, one.length, one.spans) for one in (plan, other)]
    return all(
        (one is None) == (two is None) and (one is None or torch.equal(one, two))
        for one, two in zip(*where, strict=True)
    )


def _windows(count: int, seed: int) -> Windows:
    """Planted waves, which any boundaries let a forecaster learn."""
    planted = plant("sinus", count, seed=seed)
    marks = torch.zeros(planted.values.shape, dtype=torch.bool)
    marks[:, :PLANTED_LOOK_BACK] = torch.from_numpy(planted.boundaries)
    return Windows(
        values=torch.from_numpy(planted.values).float().reshape(1, -1),
        starts=torch.arange(count) * PLANTED_WINDOW,
        look_back=PLANTED_LOOK_BACK,
        horizon=PLANTED_HORIZON,
        offset=0,
        mean=torch.zeros(1, dtype=torch.float64),
        scale=torch.ones(1, dtype=torch.float64),
        marks=marks.flatten(),
    )


def _step(model: PatchForecaster) -> tuple[Forecast, Tensor, Tensor | None]:
    """The forward half of a training step."""
    windows = _windows(_BUDGET.batch, seed=1)
    model.prepare(batch.past for batch in windows.batches(8))
    batch = windows.batch(torch.arange(len(windows)))
    model.train()
    forecast = model(batch.past, batch.ids, batch.truth, torch.Generator().manual_seed(0))
    return forecast, *training_loss(model, forecast, batch.future)


def _marks(patcher: Patcher | Forecaster, rows: Rows) -> Bool[Tensor, "row time"]:
    """Where patches start."""
    with torch.no_grad():
        patches: Patches = patcher(rows)
    start = patches.start.clamp_max(rows.values.shape[1])
    marks = torch.zeros(len(start), rows.values.shape[1] + 1, dtype=torch.bool)
    return marks.scatter(1, start, value=True)[:, :-1]


def _beside(patches: Patches) -> list[str]:
    """Fields through which values or gradients pass, beside where patches are."""
    where = ("start", "length", "valid", "log_prob", "judged", "loss", "coarse")
    return [
        name for name, value in vars(patches).items() if value is not None and name not in where
    ]


def _gradients(module: nn.Module, source: str) -> Iterator[str]:
    """Complaints about gradients that are missing, zero everywhere or not finite."""
    trained: Iterable[nn.Parameter] = [p for p in module.parameters() if p.requires_grad]
    reached = [parameter.grad for parameter in trained if parameter.grad is not None]
    if trained and not any(gradient.any() for gradient in reached):
        yield f"no gradient of {source} reaches the patcher's parameters"
    if not all(gradient.isfinite().all() for gradient in reached):
        yield f"a gradient of {source} is not finite"
