"""The hash of a method's code sees all that it computes with, and nothing of how it is written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.identity import folder_hash, source_hash
from harness.model import registry

METHOD = '''\
"""A plug-in."""

from harness import Patcher, from_scores
from plugin import tools
from plugin.deep.scores import jump
import torch


class Jumps(Patcher):
    """Starts patches where values jump."""

    def forward(self, rows):
        from plugin.late import power

        return from_scores(jump(rows.values) ** power(), self.task.patches)
'''
HELPERS = {
    "__init__.py": "",
    "tools.py": "from .constants import SCALE\n\n\ndef unused():\n    return SCALE\n",
    "constants.py": "SCALE = 2.0\n",
    "late.py": "def power():\n    return 2\n",
    "deep/__init__.py": "from ..constants import SCALE\n",
    "deep/scores.py": "from numpy import abs\n\n\ndef jump(values):\n    return abs(values)\n",
    "stranger.py": "X = 1\n",
}


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of an installed package: a method, what it imports, and a stranger."""
    place = tmp_path / "plugin"
    for name, text in {"jumps.py": METHOD, **HELPERS}.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield place
    for name in [name for name in sys.modules if name.partition(".")[0] == "plugin"]:
        del sys.modules[name]


def hash_of(plugin: Path) -> str:
    return source_hash("plugin.jumps", plugin / "jumps.py")


@pytest.mark.parametrize("name", [name for name in HELPERS if name != "__init__.py"])
def test_an_edited_helper_gives_a_new_hash(plugin: Path, name: str) -> None:
    """Whatever the method imports of its own package counts, and what is not imported does not."""
    before = hash_of(plugin)
    with (plugin / name).open("a") as file:
        file.write("\nADDED = 1\n")
    assert (hash_of(plugin) != before) == (name != "stranger.py")


def test_comments_docstrings_and_layout_are_no_code(plugin: Path) -> None:
    """A reformatted helper computes the same."""
    before = hash_of(plugin)
    text = HELPERS["late.py"].replace(
        "return 2", '"""Two."""\n\n    return (\n        2  # so\n    )'
    )
    (plugin / "late.py").write_text(f'"""Late."""\n\nfrom math import pi\n\n{text}')
    assert hash_of(plugin) == before


def test_moving_a_helper_changes_nothing(plugin: Path) -> None:
    """The same code under another name, imported from there, is the same code."""
    before = hash_of(plugin)
    (plugin / "deep" / "scores.py").rename(plugin / "rates.py")
    (plugin / "jumps.py").write_text(METHOD.replace("plugin.deep.scores", "plugin.rates"))
    (plugin / "deep" / "__init__.py").unlink()
    moved = hash_of(plugin)
    (plugin / "rates.py").write_text(
        "from numpy import abs\n\n\ndef jump(values):\n    return values\n"
    )
    # The package that lay around it is gone, too; it only imported.
    assert moved == before != hash_of(plugin)


def test_what_is_imported_from_other_packages_counts(plugin: Path) -> None:
    """The same name from another library is another computation; annotations' imports are none."""
    before = hash_of(plugin)
    scores = plugin / "deep" / "scores.py"
    scores.write_text(f"from typing import Any\n{HELPERS['deep/scores.py']}")
    assert hash_of(plugin) == before
    scores.write_text(HELPERS["deep/scores.py"].replace("from numpy", "from torch"))
    assert hash_of(plugin) != before


def test_a_module_beside_a_single_file_plug_in_is_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Modules that were installed together belong together, though no package holds them."""
    (tmp_path / "jumping.py").write_text("from leaping import power\n")
    (tmp_path / "leaping.py").write_text("def power():\n    return 2\n")
    metadata = tmp_path / "jumping-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: jumping\nVersion: 1\n")
    (metadata / "top_level.txt").write_text("jumping\nleaping\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = source_hash("jumping", tmp_path / "jumping.py")
    (tmp_path / "leaping.py").write_text("def power():\n    return 3\n")
    assert source_hash("jumping", tmp_path / "jumping.py") != before


def test_a_family_file_is_part_of_its_methods_and_of_no_other() -> None:
    """Our own methods are hashed with what they share: a policy gradient with its policy."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from harness.core import identity\n"
        "seen = []\n"
        "digest = identity._digest\n"
        "identity._digest = lambda path, own: seen.append(path.name) or digest(path, own)\n"
        "for name in ('reinpatch', 'hnet', 'uniform'):\n"
        "    identity.source_hash(f'methods.{name}', Path('methods', f'{name}.py'))\n"
        "print(sorted(set(seen)))\n"
        "print('torch' in sys.modules)\n"
    )
    root = Path(__file__).parents[1]
    answer = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert answer.stdout.splitlines() == [
        "['__init__.py', '_policy.py', '_routing.py', 'hnet.py', 'reinpatch.py', 'uniform.py']",
        "False",  # nothing is loaded to be hashed
    ]


def test_a_file_that_is_no_python_is_named(plugin: Path) -> None:
    """A helper with a syntax error is said to be one, with its line."""
    (plugin / "late.py").write_text("def power(:\n")
    with pytest.raises(ValueError, match=r"late\.py cannot be parsed: line 1"):
        hash_of(plugin)


def test_the_hash_of_a_folder_does_not_know_names(tmp_path: Path) -> None:
    """Modules may be renamed and moved within; an edit of any is seen."""
    (tmp_path / "a.py").write_text("X = 1\n")
    before = folder_hash([tmp_path])
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.py").rename(tmp_path / "deep" / "b.py")
    assert folder_hash([tmp_path]) == before
    (tmp_path / "deep" / "b.py").write_text("X = 2\n")
    assert folder_hash([tmp_path]) != before


SURVEY = """
import sys
from pathlib import Path
from harness.bench.survey import Folders, survey
from harness.core.job import Job
from harness.core.task import Task

place = Path(sys.argv[1])
job = Job("tiny", "jumps", Task("mitdb", 48, 12, 6), seed=1)
[planned] = survey([job], Folders(place / "results", (), place / "cache"))
print(planned.state, planned.key, "torch" in sys.modules, planned.why)
"""


def test_a_plug_in_whose_helper_is_edited_has_another_key(plugin: Path) -> None:
    """The bench sees it before it runs anything: no old number is taken for the new code's."""
    metadata = plugin.parent / "plugin-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: plugin\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[{registry.GROUP}]\njumps = plugin.jumps:Jumps\n")

    def surveyed() -> list[str]:
        root = Path(__file__).parents[1]
        paths = os.pathsep.join([str(plugin.parent), str(root)])
        command = [sys.executable, "-c", SURVEY, str(plugin.parent)]
        answer = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=True,
        )
        return answer.stdout.split()

    state, before, torch, *_ = surveyed()
    assert (state, torch) == ("missing", "False")
    assert surveyed()[1] == before
    (plugin / "constants.py").write_text("SCALE = 3.0\n")
    assert surveyed()[1] != before


def test_methods_are_hashed_where_they_lie() -> None:
    """The registry hashes the class's own file: a method's row is stale once that is edited."""
    method = registry.find("reinpatch")
    path = registry.METHODS / "reinpatch.py"
    assert registry.source_hash(method) == source_hash("methods.reinpatch", path)
