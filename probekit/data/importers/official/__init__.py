"""Datasets as their authors publish them: one file each, and one line in OFFICIAL."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from probekit.data.importers.base import Item, Options, Source, choose_splits, readable, set_apart
from probekit.data.importers.official import digits, fine_grained, photographs, voc
from probekit.data.importers.official.base import MAX_GB, Choices, Official

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
    "digits": digits.OFFICIAL,  # needs no files: scikit-learn ships it
}

OPTIONS = {
    "train_with_val": "--train-with-val",
    "labels": "--labels",
    "classes": "--classes",
    "n_classes": "--n-classes",
}


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
        raise ValueError(f"expected the folder of {name}, found {'a file' if root.exists() else 'nothing'} at {root}")
    options.leave_out(name, "labels")
    listing = official.open(root or Path(), choices)
    splits: dict[str, Sequence[Item]] = dict(listing.splits)
    notes: list[str] = []
    if choices.subset:
        listed = sum(map(len, splits.values()))
        splits = {
            split: [item for item in items if item.stamp() or not official.needs] for split, items in splits.items()
        }
        splits = {split: items for split, items in splits.items() if items}
        missing = listed - sum(map(len, splits.values()))
        if missing:
            notes.append(f"{missing:,} of {listed:,} listed images are not there (--subset)")
        if "train" not in splits:
            raise ValueError(f"expected training images of {name} in {root}, found none of those that its lists name")
    else:
        _check_sizes(name, splits, listing.sizes or official.sizes)
    _check_labels(name, splits, len(listing.classes))
    if choices.train_with_val and "val" in splits:
        splits["train"] = [*splits["train"], *splits.pop("val")]
    chosen = choose_splits({split: list(items) for split, items in splits.items()}, options)
    parameters = {"resize": options.resize, "subset": choices.subset, **given, **listing.parameters}
    classes = tuple(map(readable, listing.classes))
    apart = set_apart(chosen, options, classes)
    return Source(
        name, classes, apart, list(listing.ignored), channels=official.channels, parameters=parameters, notes=notes
    )


def _check_choices(name: str, official: Official, choices: Choices) -> dict[str, Any]:
    given = {choice: value for choice, value in asdict(choices).items() if choice in OPTIONS and value}
    for choice in given:
        if choice not in official.takes:
            where = ", ".join(other for other, entry in OFFICIAL.items() if choice in entry.takes)
            raise ValueError(f"expected {OPTIONS[choice]} with {where} only, found it with {name}; leave it out")
    return {choice: value.name if isinstance(value, Path) else value for choice, value in given.items()}


def _check_sizes(name: str, splits: Mapping[str, Sequence[Item]], sizes: Mapping[str, int]) -> None:
    found = {split: len(splits.get(split, ())) for split in sizes}
    if found != dict(sizes):
        wanted, had = (", ".join(f"{n:,} {split}" for split, n in counts.items()) for counts in (sizes, found))
        raise ValueError(
            f"expected all images of {name}, {wanted}, found {had}; is it unpacked completely? "
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
