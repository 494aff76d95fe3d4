"""The head trained by SGD: against a plain loop, with the papers' schedules, and nothing of a frozen encoder moves.

Alone: pytest tests/probes/test_head.py
"""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probekit.data.split import StreamedImages
from probekit.models import Encoder
from probekit.probes.cross_validation import cross_validate, divide
from probekit.probes.head import INIT_SD, class_logits, folds_trainer, head_loss, train_head
from probekit.probes.measurements.sgd import RECIPES, SGD, Recipe
from probekit.probes.protocol import Part

CPU = torch.device("cpu")


def few(name: str, epochs: int = 3, lr: float = 0.5) -> Recipe:
    return replace(SGD(name, epochs=epochs, lr=lr).chosen, batch_size=8)


class Mean(nn.Module):
    """An encoder whose embedding no crop changes, on images of one shade each: (1, shade)."""

    def forward(self, x: Tensor) -> Any:
        shade = x.mean((1, 2, 3))
        return SimpleNamespace(pooled=torch.stack([torch.ones_like(shade), shade], dim=1))


def shades(n: int = 20) -> Tensor:
    """uint8 [n, 1, 8, 8], one shade an image."""
    values = torch.linspace(0, 255, n).round().to(torch.uint8)
    return values.view(n, 1, 1, 1).expand(n, 1, 8, 8).contiguous()


def accuracy_of(labels: NDArray[np.int64]) -> Any:
    return lambda logits: float((logits.argmax(1) == labels).mean())


LABELS = np.arange(20) // 7


def trained(
    recipe: Recipe,
    *,
    seed: int = 0,
    images: Any = None,
    encoder: nn.Module | None = None,
    labels: Any = LABELS,
    **more: Any,
) -> Any:
    return train_head(
        encoder or Mean(),
        (shades() if images is None else images, labels),
        shades(),
        classes=3,
        recipe=recipe,
        seed=seed,
        score=accuracy_of(LABELS),
        progress=lambda done, total: None,
        **more,
    )


def plain_sgd(recipe: Recipe, seed: int) -> NDArray[np.float32]:
    """The update written out, on features that do not change; returns the logits."""
    order_seed, _, weights_seed = (int(s.generate_state(1)[0]) for s in np.random.SeedSequence(seed).spawn(3))
    shade = shades()[:, 0, 0, 0].double() / 255
    x = torch.stack([torch.ones_like(shade), shade], 1)
    if recipe.unit_length:
        x = x / x.norm(dim=1, keepdim=True)
    y = torch.eye(3, dtype=torch.float64)[LABELS]
    weight = torch.empty(3, 2).normal_(std=INIT_SD, generator=torch.Generator().manual_seed(weights_seed)).double()
    theta = torch.cat([weight, torch.zeros(3, 1)], 1)
    velocity, order = torch.zeros_like(theta), torch.Generator().manual_seed(order_seed)
    inputs = torch.cat([x, torch.ones(20, 1)], 1)
    for epoch in range(recipe.epochs):
        lr = recipe.lr
        if recipe.schedule == "cosine":
            lr *= (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2
        elif recipe.schedule == "steps":
            lr *= 0.1 ** sum(epoch >= round(share * recipe.epochs) for share in (0.6, 0.8))
        for index in torch.split(torch.randperm(20, generator=order), recipe.batch_size):
            error = torch.softmax(inputs[index] @ theta.T, 1) - y[index]
            gradient = error.T @ inputs[index] / len(index) + recipe.weight_decay * theta
            velocity = recipe.momentum * velocity + gradient
            theta = theta - lr * (gradient + recipe.momentum * velocity if recipe.nesterov else velocity)
    return (inputs @ theta.T).float().numpy()


@pytest.mark.parametrize("name", ["conrec", "xcorr", "lcr"])
def test_is_the_update_written_out(name: str) -> None:
    recipe = few(name, epochs=5)
    np.testing.assert_allclose(trained(recipe).logits, plain_sgd(recipe, 0), rtol=2e-4, atol=2e-5)


def test_labels_that_are_not_known_are_not_seen() -> None:
    """The same head as of these images alone, and of whatever labels the others have."""
    recipe, known = few("xcorr"), np.arange(20) % 3 == 0
    ours = trained(recipe, among=known)
    others = trained(recipe, among=known, labels=np.where(known, LABELS, (LABELS + 1) % 3))
    index = np.flatnonzero(known)
    alone = trained(recipe, images=shades()[index], labels=LABELS[index])
    np.testing.assert_array_equal(ours.logits, others.logits)
    np.testing.assert_allclose(ours.logits, alone.logits, rtol=1e-5, atol=1e-6)
    assert not np.allclose(ours.logits, trained(recipe).logits)


def test_learns_and_scores_every_epoch() -> None:
    found = trained(few("conrec", epochs=100))
    assert len(found.scores) == len(found.losses) == 100
    assert found.losses[-1] < 0.5 * found.losses[0]
    assert found.scores[-1] >= 0.9


def test_a_frozen_encoder_stays_as_it_was() -> None:
    encoder = Encoder(channels=1, width=4, depth=2, pooling="gap").train()
    encoder.backbone.levels[0].eval()
    modes = [module.training for module in encoder.modules()]
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    trained(few("xcorr"), encoder=encoder)
    assert [module.training for module in encoder.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert all(p.grad is None for p in encoder.parameters())


def test_fine_tuning_trains_a_copy_of_the_encoder() -> None:
    torch.manual_seed(0)
    encoder = Encoder(channels=1, width=4, depth=2, pooling="gap")
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    tuned = trained(few("voc", lr=0.05), encoder=encoder)
    still = trained(Recipe("", 3, 8, 0.05, weight_decay=1e-4, schedule="cosine"), encoder=encoder)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    assert not np.allclose(tuned.logits, still.logits, atol=1e-3)


class Normed(nn.Module):
    """An encoder whose map is one cell, and normed over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Any:
        return SimpleNamespace(pooled=self.norm(x.flatten(2).mean(2).expand(-1, 4)))


def test_fine_tuning_leaves_out_an_image_that_is_alone_in_its_batch() -> None:
    recipe = replace(few("voc"), batch_size=19)
    assert np.isfinite(trained(recipe, encoder=Normed()).losses).all()


def test_ordinal_targets_are_learned_by_adam_as_written_out() -> None:
    """ConRec authors' code of APTOS: grade k as k + 1 ones; Adam as Kingma and Ba write it."""
    recipe = replace(RECIPES["aptos"], epochs=3, batch_size=20, lr=0.1, zoom=None, encoder_lr=0.0)
    found = trained(recipe)
    seeds = [int(s.generate_state(1)[0]) for s in np.random.SeedSequence(0).spawn(3)]
    shade = shades()[:, 0, 0, 0].double() / 255
    x = torch.stack([torch.ones_like(shade), shade, torch.ones_like(shade)], 1)
    weight = torch.empty(3, 2).normal_(std=INIT_SD, generator=torch.Generator().manual_seed(seeds[2])).double()
    theta = torch.cat([weight, torch.zeros(3, 1)], 1)
    reached = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.float64)[LABELS]
    first, second = torch.zeros_like(theta), torch.zeros_like(theta)
    for step in range(1, 4):
        logits = x @ theta.T
        loss = -(reached * logits.sigmoid().log() + (1 - reached) * (-logits).sigmoid().log()).mean()
        assert found.losses[step - 1] == pytest.approx(loss.item(), rel=1e-4)
        gradient = (logits.sigmoid() - reached).T @ x / reached.numel()
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        theta = theta - 0.1 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
    np.testing.assert_allclose(found.logits, (x @ theta.T).numpy(), rtol=1e-3, atol=1e-4)


def test_logits_of_grades_are_how_likely_their_targets_are() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    ones = np.tri(4)  # grade k is k + 1 ones
    likely = [
        [np.prod(np.where(ones[k], 1 / (1 + np.exp(-row)), 1 / (1 + np.exp(row)))) for k in range(4)] for row in logits
    ]
    ours = torch.from_numpy(class_logits(logits, RECIPES["aptos"])).softmax(1)
    theirs = np.array(likely) / np.sum(likely, axis=1, keepdims=True)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert class_logits(logits, RECIPES["voc"]) is logits


def test_each_fold_has_a_head_of_its_own_that_has_not_seen_it() -> None:
    """Against a head that is trained by hand on the rest; the last grade is decoded as by the authors."""
    recipe = replace(RECIPES["aptos"], epochs=40, batch_size=8, lr=0.05, encoder_lr=0.0)
    said: list[tuple[tuple[int, int], int]] = []
    predict = folds_trainer(
        Mean(), shades(), LABELS, classes=3, recipe=recipe, seed=5,
        progress=lambda place, done, total: said.append((place, done)),
    )  # fmt: skip
    part = Part(np.ones((20, 2)), LABELS)
    row = cross_validate(
        "row", "encoder", part, classes=("a", "b", "c"), protocol="aptos", seed=5, folds=4, repeats=2, predict=predict
    )
    assert row["decodings"].keys() == {"cumulative"}
    assert row["decodings"]["cumulative"]["kappa"]["mean"] > 0.5
    assert {place for place, _ in said} == {(repeat, fold) for repeat in range(2) for fold in range(4)}
    for repeat in range(2):
        held = divide(LABELS, folds=4, seed=5, repeat=repeat)
        for fold in range(4):
            seed = int(np.random.SeedSequence([5, repeat, fold]).generate_state(1)[0])
            alone = train_head(
                Mean(), (shades(), LABELS), shades()[np.flatnonzero(held == fold)], classes=3, recipe=recipe, seed=seed,
                score=lambda logits: 0.0, progress=lambda done, total: None, among=held != fold,
            )  # fmt: skip
            grades = [max(0, sum(value > 0 for value in row) - 1) for row in alone.logits.tolist()]
            assert np.array(row["predicted"]["cumulative"][repeat])[held == fold].tolist() == grades


def test_several_labels_an_image_leave_the_difficult_ones_out() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 1, 255, 0], [1, 1, 0, 255], [255] * 4, [0, 0, 0, 0], [1, 255, 1, 0], [0, 1, 0, 1]])
    terms = [
        -math.log(torch.sigmoid(x if t == 1 else -x).item())
        for x, t in zip(logits.flatten(), targets.flatten().tolist(), strict=True)
        if t != 255
    ]
    assert head_loss(logits, targets.to(torch.uint8)).item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert head_loss(logits[2:3], targets[2:3].to(torch.uint8)).item() == 0


def test_one_seed_one_result_wherever_the_images_are() -> None:
    recipe = few("xcorr")
    pixels = torch.randint(0, 256, (20, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    streamed = StreamedImages(lambda index: pixels[index], pixels.shape, CPU)
    first, again, other = (trained(recipe, images=pixels, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.logits, again.logits)
    np.testing.assert_array_equal(first.logits, trained(recipe, images=streamed).logits)
    assert not np.array_equal(first.logits, other.logits)


def test_a_rate_that_diverges_says_so() -> None:
    with pytest.raises(ValueError, match=r"expected a finite loss, found .* in epoch .*; try a lower --lr"):
        trained(Recipe("", 50, 8, 1e20, weight_decay=1.0))
    predict = folds_trainer(
        Mean(), shades(), LABELS, classes=3, recipe=Recipe("", 50, 8, 1e20, weight_decay=1.0), seed=5,
        progress=lambda place, done, total: None,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"expected a finite loss, found .*; try another --cv-sgd"):
        predict(np.arange(20) > 4, np.arange(20) <= 4, (0, 0))


def test_an_encoder_is_not_trained_on_one_image() -> None:
    """Batch norm cannot be, of maps of one cell, and torch says so in its own words."""
    one = np.arange(20) == 3
    with pytest.raises(ValueError, match=r"expected 2 images with a known label or more .* as voc does, found 1"):
        trained(RECIPES["voc"], among=one)
    assert len(trained(few("conrec"), among=one).losses) == few("conrec").epochs


def test_recipes_change_only_what_is_asked() -> None:
    assert SGD("lcr").chosen == RECIPES["lcr"]
    changed = SGD("lcr", epochs=2).chosen
    assert (changed.epochs, changed.lr, changed.schedule) == (2, 30.0, "steps")
    # Other settings are another question, with a file of its own.
    assert (RECIPES["lcr"].title, changed.title) == ("lcr", "lcr-2-epochs-lr-30")
    with pytest.raises(ValueError, match=r"unknown value of --sgd 'conrek'.*did you mean 'conrec'"):
        SGD("conrek")
    for lr in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=f"expected a learning rate above 0, found {lr:g}"):
            SGD("lcr", lr=lr)
