"""LCR against the paper's formulas in loops: rationale, divergence, weights, pooling; controls; what it leaves alone.

Alone: pytest tests/branches/test_lcr.py
"""

import math
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.branches.base import BilinearPool
from probekit.branches.lcr import LCR, rationale
from probekit.methods.base import Step
from probekit.models.encoder import Encoder
from probekit.models.pooling import weighted_mean
from tests.branches.attached import configured, features_of

N, D, H, W = 5, 8, 3, 4


def encoder() -> Encoder:
    """D is 8."""
    return Encoder(channels=1, pooling="gap", width=4, depth=2)


def branch(**settings: Any) -> LCR:
    torch.manual_seed(0)
    return LCR(encoder(), **{"k": 4, **settings})


def feature_map(*, seed: int = 0) -> Tensor:
    """At least 0, as after a ReLU."""
    return torch.rand(N, D, H, W, generator=torch.Generator().manual_seed(seed))


class Head(nn.Module):
    """A loss that is a mean over images: of global averages, so that no image's loss rests on another image."""

    def __init__(self, *, bias: bool = True, unit: bool = False) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(D, 16, bias=bias), nn.ReLU(), nn.Linear(16, 6, bias=bias))
        self.unit = unit

    def losses(self, phi: Tensor) -> Tensor:
        z = self.layers(phi.mean((2, 3)))
        return -(F.normalize(z, dim=1) if self.unit else z)[:, 0]

    def step(self, phi: Tensor) -> Step:
        return Step(loss=self.losses(phi).mean(), features=features_of(phi), logs={})


def step(phi: Tensor, **head: bool) -> Step:
    return Head(**head).step(phi)


def softmax(cells: list[float], temperature: float) -> list[float]:
    powers = [math.exp(v / temperature) for v in cells]
    return [p / sum(powers) for p in powers]


KINDS = get_type_hints(LCR.__init__)
WORDS = [name for name, kind in KINDS.items() if get_origin(kind) is Literal]


def choices(name: str) -> tuple[str, ...]:
    return get_args(KINDS[name])


@pytest.mark.parametrize("sign", choices("cam_sign"))
@pytest.mark.parametrize("scale", choices("cam_scale"))
def test_rationale_is_eq_3_in_loops(sign: str, scale: str) -> None:
    """The gradient of each image's own loss, cell by cell; "raw" leaves in the batch's 1 / n."""
    phi, head = feature_map(), Head()
    expected = torch.zeros(N, H, W)
    for n in range(N):
        alone = phi[n : n + 1].clone().requires_grad_()
        [gradient] = torch.autograd.grad(head.losses(alone).sum(), alone)
        for i in range(H):
            for j in range(W):
                product = sum(float(gradient[0, d, i, j]) * float(phi[n, d, i, j]) for d in range(D))
                expected[n, i, j] = max(0.0, product if sign == "loss" else -product)
        if scale == "raw":
            expected[n] /= N
        elif scale == "minmax" and float(expected[n].max()) > 0:
            expected[n] /= expected[n].max()
    leaf = phi.clone().requires_grad_()
    [gradient] = torch.autograd.grad(head.losses(leaf).mean(), leaf)
    assert 0 < expected.count_nonzero() < expected.numel()
    torch.testing.assert_close(rationale(phi, gradient, sign=sign, scale=scale), expected)


def test_per_location_and_averaged_gradcam_are_equal_under_an_average_pool() -> None:
    """GradCAM averages the gradient over cells first; under GAP it is the same at each."""
    phi = feature_map().requires_grad_()
    [gradient] = torch.autograd.grad(Head().losses(phi).mean(), phi)
    averaged = gradient.mean((2, 3), keepdim=True).expand_as(gradient)
    own, classic = (rationale(phi.detach(), g, sign="loss", scale="per_sample") for g in (gradient, averaged))
    torch.testing.assert_close(own, classic)


def test_without_biases_the_raw_map_of_each_image_sums_to_0() -> None:
    """Euler: the loss does not change with the scale of the features. So both signs mark complementary cells."""
    phi = feature_map().requires_grad_()
    sums = []
    for bias in (False, True):
        [gradient] = torch.autograd.grad(Head(bias=bias, unit=True).losses(phi).mean(), phi)
        loss, other = (rationale(phi.detach(), gradient, sign=sign, scale="per_sample") for sign in choices("cam_sign"))
        assert not (loss * other).any()
        sums.append((loss - other).sum((1, 2)))
    torch.testing.assert_close(sums[0], torch.zeros(N), atol=1e-6, rtol=0)
    assert (sums[1].abs() > 1e-4).all()


@pytest.mark.parametrize("kl", choices("kl"))
def test_the_divergence_in_loops(kl: str) -> None:
    phi, lcr = feature_map().requires_grad_(), branch(kl=kl)
    given = step(phi)
    [gradient] = torch.autograd.grad(given.loss, phi, retain_graph=True)
    cam = rationale(phi.detach(), gradient, sign="loss", scale="per_sample")
    divergences, uneven = [], []
    for n in range(N):
        cells = [(i, j) for i in range(H) for j in range(W)]
        map_a = [
            max(
                sum(float(w[d, 0, 0]) * float(phi.detach()[n, d, i, j]) for d in range(D))
                for w in lcr.filters.weight.detach()
            )
            for i, j in cells
        ]
        a, g = softmax(map_a, 0.4), softmax([float(cam[n, i, j]) for i, j in cells], 0.4)
        uneven.append(sum(x * math.log(x * len(cells)) for x in g))
        p, q = (g, a) if kl == "target_branch" else (a, g)
        divergences.append(sum(x * math.log(x / y) for x, y in zip(p, q, strict=True)))
    loss = lcr.loss(given)
    assert float(loss) == pytest.approx(sum(divergences) / N, rel=1e-4)
    assert float(loss) > 1e-3
    assert lcr.logs["kl"] == loss
    assert float(lcr.logs["target to even"]) == pytest.approx(sum(uneven) / N, abs=2e-7)


def test_the_sum_form_is_the_codes_over_gpus() -> None:
    """Four processes with 2 of 8 images each: the sum of each, of targets by its own mean; gradients are averaged."""
    phi = torch.rand(8, D, H, W, generator=torch.Generator().manual_seed(3))
    whole = branch(reduction="sum", group=2, cam_scale="raw")
    alone = branch(cam_scale="raw")
    parts = []
    for part in torch.split(phi, 2):
        leaf = part.clone().requires_grad_()
        parts.append(float(2 * alone.loss(step(leaf)).detach()))
    found = float(whole.loss(step(phi.clone().requires_grad_())).detach())
    assert found == pytest.approx(sum(parts) / 4, rel=1e-5)
    one = branch(reduction="sum", cam_scale="raw")
    assert float(one.loss(step(phi.clone().requires_grad_())).detach()) > 3 * found, "0 is a group of all 8"


def test_the_two_directions_differ() -> None:
    given = step(feature_map().requires_grad_())
    assert float(branch(kl="target_branch").loss(given)) != float(branch(kl="branch_target").loss(given))


@pytest.mark.parametrize("kl", choices("kl"))
def test_the_divergence_is_0_where_the_maps_are_equal_and_only_there(kl: str) -> None:
    given = step(feature_map().requires_grad_())
    lcr = branch(kl=kl, target="uniform")
    assert float(lcr.loss(given).detach()) > 0
    nn.init.zeros_(lcr.filters.weight)
    assert float(lcr.loss(given).detach()) == pytest.approx(0, abs=1e-6)


def test_no_gradient_passes_the_target() -> None:
    """The gradient in the features is that of the fit alone, with the target a constant."""
    phi, lcr = feature_map().requires_grad_(), branch()
    given = step(phi)
    target = lcr._target(given)
    assert not target.requires_grad
    a = (lcr.raw_map(phi) / 0.4).flatten(1).log_softmax(1)
    g = (target / 0.4).flatten(1).softmax(1)
    [expected] = torch.autograd.grad((g * (g.log() - a)).sum(1).mean(), phi)
    [found] = torch.autograd.grad(lcr.loss(given), phi)
    torch.testing.assert_close(found, expected)
    assert found.abs().max() > 0


def test_cut_keeps_the_gradient_in_the_filters() -> None:
    phi = feature_map().requires_grad_()
    for cut in (False, True):
        lcr = branch(cut=cut)
        lcr.loss(step(phi)).backward()  # type: ignore[no-untyped-call]
        assert lcr.filters.weight.grad is not None
        assert (phi.grad is None) == cut
        phi.grad = None


def test_controls_replace_the_target() -> None:
    given = step(feature_map().requires_grad_())
    cam = branch()._target(given)
    assert not branch(target="uniform")._target(given).any()
    shuffled = branch(target="shuffled")._target(given)
    assert not any(torch.equal(a, b) for a, b in zip(shuffled, cam, strict=True))
    assert all(any(torch.equal(a, b) for b in cam) for a in shuffled)


def test_a_step_may_name_the_part_of_its_loss_that_counts() -> None:
    phi = feature_map().requires_grad_()
    whole = step(phi)
    part = Step(loss=whole.loss * 100 + phi.square().mean(), features=whole.features, logs={}, contrastive=whole.loss)
    torch.testing.assert_close(branch()._target(part), branch()._target(whole))
    assert branch().loss(part) == branch().loss(whole)


def test_images_without_a_target_are_counted() -> None:
    """Where the loss falls with every cell, ReLU leaves nothing of the map."""
    phi = (feature_map() + 0.1).requires_grad_()
    losses = torch.tensor([-1.0, -1.0, 1.0, -1.0, 1.0]) * phi.sum((1, 2, 3))
    given = Step(loss=losses.mean(), features=features_of(phi), logs={})
    lcr = branch()
    lcr.loss(given)
    assert float(lcr.logs["no target"]) == pytest.approx(3 / 5)


def test_weights_are_eq_8_in_loops() -> None:
    """With the range in the denominator, where the paper has the maximum: the same direction, and at most 1."""
    phi, lcr = feature_map(), branch()
    raw = lcr.raw_map(phi)
    weights = lcr.maps(features_of(phi))
    for n in range(N):
        low, high = float(raw[n].min()), float(raw[n].max())
        for i in range(H):
            for j in range(W):
                expected = (float(raw[n, i, j]) - low) / (1e-7 + high - low)
                assert float(weights[n, i, j]) == pytest.approx(expected, abs=1e-5)
    assert float(weights.amax()) == pytest.approx(1)
    assert float(weights.amin()) == 0


def test_pooling_is_the_weighted_mean_in_loops_and_the_papers_direction() -> None:
    phi, lcr = feature_map(), branch()
    raw, pooled = lcr.raw_map(phi), lcr.pool(features_of(phi))
    weights = lcr.weights(phi)
    for n in range(N):
        cells = [(i, j) for i in range(H) for j in range(W)]
        total = sum(float(weights[n, i, j]) for i, j in cells)
        expected = [sum(float(weights[n, i, j]) * float(phi[n, d, i, j]) for i, j in cells) / total for d in range(D)]
        torch.testing.assert_close(pooled[n], torch.tensor(expected))
        paper = (raw[n] - raw[n].min()) / (1e-7 + raw[n].max())
        direction = F.normalize((paper * phi[n]).sum((1, 2)), dim=0)
        torch.testing.assert_close(F.normalize(pooled[n], dim=0), direction * paper.max().sign())


def test_features_of_an_image_do_not_depend_on_its_batch() -> None:
    phi = feature_map()
    for settings in ({}, {"norm": True}, {"head": "mlp"}, {"attention": "norm"}):
        lcr = branch(**settings).eval()
        whole, alone = lcr.pool(features_of(phi)), lcr.pool(features_of(phi[1:2]))
        torch.testing.assert_close(alone, whole[1:2])
    batch = branch(normalise="batch").eval()
    assert not torch.allclose(batch.pool(features_of(phi[1:2])), batch.pool(features_of(phi))[1:2])


def test_a_constant_map_pools_as_the_global_average() -> None:
    """Also in a batch where the other maps are not constant."""
    phi = feature_map()
    flat = branch()
    nn.init.zeros_(flat.filters.weight)
    torch.testing.assert_close(flat.pool(features_of(phi)), phi.mean((2, 3)))
    lcr = branch()
    phi[2] = phi[2].mean((1, 2), keepdim=True)
    pooled = lcr.pool(features_of(phi))
    torch.testing.assert_close(pooled[2], phi[2].mean((1, 2)))
    assert not torch.allclose(pooled[0], phi[0].mean((1, 2)), rtol=1e-3)


def test_norm_attention_weighs_by_length() -> None:
    phi = feature_map()
    lengths = phi.square().sum(1).sqrt()
    low, high = lengths.amin((1, 2), keepdim=True), lengths.amax((1, 2), keepdim=True)
    torch.testing.assert_close(branch(attention="norm").weights(phi), (lengths - low) / (high - low))


def test_bilinear_pooling_in_loops() -> None:
    phi, lcr = feature_map(), branch()
    pooled, weights = BilinearPool(lcr)(phi)
    assert weights is None
    assert pooled.shape == (N, 4 * D)
    for n in range(N):
        for k in range(4):
            for d in range(D):
                expected = 0.0
                for i in range(H):
                    for j in range(W):
                        product = sum(float(lcr.filters.weight[k, e, 0, 0]) * float(phi[n, e, i, j]) for e in range(D))
                        expected += max(0.0, product) * float(phi[n, d, i, j]) / (H * W)
                assert float(pooled[n, k * D + d]) == pytest.approx(expected, abs=1e-5)


def test_filters_that_a_map_does_not_have_are_said() -> None:
    def lines(head: str, k: int, *typed: str) -> list[str]:
        options = {"normalise": "image", "head": head, "k": k}
        found, lines = LCR.suited(options, typed=typed, images=9)
        assert found == options
        return list(lines)

    typed = "branch.lcr.k"
    assert lines("maxout", 8, typed) == lines("linear", 32) == lines("linear", 1, typed) == []
    assert lines("linear", 8, typed) == ["warning: branch.lcr.k=8 has no effect: branch.lcr.head=linear has one filter"]


def test_kinds_of_map() -> None:
    phi = feature_map()
    for kind, filters in (("maxout", 4), ("linear", 1), ("mlp", 4)):
        lcr = branch(head=kind)
        assert lcr.filters.weight.shape == (filters, D, 1, 1)
        assert lcr.raw_map(phi).shape == (N, H, W)
    mlp = branch(head="mlp")
    assert mlp.last is not None
    last = mlp.last[1]
    assert isinstance(last, nn.Conv2d)
    hidden = F.relu(torch.einsum("kd,ndhw->nkhw", mlp.filters.weight.flatten(1), phi))
    expected = torch.einsum("k,nkhw->nhw", last.weight.flatten(), hidden)
    torch.testing.assert_close(mlp.raw_map(phi), expected)
    normed = branch(norm=True)
    maps = torch.einsum("kd,ndhw->nkhw", normed.filters.weight.flatten(1), phi)
    mean, var = maps.mean((0, 2, 3), keepdim=True), maps.var((0, 2, 3), unbiased=False, keepdim=True)
    torch.testing.assert_close(normed.raw_map(phi), F.relu((maps - mean) / (var + 1e-5).sqrt()).amax(1))


def test_what_the_heads_see_while_training() -> None:
    features = features_of(feature_map())
    assert branch().refine(features) is features
    dual = branch(train_pool="branch")
    torch.testing.assert_close(dual.refine(features).pooled, dual.pool(features))
    bilinear = branch(train_pool="bilinear")
    assert bilinear.compact is not None
    torch.testing.assert_close(bilinear.refine(features).pooled, bilinear.compact(bilinear.bilinear(features.map)))
    assert bilinear.refine(features).map is features.map


def test_weighted_mean_of_even_weights_is_the_mean() -> None:
    phi = feature_map()
    torch.testing.assert_close(weighted_mean(phi, torch.full((N, H, W), 0.3)), phi.mean((2, 3)))


@pytest.mark.parametrize(
    ("setting", "value"),
    [*((name, "nonsense") for name in WORDS), ("k", 0), ("temperature", 0.0), ("weight", -1.0)],
)
def test_settings_out_of_range_are_refused_by_name(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"expected branch\.lcr\.{setting} = ") as error:
        configured("simclr", "lcr", **{f"branch__lcr__{setting}": value})
    assert "\n" not in str(error.value)
