"""The public face: names are there, type checkers see the same, and nothing heavy is loaded."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import harness


def test_every_public_name_can_be_imported() -> None:
    """What ``__all__`` lists is what its home has by that name, and ``dir`` shows it."""
    assert sorted(harness.__all__) == sorted(harness._HOME)
    assert set(harness.__all__) <= set(dir(harness))
    for name, home in harness._HOME.items():
        assert getattr(harness, name) is getattr(import_module(home), name)


def test_type_checkers_see_what_is_imported() -> None:
    """The imports that only type checkers read name the same homes."""
    tree = ast.parse(Path(harness.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == harness._HOME


def test_an_unknown_name_is_refused() -> None:
    """As of any module, so that ``hasattr`` and ``from harness import`` do what they always do."""
    with pytest.raises(AttributeError, match="'harness' has no attribute 'Pather'"):
        _ = harness.Pather


def test_the_face_loads_nothing_heavy() -> None:
    """Importing the package, as a bare ``python -m harness`` does, waits for no library."""
    code = "import harness, sys; print(*{'torch', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
