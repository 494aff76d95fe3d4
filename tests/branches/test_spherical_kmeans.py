"""Spherical k-means against Lloyd's iterations in NumPy and against scikit-learn; empty clusters; warm starts.

Alone: pytest tests/branches/test_spherical_kmeans.py
"""

from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn import functional as F

from probekit.branches import spherical_kmeans as module
from probekit.branches.spherical_kmeans import spherical_kmeans

Floats = NDArray[np.float64]


def bank(n: int = 120, *, kinds: int = 4, spread: float = 0.6, seed: int = 0) -> Tensor:
    """Unit vectors around a few directions."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(kinds, 6, generator=g)
    return F.normalize(centres[torch.arange(n) % kinds] + spread * torch.randn(n, 6, generator=g), dim=1)


def lloyd(z: Floats, centroids: Floats, iterations: int) -> tuple[NDArray[np.int64], Floats, float]:
    """One vector at a time, with nothing to repair."""
    for _ in range(iterations):
        labels = np.array([max(range(len(centroids)), key=lambda k, row=row: row @ centroids[k]) for row in z])  # type: ignore[misc]
        for k in range(len(centroids)):
            mean = sum(z[i] for i in range(len(z)) if labels[i] == k)
            centroids[k] = mean / np.sqrt((mean**2).sum())
    labels = np.array([max(range(len(centroids)), key=lambda k, row=row: row @ centroids[k]) for row in z])  # type: ignore[misc]
    return labels, centroids, float(np.mean([1 - z[i] @ centroids[labels[i]] for i in range(len(z))]))


@pytest.mark.parametrize("iterations", [1, 2, 10])
def test_it_is_lloyds_algorithm(iterations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CELLS", 50)  # in parts
    z = bank()
    found = spherical_kmeans(z, z[:5].clone(), iterations=iterations)
    labels, centroids, inertia = lloyd(z.double().numpy(), z[:5].double().numpy().copy(), iterations)
    assert np.array_equal(found.labels.numpy(), labels)
    np.testing.assert_allclose(found.centroids.numpy(), centroids, atol=1e-5)
    assert found.inertia == pytest.approx(inertia, abs=1e-5)


def test_clear_clusters_are_found_as_scikit_learn_finds_them() -> None:
    """On unit vectors the Euclidean k-means of clear clusters has the same parts."""
    z = bank(spread=0.1)
    found = spherical_kmeans(z, z[:4].clone(), iterations=10)
    theirs = KMeans(4, init=z[:4].numpy(), n_init=1).fit(z.numpy())
    assert np.array_equal(found.labels.numpy(), theirs.labels_)
    directions = F.normalize(torch.from_numpy(theirs.cluster_centers_), dim=1)
    torch.testing.assert_close(found.centroids, directions, atol=1e-5, rtol=1e-4)


def test_more_iterations_never_raise_the_inertia() -> None:
    z = bank(spread=1.5)
    inertias = [spherical_kmeans(z, z[:6].clone(), iterations=count).inertia for count in range(1, 12)]
    assert all(b <= a + 1e-6 for a, b in pairwise(inertias))
    assert inertias[-1] < inertias[0]


def test_no_cluster_stays_empty() -> None:
    """Three centroids begin at the same place, one opposite of all vectors."""
    z = F.normalize(bank(spread=0.1).abs() + 0.1, dim=1)
    begin = torch.stack([z[0], z[0], z[0], -z.mean(0)])
    found = spherical_kmeans(z, begin, iterations=10)
    assert (torch.bincount(found.labels, minlength=4) > 0).all()


@pytest.mark.parametrize("images", [5, 8])
def test_vectors_that_are_all_alike_still_fill_every_cluster(images: int) -> None:
    z = F.normalize(torch.ones(images, 3), dim=1)
    found = spherical_kmeans(z, z[:5].clone(), iterations=3)
    assert torch.bincount(found.labels, minlength=5).min() >= 1
    assert torch.isfinite(found.centroids).all()
    assert found.inertia == pytest.approx(0, abs=1e-6)


def test_an_empty_cluster_takes_the_outlier_of_the_largest() -> None:
    z = F.normalize(torch.tensor([[1.0, 0], [1, 0.1], [1, -0.1], [0.6, 1.0], [-1, 0], [-1, 0.1]]), dim=1)
    begin = F.normalize(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, -1.0]]), dim=1)
    found = spherical_kmeans(z, begin, iterations=5)
    assert found.labels.tolist() == [0, 0, 0, 2, 1, 1]


def test_a_warm_start_keeps_the_numbers_of_clusters() -> None:
    """The images have moved a little; a start from other rows would number the clusters otherwise."""
    z = bank(spread=0.3)
    before = spherical_kmeans(z, z[:4].clone(), iterations=10)
    moved = F.normalize(z + 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(9)), dim=1)
    after = spherical_kmeans(moved, before.centroids, iterations=10)
    assert (after.labels == before.labels).float().mean() > 0.95
    cold = spherical_kmeans(moved, moved[[3, 2, 1, 0]], iterations=10)
    assert (cold.labels == before.labels).float().mean() < 0.5
