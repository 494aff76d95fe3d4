"""The supervised baseline: its loss written out, what its optimizer spares, and that it learns.

Alone: pytest tests/methods/test_supervised.py
"""

import math
from typing import Any

import torch

from probekit.config import resolve
from probekit.methods.supervised import Supervised
from probekit.registry import METHODS, get
from probekit.restore.build import build_method
from probekit.train.optim import build_optimizer
from probekit.train.step import build_step
from probekit.views.recipes import Views, make_views


def built(classes: int = 3, **options: Any) -> Supervised:
    small = {"model.width": 4, "model.depth": 3, **options}
    config = resolve("supervised", get(METHODS, "method", "supervised"), preset="paper", seed=0, options=small)
    method = build_method(config, channels=1, classes=classes)
    assert isinstance(method, Supervised)
    return method


def views(V: int) -> Views:
    inputs = torch.rand(V, 4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    none = torch.empty(0)
    return Views(inputs, inputs, none, none, torch.tensor([2, 0, 1, 2]))


def test_loss_is_the_mean_cross_entropy_of_all_views() -> None:
    method = built().eval()
    for V in (1, 2):
        batch = views(V)
        step = method.step(batch)
        assert batch.labels is not None
        total, right = 0.0, 0
        for view in batch.inputs:
            for image, label in zip(view, batch.labels.tolist(), strict=True):
                pooled = method.encoder(image[None]).pooled[0]
                layer = method.classifier
                logits = [(row @ pooled + b).item() for row, b in zip(layer.weight, layer.bias, strict=True)]
                total += math.log(sum(math.exp(z) for z in logits)) - logits[label]
                right += max(range(3), key=logits.__getitem__) == label
        torch.testing.assert_close(step.loss.item(), total / (4 * V), rtol=1e-5, atol=1e-6)
        assert step.logs["accuracy"].item() == right / (4 * V)


def test_ordinal_targets_are_as_many_ones_as_the_grade_and_one() -> None:
    """ConRec paper, section 4: of 3 grades, 0 is (1, 0, 0) and 2 is (1, 1, 1)."""
    method, batch = built(3, **{"method.targets": "ordinal"}).eval(), views(1)
    targets = {0: (1, 0, 0), 1: (1, 1, 0), 2: (1, 1, 1)}
    step = method.step(batch)
    assert batch.labels is not None
    total, right = 0.0, 0
    for image, label in zip(batch.inputs[0], batch.labels.tolist(), strict=True):
        chances = method.classifier(method.encoder(image[None]).pooled)[0].double().sigmoid().tolist()
        total -= sum(math.log(p if t else 1 - p) for p, t in zip(chances, targets[label], strict=True)) / 3
        right += sum(p > 0.5 for p in chances) - 1 == label
    torch.testing.assert_close(step.loss.item(), total / 4, rtol=1e-5, atol=1e-6)
    assert step.logs["accuracy"].item() == right / 4


def test_the_classifier_is_spared_decay_and_adaptation() -> None:
    """Authors' code: like biases and batch norms, it learns at the full rate."""
    method = built()
    weights, spared = build_optimizer(method, name="lars", lr=0.3, momentum=0.9, weight_decay=1e-4).param_groups
    assert any(p is method.classifier.weight for p in spared["params"])
    assert all(p.ndim > 1 for p in weights["params"])
    assert spared["adapt"] is False


def test_it_gets_the_labels_of_its_images_and_learns_them() -> None:
    """Bright or dark: a few steps tell them apart, on labels that go with the index."""
    options = {"model.width": 4, "model.depth": 3, "train.batch_size": 8, "train.precision": "fp32"}
    config = resolve("supervised", get(METHODS, "method", "supervised"), preset="quick", seed=0, options=options)
    method = build_method(config, channels=1, classes=2).train()
    labels = torch.arange(32) % 2
    images = (40 + 150 * labels.view(-1, 1, 1, 1) + torch.randint(0, 40, (32, 1, 16, 16))).to(torch.uint8)
    step = build_step(config, method, images, labels.numpy())
    order = [torch.randperm(32, generator=torch.Generator().manual_seed(i))[:8] for i in range(30)]
    scalars = torch.stack([step(index, images[index]) for index in order])
    assert step.names[:2] == ["loss", "accuracy"]
    assert scalars[-5:, 1].mean() > 0.95
    assert scalars[-5:, 0].mean() < scalars[:5, 0].mean()


def test_its_views_are_cropped_and_flipped_and_no_more() -> None:
    """A constant image stays as it is: no jitter, no blur, no corruption."""
    images = torch.full((4, 3, 24, 24), 128, dtype=torch.uint8)
    made = make_views("supervised", images, torch.Generator().manual_seed(0))
    assert made.inputs.shape == (1, 4, 3, 24, 24)
    torch.testing.assert_close(made.inputs, torch.full_like(made.inputs, 128 / 255))
