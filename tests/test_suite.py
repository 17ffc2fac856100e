"""Suites: TOML in, jobs out, every mistake named with its line."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from harness.bench import suite
from harness.bench.plan import plan as plan_of
from harness.core.job import Job, Provenance, job_key, job_of, new_record, recomputed_key
from harness.core.task import Architecture, Budget, Task
from harness.data.planted import FAMILIES, family_of, names
from harness.model import registry

TEXT = """\
description = "two data sets"
seeds = [1, 2]
methods = ["uniform", "random_step"]

[budget]
epochs = 3
learning_rate = 1

[forecaster]
width = 32

[hyperparameters.random_step]
spread = 0.5

[[tasks]]
datasets = ["ETTh1", "mine"]
look_back = [96, 192]
horizons = [24]
patch = 8

[[tasks]]
datasets = ["ETTh2"]
look_back = 96
horizons = [24]
patches = 7
season = 12
methods = ["uniform", "local_difference"]
seeds = [5]
budget = { epochs = 9 }
forecaster = { dropout = 0.1 }

[data.mine]
path = "files/mine.csv"
frequency = "h"
season = 168
"""


def written(folder: Path, text: str = TEXT) -> Path:
    """A suite file."""
    (folder / "small.toml").write_text(text)
    return folder / "small.toml"


def jobs(folder: Path, **selection: object) -> list[Job]:
    """The plan of the example."""
    return plan_of(suite.load(written(folder)), **selection)  # type: ignore[arg-type]  # hyperparameters of several types


def test_a_plan_is_every_combination_once_in_a_fixed_order(tmp_path: Path) -> None:
    """Block by block, task by task, seed by seed, all methods of a seed together."""
    plan = jobs(tmp_path)
    assert len(plan) == 2 * 2 * 1 * 2 * 2 + 2
    assert plan == jobs(tmp_path)
    assert [(job.method, job.seed) for job in plan[:5]] == [
        ("uniform", 1),
        ("random_step", 1),
        ("uniform", 2),
        ("random_step", 2),
        ("uniform", 1),
    ]
    assert {job.suite for job in plan} == {"small"}


def test_patch_length_gives_k_and_the_data_set_its_season(tmp_path: Path) -> None:
    """K = look-back / patch; the season is the data set's, or the block's where it says so."""
    tasks = list(dict.fromkeys(job.task for job in jobs(tmp_path)))
    assert tasks == [
        Task("ETTh1", 96, 24, 12, 24),
        Task("ETTh1", 192, 24, 24, 24),
        Task("mine", 96, 24, 12, 168),
        Task("mine", 192, 24, 24, 168),
        Task("ETTh2", 96, 24, 7, 12),
    ]


def test_a_block_overrides_single_keys(tmp_path: Path) -> None:
    """What the block does not say stays as the suite says."""
    first, *_, last = jobs(tmp_path)
    assert first.budget == Budget(epochs=3, learning_rate=1.0)
    assert last.budget == Budget(epochs=9, learning_rate=1.0)
    assert first.architecture == Architecture(width=32)
    assert last.architecture == Architecture(width=32, dropout=0.1)
    assert (last.method, last.seed) == ("local_difference", 5)


def test_hyperparameters_and_own_data_reach_their_jobs(tmp_path: Path) -> None:
    """Each method gets its table; own data comes along, its path relative to the suite's file."""
    plan = jobs(tmp_path)
    assert {(job.method, job.hyperparameters) for job in plan[:2]} == {
        ("uniform", ()),
        ("random_step", (("spread", 0.5),)),
    }
    source = next(job.source for job in plan if job.task.dataset == "mine")
    assert source is not None
    assert source.path.resolve() == tmp_path / "files" / "mine.csv"
    assert plan[0].source is None


@pytest.mark.parametrize("split", [(12, 4, 4), (0.6, 0.2, 0.2)])
def test_own_data_are_split_by_rows_or_by_fractions(
    tmp_path: Path, split: tuple[int | float, ...]
) -> None:
    """Numbers of rows stay whole numbers, in the suite's file and in the row's job."""
    path = written(tmp_path, TEXT.replace("season = 168", f"season = 168\nsplit = {list(split)}"))
    job = next(job for job in plan_of(suite.load(path)) if job.task.dataset == "mine")
    assert job.source is not None
    assert [*map(repr, job.source.split)] == [*map(repr, split)]
    record = new_record(
        job,
        Provenance("", ""),
        status="failed",
        kind="patcher",
        ranked=True,
        method_source="",
        data_hash="",
        data_verified=True,
        device="cpu",
    )
    again = job_of(record).source
    assert again is not None
    assert [*map(repr, again.split)] == [*map(repr, split)]


def test_a_block_has_hyperparameters_of_its_own(tmp_path: Path) -> None:
    """They go before the suite's, name by name; blocks without any have the suite's."""
    own = (
        'hyperparameters = { random_step = { kind = "b" }, uniform = { patch = 4 } }\nseeds = [5]'
    )
    text = TEXT.replace("seeds = [5]", own).replace(
        'methods = ["uniform", "local_difference"]\n', ""
    )
    plan = plan_of(suite.load(written(tmp_path, text)), seeds=[1, 5])
    assert {(job.task.dataset, job.method): dict(job.hyperparameters) for job in plan[-3:]} == {
        ("mine", "random_step"): {"spread": 0.5},
        ("ETTh2", "uniform"): {"patch": 4},
        ("ETTh2", "random_step"): {"spread": 0.5, "kind": "b"},
    }


def test_a_mistake_in_a_blocks_hyperparameters_is_named_with_its_line(tmp_path: Path) -> None:
    """A method that no block runs, or a value that a sweep has too."""
    own = "hyperparameters = { unifrom = { patch = 4 } }\nseeds = [5]"
    path = written(tmp_path, TEXT.replace("seeds = [5]", own))
    with pytest.raises(ValueError, match="line 28: unknown method 'unifrom'; did you mean"):
        suite.load(path)


def test_a_sweep_plans_every_combination_beside_the_fixed_hyperparameters(tmp_path: Path) -> None:
    """All settings of a method come together, in the order of the file; other methods stay."""
    swept = 'sweep = { random_step = { patch = [8, 4], kind = ["a", "b"] } }\n'
    path = written(tmp_path, swept + TEXT)
    plan = plan_of(suite.load(path), seeds=[2])
    assert [(job.method, dict(job.hyperparameters)) for job in plan[:6]] == [
        ("uniform", {}),
        ("random_step", {"spread": 0.5, "patch": 8, "kind": "a"}),
        ("random_step", {"spread": 0.5, "patch": 8, "kind": "b"}),
        ("random_step", {"spread": 0.5, "patch": 4, "kind": "a"}),
        ("random_step", {"spread": 0.5, "patch": 4, "kind": "b"}),
        ("uniform", {}),
    ]
    assert len(set(plan)) == len(plan)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("random = { patch = [4] }", "line 37: unknown method 'random'; did you mean"),
        ("random_step = { patch = 4 }", "line 37: patch is 4; a list of values is needed"),
        ("random_step = { patch = [] }", r"line 37: patch is \[\]; a list of values"),
        ("random_step = { patch = [4, 4] }", "line 37: patch names 4 twice"),
        ("random_step = 4", "line 37: random_step is 4; a table is needed"),
        (
            "random_step = { spread = [0.1] }",
            r"line 37: spread is in \[hyperparameters.random_step\] too",
        ),
    ],
)
def test_a_mistake_in_a_sweep_is_named_with_its_line(
    tmp_path: Path, sweep: str, message: str
) -> None:
    """A sweep of nothing, of the same value twice, or of what is fixed elsewhere is none."""
    with pytest.raises(ValueError, match=rf"small\.toml, {message}"):
        suite.load(written(tmp_path, f"{TEXT}[sweep]\n{sweep}\n"))


def test_a_whole_number_for_a_fraction_is_the_same_suite(tmp_path: Path) -> None:
    """`1` and `1.0` must not be two keys."""
    rate = jobs(tmp_path)[0].budget.learning_rate
    assert isinstance(rate, float)


def test_the_planted_suite_has_every_patcher_and_ten_seeds_of_each_positive_family() -> None:
    """Each of the ten runs has a seed of its own, and each draw of the data has some of them."""
    planted = suite.find("planted", Path(__file__).parent.parent / "suites")
    patchers = {
        name for name in registry.names() if registry.kind(registry.find(name)) == "patcher"
    }
    # Planted series have no clock, and without one it cuts as equal patches do.
    assert patchers - {"frequency"} <= set(planted.methods)
    seeds: dict[str, list[int]] = {}
    for block, method, task, seed, *_ in planted.runs(["uniform"]):
        assert (method, block.methods) == ("uniform", planted.methods)
        seeds.setdefault(family_of(task.dataset)[0], []).append(seed)
    assert {family: sorted(own) for family, own in seeds.items()} == {
        **{family: [*range(1, 11)] for family in ("ordinal", "decoys", "bursts")},
        **{family: [*range(1, 6)] for family in ("const", "sinus")},
    }
    judged = {name for name, own in FAMILIES.items() if own.least is not None or own.margin}
    assert set(seeds) == judged
    assert set(planted.datasets) == {name for name in names() if family_of(name)[0] in judged}


def test_a_selection_keeps_the_order(tmp_path: Path) -> None:
    """Filters take away and change nothing else."""
    chosen = jobs(tmp_path, datasets=["ETTh2", "mine"], seeds=[1, 5], methods=["uniform"])
    assert chosen == [
        job
        for job in jobs(tmp_path)
        if job.method == "uniform" and job.task.dataset != "ETTh1" and job.seed in (1, 5)
    ]
    assert len(jobs(tmp_path, horizons=[24])) == len(jobs(tmp_path))
    assert {job.task.look_back for job in jobs(tmp_path, look_backs=[96])} == {96}


def test_a_new_method_runs_without_an_edit_of_the_suite(tmp_path: Path) -> None:
    """A selected method that no block names runs on all of them."""
    plan = jobs(tmp_path, methods=["mine"])
    assert {job.method for job in plan} == {"mine"}
    assert {job.task for job in plan} == {job.task for job in jobs(tmp_path)}


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"datasets": ["ETTh"]}, "unknown data set 'ETTh'; did you mean 'ETTh[12]'"),
        ({"horizons": [96]}, "unknown horizon '96'. Known: 24"),
        ({"look_backs": [512]}, "unknown look-back '512'"),
        ({"seeds": [9]}, "unknown seed '9'. Known: 1, 2, 5"),
        ({"datasets": ["ETTh2"], "seeds": [1]}, "no job with all of what was selected"),
    ],
)
def test_a_selection_of_what_is_not_there_is_an_error(
    tmp_path: Path, selection: dict[str, object], message: str
) -> None:
    """Nothing selected by mistake ends in silence."""
    with pytest.raises(ValueError, match=f"suite 'small'.*{message}"):
        jobs(tmp_path, **selection)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [1, 2]", "seed = [1, 2]", "line 2: unknown key 'seed'; did you mean 'seeds'"),
        ("epochs = 3", "epoch = 3", "line 6: unknown key 'epoch'; did you mean 'epochs'"),
        ("epochs = 3", "epochs = 0", "line 6: epochs is 0; a whole number of 1 or more"),
        ("epochs = 3", 'epochs = "3"', "line 6: epochs is '3'; a whole number is needed"),
        ("epochs = 3", "epochs = true", "line 6: epochs is True; a whole number is needed"),
        ("width = 32", "widht = 32", "line 10: unknown key 'widht'; did you mean 'width'"),
        ("width = 32", "width = 33", "line 9: a width of 33 cannot be shared"),
        ("width = 32", 'head = "quary"', "line 10: head is 'quary'; one of 'decoding'"),
        (
            "[hyperparameters.random_step]",
            "[hyperparameters.random]",
            "line 12: unknown method 'random'; did",
        ),
        ('"ETTh1", "mine"', '"ETTh9", "mine"', "line 16: unknown data set 'ETTh9'; did you mean"),
        ("patch = 8", "patch = 7", "line 19: patch is 7, which does not divide look_back = 96"),
        ("patch = 8", "patches = 8\npatch = 8", "exactly one of patch .* and patches"),
        ("patch = 8", "", "exactly one of patch .* and patches"),
        ("patches = 7", "patches = 97", "97 patches in a look-back of 96"),
        ("horizons = [24]", "horizons = 24", "line 18: horizons is 24; a list"),
        ("horizons = [24]", "horizons = []", "line 18: horizons must be given; it is empty"),
        ("horizons = [24]", "horizons = [24, 24]", "line 18: horizons names 24 twice"),
        ("horizons = [24]\npatch = 8", "patch = 8", "line 15: horizons must be given"),
        ("budget = { epochs = 9 }", "budget = { epok = 9 }", "line 29: unknown key 'epok'"),
        ("budget = { epochs = 9 }", "budget = 9", "line 29: budget is 9; a table is needed"),
        ("seeds = [5]", "seeds = []", "line 28: seeds must be given; it is empty"),
        ("seeds = [5]", "seeds = [5, 5]", "line 28: seeds names 5 twice"),
        ("seeds = [5]", "seeds = [-5]", "line 28: seeds names -5; whole numbers from 0 to"),
        ("seeds = [5]", "seeds = [4294967296]", "line 28: seeds names 4294967296; whole numbers"),
        ("season = 12", "season = 4000000000", "season is 4000000000; at most"),
        ("learning_rate = 1", "learning_rate = inf", "line 7: learning_rate is inf; a finite"),
        ("spread = 0.5", "spread = [1.0, nan]", "line 13: spread is nan; a finite number"),
        ('["uniform", "random_step"]', '["uniform", "=a()"]', "line 3: '=a..' cannot be a name"),
        (
            '"local_difference"',
            '"a/b"',
            "line 27: 'a/b' cannot be a name: .* begins with a letter",
        ),
        ('"local_difference"', '"Cells"', "line 27: 'Cells' is reserved, because"),
        ("[data.mine]", '[data."x/../../y"]', "line 32: 'x/../../y' cannot be a name"),
        ("[data.mine]", "[data.-mine]", "line 32: '-mine' cannot be a name"),
        ("[data.mine]", f"[data.{'a' * 101}]", "line 32: 'a{96} ...' cannot be .* at most 100"),
        ("seeds = [5]", "seeds = 5", "line 28: seeds is 5; a list"),
        ("seeds = [5]", "seed = [5]", "line 28: unknown key 'seed'; did you mean 'seeds'"),
        ("season = 168", "saison = 168", "line 35: unknown key 'saison'; did you mean 'season'"),
        ("season = 168", "", "line 32: season must be given"),
        ("[data.mine]", "[data.ETTm1]", "unknown data set 'mine'|name of a known data set"),
        (
            "[[tasks]]\ndatasets",
            "[[tsaks]]\ndatasets",
            "unknown key 'tsaks'; did you mean 'tasks'",
        ),
        ("seeds = [1, 2]", "seeds = [1, 2", "Unclosed array"),
        (
            "seeds = [1, 2]",
            "tuned = 1\nseeds = [1]",
            "line 2: tuned is 1; true or false is needed",
        ),
        ("[budget]", "[tuning]\ntrials = 0\n[budget]", "line 6: trials is 0; a whole number of 1"),
        ("[budget]", "[tuning]\nepochs = 0\n[budget]", "line 6: epochs is 0; a whole number of 1"),
        ("[budget]", "[tuning]\ntrial = 9\n[budget]", "line 6: unknown key 'trial'; did you mean"),
        ("[budget]", "[tuning]\ntrials = 2.5\n[budget]", "line 6: trials is 2.5; a whole number"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    """Whoever edits a suite is told what is wrong, where, and what would be right."""
    assert old in TEXT
    path = written(tmp_path, TEXT.replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"small\.toml.*({message})"):
        suite.load(path)


def test_two_blocks_may_not_plan_the_same_run(tmp_path: Path) -> None:
    """A method on a task and seed has one budget."""
    block = 'datasets = ["ETTh1"]\nlook_back = 96\nhorizons = [24]\npatch = 8\n'
    text = f'seeds = [1]\nmethods = ["uniform"]\n[[tasks]]\n{block}[[tasks]]\n{block}'
    with pytest.raises(ValueError, match=r"two .* plan the same run: uniform ETTh1 96->24 K=12"):
        suite.load(written(tmp_path, text))


def test_a_suite_without_tasks_is_refused(tmp_path: Path) -> None:
    """An empty file compares nothing."""
    with pytest.raises(ValueError, match=r"at least one \[\[tasks\]\]"):
        suite.load(written(tmp_path, ""))


def test_a_suite_is_found_by_its_file_name(tmp_path: Path) -> None:
    """And a misspelt one by its neighbour."""
    written(tmp_path)
    assert suite.find("small", tmp_path).name == "small"
    with pytest.raises(ValueError, match="unknown suite 'smal'; did you mean 'small'"):
        suite.find("smal", tmp_path)


def test_a_suite_may_lie_anywhere(tmp_path: Path) -> None:
    """By the path of its file; its results are called after it, its data lie beside it."""
    path = written(tmp_path)
    found = suite.find(str(path), tmp_path / "suites")
    assert found.name == "small"
    assert found.sources["mine"].path.resolve() == tmp_path / "files" / "mine.csv"
    with pytest.raises(ValueError, match=r"there is no suite .*smal\.toml"):
        suite.find(str(tmp_path / "smal.toml"), tmp_path)


CHOICE = """\
[[choices]]
dataset = "ETTh1"
look_back = {look_back}
horizon = 24
patches = {patches}
seed = 1
trials = {trials}
states = {{complete = 3, pruned = 1}}
study = "random_step"
valid_mse = 0.25
learning_rate = 0.002
hyperparameters = {{patch = 4, kind = "b"}}
"""
TUNED = "tuned = true\ntuning = { trials = 4, epochs = 2 }\n"
SWEPT = 'sweep = { random_step = { patch = [8, 4], kind = ["a", "b"] } }\n'


def chosen(folder: Path, *, trials: int = 4) -> Path:
    """Results with a choice for one method at both look-backs of one data set."""
    tuned = folder / "results" / "small" / "tuned"
    tuned.mkdir(parents=True)
    tables = [
        CHOICE.format(look_back=look_back, patches=look_back // 8, trials=trials)
        for look_back in (96, 192)
    ]
    (tuned / "random_step.toml").write_text("".join(tables))
    return folder / "results"


def test_a_tuned_suite_runs_what_was_chosen(tmp_path: Path) -> None:
    """Hyperparameters and learning rate go into every seed's job, in the place of a sweep."""
    results = chosen(tmp_path)
    small = suite.load(written(tmp_path, TUNED + SWEPT + TEXT))
    selection = {"datasets": ["ETTh1"], "methods": ["random_step"]}
    plan = plan_of(small, results=results, **selection)  # type: ignore[arg-type]  # hyperparameters of several types
    assert [(job.task.look_back, job.seed) for job in plan] == [
        (96, 1),
        (96, 2),
        (192, 1),
        (192, 2),
    ]
    for job in plan:
        assert dict(job.hyperparameters) == {"spread": 0.5, "patch": 4, "kind": "b"}
        assert job.budget == Budget(epochs=3, learning_rate=0.002)
        assert job.trials == 4
    assert small.tuning == suite.Tuning(trials=4, epochs=2)


def test_a_search_starts_from_the_suite_as_it_is_written(tmp_path: Path) -> None:
    """Without the results nothing is chosen; and a suite that is not tuned never looks there."""
    results = chosen(tmp_path)
    plain = suite.load(written(tmp_path, SWEPT + TEXT))
    as_written = plan_of(plain, results=results)
    assert as_written == plan_of(suite.load(written(tmp_path, TUNED + SWEPT + TEXT)))
    assert {job.trials for job in as_written} == {0}
    assert plain.tuning == suite.Tuning(trials=20, epochs=None)


def test_the_number_of_trials_is_no_part_of_the_key(tmp_path: Path) -> None:
    """The same setting gives the same number, however it was found: older rows keep their keys."""
    job = jobs(tmp_path)[0]
    searched = replace(job, trials=4)
    assert job_key(searched, "m", "d") == job_key(job, "m", "d")
    provenance = Provenance("abc", "python 3")
    rows = [
        new_record(
            one, provenance, status="failed", kind="patcher", ranked=True, method_source="m",
            data_hash="d", data_verified=True, device="cpu",
        )
        for one in (job, searched)
    ]  # fmt: skip
    assert [row.trials for row in rows] == [None, 4]
    assert rows[0].job == rows[1].job
    assert "trials" not in rows[1].job
    assert recomputed_key(rows[1]) == rows[1].key


def test_a_method_that_was_not_tuned_is_named_with_the_command(tmp_path: Path) -> None:
    """Unless it has nothing to tune; what searches lack is one sentence, not a silent default."""
    results = chosen(tmp_path)
    small = suite.load(written(tmp_path, TUNED + TEXT))
    message = (
        "suite 'small' is tuned with 4 trials for each method and task; uniform ETTh1 96->24 K=12"
        " had 0, and 7 more had not 4. To search: make tune SUITE=small"
        " METHODS=uniform,random_step,local_difference"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        plan_of(small, results=results)
    plan = plan_of(
        small, datasets=["ETTh1"], results=results, learns=lambda job: job.method == "random_step"
    )
    assert {(job.method, job.trials) for job in plan} == {("uniform", 0), ("random_step", 4)}


def test_another_number_of_trials_than_the_suites_is_refused(tmp_path: Path) -> None:
    """Nobody is compared after more looks at the validation data than the others had."""
    results = chosen(tmp_path, trials=40)
    small = suite.load(written(tmp_path, TUNED + TEXT))
    selection = {"datasets": ["ETTh1"], "methods": ["random_step"]}
    with pytest.raises(ValueError, match="random_step ETTh1 96->24 K=12 had 40, and 1 more had"):
        plan_of(small, results=results, **selection)  # type: ignore[arg-type]  # hyperparameters of several types


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed = 1", "sead = 1", "line 6: unknown key 'sead'; did you mean 'seed'"),
        ("seed = 1", "", "line 1: seed must be given"),
        (
            "hyperparameters = {",
            "hyperparameters = 4 #",
            "line 12: hyperparameters is 4; a table is needed",
        ),
        ("[[choices]]", "[[choice]]", "unknown key 'choice'; did you mean 'choices'"),
        ("trials = 4", "trials = 4.0", "line 7: trials is 4.0; a whole number is needed"),
    ],
)
def test_a_mistake_in_a_choice_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    """The files are written by the search and committed; whoever edits one is told what broke."""
    path = chosen(tmp_path) / "small" / "tuned" / "random_step.toml"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=rf"random_step\.toml.*{message}"):
        plan_of(suite.load(written(tmp_path, TUNED + TEXT)), results=tmp_path / "results")
