"""scikit-learn's handwritten digits, 1797 images of 8 x 8: an example of real images that needs no download.

The test part of the UCI set "Optical Recognition of Handwritten Digits", Alpaydin and Kaynak, 1998.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probekit.data.importers.official.base import Choices, Listing, Official

INK = 16  # the largest value of a pixel there


@dataclass(frozen=True, slots=True)
class Digit:
    """An image in memory."""

    key: str
    label: int
    image: NDArray[np.uint8]

    def stamp(self) -> str:
        """It has no file that could change."""
        return ""

    def decode(self) -> NDArray[np.uint8]:
        """uint8 `[8, 8]`."""
        return self.image


def open_lists(root: Path, choices: Choices) -> Listing:
    """All images as train."""
    from sklearn.datasets import load_digits

    content = load_digits()
    images = np.rint(content.images * (255 / INK)).astype(np.uint8)
    rows = enumerate(zip(images, content.target, strict=True))
    digits = [Digit(f"{i:04}", int(label), image) for i, (image, label) in rows]
    return Listing(tuple("0123456789"), {"train": digits}, side=8)


OFFICIAL = Official(
    about="scikit-learn's handwritten digits; no download",
    open=open_lists,
    sizes={"train": 1797},
    classes=10,
    needs="",
    size=32,  # own choice: 4 x 8 pixels, and small enough for two CPU cores
    channels=1,
    test_fraction=0.2,  # own choice: there is no official test split
)
