"""Image files that OpenCV does not read, or not as they are meant: HEIC, turned AVIF, AVIF and WebP of builds without.

Pillow reads AVIF and WebP by itself, and HEIC with pillow-heif (`pip install 'pillow-heif>=0.18'`).
"""

import io
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from probekit.data.importers.base import Broken
from probekit.visible import one_line

HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})  # ISO/IEC 23008-12
AVIF = frozenset({b"avif", b"avis"})
ORIENTATION = 274  # the tag of EXIF


def is_pillows(data: bytes) -> bool:
    """Whether a file is one that Pillow is to read."""
    kind = data[8:12] if data[4:8] == b"ftyp" else b""
    if kind in HEIC and not _is_avif(data):
        return True
    if kind in HEIC or kind in AVIF:
        return _without("AVIF") or _orientation(data) != 1
    return data[8:12] == b"WEBP" and data[:4] == b"RIFF" and _without("WEBP")


def read_by_pillow(data: bytes) -> NDArray[Any]:
    """uint8 `[H, W]` or BGR `[H, W, 3]`, upright, transparent pixels on white paper; a Broken if it is no such image.

    Images of more bits come with 8, as Pillow has them.
    """
    if data[8:12] in HEIC and not _is_avif(data):
        _learn_heic()
    try:
        with Image.open(io.BytesIO(data)) as opened:
            if getattr(opened, "n_frames", 1) > 1:
                raise Broken("several pages in one file; save each as an image of its own")
            image = ImageOps.exif_transpose(opened)
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                paper = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(paper, image.convert("RGBA"))
            grey = image.mode in ("1", "L")
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except Broken:
        raise
    except Exception as error:  # readers of damaged files raise what they felt first
        raise Broken(f"not an image that Pillow can read: {one_line(error)}") from error
    return pixels if grey else np.ascontiguousarray(pixels[..., ::-1])


def _is_avif(data: bytes) -> bool:
    """Whether its list of brands has that of AVIF; "mif1" may begin either."""
    return b"avif" in data[8 : min(64, int.from_bytes(data[:4], "big"))]


def _orientation(data: bytes) -> int:
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return int(opened.getexif().get(ORIENTATION, 1))
    except Exception:  # OpenCV says what is wrong with it
        return 1


@cache
def _without(kind: str) -> bool:
    """Whether OpenCV was built without a reader of this kind of file."""
    line = next((line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith(f"{kind}:")), "NO")
    return line.partition(":")[2].strip().startswith("NO")


@cache
def _learn_heic() -> None:
    try:
        import pillow_heif
    except ImportError as error:
        raise Broken("HEIC, which pillow-heif reads; type: pip install 'pillow-heif>=0.18'") from error
    pillow_heif.register_heif_opener()
