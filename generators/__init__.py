"""Parametrised shape images: factors to pixels, object masks and evidence masks.

NumPy and OpenCV only; neither torch nor probekit.
"""

from generators.base import Dial, Factor, Generator, Rendered
from generators.circ_sq import CircSq
from generators.rect_tri import RectTri

GENERATORS: dict[str, type[Generator]] = {
    RectTri.name: RectTri,  # fine-grained: the style of corners, the shape of a small triangle
    CircSq.name: CircSq,  # holistic: how many of two objects are squares
}

__all__ = ["GENERATORS", "CircSq", "Dial", "Factor", "Generator", "RectTri", "Rendered"]
