"""What is peculiar to the rules on a frozen signal, and to granularity by region."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.core.task import Architecture, Budget, Task
from harness.model.forecaster import PatchForecaster
from harness.model.patcher import Patcher, Rows, sample_rows
from harness.run.fit import fit
from harness.run.windows import Windows
from methods import entrope
from methods.entrope import Entrope
from methods.entropy_gaussian import EntropyGaussian
from methods.mosaic import Mosaic
from methods.timesqueeze import TimeSqueeze

TASK = Task("x", 48, 12, 6)
SMALL = Architecture(width=8, layers=1, heads=2, feedforward=16, dropout=0.0)
FROZEN = [EntropyGaussian, Entrope, TimeSqueeze]


def rows(values: Tensor, **more: object) -> Rows:
    return Rows(values, torch.arange(len(values)), **more)  # type: ignore[arg-type]  # fields of several types


def bursty(count: int, seed: int, look_back: int = 48) -> tuple[Tensor, Tensor]:
    """Quiet noise with one loud stretch of 12 steps, and where it is loud."""
    source = torch.Generator().manual_seed(seed)
    first = torch.randint(12, look_back - 16, (count, 1), generator=source)
    step = torch.arange(look_back)
    loud = (step >= first) & (step < first + 12)
    noise = torch.randn(count, look_back, generator=source)
    return noise * torch.where(loud, 2.0, 0.1), loud


def prepared(method: type[Patcher], count: int = 256, **hyperparameters: str) -> Patcher:
    torch.manual_seed(0)
    patcher = method(TASK, **hyperparameters)
    patcher.prepare(bursty(count, seed=1)[0].split(64))
    return patcher.eval()


def windows(seed: int, *, wild: bool = False) -> Windows:
    values = bursty(1, seed, look_back=160)[0] * (100.0 if wild else 1.0)
    return Windows(
        values=values,
        starts=torch.arange(100),
        look_back=48,
        horizon=12,
        offset=0,
        mean=torch.zeros(1, dtype=torch.float64),
        scale=torch.ones(1, dtype=torch.float64),
    )


# --- what is fitted before training ------------------------------------------------------------


@pytest.mark.parametrize("method", FROZEN)
def test_a_rule_is_fitted_to_training_look_backs_and_to_nothing_else(
    method: type[Patcher],
) -> None:
    """Whatever validation holds and however long training lasts, it stays as prepare left it."""
    states = []
    for wild in (False, True):
        torch.manual_seed(0)
        model = PatchForecaster(TASK, SMALL, method(TASK))
        torch.manual_seed(1)
        budget = Budget(epochs=1, batch=25, learning_rate=0.1, weight_decay=0.1)
        fit(model, windows(1), windows(2, wild=wild), budget, seed=0)
        states.append(model.patcher.state_dict())
    torch.manual_seed(0)
    model = PatchForecaster(TASK, SMALL, method(TASK))
    before = copy.deepcopy(model.patcher.state_dict())
    torch.manual_seed(1)
    train = windows(1)
    model.prepare(batch.past for batch in train.batches(train.at_once))
    after = model.patcher.state_dict()
    del before["progress"], after["progress"]
    assert any(not torch.equal(before[name], value) for name, value in after.items())
    for name, value in after.items():
        assert all(torch.equal(state[name], value) for state in states), name
    assert not any(parameter.requires_grad for parameter in model.patcher.parameters())


def test_likelihood_rises_in_prepare() -> None:
    """On unseen rows of the same distribution, both models are surprised far less."""
    fresh, _ = bursty(64, seed=2)
    torch.manual_seed(0)
    for method in (EntropyGaussian(TASK), Entrope(TASK)):
        untrained = copy.deepcopy(method.model)
        method.prepare(bursty(512, seed=1)[0].split(64))
        seen = fresh if isinstance(method, EntropyGaussian) else method._tokens(fresh)
        assert method.model.surprise(seen) < untrained.surprise(seen) - 0.5


def test_unsure_where_the_series_is_loud() -> None:
    """Both entropies are higher inside the loud stretch, once it has begun, than outside."""
    values, loud = bursty(64, seed=2)
    inside, outside = loud[:, :-3] & loud[:, 3:], ~loud[:, 3:]
    gaussian, gpt = prepared(EntropyGaussian, 1024), prepared(Entrope, 1024)
    assert isinstance(gaussian, EntropyGaussian)
    assert isinstance(gpt, Entrope)
    for score in (gaussian.log_sigma(values)[:, 2:], gpt.entropy(values)[:, 2:]):
        assert score[inside].mean() > score[outside].mean() + 0.5


def test_bins_span_the_middle_of_the_training_part() -> None:
    """95 % of scaled training values lie inside, and what is outside falls into the end bins."""
    patcher = prepared(Entrope)
    assert isinstance(patcher, Entrope)
    train, _ = bursty(256, seed=1)
    scaled = train / train.abs().mean(dim=1, keepdim=True)
    quantiles = torch.quantile(scaled, torch.tensor([0.025, 0.975]))
    assert torch.allclose(patcher.limits, quantiles, atol=0.05)
    low, high = patcher.limits
    middle, bin_width = (low + high) / 2, (high - low) / 256
    row = torch.stack([low - 9, low + 0.5 * bin_width, middle + 0.5 * bin_width, high + 9])
    # Steps to make the mean absolute value 1, so that scaling leaves the others alone.
    filled = functional.pad(row, (0, 44), value=float((48 - row.abs().sum()) / 44))
    assert patcher._tokens(filled[None])[0, :4].tolist() == [0, 0, 128, 255]


def test_the_sample_is_bounded_and_even() -> None:
    """Of 20,000 rows about 500 are kept, from all parts alike."""
    torch.manual_seed(0)
    everything = torch.arange(20_000.0)[:, None]
    kept = sample_rows(everything.split(100), 500)[:, 0]
    assert 200 < len(kept) <= 500
    assert len(kept.unique()) == len(kept)
    halves = (kept < 10_000).float().mean()
    assert 0.4 < halves < 0.6


# --- scores ------------------------------------------------------------------------------------


def test_scores_see_no_later_step() -> None:
    """Other values after step t leave all scores up to t as they were, and change later ones."""
    values, _ = bursty(8, seed=3)
    other = values.clone()
    other[:, 30:] = torch.randn(8, 18, generator=torch.Generator().manual_seed(0))
    gaussian, squeeze = prepared(EntropyGaussian), prepared(TimeSqueeze)
    assert isinstance(gaussian, EntropyGaussian)
    assert isinstance(squeeze, TimeSqueeze)
    # The score of step t is number t - 1. A prediction of step 30 has seen all before it; a jump
    # at step 30 has not happened at step 29.
    for score, known in ((gaussian.log_sigma, 30), (squeeze.score, 29)):
        first, second = score(values), score(other)
        assert torch.equal(first[:, :known], second[:, :known])
        assert (first[:, known] != second[:, known]).any()


@pytest.mark.parametrize("look_back", [20, 96, 150])
def test_the_gpt_sees_no_later_bin(look_back: int) -> None:
    """Logits at step t change with the bin of t and of 64 before, and with none that follows."""
    torch.manual_seed(0)
    model = Entrope(Task("x", look_back, 12, 6)).model
    tokens = torch.randint(256, (4, look_back))
    for step in {0, 5, look_back // 2, look_back - 1}:
        other = tokens.clone()
        other[:, step] = (other[:, step] + 100) % 256
        same = (model(tokens) == model(other)).all(dim=-1)
        assert same[:, :step].all()
        assert not same[:, step : step + 65].any()


def test_the_gpt_attends_to_all_before_in_rows_of_96() -> None:
    """A layer equals plain causal attention there, which is what was published."""
    torch.manual_seed(0)
    layer = entrope._Layer(32)
    hidden = torch.randn(3, 96, 32)
    query, key, value = layer.query_key_value(hidden).view(3, 96, 3, 4, 8).permute(2, 0, 3, 1, 4)
    plain = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    expected = plain.transpose(1, 2).flatten(2)
    assert torch.allclose(layer._attend(hidden), expected, atol=1e-6)


def test_entropy_equals_that_of_a_distribution() -> None:
    """The same as torch's categorical, and the logarithm of the bins where all are alike."""
    torch.manual_seed(0)
    logits = 5 * torch.randn(3, 7, 256)
    expected = torch.distributions.Categorical(logits=logits).entropy()
    assert torch.allclose(entrope._entropy(logits), expected, atol=1e-5)
    assert entrope._entropy(torch.zeros(256)).item() == pytest.approx(math.log(256))


@pytest.mark.parametrize("window", [1, 4, 16, 100])
def test_timesqueeze_scores_equal_a_slow_loop(window: int) -> None:
    """Step by step: the jump over the root mean square of the last steps there are."""
    values, _ = bursty(3, seed=4)
    score = TimeSqueeze(TASK, window=window).score(values)
    for row in range(3):
        for step in range(1, 48):
            last = values[row, max(0, step - window + 1) : step + 1]
            jump = (values[row, step] - values[row, step - 1]).abs()
            expected = jump / (last.square().mean() + 1e-5).sqrt()
            assert score[row, step - 1] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("method", [EntropyGaussian, Entrope])
def test_half_precision_around_it_changes_no_boundary(method: type[Patcher]) -> None:
    """Under mixed precision a frozen scorer still answers in full: plans are computed outside."""
    patcher = prepared(method)
    seen = rows(bursty(32, seed=5)[0])
    with torch.autocast("cpu", torch.bfloat16):
        half = patcher(seen)
    assert torch.equal(half.start, patcher(seen).start)


# --- from scores to patches --------------------------------------------------------------------


def test_top_k_forms_take_the_largest_scores_exactly() -> None:
    """K patches for every row, and they start after no smaller score than any left out."""
    values, _ = bursty(32, seed=6)
    gaussian = prepared(EntropyGaussian)
    gpt, squeeze = prepared(Entrope, rule="topk"), prepared(TimeSqueeze, rule="topk")
    assert isinstance(gaussian, EntropyGaussian)
    assert isinstance(gpt, Entrope)
    assert isinstance(squeeze, TimeSqueeze)
    pairs = (
        (gaussian, gaussian.log_sigma(values)),
        (gpt, gpt.entropy(values)),
        (squeeze, squeeze.score(values)),
    )
    for patcher, score in pairs:
        patches = patcher(rows(values))
        assert patches.start.shape == (32, 6)
        assert patches.valid.all()
        chosen = torch.zeros_like(score, dtype=torch.bool).scatter(
            1, patches.start[:, 1:] - 1, True
        )
        least = score.masked_fill(~chosen, torch.inf).amin(dim=1)
        assert (least >= score.masked_fill(chosen, -torch.inf).amax(dim=1)).all()


def test_the_quantile_rule_cuts_k_patches_but_for_ties() -> None:
    """The same plan as the top K where no entropies are equal; one patch where all are."""
    values, _ = bursty(32, seed=6)
    patcher = prepared(Entrope)
    assert isinstance(patcher, Entrope)
    patches = patcher(rows(values))
    assert patches.valid.all()
    assert torch.equal(patches.start, prepared(Entrope, rule="topk")(rows(values)).start)
    patcher.model.token.weight.zero_()
    alike = patcher(rows(values))
    assert alike.start.shape == (32, 6)
    assert (alike.valid.sum(dim=1) == 1).all()
    assert (alike.length[:, 0] == 48).all()


@pytest.mark.parametrize("patches", [1, 2, 6, 20, 48])
def test_the_threshold_gives_k_patches_on_average(patches: int) -> None:
    """On the training rows, rows that are cut off at the slots included, within 5 %."""
    calm = 0.01 * torch.randn(300, 48, generator=torch.Generator().manual_seed(0)) + 3
    train = torch.cat([bursty(700, seed=1)[0], calm])
    patcher = TimeSqueeze(Task("x", 48, 12, patches)).eval()
    patcher.prepare(train.split(50))
    count = patcher(rows(train)).valid.sum(dim=1).float()
    assert count.mean() == pytest.approx(patches, rel=0.05)
    if patches == 6:
        assert count.max() == patcher.slots == 8
        assert count.min() < patches


def test_rows_over_the_slots_keep_the_largest_scores() -> None:
    """With a threshold below everything, all slots are filled, and from the top."""
    values, _ = bursty(4, seed=7)
    patcher = TimeSqueeze(TASK)
    patcher.threshold.fill_(-1.0)
    patches = patcher(rows(values))
    assert patches.valid.all()
    best = patcher.score(values).topk(7, dim=1).indices.sort(dim=1).values + 1
    assert torch.equal(patches.start[:, 1:], best)


@pytest.mark.parametrize("method", [Entrope, TimeSqueeze])
def test_an_unknown_rule_is_refused(method: type[Patcher]) -> None:
    """The message names the rules there are."""
    with pytest.raises(ValueError, match=r"'best'; allowed: .*topk"):
        method(TASK, rule="best")  # type: ignore[call-arg]  # these two take it


# --- granularity -------------------------------------------------------------------------------


def cut(patcher: Mosaic, *classes: int) -> list[int]:
    """Lengths of the patches that count, for these classes of the regions."""
    chosen = torch.tensor([classes])
    patches = patcher.cut(chosen, torch.linspace(0.1, 0.9, len(classes))[None])
    return patches.length[patches.valid].tolist()


def test_mosaic_cuts_regions_as_chosen() -> None:
    """One patch, two or four of a region; the last one ends where the row does."""
    patcher = Mosaic(Task("x", 512, 96, 32))
    assert cut(patcher, *[0] * 16) == [32] * 16
    assert cut(patcher, *[1] * 16) == [16] * 32
    assert cut(patcher, *[0, 2] * 8) == [32, 8, 8, 8, 8] * 8
    short = Mosaic(Task("x", 50, 12, 7))  # quarters of 4 steps, and a last region of 2
    assert cut(short, 0, 1, 2, 2) == [16, 8, 8, 4, 4, 4, 4, 2]


def test_mosaic_sizes_follow_the_budget() -> None:
    """A region is two mean patches long: 32 steps at 1 in 16, 16 at 1 in 8; a step at least."""
    for look_back, patches, quarter in ((512, 32, 8), (96, 12, 4), (16, 16, 1), (96, 1, 48)):
        assert Mosaic(Task("x", look_back, 12, patches)).quarter == quarter


def test_mosaic_joins_the_least_sure_regions_where_slots_run_out() -> None:
    """All regions in four are 12 patches; 8 slots take every start, then quarters of the last."""
    assert cut(Mosaic(TASK), 2, 2, 2) == [8, 8, 8, 8, 4, 4, 4, 4]


def test_mosaic_begins_at_the_budget_in_training_and_evaluation() -> None:
    """Without a look at the content it cuts equal patches, and draws have K on average."""
    torch.manual_seed(0)
    patcher = Mosaic(Task("x", 512, 96, 32))
    values = torch.randn(200, 512)
    with torch.no_grad():
        nn.init.zeros_(patcher.look.weight)
        nn.init.zeros_(patcher.look.bias)
        best = patcher(rows(values))
        drawn = patcher(rows(values, rule="sample"))
    assert (best.length[:, :32] == 16).all()
    assert drawn.valid.sum(dim=1).float().mean() == pytest.approx(32, rel=0.05)
    assert drawn.valid.sum(dim=1).float().std() > 1


def test_mosaic_gain_is_one_and_moves_the_choice() -> None:
    """Content is not scaled, and rewarding a region's tokens makes its class likelier."""
    torch.manual_seed(0)
    patcher = Mosaic(TASK)
    values = bursty(1, seed=8)[0]
    drawn = rows(values, generator=torch.Generator().manual_seed(0))
    patches = patcher(drawn)
    assert patches.gain is not None
    assert (patches.gain == 1).all()
    patches.gain[:, 0].sum().backward()
    first = values[:, : 4 * patcher.quarter]

    def chance() -> Tensor:
        chosen = int((patches.start[0] < 4 * patcher.quarter).sum()) // 2  # 1, 2, 4 -> 0, 1, 2
        return patcher.logits(first[:, None])[0, 0].softmax(dim=-1)[chosen]

    before = chance().item()
    with torch.no_grad():
        for parameter in patcher.parameters():
            assert parameter.grad is not None
            parameter.add_(parameter.grad, alpha=0.1)
    assert chance() > before


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0])
def test_mosaic_gain_has_the_slope_of_its_temperature(
    monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    """By hand: that of the softmax of scores over the temperature, at the class chosen."""
    patcher = Mosaic(TASK, temperature=temperature)
    logits = torch.tensor([[[0.1, 0.4, 0.2]]]).repeat(1, patcher.regions, 1).requires_grad_()
    monkeypatch.setattr(patcher, "logits", lambda regions: logits)
    patches = patcher(rows(torch.zeros(1, TASK.look_back)))
    share = torch.tensor([0.1, 0.4, 0.2]).div(temperature).softmax(0)
    expected = share[1] * (torch.tensor([0.0, 1.0, 0.0]) - share) / temperature
    assert patches.gain is not None
    patches.gain[0, 0].backward()
    assert logits.grad is not None
    assert torch.allclose(logits.grad[0, 0], expected, atol=1e-6)


def test_mosaic_weighs_both_of_its_losses() -> None:
    """Its loss is usage times one part and hold times the other, of the same draw."""
    values, source = bursty(4, seed=3)[0], torch.Generator()

    def loss(usage: float, hold: float) -> float:
        torch.manual_seed(0)
        patcher = Mosaic(TASK, usage=usage, hold=hold)
        return float(patcher(rows(values, generator=source.manual_seed(0))).loss.detach())

    first, second = loss(1, 0), loss(0, 1)
    assert min(first, second) > 1e-4
    assert loss(2, 5) == pytest.approx(2 * first + 5 * second, rel=1e-5)


def test_mosaic_gain_is_that_of_its_own_region() -> None:
    """The gain of a token moves with the values of the region it lies in, and no others."""
    torch.manual_seed(0)
    patcher = Mosaic(TASK)
    values = bursty(1, seed=8)[0].requires_grad_()
    patches = patcher(rows(values, generator=torch.Generator().manual_seed(0)))
    assert patches.gain is not None
    for slot in range(int(patches.valid.sum())):
        [moved] = torch.autograd.grad(patches.gain[0, slot], values, retain_graph=True)
        regions = moved[0].view(patcher.regions, -1).any(dim=1)
        assert regions.nonzero().flatten().tolist() == [patches.start[0, slot] // 16]


def test_mosaic_losses_hold_the_count_and_spread_the_classes() -> None:
    """Descent from a fine start brings the counts of draws and of best classes to K."""
    torch.manual_seed(0)
    patcher = Mosaic(TASK)
    patcher.train()
    with torch.no_grad():
        patcher.classify.bias.copy_(torch.tensor([0.0, 0.0, 3.0]))
    values, _ = bursty(128, seed=9)
    source = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(patcher.parameters(), lr=1e-2)
    for _ in range(150):
        loss = patcher(rows(values, generator=source)).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        for rule in ("best", "sample"):
            count = patcher(rows(values, rule=rule)).valid.sum(dim=1).float()
            assert count.mean() == pytest.approx(6, rel=0.1)


def test_mosaic_loss_is_that_of_its_parts() -> None:
    """Usage by hand, and the count that four regions of known chances make."""
    patcher = Mosaic(Task("x", 64, 12, 8), usage=1.0, hold=0.0)
    logits = torch.zeros(1, 4, 3)
    chosen = torch.tensor([[0, 0, 1, 0]])
    share = logits.softmax(dim=-1)
    usage = (abs(3 / 4 - 1 / 3) + abs(1 / 4 - 1 / 3) + 1 / 3) / 3
    assert patcher._loss(logits, share, chosen) == pytest.approx(usage)
    patcher.usage, patcher.hold = 0.0, 1.0
    # Expected: 7/3 patches a region. Best, all classes being equal, is the first one: 1.
    drift = (4 * 7 / 3 / 8 - 1) ** 2 + (4 / 8 - 1) ** 2
    assert patcher._loss(logits, share, chosen) == pytest.approx(drift)


# --- all of them -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*FROZEN, Mosaic])
def test_a_copy_from_the_state_cuts_alike(method: type[Patcher]) -> None:
    """Everything that was fitted is in the state: another start, the same plans."""
    patcher, seen = prepared(method), rows(bursty(16, seed=10)[0])
    torch.manual_seed(99)
    other = method(TASK).eval()
    assert not torch.equal(other(seen).start, patcher(seen).start)
    other.load_state_dict(patcher.state_dict())
    assert torch.equal(other(seen).start, patcher(seen).start)
