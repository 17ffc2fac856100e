"""Where MLflow's pages are served, and what leads there; in a browser: tests/browser_mlflow.py."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.requests import Request
from starlette.responses import Response

from harness.core.job import Job, Provenance, new_record
from harness.core.task import Task
from harness.report import browsing, serving
from harness.report.serving import Shown
from harness.report.tracking import Tracker, TrackingError, store_of
from harness.results.bundles import write_bundle


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of each of two suites; made once, since that takes seconds."""
    results = tmp_path_factory.mktemp("results")
    for suite in ("first", "and-second"):
        job = Job(suite, "uniform", Task("ordinal", 4, 1, 2), 1)
        origin = Provenance("c0ffee", "torch")
        record = new_record(
            job,
            origin,
            status="done",
            kind="patcher",
            ranked=True,
            method_source="m" * 64,
            data_hash="d" * 64,
            data_verified=True,
            device="cpu",
            mse=0.5,
            mae=0.5,
        )
        bundle = write_bundle(results / "runs", record, curves=(), overlay=None)
        Tracker(results, suite).record(bundle)
    return results


def test_there_is_nothing_to_serve_before_the_first_run(tmp_path: Path) -> None:
    """Say what to do, and do not leave an empty store behind."""
    with pytest.raises(FileNotFoundError, match="run a suite first"):
        serving.serve(tmp_path, 5000, tell=print)
    assert not list(tmp_path.iterdir())


def test_a_suite_without_runs_is_refused(results: Path) -> None:
    """With the command that tracks it."""
    with pytest.raises(
        ValueError, match="no runs of 'third' are tracked yet: make track SUITE=third"
    ):
        serving.serve(results, 5000, tell=print, suite="third")


def test_a_port_that_is_taken_is_said_at_once(results: Path) -> None:
    """And how to name another one; nothing is told to be there."""
    told: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1 is taken .*PORT="):
            serving.serve(results, port, tell=told.append)
    assert not told


def test_a_store_that_has_a_server_is_not_served_again(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own addresses are told, and one that is down is an error in one line."""
    monkeypatch.setattr("harness.report.tracking.suites", lambda store, suite: {"tiny": "7"})
    told: list[list[Shown]] = []
    serving.serve(results, 5000, "http://team:5000", tell=told.append)
    ((shown,),) = told
    assert shown.runs.startswith("http://team:5000/#/experiments/7/runs?")
    monkeypatch.undo()
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:1"):
        serving.serve(results, 5000, "http://127.0.0.1:1", tell=told.append)


def lead(results: Path, suite: str, query: str = "") -> Response:
    scope = {
        "type": "http",
        "path_params": {"suite": suite},
        "query_string": query.encode(),
        "headers": [(b"host", b"127.0.0.1:5000")],
        "scheme": "http",
        "path": "/",
    }
    return serving._lead(store_of(results))(Request(scope))


@pytest.mark.parametrize("suite", ["first", "and-second"])
def test_a_short_address_leads_to_a_suite_whatever_its_number(results: Path, suite: str) -> None:
    """To its runs, its curves or one run by its key; in MLflow's pages for machine learning."""
    places = {name: lead(results, suite, query) for name, query in QUERIES.items()}
    addresses = {name: place.headers["location"] for name, place in places.items()}
    for address in addresses.values():
        assert "workflowType=machine_learning" in address
    key = json.loads(next((results / "runs").glob("*/record.json")).read_text())
    assert addresses["runs"] == addresses["other"]
    assert "viewStateShareKey=curves&compareRunsMode=CHART" in addresses["curves"]
    found = lead(results, key["suite"], f"key={key['key']}")
    assert "/runs/" in found.headers["location"]


QUERIES = {"runs": "", "curves": "view=curves", "other": "view=nothing"}


@pytest.mark.parametrize(
    ("suite", "query", "why"),
    [
        ("third", "", "No runs of 'third'"),
        ("first", "key=0123", "No run with the key 0123"),
        ("first", "key=' OR tags.level = 'run", "No run with the key"),
    ],
)
def test_a_short_address_of_nothing_says_what_tracks_it(
    results: Path, suite: str, query: str, why: str
) -> None:
    """With the command; a key is no filter of somebody's own."""
    answer = lead(results, suite, query)
    assert answer.status_code == 404
    assert why in (said := bytes(answer.body).decode())
    assert f"make track SUITE={suite}" in said


@pytest.fixture
def views() -> dict[str, dict[str, object]]:
    start = "mlflow.sharedViewState."
    return {
        name.removeprefix(start): json.loads(text)
        for name, text in browsing.tags().items()
        if name.startswith(start)
    }


def test_views_show_the_columns_that_matter_by_method_and_data_set(
    views: dict[str, dict[str, object]],
) -> None:
    """Small enough for a tag, named as their addresses say, and without trials of searches."""
    assert set(views) == {"runs", "curves"}
    assert all(len(text) < 5000 for text in browsing.tags().values())
    for name, view in views.items():
        query = parse_qs(urlsplit(browsing.view("http://h/", "3", name)).fragment.split("?")[1])
        assert query["viewStateShareKey"] == [name]
        assert view["searchFilter"] == "tags.level = 'run'"
        columns = json.dumps(view["selectedColumns"])
        for column in ("method", "dataset", "horizon", "seed", "status", "mse", "mae"):
            assert f"`{column}`" in columns
        assert "`tokens_mean`" in columns
        assert "`train_seconds`" in columns
    assert browsing.view("http://h/", "3", "runs").startswith("http://h/#/experiments/3/runs?")


def test_addresses_hold_any_name(views: dict[str, dict[str, object]]) -> None:
    """A slash or a quote in a name does not end its part of the address."""
    assert browsing.cell("a/b", "m?", (1, "d#", 2, 3)).endswith("index.html#cell/m%3F/d%23/1/2/3")
    assert browsing.rows("a/b", "m?") == "/patchbench/a%2Fb/m%3F.csv"
    assert browsing.short("http://h", "a b", key="0f") == "http://h/patchbench/a%20b?key=0f"
