"""Images are upright as their EXIF orientation says, transparent or not.

Alone: pytest tests/data/importers/test_upright.py
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from probekit.data.importers import Broken
from probekit.data.importers.images import decode_file

ORIENTATION = 274  # the tag of EXIF


def photograph(alpha: int) -> Image.Image:
    """Few colours, so that WebP keeps them; other in every corner, and partly clear or not."""
    pixels = np.zeros((12, 20, 4), np.uint8)
    pixels[:6, :10], pixels[:6, 10:], pixels[6:, :10], pixels[6:, 10:] = 40, 90, 140, 200
    pixels[..., 3] = 255
    pixels[2:5, 3:9, 3] = alpha
    return Image.fromarray(pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("alpha", [255, 100, 0])
@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
def test_transparent_images_are_upright(tmp_path: Path, kind: str, alpha: int, orientation: int) -> None:
    """As PIL turns them, on white as PIL pastes them."""
    image = photograph(alpha)
    image.getexif()[ORIENTATION] = orientation
    how: dict[str, Any] = {"lossless": True, "exact": True} if kind == "webp" else {}
    image.save(tmp_path / f"a.{kind}", exif=image.getexif(), **how)
    upright = ImageOps.exif_transpose(image)
    white = Image.new("RGBA", upright.size, "white")
    white.alpha_composite(upright)
    found = decode_file(tmp_path / f"a.{kind}")[..., ::-1]
    np.testing.assert_allclose(found, np.asarray(white.convert("RGB")), atol=1)


@pytest.mark.parametrize(("said", "grey"), [("unassalpha", 200), ("assocalpha", 78), ("unspecified", 200)])
def test_tiffs_say_whether_their_colours_are_multiplied_by_alpha(tmp_path: Path, said: str, grey: int) -> None:
    """200 at an opacity of 100 of 255 is 78, and on white 78 + 155."""
    pixels = np.full((6, 7, 4), grey, np.uint8)
    pixels[..., 3] = 100
    tifffile.imwrite(tmp_path / "a.tiff", pixels, photometric="rgb", extrasamples=[said])
    if said == "unspecified":
        with pytest.raises(Broken, match="a fourth channel that is not said to be transparency"):
            decode_file(tmp_path / "a.tiff")
    else:
        np.testing.assert_array_equal(decode_file(tmp_path / "a.tiff"), np.full((6, 7, 3), 233))


@pytest.mark.parametrize("alpha", [255, 100])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_an_avif_that_is_turned_is_refused(tmp_path: Path, alpha: int, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    photograph(alpha).save(tmp_path / "a.avif", exif=exif)
    if orientation == 1:
        assert decode_file(tmp_path / "a.avif").shape == (12, 20, 3)
    else:
        with pytest.raises(Broken, match="turned in a way that OpenCV does not read; save it upright"):
            decode_file(tmp_path / "a.avif")
