"""What a run leaves on disk comes back, whole or not at all."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_rows import JOB, row

from harness.results.bundles import read_bundle, recorded, write_bundle


def test_records_are_found_in_bundles_that_are_whole(tmp_path: Path) -> None:
    """A damaged bundle, one under another name and one that was edited are no records."""
    assert recorded(tmp_path / "none", ["a"]) == {}
    fine, torn, moved, edited = (row(replace(JOB, seed=seed)) for seed in (1, 2, 3, 4))
    for record in (fine, torn, moved, edited):
        write_bundle(tmp_path, record, curves=(), overlay=None)
    (tmp_path / torn.key / "record.json").write_text('{"suite":')
    (tmp_path / moved.key).rename(tmp_path / "0123456789abcdef")
    told = tmp_path / edited.key / "record.json"
    told.write_text(told.read_text().replace('"bb"', '"xx"'))
    keys = [fine.key, torn.key, "0123456789abcdef", edited.key]
    assert recorded(tmp_path, keys) == {fine.key: fine}
    assert recorded(tmp_path, []) == {}


def test_a_bundle_comes_back_as_it_was_left(tmp_path: Path) -> None:
    """Record, curves, overlay, weights, patcher, log; a second run of the key takes the place."""
    curves = [{"epoch": 1.0, "valid_mse": 0.1}, {"epoch": 2.0, "valid_mse": 0.3}]
    overlay = {"values": [1.0, 2.0], "true_starts": None}

    def save(place: Path) -> None:
        place.write_bytes(place.stem.encode())

    for log in ("old", "new"):
        path = write_bundle(
            tmp_path,
            row(),
            curves=curves,
            overlay=overlay,
            weights=save,
            patcher=save,
            log=log,
        )
    bundle = read_bundle(path)
    assert path == tmp_path / row().key
    assert bundle.record == row()
    assert bundle.curves == tuple(curves)
    assert bundle.overlay == overlay
    assert bundle.log == "new"
    assert bundle.weights is not None
    assert bundle.weights.read_bytes() == b"weights"
    assert bundle.patcher is not None
    assert bundle.patcher.read_bytes() == b"patcher"
    assert list(tmp_path.iterdir()) == [path]


def test_a_bundle_may_hold_the_record_alone(tmp_path: Path) -> None:
    """A failed run has no curves, no overlay, no weights and no patcher."""
    path = write_bundle(tmp_path, row(status="failed"), curves=(), overlay=None)
    bundle = read_bundle(path)
    assert (bundle.curves, bundle.overlay, bundle.log) == ((), None, "")
    assert bundle.weights is None
    assert bundle.patcher is None


def test_a_bundle_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """Weights that cannot be saved leave no folder that looks like a run."""

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_bundle(tmp_path, row(), curves=(), overlay=None, weights=fail)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_where_torch_does_not_name_it(small_disk: Path) -> None:
    """Weights that do not fit are an OSError like any file that does not fit."""
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_bundle(
            small_disk,
            row(),
            curves=(),
            overlay=None,
            weights=lambda path: torch.save(torch.zeros(1_000_000), path),
        )
    assert caught.value.errno == errno.ENOSPC
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("content", [None, "{}", "{", "[]"])
def test_what_is_no_bundle_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    """The error names the folder."""
    if content is not None:
        (tmp_path / "record.json").write_text(content)
    with pytest.raises(ValueError, match=f"{tmp_path} is not the bundle of a run"):
        read_bundle(tmp_path)
