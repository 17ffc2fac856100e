"""The pages tell the truth: commands exist, examples work, links lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pandas as pd
import pytest
import torch
import typer
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own
from typer.exceptions import TyperException

from harness import data
from harness.bench import suite
from harness.bench.plan import plan
from harness.cli.verbs import app
from harness.core.protocol import PROTOCOL, SMALLEST_EFFECT
from harness.core.task import Task
from harness.data import labelled
from harness.model import registry
from harness.model.patcher import Rows
from harness.report.statistics import LEAST_DATASETS, NOT_JUDGED, VERDICTS
from harness.report.tables import LEADERBOARD
from harness.results.table import row_files
from harness.studies import checks

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
LINKED = [*PAGES, ROOT / "CHANGELOG.md"]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
each_linked = pytest.mark.parametrize("page", LINKED, ids=lambda path: str(path.relative_to(ROOT)))


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    language: str
    text: str


_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[Block]:
    """The blocks of a page that are in a language."""
    found = [Block(page, *match) for match in _FENCE.findall(page.read_text(encoding="utf-8"))]
    return [block for block in found if block.language == language]


def all_blocks(language: str) -> list[Any]:
    """The blocks of all pages, as parameters of a test."""
    return [
        pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page, language), 1)
    ]


def without_blocks(page: Path) -> str:
    """The text of a page around its blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def run(*command: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, without what a `make` around the tests passes on."""
    outer = {name: text for name, text in os.environ.items() if not re.match("MAKE|MFLAGS", name)}
    return subprocess.run(
        command, cwd=folder, env=outer, capture_output=True, text=True, check=False
    )


def script(name: str) -> ModuleType:
    """A module of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- commands ----------------------------------------------------------------------------------

# Programs of pages that are no part of this project: of a shell, of SLURM.
_FOREIGN = {"cmp", "export", "srun"}
_ASSIGNMENT = re.compile(r"[A-Za-z_]+=")


def command_lines(text: str) -> Iterator[str]:
    """The lines of a block of shell that do something, without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        if bare := re.sub(r"(^|\s)#.*", "", line).strip():
            yield bare


def inline_commands(page: Path) -> list[str]:
    """What a page's text calls between backticks: `make ...` and `python -m harness ...`."""
    spans = re.findall(r"`([^`]+)`", without_blocks(page))
    lines = (" ".join(span.split()) for span in spans)
    return [
        line
        for line in lines
        if re.match(r"([A-Z_]+=\S+ )*(make|python -m harness) (?!VERB)", line)
    ]


@cache
def verbs() -> frozenset[str]:
    """The verbs that `make` lists."""
    return frozenset(re.findall(r"^  ([a-z-]+) ", run("make").stdout, re.MULTILINE))


@cache
def recipe(*words: str) -> str:
    """What `make` would run, were everything installed."""
    answer = run("make", "--dry-run", "--old-file=.venv/.installed", *words)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.replace("\\\n", " ")


def check_program(words: list[str]) -> None:
    """`python -m harness` knows this verb, and each option that follows it."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group has commands
    verb, *rest = words
    assert verb in commands, f"no verb {verb!r}"
    if rest:  # a sentence may speak of a verb without what it asks for
        commands[verb].make_context(verb, rest)


def check_make(words: list[str]) -> None:
    """Each verb exists, each variable reaches it, and the program takes what it becomes."""
    variables = [word for word in words if "=" in word]
    named = [word for word in words if "=" not in word]
    assert named
    assert set(named) <= verbs(), f"no verb: {set(named) - verbs()}"
    would_run = recipe(*words)
    for variable in variables:
        option = "--" + variable.partition("=")[0].lower().replace("_", "-")
        assert re.search(rf"{option}\b", would_run), f"{variable} does not reach {named}"
    for line in re.findall(r"-m harness (.*)", would_run):
        check_program(shlex.split(line))


def check_line(line: str) -> None:
    """A line of shell, by the program that it starts."""
    words = shlex.split(re.sub(r"\$\([^)]*\)", "...", line))
    while words and _ASSIGNMENT.match(words[0]):
        words.pop(0)
    if not words:
        return
    program, *rest = words
    if program == "make":
        check_make(rest)
    elif rest[:2] == ["-m", "harness"]:
        check_program(rest[2:])
    elif program.startswith(".venv/bin/"):
        assert Path(sys.executable).with_name(Path(program).name).exists(), line
        assert all((ROOT / word).exists() for word in rest if word.startswith("tests/")), line
    elif program.startswith("."):
        assert os.access(ROOT / program, os.X_OK), line
    else:
        assert program in _FOREIGN, line


@pytest.mark.parametrize("block", all_blocks("sh"))
def test_commands_in_blocks_exist(block: Block) -> None:
    """Each line of shell is sound, names a verb that there is, and options that it takes."""
    assert run("bash", "-n", "-c", block.text).returncode == 0
    for line in command_lines(block.text):
        check_line(line)


@each_page
def test_commands_in_sentences_exist(page: Path) -> None:
    """So is what is called between backticks."""
    for line in inline_commands(page):
        check_line(line)


@pytest.mark.parametrize(
    "line",
    [
        "make bnech",
        "make validate SUITE=ltsf",
        "make bench METHOD=mine",
        "python -m harness bench --suit ltsf",
        ".venv/bin/no-such-program",
        "rm -rf results",
    ],
)
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    """A misspelt verb, a variable that a verb does not take, and a strange program fail."""
    with pytest.raises((AssertionError, TyperException)):
        check_line(line)


def test_the_readme_shows_the_two_commands() -> None:
    """A reader of the first page knows `make bench` and `make test`."""
    lines = [line for block in blocks(PAGES[0], "sh") for line in command_lines(block.text)]
    assert lines[:2] == ["make bench", "make test"]


# --- examples ----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", all_blocks("python"))
def test_python_works(block: Block) -> None:
    """Every block of Python runs by itself."""
    exec(block.text, {"__name__": "example"})  # noqa: S102 - this project's own pages


@pytest.mark.parametrize(
    ("page", "names"),
    [(ROOT / "README.md", ["jumps"]), (DOCS / "add_a_method.md", ["steps", "drawn"])],
)
def test_methods_shown_keep_every_promise(page: Path, names: list[str], tmp_path: Path) -> None:
    """Each example is a method by the name of its file, and `make check` has nothing to say."""
    for name, block in zip(names, blocks(page, "python"), strict=True):
        keeps_every_promise(page, name, block, tmp_path)


def keeps_every_promise(page: Path, name: str, block: Block, tmp_path: Path) -> None:
    """One of them."""
    assert f"`methods/{name}.py`" in page.read_text(encoding="utf-8")
    (tmp_path / f"{name}.py").write_text(block.text)
    promises = checks.check(registry.find(name, tmp_path))
    assert [promise for promise in promises if not promise.kept] == []


def test_the_method_in_the_readme_cuts_where_rows_jump() -> None:
    """The ten lines do what their docstring says."""
    [block] = blocks(ROOT / "README.md", "python")
    page: dict[str, Any] = {"__name__": "jumps"}
    exec(block.text, page)  # noqa: S102 - this project's own page
    values = torch.tensor([[0.0, 0.0, 5.0, 5.0, 5.0, 1.0], [3.0, 0.0, 0.0, 0.0, 9.0, 9.0]])
    task = Task("planted", look_back=6, horizon=1, patches=3)
    patches = page["Jumps"](task)(Rows(values, ids=torch.arange(2)))
    assert patches.start.tolist() == [[0, 2, 5], [0, 1, 4]]


@pytest.mark.parametrize(
    ("page", "methods", "horizons"), [(ROOT / "README.md", 3, 1), (DOCS / "data.md", 5, 2)]
)
def test_suites_shown_plan_what_they_say(
    page: Path, methods: int, horizons: int, tmp_path: Path
) -> None:
    """The example of own data is a suite, which plans every run that it names."""
    [block] = blocks(page, "toml")
    path = tmp_path / "kitchen.toml"
    path.write_text(block.text)
    jobs = plan(suite.load(path))
    assert {(job.task.dataset, job.task.patches) for job in jobs} == {("kitchen", 32)}
    assert len({(job.method, job.seed, job.task) for job in jobs}) == methods * 3 * horizons


def test_the_suite_of_frozen_patchers_plans_every_arm(tmp_path: Path) -> None:
    """Three seeds of each line of the page's table, and the pre-trainings."""
    [block] = blocks(DOCS / "transfer.md", "toml")
    shutil.copy(ROOT / "suites" / "pretraining.toml", tmp_path)
    (tmp_path / "mine.toml").write_text(block.text)
    labels = Counter(job.label for job in plan(suite.load(tmp_path / "mine.toml")))
    arms = ("reinpatch", "reinpatch_untrained", "reinpatch_frozen_open")
    assert labels == {
        **dict.fromkeys(("uniform", *arms, "reinpatch_frozen_synthetic"), 3),
        "reinpatch_pretrain": 6,
    }
    page = (DOCS / "transfer.md").read_text(encoding="utf-8")
    assert all(f"`{arm}`" in page for arm in arms)


def test_every_toml_is_checked() -> None:
    """Blocks of TOML are suites, tested above, or the package tested below."""
    pages = {page for page in PAGES if blocks(page, "toml")}
    of_suites = {ROOT / "README.md", DOCS / "data.md", DOCS / "transfer.md"}
    assert pages == {*of_suites, DOCS / "add_a_method.md"}


def test_the_package_shown_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry point of the page leads to the method of the page, under its name."""
    page = DOCS / "add_a_method.md"
    [code, _], [described] = blocks(page, "python"), blocks(page, "toml")
    project = tomllib.loads(described.text)
    [package] = project["tool"]["setuptools"]["packages"]
    [[group, points]] = project["project"]["entry-points"].items()
    [[name, target]] = points.items()

    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / f"{name}.py").write_text(code.text)
    about = tmp_path / f"{package}-{project['project']['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Name: {project['project']['name']}\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert registry.find(name).__module__ == f"{package}.{name}"


# --- what pages claim --------------------------------------------------------------------------


def table(page: Path, head: str) -> list[list[str]]:
    """The lines of the table of a page that begins with these cells."""
    lines = page.read_text(encoding="utf-8").splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(head))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([field.strip() for field in line.strip("|").split(" | ")])
    assert found, f"{page} has no table {head}"
    return found


def test_the_readme_is_short() -> None:
    """At most a thousand words of prose, code and tables apart."""
    text = re.sub(r"^\|.*$|<[^>]*>", "", without_blocks(ROOT / "README.md"), flags=re.MULTILINE)
    assert 500 < len(text.split()) <= 1000


def test_the_architecture_is_the_contract() -> None:
    """The page's table has the rooms that the contract enforces, in its order."""
    [layers] = [
        contract["layers"]
        for contract in PROJECT["tool"]["importlinter"]["contracts"]
        if contract["id"] == "rooms"
    ]
    drawn = [
        re.findall(r"`(\w+)`", line[0]) for line in table(DOCS / "architecture.md", "| rooms")
    ]
    assert drawn == [re.findall(r"\w+", layer) for layer in layers]


def test_the_tree_is_current() -> None:
    """Every module stands in the tree, with the first line of its docstring."""
    answer = run(sys.executable, DOCS / "tree.py", "--check")
    assert answer.returncode == 0, answer.stderr


def test_the_tree_has_every_module_and_nothing_else(tmp_path: Path) -> None:
    """A module stands under its folder; a page is written between its marks."""
    tree = script("tree")
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "__init__.py").touch()
    room = tmp_path / "harness" / "attic"
    room.mkdir(parents=True)
    (tmp_path / "harness" / "__init__.py").write_text('"""The face."""\n')
    (room / "__init__.py").write_text('"""Old things."""\n')
    (room / "chest.py").write_text('"""Of ``wood`` | see :class:`Lid`.\n\nMore."""\n')
    lines = tree.tree(tmp_path)
    assert "### `harness/attic/`\n\nOld things.\n" in lines
    assert "| `chest.py` | Of `wood` \\| see `Lid`. |" in lines
    page = f"before\n{tree.START}\nold\n{tree.END}\nafter\n"
    assert tree.with_tree(page, "new") == f"before\n{tree.START}\n\nnew\n{tree.END}\nafter\n"


def test_a_job_takes_ten_hops_at_most() -> None:
    """The way of a job is told in ten hops at most, each with a file."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    _, _, way = text.partition("## A job's way through the house")
    hops = re.findall(r"^\d+\. (.*?)(?=^\d+\. |^## )", way, re.DOTALL | re.MULTILINE)
    assert 5 < len(hops) <= 10
    assert all(re.search(r"`harness/\w+/\w+\.py`", hop) for hop in hops)


# Files that pages tell a reader to make, and what runs make on a machine.
_EXAMPLES = {
    *("methods/drawn.py", "methods/jumps.py", "methods/mine.py", "methods/steps.py"),
    *("suites/mine.toml", "suites/kitchen.toml", "results/mlflow.db", "results/tuning"),
}


@each_page
def test_files_named_are_there(page: Path) -> None:
    """What looks like a path of this repository is one."""
    places = "harness|methods|tests|suites|results|docs|build"
    named = set(re.findall(rf"`((?:{places})/[\w./-]*)`", without_blocks(page)))
    missing = {path for path in named - _EXAMPLES if not (ROOT / path).exists()}
    assert {path for path in missing if not path.startswith("build/")} == set()


def test_published_sets_are_those_of_the_catalogue() -> None:
    """The table of data sets has every entry's frequency, season, shape, and what is verified."""
    shown = {
        line[0].strip("`"): line[1:] for line in table(DOCS / "data.md", "| name | frequency")
    }
    expected = {
        name: [
            *(entry.frequency, str(entry.season), f"{entry.rows:,}", str(entry.channels)),
            "yes" if entry.hash else "no",
        ]
        for name, entry in data.CATALOGUE.items()
    }
    assert shown == expected
    others = [
        name
        for head in ("| name | what | boundaries", "| name | what | margin")
        for line in table(DOCS / "data.md", head)
        for name in re.findall(r"`(.+?)`", line[0])
    ]
    assert {*others, *expected} == set(data.known())


def test_labelled_sets_are_those_that_there_are() -> None:
    """The table of data.md: the margin of each set, and the files that it is read from."""
    shown = {
        line[0].strip("`"): (int(line[2]), re.findall(r"`(.+?)`", line[3]))
        for line in table(DOCS / "data.md", "| name | what | margin")
    }
    assert shown == {
        name: (entry.margin, [Path(file).stem for file in entry.files])
        for name, entry in labelled.CATALOGUE.items()
    }


def test_every_verdict_is_explained() -> None:
    """The table of verdicts has all that there are; "not judged" is shown as "control"."""
    shown = [line[0] for line in table(DOCS / "reading_the_leaderboard.md", "| verdict | means")]
    assert sorted(shown) == sorted([*set(VERDICTS) - {NOT_JUDGED}, "control"])


def test_the_protocol_says_its_constants() -> None:
    """Version, smallest effect and least number of data sets are those of the code."""
    page = (DOCS / "protocol.md").read_text(encoding="utf-8")
    assert f"This is protocol version {PROTOCOL};" in page
    assert f"each by {SMALLEST_EFFECT} % or more" in page
    assert LEAST_DATASETS == 5
    assert "With fewer than five data sets there is no verdict." in page


def test_what_was_simulated_is_what_the_protocol_says() -> None:
    """Rates of false wins, coverage, bold and power are those of the committed table."""
    page = " ".join((DOCS / "protocol.md").read_text(encoding="utf-8").split())
    found = pd.read_csv(ROOT / "results" / "calibration.csv")
    shares = found.set_index(["world", "measure"]).share
    kept = shares.drop("rare losses", level="world")
    wins, covered, found_80, alike, bold = (
        100 * kept.xs(measure, level="measure")
        for measure in (
            *("false wins", "coverage", "found, 80 % foretold", "found, all controls alike"),
            "false bold",
        )
    )
    assert f"{found.tables.iloc[0]:,} made-up tables" in page
    assert f"at most {wins.max():.1f} % named one" in page
    assert f"held the truth in {covered.min():.1f} to {covered.max():.1f} %." in page
    assert (
        f"rare losses large, {100 * shares['rare losses', 'false wins']:.1f} % named one" in page
    )
    assert f"the truth in {100 * shares['rare losses', 'coverage']:.1f} % instead" in page
    assert f"at most {bold.max():.1f} % were bold" in page
    assert f"80 % was found in {found_80.min():.0f} to {found_80.max():.0f} %." in page
    assert f"it was found in {alike.min():.0f} to {alike.max():.0f} %." in page


def test_every_decision_is_listed() -> None:
    """The index of decisions leads to each page beside it."""
    folder = DOCS / "decisions"
    listed = re.findall(
        r"^\| \[[^\]]+\]\(([^)]+)\)", (folder / "index.md").read_text(), re.MULTILINE
    )
    assert sorted([*listed, "index.md"]) == sorted(path.name for path in folder.glob("*.md"))


def test_the_glossary_is_in_order_and_without_repeats() -> None:
    """Words stand in alphabetical order, each once."""
    words = [line[0] for line in table(DOCS / "glossary.md", "| word")]
    assert words == sorted(set(words), key=str.lower)


# --- links -------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings that hosting sites and MkDocs agree on."""
    titles = re.findall(r"^#+ (.*)$", without_blocks(page), re.MULTILINE)
    bare = [re.sub(r"[^\w\s-]", "", title).strip().lower() for title in titles]
    hosted = {re.sub(r"\s", "-", title) for title in bare}
    return hosted & {re.sub(r"[-\s]+", "-", title) for title in bare}


@each_linked
def test_links_lead_somewhere(page: Path) -> None:
    """Files, headings and pictures that a page links to are there."""
    text = without_blocks(page)
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    pictures = re.findall(r'src(?:set)?="([^"]+)"', text)
    for link in [*links, *pictures]:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target.name == LEADERBOARD and not row_files(target.parent):
            continue  # of a suite whose rows are to come, as after a change of the protocol
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


# --- the site ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    place = tmp_path_factory.mktemp("site")
    mkdocs = Path(sys.executable).with_name("mkdocs")
    answer = run(mkdocs, "build", "--strict", "--quiet", "--site-dir", place)
    assert answer.returncode == 0, answer.stderr
    return place


def test_the_site_has_every_page(site: Path) -> None:
    """Each page is built, README, CONTRIBUTING and CHANGELOG too, and nothing that is no page."""
    made = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    wanted = {
        path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")
    }
    assert made == wanted | {"index.html", "contributing.html", "changelog.html", "404.html"}
    assert not list(site.rglob("*.py"))


def test_the_site_asks_the_network_for_nothing(site: Path) -> None:
    """No script, style, font or picture of a page has an address elsewhere."""
    loads = re.compile(
        r'<(?:script|link|img|source|iframe)\b[^>]*(?:src|srcset|href)="?(https?:[^">]*)'
    )
    for page in site.rglob("*.html"):
        assert loads.findall(page.read_text(encoding="utf-8")) == []
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(.?https?:|@import", style.read_text(encoding="utf-8"))


def test_pages_are_translated_for_the_site() -> None:
    """Links to pages stay links, links to other files become text, pictures get their theme."""
    hooks = script("hooks")
    said = hooks.translated
    assert said("[a](docs/data.md#x) [b](LICENSE) [c](CHANGELOG.md)", "README.md") == (
        "[a](data.md#x) b [c](changelog.md)"
    )
    assert said("[a](../README.md), [b](../suites/ltsf.toml)", "docs/data.md") == (
        "[a](index.md), b"
    )
    assert (
        said("[a](../architecture.md#b)", "docs/decisions/rooms.md") == "[a](../architecture.md#b)"
    )
    assert said("[a](https://example.org) [b](#c)", "README.md") == (
        "[a](https://example.org) [b](#c)"
    )
    picture = (
        '<picture>\n  <source media="(dark)" srcset="docs/images/a-dark.png">\n'
        '  <img alt="A" src="docs/images/a.png">\n</picture>'
    )
    assert said(picture, "README.md") == (
        "![A](images/a.png#only-light)\n![A](images/a-dark.png#only-dark)"
    )


# --- around the code ---------------------------------------------------------------------------


def test_the_citation_is_of_this_version() -> None:
    """Version and licence are those of the project."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["project"]["version"]
    assert citation["license"] == PROJECT["project"]["license"]


def test_the_hosted_check_is_the_check() -> None:
    """One job, whose only command is `.ci/run`, without secrets."""
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    [job] = yaml.safe_load(text)["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert "secrets" not in text


def test_issue_forms_are_forms() -> None:
    """Each has a name, a description, and fields with labels and ids of their own."""
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert [form.stem for form in forms] == ["bug", "config", "data_set", "method"]
    for form in forms:
        content = yaml.safe_load(form.read_text(encoding="utf-8"))
        if form.stem == "config":
            continue
        assert content["name"]
        assert content["description"]
        ids = [field["id"] for field in content["body"]]
        assert len(ids) == len(set(ids))
        assert all(field["attributes"]["label"] for field in content["body"])
