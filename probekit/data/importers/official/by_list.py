"""Sets whose splits are lists of paths: DTD, Food-101 and SUN397."""

from collections.abc import Sequence
from pathlib import Path

from probekit.data.importers.images import File
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


def _listed(root: Path, path: Path, index: dict[str, int], *, ending: str = "") -> list[File]:
    """The images of a list of `class/name` lines, by their paths below a folder; a ValueError for another class."""
    photos = []
    for line in read_lines(path):
        line = line.removeprefix("/")
        kind = line.rpartition("/")[0]
        if kind not in index:
            raise ValueError(f"expected CLASS/NAME lines of {len(index)} classes in {path}, found {line!r}")
        photos.append(image_file(root, f"{line}{ending}", index[kind]))
    return photos


def _index(classes: Sequence[str]) -> dict[str, int]:
    return {name: label for label, name in enumerate(classes)}


# DTD r1.0.1: images/<class>/*.jpg, labels/train1.txt, val1.txt, test1.txt, to 10: ten divisions of the same images.
# Cimpoi et al., "Describing textures in the wild", CVPR 2014.

NAMES = (
    "banded blotchy braided bubbly bumpy chequered cobwebbed cracked crosshatched crystalline dotted fibrous flecked "
    "freckled frilly gauzy grid grooved honeycombed interlaced knitted lacelike lined marbled matted meshed paisley "
    "perforated pitted pleated polka-dotted porous potholed scaly smeared spiralled sprinkled stained stratified "
    "striped studded swirly veined waffled woven wrinkled zigzagged"
)
TEXTURES = tuple(NAMES.split())


def _open_dtd(root: Path, choices: Choices) -> Listing:
    """The splits of one of the ten official divisions."""
    folder = find_folder(root, "labels/train1.txt", "dtd", "dtd/dtd", archive="dtd-r1.0.1.tar.gz")
    lists = {split: folder / "labels" / f"{split}{choices.fold}.txt" for split in ("train", "val", "test")}
    splits = {split: _listed(folder / "images", path, _index(TEXTURES)) for split, path in lists.items()}
    notes = [f"division {choices.fold} of 10 (--fold); papers report the first, or the mean of all"]
    return Listing(TEXTURES, splits, notes=notes)


DTD = Official(
    about="Describable Textures, ten official divisions",
    open=_open_dtd,
    sizes={"train": 1_880, "val": 1_880, "test": 1_880},
    classes=len(TEXTURES),
    needs="dtd/: images/, labels/",
    takes=frozenset({"train_with_val", "fold"}),
    fold=1,
    store=PHOTOGRAPHS,
)


# Food-101: images/<class>/<number>.jpg, meta/classes.txt, meta/train.txt and meta/test.txt without endings.
# Bossard, Guillaumin and Van Gool, "Food-101: mining discriminative components with random forests", ECCV 2014.


def _open_food(root: Path, choices: Choices) -> Listing:
    """The official splits; the training images were not cleaned by the authors, some labels are wrong."""
    folder = find_folder(root, "meta/classes.txt", "food-101", archive="food-101.tar.gz")
    classes = read_lines(folder / "meta" / "classes.txt")
    splits = {
        split: _listed(folder / "images", folder / "meta" / f"{split}.txt", _index(classes), ending=".jpg")
        for split in ("train", "test")
    }
    return Listing(tuple(classes), splits)


FOOD101 = Official(
    about="Food-101, dishes",
    open=_open_food,
    sizes={"train": 75_750, "test": 25_250},
    classes=101,
    needs="food-101/: images/, meta/",
    store=PHOTOGRAPHS,
)


# SUN397: a/abbey/sun_*.jpg and so on; ClassName.txt and Training_01.txt, Testing_01.txt, to 10, of Partitions.zip.
# Xiao et al., "SUN database: large-scale scene recognition from abbey to zoo", CVPR 2010: 50 images of each class.


def _open_sun(root: Path, choices: Choices) -> Listing:
    """The splits of one of the ten official divisions."""
    first = "Training_01.txt"
    below = ("Partitions", "SUN397", "SUN397/Partitions")
    lists = find_folder(root, first, *below, archive="Partitions.zip, beside or in SUN397/,")
    folder = find_folder(root, "a", "SUN397", archive="SUN397.tar.gz")
    named = next((where / "ClassName.txt" for where in (lists, folder) if (where / "ClassName.txt").exists()), None)
    classes = [line.removeprefix("/") for line in read_lines(named or need(lists / "ClassName.txt"))]
    names = {"train": f"Training_{choices.fold:02}.txt", "test": f"Testing_{choices.fold:02}.txt"}
    splits = {split: _listed(folder, lists / name, _index(classes)) for split, name in names.items()}
    notes = [f"division {choices.fold} of 10 (--fold), 50 images a class on each side; papers report the mean of all"]
    return Listing(tuple(name[2:] for name in classes), splits, notes=notes)


SUN397 = Official(
    about="SUN397, scenes, ten official divisions",
    open=_open_sun,
    sizes={"train": 19_850, "test": 19_850},
    classes=397,
    needs="SUN397/: a/ and so on; Partitions/ or beside them: ClassName.txt, Training_01.txt, Testing_01.txt to 10",
    takes=frozenset({"fold"}),
    fold=1,
    store=PHOTOGRAPHS,
)
