"""A few images, each with those that were retrieved by it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from probekit.output.mosaic import Mosaic

RIGHT, WRONG = "#1b9e77", "#d62728"
HEADS = ("query", "1st", "2nd", "3rd", "18th", "19th", "20th")


def draw_gallery(rows: Sequence[tuple[NDArray[np.uint8], Sequence[bool]]]) -> Figure:
    """One row for each query: itself, its 3 nearest, and the 3 least similar of its 20 nearest.

    Args:
        rows: Images uint8 `[n, H, W]` or `[n, H, W, 3]`, the query first; whether each of the others has its class.
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
