"""Encoders to look into: a run's own, with its linear probe and projection head, and the same with random weights."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from probekit.branches.base import branches_of
from probekit.config import Config
from probekit.data.split import shrunk
from probekit.h5 import Split
from probekit.heatmaps.base import Context
from probekit.heatmaps.gradcam_ssl import project
from probekit.heatmaps.rows import Subject
from probekit.heatmaps.targets import Classifier
from probekit.methods.base import Method
from probekit.models.encoder import Encoder
from probekit.models.extract import BATCH_SIZE, extract
from probekit.models.untrained import make_plain, untrained_beside, untrained_encoder
from probekit.probe.protocol import Part, fit_label
from probekit.restore.build import build_method, load_method
from probekit.restore.pooled import pooled
from probekit.run import IMPORTED, Run, split_checkpoint

NEGATIVES = 256  # ours: images of the bank that gradcam-ssl contrasts with; the smallest batch of the SimCLR paper
FEW = 64  # of these for networks whose maps are only compared with each other
PROTOCOL = "val"  # of the linear probe that looks explain


class Subjects:
    """Makes subjects for looks; all share the training images, the bank of negatives and the settings.

    Args:
        run: The run.
        checkpoint: Which weights.
        header: Of its encoder.
        images: uint8 `[N, C, H, W]`, the training images on the device, at the size the encoder takes.
        split: The same as the file holds them, with labels.
        val: Images and split of the labelled validation images, likewise, or None.
        classes: How many there are.
        context: Window, stride and seed.
    """

    def __init__(
        self,
        run: Run,
        checkpoint: str,
        header: dict[str, Any],
        images: torch.Tensor,
        split: Split,
        val: tuple[torch.Tensor, Split] | None,
        classes: int,
        context: Context,
    ) -> None:
        self.header, self.images, self.val, self.classes, self.context = header, images, val, classes, context
        self.pool = split_checkpoint(checkpoint)[1]
        labels = split.class_labels
        self.labels = labels if labels is not None and len(np.unique(labels)) > 1 else None
        self.groups = split.factors.get("pair_id")
        content = run.read()
        # An imported encoder was trained elsewhere: its views are not known.
        self.config = None if content["state"] == IMPORTED else Config.from_dict(content["config"])
        # Without its checkpoint a run has no projection head left: the embedding itself is contrasted.
        has_checkpoint = (run.checkpoints / f"{split_checkpoint(checkpoint)[0]}.pt").exists()
        self.method = load_method(run, checkpoint)[0] if has_checkpoint else None
        bank = np.sort(np.random.default_rng(context.seed).permutation(len(images))[:NEGATIVES])
        self.bank = images[torch.from_numpy(bank).to(images.device)]

    @property
    def has_head(self) -> bool:
        """Whether the contrastive loss has a projection head; without one the embedding itself is contrasted."""
        return self.method is not None and self.method.projection is not None

    @property
    def decodes(self) -> bool:
        """Whether the run has a decoder, to draw reconstructions."""
        if self.method is None:
            return False
        with torch.no_grad():
            return self.method.to(self.images.device).reconstruct(self.images[:1].float() / 255) is not None

    def trained(self, encoder: Encoder) -> Subject:
        """The run's encoder."""
        return self._subject(encoder, self.method, with_probe=True)

    def beside(self, encoder: Encoder, seed: int) -> tuple[int, Subject] | None:
        """What `untrained_beside` finds beside the run's encoder: its seed, and it with a probe of its own."""
        height, width = self.images.shape[2:]
        found = untrained_beside(
            encoder, lambda k: self._network(k)[0], seed, size=(height, width), device=self.images.device
        )
        return None if found is None else (found[0], self.random(found[0], with_probe=True))

    def random(self, seed: int, *, with_probe: bool) -> Subject:
        """The same with the plain random weights of a seed."""
        return self._subject(*self._network(seed), with_probe=with_probe)

    def _network(self, seed: int) -> tuple[Encoder, Method | None]:
        if self.method is not None and self.config is not None:
            config, classes = replace(self.config, seed=seed), len(self.header["classes"])
            method = build_method(config, channels=self.images.shape[1], classes=classes)
            make_plain(method.encoder)
            return pooled(method.encoder, self.pool, branches_of(method)).eval(), method
        return pooled(untrained_encoder(self.header["spec"], seed), self.pool, ()), None

    def _subject(self, encoder: Encoder, method: Method | None, *, with_probe: bool) -> Subject:
        device = self.images.device
        encoder.to(device).eval()
        context = replace(
            self.context,
            project=self._projection(method),
            temperature=getattr(method, "temperature", Context.temperature),
        )
        if self.config is not None:
            views = self.config.views
            context = replace(context, recipe=views.recipe, view_size=shrunk(self.images, views.max_size))
        with torch.no_grad():
            bank = self.bank if with_probe else self.bank[:FEW]
            embedded = torch.from_numpy(extract(encoder, bank, batch_size=BATCH_SIZE)).to(device)
            context = replace(context, negatives=project(embedded, context))
        return Subject(encoder, self._classifier(encoder) if with_probe else None, context)

    def _projection(self, method: Method | None) -> nn.Module | None:
        """The head whose output the contrastive loss compares; bilinear embeddings do not fit into one."""
        if method is None or self.pool == "bilinear":
            return None
        return method.to(self.images.device).eval().projection

    def _classifier(self, encoder: Encoder) -> Classifier | None:
        if self.labels is None:
            return None
        part = Part(extract(encoder, self.images, batch_size=BATCH_SIZE), self.labels, groups=self.groups)
        val = None
        if self.val is not None:
            images, split = self.val
            assert split.labels is not None
            val = Part(extract(encoder, images, batch_size=BATCH_SIZE), split.labels)
        space, probe = fit_label(part, classes=self.classes, protocol=PROTOCOL, seed=self.context.seed, val=val)
        return Classifier.of(space, probe, classes=self.classes, device=self.images.device)
