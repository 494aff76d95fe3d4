"""Scores of predicted probabilities, as numbers that fit in JSON: fractions in [0, 1], None where undefined."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Two-sided 95 % quantile of the standard normal distribution.
Z95 = 1.959963984540054
TOP = 5  # of top-5 accuracy, as on ImageNet; said only where there are more classes
RESAMPLES = 1000  # of a bootstrap; ours: its ends then wander by some 3 % of the interval's width
ENDS = (2.5, 97.5)  # per cent


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion (Wilson 1927, eq. 3, without continuity correction).

    Args:
        successes: Between 0 and `n`.
        n: Trials, at least 1.

    Returns:
        (low, high) in [0, 1]; it contains `successes / n`.
    """
    assert 0 <= successes <= n, (successes, n)
    assert n > 0
    share = successes / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * np.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2))
    # min and max: rounding must not push an end past the proportion itself
    return max(0.0, min(float(centre - half), share)), min(1.0, max(float(centre + half), share))


def evaluate(log_probability: NDArray[np.float64], y: NDArray[np.int64]) -> dict[str, Any]:
    """Scores predictions once, on labels they never saw.

    Args:
        log_probability: `[N, K]`; -inf where a class cannot be predicted. The largest is predicted, the first of ties.
        y: int64 `[N]` in [0, K), N > 0.

    Returns:
        accuracy; ci, its 95 % Wilson interval; n; balanced_accuracy, the mean recall of the classes in `y`; macro_f1,
        the mean F1 of the classes in `y` or among the predictions; log_loss in nats, lower is better, log(K) for equal
        guesses, None if a class of `y` has probability zero; confusion, `[K][K]` counts with the truth in rows. With
        more than 5 classes also top5, how often the truth is among the 5 likeliest, and top5_ci.
    """
    n, classes = log_probability.shape
    assert n == len(y)
    assert n > 0
    predicted = log_probability.argmax(axis=1)
    confusion = np.bincount(y * classes + predicted, minlength=classes**2).reshape(classes, classes)
    hits, truth, guesses = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    present, seen = truth > 0, truth + guesses > 0
    correct = int(hits.sum())
    loss = -float(log_probability[np.arange(n), y].mean())
    return {
        "accuracy": correct / n,
        "ci": list(wilson(correct, n)),
        "n": n,
        "balanced_accuracy": float((hits[present] / truth[present]).mean()),
        "macro_f1": float((2 * hits[seen] / (truth + guesses)[seen]).mean()),
        "log_loss": loss if np.isfinite(loss) else None,
        "confusion": confusion.tolist(),
        **(top5(log_probability, y) if classes > TOP else {}),
    }


def top5(score: NDArray[np.float64], y: NDArray[np.int64]) -> dict[str, Any]:
    """How often the true class is among the five with the highest scores; of equal scores the first class counts more.

    Args:
        score: `[N, K]`, K > 5.
        y: int64 `[N]` in [0, K), N > 0.

    Returns:
        top5; top5_ci, its 95 % Wilson interval.
    """
    own = score[np.arange(len(y)), y][:, None]
    before = np.arange(score.shape[1]) < y[:, None]
    ahead = ((score > own) | ((score == own) & before)).sum(axis=1)
    hits = int((ahead < TOP).sum())
    return {"top5": hits / len(y), "top5_ci": list(wilson(hits, len(y)))}


def bootstrap(values: NDArray[np.float64], *, seed: int) -> list[list[float] | None]:
    """95 % percentile intervals of the means of per-image values, all from the same draws of images.

    Args:
        values: `[N, m]`; a column that is undefined for an image is NaN.
        seed: Of the draws.

    Returns:
        [low, high] for each of the m columns; None with fewer than two images, or where the mean is undefined.
    """
    n, columns = values.shape
    if n < 2:
        return [None] * columns
    rng = np.random.default_rng(seed)
    even = np.full(n, 1 / n)
    means = np.stack([rng.multinomial(n, even) @ values / n for _ in range(RESAMPLES)])
    intervals = np.percentile(means, ENDS, axis=0).T
    return [ends.tolist() if np.isfinite(ends).all() else None for ends in intervals]
