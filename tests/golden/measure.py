"""One tiny job of every method, to the last digit, and the tables that their rows make.

``python tests/golden/measure.py FOLDER`` writes ``digits.json`` and ``leaderboard.md`` there. They
are the same on every machine of a kind: one thread, and no instructions that only some have.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

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


def main(folder: Path) -> None:
    """Do the jobs, and write what they measure and the tables they make."""
    from harness.core.job import Job, Provenance
    from harness.core.task import Architecture, Budget, Task
    from harness.model import registry
    from harness.report import tables
    from harness.results.rows import put_row
    from harness.run.job import run

    small = Architecture(width=8, layers=2, heads=2, feedforward=16, grid=4)
    job = Job(
        suite="golden",
        method="uniform",
        task=Task("mitdb", 48, 12, 6, season=6),
        seed=1,
        architecture=small,
        budget=Budget(epochs=2, steps=4, batch=8, learning_rate=5e-3, warmup=0.1),
    )

    def jobs() -> Iterator[tuple[str, Job]]:
        for name in registry.names():
            yield name, replace(job, method=name)
        lossy = replace(small, embedder="mean", head="flatten", instance_norm=False, dropout=0.0)
        query = replace(small, backbone="identity", head="query", phase=False)
        for name in ("uniform", "straight_through", "soft", "hnet", "reinpatch"):
            yield f"{name}, lossy", replace(job, method=name, architecture=lossy)
            yield f"{name}, query", replace(job, method=name, architecture=query)

    digits = {}
    with TemporaryDirectory() as place:
        for name, each in jobs():
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
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(digits, indent=1)
    (folder / "digits.json").write_text(f"{text}\n", encoding="utf-8")
    (folder / "leaderboard.md").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    if os.environ.get("PATCHBENCH_GOLDEN") != "plain":
        plain = os.environ | PLAIN | {"PATCHBENCH_GOLDEN": "plain"}
        os.execve(sys.executable, [sys.executable, *sys.argv], plain)  # noqa: S606 - once more, as it has to be
    main(Path(sys.argv[1]))
