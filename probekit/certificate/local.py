"""How local is a benchmark? What local statistics reach on any labelled dataset file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.certificate.certify import fitting
from probekit.certificate.readout import CHUNK, PIXELS, Floats, bag_of, counts, measured
from probekit.data.split import read_chunks, refuse_changed
from probekit.h5 import DatasetInfo, read_images, read_split
from probekit.measurement import BASELINE, CHANCE
from probekit.output.document import Block, Cell, Table, percents, text
from probekit.output.hints import unprobeable
from probekit.probes.average_precision import multilabel
from probekit.probes.baselines import LUMA, raw_pixels
from probekit.probes.protocol import Part, probe

SCHEMA = "probekit-locality/1"
DEFAULT_N = 2000  # training images, and test images: more take minutes on two cores
LEAST_N = 50  # ours: below, not even all classes may be among them
FORM = "step"  # of average precision, where images have several labels
LOOKED_AT = 256  # images that say whether a file holds drawings or photographs
BRIGHTNESS, LEVELS = "mean and deviation", "levels"
GREYS, COLOURS = 32, 4  # ours: levels of grey; levels of each of three colours
STEPS = 4  # ours: levels of the pixel in the middle of a pattern
PATTERNS = 256  # of eight neighbours that are at least as bright, or not
TWO_LEVELS = 0.9  # ours: share of an image's pixels near its darkest or its brightest level, from which on it is drawn
RING = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
HOW = {
    True: "Drawings: scalars of the ink, and counts of binary 3x3 patches that reach over R px.",
    False: "Photographs: mean and deviation of the channels; counts of levels (a bag of 1x1 patches), and of local "
    "binary patterns that reach over R px with the level of the pixel amid them (Ojala et al. 2002).",
}


def locality(
    info: DatasetInfo,
    *,
    n: int = DEFAULT_N,
    sides: Sequence[int],
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Linear probes of what is local, and of raw pixels, fitted on train and scored on test.

    `n` images of each split at most, drawn from larger ones; `sides` of patches in px, () the usual ones that fit. The
    seed decides that draw, the validation part that chooses C, and the bootstraps; `progress` is given the images
    looked at and in all. Gives schema, data, data_hash, shape [H, W], drawings (or photographs), score ("accuracy", or
    "mAP" of several labels), n_train, n_test, seed, r; rows {name, value, ci, factors {name: {value, ci}}}, chance the
    first. A ValueError if the file cannot be probed, or was replaced meanwhile, or for sides that there cannot be.
    """
    if (lacking := unprobeable(info)) is not None:
        raise ValueError(
            f"expected a train and a test split with labels of 2 classes or more, found {lacking} in {info.path}; "
            "type: probekit import SOURCE --test-fraction 0.2"
        )
    if n < LEAST_N:
        raise ValueError(f"expected at least {LEAST_N} images of each split, found --n {n}; type --n {DEFAULT_N}")
    sides = fitting(sides, min(info.first.height, info.first.width))
    rows = {split: _chosen(info, split, n, seed) for split in ("train", "test")}
    total, done = sum(map(len, rows.values())), 0
    drawings, features = None, {}
    for split, index in rows.items():
        parts = []
        for images in _images(info, split, index):
            drawings = drawn(images[:LOOKED_AT]) if drawings is None else drawings
            parts.append((measured if drawings else of_photographs)(images, sides))
            progress(done := done + len(images), total)
        features[split] = {line: np.concatenate([part[line] for part in parts]) for line in parts[0]}
    refuse_changed(info)
    known = {split: _labels(info, split, index) for split, index in rows.items()}
    nothing = {split: np.zeros((len(index), 1), np.float32) for split, index in rows.items()}
    lines = {CHANCE: nothing} | {line: {split: features[split][line] for split in rows} for line in features["train"]}
    return {
        "schema": SCHEMA,
        "data": str(info.path),
        "data_hash": info.content_hash,
        "shape": [info.first.height, info.first.width],
        "drawings": bool(drawings),
        "score": "mAP" if info.multilabel else "accuracy",
        "n_train": len(rows["train"]),
        "n_test": len(rows["test"]),
        "seed": seed,
        "r": list(sides),
        "rows": [_row(info, line, x, known, seed) for line, x in lines.items()],
    }


def _chosen(info: DatasetInfo, split: str, n: int, seed: int) -> NDArray[np.int64]:
    """Which images of a split are looked at, ascending."""
    there = info.splits[split].n
    if there <= n:
        return np.arange(there)
    return np.sort(np.random.default_rng([seed, len(split)]).choice(there, n, replace=False))


def _images(info: DatasetInfo, split: str, index: NDArray[np.int64]) -> Iterator[NDArray[np.uint8]]:
    """The images, some at a time."""
    if len(index) == info.splits[split].n:
        yield from read_chunks(info, split)
        return
    for begin in range(0, len(index), LOOKED_AT):
        yield read_images(info.path, split, index[begin : begin + LOOKED_AT].tolist()).images


def _labels(info: DatasetInfo, split: str, index: NDArray[np.int64]) -> Part:
    """Labels and class factors of the images, without features."""
    rows = read_split(info.path, split, images=False)
    assert rows.labels is not None
    names = [factor["name"] for factor in info.factors if factor["kind"] == "class" and not info.multilabel]
    groups = rows.factors.get("pair_id")
    factors = {name: rows.factors[name][index] for name in names}
    return Part(np.empty((0, 0)), rows.labels[index], factors, None if groups is None else groups[index])


def _row(info: DatasetInfo, line: str, x: dict[str, Floats], known: dict[str, Part], seed: int) -> dict[str, Any]:
    """A line: counts by their roots, so that rare ones count, as the patch bag among the baselines has it."""
    root = line != CHANCE and x["train"].shape[1] > 16 and line != "pixels"
    parts = {
        split: Part(np.sqrt(x[split]) if root else x[split], part.y, part.factors, part.groups)
        for split, part in known.items()
    }
    fit: Any = multilabel if info.multilabel else probe
    found = fit(line, BASELINE, parts["train"], parts["test"], classes=info.classes, protocol="tuned", seed=seed)
    score = found["map"][FORM] if info.multilabel else {"value": found["accuracy"], "ci": found["ci"]}
    factors = {name: {"value": each["accuracy"], "ci": each["ci"]} for name, each in found.get("factors", {}).items()}
    return {"name": line, **score, "factors": factors}


def drawn(images: NDArray[np.uint8]) -> bool:
    """Whether most images have two levels of grey, ink and ground, but for a few pixels between them."""
    if images.ndim == 4:
        return False
    low, high = (extreme(images, axis=(1, 2), keepdims=True).astype(np.int64) for extreme in (np.min, np.max))
    near = (images - low) * 8 <= high - low
    near |= (high - images) * 8 <= high - low
    return bool(np.median(near.mean(axis=(1, 2))) >= TWO_LEVELS)


def brightness(images: NDArray[np.uint8]) -> Floats:
    """Mean and standard deviation of each channel, `[N, 2 * C]`."""
    pixels = images.reshape(len(images), -1, 3 if images.ndim == 4 else 1)
    return np.concatenate([pixels.mean(axis=1), pixels.std(axis=1)], axis=1, dtype=np.float32)


def level_counts(images: NDArray[np.uint8]) -> Floats:
    """How many pixels have each of 32 greys, `[N, 32]`, or of 64 colours, `[N, 64]`: a bag of 1x1 patches."""
    if images.ndim == 3:
        return counts(images // (256 // GREYS), GREYS)
    red, green, blue = np.moveaxis(images // (256 // COLOURS), 3, 0)
    return counts((red * COLOURS + green) * COLOURS + blue, COLOURS**3)


def pattern_counts(images: NDArray[np.uint8], side: int) -> Floats:
    """How often each local binary pattern (Ojala et al. 2002) occurs, `[N, 4 * 256]`: whole numbers.

    A pattern says which of eight pixels, (side - 1) / 2 away in each direction, are at least as bright as the one
    amid them, and in which quarter of the levels that one is. Colour becomes luma.
    """
    found = []
    for begin in range(0, len(images), CHUNK):
        part = images[begin : begin + CHUNK]
        grey = np.rint(part @ LUMA).astype(np.uint8) if part.ndim == 4 else part
        away, (height, width) = (side - 1) // 2, grey.shape[1:]
        if min(height, width) < side:
            found.append(np.zeros((len(part), STEPS * PATTERNS), np.float32))
            continue
        middle = grey[:, away : height - away, away : width - away]
        codes = (middle // (256 // STEPS)).astype(np.int64) * PATTERNS
        for bit, (down, right) in enumerate(RING):
            top, left = away + away * down, away + away * right
            codes |= (grey[:, top : top + middle.shape[1], left : left + middle.shape[2]] >= middle).astype(
                np.int64
            ) << bit
        found.append(counts(codes, STEPS * PATTERNS))
    return np.concatenate(found)


def of_photographs(images: NDArray[np.uint8], sides: Sequence[int]) -> dict[str, Floats]:
    """What stands in place of `measured` where there is no ink."""
    found = {BRIGHTNESS: brightness(images), LEVELS: level_counts(images), PIXELS: raw_pixels(images)}
    return found | {bag_of(side): pattern_counts(images, side) for side in sides}


def locality_blocks(found: Mapping[str, Any]) -> list[Block]:
    """One table: a line for each kind of numbers, a column for the label and one for each class factor."""
    factors, (height, width) = list(found["rows"][0]["factors"]), found["shape"]
    rows = [
        [text(row["name"]), _share(row), *(_share(row["factors"][name]) for name in factors)] for row in found["rows"]
    ]
    reach = ", ".join(map(str, found["r"]))
    how = (
        f"{HOW[found['drawings']].replace(' R ', f' {reach} ')} Linear probes, protocol tuned: "
        f"{found['n_train']:,} images of train, "
        f"{found['n_test']:,} of test, {width}x{height} px, seed {found['seed']}. What they reach needs no whole; the "
        "rest may. docs/generators.md."
    )
    columns = ("", f"{found['score']}, %", *(f"{name}, %" for name in factors))
    return [Table("locality", f"How local is {found['data']}?", how, columns, rows)]


def _share(found: Mapping[str, Any]) -> Cell:
    return Cell(percents(found["value"], found["ci"]).text, found["value"])
