"""Logistic regression with an L2 penalty: the same optimum as scikit-learn's default, reached cheaply.

Two exact steps make it cheap. Centring changes only the bias, which carries no penalty. The optimal weights lie in
the span of the training rows, so with more features than samples the problem shrinks to N dimensions.

The solver is L-BFGS, preconditioned with the curvature at the start. At weight zero all probabilities are equal, and
each class has the same block of the Hessian: the covariance of the features plus the penalty. Its inverse in place of
L-BFGS's multiple of the identity makes the iterations few (tens, not hundreds or thousands) and independent of the
features' scales and correlations. Each costs two matrix products; most are done in float32, the last in float64. Rows
are taken in blocks, so that no `[N, K]` array is ever whole.

L-BFGS: Nocedal and Wright, Numerical Optimization, chapter 7. The bound on the curvature: Böhning 1992.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

MAX_ITER = 10_000  # authors' code
SOLVER = "preconditioned lbfgs"  # see `minimise`
TOL = 1e-10  # ours, of the objective: scikit-learn's default stops lbfgs 3 % above the optimum on raw pixels
SMALL = 2**23  # multiplications: below it threads cost more than they save, beside another process 4 times; measured
CONSTANT = 1e-6  # ours: a feature whose sd is below this share of its mean is float32 rounding
BLOCK = 4096  # columns converted to float64 at a time; bounds the memory of raw pixels
RANK_TOL = 1e-12  # ours: squared singular values below this share of the largest are rounding
RIDGE = 1e-10  # ours: of the largest curvature, so that rounding leaves it positive; it changes the path, not the end
PAIRS = 10  # L-BFGS memory; usual
SUFFICIENT = 1e-4  # decrease, as a share of what the slope promises; usual
HALVINGS = 20  # ours: a step shorter than 1e-6 of the first means that the loss has no more digits
ROUGH = 1e-5  # ours: what float32 reaches: measured, its loss is off by 1e-6 to 1e-5 of itself
LOGITS = 2**19  # at a time on a CPU, which stay in its cache; measured
BLOCK_ROWS = 512  # at least, for the matrix products' sake
Pair = tuple[Tensor, Tensor, Tensor]  # a step, the change of the gradient along it, and that change preconditioned


@dataclass
class Problem:
    """`C * sum(cross-entropy) + |weight|**2 / 2`, the intercept free: scikit-learn's objective."""

    z: Tensor  # `[N, R]`, centred
    y: Tensor  # int64 `[N]` in [0, k), or in {0, 1} if k is 1
    k: int  # rows of weights: one a class, or a single one for two classes (the logit of class 1)
    C: float

    def __call__(self, w: Tensor) -> tuple[float, Tensor]:
        """Loss and gradient `[k, R + 1]` at weights `[k, R + 1]`, the intercept last."""
        weight, bias = w[:, :-1].contiguous(), w[:, -1]
        loss = (weight.double() ** 2).sum() / 2
        gradient = torch.zeros_like(w)
        step = max(BLOCK_ROWS, (LOGITS if w.device.type == "cpu" else 32 * LOGITS) // self.k)
        for start in range(0, len(self.z), step):
            z, y = self.z[start : start + step], self.y[start : start + step]
            logits = F.linear(z, weight, bias)
            if self.k == 1:
                target = y[:, None].to(w.dtype)
                losses = F.softplus(logits) - target * logits
                residual = logits.sigmoid_().sub_(target)
            else:
                logits = logits.log_softmax(1)
                losses = -logits.gather(1, y[:, None])
                residual = logits.exp_()
                residual.scatter_add_(1, y[:, None], residual.new_full((len(y), 1), -1.0))
            loss = loss + self.C * losses.double().sum()
            gradient[:, :-1].addmm_(residual.T, z, alpha=self.C)
            gradient[:, -1].add_(residual.sum(0), alpha=self.C)
        gradient[:, :-1] += weight
        return float(loss), gradient


@cache
def thread_pools() -> ThreadpoolController:
    """Those of the process, looked for once: that takes longer than a small fit."""
    return ThreadpoolController()


def gram(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products of the columns `[R, R]`."""
    with thread_pools().limit(limits=1, user_api="blas"):
        return np.asarray(z.T @ z)


def inverse_curvature(products: NDArray[np.float64], *, k: int, C: float) -> Tensor:
    """Inverse `[R, R]` of one class's block of the Hessian at equal probabilities, intercept left out.

    The inverse itself, because a product with it takes a twentieth of the time of triangular solves for a few classes.
    """
    share = 1 / max(k, 2)
    block = torch.from_numpy(products) * (C * share * (1 - share))
    block.diagonal().add_(1 + RIDGE * block.diagonal().amax())
    return torch.cholesky_inverse(torch.linalg.cholesky(block))


def minimise(
    problem: Problem, start: Tensor, inverse: Tensor, *, tol: float, max_iter: int
) -> tuple[Tensor, list[float]]:
    """L-BFGS until the decrease that the model still promises is below `tol` of the loss.

    In float64: the problem, `start` `[k, R + 1]` and `inverse` `[R, R]` of `inverse_curvature`. Gives the weights, and
    the loss before each iteration.
    """
    w, losses = start, list[float]()
    pairs: list[Pair] = []
    for dtype, enough in ((torch.float32, max(tol, ROUGH)), (torch.float64, tol)):
        part = Problem(problem.z.to(dtype), problem.y, problem.k, problem.C)
        pairs = [(a.to(dtype), b.to(dtype), c.to(dtype)) for a, b, c in pairs]
        w, pairs = _lbfgs(part, w.to(dtype), inverse.to(dtype), pairs, losses, tol=enough, max_iter=max_iter)
    return w, losses


def _lbfgs(
    problem: Problem,
    w: Tensor,
    inverse: Tensor,
    pairs: list[Pair],
    losses: list[float],
    *,
    tol: float,
    max_iter: int,
) -> tuple[Tensor, list[Pair]]:
    """The iterations in one precision; appends to `losses`."""
    share = 1 / max(problem.k, 2)
    bias_curvature = problem.C * share * (1 - share) * len(problem.z)
    loss, gradient = problem(w)

    def precondition(g: Tensor) -> Tensor:
        return torch.cat([g[:, :-1] @ inverse, g[:, -1:] / bias_curvature], dim=1)

    steepest = precondition(gradient)
    while len(losses) < max_iter:
        direction = _two_loops(gradient, steepest, pairs).neg_()
        slope = _dot(gradient, direction)
        if slope > 0 and pairs:  # rounding turned it uphill
            pairs = []
            continue
        if -slope / 2 <= tol * loss:
            break
        losses.append(loss)
        for halvings in range(HALVINGS):
            step = direction * 0.5**halvings
            new_loss, new_gradient = problem(w + step)
            if new_loss <= loss + SUFFICIENT * 0.5**halvings * slope:
                break
        else:
            if not pairs:
                break  # no more digits
            pairs = []
            continue
        new_steepest = precondition(new_gradient)
        pair = (step, new_gradient - gradient, new_steepest - steepest)
        if _dot(step, pair[1]) > 0 and _dot(pair[1], pair[2]) > 0:  # else only rounding is left of the curvature
            pairs = [*pairs, pair][-PAIRS:]
        w, loss, gradient, steepest = w + step, new_loss, new_gradient, new_steepest
    return w, pairs


def _two_loops(gradient: Tensor, steepest: Tensor, pairs: list[Pair]) -> Tensor:
    """L-BFGS's inverse Hessian times the gradient; `steepest` is the preconditioned gradient."""
    dots = [_dot(step, change) for step, change, _ in pairs]
    shares: list[float] = []
    q, p = gradient.clone(), steepest.clone()
    for (step, change, conditioned), dot in zip(reversed(pairs), reversed(dots), strict=True):
        shares.append(_dot(step, q) / dot)
        q.sub_(change, alpha=shares[-1])
        p.sub_(conditioned, alpha=shares[-1])
    if pairs:  # the scale of the last step
        p *= dots[-1] / _dot(pairs[-1][1], pairs[-1][2])
    for (step, change, _), dot, share in zip(pairs, dots, reversed(shares), strict=True):
        p.add_(step, alpha=share - _dot(change, p) / dot)
    return p


def _dot(a: Tensor, b: Tensor) -> float:
    return float(torch.dot(a.flatten(), b.flatten()))


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
