"""Which official dataset a folder or a file is, by the names that its authors gave: for who imports it as his own."""

from os.path import exists  # a folder that cannot be read has nothing, where Path's raises an error
from pathlib import Path
from shlex import quote

EMNIST = "emnist-balanced-train-images-idx3-ubyte"
# What the folder that `probekit import NAME` takes is called, or what lies in it, and in no other.
TELLS: dict[str, tuple[str, ...]] = {
    "cifar10": ("data_batch_1", "data_batch_1.bin", "cifar-10-batches-py", "cifar-10-batches-bin"),
    "cifar100": ("coarse_label_names.txt", "file.txt~", "cifar-100-python", "cifar-100-binary"),
    # Those that go by the same names are told apart later, by MD5.
    "mnist": ("train-images-idx3-ubyte.gz", "train-images-idx3-ubyte", "train-images.idx3-ubyte", "MNIST/raw"),
    "fashion-mnist": ("FashionMNIST/raw",),
    "kmnist": ("KMNIST/raw",),
    "emnist": (f"{EMNIST}.gz", EMNIST, f"gzip/{EMNIST}.gz", "EMNIST/raw"),
    "stl10": ("train_X.bin", "stl10_binary"),
    "svhn": ("train_32x32.mat",),
    "tiny-imagenet": ("wnids.txt", "tiny-imagenet-200"),
    "flowers102": ("imagelabels.mat",),
    "stanford-dogs": ("train_list.mat",),
    "stanford-cars": ("cars_annos.mat", "devkit/cars_train_annos.mat"),
    "cub200": ("image_class_labels.txt", "CUB_200_2011"),
    "fgvc-aircraft": ("data/images_variant_train.txt", "fgvc-aircraft-2013b"),
    "inat2019": ("train2019.json",),
    "voc2007": ("VOC2007",),
    "voc2012": ("VOC2012",),
    "coco2017": ("annotations/instances_train2017.json",),
    "dtd": ("labels/train1.txt",),
    "food101": ("meta/classes.txt", "food-101"),
    "sun397": ("ClassName.txt", "Partitions/ClassName.txt", "SUN397"),
    "oxford-pets": ("annotations/trainval.txt",),
    "caltech101": ("101_ObjectCategories",),
    "eurosat": ("AnnualCrop", "EuroSAT_RGB", "2750"),
}
PACKED = {  # archives, without their endings
    "cifar-10-python": "cifar10",
    "cifar-10-binary": "cifar10",
    "cifar-100-python": "cifar100",
    "cifar-100-binary": "cifar100",
    "stl10_binary": "stl10",
    "tiny-imagenet-200": "tiny-imagenet",
    "CUB_200_2011": "cub200",
    "fgvc-aircraft-2013b": "fgvc-aircraft",
    "dtd-r1": "dtd",
    "food-101": "food101",
    "SUN397": "sun397",
    "EuroSAT": "eurosat",
}


def recognised(source: Path) -> str | None:
    """The end of a line that says what to type for the official dataset that a source looks like; None for others."""
    if source.is_dir():
        there = (name for name, tells in TELLS.items() if any(source.name == t or exists(source / t) for t in tells))
        name = next(there, None)
        return None if name is None else f"type: probekit import {name} {quote(str(source))}"
    if (packed := PACKED.get(source.name.partition(".")[0])) is not None and source.suffix in (".gz", ".tgz", ".zip"):
        return f"unpack it, and type: probekit import {packed} {quote(str(source.parent))}"
    name = next((name for name, tells in TELLS.items() if source.name in tells), None)
    return None if name is None else f"type: probekit import {name} {quote(str(source.parent))}"
