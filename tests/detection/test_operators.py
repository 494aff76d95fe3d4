"""`nms` and `roi_align` where torchvision has no compiled ones: against loops, and against torchvision's where it has.

Alone: pytest tests/detection/test_operators.py
"""

import math
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from probekit.detection import operators
from probekit.detection.operators import nms, roi_align

operators.detection_models(torch.device("cpu"))
COMPILED = not operators._provide.cache_info().currsize
compiled = pytest.mark.skipif(not COMPILED, reason="torchvision has no compiled operators beside this build of torch")


def some_boxes(n: int, seed: int, size: float = 20.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(n, 2, generator=generator) * size
    boxes = torch.cat((low, low + torch.rand(n, 2, generator=generator) * size), dim=1)
    return boxes, torch.rand(n, generator=generator)


def some_rois(n: int, seed: int, *, beyond: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 3, 9, 11, generator=generator)
    boxes, _ = some_boxes(n, seed, 20.0)
    at = torch.randint(0, 2, (n, 1), generator=generator).float()
    return features, torch.cat((at, boxes - beyond), dim=1)


def naive_nms(boxes: Tensor, scores: Tensor, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: -float(scores[i])):
        a = boxes[i].tolist()
        for j in kept:
            b = boxes[j].tolist()
            wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            both = max(wide, 0.0) * max(high, 0.0)
            if both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both) > threshold:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_nms_against_loops(seed: int) -> None:
    boxes, scores = some_boxes(60, seed)
    for threshold in (0.1, 0.5, 0.7):
        assert nms(boxes, scores, threshold).tolist() == naive_nms(boxes, scores, threshold)


def test_nms_of_no_box() -> None:
    assert nms(torch.empty(0, 4), torch.empty(0), 0.5).tolist() == []


def at(plane: np.ndarray, y: float, x: float) -> float:
    """Mask R-CNN's bilinear interpolation at a point; 0 outside."""
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
    top, left = math.floor(y), math.floor(x)
    low, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, along = y - top, x - left
    upper = plane[top, left] * (1 - along) + plane[top, right] * along
    lower = plane[low, left] * (1 - along) + plane[low, right] * along
    return float(upper * (1 - down) + lower * down)


@pytest.mark.parametrize("ratio", [2, -1])
@pytest.mark.parametrize("aligned", [False, True])
def test_roi_align_against_loops(ratio: int, aligned: bool) -> None:
    features, rois = some_rois(8, 1)
    found = roi_align(features, rois, 0.5, 3, 2, ratio, aligned)
    for k, (which, *box) in enumerate(rois.tolist()):
        x0, y0, x1, y1 = (value * 0.5 - (0.5 if aligned else 0.0) for value in box)
        wide, high = (x1 - x0, y1 - y0) if aligned else (max(x1 - x0, 1.0), max(y1 - y0, 1.0))
        across, down = (ratio, ratio) if ratio > 0 else (math.ceil(wide / 2), math.ceil(high / 3))
        for channel in range(3):
            plane = features[int(which), channel].numpy()
            for i in range(3):
                for j in range(2):
                    points = [
                        at(plane, y0 + (i + (a + 0.5) / down) * high / 3, x0 + (j + (b + 0.5) / across) * wide / 2)
                        for a in range(down)
                        for b in range(across)
                    ]
                    assert found[k, channel, i, j].item() == pytest.approx(np.mean(points), abs=1e-5)


def test_the_gradient_reaches_the_features() -> None:
    features, rois = (each.double() for each in some_rois(3, 2))
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, 0.5, 2, 2, 2, False), features.requires_grad_())


@compiled
@pytest.mark.parametrize("seed", range(5))
def test_against_torchvision(seed: int) -> None:
    import torchvision

    boxes, scores = some_boxes(200, seed)
    for threshold in (0.3, 0.7):
        torch.testing.assert_close(nms(boxes, scores, threshold), torchvision.ops.nms(boxes, scores, threshold))
    features, rois = some_rois(30, seed, beyond=5.0)  # some stand out of the image
    for ratio in (2, -1):
        for aligned in (False, True):
            expected = torchvision.ops.roi_align(features, rois, (7, 5), 0.5, ratio, aligned)
            torch.testing.assert_close(roi_align(features, rois, 0.5, 7, 5, ratio, aligned), expected)
            one, other = features.clone().requires_grad_(), features.clone().requires_grad_()
            (ours,) = torch.autograd.grad(roi_align(one, rois, 0.5, 7, 5, ratio, aligned).square().sum(), one)
            theirs = torchvision.ops.roi_align(other, rois, (7, 5), 0.5, ratio, aligned).square().sum()
            torch.testing.assert_close(ours, torch.autograd.grad(theirs, other)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(COMPILED, reason="torchvision has operators of its own")
def test_torchvision_calls_these() -> None:
    import torchvision

    boxes, scores = some_boxes(50, 7)
    assert torchvision.ops.nms(boxes, scores, 0.5).tolist() == naive_nms(boxes, scores, 0.5)
    features, rois = some_rois(5, 7)
    found = torchvision.ops.roi_align(features, rois, (3, 2), 0.5, 2)
    torch.testing.assert_close(found, roi_align(features, rois, 0.5, 3, 2, 2, False))


def test_a_gpu_needs_compiled_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["torchvision.extension"], "_has_ops", lambda: False)
    with pytest.raises(ValueError, match="expected torchvision's compiled operators on a GPU, found none, as torchvis"):
        operators.detection_models(torch.device("cuda"))


def test_without_torchvision_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="expected torchvision for detectors, found none; type: pip install"):
        operators.detection_models(torch.device("cpu"))
