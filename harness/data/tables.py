"""Tables in files: csv, parquet and bare text, read cell by cell.

What is wrong with a file is said with its path, row and column; the first row of data is row 1.
"""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.core.words import did_you_mean


def read(path: Path, form: str, **options: Any) -> pd.DataFrame:  # noqa: ANN401 - those of pandas
    """The file's cells as they are; a text file's columns are numbered.

    ``options`` are those of ``pandas.read_csv``, where a file is written in another way than
    published copies are.

    Raises:
        ValueError: a damaged file, or one of another form.
    """
    usual: dict[str, Any] = {
        "header": None if form.startswith(".txt") else 0,
        "compression": "gzip" if form.endswith(".gz") else None,
        "float_precision": "round_trip",  # the same digits as a parquet copy, to the last bit
        "low_memory": False,  # one type per column, not one per chunk of it
        "encoding": "utf-8-sig",
        "encoding_errors": "replace",
    }
    try:
        if form == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, **usual | options)
    except (ValueError, OSError, EOFError, NotImplementedError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as {form[1:]}: {error}") from error


def require_column(path: Path, column: str, frame: pd.DataFrame, hint: str = "") -> None:
    """Refuse a table without the column; ``hint`` says what helps."""
    if column not in frame.columns:
        names = [str(name) for name in frame.columns]
        shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        near = did_you_mean(column, names)
        raise ValueError(f"{path} has no column {column!r}{near}; it has {shown}{hint}")


def numbers(
    path: Path, frame: pd.DataFrame, columns: Sequence[str], decimal: str = "."
) -> NDArray[np.float64]:
    """The columns as values [row, column], NaN where a cell is empty.

    Raises:
        ValueError: a cell that is no number.
    """
    return np.column_stack([_number(path, frame[column], decimal) for column in columns])


def are_texts(column: pd.Series[float], decimal: str = ".") -> bool:
    """Whether a column holds cells, and not one of them is a number."""
    return bool(column.notna().any() and _parsed(column, decimal).isna().all())


def _number(path: Path, column: pd.Series[float], decimal: str) -> NDArray[np.float64]:
    parsed = _parsed(column, decimal)
    if len(bad := np.flatnonzero(parsed.isna() & column.notna())):
        cell = str(column.iloc[bad[0]])
        other = {".": ",", ",": "."}[decimal]
        is_other = re.fullmatch(rf"\s*[+-]?\d+{re.escape(other)}\d+\s*", cell)
        hint = f'; decimal = "{other}" reads it as one' if is_other else ""
        raise ValueError(
            f"{place(path, int(bad[0]), column.name)}: {cell!r} is not a number{hint}"
        )
    return np.asarray(parsed.to_numpy(dtype=np.float64, na_value=np.nan), dtype=np.float64)


def _parsed(column: pd.Series[float], decimal: str) -> pd.Series[float]:
    """The cells as numbers, missing where one is none."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    text = column.astype("string")
    if decimal != ".":
        text = text.where(~text.str.contains(".", regex=False)).str.replace(decimal, ".")
    return pd.to_numeric(text, errors="coerce")


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
