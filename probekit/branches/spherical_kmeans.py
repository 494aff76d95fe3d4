"""Spherical k-means of a memory bank: cosines, warm starts, and no empty cluster."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from probekit.ranks import CPU, from_first

CELLS = 2**22  # cosines at a time, 16 MiB: more is no faster


@dataclass(frozen=True)
class Clusters:
    """A clustering of N unit vectors.

    `labels`: int64 `[N]`; `centroids`: `[K, P]`, unit vectors; `inertia`: mean of 1 - cos to the own centroid, in [0,
    2].
    """

    labels: Tensor
    centroids: Tensor
    inertia: float


def shared_kmeans(z: Tensor, centroids: Tensor, *, iterations: int) -> Clusters:
    """`spherical_kmeans`, of several processes by the first alone: sums on GPUs differ in their last bits."""

    def made() -> Clusters:
        found = spherical_kmeans(z, centroids, iterations=iterations)
        return Clusters(found.labels.to(CPU), found.centroids.to(CPU), found.inertia)

    found = from_first(made)
    return Clusters(found.labels.to(z.device), found.centroids.to(z.device), found.inertia)


@torch.no_grad()
def spherical_kmeans(z: Tensor, centroids: Tensor, *, iterations: int) -> Clusters:
    """Lloyd's iterations on the unit sphere, a fixed number of them (DeepCluster-v2, official code).

    A cluster that loses all its members takes over the one of the largest cluster that lies farthest from its centroid.

    Args:
        z: `[N, P]`, unit vectors.
        centroids: `[K, P]`, where to begin; K is at most N. Those of an earlier clustering keep its numbering.
    """
    assert len(centroids) <= len(z)
    labels, cosines = _assign(z, centroids)
    for _ in range(iterations):
        labels = _repaired(labels, cosines, len(centroids))
        sums = torch.zeros_like(centroids).index_add_(0, labels, z)
        centroids = F.normalize(sums, dim=1)
        labels, cosines = _assign(z, centroids)
    labels = _repaired(labels, cosines, len(centroids))
    return Clusters(labels, centroids, float((1 - cosines).mean()))


def _assign(z: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centroid of each row, and the cosine to it."""
    labels = torch.empty(len(z), dtype=torch.int64, device=z.device)
    cosines = torch.empty(len(z), dtype=z.dtype, device=z.device)
    step = max(1, CELLS // len(centroids))
    # One buffer for all parts: blocks freed between small ones that stay took 16 GB for 1.28 million rows.
    buffer = torch.empty(min(step, len(z)), len(centroids), dtype=z.dtype, device=z.device)
    for start in range(0, len(z), step):
        part = slice(start, start + step)
        found = torch.mm(z[part], centroids.T, out=buffer[: len(z[part])])
        torch.max(found, 1, out=(cosines[part], labels[part]))
    return labels, cosines


def _repaired(labels: Tensor, cosines: Tensor, clusters: int) -> Tensor:
    """The labels with no cluster left empty."""
    counts = torch.bincount(labels, minlength=clusters)
    for empty in (counts == 0).nonzero().flatten().tolist():
        largest = counts.argmax()
        members = (labels == largest).nonzero().flatten()
        moved = members[cosines[members].argmin()]
        labels = labels.clone()
        labels[moved] = empty
        counts[largest] -= 1
        counts[empty] += 1
    return labels
