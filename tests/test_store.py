"""MLflow's local store: what is wrong with its files is known before MLflow opens them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from harness.report import store


def made(results: Path, location: str) -> Path:
    """A store with one experiment whose artifacts are at ``location``, and one such file."""
    results.mkdir(exist_ok=True)
    with closing(sqlite3.connect(results / store.STORE)) as database, database:
        database.execute("CREATE TABLE experiments (name TEXT, artifact_location TEXT)")
        database.executemany(
            "INSERT INTO experiments VALUES (?, ?)",
            [("Default", "/somewhere/mlruns/0"), ("tiny", location)],
        )
    (results / store.ARTIFACTS).mkdir()
    (results / store.ARTIFACTS / "picture").write_text("own")
    return results


def test_a_store_of_this_folder_has_no_flaw(tmp_path: Path) -> None:
    """Nor has none at all, or one that is to be filled yet; experiments of others do not count."""
    assert store.flaw(tmp_path) == ""
    (tmp_path / store.STORE).touch()
    assert store.flaw(tmp_path) == ""
    assert not store.is_there(tmp_path)
    own = made(tmp_path / "own", store.artifacts(tmp_path / "own"))
    assert store.flaw(own) == ""
    assert store.is_there(own)


def test_a_folder_that_was_renamed_or_copied_is_told_from_its_original(tmp_path: Path) -> None:
    """Its store would write into the old folder, whose path it holds."""
    old = made(tmp_path / "old name?", store.artifacts(tmp_path / "old name?"))
    assert store.flaw(old) == ""
    assert "is of another folder (file://" in store.flaw(old.rename(tmp_path / "new"))


@pytest.mark.parametrize("half", ["all", "the end"])
def test_a_damaged_store_is_recognised(tmp_path: Path, half: str) -> None:
    """Whether it is no database at all, or one of which a part is lost."""
    results = made(tmp_path / "a", store.artifacts(tmp_path / "a"))
    path = results / store.STORE
    content = path.read_bytes()
    path.write_bytes(b"garbage" * 100 if half == "all" else content[: len(content) // 2])
    assert "is damaged (" in store.flaw(results)


def test_a_store_in_which_somebody_writes_is_no_damaged_one(tmp_path: Path) -> None:
    """It is waited for, as MLflow does."""
    results = made(tmp_path / "a", "/elsewhere/mlflow-artifacts")
    with closing(sqlite3.connect(results / store.STORE)) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert store.flaw(results) == ""


def test_what_is_put_aside_is_kept_and_replaces_what_was_before(tmp_path: Path) -> None:
    """Store and artifacts go together, twice in a row."""
    for turn in ("first", "second"):
        made(tmp_path / "a", turn)
        store.put_aside(tmp_path / "a")
        assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
            "mlflow-artifacts.old",
            "mlflow.db.old",
        ]
        with closing(sqlite3.connect(tmp_path / "a" / "mlflow.db.old")) as database:
            rows = database.execute("SELECT artifact_location FROM experiments").fetchall()
        assert rows[1] == (turn,)
