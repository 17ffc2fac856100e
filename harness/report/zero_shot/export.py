"""Rows of a zero-shot suite in the forms in which fev and GIFT-Eval publish theirs.

``export.csv`` says how both describe the tasks, where that does not follow from ``tasks.csv``: the
definitions of fev, which its tables match by their text, and domain and variates of GIFT-Eval.
What was not measured is empty. So are fev's version and its fingerprint of the data, because fev
has not scored these forecasts: that the data are the same is what the seasonal naive shows.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from harness.core.files import write_text
from harness.core.words import unknown
from harness.report.tables import each
from harness.report.zero_shot.rows import ARM, LEAKED, read
from harness.zero_shot import tasks
from harness.zero_shot.scores import LEVELS

_FEV = (
    *("model_name", "dataset_path", "dataset_config", "horizon", "num_windows"),
    *("initial_cutoff", "window_step_size", "min_context_length", "max_context_length"),
    *("seasonality", "eval_metric", "extra_metrics", "quantile_levels", "id_column"),
    *("timestamp_column", "target", "generate_univariate_targets_from"),
    *("known_dynamic_columns", "past_dynamic_columns", "static_columns", "task_name"),
    *("test_error", "training_time_s", "inference_time_s", "num_forecasts"),
    *("dataset_fingerprint", "trained_on_this_dataset", "fev_version"),
    *("SQL", "MASE", "WAPE", "WQL"),
)
_GIFT = (
    *("dataset", "model", "eval_metrics/MSE[mean]", "eval_metrics/MSE[0.5]"),
    *("eval_metrics/MAE[0.5]", "eval_metrics/MASE[0.5]", "eval_metrics/MAPE[0.5]"),
    *("eval_metrics/sMAPE[0.5]", "eval_metrics/MSIS", "eval_metrics/RMSE[mean]"),
    *("eval_metrics/NRMSE[mean]", "eval_metrics/ND[0.5]"),
    *("eval_metrics/mean_weighted_sum_quantile_loss", "domain", "num_variates"),
)
_EXTRA = {
    "fev-bench": "['MASE', {'name': 'WAPE', 'epsilon': 1.0}, {'name': 'WQL', 'epsilon': 1.0}]",
    "chronos-II": "['WQL']",
}
"""The metrics beside the main one, as fev writes them."""

_Line = Mapping[str, object]


class Exported(NamedTuple):
    """A file that was written: the runs in it, and those of a whole benchmark that are not."""

    path: Path
    rows: int
    missing: int


class _Form(NamedTuple):
    """Columns of a form, its files by benchmark, and what makes a line of a run."""

    columns: tuple[str, ...]
    files: Mapping[str, str]
    line: Callable[[Any, str], _Line]


def export(folder: Path, form: str, out: Path) -> list[Exported]:
    """Write the runs that finished in a form of :data:`FORMS`: a file a patcher, corpus and seed.

    Raises:
        FileNotFoundError: the folder holds no records.
        ValueError: no such form, or the rows cannot be read.
    """
    if form not in FORMS:
        raise ValueError(f"{unknown('format', form, FORMS)}")
    columns, files, line = FORMS[form]
    done = read(folder).query("not failed")
    order = [*tasks.tasks()]
    written = []
    for benchmark, file in files.items():
        of = len(tasks.chosen([benchmark]))
        for (corpus, method, seed), own in done[done.benchmark == benchmark].groupby(
            [*ARM, "seed"]
        ):
            name = f"{method}-{corpus}-{seed}" if corpus else str(method)
            runs = sorted(each(own), key=lambda run: order.index(run.task))
            path = out / file.format(name)
            _write(path, columns, (line(run, f"patchbench-{name}") for run in runs))
            written.append(Exported(path, len(runs), of - len(runs)))
    return written


def _write(path: Path, columns: tuple[str, ...], lines: Iterator[_Line]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(lines)
    write_text(path, text.getvalue())


def _fev(run: Any, model: str) -> _Line:  # noqa: ANN401 - a named tuple of pandas
    task, told = tasks.find(run.task), _told()[run.task]
    is_main = task.benchmark == "fev-bench"
    return {
        "model_name": model,
        "dataset_path": told["path"],
        "dataset_config": task.task,
        "horizon": task.horizon,
        "num_windows": task.windows,
        "initial_cutoff": -task.tail,
        "window_step_size": task.horizon,
        "min_context_length": 1,
        "seasonality": task.season,
        "eval_metric": "SQL" if is_main else "MASE",
        "extra_metrics": _EXTRA[task.benchmark],
        "quantile_levels": str([*LEVELS]),
        "id_column": "id",
        "timestamp_column": "timestamp",
        "target": told["target"],
        "generate_univariate_targets_from": told["univariate"],
        "known_dynamic_columns": told["known"],
        "past_dynamic_columns": "[]",
        "static_columns": "[]",
        "task_name": task.task,
        "test_error": run.quantile if is_main else run.mase,
        "training_time_s": 0.0,
        "inference_time_s": _known(run.seconds),
        "num_forecasts": run.cases,
        "trained_on_this_dataset": run.leak == LEAKED,
        "MASE": run.mase,
        "SQL" if is_main else "WQL": run.quantile,
        "WAPE": _known(run.wape),
    }


def _gift(run: Any, model: str) -> _Line:  # noqa: ANN401 - as above
    told = _told()[run.task]
    return {
        "dataset": tasks.find(run.task).task,
        "model": model,
        "eval_metrics/MASE[0.5]": run.mase,
        "eval_metrics/mean_weighted_sum_quantile_loss": run.quantile,
        "domain": told["domain"],
        "num_variates": told["variates"],
    }


def _known(value: float) -> object:
    return "" if value != value else value  # noqa: PLR0124 - NaN is what was not measured


@cache
def _told() -> Mapping[str, Mapping[str, str]]:
    """How the benchmarks describe each task, by its name."""
    with Path(__file__).with_suffix(".csv").open(encoding="utf-8", newline="") as lines:
        return {line["task"]: line for line in csv.DictReader(lines)}


FORMS: Mapping[str, _Form] = {
    "fev": _Form(
        _FEV,
        {"fev-bench": "fev_bench/{}.csv", "chronos-II": "chronos_zeroshot/{}.csv"},
        _fev,
    ),
    "gift": _Form(_GIFT, {"gift-eval": "{}/all_results.csv"}, _gift),
}
"""The forms of results by name."""
