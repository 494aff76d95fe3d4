"""Class names and labels from a column of values: numbers with or without names, or text."""

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.data.apart import text_of
from probekit.data.importers.base import readable

NONE = "none"  # typed as --labels: images without labels
USUAL = "label"  # the name that needs not be typed
SHOWN = 12  # names in a line


def shown(names: Sequence[str]) -> str:
    """Names in a line, the first ones."""
    few = [readable(str(name)) for name in names[:SHOWN]]
    return ", ".join(few) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")


def choose(what: str, typed: str | None, usual: Sequence[str], there: Sequence[str], source: str) -> str:
    """The column of images or labels: the typed one, or the only usual one.

    A ValueError if the typed one is not there, or none or several could be meant. `what`: "images" or "labels";
    `usual`: those that can be meant where nothing is typed; `there`: all that can be typed.
    """
    if typed is not None:
        if typed not in there:
            raise ValueError(f"expected --{what} with one of {shown(there) or 'none'} in {source}, found {typed!r}")
        return typed
    if len(usual) == 1:
        return usual[0]
    if not there:
        raise ValueError(f"expected a column of {what} in {source}, found none that can be")
    found = shown(usual) if usual else f"none by itself among {shown(there)}"
    example = quote(readable(next(iter(usual or there))))
    without = " (or --labels none, for images alone)" if what == "labels" else ""
    raise ValueError(f"expected one column of {what} in {source}, found {found}; type --{what} {example}{without}")


def to_labels(
    columns: Mapping[str, NDArray[Any]], names: Sequence[str] | None, column: str, source: str
) -> tuple[tuple[str, ...], dict[str, list[int]]]:
    """The class names, and the label of every image of each split.

    Numbers with `names` are places in them; all other values are classes themselves, in order. A ValueError if a value
    is missing or hidden (-1), no whole number or text, or every image has another; or a split has classes that train
    has not. `columns`: the values of each split, `[N]` numbers or objects.
    """
    where = f"column {column!r} of {source}"
    for split, values in columns.items():
        _check(values, where, split)
    every = np.concatenate(list(columns.values()))
    if names is not None:
        if isinstance(every[0], str | bytes):
            raise ValueError(f"expected numbers of the {len(names)} named classes in {where}, found text")
        low, high = int(every.min()), int(every.max())
        if low < 0 or high >= len(names):
            raise ValueError(f"expected labels 0 to {len(names) - 1} in {where}, found {low} to {high}")
        return _distinct(names, where), {split: values.tolist() for split, values in columns.items()}
    found = sorted(set(every.tolist()))
    if len(found) == len(every) > 1:
        raise ValueError(
            f"expected classes in {where}, found another value for every image; type --labels KEY, another column, or "
            "--labels none"
        )
    known = set(columns["train"].tolist())
    for split, values in columns.items():
        if new := sorted(set(values.tolist()) - known):
            raise ValueError(
                f"expected the classes of train in {split}, found also {shown(list(map(str, new)))} in {where}; "
                f"type --skip-split {split}"
            )
    index = {value: place for place, value in enumerate(found)}
    classes = _distinct(list(map(text_of, found)), where)
    return classes, {split: [index[value] for value in values.tolist()] for split, values in columns.items()}


def _distinct(names: Sequence[str], where: str) -> tuple[str, ...]:
    classes = tuple(map(readable, names))
    if len(set(classes)) < len(classes) or "" in classes:
        raise ValueError(
            f"expected distinct classes with a name in {where}, found some that look the same or are empty"
        )
    return classes


def _check(values: NDArray[Any], where: str, split: str) -> None:
    kinds = {type(value) for value in values.tolist()}
    if type(None) in kinds:
        raise ValueError(f"expected a label for every image of {split} in {where}, found some without")
    if len(kinds) != 1 or not kinds <= {int, str, bytes, bool}:
        found = ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
        raise ValueError(f"expected whole numbers or text in {where}, one for each image, found {found}")
    if kinds == {int} and (values == -1).any():
        skip = f"; type --skip-split {split}" if split != "train" else ""
        raise ValueError(f"expected the labels of {split} in {where}, found -1, which stands for hidden ones{skip}")
