"""Stanford Dogs: Images/n02085620-Chihuahua/*.jpg, train_list.mat and test_list.mat (labels from 1).

Khosla et al., "Novel dataset for fine-grained image categorization", FGVC workshop, CVPR 2011.
"""

from pathlib import Path

import numpy as np

from probekit.data.importers.official.base import (
    Choices,
    Listing,
    Official,
    Photo,
    find_folder,
    name_classes,
    need,
    read_mat,
    whole_numbers,
)

N_CLASSES = 120


def open_lists(root: Path, choices: Choices) -> Listing:
    """The official splits."""
    lists = find_folder(root, "train_list.mat", "lists", archive="lists.tar")
    images = need(root / "Images", "unpack images.tar there too")
    splits = {split: _read(lists / f"{split}_list.mat", images) for split in ("train", "test")}
    named = ((photo.label, photo.key.split("/")[0]) for photos in splits.values() for photo in photos)
    names = name_classes(
        ((label, folder.partition("-")[2]) for label, folder in named if isinstance(label, int)), N_CLASSES
    )
    return Listing(names, splits)


def _read(path: Path, images: Path) -> list[Photo]:
    content = read_mat(path, "file_list", "labels")
    files = [str(name) for name in np.atleast_1d(content["file_list"])]
    labels = whole_numbers(content["labels"], path)
    if len(files) != len(labels):
        raise ValueError(f"expected a label for each file in {path}, found {len(files)} files and {len(labels)} labels")
    return [Photo(str(images), name, label - 1) for name, label in zip(files, labels, strict=True)]


OFFICIAL = Official(
    about="Stanford Dogs, 120 breeds",
    open=open_lists,
    sizes={"train": 12_000, "test": 8_580},
    needs="Images/, train_list.mat, test_list.mat",
)
