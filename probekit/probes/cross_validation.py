"""Cross-validation of the linear probe on one split, for sets whose test labels are hidden (APTOS 2019, ConRec paper).

Everything that learns (standardisation, C, weights) sees the other folds only.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import stdtrit

from probekit.probes import FOLDS, METRICS, REPEATS
from probekit.probes.linear import Space, fit
from probekit.probes.protocol import FIXED_C, Part, check_part, choose, validation_part
from probekit.registry import check_named
from probekit.statistics import MIN_IMAGES, RESAMPLES, interval, percentiles

DECODINGS = {
    "cumulative": "one probe a threshold, grade = thresholds with probability above 1/2 (ConRec's code)",
    "plain": "one multinomial probe, the likeliest class",
}

MATRIX_CELLS = 10**7  # of confusion matrices held at once: 80 MB

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# The samples `[N]` that may be fitted, those that are held out, and (repeat, fold) -> the class of each that is held
# out, by decoding.
Predict = Callable[[NDArray[np.bool_], NDArray[np.bool_], tuple[int, int]], Mapping[str, Ints]]


def cross_validate(
    name: str,
    kind: str,
    part: Part,
    *,
    classes: Sequence[str],
    protocol: str,
    seed: int,
    folds: int = FOLDS,
    repeats: int = REPEATS,
    metric: str = "kappa",
    among: NDArray[np.bool_] | None = None,
    predict: Predict | None = None,
) -> dict[str, Any]:
    """Predicts each sample by a probe that was fitted on the other folds; one row, valid JSON.

    `classes`: for kappa in the order of the grades; kappa has both `DECODINGS`, accuracy the plain one. `protocol`
    "tuned" chooses C inside each training part. Repeat i of folds and validation parts takes (seed, i). `among` `[N]`:
    the samples whose labels are known: these alone are fitted, all are scored. `predict`: what is fitted in place of a
    linear probe, with decodings of its own. Gives what
    `measurements.cross_validation.FoldsRow` has: mean over folds, ci (Nadeau-Bengio), pooled (out-of-fold, mean over
    repeats), pooled_ci (percentile bootstrap over samples); and folds (one value a fold and repeat, None where
    undefined), protocol, classes, dim; for an encoder labels `[N]` and predicted {decoding: [repeats][N]}. A ValueError
    if shapes, labels or features are not as described, or the metric is unknown.
    """
    check_part(part, name, part.x.shape[1:], len(classes))
    check_named("metric", metric, METRICS)
    k, decodings = len(classes), tuple(DECODINGS) if metric == "kappa" else ("plain",)
    held = np.stack([divide(part.y, folds=folds, seed=seed, repeat=i, groups=part.groups) for i in range(repeats)])
    predict = predict or _probes(part, decodings, k, protocol=protocol, seed=seed)
    predicted = _predicted(held, predict, among)
    kept = {"labels": part.y.tolist(), "predicted": {d: guesses.tolist() for d, guesses in predicted.items()}}
    scored = ("kappa", "accuracy") if metric == "kappa" else ("accuracy",)
    return {
        "name": name,
        "kind": kind,
        "metric": metric,
        "folds": folds,
        "repeats": repeats,
        "n": len(part.y),
        "decodings": {
            decoding: {m: _summary(part.y, guesses, held, _SCORES[m], k, seed) for m in scored}
            for decoding, guesses in predicted.items()
        },
        "protocol": protocol,
        "classes": list(classes),
        "dim": part.x.shape[1],
        **(kept if kind == "encoder" else {}),
    }


def _predicted(held: Ints, predict: Predict, among: NDArray[np.bool_] | None) -> dict[str, Ints]:
    """What each decoding says of each sample while it is held out, `[repeats, N]`."""
    predicted: dict[str, Ints] = {}
    for repeat, folds in enumerate(held):
        for fold in range(int(folds.max()) + 1):
            out = folds == fold
            used = ~out if among is None else ~out & among
            if not used.any():
                raise ValueError("expected a known label outside each fold, found none; type: --fractions 50")
            for decoding, guesses in predict(used, out, (repeat, fold)).items():
                predicted.setdefault(decoding, np.empty_like(held))[repeat, out] = guesses
    return predicted


def _probes(part: Part, decodings: Sequence[str], classes: int, *, protocol: str, seed: int) -> Predict:
    """Linear probes."""

    def predict(used: NDArray[np.bool_], out: NDArray[np.bool_], place: tuple[int, int]) -> dict[str, Ints]:
        fitted = _Fold.of(part, used, out, protocol=protocol, seed=seed)
        return {decoding: _DECODERS[decoding](fitted, part.y[used], classes) for decoding in decodings}

    return predict


def divide(y: Ints, *, folds: int, seed: int, repeat: int, groups: NDArray[Any] | None = None) -> Ints:
    """The fold that each sample of classes `y` `[N]` is held out in, int64 `[N]`; (seed, repeat) decides.

    Stratified: of each class, and in all, every fold has the same number of samples (groups) but for one. A group stays
    whole, counted in the class of its first sample. A ValueError if there are fewer samples (groups) than folds, or
    fewer than two folds.
    """
    units = np.arange(len(y)) if groups is None else groups
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    if not 2 <= folds <= len(first):
        raise ValueError(f"expected 2 to {len(first)} folds for so many samples, found {folds}; type: --cv 5")
    rng = np.random.default_rng([seed, repeat])
    shuffled = rng.permutation(len(first))
    by_class = shuffled[np.argsort(y[first][shuffled], kind="stable")]
    dealt = np.empty(len(first), dtype=np.int64)
    dealt[by_class] = rng.permutation(folds)[np.arange(len(first)) % folds]
    return dealt[unit]


def kappa(confusion: NDArray[np.number]) -> Floats:
    """Quadratic-weighted kappa (Cohen 1968) of counts `[..., K, K]`, truth in rows: `[...]` in [-1, 1].

    1 - sum(w O) / sum(w E), w = (i - j)^2; NaN if truth and prediction are one and the same constant.
    """
    grades = np.arange(confusion.shape[-1])
    weight = np.subtract.outer(grades, grades) ** 2
    truth, guess = confusion.sum(axis=-1), confusion.sum(axis=-2)
    expected = np.einsum("...i,ij,...j->...", truth, weight, guess) / truth.sum(axis=-1)
    off = np.einsum("...ij,ij->...", confusion, weight)
    return np.where(expected > 0, 1 - off / np.where(expected > 0, expected, 1), np.nan)


def corrected_interval(values: Sequence[float], *, folds: int, low: float) -> list[float] | None:
    """The 95 % interval of a cross-validated mean that allows for training sets that overlap; None for one value.

    Nadeau and Bengio 2003 (corrected resampled t): of J values the variance of the mean is (1/J + test/train) s^2, with
    test/train = 1 / (folds - 1), and J - 1 degrees of freedom. For repeated k-fold: Bouckaert and Frank 2004. Within
    [low, 1].
    """
    J = len(values)
    if J < 2:
        return None
    mean, variance = float(np.mean(values)), float(np.var(values, ddof=1))
    half = float(stdtrit(J - 1, 0.975)) * sqrt((1 / J + 1 / (folds - 1)) * variance)
    return interval(max(low, mean - half), min(1.0, mean + half))


@dataclass(frozen=True)
class _Fold:
    """A fold in the coordinates of a probe: what is fitted, what is held out, and how C is chosen."""

    z: Floats  # `[N, R]`, what is fitted
    z_out: Floats  # `[M, R]`, what is held out
    inner: tuple[NDArray[np.bool_], Floats, Floats] | None  # a validation part, and both in a space of the rest

    @classmethod
    def of(cls, part: Part, used: NDArray[np.bool_], out: NDArray[np.bool_], *, protocol: str, seed: int) -> "_Fold":
        x = part.x[used]
        inner = None
        if protocol == "tuned":
            held = validation_part(part.y[used], seed=seed, groups=None if part.groups is None else part.groups[used])
            space = Space.of(x[~held], standardise=True)
            inner = held, space.z, space.project(x[held])
        space = Space.of(x, standardise=protocol == "tuned")
        return cls(space.z, space.project(part.x[out]), inner)

    def log_probability(self, target: Ints, classes: int) -> Floats:
        """Log-probabilities `[M, classes]` by a probe of `target` `[N]`; certain if that has one value only."""
        if (target == target[0]).all():
            return np.tile(np.where(np.arange(classes) == target[0], 0.0, -np.inf), (len(self.z_out), 1))
        C = FIXED_C
        if self.inner is not None:
            held, z, z_held = self.inner
            known = held & np.isin(target, target[~held])
            if known.any() and len(np.unique(target[~held])) > 1:
                C = choose(z, target[~held], z_held[known[held]], target[known])
        return fit(self.z, target, C=C).log_probability(self.z_out, classes=classes)


def _plain(fold: _Fold, y: Ints, classes: int) -> Ints:
    likeliest: Ints = fold.log_probability(y, classes).argmax(axis=1)
    return likeliest


def _cumulative(fold: _Fold, y: Ints, classes: int) -> Ints:
    """The thresholds that a sample passes; like the authors, without asking whether it passes the lower ones."""
    passed = [fold.log_probability((y >= grade).astype(np.int64), 2)[:, 1] > np.log(0.5) for grade in range(1, classes)]
    grades: Ints = np.sum(passed, axis=0, dtype=np.int64)
    return grades


def _summary(
    y: Ints, predicted: Ints, held: Ints, score: Callable[[NDArray[np.number]], Floats], classes: int, seed: int
) -> dict[str, Any]:
    """One metric of one decoding over folds and repeats, `predicted` and `held` being `[repeats, N]`."""
    cells = y * classes + predicted
    folds = int(held.max()) + 1

    def of(chosen: Ints) -> float:
        return float(score(np.bincount(chosen, minlength=classes**2).reshape(classes, classes)))

    by_fold = [of(row[out == fold]) for row, out in zip(cells, held, strict=True) for fold in range(folds)]
    drawn = np.concatenate([np.mean(score(confusion), axis=0) for confusion in _resampled(cells, classes, seed)])
    defined, enough = np.isfinite(by_fold).all(), len(y) >= MIN_IMAGES
    low = -1.0 if score is kappa else 0.0
    pooled = float(np.mean([of(row) for row in cells]))
    return {
        "folds": [value if np.isfinite(value) else None for value in by_fold],
        "mean": float(np.mean(by_fold)) if defined else None,
        "ci": corrected_interval(by_fold, folds=folds, low=low) if defined and enough else None,
        "pooled": pooled if np.isfinite(pooled) else None,
        "pooled_ci": percentiles(drawn) if enough and np.isfinite(drawn).all() else None,
    }


def _resampled(cells: Ints, classes: int, seed: int) -> Iterator[Ints]:
    """Confusion matrices `[repeats, draws, K, K]` of samples drawn with replacement, the same ones in all repeats."""
    repeats, n = cells.shape
    rng, at_once = np.random.default_rng(seed), max(1, MATRIX_CELLS // (repeats * classes**2))
    cell_of = [csr_array((np.ones(n, np.int64), (np.arange(n), row)), shape=(n, classes**2)) for row in cells]
    for start in range(0, RESAMPLES, at_once):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=min(at_once, RESAMPLES - start))
        yield np.stack([counts @ one_hot for one_hot in cell_of]).reshape(repeats, -1, classes, classes)


def _accuracy(confusion: NDArray[np.number]) -> Floats:
    right: Floats = np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))
    return right


_DECODERS: dict[str, Callable[[_Fold, Ints, int], Ints]] = {"cumulative": _cumulative, "plain": _plain}
_SCORES: dict[str, Callable[[NDArray[np.number]], Floats]] = {"kappa": kappa, "accuracy": _accuracy}
