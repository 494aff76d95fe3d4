"""The supervised baseline of the ConRec paper's Table 2: a linear classifier on the embedding, trained with it.

Views and head are the authors' code's: crop and flip, one view an image; a Glorot-uniform layer that gets neither
weight decay nor LARS's adaptation. With preset `paper` (LARS, rate .3 at batch 16) it is their U-Net's row but for the
weight decay on Flowers (`--set optimizer.weight_decay=5e-4`) and the epochs (Flowers 1000, Dogs 500). The grades of
APTOS are ordinal targets there, trained by Adam at 5e-5 in batches of 32 for 25 epochs (docs/methods.md).
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.methods.base import Method, Step
from probekit.models.encoder import Encoder
from probekit.views.recipes import Views


class Classifier(nn.Linear):
    """A linear layer of its own initialisation, which `build_optimizer` spares. Computes in float32, as heads do."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__(dim, classes)
        nn.init.xavier_uniform_(self.weight)  # authors' code
        nn.init.zeros_(self.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits float32 `[B, classes]` of embeddings `[B, D]`."""
        with torch.autocast(pooled.device.type, enabled=False):
            return super().forward(pooled.float())

    def no_weight_decay(self) -> set[str]:
        """Its weight (authors' code)."""
        return {"weight"}


class Supervised(Method):
    """Cross-entropy of a linear classifier.

    Args:
        targets: "classes", or "ordinal": grade k as the first k + 1 ones of K, each with a cross-entropy of its own
            (ConRec authors' code). A grade is then read as how many of the K are more likely than not, less one.
    """

    about = "cross-entropy of a linear classifier on the labels"
    paper = "the supervised baselines of ConRec, arXiv 2104.04323"
    recipe = "supervised"
    provides = frozenset({"map", "embedding_loss"})
    needs_labels = True

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        *,
        targets: Literal["classes", "ordinal"] = "classes",  # authors' code of all sets but APTOS
    ) -> None:
        super().__init__(encoder)
        self.targets = targets
        self.classifier = Classifier(encoder.dim, classes)

    def step(self, views: Views) -> Step:
        """The loss of every view. Logs: `accuracy`, of the batch, in [0, 1]."""
        assert views.labels is not None
        features = self.encode(views.inputs.flatten(0, 1))
        labels = views.labels.repeat(len(views.inputs))
        logits = self.classifier(features.pooled)
        if self.targets == "ordinal":
            reached = torch.arange(logits.shape[1], device=labels.device) <= labels[:, None]
            loss = F.binary_cross_entropy_with_logits(logits, reached.float())
            predicted = (logits.detach() > 0).sum(dim=1) - 1
        else:
            loss = F.cross_entropy(logits, labels)
            predicted = logits.detach().argmax(dim=1)
        accuracy = (predicted == labels).float().mean()
        return Step(loss=loss, features=features, logs={"accuracy": accuracy})
