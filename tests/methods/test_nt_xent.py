"""NT-Xent against lightly's (half of it: lightly takes one mean over all anchors) and against naive loops.

Alone: pytest tests/methods/test_nt_xent.py
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probekit.methods.losses import nt_xent


def loops(z: torch.Tensor, temperature: float) -> float:
    """SimCLR Algorithm 1 in loops; the mean over view-1 anchors plus the mean over view-2 anchors."""
    z = z.double()
    n = len(z) // 2
    losses = []
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        s = [float(z[i] @ z[k] / (z[i].norm() * z[k].norm())) / temperature for k in range(2 * n)]
        log_sum = math.log(sum(math.exp(s[k]) for k in range(2 * n) if k != i))
        losses.append(log_sum - s[partner])
    return sum(losses[:n]) / n + sum(losses[n:]) / n


@given(st.integers(2, 9), st.integers(1, 16), st.floats(0.05, 2.0), st.integers(0, 1000))
@settings(max_examples=30)
def test_equals_the_paper_in_loops(n: int, dim: int, temperature: float, seed: int) -> None:
    z = torch.randn(2 * n, dim, generator=torch.Generator().manual_seed(seed))
    assert float(nt_xent(z, temperature=temperature)) == pytest.approx(loops(z, temperature), rel=1e-4, abs=1e-4)


def test_is_twice_lightlys() -> None:
    from lightly.loss import NTXentLoss

    z = torch.randn(32, 128, generator=torch.Generator().manual_seed(0))
    theirs = NTXentLoss(temperature=0.5)(z[:16], z[16:])
    torch.testing.assert_close(nt_xent(z, temperature=0.5), 2 * theirs, rtol=1e-5, atol=1e-5)


def test_chance_value_at_the_papers_batch() -> None:
    """All projections alike: 2 log(2N - 1) = 6.87 at N = 16."""
    assert float(nt_xent(torch.ones(32, 128), temperature=0.5)) == pytest.approx(2 * math.log(31), rel=1e-6)


def test_scale_of_the_projections_does_not_matter() -> None:
    z = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(nt_xent(z, temperature=0.5), nt_xent(7 * z, temperature=0.5))
