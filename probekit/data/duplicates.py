"""Images of one split that are in another, too: the same photograph, copied, saved anew, resized or brightened.

Every image gets a sign: 16 x 16 grey means, which is what is compared, and 4 x 4 of two differences of colours. Of the
grey means come 63 bits, the signs of low frequencies of their cosine transform around the median (pHash: Zauner,
"Implementation and benchmarking of perceptual image hash functions", 2010). Candidates agree in two of the 8 bytes of
these: so do all pairs of images that differ in at most 6 bits. Sorting finds them, and a window bounds how many are
looked at where very many images are alike, of which some pairs are passed over. A candidate is a near-duplicate if its
grey means are those of the other by one factor and one offset, but for little, and its colours are as well.

docs/datasets.md has what is found and what is not, as tests/data/test_duplicates.py measures it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from shlex import quote
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SIDE, COLOURS = 16, 4  # of the grey means, and of the differences of colours
LENGTH = SIDE * SIDE + 2 * COLOURS * COLOURS  # bytes of a sign
FREQUENCIES = 8  # a side, without the mean: 63 bits
BITS = 10  # own choice, as all below: docs/datasets.md has the rates
MARGIN = 40.0  # above the median: where an image is blank, its bits are 0 and not noise
LIKENESS = 0.99  # the least correlation of grey means
NOISE = 3.0  # grey levels that JPEG files of low contrast are off
GAIN = 2.0  # the most that one has the contrast of the other
TINT = 10.0  # the mean difference of colours, in levels
WINDOW = 32  # candidates on either side in an order of the bits
ENOUGH = 256  # candidates that an image is compared with, about: near-constant ones are all candidates of each other
PAIRS = 1 << 18  # looked at in one piece: bounds memory
EXAMPLES = 3  # that are named

Signs = NDArray[np.uint8]  # [N, LENGTH]
Rows = NDArray[np.int64]


def signs_of(images: Sequence[NDArray[np.uint8]]) -> Signs:
    """The signs of images, `[H, W]` or RGB `[H, W, 3]`, uint8: `[N, LENGTH]`."""
    small = np.stack([_shrunk(image) for image in images]).astype(np.float32)
    if small.ndim == 3:
        small = np.repeat(small[..., None], 3, axis=3)
    grey = small @ np.array([0.299, 0.587, 0.114], np.float32)  # as JPEG has it
    step = SIDE // COLOURS
    rough = small.reshape(len(small), COLOURS, step, COLOURS, step, 3).mean(axis=(2, 4))
    tints = np.stack([rough[..., 0] - rough[..., 1], rough[..., 2] - rough[..., 1]], axis=-1) / 2 + 128
    return np.concatenate([np.rint(part).reshape(len(small), -1).astype(np.uint8) for part in (grey, tints)], axis=1)


def _shrunk(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if height > SIDE or width > SIDE:
        size = min(width, SIDE), min(height, SIDE)
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), np.uint8)


@dataclass(frozen=True)
class Signed:
    """The signs of a split's images, `[N, LENGTH]`, and their names."""

    names: Sequence[str]
    signs: Signs


def report(splits: Mapping[str, Signed]) -> dict[str, dict[str, Any]]:
    """How many images of a split have a near-duplicate in another, by names like "test in train".

    Each has `n`, `of` (images looked for) and `examples`: pairs of names. The splits are compared with those before.
    """
    found = {}
    for (first, known), (second, asked) in combinations(splits.items(), 2):
        matches = search(asked.signs, known.signs)
        rows = np.flatnonzero(matches >= 0)
        examples = [[asked.names[row], known.names[matches[row]]] for row in rows[:EXAMPLES].tolist()]
        found[f"{second} in {first}"] = {"n": len(rows), "of": len(asked.names), "examples": examples}
    return found


def sentences(found: Mapping[str, Mapping[str, Any]], path: Path) -> list[str]:
    """What is to be said of a report, a line for each pair of splits that share images, or one that none does.

    `path`: the dataset file, which the last line says how to divide anew.
    """
    lines = []
    for pair, about in found.items():
        second, _, first = pair.partition(" in ")
        if about["n"]:
            named = "; ".join(f"{one!r} is like {other!r}" for one, other in about["examples"])
            lines.append(f"{about['n']:,} of {about['of']:,} {second} images have a near-duplicate in {first}: {named}")
    if not found:
        return []
    if not lines:
        return [f"no near-duplicates: {', '.join(found)}"]
    val = ", with --val-fraction 0.1 for a val split" if any("val" in pair.split(" in ") for pair in found) else ""
    return [
        *lines,
        "a score on images that training has seen says little; to have them on one side type: "
        f"probekit split {quote(str(path))} --join --test-fraction 0.2 --group duplicates{val}",
    ]


def search(asked: Signs, known: Signs) -> NDArray[np.int64]:
    """For each of some signs the row of a near-duplicate among others; -1 where there is none, `[N]`.

    Of those that are compared at a time it is the most alike; one that has been found is not looked for again. Time
    grows as n log n.
    """
    copies = _copies(known)
    result = np.array([copies.get(sign.tobytes(), -1) for sign in asked], np.int64)
    rest = np.flatnonzero(result < 0)
    best = np.full(len(asked), -np.inf, np.float32)
    for rows, b, score in _pairs(asked[rest], known, lambda rows, others: result[rest[rows]] < 0):
        a = rest[rows]
        order = np.argsort(score, kind="stable")  # of pairs of one row the last one stays
        a, b, score = a[order], b[order], score[order]
        better = score > best[a]
        result[a[better]], best[a[better]] = b[better], score[better]
    return result


def clusters(signs: Signs) -> NDArray[np.int64]:
    """Numbers from 0 that near-duplicates have in common, and those of these, and so on; one for each sign, `[N]`."""
    copies = _copies(signs)
    first = np.array([copies[sign.tobytes()] for sign in signs], np.int64)
    alone, place = np.unique(first, return_inverse=True)  # copies are one from here on
    named = np.arange(len(alone))
    for a, b, _ in _pairs(signs[alone], signs[alone], lambda rows, others: named[rows] != named[others]):
        rising = a < b
        graph = coo_array((np.ones(rising.sum(), bool), (named[a[rising]], named[b[rising]])), shape=(len(alone),) * 2)
        if graph.nnz:
            named[:] = connected_components(graph, directed=False)[1].astype(np.int64)[named]
    return named[place]


def _copies(signs: Signs) -> dict[bytes, int]:
    """The first row of each sign."""
    return {sign.tobytes(): row for row, sign in reversed(list(enumerate(signs)))}


def _pairs(
    asked: Signs, known: Signs, open_to: Callable[[Rows, Rows], NDArray[np.bool_]]
) -> Iterator[tuple[Rows, Rows, NDArray[np.float32]]]:
    """Rows of near-duplicates and how alike they are; some pairs come several times.

    `open_to`: which pairs of rows are still to be compared, asked before each comparison.
    """
    compared = np.zeros(len(asked), np.int64)
    for rows, others in _candidates(bits_of(asked), bits_of(known)):
        for begin in range(0, len(rows), PAIRS // SIDE):
            a, b = rows[begin : begin + PAIRS // SIDE], others[begin : begin + PAIRS // SIDE]
            asks = open_to(a, b) & (compared[a] < ENOUGH)
            a, b = a[asks], b[asks]
            compared += np.bincount(a, minlength=len(asked))
            alike, score = _compared(asked[a], known[b])
            yield a[alike], b[alike], score[alike]


def bits_of(signs: Signs) -> NDArray[np.uint64]:
    """The 63 bits of each sign, `[N]`."""
    place = np.pi * (np.arange(SIDE) + 0.5) / SIDE
    waves = np.cos(np.arange(FREQUENCIES)[:, None] * place)  # the mean of a wave is 0 but for the first
    both = np.kron(waves, waves)[1:].astype(np.float32)
    parts = [signs[begin : begin + PAIRS // SIDE] for begin in range(0, len(signs), PAIRS // SIDE)]
    bits = []
    for part in parts:
        heights = part[:, : SIDE * SIDE].astype(np.float32) @ both.T
        above = heights > np.median(heights, axis=1, keepdims=True) + MARGIN
        bits.append(np.packbits(np.pad(above, ((0, 0), (0, 1))), axis=1).view(">u8")[:, 0])
    return np.concatenate(bits).astype(np.uint64) if bits else np.empty(0, np.uint64)


def _candidates(asked: NDArray[np.uint64], known: NDArray[np.uint64]) -> Iterator[tuple[Any, Any]]:
    """Pairs of rows that differ in at most `BITS` bits, some of them several times."""
    for pair in combinations(range(8), 2):
        mine, theirs = _first(asked, pair), _first(known, pair)
        order = np.argsort(theirs, kind="stable")
        ranked = theirs[order]
        place = np.searchsorted(ranked, mine)
        key = mine >> np.uint64(48)
        low = np.maximum(np.searchsorted(ranked, key << np.uint64(48)), place - WINDOW)
        end = np.searchsorted(ranked, key << np.uint64(48) | np.uint64((1 << 48) - 1), side="right")
        high = np.minimum(end, place + WINDOW)
        for begin in range(0, len(mine), PAIRS // WINDOW):
            part = slice(begin, begin + PAIRS // WINDOW)
            n = high[part] - low[part]
            rows = np.repeat(np.arange(begin, begin + len(n)), n)
            within = np.arange(len(rows)) - np.repeat(np.cumsum(n) - n, n)
            others = order[np.repeat(low[part], n) + within]
            near = np.bitwise_count(asked[rows] ^ known[others]) <= BITS
            yield rows[near], others[near]


def _first(bits: NDArray[np.uint64], pair: tuple[int, int]) -> NDArray[np.uint64]:
    """The same bits with two of the bytes in front."""
    columns = [*pair, *(k for k in range(8) if k not in pair)]
    in_bytes = bits.astype(">u8").view(np.uint8).reshape(-1, 8)[:, columns]
    return np.ascontiguousarray(in_bytes).view(">u8")[:, 0].astype(np.uint64)


def _compared(a: Signs, b: Signs) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Which pairs of signs are near-duplicates, and how alike they are."""
    x, y = (part[:, : SIDE * SIDE].astype(np.float32) for part in (a, b))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    xx, yy, xy = ((one * other).mean(axis=1) for one, other in ((x, x), (y, y), (x, y)))
    floor = np.float32(NOISE**2)
    score = (xy + floor) / np.sqrt((xx + floor) * (yy + floor))
    gain = (xx + floor) / (yy + floor)
    tints = np.abs(a[:, SIDE * SIDE :].astype(np.float32) - b[:, SIDE * SIDE :]).mean(axis=1)
    alike = (score >= LIKENESS) & (gain <= GAIN**2) & (gain >= 1 / GAIN**2) & (tints <= TINT)
    return alike, score.astype(np.float32)
