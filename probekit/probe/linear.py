"""Logistic regression with an L2 penalty: the same optimum as scikit-learn's default, reached cheaply.

Two exact steps make it cheap. Centring changes only the bias, which carries no penalty. The optimal weights lie in
the span of the training rows, so with more features than samples the problem shrinks to N dimensions. The solver,
`logistic`, does not feel the scale of the features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from probekit.probe.logistic import Problem, gram, inverse_curvature, minimise, thread_pools

MAX_ITER = 10_000  # authors' code
SOLVER = "preconditioned lbfgs"  # see `logistic`
TOL = 1e-10  # ours, of the objective: scikit-learn's default stops lbfgs 3 % above the optimum on raw pixels
SMALL = 2**23  # multiplications: below it threads cost more than they save, beside another process 4 times; measured
CONSTANT = 1e-6  # ours: a feature whose sd is below this share of its mean is float32 rounding
BLOCK = 4096  # columns converted to float64 at a time; bounds the memory of raw pixels
RANK_TOL = 1e-12  # ours: squared singular values below this share of the largest are rounding


@dataclass(frozen=True)
class Space:
    """The coordinates a probe is fitted in: centred, perhaps standardised, at most N of them."""

    x: NDArray[np.floating]  # `[N, D]`, the training features as given
    mean: NDArray[np.float64]  # `[D]`, of the training features
    scale: NDArray[np.float64]  # `[D]`, standard deviations, or ones
    z: NDArray[np.float64]  # `[N, R]`, the training features in this space; R <= min(N, D)
    basis: NDArray[np.float64] | None  # `[N, R]`: inner products k with the training rows are k @ basis

    @classmethod
    def of(cls, x: NDArray[np.floating], *, standardise: bool) -> "Space":
        """Builds the space of the training features `x` `[N, D]`."""
        mean = np.empty(x.shape[1])
        scale = np.ones(x.shape[1])
        for cols in _column_blocks(x.shape[1]):
            block = x[:, cols].astype(np.float64)
            mean[cols] = block.mean(axis=0)
            if standardise:
                sd = block.std(axis=0)
                scale[cols] = np.where(sd > CONSTANT * np.abs(mean[cols]), sd, np.inf)
        if x.shape[1] <= len(x):
            return cls(x, mean, scale, (x - mean) / scale, None)
        with thread_pools().limit(limits=1):
            squares, u = np.linalg.eigh(_inner_products(x, x, mean, scale))
        kept = squares > RANK_TOL * squares[-1]
        singular = np.sqrt(squares[kept])
        return cls(x, mean, scale, u[:, kept] * singular, u[:, kept] / singular)

    def project(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        """Other features `[M, D]` in this space, `[M, R]`."""
        if self.basis is None:
            return np.asarray((x - self.mean) / self.scale, dtype=np.float64)
        with thread_pools().limit(limits=1):
            return _inner_products(x, self.x, self.mean, self.scale) @ self.basis

    def unfold(self, probe: "LinearProbe") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A probe fitted here as weights `[k, D]` and biases `[k]` of raw features: scale and mean folded in."""
        if self.basis is None:
            weight = probe.weight / self.scale
        else:
            rows = probe.weight @ self.basis.T  # [k, N], weights of the training samples
            weight = np.empty((len(rows), len(self.mean)))
            for cols in _column_blocks(len(self.mean)):
                standardised = (self.x[:, cols] - self.mean[cols]) / self.scale[cols]
                weight[:, cols] = rows @ standardised / self.scale[cols]
        return weight, probe.bias - weight @ self.mean


@dataclass(frozen=True)
class LinearProbe:
    """A fitted classifier in the coordinates of a `Space`."""

    labels: NDArray[np.int64]  # `[k]`, the classes seen in training, ascending
    weight: NDArray[np.float64]  # `[k, R]`
    bias: NDArray[np.float64]  # `[k]`
    C: float  # the objective is `C * sum(cross-entropy) + |weight|**2 / 2`
    n_iter: int  # 0 where the answer is the class frequencies

    def log_probability(self, z: NDArray[np.float64], *, classes: int) -> NDArray[np.float64]:
        """Log-probabilities `[M, classes]`; -inf for a class that training did not show."""
        logits = z @ self.weight.T + self.bias
        logits -= logits.max(axis=1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
        out = np.full((len(z), classes), -np.inf)
        out[:, self.labels] = logits
        return out


def fit(
    z: NDArray[np.float64], y: NDArray[np.int64], *, C: float, tol: float = TOL, device: str = "cpu"
) -> LinearProbe:
    """Fits one probe to its optimum. See `fit_path`."""
    return fit_path(z, y, grid=[C], tol=tol, device=device)[0]


def fit_path(
    z: NDArray[np.float64], y: NDArray[np.int64], *, grid: Sequence[float], tol: float = TOL, device: str = "cpu"
) -> list[LinearProbe]:
    """Fits one probe for each C > 0 of `grid`, best ascending, each starting where the one before ended.

    `z`: float64 `[N, R]`, `Space.z`; `y`: int64 `[N]`; `tol` ends when the decrease that is still expected is below
    this share of the objective. Two classes share one weight vector, as in scikit-learn; more have one each. A
    ValueError if `y` holds one class only.
    """
    labels, counts = np.unique(y, return_counts=True)
    if len(labels) < 2:
        found = f"only class {labels[0]}" if len(labels) else "no sample"
        raise ValueError(
            f"expected at least two classes in the training labels, found {found}; type: probekit show PATH"
        )
    if not z.any():  # no feature varies: the bias alone is left, in closed form
        weight = np.zeros((len(labels), z.shape[1]))
        return [LinearProbe(labels, weight, np.log(counts / len(y)), C, 0) for C in grid]
    k = 1 if len(labels) == 2 else len(labels)
    rows = torch.from_numpy(z).to(device)
    codes = torch.from_numpy(np.searchsorted(labels, y)).to(device)
    w = torch.zeros((k, z.shape[1] + 1), dtype=torch.float64, device=device)
    products = gram(z)
    probes = []
    with thread_pools().limit(limits=1 if k * z.size < SMALL else None):
        for C in grid:
            inverse = inverse_curvature(products, k=k, C=C).to(device)
            w, losses = minimise(Problem(rows, codes, k, C), w, inverse, tol=tol, max_iter=MAX_ITER)
            weight, bias = _one_row_a_class(w.cpu().numpy())
            probes.append(LinearProbe(labels, weight, bias, C, len(losses)))
    return probes


def _one_row_a_class(w: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights and biases; of two classes the first, which has no row, gets the logit zero."""
    weight, bias = w[:, :-1].copy(), w[:, -1].copy()
    if len(weight) == 1:
        return np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    return weight, bias


def _inner_products(
    a: NDArray[np.floating],
    b: NDArray[np.floating],
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Inner products of the standardised rows of `a` `[M, D]` and `b` `[N, D]`: `[M, N]`."""
    total = np.zeros((len(a), len(b)))
    for cols in _column_blocks(a.shape[1]):
        left = (a[:, cols] - mean[cols]) / scale[cols]
        right = left if a is b else (b[:, cols] - mean[cols]) / scale[cols]
        total += left @ right.T
    return total


def _column_blocks(columns: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, columns, BLOCK))
