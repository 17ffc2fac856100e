"""What the choice of boundaries could buy: the best of many random plans, picked with hindsight.

For every row of the test part, plans are drawn as ``random_step`` draws them and tried on a
backbone that was trained on such plans; the one whose forecast is nearest to the true future is
kept. That error is biased downwards: the best of M falls with M even where no plan is better than
another. So the same choice is scored on a backbone trained from another seed (the correction of
the winner's curse), which keeps only what both backbones make of a plan.

An oracle given a plan-agnostic backbone: one trained for the chosen plans could do better. And an
upper bound still: the plan is chosen for this one future, its noise included, and where both
backbones bend alike with the plan, fitting that noise is a gain on both. Nothing that sees only
the past can count on it, so these numbers are never rows and never ranked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from harness.core.files import write_text
from harness.core.job import Job, Record
from harness.core.task import Task
from harness.model import registry
from harness.model.forecaster import PatchForecaster, autocast
from harness.model.patcher import Patches
from harness.run import windows
from harness.run.job import build, load
from harness.run.windows import Batch

RANDOM, UNIFORM = "random_step", "uniform"
TASK = ["suite", "dataset", "look_back", "horizon", "patches"]

# Between the ids that two plans of one row are drawn from: no data set has so many rows.
_APART = 1 << 32


@dataclass(frozen=True)
class Run:
    """A finished run whose weights are on this machine."""

    job: Job
    key: str
    weights: Path


@dataclass(frozen=True)
class Backbones:
    """The runs of one task, by seed: at least two that draw at random, and the uniform ones."""

    random: tuple[Run, ...]
    uniform: tuple[Run, ...] = ()

    @property
    def task(self) -> Task:
        return self.random[0].job.task


def find(
    finished: Iterable[tuple[Job, Record]], suite: str, runs: Path
) -> tuple[list[Backbones], list[str]]:
    """The tasks that can be measured, with their runs, and what the other tasks lack.

    ``finished`` are jobs of ``suite`` with their rows (those that diverged do not count), ``runs``
    is the folder of the bundles.

    Raises:
        ValueError: there is nothing to measure; the message says what to type.
    """
    every: dict[Task, dict[str, list[Run]]] = {}
    for job, record in sorted(finished, key=lambda run: (run[0].task, run[0].seed)):
        if record.status == "done":
            run = Run(job, record.key, runs / record.key / "weights.pt")
            every.setdefault(job.task, {RANDOM: [], UNIFORM: []})[job.method].append(run)
    found, left_out = [], []
    for task, of_task in every.items():
        random, uniform = (
            tuple(run for run in of_task[method] if run.weights.exists())
            for method in (RANDOM, UNIFORM)
        )
        if len(random) >= 2:
            found.append(Backbones(random, uniform))
        else:
            left_out.append(
                f"{task}: two seeds of {RANDOM} are needed; {len(of_task[RANDOM])} finished,"
                f" weights of {len(random)} in {runs}"
            )
    if not found:
        most = max((len(of_task[RANDOM]) for of_task in every.values()), default=0)
        raise ValueError(_nothing(most, suite, runs))
    return found, left_out


def _nothing(seeds: int, suite: str, runs: Path) -> str:
    bench = f"run make bench SUITE={suite} METHODS={RANDOM},{UNIFORM}"
    if seeds == 0:
        return f"suite {suite!r} has no finished run of {RANDOM}: {bench} first"
    if seeds == 1:
        return (
            f"suite {suite!r} has one seed of {RANDOM}, but a plan chosen on one backbone is"
            f" scored on another: {bench} with two seeds or more first"
        )
    return (
        f"suite {suite!r} has rows of {RANDOM}, but {runs} has the weights of no two seeds of a"
        f" task: {bench} FORCE=1 first"
    )


def measure(
    backbones: Backbones,
    *,
    directories: Sequence[Path],
    plans: int = 64,
    sample: int = 1000,
    device: str = "cpu",
    at_once: int | None = None,
    progress: Callable[[int, int], object] = lambda done, of: None,
) -> pd.DataFrame:
    """One line for each M = 1, 2, 4, ... ``plans`` and each seed, which its successor judges.

    Columns: the task; the two seeds; ``plans``, that is M; on the backbone that chose,
    ``mse_random``, the mean of M random plans, and ``mse_chosen``, the best of them; on the judge
    ``mse_random_judged`` and ``mse_corrected``, the same of the same plans; ``mse_uniform``, the
    mean of the runs with equal patches, if there are any; ``windows``; the keys of both runs. All
    errors are of the same ``sample`` test windows, evenly spaced. ``at_once`` windows share a
    forward pass, which changes no plan; ``progress`` hears how many windows are done.

    Raises:
        ValueError: fewer than one plan or window, or weights that do not fit.
    """
    if plans < 1 or sample < 1:
        raise ValueError(f"{plans} plans on {sample} windows: one of each is the least")
    first = backbones.random[0].job
    test = windows.test(load(first, tuple(directories)), backbones.task, device)
    sample = min(sample, len(test))
    chosen = torch.linspace(0, len(test) - 1, sample, dtype=torch.float64).round().long()
    models = [_trained(run, device) for run in backbones.random]
    regular = [_trained(run, device) for run in backbones.uniform]
    pairs = [*pairwise(range(len(models))), (len(models) - 1, 0)]

    curves = torch.zeros(len(pairs), 4, plans, dtype=torch.float64)
    uniform, done = 0.0, 0
    with torch.inference_mode(), autocast(torch.device(device), first.budget.precision):
        for index in chosen.split(at_once or test.at_once):
            batch = test.batch(index.to(device))
            errors = tried(models, batch, plans)
            curves += torch.stack([curve(errors[a], errors[b]) for a, b in pairs]).cpu()
            for model in regular:
                own = model.cut(batch.past, batch.ids)
                uniform += float(_error(model, batch, own).sum(dtype=torch.float64))
            done += len(index)
            progress(done, sample)
    rows = sample * test.channels
    lines = [
        {
            "suite": first.suite,
            **{column: getattr(backbones.task, column) for column in TASK[1:]},
            "seed_chosen_on": backbones.random[a].job.seed,
            "seed_scored_on": backbones.random[b].job.seed,
            "plans": many,
            **dict(zip(_ERRORS, (curves[pair, :, many - 1] / rows).tolist(), strict=True)),
            "mse_uniform": uniform / rows / len(regular) if regular else math.nan,
            "windows": sample,
            "key_chosen_on": backbones.random[a].key,
            "key_scored_on": backbones.random[b].key,
        }
        for pair, (a, b) in enumerate(pairs)
        for many in sorted({plans, *(2**power for power in range(plans.bit_length()))})
    ]
    return pd.DataFrame(lines)


def write(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Store the lines of some tasks, in place of older ones of these tasks; return all there are.

    Not beside the rows of the suite: every table there is a method's.
    """
    if path.exists():
        older = pd.read_csv(path, float_precision="round_trip")
        again = pd.MultiIndex.from_frame(older[TASK]).isin(pd.MultiIndex.from_frame(table[TASK]))
        table = pd.concat([older[~again], table]) if not again.all() else table
    table = table.sort_values([*TASK, "seed_chosen_on", "plans"], ignore_index=True)
    write_text(path, table.to_csv(index=False, lineterminator="\n"))
    return table


def ends(table: pd.DataFrame) -> pd.DataFrame:
    """A line a task at its largest M: means over the pairs of seeds.

    ``gain`` and ``corrected_gain`` are percent of the error of random plans on the same backbone,
    ``corrected_sd`` is the standard deviation of the latter over the pairs.
    """
    last = table[table.plans == table.groupby(TASK).plans.transform("max")]
    last = last.assign(
        gain=100 * (1 - last.mse_chosen / last.mse_random),
        corrected_gain=100 * (1 - last.mse_corrected / last.mse_random_judged),
    )
    groups = last.groupby([*TASK, "plans"])
    mean = groups[["mse_random", "mse_chosen", "mse_corrected", "gain", "corrected_gain"]].mean()
    return mean.assign(corrected_sd=groups.corrected_gain.std()).reset_index()


# --- choosing and judging ------------------------------------------------------------------------

_ERRORS = ("mse_random", "mse_chosen", "mse_random_judged", "mse_corrected")


def curve(
    chooser: Float[Tensor, "plan row"], judge: Float[Tensor, "plan row"]
) -> Float[Tensor, "four plan"]:
    """The four errors against the number of plans to choose from, summed over rows.

    Entry M - 1 is of the first M plans, so that one pass gives the whole curve.
    """
    best, which = chooser.cummin(dim=0)
    count = torch.arange(1, len(chooser) + 1, device=chooser.device)
    of_each = (
        chooser.cumsum(dim=0) / count[:, None],
        best,
        judge.cumsum(dim=0) / count[:, None],
        judge.gather(0, which),
    )
    return torch.stack([error.sum(dim=1, dtype=torch.float64) for error in of_each])


def tried(
    models: Sequence[PatchForecaster], batch: Batch, plans: int
) -> Float[Tensor, "model plan row"]:
    """The error of each row under each of ``plans`` random plans, the same for every model."""
    errors = [
        [_error(model, batch, patches) for model in models]
        for patches in (drawn(models[0], batch, number) for number in range(plans))
    ]
    return torch.stack([torch.stack(of_plan) for of_plan in errors], dim=1)


def drawn(model: PatchForecaster, batch: Batch, number: int) -> Patches:
    """A random plan for each row: number 0 is the one that evaluation draws.

    The others are those of rows that are not there, so a plan hangs on the row and the number.
    """
    return model.cut(batch.past, batch.ids + number * _APART)


def _error(model: PatchForecaster, batch: Batch, patches: Patches) -> Float[Tensor, " row"]:
    future = model.predict(batch.past, patches).float()
    return (future - batch.future).square().mean(dim=-1).flatten()


def _trained(run: Run, device: str) -> PatchForecaster:
    model = build(registry.find(run.job.method), run.job, device)
    assert isinstance(model, PatchForecaster)
    try:
        model.load_state_dict(torch.load(run.weights, map_location=device, weights_only=True))
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"{run.weights} does not fit {run.job} ({reason}): its code has changed or it is"
            f" damaged; run make bench SUITE={run.job.suite} METHODS={run.job.method} FORCE=1"
        ) from error
    return model.eval()
