"""Boxes, classes, flags and masks of objects in the dataset file: round trips, hash, damage, shards, and COCO's runs.

Alone: pytest tests/h5/test_objects.py
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco

from probekit.data.divide import Division, divide
from probekit.data.generate import generate
from probekit.data.reshard import reshard
from probekit.h5 import (
    DatasetWriter,
    EncodedBlock,
    Header,
    ObjectRows,
    Objects,
    Split,
    as_columns,
    encode,
    pack,
    pack_objects,
    read_info,
    read_split,
    verify,
)
from probekit.h5.objects import IS_CROWD, IS_DIFFICULT, box_of, mask_of, runs_of
from tests.datasets import edited, naive_hash

CLASSES = ("bird", "cat", "dog")
HEADER = Header(generator="", parameters={"source": "x"}, seed=0, classes=CLASSES, factors=(), mask_names=())
HEIGHT, WIDTH, N = 12, 16, 70  # more than a chunk of images


def some_mask(rng: np.random.Generator) -> NDArray[np.bool_]:
    return rng.random((HEIGHT, WIDTH)) < rng.random()


def some_objects(rng: np.random.Generator, *, masked: bool) -> Objects:
    k = int(rng.integers(0, 4))  # some images have none
    low = rng.random((k, 2)) * (WIDTH - 2, HEIGHT - 2)
    boxes = np.concatenate((low, low + 1 + rng.random((k, 2))), axis=1).astype(np.float32)
    masks = tuple(runs_of(some_mask(rng)) for _ in range(k)) if masked else None
    return Objects(boxes, rng.integers(0, 3, k), rng.integers(0, 4, k), masks)


def write(path: Path, objects: ObjectRows, *, encoded: bool = False, block: int = 64) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (len(objects), HEIGHT, WIDTH), dtype=np.uint8)
    with DatasetWriter(path, header=HEADER, compression="none", overwrite=True) as writer:
        writer.begin("train", len(objects))
        for begin in range(0, len(objects), block):
            rows = slice(begin, begin + block)
            if encoded:
                files = [encode(image) for image in images[rows]]
                writer.append(EncodedBlock((HEIGHT, WIDTH), files, as_columns(None, {}), objects=objects[rows]))
            else:
                writer.append(pack(Split(images[rows], None, {}, None, objects[rows]), "none"))
    return path


def same(one: Objects, other: Objects) -> None:
    np.testing.assert_array_equal(one.boxes, other.boxes)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.flags, other.flags)
    assert (one.masks is None) == (other.masks is None)
    for a, b in zip(one.masks or (), other.masks or (), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_what_was_written_is_read(tmp_path: Path, masked: bool, encoded: bool) -> None:
    rng = np.random.default_rng(1)
    listed = [some_objects(rng, masked=masked) for _ in range(N)]
    path = write(tmp_path / "a.h5", pack_objects(listed), encoded=encoded)
    info = verify(path)
    assert (info.first.boxed, info.first.instances) == (True, masked)
    found = read_split(path, "train", start=3, stop=N - 2, objects=True).objects
    assert found is not None
    assert len(found) == N - 5
    for one, other in zip(found, listed[3:-2], strict=True):
        same(one, other)
    assert read_split(path, "train").objects is None  # not asked for
    with h5py.File(path) as file:
        assert info.content_hash == naive_hash(file)
    assert write(tmp_path / "b.h5", pack_objects(listed), encoded=encoded, block=128).read_bytes() == path.read_bytes()


@given(st.integers(0, 2**32 - 1))
def test_runs_are_those_of_coco(seed: int) -> None:
    mask = some_mask(np.random.default_rng(seed))
    runs = runs_of(mask)
    np.testing.assert_array_equal(mask_of(runs, mask.shape), mask)
    packed = coco.frPyObjects({"counts": runs.tolist(), "size": list(mask.shape)}, *mask.shape)
    np.testing.assert_array_equal(coco.decode(packed), mask)
    if mask.any():
        x, y, width, height = coco.toBbox(packed)
        assert box_of(mask) == (x, y, x + width, y + height)


def test_a_box_more_has_another_hash(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    listed = [some_objects(rng, masked=True) for _ in range(4)]
    one = read_info(write(tmp_path / "a.h5", pack_objects(listed))).content_hash
    moved = Objects(
        np.array([[0, 0, 1, 1]], np.float32), np.zeros(1, np.int64), np.zeros(1, np.int64), (runs_of(some_mask(rng)),)
    )
    assert read_info(write(tmp_path / "b.h5", pack_objects([*listed[:3], moved]))).content_hash != one


ONE = Objects(
    np.array([[1, 2, 5, 7]], np.float32),
    np.array([1]),
    np.array([IS_DIFFICULT | IS_CROWD]),
    (runs_of(np.eye(12, 16) > 0),),
)


def with_box(*box: float) -> bytes:
    return Objects(np.array([box], np.float32), ONE.labels, ONE.flags, ONE.masks).to_bytes()


HOSTILE: dict[str, tuple[bytes, str]] = {
    "another class": (
        Objects(ONE.boxes, np.array([3]), ONE.flags, ONE.masks).to_bytes(),
        "of 3 classes, found class 3",
    ),
    "another flag": (
        Objects(ONE.boxes, ONE.labels, np.array([4]), ONE.masks).to_bytes(),
        "with flags up to 3, found 4",
    ),
    "a box beyond": (with_box(1, 2, 17, 7), "within 16x12"),
    "a box of nothing": (with_box(1, 2, 1, 7), "within 16x12"),
    "a box of nan": (with_box(1, 2, float("nan"), 7), "within 16x12"),
    "a short mask": (
        Objects(ONE.boxes, ONE.labels, ONE.flags, (np.array([3], np.uint32),)).to_bytes(),
        "masks of 16x12",
    ),
    "a run too many": (ONE.to_bytes() + b"\0\0\0\0", "runs of the masks"),
    "many objects": (b"\xff\xff\xff\xff", "expected the objects of an image, found 4 bytes"),
    "half a record": (ONE.to_bytes()[:-1], "expected the objects of an image"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_sound_is_refused_though_sealed(tmp_path: Path, name: str) -> None:
    data, line = HOSTILE[name]
    path = write(tmp_path / "a.h5", ObjectRows([ONE.to_bytes(), data], masked=True))
    with pytest.raises(ValueError, match=line):
        read_split(path, "train", objects=True)
    with pytest.raises(ValueError, match=line):
        verify(path)


def attribute(file: h5py.File) -> None:
    file["train/objects"].attrs["masks"] = np.int64(2)


def offsets(file: h5py.File) -> None:
    held = file["train/objects/offsets"][:]
    del file["train/objects/offsets"]
    file["train/objects"].create_dataset("offsets", data=held[:-1], track_times=False)


def unnamed(file: h5py.File) -> None:
    file.attrs["classes"] = "[]"


@pytest.mark.parametrize(
    ("change", "line"),
    [(attribute, "expected 0 or 1"), (offsets, "expected 2 offsets, and one more"), (unnamed, "expected class names")],
)
def test_another_structure_is_refused(tmp_path: Path, change: Callable[[h5py.File], None], line: str) -> None:
    path = write(tmp_path / "a.h5", ObjectRows([ONE.to_bytes()] * 2, masked=True))
    with edited(path) as file:
        change(file)
    with pytest.raises(ValueError, match=line):
        read_info(path)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", ObjectRows([ONE.to_bytes()] * 2, masked=True))
    with h5py.File(path) as file:
        place = file["train/objects/bytes"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 9] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checksum .* of the objects of image 0 of /train"):
        read_split(path, "train", objects=True)


def quiet(*_: Any) -> None:
    """Says nothing."""


def test_shards_and_divisions_keep_them(tmp_path: Path) -> None:
    about: dict[str, Any] = {"n": 20, "n_test": 6, "size": 48, "seed": 3}
    whole = generate("scenes", out=tmp_path / "whole.h5", **about)
    for k in (1, 2):
        generate("scenes", out=tmp_path / "two.h5", shard=(k, 2), **about)
    assert verify(tmp_path / "two.h5").content_hash == whole.content_hash
    reshard(tmp_path / "two.h5", tmp_path / "one.h5", 1, overwrite=False, progress=quiet)
    assert (tmp_path / "one.h5").read_bytes() == whole.path.read_bytes()

    division = Division(val_fraction=0.3)
    divide(whole.path, tmp_path / "new.h5", division, runs=tmp_path, overwrite=False, say=quiet, progress=quiet)
    before = read_split(whole.path, "train", objects=True)
    parts = [read_split(tmp_path / "new.h5", name, objects=True) for name in ("train", "val")]
    assert before.objects is not None
    known = {image.tobytes(): rows for image, rows in zip(before.images, before.objects.rows, strict=True)}
    assert sum(len(part.images) for part in parts) == 20
    for part in parts:
        assert part.objects is not None
        assert [known[image.tobytes()] for image in part.images] == list(part.objects.rows)


def test_encoded_images_are_divided_with_theirs(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    listed = pack_objects([some_objects(rng, masked=True) for _ in range(N)])
    path = write(tmp_path / "a.h5", listed, encoded=True)
    divide(
        path, tmp_path / "b.h5", Division(test_fraction=0.2), runs=tmp_path, overwrite=False, say=quiet, progress=quiet
    )
    before = read_split(path, "train", objects=True)
    known = {image.tobytes(): rows for image, rows in zip(before.images, listed.rows, strict=True)}
    for name in ("train", "test"):
        part = read_split(tmp_path / "b.h5", name, objects=True)
        assert part.objects is not None
        assert [known[image.tobytes()] for image in part.images] == list(part.objects.rows)
