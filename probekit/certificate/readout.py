"""What a certificate reads of images, and how: ridge regression, fitted on half of the samples, scored on the rest.

Two questions have a read-out each. *Unpaired*: which value has an image among others whose nuisances are independent
of its own? *Paired*: of two images that differ in the factor alone, which has which value? The second is fitted to
differences within pairs, so that no nuisance hides what differs; of two images with the same numbers the difference is
0 exactly, and such a tie counts one half.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.probes.baselines import CODES, binarise, ink_statistics, patch_codes, raw_pixels
from probekit.statistics import auc, auc_over_images, mean_over_images

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
STRENGTHS = 10.0 ** np.arange(3, -5, -1)  # of the penalty, in mean squares of a feature; the first of equal ones wins
FLOOR = 1e-3  # of the largest scale: a column that hardly varies is not blown up
SCALARS = {  # columns of `ink_statistics`
    "ink": slice(0, 1),
    "bounding box": slice(3, 7),
    "perimeter": slice(1, 2),
    "Euler number": slice(2, 3),
}
PIXELS = "pixels"
CHUNK = 64  # images at a time


def unpaired(x: Floats, y: Ints, values: int, *, seed: int) -> dict[str, Any]:
    """The area under the ROC curve of one value against the rest, the mean over values; with ci and n.

    `x` `[n, D]`, of images with nuisances of their own; `y` `[n]`, in [0, values). A value that does not occur in both
    halves is left out, and of two, the area of one is that of the other. n are the images that were scored, the second
    half; the seed decides the bootstrap over them.
    """
    fitted, chosen, test = _parts(len(x))
    there = [value for value in range(values) if value in y[: test.start] and value in y[test]]
    columns = there[1:] if len(there) == 2 else there
    truth = np.stack([y == value for value in columns], axis=1)

    def scores(train: slice, other: slice) -> Iterator[Floats]:
        mean = x[train].mean(axis=0, dtype=np.float64).astype(np.float32)
        scale = _scale(x[train] - mean)
        target = truth[train] - truth[train].mean(axis=0)
        return ((x[other] - mean) / scale @ w for w in _ridge((x[train] - mean) / scale, target))

    def area(found: Floats) -> float:
        areas = [auc(found[:, k], truth[chosen, k]) for k in range(len(columns))]
        return float(np.nan_to_num(areas, nan=0.5).mean())  # of a value that few samples lack

    best = int(np.argmax([area(found) for found in scores(fitted, chosen)]))
    return auc_over_images(list(scores(slice(0, test.start), test))[best], truth[test], seed=seed)


def paired(x: Floats, base: Ints, ones: Ints, others: Ints, values: int, *, seed: int) -> dict[str, Any]:
    """The share of pairs in the right order: mean; ci; n, the samples whose pairs were scored, the second half.

    `x` `[m, D]`: what a sample's features have more than its counterfactual's; `base` `[m]`, ascending: the number of
    the sample, in [0, n); `ones` and `others` `[m]`: the factor's value in each. The seed decides the bootstrap over
    samples.
    """
    n = int(base[-1]) + 1
    fitted, chosen, test = (_rows(base, part) for part in _parts(n))
    target = np.eye(values)[ones] - np.eye(values)[others]

    def right(train: slice, scored: slice) -> Iterator[NDArray[np.float64]]:
        scale, rows = _scale(x[train]), np.arange(scored.stop - scored.start)
        for w in _ridge(x[train] / scale, target[train]):
            found = x[scored] / scale @ w
            yield (np.sign(found[rows, ones[scored]] - found[rows, others[scored]]) + 1) / 2

    best = int(np.argmax([found.mean() for found in right(fitted, chosen)]))
    scored = list(right(slice(0, test.start), test))[best]
    number = base[test] - base[test][0]
    return mean_over_images(np.bincount(number, scored) / np.bincount(number), seed=seed)


def _parts(n: int) -> tuple[slice, slice, slice]:
    """What is fitted while the strength is chosen, what chooses it, and what is scored: 3/8, 1/8 and 1/2 of n."""
    half = n // 2
    return slice(0, half * 3 // 4), slice(half * 3 // 4, half), slice(half, n)


def _rows(base: Ints, part: slice) -> slice:
    """The pairs of the samples of a part."""
    first, last = np.searchsorted(base, (part.start, part.stop))
    return slice(int(first), int(last))


def _scale(x: Floats) -> Floats:
    """The root mean square of each column `[D]`, from `FLOOR` of the largest on."""
    size = np.sqrt(np.mean(np.square(x, dtype=np.float64), axis=0))
    return np.asarray(np.maximum(size, FLOOR * size.max() or 1.0), np.float32)


def _ridge(x: Floats, y: NDArray[np.floating]) -> list[Floats]:
    """The weights `[D, k]` for each of `STRENGTHS`; of a column of `[n, D]` that is 0 throughout they are 0."""
    live = x.any(axis=0)
    held = x[:, live]
    wide = held.shape[1] > len(held)
    squares, u = np.linalg.eigh((held @ held.T if wide else held.T @ held).astype(np.float64))
    along = u.T @ (y if wide else held.T.astype(np.float64) @ y)
    unit = squares.sum() / len(x) or 1.0
    found = [np.zeros((x.shape[1], y.shape[1]), np.float32) for _ in STRENGTHS]
    for weights, strength in zip(found, STRENGTHS, strict=True):
        w = u @ (along / (np.maximum(squares, 0.0) + strength * unit)[:, None])
        weights[live] = held.T @ w.astype(np.float32) if wide else w
    return found


def bag_of(side: int) -> str:
    """What the bag of patches of `side` px is called."""
    return f"bag of {side}x{side}"


def patch_counts(images: NDArray[np.uint8], side: int) -> Floats:
    """How often each binary patch of 3 x 3 pixels that are (side - 1) / 2 apart occurs, `[N, 512]`: whole numbers.

    They are equal for two images that hold the same patches of `side` px; a product or a root of shares need not be.
    """
    ink = (binarise(images[begin : begin + CHUNK]) for begin in range(0, len(images), CHUNK))
    return np.concatenate([counts(patch_codes(part, (side - 1) // 2), CODES) for part in ink])


def measured(images: NDArray[np.uint8], sides: Sequence[int]) -> dict[str, Floats]:
    """All that the probes of a certificate read, by name: scalars, raw pixels, a bag for each side of patches."""
    scalars = ink_statistics(images)
    found = {name: scalars[:, columns] for name, columns in SCALARS.items()} | {PIXELS: raw_pixels(images)}
    return found | {bag_of(side): patch_counts(images, side) for side in sides}


def counts(codes: NDArray[np.integer], most: int) -> Floats:
    """How often each code below `most` occurs in each image, `[N, most]`."""
    rows = codes.reshape(len(codes), -1).astype(np.int64) + most * np.arange(len(codes))[:, None]
    return np.bincount(rows.ravel(), minlength=most * len(codes)).reshape(len(codes), most).astype(np.float32)
