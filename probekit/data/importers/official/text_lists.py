"""Official datasets whose lists are text: APTOS 2019, CUB-200-2011, FGVC-Aircraft."""

import csv
from pathlib import Path

from probekit.data.importers.official.base import (
    Choices,
    Listing,
    Official,
    Photo,
    find_folder,
    name_classes,
    number,
    read_lines,
    read_pairs,
)

# APTOS 2019 blindness detection: train.csv (id_code,diagnosis) and train_images/*.png; the test labels are hidden.
# Asia Pacific Tele-Ophthalmology Society, kaggle.com/c/aptos2019-blindness-detection, 2019.

GRADES = ("0 no retinopathy", "1 mild", "2 moderate", "3 severe", "4 proliferative")  # ordinal, in this order


def open_aptos2019(root: Path, choices: Choices) -> Listing:
    """All labelled images as train."""
    folder = find_folder(root, "train.csv", "aptos2019-blindness-detection", archive="the competition's zip file")
    path = folder / "train.csv"
    rows = list(csv.DictReader(read_lines(path)))
    if not rows or any(row.get("id_code") is None or row.get("diagnosis") is None for row in rows):
        found = ", ".join(map(str, rows[0])) if rows else "no rows"
        raise ValueError(f"expected the columns id_code and diagnosis in {path}, found {found}")
    photos = [Photo(str(folder), f"train_images/{row['id_code']}.png", number(row["diagnosis"], path)) for row in rows]
    return Listing(GRADES, {"train": photos}, parameters={"ordinal": True})


APTOS2019 = Official(
    about="APTOS 2019, grades of diabetic retinopathy",
    open=open_aptos2019,
    sizes={"train": 3662},
    needs="train.csv, train_images/",
    resize="squash",  # ConRec code: resized whole, whatever the aspect; a crop would cut off the eye
)


# CUB-200-2011: images/001.Black_footed_Albatross/*.jpg and text lists of ids (classes from 1; split 1 is train).
# Wah et al., "The Caltech-UCSD Birds-200-2011 dataset", Caltech CNS-TR-2011-001.

BIRDS = 200


def open_cub200(root: Path, choices: Choices) -> Listing:
    """The official splits."""
    folder = find_folder(root, "image_class_labels.txt", "CUB_200_2011", archive="CUB_200_2011.tgz")
    label_file, split_file = folder / "image_class_labels.txt", folder / "train_test_split.txt"
    labels, training = dict(read_pairs(label_file)), dict(read_pairs(split_file))
    splits: dict[str, list[Photo]] = {"train": [], "test": []}
    for key, path in read_pairs(folder / "images.txt"):
        if key not in labels or training.get(key) not in ("0", "1"):
            raise ValueError(f"expected image {key} of images.txt in {label_file} and {split_file}, found it missing")
        photo = Photo(str(folder / "images"), path, number(labels[key], label_file) - 1)
        splits["train" if training[key] == "1" else "test"].append(photo)
    listed = read_pairs(folder / "classes.txt")
    named = ((number(key, folder / "classes.txt") - 1, name.partition(".")[2]) for key, name in listed)
    return Listing(name_classes(named, BIRDS), splits)


CUB200 = Official(
    about="Caltech-UCSD Birds-200-2011",
    open=open_cub200,
    sizes={"train": 5_994, "test": 5_794},
    needs="images/, images.txt, image_class_labels.txt, train_test_split.txt, classes.txt",
)


# FGVC-Aircraft 2013b: data/images/0034309.jpg and lists of "<number> <label with blanks>" for three kinds of label.
# Maji et al., "Fine-grained visual classification of aircraft", arXiv 1306.5151, 2013.

NAMES = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}
BANNER = 20  # rows of a copyright notice at the lower edge of every image: a shortcut


def open_fgvc_aircraft(root: Path, choices: Choices) -> Listing:
    """The three official splits, with the labels chosen."""
    kind = choices.labels or "variant"
    if kind not in NAMES:
        raise ValueError(f"expected --labels {' or '.join(NAMES)}, found {kind!r}")
    found = find_folder(root, "data/variants.txt", "fgvc-aircraft-2013b", archive="fgvc-aircraft-2013b.tar.gz")
    folder = found / "data"
    classes = tuple(read_lines(folder / NAMES[kind]))
    index = {name: label for label, name in enumerate(classes)}
    splits = {split: _aircraft(folder, f"images_{kind}_{split}.txt", index) for split in ("train", "val", "test")}
    return Listing(classes, splits, parameters={"labels": kind})


def _aircraft(folder: Path, name: str, index: dict[str, int]) -> list[Photo]:
    photos = []
    for key, label in read_pairs(folder / name):
        if label not in index:
            raise ValueError(f"expected labels of {len(index)} classes in {folder / name}, found {label!r}")
        photos.append(Photo(str(folder / "images"), f"{key}.jpg", index[label], BANNER))
    return photos


FGVC_AIRCRAFT = Official(
    about="FGVC-Aircraft 2013b, 100 variants",
    open=open_fgvc_aircraft,
    sizes={"train": 3_334, "val": 3_333, "test": 3_333},
    needs="data/images/, data/variants.txt, data/images_variant_train.txt and so on",
    takes=frozenset({"train_with_val", "labels"}),
)
