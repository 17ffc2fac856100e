"""The shared layers: equal to PatchTST where they should be, differentiable, each row alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.core.task import Architecture, Task
from harness.model.blocks import (
    AreaEmbedder,
    Dropout,
    FlattenHead,
    GridHead,
    QueryHead,
    Transformer,
    WaveSums,
    fourier,
    instance_norm,
)
from harness.model.patcher import Patches, from_scores, from_starts, uniform_starts

TASK = Task("x", 96, 24, 12, season=24)


def random_patches(rows: int, task: Task = TASK, seed: int = 0) -> Patches:
    generator = torch.Generator().manual_seed(seed)
    score = torch.rand(rows, task.look_back - 1, generator=generator)
    return from_scores(score, task.patches)


def uniform_patches(rows: int, task: Task = TASK) -> Patches:
    return from_starts(
        uniform_starts(task.look_back, task.patches).expand(rows, -1), task.look_back
    )


def test_equal_patches_are_patchtst() -> None:
    """With the phase term at zero, embedder and head are PatchTST's linear ones."""
    torch.manual_seed(0)
    architecture = Architecture(cells=8, grid=8, dropout=0.0)
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
    """A cell is the mean of the steps under it, cut ones included; a short patch is repeated."""
    embedder = AreaEmbedder(Task("x", 6, 1, 2), Architecture(cells=2))
    values = torch.tensor([[1.0, 3.0, 5.0, 7.0, 9.0, 11.0]])
    start, end = torch.tensor([[0.0, 5.0]]), torch.tensor([[5.0, 6.0]])
    cells = embedder._resample(values, start, end)
    # 0..2.5 holds 1, 3 and half of 5; 2.5..5 the other half, 7 and 9.
    assert torch.allclose(cells, torch.tensor([[[6.5 / 2.5, 18.5 / 2.5], [11.0, 11.0]]]))


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
    architecture = Architecture(width=4, heads=2, cells=4, dropout=0.0)
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


def test_the_grid_gives_every_cell_its_shares_of_the_patches() -> None:
    """Rows of the overlap sum to one: a head that averages constant tokens gives the constant."""
    head = GridHead(TASK, Architecture(width=4, grid=8, dropout=0.0), 12)
    nn.init.constant_(head.out.weight, 1 / head.out.in_features)
    nn.init.zeros_(head.out.bias)
    tokens = torch.full((3, 12, 4), 2.5)
    assert torch.allclose(head(tokens, random_patches(3)), torch.tensor(2.5))


def test_a_grid_coarser_than_the_patches_is_refused() -> None:
    """A head that would blur the tokens says so, with both numbers."""
    with pytest.raises(
        ValueError, match="grid has 6 cells of 16 steps, fewer than the 12 patches"
    ):
        GridHead(TASK, Architecture(grid=16), 12)


def test_unused_slots_change_nothing() -> None:
    """Whatever stands in a masked slot, valid tokens and forecast stay the same."""
    torch.manual_seed(0)
    architecture = Architecture(dropout=0.0)
    backbone, token = Transformer(architecture), torch.randn(2, 6, 16)
    valid = torch.tensor([[True] * 4 + [False] * 2] * 2)
    start = torch.tensor([[0, 20, 50, 70, 96, 96]] * 2)
    length = torch.tensor([[20, 30, 20, 26, 0, 0]] * 2)
    patches = Patches(start, length, valid)
    other = token.clone()
    other[:, 4:] = 100.0
    for head_type in (GridHead, FlattenHead, QueryHead):
        head = head_type(TASK, architecture, 6)
        first, second = (
            head(backbone(one, valid[:, None, None]), patches) for one in (token, other)
        )
        assert torch.allclose(first, second, atol=1e-6), head_type


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_rows_pass_a_few_at_a_time_without_a_gradient_and_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, *, masked: bool, grouped: bool
) -> None:
    """To the last bit, with the last part smaller than the others."""
    torch.manual_seed(0)
    backbone, token = Transformer(Architecture(dropout=0.0)), torch.randn(11, 12, 16)
    mask = (torch.rand(11, 1, 1, 12) < 0.7).index_fill(3, torch.tensor(0), value=True)
    coarse = torch.tensor([[0, 3, 8]] * 11)
    inputs = token, mask if masked else None, coarse if grouped else None
    expected = backbone(*inputs)
    seen: list[int] = []
    backbone.norm.register_forward_hook(lambda _, __, out: seen.append(len(out)))
    monkeypatch.setattr("harness.model.blocks._CACHED", 4 * 12 * 128)
    with torch.no_grad():
        got = backbone(*inputs)
    assert seen == [4, 4, 3]
    assert torch.equal(got, expected)


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_dropout_drops_the_rate_it_says_and_keeps_the_mean(rate: float) -> None:
    """The share of zeros is the rate to within noise, and the mean of the rest makes up for it."""
    torch.manual_seed(0)
    dropout = Dropout(rate)
    out = dropout(torch.ones(1_000_003))
    assert (out == 0).double().mean() == pytest.approx(round(rate * 256) / 256, abs=3e-3)
    assert out.double().mean() == pytest.approx(1.0, abs=5e-3)
    assert torch.equal(dropout.eval()(torch.ones(10)), torch.ones(10))


def test_dropout_repeats_itself_under_a_seed() -> None:
    """The same seed drops the same values, another one others."""
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(Dropout(0.5)(torch.ones(1000)))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_instance_norm_keeps_constant_rows_finite() -> None:
    """A look-back without variation becomes zeros, not NaN."""
    normal, mean, scale = instance_norm(torch.full((1, 1, 8), 3.0))
    assert torch.equal(normal, torch.zeros(1, 1, 8))
    assert (float(mean), float(scale)) == pytest.approx((3.0, 1e-5**0.5))
