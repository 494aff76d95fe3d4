"""The picture of a dataset in a notebook: a few images of each class, plain and with their evidence outlined beside."""

import io
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from probekit.data.gallery import EVIDENCE_IS, LOOKED_AT, MASKS_ARE, Pixels, Shown, compose, differing, shrunk
from probekit.h5.schema import EVIDENCE
from probekit.output.pictures import pixels
from probekit.output.style import OUTLINES

CLASSES, ACROSS = 6, 8  # rows, and pictures in each
DPI, COLOURS = 110, 64  # a notebook keeps it

Masks = Mapping[str, NDArray[np.bool_]]


def dataset_figure(
    name: str, images: Pixels, labels: NDArray[np.integer] | None, classes: Sequence[str], masks: Masks
) -> Figure:
    """Draws the images of each class that differ most, in rows.

    Args:
        name: What the images are, for the title.
        images: uint8 `[N, H, W]` or `[N, H, W, 3]`.
        labels: Classes `[N]`; without them, or with several an image, rows are filled as the images come.
        classes: Their names.
        masks: By name, `[N, H, W]`; those of evidence, or all where none is, are outlined, in a colour each.
    """
    evidence = [each for each in masks if each.startswith(EVIDENCE)]
    keys = dict(zip(OUTLINES.values(), evidence or masks, strict=False))
    rows = _rows(images, labels, classes, ACROSS // (1 + bool(keys)))
    lines = [(row, [cell for i in places for cell in _cells(images[i], i, keys, masks)]) for row, places in rows]
    heads = ["image", "outlined"] * (max(len(cells) for _, cells in lines) // 2) * bool(keys)
    title = f"{name}\n{EVIDENCE_IS if evidence else MASKS_ARE}" if keys else name
    named = {colour: each.removeprefix(EVIDENCE) for colour, each in keys.items()}
    return compose(lines, title=title, keys=named, heads=heads, width=images.shape[2])


def png(figure: Figure) -> bytes:
    """A PNG file of a figure, small enough for a notebook."""
    out = io.BytesIO()
    Image.fromarray(pixels(figure, dpi=DPI)).quantize(COLOURS).save(out, "PNG", optimize=True)
    return out.getvalue()


def _rows(
    images: Pixels, labels: NDArray[np.integer] | None, classes: Sequence[str], most: int
) -> list[tuple[str, list[int]]]:
    if labels is None or labels.ndim != 1:
        last = min(len(images), CLASSES * most)
        return [("", list(range(begin, min(begin + most, last)))) for begin in range(0, last, most)]
    found = []
    for k in np.unique(labels)[:CLASSES]:
        own = np.flatnonzero(labels == k)[:LOOKED_AT]
        found.append((classes[k], own[differing(images[own], most)].tolist()))
    return found


def _cells(image: Pixels, place: int, keys: Mapping[str, str], masks: Masks) -> list[Shown]:
    """One image plain, and if there is evidence outlined beside it."""
    plain = shrunk(image)
    outlines = {
        colour: shrunk(masks[name][place].astype(np.uint8), cv2.INTER_NEAREST).astype(bool)
        for colour, name in keys.items()
    }
    return [Shown(plain), Shown(plain, outlines)] if outlines else [Shown(plain)]
