"""What a generator promises whose classes only the whole tells apart; each test file of one uses it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from generators import Generator
from generators.certify import equal_multisets
from generators.raster import Pixels

Floats = NDArray[np.float64]
PATCHES = ((9, 1), (5, 1), (3, 1), (3, 2), (3, 4))  # side, dilation
APART = 9  # px at 128 between the pixels of things of which one moves: a patch of that side sees one alone


def pairs(generator: Generator, n: int, *, seed: int = 0) -> Pixels:
    """Images `[2, n, H, W]` of class 0 and of class 1 that differ in nothing else; which is the sample alternates."""
    factors = generator.sample(seed, "train", np.arange(n))
    other = generator.counterfactual(factors, generator.class_factors[0])
    images = np.stack((generator.render_images(factors), generator.render_images(other)))
    labels = generator.labels(factors)
    return np.where(labels[:, None, None] == 0, images, images[::-1])


def check_exact(generator: Generator, n: int = 60) -> None:
    """Both classes have the same multiset of patches, pair by pair, and the pairs are no copies."""
    zero, one = pairs(generator, n)
    assert (zero != one).any(axis=(1, 2)).all()
    for side, dilation in PATCHES:
        assert equal_multisets(zero, one, side, dilation).all(), (side, dilation)


def check_read(generator: Generator, n: int = 60) -> None:
    """The ideal reader is right of every image and of its counterfactual."""
    name = generator.class_factors[0]
    factors = generator.sample(1, "train", np.arange(n))
    for rows in (factors, generator.counterfactual(factors, name)):
        assert np.array_equal(generator.read(generator.render_images(rows))[name], rows[name])


def check_leak_free(generator: Generator, n: int = 200) -> None:
    """Neither scalars nor a ridge on raw pixels tell the classes apart, among all images and within pairs.

    4 standard errors: of an AUC .029 at 200 + 200, of a share of 200 pairs .035.
    """
    zero, one = pairs(generator, n, seed=2)
    found = {name: (values(zero), values(one)) for name, values in SCALARS.items()}
    weights, middle = ridge(*pairs(generator, n, seed=3))
    found["pixels"] = (flat(zero - middle) @ weights, flat(one - middle) @ weights)
    for name, (a, b) in found.items():
        assert abs(auc(a, b) - 0.5) < 4 * 0.029, name
        assert abs((b > a).mean() + (b == a).mean() / 2 - 0.5) < 4 * 0.035, name


def check_apart(generator: Generator, moving: tuple[str, ...], n: int = 60) -> None:
    """In both versions what may move is APART px from the rest of the ink, across or down, and from the border."""
    factors = generator.sample(4, "train", np.arange(n))
    other = generator.counterfactual(factors, generator.class_factors[0])
    reach = APART - 1
    for rows in (factors, other):
        masks = generator.render(rows).masks
        bits = [1 << generator.mask_names.index(name) for name in generator.objects]
        for k in map(generator.objects.index, moving):
            rest = (masks & np.uint8(sum(bits) - bits[k])) > 0
            for mine, others in zip(masks & bits[k], rest, strict=True):
                ys, xs = np.nonzero(mine)
                assert min(ys.min(), xs.min()) >= reach
                assert max(ys.max(), xs.max()) < len(mine) - reach
                assert not swollen(mine, reach)[others].any()


def swollen(mask: Pixels, reach: int) -> NDArray[np.bool_]:
    """The pixels that are at most `reach` across and down from one of the mask."""
    grown = np.asarray(mask > 0)
    for axis in (0, 1):
        steps = [np.roll(grown, step, axis) for step in range(-reach, reach + 1)]
        grown = np.asarray(np.any(steps, axis=0))
    return grown


def flat(images: Floats) -> Floats:
    return images.reshape(len(images), -1) / 255.0


def ridge(zero: Pixels, one: Pixels, penalty: float = 0.1) -> tuple[Floats, Floats]:
    """Weights of pixels, and the mean image."""
    images = np.concatenate((zero, one)).astype(np.float64)
    middle = images.mean(axis=0)
    x = flat(images - middle)
    kernel = x @ x.T
    target = np.repeat((-1.0, 1.0), (len(zero), len(one)))
    return x.T @ np.linalg.solve(kernel + penalty * np.trace(kernel) / len(x) * np.eye(len(x)), target), middle


def auc(zero: Floats, one: Floats) -> float:
    ranks = rankdata(np.concatenate((zero, one)))[len(zero) :]
    return float((ranks.sum() - len(one) * (len(one) + 1) / 2) / (len(zero) * len(one)))


def perimeter(images: Pixels) -> Floats:
    across, down = images[:, :, 1:] != images[:, :, :-1], images[:, 1:] != images[:, :-1]
    return np.asarray(across.sum(axis=(1, 2)) + down.sum(axis=(1, 2)), np.float64)


def euler(images: Pixels) -> Floats:
    """Euler number with diagonal neighbours (Gray 1971): of 2 x 2 windows, those with 1 pixel, 3, and 2 aslant."""
    ink = np.pad(images > 0, ((0, 0), (1, 1), (1, 1))).astype(np.int64)
    corners = ink[:, :-1, :-1], ink[:, :-1, 1:], ink[:, 1:, :-1], ink[:, 1:, 1:]
    total = sum(corners)
    aslant = (total == 2) & (corners[0] == corners[3])
    return np.asarray(((total == 1) * 1.0 - (total == 3) - 2.0 * aslant).sum(axis=(1, 2)) / 4.0)


def side(axis: int, last: bool) -> Callable[[Pixels], Floats]:
    def found(images: Pixels) -> Floats:
        held = np.any(images > 0, axis=axis)
        return np.asarray(np.argmax(held[:, ::-1] if last else held, axis=1), np.float64)

    return found


SCALARS: dict[str, Callable[[Pixels], Floats]] = {
    "ink": lambda images: images.mean(axis=(1, 2)),
    "perimeter": perimeter,
    "euler": euler,
    "top": side(2, False),
    "bottom": side(2, True),
    "left": side(1, False),
    "right": side(1, True),
    "width": lambda images: -side(1, False)(images) - side(1, True)(images),
    "height": lambda images: -side(2, False)(images) - side(2, True)(images),
}
