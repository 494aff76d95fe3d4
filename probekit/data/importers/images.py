"""One image file to numbers, as OpenCV has them (BGR), to a square, and to grey or RGB; what OpenCV passes over."""

import io
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from probekit.data.importers.base import Broken, Label, file_stamp, read_bytes
from probekit.data.importers.pillow import ORIENTATION, is_pillows, read_by_pillow
from probekit.visible import one_line

Pixels = NDArray[np.uint8]

# What OpenCV reads in its default build (OpenCV documentation, imread).
_NAMES = "avif bmp dib exr gif hdr jfif jp2 jpe jpeg jpg pbm pfm pgm pic png pnm ppm pxm ras sr tif tiff webp"
_NAMES += " heic heif"  # which pillow-heif reads
SUFFIXES = frozenset(f".{name}" for name in _NAMES.split(" "))
OPAQUE = {"uint16": 65535}  # alpha of pixels that hide the paper; 1 for floats
PAPER_WHITE = 255  # what shows through transparent pixels

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # a broken image is our one line, not also OpenCV's

PNG, JPEG, GIF = b"\x89PNG", b"\xff\xd8", b"GIF8"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # and BigTIFF
PAGES = "several pages in one file; save each as an image of its own"
GREY_ALPHA = "grey with transparency in a way that OpenCV does not read; save it without"
COMMENT = re.compile(rb"#[^\n]*")


@dataclass(frozen=True, slots=True)
class File:
    """An image file.

    `key`: its path within the source; `banner`: rows at its lower edge that are no part of the photograph.
    """

    key: str
    label: Label
    path: str
    banner: int = 0

    def stamp(self) -> str:
        """Changes when the file does."""
        return file_stamp(self.path)

    def decode(self) -> NDArray[Any]:
        """Finite numbers `[H, W]` or BGR `[H, W, 3]`."""
        image = decode_file(Path(self.path))
        return image[: len(image) - self.banner]

    def data(self) -> bytes | None:
        """The bytes of the file; None where `decode` gives less than all of it."""
        return None if self.banner else read_file(Path(self.path))


def read_file(path: Path) -> bytes:
    """The bytes of an image file; a Broken if it cannot be read."""
    try:
        return read_bytes(path)
    except (OSError, ValueError) as error:
        raise Broken(getattr(error, "strerror", None) or str(error)) from error


def decode_file(path: Path) -> NDArray[Any]:
    """Reads numbers `[H, W]` or BGR `[H, W, 3]`, upright as its EXIF orientation says.

    Numbers are as the file has them: bytes, more bits, or floats. Transparent pixels show white paper. A Broken if it
    is no readable image, or more than OpenCV reads of it, or it holds numbers that are not finite.
    """
    return decode_bytes(read_file(path))


def decode_bytes(data: bytes) -> NDArray[Any]:
    """Likewise of the bytes of a file."""
    if not data:
        raise Broken("the file is empty")
    if is_pillows(data):
        return read_by_pillow(data)
    image = _decode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    try:
        rest, white = _overlooked(data), _said_white(data)
        whole = image if image.ndim == 2 or rest or _is_opaque(data) else _decode(data, cv2.IMREAD_UNCHANGED)
        if whole.ndim == 3 and whole.shape[2] == 4:
            image = _on_paper(_upright(whole, _orientation(data)), multiplied=data.startswith(TIFF))
    except Broken:
        raise
    except Exception as error:  # readers of damaged files raise what they felt first
        raise Broken(f"its header cannot be read: {one_line(error)}") from error
    if rest:
        raise Broken(rest)
    if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
        raise Broken("expected finite pixels, found nan or inf")
    if white is None:
        return image
    most = np.iinfo(image.dtype).max
    return image if white == most else np.rint(image * (most / white)).clip(0, most).astype(image.dtype)


def _decode(data: bytes, flags: int) -> NDArray[Any]:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise Broken(one_line(error)) from error
    if image is None or image.size == 0:
        raise Broken("not an image that OpenCV can read")
    return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image


def _upright(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """An image as its EXIF orientation says: first its sides change places, then it is flipped."""
    image = image.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else image
    image = image[::-1] if orientation in (3, 4, 7, 8) else image
    return np.ascontiguousarray(image[:, ::-1] if orientation in (2, 3, 6, 7) else image)


def _on_paper(image: NDArray[Any], multiplied: bool) -> NDArray[Any]:
    """BGRA `[H, W, 4]` on white, BGR `[H, W, 3]`; libtiff has multiplied colours of 8 bits by alpha already."""
    if image.dtype != np.uint8:  # which number is white is not known before all images are
        if (image[..., 3] < OPAQUE.get(image.dtype.name, 1)).any():
            raise Broken("transparent pixels in more than 8 bits; save it with 8 bits, or without transparency")
        return image[..., :3]
    alpha = image[..., 3:].astype(np.uint32)
    shown = image[..., :3].astype(np.uint32) * (255 if multiplied else alpha)
    mixed = (shown + PAPER_WHITE * (255 - alpha) + 127) // 255
    return mixed.clip(0, 255).astype(np.uint8)


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
    return not all(np.array_equal(image[..., 0], image[..., other]) for other in (1, 2))


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


def _overlooked(data: bytes) -> str:
    """What OpenCV would pass over in a file that it can read; nothing for most. A damaged file raises anything."""
    if data.startswith(PNG):
        head = data[: data.find(b"IDAT")]
        if b"acTL" in head:
            return PAGES
        return GREY_ALPHA if data[25:26] == b"\0" and b"tRNS" in head else ""
    if data.startswith(TIFF):
        return _in_tiff(data)
    if data.startswith(GIF):
        with Image.open(io.BytesIO(data)) as opened:
            return PAGES if getattr(opened, "n_frames", 1) > 1 else ""
    animated = (data[8:16] == b"WEBPVP8X" and data[20] & 2) or data[4:12] == b"ftypavis"
    return PAGES if animated else ""


def _in_tiff(data: bytes) -> str:
    from tifffile import TiffFile, TiffPage  # takes a while to load, and few have such files

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with TiffFile(io.BytesIO(data)) as file:
        first = file.pages.first
        assert isinstance(first, TiffPage)
        if len(file.pages) > 1 or first.imagedepth > 1:
            return PAGES
        if first.photometric in (0, 1) and first.samplesperpixel > 1:
            return GREY_ALPHA if first.samplesperpixel == 2 else f"{first.samplesperpixel} channels that are no colours"
        if first.photometric == 0 and first.bitspersample > 8:
            return "white is 0 in it, which OpenCV reads as black; save it the other way"
        if first.photometric == 2 and first.samplesperpixel > 3 and (not first.extrasamples or 0 in first.extrasamples):
            return "a fourth channel that is not said to be transparency; save it as that, or without it"
        if first.planarconfig == 2 and first.samplesperpixel > 1 and first.bitspersample > 8:
            return "a plane for each colour in more than 8 bits; save it with the colours of each pixel together"
    return ""


def is_kept(data: bytes) -> bool:
    """Whether a readable file can be kept as it is: a JPEG, or a PNG of grey or colours in 8 bits, all opaque."""
    plain = data.startswith(PNG) and data[24:25] == b"\x08" and data[25:26] in (b"\0", b"\x02")
    return data.startswith(JPEG) or (plain and b"tRNS" not in data[: data.find(b"IDAT")])


def _is_opaque(data: bytes) -> bool:
    """Whether a file is known to have no transparent pixels: JPEG, or PNG with neither alpha nor a clear colour."""
    if data.startswith(PNG):
        return data[25:26] == b"\x02" and b"tRNS" not in data[: data.find(b"IDAT")]
    return data.startswith(JPEG)


def _orientation(data: bytes) -> int:
    """That of EXIF in a PNG or WebP file, 1 (upright) to 8; OpenCV turns them unless it keeps alpha."""
    if not data.startswith(PNG) and data[8:12] != b"WEBP":
        return 1
    exif = Image.Exif()
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()  # it may come after the pixels
        exif.load(opened.info.get("exif", b""))
    return int(exif.get(ORIENTATION, 1))


def _said_white(data: bytes) -> int | None:
    """The value of white in a PNM file, which says it (P2, P3, P5 and P6); None where OpenCV has made it 255."""
    if data[:1] != b"P" or data[1:2] not in b"2356":
        return None
    white = int(COMMENT.sub(b"", data[:4096]).split(maxsplit=4)[3])
    return None if data[1:2] in b"23" and white < 256 else white  # OpenCV itself brightens text of 8 bits
