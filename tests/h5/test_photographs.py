"""Photographs of differing sizes in the dataset file: what is read of them, the test transform, damage, copies.

Alone: pytest tests/h5/test_photographs.py
"""

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from probekit.data.divide import Division, divide
from probekit.data.reshard import reshard
from probekit.data.show import describe, draw_grid, render_description
from probekit.h5 import (
    CentreCrop,
    DatasetWriter,
    EncodedBlock,
    Header,
    as_columns,
    decode_photograph,
    open_encoded,
    read_images,
    read_info,
    read_split,
    verify,
)
from tests.datasets import edited, naive_hash
from tests.h5.test_h5 import assert_one_line

SIZES = [(40, 60), (1, 1), (33, 20), (1, 50), (24, 24), (300, 17)]
CROP = CentreCrop(20, 16)
CLASSES = ("bird", "cat", "dog")


def scene(height: int, width: int, seed: int) -> Image.Image:
    """A smooth colour picture, as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str = "JPEG", **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **how)
    return out.getvalue()


def files(n: int, mode: str = "RGB") -> list[bytes]:
    kinds = ("JPEG", "PNG")
    return [saved(scene(*SIZES[k % len(SIZES)], k).convert(mode), kinds[k % len(kinds)]) for k in range(n)]


def photographs(
    path: Path, n: int = 70, *, block: int = 64, masked: bool = True, crop: CentreCrop = CROP, mode: str = "RGB"
) -> Path:
    """A file of n photographs in train and some of them in test, with labels and masks."""
    masks = ("inside", "border") if masked else ()
    header = Header(generator="", parameters={}, seed=0, classes=CLASSES, factors=(), mask_names=masks)
    made, sizes = files(n, mode), np.array([SIZES[k % len(SIZES)] for k in range(n)], np.int32)
    with DatasetWriter(path, header=header, compression="gzip", overwrite=True) as writer:
        for split, count in (("train", n), ("test", n // 2)):
            writer.begin(split, count)
            for begin in range(0, count, block):
                rows = slice(begin, min(begin + block, count))
                labels = np.arange(rows.start, rows.stop, dtype=np.int64) % 3
                own = drawn_masks(np.arange(rows.start, rows.stop), crop.side) if masked else None
                shape = (crop.side, crop.side, 3)[: 3 if mode == "RGB" else 2]
                columns = as_columns(labels, {})
                writer.append(EncodedBlock(shape, made[rows], columns, own, sizes[rows], crop))
    return path


def drawn_masks(rows: NDArray[Any], side: int) -> NDArray[np.uint8]:
    return np.stack([np.random.default_rng(row).integers(0, 4, (side, side), dtype=np.uint8) for row in rows])


def by_torchvision(image: Image.Image, crop: CentreCrop) -> NDArray[np.uint8]:
    """Resize(crop.resize) and CenterCrop(crop.side) on a Pillow image, as torchvision 0.29 writes them."""
    width, height = image.size
    short, long = min(width, height), max(width, height)
    sides = crop.resize, int(crop.resize * long / short)
    new_width, new_height = sides if width <= height else sides[::-1]
    image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
    top, left = round((new_height - crop.side) / 2.0), round((new_width - crop.side) / 2.0)
    return np.asarray(image.crop((left, top, left + crop.side, top + crop.side)))


@pytest.mark.parametrize("size", [*SIZES, (375, 500), (500, 333)])
@pytest.mark.parametrize("crop", [CROP, CentreCrop(16, 16), CentreCrop(256, 224)])
def test_the_test_transform_is_torchvisions(size: tuple[int, int], crop: CentreCrop) -> None:
    for mode in ("RGB", "L"):
        image = scene(*size, 0).convert(mode)
        ours = crop.of_image(np.asarray(image))
        theirs = by_torchvision(image, crop)
        assert ours.shape == theirs.shape
        differ = np.abs(ours.astype(int) - theirs)  # a box of numbers that are not whole, twice rounded
        assert differ.max() <= 2
        assert differ.mean() < 0.5


@pytest.mark.parametrize("size", [(375, 500), (500, 333)])
def test_the_test_transform_is_torchs(size: tuple[int, int]) -> None:
    """The same by another implementation: float tensors, antialiased."""
    crop = CentreCrop(64, 56)
    image = np.asarray(scene(*size, 0))
    height, width = (64 if side == min(size) else int(64 * side / min(size)) for side in size)
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    resized = F.interpolate(tensor, (height, width), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    top, left = round((height - 56) / 2), round((width - 56) / 2)
    expected = resized[top : top + 56, left : left + 56]
    assert np.abs(crop.of_image(image) - expected).max() <= 1.5


def test_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probekit.h5.encoded.CHUNK", 1500)
    monkeypatch.setattr("probekit.h5.schema.CHUNK_IMAGES", 16)
    path = photographs(tmp_path / "a.h5")
    train = read_info(path).splits["train"]
    assert (train.n, train.shape, train.encoded, train.masked, train.crop) == (70, (16, 16, 3), True, True, CROP)
    pillow = [Image.open(io.BytesIO(data)).convert("RGB") for data in files(70)]
    whole = read_split(path, "train", masks=True)
    for k, image in enumerate(pillow):
        assert np.abs(whole.images[k].astype(int) - by_torchvision(image, CROP)).max() <= 2
    assert whole.masks is not None
    np.testing.assert_array_equal(whole.masks, drawn_masks(np.arange(70), 16))
    np.testing.assert_array_equal(read_split(path, "train", start=17, stop=61).images, whole.images[17:61])
    few = read_images(path, "train", [40, 3, 69])
    np.testing.assert_array_equal(few.images, whole.images[[40, 3, 69]])
    np.testing.assert_array_equal(few.masks, whole.masks[[40, 3, 69]])
    alone = read_images(path, "train", [40, 3], images=False)
    np.testing.assert_array_equal(alone.masks, whole.masks[[40, 3]])
    with closing(open_encoded(path, "train")) as encoded, ThreadPoolExecutor(8) as pool:
        assert (encoded.shape, encoded.crop) == ((70, 16, 16, 3), CROP)
        for k, found in zip(range(70), pool.map(encoded.photograph, range(70)), strict=True):
            assert encoded.size(k) == found.shape[:2] == SIZES[k % len(SIZES)]
            np.testing.assert_array_equal(found, np.asarray(pillow[k]))  # the same libjpeg, and PNG is exact
        np.testing.assert_array_equal(encoded.image(5), whole.images[5])
        np.testing.assert_array_equal(encoded.sizes([2, 0]), [SIZES[2], SIZES[0]])


def test_bytes_and_hash_depend_on_contents_alone(tmp_path: Path) -> None:
    first, second = (photographs(tmp_path / f"{block}.h5", block=block) for block in (13, 64))
    assert first.read_bytes() == second.read_bytes()
    with h5py.File(first) as file:
        expected = naive_hash(file)
    assert read_info(first).content_hash == expected
    assert verify(first) == read_info(first)
    other = photographs(tmp_path / "other.h5", crop=CentreCrop(18, 16))
    assert read_info(other).content_hash != read_info(first).content_hash  # its images are others


def test_copies(tmp_path: Path) -> None:
    path = photographs(tmp_path / "a.h5")
    before, quiet = read_info(path), lambda done, total: None
    shards = reshard(path, tmp_path / "shards.h5", 3, overwrite=False, progress=quiet)
    assert (shards.content_hash, shards.splits) == (before.content_hash, before.splits)
    with closing(open_encoded(tmp_path / "shards.h5", "train")) as encoded:
        np.testing.assert_array_equal(encoded.sizes(range(70)), [SIZES[k % len(SIZES)] for k in range(70)])
    joined = reshard(tmp_path / "shards.h5", tmp_path / "b.h5", 1, overwrite=False, progress=quiet)
    assert joined.path.read_bytes() == path.read_bytes()
    division = Division(val_fraction=0.3)
    how: dict[str, Any] = {"runs": tmp_path, "overwrite": False, "say": lambda line: None, "progress": quiet}
    split = divide(path, tmp_path / "c.h5", division, **how)
    assert split.splits["val"].crop == CROP
    verify(split.path)
    whole, val = read_split(path, "train", masks=True), read_split(split.path, "val", masks=True)
    assert whole.masks is not None
    assert val.masks is not None
    rows = [int(np.flatnonzero((whole.masks == mask).all((1, 2)))[0]) for mask in val.masks]  # masks are all different
    np.testing.assert_array_equal(val.images, whole.images[rows])
    np.testing.assert_array_equal(val.labels, whole.labels[rows])  # type: ignore[index]


def test_show(tmp_path: Path) -> None:
    path = photographs(tmp_path / "a.h5", 12)
    text = "\n".join(str(cell) for column in render_description(describe(path)).columns for cell in column.cells)
    assert "12 photographs RGB, each of its own size, read as 16x16 (test crop 20:16)" in text
    assert draw_grid(path, tmp_path / "a.png").exists()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_them(orientation: int) -> None:
    image = scene(24, 40, 1)
    exif = Image.Exif()
    exif[274] = orientation
    data = saved(image, quality=95, exif=exif)
    from PIL import ImageOps

    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    size = (upright.shape[0], upright.shape[1])
    np.testing.assert_array_equal(decode_photograph(data, size, 3), upright)
    assert decode_photograph(data, size, 3, reduced=4).shape[:2] == (-(-size[0] // 4), -(-size[1] // 4))


def test_grey_among_colours() -> None:
    grey = saved(scene(30, 40, 2).convert("L"))
    found = decode_photograph(grey, (30, 40), 3)
    np.testing.assert_array_equal(found, np.repeat(np.asarray(Image.open(io.BytesIO(grey)))[..., None], 3, axis=2))
    assert decode_photograph(grey, (30, 40), 1).shape == (30, 40)


def test_reduced_is_about_the_mean_of_its_pixels() -> None:
    data = saved(scene(64, 96, 3), quality=95)
    whole = decode_photograph(data, (64, 96), 3).astype(float)
    half = decode_photograph(data, (64, 96), 3, reduced=2)
    assert np.abs(half - whole.reshape(32, 2, 48, 2, 3).mean((1, 3))).mean() < 1
    png = saved(scene(64, 96, 3), "PNG")
    assert decode_photograph(png, (64, 96), 3, reduced=2).shape == (64, 96, 3)


def cut_in_half(file: h5py.File) -> None:
    ends = file["train/encoded/offsets"][:]
    file["train/encoded/bytes"][ends[0] + 60 : ends[1]] = 0


DAMAGE: dict[str, tuple[Callable[[h5py.File], Any], str]] = {
    "another size": (lambda file: file["train/encoded/sizes"].__setitem__((0, 0), 41), "photograph of 60x41"),
    "no size": (lambda file: file["train/encoded/sizes"].__setitem__((0, 0), 0), "height and width"),
    "sizes missing": (lambda file: file["train/encoded"].__delitem__("sizes"), "sizes"),
    "half a JPEG": (cut_in_half, "photograph of 60x40"),
    "a crop larger than the image": (lambda file: file["train/encoded"].attrs.__setitem__("resize", 8), "test crop"),
    "two crops": (lambda file: file["train/encoded"].attrs.__setitem__("resize", 19), "one test crop"),
    "of one size": (lambda file: file["train/encoded"].attrs.__setitem__("format", "jpeg"), "one test crop"),
    "no square": (lambda file: file["train/encoded"].attrs.__setitem__("width", 20), "square"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_malformed_file_is_one_line(tmp_path: Path, kind: str) -> None:
    path = photographs(tmp_path / "a.h5", 6, masked=False)
    act, word = DAMAGE[kind]
    with edited(path) as file:
        act(file)
    assert_one_line(lambda: read_split(path, "train"), "a.h5", word)


def test_sizes_are_sealed(tmp_path: Path) -> None:
    path = photographs(tmp_path / "a.h5", 6, masked=False)
    with h5py.File(path, "r+") as file:
        file["train/encoded/sizes"][0, 0] = 41
    assert_one_line(lambda: read_info(path), "a.h5", "seal")


@pytest.mark.parametrize("text", ["", "256", "224:256", "256:0", "a:b", "256:224:1", "9999:1"])
def test_bad_crops_are_one_line(text: str) -> None:
    assert_one_line(lambda: CentreCrop.parse(text), "test crop", "--test-crop 256:224")


def test_a_crop_by_its_side() -> None:
    assert CentreCrop.of(224) == CentreCrop.parse("256:224")
