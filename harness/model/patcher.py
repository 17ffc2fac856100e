"""The contract of a patching method: rows in, patches out.

A method is one file under ``methods/`` with one :class:`Patcher`. It decides where patches start;
everything else (embedder, backbone, head, training) is the same for every method.

Axis names used throughout: ``row`` is one channel of one window (times the number of draws, where
a method draws boundaries several times for each row), ``time`` the look-back, ``patch`` the slots
for patches, ``draw`` the draws of boundaries for one row.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from harness.core.protocol import most_patches
from harness.core.task import Task
from harness.core.words import unknown

Rule = Literal["sample", "best", "even"]
"""How a method cuts in evaluation.

- "sample": as in training; one draw, seeded by the row's id, or soft boundaries.
- "best": its mode, such as the largest scores.
- "even": K boundaries spread evenly over the distribution it learned (:func:`from_inclusion`): a
  deterministic representative whose boundaries lie close together only where they are likely.
"""
RULES: tuple[Rule, ...] = get_args(Rule)


@dataclass(frozen=True)
class Patches:
    """Where each patch starts, how long it is, and which slots count. Static shapes, no gaps.

    The rest is optional, and None for a method that only says where. What the shared forecaster
    makes of it:

    - ``edges``: the boundaries as real numbers with a gradient (each within a step of ``start``
      and, last, of the look-back); embedder and head are differentiable in them.
    - ``spans``: first and last edge of the stretch each token is read from, where stretches
      overlap or leave the edges (soft boundaries).
    - ``weight``: how much each step counts in the content of its patch, relative to the others.
    - ``gain``: what the content of a token is multiplied by.
    - ``gate``: the share of each token, against those before it, in a running mean over tokens
      after the backbone.
    - ``confidence``: of the decision at each step; it changes no value and has a gradient.
    - ``coarse``: patches that start a group of patches, the first one 0: a second level, on which
      all layers of the backbone but the first one work.
    - ``log_prob``: of the variable that was really drawn, one a row.
    - ``judged``: of a method with several draws a row, the rows whose draws are forecast for
      :meth:`Patcher.learn`, by their number in the batch; None for all of them.
    - ``loss``: an auxiliary loss, already weighted.
    """

    start: Int[Tensor, "row patch"]
    length: Int[Tensor, "row patch"]
    valid: Bool[Tensor, "row patch"]
    edges: Float[Tensor, "row edge"] | None = None
    spans: Float[Tensor, "row two patch"] | None = None
    weight: Float[Tensor, "row time"] | None = None
    gain: Float[Tensor, "row patch"] | None = None
    gate: Float[Tensor, "row patch"] | None = None
    confidence: Float[Tensor, "row time"] | None = None
    coarse: Int[Tensor, "row coarse"] | None = None
    log_prob: Float[Tensor, " row"] | None = None
    judged: Int[Tensor, " judged"] | None = None
    loss: Float[Tensor, ""] | None = None

    @property
    def end(self) -> Int[Tensor, "row patch"]:
        """The step after the last one of each patch."""
        return self.start + self.length

    def rows(self, index: Int[Tensor, " row"] | slice) -> Patches:
        """The patches of some rows, in the order of ``index``; the loss stays that of all rows."""
        some = {
            name: value if value is None or name == "loss" else value[index]
            for name, value in vars(self).items()
            if name != "judged"
        }
        return Patches(**some)

    def judged_of(self, value: Shaped[Tensor, "row ..."]) -> Shaped[Tensor, "judged ..."]:
        """Of something that each row has, that of the rows that are judged."""
        return value if self.judged is None else value[self.judged]

    def judged_draws(self, draws: int) -> Patches:
        """All draws of the rows that are judged, without a gradient: [draw * judged, patch]."""
        if self.judged is None:
            return self.detached()
        first = torch.arange(draws, device=self.start.device) * (len(self.start) // draws)
        return self.rows((first[:, None] + self.judged).flatten()).detached()

    def detached(self) -> Patches:
        """The same patches without a gradient."""
        fixed: dict[str, Any] = {
            name: value if value is None else value.detach() for name, value in vars(self).items()
        }
        return Patches(**fixed)


@dataclass(frozen=True)
class Rows:
    """What a patcher may look at: normalised look-backs, nothing of the future.

    ``values`` are the look-backs after instance normalisation; ``features`` come from the shared
    stem (methods with ``uses_features`` only); ``ids`` number the rows of a data set, so that a
    method that draws at random can draw the same for the same row whatever the batch;
    ``spacing`` is in seconds from step to step, 0 for a row of which it is not known, and None
    where it is of none; ``truth`` marks the true boundaries of planted series (methods with
    ``uses_truth`` only, never ranked);
    ``generator`` is the source of randomness in training and None in evaluation; then ``rule``
    says which of the method's evaluation rules is asked for.
    """

    values: Float[Tensor, "row time"]
    ids: Int[Tensor, " row"]
    features: Float[Tensor, "row time width"] | None = None
    truth: Bool[Tensor, "row time"] | None = None
    generator: torch.Generator | None = None
    rule: Rule = "best"
    spacing: Float[Tensor, " row"] | None = None

    @property
    def as_trained(self) -> bool:
        """Whether boundaries are drawn, noisy or soft: in training, and by the rule "sample"."""
        return self.rule == "sample" or self.generator is not None

    def uniform(self, columns: int) -> Float[Tensor, "row column"]:
        """Uniform draws in (0, 1): fresh in training, a function of the row's id in evaluation."""
        # The ends, which 24 bits reach once in a while, have no logarithm.
        return self._draws(columns).clamp(2**-25, 1 - 2**-24)

    def _draws(self, columns: int) -> Float[Tensor, "row column"]:
        shape, device = (len(self.ids), columns), self.values.device
        if self.generator is not None:
            return torch.rand(shape, generator=self.generator, device=device)
        # One counter a draw, mixed by two rounds of a 64-bit finaliser (Steele et al. 2014, the
        # mixing step of SplitMix): no state, so neither batch size nor order can change a plan.
        mixed = (self.ids[:, None] * columns + torch.arange(columns, device=device)) * _GOLDEN
        for factor, shift in ((_MIX_1, 30), (_MIX_2, 27)):
            mixed = (mixed ^ ((mixed >> shift) & ((1 << (64 - shift)) - 1))) * factor
        return ((mixed >> 40) & 0xFFFFFF).to(torch.float32).add(0.5) / (1 << 24)


# As signed 64-bit numbers, because torch has no unsigned multiplication.
_GOLDEN, _MIX_1, _MIX_2 = (
    number - (1 << 64) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


class Patcher(nn.Module):
    """Cuts rows into patches. Subclass, implement :meth:`forward`, done.

    The constructor takes the task and the method's own keyword-only arguments. ``search_space``
    maps hyperparameters to the values a search may try. The class docstring says what the method
    does and, in paragraphs that begin with these words, ``Source:`` and ``Fidelity:`` (paper,
    code, re-implementation or our design, and every deviation).

    ``progress`` is the share of training that has passed, 0 at the first step; it is saved with
    the weights, so that a patcher is scored at the progress at which its weights were kept.
    """

    strict: ClassVar[bool] = True
    """Exactly ``task.patches`` patches a row; otherwise at most :attr:`slots`, with a mask."""
    uses_features: ClassVar[bool] = False
    uses_truth: ClassVar[bool] = False
    """Sees the true boundaries of planted series: an upper bound, shown but never ranked."""
    causal: ClassVar[bool] = False
    """No boundary depends on a later step. Not needed for forecasts, but declared."""
    pretrained: ClassVar[bool] = False
    """Trains a model of its own in :meth:`prepare`, before the forecaster sees a step."""
    free_count: ClassVar[bool] = False
    """Strict, but for a number of patches of its own, :attr:`slots`, in place of the task's K. It
    then has a choice that others have not, and stands beside the ranking."""
    grid: ClassVar[bool] = False
    """All rows of a run are cut alike, by design: of other methods that is a collapse."""
    fixed: ClassVar[bool] = False
    """Boundaries are a function of the row's values alone, the same throughout training, so the
    harness may compute them once. Only ``start``, ``length`` and ``valid`` are kept."""
    rules: ClassVar[tuple[Rule, ...]] = ("best",)
    """Evaluation rules: several where boundaries in training are drawn, noisy or soft.

    Validation data choose among them in each run; the errors under all of them are reported. The
    first one is in use until then."""
    authors_rule: ClassVar[Rule | None] = None
    """The rule by which the authors of a published method evaluate it: it is then the one scored,
    whatever validation says."""
    search_space: ClassVar[dict[str, tuple[object, ...]]] = {}

    progress: Tensor
    hyperparameters: dict[str, Any]
    frozen: bool = False
    """Set by :meth:`freeze`."""
    evaluation_rule: Rule
    """The rule in use: the authors', or the one of least validation error, renewed after each
    epoch of training. A final phase that settles on a plan trains on this one. It is a part of
    ``state_dict()``, so that weights are never without the rule that they were chosen with."""

    def __init_subclass__(cls, **more: object) -> None:
        """Refuse, where the class is declared, evaluation rules that there are not."""
        super().__init_subclass__(**more)
        rules, authors = cls.rules, cls.authors_rule
        if not isinstance(rules, tuple) or not rules or len(set(rules)) < len(rules):
            raise ValueError(
                f"{cls.__name__}.rules is {rules!r}; a tuple of different rules is needed, of"
                f" {', '.join(RULES)}"
            )
        for rule in rules:
            if rule not in RULES:
                raise ValueError(f"{cls.__name__}.rules: {unknown('rule', rule, RULES)}")
        if authors is not None and authors not in rules:
            raise ValueError(
                f"{cls.__name__}.authors_rule is {authors!r}, none of its rules:"
                f" {', '.join(rules)}"
            )

    def __new__(cls, *_: object, **hyperparameters: object) -> Patcher:  # noqa: PYI034 - beartype, in tests, does not know Self
        """Keep what the patcher is made with: :meth:`save` writes it down."""
        patcher = super().__new__(cls)
        patcher.hyperparameters = {
            name: value for name, value in hyperparameters.items() if name != "task"
        }
        return patcher

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.register_buffer("progress", torch.zeros(()))
        self.evaluation_rule = self.authors_rule or self.rules[0]

    def get_extra_state(self) -> Tensor:
        """The rule in use, as torch keeps it with the weights: its number in :data:`RULES`."""
        return torch.tensor(RULES.index(self.evaluation_rule))

    def set_extra_state(self, state: Tensor) -> None:
        """Use the rule that was saved with the weights.

        Raises:
            ValueError: a rule that the method does not have any more.
        """
        rule = RULES[int(state)]
        if rule not in self.rules:
            raise ValueError(
                f"it was evaluated by the rule {rule!r}; {type(self).__name__} has"
                f" {', '.join(self.rules)}"
            )
        self.evaluation_rule = rule

    @property
    def open_rules(self) -> tuple[Rule, ...]:
        """The rules among which validation data choose: one only, where there is no choice."""
        if self.frozen:
            return (self.evaluation_rule,)
        return self.rules if self.authors_rule is None else (self.authors_rule,)

    def train(self, mode: bool = True) -> Patcher:  # noqa: FBT001, FBT002 - torch's own signature
        """As every module; a frozen patcher stays as it is in evaluation."""
        return super().train(mode and not self.frozen)

    @property
    def slots(self) -> int:
        """Patch slots the method fills: K, or a cap of 1.25 K for methods that only aim at K."""
        task = self.task
        return task.patches if self.strict else most_patches(task.patches, task.look_back)

    @property
    def draws(self) -> int:
        """Draws of boundaries for each row in training; several for policy gradients only."""
        return 1

    def prepare(self, rows: Iterable[Float[Tensor, "_ time"]]) -> None:
        """Fit thresholds or a model of its own to normalised training look-backs, before training.

        The rows come in chunks and can be passed over once.
        """

    def forward(self, rows: Rows) -> Patches:
        """Patches for each row; in training ``draws`` times as many: [draw * row, patch].

        All rows under the first draw come first, then all under the second, and so on. The
        forecaster learns from the first draw of each row; all draws, of the rows that are
        ``judged``, are scored, without dropout and without a gradient, for :meth:`learn`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say where its patches start")

    def learn(
        self, patches: Patches, row_loss: Float[Tensor, "draw judged"]
    ) -> Float[Tensor, ""] | None:
        """An extra loss from the forecast loss of each row that is judged; None by default."""
        return None

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """Optimiser settings for the patcher's own parameters."""
        return [{"params": list(self.parameters()), "lr": learning_rate}]

    def freeze(self) -> Patcher:
        """Stop learning for good: no parameter is trained, and the rule in use stays in use.

        From now on it cuts in training as in evaluation, by the rule that was chosen with its
        weights: the same row gets the same boundaries every time.

        Raises:
            ValueError: it decides on features, which go on learning with the forecaster.
        """
        self._refuse_features()
        return self.stop()

    def stop(self) -> Patcher:
        """As :meth:`freeze`, of a forecaster that freezes the features too."""
        self.frozen = True
        return self.requires_grad_(requires_grad=False).eval()

    def take(self, other: Patcher) -> None:
        """Cut by what another one of the method has learned, at its own look-back and K.

        Raises:
            ValueError: what it has learned belongs to one look-back.
        """
        _refuse_misfits(other.state_dict(), self, other.task.look_back)
        self.load_state_dict(other.state_dict())

    def save(self, path: Path) -> None:
        """Write the patcher alone, to be carried to other data: hyperparameters, weights, rule.

        Raises:
            ValueError: it decides on features, which stay behind with the forecaster.
        """
        self._refuse_features()
        torch.save(
            {
                "method": type(self).__name__,
                "look_back": self.task.look_back,
                "hyperparameters": self.hyperparameters,
                "state": self.state_dict(),
            },
            path,
        )

    @classmethod
    def load(cls, path: Path, task: Task) -> Patcher:
        """The patcher of a file that :meth:`save` wrote, for another task, nothing frozen.

        It is on the CPU, whatever it was saved from. No code in the file is run.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not such a file, or of another method, or of one tied to its look-back.
        """
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            parts = ("method", "look_back", "hyperparameters", "state")
            method, look_back, hyperparameters, state = (saved[part] for part in parts)
        except FileNotFoundError:
            raise
        except Exception as error:
            # What torch says of a strange file is long, and advises to trust it.
            raise ValueError(f"{path} is damaged, or no patcher was saved there") from error
        try:
            if method != cls.__name__:
                raise ValueError(f"it is a {method}, not a {cls.__name__}")  # noqa: TRY301 - told below of which file
            patcher = cls(task, **hyperparameters)
            _refuse_misfits(state, patcher, look_back)
            patcher.load_state_dict(state)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"the patcher of {path} does not fit: {error}") from error
        return patcher

    def _refuse_features(self) -> None:
        """A patcher that decides on features is of no use without the stem they come from."""
        if self.uses_features:
            raise ValueError(
                f"{type(self).__name__} decides on features of the forecaster's stem: it can"
                " neither be frozen nor be carried to other data without it"
            )


def _refuse_misfits(state: dict[str, Tensor], patcher: Patcher, look_back: int) -> None:
    """Refuse what was made for another look-back (or K), and name the tensor that shows it."""
    task = patcher.task
    for name, own in patcher.state_dict().items():
        saved = state.get(name, own)
        if saved.shape != own.shape:
            raise ValueError(
                f"{name!r} is {list(saved.shape)}, not {list(own.shape)} as for {task}"
            )
        # Whole numbers are steps of a look-back: their shape may fit where their meaning does not.
        if saved.dim() and saved.dtype == torch.long and look_back != task.look_back:
            raise ValueError(
                f"{name!r} holds steps of a look-back of {look_back}, not of {task.look_back}"
            )


def sample_rows(
    rows: Iterable[Float[Tensor, "_ time"]], most: int
) -> Float[Tensor, "sample time"]:
    """At most about ``most`` of all rows, each as likely as any other.

    Windows overlap, so a sample of them holds most of what there is to see.
    """
    kept: list[Tensor] = []
    share = 1.0
    for chunk in rows:
        kept.append(chunk[torch.rand(len(chunk), device=chunk.device) < share])
        if sum(map(len, kept)) > most:
            pool = torch.cat(kept)
            kept, share = [pool[torch.rand(len(pool), device=pool.device) < 0.5]], share / 2
    return torch.cat(kept)


def from_starts(
    start: Int[Tensor, "row patch"], look_back: int, **extra: Tensor | None
) -> Patches:
    """Patches from strictly increasing starts, the first one 0.

    Slots that are not used come last and start at ``look_back``: their patches have length 0.
    """
    length = torch.diff(start, append=torch.full_like(start[:, :1], look_back))
    return Patches(start, length, start < look_back, **extra)


def from_scores(
    score: Float[Tensor, "row step"],
    patches: int,
    *,
    slots: int | None = None,
    **extra: Tensor | None,
) -> Patches:
    """Exactly ``patches`` patches, starting where the score is largest.

    ``score[:, i]`` rates a boundary at time step ``i + 1`` (step 0 always starts a patch), so a
    row of L steps has L - 1 scores. The choice is exact and has a static shape: no threshold.
    ``slots`` above ``patches`` are left empty.

    Raises:
        ValueError: a score that is not a number; on a GPU, where asking would stall every step,
            such a row gets empty patches, which break the contract.
    """
    chosen = score.topk(patches - 1, dim=1).indices
    chosen = _refuse_nan(score, chosen)
    return from_chosen(chosen, score.shape[1] + 1, slots=slots, **extra)


def _refuse_nan(score: Tensor, chosen: Tensor) -> Tensor:
    """The steps chosen by these scores; raises, or spoils them, where a score is not a number."""
    wrong = score.isnan().any(1, keepdim=True)
    if score.device.type == "cpu" and wrong.any():
        raise ValueError(f"the scores of {int(wrong.sum())} of {len(score)} rows are not numbers")
    return torch.where(wrong, 1, chosen)


def from_chosen(
    chosen: Int[Tensor, "row inner"],
    look_back: int,
    *,
    slots: int | None = None,
    **extra: Tensor | None,
) -> Patches:
    """Patches from distinct scores chosen in any order; index i is a boundary at step i + 1.

    ``slots`` above their number are left empty.
    """
    start = functional.pad(chosen.sort(dim=1).values + 1, (1, 0))
    if slots is not None:
        start = functional.pad(start, (0, slots - start.shape[1]), value=look_back)
    return from_starts(start, look_back, **extra)


@torch.no_grad()
def threshold(logits: Float[Tensor, "row step"], count: int) -> Float[Tensor, "row 1"]:
    """One number a row: the sigmoids of the logits less that number add up to ``count``.

    Found by halving the interval from where it would be, were all logits equal to the smallest, to
    where it would be, were they equal to the largest; without a gradient.
    """
    if not logits.shape[1]:
        return logits.new_zeros(len(logits), 1)
    mean = min(max(count / logits.shape[1], 1e-6), 1 - 1e-6)
    low, high = (
        extreme - math.log(mean / (1 - mean)) for extreme in logits.aminmax(dim=1, keepdim=True)
    )
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        too_many = (logits - middle).sigmoid().sum(1, keepdim=True) > count
        low, high = torch.where(too_many, middle, low), torch.where(too_many, high, middle)
    return (low + high) / 2


_HALVINGS = 28  # as close as float32 can come


def inclusion(logits: Float[Tensor, "row step"], count: int) -> Float[Tensor, "row step"]:
    """Probabilities of independent boundaries, ``count`` of them expected in each row.

    They are the sigmoids of the logits less the :func:`threshold` of the row.
    """
    return (logits - threshold(logits, count)).sigmoid()


def from_inclusion(
    probability: Float[Tensor, "row step"],
    patches: int,
    *,
    slots: int | None = None,
    **extra: Tensor | None,
) -> Patches:
    """Exactly ``patches`` patches, spread evenly over the probability of a boundary.

    ``probability[:, i]`` is that of a boundary at step ``i + 1``. The k-th boundary is where the
    running sum, scaled to end at K - 1, passes k - 1/2. A boundary whose step is taken by the one
    before it moves to the next step. ``slots`` above ``patches`` are left empty.
    """
    inner, steps = patches - 1, probability.shape[1]
    total = probability.detach().double().cumsum(1)
    total = total * (inner / total[:, -1:].clamp_min(1e-12))
    order = torch.arange(inner, device=total.device)
    mark = (order + 0.5).to(total.dtype).expand(len(total), -1).contiguous()
    index = torch.searchsorted(total, mark).clamp_max(steps - 1)
    # Strictly increasing, and with room for the boundaries still to come.
    chosen = order + (index - order).clamp(0, steps - inner).cummax(dim=1).values
    chosen = _refuse_nan(probability, chosen)
    return from_chosen(chosen, steps + 1, slots=slots, **extra)


def from_marks(
    mark: Bool[Tensor, "row step"],
    slots: int,
    priority: Float[Tensor, "row step"],
    **extra: Tensor | None,
) -> Patches:
    """Patches that start where marked; of more than there are slots, those of highest priority.

    ``mark[:, i]`` is a boundary at step ``i + 1``; ``priority`` is in [0, 1]. Rows with fewer
    marks leave slots empty, after the last patch.
    """
    look_back = mark.shape[1] + 1
    best = torch.where(mark, priority, -1.0).topk(min(slots - 1, mark.shape[1]), dim=1)
    # A boundary that is not there is put at the end of the row: its patch has length 0.
    inner = torch.where(best.values >= 0, best.indices + 1, look_back).sort(dim=1).values
    start = functional.pad(_refuse_nan(priority, inner), (1, 0))
    start = functional.pad(start, (0, slots - start.shape[1]), value=look_back)
    return from_starts(start, look_back, **extra)


def uniform_starts(
    look_back: int, patches: int, device: torch.device | None = None
) -> Int[Tensor, " patch"]:
    """Starts of equal patches; where K does not divide the look-back, lengths differ by one step.

    The longer patches come last, as in left padding: the most recent step closes a full patch.
    """
    return torch.arange(patches, device=device) * look_back // patches
