"""STL-10: arrays of bytes, images of 96 px, whose pixels come column by column; labels from 1.

Coates et al., "An analysis of single-layer networks in unsupervised feature learning", AISTATS 2011;
cs.stanford.edu/~acoates/stl10.
"""

from pathlib import Path

from probekit.data.importers.npz import Row
from probekit.data.importers.official.arrays import Bytes, base_one, map_records, read_records, rows
from probekit.data.importers.official.base import Choices, Listing, Official, find_folder, read_lines

SIDE = 96
CLASSES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
N_FOLD, N_UNLABELED = 1_000, 100_000


def _open(root: Path, choices: Choices) -> Listing:
    """Train and test, train being one of its ten folds if that is asked for; or the images without labels alone."""
    folder = find_folder(root, "train_X.bin", "stl10_binary", archive="stl10_binary.tar.gz")
    unlabeled = folder / "unlabeled_X.bin"
    if choices.unlabeled:
        if choices.fold is not None:
            raise ValueError("expected --unlabeled or --fold, found both; leave one out")
        images = _images(unlabeled)
        splits = {"train": rows("train", images, [None] * len(images), unlabeled)}
        return Listing((), splits, sizes={"train": N_UNLABELED}, side=SIDE, files=[unlabeled])
    splits, files = {}, []
    for split in ("train", "test"):
        images_file, labels_file = (folder / f"{split}_{kind}.bin" for kind in "Xy")
        labels = base_one(read_records(labels_file, 1, "labels")[:, 0].tolist(), len(CLASSES), labels_file)
        splits[split] = rows(split, _images(images_file), labels, images_file)
        files += [images_file, labels_file]
    sizes = None
    if choices.fold is not None:
        splits["train"] = _fold(splits["train"], folder / "fold_indices.txt", choices.fold)
        sizes = {"train": N_FOLD, "test": len(splits["test"])}
    notes = ["the images without labels are left out; --unlabeled takes them, alone"] if unlabeled.exists() else []
    return Listing(tuple(_classes(folder)), splits, sizes=sizes, side=SIDE, files=files, notes=notes)


def _images(path: Path) -> Bytes:
    """uint8 `[N, H, W, 3]`, upright."""
    return map_records(path, 3 * SIDE * SIDE, "images").reshape(-1, 3, SIDE, SIDE).transpose(0, 3, 2, 1)


def _classes(folder: Path) -> list[str]:
    path = folder / "class_names.txt"
    if path.exists() and read_lines(path) != CLASSES:
        raise ValueError(f"expected {', '.join(CLASSES)} in {path}, found others")
    return CLASSES


def _fold(train: list[Row], path: Path, fold: int) -> list[Row]:
    """The images of one fold, in its order; a ValueError if the list is not as described."""
    lines = read_lines(path)
    if len(lines) < fold:
        raise ValueError(f"expected a line for each of 10 folds in {path}, found {len(lines)}")
    words = lines[fold - 1].split()
    if not all(word.isdecimal() and int(word) < len(train) for word in words):
        raise ValueError(f"expected numbers from 0 to {len(train) - 1} in line {fold} of {path}, found others")
    return [train[int(word)] for word in words]


STL10 = Official(
    about="STL-10, photographs of 96 px, and 100,000 without labels",
    open=_open,
    sizes={"train": 5_000, "test": 8_000},
    classes=len(CLASSES),
    needs="stl10_binary/: train_X.bin, train_y.bin, test_X.bin, test_y.bin",
    takes=frozenset({"fold", "unlabeled"}),
    size=SIDE,
)
