"""COCO 2017: train2017/ and val2017/, annotations/instances_*2017.json: boxes and masks of instances of 80 classes.

Lin et al., "Microsoft COCO: common objects in context", ECCV 2014. The annotations of train are half a gigabyte of
JSON, read as a stream (ijson). Polygons become masks as COCO's own code makes them (pycocotools). The labels of the
test images are hidden: val is the test split, as papers score on it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probekit.data.importers.base import Broken, file_stamp
from probekit.data.importers.images import File
from probekit.data.importers.official.base import PHOTOGRAPHS, Choices, Listing, Official, find_folder
from probekit.h5 import ABSENT, PRESENT, Objects
from probekit.h5.objects import IS_CROWD, Runs, runs_of
from probekit.visible import one_line

SETS = {"train": "train2017", "test": "val2017"}
N_CLASSES = 80
FARTHEST = 2.0**16  # px from the corner, either way: pycocotools draws lines of any length point by point, in memory
INSTALL = "type: pip install 'ijson>=3.3' 'pycocotools>=2.0.8'"


@dataclass(frozen=True, slots=True)
class Instance:
    """An object: its class, box (x, y, width, height), whether it is a crowd, and its outlines, or runs of a crowd.

    `size`: (H, W) that the runs are said to be of.
    """

    label: int
    box: NDArray[np.float32]
    crowd: bool
    outlines: tuple[NDArray[np.float32], ...]
    runs: Runs | None
    size: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Photo(File):
    """A photograph of COCO; `instances`: its objects, of `size`, (H, W); `of_list`: the stamp of their list."""

    instances: tuple[Instance, ...] = ()
    size: tuple[int, int] = (0, 0)
    of_list: str = ""

    def stamp(self) -> str:
        """Changes when the photograph or the list of objects does."""
        found = file_stamp(self.path)
        return found and f"{found} {self.of_list}"

    def objects(self, shape: tuple[int, int]) -> Objects:
        """Boxes, cut at the edges of the image, and masks; a `Broken` if they are of an image of another size."""
        height, width = shape
        if shape != self.size:
            found = f"{self.size[1]}x{self.size[0]}"
            raise Broken(f"its annotations are of an image of {found}, and it has {width}x{height} pixels")
        boxes = np.array([each.box for each in self.instances], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([each.label for each in self.instances], np.int64)
        flags = np.array([IS_CROWD if each.crowd else 0 for each in self.instances], np.int64)
        masks = tuple(_runs(each, shape) for each in self.instances)
        return Objects(np.clip(boxes, 0, (width, height, width, height)).astype(np.float32), labels, flags, masks)


def _runs(found: Instance, shape: tuple[int, int]) -> Runs:
    """The runs of an object's mask, as COCO's own code draws it."""
    from pycocotools import mask as coco_mask

    height, width = shape
    if found.runs is not None:
        if found.size != shape or int(found.runs.sum(dtype=np.int64)) != height * width:
            raise Broken(f"its annotations have a mask of other than {width}x{height} pixels")
        return found.runs
    parts = coco_mask.frPyObjects([outline.astype(float).tolist() for outline in found.outlines], height, width)
    return runs_of(coco_mask.decode(coco_mask.merge(parts)).astype(bool))


def open_coco(root: Path, choices: Choices) -> Listing:
    """Both splits; labels are the classes whose objects an image shows."""
    for name in ("ijson", "pycocotools") if choices.boxes else ("ijson",):
        if find_spec(name) is None:
            raise ValueError(f"expected {name} for the annotations of COCO, found none; {INSTALL}")
    marker = "annotations/instances_train2017.json"
    folder = find_folder(root, marker, "coco", archive="annotations_trainval2017.zip")
    lists = {split: folder / "annotations" / f"instances_{name}.json" for split, name in SETS.items()}
    names = _categories(lists["train"])
    splits = {split: _photos(folder, SETS[split], path, names, choices) for split, path in lists.items()}
    return Listing(tuple(names.values()), splits, boxed=choices.boxes)


def _categories(path: Path) -> dict[int, str]:
    """Names of the classes by COCO's numbers, in their order: 1 to 90, of which ten are not used."""
    found = {_whole(each, "id", path): str(each.get("name")) for each in _read(path, "categories.item")}
    return dict(sorted(found.items()))


def _photos(folder: Path, name: str, path: Path, names: Mapping[int, str], choices: Choices) -> list[Photo]:
    numbers = {category: label for label, category in enumerate(names)}
    held: dict[int, list[Instance]] = {}
    shown: dict[int, bytearray] = {}
    sizes: dict[int, tuple[str, tuple[int, int]]] = {}
    for each in _read(path, "images.item"):
        key, size = str(each.get("file_name")), (_whole(each, "height", path), _whole(each, "width", path))
        if "/" in key or key.startswith("."):
            raise ValueError(f"expected plain file names of images in {path}, found {key!r}")
        image = _whole(each, "id", path)
        if image in sizes:
            raise ValueError(f"expected images of different ids in {path}, found {image} twice")
        sizes[image] = key, size
    for each in _read(path, "annotations.item"):
        image, category = _whole(each, "image_id", path), _whole(each, "category_id", path)
        if image not in sizes or category not in numbers:
            raise ValueError(f"expected objects of listed images and classes in {path}, found {image}, {category}")
        shown.setdefault(image, bytearray([ABSENT] * len(numbers)))[numbers[category]] = PRESENT
        if choices.boxes:
            held.setdefault(image, []).append(_instance(each, numbers[category], path))
    if not shown:
        raise ValueError(f"expected objects in annotations of {path}, found none; unpack annotations_trainval2017.zip")
    nothing, stamp = bytes([ABSENT] * len(numbers)), file_stamp(path)
    return [
        Photo(
            *(f"{name}/{key}", bytes(shown.get(image, nothing)), str(folder / name / key)),
            instances=tuple(held.get(image, ())),
            size=size,
            of_list=stamp,
        )
        for image, (key, size) in sorted(sizes.items())
    ]


def _instance(found: Mapping[str, Any], label: int, path: Path) -> Instance:
    try:
        box, shape, crowd = _numbers(found["bbox"]), found["segmentation"], found["iscrowd"]
        packed = isinstance(shape, dict)
        runs = np.array([_count(each) for each in shape["counts"]], np.uint32) if packed else None
        size = tuple(shape["size"]) if packed else ()
        outlines = () if packed else tuple(map(_numbers, shape))
        sound = box.shape == (4,) and bool((box[2:] >= 0).all()) and crowd in (0, 1)
        sound = sound and all(each.ndim == 1 and len(each) >= 6 and len(each) % 2 == 0 for each in outlines)
        if not sound or (runs is None and not outlines):
            raise ValueError("none of it")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"expected bbox, iscrowd and segmentation of each object in {path}, found others in that of id "
            f"{found.get('id')!r:.20}"
        ) from error
    return Instance(label, box, bool(crowd), outlines, runs, size)


def _numbers(found: Any) -> NDArray[np.float32]:
    """Coordinates; a ValueError if one is none, or farther than any image reaches."""
    numbers = np.array(found, np.float64)
    if not (np.abs(numbers) <= FARTHEST).all():
        raise ValueError("too far")
    return numbers.astype(np.float32)


def _count(found: Any) -> int:
    """Pixels of a run; a ValueError for what is no whole number, as of runs packed into text."""
    if not isinstance(found, int):
        raise ValueError("no count")
    return found


def _whole(found: Mapping[str, Any], name: str, path: Path) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"expected a whole number {name} in {path}, found {value!r:.20}")
    return value


def _read(path: Path, prefix: str) -> Iterator[dict[str, Any]]:
    """The objects of a list in a JSON file, one after the other; a ValueError if it is missing or damaged."""
    import ijson

    try:
        with path.open("rb") as file:
            for found in ijson.items(file, prefix, use_float=True):
                if not isinstance(found, dict):
                    raise ValueError(f"expected objects in {prefix.partition('.')[0]} of {path}, found something else")
                yield found
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except ijson.JSONError as error:
        raise ValueError(f"expected JSON in {path}, found: {one_line(error)[:100]}") from error


COCO2017 = Official(
    about="COCO 2017, 80 classes, several an image",
    open=open_coco,
    sizes={"train": 118_287, "test": 5_000},
    classes=N_CLASSES,
    needs="train2017/, val2017/ and annotations/instances_train2017.json, instances_val2017.json",
    takes=frozenset({"boxes"}),
    store=PHOTOGRAPHS,
)
