"""Zoomed images: against SciPy's affine transform, which Keras's zoom calls.

Alone: pytest tests/views/test_zoom.py
"""

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform

from probekit.views.batched import uniform
from probekit.views.zoom import zoomed


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(6, 1, 17, 24), (5, 3, 16, 16)])
def test_it_is_the_affine_transform_of_each_channel(shape: tuple[int, int, int, int]) -> None:
    images = torch.rand(shape, generator=generator(1))
    found = zoomed(images, (0.85, 1.15), generator()).numpy()
    steps, mirrored = uniform((2, 2, len(images)), generator()).double().numpy()
    middle = (np.array(shape[2:]) - 1) / 2
    for image, view, (across, down), turned in zip(images.numpy(), found, steps.T, mirrored.T, strict=True):
        factors = (0.85 + 0.3 * np.array([down, across])) * np.where(turned[::-1] < 0.5, -1, 1)
        for channel, ours in zip(image, view, strict=True):
            theirs = affine_transform(
                channel.astype(np.float64), factors, middle - factors * middle, order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_what_lies_beyond_the_image_is_black() -> None:
    white = torch.ones(200, 1, 20, 20)
    smaller = zoomed(white, (1.15, 1.2), generator())  # 0.1 px and more beyond the middle of an outermost pixel
    assert smaller[:, :, 0].max() == smaller[:, :, :, -1].max() == 0
    torch.testing.assert_close(smaller[:, :, 2:-2, 2:-2], white[:, :, 2:-2, 2:-2])
    torch.testing.assert_close(zoomed(white, (0.85, 0.9), generator()), white)


def test_half_are_mirrored_along_each_axis() -> None:
    corner = torch.zeros(2000, 1, 4, 4)
    corner[:, :, 0, 0] = 1
    found = zoomed(corner, (1.0, 1.0), generator()).sum(0)[0].round()
    assert [(int(y), int(x)) for y, x in found.nonzero()] == [(0, 0), (0, 3), (3, 0), (3, 3)]
    assert (found[[0, 0, 3, 3], [0, 3, 0, 3]] - 500).abs().max() < 100  # of 2000 a fourth; 5 standard deviations are 97
