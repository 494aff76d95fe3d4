"""What all pictures share: two widths, one size of letters, and colours that everybody tells apart.

Tests: tests/output/test_palette.py checks contrast, and what people with one kind of cone less see.
"""

import re
from typing import Any

COLUMN, PAGE = 3.5, 7.2  # inches: one column of a paper, and two
TEXT = 7.0  # points, of all letters
LINE, LETTERS = 0.135, 17.0  # a line of them: inches, and how many an inch holds
DPI = 250  # of a PNG
PALETTE: dict[str, tuple[str, str]] = {  # name: on a light page, on a dark one
    "ink": ("#1c1e21", "#e4e6eb"),
    "muted": ("#63686f", "#9ba1a9"),
    "grid": ("#d9dce1", "#3a3e45"),
    "baseline": ("#868d96", "#767c85"),
    # Okabe and Ito's (2008), the purple a little darker: every mark has a contrast of 3 on its page.
    "blue": ("#0072b2", "#56b4e9"),
    "orange": ("#d55e00", "#f08030"),
    "green": ("#009e73", "#35cda0"),
    "purple": ("#c871a3", "#dc8fba"),
}
CARDS = "#ffffff", "#1c1f24"  # what figures of a page stand on, templates/style.css.j2
LIGHT = {name: colours[0] for name, colours in PALETTE.items()}
SERIES = [LIGHT[name] for name in ("blue", "orange", "green", "purple", "ink")]
DASHES = ["-", "--", ":", "-."]  # with the colours: so many lines can be told apart
RIGHT, WRONG = LIGHT["blue"], LIGHT["orange"]  # beside a mark: colour alone tells nobody
# Lines over images and maps, whatever lies below: bright ones, between edges of `CASING`. Okabe and Ito's again.
CASING, PLAIN = "#000000", "#ffffff"
OUTLINES = {"orange": "#e69f00", "sky blue": "#56b4e9", "purple": "#cc79a7", "yellow": "#f0e442"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "pdf.fonttype": 42,  # as TrueType: what journals take
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "figure.titlesize": TEXT,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "legend.fontsize": TEXT,
    "legend.title_fontsize": TEXT,
    "axes.titlelocation": "left",
    "axes.edgecolor": LIGHT["muted"],
    "axes.linewidth": 0.6,
    "axes.labelcolor": LIGHT["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "text.color": LIGHT["ink"],
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar sign in a name starts no formula
}


def without_path(name: str) -> str:
    """An encoder's name without the folders of its file: "file:/somewhere/a.safetensors" is a.safetensors."""
    return re.sub(r"(?<=:)\S*/(?=\S)", "", name).removeprefix("file:")
