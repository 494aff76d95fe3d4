"""Objects of photographs within their test crop. Alone: pytest tests/data/test_seen.py"""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from probekit.data.seen import as_seen
from probekit.h5 import CentreCrop, Objects
from probekit.h5.objects import mask_of, runs_of

SIDE = 32


@given(st.integers(40, 90), st.integers(40, 90), st.integers(0, 2**20))
def test_a_box_lies_where_its_own_picture_lies_in_the_crop(height: int, width: int, seed: int) -> None:
    """The box drawn on the photograph, put through the crop as images are, and looked at there."""
    rng = np.random.default_rng(seed)
    crop = CentreCrop(int(rng.integers(SIDE, 41)), SIDE)
    x, y = (np.sort(rng.choice(side + 1, 2, replace=False)) for side in (width, height))
    drawn = np.zeros((height, width), np.bool_)
    drawn[y[0] : y[1], x[0] : x[1]] = True
    boxes = np.array([[x[0], y[0], x[1], y[1]]], np.float32)
    one = np.ones(1, np.int64)
    seen = as_seen(Objects(boxes, one, one, (runs_of(drawn),)), (height, width), crop)
    cut = crop.of_image(255 * drawn.astype(np.uint8))
    thin = len(seen) == 0 or (seen.boxes[0, 2:] - seen.boxes[0, :2]).min() < 1.5
    assert cut.max() > 127 or thin, "of more than a pixel and a half something is left"
    if thin:  # resampling blurs its corners below one half
        return
    assert seen.masks is not None
    assert (mask_of(seen.masks[0], (SIDE, SIDE)) == (cut > 127)).all()
    rows, columns = np.flatnonzero((cut > 127).any(axis=1)), np.flatnonzero((cut > 127).any(axis=0))
    expected = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert np.abs(seen.boxes[0] - expected).max() <= 1
    assert (seen.labels[0], seen.flags[0]) == (1, 1)


def test_what_lies_outside_is_left_out() -> None:
    boxes = np.array([[0, 0, 10, 60], [50, 10, 60, 20]], np.float32)
    objects = Objects(boxes, np.array([3, 4]), np.zeros(2, np.int64))
    seen = as_seen(objects, (60, 120), CentreCrop(60, 60))
    assert seen.labels.tolist() == [4]
    assert seen.boxes.tolist() == [[20, 10, 30, 20]]
    assert seen.masks is None
