"""Counting: what the rows of a zero-shot suite say of each patcher, corpus and benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from harness.report.statistics import CONTROLS
from harness.report.zero_shot.paired import deltas, paired
from harness.report.zero_shot.rows import ARM, LEAKED, METRICS, logarithms, name_of
from harness.results.table import UNIFORM
from harness.zero_shot import tasks
from harness.zero_shot.tasks import BENCHMARKS

ALL = "all"
"""The scope of all benchmarks; the other scopes are the benchmarks by name."""


@dataclass(frozen=True)
class Board:
    """The rows of a suite (:func:`harness.report.zero_shot.rows.read`), and what they say."""

    rows: pd.DataFrame

    @property
    def corpora(self) -> list[str]:
        """By letter."""
        return sorted(set(self.rows.corpus) - {""})

    @cached_property
    def patchers(self) -> pd.DataFrame:
        """The runs of patchers, also those on tasks that leaked."""
        return self.rows[self.rows.kind == "patcher"]

    @cached_property
    def counted(self) -> pd.DataFrame:
        """The runs of patchers that count: on tasks that the corpus does not hold."""
        return self.patchers[self.patchers.leak != LEAKED]

    @cached_property
    def missing(self) -> pd.DataFrame:
        """The runs that are not there: each patcher's on any task and seed of any patcher."""
        there = set(self.patchers[[*ARM, "task", "seed"]].itertuples(index=False, name=None))
        own = self.patchers
        wanted = product(self.corpora, *(sorted(set(own[n])) for n in ("method", "task", "seed")))
        lacking = [run for run in wanted if run not in there]
        return pd.DataFrame(lacking, columns=[*ARM, "task", "seed"])

    @property
    def holes(self) -> list[str]:
        """The same in words."""
        return [name_of(*run) for run in self.missing.itertuples(index=False, name=None)]

    @cached_property
    def standings(self) -> pd.DataFrame:
        """A line for each scope, corpus and patcher, those with the better mean rank first.

        ``scope`` is a benchmark or :data:`ALL`. ``mase`` and ``quantile`` are geometric means over
        tasks of the shares of the seasonal naive's error, and ``skill`` is 1 - the second.
        ``wins`` is the share of pairs with less quantile error than ``uniform``, a tie being half
        a win and a failed run none. ``mean_rank`` is over tasks by the quantile error, among the
        ranked patchers that lack no run after that corpus; those with fewer failed seeds first.
        ``runs`` of ``runs_of`` are there, of which ``failures`` failed.
        """
        own, lacking = self.counted, self.missing
        table = pd.concat(
            [
                _standings(
                    own[own.benchmark.isin(scope)],
                    lacking[lacking.task.map(_benchmark).isin(scope)],
                    set(lacking[ARM].itertuples(index=False, name=None)),
                ).assign(scope=name)
                for name, scope in self.scopes()
            ]
        )
        order = table[table.scope == ALL].set_index(ARM)[["mean_rank", "quantile"]]
        table = table.join(order, on=ARM, rsuffix="_all")
        by = ["scope", "corpus", "mean_rank_all", "quantile_all", "method"]
        table = table.sort_values(by, key=_in_order)
        return table.drop(columns=["mean_rank_all", "quantile_all"]).reset_index(drop=True)

    def scopes(self) -> Iterator[tuple[str, list[str]]]:
        """All benchmarks together, then one by one those with tasks that count."""
        there = [name for name in BENCHMARKS if (self.counted.benchmark == name).any()]
        yield ALL, [*there]
        for name in there:
            yield name, [name]

    @cached_property
    def paired(self) -> pd.DataFrame:
        """Each patcher against equal patches: :func:`harness.report.zero_shot.paired.paired`."""
        return paired(self.counted)

    @cached_property
    def gate(self) -> pd.DataFrame:
        """A line for each corpus and benchmark: what equal patches are beside the seasonal naive.

        ``mase`` and ``quantile`` as in :attr:`standings`; ``whole`` is false where a task of the
        benchmark, or a run, is not there. ``beats`` says that the first is below 1.
        """
        own = self.standings[(self.standings.method == UNIFORM) & (self.standings.scope != ALL)]
        tasks_of = own.scope.map(lambda name: len(tasks.chosen([name])))
        leaked = self.patchers[self.patchers.leak == LEAKED].groupby("corpus").task
        by_corpus = leaked.unique()
        left_out = [
            sum(_benchmark(task) == scope for task in by_corpus.get(corpus, ()))
            for corpus, scope in zip(own.corpus, own.scope, strict=True)
        ]
        whole = (own.runs == own.runs_of) & (own.tasks + left_out == tasks_of)
        table = own[["corpus", "scope", *METRICS]].assign(whole=whole, beats=own.mase < 1)
        return table.sort_values(["corpus", "scope"], key=_in_order, ignore_index=True)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """A line for each task, corpus and method, references too: means over seeds.

        ``<metric>`` is of the runs that finished, with its standard deviation ``<metric>_sd``;
        ``<metric>_share`` is the geometric mean of shares, failures charged.
        """
        of = ["benchmark", "task", "family", "horizon", "leak", "kind", *ARM]
        groups = self.rows.assign(log=0).groupby(of, sort=True)
        logs = logarithms(self.rows).groupby([self.rows[name] for name in of]).mean()
        shares = logs.transform(np.exp)
        counts = groups.agg(
            runs=("failed", "size"),
            failures=("failed", "sum"),
            cases=("cases", "max"),
            masked=("masked", "max"),
        )
        means, spread = groups[[*METRICS]].mean(), groups[[*METRICS]].std().add_suffix("_sd")
        table = means.join(spread).join(shares.add_suffix("_share")).join(counts)
        return table.reset_index()

    @property
    def learned(self) -> str:
        """The best placed ranked patcher that is no control and no grid; nothing without one."""
        own = self.patchers
        named = set(own.method[own.ranked & ~own.grid & ~own.method.isin(CONTROLS)])
        order = self.standings[self.standings.scope == ALL]
        return next((name for name in order.method if name in named), "")


def _in_order(column: pd.Series[Any]) -> pd.Series[Any]:
    """For sorting: benchmarks stand in their own order, all of them first."""
    order = {name: place for place, name in enumerate((ALL, *BENCHMARKS))}
    return column.map(order) if column.name in {"scope", "benchmark"} else column


def _benchmark(task: str) -> str:
    return task.partition("/")[0]


def _standings(
    rows: pd.DataFrame, lacking: pd.DataFrame, with_holes: set[tuple[str, str]]
) -> pd.DataFrame:
    """The lines of one scope, of its runs and those it lacks."""
    logs = logarithms(rows)
    by_task = logs.groupby([rows[name] for name in (*ARM, "task")]).mean()
    shares = by_task.groupby(ARM).mean().transform(np.exp)
    groups = rows.groupby(ARM)
    table = groups.agg(
        ranked=("ranked", "first"),
        tasks=("task", "nunique"),
        runs=("failed", "size"),
        failures=("failed", "sum"),
    ).join(shares)
    absent = lacking.groupby(ARM).size().reindex(table.index, fill_value=0)
    pairs = deltas(rows)
    won = ((pairs["quantile"] < 0) + 0.5 * (pairs["quantile"] == 0)).where(~pairs.failed, 0.0)
    wins = won.groupby([pairs[name] for name in ARM]).mean().reindex(table.index)
    is_reference = table.index.get_level_values("method") == UNIFORM
    placed = table.ranked & ~table.index.isin(list(with_holes))
    ranks = _mean_ranks(rows, by_task["quantile"], placed)
    return table.assign(
        skill=1 - table["quantile"],
        wins=wins.mask(is_reference),
        mean_rank=ranks.reindex(table.index),
        runs_of=table.runs + absent,
    ).reset_index()


def _mean_ranks(
    rows: pd.DataFrame, errors: pd.Series[float], placed: pd.Series[bool]
) -> pd.Series[float]:
    """Over tasks, of those that are placed: fewer failed seeds first, then less error."""
    failures = rows.groupby([*ARM, "task"]).failed.sum()
    table = pd.DataFrame({"failures": failures, "error": errors}).reset_index()
    with_place = placed.index[placed]
    table = table[table.set_index(ARM).index.isin(with_place)]
    level = table.groupby(["failures", "error"]).ngroup()
    ranks = level.groupby([table.corpus, table.task]).rank()
    return ranks.groupby([table[name] for name in ARM]).mean().astype(float)
