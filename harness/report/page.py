"""The page of a suite: tables, figures and records in one file that opens from disk.

``index.html`` is a function of the rows, of the SVG files that lie beside them, and of what the
methods say of themselves: the same three give the same bytes. It holds everything it shows and
asks the network for nothing, which its own content policy enforces.
"""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.core.files import write_text
from harness.report import agreement, board, figures, statistics
from harness.results.bundles import Bundle, read_boundaries, read_bundle
from harness.results.table import (
    TASK,
    NAIVE,
    WINDOWS,
    WRITTEN,
    charged,
    gaps_in_sweeps,
    listed,
    missing_runs,
    read_table,
    selected,
)

PAGE = "index.html"
Cards = Mapping[str, Mapping[str, str]]
"""By method what it says of itself: ``summary``, ``source``, ``fidelity`` and ``track``."""
_NONE: Cards = MappingProxyType({})
_TEMPLATES = Path(__file__).parent / "templates"
_Line = Mapping[Hashable, Any]  # of a table, by column


def write_page(
    folder: Path, runs: Path | None = None, *, about: str = "", cards: Cards = _NONE
) -> list[Path]:
    """Draw the figures of a suite into its folder, write its page, and return all paths.

    ``runs`` is the folder of bundles, ``runs`` beside the suite's if not given. They are not
    committed: what needs some of them is left as it lies where one of these is not at hand.

    Raises:
        FileNotFoundError: the folder holds no records.
        ValueError: the rows cannot be read (:func:`harness.results.table.read_table`).
    """
    rows = selected(read_table(folder), "show")
    drawn: list[Path] = []
    for stem, draw in _drawings(rows, runs or folder.parent / "runs"):
        with suppress(figures.NothingToDrawError):
            drawn += figures.save(draw(), folder / stem)
    path = folder / PAGE
    write_text(path, page_text(folder, about=about, cards=cards))
    return [*drawn, path]


def page_text(folder: Path, *, about: str = "", cards: Cards = _NONE) -> str:
    """The page as text, of the rows and the figures that lie in ``folder``.

    ``about`` is a sentence on the suite. A method without a card is shown by its rows alone.

    Raises:
        FileNotFoundError: the folder holds no records.
        ValueError: the rows cannot be read (:func:`harness.results.table.read_table`).
    """
    rows = read_table(folder)
    tables = _tables(rows)
    pictures = _pictures(folder)
    script = (_TEMPLATES / "page.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment.get_template("page.html").render(
        suite=folder.name,
        about=about.rstrip("."),
        facts=_facts(tables),
        style=(_TEMPLATES / "page.css").read_text(encoding="utf-8"),
        script=script,
        policy=_policy(script),
        tracks=[_track(tables, look_back, cards) for look_back in tables.look_backs],
        filters=_filters(tables, cards),
        figures=[picture for picture in pictures if not picture.dataset],
        methods=[_method(tables, method, cards, pictures) for method in tables.methods],
        datasets=[_dataset(tables, dataset, pictures) for dataset in tables.datasets],
        files=[name for name in WRITTEN if (folder / name).exists()],
        data=_data(tables, folder.name),
    )


# Tables


class _Tables(NamedTuple):
    """All that the page says in numbers; each table is a function of the first."""

    rows: pd.DataFrame
    ranking: pd.DataFrame
    scores: pd.DataFrame
    holes: list[tuple[int, str, str]]
    """Look-back, method and name of each run that is not there and keeps it from a place."""

    @property
    def look_backs(self) -> list[int]:
        """The longest first: it is the main track."""
        return sorted({int(look_back) for look_back in self.rows.look_back}, reverse=True)

    @property
    def methods(self) -> list[str]:
        return sorted(set(self.rows.method))

    @property
    def datasets(self) -> list[str]:
        return sorted(set(self.rows.dataset))

    @property
    def cells(self) -> list[tuple[int, str, int, int]]:
        return sorted(set(self.rows[TASK].itertuples(index=False, name=None)))

    @property
    def references(self) -> dict[int, str]:
        """What the changes of each look-back are measured against."""
        return _references(self.ranking)


def _tables(rows: pd.DataFrame) -> _Tables:
    chosen = selected(rows, "show")
    counted = charged(chosen)
    ranking = board.ranking(chosen, "show")
    missing = missing_runs(chosen)
    gaps = [(int(where[1]), str(where[0]), why) for where, why in gaps_in_sweeps(rows)]
    return _Tables(
        chosen,
        ranking,
        _scores(chosen, counted, _references(ranking)),
        [*missing, *gaps],
    )


def _references(ranking: pd.DataFrame) -> dict[int, str]:
    first = ranking.drop_duplicates("look_back")
    return dict(zip(first.look_back, first.reference, strict=True))


def _scores(
    chosen: pd.DataFrame, charged: pd.DataFrame, references: dict[int, str]
) -> pd.DataFrame:
    """A line a cell and method: errors, costs, and the change against the reference."""
    cells = board.cells(chosen, "show")
    done = chosen.status == "done"
    costs = chosen[["tokens_mean", "train_seconds"]].where(done, axis=0)
    means = costs.groupby([chosen[name] for name in (*TASK, "method")]).mean().reset_index()
    table = cells.merge(means, "left", [*TASK, "method"]).merge(
        statistics.cell_tests(charged)[[*TASK, "method", "ties_with_best"]],
        "left",
        [*TASK, "method"],
    )
    errors = table[table.method == table.look_back.map(references)].set_index(TASK).mse
    partner = errors.reindex(pd.MultiIndex.from_frame(table[TASK])).to_numpy()
    change = 100 * (table.mse / partner - 1)
    return table.assign(change=change.where(partner > 0))


# What the template shows


class _Number(NamedTuple):
    """A number as it reads and as it sorts; both empty where there is none."""

    text: str = ""
    sort: float | None = None


class _Column(NamedTuple):
    key: str
    head: str
    form: str
    legend: str


_COLUMNS = (
    _Column("skill", "skill", "{:.3f}", "1 - the geometric mean of MSE / MSE of seasonal_naive."),
    _Column("mean_rank", "mean rank", "{:.2f}", "Mean over cells, among methods with a place."),
    _Column(
        "win_rate", "wins", "{:.0%}", "Share of paired runs with less error than {reference}."
    ),
    _Column("p_holm", "p", "{:.3f}", "Wilcoxon over data sets, Holm over the methods."),
    _Column("tokens", "tokens", "{:.1f}", "Patches a window really used, on average."),
    _Column("mflops", "MFLOPs", "{:,.1f}", "Millions of operations of one window's forward pass."),
    _Column("parameters", "parameters", "{:,.0f}", "Median over runs."),
    _Column("train_seconds", "train s", "{:.1f}", "Median over runs, on the device of each."),
    _Column("step", "step", "{:.2f}", "Cost of a training step, that of uniform being 1."),
    _Column("trials", "trials", "{:.0f}", "Settings tried before, on validation data."),
    _Column("failures", "failed", "{:.0f}", "Runs that failed, each charged the naive error."),
)
_LEGEND = (
    ("place", "In order of the ranking; empty for what is never ranked or has holes."),
    (
        "verdict",
        (
            "Better only beside every control: equal patches at the same K, random ones, and "
            "equal patches of the length that validation prefers. The method's section says why."
        ),
    ),
    (
        "change",
        "Of MSE against {reference}, less is better: mean over seeds, then cells, then data sets.",
    ),
    ("95 % interval", "Of the change, over data sets; the rule is at no change."),
)


def _track(tables: _Tables, look_back: int, cards: Cards) -> dict[str, Any]:
    ranking = _ranking(tables, look_back)
    columns = [
        name for name in _COLUMNS if name.key in ranking and ranking[name.key].notna().any()
    ]
    scale, reference = _scale(ranking), tables.references[look_back]
    lines = [
        {
            "method": line["method"],
            "kind": _kind(line["method"], line["kind"], cards),
            "note": _note(line),
            "verdict": line["verdict"],
            "place": _number(line["place"], "{:.0f}"),
            "change": _change(line, reference),
            "interval": _interval(line, scale, reference),
            "numbers": [_number(line[name.key], name.form) for name in columns],
        }
        for line in ranking.to_dict("records")
    ]
    heads = {name.head for name in columns} | {"place", "verdict", "change", "95 % interval"}
    legend = (*_LEGEND, *((name.head, name.legend) for name in columns))
    return {
        "look_back": look_back,
        "caption": _caption(tables, look_back),
        "holes": _holes(tables, look_back),
        "head": [name.head for name in columns],
        "lines": lines,
        "verdicts": any(line["verdict"] for line in lines),
        "intervals": any(line["interval"]["text"] for line in lines),
        "legend": [
            (head, text.format(reference=reference)) for head, text in legend if head in heads
        ],
        **_grid(tables, look_back, lines),
    }


def _ranking(tables: _Tables, look_back: int) -> pd.DataFrame:
    """The ranking of a track, with what the page shows in other units or under another name."""
    order = tables.ranking[tables.ranking.look_back == look_back]
    p = f"p_{tables.references[look_back]}"
    return order.assign(mflops=order.flops / 1e6, p_holm=order.get(p, math.nan))


def _caption(tables: _Tables, look_back: int) -> str:
    sets = tables.rows[tables.rows.look_back == look_back].dataset.nunique()
    return (
        f"Changes of MSE against {tables.references[look_back]} on {sets} data "
        f"set{'s' * (sets != 1)}, which are the unit; less is better. Of interest is "
        f"{statistics.SMALLEST_EFFECT} % or more. A failed run is charged the error of "
        f"{NAIVE} at least."
    )


def _holes(tables: _Tables, look_back: int) -> dict[str, str]:
    """Which methods lack runs and how many, and the names of the runs; empty without holes."""
    holes = [(method, name) for where, method, name in tables.holes if where == look_back]
    if not holes:
        return {}
    counts = Counter(method for method, _ in holes)
    return {
        "methods": ", ".join(f"{method} ({count})" for method, count in sorted(counts.items())),
        "runs": listed([name for _, name in holes]),
    }


def _kind(method: str, kind: str, cards: Cards) -> str:
    """Strict or soft budget, as the method's card says, or reference."""
    track = cards.get(method, {}).get("track", "")
    return kind if kind == "reference" or not track else track.split(",")[0]


def _note(line: _Line) -> str:
    """Why a method has no place; of one that has, its track, unless that is the main one."""
    if line["beside"]:
        return line["beside"]
    return "" if line["track"] == "strict" else f"{line['track']} budget"


def _change(line: _Line, reference: str) -> _Number:
    if line["method"] == reference:
        return _Number("reference", 0)
    if pd.isna(line["change"]):
        return _Number()
    return _Number(f"{_percent(line['change'])} %", line["change"])


def _scale(ranking: pd.DataFrame) -> float:
    """Percent at either rim of the interval pictures: room for most, the widest are cut off."""
    ends = ranking[["low", "high"]].abs().max(axis=1).dropna()
    return max(2 * statistics.SMALLEST_EFFECT, float(ends.median()) * 1.5) if len(ends) else 1.0


def _interval(line: _Line, scale: float, reference: str) -> dict[str, Any]:
    """The interval in words, and where its ends stand on a line of 100 % from rim to rim."""
    low, change, high = line["low"], line["change"], line["high"]
    if pd.isna(low) or line["method"] == reference:
        return {"text": "", "sort": ""}
    low_at, at, high_at = (
        round(50 + 50 * min(max(value / scale, -1), 1), 1) for value in (low, change, high)
    )
    text = f"{_percent(low)} to {_percent(high)} %"
    return {"text": text, "sort": low, "low": low_at, "at": at, "high": high_at}


def _percent(value: float) -> str:
    """Three digits that count, two decimal places at most."""
    return _signed(f"{value:+.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}")


def _number(value: Any, form: str) -> _Number:  # noqa: ANN401 - a cell of a table, pd.NA included
    if pd.isna(value):
        return _Number()
    return _Number(_signed(form.format(value)), float(f"{value:.10g}"))


def _signed(text: str) -> str:
    """With true minus signs, which are as wide as a plus."""
    return text.replace("-", "\N{MINUS SIGN}")


def _grid(tables: _Tables, look_back: int, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The table of all cells of a track: a line a method as ranked, a column a cell."""
    cells = [cell for cell in tables.cells if cell[0] == look_back]
    own = tables.scores[tables.scores.look_back == look_back].to_dict("records")
    scores = {(line["method"], tuple(line[name] for name in TASK)): line for line in own}
    counts: dict[str, int] = {}
    for _, dataset, *_ in cells:
        counts[dataset] = counts.get(dataset, 0) + 1
    several = len({patches for *_, patches in cells}) > 1
    return {
        "datasets": list(counts.items()),
        "cells": [
            {
                "dataset": dataset,
                "horizon": horizon,
                "patches": patches,
                "name": f"{horizon}, K={patches}" if several else str(horizon),
            }
            for _, dataset, horizon, patches in cells
        ],
        "scores": [
            line | {"scores": [_score(scores.get((line["method"], cell))) for cell in cells]}
            for line in lines
        ],
        "cells_caption": (
            "MSE, mean over seeds ± standard deviation, by data set and horizon. Bold: the best, "
            f"and what a paired test over {statistics.LEAST_SEEDS} or more seeds does not tell "
            "from it."
        ),
    }


def _score(line: _Line | None) -> dict[str, Any] | None:
    if line is None:
        return None
    mean, spread = line["mse"], line["mse_sd"]
    decimals = max(0, 3 - math.floor(math.log10(mean))) if mean > 0 else 4
    return {
        "mean": "failed" if pd.isna(mean) else f"{mean:.{decimals}f}",
        "sd": "" if pd.isna(spread) else f"{spread:.{decimals}f}",
        "best": line["ties_with_best"] is True,
        "failures": line["failures"],
        "runs": line["runs"],
    }


def _filters(tables: _Tables, cards: Cards) -> list[tuple[str, str, list[str]]]:
    """The name, the label and the choices of each selection; one with one choice is none."""
    kinds = tables.rows.drop_duplicates("method")
    there = set(tables.ranking.verdict)
    filters = [
        ("dataset", "Data set", tables.datasets),
        ("verdict", "Verdict", [name for name in statistics.VERDICTS if name in there]),
        (
            "kind",
            "Track",
            sorted({_kind(*own, cards) for own in zip(kinds.method, kinds.kind, strict=True)}),
        ),
    ]
    return [(name, label, choices) for name, label, choices in filters if len(choices) > 1]


def _facts(tables: _Tables) -> list[tuple[str, str]]:
    rows = tables.rows
    failed = int((rows.status != "done").sum())
    facts = {
        "methods": f"{len(tables.methods)}",
        "data sets": f"{len(tables.datasets)}",
        "cells": f"{len(tables.cells)}",
        "runs": f"{len(rows):,}",
        "failed": f"{failed:,}",
        "missing": f"{len(tables.holes):,}",
        "protocol": str(rows.protocol.iloc[0]),
    }
    return list(facts.items())


def _method(
    tables: _Tables, method: str, cards: Cards, pictures: list[_Picture]
) -> dict[str, Any]:
    rows = tables.rows[tables.rows.method == method]
    card = cards.get(method, {})
    said = [
        (name.capitalize(), card[name])
        for name in ("source", "fidelity", "track")
        if card.get(name)
    ]
    verdicts = tables.ranking[tables.ranking.method == method]
    judged = [
        (f"Verdict, look-back {line.look_back}", f"{line.verdict}: {line.why}")
        for line in verdicts.itertuples()
    ]
    medians = rows[rows.status == "done"].median(numeric_only=True)
    costs = [
        f"{_number(medians[name], form).text} {unit}"
        for name, form, unit in _COSTS
        if name in medians and not pd.isna(medians[name])
    ]
    datasets = set(rows.dataset)
    return {
        "name": method,
        "summary": card.get("summary", ""),
        "card": [*said, *judged, *([("Cost, median", "; ".join(costs))] if costs else [])],
        "file": f"{method}.csv",
        "galleries": [
            picture.dataset
            for picture in pictures
            if picture.dataset in datasets and picture.file.startswith("patches-")
        ],
    }


_COSTS = (
    ("tokens_mean", "{:.1f}", "tokens a window"),
    ("parameters", "{:,.0f}", "parameters"),
    ("mflops", "{:,.1f}", "MFLOPs a forward pass"),
    ("train_seconds", "{:.1f}", "s of training"),
    ("step", "{:.2f}", "times the training step of uniform"),
    ("peak_memory_mb", "{:,.0f}", "MB at most"),
)


def _dataset(tables: _Tables, dataset: str, pictures: list[_Picture]) -> dict[str, Any]:
    rows = tables.rows[tables.rows.dataset == dataset]
    tasks = [
        f"{look_back}\N{RIGHTWARDS ARROW}{horizon} K={patches}"
        for look_back, name, horizon, patches in tables.cells
        if name == dataset
    ]
    done = rows[rows.status == "done"]
    windows = sorted({f"{count:,.0f}" for count in done.get("windows", pd.Series()).dropna()})
    checked = "yes" if done.data_verified.all() else "no published checksum to compare with"
    card = {
        "Look-back\N{RIGHTWARDS ARROW}horizon": ", ".join(tasks),
        "Test windows": ", ".join(windows),
        "SHA-256 of values": ", ".join(sorted(set(rows.data_hash) - {""})),
        "Verified": checked,
    }
    return {
        "name": dataset,
        "summary": f"{len(tasks)} cell{'s' * (len(tasks) != 1)}, {len(rows):,} runs",
        "card": [(name, text) for name, text in card.items() if text],
        "figures": [picture for picture in pictures if picture.dataset == dataset],
    }


# Records


def _data(tables: _Tables, suite: str) -> dict[str, Any]:
    """What the script shows on demand: the score of each cell, and the runs behind it."""
    scores = tables.scores[
        ["method", *TASK, *_OF_SCORES, "tokens_mean", "train_seconds", "failures", "runs"]
    ]
    runs = tables.rows.drop(columns=[name for name in _NOT_SHOWN if name in tables.rows])
    return {
        "suite": suite,
        "references": tables.references,
        "methods": tables.methods,
        "cells": tables.cells,
        "scores": _packed(scores.rename(columns={"tokens_mean": "tokens"}), tables),
        "runs": _packed(runs, tables),
    }


_OF_SCORES = ["mse", "mse_sd", "mae", "change"]
# Said elsewhere on the page, or in another form.
_NOT_SHOWN = [
    "suite",
    "kind",
    "ranked",
    "job",
    "step",
    "protocol",
    "data_verified",
    "trained",
    "mflops",
]


def _packed(table: pd.DataFrame, tables: _Tables) -> dict[str, Any]:
    """A table by columns: one value if all are the same, a list, or codes where many repeat.

    Method and cell become their numbers in the lists beside. Six digits that count are kept.
    """
    numbers = {cell: number for number, cell in enumerate(tables.cells)}
    places = [numbers[cell] for cell in table[TASK].itertuples(index=False, name=None)]
    methods = {method: number for number, method in enumerate(tables.methods)}
    table = table.drop(columns=TASK).assign(method=table.method.map(methods), cell=places)
    return {
        "rows": len(table),
        "columns": {
            str(name): _column(table[name]) for name in table if table[name].notna().any()
        },
    }


def _column(column: pd.Series[Any]) -> object:
    codes, unique = pd.factorize(column, use_na_sentinel=False)
    values = [_plain(value) for value in unique]
    if len(values) == 1:
        return values[0]
    if len(values) > len(codes) / 4:
        return [values[code] for code in codes]
    return {"codes": codes.tolist(), "values": values}


def _plain(value: Any) -> object:  # noqa: ANN401 - whatever a column of a table holds
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return None
    return int(value) if float(value).is_integer() else float(f"{value:.6g}")


# Figures


class _Picture(NamedTuple):
    """A figure as it stands in the page; ``dataset`` is empty where it is of the whole suite."""

    title: str
    caption: str
    alt: str
    file: str
    light: str
    dark: str
    width: str
    height: str
    dataset: str


class _Sort(NamedTuple):
    """A sort of figure: files called ``stem`` and ``rest``, which says what each is ``of``."""

    stem: str
    title: str
    caption: str
    rest: str = ""
    of: str = ""


_TRACK = (r"-(?P<look_back>\d+)", ", look-back {look_back}")
_TASK = (
    r"-(?P<dataset>.+)-(?P<look_back>\d+)-(?P<horizon>\d+)",
    ": {dataset} {look_back}\N{RIGHTWARDS ARROW}{horizon}",
)


def _pictures(folder: Path) -> list[_Picture]:
    """The figures of known sorts that lie in the folder, in the order of the sorts."""
    return [
        _picture(path, sort, match.groupdict())
        for sort in _SORTS
        for path in sorted(folder.glob(f"{sort.stem}*.svg"))
        if (match := re.fullmatch(sort.stem + sort.rest + "(?<!-dark)", path.stem))
    ]


def _picture(path: Path, sort: _Sort, of: Mapping[str, str]) -> _Picture:
    text = path.read_text(encoding="utf-8")
    box = re.search(r'viewBox="[\d.]+ [\d.]+ ([\d.]+) ([\d.]+)"', text)
    width, height = (f"{float(side):.0f}" for side in box.groups()) if box else ("", "")
    night = path.with_name(f"{path.stem}-dark.svg")
    title = sort.title + sort.of.format(**of)
    return _Picture(
        title,
        sort.caption,
        f"{title}. {sort.caption}",
        path.name,
        _embedded(text),
        _embedded(night.read_text(encoding="utf-8")) if night.exists() else "",
        width,
        height,
        of.get("dataset", ""),
    )


def _embedded(svg: str) -> str:
    """The picture as an address that holds all of it: no ids to clash, no styles to leak."""
    return f"data:image/svg+xml,{quote(svg.replace(chr(10), ' '), safe=_IN_ADDRESS)}"


_IN_ADDRESS = " !$()*+,/:;=?@[]^_{|}~'"


def _policy(script: str) -> str:
    """Nothing from outside, and of all scripts only the page's own."""
    digest = b64encode(sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


_FRONT = "Change of MSE against cost; the line joins patchers that no other one beats in both."
_SORTS = (
    _Sort(
        "forest",
        "Changes and their intervals",
        "Change of MSE against each control with its 95 % interval; the band is half a percent to "
        "either side, inside of which nobody need care.",
    ),
    _Sort(
        "ranks",
        "Mean ranks",
        "Mean rank over data sets, best first; a bar joins methods that no test tells apart.",
        *_TRACK,
    ),
    _Sort(
        "errors",
        "Every run",
        "MSE of every finished run: a panel a task, a dot a seed, a bar their mean.",
    ),
    _Sort("pareto-tokens", "Error and tokens", _FRONT),
    _Sort("pareto-flops", "Error and computation", _FRONT),
    _Sort("seeds", "Seeds", "How far the seeds of a method lie apart, relative to its error."),
    _Sort(
        "gap",
        "The oracle's gap",
        "Share of the way from equal patches to the true boundaries that a method goes.",
    ),
    _Sort("curves", "Training", "Validation error by epoch."),
    _Sort(
        "agreement",
        "Agreement of seeds",
        "How far two seeds of a method cut the same rows at the same steps; in brackets what "
        "habit alone gives.",
    ),
    _Sort(
        "alike",
        "Agreement of methods",
        "How far two methods cut the same rows at the same steps; on the diagonal, two seeds.",
    ),
    _Sort(
        "patches",
        "Where methods cut",
        "One test window as each method cuts it; triangles are true boundaries, where known.",
        *_TASK,
    ),
    _Sort(
        "lengths",
        "Patch lengths",
        "How long the patches are that each method makes of test windows.",
        *_TASK,
    ),
    _Sort(
        "density",
        "Boundaries and content",
        "How much likelier a boundary is where the series changes much than where it rests.",
        *_TASK,
    ),
)


def _drawings(rows: pd.DataFrame, runs: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The name of each figure and how to draw it; one that has nothing to show may refuse."""
    counted = charged(rows)
    verdicts = statistics.verdicts(counted)[["look_back", "method", "verdict"]]
    effects = statistics.effects(counted).merge(verdicts, "left")
    judged = effects[effects.method.isin(rows.method[rows.kind == "patcher"])]
    yield "errors", partial(figures.errors, rows)
    yield "forest", partial(figures.forest, judged)
    for look_back in sorted(set(rows.look_back)):
        yield f"ranks-{look_back}", partial(_ranks, counted, look_back)
    yield "pareto-tokens", partial(figures.pareto, counted, "tokens_mean")
    yield "pareto-flops", partial(figures.pareto, counted, "flops")
    yield "seeds", partial(figures.seed_spread, rows)
    yield "gap", lambda: figures.gap_closed(statistics.gap_closed(counted))
    patchers = rows[(rows.kind == "patcher") & (rows.status == "done")]
    yield from _of_bundles(patchers, runs)


def _ranks(charged: pd.DataFrame, look_back: int) -> Any:  # noqa: ANN401 - only figures knows its type
    ranks, groups, _ = statistics.critical_difference(charged, look_back)
    return figures.critical_difference(ranks, groups)


def _of_bundles(patchers: pd.DataFrame, runs: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Figures of what is not in the rows, of the tasks of which every bundle is at hand.

    So a picture drawn where all of them are is never replaced by a poorer one.
    """
    yield from _of_training(patchers, runs)
    # Longer horizons are cut much the same.
    shortest = patchers.groupby(["look_back", "dataset"]).horizon.transform("min")
    tasks = patchers[patchers.horizon == shortest].sort_values("mse")
    for (look_back, dataset, horizon), task in tasks.groupby(WINDOWS):
        name = f"{dataset}-{look_back}-{horizon}"
        first = task[task.seed == task.groupby("method").seed.transform("min")]
        bundles = _read(first, runs)
        overlays = [bundle.overlay for bundle in bundles if bundle.overlay is not None]
        if overlays:
            yield f"patches-{name}", partial(figures.gallery, overlays)
        if bundles and all(bundle.boundaries for bundle in bundles):
            cuts = {
                bundle.record.method: read_boundaries(bundle.boundaries)
                for bundle in bundles
                if bundle.boundaries
            }
            starts = {method: cut["starts"] for method, cut in cuts.items()}
            values = next(iter(cuts.values()))["values"]
            title = f"{dataset} {look_back}\N{RIGHTWARDS ARROW}{horizon}"
            yield f"lengths-{name}", partial(figures.lengths, starts, values.shape[1], title)
            yield f"density-{name}", partial(figures.density, starts, values, title)


def _of_training(patchers: pd.DataFrame, runs: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What all seeds of all tasks say together: curves, and how alike seeds cut."""
    bundles = _read(patchers, runs)
    if not bundles:
        return
    lines = [
        {name: getattr(bundle.record, name) for name in (*TASK, "method", "seed")} | epoch
        for bundle in bundles
        for epoch in bundle.curves
    ]
    yield "curves", partial(figures.curves, pd.DataFrame(lines))
    if all(bundle.boundaries for bundle in bundles):
        yield "agreement", partial(figures.agreement, agreement.between_seeds(bundles))
        between = agreement.between_methods(bundles)
        yield "alike", partial(figures.agreement_of_methods, between)


def _read(rows: pd.DataFrame, runs: Path) -> list[Bundle]:
    """The bundles of the rows; none where one of them is not at hand."""
    folders = [runs / key for key in rows.key]
    if not all((folder / "overlay.json").exists() for folder in folders):
        return []
    return [read_bundle(folder) for folder in folders]
