"""The picture of a heatmap result: images in columns, maps in rows over them; the only place that scales maps."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from probekit.data.truth import Truth
from probekit.h5.schema import EVIDENCE
from probekit.heatmaps.base import ABSENT, Row
from probekit.heatmaps.measurement import FILTERS, several_filters
from probekit.heatmaps.score import SCORES, score_map, upsample
from probekit.heatmaps.tables import OF_LABELS
from probekit.output.mosaic import Mosaic, judge
from probekit.output.pictures import encoder_name
from probekit.output.style import LETTERS, LIGHT, OUTLINES, PLAIN
from probekit.results import data_name

Pixels = NDArray[np.uint8]
COLUMNS = 8  # images
MOST_OF_A_CLASS = 3
NAMES, BAR = 1.15, 1.0  # inches for the names of rows; of a cell for the scale
STEPS = 24  # shades of a scale
COVERED = 0.99  # of the values of a row: its scale ends there, and the few beyond have the colour of its end
ABOVE, BELOW = (213, 94, 0), (0, 114, 178)  # zero: Okabe and Ito's vermillion and blue
STRONG = 0.9  # how much the highest value covers of the image
DIM, GROUND = 0.6, 0.2  # an image below a map has this contrast, from this grey on: colours show on black and on white
ALIKE = 1e-4  # of the largest value: maps that differ by less are one
TITLE = "Orange is above zero, blue below, on one scale a row, at its end."
JUDGED = "Framed in blue, ✓: the probe is right; in orange, ✗: what it says instead."
OF_LABEL = "White lines: the {} above; under each map its AUROC against these pixels."
APART = "The maps of filters have a picture of their own."
OUTLINED = "White lines: the evidence of the map's factor; under each map its AUROC against it."


@dataclass(frozen=True)
class Sample:
    """One image of the picture: its place, the class it has, and the one that the probe takes it for, or None."""

    place: int
    label: str
    predicted: str | None


def draw_gallery(
    result: Mapping[str, Any], truth: Truth, rows: Sequence[Row], predicted: NDArray[np.int64] | None
) -> Figure:
    """Images, their evidence, and over each image the maps `rows` of the trained encoder.

    Of each class one that the probe gets right and one that it gets wrong, where there are such. Maps that are equal
    but for their unit are drawn once. `predicted`: class numbers `[N]`, None without a probe.
    """
    maps = list(_merged(_once(rows)))
    shown = choose(truth, predicted)
    told = [TITLE if maps else APART, *[JUDGED] * (predicted is not None)]
    title = f"Where {encoder_name(result)} looks on {data_name(result)}\n{' '.join(told)}"
    return _drawn(title, truth, shown, [(" = ".join(names), row) for names, row in maps])


def draw_together(
    results: Sequence[Mapping[str, Any]], truth: Truth, rows: Sequence[Sequence[Row]], *, letters: int = 16
) -> Figure:
    """Images and over each the maps of several encoders: those of one name under one another, a row for each encoder.

    Arguments as of `draw_gallery`, for each encoder. `letters`: of a line of an encoder's name.
    """
    names = [fill(encoder_name(result), letters) for result in results]
    every = [(name, row) for name, own in zip(names, rows, strict=True) for row in _once(own)]
    kinds = list(dict.fromkeys((row.name, row.target) for _, row in every))
    every.sort(key=lambda pair: kinds.index((pair[1].name, pair[1].target)))
    title = f"Where encoders look on {data_name(results[0])}: {', '.join(dict.fromkeys(name for name, _ in kinds))}"
    named = [(f"{name}\n{row.name}" if len(kinds) > 1 else name, row) for name, row in every]
    return _drawn(f"{title}\n{TITLE}", truth, choose(truth, None), named)


def evidence_of(truth: Truth) -> dict[str, NDArray[np.bool_]]:
    """The masks of evidence, or where there is none all masks, `[N, H, W]` by name."""
    return {name: mask for name, mask in truth.masks.items() if name.startswith(EVIDENCE)} or truth.masks


def _once(rows: Sequence[Row]) -> list[Row]:
    """Without negatives of maps, as colours show both signs, and without filters that have a picture of their own."""
    apart = FILTERS if several_filters([row.name for row in rows]) else "-"
    return [row for row in rows if not row.name.startswith(("-", apart))]


def _drawn(title: str, truth: Truth, shown: Sequence[Sample], rows: Sequence[tuple[str, Row]]) -> Figure:
    """Images, their evidence, and a line for each map, under its name."""
    evidence = evidence_of(truth)
    colours = dict(zip(evidence, OUTLINES.values(), strict=False))
    lines = 1 + bool(evidence)
    if evidence and rows:  # boxes, where there are some, come last and hold their masks
        title += f" {OF_LABEL.format(list(evidence)[-1]) if set(evidence) <= set(OF_LABELS) else OUTLINED}"
    keys = {colour: name.replace(EVIDENCE, "evidence of ") for name, colour in colours.items()}
    mosaic = Mosaic(lines + len(rows), len(shown) + BAR, title=title, keys=keys, heads=1, left=NAMES, below=1.1)
    mosaic.name(0, "image")
    for column, sample in enumerate(shown):
        mosaic.image(0, column, truth.split.images[sample.place])
        _judge(mosaic, column, sample, truth)
        if evidence:
            mosaic.image(1, column, truth.split.images[sample.place])
            for name, colour in colours.items():
                mosaic.outline(1, column, evidence[name][sample.place], colour)
    _heads(mosaic, shown)
    if evidence:
        mosaic.name(1, "evidence")
        mosaic.scale_bar(1, 0, (truth.split.images.shape[1], truth.split.images.shape[2]))
    for line, (name, row) in enumerate(rows, lines):
        asked = {mask: found for mask, found in evidence.items() if row.target in ("", mask.removeprefix(EVIDENCE))}
        _draw_row(mosaic, line, name, row, [sample.place for sample in shown], truth, list(asked.values()))
    return mosaic.figure


def choose(truth: Truth, predicted: NDArray[np.int64] | None) -> list[Sample]:
    """Images of each class in turn: the first that is right, the first that is wrong, then others as they come."""
    labels, classes = truth.split.labels, truth.info.classes
    if labels is None:
        return [Sample(i, "", None) for i in range(min(len(truth.split.images), COLUMNS))]
    present = np.unique(labels)[:COLUMNS]
    most = min(MOST_OF_A_CLASS, max(1, COLUMNS // len(present)))
    found = []
    for k in present:
        places = np.flatnonzero(labels == k)
        if predicted is not None:
            right = predicted[places] == k
            first = [places[right][:1], places[~right][:1]]
            places = np.concatenate([*first, np.setdiff1d(places, np.concatenate(first))])
        for i in places[:most].tolist():
            said = None if predicted is None else "absent" if predicted[i] == ABSENT else classes[predicted[i]]
            found.append(Sample(i, classes[k], said))
    return found


def _merged(rows: Sequence[Row]) -> Iterator[tuple[list[str], Row]]:
    """Rows whose maps differ, each with the names of those that are the same but for their unit (cam is gradcam)."""
    kept: list[tuple[list[str], Row, NDArray[np.float32]]] = []
    for row in rows:
        scaled = row.maps / (float(np.abs(row.maps).max()) or 1.0)
        for names, other, known in kept:
            if other.target == row.target and known.shape == scaled.shape and np.allclose(known, scaled, atol=ALIKE):
                names.append(row.name)
                break
        else:
            kept.append(([row.name], row, scaled))
    return ((names, row) for names, row, _ in kept)


def _heads(mosaic: Mosaic, shown: Sequence[Sample]) -> None:
    """The classes above their images, each in the middle of its own."""
    first = 0
    while first < len(shown):
        last = first
        while last + 1 < len(shown) and shown[last + 1].label == shown[first].label:
            last += 1
        room = int(LETTERS * mosaic.cell * (last + 1 - first))
        mosaic.head((first + last + 1) / 2, short(shown[first].label, room))
        first = last + 1


def _judge(mosaic: Mosaic, column: int, sample: Sample, truth: Truth) -> None:
    if sample.predicted is not None:
        size = truth.split.images.shape[1:3]
        right = sample.predicted == sample.label
        told = "" if right else short(differing(sample.predicted, sample.label), int(1.3 * LETTERS * mosaic.cell) - 2)
        judge(mosaic, 0, column, (size[0], size[1]), right=right, text=told)


def differing(name: str, other: str) -> str:
    """What of a class's name another class does not have: of "round-right" beside "sharp-right" the word "round"."""
    parts, others = re.split(r"-|, ", name), re.split(r"-|, ", other)
    if len(parts) != len(others):
        return name
    return ", ".join(part for part, beside in zip(parts, others, strict=True) if part != beside)


def short(name: str, most: int) -> str:
    """A name in so many letters: its end, which tells classes apart as often as its beginning, is kept."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    if len(plain) <= most:
        return plain
    half = max(1, (most - 1) // 2)
    return f"{plain[:half]}…{plain[len(plain) - half :]}"


def _draw_row(
    mosaic: Mosaic,
    line: int,
    name: str,
    row: Row,
    places: Sequence[int],
    truth: Truth,
    masks: Sequence[NDArray[np.bool_]],
) -> None:
    """One map over all images, on one scale."""
    grid, size = row.maps.shape[1:], (truth.split.images.shape[1], truth.split.images.shape[2])
    told = "one a pixel" if grid == size else f"{grid[0]} x {grid[1]} cells"
    mosaic.name(line, "\n".join(filter(None, (name, row.target, told))))
    most = end_of_scale(row.maps[places])
    for column, place in enumerate(places):
        draw_map(mosaic, line, column, truth.split.images[place], row.maps[place] / most, size)
        there = np.any([mask[place] for mask in masks], axis=0) if masks else np.zeros(size, bool)
        if there.any():
            mosaic.outline(line, column, there, PLAIN)
            score = score_map(upsample(row.maps[[place]], size)[0], [there])[0, SCORES.index("auroc")]
            mosaic.caption(line, column + 0.5, "-" if np.isnan(score) else f"{score:.2f}")
    draw_scale(mosaic, line, len(places), most, signed=row.signed)


def end_of_scale(maps: NDArray[np.float32]) -> float:
    """The value that has the strongest colour, of maps on one scale."""
    values = np.abs(maps)
    return float(np.quantile(values, COVERED)) or float(values.max()) or 1.0


def draw_map(
    mosaic: Mosaic, line: int, column: int, image: Pixels, values: NDArray[np.floating[Any]], size: tuple[int, int]
) -> None:
    """A map `[h, w]`, as `coloured` takes it, over its dimmed image of (height, width)."""
    mosaic.show(line, column, dimmed(image), size, interpolation="nearest")
    mosaic.show(line, column, coloured(values), size, interpolation="nearest")
    mosaic.frame(line, column, size)


def draw_scale(mosaic: Mosaic, line: int, column: int, most: float, *, signed: bool) -> None:
    """A bar of the colours that a row's values have, with the values at its ends."""
    _, _, bottom, top = mosaic.extent(line, column, (1, 1))
    low = -1.0 if signed else 0.0
    step = (bottom - top) / STEPS
    for number, value in enumerate(np.linspace(1.0, low, STEPS)):
        red, green, blue, alpha = coloured(np.array(value))
        shade = alpha * np.array([red, green, blue]) + (1 - alpha) * (GROUND + DIM / 2)
        at = (column + 0.08, top + step * number)
        mosaic.axes.add_patch(Rectangle(at, 0.1, 1.02 * step, facecolor=tuple(shade), linewidth=0))
    mosaic.axes.add_patch(Rectangle((column + 0.08, top), 0.1, bottom - top, fill=False, ec=LIGHT["muted"], lw=0.4))
    ends = f"≥ {_number(most)}", f"≤ {_number(-most)}" if signed else "0"
    for y, va, text in ((top, "top", ends[0]), (bottom, "bottom", ends[1])):
        mosaic.write(column + 0.24, y, text, ha="left", va=va)


def coloured(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Values in [-1, 1] as colours RGBA `[..., 4]` to lay over an image: nothing at 0, strongest at either end."""
    colour = np.where(values[..., None] > 0, np.array(ABOVE), np.array(BELOW)) / 255
    alpha = STRONG * np.clip(np.abs(values), 0, 1)
    return np.concatenate([colour, alpha[..., None]], axis=-1)


def dimmed(image: Pixels) -> NDArray[np.float64]:
    """An image in grey, RGB `[h, w, 3]` in [0, 1], neither black nor white."""
    grey = image.mean(axis=2) if image.ndim == 3 else image
    return np.repeat((GROUND + DIM * grey / 255)[..., None], 3, axis=2)


def _number(value: float) -> str:
    """Two digits, and an exponent only for the very large and the very small."""
    told = f"{value:.0f}" if value == 0 or 10 <= abs(value) < 1e5 else f"{value:.2g}"
    return re.sub(r"e([+-])0", r"e\1", told)  # e-8 for e-08
