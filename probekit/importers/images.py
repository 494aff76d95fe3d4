"""One image file to uint8, as OpenCV has it (BGR), to a square, and to grey or RGB."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from probekit.importers.base import Broken

Pixels = NDArray[np.uint8]

# What OpenCV reads in its default build (OpenCV documentation, imread).
_NAMES = "avif bmp dib exr gif hdr jp2 jpe jpeg jpg pbm pfm pgm pic png pnm ppm pxm ras sr tif tiff webp"
SUFFIXES = frozenset(f".{name}" for name in _NAMES.split(" "))
PAPER_WHITE = 255  # what shows through transparent pixels

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # a broken image is our one line, not also OpenCV's


def decode_file(path: Path) -> Pixels:
    """Reads uint8 `[H, W]` or BGR `[H, W, 3]`, upright as its EXIF orientation says, unless it may be transparent.

    16-bit images are scaled to 8 bits. Float images are clipped to [0, 1], where 1 is white, as OpenCV itself does for
    radiance files. Transparent pixels show white paper.

    Raises:
        Broken: If it is no readable image of 8 or 16 bits or finite floats.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Broken(error.strerror or "cannot be read") from error
    if not data:
        raise Broken("the file is empty")
    image = _decode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if image.ndim == 3 and not _is_opaque(data):
        whole = _decode(data, cv2.IMREAD_UNCHANGED)
        image = _on_paper(_to_8_bits(whole)) if whole.ndim == 3 and whole.shape[2] == 4 else image
    return _to_8_bits(image)


def _is_opaque(data: bytes) -> bool:
    """Whether a file is known to have no transparent pixels: JPEG, or PNG with neither alpha nor a clear colour."""
    if data.startswith(b"\x89PNG"):
        return data[25:26] == b"\x02" and b"tRNS" not in data[: data.find(b"IDAT")]
    return data.startswith(b"\xff\xd8")


def _decode(data: bytes, flags: int) -> NDArray[np.generic]:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise Broken(" ".join(str(error).split())) from error
    if image is None or image.size == 0:
        raise Broken("not an image that OpenCV can read")
    return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image


def _to_8_bits(image: NDArray[np.generic]) -> Pixels:
    if image.dtype == np.uint16:
        return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257
    if np.issubdtype(image.dtype, np.floating):
        if not np.isfinite(image).all():
            raise Broken("expected finite pixels, found nan or inf")
        return (image.clip(0, 1) * 255).round().astype(np.uint8)
    if image.dtype != np.uint8:
        raise Broken(f"expected 8 or 16 bits or floats in [0, 1] a pixel, found {image.dtype}")
    return image.astype(np.uint8, copy=False)


def _on_paper(image: Pixels) -> Pixels:
    """BGRA `[H, W, 4]` on white, BGR `[H, W, 3]`."""
    alpha = image[..., 3:].astype(np.uint32)
    mixed = (image[..., :3] * alpha + PAPER_WHITE * (255 - alpha) + 127) // 255
    return mixed.astype(np.uint8)


def to_square(image: Pixels, size: int, resize: str = "crop") -> Pixels:
    """The image at `size` x `size`: each side by area when it shrinks, bilinear when it grows.

    "crop" takes the centre square; "squash" takes all of it, whatever its aspect.
    """
    if resize == "crop":
        height, width = image.shape[:2]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        image = image[top : top + side, left : left + side]
    height, width = image.shape[:2]
    if height > size or width > size:  # only what shrinks: OpenCV would interpolate all if one side grew
        image = np.asarray(cv2.resize(image, (min(width, size), min(height, size)), interpolation=cv2.INTER_AREA))
    if height < size or width < size:
        image = np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR))
    return image


def has_colour(image: Pixels) -> bool:
    """Whether the channels differ anywhere."""
    if image.ndim == 2:
        return False
    blue, green, red = image[..., 0], image[..., 1], image[..., 2]
    return not (np.array_equal(red, green) and np.array_equal(red, blue))


def to_channels(image: Pixels, channels: int, out: Pixels | None = None) -> Pixels:
    """Grey `[H, W]` of an image without colour, or RGB `[H, W, 3]` of any; of grey or BGR.

    Written to `out`, of just that shape, if there is one.
    """
    if channels == 1:
        grey = image if image.ndim == 2 else image[..., 0]
        if out is None:
            return grey
        out[...] = grey
        return out
    code = cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB
    rgb = cv2.cvtColor(image, code, dst=out)
    assert out is None or rgb is out
    return np.asarray(rgb, np.uint8)
