"""What a source of images is: named splits of items that are decoded one by one, later."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from generators.base import Factor

VAL, TEST = "val", "test"
MAX_SIZE = 4096  # own choice: a chunk of one such RGB image is 48 MiB
RESIZES = ("crop", "squash")
Label = int | bytes | None  # index of a class; one byte a class (probekit.h5: 0, 1 or 255); unlabelled


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
        resize: "crop" (the centre square) or "squash" (all of it, whatever its aspect).
        max_gb: The most gigabytes of pixels (10^9 bytes) that are kept as they are; more become JPEG. None is no bound.
    """

    size: int | None
    val_fraction: float
    test_fraction: float
    seed: int
    resize: str = "crop"
    max_gb: float | None = None

    def __post_init__(self) -> None:
        if self.resize not in RESIZES:
            raise ValueError(f"expected --resize {' or '.join(RESIZES)}, found {self.resize!r}")
        if self.size is None and (self.resize != "crop" or self.max_gb is not None):
            raise ValueError("expected a size with --resize and --max-gb, found none; type --size 224")
        if self.max_gb is not None and not self.max_gb >= 0:
            raise ValueError(f"expected gigabytes from 0 up, found {self.max_gb}; type --max-gb 8")
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
    def label(self) -> Label:
        """Its class or classes."""

    def stamp(self) -> str:
        """What changes when its file does."""

    def decode(self) -> NDArray[np.uint8]:
        """uint8 `[H, W]`, or BGR `[H, W, 3]` as OpenCV has it; raises `Broken`."""


@dataclass(frozen=True)
class Source:
    """Splits of items, in the order in which they are written.

    Attributes:
        name: Of the source, without its folder: the same command must write the same bytes elsewhere.
        classes: Class names, empty for unlabelled images.
        splits: Items by split.
        ignored: Files that are no images.
        factors: Class factors, each with its value for each class.
        channels: 1 or 3, where that is known before the images are seen.
        params: What else the file says of itself.
    """

    name: str
    classes: tuple[str, ...]
    splits: dict[str, Sequence[Any]]
    ignored: list[Skipped] = field(default_factory=list)
    factors: tuple[tuple[Factor, tuple[int, ...]], ...] = ()
    channels: int | None = None
    params: dict[str, Any] = field(default_factory=dict)

    def columns(self, items: Sequence[Item]) -> tuple[NDArray[Any] | None, dict[str, NDArray[Any]]]:
        """Labels and factors of some items, as `probekit.h5.as_columns` takes them."""
        if not items or items[0].label is None:
            return None, {}
        if isinstance(items[0].label, bytes):
            joined = b"".join(item.label for item in items if isinstance(item.label, bytes))
            return np.frombuffer(joined, np.uint8).reshape(len(items), -1), {}
        labels = np.array([item.label for item in items], np.int64)
        return labels, {factor.name: np.array(values, np.uint8)[labels] for factor, values in self.factors}


@dataclass(frozen=True)
class Told:
    """Who hears of the work while it goes on.

    Attributes:
        progress: Called with the images done and in all.
        note: Called with a line for the user.
    """

    progress: Callable[[int, int], None]
    note: Callable[[str], None] = lambda line: None


def file_stamp(path: str | Path) -> str:
    """Size and time of change of a file, or nothing if it is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def set_apart(splits: dict[str, list[Any]], options: Options, classes: Sequence[str]) -> dict[str, Sequence[Any]]:
    """Divides train into train, val and test as the options ask, class by class.

    Which items go is decided by a hash of seed, split and key: no machine, order or library version changes it, and an
    added image moves no other. Where images have several labels, all count as one class.

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
        by_class.setdefault(item.label if isinstance(item.label, int) else None, []).append(item.key)
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
