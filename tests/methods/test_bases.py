"""What is particular to each base method: what is frozen and when, centring, queues, rates, settings that fit the data.

Alone: pytest tests/methods/test_bases.py
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.methods.barlow_twins import BarlowTwins
from probekit.methods.base import Method
from probekit.methods.byol import BYOL
from probekit.methods.dino import DINO
from probekit.methods.info_nce import info_nce
from probekit.methods.simsiam import SimSiam
from probekit.methods.sinkhorn import sinkhorn
from probekit.methods.swav import SwAV
from probekit.methods.vicreg import VICReg
from probekit.registry import METHODS, get
from probekit.train.optim import Schedule, build_optimizer, set_rates
from probekit.views import Views
from tests.methods.batches import built, noisy_views

BATCHES, EPOCHS = 3, 4


class Training:
    """Steps of a method with the optimizer of its own rates."""

    def __init__(self, method: Method, *, optimizer: str = "sgd", decay: str = "all") -> None:
        self.method = method
        method.plan(batches=BATCHES, epochs=EPOCHS)
        self.optimizer = build_optimizer(
            method, name=optimizer, lr=0.1, momentum=0.9, weight_decay=0.01, decay=decay, rates=method.rates()
        )
        self.schedule = Schedule(peak=0.1, name="cosine", warmup=0, total=BATCHES * EPOCHS)
        self.done = 0

    def step(self, views: Views | None = None) -> float:
        set_rates(self.optimizer, self.schedule, self.done)
        self.optimizer.zero_grad()
        loss = self.method.step(noisy_views(seed=self.done, local=2) if views is None else views).loss
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.method.after_step()
        self.done += 1
        return loss.item()


def swav(options: Mapping[str, Any] = {}) -> SwAV:
    return cast(SwAV, built("swav", options))


def dino(options: Mapping[str, Any] = {}) -> DINO:
    return cast(DINO, built("dino", options))


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


@pytest.mark.parametrize("local", [0, 3])
def test_swavs_loss_is_that_of_one_pass_per_size(local: int) -> None:
    """Multi-crop: the head, and its batch norm, see the crops of all sizes together."""
    method = swav({"method.queue": 0})
    views = noisy_views(local=local)
    step = method.step(views)
    with torch.no_grad():
        inputs = [views.inputs.flatten(0, 1), *([views.local.inputs.flatten(0, 1)] if views.local else [])]
        pooled = torch.cat([method.encoder(x).pooled for x in inputs])
        z = F.normalize(method.projector(pooled), dim=1)
        scores = (z @ method.prototypes.weight.T).view(2 + local, 4, 6)
        expected = []
        for i in range(2):
            q = sinkhorn(scores[i], epsilon=0.05, iterations=3)
            expected += [-(q * (s / 0.1).log_softmax(1)).sum(1).mean() for v, s in enumerate(scores) if v != i]
    torch.testing.assert_close(step.loss.detach(), torch.stack(expected).mean())
    assert step.features.pooled.shape[0] == 8  # of the large crops alone
    assert method.chance_loss == pytest.approx(math.log(6))
    assert 0 < float(step.logs["prototypes used"]) <= 1


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
        theirs = SwaVLoss()(list(torch.split(z @ w, 4)), [], queues)
    torch.testing.assert_close(loss.detach(), theirs.squeeze(), rtol=1e-5, atol=1e-5)


# --- DINO.


def test_dinos_loss_and_centre_are_lightlys_over_several_steps() -> None:
    """Its centre follows after the loss; the teacher's temperature warms up in a straight line."""
    from lightly.loss import DINOLoss

    method = dino({"method.final_teacher_temperature": 0.07, "method.teacher_warmup": 2})
    theirs = DINOLoss(output_dim=12, warmup_teacher_temp_epochs=1)
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


# --- SimSiam, BYOL.


def test_simsiams_loss_and_where_its_gradient_stops() -> None:
    method = cast(SimSiam, built("simsiam"))
    views = noisy_views()
    step = method.step(views)
    with torch.no_grad():
        z = method.projector(method.encoder(views.inputs.flatten(0, 1)).pooled)
        p = method.predictor(z)
        (z1, z2), (p1, p2) = z.chunk(2), p.chunk(2)
        expected = -0.5 * (F.cosine_similarity(p1, z2).mean() + F.cosine_similarity(p2, z1).mean())
    torch.testing.assert_close(step.loss.detach(), expected)
    # With a predictor that ignores its input, gradient could come through the targets alone.
    with torch.no_grad():
        cast(nn.Linear, method.predictor[0]).weight.zero_()
    method.step(views).loss.backward()  # type: ignore[no-untyped-call]
    assert all(
        p.grad is None or not p.grad.any() for p in [*method.encoder.parameters(), *method.projector.parameters()]
    )
    assert cast(Tensor, method.predictor[-1].bias.grad).any()


def test_simsiams_layers() -> None:
    """Official code: no bias under a batch norm; the last batch norm of the projector has neither scale nor shift."""
    method = cast(SimSiam, built("simsiam"))
    kinds = [type(layer).__name__ for layer in method.projector]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear", "BatchNorm1d"]
    assert all(layer.bias is None for layer in method.projector if isinstance(layer, nn.Linear))
    assert not cast(nn.BatchNorm1d, method.projector[-1]).affine
    assert [type(layer).__name__ for layer in method.predictor] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert method.predictor[0].bias is None
    assert method.predictor[-1].bias is not None


def test_simsiams_predictor_keeps_its_rate_while_the_others_fall() -> None:
    method = cast(SimSiam, built("simsiam"))
    training = Training(method)
    own = {id(p) for p in method.predictor.parameters()}
    rates: list[tuple[float, float]] = []
    for _ in range(BATCHES * EPOCHS):
        training.step()
        by_owner: dict[bool, set[float]] = {True: set(), False: set()}
        for group in training.optimizer.param_groups:
            for p in group["params"]:
                by_owner[id(p) in own].add(group["lr"])
        (predictors,), (others,) = by_owner[True], by_owner[False]
        rates.append((predictors, others))
    assert {predictors for predictors, _ in rates} == {0.1}
    assert [others for _, others in rates] == pytest.approx(
        [0.05 * (1 + math.cos(math.pi * k / 12)) for k in range(12)]
    )


def test_byols_loss_and_where_its_gradient_stops() -> None:
    method = cast(BYOL, built("byol"))
    views = noisy_views()
    with torch.no_grad():
        for p in method.target.parameters():
            p.mul_(1.1)  # no longer the trained network
    step = method.step(views)
    with torch.no_grad():
        x = views.inputs.flatten(0, 1)
        p1, p2 = method.predictor(method.projector(method.encoder(x).pooled)).chunk(2)
        z1, z2 = method.target["projector"](method.target["encoder"](x).pooled).chunk(2)
        expected = sum(
            (F.normalize(p, dim=1) - F.normalize(z, dim=1)).square().sum(1).mean() for p, z in ((p1, z2), (p2, z1))
        )
    torch.testing.assert_close(step.loss.detach(), torch.as_tensor(expected))  # the paper's eq. 2, both ways
    step.loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in method.target.parameters())
    assert cast(Tensor, method.predictor[0].weight.grad).any()


# --- Barlow Twins, VICReg.


def test_barlow_twins_biases_and_norms_learn_at_their_own_rate() -> None:
    method = cast(BarlowTwins, built("barlow-twins", {"method.vector_rate": 0.024}))
    optimizer = build_optimizer(
        method, name="lars", lr=0.2, momentum=0.9, weight_decay=1.5e-6, decay="weights", rates=method.rates()
    )
    set_rates(optimizer, Schedule(peak=0.2, name="cosine", warmup=0, total=10), 0)
    seen = 0
    for group in optimizer.param_groups:
        for p in group["params"]:
            seen += 1
            assert group["lr"] == pytest.approx(0.2 if p.ndim > 1 else 0.0048)
            assert group["adapt"] == (p.ndim > 1)
    assert seen == sum(1 for p in method.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", ["barlow-twins", "vicreg"])
def test_both_views_get_a_gradient(name: str) -> None:
    """No branch is detached, unlike BYOL's and SimSiam's."""
    method = built(name).eval()  # an image's gradient then depends on its own view alone, up to the loss
    views = noisy_views()
    views.inputs.requires_grad_()
    method.step(views).loss.backward()  # type: ignore[no-untyped-call]
    assert views.inputs.grad is not None
    assert views.inputs.grad.abs().amax((1, 2, 3, 4)).min() > 0


def test_vicreg_is_the_weighted_sum_of_its_logs() -> None:
    method = cast(VICReg, built("vicreg", {"method.invariance": 2.0, "method.variance": 3.0, "method.covariance": 5.0}))
    step = method.step(noisy_views())
    logs = step.logs
    torch.testing.assert_close(
        step.loss.detach(), 2 * logs["invariance"] + 3 * logs["variance"] + 5 * logs["covariance"]
    )


def test_moco_is_info_nce_of_its_queue() -> None:
    method = cast(Any, built("moco-v2"))
    views = noisy_views()
    step = method.step(views)
    query = method.projector(step.features.pooled)
    torch.testing.assert_close(step.loss, info_nce(query, method.keys, method.queue.rows, temperature=0.2))
    assert method.chance_loss == pytest.approx(math.log(11))


# --- Settings that fit the data.


def suited(name: str, *, images: int, batch_size: int, **options: Any) -> tuple[dict[str, Any], list[str]]:
    kind = get(METHODS, "method", name)
    found: tuple[dict[str, Any], list[str]] = kind.suited(options, images=images, batch_size=batch_size)
    return found


@pytest.mark.parametrize(
    ("name", "images", "options", "chosen", "line"),
    [
        ("moco-v2", 960, {"queue": 480}, {"queue": 480}, ""),
        ("moco-v2", 960, {"queue": 65536}, {"queue": 480}, "method.queue=480 in place of 65,536: there are 960 images"),
        ("moco-v2", 20, {"queue": 65536}, {"queue": 16}, "method.queue=16"),
        ("swav", 960, {"queue": 240, "prototypes": 32}, {"queue": 240, "prototypes": 32}, ""),
        ("swav", 970, {"queue": 3840, "prototypes": 32}, {"queue": 960, "prototypes": 32}, "method.queue=960"),
        ("swav", 970, {"queue": 0, "prototypes": 32}, {"queue": 0, "prototypes": 8}, "method.prototypes=8"),
        ("swav", 970, {"queue": 240, "prototypes": 3000}, {"queue": 240, "prototypes": 128}, "256 features"),
    ],
)
def test_settings_that_do_not_fit_are_changed_and_said(
    name: str, images: int, options: dict[str, Any], chosen: dict[str, Any], line: str
) -> None:
    before = dict(options)
    found, lines = suited(name, images=images, batch_size=16, **options)
    assert found == chosen
    assert options == before
    assert (line in lines[0]) if line else lines == []
    assert all("\n" not in text for text in lines)


@pytest.mark.parametrize(("name", "typed"), [("moco-v2", "method.queue=16"), ("swav", "method.queue=0")])
def test_a_queue_shorter_than_a_batch_is_refused(name: str, typed: str) -> None:
    with pytest.raises(ValueError, match=f"at least a batch, 16.*found 15; type: --set {typed}"):
        suited(name, images=960, batch_size=16, queue=15, prototypes=4)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("moco-v2", "temperature", 0.0),
        ("moco-v2", "projection_dim", 0),
        ("simsiam", "bottleneck", 0),
        ("swav", "epsilon", 0.0),
        ("swav", "queue", -1),
        ("dino", "student_temperature", -1.0),
        ("dino", "centre_momentum", 1.5),
        ("barlow-twins", "off_diagonal", 0.0),
        ("vicreg", "variance", 0.0),
        ("byol", "hidden", 0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(name: str, option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"expected.*method.{option}") as caught:
        built(name, {f"method.{option}": value})
    assert "\n" not in str(caught.value)
