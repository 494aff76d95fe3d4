"""Sets in class folders and lists: which division, which classes, and the masks of Oxford Pets, all the way to a map.

Alone: pytest tests/data/importers/test_in_folders.py
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from probekit.cli import app
from probekit.data.importers import Choices, Import, Options, Told
from probekit.data.importers.official import by_class
from probekit.data.show import grid_figure
from probekit.data.truth import read_truth
from probekit.h5 import read_info, read_split, verify
from tests.data.importers import in_folders
from tests.data.importers.planned import HEIGHT, WIDTH
from tests.data.importers.test_official import SIZE, assert_as_planned, build, imported, refused, run

# --- divisions and classes ---


def test_another_division_of_dtd(tmp_path: Path) -> None:
    _, plan = build("dtd", tmp_path)
    info = imported("dtd", plan.root, "--fold", 3)
    planned = {"train": plan.splits["test"], "val": plan.splits["train"], "test": plan.splits["val"]}
    assert_as_planned(info, planned)
    assert info.parameters["fold"] == 3
    assert imported("dtd", plan.root).parameters["fold"] == 1
    said = " ".join(run("dtd", plan.root, "--subset", "--skip-broken", "--out", tmp_path / "a.h5").output.split())
    assert "division 1 of 10 (--fold)" in said
    assert "dtd, sun397" in refused("food101", plan.root, "--fold", 3).replace("stl10, ", "")


@pytest.mark.parametrize("partitions", [".", "SUN397", "SUN397/Partitions"])
def test_lists_of_sun397_beside_and_within(tmp_path: Path, partitions: str) -> None:
    plan = in_folders.sun397(tmp_path / "set", partitions=partitions)
    assert_as_planned(imported("sun397", plan.root), plan.splits)
    info = imported("sun397", plan.root, "--fold", 10)
    assert_as_planned(info, {"train": plan.splits["test"], "test": plan.splits["train"]})


def test_the_background_of_caltech101(tmp_path: Path) -> None:
    _, plan = build("caltech101", tmp_path)
    done = run("caltech101", plan.root, "--subset", "--skip-broken", "--out", tmp_path / "a.h5")
    said = " ".join(done.output.split())
    assert "BACKGROUND_Google is left out" in said
    assert "Faces_easy has the photographs of Faces" in said
    assert "test" in read_info(tmp_path / "a.h5").splits
    info = imported("caltech101", plan.root, "--labels", "with-background")
    assert info.classes == ("BACKGROUND_Google", "Faces", "Faces_easy", "accordion")
    shifted = [replace(image, label=image.label + 1) for image in plan.splits["train"]]
    assert_as_planned(info, {"train": plan.beside["background"] + shifted})
    assert "9,144 train" in refused("caltech101", plan.root, "--labels", "with-background")


def test_a_set_whose_sizes_fit_must_have_all_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, plan = build("caltech101", tmp_path)
    monkeypatch.setattr(by_class, "N_OBJECTS", 12)
    text = refused("caltech101", plan.root)
    assert "expected the 101 classes of caltech101, found 3" in text
    assert text.endswith("type --subset")


def test_folders_of_eurosat_go_by_two_names(tmp_path: Path) -> None:
    plan = in_folders.eurosat(tmp_path / "set", below="EuroSAT_RGB")
    assert_as_planned(imported("eurosat", plan.root), plan.splits)
    done = run("eurosat", plan.root, "--subset", "--test-fraction", 0, "--skip-broken", "--out", tmp_path / "a.h5")
    assert "skipped AnnualCrop/Thumbs.db: not an image file by its name" in done.output
    assert "type --test-fraction 0" in refused("eurosat", plan.root, "--subset", "--skip-broken")


@pytest.mark.parametrize(
    ("name", "file", "line", "said"),
    [
        ("tiny-imagenet", "val/val_annotations.txt", "val_0.JPEG\tn99999999\t0\t0\n", "n99999999"),
        ("dtd", "labels/train1.txt", "dotty/dotty_0001.jpg\n", "dotty/dotty_0001.jpg"),
        ("food101", "meta/train.txt", "1005649\n", "CLASS/NAME lines"),
        ("sun397", "Partitions/Training_01.txt", "/z/zoo/sun_a.jpg\n", "z/zoo/sun_a.jpg"),
        ("oxford-pets", "annotations/test.txt", "Abyssinian_1 38 1 1\n", "a class from 1 to 37"),
        ("oxford-pets", "annotations/test.txt", "Abyssinian_1 1 3 1\n", "1 or 2"),
        ("oxford-pets", "annotations/test.txt", "Abyssinian_1 x 1 1\n", "whole number"),
    ],
)
def test_lines_that_do_not_fit_are_one_line(tmp_path: Path, name: str, file: str, line: str, said: str) -> None:
    _, plan = build(name, tmp_path)
    (plan.root / file).write_text(line)
    assert said in refused(name, plan.root, "--subset")


def test_an_archive_and_another_set_say_what_to_type(tmp_path: Path) -> None:
    (tmp_path / "dtd.tar.gz").write_bytes(b"packed")
    text = refused("dtd", tmp_path / "dtd.tar.gz")
    assert text.endswith(f"unpack it, and type: probekit import dtd {tmp_path}")
    _, plan = build("tiny-imagenet", tmp_path)
    assert refused("imagenet", plan.root).endswith(f"type: probekit import tiny-imagenet {plan.root}")


# --- masks of Oxford Pets ---


def planned_masks(n: int) -> Any:
    """The animal is the upper half, its outline the row below; of 30 rows that became 16."""
    masks = np.zeros((n, SIZE, SIZE), np.uint8)
    masks[:, :8], masks[:, 8] = 1, 2
    return masks


def test_trimaps_become_masks_with_names(tmp_path: Path) -> None:
    _, plan = build("oxford-pets", tmp_path)
    info = imported("oxford-pets", plan.root, "--store", "pixels")
    assert info.mask_names == ("pet", "border")
    for split, shots in plan.splits.items():
        masks = read_split(info.path, split, masks=True).masks
        np.testing.assert_array_equal(masks, planned_masks(len(shots)))
    verify(info.path)
    species = imported("oxford-pets", plan.root, "--labels", "species")
    assert species.classes == ("cat", "dog")
    labels = read_split(species.path, "train").labels
    assert labels is not None
    assert labels.tolist() == [int(shot.label > 0) for shot in plan.splits["train"]]


def test_photographs_without_trimaps_are_said(tmp_path: Path) -> None:
    _, plan = build("oxford-pets", tmp_path)
    (plan.root / "annotations" / "trimaps" / "Abyssinian_2.png").unlink()
    typed = ("oxford-pets", plan.root, "--subset", "--skip-broken", "--size", SIZE, "--overwrite", "--out")
    said = " ".join(run(*typed, tmp_path / "a.h5").output.split())
    assert "1 of 13 images have no trimap: their masks are empty" in said
    masks = read_split(tmp_path / "a.h5", "train", masks=True).masks
    assert masks is not None
    assert [bool(mask.any()) for mask in masks] == [True, False, *[True] * 6]
    without = in_folders.oxford_pets(tmp_path / "without", trimaps=False)
    said = " ".join(run("oxford-pets", without.root, *typed[2:], tmp_path / "b.h5").output.split())
    assert "no masks: the trimaps are not in" in said
    assert read_info(tmp_path / "b.h5").mask_names == ()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.full((HEIGHT, WIDTH), 4, np.uint8), "not of 1, 2 and 3, it has 4"),
        (np.ones((HEIGHT, WIDTH + 1), np.uint8), f"other sizes, {WIDTH + 1}x{HEIGHT} and {WIDTH}x{HEIGHT}"),
        (np.ones((HEIGHT, WIDTH, 3), np.uint8), "no grey image"),
        (np.ones((HEIGHT, WIDTH), np.uint16), "no grey image"),
        (None, "no grey image"),
    ],
)
def test_a_damaged_trimap_makes_a_broken_image(tmp_path: Path, content: Any, said: str) -> None:
    _, plan = build("oxford-pets", tmp_path)
    path = plan.root / "annotations" / "trimaps" / "Abyssinian_2.png"
    if content is None:
        path.write_bytes(b"\x89PNG and no more")
    else:
        cv2.imwrite(str(path), content)
    (plan.root / plan.broken).write_bytes((plan.root / "images" / "Abyssinian_2.jpg").read_bytes())
    text = refused("oxford-pets", plan.root, "--subset", "--out", tmp_path / "a.h5")
    assert "images/Abyssinian_2.jpg" in text
    assert said in text


def test_masks_are_too_many_for_jpeg(tmp_path: Path) -> None:
    _, plan = build("oxford-pets", tmp_path)
    typed = ("oxford-pets", plan.root, "--subset", "--skip-broken", "--store", "pixels", "--out", tmp_path / "a.h5")
    text = refused(*typed, "--max-gb", 0.001)
    assert "type --max-gb 1, or a smaller --size" in text
    assert run(*typed, "--max-gb", 1).exit_code == 0


@pytest.mark.parametrize("compression", ["none", "gzip", "lzf"])
def test_an_interrupted_import_keeps_its_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str
) -> None:
    monkeypatch.setattr("probekit.data.importers.importer.IN_A_SHARD", 3)
    _, plan = build("oxford-pets", tmp_path)

    def take(out: Path, after: int) -> list[str]:
        def stop(done: int, total: int) -> None:
            if done >= after:
                raise KeyboardInterrupt

        lines: list[str] = []
        options = Options(size=SIZE, resize="crop", max_gb=8.0)
        work = Import(
            options, out, skip_broken=True, overwrite=True, compression=compression, told=Told(stop, lines.append)
        )
        work.of_official("oxford-pets", plan.root, Choices(subset=True))
        return lines

    take(tmp_path / "whole.h5", 99)
    for after in (5, 8, 12):
        with pytest.raises(KeyboardInterrupt):
            take(tmp_path / "a.h5", after)
    assert "going on after" in take(tmp_path / "a.h5", 99)[0]
    for path in (tmp_path / "whole.h5").iterdir():
        assert (tmp_path / "a.h5" / path.name).read_bytes() == path.read_bytes()


def test_masks_are_outlined(tmp_path: Path) -> None:
    _, plan = build("oxford-pets", tmp_path)
    info = imported("oxford-pets", plan.root)
    assert list(read_truth(info, "train", 4).masks) == ["pet", "border"]
    shown = grid_figure(info.path)
    without = in_folders.oxford_pets(tmp_path / "without", trimaps=False)
    plain = grid_figure(imported("oxford-pets", without.root).path)
    assert {"pet", "border"} <= {text.get_text() for text in shown.texts}
    assert shown.axes[0].collections
    assert not plain.axes[0].collections


def test_heatmaps_are_scored_against_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way, with a photograph that has no trimap among those looked at."""
    _, plan = build("oxford-pets", tmp_path)
    (plan.root / "annotations" / "trimaps" / "Abyssinian_11.png").unlink()
    info = imported("oxford-pets", plan.root, "--labels", "species")
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    small = (
        "--set",
        "train.epochs=1",
        "--set",
        "train.batch_size=4",
        "--set",
        "model.width=4",
        "--set",
        "model.depth=2",
    )
    done = runner.invoke(
        app, ["pretrain", "simsiam", "--preset", "quick", "--data", str(info.path), "--name", "a", *small]
    )
    assert done.exit_code == 0, (done.output, done.exception)
    done = runner.invoke(app, ["heatmap", "a", "--maps", "input-gradient", "--n", "4", "--perturb", "0", "--json"])
    assert done.exit_code == 0, (done.output, done.exception)
    result = json.loads(done.stdout)
    assert result["masks"] == ["pet", "border"]
    [flat] = (row for row in result["rows"] if row["name"] == "uniform")
    assert flat["scores"]["pet"]["pointing"] | {"ci": None} == {
        "mean": 0.5,
        "ci": None,
        "n": 3,
        "undefined": 1,
        "normalised": None,
    }
    assert result["chance"] == {"pet": 0.5, "border": 1 / 16}


# --- segmentations of CUB and VOC ---


def saved_segments(path: Path, values: Any, mode: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(values, np.uint8))
    if mode == "P":
        image.putpalette([value for number in range(256) for value in (number * 37 % 256, number * 91 % 256, 7)])
    image.convert(mode).save(path) if mode == "LA" else image.save(path)


@pytest.mark.parametrize("above", [True, False])
@pytest.mark.parametrize("mode", ["L", "LA"])
def test_segmentations_of_birds_become_masks(tmp_path: Path, above: bool, mode: str) -> None:
    _, plan = build("cub200", tmp_path)
    where = (plan.root.parent if above else plan.root) / "segmentations"
    shares = np.zeros((HEIGHT, WIDTH), np.uint8)
    shares[: HEIGHT // 2], shares[HEIGHT // 2 :] = 153, 102  # of five annotators three, and two
    for path in (plan.root / "images").rglob("*.jpg"):
        saved_segments((where / path.relative_to(plan.root / "images")).with_suffix(".png"), shares, mode)
    info = imported("cub200", plan.root, "--store", "pixels")
    assert info.mask_names == ("bird",)
    for split, shots in plan.splits.items():
        masks = read_split(info.path, split, masks=True).masks
        np.testing.assert_array_equal(masks, planned_masks(len(shots)) & 1)
    verify(info.path)


def voc_with_segments(tmp_path: Path, values: Any) -> Any:
    _, plan = build("voc2007", tmp_path)
    for number in (1, 3, 12):
        saved_segments(plan.root / "SegmentationClass" / f"{number:06}.png", values, "P")
    return plan


def test_segmentations_of_voc_are_masks_by_class_name(tmp_path: Path) -> None:
    """Twenty classes and void: more than a byte has bits."""
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    values[: HEIGHT // 2], values[HEIGHT // 2 : HEIGHT // 2 + 2] = 20, 255
    plan = voc_with_segments(tmp_path, values)
    for store in ("pixels", "short:512"):
        info = imported("voc2007", plan.root, "--store", store, "--compression", "gzip")
        assert len(info.mask_names) == 21
        assert (info.mask_names[0], info.mask_names[-2:]) == ("aeroplane", ("tvmonitor", "void"))
        verify(info.path)
        masks = read_split(info.path, "train", masks=True).masks
        assert masks is not None
        assert masks.dtype == np.uint32
        assert (masks[0][:7] == 1 << 19).all()
        assert set(np.unique(masks[0]).tolist()) == {0, 1 << 19, 1 << 20}
        assert not masks[1].any()
    said = run("voc2007", plan.root, "--subset", "--skip-broken", "--out", tmp_path / "a.h5")
    assert "13 of 16 images have no segmentation: their masks are empty" in " ".join(said.output.split())
    assert grid_figure(info.path)
    truth = read_truth(info, "train", 2)
    assert truth.masks["tvmonitor"][0].any()
    assert not truth.masks["aeroplane"].any()


@pytest.mark.parametrize("how", ["reshard", "split"])
def test_masks_of_many_names_are_copied(tmp_path: Path, how: str) -> None:
    values = np.tile(np.arange(21, dtype=np.uint8), (HEIGHT, WIDTH))[:, :WIDTH]
    plan = voc_with_segments(tmp_path, values)
    info = imported("voc2007", plan.root)
    words = {"reshard": ["--shards", "2"], "split": ["--join", "--test-fraction", "0.3"]}[how]
    done = CliRunner().invoke(app, [how, str(info.path), *words, "--out", str(tmp_path / "copy.h5")])
    assert done.exit_code == 0, (done.output, done.exception)
    copied = verify(tmp_path / "copy.h5")
    found = [read_split(copied.path, name, masks=True).masks for name in copied.splits]
    before = [read_split(info.path, name, masks=True).masks for name in info.splits]
    assert sorted(mask.tobytes() for masks in found for mask in masks) == sorted(  # type: ignore[union-attr]
        mask.tobytes()
        for masks in before
        for mask in masks  # type: ignore[union-attr]
    )


@pytest.mark.parametrize(
    ("values", "mode", "said"),
    [
        (np.full((HEIGHT, WIDTH), 21), "P", "not of 0 to 20 and 255, it has 21"),
        (np.zeros((HEIGHT, WIDTH, 3)), "RGB", "no image of a palette"),
        (np.zeros((3, 3)), "P", f"other sizes, 3x3 and {WIDTH}x{HEIGHT}"),
    ],
)
def test_a_damaged_segmentation_makes_a_broken_image(tmp_path: Path, values: Any, mode: str, said: str) -> None:
    _, plan = build("voc2007", tmp_path)
    saved_segments(plan.root / "SegmentationClass" / "000001.png", values, mode)
    (plan.root / plan.broken).write_bytes((plan.root / "JPEGImages" / "000001.jpg").read_bytes())
    text = refused("voc2007", plan.root, "--subset", "--out", tmp_path / "a.h5")
    assert "000001.jpg" in text
    assert said in text
