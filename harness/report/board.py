"""Counting: what the rows of a suite say of each method, on each task and altogether.

Everything here is a function of the rows (:mod:`harness.results.table`). Two look-backs are never
ranked together, and methods that promise every row exactly K patches are ranked apart from those
that only aim at K.

Methods are ordered by their mean change of MSE, and those with fewer failed runs come before all
with more: what a failed run would have scored is not known, so no charge can be sure to be enough.
A method that had more choices than the others, settings of a sweep or trials of a search, is shown
beside the ranking.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from scipy.stats import gmean

from harness.report import collapse, controls, costs, labels, panel, power, statistics, transfer
from harness.report.statistics import CONTROLS, EQUAL
from harness.results.table import (
    METRICS,
    MORE_CHOICES,
    NAIVE,
    RANDOM_STEP,
    TASK,
    Holes,
    charged,
    gaps_in_sweeps,
    in_order,
    listed,
    missing_runs,
    more_choices,
    of_method,
    selected,
)

TRACKS = ("strict", "soft")
"""The rankings of a look-back, in order: of methods that promise exactly K patches, and of those
that aim at K."""
HAS_HOLES = "has holes"
Hole = tuple[int, str, str]
"""Look-back, method, and in words what is not there."""


@dataclass(frozen=True)
class Board:
    """The rows that count, and what is computed of them, each once."""

    rows: pd.DataFrame
    gaps: list[Hole]
    """The parts of sweeps that choose nothing: their rows do not count."""

    @cached_property
    def missing(self) -> list[Hole]:
        """Each run that another ranked method has; a method that lacks one has no place."""
        return missing_runs(self.rows)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The rows with failures charged (:func:`harness.results.table.charged`)."""
        return charged(in_order(self.rows))

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Mean and standard deviation over seeds, by method and task; failures charged.

        Columns: those of the task, ``method``, ``kind``, ``ranked``, ``runs`` (seeds),
        ``failures`` (of them), and for each metric its mean and ``<metric>_sd``, empty for a
        single seed.
        """
        return _cells(self.runs)

    @cached_property
    def ranking(self) -> pd.DataFrame:
        """One line per look-back and method: the ranked ones of each track first, and in order.

        ``kind``, ``ranked``, ``strict`` and ``rules`` are what the method declares; the last two
        are empty for a reference forecaster. ``track`` is one of :data:`TRACKS`, by ``strict``. It
        and ``place`` are empty for what stands ``beside``, where that says why: no patcher, never
        ranked, holes, more choices than the others, or no run that finished.

        ``change``, ``low`` to ``high``, and ``win_rate`` are those of
        :func:`harness.report.statistics.effects` against ``reference``: ``uniform``, or
        ``uniform_best`` where that one has holes; ``lacking`` runs found no partner there.
        ``over_random`` is the change against ``random_step``. ``verdict``,
        ``why`` and ``p`` are those of :func:`harness.report.statistics.verdicts`,
        ``p_<control>`` is Wilcoxon's p after Holm. ``skill`` is 1 - the geometric mean over tasks
        of MSE / MSE of the seasonal-naive forecast. ``mean_rank`` is over tasks, among the methods
        with a place in the track; ties share their ranks. ``tasks`` of ``tasks_of`` have a run of
        the method. What cannot be known is empty.

        ``collapsed`` says of a method that it does not cut by content any more
        (:func:`harness.report.collapse.collapsed`), in any of its runs.

        All this is of real data sets: planted ones are in the :attr:`panel`. A method that has run
        on planted ones only stands beside, with its costs there.
        """
        runs = panel.described(self.runs)
        reasons = dict.fromkeys(more_choices(self.pooled), MORE_CHOICES)
        reasons |= {
            (look_back, method): HAS_HOLES for look_back, method, _ in missing_runs(self.pooled)
        }
        reasons |= dict.fromkeys(panel.only_planted(runs), panel.ONLY_PLANTED)
        order = _ranking(runs, _cells(runs), reasons)
        places = zip(order.look_back, order.method, strict=True)
        return order.assign(collapsed=[self.collapsed.get(place, "") for place in places])

    @cached_property
    def collapsed(self) -> dict[tuple[int, str], str]:
        """How plans have collapsed: :func:`harness.report.collapse.collapsed`."""
        return collapse.collapsed(self.rows)

    @cached_property
    def pooled(self) -> pd.DataFrame:
        """Those of :attr:`runs` that are compared over data sets."""
        return panel.real(self.runs)

    @cached_property
    def panel(self) -> pd.DataFrame:
        """What each method does on planted series: :func:`harness.report.panel.readings`."""
        return panel.readings(self.runs)

    @cached_property
    def cell_tests(self) -> pd.DataFrame:
        """Of the methods with a place: :func:`harness.report.statistics.cell_tests`."""
        places = self.ranking[self.ranking.track != ""][["look_back", "method"]]
        return statistics.cell_tests(self.pooled.merge(places))

    @cached_property
    def costs(self) -> pd.DataFrame:
        """What each method cost beside its change: :func:`harness.report.costs.costs`."""
        return costs.costs(panel.described(self.runs), self.ranking)

    @cached_property
    def controls(self) -> pd.DataFrame:
        """What controls say of each data set: :func:`harness.report.controls.by_dataset`."""
        return controls.by_dataset(self.pooled)

    @cached_property
    def labels(self) -> pd.DataFrame:
        """Errors near what people labelled: :func:`harness.report.labels.by_dataset`."""
        return labels.by_dataset(self.pooled)

    @cached_property
    def arms(self) -> pd.DataFrame:
        """What a pre-trained patcher brings: :func:`harness.report.transfer.questions`."""
        return transfer.questions(self.pooled)

    @cached_property
    def power(self) -> pd.DataFrame:
        """What each look-back's table can find: :func:`harness.report.power.power`."""
        return power.power(self.pooled)

    @property
    def suite(self) -> str:
        """The name of the suite; of several, with commas."""
        return ", ".join(sorted(self.rows.suite.unique()))

    @property
    def methods(self) -> list[str]:
        """By letter."""
        return sorted(set(self.rows.method))

    @property
    def datasets(self) -> list[str]:
        """By letter."""
        return sorted(set(self.rows.dataset))

    @property
    def tasks(self) -> list[tuple[int, str, int, int]]:
        """Look-back, data set, horizon and K of each task, in that order."""
        return sorted(set(self.rows[TASK].itertuples(index=False, name=None)))

    @property
    def references(self) -> dict[int, str]:
        """By look-back, what changes are measured against."""
        first = self.ranking.drop_duplicates("look_back")
        return dict(zip(first.look_back, first.reference, strict=True))


def count(rows: pd.DataFrame, holes: Holes = "refuse") -> Board:
    """The board of the rows of a suite, as :func:`harness.results.table.read_table` gives them.

    Raises:
        ValueError: a ranked method lacks a run that another one has, or a sweep is not complete
            (:func:`harness.results.table.selected`), and ``holes`` is "refuse".
    """
    gaps = [(int(where[1]), str(where[0]), why) for where, why in gaps_in_sweeps(rows)]
    board = Board(selected(rows, holes), gaps)
    if board.missing and holes == "refuse":
        names = listed([name for *_, name in board.missing])
        raise ValueError(f"runs are missing (run them, or ask for holes='show'): {names}")
    return board


def placed(ranking: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """The tracks that have methods with a place, with these in order."""
    for track in TRACKS:
        own = ranking[ranking.track == track]
        if len(own):
            yield track, own


def dense(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of those tasks on which no run of a ranked method without holes has failed."""
    rows = selected(rows, "show")
    beside = {(look_back, method) for look_back, method, _ in missing_runs(rows)}
    beside |= more_choices(rows)
    is_beside = pd.MultiIndex.from_frame(rows[["look_back", "method"]]).isin(list(beside))
    competing = rows.ranked & (rows.kind == "patcher") & ~is_beside
    failed = (rows.status != "done") & competing
    return rows[~failed.groupby([rows[name] for name in TASK]).transform("any")]


def _cells(runs: pd.DataFrame) -> pd.DataFrame:
    groups = runs.groupby([*TASK, "method", "kind", "ranked"], sort=True)
    mean = groups[METRICS].mean()
    spread = groups[METRICS].std().add_suffix("_sd")
    columns = [column for metric in METRICS for column in (metric, f"{metric}_sd")]
    counts = groups["failed"].agg(runs="size", failures="sum")
    return pd.concat([counts, mean.join(spread)[columns]], axis=1).reset_index()


def _ranking(
    runs: pd.DataFrame, cells: pd.DataFrame, reasons: dict[tuple[int, str], str]
) -> pd.DataFrame:
    pooled = panel.real(runs)
    effects, verdicts = statistics.effects(pooled), statistics.verdicts(pooled)
    tracks = [
        _track(
            own,
            cells[cells.look_back == look_back],
            effects[effects.look_back == look_back],
            verdicts[verdicts.look_back == look_back].set_index("method"),
            {method: why for (where, method), why in reasons.items() if where == look_back},
        )
        for look_back, own in runs.groupby("look_back")
    ]
    order = pd.concat(tracks, ignore_index=True)
    return order.drop(columns="step") if order.step.isna().all() else order


def _track(
    runs: pd.DataFrame,
    cells: pd.DataFrame,
    effects: pd.DataFrame,
    verdicts: pd.DataFrame,
    reasons: dict[str, str],
) -> pd.DataFrame:
    """The lines of one look-back; ``reasons`` are why methods have no place, by method."""
    by_method = runs.groupby("method")
    table = by_method[["kind", "ranked", "strict", "rules"]].first()
    table.insert(0, "look_back", runs.look_back.iloc[0])
    table = table.join(_costs(runs))
    table["beside"] = [_beside(line, reasons) for line in table.itertuples()]
    tracks = table.strict.map({True: "strict", False: "soft"})
    table["track"] = tracks.where(table.beside == "", "")
    table["mean_rank"] = _mean_ranks(cells, table.track)
    bare = table.beside == panel.ONLY_PLANTED
    table["skill"] = _skill(cells).mask(bare)
    table["reference"] = reference = _reference(effects, reasons)
    own = effects[effects.control == reference].set_index("method")
    numbers = ["change", "low", "high", "win_rate", "lacking"]
    # A failed run without a charge has no number: a mean without it would be a gain.
    uncharged = by_method.mse.apply(lambda errors: errors.isna().any())
    table = table.join(own[numbers].mask(uncharged.reindex(own.index)))
    table["win_rate"] = table.win_rate.mask(table.index == reference)
    random = effects[effects.control == RANDOM_STEP].set_index("method").change
    table["over_random"] = random[random.index != RANDOM_STEP].astype(float)
    for control in CONTROLS:
        against = effects[effects.control == control].set_index("method").p_holm
        table[f"p_{control}"] = against.astype(float)
    table = table.join(verdicts[["verdict", "why", "p"]])
    table["tasks"] = cells.groupby("method").size()
    compared = cells[~cells.method.isin(bare[bare].index)]
    table["tasks_of"] = len((compared if len(compared) else cells)[TASK].drop_duplicates())
    return _placed_in_order(table.reset_index())


def _placed_in_order(table: pd.DataFrame) -> pd.DataFrame:
    """The lines by track, in each those with fewer failures first, then the better change."""
    tracks = [*TRACKS, ""]
    order = table.assign(_track=table.track.map(tracks.index), _skill=-table.skill).sort_values(
        ["_track", "failures", "change", "mean_rank", "_skill", "method"], ignore_index=True
    )
    place = order.groupby("_track").cumcount() + 1
    return order.assign(place=place.astype("Int64").where(order.track != ""))[_COLUMNS]


_COLUMNS = [
    *("look_back", "track", "place", "method", "kind", "ranked", "strict", "rules", "beside"),
    *("reference", "change", "low", "high", "verdict", "why", "p", "over_random", "win_rate"),
    *(
        "mean_rank",
        "skill",
        "failures",
        "runs",
        "lacking",
        *(f"p_{control}" for control in CONTROLS),
    ),
    *("tokens", "parameters", "flops", "flops_step", "train_seconds", "step", "trials"),
    *("tasks", "tasks_of"),
]


def _costs(runs: pd.DataFrame) -> pd.DataFrame:
    """By method: failures, runs, and what the finished ones cost."""
    done = runs[~runs.failed].groupby("method")
    table = runs.groupby("method").agg(
        failures=("failed", "sum"), runs=("failed", "size"), step=("step", "first")
    )
    how = {"tokens_mean": "mean", "trials": "max"}
    for name in ("tokens_mean", "parameters", "flops", "flops_step", "train_seconds", "trials"):
        cost = done[name].agg(how.get(name, "median")) if name in runs else math.nan
        table[name.removesuffix("_mean")] = cost
    return table


def _beside(line: Any, reasons: dict[str, str]) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Why the method is not ranked; nothing if it is."""
    if reasons.get(line.Index) == panel.ONLY_PLANTED:
        return panel.ONLY_PLANTED
    if line.kind == "reference":
        return "own forecaster"
    if not line.ranked:
        return "never ranked"
    if line.Index in reasons:
        return reasons[line.Index]
    return "no run finished" if line.failures == line.runs else ""


def _mean_ranks(cells: pd.DataFrame, track: pd.Series[str]) -> pd.Series[float]:
    """Over tasks, among the methods of a track: fewer failed seeds first, then less error."""
    own = cells.assign(track=cells.method.map(track))
    own = own[own.track != ""]
    level = own.groupby(["failures", "mse"], dropna=False).ngroup()
    ranks = level.groupby([own[name] for name in ("track", *TASK)]).rank()
    return ranks.groupby(own.method).mean().astype(float)


def _skill(cells: pd.DataFrame) -> pd.Series[float]:
    naive = of_method(cells, NAIVE).mse
    # Nothing is a multiple of a naive forecast without error.
    relative = cells.mse / naive.where(naive > 0)
    return 1 - relative.groupby(cells.method).apply(gmean)


def _reference(effects: pd.DataFrame, reasons: dict[str, str]) -> str:
    """What changes are measured against: the first kind of equal patches that has all its runs."""
    there = [control for control in EQUAL if (effects.control == control).any()]
    whole = [control for control in there if reasons.get(control) != HAS_HOLES]
    return next(iter([*whole, *there]), "")
