"""What a source of images is: named splits of items that are decoded one by one, later."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from generators.base import Factor

VAL, TEST = "val", "test"
MAX_SIZE = 4096  # own choice: a chunk of one such RGB image is 48 MiB


class Broken(ValueError):  # noqa: N818 - a state of an image, named as users name it
    """An image that cannot be read; the text is the reason."""


@dataclass(frozen=True)
class Skipped:
    """A file that was left out.

    Attributes:
        path: Relative to the source.
        reason: In a few words.
    """

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for, checked.

    Attributes:
        size: Pixels a side, or None for images as they are.
        val_fraction: Of the training images.
        test_fraction: Of all images.
        seed: Of the splits.
    """

    size: int | None
    val_fraction: float
    test_fraction: float
    seed: int

    def __post_init__(self) -> None:
        if self.size is not None and not 1 <= self.size <= MAX_SIZE:
            raise ValueError(f"expected a size from 1 to {MAX_SIZE} pixels, found {self.size}; type --size 128")
        for name, value in (("val", self.val_fraction), ("test", self.test_fraction)):
            if not 0.0 <= value < 1.0:
                raise ValueError(f"expected a fraction from 0 to below 1, found {value}; type --{name}-fraction 0.2")


class Item(Protocol):
    """One image of a source."""

    @property
    def key(self) -> str:
        """Its name within the source, the same on every machine."""

    @property
    def label(self) -> int | None:
        """Index of its class."""

    def decode(self) -> NDArray[np.uint8]:
        """uint8 `[H, W]` or RGB `[H, W, 3]`; raises `Broken`."""


@dataclass(frozen=True)
class Source:
    """Splits of items, in the order in which they are written.

    Attributes:
        name: Of the source, without its folder: the same command must write the same bytes elsewhere.
        classes: Class names, empty for unlabelled images.
        splits: Items by split.
        ignored: Files that are no images.
        factors: Class factors, each with its value for each class.
    """

    name: str
    classes: tuple[str, ...]
    splits: dict[str, Sequence[Any]]
    ignored: list[Skipped] = field(default_factory=list)
    factors: tuple[tuple[Factor, tuple[int, ...]], ...] = ()


def set_apart(splits: dict[str, list[Any]], options: Options, classes: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Divides train into train, val and test as the options ask, class by class.

    Which items go is decided by a hash of seed, split and key: no machine, order or library version changes it, and an
    added image moves no other.

    Raises:
        ValueError: If the source has such a split of its own, or a class has too few images.
    """
    wanted = {TEST: options.test_fraction, VAL: options.val_fraction}
    result = dict(splits)
    for split, fraction in wanted.items():
        if not fraction:
            continue
        if split in splits:
            raise ValueError(
                f"the source has a {split} split of its own, found --{split}-fraction {fraction}; leave it out"
            )
        taken = _pick(result["train"], split, fraction, options.seed, classes)
        result[split] = [item for item in result["train"] if item.key in taken]
        result["train"] = [item for item in result["train"] if item.key not in taken]
    return {split: result[split] for split in ("train", VAL, TEST) if split in result}


def _pick(items: Sequence[Any], split: str, fraction: float, seed: int, classes: Sequence[str]) -> set[str]:
    by_class: dict[int | None, list[str]] = {}
    for item in items:
        by_class.setdefault(item.label, []).append(item.key)
    taken: set[str] = set()
    for label, keys in by_class.items():
        count = max(1, round(fraction * len(keys)))
        if count >= len(keys):
            what = "the source" if label is None else f"class {classes[label]!r}"
            raise ValueError(
                f"expected enough images in {what} for train and {split}, found {len(keys)}; "
                f"add images or leave out --{split}-fraction"
            )
        taken.update(sorted(keys, key=lambda key: hashlib.sha256(f"{seed}/{split}/{key}".encode()).digest())[:count])
    return taken
