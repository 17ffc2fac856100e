"""What methods declare is known without torch, from a cache that no edit can deceive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harness.bench.plan import plan
from harness.bench.suite import find
from harness.bench.survey import Folders, survey
from harness.core.job import Job
from harness.core.task import Architecture, Task
from harness.model import registry
from harness.model.declared import Declarations

ROOT = Path(__file__).resolve().parents[1]
METHOD = """\
from harness import Patcher


class Plain(Patcher):
    def __init__(self, task, *, hidden=16, sizes=(1, 2), rate):
        super().__init__(task)
"""
UNLUCKY = """\
import os, signal
from pathlib import Path
from harness import Patcher
if not Path(__file__).with_suffix(".mark").exists():
    Path(__file__).with_suffix(".mark").touch()
    os.kill(os.getpid(), signal.SIGKILL)


class Unlucky(Patcher):
    pass
"""
SURVEY = """\
import json, sys
from pathlib import Path
from harness.bench.plan import plan
from harness.bench.suite import find
from harness.bench.survey import Folders, survey
folders = Folders(Path(sys.argv[1]), (), Path(sys.argv[2]))
planned = survey(plan(find("quickstart", Path("suites"))), folders)
loaded = sorted({"torch", "pandas"} & sys.modules.keys())
print(json.dumps([loaded, [[run.key, run.state] for run in planned]]))
"""
ASK = """\
import json, sys
from contextlib import closing
from pathlib import Path
from harness.core.job import Job
from harness.core.task import Architecture, Task
from harness.model.declared import Declarations
asked = []
class Counted(Declarations):
    def _ask_child(self, question, name):
        asked.append(name)
        return super()._ask_child(question, name)
cache, folder = Path(sys.argv[1]), Path(sys.argv[2])
def answers(*names):
    with closing(Counted(cache, folder)) as methods:
        for name in names:
            try:
                declared = methods.of(name)
                yield declared.complete({"rate": 1}) if name == "plain" else "Unlucky"
            except ValueError as error:
                yield str(error)
def edit(old, new):
    path = folder / "plain.py"
    path.write_text(path.read_text().replace(old, new))
told = [*answers("plain", "plain", "broken", "broken", "deadly", "unlucky")]
edit("class", "# a remark\\nclass")
told += answers("plain")
edit("16", "32")
told += answers("plain")
assert "torch" not in sys.modules
print(json.dumps([asked, told]))
"""


def alone(program: str, *words: Path) -> Any:  # noqa: ANN401 - JSON
    """What a program prints that runs by itself, in a process without torch."""
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_suite_is_surveyed_without_torch(tmp_path: Path) -> None:
    """From an empty cache and from a full one, with the keys that the methods themselves give."""
    cold, told = alone(SURVEY, tmp_path / "results", tmp_path / "cache")
    assert (tmp_path / "cache" / "declared.json").exists()
    assert [cold, told] == alone(SURVEY, tmp_path / "results", tmp_path / "cache")
    assert cold == []
    here = survey(
        plan(find("quickstart", ROOT / "suites")),
        Folders(tmp_path / "results", (), tmp_path / "other"),
    )
    assert told == [[run.key, run.state] for run in here]


def test_a_method_is_loaded_once_until_its_code_is_edited(tmp_path: Path) -> None:
    """A remark is no edit; what cannot be loaded is tried each time, and once more if killed."""
    (tmp_path / "plain.py").write_text(METHOD)
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "deadly.py").write_text("import os\nos._exit(3)")
    (tmp_path / "unlucky.py").write_text(UNLUCKY)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "declared.json").write_text("[1]")
    asked, told = alone(ASK, tmp_path / "cache", tmp_path)
    assert asked == ["plain", "broken", "broken", "deadly", "unlucky", "plain"]
    declared = {"hidden": 16, "sizes": [1, 2], "rate": 1}
    assert told[:2] == [declared] * 2
    assert all("ZeroDivisionError" in why for why in told[2:4])
    assert told[4] == "method 'deadly' ended the process that loaded it"
    assert told[5] == "Unlucky"
    assert told[6:] == [declared, declared | {"hidden": 32}]
    assert len(json.loads((tmp_path / "cache" / "declared.json").read_text())) == 3


@pytest.mark.parametrize("name", registry.names())
def test_what_is_declared_is_what_the_class_says(name: str, tmp_path: Path) -> None:
    """Columns, hyperparameters and card, for every method there is."""
    method = registry.find(name)
    with closing(Declarations(tmp_path)) as methods:
        told = methods.of(name)
    assert told.columns == {
        **registry.declared(method),
        "method_source": registry.source_hash(method),
    }
    assert told.complete({}) == registry.complete_hyperparameters(method, {})
    assert told.card == registry.card(method)


def test_whether_there_is_anything_to_tune_is_known(tmp_path: Path) -> None:
    """The shared forecaster learns under every patcher; of references those with weights."""
    task, small = Task("ETTh1", 96, 24, 12, 24), Architecture(width=8, layers=1)
    with closing(Declarations(tmp_path)) as methods:
        learns = {
            name: methods.learns(Job("small", name, task, 1, architecture=small))
            for name in ("uniform", "patchtst", "seasonal_naive")
        }
    assert learns == {"uniform": True, "patchtst": True, "seasonal_naive": False}
