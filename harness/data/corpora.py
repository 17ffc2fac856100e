"""Corpora to pre-train on: which series there are, one TOML file each, in `suites/corpora/`."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.core.schema import STRICT, MistakeError, from_table
from harness.core.words import unknown
from harness.data import synthetic
from harness.data.panels import Channel, load_panel
from harness.data.rates import spacing_of_stamps

LARGEST_SHARE = 0.15
"""Of rows that are drawn from one member, where there are enough members for that."""


CORPORA = Path(__file__).resolve().parents[2] / "suites" / "corpora"


@dataclass(frozen=True)
class Member:
    """A file of a corpus: the source its values come from, its licence and its value hash."""

    __pydantic_config__ = STRICT

    family: str
    licence: str
    hash: str


@dataclass(frozen=True)
class Synthetic:
    """``series`` drawn ones (:mod:`harness.data.synthetic`), of which ``share`` of rows come."""

    __pydantic_config__ = STRICT

    seed: int
    series: int
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.series < 1:
            raise ValueError(f"series is {self.series}; at least one is needed")
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; more than 0 and at most 1 is needed")


@dataclass(frozen=True)
class Corpus:
    """A corpus as its file describes it; ``members`` by file, "pool/rte_load.parquet"."""

    __pydantic_config__ = STRICT

    description: str
    members: dict[str, Member] = field(default_factory=dict)
    synthetic: Synthetic | None = None

    def __post_init__(self) -> None:
        if not self.members and self.synthetic is None:
            raise ValueError("members are missing, and nothing synthetic is drawn either")
        if self.synthetic is not None and bool(self.members) != (self.synthetic.share < 1):
            raise ValueError(
                "synthetic.share is below 1 if there are members, and 1 if there are none"
            )

    @property
    def hash(self) -> str:
        """The identity of its values and of how often each member is drawn."""
        parts = [f"{file} {member.hash}" for file, member in sorted(self.members.items())]
        if (drawn := self.synthetic) is not None:
            parts.append(f"{synthetic.identity(drawn.seed, drawn.series)} {drawn.share}")
        return sha256("\n".join(parts).encode()).hexdigest()

    @property
    def families(self) -> frozenset[str]:
        """The sources of its values; drawn ones have none."""
        return frozenset(member.family for member in self.members.values())


@dataclass(frozen=True, eq=False)
class Pool:
    """The series of one member [time], each with its name; ``share`` of all rows come of them.

    ``spacing`` is in seconds from step to step, 0 where it is not known.
    """

    name: str
    share: float
    names: tuple[str, ...]
    series: tuple[NDArray[np.float32], ...]
    spacing: float = 0.0


def corpus_names() -> list[str]:
    """Every corpus there is, sorted: a file each."""
    return sorted(path.stem for path in CORPORA.glob("*.toml"))


def find_corpus(name: str) -> Corpus:
    """The corpus of that name.

    Raises:
        ValueError: there is none, or its file is wrong.
    """
    if name not in corpus_names():
        raise ValueError(unknown("corpus", name, corpus_names()))
    return read_corpus(CORPORA / f"{name}.toml")


def read_corpus(path: Path) -> Corpus:
    """A corpus from its TOML file.

    Raises:
        ValueError: what is wrong with the file, with its path.
    """
    try:
        return from_table(Corpus, tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, MistakeError) as error:
        raise ValueError(f"{path}: {error}") from error


def load_corpus(corpus: Corpus, folders: Sequence[Path]) -> list[Pool]:
    """The series of a corpus, each member with its share of the rows.

    The shares of files are as the square roots of their numbers of values, and none is larger than
    :data:`LARGEST_SHARE`.

    Raises:
        FileNotFoundError: a member is in none of the folders; names it.
        ValueError: a member does not have its value hash; names it.
    """
    loaded = {file: load_member(corpus, file, folders) for file in corpus.members}
    counts = [sum(len(one.values) for one in channels) for channels in loaded.values()]
    drawn = corpus.synthetic
    real = 1.0 if drawn is None else 1 - drawn.share
    pools = [
        Pool(
            name=file,
            share=real * share,
            names=tuple(one.name for one in channels),
            series=tuple(one.values.astype(np.float32) for one in channels),
            spacing=spacing_of_stamps(channels[0].stamps),
        )
        for (file, channels), share in zip(loaded.items(), shares(counts), strict=True)
    ]
    if drawn is not None:
        series = tuple(synthetic.draw(drawn.seed, number) for number in range(drawn.series))
        names = tuple(f"{number}" for number in range(drawn.series))
        pools.append(Pool(f"synthetic-{drawn.seed}", drawn.share, names, series))
    return pools


def load_member(corpus: Corpus, file: str, folders: Sequence[Path]) -> list[Channel]:
    """The series of one member, with their stamps; errors as of :func:`load_corpus`."""
    return load_panel(file, folders, corpus.members[file].hash)


def shares(counts: Sequence[int]) -> list[float]:
    """Shares that add up to 1, as the square roots of the counts, none above the largest share.

    What a member has too much goes to the others in proportion; fewer members than can keep below
    the largest share have equal ones.
    """
    if not counts:
        return []
    largest = max(LARGEST_SHARE, 1 / len(counts))
    roots = np.sqrt(np.asarray(counts, dtype=np.float64))
    capped = np.zeros(len(roots), dtype=bool)
    found = roots / roots.sum()
    while (found[~capped] > largest * (1 + 1e-12)).any():
        capped |= found > largest
        rest = 1 - largest * capped.sum()
        found = np.where(capped, largest, rest * roots / max(roots[~capped].sum(), 1e-300))
    return [float(share) for share in found]
