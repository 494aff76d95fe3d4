"""The two large sets, of photographs in folders: ImageNet and iNaturalist."""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from generators.factors import Factor
from probekit.data.importers.base import Skipped, read_text
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
)
from probekit.data.importers.tree import is_hidden

# ImageNet-1k as folders: train/<wnid>/*.JPEG and val/<wnid>/*.JPEG; classes in the order of the sorted wnids.
# Russakovsky et al., "ImageNet large scale visual recognition challenge", IJCV 2015.
# The devkit numbers the classes in another order; it is not read.

N_CLASSES, VAL_IMAGES = 1000, 50  # images of each class in val
WNID = re.compile(r"n\d{8}")
FOLDERS = {"train": "train", "test": "val"}  # the test labels are hidden: val is what papers score on


def _open_imagenet(root: Path, choices: Choices) -> Listing:
    """Train, and the official val split as test; of all classes or of those chosen."""
    folder = find_folder(root, "train", "ILSVRC/Data/CLS-LOC", "ILSVRC2012", archive="ILSVRC2012_img_train.tar")
    ignored: list[Skipped] = []
    if (folder / "wnids.txt").exists():
        raise ValueError(
            f"expected ImageNet in {folder}, found Tiny ImageNet; "
            f"type: probekit import tiny-imagenet {quote(str(folder))}"
        )
    wnids = _wnids(folder / "train", ignored)
    if len(wnids) != N_CLASSES and not choices.subset:
        raise ValueError(
            f"expected {N_CLASSES} folders such as n01440764 in {folder / 'train'}, found {len(wnids)}; "
            "to take what is there, type --subset"
        )
    classes = _choose(wnids, choices)
    splits = {split: _photos_of_imagenet(folder, name, classes, ignored) for split, name in FOLDERS.items()}
    if not splits["test"]:
        raise ValueError(f"expected val/{classes[0]}/*.JPEG in {folder}, found none; sort val into folders as train is")
    if len(classes) < len(wnids):  # how many training images these have is not known beforehand
        return Listing(classes, splits, ignored=ignored, sizes={"test": VAL_IMAGES * len(classes)})
    return Listing(classes, splits, ignored=ignored)


def _wnids(folder: Path, ignored: list[Skipped]) -> list[str]:
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    wnids = [entry.name for entry in entries if WNID.fullmatch(entry.name) and entry.is_dir()]
    ignored += [Skipped(f"train/{entry.name}", "no folder of a wnid") for entry in entries if entry.name not in wnids]
    return wnids


def _choose(wnids: Sequence[str], choices: Choices) -> tuple[str, ...]:
    """The classes that were asked for, sorted."""
    if choices.classes is not None and choices.n_classes is not None:
        raise ValueError("expected --classes or --n-classes, found both")
    if choices.classes is not None:
        chosen = {line.split()[0] for line in read_lines(choices.classes) if not line.startswith("#")}
        missing = sorted(chosen - set(wnids))
        if missing or not chosen:
            found = f"{missing[0]!r}" if missing else "none"
            raise ValueError(
                f"expected names of folders in train, such as n01440764, in {choices.classes}, found {found}"
            )
        return tuple(sorted(chosen))
    if choices.n_classes is not None:
        if not 1 <= choices.n_classes <= len(wnids):
            raise ValueError(f"expected --n-classes from 1 to {len(wnids)}, found {choices.n_classes}")
        # By hash: the same on every machine and with every version of NumPy.
        order = sorted(wnids, key=lambda wnid: hashlib.sha256(f"{choices.seed}/{wnid}".encode()).digest())
        return tuple(sorted(order[: choices.n_classes]))
    return tuple(wnids)


def _photos_of_imagenet(folder: Path, name: str, classes: Sequence[str], ignored: list[Skipped]) -> list[File]:
    photos = []
    for label, wnid in enumerate(classes):
        where = folder / name / wnid
        for file in sorted(os.listdir(where)) if where.is_dir() else []:
            if os.path.splitext(file)[1].lower() in SUFFIXES and not is_hidden(file):
                photos.append(image_file(folder, f"{name}/{wnid}/{file}", label))
            else:
                ignored.append(Skipped(f"{name}/{wnid}/{file}", "not an image file by its name"))
    return photos


IMAGENET = Official(
    about="ImageNet-1k (ILSVRC 2012), or some of its classes",
    open=_open_imagenet,
    sizes={"train": 1_281_167, "test": 50_000},
    classes=N_CLASSES,
    needs="train/<wnid>/, val/<wnid>/",
    takes=frozenset({"classes", "n_classes"}),
    store=PHOTOGRAPHS,
)


# iNaturalist 2019: train_val2019/<super-class>/<category>/*.jpg, train2019.json and val2019.json in COCO's style.
# Van Horn et al., "The iNaturalist species classification and detection dataset", CVPR 2018; the 2019 edition.
# The folders are numbers: sorted as text they would give other labels. So the categories are read from the JSON files.

LISTS = {"train": "train2019.json", "test": "val2019.json"}  # the test labels are hidden: val is what papers score on
EACH_IN_VAL = 3  # images of each species in val


SPECIES, SUPER = "species", "super-class"


def _open_inat(root: Path, choices: Choices) -> Listing:
    """Train, and the official val split as test; of all species, or of those that are chosen, or of super-classes."""
    folder = find_folder(root, LISTS["train"], archive="train_val2019.tar.gz")
    contents = {split: _read(folder / name) for split, name in LISTS.items()}
    try:
        categories = sorted(contents["train"]["categories"], key=lambda category: int(category["id"]))
        about = [(category["id"], str(category["name"]), str(category["supercategory"])) for category in categories]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected categories with id, name and supercategory in {LISTS['train']}, found no {error}"
        ) from error
    if len({name for _, name, _ in about}) < len(about):
        about = [(key, str(key), above) for key, _, above in about]
    sizes = None
    if choices.classes is not None:
        about = _chosen(about, choices.classes)
        sizes = {"test": EACH_IN_VAL * len(about)}
    supers = tuple(sorted({above for *_, above in about}))
    of_supers = choices.labels == SUPER
    index = {key: supers.index(above) if of_supers else label for label, (key, _, above) in enumerate(about)}
    known = {category["id"] for category in categories}
    splits = {
        split: _photos_of_inat(folder, LISTS[split], content, index, known) for split, content in contents.items()
    }
    if of_supers:
        return Listing(supers, splits, sizes=sizes)
    factor = Factor(SUPER, "class", 0, max(1, len(supers) - 1), "", "that of the species", "super-class", supers)
    values = tuple(supers.index(above) for *_, above in about)
    return Listing(tuple(name for _, name, _ in about), splits, sizes=sizes, factors=((factor, values),))


def _chosen(about: Sequence[tuple[Any, str, str]], path: Path) -> list[tuple[Any, str, str]]:
    """Those of the categories (id, name, super-class) that a file names, or whose super-class it names."""
    wanted = {line for line in read_lines(path) if not line.startswith("#")}
    missing = sorted(wanted - {word for _, *words in about for word in words})
    if missing or not wanted:
        found = f"{missing[0]!r}" if missing else "none"
        raise ValueError(f"expected names of species or super-classes, such as Birds, in {path}, found {found}")
    return [each for each in about if wanted & set(each[1:])]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(need(path)))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"expected JSON in {path}, found something else") from error
    if not isinstance(content, dict) or any(
        not isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise ValueError(f"expected images, annotations and categories in {path}, found something else")
    return content


def _photos_of_inat(
    folder: Path, name: str, content: dict[str, Any], index: dict[Any, int], known: set[Any]
) -> list[File]:
    """The images of the categories in `index`, with their labels; `known`: all categories."""
    try:
        category = {row["image_id"]: row["category_id"] for row in content["annotations"]}
        pairs = [(str(row["file_name"]), category[row["id"]]) for row in content["images"]]
        if strange := [found for _, found in pairs if found not in known]:
            raise KeyError(strange[0])
        photos = [image_file(folder, path, index[found]) for path, found in pairs if found in index]
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected images, annotations and categories that fit in {name}, found no {error}") from error
    for path, found in pairs:
        if path.split("/")[-2:-1] != [str(found)]:
            raise ValueError(f"expected images of category {found} in a folder of that name in {name}, found {path!r}")
    return photos


INAT2019 = Official(
    about="iNaturalist 2019, 1,010 species",
    open=_open_inat,
    sizes={"train": 265_213, "test": 3_030},
    classes=1_010,
    needs="train_val2019/, train2019.json, val2019.json",
    takes=frozenset({"labels", "classes"}),
    labels={SPECIES: 1_010, SUPER: 6},
    store=PHOTOGRAPHS,
)
