"""The backbone without a gradient: a few rows at a time, to the last bit the same."""

from __future__ import annotations

import pytest
import torch
from branches import with_branches
from torch import Tensor, nn
from torch.nn import functional

from harness.core.task import Architecture
from harness.model.attention import attention
from harness.model.backbones import Transformer
from harness.model.layers import Dropout


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_rows_pass_a_few_at_a_time_without_a_gradient_and_nothing_changes(
    monkeypatch: pytest.MonkeyPatch, *, masked: bool, grouped: bool
) -> None:
    """To the last bit, with the last part smaller than the others."""
    torch.manual_seed(0)
    backbone, token = (
        with_branches(Transformer(Architecture(dropout=0.0))),
        torch.randn(11, 12, 32),
    )
    mask = (torch.rand(11, 1, 1, 12) < 0.7).index_fill(3, torch.tensor(0), value=True)
    coarse = torch.tensor([[0, 3, 8]] * 11)
    inputs = token, mask if masked else None, coarse if grouped else None
    expected = backbone(*inputs)
    seen: list[int] = []
    backbone.blocks[-1].register_forward_hook(lambda _, __, out: seen.append(len(out)))
    monkeypatch.setattr("harness.model.layers._CACHED", 4 * 12 * 128)
    with torch.no_grad():
        got = backbone(*inputs)
    assert seen == [4, 4, 3]
    assert torch.equal(got, expected)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("patches", [7, 20])
def test_attention_is_torchs_own(patches: int, *, masked: bool) -> None:
    """Written out for a CPU, it is scaled dot-product attention, and so is its gradient.

    Rows shorter than a vector of the processor have a softmax of their own.
    """
    torch.manual_seed(0)
    packed = torch.randn(3, patches, 3, 2, 5, requires_grad=True)
    open_ = (torch.rand(3, 1, 1, patches) < 0.6).index_fill(3, torch.tensor(0), value=True)
    mask = open_ if masked else None
    query, key, value = packed.permute(2, 0, 3, 1, 4)
    expected = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    expected = expected.transpose(1, 2).flatten(2)
    found = attention(packed, mask)
    assert torch.allclose(found, expected, atol=1e-6)
    weight = torch.randn_like(expected)
    (of_expected,) = torch.autograd.grad((expected * weight).sum(), packed)
    (of_found,) = torch.autograd.grad((found * weight).sum(), packed)
    assert torch.allclose(of_found, of_expected, atol=1e-6)


def test_tokens_and_both_branches_of_each_layer_are_dropped_from() -> None:
    """In training the tokens, what attention adds and what the feed-forward part adds."""
    torch.manual_seed(0)
    backbone = with_branches(Transformer(Architecture(layers=2, dropout=0.25)))
    calls: list[tuple[nn.Module, float]] = []

    def heard(part: nn.Module, inputs: tuple[Tensor], out: Tensor) -> None:
        calls.append((part, float((out == 0).float().mean())))

    for part in backbone.modules():
        if isinstance(part, Dropout):
            part.register_forward_hook(heard)
    backbone(torch.randn(50, 12, 32), None)
    first, second = (block.dropout for block in backbone.blocks)
    assert [part for part, _ in calls] == [backbone.dropout, first, first, second, second]
    assert [share for _, share in calls] == [pytest.approx(0.25, abs=0.02)] * 5


def test_at_the_start_tokens_pass_unchanged() -> None:
    """A forecaster starts as the one without a backbone, with one level of patches or two."""
    backbone, token = Transformer(Architecture(dropout=0.0)), torch.randn(3, 5, 32)
    for coarse in (None, torch.tensor([[0, 2]] * 3)):
        assert torch.equal(backbone(token, None, coarse), token)


def test_what_layers_add_to_the_mean_of_a_group_is_added_to_each_member() -> None:
    """Two groups, worked out by hand from the layers themselves."""
    backbone = with_branches(Transformer(Architecture(layers=2, dropout=0.0)))
    token = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0))
    fine = backbone.blocks[0](token, None)
    means = torch.stack([fine[:, :2].mean(1), fine[:, 2:].mean(1)], dim=1)
    added = backbone.blocks[1](means, None) - means
    expected = fine + added[:, [0, 0, 1, 1, 1]]
    found = backbone(token, None, torch.tensor([[0, 2]]))
    assert torch.allclose(found, expected, atol=1e-5)
