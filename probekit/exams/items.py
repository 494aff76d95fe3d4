"""The items of the exam: pairs of drawings that differ in one class factor, at levels from hard to easy.

The drawings are those of `generators`, so each has its certificate and its ideal reader; an item names a factor, two of
its values, and the parameter whose levels make it harder. A new item is one entry of `ITEMS`. Nothing slow is loaded
here: the command line knows the names.
"""

from dataclasses import dataclass, field

BASE_SIZE = 128  # px, of the frames that lengths are told for
LEAST = 64  # px a side of the drawings: in smaller ones wholes do not fit
LOCAL, CONFIGURAL, RELATIONAL = "local", "configural", "relational"
CHANGED = "landolt"  # the item whose changes are the part "invariance"


@dataclass(frozen=True)
class Item:
    """A question with two answers."""

    about: str  # what is told apart, for tables
    kind: str  # "local", a patch has the answer; "configural" and "relational", no count of patches of `blind` has
    generator: str  # a name in `generators.GENERATORS`
    factor: str  # the class factor, and `values` its value in role 0 and in role 1
    values: tuple[int, int] = (0, 1)
    parameter: str = ""  # what `levels` are of, in px at 128, ascending; "" where there is one level alone
    levels: tuple[float, ...] = (0.0,)
    settings: dict[str, float] = field(default_factory=dict)  # of the generator, beside the level
    version: int = 1  # to be raised whenever its pixels change

    def px(self, size: int) -> list[float]:
        """Its levels in px of a frame of `size`."""
        return [level * size / BASE_SIZE for level in self.levels]


def blind(size: int) -> int:
    """Px a side of patches of which, in frames of so many px, both answers to a whole hold the same."""
    return 9 if size >= BASE_SIZE else 5


GREY = {"antialias": True}  # fractions of a pixel show with grey edges alone
RING = {**GREY, "gap_ratio": 1.0, "rotation": 0.0}
GAPS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)

ITEMS = {
    "landolt": Item("gap of a ring, right or up", LOCAL, "landolt", "opening", (0, 1), "gap", GAPS, RING),
    # Mirror images ask for what training under flips takes away; the price of that is landolt-mirror over landolt.
    "landolt-mirror": Item("gap of a ring, right or left", LOCAL, "landolt", "opening", (0, 2), "gap", GAPS, RING),
    "vernier": Item(
        "bars in line or offset",
        LOCAL,
        "vernier",
        "alignment",
        parameter="offset",
        levels=(0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0),
        settings={**GREY, "rotation": 180.0},
    ),
    "corner": Item(
        "corners of a rectangle, round or sharp, by radius",
        LOCAL,
        "rect-tri",
        "corner",
        parameter="corner_radius",
        levels=(2.0, 3.0, 4.0, 6.0, 9.0, 13.0, 20.0),
        settings={**GREY, "rotation": 180.0},
    ),
    "navon": Item("elements on a circle or a square", CONFIGURAL, "navon", "whole"),
    "enclosed": Item("which mark is inside a closed curve", CONFIGURAL, "enclosed", "inside", version=2),
    "align": Item("three marks in line or bent", RELATIONAL, "align", "line", version=2),
    "mirror": Item("pairs of marks mirrored or not", RELATIONAL, "align", "mirror", version=2),
    "bind": Item("which mark is in which frame", RELATIONAL, "bind", "in_ring", version=2),
    "same": Item("two shapes the same in each group or not", RELATIONAL, "same", "groups", version=2),
    "trace": Item("two beads on one curve or on two", RELATIONAL, "trace", "curve"),
}
