"""The description and the picture grid of a dataset file: right counts, right pixels, and names that want to break it.

Alone: pytest tests/data/test_show.py
"""

import io
import json
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray
from rich.console import Console

from generators import GENERATORS
from probekit.data import show
from probekit.data.gallery import differing
from probekit.data.generate import generate
from probekit.data.show import _pairs, describe, draw_grid, grid_figure, preview, render_description
from probekit.h5 import DatasetWriter, Header, Split, pack, read_info, read_labels, read_split
from probekit.output.mosaic import GAP
from probekit.output.pictures import save
from probekit.output.style import COLUMN, DPI, OUTLINES, PAGE
from tests.datasets import edited, small_shapes

NAMES = [
    "[bold]x[/bold]",
    "$\\frac{1}{$",
    "two\nlines\t\x1b[31m",
    "非常に長い" * 20,
    "",
    "قط",
    "%s {0}",
    "</svg>",
    "\ud7ff",
]


def shapes(path: Path, name: str = "rect-tri", size: int = 64) -> Path:
    generate(
        name,
        out=path,
        n=40,
        n_test=8,
        size=size,
        parameters={"background": 0.25},
        workers=1,
    )
    return path


def plain(
    path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64] | None = None, classes: list[str] | None = None
) -> Path:
    header = Header(
        generator="", parameters={"source": "set"}, seed=0, classes=classes or [], factors=[], mask_names=[]
    )
    with DatasetWriter(path, header=header, compression="gzip", overwrite=True) as writer:
        writer.begin("train", len(images))
        writer.append(pack(Split(images, labels, {}, None), "gzip"))
    return path


def noise(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def read_png(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path))
    assert image is not None
    return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8)


def text_of(description: dict[str, Any]) -> str:
    stream = io.StringIO()
    Console(file=stream, width=100, force_terminal=False).print(render_description(description))
    return stream.getvalue()


@pytest.mark.parametrize("name", GENERATORS)
def test_the_description_is_json_and_counts_right(tmp_path: Path, name: str) -> None:
    description = describe(shapes(tmp_path / "a.h5", name))
    assert json.loads(json.dumps(description, allow_nan=False))["path"] == str(tmp_path / "a.h5")
    split = read_split(tmp_path / "a.h5", "train")
    counts = [int((split.labels == k).sum()) for k in range(len(description["classes"]))]  # type: ignore[union-attr]
    assert description["splits"]["train"]["per_class"] == counts
    assert sum(counts) == description["splits"]["train"]["n"] == 40
    text = text_of(description)
    for word in (*description["classes"], *split.factors, *description["mask_names"], description["content_hash"]):
        assert word in text


def shown_in(figure: Figure) -> list[NDArray[np.uint8]]:
    """The images of a grid, row by row."""
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


@pytest.mark.parametrize("name", GENERATORS)
def test_every_image_stands_plain_beside_its_outlined_evidence(tmp_path: Path, name: str) -> None:
    path = shapes(tmp_path / "a.h5", name)
    info, split = read_info(path), read_split(path, "train", masks=True)
    assert split.masks is not None
    bits = [bit for bit, mask in enumerate(info.mask_names) if mask.startswith("evidence:")]
    plain_one, outlined = show._cells(info, "train", [7], twice=True)
    assert plain_one.outlines == {}
    assert np.array_equal(plain_one.image, split.images[7])
    assert np.array_equal(outlined.image, split.images[7])
    assert list(outlined.outlines) == list(OUTLINES.values())[: len(bits)]
    for bit, mask in zip(bits, outlined.outlines.values(), strict=True):
        assert np.array_equal(mask, split.masks[7] >> bit & 1 == 1)
    images = shown_in(grid_figure(path))
    firsts = [int(np.flatnonzero(split.labels == k)[0]) for k in range(len(info.classes))]
    for row, first in enumerate(firsts):
        assert np.array_equal(images[8 * row], split.images[first])
        assert np.array_equal(images[8 * row + 1], split.images[first])
    assert preview(path) == tmp_path / "a.png"
    assert read_png(tmp_path / "a.png").shape[1] == round(PAGE * DPI)


def test_examples_are_those_that_differ_most() -> None:
    """The first, then the one that is farthest from all that are chosen: never two of a kind while there is another."""
    images = np.repeat(np.array([0, 0, 0, 250, 250, 120, 120, 0], np.uint8), 256).reshape(8, 16, 16)
    assert differing(images, 3) == [0, 3, 5]
    assert differing(images[:2], 3) == [0, 1]
    assert differing(np.repeat(images[..., None], 3, axis=3), 2) == [0, 3]


@pytest.mark.parametrize(
    "shape", [(5, 20, 30), (40, 20, 30, 3), (3, 1, 1), (3, 300, 40), (2, 700, 900, 3), (9, 1, 900)]
)
def test_unlabelled_images_of_any_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = noise(shape)
    path = plain(tmp_path / "a.h5", images)
    canvas = read_png(draw_grid(path, tmp_path / "deep" / "a.png"))
    assert canvas.shape[1] in (round(COLUMN * DPI), round(PAGE * DPI))
    assert canvas.shape[0] < 4000
    if max(shape[1:3]) < 64:
        assert np.array_equal(shown_in(grid_figure(path))[1], images[1])
    assert "no labels" in text_of(describe(path))


def test_names_that_want_to_break_it(tmp_path: Path) -> None:
    labels = np.arange(18) % len(NAMES)
    path = plain(tmp_path / "a.h5", noise((18, 32, 32)), labels, NAMES)
    figure = grid_figure(path)
    save(figure, tmp_path / "a.png")
    text = text_of(describe(path))
    assert "\x1b" not in text
    assert "[bold]x[/bold]" in text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks
        figure.draw_without_rendering()
        box = figure.axes[0].get_window_extent()
        drawn = [text.get_window_extent() for text in figure.axes[0].texts if text.get_horizontalalignment() == "right"]
    assert all(each.x1 <= box.x0 for each in drawn), "no name covers an image"
    assert all(each.x0 >= 0 for each in drawn)


def test_many_classes_are_cut_and_absent_ones_left_out(tmp_path: Path) -> None:
    labels = np.concatenate([np.arange(10, 90), [99]]).astype(np.int64)
    path = plain(tmp_path / "a.h5", noise((81, 16, 16)), labels, [str(k) for k in range(100)])
    figure = grid_figure(path, columns=3)
    assert figure.axes[0].get_ylim() == (24, 0)
    assert figure.texts[0].get_text() == "set, train, the first 24 of 100 classes"


def test_the_scale_bar_is_as_long_as_it_says(tmp_path: Path) -> None:
    """In pixels of the file: these images are drawn at half their size and less."""
    for side, px in ((32, 8), (64, 16), (700, 128)):
        figure = grid_figure(plain(tmp_path / "a.h5", noise((3, side, side))))
        (bar,), (text,) = figure.axes[0].lines, [t for t in figure.axes[0].texts if t.get_text().endswith(" px")]
        ends = np.asarray(bar.get_xdata())
        assert text.get_text() == f"{px} px"
        assert (ends[1] - ends[0]) / (1 - 2 * GAP) == pytest.approx(px / side)


def test_asking_for_what_is_not_there(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.h5", noise((3, 8, 8)))
    with pytest.raises(ValueError, match="one of the splits train, found 'val'"):
        draw_grid(path, tmp_path / "a.png", split="val")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        draw_grid(path, tmp_path / "file" / "a.png")


def test_a_picture_never_replaces_the_dataset(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.png", noise((3, 8, 8)))
    before = path.read_bytes()
    (tmp_path / "link.png").symlink_to(path)
    for out in (path.with_suffix(".png"), tmp_path / "link.png"):
        with pytest.raises(ValueError, match="no picture that probekit drew"):
            draw_grid(path, out)
    assert path.read_bytes() == before


def test_minimal_pairs_stand_side_by_side(tmp_path: Path) -> None:
    """Each row is a base and its counterfactuals; the picture is 3 cells wide, with 6 rows."""
    path = tmp_path / "pairs.h5"
    small_shapes(path, n=8, n_test=4, size=128, pairs=True)
    rows, columns = _pairs(read_info(path), "train")
    assert columns == ["base", "other corner", "other triangle"]
    assert [indices for _, indices in rows] == [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(6)]
    labels = read_split(path, "train").labels
    assert labels is not None
    assert [name for name, _ in rows] == [GENERATORS["rect-tri"].classes[k] for k in labels[:18:3]]
    figure = grid_figure(path)
    assert (figure.axes[0].get_xlim(), figure.axes[0].get_ylim()) == ((0, 3), (6, 0))


@pytest.mark.parametrize("missing", ["pair_role", "labels"])
def test_half_of_what_makes_pairs_is_no_pairs(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "pairs.h5"
    small_shapes(path, n=8, n_test=4, pairs=True)
    with edited(path) as file:
        for split in ("train", "test"):
            del file[split]["labels" if missing == "labels" else f"factors/{missing}"]
        factors = [factor for factor in json.loads(file.attrs["factors"]) if factor["name"] != missing]
        file.attrs["factors"] = json.dumps(factors)
    assert preview(path).exists()


def test_brightness_by_class_is_the_ink_fraction(tmp_path: Path) -> None:
    """The residual between the classes of a clean set, which `gen` matches, against the images themselves."""
    path = tmp_path / "shapes.h5"
    small_shapes(path, n=40, size=64)
    held = read_split(path, "train")
    assert held.labels is not None
    expected = [float((held.images[held.labels == k] / 255).mean()) for k in range(4)]
    assert describe(path)["splits"]["train"]["brightness"] == pytest.approx(expected)
    assert max(expected) - min(expected) < 2e-3


@pytest.mark.parametrize("shape", [(1024, 1024), (700, 500, 3)])
def test_large_images_are_read_a_few_at_a_time(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = np.full((80, *shape), 51, np.uint8)
    path = plain(tmp_path / "large.h5", images, np.arange(80) % 2, ["a", "b"])
    tracemalloc.start()
    try:
        described = describe(path)
        draw_grid(path, tmp_path / "large.png")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert described["splits"]["train"]["brightness"] == pytest.approx([0.2, 0.2])
    assert peak < 50 << 20 < images.nbytes  # 32 MiB for the pixels, 45 MiB for the canvas


def test_classes_of_scenes_show_other_images_and_no_evidence(tmp_path: Path) -> None:
    """Their masks are objects, not pixels that a factor changes; images have several labels, and stand once."""
    generate("scenes", out=(path := tmp_path / "a.h5"), n=40, n_test=8, size=64, workers=1)
    info, labels = read_info(path), read_labels(path, "train")
    rows = show._choose(info, labels, "train", 3)
    shown = [index for _, indices in rows for index in indices]
    assert [name for name, _ in rows] == list(info.classes)
    assert len(set(shown)) == len(shown) == 9
    told = "\n".join(text.get_text() for text in grid_figure(path).findobj(Text))
    assert "Outlined: the masks of the file." in told
    assert show.EVIDENCE_IS not in told
