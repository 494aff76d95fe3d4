"""What is in a dataset file: a description, and a picture grid with the evidence outlined."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from generators.certificates import told
from probekit.data.duplicates import sentences
from probekit.data.gallery import (
    EVIDENCE_IS,
    LOOKED_AT,
    MASKS_ARE,
    Shown,
    compose,
    differing,
    pair_rows,
    printable,
    shrunk,
)
from probekit.h5 import CentreCrop, DatasetInfo, SplitInfo, chunk_rows, read_images, read_info, read_labels, read_split
from probekit.h5.schema import EVIDENCE, PRESENT
from probekit.output.pictures import save
from probekit.output.style import OUTLINES

MAX_CLASSES = 24  # rows of a picture that is still looked at as a whole
PAIR_ROWS = 6  # rows of the grid of counterfactuals
PLAIN_ROWS = 4  # rows of the grid of unlabelled images
BRIGHTNESS_IMAGES = 10_000  # of a split: enough for four digits, and a second's reading
READ_BYTES = 16 << 20  # of images in memory at a time


def describe(path: Path) -> dict[str, Any]:
    """Everything about a dataset file but its images, as JSON values; a ValueError if it is no sound dataset file."""
    info = read_info(path)
    content = asdict(info)
    content |= {"path": str(path), "bytes": info.size, "shards": len(info.files)}
    del content["files"], content["contents"], content["shard"]
    for name, split in content["splits"].items():
        labels = read_labels(path, name)
        split["per_class"] = None
        if labels is not None:  # an image may have several
            counts = (
                (labels == PRESENT).sum(axis=0)
                if split["multilabel"]
                else np.bincount(labels, minlength=len(info.classes))
            )
            split["per_class"] = counts.tolist()
        split["objects"] = _objects(path, name, len(info.classes)) if split["boxed"] else None
        single = None if split["multilabel"] else labels
        split["brightness"] = (
            None if single is None else _brightness(path, info.splits[name], single, len(info.classes))
        )
    return content


def _objects(path: Path, name: str, classes: int) -> list[int]:
    """How many objects there are of each class."""
    found = read_split(path, name, images=False, columns=False, objects=True).objects
    assert found is not None
    counts: NDArray[np.int64] = np.sum([np.bincount(each.labels, minlength=classes) for each in found], axis=0)
    return list(map(int, counts))


def _brightness(path: Path, found: SplitInfo, labels: NDArray[np.int64], classes: int) -> list[float | None]:
    """Mean pixel value in [0, 1] of each class: the ink fraction of white shapes on black. None for an absent class."""
    sums, counts = np.zeros(classes), np.zeros(classes, np.int64)
    last = min(len(labels), BRIGHTNESS_IMAGES)
    chunk, image = chunk_rows(found.height, found.width, found.channels), found.height * found.width * found.channels
    step = max(1, READ_BYTES // (chunk * image)) * chunk
    for start in range(0, last, step):
        rows = read_split(path, found.name, start=start, stop=min(start + step, last))
        assert rows.labels is not None
        np.add.at(sums, rows.labels, rows.images.reshape(len(rows.images), -1).mean(axis=1) / 255)
        np.add.at(counts, rows.labels, 1)
    return [float(total / count) if count else None for total, count in zip(sums, counts, strict=True)]


def render_description(description: dict[str, Any]) -> Table:
    """The same for readers."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")

    def row(name: str, text: str) -> None:
        table.add_row(name, Text(printable(text)))

    shards = "" if description["shards"] == 1 else f"{description['shards']:,} shards, "
    row("file", f"{description['path']}, {shards}{description['bytes'] / 1e6:.1f} MB, {description['schema']}")
    row(
        "made by",
        f"{description['generator'] or 'import'}, seed {description['seed']}, probekit {description['version']}",
    )
    settings = {name: value for name, value in description["parameters"].items() if name != "duplicates"}
    row("settings", ", ".join(f"{name}={value}" for name, value in settings.items()))
    for line in sentences(description["parameters"].get("duplicates") or {}, Path(description["path"])):
        row("duplicates", line)
    for name, split in description["splits"].items():
        kind = "grey" if split["channels"] == 1 else "RGB"
        labels = "" if split["labelled"] else ", no labels"
        labels = ", several labels an image" if split["multilabel"] else labels
        size = f"{split['width']}x{split['height']}"
        if crop := split["crop"]:
            what = f"photographs {kind}, each of its own size, read as {size} (test crop {CentreCrop(**crop)})"
        else:
            what = f"images {size} {kind}{', kept as JPEG' if split['encoded'] else ''}"
        objects = "" if split["objects"] is None else f", {sum(split['objects']):,} objects with boxes"
        objects += " and masks" if split["instances"] else ""
        row(name, f"{split['n']:,} {what}{labels}{objects}")
    counts = [(name, split["per_class"]) for name, split in description["splits"].items() if split["per_class"]]
    for index, class_name in enumerate(description["classes"][:MAX_CLASSES]):
        row(f"class {index}", f"{class_name}: " + ", ".join(f"{name} {per[index]:,}" for name, per in counts))
    if len(description["classes"]) > MAX_CLASSES:
        row("...", f"{len(description['classes']) - MAX_CLASSES} more classes; --json has all")
    for name, split in description["splits"].items():
        seen = [mean for mean in split["brightness"] or [] if mean is not None]
        if len(seen) > 1:
            text = ", ".join(f"{mean:.4f}" for mean in seen) if len(seen) <= MAX_CLASSES else f"{np.mean(seen):.4f}"
            row("brightness", f"{name}, by class: {text}; largest difference {max(seen) - min(seen):.1e}")
    for factor in description["factors"]:
        row("factor", f"{factor['name']}: {_law(factor)}")
    if description["mask_names"]:
        row("masks", ", ".join(f"bit {bit} {name}" for bit, name in enumerate(description["mask_names"])))
    elif description["generator"]:
        row("masks", f"none; to have them type: probekit gen {description['generator']}, without --no-masks")
    for line in told(description["certificate"]) if description["certificate"] else ():
        row("certificate", line)
    row("hash", description["content_hash"])
    return table


def _law(factor: dict[str, Any]) -> str:
    span = f"{factor['low']:.10g} to {factor['high']:.10g} {factor.get('unit', '')}" if "low" in factor else ""
    parts = (factor.get("kind", ""), span.strip(), factor.get("about", ""))
    return ", ".join(str(part) for part in parts if part)


def preview(path: Path) -> Path:
    """Draws the grid of the first split beside the file, as a PNG of the same name."""
    return draw_grid(path, picture_of(path))


def picture_of(path: Path) -> Path:
    """Where the picture of a dataset is drawn if nothing is typed: beside it, by its name."""
    return path.with_name(f"{read_info(path).name}.png")


def draw_grid(path: Path, out: Path, *, split: str | None = None) -> Path:
    """Saves `grid_figure`, and returns `out`.

    A ValueError if the file is unsound or has no such split, or `out` is no picture that may be replaced; an OSError if
    the picture cannot be written.
    """
    return save(grid_figure(path, split=split), out)


def grid_figure(path: Path, *, split: str | None = None, columns: int = 8) -> Figure:
    """Classes in rows and samples in columns, each plain and, where there are masks, outlined beside.

    `split`: which split; None is the first; `columns`: pictures in a row: of the first images of a class those that
    differ most.
    """
    info = read_info(path)
    split = split or info.first.name
    labels = read_labels(path, split)
    about = info.splits[split]
    keys = {colour: name for name, colour in zip(_outlined(info), OUTLINES.values(), strict=False) if about.masked}
    paired = labels is not None and {"pair_id", "pair_role"} <= set(about.factors)
    rows, roles = _pairs(info, split) if paired else (_choose(info, labels, split, columns // (1 + bool(keys))), [])
    lines = [(name, _cells(info, split, indices, twice=bool(keys) and not paired)) for name, indices in rows]
    pairs = [] if paired else pair_rows(info, split, columns)
    lines += [(name, [Shown(image) for image in images]) for name, images in pairs]
    title = f"{info.generator or info.parameters.get('source', 'images')}, {split}"
    if labels is not None and len(info.classes) > len(rows) and not paired:
        title += f", the first {len(rows)} of {len(info.classes)} classes"
    if keys:
        evidence = any(name.startswith(EVIDENCE) for name in keys.values())
        title += f"\n{EVIDENCE_IS if evidence else MASKS_ARE}"
    heads = roles or ["image", "outlined"] * (columns // 2) * bool(keys)
    names = {colour: name.removeprefix(EVIDENCE) for colour, name in keys.items()}
    heads = heads[: max(len(images) for _, images in lines)]
    return compose(lines, title=title, keys=names, heads=heads, width=about.width)


def _outlined(info: DatasetInfo) -> dict[str, int]:
    """The masks that are shown, and their bits: of what decides class factors, or all where none is of that kind."""
    masks = {name: bit for bit, name in enumerate(info.mask_names)}
    return {name: bit for name, bit in masks.items() if name.startswith(EVIDENCE)} or masks


def _choose(info: DatasetInfo, labels: NDArray[Any] | None, split: str, most: int) -> list[tuple[str, list[int]]]:
    """Row names and the indices of their images."""
    if labels is None:
        last = min(info.splits[split].n, PLAIN_ROWS * most)
        return [("", list(range(begin, min(begin + most, last)))) for begin in range(0, last, most)]

    def of_class(k: int) -> NDArray[np.bool_]:
        return np.asarray(labels[:, k] == PRESENT if labels.ndim == 2 else labels == k)

    present = [k for k in range(len(info.classes)) if of_class(k).any()][:MAX_CLASSES]
    rows: list[tuple[str, list[int]]] = []
    for k in present:  # an image of several labels stands under another class only where there are too few others
        own = np.flatnonzero(of_class(k))
        others = np.setdiff1d(own, [index for _, shown in rows for index in shown])
        candidates = (others if len(others) >= most else own)[:LOOKED_AT].tolist()
        read = (read_images(info.path, split, [i]).images[0] for i in candidates)  # one at a time: they may be large
        rows.append((info.classes[k], [candidates[place] for place in differing(read, most)]))
    return rows


def _pairs(info: DatasetInfo, split: str) -> tuple[list[tuple[str, list[int]]], list[str]]:
    """The first images with their counterfactuals, one a row under the base's class, and what stands in each column."""
    head = read_split(
        info.path, split, stop=min(info.splits[split].n, PAIR_ROWS * (1 + len(info.factors))), images=False
    )
    assert head.labels is not None
    ids = head.factors["pair_id"]
    bases = np.unique(ids, return_index=True)[1][:PAIR_ROWS]
    roles = [role.decode() for role in head.factors["pair_role"].astype("S")[ids == ids[0]]]
    columns = [role if role == "base" else f"other {role}" for role in roles]
    return [(info.classes[head.labels[i]], np.flatnonzero(ids == ids[i]).tolist()) for i in bases], columns


def _cells(info: DatasetInfo, split: str, indices: Sequence[int], *, twice: bool) -> list[Shown]:
    """Images as they are drawn; with `twice` each plain, then with its masks outlined."""
    found = []
    for index in indices:  # one at a time: they may be large
        rows = read_images(info.path, split, [index])
        image, mask = shrunk(rows.images[0]), None if rows.masks is None else shrunk(rows.masks[0], cv2.INTER_NEAREST)
        bits = zip(OUTLINES.values(), _outlined(info).values(), strict=False)
        outlines = {} if mask is None else {colour: (mask >> bit & 1).astype(bool) for colour, bit in bits}
        found += [Shown(image), Shown(image, outlines)] if twice else [Shown(image, outlines)]
    return found
