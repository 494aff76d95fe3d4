"""Health of a run: its numbers against loops, its warnings, and --fail-on-collapse.

Alone: pytest tests/train/test_health.py
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from probekit.registry import METHODS, get
from probekit.train import health
from probekit.train.health import CollapseError, batch_health, complaints
from probekit.train.pretrain import pretrain
from tests.methods.training import build
from tests.datasets import write_shapes


def test_deviation_and_gap_are_their_formulas() -> None:
    pooled = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    found = batch_health(pooled, 5)
    z = pooled.double().numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    deviation = np.sqrt(6) * np.mean([np.sqrt(np.mean((c - c.mean()) ** 2)) for c in z.T])
    own = [z[i] @ z[5 + i] for i in range(5)]
    other = [z[i] @ z[5 + j] for i in range(5) for j in range(5) if i != j]
    assert float(found["deviation"]) == pytest.approx(deviation, rel=1e-5)
    assert float(found["similarity gap"]) == pytest.approx(np.mean(own) - np.mean(other), rel=1e-4)
    assert "similarity gap" not in batch_health(pooled, 10)  # one view


def test_a_collapse_has_no_deviation_and_spread_directions_have_one() -> None:
    assert float(batch_health(torch.ones(8, 4), 4)["deviation"]) == pytest.approx(0, abs=1e-6)
    many = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    assert float(batch_health(many, 2000)["deviation"]) == pytest.approx(1, abs=0.02)
