"""On one GPU, two processes by gloo: batch norm over all images is torch's, and ours, which CPUs have, agrees with it.

Alone: pytest -m gpu tests/ranks/test_gpu.py
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from probekit import ranks
from tests.ranks.together import together

SHAPES = ((8, 6), (8, 6, 5, 5))


def normalised() -> list[dict[str, tuple[Tensor, ...]]]:
    """In a child: what torch's, ours and one process's batch norm give, and their gradients."""
    assert dist.get_backend() == "gloo"  # NCCL refuses a GPU that another process has
    found = []
    for shape in SHAPES:
        torch.manual_seed(0)
        x, gradient = (torch.randn(shape, device="cuda") * 3 + 5 for _ in range(2))
        plain = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm2d)(shape[1]).cuda()
        nn.init.normal_(plain.weight)
        row: dict[str, tuple[Tensor, ...]] = {}
        for kind in ("one", "torch", "ours"):
            norm: Any = type(plain)(shape[1]).cuda()
            norm.load_state_dict(plain.state_dict())
            given = (x if kind == "one" else ranks.mine(x)).clone().requires_grad_()
            norm = norm if kind == "one" else ranks.SyncedNorm(norm)
            if kind == "ours":
                running = norm.running_mean, norm.running_var, norm.momentum
                y = ranks._Normalised.apply(given, norm.weight, norm.bias, running, norm.eps)  # type: ignore[no-untyped-call]
            else:
                y = norm(given)
            y.backward(gradient if kind == "one" else ranks.mine(gradient))
            parts = [y.detach(), given.grad]
            parts = parts if kind == "one" else [ranks.gathered(part) for part in parts]
            weights = [norm.weight.grad, norm.bias.grad]
            if kind != "one":
                ranks.averaged(weights)
                weights = [2 * weight for weight in weights]
            row[kind] = tuple(part.cpu() for part in (*parts, *weights, norm.running_mean, norm.running_var))
        found.append(row)
    return found


@pytest.mark.gpu
def test_batch_norm_over_two_processes_is_that_of_one_and_torchs(tmp_path: Path) -> None:
    for found in together(2, tmp_path, normalised):
        for row in found:
            for kind in ("torch", "ours"):
                for one, several in zip(row["one"], row[kind], strict=True):
                    torch.testing.assert_close(several, one, rtol=1e-4, atol=1e-5)
