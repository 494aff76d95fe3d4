"""XCorr against the paper's formulas in loops: mask, attention, both losses, positives; controls; stages; state.

Alone: pytest tests/branches/test_xcorr.py
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor
from torch.nn import functional as F

from probekit.branches.xcorr import Mask, Members, XCorr, correlation_mask
from probekit.methods.base import Step
from probekit.models.encoder import Encoder, Features
from probekit.restore.build import build_method
from tests.branches.attached import configured, epoch, features_of, forward, only, step_of, train
from tests.chance import seeded
from tests.datasets import small_shapes
from tests.methods.batches import unit

B, P, D, H, W, K = 3, 2, 8, 2, 3, 4
IMAGES = 40


def branch(**settings: Any) -> XCorr:
    torch.manual_seed(0)
    return XCorr(Encoder(channels=1, pooling="gap", width=4, depth=2), **{"clusters": K, "positives": P, **settings})


def maps(n: int, *, seed: int = 0) -> Tensor:
    """At least 0, as after a ReLU."""
    return torch.rand(n, D, H, W, generator=torch.Generator().manual_seed(seed))


def bank(seed: int = 0, n: int = IMAGES) -> Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed))


def clustered(**settings: Any) -> XCorr:
    xcorr = branch(**settings)
    xcorr.begin_epoch(epoch(bank))
    return xcorr


def step_with(xcorr: XCorr, phi: Tensor, others: Tensor, index: Tensor) -> Step:
    """Two views, the second of which the branch must not look at."""
    xcorr.companions(index, seeded())
    both = torch.cat([phi, torch.full_like(phi, 1e3)])
    return Step(loss=torch.zeros(()), features=features_of(both), logs={}, companions={"xcorr": features_of(others)})


@pytest.mark.parametrize("mask", get_args(Mask))
def test_the_mask_is_eq_3_and_4_in_loops(mask: str) -> None:
    source, positives = maps(B), maps(P * B, seed=1)
    mu = torch.zeros(B, H, W)
    cells = [(i, j) for i in range(H) for j in range(W)]
    for b in range(B):
        for i, j in cells:
            best = []
            for p in range(P):
                a, other = source[b, :, i, j], positives[p * B + b]
                products = []
                for k, m in cells:
                    product = float(a @ other[:, k, m])
                    lengths = float(a.norm() * other[:, k, m].norm())
                    products.append(product / (lengths if mask in ("cosine", "uniform") else D))
                best.append(max(products))
            mu[b, i, j] = sum(best) / P
        if mask == "minmax":
            mu[b] = (mu[b] - mu[b].min()) / (mu[b].max() - mu[b].min())
        elif mask == "uniform":
            mu[b] = mu[b].mean()
    torch.testing.assert_close(correlation_mask(source, positives, mask=mask), mu)


def test_a_map_resembles_itself_everywhere() -> None:
    phi = maps(B)
    torch.testing.assert_close(correlation_mask(phi, phi, mask="cosine"), torch.ones(B, H, W))


@pytest.mark.parametrize("mask", get_args(Mask))
def test_the_places_in_the_positives_do_not_matter(mask: str) -> None:
    source, positives = maps(B), maps(P * B, seed=1)
    order = torch.randperm(H * W, generator=torch.Generator().manual_seed(2))
    moved = positives.flatten(2)[:, :, order].view_as(positives)
    before, after = (correlation_mask(source, others, mask=mask) for others in (positives, moved))
    torch.testing.assert_close(before, after)
    elsewhere = source.flatten(2)[:, :, order].view_as(source)
    torch.testing.assert_close(
        correlation_mask(elsewhere, positives, mask=mask), before.flatten(1)[:, order].view_as(before)
    )


@pytest.mark.parametrize("mask", ["cosine", "dot_over_c"])
def test_constant_features_have_a_constant_mask(mask: str) -> None:
    mu = correlation_mask(torch.full((B, D, H, W), 2.0), torch.full((P * B, D, H, W), 3.0), mask=mask)
    torch.testing.assert_close(mu, torch.full((B, H, W), 1.0 if mask == "cosine" else 6.0))


def test_the_mask_has_no_gradient() -> None:
    source, positives = maps(B).requires_grad_(), maps(P * B, seed=1).requires_grad_()
    for mask in get_args(Mask):
        assert not correlation_mask(source, positives, mask=mask).requires_grad


@pytest.mark.parametrize("scale", ["attention", "minmax"])
@pytest.mark.parametrize("sigmoid", [True, False])
def test_what_multiplies_the_features_in_loops(scale: str, sigmoid: bool) -> None:
    xcorr = clustered(mu=0.0, cls=1.0, scale=scale, sigmoid=sigmoid)
    phi, others = maps(B), maps(P * B, seed=1)
    given = step_with(xcorr, phi, others, torch.arange(B))
    losses = []
    for n, features in enumerate(torch.cat([phi, others])):
        beta = xcorr.attention.bias + sum(
            w * row.relu() for w, row in zip(xcorr.attention.weight.flatten(), features, strict=True)
        )
        beta = 1 / (1 + (-beta).exp()) if sigmoid else beta
        if scale == "minmax":
            beta = (beta - beta.min()) / (beta.max() - beta.min())
        scores = xcorr.classifier((features * beta).mean((1, 2))) / xcorr.temperature
        losses.append(-scores.log_softmax(0)[xcorr.labels[xcorr.index[n]]])
    torch.testing.assert_close(xcorr.loss(given), torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)
    weights = xcorr.maps(features_of(phi))
    assert weights is not None
    assert (float(weights.detach().amin()) == 0) == (scale == "minmax")


def test_l_mu_trains_the_features_through_the_attention_alone() -> None:
    """Its gradient is that of a constant mask, and none reaches the positives."""
    xcorr = clustered(mu=1.0, cls=0.0)
    phi, others = maps(B).requires_grad_(), maps(P * B, seed=1).requires_grad_()
    loss = xcorr.loss(step_with(xcorr, phi, others, torch.arange(B)))
    [found] = torch.autograd.grad(loss, phi, retain_graph=True)
    constant = correlation_mask(phi.detach(), others.detach(), mask="cosine")
    [expected] = torch.autograd.grad((xcorr.attend(phi) - constant).square().mean(), phi)
    torch.testing.assert_close(found, expected)
    assert found.abs().max() > 0
    [none] = torch.autograd.grad(loss, others)
    assert not none.any()


@pytest.mark.parametrize("cosine", [False, True])
def test_both_losses_in_loops(cosine: bool) -> None:
    xcorr = clustered(mu=0.05, cls=0.1, cosine=cosine)
    phi, others, index = maps(B) - 0.3, maps(P * B, seed=1) - 0.3, torch.tensor([5, 0, 17])
    loss = xcorr.loss(step_with(xcorr, phi, others, index))
    w, bias = xcorr.attention.weight[0, :, 0, 0].detach(), xcorr.attention.bias
    assert bias is not None
    mu = correlation_mask(phi, others, mask="cosine")
    images, squares, surprises, right = [*phi, *others], 0.0, 0.0, 0
    assert xcorr.index[:B].tolist() == index.tolist()
    for n, image in enumerate(images):
        explanation = torch.zeros(D)
        for i in range(H):
            for j in range(W):
                z = sum(float(w[d]) * max(0.0, float(image[d, i, j])) for d in range(D)) + float(bias.detach())
                beta = 1 / (1 + math.exp(-z))
                explanation += beta * image[:, i, j] / (H * W)
                if n < B:
                    squares += (beta - float(mu[n, i, j])) ** 2 / (B * H * W)
        rows = xcorr.classifier.weight.detach()
        scores = [float(row @ explanation) for row in rows]
        if cosine:
            scores = [s / float(row.norm() * explanation.norm()) for s, row in zip(scores, rows, strict=True)]
        powers = [math.exp(score / 0.05) for score in scores]
        label = int(xcorr.labels[xcorr.index[n]])
        surprises -= math.log(powers[label] / sum(powers)) / len(images)
        right += powers[label] == max(powers)
    logs = {name: float(value) for name, value in xcorr.logs.items()}
    assert logs["mu"] == pytest.approx(squares, rel=1e-4)
    assert logs["cls"] == pytest.approx(surprises, rel=1e-4)
    assert logs["accuracy"] == pytest.approx(right / len(images))
    assert float(loss.detach()) == pytest.approx(0.05 * squares + 0.1 * surprises, rel=1e-4)
    assert logs["mask"] == pytest.approx(float(mu.mean()), rel=1e-5)
    attention = xcorr.attend(phi).detach().numpy()
    assert logs["agreement"] == pytest.approx(np.corrcoef(attention.flatten(), mu.numpy().flatten())[0, 1], abs=1e-4)


def test_l_cls_reaches_features_attention_and_positives() -> None:
    xcorr = clustered(mu=0.0, cls=1.0)
    phi, others = maps(B).requires_grad_(), maps(P * B, seed=1).requires_grad_()
    xcorr.loss(step_with(xcorr, phi, others, torch.arange(B))).backward()  # type: ignore[no-untyped-call]
    for tensor in (phi, others, xcorr.attention.weight, xcorr.classifier.weight):
        assert tensor.grad is not None
        assert tensor.grad.abs().max() > 0


def test_each_weight_is_a_control() -> None:
    phi, others = maps(B), maps(P * B, seed=1)
    found = {}
    for weights in ((0.05, 0.1), (0.05, 0.0), (0.0, 0.1)):
        xcorr = clustered(mu=weights[0], cls=weights[1])
        found[weights] = float(xcorr.loss(step_with(xcorr, phi, others, torch.arange(B))).detach())
    assert found[0.05, 0.0] + found[0.0, 0.1] == pytest.approx(found[0.05, 0.1], rel=1e-5)
    assert clustered(mu=0.0, cls=0.0).resting
    assert not clustered(mu=0.0, cls=0.1).resting


# Positives


def sorted_by(labels: Tensor) -> Members:
    members = Members()
    members.sort(labels, clusters=int(labels.max()) + 1)
    return members


def test_positives_are_uniform_over_the_others_of_the_cluster() -> None:
    labels = torch.tensor([2, 0, 1, 0, 2, 0, 0, 3, 1, 0])
    draws = 4000
    u = torch.rand(draws, len(labels), generator=torch.Generator().manual_seed(0))
    drawn = sorted_by(labels).draw_others(labels, torch.arange(len(labels)), u)
    assert drawn.shape == u.shape
    for image, label in enumerate(labels.tolist()):
        others = [other for other in range(len(labels)) if labels[other] == label and other != image]
        counts = torch.bincount(drawn[:, image], minlength=len(labels))
        if not others:
            assert counts[image] == draws, "alone: itself"
            continue
        assert counts[image] == 0
        assert int(counts[others].sum()) == draws
        expected = draws / len(others)
        assert all(abs(float(counts[other]) - expected) < 5 * math.sqrt(expected) for other in others)


def test_the_ends_of_the_unit_interval_are_drawn_from_too() -> None:
    labels = torch.tensor([0, 0, 0, 1])
    almost = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    for u in (torch.tensor(0.0), almost):
        drawn = sorted_by(labels).draw_others(labels, torch.arange(4), u.expand(1, 4))
        assert (labels[drawn[0]] == labels).all()
        assert (drawn[0, :3] != torch.arange(3)).all()


def test_companions_are_of_the_images_clusters_and_new_ones_each_time() -> None:
    xcorr, index = clustered(), torch.arange(0, IMAGES, 2)
    generator = seeded()
    first, second = xcorr.companions(index, generator), xcorr.companions(index, generator)
    assert first.shape == (P * len(index),)
    for drawn in (first.view(P, -1), second.view(P, -1)):
        for row in drawn:
            assert torch.equal(xcorr.labels[row], xcorr.labels[index])
            assert (row != index).float().mean() > 0.8, "itself only where a cluster has no other"
    assert not torch.equal(first, second)
    anyone = clustered(sampling="random").companions(index.repeat(20), generator)
    assert len(set(anyone.tolist())) == IMAGES
    assert torch.equal(xcorr.index, torch.cat([index, second]))


def test_the_generator_is_the_only_source_of_positives() -> None:
    xcorr, index, generator = clustered(), torch.arange(IMAGES), seeded()
    first = xcorr.companions(index, generator)
    torch.manual_seed(5)
    assert torch.equal(clustered().companions(index, seeded()), first)
    assert not torch.equal(xcorr.companions(index, generator), first)
    assert torch.equal(generator.get_state(), drawn_from(seeded(), 2 * P * IMAGES).get_state())


def drawn_from(generator: torch.Generator, n: int) -> torch.Generator:
    torch.rand(n, generator=generator)
    return generator


def test_before_the_start_epoch_it_rests() -> None:
    xcorr = branch(start=1)
    assert xcorr.begin_epoch(epoch(lambda: pytest.fail("no pass over the images"))) == {}
    assert xcorr.resting
    assert xcorr.begin_epoch(epoch(bank, done=1))
    assert not xcorr.resting


def test_new_clusters_are_written_where_the_old_ones_stood() -> None:
    """A recorded step reads them there."""
    xcorr = clustered()
    buffers = dict(xcorr.named_buffers())
    places = {name: buffer.data_ptr() for name, buffer in buffers.items()}
    before = xcorr.labels.clone()
    xcorr.begin_epoch(epoch(lambda: bank(1)))
    assert not torch.equal(xcorr.labels, before)
    assert {name: buffer.data_ptr() for name, buffer in xcorr.named_buffers()} == places
    loaded = clustered()
    ours = {name: buffer.data_ptr() for name, buffer in loaded.named_buffers()}
    loaded.load_state_dict(xcorr.state_dict())
    assert {name: buffer.data_ptr() for name, buffer in loaded.named_buffers()} == ours
    assert all(torch.equal(loaded.get_buffer(name), buffers[name]) for name in ours)
    for cluster in range(K):
        start, n = int(loaded.members.starts[cluster]), int(loaded.members.counts[cluster])
        members = loaded.members.order[start : start + n].tolist()
        assert members == [image for image in range(IMAGES) if int(xcorr.labels[image]) == cluster]


# The bank


def test_an_epoch_reports_its_clusters() -> None:
    xcorr = branch()
    labels = torch.arange(IMAGES) % 3
    first = xcorr.begin_epoch(epoch(bank, labels))
    before = xcorr.labels.clone()
    assert first.keys() == {"inertia", "smallest", "largest", "NMI with labels"}
    sizes = np.bincount(before.numpy(), minlength=K)
    assert (first["smallest"], first["largest"]) == (sizes.min(), sizes.max())
    assert first["NMI with labels"] == pytest.approx(normalized_mutual_info_score(labels, before))
    second = xcorr.begin_epoch(epoch(lambda: bank(1)))
    assert second.keys() == {"inertia", "smallest", "largest", "NMI with last epoch"}
    assert second["NMI with last epoch"] == pytest.approx(normalized_mutual_info_score(before, xcorr.labels))


def test_an_augmented_bank_is_the_mean_direction_of_two_views() -> None:
    xcorr, given = branch(bank="augmented"), [bank(0), 3 * bank(1)]
    begun = replace(epoch(lambda: pytest.fail("no pass without augmentation")), embed=given.__getitem__)
    expected = unit(unit(given[0]) + unit(given[1]))
    torch.testing.assert_close(xcorr.embedded(begun).double(), expected)
    xcorr.begin_epoch(begun)
    assert len(xcorr.labels) == IMAGES


def test_the_views_of_a_bank_are_augmented_and_the_same_each_time(tmp_path: Path) -> None:
    """Number and epoch say which; a run that has an augmented bank trains, and otherwise than one that has not."""
    data = small_shapes(tmp_path / "few.h5", n=16, size=16).path
    losses = {}
    for kind in ("plain", "augmented"):
        options = {"branch.xcorr.bank": kind}
        run, _ = train(data, tmp_path, "simclr", "xcorr", name=kind, options=options)
        losses[kind] = run.read_metrics()
    assert losses["plain"] != losses["augmented"]
    again, _ = train(data, tmp_path, "simclr", "xcorr", name="again", options=options)
    assert again.read_metrics() == losses["augmented"]


@pytest.mark.parametrize("method", ["simclr", "byol"])
def test_before_the_last_block_masked_features_go_through_it_and_leave_its_statistics(method: str) -> None:
    made = step_of(configured(method, "xcorr", branch__xcorr__stages="before", branch__xcorr__positives=2))
    xcorr, given = only(made.method), forward(made)
    block = made.method.encoder.backbone.levels[-1][-1]
    first, *_, others = xcorr.before.inputs
    torch.testing.assert_close(block(first)[:8], given.features.map[:8], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(block(others), given.companions["xcorr"].map, rtol=1e-4, atol=1e-5)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    features = torch.cat([first[:8], others]).detach()
    beta = torch.stack([xcorr.attention(f.relu()[None])[0, 0].sigmoid() for f in features])
    mu = correlation_mask(first[:8], others, mask="cosine")
    norm, mapped = block[1], block[0](features * beta[:, None])
    flat = mapped.transpose(0, 1).flatten(1)
    mean, var = flat.mean(1)[:, None, None], flat.var(1, unbiased=False)[:, None, None]
    mapped = (norm.weight[:, None, None] * (mapped - mean) / (var + norm.eps).sqrt() + norm.bias[:, None, None]).relu()
    scores = mapped.mean((2, 3)) @ xcorr.classifier.weight.T / xcorr.temperature
    expected = xcorr.mu * (beta[:8] - mu).square().mean() + xcorr.cls * F.cross_entropy(
        scores, xcorr.labels[xcorr.index]
    )
    torch.testing.assert_close(xcorr.loss(given), expected, rtol=1e-4, atol=1e-5)
    assert not xcorr.before.inputs
    for name, value in block.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert xcorr.maps(given.features) is None
    assert not xcorr.pools


def test_before_the_last_block_is_refused_where_there_is_none() -> None:
    config = configured("simclr", "xcorr", branch__xcorr__stages="before")
    config = replace(config, model=replace(config.model, backbone="timm:vit_tiny_patch16_224", width=0, depth=0))
    with pytest.raises(ValueError, match=r"a ResNet for branch\.xcorr\.stages=before, found timm:vit_tiny"):
        build_method(config, channels=1)


def test_cluster_numbers_stay_from_epoch_to_epoch() -> None:
    xcorr = clustered()
    before = xcorr.labels.clone()
    xcorr.begin_epoch(epoch(lambda: bank() + 0.02 * bank(1)))
    assert (xcorr.labels == before).float().mean() > 0.9
    assert xcorr.begin_epoch(epoch(lambda: 7 * bank()))["inertia"] < 1, "lengths do not matter"


def test_an_epoch_begins_from_the_last_centroids() -> None:
    """In another order they number the same clusters in that order."""
    xcorr = branch(iterations=50)
    xcorr.begin_epoch(epoch(bank))
    before, order = xcorr.labels.clone(), torch.tensor([2, 0, 3, 1])
    xcorr.centroids = xcorr.centroids[order]
    xcorr.begin_epoch(epoch(bank))
    assert torch.equal(order[xcorr.labels], before)


def test_clusters_that_leave_hardly_any_positives_are_fewer_unless_they_were_typed() -> None:
    """Refused is only what cannot run: k-means of more centroids than images."""

    def suited(clusters: int, *typed: str) -> tuple[dict[str, Any], Sequence[str]]:
        return XCorr.suited({"clusters": clusters}, typed=typed, images=40)

    typed = "branch.xcorr.clusters"
    assert suited(20) == suited(20, typed) == ({"clusters": 20}, [])
    found, [line] = suited(3000)
    assert found == {"clusters": 2}
    assert line.startswith(f"{typed}=2 in place of 3000: there are 40 images")
    for clusters in (21, 40):
        found, [line] = suited(clusters, typed)
        assert found == {"clusters": clusters}
        assert line.startswith(f"warning: {typed}={clusters} stands as typed, where 2 would suit")
    with pytest.raises(ValueError, match=f"{typed} at most the 40 images, found 41; type: --set {typed}=2$"):
        suited(41, typed)


def test_as_many_clusters_as_images_run() -> None:
    """Each image is its own positive then."""
    xcorr = branch(clusters=12)
    xcorr.begin_epoch(epoch(lambda: torch.randn(12, 6)))
    assert torch.equal(xcorr.labels.sort().values, torch.arange(12))
    index = torch.arange(5)
    assert torch.equal(xcorr.companions(index, torch.Generator()), index.repeat(P))


def test_state_survives_a_round_trip_and_so_do_the_draws() -> None:
    xcorr, index = clustered(), torch.arange(6)
    torch.manual_seed(5)
    other = XCorr(Encoder(channels=1, pooling="gap", width=4, depth=2), clusters=K, positives=P)
    other.load_state_dict(xcorr.state_dict())
    assert torch.equal(other.labels, xcorr.labels)
    assert torch.equal(other.centroids, xcorr.centroids)
    assert torch.equal(xcorr.companions(index, seeded()), other.companions(index, seeded()))
    assert xcorr.begin_epoch(epoch(bank)) == other.begin_epoch(epoch(bank))


# Stages, settings


def test_several_stages_lie_on_one_another_at_the_finest_ones_size() -> None:
    torch.manual_seed(0)
    encoder = Encoder(channels=1, pooling="gap", width=4, depth=3)
    xcorr = XCorr(encoder, clusters=K, stages="multi")
    features: Features = encoder(torch.rand(2, 1, 16, 16))
    joined = xcorr.joined(features)
    assert joined.shape == (2, sum(encoder.widths), 16, 16)
    fine, middle, _ = encoder.widths
    torch.testing.assert_close(joined[:, :fine], features.stages[0])
    expected = F.interpolate(features.stages[1], (16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(joined[:, fine : fine + middle], expected)
    assert xcorr.attend(joined).shape == (2, 16, 16)
    assert xcorr.maps(features) is None
    assert xcorr.pool(features) is None


def test_pooling_is_the_mean_under_the_attention() -> None:
    xcorr, phi = branch(), maps(B)
    beta = xcorr.maps(features_of(phi))
    assert beta is not None
    expected = torch.stack([(b * m).sum((1, 2)) / b.sum() for b, m in zip(beta, phi, strict=True)])
    torch.testing.assert_close(xcorr.pool(features_of(phi)), expected)


def test_attention_and_classifier_have_a_rate_of_their_own() -> None:
    [rate] = branch(lr_share=0.5).rates()
    assert rate.share == 0.5
    xcorr = branch()
    assert {id(p) for r in xcorr.rates() for p in r.parameters} == {id(p) for p in xcorr.parameters()}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("mask", "nonsense"),
        ("scale", "nonsense"),
        ("sampling", "nonsense"),
        ("stages", "nonsense"),
        ("clusters", 0),
        ("positives", 0),
        ("iterations", 0),
        ("temperature", 0.0),
        ("mu", -1.0),
        ("cls", -1.0),
        ("lr_share", 0.0),
        ("start", -1),
        ("weight", -1.0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"expected branch\.xcorr\.{setting} = ") as error:
        configured("simclr", "xcorr", **{f"branch__xcorr__{setting}": value})
    assert "\n" not in str(error.value)
