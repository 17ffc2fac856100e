"""Break the science code in one place at a time, and see whether a test notices.

``make mutants`` takes all mutants of ``mutants.toml``, in a copy of the checkout; ``python
tests/mutants.py WORD`` takes those that have the word in their file or in what they break. A
mutant is killed when one of its tests fails; one that survives is a promise that nothing tests.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_suffix(".toml")
LIMIT = 300.0
"""Seconds for the tests of one mutant; they take a few, unless the mutant hangs."""

PRELOADED = ["numpy", "pandas", "scipy.stats", "torch"]


@dataclass(frozen=True)
class Mutant:
    """One mistake: ``new`` in place of ``old`` in ``file``, which the tests ``killed_by`` notice.

    ``what`` is wrong then, in words. ``killed_by`` are tests as ``test_fit.py::test_name``.
    """

    file: str
    what: str
    old: str
    new: str
    killed_by: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"

    def applied(self, text: str) -> str:
        """The text of the file with the mistake in it.

        Raises:
            ValueError: the old text is not there, or more than once.
        """
        if (found := text.count(self.old)) != 1:
            raise ValueError(f"{self} does not apply: its old text is there {found} times")
        return text.replace(self.old, self.new)


def mutants(path: Path = LIST) -> list[Mutant]:
    """The list, in its order; tests named by one string are one test."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return [
        Mutant(file=file, **line | {"killed_by": tuple(line["killed_by"])})
        for file, lines in table.items()
        for line in lines
    ]


def misfits(chosen: list[Mutant], root: Path = ROOT) -> list[str]:
    """What does not apply to the code or the tests as they are: the list must not go stale."""
    found = []
    for mutant in chosen:
        try:
            text = mutant.applied((root / mutant.file).read_text(encoding="utf-8"))
            if mutant.file.endswith(".py"):
                compile(text, mutant.file, "exec")
        except (OSError, ValueError) as error:
            found.append(str(error))
        except SyntaxError as error:
            found.append(f"{mutant} is no Python: {error.msg}, line {error.lineno}")
        for test in mutant.killed_by:
            file, _, name = test.partition("::")
            path = root / "tests" / file
            if not path.is_file() or f"\ndef {name}(" not in path.read_text(encoding="utf-8"):
                found.append(f"{mutant}: there is no {test}")
    return found


class Copy:
    """A copy of a checkout, in which tests run in processes that have torch loaded already."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder / "checkout"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "*.egg-info")

        def left_out(place: str, names: list[str]) -> set[str]:
            # The results of the checkout, and not the room of that name.
            return ignored(place, names) | ({"results"} if Path(place) == root else set())

        shutil.copytree(root, self.folder, ignore=left_out)
        self.log = folder / "log"
        self.processes = multiprocessing.get_context("forkserver")
        self.processes.set_forkserver_preload(PRELOADED)
        self.clock = 10**9

    def write(self, file: str, text: str) -> None:
        """Put a text in place of that of a file."""
        path = self.folder / file
        path.write_text(text, encoding="utf-8")
        # Python takes a compiled module for current if time, in seconds, and size are the same.
        self.clock += 10
        os.utime(path, (self.clock, self.clock))

    def test(self, tests: tuple[str, ...], limit: float = LIMIT) -> int | None:
        """What pytest ends with, at the first failure: 0 if there is none; None, out of time."""
        process = self.processes.Process(target=_test, args=(self.folder, tests, self.log))
        process.start()
        process.join(limit)
        if process.is_alive():
            process.kill()
            process.join()
            return None
        return process.exitcode

    def failure(self) -> str:
        """The line with which pytest sums up the failure of the latest tests."""
        lines = re.findall(r"^(?:FAILED|ERROR) (.*)", self.log.read_text(), re.MULTILINE)
        return lines[0].removeprefix("tests/") if lines else "no test is named"


def _test(folder: Path, tests: tuple[str, ...], log: Path) -> None:
    import pytest

    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.dont_write_bytecode = False  # only one module changes from one mutant to the next
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider"]
    sys.exit(int(pytest.main([*options, *(f"tests/{test}" for test in tests)])))


def verdict(mutant: Mutant, copy: Copy, limit: float = LIMIT) -> tuple[str, str]:
    """Killed, SURVIVED or no verdict, and why; the copy is as before afterwards."""
    original = (copy.folder / mutant.file).read_text(encoding="utf-8")
    copy.write(mutant.file, mutant.applied(original))
    code = copy.test(mutant.killed_by, limit)
    copy.write(mutant.file, original)
    if code == 0:
        return "SURVIVED", ", ".join(mutant.killed_by)
    if code == 1:
        return "killed", copy.failure()
    why = f"not done in {limit:.0f} s" if code is None else f"pytest ended with {code}"
    return "NO VERDICT", why


def say(*lines: str) -> None:
    """Print lines at once, wherever they go."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def main(words: list[str], path: Path = LIST, root: Path = ROOT) -> int:
    """Try all mutants that have one of the words; 1 if one is not killed or does not apply."""
    chosen = [
        mutant
        for mutant in mutants(path)
        if not words or any(word in str(mutant) for word in words)
    ]
    if not chosen:
        say(f"No mutant of {path.name} has {' or '.join(words)} in its name.")
        return 1
    if stale := misfits(chosen, root):
        say(*stale, f"{path.name} does not fit the code any more: {len(stale)} lines")
        return 1
    # Read when torch is first imported, in the process that the others are forked from.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as place:
        copy, alive = Copy(root, Path(place)), 0
        every = tuple(dict.fromkeys(test for mutant in chosen for test in mutant.killed_by))
        say(f"{len(chosen)} mutants; first their {len(every)} tests without any ...")
        if copy.test(every, limit=10 * LIMIT) != 0:
            say(f"These tests have to pass on the code as it is: {copy.failure()}")
            return 1
        for number, mutant in enumerate(chosen, 1):
            started = time.perf_counter()
            said, why = verdict(mutant, copy)
            alive += said != "killed"
            seconds = time.perf_counter() - started
            say(f"{number:4} {said:10} {seconds:4.0f} s  {mutant}", f"{'':23}{why}")
        say(f"{len(chosen) - alive} of {len(chosen)} mutants killed.")
    return int(alive > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
