"""What is particular to the base methods without prototypes: gradients that stop, rates; settings that fit the data.

Alone: pytest tests/methods/test_bases.py
"""

import math
from collections.abc import Collection
from copy import deepcopy
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.methods.barlow_twins import BarlowTwins, cross_correlation_loss
from probekit.methods.byol import BYOL
from probekit.methods.losses import info_nce
from probekit.methods.moco_v2 import MoCoV2
from probekit.methods.simsiam import SimSiam
from probekit.methods.vicreg import VICReg, vicreg_terms
from probekit.registry import METHODS, get
from probekit.settings import method_options
from probekit.train.optim import Schedule, build_optimizer, set_rates
from tests.methods.batches import built, noisy_views, unit
from tests.methods.training import BATCHES, EPOCHS, Training

# --- SimSiam, BYOL.


def test_simsiams_loss_and_where_its_gradient_stops() -> None:
    method = cast(SimSiam, built("simsiam"))
    views = noisy_views()
    step = method.step(views)
    with torch.no_grad():
        z1, z2 = (method.projector(method.encoder(x).pooled) for x in views.inputs)
        p1, p2 = method.predictor(z1), method.predictor(z2)
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
        p1, p2 = (method.predictor(method.projector(method.encoder(x).pooled)) for x in views.inputs)
        z1, z2 = (method.target["projector"](method.target["encoder"](x).pooled) for x in views.inputs)
        expected = sum(
            (F.normalize(p, dim=1) - F.normalize(z, dim=1)).square().sum(1).mean() for p, z in ((p1, z2), (p2, z1))
        )
    torch.testing.assert_close(step.loss.detach(), torch.as_tensor(expected))  # the paper's eq. 2, both ways
    step.loss.backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in method.target.parameters())
    assert cast(Tensor, method.predictor[0].weight.grad).any()


# --- Passes.


@pytest.mark.parametrize("pooling", ["gap", "attention"])
@pytest.mark.parametrize("name", ["byol", "simsiam", "barlow-twins", "vicreg"])
def test_each_view_passes_alone_as_in_the_official_codes(name: str, pooling: str) -> None:
    """Features and moving statistics are those of networks that see one view, then the other."""
    method = cast(Any, built(name, {"model.pooling": pooling}))
    for layer in method.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    other, views = deepcopy(method), noisy_views()
    views.inputs[1] *= 0.3  # statistics over both views would be far off
    step = method.step(views)
    for x in views.inputs:
        z = other.projector(other.encoder(x).pooled)
        if name in ("byol", "simsiam"):
            other.predictor(z)
        if name == "byol":
            other.target["projector"](other.target["encoder"](x).pooled)
    expected = dict(other.named_buffers())
    for key, found in method.named_buffers():
        torch.testing.assert_close(found, expected[key], msg=key)
    alone = [method.encoder(x) for x in views.inputs]
    for found, each in (
        (step.features.pooled, [f.pooled for f in alone]),
        (step.features.map, [f.map for f in alone]),
        *((step.features.stages[i], [f.stages[i] for f in alone]) for i in range(3)),
        *((stage, [f.map for f in alone]) for stage in step.features.stages[-1:]),
    ):
        torch.testing.assert_close(found, torch.cat(each))
    assert len(step.features.stages) == 3
    assert (step.features.weights is None) == (pooling == "gap")
    (gradient,) = torch.autograd.grad(step.loss, step.features.map)
    assert gradient.abs().amax((1, 2, 3)).min() > 0  # what branches build on


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


def test_barlow_twins_and_vicreg_compare_projections_of_passes_apart() -> None:
    views = noisy_views()
    twins = cast(BarlowTwins, built("barlow-twins"))
    found = twins.step(views).loss.detach()
    z1, z2 = (twins.projector(twins.encoder(x).pooled).detach() for x in views.inputs)
    torch.testing.assert_close(found, cross_correlation_loss(z1, z2, off_diagonal=0.0051))
    vicreg = cast(VICReg, built("vicreg"))
    logs = vicreg.step(views).logs
    z1, z2 = (vicreg.projector(vicreg.encoder(x).pooled).detach() for x in views.inputs)
    torch.testing.assert_close(tuple(logs.values()), vicreg_terms(z1, z2))


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


def test_moco_with_the_queue_off_is_the_plain_info_nce() -> None:
    """Each query's negatives are the other keys of its batch; so through a training, whose target follows."""
    method = cast(MoCoV2, built("moco-v2", {"method.queue": 0}))
    assert method.chance_loss is None
    training = Training(method)
    for k in range(3):
        views = noisy_views(seed=k, batch=5)
        with torch.no_grad():
            queries = unit(method.projector(method.encoder(views.inputs[0]).pooled))
            keys = unit(method.target["projector"](method.target["encoder"](views.inputs[1]).pooled))
        terms = [-float(torch.log_softmax(keys @ q / 0.2, 0)[i]) for i, q in enumerate(queries)]
        assert training.step(views) == pytest.approx(sum(terms) / 5, rel=1e-5)
    assert not [name for name, _ in method.named_buffers() if name.startswith("queue")]


# --- Settings that fit the data.


def suited(name: str, *, images: int, typed: Collection[str] = (), **options: Any) -> tuple[dict[str, Any], list[str]]:
    """What suits the options given; the others are the defaults."""
    kind = get(METHODS, "method", name)
    found, lines = kind.suited(method_options(kind) | options, typed=typed, images=images, batch_size=16)
    return {key: found[key] for key in options}, lines


UNSUITED: list[tuple[str, int, dict[str, Any], dict[str, Any], str]] = [
    ("moco-v2", 960, {"queue": 65536}, {"queue": 480}, "more often holds an image's own key"),
    ("moco-v2", 96, {"queue": 65536}, {"queue": 48}, "there are 96 images"),
    ("moco-v2", 20, {"queue": 65536}, {"queue": 16}, "there are 20 images"),
    ("swav", 970, {"queue": 3840, "prototypes": 32}, {"queue": 960, "prototypes": 32}, "there are 970 images"),
    ("swav", 970, {"queue": 0, "prototypes": 32}, {"queue": 0, "prototypes": 8}, "shares 16 features"),
    ("swav", 970, {"queue": 240, "prototypes": 3000}, {"queue": 240, "prototypes": 128}, "shares 256 features"),
]


@pytest.mark.parametrize(("name", "images", "options", "chosen", "why"), UNSUITED)
def test_a_default_that_does_not_suit_the_images_is_changed_and_said(
    name: str, images: int, options: dict[str, Any], chosen: dict[str, Any], why: str
) -> None:
    before = dict(options)
    found, [line] = suited(name, images=images, **options)
    assert found == chosen
    assert options == before
    [key] = [key for key in chosen if chosen[key] != options[key]]
    assert line.startswith(f"method.{key}={chosen[key]} in place of {options[key]}: ")
    assert why in line


@pytest.mark.parametrize(("name", "images", "options", "chosen", "why"), UNSUITED)
def test_what_was_typed_stands_with_a_warning(
    name: str, images: int, options: dict[str, Any], chosen: dict[str, Any], why: str
) -> None:
    [key] = [key for key in chosen if chosen[key] != options[key]]
    found, [line] = suited(name, images=images, typed={f"method.{key}"}, **options)
    assert found == options
    assert line.startswith(f"warning: method.{key}={options[key]} stands as typed, where {chosen[key]} would suit: ")
    assert why in line


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("moco-v2", {"queue": 480}),
        ("moco-v2", {"queue": 0}),
        ("swav", {"queue": 240, "prototypes": 32}),
    ],
)
def test_settings_that_suit_are_as_they_were_without_a_word(name: str, options: dict[str, Any]) -> None:
    assert suited(name, images=960, **options) == (options, [])


def test_groups_that_do_not_divide_a_batch_are_said() -> None:
    def lines(group: int, *typed: str) -> list[str]:
        return suited("moco-v2", images=960, typed=typed, queue=480, group=group)[1]

    assert lines(8, "method.group") == lines(16, "method.group") == lines(5) == []
    told = "warning: method.group=5 becomes 3 of about 5.33 images: groups share a batch of 16 evenly"
    assert lines(5, "method.group") == [told]


@pytest.mark.parametrize("name", ["moco-v2", "swav"])
def test_a_queue_shorter_than_a_batch_is_refused_where_it_was_typed(name: str) -> None:
    with pytest.raises(ValueError, match=r"at least a batch, 16.*found 15; type: --set method.queue=16"):
        suited(name, images=960, typed={"method.queue"}, queue=15)
    found, [line, *_] = suited(name, images=960, queue=15)
    assert found["queue"] == 16
    assert line == "method.queue=16 in place of 15: it takes in a whole batch at a time"


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("moco-v2", "temperature", 0.0),
        ("moco-v2", "projection_dim", 0),
        ("moco-v2", "queue", -1),
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
