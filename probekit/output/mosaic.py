"""Pictures of images: a grid of cells on one axes, as wide as a column of a paper or as two."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from probekit.output.style import CASING, COLUMN, LETTERS, LIGHT, LINE, PAGE, PLAIN, RIGHT, TEXT, WRONG

GAP = 0.03  # of a cell, on each side of a picture
ENOUGH, MOST = 0.8, 1.3  # inches of a cell: with so much for each a column is enough; the largest
EDGE = 0.1  # inches around all
GREY: dict[str, Any] = {"cmap": "gray", "interpolation": "nearest"}  # one channel; three are shown as they are
FRAME = "#b0b4ba"
HEADS = ("query", "1st", "2nd", "3rd", "18th", "19th", "20th")
Extent = tuple[float, float, float, float]  # left, right, bottom, top, as matplotlib has them


class Mosaic:
    """A figure of rows x columns cells: cell (i, j) covers x in [j, j + 1] and y in [i, i + 1], from the top left.

    Args:
        title: Its first line is set in bold; lines are broken where they are too long.
        keys: What outlines of a colour are of, in a line of its own.
        heads: Lines of text above the first row.
        left, right: Inches beside the cells, for names.
        below: Lines of text under each picture.
        most: Inches of the largest cell.
        tail: Lines of text under the last row.
    """

    def __init__(
        self,
        rows: int,
        columns: float,
        *,
        title: str,
        keys: Mapping[str, str] = {},
        heads: int = 0,
        left: float = 0.0,
        right: float = 0.0,
        below: float = 0.0,
        tail: float = 0.0,
        most: float = MOST,
    ) -> None:
        left, right = left + EDGE, right + EDGE
        width = COLUMN if left + right + columns * max(ENOUGH, 0.7 * most) <= COLUMN else PAGE
        cell = min(most, (width - left - right) / columns)
        room = round(LETTERS * (width - 2 * EDGE))
        titles = [
            wrap(line, room if number else round(0.85 * room), break_on_hyphens=False)
            for number, line in enumerate(title.splitlines())
        ]
        lines = [part for parts in titles for part in parts]
        row = cell + below * LINE
        above = EDGE + LINE * (len(lines) + bool(keys) * 1.2 + 0.6 + heads)
        height = above + row * rows + LINE * tail + EDGE
        self.figure = Figure(figsize=(width, height))
        self.cell, self._picture = cell, cell / row  # inches; of a row, that is the picture's
        self.line = LINE / row  # a line of text, in rows
        self.axes = self.figure.add_axes(
            (left / width, (EDGE + LINE * tail) / height, cell * columns / width, row * rows / height),
            xlim=(0, columns),
            ylim=(rows, 0),
        )
        self.axes.set_axis_off()
        self.axes.autoscale(enable=False)
        for number, line in enumerate(lines):
            y = 1 - (EDGE + LINE * number) / height
            weight = "bold" if number < len(titles[0]) else "normal"
            self.figure.text(EDGE / width, y, line, va="top", weight=weight, **_TEXT)
        self._key(keys, EDGE / width, 1 - (EDGE + LINE * (len(lines) + 0.6)) / height, width)

    def _key(self, keys: Mapping[str, str], x: float, y: float, width: float) -> None:
        """Pieces of lines, each before its name."""
        for colour, name in keys.items():
            for shade, wide in ((CASING, 2.2), (colour, 1.2)):
                self.figure.add_artist(Line2D([x, x + 0.16 / width], [y, y], color=shade, linewidth=wide))
            self.figure.text(x + 0.21 / width, y, name, va="center", **_TEXT)
            x += (0.36 + len(name) / LETTERS) / width

    def extent(self, row: int, column: int, size: tuple[int, int]) -> Extent:
        """Where a picture of (height, width) pixels lies in a cell, as large as fits."""
        scale = (1 - 2 * GAP) / max(size)
        y, x = row + self._picture / 2, column + 0.5
        high, wide = size[0] * scale * self._picture / 2, size[1] * scale / 2
        return x - wide, x + wide, y + high, y - high

    def show(self, row: int, column: int, values: ArrayLike, size: tuple[int, int], **style: Any) -> Any:
        """Draws an array over the place of a picture of `size`; `style` is that of `imshow`."""
        return self.axes.imshow(values, extent=self.extent(row, column, size), aspect="auto", **style)

    def image(self, row: int, column: int, pixels: NDArray[np.uint8]) -> None:
        """Draws an image uint8 `[h, w]` or `[h, w, 3]`, with a hair line around it: it may be white."""
        size = (pixels.shape[0], pixels.shape[1])
        self.show(row, column, pixels, size, vmin=0, vmax=255, **GREY)
        self.frame(row, column, size)

    def frame(self, row: int, column: int, size: tuple[int, int], colour: str = FRAME, width: float = 0.5) -> None:
        """Draws a line around a picture."""
        left, right, bottom, top = self.extent(row, column, size)
        self.axes.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=width)
        )

    def outline(self, row: int, column: int, mask: NDArray[np.bool_], colour: str = PLAIN) -> None:
        """Draws the edges of a mask `[h, w]` along its pixels, between dark edges: visible on whatever lies below."""
        left, right, bottom, top = self.extent(row, column, (mask.shape[0], mask.shape[1]))
        steps = np.array([(right - left) / mask.shape[1], (bottom - top) / mask.shape[0]])
        lines = (edges_of(mask) * steps + (left, top)).tolist()
        for shade, width in ((CASING, 1.3), (colour, 0.6)):
            self.axes.add_collection(LineCollection(lines, colors=shade, linewidths=width, capstyle="projecting"))

    def box(self, row: int, column: int, size: tuple[int, int], corners: Sequence[float], colour: str) -> None:
        """Draws a box (x0, y0, x1, y1), in the picture's pixels, between dark edges."""
        left, right, bottom, top = self.extent(row, column, size)
        wide, high = (right - left) / size[1], (bottom - top) / size[0]
        x, y, x1, y1 = corners
        for shade, width in ((CASING, 2.0), (colour, 1.0)):
            self.axes.add_patch(
                Rectangle(
                    (left + x * wide, top + y * high),
                    (x1 - x) * wide,
                    (y1 - y) * high,
                    fill=False,
                    edgecolor=shade,
                    linewidth=width,
                )
            )

    def scale_bar(self, row: int, column: int, size: tuple[int, int], *, shrunk: float = 1.0) -> None:
        """Draws how long so many pixels are, under a picture: a quarter of it, in a round number of pixels.

        `shrunk`: how many pixels of the file one of the picture's stands for.
        """
        left, right, bottom, _ = self.extent(row, column, size)
        px = max(1, 2 ** round(np.log2(size[1] * shrunk / 4)))
        y, end = bottom + 0.6 * self.line, left + (right - left) * px / (size[1] * shrunk)
        self.axes.plot([left, end], [y, y], color=LIGHT["ink"], linewidth=1.5, solid_capstyle="butt", clip_on=False)
        self.write(end + 0.04, y, f"{px} px", ha="left", va="center")

    def write(self, x: float, y: float, text: str, **style: Any) -> None:
        """A text at cells' coordinates, above the point and in the middle unless `style` says otherwise."""
        self.axes.text(x, y, text, **_TEXT | {"ha": "center", "va": "bottom"} | style)

    def head(self, x: float, text: str, line: int = 0) -> None:
        """A text above the first row; `line`: of the heads, 0 the lowest."""
        self.write(x, -(line + 0.2) * self.line, text)

    def name(self, row: int, text: str) -> None:
        """The name of a row, before it."""
        self.write(-0.06 / self.cell, row + self._picture / 2, text, ha="right", va="center")

    def caption(self, row: int, x: float, text: str, **style: Any) -> None:
        """A text under a picture of a row."""
        self.write(x, row + self._picture + 0.05 * self.line, text, va="top", **style)


_TEXT: dict[str, Any] = {"fontsize": TEXT, "color": LIGHT["ink"], "parse_math": False}


def edges_of(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The sides of pixels on which a mask `[h, w]` ends, `[n, 2, 2]` of (x, y): the frame is an end, too."""
    padded = np.pad(np.asarray(mask, bool), 1)
    y, x = np.nonzero(padded[1:-1, :-1] != padded[1:-1, 1:])
    upright = np.stack([np.stack([x, y], 1), np.stack([x, y + 1], 1)], 1)
    y, x = np.nonzero(padded[:-1, 1:-1] != padded[1:, 1:-1])
    return np.concatenate([upright, np.stack([np.stack([x, y], 1), np.stack([x + 1, y], 1)], 1)])


def draw_gallery(rows: Sequence[tuple[NDArray[np.uint8], Sequence[bool]]], title: str) -> Figure:
    """One row for each query: itself, its 3 nearest, and the 3 least similar of its 20 nearest.

    `rows`: images uint8 `[n, H, W]` or `[n, H, W, 3]`, the query first; whether each of the others has its class.
    """
    most = max(len(images) for images, _ in rows)
    key = "framed in blue, ✓: of the query's class; in orange, ✗: of another"
    mosaic = Mosaic(len(rows), most, title=f"{title}\n{key}", heads=1, below=1)
    for j, head in zip(range(most), HEADS, strict=False):
        mosaic.head(j + 0.5, head)
    for i, (images, hits) in enumerate(rows):
        for j, image in enumerate(images):
            mosaic.image(i, j, image)
            if j > 0:
                judge(mosaic, i, j, image.shape[:2], right=hits[j - 1])
    return mosaic.figure


def judge(mosaic: Mosaic, row: int, column: int, size: tuple[int, int], *, right: bool, text: str = "") -> None:
    """Marks a picture as right or wrong, by a frame and a sign under it, before `text`."""
    colour = RIGHT if right else WRONG
    mosaic.frame(row, column, size, colour, 1.8)
    mosaic.caption(row, column + 0.5, f"{'✓' if right else '✗'} {text}".rstrip(), color=colour)
