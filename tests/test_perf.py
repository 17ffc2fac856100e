"""Measuring speed: a fair opponent, turns taken, a report. What the numbers are is not tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from harness.core.task import Architecture
from harness.model import registry
from harness.results.rows import put_row, read_rows
from harness.run import windows
from harness.run.fit import validation_error
from harness.run.job import build
from harness.studies.perf import (
    contenders,
    conventional,
    kernels,
    measure,
    overheads,
    peers,
    setting,
)
from harness.studies.perf.conventional import Conventional
from harness.studies.perf.race import Spent, Timing, race
from harness.studies.perf.report import Table, report
from harness.studies.perf.setting import Configuration, Stage

SMALL = Configuration(
    Architecture(width=8, heads=2, layers=2, feedforward=12, dropout=0.0),
    steps=1,
    windows=10,
    target=1,
    target_share=0.1,
)


THREADS = torch.get_num_threads()


@pytest.fixture(scope="module")
def stage() -> Stage:
    """A stand-in for ETTh1, since no folder is given."""
    return Stage(setting.find_series([]), "cpu", 2)


def test_both_sides_forecast_the_same_from_the_same_weights(stage: Stage) -> None:
    """The conventional model is ours in other clothes: the same forecasts to 1e-5."""
    assert measure.difference(SMALL.job(), stage) < 1e-5


def test_both_sides_learn_the_same_from_a_batch(stage: Stage) -> None:
    """One batch gives both the same loss, the same gradients and the same running statistics."""
    job = SMALL.job()
    ours = build(registry.find(job.method), job, "cpu").train()
    usual = Conventional.like(ours).train()
    batch = windows.development(stage.series, job.task)[0].batch(torch.arange(3))

    loss = (ours(batch.past, batch.ids).future[0] - batch.future).square().mean()
    future = usual(batch.past.transpose(1, 2)).transpose(1, 2)
    usual_loss = (future - batch.future).square().mean()
    loss.backward()
    usual_loss.backward()

    torch.testing.assert_close(usual_loss, loss)
    gradients = {name: value.grad for name, value in ours.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    expected = conventional._renamed(
        {name: value for name, value in gradients.items() if value is not None}
    )
    for name, value in usual.named_parameters():
        torch.testing.assert_close(value.grad, expected[name], rtol=1e-3, atol=1e-6)
    for name, buffer in usual.named_buffers():
        torch.testing.assert_close(buffer, ours.get_buffer(name))


def test_both_sides_score_the_same_windows(stage: Stage) -> None:
    """Our validation error and the conventional one are the same number."""
    job = SMALL.job()
    model = build(registry.find(job.method), job, "cpu")
    some = contenders.first(windows.development(stage.series, job.task)[1], 5)
    usual = conventional.conventional_error(Conventional.like(model), some, "cpu")
    assert usual == pytest.approx(validation_error(model, some, job.budget), rel=1e-5)


def test_dropout_is_the_same_on_both_sides() -> None:
    """Every dropout of the opponent has the rate that ours was rounded to."""
    job = replace(SMALL.job(), architecture=Architecture(width=8, heads=2, dropout=0.3))
    model = Conventional.like(build(registry.find(job.method), job, "cpu"))
    rates = {part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)}
    assert rates == {77 / 256}


class _EnoughError(Exception):
    pass


@pytest.mark.parametrize("side", [contenders.train, contenders.train_conventionally])
def test_a_round_of_training_is_so_many_steps(
    stage: Stage, side: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two laps each side takes exactly the steps of the configuration."""
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    remove = register_optimizer_step_post_hook(count)
    seen: list[int] = []

    def lap() -> None:
        seen.append(steps)
        if len(seen) == 2:
            raise _EnoughError

    monkeypatch.setattr(setting, "BATCH", 4)
    job = replace(SMALL, steps=3).job()
    try:
        with pytest.raises(_EnoughError):
            side(job, stage, lap)
    finally:
        remove.remove()
    assert seen == [3, 6]


def _write(name: str, path: Path, lap: Callable[[], None]) -> None:
    while True:
        with path.open("a") as file:
            file.write(name)
        lap()


def _fail(lap: Callable[[], None]) -> None:
    lap()
    raise ValueError("no more")


def test_contenders_take_turns(tmp_path: Path) -> None:
    """A warm-up each and then the rounds that count: A B A B, never two of the same in a row."""
    path = tmp_path / "turns"
    timings = race([partial(_write, "A", path), partial(_write, "B", path)], rounds=2)
    assert path.read_text() == "ABABAB"
    assert [len(timing.rounds) for timing in timings] == [2, 2]


def test_a_contender_that_fails_says_why() -> None:
    """An error in a measured process is raised in the measuring one."""
    with pytest.raises(RuntimeError, match="ValueError: no more"):
        race([_fail], rounds=1)


SCRIPT = """\
import sys
from exp.exp_main import Exp_Main
if __name__ == "__main__":
    assert "--d_model" in sys.argv
    Exp_Main(dict(zip(sys.argv[1::2], sys.argv[2::2]))).train("race")
"""
LOOP = """\
from pathlib import Path
import a_package_for_other_tasks
class Exp_Main:
    def __init__(self, options):
        self.options = options
    def _get_data(self, flag):
        table = Path(self.options["--root_path"], self.options["--data_path"]).read_text()
        return table, table.splitlines()
    def vali(self, data, loader, criterion):
        raise AssertionError("a round of training has no validation in it")
    def train(self, setting):
        (table, loader), test = self._get_data("train"), self._get_data("test")
        for epoch in range(int(self.options["--train_epochs"])):
            with Path("steps").open("a") as file:
                file.write(f"{len(list(loader))} of {len(loader)} from {table[:8]}. ")
            self.vali(*test, None)
            self.vali(*test, None)
"""


def test_a_checkout_of_public_code_is_raced_as_it_is(stage: Stage, tmp_path: Path) -> None:
    """Its own script and loop, a round an epoch of so many steps, no validation, our series.

    A package that only its other tasks need may be absent.
    """
    checkout = tmp_path / "PatchTST_supervised"
    (checkout / "exp").mkdir(parents=True)
    (checkout / "run_longExp.py").write_text(SCRIPT)
    (checkout / "exp" / "exp_main.py").write_text(LOOP)
    peer = peers.find(tmp_path)
    assert peer.kind.name == "PatchTST"
    (timing,) = race([partial(peers.train_peer, peer, replace(SMALL, steps=3), stage)], rounds=1)
    assert len(timing.rounds) == 1
    assert (checkout / "steps").read_text() == 2 * "3 of 3 from date,0,1. "


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    """With the code bases that are known, and what they are known by."""
    known = r"no checkout of Time-Series-Library \(run.py\) or PatchTST \(run_longExp.py\)"
    with pytest.raises(ValueError, match=known):
        peers.find(tmp_path)


def test_ratios_are_of_rounds_side_by_side() -> None:
    """Each round is compared with the other's round of the same turn, the warm-up left out."""
    warm = Spent(100.0, 100.0)
    slow = Timing(warm, (Spent(2.0, 3.0), Spent(6.0, 8.0)))
    fast = Timing(warm, (Spent(1.0, 1.0), Spent(2.0, 2.0)))
    assert slow.over(fast) == [2.0, 3.0]
    assert slow.over(fast, "wall") == [3.0, 4.0]
    assert slow.busy == 4.0


def test_a_round_of_products_is_counted_exactly() -> None:
    """Whole products only, together at least the size of a round."""
    shape = (300, 200, 100)
    assert contenders.operations(shape) % (2 * 300 * 200 * 100) == 0
    assert contenders.PRODUCTS <= contenders.operations(shape) < 1.01 * contenders.PRODUCTS


def test_without_etth1_a_random_walk_of_its_shape_takes_its_place(stage: Stage) -> None:
    """The stand-in has ETTh1's rows, channels and borders, and says what it is."""
    series = stage.series
    assert series.values.shape == (17420, 7)
    assert series.borders == (8640, 11520, 14400)
    assert "random walk" in series.name


def test_real_data_are_used_where_they_are(data_folder: Path) -> None:
    """With a data folder the measurements are on ETTh1 itself."""
    assert setting.find_series([data_folder]).name == "ETTh1"


def test_the_report_is_markdown_without_a_date(stage: Stage) -> None:
    """Machine, version and data on top; each table with its title, note and all of its rows."""
    table = Table("Speed", "How fast.", ("what", "ratio"), [("d16", "3.0"), ("d64", "2.0")])
    text = report("Performance", stage, [table])
    assert f"torch {torch.__version__}" in text
    assert stage.series.name in text
    assert "for 2\nrounds" in text
    grid = "| what | ratio |\n| --- | --- |\n| d16 | 3.0 |\n| d64 | 2.0 |\n"
    assert text.endswith(f"## Speed\n\nHow fast.\n\n{grid}")
    assert text == report("Performance", stage, [table])


@pytest.mark.parametrize("only", [False, True])
def test_main_writes_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, only: bool
) -> None:
    """The reports in the results folder are those shown; the cost of patchers can come alone."""
    table = Table("Speed", "How fast.", ("what",), [("d16",)])
    monkeypatch.setattr(measure, "_measured", lambda *given: iter([table]))
    costs = {"uniform": 1.0, "mine": 1.25}
    monkeypatch.setattr(measure, "patching", lambda *given: (table, costs))
    shown: list[str] = []
    measure.main(tmp_path, rounds=1, only_patchers=only, show=shown.append)
    assert (tmp_path / "perf.md").exists() is not only
    assert (tmp_path / "cost.md").read_text() == shown[-1]
    assert str(table) in shown[-1]
    assert (tmp_path / "cost.csv").read_text() == "method,ratio\nuniform,1.000\nmine,1.250\n"


def test_overheads_are_of_records_that_can_be_stored(tmp_path: Path) -> None:
    """The rows whose storing is timed are real records: written, read back, equal."""
    record = overheads._record(1)
    assert record.status == "done"
    put_row(tmp_path / "rows.csv", record)
    assert read_rows(tmp_path / "rows.csv") == [record]


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("aten::addmm", "matrix products"),
        ("aten::convolution_backward", "matrix products"),
        ("aten::_softmax_backward_data", "softmax"),
        ("aten::gelu_backward", "GELU"),
        ("aten::native_dropout", "dropout"),
        ("aten::ge", "dropout"),
        ("aten::var_mean", "norms"),
        ("aten::copy_", "copies"),
        ("aten::searchsorted", "choosing"),
        ("aten::_fused_adam_", "optimiser"),
        ("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", "loading"),
        ("aten::addcmul", kernels.REST),
        ("aten::gerund", kernels.REST),
    ],
)
def test_a_kernel_is_of_one_kind(kernel: str, kind: str) -> None:
    """By its name: short names count as a whole, so that "ge" is in nothing else."""
    assert kernels.kind(kernel) == kind


def test_time_is_told_by_kind_of_kernel_and_by_round() -> None:
    """Of so many rounds after the first ones; a work that multiplies spends its time there."""
    matrix, laps = torch.rand(300, 300), 0

    def work(lap: Callable[[], None]) -> None:
        nonlocal laps
        while True:
            laps += 1
            for _ in range(20):
                matrix @ matrix
            lap()

    spent = kernels.spent_in(work, 4, "cpu")
    assert laps == kernels.BEFORE + 4
    assert list(spent) == [*kernels.KINDS, kernels.REST]
    assert spent["matrix products"] > 0.5 * sum(spent.values())
    assert spent["softmax"] == 0


def test_where_the_time_goes_is_in_milliseconds_of_a_step(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides of each size, then the shared forecaster with equal and with learned patches."""
    seconds = dict.fromkeys([*kernels.KINDS, kernels.REST], 0.0) | {"softmax": 0.006, "GELU": 0.01}
    monkeypatch.setattr(measure, "spent_in", lambda work, rounds, device: seconds)
    two_steps = replace(SMALL, steps=2)
    table = measure.where(stage, [two_steps])
    assert [line[1] for line in table.lines] == ["ours", "the loop above", "uniform", "reinpatch"]
    cells = dict(zip(table.header, table.lines[0], strict=True))
    assert (cells["softmax"], cells["GELU"], cells["copies"]) == ("3", "5", "0")
    assert cells["together"] == "8"
    assert torch.get_num_threads() == THREADS
