"""Methods by name: from a folder, from outside packages, with clear errors."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.model import declared, registry
from harness.model.forecaster import Forecaster
from harness.model.patcher import Patcher

METHOD = '''\
"""A method."""

from harness.model.patcher import Patcher, from_scores


class Jumps(Patcher):
    """Starts patches at the largest jumps."""

    def __init__(self, task, *, power=2, name="x"):
        super().__init__(task)  # first things first
        self.power = power

    def forward(self, rows):
        return from_scores(rows.values.diff(dim=1).abs() ** self.power, self.task.patches)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of methods; what is loaded from it is forgotten afterwards."""
    before = {name for name in sys.modules if name.startswith("methods")}
    (tmp_path / "jumps.py").write_text(METHOD)
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "_shared.py").write_text("")
    yield tmp_path
    for name in {name for name in sys.modules if name.startswith("methods.")} - before:
        del sys.modules[name]


def outside(folder: Path, monkeypatch: pytest.MonkeyPatch, entries: str, code: str) -> None:
    """An installed package that offers methods."""
    site = folder / "site"
    (site / "other-1.dist-info").mkdir(parents=True)
    (site / "other-1.dist-info" / "METADATA").write_text("Name: other\nVersion: 1\n")
    (site / "other-1.dist-info" / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{entries}")
    (site / "other_methods.py").write_text(code)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "other_methods", raising=False)


def test_a_file_is_a_method(folder: Path) -> None:
    """Its name is the file's; what begins with an underscore is none."""
    assert registry.names(folder) == ["jumps"]
    found = registry.find("jumps", folder)
    assert found.__name__ == "Jumps"
    assert found is registry.find("jumps", folder)
    assert (registry.kind(found), registry.ranked(found)) == ("patcher", True)


def test_every_shipped_method_can_be_found() -> None:
    """No file of this repository's methods is broken, and references are told from patchers."""
    found = {name: registry.find(name) for name in registry.names()}
    assert registry.kind(found["uniform"]) == "patcher"
    references = {name for name, method in found.items() if issubclass(method, Forecaster)}
    assert {name for name, method in found.items() if not registry.ranked(method)} >= references


def test_a_method_that_sees_the_truth_is_not_ranked(folder: Path) -> None:
    """An upper bound does not compete."""
    text = METHOD.replace("    def __init__", "    uses_truth = True\n\n    def __init__", 1)
    (folder / "jumps.py").write_text(text)
    assert not registry.ranked(registry.find("jumps", folder))


def test_a_misspelt_name_is_answered_with_the_nearest(folder: Path) -> None:
    """And with all there are."""
    with pytest.raises(
        ValueError, match=r"unknown method 'jump'; did you mean 'jumps'.* Known: j"
    ):
        registry.find("jump", folder)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nothing_of_that_name", r"line 1: ModuleNotFoundError"),
        ("x = 1\ny = 1 / 0\n", r"line 2: ZeroDivisionError"),
        ("x = (\n", r"line 1: SyntaxError"),
        ("x = 1\n", r"exactly one .* found: none"),
        (METHOD + METHOD.replace("Jumps", "Leaps"), r"exactly one .* found: Jumps, Leaps"),
    ],
)
def test_a_broken_file_is_named_and_hides_no_other(folder: Path, code: str, message: str) -> None:
    """Its own error says file and line; the others are found as before."""
    (folder / "broken.py").write_text(code)
    assert registry.names(folder) == ["broken", "jumps"]
    assert registry.find("jumps", folder)
    with pytest.raises(ValueError, match=rf"broken\.py.*{message}"):
        registry.find("broken", folder)


def test_imported_and_private_classes_are_not_the_method(folder: Path) -> None:
    """A file may have helpers."""
    helper = (
        "from harness.model.forecaster import Forecaster\n\n\nclass _Half(Patcher):\n    pass\n"
    )
    (folder / "jumps.py").write_text(METHOD + helper)
    assert registry.find("jumps", folder).__name__ == "Jumps"


@pytest.mark.parametrize("entry", ["leaps = other_methods:Leaps", "leaps = other_methods"])
def test_outside_packages_plug_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    """An entry point names a class, or a module that holds one."""
    outside(folder, monkeypatch, entry, METHOD.replace("Jumps", "Leaps"))
    assert registry.names(folder) == ["jumps", "leaps"]
    assert issubclass(registry.find("leaps", folder), Patcher)


def test_outside_packages_plug_in_beside_the_backport(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once MLflow has loaded its backport of importlib.metadata, they are found as before."""
    importlib.import_module("importlib_metadata")
    outside(folder, monkeypatch, "leaps = other_methods", METHOD.replace("Jumps", "Leaps"))
    assert issubclass(registry.find("leaps", folder), Patcher)


def test_installed_packages_are_looked_through_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a method is asked for; what is on another path is looked for anew."""
    looked: list[dict[str, str]] = []

    def entry_points(**given: str) -> tuple[()]:
        looked.append(given)
        return ()

    monkeypatch.setattr(declared, "entry_points", entry_points)
    monkeypatch.syspath_prepend(str(folder))
    for _ in range(3):
        registry.find("jumps", folder)
    assert looked == [{"group": registry.GROUP}]
    monkeypatch.syspath_prepend(str(folder / "site"))
    registry.names(folder)
    assert len(looked) == 2


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("jumps = other_methods:Jumps", "'jumps' is in .* and also other_methods:Jumps; rename"),
        ("leaps = other_methods:Leaps", "'leaps' .* cannot be loaded: .*AttributeError"),
        ("leaps = other_methods:from_scores", "is not a Patcher or Forecaster class"),
    ],
)
def test_what_an_outside_package_gets_wrong_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, entries: str, message: str
) -> None:
    """The same name twice, a class that is not there, a thing that is no method."""
    outside(folder, monkeypatch, entries, METHOD)
    with pytest.raises(ValueError, match=message):
        registry.find("leaps", folder)


def test_hyperparameters_are_completed_and_checked(folder: Path) -> None:
    """A job says every hyperparameter; a misspelt one is not swallowed."""
    method = registry.find("jumps", folder)
    assert registry.complete_hyperparameters(method, {"power": 3}) == {"power": 3, "name": "x"}
    with pytest.raises(
        ValueError, match=r"jumps\.py.*unknown hyperparameter 'powr'; did you mean 'power'"
    ):
        registry.complete_hyperparameters(method, {"powr": 3})
    with pytest.raises(ValueError, match="unknown hyperparameter 'task'"):
        registry.complete_hyperparameters(method, {"task": 3})
    with pytest.raises(ValueError, match=r"hyperparameter 'power' is .* not a plain value"):
        registry.complete_hyperparameters(method, {"power": object()})


def test_a_hyperparameter_without_default_must_be_given(folder: Path) -> None:
    """The error names method and hyperparameter."""
    (folder / "jumps.py").write_text(METHOD.replace("power=2", "power"))
    with pytest.raises(ValueError, match="hyperparameter 'power' has no default and is not given"):
        registry.complete_hyperparameters(registry.find("jumps", folder), {})


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("  # first things first", "", True),
        ('"""Starts patches at the largest jumps."""', '"""Other words."""', True),
        ('    """Starts patches at the largest jumps."""\n\n', "", True),
        ("self.power = power", "self.power = (\n            power\n        )", True),
        ("power=2", "power=3", False),
        ('name="x"', 'name="y"', False),
        (".abs() **", ".abs() *", False),
    ],
)
def test_the_source_hash_sees_code_and_nothing_else(
    folder: Path, old: str, new: str, *, same: bool
) -> None:
    """A better comment does not cost a night of runs; another number does."""
    before = registry.source_hash(registry.find("jumps", folder))
    assert old in METHOD
    (folder / "jumps.py").write_text(METHOD.replace(old, new))
    after = registry.source_hash(registry.find("jumps", folder))
    assert (before == after) is same
