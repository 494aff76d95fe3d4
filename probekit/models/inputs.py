"""Which images weights expect: how they are resized, cropped and normalised, as the files beside weights say it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

MODES = ("nearest", "bilinear", "bicubic", "area")
PILLOW = {0: "nearest", 1: "bicubic", 2: "bilinear", 3: "bicubic", 4: "area", 5: "bilinear"}  # 1: Lanczos
WORDS = {"lanczos": "bicubic", "box": "area", "hamming": "bilinear", "random": "bilinear"} | {m: m for m in MODES}
LARGE = 384  # px; ConvNeXt's authors crop nothing from there on
MOST = 4096  # px a side
WIDEST = 2.0  # crop_pct; timm's VOLO has 1.15, so that images stand in a black frame


@dataclass(frozen=True)
class Input:
    """How images come to the size that weights expect.

    Attributes:
        resize: (height, width), or the pixels of the shorter side alone.
        crop: (height, width) that are cut out of the middle then; () for none.
        mode: How pixels are averaged, one of `MODES`; edges are smoothed where an image becomes smaller.
    """

    resize: Sequence[int]
    crop: Sequence[int] = ()
    mode: str = "bicubic"

    def __post_init__(self) -> None:
        """A ValueError for sizes and ways of averaging that there are not."""
        sides = (*self.resize, *self.crop)
        whole = all(type(side) is int and 1 <= side <= MOST for side in sides)
        if len(self.resize) not in (1, 2) or len(self.crop) not in (0, 2) or not whole or self.mode not in MODES:
            raise ValueError(
                f"expected sides of 1 to {MOST} px, averaged as one of {', '.join(MODES)}, found {self.as_dict()}"
            )

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {key: list(value) if key != "mode" else value for key, value in asdict(self).items()}

    def size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of an image after it was resized, before anything is cut off."""
        if len(self.resize) == 2:
            return self.resize[0], self.resize[1]
        short = self.resize[0]
        if height <= width:
            return short, max(1, int(short * width / height))
        return max(1, int(short * height / width)), short

    def seen(self, height: int, width: int) -> tuple[float, float]:
        """Which share of an image's height and width is left when its borders are cut off; above 1 with black ones."""
        size = self.size(height, width)
        crop = self.crop or size
        return crop[0] / size[0], crop[1] / size[1]

    def __call__(self, images: Tensor) -> Tensor:
        """`[B, C, H, W]` in [0, 1], at the size that the weights expect; the borders of too small ones are black."""
        size = self.size(images.shape[2], images.shape[3])
        if size != tuple(images.shape[2:]):
            smooth = {"align_corners": False, "antialias": True} if self.mode.startswith("bi") else {}
            images = F.interpolate(images, size, mode=self.mode, **smooth).clamp(0, 1)
        if not self.crop:
            return images
        for side, wanted in ((2, self.crop[0]), (3, self.crop[1])):
            over = images.shape[side] - wanted
            if over > 0:
                images = images.narrow(side, round(over / 2), wanted)
            elif over < 0:
                before, after = -over // 2, -over - (-over // 2)
                images = F.pad(images, (0, 0, before, after) if side == 2 else (before, after, 0, 0))
        return images

    def whole(self, maps: Tensor, height: int, width: int) -> Tensor:
        """Maps `[B, h, w]` of what is left of (height, width) px, on the whole image: zeros where borders are cut off.

        What lies on black borders is left out. Unchanged where nothing is cut off or added.
        """
        shares = self.seen(height, width)
        if shares == (1.0, 1.0):
            return maps
        seen = [max(1, round(side * share)) for side, share in zip((height, width), shares, strict=True)]
        inner = F.interpolate(maps[:, None], seen, mode="bilinear", align_corners=False)[:, 0]
        top, left = (height - seen[0]) // 2, (width - seen[1]) // 2
        return F.pad(inner, (left, width - seen[1] - left, top, height - seen[0] - top))

    def __str__(self) -> str:
        sides = "x".join(map(str, self.resize)) if len(self.resize) == 2 else f"a shorter side of {self.resize[0]}"
        cut = f", of which the middle {self.crop[0]}x{self.crop[1]} is taken" if self.crop else ""
        return f"resized to {sides} px ({self.mode}){cut}"


@dataclass(frozen=True)
class Expected:
    """What a folder of weights says of images: how they come to their size, mean and deviation; None where not."""

    input: Input | None = None
    normalise: dict[str, list[float]] | None = None


def of_transformers(config: Mapping[str, Any], where: str) -> Expected:
    """By a preprocessor_config.json of Hugging Face's transformers."""
    if config.get("do_rescale", True) is not True or config.get("rescale_factor", 1 / 255) not in (
        1 / 255,
        0.00392156862745098,
    ):
        raise ValueError(
            f"expected images scaled to [0, 1] in {where}, found do_rescale or a rescale_factor of another kind"
        )
    mean, std = config.get("image_mean"), config.get("image_std")
    normalise = _normalise(mean, std, where) if config.get("do_normalize", True) and mean is not None else None
    size = config.get("size")
    if not config.get("do_resize", True) or size is None:
        return Expected(None, normalise)
    mode = _mode(PILLOW, config.get("resample", 2))
    cuts = bool(config.get("do_center_crop", False))
    crop = _sides(config.get("crop_size", size), where) if cuts else ()
    if isinstance(size, dict) and "shortest_edge" in size:
        short = size["shortest_edge"]
        share = config.get("crop_pct")
        if share and type(short) is int:  # ConvNeXt's
            _check_share(share, where)
            if short >= LARGE:
                return Expected(Input((short, short), (), mode), normalise)
            return Expected(Input((int(short / share),), (short, short), mode), normalise)
        return Expected(Input((short,), crop, mode), normalise)
    if type(size) is int:  # of older files: the shorter side where something is cut off, else both
        return Expected(Input((size,) if cuts else (size, size), crop, mode), normalise)
    return Expected(Input(_sides(size, where), crop, mode), normalise)


def of_timm(config: Mapping[str, Any], where: str) -> Expected:
    """By timm's `pretrained_cfg`."""
    normalise = _normalise(config.get("mean"), config.get("std"), where)
    size = config.get("input_size")
    if not isinstance(size, list | tuple) or len(size) != 3:
        return Expected(None, normalise)
    if not all(type(side) is int for side in size):
        raise ValueError(f"expected an input_size of whole numbers in {where}, found {size!r}")
    share, mode = config.get("crop_pct") or 1.0, _mode(WORDS, config.get("interpolation") or "bicubic")
    _check_share(share, where)
    sides = [math.floor(side / share) for side in size[1:]]
    whole = config.get("crop_mode") == "squash" or sides[0] != sides[1]
    return Expected(Input(sides if whole else sides[:1], size[1:], mode), normalise)


def of_open_clip(config: Mapping[str, Any], size: int, where: str) -> Expected:
    """By the `preprocess_cfg` of an open_clip_config.json, and the size of images that stands beside it."""
    normalise = _normalise(config.get("mean"), config.get("std"), where)
    mode = _mode(WORDS, config.get("interpolation") or "bicubic")
    if config.get("resize_mode") == "squash":
        return Expected(Input((size, size), (), mode), normalise)
    return Expected(Input((size,), (size, size), mode), normalise)


def _mode(known: Mapping[Any, str], said: Any) -> str:
    """One of `MODES`; "" for another, which `Input` refuses."""
    return known.get(said, "") if isinstance(said, str | int) else ""


def _check_share(share: Any, where: str) -> None:
    if not isinstance(share, int | float) or not 0 < share <= WIDEST:
        raise ValueError(f"expected a crop_pct above 0 and of at most {WIDEST:g} in {where}, found {share!r}")


def _sides(size: Any, where: str) -> tuple[int, int]:
    if type(size) is int:
        return size, size
    if isinstance(size, dict) and {"height", "width"} <= size.keys():
        return size["height"], size["width"]
    raise ValueError(f"expected height and width, or shortest_edge, as a size in {where}, found {size!r}")


def _normalise(mean: Any, std: Any, where: str) -> dict[str, list[float]]:
    """A ValueError if they are not three numbers each, deviations above 0."""
    for values in (mean, std):
        three = isinstance(values, list | tuple) and len(values) == 3
        if not three or not all(type(value) in (int, float) for value in values):
            raise ValueError(f"expected a mean and a deviation of three channels in {where}, found {values!r}")
    if min(std) <= 0:
        raise ValueError(f"expected deviations above 0 in {where}, found {std}")
    return {"mean": [float(value) for value in mean], "std": [float(value) for value in std]}
