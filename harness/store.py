"""Jobs, records, and where records are kept.

The truth is one CSV a method, ``results/<suite>/<method>.csv``, a self-contained row a job. What
is too large or too local for that lies in the job's bundle, ``results/runs/<key>/``. Everything
appears whole or not at all: written beside its place, flushed to disk, then renamed.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from harness.task import Architecture, Budget, Task

if TYPE_CHECKING:
    # Only the annotation needs it: reading results must not wait for pandas.
    from harness.data import Source

PROTOCOL = 1
"""Version of the rules of comparison; a change of them makes every older row stale."""

STATUSES = ("done", "failed", "diverged")
FAILURES = ("exception", "out-of-memory", "killed", "timeout", "diverged")


@dataclass(frozen=True)
class Job:
    """A run not yet done: plain values with a content key.

    ``trials`` is how many a search used to choose its setting, 0 where there was none. It is told
    in the record and is no part of the key: the same setting gives the same number, however found.
    """

    suite: str
    method: str
    task: Task
    seed: int
    keywords: tuple[tuple[str, object], ...] = ()
    architecture: Architecture = field(default_factory=Architecture)
    budget: Budget = field(default_factory=Budget)
    source: Source | None = None
    trials: int = 0

    def __str__(self) -> str:
        return f"{self.method} {self.task} seed={self.seed}"


@dataclass(frozen=True)
class Provenance:
    """Where a number comes from: the checkout's ``commit`` and the ``versions`` it ran with."""

    commit: str
    versions: str


@dataclass(frozen=True)
class Record:
    """What a job measured: one self-contained row of ``results/<suite>/<method>.csv``.

    Errors are in scaled units, ``_raw`` ones in those of the data; ``flops`` are of one window's
    forward pass, ``flops_step`` of one training step; ``job`` is the whole job as JSON; ``error``
    is one line. The MSE with a suffix is under boundaries other than the method's own best ones,
    ``f1_n`` that of its boundaries within n steps (:mod:`harness.evaluate`); ``covering``,
    ``distance`` in steps, ``rand``, ``position_bias`` and ``distinct`` say more about them
    (:mod:`harness.boundaries`), ``tokens_train`` is ``tokens_mean`` on training windows.
    ``mse_event`` is of the rows, each a channel of a window, whose look-back holds an event
    (:func:`harness.metrics.last_event`), ``windows_event`` of them, ``mse_calm`` of all others.
    ``failure`` is one of :data:`FAILURES`, ``attempts`` how often the job was started,
    ``micro_batch`` the windows in one pass of a training step, ``trials`` those that its tuning
    used. A column that is younger than its row is empty.

    Raises:
        ValueError: an unknown status or failure, a number that is not finite, or done without mse
            and mae.
    """

    suite: str
    method: str
    kind: str
    ranked: bool
    dataset: str
    look_back: int
    horizon: int
    patches: int
    season: int
    seed: int
    status: str
    mse: float | None
    mae: float | None
    mse_raw: float | None
    mae_raw: float | None
    mase: float | None
    smape: float | None
    windows: int | None
    tokens_mean: float | None
    tokens_p95: float | None
    tokens_padded: float | None
    mse_as_trained: float | None
    mse_swapped: float | None
    mse_other_channel: float | None
    mse_permuted: float | None
    f1_0: float | None
    f1_1: float | None
    f1_2: float | None
    f1_3: float | None
    covering: float | None
    distance: float | None
    rand: float | None
    tokens_train: float | None
    position_bias: float | None
    distinct: float | None
    mse_event: float | None
    mse_calm: float | None
    windows_event: int | None
    parameters: int | None
    parameters_patcher: int | None
    parameters_backbone: int | None
    parameters_head: int | None
    flops: float | None
    flops_step: float | None
    train_seconds: float | None
    evaluate_seconds: float | None
    epochs: int | None
    steps: int | None
    valid_mse: float | None
    peak_memory_mb: float | None
    attempts: int | None
    micro_batch: int | None
    trials: int | None
    failure: str | None
    device: str
    protocol: int
    data_hash: str
    data_verified: bool
    method_source: str
    versions: str
    commit: str
    job: str
    error: str
    key: str

    def __post_init__(self) -> None:
        for name, (kind, _) in _columns().items():
            value = getattr(self, name)
            if value is not None and kind in (int, float):
                # Numbers of numpy and torch become plain ones: their repr would not read back.
                object.__setattr__(self, name, kind(value))
                if not math.isfinite(value):
                    raise ValueError(f"{name} is {value}; a record holds finite numbers only")
        if self.status not in STATUSES:
            raise ValueError(f"status is {self.status!r}; allowed: {', '.join(STATUSES)}")
        if self.failure is not None and self.failure not in FAILURES:
            raise ValueError(f"failure is {self.failure!r}; allowed: {', '.join(FAILURES)}")
        if self.status == "done" and (self.mse is None or self.mae is None):
            raise ValueError("a record with status done needs mse and mae")
        object.__setattr__(self, "error", " ".join(self.error.split()))

    @cached_property
    def cell(self) -> tuple[str, str, int, int, int, int, str]:
        """What the row is a measurement of; a suite's results hold one row a cell.

        Last come the keywords, as JSON: they tell the settings of a sweep apart.
        """
        return (
            self.method,
            self.dataset,
            self.look_back,
            self.horizon,
            self.patches,
            self.seed,
            canonical(json.loads(self.job)["keywords"]),
        )


@dataclass(frozen=True)
class Bundle:
    """What a run left on this machine; ``curves`` has a row an epoch.

    ``weights`` is the file of the whole model, ``patcher`` that of a patcher to be carried to
    other data, ``boundaries`` that of where some test rows are cut (:mod:`harness.agreement`).
    """

    record: Record
    curves: tuple[dict[str, float], ...]
    overlay: dict[str, Any] | None
    weights: Path | None
    patcher: Path | None
    boundaries: Path | None
    log: str


# --- identity ------------------------------------------------------------------------------------


def key(job: Job, method_source: str, data_hash: str) -> str:
    """16 hex digits of what the number depends on: job, method, protocol and data values.

    The suite's name and the path of own data stay out: neither changes a result.
    """
    return _key(_plain(job), method_source, PROTOCOL, data_hash)


def recomputed_key(record: Record) -> str:
    """The key that the row's columns give; if ``record.key`` differs, the row was edited."""
    return _key(json.loads(record.job), record.method_source, record.protocol, record.data_hash)


def differences(record: Record, job: Job, method_source: str, data_hash: str) -> list[str]:
    """Why the row is not of this job as it is now, in words; nothing where its key is the same."""
    then, now = _flat(json.loads(record.job)), _flat(json.loads(canonical(_plain(job))))
    settings = [
        f"{name} {then.get(name, 'nothing')} -> {now.get(name, 'nothing')}"
        for name in sorted(then | now)
        if name not in ("suite", "source.path") and then.get(name) != now.get(name)
    ]
    said = {
        "the method was edited": record.method_source != method_source,
        "other data": record.data_hash != data_hash,
        f"protocol {record.protocol} -> {PROTOCOL}": record.protocol != PROTOCOL,
        f"other settings: {', '.join(settings)}": bool(settings),
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


def row(
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
    **measured: int | float | None,  # noqa: PYI041 - tests check shapes and types strictly
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
        method_source=method_source,
        versions=provenance.versions,
        commit=provenance.commit,
        job=canonical(_plain(job)),
        error=error,
        key=key(job, method_source, data_hash),
        **task,
        **_empty() | {"trials": job.trials or None, "failure": failure} | measured,
    )


def canonical(value: object) -> str:
    """JSON in the one form that is hashed: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(job: Job) -> dict[str, Any]:
    # Not asdict, which copies every value: a plan of thousands of jobs asks for thousands of keys.
    plain = {name: vars(part) if is_dataclass(part) else part for name, part in vars(job).items()}
    del plain["trials"]
    plain["keywords"] = dict(job.keywords)
    if job.source is not None:
        plain["source"] = {**vars(job.source), "path": str(job.source.path)}
    return plain


def _key(job: Mapping[str, Any], method_source: str, protocol: int, data_hash: str) -> str:
    content = {name: value for name, value in job.items() if name != "suite"}
    if content["source"] is not None:
        content["source"] = {**content["source"], "path": None}
    text = canonical([content, method_source, protocol, data_hash])
    return sha256(text.encode()).hexdigest()[:16]


# --- rows ----------------------------------------------------------------------------------------


def read(path: Path) -> list[Record]:
    """The rows of a results file; none if there is no such file.

    Raises:
        ValueError: not a results file, or a damaged one; names file, line and column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return _parse(file, path)
    except FileNotFoundError:
        return []


def write(path: Path, records: Iterable[Record]) -> None:
    """Replace the file; rows in a fixed order, the later of two with the same key."""
    unique = {record.key: record for record in records}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_columns())
    for record in sorted(unique.values(), key=_order):
        table.writerow([_cell(getattr(record, name)) for name in _columns()])
    write_text(path, text.getvalue())


def put(path: Path, record: Record) -> None:
    """Store one row: it takes the place of the row of its cell, whatever that one's key."""
    files = Files()
    files.put(path, record)
    files.save()


class Files:
    """The results files of one process that alone writes them: rows in memory, written at times.

    A file is always written as a whole, which for many rows takes longer than to make one. So
    :meth:`save_at_times` writes as often as takes a twentieth of the time at most. What a killed
    process had not saved is in its bundles.
    """

    def __init__(self) -> None:
        self._rows: dict[Path, dict[tuple[Any, ...], Record]] = {}
        self._unsaved: set[Path] = set()
        self._next = -math.inf

    def put(self, path: Path, record: Record, outdated: Collection[str] = ()) -> None:
        """Take in a row, in the place of that of its cell and of those with ``outdated`` keys.

        Raises:
            ValueError: the file there is cannot be read.
        """
        if path not in self._rows:
            self._rows[path] = {other.cell: other for other in read(path)}
        rows = self._rows[path]
        if outdated:
            rows = {cell: other for cell, other in rows.items() if other.key not in outdated}
            self._rows[path] = rows
        rows[record.cell] = record
        self._unsaved.add(path)

    def save_at_times(self) -> None:
        """Save, unless that was done too short a time ago."""
        if self._unsaved and time.monotonic() >= self._next:
            self.save()

    def save(self) -> None:
        """Write what is not written.

        Raises:
            OSError: a file cannot be written; it is as it was before.
        """
        since = time.monotonic()
        for path in sorted(self._unsaved):
            write(path, self._rows[path].values())
            self._unsaved.remove(path)
        now = time.monotonic()
        self._next = now + 20 * (now - since)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, even if the machine stops or the disk is full."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """:func:`write_text` of what is no text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _flushed(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(results: Path) -> Iterator[None]:
    """An error in writing results says so, and what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"results cannot be written in {results}: {error}. What is finished is kept; when"
            " this is put right, the same command goes on from here"
        ) from error


def _order(record: Record) -> tuple[object, ...]:
    # Of two rows of one cell only the keywords differ, and the job's JSON tells them.
    return (*record.cell[1:], record.job)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return repr(value)
        case _:
            return str(value)


def _parse(file: Iterable[str], path: Path) -> list[Record]:
    table = csv.reader(file, strict=True)
    try:
        header = next(table, [])
        _check_header(header)
        return [_record(header, values) for values in table]
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}, line {max(table.line_num, 1)}: {error}") from error


def _check_header(header: Sequence[str]) -> None:
    known = _columns()
    # What may be empty may be absent: a row of an earlier version has no later columns.
    columns = [name for name, (_, optional) in known.items() if name in header or not optional]
    for name in columns:
        if name not in header:
            raise ValueError(f"not a results file: column {name!r} is missing")
    for name in header:
        if name not in known:
            raise ValueError(f"not a results file: column {name!r} is unknown")
    if header != columns:
        raise ValueError("not a results file: the columns are in another order")


def _record(header: Sequence[str], values: Sequence[str]) -> Record:
    if len(values) != len(header):
        raise ValueError(f"{len(values)} cells where {len(header)} are expected")
    there = {name: _value(name, text) for name, text in zip(header, values, strict=True)}
    return Record(**_empty() | there)


def _value(name: str, text: str) -> Any:  # noqa: ANN401 - the type is the column's
    kind, optional = _columns()[name]
    if optional and not text:
        return None
    if kind is bool and text in ("True", "False"):
        return text == "True"
    try:
        return _number(text, kind) if kind is not str else text
    except ValueError:
        raise ValueError(f"column {name!r} holds {text!r}; {_WANTED[kind]} is expected") from None


def _number(text: str, kind: type) -> int | float:
    if kind is int:
        return int(text)
    if kind is float:
        return float(text)
    raise ValueError(text)


def _empty() -> dict[str, Any]:
    return {name: None for name, (_, optional) in _columns().items() if optional}


_WANTED = {bool: "True or False", int: "a whole number", float: "a number"}


@cache
def _columns() -> dict[str, tuple[type, bool]]:
    """Each column's type, and whether it may be empty, read off the record itself."""
    kinds = {name: get_args(hint) or (hint,) for name, hint in get_type_hints(Record).items()}
    return {name: (kind[0], NoneType in kind) for name, kind in kinds.items()}


# --- bundles -------------------------------------------------------------------------------------


def write_bundle(
    runs: Path,
    record: Record,
    *,
    curves: Sequence[Mapping[str, float]],
    overlay: Mapping[str, object] | None,
    weights: Callable[[Path], None] | None = None,
    patcher: Callable[[Path], None] | None = None,
    boundaries: Callable[[Path], None] | None = None,
    log: str = "",
) -> Path:
    """Leave ``runs/<key>/`` with record, curves, overlay, log and the other files; return it."""
    place = runs / record.key
    temporary = runs / f".{record.key}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        _flushed(temporary / "record.json", (json.dumps(asdict(record), indent=1) + "\n").encode())
        _flushed(temporary / "curves.csv", _curves(curves).encode())
        if overlay is not None:
            _flushed(temporary / "overlay.json", (json.dumps(overlay) + "\n").encode())
        if log:
            _flushed(temporary / "log.txt", log.encode())
        files = {"weights.pt": weights, "patcher.pt": patcher, "boundaries.npz": boundaries}
        for name, save in files.items():
            if save is not None:
                _save(save, temporary / name)
        if place.exists():
            # A folder cannot be renamed onto a full one: an older run of the same key steps aside.
            older = runs / f"{temporary.name}.older"
            place.replace(older)
            shutil.rmtree(older, ignore_errors=True)
        temporary.replace(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return place


def read_bundle(path: Path) -> Bundle:
    """What :func:`write_bundle` left.

    Raises:
        ValueError: no bundle there, or a damaged one.
    """
    try:
        there = json.loads((path / "record.json").read_text(encoding="utf-8"))
        record = Record(**_empty() | there)
        curves = csv.DictReader(io.StringIO((path / "curves.csv").read_text(encoding="utf-8")))
        epochs = tuple({name: float(value) for name, value in epoch.items()} for epoch in curves)
        overlay = path / "overlay.json"
        shown = json.loads(overlay.read_text(encoding="utf-8")) if overlay.exists() else None
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the bundle of a run: {error}") from error
    weights, patcher, log = path / "weights.pt", path / "patcher.pt", path / "log.txt"
    boundaries = path / "boundaries.npz"
    return Bundle(
        record=record,
        curves=epochs,
        overlay=shown,
        weights=weights if weights.exists() else None,
        patcher=patcher if patcher.exists() else None,
        boundaries=boundaries if boundaries.exists() else None,
        log=log.read_text(encoding="utf-8") if log.exists() else "",
    )


def recorded(runs: Path, keys: Iterable[str]) -> dict[str, Record]:
    """The records of those bundles that are there and whole, by key."""
    try:
        there = set(os.listdir(runs))  # noqa: PTH208 - names are all that is needed
    except FileNotFoundError:
        return {}
    found = {}
    for key in there.intersection(keys):
        try:
            told = json.loads((runs / key / "record.json").read_text(encoding="utf-8"))
            record = Record(**_empty() | told)
        except (OSError, TypeError, ValueError):
            continue  # a damaged bundle is no record: the run is done again
        if key == record.key == recomputed_key(record):
            found[key] = record
    return found


def clear(folder: Path) -> None:
    """Remove what processes that are dead have begun to write in ``folder`` and not finished."""
    for path in folder.glob(".*"):
        begun = re.fullmatch(r"\..+\.(\d+)(\.older)?", path.name)
        if begun is None or _is_alive(int(begun[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True  # somebody else's; or no process at all, and then no file of ours
    return True


def _curves(curves: Sequence[Mapping[str, float]]) -> str:
    text = io.StringIO()
    if curves:
        table = csv.DictWriter(text, fieldnames=list(curves[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(
            {name: repr(float(value)) for name, value in epoch.items()} for epoch in curves
        )
    return text.getvalue()


def _save(save: Callable[[Path], None], path: Path) -> None:
    try:
        save(path)
    except RuntimeError as error:
        # What torch says when a file cannot be written is about its own insides.
        if "inline_container" in str(error):
            said = f"{os.strerror(errno.ENOSPC)}?"
            raise OSError(errno.ENOSPC, said, str(path)) from error
        raise
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _flushed(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
