"""MLflow's pages of a tracked suite in a real browser: run by ``make test-browser``."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from chromium import chromium
from playwright.sync_api import Browser, Page, expect

ROOT = Path(__file__).resolve().parents[1]
WAIT = 60_000
"""Milliseconds: MLflow's pages are large, and machines of tests slow."""
METHODS = ("uniform", "random_step", "seasonal_naive")
MAKE = ("make", "-o", ".venv/.installed")
"""The environment is there: the tests run in it."""


class Served(NamedTuple):
    """A ``make ui`` that runs, what it printed by name, and its port."""

    process: subprocess.Popen[str]
    said: dict[str, str]
    port: int


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of quickstart, run and tracked as everybody does it."""
    results = tmp_path_factory.mktemp("results")
    chosen = (f"METHODS={','.join(METHODS)}", "DATASETS=const", "SEEDS=1", f"RESULTS={results}")
    subprocess.run([*MAKE, "bench", *chosen], cwd=ROOT, check=True)
    return results


@contextmanager
def served(results: Path) -> Iterator[Served]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [*MAKE, "ui", f"RESULTS={results}", f"PORT={port}"]
    # In a group of its own: a signal reaches make alone, as from outside.
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            said = {}
            for line in process.stdout:
                if line.startswith("Ctrl-C"):
                    break
                name, _, address = line.partition(": ")
                said[name] = address.strip()
            assert is_open(port)  # it has waited until the server answers
            yield Served(process, said, port)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.fixture(scope="module")
def ui(results: Path) -> Iterator[Served]:
    with served(results) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    expect.set_options(timeout=WAIT)
    opened = browser.new_page(viewport={"width": 1800, "height": 900})
    yield opened
    opened.close()
    expect.set_options(timeout=5_000)


def test_the_address_that_is_printed_shows_the_runs(ui: Served, page: Page) -> None:
    """By method and data set, with the columns that matter, and no page of traces."""
    page.goto(ui.said["quickstart, runs"])
    expect(page.get_by_text(f"{len(METHODS)} matching runs")).to_be_visible()
    for method in METHODS:
        expect(page.get_by_text(f"method: {method}, dataset: const").first).to_be_visible()
    for column in ("mse", "mae", "tokens_mean", "train_seconds"):
        header = page.get_by_role("columnheader", name=column, exact=True)
        expect(header.first).to_be_visible()
    link = page.get_by_role("link", name="uniform on const 96->24 K=12 seed 1")
    expect(link).to_be_visible()


def test_another_address_shows_the_learning_curves(ui: Served, page: Page) -> None:
    """Validation and training error by epoch, first of all charts."""
    page.goto(ui.said["quickstart, learning curves"])
    for name in ("epoch/valid_mse", "epoch/train_mse"):
        expect(page.get_by_text(name).first).to_be_visible()


def test_the_page_of_the_suite_leads_to_a_run_and_back(ui: Served, page: Page) -> None:
    """From a cell to the run behind it, which says what its method is and where its cell is."""
    server = f"http://127.0.0.1:{ui.port}"
    page.goto(f"{server}/patchbench/quickstart/report/index.html#cell/uniform/const/96/24/12")
    page.get_by_role("dialog").get_by_role("link", name="run").click()
    expect(page).to_have_url(re.compile(r"/#/experiments/\d+/runs/[0-9a-f]{32}"))
    expect(page.get_by_text("uniform on const 96->24 K=12 seed 1").first).to_be_visible()
    expect(page.get_by_text("Cuts every row into").first).to_be_visible()
    expect(page.get_by_text("python -m harness").first).to_be_visible()
    # Links in a description open a tab of their own, and take their time.
    with page.expect_popup(timeout=WAIT) as opened:
        page.get_by_role("link", name="Its cell on the page").click()
    there = opened.value
    expect(there.get_by_role("dialog")).to_contain_text("uniform on const 96→24 K=12")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_server_ends_with_its_make(results: Path, how: signal.Signals) -> None:
    """Interrupted or killed, also outright: nothing goes on listening."""
    with served(results) as running:
        if how == signal.SIGINT:  # a terminal sends it to all
            os.killpg(running.process.pid, how)
        else:
            running.process.send_signal(how)
        running.process.wait(timeout=20)
        until = time.monotonic() + 20
        while is_open(running.port) and time.monotonic() < until:
            time.sleep(0.1)
        assert not is_open(running.port)
