"""The scenes of the generators drawn with Pillow the field's plain way: ellipses, rectangles and polygons.

A scene has a function for each of its objects, which draws it on a pen from a row of factors; the peer then turns the
picture, unless the scene is drawn turned. Drawn turned is what has no level shape, and where that is cheaper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from generators.align import LARGE, SMALL
from generators.bind import REACH, ROUND
from generators.bind import STROKE as FRAME
from generators.enclosed import DIRECTIONS, HOLE, RADIUS
from generators.enclosed import STROKE as LINE
from generators.meander import meanders
from generators.same import DIRECTIONS as CORNERS
from generators.same import WALL
from generators.trace import BEAD, GAP
from generators.trace import STROKE as THIN

Row = Any  # one row of factors, a dict of numbers
Draw = Callable[[Any, Row, Any], None]  # draws a row on a pen with an ink


class Scene(NamedTuple):
    """What is drawn, in this order, and whether as ink or as a hole; and whether the picture is turned after it."""

    objects: tuple[tuple[Draw, bool], ...]
    turned: bool = True


def draw_rectangle(pen: Any, row: Row, ink: Any, *, published: bool) -> None:
    """The rectangle at whole pixels, with quarter discs if it is round; ours then has the area of the sharp one."""
    wide, high = row["width"] / 2, row["height"] / 2
    if not (row["corner"] or published):
        larger = math.sqrt(1.0 + (4.0 - math.pi) * 20.0**2 / (4.0 * wide * high))
        wide, high = larger * wide, larger * high
    x0, y0 = round(row["x"] - wide), round(row["y"] - high)
    x1, y1 = round(row["x"] + wide) - 1, round(row["y"] + high) - 1
    if row["corner"]:
        pen.rectangle([x0, y0, x1, y1], fill=ink)
        return
    pen.rectangle([x0, y0 + 20, x1, y1 - 20], fill=ink)
    pen.rectangle([x0 + 20, y0, x1 - 20, y1], fill=ink)
    for x, y, start in (
        (x0, y0, 180),
        (x1 - 40, y0, 270),
        (x1 - 40, y1 - 40, 0),
        (x0, y1 - 40, 90),
    ):
        pen.pieslice([x, y, x + 40, y + 40], start, start + 90, fill=ink)


def draw_triangle(pen: Any, row: Row, ink: Any, *, published: bool) -> None:
    """The triangle as a polygon. Its place is its first corner in the published recipe, else its centroid."""
    x, y = row["triangle_x"], row["triangle_y"]
    if row["triangle"]:
        wide, high, apex = row["leg_x"], row["leg_y"], 0.0
    else:
        wide, high, apex = row["triangle_side"], row["triangle_side"] * math.sqrt(0.75), row["triangle_side"] / 2
    if published:
        apex = math.floor(apex)
    else:  # Pillow cuts the fractions off, and so finds the nearest pixel
        x, y = x - (wide + apex) / 3, y - high / 3
    pen.polygon([(x, y), (x + wide, y), (x + apex, y + high)], fill=ink)


def draw_object(pen: Any, row: Row, ink: Any, *, number: int, published: bool) -> None:
    """Object `number` of circ-sq. Its size is the circle's width if published, else the equal square's side."""
    x, y, half = row[f"x_{number}"], row[f"y_{number}"], row[f"size_{number}"] / 2
    square = row[f"shape_{number}"]
    if not published and not square:
        half *= 2.0 / math.sqrt(math.pi)
    # Pillow cuts the fractions off, and draws both ends.
    box = (x - half + 0.5, y - half + 0.5, x + half - 0.5, y + half - 0.5)
    (pen.rectangle if square else pen.ellipse)(box, fill=ink)


def draw_ring(pen: Any, row: Row, ink: Any) -> None:
    """A Landolt ring: a disc, the disc in it and the opening."""
    x, y, gap = row["x"] - 0.5, row["y"] - 0.5, row["gap"]
    pen.ellipse((x - 2.5 * gap + 0.5, y - 2.5 * gap + 0.5, x + 2.5 * gap, y + 2.5 * gap), fill=ink)
    pen.ellipse((x - 1.5 * gap + 0.5, y - 1.5 * gap + 0.5, x + 1.5 * gap, y + 1.5 * gap), fill=0)
    ux, uy = ((1, 0), (0, -1), (-1, 0), (0, 1))[row["opening"]]
    ends = [
        (x + ux * out * gap + uy * side * gap / 2.0, y + uy * out * gap + ux * side * gap / 2.0)
        for out, side in ((0.0, -1), (2.5, 1))
    ]
    (x0, x1), (y0, y1) = (sorted(round(end) for end in axis) for axis in zip(*ends, strict=True))
    pen.rectangle([x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)], fill=0)


def draw_bar(pen: Any, row: Row, ink: Any, *, side: int) -> None:
    """A bar of vernier at its default settings: 4 px wide, 2 px between the bars."""
    x = row["x"] + (row["shift"] if side > 0 and row["alignment"] else 0.0)
    y = row["y"] + side * (1.0 + row["length"] / 2.0)
    box = (x - 2.0, y - row["length"] / 2.0, x + 1.0, y + row["length"] / 2.0 - 1.0)
    pen.rectangle([round(end) for end in box], fill=ink)


def turn(degrees: float, x: float, y: float) -> tuple[float, float]:
    """A vector turned counter-clockwise as seen, y down."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return cos * x + sin * y, cos * y - sin * x


def dot(pen: Any, x: float, y: float, radius: float, ink: Any) -> None:
    """A disc: Pillow's pixel centres are whole numbers; it draws both ends of a box, and cuts fractions off."""
    x, y = x - 0.5, y - 0.5
    pen.ellipse((math.ceil(x - radius), math.ceil(y - radius), x + radius, y + radius), fill=ink)


def draw_elements(pen: Any, row: Row, ink: Any) -> None:
    """The eight discs or squares of navon, upright; the mean radius of a square is 1.122 of its half side."""
    for k in range(8):
        angle = row["start"] + 45.0 * k
        x, y = turn(angle, row["radius"], 0.0)
        if row["whole"]:
            longer = 1.0 / (1.1222 * max(abs(x), abs(y)) / row["radius"])
            x, y = longer * x, longer * y
        x, y = turn(row["angle"], row["x"] + x - 64.0, row["y"] + y - 64.0)
        x, y = round(64.0 + x), round(64.0 + y)
        if row["element"]:
            pen.rectangle([x - 3, y - 3, x + 3, y + 3], fill=ink)
        else:
            dot(pen, x + 0.5, y + 0.5, 4.0, ink)


def draw_marks(pen: Any, row: Row, ink: Any, *, large: bool) -> None:
    """The three large marks of align, or its two pairs of small ones."""
    if large:
        places = [(0.0, row["first"]), (row["shift"] if row["line"] else 0.0, row["middle"]), (0.0, row["last"])]
    else:
        places = []
        for k in (1, 2):
            across, along = row[f"across_{k}"], row[f"along_{k}"]
            x, y = turn(row[f"towards_{k}"], 8.0, 0.0) if row["mirror"] else (0.0, 0.0)
            places += [(across, along), (x - across, y + along)]
    for across, along in places:
        x, y = turn(row["angle"], row["x"] + across - 64.0, along)
        dot(pen, math.floor(64.0 + x) + 0.5, math.floor(64.0 + y) + 0.5, LARGE if large else SMALL, ink)


def frame_of(row: Row) -> float:
    """Half the inner side of the frames of bind at its default distance."""
    inner: float = REACH * row["radius"] + 13.0
    return inner


def box_corners(row: Row, x: float, y: float, wide: float, high: float) -> list[tuple[float, float]]:
    """The corners of a turned rectangle with these half sides; Pillow draws the pixels on an outline, too."""
    wide, high = wide - 0.5, high - 0.5
    corners = (turn(row["angle"], *corner) for corner in ((-wide, -high), (wide, -high), (wide, high), (-wide, high)))
    return [(x + dx, y + dy) for dx, dy in corners]


def draw_frame(pen: Any, row: Row, ink: Any, *, round_: bool) -> None:
    """A ring, or a square with round corners: two polygons and a disc in each corner; then its hole."""
    x, y = (round(row[f"{'ring' if round_ else 'square'}_{axis}"]) + 0.5 for axis in "xy")
    inner = frame_of(row)
    for half, radius, fill in ((inner + FRAME, ROUND, ink), (inner, ROUND - FRAME, 0)):
        if round_:
            dot(pen, x, y, half, fill)
            continue
        straight = half - radius
        pen.polygon(box_corners(row, x, y, half, straight), fill=fill)
        pen.polygon(box_corners(row, x, y, straight, half), fill=fill)
        for dx, dy in box_corners(row, x, y, straight + 0.5, straight + 0.5):
            dot(pen, dx, dy, radius, fill)


def draw_mark(pen: Any, row: Row, ink: Any, *, bar: bool) -> None:
    """The disc or the bar of bind."""
    place = "ring" if bar == row["in_ring"] else "square"
    x, y, radius = round(row[f"{place}_x"]) + 0.5, round(row[f"{place}_y"]) + 0.5, row["radius"]
    if bar:
        pen.polygon(box_corners(row, x, y, 1.5 * radius, math.pi / 6.0 * radius), fill=ink)
    else:
        dot(pen, x, y, radius, ink)


def draw_curve(pen: Any, row: Row, ink: Any) -> None:
    """The closed curve of enclosed at its default lobes and depth, as a line of its width."""
    local = DIRECTIONS + math.radians(row["angle"])
    first, second = (
        np.cos(lobes * local + math.radians(row[phase])) for lobes, phase in ((4, "phase"), (3, "second_phase"))
    )
    radius = row["size"] * (1.0 + 0.25 * (row["regularity"] * first + (1.0 - row["regularity"]) * second))
    points = np.stack((row["x"] + radius * np.cos(DIRECTIONS), row["y"] + radius * np.sin(DIRECTIONS)), axis=1)
    line = (points + 0.25).ravel().tolist()  # Pillow's wide lines lie that much to the left and above
    pen.line([*line, *line[:2]], fill=ink, width=round(LINE))


def draw_inside(pen: Any, row: Row, ink: Any, *, ring: bool) -> None:
    """The disc or the small ring of enclosed."""
    place = "inside" if ring == row["inside"] else "outside"
    x, y = (round(row[f"{place}_{axis}"]) + 0.5 for axis in "xy")
    dot(pen, x, y, RADIUS, ink)
    if ring:
        dot(pen, x, y, HOLE, 0)


def draw_holed(pen: Any, row: Row, ink: Any, *, number: int) -> None:
    """Disc `number` of same, from 0, with the hole of its shape; Pillow draws the pixels on an outline, too."""
    place = (1, 3, 2, 4)[number] if row["groups"] else number + 1
    x, y, size = round(row[f"x_{place}"]) + 0.5, round(row[f"y_{place}"]) + 0.5, row["size"]
    dot(pen, x, y, size, ink)
    corners = []
    for k, direction in enumerate(CORNERS.tolist(), start=1):
        radius = (size - WALL - 0.5) * row[f"{'ab'[number // 2]}_{k}"]
        dx, dy = turn(row["angle"], radius * math.cos(direction), radius * math.sin(direction))
        corners.append((x + dx, y + dy))
    pen.polygon(corners, fill=0)


def on_row(row: Row, number: Any, along: Any) -> tuple[Any, Any]:
    """Places on the rows of trace at its default pitch, which are whole pixels apart."""
    ux, uy = turn(row["angle"], 1.0, 0.0)
    number = number - 2.5
    x = row["x"] + along * ux + number * round(-18.0 * uy)
    return x, row["y"] + along * uy + number * round(18.0 * ux)


def draw_winding(pen: Any, row: Row, ink: Any, *, first: bool) -> None:
    """A curve of trace, as the polygon around it."""
    number = int(row["row"] if first else row["row_other"])
    corners: NDArray[np.float64] = meanders(6, 2).corners[:, int(row["meander"]), number]
    thick = THIN / 2.0 - 0.25  # Pillow draws the pixels on an outline, too
    along = corners[0] * row["length"] / 2.0 + corners[1] * GAP + corners[2] * thick
    x, y = on_row(row, corners[3] + corners[4] * (thick / 18.0), along)
    pen.polygon(np.stack((x, y), axis=1).ravel().tolist(), fill=ink)


def draw_bead(pen: Any, row: Row, ink: Any, *, first: bool) -> None:
    """A bead of trace."""
    number, along = ("row", "along") if first else (("row_same", "row_other")[row["curve"]], "along_2")
    dot(pen, *on_row(row, row[number], row[along]), BEAD, ink)


def ink(*draws: Draw) -> tuple[tuple[Draw, bool], ...]:
    """Objects that are all ink."""
    return tuple((draw, True) for draw in draws)


def sides(draw: Callable[..., None], name: str, values: Sequence[Any]) -> tuple[tuple[Draw, bool], ...]:
    """One object for each value of a keyword."""
    return ink(*(partial(draw, **{name: value}) for value in values))


# In the order of each generator's objects.
SCENES: dict[str, Scene] = {
    **{
        f"rect-tri{kind}": Scene(
            (
                (partial(draw_rectangle, published=bool(kind)), True),
                (partial(draw_triangle, published=bool(kind)), False),
            )
        )
        for kind in ("", "-published")
    },
    **{
        f"circ-sq{kind}": Scene(sides(partial(draw_object, published=bool(kind)), "number", (1, 2)))
        for kind in ("", "-published")
    },
    "landolt": Scene(ink(draw_ring)),
    "vernier": Scene(sides(draw_bar, "side", (-1, 1))),
    "navon": Scene(ink(draw_elements), turned=False),
    "align": Scene(sides(draw_marks, "large", (True, False)), turned=False),
    "bind": Scene(sides(draw_frame, "round_", (True, False)) + sides(draw_mark, "bar", (False, True)), turned=False),
    "enclosed": Scene(ink(draw_curve) + sides(draw_inside, "ring", (False, True)), turned=False),
    "same": Scene(sides(draw_holed, "number", range(4)), turned=False),
    "trace": Scene(
        sides(draw_winding, "first", (True, False)) + sides(draw_bead, "first", (True, False)), turned=False
    ),
}
