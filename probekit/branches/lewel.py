"""Learning where to learn: LEWEL (Huang, You, Zheng, Wang, Qian, Yamasaki, CVPR 2022, arXiv 2203.14898).

The projection head, applied to every cell of the map, says where to pool: its outputs, a softmax over the cells each,
are alignment maps, so what an image is compared by also says where it is looked at. Each map gives an aligned
embedding, which goes through a head of its own and the method's kind of loss. Details are those of the authors' code,
which has LEWEL_B (on BYOL) alone; what is assumed of LEWEL_M (on MoCo v2), and where ours differs: docs/branches.md.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.branches.base import Branch
from probekit.config import Count, Number, Positive
from probekit.methods.base import Method, Step
from probekit.models.encoder import Encoder, Features
from probekit.models.pooling import weighted_mean
from probekit.ranks import gathered


class LEWEL(Branch):
    """The loss of aligned embeddings.

    Args:
        weight: 1 weighs the loss of the aligned embeddings as the method's own.
        groups: The channels of the map are divided into so many groups, each of which is pooled by maps of its own.
        k: Maps of each group, at most: the head's outputs divided by the groups, if these are fewer. As many aligned
            embeddings has an image.
        scale: Temperature of the softmax over the cells.
        temperature: tau of InfoNCE; a method with a predictor has none.
    """

    about = "the projection head says where to pool, and what that gives is compared, too"
    paper = "LEWEL, arXiv 2203.14898"
    name = "lewel"
    needs: ClassVar[frozenset[str]] = frozenset({"map", "embedding_loss", "two_views"})
    pools = True
    copied = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        weight: Number = 1.0,  # authors' code: .5 of either loss
        groups: Count = 4,  # authors' scripts
        k: Count = 64,  # authors' code: 256 outputs in 4 groups
        scale: Positive = 1.0,  # authors' scripts
        temperature: Positive = 0.2,  # MoCo v2, section 3
    ) -> None:
        super().__init__(weight=weight)
        self.groups, self.k, self.scale, self.temperature = groups, k, scale, temperature
        self.dim = encoder.dim
        self.aligned: nn.Module = nn.Identity()
        self.predictor: nn.Module | None = None

    def join(self, method: Method) -> None:
        """Makes heads of its own, which begin as copies of the method's; of the projection it also uses the outputs."""
        head = method.trained_projection
        assert head is not None  # a loss of the embedding of two views has one
        outputs = [layer for layer in head.modules() if isinstance(layer, nn.Linear)][-1].out_features
        if self.dim % self.groups or outputs < self.groups:
            raise ValueError(
                f"expected branch.lewel.groups to divide the map's {self.dim} channels, and at most the projection's "
                f"{outputs} outputs, found {self.groups}; type: --set branch.lewel.groups=1"
            )
        self.k = min(self.k, outputs // self.groups)
        self.uses = (head,)
        self.aligned, self.predictor = deepcopy(head), deepcopy(getattr(method, "predictor", None))

    def loss(self, step: Step) -> Tensor:
        """2 - 2 cos of prediction and target, or InfoNCE; the mean over images and maps, summed over the views.

        Only views count that have a gradient. Logs: `aligned`, the loss; `to even`, the divergence in nats of the maps
        from even ones.
        """
        assert step.projections is not None
        feature_map = step.features.map
        maps = self.alignment(feature_map)
        views = 2 * len(feature_map) // len(step.projections)
        own = self.embedded(feature_map, maps)
        theirs = own if step.target_map is None else self._of_target(step.target_map)
        if views > 1:
            theirs = theirs.roll(len(theirs) // 2, dims=0)
        if self.predictor is None:
            loss = views * self.contrast(gathered(own, views), gathered(theirs, views), views)
        else:
            predicted = _each(self.predictor, own)
            loss = views * (2 - 2 * F.cosine_similarity(predicted, theirs.detach(), dim=2).mean())
        to_even = math.log(maps.shape[3]) - torch.special.entr(maps.detach()).sum(3).mean()
        self.logs = {"aligned": loss.detach(), "to even": to_even}
        return loss

    @torch.no_grad()
    def _of_target(self, feature_map: Tensor) -> Tensor:
        """What the target network's copy of the branch makes of that network's features."""
        return cast(LEWEL, self.twin[0]).embedded(feature_map)

    def contrast(self, queries: Tensor, keys: Tensor, views: int) -> Tensor:
        """InfoNCE of aligned embeddings `[views * B, k, P]` against those of the same map in other images' views."""
        with torch.autocast(queries.device.type, enabled=False):
            q, k = (F.normalize(z.float(), dim=2).view(views, -1, *z.shape[1:]) for z in (queries, keys))
            logits = torch.einsum("vbkp,vckp->vkbc", q, k).flatten(0, 1) / self.temperature
            own = torch.arange(logits.shape[1], device=logits.device).expand(len(logits), -1)
            return F.cross_entropy(logits.flatten(0, 1), own.flatten())

    def alignment(self, feature_map: Tensor) -> Tensor:
        """Where to pool, `[n, groups, k, h * w]` of `[n, D, h, w]`, float32; each map adds up to 1 over the cells."""
        cells = feature_map.flatten(2).transpose(1, 2)
        projected = _each(self.uses[0], cells)[:, :, : self.groups * self.k]
        with torch.autocast(feature_map.device.type, enabled=False):
            scores = F.normalize(projected.float(), dim=2) / self.scale
            return scores.softmax(1).transpose(1, 2).reshape(len(cells), self.groups, self.k, -1)

    def aligned_features(self, feature_map: Tensor, maps: Tensor | None = None) -> Tensor:
        """Features pooled by each map, every group of channels by its own, `[n, k, D]`, float32."""
        maps = self.alignment(feature_map) if maps is None else maps
        with torch.autocast(feature_map.device.type, enabled=False):
            grouped = feature_map.float().reshape(len(maps), self.groups, -1, maps.shape[3])
            return torch.einsum("ngkc,ngdc->nkgd", maps, grouped).flatten(2)

    def embedded(self, feature_map: Tensor, maps: Tensor | None = None) -> Tensor:
        """The aligned embeddings, `[n, k, P]`."""
        return _each(self.aligned, self.aligned_features(feature_map, maps))

    def maps(self, features: Features) -> Tensor:
        """The mean of all alignment maps."""
        return self.alignment(features.map).mean((1, 2)).view_as(features.map[:, 0])

    def pool(self, features: Features) -> Tensor:
        """The mean of the map under that mean map, `[n, D]`."""
        return weighted_mean(features.map, self.maps(features))

    def bilinear(self, feature_map: Tensor) -> Tensor:
        """The aligned features, `[n, k * D]`."""
        return self.aligned_features(feature_map).flatten(1)


def _each(head: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """A head of rows, applied to those of several for each image, `[n, m, A] -> [n, m, B]`."""
    out = head(rows.flatten(0, 1))
    return out.view(*rows.shape[:2], out.shape[1])
