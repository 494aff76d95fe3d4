"""trace: exact, read, free of leaks, and apart; meanders against what is seen.

Run alone: python -m pytest tests/generators/test_trace.py
"""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest

from generators import Trace
from generators.meander import meanders
from tests.generators.whole import APART, check_exact, check_leak_free, check_read, swollen

GREY = {"antialias": True, "dark": True, "contrast": 0.3, "background": 0.2}
ENDS = ({"rows": 5, "turns": 3, "pitch": 20.0}, {"turns": 1}, {"rotation": 180.0}, {"rotation": 0.0})


@pytest.mark.parametrize("parameters", [{}, GREY, *ENDS])
def test_no_patch_tells_the_classes_apart(parameters: dict[str, float]) -> None:
    check_exact(Trace(parameters=parameters))


@pytest.mark.parametrize(("size", "parameters"), [(72, {}), (72, GREY), (128, {}), (128, GREY)])
def test_the_reader_is_right(size: int, parameters: dict[str, float]) -> None:
    check_read(Trace(size=size, parameters=parameters))


def test_the_reader_is_right_of_large_frames() -> None:
    check_read(Trace(size=512), 4)


def test_ink_places_and_pixels_do_not_tell_the_class() -> None:
    check_leak_free(Trace())


@pytest.mark.parametrize("rows", [5, 6])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_either_row_is_as_likely_on_the_curve_of_the_first_bead(rows: int, turns: int) -> None:
    known = meanders(rows, turns)
    triples = {tuple(triple) for triple in known.triples.tolist()}
    assert len(triples) == len(known.triples) > 0
    assert {(row, b, a) for row, a, b in triples} == triples
    assert (
        min(min(abs(row - a), abs(row - b)) for row, a, b in triples) == 2
    )  # in rows side by side beads could be near
    assert known.counts.min() > 0
    assert known.firsts[-1] + known.counts[-1] == len(known.members)
    # Drawn: how often bead 2 is on which row, and bead 1 where, in both classes.
    factors = Trace(parameters={"rows": rows, "turns": turns}).sample(0, "train", np.arange(6000))
    same, other = (Counter(zip(factors["row"], factors[name], strict=True)) for name in ("row_same", "row_other"))
    assert same.keys() == other.keys()
    assert max(abs(same[k] - other[k]) / np.sqrt(same[k] + other[k]) for k in same) < 4.5


@pytest.mark.parametrize("parameters", [{}, *ENDS])
def test_curves_are_two_and_beads_are_on_those_that_the_factors_name(parameters: dict[str, float]) -> None:
    generator = Trace(parameters=parameters)
    factors = generator.sample(5, "train", np.arange(40))
    for masks, other in zip(generator.render(factors).masks, factors["curve"], strict=True):
        one, two, first, second = ((masks >> k & 1) for k in range(4))
        assert cv2.connectedComponents(one, connectivity=8)[0] == 2
        assert cv2.connectedComponents(two, connectivity=8)[0] == 2
        assert cv2.connectedComponents(one | two, connectivity=8)[0] == 3
        rim = (one | two).copy()
        rim[1:-1, 1:-1] = 0
        assert not rim.any()
        assert (first & one).any()
        assert not (first & two).any()
        assert ((second & two).any(), (second & one).any()) == (other == 1, other == 0)


@pytest.mark.parametrize("parameters", [{}, *ENDS])
def test_a_patch_that_sees_a_bead_sees_its_row_and_nothing_else(parameters: dict[str, float]) -> None:
    """Around it the ink is two half lines: they leave the neighbourhood at two places and nothing else is in it."""
    generator = Trace(parameters=parameters)
    factors = generator.sample(6, "train", np.arange(30))
    for rows in (factors, generator.counterfactual(factors, "curve")):
        for masks in generator.render(rows).masks:
            one, two, first, second = ((masks >> k & 1) for k in range(4))
            for bead, rest in ((first, second), (second, first)):
                near = swollen(bead, APART - 1)
                assert not near[rest > 0].any()
                assert not near[[0, -1]].any()
                assert not near[:, [0, -1]].any()
                line = (one | two | bead) * near
                assert cv2.connectedComponents(line, connectivity=8)[0] == 2
                ends = line & ~swollen(bead, APART - 2)
                assert cv2.connectedComponents(ends, connectivity=8)[0] == 3


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turns_are_those_that_one_meets_on_the_way(turns: int) -> None:
    """Followed in the outline's corners: those of one edge, two a turn, in the order of the curve."""
    known = meanders(6, turns)
    for triple, (row, same, other) in enumerate(known.triples.tolist()):
        corners = known.corners[:, known.members[known.firsts[triple]]]
        order = corners[3, row].astype(int).tolist()
        visited = list(dict.fromkeys(order))
        assert abs(visited.index(row) - visited.index(same)) == turns
        assert other not in visited
