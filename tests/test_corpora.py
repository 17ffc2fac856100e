"""Corpora to pre-train on: described, drawn, and rows sampled from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from harness import data
from harness.data import Corpus, Pool, Sampler, synthetic
from harness.data.corpora import LARGEST_SHARE, Member, Synthetic, shares
from harness.data.sampling import DECIMATIONS, HORIZON, LONGEST, SHORTEST

CORPORA = sorted((Path(__file__).parents[1] / "suites" / "corpora").glob("*.toml"))

MEMBER = """
description = "one file"
[members."pool/waves.parquet"]
family = "waves"
licence = "none"
hash = "{hash}"
"""


def write_waves(folder: Path) -> str:
    """A member of three channels; its value hash."""
    clock = pd.date_range("2020-01-01", periods=900, freq="h")
    waves = {f"wave {period}": np.sin(np.arange(900) / period) for period in (3, 5, 8)}
    (folder / "pool").mkdir()
    pd.DataFrame({"date": clock} | waves).to_parquet(folder / "pool/waves.parquet", index=False)
    return data.read_panel(folder / "pool/waves.parquet")[1]


def write_corpus(folder: Path, text: str) -> Path:
    """A corpus file."""
    (folder / "corpus.toml").write_text(text)
    return folder / "corpus.toml"


# --- what a corpus is ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", CORPORA, ids=lambda path: path.stem)
def test_committed_corpora_can_be_read(path: Path) -> None:
    """Each has what it is made of, and a hash of its own."""
    corpus = data.read_corpus(path)
    assert corpus.members or corpus.synthetic
    assert len(corpus.hash) == 64


def test_the_open_corpus_is_what_its_hashes_say(data_folder: Path) -> None:
    """All 16 files have the values that were hashed; Beijing's air has 15 % of their rows."""
    corpus = data.read_corpus(CORPORA[0])
    *pools, drawn = data.load_corpus(corpus, [data_folder])
    assert CORPORA[0].stem == "open"
    assert len(pools) == 16
    assert sum(len(one) for pool in pools for one in pool.series) > 7e6
    assert (drawn.name, drawn.share, len(drawn.series)) == ("synthetic-1", 0.3, 10_000)
    largest = max(pools, key=lambda pool: pool.share)
    assert largest.name == "pool/beijing_air_quality.parquet"
    assert largest.share == pytest.approx(0.7 * LARGEST_SHARE)


def test_a_member_is_loaded_with_its_share(tmp_path: Path) -> None:
    """Names, series in single precision, their hours, and the whole share for the only one."""
    corpus = data.read_corpus(write_corpus(tmp_path, MEMBER.format(hash=write_waves(tmp_path))))
    [pool] = data.load_corpus(corpus, [tmp_path])
    assert (pool.name, pool.share) == ("pool/waves.parquet", 1)
    assert pool.names == ("wave 3", "wave 5", "wave 8")
    assert {one.dtype for one in pool.series} == {np.dtype("float32")}
    assert pool.spacing == 3600
    assert corpus.families == {"waves"}


def test_a_member_that_is_missing_or_altered_is_named(tmp_path: Path) -> None:
    """The file that is not there, or holds other values."""
    corpus = data.read_corpus(write_corpus(tmp_path, MEMBER.format(hash="0" * 64)))
    with pytest.raises(FileNotFoundError, match=r"not here: pool/waves\.parquet"):
        data.load_corpus(corpus, [tmp_path])
    write_waves(tmp_path)
    with pytest.raises(ValueError, match=r"is not pool/waves\.parquet: some value"):
        data.load_corpus(corpus, [tmp_path])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("description = ", "Invalid value"),
        ('description = "x"', "members are missing, and nothing synthetic"),
        (MEMBER + "licens = 1", "licens"),
        (MEMBER.replace("family", "famly"), "famly.*did you mean 'family'"),
        ('description = "x"\n[synthetic]\nseed = 1\nseries = 0', "series is 0; at least one"),
        ('description = "x"\n[synthetic]\nseed = 1\nseries = 9\nshare = 0.0', "share is 0.0"),
        ('description = "x"\n[synthetic]\nseed = 1\nseries = 9\nshare = 0.5', "share is below 1"),
        (MEMBER + "[synthetic]\nseed = 1\nseries = 9", "share is below 1 if there are members"),
    ],
)
def test_a_corpus_file_with_a_mistake_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The error has the file, and what is wrong in it."""
    path = write_corpus(tmp_path, text)
    with pytest.raises(ValueError, match=message) as refusal:
        data.read_corpus(path)
    assert str(path) in str(refusal.value)


def test_the_hash_of_a_corpus_is_of_its_values() -> None:
    """Another value, seed, number or share is another corpus; another word or order is not."""
    members = {name: Member("f", "l", name * 64) for name in "ab"}
    drawn = Synthetic(seed=1, series=10, share=0.5)
    corpus = Corpus("x", members, drawn)
    others = [
        replace(corpus, members={"a": members["a"]}),
        replace(corpus, members=members | {"a": Member("f", "l", "c" * 64)}),
        replace(corpus, members={"a": members["b"], "b": members["a"]}),
        *(replace(corpus, synthetic=replace(drawn, **{name: 9})) for name in ("seed", "series")),
        replace(corpus, synthetic=replace(drawn, share=0.25)),
    ]
    assert len({corpus.hash, *(other.hash for other in others)}) == 7
    backwards = dict(reversed(members.items()))
    assert Corpus("y", backwards, drawn).hash == corpus.hash


def test_shares_go_by_the_root_and_none_is_too_large() -> None:
    """What the largest has too much goes to the others in proportion to their roots."""
    counts = [10_000, *([100] * 8), 400]
    found = shares(counts)
    assert sum(found) == pytest.approx(1)
    assert found[0] == LARGEST_SHARE
    assert found[-1] == LARGEST_SHARE  # only once the first has given away what it had too much
    assert found[1:9] == pytest.approx([0.7 / 8] * 8)
    assert shares([100] * 8 + [225]) == pytest.approx([0.85 / 8] * 8 + [0.15])
    assert shares([100] * 10 + [400] * 2) == pytest.approx([1 / 14] * 10 + [1 / 7] * 2)
    assert shares([4, 9]) == [0.5, 0.5]
    assert shares([]) == []


# --- drawn series --------------------------------------------------------------------------------


def test_drawn_series_depend_on_seed_and_number_alone() -> None:
    """Whatever was drawn before; no two are alike."""
    forwards = [synthetic.draw(1, number) for number in range(10)]
    backwards = [synthetic.draw(1, number) for number in reversed(range(10))][::-1]
    assert all((one == other).all() for one, other in zip(forwards, backwards, strict=True))
    assert len({one.tobytes() for one in [*forwards, synthetic.draw(2, 0)]}) == 11


@pytest.mark.parametrize("number", range(48))
def test_drawn_series_are_finite_and_move(number: int) -> None:
    """Of each kind, eight draws: 1,024 steps, no step without a number, none that stand still."""
    drawn = synthetic.draw(7, number)
    assert drawn.shape == (synthetic.LENGTH,)
    assert np.isfinite(drawn).all()
    assert drawn.std() > 0.01


def test_a_smooth_process_has_the_covariance_of_its_kernel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over many draws the sum of waves has variance 1, and at a length scale exp(-1/2) of it."""
    monkeypatch.setattr(synthetic, "SCALES", (16, 16))
    draws = np.stack([synthetic._smooth(np.random.default_rng(seed)) for seed in range(800)])
    assert (draws**2).mean() == pytest.approx(1, abs=0.06)
    assert (draws[:, 16:] * draws[:, :-16]).mean() == pytest.approx(np.exp(-0.5), abs=0.06)


def test_walks_drift_and_grow() -> None:
    """Half of them by factors, so above 0; and most get further than ten of their own steps."""
    found = [synthetic.walks(np.random.default_rng(seed)) for seed in range(300)]
    assert np.mean([walk.min() > 0 for walk in found]) == pytest.approx(0.55, abs=0.1)
    yearly = [walk[::12] for walk in found]
    far = [np.ptp(walk) / np.abs(np.diff(walk)).mean() for walk in yearly]
    assert np.median(far) > 10


def test_a_fading_sum_is_that_of_its_recursion() -> None:
    """Each step keeps a share of what was, and adds its value."""
    values = np.random.default_rng(0).normal(size=synthetic.LENGTH)
    sums = [0.0]
    for value in values:
        sums.append(0.9 * sums[-1] + value)
    np.testing.assert_allclose(synthetic._faded(values, 0.9), sums[1:], atol=1e-8)


def test_drawn_series_have_an_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the code that draws, the seed and the number, not of digits."""
    found = {synthetic.identity(1, 10), synthetic.identity(2, 10), synthetic.identity(1, 11)}
    monkeypatch.setattr(synthetic, "_source", lambda: "other code")
    assert len(found | {synthetic.identity(1, 10)}) == 4


# --- rows ----------------------------------------------------------------------------------------


def pool(*series: NDArray[np.floating], share: float = 1.0, name: str = "pool") -> Pool:
    """A member of these series."""
    names = tuple(str(number) for number in range(len(series)))
    return Pool(name, share, names, tuple(one.astype(np.float32) for one in series))


def ramp(steps: int = 2000) -> NDArray[np.float64]:
    """1, 2, 3, ..."""
    return np.arange(1.0, steps + 1)


def test_rows_are_stretches_of_their_series() -> None:
    """Each is scaled, perhaps flipped, at one of the decimations, and padded at the left.

    Of a sine, a value is its neighbours' sum divided by twice the cosine of a step.
    """
    sine = np.sin(2 * np.pi * np.arange(50_000) / 200)
    sample = Sampler([pool(sine)]).draw(300, np.random.default_rng(0))
    lengths = sample.known.sum(1)
    assert (lengths.min(), lengths.max()) == (
        pytest.approx(SHORTEST, abs=9),
        pytest.approx(512, abs=9),
    )
    decimations, sizes = set(), []
    for past, known, future in zip(sample.past, sample.known, sample.future, strict=True):
        assert not known[: LONGEST - known.sum()].any()
        assert (past[~known] == 0).all()
        row = np.concatenate([past[known], future]).astype(np.float64)
        middle, beside = row[1:-1], row[:-2] + row[2:]
        cosine = middle @ beside / (middle @ middle) / 2
        np.testing.assert_allclose(beside, 2 * cosine * middle, atol=1e-4 * np.abs(row).max())
        decimations.add(round(float(np.arccos(cosine)) * 200 / (2 * np.pi)))
        sizes.append(np.abs(row).max())
    assert decimations == set(DECIMATIONS)
    assert np.std(np.log(sizes)) == pytest.approx(0.5, abs=0.1)
    assert sample.scored.all()


def test_half_of_the_rows_are_flipped() -> None:
    """A series that rises falls in every second row."""
    sample = Sampler([pool(ramp())]).draw(300, np.random.default_rng(0))
    assert (sample.future[:, -1] < sample.future[:, 0]).mean() == pytest.approx(0.5, abs=0.1)


def test_the_same_generator_draws_the_same_rows() -> None:
    """Nothing else is random."""
    sampler = Sampler([pool(ramp(), ramp(900))])
    one, other = (sampler.draw(20, np.random.default_rng(3)) for _ in range(2))
    assert one.past.tobytes() == other.past.tobytes()
    assert one.future.tobytes() == other.future.tobytes()


def test_members_are_drawn_by_their_shares() -> None:
    """One row in four comes of a member with a share of a quarter; here it is the negative one."""
    noise = np.random.default_rng(0).random(2000) + 1
    jumps = np.where(np.arange(2000) % 2, 1.0, 5.0)
    pools = [pool(noise, share=0.75), pool(jumps, share=0.25)]
    sample = Sampler(pools).draw(800, np.random.default_rng(0))
    is_jumps = np.array([len(np.unique(np.abs(row).round(4))) <= 2 for row in sample.future])
    assert is_jumps.mean() == pytest.approx(0.25, abs=0.06)


def test_training_ends_before_the_last_twentieth_and_late_futures_lie_in_it() -> None:
    """Gaps that fill the last twentieth are never trained on, and are all of a late future."""
    series = ramp(4000)
    series[-200:] = np.nan
    train = Sampler([pool(series)]).draw(200, np.random.default_rng(0))
    assert train.scored.all()
    late = Sampler([pool(series)], "late").draw(50, np.random.default_rng(0))
    assert not late.scored.any()
    assert late.known.any(1).all()


def test_every_twentieth_series_is_held_out() -> None:
    """Of forty series two, and these are in no other part."""
    members = pool(*(ramp() for _ in range(40)))
    rest = [number for number in range(40) if number not in (19, 39)]
    for part, expected in (("train", rest), ("late", rest), ("held_out", [19, 39])):
        [(_, found)] = Sampler([members], part)._members  # type: ignore[arg-type]  # a part
        assert found == expected


def test_gaps_in_a_past_are_filled_and_in_a_future_not_scored() -> None:
    """The value before a gap stands in it; a future says where it has none."""
    series = np.random.default_rng(0).random(3000) + 1
    series[::10] = np.nan
    sample = Sampler([pool(series)]).draw(100, np.random.default_rng(0))
    assert 0.05 < 1 - sample.scored.mean() < 0.2
    assert (sample.future[~sample.scored] == 0).all()
    assert np.isfinite(sample.past).all()
    assert (sample.past[sample.known] != 0).all()


def test_a_gap_at_the_start_of_a_past_is_padding() -> None:
    """There is no value before it, so nothing is known there."""
    series = np.concatenate([np.full(20, np.nan), np.random.default_rng(0).random(130) + 1])
    sample = Sampler([pool(series)]).draw(50, np.random.default_rng(0))
    lengths = sample.known.sum(1)
    assert lengths.min() < SHORTEST
    assert (sample.past[sample.known] != 0).all()


def test_rows_with_many_gaps_or_a_constant_past_are_drawn_anew() -> None:
    """Where there is nothing else, the error names the member and the part."""
    gaps, flat = np.random.default_rng(0).random(2000), np.ones(2000)
    gaps[np.random.default_rng(1).random(2000) < 0.5] = np.nan
    for series in (gaps, flat):
        with pytest.raises(
            ValueError, match="bad: of 1000 rows of part 'train' none had few gaps"
        ):
            Sampler([pool(series, name="bad")]).draw(1, np.random.default_rng(0))
    half = np.concatenate([flat, np.random.default_rng(0).random(1000)])
    sample = Sampler([pool(half)]).draw(30, np.random.default_rng(0))
    past = np.where(sample.known, sample.past, np.nan)
    assert (np.nanmin(past, axis=1) < np.nanmax(past, axis=1)).all()


def test_a_corpus_without_a_row_is_refused() -> None:
    """Series too short for any row, or drawn ones, of which the last twentieth is too short."""
    with pytest.raises(ValueError, match="no series of part 'train' holds 128 steps"):
        Sampler([pool(ramp(100))])
    with pytest.raises(ValueError, match="no series of part 'late'"):
        Sampler([pool(synthetic.draw(1, 0))], "late")
    assert HORIZON + LONGEST < synthetic.LENGTH
