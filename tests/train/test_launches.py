"""How many operators a step launches on a GPU, and the bytes that its views move: counted, on meta tensors.

Meta tensors have shapes and no values, and take the way of a GPU. A launch is an operator of torch's dispatcher that is
no view and does not only allocate. Before views were drawn at once and applied as a pure function (docs/log.md,
2026-11-28) simclr's step had 437, conrec's 1,012, dino's in colour 2,259; moco-v2's views moved 27.75 GB.

Alone: pytest tests/train/test_launches.py
"""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from probekit import batched
from probekit.registry import METHODS
from probekit.train.build import build_method
from probekit.train.optim import build_optimizer
from probekit.train.step import TrainingStep
from tests.train.test_step import configured

META = torch.device("meta")
ALLOCATIONS = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "_unsafe_view"}


class Count(TorchDispatchMode):
    """Launches, and the bytes of all that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.namespace == "aten" and not func.is_view and func.overloadpacket.__name__ not in ALLOCATIONS:
            self.launches += 1
            tensors = [x for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)]
            self.bytes += sum(x.numel() * x.element_size() for x in tensors)
        return out


@pytest.fixture(autouse=True)
def on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """No generator and no autocast there."""
    monkeypatch.setattr(batched, "uniform", lambda shape, generator: torch.rand(*shape, device=META))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


def step_of(method: str, *, batch: int, channels: int, size: int) -> tuple[TrainingStep, Tensor, Tensor]:
    config = configured(method, preset="paper", **{"model.width": 64, "train.batch_size": batch})
    generator: Any = SimpleNamespace(device=META)
    with META:
        model = build_method(config, channels=channels).train()
        images = torch.empty(batch, channels, size, size, dtype=torch.uint8)
        index = torch.zeros(batch, dtype=torch.int64)
    # torch's fused AdamW is a launch or two, and has no meta kernel: it stays out of the count.
    name = config.optimizer.name
    optimizer = build_optimizer(
        model, name=name if name in ("lars", "larc") else "larc", lr=1, momentum=0.9, weight_decay=0
    )
    for group in optimizer.param_groups:
        group["lr"] = torch.empty((), device=META)
    if name not in ("lars", "larc"):
        optimizer.step = lambda closure=None: None  # type: ignore[method-assign]
    labels = torch.zeros(batch, dtype=torch.int64, device=META) if model.needs_labels else None
    return TrainingStep(config, model, optimizer, images, generator, labels), index, images


def counted(method: str, *, channels: int = 1, batch: int = 16, size: int = 128) -> Count:
    step, index, images = step_of(method, batch=batch, channels=channels, size=size)
    step(index, images)  # makes the optimizer's state
    with Count() as count:
        step(index, images)
    return count


@pytest.mark.parametrize(
    ("method", "channels", "most"), [("simclr", 1, 250), ("conrec", 1, 450), ("dino", 3, 900), ("moco-v2", 1, 360)]
)
def test_a_step_has_few_launches(method: str, channels: int, most: int) -> None:
    assert counted(method, channels=channels).launches <= most


@pytest.mark.parametrize("method", METHODS)
def test_every_step_has_a_count_and_reads_no_value(method: str) -> None:
    """Reading a value of a meta tensor, as a wait for a GPU does, raises."""
    assert 0 < counted(method, batch=8, size=64).launches < 1000


def test_colour_views_move_a_third_of_what_they_did() -> None:
    step, index, images = step_of("moco-v2", batch=64, channels=3, size=224)
    with Count() as count:
        step.views(index, images)
    assert count.bytes <= 27.748e9 / 3
