"""The five variants of the ConRec paper (Dippel, Vogler, Hoehne, arXiv 2104.04323), Table 1.

One U-Net, two losses: `contrastive * NT-Xent + alpha * MSE` (eq. 1-3). A variant is a choice of three switches:

| variant          | pooling   | contrastive | alpha | views                    |
|------------------|-----------|-------------|-------|--------------------------|
| simclr           | gap       | 1           | 0     | augmented                |
| simclr-attention | attention | 1           | 0     | augmented                |
| reconstruction   | gap       | 0           | 100   | augmented, one corruption|
| conrec-gap       | gap       | 1           | 100   | augmented, one corruption|
| conrec           | attention | 1           | 100   | augmented, one corruption|

A loss of weight 0 is not computed and its head is not built. The SimCLR variants never see corrupted inputs, so
ConRec minus SimCLR mixes two causes; `--set method.alpha=0` on conrec, or `--set views.recipe=conrec` on simclr,
separates them.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from torch import Tensor, nn
from torch.nn import functional as F

from probekit.config import Number, Portion, Positive, Several
from probekit.methods.base import Method, Step
from probekit.methods.losses import nt_xent
from probekit.models.encoder import Encoder
from probekit.models.heads import ProjectionHead
from probekit.models.unet import UNetDecoder
from probekit.ranks import gathered
from probekit.views.recipes import VIEWS, Views


class ConRec(Method):
    """Contrastive reconstruction; a ValueError if both weights are 0.

    Args:
        encoder: With its pooling; for a reconstruction its stages must halve.
        contrastive: Weight of NT-Xent; 0 leaves it and the projection head out.
        alpha: Weight of the reconstruction loss; 0 leaves it and the decoder out. 100 belongs to an NT-Xent that sums
            the means of the two views, as here and in the authors' code; with one mean over all anchors it is 50.
        temperature: tau of NT-Xent.
        decoder_width: Channels of the decoder's levels, as a share of the encoder's.
    """

    about = "contrastive and reconstruction loss, attention pooling"
    paper = "ConRec, arXiv 2104.04323"
    recipe = "conrec"
    pooling = "attention"
    provides = frozenset({"map", "two_views", "embedding_loss", "reconstruction"})
    defaults: ClassVar[Mapping[str, Any]] = {"contrastive": 1.0, "alpha": 100.0}  # paper, section 2.4

    def __init__(
        self,
        encoder: Encoder,
        *,
        contrastive: Number,
        alpha: Number,
        temperature: Positive = 0.5,  # paper, section 2.4
        projection_dim: Several = 128,  # authors' code
        decoder_width: Portion = 1.0,  # authors' code
    ) -> None:
        super().__init__(encoder)
        if contrastive + alpha == 0:
            raise ValueError(
                "expected one of method.contrastive and method.alpha above 0, "
                f"found {contrastive} and {alpha}; type: --set method.contrastive=1"
            )
        self.contrastive = contrastive
        self.alpha = alpha
        if not contrastive:
            self.provides = self.provides - {"embedding_loss"}
        self.temperature = temperature
        self.head = ProjectionHead(dim=encoder.dim, out=projection_dim) if contrastive else None
        self.decoder = None
        if alpha:
            self.decoder = UNetDecoder(
                channels=encoder.spec["channels"], widths=encoder.widths, strides=encoder.strides, width=decoder_width
            )

    def step(self, views: Views) -> Step:
        """Both losses of one batch. Logs: `contrastive` (chance 2 log(2B - 1)) and `reconstruction` (MSE in [0, 1])."""
        features = self.encode(views.inputs.flatten(0, 1))
        logs: dict[str, Tensor] = {}
        losses: list[Tensor] = []
        contrastive = projections = None
        if self.head is not None:
            projections = self.head(features.pooled)
            contrastive = nt_xent(gathered(projections, VIEWS), temperature=self.temperature)
            logs["contrastive"] = contrastive.detach()
            losses.append(self.contrastive * contrastive)
        if self.decoder is not None:
            # The mean over views, pixels and channels: eq. 2 leaves the pixel sum open, the authors' code is a mean.
            reconstruction = F.mse_loss(self.decoder(features.stages), views.targets.flatten(0, 1).float())
            logs["reconstruction"] = reconstruction.detach()
            losses.append(self.alpha * reconstruction)
        compared = None if projections is None else projections.detach()
        return Step(
            losses[0] if len(losses) == 1 else losses[0] + losses[1], features, logs, contrastive, projections=compared
        )

    def around(self, encoder: nn.Module) -> Self:
        """Without the decoder, which does not see embeddings."""
        same = super().around(encoder)
        same._modules["decoder"] = None
        return same

    @property
    def trained_projection(self) -> nn.Module | None:
        """The projection head; None where the contrastive loss has no weight."""
        return self.head

    def reconstruct(self, inputs: Tensor) -> Tensor | None:
        """What the decoder makes of `[B, C, H, W]`, or None without a decoder."""
        if self.decoder is None:
            return None
        image: Tensor = self.decoder(self.encoder(inputs).stages)
        return image


class SimCLR(ConRec):
    """SimCLR on the U-Net encoder."""

    about = "contrastive loss, global average pooling"
    recipe = "simclr"
    pooling = "gap"
    provides = frozenset({"map", "two_views", "embedding_loss"})
    defaults: ClassVar[Mapping[str, Any]] = {"contrastive": 1.0, "alpha": 0.0}


class SimCLRAttention(SimCLR):
    """SimCLR with attention pooling."""

    about = "contrastive loss, attention pooling"
    pooling = "attention"


class Reconstruction(ConRec):
    """Reconstruction alone. Pooling: the paper is silent; GAP, since attention would get no gradient from the task."""

    about = "reconstruction loss, global average pooling"
    pooling = "gap"
    provides = frozenset({"map", "two_views", "reconstruction"})
    defaults: ClassVar[Mapping[str, Any]] = {"contrastive": 0.0, "alpha": 100.0}


class ConRecGAP(ConRec):
    """ConRec with global average pooling."""

    about = "contrastive and reconstruction loss, global average pooling"
    pooling = "gap"
