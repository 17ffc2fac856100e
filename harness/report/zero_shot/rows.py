"""The rows of a zero-shot suite as one table, each held to its task as it is here.

Errors are counted as shares of those of the seasonal naive, whose scores are published with each
task. A run that failed is never dropped: its share is 1, or that of the worst finished seed of
the same patcher and corpus where that is larger.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness import data
from harness.core.job import Record
from harness.results.rows import read_rows
from harness.results.table import listed, row_files
from harness.zero_shot import leaks, tasks
from harness.zero_shot.published import RATIOS
from harness.zero_shot.scores import MOST_MASKED

METRICS = ("mase", "quantile")
"""Both errors of a task; the second is SQL, WQL or CRPS, as its benchmark has it."""
ARM = ["corpus", "method"]
"""What is compared: a patcher after a corpus. A reference has no corpus, which is empty."""
RUN = [*ARM, "task", "seed"]
LEAKED = "leaked"


def read(folder: Path) -> pd.DataFrame:
    """All runs of a suite, a line each, in a fixed order.

    Columns: ``corpus``, ``method``, ``task``, ``seed``; of the task ``benchmark``, ``family`` and
    ``horizon``; ``kind``, ``ranked`` and ``grid`` as methods declare them; ``failed``; the scores
    ``mase``, ``quantile`` and ``wape``, and as ``mase_share`` and ``quantile_share`` what they are
    of the seasonal naive's, failures charged; ``cases``, of which ``masked``, and whether these
    are ``flagged``; ``leak``; ``seconds`` of scoring, ``key``, ``device`` and ``protocol``.

    Raises:
        FileNotFoundError: the folder holds no records.
        ValueError: a row is of no zero-shot task, of other data or there twice, or a file cannot
            be read.
    """
    records = [record for path in row_files(folder) for record in read_rows(path)]
    if not records:
        raise FileNotFoundError(f"{folder} holds no records: run the suite first")
    table = pd.DataFrame(_lines(records)).sort_values(RUN, ignore_index=True)
    if (twice := table.duplicated(RUN)).any():
        raise ValueError(f"recorded more than once: {listed(_names(table[twice]))}")
    if len(protocols := sorted(table.protocol.unique())) > 1:
        said = ", ".join(map(str, protocols))
        raise ValueError(f"protocol versions {said} cannot share a leaderboard")
    return _charged(_with_leaks(table))


def _lines(records: list[Record]) -> Iterator[dict[str, Any]]:
    for record in records:
        if record.stage != "zero_shot":
            raise ValueError(f"{record} is of no zero-shot task, beside rows that are")
        task = tasks.find(record.dataset)
        if record.status == "done" and record.data_hash != task.hash:
            raise ValueError(f"{record} was scored on other series, or other windows, of {task}")
        cases, masked = record.cases or 0, record.masked or 0
        yield {
            "corpus": record.corpus or "",
            "method": record.method,
            "task": str(task),
            "seed": record.seed,
            "benchmark": task.benchmark,
            "family": task.family,
            "horizon": task.horizon,
            "kind": record.kind,
            "ranked": record.ranked,
            "grid": bool(record.grid),
            "failed": record.status != "done",
            "mase": record.mase,
            "quantile": record.quantile_loss,
            "wape": record.wape,
            "mase_share": (record.mase or 0) / task.naive_mase,
            "quantile_share": (record.quantile_loss or 0) / task.naive_quantile,
            "cases": cases,
            "masked": masked,
            "flagged": masked > MOST_MASKED * cases,
            "leak": record.leak or "",
            "seconds": record.evaluate_seconds,
            "key": record.key,
            "device": record.device,
            "protocol": record.protocol,
        }


def _names(rows: pd.DataFrame) -> list[str]:
    return [name_of(*run) for run in rows[RUN].itertuples(index=False, name=None)]


def name_of(corpus: str, method: str, task: str, seed: int) -> str:
    """A run in words."""
    after = f" ({corpus})" if corpus else ""
    return f"{method}{after} on {task} seed {seed}"


def _with_leaks(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the tags that failed runs lack; references have none."""
    tags = {
        corpus: leaks.tags(data.find_corpus(corpus))
        for corpus in table.corpus[(table.leak == "") & (table.corpus != "")].unique()
    }
    places = zip(table.leak, table.corpus, table.task, strict=True)
    found = [
        leak or (tags[corpus][task] if corpus in tags else "") for leak, corpus, task in places
    ]
    return table.assign(leak=found)


def _charged(table: pd.DataFrame) -> pd.DataFrame:
    charged = {}
    for metric in METRICS:
        share = table[f"{metric}_share"].where(~table.failed)
        worst = share.groupby([table[name] for name in (*ARM, "task")]).transform("max")
        charged[f"{metric}_share"] = share.fillna(worst.clip(lower=1)).fillna(1).clip(*RATIOS)
    measured = (*METRICS, "wape", "seconds")
    errors = {name: table[name].astype(float) for name in measured}
    return table.assign(**errors, **charged)


def logarithms(rows: pd.DataFrame) -> pd.DataFrame:
    """The logarithms of both shares, columns called as the metrics."""
    return pd.DataFrame({metric: np.log(rows[f"{metric}_share"]) for metric in METRICS})
