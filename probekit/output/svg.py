"""A figure as SVG that follows the page's colours.

Every colour of a chart is one of `PALETTE`; in the SVG it becomes `var(--chart-NAME, LIGHT)`, so that the page can
darken it and a saved file is light everywhere. Text stays text: it can be searched, and shows names that matplotlib has
no glyphs for.
"""

import io
import re
import warnings
from xml.etree import ElementTree

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from probekit.output.style import LIGHT, STYLE

PIXELS = 120  # of an inch in CSS: letters of `TEXT` points are then 12 px high, and a column fits a phone
SVG = "http://www.w3.org/2000/svg"
LINK = "{http://www.w3.org/1999/xlink}href"
FONT = re.compile(r"'DejaVu Sans'[^;]*")
COLOUR = re.compile(r"#[0-9a-f]{6}\b")
VARIABLES = {light: f"var(--chart-{name}, {light})" for name, light in LIGHT.items()}


def to_svg(figure: Figure, key: str) -> str:
    """An SVG element for a page, of a figure in the colours of `PALETTE`; the same figure and key give the same text.

    `key` is unique on the page: it keeps the ids of several figures apart.
    """
    stream = io.StringIO()
    FigureCanvasSVG(figure)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": key}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has fonts of its own
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ElementTree.fromstring(stream.getvalue())
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):  # a style would reach the whole page
                parent.remove(child)
    for element in root.iter():
        _adapt(element, key)
    width, height = (round(inches * PIXELS) for inches in figure.get_size_inches())
    root.attrib.update({"width": str(width), "height": str(height), "style": "stroke-linejoin:round"})
    return ElementTree.tostring(root, encoding="unicode")


def _adapt(element: ElementTree.Element, key: str) -> None:
    """Ids of this figure's own, colours that follow the page, fonts that every system has."""
    for name, value in element.attrib.items():
        if name == "id":
            element.set(name, f"{key}.{value}")
        elif name == LINK and value.startswith("#"):
            element.set(name, f"#{key}.{value[1:]}")
        elif "url(#" in value:
            element.set(name, value.replace("url(#", f"url(#{key}."))
        if name in ("style", "fill", "stroke"):
            element.set(
                name,
                FONT.sub(
                    "system-ui, sans-serif",
                    COLOUR.sub(lambda found: VARIABLES.get(found[0], found[0]), element.attrib[name]),
                ),
            )
