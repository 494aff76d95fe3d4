"""What an official dataset is: where its files lie, what they say, and how many images each split must have."""

import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from generators.factors import Factor
from probekit.data.importers.base import Item, Label, Skipped, read_list, read_text
from probekit.data.importers.images import File
from probekit.visible import one_line

# Own choice: the pixels of half of a computer with 16 GB. At 224 px all of these sets but iNaturalist and ImageNet fit.
MAX_GB = 8.0
PHOTOGRAPHS = "short:512"  # papers resize to 256 to test: twice that loses nothing of it, and crops of half a side none
FOLDS = 10  # official divisions of the sets that have them


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What the user chose of a dataset.

    `subset`: take the images that are there, whatever their number. `train_with_val`: join the official val split to
    train. `labels`: which of several labels; None is the dataset's usual one. `classes`: a file that names the classes
    to take. `n_classes`: or that many, chosen by the seed. `fold`: which of the official divisions, from 1.
    `train_with_extra`: join the official extra images to train. `unlabeled`: take the images without labels as train.
    `boxes`: take boxes, and masks of instances where there are some. `size`: pixels a side that the images will have,
    where it is known.
    """

    subset: bool = False
    train_with_val: bool = False
    labels: str | None = None
    classes: Path | None = None
    n_classes: int | None = None
    fold: int | None = None
    train_with_extra: bool = False
    unlabeled: bool = False
    boxes: bool = False
    seed: int = 0
    size: int | None = None


@dataclass(frozen=True)
class Listing:
    """What the official files say.

    `sizes`: how many there must be, where the choices change that; `parameters`: what the dataset file says of it;
    `ignored`: files beside the images that are none; `notes`: lines for the user; `files`: what was read whole, to be
    compared with what its authors publish; `side`: pixels a side where all images have the same; `mask_names`: of the
    masks that the items have; `factors`: class factors, each with its value for each class; `boxed`: whether the items
    have objects.
    """

    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[Item]]
    sizes: Mapping[str, int] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    ignored: Sequence[Skipped] = ()
    notes: Sequence[str] = ()
    files: Sequence[Path] = ()
    side: int | None = None
    mask_names: tuple[str, ...] = ()
    factors: tuple[tuple[Factor, tuple[int, ...]], ...] = ()
    boxed: bool = False


@dataclass(frozen=True, kw_only=True)
class Official:
    """A dataset that others published.

    Attributes:
        open: Reads its lists, given the folder and the choices, in which `labels` and `fold` are chosen.
        sizes: Images of each official split.
        classes: How many there are; of the first of `labels`, where there are several.
        needs: What the folder holds; empty for a set that needs no folder.
        labels: What `--labels` may be, the usual one first, and how many classes that makes.
        fold: Which of the ten official divisions is taken if none is typed; None for a set that is whole without one.
        store: How images are kept, if nothing is typed.
        size: Pixels a side, if none is typed.
        resize: How, if nothing is typed.
        test_fraction: Share of all images that becomes test where there is no official test split, if nothing is typed.
    """

    about: str
    open: Callable[[Path, Choices], Listing]
    sizes: Mapping[str, int]
    classes: int
    needs: str
    takes: frozenset[str] = frozenset()
    labels: Mapping[str, int] = field(default_factory=dict)
    fold: int | None = None
    store: str = "pixels"
    size: int = 224  # LCR, section 4.1, and most papers on these sets; ConRec, authors' code
    resize: str = "crop"
    channels: int = 3
    test_fraction: float = 0.0

    @property
    def defaults(self) -> dict[str, Any]:
        """What `labels` and `fold` are if nothing is typed; nothing where the set has no such choice."""
        found = {"labels": next(iter(self.labels), None), "fold": self.fold}
        return {choice: value for choice, value in found.items() if value is not None}


def image_file(root: Path, key: str, label: Label, banner: int = 0) -> File:
    """An image file of an official dataset, by its path below a folder."""
    return File(key, label, os.path.join(root, key), banner)


def find_folder(root: Path, marker: str, *below: str, archive: str) -> Path:
    """The folder that holds `marker`: the root or one of those below it; a ValueError if none does."""
    for folder in (root, *(root / name for name in below)):
        if (folder / marker).exists():
            return folder
    also = "".join(f" or {root / name}" for name in below)
    raise ValueError(f"expected {marker} in {root}{also}, found none; ROOT is the folder where {archive} was unpacked")


def find_file(root: Path, names: Sequence[str], folders: Sequence[str], where: str) -> Path:
    """The first file of these names, in the root or a folder below it; a ValueError if there is none.

    `where`: what ROOT is, in words.
    """
    for folder in (root, *(root / below for below in folders)):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    also = "".join(f" or {root / below}" for below in folders)
    raise ValueError(f"expected {names[0]} in {root}{also}, found none; ROOT is {where}")


def need(path: Path, why: str = "") -> Path:
    """The path, if there is something; a ValueError if not."""
    if not path.exists():
        raise ValueError(f"expected {path}, found nothing{why and f'; {why}'}")
    return path


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank; a ValueError if it is missing or no text."""
    return [line.strip() for line in read_text(need(path)).splitlines() if line.strip()]


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Lines of a name, a blank and the rest; a ValueError if a line has no blank."""
    pairs = []
    for line in read_lines(path):
        first, *rest = line.split(maxsplit=1)
        if not rest:
            raise ValueError(f"expected two words a line in {path}, found {line!r}")
        pairs.append((first, rest[0]))
    return pairs


def read_mat(path: Path, *keys: str) -> dict[str, Any]:
    """Variables of a MATLAB file; structures become objects, and sides of length 1 are dropped.

    A ValueError if the file or one of the variables is missing, or it is no MATLAB file.
    """
    return load_mat(io.BytesIO(read_list(need(path))), path, *keys)


def load_mat(file: IO[bytes], path: Path, *keys: str) -> dict[str, Any]:
    """`read_mat` of an open file, however large."""
    from scipy.io import loadmat

    try:
        content: dict[str, Any] = loadmat(file, squeeze_me=True, struct_as_record=False, variable_names=keys)
    except Exception as error:  # a damaged file surfaces as whatever scipy or zlib felt first
        raise ValueError(f"cannot read {path}: {one_line(error)}") from error
    missing = [key for key in keys if key not in content]
    if missing:
        raise ValueError(f"expected {', '.join(keys)} in {path}, found no {', '.join(missing)}")
    return content


def whole_numbers(values: Any, path: Path) -> list[int]:
    """Values of a MATLAB variable as integers; a ValueError if they are something else."""
    array = np.atleast_1d(np.asarray(values))
    if array.dtype.kind not in "iuf" or (array != np.floor(array)).any():
        raise ValueError(f"expected whole numbers in {path}, found {array.dtype}")
    return [int(value) for value in array.ravel()]


def number(text: str, path: Path) -> int:
    """A whole number in a text file; a ValueError if it is none."""
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"expected a whole number in {path}, found {text!r}") from error


def name_classes(named: Iterable[tuple[int, str]], n: int) -> tuple[str, ...]:
    """Names of the labels 0 to n - 1 from pairs; a label that does not occur is named by its number, from 1.

    A ValueError if a label has two names, or lies beyond n.
    """
    names: dict[int, str] = {}
    for label, name in named:
        if names.setdefault(label, name) != name:
            raise ValueError(f"expected one name a class, found {names[label]!r} and {name!r} for class {label + 1}")
    return tuple(names.get(label, str(label + 1)) for label in range(n))
