"""What the monitor scores, on features that are known: the pixels themselves.

Alone: pytest tests/train/test_monitor.py
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, nn

from probekit.data.split import DeviceSplit
from probekit.h5 import Split
from probekit.models import Encoder
from probekit.train import evaluate
from probekit.train.evaluate import MONITORS, Monitor, Projecting
from tests.chance import within_five_sigma

ENCODER = Encoder(channels=1, width=4, depth=4, pooling="gap")


@pytest.fixture(autouse=True)
def _pixels_are_features(monkeypatch: pytest.MonkeyPatch) -> None:
    def extract(encoder: Encoder, images: Tensor) -> NDArray[np.float32]:
        return images.flatten(1).float().div(255).numpy()

    monkeypatch.setattr(evaluate, "extract", extract)


def split(
    name: str, pixels: NDArray[np.uint8], labels: NDArray[np.int64], factors: Mapping[str, Any] = {}
) -> DeviceSplit:
    images = torch.from_numpy(pixels).reshape(len(pixels), 1, 1, -1)
    return DeviceSplit(name, images, Split(np.empty(0, np.uint8), labels, dict(factors), None), "device")


def two_classes(name: str, n: int, *, turned: float = 0.0) -> DeviceSplit:
    """Dark and bright images; the first share `turned` of them has the other label."""
    labels = np.arange(n) % 2
    pixels = np.repeat(labels[:, None] * 255, 4, axis=1).astype(np.uint8)
    labels[: round(turned * n)] ^= 1
    return split(name, pixels, labels)


def test_val_is_that_of_the_files_own_split_and_test_of_its_own() -> None:
    found = Monitor(
        two_classes("train", 40), two_classes("val", 20, turned=0.75), two_classes("test", 20, turned=0.1), seed=0
    ).score(ENCODER)
    assert (found.val, found.test) == (0.25, 0.9)


def test_random_labels_are_chance_on_a_part_held_out_of_train() -> None:
    """More features than images: what is fitted is known by heart, 100 %."""
    rng = np.random.default_rng(0)
    n = 400
    train = split("train", rng.integers(0, 256, (n, 500), dtype=np.uint8), rng.permutation(np.arange(n) % 2))
    found = Monitor(train, None, None, seed=0).score(ENCODER)
    assert found.val is not None
    assert within_five_sigma(round(found.val * n / 5), n // 5, 0.5)


def test_the_part_held_out_is_of_the_seed_and_leaves_pairs_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both images of a pair look alike and have different labels, so a pair torn apart would score 0."""
    pairs = np.repeat(np.arange(60), 2)
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8), dtype=np.uint8)[pairs]
    train = split("train", pixels, np.arange(120) % 2, {"pair_id": pairs})
    seen: list[tuple[int, ...]] = []

    def probe_accuracy(x: NDArray[Any], y: NDArray[Any], x_held: NDArray[Any], y_held: NDArray[Any]) -> float:
        held = {tuple(row) for row in x_held.tolist()}
        assert not held & {tuple(row) for row in x.tolist()}
        assert len(x) + len(x_held) == 120
        seen.append(tuple(sorted(hash(row) for row in held)))
        return 0.0

    monkeypatch.setitem(MONITORS, "linear", probe_accuracy)
    for seed in (0, 0, 1):
        Monitor(train, None, None, seed=seed).score(ENCODER)
    assert seen[0] == seen[1] != seen[2]


def test_each_kind_scores_its_own_metric() -> None:
    """Three grades in a row, and test images that are one grade too high: kappa is scikit-learn's."""
    grades = np.arange(30) % 3
    pixels = np.repeat(grades[:, None] * 100, 4, axis=1).astype(np.uint8)
    train = split("train", pixels, grades)
    shifted = np.minimum(grades + 1, 2)
    test = split("test", pixels, shifted)
    found = {kind: Monitor(train, train, test, seed=0, kind=kind).score(ENCODER) for kind in MONITORS}
    assert found["linear"].val == found["kappa"].val == 1.0
    assert found["linear"].test == pytest.approx(1 / 3), "grade 2 alone"
    assert found["kappa"].test == pytest.approx(cohen_kappa_score(shifted, grades, weights="quadratic"))


def test_a_projection_is_what_the_head_makes_of_the_embedding() -> None:
    torch.manual_seed(0)
    x, head = torch.rand(3, 1, 16, 16), nn.Linear(ENCODER.dim, 2)
    found = Projecting(ENCODER, head).eval()(x)
    torch.testing.assert_close(found.pooled, ENCODER(x).pooled @ head.weight.T + head.bias)


def test_knn_is_a_vote_of_the_nearest() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(150, 3)) + 6 * np.eye(3)[k] for k in (0, 1)])
    y = np.repeat([0, 1], 150)
    weights = np.exp((x / np.linalg.norm(x, axis=1)[:, None]) @ (x / np.linalg.norm(x, axis=1)[:, None]).T / 0.1)
    kept = np.where(weights >= np.sort(weights, axis=1)[:, [-200]], weights, 0)
    told = np.stack([kept[:, y == k].sum(axis=1) for k in (0, 1)], axis=1).argmax(axis=1)
    assert MONITORS["knn"](x, y, x, y) == (told == y).mean()
    assert MONITORS["kappa"](x, y, x, np.zeros_like(y)) == 0.0, "half of them are called another grade than the one"
