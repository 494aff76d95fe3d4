"""iNaturalist 2019: train_val2019/<super-class>/<category>/*.jpg, train2019.json and val2019.json in COCO's style.

Van Horn et al., "The iNaturalist species classification and detection dataset", CVPR 2018; the 2019 edition.
The folders are numbers: sorted as text they would give other labels. So the categories are read from the JSON files.
"""

import json
from pathlib import Path
from typing import Any

from probekit.data.importers.base import read_text
from probekit.data.importers.official.base import Choices, Listing, Official, Photo, find_folder, need

LISTS = {"train": "train2019.json", "test": "val2019.json"}  # the test labels are hidden: val is what papers score on


def open_lists(root: Path, choices: Choices) -> Listing:
    """Train, and the official val split as test."""
    folder = find_folder(root, LISTS["train"], archive="train_val2019.tar.gz")
    contents = {split: _read(folder / name) for split, name in LISTS.items()}
    try:
        categories = sorted(contents["train"]["categories"], key=lambda category: int(category["id"]))
        index = {category["id"]: label for label, category in enumerate(categories)}
        names = [str(category["name"]) for category in categories]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected categories with id and name in {LISTS['train']}, found no {error}") from error
    if len(set(names)) < len(names):
        names = [str(category["id"]) for category in categories]
    splits = {split: _photos(folder, LISTS[split], content, index) for split, content in contents.items()}
    return Listing(tuple(names), splits)


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


def _photos(folder: Path, name: str, content: dict[str, Any], index: dict[Any, int]) -> list[Photo]:
    try:
        category = {row["image_id"]: row["category_id"] for row in content["annotations"]}
        pairs = [(str(row["file_name"]), category[row["id"]]) for row in content["images"]]
        photos = [Photo(str(folder), path, index[found]) for path, found in pairs]
    except (KeyError, TypeError) as error:
        raise ValueError(f"expected images, annotations and categories that fit in {name}, found no {error}") from error
    for path, found in pairs:
        if path.split("/")[-2:-1] != [str(found)]:
            raise ValueError(f"expected images of category {found} in a folder of that name in {name}, found {path!r}")
    return photos


OFFICIAL = Official(
    about="iNaturalist 2019, 1,010 species",
    open=open_lists,
    sizes={"train": 265_213, "test": 3_030},
    needs="train_val2019/, train2019.json, val2019.json",
)
