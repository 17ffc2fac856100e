"""The backbone without a gradient: a few rows at a time, to the last bit the same."""

from __future__ import annotations

import pytest
import torch

from harness.core.task import Architecture
from harness.model.backbones import Transformer


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
    monkeypatch.setattr("harness.model.layers._CACHED", 4 * 12 * 128)
    with torch.no_grad():
        got = backbone(*inputs)
    assert seen == [4, 4, 3]
    assert torch.equal(got, expected)
