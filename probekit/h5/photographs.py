"""Photographs of differing sizes, kept as JPEG or PNG files: decoded whole, or as the test transform has them.

The test transform is torchvision's Resize and CenterCrop: the shorter side becomes `resize` pixels, by Pillow's
bilinear filter, and of that the middle square of `side` pixels is taken. Whoever reads images of one size gets these.
"""

import re
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probekit.checked import Meta
from probekit.visible import one_line

FORMAT = "photographs"
JPEG = b"\xff\xd8"
MOST = 4096  # pixels a side of what is read: own choice, as for images of one size
SHARE = 0.875  # of the resized image's shorter side that a crop has by default: 224 of 256, as all three papers test
REDUCED = {  # by how many times less a JPEG file can be decoded at once
    1: (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_COLOR),
    2: (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_COLOR_2),
    4: (cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_COLOR_4),
    8: (cv2.IMREAD_REDUCED_GRAYSCALE_8, cv2.IMREAD_REDUCED_COLOR_8),
}

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class CentreCrop:
    """The test transform: the shorter side becomes `resize` pixels, of which the middle `side` by `side` are taken."""

    resize: Annotated[int, Meta(ge=1, le=MOST)]
    side: Annotated[int, Meta(ge=1, le=MOST)]

    def __post_init__(self) -> None:
        if not 1 <= self.side <= self.resize <= MOST:
            raise ValueError(
                f"expected a test crop of 1 to {MOST} pixels, no larger than what it is cut from, found {self}; "
                "type --test-crop 256:224"
            )

    def __str__(self) -> str:
        return f"{self.resize}:{self.side}"

    @property
    def sentence(self) -> str:
        """What it does, in words."""
        return (
            f"test crop {self}: of each photograph, its shorter side made {self.resize} px, the middle {self.side} px"
        )

    @classmethod
    def parse(cls, text: str) -> "CentreCrop":
        """The numbers of "256:224"; a ValueError if it is nothing like it."""
        found = re.fullmatch(r"(\d{1,6}):(\d{1,6})", text)
        if not found:
            raise ValueError(f"expected RESIZE:SIDE as a test crop, found {text!r}; type --test-crop 256:224")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of(cls, side: int) -> "CentreCrop":
        """The usual one of so many pixels a side."""
        return cls(min(MOST, round(side / SHARE)), side)

    def kind(self, channels: int) -> str:
        """What the content hash says of photographs that it makes images of (`probekit.h5.contents`)."""
        return f"{FORMAT} {self} {channels}"

    def box(self, height: int, width: int) -> tuple[float, float, float, float]:
        """What of an image is taken: x0, y0, x1, y1 in its pixels, which need not be whole."""
        short = min(height, width)
        ends = []
        for length in (width, height):
            resized = self.resize if length == short else int(self.resize * length / short)
            first = round((resized - self.side) / 2)  # torchvision rounds so
            ends.append((first * length / resized, (first + self.side) * length / resized))
        (x0, x1), (y0, y1) = ends
        return x0, y0, x1, y1

    def of_image(self, image: Pixels) -> Pixels:
        """The test transform of an image `[H, W]` or `[H, W, 3]`: `[side, side]` or `[side, side, 3]`."""
        how = {"resample": Image.Resampling.BILINEAR, "box": self.box(*image.shape[:2])}
        return np.asarray(Image.fromarray(image).resize((self.side, self.side), **how), np.uint8)  # type: ignore[arg-type]


def decoded(data: bytes, flags: int) -> Pixels | None:
    """The image in a file as OpenCV's flags ask for it, `[H, W]` or RGB `[H, W, 3]`; None if it is none.

    Releases the interpreter lock while it decodes.
    """
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ValueError(f"cannot decode an image: {one_line(error)}") from error
    if image is not None and image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return image  # type: ignore[return-value]


def decode_photograph(data: bytes, size: tuple[int, int], channels: int, reduced: int = 1) -> Pixels:
    """The image in a JPEG or PNG file, upright.

    Returns uint8 `[H, W]`, or RGB `[H, W, 3]`, with sides divided by `reduced` (1, 2, 4 or 8) and rounded up; other
    files than JPEG are not reduced. A ValueError if it is no image of that size. `size`: (H, W) of it, not reduced.
    """
    reduced = reduced if data.startswith(JPEG) else 1
    image = decoded(data, REDUCED[reduced][channels == 3])
    height, width = (-(-side // reduced) for side in size)
    if image is None or image.shape[:2] != (height, width):
        found = "none" if image is None else f"{image.shape[1]}x{image.shape[0]}"
        raise ValueError(f"expected a photograph of {width}x{height}, found {found}")
    return image
