"""The laws of the generators in plain Python, a sample at a time: what a peer draws before it can draw its picture.

Default settings; numbers from `random`, tries until one fits, and NumPy where one image alone has arrays. Checked
against the generators' own factors in tests/test_benchmarks.py. Classes come at random: to balance them costs more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from random import Random
from typing import Any

import numpy as np

from benchmarks.scenes import turn
from generators.align import ACROSS, ALONG, FAR, LARGE, NEAR, SIDE, SMALL
from generators.bind import GAP, MARGIN, REACH, ROUND, STROKE
from generators.enclosed import AWAY, CLEAR, DIRECTIONS, OFF, SHIFT
from generators.meander import meanders
from generators.same import APART, NARROW, TILT, UNLIKE
from generators.trace import ENDS
from generators.trace import GAP as JOINT
from generators.trace import STROKE as THIN

Row = dict[str, Any]


def in_disc(rng: Random, reach: float) -> tuple[float, float]:
    """A point anywhere in a disc about the middle of the frame."""
    away, direction = reach * math.sqrt(rng.random()), rng.uniform(0.0, 2.0 * math.pi)
    return 64.0 + away * math.cos(direction), 64.0 + away * math.sin(direction)


def landolt(rng: Random) -> Row:
    """A place in a disc."""
    x, y = in_disc(rng, 30.0)
    return {"opening": rng.randrange(4), "angle": 0.0, "gap": 6.0, "x": x, "y": y}


def vernier(rng: Random) -> Row:
    """A place in a disc that is as large as the bars are short."""
    length = rng.uniform(14.0, 22.0)
    x, y = in_disc(rng, 54.0 - math.hypot(1.0 + length, 8.0))
    shift = rng.choice((-6.0, 6.0))
    return {
        "alignment": rng.randrange(2),
        "angle": rng.uniform(-90.0, 90.0),
        "shift": shift,
        "length": length,
        "x": x,
        "y": y,
    }


def rect_tri(rng: Random) -> Row:
    """A rectangle, then a triangle until both kinds fit into it."""
    lost, inner = (4.0 - math.pi) * 400.0, 4.0
    area = rng.uniform(64.0**2, 88.0**2 - lost)
    sharp, larger = math.sqrt(area), math.sqrt(area + lost)
    room = min(math.log(sharp / 64.0), math.log(88.0 / larger))
    stretch = math.exp(rng.uniform(-1.0, 1.0) * max(room, 0.0))
    wide, high = sharp * stretch, sharp / stretch
    x, y = in_disc(rng, 63.0 - math.hypot(larger * stretch, larger / stretch) / 2.0)
    side = rng.uniform(18.0, 38.0)
    area = math.sqrt(3.0) / 4.0 * side**2
    bound = 9.0 * 27.5**2 / area
    most = min(2.0 * area / 256.0, (bound + math.sqrt(bound**2 - 64.0)) / 16.0, 2.0)
    ratio = most ** rng.uniform(-1.0, 1.0)
    leg_x, leg_y = math.sqrt(2.0 * area * ratio), math.sqrt(2.0 * area / ratio)
    height = side * math.sqrt(0.75)
    corners = [
        *((-side / 2.0, -height / 3.0), (side / 2.0, -height / 3.0), (0.0, 2.0 * height / 3.0)),
        *((-leg_x / 3.0, -leg_y / 3.0), (2.0 * leg_x / 3.0, -leg_y / 3.0), (-leg_x / 3.0, 2.0 * leg_y / 3.0)),
    ]
    half_x, half_y = wide / 2.0 - inner, high / 2.0 - inner
    across, down = zip(*corners, strict=True)
    while True:
        dx = rng.uniform(-half_x - min(across), half_x - max(across))
        dy = rng.uniform(-half_y - min(down), half_y - max(down))
        for cx, cy in corners:
            over_x, over_y = max(abs(dx + cx) - half_x + 16.0, 0.0), max(abs(dy + cy) - half_y + 16.0, 0.0)
            if over_x * over_x + over_y * over_y > 256.0:
                break
        else:
            break
    return {
        "corner": rng.randrange(2),
        "triangle": rng.randrange(2),
        "angle": rng.uniform(-90.0, 90.0),
        "width": wide,
        "height": high,
        "x": x,
        "y": y,
        "triangle_x": x + dx,
        "triangle_y": y + dy,
        "triangle_angle": 0.0,
        "triangle_side": side,
        "leg_x": leg_x,
        "leg_y": leg_y,
    }


def circ_sq(rng: Random) -> Row:
    """Two sizes, then two places until circles and squares fit in both."""
    round_, gap = 1.0 / math.sqrt(math.pi), 10.0
    sizes = rng.uniform(16.0, 40.0), rng.uniform(16.0, 40.0)
    (one, other), (half, half_other) = (round_ * sizes[0], round_ * sizes[1]), (sizes[0] / 2.0, sizes[1] / 2.0)
    reach, reach_other = 63.0 - one, 63.0 - other
    while True:
        x, y = rng.uniform(-reach, reach), rng.uniform(-reach, reach)
        if math.hypot(x, y) > reach or math.hypot(abs(x) + half, abs(y) + half) > 63.0:
            continue
        x_2, y_2 = rng.uniform(-reach_other, reach_other), rng.uniform(-reach_other, reach_other)
        if math.hypot(x_2, y_2) > reach_other or math.hypot(abs(x_2) + half_other, abs(y_2) + half_other) > 63.0:
            continue
        dx, dy = abs(x_2 - x), abs(y_2 - y)
        if math.hypot(dx, dy) < gap + one + other:
            continue
        if math.hypot(max(dx - half, 0.0), max(dy - half, 0.0)) < gap + other:
            continue
        if math.hypot(max(dx - half_other, 0.0), max(dy - half_other, 0.0)) < gap + one:
            continue
        if math.hypot(max(dx - half - half_other, 0.0), max(dy - half - half_other, 0.0)) >= gap:
            break
    shapes = rng.choice(((0, 0), (0, 1), (1, 0), (1, 1), (0, 0), (1, 1)))
    places = {"x_1": 64.0 + x, "y_1": 64.0 + y, "x_2": 64.0 + x_2, "y_2": 64.0 + y_2}
    return {
        "shape_1": shapes[0],
        "shape_2": shapes[1],
        "angle": rng.uniform(-90.0, 90.0),
        "size_1": sizes[0],
        "size_2": sizes[1],
        **places,
    }


def navon(rng: Random) -> Row:
    """Size and place at which circle and square fit."""
    angle, start = rng.uniform(-90.0, 90.0), rng.uniform(-11.25, 11.25)
    reach, nearest = [], math.inf
    for square in (False, True):
        points = []
        for k in range(8):
            ux, uy = turn(start + 45.0 * k, 1.0, 0.0)
            longer = 1.0 / (1.1222 * max(abs(ux), abs(uy))) if square else 1.0
            points.append(turn(angle, longer * ux, longer * uy))
        reach.append([max(abs(point[axis]) for point in points) for axis in (0, 1)])
        for (x, y), (x_2, y_2) in zip(points, points[1:] + points[:1], strict=True):
            nearest = min(nearest, max(abs(x - x_2), abs(y - y_2)))
    wide, high = (max(both) for both in zip(*reach, strict=True))
    largest = 51.0 / max(wide, high)
    smallest = min(17.1 / nearest, largest)
    radius = rng.uniform(smallest, max(min(largest, 36.0), smallest))
    x, y = (rng.uniform(-1.0, 1.0) * (51.0 - radius * most) for most in (wide, high))
    x, y = turn(-angle, x, y)
    whole = {"angle": angle, "radius": radius, "x": 64.0 + x, "y": 64.0 + y, "start": start}
    return {"whole": rng.randrange(2), "element": rng.randrange(2), **whole}


def align(rng: Random) -> Row:
    """A line, then one pair after the other until all its places are free."""
    row: Row = {"line": rng.randrange(2), "mirror": rng.randrange(2), "angle": rng.uniform(-90.0, 90.0)}
    beside = rng.uniform(-ACROSS, ACROSS)
    row["x"] = 64.0 + beside
    row["first"], row["middle"] = rng.uniform(-FAR, -NEAR), rng.uniform(-ALONG, ALONG)
    row["last"], row["shift"] = rng.uniform(NEAR, FAR), rng.choice((-8.0, 8.0))
    cos, sin = math.cos(math.radians(row["angle"])), math.sin(math.radians(row["angle"]))
    line = [(0.0, row[name]) for name in ("first", "middle", "last")] + [(row["shift"], row["middle"])]
    taken = [(cos * x + sin * y, cos * y - sin * x, LARGE + SMALL + SIDE) for x, y in line]
    most, least = 64.0 - SIDE - SMALL, LARGE + SMALL + SIDE
    longest = math.sqrt(most**2 - (least + abs(beside)) ** 2)
    for k in (1, 2):
        while True:
            along = rng.uniform(-longest, longest)
            across = rng.uniform(-1.0, 1.0) * (math.sqrt(most**2 - along**2) - abs(beside) - least)
            across += math.copysign(least, across)
            towards = rng.uniform(-180.0, 180.0)
            dx, dy = turn(towards, 8.0, 0.0)
            if (dx - across + beside) ** 2 + (along + dy) ** 2 > most**2:
                continue
            places = (across, along), (-across, along), (dx - across, along + dy)
            seen = [(cos * x + sin * y, cos * y - sin * x) for x, y in places]
            one = [(*seen[0], 2.0 * SMALL + SIDE)]
            if all(max(abs(x - px), abs(y - py)) >= gap for x, y in seen for px, py, gap in taken) and all(
                max(abs(x - px), abs(y - py)) >= gap for x, y in seen[1:] for px, py, gap in one
            ):
                break
        row |= {f"across_{k}": across, f"along_{k}": along, f"towards_{k}": towards}
        taken += [(x, y, 2.0 * SMALL + SIDE) for x, y in seen]
    return row


def bind(rng: Random) -> Row:
    """Two frames in some direction so far apart as there is room, and then wherever there is some."""
    radius = rng.uniform(4.0, 5.0)
    half = REACH * radius + 13.0 + STROKE
    reach = math.sqrt(2.0) * (half - ROUND) + ROUND
    room, apart = 2.0 * (64.0 - MARGIN - reach), half + reach + GAP
    least = math.acos(min(room / apart, 1.0))
    direction = rng.uniform(least, math.pi / 2.0 - least)
    steps = math.cos(direction), math.sin(direction)
    length = rng.uniform(apart, max(room / max(steps), apart))
    row: Row = {"in_ring": rng.randrange(2), "angle": rng.uniform(-90.0, 90.0), "radius": radius}
    for axis, step in zip("xy", steps, strict=True):
        step *= length * rng.choice((-1.0, 1.0))
        middle = 64.0 + rng.uniform(-0.5, 0.5) * (room - abs(step))
        row[f"ring_{axis}"], row[f"square_{axis}"] = middle - step / 2.0, middle + step / 2.0
    return row


def enclosed(rng: Random) -> Row:
    """A curve and two places, until there is room for a mark at both, one on each side of the curve."""
    shift = rng.uniform(-SHIFT, SHIFT), rng.uniform(-SHIFT, SHIFT)
    angle, clear = rng.uniform(-90.0, 90.0), CLEAR + 9.0
    while True:
        size = rng.uniform(26.0, 30.0)
        room = [59.0 - 1.25 * size - abs(middle) for middle in shift]
        x, y = (rng.choice((-1.0, 1.0)) * rng.uniform(AWAY, 1.0) * most for most in room)
        dx, dy = rng.uniform(-OFF, OFF), rng.uniform(-OFF, OFF)
        marks = (dx, dy), (-dx - 2.0 * x, -dy - 2.0 * y)
        if math.hypot(*marks[1]) < 0.75 * size + clear:
            continue
        share, phase, second = rng.uniform(0.5, 1.0), rng.uniform(-180.0, 180.0), rng.uniform(-180.0, 180.0)
        turns = math.radians(4.0 * angle + phase), math.radians(3.0 * angle + second)
        beyond = []
        for px, py in marks:
            to = math.atan2(py, px)
            radius = share * math.cos(4.0 * to + turns[0]) + (1.0 - share) * math.cos(3.0 * to + turns[1])
            beyond.append(math.hypot(px, py) >= size * (1.0 + 0.25 * radius))
        if beyond != [False, True]:
            continue
        waves = share * np.cos(4.0 * DIRECTIONS + turns[0]) + (1.0 - share) * np.cos(3.0 * DIRECTIONS + turns[1])
        radii = size * (1.0 + 0.25 * waves)
        cx, cy = radii * np.cos(DIRECTIONS), radii * np.sin(DIRECTIONS)
        if all(np.maximum(abs(cx - px), abs(cy - py)).min() >= clear for px, py in marks):
            break
    row: Row = {"inside": rng.randrange(2), "angle": angle, "size": size, "regularity": share, "phase": phase}
    row["second_phase"] = second
    for axis, middle, curve, off in zip("xy", shift, (x, y), (dx, dy), strict=True):
        row[axis], row[f"inside_{axis}"] = 64.0 + middle + curve, 64.0 + middle + curve + off
        row[f"outside_{axis}"] = 64.0 + middle - curve - off
    return row


def same(rng: Random) -> Row:
    """Two shapes until they are unlike, then four places until the groups are apart."""
    row: Row = {"groups": rng.randrange(2), "angle": rng.uniform(-90.0, 90.0)}
    size = row["size"] = rng.uniform(10.0, 11.0)
    first = [rng.uniform(NARROW, 1.0) for _ in range(6)]
    while True:
        second = [rng.uniform(NARROW, 1.0) for _ in range(6)]
        if sum(abs(a - b) for a, b in zip(first, second, strict=True)) >= 6.0 * UNLIKE:
            break
    for name, corners in (("a", first), ("b", second)):
        row |= {f"{name}_{k}": corner for k, corner in enumerate(corners, start=1)}
    room, apart = 64.0 - APART - size, 2.0 * size + 32.0
    within = (2.0 * size + APART) / math.cos(math.radians(TILT)) / 2.0
    flip, way = rng.random() < 0.5, rng.choice((-1.0, 1.0))
    while True:
        tilts = [math.radians(rng.uniform(-TILT, TILT)) for _ in range(2)]
        along, beside = ([within * of(tilt) for tilt in tilts] for of in (math.cos, math.sin))
        free = [room - abs(step) for step in beside]
        step = rng.uniform(apart, sum(free))
        low = rng.uniform(-free[0], free[1] - step)
        middles = [(rng.uniform(-1.0, 1.0) * (room - along[k]), low + k * step) for k in (0, 1)]
        places = [
            [(x + sign * along[k] * way, y + sign * beside[k] * way) for sign in (-1.0, 1.0)]
            for k, (x, y) in enumerate(middles)
        ]
        if all(math.hypot(a[0] - b[0], a[1] - b[1]) >= apart for a, b in product(*places)):
            break
    for k, (x, y) in enumerate((*places[0], *places[1]), start=1):
        row[f"x_{k}"], row[f"y_{k}"] = (64.0 + y, 64.0 + x) if flip else (64.0 + x, 64.0 + y)
    return row | {f"{disc}_turn": 0 for disc in ("a_disc_1", "a_disc_2", "b_disc_1", "b_disc_2")}


def trace(rng: Random) -> Row:
    """A row and two others, a meander of theirs, and all where it has room."""
    known = meanders(6, 2)
    triple = rng.randrange(len(known.triples))
    member = known.firsts[triple] + rng.randrange(int(known.counts[triple]))
    high = (5.0 * (18.0 + math.sqrt(0.5)) + THIN) / 2.0
    beside = 2.0 * JOINT + THIN / 2.0
    longest = 2.0 * (math.sqrt(63.0**2 - high**2) - beside)
    length = rng.uniform(max(2.0 * ENDS + 4.0, 0.7 * longest), longest)
    x, y = in_disc(rng, 63.0 - math.hypot(high, length / 2.0 + beside))
    room = length / 2.0 - ENDS
    row, alike, other = known.triples[triple].tolist()
    rows = {"row": row, "row_same": alike, "row_other": other, "meander": int(known.members[member])}
    beads = {"along": rng.uniform(-room, room), "along_2": rng.uniform(-room, room)}
    return (
        {"curve": rng.randrange(2), "angle": rng.uniform(-90.0, 90.0), "x": x, "y": y, "length": length} | rows | beads
    )


LAWS: dict[str, Callable[[Random], Row]] = {
    "rect-tri": rect_tri,
    "circ-sq": circ_sq,
    "landolt": landolt,
    "vernier": vernier,
    "navon": navon,
    "align": align,
    "bind": bind,
    "enclosed": enclosed,
    "same": same,
    "trace": trace,
}


def rows(name: str, n: int, seed: int = 0) -> Iterator[Row]:
    """So many samples, one after the other."""
    rng, law = Random(seed), LAWS[name]
    return (law(rng) for _ in range(n))
