"""Images kept as JPEG files, and several labels an image: round trips, bytes, hash, damage, and who reads them.

Alone: pytest tests/h5/test_encoded.py
"""

import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from probekit.cli import app
from probekit.data.show import describe, draw_grid, render_description
from probekit.data.split import open_split
from probekit.h5 import (
    DIFFICULT,
    DatasetWriter,
    EncodedBlock,
    Header,
    Split,
    as_columns,
    decode,
    encode,
    open_encoded,
    pack,
    read_info,
    read_labels,
    read_split,
    verify,
)
from probekit.train.evaluate import Monitor
from tests.datasets import edited, naive_hash
from tests.h5.test_h5 import assert_one_line

CLASSES = ("bird", "cat", "dog")
HEADER = Header(generator="", parameters={"source": "x"}, seed=0, classes=CLASSES, factors=(), mask_names=())


def smooth(n: int, shape: tuple[int, ...] = (24, 32, 3), seed: int = 0) -> NDArray[np.uint8]:
    """Images that JPEG keeps nearly as they are, all different."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 3, 4, *shape[2:]), dtype=np.uint8)
    return np.stack([np.asarray(cv2.resize(image, shape[1::-1], interpolation=cv2.INTER_CUBIC)) for image in coarse])


def one_label(n: int) -> NDArray[np.int64]:
    return np.arange(n, dtype=np.int64) % len(CLASSES)


def several(n: int) -> NDArray[np.uint8]:
    return np.array([0, 1, 255], np.uint8)[np.random.default_rng(0).integers(0, 3, (n, len(CLASSES)))]


def write(
    path: Path, splits: Mapping[str, tuple[NDArray[np.uint8], NDArray[Any] | None]], *, block: int = 64, encoded: bool
) -> Path:
    with DatasetWriter(path, header=HEADER, compression="none", overwrite=True) as writer:
        for name, (images, labels) in splits.items():
            writer.begin(name, len(images) + 3)  # some end early
            for begin in range(0, len(images), block):
                rows = slice(begin, begin + block)
                part = None if labels is None else labels[rows]
                if encoded:
                    files = [encode(image) for image in images[rows]]
                    writer.append(EncodedBlock(images.shape[1:], files, as_columns(part, {})))
                else:
                    writer.append(pack(Split(images[rows], part, {}, None), "none"))
    return path


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 1500 bytes: files cross from one into the next, some over several."""
    monkeypatch.setattr("probekit.h5.encoded.CHUNK", 1500)


@pytest.mark.parametrize("shape", [(24, 32, 3), (24, 32)])
def test_encoded_images_are_read_as_they_decode(tmp_path: Path, small_chunks: None, shape: tuple[int, ...]) -> None:
    images = smooth(90, shape)
    path = write(tmp_path / "a.h5", {"train": (images, one_label(90)), "test": (images[:5], None)}, encoded=True)
    info = read_info(path)
    train = info.splits["train"]
    assert (train.n, train.height, train.width, train.channels) == (90, *shape, *((1,) if len(shape) == 2 else ()))
    assert train.encoded
    assert not train.multilabel
    expected = np.stack([decode(encode(image), shape) for image in images])
    assert np.abs(expected.astype(int) - images).mean() < 3  # and RGB has not become BGR
    np.testing.assert_array_equal(read_split(path, "train").images, expected)
    np.testing.assert_array_equal(read_split(path, "train", start=17, stop=61).images, expected[17:61])
    np.testing.assert_array_equal(read_split(path, "train").labels, one_label(90))
    assert read_split(path, "test").labels is None
    with closing(open_encoded(path, "train")) as encoded:
        assert encoded.shape == images.shape
        assert len(encoded) == 90
        order = np.random.default_rng(0).permutation(90)
        with ThreadPoolExecutor(8) as pool:
            files = list(pool.map(lambda i: encoded.read([i])[0], order))
        assert files == [encode(images[i]) for i in order] == encoded.read(order)
        np.testing.assert_array_equal(encoded.image(int(order[0])), expected[order[0]])


def test_plain_h5py_reads_them(tmp_path: Path, small_chunks: None) -> None:
    images = smooth(9)
    with h5py.File(write(tmp_path / "a.h5", {"train": (images, several(9))}, encoded=True)) as file:
        data, offsets = file["train/encoded/bytes"][:], file["train/encoded/offsets"][:]
        assert dict(file["train/encoded"].attrs) == {"height": 24, "width": 32, "channels": 3, "format": "jpeg"}
    files = [data[begin:end].tobytes() for begin, end in itertools.pairwise(offsets)]
    assert files == [encode(image) for image in images]


def test_hash_and_bytes_depend_on_contents_alone(tmp_path: Path, small_chunks: None) -> None:
    images = smooth(90)
    splits: dict[str, Any] = {"train": (images, several(90)), "test": (images[:7], several(7))}
    first, second = (write(tmp_path / f"{block}.h5", splits, block=block, encoded=True) for block in (13, 90))
    assert first.read_bytes() == second.read_bytes()
    with h5py.File(first) as file:
        expected = naive_hash(file)
    assert read_info(first).content_hash == expected
    assert verify(first) == read_info(first)


def test_bad_pictures_are_refused_in_one_place() -> None:
    for data, shape in ((b"junk", (24, 32)), (b"", (24, 32)), (encode(smooth(1)[0]), (32, 24, 3))):
        assert_one_line(lambda data=data, shape=shape: decode(data, shape), "image")  # type: ignore[misc]


# --- several labels an image ---


@pytest.mark.parametrize("encoded", [False, True])
def test_several_labels_an_image(tmp_path: Path, encoded: bool) -> None:
    labels = several(5000)  # more than a chunk of columns
    images = smooth(50)[np.arange(5000) % 50]
    path = write(tmp_path / "a.h5", {"train": (images, labels)}, encoded=encoded)
    info = read_info(path)
    assert info.multilabel
    assert info.splits["train"].multilabel
    assert info.splits["train"].labelled
    found = read_split(path, "train", start=4000, stop=4200)
    np.testing.assert_array_equal(found.labels, labels[4000:4200])
    assert found.class_labels is None
    whole = read_labels(path, "train")
    assert whole is not None
    assert whole.dtype == np.uint8
    np.testing.assert_array_equal(whole, labels)


def put(name: str, values: Any, **options: Any) -> Callable[[h5py.File], None]:
    def act(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=values, **options)

    return act


def drop(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(name)


def offsets_turned(file: h5py.File) -> None:
    file["train/encoded/offsets"][:] = file["train/encoded/offsets"][:][::-1]


def cut_short(file: h5py.File) -> None:
    file["train/encoded/bytes"].resize(3000, axis=0)


def garbage(file: h5py.File) -> None:
    file["train/encoded/bytes"][:2000] = 7


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file["train/encoded"].attrs.__setitem__(name, value)


DAMAGE: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "a flag of 7": (put("train/labels", np.full((20, 3), 7, np.uint8), chunks=(20, 3)), "0, 1 or 255"),
    "a class short": (put("train/labels", np.zeros((20, 2), np.uint8)), "[20, 3]"),
    "several labels, wide": (put("train/labels", np.zeros((20, 3), np.int64)), "uint8"),
    "both kinds of labels": (put("test/labels", np.zeros(4, np.int64)), "found both"),
    "images twice": (lambda file: file.create_dataset("train/images", data=smooth(20)), "found both"),
    "no bytes": (drop("train/encoded/bytes"), "bytes"),
    "no offsets": (drop("train/encoded/offsets"), "offsets"),
    "no images at all": (drop("train/encoded"), "images"),
    "one offset": (put("train/encoded/offsets", np.zeros(1, np.int64)), "offsets"),
    "offsets turned": (offsets_turned, "rise"),
    "bytes cut short": (cut_short, "rise"),
    "packed bytes": (put("train/encoded/bytes", np.zeros(9000, np.uint8), chunks=(500,), compression="gzip"), "bytes"),
    "bytes in one piece": (put("train/encoded/bytes", np.zeros(9000, np.uint8)), "chunked"),
    "no JPEG": (garbage, "image"),
    "another format": (attribute("format", "jxl"), "'jxl'"),
    "another size": (attribute("height", np.int64(25)), "one shape"),
    "four channels": (attribute("channels", np.int64(4)), "channels"),
    "text for a size": (attribute("width", "wide"), "width"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_malformed_file_is_one_line(tmp_path: Path, small_chunks: None, kind: str) -> None:
    splits: dict[str, Any] = {"train": (smooth(20), several(20)), "test": (smooth(4), several(4))}
    path = write(tmp_path / "a.h5", splits, encoded=True)
    act, word = DAMAGE[kind]
    with edited(path) as file:
        act(file)
    assert_one_line(lambda: (read_split(path, "test"), read_split(path, "train")), "a.h5", word)


def test_asking_for_the_wrong_kind(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", {"train": (smooth(4), None)}, encoded=False)
    assert_one_line(lambda: open_encoded(path, "train"), "found pixels")
    assert_one_line(lambda: open_encoded(path, "test"), "'test'")


def test_a_file_that_shrinks_under_its_reader(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", {"train": (smooth(4), None)}, encoded=True)
    with closing(open_encoded(path, "train")) as encoded:
        with path.open("r+b") as file:
            file.truncate(100)
        assert_one_line(lambda: encoded.read([3]), "image 3", "a.h5", "found 0")


# --- who reads them ---


def test_show_draws_and_counts_them(tmp_path: Path) -> None:
    labels = several(20)
    path = write(tmp_path / "a.h5", {"train": (smooth(20), labels)}, encoded=True)
    split = describe(path)["splits"]["train"]
    assert split["per_class"] == [int((labels[:, k] == 1).sum()) for k in range(3)]
    assert split["brightness"] is None
    assert (labels == DIFFICULT).any()
    text = "\n".join(str(cell) for column in render_description(describe(path)).columns for cell in column.cells)
    assert "kept as JPEG, several labels an image" in text
    assert draw_grid(path, tmp_path / "a.png").exists()


def test_the_monitor_cannot_score_several_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", {"train": (smooth(20), several(20))}, encoded=True)
    train = open_split(path, "train", torch.device("cpu"), max_size=32)
    assert not Monitor(train, None, None, seed=0).can_score


def test_the_command_line_trains_on_them_and_draws_a_heatmap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    splits = {name: (smooth(8), several(8)) for name in ("train", "test")}
    write(Path("a.h5"), splits, encoded=True)
    small = ["--preset", "quick", "--epochs", "1", "--batch-size", "4", "--set", "model.width=4"]
    done = CliRunner().invoke(app, ["pretrain", "simclr", "--data", "a.h5", "--name", "r", *small])
    assert done.exit_code == 0, done.output
    assert "next: probekit probe r   or" in done.output
    done = CliRunner().invoke(app, ["heatmap", "r", "--maps", "cam", "--perturb", "0"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "labels of" in Path("runs/r/results/heatmap-last.json").read_text()
