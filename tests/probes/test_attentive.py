"""The attentive probe: its formulas as loops, what it is of one token, what it finds, and what chooses its settings.

Alone: pytest tests/probes/test_attentive.py
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from probekit.h5 import read_info, read_split
from probekit.probes import attentive
from probekit.probes.attentive import KINDS, ClassQueries, SharedQuery, Tokens, Trained, epochs_for, train_attentive
from probekit.probes.frozen import Frozen
from probekit.probes.protocol import Part, probe
from probekit.restore.load import load
from tests.datasets import small_shapes

CPU = torch.device("cpu")


def drawn(kind: str, dim: int, classes: int, seed: int = 0) -> torch.nn.Module:
    """With weights so large that attention is far from even."""
    probe = KINDS[kind](dim, classes, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for weight in probe.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed + weight.numel())))
    return probe


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]


def test_the_shared_query_is_its_formula() -> None:
    dim, classes = 128, 3
    head = drawn("shared", dim, classes)
    assert isinstance(head, SharedQuery)
    assert head.heads == 2, "a head for every 64 dimensions"
    x = torch.randn(2, 5, dim, generator=torch.Generator().manual_seed(1))
    for image, logits in zip(x.tolist(), head(x).tolist(), strict=True):
        parts: list[float] = []
        for part in range(2):
            query = head.query[part].tolist()
            share = softmax([sum(q * t for q, t in zip(query, token, strict=True)) / math.sqrt(dim) for token in image])
            seen = [sum(a * token[d] for a, token in zip(share, image, strict=True)) for d in range(dim)]
            for row in head.value[64 * part : 64 * part + 64].tolist():
                parts.append(sum(v * s for v, s in zip(row, seen, strict=True)))
        expected = [
            sum(w * p for w, p in zip(row, parts, strict=True)) + bias
            for row, bias in zip(head.weight.tolist(), head.bias.tolist(), strict=True)
        ]
        assert logits == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_the_shared_query_is_what_an_attention_of_torch_with_projections_makes_of_one() -> None:
    """CAPI's probe, and torch's own attention: the projections of queries and keys are a part of each head's query."""
    dim, heads, size = 128, 2, 64
    head = drawn("shared", dim, 3)
    assert isinstance(head, SharedQuery)
    attention = torch.nn.MultiheadAttention(dim, heads, bias=False, batch_first=True)
    generator = torch.Generator().manual_seed(2)
    query, x = torch.randn(dim, generator=generator), torch.randn(2, 5, dim, generator=generator)
    with torch.no_grad():
        attention.in_proj_weight.copy_(0.3 * torch.randn(3 * dim, dim, generator=generator))
        of_query, of_key, of_value = torch.split(attention.in_proj_weight, dim)
        parts = zip(torch.split(of_query @ query, size), torch.split(of_key, size), strict=True)
        head.query.copy_(torch.stack([key.T @ q for q, key in parts]) * (dim / size) ** 0.5)
        head.value.copy_(of_value)
        attention.out_proj.weight.copy_(torch.eye(dim))
        seen, _ = attention(query.expand(2, 1, dim), x, x)
        expected = torch.nn.functional.linear(seen[:, 0], head.weight, head.bias)
        torch.testing.assert_close(head(x), expected, rtol=1e-3, atol=1e-2)


def test_a_query_a_class_is_its_formula() -> None:
    dim, classes = 6, 3
    head = drawn("class", dim, classes)
    assert isinstance(head, ClassQueries)
    x = torch.randn(2, 5, dim, generator=torch.Generator().manual_seed(1))
    for image, logits in zip(x.tolist(), head(x).tolist(), strict=True):
        for k in range(classes):
            query, weight = head.query[k].tolist(), head.weight[k].tolist()
            share = softmax([sum(q * t for q, t in zip(query, token, strict=True)) / math.sqrt(dim) for token in image])
            seen = [sum(a * token[d] for a, token in zip(share, image, strict=True)) for d in range(dim)]
            assert logits[k] == pytest.approx(
                sum(w * s for w, s in zip(weight, seen, strict=True)) + head.bias[k].item(), rel=1e-4, abs=1e-4
            )


@pytest.mark.parametrize("kind", KINDS)
def test_of_one_token_it_is_a_linear_probe(kind: str) -> None:
    """Affine, whatever the queries are; and so is the probe of an image whose tokens are all alike."""
    head = drawn(kind, 64, 4)
    generator = torch.Generator().manual_seed(5)
    a, b = (torch.randn(3, 1, 64, generator=generator) for _ in range(2))
    with torch.no_grad():
        mixed = head(0.3 * a + 0.7 * b)
        torch.testing.assert_close(mixed, 0.3 * head(a) + 0.7 * head(b), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(head(a.expand(3, 7, 64)), head(a), rtol=1e-3, atol=1e-3)
        next(p for name, p in head.named_parameters() if name == "query").mul_(-2)
        torch.testing.assert_close(head(0.3 * a + 0.7 * b), mixed)


def hidden(n: int, seed: int, *, tokens: int = 16, dim: int = 16) -> Tokens:
    """The class is the sign of one token, at a random place, which has a mark; all others have random signs."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    x = 0.1 * rng.normal(size=(n, tokens, dim))
    x[:, :, 0] = rng.choice([-1.0, 1.0], size=(n, tokens))
    place = rng.integers(tokens, size=n)
    x[np.arange(n), place, 0] = 2.0 * y - 1
    x[np.arange(n), place, 1] = 3.0  # the mark
    return Tokens(x.astype(np.float16), y.astype(np.int64))


def trained(kind: str, train: Tokens, val: Tokens | None = None, *, seed: int = 0, classes: int = 2) -> Trained:
    return train_attentive(kind, train, val, classes=classes, seed=seed, device=CPU, progress=lambda done, of: None)


def accuracy(logits: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    return float((logits.argmax(axis=1) == y).mean())


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps at two rates."""
    monkeypatch.setattr(attentive, "STEPS", 12)
    monkeypatch.setattr(attentive, "EPOCHS", 6)
    monkeypatch.setattr(attentive, "RATES", (1e-3, 1e-2))


@pytest.mark.parametrize("kind", KINDS)
def test_it_finds_what_is_in_one_token_and_the_mean_does_not(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attentive, "RATES", (1e-2, 3e-2))
    monkeypatch.setattr(attentive, "STEPS", 200)
    train, test = hidden(256, 0), hidden(256, 1)
    found = trained(kind, train)
    assert accuracy(found.logits(test.x), test.y) > 0.97
    means = [Part(part.x.astype(np.float32).mean(1), part.y) for part in (train, test)]
    linear = probe("mean", "encoder", *means, classes=("a", "b"), protocol="tuned", seed=0)
    assert linear["accuracy"] < 0.75


@pytest.mark.usefixtures("short")
def test_it_is_repeatable_bit_for_bit_and_another_seed_is_another_probe() -> None:
    train, test = hidden(64, 0), hidden(32, 1)
    first, again, other = (trained("shared", train, seed=seed).logits(test.x) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.usefixtures("short")
def test_rate_and_epochs_are_chosen_on_val_and_all_of_train_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where val's labels are wrong, the shortest and slowest training does the least harm there; train is the same."""
    train = hidden(64, 0)
    right, harmed = trained("shared", train, train), trained("shared", train, Tokens(train.x, 1 - train.y))
    assert harmed.epochs < right.epochs
    assert (harmed.epochs, harmed.rate) == (1, min(attentive.RATES))
    fitted: list[int] = []
    run = attentive._run

    def counted(kind: str, part: Tokens, *rest: Any) -> Any:
        fitted.append(len(part.y))
        return run(kind, part, *rest)

    monkeypatch.setattr(attentive, "_run", counted)
    trained("class", train)
    assert fitted == [52, 64], "a fifth is held out; then all are used"


def test_epochs_are_published_ones_or_enough_steps() -> None:
    assert epochs_for(50_000) == 20
    assert epochs_for(64) == 600
    assert epochs_for(1000) == math.ceil(600 / 16)


@pytest.mark.usefixtures("short")
def test_a_class_of_one_image_leaves_nothing_to_choose_by() -> None:
    few = Tokens(hidden(2, 0).x, np.array([0, 1]))
    found = trained("shared", few)
    assert "too few samples" in found.note
    assert np.isfinite(found.logits(few.x)).all()


@pytest.mark.usefixtures("short")
def test_the_scale_of_a_dimension_does_not_count_and_one_that_never_changes_does_no_harm() -> None:
    train, test = hidden(64, 0), hidden(16, 1)
    plain = trained("shared", train).logits(test.x)
    scale = np.ones(16, np.float16)
    scale[:3] = 64, 1 / 16, 256
    scaled = [Tokens(part.x * scale, part.y) for part in (train, test)]
    np.testing.assert_allclose(trained("shared", scaled[0]).logits(scaled[1].x), plain, rtol=1e-3, atol=1e-4)
    for part in scaled:
        part.x[:, :, 9] = 7
    assert np.isfinite(trained("shared", scaled[0]).logits(scaled[1].x)).all()


def test_frozen_tokens_are_the_cells_of_the_map_in_float16_and_memory_is_bounded(tmp_path: Path) -> None:
    small_shapes(tmp_path / "d.h5", n=12, n_test=4, size=16)
    info = read_info(tmp_path / "d.h5")
    opened = load("unet", size=16, channels=1)
    with torch.no_grad():
        for weight in opened.encoder.parameters():
            weight.mul_(0.7)  # features that float16 could not hold as they are
    frozen = Frozen.of(opened, info)
    index = frozen.kept("train", 0)
    assert index.tolist() == list(range(12))
    found = frozen.read("train", index)
    maps = opened.map(read_split(info.path, "train").images).flatten(2).transpose(1, 2)
    assert found.dtype == np.float16
    assert found.shape == maps.shape == (12, *frozen.shape)
    np.testing.assert_allclose(found, maps / frozen.size, rtol=2e-3, atol=1e-3)
    bytes_each = 2 * found.shape[1] * found.shape[2]
    fewer = frozen.kept("train", 0, most=5 * bytes_each)
    assert len(fewer) == 5
    assert (np.diff(fewer) > 0).all()
    np.testing.assert_array_equal(frozen.read("train", fewer), found[fewer])
    assert not np.array_equal(fewer, frozen.kept("train", 1, most=5 * bytes_each))
