"""Differences between methods: intervals, tests and verdicts, functions of a table.

Rows are those of :func:`harness.results.table.selected`, charged for failures by
:func:`harness.results.table.charged`. A difference is paired: the same data set, horizon,
look-back, K and seed. It is the logarithm of the ratio of both errors, log(MSE / MSE of the
control), so that less than 0 is better. Differences are averaged over the seeds that both have,
then over the tasks of a data set, then over data sets: **the data set is the unit**, because
results of one data set at several horizons and seeds are not independent. So all means are
geometric. Intervals and tests are of logarithms too; what is returned as a change, or as an end of
its interval, is turned into percent (:mod:`harness.report.percent`). Look-backs are never mixed.

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
from harness.report.percent import MARGIN, between, percent, said
from harness.results.table import (
    MORE_CHOICES,
    PHASE_SHIFT,
    RANDOM_STEP,
    TASK,
    UNIFORM,
    UNIFORM_BEST,
    in_order,
    missing_runs,
    more_choices,
)

LEAST_DATASETS = 5
"""With fewer there is no verdict: nothing can be said about data sets in general."""
LEAST_SEEDS = 3
"""With fewer common seeds two methods are not compared on a task."""
LEVEL = 0.05
"""Two-sided level of the tests; intervals have coverage 1 - LEVEL."""

EQUAL = (UNIFORM, UNIFORM_BEST)
"""Equal patches: the first of them that has all its runs is the reference."""
NEEDED = (*EQUAL, RANDOM_STEP)
"""Controls without which no method is called better."""
CONTROLS = (*NEEDED, PHASE_SHIFT)
"""What a method has to beat, each of them that is there."""

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


def paired(rows: pd.DataFrame, control: str) -> pd.DataFrame:
    """A line for each run that has a partner among those of ``control``: ``delta``, a logarithm.

    Columns: look_back, dataset, horizon, patches, seed, method, delta. A failed run of the control
    has no partner, or its charge would be a gain of every method; a failed run of another method
    keeps its charge.

    Raises:
        ValueError: the control is not there at all, or failures were not charged.
    """
    if control not in set(rows.method):
        raise ValueError(f"no rows of {control}")
    lines = [
        _deltas(errors, failed, control)
        .melt(ignore_index=False, var_name="method", value_name="delta")
        .dropna()
        .reset_index()
        .assign(look_back=look_back)
        for look_back, errors, failed in _tracks(rows)
        if control in errors
    ]
    return pd.concat(lines, ignore_index=True)[["look_back", *_RUN, "method", "delta"]]


def by_dataset(pairs: pd.DataFrame) -> pd.Series[float]:
    """Mean ``delta`` of :func:`paired` by look-back, method and data set: tasks weigh the same."""
    tasks = pairs.groupby(["look_back", "method", *TASK[1:]]).delta.mean()
    return tasks.groupby(["look_back", "method", "dataset"]).mean()


def effects(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each look-back, method and control: the change of MSE and how sure it is.

    - ``change``: by how many percent MSE is more than the control's, a geometric mean; ``low`` and
      ``high`` enclose 95 % by the bootstrap over data sets (:func:`interval`), empty for a single
      one;
    - ``datasets``, ``pairs``: what they rest on; ``lacking``: runs of the method without a
      partner; ``failed``: its runs that failed. With one that nothing was there to charge for,
      there is no change;
    - ``win_rate``: the share of pairs with less error; ties count half, failed runs nothing;
    - ``p_wilcoxon``: of the signed-rank test over data sets; ``p_holm``: the same, corrected over
      the judged methods of the track. With 7 data sets the first is never below 0.016, so that
      with four methods or more the second never falls below 0.05. Verdicts therefore rest on
    - ``p``: of the paired t-test over data sets, uncorrected; :func:`verdicts` corrects it.
    """
    table = _effects(rows)
    return table.assign(**{name: percent(table[name]) for name in ("change", "low", "high")})


def _effects(rows: pd.DataFrame) -> pd.DataFrame:
    """The same with changes and intervals as logarithms."""
    lines = [
        _against(errors, failed, control).assign(look_back=look_back, control=control)
        for look_back, errors, failed in _tracks(rows)
        for control in CONTROLS
        if control in errors
    ]
    if not lines:
        return pd.DataFrame(columns=_EFFECTS).astype(
            dict.fromkeys(("change", "low", "high"), float)
        )
    table = pd.concat(lines, ignore_index=True)
    judged = _are(table, judged_methods(rows))
    families = table[judged].groupby(["look_back", "control"]).p_wilcoxon
    return table.assign(p_holm=families.transform(holm))[_EFFECTS]


_EFFECTS = [
    *("look_back", "method", "control", "change", "low", "high", "datasets", "pairs", "lacking"),
    *("failed", "win_rate", "p_wilcoxon", "p_holm", "p"),
]


def verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each look-back and method: ``verdict``, ``why``, and the ``p`` that decided.

    The verdict is one of :data:`VERDICTS`:

    - better: less error than each of the :data:`CONTROLS`, significantly and by the smallest
      effect or more;
    - worse: more error than the reference, significantly and by that much or more;
    - near-tie: the interval of the change against the reference lies nearer to 0 than that on
      both sides, or the change is significant and smaller than that;
    - failed runs: a run failed. It is charged, but what it would have scored is not known, and a
      charge can be less than that; so no test speaks for such a method;
    - undecided: its own runs are missing, or it beats what is there and a control is missing.

    The smallest effect is :data:`harness.report.percent.MARGIN`, the same size to either side.
    Significant is p < 0.05 of a paired t-test over data sets, two-sided. A method's p is the
    largest of those against its controls: it must beat them all, so the least convincing win
    decides, and needs no correction for how many controls there are (intersection-union): each
    further one can only take wins away. Of the controls, ``phase_shift`` counts where it has run,
    and without one of :data:`NEEDED` nothing is better. ``uniform_best`` has more choices than the
    methods that it is a control of, which makes the verdict careful. Holm's correction over the
    judged methods of the track keeps the rate of tables with a false win below 5 %, also with
    heavy tails, unequal noise and a control whose noise all methods share.
    """
    table = _effects(rows)
    judged = judged_methods(rows)
    choosers = more_choices(rows)
    missing = {(look_back, method) for look_back, method, _ in missing_runs(rows)}
    lines = []
    for look_back, track in rows.groupby("look_back"):
        there = sorted(EQUAL, key=lambda name: (look_back, name) in missing)
        here = table[table.look_back == look_back].set_index("control")
        reference = next((name for name in there if name in here.index), None)
        here = here.sort_index(key=lambda names: names != reference, kind="stable")
        wins, losses = _corrected(here[_are(here, judged)], reference)
        for method, own in track.groupby("method"):
            chooses = (look_back, method) in choosers
            line: tuple[str, str, float] = (NOT_JUDGED, _beside(own, chooses=chooses), np.nan)
            if (look_back, method) in judged:
                against = here[here.method == method] if reference else here.iloc[:0]
                win, loss = wins.get(method, np.nan), losses.get(method, np.nan)
                whole = (look_back, method) not in missing
                found = _verdict(against, win, loss, own, whole=whole)
                line = (*found, float(np.fmin(win, loss)))
            lines.append((look_back, method, *line))
    return pd.DataFrame(lines, columns=["look_back", "method", "verdict", "why", "p"])


def judged_methods(rows: pd.DataFrame) -> set[tuple[int, str]]:
    """Look-back and method of those that claims are made about.

    They are the ranked patchers other than the controls, and without those that had more choices
    than others (:func:`harness.results.table.more_choices`).
    """
    own = rows[rows.ranked & (rows.kind == "patcher") & ~rows.method.isin(CONTROLS)]
    return set(own[["look_back", "method"]].itertuples(index=False, name=None)) - more_choices(
        rows
    )


def cell_tests(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each task and method: is it the best, or surely as good as the best?

    The best is the ranked method with the fewest failures and then the least mean error.
    ``ties_with_best`` is true for it, and for each method that is shown to be equivalent to it:
    two one-sided t-tests over the seeds that they share (:func:`equivalence`) say that the mean
    log ratio of their errors is nearer to 0 than the smallest effect. So noise ties with nothing.
    It is false where a run of the method has failed on the task, and for all where that holds of
    the best itself. ``p`` is that of equivalence, uncorrected, and empty with fewer than
    :data:`LEAST_SEEDS` common seeds.
    """
    lines = [_of_task(own) for _, own in in_order(rows).groupby(TASK)]
    if not lines:
        return pd.DataFrame(columns=_TESTS).astype({"ties_with_best": bool})
    return pd.concat(lines, ignore_index=True)


_TESTS = [*TASK, "method", "p", "ties_with_best"]


def critical_difference(
    rows: pd.DataFrame, look_back: int
) -> tuple[pd.Series[float], list[list[str]], float]:
    """Mean ranks of a track, the groups that cannot be told apart, and the p of Friedman's test.

    Only judged methods and controls without missing runs are compared (:func:`missing_runs
    <harness.results.table.missing_runs>` names the others), and none that had more choices. Ranks
    on the tasks of a data set are averaged and ranked again, so that a data set is one block.
    Groups are the widest stretches of the order in which Nemenyi's test separates no pair at 5 %;
    all methods are one where Friedman's test does not reject, or where there are fewer than three
    of them or two data sets (p is empty).

    Returns:
        The mean rank by method, best first; groups of at least two methods; p. No method where
        none is ranked, as of references only, or where each lacks a run.
    """
    blocks = _blocks(in_order(rows[rows.look_back == look_back]))
    if blocks.empty:
        return pd.Series(dtype=float, name="mean_rank"), [], np.nan
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
    """How much seeds matter, by look-back and method: ``spread`` in percent.

    It is the standard deviation over seeds of log MSE, pooled over cells: the root of the mean
    square, weighted by seeds - 1. Runs that failed, or are without any error, are not in it.
    ``cells`` and ``runs`` say what it rests on: cells with two such seeds or more; empty without
    any.
    """
    done = in_order(rows[~rows.failed & (rows.mse > 0)])
    done = done.assign(logarithm=np.log(done.mse))
    cells = done.groupby(["method", *TASK]).logarithm.agg(["std", "size"]).reset_index()
    cells = cells[cells["size"] > 1]
    weight = cells["size"] - 1
    table = cells.assign(weight=weight, square=weight * cells["std"] ** 2)
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
    sums["spread"] = percent(np.sqrt(sums.square / sums.weight))
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


def equivalence(values: Float[np.ndarray, "unit method"]) -> Float[np.ndarray, " method"]:
    """The p that a column's mean is as far from 0 as the smallest effect, or farther.

    The larger p of two one-sided t-tests, against -margin and +margin (Schuirmann, Journal of
    Pharmacokinetics and Biopharmaceutics 15, 1987). Empty for fewer than two units.
    """
    many = len(values)
    if many < 2:
        return np.full(values.shape[1], np.nan)
    inside = MARGIN - np.abs(values.mean(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.sqrt(many) * inside / values.std(axis=0, ddof=1)
    # Columns without any spread need no test: they are within the margin or they are not.
    return stats.t.sf(np.where(inside == 0, 0, t), many - 1)


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
    """Log ratio to the control's error, a column a method; empty where there is no pair."""
    # Nothing is a multiple of a control without error.
    partner = errors[control].mask(failed[control] | (errors[control] <= 0))
    with np.errstate(divide="ignore"):  # a method without error is infinitely better
        return errors.div(partner, axis=0).transform(np.log)


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
    # A method without any error on a data set has a change, -100 %, and no spread to test it by.
    known = np.isfinite(values).all(axis=0)
    tested = values[:, known]
    low, high = interval(tested)
    found = {"low": low, "high": high, "p": _t_test(tested), "p_wilcoxon": _signed_ranks(tested)}
    table = pd.DataFrame(found, means.columns[known]).reindex(means.columns)
    return table.assign(change=values.mean(axis=0))[["change", *found]]


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


def _are(table: pd.DataFrame, wanted: set[tuple[int, str]]) -> np.ndarray:
    """Which lines are of a look-back and method that is wanted."""
    return pd.MultiIndex.from_frame(table[["look_back", "method"]]).isin(list(wanted))


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
    change = f"{said(percent(line.change))} % against {against.index[0]}"
    if loss < LEVEL and line.change >= MARGIN:
        return WORSE, f"{change} (p = {loss:.2g})"
    tested = against[against.p.notna()]
    if win < LEVEL and (tested.change <= -MARGIN).all():
        return _win(against, f"{change} (p = {win:.2g} against the hardest control)")
    if line.low > -MARGIN and line.high < MARGIN:
        return TIE, f"{change}, surely within {SMALLEST_EFFECT} %"
    if min(win, loss) < LEVEL and abs(line.change) < MARGIN:
        return TIE, f"{change} (p = {min(win, loss):.2g}): less than {SMALLEST_EFFECT} %"
    ends = between(percent(line.low), percent(line.high))
    return NO_DIFFERENCE, f"{change}, {ends}{_short(against)}"


def _win(against: pd.DataFrame, change: str) -> tuple[str, str]:
    """A win counts when every control that it needs was there, in every run."""
    absent = [control for control in NEEDED if control not in against.index]
    partly = [f"{name} lacks {count} runs" for name, count in against.lacking.items() if count]
    doubts = [f"{name} has not run" for name in absent] + partly
    return (UNDECIDED, f"{change}, but {', '.join(doubts)}") if doubts else (BETTER, change)


def _short(against: pd.DataFrame) -> str:
    """Names the controls that a method which seems better does not beat."""
    if against.change.iloc[0] > -MARGIN:
        return ""
    unbeaten = against[(against.p >= LEVEL) | (against.change > -MARGIN)]
    what = ", ".join(unbeaten.index)
    return f"; not told from {what}" if what else "; not significant among so many methods"


def _beside(own: pd.DataFrame, *, chooses: bool) -> str:
    if own.method.iloc[0] in CONTROLS:
        return "a control: others are held to it"
    if (own.kind == "reference").all():
        return "a reference"
    return MORE_CHOICES if chooses else "never ranked"


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
    logarithms = errors.where(errors > 0).transform(np.log)
    for part in _without_gaps(logarithms.sub(logarithms[best], axis=0)):
        if len(part) >= LEAST_SEEDS:
            table.loc[part.columns, "p"] = equivalence(part.to_numpy())
    sound = table.failures.eq(0) & ~order.unranked
    ties = sound & sound.loc[best] & ((table.index == best) | (table.p < LEVEL))
    task = dict(own[TASK].iloc[0])
    return table.assign(**task, ties_with_best=ties).reset_index()[_TESTS]


def _blocks(track: pd.DataFrame) -> pd.DataFrame:
    """Mean rank by data set (lines) and method (columns), of methods without missing runs."""
    incomplete = {method for _, method, _ in missing_runs(track)}
    incomplete |= {method for _, method in more_choices(track)}
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
