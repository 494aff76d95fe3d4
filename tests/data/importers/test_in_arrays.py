"""Sets whose images lie in arrays: pixels as they were drawn, choices, and files that are damaged or not the set's.

Alone: pytest tests/data/importers/test_in_arrays.py
"""

import hashlib
import os
import pickle
import tracemalloc
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probekit.data.importers import OFFICIAL, Choices, Options
from probekit.data.importers.base import Broken
from probekit.data.importers.official import open_official, published, streamed
from probekit.data.importers.official.cifar import unpickle
from probekit.data.importers.official.streamed import Streamed
from probekit.h5 import read_info, read_split
from tests.data.importers import in_arrays, py2
from tests.data.importers.in_arrays import LAYOUTS
from tests.data.importers.layouts import FORMATS
from tests.data.importers.test_official import HOLES, assert_as_planned, build, imported, refused, run

ARRAYS = [name for name in FORMATS if name in LAYOUTS]
SIDES = {"stl10": 96, "cifar10": 32, "cifar100": 32, "svhn": 32}  # the others have 28
WHOLE = Options(size=28, resize="crop")


@pytest.mark.parametrize("name", ARRAYS)
def test_pixels_are_stored_as_they_were_drawn(tmp_path: Path, name: str) -> None:
    official, plan = build(name, tmp_path)
    info = imported(official, plan.root, "--size", SIDES.get(official, 28))
    for split in plan.splits:
        np.testing.assert_array_equal(read_split(info.path, split).images, np.stack(plan.pixels[split]))
    assert info.first.channels == OFFICIAL[official].channels


def test_another_size_is_said(tmp_path: Path) -> None:
    _, plan = build("mnist", tmp_path)
    said = "images of 28 px, made 32 px (--size 28 keeps them as they are)"
    done = run("mnist", plan.root, "--subset", "--out", tmp_path / "a.h5")
    assert said in " ".join(done.output.split())
    assert read_info(tmp_path / "a.h5").first.height == 32
    assert "made" not in run("mnist", plan.root, "--subset", "--size", 28, "--out", tmp_path / "b.h5").output


@pytest.mark.parametrize("make", [in_arrays.cifar10, in_arrays.cifar100])
def test_both_versions_of_cifar_become_the_same_bytes(tmp_path: Path, make: Any) -> None:
    name = make.__name__
    files = [imported(name, make(tmp_path / kind, binary=kind == "bin").root).path for kind in ("py", "bin")]
    assert files[0].read_bytes() == files[1].read_bytes()


# --- pickles ---


def test_a_pickle_of_python_2_is_read_as_numpy_reads_it(tmp_path: Path) -> None:
    plan = in_arrays.cifar100(tmp_path)
    path = plan.root / "train"
    theirs = pickle.loads(path.read_bytes(), encoding="bytes")
    ours = unpickle(path)
    assert ours["fine_labels"] == theirs[b"fine_labels"]
    assert ours["data"].state[4] == theirs[b"data"].tobytes()
    assert ours["data"].state[1] == theirs[b"data"].shape


class Runs:
    """Becomes a call when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call = call, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize(
    "content",
    [
        lambda mark: Runs(os.mkdir, str(mark)),
        lambda mark: {"data": Runs(os.mkdir, str(mark)), "labels": []},
        lambda mark: {"data": Runs(eval, f"__import__('os').mkdir({str(mark)!r})")},
        lambda mark: {"data": Runs(np.load, str(mark))},
        lambda mark: {"data": np.array([Runs(os.mkdir, str(mark))], object)},
        lambda mark: {"data": partial(os.mkdir, str(mark))},
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_of_a_pickle_is_run(tmp_path: Path, content: Any, protocol: int) -> None:
    plan, mark = in_arrays.cifar10(tmp_path / "set"), tmp_path / "mark"
    (plan.root / "data_batch_1").write_bytes(pickle.dumps(content(mark), protocol))
    assert "which is not run" in refused("cifar10", plan.root, "--subset")
    assert not mark.exists()


def test_a_pickle_of_a_few_bytes_takes_no_memory(tmp_path: Path) -> None:
    """It puts its dictionary at place 2**24 - 1 of those to be named again: 268 MB in C."""
    plan = in_arrays.cifar10(tmp_path / "set")
    (plan.root / "data_batch_1").write_bytes(b"\x80\x02}r\xff\xff\xff\x00.")
    tracemalloc.start()
    assert "bytes [N, 3,072]" in refused("cifar10", plan.root, "--subset")
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_pickles_of_today_are_read_and_others_are_one_line(tmp_path: Path) -> None:
    plan = in_arrays.cifar10(tmp_path / "set")
    whole = imported("cifar10", plan.root)
    path = plan.root / "test_batch"
    content = pickle.loads(path.read_bytes(), encoding="latin1")
    path.write_bytes(pickle.dumps(content, 4))
    assert imported("cifar10", plan.root).content_hash == whole.content_hash
    for changed, said in (
        ({"data": content["data"][:, :3000]}, "bytes [N, 3,072]"),
        ({"data": content["data"].astype(np.int16)}, "bytes [N, 3,072]"),
        ({"data": np.asfortranarray(content["data"])}, "bytes [N, 3,072]"),
        ({"data": [1, 2]}, "bytes [N, 3,072]"),
        ({"labels": "abc"}, "list of whole numbers"),
        ({"labels": [0, 1]}, "a label for each image"),
        ({"labels": [0, 1, 10]}, "10 classes"),
    ):
        path.write_bytes(pickle.dumps(content | changed, 4))
        assert said in refused("cifar10", plan.root, "--subset")
    path.write_bytes(py2.dumps({"labels": [], "data": np.zeros((0, 3072), np.uint8)}))
    assert imported("cifar10", plan.root).splits["train"].n == 15


# --- what is chosen ---


def test_coarse_classes_of_cifar100(tmp_path: Path) -> None:
    plan = in_arrays.cifar100(tmp_path / "set")
    info = imported("cifar100", plan.root, "--labels", "coarse")
    assert info.classes == tuple(in_arrays.COARSE)
    labels = read_split(info.path, "train").labels
    assert labels is not None
    assert labels.tolist() == [image.label // 5 for image in plan.splits["train"]]
    assert info.parameters["labels"] == "coarse"
    assert imported("cifar100", plan.root).parameters["labels"] == "fine"


@pytest.mark.parametrize(
    ("kind", "first"), [("letters", 1), ("digits", 0), ("byclass", 0), ("bymerge", 0), ("mnist", 0)]
)
def test_each_set_of_emnist(tmp_path: Path, kind: str, first: int) -> None:
    plan = in_arrays.emnist(tmp_path / "set", kind=kind, first=first)
    info = imported("emnist", plan.root, "--labels", kind)
    assert_as_planned(info, plan.splits)
    assert len(info.classes) == plan.n_classes == OFFICIAL["emnist"].labels[kind]
    assert {label: info.classes[label] for label in plan.names} == plan.names


def test_extra_images_of_svhn_join_train(tmp_path: Path) -> None:
    plan = in_arrays.svhn(tmp_path / "set")
    done = run("svhn", plan.root, "--subset", "--out", tmp_path / "a.h5")
    assert "extra_32x32.mat is left out; --train-with-extra joins it to train" in " ".join(done.output.split())
    info = imported("svhn", plan.root, "--train-with-extra")
    assert_as_planned(info, {"train": plan.splits["train"] + plan.beside["extra"], "test": plan.splits["test"]})
    assert "604,388 train" in refused("svhn", plan.root, "--train-with-extra")
    assert "with svhn only" in refused("mnist", plan.root, "--train-with-extra")


def test_folds_and_unlabeled_images_of_stl10(tmp_path: Path) -> None:
    plan = in_arrays.stl10(tmp_path / "set")
    train = plan.splits["train"]
    for fold in (1, 10):
        k = (fold - 1) % 4
        info = imported("stl10", plan.root, "--fold", fold)
        assert_as_planned(info, {"train": [train[k], train[(k + 1) % 4]], "test": plan.splits["test"]})
        assert info.parameters["fold"] == fold
    assert "1,000 train" in refused("stl10", plan.root, "--fold", 1)
    info = imported("stl10", plan.root, "--unlabeled")
    assert (info.classes, list(info.splits), info.first.n, info.first.labelled) == ((), ["train"], 3, False)
    assert "100,000 train" in refused("stl10", plan.root, "--unlabeled")
    assert "leave one out" in refused("stl10", plan.root, "--unlabeled", "--fold", 2)
    (plan.root / "fold_indices.txt").write_text("0 4\n")
    assert "from 0 to 3 in line 1" in refused("stl10", plan.root, "--fold", 1)


def test_the_size_says_which_file_of_medmnist_is_read(tmp_path: Path) -> None:
    root = tmp_path / "set"
    in_arrays.medmnist(root, name="bloodmnist", side=64)
    text = refused("bloodmnist", root, "--subset")
    assert text.endswith(f"type: probekit import bloodmnist {root} --size 64")
    done = run(*text.partition("probekit import ")[2].split(), "--subset", "--out", tmp_path / "a.h5")
    assert done.exit_code == 0, done.exception
    assert "made" not in done.output
    assert f"type: probekit import bloodmnist {root}" in refused(str(root / "bloodmnist_64.npz"))
    in_arrays.medmnist(root, name="bloodmnist")
    for size, side in ((28, 28), (48, 64), (64, 64), (224, 64)):
        done = run("bloodmnist", root, "--subset", "--size", size, "--out", tmp_path / "a.h5", "--overwrite")
        assert done.exit_code == 0
        assert (f"images of {side} px, made" in done.output) == (size != side)
    assert "bloodmnist_64.npz" in refused("bloodmnist", tmp_path)
    assert "bloodmnist, " in refused("medmnist", root)
    text = refused("bloodmnist", root / "bloodmnist.npz")
    assert text.endswith(f"type: probekit import bloodmnist {root}")


def test_several_labels_and_grades_of_medmnist(tmp_path: Path) -> None:
    plan = in_arrays.medmnist(tmp_path / "set", name="chestmnist")
    assert imported("chestmnist", plan.root).multilabel
    plan = in_arrays.medmnist(tmp_path / "set", name="retinamnist")
    assert imported("retinamnist", plan.root).parameters["ordinal"] is True
    info = imported("retinamnist", plan.root, "--train-with-val")
    assert_as_planned(info, {"train": plan.splits["train"] + plan.splits["val"], "test": plan.splits["test"]})


# --- rows that are read while they are unpacked ---


def test_rows_come_in_any_order_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "BEHIND", 3)
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 6, 3), np.uint8)
    np.savez_compressed(tmp_path / "a.npz", x=images)
    rows = Streamed(tmp_path / "a.npz", "x.npy")
    assert len(rows) == 40
    for index in (0, 2, 1, 0, 7, 5, 39, 36, 12, 13, 3):
        np.testing.assert_array_equal(rows[index], images[index])


def test_a_damaged_row_is_broken_and_said(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 50, 50), np.uint8)
    np.savez(tmp_path / "a.npz", x=images)
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[5000] ^= 1
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(Broken, match=r"a\.npz is damaged: .*CRC"):
        _ = Streamed(tmp_path / "a.npz", "x.npy")[39]
    np.savez_compressed(tmp_path / "b.npz", x=images.astype(np.int16))
    with pytest.raises(ValueError, match="expected bytes"):
        Streamed(tmp_path / "b.npz", "x.npy")
    (tmp_path / "c.npz").write_bytes(b"PK junk")
    with pytest.raises(ValueError, match="cannot read"):
        Streamed(tmp_path / "c.npz", "x.npy")


# --- what is wrong with files ---


@pytest.mark.parametrize("name", ARRAYS)
def test_a_damaged_array_is_one_line(tmp_path: Path, name: str) -> None:
    official, plan = build(name, tmp_path)
    out = tmp_path / "a.h5"
    files = [path for path in plan.root.rglob("*") if path.is_file() and path.suffix != ".txt"]
    for path in files[:3] + files[-2:]:
        whole = path.read_bytes()
        for content in (None, b"", whole[: len(whole) * 2 // 5], whole[:-1], b"\xff\x00 junk", HOLES):
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            if content is HOLES:
                os.truncate(path, 40 << 30)
            done = run(official, plan.root, "--subset", "--out", out, "--overwrite")
            unread = any(word in path.name for word in ("unlabeled", "extra"))
            if not unread and not (content == whole[:-1] and path.suffix == ".mat"):  # it loads without its last byte
                assert done.exit_code, (path, content)
            if done.exit_code:
                assert isinstance(done.exception, ValueError | OSError), (path, content, repr(done.exception))
                assert "\n" not in str(done.exception)
            path.write_bytes(whole)


def test_the_whole_set_is_taken_and_compared_with_what_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = in_arrays.mnist(tmp_path / "set")
    sizes = {split: len(rows) for split, rows in plan.splits.items()}
    monkeypatch.setitem(OFFICIAL, "mnist", replace(OFFICIAL["mnist"], sizes=sizes))
    monkeypatch.setitem(OFFICIAL, "kmnist", replace(OFFICIAL["kmnist"], sizes=sizes))
    typed = ("mnist", plan.root, "--out", tmp_path / "a.h5", "--overwrite")
    said = " ".join(run(*typed).output.split())
    names = "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and 1 more"
    assert f"by MD5, not the file that is published: {names}" in said
    sums = {path.name: (hashlib.md5(path.read_bytes()).hexdigest(),) for path in plan.root.iterdir()}
    monkeypatch.setitem(published.PUBLISHED, "mnist", sums)
    assert "MD5" not in run(*typed).output
    text = refused("kmnist", plan.root, "--out", tmp_path / "b.h5")
    assert text.endswith(f"type: probekit import mnist {plan.root}")
    monkeypatch.setitem(OFFICIAL, "mnist", replace(OFFICIAL["mnist"], sizes=sizes, classes=11))
    assert "expected the 11 classes of mnist, found 10" in refused(*typed)


@pytest.mark.parametrize("release", [(34_561, 6_491, 17_778), (34_581, 6_491, 17_778)])
def test_both_releases_of_medmnist_are_whole(tmp_path: Path, release: tuple[int, ...]) -> None:
    with zipfile.ZipFile(tmp_path / "organamnist.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for split, n in zip(("train", "val", "test"), release, strict=True):
            for key, shape in (("images", (n, 28, 28)), ("labels", (n, 1))):
                with archive.open(f"{split}_{key}.npy", "w") as file:
                    np.lib.format.write_array(file, np.zeros(shape, np.uint8))
    source = open_official("organamnist", tmp_path, Choices(), WHOLE)
    assert tuple(map(len, source.splits.values())) == release


@pytest.mark.parametrize("release", [(88_800, 14_800), (124_800, 20_800)])
def test_both_releases_of_letters_are_whole(tmp_path: Path, release: tuple[int, ...]) -> None:
    for split, n in zip(("train", "test"), release, strict=True):
        start = f"emnist-letters-{split}"
        in_arrays.write_idx(tmp_path / f"{start}-images-idx3-ubyte", np.zeros((n, 1, 1)), False)
        in_arrays.write_idx(tmp_path / f"{start}-labels-idx1-ubyte", np.ones(n), False)
    source = open_official("emnist", tmp_path, Choices(labels="letters"), WHOLE)
    assert tuple(map(len, source.splits.values())) == release
