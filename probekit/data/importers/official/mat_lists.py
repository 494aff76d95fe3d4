"""Official datasets whose lists are MATLAB files: Oxford Flowers 102, Stanford Dogs, Stanford Cars."""

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
    name_classes,
    need,
    read_mat,
    whole_numbers,
)

# Oxford Flowers 102: jpg/image_00001.jpg ..., imagelabels.mat (labels from 1), setid.mat (image numbers from 1).
# Nilsback and Zisserman, "Automated flower classification over a large number of classes", ICVGIP 2008.

FLOWERS = 102
SETS = {"train": "trnid", "val": "valid", "test": "tstid"}


def open_flowers102(root: Path, choices: Choices) -> Listing:
    """The three official splits; the archive has no class names, so they are the numbers 1 to 102."""
    folder = find_folder(root, "imagelabels.mat", "flowers-102", archive="102flowers.tgz")
    labels = whole_numbers(read_mat(folder / "imagelabels.mat", "labels")["labels"], folder / "imagelabels.mat")
    sets = read_mat(folder / "setid.mat", *SETS.values())

    def photo(number: int) -> Photo:
        if not 1 <= number <= len(labels):
            raise ValueError(f"expected image numbers 1 to {len(labels)} in {folder / 'setid.mat'}, found {number}")
        return Photo(str(folder), f"jpg/image_{number:05}.jpg", labels[number - 1] - 1)

    splits = {
        split: [photo(number) for number in whole_numbers(sets[key], folder / "setid.mat")]
        for split, key in SETS.items()
    }
    return Listing(tuple(str(k + 1) for k in range(FLOWERS)), splits)


FLOWERS102 = Official(
    about="Oxford Flowers 102",
    open=open_flowers102,
    sizes={"train": 1020, "val": 1020, "test": 6149},
    needs="jpg/, imagelabels.mat, setid.mat",
    takes=frozenset({"train_with_val"}),  # 2040 training images, as in the ConRec paper
)


# Stanford Dogs: Images/n02085620-Chihuahua/*.jpg, train_list.mat and test_list.mat (labels from 1).
# Khosla et al., "Novel dataset for fine-grained image categorization", FGVC workshop, CVPR 2011.

BREEDS = 120


def open_stanford_dogs(root: Path, choices: Choices) -> Listing:
    """The official splits."""
    lists = find_folder(root, "train_list.mat", "lists", archive="lists.tar")
    images = need(root / "Images", "unpack images.tar there too")
    splits = {split: _dogs(lists / f"{split}_list.mat", images) for split in ("train", "test")}
    named = ((photo.label, photo.key.split("/")[0]) for photos in splits.values() for photo in photos)
    names = name_classes(
        ((label, folder.partition("-")[2]) for label, folder in named if isinstance(label, int)), BREEDS
    )
    return Listing(names, splits)


def _dogs(path: Path, images: Path) -> list[Photo]:
    content = read_mat(path, "file_list", "labels")
    files = [str(name) for name in np.atleast_1d(content["file_list"])]
    labels = whole_numbers(content["labels"], path)
    if len(files) != len(labels):
        raise ValueError(f"expected a label for each file in {path}, found {len(files)} files and {len(labels)} labels")
    return [Photo(str(images), name, label - 1) for name, label in zip(files, labels, strict=True)]


STANFORD_DOGS = Official(
    about="Stanford Dogs, 120 breeds",
    open=open_stanford_dogs,
    sizes={"train": 12_000, "test": 8_580},
    needs="Images/, train_list.mat, test_list.mat",
)


# Stanford Cars, in both layouts that are around; classes from 1.
# Separate: devkit/cars_meta.mat, devkit/cars_train_annos.mat, cars_test_annos_withlabels.mat, cars_train/, cars_test/.
# Single: cars_annos.mat, car_ims/. The numbers of the files differ between them.
# Krause et al., "3D object representations for fine-grained categorization", 3dRR workshop, ICCV 2013.

SEPARATE, SINGLE = "devkit/cars_meta.mat", "cars_annos.mat"


def open_stanford_cars(root: Path, choices: Choices) -> Listing:
    """The official splits, from whichever layout is there."""
    for folder in (root, root / "stanford_cars"):
        if (folder / SINGLE).exists():
            return _cars_together(folder)
    if (root / "train").is_dir():
        raise ValueError(
            f"expected {SEPARATE} or {SINGLE} in {root}, found class folders; type: probekit import {quote(str(root))}"
        )
    return _cars_apart(find_folder(root, SEPARATE, "stanford_cars", archive=f"car_devkit.tgz (or {SINGLE})"))


def _cars_apart(folder: Path) -> Listing:
    names = _models(folder / SEPARATE)
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


def _cars_together(folder: Path) -> Listing:
    path = folder / SINGLE
    splits: dict[str, list[Photo]] = {"train": [], "test": []}
    for row in _annotations(path):
        [in_test] = whole_numbers(_get(row, "test", path), path)
        photo = Photo(str(folder), str(_get(row, "relative_im_path", path)), _label(row, path))
        splits["test" if in_test else "train"].append(photo)
    return Listing(_models(path), splits)


def _models(path: Path) -> tuple[str, ...]:
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


STANFORD_CARS = Official(
    about="Stanford Cars, 196 models",
    open=open_stanford_cars,
    sizes={"train": 8_144, "test": 8_041},
    needs="devkit/, cars_train/, cars_test/, cars_test_annos_withlabels.mat; or car_ims/, cars_annos.mat",
)
