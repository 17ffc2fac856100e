"""Whether runs cut the same rows alike: the sample of boundaries in bundles, kept and compared.

Boundaries that follow the content of a row agree whatever the seed. But so may those of a method
that cuts by habit, such as always near the end; hence the agreement between different rows stands
beside that on the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations, combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from numpy.typing import NDArray

from harness.results.bundles import Bundle, read_boundaries
from harness.results.table import TASK, name_of_task


def stability(
    first: Int[np.ndarray, "row slot"], second: Int[np.ndarray, "_ other"], tolerance: int = 1
) -> float:
    """F1 of two sets of starts on the same rows: 1 if all boundaries have a partner, 0 if none.

    A partner is a boundary of the other set within ``tolerance`` steps, and serves one only.
    Step 0 is no boundary, and -1 a slot without one. NaN where neither has a boundary.

    Raises:
        ValueError: the sets are of different numbers of rows.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} rows cannot be compared with {len(second)} others")
    mine, theirs = _padded(first), _padded(second)
    count = (mine < _END).sum() + (theirs < _END).sum()
    row = np.arange(len(mine))
    at, other, pairs = np.zeros_like(row), np.zeros_like(row), 0
    # The two leftmost boundaries are partners if they are near; else the left one has none, since
    # every boundary that is left is farther away.
    for _ in range(mine.shape[1] + theirs.shape[1] - 2):
        a, b = mine[row, at], theirs[row, other]
        near = (np.abs(a - b) <= tolerance) & (a < _END)
        pairs += near.sum()
        at, other = at + (near | (a < b)), other + (near | (b < a))
        at, other = at.clip(max=mine.shape[1] - 1), other.clip(max=theirs.shape[1] - 1)
    return float(2 * pairs / count) if count else float("nan")


def between_seeds(bundles: Iterable[Bundle]) -> pd.DataFrame:
    """A line for each two seeds of a method on a task: how alike they cut the same rows.

    Columns: look_back, dataset, horizon, patches, method, hyperparameters (JSON), seed_a, seed_b;
    ``f1_1``, their :func:`stability` within one step; ``f1_1_chance``, that of the first seed's
    rows and the second's of rows half the sample away, which is what habit alone gives. Bundles
    without boundaries are left out; of two of one seed the later counts.

    Raises:
        ValueError: damaged boundaries, or two seeds of a task that were cut on different rows.
    """
    columns = [*TASK, "method", "hyperparameters", "seed_a", "seed_b", "f1_1", "f1_1_chance"]
    lines = []
    for run, seeds in sorted(_by_run(bundles).items()):
        samples = {seed: read_boundaries(path) for seed, path in sorted(seeds.items())}
        for (seed_a, a), (seed_b, b) in combinations(samples.items(), 2):
            who = f"seeds {seed_a} and {seed_b} of {run[4]} on {name_of_task(run[:4])}"
            _refuse_other_rows(a, b, who)
            far = np.roll(b["starts"], len(b["starts"]) // 2, axis=0)
            chance = stability(a["starts"], far)
            lines.append((*run, seed_a, seed_b, stability(a["starts"], b["starts"]), chance))
    return pd.DataFrame(lines, columns=columns)


def between_methods(bundles: Iterable[Bundle]) -> pd.DataFrame:
    """A line for each two methods of a task: how alike their first seeds cut the same rows.

    Columns: look_back, dataset, horizon, patches, method_a, method_b, ``f1_1``. A method with
    itself is its first two seeds. Bundles without boundaries are left out.

    Raises:
        ValueError: damaged boundaries, or runs of a task that were cut on different rows.
    """
    tasks: dict[tuple[Any, ...], list[tuple[str, list[Path]]]] = {}
    for run, seeds in sorted(_by_run(bundles).items()):
        paths = [path for _, path in sorted(seeds.items())]
        tasks.setdefault(run[:4], []).append((run[4], paths))
    lines = []
    for task, methods in tasks.items():
        samples = [
            (name, [read_boundaries(path) for path in paths[:2]]) for name, paths in methods
        ]
        for (name_a, a), (name_b, b) in combinations_with_replacement(samples, 2):
            pair = (a[0], b[0]) if a is not b else tuple(a)
            if len(pair) == 2:
                _refuse_other_rows(*pair, f"{name_a} and {name_b} on {name_of_task(task)}")
                alike = stability(pair[0]["starts"], pair[1]["starts"])
                lines.append((*task, name_a, name_b, alike))
    return pd.DataFrame(lines, columns=[*TASK, "method_a", "method_b", "f1_1"])


def _by_run(bundles: Iterable[Bundle]) -> dict[tuple[Any, ...], dict[int, Path]]:
    """The boundaries of each task, method and setting, by seed."""
    runs: dict[tuple[Any, ...], dict[int, Path]] = {}
    for bundle in bundles:
        if bundle.boundaries is not None:
            record = bundle.record
            _, *_, seed, _, hyperparameters = record.coordinates
            task = (getattr(record, column) for column in TASK)
            runs.setdefault((*task, record.label, hyperparameters), {})[seed] = bundle.boundaries
    return runs


def _refuse_other_rows(
    first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]], who: str
) -> None:
    if any(not np.array_equal(first[name], second[name]) for name in ("window", "channel")):
        raise ValueError(f"{who} were cut on different rows")


_END = 1 << 30  # behind every step


def _padded(starts: Int[np.ndarray, "row slot"]) -> Int[np.ndarray, "row more"]:
    """Boundaries in order, and behind the last one of each row at least one that is none."""
    inner = np.where(starts > 0, starts.astype(np.int64), _END)
    return np.pad(np.sort(inner, axis=1), ((0, 0), (0, 1)), constant_values=_END)
