"""Tokens from patches: equal to PatchTST's where they should be, and differentiable in edges."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from harness.core.task import Architecture, Task
from harness.model.backbones import Transformer
from harness.model.embedders import (
    AreaEmbedder,
    MeanEmbedder,
    Place,
    WaveSums,
    fourier,
    octaves,
    phase_periods,
)
from harness.model.heads import FlattenHead, GridHead, QueryHead
from harness.model.patcher import Patches, from_starts, uniform_starts

TASK = Task("x", 96, 24, 12, season=24)


def uniform_patches(rows: int, task: Task = TASK) -> Patches:
    return from_starts(
        uniform_starts(task.look_back, task.patches).expand(rows, -1), task.look_back
    )


def test_equal_patches_are_patchtst() -> None:
    """With the phase term at zero, embedder and head are PatchTST's linear ones."""
    torch.manual_seed(0)
    architecture = Architecture(points=8, grid=8, dropout=0.0)
    embedder = AreaEmbedder(TASK, architecture)
    backbone = Transformer(architecture)
    head = GridHead(TASK, architecture, TASK.patches)
    assert embedder.phase is not None
    nn.init.zeros_(embedder.phase.weight)
    values = torch.randn(5, 96)
    patches = uniform_patches(5)

    # By hand: cut into pieces of 8, one linear layer, a learned position each, encoder, flatten,
    # one linear layer.
    position = embedder.place(patches.start.float(), patches.end.float())[0]
    token = values.view(5, 12, 8) @ embedder.content.weight.T + embedder.content.bias + position
    expected = backbone(token, None).reshape(5, -1) @ head.out.weight.T + head.out.bias

    got = head(backbone(embedder(values, patches), None), patches)
    assert (got - expected).abs().max() < 1e-5


def test_resampling_is_the_exact_area_average() -> None:
    """A point is the mean of the steps under it, cut ones included; a short patch is repeated."""
    embedder = AreaEmbedder(Task("x", 6, 1, 2), Architecture(points=2))
    values = torch.tensor([[1.0, 3.0, 5.0, 7.0, 9.0, 11.0]])
    start, end = torch.tensor([[0.0, 5.0]]), torch.tensor([[5.0, 6.0]])
    points = embedder._resample(values, start, end)
    # 0..2.5 holds 1, 3 and half of 5; 2.5..5 the other half, 7 and 9.
    assert torch.allclose(points, torch.tensor([[[6.5 / 2.5, 18.5 / 2.5], [11.0, 11.0]]]))


def test_wave_sums_equal_the_sum_over_every_step() -> None:
    """The block-wise sums are the plain sums of x_t cos(wt) and x_t sin(wt) before each edge."""
    look_back, periods = 100, torch.tensor([24.0, 12.0, 50.0])
    values = torch.randn(4, look_back)
    edges = torch.tensor([0.0, 1.0, 15.0, 16.0, 17.0, 99.0, 100.0]).expand(4, -1)
    every = values[..., None] * fourier(torch.arange(float(look_back)), periods)
    expected = torch.stack([every[:, : int(edge)].sum(1) for edge in edges[0]], dim=1)
    assert torch.allclose(WaveSums(look_back, periods)(values, edges), expected, atol=1e-4)


@pytest.mark.parametrize("head_type", [GridHead, FlattenHead, QueryHead])
def test_edges_are_differentiable(head_type: type[GridHead | FlattenHead | QueryHead]) -> None:
    """The forecast's gradient in real-valued edges is the one that finite differences find."""
    torch.manual_seed(0)
    task = Task("x", 40, 3, 5, season=8)
    architecture = Architecture(width=4, heads=2, points=4, dropout=0.0)
    embedder = AreaEmbedder(task, architecture).double()
    head = head_type(task, architecture, 5).double()
    values = torch.randn(2, 40, dtype=torch.float64)
    inner = torch.tensor(
        [[6.31, 17.78, 24.63, 33.47], [3.37, 9.61, 20.73, 38.21]], dtype=torch.float64
    )

    def forecast(inner_edges: torch.Tensor) -> torch.Tensor:
        ends = torch.tensor([[0.0, 40.0]] * 2, dtype=torch.float64)
        edges = torch.cat([ends[:, :1], inner_edges, ends[:, 1:]], dim=1)
        start = edges[:, :-1].long()
        patches = Patches(start, start, torch.ones_like(start, dtype=torch.bool), edges=edges)
        return head(embedder(values, patches), patches)

    assert torch.autograd.gradcheck(forecast, inner.requires_grad_(), atol=1e-6)


def test_the_phase_term_is_six_waves_of_the_season_summed_over_the_patch() -> None:
    """By hand, in absolute time and units of the root of the usual length, whatever the length."""
    embedder = AreaEmbedder(TASK, Architecture(width=12))
    assert embedder.phase is not None
    for part in embedder.parameters():
        nn.init.zeros_(part)
    nn.init.eye_(embedder.phase.weight)
    values = torch.randn(1, 96, generator=torch.Generator().manual_seed(0))
    start = torch.tensor([[0, 1, 5, 17, 20, 48, 50, 51, 70, 80, 90, 95]])
    token = embedder(values, from_starts(start, 96))[0].tolist()
    ends = [*start[0, 1:].tolist(), 96]
    for slot, (first, end) in enumerate(zip(start[0].tolist(), ends, strict=True)):
        for number in range(6):
            angle = [2 * math.pi * step * (number + 1) / 24 for step in range(first, end)]
            own = values[0, first:end].tolist()
            for column, wave in ((number, math.cos), (number + 6, math.sin)):
                total = sum(value * wave(a) for value, a in zip(own, angle, strict=True))
                assert token[slot][column] == pytest.approx(total / 8**0.5, abs=1e-5)


@pytest.mark.parametrize(
    ("season", "periods"),
    [
        (1, [192, 96, 48, 24, 12, 6]),
        (3, [192, 96, 48, 24, 12, 6]),
        (4, [4, 2, 4 / 3, 1, 4 / 5, 4 / 6]),
        (24, [24, 12, 8, 6, 4.8, 4]),
    ],
)
def test_periods_are_harmonics_of_the_season_or_octaves(season: int, periods: list[float]) -> None:
    """Six harmonics; with a season too short for waves, octaves from twice the look-back down."""
    task = Task("x", 96, 24, 12, season=season)
    assert phase_periods(task).tolist() == pytest.approx(periods)


def test_octaves_end_at_four_steps() -> None:
    """They halve from twice the look-back; no wave is shorter than four steps."""
    assert octaves(64).tolist() == [128, 64, 32, 16, 8, 4]
    assert octaves(2).tolist() == [4]


def test_a_place_is_the_centre_in_waves_and_the_length_in_octaves() -> None:
    """Cosines and sines of the centre, and log2 of the length in usual lengths, half a step up."""
    place = Place(TASK, 13)
    for part in place.parameters():
        nn.init.zeros_(part)
    nn.init.eye_(place.centre.weight)
    nn.init.ones_(place.length.weight[12:])
    start, end = torch.tensor([[0.0, 10.0, 14.5, 96.0]]), torch.tensor([[10.0, 14.5, 96.0, 96.0]])
    code = place(start, end)[0]
    for slot, centre in enumerate([5.0, 12.25, 55.25, 96.0]):
        angle = [2 * math.pi * centre / period for period in (192, 96, 48, 24, 12, 6)]
        waves = [wave(each) for wave in (math.cos, math.sin) for each in angle]
        assert code[slot, :12].tolist() == pytest.approx(waves, abs=1e-5)
    lengths = [math.log2(length / 8) for length in (10, 4.5, 81.5, 0.5)]
    assert code[:, 12].tolist() == pytest.approx(lengths)


@pytest.mark.parametrize("embedder_type", [AreaEmbedder, MeanEmbedder])
def test_tokens_say_where_they_lie(embedder_type: type[AreaEmbedder | MeanEmbedder]) -> None:
    """Of a row of zeros a token is the place of its patch, and the content's bias."""
    torch.manual_seed(0)
    embedder, patches = embedder_type(TASK, Architecture()), uniform_patches(1)
    place = embedder.place(patches.start.float(), patches.end.float())
    token = embedder(torch.zeros(1, 96), patches)
    assert torch.allclose(token, place + embedder.content.bias, atol=1e-6)
    assert (place[:, 1:] - place[:, :-1]).abs().max() > 0.1
