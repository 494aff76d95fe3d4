"""Official importers on miniature copies of their files: splits, labels, names and pixels against what was planted.

What only the real data can show is in docs/datasets.md. Alone: pytest tests/data/importers/test_official.py
"""

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.io import loadmat, savemat
from typer.testing import CliRunner, Result

from probekit.cli import app
from probekit.data.importers import OFFICIAL
from probekit.data.importers.official.medmnist import SETS
from probekit.data.importers.official.recognised import recognised
from probekit.h5 import DatasetInfo, read_info, read_split
from tests.data.importers.layouts import FORMATS, LAYOUTS, WNIDS
from tests.data.importers.planned import DARK, Plan, Shot
from tests.data.importers.sets import table
from tests.test_hints import ROOT

SIZE = 16
HOLES = b"40 GB of them"
# Layouts with lists that are beside the images and are not read.
UNREAD = ("aptos2019", "cub200", "imagenet", "tiny-imagenet", "tiny-imagenet, val sorted", "dtd", "sun397")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


def imported(name: str, root: Path, *options: object) -> DatasetInfo:
    out = root.parent / f"{root.name}.h5"
    typed = ("--subset", "--skip-broken", "--size", SIZE, *whole(name))
    done = run(name, root, *typed, "--out", out, "--overwrite", *options)
    assert done.exit_code == 0, (done.output, done.exception)
    return read_info(out)


def whole(name: str) -> tuple[object, ...]:
    """Without the share that becomes test by default: a miniature has too few images for it."""
    return ("--test-fraction", 0) if OFFICIAL[name].test_fraction else ()


def refused(*arguments: object) -> str:
    done = run(*arguments)
    assert isinstance(done.exception, ValueError | OSError), (done.output, done.exception)
    text = str(done.exception)
    assert "\n" not in text
    return text


def build(name: str, folder: Path) -> tuple[str, Plan]:
    official, make = LAYOUTS[name]
    return official, make(folder / "set")


def assert_as_planned(info: DatasetInfo, splits: dict[str, list[Shot]]) -> None:
    """Splits, labels in order, and pixels: each image's own colour above, dark below."""
    assert {name: split.n for name, split in info.splits.items()} == {name: len(rows) for name, rows in splits.items()}
    for name, planned in splits.items():
        split = read_split(info.path, name)
        assert split.labels is not None
        assert split.labels.tolist() == [image.label for image in planned]
        colours = split.images if split.images.ndim == 4 else np.repeat(split.images[..., None], 3, axis=3)
        above, below = (rows.reshape(len(rows), -1, 3).mean(axis=1) for rows in halves(colours))
        np.testing.assert_allclose(above, [image.colour for image in planned], atol=4)
        np.testing.assert_allclose(below, DARK, atol=4)


def halves(images: NDArray[np.uint8]) -> Sequence[NDArray[np.uint8]]:
    """The upper and the lower part, without the rows where they meet."""
    return images[:, : SIZE // 2 - 2], images[:, SIZE // 2 + 2 :]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_miniature_is_imported_as_planned(tmp_path: Path, name: str) -> None:
    official, plan = build(name, tmp_path)
    info = imported(official, plan.root)
    assert_as_planned(info, plan.splits)
    assert len(info.classes) == plan.n_classes
    assert {label: info.classes[label] for label in plan.names} == plan.names
    assert info.parameters["source"] == official
    assert info.parameters["subset"] is True
    expected = OFFICIAL[official]
    how = {"resize": expected.resize} if expected.store == "pixels" else {"store": expected.store}
    assert info.parameters | how == info.parameters
    assert (info.first.crop is None) == (expected.store == "pixels")


@pytest.mark.parametrize("name", FORMATS)
def test_roots_above_the_archive_do_too(tmp_path: Path, name: str) -> None:
    official, plan = build(name, tmp_path)
    first = imported(official, plan.root)
    for above in plan.above:
        assert imported(official, above).content_hash == first.content_hash


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_that_looks_like_an_official_dataset_is_told_from_others(tmp_path: Path, name: str) -> None:
    official, plan = build(name, tmp_path)
    wanted = official.partition(",")[0]  # of voc2007,voc2012
    untold = official in ("aptos2019", "imagenet") or official in SETS  # names that anybody may have given
    told = None if untold else f"type: probekit import {wanted} {shlex.quote(str(plan.root))}"
    assert recognised(plan.root) == told


@pytest.mark.parametrize("name", ["dtd", "cifar10", "svhn"])
def test_who_imports_an_official_dataset_as_his_own_is_told_what_to_type(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of images as a line, of other files with the refusal; the command runs but for the miniature's sizes."""
    monkeypatch.chdir(tmp_path)
    _, plan = build(name, tmp_path)
    source = plan.root / "train_32x32.mat" if name == "svhn" else plan.root
    done = run(source, "--skip-broken", "--out", "own.h5")
    said = " ".join(done.output.split()) if name == "dtd" else str(done.exception)
    assert (done.exit_code == 0) == (name == "dtd"), done.exception
    typed = said.partition("its own splits and checks, type: " if name == "dtd" else "official dataset, type: ")[2]
    words = shlex.split(typed.partition(" wrote ")[0])[:4]
    assert words == ["probekit", "import", name, str(plan.root)]
    assert run(*words[2:], *whole(name), "--subset", "--skip-broken").exit_code == 0


@pytest.mark.parametrize("end", [".tar.gz", ".zip"])
def test_an_archive_of_an_official_dataset_is_to_be_unpacked(tmp_path: Path, end: str) -> None:
    (tmp_path / f"cifar-10-python{end}").write_bytes(b"packed")
    text = refused(tmp_path / f"cifar-10-python{end}")
    assert text.endswith(f"official dataset, unpack it, and type: probekit import cifar10 {tmp_path}")


def test_an_address_is_not_downloaded() -> None:
    assert refused("https://example.org/a.zip").endswith("; nothing is downloaded")


@pytest.mark.parametrize("name", FORMATS)
def test_incomplete_files_are_refused(tmp_path: Path, name: str) -> None:
    official, plan = build(name, tmp_path)
    out = tmp_path / "a.h5"
    text = refused(official, plan.root, "--out", out)
    assert "--subset" in text
    if name != "imagenet":  # which misses its 1,000 folders first
        for split, n in OFFICIAL[official].sizes.items():
            assert f"{n:,} {split}" in text
    assert not list(tmp_path.glob(".*"))  # nothing was begun
    if not plan.broken:  # of arrays
        return
    text = refused(official, plan.root, "--subset", *whole(official), "--out", out)
    assert plan.broken in text
    assert "--skip-broken" in text
    assert not out.exists()


@pytest.mark.parametrize("name", [name for name in OFFICIAL if OFFICIAL[name].needs])
def test_a_wrong_root_says_what_was_expected(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    text = refused(name, tmp_path)
    assert str(tmp_path) in text
    assert "expected" in text
    assert f"{name} ROOT" in refused(name)
    assert "nothing at" in refused(name, tmp_path / "none")
    assert "a file" in refused(name, tmp_path / "notes.txt")


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_or_empty_list_is_one_line(tmp_path: Path, name: str) -> None:
    """Every text, .mat and JSON file that is read, gone, empty and damaged."""
    official, plan = build(name, tmp_path)
    lists = [path for path in plan.root.rglob("*") if path.suffix in (".mat", ".txt", ".json", ".csv")]
    hurt = 0
    for path in lists[:12]:
        whole = path.read_bytes()
        for content in (None, b"", whole[: len(whole) // 2], b"\xff\x00 junk", HOLES):
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            if content is HOLES:
                os.truncate(path, 40 << 30)
            done = run(
                official, plan.root, "--subset", "--skip-broken", "--size", 8, "--out", tmp_path / "a.h5", "--overwrite"
            )
            if done.exit_code:
                assert isinstance(done.exception, ValueError | OSError), (path, content, repr(done.exception))
                assert "\n" not in str(done.exception)
                hurt += 1
            path.write_bytes(whole)
    assert hurt >= len(lists[:12]) or name in UNREAD


# --- choices ---


def test_val_joins_train(tmp_path: Path) -> None:
    for name in ("flowers102", "fgvc-aircraft", "voc2007"):
        official, plan = build(name, tmp_path / name)
        info = imported(official, plan.root, "--train-with-val")
        joined = {"train": plan.splits["train"] + plan.splits["val"], "test": plan.splits["test"]}
        assert_as_planned(info, joined)
        assert info.parameters["train_with_val"] is True


def test_aircraft_has_three_kinds_of_labels(tmp_path: Path) -> None:
    official, plan = build("fgvc-aircraft", tmp_path)
    info = imported(official, plan.root, "--labels", "family")
    assert info.classes == ("Family 0", "Family 1")
    labels = read_split(info.path, "train").labels
    assert labels is not None
    assert labels.tolist() == [image.label % 2 for image in plan.splits["train"]]
    assert info.parameters["labels"] == "family"
    assert imported(official, plan.root, "--labels", "manufacturer").classes == ("Maker Inc",)
    assert "one of variant, family, manufacturer" in refused(official, plan.root, "--labels", "colour")


def test_imagenet_classes_are_chosen_sorted_and_recorded(tmp_path: Path) -> None:
    official, plan = build("imagenet", tmp_path)
    (tmp_path / "some.txt").write_text(f"# mine\n{WNIDS[3]} spaniel\n\n{WNIDS[1]}\n")
    info = imported(official, plan.root, "--classes", tmp_path / "some.txt")
    assert info.classes == (WNIDS[1], WNIDS[3])
    assert info.parameters["classes"] == "some.txt"
    planned = {
        name: [Shot((1, 3).index(image.label), image.colour) for image in rows if image.label in (1, 3)]
        for name, rows in plan.splits.items()
    }
    assert_as_planned(info, planned)
    chosen = {seed: imported(official, plan.root, "--n-classes", 2, "--seed", seed).classes for seed in range(6)}
    assert all(len(names) == 2 and names == tuple(sorted(names)) for names in chosen.values())
    assert len(set(chosen.values())) > 1
    assert chosen[0] == imported(official, plan.root, "--n-classes", 2, "--seed", 0).classes
    (tmp_path / "some.txt").write_text("n99999999\n")
    assert "n99999999" in refused(official, plan.root, "--subset", "--classes", tmp_path / "some.txt")
    assert "from 1 to 4" in refused(official, plan.root, "--subset", "--n-classes", 5)


def test_chosen_classes_must_be_complete_in_val(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official, plan = build("imagenet", tmp_path)
    monkeypatch.setattr("probekit.data.importers.official.photographs.N_CLASSES", 4)
    assert "100 test, found 4 test" in refused(official, plan.root, "--n-classes", 2)


def test_grades_are_ordinal_and_split_by_fraction(tmp_path: Path) -> None:
    official, plan = build("aptos2019", tmp_path)
    info = imported(official, plan.root, "--test-fraction", 0.3)
    assert info.parameters["ordinal"] is True
    assert [name[0] for name in info.classes] == list("01234")
    assert info.splits["test"].n == 4  # one of each grade, but the broken one
    assert info.splits["train"].n + 4 == len(plan.splits["train"])


def test_a_squashed_image_keeps_its_edges(tmp_path: Path) -> None:
    from PIL import Image

    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, :10], wide[:, -10:] = 200, 100
    (tmp_path / "set").mkdir()
    Image.fromarray(wide).save(tmp_path / "set" / "a.png")
    for resize, left in (("squash", 200), ("crop", 0)):
        out = tmp_path / f"{resize}.h5"
        assert run(tmp_path / "set", "--size", 12, "--resize", resize, "--out", out).exit_code == 0
        assert read_split(out, "train").images[0, 6, 0].max() == left
    assert "--size 224" in refused(tmp_path / "set", "--resize", "squash")


def test_more_pixels_than_asked_for_are_kept_as_jpeg(tmp_path: Path) -> None:
    official, plan = build("voc2007", tmp_path)
    info = imported(official, plan.root, "--max-gb", 0, "--store", "pixels")
    assert info.splits["train"].encoded
    assert "lossy" in info.parameters["encoded"]
    assert_as_planned(info, plan.splits)
    typed = (official, plan.root, "--subset", "--skip-broken", "--store", "pixels", "--out")
    done = run(*typed, tmp_path / "b.h5", "--max-gb", 0.0001)
    assert "kept as JPEG of quality 95, which loses a little" in done.output
    done = run(*typed, tmp_path / "c.h5")
    assert "kept as pixels, 0.00 GB, nothing lost (up to --max-gb 8)" in done.output
    assert (read_info(tmp_path / "c.h5").splits["train"].height, plan.n_classes) == (224, 20)


# --- what is wrong with single files ---


def test_cars_without_test_labels_and_as_class_folders(tmp_path: Path) -> None:
    official, plan = build("stanford-cars", tmp_path)
    (plan.root / "cars_test_annos_withlabels.mat").rename(plan.root / "devkit" / "cars_test_annos_withlabels.mat")
    assert_as_planned(imported(official, plan.root), plan.splits)
    (plan.root / "devkit" / "cars_test_annos_withlabels.mat").rename(plan.root / "devkit" / "cars_test_annos.mat")
    assert "has no classes" in refused(official, plan.root)
    (tmp_path / "folders" / "train").mkdir(parents=True)
    assert "type: probekit import" in refused(official, tmp_path / "folders")


def change_mat(path: Path, **values: Any) -> None:
    content = {key: value for key, value in loadmat(path).items() if not key.startswith("__")}
    savemat(path, content | values)


def test_labels_and_numbers_beyond_the_set_are_one_line(tmp_path: Path) -> None:
    official, plan = build("flowers102", tmp_path)
    change_mat(plan.root / "setid.mat", trnid=np.array([[1, 16]]))
    assert "1 to 15" in refused(official, plan.root)
    change_mat(plan.root / "setid.mat", trnid=np.array([[1, 2]]))
    change_mat(plan.root / "imagelabels.mat", labels=np.full((1, 15), 103))
    assert "102 classes, found 103" in refused(official, plan.root, "--subset")


def test_inat_folders_that_are_not_their_category(tmp_path: Path) -> None:
    official, plan = build("inat2019", tmp_path)
    path = plan.root / "train2019.json"
    path.write_text(path.read_text().replace("train_val2019/Birds/10/", "train_val2019/Birds/2/"))
    assert "category 10" in refused(official, plan.root, "--subset")


def test_lists_with_other_columns_are_one_line(tmp_path: Path) -> None:
    official, plan = build("inat2019", tmp_path / "inat")
    path = plan.root / "train2019.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"categories": [{"name": "Bufo bufo"}]}))
    assert "categories with id, name and supercategory" in refused(official, plan.root, "--subset")
    official, plan = build("aptos2019", tmp_path / "aptos")
    (plan.root / "train.csv").write_text("image,grade\n1,2,3\n")
    assert "id_code and diagnosis" in refused(official, plan.root, "--subset")


def test_one_year_is_not_taken_for_the_other(tmp_path: Path) -> None:
    _, plan = build("voc2007", tmp_path)
    assert "VOC2012" in refused("voc2012", plan.root)
    (plan.root / "ImageSets" / "Main" / "cat_train.txt").write_text("000001 3\n")
    assert "cat_train.txt" in refused("voc2007", plan.root)


def test_choices_of_other_datasets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "fgvc-aircraft, inat2019, cifar100" in refused("cub200", tmp_path, "--labels", "family")
    assert "imagenet only" in refused("voc2007", tmp_path, "--n-classes", 3)
    assert "did you mean 'cub200'" in refused("cub20", tmp_path)
    assert "--subset with an official dataset" in refused(tmp_path, "--subset")
    assert "comes with probekit" in refused("digits", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert "./cub200 for a folder of your own" in refused("cub200")


def test_a_folder_of_an_official_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    (tmp_path / "cub200").mkdir()
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(tmp_path / "cub200" / "a.png")
    done = run("./cub200")
    assert "wrote data/cub200.h5: 1 train; no classes" in done.output


def test_digits_need_no_files(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    out = tmp_path / "digits.h5"
    assert run("digits", "--out", out, "--test-fraction", 0, "--size", 8).exit_code == 0
    split, content = read_split(out, "train"), load_digits()
    np.testing.assert_array_equal(split.labels, content.target)
    np.testing.assert_array_equal(split.images, np.rint(content.images / 16 * 255))
    assert run("digits", "--out", tmp_path / "b.h5").exit_code == 0
    info = read_info(tmp_path / "b.h5")
    assert {name: split.n for name, split in info.splits.items()} == {"train": 1438, "test": 359}
    assert (info.splits["train"].height, info.splits["train"].channels, info.classes) == (32, 1, tuple("0123456789"))


# --- the contract ---


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_entry_keeps_the_contract(name: str) -> None:
    official = OFFICIAL[name]
    assert official.about
    assert "\n" not in official.about
    assert "train" in official.sizes
    assert all(n > 0 for n in official.sizes.values())
    assert official.size % 8 == 0
    assert official.channels in (1, 3)
    assert not official.needs or any(name == made for made, _ in LAYOUTS.values()), "no miniature of it in layouts.py"
    assert official.test_fraction == 0 or "test" not in official.sizes


def test_the_table_of_the_docs_is_up_to_date() -> None:
    assert table() in (ROOT / "docs/datasets.md").read_text(), "type: python -m tests.data.importers.sets"


# --- what holds for every kind of source ---


@pytest.mark.parametrize("name", FORMATS)
def test_options_of_folders_are_refused(tmp_path: Path, name: str) -> None:
    official, plan = build(name, tmp_path)
    assert f"expected --depth with a folder of images, found {official}" in refused(official, plan.root, "--depth", 2)


def test_splits_are_chosen(tmp_path: Path) -> None:
    official, plan = build("flowers102", tmp_path)
    info = imported(official, plan.root, "--skip-split", "test", "--val-as-test")
    assert_as_planned(info, {"train": plan.splits["train"], "test": plan.splits["val"]})
    assert (info.parameters["skip_split"], info.parameters["val_as_test"]) == ("test", True)
    typed = [official, plan.root, "--subset", "--skip-broken", "--out", tmp_path / "b.h5"]
    assert "expected val and no test" in refused(*typed, "--val-as-test")


def test_deep_pixels_are_asked_about(tmp_path: Path) -> None:
    official, plan = build("aptos2019", tmp_path)
    path = next(path for path in plan.root.rglob("*.png") if not str(path).endswith(plan.broken))
    assert cv2.imwrite(str(path), np.arange(4096, dtype=np.uint16).reshape(64, 64))
    out = tmp_path / "a.h5"
    assert "type --bits 12" in refused(official, plan.root, "--subset", "--skip-broken", "--out", out)
    assert imported(official, plan.root, "--bits", 12).parameters["pixels"] == {"uint16": [0, 4095]}


def test_what_lies_beside_the_images_of_imagenet_is_named(tmp_path: Path) -> None:
    official, plan = build("imagenet", tmp_path)
    (plan.root / "train" / "README.txt").write_text("hello")
    (plan.root / "train" / WNIDS[0] / "._cat.JPEG").write_bytes(b"of another system")
    out = tmp_path / "a.h5"
    done = run(official, plan.root, "--subset", "--skip-broken", "--size", SIZE, "--out", out)
    assert "skipped train/README.txt: no folder of a wnid" in done.output
    assert f"skipped train/{WNIDS[0]}/._cat.JPEG: not an image file" in done.output


def test_a_lone_surrogate_in_a_class_name_is_escaped(tmp_path: Path) -> None:
    official, plan = build("inat2019", tmp_path)
    for path in plan.root.rglob("*2019.json"):
        content = json.loads(path.read_text())
        content["categories"][0]["name"] = "odd \ud800"
        path.write_text(json.dumps(content))
    assert r"odd \ud800" in imported(official, plan.root).classes


# --- super-classes of iNaturalist ---


def test_super_classes_of_inaturalist(tmp_path: Path) -> None:
    _, plan = build("inat2019", tmp_path)
    info = imported("inat2019", plan.root)
    [factor] = info.factors
    assert (factor["name"], factor["kind"], factor["high"]) == ("super-class", "class", 2)
    assert factor["values"] == ["Amphibians", "Birds", "Reptiles"]
    rows = read_split(info.path, "train")
    assert rows.labels is not None
    np.testing.assert_array_equal(rows.factors["super-class"], np.array([0, 1, 1, 2])[rows.labels])
    above = imported("inat2019", plan.root, "--labels", "super-class")
    assert above.classes == ("Amphibians", "Birds", "Reptiles")
    assert above.factors == ()
    np.testing.assert_array_equal(read_split(above.path, "train").labels, rows.factors["super-class"])


def test_some_super_classes_of_inaturalist(tmp_path: Path) -> None:
    _, plan = build("inat2019", tmp_path)
    (tmp_path / "some.txt").write_text("# those with feathers, and one more\nBirds\nspecies 0\n")
    whole = imported("inat2019", plan.root)
    before, classes = read_split(whole.path, "train"), whole.classes
    info = imported("inat2019", plan.root, "--classes", tmp_path / "some.txt")
    assert info.classes == ("species 0", "species 2", "species 10") == classes[:3]
    rows = read_split(info.path, "train")
    assert before.labels is not None
    np.testing.assert_array_equal(rows.images, before.images[before.labels < 3])
    np.testing.assert_array_equal(rows.labels, before.labels[before.labels < 3])
    assert info.parameters["classes"] == "some.txt"
    typed = ("inat2019", plan.root, "--classes", tmp_path / "some.txt")
    assert "expected all images of inat2019, 9 test, found 3 test" in refused(*typed)
    (tmp_path / "some.txt").write_text("Fishes\n")
    assert "such as Birds" in refused(*typed)
