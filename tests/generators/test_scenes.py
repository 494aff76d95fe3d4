"""Scenes of several shapes: boxes and masks against what is seen in the picture, and samples that depend on no other.

Alone: pytest tests/generators/test_scenes.py
"""

import hashlib
from itertools import combinations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from generators import Scenes
from generators.scenes import KINDS, Drawn, Placed

SIZES = (48, 128)
N = 40


def drawn(size: int, **parameters: float) -> tuple[Scenes, Drawn]:
    scenes = Scenes(size=size, parameters=parameters)
    return scenes, scenes.draw(3, "train", np.arange(N))


def whole(placed: Placed, size: int) -> NDArray[np.bool_]:
    mask = np.zeros((size, size), np.bool_)
    for row, line in enumerate(placed.mask):
        for column, inside in enumerate(line):
            mask[placed.y + row, placed.x + column] = inside
    return mask


def seen(image: NDArray[np.uint8], box: tuple[int, int, int, int], filled: bool) -> NDArray[np.bool_]:
    """The ink in a box, and where it is to be filled all that cannot be reached from outside: by flooding alone."""
    x0, y0, x1, y1 = box
    shown = np.zeros(image.shape, np.uint8)
    shown[y0:y1, x0:x1] = image[y0:y1, x0:x1] > 0
    if not filled:
        return shown > 0
    flood = np.pad(shown, 1)
    cv2.floodFill(flood, None, (0, 0), 2, flags=4)
    return np.asarray(flood[1:-1, 1:-1] != 2)


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_boxes_and_masks_are_what_is_seen(size: int, fine: bool) -> None:
    scenes, found = drawn(size, fine=fine)
    for image, objects in zip(found.images, found.objects, strict=True):
        assert objects
        covered = np.zeros((size, size), np.int64)
        for each in objects:
            mask, kind = whole(each, size), scenes.kind_of(each.label)
            np.testing.assert_array_equal(mask, seen(image, each.box, filled=kind == 0))
            rows, columns = np.nonzero(mask)
            assert each.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            covered += mask
        assert covered.max() == 1  # none hides another
        assert not image[covered == 0].any()  # there is nothing else
        expected = sum(whole(each, size).astype(np.uint8) << scenes.kind_of(each.label) for each in objects)
        np.testing.assert_array_equal(scenes.masks(objects), expected)


def test_objects_stay_clear_of_each_other() -> None:
    _, found = drawn(128)
    for objects in found.objects:
        for one, other in combinations((each.box for each in objects), 2):
            gap = max(one[0] - other[2], other[0] - one[2], one[1] - other[3], other[1] - one[3])
            assert gap >= 2


def test_a_fine_class_is_what_its_generator_reads() -> None:
    """The ideal reader of each kind, which sees pixels alone, names the class of each object that is put alone."""
    scenes, found = drawn(128, fine=True, most=1, smallest=60, largest=64)
    right = []
    for image, (each,) in zip(found.images, found.objects, strict=True):
        kind = scenes.kind_of(each.label)
        first = sum(len(other.classes) for other in KINDS[:kind])
        assert scenes.classes[each.label] == f"{KINDS[kind].name}, {KINDS[kind].classes[each.label - first]}"
        if kind != 1:  # the size of rings is known to their reader alone
            continue
        reader = KINDS[kind](size=128)
        read = reader.read(image[None])
        right.append(int(read["opening"][0]) == each.label - first)
    assert len(right) > 5
    assert all(right)


def test_samples_depend_on_nothing_but_their_place() -> None:
    scenes, all_ = drawn(48)
    other = Scenes(size=48).draw(3, "train", np.array([7, 2, 31]))
    for place, i in enumerate((7, 2, 31)):
        np.testing.assert_array_equal(other.images[place], all_.images[i])
        assert [each.box for each in other.objects[place]] == [each.box for each in all_.objects[i]]
    assert not np.array_equal(scenes.draw(3, "test", np.arange(4)).images, all_.images[:4])
    assert not np.array_equal(scenes.draw(4, "train", np.arange(4)).images, all_.images[:4])


def test_numbers_kinds_and_sizes_follow_the_settings() -> None:
    _, found = drawn(128, most=3, smallest=24, largest=24)
    counts = np.array([len(objects) for objects in found.objects])
    assert set(counts) == {1, 2, 3}
    labels = np.bincount([each.label for objects in found.objects for each in objects], minlength=3)
    assert labels.min() > labels.sum() / 6
    sides = np.array([max(each.mask.shape) for objects in found.objects for each in objects])
    assert 0.7 * 24 < sides.min() <= sides.max() < 1.5 * 24


def test_photometry_changes_pixels_and_no_box() -> None:
    _, plain = drawn(48)
    _, other = drawn(48, dark=True, contrast=0.5, noise_sd=0.1)
    assert [[each.box for each in row] for row in plain.objects] == [
        [each.box for each in row] for row in other.objects
    ]
    assert (other.images != plain.images).mean() > 0.9


def test_golden() -> None:
    """What must not move between machines."""
    _, found = drawn(48)
    total = hashlib.sha256(found.images.tobytes())
    for objects in found.objects:
        for each in objects:
            total.update(repr((each.label, each.box)).encode() + each.mask.tobytes())
    assert total.hexdigest()[:16] == "453f971e249c8b0a"


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"size": 8}, "expected a size from 16 to 1024 px, found 8"),
        ({"parameters": {"most": 0}}, "expected most a whole number from 1 to 12, found 0"),
        ({"parameters": {"smallest": 50.0}}, "expected smallest of at most largest, 48, found 50"),
        ({"parameters": {"mist": 3}}, "did you mean 'most'"),
        ({"parameters": {"background": 0.9, "contrast": 0.01}}, "expected ink that can be told"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Scenes(**options)  # type: ignore[arg-type]
