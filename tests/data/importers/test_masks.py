"""Masks of one's own images: a PNG beside each, under its place and name."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from probekit.cli import app
from probekit.h5 import CentreCrop, open_encoded, read_info, read_split
from tests.data.importers.layouts import cub200, fgvc_aircraft, stanford_cars, stanford_cars_single

SIDE = 16


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, NDArray[np.uint8]]:
    """Eight images in two classes, and the values of their masks; a corner is 1, the middle 2."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    masks = {}
    for name in ("cat", "dog"):
        for k in range(4):
            image = draw.integers(0, 256, (SIDE, SIDE), np.uint8)
            mask = np.zeros((SIDE, SIDE), np.uint8)
            mask[: k + 1, :3], mask[6:9, 6:9] = 1, 2
            for folder, pixels in (("photos", image), ("outlines", mask)):
                (tmp_path / folder / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(tmp_path / folder / name / f"{k}.png")
            masks[f"{name}/{k}"] = mask
    return masks


def imported(*words: str) -> str:
    """What the command printed, or why it refused."""
    done = CliRunner().invoke(app, ["import", "photos", "--test-fraction", "0.25", *words])
    return done.output + ("" if done.exception is None else str(done.exception))


@pytest.mark.parametrize("store", [(), ("--store", "original", "--test-crop", "16:16")])
def test_each_value_is_a_mask_of_its_name(photos: dict[str, NDArray[np.uint8]], store: tuple[str, ...]) -> None:
    assert "wrote" in imported("--masks", "outlines", "--mask-names", "evidence:corner,middle", *store)
    assert read_info(Path("data/photos.h5")).mask_names == ("evidence:corner", "middle")
    for split in ("train", "test"):
        found = read_split(Path("data/photos.h5"), split, masks=True)
        assert found.masks is not None
        for image, masks in zip(found.images, found.masks, strict=True):
            (name,) = (
                key for key in photos if np.array_equal(np.asarray(Image.open(Path("photos") / f"{key}.png")), image)
            )
            np.testing.assert_array_equal(masks, np.array([0, 1, 2])[photos[name]])


def test_one_name_takes_all_that_is_not_0(photos: dict[str, NDArray[np.uint8]]) -> None:
    mask = Image.fromarray(photos["cat/0"] > 0)  # of one bit
    mask.save("outlines/cat/0.png")
    assert "wrote" in imported("--masks", "outlines")
    found = read_split(Path("data/photos.h5"), "train", masks=True)
    assert read_info(Path("data/photos.h5")).mask_names == ("mask",)
    assert found.masks is not None
    assert sorted({int(mask.sum()) for mask in found.masks}) <= [12, 15, 18, 21]


def test_missing_ones_are_counted_and_damaged_ones_refused(photos: dict[str, NDArray[np.uint8]]) -> None:
    Path("outlines/cat/0.png").unlink()
    assert "1 of 8 images have no mask: their masks are empty" in imported("--masks", "outlines")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save("outlines/cat/0.png")
    assert "its mask and the image have other sizes, 4x4 and 16x16" in imported("--masks", "outlines", "--overwrite")
    Image.fromarray(np.full((SIDE, SIDE), 3, np.uint8)).save("outlines/cat/0.png")
    said = imported("--masks", "outlines", "--mask-names", "a,b", "--overwrite")
    assert "its mask is not of 0 to 2, it has 3" in said


BOXED = {  # a set whose box of each image becomes a mask: its layout, and the name of that mask
    "stanford-cars": (stanford_cars, "car"),
    "stanford-cars, single": (stanford_cars_single, "car"),
    "cub200": (cub200, "box"),
    "fgvc-aircraft": (fgvc_aircraft, "aircraft"),
}


@pytest.mark.parametrize("name", BOXED)
def test_boxes_of_objects_become_masks(name: str, tmp_path: Path) -> None:
    """Columns 3 to 30 and rows 4 to 28, counted from 1, of a photograph as it is."""
    layout, mask_name = BOXED[name]
    root = layout(tmp_path / "set").root
    out = tmp_path / "boxed.h5"
    how = ["--store", "original", "--test-crop", "32:32", "--subset", "--skip-broken", "--out", str(out)]
    done = CliRunner().invoke(app, ["import", name.partition(",")[0], str(root), *how])
    assert done.exit_code == 0, done.output
    assert read_info(out).mask_names == (mask_name,)
    found = read_split(out, "train", masks=True)
    assert found.masks is not None
    encoded = open_encoded(out, "train")
    for row, mask in enumerate(found.masks):
        whole = np.zeros(encoded.size(row), bool)
        whole[3:28, 2:30] = True
        x0, y0, x1, y1 = CentreCrop(32, 32).box(*whole.shape)
        columns, rows = ((np.arange(32) + 0.5) * (high - low) / 32 + low for low, high in ((x0, x1), (y0, y1)))
        wanted = whole[np.ix_(rows.astype(int), columns.astype(int))]
        assert np.mean(wanted != (mask > 0)) < 0.05


@pytest.mark.parametrize("line", ["{key} 2 3 28", "{key} 2 3 28 inf", "1 2 3 28 25"])
@pytest.mark.parametrize(("name", "file"), [("cub200", "bounding_boxes.txt"), ("fgvc-aircraft", "data/images_box.txt")])
def test_damaged_lists_of_boxes_are_refused(name: str, file: str, line: str, tmp_path: Path) -> None:
    """Three numbers, one that is none, and a list that leaves images out."""
    root = BOXED[name][0](tmp_path / "set").root
    key = (root / file).read_text().split()[0]
    (root / file).write_text(line.format(key=key) + "\n")
    done = CliRunner().invoke(app, ["import", name, str(root), "--subset", "--out", str(tmp_path / "a.h5")])
    said = done.output + str(done.exception)
    assert f"expected {'four numbers of each box' if '{' in line else 'a box of image'}" in said
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.parametrize(("name", "file"), [("cub200", "bounding_boxes.txt"), ("fgvc-aircraft", "data/images_box.txt")])
def test_without_a_list_of_boxes_a_line_says_so(name: str, file: str, tmp_path: Path) -> None:
    root = BOXED[name][0](tmp_path / "set").root
    (root / file).unlink()
    out = tmp_path / "a.h5"
    done = CliRunner().invoke(app, ["import", name, str(root), "--subset", "--skip-broken", "--out", str(out)])
    assert "no masks: the" in done.output
    assert read_info(out).mask_names == ()


@pytest.mark.usefixtures("photos")
def test_what_cannot_be_meant_is_one_line() -> None:
    assert "expected a PNG for each image in photos2, found none, not even photos2/cat/0.png" in imported(
        "--masks", "photos2"
    )
    assert "names of masks that differ, found 'a, a'" in imported("--masks", "outlines", "--mask-names", "a,a")
    done = CliRunner().invoke(app, ["import", "digits", "--masks", "outlines"])
    assert "expected --masks with a folder of images" in str(done.exception)
