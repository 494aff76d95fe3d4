"""Batch norm without its count of batches is torch's in all else.

Alone: pytest tests/models/test_batch_norm.py
"""

import pytest
import torch
from torch import nn

from probekit.models.unet import BatchNorm1d, BatchNorm2d


@pytest.mark.parametrize(
    ("ours", "theirs", "shape"), [(BatchNorm1d, nn.BatchNorm1d, ()), (BatchNorm2d, nn.BatchNorm2d, (5, 3))]
)
def test_values_statistics_and_files_are_torchs(
    ours: type[nn.Module], theirs: type[nn.Module], shape: tuple[int, ...]
) -> None:
    mine, oracle = ours(4, eps=1e-3, momentum=0.2), theirs(4, eps=1e-3, momentum=0.2)
    for seed in range(3):
        x = torch.randn(6, 4, *shape, generator=torch.Generator().manual_seed(seed)) * 3 + 1
        assert torch.equal(mine(x), oracle(x))
    assert torch.equal(mine.eval()(x), oracle.eval()(x))
    kept, theirs_kept = mine.state_dict(), oracle.state_dict()
    assert kept.keys() == theirs_kept.keys()
    for name in ("running_mean", "running_var"):
        assert torch.equal(kept[name], theirs_kept[name])
    assert int(kept["num_batches_tracked"]) == 0
    assert int(theirs_kept["num_batches_tracked"]) == 3
    mine.load_state_dict(theirs_kept)  # of a file that was written before
