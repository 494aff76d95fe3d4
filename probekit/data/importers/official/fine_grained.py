"""Sets of kinds that look alike, as their authors publish them: flowers, dogs, cars, birds, aircraft, and eyes."""

import csv
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from probekit.data.importers.images import File
from probekit.data.importers.official.base import (
    PHOTOGRAPHS,
    Choices,
    Listing,
    Official,
    find_folder,
    image_file,
    name_classes,
    need,
    number,
    read_lines,
    read_mat,
    read_pairs,
    whole_numbers,
)
from probekit.data.importers.segmented import Box, InBox, Segments, in_box, notes_on, with_segments

# Oxford Flowers 102: jpg/image_00001.jpg ..., imagelabels.mat (labels from 1), setid.mat (image numbers from 1).
# Nilsback and Zisserman, "Automated flower classification over a large number of classes", ICVGIP 2008.

N_FLOWERS = 102
SETS = {"train": "trnid", "val": "valid", "test": "tstid"}


def _open_flowers(root: Path, choices: Choices) -> Listing:
    """The three official splits; the archive has no class names, so they are the numbers 1 to 102."""
    folder = find_folder(root, "imagelabels.mat", "flowers-102", archive="102flowers.tgz")
    labels = whole_numbers(read_mat(folder / "imagelabels.mat", "labels")["labels"], folder / "imagelabels.mat")
    sets = read_mat(folder / "setid.mat", *SETS.values())

    def photo(number: int) -> File:
        if not 1 <= number <= len(labels):
            raise ValueError(f"expected image numbers 1 to {len(labels)} in {folder / 'setid.mat'}, found {number}")
        return image_file(folder, f"jpg/image_{number:05}.jpg", labels[number - 1] - 1)

    splits = {
        split: [photo(number) for number in whole_numbers(sets[key], folder / "setid.mat")]
        for split, key in SETS.items()
    }
    return Listing(tuple(str(k + 1) for k in range(N_FLOWERS)), splits)


FLOWERS102 = Official(
    about="Oxford Flowers 102",
    open=_open_flowers,
    sizes={"train": 1020, "val": 1020, "test": 6149},
    classes=N_FLOWERS,
    needs="jpg/, imagelabels.mat, setid.mat",
    takes=frozenset({"train_with_val"}),  # 2040 training images, as in the ConRec paper
    store=PHOTOGRAPHS,
)


# Stanford Dogs: Images/n02085620-Chihuahua/*.jpg, train_list.mat and test_list.mat (labels from 1).
# Khosla et al., "Novel dataset for fine-grained image categorization", FGVC workshop, CVPR 2011.

N_DOGS = 120


def _open_dogs(root: Path, choices: Choices) -> Listing:
    lists = find_folder(root, "train_list.mat", "lists", archive="lists.tar")
    images = need(root / "Images", "unpack images.tar there too")
    splits = {split: _read_dogs(lists / f"{split}_list.mat", images) for split in ("train", "test")}
    named = ((photo.label, photo.key.split("/")[0]) for photos in splits.values() for photo in photos)
    names = name_classes(
        ((label, folder.partition("-")[2]) for label, folder in named if isinstance(label, int)), N_DOGS
    )
    return Listing(names, splits)


def _read_dogs(path: Path, images: Path) -> list[File]:
    content = read_mat(path, "file_list", "labels")
    files = [str(name) for name in np.atleast_1d(content["file_list"])]
    labels = whole_numbers(content["labels"], path)
    if len(files) != len(labels):
        raise ValueError(f"expected a label for each file in {path}, found {len(files)} files and {len(labels)} labels")
    return [image_file(images, name, label - 1) for name, label in zip(files, labels, strict=True)]


STANFORD_DOGS = Official(
    about="Stanford Dogs, 120 breeds",
    open=_open_dogs,
    sizes={"train": 12_000, "test": 8_580},
    classes=N_DOGS,
    needs="Images/, train_list.mat, test_list.mat",
    store=PHOTOGRAPHS,
)


# Stanford Cars, in both layouts that are around; classes from 1.
# Separate: devkit/cars_meta.mat, devkit/cars_train_annos.mat, cars_test_annos_withlabels.mat, cars_train/, cars_test/.
# Single: cars_annos.mat, car_ims/. The numbers of the files differ between them.
# Krause et al., "3D object representations for fine-grained categorization", 3dRR workshop, ICCV 2013.

SEPARATE, SINGLE = "devkit/cars_meta.mat", "cars_annos.mat"
CAR = ("car",)  # the mask of the box


def _open_cars(root: Path, choices: Choices) -> Listing:
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
            _boxed(image_file(folder / f"cars_{split}", str(_get(row, "fname", path)), _label(row, path)), row, path)
            for row in _annotations(path)
        ]
        for split, path in lists.items()
    }
    return Listing(names, splits, mask_names=CAR)


def _open_single(folder: Path) -> Listing:
    path = folder / SINGLE
    splits: dict[str, list[File]] = {"train": [], "test": []}
    for row in _annotations(path):
        [in_test] = whole_numbers(_get(row, "test", path), path)
        photo = image_file(folder, str(_get(row, "relative_im_path", path)), _label(row, path))
        splits["test" if in_test else "train"].append(_boxed(photo, row, path))
    return Listing(_names(path), splits, mask_names=CAR)


def _boxed(photo: File, row: Any, path: Path) -> InBox:
    """With its box, which counts from 1 and includes its last pixels."""
    x0, y0, x1, y1 = (whole_numbers(_get(row, f"bbox_{end}", path), path)[0] for end in ("x1", "y1", "x2", "y2"))
    return in_box(photo, (x0 - 1, y0 - 1, x1, y1))


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


STANFORD_CARS = Official(
    about="Stanford Cars, 196 models",
    open=_open_cars,
    sizes={"train": 8_144, "test": 8_041},
    classes=196,
    needs="devkit/, cars_train/, cars_test/, cars_test_annos_withlabels.mat; or car_ims/, cars_annos.mat",
    store=PHOTOGRAPHS,
)


# CUB-200-2011: images/001.Black_footed_Albatross/*.jpg and text lists of ids (classes from 1; split 1 is train).
# Wah et al., "The Caltech-UCSD Birds-200-2011 dataset", Caltech CNS-TR-2011-001.

# segmentations/001.Black_footed_Albatross/*.png, of an archive of its own: the share of the annotators, 0 to 255.
# bounding_boxes.txt: x, y, width and height behind each id; the mask where there are no segmentations.

N_BIRDS = 200
BIRD_BOX = ("box",)
BIRD = Segments.of("segmentation", ("bird",), "shares", {value: 0 if value > 127 else -1 for value in range(256)})


def _open_birds(root: Path, choices: Choices) -> Listing:
    folder = find_folder(root, "image_class_labels.txt", "CUB_200_2011", archive="CUB_200_2011.tgz")
    label_file, split_file = folder / "image_class_labels.txt", folder / "train_test_split.txt"
    labels, training = dict(read_pairs(label_file)), dict(read_pairs(split_file))
    where = next((each for each in (folder, folder.parent) if (each / "segmentations").is_dir()), folder)
    where, segments = where / "segmentations", BIRD if (where / "segmentations").is_dir() else None
    boxes = _read_boxes(folder / "bounding_boxes.txt") if segments is None else {}
    splits: dict[str, list[File]] = {"train": [], "test": []}
    for key, path in read_pairs(folder / "images.txt"):
        if key not in labels or training.get(key) not in ("0", "1"):
            raise ValueError(f"expected image {key} of images.txt in {label_file} and {split_file}, found it missing")
        photo = image_file(folder / "images", path, number(labels[key], label_file) - 1)
        if segments is not None:
            photo = with_segments(photo, (where / path).with_suffix(".png"), segments)
        elif boxes:
            x, y, width, height = _box_of(boxes, key, folder / "bounding_boxes.txt")
            photo = in_box(photo, (x, y, x + width, y + height))
        splits["train" if training[key] == "1" else "test"].append(photo)
    listed = read_pairs(folder / "classes.txt")
    named = ((number(key, folder / "classes.txt") - 1, name.partition(".")[2]) for key, name in listed)
    names, notes = name_classes(named, N_BIRDS), notes_on(splits, where, BIRD)
    if boxes:
        notes = [f"the segmentations are not in {where}: the mask is the box of each bird"]
        return Listing(names, splits, mask_names=BIRD_BOX, notes=notes)
    return Listing(names, splits, mask_names=() if segments is None else segments.names, notes=notes)


def _read_boxes(path: Path) -> dict[str, Box]:
    """The four numbers behind each name of a list, rounded; {} where there is no list."""
    return {key: _four(text, path) for key, text in read_pairs(path)} if path.exists() else {}


def _four(text: str, path: Path) -> Box:
    try:
        a, b, c, d = (round(float(word)) for word in text.split())
    except (ValueError, OverflowError) as error:  # OverflowError: infinity
        raise ValueError(f"expected four numbers of each box in {path}, found {text!r}") from error
    return a, b, c, d


def _box_of(boxes: Mapping[str, Box], key: str, path: Path) -> Box:
    if key not in boxes:
        raise ValueError(f"expected a box of image {key} in {path}, found none")
    return boxes[key]


CUB200 = Official(
    about="Caltech-UCSD Birds-200-2011",
    open=_open_birds,
    sizes={"train": 5_994, "test": 5_794},
    classes=N_BIRDS,
    needs="images/, images.txt, image_class_labels.txt, train_test_split.txt, classes.txt",
    store=PHOTOGRAPHS,
)


# FGVC-Aircraft 2013b: data/images/0034309.jpg and lists of "<number> <label with blanks>" for three kinds of label.
# data/images_box.txt: xmin, ymin, xmax and ymax behind each number, which count from 1 and include the last pixels.
# Maji et al., "Fine-grained visual classification of aircraft", arXiv 1306.5151, 2013.

NAMES = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}
BANNER = 20  # rows of a copyright notice at the lower edge of every image: a shortcut
AIRCRAFT = ("aircraft",)  # the mask of the box


def _open_aircraft(root: Path, choices: Choices) -> Listing:
    kind = choices.labels
    assert kind is not None
    found = find_folder(root, "data/variants.txt", "fgvc-aircraft-2013b", archive="fgvc-aircraft-2013b.tar.gz")
    folder = found / "data"
    classes = tuple(read_lines(folder / NAMES[kind]))
    index = {name: label for label, name in enumerate(classes)}
    where = folder / "images_box.txt"
    boxes = _read_boxes(where)
    lists = {split: folder / f"images_{kind}_{split}.txt" for split in ("train", "val", "test")}
    splits = {split: _read_aircraft(path, index, boxes, where) for split, path in lists.items()}
    notes = [] if boxes else [f"no masks: the boxes are not in {where}"]
    return Listing(classes, splits, mask_names=AIRCRAFT if boxes else (), notes=notes)


def _read_aircraft(path: Path, index: dict[str, int], boxes: Mapping[str, Box], where: Path) -> list[File]:
    photos = []
    for key, label in read_pairs(path):
        if label not in index:
            raise ValueError(f"expected labels of {len(index)} classes in {path}, found {label!r}")
        photo = image_file(path.parent / "images", f"{key}.jpg", index[label], BANNER)
        if boxes:
            x0, y0, x1, y1 = _box_of(boxes, key, where)
            photo = in_box(photo, (x0 - 1, y0 - 1, x1, y1))
        photos.append(photo)
    return photos


FGVC_AIRCRAFT = Official(
    about="FGVC-Aircraft 2013b, 100 variants",
    open=_open_aircraft,
    sizes={"train": 3_334, "val": 3_333, "test": 3_333},
    classes=100,
    needs="data/images/, data/variants.txt, data/images_variant_train.txt and so on",
    takes=frozenset({"train_with_val", "labels"}),
    labels={"variant": 100, "family": 70, "manufacturer": 30},
    store=PHOTOGRAPHS,
)


# APTOS 2019 blindness detection: train.csv (id_code,diagnosis) and train_images/*.png; the test labels are hidden.
# Asia Pacific Tele-Ophthalmology Society, kaggle.com/c/aptos2019-blindness-detection, 2019.

GRADES = ("0 no retinopathy", "1 mild", "2 moderate", "3 severe", "4 proliferative")  # ordinal, in this order


def _open_eyes(root: Path, choices: Choices) -> Listing:
    """All labelled images as train."""
    folder = find_folder(root, "train.csv", "aptos2019-blindness-detection", archive="the competition's zip file")
    path = folder / "train.csv"
    rows = list(csv.DictReader(read_lines(path)))
    if not rows or any(row.get("id_code") is None or row.get("diagnosis") is None for row in rows):
        found = ", ".join(map(str, rows[0])) if rows else "no rows"
        raise ValueError(f"expected the columns id_code and diagnosis in {path}, found {found}")
    photos = [image_file(folder, f"train_images/{row['id_code']}.png", number(row["diagnosis"], path)) for row in rows]
    return Listing(GRADES, {"train": photos}, parameters={"ordinal": True})


APTOS2019 = Official(
    about="APTOS 2019, grades of diabetic retinopathy",
    open=_open_eyes,
    sizes={"train": 3662},
    classes=len(GRADES),
    needs="train.csv, train_images/",
    resize="squash",  # ConRec code: resized whole, whatever the aspect; a crop would cut off the eye
)
