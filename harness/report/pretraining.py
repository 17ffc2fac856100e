"""The board and page of pre-trainings: what each forecaster reached on its corpus, and its cost.

Nothing is ranked here: a validation loss is of rows of the corpus, and what a forecaster is good
for is measured on tasks that it never saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core.files import write_text
from harness.core.job import Record, job_of
from harness.report import figures, formats
from harness.report.drawings import Drawing, draw_each, read_all
from harness.report.formats import Block, Heading, Table, code
from harness.report.page import PAGE
from harness.report.pictures import Kind, pictures
from harness.report.rendered import rendered
from harness.report.tables import LEADERBOARD, MADE, each
from harness.report.wording import number
from harness.results.bundles import Bundle
from harness.results.rows import read_rows
from harness.results.table import listed, row_files

TABLE = "leaderboard.csv"
KINDS = (
    Kind(
        "losses",
        "Validation loss by step",
        "A line is a seed; a dot is the check whose weights are kept. Losses of two corpora "
        "cannot be compared.",
    ),
)
_ARM = ["corpus", "method"]
_ABOUT = (
    "Mean over seeds that finished, ± standard deviation. The validation loss is the mean pinball "
    "loss on rows of the corpus that were left out of training, in units of the past's standard "
    "deviation; it cannot be compared between corpora. Nothing is ranked here: what a forecaster "
    "is good for is measured on tasks that it never saw."
)


def read(folder: Path) -> pd.DataFrame:
    """All pre-trainings of a suite, a line each, in a fixed order.

    Columns: ``corpus``, ``method``, ``seed``, ``failed``, ``valid_loss``, ``steps``, ``rows`` that
    were seen, ``seconds``, ``parameters``, ``device``, ``key``.

    Raises:
        FileNotFoundError: the folder holds no records.
        ValueError: a row is of no pre-training, or there twice, or a file cannot be read.
    """
    records = [record for path in row_files(folder) for record in read_rows(path)]
    if not records:
        raise FileNotFoundError(f"{folder} holds no records: run the suite first")
    if strange := [str(record) for record in records if record.stage != "pretrain"]:
        raise ValueError(f"no pre-training, beside rows that are: {listed(strange)}")
    table = pd.DataFrame(map(_line, records)).sort_values([*_ARM, "seed"], ignore_index=True)
    if (twice := table.duplicated([*_ARM, "seed"])).any():
        first = table[twice].iloc[0]
        raise ValueError(
            f"recorded more than once: {first.method} on {first.corpus} seed {first.seed}"
        )
    return table


def _line(record: Record) -> dict[str, Any]:
    return {
        "corpus": record.dataset,
        "method": record.method,
        "seed": record.seed,
        "failed": record.status != "done",
        "valid_loss": record.valid_loss,
        "steps": record.steps,
        "rows": (record.steps or 0) * job_of(record).budget.batch,
        "seconds": record.train_seconds,
        "parameters": record.parameters,
        "device": record.device,
        "key": record.key,
    }


def means(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each corpus and method, by letter: means over the seeds that finished."""
    done = rows[~rows.failed].groupby(_ARM)
    table = rows.groupby(_ARM).agg(runs=("failed", "size"), failures=("failed", "sum"))
    found = done.agg(
        valid_loss=("valid_loss", "mean"),
        valid_loss_sd=("valid_loss", "std"),
        steps=("steps", "mean"),
        rows=("rows", "mean"),
        seconds=("seconds", "mean"),
        parameters=("parameters", "median"),
    )
    table = table.join(found)
    return table.assign(rows_a_second=table["rows"] / table.seconds).reset_index()


def markdown(folder: Path) -> str:
    """The leaderboard of a folder of rows; raises as :func:`read` does."""
    rows = read(folder)
    return formats.markdown(_board(rows, means(rows), folder.name))


def write(folder: Path, about: str = "") -> list[Path]:
    """Write the leaderboard beside the records, and as a table; draw the curves; write the page.

    Returns the paths, the leaderboard's first. ``about`` is a sentence on the suite. Curves are of
    bundles, and left as they lie where one of these is not at hand. Raises as :func:`read`.
    """
    rows, made = read(folder), folder / MADE
    table = means(rows)
    write_text(folder / LEADERBOARD, formats.markdown(_board(rows, table, folder.name)))
    write_text(made / TABLE, table.to_csv(index=False, float_format="%.10g", lineterminator="\n"))
    drawn = draw_each(_drawings(rows, folder.parent / "runs"), made)
    write_text(made / PAGE, _page(rows, table, folder, about))
    return [folder / LEADERBOARD, made / TABLE, *drawn, made / PAGE]


def _page(rows: pd.DataFrame, table: pd.DataFrame, folder: Path, about: str) -> str:
    """The page of the rows, and of the figures that lie in the suite's folder."""
    return rendered(
        "pretraining.html",
        ("basics.js",),
        suite=folder.name,
        about=about.rstrip("."),
        notes=[_ABOUT, *_devices(rows)],
        table=_table(table),
        figures=pictures(folder / MADE, KINDS),
        leaderboard=LEADERBOARD,
        files=(TABLE,),
    )


def _drawings(rows: pd.DataFrame, runs: Path) -> Iterator[Drawing]:
    if bundles := read_all(rows[~rows.failed], runs, "curves.csv"):
        yield Drawing("losses", _losses, [bundles])


def _losses(bundles: list[Bundle]) -> Any:  # noqa: ANN401 - only figures knows its type
    checks = [
        {"corpus": one.dataset, "method": one.method, "seed": one.seed} | check
        for one, curves in ((bundle.record, bundle.curves) for bundle in bundles)
        for check in curves
    ]
    return figures.pretraining(pd.DataFrame(checks))


def excerpt(folder: Path) -> str:
    """The table alone, for a README or a page of docs; raises as :func:`read` does."""
    return formats.markdown([_table(means(read(folder)))])


def _board(rows: pd.DataFrame, table: pd.DataFrame, suite: str) -> list[Block]:
    heading = Heading(f"Pre-trainings: {suite}", 1)
    return [heading, _ABOUT, _table(table), *_devices(rows)]


def _devices(rows: pd.DataFrame) -> list[str]:
    """That times cannot be compared, where they were measured on several devices."""
    devices = sorted(rows.device[~rows.failed].unique())
    if len(devices) < 2:
        return []
    return [f"Times cannot be compared, because they were measured on: {listed(devices)}."]


def _table(table: pd.DataFrame) -> Table:
    head = ("corpus", "method", "validation loss", "seeds", "failed", "steps", "rows seen")
    costs = ("rows a second", "hours", "parameters")
    return Table(
        "",
        (*head, *costs),
        tuple(
            (
                line.corpus,
                code(line.method),
                number(line.valid_loss, "{:.4f}") + number(line.valid_loss_sd, " ± {:.4f}"),
                str(line.runs - line.failures),
                str(line.failures),
                number(line.steps, "{:,.0f}"),
                number(line.rows, "{:,.0f}"),
                number(line.rows_a_second, "{:,.0f}"),
                number(line.seconds / 3600, "{:.2f}"),
                number(line.parameters, "{:,.0f}"),
            )
            for line in each(table)
        ),
        frozenset({"corpus", "method"}),
    )
