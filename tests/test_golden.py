"""No number changes unseen: one tiny job of every method, compared with the committed digits."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import measure
import pytest

from harness.bench import suite
from harness.core.protocol import PROTOCOL

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
COMMITTED = json.loads((GOLDEN / "digits.json").read_text())
ELSEWHERE = (
    "made with other versions or on another kind of machine ({}): here numbers are compared within"
    " 1 %, and the table not at all"
)


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the same jobs measure now."""
    import_module("torch")  # without it there is nothing to measure
    folder = tmp_path_factory.mktemp("golden")
    command: list[str | Path] = [sys.executable, GOLDEN / "measure.py", folder]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    return folder


@pytest.fixture(scope="module")
def digits(again: Path) -> dict[str, Any]:
    """The file of digits, measured now."""
    content: dict[str, Any] = json.loads((again / "digits.json").read_text())
    return content


def test_the_committed_digits_are_of_this_protocol() -> None:
    """Whoever raises PROTOCOL makes the golden digits anew."""
    assert COMMITTED["protocol"] == PROTOCOL, "PROTOCOL was raised: run make golden"


def test_every_method_measures_what_it_did(digits: dict[str, Any]) -> None:
    """The digits of every job are the committed ones; within 1 % where these are of elsewhere."""
    why = measure.refusal(COMMITTED, digits)
    assert not why, why


def test_code_that_makes_numbers_was_seen_to_make_the_same() -> None:
    """After an edit of the rooms that compute, digits were compared or PROTOCOL was raised."""
    assert COMMITTED["rooms"] == measure.header()["rooms"], (
        f"the code of {', '.join(measure.ROOMS)} is not what the golden digits were made with: run"
        " make golden, which takes it in if no digit has changed; else raise PROTOCOL"
    )


def test_every_method_of_a_suite_has_golden_digits(digits: dict[str, Any]) -> None:
    """What is compared in a suite is compared here, every column of it; a new file need not be."""
    suites = [suite.load(path) for path in (ROOT / "suites").glob("*.toml")]
    assert {name for each in suites for name in each.methods} <= COMMITTED["digits"].keys()
    for job, columns in COMMITTED["digits"].items():
        assert list(columns) == list(digits["digits"].get(job, ())), "run make golden"


def test_the_table_is_the_committed_one(again: Path, digits: dict[str, Any]) -> None:
    """The leaderboard that the rows make reads as before, word for word."""
    if COMMITTED["made_with"] != digits["made_with"]:
        pytest.skip(ELSEWHERE.format(COMMITTED["made_with"]))
    then = (GOLDEN / "leaderboard.md").read_text()
    assert (again / "leaderboard.md").read_text() == then, "if this is meant, run make golden"


# --- what counts as a difference -----------------------------------------------------------------


def changed(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - values of a JSON file
    """The committed file with other values in the record of equal patches."""
    other = copy.deepcopy(COMMITTED)
    other["digits"]["uniform"] |= changes
    return other


def test_the_last_digit_counts() -> None:
    """A change of one unit in the last place is named: job, column, both values, what to do."""
    mse = COMMITTED["digits"]["uniform"]["mse"]
    near = mse * (1 + 3e-16)
    assert near != mse
    why = measure.refusal(COMMITTED, changed(mse=near))
    assert f"uniform: mse was {mse!r} and is {near!r}" in why
    assert "Raise PROTOCOL in harness/core/protocol.py, or find out why." in why


def test_on_another_machine_one_percent_is_allowed() -> None:
    """Digits of elsewhere may differ in the third place; counts and words may not."""
    mse, steps = (COMMITTED["digits"]["uniform"][name] for name in ("mse", "steps"))
    for changes, names in (
        ({"mse": mse * 1.009}, []),
        ({"mse": mse * 1.05}, ["mse"]),
        ({"steps": steps + 1}, ["steps"]),
        ({"status": "failed"}, ["status"]),
    ):
        other = changed(**changes) | {"made_with": {"torch": "3.0"}}
        found = measure.differences(COMMITTED, other)
        assert [line.split()[1] for line in found] == names


def test_new_methods_are_no_difference_and_a_new_protocol_may_change_all() -> None:
    """What was not there cannot have changed, and PROTOCOL says that all may have."""
    more = copy.deepcopy(COMMITTED)
    more["digits"]["mine"] = {"mse": 1.0}
    assert not measure.refusal(COMMITTED, more)
    assert not measure.refusal(COMMITTED, changed(mse=0.0) | {"protocol": PROTOCOL + 1})


def test_other_digits_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make golden` leaves both files as they are while the protocol is the same."""
    for name in ("digits.json", "leaderboard.md"):
        shutil.copy(GOLDEN / name, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    made = {name: COMMITTED[name] for name in COMMITTED if name != "digits"}
    monkeypatch.setattr(measure, "header", lambda: made)
    monkeypatch.setattr(measure, "measure", lambda: (changed(mse=0.0)["digits"], "a table"))
    with pytest.raises(SystemExit, match=r"uniform: mse was .* and is 0\.0"):
        measure.main(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.setattr(measure, "header", lambda: made | {"protocol": PROTOCOL + 1})
    measure.main(tmp_path)
    assert json.loads((tmp_path / "digits.json").read_text())["protocol"] == PROTOCOL + 1
    assert (tmp_path / "leaderboard.md").read_text() == "a table"
