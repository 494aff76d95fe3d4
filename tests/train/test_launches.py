"""How many operators a step launches on a GPU, and the bytes that its views move: counted, on meta tensors.

Meta tensors have shapes and no values, and take the way of a GPU. Before views were drawn at once and applied as a pure
function (docs/log.md, 2026-11-28) simclr's step had 428 operators, conrec's 989, dino's in colour 2,205, counted
independently (design notes, by another counter); moco-v2's views moved 25.55 GB by this one.

Alone: pytest tests/train/test_launches.py
"""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from probekit.registry import METHODS
from probekit.restore.build import build_method
from probekit.train.cost import Counted, Counter, count, meta_generator
from probekit.train.optim import build_optimizer
from probekit.train.step import TrainingStep
from tests.train.test_step import configured

META = torch.device("meta")


@pytest.fixture(autouse=True)
def on_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no autocast for it."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


def step_of(method: str, *, batch: int, channels: int, size: int) -> tuple[TrainingStep, Tensor, Tensor]:
    config = configured(method, preset="paper", **{"model.width": 64, "model.depth": 4, "train.batch_size": batch})
    with META:
        model = build_method(config, channels=channels).train()
        images = torch.empty(batch, channels, size, size, dtype=torch.uint8)
        index = torch.zeros(batch, dtype=torch.int64)
    # torch's fused AdamW is a launch or two, and has no meta kernel: it stays out of the count.
    name = config.optimizer.name
    optimizer: Any = build_optimizer(
        model, name=name if name in ("lars", "larc") else "larc", lr=1, momentum=0.9, weight_decay=0
    )
    for group in optimizer.param_groups:
        group["lr"] = torch.empty((), device=META)
    if name not in ("lars", "larc"):
        optimizer.step = lambda: None
    labels = torch.zeros(batch, dtype=torch.int64, device=META) if model.needs_labels else None
    return TrainingStep(config, model, optimizer, images, meta_generator(), labels), index, images


def counted(method: str, *, channels: int = 1, batch: int = 16, size: int = 128) -> tuple[int, Counted]:
    """Operators, and what they cost: one over a list with a factor for each tensor is as many launches."""
    step, index, images = step_of(method, batch=batch, channels=channels, size=size)
    step(index, images)  # makes the optimizer's state
    costs: list[Counted] = []
    with Counter(lambda operator, cost: costs.append(cost)):
        step(index, images)
    return len(costs), sum(costs, Counted())


@pytest.mark.parametrize(("method", "channels", "most"), [("simclr", 1, 260), ("conrec", 1, 460), ("dino", 3, 900)])
def test_a_step_has_few_operators(method: str, channels: int, most: int) -> None:
    operators, found = counted(method, channels=channels)
    assert operators <= most
    assert operators <= found.launches <= 1.1 * most


@pytest.mark.parametrize("method", METHODS)
def test_every_step_has_a_count_and_reads_no_value(method: str) -> None:
    """Reading a value of a meta tensor, as a wait for a GPU does, raises."""
    operators, _ = counted(method, batch=8, size=64)
    assert 0 < operators < 1000


def test_colour_views_move_a_third_of_what_they_did() -> None:
    step, index, images = step_of("moco-v2", batch=64, channels=3, size=224)
    assert count(lambda: step.views(index, images)).bytes <= 25.553e9 / 3
