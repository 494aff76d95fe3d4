"""The mosaic of LCR's filters: over some images the map of each, all on one scale, for they compete at each cell.

The LCR paper's appendix shows such maps of each projection.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from probekit.data.truth import Truth
from probekit.h5.schema import EVIDENCE
from probekit.heatmaps.base import Row
from probekit.heatmaps.draw import BAR, choose, draw_map, draw_scale, end_of_scale, evidence_of, short
from probekit.heatmaps.measurement import FILTERS
from probekit.output.mosaic import Mosaic
from probekit.output.pictures import encoder_name
from probekit.output.style import LETTERS, OUTLINES
from probekit.results import data_name

IMAGES, COLUMNS = 2, 8  # images, and filters in a line
TITLE = (
    "Each map is that of one filter, orange above zero, blue below, all on one scale. Under each: the filter's number, "
    "and the share of the cells of all images at which it is the largest."
)


def draw_filters(result: Mapping[str, Any], truth: Truth, rows: Sequence[Row]) -> Figure:
    """Images, and beside each the maps of all filters, some lines of them; arguments as of `draw.draw_gallery`."""
    filters = [row for row in rows if row.name.startswith(FILTERS)]
    shown = choose(truth, None)
    shown = [shown[i] for i in np.unique(np.linspace(0, len(shown) - 1, min(IMAGES, len(shown))).round().astype(int))]
    maps = np.stack([row.maps for row in filters])  # [K, N, h, w]
    wins = np.bincount(maps.argmax(axis=0).ravel(), minlength=len(filters)) / maps[0].size
    most = end_of_scale(maps[:, [sample.place for sample in shown]])
    columns = min(COLUMNS, len(filters))
    lines = -(-len(filters) // columns)
    evidence = evidence_of(truth)
    colours = dict(zip(evidence, OUTLINES.values(), strict=False))
    grid = " x ".join(map(str, maps.shape[2:]))
    title = f"The {len(filters)} filters of {encoder_name(result)} on {data_name(result)}, {grid} cells\n{TITLE}"
    keys = {colour: name.replace(EVIDENCE, "evidence of ") for name, colour in colours.items()}
    mosaic = Mosaic(lines * len(shown), 1 + columns + BAR, title=title, keys=keys, below=1.1)
    size = (truth.split.images.shape[1], truth.split.images.shape[2])
    for block, sample in enumerate(shown):
        first = block * lines
        mosaic.image(first, 0, truth.split.images[sample.place])
        mosaic.caption(first, 0.5, short(sample.label, int(LETTERS * mosaic.cell)))
        for name, colour in colours.items():
            mosaic.outline(first, 0, evidence[name][sample.place], colour)
        for number, row in enumerate(filters):
            line, column = first + number // columns, 1 + number % columns
            draw_map(mosaic, line, column, truth.split.images[sample.place], row.maps[sample.place] / most, size)
            mosaic.caption(line, column + 0.5, f"{row.name.removeprefix(FILTERS)}: {100 * wins[number]:.0f} %")
    draw_scale(mosaic, 0, 1 + columns, most, signed=True)
    return mosaic.figure
