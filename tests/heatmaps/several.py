"""A dataset file of images with several labels each, and a mask for each class."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probekit.h5 import DIFFICULT, DatasetWriter, Header, Split, pack

CLASSES = ("bar", "disc", "square")
SIZE = 32


def several_labels(path: Path, *, n: int = 60, n_test: int = 40, masks: bool = True) -> Path:
    """Grey images of a bar, a disc and a square, each there or not; a class of some is marked difficult."""
    rng = np.random.default_rng(0)
    names = CLASSES if masks else ()
    header = Header(generator="", parameters={}, seed=0, classes=CLASSES, factors=(), mask_names=names)
    with DatasetWriter(path, header=header, compression="none", overwrite=True) as writer:
        for split, count in (("train", n), ("test", n_test)):
            images = rng.integers(0, 60, (count, SIZE, SIZE), np.uint8)
            labels = (rng.random((count, 3)) < 0.5).astype(np.uint8)
            bits = np.zeros((count, SIZE, SIZE), np.uint8)
            for image, shown, mask in zip(images, labels, bits, strict=True):
                for k in np.flatnonzero(shown):
                    inside = _shape(int(k), *rng.integers(6, SIZE - 6, 2))
                    image[inside] = 130 + 60 * k
                    mask |= inside.astype(np.uint8) << np.uint8(k)
            labels[::7, 0] = DIFFICULT
            writer.begin(split, count)
            writer.append(pack(Split(images, labels, {}, bits if masks else None), "none"))
    return path


def _shape(kind: int, x: int, y: int) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:SIZE, :SIZE]
    down, across = abs(rows - y), abs(columns - x)
    shapes = ((down <= 1) & (across <= 5), down**2 + across**2 <= 16, np.maximum(down, across) <= 3)
    return np.asarray(shapes[kind], np.bool_)
