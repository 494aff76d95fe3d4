"""Miniatures of the sets in class folders and lists: Tiny ImageNet, EuroSAT, Caltech-101, DTD, Food-101, SUN397.

And of Oxford Pets, with trimaps.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from probekit.data.importers.official.by_class import LAND
from tests.data.importers.planned import HEIGHT, WIDTH, Camera, Plan

WNIDS = ("n01443537", "n01629819", "n02124075")


def tiny_imagenet(root: Path, *, sorted_val: bool = False) -> Plan:
    """`sorted_val`: val in class folders, as many have it."""
    top = root / "tiny-imagenet-200"
    camera, splits = Camera(), {"train": [], "test": []}  # type: ignore[var-annotated]
    for label, wnid in enumerate(WNIDS):
        for number in (0, 2, 10):  # as text 10 would come before 2
            key = f"train/{wnid}/images/{wnid}_{number}.JPEG"
            camera.shoot(top / key, label, splits["train"], key)
        (top / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t62\t63\n")
    lines = []
    for number in range(4):
        label = number // 2 if sorted_val else (2, 0, 1, 0)[number]
        folder = f"val/{WNIDS[label]}" if sorted_val else "val/images"
        camera.shoot(top / folder / f"val_{number}.JPEG", label, splits["test"])
        lines.append(f"val_{number}.JPEG\t{WNIDS[label]}\t0\t32\t44\t62\n")
    if not sorted_val:
        (top / "val" / "val_annotations.txt").write_text("".join(lines))
    (top / "wnids.txt").write_text("\n".join(reversed(WNIDS)) + "\n")
    (top / "words.txt").write_text("n01443537\tgoldfish, Carassius auratus\n")
    (top / "test" / "images").mkdir(parents=True)
    (top / "test" / "images" / "test_0.JPEG").write_bytes(b"without a label")
    return Plan(top, (root,), splits, dict(enumerate(WNIDS)), camera.broken, 3)


def eurosat(root: Path, *, below: str = "2750") -> Plan:
    top = root / below
    camera, train = Camera(), []  # type: ignore[var-annotated]
    for label, name in enumerate(LAND):
        for number in (1, 2, 10) if label < 3 else (1,):
            camera.shoot(top / name / f"{name}_{number}.jpg", label, train, f"{name}/{name}_{number}.jpg")
    (top / "AnnualCrop" / "Thumbs.db").write_bytes(b"of another system")
    return Plan(root, (top,), {"train": train}, {0: "AnnualCrop", 9: "SeaLake"}, camera.broken, 10)


def caltech101(root: Path) -> Plan:
    top = root / "caltech-101" / "101_ObjectCategories"
    camera, train = Camera(), []  # type: ignore[var-annotated]
    for label, name in enumerate(("Faces", "Faces_easy", "accordion")):
        for number in range(1, 5):
            key = f"{name}/image_{number:04}.jpg"
            camera.shoot(top / key, label, train, key)
    background: list = []  # type: ignore[type-arg]
    for number in range(1, 3):
        camera.shoot(top / "BACKGROUND_Google" / f"image_{number:04}.jpg", 0, background)
    (top / "BACKGROUND_Google" / "tmp").write_bytes(b"left behind")
    plan = Plan(root / "caltech-101", (root,), {"train": train}, {0: "Faces", 2: "accordion"}, camera.broken, 3)
    plan.beside = {"background": background}
    return plan


def dtd(root: Path) -> Plan:
    top = root / "dtd"
    camera, splits = Camera(), {"train": [], "val": [], "test": []}  # type: ignore[var-annotated]
    lists: dict[str, list[str]] = {split: [] for split in splits}
    for number in range(13):
        split = ("train", "val", "test")[min(number // 5, 2)]
        name, label = (("banded", 0), ("polka-dotted", 30), ("zigzagged", 46))[number % 3]
        path = f"{name}/{name}_{number:04}.jpg"
        camera.shoot(top / "images" / path, label, splits[split], path)
        lists[split].append(path)
    (top / "labels").mkdir()
    for fold in (1, 3):
        for split, other in zip(
            lists, ("train", "val", "test") if fold != 3 else ("test", "train", "val"), strict=True
        ):
            (top / "labels" / f"{split}{fold}.txt").write_text("\n".join(lists[other]) + "\n")
    return Plan(top, (root,), splits, {0: "banded", 30: "polka-dotted", 46: "zigzagged"}, camera.broken, 47)


def food101(root: Path) -> Plan:
    top = root / "food-101"
    camera, splits = Camera(), {"train": [], "test": []}  # type: ignore[var-annotated]
    classes = ["apple_pie", "baklava", "waffles"]
    lists: dict[str, list[str]] = {split: [] for split in splits}
    for number in range(12):
        split, label = "train" if number < 8 else "test", number % 3
        path = f"{classes[label]}/{1005649 + number}"
        camera.shoot(top / "images" / f"{path}.jpg", label, splits[split], f"{path}.jpg")
        lists[split].append(path)
    (top / "meta").mkdir()
    (top / "meta" / "classes.txt").write_text("\n".join(classes) + "\n")
    (top / "meta" / "labels.txt").write_text("Apple pie\nBaklava\nWaffles\n")
    for split, paths in lists.items():
        (top / "meta" / f"{split}.txt").write_text("\n".join(paths) + "\n")
        grouped = {name: [path for path in paths if path.startswith(name)] for name in classes}
        (top / "meta" / f"{split}.json").write_text(json.dumps(grouped))
    return Plan(top, (root,), splits, dict(enumerate(classes)), camera.broken, 3)


def sun397(root: Path, *, partitions: str = "Partitions") -> Plan:
    top = root / "SUN397"
    camera, splits = Camera(), {"train": [], "test": []}  # type: ignore[var-annotated]
    classes = ["/a/abbey", "/a/apartment_building/outdoor", "/y/youth_hostel"]
    lists: dict[str, list[str]] = {split: [] for split in splits}
    for number in range(12):
        split, label = "train" if number < 8 else "test", number % 3
        path = f"{classes[label]}/sun_a{number:015x}.jpg"
        camera.shoot(top / path[1:], label, splits[split], path[1:])
        lists[split].append(path)
    (root / partitions).mkdir(parents=True, exist_ok=True)
    for folder in (top, root / partitions):
        (folder / "ClassName.txt").write_text("\n".join(classes) + "\n")
    for fold in (1, 10):
        train, test = ("train", "test") if fold != 10 else ("test", "train")
        (root / partitions / f"Training_{fold:02}.txt").write_text("\n".join(lists[train]) + "\n")
        (root / partitions / f"Testing_{fold:02}.txt").write_text("\n".join(lists[test]) + "\n")
    names = {0: "abbey", 1: "apartment_building/outdoor", 2: "youth_hostel"}
    return Plan(root, (), splits, names, camera.broken, 3)


BREEDS = {1: ("Abyssinian", 1), 2: ("american_bulldog", 2), 37: ("yorkshire_terrier", 2)}


def oxford_pets(root: Path, *, trimaps: bool = True) -> Plan:
    """The animal is the coloured half of each photograph, and its outline the row below."""
    camera, splits = Camera(), {"train": [], "test": []}  # type: ignore[var-annotated]
    lines: dict[str, list[str]] = {"trainval": [], "test": []}
    masks = root / "annotations" / "trimaps"
    masks.mkdir(parents=True)
    for number in range(13):
        split, file = ("train", "trainval") if number < 9 else ("test", "test")
        breed = (37, 1, 2)[number % 3]
        name, species = f"{BREEDS[breed][0]}_{number + 1}", BREEDS[breed][1]
        camera.shoot(root / "images" / f"{name}.jpg", breed - 1, splits[split], f"images/{name}.jpg")
        lines[file].append(f"{name} {breed} {species} {1 + number % 25}")
        trimap = np.full((HEIGHT, WIDTH), 2, np.uint8)
        trimap[: HEIGHT // 2], trimap[HEIGHT // 2 : HEIGHT // 2 + 2] = 1, 3
        cv2.imwrite(str(masks / f"{name}.png"), trimap)
        (masks / f"._{name}.png").write_bytes(b"of another system")
    for file, rows in lines.items():
        (root / "annotations" / f"{file}.txt").write_text("\n".join(rows) + "\n")
    head = "#Image CLASS-ID SPECIES BREED ID\n#ID: 1:37 Class ids\n"
    (root / "annotations" / "list.txt").write_text(head + "\n".join(lines["trainval"] + lines["test"]) + "\n")
    if not trimaps:
        masks.rename(root / "annotations" / "elsewhere")
    return Plan(root, (), splits, {0: "Abyssinian", 1: "american_bulldog", 36: "yorkshire_terrier"}, camera.broken, 37)


LAYOUTS: dict[str, tuple[str, Callable[[Path], Plan]]] = {
    "tiny-imagenet": ("tiny-imagenet", tiny_imagenet),
    "tiny-imagenet, val sorted": ("tiny-imagenet", partial(tiny_imagenet, sorted_val=True)),
    "eurosat": ("eurosat", eurosat),
    "caltech101": ("caltech101", caltech101),
    "dtd": ("dtd", dtd),
    "food101": ("food101", food101),
    "sun397": ("sun397", sun397),
    "oxford-pets": ("oxford-pets", oxford_pets),
}
