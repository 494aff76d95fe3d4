"""Every layout of weights, in the project's own names, against the project's own features.

Alone: pytest tests/models/test_layouts.py
"""

from pathlib import Path

import pytest
import torch

from probekit.models.checkpoint import Checkpoint, read_checkpoint
from probekit.models.snapshot import weights_in
from probekit.models.weights import Match, load_weights
from tests.models.foreign.base import SIDE, Case, encoder_of
from tests.models.foreign.table import FOREIGN

pytest.importorskip("timm")
CLOSE = 1e-4  # relative to the largest feature


def checkpoint_of(case: Case) -> Checkpoint:
    return weights_in(case.path) if case.path.is_dir() else read_checkpoint(case.path)


def compared(case: Case) -> tuple[Match, float]:
    """How the weights match, and the largest difference of features, relative to the largest feature."""
    encoder = encoder_of(case)
    match = load_weights(encoder, checkpoint_of(case))
    x = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = encoder(x).map, case.features(x)
    assert found.shape == expected.shape
    return match, float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", FOREIGN)
def test_weights_are_whole_and_features_are_theirs(name: str, tmp_path: Path) -> None:
    case = FOREIGN[name].make(tmp_path)
    match, difference = compared(case)
    assert (match.matched, match.mark) == (match.total, "")
    assert difference < CLOSE
