"""Corruptions: exactly one for each view, whose undoing is the reconstruction task.

Source: ConRec authors' code, `augmentations/masking.py` (after Models Genesis), followed where the paper
disagrees (it speaks of one rectangle; the code paints up to five). The constants hold for each axis on its
own, integer ranges exclude their upper end, and a draw at sizes where a range would be empty (below 25 px)
takes the nearest value that exists.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor, nn

from probekit.views.batched import Range, apply_where, integers, uniforms

# channels -> (name, probability); `kind` is the position in this table. Authors' code.
CORRUPTIONS: dict[int, tuple[tuple[str, float], ...]] = {
    1: (("pixel-shuffling", 0.25), ("intensity", 0.25), ("in-painting", 0.25), ("out-painting", 0.25)),
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
CELLS = 1024  # of the curve; np.interp on 1e5 samples differs by less than 2e-3


class CorruptionTables(nn.Module):
    """What corruptions of views of one shape always need: constants, on the device of the views.

    There are 15 blocks whose pixels are shuffled, 5 that in-painting fills, and 5 windows that out-painting keeps.
    `height`: height of the views, in pixels; `width`: width of the views, in pixels; `odds`: what multiplies the
    probability of a corruption, by its name, before all are divided by their sum; 1 where it is not named.
    """

    bounds: Tensor
    kinds: Tensor
    pixels: Tensor
    columns: Tensor
    rows: Tensor
    basis: Tensor
    least: Tensor
    spans: Tensor
    margins: Tensor
    sizes: Tensor
    chances: Tensor

    def __init__(self, channels: int, height: int, width: int, odds: Mapping[str, float] = {}) -> None:
        super().__init__()
        self.shape = channels, height, width
        shares = list(chances_of(channels, odds).values())
        self.register_buffer("bounds", torch.tensor(list(accumulate(shares[:-1]))))
        self.register_buffer("kinds", torch.arange(len(shares)))
        self.register_buffer("pixels", torch.arange(height * width + 1))  # and a place behind the last
        self.register_buffer("columns", torch.arange(width))
        self.register_buffer("rows", torch.arange(height))
        s = torch.arange(CELLS + 1, dtype=torch.float64) / CELLS  # Bernstein's cubics; the first is not needed
        basis = torch.stack([3 * s * (1 - s) ** 2, 3 * s**2 * (1 - s), s**3])
        self.register_buffer("basis", basis.float())
        blocks = [(side, margin, chance) for side, margin, chances in _laws(channels) for chance in chances]
        sides = [[side(size) for size in (width, height)] for side, *_ in blocks]
        self.register_buffer("least", torch.tensor([[low for low, _ in axes] for axes in sides], dtype=torch.float32))
        self.register_buffer("spans", torch.tensor([[high - low for low, high in axes] for axes in sides]))
        self.register_buffer("margins", torch.tensor([[margin] for _, margin, _ in blocks]))
        self.register_buffer("sizes", torch.tensor([width, height]))
        self.register_buffer("chances", torch.tensor([chance for *_, chance in blocks]))
        # Below 25 px the free space can be too small for the margin on both sides.
        self.roomy = all(
            size - (high - 1) > 2 * margin
            for (_, margin, _), axes in zip(blocks, sides, strict=True)
            for size, (_, high) in zip((width, height), axes, strict=True)
        )


def chances_of(channels: int, odds: Mapping[str, float]) -> dict[str, float]:
    """The probability of each corruption of images of 1 or 3 channels; a ValueError if none is left."""
    shares = {name: probability * odds.get(name, 1.0) for name, probability in CORRUPTIONS[channels]}
    total = sum(shares.values())
    if total <= 0:
        typed = " ".join(f"--set views.{name.replace('-', '_')}=1" for name in shares)
        raise ValueError(f"expected odds above 0 of some corruption, found none; type: {typed}")
    return {name: share / total for name, share in shares.items()}


def _laws(channels: int) -> list[tuple[Callable[[int], Range], int, list[float]]]:
    """Blocks that are shuffled, painted, kept: sides, margin, and each one's chance after those before it."""
    return [
        (_shuffle_side, 0, [SHUFFLE_GOES_ON[channels]] * SHUFFLED_BLOCKS),
        (_paint_side, MARGIN, [PAINT_GOES_ON] * PAINTED_BLOCKS),
        (_window_side, MARGIN, [1.0, *[PAINT_GOES_ON] * (PAINTED_BLOCKS - 1)]),  # the first window is certain
    ]


def _shuffle_side(size: int) -> Range:
    return 1, max(2, int(size * SHUFFLE_SIDE))


def _paint_side(size: int) -> Range:
    low, high = (int(size * share) for share in PAINT_SIDE)
    return max(1, low), max(2, low + 1, high)


def _window_side(size: int) -> Range:
    # The code draws what is cut away from [2 W // 7, 3 W // 7).
    return size - 3 * size // 7 + 1, size - 2 * size // 7 + 1


def draw_corruption(n: int, tables: CorruptionTables, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Draws what `corrupt_as` does to each of n views."""
    return corruption_of(uniforms(corruption_shapes(n, tables), generator), tables)


def corruption_shapes(n: int, tables: CorruptionTables) -> list[tuple[int, ...]]:
    """Shapes of the uniform numbers that `corruption_of` takes for n views.

    They are the same whatever the kinds are, so a view does not depend on its neighbours.
    """
    channels, height, width = tables.shape
    largest = _shuffle_side(height)[1] * _shuffle_side(width)[1]
    shuffled = [(n, SHUFFLED_BLOCKS, 5), (n, SHUFFLED_BLOCKS, largest)]
    bent: list[tuple[int, ...]] = [(n, 4), (n,)] if channels == 1 else []
    painted = [(n, PAINTED_BLOCKS, 5), (n, PAINTED_BLOCKS, channels), (n, PAINTED_BLOCKS, 5), (n, channels)]
    return [(n, 1), *shuffled, *bent, *painted]


def corruption_of(numbers: Sequence[Tensor], tables: CorruptionTables) -> tuple[Tensor, ...]:
    """What `corrupt_as` takes, of uniform numbers of `corruption_shapes`.

    Returns tensors of n rows, so that rows of all of them go with rows of the views: kind, int64 [n], a position in
    `CORRUPTIONS[C]`; then uniform numbers of all blocks [n, 25, 5], of the order of pixels, of the curve of intensities
    and whether it is inverted (one channel alone), of colours inside and outside.
    """
    kind, shuffled, keys, *bent, painted, colours, windows, colour = numbers
    if bent:
        bent[1] = bent[1] < 0.5  # authors' code
    blocks = torch.cat([shuffled, painted, windows], dim=1)
    return (kind >= tables.bounds).sum(1), blocks, keys, *bent, colours, colour


def corrupt_as(views: Tensor, drawn: tuple[Tensor, ...], tables: CorruptionTables) -> Tensor:
    """Corrupts each view as `draw_corruption` drew, a pure function; `views` stays as it is.

    `views`: float32 [N, C, H, W] in [0, 1]; `drawn`: n rows each. Returns float32 [N, C, H, W] in [0, 1].
    """
    kind, blocks, keys, *bent, colours, colour = drawn
    shuffled, painted, windows = boxes_of(blocks, tables)
    ways: dict[str, tuple[Callable[..., Tensor], Tensor, Tensor]] = {
        "pixel-shuffling": (shuffle_pixels, shuffled, keys),
        "in-painting": (paint_inside, painted, colours),
        "out-painting": (paint_outside, windows, colour),
    }
    if bent:
        ways["intensity"] = (bend_intensity, *bent)  # type: ignore[assignment]
    out = views.clone() if views.device.type == "cpu" else views
    chosen = (kind[:, None] == tables.kinds).unbind(1)
    for (name, _), here in zip(CORRUPTIONS[tables.shape[0]], chosen, strict=True):
        operation, *numbers = ways[name]
        out = apply_where(out, here, partial(operation, tables=tables), *numbers)
    return out


def boxes_of(blocks: Tensor, tables: CorruptionTables) -> tuple[Tensor, ...]:
    """Boxes of the blocks that are shuffled, painted and kept, of uniform numbers [N, 25, 5].

    Returns three times int64 [N, blocks, 4] (x0, y0, x1, y1) in pixels. A block that is not used is empty, all zeros.
    """
    side, start, chance = blocks[..., :2], blocks[..., 2:4], blocks[..., 4]
    length = integers(side, tables.spans).add_(tables.least)
    margins = tables.margins
    if not tables.roomy:  # as much as fits
        margins = ((tables.sizes - length - 1) / 2).floor_().clamp_(min=0).minimum(margins)
    first = integers(start, ((tables.sizes - 2 * margins) - length).clamp_(min=1)).add_(margins)
    boxes = torch.cat([first, first + length], dim=2)
    going = chance < tables.chances
    if tables.shape[0] > 1:
        boxes[:, :SHUFFLED_BLOCKS] *= going[:, :SHUFFLED_BLOCKS].cumprod(1)[..., None]
    others = going[:, SHUFFLED_BLOCKS:].view(-1, 2, PAINTED_BLOCKS).cumprod(2)
    boxes[:, SHUFFLED_BLOCKS:] *= others.view(-1, 2 * PAINTED_BLOCKS, 1)
    return torch.split(boxes.long(), [SHUFFLED_BLOCKS, PAINTED_BLOCKS, PAINTED_BLOCKS], dim=1)


def _inside(boxes: Tensor, tables: CorruptionTables) -> Tensor:
    """Whether pixels are in boxes [N, K, 4]: bool [N, K, H, W]."""
    _, height, width = tables.shape
    if height == width:  # both axes at once
        axes = boxes[..., None]
        columns, rows = ((tables.columns >= axes[:, :, :2]) & (tables.columns < axes[:, :, 2:])).unbind(2)
    else:
        x0, y0, x1, y1 = boxes[..., None].unbind(2)
        columns = (tables.columns >= x0) & (tables.columns < x1)
        rows = (tables.rows >= y0) & (tables.rows < y1)
    return rows[..., None] & columns[:, :, None]


# --- The four corruptions of views [N, C, H, W], as functions of what was drawn; boxes are int64 [N, K, 4].


def shuffle_pixels(views: Tensor, boxes: Tensor, keys: Tensor, tables: CorruptionTables) -> Tensor:
    """Permutes the pixels inside each box, channels together; every box reads the original view.

    Where boxes overlap, the later one is seen. `keys`: [N, K, M] uniform numbers in [0, 1), M at least the area of a
    box: their order permutes it.
    """
    n, channels, height, width = views.shape
    size = height * width
    p = tables.pixels[: keys.shape[2]]  # pixels of a box, row by row
    x0, y0, x1, y1 = boxes[:, :, :, None].unbind(2)
    w = x1 - x0
    past = p >= w * (y1 - y0)  # behind the end of the box
    place = (y0 * width + x0 + p) + p.div(w.clamp(min=1), rounding_mode="floor") * (width - w)
    # What lies past the end sorts last, so the box's own pixels are permuted among themselves.
    source = place.gather(2, torch.maximum(keys, past).argsort(2))
    # One dummy place behind the image takes what lies past the end.
    origin = _later_wins(tables.pixels.repeat(n, 1), torch.where(past, tables.pixels[-1], place), source)
    origin = origin[:, None, :-1].expand(n, channels, size)
    return views.flatten(2).gather(2, origin).view_as(views)


def _later_wins(origin: Tensor, target: Tensor, source: Tensor) -> Tensor:
    """Writes sources [N, K, M] at their targets into whole numbers [N, P], in place; of two the one of the larger k."""
    blocks, size = source.shape[1], origin.shape[1]
    if torch.are_deterministic_algorithms_enabled():  # they refuse a scattered maximum, whatever its numbers
        for k in range(blocks):
            origin.scatter_(1, target[:, k], source[:, k])
        return origin
    # The number of the block goes before its source; what no block reaches keeps its own.
    numbered = source + torch.arange(size, size * (1 + blocks), size, device=source.device)[:, None]
    return origin.scatter_reduce_(1, target.flatten(1), numbered.flatten(1), "amax").remainder_(size)


def bend_intensity(views: Tensor, curve: Tensor, inverted: Tensor, tables: CorruptionTables) -> Tensor:
    """Maps intensities through a cubic Bezier curve from (0, 0) to (1, 1), or through its inversion.

    With x(s), y(s) the curve, both rising, value x(s) becomes y(s), or y(1 - s) when inverted. The curve is a chord
    within each of 1024 cells of s. `curve`: [N, 4] the two inner control points, (x1, y1, x2, y2), each in [0, 1];
    `inverted`: bool [N]; views of one channel, in [0, 1], before and after.
    """
    first, second, third = tables.basis
    inner = curve.view(-1, 2, 2, 1)
    points = torch.addcmul(torch.addcmul(third, inner[:, 0], first), inner[:, 1], second)  # [N, x and y, cells + 1]
    x, y = points.unbind(1)
    y = torch.where(inverted[:, None], y.flip(1), y)
    values = views.flatten(1)
    cell = _cells(x.contiguous(), values)
    left, from_y = x.gather(1, cell), y.gather(1, cell)
    cell = cell + 1
    right, to_y = x.gather(1, cell), y.gather(1, cell)
    part = ((values - left) / (right - left).clamp_(min=1e-12)).clamp_(0, 1)
    return torch.lerp(from_y, to_y, part).clamp_(0, 1).view_as(views)


def _cells(x: Tensor, values: Tensor) -> Tensor:
    """The last of the rising numbers x [N, CELLS + 1], but for the very last, that is not above each value [N, n]."""
    if x.device.type != "cpu":
        return torch.searchsorted(x, values, right=True).sub_(1).clamp_(0, CELLS - 1)
    cell = torch.zeros_like(values, dtype=torch.int64)  # by halving: a fourth of searchsorted's time on a CPU
    for step in (CELLS >> k for k in range(1, CELLS.bit_length())):
        cell.add_(x.gather(1, cell + step) <= values, alpha=step)
    return cell


def paint_inside(views: Tensor, boxes: Tensor, colours: Tensor, tables: CorruptionTables) -> Tensor:
    """Fills each box with its colour, [N, K, C]; the later box is seen."""
    inside = _inside(boxes, tables)
    for k in range(boxes.shape[1]):
        views = torch.where(inside[:, k, None], colours[:, k, :, None, None], views)
    return views


def paint_outside(views: Tensor, boxes: Tensor, colour: Tensor, tables: CorruptionTables) -> Tensor:
    """Fills everything outside all boxes with one colour, [N, C]."""
    return torch.where(_inside(boxes, tables).any(1, keepdim=True), views, colour[:, :, None, None])
