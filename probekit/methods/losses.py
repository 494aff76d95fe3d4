"""The losses that several methods share, scalars in float32, and the assignment of SwAV."""

import torch
from torch import Tensor
from torch.nn import functional as F

from probekit.ranks import averaged, size

TINY = 1e-30  # keeps rows without weight from dividing 0 by 0


def nt_xent(z: Tensor, *, temperature: float) -> Tensor:
    """NT-Xent of SimCLR: contrasts every view with its partner against all other views.

    The scale is the authors' code's: the mean over the anchors of view 1 plus the mean over those of view 2, which is
    twice the mean over all 2B anchors of SimCLR's Algorithm 1 (to which the ConRec paper refers). At chance it is 2
    log(2B - 1). `z`: `[2B, D]`, view 1 of every image, then view 2 of every image; not yet normalised; `temperature`:
    tau, greater than 0. Returns a scalar, float32.
    """
    with torch.autocast(z.device.type, enabled=False):
        z = F.normalize(z.float(), dim=1)
        similarity = z @ z.T / temperature  # [2B, 2B]
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        similarity = similarity.masked_fill(itself, -torch.inf)
        partner = torch.arange(len(z), device=z.device).roll(len(z) // 2)
        return 2 * F.cross_entropy(similarity, partner)


def info_nce(query: Tensor, key: Tensor, negatives: Tensor | None, *, temperature: float) -> Tensor:
    """InfoNCE (MoCo, arXiv 1911.05722, eq. 1): the mean over queries of -log softmax of the key among all keys.

    Returns a scalar, float32; ln(1 + K) at chance, ln B with the batch's keys.

    Args:
        query: `[B, P]`, not yet normalised.
        key: `[B, P]`, unit vectors: the positive of each query.
        negatives: `[K, P]`, unit vectors, shared by all queries; K may be 0. None is the other queries' keys.
        temperature: tau, greater than 0.
    """
    with torch.autocast(query.device.type, enabled=False):
        query = F.normalize(query.float(), dim=1)
        if negatives is None:
            return F.cross_entropy(query @ key.T / temperature, torch.arange(len(query), device=query.device))
        own = (query * key).sum(1, keepdim=True)
        logits = torch.cat([own, query @ negatives.T], dim=1) / temperature
        return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """The mean of -cos of each row of `[B, P]` and its target, which gets no gradient; in [-1, 1]."""
    with torch.autocast(prediction.device.type, enabled=False):
        return -F.cosine_similarity(prediction.float(), target.detach().float(), dim=1, eps=1e-8).mean()


def swapped_cross_entropy(codes: Tensor, logits: Tensor) -> Tensor:
    """The mean over crops with codes, and over all other crops of their images, of -sum q log softmax(logits).

    `codes`: `[P, B, K]` of the large crops, rows that add up to 1, without gradients; `logits`: `[V, B, K]` of every
    crop, the large ones first, divided by the temperature. Returns a scalar, float32; at most ln K for logits that are
    all alike.
    """
    P, V = len(codes), len(logits)
    said = logits.float().log_softmax(2)
    total = codes.sum(0)
    agreement = ((total - codes) * said[:P]).sum()  # with the codes of the other large crops
    if V > P:
        agreement = agreement + (total * said[P:]).sum()
    return agreement / -(P * (V - 1) * codes.shape[1])


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float, iterations: int, weight: Tensor | None = None) -> Tensor:
    """Sinkhorn-Knopp (SwAV, arXiv 2006.09882, section 3.1): soft codes whose rows add up to 1, all used alike.

    Returns `[N, K]`, float32; rows add up to 1, those without weight are 0. `scores`: `[N, K]`, cosines of samples and
    prototypes. `epsilon`: weight of the entropy; larger is softer. `iterations`: how many of the two normalisations; a
    fixed number, three in the paper. `weight`: `[N]`, 1 for samples that count and 0 for those that do not; None is
    all.
    """
    # The largest is taken off, which changes nothing but that exp stays finite.
    q = ((scores.float() - scores.float().max()) / epsilon).exp()
    if weight is not None:
        q = q * weight[:, None]
    for _ in range(iterations):
        q = q / q.sum(0, keepdim=True).clamp(min=TINY)
        q = q / q.sum(1, keepdim=True).clamp(min=TINY)
    return q


@torch.no_grad()
def used(scores: Tensor) -> Tensor:
    """How many prototypes are the nearest of some sample, as a share of how many can be.

    It reads scores `[N, K]` of samples and prototypes, not codes: Sinkhorn's use all prototypes alike, whatever the
    samples are. Of several processes each has scores of samples of its own, and all count. Returns a float32 scalar: 0
    where one prototype is the nearest of all samples, 1 where the nearest are spread evenly over min(N, K); between,
    exp of the entropy of their frequencies counts the prototypes.
    """
    nearest = scores.argmax(1)
    counts = torch.zeros_like(scores[0], dtype=torch.float32)
    counts = counts.index_add_(0, nearest, torch.ones_like(nearest, dtype=torch.float32))
    averaged([counts])
    share = counts / len(scores)
    count = (-share * share.clamp(min=TINY).log()).sum().exp()
    return (count - 1) / max(min(size() * len(scores), scores.shape[1]) - 1, 1)
