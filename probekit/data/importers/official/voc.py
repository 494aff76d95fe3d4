"""Pascal VOC 2007 and 2012, classification: several labels an image, from ImageSets/Main/<class>_<set>.txt.

Everingham et al., "The Pascal visual object classes (VOC) challenge", IJCV 2010.
An image that shows a class only in difficult instances is neither positive nor negative: 255. Some images have a
segmentation, SegmentationClass/*.png, whose palette numbers are the classes from 1.
"""

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
from probekit.data.importers.official.segmented import Segments, notes_on, with_segments
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
    folder = find_folder(root, "ImageSets/Main", year, f"VOCdevkit/{year}", archive=f"the {year} archive")
    if folder.resolve().name.startswith("VOC20") and folder.resolve().name != year:
        raise ValueError(f"expected {year}, found {folder.resolve().name} in {root}")
    where = folder / "SegmentationClass"
    segments = SEGMENTS if where.is_dir() else None
    splits = {split: _photos(folder, name, segments) for split, name in sets.items()}
    names = () if segments is None else segments.names
    return Listing(CLASSES, splits, mask_names=names, notes=notes_on(splits, where, SEGMENTS))


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
    needs="VOCdevkit/VOC2007/ of VOCtrainval and VOCtest: JPEGImages/, ImageSets/Main/",
    takes=frozenset({"train_with_val"}),  # trainval, 5,011 images
    store=PHOTOGRAPHS,
)
VOC2012 = Official(
    about="Pascal VOC 2012, 20 classes, several an image",
    open=partial(open_lists, "VOC2012", {"train": "train", "test": "val"}),  # the test labels are hidden
    sizes={"train": 5_717, "test": 5_823},
    classes=len(CLASSES),
    needs="VOCdevkit/VOC2012/: JPEGImages/, ImageSets/Main/",
    store=PHOTOGRAPHS,
)
