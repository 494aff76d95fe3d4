"""SwAV and DINO: what is frozen and when, centring, queues, crops of two sizes, heads.

Alone: pytest tests/methods/test_prototypes.py
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.methods.dino import DINO
from probekit.methods.losses import sinkhorn, swapped_cross_entropy, used
from probekit.methods.swav import SwAV
from tests.methods.batches import built, noisy_views
from tests.methods.training import BATCHES, Training


def swav(options: Mapping[str, Any] = {}) -> SwAV:
    return cast(SwAV, built("swav", options))


def dino(options: Mapping[str, Any] = {}) -> DINO:
    return cast(DINO, built("dino", options))


# --- How many prototypes are used.


def test_prototypes_are_counted_by_what_is_nearest_not_by_balanced_codes() -> None:
    prototypes = torch.eye(32)
    for count, share in ((1, 0.0), (2, 1 / 31), (16, 15 / 31), (32, 1.0)):
        z = prototypes[torch.arange(64) % count]  # 64 samples on so many prototypes
        assert float(used(z @ prototypes.T)) == pytest.approx(share, abs=1e-6)
    collapsed = torch.randn(1, 8, generator=torch.Generator().manual_seed(0)).expand(64, 8)
    assert float(used(collapsed)) == pytest.approx(0, abs=1e-6)
    codes = sinkhorn(collapsed, epsilon=0.05, iterations=3)
    torch.testing.assert_close(codes, torch.full_like(codes, 1 / 8))


def test_a_batch_that_uses_as_many_prototypes_as_it_can_is_no_small_share() -> None:
    """DINO, preset paper: 512 outputs and 65,536 prototypes; here 16 and 2048."""
    assert float(used(torch.eye(2048)[:16])) == pytest.approx(1)
    assert float(used(torch.eye(2048)[:1])) == 0


@pytest.mark.parametrize("name", ["swav", "dino"])
def test_a_collapsed_encoder_uses_no_prototypes(name: str) -> None:
    method = built(name, {"method.keep": "online"} if name == "dino" else {})
    assert isinstance(method, SwAV | DINO)
    assert method.projection is not None
    last = [m for m in method.projection.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(1)
    assert float(method.step(noisy_views(local=2)).logs["prototypes used"]) == pytest.approx(0, abs=1e-6)


# --- SwAV.


@pytest.mark.parametrize("optimizer", ["larc", "sgd", "adamw", "lars"])
@pytest.mark.parametrize("freeze", [1.0, 1.3])
def test_prototypes_are_frozen_bit_for_bit_and_then_learn(optimizer: str, freeze: float) -> None:
    method = swav({"method.freeze": freeze, "method.queue": 0})
    training = Training(method, optimizer=optimizer)
    before = method.prototypes.weight.detach().clone()
    for _ in range(math.ceil(freeze * BATCHES)):
        training.step()
        assert torch.equal(method.prototypes.weight, before)
        assert not cast(Tensor, method.prototypes.weight.grad).any()  # nor does a momentum gather
    for _ in range(3):
        training.step()
        assert (method.prototypes.weight - before).abs().max() > 1e-5
        torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(6))


def test_prototypes_are_unit_rows_from_the_start_without_a_bias() -> None:
    method = swav()
    assert method.prototypes.bias is None
    torch.testing.assert_close(method.prototypes.weight.norm(dim=1), torch.ones(6))


@pytest.mark.parametrize(("local", "epsilon", "temperature"), [(0, 0.02, 0.3), (3, 0.02, 0.3), (3, 0.05, 0.1)])
def test_swavs_loss_is_that_of_one_pass_per_size(local: int, epsilon: float, temperature: float) -> None:
    """Multi-crop: the head, and its batch norm, see the crops of all sizes together."""
    method = swav({"method.queue": 0, "method.epsilon": epsilon, "method.temperature": temperature})
    views = noisy_views(local=local)
    step = method.step(views)
    with torch.no_grad():
        inputs = [views.inputs.flatten(0, 1), *([views.local.inputs.flatten(0, 1)] if views.local else [])]
        pooled = torch.cat([method.encoder(x).pooled for x in inputs])
        z = F.normalize(method.projector(pooled), dim=1)
        scores = (z @ method.prototypes.weight.T).view(2 + local, 4, 6)
        expected = []
        for i in range(2):
            q = sinkhorn(scores[i], epsilon=epsilon, iterations=3)
            expected += [-(q * (s / temperature).log_softmax(1)).sum(1).mean() for v, s in enumerate(scores) if v != i]
    torch.testing.assert_close(step.loss.detach(), torch.stack(expected).mean())
    assert step.features.pooled.shape[0] == 8  # of the large crops alone
    assert method.chance_loss == pytest.approx(math.log(6))
    assert 0 <= float(step.logs["prototypes used"]) <= 1


def test_the_queue_waits_until_it_is_full_and_for_its_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    weights: list[Tensor] = []

    def record(scores: Tensor, **settings: Any) -> Tensor:
        weights.append(settings["weight"])
        return sinkhorn(scores, **settings)

    monkeypatch.setattr("probekit.methods.swav.sinkhorn", record)
    for queue_from, first in ((1, 3), (0, 3), (2, 6)):  # a queue of 10 is full after 3 batches of 4
        method = swav({"method.queue_from": queue_from})
        training = Training(method)
        for k in range(8):
            weights.clear()
            training.step()
            assert len(weights) == 2  # one for each large crop
            for weight in weights:
                assert weight[-4:].all()
                assert weight[:-4].tolist() == [float(k >= first)] * 10


def test_each_large_crop_has_a_queue_of_its_own_with_the_features_of_the_step() -> None:
    method = swav()
    views = noisy_views(local=2)
    method.step(views)
    latest = method.latest
    assert len(latest) == 2
    assert not torch.allclose(latest[0], latest[1])
    method.after_step()
    for queue, z in zip(method.queues, latest, strict=True):
        torch.testing.assert_close(cast(Tensor, queue.rows)[:4], z)
        torch.testing.assert_close(z.norm(dim=1), torch.ones(4))


def test_a_queue_in_use_changes_the_codes_as_lightlys_does() -> None:
    from lightly.loss import SwaVLoss

    method = swav({"method.queue_from": 0, "method.queue": 8})
    training = Training(method)
    for _ in range(2):
        training.step()
    views = noisy_views(seed=9)
    loss = method.step(views).loss
    with torch.no_grad():
        z = F.normalize(method.projector(method.encoder(views.inputs.flatten(0, 1)).pooled), dim=1)
        w = method.prototypes.weight.T
        queues = [cast(Tensor, queue.rows) @ w for queue in method.queues]
        theirs = SwaVLoss(temperature=method.temperature, sinkhorn_epsilon=method.epsilon)(
            list(torch.split(z @ w, 4)), [], queues
        )
    torch.testing.assert_close(loss.detach(), theirs.squeeze(), rtol=1e-5, atol=1e-5)


# --- DINO.


@pytest.mark.parametrize("centre_momentum", [0.9, 0.2])
def test_dinos_loss_and_centre_are_lightlys_over_several_steps(centre_momentum: float) -> None:
    """Its centre follows after the loss; the teacher's temperature warms up in a straight line."""
    from lightly.loss import DINOLoss

    options = {"final_teacher_temperature": 0.07, "teacher_warmup": 2, "centre_momentum": centre_momentum}
    method = dino({f"method.{name}": value for name, value in options.items()})
    theirs = DINOLoss(
        output_dim=12,
        warmup_teacher_temp_epochs=1,
        student_temp=method.student_temperature,
        center_momentum=centre_momentum,
    )
    training = Training(method)
    for k in range(8):
        views = noisy_views(seed=k, local=3)
        assert views.local is not None
        large, small = views.inputs.flatten(0, 1), views.local.inputs.flatten(0, 1)
        with torch.no_grad():
            frozen = torch.tensor(False)
            teacher = method.target["projector"](method.target["encoder"](large).pooled, frozen)
            pooled = torch.cat([method.encoder(large).pooled, method.encoder(small).pooled])
            student = method.projector(pooled, frozen)
            temperature = 0.04 + 0.03 * min(1.0, k / (2 * BATCHES))
            expected = theirs(list(teacher.split(4)), list(student.split(4)), teacher_temp=temperature)
        found = training.step(views)
        assert found == pytest.approx(float(expected), rel=1e-5, abs=1e-5)
        torch.testing.assert_close(method.centre, theirs.center.flatten(), rtol=1e-5, atol=1e-6)
    assert method.centre.any()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_dinos_last_layer_is_frozen_bit_for_bit_in_its_first_epoch(optimizer: str) -> None:
    method = dino()
    training = Training(method, optimizer=optimizer)
    last = method.projector.last.weight
    before = last.detach().clone()
    for k in range(BATCHES + 2):
        training.step()
        assert torch.equal(last, before) == (k < BATCHES)
        assert bool(cast(Tensor, last.grad).any()) == (k >= BATCHES)


@pytest.mark.parametrize(
    ("warmup", "expected"),
    [(0, [0.06, 0.06, 0.06, 0.06]), (1, [0.04, 0.05, 0.06, 0.06]), (2, [0.04, 0.045, 0.05, 0.055])],
)
def test_the_teachers_temperature_without_a_warm_up_is_the_final_one(warmup: int, expected: list[float]) -> None:
    method = dino({"method.final_teacher_temperature": 0.06, "method.teacher_warmup": warmup})
    method.plan(batches=2, epochs=2)
    found = []
    for _ in expected:
        found.append(float(method._teacher_temperature()))
        method.clock.tick()
    assert found == pytest.approx(expected)


def test_a_first_temperature_without_effect_is_said() -> None:
    def lines(**changes: float) -> Sequence[str]:
        options = {"teacher_temperature": 0.04, "final_teacher_temperature": 0.04, "teacher_warmup": 0.0} | changes
        return DINO.suited(options, typed=(), images=10, batch_size=4)[1]

    assert lines() == lines(final_teacher_temperature=0.07, teacher_warmup=30) == []
    assert "method.teacher_temperature=0.06 has no effect" in lines(teacher_temperature=0.06)[0]


def test_dinos_teacher_follows_slowly_in_the_papers_preset() -> None:
    """Official code, help text of momentum_teacher: .9995 for batches of 256, not the .996 of larger ones."""
    method = built("dino", preset="paper")
    assert isinstance(method, DINO)
    assert method.momentum == 0.9995


def test_dinos_head_is_lightlys() -> None:
    """Same weights, same outputs: unit vectors times unit rows, the gain at 1."""
    from lightly.models.modules.heads import DINOProjectionHead

    torch.manual_seed(0)
    theirs = DINOProjectionHead(input_dim=32, hidden_dim=16, bottleneck_dim=8, output_dim=12)
    head = dino().projector
    linear = [layer for layer in theirs.layers if isinstance(layer, nn.Linear)]
    mine = [layer for layer in head.mlp if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for a, b in zip(mine, linear, strict=True):
            a.weight.copy_(b.weight)
            a.bias.copy_(b.bias)
        head.last.weight.copy_(3 * theirs.last_layer.weight_v)  # only the direction counts
        x = torch.randn(5, 32)
        found = head(x, torch.tensor(False))
        torch.testing.assert_close(found, theirs(x))
    assert found.abs().max() <= 1


def test_dinos_head_begins_as_the_authors_does() -> None:
    """Normal weights of deviation .02 and no bias, but in the last layer torch's own."""
    torch.manual_seed(0)
    head = dino({"method.hidden": 256, "method.bottleneck": 64, "method.out": 512}).projector
    for layer in head.mlp:
        if isinstance(layer, nn.Linear):
            assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
            assert not layer.bias.any()
    assert head.last.bias is None
    assert float(head.last.weight.detach().std()) == pytest.approx(1 / math.sqrt(3 * 64), rel=0.05)


@pytest.mark.parametrize(("epsilon", "temperature"), [(0.05, 0.1), (0.02, 0.3)])
def test_small_scores_grow_only_where_views_correlate_by_more_than_epsilon_over_temperature(
    epsilon: float, temperature: float
) -> None:
    """docs/methods.md: elsewhere the even prediction draws them in, and the loss stays at ln K."""
    generator = torch.Generator().manual_seed(0)
    size, line = 0.1 * epsilon, epsilon / temperature

    def growth(correlation: float) -> float:
        s, noise = torch.randn(2, 4000, 16, generator=generator)
        other = size * (correlation * s + (1 - correlation**2) ** 0.5 * noise)
        other.requires_grad_()
        code = sinkhorn(size * s, epsilon=epsilon, iterations=3)
        loss = swapped_cross_entropy(code[None], torch.stack([size * s, other]) / temperature)
        [gradient] = torch.autograd.grad(loss, other)
        return -float((gradient * other).sum())

    assert growth(0.8 * line) < 0 < growth(1.2 * line)
