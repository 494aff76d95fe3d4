"""Parametrised shape images: factors to pixels, object masks and evidence masks.

NumPy and OpenCV only; neither torch nor probekit.
"""

from generators.align import Align
from generators.base import Generator, Rendered
from generators.bind import Bind
from generators.circ_sq import CircSq
from generators.enclosed import Enclosed
from generators.factors import Factor
from generators.landolt import Landolt
from generators.navon import Navon
from generators.parameters import Parameter
from generators.published import CircSqPublished, RectTriPublished
from generators.rect_tri import RectTri
from generators.same import Same
from generators.scenes import Scenes
from generators.trace import Trace
from generators.vernier import Vernier

GENERATORS: dict[str, type[Generator]] = {
    RectTri.name: RectTri,  # fine-grained: the style of corners, the shape of a small triangle
    CircSq.name: CircSq,  # holistic: how many of two objects are squares
    Landolt.name: Landolt,  # fine-grained: on which side a ring is open
    Navon.name: Navon,  # a holistic figure made of local ones
    Align.name: Align,  # whether marks are in a line, and mirrored: holistic
    Vernier.name: Vernier,  # whether bars are in one line: fine-grained when near, holistic when apart
    Bind.name: Bind,  # whole: which of two marks is in which of two frames
    Enclosed.name: Enclosed,  # whole: which of two marks is inside a closed curve
    Same.name: Same,  # whole: whether two shapes are the same in each of two groups
    Trace.name: Trace,  # whole: whether two beads are on the same of two curves
    RectTriPublished.name: RectTriPublished,  # rect-tri and circ-sq as the ConRec paper made them
    CircSqPublished.name: CircSqPublished,
}

_SHIPPED = frozenset((*GENERATORS, Scenes.name))


def drawn_by(name: str) -> type[Generator] | type[Scenes] | None:
    """What draws sets of that name: a generator, or scenes of several shapes; None if nothing does."""
    return Scenes if name == Scenes.name else GENERATORS.get(name)


def register(kind: type[Generator]) -> str:
    """Makes a generator of somebody's own known by its name in this process, and returns the name.

    Raises:
        ValueError: One that ships has the name. One that was registered before gives way.
    """
    if kind.name in _SHIPPED and drawn_by(kind.name) is not kind:
        raise ValueError(f"expected another name than {kind.name!r} for {kind.__name__}, found that of one that ships")
    GENERATORS[kind.name] = kind
    return kind.name


__all__ = [
    "GENERATORS",
    "Align",
    "Bind",
    "CircSq",
    "CircSqPublished",
    "Enclosed",
    "Factor",
    "Generator",
    "Landolt",
    "Navon",
    "Parameter",
    "RectTri",
    "RectTriPublished",
    "Rendered",
    "Same",
    "Scenes",
    "Trace",
    "Vernier",
    "drawn_by",
    "register",
]
