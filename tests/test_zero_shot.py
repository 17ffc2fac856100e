"""Published zero-shot tasks: made of their files, admitted by their published naive error."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_cases import TASK, item, small_cases

from harness import data
from harness.zero_shot import gate, recipes, tasks
from harness.zero_shot.cases import cut
from harness.zero_shot.scores import score
from harness.zero_shot.tasks import SourceFile


def test_there_are_54_tasks_of_three_benchmarks() -> None:
    """12, 14 and 28, each with files and a recipe that are known, and of one family."""
    found = tasks.tasks()
    assert Counter(task.benchmark for task in found.values()) == {
        "fev-bench": 12,
        "chronos-II": 14,
        "gift-eval": 28,
    }
    assert Counter(task.family for task in found.values())["ett"] == 22
    assert {file.file for task in found.values() for file in task.sources} == set(tasks.files())
    assert {task.recipe for task in found.values()} == set(recipes.RECIPES)
    assert all(len(file.pinned) == 64 for file in tasks.files().values())


def test_an_unknown_task_is_told_its_nearest() -> None:
    """A misspelt name is met with the one that was meant."""
    with pytest.raises(ValueError, match="did you mean 'gift-eval/ett1/H/short'"):
        tasks.find("gift-eval/ett1/H/shrt")


@pytest.mark.parametrize("name", tasks.tasks())
def test_the_seasonal_naive_of_every_task_is_the_published_one(
    name: str, data_folder: Path
) -> None:
    """The gate lets each of the 54 pass: MASE and quantile metric of its naive agree to 1e-6."""
    cases = gate.admit(tasks.find(name), [data_folder])
    assert all(case.future.shape == (cases.task.horizon,) for case in cases)
    assert len(cases) % cases.task.windows == 0


@pytest.mark.parametrize("name", [name for name in tasks.tasks() if name.startswith("gift-eval/")])
def test_windows_of_gift_eval_follow_its_rule(name: str, data_folder: Path) -> None:
    """A tenth of the shortest series, at least one window and at most 20; of m4 always one."""
    task = tasks.find(name)
    shortest = min(len(found.values) for found in recipes.items(task, [data_folder]))
    by_rule = min(max(1, int(np.ceil(0.1 * shortest / task.horizon))), 20)
    assert task.windows == (1 if task.family == "m4" else by_rule)
    assert task.tail == task.windows * task.horizon


# --- files that are missing or altered ----------------------------------------------------------


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The error has the file, and where it was looked for."""
    with pytest.raises(FileNotFoundError, match=r"monash/hospital.parquet") as refusal:
        gate.admit(tasks.find("fev-bench/hospital"), [tmp_path])
    assert str(tmp_path) in str(refusal.value)


def test_an_altered_file_is_named(tmp_path: Path, data_folder: Path) -> None:
    """One value that differs by its last bit is enough."""
    frame = pd.read_parquet(data_folder / "monash/us_births.parquet")
    values = frame["target"].to_numpy(copy=True)
    values[0] = np.nextafter(values[0], 0)
    (tmp_path / "monash").mkdir()
    frame.assign(target=values).to_parquet(tmp_path / "monash/us_births.parquet", index=False)
    with pytest.raises(ValueError, match=r"is not monash/us_births.parquet") as refusal:
        gate.admit(tasks.find("gift-eval/us_births/M/short"), [tmp_path])
    assert str(tmp_path) in str(refusal.value)


def test_another_recipe_is_refused(data_folder: Path) -> None:
    """Hourly ETTm is not ETTh: the naive error tells, and the refusal names the files."""
    task = tasks.find("gift-eval/ett1/H/short")
    assert gate.admit(task, [data_folder])
    other = replace(task, files="ltsf/ETTh1.parquet", recipe="as_it_is")
    with pytest.raises(ValueError, match="is refused") as refusal:
        gate.admit(other, [data_folder])
    assert "ltsf/ETTh1.parquet differ" in str(refusal.value)
    assert f"{task.naive_mase:.10g} is published" in str(refusal.value)


def test_another_naive_score_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files as they should be, and another score than the published one: both are named."""
    clock = pd.date_range("2020-01-01", periods=40, freq="h")
    values = np.random.default_rng(0).normal(size=40)
    pd.DataFrame({"date": clock, "a": values}).to_csv(tmp_path / "tiny.csv", index=False)
    digest = data.read_panel(tmp_path / "tiny.csv")[1]
    source = SourceFile("tiny.csv", "tiny", "none", hash=digest)
    monkeypatch.setattr(tasks, "files", lambda: {"tiny.csv": source})
    task = replace(TASK, files="tiny.csv")
    with pytest.raises(ValueError, match=r"tiny is refused: .* 1 is published") as refusal:
        gate.admit(task, [tmp_path])
    assert "tiny.csv differ" in str(refusal.value)
    made = cut(task, recipes.items(task, [tmp_path]))
    right = score(made, gate.seasonal_naive(made))
    own = replace(task, naive_mase=right.mase, naive_quantile=right.quantile)
    assert len(gate.admit(own, [tmp_path])) == 2
    for name, metric in (("naive_mase", "MASE"), ("naive_quantile", "CRPS")):
        near = getattr(own, name) * (1 + 9e-7)
        assert gate.admit(replace(own, **{name: near}), [tmp_path])
        far = getattr(own, name) * (1 + 2e-6)
        with pytest.raises(ValueError, match=f"naive has a {metric} of"):
            gate.admit(replace(own, **{name: far}), [tmp_path])


def test_files_may_lie_flat(tmp_path: Path, data_folder: Path) -> None:
    """A folder without sub-folders will do."""
    shutil.copy(data_folder / "monash/us_births.parquet", tmp_path)
    assert len(gate.admit(tasks.find("gift-eval/us_births/M/short"), [tmp_path])) == 2


# --- panels --------------------------------------------------------------------------------------


def long_frame() -> pd.DataFrame:
    """Two series of two and three values, one after the other."""
    clock = pd.date_range("2020-01-01", periods=3, freq="MS")
    return pd.DataFrame(
        {
            "item_id": ["a", "a", "b", "b", "b"],
            "timestamp": [*clock[:2], *clock],
            "target": [1.0, 2.0, 3.0, np.nan, 5.0],
        }
    )


def test_a_long_file_is_taken_apart(tmp_path: Path) -> None:
    """Each item is a series with its own stamps; gaps stay NaN; csv and parquet are the same."""
    long_frame().to_parquet(tmp_path / "a.parquet", index=False)
    long_frame().to_csv(tmp_path / "a.csv", index=False)
    channels, digest = data.read_panel(tmp_path / "a.parquet")
    assert [channel.name for channel in channels] == ["a", "b"]
    np.testing.assert_array_equal(channels[1].values, [3.0, np.nan, 5.0])
    assert channels[1].stamps.view("datetime64[us]")[0] == np.datetime64("2020-01-01")
    assert data.read_panel(tmp_path / "a.csv")[1] == digest


def test_any_form_of_a_file_will_do(tmp_path: Path) -> None:
    """What is known of a file is of its values: a csv is found in the place of a parquet file."""
    (tmp_path / "any").mkdir()
    long_frame().to_csv(tmp_path / "any/a.csv.gz", index=False)
    digest = data.read_panel(tmp_path / "any/a.csv.gz")[1]
    assert len(data.load_panel("monash/a.parquet", [tmp_path], digest)) == 2


def test_the_hash_of_a_long_file_knows_which_series_a_value_is_of(tmp_path: Path) -> None:
    """The same values and stamps under other items are another file."""
    hashes = set()
    for items in ("aabbb", "aabbc", "xxbbb", "aaabb"):
        long_frame().assign(item_id=list(items)).to_parquet(tmp_path / "a.parquet", index=False)
        hashes.add(data.read_panel(tmp_path / "a.parquet")[1])
    assert len(hashes) == 4


def test_a_long_file_in_pieces_is_refused(tmp_path: Path) -> None:
    """An item whose values do not lie one after the other would become two series."""
    long_frame().assign(item_id=list("abbba")).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match=r"a\.csv: the values of item 'a' are not one after"):
        data.read_panel(tmp_path / "a.csv")


def test_a_file_of_neither_form_is_refused(tmp_path: Path) -> None:
    """What is needed and what is there is said."""
    long_frame().drop(columns="item_id").to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match="has no column 'date'"):
        data.read_panel(tmp_path / "a.csv")
    long_frame().drop(columns="target").to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(ValueError, match="has no column 'target'"):
        data.read_panel(tmp_path / "a.csv")


def test_a_file_of_the_catalogue_has_one_hash(data_folder: Path) -> None:
    """What is known of a published set is not written down again: the catalogue has its hash."""
    found = tasks.files()["ltsf/ETTh1.parquet"]
    assert found.hash is None
    assert found.pinned == data.CATALOGUE["ETTh1"].hash
    assert data.load_panel(found.file, [data_folder], found.pinned)[0].is_column


# --- recipes ------------------------------------------------------------------------------------


def series(start: str, periods: int, frequency: str) -> pd.Series:
    """0, 1, 2, ... on a clock."""
    clock = pd.date_range(start, periods=periods, freq=frequency)
    return pd.Series(np.arange(float(periods)), index=clock)


def test_recipes_over_days_drop_what_is_not_whole() -> None:
    """gift-eval drops the last day, fev-bench the first, too; its weeks begin on Monday."""
    hours = series("2020-01-01 06:00", 24 * 30, "h")  # a Wednesday; the last day has six hours
    assert len(recipes.daily_mean(hours)) == 30
    assert len(recipes.inner_days(hours)) == 29
    assert recipes.inner_days(hours).iloc[0] == np.arange(18, 42).mean()
    weeks = recipes.whole_weeks(hours)
    assert [str(stamp.date()) for stamp in weeks.index] == [
        "2020-01-12",
        "2020-01-19",
        "2020-01-26",
    ]
    assert weeks.iloc[0] == pytest.approx(np.arange(114, 114 + 168).mean())


def test_recipes_over_weeks_end_on_their_day() -> None:
    """Births add up to Tuesday, the river's mean is up to Thursday; the last week is dropped."""
    days = series("2020-01-01", 21, "D")
    births, river = recipes.tuesday_week_sum(days), recipes.thursday_week_mean(days)
    assert births.tolist() == [sum(range(7)), sum(range(7, 14))]
    assert river.tolist() == [0.5, 5.0, 12.0]
    assert {stamp.day_name() for stamp in births.index} == {"Tuesday"}
    assert {stamp.day_name() for stamp in river.index} == {"Thursday"}


def test_the_regular_grid_of_weather_has_gaps_and_no_double() -> None:
    """The first of two equal stamps stays, missing steps are NaN and sentinels are values."""
    steps = series("2020-01-01 00:10", 13, "10min").drop(pd.Timestamp("2020-01-01 00:40"))
    steps.iloc[0] = -9999
    twice = pd.concat([steps.iloc[:2], steps.iloc[1:2] + 100, steps.iloc[2:]])
    grid = recipes.regular_grid(twice)
    np.testing.assert_array_equal(grid, [-9999, 1, 2, np.nan, *np.arange(4.0, 13)])
    hours = recipes.regular_grid_hourly(twice)
    np.testing.assert_allclose(hours, [(-9999 + 1 + 2 + 4) / 4, np.arange(5.0, 11).mean()])


def test_an_unknown_recipe_is_refused() -> None:
    """The error has the task and the nearest recipe."""
    with pytest.raises(
        ValueError, match="tiny: unknown recipe 'as_it_was'; did you mean 'as_it_is'"
    ):
        recipes.items(replace(TASK, recipe="as_it_was"), [])


def test_values_are_in_single_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in all three benchmarks; columns that are not to be forecast are left out."""
    clock = pd.date_range("2020-01-01", periods=9, freq="h")
    frame = pd.DataFrame({"date": clock, "OT": np.arange(9) / 3, "load": 1.0})
    frame.to_parquet(tmp_path / "tiny.parquet", index=False)
    digest = data.read_panel(tmp_path / "tiny.parquet")[1]
    source = SourceFile("tiny.parquet", "tiny", "none", channel="OT", hash=digest)
    monkeypatch.setattr(tasks, "files", lambda: {"tiny.parquet": source})
    [found] = recipes.items(TASK, [tmp_path])
    assert (found.name, found.channel, str(found.start)) == ("tiny/OT", "OT", "2020-01-01 00:00")
    assert found.values.dtype == np.float32


# --- cases ---------------------------------------------------------------------------------------


def test_windows_follow_each_other_to_the_end() -> None:
    """Each past goes up to its future, and the last future is the end of the series."""
    cases = cut(TASK, [item(np.arange(20.0)), item(np.arange(30.0), "b")])
    assert [case.window for case in cases] == [0, 1, 0, 1]
    first, second = cases.cases[:2]
    assert (len(first.past), first.future.tolist()) == (14, [14, 15, 16])
    assert (len(second.past), second.future.tolist()) == (17, [17, 18, 19])
    assert [str(case.start) for case in (first, second)] == [
        "2020-01-01 14:00",
        "2020-01-01 17:00",
    ]
    assert cases.cases[3].future.tolist() == [27, 28, 29]


def test_a_task_may_end_before_its_series() -> None:
    """Of Chronos' ETTm the 24 steps from 96 before the end are forecast, the rest is not used."""
    [case] = cut(replace(TASK, windows=1, tail=9), [item(np.arange(20.0))]).cases
    assert (len(case.past), case.future.tolist()) == (11, [11, 12, 13])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(13.0), "7 steps before the first forecast; at least two seasons of 4"),
        (np.arange(5.0), "0 steps before the first forecast"),
        (np.r_[[np.nan] * 10, np.arange(6.0)], "no value before the first forecast is a finite"),
        (np.r_[[7.5] * 10, np.arange(6.0)], "all values before the first forecast are 7.5"),
        (np.r_[7.5, [np.nan] * 8, 7.5, np.arange(6.0)], "all values .* are 7.5"),
    ],
    ids=["short", "shorter than its windows", "all NaN", "constant", "constant with gaps"],
)
def test_a_series_without_a_scale_is_refused_by_name(values: np.ndarray, message: str) -> None:
    """Too short, empty or constant: one line that names task and item."""
    with pytest.raises(ValueError, match=message) as refusal:
        cut(TASK, [item(np.arange(20.0)), item(values, "b")])
    assert str(refusal.value).startswith("gift-eval/tiny, item 'b': ")
    assert "\n" not in str(refusal.value)


def test_the_seasonal_naive_repeats_the_last_season() -> None:
    """Over its length, and past gaps, where the value before counts; Chronos' has no spread."""
    past = np.r_[np.arange(16.0), np.nan]
    task = replace(TASK, benchmark="chronos-II", windows=1, tail=6, horizon=6)
    naive = gate.seasonal_naive(cut(task, [item(np.r_[past, np.zeros(6)])]))
    assert naive.shape == (1, 9, 6)
    assert (naive == [13, 14, 15, 15, 13, 14]).all()


def test_the_spread_of_the_seasonal_naive_grows_with_the_seasons() -> None:
    """Seasonal differences of 3 and 1 are 2.236 wide, and the root of 2 more a season later.

    fev-bench takes them from the last 1,000 steps alone, GIFT-Eval from all.
    """
    past = np.zeros(2000)
    past[:1000:2], past[1000::2] = np.arange(500) * 3.0, np.arange(500) * 1.0
    past[1::2] = past[::2]
    values = np.r_[past, np.zeros(4)]
    upper = {}
    for benchmark in ("fev-bench", "gift-eval"):
        task = replace(TASK, benchmark=benchmark, season=2, horizon=4, windows=1, tail=4)
        naive = gate.seasonal_naive(cut(task, [item(values)]))[0]
        assert (naive[4] == 499).all()
        upper[benchmark] = naive[8] - naive[4]
    one, two = 1.2815515655 * np.array([1, np.sqrt(2)])  # the 90 % quantile of a normal
    np.testing.assert_allclose(upper["fev-bench"], [one, one, two, two])
    squares = np.r_[np.full(998, 9.0), np.full(2, 1497.0**2), np.ones(998)]
    width = np.sqrt(squares.mean())
    np.testing.assert_allclose(upper["gift-eval"], width * np.array([one, one, two, two]))


def test_gaps_are_filled_from_the_left() -> None:
    """Nothing of what comes after a gap is used in it."""
    np.testing.assert_array_equal(
        data.filled(np.array([np.nan, 1, np.nan, np.nan, 4])), [np.nan, 1, 1, 1, 4]
    )


def test_cases_are_stacked_for_scoring() -> None:
    """Futures [case, step], in double precision."""
    cases = small_cases()
    assert cases.futures.shape == (len(cases), 3)
    assert cases.futures.dtype == np.float64
