"""CUB-200-2011: images/001.Black_footed_Albatross/*.jpg and text lists of ids (classes from 1; split 1 is train).

Wah et al., "The Caltech-UCSD Birds-200-2011 dataset", Caltech CNS-TR-2011-001.
"""

from pathlib import Path

from probekit.data.importers.official.base import (
    Choices,
    Listing,
    Official,
    Photo,
    find_folder,
    name_classes,
    number,
    read_pairs,
)

N_CLASSES = 200


def open_lists(root: Path, choices: Choices) -> Listing:
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
    return Listing(name_classes(named, N_CLASSES), splits)


OFFICIAL = Official(
    about="Caltech-UCSD Birds-200-2011",
    open=open_lists,
    sizes={"train": 5_994, "test": 5_794},
    needs="images/, images.txt, image_class_labels.txt, train_test_split.txt, classes.txt",
)
