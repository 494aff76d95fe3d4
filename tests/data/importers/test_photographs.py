"""Photographs imported as files: which bytes stay, which are made anew, and what is read of them.

Alone: pytest tests/data/importers/test_photographs.py
"""

import io
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from probekit.data.importers import Import, Options, Told
from probekit.data.importers.official.base import Choices
from probekit.h5 import CentreCrop, open_encoded, read_info, read_split, verify
from tests.data.importers import in_folders
from tests.data.importers.test_official import refused, run
from tests.h5.test_photographs import saved, scene

CROP = CentreCrop(18, 16)
SHORT = 32


def sixteen_bits(image: Image.Image) -> bytes:
    done, data = cv2.imencode(".png", np.asarray(image.convert("L")).astype(np.uint16) * 257)
    assert done
    return data.tobytes()


def turned(image: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return saved(image, exif=exif)


SMALL, LARGE = scene(30, 50, 0), scene(64, 96, 1)
PHOTOGRAPHS: dict[str, bytes] = {
    "a/colour.jpg": saved(SMALL),
    "a/grey.jpg": saved(SMALL.convert("L")),
    "a/turned.jpg": turned(scene(30, 50, 2), 6),
    "a/pixel.png": saved(scene(1, 1, 3), "PNG"),
    "b/colour.png": saved(scene(20, 30, 4), "PNG"),
    "b/grey.png": saved(scene(20, 31, 5).convert("L"), "PNG"),
    "b/just.jpg": saved(scene(SHORT, 40, 6)),
}
# Those that are no JPEG or PNG that a reader takes as it is, and those that are too large.
CHANGED: dict[str, bytes] = {
    "a/palette.png": saved(scene(20, 30, 7).quantize(16), "PNG"),
    "a/clear.png": saved(scene(20, 30, 8).convert("RGBA"), "PNG"),
    "b/plain.bmp": saved(scene(20, 30, 9), "BMP"),
    "b/large.jpg": saved(LARGE),
    "b/large.png": saved(scene(40, 33, 10), "PNG"),
    "b/large_turned.jpg": turned(scene(60, 90, 11), 8),
}


def folder(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def take(source: Path, out: Path, *, store: str = f"short:{SHORT}", skip: bool = False, **changes: Any) -> list[str]:
    lines: list[str] = []
    options = Options(store=store, test_crop=str(CROP), **changes)
    told = Told(lambda done, total: None, lines.append)
    work = Import(options, out, skip_broken=skip, overwrite=True, compression="gzip", told=told)
    work.of(source)
    return lines


def kept(path: Path, split: str = "train") -> tuple[list[bytes], list[NDArray[np.uint8]]]:
    with closing(open_encoded(path, split)) as encoded:
        rows = range(len(encoded))
        return encoded.read(rows), [encoded.photograph(row) for row in rows]


def test_bytes_stay_where_no_pixel_changes(tmp_path: Path) -> None:
    source = folder(tmp_path / "set", PHOTOGRAPHS)
    take(source, tmp_path / "a.h5")
    data, images = kept(tmp_path / "a.h5")
    assert data == [PHOTOGRAPHS[name] for name in sorted(PHOTOGRAPHS)]
    for content, image in zip(data, images, strict=True):
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
        np.testing.assert_array_equal(image, np.asarray(expected))
    info = verify(tmp_path / "a.h5")
    assert (info.first.shape, info.first.crop, info.classes) == ((16, 16, 3), CROP, ("a", "b"))
    assert info.parameters | {"store": "short:32", "test_crop": "18:16", "size": 16} == info.parameters


def test_what_is_changed_is_made_anew(tmp_path: Path) -> None:
    take(folder(tmp_path / "set", CHANGED), tmp_path / "a.h5")
    data, images = kept(tmp_path / "a.h5")
    found = dict(zip(sorted(CHANGED), zip(data, images, strict=True), strict=True))
    for name in ("a/palette.png", "a/clear.png", "b/plain.bmp"):  # as PNG, no pixel lost
        content, image = found[name]
        assert content.startswith(b"\x89PNG")
        np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(CHANGED[name])).convert("RGB")))
    for name, size in (("b/large.jpg", (32, 48)), ("b/large.png", (39, 32)), ("b/large_turned.jpg", (48, 32))):
        content, image = found[name]
        assert content.startswith(b"\xff\xd8")
        assert image.shape[:2] == size
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(CHANGED[name]))).convert("RGB")
        expected = np.asarray(upright.resize(size[::-1], Image.Resampling.BOX)).astype(int)
        assert np.abs(image - expected).mean() < 5


def test_originals_are_never_shrunk(tmp_path: Path) -> None:
    source = folder(tmp_path / "set", {name: CHANGED[name] for name in ("b/large.jpg", "b/large.png")})
    take(source, tmp_path / "a.h5", store="original")
    assert kept(tmp_path / "a.h5")[0] == [CHANGED["b/large.jpg"], CHANGED["b/large.png"]]


def test_grey_sets_stay_grey(tmp_path: Path) -> None:
    grey = {"a/one.jpg": PHOTOGRAPHS["a/grey.jpg"], "b/two.png": PHOTOGRAPHS["b/grey.png"]}
    of_three = saved(scene(20, 20, 1).convert("L").convert("RGB"), "PNG")  # three channels, all alike
    take(folder(tmp_path / "set", grey | {"b/three.png": of_three}), tmp_path / "a.h5")
    data, images = kept(tmp_path / "a.h5")
    assert read_info(tmp_path / "a.h5").first.channels == 1
    assert [data[0], data[2]] == list(grey.values())
    np.testing.assert_array_equal(images[1], np.asarray(scene(20, 20, 1).convert("L")))


def test_more_bits_and_other_black(tmp_path: Path) -> None:
    image = scene(20, 30, 2)
    take(folder(tmp_path / "deep", {"a/a.png": sixteen_bits(image)}), tmp_path / "a.h5")
    np.testing.assert_array_equal(kept(tmp_path / "a.h5")[1][0], np.asarray(image.convert("L")))
    source = folder(tmp_path / "dark", {"a/a.png": saved(image.convert("L").point(lambda v: v // 16), "PNG")})
    take(source, tmp_path / "b.h5", bits=4)
    expected = np.asarray(image.convert("L")).astype(int) // 16 * 17
    np.testing.assert_array_equal(kept(tmp_path / "b.h5")[1][0], expected)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff and no more", saved(LARGE)[:300], b"\x89PNG\r\n\x1a\n"])
def test_damaged_ones_are_refused_or_left_out(tmp_path: Path, content: bytes) -> None:
    source = folder(tmp_path / "set", {"a/broken.jpg": content, "a/good.jpg": saved(SMALL)})
    with pytest.raises(ValueError, match=r"1 broken image.*broken\.jpg"):
        take(source, tmp_path / "a.h5")
    take(source, tmp_path / "a.h5", skip=True)
    assert kept(tmp_path / "a.h5")[0] == [saved(SMALL)]


def test_a_banner_is_cut_off(tmp_path: Path) -> None:
    from probekit.data.importers.official.fine_grained import BANNER
    from tests.data.importers.layouts import LAYOUTS

    official, make = LAYOUTS["fgvc-aircraft"]
    plan = make(tmp_path / "set")
    done = run(official, plan.root, "--subset", "--skip-broken", "--out", tmp_path / "a.h5", "--store", "original")
    assert done.exit_code == 0, done.output
    whole = Image.open(plan.root / "data" / "images" / "0034309.jpg").convert("RGB")
    [image, *_] = kept(tmp_path / "a.h5")[1]
    np.testing.assert_array_equal(image, np.asarray(whole)[:-BANNER])


def test_masks_are_those_of_the_test_crop(tmp_path: Path) -> None:
    plan = in_folders.oxford_pets(tmp_path / "set")
    typed = ("oxford-pets", plan.root, "--subset", "--skip-broken", "--test-crop", CROP, "--out", tmp_path / "a.h5")
    assert run(*typed).exit_code == 0
    info = read_info(tmp_path / "a.h5")
    assert (info.mask_names, info.first.crop, info.parameters["store"]) == (("pet", "border"), CROP, "short:512")
    masks = read_split(info.path, "train", masks=True).masks
    assert masks is not None
    # Of 30 rows the upper 15 are the animal, and two its outline; they become 18, of which the first is not taken.
    for mask in masks:
        assert ((mask & 1)[:8] == 1).all()
        assert (mask[8] == 2).all()
        assert not mask[9:].any()


def test_an_interrupted_import_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probekit.data.importers.importer.IN_A_SHARD", 3)
    monkeypatch.setattr("probekit.data.importers.stream.FILES", 2)
    source = folder(tmp_path / "set", {f"{split}/{k % 2}/{k}.jpg": saved(scene(20 + k, 40 - k, k)) for k in range(6)
                                       for split in ("train", "test")})  # fmt: skip

    def run_until(out: Path, after: int) -> list[str]:
        def stop(done: int, total: int) -> None:
            if done >= after:
                raise KeyboardInterrupt

        lines: list[str] = []
        options = Options(store=f"short:{SHORT}", test_crop=str(CROP))
        told = Told(stop, lines.append)
        Import(options, out, skip_broken=False, overwrite=True, compression="none", told=told).of(source)
        return lines

    assert "6 of 6 test images have a near-duplicate in train" in " ".join(run_until(tmp_path / "whole.h5", 99))
    for after in (4, 7):
        with pytest.raises(KeyboardInterrupt):
            run_until(tmp_path / "a.h5", after)
    assert "going on after" in run_until(tmp_path / "a.h5", 99)[0]
    for path in (tmp_path / "whole.h5").iterdir():
        assert (tmp_path / "a.h5" / path.name).read_bytes() == path.read_bytes()


def test_large_files_make_small_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(tmp_path / "set", PHOTOGRAPHS | CHANGED)
    take(source, tmp_path / "a.h5")
    monkeypatch.setattr("probekit.data.importers.stream.FILE_BYTES", 1)
    take(source, tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (("--store", "short"), "type --store short:512"),
        (("--store", "short:0"), "N from 1 to 4096"),
        (("--test-crop", "256:224"), "found no --store; type --store short:512"),
        (("--store", "pixels", "--test-crop", "256:224"), "found pixels"),
        (("--store", "original", "--test-crop", "224:256"), "no larger than what it is cut from"),
        (("--store", "original", "--test-crop", "256:224", "--size", "224"), "leave one out"),
        (("--store", "original", "--resize", "squash"), "type --store pixels"),
        (("--store", "short:512", "--max-gb", "1"), "type --store pixels"),
    ],
)
def test_what_does_not_go_together_is_one_line(tmp_path: Path, typed: tuple[str, ...], said: str) -> None:
    source = folder(tmp_path / "set", {"a/a.jpg": saved(SMALL)})
    assert said in refused(source, *typed, "--out", tmp_path / "a.h5")


def test_the_side_alone_says_the_crop() -> None:
    found = Options(store="original", size=64).kept
    assert found is not None
    assert found.crop == CentreCrop(73, 64)
    assert Options(size=64).kept is None
    assert Choices().size is None
