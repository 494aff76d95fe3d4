"""A generator of somebody's own, without an edit of the package: drawn, certified, and its counterfactuals known.

Alone: pytest tests/generators/test_register.py
"""

from collections.abc import Iterator

import numpy as np
import pytest

import probekit
from generators import GENERATORS, register
from generators.rect_tri import RectTri
from tests.generators.bar_dot import BarDot


@pytest.fixture(autouse=True)
def table() -> Iterator[None]:
    """The table as it was, afterwards."""
    before = dict(GENERATORS)
    yield
    GENERATORS.clear()
    GENERATORS.update(before)


def test_a_class_is_drawn_and_known_by_its_name() -> None:
    drawn = probekit.generate(BarDot, n=6, size=32, seed=1)
    again = probekit.generate("bar-dot", n=6, size=32, seed=1)
    np.testing.assert_array_equal(drawn.images, again.images)
    other = drawn.counterfactuals["side"]
    np.testing.assert_array_equal(drawn.labels ^ 1, other.labels)  # type: ignore[operator]
    changed = drawn.images != other.images
    assert drawn.masks["evidence:side"][changed].all()
    assert drawn._repr_png_().startswith(b"\x89PNG")


def test_a_cell_that_runs_again_takes_the_place_of_its_class_and_of_no_other() -> None:
    class Again(BarDot):
        about = "another"

    assert register(BarDot) == register(Again) == "bar-dot"
    assert GENERATORS["bar-dot"] is Again
    assert register(RectTri) == "rect-tri"

    class Taken(BarDot):
        name = "rect-tri"

    with pytest.raises(ValueError, match="expected another name than 'rect-tri' for Taken"):
        probekit.generate(Taken, n=2)


def test_its_certificate_is_the_commands() -> None:
    found = probekit.certify("rect-tri", n=80, size=32)
    assert found.to_dict()["n"] == 80
    assert found.sentences[0].startswith("corner: ")
    assert found.sentences[0] in " ".join(repr(found).split())
    assert "<table>" in found._repr_html_()
    with pytest.raises(ValueError, match="unknown generator 'rect'"):
        probekit.certify("rect")
