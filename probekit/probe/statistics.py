"""Scores of predicted probabilities, as numbers that fit in JSON: fractions in [0, 1], None where undefined."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import stdtrit

# Two-sided 95 % quantile of the standard normal distribution.
Z95 = 1.959963984540054
MIN_IMAGES = 10  # from which on there are intervals: of fewer, one image moves a share by more than a tenth
TOP = 5  # of top-5 accuracy, as on ImageNet; said only where there are more classes
RESAMPLES = 1000  # of a bootstrap; ours: its ends then wander by some 3 % of the interval's width
ENDS = (2.5, 97.5)  # per cent
CELLS = 2**22  # resampled counts at a time: bounds the memory


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


def share_interval(successes: int, n: int) -> list[float] | None:
    """`wilson` as it stands in results; None under 10 images."""
    return list(wilson(successes, n)) if n >= MIN_IMAGES else None


def evaluate(log_probability: NDArray[np.float64], y: NDArray[np.int64], *, seed: int) -> dict[str, Any]:
    """Scores predictions once, on labels they never saw.

    Args:
        log_probability: `[N, K]`; -inf where a class cannot be predicted. The largest is predicted, the first of ties.
        y: int64 `[N]` in [0, K), N > 0.
        seed: Of the bootstrap.

    Returns:
        accuracy; ci, its 95 % Wilson interval; n; balanced_accuracy, the mean recall of the classes in `y`; macro_f1,
        the mean F1 of the classes in `y` or among the predictions; log_loss in nats, lower is better, log(K) for equal
        guesses, None if a class of `y` has probability zero; balanced_accuracy_ci and macro_f1_ci, 95 % percentile
        bootstrap over samples; log_loss_ci, 95 % Student t over samples, None of an infinite loss; no
        interval under 10 images; confusion, `[K][K]` counts with the truth in rows. With more than 5 classes also
        top5, how often the truth is among the 5 likeliest, and top5_ci, its 95 % Wilson interval.
    """
    n, classes = log_probability.shape
    assert n == len(y)
    assert n > 0
    predicted = log_probability.argmax(axis=1)
    confusion = np.bincount(y * classes + predicted, minlength=classes**2).reshape(classes, classes)
    correct = int(confusion.trace())
    balanced, f1 = _over_classes(confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0))
    losses = -log_probability[np.arange(n), y]
    loss = float(losses.mean())
    return {
        "accuracy": correct / n,
        "ci": share_interval(correct, n),
        "n": n,
        "balanced_accuracy": float(balanced),
        "macro_f1": float(f1),
        "log_loss": loss if np.isfinite(loss) else None,
        **_resampled(confusion, seed=seed),
        "log_loss_ci": student(losses, low=0.0) if np.isfinite(loss) else None,
        "confusion": confusion.tolist(),
        **(top5(log_probability, y) if classes > TOP else {}),
    }


def _over_classes(
    hits: NDArray[np.integer], truth: NDArray[np.integer], guesses: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Balanced accuracy and macro F1, over the classes that occur; counts `[..., K]`."""
    recall = np.where(truth > 0, hits / np.maximum(1, truth), np.nan)
    f1 = np.where(truth + guesses > 0, 2 * hits / np.maximum(1, truth + guesses), np.nan)
    return np.nanmean(recall, axis=-1), np.nanmean(f1, axis=-1)


def _resampled(confusion: NDArray[np.integer], *, seed: int) -> dict[str, list[float] | None]:
    """Percentile intervals over draws of samples: each is one of the filled cells of the matrix."""
    names = ("balanced_accuracy_ci", "macro_f1_ci")
    if confusion.sum() < MIN_IMAGES:
        return dict.fromkeys(names)
    rng = np.random.default_rng(seed)
    truth, guess = np.nonzero(confusion)
    counts = confusion[truth, guess]
    n, cells, classes = counts.sum(), np.arange(len(counts)), len(confusion)
    by_truth, by_guess = (
        csr_array((np.ones_like(cells), (cells, group)), shape=(len(cells), classes)) for group in (truth, guess)
    )
    right = csr_array(((truth == guess).astype(np.int64), (cells, truth)), shape=(len(cells), classes))
    step = max(1, CELLS // max(len(cells), classes))
    parts = []
    for begin in range(0, RESAMPLES, step):
        drawn = rng.multinomial(n, counts / n, size=min(step, RESAMPLES - begin))
        parts.append(_over_classes(drawn @ right, drawn @ by_truth, drawn @ by_guess))
    columns = (np.concatenate(values) for values in zip(*parts, strict=True))
    return {name: np.percentile(values, ENDS).tolist() for name, values in zip(names, columns, strict=True)}


def student(values: NDArray[np.float64], *, low: float) -> list[float] | None:
    """The 95 % Student-t interval of a mean that is at least `low`; None under 10 values."""
    n = len(values)
    if n < MIN_IMAGES:
        return None
    half = float(stdtrit(n - 1, 0.975) * values.std(ddof=1) / np.sqrt(n))
    return [max(low, float(values.mean()) - half), float(values.mean()) + half]


def top5(score: NDArray[np.float64], y: NDArray[np.int64]) -> dict[str, Any]:
    """How often the true class is among the five with the highest scores; of equal scores the first class counts more.

    Args:
        score: `[N, K]`, K > 5.
        y: int64 `[N]` in [0, K), N > 0.

    Returns:
        top5; top5_ci, its 95 % Wilson interval, None under 10 images.
    """
    own = score[np.arange(len(y)), y][:, None]
    before = np.arange(score.shape[1]) < y[:, None]
    ahead = ((score > own) | ((score == own) & before)).sum(axis=1)
    hits = int((ahead < TOP).sum())
    return {"top5": hits / len(y), "top5_ci": share_interval(hits, len(y))}


def bootstrap(values: NDArray[np.float64], *, seed: int) -> list[list[float] | None]:
    """95 % percentile intervals of the means of per-image values, all from the same draws of images.

    Args:
        values: `[N, m]`; a column that is undefined for an image is NaN.
        seed: Of the draws.

    Returns:
        [low, high] for each of the m columns; None under 10 images, or where the mean is undefined.
    """
    n, columns = values.shape
    if n < MIN_IMAGES:
        return [None] * columns
    rng = np.random.default_rng(seed)
    even = np.full(n, 1 / n)
    means = np.stack([rng.multinomial(n, even) @ values / n for _ in range(RESAMPLES)])
    intervals = np.percentile(means, ENDS, axis=0).T
    return [ends.tolist() if np.isfinite(ends).all() else None for ends in intervals]
