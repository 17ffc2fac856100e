"""The tables of a zero-shot suite: its board as Markdown, LaTeX and CSV."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.core.files import write_text
from harness.report import formats
from harness.report.formats import Block, Heading, Table, bold, code
from harness.report.percent import between, percent, said
from harness.report.tables import LEADERBOARD, MADE, each
from harness.report.wording import SMALL, number
from harness.report.zero_shot import context
from harness.report.zero_shot.board import ALL, Board
from harness.report.zero_shot.paired import LESS, MORE
from harness.report.zero_shot.rows import ARM, LEAKED, read
from harness.results.table import UNIFORM, listed
from harness.zero_shot import tasks
from harness.zero_shot.scores import MOST_MASKED
from harness.zero_shot.tasks import BENCHMARKS

TABLES = ("leaderboard.csv", "paired.csv", "tasks.csv", "leaderboard.tex")
"""The files of tables in the folder of what is made."""
_WORDS = frozenset({"method", "corpus", "model", "finding", "task", "source", "leak"})
_SHARE = "{:.3f}"
_METRICS = {ALL: "quantile"} | {name: of.quantile_metric for name, of in BENCHMARKS.items()}


def markdown(folder: Path) -> str:
    """The leaderboard of a folder of rows.

    Raises:
        FileNotFoundError: the folder holds no records.
        ValueError: the rows cannot be read (:func:`harness.report.zero_shot.rows.read`).
    """
    return formats.markdown(_page(Board(read(folder)), folder.name))


def write(board: Board, folder: Path) -> list[Path]:
    """Write the leaderboard beside the records of a suite, and its other formats; return all."""
    page = _page(board, folder.name)
    made = [
        board.standings.to_csv(index=False, float_format="%.10g", lineterminator="\n"),
        board.paired.to_csv(index=False, float_format="%.10g", lineterminator="\n"),
        board.cells.to_csv(index=False, float_format="%.10g", lineterminator="\n"),
        formats.latex(page),
    ]
    texts = {folder / LEADERBOARD: formats.markdown(page)}
    texts |= {folder / MADE / name: text for name, text in zip(TABLES, made, strict=True)}
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def excerpt(folder: Path) -> str:
    """The verdict on equal patches and the table of all tasks, for a README or a page of docs.

    Raises:
        FileNotFoundError: the folder holds no records.
        ValueError: the rows cannot be read (:func:`harness.report.zero_shot.rows.read`).
    """
    board = Board(read(folder))
    first, *_ = standings(board)
    return formats.markdown([f"{bold(folder.name)}. {what(board)}", *criterion(board), first])


def _page(board: Board, suite: str) -> list[Block]:
    page: list[Block] = [
        Heading(f"Leaderboard: {suite}", 1),
        what(board),
        *notices(board),
        Heading("Do equal patches beat the seasonal naive?"),
        *criterion(board),
        Heading("Patchers"),
        *standings(board),
        *notes(board),
        Heading("Against equal patches"),
        *against_uniform(board),
        Heading("Context, never ranked"),
        *beside(board),
    ]
    if len(board.patchers):
        page += [Heading("Every task"), by_task(board)]
    return [*page, Heading("Columns"), legend()]


# What is said


def what(board: Board) -> str:
    """How much is there, and how it is counted."""
    own = board.patchers
    corpora = len(board.corpora)
    counts = (
        _counted(own.task.nunique(), "task"),
        _counted(own.method.nunique(), "patcher"),
        "1 corpus" if corpora == 1 else f"{corpora} corpora",
        _counted(own.seed.nunique(), "seed"),
    )
    return (
        f"{', '.join(counts)}. Errors are shares of those of the seasonal naive, less is better, "
        "and all means of them geometric. A run that failed is charged the seasonal naive, or its "
        "own worst seed on that task if that is worse."
    )


def notices(board: Board) -> list[str]:
    """What has to be known before any number is read: holes, leaks, masked cases."""
    said_of = []
    if names := board.holes:
        arms = sorted({_arm(*arm) for arm in board.missing[ARM].itertuples(index=False)})
        said_of.append(
            f"{bold('Holes')}: {_counted(len(names), 'missing run')}. There is no rank, and other "
            f"numbers are of what is there, for {listed(arms)}. Missing: {listed(names)}."
        )
    said_of += [_leaks(board, corpus) for corpus in board.corpora]
    flagged = sorted(set(board.rows.task[board.rows.flagged]))
    if flagged:
        said_of.append(
            f"{bold('Masked')}: on {listed(flagged)} more than {MOST_MASKED:.0%} of the cases "
            "have a value that could not be scored."
        )
    return said_of


def _leaks(board: Board, corpus: str) -> str:
    """What results after a corpus are worth, by the tags of their tasks."""
    own = board.patchers[board.patchers.corpus == corpus]
    tags = own.groupby("task").leak.first()
    said_of = []
    for tag in ("clean", "near", LEAKED):
        tagged = tags.index[tags == tag]
        families = sorted({tasks.find(str(task)).family for task in tagged})
        named = f" ({listed(families)})" if families and tag != "clean" else ""
        said_of.append(f"{len(tagged) or 'none'} {tag}{named}")
    words = f"After corpus {code(corpus)}, of {_counted(len(tags), 'task')} {_and(said_of)}."
    shown = " What leaked is shown, and counted in no mean and no rank."
    return words + shown * bool((tags == LEAKED).any())


def criterion(board: Board) -> list[Block]:
    """Whether equal patches beat the seasonal naive, said plainly, with the numbers below."""
    blocks: list[Block] = []
    for corpus, own in board.gate.groupby("corpus"):
        lines = {str(line.scope): line for line in each(own)}
        absent = [name for name in BENCHMARKS if name not in lines or not lines[name].whole]
        lost = [name for name, line in lines.items() if line.whole and not line.beats]
        errors = ", ".join(f"{name} {line.mase:.3f}" for name, line in lines.items())
        if lost:
            verdict = f"no, not on {_and(lost)}"
            what = "so no patcher is to be compared with another yet"
        elif absent:
            verdict = "not known yet"
            what = f"runs or tasks of {_and(absent)} are missing"
        else:
            verdict, what = "yes, in all three", "so patchers may be compared"
        blocks.append(
            f"{code(UNIFORM)} after {code(str(corpus))}: {bold(verdict)}; {what}. "
            f"MASE as a share of the seasonal naive's: {errors}."
        )
    return blocks or [f"{code(UNIFORM)} has not run, so this is not known."]


def notes(board: Board) -> list[str]:
    """What the tables of standings leave open."""
    covariates = "fev-bench" in set(board.rows.benchmark)
    return ["On `epf_*` the leaders know two covariates, which no patcher here sees."] * covariates


# Tables


def standings(board: Board) -> list[Block]:
    """A table for all tasks and one for each benchmark: patchers, and corpora side by side."""
    if board.counted.empty:
        return ["No run of a patcher is there that counts."]
    tables: list[Block] = []
    for scope, _ in board.scopes():
        columns, lines = standing(board, scope)
        head = (f"{corpus} {name}" for corpus in board.corpora for name in columns)
        named = [[code(method), *cells] for method, cells in lines]
        tables.append(_table(caption(board, scope), ["method", *head], named))
    return tables


def caption(board: Board, scope: str) -> str:
    """What a table of standings is of."""
    if scope == ALL:
        return "All benchmarks, each by its own quantile metric:"
    own = board.standings[board.standings.scope == scope]
    return f"{scope}, {_counted(int(own.tasks.max()), 'task')}:"


def standing(board: Board, scope: str) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The columns that each corpus has, and a line a patcher with those of one after another."""
    own = board.standings[board.standings.scope == scope]
    metric = _METRICS[scope]
    columns = ["MASE", metric, "skill", "wins", "rank", "runs"]
    columns += ["failed"] if own.failures.any() else []
    lines = {(line.corpus, line.method): line for line in each(own)}
    order = dict.fromkeys(board.standings[board.standings.scope == ALL].method)
    return columns, [
        (
            method,
            [
                cell
                for corpus in board.corpora
                for cell in _numbers(lines.get((corpus, method)))[: len(columns)]
            ],
        )
        for method in order
    ]


def _numbers(line: Any) -> list[str]:  # noqa: ANN401 - a named tuple of pandas, or None
    if line is None:
        return [""] * 7
    return [
        *(number(value, _SHARE) for value in (line.mase, line.quantile, line.skill)),
        number(line.wins, "{:.0%}"),
        number(line.mean_rank, "{:.2f}"),
        f"{line.runs} of {line.runs_of}",
        str(line.failures),
    ]


def against_uniform(board: Board) -> list[Block]:
    """The paired question: the change of each error against equal patches, and how sure it is."""
    pairs = board.paired
    if pairs.empty:
        return [f"Nothing can be compared with {code(UNIFORM)} yet."]
    sure = (
        f"The change is against {code(UNIFORM)} after the same corpus and under the same seed, a "
        "geometric mean over tasks and seeds. Its 95 % interval draws the source families of the "
        "tasks and the seeds of pre-training anew; it is not corrected for how many patchers are "
        f"looked at. A near-tie is a change that is surely below {SMALL}, or sure and smaller. "
        f"{_and([code(LESS), code(MORE)])} say that the interval excludes no change."
    )
    seeds = int(pairs.seeds.max())
    if seeds == 1:
        sure += " With one seed it says nothing of what another pre-training would do."
    lines = [
        [
            code(line.method),
            line.corpus,
            "MASE" if line.metric == "mase" else "quantile",
            f"{said(percent(line.change))} %",
            "" if math.isnan(line.low) else between(percent(line.low), percent(line.high)),
            line.finding,
            str(line.pairs),
            str(line.families),
        ]
        for line in each(pairs.sort_values(["corpus", "metric", "change"]))
    ]
    head = ["method", "corpus", "metric", "change", "95 % interval", "finding", "pairs"]
    return [sure, _table("", [*head, "families"], lines)]


def beside(board: Board) -> list[Block]:
    """References and published models, on the tasks that the board counts."""
    own = context.references(board.rows)
    reference = [
        [code(line.method), line.benchmark, *_shares(line), str(line.tasks), _failed(line)]
        for line in each(own)
    ]
    found = context.published(board.rows)
    models = [
        [
            line.model,
            line.benchmark,
            *_shares(line),
            f"{line.tasks} of {line.tasks_of}",
            _seen(line),
        ]
        for line in each(found)
    ]
    tables = [
        _table(
            "Reference predictors:",
            ["method", "source", "MASE", "quantile", "tasks", "failed"],
            reference,
        ),
        _table(
            "Published models: other corpora, other sizes, some of them with covariates. Named "
            f"ones, and of each benchmark the best {context.BEST} others on these tasks:",
            ["model", "source", "MASE", "quantile", "tasks", "had seen"],
            models,
        ),
    ]
    return [table for table in tables if table.lines]


def by_task(board: Board) -> Table:
    """A line a task: what each patcher's quantile error is of the seasonal naive's."""
    own = board.cells[board.cells.kind == "patcher"]
    arms = sorted(set(own[ARM].itertuples(index=False, name=None)))
    known = {(line.task, line.corpus, line.method): line for line in each(own)}
    leaks = board.patchers.groupby(["task", "corpus"]).leak.first()
    lines = [
        [
            task,
            tasks.find(task).family,
            str(tasks.find(task).horizon),
            ", ".join(f"{corpus}: {tag}" for corpus, tag in leaks[task].items() if tag != "clean"),
            *(_cell(known.get((task, *arm))) for arm in arms),
        ]
        for task in [name for name in tasks.tasks() if name in set(own.task)]
    ]
    head = ["task", "source", "horizon", "leak", *(_arm(*arm) for arm in arms)]
    return _table(
        "Quantile error as a share of the seasonal naive's, a geometric mean over seeds; failed "
        "runs are charged, and marked:",
        head,
        lines,
    )


def legend() -> Table:
    """What the columns say."""
    said_of = {
        "MASE": "Geometric mean over tasks of MASE / MASE of the seasonal naive, as published.",
        "quantile": "The same of the quantile metric of each benchmark: SQL, WQL or CRPS.",
        "skill": "1 - the share of the quantile metric: 0 is the seasonal naive, 1 no error.",
        "wins": f"Pairs with less quantile error than {code(UNIFORM)} after the same corpus and "
        "under the same seed; a tie is half a win, a failed run none.",
        "rank": "Mean over tasks of the rank by the quantile error, among patchers that lack no "
        "run.",
        "runs": "Tasks x seeds that are there, of those that any patcher has.",
        "failed": "Runs of these that failed.",
        "families": "Source families of the tasks: what intervals draw.",
        "leak": "Near or leaked, where the task is not clean of a corpus.",
        "had seen": "Tasks whose data the model had seen, says its benchmark.",
    }
    return Table(
        "",
        ("column", "what it says"),
        tuple(said_of.items()),
        frozenset({"column", "what it says"}),
    )


def _table(caption: str, head: Sequence[str], lines: Iterable[Sequence[str]]) -> Table:
    """The table, without the columns in which nothing stands."""
    lines = list(lines)
    kept = [at for at in range(len(head)) if not lines or any(line[at] for line in lines)]
    return Table(
        caption,
        tuple(head[at] for at in kept),
        tuple(tuple(line[at] for at in kept) for line in lines),
        _WORDS,
    )


def _shares(line: Any) -> Iterator[str]:  # noqa: ANN401 - a named tuple of pandas
    return (number(value, _SHARE) for value in (line.mase, line.quantile))


def _failed(line: Any) -> str:  # noqa: ANN401 - as above
    return f"{line.failures} of {line.runs}" if line.failures else ""


def _seen(line: Any) -> str:  # noqa: ANN401 - as above
    return str(line.leaked) if line.leaked else ""


def _cell(line: Any) -> str:  # noqa: ANN401 - as above, or None
    if line is None:
        return ""
    failed = f" ({line.failures} of {line.runs} failed)" if line.failures else ""
    return f"{number(line.quantile_share, _SHARE)}{failed}"


def _arm(corpus: str, method: str) -> str:
    return f"{code(method)} after {corpus}"


def _and(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
