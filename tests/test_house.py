"""The house keeps its own rules: rooms, pins, verbs, the map in the README, a light --help."""

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
from dataclasses import dataclass
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


def outside_of_make() -> dict[str, str]:
    """Not what `make test` passes on: a make started here is no part of it."""
    return {name: value for name, value in os.environ.items() if not _OF_MAKE.match(name)}


def run(
    *command: str | Path, folder: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output comes back as text."""
    return subprocess.run(
        command,
        cwd=folder,
        env=outside_of_make() | environment,
        capture_output=True,
        text=True,
        check=False,
    )


# --- who imports whom --------------------------------------------------------------------------

PLANTED: dict[str, dict[str, str]] = {
    "rooms": {
        "harness/core/harm.py": "import harness.results",
        "harness/data/harm.py": "import harness.model",
        "harness/run/harm.py": "import harness.report",
        "harness/zero_shot/harm.py": "import harness.run",
        "harness/attic/__init__.py": "import harness.core",
    },
    "no-cycles": {
        "harness/bench/one.py": "import harness.bench.two",
        "harness/bench/two.py": "import harness.bench.three",
        "harness/bench/three.py": "import harness.bench.one",
    },
    "data-has-a-face": {"harness/run/peeks.py": "import harness.data.series"},
    "found-by-name": {"harness/model/harm.py": "import methods.uniform"},
    "methods-see-the-face": {
        "methods/deep.py": "import harness.core.task",
        "methods/copies.py": "import methods.uniform",
    },
    "mlflow": {"harness/report/mlflow.py": "import mlflow.entities"},
    "optuna": {"methods/tuned.py": "import optuna"},
    "gluonts": {"harness/zero_shot/peeks.py": "import gluonts.model"},
    "ray": {"harness/bench/harm.py": "import ray.data"},
    "pictures": {
        "harness/report/harm.py": "import seaborn",
        "methods/drawn.py": "import matplotlib.pyplot",
    },
    "reports-without-torch": {
        "harness/results/harm.py": "import torch.nn",
        "harness/report/deep.py": "import harness.model.patcher",
        "harness/zero_shot/tensors.py": "import torch",
    },
}
"""Contract -> module -> an import that the contract forbids."""


@dataclass(frozen=True)
class Verdict:
    """What the import linter says about the contracts of a checkout.

    ``broken``: contract -> the text that says what breaks it. ``kept``: the other contracts.
    """

    broken: dict[str, str]
    kept: set[str]


def lint(checkout: Path) -> Verdict:
    """The linter's verdict on the two packages in a folder."""
    linter = Path(sys.executable).with_name("lint-imports")
    report = run(linter, "--no-logo", "--no-cache", folder=checkout, COLUMNS="200").stdout
    said = {
        identity: re.search(rf"^{re.escape(name)} (KEPT|BROKEN)", report, re.MULTILINE)
        for identity, name in CONTRACTS.items()
    }
    assert all(said.values()), report
    kept = {identity for identity, match in said.items() if match and match[1] == "KEPT"}
    text = report.partition("\nBroken contracts\n")[2]
    pieces = re.split(r"^(.+)\n-{3,}\n", text, flags=re.MULTILINE)
    texts = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    broken = {identity: texts[CONTRACTS[identity]] for identity in CONTRACTS.keys() - kept}
    return Verdict(broken, kept)


def checkout(folder: Path) -> Path:
    """A copy of the two packages and their contracts, to do harm in."""
    for package in ("harness", "methods"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> Verdict:
    """The verdict on a copy with every planted import at once."""
    folder = checkout(tmp_path_factory.mktemp("harmed"))
    for imports in PLANTED.values():
        for module, planted in imports.items():
            assert not (folder / module).exists(), module
            (folder / module).parent.mkdir(exist_ok=True)
            (folder / module).write_text(f"{planted}\n")
    return lint(folder)


def module_name(path: str) -> str:
    """Of a file in the checkout."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@pytest.mark.parametrize("contract", CONTRACTS)
def test_contract_catches_its_planted_imports(contract: str, harmed: Verdict) -> None:
    """Each forbidden import is found under the contract written against it, by its module."""
    text = harmed.broken[contract]
    planted = {module_name(path) for path in PLANTED[contract]}
    if contract == "no-cycles":
        assert "No cycles are allowed in harness.bench.\n" in text
        assert re.search(r"- \.(one|two|three) -> \.(one|two|three) \(1 import\)", text)
        return
    found = set(re.findall(r"^- +([\w.]+)", text, re.MULTILINE))
    assert found >= planted
    everywhere = {module_name(path) for imports in PLANTED.values() for path in imports}
    assert found <= everywhere  # and is broken by nothing else


def test_contracts_hold(tmp_path: Path) -> None:
    """The code as it is breaks no contract."""
    assert lint(checkout(tmp_path)) == Verdict({}, set(CONTRACTS))


def test_the_contract_names_the_rooms_that_there_are() -> None:
    """What `make lint` prints about rooms is what is enforced, for every folder of the harness."""
    [rooms] = [
        contract
        for contract in PROJECT["tool"]["importlinter"]["contracts"]
        if contract["id"] == "rooms"
    ]
    layers = rooms["layers"][1:]  # without __main__, a file
    assert rooms["name"].partition(": ")[2] == " > ".join(layers)
    folders = {path.parent.name for path in (ROOT / "harness").glob("*/__init__.py")}
    assert {room for layer in layers for room in layer.split(" | ")} == folders


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


PYTHON = """\
#!/bin/sh
case "$*" in
  *install.py*) exec {real} "$@";;
  *"pip config list"*) cat settings;;
  *"pip install"*) echo "$*" >> called; {then};;
esac
"""


def setup(bare: Path, then: str = "exit 0", settings: str = "") -> tuple[str, bool]:
    """What `make setup` installs, and whether it succeeds, where installing ends as told."""
    python = bare / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(PYTHON.format(real=sys.executable, then=then))
    python.chmod(0o755)
    (bare / "settings").write_text(settings)
    (bare / "called").write_text("")
    success = run("make", "setup", folder=bare).returncode == 0
    return (bare / "called").read_text(), success


def test_setup_is_done_once_and_only_when_it_succeeded(tmp_path: Path) -> None:
    """A failed installation is taken up again, a finished one stands until the pins change."""
    bare = makefile_copy(tmp_path)
    for end in ("exit 1", "kill -KILL $PPID"):
        called, success = setup(bare, end)
        assert called
        assert not success
    called, success = setup(bare)
    assert called
    assert success
    assert setup(bare) == ("", True)
    later = time.time() + 5
    os.utime(bare / "constraints.txt", (later, later))
    called, success = setup(bare)
    assert called
    assert success


def test_uv_is_given_the_settings_of_pip(tmp_path: Path) -> None:
    """Where packages come from, and which, is as pip would have it."""
    settings = (
        ":env:.find-links='/wheels'\n"
        "global.extra-index-url='https://one/simple\\nhttps://two/simple'\n"
        "global.find-links='/other'\n"
        "global.index-url='https://global/simple'\n"
        "global.constraint='/etc/pins.txt'\n"
        "global.no-index='false'\n"
        "install.index-url='https://install/simple'\n"
        "download.index-url='https://download/simple'\n"
        "global.disable-pip-version-check='1'\n"
    )
    called, success = setup(makefile_copy(tmp_path), settings=settings)
    assert success
    pip, uv = called.splitlines()
    assert pip.endswith(
        "pip install -qq --disable-pip-version-check --constraint constraints.txt uv"
    )
    assert uv.startswith("-m uv pip install")
    assert uv.endswith("--editable .[dev]")
    for words in (
        "--constraint constraints.txt",
        "--index https://one/simple --index https://two/simple",
        "--find-links /wheels",
        "--default-index https://install/simple",
        "--constraint /etc/pins.txt",
        "--index-strategy unsafe-best-match",
    ):
        assert words in uv
    assert not re.search("/other|global/simple|download|no-index", uv)


@pytest.mark.parametrize(
    ("then", "settings"),
    [
        ('case "$*" in *uv*) exit 1;; esac', ""),
        ('case "$*" in "-m uv"*) exit 1;; esac', ""),
        ("exit 0", "global.only-binary=':all:'"),
    ],
)
def test_pip_installs_where_uv_cannot(tmp_path: Path, then: str, settings: str) -> None:
    """Where uv is not to be had, where it fails, and for a setting that it does not know."""
    called, success = setup(makefile_copy(tmp_path), then, settings)
    assert success
    assert called.splitlines()[-1].startswith("-m pip install")
    assert called.splitlines()[-1].endswith("--editable .[dev]")
    assert ("uv" in called) is not bool(settings)


def test_two_verbs_do_not_set_up_at_once(tmp_path: Path) -> None:
    """The second waits for the first, says so, and then has nothing left to do."""
    bare = makefile_copy(tmp_path)
    setup(bare)
    later = time.time() + 5
    os.utime(bare / "constraints.txt", (later, later))
    (bare / "called").write_text("")
    python = bare / ".venv" / "bin" / "python"
    python.write_text(PYTHON.format(real=sys.executable, then="touch begun; sleep 1; exit 0"))
    first = subprocess.Popen(("/usr/bin/env", "make", "setup"), cwd=bare, env=outside_of_make())
    while not (bare / "begun").exists():
        time.sleep(0.02)
    os.utime(bare / "constraints.txt")  # older than the stamp that the first will write
    second = run("make", "setup", folder=bare)
    assert "is being set up by another process" in second.stdout
    assert (first.wait(timeout=60), second.returncode) == (0, 0)
    assert len((bare / "called").read_text().splitlines()) == 2  # uv, and what uv installs


# --- verbs -------------------------------------------------------------------------------------


def makefile() -> str:
    """The text of the Makefile."""
    return (ROOT / "Makefile").read_text()


def makefile_copy(folder: Path) -> Path:
    """A folder with the Makefile, its script and the two files its environment depends on."""
    for name in ("Makefile", "install.py", "pyproject.toml", "constraints.txt"):
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


def takes() -> dict[str, list[str]]:
    """Verb -> the variables that it takes, as the Makefile has them; a switch ends in =1."""
    return {
        verb: variables.split()
        for verb, variables in re.findall(r"^TAKES_([a-z-]+) := (.*)$", makefile(), re.MULTILINE)
    }


def test_make_passes_only_options_that_exist() -> None:
    """Every variable that a verb takes is passed on, as an option of that verb of the program."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group has commands
    assert takes().keys() <= commands.keys() <= verbs()
    for verb, command in commands.items():
        known = {option for parameter in command.params for option in parameter.opts}
        values = [f"{name.removesuffix('=1')}=1" for name in takes().get(verb, [])]
        recipe = run("make", "-n", "--old-file=.venv/.installed", verb, *values).stdout
        passed = re.findall(r"(--[\w-]+)", recipe)
        assert f"-m harness {verb}" in recipe
        assert set(passed) <= known, verb
        assert len(passed) == len(values), verb


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bench", "METHOD=uniform"], "make bench takes no METHOD; did you mean METHODS?"),
        (["bench", "SEED=1"], "make bench takes no SEED; did you mean SEEDS?"),
        (["bench", "SUIT=planted"], "make bench takes no SUIT; did you mean SUITE?"),
        (["bench", "FROCE=1", "JOBS=2"], "make bench takes no FROCE; did you mean FORCE?"),
        (["check", "METHODS=uniform"], "make check takes no METHODS; did you mean METHOD?"),
        (["validate", "PERPETUAL=1"], "make validate takes no PERPETUAL. It takes RESULTS"),
        (["lint", "RESULTS=here"], "make lint takes no RESULTS. It takes no variables"),
    ],
)
def test_make_refuses_a_variable_that_the_verb_does_not_take(
    words: list[str], message: str
) -> None:
    """A misspelt one would otherwise be no word to make, and the whole suite would run."""
    answer = run("make", "--old-file=.venv/.installed", "PATCHBENCH=echo", *words)
    assert answer.returncode == 2
    assert message in answer.stderr
    assert answer.stdout == ""


def test_make_takes_what_one_of_several_verbs_takes_and_what_is_its_own() -> None:
    """So `make bench status SEEDS=1` works, and so do PYTHON and variables of the environment."""
    words = ("-j2", "PATCHBENCH=echo", "PYTHON=python3", "bench", "status", "FORCE=1", "SEEDS=1")
    answer = run("make", "--old-file=.venv/.installed", *words, SUITE="small", METHOD="stray")
    told = {line.strip() for line in answer.stdout.splitlines()}
    passed = "--suite small", "--seeds 1"
    assert told == {" ".join(["bench", *passed, "--force"]), " ".join(["status", *passed])}


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


# --- the map -----------------------------------------------------------------------------------


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


def test_only_packages_that_are_meant_to_be_missing_excuse_a_test(tmp_path: Path) -> None:
    """`--without A` skips what needs A, whole files or single tests; any other package fails."""
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_file.py").write_text("import absent.part\ndef test_it(): pass\n")
    inside = "def test_it():\n    import absent\ndef test_other():\n    import gone\n"
    (tmp_path / "test_inside.py").write_text(inside)
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors")
    command = (sys.executable, *words, str(tmp_path))
    excused = run(*command, "--without", "absent", folder=tmp_path).stdout
    assert "1 failed, 2 skipped" in excused
    assert "No module named 'gone'" in excused
    plain = run(*command, folder=tmp_path).stdout
    assert "2 failed, 1 error" in plain
