"""Files that appear whole or not at all: written beside their place, flushed, then renamed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
