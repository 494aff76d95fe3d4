"""SVHN, cropped digits of house numbers: MATLAB files of X `[32, 32, 3, N]` and y, in which 10 is the digit 0.

Netzer et al., "Reading digits in natural images with unsupervised feature learning", NIPS workshop 2011;
ufldl.stanford.edu/housenumbers (format 2).
"""

from pathlib import Path

import numpy as np

from probekit.data.importers.npz import Row
from probekit.data.importers.official.arrays import base_one, rows, stream
from probekit.data.importers.official.base import Choices, Listing, Official, load_mat, need, whole_numbers

SIDE = 32
MOST = 2 << 30  # bytes of a file: extra_32x32.mat has 1.33 GB
EXTRA = "extra_32x32.mat"
N_TRAIN, N_EXTRA, N_TEST = 73_257, 531_131, 26_032


def _open(root: Path, choices: Choices) -> Listing:
    """Train and test, with the easier extra images joined to train if that is asked for."""
    files = [root / "train_32x32.mat", root / "test_32x32.mat"]
    for path in files:
        need(path, "ROOT is the folder of train_32x32.mat and test_32x32.mat (format 2, cropped digits)")
    splits = {"train": _read("train", files[0]), "test": _read("test", files[1])}
    sizes, notes = {"train": N_TRAIN, "test": N_TEST}, []
    if choices.train_with_extra:
        files.append(need(root / EXTRA))
        splits["train"] += _read("extra", root / EXTRA)
        sizes["train"] += N_EXTRA
    elif (root / EXTRA).exists():
        notes.append(f"{EXTRA} is left out; --train-with-extra joins it to train")
    return Listing(tuple("0123456789"), splits, sizes=sizes, side=SIDE, files=files, notes=notes)


def _read(split: str, path: Path) -> list[Row]:
    with stream(path, MOST) as file:
        content = load_mat(file, path, "X", "y")
    images = content["X"]
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.shape[:3] != (SIDE, SIDE, 3):
        raise ValueError(f"expected X of bytes [32, 32, 3, N] in {path}, found something else")
    images = images if images.ndim == 4 else images[..., None]  # one image alone has lost its last side
    labels = base_one(whole_numbers(content["y"], path), 10, path)
    return rows(split, images.transpose(3, 0, 1, 2), [(label + 1) % 10 for label in labels], path)


SVHN = Official(
    about="SVHN, cropped digits of house numbers, 32 px",
    open=_open,
    sizes={"train": N_TRAIN, "test": N_TEST},
    classes=10,
    needs="train_32x32.mat, test_32x32.mat",
    takes=frozenset({"train_with_extra"}),
    size=SIDE,
)
