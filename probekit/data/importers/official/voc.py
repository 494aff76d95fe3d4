"""Pascal VOC 2007 and 2012: several labels an image, from ImageSets/Main/<class>_<set>.txt; and boxes.

Everingham et al., "The Pascal visual object classes (VOC) challenge", IJCV 2010.
An image that shows a class only in difficult instances is neither positive nor negative: 255. Some images have a
segmentation, SegmentationClass/*.png, whose palette numbers are the classes from 1; boxes take its place where they
are asked for.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from probekit.data.importers.images import File
from probekit.data.importers.official.base import (
    PHOTOGRAPHS,
    Choices,
    Listing,
    Official,
    find_folder,
    image_file,
    read_lines,
    read_pairs,
)
from probekit.data.importers.official.voc_boxes import Annotated
from probekit.data.importers.segmented import Segments, notes_on, with_segments
from probekit.h5 import ABSENT, DIFFICULT, PRESENT

NAMES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable "
    "dog horse motorbike person pottedplant sheep sofa train tvmonitor"
)
CLASSES = tuple(NAMES.split())
VOID = 255  # at outlines, and objects that are not to count
SEGMENTS = Segments.of(
    "segmentation",
    (*CLASSES, "void"),
    f"0 to {len(CLASSES)} and {VOID}",
    {0: -1, **{k + 1: k for k in range(len(CLASSES))}, VOID: len(CLASSES)},
    palette=True,
)
FLAGS = {"1": PRESENT, "-1": ABSENT, "0": DIFFICULT}


def open_lists(year: str, sets: dict[str, str], root: Path, choices: Choices) -> Listing:
    """The official splits of a year; `sets` says which official set is which split."""
    folder = _folder(year, root)
    if choices.boxes:
        boxed = {split: _boxed(folder, _photos(folder, name, None)) for split, name in sets.items()}
        return Listing(CLASSES, boxed, boxed=True)
    where = folder / "SegmentationClass"
    segments = SEGMENTS if where.is_dir() else None
    splits = {split: _photos(folder, name, segments) for split, name in sets.items()}
    names = () if segments is None else segments.names
    return Listing(CLASSES, splits, mask_names=names, notes=notes_on(splits, where, SEGMENTS))


def open_union(root: Path, choices: Choices) -> Listing:
    """Train: trainval of both years; test: that of 2007 (XCorr paper, Table 5, "VOC 07+12")."""
    sets = {"train": (("VOC2007", "trainval"), ("VOC2012", "trainval")), "test": (("VOC2007", "test"),)}
    splits: dict[str, list[File]] = {}
    for split, parts in sets.items():
        splits[split] = []
        for year, name in parts:
            folder = _folder(year, root)
            photos = _photos(folder, name, None)
            photos = _boxed(folder, photos) if choices.boxes else photos
            splits[split] += [replace(photo, key=f"{year}/{photo.key}") for photo in photos]
    return Listing(CLASSES, splits, boxed=choices.boxes)


def _folder(year: str, root: Path) -> Path:
    folder = find_folder(root, "ImageSets/Main", year, f"VOCdevkit/{year}", archive=f"the {year} archive")
    if folder.resolve().name.startswith("VOC20") and folder.resolve().name != year:
        raise ValueError(f"expected {year}, found {folder.resolve().name} in {root}")
    return folder


def _boxed(folder: Path, photos: list[File]) -> list[File]:
    """Photographs with their boxes."""
    return [
        Annotated(
            *(photo.key, photo.label, photo.path),
            annotation=str(folder / "Annotations" / f"{Path(photo.key).stem}.xml"),
            classes=CLASSES,
        )
        for photo in photos
    ]


def _photos(folder: Path, name: str, segments: Segments | None) -> list[File]:
    main = folder / "ImageSets" / "Main"
    flags = {kind: dict(read_pairs(main / f"{kind}_{name}.txt")) for kind in CLASSES}
    photos: list[File] = []
    for key in read_lines(main / f"{name}.txt"):
        found = [flags[kind].get(key) for kind in CLASSES]
        if not all(flag in FLAGS for flag in found):
            wrong = next(kind for kind, flag in zip(CLASSES, found, strict=True) if flag not in FLAGS)
            raise ValueError(f"expected 1, 0 or -1 for image {key} in {main / f'{wrong}_{name}.txt'}, found another")
        photo = image_file(folder, f"JPEGImages/{key}.jpg", bytes(FLAGS[str(flag)] for flag in found))
        if segments is not None:
            photo = with_segments(photo, folder / "SegmentationClass" / f"{key}.png", segments)
        photos.append(photo)
    return photos


VOC2007 = Official(
    about="Pascal VOC 2007, 20 classes, several an image",
    open=partial(open_lists, "VOC2007", {"train": "train", "val": "val", "test": "test"}),
    sizes={"train": 2_501, "val": 2_510, "test": 4_952},
    classes=len(CLASSES),
    needs="VOCdevkit/VOC2007/ of VOCtrainval and VOCtest: JPEGImages/, ImageSets/Main/, with --boxes Annotations/",
    takes=frozenset({"train_with_val", "boxes"}),  # trainval, 5,011 images
    store=PHOTOGRAPHS,
)
VOC2012 = Official(
    about="Pascal VOC 2012, 20 classes, several an image",
    open=partial(open_lists, "VOC2012", {"train": "train", "test": "val"}),  # the test labels are hidden
    sizes={"train": 5_717, "test": 5_823},
    classes=len(CLASSES),
    needs="VOCdevkit/VOC2012/: JPEGImages/, ImageSets/Main/, with --boxes Annotations/",
    takes=frozenset({"boxes"}),
    store=PHOTOGRAPHS,
)
VOC0712 = Official(
    about="Pascal VOC 2007 and 2012 together: trainval of both, and the test set of 2007",
    open=open_union,
    sizes={"train": 5_011 + 11_540, "test": 4_952},
    classes=len(CLASSES),
    needs="VOCdevkit/ with VOC2007/ and VOC2012/: JPEGImages/, ImageSets/Main/, with --boxes Annotations/",
    takes=frozenset({"boxes"}),
    store=PHOTOGRAPHS,
)
