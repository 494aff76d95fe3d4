"""Intensity and colour changes of views: grey jitter, colour jitter, grayscale, blur, solarisation.

Source: ConRec authors' code, `augmentations/contrastive.py` (the SimCLRv2 policy) and their one-channel
variant. The operations are TensorFlow's: contrast pulls each channel to its own mean, saturation and hue
act in HSV. No mean or standard deviation is subtracted anywhere.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from probekit.batched import Taps, apply_where_, resample, uniform

SIGMA = (0.1, 2.0)  # of the blur, px; authors' code
SOLARISE_FROM = 0.5  # BYOL, appendix B
LUMA = (0.2989, 0.5870, 0.1140)  # tf.image.rgb_to_grayscale


@dataclass(frozen=True)
class Colour:
    """A colour policy; the defaults are the ConRec authors' code's, which is SimCLR's at strength 1.

    Attributes:
        brightness: b: multiplied by 1 - b to 1 + b, and never by less than 0.
        contrast: As brightness, around each channel's mean.
        saturation: As brightness.
        hue: h: turns by up to h of the colour circle, either way.
        p_jitter: Probability that a view is jittered.
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


def factors_of(strength: float) -> tuple[float, float]:
    """Bounds of the factors of brightness, contrast or saturation."""
    return max(1 - strength, 0.0), 1 + strength


def draw_changes(n: int, channels: int, generator: torch.Generator, colour: Colour) -> tuple[Tensor, ...]:
    """Draws what happens to each of n views.

    Returns:
        What `change` takes: tensors of n rows, so that rows of all of them go with rows of the views.
    """
    scales = [factors_of(strength) for strength in (colour.brightness, colour.contrast, colour.saturation)]
    numbers = uniform((2 if channels == 1 and colour.always_gray else 3, n), generator)
    if len(numbers) == 2:
        (contrast, brightness), (of_brightness, of_contrast, _) = numbers, scales
        return _between(contrast, of_contrast), _between(brightness, of_brightness)
    factors = [_between(u, bounds) for u, bounds in zip(numbers, scales, strict=True)]
    hue = uniform((n,), generator, -colour.hue, colour.hue)
    order = uniform((n, 4), generator).argsort(1)
    sigma = uniform((n,), generator, *SIGMA)
    chances = [colour.p_jitter, colour.p_gray, colour.p_blur, *([colour.p_solarise] if colour.p_solarise else [])]
    u = uniform((len(chances), n), generator)
    jittered, *others = (row < chance for row, chance in zip(u, chances, strict=True))
    return jittered, order, torch.stack([*factors, hue], dim=1), others[0], others[1], sigma, *others[2:]


def _between(u: Tensor, bounds: tuple[float, float]) -> Tensor:
    low, high = bounds
    return low + (high - low) * u


def change(x: Tensor, *drawn: Tensor) -> Tensor:
    """Changes each view as `draw_changes` drew.

    Args:
        x: float32 [N, C, H, W] views after crop and flip; C is 1 or 3. May be changed in place.
        drawn: From `draw_changes` for C channels, N rows each; nothing for views that only stay in [0, 1].

    Returns:
        float32 [N, C, H, W] in [0, 1].
    """
    if not drawn:
        return x.clamp_(0, 1)
    if len(drawn) == 2:
        return adjust_gray(x, *drawn)
    jittered, order, factors, grayed, blurred, sigma, *solarised = drawn
    apply_where_(x, jittered, adjust_colour, order, factors)
    if x.shape[1] == 3:
        apply_where_(x, grayed, to_gray)
    x.clamp_(0, 1)
    apply_where_(x, blurred, blur, sigma)
    x.clamp_(0, 1)
    for chosen in solarised:
        apply_where_(x, chosen, solarise)
    return x


def adjust_gray(x: Tensor, contrast: Tensor, brightness: Tensor) -> Tensor:
    """Contrast around each view's mean, then brightness, then one clip to [0, 1].

    Args:
        x: [N, 1, H, W].
        contrast: [N] factors.
        brightness: [N] factors.

    Returns:
        [N, 1, H, W] in [0, 1].
    """
    return (_contrast(x, contrast) * brightness.view(-1, 1, 1, 1)).clamp_(0, 1)


def adjust_colour(x: Tensor, order: Tensor, factors: Tensor) -> Tensor:
    """Applies the four colour operations, each view in its own order, with a clip to [0, 1] after each.

    Args:
        x: [N, C, H, W]; one channel has neither saturation nor hue.
        order: int64 [N, 4], a permutation of 0 brightness, 1 contrast, 2 saturation, 3 hue in each row.
        factors: [N, 4], column k for operation k; hue in turns.

    Returns:
        [N, C, H, W] in [0, 1].
    """
    x = x.clone()
    operations = (_brightness, _contrast, _saturation, _hue)[: 4 if x.shape[1] == 3 else 2]
    for step in range(4):
        for k, operation in enumerate(operations):
            apply_where_(x, order[:, step] == k, operation, factors[:, k])
        x.clamp_(0, 1)
    return x


def to_gray(x: Tensor) -> Tensor:
    """The luma of [N, 3, H, W] in all three channels."""
    luma = torch.zeros_like(x[:, :1])
    for channel, weight in enumerate(LUMA):
        luma = luma.add(x[:, channel : channel + 1], alpha=weight)
    return luma.expand_as(x)


def solarise(x: Tensor) -> Tensor:
    """Inverts the bright half of [0, 1] (BYOL, appendix B: pixels of .5 and above become 1 - x)."""
    return torch.where(x >= SOLARISE_FROM, 1 - x, x)


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with zeros around the image, which darkens its border as in the authors' code.

    The kernel has 2 * radius + 1 taps, radius = (H // 10) / 2 truncated: 13 taps at 128 px, none but the
    centre under 20 px.

    Args:
        x: [N, C, H, W].
        sigma: [N] standard deviations in px.

    Returns:
        [N, C, H, W].
    """
    radius = x.shape[2] // 10 // 2
    offset = torch.arange(-radius, radius + 1, device=x.device)
    kernel = torch.exp(-(offset**2) / (2 * sigma[:, None] ** 2))
    kernel = kernel / kernel.sum(1, keepdim=True)  # [N, K]
    rows, columns = (_window(kernel, offset, size) for size in x.shape[2:])
    return resample(x, rows, columns)


def _window(kernel: Tensor, offset: Tensor, size: int) -> Taps:
    index = torch.arange(size, device=kernel.device)[:, None] + offset  # [size, K]
    inside = (index >= 0) & (index < size)
    index = index.clamp(0, size - 1).expand(len(kernel), *index.shape)
    return Taps(index, kernel[:, None] * inside)


def _brightness(x: Tensor, factor: Tensor) -> Tensor:
    return x * factor.view(-1, 1, 1, 1)


def _contrast(x: Tensor, factor: Tensor) -> Tensor:
    factor = factor.view(-1, 1, 1, 1)
    return (x * factor).add_(x.mean((2, 3), keepdim=True) * (1 - factor))


def _saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Scales S of HSV, clipped at 1. Value and hue stay, so each channel's distance to the value scales."""
    value = x.amax(1, keepdim=True)
    chroma = (value - x.amin(1, keepdim=True)).clamp_(min=1e-12)  # a gray pixel stays as it is
    scale = torch.minimum(factor.view(-1, 1, 1, 1), value / chroma)  # S = chroma / value
    return torch.lerp(value, x, scale)


def _hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turns H of HSV; value and saturation stay."""
    red, green, blue = x.chunk(3, dim=1)
    value = x.amax(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    some = chroma.clamp(min=1e-12)  # a gray pixel has chroma 0 below, so its hue does not matter
    # Sixths of the circle, counted from the largest channel. lerp with 0 or 1 chooses: sign is 0 where a channel is
    # the value, else 1. On the CPU several times faster than a comparison and torch.where.
    sixths = (blue - red).div_(some).add_(2)
    sixths = torch.lerp(sixths, (red - green).div_(some).add_(4), (value - green).sign_())
    sixths = torch.lerp((green - blue).div_(some), sixths, (value - red).sign_())
    sixths.add_(6 * turns.view(-1, 1, 1, 1))
    sixths.sub_((sixths / 6).floor_().mul_(6))  # in [0, 6)
    # Each channel is the value over the two sixths around its own colour, and lower by the chroma over the two around
    # the opposite one.
    out = torch.empty_like(x)
    falls = (
        (sixths - 3).abs_().neg_().add_(2),  # red's own is at 0, where the circle closes
        (sixths - 2).abs_().sub_(1),
        (sixths - 4).abs_().sub_(1),
    )
    for channel, fall in zip(out.chunk(3, dim=1), falls, strict=True):
        torch.addcmul(value, chroma, fall.clamp_(0, 1), value=-1, out=channel)
    return out
