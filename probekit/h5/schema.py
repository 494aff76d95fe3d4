"""Names, shapes and settings of the dataset file, shared by reader and writer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from generators.certificates import Certificate
from probekit.checked import Meta
from probekit.files import name_of
from probekit.h5.photographs import CentreCrop

if TYPE_CHECKING:
    from probekit.h5.contents import Contents

SCHEMA = "probekit-dataset/5"
SUFFIX = ".h5"
SPLITS = ("train", "val", "test")
COMPRESSIONS = ("gzip", "lzf", "none")

CHUNK_IMAGES = 64  # measured: larger chunks write no faster, smaller ones compress and read slower
CHUNK_BYTES = 4 << 20  # bounds memory for large images: 4 MiB is 64 images of 256 x 256
COLUMN_ROWS = 4096  # rows in a chunk of labels and factors: 32 KiB of 8-byte values
MASK_BITS = 32  # masks are uint8, or uint32 where 8 bits are too few
ABSENT, PRESENT, DIFFICULT = 0, 1, 255  # values of multi-label labels; difficult: masked in losses and scores
EVIDENCE = "evidence:"  # begins the name of the mask of what a class factor changes


@dataclass(frozen=True)
class SplitInfo:
    """What a split holds.

    `multilabel`: whether an image may have several classes: labels are then uint8 `[N, K]`; `encoded`: whether the
    images are kept as files, not as pixels; `crop`: of photographs of differing sizes, the test transform that makes
    them images of `height` and `width`; `boxed`: whether images have objects, with boxes and classes; `instances`:
    whether these have masks.
    """

    name: str
    n: int
    height: int
    width: int
    channels: int
    labelled: bool
    masked: bool
    factors: tuple[str, ...]
    multilabel: bool = False
    encoded: bool = False
    crop: CentreCrop | None = None
    boxed: bool = False
    instances: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image: (H, W), or (H, W, 3) in colour."""
        return (self.height, self.width) if self.channels == 1 else (self.height, self.width, self.channels)

    def seen_by(self, crop: CentreCrop) -> "SplitInfo":
        """The same photographs through another test transform; their masks are those of the file's own."""
        return replace(self, height=crop.side, width=crop.side, crop=crop, masked=False)


@dataclass(frozen=True)
class Shard:
    """Which part of a dataset a file is.

    Attributes:
        index: 1 to count.
        count: How many there are.
        planned: By split, what is divided among all of them: base images of a generator, images of a source. Broken
            ones may be missing from the rows in the end.
    """

    index: Annotated[int, Meta(ge=1)]
    count: Annotated[int, Meta(ge=1)]
    planned: dict[str, int]

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def file(self) -> str:
        """The name of its file: names sort as the shards do."""
        return f"{self.index:0{len(str(self.count))}}-of-{self.count}.h5"

    @property
    def ranges(self) -> dict[str, range]:
        """By split, what of the planned is its share: all splits, one behind the other, are cut into equal parts."""
        total = sum(self.planned.values())
        begin, end = (total * k // self.count for k in (self.index - 1, self.index))
        found, before = {}, 0
        for name, n in self.planned.items():
            own = range(max(begin - before, 0), min(end - before, n))
            if own:
                found[name] = own
            before += n
        return found


@dataclass(frozen=True)
class DatasetInfo:
    """What a dataset holds, in one file or in shards; `parameters` of an import says where the images came from.

    Attributes:
        generator: The generator's name, or "" for imported images.
        parameters: Every parameter of the generator, or the settings of the import.
        classes: Class names; label k is classes[k]. Empty for unlabelled images.
        factors: One dictionary for each factor column: name, kind, range, unit, law.
        mask_names: Bit k of a mask is mask_names[k].
        content_hash: Hex SHA-256 of the contents.
        splits: By name, in the order train, val, test.
        certificate: What is proved of the images (docs/generators.md), or None.
        shard: Which part of a dataset it is, where it is a part.
        contents: By split, what the content hash is made of.
        files: The file, or all shards in order.
    """

    path: Path
    schema: str
    generator: str
    parameters: dict[str, Any]
    seed: int
    classes: tuple[str, ...]
    factors: tuple[dict[str, Any], ...]
    mask_names: tuple[str, ...]
    version: str
    content_hash: str
    splits: dict[str, SplitInfo]
    certificate: Certificate | None = None
    shard: Shard | None = None
    contents: dict[str, "Contents"] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """What it is called: the name of the file, folder or pattern without its ending, or of what that stands in."""
        return name_of(self.path)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def first(self) -> SplitInfo:
        """The first split there is: shape, channels and storage are the same in all."""
        return next(iter(self.splits.values()))

    @property
    def header(self) -> "Header":
        """What the attributes of a copy say."""
        return Header(**{each.name: getattr(self, each.name) for each in fields(Header)})

    @property
    def multilabel(self) -> bool:
        """Whether an image may have several classes; the same in all labelled splits."""
        return any(split.multilabel for split in self.splits.values())


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the attributes say; see `DatasetInfo`."""

    generator: str
    parameters: Mapping[str, Any]
    seed: int
    classes: Sequence[str]
    factors: Sequence[Mapping[str, Any]]
    mask_names: Sequence[str]
    certificate: Mapping[str, Any] | None = None


def check_compression(compression: str) -> None:
    """Refuses one that there is not."""
    if compression not in COMPRESSIONS:
        raise ValueError(f"expected a compression of {', '.join(COMPRESSIONS)}, found {compression!r}")


def mask_type(names: int) -> np.dtype[Any]:
    """NumPy's type of masks of so many names."""
    return np.dtype("u1" if names <= 8 else "<u4")


def chunk_rows(height: int, width: int, channels: int) -> int:
    """Images in a chunk: 64, or fewer so that a chunk stays under 4 MiB."""
    return max(1, min(CHUNK_IMAGES, CHUNK_BYTES // (height * width * channels)))
