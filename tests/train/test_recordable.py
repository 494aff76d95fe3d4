"""What a CUDA graph asks of a step, for every method and branch, without a GPU: nothing of it is decided on the host.

A graph repeats its kernels with the addresses and numbers of the recording. So a step reads no value back, takes
nothing from the host's memory, and what depends on a run's progress is in buffers that stay where they are.
Alone: pytest tests/train/test_recordable.py
"""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from probekit.branches.base import branches_of
from probekit.methods.base import Method
from probekit.registry import BRANCHES, METHODS, VARIANTS
from probekit.train.step import TrainingStep
from tests.methods.batches import HEADS
from tests.train.test_step import configured, step_of

META = torch.device("meta")
NAMES = [*([method] for method in METHODS), *(["simclr", branch] for branch in [*BRANCHES, *VARIANTS])]


class MetaGenerator(torch.Generator):
    """On a device that torch has none for."""

    device = META


class Elsewhere(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each operator that takes or gives a tensor that is not on the device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = 0
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.seen += 1
        if any(x.device != META for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor)):
            self.found.append(str(func))
        return out


@pytest.mark.parametrize("names", NAMES, ids="+".join)
def test_a_step_reads_no_value_and_takes_nothing_from_the_host(
    names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors without values: what would read one fails. Fused optimizers have a test of their own."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # knows no such device
    options = HEADS.get(names[0], {}) | {"model.depth": 2, "optimizer.name": "larc", "optimizer.clip": 1.0}
    step = step_of(configured(*names, **options))
    for module in (step.method, step.maker, step.of_companions):
        module.to(META)
    step.images, step.generator = step.images.to(META), MetaGenerator()  # type: ignore[union-attr]
    step.labels = None if step.labels is None else step.labels.to(META)
    for group in step.optimizer.param_groups:
        group["lr"] = torch.empty((), device=META)
    index = torch.empty(8, dtype=torch.int64, device=META)
    for _ in range(2):
        with Elsewhere() as mode:
            scalars = step(index, torch.empty(8, 1, 16, 16, dtype=torch.uint8, device=META))
        assert mode.seen > 100
        assert mode.found == []
        assert scalars.device == META


def on_the_host(method: nn.Module) -> dict[str, Any]:
    """Numbers and words that modules keep, and where their tensors are."""
    kept: dict[str, Any] = {}
    for path, module in method.named_modules():
        kept |= {f"{path}.{k}": v for k, v in vars(module).items() if v is None or isinstance(v, (int, float, str))}
    tensors = [*method.named_parameters(), *method.named_buffers()]
    return kept | {name: tensor.data_ptr() for name, tensor in tensors}


def changed_on_the_host(step: TrainingStep) -> list[str]:
    """What the second of two steps changed there."""
    found = []
    for start in (0, 8):
        index = torch.arange(start, start + 8)
        step(index, step.images[index])
        found.append(on_the_host(step.method))
    before, after = found
    return [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]


@pytest.mark.parametrize("names", NAMES, ids="+".join)
def test_a_step_changes_no_number_on_the_host(names: list[str]) -> None:
    """At preset paper, which has every optimizer."""
    assert changed_on_the_host(step_of(configured(*names, preset="paper", **HEADS.get(names[0], {})))) == []


def test_a_counter_and_a_buffer_that_moves_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    step = step_of(configured("simclr"))
    step.method.register_buffer("latest", torch.zeros(()))
    step.method.steps = 0  # type: ignore[assignment]
    held = []

    def after_step(method: Method = step.method) -> None:
        method.steps += 1  # type: ignore[operator, assignment]
        held.append(torch.ones(()))
        method.latest = held[-1]

    monkeypatch.setattr(step.method, "after_step", after_step)
    assert sorted(changed_on_the_host(step)) == [".steps", "latest"]


def test_branches_take_part_in_these_steps() -> None:
    for branch in BRANCHES:
        (attached,) = branches_of(step_of(configured("simclr", branch)).method)
        assert not attached.resting
