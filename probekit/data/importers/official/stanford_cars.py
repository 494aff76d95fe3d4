"""Stanford Cars, in both layouts that are around; classes from 1.

Separate: devkit/cars_meta.mat, devkit/cars_train_annos.mat, cars_test_annos_withlabels.mat, cars_train/, cars_test/.
Single: cars_annos.mat, car_ims/. The numbers of the files differ between them.

Krause et al., "3D object representations for fine-grained categorization", 3dRR workshop, ICCV 2013.
"""

from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from probekit.data.importers.official.base import (
    Choices,
    Listing,
    Official,
    Photo,
    find_folder,
    need,
    read_mat,
    whole_numbers,
)

SEPARATE, SINGLE = "devkit/cars_meta.mat", "cars_annos.mat"


def open_lists(root: Path, choices: Choices) -> Listing:
    """The official splits, from whichever layout is there."""
    for folder in (root, root / "stanford_cars"):
        if (folder / SINGLE).exists():
            return _open_single(folder)
    if (root / "train").is_dir():
        raise ValueError(
            f"expected {SEPARATE} or {SINGLE} in {root}, found class folders; type: probekit import {quote(str(root))}"
        )
    return _open_separate(find_folder(root, SEPARATE, "stanford_cars", archive=f"car_devkit.tgz (or {SINGLE})"))


def _open_separate(folder: Path) -> Listing:
    names = _names(folder / SEPARATE)
    plain = "cars_test_annos_withlabels.mat"
    test = folder / plain if (folder / plain).exists() else folder / "devkit" / plain
    need(test, "cars_test_annos.mat, without that ending, has no classes")
    lists = {"train": folder / "devkit" / "cars_train_annos.mat", "test": test}
    splits = {
        split: [
            Photo(str(folder / f"cars_{split}"), str(_get(row, "fname", path)), _label(row, path))
            for row in _annotations(path)
        ]
        for split, path in lists.items()
    }
    return Listing(names, splits)


def _open_single(folder: Path) -> Listing:
    path = folder / SINGLE
    splits: dict[str, list[Photo]] = {"train": [], "test": []}
    for row in _annotations(path):
        [in_test] = whole_numbers(_get(row, "test", path), path)
        photo = Photo(str(folder), str(_get(row, "relative_im_path", path)), _label(row, path))
        splits["test" if in_test else "train"].append(photo)
    return Listing(_names(path), splits)


def _names(path: Path) -> tuple[str, ...]:
    return tuple(str(name) for name in np.atleast_1d(read_mat(path, "class_names")["class_names"]))


def _annotations(path: Path) -> list[Any]:
    return list(np.atleast_1d(read_mat(path, "annotations")["annotations"]))


def _get(row: Any, name: str, path: Path) -> Any:
    if not hasattr(row, name):
        raise ValueError(f"expected the field {name} of annotations in {path}, found none")
    return getattr(row, name)


def _label(row: Any, path: Path) -> int:
    [label] = whole_numbers(_get(row, "class", path), path)
    return label - 1


OFFICIAL = Official(
    about="Stanford Cars, 196 models",
    open=open_lists,
    sizes={"train": 8_144, "test": 8_041},
    needs="devkit/, cars_train/, cars_test/, cars_test_annos_withlabels.mat; or car_ims/, cars_annos.mat",
)
