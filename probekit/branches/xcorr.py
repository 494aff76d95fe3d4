"""The cross-correlation branch of XCorr (Seyfi, Banitalebi-Dehkordi, Zhang, arXiv 2206.05028).

Images of one cluster are positives of each other. An attention map is fitted to where an image resembles its positives,
and a classifier of clusters sees the features under that map. Both are for training: the kept encoder is the method's
own. No code was published; what the text leaves open, and our readings of it: docs/branches.md.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.branches.base import Branch, Epoch, put, take_over
from probekit.branches.last_block import LastBlock
from probekit.branches.spherical_kmeans import shared_kmeans
from probekit.config import Count, Number, Positive, Whole
from probekit.methods.base import Rate, Step, Suited, fit
from probekit.models.encoder import Encoder, Features
from probekit.models.pooling import stretched, weighted_mean
from probekit.ranks import gathered, mine, size
from probekit.views.recipes import VIEWS

Mask = Literal["cosine", "dot_over_c", "minmax", "uniform"]

INIT_SD = 0.01  # ours: logits of long features divided by .05 must not begin hot
FIRST_RATE, FINAL_RATE = 0.5, 1e-6 / 0.03  # paper: .015 to .03, then to 1e-6
IMAGES_A_CLUSTER = 20  # ours, where the paper's 3000 clusters do not fit
MULTI = 3  # stages of the multi-stage variant, the last ones: layer2 to layer4 of a ResNet


@torch.no_grad()
def correlation_mask(source: Tensor, positives: Tensor, *, mask: str) -> Tensor:
    """mu: for every cell of the source the best match in each positive, averaged over the positives.

    Returns `[B, h, w]`, float32, without a gradient. `source`: `[B, D, h, w]`. `positives`: `[P * B, D, h, w]`, the
    first positive of every source, then the second. `mask`: "cosine" of the cells, in [-1, 1]; "dot_over_c", their
    product over D (the printed form, without bounds); "minmax", that, scaled to [0, 1] for every image; "uniform", the
    mean of the cosine mask (a control).
    """
    with torch.autocast(source.device.type, enabled=False):
        a, b = source.float().flatten(2), positives.float().flatten(2)
        if mask in ("cosine", "uniform"):
            a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
        else:
            b = b / a.shape[1]
        b = b.view(-1, *a.shape[:2], b.shape[2])  # [P, B, D, hw]
        mu = torch.einsum("bdi,pbdj->pbij", a, b).amax(3).mean(0).view(len(a), *source.shape[2:])
        if mask == "minmax":
            low, high = mu.amin((1, 2), keepdim=True), mu.amax((1, 2), keepdim=True)
            mu = (mu - low) / (high - low).clamp(min=1e-7)
        return mu.mean((1, 2), keepdim=True).expand_as(mu) if mask == "uniform" else mu


class XCorr(Branch):
    """Spatial cross-correlation.

    Args:
        mu: Weight of the distance between attention and correlation mask; 0 leaves it out.
        cls: Weight of the classification; 0 leaves it out.
        bank: What is clustered: the projection of each "plain" image, or the mean direction of those of two "augmented"
            views.
        positives: How many for each image; with replacement, other images wherever a cluster has some.
        temperature: Temperature of the classifier's softmax.
        mask: What the attention is fitted to, see `correlation_mask`.
        sigmoid: Whether the attention ends with a sigmoid.
        scale: What multiplies the features: the "attention", or "minmax", which stretches that to 0 to 1 in
            each image.
        sampling: Positives of the same "cluster", or a control, "random" images.
        start: Epochs without the branch, at the beginning.
        stages: f is the "last" feature map; or "multi", the last three, bilinear at the finest one's size; or "before",
            what the last block gets, which then maps the masked features on (`probekit.branches.last_block`).
        cosine: Whether the classifier compares directions, in place of products.
        lr_share: Learning rate of attention and classifier, as a share of the run's.
    """

    about = "attention fitted to what images of a cluster have in common, and a classifier of clusters under it"
    paper = "XCorr, arXiv 2206.05028"
    name = "xcorr"
    spans: ClassVar[Mapping[str, str]] = {"start": "the branch takes no part"}
    needs: ClassVar[frozenset[str]] = frozenset({"map", "embedding_loss"})

    labels: Tensor
    centroids: Tensor

    def __init__(
        self,
        encoder: Encoder,
        *,
        weight: Number = 1.0,
        mu: Number = 0.05,  # paper, supplement, section 1.2
        cls: Number = 0.1,  # paper, supplement, section 1.2
        clusters: Count = 3000,  # paper, supplement, section 1.2: for the 1000 classes of ImageNet
        bank: Literal["plain", "augmented"] = "plain",  # ours; the paper has transforms, and room for two embeddings
        positives: Count = 2,  # ours; the paper does not say
        temperature: Positive = 0.05,  # paper, supplement, section 1.2
        mask: Mask = "cosine",  # ours: the printed form has no bound, and the attention stays below 1
        sigmoid: bool = True,  # paper, supplement, section 1.2; its section 2 has no sigmoid
        scale: Literal["attention", "minmax"] = "attention",  # ours: the paper's "normalized attention" is either
        sampling: Literal["cluster", "random"] = "cluster",
        iterations: Count = 10,  # DeepCluster-v2, official code
        start: Whole = 0,
        stages: Literal["last", "multi", "before"] = "last",
        cosine: bool = False,
        lr_share: Positive = 0.03 / 3.6,  # paper, supplement, section 1.2: .03 beside 3.6
    ) -> None:
        super().__init__(weight=weight)
        self.mu, self.cls, self.temperature, self.mask = mu, cls, temperature, mask
        self.sigmoid, self.scale, self.bank = sigmoid, scale, bank
        self.positives, self.sampling, self.iterations, self.start = positives, sampling, iterations, start
        self.stages, self.cosine, self.lr_share = (MULTI if stages == "multi" else 1), cosine, lr_share
        self.before = LastBlock(encoder, wanted=lambda: not self.resting) if stages == "before" else None
        self.pools = stages == "last"
        dim = sum(encoder.widths[-self.stages :])
        self.attention = nn.Conv2d(dim, 1, 1)
        self.classifier = nn.Linear(dim, clusters, bias=False)
        nn.init.normal_(self.classifier.weight, std=INIT_SD)
        self.seed = torch.initial_seed()
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))  # of every image, once there are clusters
        self.register_buffer("centroids", torch.zeros(0, 0))
        self.members = Members()
        self.index = torch.empty(0, dtype=torch.int64)  # of the images of this step, sources first

    @classmethod
    def suited(cls, options: Mapping[str, Any], *, typed: Collection[str], images: int) -> Suited:
        """At most half as many clusters as images: of more hardly any image would have a positive."""
        chosen, lines = dict(options), []
        clusters, suits = chosen["clusters"], max(1, images // IMAGES_A_CLUSTER)
        if clusters > images and "branch.xcorr.clusters" in typed:
            raise ValueError(
                f"expected branch.xcorr.clusters at most the {images:,} images, found {clusters:,}; "
                f"type: --set branch.xcorr.clusters={suits}"
            )
        if 2 * clusters > images:
            why = f"there are {images:,} images, and of so many clusters hardly any has two"
            lines.append(fit(chosen, "branch.xcorr.clusters", suits, typed=typed, why=why))
        return chosen, lines

    @property
    def resting(self) -> bool:
        """Until there are clusters, and where neither loss counts."""
        return not len(self.labels) or not self.mu + self.cls

    def begin_epoch(self, epoch: Epoch) -> Mapping[str, float]:
        """Clusters the bank anew, from where the last centroids stood."""
        if epoch.done < self.start:
            return {}
        z = self.embedded(epoch)
        if len(self.centroids):
            begin = self.centroids
        else:
            generator = torch.Generator().manual_seed(self.seed)
            rows = torch.randperm(len(z), generator=generator)[: len(self.classifier.weight)]
            begin = z[rows.to(z.device)]
        found = shared_kmeans(z, begin, iterations=self.iterations)
        sizes = torch.bincount(found.labels, minlength=len(found.centroids))
        numbers = {"inertia": found.inertia, "smallest": float(sizes.min()), "largest": float(sizes.max())}
        assigned = found.labels.cpu().numpy()
        from sklearn.metrics import normalized_mutual_info_score  # as slow to load as torch, and `list` reads this file

        if epoch.labels is not None:
            numbers["NMI with labels"] = float(normalized_mutual_info_score(epoch.labels.cpu().numpy(), assigned))
        if len(self.labels):
            last = self.labels.cpu().numpy()
            numbers["NMI with last epoch"] = float(normalized_mutual_info_score(last, assigned))
        put(self, labels=found.labels, centroids=found.centroids)
        self.members.sort(self.labels, clusters=len(self.centroids))
        return numbers

    def embedded(self, epoch: Epoch) -> Tensor:
        """The bank, unit vectors `[N, P]`."""
        if self.bank == "plain":
            return F.normalize(epoch.embed().float(), dim=1)
        views = [F.normalize(epoch.embed(number).float(), dim=1) for number in range(VIEWS)]
        return F.normalize(torch.stack(views).mean(0), dim=1)

    def companions(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Positives of a batch, `[P * B]`; the first of every image, then the second."""
        u = torch.rand(self.positives, size() * len(index), generator=generator, device=index.device)
        u = mine(u.flatten(), self.positives).view(self.positives, -1)
        anyone = self.sampling == "random"
        chosen = (u * len(self.labels)).long() if anyone else self.members.draw_others(self.labels, index, u)
        self.index = torch.cat([index, chosen.flatten()])
        return chosen.flatten()

    def loss(self, step: Step) -> Tensor:
        """Both losses, weighted.

        Logs: `mu`, `cls`, the classifier's `accuracy`, means and standard deviations of mask and attention, and
        `agreement`, their correlation.
        """
        names = ("mu", "cls", "accuracy", "mask", "mask deviation", "attention", "attention deviation", "agreement")
        batch = len(self.index) // (1 + self.positives)
        if self.before is None:
            source, others = self.joined(step.features)[:batch], self.joined(step.companions[self.name])
        else:
            first, *_, others = self.before.taken()
            source = first[:batch]
        with torch.autocast(source.device.type, enabled=False):
            features = torch.cat([source, others]).float()
            beta = self.attend(features)
            mu = correlation_mask(source, others, mask=self.mask)
            distance = (beta[:batch] - mu).square().mean()
            explained = features * self.scaled(beta)[:, None]
            logits = self.classify((explained if self.before is None else self.before.map(explained)).mean((2, 3)))
            target = self.labels[self.index]
            classification = F.cross_entropy(logits / self.temperature, target)
        accuracy = (logits.detach().argmax(1) == target).float().mean()
        mask, attention = gathered(mu), gathered(beta.detach(), 1 + self.positives)
        own, other = (x.flatten() - x.mean() for x in (attention[: len(mask)], mask))
        agreement = F.cosine_similarity(own, other, dim=0)  # torch.corrcoef waits; 0 where either is even
        means = (mask.mean(), mask.std(), attention.mean(), attention.std())
        values = (distance, classification, accuracy, *means, agreement)
        self.logs = {name: value.detach() for name, value in zip(names, values, strict=True)}
        return self.mu * distance + self.cls * classification

    def joined(self, features: Features) -> Tensor:
        """The map that the branch sees, `[n, D, h, w]`: the last, or the last stages on one another."""
        if self.stages == 1:
            return features.map
        maps = features.stages[-self.stages :]
        size = maps[0].shape[2:]
        return torch.cat([F.interpolate(m.float(), size, mode="bilinear", align_corners=False) for m in maps], dim=1)

    def attend(self, feature_map: Tensor) -> Tensor:
        """beta, `[n, h, w]`, with the sigmoid in (0, 1), of `[n, D, h, w]`."""
        beta: Tensor = self.attention(F.relu(feature_map)).squeeze(1)
        return beta.sigmoid() if self.sigmoid else beta

    def scaled(self, beta: Tensor) -> Tensor:
        """What multiplies the features, `[n, h, w]`; in [0, 1] but for an attention without sigmoid."""
        return stretched(beta) if self.scale == "minmax" else beta

    def classify(self, pooled: Tensor) -> Tensor:
        """Scores of the clusters, `[n, K]`."""
        if self.cosine:
            return F.normalize(pooled, dim=1) @ F.normalize(self.classifier.weight, dim=1).T
        scores: Tensor = self.classifier(pooled)
        return scores

    def maps(self, features: Features) -> Tensor | None:
        """What multiplies the features; None where f is not the encoder's map."""
        if not self.pools:
            return None
        with torch.autocast(features.map.device.type, enabled=False):
            return self.scaled(self.attend(features.map.float()))

    def pool(self, features: Features) -> Tensor | None:
        """The mean of the map under the attention, for `--pool branch`; the paper keeps the method's own pooling."""
        weights = self.maps(features)
        return None if weights is None else weighted_mean(features.map, weights)

    def rates(self) -> Sequence[Rate]:
        """Attention and classifier have their own."""
        own = (*self.attention.parameters(), *self.classifier.parameters())
        return (Rate(own, share=self.lr_share, first=FIRST_RATE, final=FINAL_RATE),)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        """Takes over clusters of any number of images: they are as many as a run's dataset has."""
        take_over(self, state_dict, prefix, "labels", "centroids")
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        if len(self.labels):
            self.members.sort(self.labels, clusters=len(self.centroids))


class Members(nn.Module):
    """Who is in which cluster, sorted once for many draws.

    In buffers that are written in place: a recorded step sees the change. Checkpoints need none of it but the labels.
    `order`: int64 `[N]`, the images, cluster after cluster; `starts`: int64 `[K]`, where each cluster begins there;
    `counts`: int64 `[K]`, its images; `rank`: int64 `[N]`, where each image stands there.
    """

    order: Tensor
    starts: Tensor
    counts: Tensor
    rank: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("order", "starts", "counts", "rank"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.int64), persistent=False)

    def sort(self, labels: Tensor, *, clusters: int) -> None:
        """Sorts the images by their clusters, int64 `[N]` below `clusters`."""
        order, counts = labels.argsort(stable=True), torch.bincount(labels, minlength=clusters)
        rank = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order), device=order.device))
        put(self, order=order, starts=counts.cumsum(0) - counts, counts=counts, rank=rank)

    def draw_others(self, labels: Tensor, index: Tensor, u: Tensor) -> Tensor:
        """Another image of the same cluster for each draw, uniformly; the image itself where it is alone.

        Returns int64 `[P, B]`. `labels`: int64 `[N]`, that were sorted; `index`: int64 `[B]`, images; `u`: `[P, B]`,
        uniform in [0, 1).
        """
        cluster = labels[index]
        size, place = self.counts[cluster], self.rank[index] - self.starts[cluster]
        shift = 1 + (u * (size - 1)).long().clamp(max=(size - 2).clamp(min=0))
        return self.order[self.starts[cluster] + (place + shift) % size]
