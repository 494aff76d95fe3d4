"""Boxes and masks of instances of VOC and COCO: where they end up in the stored image, and damaged ones.

Alone: pytest tests/data/importers/test_boxes.py
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from probekit.data.importers.boxed import in_photograph, in_square
from probekit.data.importers.official.voc import CLASSES as VOC_CLASSES
from probekit.h5 import Objects, read_split, verify
from probekit.h5.objects import IS_CROWD, IS_DIFFICULT, box_of, mask_of, runs_of
from tests.data.importers.planned import HEIGHT, WIDTH
from tests.data.importers.test_official import build, imported, refused

OBJECT = (
    "<object><name>{}</name><difficult>{}</difficult><part><name>head</name></part>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def annotate(folder: Path, *objects: str) -> None:
    for path in folder.glob("*.xml"):
        path.write_text(f"<annotation>{''.join(objects)}</annotation>")


def first(path: Path, split: str = "train") -> Objects:
    rows = read_split(path, split, objects=True).objects
    assert rows is not None
    return rows[0]


def test_boxes_of_voc_begin_at_the_outer_edge_of_their_first_pixel(tmp_path: Path) -> None:
    official, plan = build("voc2007", tmp_path)
    cat, dog = OBJECT.format("cat", 0, 1, 1, WIDTH, HEIGHT), OBJECT.format("dog", 1, "11.4", 6, 20, 15)
    annotate(plan.root / "Annotations", cat, dog)
    info = imported(official, plan.root, "--boxes", "--store", "original")
    assert verify(info.path).first.boxed
    assert not info.first.instances
    assert not info.first.masked
    found = first(info.path)
    np.testing.assert_allclose(found.boxes, np.array([[0, 0, WIDTH, HEIGHT], [10.4, 5, 20, 15]]), rtol=1e-6)
    assert [VOC_CLASSES[k] for k in found.labels] == ["cat", "dog"]
    assert found.flags.tolist() == [0, IS_DIFFICULT]
    assert found.masks is None


def test_they_are_moved_and_scaled_with_the_image(tmp_path: Path) -> None:
    official, plan = build("voc2007", tmp_path)
    annotate(plan.root / "Annotations", OBJECT.format("cat", 0, 11, 6, 20, 15), OBJECT.format("dog", 0, 1, 1, 4, 4))
    short = imported(official, plan.root, "--boxes", "--store", "short:15")
    np.testing.assert_allclose(first(short.path).boxes, np.array([[5, 2.5, 10, 7.5], [0, 0, 2, 2]]))
    side = ("--boxes", "--store", "pixels", "--size", 60)
    square = imported(official, plan.root, *side)  # the middle 30 x 30, twice as large
    np.testing.assert_allclose(first(square.path).boxes, [[10, 10, 30, 30]])  # the dog is cut off
    whole = imported(official, plan.root, *side, "--resize", "squash")
    np.testing.assert_allclose(first(whole.path).boxes, [[15, 10, 30, 30], [0, 0, 6, 8]])


def test_both_years_of_voc_make_one_set(tmp_path: Path) -> None:
    official, plan = build("voc2007,voc2012", tmp_path)
    for year, kind in (("VOC2007", "cat"), ("VOC2012", "dog")):
        annotate(plan.root / year / "Annotations", OBJECT.format(kind, 0, 1, 1, 4, 4))
    info = imported(official, plan.root, "--boxes")
    rows = read_split(info.path, "train", objects=True).objects
    assert rows is not None
    shown = [VOC_CLASSES[each.labels[0]] for each in rows]
    assert shown == ["cat"] * 7 + ["dog"] * 6  # one of the first is broken
    assert VOC_CLASSES[first(info.path, "test").labels[0]] == "cat"


CROWD = np.zeros((HEIGHT, WIDTH), np.bool_)
CROWD[20:28, 2:30] = True


def changed(plan: Any, **more: Any) -> list[dict[str, Any]]:
    """The first image of train has two objects, one of which is a crowd; `more` takes the place of the first's."""
    path = plan.root / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    image = min(each["id"] for each in content["images"])
    own = [each for each in content["annotations"] if each["image_id"] == image]
    own[0].update({"bbox": [30.0, 5.0, 12.0, 10.0], "segmentation": [[30, 5, 42, 5, 42, 15, 30, 15.5]]} | more)
    counts = {"counts": runs_of(CROWD).tolist(), "size": [HEIGHT, WIDTH]}
    own[1].update({"iscrowd": 1, "segmentation": counts, "bbox": [2.0, 20.0, 28.0, 8.0]})
    path.write_text(json.dumps(content))
    return own


def test_polygons_and_crowds_of_coco_become_masks(tmp_path: Path) -> None:
    official, plan = build("coco2017", tmp_path)
    own = changed(plan)
    info = imported(official, plan.root, "--boxes", "--store", "original")
    assert verify(info.path).first.instances
    found = first(info.path)
    np.testing.assert_allclose(found.boxes, [[30, 5, WIDTH, 15], [2, 20, 30, 28]])  # cut at the edge of the image
    assert [info.classes[k] for k in found.labels] == ["class 1", f"class {own[1]['category_id']}"]
    assert found.flags.tolist() == [0, IS_CROWD]
    assert found.masks is not None
    expected = coco_mask.decode(coco_mask.frPyObjects(own[0]["segmentation"], HEIGHT, WIDTH))[:, :, 0]
    np.testing.assert_array_equal(mask_of(found.masks[0], (HEIGHT, WIDTH)), expected)
    np.testing.assert_array_equal(mask_of(found.masks[1], (HEIGHT, WIDTH)), CROWD)
    last = read_split(info.path, "train", objects=True).objects
    assert last is not None
    assert [len(each) for each in last] == [2] * 6 + [0]


@given(st.integers(0, 2**32 - 1), st.sampled_from(["crop", "squash", "short"]))
def test_masks_stay_in_their_boxes(seed: int, how: str) -> None:
    """The box of what becomes of a mask is what becomes of its box, to a pixel."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(16, 40, 2).tolist()
    mask = np.zeros((height, width), np.bool_)
    top, left = rng.integers(0, height - 6), rng.integers(0, width - 6)
    mask[top : top + rng.integers(6, 20), left : left + rng.integers(6, 20)] = True
    one = Objects(np.array([box_of(mask)], np.float32), np.array([2]), np.array([1]), (runs_of(mask),))
    if how == "short":
        stored = (height // 2, width // 2)
        found = in_photograph(one, (height, width), stored)
    else:
        stored = (24, 24)
        found = in_square(one, (height, width), 24, how)
    for box, runs in zip(found.boxes, found.masks or (), strict=True):
        drawn = mask_of(runs, stored)
        assert (found.labels.tolist(), found.flags.tolist()) == ([2], [1])
        if drawn.any():
            np.testing.assert_allclose(box_of(drawn), box, atol=1.01)


def test_what_is_not_shrunk_keeps_its_masks() -> None:
    mask = np.random.default_rng(0).random((20, 30)) > 0.5
    one = Objects(np.array([[0, 0, 30, 20]], np.float32), np.array([0]), np.array([0]), (runs_of(mask),))
    found = in_photograph(one, (20, 30), (20, 30))
    assert found.masks is not None
    np.testing.assert_array_equal(mask_of(found.masks[0], (20, 30)), mask)


VOC_DAMAGES = {
    "no XML": ("<annotation><object>", "its annotation cannot be read: no element found"),
    "another encoding": ("<?xml version='1.0' encoding='nosuch'?><annotation/>", "cannot be read: unknown encoding"),
    "another page": ("<html></html>", "its annotation is no <annotation>, but a <html>"),
    "another class": (
        f"<annotation>{OBJECT.format('cow boy', 0, 1, 1, 2, 2)}</annotation>",
        "an object 'cow boy', which",
    ),
    "a box beyond": (f"<annotation>{OBJECT.format('cat', 0, 1, 1, 41, 2)}</annotation>", "not within its 40x30 pixels"),
    "a box in words": (f"<annotation>{OBJECT.format('cat', 0, 'a', 1, 4, 2)}</annotation>", "a box without xmin, ymin"),
}


@pytest.mark.parametrize("name", VOC_DAMAGES)
def test_damaged_annotations_of_voc_are_refused(tmp_path: Path, name: str) -> None:
    text, line = VOC_DAMAGES[name]
    official, plan = build("voc2007", tmp_path)
    annotate(plan.root / "Annotations")
    (plan.root / "Annotations" / "000001.xml").write_text(text)
    said = refused(official, plan.root, "--boxes", "--subset", "--out", tmp_path / "a.h5")
    assert "the first 'JPEGImages/000001.jpg'" in said
    assert line in said


COCO_DAMAGES: dict[str, tuple[dict[str, Any], str]] = {
    "a box of three": ({"bbox": [1, 2, 3]}, "expected bbox, iscrowd and segmentation of each object"),
    "no outline": ({"segmentation": []}, "expected bbox, iscrowd and segmentation of each object"),
    "half a point": ({"segmentation": [[1, 2, 3, 4, 5]]}, "expected bbox, iscrowd and segmentation of each object"),
    "another class": ({"category_id": 9}, "expected objects of listed images and classes"),
    "no image": ({"image_id": "a"}, "expected a whole number image_id"),
    "an outline out of this world": (
        {"segmentation": [[1e9, 5, 42, 5, 42, 15]]},
        "expected bbox, iscrowd and segmentation of each object",
    ),
    "a box out of this world": ({"bbox": [1, 2, 1e39, 3]}, "expected bbox, iscrowd and segmentation of each object"),
    "parts of runs": (
        {"segmentation": {"counts": [0.5, 1199.5], "size": [30, 40]}},
        "expected bbox, iscrowd and segmentation of each object",
    ),
    "packed runs": (
        {"segmentation": {"counts": "1200", "size": [30, 40]}},
        "expected bbox, iscrowd and segmentation of each object",
    ),
    "runs of runs": (
        {"segmentation": {"counts": [[0, 1200]], "size": [30, 40]}},
        "expected bbox, iscrowd and segmentation of each object",
    ),
    "runs without a size": (
        {"segmentation": {"counts": [0, 1200]}},
        "expected bbox, iscrowd and segmentation of each object",
    ),
    "runs lying down": ({"segmentation": {"counts": [0, 1200], "size": [40, 30]}}, "other than 40x30 pixels"),
    "a crowd in words": ({"iscrowd": "0"}, "expected bbox, iscrowd and segmentation of each object"),
    "a mask of another size": ({"segmentation": {"counts": [3], "size": [1, 3]}}, "a mask of other than 40x30 pixels"),
}


@pytest.mark.parametrize("name", COCO_DAMAGES)
def test_damaged_annotations_of_coco_are_refused(tmp_path: Path, name: str) -> None:
    more, line = COCO_DAMAGES[name]
    official, plan = build("coco2017", tmp_path)
    changed(plan, **more)
    assert line in refused(official, plan.root, "--boxes", "--subset", "--out", tmp_path / "a.h5")


def test_json_that_ends_early_is_refused(tmp_path: Path) -> None:
    official, plan = build("coco2017", tmp_path)
    path = plan.root / "annotations" / "instances_train2017.json"
    path.write_bytes(path.read_bytes()[:-200])
    assert "expected JSON in" in refused(official, plan.root, "--boxes", "--subset", "--out", tmp_path / "a.h5")


@pytest.mark.parametrize("boxes", [(), ("--boxes",)])
def test_images_of_one_id_and_lists_without_objects_are_refused(tmp_path: Path, boxes: tuple[str, ...]) -> None:
    official, plan = build("coco2017", tmp_path)
    path = plan.root / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    typed = (official, plan.root, *boxes, "--subset", "--out", tmp_path / "a.h5")
    path.write_text(json.dumps(content | {"images": [*content["images"], content["images"][0]]}))
    assert "expected images of different ids in" in refused(*typed)
    path.write_text(json.dumps(content | {"annotations": None}))
    assert "expected objects in annotations of" in refused(*typed)


def test_boxes_of_other_sets_are_refused(tmp_path: Path) -> None:
    official, plan = build("cub200", tmp_path)
    said = refused(official, plan.root, "--boxes", "--out", tmp_path / "a.h5")
    assert "expected --boxes with voc2007, voc2012, voc2007,voc2012, coco2017 only" in said
