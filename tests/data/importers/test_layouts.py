"""What folders mean: a table of layouts that people have, and random trees, of which no image may be passed over.

Alone: pytest tests/data/importers/test_layouts.py
"""

import os
import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from probekit.data.importers import lines_on
from probekit.data.importers.base import Options, Skipped, Source
from probekit.data.importers.folder import open_folder

PNG = cv2.imencode(".png", np.full((2, 2), 200, np.uint8))[1].tobytes()
PETS = ("cat/1.png", "cat/2.png", "dog/3.png", "dog/4.png")
Counts = dict[str, dict[str | None, int]]


def plant(root: Path, *files: str) -> Path:
    """Files, folders ("name/") and links ("name -> target") below a folder; what ends like a table is one."""
    root.mkdir(exist_ok=True)
    for file in files:
        name, _, target = file.partition(" -> ")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if target:
            path.symlink_to(target)
        elif name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(b"image,kind\n" if name.endswith(".csv") else PNG)
    return root


def under(*folders: str, files: tuple[str, ...] = PETS) -> list[str]:
    return [f"{folder}/{file}" for folder in folders for file in files]


def counted(source: Source) -> Counts:
    return {
        split: dict(Counter(None if item.label is None else source.classes[item.label] for item in items))
        for split, items in source.splits.items()
    }


TWO: dict[str | None, int] = {"cat": 2, "dog": 2}
BOTH: Counts = {"train": TWO, "test": TWO}
ALL: Counts = {"train": TWO, "val": TWO, "test": TWO}
PLAIN: Counts = {"train": TWO}

# files, what is taken, words of the lines that say what was done or left out
TAKEN: dict[str, tuple[list[str], Counts, list[str]]] = {
    "classes": ([*PETS], PLAIN, []),
    "loose images": (["1.png", "2.png"], {"train": {None: 2}}, []),
    "one class": (["cat/1.png"], {"train": {"cat": 1}}, []),
    "class folders with folders of some": ([*PETS, "cat/more/5.png"], {"train": {"cat": 3, "dog": 2}}, []),
    "train, test": (under("train", "test"), BOTH, []),
    "Training, Testing": (under("Training", "Testing"), BOTH, []),
    "training, validation, evaluation": (under("training", "validation", "evaluation"), ALL, []),
    "train_set, valid_set, test_set": (under("train_set", "valid_set", "test_set"), ALL, []),
    "trainset, testset": (under("trainset", "testset"), BOTH, []),
    "TrainImages, TestImages": (under("TrainImages", "TestImages"), BOTH, []),
    "train2017, val2017": (under("train2017", "val2017"), {"train": TWO, "val": TWO}, ["--val-as-test"]),
    "trn, dev, tst": (under("trn", "dev", "tst"), ALL, []),
    "images-train, images-test": (under("images-train", "images-test"), BOTH, []),
    "cars_train, cars_test": (under("cars_train", "cars_test"), BOTH, []),
    "seg_train/seg_train": (under("seg_train/seg_train", "seg_test/seg_test"), BOTH, ["entered seg_train/seg_train"]),
    "a class called train station": ([*PETS, "train station/5.png"], {"train": {**TWO, "train station": 1}}, []),
    "classes test_bench and test_tube": (
        ["test_bench/1.png", "test_tube/2.png"],
        {"train": {"test_bench": 1, "test_tube": 1}},
        [],
    ),
    "a wrapper": (under("pets"), PLAIN, ["entered pets"]),
    "wrappers in one another": (under("v2/pets/data"), PLAIN, ["entered v2/pets/data"]),
    "files beside wrappers": (
        [*under("pets/train/images"), "license.txt", "pets/train/notes.txt"],
        PLAIN,
        ["license.txt: beside pets", "pets/train/notes.txt: beside images"],
    ),
    "a wrapper of splits": (under("pets/train", "pets/test"), BOTH, ["entered pets"]),
    "a wrapper in each split": (under("train/images", "test/images"), BOTH, ["entered train/images"]),
    "a wrapper of images": (["images/1.png", "images/2.png"], {"train": {None: 2}}, ["entered images"]),
    "YOLO": (
        ["images/train/1.png", "images/val/2.png", "labels/train/1.txt", "labels/val/2.txt"],
        {"train": {None: 1}, "val": {None: 1}},
        ["labels", "no images in it"],
    ),
    "YOLO, the other way": (
        ["train/images/1.png", "train/labels/1.txt", "test/images/2.png", "test/labels/2.txt"],
        {"train": {None: 1}, "test": {None: 1}},
        ["train/labels", "entered train/images"],
    ),
    "images and masks": (
        ["images/1.png", "masks/1.png"],
        {"train": {None: 1}},
        ["masks", "1 images of masks", "entered images"],
    ),
    "Oxford pets": (
        ["images/1.png", "annotations/trimaps/1.png", "annotations/list.txt"],
        {"train": {None: 1}},
        ["annotations"],
    ),
    "VOC": (
        ["JPEGImages/1.png", "SegmentationClass/1.png", "SegmentationObject/1.png", "Annotations/1.xml"],
        {"train": {None: 1}},
        ["SegmentationClass", "SegmentationObject", "Annotations"],
    ),
    "masks among classes": ([*PETS, "masks/1.png"], PLAIN, ["masks"]),
    "masks in classes": ([*PETS, "cat/ground truth/1.png", "dog/GT/3.png"], PLAIN, ["cat/ground truth", "dog/GT"]),
    "masks of splits": ([*under("train"), "train_masks/1.png"], PLAIN, ["train_masks"]),
    "with and without a mask": (
        ["with_mask/1.png", "without_mask/2.png"],
        {"train": {"with_mask": 1, "without_mask": 1}},
        [],
    ),
    "mask and no mask": (["mask/1.png", "no mask/2.png"], {"train": {"mask": 1, "no mask": 1}}, []),
    "hidden": ([*PETS, ".git/1.png", "cat/._1.png", "__MACOSX/cat/1.png"], PLAIN, [".git", "cat/._1.png", "__MACOSX"]),
    "an empty class": ([*PETS, "cow/"], PLAIN, ["cow", "no images in it"]),
    "other files": ([*PETS, "cat/notes.txt", "cat/5.xcf"], PLAIN, ["cat/notes.txt", "cat/5.xcf"]),
    "extra beside splits": (
        [*under("train", "test"), "extra/5.png"],
        BOTH,
        ["extra", "1 images beside train and test"],
    ),
    "images beside splits": ([*under("train", "test"), "logo.png"], BOTH, ["logo.png", "beside train"]),
    "a table beside images": (
        [*PETS, "labels.csv"],
        PLAIN,
        ["columns image, kind", "labels.csv --column kind"],
    ),
    "a table of masks": ([*PETS, "annotations/all.csv"], PLAIN, ["annotations/all.csv --column kind"]),
    "links to folders": (["../there/1.png", "cat -> ../there", "dog/2.png"], {"train": {"cat": 1, "dog": 1}}, []),
    "links to files": ([*PETS, "dog/5.png -> 3.png"], {"train": {"cat": 2, "dog": 3}}, []),
    "no UTF-8": (
        [*PETS, "dog/\udcff.png", "\udce9t\udce9/5.png"],
        {"train": {"cat": 2, "dog": 3, r"\udce9t\udce9": 1}},
        [],
    ),
    "odd names": (
        ["a\nb/1.png", "  /2.png", "'\"$x/3.png", "--depth/4.png"],
        {"train": {"a\nb": 1, "  ": 1, "'\"$x": 1, "--depth": 1}},
        [],
    ),
    "a folder that is called like an image": (
        ["cat.png/1.png", "dog.png/2.png"],
        {"train": {"cat.png": 1, "dog.png": 1}},
        [],
    ),
}

FARM: dict[str | None, int] = {"pet": 2, "farm": 1}
ONE: dict[str | None, int] = {"cat": 1, "dog": 1, "cow": 1}
EACH: dict[str | None, int] = {"cat": 1, "dog": 1}
DEEP = ["pet/cat/1.png", "pet/dog/2.png", "farm/cow/3.png"]
FOLDS = under("fold1", "fold2")


def maybe_masks(
    mask: str, other: str, around: tuple[str, ...] = ("",)
) -> tuple[list[str], list[str], dict[str, Counts]]:
    """Two folders of which one is called like masks: with `--depth 1` both are classes."""
    files = [f"{place}{name}/{number}.png" for place in around for name in (mask, other) for number in (1, 2)]
    counts: dict[str | None, int] = {mask: 2, other: 2}
    given = {"--depth 1": dict.fromkeys(("train", "test")[: len(around)], counts)}
    return files, [f"found {mask!r} beside {other!r}"], given


# files, words of the refusal, what each option that it names gives
REFUSED: dict[str, tuple[list[str], list[str], dict[str, Counts]]] = {
    "nothing": ([], ["found none"], {}),
    "nothing but masks": (["masks/1.png"], ["found none", "'masks'"], {}),
    "mask, nomask": maybe_masks("mask", "nomask"),
    "mask, unmasked": maybe_masks("mask", "unmasked"),
    "label, unlabelled": maybe_masks("label", "unlabelled"),
    "gt, suv": maybe_masks("gt", "suv"),
    "gt, suv in splits": maybe_masks("gt", "suv", around=("train/", "test/")),
    "gt, suv in a wrapper of splits": maybe_masks("gt", "suv", around=("cars/seg_train/", "cars/seg_test/")),
    "labels, unlabelled, others": (
        [*PETS, "labels/5.png", "unlabelled/6.png"],
        ["found 'labels' beside 'cat', 'dog', 'unlabelled'"],
        {"--depth 1": {"train": {**TWO, "labels": 1, "unlabelled": 1}}},
    ),
    "images, masks, masks_binary": (
        ["images/1.png", "masks/1.png", "masks_binary/1.png"],
        ["found 'masks', 'masks_binary' beside 'images'"],
        {"--depth 1": {"train": {"images": 1, "masks": 1, "masks_binary": 1}}},
    ),
    "images, masks of kinds, in splits": (
        [f"{split}/{name}/1.png" for split in ("train", "test") for name in ("Images", "mask_tumour")],
        ["found 'mask_tumour' beside 'Images'"],
        {"--depth 1": {split: {"Images": 1, "mask_tumour": 1} for split in ("train", "test")}},
    ),
    "nothing but hidden": ([".thumbs/1.png"], ["found none", "'.thumbs'"], {}),
    "images beside classes": ([*PETS, "5.png"], ["both", "'5.png'", "'cat', 'dog'"], {}),
    "images beside classes in test": ([*under("train", "test"), "test/5.png"], ["both", "'5.png'"], {}),
    "classes of classes": (
        DEEP,
        ["only folders in 'farm', 'pet'"],
        {
            "--depth 1": {"train": {"pet": 2, "farm": 1}},
            "--depth 2": {"train": {"cat": 1, "dog": 1, "cow": 1}},
        },
    ),
    "one class of folders": (["cat/1.png", "dog/a/2.png"], ["only folders in 'dog'"], {"--depth 1": {"train": EACH}}),
    "folds": (
        FOLDS,
        ["the same folders, 'cat', 'dog', in each of 'fold1', 'fold2'"],
        {"--depth 1": {"train": {"fold1": 4, "fold2": 4}}, "--depth 2": {"train": {"cat": 4, "dog": 4}}},
    ),
    "splits in classes": (
        ["cat/train/1.png", "cat/test/2.png", "dog/train/3.png", "dog/test/4.png"],
        ["the same folders, 'test', 'train'", "sort them as test/cat"],
        {"--depth 1": PLAIN},
    ),
    "copies in classes": (
        [*PETS, "cat/small/1.png", "dog/small/3.png"],
        ["the same folders, 'small'"],
        {"--depth 1": {"train": {"cat": 3, "dog": 3}}},
    ),
    "images and masks in classes": (
        under("COVID", "normal", files=("images/1.png", "masks/1.png")),
        ["the same folders, 'images'"],
        {"--depth 1": {"train": {"COVID": 1, "normal": 1}}},
    ),
    "depth of splits": (
        [f"{split}/{file}" for split in ("train", "test") for file in DEEP],
        ["only folders"],
        {
            "--depth 1": {"train": FARM, "test": FARM},
            "--depth 2": {"train": ONE, "test": ONE},
        },
    ),
    "a class called train": (
        ["bus/1.png", "car/2.png", "train/3.png"],
        ["'train' beside 'bus', 'car'"],
        {"--depth 1": {"train": {"bus": 1, "car": 1, "train": 1}}},
    ),
    "a class called test": (
        ["control/1.png", "test/2.png"],
        ["'test' beside 'control'"],
        {"--depth 1": {"train": {"control": 1, "test": 1}}},
    ),
    "test without train": (under("test", "val"), ["expected a folder train beside 'test', 'val'"], {}),
    "two trains": (under("train", "training"), ["'train' and 'training'"], {}),
    "test without classes": (
        [*under("train"), "test/5.png"],
        ["class folders in test as in train", "no classes"],
        {"--skip-split test": PLAIN},
    ),
    "train without classes": (
        ["train/1.png", *under("test")],
        ["no classes in test"],
        {"--skip-split test": {"train": {None: 1}}},
    ),
    "an empty test": ([*under("train"), "test/"], ["found none; remove the folder"], {"--skip-split test": PLAIN}),
    "an empty val": (
        [*under("train", "test"), "val/cat/"],
        ["found none; remove the folder"],
        {"--skip-split val": BOTH},
    ),
    "an empty train": (["train/", *under("test")], ["found none; remove the folder"], {}),
    "a new class in test": (
        [*under("train", "test"), "test/cow/5.png"],
        ["found also 'cow'"],
        {"--skip-split test": PLAIN},
    ),
    "a link to a folder above": ([*PETS, "cat/all -> .."], ["'.' again as 'cat/all'"], {}),
    "a folder twice": ([*PETS, "kitten -> cat"], ["'cat' again as 'kitten'"], {}),
    "train again as test": ([*under("train"), "test -> train"], ["'test' again as 'train'"], {}),
    "a link to nothing": ([*PETS, "cow -> gone"], ["'cow'", "leads nowhere"], {}),
    "a link to itself": ([*PETS, "cow -> cow"], ["'cow'", "leads nowhere"], {}),
    "two names that look the same": (
        ["e\u0301te\u0301/1.png", "\xe9t\xe9/2.png"],
        ["class names", "look the same"],
        {},
    ),
    "too deep": (["a/" * 102 + "1.png"], ["at most 100 folders"], {}),
}


def images_of(root: Path) -> set[str]:
    """Every image below a folder, hidden or not, read without the code under test."""
    walk = os.walk(root, followlinks=True)
    found = [os.path.relpath(os.path.join(where, name), root) for where, _, names in walk for name in names]
    return {name.encode("utf-8", "backslashreplace").decode() for name in found if name.endswith(".png")}


def assert_none_is_lost(root: Path, source: Source) -> None:
    taken = [item.key for items in source.splits.values() for item in items]
    assert len(taken) == len(set(taken))
    named = tuple(item.path for item in source.ignored)
    for image in images_of(root):
        assert (image in taken) != any(image == path or image.startswith(f"{path}/") for path in named), image
    assert set(taken) <= images_of(root)


def opened(root: Path, **options: object) -> Source:
    source = open_folder(root, Options(**options))  # type: ignore[arg-type]
    assert source is not None
    return source


@pytest.mark.parametrize("layout", TAKEN)
def test_what_is_taken(tmp_path: Path, layout: str) -> None:
    files, wanted, words = TAKEN[layout]
    root = plant(tmp_path / "set", *files)
    source = opened(root)
    assert counted(source) == wanted
    assert_none_is_lost(root, source)
    lines = "\n".join([*source.notes, *(f"{item.path}: {item.reason}" for item in source.ignored)])
    assert all(word in lines for word in words), lines
    assert words or not lines


@pytest.mark.parametrize("layout", REFUSED)
def test_what_is_refused_and_what_it_says_to_type(tmp_path: Path, layout: str) -> None:
    files, words, hints = REFUSED[layout]
    root = plant(tmp_path / "set", *files)
    with pytest.raises(ValueError, match="expected") as caught:
        opened(root)
    text = str(caught.value)
    assert "\n" not in text
    assert all(word in text for word in words), text
    assert re.findall(r"--depth \d|--skip-split \w+", text) == list(hints), text
    for hint, wanted in hints.items():
        option, value = hint.removeprefix("--").replace("-", "_").split(" ")
        source = opened(root, **{option: int(value) if value.isdecimal() else value})
        assert counted(source) == wanted
        if option == "depth":
            assert_none_is_lost(root, source)


NAMES = st.sampled_from(
    ["cat", "dog", "train", "test", "val", "Testing", "images", "masks", "no mask", "nomask", ".thumbs", "v1"]
)
FILES = st.lists(NAMES, max_size=4).map(lambda folders: "".join(f"{name}/" for name in folders))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    folders=st.lists(FILES, min_size=1, max_size=8),
    empty=st.lists(FILES, max_size=2),
    options=st.fixed_dictionaries(
        {},
        optional={
            "depth": st.integers(1, 3),
            "skip_split": st.sampled_from(["val", "test"]),
            "val_as_test": st.just(True),
        },
    ),
)
@example(folders=["train/", "cat/"], empty=["test/"], options={"depth": 1})
def test_no_image_of_any_tree_is_lost(
    tmp_path_factory: pytest.TempPathFactory, folders: list[str], empty: list[str], options: dict[str, object]
) -> None:
    """Each is in a split, or named in a line, itself or its folder; or all is refused, and nothing is written."""
    root = tmp_path_factory.mktemp("tree") / "set"
    plant(root, *(f"{folder}{number}.png" for number, folder in enumerate(folders)), *filter(None, empty))
    try:
        source = opened(root, **options)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either way is right
        return
    if "skip_split" not in options:
        assert_none_is_lost(root, source)
    assert set(source.splits) <= {"train", "val", "test"}
    assert all(items for items in source.splits.values())


def test_many_files_of_one_kind_are_a_line() -> None:
    skipped = [Skipped(f"a/{number}.txt", "no image") for number in range(1200)] + [Skipped("b", "hidden")]
    lines = list(lines_on(skipped))
    assert lines[0] == "skipped a/0.txt: no image"
    assert lines[-2:] == ["skipped 1,195 more in a: no image", "skipped b: hidden"]
    assert len(lines) == 7


def test_an_unreadable_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scandir = plant(tmp_path / "set", *PETS), os.scandir

    def denied(path: Path) -> object:  # the rights of files do not bind root, who runs tests in containers
        if path.name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("probekit.data.importers.tree.os.scandir", denied)
    with pytest.raises(ValueError, match=r"cannot read the folder .*dog: Permission denied"):
        opened(root)
