"""Which methods stopped to cut by content: one patch a row, patches of one step, or one plan."""

from __future__ import annotations

import pandas as pd

_ROUNDED = 0.05


def collapsed(rows: pd.DataFrame) -> dict[tuple[int, str], str]:
    """By look-back and method, how its plans collapsed, and in how many of its finished runs.

    Of ranked patchers in ``rows``, as :func:`harness.results.table.read_table` gives them. A run
    has collapsed if rows have one patch, as many as steps, or are all cut at the same steps
    (``position_bias`` of :class:`harness.run.boundaries.Habits`). Methods that have not are left
    out.
    """
    done = rows[(rows.status == "done") & (rows.kind == "patcher") & rows.ranked]
    if "grid" in done:
        done = done[~done.grid]  # of a grid by design this is no finding
    numbers = done.reindex(columns=["tokens_mean", "position_bias"]).astype(float)
    how = pd.Series("", done.index)
    how[numbers.position_bias > 1 - _ROUNDED / 10] = "one plan for all rows"
    how[numbers.tokens_mean > done.look_back - _ROUNDED] = "patches of one step"
    how[numbers.tokens_mean < 1 + _ROUNDED] = "1.0 tokens"
    return {
        (int(str(look_back)), str(method)): _said(own)
        for (look_back, method), own in how.groupby([done.look_back, done.method])
        if (own != "").any()
    }


def _said(how: pd.Series[str]) -> str:
    ways = how[how != ""]
    some = "" if len(ways) == len(how) else f" in {len(ways)} of {len(how)} runs"
    return f"collapsed{some}: {', '.join(sorted(set(ways)))}"
