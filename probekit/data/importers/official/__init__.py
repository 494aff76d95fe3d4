"""Datasets as their authors publish them: one file each, and one line in OFFICIAL."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from shlex import quote
from typing import Any

from probekit.data.importers.base import Item, Options, Source, choose_splits, option, readable, set_apart
from probekit.data.importers.official import (
    by_class,
    by_list,
    cifar,
    coco,
    digits,
    fine_grained,
    idx,
    medmnist,
    pets,
    photographs,
    stl10,
    svhn,
    voc,
)
from probekit.data.importers.official.base import FOLDS, MAX_GB, Choices, Listing, Official
from probekit.data.importers.official.published import compare

OFFICIAL: dict[str, Official] = {
    "flowers102": fine_grained.FLOWERS102,
    "stanford-dogs": fine_grained.STANFORD_DOGS,
    "aptos2019": fine_grained.APTOS2019,
    "cub200": fine_grained.CUB200,
    "stanford-cars": fine_grained.STANFORD_CARS,
    "fgvc-aircraft": fine_grained.FGVC_AIRCRAFT,
    "inat2019": photographs.INAT2019,
    "imagenet": photographs.IMAGENET,
    "voc2007": voc.VOC2007,
    "voc2012": voc.VOC2012,
    "voc2007,voc2012": voc.VOC0712,
    "coco2017": coco.COCO2017,
    "digits": digits.OFFICIAL,  # needs no files: scikit-learn ships it
    "cifar10": cifar.CIFAR10,
    "cifar100": cifar.CIFAR100,
    "mnist": idx.MNIST,
    "fashion-mnist": idx.FASHION_MNIST,
    "kmnist": idx.KMNIST,
    "emnist": idx.EMNIST,
    "stl10": stl10.STL10,
    "svhn": svhn.SVHN,
    "tiny-imagenet": by_class.TINY_IMAGENET,
    "eurosat": by_class.EUROSAT,
    "caltech101": by_class.CALTECH101,
    "dtd": by_list.DTD,
    "food101": by_list.FOOD101,
    "sun397": by_list.SUN397,
    "oxford-pets": pets.OXFORD_PETS,
    **medmnist.SETS,
}

OF_ALL = ("subset", "seed", "size")  # choices that every dataset has


def open_official(name: str, root: Path | None, choices: Choices, options: Options) -> Source:
    """The official splits of a dataset, checked.

    A ValueError if files are missing, are of another dataset or incomplete, or a choice is not this dataset's. `root`:
    the folder; None for sets that need none.
    """
    official = OFFICIAL[name]
    given = _check_choices(name, official, choices)
    if root is None and official.needs:
        raise ValueError(
            f"expected the folder with {official.needs}, found none; "
            f"type: probekit import {name} ROOT (or ./{name} for a folder of your own)"
        )
    if root is not None and not official.needs:
        raise ValueError(f"expected nothing after {name}, which comes with probekit, found {root}; leave it out")
    if root is not None and not root.is_dir():
        raise ValueError(f"expected the folder of {name}, found {_instead(name, root)}")
    options.leave_out(name, "labels")
    choices = replace(choices, size=options.size, **{k: given[k] for k in official.defaults})
    listing = official.open(root or Path(), choices)
    notes = list(listing.notes)
    splits: dict[str, Sequence[Item]] = dict(listing.splits)
    if choices.subset:
        splits = _there(name, splits, official, root, notes)
    else:
        _check_sizes(name, splits, listing.sizes or official.sizes)
        _check_classes(name, listing, official, choices)
        notes += compare(name, listing.files)
    _check_labels(name, splits, len(listing.classes))
    if listing.side is not None and options.size not in (None, listing.side):
        notes.append(
            f"images of {listing.side} px, made {options.size} px (--size {listing.side} keeps them as they are)"
        )
    if choices.train_with_val and "val" in splits:
        splits["train"] = [*splits["train"], *splits.pop("val")]
    chosen = choose_splits({split: list(items) for split, items in splits.items()}, options)
    resize = {} if options.kept else {"resize": options.resize}
    parameters = {**resize, "subset": choices.subset, **given, **listing.parameters}
    classes = tuple(map(readable, listing.classes))
    return Source(
        name,
        classes,
        set_apart(chosen, options, classes),
        list(listing.ignored),
        listing.factors,
        channels=official.channels,
        parameters=parameters,
        notes=notes,
        mask_names=listing.mask_names,
        boxed=listing.boxed,
    )


def _instead(name: str, root: Path) -> str:
    if not root.exists():
        return f"nothing at {root}"
    unpack = "unpack it, and " if root.suffix in (".zip", ".gz", ".tgz", ".tar", ".xz") else ""
    return f"a file at {root}; {unpack}type: probekit import {name} {quote(str(root.absolute().parent))}"


def _there(
    name: str, splits: Mapping[str, Sequence[Item]], official: Official, root: Path | None, notes: list[str]
) -> dict[str, Sequence[Item]]:
    """The images whose files are there, and a note on how many are not; a ValueError if there are none to train on."""
    found: dict[str, Sequence[Item]] = {
        split: [item for item in items if item.stamp() or not official.needs] for split, items in splits.items()
    }
    listed, missing = sum(map(len, splits.values())), sum(map(len, splits.values())) - sum(map(len, found.values()))
    if missing:
        notes.append(f"{missing:,} of {listed:,} listed images are not there (--subset)")
    if not found.get("train"):
        raise ValueError(f"expected training images of {name} in {root}, found none of those that its lists name")
    return {split: items for split, items in found.items() if items}


def _check_choices(name: str, official: Official, choices: Choices) -> dict[str, Any]:
    """What was chosen, and what the set has chosen itself; a ValueError if it has no such choice."""
    given = {choice: value for choice, value in asdict(choices).items() if choice not in OF_ALL and value}
    for choice in given:
        if choice not in official.takes:
            where = ", ".join(other for other, entry in OFFICIAL.items() if choice in entry.takes)
            raise ValueError(f"expected {option(choice)} with {where} only, found it with {name}; leave it out")
    if choices.labels is not None and choices.labels not in official.labels:
        wanted = ", ".join(official.labels)
        raise ValueError(f"expected --labels with one of {wanted} for {name}, found {choices.labels!r}")
    if choices.fold is not None and not 1 <= choices.fold <= FOLDS:
        raise ValueError(f"expected --fold from 1 to {FOLDS}, found {choices.fold}")
    typed = {choice: value.name if isinstance(value, Path) else value for choice, value in given.items()}
    return official.defaults | typed


def _check_sizes(name: str, splits: Mapping[str, Sequence[Item]], sizes: Mapping[str, int]) -> None:
    found = {split: len(splits.get(split, ())) for split in sizes}
    if found != dict(sizes):
        wanted, had = (", ".join(f"{n:,} {split}" for split, n in counts.items()) for counts in (sizes, found))
        raise ValueError(
            f"expected all images of {name}, {wanted}, found {had}; is it unpacked completely? "
            "To take what is there, type --subset"
        )


def _check_classes(name: str, listing: Listing, official: Official, choices: Choices) -> None:
    wanted = official.labels.get(choices.labels or "", official.classes)
    chosen = choices.classes is not None or choices.n_classes is not None or choices.unlabeled
    if len(listing.classes) != wanted and not chosen:
        raise ValueError(
            f"expected the {wanted} classes of {name}, found {len(listing.classes)}; is it unpacked completely? "
            "To take what is there, type --subset"
        )


def _check_labels(name: str, splits: Mapping[str, Sequence[Item]], classes: int) -> None:
    for items in splits.values():
        for item in items:
            if isinstance(item.label, int) and not 0 <= item.label < classes:
                raise ValueError(
                    f"expected labels of {classes} classes, found {item.label + 1} (from 1) for {item.key!r}; "
                    f"are all lists of {name}?"
                )
