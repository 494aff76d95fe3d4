"""Shapes: each knows the pixels whose centres it holds and, for grey edges, its outline as a polygon.

Arrays have one value for each image, `[n]`, in pixels of the frame at hand; plain numbers hold for all. The pixels and
`vertices` of an image depend on that image's values alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from generators import coverage, planes, polygons, raster
from generators.raster import Axes, Copies, Floats, Ints, Layer, Words

SPRITES = 256  # px, of a frame: in larger ones the sprites of all columns are more than what is saved


class Shape(Protocol):
    """What can be drawn: a region for each image. A named tuple of arrays, numbers and such tuples."""

    def layers(self, size: int) -> list[Layer]:
        """The pixels whose centres it holds, in frames of `size` px: those that an odd number of these hold."""

    def vertices(self, size: int) -> Floats:
        """Its outline `[n, V, 2]`."""


class Disc(NamedTuple):
    """Discs about (x, y)."""

    x: Floats
    y: Floats
    radius: Floats

    def layers(self, size: int) -> list[Layer]:
        return [raster.disc(self.x, self.y, self.radius, size)]

    def vertices(self, size: int) -> Floats:
        level = Axes(np.ones_like(self.x), np.zeros_like(self.x))
        return coverage.superellipse_outline(self.x, self.y, level, self.radius, 2.0, size)


class Box(NamedTuple):
    """Rotated rectangles about (x, y), with corners rounded by `radius`, or sharp ones."""

    x: Floats
    y: Floats
    turned: Axes
    half_x: Floats
    half_y: Floats
    radius: float = 0.0

    def layers(self, size: int) -> list[Layer]:
        if not self.radius:
            return [raster.box(self.x, self.y, self.turned, self.half_x, self.half_y, size)]
        radius = np.full_like(self.x, self.radius)
        return [raster.round_box(self.x, self.y, self.turned, self.half_x, self.half_y, radius, size)]

    def vertices(self, size: int) -> Floats:
        return coverage.box_outline(self.x, self.y, self.turned, self.half_x, self.half_y, self.radius)


class Superellipse(NamedTuple):
    """Rotated |u / half|**exponent + |v / half|**exponent <= 1 about (x, y); exponent 2 or more."""

    x: Floats
    y: Floats
    turned: Axes
    half: Floats
    exponent: float

    def layers(self, size: int) -> list[Layer]:
        return [raster.superellipse(self.x, self.y, self.turned, self.half, self.exponent, size)]

    def vertices(self, size: int) -> Floats:
        return coverage.superellipse_outline(self.x, self.y, self.turned, self.half, self.exponent, size)


class Triangle(NamedTuple):
    """Triangles with corners `[n, 3, 2]`."""

    corners: Floats

    def layers(self, size: int) -> list[Layer]:
        return [raster.triangle(self.corners, size)]

    def vertices(self, size: int) -> Floats:
        return self.corners


class Polygon(NamedTuple):
    """Simple polygons, convex or not, with corners (x, y), `[n, V]` each, clockwise as seen.

    With holes `[n, L, V]`, the corners of these the other way.
    """

    x: Floats
    y: Floats

    def layers(self, size: int) -> list[Layer]:
        return [polygons.polygon(self.x, self.y, size)]

    def vertices(self, size: int) -> Floats:
        corners = np.stack((self.x, self.y), axis=-1)
        if corners.ndim == 4:  # one outline, which goes to a hole and back on the same way
            corners = np.concatenate((corners, corners[:, :, :1]), axis=2).reshape(len(self.x), -1, 2)
        return corners


class Choice(NamedTuple):
    """One shape where `which`, bool `[n]`, is true, and the other elsewhere."""

    which: NDArray[np.bool_]
    yes: Shape
    no: Shape

    def layers(self, size: int) -> list[Layer]:
        found: list[Layer] = []
        for rows, shape in ((self.which, self.yes), (~self.which, self.no)):
            if rows.all():
                found += shape.layers(size)
            elif rows.any():
                image = np.flatnonzero(rows)
                found += [raster.of_images(spans, image, size) for spans in _of(shape, image).layers(size)]
        return found

    def vertices(self, size: int) -> Floats:
        yes, no = self.yes.vertices(size), self.no.vertices(size)
        count = max(yes.shape[1], no.shape[1])
        return np.where(self.which[:, None, None], _repeat_last(yes, count), _repeat_last(no, count))


class Sprites:
    """Shapes of one image, about the origin, whose copies `Copied` stand whole pixels away from it.

    In frames that are not large they are drawn once for each column, all in as many rows.
    """

    def __init__(self, *shapes: Any, size: int) -> None:
        self.shapes = shapes
        x, y = np.arange(size + 1.0), np.full(size + 1, size // 2 * 1.0)
        if size > SPRITES:
            return
        layers = [[(spans, 1) for spans in _moved(shape, x, y).layers(size)] for shape in shapes]
        drawn = [planes.draw("sprites", held, 1, size + 1, size, planes.Band(None, size))[0].copy() for held in layers]
        held = np.flatnonzero(np.any(drawn, axis=(0, 1, 3)))
        self.top, self.height = int(held[0]) - size // 2, int(held[-1] - held[0]) + 1
        rows = np.ascontiguousarray(np.concatenate(drawn)[:, held[0] : held[-1] + 1]).reshape(-1)
        self.table = rows.view(f"V{len(rows) // len(shapes) // (size + 1)}")


class Copied(NamedTuple):
    """One of the sprites in each image, number `which`, moved by whole pixels (x, y); it lies in the frame."""

    sprites: Sprites
    which: Ints
    x: Floats
    y: Floats

    def layers(self, size: int) -> list[Layer]:
        if size > SPRITES:
            return self._drawn().layers(size)
        x, first = self.x.astype(np.int64), self.y.astype(np.int64) + self.sprites.top
        assert not len(x) or (
            min(x.min(), first.min()) >= 0 and max(x.max(), first.max() + self.sprites.height) <= size
        )
        first += np.arange(0, len(x) * size, size)
        return [Copies(x + (size + 1) * self.which, self.sprites.table, self.sprites.height, first)]

    def vertices(self, size: int) -> Floats:
        return self._drawn().vertices(size)

    def _drawn(self) -> Shape:
        one, *others = (_moved(shape, self.x, self.y) for shape in self.sprites.shapes)
        return Choice(self.which == 0, one, others[0]) if others else one


class Stamp(NamedTuple):
    """A shape of each image, drawn in a small frame (`stamped`), whose first pixel is whole pixels (x, y) away."""

    shape: Shape
    pixels: Words
    top: int
    x: Floats
    y: Floats

    def layers(self, size: int) -> list[Layer]:
        """As of every `Shape`; what is drawn lies in the frame."""
        n, height = self.pixels.shape
        x, first = self.x.astype(np.int64), self.y.astype(np.int64) + self.top
        assert not n or (first.min() >= 0 and first.max() + height <= size)
        first += np.arange(0, n * size, size)
        moved = np.empty((n, height, -(-size // 64)), np.uint64)
        for word in range(moved.shape[2]):
            right = (x - 64 * word).astype(np.uint64)[:, None]  # to shift by 64 or more leaves nothing
            np.bitwise_or(self.pixels << right, self.pixels >> -right, out=moved[..., word])
        held = np.ascontiguousarray(moved.view(np.uint8)[..., : -(-size // 8)]).reshape(n, -1)
        return [Copies(np.arange(n), held.view(f"V{held.shape[1]}")[:, 0], height, first)]

    def vertices(self, size: int) -> Floats:
        """Its parts have them."""
        raise AssertionError("a stamp is binary")


def stamped(shape: Shape, n: int) -> tuple[Words, int]:
    """Shapes that lie in frames of 64 px, a word for each row from the first that any of them holds on, `[n, h]`.

    Returns:
        The words, and that row.
    """
    whole = planes.Band(None, 64)
    layers = [(spans, 1) for part in (*parts(shape), *holes(shape)) for spans in part.layers(64)]
    pixels: Words = planes.draw("stamp", layers, 1, n, 64, whole)[0].view("<u8")[..., 0]
    rows = np.flatnonzero(pixels.any(axis=0))
    top, end = (int(rows[0]), int(rows[-1]) + 1) if n else (0, 64)
    return pixels[:, top:end].copy(), top


class Group(NamedTuple):
    """Several shapes as one, which do not overlap; each of the holes lies within one of them."""

    inside: tuple[Shape, ...]
    cut: tuple[Shape, ...] = ()

    def layers(self, size: int) -> list[Layer]:
        return [spans for shape in (*self.inside, *self.cut) for spans in shape.layers(size)]

    def vertices(self, size: int) -> Floats:
        """Its parts have them."""
        raise AssertionError("a group is drawn part by part")


def parts(shape: Shape) -> tuple[Shape, ...]:
    """The shapes of a group, or the shape itself."""
    return shape.inside if isinstance(shape, Group) else (shape,)


def holes(shape: Shape) -> tuple[Shape, ...]:
    """What is cut out of a group."""
    return shape.cut if isinstance(shape, Group) else ()


def same(one: Any, other: Any) -> bool:
    """Whether two shapes are one and the same in every image."""
    if isinstance(one, tuple):
        return type(one) is type(other) and all(same(*pair) for pair in zip(one, other, strict=True))
    return np.array_equal(one, other)


def _moved(shape: Any, x: Floats, y: Floats) -> Any:
    """The shape of one image at (x, y) in each of more."""
    shapes = _of(shape, np.zeros(len(x), np.int64))
    return shapes._replace(x=shapes.x + x, y=shapes.y + y)


def _of(shape: Any, image: Ints) -> Any:
    """The shape in some of the images."""
    if isinstance(shape, tuple):
        return type(shape)(*(_of(part, image) for part in shape))  # a named tuple
    return shape.take(image, axis=0) if isinstance(shape, np.ndarray) else shape


def _repeat_last(vertices: Floats, count: int) -> Floats:
    """Repeat the last vertex until there are `count`; a polygon does not mind."""
    missing = count - vertices.shape[1]
    return np.concatenate((vertices, np.repeat(vertices[:, -1:], missing, axis=1)), axis=1)
