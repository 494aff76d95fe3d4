"""Photographs that stay photographs: kept as the files that they came in, at most shrunk, with their aspect."""

import re
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from probekit.h5 import CentreCrop
from probekit.h5.encoded import QUALITY
from probekit.h5.photographs import MOST

PIXELS, ORIGINAL, SHORT = "pixels", "original", "short"
USUAL = 224  # px a side of the test crop, if nothing is typed: LCR, section 4.1


@dataclass(frozen=True)
class Kept:
    """How photographs are kept.

    `short`: pixels that the shorter side has at most, larger ones are shrunk; None: as they came. `crop`: the test
    transform.
    """

    short: int | None
    crop: CentreCrop

    def __str__(self) -> str:
        return ORIGINAL if self.short is None else f"{SHORT}:{self.short}"

    def shrunk(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image whose shorter side is no longer, averaged; the same array if nothing is to be done."""
        height, width = image.shape[:2]
        shorter = min(height, width)
        if self.short is None or shorter <= self.short:
            return image
        size = tuple(round(side * self.short / shorter) for side in (width, height))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)

    @property
    def sentence(self) -> str:
        """What the file holds, in words."""
        larger = "" if self.short is None else f", but a shorter side of more than {self.short} px shrunk to that"
        again = "PNG of what came as neither"
        again = again if self.short is None else f"JPEG of quality {QUALITY} of what is shrunk, {again}"
        return f"JPEG and PNG files as they came{larger} ({again})"


def kept_of(store: str | None, crop: str | None, size: int | None) -> Kept | None:
    """What `--store`, `--test-crop` and `--size` say of photographs; None where pixels are kept.

    A ValueError if they say nothing that there is, or do not go together.
    """
    if store in (None, PIXELS):
        if crop is not None:
            raise ValueError(
                f"expected --store original or short:N with --test-crop, found {store or 'no --store'}; "
                "type --store short:512"
            )
        return None
    found = re.fullmatch(rf"{ORIGINAL}|{SHORT}:(\d{{1,5}})", store)
    if not found or (found[1] and not 1 <= int(found[1]) <= MOST):
        raise ValueError(
            f"expected --store {PIXELS}, {ORIGINAL} or {SHORT}:N, N from 1 to {MOST}, found {store!r}; "
            "type --store short:512"
        )
    if crop is not None and size is not None:
        raise ValueError("expected --test-crop or --size, which says its side, found both; leave one out")
    how = CentreCrop.of(size or USUAL) if crop is None else CentreCrop.parse(crop)
    return Kept(int(found[1]) if found[1] else None, how)
