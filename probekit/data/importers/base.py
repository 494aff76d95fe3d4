"""What a source of images is: named splits of items that are decoded one by one, later; files of strangers, read."""

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from shlex import quote
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from generators.factors import Factor
from probekit.data.apart import pick
from probekit.data.importers.photographs import Kept, kept_of
from probekit.h5.schema import MASK_BITS

VAL, TEST = "val", "test"
MAX_SIZE = 4096  # own choice: a chunk of one such RGB image is 48 MiB
RESIZES = ("crop", "squash")
Part = TypeVar("Part")
Label = int | bytes | None  # index of a class; one byte a class (probekit.h5: 0, 1 or 255); unlabelled
OF_SOME = {  # options that only some kinds of sources have
    "depth": "a folder of images",
    "labels_csv": "a folder of images",
    "masks": "a folder of images",
    "images": "a table, arrays or shards",
    "labels": "a table, arrays, shards or an official dataset that has it",
    "group": "a table, arrays, shards or --labels-csv",
}
EXAMPLES = 3  # groups that are named
MAX_BYTES = 1 << 30  # own choice: more than any image or list of these sets, and less than fills a computer's memory


class Broken(ValueError):  # noqa: N818 - a state of an image, named as users name it
    """An image that cannot be read; the text is the reason."""


class BrokenImages(ValueError):  # noqa: N818 - a state of a source
    """Some images cannot be read, and were not to be left out; they may be repaired."""


@dataclass(frozen=True)
class Skipped:
    """A file that was left out."""

    path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for, checked; None is the source's default.

    Attributes:
        size: Pixels a side, or None for images as they are.
        store: "pixels" (also None; of one size), or photographs of their own sizes: "original", or "short:N", whose
            shorter side has at most N pixels.
        test_crop: "256:224": how photographs become images of one size, in place of the usual way to `size`.
        val_fraction: Share of the training images that becomes val.
        test_fraction: Share of all images that becomes test; None is 0.
        resize: "crop" (the centre square, also None) or "squash" (all of it, whatever its aspect).
        max_gb: The most gigabytes of pixels (10^9 bytes) that are kept as they are; more become JPEG. None is no bound.
        bits: Bits that the pixels use, of those their files have.
        range: The values that become black and white.
        skip_split: "val" or "test", to be left out.
        depth: Folders: how many levels down the class folders are.
        labels_csv: Folders: the table that holds the labels.
        images: Tables, arrays and shards: the column, array or ending of the images.
        labels: Likewise of the labels, or of sets of factors the factor; "none" takes the images without.
        masks: Folders: where each image has a PNG of its place and name, whose values are its masks.
        mask_names: What its values mean: k is in the k-th mask, 0 in none. One name takes all that is not 0.
        group: The column of what must not be divided, a patient or a photograph: kept as a factor.
        duplicates: Look for near-duplicates between the splits.
    """

    size: int | None = None
    store: str | None = None
    test_crop: str | None = None
    val_fraction: float = 0.0
    test_fraction: float | None = None
    seed: int = 0
    resize: str | None = None
    max_gb: float | None = None
    bits: int | None = None
    range: tuple[float, float] | None = None
    skip_split: str | None = None
    val_as_test: bool = False
    depth: int | None = None
    labels_csv: Path | None = None
    column: str | None = None
    images: str | None = None
    labels: str | None = None
    masks: Path | None = None
    mask_names: tuple[str, ...] = ("mask",)
    group: str | None = None
    duplicates: bool = True

    def __post_init__(self) -> None:
        if self.resize not in (None, *RESIZES):
            raise ValueError(f"expected --resize {' or '.join(RESIZES)}, found {self.resize!r}")
        kept = None if self.store is None else self.kept  # of official datasets it is not known yet
        if kept is not None and (self.resize is not None or self.max_gb is not None):
            option = "--max-gb" if self.resize is None else "--resize"
            raise ValueError(f"expected {option} with --store pixels alone, found {kept}; type --store pixels")
        if self.max_gb is not None and not self.max_gb >= 0:
            raise ValueError(f"expected gigabytes from 0 up, found {self.max_gb}; type --max-gb 8")
        if self.size is not None and not 1 <= self.size <= MAX_SIZE:
            raise ValueError(f"expected a size from 1 to {MAX_SIZE} pixels, found {self.size}; type --size 128")
        for name, value in ((VAL, self.val_fraction), (TEST, self.test_fraction or 0.0)):
            if not 0.0 <= value < 1.0:
                raise ValueError(f"expected a fraction from 0 to below 1, found {value}; type --{name}-fraction 0.2")
        if self.bits is not None and self.range is not None:
            raise ValueError("expected --bits or --range, found both; leave one out")
        if self.bits is not None and not 1 <= self.bits <= 16:
            raise ValueError(f"expected 1 to 16 bits, found {self.bits}; type --bits 12")
        if self.skip_split not in (None, VAL, TEST):
            raise ValueError(f"expected --skip-split val or test, found {self.skip_split!r}")
        if self.depth is not None and self.depth < 1:
            raise ValueError(f"expected a depth from 1 up, found {self.depth}; type --depth 1")
        if not 1 <= len({*self.mask_names} - {""}) == len(self.mask_names) <= MASK_BITS:
            raise ValueError(
                f"expected 1 to {MASK_BITS} names of masks that differ, found {', '.join(self.mask_names)!r}; "
                "type --mask-names evidence:spot"
            )
        if (self.labels_csv is None) != (self.column is None):
            raise ValueError("expected --labels-csv FILE and --column NAME together, found one of them")

    @property
    def kept(self) -> Kept | None:
        """How photographs are kept; None where pixels are."""
        return kept_of(self.store, self.test_crop, self.size)

    def leave_out(self, source: str, *kept: str) -> None:
        """Refuses what says nothing of a kind of source; a ValueError if such an option was typed.

        `kept`: those of the options below that do say something of it.
        """
        for name, where in OF_SOME.items():
            if name not in kept and getattr(self, name) is not None:
                raise ValueError(f"expected {option(name)} with {where}, found {source}; leave it out")


class Item(Protocol):
    """One image of a source; see `Masked` for one with masks."""

    @property
    def key(self) -> str:
        """Its name within the source, the same on every machine."""

    @property
    def label(self) -> Label:
        """Its class or classes."""

    def stamp(self) -> str:
        """What changes when its file does."""

    def decode(self) -> NDArray[Any]:
        """Finite numbers `[H, W]`, or BGR `[H, W, 3]` as OpenCV has it; raises `Broken`."""


@runtime_checkable
class Filed(Protocol):
    """What an image has that is a file, or the bytes of one."""

    def data(self) -> bytes | None:
        """The bytes that `decode` decodes; None where that is not all it does; raises `Broken`."""


class Masked(Item, Protocol):
    """One image of a source whose images have masks."""

    def masks(self, shape: tuple[int, int]) -> NDArray[np.uint32]:
        """Its masks `[H, W]`, of the image's `shape`, bit k for the source's `mask_names[k]`; raises `Broken`."""


@dataclass(frozen=True)
class Columns:
    """Factors that are known image by image.

    `table`: an entry for each, as the dataset file has it (name, kind, and low and high of numbers); `of`: their values
    for some items, one array each; `group`: the one that must not be divided.
    """

    table: tuple[dict[str, Any], ...]
    of: Callable[[Sequence[Any]], dict[str, NDArray[Any]]]
    group: str | None = None


@dataclass(frozen=True)
class Source:
    """Splits of items, in the order in which they are written; all have masks where there are `mask_names`.

    All have objects where it is `boxed`. `name`: the source's, without its folder: the same command must write the same
    bytes elsewhere; `classes`: class names, empty for unlabelled images; `factors`: class factors, each with its value
    for each class; `others`: factors of each image; `channels`: 1 or 3, where that is known before the images are seen;
    `parameters`: what else the file says of itself.
    """

    name: str
    classes: tuple[str, ...]
    splits: dict[str, Sequence[Any]]
    ignored: list[Skipped] = field(default_factory=list)
    factors: tuple[tuple[Factor, tuple[int, ...]], ...] = ()
    channels: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    others: Columns | None = None
    mask_names: tuple[str, ...] = ()
    boxed: bool = False

    def divided(self, path: Path) -> list[str]:
        """A line for each two splits that have images of one group, and one that says how to have it on one side.

        `path`: the dataset file.
        """
        if self.others is None or self.others.group is None:
            return []
        name, lines = self.others.group, list[str]()
        of = {split: set(self.others.of(items)[name].tolist()) for split, items in self.splits.items()}
        for first, second in combinations(of, 2):
            if both := sorted(of[first] & of[second]):
                some = ", ".join(repr(each.decode() if isinstance(each, bytes) else each) for each in both[:EXAMPLES])
                told = f"{len(both):,} of {len(of[second]):,} values of {name} in {second} are in {first}, too"
                lines.append(f"{told}: {some}{', ...' * (len(both) > EXAMPLES)}")
        if not lines:
            return []
        val = ", with --val-fraction 0.1 for a val split" if "val" in of else ""
        again = f"probekit split {quote(str(path))} --join --test-fraction 0.2 --group {quote(name)}{val}"
        return [*lines, f"a score on what training has seen says little; to have each on one side type: {again}"]

    def columns(self, items: Sequence[Item]) -> tuple[NDArray[Any] | None, dict[str, NDArray[Any]]]:
        """Labels and factors of some items, as `probekit.h5.as_columns` takes them."""
        others = {} if self.others is None else self.others.of(items)
        if not items or items[0].label is None:
            return None, others
        if isinstance(items[0].label, bytes):
            joined = b"".join(item.label for item in items if isinstance(item.label, bytes))
            return np.frombuffer(joined, np.uint8).reshape(len(items), -1), others
        labels = np.array([item.label for item in items], np.int64)
        return labels, others | {factor.name: np.array(values, np.uint8)[labels] for factor, values in self.factors}


@dataclass(frozen=True)
class Told:
    """Who hears of the work while it goes on.

    `progress`: called with the images done and in all; `note`: called with a line for the user.
    """

    progress: Callable[[int, int], None]
    note: Callable[[str], None] = lambda line: None


def option(name: str) -> str:
    """How a setting is typed."""
    return f"--{name.replace('_', '-')}"


def file_stamp(path: str | Path) -> str:
    """Size and time of change of a file, or nothing if it is gone."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"


def readable(name: str) -> str:
    """A name as text that can be written: bytes that are no UTF-8, and lone surrogates, become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def choose_splits(splits: Mapping[str, Part], options: Options) -> dict[str, Part]:
    """Splits without the one to be left out, and with val as test, as the options ask.

    A ValueError if there is no such split, or there is a test split already.
    """
    result = dict(splits)
    found = ", ".join(splits)
    if options.skip_split is not None and result.pop(options.skip_split, None) is None:
        raise ValueError(f"expected a {options.skip_split} split, found {found}; leave --skip-split out")
    if options.val_as_test:
        if VAL not in result or TEST in result:
            raise ValueError(f"expected val and no test with --val-as-test, found {found}; leave it out")
        result[TEST] = result.pop(VAL)
    return result


def set_apart(
    splits: dict[str, list[Any]], options: Options, classes: Sequence[str], others: Columns | None = None
) -> dict[str, Sequence[Any]]:
    """Divides train into train, val and test as the options ask, class by class.

    Which items go is decided by a hash of seed, split and key: no machine, order or library version changes it, and an
    added image moves no other. Where images have several labels, all count as one class. With a group, all of its
    items go. A ValueError if the source has such a split of its own, or a class has too few images or groups.
    """
    wanted = {TEST: options.test_fraction or 0.0, VAL: options.val_fraction}
    result = dict(splits)
    for split, fraction in wanted.items():
        if not fraction:
            continue
        if split in splits:
            raise ValueError(
                f"the source has a {split} split of its own, found --{split}-fraction {fraction}; leave it out"
            )
        items = result["train"]
        labels = [item.label if isinstance(item.label, int) else 0 for item in items]
        keys = [item.key for item in items]
        groups = None if others is None or others.group is None else others.of(items)[others.group].tolist()
        single = all(isinstance(item.label, int) for item in items)
        taken = pick(keys, labels, groups, split, fraction, options.seed, classes if single else ())
        result[split] = [item for item, goes in zip(items, taken, strict=True) if goes]
        result["train"] = [item for item, goes in zip(items, taken, strict=True) if not goes]
    return {split: result[split] for split in ("train", VAL, TEST) if split in result}


def read_bytes(path: Path) -> bytes:
    """All of a file.

    An OSError if it cannot be read; a ValueError if it is no regular file, or larger than 1 GiB, be it of holes.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("expected a regular file, found something else")
    if found.st_size > MAX_BYTES:
        raise ValueError(f"expected at most {MAX_BYTES >> 30} GiB, found {found.st_size / (1 << 30):,.1f}")
    return path.read_bytes()


def read_list(path: Path) -> bytes:
    """All of a file that the images depend on, and not one of them.

    A ValueError if it is missing, or no regular file of sane size.
    """
    try:
        return read_bytes(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def read_text(path: Path) -> str:
    """All of a text file in UTF-8; a ValueError if it is missing, or no such file."""
    try:
        return read_list(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"expected text in UTF-8 in {path}, found something else") from error
