"""LEWEL against its formulas in loops: maps, aligned features, both losses; where gradients go; what it pools.

Alone: pytest tests/branches/test_lewel.py
"""

import math
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from probekit.branches.base import branches_of
from probekit.branches.lewel import LEWEL
from probekit.methods.base import Method, Step
from probekit.methods.momentum import MomentumMethod
from probekit.restore.build import build_method
from probekit.restore.pooled import Parts, pooled
from tests.branches.attached import configured, features_of, forward, only, step_of

N, D, H, W = 3, 16, 2, 3
FEW = {"branch__lewel__groups": 2, "branch__lewel__k": 3, "branch__lewel__scale": 0.1}
ON = ["moco-v2", "byol", "simsiam", "simclr"]


def feature_map(*, seed: int = 0) -> Tensor:
    """At least 0, as after a ReLU."""
    return torch.rand(N, D, H, W, generator=torch.Generator().manual_seed(seed))


def attached(method: str = "simclr", **options: Any) -> tuple[Method, LEWEL]:
    built = build_method(configured(method, "lewel", **{**FEW, **options}), channels=1)
    branch = only(built)
    assert isinstance(branch, LEWEL)
    return built, branch


def alignment(head: nn.Module, phi: Tensor) -> list[list[Tensor]]:
    """For every image the maps `[h * w]`, three of the first group, then three of the second."""
    cells = phi.permute(0, 2, 3, 1).reshape(-1, phi.shape[1])
    outputs = head(cells).view(len(phi), -1, head(cells).shape[1])
    found = []
    for image in outputs:
        units = [row[:6] / row[:6].square().sum().sqrt() for row in image]
        powers = [torch.stack([(unit[at] / 0.1).exp() for unit in units]) for at in range(6)]
        found.append([power / power.sum() for power in powers])
    return found


def aligned_features(head: nn.Module, phi: Tensor) -> list[list[Tensor]]:
    """For every image three vectors `[D]`: the first half of the channels by the first group's map, and so on."""
    half, found = phi.shape[1] // 2, []
    for image, maps in zip(phi, alignment(head, phi), strict=True):
        cells = image.flatten(1)
        of_image = []
        for k in range(3):
            values = [
                sum((maps[3 * (d // half) + k][i] * cells[d, i] for i in range(cells.shape[1])), torch.zeros(()))
                for d in range(2 * half)
            ]
            of_image.append(torch.stack(values))
        found.append(of_image)
    return found


def embedded(head: nn.Module, aligned: nn.Module, phi: Tensor) -> Tensor:
    """`[n, 3, P]`."""
    rows = [vector for image in aligned_features(head, phi) for vector in image]
    projected: Tensor = aligned(torch.stack(rows))
    return projected.view(len(phi), 3, -1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.square().sum().sqrt() * b.square().sum().sqrt())


def expected_loss(method: Any, branch: LEWEL, step: Step) -> Tensor:
    """Of both kinds: the mean over images and maps, summed over the views that have a gradient."""
    phi = step.features.map
    own = embedded(method.trained_projection, branch.aligned, phi)
    theirs = own
    if isinstance(method, MomentumMethod):
        copy: Any = method.target["branches"]["lewel"]  # type: ignore[index]
        assert step.target_map is not None
        theirs = embedded(method.target["projector"], copy.aligned, step.target_map).detach()
    views = len(phi) // 8
    queries = own.view(views, 8, 3, -1)
    keys = theirs.view(views, 8, 3, -1).flip(0) if views == 2 else theirs.view(1, 8, 3, -1)
    losses = []
    for v in range(views):
        for k in range(3):
            if branch.predictor is not None:
                predicted = branch.predictor(own.flatten(0, 1)).view_as(own).view(views, 8, 3, -1)
                losses += [2 - 2 * cosine(predicted[v, b, k], keys[v, b, k].detach()) for b in range(8)]
                continue
            for b in range(8):
                logits = [cosine(queries[v, b, k], keys[v, c, k]) / 0.2 for c in range(8)]
                losses.append(-(logits[b] - torch.stack(logits).logsumexp(0)))
    return views * torch.stack(losses).mean()


def moved(method: Method) -> None:
    """A target network that is another than the trained one."""
    if isinstance(method, MomentumMethod):
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for p in method.target.parameters():
                p.add_(0.3 * p.std(correction=0) * torch.randn(p.shape, generator=generator))


def test_maps_and_aligned_features_in_loops() -> None:
    method, branch = attached()
    method.eval()
    phi, head = feature_map(), method.trained_projection
    assert head is not None
    maps = branch.alignment(phi)
    assert maps.shape == (N, 2, 3, H * W)
    torch.testing.assert_close(maps.flatten(1, 2), torch.stack([torch.stack(of) for of in alignment(head, phi)]))
    features = torch.stack([torch.stack(of) for of in aligned_features(head, phi)])
    torch.testing.assert_close(branch.aligned_features(phi), features)
    torch.testing.assert_close(branch.bilinear(phi), features.flatten(1))
    assert float(maps.detach().max()) > 1.2 / (H * W), "not even"


@pytest.mark.parametrize("name", ON)
def test_the_loss_and_its_gradients_in_loops(name: str) -> None:
    """InfoNCE of a method without a predictor, 2 - 2 cos with one; nothing flows into what is a target."""
    step = step_of(configured(name, "lewel", **FEW))
    method, branch = step.method, only(step.method)
    moved(method)
    batch = forward(step)
    found = []
    for loss in (branch.loss(batch), expected_loss(method, branch, batch)):
        method.zero_grad(set_to_none=True)
        loss.backward(retain_graph=True)
        found.append((loss.detach(), {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}))
    (loss, gradients), (expected, theirs) = found
    found_of = (gradients, theirs)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert gradients.keys() == theirs.keys()
    for part in {key.split(".")[0] for key in theirs}:  # some of its biases are 0 but for rounding
        one, other = (torch.cat([of[key].flatten() for key in theirs if key.startswith(part)]) for of in found_of)
        assert (one - other).norm() < 1e-3 * other.norm(), part
    assert not [key for key in gradients if key.startswith("target.")]
    head = method.trained_projection
    assert head is not None
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in head.parameters()), "through the maps"


def test_the_head_learns_through_the_maps_alone() -> None:
    """Maps that are constants leave it without a gradient."""
    step = step_of(configured("moco-v2", "lewel", **FEW))
    method, branch = step.method, only(step.method)
    batch, plain = forward(step), branch.alignment
    branch.alignment = lambda phi: plain(phi).detach()
    branch.loss(batch).backward()
    head = method.trained_projection
    assert head is not None
    assert all(p.grad is None for p in head.parameters())
    assert all(p.grad is not None for p in branch.aligned.parameters())


@pytest.mark.parametrize("name", ["moco-v2", "byol", "dino"])
def test_the_targets_copy_uses_the_targets_head_and_follows(name: str) -> None:
    step = step_of(configured(name, "lewel", method__momentum=0.75, **FEW))
    method, branch = step.method, only(step.method)
    assert isinstance(method, MomentumMethod)
    (copy,) = branch.twin
    assert copy is method.target["branches"]["lewel"]  # type: ignore[index]
    assert branch.uses[0] is method.trained_projection
    assert branch.uses[0] in list(method.projector.modules())  # type: ignore[union-attr]
    assert copy.uses[0] in list(method.target["projector"].modules())
    assert not [name for name, _ in branch.named_parameters() if name.startswith(("uses", "twin"))]
    before, tau = deepcopy(dict(copy.named_parameters())), float(method.tau())
    step(torch.arange(8), step.images[:8])
    expected = {n: tau * before[n] + (1 - tau) * p.detach() for n, p in branch.named_parameters()}
    torch.testing.assert_close(dict(copy.named_parameters()), expected)


@pytest.mark.parametrize("name", ON)
def test_the_targets_features_are_in_the_images_order(name: str) -> None:
    """Of both views, one after another; of MoCo's second view, whose groups pass apart."""
    options = {"method__group": 4} if name == "moco-v2" else {}
    method = build_method(configured(name, **options), channels=1).train()
    step = step_of(configured(name, **options))
    step.method = method
    views = step.views(torch.arange(8), step.images[:8])
    found = method.step(views).target_map
    if not isinstance(method, MomentumMethod):
        assert found is None
        return
    encoder = method.target["encoder"]
    with torch.no_grad():
        if name == "moco-v2":
            expected = torch.empty(8, *encoder(views.inputs[1]).map.shape[1:])
            expected[::2], expected[1::2] = encoder(views.inputs[1, ::2]).map, encoder(views.inputs[1, 1::2]).map
        else:
            expected = torch.cat([encoder(x).map for x in views.inputs])
    assert found is not None
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "keep"), [("simclr", ""), ("byol", "online"), ("byol", "target")])
def test_what_a_probe_is_given_has_as_many_times_the_channels_as_there_are_maps(name: str, keep: str) -> None:
    """C * K of Table 4 of the LCR paper under --pool bilinear, with the kept network's head; C by itself."""
    method, branch = attached(name, **({"method__keep": keep} if keep else {}))
    moved(method)
    method.eval()
    encoder = method.get_submodule(method.kept)
    head = method.projection
    assert head is not None
    images = torch.rand(N, 1, 16, 16)
    own = encoder(images)
    parts = Parts(list(method.kept_branches), method.projection)  # type: ignore[arg-type]
    pooling = pooled(deepcopy(encoder), "bilinear", parts)  # type: ignore[arg-type]
    assert (pooling.dim, pooling.has_map) == (3 * D, False)
    assert head in list(pooling.modules()), "it goes where the encoder goes"
    expected = torch.stack([torch.cat(of) for of in aligned_features(head, own.map)])
    torch.testing.assert_close(pooling(images).pooled, expected, rtol=1e-4, atol=1e-5)
    assert own.pooled.shape == (N, D)
    assert branch.refine(own) is own, "the method's heads see its own embedding"


def test_the_map_is_the_mean_of_the_alignment_maps_and_even_where_features_are() -> None:
    method, branch = attached()
    method.eval()
    phi = feature_map()
    phi[1] = phi[1].mean((1, 2), keepdim=True)
    maps, head = branch.maps(features_of(phi)), method.trained_projection
    assert head is not None
    for n, of in enumerate(alignment(head, phi)):
        torch.testing.assert_close(maps[n].flatten(), torch.stack(of).mean(0))
    torch.testing.assert_close(maps[1], torch.full((H, W), 1 / (H * W)))


def test_how_far_the_maps_are_from_even_is_logged_in_nats() -> None:
    step = step_of(configured("byol", "lewel", **FEW))
    branch, batch = only(step.method), forward(step)
    branch.loss(batch)
    maps = branch.alignment(batch.features.map).flatten(0, 2).detach()
    divergences = [sum(float(p) * math.log(float(p) * len(of)) for p in of) for of in maps]
    assert float(branch.logs["to even"]) == pytest.approx(sum(divergences) / len(divergences), rel=1e-3)
    assert float(branch.logs["to even"]) > 1e-4


@pytest.mark.parametrize(("outputs", "groups", "k"), [(128, 4, 32), (512, 4, 64), (10, 4, 2)])
def test_there_are_as_many_maps_as_the_head_has_outputs_for(outputs: int, groups: int, k: int) -> None:
    options = {"method__projection_dim": outputs, "branch__lewel__groups": groups, "branch__lewel__k": 64}
    method, branch = attached("byol", **options)
    assert branch.k == branch.twin[0].k == k
    assert branch.eval().alignment(feature_map()).shape[1:3] == (groups, k)
    assert [b.name for b in branches_of(method)] == ["lewel"]


@pytest.mark.parametrize(("name", "groups"), [("simclr", 3), ("byol", 16)])
def test_groups_that_channels_or_outputs_cannot_be_divided_into_are_refused(name: str, groups: int) -> None:
    narrow = {"method__projection_dim": 8}
    with pytest.raises(ValueError, match=f"the map's 16 channels, .* 8 outputs, found {groups}; type: ") as error:
        attached(name, branch__lewel__groups=groups, **narrow)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["supervised", "reconstruction"])
def test_a_method_without_a_comparison_of_two_views_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected a method with .* for branch 'lewel', found"):
        attached(name)
