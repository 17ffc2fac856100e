"""The browser of the tests that need one.

It is the one that PATCHBENCH_CHROMIUM names, else ``chromium`` or ``google-chrome`` in PATH.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

# It runs as root in a container, and asks nobody for anything.
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Open it, and close it again."""
    found = [
        os.environ.get("PATCHBENCH_CHROMIUM"),
        *map(shutil.which, ("chromium", "google-chrome")),
    ]
    path = next(filter(None, found), None)
    if path is None:
        pytest.fail("no browser: install chromium, or name one in PATCHBENCH_CHROMIUM")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield opened
        opened.close()
