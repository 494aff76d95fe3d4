"""Intensity and colour changes of views: grey jitter, colour jitter, grayscale, blur, solarisation.

Source: ConRec authors' code, `augmentations/contrastive.py` (the SimCLRv2 policy) and their one-channel
variant. The operations are TensorFlow's: contrast pulls each channel to its own mean, saturation and hue
act in HSV. No mean or standard deviation is subtracted anywhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from probekit.views.batched import Taps, apply_where, between, resample

SIGMA = (0.1, 2.0)  # of the blur, px; authors' code
SHARP = 1e-4  # px: of a blur whose kernel is 1 in its middle and 0 elsewhere, exactly
MOST_HUE = 0.5  # of the colour circle either way: all of it
SOLARISE_FROM = 0.5  # BYOL, appendix B
LUMA = (0.2989, 0.5870, 0.1140)  # tf.image.rgb_to_grayscale


@dataclass(frozen=True)
class Colour:
    """A colour policy; the defaults are the ConRec authors' code's, which is SimCLR's at strength 1.

    Attributes:
        brightness: b: multiplied by 1 - b to 1 + b, and never by less than 0.
        contrast: As brightness, around each channel's mean.
        hue: h: turns by up to h of the colour circle, either way.
        p_gray: That it becomes grey.
        p_blur: That it is blurred.
        p_solarise: That it is solarised, after all else.
        always_gray: For one channel contrast and brightness, always, and nothing else (ConRec authors' code); without
            it one channel gets what three get, and colours do not matter.
    """

    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    p_jitter: float = 0.8
    p_gray: float = 0.2
    p_blur: float = 0.5
    p_solarise: float = 0.0
    always_gray: bool = True


PAPER = Colour()


def jittered(colour: Colour, strength: float) -> Colour:
    """A policy whose brightness, contrast, saturation and hue change so many times as much; hue by half at most."""
    names = ("brightness", "contrast", "saturation", "hue")
    scaled = {name: strength * getattr(colour, name) for name in names}
    return replace(colour, **(scaled | {"hue": min(scaled["hue"], MOST_HUE)}))


def change_shapes(n: int, channels: int, colour: Colour) -> list[tuple[int, ...]]:
    """Shapes of the uniform numbers that `changes_of` takes for n views."""
    if channels == 1 and colour.always_gray:
        return [(2, n)]
    return [(3, n), (n,), (n, 4), (n,), (4 if colour.p_solarise else 3, n)]


def changes_of(numbers: Sequence[Tensor], colour: Colour) -> tuple[Tensor, ...]:
    """What `change` takes, of uniform numbers of `change_shapes`.

    Returns tensors of n rows, so that rows of all of them go with rows of the views.
    """
    strengths = (colour.brightness, colour.contrast, colour.saturation)
    scales = [(max(1 - strength, 0.0), 1 + strength) for strength in strengths]
    if len(numbers) == 1:
        contrast, brightness = between(numbers[0].unbind(), [scales[1], scales[0]])
        return contrast, brightness
    of_scales, hue, place, sigma, u = numbers
    *factors, sigma = between([*of_scales, hue, sigma], [*scales, (-colour.hue, colour.hue), SIGMA])
    chances = (colour.p_jitter, colour.p_gray, colour.p_blur, colour.p_solarise)
    jittered, *others = (row < chance for row, chance in zip(u, chances, strict=False))
    return jittered, place, torch.stack(factors, dim=1), others[0], others[1], sigma, *others[2:]


def change(x: Tensor, *drawn: Tensor) -> Tensor:
    """Changes each view as was drawn.

    Returns float32 [N, C, H, W] in [0, 1].

    Args:
        x: float32 [N, C, H, W] views after crop and flip; C is 1 or 3. May be changed in place.
        drawn: From `changes_of` for C channels, N rows each; nothing for views that only stay in [0, 1].
    """
    if not drawn:
        return x.clamp_(0, 1)
    if len(drawn) == 2:
        return adjust_gray(x, *drawn)
    jittered, place, factors, grayed, blurred, sigma, *solarised = drawn
    x = adjust_colour(x, jittered, place, factors)
    if x.shape[1] == 3:
        x = apply_where(x, grayed, to_gray)
    x = apply_where(x, blurred, blur, (sigma * blurred).clamp_(min=SHARP), neutral=True).clamp_(0, 1)
    for chosen in solarised:
        x = apply_where(x, chosen, solarise)
    return x


def adjust_gray(x: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """Contrast around each view's mean, then brightness, then one clip to [0, 1].

    Returns [N, 1, H, W] in [0, 1]. `x`: [N, 1, H, W]; `contrast`: [N] factors; `brightness`: [N] factors.
    """
    x = torch.lerp(x.mean((2, 3), keepdim=True), x, contrast.view(-1, 1, 1, 1))
    return x.mul_(brightness.view(-1, 1, 1, 1)).clamp_(0, 1)


def adjust_colour(x: Tensor, jittered: Tensor, place: Tensor, factors: Tensor) -> Tensor:
    """Applies four colour operations to the jittered views, each in its own order, with a clip to [0, 1] after each.

    Saturation and hue leave the value of HSV alone and do not disturb each other, so those of them that stand between
    the same two of the others are one pass: before, between and after brightness and contrast. Returns [N, C, H, W], in
    [0, 1] up to rounding.

    Args:
        x: [N, C, H, W]; one channel has neither saturation nor hue. May be changed in place.
        jittered: bool [N].
        place: [N, 4] for 0 brightness, 1 contrast, 2 saturation, 3 hue: the smallest comes first.
        factors: [N, 4], column k for operation k; hue in turns.
    """
    x = x.clamp_(0, 1)  # the overshoot of the crop: HSV has no colours beyond
    one, zero = x.new_ones(()), x.new_zeros(())
    scales = torch.where(jittered[:, None], factors[:, :3], one)
    brighter = (place[:, 0] < place[:, 1])[:, None]  # before contrast
    linear = torch.where(brighter, scales[:, :2], scales[:, :2].flip(1))
    around_mean = torch.cat([~brighter, brighter], dim=1)
    if x.shape[1] == 1:
        for number in range(2):
            x = apply_where(x, jittered, _linear, linear[:, number], around_mean[:, number], neutral=True)
        return x
    before = (place[:, :2, None] < place[:, None, 2:]).sum(1)  # of saturation and hue: how many of the two come first
    here = (before[:, :, None] == torch.arange(3, device=x.device)) & jittered[:, None, None]
    saturation = torch.where(here[:, 0], factors[:, 2:3], one)
    turns = torch.where(here[:, 1], factors[:, 3:], zero)
    active = here.any(1)
    by_hsv = partial(_by_hsv, wheel=_wheel(x.device))
    for number in range(3):
        x = apply_where(x, active[:, number], by_hsv, saturation[:, number], turns[:, number], neutral=True)
        if number < 2:
            x = apply_where(x, jittered, _linear, linear[:, number], around_mean[:, number], neutral=True)
    return x


def to_gray(x: Tensor) -> Tensor:
    """The luma of [N, 3, H, W] in all three channels."""
    luma = x[:, :1] * LUMA[0]
    for channel in (1, 2):
        luma = luma.add_(x[:, channel : channel + 1], alpha=LUMA[channel])
    return luma.expand_as(x)


def solarise(x: Tensor) -> Tensor:
    """Inverts the bright half of [0, 1] (BYOL, appendix B: pixels of .5 and above become 1 - x)."""
    return torch.where(x >= SOLARISE_FROM, 1 - x, x)


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with zeros around the image, which darkens its border as in the authors' code.

    The kernel has 2 * radius + 1 taps, radius = (H // 10) / 2 truncated: 13 taps at 128 px, none but the centre under
    20 px. `x`: [N, C, H, W]; `sigma`: [N] standard deviations in px. Returns [N, C, H, W].
    """
    radius = x.shape[2] // 10 // 2
    offset = torch.arange(-radius, radius + 1, dtype=torch.int32, device=x.device)
    kernel = (offset / sigma[:, None]).square_().mul_(-0.5).exp_()
    kernel = kernel / kernel.sum(1, keepdim=True)  # [N, K]
    rows = _window(kernel, offset, x.shape[2])
    return resample(x, rows, rows if x.shape[2] == x.shape[3] else _window(kernel, offset, x.shape[3]))


def _window(kernel: Tensor, offset: Tensor, size: int) -> Taps:
    index = torch.arange(size, dtype=torch.int32, device=kernel.device)[:, None] + offset  # [size, K]
    inside = index.clamp(0, size - 1)
    weights = kernel[:, None] * (index == inside)
    return Taps(inside.expand(len(kernel), *inside.shape), weights)


def _linear(x: Tensor, factor: Tensor, contrast: Tensor) -> Tensor:
    """Scales `x` around 0, or around each channel's mean where `contrast` is 1 and not 0; in [0, 1]."""
    centre = x.mean((2, 3), keepdim=True) * contrast.view(-1, 1, 1, 1)
    return torch.lerp(centre, x, factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def _wheel(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Where red, green and blue count from on the circle of hues, in sixths from one before red; and what of.

    Red and blue count from the opposite colour, green from its own: then the circle's end does not matter. A channel is
    the value plus the chroma times `shift + scale * distance`, the distance in [1, 2].
    """
    centre = torch.arange(4.0, 1.0, -1.0, device=device).view(3, 1, 1)
    opposite = (centre - 3).square_()  # 1, 0, 1
    return centre, 2 * opposite - 1, torch.rsub(opposite, 1, alpha=3)


def _by_hsv(x: Tensor, saturation: Tensor, turns: Tensor, wheel: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Scales S of HSV, clipped at 1, and turns H; the value V stays."""
    red, green, blue = x.chunk(3, dim=1)
    on_cpu = x.device.type == "cpu"  # where some of torch's operators take many times as long as what they stand for
    low, value = (x.amin(1, keepdim=True), x.amax(1, keepdim=True)) if on_cpu else x.aminmax(dim=1, keepdim=True)
    chroma = (value - low).clamp_(min=1e-12)  # of a gray pixel, whose hue does not matter
    # Sixths of the circle from red, [-3, 3]: going up, r first stays 0 while b rises from 0 to 1, then r rises while b
    # stays, then b falls; its sign says which way round.
    b = (green - blue).div_(chroma)
    r = (value - red).div_(chroma)
    absolute = b.abs()
    sixths = torch.addcmul(absolute, r, torch.rsub(absolute, 3, alpha=2)).copysign_(b)
    sixths.add_(6 * turns.view(-1, 1, 1, 1) + 1)
    sixths = sixths.sub_((sixths / 6).floor_(), alpha=6) if on_cpu else sixths.remainder_(6)
    chroma = torch.minimum(chroma * saturation.view(-1, 1, 1, 1), value)  # S = chroma / value
    # Each channel is the value over the two sixths around its own colour, and lower by the chroma over the two around
    # the opposite one.
    centre, scale, shift = wheel
    away = (sixths - centre).abs_().clamp_(1, 2)
    away = away.mul_(scale).add_(shift) if on_cpu else torch.addcmul(shift, scale, away)
    return torch.addcmul(value, chroma, away)
