"""Tables in files: csv, parquet and bare text, read cell by cell.

What is wrong with a file is said with its path, row and column; the first row of data is row 1.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.core.words import did_you_mean


def read(path: Path, form: str) -> pd.DataFrame:
    """The file's cells as they are; a text file's columns are numbered.

    Raises:
        ValueError: a damaged file, or one of another form.
    """
    try:
        if form == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(
            path,
            header=None if form.startswith(".txt") else "infer",
            compression="gzip" if form.endswith(".gz") else None,
            float_precision="round_trip",  # the same digits as a parquet copy, to the last bit
            low_memory=False,  # one type per column, not one per chunk of it
            encoding="utf-8-sig",
            encoding_errors="replace",
        )
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as {form[1:]}: {error}") from error


def require_column(path: Path, column: str, frame: pd.DataFrame) -> None:
    """Refuse a table without the column."""
    if column not in frame.columns:
        names = [str(name) for name in frame.columns]
        shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        near = did_you_mean(column, names)
        raise ValueError(f"{path} has no column {column!r}{near}; it has {shown}")


def numbers(path: Path, frame: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    """The columns as values [row, column], NaN where a cell is empty.

    Raises:
        ValueError: a cell that is no number.
    """
    return np.column_stack([_number(path, frame[column]) for column in columns])


def _number(path: Path, column: pd.Series[float]) -> NDArray[np.float64]:
    if not pd.api.types.is_numeric_dtype(column):
        parsed = pd.to_numeric(column.astype("string"), errors="coerce")
        if len(bad := np.flatnonzero(parsed.isna() & column.notna())):
            cell = column.iloc[bad[0]]
            raise ValueError(
                f"{place(path, int(bad[0]), column.name)}: {str(cell)!r} is not a number"
            )
        column = parsed
    return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)


def stamps(path: Path, column: pd.Series[pd.Timestamp]) -> NDArray[np.int64]:
    """Microseconds since 1970; stamps with a zone are counted in UTC.

    Raises:
        ValueError: a cell that is no stamp.
    """
    if pd.api.types.is_numeric_dtype(column):
        raise ValueError(f"{path}: column {column.name!r} holds numbers, where stamps are needed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a format it must guess cell by cell
        clock = pd.DatetimeIndex(pd.to_datetime(column, errors="coerce", utc=True))
    if len(bad := np.flatnonzero(clock.isna())):
        cell = str(column.iloc[bad[0]])
        raise ValueError(f"{place(path, int(bad[0]), column.name)}: {cell!r} is not a stamp")
    return clock.tz_localize(None).to_numpy(dtype="datetime64[us]").astype(np.int64)


def require_finite(
    path: Path, values: NDArray[np.float64], names: Sequence[str], hint: str = ""
) -> None:
    """Refuse values [row, column] with a gap or an infinity; ``hint`` says what helps a gap."""
    rows, columns = np.nonzero(~np.isfinite(values))
    if len(rows):
        row, column = int(rows[0]), int(columns[0])
        gap = np.isnan(values[row, column])
        raise ValueError(
            f"{place(path, row, names[column])}: the value is {'missing' if gap else 'infinite'}, "
            f"the first of {len(rows)} such cells{hint if gap else ''}"
        )


def place(path: Path, row: int, column: object) -> str:
    """Where a cell is, in words; ``row`` counts from 0."""
    return f"{path}, row {row + 1}, column {column!r}"
