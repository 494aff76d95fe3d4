"""dSprites, Shapes3D and Synbols as their authors publish them: every factor is kept, and one of them is the label.

dSprites: Matthey, Higgins, Hassabis and Lerchner, github.com/deepmind/dsprites-dataset, 2017. Shapes3D: Burgess and
Kim, github.com/deepmind/3d-shapes, 2018. Synbols: Lacoste and others, NeurIPS 2020, github.com/ServiceNow/synbols.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.data.importers.base import (
    Columns,
    Options,
    Skipped,
    Source,
    choose_splits,
    file_stamp,
    readable,
    set_apart,
)
from probekit.data.importers.containers import Array, open_container
from probekit.data.importers.labels import NONE, shown, to_labels
from probekit.data.importers.rows import Cell, Runs, factor_name, is_of_images
from probekit.h5 import SPLITS

DSPRITES = ("color", "shape", "scale", "orientation", "posX", "posY")  # columns of latents_values
SPRITES = ("square", "ellipse", "heart")  # shapes 1, 2, 3
SHAPES3D = ("floor_hue", "wall_hue", "object_hue", "scale", "shape", "orientation")  # columns of labels
SOLIDS = ("cube", "cylinder", "sphere", "capsule")  # shapes 0 to 3; 3dshapes, Burgess and Kim
UNKNOWN = frozenset({"seed", "resolution"})  # of Synbols: how an image was drawn, and nothing that it shows
KINDS = "uifb"  # of NumPy's types: numbers
NO_FACTOR = "neither a number, a pair, text nor a truth value of every image"
RANDOM = "random"  # the division of Synbols that its authors take where none is named


@dataclass(frozen=True)
class Known:
    """A factor: its values in each row of the source, `[N]`.

    `kind`: class (then values are places in `names`), real, or circular, in degrees.
    """

    name: str
    kind: str
    values: NDArray[Any]
    names: tuple[str, ...] = ()

    def entry(self) -> dict[str, Any]:
        """Its entry in the dataset file's table."""
        if self.kind == "class":
            ends = 0.0, float(len(self.names) - 1)
        else:
            ends = (0.0, 360.0) if self.kind == "circular" else (float(self.values.min()), float(self.values.max()))
        about = {"name": factor_name(self.name), "kind": self.kind, "low": ends[0], "high": ends[1]}
        unit = "deg" if self.kind == "circular" else ""
        return about | {"unit": unit, "law": "as the source has it", "about": "", "values": list(self.names)}

    def stored(self) -> NDArray[Any]:
        """Its values as they are stored."""
        kind = (np.uint8 if len(self.names) < 256 else np.uint16) if self.kind == "class" else np.float32
        return self.values.astype(kind)

    def labels(self) -> NDArray[Any]:
        """Its values as classes."""
        return np.array(self.names, object)[self.values] if self.kind == "class" else self.values.astype(object)


@dataclass(frozen=True)
class Factored:
    """A set whose factors are known; `splits`: the rows of each, where it is divided; `white`: the value of white."""

    images: Array
    factors: Sequence[Known]
    splits: Mapping[str, NDArray[np.int64]]
    white: int = 255
    notes: list[str] = field(default_factory=list)
    ignored: list[Skipped] = field(default_factory=list)


def open_factored(source: Path, options: Options) -> Source | None:
    """The splits of a set of factors, or None if it is something else, or its arrays are named by --images.

    A ValueError if it is not said which factor is the label, or the file is damaged or not as its authors publish it.
    """
    arrays = open_container(source) if options.images is None else None
    for keys, read in SETS.items():
        if arrays is not None and set(keys) <= arrays.keys():
            found = read(arrays, source)
            if found is not None:
                options.leave_out("a set of factors", "labels", "group")
                return _opened(source, options, found)
    return None


def _opened(source: Path, options: Options, found: Factored) -> Source:
    name, stamp = readable(source.name), file_stamp(source)
    varied = [factor for factor in found.factors if (factor.values != factor.values[0]).any()]
    constant = [factor.name for factor in found.factors if factor not in varied]
    notes = [*found.notes] + ([f"factors of one value are left out: {shown(constant)}"] if constant else [])
    by_name = {factor.name: factor for factor in varied}
    for what, typed in (("labels", options.labels), ("group", options.group)):
        if typed is not None and typed not in by_name and not (what == "labels" and typed == NONE):
            raise ValueError(f"expected --{what} with one of the factors {shown(list(by_name))}, found {typed!r}")
    first = next((factor.name for factor in varied if factor.kind == "class"), NONE)
    if options.labels is None:
        raise ValueError(
            f"expected to know which factor of {source} is the label, found {shown(list(by_name))}; "
            f"type --labels {first}, or --labels none"
        )
    splits = choose_splits(dict(found.splits) or {"train": np.arange(found.images.shape[0])}, options)
    classes: tuple[str, ...] = ()
    labels: dict[str, list[int]] = {}
    if options.labels != NONE:
        values, names = _classes(by_name[options.labels], source, first)
        place = {each: k for k, each in enumerate(names)}
        numbers = {split: np.array([place[value] for value in values[rows]]) for split, rows in splits.items()}
        classes, labels = to_labels(numbers, names, options.labels, name)
    runs = Runs(found.images.starts, _brightened(found), lambda run: int(run.nbytes))
    items: dict[str, list[Any]] = {
        split: [
            Cell(f"row {row}", labels[split][k] if classes else None, row, runs, stamp)
            for k, row in enumerate(rows.tolist())
        ]
        for split, rows in splits.items()
    }
    stored = {factor_name(factor.name): factor.stored() for factor in varied}

    def of(cells: Sequence[Any]) -> dict[str, NDArray[Any]]:
        places = [cell.index for cell in cells]
        return {each: values[places] for each, values in stored.items()}

    others = Columns(
        tuple(factor.entry() for factor in varied), of, None if options.group is None else factor_name(options.group)
    )
    parameters = {"labels": options.labels} | ({"group": options.group} if options.group else {})
    apart = set_apart(items, options, classes, others)
    return Source(name, classes, apart, found.ignored, parameters=parameters, notes=notes, others=others)


def _classes(factor: Known, source: Path, first: str) -> tuple[NDArray[Any], list[str]]:
    """The values of a factor as the names of classes, and these names in order.

    A ValueError for one that hardly has two images of a value; `first`: what to type in its place.
    """
    values, found = factor.labels(), np.unique(factor.values)
    if factor.kind == "class":
        return values, [factor.names[place] for place in found.tolist()]
    names = list(dict.fromkeys(f"{value:g}" for value in found))
    if 2 * len(names) > len(values):
        many = "another value for every image"
        many = many if len(found) == len(values) else f"{len(found):,} values for {len(values):,} images"
        raise ValueError(f"expected classes in {factor.name!r} of {source}, found {many}; type --labels {first}")
    return np.array([f"{value:g}" for value in values], object), names


def _brightened(found: Factored) -> Callable[[int], Iterator[NDArray[Any]]]:
    """The images' runs, with 255 for white."""
    if found.white == 255:
        return found.images.runs
    return lambda first: (run * np.uint8(255 // found.white) for run in found.images.runs(first))


def _dsprites(arrays: Mapping[str, Array], source: Path) -> Factored | None:
    """Images of 0 and 1; values of the factors in radians and shares, whose classes count them."""
    images, values = arrays["imgs"], arrays["latents_values"].whole()
    n = images.shape[0] if is_of_images(images.shape) else 0
    if len(images.shape) != 3 or images.dtype != np.uint8 or values.shape != (n, len(DSPRITES)):
        raise ValueError(
            f"expected imgs uint8 [N, H, W] and latents_values [N, {len(DSPRITES)}] of dSprites in {source}, found "
            f"{images.dtype} {list(images.shape)} and {list(values.shape)}"
        )
    factors = []
    for column, name in enumerate(DSPRITES):
        own = values[:, column]
        if name == "shape":
            factors.append(_of_names(name, own, SPRITES, 1, source))
        elif name == "orientation":
            factors.append(Known(name, "circular", np.rad2deg(own) % 360))
        else:
            factors.append(Known(name, "real", own))
    return Factored(images, factors, {}, white=1)


def _shapes3d(arrays: Mapping[str, Array], source: Path) -> Factored | None:
    """RGB images; hues from 0 to 1, turned to degrees here; None if it is another file of images and labels."""
    images, labels = arrays["images"], arrays["labels"]
    if labels.shape != (images.shape[0], len(SHAPES3D)) or images.dtype != np.uint8 or len(images.shape) != 4:
        return None
    values = labels.whole()
    factors = []
    for column, name in enumerate(SHAPES3D):
        own = values[:, column]
        if name == "shape":
            factors.append(_of_names(name, own, SOLIDS, 0, source))
        elif name.endswith("hue"):
            factors.append(Known(name, "circular", own * 360 % 360))
        else:
            factors.append(Known(name, "real", own))
    return Factored(images, factors, {})


def _of_names(name: str, values: NDArray[Any], names: tuple[str, ...], first: int, source: Path) -> Known:
    if not np.isin(values, np.arange(first, first + len(names))).all():
        raise ValueError(f"expected {name} from {first} to {first + len(names) - 1} in {source}, found others")
    return Known(name, "class", values.astype(np.int64) - first, names)


def _synbols(arrays: Mapping[str, Array], source: Path) -> Factored | None:
    """RGB images; y is JSON of the factors of each; split/NAME says which rows are train, val and test."""
    images, texts = arrays["x"], arrays["y"]
    if not is_of_images(images.shape) or texts.shape != images.shape[:1] or (texts.dtype and texts.dtype.kind in KINDS):
        return None
    try:
        rows = [json.loads(text) for text in texts.whole().tolist()]
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError):
        return None
    if not all(isinstance(row, dict) for row in rows):
        return None
    names = list(dict.fromkeys(name for row in rows for name in row))
    factors: list[Known] = []
    ignored: list[Skipped] = []
    for name in names:
        own = [row.get(name) for row in rows]
        known = [] if name in UNKNOWN else _known(name, own)
        factors += known
        if not known:
            why = "says how an image was drawn" if name in UNKNOWN else NO_FACTOR
            ignored.append(Skipped(readable(name), f"of y: {why}"))
    splits, notes = _divided(arrays, source)
    return Factored(images, factors, splits, notes=notes, ignored=ignored)


def _known(name: str, values: Sequence[Any]) -> list[Known]:
    """The factors in an entry of all rows: one, two for a pair of numbers, or none."""
    kinds = {type(value) for value in values}
    if kinds == {str} or kinds == {bool}:
        names = sorted(set(values))
        place = {value: k for k, value in enumerate(names)}
        return [Known(name, "class", np.array([place[value] for value in values]), tuple(map(str, names)))]
    if kinds <= {int, float}:
        numbers = np.array(values, np.float64)
        return [Known(name, "real", numbers)] if np.isfinite(numbers).all() else []
    if kinds == {list} and all(len(v) == 2 and {type(each) for each in v} <= {int, float} for v in values):
        pairs = np.array(values, np.float64)
        return [Known(f"{name}.{axis}", "real", pairs[:, k]) for k, axis in enumerate("xy")]
    return []


def _divided(arrays: Mapping[str, Array], source: Path) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """The rows of each split by the division that the file has, if it has one."""
    names = [name for name in arrays if name.startswith("split/")]
    if not names:
        return {}, []
    chosen = f"split/{RANDOM}" if f"split/{RANDOM}" in names else names[0]
    flags, n = arrays[chosen].whole(), arrays["x"].shape[0]
    if flags.shape != (n, 3) or not (flags.astype(bool).sum(axis=1) == 1).all():
        raise ValueError(
            f"expected one of train, val and test for each row in {chosen} of {source}, found something else"
        )
    rows = {split: np.flatnonzero(flags[:, k]) for k, split in enumerate(SPLITS)}
    others = [name for name in names if name != chosen]
    beside = f"; not taken: {shown(others)}" if others else ""
    return {split: own for split, own in rows.items() if len(own)}, [f"splits as {chosen} has them{beside}"]


# By arrays that such a file has; the reader says None of another file with the same.
SETS: dict[tuple[str, ...], Callable[[Mapping[str, Array], Path], Factored | None]] = {
    ("imgs", "latents_values", "latents_classes"): _dsprites,
    ("images", "labels"): _shapes3d,
    ("x", "y"): _synbols,
}
