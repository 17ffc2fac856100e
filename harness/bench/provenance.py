"""Where a number comes from: the commit of the checkout and the versions it runs with."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from harness.core.job import Provenance


def provenance(checkout: Path) -> Provenance:
    """The checkout's commit, ``-dirty`` if what computes a result differs, and versions."""
    packages = [f"{name} {version(name)}" for name in ("torch", "numpy", "sktime")]
    versions = ", ".join([f"python {platform.python_version()}", *packages])
    return Provenance(_commit(checkout), versions)


def _commit(checkout: Path) -> str:
    try:
        top, commit = _git(checkout, "rev-parse", "--show-toplevel", "HEAD").split()
        if Path(top).resolve() != checkout.resolve():
            return "unknown"  # copied into somebody else's repository
        changed = _git(checkout, "status", "--porcelain", "--", "harness", "methods", "suites")
    except (OSError, subprocess.CalledProcessError, ValueError):
        return "unknown"
    return f"{commit}-dirty" if changed else commit


def _git(checkout: Path, *words: str) -> str:
    command = ["git", "-C", str(checkout), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - git with fixed words, no shell
    return done.stdout
