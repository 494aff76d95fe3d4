"""Images that are zoomed and mirrored, with black around what becomes smaller.

Source: ConRec authors' code, `augmentations/diabetic.py`: Keras's `random_zoom`, each axis by a factor of its own, and
both mirrorings.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from probekit.views.batched import uniform


def zoomed(images: Tensor, zoom: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Images `[B, C, H, W]` in [0, 1], each zoomed about its middle and mirrored in half of the cases along each axis.

    `zoom`: the least and the most pixels of the image that a pixel of the view is wide or high, uniform between; what
    lies beyond the image is 0. Bilinear. `generator`: on the device of the images.
    """
    drawn = uniform((2, 2, len(images)), generator)
    steps = zoom[0] + (zoom[1] - zoom[0]) * drawn[0]
    theta = torch.diag_embed(torch.where(drawn[1] < 0.5, -steps, steps).T)
    theta = F.pad(theta, (0, 1))  # no shift
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
