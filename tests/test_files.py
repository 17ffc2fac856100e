"""Files and folders that appear whole, and locks among processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.files import clear_unfinished, lock, locked, put_folder


def test_what_dead_processes_have_begun_is_cleared(tmp_path: Path) -> None:
    """Files and folders of a process that is gone, and nothing else."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead, alive = process.pid, os.getpid()
    for name in (f".a.csv.{dead}", f".a.csv.{alive}", ".hidden", "b.csv", ".0x.12x"):
        (tmp_path / name).write_text("")
    for name in (f".key.{dead}", f".key.{dead}.older", f".key.{alive}"):
        (tmp_path / name / "inside").mkdir(parents=True)
    clear_unfinished(tmp_path)
    left = {".a.csv." + str(alive), ".hidden", "b.csv", ".0x.12x", f".key.{alive}"}
    assert {path.name for path in tmp_path.iterdir()} == left


def test_a_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    """A full one too, which no system renames onto; nothing else is left."""
    place, made = tmp_path / "place", tmp_path / ".place.1"
    for content in ("old", "new"):
        made.mkdir()
        (made / content).write_text(content)
        put_folder(made, place)
    assert [path.name for path in place.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_a_lock_is_had_by_one_or_shared_by_all(tmp_path: Path) -> None:
    """Who does not wait is told; closing the file lets go of it."""
    with (tmp_path / "a").open("w") as one, (tmp_path / "a").open() as other:
        assert lock(one, wait=False)
        assert not lock(other, wait=False)
        assert not lock(other, shared=True, wait=False)
        assert lock(one, shared=True)
        assert lock(other, shared=True, wait=False)
    with (tmp_path / "a").open() as third:
        assert lock(third, wait=False)


@pytest.mark.parametrize("name", ["folder", "file"])
def test_what_is_locked_may_be_a_folder_or_a_file_to_come(tmp_path: Path, name: str) -> None:
    """A folder is locked itself, and nothing is put into it; a file by a small one beside it."""
    (tmp_path / "folder").mkdir()
    place = tmp_path / ("folder" if name == "folder" else ".file.lock")
    with locked(tmp_path / name):
        file = os.open(place, os.O_RDONLY)
        assert not lock(file, wait=False)
    assert lock(file, wait=False)
    os.close(file)
    assert list((tmp_path / "folder").iterdir()) == []
