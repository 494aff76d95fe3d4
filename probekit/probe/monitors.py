"""Cheap scores for use during training, by the names of `train.monitor`: nothing is chosen, so nothing is held out.

Each takes `[N, D]` and int64 `[N]` of what is known, `[M, D]` and int64 `[M]` of what is scored.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from probekit.probe.cross_validation import kappa as kappa_of
from probekit.probe.knn import MONITOR_K, MONITOR_T, vote
from probekit.probe.linear import Space, fit
from probekit.probe.neighbours import nearest
from probekit.probe.protocol import FIXED_C, Part, check_part

X = NDArray[np.floating]
Y = NDArray[np.int64]


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
