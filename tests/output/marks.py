"""What a reader must be able to see of a chart: lines, points and bars."""

from collections.abc import Iterator

from matplotlib.artist import Artist
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from probekit.output.style import LIGHT


def weak_marks(figure: Figure) -> list[str]:
    """Lines and points that let the page shine through, or are in no colour of the palette, whose contrast is tested.

    Bands and tints are no marks: what they say stands beside them in a line or a number.
    """
    colours = set(LIGHT.values())
    found = [(mark, to_rgba(colour)) for mark in figure.findobj(_drawn) for colour in _colours(mark)]
    return [f"{mark}: {to_hex(c, keep_alpha=True)}" for mark, c in found if c[3] < 1 or to_hex(c) not in colours]


def _drawn(artist: Artist) -> bool:
    return isinstance(artist, Line2D | LineCollection) and artist.get_visible()


def _colours(mark: Artist) -> Iterator[tuple[float, ...]]:
    if isinstance(mark, Line2D):
        alpha = mark.get_alpha()
        if mark.get_linestyle() != "None":
            yield to_rgba(mark.get_color(), alpha)
        if mark.get_marker() not in ("None", None, ""):
            yield to_rgba(mark.get_markeredgecolor(), alpha)  # type: ignore[arg-type]
    elif isinstance(mark, LineCollection):
        yield from (tuple(colour) for colour in mark.get_edgecolor())  # type: ignore[union-attr]
