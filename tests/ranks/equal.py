"""Three steps of a run in one process or several, in float64, and what comes of them."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from probekit import ranks
from probekit.branches.base import branches_of
from probekit.config import resolve
from probekit.data.split import DeviceSplit, Images, StreamedImages, open_split
from probekit.h5 import Split
from probekit.models import pooling
from probekit.registry import BRANCHES, METHODS, get
from probekit.restore.build import build_method
from probekit.train.evaluate import Monitor
from probekit.train.loop import Trainer
from probekit.train.plan import unite
from tests.chance import noise
from tests.h5.test_photographs import photographs
from tests.methods.batches import HEADS

STEPS, BATCH, IMAGES, SIDE = 3, 16, 48, 16
SMALL = {
    "train.batch_size": BATCH,
    "train.precision": "fp32",
    "train.epochs": 5,
    "model.width": 4,
    "model.depth": 2,
    "optimizer.name": "sgd",  # others divide by gradients that are 0 but for rounding: of biases before a batch norm
    "optimizer.lr": 0.05,
    "optimizer.scaling": "none",
    "optimizer.warmup_epochs": 0,
}
BESIDE: dict[str, dict[str, Any]] = {
    "moco-v2": {"method.group": 4, "method.queue": 40},
    "swav": {"method.queue_from": 0, "method.freeze": 0.0, "method.queue": 32},
    "dino": {"method.freeze": 0.0},
    "xcorr": {"branch.xcorr.clusters": 5, "branch.xcorr.lr_share": 1.0},
    "contrastive-crop": {"branch.contrastive-crop.warmup": 0.0},
    "cvsa": {"branch.cvsa.share": 0.7},
    "dilo": {"branch.dilo.share": 0.7, "branch.dilo.background": "any"},
}


def trained(cases: Sequence[tuple[tuple[str, ...], dict[str, Any]]]) -> list[dict[str, Any]]:
    """For each case, names and settings: scalars and gradients of every step; weights and buffers after the last."""
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    pooling.DROPOUT = 0.0  # of which each process has its own
    return [_train(names, options) for names, options in cases]


def _train(names: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
    trainer = trainer_of(names, options)
    trainer.method.train()
    trainer._begin_epoch()
    order = list(map(ranks.mine, torch.split(trainer._order(), BATCH)))
    gradients: list[Tensor] = []
    for index, images in list(trainer.eager_step.feed(order, epoch=0))[:STEPS]:
        trainer.advance(index, images)
        trainer.progress.batch += 1
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.method.parameters() if p.grad is not None]))
    trainer._read_buffer()
    return {
        "scalars": dict(trainer.progress.sums) | trainer.progress.begun,
        "gradients": torch.stack(gradients),
        "weights": torch.cat([p.detach().flatten() for p in trainer.method.parameters()]),
        "buffers": {name: buffer.clone() for name, buffer in trainer.method.named_buffers()},
    }


def whole_images() -> Images:
    """Photographs of many sizes, of which steps are given crops."""
    path = photographs(Path(mkdtemp()) / "a.h5", IMAGES, mode="L", masked=False)
    return open_split(path, "train", torch.device("cpu"), max_size=SIDE, cut=True).images


def trainer_of(names: Sequence[str], options: dict[str, Any]) -> Trainer:
    method, *branches = names
    options = dict(options)
    streamed, kept_whole = options.pop("streamed", False), options.pop("photographs", False)
    kind = get(METHODS, "method", method)
    given = SMALL | HEADS.get(method, {})
    for name in names:
        given |= BESIDE.get(name, {})
    config = resolve(method, kind, preset="quick", seed=0, options=given | options, branches=branches)
    assert all(get(BRANCHES, "branch", name) for name in config.branches)
    built = build_method(config, channels=1, classes=3).double()
    if ranks.size() > 1:
        unite(built, BATCH)
    pixels: Images = noise(IMAGES, 1, SIDE, SIDE)
    if streamed:
        pixels = StreamedImages(pixels.__getitem__, pixels.shape, torch.device("cpu"))
    if kept_whole:
        pixels = whole_images()
    masks = noise(IMAGES, 1, SIDE, SIDE, seed=1)
    masks[..., : SIDE // 4, :] = 0  # so that regions are no whole images
    for branch in branches_of(built):
        branch.take_masks(lambda name: masks)
    labels = (np.arange(IMAGES) % 3).astype(np.int64)
    split = DeviceSplit("train", pixels, Split(np.zeros(0, np.uint8), labels, {}, None), "device")
    monitor = Monitor(split, None, None, seed=0)
    say = Console(quiet=True).print
    return Trainer(config=config, method=built, run=None, train=split, monitor=monitor, header={}, say=say)  # type: ignore[arg-type]
