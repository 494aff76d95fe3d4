"""A linear head trained by SGD on augmented images, on a frozen encoder or together with it, as the papers do it.

Views are cropped or zoomed, and mirrored, no colour; what is scored is the image as the dataset file holds it.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import lr_scheduler

from probekit.data.split import Images, Photographs, feed, part_of
from probekit.h5 import DIFFICULT
from probekit.models.extract import eval_mode, extract
from probekit.probes.measurements.sgd import Recipe
from probekit.views.batched import uniform
from probekit.views.crops import random_boxes, resize_crops
from probekit.views.cut import Cutter
from probekit.views.recipes import RECIPES, ViewMaker
from probekit.views.zoom import zoomed

P_FLIP = 0.5  # all three papers: the usual mirroring
INIT_SD = 0.01  # xcorr and lcr; ConRec's is Keras's default, which a convex problem forgets


@dataclass(frozen=True)
class Trained:
    """A trained head, and what each epoch made of the test images."""

    dim: int
    logits: NDArray[np.float32]  # `[N, K]` of the test images after the last epoch: of classes, or see `class_logits`
    losses: list[float]  # mean training loss of each epoch
    scores: list[float]  # what `score` said of the test logits after each epoch; none without it


def train_head(
    encoder: nn.Module,
    train: tuple[Images, NDArray[Any]],
    test: Images,
    *,
    classes: int,
    recipe: Recipe,
    seed: int,
    score: Callable[[NDArray[np.float32]], float] | None,
    progress: Callable[[int, int], None],
    among: NDArray[np.bool_] | None = None,
    remedy: str = "try a lower --lr",
) -> Trained:
    """Trains a head and has the test images scored after each epoch, whether or not the last one is the best.

    `encoder`: `[B, C, H, W]` in [0, 1] -> features with `.pooled` `[B, D]`; a copy is trained, if any. `train`: images
    uint8 `[N, C, H, W]`, and labels int64 `[N]` or uint8 `[N, K]`, where `DIFFICULT` counts in neither the loss nor the
    score. `score`: float32 `[M, K]` logits of the test images -> a number; with None they are seen after the last epoch
    alone. `progress` is given the images done and in all. `among` `[N]`: the training images whose labels are known.
    The seed decides the head's first weights, the order and the crops. A ValueError if an encoder would be trained on
    one image, or the loss is no longer a number; `remedy` is what to try then.
    """
    images, labels = train
    device = images.device
    labels = cumulative(labels, classes) if recipe.ordinal else labels
    order_seed, views_seed, weights_seed = (int(s.generate_state(1)[0]) for s in np.random.SeedSequence(seed).spawn(3))
    frozen = recipe.encoder_lr == 0
    encoder = encoder if frozen else copy.deepcopy(encoder)
    seen = torch.from_numpy(extract(encoder, test)).to(device) if frozen else None
    head = _new_head(encoder, images, classes, weights_seed)
    optimizer = _optimizer(encoder, head, recipe)
    schedule = _schedule(optimizer, recipe)
    views, order = torch.Generator(device).manual_seed(views_seed), torch.Generator().manual_seed(order_seed)
    targets = torch.from_numpy(labels).to(device)
    known = torch.arange(len(images)) if among is None else torch.from_numpy(np.flatnonzero(among))
    if not frozen and len(known) < 2:  # batch norm, of maps of one cell
        raise ValueError(
            f"expected 2 images with a known label or more to train the encoder as {recipe.name} does, found "
            f"{len(known)}; choose a recipe that leaves it frozen: conrec, xcorr or lcr"
        )
    losses, scores, logits = [], [], np.empty(0, np.float32)
    with eval_mode(encoder) if frozen else nullcontext(encoder.train()):
        for epoch in range(recipe.epochs):
            drawn = known[torch.randperm(len(known), generator=order)]
            losses.append(_epoch(encoder, head, optimizer, images, targets, recipe, views, drawn))
            if not np.isfinite(losses[-1]):
                raise ValueError(f"expected a finite loss, found {losses[-1]} in epoch {epoch + 1}; {remedy}")
            schedule.step()
            if score is not None or epoch + 1 == recipe.epochs:
                if not frozen:
                    seen = torch.from_numpy(extract(encoder, test)).to(device)
                assert seen is not None
                with torch.no_grad():
                    logits = head(_scaled(seen, recipe)).cpu().numpy()
            if score is not None:
                scores.append(score(class_logits(logits, recipe)))
            progress((epoch + 1) * len(known), recipe.epochs * len(known))
    return Trained(head.in_features, logits, losses, scores)


def folds_trainer(
    encoder: nn.Module,
    images: Images,
    labels: NDArray[np.int64],
    *,
    classes: int,
    recipe: Recipe,
    seed: int,
    progress: Callable[[tuple[int, int], int, int], None],
) -> Callable[[NDArray[np.bool_], NDArray[np.bool_], tuple[int, int]], dict[str, NDArray[np.int64]]]:
    """What `cross_validate` takes to ask a head that is trained anew for each fold.

    Arguments as of `train_head`; `progress` is given (repeat, fold), too, by which the seeds differ. Grades of ordinal
    targets are decoded as by the authors: how many of the K ones are likelier than not, less one.
    """

    def predict(
        used: NDArray[np.bool_], out: NDArray[np.bool_], place: tuple[int, int]
    ) -> dict[str, NDArray[np.int64]]:
        trained = train_head(
            encoder,
            (images, labels),
            part_of(images, torch.from_numpy(np.flatnonzero(out))),
            classes=classes,
            recipe=recipe,
            seed=int(np.random.SeedSequence([seed, *place]).generate_state(1)[0]),
            score=None,
            progress=partial(progress, place),
            among=used,
            remedy="try another --cv-sgd",
        )
        if recipe.ordinal:
            return {"cumulative": ((trained.logits > 0).sum(axis=1) - 1).clip(0)}
        return {"plain": trained.logits.argmax(axis=1)}

    return predict


def cumulative(labels: NDArray[np.int64], classes: int) -> NDArray[np.uint8]:
    """Grades int64 `[N]` as targets `[N, K]`: grade k as k + 1 ones (ConRec authors' code)."""
    return (np.arange(classes) <= labels[:, None]).astype(np.uint8)


def class_logits(logits: NDArray[np.float32], recipe: Recipe) -> NDArray[np.float32]:
    """Logits of classes `[N, K]`; of ordinal targets how likely the K ones and zeros of each grade are together."""
    return logits.cumsum(axis=1) if recipe.ordinal else logits


def head_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy for int64 `[B]`; for uint8 `[B, K]` the mean binary one over all that is not `DIFFICULT`."""
    if targets.ndim == 1:
        return F.cross_entropy(logits, targets)
    known = targets != DIFFICULT
    each = F.binary_cross_entropy_with_logits(logits, (targets == 1).float(), reduction="none")
    return (each * known).sum() / known.sum().clamp(min=1)


def _epoch(
    encoder: nn.Module,
    head: nn.Linear,
    optimizer: torch.optim.Optimizer,
    images: Images,
    targets: Tensor,
    recipe: Recipe,
    views: torch.Generator,
    order: Tensor,
) -> float:
    """One pass over the training images in an order; its mean loss."""
    batches = torch.split(order, recipe.batch_size)
    # Batch norm cannot train on an image alone in the last batch.
    if recipe.encoder_lr > 0 and len(batches) > 1 and len(batches[-1]) == 1:
        batches = batches[:-1]
    total = torch.zeros((), device=images.device)
    for index, batch in _augmented(images, batches, recipe, views):
        with torch.set_grad_enabled(recipe.encoder_lr > 0):
            features = encoder(batch.contiguous(memory_format=torch.channels_last)).pooled.float()
        loss = head_loss(head(_scaled(features, recipe)), targets[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.detach() * len(index)
    return float(total) / sum(map(len, batches))


def _augmented(
    images: Images, batches: Sequence[Tensor], recipe: Recipe, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of an index and a view of each of its images, `[B, C, H, W]` in [0, 1], of their size."""
    height, width = images.shape[-2:]
    if recipe.zoom is not None:
        for index, batch in feed(images, batches):
            yield index, zoomed(batch.float() / 255, recipe.zoom, generator)
        return
    if isinstance(images, Photographs):
        maker = ViewMaker(RECIPES["supervised"], images.shape[1:], cut=True).to(images.device)
        seeds = torch.randint(2**62, (len(batches),), generator=generator, device=generator.device).tolist()
        for index, crops in Cutter(images, maker).feed(list(zip(batches, seeds, strict=True))):
            yield index, maker(crops, maker.draw(len(index), generator)).inputs[0]
        return
    for index, batch in feed(images, batches):
        boxes = random_boxes(len(batch), height, width, generator)
        flipped = uniform((len(batch),), generator) < P_FLIP
        yield index, resize_crops(batch.float() / 255, boxes, flipped, (height, width)).clamp(0, 1)


def _scaled(features: Tensor, recipe: Recipe) -> Tensor:
    return F.normalize(features) if recipe.unit_length else features


def _new_head(encoder: nn.Module, images: Images, classes: int, seed: int) -> nn.Linear:
    dim = extract(encoder, images[:1], batch_size=1).shape[1]
    head = nn.Linear(dim, classes)
    nn.init.normal_(head.weight, std=INIT_SD, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(head.bias)
    return head.to(images.device)


def _optimizer(encoder: nn.Module, head: nn.Linear, recipe: Recipe) -> torch.optim.Optimizer:
    groups: list[dict[str, Any]] = [{"params": list(head.parameters()), "lr": recipe.lr}]
    if recipe.encoder_lr:
        groups.append({"params": list(encoder.parameters()), "lr": recipe.encoder_lr})
    if recipe.adam:
        return torch.optim.Adam(groups, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(groups, momentum=recipe.momentum, nesterov=recipe.nesterov, weight_decay=recipe.weight_decay)


def _schedule(optimizer: torch.optim.Optimizer, recipe: Recipe) -> lr_scheduler.LRScheduler:
    if recipe.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, T_max=recipe.epochs)
    milestones = [round(share * recipe.epochs) for share in (0.6, 0.8)] if recipe.schedule == "steps" else []
    return lr_scheduler.MultiStepLR(optimizer, milestones=milestones, gamma=0.1)
