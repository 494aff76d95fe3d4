"""What a certificate proves: patches that are the same on both sides of a pair, and a reader that is never wrong.

What is estimated beside it, by linear probes, is in `probekit.certificate`; `docs/generators.md` has the definition.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from generators.base import Generator
from generators.raster import Ints, Pixels

Words = NDArray[np.uint64]
CHUNK = 64  # images at a time
UNSEEN = ("noise_sd",)  # what certificates are without: it would hide what a scene shows
_ODD = np.random.default_rng(0).integers(1 << 63, size=(2, 1024), dtype=np.uint64) * np.uint64(2) + np.uint64(1)


@dataclass(frozen=True)
class Pairs:
    """Images and their counterfactuals of one class factor, m of them.

    Attributes:
        base: `[m]`, the number of the sample that each belongs to.
        values: `[m]`, the factor's value in the samples.
        value: Its value in the counterfactuals.
        images: uint8 `[m, H, W]`, the samples.
        others: uint8 `[m, H, W]`, the counterfactuals.
    """

    base: Ints
    values: Ints
    value: int
    images: Pixels
    others: Pixels


def bare(kind: type[Generator], *, size: int, parameters: Mapping[str, float]) -> Generator:
    """The generator as it is certified: with these settings, but without noise.

    Raises:
        ValueError: A size or parameter that does not exist or is out of range.
    """
    asked = kind(size=size, parameters=parameters).values
    return kind(size=size, parameters={name: 0 if name in UNSEEN else value for name, value in asked.items()})


def values_of(generator: Generator, name: str) -> int:
    """How many values a class factor has."""
    return int(next(factor.high for factor in generator.factors if factor.name == name)) + 1


def counterfactual_pairs(generator: Generator, factors: NDArray[np.void], name: str) -> Iterator[Pairs]:
    """Every sample beside each of its counterfactuals in one class factor, a few at a time.

    Args:
        generator: As `bare` makes it.
        factors: `[n]`, of the samples; a factor of K values makes n * (K - 1) pairs.
        name: A class factor.
    """
    for begin in range(0, len(factors), CHUNK):
        part = factors[begin : begin + CHUNK]
        images = generator.render_images(part)
        for value in range(values_of(generator, name)):
            rows = np.flatnonzero(part[name] != value)
            if len(rows):
                others = generator.render_images(generator.counterfactual(part[rows], name, value))
                values = part[name][rows].astype(np.int64)
                yield Pairs(begin + rows, values, value, images[rows], others)


def misread(generator: Generator, pairs: Pairs, name: str) -> NDArray[np.bool_] | None:
    """Where the ideal reader is wrong about a class factor, `[2, m]`, samples and counterfactuals.

    None where there is none; readers are not made for blurred images.
    """
    if generator.values["blur_sd"]:
        return None
    read = [_read(generator, images, name) for images in (pairs.images, pairs.others)]
    if read[0] is None or read[1] is None:
        return None
    return np.stack([read[0] != pairs.values, read[1] != pairs.value])


def _read(generator: Generator, images: Pixels, name: str) -> Ints | None:
    """What the reader says, `[m]`; -1 of images that hold nothing that it could read, blank ones say."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return generator.read(images).get(name)
    except (ArithmeticError, LookupError, ValueError):
        if len(images) == 1:
            return np.array([-1])
    alone = [_read(generator, images[k : k + 1], name) for k in range(len(images))]
    return np.concatenate([found for found in alone if found is not None])


def equal_multisets(one: Pixels, other: Pixels, side: int, dilation: int = 1) -> NDArray[np.bool_]:
    """Whether two images hold the same patches, each as often, `[n]`: then no local statistic tells them apart.

    Two unequal ones pass with a chance of 2**-64: patches and their multisets are compared as sums of random words.

    Args:
        one: uint8 `[n, H, W]`.
        other: uint8 `[n, H, W]`.
        side: of the patches, in pixels that are `dilation` apart; only patches that lie in the frame count.
        dilation: 1 for patches without gaps.
    """
    equal: NDArray[np.bool_] = _multisets(one, side, dilation) == _multisets(other, side, dilation)
    return equal


def _multisets(images: Pixels, side: int, dilation: int) -> Words:
    """One word `[n]` for the multiset of patches of each image."""
    reach = (side - 1) * dilation
    height, width = (length - reach for length in images.shape[1:])
    found = np.empty(len(images), np.uint64)
    for k, image in enumerate(images):
        rows = sum(_ODD[0, i] * image[i * dilation : i * dilation + height].astype(np.uint64) for i in range(side))
        patches = sum(_ODD[1, j] * rows[:, j * dilation : j * dilation + width] for j in range(side))
        found[k] = _mixed(patches).sum(dtype=np.uint64)
    return found


def _mixed(words: Words) -> Words:
    """Words that look random, one for each word (the finaliser of SplitMix64, Steele et al. 2014)."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
