"""A table for each question of speed: the limit, training, inference, options, patchers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from harness.core.files import write_text
from harness.core.job import Job
from harness.core.task import Budget
from harness.model import registry
from harness.model.patcher import Patcher
from harness.run import windows
from harness.run.cost import cost
from harness.run.device import has_bfloat16
from harness.run.job import build
from harness.studies.perf.contenders import (
    multiply,
    operations,
    score,
    score_conventionally,
    train,
    train_conventionally,
)
from harness.studies.perf.conventional import Conventional
from harness.studies.perf.kernels import BEFORE, KINDS, REST, spent_in
from harness.studies.perf.overheads import overheads
from harness.studies.perf.peers import Peer, train_peer
from harness.studies.perf.race import Timing, Work, race
from harness.studies.perf.report import Table, report
from harness.studies.perf.setting import (
    BATCH,
    CONFIGURATIONS,
    LONG,
    TASK,
    Configuration,
    Stage,
    find_series,
)

SQUARES = (512, 1024, 2048)


def main(
    results: Path,
    directories: Sequence[Path] = (),
    *,
    device: str = "auto",
    rounds: int = 9,
    configurations: Sequence[Configuration] = CONFIGURATIONS,
    only_patchers: bool = False,
    peers: Sequence[Peer] = (),
    show: Callable[[str], object] = print,
) -> None:
    """Measure, write ``results/perf.md`` and ``results/cost.md`` and ``show`` them; takes minutes.

    On ``device`` "cpu", "cuda" (then they are ``perf-cuda.md`` and ``cost-cuda.md``) or "auto", a
    GPU if there is one. The second, with ``cost.csv`` for the leaderboards, is what patchers cost
    beside one another; ``only_patchers`` leaves the first as it is. ``directories`` are where
    ETTh1 is looked for; without it a random walk of its shape is used. ``peers`` are raced beside
    the others.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda: no GPU can be seen; cpu or auto works")
    suffix = "-cuda" if device == "cuda" else ""
    stage = Stage(find_series(directories), device, rounds)
    if not only_patchers:
        tables = []
        for table in _measured(stage, configurations, directories, peers):
            show(f"measured: {table.title}")
            tables.append(table)
        text = report("Performance", stage, tables)
        write_text(results / f"perf{suffix}.md", text)
        show(text)
    patchers, ratios = patching(stage)
    rows = ["method,ratio", *(f"{name},{ratio:.3f}" for name, ratio in ratios.items())]
    if not suffix:  # what leaderboards show beside each other is of one kind of device
        write_text(results / "cost.csv", "\n".join(rows) + "\n")
    text = report("Cost of patching", stage, [patchers])
    write_text(results / f"cost{suffix}.md", text)
    show(text)


def _measured(
    stage: Stage,
    configurations: Sequence[Configuration],
    directories: Sequence[Path],
    peers: Sequence[Peer],
) -> Iterator[Table]:
    products, square = limit(stage, configurations)
    yield products
    trained_table, trained = training(stage, configurations, square)
    yield trained_table
    if peers:
        yield beside_peers(stage, configurations, peers)
    yield where(stage, configurations)
    scored_table, scored = inference(stage, configurations)
    yield scored_table
    yield epoch(stage, configurations, trained, scored)
    yield options(stage, configurations[:2])
    yield overheads(stage, directories)


def limit(stage: Stage, configurations: Sequence[Configuration]) -> tuple[Table, int]:
    """Matrix-multiply rates, and the size of the square with the best one."""
    squares = {f"square {size}": (size, size, size) for size in SQUARES}
    own = {f"feed-forward of {each}": _feedforward(stage, each) for each in configurations}
    shapes = squares | own
    timings = race([partial(multiply, shape, stage) for shape in shapes.values()], stage.rounds)
    rates = {
        name: operations(shape) / timing.busy / 1e9
        for (name, shape), timing in zip(shapes.items(), timings, strict=True)
    }
    table = Table(
        title="The limit: matrix products",
        note="GFLOP/s in fp32. The best square is the limit of which shares are given below; the"
        " models' own products are long and thin.",
        header=("product", "m x k x n", "GFLOP/s"),
        lines=[
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
    """Windows a second of both sides, and the line of the table that says so."""

    ours: float
    conventional: float
    line: tuple[str, ...]


_SPEED = ("configuration", "ours", "conventional", "ratio", "min-max", "ratio, wall", "target")


def _speed(name: str, count: int, ours: Timing, usual: Timing, target: float) -> Speed:
    """From rounds of ``count`` windows."""
    rates = count / ours.busy, count / usual.busy
    ratios = (*_spread(usual.over(ours)), f"{median(usual.over(ours, 'wall')):.2f}")
    line = (name, f"{rates[0]:.0f}", f"{rates[1]:.0f}", *ratios, f"{target:g}")
    return Speed(*rates, line)


def _spread(ratios: Sequence[float]) -> tuple[str, str]:
    return f"{median(ratios):.2f}", f"{min(ratios):.2f}-{max(ratios):.2f}"


def training(
    stage: Stage, configurations: Sequence[Configuration], square: int
) -> tuple[Table, list[Speed]]:
    """Windows trained on a second, and the share of the machine's limit that this is."""
    shape = (square, square, square)
    speeds, lines = [], []
    for each in configurations:
        job = each.job()
        works = [partial(train, job, stage), partial(train_conventionally, job, stage)]
        ours, usual, product = race([*works, partial(multiply, shape, stage)], stage.rounds)
        count = BATCH * each.steps
        speeds.append(_speed(str(each), count, ours, usual, each.target))
        used = _operations_of_a_step(stage, job) * each.steps / operations(shape)
        share = median(used / ratio for ratio in ours.over(product))
        more = (f"{share:.0%}", f"{each.target_share:.0%}", f"{difference(job, stage):.0e}")
        lines.append((*speeds[-1].line, *more))
    table = Table(
        title="Training",
        note=f"Windows (all channels) a second of PatchTST at look-back {TASK.look_back}, horizon"
        f" {TASK.horizon}, batch {BATCH}: our `fit` against a loop like the official PatchTST loop"
        " (DataLoader, `nn.Dropout`, separate projections, unfused Adam, `.item()` at every step;"
        " no test in between). `make perf PEERS=path` races a checkout of that one as well. Ours"
        " keeps freed memory, as the workers of a bench do. Limit: the best square product, which"
        " took its turns with both. Difference: the largest between forecasts of both from the"
        " same weights.",
        header=(*_SPEED, "share of limit", "target", "difference"),
        lines=lines,
    )
    return table, speeds


def beside_peers(
    stage: Stage, configurations: Sequence[Configuration], peers: Sequence[Peer]
) -> Table:
    """Windows trained on a second by us, by the loop above and by checkouts of public code."""
    lines = []
    for each in configurations:
        job = each.job()
        works = {
            "ours": partial(train, job, stage),
            "the loop above": partial(train_conventionally, job, stage),
            **{peer.kind.name: partial(train_peer, peer, each, stage) for peer in peers},
        }
        ours, *others = timings = race([*works.values()], stage.rounds)
        for name, timing in zip(works, timings, strict=True):
            rate = f"{BATCH * each.steps / timing.busy:.0f}"
            ratios = _spread(timing.over(ours)) if timing in others else ("1.00", "")
            lines.append((str(each), name, rate, *ratios))
    return Table(
        title="Training, beside public code",
        note="Windows a second of the training above, and how many times as fast ours is. A"
        " checkout is as its authors published it: its script, loader, model, loop and optimiser."
        " Only its validation does nothing, and its epochs have as many steps as a round.",
        header=("configuration", "loop", "windows/s", "ours is faster by", "min-max"),
        lines=lines,
    )


def where(stage: Stage, configurations: Sequence[Configuration]) -> Table:
    """Milliseconds of a step in each kind of kernel: our training, the loop above, ReinPatch."""
    works: dict[tuple[str, str], tuple[Work, int]] = {}
    longer = replace(stage, rounds=stage.rounds + BEFORE)
    for each in configurations:
        for name, act in (("ours", train), ("the loop above", train_conventionally)):
            works[str(each), name] = partial(act, each.job(), longer), each.steps
    for name in ("uniform", "reinpatch"):
        job = long_job(name)
        act = partial(train, job, longer, some=2 * BATCH)
        works[f"look-back {LONG.look_back}", name] = act, job.budget.steps or 1
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    lines = []
    for names, (work, steps) in works.items():
        spent = spent_in(work, stage.rounds, stage.device)
        shares = [1000 * seconds / steps for seconds in spent.values()]
        lines.append((*names, *(f"{share:.0f}" for share in (*shares, sum(shares)))))
    torch.set_num_threads(threads)
    return Table(
        title="Where the time goes",
        note="Milliseconds of a training step in each kind of kernel, by torch's profiler, in one"
        " thread of one process: of the training above, and of the shared forecaster as in"
        " `cost.md`. The products are the same sums on both sides, which no other order of the"
        " step saves: they bound what a ratio can be.",
        header=("configuration", "side", *KINDS, REST, "together"),
        lines=lines,
    )


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
        ours, usual = race(sides, stage.rounds)
        speeds.append(_speed(str(each), each.windows, ours, usual, target=2.0))
    table = Table(
        title="Inference",
        note="Windows forecast and scored a second, by the same two.",
        header=_SPEED,
        lines=[speed.line for speed in speeds],
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
    lines = []
    for each, train_speed, score_speed in zip(configurations, trained, scored, strict=True):
        ours = fitted / train_speed.ours + valid / score_speed.ours
        usual = fitted / train_speed.conventional + valid / score_speed.conventional
        lines.append((str(each), f"{ours:.1f}", f"{usual:.1f}", f"{usual / ours:.2f}"))
    return Table(
        title="An epoch with its validation",
        note=f"Derived, not measured: seconds of one core for {fitted} training and {valid}"
        " validation windows at the speeds above.",
        header=("configuration", "ours", "conventional", "ratio"),
        lines=lines,
    )


def patching(stage: Stage) -> tuple[Table, dict[str, float]]:
    """The training step of every patcher that competes, relative to ``uniform``, by name."""
    methods = {name: registry.find(name) for name in registry.names()}
    names = sorted(
        filter(lambda name: registry.ranked(methods[name]), methods), key="uniform".__ne__
    )
    jobs = [*map(long_job, names), long_job("reinpatch", rollout_share=0.5)]
    # So few windows that each is used more than once: fixed boundaries are then planned before.
    timings = race([partial(train, job, stage, some=2 * BATCH) for job in jobs], stage.rounds)
    ratios = [timing.over(timings[0]) for timing in timings]
    lines = [
        (
            " ".join([job.method, *(f"{key}={value}" for key, value in job.hyperparameters)]),
            f"{1000 * timing.busy / 2:.0f}",
            *_spread(ratio),
            _at_most(methods[job.method]),
        )
        for job, timing, ratio in zip(jobs, timings, ratios, strict=True)
    ]
    table = Table(
        title="Dynamic patching at equal tokens",
        note=f"A training step of the shared forecaster, look-back {LONG.look_back},"
        f" {LONG.patches} patches, batch {BATCH}, fp32; only the patcher changes. Boundaries that"
        " never change are planned before the first step: that time, and the training of a"
        " method's own model, is in the seconds of a run and not here.",
        header=("patcher", "step, ms", "times uniform", "min-max", "at most"),
        lines=lines,
    )
    return table, {name: median(each) for name, each in zip(names, ratios, strict=False)}


def long_job(method: str, **hyperparameters: float) -> Job:
    """Training of the shared forecaster at the longer look-back."""
    budget = Budget(batch=BATCH, steps=2)
    return Job(
        "perf", method, LONG, 1, budget=budget, hyperparameters=tuple(hyperparameters.items())
    )


def _at_most(method: registry.Method) -> str:
    """The target: for policy gradients, for methods with gates over tokens, for the others."""
    assert issubclass(method, Patcher)
    patcher = method(LONG)
    if patcher.draws > 1:
        return "3"
    if not method.uses_features:
        return "1.1"
    return "1.25" if method.strict else "1.5"


def options(stage: Stage, configurations: Sequence[Configuration]) -> Table:
    """Training with the options of a budget, against eager fp32."""
    lines: list[tuple[str, ...]] = []
    for each in configurations:
        works = {
            "eager, fp32": partial(train, each.job(), stage, record=False),
            "torch.compile": partial(train, each.job(compile=True), stage),
        }
        if stage.device == "cuda":
            works["recorded"] = partial(train, each.job(), stage)
        if has_bfloat16(stage.device):
            works["bfloat16"] = partial(train, each.job(precision="bfloat16"), stage, record=False)
        plain, *others = race([*works.values()], stage.rounds)
        for name, timing in zip(list(works)[1:], others, strict=True):
            extra = timing.start.wall - plain.start.wall
            lines.append((str(each), name, *_spread(plain.over(timing)), f"{extra:.1f}"))
    return Table(
        title="Options",
        note="Speed relative to eager fp32, above 1 is faster; and by how many seconds (wall) the"
        " first round is longer: for torch.compile, what compiling from cold takes. Both options"
        " are off by default; bfloat16 is refused by devices that have no units for it. Steps that"
        " are recorded once and replayed are what GPUs do by default.",
        header=("configuration", "option", "speed", "min-max", "start, s"),
        lines=lines,
    )
