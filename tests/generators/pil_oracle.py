"""The published recipe with Pillow, image by image: the oracle of `generators.published`.

Coordinates are whole pixels; a scene is a function that draws on an ImageDraw.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def rotated(scene: Any, size: int, angle: float) -> NDArray[np.uint8]:
    """Draw a scene on a black RGB canvas, rotate it, keep channel 0."""
    image = Image.new("RGB", (size, size))
    scene(ImageDraw.Draw(image))
    return np.asarray(image.rotate(angle))[:, :, 0]


def rectangle(pen: Any, box: tuple[int, int, int, int], *, radius: int, sharp: bool) -> None:
    """A white box with quarter discs, or boxes, as corners."""
    x0, y0, x1, y1 = box
    pen.rectangle([x0, y0 + radius, x1, y1 - radius], fill=WHITE)
    pen.rectangle([x0 + radius, y0, x1 - radius, y1], fill=WHITE)
    far_x, far_y, width = x1 - 2 * radius, y1 - 2 * radius, 2 * radius
    for x, y, start in ((x0, y0, 180), (far_x, y0, 270), (far_x, far_y, 0), (x0, far_y, 90)):
        if sharp:
            pen.rectangle([x, y, x + width, y + width], fill=WHITE)
        else:
            pen.pieslice([x, y, x + width, y + width], start, start + 90, fill=WHITE)


def rect_tri(factors: Any, size: int) -> NDArray[np.uint8]:
    """One rect-tri image from one row of factors."""
    px = {name: float(factors[name]) * size / 128 for name in factors.dtype.names}
    width, height = round(px["width"]), round(px["height"])
    x0, y0 = round(px["x"] - width / 2), round(px["y"] - height / 2)
    x, y = round(px["triangle_x"]), round(px["triangle_y"])
    if factors["triangle"] == 0:
        side = round(px["triangle_side"])
        end = [(x + side, y), (x + side // 2, y + side * math.sqrt(3) / 2)]
    else:
        end = [(x + round(px["leg_x"]), y), (x, y + round(px["leg_y"]))]

    def scene(pen: Any) -> None:
        box = (x0, y0, x0 + width - 1, y0 + height - 1)
        rectangle(pen, box, radius=20 * size // 128, sharp=bool(factors["corner"]))
        pen.polygon([(x, y), *end], fill=BLACK)

    return rotated(scene, size, float(factors["angle"]))


def circ_sq(factors: Any, size: int) -> NDArray[np.uint8]:
    """One circ-sq image from one row of factors."""

    def scene(pen: Any) -> None:
        for k in (1, 2):
            x, y = (round(float(factors[f"{axis}_{k}"]) * size / 128 - 0.5) for axis in "xy")
            r = round(float(factors[f"size_{k}"]) * size / 128) // 2
            shape = pen.rectangle if factors[f"shape_{k}"] else pen.ellipse
            shape((x - r, y - r, x + r, y + r), fill=WHITE)

    return rotated(scene, size, float(factors["angle"]))


ORACLES = {"rect-tri-published": rect_tri, "circ-sq-published": circ_sq}
