"""What image files hold besides the one plain image that OpenCV reads of them, without a word on the rest."""

import io
import logging
import re

from PIL import Image

PNG, JPEG, GIF = b"\x89PNG", b"\xff\xd8", b"GIF8"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # and BigTIFF
PAGES = "several pages in one file; save each as an image of its own"
TURNED = "turned in a way that OpenCV does not read; save it upright"
GREY_ALPHA = "grey with transparency in a way that OpenCV does not read; save it without"
ORIENTATION = 274  # the tag of EXIF
COMMENT = re.compile(rb"#[^\n]*")


def overlooked(data: bytes) -> str:
    """What OpenCV would pass over in a file that it can read; nothing for most.

    Raises:
        Exception: Whatever the readers of GIF and TIFF feel first in a damaged file.
    """
    if data.startswith(PNG):
        head = _before_pixels(data)
        if b"acTL" in head:
            return PAGES
        return GREY_ALPHA if data[25:26] == b"\0" and b"tRNS" in head else ""
    if data.startswith(TIFF):
        return _in_tiff(data)
    if data.startswith(GIF):
        with Image.open(io.BytesIO(data)) as opened:
            return PAGES if getattr(opened, "n_frames", 1) > 1 else ""
    if data[4:11] == b"ftypavi":
        with Image.open(io.BytesIO(data)) as opened:
            if opened.getexif().get(ORIENTATION, 1) != 1:
                return TURNED
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


def is_opaque(data: bytes) -> bool:
    """Whether a file is known to have no transparent pixels: JPEG, or PNG with neither alpha nor a clear colour."""
    if data.startswith(PNG):
        return data[25:26] == b"\x02" and b"tRNS" not in _before_pixels(data)
    return data.startswith(JPEG)


def orientation(data: bytes) -> int:
    """That of EXIF in a PNG or WebP file, 1 (upright) to 8; OpenCV turns them unless it keeps alpha."""
    if not data.startswith(PNG) and data[8:12] != b"WEBP":
        return 1
    exif = Image.Exif()
    with Image.open(io.BytesIO(data)) as opened:
        opened.load()  # it may come after the pixels
        exif.load(opened.info.get("exif", b""))
    return int(exif.get(ORIENTATION, 1))


def is_multiplied(data: bytes) -> bool:
    """Whether OpenCV gives colours of 8 bits times alpha, as libtiff does."""
    return data.startswith(TIFF)


def said_white(data: bytes) -> int | None:
    """The value of white in a PNM file, which says it (P2, P3, P5 and P6); None where OpenCV has made it 255."""
    if data[:1] != b"P" or data[1:2] not in b"2356":
        return None
    white = int(COMMENT.sub(b"", data[:4096]).split(maxsplit=4)[3])
    return None if data[1:2] in b"23" and white < 256 else white  # OpenCV itself brightens text of 8 bits


def _before_pixels(data: bytes) -> bytes:
    """What a PNG file says before its pixels."""
    return data[: data.find(b"IDAT")]
