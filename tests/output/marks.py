"""What a reader must be able to see of a chart: lines, points and whiskers."""

from matplotlib.artist import Artist
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgba, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from probekit.output.style import LIGHT

RGBA = tuple[float, float, float, float]


def weak_marks(figure: Figure) -> list[str]:
    """Lines and points that let the page shine through, or are in no colour of the palette, whose contrast is tested.

    Bands and tints are no marks: what they say stands beside them in a line or a number.
    """
    colours = set(LIGHT.values())
    found = [(mark, colour) for mark in figure.findobj(Artist) for colour in _colours(mark)]
    return [f"{mark}: {to_hex(c, keep_alpha=True)}" for mark, c in found if c[3] < 1 or to_hex(c) not in colours]


def _colours(mark: Artist) -> list[RGBA]:
    if isinstance(mark, LineCollection):
        return [(r, g, b, a) for r, g, b, a in to_rgba_array(mark.get_edgecolor())]
    found = []
    if isinstance(mark, Line2D):
        if mark.get_linestyle() != "None":
            found.append(to_rgba(mark.get_color(), mark.get_alpha()))
        if mark.get_marker() not in ("None", None, ""):
            found.append(to_rgba(mark.get_markeredgecolor(), mark.get_alpha()))
    return found
