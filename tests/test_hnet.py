"""H-Net and ConceptMoE: the router, what a chunk is, the way back to steps, and what holds K."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from harness.core.task import Architecture, Budget, Task
from harness.data.planted import HORIZON, LOOK_BACK, WINDOW, plant
from harness.model.backbones import dechunk, running_mean
from harness.model.embedders import MeanEmbedder
from harness.model.forecaster import Forecast, PatchForecaster, training_loss
from harness.model.patcher import Patches, Rows, from_starts
from harness.run.fit import fit
from harness.run.windows import Windows
from methods._routing import CosineRouter, chunks, ratio_loss, target_rate
from methods.concept_moe import ConceptMoE
from methods.hnet import HNet
from methods.hnet_full import HNetFull
from methods.hnet_strict import HNetStrict

TASK = Task("x", 96, 24, 12)
SMALL = Architecture(width=8, layers=1, heads=2, feedforward=16, dropout=0.0)
IDS = torch.arange(4)[:, None]


def rows(features: Tensor, **more: object) -> Rows:
    """Rows of which only the features matter."""
    count, look_back, _ = features.shape
    return Rows(torch.zeros(count, look_back), torch.arange(count), features, **more)  # type: ignore[arg-type]  # fields of several types


def close(found: Tensor | None, expected: Tensor) -> bool:
    """Equal to what float32 can tell."""
    return found is not None and torch.allclose(found, expected, atol=1e-5)


# --- the router ----------------------------------------------------------------------------------


def half_of_one_minus_cosine(one: Tensor, other: Tensor) -> Tensor:
    """Of vectors that have one more component, the same for all."""
    one, other = (functional.pad(each, (0, 1), value=0.03**0.5) for each in (one, other))
    return (1 - functional.cosine_similarity(one, other, dim=-1)) / 2


def test_the_router_starts_as_half_of_one_minus_the_cosine() -> None:
    """With both maps the identity it is the angle between neighbours, seen from the row's mean."""
    torch.manual_seed(0)
    features = torch.randn(3, 20, 8) + 2
    centred = features - features.mean(1, keepdim=True)
    expected = half_of_one_minus_cosine(centred[:, :-1], centred[:, 1:])
    assert close(CosineRouter(8)(features), expected)


def test_the_router_maps_the_step_before_as_query() -> None:
    """W_q is of the step before and W_k of the step itself."""
    torch.manual_seed(0)
    router, features = CosineRouter(8), torch.randn(1, 20, 8)
    torch.nn.init.normal_(router.query)
    torch.nn.init.normal_(router.key)
    centred = (features - features.mean(1, keepdim=True))[0]
    expected = half_of_one_minus_cosine(router.query @ centred[6], router.key @ centred[7])
    assert close(router(features)[0, 6], expected)


def test_a_flat_row_has_no_boundary_and_a_finite_gradient() -> None:
    """Where all features are the same there is nothing to compare: one patch, no NaN."""
    router, features = CosineRouter(8), torch.ones(1, 20, 8, requires_grad=True)
    probability = router(features)
    assert torch.equal(probability, torch.zeros(1, 19))
    probability.sum().backward()
    for value in (features, router.query, router.key):
        assert value.grad is not None
        assert value.grad.isfinite().all()


# --- the ratio loss ------------------------------------------------------------------------------


@pytest.mark.parametrize("steps_a_patch", [2, 4, 8])
def test_the_ratio_loss_is_one_at_its_target(steps_a_patch: int) -> None:
    """A share of 1 / N chosen, at a mean probability of 1 / N, costs 1; elsewhere as published."""
    generator, n = torch.Generator().manual_seed(0), steps_a_patch
    chosen = torch.arange(160).view(2, 80) % n == 0
    on_target = torch.full((2, 80), 1 / n)
    assert float(ratio_loss(chosen, on_target, 1 / n)) == pytest.approx(1)
    chosen = torch.rand(2, 80, generator=generator) < 0.3
    probability = torch.rand(2, 80, generator=generator)
    F, G = float(chosen.float().mean()), float(probability.mean())
    published = n / (n - 1) * ((n - 1) * F * G + (1 - F) * (1 - G))
    assert float(ratio_loss(chosen, probability, 1 / n)) == pytest.approx(published)


def test_the_ratio_loss_pulls_the_rate_to_its_target_from_both_sides() -> None:
    """Too many boundaries push probabilities down, too few push them up, by the closed form."""
    for share in (1 / 16, 1 / 4):
        chosen = torch.arange(160).view(2, 80) % round(1 / share) == 0
        probability = torch.full((2, 80), 0.3, requires_grad=True)
        ratio_loss(chosen, probability, 1 / 8).backward()
        assert probability.grad is not None
        slope = float(probability.grad.sum())
        assert slope == pytest.approx(8 * (8 * share - 1) / 7, rel=1e-5)
        assert (slope > 0) == (share > 1 / 8)


def test_the_target_is_k_patches_with_the_first_one() -> None:
    """At the target the expected patches are K; K = 1 and K = look-back stay inside (0, 1)."""
    assert 1 + target_rate(TASK) * 95 == pytest.approx(12)
    for patches in (1, 8):
        assert 0 < target_rate(Task("x", 8, 1, patches)) < 1


def test_a_curriculum_falls_from_all_slots_to_k() -> None:
    """On a straight line for its share of training, then it stays; without one it is K at once."""
    patcher = HNet(TASK, curriculum=0.4)
    patches = []
    for progress in (0.0, 0.2, 0.4, 1.0):
        patcher.progress.fill_(progress)
        patches.append(1 + 95 * float(patcher.rate()))
    assert patches == pytest.approx([15, 13.5, 12, 12], abs=1e-4)
    assert HNet(TASK).rate() == target_rate(TASK)
    with pytest.raises(ValueError, match=r"curriculum is 1\.5"):
        HNet(TASK, curriculum=1.5)


def test_a_curriculum_moves_the_loss_and_no_boundary() -> None:
    """Too few boundaries for the early target are too many for the late one."""
    torch.manual_seed(0)
    features = torch.randn(5, 96, 8).cumsum(1)
    patcher = HNet(TASK, curriculum=1.0).train()
    early = patcher(rows(features))
    patcher.progress.fill_(1.0)
    late = patcher(rows(features))
    assert torch.equal(early.start, late.start)
    assert close(late.loss, HNet(TASK)(rows(features)).loss)
    assert not close(late.loss, early.loss)


# --- chunks --------------------------------------------------------------------------------------


def test_the_cap_drops_the_least_probable() -> None:
    """Of seven chosen steps and four slots the first step and the three most probable start."""
    probability = torch.tensor([[0.6, 0.9, 0.51, 0.2, 0.8, 0.55, 0.7, 0.65, 0.95]])
    patches = chunks(probability, (probability > 0.5) & (probability < 0.95), slots=4)
    assert patches.start.tolist() == [[0, 2, 5, 7]]
    assert patches.length.tolist() == [[2, 3, 2, 3]]
    assert close(patches.gate, torch.tensor([[1 - 1e-4, 0.9, 0.8, 0.7]]))
    sure = torch.tensor([[1, 0.4, 0.9, 0.49, 0.8, 0.8, 0.45, 0.7, 0.35, 0.05]])
    assert close(patches.confidence, sure)


def test_slots_that_are_not_needed_are_empty() -> None:
    """One boundary in four slots: two patches, and nothing of the other slots counts."""
    probability = torch.tensor([[0.1, 0.9, 0.1]])
    patches = chunks(probability, probability > 0.5, slots=4)
    assert patches.start.tolist() == [[0, 2, 4, 4]]
    assert patches.length.tolist() == [[2, 2, 0, 0]]
    assert patches.valid.tolist() == [[True, True, False, False]]


def test_strict_takes_the_most_probable_whatever_the_threshold() -> None:
    """K patches a row at the K - 1 largest probabilities, of which some are below one half."""
    torch.manual_seed(0)
    features = torch.randn(5, 96, 8).cumsum(1)
    patcher = HNetStrict(TASK)
    patches, probability = patcher(rows(features)), patcher.router(features)
    expected = probability.topk(11, dim=1).indices.sort(dim=1).values + 1
    assert (probability.topk(11, dim=1).values < 0.5).any()
    assert patches.valid.all()
    assert torch.equal(patches.start[:, 1:], expected)


@pytest.mark.parametrize("method", [HNet, HNetStrict, HNetFull])
def test_one_half_is_where_a_boundary_begins(
    monkeypatch: pytest.MonkeyPatch, method: type[HNet | HNetStrict | HNetFull]
) -> None:
    """Steps more unlike than like the one before start a chunk, and count in the ratio loss."""
    probability = torch.full((4, 95), 0.45)
    probability[:, [9, 29, 59]] = torch.tensor([0.51, 0.9, 0.55])
    monkeypatch.setattr(CosineRouter, "forward", lambda router, features: probability)
    if issubclass(method, HNetFull):
        patches = HNetFull(TASK, SMALL, weight=2.0)(torch.randn(4, 1, 96), IDS).patches
    else:
        patches = method(TASK, weight=2.0)(rows(torch.zeros(4, 96, 8)))
    assert patches is not None
    if method is not HNetStrict:
        assert patches.start[0][patches.valid[0]].tolist() == [0, 10, 30, 60]
    share, mean, rate = 3 / 95, float(probability.mean()), 11 / 95
    expected = share * mean / rate + (1 - share) * (1 - mean) / (1 - rate)
    assert patches.loss.item() == pytest.approx(2 * expected, rel=1e-5)


# --- back to steps -------------------------------------------------------------------------------


def slow_mean(token: Tensor, gate: Tensor) -> Tensor:
    """The running mean by its definition."""
    means = [token[:, 0]]
    for m in range(1, token.shape[1]):
        share = gate[:, m, None]
        means.append(share * token[:, m] + (1 - share) * means[-1])
    return torch.stack(means, dim=1)


GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "any": lambda uniform: uniform.clamp(1e-4, 1 - 1e-4),
    "near 1": lambda uniform: torch.full_like(uniform, 1 - 1e-4),
    "near 0": lambda uniform: torch.full_like(uniform, 1e-4),
    "both": lambda uniform: torch.where(uniform < 0.5, 1e-4, 1 - 1e-4),
}


@pytest.mark.parametrize("kind", GATES)
def test_the_running_mean_equals_a_loop(kind: str) -> None:
    """64 chunks in float32 and the gradients to tokens and gates, gates near 0 and 1 included."""
    generator = torch.Generator().manual_seed(0)
    token = torch.randn(3, 64, 5, generator=generator)
    gate = GATES[kind](torch.rand(3, 64, generator=generator))
    weight = torch.randn(3, 64, 5, generator=generator)
    answers = []
    for mean, dtype in ((running_mean, torch.float32), (slow_mean, torch.float64)):
        given = [value.detach().to(dtype, copy=True).requires_grad_() for value in (token, gate)]
        means = mean(*given)
        (means * weight.to(dtype)).sum().backward()
        assert means.dtype == dtype
        gradients = [value.grad for value in given]
        answers.append(
            [value.double() for value in (means.detach(), *gradients) if value is not None]
        )
    for ours, expected in zip(*answers, strict=True):
        assert (ours - expected).abs().max() <= 1e-5 * max(1, float(expected.abs().max()))


def test_confidence_is_one_in_value_and_a_gradient_to_every_step() -> None:
    """Tokens stay as they are to the bit; a step's slope is its patch's, shared by its length."""
    torch.manual_seed(0)
    token, weight = torch.randn(2, 200, 3, 8)
    confidence = torch.rand(200, 20, requires_grad=True)
    plan = from_starts(torch.tensor([0, 4, 9]).expand(200, -1), 20)
    patches = Patches(plan.start, plan.length, plan.valid, confidence=confidence)
    out = dechunk(token, patches)
    assert torch.equal(out, token)
    (out * weight).sum().backward()
    slope = (token * weight).sum(-1) / plan.length
    assert close(confidence.grad, slope.repeat_interleave(plan.length[0], 1))


@pytest.mark.parametrize("method", [HNet, HNetStrict, ConceptMoE])
def test_tokens_are_smoothed_by_the_gates_of_their_patches(
    method: type[HNet | HNetStrict | ConceptMoE],
) -> None:
    """What the head of the shared forecaster reads is the running mean over a row's patches."""
    torch.manual_seed(0)
    model = PatchForecaster(TASK, SMALL, method(TASK)).eval()
    seen: dict[str, Tensor] = {}
    model.backbone.register_forward_hook(lambda _, __, out: seen.update(token=out))
    model.head.register_forward_pre_hook(lambda _, inputs: seen.update(read=inputs[0]))
    patches = model(torch.randn(4, 1, 96), IDS).patches
    assert close(seen["read"], slow_mean(seen["token"], patches.gate))
    assert not close(seen["read"], seen["token"])


def published_dechunk(token: Tensor, patches: Patches) -> Tensor:
    """The running mean over chunks, copied to the steps of each, by loops."""
    means = slow_mean(token, patches.gate)  # type: ignore[arg-type]  # all H-Nets have gates
    fine = [
        [means[row, m] for m in range(means.shape[1]) for _ in range(int(patches.length[row, m]))]
        for row in range(len(means))
    ]
    return torch.stack([torch.stack(steps) for steps in fine])


def watched(model: HNetFull, past: Tensor) -> tuple[Forecast, Tensor, Tensor]:
    """A forecast, what the backbone made of the chunks, and what the head saw of the steps."""
    seen: dict[str, Tensor] = {}
    hooks = [
        model.backbone.register_forward_hook(lambda _, __, out: seen.update(chunk=out)),
        model.head.register_forward_hook(lambda _, given, __: seen.update(fine=given[0])),
    ]
    forecast = model(past, IDS)
    for hook in hooks:
        hook.remove()
    return forecast, seen["chunk"], seen["fine"].view(len(past), past.shape[-1], -1)


def test_steps_get_the_running_mean_of_their_chunk() -> None:
    """The mean runs over chunks: one over steps would count a chunk as often as it is long."""
    torch.manual_seed(0)
    model = HNetFull(TASK, SMALL).eval()
    forecast, chunk, fine = watched(model, torch.randn(4, 1, 96))
    patches = forecast.patches
    assert patches is not None
    assert patches.gate is not None
    assert ((patches.length > 1) & (patches.gate < 0.99)).any()
    assert close(fine, published_dechunk(chunk, patches))

    number = torch.repeat_interleave(torch.arange(model.slots), patches.length[0])
    over_steps = slow_mean(chunk[:1, number], patches.gate[:1, number])
    assert (over_steps - fine[:1]).abs().max() > 0.1


def test_the_residual_starts_at_nothing_and_stays_in_float32() -> None:
    """At first the head sees chunks only, then encoded steps as well; float32 even in bfloat16."""
    torch.manual_seed(0)
    model = HNetFull(TASK, SMALL).eval()
    assert not any(value.any() for value in model.residual.parameters())
    past = torch.randn(4, 1, 96)
    _, _, before = watched(model, past)
    torch.nn.init.eye_(model.residual.weight)
    with torch.autocast("cpu", torch.bfloat16):
        kinds = []
        model.residual.register_forward_hook(lambda _, __, out: kinds.append(out.dtype))
        _, _, after = watched(model, past)
    assert kinds == [torch.float32]
    encoded = model.encoder(
        (past - past.mean(-1, keepdim=True))[:, 0] / past.std(-1, correction=0)
    )
    assert (after - before - encoded).abs().max() < 0.1


def test_hnet_full_drops_before_its_head_in_training_alone() -> None:
    """The head finds a share of zeros that is the rate of dropout, and in a test none."""
    torch.manual_seed(0)
    model = HNetFull(TASK, dataclasses.replace(SMALL, dropout=0.25))
    zeros: list[float] = []
    model.head.register_forward_pre_hook(
        lambda _, inputs: zeros.append(float((inputs[0] == 0).float().mean()))
    )
    for training in (True, False):
        model.train(training)(torch.randn(4, 1, 96), IDS)
    assert zeros == [pytest.approx(0.25, abs=0.03), 0]


def test_the_backbone_sees_the_encoded_step_at_each_boundary() -> None:
    """A token is the vector of the step where its chunk starts, and its place."""
    torch.manual_seed(0)
    model = HNetFull(TASK, SMALL).eval()
    given: list[Tensor] = []
    model.backbone.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    encoded: list[Tensor] = []
    model.encoder.register_forward_hook(lambda _, __, out: encoded.append(out))
    patches = model(torch.randn(4, 1, 96), IDS).patches
    place = model.place(patches.start.float(), patches.end.float())
    for row, slot in patches.valid.nonzero().tolist():
        expected = encoded[0][row, patches.start[row, slot]] + place[row, slot]
        assert close(given[0][row, slot], expected)


# --- learning ------------------------------------------------------------------------------------


def planted(family: str, count: int, seed: int) -> Windows:
    """Windows of a planted family, in its own units."""
    drawn = plant(family, count, seed=seed).values
    return Windows(
        values=torch.from_numpy(drawn).float().reshape(1, -1),
        starts=torch.arange(count) * WINDOW,
        look_back=LOOK_BACK,
        horizon=HORIZON,
        offset=0,
        mean=torch.zeros(1, dtype=torch.float64),
        scale=torch.ones(1, dtype=torch.float64),
    )


@pytest.mark.parametrize("method", [HNet, HNetStrict, ConceptMoE])
def test_the_forecast_alone_teaches_the_router(
    method: type[HNet | HNetStrict | ConceptMoE],
) -> None:
    """Gates and confidence carry the forecast loss to both maps, without the ratio loss."""
    torch.manual_seed(0)
    model = PatchForecaster(TASK, SMALL, method(TASK, weight=0.0)).train()
    batch = planted("ordinal", 16, seed=0).batch(torch.arange(16))
    forecast = model(batch.past, batch.ids, None, torch.Generator().manual_seed(0))
    training_loss(model, forecast, batch.future)[0].backward()
    for parameter in model.patcher.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 1e-6


@pytest.mark.parametrize("method", [HNet, ConceptMoE])
def test_patches_come_to_k_in_training(method: type[HNet | ConceptMoE]) -> None:
    """After 120 steps the mean number of patches is within one of K, none at the cap by force."""
    torch.manual_seed(0)
    model = PatchForecaster(TASK, SMALL, method(TASK))
    train, valid = planted("sinus", 256, seed=0), planted("sinus", 128, seed=1)
    budget = Budget(epochs=15, steps=8, learning_rate=5e-3, schedule="constant", patience=15)
    fit(model, train, valid, budget, seed=0)
    batch = valid.batch(torch.arange(128))
    used = model.eval().cut(batch.past, batch.ids).valid.sum(dim=1).float()
    assert abs(float(used.mean()) - 12) < 1


def test_hnet_full_is_charged_for_the_chunks_it_makes_and_learns_their_rate() -> None:
    """Its forecast brings its patches, at most the cap, and their ratio loss is added."""
    torch.manual_seed(0)
    model = HNetFull(TASK, SMALL, weight=0.5)
    forecast = model(torch.randn(4, 1, 96), IDS)
    patches = forecast.patches
    assert patches is not None
    assert patches.valid.shape == (4, 15)
    assert patches.loss is not None
    assert model.learn(forecast, torch.zeros(1, 4)) is patches.loss


# --- ConceptMoE ----------------------------------------------------------------------------------


def test_concept_moe_flips_what_is_undecided_and_little_else() -> None:
    """At one half a flip has probability 1 - 0.5^(1/s), on both sides of it the closed form."""
    patcher, draws = ConceptMoE(TASK), 200_000
    sample = rows(torch.zeros(draws, 2, 8), generator=torch.Generator().manual_seed(0))
    for probability in (0.5, 0.8, 0.2):
        given = torch.full((draws, 1), probability)
        drawn = patcher._drawn(given, sample).double().mean()
        flip = 1 - max(probability, 1 - probability) ** (1 / 42)  # 8 steps a patch
        expected = 1 - flip if probability >= 0.5 else flip
        error = np.sqrt(flip * (1 - flip) / draws)
        assert float(drawn) == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize("steps_a_patch", [2, 4, 8, 16])
def test_flips_stay_in_proportion_to_patches(steps_a_patch: int) -> None:
    """Steps that start no patch, of probability .1, make as many a patch as the paper's do."""
    patcher = ConceptMoE(dataclasses.replace(TASK, patches=96 // steps_a_patch))
    flipped = 1 - 0.9 ** (1 / patcher.sharpness)
    assert (steps_a_patch - 1) * flipped == pytest.approx(1 - 0.9 ** (1 / 6), rel=0.02)


def test_concept_moe_is_certain_in_evaluation_unless_it_is_asked_to_draw() -> None:
    """Scored at its best it takes what is one half or more; as trained it draws, by row."""
    torch.manual_seed(0)
    features = torch.randn(6, 96, 8) + 0.3 * torch.randn(6, 96, 8).cumsum(1)
    patcher = ConceptMoE(TASK).eval()
    chosen = patcher.router(features) >= 0.5
    assert chosen.sum(1).max() < patcher.slots
    best, drawn = patcher(rows(features)), patcher(rows(features, rule="sample"))
    assert torch.equal(best.valid.sum(1), 1 + chosen.sum(1))
    assert not torch.equal(best.start, drawn.start)
    assert torch.equal(drawn.start, patcher(rows(features, rule="sample")).start)


def test_concept_moe_sums_the_steps_of_a_patch() -> None:
    """The content of a token is the sum of its steps, in units of a patch of eight."""
    torch.manual_seed(0)
    patches = ConceptMoE(TASK)(rows(torch.randn(3, 96, 8)))
    values = torch.randn(3, 96)
    embedder = MeanEmbedder(TASK, SMALL)
    torch.nn.init.zeros_(embedder.content.bias)
    place = embedder.place(patches.start.float(), patches.end.float())
    token = embedder(values, patches) - place
    for row, slot in patches.valid.nonzero().tolist():
        total = values[row, patches.start[row, slot] : patches.end[row, slot]].sum()
        expected = total / 8 * embedder.content.weight[:, 0]
        assert close(token[row, slot], expected)
