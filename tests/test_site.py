"""The page of a suite: whole, honest, the same each time, and safe with any name."""

from __future__ import annotations

import json
import pickle
import re
from base64 import b64encode
from collections import Counter
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import suite_page
from suite_page import AWKWARD, SETS

from harness.cli import verbs
from harness.report import board, drawings, figures, pictures, tables
from harness.report.page import PAGE, page_text, write_page
from harness.report.tables import MADE
from harness.results.bundles import Bundle
from harness.results.rows import read_rows, write_rows
from harness.results.table import TASK, read_table

CARDS = {"jumps": {"summary": "Cuts at jumps.", "source": "A & B", "fidelity": "mine"}}
SVG = '<svg viewBox="0 0 648 324"><text>{}</text><path d="M 0 0\nL 1 1"/></svg>'


class Html(HTMLParser):
    """Every tag of a page with its attributes, and the text that follows it up to the next."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.elements.append((f"/{tag}", {}))
        self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data

    def of(self, tag: str) -> list[tuple[dict[str, str], str]]:
        return [
            (attributes, text)
            for (name, attributes), text in zip(self.elements, self.texts, strict=True)
            if name == tag
        ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = suite_page.write(tmp_path_factory.mktemp("results") / "small")
    tables.write(folder, holes="show")
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> Html:
    return Html(page_text(folder, about="A suite <of> ours.", cards=CARDS))


def data(page: Html) -> dict[str, Any]:
    [text] = [text for attributes, text in page.of("script") if attributes.get("id") == "data"]
    return json.loads(text)


def unpacked(table: dict[str, Any]) -> pd.DataFrame:
    """What the script reads from a table by columns."""

    def column(packed: Any) -> list[Any]:  # noqa: ANN401 - JSON
        if isinstance(packed, dict):
            return [packed["values"][code] for code in packed["codes"]]
        return packed if isinstance(packed, list) else [packed] * table["rows"]

    return pd.DataFrame({name: column(packed) for name, packed in table["columns"].items()})


def test_nothing_comes_from_outside(page: Html) -> None:
    """Whatever the page loads is in the page, and its policy allows nothing else."""
    loaded = [
        attributes["src" if "src" in attributes else "href"]
        for tag, attributes in page.elements
        if tag != "a" and {"src", "href"} & set(attributes)
    ]
    assert [address for address in loaded if not address.startswith("data:")] == []
    [policy] = [
        own["content"] for own, _ in page.of("meta") if own.get("http-equiv", "")[:7] == "Content"
    ]
    scripts = [text for attributes, text in page.of("script") if "type" not in attributes]
    digests = [b64encode(sha256(text.encode()).digest()).decode() for text in scripts]
    assert "default-src 'none'" in policy
    assert [f"sha256-{digest}" in policy for digest in digests] == [True]


def test_names_are_text(page: Html) -> None:
    """Methods and data sets are shown as they are called, errors as they were; none is markup."""
    assert len(page.of("script")) == 2
    assert [own for own, _ in page.of("img") if own.get("src") == "x"] == []
    assert data(page)["methods"] == sorted([*suite_page.LEVEL, "seasonal_naive"])
    assert {task[1] for task in data(page)["tasks"]} == set(SETS)
    assert AWKWARD in [text for _, text in page.of("h3")]


def test_every_run_is_there_to_be_looked_up(page: Html, folder: Path) -> None:
    """Key, seed, status and errors of every row are in the page, to six digits."""
    rows = read_table(folder)
    content = data(page)
    runs = unpacked(content["runs"])
    assert list(runs.key) == list(rows.key)
    assert list(runs.seed) == list(rows.seed)
    assert list(runs.status) == list(rows.status)
    assert [content["methods"][number] for number in runs.method] == list(rows.method)
    tasks = rows[TASK].itertuples(index=False, name=None)
    assert [tuple(content["tasks"][number]) for number in runs.task] == list(tasks)
    assert runs.mse.astype(float).to_numpy() == pytest.approx(rows.mse, rel=1e-5, nan_ok=True)
    assert "MemoryError: <b>no room</b>" in set(runs.error)


def test_scores_are_those_of_the_tables(page: Html, folder: Path) -> None:
    """The change of a cell is the geometric mean over seeds against the reference's runs."""
    content = data(page)
    scores = unpacked(content["scores"])
    rows = read_table(folder)
    done = rows[rows.status == "done"].assign(logarithm=lambda table: np.log(table.mse))
    means = np.exp(done.groupby(["method", *TASK]).logarithm.mean())
    own = scores[scores.method == content["methods"].index("jumps")]
    assert set(content["references"].values()) == {"uniform"}
    for line in own.itertuples():
        task = tuple(content["tasks"][line.task])
        partner = means["uniform", *task]
        assert line.change == pytest.approx(100 * (means["jumps", *task] / partner - 1), rel=1e-4)


def test_links_lead_somewhere(page: Html, folder: Path) -> None:
    """Ids are unique, and every link is to one of them, to a file at its place, or to MLflow."""
    ids = Counter(own["id"] for _, own in page.elements if "id" in own)
    links = [own["href"] for own, _ in page.of("a")]
    anchors = {unquote(link[1:]) for link in links if link.startswith("#")}
    mlflow = {link for link in links if link.startswith("http")}
    assert mlflow == {
        f"http://127.0.0.1:5000/patchbench/small?view={name}" for name in ("runs", "curves")
    }
    files = {unquote(link) for link in links if not link.startswith("#")} - mlflow
    assert [name for name, count in ids.items() if count > 1] == []
    assert {f"method-{AWKWARD}", f"dataset-{SETS[-1]}"} <= anchors <= set(ids)
    assert [name for name in files if not (folder / MADE / name).exists()] == []
    assert f"../{AWKWARD}.csv" in files


def test_tables_can_be_read_aloud(page: Html) -> None:
    """Each table has a caption, and each of its headings says what it heads."""
    assert len(page.of("caption")) == len(page.of("table")) == 8
    assert [own for own, _ in page.of("th") if "scope" not in own] == []
    assert [own for own, _ in page.of("img") if not own.get("alt")] == []


def test_every_column_of_the_ranking_is_explained(page: Html) -> None:
    """The legend has the headings of the table, and no others."""
    start = page.elements.index(("table", {"class": "ranking sortable"}))
    legend = [tag for tag, _ in page.elements].index("/dl", start)
    part = list(zip(page.elements, page.texts, strict=True))[start:legend]
    heads = [text for (tag, own), text in part if tag == "th" and own.get("scope") == "col"]
    assert [text for (tag, _), text in part if tag == "dt"] == [
        name for name in heads if name != "method"
    ]


def test_look_backs_never_share_a_table(page: Html) -> None:
    """Each look-back is a track with its own tables, the longest first."""
    tracks = [own["data-track"] for own, _ in page.of("section") if "data-track" in own]
    assert tracks == ["512", "96"]
    radios = [own["value"] for own, _ in page.of("input") if own.get("name") == "track"]
    assert radios == tracks


def test_verdict_stands_in_words_beside_its_interval(page: Html) -> None:
    """Who wins is said in words, with the interval of the change, and why in its section."""
    text = " ".join(page.texts)
    [line] = re.findall(r"jumps\s+better\s+(\S+ %)\s+(\S+ to \S+ %)", text)[:1]
    assert line[0].startswith("\N{MINUS SIGN}")
    assert all(end.startswith("\N{MINUS SIGN}") for end in line[1].split(" to "))
    assert "better: -" in text


def test_costs_controls_and_power_stand_below_the_ranking(page: Html) -> None:
    """In each look-back: what the error costs, what controls say, and what the table can find."""
    text = " ".join(page.texts)
    captions = [said for _, said in page.of("caption")]
    assert sum("What the error costs" in said for said in captions) == 2
    assert sum("What controls say of each data set" in said for said in captions) == 2
    assert "Power at look-back 512 (5 data sets, 5 tasks, 3 seeds)" in text


def test_holes_and_failures_are_seen(page: Html) -> None:
    """A failed run is counted in its cell, a missing one is named, and its method has no place."""
    text = " ".join(" ".join(page.texts).split())
    assert "1 of 3 failed" in text
    assert "no place: soft (1)" in text
    assert f"soft on {SETS[0]}" not in text
    assert re.search(r"soft on \S+ 512->24 K=12 seed 3|soft on \S+ 96->24 K=12 seed 3", text)


def test_cell_without_a_run_is_a_hole(tmp_path: Path) -> None:
    """Where a method has no run, the table says so."""
    folder = suite_page.write(tmp_path / "small", look_backs=(96,))
    kept = [run for run in read_rows(folder / "jumps.csv") if run.dataset != "ETTh2"]
    write_rows(folder / "jumps.csv", kept)
    page = Html(page_text(folder))
    assert [text for own, text in page.of("td") if own.get("class") == "hole"] == ["no run"]


def test_methods_say_what_they_are(page: Html) -> None:
    """A card is shown as it is; a method without one is shown by its rows."""
    text = " ".join(page.texts)
    assert "Cuts at jumps." in text
    assert "A & B" in text
    assert "A suite <of> ours." in text


def test_rows_say_what_a_method_promises(page: Html) -> None:
    """Budget and evaluation rules are read from the rows: no card has a word in it."""
    lines = {
        (own["data-method"], own["data-promise"])
        for own, _ in page.of("tr")
        if "data-promise" in own
    }
    about_k, exactly_k = "about K patches", "exactly K patches"
    promises = {method: about_k if method == "soft" else exactly_k for method in suite_page.LEVEL}
    assert lines == {*promises.items(), ("seasonal_naive", "reference forecaster")}
    said = [text for _, text in page.of("dd")]
    relaxed = "boundaries drawn, noisy or soft in training, scored by sample"
    assert any(text.startswith(f"{about_k}, {relaxed}") for text in said)
    assert f"{exactly_k}, boundaries the same in training" in said
    assert "reference forecaster" in said


def test_figures_lie_in_the_page(tmp_path: Path) -> None:
    """What lies in the folder is shown, in both themes, that of a data set in its section."""
    folder = suite_page.write(tmp_path / "small", look_backs=(96,))
    (folder / MADE).mkdir()
    for name in ("errors", "errors-dark", "patches-ETTh2-96-24", "of-mine"):
        (folder / MADE / f"{name}.svg").write_text(SVG.format(name), encoding="utf-8")
    text = page_text(folder)
    images = Html(text).of("img")
    shown = [unquote(own["src"]) for own, _ in images]
    assert [re.findall(r"<text>(.*)</text>", source) for source in shown] == [
        ["errors"],
        ["errors-dark"],
        ["patches-ETTh2-96-24"],
    ]
    assert {(own["width"], own["height"]) for own, _ in images} == {("648", "324")}
    assert text.index('id="dataset-ETTh2"') < text.index("patches-ETTh2-96-24.svg")


def test_page_is_a_function_of_what_lies_there(tmp_path: Path) -> None:
    """The same rows in another folder and another order give the same bytes."""
    one = suite_page.write(tmp_path / "one" / "small")
    other = suite_page.write(tmp_path / "other" / "small")
    table = pd.read_csv(other / "jumps.csv", dtype=str, keep_default_na=False)
    table[::-1].to_csv(other / "jumps.csv", index=False)
    assert page_text(one) == page_text(other)
    assert str(tmp_path) not in page_text(one)


def test_writing_draws_what_can_be_drawn(tmp_path: Path) -> None:
    """Figures of rows are drawn anew; one that needs bundles stays as it lies without them."""
    folder = suite_page.write(tmp_path / "small", look_backs=(96,))
    older = folder / MADE / "patches-ETTh2-96-24.svg"
    older.parent.mkdir()
    older.write_text(SVG.format("as it was"), encoding="utf-8")
    *drawn, page = write_page(folder)
    assert page == folder / MADE / PAGE
    assert page.read_text(encoding="utf-8") == page_text(folder)
    assert folder / MADE / "errors.svg" in drawn
    assert [path for path in drawn if not path.exists()] == []
    assert older.read_text(encoding="utf-8") == SVG.format("as it was")


def test_a_figure_that_says_nothing_is_not_left_from_before(tmp_path: Path) -> None:
    """Ranks on one data set are its errors over again: not drawn, and an older picture goes."""
    folder = suite_page.write(tmp_path / "small", look_backs=(96,))
    write_page(folder)
    picture = folder / MADE / "ranks-96-dark.svg"
    assert picture.exists()
    for path in folder.glob("*.csv"):
        write_rows(path, [row for row in read_rows(path) if row.dataset == "ETTh2"])
    write_page(folder)
    assert not picture.exists()
    assert (folder / MADE / "errors.svg").exists()


def test_what_has_not_changed_is_not_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second time draws nothing and leaves every byte.

    A figure is drawn again that has other rows or other code, or that somebody has touched.
    """
    folder, saved, save = suite_page.write(tmp_path / "small", look_backs=(96,)), [], figures.save

    def counted(figure: Any, stem: Path) -> list[Path]:  # noqa: ANN401 - a figure of matplotlib
        saved.append(stem.name)
        return save(figure, stem)

    monkeypatch.setattr(figures, "save", counted)

    def drawn_by_writing() -> set[str]:
        saved.clear()
        write_page(folder)
        return set(saved)

    everything = drawn_by_writing()
    assert {"errors", "forest", "seeds", "ranks-96"} <= everything
    bytes_of = {path: path.read_bytes() for path in (folder / MADE).iterdir()}
    assert drawn_by_writing() == set()
    assert bytes_of == {path: path.read_bytes() for path in (folder / MADE).iterdir()}

    (folder / MADE / "seeds-dark.png").unlink()
    (folder / MADE / "forest.svg").write_text("scribble")
    assert drawn_by_writing() == {"seeds", "forest"}
    assert bytes_of == {path: path.read_bytes() for path in (folder / MADE).iterdir()}

    rows = pd.read_csv(folder / "soft.csv", dtype=str, keep_default_na=False)
    rows.assign(mae="7").to_csv(folder / "soft.csv", index=False)
    drawn = drawn_by_writing()
    assert "errors" in drawn
    assert "forest" not in drawn  # it is of changes of MSE alone

    (folder / MADE / drawings.DRAWN).write_text("[1]")
    assert drawn_by_writing() == everything
    monkeypatch.setattr(drawings, "_code", lambda: b"other")
    assert drawn_by_writing() == everything


def test_a_bundle_is_known_by_what_is_in_it(tmp_path: Path, folder: Path) -> None:
    """Not by where it lies, nor by what its record has been asked for before."""

    def content(place: str, cuts: bytes = b"cuts") -> bytes:
        (tmp_path / place).write_bytes(cuts)
        return pickle.dumps(
            drawings._content([Bundle(record, (), None, None, None, tmp_path / place, "")])
        )

    record = read_rows(folder / "uniform.csv")[0]
    before = content("one")
    assert record.coordinates
    assert before == content("other")
    assert before != content("one", b"other cuts")


def test_rows_are_all_that_lies_beside_the_leaderboard(tmp_path: Path) -> None:
    """What git ignores is in one folder: beside it nothing is made but the leaderboard."""
    folder = suite_page.write(tmp_path / "small", look_backs=(96,))
    before = set(folder.iterdir())
    tables.write(folder, holes="show")
    write_page(folder)
    assert set(folder.iterdir()) - before == {folder / MADE, folder / tables.LEADERBOARD}


def test_a_trial_is_marked_on_page_and_board(tmp_path: Path) -> None:
    """Where runs were scored on some of the test windows, both say so before any number."""
    folder = suite_page.write(tmp_path / "small", look_backs=(96,))
    assert "trial" not in page_text(folder)
    for path in folder.glob("*.csv"):
        last = '""warmup"":0.0'
        path.write_text(path.read_text().replace(last, f'""test_windows"":2000,{last}'))
    text = page_text(folder)
    warning = "A trial: some of the test windows only, 2,000 of a task, evenly spaced"
    assert warning in text
    assert "2,000 (some of them, for a trial)" in text
    tables.write(folder, holes="show")
    board = (folder / tables.LEADERBOARD).read_text()
    assert board.index(warning) < board.index("| place |")
    assert "| ETTh1‡ |" in board


def test_every_figure_that_is_drawn_has_a_caption(folder: Path, tmp_path: Path) -> None:
    """Names of figures are of a kind that the page knows."""
    counted = board.count(read_table(folder), "show")
    curve = tmp_path / "curve.csv"
    curve.touch()
    names = [name for name, *_ in drawings._drawings(counted, tmp_path, curve)]
    assert {"errors", "ranks-96", "hindsight"} <= set(names)
    known = [kind.stem + kind.rest for kind in pictures.KINDS]
    assert [
        name for name in names if not any(re.fullmatch(pattern, name) for pattern in known)
    ] == []


def test_a_figure_with_a_fault_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be drawn for want of anything to draw is left out; a fault is no such thing."""

    def broken(*_: object) -> None:
        raise ValueError("starts must rise")

    monkeypatch.setattr("harness.report.figures.errors", broken)
    with pytest.raises(ValueError, match="starts must rise"):
        write_page(suite_page.write(tmp_path / "small", look_backs=(96,)))


def test_methods_and_suite_are_shown_in_their_own_words(tmp_path: Path) -> None:
    """What is in this checkout speaks for itself; a method that is not is shown by its rows."""
    folder = suite_page.write(tmp_path / "small", look_backs=(96,))
    said = verbs._words_for_page(folder)
    assert said["cards"]["uniform"]["summary"].startswith("Cuts every row into K patches")
    assert "jumps" not in said["cards"]
    assert said["about"] == ""


def test_a_suite_of_references_only_has_its_page(tmp_path: Path) -> None:
    """Nothing is ranked, which is said in a line and is no fault; so is a suite full of holes."""
    records = read_rows(suite_page.write(tmp_path / "small") / "seasonal_naive.csv")
    write_rows(tmp_path / "alone" / "seasonal_naive.csv", records)
    text, *_ = tables.write(tmp_path / "alone", "show")
    assert "No method has a place." in text.read_text()
    *drawn, page = write_page(tmp_path / "alone")
    assert page.exists()
    assert not [path for path in drawn if path.stem.startswith("ranks")]


def test_folder_without_rows_is_refused(tmp_path: Path) -> None:
    """There is no page without records."""
    with pytest.raises(FileNotFoundError, match="holds no records"):
        write_page(tmp_path)
