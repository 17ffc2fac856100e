"""Differences between methods: intervals, tests and verdicts, functions of a table.

Rows are those of :func:`harness.results.table.selected`, charged for failures by
:func:`harness.results.table.charged`. A difference is paired: the same data set, horizon,
look-back, K and seed, in percent of the control's MSE, so that less than 0 is better. Differences
are averaged over seeds, then over the tasks of a data set, then over data sets: **the data set is
the unit**, because results of one data set at several horizons and seeds are not independent.
Look-backs are never mixed.

What is assumed: data sets are independent draws from the population that a claim is about, and
the gains of a method on them are not strongly skewed. With few data sets no test can do without
the second: a method that gains a little on most sets and loses much on a rare one looks better
than it is. :mod:`harness.studies.simulation` measures how far the tests hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from harness.core.protocol import SMALLEST_EFFECT
from harness.results.table import TASK, UNIFORM, UNIFORM_BEST, in_order, missing_runs

LEAST_DATASETS = 5
"""With fewer there is no verdict: nothing can be said about data sets in general."""
LEAST_SEEDS = 3
"""With fewer common seeds two methods are not tested against each other on a task."""
LEVEL = 0.05
"""Two-sided level of the tests; intervals have coverage 1 - LEVEL."""

EQUAL = (UNIFORM_BEST, UNIFORM)
"""Equal patches: the first of them that has all its runs is the reference."""
CONTROLS = (*EQUAL, "random_step")
"""What a method has to beat."""

BETTER, TIE, NO_DIFFERENCE = "better", "near-tie", "no detectable difference"
UNDECIDED, WORSE, FAILED = "undecided", "worse", "failed runs"
TOO_FEW, NOT_JUDGED = "too few data sets", "not judged"
VERDICTS = (BETTER, TIE, NO_DIFFERENCE, UNDECIDED, WORSE, FAILED, TOO_FEW, NOT_JUDGED)
"""From best to worst: a failure moves a method to the right or leaves it where it is."""

_RUN = [*TASK[1:], "seed"]
_RESAMPLES = 10_000


def controls(rows: pd.DataFrame) -> list[str]:
    """Those of :data:`CONTROLS` that are there, in that order."""
    there = set(rows.method)
    return [control for control in CONTROLS if control in there]


def paired(rows: pd.DataFrame, method: str, control: str) -> pd.DataFrame:
    """A line for each run of ``method`` that has a partner: its ``delta`` in percent.

    Columns: look_back, dataset, horizon, patches, seed, delta. A failed run of the control has no
    partner, or its charge would be a gain of every method; a failed run of ``method`` keeps its
    charge. ``attrs["lacking"]`` counts the runs of ``method`` without a partner.

    Raises:
        ValueError: one of the two is not there at all, or failures were not charged.
    """
    if unknown := sorted({method, control} - set(rows.method)):
        raise ValueError(f"no rows of {', '.join(unknown)}")
    lines = []
    for look_back, errors, failed in _tracks(rows[rows.method.isin([method, control])]):
        if not {method, control} <= set(errors):
            continue
        delta = _deltas(errors, failed, control)[method].dropna()
        lines.append(delta.rename("delta").reset_index().assign(look_back=look_back))
    columns = ["look_back", *_RUN, "delta"]
    table = (
        pd.concat(lines, ignore_index=True)[columns] if lines else pd.DataFrame(columns=columns)
    )
    table.attrs["lacking"] = int((rows.method == method).sum()) - len(table)
    return table


def effects(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each look-back, method and control: the change of MSE and how sure it is.

    - ``change``: percent of the control's MSE; ``low`` and ``high`` enclose 95 % by the bootstrap
      over data sets (:func:`interval`), empty for a single one;
    - ``datasets``, ``pairs``: what they rest on; ``lacking``: runs of the method without a
      partner; ``failed``: its runs that failed. With one that nothing was there to charge for,
      there is no change;
    - ``win_rate``: the share of pairs with less error; ties count half, failed runs nothing;
    - ``p_wilcoxon``: of the signed-rank test over data sets; ``p_holm``: the same, corrected over
      the judged methods of the track. With 7 data sets the first is never below 0.016, so that
      with four methods or more the second never falls below 0.05. Verdicts therefore rest on
    - ``p``: of the paired t-test over data sets, uncorrected; :func:`verdicts` corrects it.
    """
    lines = [
        _against(errors, failed, control).assign(look_back=look_back, control=control)
        for look_back, errors, failed in _tracks(rows)
        for control in CONTROLS
        if control in errors
    ]
    if not lines:
        return pd.DataFrame(columns=_EFFECTS).astype({"change": float})
    table = pd.concat(lines, ignore_index=True)
    judged = table.method.isin(_judged(rows))
    families = table[judged].groupby(["look_back", "control"]).p_wilcoxon
    return table.assign(p_holm=families.transform(holm))[_EFFECTS]


_EFFECTS = [
    *("look_back", "method", "control", "change", "low", "high", "datasets", "pairs", "lacking"),
    *("failed", "win_rate", "p_wilcoxon", "p_holm", "p"),
]


def verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each look-back and method: ``verdict``, ``why``, and the ``p`` that decided.

    The verdict is one of :data:`VERDICTS`:

    - better: less error than each of the three :data:`CONTROLS`, significantly and by
      :data:`SMALLEST_EFFECT <harness.core.protocol.SMALLEST_EFFECT>` or more;
    - worse: more error than the reference, significantly and by that much or more;
    - near-tie: the interval of the change against the reference is narrower than that on both
      sides of 0, or the change is significant and smaller than that;
    - failed runs: a run failed. It is charged, but what it would have scored is not known, and a
      charge can be less than that; so no test speaks for such a method;
    - undecided: its own runs are missing, or it beats what is there and a control is missing.

    Significant is p < 0.05 of a paired t-test over data sets, two-sided. A method's p is the
    largest of those against its controls: it must beat them all, so the least convincing win
    decides, and needs no correction for there being three (intersection-union). Holm's correction
    over the judged methods of the track keeps the rate of tables with a false win below 5 %, also
    with heavy tails, unequal noise and a control whose noise all methods share. Judged are ranked
    patchers other than the three controls.
    """
    table = effects(rows)
    judged = _judged(rows)
    missing = {(look_back, method) for look_back, method, _ in missing_runs(rows)}
    lines = []
    for look_back, track in rows.groupby("look_back"):
        there = sorted(EQUAL, key=lambda name: (look_back, name) in missing)
        here = table[table.look_back == look_back].set_index("control")
        reference = next((name for name in there if name in here.index), None)
        here = here.sort_index(key=lambda names: names != reference, kind="stable")
        wins, losses = _corrected(here[here.method.isin(judged)], reference)
        for method, own in track.groupby("method"):
            line: tuple[str, str, float] = (NOT_JUDGED, _beside(own), np.nan)
            if method in judged:
                against = here[here.method == method] if reference else here.iloc[:0]
                win, loss = wins.get(method, np.nan), losses.get(method, np.nan)
                whole = (look_back, method) not in missing
                found = _verdict(against, win, loss, own, whole=whole)
                line = (*found, float(np.fmin(win, loss)))
            lines.append((look_back, method, *line))
    return pd.DataFrame(lines, columns=["look_back", "method", "verdict", "why", "p"])


def cell_tests(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each task and method: is it as good as the best, as far as seeds can tell?

    The best is the ranked method with the fewest failures and then the least mean error.
    ``ties_with_best`` is true for it and for each method that a paired t-test over the seeds they
    share does not tell from it (p >= 0.05, two-sided, uncorrected: a test that separates more
    bolds less). It is false where there are fewer than :data:`LEAST_SEEDS` such seeds, where a run
    of the method has failed on the task, and for all where that holds of the best itself. ``p`` is
    empty without a test.
    """
    lines = [_of_task(own) for _, own in in_order(rows).groupby(TASK)]
    return pd.concat(lines, ignore_index=True)


_TESTS = [*TASK, "method", "p", "ties_with_best"]


def critical_difference(
    rows: pd.DataFrame, look_back: int
) -> tuple[pd.Series[float], list[list[str]], float]:
    """Mean ranks of a track, the groups that cannot be told apart, and the p of Friedman's test.

    Only judged methods and controls without missing runs are compared (:func:`missing_runs
    <harness.results.table.missing_runs>` names the others). Ranks on the tasks of a data set are
    averaged and ranked again, so that a data set is one block. Groups are the widest stretches of
    the order in which Nemenyi's test separates no pair at 5 %; all methods are one where
    Friedman's test does not reject, or where there are fewer than three of them or two data sets
    (p is empty).

    Returns:
        The mean rank by method, best first; groups of at least two methods; p.

    Raises:
        ValueError: no method of that look-back has all its runs.
    """
    blocks = _blocks(in_order(rows[rows.look_back == look_back]))
    if blocks.empty:
        raise ValueError(f"no ranked method has all runs at look-back {look_back}")
    ranks = blocks.rank(axis=1).mean().sort_values(kind="stable").rename("mean_rank")
    order = list(ranks.index)
    together = [order] if len(order) > 1 else []
    if len(order) < 3 or len(blocks) < 2 or np.ptp(blocks, axis=1).max() == 0:
        return ranks, together, np.nan
    p = float(stats.friedmanchisquare(*blocks.to_numpy().T).pvalue)
    if p >= LEVEL:
        return ranks, together, p
    from scikit_posthocs import posthoc_nemenyi_friedman  # type: ignore[import-untyped]  # no stubs; loads matplotlib and statsmodels

    alike = posthoc_nemenyi_friedman(blocks[order].to_numpy()).to_numpy() >= LEVEL
    return ranks, _stretches(order, alike), p


def seed_spread(rows: pd.DataFrame) -> pd.DataFrame:
    """How much seeds matter, by look-back and method: ``spread`` in percent of the mean MSE.

    It is the root of the mean over cells of (standard deviation / mean) squared, weighted by
    seeds - 1. Runs that failed are not in it. ``cells`` and ``runs`` say what it rests on: cells
    with two finished seeds or more; empty without any.
    """
    done = in_order(rows[~rows.failed])
    cells = done.groupby(["method", *TASK]).mse.agg(["mean", "std", "size"]).reset_index()
    cells = cells[(cells["size"] > 1) & (cells["mean"] > 0)]
    weight = cells["size"] - 1
    table = cells.assign(weight=weight, square=weight * (cells["std"] / cells["mean"]) ** 2)
    sums = table.groupby(["look_back", "method"]).agg(
        square=("square", "sum"),
        weight=("weight", "sum"),
        cells=("size", "size"),
        runs=("size", "sum"),
    )
    every = pd.MultiIndex.from_frame(
        rows[["look_back", "method"]].drop_duplicates().sort_values(["look_back", "method"])
    )
    sums = sums.reindex(every)
    sums["spread"] = 100 * np.sqrt(sums.square / sums.weight)
    counts = sums[["cells", "runs"]].fillna(0).astype(int)
    return sums[["spread"]].join(counts).reset_index()


# Numbers


def interval(
    means: Float[np.ndarray, "dataset method"], level: float = LEVEL
) -> tuple[Float[np.ndarray, " method"], Float[np.ndarray, " method"]]:
    """Both ends of the bootstrap interval of each column's mean, the same resamples for all.

    Data sets are resampled with all that is in them. Horizons are not, because they are fixed and
    not drawn. Nor are seeds, because their noise is in a data set's mean already and would count
    twice. The percentiles are moved away from the mean by sqrt(n / (n - 1)) and by the ratio of
    the quantiles of t and normal distribution, because those of few data sets are too narrow
    (Hesterberg, The American Statistician 69, 2015, section 3.3).

    Empty for a single data set.
    """
    many = len(means)
    centre = means.mean(axis=0)
    if many < 2:
        empty = np.full_like(centre, np.nan)
        return empty, empty
    ends = np.quantile((means - centre).T @ _resamples(many).T, [level / 2, 1 - level / 2], axis=1)
    wider = stats.t.ppf(1 - level / 2, many - 1) / stats.norm.ppf(1 - level / 2)
    low, high = centre + wider * np.sqrt(many / (many - 1)) * ends
    return low, high


@cache
def _resamples(many: int) -> Float[np.ndarray, "resample dataset"]:
    """Weights of the data sets in each resample."""
    # A constant: the same rows give the same digits, and all methods the same resamples.
    return np.random.default_rng(0).multinomial(many, [1 / many] * many, _RESAMPLES) / many


def holm(p: pd.Series[float]) -> pd.Series[float]:
    """Holm's correction for as many tests as there are values; an empty one is no test."""
    found = p.dropna().sort_values(kind="stable")
    steps = found * np.arange(len(found), 0, -1)
    return steps.cummax().clip(upper=1).reindex(p.index)


def _tracks(rows: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame, pd.DataFrame]]:
    """Look-back, MSE and failures: a line a run, a column a method, in an order of their own."""
    if "failed" not in rows:
        raise ValueError("charge failures first, with harness.results.table.charged")
    for look_back in sorted(rows.look_back.unique()):
        # A pivot table would average a run that is there twice; this refuses it.
        track = rows[rows.look_back == look_back].set_index([*_RUN, "method"])
        errors, failed = (track[name].unstack("method") for name in ("mse", "failed"))  # noqa: PD010  # see above
        yield int(look_back), errors.astype(float), failed.eq(other=True)


def _deltas(errors: pd.DataFrame, failed: pd.DataFrame, control: str) -> pd.DataFrame:
    """Percent of the control's error, a column a method; empty where there is no pair."""
    # Nothing is a multiple of a control without error.
    partner = errors[control].mask(failed[control] | (errors[control] <= 0))
    return 100 * (errors.div(partner, axis=0) - 1)


def _against(errors: pd.DataFrame, failed: pd.DataFrame, control: str) -> pd.DataFrame:
    deltas = _deltas(errors, failed, control)
    means = deltas.groupby(TASK[1:]).mean().groupby("dataset").mean()
    # Also a failure without a charge has a partner, and loses to it.
    pairs = (deltas.notna() | failed).mul(deltas[control].notna(), axis=0)
    won = ((deltas < 0) + 0.5 * (deltas == 0)).where(~failed, 0.0)
    # A failure that nothing is there to charge for must not shrink to a data set less.
    means = means.loc[:, ~(failed & errors.isna()).any()]
    return (
        pd.DataFrame(
            {
                "datasets": means.notna().sum().reindex(deltas.columns, fill_value=0),
                "pairs": pairs.sum(),
                "lacking": (errors.notna() | failed).sum() - pairs.sum(),
                "failed": failed.sum(),
                "win_rate": won.sum() / pairs.sum().where(pairs.any()),
            }
        )
        .join(_tested(means))
        .reset_index(names="method")
    )


def _tested(means: pd.DataFrame) -> pd.DataFrame:
    """Change, interval and both tests of each column of data-set means; gaps are left out."""
    return pd.concat([_complete(part) for part in _without_gaps(means)] or [_complete(means)])


def _without_gaps(table: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The columns in groups that lack the same lines, without those lines."""
    lacking = [column.tobytes() for column in table.isna().to_numpy().T]
    for _, names in table.columns.to_series().groupby(lacking):
        yield table[list(names)].dropna()


def _complete(means: pd.DataFrame) -> pd.DataFrame:
    if means.empty:
        return pd.DataFrame(np.nan, means.columns, ["change", "low", "high", "p", "p_wilcoxon"])
    values = means.to_numpy()
    low, high = interval(values)
    return pd.DataFrame(
        {
            "change": values.mean(axis=0),
            "low": np.maximum(low, -100.0),  # no error is less than none
            "high": high,
            "p": _t_test(values),
            "p_wilcoxon": _signed_ranks(values),
        },
        means.columns,
    )


def _t_test(values: Float[np.ndarray, "unit method"]) -> Float[np.ndarray, " method"]:
    """Two-sided p that a column's mean is 0; that of a constant one is 1 if it is 0, else 0."""
    many = len(values)
    if many < 2:
        return np.full(values.shape[1], np.nan)
    mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.sqrt(many) * np.abs(mean) / spread
    return 2 * stats.t.sf(np.where(mean == 0, 0, t), many - 1)


def _signed_ranks(values: Float[np.ndarray, "unit method"]) -> Float[np.ndarray, " method"]:
    """Two-sided p of Wilcoxon's test by column; zeros are left out, as Wilcoxon did."""
    if len(values) < 2:
        return np.full(values.shape[1], np.nan)
    p = np.ones(values.shape[1])
    size = np.sort(np.abs(values), axis=0)
    plain = (size[0] > 0) & (np.diff(size, axis=0) > 0).all(axis=0)
    if plain.any():
        p[plain] = stats.wilcoxon(values[:, plain], axis=0).pvalue
    # One at a time: scipy takes another method for all columns when one of them has a tie.
    for column in np.flatnonzero(~plain & (size[-1] > 0)):
        own = values[:, column]
        p[column] = stats.wilcoxon(own[own != 0]).pvalue
    return p


# Verdicts


def _judged(rows: pd.DataFrame) -> set[str]:
    """The methods that claims are made about."""
    return set(rows.method[rows.ranked & (rows.kind == "patcher")]) - set(CONTROLS)


def _corrected(
    here: pd.DataFrame, reference: str | None
) -> tuple[pd.Series[float], pd.Series[float]]:
    """By method: p that it beats all its controls, and p that it loses to the reference."""
    better = here.p.where(here.change < 0, 1.0).where(here.p.notna())
    worse = here.p.where(here.change > 0, 1.0).where(here.p.notna())
    lost = worse[here.index == reference].set_axis(here.method[here.index == reference])
    return holm(better.groupby(here.method).max()), holm(lost)


def _verdict(
    against: pd.DataFrame, win: float, loss: float, own: pd.DataFrame, *, whole: bool
) -> tuple[str, str]:
    """The verdict on one method and why: what stands in the way of one, or what was found.

    ``against`` are its lines of :func:`effects` by control, ``own`` its rows.
    """
    if against.empty:
        return UNDECIDED, f"neither {EQUAL[0]} nor {EQUAL[1]} has run"
    datasets = int(against.datasets.iloc[0])
    if datasets < LEAST_DATASETS:
        return TOO_FEW, f"{datasets} of the {LEAST_DATASETS} data sets that a verdict needs"
    if failed := int(own.failed.sum()):
        return FAILED, f"{failed} of {len(own)} runs failed and are charged: no test counts"
    if not whole:
        return UNDECIDED, "runs are missing"
    return _finding(against, win, loss)


def _finding(against: pd.DataFrame, win: float, loss: float) -> tuple[str, str]:
    line = against.iloc[0]
    said = f"{line.change:+.2f} % against {against.index[0]}"
    if loss < LEVEL and line.change >= SMALLEST_EFFECT:
        return WORSE, f"{said} (p = {loss:.2g})"
    tested = against[against.p.notna()]
    if win < LEVEL and (tested.change <= -SMALLEST_EFFECT).all():
        return _win(against, f"{said} (p = {win:.2g} against the hardest control)")
    if line.low > -SMALLEST_EFFECT and line.high < SMALLEST_EFFECT:
        return TIE, f"{said}, surely within {SMALLEST_EFFECT} %"
    if min(win, loss) < LEVEL and abs(line.change) < SMALLEST_EFFECT:
        return TIE, f"{said} (p = {min(win, loss):.2g}): less than {SMALLEST_EFFECT} %"
    return NO_DIFFERENCE, f"{said}, {line.low:+.2f} to {line.high:+.2f} %{_short(against)}"


def _win(against: pd.DataFrame, said: str) -> tuple[str, str]:
    """A win counts when every control was there, in every run."""
    absent = [control for control in CONTROLS if control not in against.index]
    partly = [f"{name} lacks {count} runs" for name, count in against.lacking.items() if count]
    doubts = [f"{name} has not run" for name in absent] + partly
    return (UNDECIDED, f"{said}, but {', '.join(doubts)}") if doubts else (BETTER, said)


def _short(against: pd.DataFrame) -> str:
    """Names the controls that a method which seems better does not beat."""
    if against.change.iloc[0] > -SMALLEST_EFFECT:
        return ""
    unbeaten = against[(against.p >= LEVEL) | (against.change > -SMALLEST_EFFECT)]
    what = ", ".join(unbeaten.index)
    return f"; not told from {what}" if what else "; not significant among so many methods"


def _beside(own: pd.DataFrame) -> str:
    if own.method.iloc[0] in CONTROLS:
        return "a control: others are held to it"
    return "a reference" if (own.kind == "reference").all() else "never ranked"


# Cells and ranks


def _of_task(own: pd.DataFrame) -> pd.DataFrame:
    errors = own.pivot_table("mse", "seed", "method", dropna=False)
    order = (
        own.assign(unranked=~own.ranked)
        .groupby("method")
        .agg(unranked=("unranked", "all"), failures=("failed", "sum"), error=("mse", "mean"))
    )
    best = order.sort_values(["unranked", "failures", "error"], kind="stable").index[0]
    table = order[["failures"]].assign(p=np.nan)
    differences = errors.sub(errors[best], axis=0)
    for part in _without_gaps(differences):
        if len(part) >= LEAST_SEEDS:
            table.loc[part.columns, "p"] = _t_test(part.to_numpy())
    sound = table.failures.eq(0) & table.p.notna() & ~order.unranked.loc[best]
    ties = sound & sound.loc[best] & (table.p >= LEVEL)
    task = dict(own[TASK].iloc[0])
    return table.assign(**task, ties_with_best=ties).reset_index()[_TESTS]


def _blocks(track: pd.DataFrame) -> pd.DataFrame:
    """Mean rank by data set (lines) and method (columns), of methods without missing runs."""
    incomplete = {method for _, method, _ in missing_runs(track)}
    placed = track[track.ranked & (track.kind == "patcher") & ~track.method.isin(incomplete)]
    cells = placed.groupby([*TASK, "method"]).agg(failed=("failed", "sum"), mse=("mse", "mean"))
    # Groups are numbered in order: fewer failed seeds go first, then the smaller error.
    order = cells.groupby(["failed", "mse"], dropna=False).ngroup().rename("order")
    ranks = order.reset_index().pivot_table("order", TASK, "method").rank(axis=1)
    return ranks.groupby("dataset").mean()


def _stretches(order: list[str], alike: np.ndarray) -> list[list[str]]:
    """The widest runs of neighbours in ``order`` of which all pairs are alike."""
    ends = [
        max(e for e in range(s, len(order)) if alike[s, s : e + 1].all())
        for s in range(len(order))
    ]
    return [
        order[start : end + 1]
        for start, end in enumerate(ends)
        if end > start and (start == 0 or ends[start - 1] < end)
    ]
