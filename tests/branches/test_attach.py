"""The branch contract, with a toy branch on every method.

Alone: pytest tests/branches/test_attach.py
"""

import pytest
import torch
from torch import Tensor, nn

from probekit.branches.base import Branch, attach
from probekit.methods.base import Step
from probekit.models.encoder import Features
from probekit.registry import METHODS
from tests.methods.test_conrec import build, views


class Toy(Branch):
    """Scales the embedding by a learned number and pulls that number to 2."""

    name = "toy"
    needs = frozenset({"map"})

    def __init__(self, *, weight: float) -> None:
        super().__init__(weight=weight)
        self.scale = nn.Parameter(torch.tensor(3.0))

    def refine(self, features: Features) -> Features:
        return Features(features.stages, features.map, features.pooled * self.scale, features.weights)

    def loss(self, step: Step) -> Tensor:
        return (self.scale - 2) ** 2


class Needy(Toy):
    name = "needy"
    needs = frozenset({"map", "telepathy"})


@pytest.mark.parametrize("name", METHODS)
def test_a_branch_attaches_to_any_method_with_a_map(name: str) -> None:
    method = build(name).eval()
    before = method.encode(views().inputs[0]).pooled
    toy = Toy(weight=0.5)
    attach(method, toy)
    torch.testing.assert_close(method.encode(views().inputs[0]).pooled, 3 * before)
    step = method.step(views())
    (step.loss + toy.weight * toy.loss(step)).backward()  # type: ignore[no-untyped-call]
    assert toy.scale.grad is not None
    assert "branches.toy.scale" in method.state_dict()


def test_unmet_needs_and_double_attachment_are_refused_by_name() -> None:
    method = build("simclr")
    with pytest.raises(ValueError, match="a method with telepathy for branch 'needy', found SimCLR"):
        attach(method, Needy(weight=1.0))
    attach(method, Toy(weight=1.0))
    with pytest.raises(ValueError, match="'toy' is attached already"):
        attach(method, Toy(weight=1.0))


def test_hooks_are_harmless_by_default() -> None:
    class Idle(Branch):
        name = "idle"

    method = build("conrec").eval()
    batch = views()
    before = method.step(batch)
    idle = Idle(weight=1.0)
    attach(method, idle)
    after = method.step(batch)
    assert torch.equal(before.loss, after.loss + idle.weight * idle.loss(after))
    features = method.encode(batch.inputs[0])
    assert idle.maps(features) is None
    assert idle.pool(features) is None
    assert idle.companions(torch.arange(3), torch.Generator()) is None
    assert not idle.resting
