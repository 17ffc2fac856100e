"""MLflow's web pages on the tracked runs, served by this process on 127.0.0.1, and what is where.

The server is this process and no child of it, so that it ends with it, however that is ended.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

# It says before the first import of MLflow that it reports to nobody.
from harness.report import browsing, tracking  # isort: skip

from mlflow.tracking import MlflowClient

_POLL = 0.2
"""Seconds between two looks at whether the server answers, or whether it is still wanted."""


class Shown(NamedTuple):
    """Where a suite can be looked at: its runs, and their learning curves."""

    suite: str
    runs: str
    curves: str


def serve(
    results: Path,
    port: int,
    uri: str | None = None,
    *,
    tell: Callable[[list[Shown]], object],
    suite: str = "",
    parent: int | None = None,
) -> None:
    """Serve MLflow's pages until this process is told to end, or ``parent`` is its own no more.

    ``tell`` is called with what can be looked at, the suite with the newest run first, once the
    server answers; ``suite`` asks for that one alone. A store that has a server of its own is not
    served again: ``tell`` is called at once.

    Raises:
        FileNotFoundError: nothing has been tracked in ``results`` yet.
        ValueError: no runs of ``suite`` are tracked there, or of any.
        OSError: the port is taken.
        TrackingError: the store cannot be reached.
    """
    if uri is None and not (results / "mlflow.db").exists():
        raise FileNotFoundError(f"nothing is tracked in {results} yet: run a suite first")
    store = tracking.store_of(results, uri)
    is_server = store.startswith("http")
    server = store if is_server else f"http://127.0.0.1:{port}"
    shown = _shown(store, server, suite)
    if is_server:
        tell(shown)
        return
    with _listening(port) as listener:
        pages = _pages(store, results)
        _in_background(lambda: _tell(server, shown, tell))
        if parent is not None:
            _in_background(lambda: _leave_with(parent, pages))
        with suppress(KeyboardInterrupt):  # how Ctrl-C ends it
            pages.run(sockets=[listener])


def _shown(store: str, server: str, suite: str) -> list[Shown]:
    found = tracking.suites(store, suite)
    if not found:
        of = f"of {suite!r} " if suite else ""
        raise ValueError(f"no runs {of}are tracked yet: make track SUITE={suite or '...'}")
    return [
        Shown(
            name,
            browsing.view(server, number, browsing.RUNS),
            browsing.view(server, number, browsing.CURVES),
        )
        for name, number in found.items()
    ]


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise OSError(
            f"port {port} of 127.0.0.1 is taken ({error.strerror}): name another, PORT=..."
        ) from error


def _pages(store: str, results: Path) -> uvicorn.Server:
    """The server, not yet running: MLflow's, and beside it the pages and rows of the results."""
    # What `mlflow ui` would set for its child process. Not in a command line, which every user
    # of the machine can read: an address may hold a password.
    os.environ["_MLFLOW_SERVER_FILE_STORE"] = store
    # For one reader, without the seven processes of a job queue.
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MLflow uses of its own dependencies is outdated
        from mlflow.server.fastapi_app import app  # reads the environment when it is imported

    # Before MLflow's own, of which the last one takes every address that is left.
    app.router.routes[:0] = [
        Route(f"/{browsing.SHORT}/{{suite}}", _lead(store)),
        Mount(f"/{browsing.SHORT}", StaticFiles(directory=results, check_dir=False)),
    ]
    # Without its lifespan, which looks for containers of MLflow's assistant.
    setting = uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    return uvicorn.Server(setting)


def _lead(store: str) -> Callable[[Request], Response]:
    """What answers the short addresses (:func:`harness.report.browsing.short`)."""
    client = MlflowClient(store)

    def lead(request: Request) -> Response:
        suite, wanted = request.path_params["suite"], request.query_params
        server = str(request.base_url)
        known = client.get_experiment_by_name(suite)
        if known is None:
            return _nothing(f"No runs of {suite!r} are tracked here", suite)
        if "key" not in wanted:
            name = browsing.CURVES if wanted.get("view") == browsing.CURVES else browsing.RUNS
            return RedirectResponse(browsing.view(server, known.experiment_id, name))
        key = wanted["key"]
        filtered = f"tags.key = '{re.sub('[^0-9a-f]', '', key)}'"
        runs = client.search_runs([known.experiment_id], filtered, max_results=1)
        if not runs:
            return _nothing(f"No run with the key {key} is tracked here", suite)
        return RedirectResponse(browsing.run(server, known.experiment_id, runs[0].info.run_id))

    return lead


def _nothing(what: str, suite: str) -> Response:
    return PlainTextResponse(f"{what}. On the machine that has it: make track SUITE={suite}", 404)


def _in_background(act: Callable[[], object]) -> None:
    threading.Thread(target=act, daemon=True).start()


def _tell(server: str, shown: list[Shown], tell: Callable[[list[Shown]], object]) -> None:
    while True:
        with suppress(URLError, OSError), urlopen(f"{server}/health", timeout=5):  # noqa: S310 - our own address
            break
        time.sleep(_POLL)
    tell(shown)


def _leave_with(parent: int, pages: uvicorn.Server) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL)
    pages.should_exit = True
