"""What watches a run: a cheap score of frozen features, every so many epochs (ConRec paper, section 2.5)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probekit.data.split import DeviceSplit, Images
from probekit.models.encoder import Encoder, Features
from probekit.models.extract import extract, read_shared
from probekit.probes.cross_validation import kappa as kappa_of
from probekit.probes.knn import MONITOR_K, MONITOR_T, nearest, vote
from probekit.probes.linear import Space, fit
from probekit.probes.protocol import FIXED_C, Part, check_part, validation_part
from probekit.probes.spectrum import centred_singular_values, rankme
from probekit.ranks import from_first

# Monitors, by the names of `train.monitor`: nothing is chosen, so nothing is held out. Each takes `[N, D]` and int64
# `[N]` of what is known, `[M, D]` and int64 `[M]` of what is scored.
X = NDArray[np.floating]
Y = NDArray[np.int64]

MOST = 2048  # images whose embeddings the rank is of; ours


def linear(x: X, y: Y, x_scored: X, y_scored: Y) -> float:
    """Accuracy in [0, 1] of the linear probe under `fixed` (ConRec paper, section 2.5)."""
    return float((_predicted(x, y, x_scored, y_scored) == y_scored).mean())


def kappa(x: X, y: Y, x_scored: X, y_scored: Y) -> float:
    """Quadratic-weighted kappa in [-1, 1] of the same probe's classes as grades; 0 where all are one grade."""
    classes = int(max(y.max(), y_scored.max())) + 1
    cells = y_scored * classes + _predicted(x, y, x_scored, y_scored)
    found = float(kappa_of(np.bincount(cells, minlength=classes**2).reshape(classes, classes)))
    return found if np.isfinite(found) else 0.0


def knn(x: X, y: Y, x_scored: X, y_scored: Y) -> float:
    """Accuracy in [0, 1] of 200 weighted nearest neighbours, T = .1 (XCorr paper, section 3.1)."""
    _check(x, y, x_scored, y_scored)
    k, classes = min(MONITOR_K, len(y)), int(max(y.max(), y_scored.max())) + 1
    cosine, rows = nearest(x, x_scored, k=k, device="cpu")
    votes = vote(cosine, y[rows], k=k, temperature=MONITOR_T[0], classes=classes)
    return float((votes.argmax(axis=1) == y_scored).mean())


MONITORS: dict[str, Callable[[X, Y, X, Y], float]] = {"linear": linear, "knn": knn, "kappa": kappa}


def _predicted(x: X, y: Y, x_scored: X, y_scored: Y) -> Y:
    classes = _check(x, y, x_scored, y_scored)
    space = Space.of(x, standardise=False)
    log_probability = fit(space.z, y, C=FIXED_C).log_probability(space.project(x_scored), classes=classes)
    predicted: Y = log_probability.argmax(axis=1)
    return predicted


def _check(x: X, y: Y, x_scored: X, y_scored: Y) -> int:
    classes = int(max(y.max(), y_scored.max())) + 1
    check_part(Part(x, y), "train", x.shape[1:], classes)
    check_part(Part(x_scored, y_scored), "test", x.shape[1:], classes)
    return classes


@dataclass(frozen=True)
class Scores:
    """Scores by the monitor, or None where there is nothing to score on; the effective rank of the embeddings."""

    val: float | None
    test: float | None
    rank: float | None


class Projecting(nn.Module):
    """An encoder whose embedding is replaced by the projection, `[B, P]`, that the loss compares."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x: Tensor) -> Features:
        """Encodes `[B, C, H, W]` and projects."""
        features: Features = self.encoder(x)
        return replace(features, pooled=self.head(features.pooled.float()).float())


class Monitor:
    """Scores an encoder on the validation part and on the test split.

    `val`: the validation split; without one that is labelled a seeded, stratified part of `train` stands in. `test`:
    the test split, if the file has one. `kind`: what scores, one of `MONITORS`.
    """

    def __init__(
        self, train: DeviceSplit, val: DeviceSplit | None, test: DeviceSplit | None, *, seed: int, kind: str = "linear"
    ) -> None:
        self.train, self.val, self.test = train, val, test
        self.seed, self.scored = seed, MONITORS[kind]

    @property
    def can_score(self) -> bool:
        """Whether there are labels of at least two classes to score with."""
        labels = self.train.split.class_labels
        return labels is not None and len(np.unique(labels)) > 1

    def score(self, encoder: nn.Module) -> Scores:
        """Scores frozen features; leaves the encoder's mode as it was. Without labels there is the rank alone.

        Of several processes each embeds its share, and the first scores.
        """
        labels = self.train.split.class_labels
        if not self.can_score or labels is None:
            sample = embedded(encoder, self.train.images[self._sample])
            return from_first(lambda: Scores(None, None, _rank(sample)))
        features = embedded(encoder, self.train.images)
        of_val, of_test = _of_labelled(encoder, self.val), _of_labelled(encoder, self.test)

        def scores() -> Scores:
            if of_val is None:
                val = self._score_part(features, labels)
            else:
                val = self._score_split(features, labels, self.val, of_val)
            test = self._score_split(features, labels, self.test, of_test)
            return Scores(val, test, _rank(features[self._sample]))

        return from_first(scores)

    @property
    def _sample(self) -> slice:
        """Which training images the rank is of: at most `MOST`, evenly spread."""
        return slice(None, None, -(-len(self.train) // MOST))

    def _score_part(self, features: NDArray[np.float32], labels: NDArray[np.int64]) -> float | None:
        held = validation_part(labels, seed=self.seed, groups=self.train.split.factors.get("pair_id"))
        fit = ~held
        if not held.any() or len(np.unique(labels[fit])) < 2:
            return None
        return self.scored(features[fit], labels[fit], features[held], labels[held])

    def _score_split(
        self, features: X, labels: Y, split: DeviceSplit | None, seen: NDArray[np.float32] | None
    ) -> float | None:
        known = None if split is None else split.split.class_labels
        return None if known is None or seen is None else self.scored(features, labels, seen, known)


def embedded(encoder: nn.Module, images: Images) -> NDArray[np.float32]:
    """`extract`, of several processes each a share of the images."""
    found = read_shared(images, lambda own: torch.from_numpy(extract(encoder, own)))
    return cast(NDArray[np.float32], found.numpy())


def _of_labelled(encoder: nn.Module, split: DeviceSplit | None) -> NDArray[np.float32] | None:
    known = None if split is None else split.split.class_labels
    return None if known is None or split is None else embedded(encoder, split.images)


def _rank(features: NDArray[np.float32]) -> float | None:
    """The effective rank of embeddings `[N, D]`, centred; None where all are alike."""
    return rankme(centred_singular_values(features.astype(np.float64)))
