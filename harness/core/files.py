"""Files that appear whole or not at all, and locks, which the system drops with their process."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, even if the machine stops or the disk is full."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """:func:`write_text` of what is no text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_flushed(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def put_folder(made: Path, place: Path) -> None:
    """Move a folder that is complete to its place; an older one there steps aside, then goes.

    Killed in between, it leaves what :func:`clear_unfinished` removes, and no half of a folder.
    Of two processes with the same place one waits for the other, and the later one stays.
    """
    older = made.with_name(f"{made.name}.older")
    with locked(place.parent):
        if place.exists():
            place.replace(older)  # a folder cannot be renamed onto a full one
        made.replace(place)
    shutil.rmtree(older, ignore_errors=True)


def lock(file: int | IO[str], *, shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file among processes; False where another has it and we do not ``wait``.

    Several processes may hold it ``shared``. The system drops it when the file is closed, and so
    when its process is killed.
    """
    kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
    try:
        fcntl.flock(file, kind)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Have a folder, or a file that need not be there yet, for one process; the others wait."""
    place = path if path.is_dir() else path.with_name(f".{path.name}.lock")
    file = os.open(place, os.O_RDONLY if place.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        lock(file)
        yield
    finally:
        os.close(file)


@contextmanager
def writing(results: Path) -> Iterator[None]:
    """An error in writing results says so, and what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            f"results cannot be written in {results}: {error}. What is finished is kept; when"
            " this is put right, the same command goes on from here"
        ) from error


def clear_unfinished(folder: Path) -> None:
    """Remove what processes that are dead have begun to write in ``folder`` and not finished."""
    for path in folder.glob(".*"):
        begun = re.fullmatch(r"\..+\.(\d+)(\.older)?", path.name)
        if begun is None or _is_alive(int(begun[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True  # somebody else's; or no process at all, and then no file of ours
    return True


def write_flushed(path: Path, content: bytes) -> None:
    """Write a file and have the disk keep it."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
