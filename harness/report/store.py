"""The files of the local MLflow store: used where they belong, put aside where they do not."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

STORE = "mlflow.db"
ARTIFACTS = "mlflow-artifacts"
ASIDE = ".old"
"""What the names of both end in when they are put aside."""


def is_there(results: Path) -> bool:
    """Whether the folder has a store."""
    path = results / STORE
    return path.exists() and path.stat().st_size > 0


def flaw(results: Path) -> str:
    """Why the folder's store cannot be used, or nothing; also nothing where there is none.

    MLflow keeps the artifacts' folder as an absolute path. So the store of a results folder that
    was renamed or copied would write into the old one, or make it anew.
    """
    if not is_there(results):
        return ""
    try:
        with closing(_opened(results / STORE)) as store:
            [found] = store.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                return f"is damaged ({found})"
            for (location,) in store.execute("SELECT artifact_location FROM experiments"):
                if location.endswith(f"/{ARTIFACTS}") and location != artifacts(results):
                    return f"is of another folder ({location})"
    except sqlite3.OperationalError:
        return ""  # without tables yet, or somebody is writing: MLflow makes them, and waits
    except sqlite3.DatabaseError as error:
        return f"is damaged ({error})"
    return ""


def put_aside(results: Path) -> None:
    """Rename the store and its artifacts, in the place of what was put aside before."""
    for name in (STORE, ARTIFACTS):
        path, aside = results / name, results / f"{name}{ASIDE}"
        if path.exists():
            if aside.is_dir():
                shutil.rmtree(aside)
            path.replace(aside)
    for name in ("-journal", "-wal", "-shm"):
        (results / f"{STORE}{name}").unlink(missing_ok=True)


def artifacts(results: Path) -> str:
    """The address of the artifacts of the folder's store."""
    return (results / ARTIFACTS).resolve().as_uri()


def address(results: Path) -> str:
    """The address of the folder's store, as MLflow takes it."""
    return f"sqlite:///{(results / STORE).resolve()}"


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0)
