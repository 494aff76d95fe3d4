"""From coverage to grey levels: background and contrast, blur, noise. Geometry is done before."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from statistics import NormalDist

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

QUANTILES = 1 << 16  # of the normal law; noise reaches 4.3 standard deviations


def expose(images: Pixels, keys: NDArray[np.uint32], values: Mapping[str, float], *, scale: float) -> None:
    """All of it in place, as the parameters `PHOTOMETRY` say.

    Args:
        images: uint8 `[n, H, W]`, 0 = background, 255 = ink.
        keys: uint32 `[n]`, of the noise.
        values: of the parameters, by name.
        scale: pixels of this frame in a px at 128.
    """
    if (values["background"], values["contrast"]) != (0.0, 1.0):
        set_levels(images, background=values["background"], contrast=values["contrast"])
    if values["dark"]:
        np.subtract(255, images, out=images)
    if values["blur_sd"]:
        blur(images, sd_px=values["blur_sd"] * scale)
    if values["noise_sd"]:
        add_noise(images, keys, sd=values["noise_sd"])


def set_levels(images: Pixels, *, background: float, contrast: float) -> None:
    """Map coverage 0..255 to grey levels in place.

    Args:
        images: uint8 `[n, H, W]`, 0 = background, 255 = ink.
        background: grey level in [0, 1].
        contrast: in [0, 1], the way from the background to white that the ink goes, so that
            ink = background + contrast * (1 - background) never leaves the grey range.
    """
    lut = _ramp(background, contrast)
    for image in images:
        cv2.LUT(image, lut, dst=image)


def levels(*, background: float, contrast: float) -> tuple[int, int]:
    """Grey levels, 0 to 255, of the background and of ink."""
    lut = _ramp(background, contrast)
    return int(lut[0]), int(lut[255])


def check_ink(values: Mapping[str, float]) -> None:
    """Refuses parameters by name of which no ink can be seen."""
    ground, ink = levels(background=values["background"], contrast=values["contrast"])
    if ground == ink:
        raise ValueError(
            f"expected ink that can be told from its background, found both at grey level {ground} of 255; "
            f"type --set contrast=1"
        )


def _ramp(background: float, contrast: float) -> Pixels:
    """The grey level of each coverage, `[256]`."""
    ramp = background + contrast * (1.0 - background) * np.arange(256) / 255.0
    lut: Pixels = np.rint(ramp * 255.0).astype(np.uint8)
    return lut


def blur(images: Pixels, *, sd_px: float) -> None:
    """Gaussian blur in place; the frame is continued by its border pixels.

    OpenCV's 8-bit filter works in fixed point, so that every machine gives the same pixels.
    """
    side = 2 * int(np.ceil(4.0 * sd_px)) + 1
    for image in images:
        cv2.GaussianBlur(
            image,
            (side, side),
            sigmaX=sd_px,
            sigmaY=sd_px,
            dst=image,
            borderType=cv2.BORDER_REPLICATE,
        )


def add_noise(images: Pixels, keys: NDArray[np.uint32], *, sd: float) -> None:
    """Add Gaussian noise in place, then round and clip to 0..255.

    Args:
        images: uint8 `[n, H, W]`.
        keys: uint32 `[n]`; equal keys give equal noise, whatever the image.
        sd: standard deviation in grey levels of range [0, 1].
    """
    table = (_normal_quantiles() * (255.0 * sd)).astype(np.float32)
    pixel = np.arange(images[0].size, dtype=np.uint32)
    for image, key in zip(images, keys, strict=True):
        noisy = image.reshape(-1) + table[_hash(pixel, key) >> np.uint32(16)]
        image[...] = np.clip(np.rint(noisy), 0, 255).astype(np.uint8).reshape(image.shape)


def _hash(pixel: NDArray[np.uint32], key: np.uint32) -> NDArray[np.uint32]:
    """Mix pixel numbers and a key to uniform 32-bit words.

    Two rounds of the "lowbias32" mixer (C. Wellons, 2018), the key added between them: equal
    pixels under different keys, and the reverse, are unrelated.
    """
    word = _mix(pixel + _mix(np.array([key], np.uint32)))
    return _mix(word ^ key)


def _mix(word: NDArray[np.uint32]) -> NDArray[np.uint32]:
    word = (word ^ (word >> np.uint32(16))) * np.uint32(0x7FEB352D)
    word = (word ^ (word >> np.uint32(15))) * np.uint32(0x846CA68B)
    return word ^ (word >> np.uint32(16))


@lru_cache(maxsize=1)
def _normal_quantiles() -> NDArray[np.float64]:
    """Quantiles of the standard normal law at the middles of QUANTILES equal steps."""
    inverse = NormalDist().inv_cdf
    upper = [inverse((k + 0.5) / QUANTILES) for k in range(QUANTILES // 2, QUANTILES)]
    return np.concatenate((-np.array(upper[::-1]), upper))
