"""The truth: one CSV a method, ``results/<suite>/<method>.csv``, a self-contained row a job."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.core.files import write_text
from harness.core.job import Record, columns
from harness.core.schema import from_texts

# A job's JSON and an error of an earlier version may be longer than the 128 kB that csv allows.
csv.field_size_limit(2**31 - 1)


def read_rows(path: Path) -> list[Record]:
    """The rows of a results file; none if there is no such file.

    Raises:
        ValueError: not a results file, a damaged one, or one with two rows for the same
            coordinates, as a merge of two branches may leave; names file, line and column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return _parse(file, path)
    except FileNotFoundError:
        return []


def write_rows(path: Path, records: Iterable[Record]) -> None:
    """Replace the file; rows in a fixed order."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns())
    for record in sorted(records, key=_order):
        table.writerow([_text(getattr(record, name)) for name in columns()])
    write_text(path, text.getvalue())


def put_row(path: Path, record: Record) -> None:
    """Store one row in the place of the row of its coordinates, whatever that one's key."""
    files = RowFiles()
    files.put(path, record)
    files.save()


class RowFiles:
    """The results files of one process that alone writes them: rows in memory, written at times.

    A file is always written as a whole, which for many rows takes longer than to make one. So
    :meth:`save_at_times` writes as often as takes a twentieth of the time at most. What a killed
    process had not saved is in its bundles.
    """

    def __init__(self) -> None:
        self._rows: dict[Path, dict[tuple[Any, ...], Record]] = {}
        self._unsaved: set[Path] = set()
        self._next = -math.inf

    def put(self, path: Path, record: Record, outdated: Collection[str] = ()) -> None:
        """Take in a row in the place of that of its coordinates and those with ``outdated`` keys.

        Raises:
            ValueError: the file there is cannot be read.
        """
        if path not in self._rows:
            self._rows[path] = {other.coordinates: other for other in read_rows(path)}
        rows = self._rows[path]
        if outdated:
            rows = {place: other for place, other in rows.items() if other.key not in outdated}
            self._rows[path] = rows
        rows[record.coordinates] = record
        self._unsaved.add(path)

    def save_at_times(self) -> None:
        """Save, unless that was done too short a time ago."""
        if self._unsaved and time.monotonic() >= self._next:
            self.save()

    def save(self) -> None:
        """Write what is not written.

        Raises:
            OSError: a file cannot be written; it is as it was before.
        """
        since = time.monotonic()
        for path in sorted(self._unsaved):
            write_rows(path, self._rows[path].values())
            self._unsaved.remove(path)
        now = time.monotonic()
        self._next = now + 20 * (now - since)


def _order(record: Record) -> tuple[object, ...]:
    # Two settings of a sweep differ in their hyperparameters alone, which the job's JSON tells.
    return (*record.coordinates[1:], record.job)


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return repr(value)
        case _:
            return str(value)


def _parse(file: Iterable[str], path: Path) -> list[Record]:
    table = csv.reader(file, strict=True)
    try:
        header = next(table, [])
        _check_header(header)
        return list(_records(table, header))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}, line {max(table.line_num, 1)}: {error}") from error


def _records(table: Iterable[Sequence[str]], header: Sequence[str]) -> Iterator[Record]:
    lines: dict[tuple[Any, ...], int] = {}
    for line, values in enumerate(table, 2):
        record = _record(header, values)
        if (first := lines.setdefault(record.coordinates, line)) != line:
            raise ValueError(
                f"the same run is in line {first} already: {record}. One of the two has to go,"
                " and only you can say which"
            )
        yield record


def _check_header(header: Sequence[str]) -> None:
    known = columns()
    # What may be empty may be absent: a row of an earlier version has no later columns.
    expected = [name for name, (_, optional) in known.items() if name in header or not optional]
    for name in expected:
        if name not in header:
            raise ValueError(f"not a results file: column {name!r} is missing")
    for name in header:
        if name not in known:
            raise ValueError(f"not a results file: column {name!r} is unknown")
    if header != expected:
        raise ValueError("not a results file: the columns are in another order")


def _record(header: Sequence[str], values: Sequence[str]) -> Record:
    if len(values) != len(header):
        raise ValueError(f"{len(values)} fields where {len(header)} are expected")
    return from_texts(Record, dict(zip(header, values, strict=True)))
