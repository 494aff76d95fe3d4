"""The common-rationale branch of LCR (Shu, van den Hengel, Liu, CVPR 2023, arXiv 2303.01669).

A few filters on the last feature map are fitted to GradCAM of the method's own loss. They can hold only what images
have in common; at test time they weigh the cells of the map. Where paper and code disagree: docs/branches.md.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.branches.base import Branch
from probekit.config import Count, Number, Positive, Whole
from probekit.methods.base import Step, Suited
from probekit.models.encoder import Encoder, Features
from probekit.models.pooling import stretched, weighted_mean
from probekit.models.unet import BatchNorm2d
from probekit.ranks import size


class LCR(Branch):
    """Learning common rationale.

    Args:
        weight: Weight of the divergence. .32 of a mean over images is the authors' .01 times their 32 images a GPU, of
            which the code takes the sum.
        reduction: The divergence's "mean" over images, or its "sum" over a group, averaged over groups.
        group: Images of a group, as of one of several GPUs; 0 is the whole batch. Only "sum" and "raw" depend on it.
        k: Filters.
        head: What makes the map: "maxout" of the filters, "linear" (one filter), "mlp" (k channels, ReLU, one).
        norm: Batch norm and ReLU after the filters (code; the paper has neither).
        temperature: Temperature of the two softmaxes over cells.
        kl: The divergence, KL(target || branch) as in the code, or KL(branch || target) as in eq. 6.
        cam_sign: What marks a cell: that scaling it up raises the loss ("loss", eq. 3 and code), or lowers it.
        cam_scale: The gradient of each image's own loss, of the group's mean ("raw", code), or divided by the image's
            largest value.
        target: "cam", or a control: "uniform", or "shuffled" among the images.
        cut: Whether the filters' gradient stops at the map.
        normalise: The map at test time, for each "image", or over the "batch" as in the code.
        attention: The map at test time: the branch's, or a control, the "norm" of the features.
        train_pool: What the method's heads see while training: the encoder's embedding, that of the branch's map
            ("branch": lcr-dual-pooling), or of every filter's map ("bilinear", through a linear layer back to D).
    """

    about = "filters fitted to GradCAM of the loss, which weigh the map at test time"
    paper = "LCR, arXiv 2303.01669"
    name = "lcr"
    needs: ClassVar[frozenset[str]] = frozenset({"map", "embedding_loss"})
    pools = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        weight: Number = 0.32,  # code, see above
        reduction: Literal["mean", "sum"] = "mean",  # ours; code: "sum"
        group: Whole = 0,  # ours; code: 32
        k: Count = 32,  # paper, figure 4
        head: Literal["maxout", "mlp", "linear"] = "maxout",
        norm: bool = False,
        temperature: Positive = 0.4,  # paper, section 3.2, at eq. 5
        kl: Literal["target_branch", "branch_target"] = "target_branch",
        cam_sign: Literal["loss", "neg_loss"] = "loss",
        cam_scale: Literal["per_sample", "raw", "minmax"] = "per_sample",
        target: Literal["cam", "uniform", "shuffled"] = "cam",
        cut: bool = False,
        normalise: Literal["image", "batch"] = "image",
        attention: Literal["branch", "norm"] = "branch",
        train_pool: Literal["encoder", "branch", "bilinear"] = "encoder",
    ) -> None:
        super().__init__(weight=weight)
        self.reduction, self.group = reduction, group
        self.temperature, self.kl, self.cut = temperature, kl, cut
        self.cam_sign, self.cam_scale, self.target = cam_sign, cam_scale, target
        self.normalise, self.attention, self.train_pool = normalise, attention, train_pool
        self.copied = train_pool != "encoder"
        filters = 1 if head == "linear" else k
        self.filters = nn.Conv2d(encoder.dim, filters, 1, bias=False)
        self.norm = nn.Sequential(BatchNorm2d(filters), nn.ReLU()) if norm else nn.Identity()
        self.last = nn.Sequential(nn.ReLU(), nn.Conv2d(k, 1, 1, bias=False)) if head == "mlp" else None
        self.compact = nn.Linear(encoder.dim * filters, encoder.dim) if train_pool == "bilinear" else None

    @classmethod
    def suited(cls, options: Mapping[str, Any], *, typed: Collection[str], images: int) -> Suited:
        """As they are; warns of what the code's own normalisation does, and of filters that a kind of map has not."""
        lines = list(pooling_warnings(cls.name, options["normalise"]))
        if options["head"] == "linear" and f"branch.{cls.name}.k" in typed and options["k"] != 1:
            why = f"branch.{cls.name}.head=linear has one filter"
            lines.append(f"warning: branch.{cls.name}.k={options['k']} has no effect: {why}")
        return dict(options), lines

    @classmethod
    def takes_part(cls, options: Mapping[str, Any]) -> bool:
        """Also where it only pools while training."""
        return super().takes_part(options) or options["train_pool"] != "encoder"

    def refine(self, features: Features) -> Features:
        """The embedding that the heads see; the encoder's own unless `train_pool` says otherwise."""
        if not self.copied:
            return features
        if self.training and self.normalise == "batch" and size() > 1:
            raise ValueError(
                "expected a map of each image by itself where several processes train it, found "
                f"branch.{self.name}.normalise=batch; type: --set branch.{self.name}.normalise=image"
            )
        if self.compact is None:
            pooled = weighted_mean(features.map, self.weights(features.map))
        else:
            pooled = self.compact(self.bilinear(features.map))
        return Features(features.stages, features.map, pooled.float(), features.weights)

    def loss(self, step: Step) -> Tensor:
        """The divergence.

        Logs: `kl`, its mean over images; `target to even`, the divergence in nats of the target's softmax from an even
        one (near 0 the fit only flattens the map); `no target`, the share of images whose target is all 0.
        """
        feature_map = step.features.map
        with torch.autocast(feature_map.device.type, enabled=False):
            target = self._target(step)
            raw = self.raw_map(feature_map.detach() if self.cut else feature_map)
            p = (target / self.temperature).flatten(1).log_softmax(1)
            q = (raw / self.temperature).flatten(1).log_softmax(1)
            to_even = (p.exp() * (p + math.log(p.shape[1]))).sum(1).mean()
            if self.kl == "branch_target":
                p, q = q, p
            divergence = F.kl_div(q, p, log_target=True, reduction="batchmean")
        none = (target.flatten(1).amax(1) == 0).float().mean()
        self.logs = {"kl": divergence.detach(), "target to even": to_even, "no target": none}
        return divergence * (self.group or size() * len(p)) if self.reduction == "sum" else divergence

    def _target(self, step: Step) -> Tensor:
        """What the map is fitted to, `[n, h, w]`, at least 0, without a gradient."""
        feature_map = step.features.map
        if self.target == "uniform":
            return torch.zeros_like(feature_map[:, 0], dtype=torch.float32)
        loss = step.loss if step.contrastive is None else step.contrastive
        [gradient] = torch.autograd.grad(loss, feature_map, retain_graph=True)
        cam = rationale(feature_map.detach(), gradient, sign=self.cam_sign, scale=self.cam_scale)
        if self.cam_scale == "raw":  # the gradient is that of a mean over this rank's images
            cam = cam * (len(cam) / self.group if self.group else 1 / size())
        return cam.roll(1, dims=0) if self.target == "shuffled" else cam

    def raw_map(self, feature_map: Tensor) -> Tensor:
        """The branch's map before any normalisation, `[n, h, w]` of `[n, D, h, w]`, float32."""
        maps = self.filter_maps(feature_map)
        if self.last is not None:
            maps = self.last(maps)
        return maps.amax(1)

    def filter_maps(self, feature_map: Tensor) -> Tensor:
        """The map of each filter, `[n, K, h, w]` of `[n, D, h, w]`, float32; at each cell the largest is the branch's.

        With head "mlp" these are the channels that its last layer joins.
        """
        maps: Tensor = self.norm(self.filters(feature_map.float()))
        return maps

    def weights(self, feature_map: Tensor) -> Tensor:
        """A' of eq. 8: weights of the cells, `[n, h, w]` in [0, 1]; even where a map is constant."""
        with torch.autocast(feature_map.device.type, enabled=False):
            raw = feature_map.float().norm(dim=1) if self.attention == "norm" else self.raw_map(feature_map)
            return stretched(raw, (1, 2) if self.normalise == "image" else (0, 1, 2))

    def bilinear(self, feature_map: Tensor) -> Tensor:
        """The mean of every filter's map times the features, `[n, K * D]`; the maps after a ReLU."""
        with torch.autocast(feature_map.device.type, enabled=False):
            feature_map = feature_map.float()
            maps = F.relu(self.filter_maps(feature_map))
            return torch.einsum("nkhw,ndhw->nkd", maps, feature_map).flatten(1) / maps[0, 0].numel()

    def maps(self, features: Features) -> Tensor:
        """The weights of the cells."""
        return self.weights(features.map)

    def pool(self, features: Features) -> Tensor:
        """The mean of the map under these weights, `[n, D]`. The paper's sum differs by a factor an image."""
        return weighted_mean(features.map, self.weights(features.map))


def pooling_warnings(name: str, normalise: str) -> Sequence[str]:
    """What to know of embeddings that a branch of this name and normalisation pools."""
    if normalise == "image":
        return ()
    return (
        f"warning: with branch.{name}.normalise=batch an embedding of --pool branch depends on the images that are "
        "embedded beside it",
    )


def rationale(feature_map: Tensor, gradient: Tensor, *, sign: str, scale: str) -> Tensor:
    """Eq. 3: ReLU of the product of gradient and features at each cell, `[n, h, w]` of `[n, D, h, w]`, float32.

    `feature_map`: phi; `gradient`: the gradient of a loss that is a mean over the n rows; `sign`: "loss" or "neg_loss";
    `scale`: "per_sample" takes the mean off again, "minmax" divides by each image's largest, "raw" does neither.
    """
    products = (feature_map.float() * gradient.float()).sum(1)
    cam = F.relu(products if sign == "loss" else -products)
    if scale == "per_sample":
        return cam * len(cam)
    if scale == "minmax":
        return cam / cam.amax((1, 2), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return cam
