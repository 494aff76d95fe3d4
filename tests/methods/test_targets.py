"""Moving averages and queues against step-by-step traces in NumPy; which network is kept.

Alone: pytest tests/methods/test_targets.py
"""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from probekit.methods.momentum import Clock, FeatureQueue, MomentumMethod
from tests.methods.batches import built, noisy_views

TARGETS = ("moco-v2", "byol", "dino")
BATCHES, EPOCHS = 3, 2

Arrays = list[NDArray[np.float64]]


def momentum_method(name: str, options: Mapping[str, Any] = {}) -> MomentumMethod:
    method = built(name, options)
    assert isinstance(method, MomentumMethod)
    method.plan(batches=BATCHES, epochs=EPOCHS)
    return method


def online(method: MomentumMethod) -> Arrays:
    return [p.detach().double().numpy().copy() for name in method.followed for p in getattr(method, name).parameters()]


def target(method: MomentumMethod) -> Arrays:
    return [p.double().numpy().copy() for p in method.target.parameters()]


def train_one(method: MomentumMethod, seed: int) -> None:
    """A step of plain SGD, large enough to be seen."""
    method.zero_grad()
    method.step(noisy_views(seed=seed, local=2)).loss.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for p in method.parameters():
            if p.grad is not None:
                p.sub_(p.grad, alpha=0.1)
    method.after_step()


@pytest.mark.parametrize("name", TARGETS)
def test_the_target_follows_as_in_numpy(name: str) -> None:
    """Over a whole run and beyond: tau from .9 to 1 along BYOL's cosine, for MoCo constant."""
    method = momentum_method(name, {"method.momentum": 0.9})
    expected = target(method)
    for mine, theirs in zip(online(method), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    start = expected
    for k in range(BATCHES * EPOCHS + 1):
        train_one(method, k)
        done = min(1.0, k / (BATCHES * EPOCHS))
        tau = 0.9 if name == "moco-v2" else 1 - (1 - 0.9) * (np.cos(np.pi * done) + 1) / 2
        expected = [tau * old + (1 - tau) * new for old, new in zip(expected, online(method), strict=True)]
        for mine, theirs in zip(target(method), expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(start, target(method), strict=True))


@pytest.mark.parametrize("name", TARGETS)
def test_the_targets_batch_norms_are_its_own(name: str) -> None:
    """Their statistics come from its own passes; they do not follow, and the trained ones do not come from it."""
    method = momentum_method(name)
    seen: dict[nn.Module, int] = {}
    for part in (method.encoder, method.target["encoder"]):
        for module in part.modules():
            if isinstance(module, nn.BatchNorm2d):
                seen[module] = 0
                module.register_forward_hook(lambda module, *_: seen.update({module: seen[module] + 1}))
    method.step(noisy_views())
    assert set(seen.values()) == {2 if name == "byol" else 1}
    before = [b.clone() for b in method.target.buffers()]
    with torch.no_grad():
        for b in method.encoder.buffers():
            b.add_(1)
    method.after_step()
    assert all(torch.equal(a, b) for a, b in zip(before, method.target.buffers(), strict=True))


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("keep", ["online", "target"])
def test_kept_names_the_encoder_and_projection_its_head(name: str, keep: str) -> None:
    method = momentum_method(name, {"method.keep": keep})
    encoder = method.get_submodule(method.kept)
    assert encoder is (method.encoder if keep == "online" else method.target["encoder"])
    head = method.projector if keep == "online" else method.target["projector"]
    assert isinstance(head, nn.Module)
    assert method.projection in list(head.modules())


def test_what_is_kept_by_default() -> None:
    """BYOL and MoCo keep the trained network, DINO the teacher."""
    assert {name: momentum_method(name).kept for name in TARGETS} == {
        "moco-v2": "encoder",
        "byol": "encoder",
        "dino": "target.encoder",
    }


@pytest.mark.parametrize("name", TARGETS)
def test_given_other_weights_the_target_begins_with_them(name: str) -> None:
    method = momentum_method(name)
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1)
    method.synchronise()
    for mine, theirs in zip(online(method), target(method), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not any(p.requires_grad for p in method.target.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method.momentum": 1.1}, "expected method.momentum = a number of at most 1, found 1.1"),
        ({"method.momentum": -0.1}, "expected method.momentum = a number of at least 0, found -0.1"),
        ({"method.keep": "both"}, "expected method.keep = one of online, target, found 'both'"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built("byol", options)


# --- The clock.


def test_the_clock_counts_epochs_and_is_in_the_state() -> None:
    clock = Clock()
    clock.plan(batches=4, epochs=3)
    assert float(clock.done) == 0.0
    early: list[tuple[bool, bool]] = []
    for _ in range(8):
        early.append((bool(clock.before(1)), bool(clock.before(1.3))))
        clock.tick()
    assert [a for a, _ in early] == [True] * 4 + [False] * 4
    assert [b for _, b in early] == [True] * 6 + [False] * 2  # 5.2 steps
    assert (clock.first_step(1), clock.first_step(1.3), clock.first_step(0)) == (4, 6, 0)
    assert float(clock.done) == pytest.approx(8 / 12)
    other = Clock()
    other.load_state_dict(clock.state_dict())
    assert int(other.step) == 8


# --- Queues.


@pytest.mark.parametrize(("length", "batches"), [(8, [4] * 5), (10, [4] * 8), (7, [7, 7]), (5, [1, 3, 5, 2])])
def test_the_queue_is_first_in_first_out(length: int, batches: list[int]) -> None:
    """Against a list from which the oldest are dropped; lengths that the batch does not divide."""
    queue = FeatureQueue(length, 3)
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(length))
    memory: list[tuple[float, ...]] = [tuple(row) for row in queue.rows.tolist()]
    pushed = 0
    for number, batch in enumerate(batches):
        assert bool(queue.full) == (pushed >= length)
        vectors = torch.arange(3 * batch).view(batch, 3) + 1000.0 * (number + 1)
        queue.push(vectors)
        memory = memory[batch:] + [tuple(row) for row in vectors.tolist()]
        pushed += batch
        assert sorted(memory) == sorted(tuple(row) for row in queue.rows.tolist())
        assert int(queue.pushed) == pushed


def test_moco_compares_with_the_older_keys_alone_and_then_remembers_its_own() -> None:
    method = momentum_method("moco-v2", {"method.momentum": 1.0})
    queue = cast(FeatureQueue, method.queue)
    temperature = 0.2
    for k in range(4):
        batch = noisy_views(seed=k)
        older = queue.rows.clone()
        loss = method.step(batch).loss
        with torch.no_grad():
            # batch norm in training mode is the same for the same images: both passes once more
            query = F.normalize(cast(nn.Module, method.projector)(method.encoder(batch.inputs[0]).pooled), dim=1)
            keys = F.normalize(method.target["projector"](method.target["encoder"](batch.inputs[1]).pooled), dim=1)
            logits = torch.cat([(query * keys).sum(1, keepdim=True), query @ older.T], dim=1) / temperature
            torch.testing.assert_close(loss.detach(), (logits.logsumexp(1) - logits[:, 0]).mean())
        assert torch.equal(queue.rows, older)
        method.after_step()
        place = [(4 * k + i) % 10 for i in range(4)]
        torch.testing.assert_close(queue.rows[place], keys)
        others = [i for i in range(10) if i not in place]
        assert torch.equal(queue.rows[others], older[others])


def test_mocos_keys_pass_in_groups_and_come_back_in_order() -> None:
    """With batch norm on, a group sees its own statistics; in evaluation mode grouping changes nothing."""
    grouped, whole = (momentum_method("moco-v2", {"method.group": group}) for group in (2, 8))
    views = noisy_views(batch=8)
    for method in (grouped, whole):
        method.step(views)
    grouped_keys, whole_keys = (cast(torch.Tensor, m.keys) for m in (grouped, whole))
    assert not torch.allclose(grouped_keys, whole_keys, atol=1e-4)
    with torch.no_grad():
        mine = momentum_method("moco-v2").target
        for first in range(4):  # groups of 2 of 8: every fourth image
            pair = views.inputs[1, first::4]
            expected = F.normalize(mine["projector"](mine["encoder"](pair).pooled), dim=1)
            torch.testing.assert_close(grouped_keys[first::4], expected)
    for method in (grouped, whole):
        method.eval()
        method.load_state_dict(grouped.state_dict())
        method.step(views)
    torch.testing.assert_close(cast(torch.Tensor, grouped.keys), cast(torch.Tensor, whole.keys))
