"""What recipes draw in one launch for all their views, drawn here for one kind of change alone."""

import torch
from torch import Tensor

from probekit.views.batched import uniform, uniforms
from probekit.views.crops import TRIES, CropTables, Placement, areas_, boxes_of
from probekit.views.jitter import Colour, change_shapes, changes_of


def random_resized_boxes(
    n: int,
    height: int,
    width: int,
    area: tuple[float, float],
    generator: torch.Generator,
    placement: Placement | None = None,
) -> Tensor:
    """Boxes int64 [n, 4] under torchvision's law, RandomResizedCrop."""
    tables = CropTables((height, width), (height, width), torchvision=True).to(generator.device)
    return boxes_of(areas_(uniform((4, n, TRIES), generator), area), tables.limits, placement)


def draw_changes(n: int, channels: int, generator: torch.Generator, colour: Colour) -> tuple[Tensor, ...]:
    """What `jitter.change` does to each of n views."""
    return changes_of(uniforms(change_shapes(n, channels, colour), generator), colour)
