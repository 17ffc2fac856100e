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
    octaves,
)
from harness.model.forecaster import PatchForecaster
from harness.model.heads import DecodingHead, FlattenHead, QueryHead
from harness.model.patcher import Patches, from_starts, uniform_starts
from methods.uniform import Uniform

TASK = Task("x", 96, 24, 12, season=24)


def uniform_patches(rows: int, task: Task = TASK) -> Patches:
    return from_starts(
        uniform_starts(task.look_back, task.patches).expand(rows, -1), task.look_back
    )


def test_equal_patches_are_patchtst() -> None:
    """With as many points as steps, embedder and head are linear layers of each patch's steps."""
    torch.manual_seed(0)
    architecture = Architecture(points=8, dropout=0.0)
    embedder = AreaEmbedder(TASK, architecture)
    backbone = Transformer(architecture)
    head = DecodingHead(TASK, architecture, TASK.patches)
    values = torch.randn(5, 96)
    patches = uniform_patches(5)

    # By hand: cut into pieces of 8, one linear layer, a learned position each, encoder, and a
    # flatten head in two factors, of which the first is the same for every patch.
    position = embedder.place(patches.start.float(), patches.end.float())[0]
    token = values.view(5, 12, 8) @ embedder.content.weight.T + embedder.content.bias + position
    steps = backbone(token, None) @ head.decode.weight.T + head.decode.bias
    expected = steps.reshape(5, -1) @ head.out.weight.T + head.out.bias

    got = head(backbone(embedder(values, patches), None), patches)
    assert (got - expected).abs().max() < 1e-5


def test_at_the_start_a_row_of_patches_no_longer_than_the_points_passes_unchanged() -> None:
    """Embedder and head undo each other, and the place code blurs nothing."""
    torch.manual_seed(0)
    architecture = Architecture(width=32, points=16, backbone="identity")
    model = PatchForecaster(TASK, architecture, Uniform(TASK))
    assert isinstance(model.head, DecodingHead)
    values = torch.randn(4, 96)
    length = torch.tensor([1, 2, 4, 8, 16, 16, 16, 16, 8, 4, 4, 1]).expand(4, -1)
    patches = Patches(length.cumsum(1) - length, length, length > 0)
    value = model.head.decode(model.embedder(values, patches))
    in_time = model.head.in_time(value, patches.start.float(), patches.end.float())
    assert torch.allclose(in_time, values, atol=1e-5)


def test_resampling_is_the_exact_area_average() -> None:
    """A point is the mean of the steps under it, cut ones included; a short patch is repeated."""
    embedder = AreaEmbedder(Task("x", 6, 1, 2), Architecture(points=2))
    values = torch.tensor([[1.0, 3.0, 5.0, 7.0, 9.0, 11.0]])
    start, end = torch.tensor([[0.0, 5.0]]), torch.tensor([[5.0, 6.0]])
    points = embedder._resample(values, start, end)
    # 0..2.5 holds 1, 3 and half of 5; 2.5..5 the other half, 7 and 9.
    assert torch.allclose(points, torch.tensor([[[6.5 / 2.5, 18.5 / 2.5], [11.0, 11.0]]]))


@pytest.mark.parametrize("head_type", [DecodingHead, FlattenHead, QueryHead])
def test_edges_are_differentiable(head_type: type[DecodingHead | FlattenHead | QueryHead]) -> None:
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
    embedder, patches = embedder_type(TASK, Architecture(width=32)), uniform_patches(1)
    place = embedder.place(patches.start.float(), patches.end.float())
    token = embedder(torch.zeros(1, 96), patches)
    assert torch.allclose(token, place + embedder.content.bias, atol=1e-6)
    assert (place[:, 1:] - place[:, :-1]).abs().max() > 0.1
