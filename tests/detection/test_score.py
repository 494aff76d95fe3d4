"""Average precision against loops over the definition, and what difficult objects, crowds and masks do to it.

Alone: pytest tests/detection/test_score.py
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from probekit.detection.score import score
from probekit.detection.train import Found
from probekit.h5 import ObjectRows, Objects, pack_objects
from probekit.h5.objects import IS_CROWD, IS_DIFFICULT, box_of, runs_of

CLASSES = ("a", "b")
SHAPE = (40, 50)
IOUS = np.arange(0.5, 0.96, 0.05).round(2)


def square(x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def made(seed: int, n: int = 12) -> tuple[ObjectRows, list[Found]]:
    """Images with some objects, and detections near some of them, false ones, too."""
    rng = np.random.default_rng(seed)
    rows, found = [], []
    for _ in range(n):
        masks = []
        for _ in range(rng.integers(1, 4)):
            x, y, wide, high = rng.integers((0, 0, 5, 5), (35, 25, 15, 15)).tolist()
            masks.append(square(x, y, x + wide, y + high))
        labels = rng.integers(0, 2, len(masks))
        boxes = np.array([box_of(mask) for mask in masks], np.float32)
        rows.append(Objects(boxes, labels, np.zeros(len(masks), np.int64), tuple(map(runs_of, masks))))
        near = boxes[rng.integers(0, len(masks), 4)] + rng.integers(-2, 3, (4, 4))
        near = np.clip(near, 0, 40).astype(np.float32)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        drawn = tuple(runs_of(square(*map(int, box))) for box in near)
        found.append(Found(near, rng.integers(0, 2, 4), rng.random(4).astype(np.float32), drawn))
    return pack_objects(rows), found


def naive(objects: ObjectRows, found: list[Found], category: int, least: float) -> float:
    """AP of one class at one IoU: greedy matches by score, the precision envelope at 101 recalls."""
    answers = sorted(
        (
            (float(each.scores[k]), i, k)
            for i, each in enumerate(found)
            for k in np.flatnonzero(each.labels == category)
        ),
        reverse=True,
    )
    taken: set[tuple[int, int]] = set()
    right = []
    for _, i, k in answers:
        best, match = least, None
        for j in np.flatnonzero(objects[i].labels == category):
            a, b = found[i].boxes[k].astype(float), objects[i].boxes[j].astype(float)
            wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            both = max(wide, 0) * max(high, 0)
            overlap = both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
            if (i, int(j)) not in taken and overlap >= best:
                best, match = overlap, (i, int(j))
        right.append(match is not None)
        if match is not None:
            taken.add(match)
    positives = sum(int((each.labels == category).sum()) for each in objects)
    hits = np.cumsum(right)
    recall, precision = hits / positives, hits / np.arange(1, len(right) + 1)
    reached = [precision[recall >= at].max(initial=0.0) for at in np.linspace(0, 1, 101)]
    return float(np.mean(reached))


@pytest.mark.parametrize("seed", range(3))
def test_ap_against_loops(seed: int) -> None:
    objects, found = made(seed)
    scores = score(objects, found, [SHAPE] * len(found), CLASSES, masked=True)
    table = np.array([[naive(objects, found, category, least) for least in IOUS] for category in (0, 1)])
    boxes = scores["boxes"]
    assert boxes["AP"] == pytest.approx(table.mean(), abs=1e-3)
    assert boxes["AP50"] == pytest.approx(table[:, 0].mean(), abs=1e-3)
    assert boxes["AP75"] == pytest.approx(table[:, 5].mean(), abs=1e-3)
    assert boxes["per_class"] == pytest.approx(table.mean(axis=1), abs=1e-3)
    assert scores["masks"] == boxes  # each mask fills its box
    assert score(objects, found, [SHAPE] * len(found), CLASSES, masked=False).keys() == {"boxes"}


def test_what_is_found_exactly_scores_one_and_nothing_zero() -> None:
    objects, _ = made(0)
    found = [Found(each.boxes, each.labels, np.ones(len(each), np.float32), None) for each in objects]
    assert score(objects, found, [SHAPE] * len(found), CLASSES, masked=False)["boxes"]["AP"] == pytest.approx(1.0)
    nothing = [Found(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.float32), None)] * len(found)
    assert score(objects, nothing, [SHAPE] * len(found), CLASSES, masked=False)["boxes"]["AP"] == 0.0


@pytest.mark.parametrize("flag", [IS_DIFFICULT, IS_CROWD])
@pytest.mark.parametrize("hit", [False, True])
def test_difficult_objects_and_crowds_do_not_count(flag: int, hit: bool) -> None:
    """Whether it is found or missed: the score of the other object alone."""
    boxes = np.array([[1, 1, 11, 11], [20, 20, 30, 30]], np.float32)
    objects = pack_objects([Objects(boxes, np.zeros(2, np.int64), np.array([0, flag]))])
    kept = boxes[: 2 if hit else 1]
    found = [Found(kept, np.zeros(len(kept), np.int64), np.array([0.5, 0.9], np.float32)[: len(kept)], None)]
    scores = score(objects, found, [SHAPE], CLASSES, masked=False)["boxes"]
    assert scores["AP"] == pytest.approx(1.0)
    assert scores["per_class"][1] is None  # there is none of the other class


def test_a_difficult_object_is_matched_by_its_own_overlap() -> None:
    """A box inside a difficult object is no detection of it; one inside a crowd is."""
    boxes = np.array([[1, 1, 11, 11], [20, 10, 40, 30]], np.float32)
    inside = np.array([[1, 1, 11, 11], [22, 12, 30, 20]], np.float32)
    found = [Found(inside, np.zeros(2, np.int64), np.array([0.5, 0.9], np.float32), None)]
    aps = []
    for flag in (IS_DIFFICULT, IS_CROWD):
        objects = pack_objects([Objects(boxes, np.zeros(2, np.int64), np.array([0, flag]))])
        aps.append(score(objects, found, [SHAPE], CLASSES, masked=False)["boxes"]["AP"])
    assert aps == [pytest.approx(0.5), pytest.approx(1.0)]
