"""One tiny job of every method, to the last digit, and the tables that their rows make.

``python tests/golden/measure.py FOLDER`` writes ``digits.json`` and ``leaderboard.md`` there. They
are the same on every machine of a kind: one thread, and no instructions that only some have.

A folder that holds digits of the same protocol keeps them: where others are measured, they are
named, nothing is written and the exit code is 1. Whoever means to change what numbers mean raises
``PROTOCOL``; there is no other way to new digits.
"""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.core.source import Source

# Read when torch and numpy are first imported.
PLAIN = {
    "OMP_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "MKL_NUM_THREADS": "1",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OPENBLAS_CORETYPE": "Prescott",
    "OPENBLAS_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL"
    " AVX512_ICL AVX512_SPR",
}
ELSEWHERE = (
    *("train_seconds", "evaluate_seconds", "peak_memory_mb", "device", "versions", "commit"),
    *("key", "method_source", "job"),
)

ROOMS = ("model", "run", "data", "core/protocol.py", "core/task.py")
"""What computes, below ``harness/``."""

Digits = dict[str, dict[str, Any]]
"""Name of a job -> column of its record -> value."""


def header() -> dict[str, Any]:
    """What the digits were made with: protocol, code that makes numbers, versions, machine.

    ``rooms`` is the hash of the rooms whose code makes a number and is in no row's key. A method's
    own code is: an edit of it makes its rows stale.
    """
    from harness.core.identity import folder_hash
    from harness.core.protocol import PROTOCOL

    house = Path(__file__).parents[2] / "harness"
    return {
        "protocol": PROTOCOL,
        "rooms": folder_hash([house / room for room in ROOMS]),
        "made_with": {
            "torch": version("torch").partition("+")[0],
            "numpy": version("numpy"),
            "machine": platform.machine(),
        },
    }


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Where two files of digits disagree on a value that both have, a line each.

    Every digit counts where both were made with the same versions and kind of machine; elsewhere a
    number may differ by 1 %.
    """
    exact = old["made_with"] == new["made_with"]
    return [
        f"{job}: {column} was {was!r} and is {now[column]!r}"
        for job, columns in old["digits"].items()
        if (now := new["digits"].get(job)) is not None
        for column, was in columns.items()
        if column in now and not _same(was, now[column], exact=exact)
    ]


def _same(was: object, now: object, *, exact: bool) -> bool:
    if exact or not (isinstance(was, float) and isinstance(now, float)):
        return was == now
    return math.isclose(was, now, rel_tol=0.01, abs_tol=0.01)


def refusal(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Why these digits may not take the place of those; nothing if they may."""
    if old["protocol"] != new["protocol"]:
        return ""
    found = differences(old, new)
    if not found:
        return ""
    more = [f"... and {len(found) - 10} more"] if len(found) > 10 else []
    return "\n".join(
        [
            f"{len(found)} values are not what they were at protocol {old['protocol']}:",
            *found[:10],
            *more,
            "Raise PROTOCOL in harness/core/protocol.py, or find out why.",
        ]
    )


def main(folder: Path) -> None:
    """Measure, and write both files, if the digits are those that are there."""
    digits, table = measure()
    path = folder / "digits.json"
    content = header() | {"digits": digits}
    if path.exists() and (why := refusal(json.loads(path.read_text(encoding="utf-8")), content)):
        raise SystemExit(why)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{json.dumps(content, indent=1)}\n", encoding="utf-8")
    (folder / "leaderboard.md").write_text(table, encoding="utf-8")


def measure() -> tuple[Digits, str]:
    """Do the jobs; what they measure, and the table that their rows make."""
    from harness.core.job import Job, Provenance
    from harness.core.task import Architecture, Budget, Task
    from harness.model import registry
    from harness.report import tables
    from harness.results.rows import put_row
    from harness.run.job import run

    small = Architecture(width=8, layers=2, heads=2, feedforward=16)
    job = Job(
        suite="golden",
        method="uniform",
        task=Task("mitdb", 48, 12, 6, season=6),
        seed=1,
        architecture=small,
        budget=Budget(epochs=2, steps=4, batch=8, learning_rate=5e-3, warmup=0.1),
    )

    own = replace(job.task, dataset="walk")

    def jobs(source: Source) -> Iterator[tuple[str, Job]]:
        for name in registry.names():
            if name != "theta":  # it fits a model a window: a set of few windows is enough
                yield name, replace(job, method=name)
        for name in ("theta", "uniform"):
            yield f"{name}, own data", replace(job, method=name, source=source, task=own)
        lossy = replace(small, embedder="mean", head="flatten", instance_norm=False, dropout=0.0)
        query = replace(small, backbone="identity", head="query")
        for name in ("uniform", "straight_through", "soft", "hnet", "reinpatch"):
            yield f"{name}, lossy", replace(job, method=name, architecture=lossy)
            yield f"{name}, query", replace(job, method=name, architecture=query)

    digits: Digits = {}
    with TemporaryDirectory() as place:
        for name, each in jobs(_walk(Path(place, "walk.csv"))):
            record = run(
                each,
                directories=(),
                device="cpu",
                runs=Path(place, "runs"),
                provenance=Provenance("", ""),
            )
            digits[name] = {
                column: value
                for column, value in asdict(record).items()
                if column not in ELSEWHERE
            }
            if name == each.method:
                timeless = replace(record, train_seconds=1.0, evaluate_seconds=1.0)
                put_row(Path(place, "golden", f"{name}.csv"), timeless)
        leaderboard, *_ = tables.write(Path(place, "golden"))
        table = leaderboard.read_text(encoding="utf-8")
    return digits, table


def _walk(path: Path) -> Source:
    """A random walk of few steps, as a user's own file."""
    import numpy as np
    import pandas as pd

    from harness.core.source import Source

    values = np.random.default_rng(1).standard_normal(700).cumsum().round(3)
    stamps = pd.date_range("2020-01-01", periods=len(values), freq="h")
    pd.DataFrame({"date": stamps, "value": values}).to_csv(path, index=False)
    return Source(path=path, frequency="h", season=6)


if __name__ == "__main__":
    if os.environ.get("PATCHBENCH_GOLDEN") != "plain":
        plain = os.environ | PLAIN | {"PATCHBENCH_GOLDEN": "plain"}
        os.execve(sys.executable, [sys.executable, *sys.argv], plain)  # noqa: S606 - once more, as it has to be
    main(Path(sys.argv[1]))
