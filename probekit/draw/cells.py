"""Features of patches: their principal components as colours, and the nearest patches of two images."""

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from probekit.draw.patches import Matches, components, match, spread
from probekit.draw.sample import Pixels, Sample, Subject, Work
from probekit.output.mosaic import Mosaic
from probekit.output.style import PLAIN, SERIES, without_path

IMAGES = 8  # of the picture of components
PATCHES = len(SERIES)  # of the picture of matches


def draw_components(work: Work) -> tuple[Figure, dict[str, Any], list[str]]:
    """Images, and under them their cells in the colours of the first three components, a row for each encoder."""
    asked, sample = work.asked, work.sample
    work.check_map()
    rows = sample.shown(asked, IMAGES)
    images = sample.images(rows)
    seen = work.subjects[0].seen(images)
    size = seen.shape[1:3]
    found = {subject.name: components(subject.features(images)) for subject in work.subjects}
    lines = [
        f"{name}: the three components hold {' + '.join(f'{100 * share:.0f}' for share in each.shares)} % "
        f"of the variance of {each.colours[..., 0].size:,} cells"
        for name, each in found.items()
    ]
    title = f"{work.title}: features of patches, principal components 1, 2, 3 as red, green, blue\n"
    title += "One PCA for all images of a row, so that a colour means one thing in all of them\n" + "\n".join(lines)
    mosaic = Mosaic(1 + len(found), len(rows), title=title, heads=1, left=0.9)
    mosaic.name(0, "image")
    for column, row in enumerate(rows):
        mosaic.head(column + 0.5, f"#{sample.index[row]}")
        mosaic.image(0, column, seen[column])
    for line, (name, each) in enumerate(found.items(), 1):
        cells = each.colours.shape[1:3]
        mosaic.name(line, f"{fill(without_path(name), 14)}\n{cells[0]} x {cells[1]} cells")
        for column in range(len(rows)):
            mosaic.show(line, column, each.colours[column], size, interpolation="nearest")
    numbers = [
        {"name": name, "shares": each.shares, "cells": list(each.colours.shape[1:3]), "n": len(rows)}
        for name, each in found.items()
    ]
    return mosaic.figure, {"images": [int(sample.index[row]) for row in rows], "rows": numbers}, lines


def draw_matches(work: Work) -> tuple[Figure, dict[str, Any], list[str]]:
    """Patches of an image, and the nearest of another: of its counterfactual, or of another image of its class."""
    sample = work.sample
    work.check_map()
    pair, told = _pair(sample, work.asked.of)
    features = [subject.features(pair) for subject in work.subjects]
    cells = spread(features[0][0], PATCHES)
    rows, lines = [], []
    for subject, maps in zip(work.subjects, features, strict=True):
        found = match(maps[0], maps[1])
        rows.append(_row(subject, found, cells, maps.shape[1:3], told["counterfactual"] is not None))
        lines.append(_told(rows[-1]))
    title = f"{work.title}: nearest patches by cosine, {told['text']}\n"
    title += "A line leads from a patch to the nearest of the other image; these patches are the least alike\n"
    mosaic = Mosaic(len(rows), 2.75, title=title + "\n".join(lines), heads=1, below=1.6, most=2.3)
    for line, (row, maps) in enumerate(zip(rows, features, strict=True)):
        mosaic.write(1, line, without_path(row["name"]))
        _lines(mosaic, line, row, work.subjects[0].seen(pair), maps.shape[1:3])
    return mosaic.figure, {"pair": told, "rows": rows}, lines


def _pair(sample: Sample, of: tuple[int, ...] | None) -> tuple[Pixels, dict[str, Any]]:
    """Two images, and what they are: an image and its counterfactual where a generator drew it, else of one class."""
    first = 0 if of is None else int(np.searchsorted(sample.index, of[0]))
    place = int(sample.index[first])
    if of is not None and len(of) == 2:
        images, told = sample.images([first, int(np.searchsorted(sample.index, of[1]))]), f"#{place} to #{of[1]}"
        return images, {"first": place, "second": of[1], "counterfactual": None, "text": told}
    others = sample.truth([first]).counterfactuals
    if others:
        factor, other = next(iter(others.items()))
        told = f"#{place} to its counterfactual in {factor}"
        images = np.concatenate([sample.images([first]), other.images])
        return images, {"first": place, "second": None, "counterfactual": factor, "text": told}
    labels = sample.labels
    alike = np.arange(len(sample)) if labels is None else np.flatnonzero(labels == labels[first])
    second = next((int(row) for row in alike if row != first), None)
    if second is None:
        raise ValueError(f"expected a second image of the class of #{place}, found none; type: --of 0,1")
    place_b, same = int(sample.index[second]), "" if labels is None else f", both {sample.name(first)}"
    text = f"#{place} to #{place_b}{same}"
    return sample.images([first, second]), {"first": place, "second": place_b, "counterfactual": None, "text": text}


def _row(
    subject: Subject, found: Matches, cells: Sequence[int], grid: tuple[int, int], is_scene: bool
) -> dict[str, Any]:
    """What the matches of an encoder are: of all patches in numbers, of the chosen ones each."""
    width, count = grid[1], len(found.nearest)
    here = found.nearest == np.arange(count)
    return {
        "name": subject.name,
        "cells": list(grid),
        "mutual": {"share": float(found.mutual.mean()), "chance": count / (2 * count - 1)},
        "same_place": {"share": float(here.mean()), "chance": 1 / count} if is_scene else None,
        "mean_cosine": float(found.cosines.mean()),
        "matches": [
            {
                "from": [cell // width, cell % width],
                "to": [int(found.nearest[cell]) // width, int(found.nearest[cell]) % width],
                "cosine": float(found.cosines[cell]),
                "mutual": bool(found.mutual[cell]),
            }
            for cell in cells
        ],
    }


def _told(row: dict[str, Any]) -> str:
    shares = {"in their own place": row["same_place"], "mutual": row["mutual"]}
    told = [
        f"{100 * found['share']:.1f} % {how} (chance {100 * found['chance']:.1f} %)"
        for how, found in shares.items()
        if found is not None
    ]
    return f"{row['name']}: {row['cells'][0] * row['cells'][1]:,} patches, matches {', '.join(told)}"


def _lines(mosaic: Mosaic, line: int, row: dict[str, Any], pair: Pixels, grid: tuple[int, int]) -> None:
    """Both images, the patches as frames of a colour, a line between, and the cosines in the third column."""
    size = pair.shape[1:3]
    for column in range(2):
        mosaic.image(line, column, pair[column])
    for number, (found, colour) in enumerate(zip(row["matches"], SERIES, strict=False), 1):
        middles = []
        for column, (y, x) in enumerate((found["from"], found["to"])):
            left, right, bottom, top = mosaic.extent(line, column, size)
            wide, high = (right - left) / grid[1], (bottom - top) / grid[0]
            corners = np.array([(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1), (x, y)])
            xs, ys = left + corners[:, 0] * wide, top + corners[:, 1] * high
            mosaic.axes.plot(xs, ys, color=PLAIN, linewidth=2.6)
            mosaic.axes.plot(xs, ys, color=colour, linewidth=1.6)
            middles.append((left + (x + 0.5) * wide, top + (y + 0.5) * high))
        (x0, y0), (x1, y1) = middles
        mosaic.axes.plot([x0, x1], [y0, y1], color=PLAIN, linewidth=2.2)
        mosaic.axes.plot([x0, x1], [y0, y1], color=colour, linewidth=1.1)
        text = f"{number}   cosine {found['cosine']:.3f}{', mutual' if found['mutual'] else ''}"
        height = line + 0.1 + 0.7 * (number - 0.5) / PATCHES
        mosaic.axes.plot([2.06, 2.12], [height, height], color=colour, linewidth=3)
        mosaic.write(2.17, height, text, ha="left", va="center")
