"""The house keeps its own rules: floors, pins, verbs, a light --help."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import jaxtyping
import pytest
import torch
import typer

from harness.cli.verbs import app
from harness.model.patcher import Patches

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CONTRACTS = {
    contract["id"]: contract["name"] for contract in PROJECT["tool"]["importlinter"]["contracts"]
}


_OF_MAKE = re.compile(r"MAKE|MFLAGS")


def run(
    *command: str | Path, folder: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output comes back as text."""
    # Not what `make test` passes on: a make started here is no part of it.
    outer = {name: value for name, value in os.environ.items() if not _OF_MAKE.match(name)}
    return subprocess.run(
        command,
        cwd=folder,
        env=outer | environment,
        capture_output=True,
        text=True,
        check=False,
    )


# --- floors ------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the two packages and their contracts, to do harm in."""
    for package in ("harness", "methods"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def broken(checkout: Path) -> set[str]:
    """The ids of the contracts that the code in a checkout breaks."""
    linter = Path(sys.executable).with_name("lint-imports")
    report = run(linter, "--no-logo", "--no-cache", folder=checkout, COLUMNS="200").stdout
    verdicts = {
        identity: re.search(rf"^{re.escape(name)} (KEPT|BROKEN)", report, re.MULTILINE)
        for identity, name in CONTRACTS.items()
    }
    assert all(verdicts.values()), report
    return {
        identity for identity, verdict in verdicts.items() if verdict and verdict[1] == "BROKEN"
    }


@pytest.mark.parametrize(
    ("module", "planted", "contract"),
    [
        ("harness/windows.py", "import harness.run.fit", "floors"),
        ("harness/fit.py", "import harness.run.evaluate", "floors"),
        ("harness/attic.py", "import harness.core.task", "floors"),
        ("harness/catalog.py", "import methods.uniform", "found-by-name"),
        ("methods/uniform.py", "import harness.run.windows", "methods-see-the-contract"),
        ("methods/uniform.py", "import methods.random_step", "methods-see-the-contract"),
        ("methods/mine.py", "import harness.data", "methods-see-the-contract"),
        ("harness/run.py", "import mlflow.entities", "mlflow"),
        ("methods/uniform.py", "import optuna", "optuna"),
        ("harness/executors.py", "import ray", "ray"),
        ("harness/leaderboard.py", "import seaborn", "pictures"),
        ("harness/track.py", "import matplotlib.pyplot", "pictures"),
        ("harness/leaderboard.py", "import torch", "leaderboard"),
        ("harness/leaderboard.py", "import harness.model.patcher", "leaderboard"),
    ],
)
def test_contract_catches_a_planted_import(
    checkout: Path, module: str, planted: str, contract: str
) -> None:
    """A forbidden import breaks the contract written against it, and no other."""
    with (checkout / module).open("a") as file:
        file.write(f"\n{planted}\n")
    assert broken(checkout) == {contract}


def test_contracts_hold_and_each_has_been_tried(checkout: Path) -> None:
    """The code as it is breaks no contract, and no contract lacks a planted violation above."""
    assert broken(checkout) == set()
    [mark] = test_contract_catches_a_planted_import.pytestmark  # type: ignore[attr-defined]  # pytest puts it there
    assert {contract for _, _, contract in mark.args[1]} == set(CONTRACTS)


def test_help_imports_nothing_heavy() -> None:
    """`python -m harness --help` answers without loading torch, pandas and the like."""
    program = (
        "import json, runpy, sys\n"
        "sys.argv = ['harness', '--help']\n"
        "try:\n"
        "    runpy.run_module('harness', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print(json.dumps([end.code, sorted(sys.modules)]), file=sys.stderr)\n"
    )
    answer = run(sys.executable, "-c", program)
    code, modules = json.loads(answer.stderr)
    heavy = "gluonts matplotlib mlflow numpy optuna pandas pyarrow ray scipy seaborn sktime torch"
    assert code == 0
    assert "bench" in answer.stdout
    assert set(heavy.split()).isdisjoint(modules)


# --- installation ------------------------------------------------------------------------------


def requirement(line: str) -> str:
    """The normalised name of the distribution that a requirement line asks for."""
    match = re.match(r"[A-Za-z0-9._-]+", line)
    assert match, f"not a requirement: {line!r}"
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def pins() -> dict[str, str]:
    """Distribution -> exact version, as constraints.txt has them."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    exact = [re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][^\s;*]*)", line) for line in lines]
    assert all(exact), [line for line, match in zip(lines, exact, strict=True) if not match]
    return {requirement(match[1]): match[2] for match in exact if match}


def test_everything_installed_is_pinned() -> None:
    """Each direct requirement and each distribution in this environment has one exact version."""
    project = PROJECT["project"]
    direct = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert {requirement(line) for line in direct} <= set(pins())
    report = run(sys.executable, "-m", "pip", "list", "--format=json", "--exclude-editable")
    installed = {
        requirement(found["name"]): found["version"].split("+")[0]
        for found in json.loads(report.stdout)
    }
    unpinned = installed.keys() - pins().keys() - {"pip", "setuptools", "wheel"}
    assert not unpinned
    assert {name: pins()[name] for name in installed.keys() & pins().keys()} == {
        name: version for name, version in installed.items() if name in pins()
    }


def test_versions_the_numbers_rest_on() -> None:
    """Torch is 2.13.0, and pandas stays below 3, where gluonts is left behind."""
    assert pins()["torch"] == "2.13.0"
    assert pins()["pandas"].startswith("2.")


def test_makefile_accepts_the_pythons_that_the_project_accepts() -> None:
    """The Python versions that `make setup` looks for are those of pyproject.toml."""
    bounds = re.search(r"\((\d+), (\d+)\) <= sys.version_info < \((\d+), (\d+)\)", makefile())
    assert bounds
    low, high = ".".join(bounds.groups()[:2]), ".".join(bounds.groups()[2:])
    assert PROJECT["project"]["requires-python"] == f">={low},<{high}"


def test_make_says_what_it_needs_where_there_is_no_python(tmp_path: Path) -> None:
    """Without a usable Python, `make setup` names what it tried and leaves no trace of success."""
    bare = makefile_copy(tmp_path)
    answer = run("make", "setup", "PYTHON=python2.0 /no/such/python", folder=bare)
    assert answer.returncode != 0
    assert "None of these is one: python2.0 /no/such/python" in answer.stderr
    assert not (bare / ".venv").exists()


def test_setup_is_done_once_and_only_when_it_succeeded(tmp_path: Path) -> None:
    """A failed installation is taken up again, a finished one stands until the pins change."""
    bare = makefile_copy(tmp_path)
    python = bare / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)

    def setup(pip: str) -> tuple[bool, bool]:
        """Whether `make setup` called pip, and succeeded, with a pip that ends as told."""
        python.write_text(f'#!/bin/sh\ncase "$*" in *"pip install"*) touch called; {pip};; esac\n')
        python.chmod(0o755)
        (bare / "called").unlink(missing_ok=True)
        success = run("make", "setup", folder=bare).returncode == 0
        return (bare / "called").exists(), success

    assert setup("exit 1") == (True, False)
    assert setup("kill -KILL $PPID") == (True, False)
    assert setup("exit 0") == (True, True)
    assert setup("exit 0") == (False, True)
    later = time.time() + 5
    os.utime(bare / "constraints.txt", (later, later))
    assert setup("exit 0") == (True, True)


# --- verbs -------------------------------------------------------------------------------------


def makefile() -> str:
    """The text of the Makefile."""
    return (ROOT / "Makefile").read_text()


def makefile_copy(folder: Path) -> Path:
    """A folder with the Makefile and the two files its environment depends on."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def verbs() -> set[str]:
    """The verbs that `make` lists."""
    return set(re.findall(r"^  ([a-z-]+) ", run("make").stdout, re.MULTILINE))


def test_make_alone_lists_every_verb() -> None:
    """`make` prints one line for each phony target, and does nothing else."""
    phony = re.search(r"^\.PHONY: (.*)$", makefile(), re.MULTILINE)
    assert phony
    assert verbs() == set(phony[1].split())


@pytest.mark.parametrize("value", ["it's", '$HOME `id` "x"', "a b;c", "--plan"])
def test_make_passes_values_on_untouched(value: str) -> None:
    """What stands behind a variable reaches the program as one argument, whatever it contains."""
    show = f"PATCHBENCH={sys.executable} -c 'import sys; print(sys.argv[1:])'"
    answer = run(
        "make", "bench", "--old-file=.venv/.installed", show, f"RESULTS={value}", "FORCE=1"
    )
    assert answer.stdout.strip() == str(["bench", "--results", value, "--force"])


def test_make_passes_only_options_that_exist() -> None:
    """Every option that a verb of the Makefile passes on is one of that verb of the program."""
    variables = re.search(r"^VARIABLES := (.*)$", makefile(), re.MULTILINE)
    assert variables
    values = [f"{name.removesuffix('=1')}=1" for name in variables[1].split()]
    for verb, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]  # a group has commands
        known = {option for parameter in command.params for option in parameter.opts}
        recipe = run("make", "-n", "--old-file=.venv/.installed", verb, *values).stdout
        passed = set(re.findall(r"(--[\w-]+)", recipe))
        assert f"-m harness {verb}" in recipe
        assert passed <= known, verb


def test_clean_keeps_rows_and_environment(tmp_path: Path) -> None:
    """`make clean` removes caches and build products, and no row, bundle or installation."""
    bare = makefile_copy(tmp_path)
    kept = [bare / ".venv/lib/__pycache__/a.pyc", bare / "results/ltsf/uniform.csv"]
    gone = [bare / ".mypy_cache/a", bare / "harness/__pycache__/a.pyc", bare / "build/lib/a"]
    for path in [*kept, *gone, bare / "methods/a.py", bare / "tests/a.py"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert run("make", "clean", folder=bare).returncode == 0
    assert [path for path in kept if not path.exists()] == []
    assert [path for path in gone if path.parent.exists()] == []


# --- tests -------------------------------------------------------------------------------------


def test_every_test_states_its_promise() -> None:
    """Each test function begins with a docstring that is a sentence."""
    promises = {
        f"{path.name}::{function.name}": ast.get_docstring(function) or ""
        for path in (ROOT / "tests").glob("test_*.py")
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef) and function.name.startswith("test_")
    }
    assert [test for test, promise in promises.items() if not promise.endswith(".")] == []


def test_shapes_are_checked_in_tests() -> None:
    """A transposed tensor is refused here, where the test run instruments every annotation."""
    start = torch.zeros(3, 1, dtype=torch.long)
    valid = torch.ones(3, 1, dtype=torch.bool)
    Patches(start, start + 4, valid)
    with pytest.raises(jaxtyping.TypeCheckError, match="length"):
        Patches(start, (start + 4).T, valid)
