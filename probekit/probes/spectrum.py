"""Label-free health of an embedding: how many directions it uses, and whether dimensions have died.

An alarm for collapse, not a score to choose encoders by: noise has the highest rank of all.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-7  # RankMe paper (Garrido et al. 2023, arXiv 2210.02885), eq. 1
DEAD = 0.01  # ours: of 1/sqrt(D), the deviation of a dimension when all are alike


def health(features: NDArray[np.floating]) -> dict[str, Any]:
    """What features `[N, D]`, N > 1 and finite, say about themselves, without labels.

    Gives n; dim, D; singular_values {uncentred, centred}, min(N, D) numbers each, the largest first; rankme {uncentred,
    centred} in [1, D]; participation_ratio in [1, D], centred; deviation, `deviation` below; dead, how many of them are
    below `DEAD` / sqrt(D). A rank is None where every singular value is zero: the features are 0, or all alike.
    """
    x = np.asarray(features, dtype=np.float64)
    assert x.ndim == 2
    assert len(x) > 1
    raw, centred = singular_values(x), centred_singular_values(x)
    spread = deviation(x)
    return {
        "n": x.shape[0],
        "dim": x.shape[1],
        "singular_values": {"uncentred": _short(raw), "centred": _short(centred)},
        "rankme": {"uncentred": rankme(raw), "centred": rankme(centred)},
        "participation_ratio": participation_ratio(centred),
        "deviation": _short(spread),
        "dead": int((spread < DEAD / np.sqrt(x.shape[1])).sum()),
    }


def singular_values(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Singular values of `[N, D]`, the largest first: `[min(N, D)]`."""
    return np.linalg.svd(x, compute_uv=False).astype(np.float64)


def centred_singular_values(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Singular values of `[N, D]` less the mean row, the largest first; all 0 where rows are equal but for rounding."""
    mean = x.mean(axis=0)
    sigma = singular_values(x - mean)
    # What is left of equal rows after rounding is no structure: numpy's tolerance of matrix_rank. Neither of the two
    # is more than the largest singular value of x, and their sum is not less.
    largest = max(sigma.max(), np.sqrt(len(x)) * np.linalg.norm(mean))
    sigma[sigma <= largest * max(x.shape) * np.finfo(np.float32).eps] = 0
    return sigma


def rankme(sigma: NDArray[np.float64]) -> float | None:
    """Effective rank exp(-sum p log p), p = sigma / |sigma|_1 + 1e-7 (Garrido et al. 2023, eq. 1 and 2).

    From singular values `[R]` of Z as it is in the paper; of centred Z an offset no longer counts. About 1 (one
    direction) to R (all alike), or None if all are zero.
    """
    total = sigma.sum()
    if total == 0:
        return None
    p = sigma / total + EPSILON
    return float(np.exp(-(p * np.log(p)).sum()))


def participation_ratio(sigma: NDArray[np.float64]) -> float | None:
    """(sum of variances)^2 / sum of their squares, from singular values `[R]` of centred features.

    1 (one direction) to R (all alike), or None if all are zero.
    """
    variance = sigma**2
    if variance.sum() == 0:
        return None
    return float(variance.sum() ** 2 / (variance**2).sum())


def deviation(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation `[D]` of each dimension after rows are scaled to length 1 (Chen and He 2021, section 4.1).

    About 1/sqrt(D) where directions are spread evenly, 0 after a collapse; a row of zeros stays zero.
    """
    length = np.linalg.norm(x, axis=1, keepdims=True)
    found: NDArray[np.float64] = (x / np.where(length > 0, length, 1)).std(axis=0)
    return found


def _short(values: NDArray[np.float64]) -> list[float]:
    """Five digits: enough to draw, and the file stays small."""
    return [float(f"{value:.5g}") for value in values]
