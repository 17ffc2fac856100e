"""How fast it is, as ratios in one run: against a conventional loop and the machine's limit.

Every contender works in a fresh process of its own, on one thread. They take turns, a round each,
A B A B, so that whatever else the machine does meets all of them alike.
"""

from __future__ import annotations

import math
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from harness import data
from harness.bench import local
from harness.core.files import write_text
from harness.core.job import Job, Provenance, Record, new_record
from harness.core.task import Architecture, Budget, Task
from harness.model import registry
from harness.model.patcher import Patcher
from harness.results.bundles import write_bundle
from harness.results.rows import put_row, write_rows
from harness.run import windows
from harness.run.cost import cost
from harness.run.device import device_name
from harness.run.fit import fit, validation_error
from harness.run.job import build, run

TASK = Task("ETTh1", look_back=336, horizon=96, patches=21, season=24)
LONG = Task("ETTh1", look_back=512, horizon=96, patches=32, season=24)
BATCH = 128
SQUARES = (512, 1024, 2048)
PRODUCTS = 1e10  # floating-point operations in a round of matrix products


@dataclass(frozen=True)
class Configuration:
    """A size of PatchTST, and how many ``steps`` and ``windows`` are a round of it.

    ``target``: at least so many times the windows a second of the conventional loop;
    ``target_share``: at least that share of the best matrix-multiply rate.
    """

    architecture: Architecture
    steps: int
    windows: int
    target: float
    target_share: float

    def __str__(self) -> str:
        return f"d{self.architecture.width} ff{self.architecture.feedforward}"

    def job(self, **options: Any) -> Job:  # noqa: ANN401 - fields of a budget
        """Its training, with options of the budget."""
        budget = Budget(**{"batch": BATCH, "steps": self.steps} | options)
        return Job("perf", "patchtst", TASK, 1, architecture=self.architecture, budget=budget)


CONFIGURATIONS = (
    Configuration(Architecture(), steps=3, windows=512, target=4.0, target_share=0.30),
    Configuration(
        Architecture(width=64, heads=8), steps=1, windows=256, target=2.2, target_share=0.55
    ),
    Configuration(
        Architecture(width=128, heads=16, feedforward=256, dropout=0.2),
        steps=1,
        windows=128,
        target=2.0,
        target_share=0.65,
    ),
)


@dataclass(frozen=True)
class Stage:
    """What all contenders share; ``pairs`` is the number of rounds that count."""

    series: data.Series
    device: str
    pairs: int


@dataclass(frozen=True)
class Table:
    """A section of the report."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"## {self.title}\n\n{self.note}\n\n{grid}\n"


def main(
    results: Path,
    directories: Sequence[Path] = (),
    *,
    pairs: int = 9,
    configurations: Sequence[Configuration] = CONFIGURATIONS,
    only_patchers: bool = False,
    say: Callable[[str], object] = print,
) -> None:
    """Measure, write ``results/perf.md`` and ``results/cost.md`` and show them; takes minutes.

    The second, with ``cost.csv`` for the leaderboards, is what patchers cost beside one another;
    ``only_patchers`` leaves the first as it is. ``directories`` are where ETTh1 is looked for;
    without it a random walk of its shape is used.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    stage = Stage(_series(directories), device, pairs)
    if not only_patchers:
        tables = []
        for table in _measured(stage, configurations, directories):
            say(f"measured: {table.title}")
            tables.append(table)
        text = report("Performance", stage, tables)
        write_text(results / "perf.md", text)
        say(text)
    patchers, ratios = patching(stage)
    lines = ["method,ratio", *(f"{name},{ratio:.3f}" for name, ratio in ratios.items())]
    write_text(results / "cost.csv", "\n".join(lines) + "\n")
    text = report("Cost of patching", stage, [patchers])
    write_text(results / "cost.md", text)
    say(text)


def report(title: str, stage: Stage, tables: Sequence[Table]) -> str:
    """The tables as Markdown, after how they were measured; without a date."""
    return "\n".join(
        [
            _PREFACE.format(
                title=title,
                device=device_name(stage.device),
                torch=torch.__version__,
                series=stage.series.name,
                pairs=stage.pairs,
            ),
            *map(str, tables),
        ]
    )


_PREFACE = """# {title}

Written by `make perf` (`python -m harness perf`) on {device}, torch {torch}, data: {series}.

Everything ran in fresh processes of one thread each, which took turns, A B A B, for {pairs}
rounds after a warm-up. A ratio is the median over the rounds of the ratio in each, with the
smallest and the largest beside it; in processor time (on a GPU: device time), if not marked wall.
Ratios can be compared between machines; seconds cannot.
"""


def _series(directories: Sequence[Path]) -> data.Series:
    """ETTh1, or a random walk of its shape: no time measured here depends on the values."""
    try:
        return data.load(TASK.dataset, directories)
    except FileNotFoundError:
        real = data.entry(TASK.dataset)
        steps = np.random.default_rng(1).standard_normal((real.rows, real.channels))
        return data.Series(
            name=f"a random walk of the shape of {TASK.dataset}",
            values=steps.cumsum(axis=0),
            channels=tuple(map(str, range(real.channels))),
            frequency=real.frequency,
            season=real.season,
            borders=real.borders,
            hash="",
        )


def _measured(
    stage: Stage, configurations: Sequence[Configuration], directories: Sequence[Path]
) -> Iterator[Table]:
    limit, square = floor(stage, configurations)
    yield limit
    trained_table, trained = training(stage, configurations, square)
    yield trained_table
    scored_table, scored = inference(stage, configurations)
    yield scored_table
    yield epoch(stage, configurations, trained, scored)
    yield options(stage, configurations[:2])
    yield overheads(stage, directories)


# --- what is measured ----------------------------------------------------------------------------


def floor(stage: Stage, configurations: Sequence[Configuration]) -> tuple[Table, int]:
    """Matrix-multiply rates, and the size of the square with the best one."""
    squares = {f"square {size}": (size, size, size) for size in SQUARES}
    own = {f"feed-forward of {each}": _feedforward(stage, each) for each in configurations}
    shapes = squares | own
    timings = race([partial(multiply, shape, stage) for shape in shapes.values()], stage.pairs)
    rates = {
        name: operations(shape) / timing.busy / 1e9
        for (name, shape), timing in zip(shapes.items(), timings, strict=True)
    }
    table = Table(
        title="The limit: matrix products",
        note="GFLOP/s in fp32. The best square is the limit of which shares are given below; the"
        " models' own products are long and thin.",
        header=("product", "m x k x n", "GFLOP/s"),
        rows=[
            (name, " x ".join(map(str, shape)), f"{rates[name]:.1f}")
            for name, shape in shapes.items()
        ],
    )
    return table, shapes[max(squares, key=rates.__getitem__)][0]


def _feedforward(stage: Stage, configuration: Configuration) -> tuple[int, int, int]:
    """The largest product of a training step: all tokens of a batch, from width to hidden."""
    tokens = build(registry.find("patchtst"), configuration.job(), "cpu").tokens or 1
    rows = BATCH * len(stage.series.channels) * tokens
    return rows, configuration.architecture.width, configuration.architecture.feedforward


class Speed(NamedTuple):
    """Windows a second of both sides, and the table's cells that say so."""

    ours: float
    conventional: float
    cells: tuple[str, ...]


_SPEED = ("configuration", "ours", "conventional", "ratio", "min-max", "ratio, wall", "target")


def _speed(name: str, count: int, ours: Timing, usual: Timing, target: float) -> Speed:
    """From rounds of ``count`` windows."""
    rates = count / ours.busy, count / usual.busy
    ratios = (*_spread(usual.over(ours)), f"{median(usual.over(ours, 'wall')):.2f}")
    cells = (name, f"{rates[0]:.0f}", f"{rates[1]:.0f}", *ratios, f"{target:g}")
    return Speed(*rates, cells)


def _spread(ratios: Sequence[float]) -> tuple[str, str]:
    return f"{median(ratios):.2f}", f"{min(ratios):.2f}-{max(ratios):.2f}"


def training(
    stage: Stage, configurations: Sequence[Configuration], square: int
) -> tuple[Table, list[Speed]]:
    """Windows trained on a second, and the share of the machine's limit that this is."""
    shape = (square, square, square)
    speeds, rows = [], []
    for each in configurations:
        job = each.job()
        works = [partial(train, job, stage), partial(train_conventionally, job, stage)]
        ours, usual, product = race([*works, partial(multiply, shape, stage)], stage.pairs)
        count = BATCH * each.steps
        speeds.append(_speed(str(each), count, ours, usual, each.target))
        used = _operations_of_a_step(stage, job) * each.steps / operations(shape)
        share = median(used / ratio for ratio in ours.over(product))
        cells = (f"{share:.0%}", f"{each.target_share:.0%}", f"{difference(job, stage):.0e}")
        rows.append((*speeds[-1].cells, *cells))
    table = Table(
        title="Training",
        note=f"Windows (all channels) a second of PatchTST at look-back {TASK.look_back}, horizon"
        f" {TASK.horizon}, batch {BATCH}: our `fit` against a loop of the usual kind (DataLoader,"
        " `nn.Dropout`, feed-forward as convolutions, unfused Adam, `.item()` at every step, no"
        " test in between). Ours keeps freed memory, as the workers of a bench do. Limit: the best"
        " square product, which took its turns with both."
        " Difference: the largest between forecasts of both from the same weights.",
        header=(*_SPEED, "share of limit", "target", "difference"),
        rows=rows,
    )
    return table, speeds


def _operations_of_a_step(stage: Stage, job: Job) -> int:
    model = build(registry.find(job.method), job, stage.device)
    fitted, _ = windows.development(stage.series, job.task, stage.device)
    return cost(model, fitted, job.budget).flops_step


def difference(job: Job, stage: Stage) -> float:
    """Largest difference between the two models' forecasts of a few windows."""
    model = build(registry.find(job.method), job, "cpu").eval()
    usual = Conventional.like(model).eval()
    batch = windows.development(stage.series, job.task)[1].batch(torch.arange(4))
    with torch.inference_mode():
        ours = model(batch.past, batch.ids).future[0]
        return float((ours - usual(batch.past.transpose(1, 2)).transpose(1, 2)).abs().max())


def inference(stage: Stage, configurations: Sequence[Configuration]) -> tuple[Table, list[Speed]]:
    """Windows forecast and scored a second."""
    speeds = []
    for each in configurations:
        sides = [partial(side, each, stage) for side in (score, score_conventionally)]
        ours, usual = race(sides, stage.pairs)
        speeds.append(_speed(str(each), each.windows, ours, usual, target=2.0))
    table = Table(
        title="Inference",
        note="Windows forecast and scored a second, by the same two.",
        header=_SPEED,
        rows=[speed.cells for speed in speeds],
    )
    return table, speeds


def epoch(
    stage: Stage,
    configurations: Sequence[Configuration],
    trained: Sequence[Speed],
    scored: Sequence[Speed],
) -> Table:
    """Seconds of an epoch with its validation, derived from the two tables before."""
    fitted, valid = map(len, windows.development(stage.series, TASK))
    rows = []
    for each, train_speed, score_speed in zip(configurations, trained, scored, strict=True):
        ours = fitted / train_speed.ours + valid / score_speed.ours
        usual = fitted / train_speed.conventional + valid / score_speed.conventional
        rows.append((str(each), f"{ours:.1f}", f"{usual:.1f}", f"{usual / ours:.2f}"))
    return Table(
        title="An epoch with its validation",
        note=f"Derived, not measured: seconds of one core for {fitted} training and {valid}"
        " validation windows at the speeds above.",
        header=("configuration", "ours", "conventional", "ratio"),
        rows=rows,
    )


def patching(stage: Stage) -> tuple[Table, dict[str, float]]:
    """The training step of every patcher that competes, relative to ``uniform``, by name."""
    methods = {name: registry.find(name) for name in registry.names()}
    names = sorted(
        filter(lambda name: registry.ranked(methods[name]), methods), key="uniform".__ne__
    )
    budget = Budget(batch=BATCH, steps=2)
    jobs = [Job("perf", name, LONG, 1, budget=budget) for name in names]
    # So few windows that each is used more than once: fixed boundaries are then planned before.
    timings = race([partial(train, job, stage, some=2 * BATCH) for job in jobs], stage.pairs)
    ratios = {name: timing.over(timings[0]) for name, timing in zip(names, timings, strict=True)}
    rows = [
        (
            name,
            f"{1000 * timing.busy / 2:.0f}",
            *_spread(ratios[name]),
            _at_most(methods[name]),
        )
        for name, timing in zip(names, timings, strict=True)
    ]
    table = Table(
        title="Dynamic patching at equal tokens",
        note=f"A training step of the shared forecaster, look-back {LONG.look_back},"
        f" {LONG.patches} patches, batch {BATCH}, fp32; only the patcher changes. Boundaries that"
        " never change are planned before the first step: that time, and the training of a"
        " method's own model, is in the seconds of a run and not here.",
        header=("patcher", "step, ms", "times uniform", "min-max", "at most"),
        rows=rows,
    )
    return table, {name: median(each) for name, each in ratios.items()}


def _at_most(method: registry.Method) -> str:
    """The target: for policy gradients, for methods with gates over tokens, for the others."""
    assert issubclass(method, Patcher)
    patcher = method(LONG)
    if patcher.draws > 1:
        return "4"
    return "1.3" if method.uses_features and not method.strict else "1.15"


def options(stage: Stage, configurations: Sequence[Configuration]) -> Table:
    """Training with the options of a budget, against eager fp32."""
    rows: list[tuple[str, ...]] = []
    for each in configurations:
        jobs = {
            "eager, fp32": each.job(),
            "torch.compile": each.job(compile=True),
            "bfloat16": each.job(precision="bfloat16"),
        }
        plain, *others = race([partial(train, job, stage) for job in jobs.values()], stage.pairs)
        for name, timing in zip(list(jobs)[1:], others, strict=True):
            extra = timing.start.wall - plain.start.wall
            rows.append((str(each), name, *_spread(plain.over(timing)), f"{extra:.1f}"))
    return Table(
        title="Options",
        note="Speed relative to eager fp32, above 1 is faster; and by how many seconds (wall) the"
        " first round is longer: for torch.compile, what compiling from cold takes. Both options"
        " are off by default.",
        header=("configuration", "option", "speed", "min-max", "start, s"),
        rows=rows,
    )


def overheads(stage: Stage, directories: Sequence[Path]) -> Table:
    """What a job costs beside its work, and the memory that a whole run takes."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        records = [_record(seed) for seed in range(1009)]
        write_rows(place / "rows.csv", records[:1000])
        bundles = [_bundle(place, record) for record in records[:9]]
        spent = {
            "a job's key": _seconds([partial(_record, seed) for seed in range(9)]),
            "its bundle": _seconds([partial(_bundle, place, record) for record in records[:9]]),
            "its row, into a file of 1,000": _seconds(
                [partial(put_row, place / "rows.csv", record) for record in records[1000:]]
            ),
            "tracking": _seconds(_tracked(place, bundles)),
        }
    together = sum(spent.values())
    return Table(
        title="Overheads of a job",
        note="Wall time, medians of nine. Memory: a d16 run on ETTh1, a few steps and all of"
        " validation and test.",
        header=("what", "measured", "target"),
        rows=[
            *((name, f"{1000 * seconds:.1f} ms", "") for name, seconds in spent.items()),
            ("together", f"{together:.2f} s", "under 0.3 s"),
            ("peak memory, batch 32", _memory(stage, directories, 32), "under 450 MB"),
            (f"peak memory, batch {BATCH}", _memory(stage, directories, BATCH), ""),
        ],
    )


def _record(seed: int) -> Record:
    return new_record(
        replace(CONFIGURATIONS[0].job(), seed=seed),
        Provenance("", ""),
        status="done",
        kind="reference",
        ranked=False,
        method_source="",
        data_hash="",
        data_verified=True,
        device="",
        mse=1.0,
        mae=1.0,
    )


def _bundle(runs: Path, record: Record) -> Path:
    curves = [{"epoch": number, "valid_mse": 1 / number} for number in range(1, 11)]
    return write_bundle(runs, record, curves=curves, overlay=None)


def _tracked(results: Path, bundles: Sequence[Path]) -> list[Callable[[], object]]:
    from harness.report.tracking import (
        Tracker,  # MLflow takes seconds to import, and only this needs it
    )

    tracker = Tracker(results, "perf")
    return [partial(tracker.record, bundle) for bundle in bundles]


def _seconds(acts: Sequence[Callable[[], object]]) -> float:
    """Median wall time of an act."""
    spent = []
    for act in acts:
        since = time.perf_counter()
        act()
        spent.append(time.perf_counter() - since)
    return median(spent)


def _memory(stage: Stage, directories: Sequence[Path], batch: int) -> str:
    if stage.series.name != TASK.dataset:
        return f"not measured: {TASK.dataset} is not at hand"
    job = CONFIGURATIONS[0].job(epochs=1, batch=batch)
    with TemporaryDirectory() as folder:
        work = partial(_run, directories=directories, device=stage.device, runs=Path(folder))
        *_, last = local.run_locally([job], work, local.cpu_slots(1))
    assert isinstance(last, local.Finished)
    if last.result is None:
        raise RuntimeError(last.error)
    return f"{last.result.peak_memory_mb:.0f} MB"


def _run(
    job: Job, say: local.Say, *, directories: Sequence[Path], device: str, runs: Path
) -> Record:
    origin = Provenance("", "")
    return run(
        job, directories=directories, device=device, runs=runs, provenance=origin, on_epoch=say
    )


# --- taking turns --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spent:
    """Seconds of one round: ``busy`` of the processor (of the GPU, if there is one), and wall."""

    busy: float
    wall: float


@dataclass(frozen=True)
class Timing:
    """A contender's rounds; ``start`` is the first, with all that is done only once."""

    start: Spent
    rounds: tuple[Spent, ...]

    @property
    def busy(self) -> float:
        """Seconds of the median round."""
        return median(spent.busy for spent in self.rounds)

    def over(self, other: Timing, clock: Literal["busy", "wall"] = "busy") -> list[float]:
        """How many times as long as ``other`` it took, round by round."""
        pairs = zip(self.rounds, other.rounds, strict=True)
        return [getattr(mine, clock) / getattr(its, clock) for mine, its in pairs]


Work = Callable[[Callable[[], None]], None]
"""Calls what it is given after each round; the first one is the warm-up, and there is no last."""


def race(works: Sequence[Work], pairs: int) -> list[Timing]:
    """Let the works take turns, for a warm-up and then ``pairs`` rounds. Works are pickled.

    Raises:
        RuntimeError: a work that failed; says with what.
    """
    with ExitStack() as stack:
        lanes = [stack.enter_context(_lane(work)) for work in works]
        laps = [[_turn(lane) for lane in lanes] for _ in range(pairs + 1)]
    return [Timing(start, tuple(rounds)) for start, *rounds in zip(*laps, strict=True)]


@contextmanager
def _lane(work: Work) -> Iterator[Connection[Any, Any]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_take_turns, args=(work, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()  # at which the work stops, wherever it waits for its turn
        process.join(timeout=5)
        process.kill()
        process.join()


def _turn(lane: Connection[Any, Any]) -> Spent:
    lane.send("go")
    try:
        answer = lane.recv()
    except EOFError:
        raise RuntimeError("a process that was being measured has died") from None
    if isinstance(answer, Spent):
        return answer
    raise RuntimeError(answer)


def _take_turns(work: Work, pipe: Connection[Any, Any]) -> None:
    torch.set_num_threads(1)

    def wait() -> _Clocks:
        try:
            pipe.recv()
        except EOFError:
            raise SystemExit from None
        return _clocks()

    since = wait()

    def lap() -> None:
        nonlocal since
        pipe.send(_spent(since, _clocks()))
        since = wait()

    try:
        work(lap)
    except Exception as error:  # noqa: BLE001 - the parent raises it
        pipe.send(f"{type(error).__name__}: {error}")


class _Clocks(NamedTuple):
    process: float
    wall: float
    event: torch.cuda.Event | None


def _clocks() -> _Clocks:
    event = None
    if torch.cuda.is_available():
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        event.synchronize()
    return _Clocks(time.process_time(), time.perf_counter(), event)


def _spent(since: _Clocks, now: _Clocks) -> Spent:
    wall = now.wall - since.wall
    if since.event is None or now.event is None:
        return Spent(now.process - since.process, wall)
    return Spent(since.event.elapsed_time(now.event) / 1000, wall)


# --- the contenders ------------------------------------------------------------------------------


def train(job: Job, stage: Stage, lap: Callable[[], None], *, some: int | None = None) -> None:
    """Our training: :func:`harness.run.fit.fit`, an epoch a round, one window to validate on.

    On the first ``some`` training windows, or on all.
    """
    local.keep_memory()
    if job.budget.compile:
        # From cold, as in a first run, and not from what an earlier one left on disk.
        torch.compiler.config.force_disable_caches = True
        warnings.filterwarnings("ignore", message="dynamo_pgo force disabled")
    model = build(registry.find(job.method), job, stage.device)
    fitted, valid = windows.development(stage.series, job.task, stage.device)
    if some is not None:
        fitted = first(fitted, some)
    rounds = stage.pairs + 1
    budget = replace(job.budget, epochs=rounds, patience=rounds)
    fit(model, fitted, first(valid, 1), budget, seed=job.seed, on_epoch=lambda epoch: lap())


def train_conventionally(job: Job, stage: Stage, lap: Callable[[], None]) -> None:
    """The loop of most public code, for the same model from the same weights."""
    model = Conventional.like(build(registry.find(job.method), job, "cpu")).to(stage.device)
    fitted, _ = windows.development(stage.series, job.task)
    loader = DataLoader(Slices(fitted), job.budget.batch, shuffle=True)
    optimiser = torch.optim.Adam(model.parameters(), lr=job.budget.learning_rate)
    criterion = nn.MSELoss()
    model.train()
    losses: list[float] = []
    while True:
        for step, (past, future) in enumerate(loader, 1):
            optimiser.zero_grad()
            output = model(past.float().to(stage.device))
            loss = criterion(output, future.float().to(stage.device))
            losses.append(loss.item())
            loss.backward()
            optimiser.step()
            if step == job.budget.steps:
                break
        lap()


def score(configuration: Configuration, stage: Stage, lap: Callable[[], None]) -> None:
    """Our inference: the validation error of some windows, over and over."""
    local.keep_memory()
    job = configuration.job()
    model = build(registry.find(job.method), job, stage.device)
    _, valid = windows.development(stage.series, job.task, stage.device)
    while True:
        validation_error(model, first(valid, configuration.windows), job.budget)
        lap()


def score_conventionally(
    configuration: Configuration, stage: Stage, lap: Callable[[], None]
) -> None:
    """The same error by the loop of most public code."""
    job = configuration.job()
    model = Conventional.like(build(registry.find(job.method), job, "cpu")).to(stage.device)
    _, valid = windows.development(stage.series, job.task)
    while True:
        conventional_error(model, first(valid, configuration.windows), stage.device)
        lap()


def conventional_error(model: nn.Module, some: windows.Windows, device: str) -> float:
    """Mean squared error over the windows: all forecasts to numpy first, then the mean."""
    model.eval()
    outputs, targets = [], []
    with torch.no_grad():
        for past, future in DataLoader(Slices(some), BATCH):
            outputs.append(model(past.float().to(device)).cpu().numpy())
            targets.append(future.numpy())
    return float(np.mean((np.concatenate(outputs) - np.concatenate(targets)) ** 2))


def multiply(shape: tuple[int, int, int], stage: Stage, lap: Callable[[], None]) -> None:
    """Matrix products [m, k] x [k, n] and nothing else."""
    rows, inner, columns = shape
    left = torch.rand(rows, inner, device=stage.device)
    right = torch.rand(inner, columns, device=stage.device)
    out = torch.empty(rows, columns, device=stage.device)
    while True:
        for _ in range(operations(shape) // (2 * math.prod(shape))):
            torch.mm(left, right, out=out)
        lap()


def operations(shape: tuple[int, int, int]) -> int:
    """Floating-point operations in a round of :func:`multiply`; an addition is one as well."""
    product = 2 * math.prod(shape)
    return math.ceil(PRODUCTS / product) * product


def first(some: windows.Windows, count: int) -> windows.Windows:
    """The first ``count`` windows."""
    return replace(some, starts=some.starts[:count])


class Slices(Dataset[tuple[NDArray[np.float64], NDArray[np.float64]]]):
    """Windows cut one by one out of a numpy table [time, channel], as most loaders do."""

    def __init__(self, some: windows.Windows) -> None:
        self.table = some.values.T.cpu().double().numpy().copy()
        self.look_back, self.horizon, self.count = some.look_back, some.horizon, len(some)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        end = index + self.look_back
        return self.table[index:end], self.table[end : end + self.horizon]


class Conventional(nn.Module):
    """PatchTST with the usual parts: separate projections, convolutions for the feed-forward net.

    The same function as ``methods/patchtst.py`` of weights laid out in another way, in
    [batch, time, channel] as loaders deliver it.
    """

    def __init__(self, ours: Any) -> None:  # noqa: ANN401 - the harness may not import a method
        super().__init__()
        count, width = ours.position.shape
        rate = ours.dropout.dropped / 256
        self.length, self.stride = ours.length, ours.stride
        self.pad = nn.ReplicationPad1d((0, ours.stride))
        self.embed = nn.Linear(ours.length, width)
        self.position = nn.Parameter(torch.empty(count, width))
        self.dropout = nn.Dropout(rate)
        self.layers = nn.ModuleList(ConventionalLayer(layer, rate) for layer in ours.layers)
        self.flatten = nn.Flatten(start_dim=-2)
        self.head = nn.Linear(count * width, ours.task.horizon)

    @classmethod
    def like(cls, ours: nn.Module) -> Conventional:
        """The same model with the same weights."""
        model = cls(ours)
        model.load_state_dict(_renamed(ours.state_dict()))
        return model

    def forward(
        self, past: Float[Tensor, "batch time channel"]
    ) -> Float[Tensor, "batch horizon channel"]:
        mean = past.mean(1, keepdim=True)
        scale = torch.sqrt(torch.var(past, dim=1, keepdim=True, unbiased=False) + 1e-5)
        normal = ((past - mean) / scale).permute(0, 2, 1)
        patches = self.pad(normal).unfold(dimension=-1, size=self.length, step=self.stride)
        batch, channel, count, length = patches.shape
        token = self.embed(patches.reshape(batch * channel, count, length))
        token = self.dropout(token + self.position)
        scores = None
        for layer in self.layers:
            token, scores = layer(token, scores)
        token = token.reshape(batch, channel, count, -1).permute(0, 1, 3, 2)
        future = self.head(self.flatten(token))
        return future.permute(0, 2, 1) * scale + mean


class ConventionalLayer(nn.Module):
    """Attention, then convolutions of width 1 as feed-forward net; transposes at batch norms."""

    def __init__(self, ours: Any, rate: float) -> None:  # noqa: ANN401 - as above
        super().__init__()
        width, hidden = ours.widen.in_features, ours.widen.out_features
        self.heads = ours.heads
        self.query, self.key, self.value, self.join = (nn.Linear(width, width) for _ in range(4))
        self.widen = nn.Conv1d(width, hidden, kernel_size=1)
        self.narrow = nn.Conv1d(hidden, width, kernel_size=1)
        self.norm_attention, self.norm_feedforward = nn.BatchNorm1d(width), nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(rate)

    def forward(
        self,
        token: Float[Tensor, "row patch width"],
        below: Float[Tensor, "row head patch patch"] | None,
    ) -> tuple[Float[Tensor, "row patch width"], Float[Tensor, "row head patch patch"]]:
        row, patch, width = token.shape
        query = self.query(token).view(row, patch, self.heads, -1).transpose(1, 2)
        key = self.key(token).view(row, patch, self.heads, -1).permute(0, 2, 3, 1)
        value = self.value(token).view(row, patch, self.heads, -1).transpose(1, 2)
        scores = torch.matmul(query, key) * (width // self.heads) ** -0.5
        if below is not None:
            scores = scores + below
        mixed = torch.matmul(torch.softmax(scores, dim=-1), value)
        mixed = self.join(mixed.transpose(1, 2).contiguous().view(row, patch, width))
        token = token + self.dropout(mixed)
        token = self.norm_attention(token.transpose(1, 2)).transpose(1, 2)
        hidden = self.dropout(nn.functional.gelu(self.widen(token.transpose(1, 2))))
        token = token + self.dropout(self.narrow(hidden).transpose(1, 2))
        return self.norm_feedforward(token.transpose(1, 2)).transpose(1, 2), scores


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if "query_key_value" in name:
            thirds = zip(("query", "key", "value"), value.chunk(3), strict=True)
            renamed |= {name.replace("query_key_value", part): third for part, third in thirds}
        elif name.endswith(("widen.weight", "narrow.weight")):
            renamed[name] = value[..., None]
        else:
            renamed[name] = value
    return renamed
