"""Near-duplicates: copies that were saved anew, resized or brightened are found, other images are not, in little time.

Alone: pytest tests/data/test_duplicates.py; the table of docs/datasets.md: python -m tests.data.test_duplicates
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_sample_images

from probekit.data import duplicates
from probekit.data.duplicates import LENGTH, Signed, bits_of, clusters, report, search, sentences, signs_of

ROOT = Path(__file__).parents[2]
Image = NDArray[np.uint8]
SIDE = 80  # of a patch of the photographs: 70 of them


def resized(image: Image, share: float) -> Image:
    size = max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def saved(image: Image, quality: int) -> Image:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.uint8)


def trimmed(image: Image, share: float) -> Image:
    edge = max(1, round(image.shape[1] * share))
    return np.asarray(cv2.resize(image[edge:-edge, edge:-edge], image.shape[1::-1]), np.uint8)


CHANGES: dict[str, Callable[[Image], Image]] = {
    "an exact copy": lambda image: image.copy(),
    "a JPEG file of quality 90": lambda image: saved(image, 90),
    "a JPEG file of quality 50": lambda image: saved(image, 50),
    "80 % of the size, and back": lambda image: resized(image, 0.8),
    "half the size, and back": lambda image: resized(image, 0.5),
    "30 levels brighter": lambda image: np.asarray(cv2.add(image, np.full_like(image, 30)), np.uint8),
    "1.3 times as bright": lambda image: np.asarray(np.clip(image * 1.3, 0, 255), np.uint8),
    "3 % of each edge cut off": lambda image: trimmed(image, 0.03),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
}
FOUND = list(CHANGES)[:6]  # which this is for


@cache
def sets() -> dict[str, list[Image]]:
    digits = [cv2.resize(np.rint(each * 255 / 16).astype(np.uint8), (32, 32)) for each in load_digits().images]
    patches = [
        np.ascontiguousarray(photo[top : top + SIDE, left : left + SIDE])
        for photo in load_sample_images().images
        for top in range(0, photo.shape[0] - SIDE + 1, SIDE)
        for left in range(0, photo.shape[1] - SIDE + 1, SIDE)
    ]
    return {"digits": [np.asarray(each, np.uint8) for each in digits], "photographs": patches}


def rate(name: str, change: Callable[[Image], Image]) -> float:
    """The share of changed images whose own original is found among all."""
    images = sets()[name]
    chosen = np.random.default_rng(0).permutation(len(images))[:200]
    found = search(signs_of([change(images[k]) for k in chosen]), signs_of(images))
    return float((found == chosen).mean())


def false(name: str) -> float:
    """The share of a third of the images that have a near-duplicate among the others, which are other images."""
    images = sets()[name]
    order = np.random.default_rng(0).permutation(len(images))
    signs = signs_of(images)
    third = len(images) // 3
    return float((search(signs[order[:third]], signs[order[third:]]) >= 0).mean())


def rates() -> str:
    """The table, as it stands in docs/datasets.md."""
    lines = ["| share found of | 32 px digits | 80 px patches of photographs |", "|---|---|---|"]
    lines += [
        f"| {what} | {rate('digits', how):.2f} | {rate('photographs', how):.2f} |" for what, how in CHANGES.items()
    ]
    return "\n".join([*lines, f"| other images, by mistake | {false('digits'):.3f} | {false('photographs'):.3f} |"])


@pytest.mark.parametrize("what", FOUND)
@pytest.mark.parametrize("name", ["digits", "photographs"])
def test_changed_copies_are_found(name: str, what: str) -> None:
    assert rate(name, CHANGES[what]) >= (0.99 if name == "digits" or what == "an exact copy" else 0.83)


def test_other_images_are_hardly_found() -> None:
    assert false("digits") <= 0.01
    assert false("photographs") == 0


def test_the_rates_in_the_docs_are_these() -> None:
    """Up to what another version of OpenCV rounds."""
    text = (ROOT / "docs/datasets.md").read_text()
    for line in rates().splitlines()[2:]:
        what, *values = (cell.strip() for cell in line.strip("|").split("|"))
        [row] = [each for each in text.splitlines() if each.startswith(f"| {what} |")]
        there = [cell.strip() for cell in row.strip("|").split("|")][1:]
        np.testing.assert_allclose(np.array(there, float), np.array(values, float), atol=0.03)


def made_up(n: int, seed: int = 0) -> Any:
    """Signs of smooth random images."""
    rough = np.random.default_rng(seed).integers(0, 256, (n, 6, 6), dtype=np.uint8)
    return signs_of([np.asarray(cv2.resize(each, (16, 16), interpolation=cv2.INTER_CUBIC), np.uint8) for each in rough])


def test_it_finds_what_comparing_all_with_all_finds() -> None:
    """Pairs that differ in 6 bits at most, among many; the reference compares every pair."""
    known = made_up(120)
    rng = np.random.default_rng(1)
    asked = known[rng.permutation(120)[:50]].copy()
    asked[:, :256] = np.clip(asked[:, :256] + rng.normal(0, 3, (50, 256)), 0, 255).astype(np.uint8)
    apart = np.bitwise_count(bits_of(asked)[:, None] ^ bits_of(known)[None])
    expected = np.full(50, -1)
    for row in range(50):
        a = asked[row, :256].astype(float)
        likeness = [np.corrcoef(a, known[k, :256].astype(float))[0, 1] for k in range(120)]
        near = [k for k in range(120) if likeness[k] > 0.995 and apart[row, k] <= 6]
        expected[row] = max(near, key=lambda k: likeness[k], default=-1)
    assert (expected >= 0).mean() > 0.8
    found = search(asked, known)
    np.testing.assert_array_equal(found[expected >= 0], expected[expected >= 0])


def test_the_bits_are_those_of_a_cosine_transform() -> None:
    """The low frequencies of SciPy's, but for the mean, around their median."""
    from scipy.fft import dctn

    signs = made_up(20)
    for sign, bits in zip(signs, bits_of(signs), strict=True):
        low = dctn(sign[:256].reshape(16, 16).astype(float))[:8, :8].ravel()[1:]
        above = low > np.median(low) + 4 * duplicates.MARGIN  # SciPy doubles the sum of each axis
        text = "".join("1" if each else "0" for each in above) + "0"
        assert int(text, 2) == int(bits)


def test_colour_tells_images_apart() -> None:
    grey = np.asarray(cv2.resize(made_up(1)[0, :256].reshape(16, 16), (40, 40)), np.uint8)
    red, green = np.stack([grey, grey * 0, grey * 0], -1), np.stack([grey * 0, grey, grey * 0], -1)
    assert search(signs_of([red]), signs_of([green])).tolist() == [-1]
    assert search(signs_of([red]), signs_of([green, red])).tolist() == [1]


def test_blank_images_are_copies_of_their_own_brightness() -> None:
    blank = [np.full((20, 20), level, np.uint8) for level in (0, 255)]
    assert search(signs_of(blank), signs_of(blank)).tolist() == [0, 1]
    assert search(np.empty((0, LENGTH), np.uint8), signs_of(blank)).tolist() == []


def test_very_many_that_are_alike_take_bounded_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window of candidates on either side, in each of 28 orders."""
    signs = np.repeat(made_up(1), 300, axis=0)
    signs[:, :256] = np.clip(signs[:, :256] + np.random.default_rng(0).integers(-1, 2, (300, 256)), 0, 255)
    looked: list[int] = []
    compared = duplicates._compared

    def counted(a: Any, b: Any) -> Any:
        looked.append(len(a))
        return compared(a, b)

    monkeypatch.setattr(duplicates, "_compared", counted)
    assert (search(signs[:100], signs[100:]) >= 0).all()
    assert sum(looked) <= 100 * 28 * 2 * duplicates.WINDOW


def test_clusters_hold_copies_of_copies_together() -> None:
    images = [each for each in sets()["photographs"] if each.std() > 40][:30]
    twice = [*images, *(saved(image, 90) for image in images), *images]
    groups = clusters(signs_of(twice))
    assert len(set(groups.tolist())) == 30
    np.testing.assert_array_equal(groups[:30], groups[60:])
    assert (groups[:30] == groups[30:60]).all()


def test_what_is_said() -> None:
    images = sets()["photographs"]
    parts: dict[str, Sequence[Image]] = {
        "train": images[:40],
        "val": images[40:50],
        "test": [*images[50:60], images[7]],
    }
    signed = {name: Signed([f"{name}/{k}" for k in range(len(own))], signs_of(own)) for name, own in parts.items()}
    found = report(signed)
    assert {pair: about["n"] for pair, about in found.items()} == {
        "val in train": 0,
        "test in train": 1,
        "test in val": 0,
    }
    lines = sentences(found, Path("a b.h5"))
    assert lines[0] == "1 of 11 test images have a near-duplicate in train: 'test/10' is like 'train/7'"
    assert "probekit split 'a b.h5' --join --test-fraction 0.2 --group duplicates, with --val-fraction 0.1" in lines[1]
    del found["test in train"]
    assert sentences(found, Path("a.h5")) == ["no near-duplicates: val in train, test in val"]


if __name__ == "__main__":
    print(rates())


def test_a_crowd_of_near_constant_images_is_compared_with_a_bounded_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """All have the same bits, and none is a near-duplicate: noise of two levels says nothing."""
    signs = np.full((400, LENGTH), 128, np.uint8)
    noise = np.random.default_rng(0).integers(-3, 4, (400, 256))
    signs[:, :256] = (128 + noise).astype(np.uint8)
    pairs, compare = [0], duplicates._compared

    def counted(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Any:
        pairs[0] += len(a)
        return compare(a, b)

    monkeypatch.setattr(duplicates, "_compared", counted)
    assert (search(signs[:200], signs[200:]) == -1).all()
    assert 200 * duplicates.ENOUGH <= pairs[0] <= 200 * (duplicates.ENOUGH + 2 * duplicates.WINDOW)
    flat = np.full((200, LENGTH), 128, np.uint8)
    flat[:, 0] += np.arange(200, dtype=np.uint8) % 3
    assert (search(flat[:100], flat[100:]) >= 0).all(), "these are alike"
