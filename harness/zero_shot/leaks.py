"""Whether a corpus holds what tasks are made of: asked before anything is pre-trained on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness import data
from harness.zero_shot.recipes import to_forecast
from harness.zero_shot.tasks import files, tasks

SERIES = 8
"""Of a file with many, so many are looked for: a leak of a file is one of all its series."""


def tags(corpus: data.Corpus) -> Mapping[str, data.Tag]:
    """For each task what a result on it is worth after this corpus, by the sources of both."""
    return {name: data.tag(corpus.families, task.family) for name, task in tasks().items()}


def search(
    corpus: data.Corpus,
    folders: Sequence[Path],
    *,
    among: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda file: None,
) -> list[data.Match]:
    """The best place that the values of each target have in the files of a corpus.

    Targets are up to :data:`SERIES` series, evenly spread, of each file that tasks are made of, or
    of the files ``among`` these. All of them in the open corpus take a CPU some six minutes.
    ``progress`` is told of each member that is done.

    Raises:
        FileNotFoundError: a file is in none of the folders.
        ValueError: a file does not hold what it should, or a target is in the corpus.
    """
    targets = []
    for file in files() if among is None else among:
        series = to_forecast(files()[file], folders)
        chosen = series[:: math.ceil(len(series) / SERIES)]
        targets += [replace(one, name=f"{file}:{one.name}") for one in chosen]
    best: dict[str, data.Match] = {}
    for file in corpus.members:
        member = data.load_member(corpus, file, folders)
        found = data.matches(targets, [replace(one, name=f"{file}:{one.name}") for one in member])
        best |= {match.target: max(match, best.get(match.target, match)) for match in found}
        progress(file)
    if leaks := [match for match in best.values() if match.leaks]:
        raise ValueError(f"the corpus holds a target: {max(leaks)}")
    return list(best.values())
