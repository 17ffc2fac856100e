"""What is too large or too local for a row: the bundle of a run, ``results/runs/<key>/``."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from harness.core.files import put_folder, write_flushed
from harness.core.job import Record, recomputed_key
from harness.core.schema import from_json

PATCHER = "patcher.pt"
ARTEFACT = "artefact"


@dataclass(frozen=True)
class Bundle:
    """What a run left on this machine; ``curves`` has a row an epoch.

    ``weights`` is the file of the whole model, ``patcher`` that of a patcher to be carried to
    other data, ``boundaries`` that of where some test rows are cut
    (:mod:`harness.report.agreement`), ``artefact`` the folder of a pre-trained forecaster.
    """

    record: Record
    curves: tuple[dict[str, float], ...]
    overlay: dict[str, Any] | None
    weights: Path | None
    patcher: Path | None
    boundaries: Path | None
    log: str
    artefact: Path | None = None


def write_bundle(
    runs: Path,
    record: Record,
    *,
    curves: Sequence[Mapping[str, float]],
    overlay: Mapping[str, object] | None,
    weights: Callable[[Path], None] | None = None,
    patcher: Callable[[Path], None] | None = None,
    boundaries: Callable[[Path], None] | None = None,
    artefact: Callable[[Path], object] | None = None,
    log: str = "",
) -> Path:
    """Leave ``runs/<key>/`` with record, curves, overlay, log and the other files; return it."""
    place = runs / record.key
    temporary = runs / f".{record.key}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        write_flushed(
            temporary / "record.json", (json.dumps(asdict(record), indent=1) + "\n").encode()
        )
        write_flushed(temporary / "curves.csv", _curves(curves).encode())
        if overlay is not None:
            write_flushed(temporary / "overlay.json", (json.dumps(overlay) + "\n").encode())
        if log:
            write_flushed(temporary / "log.txt", log.encode())
        files = {"weights.pt": weights, PATCHER: patcher, "boundaries.npz": boundaries}
        for name, save in files.items():
            if save is not None:
                _save(save, temporary / name)
        if artefact is not None:
            artefact(temporary / ARTEFACT)
        put_folder(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return place


def read_bundle(path: Path) -> Bundle:
    """What :func:`write_bundle` left.

    Raises:
        ValueError: no bundle there, or a damaged one.
    """
    try:
        record = from_json(Record, (path / "record.json").read_text(encoding="utf-8"))
        curves = csv.DictReader(io.StringIO((path / "curves.csv").read_text(encoding="utf-8")))
        epochs = tuple({name: float(value) for name, value in epoch.items()} for epoch in curves)
        overlay = path / "overlay.json"
        shown = json.loads(overlay.read_text(encoding="utf-8")) if overlay.exists() else None
    except (OSError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the bundle of a run: {error}") from error
    weights, patcher, log = path / "weights.pt", path / PATCHER, path / "log.txt"
    boundaries, artefact = path / "boundaries.npz", path / ARTEFACT
    return Bundle(
        record=record,
        curves=epochs,
        overlay=shown,
        weights=weights if weights.exists() else None,
        patcher=patcher if patcher.exists() else None,
        boundaries=boundaries if boundaries.exists() else None,
        artefact=artefact if artefact.exists() else None,
        log=log.read_text(encoding="utf-8") if log.exists() else "",
    )


def recorded(runs: Path, keys: Iterable[str]) -> dict[str, Record]:
    """The records of those bundles that are there and whole, by key."""
    try:
        there = set(os.listdir(runs))  # noqa: PTH208 - names are all that is needed
    except FileNotFoundError:
        return {}
    found = {}
    for key in there.intersection(keys):
        try:
            record = from_json(Record, (runs / key / "record.json").read_text(encoding="utf-8"))
        except (OSError, TypeError, ValueError):
            continue  # a damaged bundle is no record: the run is done again
        if key == record.key == recomputed_key(record):
            found[key] = record
    return found


def _curves(curves: Sequence[Mapping[str, float]]) -> str:
    text = io.StringIO()
    if curves:
        table = csv.DictWriter(text, fieldnames=list(curves[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(
            {name: repr(float(value)) for name, value in epoch.items()} for epoch in curves
        )
    return text.getvalue()


def _save(save: Callable[[Path], None], path: Path) -> None:
    try:
        save(path)
    except RuntimeError as error:
        # What torch says when a file cannot be written is about its own insides.
        if "inline_container" in str(error):
            said = f"{os.strerror(errno.ENOSPC)}?"
            raise OSError(errno.ENOSPC, said, str(path)) from error
        raise
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_boundaries(sample: Mapping[str, NDArray[Any]], path: Path) -> None:
    """Write what :func:`harness.run.probes.sampled_boundaries` makes.

    The same arrays give the same bytes.
    """
    np.savez_compressed(path, allow_pickle=False, **sample)


def read_boundaries(path: Path) -> dict[str, NDArray[Any]]:
    """What :func:`write_boundaries` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged one.
    """
    try:
        # Opened here, because numpy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (BadZipFile, EOFError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or holds no boundaries: {error}") from error
