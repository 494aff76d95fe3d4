"""Miniatures of the sets whose images lie in arrays: CIFAR, MNIST and its like, STL-10, SVHN, MedMNIST."""

import gzip
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from probekit.data.importers.official import OFFICIAL
from probekit.data.importers.official.idx import EMNIST_CLASSES
from probekit.data.importers.official.medmnist import SETS
from tests.data.importers import py2
from tests.data.importers.planned import Drawer, Plan

Bytes = NDArray[np.uint8]
TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FINE = [f"kind {k}" for k in range(100)]
COARSE = [f"group {k}" for k in range(20)]


def by_channel(images: Bytes) -> Bytes:
    """`[N, 3072]`: red, green, blue, row by row."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


def cifar10(root: Path, *, binary: bool = False) -> Plan:
    top = root / ("cifar-10-batches-bin" if binary else "cifar-10-batches-py")
    top.mkdir(parents=True)
    drawer = Drawer(32)
    for k, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        labels = [k, 9 - k, 3]
        images = by_channel(drawer.draw("train" if k < 5 else "test", labels))
        if binary:
            (top / f"{name}.bin").write_bytes(np.c_[np.array(labels, np.uint8), images].tobytes())
        else:
            names = [f"{TEN[label]}_s_{k:06}.png" for label in labels]
            content = {"batch_label": f"batch {k} of 5", "labels": labels, "data": images, "filenames": names}
            (top / name).write_bytes(py2.dumps(content))
    if binary:
        (top / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    else:
        (top / "batches.meta").write_bytes(
            py2.dumps({"num_cases_per_batch": 10000, "label_names": TEN, "num_vis": 3072})
        )
    return drawer.plan(top, 10, {0: "airplane", 9: "truck"}, (root,))


def cifar100(root: Path, *, binary: bool = False) -> Plan:
    top = root / ("cifar-100-binary" if binary else "cifar-100-python")
    top.mkdir(parents=True)
    drawer = Drawer(32)
    for split, fine in (("train", [99, 0, 17, 3]), ("test", [1, 98])):
        images, coarse = by_channel(drawer.draw(split, list(fine))), [label // 5 for label in fine]
        if binary:
            (top / f"{split}.bin").write_bytes(
                np.c_[np.array(coarse, np.uint8), np.array(fine, np.uint8), images].tobytes()
            )
        else:
            content = {"data": images, "fine_labels": fine, "coarse_labels": coarse, "batch_label": split}
            (top / split).write_bytes(py2.dumps(content))
    if binary:
        (top / "fine_label_names.txt").write_text("\n".join(FINE) + "\n")
        (top / "coarse_label_names.txt").write_text("\n".join(COARSE) + "\n")
    else:
        (top / "meta").write_bytes(py2.dumps({"fine_label_names": FINE, "coarse_label_names": COARSE}))
    return drawer.plan(top, 100, {0: "kind 0", 99: "kind 99"}, (root,))


def write_idx(path: Path, values: Any, zipped: bool) -> None:
    array = np.asarray(values, np.uint8)
    data = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    if zipped:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(data, mtime=0))
    else:
        path.write_bytes(data)


def mnist(root: Path, *, name: str = "mnist", below: str = "", dash: str = "-", zipped: bool = True) -> Plan:
    drawer = Drawer(28, grey=True)
    for split, start, labels in (("train", "train", [9, 0, 3, 7, 1]), ("test", "t10k", [2, 8, 5])):
        write_idx(root / below / f"{start}-images{dash}idx3-ubyte", drawer.draw(split, list(labels)), zipped)
        write_idx(root / below / f"{start}-labels{dash}idx1-ubyte", labels, zipped)
    classes = {"fashion-mnist": {0: "T-shirt/top", 9: "Ankle boot"}, "kmnist": {0: "o", 9: "wo"}}
    return drawer.plan(root, 10, classes.get(name, {0: "0", 9: "9"}), (root / below,) if below else ())


def emnist(root: Path, *, kind: str = "balanced", first: int = 0) -> Plan:
    """Rows and columns have changed places in the files."""
    drawer = Drawer(28, grey=True)
    names = EMNIST_CLASSES[kind]
    last = len(names) - 1
    for split, labels in (("train", [last, 0, 2, 1]), ("test", [0, last])):
        images = drawer.draw(split, list(labels)).swapaxes(1, 2)
        write_idx(root / "gzip" / f"emnist-{kind}-{split}-images-idx3-ubyte", images, True)
        write_idx(root / "gzip" / f"emnist-{kind}-{split}-labels-idx1-ubyte", np.add(labels, first), True)
    named = {"balanced": {0: "0", 10: "A", 36: "a", 46: "t"}, "letters": {0: "A", 25: "Z"}}
    return drawer.plan(root, len(names), named.get(kind, {}), (root / "gzip",))


def stl10(root: Path) -> Plan:
    top = root / "stl10_binary"
    top.mkdir(parents=True)
    drawer = Drawer(96)
    for split, labels in (("train", [9, 0, 1, 4]), ("test", [2, 8]), ("unlabeled", [None] * 3)):
        images = drawer.draw(split, list(labels))
        (top / f"{split}_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())  # column by column
        if split != "unlabeled":
            (top / f"{split}_y.bin").write_bytes(bytes(label + 1 for label in labels if label is not None))
    (top / "fold_indices.txt").write_text("".join(f"{k % 4} {(k + 1) % 4} \n" for k in range(10)))
    names = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
    (top / "class_names.txt").write_text("\n".join(names) + "\n")
    plan = drawer.plan(top, 10, {0: "airplane", 2: "car", 9: "truck"}, (root,))
    unlabeled = {"unlabeled": plan.splits.pop("unlabeled")}
    plan.beside = unlabeled
    return plan


def svhn(root: Path) -> Plan:
    root.mkdir(parents=True)
    drawer = Drawer(32)
    for split, labels in (("train", [0, 9, 1, 5]), ("test", [3, 0]), ("extra", [7, 0])):
        images = drawer.draw(split, list(labels)).transpose(1, 2, 3, 0)
        y = np.array([[label or 10] for label in labels], np.uint8)
        savemat(root / f"{split}_32x32.mat", {"X": images, "y": y}, do_compression=True)
    plan = drawer.plan(root, 10, {0: "0", 9: "9"})
    plan.beside = {"extra": plan.splits.pop("extra")}
    return plan


def medmnist(root: Path, *, name: str, side: int = 28) -> Plan:
    root.mkdir(parents=True, exist_ok=True)
    official = SETS[name]
    drawer = Drawer(side, grey=official.channels == 1)
    arrays: dict[str, Any] = {}
    for split, n in (("train", 5), ("val", 3), ("test", 2)):
        if name == "chestmnist":
            labels: Any = [[int((k + n) % 3 == j % 3) for j in range(14)] for k in range(n)]
        else:
            labels = [[(official.classes - 1 - k) % official.classes] for k in range(n)]
        shown = labels if name == "chestmnist" else [label for [label] in labels]
        arrays |= {f"{split}_images": drawer.draw(split, shown), f"{split}_labels": np.array(labels, np.uint8)}
    np.savez_compressed(root / f"{name}{'' if side == 28 else f'_{side}'}.npz", **arrays)
    names = {"pathmnist": {0: "adipose"}, "breastmnist": {1: "normal, benign"}, "chestmnist": {13: "hernia"}}
    return drawer.plan(root, official.classes, names.get(name, {}))


LAYOUTS: dict[str, tuple[str, Callable[[Path], Plan]]] = {
    "cifar10": ("cifar10", cifar10),
    "cifar10, binary": ("cifar10", partial(cifar10, binary=True)),
    "cifar100": ("cifar100", cifar100),
    "cifar100, binary": ("cifar100", partial(cifar100, binary=True)),
    "mnist": ("mnist", mnist),
    "mnist, unpacked": ("mnist", partial(mnist, dash=".", zipped=False)),
    "fashion-mnist": ("fashion-mnist", partial(mnist, name="fashion-mnist", below="FashionMNIST/raw")),
    "kmnist": ("kmnist", partial(mnist, name="kmnist", below="KMNIST/raw", zipped=False)),
    "emnist": ("emnist", emnist),
    "stl10": ("stl10", stl10),
    "svhn": ("svhn", svhn),
    **{name: (name, partial(medmnist, name=name)) for name in OFFICIAL if name in SETS},
}
