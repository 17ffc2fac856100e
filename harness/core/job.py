"""What is to be run and what a run measured: jobs, records, and the key that joins them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cache, cached_property
from hashlib import sha256
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

from harness.core.names import DataSetName, MethodName, SuiteName
from harness.core.protocol import PROTOCOL
from harness.core.schema import STRICT, MistakeError, from_json
from harness.core.source import READING, Source
from harness.core.task import Architecture, Budget, Task
from harness.core.words import shortened

STATUSES = ("done", "failed", "diverged")

Stage = Literal["pretrain", "zero_shot", "frozen", "untrained"]
"""What a job does where it is not the usual training and test on one data set.

pretrain: train a forecaster on a corpus, which takes the place of the data set. zero_shot: score
a task that the pre-trained forecaster never saw, or a reference predictor. frozen: train on a data
set, but take the patcher from a pre-training and leave it as it is. untrained: the same with a
patcher that has learned nothing.
"""

_LONGEST_ERROR = 1000  # characters

FAILURES = ("exception", "out-of-memory", "killed", "timeout", "diverged")


@dataclass(frozen=True)
class Job:
    """A run not yet done: plain values with a content key.

    ``trials`` is how many a search used to choose its setting, 0 where there was none. It is told
    in the record and is no part of the key: the same setting gives the same number, however found.
    ``stage`` None is training and test on one data set; ``needs`` is the pre-training whose
    artefact a job starts from.
    """

    suite: str
    method: str
    task: Task
    seed: int
    hyperparameters: tuple[tuple[str, object], ...] = ()
    architecture: Architecture = field(default_factory=Architecture)
    budget: Budget = field(default_factory=Budget)
    source: Source | None = None
    trials: int = 0
    stage: Stage | None = None
    needs: Job | None = None

    def __str__(self) -> str:
        return " ".join((*_named(self.method, self.arm), f"{self.task} seed={self.seed}"))

    @property
    def corpus(self) -> str | None:
        """What was pre-trained on."""
        return None if self.needs is None else self.needs.task.dataset

    @property
    def arm(self) -> str:
        """Its stage and corpus in words, "frozen open"; nothing for the usual job."""
        return _arm(self.stage, self.corpus)

    @property
    def label(self) -> str:
        """As :attr:`Record.label`."""
        return label(self.method, self.stage, self.corpus)


def is_reference(job: Job) -> bool:
    """Whether it scores a predictor by its import path, and no method."""
    return job.stage == "zero_shot" and job.needs is None


@dataclass(frozen=True)
class Provenance:
    """Where a number comes from: the checkout's ``commit`` and the ``versions`` it ran with."""

    commit: str
    versions: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a job measured: one self-contained row of ``results/<suite>/<method>.csv``.

    Errors are in scaled units, ``_raw`` ones in those of the data; ``flops`` are of one window's
    forward pass, ``flops_step`` of one training step; ``job`` is the whole job as JSON; ``error``
    is one line, of a long one its beginning. ``rules`` are the evaluation rules that a patcher
    declares, joined by a space, ``rule`` is the one that ``mse`` and all else is measured by. The
    MSE with a suffix is under each declared rule, under other boundaries or without content,
    ``f1_n`` the agreement of the boundaries with true ones within n steps
    (:mod:`harness.run.probes`); ``covering``, ``distance`` in steps, ``rand``, ``position_bias``,
    ``distinct`` and ``equal`` say more of them (:mod:`harness.run.boundaries`), ``tokens_train``
    is ``tokens_mean`` on training windows. ``mse_event`` is of the rows, each a channel of a
    window, whose look-back holds an event (:func:`harness.run.metrics.last_event`),
    ``windows_event`` of them, ``mse_calm`` of all others. Of series that people labelled,
    ``mse_near`` to ``share_change`` are the errors at labels and elsewhere
    (:class:`harness.run.metrics.AtLabels`). ``strict`` is what a patcher declares of
    its budget, ``grid`` whether it cuts all rows alike by design, ``failure`` is one of
    :data:`FAILURES`, ``attempts`` how often the job was started, ``micro_batch`` the windows in
    one pass of a training step, ``engine`` how steps were taken ("eager", or on a GPU "graph";
    :mod:`harness.run.step`), ``trials`` those that its tuning used. ``data_warning`` names a
    suspicious value in the training part of the data (:func:`harness.data.series.outliers`).
    ``stage`` is as in :class:`Job`, ``corpus`` what was pre-trained on and ``needs`` the key of
    that pre-training; ``valid_loss`` is its validation loss. Of a zero-shot task, ``mase`` and
    ``quantile_loss`` (SQL, WQL or CRPS, as its benchmark has it) and ``wape`` are by the rule of
    its benchmark, ``cases`` the forecasts, of which ``masked`` have a value that could not be
    scored, and ``leak`` says whether the corpus holds the source of the task. What is not
    measured, or younger than its row, is None.

    Raises:
        ValueError: an unknown status, failure or stage, a number that is not finite, a rule that
            is not declared, or done without the errors of its stage.
    """

    __pydantic_config__ = STRICT

    suite: SuiteName
    method: MethodName
    kind: str
    ranked: bool
    strict: bool | None = None
    grid: bool | None = None
    rules: str | None = None
    dataset: DataSetName
    look_back: int
    horizon: int
    patches: int
    season: int
    seed: int
    status: str
    rule: str | None = None
    mse: float | None = None
    mae: float | None = None
    mse_raw: float | None = None
    mae_raw: float | None = None
    mase: float | None = None
    smape: float | None = None
    windows: int | None = None
    tokens_mean: float | None = None
    tokens_p95: float | None = None
    tokens_padded: float | None = None
    mse_sample: float | None = None
    mse_best: float | None = None
    mse_even: float | None = None
    mse_swapped: float | None = None
    mse_other_channel: float | None = None
    mse_permuted: float | None = None
    mse_no_content: float | None = None
    f1_0: float | None = None
    f1_1: float | None = None
    f1_2: float | None = None
    f1_3: float | None = None
    recall_3: float | None = None
    covering: float | None = None
    distance: float | None = None
    rand: float | None = None
    tokens_train: float | None = None
    position_bias: float | None = None
    distinct: float | None = None
    equal: float | None = None
    mse_event: float | None = None
    mse_calm: float | None = None
    windows_event: int | None = None
    mse_near: float | None = None
    mse_away: float | None = None
    share_near: float | None = None
    mse_change: float | None = None
    mse_steady: float | None = None
    share_change: float | None = None
    parameters: int | None = None
    parameters_patcher: int | None = None
    parameters_backbone: int | None = None
    parameters_head: int | None = None
    flops: float | None = None
    flops_step: float | None = None
    train_seconds: float | None = None
    evaluate_seconds: float | None = None
    epochs: int | None = None
    steps: int | None = None
    valid_mse: float | None = None
    peak_memory_mb: float | None = None
    attempts: int | None = None
    micro_batch: int | None = None
    engine: str | None = None
    trials: int | None = None
    stage: str | None = None
    corpus: str | None = None
    needs: str | None = None
    valid_loss: float | None = None
    quantile_loss: float | None = None
    wape: float | None = None
    cases: int | None = None
    masked: int | None = None
    leak: str | None = None
    failure: str | None = None
    device: str
    protocol: int
    data_hash: str
    data_verified: bool
    data_warning: str | None = None
    method_source: str
    versions: str
    commit: str
    job: str
    error: str
    key: str

    def __post_init__(self) -> None:
        values = vars(self)
        for name, kind in _numbers().items():
            value = values[name]
            if value is not None:
                if type(value) is not kind:
                    # Of numpy or torch: their repr would not read back.
                    object.__setattr__(self, name, kind(value))
                if not math.isfinite(value):
                    raise ValueError(f"{name} is {value}; a record holds finite numbers only")
        if self.status not in STATUSES:
            raise ValueError(f"status is {self.status!r}; allowed: {', '.join(STATUSES)}")
        if self.failure is not None and self.failure not in FAILURES:
            raise ValueError(f"failure is {self.failure!r}; allowed: {', '.join(FAILURES)}")
        if self.rule is not None and self.rule not in (self.rules or "").split():
            raise ValueError(f"rule is {self.rule!r}; declared: {self.rules or 'none'}")
        if self.stage is not None and self.stage not in get_args(Stage):
            allowed = ", ".join(get_args(Stage))
            raise ValueError(f"stage is {self.stage!r}; allowed: {allowed}")
        errors = _ERRORS.get(self.stage or "", ("mse", "mae"))
        if self.status == "done" and any(values[name] is None for name in errors):
            raise ValueError(f"a record with status done needs {' and '.join(errors)}")
        # A row is read as a whole, by people too; the log in the bundle keeps all of it.
        object.__setattr__(self, "error", shortened(" ".join(self.error.split()), _LONGEST_ERROR))

    def __str__(self) -> str:
        size = f"{self.look_back}->{self.horizon} K={self.patches}"
        named = _named(self.method, self.arm)
        return " ".join((*named, f"{self.dataset} {size} seed={self.seed}"))

    @property
    def arm(self) -> str:
        """Its stage and corpus in words, as :attr:`Job.arm`."""
        return _arm(self.stage, self.corpus)

    @property
    def label(self) -> str:
        """Its method on a leaderboard, where each arm has a line: "reinpatch_frozen_open"."""
        return label(self.method, self.stage, self.corpus)

    @cached_property
    def coordinates(self) -> tuple[str, str, int, int, int, int, str, str]:
        """What the row is a measurement of; a suite's results hold one row for each.

        Last come the arm, and the hyperparameters as JSON: they tell the settings of a sweep
        apart.

        Raises:
            ValueError: the row's job is none.
        """
        try:
            hyperparameters = canonical(json.loads(self.job)["hyperparameters"])
        except (KeyError, TypeError, ValueError):
            job_of(self)  # says what is wrong with it
            raise
        return (
            self.method,
            self.dataset,
            self.look_back,
            self.horizon,
            self.patches,
            self.seed,
            self.arm,
            hyperparameters,
        )


_ERRORS = {"pretrain": ("valid_loss",), "zero_shot": ("mase", "quantile_loss")}
"""What a done row must have measured, by stage; elsewhere mse and mae."""


def _arm(stage: str | None, corpus: str | None) -> str:
    return " ".join(part for part in (stage, corpus) if part)


def label(method: str, stage: str | None, corpus: str | None) -> str:
    """What a leaderboard calls an arm of a method."""
    return "_".join(part for part in (method, stage, corpus) if part)


def _named(method: str, arm: str) -> tuple[str, ...]:
    return (method, f"({arm})") if arm else (method,)


def job_of(record: Record) -> Job:
    """The job that a row says it is of.

    Raises:
        ValueError: its text is no job.
    """
    try:
        told = from_json(_Told, record.job)
    except MistakeError as error:
        raise ValueError(f"the job is none: {error}") from error
    return told.job


@dataclass(frozen=True)
class _Told:
    """A job as JSON has it."""

    __pydantic_config__ = STRICT

    suite: SuiteName
    method: MethodName
    task: Task
    seed: int
    hyperparameters: dict[str, Any]
    architecture: Architecture
    budget: Budget
    source: Source | None
    stage: Stage | None = None
    needs: _Told | None = None

    @property
    def job(self) -> Job:
        hyperparameters = tuple(self.hyperparameters.items())
        needs = None if self.needs is None else self.needs.job
        return Job(**vars(self) | {"hyperparameters": hyperparameters, "needs": needs})


# --- identity ------------------------------------------------------------------------------------


def job_key(job: Job, method_source: str, data_hash: str, needs: str | None = None) -> str:
    """16 hex digits of what the number depends on: job, method, protocol and data values.

    ``needs`` is the key of the job that it needs. The suite's name, the path of own data and how
    its file is written stay out: none of them changes a result.
    """
    return _key(_plain(job), method_source, PROTOCOL, data_hash, needs)


def recomputed_key(record: Record) -> str:
    """The key that the row's columns give; if ``record.key`` differs, the row was edited."""
    job = json.loads(record.job)
    return _key(job, record.method_source, record.protocol, record.data_hash, record.needs)


def why_stale(
    record: Record, job: Job, method_source: str, data_hash: str, needs: str | None = None
) -> list[str]:
    """Why the row is not of this job as it is now, in words; nothing where its key is the same."""
    then, now = _flat(json.loads(record.job)), _flat(json.loads(canonical(_plain(job))))
    settings = [
        f"{name} {then.get(name, 'nothing')} -> {now.get(name, 'nothing')}"
        for name in sorted(then | now)
        if name not in _ELSEWHERE and then.get(name) != now.get(name)
    ]
    said = {
        "the method was edited": record.method_source != method_source,
        "other data": record.data_hash != data_hash,
        f"protocol {record.protocol} -> {PROTOCOL}": record.protocol != PROTOCOL,
        f"other settings: {', '.join(settings)}": bool(settings),
        "another pre-training": record.needs != needs and not settings,
    }
    return [words for words, is_so in said.items() if is_so]


def _flat(table: Mapping[str, Any], above: str = "") -> dict[str, str]:
    """The values of nested tables, as JSON, by their dotted names."""
    flat: dict[str, str] = {}
    for name, value in table.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{above}{name}.")
        else:
            flat[f"{above}{name}"] = json.dumps(value)
    return flat


def new_record(
    job: Job,
    provenance: Provenance,
    *,
    status: str,
    kind: str,
    ranked: bool,
    method_source: str,
    data_hash: str,
    data_verified: bool,
    device: str,
    error: str = "",
    failure: str | None = None,
    data_warning: str | None = None,
    strict: bool | None = None,
    grid: bool | None = None,
    rules: str | None = None,
    rule: str | None = None,
    engine: str | None = None,
    needs: str | None = None,
    leak: str | None = None,
    **measured: Any,  # noqa: ANN401 - columns of several types, which the record checks
) -> Record:
    """The record of ``job``; numbers not in ``measured`` (column=value) stay empty."""
    task = asdict(job.task)
    return Record(
        suite=job.suite,
        method=job.method,
        seed=job.seed,
        status=status,
        kind=kind,
        ranked=ranked,
        device=device,
        protocol=PROTOCOL,
        data_hash=data_hash,
        data_verified=data_verified,
        data_warning=data_warning,
        method_source=method_source,
        versions=provenance.versions,
        commit=provenance.commit,
        job=canonical(_plain(job)),
        error=error,
        key=job_key(job, method_source, data_hash, needs),
        needs=needs,
        leak=leak,
        stage=job.stage,
        corpus=job.corpus,
        **task,
        trials=job.trials or None,
        failure=failure,
        strict=strict,
        grid=grid,
        rules=rules,
        rule=rule,
        engine=engine,
        **measured,
    )


def canonical(value: object) -> str:
    """JSON in the one form that is hashed: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(job: Job) -> dict[str, Any]:
    # Not asdict, which copies every value: a plan of thousands of jobs asks for thousands of keys.
    plain = {name: _set(part) if is_dataclass(part) else part for name, part in vars(job).items()}
    del plain["trials"], plain["stage"], plain["needs"]
    # As a setting below: what an older job does not know is left out of it.
    if job.stage is not None:
        plain["stage"] = job.stage
    if job.needs is not None:
        plain["needs"] = _plain(job.needs)
    plain["hyperparameters"] = dict(job.hyperparameters)
    if job.source is not None:
        plain["source"] = {**vars(job.source), "path": str(job.source.path)}
    return plain


def _set(part: object) -> dict[str, Any]:
    # What is not set is left out, so that an option that is added later changes no older key.
    return {name: value for name, value in vars(part).items() if value is not None}


_ELSEWHERE = ("suite", "needs.suite", "source.path", *(f"source.{name}" for name in READING))
"""Fields of a job that no result depends on: the hash of the data is in the key beside them."""


def _key(
    job: Mapping[str, Any], method_source: str, protocol: int, data_hash: str, needs: str | None
) -> str:
    parts = [_content(job), method_source, protocol, data_hash]
    text = canonical(parts if needs is None else [*parts, needs])
    return sha256(text.encode()).hexdigest()[:16]


def _content(job: Mapping[str, Any]) -> dict[str, Any]:
    content = {name: value for name, value in job.items() if name != "suite"}
    if content["source"] is not None:
        kept = {name: value for name, value in content["source"].items() if name not in READING}
        content["source"] = {**kept, "path": None}
    if "needs" in content:
        content["needs"] = _content(content["needs"])
    return content


# --- columns -------------------------------------------------------------------------------------


@cache
def columns() -> dict[str, tuple[type, bool]]:
    """Each column's type, and whether it may be empty, read off the record itself."""
    kinds = {name: get_args(hint) or (hint,) for name, hint in get_type_hints(Record).items()}
    return {name: (kind[0], NoneType in kind) for name, kind in kinds.items()}


@cache
def _numbers() -> dict[str, type]:
    return {name: kind for name, (kind, _) in columns().items() if kind in (int, float)}
