"""Each suite gets the board of its kind: by what its rows are, decided in one place."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import small_zero_shot as small
import suite_page
from small_rows import row

from harness.cli import verbs
from harness.report import excerpts, kinds, pretraining
from harness.report.tables import LEADERBOARD
from harness.results.bundles import write_bundle
from harness.results.rows import read_rows, write_rows


def pretrainings(folder: Path) -> Path:
    """Two seeds of one patcher, of which another one failed, and one seed of another corpus."""
    found = [
        small.pretraining("uniform", "open", 1, 0.3)[1],
        small.pretraining("uniform", "open", 2, 0.4)[1],
        small.pretraining("uniform", "open", 3, None)[1],
        small.pretraining("uniform", "synthetic", 1, 0.2)[1],
    ]
    write_rows(folder / "uniform.csv", found)
    return folder


def test_the_kind_is_that_of_the_rows(tmp_path: Path) -> None:
    """Also of a folder whose rows are older than stages, and of one without rows."""
    assert kinds.kind_of(small.write(tmp_path / "a", seeds=1)) is kinds.KINDS["zero_shot"]
    assert kinds.kind_of(pretrainings(tmp_path / "b")) is kinds.KINDS["pretrain"]
    assert kinds.kind_of(suite_page.write(tmp_path / "c")) is kinds.USUAL
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "uniform.csv").write_text("method,mse\nuniform,1\n")
    assert kinds.kind_of(tmp_path / "d") is kinds.USUAL
    assert kinds.kind_of(tmp_path / "nowhere") is kinds.USUAL


@pytest.mark.parametrize("make", [small.write, pretrainings])
def test_rows_of_two_kinds_are_refused(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """They cannot stand on one board."""
    folder = make(tmp_path / "mixed")
    write_rows(folder / "soft.csv", [replace(row(), method="soft")])
    with pytest.raises(ValueError, match="beside rows that are"):
        kinds.kind_of(folder).read(folder)


@pytest.mark.parametrize(
    "make", [small.write, pretrainings, suite_page.write], ids=["zero-shot", "pretrain", "usual"]
)
def test_what_is_committed_lags_behind_its_rows(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    """Of every kind the leaderboard and the excerpts are compared with the rows."""
    folder = make(tmp_path / "small")
    readme = tmp_path / "README.md"
    readme.write_text("<!-- leaderboard:start small -->\n<!-- leaderboard:end -->\n")
    assert excerpts.stale([readme], tmp_path) == [folder / LEADERBOARD, readme]
    (folder / LEADERBOARD).write_text(kinds.kind_of(folder).markdown(folder), encoding="utf-8")
    excerpts.update(readme, tmp_path)
    assert excerpts.stale([readme], tmp_path) == []
    first = folder / "uniform.csv"
    first.write_text("".join(first.read_text().splitlines(keepends=True)[:-1]))
    assert excerpts.stale([readme], tmp_path) != []


def test_the_verb_shows_the_board_of_pre_trainings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And names its page."""
    verbs._show_leaderboard(pretrainings(tmp_path / "pretraining"))
    said = capsys.readouterr().out
    assert "# Pre-trainings: pretraining" in said
    assert "Page:" in said


def test_the_verb_shows_the_board_of_zero_shot_tasks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And names its page."""
    verbs._show_leaderboard(small.write(tmp_path / "zero_shot", seeds=1))
    said = capsys.readouterr().out
    assert "## Do equal patches beat the seasonal naive?" in said
    assert "Page:" in said


# Pre-trainings


def test_pre_trainings_have_loss_rows_and_cost(tmp_path: Path) -> None:
    """Means over the seeds that finished; rows seen are steps times the rows of each."""
    text = pretraining.markdown(pretrainings(tmp_path / "pretraining"))
    batch = 32  # of a budget that says nothing else
    rows = 2000 * batch
    assert (
        f"| open | `uniform` | 0.3500 ± 0.0707 | 2 | 1 | 2,000 | {rows:,} | {rows / 3600:,.0f} "
        "| 1.00 | 300,000 |"
    ) in text
    assert "| synthetic | `uniform` | 0.2000 | 1 | 0 |" in text
    assert "rank" not in text.split("Nothing is ranked")[1]


def test_the_page_of_pre_trainings_has_their_curves(tmp_path: Path) -> None:
    """Of bundles, where all are at hand; without them it says so, and nothing is lost."""
    folder = pretrainings(tmp_path / "pretraining")
    page = pretraining.write(folder, "Two <corpora>.")[-1]
    text = page.read_text()
    assert "Two &lt;corpora&gt;." in text
    assert "0.3500 ± 0.0707" in text
    assert "which are not where this page was made" in text
    done = [found for found in read_rows(folder / "uniform.csv") if found.status == "done"]
    for record in done:
        curves = [{"step": 200.0 * check, "valid_loss": 1 / check} for check in (1, 2, 3)]
        write_bundle(tmp_path / "runs", record, curves=curves, overlay=None)
    *_, picture, _ = pretraining.write(folder)
    assert picture.name == "losses-dark.png"
    text = page.read_text()
    assert "Validation loss by step" in text
    assert "which are not where this page was made" not in text
    shutil.rmtree(tmp_path / "runs" / done[0].key)
    pretraining.write(folder)
    assert page.read_text() == text  # a poorer picture replaces none


def test_a_pre_training_counts_once(tmp_path: Path) -> None:
    """Two rows of a seed are two settings, of which nobody said which counts."""
    _, one = small.pretraining("uniform", "open", 1)
    other = replace(one, look_back=256)
    write_rows(tmp_path / "uniform.csv", [one, other])
    with pytest.raises(ValueError, match="more than once: uniform on open seed 1"):
        pretraining.read(tmp_path)
