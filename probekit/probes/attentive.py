"""An attentive probe: one cross-attention over the frozen tokens of an image, then a linear classifier.

With standardised tokens x_t `[D]` of an image and weights a_t(q) = softmax over t of q.x_t / sqrt(D):

- "shared": one learned query with D / 64 heads, as CAPI's (arXiv 2502.08769). Head h has a query q_h and values V_h
  `[D/heads, D]`; its part of the embedding is V_h sum_t a_t(q_h) x_t, and a linear classifier takes all parts. A key
  projection W of a head that has one query is the query W'q, so there is none (arXiv 2506.10178).
- "class": a query q_k and a weight w_k for each class; its logit is w_k.sum_t a_t(q_k) x_t + b_k.

Of an image with one token both are a linear probe. Tokens stand still as float16, each dimension divided by its root
mean square first, so that none of them underflows.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from probekit.probes.protocol import validation_part

HEAD = 64  # dimensions of a head, as CAPI has them
INIT_SD = 0.02  # of queries, as CAPI, AIM and V-JEPA have them
RATES = (3e-4, 1e-3, 3e-3, 1e-2)  # ours; V-JEPA has 1e-3
USUAL = RATES[1]  # where nothing can be held out to choose by
EPOCHS, STEPS = 20, 600  # V-JEPA's epochs, and ours: at least so many steps, for small sets
BATCH = 64  # images a step; ours
WEIGHT_DECAY = 0.01  # of AdamW; torch's default
SCORED = 256  # images at a time that are only scored

Halves = NDArray[np.float16]


@dataclass(frozen=True)
class Tokens:
    """Frozen tokens of some images."""

    x: Halves  # `[N, T, D]`
    y: NDArray[np.int64]  # `[N]`, classes in [0, K)
    groups: NDArray[Any] | None = None  # as in `protocol.Part`


@dataclass(frozen=True)
class Trained:
    """A trained probe, how it came about, and what standardises its tokens, `[D]` each."""

    probe: nn.Module
    rate: float
    epochs: int
    note: str
    mean: Tensor
    scale: Tensor

    @torch.no_grad()
    def logits(self, x: Halves) -> NDArray[np.float64]:
        """`[N, T, D] -> [N, K]`."""
        found = [self.probe(self.standard(x[i : i + SCORED])).double().cpu() for i in range(0, len(x), SCORED)]
        return torch.cat(found).numpy()

    def standard(self, x: Halves) -> Tensor:
        """Standardised, float32, on the device."""
        return standardised(x, self.mean, self.scale)


class SharedQuery(nn.Module):
    """`[B, T, D] -> [B, K]`: one query of several heads for all classes."""

    def __init__(self, dim: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = next(h for h in range(max(1, dim // HEAD), 0, -1) if dim % h == 0)
        self.query = _drawn((self.heads, dim), INIT_SD, generator)
        self.value = _drawn((dim, dim), dim**-0.5, generator)
        self.weight = _drawn((classes, dim), dim**-0.5, generator)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of standardised tokens."""
        attention = (x @ self.query.T / math.sqrt(x.shape[2])).softmax(dim=1)  # [B, T, heads]
        seen = attention.transpose(1, 2) @ x  # [B, heads, D]
        values = self.value.view(self.heads, -1, x.shape[2])
        parts = torch.einsum("bhd,hed->bhe", seen, values)
        return F.linear(parts.flatten(1), self.weight, self.bias)


class ClassQueries(nn.Module):
    """`[B, T, D] -> [B, K]`: a query for each class."""

    def __init__(self, dim: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.query = _drawn((classes, dim), INIT_SD, generator)
        self.weight = _drawn((classes, dim), dim**-0.5, generator)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of standardised tokens."""
        attention = (x @ self.query.T / math.sqrt(x.shape[2])).softmax(dim=1)  # [B, T, K]
        return (attention * (x @ self.weight.T)).sum(dim=1) + self.bias


KINDS: Mapping[str, Callable[[int, int, torch.Generator], nn.Module]] = {"shared": SharedQuery, "class": ClassQueries}


def train_attentive(
    kind: str,
    train: Tokens,
    val: Tokens | None,
    *,
    classes: int,
    seed: int,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> Trained:
    """Trains a probe; rate and epochs are those with the lowest log-loss on `val`, or on a held-out part of train.

    Then one is trained on all of train as long, at that rate. `progress` is given the images done and in all. The seed
    decides the held-out part, the first weights and the order. At least one image, with a token or more.
    """
    fit, held = train, val
    if val is None:
        drawn = validation_part(train.y, seed=seed, groups=train.groups)
        fit, held = Tokens(train.x[~drawn], train.y[~drawn]), Tokens(train.x[drawn], train.y[drawn])
    assert held is not None
    known = np.isin(held.y, fit.y)
    held = Tokens(held.x[known], held.y[known])
    total, n = epochs_for(len(train.y)), len(train.y)

    def done(epochs: int) -> None:
        progress(epochs * n, 2 * total * n)

    rate, stop, note = USUAL, total, ""
    if len(held.y) and len(np.unique(fit.y)) > 1:
        _, losses = _run(kind, fit, held, RATES, total, total, classes, seed, device, done)
        best = np.unravel_index(int(losses.argmin()), losses.shape)  # of ties fewer epochs, then the lower rate
        rate, stop = RATES[int(best[1])], int(best[0]) + 1
    else:
        note = f"too few samples to choose on held-out data; rate {USUAL:g}, {total} epochs"
    (trained, *_), _ = _run(
        kind, train, None, (rate,), total, stop, classes, seed, device, lambda epochs: done(total + epochs)
    )
    done(2 * total)
    return Trained(trained.probe, rate, stop, note, trained.mean, trained.scale)


def epochs_for(n: int) -> int:
    """The epochs of the whole schedule for n training images: at least `EPOCHS`, and `STEPS` steps."""
    return max(EPOCHS, math.ceil(STEPS / math.ceil(n / BATCH)))


def standardised(x: Halves, mean: Tensor, scale: Tensor) -> Tensor:
    """Tokens `[N, T, D]` less `mean` `[D]` and times `scale` `[D]`, float32 on their device."""
    return (torch.from_numpy(np.ascontiguousarray(x)).to(mean.device).float() - mean) * scale


def _run(
    kind: str,
    train: Tokens,
    held: Tokens | None,
    rates: Sequence[float],
    total: int,
    stop: int,
    classes: int,
    seed: int,
    device: torch.device,
    done: Callable[[int], None],
) -> tuple[list[Trained], NDArray[np.float64]]:
    """Probes at several rates on the same batches for `stop` of `total` epochs; the log-loss of `held` after each.

    Cosine to 0 over `total` epochs. The losses are `[stop, rates]`.
    """
    mean, scale = _spread(train.x, device)
    dim, steps = train.x.shape[2], math.ceil(len(train.y) / BATCH)
    probes = [KINDS[kind](dim, classes, torch.Generator().manual_seed(seed)).to(device) for _ in rates]
    groups: list[dict[str, Any]] = [
        {"params": probe.parameters(), "lr": rate} for probe, rate in zip(probes, rates, strict=True)
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(1.0, step / (total * steps))))
    )
    order = torch.Generator().manual_seed(seed + 1)
    targets, losses = torch.from_numpy(train.y).to(device), np.empty((stop, len(rates)))
    found = [Trained(probe, rate, stop, "", mean, scale) for probe, rate in zip(probes, rates, strict=True)]
    for epoch in range(stop):
        for index in torch.split(torch.randperm(len(train.y), generator=order), BATCH):
            x = standardised(train.x[index.numpy()], mean, scale)
            loss = torch.stack([F.cross_entropy(probe(x), targets[index.to(device)]) for probe in probes]).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        if held is not None:
            losses[epoch] = _held_losses(found, held)
        done(epoch + 1)
    return found, losses


def _held_losses(found: Sequence[Trained], held: Tokens) -> list[float]:
    """The log-loss of each probe; infinite where it is no number."""
    y = torch.from_numpy(held.y)
    values = [float(F.cross_entropy(torch.from_numpy(one.logits(held.x)), y)) for one in found]
    return [value if math.isfinite(value) else math.inf for value in values]


def _spread(x: Halves, device: torch.device) -> tuple[Tensor, Tensor]:
    """The mean `[D]` of all tokens, and one over their standard deviation, 0 where they are all alike."""
    count, dim = x.shape[0] * x.shape[1], x.shape[2]
    first, second = np.zeros(dim), np.zeros(dim)
    blocks = [slice(i, i + SCORED) for i in range(0, len(x), SCORED)]
    for block in blocks:
        first += x[block].astype(np.float64).sum(axis=(0, 1))
    mean = first / count
    for block in blocks:
        second += ((x[block].astype(np.float64) - mean) ** 2).sum(axis=(0, 1))
    sd = np.sqrt(second / count)
    even = sd <= np.finfo(np.float16).eps * np.abs(mean)
    scale = np.where(even, 0.0, 1 / np.where(even, 1.0, sd))
    return torch.tensor(mean, dtype=torch.float32).to(device), torch.tensor(scale, dtype=torch.float32).to(device)


def _drawn(shape: tuple[int, ...], sd: float, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(sd * torch.randn(shape, generator=generator))
