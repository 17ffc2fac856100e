"""The panel of instruments: what each method does on planted series, one family at a time.

Planted series are drawn so that the answer is known. They are instruments and no sample of data
sets that one wants to generalise to. So nothing is averaged over families, no verdict is given
across them, and they never enter a ranking. What each family is an instrument for, and what
passes, is declared in :data:`harness.data.PLANTED_FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from harness import data
from harness.report.formats import Block, Heading, Table, code
from harness.report.statistics import LEVEL
from harness.results.table import TASK, UNIFORM

ORACLE = "oracle"
"""The method that cuts at the true boundaries."""
ONLY_PLANTED = "planted series only"
"""Why a method without a run on a real data set is not ranked."""
PASS, FAIL, OPEN = "pass", "fail", "open"
CAPTION = (
    "Planted series, of which the answer is known, each an instrument of its own: this is no "
    "ranking, and nothing is averaged over them. The head says what passes. A share is how far "
    "the MSE goes from equal patches, 0, to the true boundaries, 1: mean over runs, its 95 % "
    f"interval, and the worst run. A change is that of MSE against {code(UNIFORM)}, where "
    "placement cannot help; its whole interval must lie within the margin. Runs differ in their "
    "seed and, in part, in the draw of the data. A failed run fails. With runs missing there is a "
    "mark only where each draw has a run and the interval leaves no doubt; else it is open."
)
"""What readers have to know of the panel, as marked text."""
_POSITIVE = [name for name, own in data.PLANTED_FAMILIES.items() if own.least is not None]
_NEGATIVE = [name for name, own in data.PLANTED_FAMILIES.items() if own.margin is not None]
_COLUMNS = [
    *("look_back", "family", "method", "value", "low", "high", "worst"),
    *("runs", "of", "failed", "mark"),
]


# Which rows


def real(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that enter rankings: those of real data sets."""
    return rows[~_is_planted(rows)]


def only_planted(rows: pd.DataFrame) -> set[tuple[int, str]]:
    """Each look-back and method without a run on a real data set."""
    there = ["look_back", "method"]
    everywhere, ranked = (
        set(table[there].itertuples(index=False, name=None)) for table in (rows, real(rows))
    )
    return everywhere - ranked


def described(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that a ranking describes: real ones, and of a method without any, all it has."""
    bare = pd.MultiIndex.from_frame(rows[["look_back", "method"]]).isin(list(only_planted(rows)))
    return rows[bare | ~_is_planted(rows)]


def _is_planted(rows: pd.DataFrame) -> pd.Series[bool]:
    return rows.dataset.isin(data.planted_names())


# Readings


def readings(runs: pd.DataFrame) -> pd.DataFrame:
    """A line for each look-back, family and method, of rows with failures charged.

    - ``value``: on a positive instrument the mean over runs of (uniform - method) / (uniform -
      oracle), each an MSE in the same data set and seed; on a negative one the change of MSE
      against uniform in percent, the mean of log ratios;
    - ``low`` to ``high``: its 95 % t-interval over runs, empty for a single one; ``worst``: of the
      worst run;
    - ``runs``: those, failed ones included, in which ``uniform`` and, on a positive instrument,
      the oracle finished; ``of``: those that any method has; ``failed``: those that failed;
    - ``mark``: "pass", "fail" or "open"; a failed run fails. Where runs are missing it is open,
      unless each draw of the data has one and the whole interval is on one side. Empty for what is
      true by definition: a share of ``uniform`` or of the oracle.
    """
    planted = runs[_is_planted(runs)]
    family = planted.dataset.map(lambda name: data.planted_family(name)[0])
    groups = dict(list(planted.groupby([family, planted.look_back])))
    lines = [
        (look_back, name, *line)
        for look_back in sorted(planted.look_back.unique())
        for name in (*_POSITIVE, *_NEGATIVE)
        if (name, look_back) in groups
        for line in _of_family(groups[name, look_back], data.PLANTED_FAMILIES[name])
    ]
    return pd.DataFrame(lines, columns=_COLUMNS)


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """The lines of positive instruments as a figure has them: ``dataset``, ``closed``."""
    positive = table[table.family.isin(_POSITIVE)]
    return positive.rename(columns={"family": "dataset", "value": "closed"})


def _of_family(own: pd.DataFrame, instrument: data.PlantedFamily) -> Iterator[tuple[object, ...]]:
    """What follows look-back and family in each line, by method."""
    by_run = own.set_index([*TASK, "seed", "method"])
    # A pivot table would average a run that is there twice; this refuses it.
    errors = by_run.mse.unstack("method").astype(float)  # noqa: PD010 - see above
    failed = by_run.failed.unstack("method").eq(other=True)  # noqa: PD010 - see above
    uniform = _finished(errors, failed, UNIFORM)
    if positive := instrument.least is not None:
        gap = uniform - _finished(errors, failed, ORACLE)
        # Where true boundaries gain nothing there is no way to go.
        values = errors.rsub(uniform, axis=0).div(gap.where(gap > 0), axis=0)
    else:
        values = errors.div(uniform.where(uniform > 0), axis=0).map(np.log)
    paired = values[UNIFORM].notna() if UNIFORM in values else uniform.notna()
    for method in errors:
        counted = paired & (errors[method].notna() | failed[method])
        # A failed run without a charge leaves the mean empty: left out, it would help.
        numbers = _summary(values[method][counted].to_numpy(), positive=positive)
        runs, failures = int(counted.sum()), int(failed[method].sum())
        draws = counted.groupby("dataset").any()
        missing = None if not draws.all() else len(errors) - runs
        mark = _mark(instrument, *numbers[:3], failures=failures, missing=missing)
        by_definition = method == UNIFORM or (method == ORACLE and positive)
        yield method, *numbers, runs, len(errors), failures, "" if by_definition else mark


def _finished(errors: pd.DataFrame, failed: pd.DataFrame, method: str) -> pd.Series[float]:
    """The errors of the method's finished runs: its charges would be gains of all others."""
    if method not in errors:
        return pd.Series(np.nan, errors.index)
    return errors[method].mask(failed[method])


def _summary(values: np.ndarray, *, positive: bool) -> tuple[float, float, float, float]:
    """Mean, both ends of its interval, and the worst: shares, or percent of log ratios."""
    if not len(values):
        return np.nan, np.nan, np.nan, np.nan
    mean, low, high = float(values.mean()), np.nan, np.nan
    if len(values) > 1:
        reach = stats.t.ppf(1 - LEVEL / 2, len(values) - 1) * stats.sem(values)
        low, high = mean - reach, mean + reach
    if positive:
        return mean, low, high, float(values.min())
    mean, low, high, worst = (100 * np.expm1([mean, low, high, values.max()])).tolist()
    return mean, low, high, worst


def _mark(
    instrument: data.PlantedFamily,
    value: float,
    low: float,
    high: float,
    *,
    failures: int,
    missing: int | None,
) -> str:
    """The mark of a mean and its interval; ``missing`` runs are None where a draw has no run."""
    if failures:
        return FAIL
    if missing is None or np.isnan(value):
        return OPEN
    if instrument.margin is not None:
        least, most = instrument.margin
    else:
        assert instrument.least is not None
        least, most = instrument.least, np.inf
        if not missing:
            low = high = value  # the mean of all runs decides
    if low >= least and high <= most:
        return PASS
    return FAIL if high < least or low > most or not (missing or np.isnan(low)) else OPEN


# For readers


class Reading(NamedTuple):
    """One entry of the panel as it reads: mark, number, what else is known, and how it sorts."""

    mark: str
    value: str
    more: str
    sort: float | None


class Instrument(NamedTuple):
    """The head of a column: family, what passes, and the runs of a method that has all."""

    family: str
    gate: str
    runs: int

    @property
    def number_of_runs(self) -> str:
        """In words."""
        return f"{self.runs} run{'s' * (self.runs != 1)}"


@dataclass(frozen=True)
class Panel:
    """The panel of a look-back: a column an instrument, a line a method."""

    head: tuple[Instrument, ...]
    lines: tuple[tuple[str, tuple[Reading | None, ...]], ...]


def blocks(table: pd.DataFrame) -> list[Block]:
    """The panel as a part of the leaderboard; nothing without planted rows."""
    made: list[Block] = []
    for look_back, own in table.groupby("look_back"):
        title = f"Panel of instruments, look-back {look_back}"
        made += [Heading(title), _table(_panel(own), set(own.method))]
    return made


def brief(table: pd.DataFrame) -> list[Block]:
    """The oracle and who passes a positive instrument, in a table; the names of all others."""
    made: list[Block] = []
    for _, own in table.groupby("look_back"):
        positive = own[own.family.isin(_POSITIVE)]
        shown = {ORACLE, *positive[positive.mark == PASS].method}
        made.append(_table(_panel(own), shown))
        waiting = set(positive[positive.mark == OPEN].method) - shown
        families = ", ".join(map(code, dict.fromkeys(positive.family)))
        if len(positive) and (others := sorted(set(own.method) - shown - waiting)):
            made.append(f"None of {families} is passed by {', '.join(map(code, others))}.")
        if waiting:
            made.append(f"Open for want of runs: {', '.join(map(code, sorted(waiting)))}.")
    return made


def on_page(table: pd.DataFrame, look_back: int) -> dict[str, Any]:
    """The panel as the page shows it: ``caption``, ``head`` and ``lines``; empty without one."""
    own = table[table.look_back == look_back]
    return vars(_panel(own)) | {"caption": CAPTION} if len(own) else {}


def _table(panel: Panel, methods: Collection[str]) -> Table:
    head = ("method", *(f"{own.family}: {own.gate}, {own.number_of_runs}" for own in panel.head))
    lines = tuple(
        (code(method), *map(_text, found)) for method, found in panel.lines if method in methods
    )
    return Table(CAPTION, head, lines, frozenset(head))


def _text(reading: Reading | None) -> str:
    if reading is None:
        return ""
    number = f"{reading.mark} {reading.value}".strip()
    return f"{number} ({reading.more})" if reading.more else number


def _panel(table: pd.DataFrame) -> Panel:
    """Of the readings of one look-back: both ends of the scale first, then methods by name."""
    lines: Iterator[Any] = iter(table.itertuples())
    found = {(line.family, line.method): _readable(line) for line in lines}
    runs = dict(zip(table.family, table.of, strict=True))
    methods = sorted(set(table.method), key=lambda name: (name not in (ORACLE, UNIFORM), name))
    return Panel(
        tuple(Instrument(family, _gate(family), count) for family, count in runs.items()),
        tuple((name, tuple(found.get((family, name)) for family in runs)) for name in methods),
    )


def _gate(family: str) -> str:
    """What passes, in words."""
    instrument = data.PLANTED_FAMILIES[family]
    if instrument.margin is None:
        return f"share of {instrument.least:g} or more"
    least, most = instrument.margin
    return f"change of {least:+g} to {most:+g} %"


def _readable(line: Any) -> Reading:  # noqa: ANN401 - a named tuple of pandas
    positive = data.PLANTED_FAMILIES[line.family].least is not None

    def text(value: float) -> str:
        # Plus 0, so that no minus sign stands before nothing but zeros.
        return f"{round(value, 2) + 0.0:.2f}" if positive else f"{round(value, 1) + 0.0:+.1f} %"

    more = []
    if line.mark and not np.isnan(line.low):
        more.append(f"{text(line.low).removesuffix(' %')} to {text(line.high)}")
    if line.mark and positive and line.runs > 1 and not np.isnan(line.worst):
        more.append(f"worst {text(line.worst)}")
    if line.failed:
        more.append(f"{line.failed} of {line.of} failed")
    if line.runs < line.of:
        more.append(f"{line.runs} of {line.of} runs")
    if np.isnan(line.value):
        return Reading(line.mark, "", ", ".join(more), None)
    return Reading(line.mark, text(line.value), ", ".join(more), float(f"{line.value:.10g}"))
