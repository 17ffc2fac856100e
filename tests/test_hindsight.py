"""Hindsight: the best of many plans, and what is left of it on a backbone that did not choose."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import numpy as np
import pandas as pd
import pytest
import torch

from harness.bench import suite
from harness.bench.plan import plan
from harness.bench.survey import Folders, survey
from harness.cli import options, verbs
from harness.core.job import Job, Provenance, Record
from harness.core.task import Architecture, Budget, Task
from harness.data import Source
from harness.report import figures
from harness.results.rows import put_row
from harness.results.table import read_table
from harness.run import windows
from harness.run.job import load, run
from harness.studies import hindsight

SUITE = """\
seeds = [1, 2, 3]
methods = ["uniform", "random_step"]

[forecaster]
width = 8
layers = 1
heads = 2
feedforward = 16

[budget]
epochs = 1
steps = 5
batch = 8

[[tasks]]
datasets = ["mitdb"]
look_back = 48
horizons = [12]
patch = 8
"""
# As in the planted suite: a token is a mean, so that boundaries decide what is kept of a row.
PLANTED = Architecture(
    width=16, layers=1, feedforward=32, dropout=0.0, embedder="mean", head="flatten",
    instance_norm=False,
)  # fmt: skip


@dataclass(frozen=True)
class Done:
    """A suite that has been run: where, and its jobs with their rows."""

    place: Path
    finished: list[tuple[Job, Record]]

    @property
    def runs(self) -> Path:
        return self.place / "results" / "runs"

    @property
    def backbones(self) -> hindsight.Backbones:
        (found,), left_out = hindsight.find(self.finished, "small", self.runs)
        assert left_out == []
        return found


def trained(job: Job, runs: Path) -> tuple[Job, Record]:
    """The job, run for real."""
    return job, run(job, directories=(), device="cpu", runs=runs, provenance=Provenance("c", "v"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Three seeds of random and uniform patches on a real signal, with rows and bundles."""
    place = tmp_path_factory.mktemp("small")
    (place / "suites").mkdir()
    (place / "suites" / "small.toml").write_text(SUITE)
    folders = Folders(place / "results", (), place / "cache")
    jobs = plan(suite.find("small", place / "suites"))
    finished = [trained(planned.job, folders.runs) for planned in survey(jobs, folders)]
    for job, record in finished:
        put_row(folders.rows(job), record)
    return Done(place, finished)


@pytest.fixture(scope="module")
def measured(small: Done) -> pd.DataFrame:
    """The curve of its one task."""
    return hindsight.measure(small.backbones, directories=(), plans=8, sample=40)


def gains(table: pd.DataFrame) -> tuple[float, float]:
    """Percent gained by choosing on one task, as it looks and as it is."""
    (end,) = hindsight.ends(table).to_dict("records")
    return end["gain"], end["corrected_gain"]


# --- choosing and judging ------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [0.0, 0.5, 1.0])
def test_the_correction_keeps_what_two_backbones_share(shared: float) -> None:
    """Of normal errors correlated by rho, rho times the gain survives: nothing of pure noise.

    The expected least of 64 standard normal draws is -2.3436.
    """
    draw = torch.Generator().manual_seed(1)
    chooser, other = torch.randn(2, 64, 20_000, generator=draw)
    judge = shared * chooser + (1 - shared**2) ** 0.5 * other
    random, chosen, judged, corrected = hindsight.curve(chooser, judge)[:, -1] / 20_000
    assert float(random) == pytest.approx(0, abs=0.01)
    assert float(judged) == pytest.approx(0, abs=0.01)
    assert float(chosen) == pytest.approx(-2.3436, abs=0.02)
    assert float(corrected) == pytest.approx(shared * -2.3436, abs=0.03)


def test_the_curve_is_that_of_choosing_anew_for_each_number_of_plans() -> None:
    """One pass gives what a loop over M and rows gives."""
    chooser, judge = torch.rand(2, 6, 5, generator=torch.Generator().manual_seed(2))
    curve = hindsight.curve(chooser, judge)
    for many in range(1, 7):
        best = chooser[:many].argmin(dim=0)
        rows = range(5)
        slow = [
            chooser[:many].mean(dim=0).sum(),
            sum(chooser[best[row], row] for row in rows),
            judge[:many].mean(dim=0).sum(),
            sum(judge[best[row], row] for row in rows),
        ]
        assert curve[:, many - 1].tolist() == pytest.approx([float(error) for error in slow])


# --- real runs -----------------------------------------------------------------------------------


def test_each_seed_chooses_once_and_judges_once(small: Done, measured: pd.DataFrame) -> None:
    """Pairs are 1 -> 2 -> 3 -> 1, each with its curve and the keys of its runs."""
    keys = {record.seed: record.key for job, record in small.finished if job.method != "uniform"}
    for pair, lines in measured.groupby(["seed_chosen_on", "seed_scored_on"]):
        assert pair in {(1, 2), (2, 3), (3, 1)}
        assert lines.plans.tolist() == [1, 2, 4, 8]
        assert set(lines.key_chosen_on) == {keys[pair[0]]}
        assert set(lines.key_scored_on) == {keys[pair[1]]}
    assert len(measured) == 12
    assert set(measured.windows) == {40}


def test_one_plan_is_no_choice(measured: pd.DataFrame) -> None:
    """At M = 1 the chosen plan is a random one, on both backbones."""
    one = measured[measured.plans == 1]
    assert one.mse_chosen.tolist() == one.mse_random.tolist()
    assert one.mse_corrected.tolist() == one.mse_random_judged.tolist()


def test_more_plans_never_hurt_the_one_that_chooses(measured: pd.DataFrame) -> None:
    """Its error falls with M, strictly so here, and lies below that of random plans."""
    for _, lines in measured.groupby("seed_chosen_on"):
        assert (lines.mse_chosen.diff().dropna() < 0).all()
        assert (lines.mse_chosen <= lines.mse_random).all()


def test_the_first_plan_is_that_of_evaluation(small: Done) -> None:
    """Over every test window the error at M = 1 is that of the run's own row, uniform's too."""
    table = hindsight.measure(small.backbones, directories=(), plans=1, sample=100_000)
    errors = {(record.method, record.seed): record.mse or 0 for _, record in small.finished}
    choosers = [errors["random_step", seed] for seed in table.seed_chosen_on]
    judges = [errors["random_step", seed] for seed in table.seed_scored_on]
    assert table.mse_random.tolist() == pytest.approx(choosers, rel=1e-5)
    assert table.mse_corrected.tolist() == pytest.approx(judges, rel=1e-5)
    uniform = mean(errors["uniform", seed] for seed in (1, 2, 3))
    assert table.mse_uniform.tolist() == pytest.approx([uniform] * 3, rel=1e-5)
    assert set(table.windows) == {small.finished[0][1].windows}


def test_a_sample_is_spread_over_the_test_part(small: Done) -> None:
    """Of two windows one is the first and one the last."""
    table = hindsight.measure(small.backbones, directories=(), plans=1, sample=2)
    job, model = (
        small.backbones.random[0].job,
        hindsight._trained(small.backbones.random[0], "cpu"),
    )
    part = windows.test(load(job, ()), job.task)
    batch = part.batch(torch.tensor([0, len(part) - 1]))
    with torch.no_grad():
        error = float(hindsight.tried([model], batch, 1).mean())
    assert table.mse_random[0] == pytest.approx(error, rel=1e-5)


def test_plans_hang_on_row_and_number_alone(small: Done, measured: pd.DataFrame) -> None:
    """Smaller batches give the same curve; plans of one row, and of a number, differ."""
    apart = hindsight.measure(small.backbones, directories=(), plans=8, sample=40, at_once=9)
    pd.testing.assert_frame_equal(apart, measured, rtol=1e-5)
    job = small.backbones.random[0].job
    batch = windows.test(load(job, ()), job.task).batch(torch.arange(20))
    model = hindsight._trained(small.backbones.random[0], "cpu")
    start = torch.cat([hindsight.drawn(model, batch, number).start for number in range(64)])
    assert len(start.unique(dim=0)) > 0.99 * len(start)
    # Each inner step is as likely as any other to start a patch.
    count, expected = start[:, 1:].flatten().bincount(minlength=48)[1:], len(start) * 5 / 47
    assert (count - expected).abs().max() < 4 * expected**0.5


def test_on_noise_the_gain_of_choosing_is_the_winners_curse(tmp_path: Path) -> None:
    """Where past and future are white noise, the best of 64 looks good and is not."""
    steps = pd.date_range("2020-01-01", periods=2000, freq="h")
    noise = np.random.default_rng(0).standard_normal((2000, 2))
    pd.DataFrame({"date": steps, "a": noise[:, 0], "b": noise[:, 1]}).to_csv(
        tmp_path / "noise.csv", index=False
    )
    job = Job(
        "tiny", "random_step", Task("noise", 32, 8, 6), 1, architecture=PLANTED,
        budget=Budget(epochs=1, steps=5, batch=8), source=Source(tmp_path / "noise.csv", "h", 24),
    )  # fmt: skip
    finished = [trained(replace(job, seed=seed), tmp_path) for seed in (1, 2, 3, 4)]
    (found,), _ = hindsight.find(finished, "tiny", tmp_path)
    gain, corrected = gains(hindsight.measure(found, directories=(), sample=100))
    assert gain > 20
    assert abs(corrected) < 0.1 * gain


def test_where_boundaries_decide_the_choice_holds_on_another_backbone(tmp_path: Path) -> None:
    """On ordinal series a plan that one backbone likes is good for the other."""
    job = Job(
        "tiny", "random_step", Task("ordinal", 96, 24, 12), 1, architecture=PLANTED,
        budget=Budget(epochs=1, steps=100, learning_rate=3e-3, schedule="constant"),
    )  # fmt: skip
    finished = [trained(replace(job, seed=seed), tmp_path) for seed in (1, 2)]
    (found,), _ = hindsight.find(finished, "tiny", tmp_path)
    table = hindsight.measure(found, directories=(), sample=100)
    gain, corrected = gains(table)
    assert 10 < corrected < gain
    assert table.mse_uniform.isna().all()


# --- what is missing -----------------------------------------------------------------------------


def test_what_there_is_to_do_is_said(small: Done, tmp_path: Path) -> None:
    """No run, one seed, or rows without weights: each is said, with what to type."""
    one = [run for run in small.finished if run[0].seed == 1]
    typed = "run make bench SUITE=small METHODS=random_step,uniform"
    for finished, runs, message in (
        ([], small.runs, f"no finished run of random_step: {typed} first"),
        (one, small.runs, f"one seed of random_step, .* {typed} with two seeds"),
        (small.finished, tmp_path, f"rows of random_step, but {tmp_path} .* {typed} FORCE=1"),
    ):
        with pytest.raises(ValueError, match=message):
            hindsight.find(finished, "small", runs)


def test_a_task_without_weights_costs_the_others_nothing(small: Done) -> None:
    """It is named, and what has weights is measured; a run that diverged is none."""
    job, record = small.finished[-1]
    longer = replace(job, task=replace(job.task, horizon=24))
    lost = [(replace(longer, seed=seed), replace(record, key=f"{seed}")) for seed in (1, 2)]
    (found,), left_out = hindsight.find([*small.finished, *lost], "small", small.runs)
    assert found == small.backbones
    why = "two seeds of random_step are needed; 2 finished, weights of 0 in"
    assert left_out == [f"mitdb 48->24 K=6: {why} {small.runs}"]
    diverged = [*small.finished[:-1], (job, replace(record, status="diverged"))]
    ((found,), _) = hindsight.find(diverged, "small", small.runs)
    assert [run.job.seed for run in found.random] == [1, 2]


def test_weights_of_other_code_are_refused(small: Done, tmp_path: Path) -> None:
    """Of another size, or damaged: the message names the file and says what to type."""
    wider = replace(small.backbones.random[0].job, architecture=Architecture(width=16))
    damaged = tmp_path / "weights.pt"
    damaged.write_bytes(b"no weights")
    first, *others = small.backbones.random
    for broken in (replace(first, job=wider), replace(first, weights=damaged)):
        found = hindsight.Backbones((broken, *others))
        with pytest.raises(ValueError, match=r"weights\.pt does not fit .* FORCE=1"):
            hindsight.measure(found, directories=())


@pytest.mark.parametrize("nothing", [{"plans": 0}, {"sample": 0}])
def test_no_plan_or_no_window_is_refused(small: Done, nothing: dict[str, int]) -> None:
    """There would be nothing to choose from, or nothing to average."""
    with pytest.raises(ValueError, match="one of each is the least"):
        hindsight.measure(small.backbones, directories=(), **nothing)  # type: ignore[arg-type]  # the other options are not numbers


# --- what is kept and shown ----------------------------------------------------------------------


def test_a_task_measured_again_replaces_its_lines(measured: pd.DataFrame, tmp_path: Path) -> None:
    """Lines of other tasks stay as they are, to the last digit; the order is fixed."""
    path = tmp_path / "hindsight" / "curve.csv"
    other = measured.assign(horizon=6, mse_chosen=0.1 + 0.2, mse_uniform=np.nan)
    hindsight.write(path, measured)
    hindsight.write(path, other)
    fewer = measured[measured.plans <= 2].sample(frac=1, random_state=0)
    table = hindsight.write(path, fewer)
    assert table.horizon.value_counts().to_dict() == {6: 12, 12: 6}
    assert set(table[table.horizon == 6].mse_chosen) == {0.1 + 0.2}
    kept = pd.read_csv(path, float_precision="round_trip")
    pd.testing.assert_frame_equal(kept, table, check_exact=True)
    again = path.read_bytes()
    hindsight.write(path, measured[measured.plans <= 2])
    assert path.read_bytes() == again


def test_the_picture_has_a_panel_a_task(measured: pd.DataFrame) -> None:
    """Thin lines for the pairs and a thick one for each mean; uniform only where it has runs."""
    bare = measured.assign(horizon=6, mse_uniform=np.nan)
    first, second = figures.hindsight(pd.concat([measured, bare])).axes
    assert [axes.get_title("left") for axes in (first, second)] == ["mitdb H=12", "mitdb H=6"]
    assert len(first.lines) == 3 * (3 + 1) + 1
    assert len(second.lines) == 3 * (3 + 1)
    average = measured.groupby("plans").mse_chosen.mean()
    assert np.asarray(first.lines[3].get_xdata()).tolist() == [1, 2, 4, 8]
    assert np.asarray(first.lines[3].get_ydata()) == pytest.approx(average.to_numpy())
    assert np.asarray(first.lines[-1].get_ydata())[0] == pytest.approx(measured.mse_uniform[0])


def test_the_verb_writes_shows_and_leaves_the_rows_alone(
    small: Done,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Curve and picture lie in a folder of their own, which the leaderboard does not read."""
    results = tmp_path / "results"
    shutil.copytree(small.place / "results", results)
    monkeypatch.setattr(options, "SUITES", small.place / "suites")
    words = ["--suite", "small", "--plans", "4", "--windows", "20", "--results", str(results)]
    monkeypatch.setattr(sys, "argv", ["harness", "hindsight", *words, "--device", "cpu"])
    with pytest.raises(SystemExit) as end:
        verbs.main()
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "never ranked" in out
    table = pd.read_csv(results / "small" / "hindsight" / "curve.csv")
    assert table.plans.tolist() == [1, 2, 4] * 3
    assert f"{table[table.plans == 4].mse_chosen.mean():.4f}" in out
    assert (results / "small" / "hindsight" / "curve.svg").exists()
    assert set(read_table(results / "small").method) == {"uniform", "random_step"}
