"""Corruptions: exactly one for each view, whose undoing is the reconstruction task.

Source: ConRec authors' code, `augmentations/masking.py` (after Models Genesis), followed where the paper
disagrees (it speaks of one rectangle; the code paints up to five). The constants hold for each axis on its
own, integer ranges exclude their upper end, and a draw at sizes where a range would be empty (below 25 px)
takes the nearest value that exists.
"""

import torch
from torch import Tensor

from probekit.batched import Range, apply_where_, integers, uniform

# channels -> (name, probability); `kind` is the position in this table. Authors' code.
CORRUPTIONS: dict[int, tuple[tuple[str, float], ...]] = {
    1: (
        ("pixel-shuffling", 0.25),
        ("intensity", 0.25),
        ("in-painting", 0.25),
        ("out-painting", 0.25),
    ),
    3: (("pixel-shuffling", 0.33), ("in-painting", 0.33), ("out-painting", 0.34)),
}

# All from the authors' code.
SHUFFLED_BLOCKS = 15
SHUFFLE_SIDE = 0.2  # sides are drawn from [1, 0.2 W)
SHUFFLE_GOES_ON = {1: 1.0, 3: 0.99}  # by channels, before each block
PAINTED_BLOCKS = 5
PAINT_SIDE = (0.14, 0.2)  # sides are drawn from [0.14 W, 0.2 W)
PAINT_GOES_ON = 0.95
MARGIN = 3  # px that painted blocks and kept windows stay away from the border
HALVINGS = 10  # cells of 1/1024 of the curve; np.interp on 1e5 samples differs by less than 2e-3


def corrupt(views: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Corrupts each view in one way, drawn by the probabilities in `CORRUPTIONS`.

    Args:
        views: float32 [B, C, H, W] in [0, 1]; C is 1 or 3.
        generator: On the device of `views`.

    Returns:
        The corrupted views, float32 [B, C, H, W] in [0, 1], and kind, int64 [B], the position in
        `CORRUPTIONS[C]`. `views` stays as it is.
    """
    kind = draw_kinds(len(views), views.shape[1], generator)
    return corrupt_as(views, kind, generator), kind


def draw_kinds(n: int, channels: int, generator: torch.Generator) -> Tensor:
    """Draws n positions in `CORRUPTIONS[channels]`, int64 [n]."""
    u = uniform((n,), generator)
    kind = torch.zeros(n, dtype=torch.int64, device=u.device)
    bound = 0.0
    for _, probability in CORRUPTIONS[channels][:-1]:
        bound += probability
        kind += u >= bound
    return kind


def corrupt_as(views: Tensor, kind: Tensor, generator: torch.Generator) -> Tensor:
    """Corrupts view n by corruption `kind[n]` of `CORRUPTIONS[C]`; arguments as in `corrupt`.

    The draws have the same shapes whatever the kinds are, so a view does not depend on its neighbours.
    """
    n, channels, height, width = views.shape
    out = views.clone()
    for k, (name, _) in enumerate(CORRUPTIONS[channels]):
        if name == "pixel-shuffling":
            boxes = shuffle_boxes(n, channels, height, width, generator)
            largest = _shuffle_side(height)[1] * _shuffle_side(width)[1]
            keys = uniform((n, SHUFFLED_BLOCKS, largest), generator)
            apply_where_(out, kind == k, shuffle_pixels, boxes, keys)
        elif name == "intensity":
            curve = uniform((n, 4), generator)
            inverted = uniform((n,), generator) < 0.5  # authors' code
            apply_where_(out, kind == k, bend_intensity, curve, inverted)
        elif name == "in-painting":
            boxes = paint_boxes(n, height, width, generator)
            colours = uniform((n, PAINTED_BLOCKS, channels), generator)
            apply_where_(out, kind == k, paint_inside, boxes, colours)
        else:
            boxes = window_boxes(n, height, width, generator)
            colour = uniform((n, channels), generator)
            apply_where_(out, kind == k, paint_outside, boxes, colour)
    return out


# --- Blocks: int64 [N, blocks, 4] (x0, y0, x1, y1) in pixels. A block that is not used is empty, all zeros.


def shuffle_boxes(n: int, channels: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Blocks whose pixels are shuffled: 15, or for 3 channels until a 1 % chance stops them."""
    sides = (_shuffle_side(width), _shuffle_side(height))
    u = uniform((n, SHUFFLED_BLOCKS, 5), generator)
    going = (u[:, :, 4] < SHUFFLE_GOES_ON[channels]).cumprod(1)
    return _boxes(u, sides, (width, height), margin=0) * going[:, :, None]


def paint_boxes(n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Blocks that in-painting fills: up to 5, each after a chance of 95 %."""
    sides = (_paint_side(width), _paint_side(height))
    u = uniform((n, PAINTED_BLOCKS, 5), generator)
    going = (u[:, :, 4] < PAINT_GOES_ON).cumprod(1)
    return _boxes(u, sides, (width, height), margin=MARGIN) * going[:, :, None]


def window_boxes(n: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Windows that out-painting keeps: one for certain, then up to 4 more, each after a chance of 95 %."""
    sides = (_window_side(width), _window_side(height))
    u = uniform((n, PAINTED_BLOCKS, 5), generator)
    u[:, 0, 4] = 0  # the first window is certain
    going = (u[:, :, 4] < PAINT_GOES_ON).cumprod(1)
    return _boxes(u, sides, (width, height), margin=MARGIN) * going[:, :, None]


def _shuffle_side(size: int) -> Range:
    return 1, max(2, int(size * SHUFFLE_SIDE))


def _paint_side(size: int) -> Range:
    low, high = (int(size * share) for share in PAINT_SIDE)
    return max(1, low), max(2, low + 1, high)


def _window_side(size: int) -> Range:
    # The code draws what is cut away from [2 W // 7, 3 W // 7).
    return size - 3 * size // 7 + 1, size - 2 * size // 7 + 1


def _boxes(u: Tensor, sides: tuple[Range, Range], size: tuple[int, int], margin: int) -> Tensor:
    """Boxes from uniform numbers u [N, blocks, >= 4]; `sides` and `size` are given for x, then y."""
    starts, stops = [], []
    for axis in range(2):
        side = integers(u[:, :, axis], *sides[axis])
        free = size[axis] - side
        # Below 25 px the free space can be too small for the margin on both sides: then as much as fits.
        low = ((free - 1) // 2).clamp(0, margin)
        start = integers(u[:, :, 2 + axis], low, torch.maximum(free - low, low + 1))
        starts.append(start)
        stops.append(start + side)
    return torch.stack([*starts, *stops], dim=-1)


def _inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """1 for the pixels in boxes [N, 4], else 0: float32 [N, 1, height, width]."""
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    x = torch.arange(width, device=boxes.device)
    y = torch.arange(height, device=boxes.device)
    columns = ((x >= x0) & (x < x1)).float()
    rows = ((y >= y0) & (y < y1)).float()
    return rows[:, None, :, None] * columns[:, None, None, :]


# --- The four corruptions, as functions of what was drawn.


def shuffle_pixels(views: Tensor, boxes: Tensor, keys: Tensor) -> Tensor:
    """Permutes the pixels inside each box, channels together; every box reads the original view.

    Where boxes overlap, the later one is seen.

    Args:
        views: [N, C, H, W].
        boxes: int64 [N, K, 4].
        keys: [N, K, M] uniform numbers in [0, 1), M at least the area of a box: their order permutes it.

    Returns:
        [N, C, H, W].
    """
    n, channels, height, width = views.shape
    p = torch.arange(keys.shape[2], device=views.device)  # pixels of a box, row by row
    x0, y0, x1, y1 = boxes[:, :, :, None].unbind(2)
    w = x1 - x0
    past = (p >= w * (y1 - y0)).long()  # 1 past the end of the box
    place = y0 * width + x0 + p + p.div(w.clamp(min=1), rounding_mode="floor") * (width - w)
    # What lies past the end sorts last, so the box's own pixels are permuted among themselves.
    source = place.gather(2, torch.maximum(keys, past.float()).argsort(2))
    # One dummy place behind the image takes what lies past the end.
    target = torch.maximum(place, past * (height * width)).clamp(max=height * width)
    origin = torch.arange(height * width + 1, device=views.device).repeat(n, 1)
    for k in range(boxes.shape[1]):
        origin.scatter_(1, target[:, k], source[:, k])
    origin = origin[:, None, :-1].expand(n, channels, height * width)
    return views.flatten(2).gather(2, origin).view_as(views)


def bend_intensity(views: Tensor, curve: Tensor, inverted: Tensor) -> Tensor:
    """Maps intensities through a cubic Bezier curve from (0, 0) to (1, 1), or through its inversion.

    With x(s), y(s) the curve, both rising, value x(s) becomes y(s), or y(1 - s) when inverted. The cell
    of s is found by halving, and the curve is a chord within it.

    Args:
        views: [N, 1, H, W] in [0, 1].
        curve: [N, 4] the two inner control points, (x1, y1, x2, y2), each in [0, 1].
        inverted: bool [N].

    Returns:
        [N, 1, H, W] in [0, 1].
    """
    turned = inverted.view(-1, 1, 1, 1)
    x1, y1, x2, y2 = curve[:, :, None, None, None].unbind(1)
    # y(1 - s) is 1 minus the rising curve whose control values are taken backwards from 1.
    y1, y2 = torch.where(turned, 1 - y2, y1), torch.where(turned, 1 - y1, y2)
    x, y = _bezier(x1, x2), _bezier(y1, y2)
    s = torch.zeros_like(views)
    reached = torch.empty_like(views)  # 1 or 0: far cheaper on the CPU than torch.where
    step = 1.0
    for _ in range(HALVINGS):
        step /= 2
        torch.le(_value(x, s + step), views, out=reached)
        s.add_(reached, alpha=step)
    left, right = _value(x, s), _value(x, s + step)
    part = ((views - left) / (right - left).clamp_(min=1e-12)).clamp_(0, 1)
    risen = torch.lerp(_value(y, s), _value(y, s + step), part)
    return torch.where(turned, 1 - risen, risen).clamp_(0, 1)


def _bezier(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coefficients of s, s^2 and s^3 of the cubic with control values 0, a, b, 1."""
    return 3 * a, 3 * b - 6 * a, 1 + 3 * a - 3 * b


def _value(cubic: tuple[Tensor, Tensor, Tensor], s: Tensor) -> Tensor:
    first, second, third = cubic
    return torch.addcmul(first, s, torch.addcmul(second, s, third)).mul_(s)


def paint_inside(views: Tensor, boxes: Tensor, colours: Tensor) -> Tensor:
    """Fills each box with its colour; the later box is seen.

    Args:
        views: [N, C, H, W].
        boxes: int64 [N, K, 4].
        colours: [N, K, C].

    Returns:
        [N, C, H, W].
    """
    for k in range(boxes.shape[1]):
        inside = _inside(boxes[:, k], *views.shape[2:])
        views = torch.lerp(views, colours[:, k, :, None, None], inside)  # exact at 0 and 1
    return views


def paint_outside(views: Tensor, boxes: Tensor, colour: Tensor) -> Tensor:
    """Fills everything outside all boxes with one colour.

    Args:
        views: [N, C, H, W].
        boxes: int64 [N, K, 4].
        colour: [N, C].

    Returns:
        [N, C, H, W].
    """
    kept = _inside(boxes[:, 0], *views.shape[2:])
    for k in range(1, boxes.shape[1]):
        kept = torch.maximum(kept, _inside(boxes[:, k], *views.shape[2:]))
    return torch.lerp(colour[:, :, None, None], views, kept)
