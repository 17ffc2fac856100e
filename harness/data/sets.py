"""Data sets by name: what is known of each, whether it is at hand, and the set itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import platformdirs

from harness.core.source import Source, form_of
from harness.core.words import did_you_mean
from harness.data import copies, embedded, labelled
from harness.data.published import CATALOGUE, Entry
from harness.data.series import Outline, Series


def known() -> list[str]:
    """The names of all data sets that :func:`load` can give without a :class:`Source`."""
    return [*CATALOGUE, *embedded.names(), *labelled.names()]


def entry(name: str) -> Entry:
    """The catalogue's entry of a published data set.

    Raises:
        ValueError: a name that is not in the catalogue.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    if files := labelled_files(name):
        raise ValueError(f"data set {name!r} is read from {files[0]}: it cannot be downloaded")
    if name in known():
        raise ValueError(f"data set {name!r} is embedded: it has no file and needs none")
    near = did_you_mean(name, known())
    raise ValueError(f"unknown data set {name!r}{near}; known: {', '.join(known())}")


@runtime_checkable
class _Others(Protocol):
    """A module of data sets that are not published ones."""

    def season(self, name: str) -> int: ...

    def pinned(self, name: str) -> str: ...

    def outline(self, name: str) -> Outline: ...

    def load(self, name: str, folders: Sequence[Path], /) -> Series: ...


def _others(name: str) -> _Others | None:
    """The module that has the set; None for a published one, or a name that is not known."""
    return next((own for own in (embedded, labelled) if name in own.names()), None)


def season(name: str) -> int:
    """The season in steps of a known set, which need not be at hand."""
    own = _others(name)
    return entry(name).season if own is None else own.season(name)


def pinned(name: str) -> str | None:
    """The value hash that a known set must have, or None where none is known."""
    own = _others(name)
    return entry(name).hash if own is None else own.pinned(name)


def outline(name: str) -> Outline:
    """What is known of a known set without reading it: enough to see which lengths fit it."""
    if (own := _others(name)) is not None:
        return own.outline(name)
    found = entry(name)
    return Outline(name, found.borders, found.channels)


def user_cache() -> Path:
    """Where downloads go unless the user says otherwise."""
    return platformdirs.user_cache_path("patchbench")


def load(
    name: str,
    directories: Sequence[Path],
    source: Source | None = None,
    *,
    cache: Path | None = None,
) -> Series:
    """The data set ``name``, verified, from the first of ``directories``, ``cache`` that has it.

    A directory may be flat or hold one level of sub-folders. An own file is looked for at its path
    first, then by its name in the directories. ``cache`` also remembers the value
    hash of a set whose true one is not known, so that it cannot change unnoticed from then on.

    Raises:
        FileNotFoundError: the set is in none of the folders; the message says what to type.
        ValueError: an unknown name, or a file that is not what it should be.
    """
    if source is not None:
        from harness.data import (
            custom,
        )  # here: whoever only asks what there is need not load pandas

        if name in known():
            raise ValueError(f"an own data set cannot be called {name!r}: a known one is")
        return custom.load(name, _at_hand(source, directories))
    folders = _folders(directories, cache)
    if (own := _others(name)) is not None:
        return own.load(name, folders)
    found = entry(name)
    path = copies.find(found, folders)
    if path is None:
        raise FileNotFoundError(explain_missing([found], folders))
    return copies.read(found, path, form_of(path.name), cache)


def labelled_files(name: str) -> tuple[str, ...]:
    """The files of which a labelled set is made, by the names they are looked for; none of others.

    As ``find_panel`` finds them.
    """
    return labelled.files(name) if name in labelled.names() else ()


def file_of(name: str, directories: Sequence[Path], source: Source | None = None) -> Path | None:
    """The file that the set would be read from; None of an embedded one, or where there is none.

    An own file need not be there.
    """
    if source is not None:
        return source.path
    return copies.find(CATALOGUE[name], directories) if name in CATALOGUE else None


def fetch_each(
    entries: Sequence[Entry],
    cache: Path,
    *,
    bar: Callable[[Entry], AbstractContextManager[Callable[[int, int | None], None]]],
) -> Iterator[tuple[Entry, Path | str]]:
    """Download published sets: :func:`harness.data.download.fetch_each`."""
    from harness.data import download  # here: few verbs need the network

    yield from download.fetch_each(entries, cache, bar=bar)


def missing(
    names: Iterable[str], directories: Sequence[Path], *, cache: Path | None = None
) -> list[Entry]:
    """The published sets among ``names`` that are in none of the folders."""
    folders = _folders(directories, cache)
    published = [CATALOGUE[name] for name in names if name in CATALOGUE]
    return [found for found in published if copies.find(found, folders) is None]


def sizes(entries: Sequence[Entry]) -> str:
    """The sets with how large a download each is; those of one file together."""
    files: dict[tuple[str, ...], list[Entry]] = {}
    for found in entries:
        files.setdefault(found.stems, []).append(found)
    return ", ".join(
        f"{' and '.join(found.name for found in of)} ({of[0].megabytes:g} MB)"
        for of in files.values()
    )


def explain_missing(entries: Sequence[Entry], folders: Sequence[Path]) -> str:
    """What is not here, where it was looked for, how large it is, and what to type."""
    sets = sizes(entries)
    looked = ", ".join(f"{at}{'' if at.is_dir() else ' (no such folder)'}" for at in folders)
    return (
        f"not here: {sets}\n"
        f"looked in: {looked or 'no folder was given'}\n"
        f"type `make data DATASETS={','.join(found.name for found in entries)}` to download, "
        f"or set PATCHBENCH_DATA to a folder that holds them"
    )


def _at_hand(source: Source, directories: Sequence[Path]) -> Source:
    """Where an own file is not at its path, as on another machine, a file of its name will do."""
    if source.path.is_file():
        return source
    return replace(source, path=copies.first(directories, [source.path.name]) or source.path)


def _folders(directories: Sequence[Path], cache: Path | None) -> list[Path]:
    return [*directories] if cache is None or cache in directories else [*directories, cache]
