"""Intensity and colour changes of views: grey jitter, colour jitter, grayscale, blur.

Source: ConRec authors' code, `augmentations/contrastive.py` (the SimCLRv2 policy) and their one-channel
variant. The operations are TensorFlow's: contrast pulls each channel to its own mean, saturation and hue
act in HSV. No mean or standard deviation is subtracted anywhere.
"""

import torch
from torch import Tensor

from probekit.batched import Taps, apply_where_, resample, uniform

# All from the authors' code, strength 1.
FACTOR = (0.2, 1.8)  # brightness, contrast and saturation
HUE = (-0.2, 0.2)  # turns of the colour circle
P_JITTER, P_GRAY, P_BLUR = 0.8, 0.2, 0.5
SIGMA = (0.1, 2.0)  # of the blur, px
LUMA = (0.2989, 0.5870, 0.1140)  # tf.image.rgb_to_grayscale


def jitter(x: Tensor, generator: torch.Generator) -> Tensor:
    """Changes each view independently by the policy for its number of channels.

    One channel: contrast, then brightness, always. Three channels: colour jitter with probability .8,
    grayscale .2, blur .5.

    Args:
        x: float32 [N, C, H, W] views after crop and flip; C is 1 or 3. May be changed in place.
        generator: On the device of `x`.

    Returns:
        float32 [N, C, H, W] in [0, 1].
    """
    n = len(x)
    if x.shape[1] == 1:
        return adjust_gray(x, *uniform((2, n), generator, *FACTOR))
    brightness, contrast, saturation = uniform((3, n), generator, *FACTOR)
    hue = uniform((n,), generator, *HUE)
    order = uniform((n, 4), generator).argsort(1)
    sigma = uniform((n,), generator, *SIGMA)
    u = uniform((3, n), generator)
    factors = torch.stack([brightness, contrast, saturation, hue], dim=1)
    apply_where_(x, u[0] < P_JITTER, adjust_colour, order, factors)
    apply_where_(x, u[1] < P_GRAY, to_gray)
    x.clamp_(0, 1)
    apply_where_(x, u[2] < P_BLUR, blur, sigma)
    return x.clamp_(0, 1)


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
        x: [N, 3, H, W].
        order: int64 [N, 4], a permutation of 0 brightness, 1 contrast, 2 saturation, 3 hue in each row.
        factors: [N, 4], column k for operation k; hue in turns.

    Returns:
        [N, 3, H, W] in [0, 1].
    """
    x = x.clone()
    for step in range(4):
        for k, operation in enumerate((_brightness, _contrast, _saturation, _hue)):
            apply_where_(x, order[:, step] == k, operation, factors[:, k])
        x.clamp_(0, 1)
    return x


def to_gray(x: Tensor) -> Tensor:
    """The luma of [N, 3, H, W] in all three channels."""
    luma = torch.zeros_like(x[:, :1])
    for channel, weight in enumerate(LUMA):
        luma = luma.add(x[:, channel : channel + 1], alpha=weight)
    return luma.expand_as(x)


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
    mean = x.mean((2, 3), keepdim=True)
    return torch.lerp(mean, x, factor.view(-1, 1, 1, 1))


def _saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Scales S of HSV, clipped at 1. Value and hue stay, so each channel's distance to the value scales."""
    value = x.amax(1, keepdim=True)
    chroma = (value - x.amin(1, keepdim=True)).clamp_(min=1e-12)  # a gray pixel stays as it is
    scale = torch.minimum(factor.view(-1, 1, 1, 1), value / chroma)  # S = chroma / value
    return torch.lerp(value, x, scale)


def _hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turns H of HSV; value and saturation stay."""
    red, green, blue = x[:, :1], x[:, 1:2], x[:, 2:]
    value = x.amax(1, keepdim=True)
    chroma = value - x.amin(1, keepdim=True)
    some = chroma.clamp(min=1e-12)  # a gray pixel has chroma 0 below, so its hue does not matter
    # lerp with 0 or 1 chooses: several times faster on the CPU than torch.where.
    sixths = torch.lerp(4 + (red - green) / some, 2 + (blue - red) / some, (value == green).float())
    sixths = torch.lerp(sixths, (green - blue) / some, (value == red).float())
    sixths = sixths + 6 * turns.view(-1, 1, 1, 1)
    # Each channel falls from the value by the chroma over two opposite thirds of the circle.
    place = sixths + (5 - 2 * torch.arange(3, device=x.device)).view(1, 3, 1, 1)
    place = place - 6 * (place / 6).floor()
    return value - chroma * torch.minimum(place, 4 - place).clamp_(0, 1)
