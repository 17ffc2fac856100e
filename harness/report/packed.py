"""What the page's script shows on demand, packed: every score, and the runs behind it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from harness.report.board import Board
from harness.results.table import TASK

_OF_SCORES = ["mse", "mse_sd", "mae", "change", "tokens_mean", "train_seconds", "failures", "runs"]
_SAID_ELSEWHERE = [
    *("suite", "kind", "ranked", "strict", "rules", "job", "step", "protocol"),
    *("data_verified", "data_warning", "trained", "tested"),
]


def packed(board: Board, scores: pd.DataFrame) -> dict[str, Any]:
    """The data that ``page.js`` reads; ``scores`` are those of :mod:`harness.report.content`.

    Method and task of a score or run are their numbers in the lists ``methods`` and ``tasks``.
    """
    errors = scores[["method", *TASK, *_OF_SCORES]].rename(columns={"tokens_mean": "tokens"})
    runs = board.rows.drop(columns=[name for name in _SAID_ELSEWHERE if name in board.rows])
    return {
        "suite": board.suite,
        "references": board.references,
        "methods": board.methods,
        "tasks": board.tasks,
        "scores": _packed(errors, board),
        "runs": _packed(runs, board),
    }


def _packed(table: pd.DataFrame, board: Board) -> dict[str, Any]:
    numbers = {task: number for number, task in enumerate(board.tasks)}
    places = [numbers[task] for task in table[TASK].itertuples(index=False, name=None)]
    methods = {method: number for number, method in enumerate(board.methods)}
    table = table.drop(columns=TASK).assign(method=table.method.map(methods), task=places)
    return {
        "rows": len(table),
        "columns": {
            str(name): _column(table[name]) for name in table if table[name].notna().any()
        },
    }


def _column(column: pd.Series[Any]) -> object:
    """One value if all are the same, a list, or codes where many repeat."""
    codes, unique = pd.factorize(column, use_na_sentinel=False)
    values = [_plain(value) for value in unique]
    if len(values) == 1:
        return values[0]
    if len(values) > len(codes) / 4:
        return [values[code] for code in codes]
    return {"codes": codes.tolist(), "values": values}


def _plain(value: Any) -> object:  # noqa: ANN401 - whatever a column of a table holds
    """A text or a number with the six digits that count."""
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.6g}")
