"""Sets in class folders: Tiny ImageNet, EuroSAT and Caltech-101."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from probekit.data.importers.base import Skipped
from probekit.data.importers.images import SUFFIXES, File
from probekit.data.importers.official.base import (
    PHOTOGRAPHS,
    Choices,
    Listing,
    Official,
    find_folder,
    image_file,
    need,
    read_lines,
    read_pairs,
)
from probekit.data.importers.tree import is_hidden


def _photos(root: Path, below: str, label: int, ignored: list[Skipped]) -> list[File]:
    """The images of one folder, in the order of the numbers in their names."""
    names = os.listdir(root / below) if (root / below).is_dir() else []
    images = [name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES and not is_hidden(name)]
    ignored += [
        Skipped(f"{below}/{name}", "not an image file by its name") for name in sorted(set(names) - set(images))
    ]
    return [image_file(root, f"{below}/{name}", label) for name in sorted(images, key=_order)]


def _order(name: str) -> tuple[list[int], str]:
    return [int(found) for found in re.findall(r"\d+", name)], name


def _folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not is_hidden(entry.name))


# Tiny ImageNet: train/<wnid>/images/*.JPEG, val/images/*.JPEG with val/val_annotations.txt, wnids.txt; 64 px.
# Stanford CS231N, "Tiny ImageNet visual recognition challenge", 2015. The test labels are hidden.

ANNOTATIONS = "val_annotations.txt"


def _open_tiny(root: Path, choices: Choices) -> Listing:
    """Train, and the official val split as test; classes in the order of the sorted wnids, as in ImageNet."""
    folder = find_folder(root, "wnids.txt", "tiny-imagenet-200", archive="tiny-imagenet-200.zip")
    wnids = tuple(sorted(read_lines(folder / "wnids.txt")))
    if not wnids:
        raise ValueError(f"expected wnids such as n01443537 in {folder / 'wnids.txt'}, found none")
    index = {wnid: label for label, wnid in enumerate(wnids)}
    need(folder / "train")
    ignored: list[Skipped] = []
    train = []
    for label, wnid in enumerate(wnids):
        train += _photos(folder, f"train/{wnid}/images", label, ignored)
    ignored = [found for found in ignored if not found.path.endswith("_boxes.txt")]
    return Listing(wnids, {"train": train, "test": _val(folder, wnids, index, ignored)}, ignored=ignored, side=64)


def _val(folder: Path, wnids: Sequence[str], index: dict[str, int], ignored: list[Skipped]) -> list[File]:
    """The official val split; many have sorted it into class folders."""
    path = folder / "val" / ANNOTATIONS
    if not path.exists() or not (folder / "val" / "images").is_dir():
        sorted_in = [
            _photos(folder, f"val/{wnid}{below}", k, []) for k, wnid in enumerate(wnids) for below in ("/images", "")
        ]
        if not any(sorted_in):
            raise ValueError(f"expected {path} and val/images in {folder}, or val/{wnids[0]} and so on, found neither")
        return [photo for photos in sorted_in for photo in photos]
    photos = []
    for name, rest in read_pairs(path):
        wnid = rest.split()[0]
        if wnid not in index:
            raise ValueError(f"expected wnids of wnids.txt in {path}, found {wnid!r}")
        photos.append(image_file(folder, f"val/images/{name}", index[wnid]))
    return photos


TINY_IMAGENET = Official(
    about="Tiny ImageNet, 200 classes of ImageNet at 64 px",
    open=_open_tiny,
    sizes={"train": 100_000, "test": 10_000},
    classes=200,
    needs="tiny-imagenet-200/: wnids.txt, train/, val/",
    size=64,
)


# EuroSAT, RGB: 2750/<class>/<class>_<number>.jpg (or EuroSAT_RGB/), 64 px; no official split.
# Helber et al., "EuroSAT: a novel dataset and deep learning benchmark for land use and land cover classification",
# IEEE JSTARS 2019.

NAMES = "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential River SeaLake"
LAND = tuple(NAMES.split())


def _open_eurosat(root: Path, choices: Choices) -> Listing:
    """All images as train."""
    folder = find_folder(
        root, LAND[0], "2750", "EuroSAT_RGB", "EuroSAT/2750", "eurosat/2750", archive="EuroSAT.zip (RGB)"
    )
    ignored: list[Skipped] = []
    photos: list[File] = []
    for label, name in enumerate(LAND):
        photos += _photos(folder, name, label, ignored)
    return Listing(LAND, {"train": photos}, ignored=ignored, side=64)


EUROSAT = Official(
    about="EuroSAT, land use from Sentinel-2, RGB, 64 px",
    open=_open_eurosat,
    sizes={"train": 27_000},
    classes=len(LAND),
    needs="2750/ or EuroSAT_RGB/, with AnnualCrop/ and so on",
    size=64,
    test_fraction=0.2,  # no official split: 80/20 is what its paper reports most
)


# Caltech-101: 101_ObjectCategories/<class>/image_0001.jpg; no official split.
# Fei-Fei, Fergus and Perona, "Learning generative visual models from few training examples", CVPR workshop 2004.

BACKGROUND = "BACKGROUND_Google"
N_OBJECTS, N_BACKGROUND = 8_677, 467
OBJECTS, WITH_BACKGROUND = "objects", "with-background"


def _open_caltech(root: Path, choices: Choices) -> Listing:
    """All images as train, of the objects or of the background too."""
    folder = find_folder(
        root, "101_ObjectCategories", "caltech-101", "caltech101", archive="101_ObjectCategories.tar.gz"
    )
    kept = choices.labels == WITH_BACKGROUND
    where = folder / "101_ObjectCategories"
    classes = [name for name in _folders(where) if kept or name != BACKGROUND]
    ignored: list[Skipped] = []
    photos: list[File] = []
    for label, name in enumerate(classes):
        photos += _photos(where, name, label, ignored)
    notes = [] if kept else [f"{BACKGROUND} is left out, it is no class; --labels {WITH_BACKGROUND} takes it as one"]
    if {"Faces", "Faces_easy"} <= set(classes):
        notes.append(
            "Faces_easy has the photographs of Faces, cut out: the same ones come on both sides of a random split"
        )
    sizes = {"train": N_OBJECTS + (N_BACKGROUND if kept else 0)}
    return Listing(tuple(classes), {"train": photos}, sizes=sizes, ignored=ignored, notes=notes)


CALTECH101 = Official(
    about="Caltech-101, objects",
    open=_open_caltech,
    sizes={"train": N_OBJECTS},
    classes=101,
    needs="101_ObjectCategories/",
    takes=frozenset({"labels"}),
    labels={OBJECTS: 101, WITH_BACKGROUND: 102},
    test_fraction=0.2,  # own choice: there is no official split
    store=PHOTOGRAPHS,
)
