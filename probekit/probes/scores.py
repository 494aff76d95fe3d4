"""Scores of predictions, as numbers that fit in JSON: fractions in [0, 1], None where undefined."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from probekit.statistics import (
    MIN_IMAGES,
    RESAMPLES,
    against_share,
    holm,
    mcnemar,
    percentiles,
    share_interval,
    student,
    verdict,
)

TOP = 5  # of top-5 accuracy, as on ImageNet; said only where there are more classes
CELLS = 2**22  # resampled counts at a time: bounds the memory


def evaluate(log_probability: NDArray[np.float64], y: NDArray[np.int64], *, seed: int) -> dict[str, Any]:
    """Scores predictions once, on labels `[N]` in [0, K) that they never saw, N > 0.

    `log_probability` `[N, K]`: -inf where a class cannot be predicted; the largest is predicted, the first of ties.
    Gives accuracy; ci, its 95 % Wilson interval; n; balanced_accuracy, the mean recall of the classes in `y`; macro_f1,
    the mean F1 of the classes in `y` or among the predictions; log_loss in nats, lower is better, log(K) for equal
    guesses, None if a class of `y` has probability zero; balanced_accuracy_ci and macro_f1_ci, 95 % percentile
    bootstrap over samples; log_loss_ci, 95 % Student t over samples; confusion, `[K][K]` counts with the truth in rows;
    with more than 5 classes what `top5` gives. No interval under 10 images.
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
    return {name: percentiles(values) for name, values in zip(names, columns, strict=True)}


def top5(score: NDArray[np.float64], y: NDArray[np.int64]) -> dict[str, Any]:
    """How often the true class is among the five with the highest scores; of equal scores the first class counts more.

    From scores `[N, K]`, K > 5: top5, and top5_ci, its 95 % Wilson interval, None under 10 images.
    """
    own = score[np.arange(len(y)), y][:, None]
    before = np.arange(score.shape[1]) < y[:, None]
    ahead = ((score > own) | ((score == own) & before)).sum(axis=1)
    hits = int((ahead < TOP).sum())
    return {"top5": hits / len(y), "top5_ci": share_interval(hits, len(y))}


def against_baselines(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What can be said of the first row against the others on the same test images, Holm over all of them.

    By McNemar's exact test; against a row that says one class of every image, as chance does, by the exact binomial
    test against its share: which of several classes as frequent it says is an accident, and pairs no images. Gives one
    of `VERDICTS` by the other's name, "above" where the first is; rows without `labels` and `predicted` are left out.
    """
    first, *others = rows
    if not {"predicted", "labels"} <= first.keys():
        return {}
    asked = [row for row in others if "predicted" in row and row.get("labels") == first["labels"]]
    right, *rights = (np.equal(row["predicted"], row["labels"]) for row in (first, *asked))
    n, hits = len(right), int(right.sum())
    found = [
        against_share(hits, n, float(other.mean())) if len(set(row["predicted"])) == 1 else mcnemar(right, other)["p"]
        for row, other in zip(asked, rights, strict=True)
    ]
    return {
        row["name"]: verdict(hits - int(other.sum()), p)
        for row, other, p in zip(asked, rights, holm(found), strict=True)
    }


def factors_beside(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, str]:
    """What can be said of each class factor that both rows read, on the same test images: `VERDICTS` by factor.

    By McNemar's exact test, Holm over the factors; those without `right` are left out.
    """
    mine, theirs = (
        {name: np.array(kept["right"]) for name, kept in row.get("factors", {}).items() if kept.get("right")}
        for row in (first, other)
    )
    names = [name for name in mine if name in theirs and first.get("labels") == other.get("labels")]
    found = [mcnemar(mine[name], theirs[name])["p"] for name in names]
    return {
        name: verdict(int(mine[name].sum()) - int(theirs[name].sum()), p)
        for name, p in zip(names, holm(found), strict=True)
    }
