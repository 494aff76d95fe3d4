"""Which precision heads compute in. Alone: pytest tests/models/test_heads.py."""

import pytest
import torch
from torch import Tensor, nn

from probekit.methods.supervised import Classifier
from probekit.models import heads
from probekit.models.heads import MLP, ProjectionHead


def types(head: nn.Module) -> list[torch.dtype]:
    """The types of what each layer is given under autocast, and of what comes out; the heads are of width 8."""
    seen: list[torch.dtype] = []

    def note(module: nn.Module, inputs: tuple[Tensor], out: Tensor) -> None:
        seen.append(out.dtype if isinstance(module, nn.Linear) else inputs[0].dtype)

    for layer in head.modules():
        if not list(layer.children()):
            layer.register_forward_hook(note)
    with torch.autocast("cpu", torch.bfloat16):
        seen.append(head(torch.rand(4, 8, dtype=torch.float32)).dtype)
    return seen


@pytest.mark.parametrize(
    "head",
    [
        MLP(8, 16, 8, norm=True),
        MLP(8, 8, norm=False, last="batch norm"),
        ProjectionHead(dim=8, out=4),
        Classifier(8, 3),
    ],
)
def test_heads_compute_in_float32(head: nn.Module) -> None:
    assert set(types(head)) == {torch.float32}


def test_wide_ones_compute_in_the_runs_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    half, single = torch.bfloat16, torch.float32
    monkeypatch.setattr(heads, "WIDE", 16)
    assert types(MLP(8, 16, 8, norm=True)) == [half, half, half, half, single]
    assert types(MLP(8, 16, 8, norm=True, last="batch norm")) == [half, half, half, half, single, single]
    assert set(types(MLP(8, 15, 8, norm=True))) == {single}


def test_those_of_the_papers_are_wide() -> None:
    """Barlow Twins and VICReg: three layers of 8192."""
    with torch.device("meta"):
        assert MLP(512, 8192, 8192, 8192, norm=True).wide
        assert not MLP(2048, 4096, 256, norm=True).wide  # BYOL
