"""The dataset file: round trips, its bytes and hash, and every kind of damage as one line.

Alone: pytest tests/h5/test_h5.py
"""

import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probekit.h5 import (
    COMPRESSIONS,
    DatasetWriter,
    Header,
    Split,
    chunk_rows,
    pack,
    read_info,
    read_labels,
    read_split,
    verify,
)
from probekit.h5.check import check_file
from tests.datasets import edited, naive_hash

HEADER = Header(
    generator="shapes",
    parameters={"gap": 1.5, "whole": True},
    seed=2**63 - 1,
    classes=("круг", "square"),
    factors=({"name": "angle", "kind": "real"}, {"name": "role", "kind": "role"}),
    mask_names=("disc", "evidence:disc"),
)
FUZZ = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def rows(n: int, shape: tuple[int, ...] = (16, 12), seed: int = 0) -> Split:
    """Random rows that fit HEADER."""
    rng = np.random.default_rng(seed)
    return Split(
        images=rng.integers(0, 256, (n, *shape), dtype=np.uint8),
        labels=rng.integers(0, 2, n),
        factors={
            "angle": rng.normal(size=n).astype(np.float32),
            "role": np.array([b"base", b"pair"])[np.arange(n) % 2],
        },
        masks=rng.integers(0, 4, (n, *shape[:2]), dtype=np.uint8),
    )


def cut(split: Split, part: slice) -> Split:
    return Split(
        split.images[part],
        None if split.labels is None else split.labels[part],
        {name: values[part] for name, values in split.factors.items()},
        None if split.masks is None else split.masks[part],
    )


def write(path: Path, splits: dict[str, Split], *, compression: str = "gzip", block: int = 10**6) -> Path:
    with DatasetWriter(path, header=HEADER, compression=compression, overwrite=True) as writer:
        for name, split in splits.items():
            n = len(split.images)
            writer.begin(name, n)
            for begin in range(0, n, block):
                writer.append(pack(cut(split, slice(begin, begin + block)), compression))
    return path


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    return write(tmp_path / "sound.h5", {"train": rows(70), "test": rows(5, seed=1)})


def assert_same(found: Split, expected: Split) -> None:
    np.testing.assert_array_equal(found.images, expected.images)
    np.testing.assert_array_equal(found.masks, expected.masks)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert list(found.factors) == list(expected.factors)
    for name, values in expected.factors.items():
        np.testing.assert_array_equal(found.factors[name], values)
        assert found.factors[name].dtype == values.dtype


def assert_one_line(call: Callable[[], object], *words: str) -> None:
    with pytest.raises((ValueError, OSError)) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 500
    for word in words:
        assert word in text


@FUZZ
@given(
    n=st.integers(1, 140),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    colour=st.booleans(),
    compression=st.sampled_from(COMPRESSIONS),
    data=st.data(),
)
def test_what_is_written_is_read(
    tmp_path: Path, n: int, height: int, width: int, colour: bool, compression: str, data: st.DataObject
) -> None:
    split = rows(n, (height, width, 3) if colour else (height, width))
    path = write(tmp_path / "a.h5", {"train": split}, compression=compression, block=64)
    assert_same(read_split(path, "train", masks=True), split)
    start = data.draw(st.integers(0, n - 1))
    stop = data.draw(st.integers(start + 1, n))
    part = cut(split, slice(start, stop))
    assert_same(read_split(path, "train", start=start, stop=stop, masks=True), part)
    pixels = read_split(path, "train", start=start, stop=stop, columns=False)
    assert_same(pixels, Split(part.images, None, {}, None))


def test_info_says_what_was_written(sound: Path) -> None:
    info = read_info(sound)
    assert (info.generator, info.parameters, info.seed) == ("shapes", HEADER.parameters, 2**63 - 1)
    assert (info.classes, info.mask_names) == (HEADER.classes, HEADER.mask_names)
    assert list(info.splits) == ["train", "test"]
    train = info.splits["train"]
    assert (train.n, train.height, train.width, train.channels) == (70, 16, 12, 1)
    assert train.labelled
    assert train.masked
    assert train.factors == ("angle", "role")


def test_masks_only_on_demand_and_labels_alone(sound: Path) -> None:
    whole = read_split(sound, "train")
    assert whole.masks is None
    np.testing.assert_array_equal(read_labels(sound, "train"), whole.labels)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_plain_h5py_reads_it(tmp_path: Path, compression: str) -> None:
    split = rows(100)
    with h5py.File(write(tmp_path / "a.h5", {"train": split}, compression=compression)) as file:
        images = file["train/images"]
        assert images.compression == (None if compression == "none" else compression)
        np.testing.assert_array_equal(images[:], split.images)
        np.testing.assert_array_equal(file["train/labels"][:], split.labels)
        assert file["train/factors/role"][1] == b"pair"
        assert json.loads(file.attrs["classes"]) == list(HEADER.classes)
        assert not any(array.dtype.hasobject for array in (images, file["train/factors/role"]))


def test_large_images_get_small_chunks() -> None:
    assert chunk_rows(128, 128, 1) == 64
    assert chunk_rows(1024, 1024, 3) * 1024 * 1024 * 3 <= 4 << 20
    assert chunk_rows(9000, 9000, 3) == 1


def test_columns_of_many_blocks_come_back_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns are written whenever so many rows have come, and at the end."""
    monkeypatch.setattr("probekit.h5.write.COLUMN_ROWS", 100)
    whole = rows(330)
    found = read_split(write(tmp_path / "a.h5", {"train": whole}, block=64), "train")
    np.testing.assert_array_equal(found.labels, whole.labels)
    np.testing.assert_array_equal(found.factors["angle"], whole.factors["angle"])


@pytest.mark.parametrize("shape", [(16, 12), (250, 200, 3)])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_content_hash_follows_its_definition(tmp_path: Path, compression: str, shape: tuple[int, ...]) -> None:
    path = write(tmp_path / "a.h5", {"train": rows(70, shape), "test": rows(3, shape)}, compression=compression)
    with h5py.File(path) as file:
        expected = naive_hash(file)
    assert verify(path).content_hash == read_info(path).content_hash == expected


def test_content_hash_ignores_blocks_and_order_of_factors_but_not_one_pixel(tmp_path: Path) -> None:
    split = rows(200)
    one = read_info(write(tmp_path / "a.h5", {"train": split})).content_hash
    assert one == read_info(write(tmp_path / "b.h5", {"train": split}, compression="none", block=64)).content_hash
    turned = Split(split.images, split.labels, dict(reversed(split.factors.items())), split.masks)
    assert one == read_info(write(tmp_path / "c.h5", {"train": turned})).content_hash
    split.images[150, 3, 3] ^= 1
    assert one != read_info(write(tmp_path / "d.h5", {"train": split})).content_hash


def test_same_contents_same_bytes(tmp_path: Path) -> None:
    first = write(tmp_path / "a.h5", {"train": rows(70), "val": rows(9)}).read_bytes()
    time.sleep(1.1)  # HDF5 would stamp whole seconds
    assert first == write(tmp_path / "b.h5", {"train": rows(70), "val": rows(9)}).read_bytes()


def test_a_split_may_end_early(tmp_path: Path) -> None:
    split = rows(70)
    with DatasetWriter(tmp_path / "a.h5", header=HEADER, compression="gzip", overwrite=False) as writer:
        writer.begin("train", 5000)
        writer.append(pack(split, "gzip"))
    assert_same(read_split(tmp_path / "a.h5", "train", masks=True), split)


# --- what the writer refuses, and what it leaves behind ---


def test_gzip_is_zlibs_own_stream() -> None:
    """Byte for byte what zlib makes with these settings: it cannot depend on the processor, and anybody reads it."""
    rng = np.random.default_rng(0)
    shapes, noise = np.zeros((2, 64, 32, 32), np.uint8)
    shapes[:, 5:20, 7:25] = 255
    noise[...] = rng.integers(0, 256, noise.shape)
    for images in (shapes, noise, rng.integers(0, 2, (40, 32, 32), np.uint8)):
        [chunk] = pack(Split(images, None, {}, None), "gzip").chunks["images"]
        deflate = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 7, zlib.Z_RLE)
        filled = images.tobytes() + bytes((64 - len(images)) * 32 * 32)
        assert chunk == deflate.compress(filled) + deflate.flush()


def writer_for(path: Path, *, compression: str = "gzip", overwrite: bool = False) -> DatasetWriter:
    return DatasetWriter(path, header=HEADER, compression=compression, overwrite=overwrite)


def test_an_existing_file_stays(sound: Path) -> None:
    before = sound.read_bytes()
    with pytest.raises(FileExistsError, match="--overwrite"):
        writer_for(sound)
    assert sound.read_bytes() == before


def test_a_file_is_no_folder_and_a_device_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(OSError, match="file is a file, not a folder"):
        writer_for(tmp_path / "file" / "a.h5")
    assert (tmp_path / "file").read_bytes() == b"mine"
    with pytest.raises(ValueError, match="found a device or a pipe at /dev/null"):
        read_info(Path("/dev/null"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_writer_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted() -> None:
        with writer_for(tmp_path / "a.h5") as writer:
            writer.begin("train", 70)
            writer.append(pack(rows(64), "gzip"))
            raise error

    with pytest.raises(error):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_overwrite_keeps_the_old_file(sound: Path) -> None:
    before = sound.read_bytes()
    with pytest.raises(RuntimeError), writer_for(sound, overwrite=True) as writer:  # noqa: PT012
        writer.begin("train", 70)
        raise RuntimeError
    assert sound.read_bytes() == before
    assert list(sound.parent.iterdir()) == [sound]


def test_a_stale_temporary_is_replaced(tmp_path: Path) -> None:
    stale = writer_for(tmp_path / "a.h5").partial
    stale.write_bytes(b"left by a killed process")
    write(tmp_path / "a.h5", {"train": rows(3)})
    assert list(tmp_path.iterdir()) == [tmp_path / "a.h5"]


def test_a_file_that_was_just_finished_is_not_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process renames its temporary between our opening and our locking of it."""
    partial, done = tmp_path / ".a.h5.partial", tmp_path / "a.h5"
    partial.write_bytes(b"whole")
    monkeypatch.setattr("probekit.locks.fcntl.flock", lambda *_: partial.replace(done))
    assert_one_line(lambda: writer_for(done), "another process")
    assert done.read_bytes() == b"whole"


def test_unwritable_places_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert_one_line(lambda: writer_for(tmp_path / "file" / "a.h5"), "cannot write", "a.h5")
    assert_one_line(lambda: writer_for(tmp_path / ("x" * 300)), "too long")
    assert_one_line(lambda: writer_for(tmp_path), "folder")
    assert_one_line(lambda: writer_for(tmp_path / "a.h5", compression="zip"), "gzip, lzf, none", "'zip'")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX has named pipes")
def test_what_is_no_file_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert_one_line(lambda: writer_for(tmp_path / "pipe", overwrite=True), "found something else")
    assert (tmp_path / "pipe").is_fifo()


FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.h5.test_h5 import write, rows
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    write(Path(sys.argv[1]), {"train": rows(64 * 40)}, compression=sys.argv[2], block=64)
except OSError as error:
    print(f"<{error}>")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits the file size by a POSIX call")
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, compression: str) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "a.h5"), compression]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    remedy = "the disk is full, or a limit reached; free some space"
    assert done.stdout == f"<{tmp_path / 'a.h5'} cannot be written: {remedy}>\n", done.stderr
    assert done.returncode == 0
    assert list(tmp_path.iterdir()) == []


# --- what the reader refuses ---


def put(file: h5py.File, name: str, values: Any, **options: Any) -> None:
    if name in file:
        del file[name]
    file.create_dataset(name, data=values, **options)


def attr(name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


def array(name: str, values: Any, **options: Any) -> Callable[[h5py.File], None]:
    return lambda file: put(file, name, values, **options)


def test_wide_columns_are_written_in_chunks_that_are_read(tmp_path: Path) -> None:
    """More classes than 1024, and names of files that are longer, in more rows than a chunk may hold of them."""
    n, path, rng = 4100, tmp_path / "wide.h5", np.random.default_rng(0)
    labels = rng.integers(0, 2, (n, 1200), dtype=np.uint8)
    names = np.array([f"{i:01500d}".encode() for i in range(n)])
    header = replace(HEADER, classes=[f"c{k}" for k in range(1200)], factors=[{"name": "file", "kind": "key"}])
    with DatasetWriter(path, header=replace(header, mask_names=[]), compression="none", overwrite=False) as writer:
        writer.begin("train", n)
        writer.append(pack(Split(np.zeros((n, 2, 2), np.uint8), labels, {"file": names}, None), "none"))
    verify(path)
    found = read_split(path, "train", start=3000)
    assert found.labels is not None
    np.testing.assert_array_equal(found.labels, labels[3000:])
    np.testing.assert_array_equal(found.factors["file"], names[3000:])


def drop(*names: str) -> Callable[[h5py.File], None]:
    def act(file: h5py.File) -> None:
        for name in names:
            del file[name]

    return act


def soft_link(file: h5py.File) -> None:
    del file["train/masks"]
    file["train/masks"] = h5py.SoftLink("/train/images")


def external_link(file: h5py.File) -> None:
    del file["train/images"]
    file["train/images"] = h5py.ExternalLink("/etc/other.h5", "/x")


def external_storage(file: h5py.File) -> None:
    del file["train/labels"]
    file.create_dataset("train/labels", (70,), "i8", external=[("labels.bin", 0, 560)])


def never_written(file: h5py.File) -> None:
    for name in ("images", "masks"):
        del file[f"train/{name}"]
        file.create_dataset(f"train/{name}", (10**12, 16, 12), "u1", chunks=(64, 16, 12))


def other_size(file: h5py.File) -> None:
    for name in {"images", "masks"} & set(file["test"]):
        put(file, f"test/{name}", np.zeros((len(file[f"test/{name}"]), 16, 16), np.uint8))


def references(file: h5py.File) -> None:
    put(file, "train/factors/role", np.array([file.ref] * 70, h5py.ref_dtype), dtype=h5py.ref_dtype)


def chunk(stored: bytes, *, mask: int = 0, **options: Any) -> Callable[[h5py.File], None]:
    """Images of which the first chunk holds other bytes: HDF5 reads on behind the end of what is too short."""

    def act(file: h5py.File) -> None:
        put(file, "train/images", np.zeros((70, 16, 12), np.uint8), chunks=(64, 16, 12), **options)
        file["train/images"].id.write_direct_chunk((0, 0, 0), stored, filter_mask=mask)

    return act


def padded_otherwise(file: h5py.File) -> None:
    del file["train/factors/role"]
    kind, made = h5py.h5t.C_S1.copy(), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    kind.set_size(8)
    kind.set_strpad(h5py.h5t.STR_SPACEPAD)
    made.set_chunk((70,))
    h5py.h5d.create(file["train/factors"].id, b"role", kind, h5py.h5s.create_simple((70,)), made)
    file["train/factors/role"][:] = np.full(70, b"base")


def vast_chunks(file: h5py.File) -> None:
    for name in ("images", "masks"):
        put(file, f"train/{name}", np.zeros((70, 300, 300), np.uint8), chunks=(70, 300, 300), compression="gzip")


DAMAGE: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "other schema": (attr("schema", "probekit-dataset/9"), "probekit-dataset/5"),
    "older schema": (attr("schema", "probekit-dataset/3"), "found 'probekit-dataset/3'; type: probekit gen rect-tri"),
    "schema a number": (attr("schema", 1), "schema"),
    "no split": (drop("train", "test"), "train"),
    "no images": (drop("train/images"), "images"),
    "other sizes in test": (other_size, "images of one shape in all splits"),
    "float images": (array("train/images", np.zeros((70, 16, 12), np.float32)), "uint8"),
    "signed images": (array("train/images", np.zeros((70, 16, 12), np.int8)), "uint8"),
    "channels first": (array("train/images", np.zeros((70, 3, 16, 12), np.uint8)), "[N, H, W, 3]"),
    "two dimensions": (array("train/images", np.zeros((70, 16), np.uint8)), "[N, H, W]"),
    "empty split": (array("test/images", np.zeros((0, 16, 12), np.uint8)), "empty"),
    "null images": (array("train/images", h5py.Empty("u1")), "images"),
    "another size in test": (array("test/images", np.zeros((5, 12, 16), np.uint8)), "test"),
    "turned masks": (array("train/masks", np.zeros((70, 12, 16), np.uint8)), "masks"),
    "mask bits without names": (array("train/masks", np.full((70, 16, 12), 4, np.uint8), chunks=(64, 16, 12)), "bits"),
    "too few labels": (array("train/labels", np.zeros(69, np.int64)), "labels"),
    "float labels": (array("train/labels", np.zeros(70)), "int64"),
    "small labels": (array("train/labels", np.zeros(70, np.int32)), "int64"),
    "labels as a column": (array("train/labels", np.zeros((70, 1), np.int64)), "labels"),
    "label beyond the classes": (array("train/labels", np.full(70, 2), chunks=(70,)), "labels 0 to 1"),
    "negative label": (array("train/labels", np.full(70, -1), chunks=(70,)), "labels 0 to 1"),
    "a column short": (array("train/factors/angle", np.zeros(3)), "angle"),
    "a column missing": (drop("train/factors/angle"), "angle"),
    "a column too many": (array("train/factors/more", np.zeros(70)), "more"),
    "text of any length": (array("train/factors/role", ["base"] * 70), "role"),
    "a compound column": (array("train/factors/role", np.zeros(70, "i4,f4")), "role"),
    "references": (references, "role"),
    "a group for images": (lambda file: (drop("train/images")(file), file.create_group("train/images"))[0], "dataset"),
    "soft link": (soft_link, "link"),
    "external link": (external_link, "link"),
    "external storage": (external_storage, "other files"),
    "never written": (never_written, "never written"),
    "a chunk too short": (chunk(zlib.compress(bytes(100)), compression="gzip"), "12288 bytes"),
    "a chunk too long": (chunk(zlib.compress(bytes(12289)), compression="gzip"), "12288 bytes"),
    "a chunk cut off": (chunk(zlib.compress(bytes(12288))[:-3], compression="gzip"), "rows 0 to 63"),
    "a chunk of anything": (chunk(b"anything", compression="gzip"), "rows 0 to 63"),
    "a short chunk as it is": (chunk(bytes(100), mask=1, compression="gzip"), "12288 bytes"),
    "a short chunk of lzf": (chunk(bytes(100), mask=1, compression="lzf"), "12288 bytes"),
    "other filters": (array("train/labels", np.zeros(70, np.int64), shuffle=True), "filters"),
    "packed offsets of values": (array("train/labels", np.zeros(70, np.int64), scaleoffset=0), "filters"),
    "vast chunks": (vast_chunks, "4 MiB"),
    "another layout of text": (padded_otherwise, "layout"),
    "classes no JSON": (attr("classes", "['a', 'b']"), "JSON"),
    "classes an object": (attr("classes", "{}"), "list"),
    "classes with numbers": (attr("classes", "[1, 2]"), "names"),
    "classes twice": (attr("classes", '["a", "a"]'), "distinct"),
    "no class names": (attr("classes", "[]"), "class names"),
    "JSON too deep": (attr("parameters", "[" * 100_000), "JSON"),
    "nine mask names": (attr("mask_names", json.dumps(list("abcdefghi"))), "8"),
    "factor without a name": (attr("factors", "[{}]"), "name"),
    "factor without a kind": (attr("factors", '[{"name": "angle"}]'), "kind"),
    "factor with half a range": (attr("factors", '[{"name": "angle", "kind": "real", "low": 0}]'), "low and high"),
    "factor with words as ends": (
        attr("factors", '[{"name": "angle", "kind": "real", "low": "a", "high": 1}]'),
        "low and high",
    ),
    "factor without an end": (
        attr("factors", '[{"name": "angle", "kind": "real", "low": 0, "high": Infinity}]'),
        "low and high",
    ),
    "seed a text": (attr("seed", "0"), "seed"),
    "bytes for text": (attr("generator", np.bytes_(b"shapes")), "generator"),
} | {
    f"no {name}": (lambda file, name=name: file.attrs.__delitem__(name), name)
    for name in ("schema", "generator", "parameters", "seed", "classes", "factors", "mask_names", "content_hash")
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_malformed_file_is_one_line(sound: Path, kind: str) -> None:
    act, word = DAMAGE[kind]
    with edited(sound) as file:
        act(file)
    with pytest.raises(ValueError, match="sound") as caught:
        read_split(sound, "train", masks=True)
    assert_one_line(lambda: read_split(sound, "train", masks=True), word)
    assert "\n" not in str(caught.value)


def test_asking_for_what_is_not_there(sound: Path, tmp_path: Path) -> None:
    assert_one_line(lambda: read_split(sound, "val"), "train, test", "'val'")
    assert_one_line(lambda: read_split(sound, "train", start=60, stop=71), "[0, 70)")
    assert_one_line(lambda: read_split(sound, "train", start=5, stop=5), "[0, 70)")
    assert_one_line(lambda: read_info(tmp_path / "none.h5"), "none.h5", "probekit gen")
    (tmp_path / "empty").mkdir()
    assert_one_line(lambda: read_info(tmp_path / "empty"), "folder")
    (tmp_path / "text.h5").write_text("not HDF5 at all")
    assert_one_line(lambda: read_info(tmp_path / "text.h5"), "text.h5")


@FUZZ
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_one_line(sound: Path, share: float) -> None:
    whole = sound.read_bytes()
    broken = sound.with_name("cut.h5")
    broken.write_bytes(whole[: int(share * len(whole))])
    assert_one_line(lambda: read_split(broken, "train", masks=True), "cut.h5")


@FUZZ
@given(axes=st.permutations([0, 1, 2]))
def test_shuffled_axes_are_refused_or_consistent(sound: Path, axes: list[int]) -> None:
    broken = sound.with_name("turned.h5")
    broken.write_bytes(sound.read_bytes())
    with edited(broken) as file:
        turned = np.ascontiguousarray(rows(70).images.transpose(axes))
        put(file, "train/images", turned, chunks=(64, *turned.shape[1:]) if len(turned) > 64 else None)
    if axes == [0, 1, 2]:
        assert verify(broken).splits["train"].n == 70
    else:
        assert_one_line(lambda: read_info(broken), "turned.h5")


def test_a_file_is_checked_once_until_it_changes(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was changed within the grain of a file system's clock is checked again every time."""
    seen = []

    def count(path: Path, file: h5py.File) -> Any:
        seen.append(path)
        return check_file(path, file)

    monkeypatch.setattr("probekit.h5.file.check_file", count)
    os.utime(sound)
    with monkeypatch.context() as coarse:
        coarse.setattr("probekit.h5.file.SETTLED_NS", 10**12)  # however slow this machine is
        read_info(sound)
        read_info(sound)
    assert len(seen) == 2
    time.sleep(0.15)
    for _ in range(3):
        read_split(sound, "train")
    assert len(seen) == 3
    with h5py.File(sound, "r+") as file:
        file.attrs["seed"] = 5
    with pytest.raises(ValueError, match="of seal"):
        read_split(sound, "train")
