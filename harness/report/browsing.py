"""What MLflow's pages show of a suite: the views that its experiment keeps, and their addresses.

MLflow opens an experiment as one of language models, with a list of traces that is empty here.
Only an address that asks for machine learning shows runs, so every address here does. A view is
kept as MLflow keeps one that somebody shares: as a tag of the experiment, in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

RUNS, CURVES = "runs", "curves"
"""The views by their names: runs and their learning curves, both by method and data set."""
LOCAL = "http://127.0.0.1:5000"
"""The server of `make ui` if nothing else is said."""
SHORT = "patchbench"
"""Where the local server knows suites by name: ``/patchbench/<suite>``."""
_MACHINE_LEARNING = {"workflowType": "machine_learning"}
_COLUMNS = (
    *("metrics.mse", "metrics.mae", "metrics.tokens_mean", "metrics.train_seconds"),
    *("tags.method", "tags.dataset", "tags.horizon", "tags.seed", "tags.status"),
)
_WIDTHS = {"attributes.Run Name": 380, **dict.fromkeys(_COLUMNS, 100), "tags.method": 160}
"""Pixels; the name of a group has to fit, too."""
_CHARTS = {
    "epoch": ("LINE", ("epoch/valid_mse", "epoch/train_mse")),
    "Model metrics": ("BAR", ("mse", "mae", "tokens_mean", "train_seconds")),
}
"""By section, of the names that MLflow gives: it adds a chart for each of the other metrics."""


def tags() -> dict[str, str]:
    """The tags of an experiment: its views, and that it is not one of language models."""
    views = {RUNS: _table(), CURVES: _table() | _charts()}
    kept = {f"mlflow.sharedViewState.{name}": json.dumps(view) for name, view in views.items()}
    return {"mlflow.experimentKind": "custom_model_development", **kept}


def view(server: str, experiment: str, name: str) -> str:
    """The address of a view of an experiment, given by its number."""
    chart = {"compareRunsMode": "CHART"} if name == CURVES else {}
    settings = {**_MACHINE_LEARNING, "viewStateShareKey": name, **chart}
    return f"{_experiment(server, experiment)}/runs?{urlencode(settings)}"


def run(server: str, experiment: str, identity: str) -> str:
    """The address of the page of one run, given by MLflow's id for it."""
    query = urlencode(_MACHINE_LEARNING)
    return f"{_experiment(server, experiment)}/runs/{identity}?{query}"


def short(server: str, suite: str, **wanted: str) -> str:
    """The address by which a local server (:mod:`harness.report.serving`) leads to a suite's runs.

    It holds whatever number the experiment has, so a page may say it. ``wanted`` is a ``view``, or
    the ``key`` of one run.
    """
    return f"{server}/{SHORT}/{_quoted(suite)}?{urlencode(wanted)}"


def cell(suite: str, method: str, task: Sequence[object]) -> str:
    """Where a local server has the page of a suite, open at a cell; ``task`` as in rows' TASK."""
    look_back, dataset, horizon, patches = task
    place = "/".join(_quoted(part) for part in (method, dataset, look_back, horizon, patches))
    return f"/{SHORT}/{_quoted(suite)}/report/index.html#cell/{place}"


def rows(suite: str, method: str) -> str:
    """Where a local server has the rows of a method."""
    return f"/{SHORT}/{_quoted(suite)}/{_quoted(method)}.csv"


def _quoted(part: object) -> str:
    return quote(str(part), safe="")


def _experiment(server: str, experiment: str) -> str:
    return f"{server.rstrip('/')}/#/experiments/{experiment}"


def _table() -> dict[str, Any]:
    """Runs by method and data set; trials of searches stay out, and the best runs come first."""
    keys = [{"mode": "tag", "groupByData": name} for name in ("method", "dataset")]
    widths = {_column(name): width for name, width in _WIDTHS.items()}
    return {
        "searchFilter": "tags.level = 'run'",
        "orderByKey": "metrics.`mse`",
        "orderByAsc": True,
        "selectedColumns": [_column(name) for name in _COLUMNS],
        "columnOrder": list(widths),
        "columnWidths": widths,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": keys},
        "runsHiddenMode": "SHOW_ALL",
    }


def _charts() -> dict[str, Any]:
    """A chart a metric, the curves first; a line or bar a group."""
    sections = [
        {"uuid": name, "name": name, "display": True, "isReordered": True, "deleted": False}
        for name in _CHARTS
    ]
    charts = [
        {
            "type": kind,
            "uuid": metric,
            "metricSectionId": section,
            "metricKey": metric,
            "selectedMetricKeys": [metric],
            "isGenerated": False,
            "deleted": False,
        }
        for section, (kind, metrics) in _CHARTS.items()
        for metric in metrics
    ]
    return {
        "compareRunSections": sections,
        "compareRunCharts": charts,
        "isAccordionReordered": True,
    }


def _column(name: str) -> str:
    kind, _, key = name.partition(".")
    return f"{kind}.`{key}`"
