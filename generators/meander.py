"""Meanders: parallel rows that are joined pairwise at their ends, so that they make two open curves."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from generators.raster import Floats, Ints

MAX_DEPTH = 2  # joints around joints
Joints = dict[int, tuple[int, int]]  # of a row at one side: the row it is joined to, and how many joints deep


class Meanders(NamedTuple):
    """Every way to join some rows so that two curves come out, and who is on one curve with whom.

    corners: float `[5, M, rows, V]`, the outline of the curve that a row is on, for each row, clockwise: a corner is at
    (c0 * half + c1 * gap + c2 * thick) along the rows and at row c3 + c4 * thick / pitch; lengths are half a row, from
    joint to joint around it, and half the line's width. triples: int `[T, 3]`, a row and two that are neither it nor
    next to it, where either could be on its curve, `turns` joints away, and the other on the other. firsts, counts: int
    `[T]`, where `members` int has the meanders in which the first of the two is.
    """

    corners: Floats
    triples: Ints
    firsts: Ints
    counts: Ints
    members: Ints


@lru_cache(maxsize=16)
def meanders(rows: int, turns: int) -> Meanders:
    """All of so many rows."""
    joints = list(_sides(tuple(range(rows))))
    curves = [
        (*found, left, right)
        for left in joints
        for right in joints
        if (len(left) + len(right)) // 2 == rows - 2 and (found := _curves(left, right, rows))
    ]
    corners = np.zeros((5, len(curves), rows, 4 * (rows - 1)))
    of_triple: dict[tuple[int, int, int], list[int]] = {}
    for k, (*both, left, right) in enumerate(curves):
        for curve, other in (both, both[::-1]):
            corners[:, k, curve] = _outline(curve, left, right, rows)[:, None]
            for i, row in enumerate(curve):
                for joined in {*curve[i + turns : i + turns + 1], *curve[max(i - turns, 0) : max(i - turns + 1, 0)]}:
                    for apart in other:
                        of_triple.setdefault((row, joined, apart), []).append(k)
    triples = sorted(
        (row, a, b) for row, a, b in of_triple if (row, b, a) in of_triple and min(abs(row - a), abs(row - b)) > 1
    )
    members = [of_triple[triple] for triple in triples]
    count = np.array([len(some) for some in members])
    return Meanders(corners, np.array(triples), np.cumsum(count) - count, count, np.concatenate(members))


def _sides(rows: tuple[int, ...]) -> Iterator[Joints]:
    """Every way to join some rows at one side without a crossing."""
    if not rows:
        yield {}
        return
    for rest in _sides(rows[1:]):
        yield rest
    for k in range(1, len(rows)):
        for within in _sides(rows[1:k]):
            depth = 1 + max((deep for _, deep in within.values()), default=0)
            if depth <= MAX_DEPTH:
                for rest in _sides(rows[k + 1 :]):
                    yield {rows[0]: (rows[k], depth), rows[k]: (rows[0], depth), **within, **rest}


def _curves(left: Joints, right: Joints, rows: int) -> tuple[list[int], list[int]] | None:
    """The rows of the two curves in order, each from an end that is free; None if a curve is closed."""
    found: list[list[int]] = []
    for row in range(rows):
        if not any(row in curve for curve in found) and (row not in left or row not in right):
            curve, side = [row], left if row not in right else right
            while curve[-1] in side:
                curve.append(side[curve[-1]][0])
                side = right if side is left else left
            found.append(curve)
    if len(found) != 2 or len(found[0]) + len(found[1]) != rows:
        return None
    return found[0], found[1]


def _outline(curve: list[int], left: Joints, right: Joints, rows: int) -> NDArray[np.float64]:
    """The corners `[5, V]` around a curve: along one edge of the line, and back along the other."""
    way = 1 if curve[0] not in left else -1  # along the first row: 1 is to the right
    edges = []
    for edge in (-1, 1):
        points, now = [(-way, 0, 0, curve[0], edge * way)], way
        for row, after in pairwise(curve):
            depth = (right if now > 0 else left)[row][1]
            down = 1 if after > row else -1
            column = (now, now * depth, -edge * down)
            points += [(*column, row, edge * now), (*column, after, -edge * now)]
            now = -now
        points.append((now, 0, 0, curve[-1], edge * now))
        edges.append(points)
    corners = edges[0] + edges[1][::-1]
    corners += corners[-1:] * (4 * (rows - 1) - len(corners))
    return np.array(corners, np.float64).T
