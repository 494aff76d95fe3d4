"""The picture of a heatmap result, and its verdict. Alone: pytest tests/heatmaps/test_draw.py."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from sklearn.metrics import roc_auc_score

from probekit.data.truth import Truth, read_truth
from probekit.h5 import read_info
from probekit.heatmaps.base import Row
from probekit.heatmaps.draw import choose, coloured, differing, draw_gallery
from probekit.heatmaps.run import coarse_maps
from probekit.heatmaps.verdict import verdicts
from probekit.output.style import PAGE, RIGHT, WRONG
from tests.datasets import small_shapes

RESULT = {"run": "a", "checkpoint": "last", "data": "somewhere/rect-tri.h5"}


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Truth:
    path = tmp_path_factory.mktemp("truth") / "rect-tri.h5"
    small_shapes(path, n=8, n_test=24, size=32)
    return read_truth(read_info(path), "test", 24)


def row(name: str, target: str, maps: Any, *, signed: bool = True) -> Row:
    return Row(name, name, "map", target, "trained", "", signed, np.asarray(maps, np.float32))


def texts(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_maps_lie_over_images_as_cells_with_their_score_below(truth: Truth) -> None:
    maps = np.random.default_rng(0).normal(size=(24, 32, 32))
    figure = draw_gallery(RESULT, truth, [row("cam", "corner", maps)], truth.split.class_labels)
    assert figure.get_size_inches()[0] == PAGE
    assert figure.texts[0].get_text() == "Where a looks on rect-tri", "names and not paths"
    shown = choose(truth, truth.split.class_labels)
    assert len(shown) == 8
    for sample in shown:
        mask = truth.masks["evidence:corner"][sample.place]
        expected = roc_auc_score(mask.ravel(), maps[sample.place].astype(np.float32).ravel())
        assert f"{expected:.2f}" in texts(figure)
    assert all(image.get_interpolation() == "nearest" for image in figure.axes[0].images)
    overlays = [image for image in figure.axes[0].images if np.asarray(image.get_array()).shape == (32, 32, 4)]
    assert len(overlays) == 8


def test_maps_that_differ_in_their_unit_alone_are_drawn_once(truth: Truth) -> None:
    maps = np.random.default_rng(0).normal(size=(24, 8, 8))
    rows = [row("cam", "corner", maps), row("gradcam", "corner", maps / 64), row("gradcam", "triangle", maps)]
    rows += [row("attention", "", np.abs(maps) + 1, signed=False), row("-gradcam-ssl", "", -maps)]
    figure = draw_gallery(RESULT, truth, rows, None)
    names = [text for text in texts(figure) if text.endswith("cells")]
    assert names == ["cam = gradcam\ncorner\n8 x 8 cells", "gradcam\ntriangle\n8 x 8 cells", "attention\n8 x 8 cells"]


def test_right_and_wrong_are_chosen_and_marked(truth: Truth) -> None:
    labels = truth.split.class_labels
    assert labels is not None
    predicted = np.where(np.arange(24) % 2 == 0, labels, (labels + 1) % 4)
    shown = choose(truth, predicted)
    for k, name in enumerate(truth.info.classes):
        mine = [sample for sample in shown if sample.label == name]
        assert [sample.predicted == name for sample in mine] == [True, False]
        assert [sample.place for sample in mine] == [
            np.flatnonzero((labels == k) & (predicted == k))[0],
            np.flatnonzero((labels == k) & (predicted != k))[0],
        ]
    figure = draw_gallery(RESULT, truth, [row("cam", "corner", np.ones((24, 8, 8)))], predicted)
    signs = [text for text in texts(figure) if text[:1] in ("✓", "✗")]
    assert [sign[0] for sign in signs] == ["✓", "✗"] * 4
    frames = {to_hex(patch.get_edgecolor()) for patch in figure.axes[0].patches}
    assert {RIGHT, WRONG} <= frames


def test_images_without_labels_or_masks_are_drawn(truth: Truth) -> None:
    bare = replace(truth, split=replace(truth.split, labels=None))
    bare.__dict__["masks"] = {}  # it is a cached property
    figure = draw_gallery(RESULT, bare, [row("cam", "", np.ones((24, 8, 8)))], None)
    assert figure.axes[0].get_ylim() == (2, 0), "no row of evidence"


def test_colours_are_nothing_at_zero_and_strongest_at_the_ends() -> None:
    found = coloured(np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0]))
    alpha = found[:, 3]
    assert alpha.tolist() == pytest.approx([0.9, 0.9, 0.45, 0, 0.45, 0.9])
    assert (found[0, :3] == found[2, :3]).all()
    assert (found[4, :3] != found[2, :3]).any()


def test_what_differs_of_a_class() -> None:
    assert differing("round-right", "sharp-right") == "round"
    assert differing("round, right", "sharp, equilateral") == "round, right"
    assert differing("cat", "dog-like") == "cat"


def test_coarse_maps_are_said_with_what_to_type() -> None:
    rows = [row("cam", "", np.ones((1, 2, 3))), row("occlusion", "", np.ones((1, 9, 9)))]
    told = coarse_maps(rows, "probekit heatmap a --maps occlusion")
    assert told.startswith("cam: 2 x 3 cells are too few")
    assert told.endswith("type: probekit heatmap a --maps occlusion")
    assert coarse_maps(rows[1:], "a") == coarse_maps([row("cam", "", np.ones((1, 4, 4)))], "a") == ""


def scored(name: str, kind: str, target: str, mean: float | None, ci: Any) -> dict[str, Any]:
    score = {"auroc": {"mean": mean, "ci": ci, "n": 9, "undefined": 0, "normalised": None}}
    return {"name": name, "kind": kind, "target": target, "scores": {"evidence:corner": score, "rectangle": score}}


@pytest.mark.parametrize(
    ("own", "beside", "told"),
    [
        ([0.8, 0.9], [0.6, 0.7], "It points there better than every baseline."),
        ([0.6, 0.7], [0.65, 0.8], "Not told apart from that baseline: the intervals overlap."),
        ([0.55, 0.6], [0.8, 0.9], "That baseline points there better."),
        ([0.4, 0.6], [0.3, 0.35], "It points there no better than by chance."),
        (None, [0.3, 0.35], "Too few images to tell them apart."),
    ],
)
def test_the_verdict_is_what_intervals_say(own: Any, beside: Any, told: str) -> None:
    rows = [
        scored("cam", "map", "corner", 0.5 if own is None else sum(own) / 2, own),
        scored("gradcam", "map", "corner", 0.5 if own is None else sum(own) / 2, own),
        scored("worse", "map", "corner", 0.1, [0, 0.2]),
        scored("another's", "map", "triangle", 0.99, [0.98, 1]),
        scored("uniform", "baseline", "", 0.2, [0.1, 0.3]),
        scored("edges", "baseline", "", sum(beside) / 2, beside),
        scored("ceiling", "ceiling", "corner", 0.97, [0.96, 0.98]),
        scored("nothing", "map", "", None, None),
    ]
    (line,) = verdicts({"masks": ["rectangle", "evidence:corner"], "rows": rows})
    assert line.startswith("corner: best map cam = gradcam, AUROC ")
    assert f"; best baseline edges, {sum(beside) / 2:.2f} " in line
    assert "; ceiling 0.97. " in line
    assert line.endswith(told)


def test_without_evidence_every_mask_has_a_verdict_and_without_masks_none() -> None:
    rows = [scored("cam", "map", "", 0.9, [0.8, 1.0])]
    assert verdicts({"masks": ["rectangle"], "rows": rows}) == [
        "rectangle: best map cam, AUROC 0.90 [0.80, 1.00]. It points there."
    ]
    assert verdicts({"masks": [], "rows": rows}) == []
