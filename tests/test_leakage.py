"""Leakage of targets into corpora: planted leaks are found, and clean pairs raise no alarm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from harness import data
from harness.data import Channel, leakage
from harness.data.corpora import Member
from harness.zero_shot import leaks, tasks

CORPORA = sorted((Path(__file__).parents[1] / "suites" / "corpora").glob("*.toml"))
Array = NDArray[np.float64]


def channel(values: Array, name: str = "series") -> Channel:
    """A series without a clock."""
    return Channel(name, np.arange(len(values)), np.ascontiguousarray(values), is_column=True)


def hourly(seed: int, steps: int = 4000) -> Array:
    """A random walk with a day and a week in it."""
    time = np.arange(steps)
    walk = np.random.default_rng(seed).normal(size=steps).cumsum()
    return walk + 3 * np.sin(2 * np.pi * time / 24) + np.sin(2 * np.pi * time / 168)


PLANTED: dict[str, Callable[[Array], Array]] = {
    "renamed": lambda values: values,
    "shifted by a week": lambda values: values[168:],
    "rescaled": lambda values: 5 - 0.01 * values,
    "decimated by 4": lambda values: values[::4],
}
OTHERS: dict[str, Callable[[Array], Array]] = {
    "decimated by 4 from the third value on": lambda values: values[3::4],
    "finer by 4": lambda values: np.interp(
        np.arange(4 * len(values)) / 4, np.arange(len(values)), values
    )[2:],
    "with gaps": lambda values: np.where(np.arange(len(values)) % 300 == 7, np.nan, values),
}


@pytest.mark.parametrize("plant", [*PLANTED.values(), *OTHERS.values()], ids=[*PLANTED, *OTHERS])
def test_a_planted_leak_is_found(plant: Callable[[Array], Array]) -> None:
    """A target under another name, shifted, in other units or at another rate is found."""
    target = channel(hourly(0), "target")
    corpus = [channel(hourly(seed), str(seed)) for seed in (1, 2)]
    leak = channel(plant(target.values), "innocent")
    [clean], [found] = data.matches([target], corpus), data.matches([target], [*corpus, leak])
    assert not clean.leaks
    assert found.leaks
    assert (found.target, found.series) == ("target", "innocent")


@pytest.mark.parametrize("plant", PLANTED.values(), ids=PLANTED)
def test_leaks_of_a_published_target_are_found(
    plant: Callable[[Array], Array], data_folder: Path
) -> None:
    """Each of the seven channels of ETTh1, planted among real series, is found: 4 of 4 ways."""
    source = tasks.files()["ltsf/ETTh1.parquet"]
    targets = data.load_panel(source.file, [data_folder], source.pinned)
    leaks = [channel(plant(target.values), f"{target.name} again") for target in targets]
    for match in data.matches(targets, leaks):
        assert match.leaks
        assert match.series == f"{match.target} again"


def part_of_open(*stems: str) -> data.Corpus:
    """The open corpus, of fewer members."""
    corpus = data.read_corpus(CORPORA[0])
    return replace(
        corpus,
        members={
            file: member for file, member in corpus.members.items() if Path(file).stem in stems
        },
    )


def test_clean_pairs_raise_no_alarm(data_folder: Path) -> None:
    """Real targets and real members of the open corpus, of like kinds: nowhere near the limit."""
    corpus = part_of_open("rte_load", "ercot_dam_price", "yosemite_temps")
    among = ("pool/epf_fr.parquet", "monash/us_births.parquet", "monash/saugeenday.parquet")
    done: list[str] = []
    found = leaks.search(corpus, [data_folder], among=among, progress=done.append)
    assert done == [*corpus.members]
    assert [match.target for match in found] == [
        "pool/epf_fr.parquet:OT",
        "monash/us_births.parquet:T1",
        "monash/saugeenday.parquet:T1",
    ]
    assert max(match.correlation for match in found) < 0.95


def test_a_corpus_with_a_target_is_refused(data_folder: Path) -> None:
    """The refusal names the target, the member and how alike they are."""
    source = tasks.files()["monash/us_births.parquet"]
    leaky = data.Corpus("x", {source.file: Member(source.family, source.licence, source.pinned)})
    assert leaks.tags(leaky)["gift-eval/us_births/D/short"] == "leaked"
    line = r"holds a target: monash/us_births.parquet:T1 in monash/us_births.parquet:T1 \(every 1"
    with pytest.raises(ValueError, match=line):
        leaks.search(leaky, [data_folder], among=[source.file])


def test_drawn_series_hold_no_target() -> None:
    """Not one of a hundred comes near a target."""
    from harness.data import synthetic

    drawn = [channel(synthetic.draw(1, number).astype(np.float64)) for number in range(100)]
    [match] = data.matches([channel(hourly(0))], drawn)
    assert match.correlation < 0.9


def test_a_jump_is_no_finger_print() -> None:
    """Two series that are flat but for a jump are not taken for one: jumps are alike."""
    jumps = np.repeat([0.0, 1.0], 500)
    assert data.matches([channel(jumps)], [channel(np.roll(3 * jumps, 77))]) == []


def test_flat_stretches_and_outliers_of_a_corpus_raise_no_alarm() -> None:
    """Where nothing changes beside a huge value there is only rounding."""
    flat = np.full(3000, 0.1) + np.where(np.arange(3000) == 5, 1e9, 0)
    [match] = data.matches([channel(hourly(0))], [channel(flat)])
    assert match.correlation < 0.9
    assert not match.leaks


def test_targets_that_are_too_short_are_left_to_what_is_known() -> None:
    """A stretch of 256 known steps is needed; too short a corpus matches nothing."""
    gaps = hourly(0, 600)
    gaps[::100] = np.nan
    gaps[1::100] = np.nan
    assert data.matches([channel(hourly(0, 255)), channel(gaps)], [channel(hourly(1))]) == []
    [match] = data.matches([channel(hourly(0, 256))], [channel(hourly(0, 200))])
    assert match.correlation == 0


def test_a_match_says_where() -> None:
    """Target, series, steps and correlation."""
    target = channel(hourly(0), "a")
    [match] = data.matches([target], [channel(hourly(0)[1::3], "b")])
    assert str(match) == "a in b (every 3 and 1 steps, correlation 1.000000)"


# --- by source -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CORPORA, ids=lambda path: path.stem)
def test_no_committed_corpus_holds_a_source_of_a_target(path: Path) -> None:
    """No pair of families is the same or derived, and no file is one that tasks are made of."""
    corpus = data.read_corpus(path)
    assert set(leaks.tags(corpus)) == set(tasks.tasks())
    assert "leaked" not in leaks.tags(corpus).values()
    assert not set(corpus.members) & set(tasks.files())
    assert not [file for file in corpus.members if not file.startswith("pool/")]


def test_tags_of_the_open_corpus() -> None:
    """Prices and weather are near something in it; drawn series are clean of everything."""
    families = data.read_corpus(CORPORA[0]).families
    near = {
        task.family for task in tasks.tasks().values() if data.tag(families, task.family) == "near"
    }
    assert near == {"epf", "jena_weather"}
    assert {data.tag((), task.family) for task in tasks.tasks().values()} == {"clean"}


def test_relations_hold_both_ways() -> None:
    """The grid of epf_pjm leaks into it, a source into itself, and unrelated ones are clean."""
    assert data.relation("pjm_load", "epf") == data.relation("epf", "pjm_load") == "derived"
    assert data.relation("ett", "ett") == "same"
    assert data.relation("ett", "beijing_air") == "none"
    assert data.tag(["rte_load", "pjm_load"], "epf") == "leaked"
    assert data.tag(["rte_load", "ett"], "epf") == "near"
    assert data.tag(["ett"], "epf") == "clean"


def test_relations_are_of_families_that_there_are() -> None:
    """A misspelt family would be related to nothing, and nobody would see it."""
    known = {source.family for source in tasks.files().values()}
    known |= {family for path in CORPORA for family in data.read_corpus(path).families}
    # Sources that are in no corpus, so that they stay out, and targets of other benchmarks.
    outside = {"pjm_load", "electricity", "traffic", "solar"}
    outside |= {"electricity_weekly", "traffic_weekly", "solar_weekly"}
    named = {family for pair in leakage._relations() for family in pair}
    assert named <= known | outside
