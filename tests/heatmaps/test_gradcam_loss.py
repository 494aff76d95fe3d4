"""GradCAM of the loss that an encoder was pretrained with: the papers' formulas in loops, and every method.

Alone: pytest tests/heatmaps/test_gradcam_loss.py
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from probekit.branches.base import Branch
from probekit.heatmaps.base import Batch, Context, Subject, encode, make_map, unmet
from probekit.heatmaps.maps.gradcam_loss import loss_notes
from probekit.heatmaps.maps.gradcam_ssl import of_image
from probekit.methods.base import Method
from probekit.models.encoder import Encoder
from probekit.registry import METHODS
from probekit.restore.build import build_method
from probekit.views.recipes import RECIPES, make_views
from tests.branches.attached import configured
from tests.methods.batches import built

N = 4  # images of a batch, the first is looked at
NAME = "gradcam-loss"


def small(name: str) -> Method:
    """A method with random weights whose batch norms have seen something, in eval mode."""
    method: Any = built(name)
    for encoder in [method.encoder, *([method.target["encoder"]] if hasattr(method, "target") else [])]:
        encoder.train()
        encoder(torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(3)))
    found: Method = method.eval()
    return found


def asked(method: Method, encoder: Encoder, n: int = 1) -> tuple[Context, Batch]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (N - 1 + n, 1, 16, 16), dtype=torch.uint8, generator=generator)
    context = Context(method=method, companions=images[: N - 1], recipe=RECIPES[method.recipe], seed=5)
    return context, encode(encoder, images[N - 1 :], torch.arange(7, 7 + n))


def views_of(context: Context, batch: Batch) -> tuple[Tensor, Tensor]:
    """Both views of the batch, the image as it is first."""
    assert context.companions is not None
    images = torch.cat([batch.images, context.companions])
    views = make_views(context.recipe, images, of_image(5, 7, torch.device("cpu"))).inputs
    return torch.cat([batch.images / 255, views[0, 1:]]), views[1]


def gradcam(feature_map: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """LCR paper, eq. 2: the gradient of each channel, mean over cells, times the channel, summed in a loop."""
    leaf = feature_map.detach().clone().requires_grad_()  # [D, h, w]
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    total = torch.zeros_like(feature_map[0])
    for k in range(len(feature_map)):
        total += gradient[k].mean() * feature_map[k]
    return total


def info_nce(method: Any, key: Tensor) -> Callable[[Tensor], Tensor]:
    """MoCo paper, eq. 1, of one query, with the method's queue."""

    def loss(phi: Tensor) -> Tensor:
        z = method.projector(phi.mean((1, 2))[None])[0]
        z = z / z.norm()
        own = (z @ key / method.temperature).exp()
        others = torch.stack([(z @ older / method.temperature).exp() for older in method.queue.rows]).sum()
        found: Tensor = -(own / (own + others)).log()
        return found

    return loss


def key_of(method: Any, view: Tensor) -> Tensor:
    key: Tensor = method.target["projector"](method.target["encoder"](view).map.mean((2, 3)))[0]
    found: Tensor = key / key.norm()
    return found


def test_of_moco_it_is_the_gradient_of_info_nce_with_its_queue() -> None:
    method: Any = small("moco-v2")
    context, batch = asked(method, method.encoder)
    _, second = views_of(context, batch)
    expected = gradcam(batch.features.map[0], info_nce(method, key_of(method, second[:1])))
    found = make_map(NAME, context)(method.encoder, batch)[0]
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


def three_terms(z: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    """VICReg paper, eq. 1 to 6, dimension by dimension; the two variances are averaged, as in the official code."""
    n, width = len(z), len(z[0])
    invariance = sum(((a - b) ** 2).sum() for a, b in zip(z, others, strict=True)) / (n * width)
    variance, covariance = torch.zeros(()), torch.zeros(())
    for rows in (z, others):
        columns = [torch.stack([row[j] for row in rows]) for j in range(width)]
        centred = [column - column.mean() for column in columns]
        for j in range(width):
            deviation = ((centred[j] ** 2).sum() / (n - 1) + 1e-4).sqrt()
            variance = variance + torch.clamp(1 - deviation, min=0) / width / 2
            for k in range(width):
                if k != j:
                    covariance = covariance + ((centred[j] * centred[k]).sum() / (n - 1)) ** 2 / width
    return 25 * invariance + 25 * variance + covariance


def test_of_vicreg_it_is_the_gradient_of_its_three_terms() -> None:
    method: Any = small("vicreg")
    context, batch = asked(method, method.encoder)
    first, second = (method.encoder(view).map.detach() for view in views_of(context, batch))
    others = list(method.projector(second.mean((2, 3))).detach())

    def loss(phi: Tensor) -> Tensor:
        pooled = torch.cat([phi.mean((1, 2))[None], first[1:].mean((2, 3))])
        return N * three_terms(list(method.projector(pooled)), others)

    expected = gradcam(first[0], loss)
    found = make_map(NAME, context)(method.encoder, batch)[0]
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_with_lcr_the_loss_of_its_branch_is_added() -> None:
    """LCR paper, eq. 3 to 7, cell by cell: divergence of the branch's softmax from that of the loss's GradCAM."""
    config = configured("moco-v2", "lcr", method__queue=10, method__projection_dim=8, branch__lcr__weight=5.0)
    method: Any = build_method(config, channels=1).eval()
    lcr = method.branches["lcr"]
    with torch.no_grad():
        lcr.filters.weight.mul_(20)
    context, batch = asked(method, method.encoder)
    _, second = views_of(context, batch)
    contrastive = info_nce(method, key_of(method, second[:1]))
    phi = batch.features.map[0]
    leaf = phi.clone().requires_grad_()
    (slope,) = torch.autograd.grad(contrastive(leaf), leaf)
    cells = [(i, j) for i in range(phi.shape[1]) for j in range(phi.shape[2])]
    target = torch.stack([torch.relu(slope[:, i, j] @ phi[:, i, j]) for i, j in cells])  # eq. 3
    target = (target / 0.4).exp() / (target / 0.4).exp().sum()  # eq. 5

    def loss(phi: Tensor) -> Tensor:
        fitted = torch.stack([max(w[:, 0, 0] @ phi[:, i, j] for w in lcr.filters.weight) for i, j in cells])  # eq. 4
        fitted = (fitted / 0.4).exp() / (fitted / 0.4).exp().sum()
        return contrastive(phi) + 5.0 * (target * (target / fitted).log()).sum()

    expected, plain = gradcam(phi, loss), gradcam(phi, contrastive)
    found = make_map(NAME, context)(method.encoder, batch)[0]
    torch.testing.assert_close(found, expected.detach(), rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert not torch.allclose(found, plain, rtol=0.1)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_with_a_loss_of_embeddings_has_the_map(name: str) -> None:
    """Of the encoder that is kept; it leaves queues, centres and gradients as they were."""
    method = small(name)
    kept: Any = method.encoder if method.kept == "encoder" else method.target["encoder"]  # type: ignore[index]
    context, batch = asked(method, kept, n=2)
    reason = unmet(NAME, Subject(kept, None, context), has_weights=False, attention=None)
    if not {"two_views", "embedding_loss"} <= method.provides:
        assert reason
        return
    assert reason is None
    before = {key: value.clone() for key, value in method.state_dict().items()}
    maps = make_map(NAME, context)(kept, batch)
    assert maps.shape == batch.features.map[:, 0].shape
    assert torch.isfinite(maps).all()
    assert (maps.flatten(1).std(dim=1) > 0).all()
    torch.testing.assert_close(method.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in method.parameters())
    assert method.encoder is not None, "it has its own encoder still"
    assert context.companions is not None
    other = make_map(NAME, replace(context, companions=context.companions.bitwise_not()))(kept, batch)
    compares = name in ("simclr", "simclr-attention", "conrec", "conrec-gap", "swav", "barlow-twins", "vicreg")
    assert torch.allclose(maps, other, rtol=1e-4, atol=1e-6 * float(maps.abs().max())) != compares


def test_dino_is_looked_at_with_the_teachers_head() -> None:
    """The teacher is kept: its own head takes the place of the student's, whose weights are others."""
    method: Any = small("dino")
    context, batch = asked(method, method.target["encoder"])
    maps = make_map(NAME, context)(method.target["encoder"], batch)
    with torch.no_grad():
        for parameter in method.projector.parameters():
            parameter.add_(1)
    torch.testing.assert_close(make_map(NAME, context)(method.target["encoder"], batch), maps, rtol=0, atol=0)
    with torch.no_grad():
        method.target["projector"].mlp[0].weight.add_(1)
    assert not torch.allclose(make_map(NAME, context)(method.target["encoder"], batch), maps)


def test_a_loss_that_asks_for_images_of_train_is_left_out_and_said() -> None:
    method = build_method(configured("simclr", "lcr", "xcorr"), channels=1)
    branch: Branch = method.branches["xcorr"]  # type: ignore[assignment]
    assert branch.weight
    (line,) = loss_notes(method)
    assert line.startswith("gradcam-loss is without the loss of xcorr")
    context, batch = asked(method.eval(), method.encoder)
    assert torch.isfinite(make_map(NAME, context)(method.encoder, batch)).all()
    assert loss_notes(None) == loss_notes(built("simclr")) == []


def test_an_image_of_train_is_no_companion_of_itself() -> None:
    """Without a test split maps are of train, which companions are of: the loss would hold it against itself."""
    method = small("simclr")
    context, batch = asked(method, method.encoder)
    assert context.companions is not None
    among = replace(context, companions=torch.cat([context.companions[:1], batch.images, context.companions[1:]]))
    own, found = (make_map(NAME, each).maps(method.encoder, batch) for each in (context, among))
    assert torch.equal(own, found)
