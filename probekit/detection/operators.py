"""torchvision's detection models, and its two operators that they need where it comes without compiled ones.

The wheel of torchvision on the package index is compiled for torch with CUDA; beside the CPU build of torch it has its
Python alone. There `nms` and `roi_align` are these, slower and to a rounding the same: what a CPU trains is small.
"""

import sys
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from probekit.models.backbones import import_module
from probekit.visible import first_line

INSTALL = "type: pip install 'torchvision>=0.20' 'pycocotools>=2.0.8'"
ROI_ALIGN = (
    "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor"
)


def detection_models(device: torch.device) -> ModuleType:
    """torchvision.models.detection, which then runs on the device.

    A ValueError if torchvision is missing, cannot be imported, or has no compiled operators for a GPU.
    """
    if find_spec("torchvision") is None:
        raise ValueError(f"expected torchvision for detectors, found none; {INSTALL}")
    try:
        models = import_module("torchvision.models.detection")
    except Exception as error:  # whatever its own imports raise
        reason = first_line(error)
        raise ValueError(f"torchvision cannot be imported: {reason}; check that it fits torch") from error
    if sys.modules["torchvision.extension"]._has_ops():
        return models
    if device.type != "cpu":
        found = f"torchvision {sys.modules['torchvision'].__version__} and torch {torch.__version__}"
        raise ValueError(
            f"expected torchvision's compiled operators on a GPU, found none, as {found} do not fit; "
            "install the pair that its authors list, or type: --device cpu"
        )
    _provide()
    return models


@cache  # a library forgets its definitions when it is collected
def _provide() -> tuple[Any, Any]:
    """Makes `nms` and `roi_align` of this module those that torchvision calls on a CPU."""
    define = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    define.define(ROI_ALIGN)  # type: ignore[no-untyped-call]
    library = torch.library.Library("torchvision", "IMPL")  # type: ignore[no-untyped-call]
    library.impl("nms", nms, "CPU")  # type: ignore[no-untyped-call]
    library.impl("roi_align", roi_align, "CompositeImplicitAutograd")  # type: ignore[no-untyped-call]
    for name in ("torchvision.extension", "torchvision.ops.roi_align"):
        sys.modules[name]._has_ops = lambda: True  # type: ignore[attr-defined]
    return define, library


def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Boxes `[N, 4]` that overlap none of a higher score by more than the threshold: int64 `[n]`, highest first."""
    order = scores.argsort(descending=True, stable=True)
    x0, y0, x1, y1 = dets[order].detach().numpy().T
    areas, kept = (x1 - x0) * (y1 - y0), np.ones(len(order), np.bool_)
    for i in range(len(order)):
        if kept[i]:
            wide = np.minimum(x1[i], x1[i + 1 :]) - np.maximum(x0[i], x0[i + 1 :])
            high = np.minimum(y1[i], y1[i + 1 :]) - np.maximum(y0[i], y0[i + 1 :])
            both = np.maximum(wide, 0) * np.maximum(high, 0)
            with np.errstate(invalid="ignore"):  # 0 / 0 of boxes without area, which stay
                kept[i + 1 :] &= ~(both / (areas[i] + areas[i + 1 :] - both) > iou_threshold)
    return order[torch.from_numpy(kept)]


def roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Regions of feature maps, `[B, C, H, W] -> [K, C, pooled_height, pooled_width]` (Mask R-CNN, section 3).

    `rois`: `[K, 5]`: which map, x0, y0, x1, y1. Each cell is the mean of `sampling_ratio` x `sampling_ratio` points,
    interpolated bilinearly; of as many as pixels lie in it, rounded up, where the ratio is not above 0.
    """
    offset = 0.5 if aligned else 0.0
    low, high = (rois[:, at : at + 2] * spatial_scale - offset for at in (1, 3))
    sides = high - low if aligned else (high - low).clamp(min=1.0)
    cells = torch.tensor([pooled_width, pooled_height])
    points = (
        (sides / cells).ceil().long() if sampling_ratio <= 0 else torch.full_like(rois[:, 1:3], sampling_ratio).long()
    )
    groups = torch.cat((rois[:, :1].long(), points), dim=1)
    out = input.new_zeros(len(rois), input.shape[1], pooled_height, pooled_width)
    for group in torch.unique(groups, dim=0):
        rows = (groups == group).all(dim=1).nonzero()[:, 0]
        at, across, down = group.tolist()
        if across > 0 and down > 0:
            x = _places(low[rows, 0], sides[rows, 0], pooled_width, across)
            y = _places(low[rows, 1], sides[rows, 1], pooled_height, down)
            found = _sampled(input[at], x, y)
            apart = found.reshape(*found.shape[:2], pooled_height, down, pooled_width, across)
            found = apart.mean(dim=(3, 5))
            out = out.index_put((rows,), found)
    return out


def _places(low: Tensor, side: Tensor, cells: int, points: int) -> Tensor:
    """Coordinates `[k, cells * points]` of the points of a side."""
    steps = (torch.arange(cells * points, dtype=low.dtype) + 0.5) / (cells * points)
    return low[:, None] + side[:, None] * steps


def _sampled(features: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """`[C, H, W]` at all pairs of coordinates x `[k, w]` and y `[k, h]`: `[k, C, h, w]`; 0 where they lie outside."""
    height, width = features.shape[1:]
    k, h, w = len(x), y.shape[1], x.shape[1]
    across = (2 * x / max(width - 1, 1) - 1)[:, None, :].expand(k, h, w)
    down = (2 * y / max(height - 1, 1) - 1)[:, :, None].expand(k, h, w)
    flat = torch.stack((across, down), dim=-1).reshape(1, k * h, w, 2)
    found = F.grid_sample(features[None], flat, padding_mode="border", align_corners=True)
    inside = ((y >= -1) & (y <= height))[:, :, None] & ((x >= -1) & (x <= width))[:, None, :]
    return found[0].reshape(-1, k, h, w).transpose(0, 1) * inside[:, None]
