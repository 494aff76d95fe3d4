"""Each loss against lightly's and against the paper's formula in loops; where gradients stop.

Alone: pytest tests/methods/test_losses.py
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from probekit.methods.barlow_twins import cross_correlation_loss
from probekit.methods.losses import info_nce, negative_cosine, sinkhorn, swapped_cross_entropy
from probekit.methods.vicreg import vicreg_terms
from tests.methods.batches import unit

SIZES = [(2, 3), (8, 5), (16, 32), (33, 7)]  # batch smaller and larger than the width


def pair(batch: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z1 = torch.randn(batch, dim, generator=generator)
    return z1, 0.5 * z1 + torch.randn(batch, dim, generator=generator)


def assert_close(found: Tensor, expected: Tensor | float) -> None:
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(expected), rel=1e-5, abs=1e-5)


# --- InfoNCE.


def info_nce_in_loops(query: Tensor, key: Tensor, negatives: Tensor, temperature: float) -> float:
    q, k, n = unit(query), unit(key), unit(negatives)
    losses = []
    for i in range(len(q)):
        own = math.exp(float(q[i] @ k[i]) / temperature)
        others = sum(math.exp(float(q[i] @ row) / temperature) for row in n)
        losses.append(-math.log(own / (own + others)))
    return sum(losses) / len(losses)


@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 9), st.floats(0.05, 1.0), st.integers(0, 99))
@settings(max_examples=30)
def test_info_nce_is_equation_1(batch: int, dim: int, count: int, temperature: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    query, key, negatives = (torch.randn(n, dim, generator=generator) for n in (batch, batch, count))
    found = info_nce(query, unit(key).float(), unit(negatives).float(), temperature=temperature)
    expected = info_nce_in_loops(query, key, negatives, temperature)
    assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_info_nce_is_lightlys_with_a_memory_bank() -> None:
    from lightly.loss import NTXentLoss

    query, key = pair(8, 16)
    theirs = NTXentLoss(temperature=0.2, memory_bank_size=(40, 16))
    negatives = theirs.memory_bank.bank.clone()
    assert_close(info_nce(query, unit(key).float(), negatives, temperature=0.2), theirs(query, key))


def test_without_negatives_there_is_nothing_to_learn() -> None:
    query = pair(4, 8)[0].requires_grad_()
    loss = info_nce(query, unit(pair(4, 8)[1]).float(), torch.empty(0, 8), temperature=0.2)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert query.grad is not None
    assert not query.grad.any()


def test_with_the_other_keys_as_negatives_it_is_the_cross_entropy_of_the_similarities() -> None:
    """MoCo without its queue: for each query the keys of the batch, its own on the diagonal."""
    query, key = pair(6, 16)
    keys = unit(key).float()
    apart = [info_nce(query[i : i + 1], keys[i : i + 1], keys[torch.arange(6) != i], temperature=0.2) for i in range(6)]
    logits = unit(query).float() @ keys.T / 0.2
    assert_close(torch.stack(apart).mean(), torch.nn.functional.cross_entropy(logits, torch.arange(6)))


def test_chance_of_info_nce_is_the_log_of_the_number_of_keys() -> None:
    ones = torch.ones(4, 8)
    assert_close(info_nce(ones, unit(ones).float(), unit(torch.ones(31, 8)).float(), temperature=0.2), math.log(32))


# --- Cosine.


@pytest.mark.parametrize(("batch", "dim"), SIZES)
def test_negative_cosine_is_the_formula_and_lightlys(batch: int, dim: int) -> None:
    from lightly.loss import NegativeCosineSimilarity

    p, z = pair(batch, dim)
    loops = [float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)) for a, b in zip(p.double(), z.double(), strict=True)]
    assert_close(negative_cosine(p, z), -sum(loops) / batch)
    assert_close(negative_cosine(p, z), NegativeCosineSimilarity()(p, z))


def test_targets_get_no_gradient() -> None:
    p, z = (x.requires_grad_() for x in pair(4, 8))
    negative_cosine(p, z).backward()  # type: ignore[no-untyped-call]
    assert p.grad is not None
    assert p.grad.any()
    assert z.grad is None


# --- Barlow Twins.


@pytest.mark.parametrize(("batch", "dim"), SIZES)
def test_cross_correlation_is_the_formula_and_lightlys(batch: int, dim: int) -> None:
    from lightly.loss import BarlowTwinsLoss

    z1, z2 = pair(batch, dim)
    a, b = (z.double().numpy() for z in (z1, z2))
    a, b = ((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5) for z in (a, b))  # batch norm's variance and epsilon
    expected = 0.0
    for i in range(dim):
        for j in range(dim):
            c = float((a[:, i] * b[:, j]).sum()) / batch
            expected += (1 - c) ** 2 if i == j else 0.0051 * c**2
    found = cross_correlation_loss(z1, z2, off_diagonal=0.0051)
    assert_close(found, expected)
    assert_close(found, BarlowTwinsLoss(lambda_param=0.0051)(z1, z2))


def test_features_that_never_change_are_finite_and_get_a_gradient() -> None:
    z = torch.ones(4, 3, requires_grad=True)
    loss = cross_correlation_loss(z, z, off_diagonal=0.005)
    loss.backward()  # type: ignore[no-untyped-call]
    assert_close(loss.detach(), 3.0)
    assert z.grad is not None
    assert z.grad.isfinite().all()


# --- VICReg.


@pytest.mark.parametrize(("batch", "dim"), SIZES)
def test_vicreg_is_the_formula_and_lightlys(batch: int, dim: int) -> None:
    from lightly.loss import VICRegLoss

    z1, z2 = pair(batch, dim)
    z1 = 0.3 * z1  # a deviation below 1, so that the hinge acts
    a, b = z1.double().numpy(), z2.double().numpy()
    invariance = sum((a[n, j] - b[n, j]) ** 2 for n in range(batch) for j in range(dim)) / (batch * dim)
    variance = covariance = 0.0
    for z in (a, b):
        mean = z.sum(0) / batch
        for i in range(dim):
            spread = math.sqrt(((z[:, i] - mean[i]) ** 2).sum() / (batch - 1) + 1e-4)
            variance += max(0.0, 1 - spread) / dim / 2
            for j in range(dim):
                if i != j:
                    c = ((z[:, i] - mean[i]) * (z[:, j] - mean[j])).sum() / (batch - 1)
                    covariance += c**2 / dim
    terms = vicreg_terms(z1, z2)
    for found, expected in zip(terms, (invariance, variance, covariance), strict=True):
        assert_close(found, expected)
    theirs = VICRegLoss(lambda_param=25.0, mu_param=25.0, nu_param=1.0)(z1, z2)
    assert_close(25 * terms[0] + 25 * terms[1] + terms[2], theirs)


# --- Sinkhorn.


def official_sinkhorn(scores: Tensor, *, epsilon: float, iterations: int) -> np.ndarray:
    """In the order of SwAV's official code, one matrix [K, B] that is divided in turn, in float64."""
    q = np.exp(scores.double().numpy() / epsilon).T
    q /= q.sum()
    K, B = q.shape
    for _ in range(iterations):
        q /= q.sum(1, keepdims=True)
        q /= K
        q /= q.sum(0, keepdims=True)
        q /= B
    q *= B
    return q.T


def cosines(n: int, k: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    z, c = (unit(torch.randn(rows, 6, generator=generator)).float() for rows in (n, k))
    return z @ c.T


@pytest.mark.parametrize(("n", "k"), [(4, 3), (16, 8), (7, 20)])
@pytest.mark.parametrize("epsilon", [0.05, 0.03])
@pytest.mark.parametrize("iterations", [1, 3])
def test_sinkhorn_is_the_official_order_and_lightlys(n: int, k: int, epsilon: float, iterations: int) -> None:
    from lightly.loss.swav_loss import sinkhorn as theirs

    scores = cosines(n, k)
    found = sinkhorn(scores, epsilon=epsilon, iterations=iterations)
    np.testing.assert_allclose(
        found.numpy(), official_sinkhorn(scores, epsilon=epsilon, iterations=iterations), atol=1e-5
    )
    torch.testing.assert_close(found, theirs(scores, iterations, epsilon), rtol=1e-4, atol=1e-5)


def test_sinkhorns_marginals() -> None:
    """Each sample's codes add up to 1 after any number of iterations; the use of prototypes evens out with them."""
    scores = cosines(24, 6)
    uneven = []
    for iterations in (1, 3, 100):
        q = sinkhorn(scores, epsilon=0.05, iterations=iterations)
        torch.testing.assert_close(q.sum(1), torch.ones(24))
        uneven.append(float((q.sum(0) - 24 / 6).abs().max()))
    assert uneven[0] > uneven[1] > uneven[2]
    assert uneven[2] < 1e-3


def test_rows_without_weight_are_as_if_they_were_not_there() -> None:
    scores = cosines(12, 5)
    weight = torch.tensor([0.0] * 7 + [1.0] * 5)
    q = sinkhorn(scores, epsilon=0.05, iterations=3, weight=weight)
    torch.testing.assert_close(q[7:], sinkhorn(scores[7:], epsilon=0.05, iterations=3))
    assert not q[:7].any()
    assert not torch.allclose(q[7:], sinkhorn(scores, epsilon=0.05, iterations=3)[7:], atol=1e-3)


def test_sinkhorn_is_finite_where_exp_would_not_be() -> None:
    q = sinkhorn(torch.tensor([[1.0, -1.0], [0.9, -0.9]]), epsilon=0.01, iterations=3)  # exp(100)
    torch.testing.assert_close(q.sum(1), torch.ones(2))


# --- The swapped prediction.


@pytest.mark.parametrize("local", [0, 3])
def test_swapped_prediction_is_the_sum_over_other_crops_and_lightlys(local: int) -> None:
    from lightly.loss import SwaVLoss

    scores = [cosines(5, 4, seed=v) for v in range(2 + local)]
    codes = [sinkhorn(s, epsilon=0.05, iterations=3) for s in scores[:2]]
    total, count = 0.0, 0
    for i, q in enumerate(codes):
        for v, score in enumerate(scores):
            if v == i:
                continue
            for b in range(5):
                log_sum = math.log(sum(math.exp(float(s) / 0.1) for s in score[b]))
                total -= sum(float(q[b, k]) * (float(score[b, k]) / 0.1 - log_sum) for k in range(4)) / 5
            count += 1
    found = swapped_cross_entropy(torch.stack(codes), torch.stack(scores) / 0.1)
    assert_close(found, total / count)
    assert_close(found, SwaVLoss()(scores[:2], scores[2:]).squeeze())


def test_even_predictions_cost_ln_k() -> None:
    codes = torch.stack([sinkhorn(cosines(5, 4, seed=v), epsilon=0.05, iterations=3) for v in range(2)])
    assert_close(swapped_cross_entropy(codes, torch.ones(3, 5, 4)), math.log(4))
