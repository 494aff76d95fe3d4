"""What is black and white: seen from the whole set, or asked for, never guessed; and what an image file may be.

Alone: pytest tests/data/importers/test_pixels.py
"""

import json
import os
import re
import struct
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from probekit.cli import app
from probekit.data.importers import Broken, Import, Options, Told
from probekit.data.importers.images import decode_file
from probekit.data.importers.pixels import parse_range
from probekit.data.importers.unfinished import is_unfinished
from probekit.h5 import read_split


def planted(root: Path, images: list[NDArray[Any]], kind: str = "tiff") -> Path:
    """A folder of images, each written with its own type of numbers."""
    root.mkdir()
    for index, image in enumerate(images):
        path = root / f"{index:02}.{kind}"
        if kind == "tiff":
            tifffile.imwrite(path, image)
        else:
            assert cv2.imwrite(str(path), image[..., ::-1] if image.ndim == 3 else image)
    return root


def take(source: Path, **options: Any) -> tuple[NDArray[np.uint8], dict[str, Any], list[str]]:
    """Pixels, the file's settings and what was said."""
    lines: list[str] = []
    info, _ = Import(
        Options(**options),
        out=source.with_name("a.h5"),
        skip_broken=False,
        overwrite=True,
        compression="none",
        told=Told(lambda done, total: None, lines.append),
    ).of(source)
    return read_split(info.path, "train").images, info.parameters, lines


def ramp(low: float, high: float, dtype: Any, shape: tuple[int, ...] = (10, 20)) -> NDArray[Any]:
    values = np.linspace(low, high, int(np.prod(shape)))
    return (np.rint(values) if np.issubdtype(dtype, np.integer) else values).astype(dtype).reshape(shape)


# type, least and largest value of the darkest and of the brightest image: the values that become 0 and 255
WHOLE: dict[str, tuple[Any, float, float, float]] = {
    "8 bits": (np.uint8, 100, 250, 255),
    "8 bits, rather dark": (np.uint8, 10, 32, 255),
    "16 bits": (np.uint16, 1000, 65535, 65535),
    "16 bits, not quite": (np.uint16, 1000, 33000, 65535),
    "floats to 1": (np.float32, 0.2, 1.0, 1.0),
    "floats to 0.6, of 64 bits": (np.float64, 0.2, 0.6, 1.0),
}


@pytest.mark.parametrize("case", WHOLE)
def test_a_range_that_the_set_makes_use_of_is_taken(tmp_path: Path, case: str) -> None:
    """One image alone would leave it open: the range is that of the whole set."""
    dtype, dark, bright, white = WHOLE[case]
    images = [ramp(0, dark, dtype), ramp(0, bright, dtype), ramp(0, dark / 2, dtype)]
    pixels, parameters, lines = take(planted(tmp_path / "set", images))
    np.testing.assert_array_equal(pixels, np.rint(np.stack(images).astype(float) / white * 255))
    assert parameters.get("pixels") == (None if dtype is np.uint8 else {np.dtype(dtype).name: [0, white]})
    assert bool(lines) == (dtype is not np.uint8)


# type, least, largest, words, and what the first option that the line names makes of it: value of black, of white
LEFT_OPEN: dict[str, tuple[Any, float, float, str, float, float]] = {
    "8 bits, dark": (np.uint8, 0, 15, "--bits 4", 0, 15),
    "10 bits in 16": (np.uint16, 0, 900, "--bits 10", 0, 1023),
    "12 bits in 16": (np.uint16, 0, 4095, "--bits 12", 0, 4095),
    "14 bits in 16": (np.uint16, 7, 16000, "--bits 14", 0, 16383),
    "8 bits in 16": (np.uint16, 0, 250, "--bits 8", 0, 255),
    "floats to 255": (np.float32, 0, 255, "--range 0,255", 0, 255),
    "floats to 200": (np.float32, 0, 200, "--range 0,255", 0, 255),
    "floats below 0": (np.float32, -1, 1, "--range -1,1", -1, 1),
    "floats above 255": (np.float64, 0, 300, "--range 0,300", 0, 300),
    "dark floats": (np.float32, 0, 0.25, "--range 0,0.25", 0, 0.25),
    "signed": (np.int16, -1000, 3000, "--range -1000,3000", -1000, 3000),
    "32 bits": (np.int32, 0, 255, "--range 0,255", 0, 255),
}


@pytest.mark.parametrize("case", LEFT_OPEN)
def test_a_range_that_is_left_open_is_asked_for(tmp_path: Path, case: str) -> None:
    dtype, low, high, hint, black, white = LEFT_OPEN[case]
    images = [ramp(low, high, dtype), ramp(low, (low + high) / 2, dtype)]
    root = planted(tmp_path / "set", images)
    with pytest.raises(
        ValueError, match=rf"found {low:g} to {high:g} in all images .*'00.tiff'\); type {hint}\b"
    ) as caught:
        take(root)
    assert not list(tmp_path.glob("*.h5"))
    assert "\n" not in str(caught.value)
    option, value = hint.removeprefix("--").split(" ")
    pixels, parameters, lines = take(root, **{option: int(value) if option == "bits" else parse_range(value)})
    expected = np.rint((np.stack(images).astype(float) - black) * 255 / (white - black))
    np.testing.assert_array_equal(pixels, expected)
    assert parameters["pixels"] == {np.dtype(dtype).name: [black, white]}
    assert lines == [
        f"{np.dtype(dtype).name} pixels from {low:g} to {high:g}: {black:g} and less becomes black, "
        f"{white:g} and more white"
    ]


def test_12_bits_may_be_taken_for_16(tmp_path: Path) -> None:
    image = ramp(0, 4095, np.uint16)
    pixels, parameters, _ = take(planted(tmp_path / "set", [image], "png"), bits=16)
    np.testing.assert_array_equal(pixels[0], np.rint(image / 65535 * 255))
    assert parameters["pixels"] == {"uint16": [0, 65535]}


def test_a_typed_range_is_a_window(tmp_path: Path) -> None:
    image = ramp(-1000, 3000, np.int16)
    pixels, _, lines = take(planted(tmp_path / "set", [image]), range=(-100.0, 400.0))
    np.testing.assert_array_equal(pixels[0], np.rint((image.clip(-100, 400) + 100.0) * 255 / 500))
    assert "from -1000 to 3000: -100 and less becomes black, 400 and more white" in lines[0]


def test_deep_images_among_others_are_seen_wherever_they_are(tmp_path: Path) -> None:
    """The first is of 8 bits, so the pass has begun when the others come; colour comes later still."""
    images = [ramp(0, 255, np.uint8)] * 70 + [ramp(0, 4095, np.uint16), ramp(0, 255, np.uint8, (10, 20, 3))]
    root = planted(tmp_path / "set", images, "png")
    with pytest.raises(ValueError, match=r"found 0 to 4095 in all images .*70.png.*type --bits 12"):
        take(root)
    pixels, parameters, _ = take(root, bits=12)
    np.testing.assert_array_equal(pixels[70, ..., 0], np.rint(images[70] / 4095 * 255))
    np.testing.assert_array_equal(pixels[3, ..., 1], images[0])
    np.testing.assert_array_equal(pixels[71], images[71])
    assert parameters["pixels"] == {"uint16": [0, 4095]}


def test_all_deep_images_are_seen_though_others_come_between(tmp_path: Path) -> None:
    images = [ramp(0, 4095, np.uint16), ramp(0, 255, np.uint8), ramp(0, 65535, np.uint16)]
    pixels, parameters, _ = take(planted(tmp_path / "set", images, "png"))
    np.testing.assert_array_equal(pixels[0], np.rint(images[0] / 65535 * 255))
    assert parameters["pixels"] == {"uint16": [0, 65535]}


def test_an_interrupted_import_of_deep_images_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [ramp(0, 255, np.uint8)] * 70 + [ramp(0, 65535, np.uint16)] * 70
    root = planted(tmp_path / "set", images, "png")
    whole, _, _ = take(root)
    lines: list[str] = []
    monkeypatch.setattr("probekit.data.importers.importer.IN_A_SHARD", 40)

    def stop(done: int, total: int) -> None:
        if is_unfinished(out) and done >= 100:
            raise KeyboardInterrupt

    out = tmp_path / "b.h5"
    options = {"out": out, "skip_broken": False, "overwrite": False, "compression": "none"}
    with pytest.raises(KeyboardInterrupt):
        Import(Options(), told=Told(stop), **options).of(root)  # type: ignore[arg-type]
    Import(Options(), told=Told(lambda done, total: None, lines.append), **options).of(root)  # type: ignore[arg-type]
    assert any("going on after" in line for line in lines)
    np.testing.assert_array_equal(read_split(out, "train").images, whole)


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "more bits than typed": (np.uint16, {"bits": 8}, r"from 0 to 255, found 4095 .*type --bits 12"),
    "bits of floats": (np.float32, {"bits": 12}, r"whole numbers with --bits, found float32 .*type --range 0,4095"),
    "bits that 8 have not": (np.uint8, {"bits": 12}, r"more than 8 bits with --bits 12, found none"),
    "both": (np.uint16, {"bits": 12, "range": (0.0, 1.0)}, "--bits or --range"),
    "no bits": (np.uint16, {"bits": 0}, r"1 to 16 bits, found 0; type --bits 12"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_claim_is_refused(tmp_path: Path, case: str) -> None:
    dtype, options, line = WRONG[case]
    root = planted(tmp_path / "set", [ramp(0, 200 if dtype is np.uint8 else 4095, dtype)])
    with pytest.raises(ValueError, match=line):
        take(root, **options)


@pytest.mark.parametrize("text", ["", "1", "a,b", "1,1", "5,1", "nan,1", "0,inf", "1,2,3", "-1e400,1"])
def test_a_range_is_two_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="type --range 0,255"):
        parse_range(text)


# --- the same for arrays, and for the command ---


@pytest.mark.parametrize(
    ("dtype", "high", "option"), [(np.uint16, 4095, "--bits 12"), (np.int64, 255, "--range 0,255")]
)
def test_arrays_are_asked_about_too(tmp_path: Path, dtype: Any, high: int, option: str) -> None:
    x, y = ramp(0, high, dtype, (6, 8, 9)), np.arange(6) % 2
    source = tmp_path / "a.npz"
    np.savez(source, x_train=x, y_train=y, x_test=x, y_test=y, x_val=x[:4], y_val=y[:4], notes=y)
    done = CliRunner().invoke(app, ["import", str(source), "--out", str(tmp_path / "a.h5")])
    assert re.search(rf"type {option}\b", str(done.exception))
    done = CliRunner().invoke(app, ["import", str(source), "--out", str(tmp_path / "a.h5"), *option.split(" ")])
    assert done.exit_code == 0, done.exception
    assert "skipped notes: not one of x_train" in done.output
    assert "6 train, 4 val, 6 test" in done.output
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["train/images"], np.rint(x / high * 255))
        assert json.loads(file.attrs["parameters"])["pixels"] == {np.dtype(dtype).name: [0, high]}


def test_a_negative_range_can_be_typed(tmp_path: Path) -> None:
    image = ramp(-1000, 3000, np.int16)
    root = planted(tmp_path / "set", [image])
    typed = ["import", str(root), "--out", str(tmp_path / "a.h5"), "--range", "-1000,3000"]
    assert CliRunner().invoke(app, typed).exit_code == 0
    np.testing.assert_array_equal(
        read_split(tmp_path / "a.h5", "train").images[0], np.rint((image + 1000.0) * 255 / 4000)
    )


# --- one file, one image ---


@pytest.mark.parametrize("kind", ["tiff", "gif", "png", "webp", "avif"])
@pytest.mark.parametrize("pages", [1, 2, 3])
def test_many_pages_are_refused(tmp_path: Path, kind: str, pages: int) -> None:
    first, *others = (Image.fromarray(np.full((16, 16), value, np.uint8)) for value in (50, 150, 250)[:pages])
    more: dict[str, Any] = {"save_all": True, "append_images": others} if others else {}
    first.save(tmp_path / f"a.{kind}", **more)
    if pages == 1:
        assert decode_file(tmp_path / f"a.{kind}").shape[:2] == (16, 16)
    else:
        with pytest.raises(Broken, match="several pages in one file"):
            decode_file(tmp_path / f"a.{kind}")


def test_a_tiff_of_many_pages_whose_second_is_no_image_for_opencv(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tiff", bigtiff=True) as file:
        file.write(np.zeros((16, 16), np.uint8))
        file.write(np.zeros((16, 16), np.complex128))
    with pytest.raises(Broken, match="several pages"):
        decode_file(tmp_path / "a.tiff")


@pytest.mark.parametrize("alpha", [65535, 0])
def test_transparency_in_16_bits_is_opaque_or_refused(tmp_path: Path, alpha: int) -> None:
    image = np.dstack([*[ramp(0, 4095, np.uint16)] * 3, np.full((10, 20), 65535, np.uint16)])
    image[3, 4, 3] = alpha
    assert cv2.imwrite(str(tmp_path / "a.png"), image)
    if alpha:
        np.testing.assert_array_equal(decode_file(tmp_path / "a.png"), image[..., :3])
    else:
        with pytest.raises(Broken, match="transparent pixels in more than 8 bits"):
            decode_file(tmp_path / "a.png")


def test_transparency_of_grey_is_shown_or_refused(tmp_path: Path) -> None:
    grey, alpha = ramp(0, 255, np.uint8), ramp(255, 0, np.uint8)
    Image.fromarray(np.dstack([grey, alpha])).save(tmp_path / "a.png")
    shown = grey.astype(float) * (alpha / 255) + 255 * (1 - alpha / 255)
    assert np.abs(decode_file(tmp_path / "a.png") - np.dstack([shown] * 3)).max() <= 1
    Image.fromarray(np.dstack([grey, alpha])).save(tmp_path / "a.tiff")
    Image.fromarray(grey).save(tmp_path / "b.png", transparency=7)
    for name in ("a.tiff", "b.png"):
        with pytest.raises(Broken, match="grey with transparency"):
            decode_file(tmp_path / name)


def test_only_regular_files_of_sane_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with (tmp_path / "holes.png").open("wb") as file:
        file.truncate(40 << 30)
    (tmp_path / "gone.png").symlink_to("nowhere")
    for name, reason in {
        "pipe": "a regular file",
        "holes": "at most 1 GiB, found 40.0",
        "gone": "No such file",
    }.items():
        with pytest.raises(Broken, match=reason):
            decode_file(tmp_path / f"{name}.png")


@pytest.mark.parametrize(
    ("pixels", "options", "reason"),
    [
        (ramp(0, 60000, np.uint16), {"photometric": "miniswhite"}, "white is 0"),
        (ramp(0, 1, np.float32), {"photometric": "miniswhite"}, "white is 0"),
        (ramp(0, 255, np.uint8, (10, 20, 3)), {"photometric": "minisblack", "planarconfig": "contig"}, "3 channels"),
        (ramp(0, 255, np.uint8, (4, 16, 16)), {"photometric": "minisblack", "planarconfig": "separate"}, "4 channels"),
        (
            ramp(0, 60000, np.uint16, (3, 10, 20)),
            {"photometric": "rgb", "planarconfig": "separate"},
            "a plane for each",
        ),
        (ramp(0, 1, np.float32, (3, 10, 20)), {"photometric": "rgb", "planarconfig": "separate"}, "a plane for each"),
        (ramp(0, 255, np.uint8, (10, 20, 4)), {"photometric": "rgb", "extrasamples": ["unspecified"]}, "a fourth"),
    ],
)
def test_what_opencv_would_pass_over_in_a_tiff(
    tmp_path: Path, pixels: NDArray[Any], options: dict[str, Any], reason: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tiff", pixels, **options)
    with pytest.raises(Broken, match=reason):
        decode_file(tmp_path / "a.tiff")


def test_a_fourth_channel_of_which_a_tiff_says_nothing_is_refused(tmp_path: Path) -> None:
    """Without the tag ExtraSamples, number 338; libtiff takes the channel for transparency."""
    pixels = np.full((10, 20, 4), 100, np.uint8)
    tifffile.imwrite(tmp_path / "a.tiff", pixels, photometric="rgb", extrasamples=["unassalpha"], byteorder="<")
    written = (tmp_path / "a.tiff").read_bytes()
    tag, other = (struct.pack("<HHI", number, 3, 1) for number in (338, 65000))
    assert written.count(tag) == 1
    (tmp_path / "a.tiff").write_bytes(written.replace(tag, other))
    with pytest.raises(Broken, match="a fourth channel that is not said to be transparency"):
        decode_file(tmp_path / "a.tiff")


def test_a_tiff_of_8_bits_where_white_is_0_is_turned(tmp_path: Path) -> None:
    grey = ramp(0, 200, np.uint8)
    tifffile.imwrite(tmp_path / "a.tiff", grey, photometric="miniswhite")
    np.testing.assert_array_equal(decode_file(tmp_path / "a.tiff"), 255 - grey)


def test_a_tiff_of_8_bits_may_have_a_plane_for_each_colour(tmp_path: Path) -> None:
    planes = ramp(0, 255, np.uint8, (3, 10, 20))
    tifffile.imwrite(tmp_path / "a.tiff", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(decode_file(tmp_path / "a.tiff")[..., ::-1], np.moveaxis(planes, 0, 2))


@pytest.mark.parametrize("white", [1, 15, 100, 255, 1000, 4095, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_a_pnm_file_says_what_is_white(tmp_path: Path, white: int, kind: str) -> None:
    grey, most = ramp(0, white, np.uint16), 65535 if white > 255 else 255
    values = np.dstack([grey, white - grey, grey]) if kind in ("P3", "P6") else grey
    text = " ".join(map(str, values.ravel())).encode() + b"\n"
    body = text if kind in ("P2", "P3") else values.astype(">u2" if white > 255 else "u1").tobytes()
    (tmp_path / "a.pnm").write_bytes(f"{kind} # of 3 cameras\n20 10\n{white}\n".encode() + body)
    image = decode_file(tmp_path / "a.pnm")
    image = image[..., ::-1] if image.ndim == 3 else image
    by_opencv = values.astype(np.int64) * most // white  # it rounds down
    by_us = np.rint(values * (most / white))
    np.testing.assert_array_equal(image, by_opencv if kind in ("P2", "P3") and white < 256 else by_us)


def test_arrays_that_do_not_fit_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = ramp(0, 255, np.uint8, (6, 80, 90)), np.arange(6) % 2
    np.savez_compressed(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    monkeypatch.setattr("probekit.data.importers.npz.host_memory", lambda: 80_000)
    with pytest.raises(ValueError, match=r"fit in 0\.0 GB of memory, found 0\.0 GB"):
        take(tmp_path / "a.npz")
