"""What becomes of each image of a source: pixels of one size, or a file; with masks, and signs of near-duplicates."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from probekit import __version__
from probekit.data.duplicates import Signs, signs_of
from probekit.data.importers.base import Broken, Filed, Item, Masked
from probekit.data.importers.boxed import Boxed, in_photograph, in_square
from probekit.data.importers.images import decode_bytes, has_colour, is_kept, to_channels, to_square
from probekit.data.importers.photographs import Kept
from probekit.data.importers.pixels import Rule, to_8_bits
from probekit.h5 import (
    Objects,
    chunk_rows,
    decode_photograph,
    encode,
)
from probekit.h5.schema import mask_type

Pixels = NDArray[np.uint8]


TASK = 8  # images of one task for a thread, where they are no block's pixels: the threads wait less often


@dataclass(frozen=True)
class Fetched:
    """What became of an item: its pixels or its file, with masks and objects if there are any; or why there is none.

    Of a photograph also `size`, its height and width, and `signs`, if near-duplicates are looked for.
    """

    image: Pixels | bytes | Broken
    masks: NDArray[Any] | None = None
    size: tuple[int, int] | None = None
    signs: Signs | None = None
    objects: Objects | None = None


class NeedsColour(Exception):  # noqa: N818 - not an error: the pass starts again
    """An image with colour came while all were taken for grey."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What every image becomes.

    `channels`: 1 stops at the first image with colour, 3 takes all. `size`: pixels a side, or None for images as they
    are. `encoded`: keep JPEG files in place of pixels; needs a size. `photographs`: keep files of their own sizes;
    needs none. `pixels`: what is black and white; images of other types stop it. `signed`: make the signs by which
    near-duplicates are found. `masks`: how many each image has. `boxed`: whether images have objects.
    """

    channels: int
    size: int | None
    resize: str
    encoded: bool
    compression: str
    pixels: Rule
    photographs: Kept | None = None
    signed: bool = False
    masks: int = 0
    boxed: bool = False

    def identity(self) -> dict[str, Any]:
        """All that a block's bytes depend on, but for the images."""
        return asdict(self) | {"version": __version__, "opencv": cv2.__version__}

    @property
    def task(self) -> int:
        """Images of one task for a thread: a block's pixels, so that they need not be copied into one."""
        return TASK if self.encoded or self.size is None else chunk_rows(self.size, self.size, self.channels)

    def of_all(self, items: Sequence[Item]) -> list[Fetched]:
        """The images of items in this form; pixels of a known size lie in one array, in order."""
        if self.encoded or self.size is None:
            return [self.of(item, None) for item in items]
        shape = (len(items), self.size, self.size) + ((3,) if self.channels == 3 else ())
        rows = np.empty(shape, np.uint8)
        return [self.of(item, row) for item, row in zip(items, rows, strict=True)]

    def of(self, item: Item, out: Pixels | None) -> Fetched:
        """The image of an item in this form, written to `out` if there is one, or why there is none."""
        try:
            data = item.data() if self.photographs and isinstance(item, Filed) else None
            found = item.decode() if data is None else decode_bytes(data)
            image = to_8_bits(found, self.pixels)
            masks = self._masks(item, image) if self.masks else None
            shape = image.shape[0], image.shape[1]
            objects = cast(Boxed, item).objects(shape) if self.boxed else None
        except Broken as broken:
            return Fetched(broken)
        if self.channels == 1 and has_colour(image):
            raise NeedsColour
        if self.photographs is not None:
            kept = self._photograph(data if image is found else None, image, self.photographs, masks)
            assert kept.size is not None
            return kept if objects is None else replace(kept, objects=in_photograph(objects, shape, kept.size))
        if self.size is not None:
            image = to_square(image, self.size, self.resize)
            objects = None if objects is None else in_square(objects, shape, self.size, self.resize)
        image = to_channels(image, self.channels, out)  # the last, when there are fewer pixels
        return Fetched(encode(image) if self.encoded else image, masks, objects=objects)

    def _photograph(self, data: bytes | None, image: Pixels, kept: Kept, masks: NDArray[Any] | None) -> Fetched:
        """A photograph as a file: the one that it came in, `data`, if that has its pixels as they are to be."""
        small = kept.shrunk(image)
        size = small.shape[0], small.shape[1]
        same = data is not None and small is image and is_kept(data) and (image.ndim == 2 or self.channels == 3)
        if not same or data is None:
            pixels = to_channels(small, self.channels)
            data = encode(pixels, lossless=small is image)
        signs = None
        if self.signed:  # of what will be read
            pixels = to_channels(image, self.channels) if same else decode_photograph(data, size, self.channels)
            signs = signs_of([kept.crop.of_image(pixels)])
        return Fetched(data, masks, size, signs)

    def _masks(self, item: Item, image: Pixels) -> NDArray[Any]:
        """The masks of an item as its image will be: inside is where the larger part of a pixel is."""
        bits, kind = cast(Masked, item).masks((image.shape[0], image.shape[1])), mask_type(self.masks)
        if self.size is None and self.photographs is None:
            return bits.astype(kind)
        side = self.photographs.crop.side if self.photographs else self.size or 0
        masks = np.zeros((side, side), kind)
        for bit in np.flatnonzero([(bits >> bit & 1).any() for bit in range(self.masks)]):
            whole = np.asarray((bits >> bit & 1) * 255, np.uint8)
            inside = self.photographs.crop.of_image(whole) if self.photographs else to_square(whole, side, self.resize)
            masks |= (inside > 127).astype(kind) << kind.type(bit)
        return masks
