"""Encoders to look into: each with its linear probe and its projection head."""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from probekit.data.split import shrunk
from probekit.h5 import Split
from probekit.heatmaps.base import Context
from probekit.heatmaps.maps.gradcam_ssl import project
from probekit.heatmaps.rows import Subject
from probekit.heatmaps.targets import Classifier
from probekit.models.extract import BATCH_SIZE, extract
from probekit.probe.protocol import Part, fit_label
from probekit.restore.opened import Opened

NEGATIVES = 256  # ours: images of the bank that gradcam-ssl contrasts with; the smallest batch of the SimCLR paper
FEW = 64  # of these for networks whose maps are only compared with each other
PROTOCOL = "tuned"  # of the linear probe that maps explain


class Subjects:
    """Makes subjects for maps; all share the training images, the bank of negatives and the settings.

    Args:
        opened: The encoder in question.
        images: uint8 `[N, C, H, W]`, the training images on the device, at the size the encoder takes.
        split: The same as the file holds them, with labels.
        val: Images and split of the labelled validation images, likewise, or None.
        classes: How many there are.
        context: Window, stride and seed.
    """

    def __init__(
        self,
        opened: Opened,
        images: torch.Tensor,
        split: Split,
        val: tuple[torch.Tensor, Split] | None,
        classes: int,
        context: Context,
    ) -> None:
        self.images, self.val, self.classes = images, val, classes
        labels = split.class_labels
        self.labels = labels if labels is not None and len(np.unique(labels)) > 1 else None
        self.groups = split.factors.get("pair_id")
        if opened.config is not None:
            views = opened.config.views
            context = replace(context, recipe=views.recipe, view_size=shrunk(images, views.max_size))
        self.context = context
        bank = np.sort(np.random.default_rng(context.seed).permutation(len(images))[:NEGATIVES])
        self.bank = images[torch.from_numpy(bank).to(images.device)]

    def of(self, opened: Opened, *, with_probe: bool = True) -> Subject:
        """An encoder to look into, with a linear probe of its own unless its maps are only compared with others."""
        context = replace(
            self.context,
            project=_projection(opened),
            temperature=getattr(opened.method, "temperature", Context.temperature),
        )
        with torch.no_grad():
            bank = self.bank if with_probe else self.bank[:FEW]
            embedded = torch.from_numpy(extract(opened.encoder, bank, batch_size=BATCH_SIZE)).to(opened.device)
            context = replace(context, negatives=project(embedded, context))
        return Subject(opened.encoder, self._classifier(opened) if with_probe else None, context)

    def _classifier(self, opened: Opened) -> Classifier | None:
        if self.labels is None:
            return None
        encoder = opened.encoder
        part = Part(extract(encoder, self.images, batch_size=BATCH_SIZE), self.labels, groups=self.groups)
        val = None
        if self.val is not None:
            images, split = self.val
            assert split.labels is not None
            val = Part(extract(encoder, images, batch_size=BATCH_SIZE), split.labels)
        space, probe = fit_label(part, classes=self.classes, protocol=PROTOCOL, seed=self.context.seed, val=val)
        return Classifier.of(space, probe, classes=self.classes, device=self.images.device)


def _projection(opened: Opened) -> nn.Module | None:
    """The head whose output the loss compares: bilinear embeddings do not fit into one, projections have passed it."""
    if opened.method is None or opened.weights.pool in ("bilinear", "projection"):
        return None
    return opened.method.projection
