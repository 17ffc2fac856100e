"""Dropout and normalisation: the rates and the means they promise."""

from __future__ import annotations

import pytest
import torch

from harness.model.layers import Dropout, instance_norm, running_sum


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


def test_instance_norm_divides_by_the_deviation_of_the_row_itself() -> None:
    """The standard deviation is that of the steps there are, not an estimate for more of them."""
    values = torch.tensor([[1.0, 3.0, 1.0, 3.0]])
    normal, mean, scale = instance_norm(values)
    assert (float(mean), float(scale)) == pytest.approx((2.0, (1 + 1e-5) ** 0.5))
    assert torch.allclose(normal, torch.tensor([[-1.0, 1.0, -1.0, 1.0]]), atol=1e-5)


def test_running_sums_keep_the_digits_of_late_steps() -> None:
    """After a long row of large values each step is still the difference of two sums."""
    values = 1000 + torch.rand(2, 5000, generator=torch.Generator().manual_seed(0))
    total = running_sum(values)
    assert total[:, 0].tolist() == [0, 0]
    assert (total.diff(dim=1) - values).abs().max() < 1e-6
