"""Miniature copies of official datasets: the same files in the same formats, with a few small images each.

In every dataset of photographs the first training images are of special kinds, one is broken.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from probekit.data.importers.official.medmnist import SETS
from probekit.data.importers.official.voc import CLASSES as VOC_CLASSES
from tests.data.importers import in_arrays, in_folders
from tests.data.importers.planned import HEIGHT, WIDTH, Camera, Plan, cells, structs


def flowers102(root: Path) -> Plan:
    camera, splits = Camera(), {"train": [], "val": [], "test": []}  # type: ignore[var-annotated]
    labels, sets = [], {"trnid": [], "valid": [], "tstid": []}  # type: ignore[var-annotated]
    for number in range(1, 16):
        split, key = (("train", "trnid"), ("val", "valid"), ("test", "tstid"))[min((number - 1) // 7, 2)]
        label = [102, 1, 7][number % 3]
        camera.shoot(root / "jpg" / f"image_{number:05}.jpg", label - 1, splits[split])
        labels.append(label)
        sets[key].append(number)
    savemat(root / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    savemat(root / "setid.mat", {name: np.array([ids], np.uint16) for name, ids in sets.items()})
    return Plan(root, (), splits, {0: "1", 101: "102"}, f"jpg/{camera.broken}", 102)


def stanford_dogs(root: Path) -> Plan:
    camera, splits = Camera(), {"train": [], "test": []}  # type: ignore[var-annotated]
    breeds = {1: "n02085620-Chihuahua", 2: "n02085782-Japanese_spaniel", 120: "n02116738-African_hunting_dog"}
    for split, n in (("train", 9), ("test", 4)):
        files, labels = [], []
        for number in range(n):
            label = list(breeds)[number % 3]
            name = f"{breeds[label]}/{breeds[label].split('-')[0]}_{split}{number}.jpg"
            camera.shoot(root / "Images" / name, label - 1, splits[split], name)
            (root / "Annotation" / breeds[label]).mkdir(parents=True, exist_ok=True)
            (root / "Annotation" / name.removesuffix(".jpg")).write_text("<annotation></annotation>")
            files.append(name)
            labels.append([label])
        content = {"file_list": cells(files), "annotation_list": cells([f[:-4] for f in files]), "labels": labels}
        savemat(root / f"{split}_list.mat", content)
    names = {0: "Chihuahua", 1: "Japanese_spaniel", 119: "African_hunting_dog"}
    return Plan(root, (), splits, names, camera.broken, 120)


def aptos2019(root: Path) -> Plan:
    camera, train = Camera(png=True), []  # type: ignore[var-annotated]
    rows = []
    for number in range(14):
        key = f"{number:012x}"
        camera.shoot(root / "train_images" / f"{key}.png", number % 5, train, f"train_images/{key}.png")
        rows.append((key, number % 5))
    with (root / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id_code", "diagnosis"), *rows])
    (root / "test.csv").write_text("id_code\n0005cfc8afb6\n")
    return Plan(root, (), {"train": train}, {0: "0 no retinopathy", 4: "4 proliferative"}, camera.broken, 5)


def cub200(root: Path) -> Plan:
    top = root / "CUB_200_2011"
    camera, splits = Camera(), {"train": [], "test": []}  # type: ignore[var-annotated]
    birds = {1: "001.Black_footed_Albatross", 2: "002.Laysan_Albatross", 200: "200.Common_Yellowthroat"}
    lists: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": [], "bounding_boxes": []}
    for number in range(1, 15):
        label, split = list(birds)[number % 3], "train" if number <= 9 else "test"
        path = f"{birds[label]}/{birds[label][4:]}_{number:04}_{796000 + number}.jpg"
        camera.shoot(top / "images" / path, label - 1, splits[split], path)
        lists["images"].append(f"{number} {path}")
        lists["image_class_labels"].append(f"{number} {label}")
        lists["train_test_split"].append(f"{number} {int(split == 'train')}")
        lists["bounding_boxes"].append(f"{number} 2.0 3.0 28.0 25.0")
    lists["classes"] = [f"{label} {name}" for label, name in birds.items()]
    for name, lines in lists.items():
        (top / f"{name}.txt").write_text("\n".join(lines) + "\n")
    names = {0: "Black_footed_Albatross", 199: "Common_Yellowthroat"}
    return Plan(top, (root,), splits, names, camera.broken, 200)


MODELS = [f"Model {number} Sedan 2012" for number in range(1, 197)]
BOX = {"bbox_x1": 3, "bbox_y1": 4, "bbox_x2": 30, "bbox_y2": 28}


def stanford_cars(root: Path) -> Plan:
    """cars_train/, cars_test/ and devkit/."""
    camera, splits = Camera(), {"train": [], "test": []}  # type: ignore[var-annotated]
    (root / "devkit").mkdir(parents=True)
    for split, n in (("train", 9), ("test", 4)):
        rows = []
        for number in range(n):
            label = (1, 14, 196)[number % 3]
            name = f"{number + 1:05}.jpg"
            camera.shoot(root / f"cars_{split}" / name, label - 1, splits[split], name)
            rows.append({**BOX, "class": label, "fname": name})
        path = root / "devkit" / "cars_train_annos.mat" if split == "train" else root / "cars_test_annos_withlabels.mat"
        savemat(path, {"annotations": structs(rows)})
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": cells(MODELS).T})
    return Plan(root, (), splits, {0: MODELS[0], 195: MODELS[195]}, camera.broken, 196)


def stanford_cars_single(root: Path) -> Plan:
    """car_ims/ and cars_annos.mat."""
    camera, splits = Camera(), {"train": [], "test": []}  # type: ignore[var-annotated]
    rows = []
    for number in range(13):
        label, in_test = (1, 14, 196)[number % 3], number >= 9
        name = f"car_ims/{number + 1:06}.jpg"
        camera.shoot(root / name, label - 1, splits["test" if in_test else "train"], name)
        rows.append({"relative_im_path": name, **BOX, "class": label, "test": int(in_test)})
    savemat(root / "cars_annos.mat", {"annotations": structs(rows), "class_names": cells(MODELS).T})
    return Plan(root, (), splits, {0: MODELS[0], 195: MODELS[195]}, camera.broken, 196)


def fgvc_aircraft(root: Path) -> Plan:
    top = root / "fgvc-aircraft-2013b"
    camera, splits = Camera(banner=20), {"train": [], "val": [], "test": []}  # type: ignore[var-annotated]
    variants = [f"Variant {number}" for number in range(98)] + ["F/A-18", "Yak-42"]
    data = top / "data"
    lines: dict[str, list[str]] = {}
    for number in range(15):
        split = ("train", "val", "test")[min(number // 7, 2)]
        label = (0, 98, 99)[number % 3]
        key = f"{34309 + number:07}"
        camera.shoot(data / "images" / f"{key}.jpg", label, splits[split])
        lines.setdefault(f"variant_{split}", []).append(f"{key} {variants[label]}")
        lines.setdefault(f"family_{split}", []).append(f"{key} Family {label % 2}")
        lines.setdefault(f"manufacturer_{split}", []).append(f"{key} Maker Inc")
        lines.setdefault("box", []).append(f"{key} 3 4 30 28")
    for name, rows in lines.items():
        (data / f"images_{name}.txt").write_text("\n".join(rows) + "\n")
    for name, labels in (
        ("variants", variants),
        ("families", ["Family 0", "Family 1"]),
        ("manufacturers", ["Maker Inc"]),
    ):
        (data / f"{name}.txt").write_text("\n".join(labels) + "\n")
    return Plan(top, (root,), splits, {98: "F/A-18", 99: "Yak-42"}, camera.broken, 100)


def inat2019(root: Path) -> Plan:
    camera, splits = Camera(), {"train": [], "test": []}  # type: ignore[var-annotated]
    groups = {0: "Amphibians", 2: "Birds", 10: "Birds", 1009: "Reptiles"}
    categories = [{"id": key, "name": f"species {key}", "supercategory": group} for key, group in groups.items()]
    labels = {key: label for label, key in enumerate(sorted(groups))}  # as text 10 would come before 2
    for split, name, n in (("train", "train2019", 10), ("test", "val2019", 4)):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in range(n):
            key = list(groups)[number % 4]
            path = f"train_val2019/{groups[key]}/{key}/{split}{number:026x}.jpg"
            camera.shoot(root / path, labels[key], splits[split], path)
            images.append({"id": 1000 + number, "file_name": path, "width": WIDTH, "height": HEIGHT, "license": 0})
            annotations.append({"id": 5000 + number, "image_id": 1000 + number, "category_id": key})
        content = {"info": {}, "images": images, "annotations": annotations[::-1], "categories": categories[::-1]}
        (root / f"{name}.json").write_text(json.dumps(content))
    return Plan(root, (), splits, {0: "species 0", 1: "species 2", 2: "species 10"}, camera.broken, 4)


WNIDS = ("n01440764", "n01443537", "n01484850", "n02102040")


def imagenet(root: Path) -> Plan:
    top = root / "ILSVRC" / "Data" / "CLS-LOC"
    camera, splits = Camera(), {"train": [], "test": []}  # type: ignore[var-annotated]
    for folder, split, n in (("train", "train", 3), ("val", "test", 2)):
        for label, wnid in enumerate(WNIDS):
            for number in range(n):
                stem = f"{wnid}_{number}" if folder == "train" else f"ILSVRC2012_val_{label * n + number:08}"
                key = f"{folder}/{wnid}/{stem}.JPEG"
                camera.shoot(top / key, label, splits[split], key)
    return Plan(top, (root,), splits, dict(enumerate(WNIDS)), camera.broken, 4)


OBJECT = "<object><name>{}</name><difficult>{}</difficult><bndbox><xmin>1</xmin></bndbox></object>"


def voc(root: Path, year: str, sets: dict[str, tuple[str, int]], camera: Camera | None = None) -> Plan:
    """`sets`: each split's official name and number of images."""
    top = root / "VOCdevkit" / year
    camera, splits = camera or Camera(), {split: [] for split in sets}  # type: ignore[var-annotated]
    (top / "ImageSets" / "Main").mkdir(parents=True)
    (top / "Annotations").mkdir()
    number = 0
    for split, (name, n) in sets.items():
        lines: dict[str, list[str]] = {kind: [] for kind in VOC_CLASSES}
        keys = []
        for _ in range(n):
            number += 1
            key = f"{number:06}" if year == "VOC2007" else f"2008_{number:06}"
            flags = {kind: (-1, 1, -1, 0)[(number + k) % 4] for k, kind in enumerate(VOC_CLASSES)}
            label = [{-1: 0, 1: 1, 0: 255}[flag] for flag in flags.values()]
            camera.shoot(top / "JPEGImages" / f"{key}.jpg", label, splits[split])
            shown = (OBJECT.format(kind, int(flag == 0)) for kind, flag in flags.items() if flag >= 0)
            (top / "Annotations" / f"{key}.xml").write_text(f"<annotation>{''.join(shown)}</annotation>")
            for kind, flag in flags.items():
                lines[kind].append(f"{key} {flag:2d}")  # two blanks before a single digit
            keys.append(key)
        (top / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(keys) + "\n")
        for kind, rows in lines.items():
            (top / "ImageSets" / "Main" / f"{kind}_{name}.txt").write_text("\n".join(rows) + "\n")
    names = {0: "aeroplane", 19: "tvmonitor"}
    return Plan(top, (root, root / "VOCdevkit"), splits, names, f"JPEGImages/{camera.broken}", 20)


def voc2007(root: Path) -> Plan:
    return voc(root, "VOC2007", {"train": ("train", 8), "val": ("val", 4), "test": ("test", 4)})


def voc2012(root: Path) -> Plan:
    return voc(root, "VOC2012", {"train": ("train", 8), "test": ("val", 4)})


def voc0712(root: Path) -> Plan:
    """Its trainval sets have no others beside them here."""
    camera = Camera()
    first = voc(root, "VOC2007", {"train": ("trainval", 8), "test": ("test", 4)}, camera)
    second = voc(root, "VOC2012", {"train": ("trainval", 6)}, camera)
    splits = {"train": first.splits["train"] + second.splits["train"], "test": first.splits["test"]}
    broken = f"VOC2007/JPEGImages/{camera.broken}"
    return Plan(root / "VOCdevkit", (root,), splits, first.names, broken, 20)


def coco2017(root: Path) -> Plan:
    """Each image shows two of the 80 classes, whose numbers go up to 90; one has no object."""
    camera, splits = Camera(), {"train": [], "test": []}  # type: ignore[var-annotated]
    numbers = [number for number in range(1, 91) if number % 9]
    categories = [{"id": number, "name": f"class {number}"} for number in numbers]
    (root / "annotations").mkdir(parents=True)
    for split, name, n in (("train", "train2017", 8), ("test", "val2017", 4)):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in range(n):
            key, image = f"{number:012}.jpg", 10 * number + 3
            shown = [] if number == n - 1 else [number, (number + 40) % 80]
            label = [int(k in shown) for k in range(80)]
            camera.shoot(root / name / key, label, splits[split])
            images.append({"id": image, "file_name": key, "height": HEIGHT, "width": WIDTH})
            for k in shown:
                outline = [[4.0, 5.0, 20.0, 5.0, 20.0, 15.0, 4.0, 15.0]]
                about = {"id": len(annotations), "image_id": image, "category_id": numbers[k], "iscrowd": 0}
                annotations.append(about | {"bbox": [4.0, 5.0, 16.0, 10.0], "segmentation": outline})
        content = {"info": {}, "images": images[::-1], "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{name}.json").write_text(json.dumps(content))
    return Plan(root, (), splits, {0: "class 1", 79: "class 89"}, f"train2017/{camera.broken}", 80)


LAYOUTS: dict[str, tuple[str, Callable[[Path], Plan]]] = {
    "flowers102": ("flowers102", flowers102),
    "stanford-dogs": ("stanford-dogs", stanford_dogs),
    "aptos2019": ("aptos2019", aptos2019),
    "cub200": ("cub200", cub200),
    "stanford-cars": ("stanford-cars", stanford_cars),
    "stanford-cars, single": ("stanford-cars", stanford_cars_single),
    "fgvc-aircraft": ("fgvc-aircraft", fgvc_aircraft),
    "inat2019": ("inat2019", inat2019),
    "imagenet": ("imagenet", imagenet),
    "voc2007": ("voc2007", voc2007),
    "voc2012": ("voc2012", voc2012),
    "voc2007,voc2012": ("voc2007,voc2012", voc0712),
    "coco2017": ("coco2017", coco2017),
    **in_arrays.LAYOUTS,
    **in_folders.LAYOUTS,
}
# One of each format: the sets of MedMNIST have the same, but for their classes.
FORMATS = [name for name in LAYOUTS if name not in SETS or name in ("pathmnist", "chestmnist")]
