"""FGVC-Aircraft 2013b: data/images/0034309.jpg and lists of "<number> <label with blanks>" for three kinds of label.

Maji et al., "Fine-grained visual classification of aircraft", arXiv 1306.5151, 2013.
"""

from pathlib import Path

from probekit.data.importers.official.base import Choices, Listing, Official, Photo, find_folder, read_lines, read_pairs

NAMES = {"variant": "variants.txt", "family": "families.txt", "manufacturer": "manufacturers.txt"}
BANNER = 20  # rows of a copyright notice at the lower edge of every image: a shortcut


def open_lists(root: Path, choices: Choices) -> Listing:
    """The three official splits, with the labels chosen."""
    kind = choices.labels or "variant"
    if kind not in NAMES:
        raise ValueError(f"expected --labels {' or '.join(NAMES)}, found {kind!r}")
    found = find_folder(root, "data/variants.txt", "fgvc-aircraft-2013b", archive="fgvc-aircraft-2013b.tar.gz")
    folder = found / "data"
    classes = tuple(read_lines(folder / NAMES[kind]))
    index = {name: label for label, name in enumerate(classes)}
    splits = {split: _read(folder, f"images_{kind}_{split}.txt", index) for split in ("train", "val", "test")}
    return Listing(classes, splits, parameters={"labels": kind})


def _read(folder: Path, name: str, index: dict[str, int]) -> list[Photo]:
    photos = []
    for key, label in read_pairs(folder / name):
        if label not in index:
            raise ValueError(f"expected labels of {len(index)} classes in {folder / name}, found {label!r}")
        photos.append(Photo(str(folder / "images"), f"{key}.jpg", index[label], BANNER))
    return photos


OFFICIAL = Official(
    about="FGVC-Aircraft 2013b, 100 variants",
    open=open_lists,
    sizes={"train": 3_334, "val": 3_333, "test": 3_333},
    needs="data/images/, data/variants.txt, data/images_variant_train.txt and so on",
    takes=frozenset({"train_with_val", "labels"}),
)
