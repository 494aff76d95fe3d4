"""Files of pictures: PNG, SVG and PDF, never over one that probekit did not draw."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from textwrap import wrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.typing import NDArray

from probekit.files import replaced
from probekit.output import formats
from probekit.output.style import CARDS, DPI, LETTERS, LIGHT, PALETTE, STYLE, TEXT

SOFTWARE = "probekit"
MARKS = {  # what stands in a file of ours
    "png": b"tEXtSoftware\0" + SOFTWARE.encode(),  # PNG specification, 11.3.3.2: among the first chunks
    "svg": f"<dc:title>{SOFTWARE}</dc:title>".encode(),  # the creator, in Dublin Core
    "pdf": f"/Creator ({SOFTWARE})".encode(),  # of the document information, at the end
}
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": SOFTWARE},
    "svg": {"Creator": SOFTWARE, "Date": None},
    "pdf": {"Creator": SOFTWARE, "Producer": None, "CreationDate": None},
}
HEAD = 4096  # bytes of a file in which a mark stands that is at its beginning


def save(figure: Figure, out: Path) -> Path:
    """Draws a figure to `out`, and beside it in the formats of --format; each file is whole or not there.

    Its folder is made. Refuses as `check_picture`. Returns `out`.
    """
    check_picture(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    for path in files_of(out):
        _write(figure, path)
    return out


def save_both(figure: Figure, out: Path) -> Path:
    """As `save`, and beside it a PNG for dark pages; the figure is dark afterwards."""
    save(figure, out)
    darken(figure)
    _write(figure, formats.dark_of(out), facecolor=CARDS[1])
    return out


def _write(figure: Figure, path: Path, **more: Any) -> None:
    kind = path.suffix.lower()[1:]
    FigureCanvasAgg(figure)
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": path.stem}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # drawn as a box
        with replaced(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=DPI, metadata=METADATA[kind], **more)


def darken(figure: Figure) -> None:
    """Turns text, lines and frames in colours of `PALETTE` into those of a dark page; images stay as they are."""
    dark = {to_rgba(light): shade for light, shade in PALETTE.values()}
    for text in figure.findobj(Text):
        text.set_color(dark.get(to_rgba(text.get_color()), text.get_color()))
    for line in figure.findobj(Line2D):
        line.set_color(dark.get(to_rgba(line.get_color()), line.get_color()))
    for patch in figure.findobj(Rectangle):
        patch.set_edgecolor(dark.get(to_rgba(patch.get_edgecolor()), patch.get_edgecolor()))


def files_of(out: Path) -> list[Path]:
    """A picture's own file, then those of the formats that were asked for beside it."""
    return list(dict.fromkeys([out, *(out.with_suffix(f".{kind}") for kind in formats.chosen)]))


def names_of(out: Path) -> str:
    """The names of these files, for a line that says what was written."""
    return " and ".join(map(str, files_of(out)))


def pixels(figure: Figure, *, dpi: int) -> NDArray[np.uint8]:
    """What a PNG file of the figure would hold, uint8 `[H, W, 3]`."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def entitle(figure: Figure, title: str) -> None:
    """Writes a title over a figure, from the left, on as many lines as it takes."""
    room = round(0.85 * LETTERS * figure.get_size_inches()[0])  # letters in bold are wider
    lines = wrap(title, room, break_on_hyphens=False)
    about: dict[str, Any] = {"fontsize": TEXT, "color": LIGHT["ink"], "weight": "bold", "parse_math": False}
    figure.suptitle("\n".join(lines), x=0.01, ha="left", **about)


def encoder_name(result: Mapping[str, Any]) -> str:
    """For a title: a result's run, with checkpoint and pooling where they are not the last encoder's own."""
    return str(result["run"]) + ("" if result["checkpoint"] == "last" else f", {result['checkpoint']}")


def check_picture(out: Path) -> None:
    """Refuses another ending than those of `FORMATS`, and files that probekit did not draw: its own are drawn again."""
    if out.suffix.lower()[1:] not in formats.FORMATS:
        named = out.with_suffix(".png") if out.name else "picture.png"
        raise ValueError(
            f"expected a picture NAME.png, NAME.svg or NAME.pdf, found {out}; type --out {quote(str(named))}"
        )
    for path in files_of(out):
        kind = path.suffix.lower()[1:]
        drawn = marked(path, MARKS[kind], HEAD if kind != "pdf" else None)
        if (path.exists() or path.is_symlink()) and not drawn:
            raise ValueError(
                f"{path} exists and is no picture that probekit drew; move it away or choose another --out"
            )


def marked(path: Path, mark: bytes, head: int | None = HEAD) -> bool:
    """Whether it is a file of ours: these bytes stand in its first `head`, None all."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return mark in file.read(head)
