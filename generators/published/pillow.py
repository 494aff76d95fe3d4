"""The drawing rules of the published sets: Pillow's shapes and image rotation, in NumPy.

The authors drew with Pillow without antialiasing and then rotated the picture. These functions
give the same pixels for whole arrays of images (tests/generators holds them against Pillow):
end points are included, circles are traced on the integer grid, polygon sides are rounded in
float32, and the rotation takes the nearest pixel with 16-bit fixed-point steps.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from generators.raster import Floats, Ints, Pixels, Spans, axes

NO_SECOND_MAP = np.empty(0, np.uint16)  # the first holds x and y
CACHED_SIZE = 128  # all 181 rotation maps of a 128 px frame take 12 MB; larger ones are not kept


def box(x0: Ints, y0: Ints, x1: Ints, y1: Ints, size: int) -> Spans:
    """Boxes with corners (x0, y0) and (x1, y1), both included."""
    rows = np.arange(size)
    inside = (rows >= y0[:, None]) & (rows <= y1[:, None])
    return _clip(x0[:, None], x1[:, None] + 1, inside, size)


def circle(cx: Ints, cy: Ints, radius: Ints, size: int) -> Spans:
    """Circles in the boxes [cx - radius, cx + radius] x [cy - radius, cy + radius]."""
    count = int(radius.max(initial=0)) + 1
    widths = np.stack([_circle_widths(r)[:count] for r in range(count)])
    dy = abs(np.arange(size) - cy[:, None])
    inside = dy <= radius[:, None]
    half = np.take(widths, radius[:, None] * count + dy, mode="clip")  # any value if not inside
    return _clip(cx[:, None] - half, cx[:, None] + half + 1, inside, size)


def round_box(x0: Ints, y0: Ints, x1: Ints, y1: Ints, radius: int, size: int) -> Spans:
    """Boxes with quarter circles of a fixed radius as corners."""
    rows = np.arange(size)
    depth = np.minimum(rows - y0[:, None], y1[:, None] - rows)
    inset = radius - _circle_widths(radius)[np.clip(radius - depth, 0, radius)]
    return _clip(x0[:, None] + inset, x1[:, None] - inset + 1, depth >= 0, size)


@lru_cache(maxsize=1024)
def _circle_widths(radius: int) -> Ints:
    """Half width of a Pillow circle at distance 0, 1, ... from its centre row, `[1024]`.

    Pillow walks from the equator to the pole, each time to the neighbour (one up, one in, or
    both) that deviates least from the circle; a row is as wide as the first point in it.
    """
    width = np.zeros(1024, np.int64)
    x, y = radius, 0
    width[0] = radius
    while (x, y) != (0, radius):
        steps = [(x, y + 1)]
        if x > 0:
            steps += [(x - 1, y + 1), (x - 1, y)]
        x, y = min(steps, key=lambda p: abs(p[0] * p[0] + p[1] * p[1] - radius * radius))
        width[y] = max(width[y], x)
    return width


def triangle(x: Ints, y: Ints, second_x: Ints, third_x: Ints, third_y: Ints, size: int) -> Spans:
    """Triangles (x, y), (second_x, y), (third_x, third_y) with a level upper side."""
    rows = np.arange(size, dtype=np.float32)
    height = (third_y - y).astype(np.float32)
    slope_2 = ((third_x - second_x).astype(np.float32) / height)[:, None]
    slope_3 = ((x - third_x).astype(np.float32) / -height)[:, None]
    side_2 = (rows - y[:, None].astype(np.float32)) * slope_2 + second_x[:, None].astype(np.float32)
    side_3 = (rows - third_y[:, None].astype(np.float32)) * slope_3
    side_3 += third_x[:, None].astype(np.float32)
    left, right = np.minimum(side_2, side_3), np.maximum(side_2, side_3)
    start = np.floor(left + np.float32(0.5)).astype(np.int64)
    stop = np.ceil(right - np.float32(0.5)).astype(np.int64) + 1
    inside = (rows >= y[:, None]) & (rows <= third_y[:, None])
    return _clip(start, stop, inside, size)


def _clip(start: Ints, stop: Ints, inside: NDArray[np.bool_], size: int) -> Spans:
    """Spans in the frame; none where `inside` is false."""
    start = np.broadcast_to(np.clip(start, 0, size), inside.shape)
    return Spans(start, np.where(inside, np.clip(stop, start, size), start))


def rotate(images: Pixels, angle_deg: Floats, box: Floats, out: Pixels) -> None:
    """Rotate each image by whole degrees, counter-clockwise, filling with 0.

    Args:
        images: uint8 `[n, size, size]`, 0 outside the boxes.
        angle_deg: `[n]`.
        box: x, y, width, height `[4, n]` in pixels, (x, y) the middle: it holds all that was drawn. Only the part of
            the frame that it can reach is looked up.
        out: uint8 `[n, size, size]`.
    """
    size = images.shape[-1]
    find = _kept_sources if size <= CACHED_SIZE else _sources
    regions = _reach(box, angle_deg, size).tolist()
    out[...] = 0
    for k, angle in enumerate(np.rint(angle_deg).astype(int).tolist()):
        x0, y0, x1, y1 = regions[k]
        if x0 < x1 and y0 < y1:
            region = slice(y0, y1), slice(x0, x1)
            # The border, where a pixel comes from outside the frame, is 0.
            sources = find(angle % 360, size)[region]
            cv2.remap(images[k], sources, NO_SECOND_MAP, cv2.INTER_NEAREST, dst=out[k][region])


def _reach(box: Floats, angle_deg: Floats, size: int) -> Ints:
    """Frame regions x0, y0, x1, y1 `[n, 4]` that hold the rotated boxes; x0 >= x1 or y0 >= y1 if there is none."""
    x, y, width, height = box
    turned = axes(np.asarray(angle_deg, np.float64))
    middle = np.stack(turned.turn(x - size / 2.0, y - size / 2.0)) + size / 2.0
    c, s = abs(turned.ux), abs(turned.uy)
    half = np.stack((c * width + s * height, s * width + c * height)) / 2.0 + 1.0  # 1 px to round
    ends = np.concatenate((np.floor(middle - half), np.ceil(middle + half)))
    reach: Ints = np.clip(ends, 0, size).astype(np.int64).T
    return reach


def _sources(angle: int, size: int) -> NDArray[np.int16]:
    """For each pixel the pixel (x, y) that it comes from, int16 `[size, size, 2]`."""
    across, down = np.meshgrid(np.arange(size), np.arange(size))
    last = size - 1
    if angle % 90 == 0:  # quarter turns copy pixels, without arithmetic
        xs = (across, last - down, last - across, down)[angle // 90]
        ys = (down, across, last - down, last - across)[angle // 90]
    else:
        turn = -math.radians(angle)
        cos, sin = round(math.cos(turn), 15), round(math.sin(turn), 15)
        middle = size / 2.0
        x_start = cos * -middle + sin * -middle + 0.0 + middle
        y_start = -sin * -middle + cos * -middle + 0.0 + middle
        xs = (_fixed(x_start + cos * 0.5 + sin * 0.5) + _fixed(cos) * across) + _fixed(sin) * down
        ys = (_fixed(y_start - sin * 0.5 + cos * 0.5) + _fixed(-sin) * across) + _fixed(cos) * down
        xs, ys = xs >> 16, ys >> 16
    return np.stack((xs, ys), axis=2).astype(np.int16)


def _fixed(value: float) -> int:
    """A number in units of 2**-16, rounded to nearest, halves up."""
    return math.floor(value * 65536.0 + 0.5)


_kept_sources = lru_cache(maxsize=181)(_sources)
