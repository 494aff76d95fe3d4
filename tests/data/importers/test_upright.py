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
def test_an_avif_is_upright(tmp_path: Path, alpha: int, orientation: int) -> None:
    """Pillow reads those that are turned, as OpenCV does not turn them."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    photograph(alpha).save(tmp_path / "a.avif", exif=exif, quality=100)
    with Image.open(tmp_path / "a.avif") as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGBA")
    white = Image.new("RGBA", upright.size, "white")
    white.alpha_composite(upright)
    found = decode_file(tmp_path / "a.avif")[..., ::-1]
    np.testing.assert_allclose(found.astype(int), np.asarray(white.convert("RGB")), atol=2)
    assert found.shape == ((20, 12, 3) if orientation == 6 else (12, 20, 3))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_heic_is_read_by_pillow(tmp_path: Path, mode: str) -> None:
    """By its bytes, whatever it is called: telephones call it .jpg, too."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    image = photograph(255).convert(mode)
    image.save(tmp_path / "a.heic", quality=100)
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.heic").read_bytes())
    for name in ("a.heic", "a.jpg"):
        found = decode_file(tmp_path / name)
        rgb = found[..., ::-1] if found.ndim == 3 else np.repeat(found[..., None], 3, axis=2)
        np.testing.assert_allclose(rgb.astype(int), np.asarray(image.convert("RGB"), int), atol=6)


def test_a_damaged_heic_is_a_broken_image(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    photograph(255).convert("RGB").save(tmp_path / "a.heic")
    (tmp_path / "a.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:-300])
    with pytest.raises(Broken, match="not an image that Pillow can read"):
        decode_file(tmp_path / "a.heic")
