"""The optimum of multinomial logistic regression: L-BFGS, preconditioned with the curvature at the start.

At weight zero all probabilities are equal, and each class has the same block of the Hessian: the covariance of the
features plus the penalty. Its inverse in place of L-BFGS's multiple of the identity makes the iterations few (tens,
not hundreds or thousands) and independent of the features' scales and correlations. Each costs two matrix products;
most are done in float32, the last in float64. Rows are taken in blocks, so that no `[N, K]` array is ever whole.

L-BFGS: Nocedal and Wright, Numerical Optimization, chapter 7. The bound on the curvature: Böhning 1992.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

RIDGE = 1e-10  # ours: of the largest curvature, so that rounding leaves it positive; it changes the path, not the end
PAIRS = 10  # L-BFGS memory; usual
SUFFICIENT = 1e-4  # decrease, as a share of what the slope promises; usual
HALVINGS = 20  # ours: a step shorter than 1e-6 of the first means that the loss has no more digits
ROUGH = 1e-5  # ours: what float32 reaches: measured, its loss is off by 1e-6 to 1e-5 of itself
BLOCK = 2**19  # logits at a time on a CPU, which stay in its cache; measured
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
        step = max(BLOCK_ROWS, (BLOCK if w.device.type == "cpu" else 32 * BLOCK) // self.k)
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
