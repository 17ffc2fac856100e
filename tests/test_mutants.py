"""The list of mutants fits the code, and the script tells a killed one from one that survives."""

from __future__ import annotations

from pathlib import Path

import mutants
import pytest
from mutants import Copy, Mutant, main, misfits, verdict

CODE = "def double(x):\n    return 2 * x\n\n\ndef half(x):\n    return x / 2\n"
TEST = "from doubling import double\n\n\ndef test_it():\n    assert double(3) == 6\n"
WRONG = Mutant("doubling.py", "three", "2 * x", "3 * x", ("test_doubling.py::test_it",))


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module with two functions, of which a test knows one."""
    monkeypatch.setattr(mutants, "PRELOADED", [])
    root = tmp_path / "root"
    (root / "tests").mkdir(parents=True)
    (root / "doubling.py").write_text(CODE)
    (root / "tests/test_doubling.py").write_text(TEST)
    return root


def listed(root: Path, *chosen: Mutant) -> Path:
    """A file of mutants."""
    lines = [
        f"[['doubling.py']]\nwhat = '{one.what}'\nold = '{one.old}'\nnew = '{one.new}'\n"
        f"killed_by = {list(one.killed_by)}\n"
        for one in chosen
    ]
    path = root / "tests" / "mutants.toml"
    path.write_text("\n".join(lines))
    return path


def test_every_mutant_fits_the_code_and_its_tests_are_there() -> None:
    """Old texts are found exactly once, each is changed, no two are the same; tests exist."""
    every = mutants.mutants()
    assert misfits(every) == []
    assert len({(one.file, one.old, one.new) for one in every}) == len(every) > 100
    assert len({str(one) for one in every}) == len(every)
    assert all(one.killed_by and one.new != one.old for one in every)


def test_what_does_not_fit_is_named(checkout: Path) -> None:
    """A text that is gone or there twice, a file or a test that is not there, broken Python."""
    gone = Mutant("doubling.py", "gone", "4 * x", "x", WRONG.killed_by)
    twice = Mutant("doubling.py", "twice", "return", "x =", WRONG.killed_by)
    away = Mutant("away.py", "away", "x", "y", ("test_doubling.py::test_that",))
    assert misfits([WRONG], checkout) == []
    broken = Mutant("doubling.py", "broken", "2 * x", "2 *", WRONG.killed_by)
    assert misfits([broken], checkout) == [
        "doubling.py: broken is no Python: invalid syntax, line 2"
    ]
    first, second, third, fourth = misfits([gone, twice, away], checkout)
    assert first == "doubling.py: gone does not apply: its old text is there 0 times"
    assert second == "doubling.py: twice does not apply: its old text is there 2 times"
    assert "No such file" in third
    assert fourth == "away.py: away: there is no test_doubling.py::test_that"


def test_mutants_are_killed_or_survive_or_have_no_verdict(checkout: Path, tmp_path: Path) -> None:
    """A failing test kills, a passing one does not, and neither does a crash or a lack of time."""
    copy = Copy(checkout, tmp_path)
    said, why = verdict(WRONG, copy)
    assert (said, why) == ("killed", "test_doubling.py::test_it - assert 9 == 6")
    other = Mutant("doubling.py", "other", "x / 2", "x / 3", WRONG.killed_by)
    assert verdict(other, copy) == ("SURVIVED", "test_doubling.py::test_it")
    broken = Mutant("doubling.py", "broken", "return 2", "return (", WRONG.killed_by)
    assert verdict(broken, copy) == ("NO VERDICT", "pytest ended with 4")
    endless = Mutant("doubling.py", "endless", "2 * x", "double(x) if x < 0 else endless()", ())
    assert verdict(endless, copy, limit=0.01) == ("NO VERDICT", "not done in 0 s")
    assert (copy.folder / "doubling.py").read_text() == CODE
    assert (checkout / "doubling.py").read_text() == CODE


def test_the_script_ends_with_1_unless_all_are_killed(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes those that have a word, and refuses a stale list and tests that fail anyway."""
    other = Mutant("doubling.py", "other", "x / 2", "x / 3", WRONG.killed_by)
    path = listed(checkout, WRONG, other)
    assert main(["three"], path, checkout) == 0
    assert "1 of 1 mutants killed." in capsys.readouterr().out
    assert main([], path, checkout) == 1
    assert "1 of 2 mutants killed." in capsys.readouterr().out
    assert main(["no such word"], path, checkout) == 1
    (checkout / "doubling.py").write_text(CODE.replace("2 * x", "2 * x + 1"))
    assert main(["three"], path, checkout) == 1
    assert "have to pass on the code as it is" in capsys.readouterr().out
    (checkout / "doubling.py").write_text(CODE.replace("2 * x", "x + x"))
    assert main([], path, checkout) == 1
    assert "does not fit the code any more: 1 lines" in capsys.readouterr().out


def test_a_copy_has_the_room_of_results_and_not_the_results(tmp_path: Path) -> None:
    """Rows are large and no mutant needs them; code does not run without the room of that name."""
    for name in ("results/rows.csv", "harness/results/rows.py"):
        (tmp_path / "root" / name).parent.mkdir(parents=True)
        (tmp_path / "root" / name).touch()
    copied = Copy(tmp_path / "root", tmp_path / "copy").folder
    assert [path.name for path in copied.rglob("rows.*")] == ["rows.py"]
