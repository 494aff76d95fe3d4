"""Rows of a dataset file for scenes of several shapes: images, the classes that each shows, and its objects."""

import numpy as np
from numpy.typing import NDArray

from generators.scenes import Placed, Scenes
from probekit.h5 import PRESENT, Header, Objects, Split, pack_objects
from probekit.h5.objects import runs_of


def scenes_header(scenes: Scenes, seed: int, masks: bool) -> Header:
    """What the file says of itself."""
    return Header(
        generator=scenes.name,
        parameters=scenes.values,
        seed=seed,
        classes=scenes.classes,
        factors=(),
        mask_names=scenes.mask_names if masks else (),
    )


def drawn_scenes(scenes: Scenes, seed: int, split: str, index: NDArray[np.int64], *, masks: bool) -> Split:
    """Rows for some images; without `masks` objects have boxes alone."""
    drawn = scenes.draw(seed, split, index)
    labels = np.zeros((len(index), len(scenes.classes)), np.uint8)
    for row, placed in enumerate(drawn.objects):
        labels[row, [each.label for each in placed]] = PRESENT
    objects = pack_objects([_objects(placed, scenes.size, masks) for placed in drawn.objects])
    held = np.stack([scenes.masks(placed) for placed in drawn.objects]) if masks else None
    return Split(drawn.images, labels, {}, held, objects)


def _objects(placed: list[Placed], size: int, masks: bool) -> Objects:
    n = len(placed)
    runs = tuple(runs_of(_whole(each, size)) for each in placed) if masks else None
    labels = np.array([each.label for each in placed], np.int64)
    boxes = np.array([each.box for each in placed], np.float32).reshape(n, 4)
    return Objects(boxes, labels, np.zeros(n, np.int64), runs)


def _whole(placed: Placed, size: int) -> NDArray[np.bool_]:
    """The mask of an object on its canvas, `[size, size]`."""
    mask = np.zeros((size, size), np.bool_)
    x0, y0, x1, y1 = placed.box
    mask[y0:y1, x0:x1] = placed.mask
    return mask
