"""PNG files, never over a file that probekit did not draw; and a grid of pictures on one axes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from probekit.files import replaced

SOFTWARE = "probekit"
MARK = b"tEXtSoftware\0" + SOFTWARE.encode()  # PNG specification, 11.3.3.2: among the first chunks
HEAD = 4096  # bytes of a file in which it stands
GAP = 0.04  # of a cell, on each side of a picture
LINE, LETTERS = 0.16, 14  # a line of text of font size 8: inches, and how many letters an inch holds
LEAST = 4.4  # inches of width: room for a title
Extent = tuple[float, float, float, float]  # left, right, bottom, top, as matplotlib has them
RIGHT, WRONG = "#1b9e77", "#d62728"
HEADS = ("query", "1st", "2nd", "3rd", "18th", "19th", "20th")


def save_png(figure: Figure, out: Path, *, dpi: int) -> Path:
    """Draws a figure to a PNG file, whole or not at all; its folder is made. Refuses as `check_png`."""
    check_png(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    with replaced(out) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi, metadata={"Software": SOFTWARE})
    return out


def pixels(figure: Figure, *, dpi: int) -> NDArray[np.uint8]:
    """What `save_png` would draw, uint8 `[H, W, 3]`."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def encoder_name(result: Mapping[str, Any]) -> str:
    """For a title: a result's run, with checkpoint and pooling where they are not the last encoder's own."""
    return str(result["run"]) + ("" if result["checkpoint"] == "last" else f", {result['checkpoint']}")


def check_png(out: Path) -> None:
    """Refuses what does not end in .png, or is a file that probekit did not draw: its own can be drawn again."""
    if out.suffix.lower() != ".png":
        named = out.with_suffix(".png") if out.name else "picture.png"
        raise ValueError(f"expected a picture NAME.png, found {out}; type --out {quote(str(named))}")
    if (out.exists() or out.is_symlink()) and not marked(out, MARK):
        raise ValueError(f"{out} exists and is no picture that probekit drew; move it away or choose another --out")


def marked(path: Path, mark: bytes) -> bool:
    """Whether it is a file of ours: these bytes stand at its head."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return mark in file.read(HEAD)


class Mosaic:
    """A figure of rows x columns cells: cell (i, j) covers x in [j, j + 1] and y in [i, i + 1], from the top left."""

    def __init__(
        self, rows: int, columns: float, *, cell: float, title: str, head: float, left: float = 0.1, below: float = 0.0
    ) -> None:
        needed = left + cell * columns + 0.1
        width = max(LEAST, needed)
        left += (width - needed) / 2  # a narrow one in the middle under its title
        lines = [part for line in title.splitlines() for part in wrap(line, round(LETTERS * width))]
        above = LINE * len(lines) + 0.1
        height = above + head + (cell + below) * rows + 0.1
        self.figure = Figure(figsize=(width, height))
        self._picture = cell / (cell + below)  # of a row, that is the picture's
        self.axes = self.figure.add_axes(
            (left / width, 0.1 / height, cell * columns / width, (cell + below) * rows / height),
            xlim=(0, columns),
            ylim=(rows, 0),
        )
        self.axes.set_axis_off()
        self.axes.autoscale(enable=False)
        self.figure.text(0.5, 1 - 0.05 / height, "\n".join(lines), ha="center", va="top", fontsize=8, parse_math=False)

    def extent(self, row: int, column: int, size: tuple[int, int]) -> Extent:
        """Where a picture of (height, width) pixels lies in a cell, as large as fits."""
        scale = (1 - 2 * GAP) / max(size)
        y, x = row + self._picture / 2, column + 0.5
        high, wide = size[0] * scale * self._picture / 2, size[1] * scale / 2
        return x - wide, x + wide, y + high, y - high

    def show(self, row: int, column: int, values: ArrayLike, size: tuple[int, int], **style: Any) -> None:
        """Draws an array over the place of a picture of `size`; `style` is that of `imshow`."""
        self.axes.imshow(values, extent=self.extent(row, column, size), aspect="auto", **style)

    def frame(self, row: int, column: int, size: tuple[int, int], colour: str, width: float) -> None:
        """Draws a line around a picture."""
        left, right, bottom, top = self.extent(row, column, size)
        self.axes.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=width)
        )

    def write(self, x: float, y: float, text: str, *, size: float, **style: Any) -> None:
        """A text at cells' coordinates, above the point and in the middle unless `style` says otherwise."""
        self.axes.text(x, y, text, fontsize=size, parse_math=False, **{"ha": "center", "va": "bottom"} | style)

    def below(self, row: int) -> float:
        """Where the text under a row's pictures begins."""
        return row + self._picture


def draw_gallery(rows: Sequence[tuple[NDArray[np.uint8], Sequence[bool]]]) -> Figure:
    """One row for each query: itself, its 3 nearest, and the 3 least similar of its 20 nearest.

    `rows`: images uint8 `[n, H, W]` or `[n, H, W, 3]`, the query first; whether each of the others has its class.
    """
    most = max(len(images) for images, _ in rows)
    mosaic = Mosaic(len(rows), most, cell=1.2, title="green: of the query's class", head=0.25)
    for j, head in zip(range(most), HEADS, strict=False):
        mosaic.write(j + 0.5, 0, head, size=8)
    for i, (images, hits) in enumerate(rows):
        for j, image in enumerate(images):
            size = image.shape[:2]
            mosaic.show(i, j, image, size, cmap="gray", vmin=0, vmax=255)
            if j > 0:
                mosaic.frame(i, j, size, RIGHT if hits[j - 1] else WRONG, 3)
    return mosaic.figure
