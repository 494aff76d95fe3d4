"""Images beside those that are nearest to them by cosine, with names and cosines."""

from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from probekit.draw.sample import Sample, Work
from probekit.output.document import percents
from probekit.output.mosaic import Mosaic
from probekit.output.style import LETTERS, PAGE, RIGHT, WRONG
from probekit.probes.knn import nearest
from probekit.statistics import mean_over_images

QUERIES = 6  # rows of the picture; ours
K = 5  # neighbours; ours


def draw_neighbours(work: Work) -> tuple[Figure, dict[str, Any], list[str]]:
    """A row for each query; the numbers: the share of each image's k nearest that are of its class, and chance."""
    asked, sample = work.asked, work.sample
    if len(sample) < 2:
        raise ValueError(f"expected at least two images, found {len(sample)}; type: probekit gen rect-tri")
    k = min(asked.k or K, len(sample) - 1)
    queries = sample.shown(asked, QUERIES)
    device = str(work.device)
    near = {
        subject.name: others(subject.embed(sample), k=k, seed=asked.seed, device=device) for subject in work.subjects
    }
    labels, rows, lines = sample.labels, [], []
    if labels is None:
        lines.append("images without one label each, so that nothing says which are right")
    else:
        counts = np.bincount(labels)[labels] - 1
        chance = float(counts.mean() / (len(sample) - 1))
        for name, (_, found) in near.items():
            of_class = mean_over_images((labels[found] == labels[:, None]).mean(axis=1), seed=asked.seed)
            rows.append({"name": name, "k": k, "n": len(sample), "precision": {**of_class, "chance": chance}})
            share = percents(of_class["mean"], of_class["ci"]).text
            lines.append(f"{name}: {share} % of the {k} nearest are of the image's class (chance {100 * chance:.1f} %)")
    cosines, found = near[work.subjects[0].name]
    gallery = [
        {
            "query": about(sample, row),
            "nearest": [
                {**about(sample, int(other)), "cosine": float(cosine), "right": _same(sample, row, int(other))}
                for cosine, other in zip(cosines[row], found[row], strict=True)
            ],
        }
        for row in queries
    ]
    told = "the first of each class in turn" if asked.of is None else "asked for"
    title = f"{work.title}: the {k} nearest of {len(sample):,} {sample.split} images by cosine"
    title = "\n".join([title, f"Queries: {told}", *lines])
    return _picture(sample, queries, found, gallery, title), {"gallery": gallery, "rows": rows}, lines


def others(
    embedded: NDArray[np.float32], *, k: int, seed: int, device: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Cosines `[n, k]` and rows `[n, k]` of those nearest to each image `[n, D]`, without itself, the nearest first.

    Rows are searched in an order of the seed's, so that of equal ones not the first in the file are taken.
    """
    n = len(embedded)
    order = np.random.default_rng(seed).permutation(n)
    cosines, places = nearest(embedded[order], embedded, k=min(n, k + 1), device=device)
    rows = order[places]
    own = rows == np.arange(n)[:, None]
    own[~own.any(axis=1), -1] = True  # of equal ones some other was taken in its place
    return cosines[~own].reshape(n, -1), rows[~own].reshape(n, -1)


def about(sample: Sample, row: int) -> dict[str, Any]:
    """An image's place in the split, and its class."""
    return {"index": int(sample.index[row]), "name": sample.name(row)}


def _same(sample: Sample, row: int, other: int) -> bool | None:
    return None if sample.labels is None else bool(sample.labels[row] == sample.labels[other])


def _picture(
    sample: Sample, queries: list[int], found: NDArray[np.int64], gallery: list[dict[str, Any]], title: str
) -> Figure:
    k = found.shape[1]
    marked = "" if sample.labels is None else "\nframed in blue, ✓: of the query's class; in orange, ✗: of another"
    letters = int(LETTERS * PAGE / (k + 2))
    names = [_lines(entry["name"], letters) for shown in gallery for entry in (shown["query"], *shown["nearest"])]
    below = 2.4 + any("\n" in name for name in names)
    mosaic = Mosaic(len(queries), k + 1, title=title + marked, heads=1, below=below)
    for column in range(k + 1):
        mosaic.head(column + 0.5, "query" if column == 0 else f"{column}.")
    for line, (row, shown) in enumerate(zip(queries, gallery, strict=True)):
        rows = [row, *found[row].tolist()]
        entries = [shown["query"], *shown["nearest"]]
        for column, (image, entry) in enumerate(zip(sample.images(rows), entries, strict=True)):
            mosaic.image(line, column, image)
            right = entry.get("right")
            if right is not None:
                mosaic.frame(line, column, image.shape[:2], RIGHT if right else WRONG, 1.8)
            mark = {None: "", True: "✓ ", False: "✗ "}[right]
            cosine = f"{mark}{entry['cosine']:.3f}, " if column else ""
            text = f"{cosine}#{entry['index']}\n{_lines(entry['name'], letters)}"
            mosaic.caption(line, column + 0.5, text, linespacing=1.1)
    return mosaic.figure


def _lines(name: str, letters: int) -> str:
    """A name on two lines at most, of so many letters."""
    parts = wrap(name, letters) or [""]
    return "\n".join(parts if len(parts) <= 2 else [parts[0], f"{parts[1][: letters - 1]}…"])
