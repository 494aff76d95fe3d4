"""npz files and image folders become dataset files; pixels are held against Pillow, and whatever is wrong is one line.

Alone: pytest tests/data/importers/test_importers.py
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from generators import GENERATORS
from probekit.data.importers import Broken, Import, Options, Skipped, Told
from probekit.data.importers.images import decode_file, to_square
from probekit.h5 import DatasetInfo, read_info, read_split

PUBLISHED = Path(__file__).parents[4] / "shared" / "data"
FUZZ = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


def take(source: Path, out: Path, **options: Any) -> tuple[DatasetInfo, list[Skipped]]:
    how: dict[str, Any] = {"skip_broken": False, "overwrite": False, "compression": "gzip"}
    how |= {name: options.pop(name) for name in list(options) if name in how}
    return Import(Options(**options), out=out, told=Told(lambda done, total: None), **how).of(source)


def assert_refused(source: Path, out: Path, *words: str, **options: Any) -> None:
    with pytest.raises((ValueError, OSError)) as caught:
        take(source, out, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert all(word in text for word in words), text
    assert not out.exists()
    assert not list(out.parent.glob(".*.partial"))


def decode_rgb(path: Path) -> NDArray[np.uint8]:
    image = decode_file(path)
    return image if image.ndim == 2 else image[..., ::-1]


def noise(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def picture(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


# --- npz ---


def arrays(**changes: Any) -> dict[str, Any]:
    content = {
        "x_train": noise((90, 10, 12, 1)),
        "y_train": np.arange(90) % 3,
        "x_test": noise((30, 10, 12, 1), 1),
        "y_test": np.arange(30) % 3,
    }
    return {name: value for name, value in (content | changes).items() if value is not None}


def save(path: Path, content: dict[str, Any]) -> Path:
    np.savez(path, **content)
    return path


@pytest.mark.parametrize("shape", [(90, 10, 12), (90, 10, 12, 1), (90, 10, 12, 3)])
def test_an_npz_keeps_its_pixels_labels_and_order(tmp_path: Path, shape: tuple[int, ...]) -> None:
    content = arrays(x_train=noise(shape), x_test=noise((30, *shape[1:])), y_train=np.arange(90, dtype=np.uint8) % 3)
    info, skipped = take(save(tmp_path / "a.npz", content), tmp_path / "a.h5")
    assert skipped == []
    assert info.classes == ("0", "1", "2")
    assert info.parameters["source"] == "a.npz"
    assert (info.generator, list(info.splits)) == ("", ["train", "test"])
    for name in ("train", "test"):
        split = read_split(info.path, name)
        np.testing.assert_array_equal(split.images, content[f"x_{name}"].squeeze())
        np.testing.assert_array_equal(split.labels, content[f"y_{name}"])


@pytest.mark.parametrize("shape", [(5, 16, 16, 3), (5, 16, 16, 1)])
def test_grey_pixels_of_an_array_of_all_are_taken_from_their_channel(
    tmp_path: Path, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some versions of NumPy read arrays that own their memory; images that keep their size are views of them."""
    x, y = np.repeat(noise(shape[:3])[..., None], shape[3], axis=3), np.array([0, 1, 0, 1, 0])
    arrays = {"x_train": x, "y_train": y, "x_test": x.copy(), "y_test": y}
    save(tmp_path / "a.npz", arrays)
    monkeypatch.setattr("probekit.data.importers.npz._load", lambda source: (arrays, []))
    take(tmp_path / "a.npz", tmp_path / "a.h5")
    np.testing.assert_array_equal(read_split(tmp_path / "a.h5", "train").images, x[..., 0])


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs the published sets in ../shared/data")
@pytest.mark.parametrize(
    ("name", "n", "n_test", "classes"), [("circle-square", 600, 399, 3), ("rectangle-triangle", 1000, 500, 4)]
)
def test_the_published_sets(tmp_path: Path, name: str, n: int, n_test: int, classes: int) -> None:
    info, _ = take(PUBLISHED / f"{name}.npz", tmp_path / "a.h5")
    assert (info.splits["train"].n, info.splits["test"].n, len(info.classes)) == (n, n_test, classes)
    generator = GENERATORS["rect-tri" if classes == 4 else "circ-sq"]
    assert info.classes == generator.classes
    if classes == 4:
        split = read_split(info.path, "test")
        assert split.labels is not None
        named = [f"{c}-{t}" for c in ("round", "sharp") for t in ("equilateral", "right")]
        values = {f["name"]: np.array(f["values"]) for f in info.factors}
        for row in range(len(split.labels)):
            words = [values[factor][split.factors[factor][row]] for factor in ("corner", "triangle")]
            assert "-".join(words) == named[split.labels[row]]
    with np.load(PUBLISHED / f"{name}.npz") as archive:
        np.testing.assert_array_equal(read_split(info.path, "train").images, archive["x_train"][..., 0])


WRONG_NPZ: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a key missing": ({"y_test": None}, ["y_test", "x_train, y_train, x_test"]),
    "float images": ({"x_train": np.full((90, 10, 12), 200.0)}, ["float64", "--range 0,255"]),
    "images of truth values": ({"x_train": np.ones((90, 10, 12), bool)}, ["uint8", "bool"]),
    "object images": ({"x_train": np.array([{}] * 90, dtype=object)}, ["allow_pickle"]),
    "object labels": ({"y_train": np.array([[1], "a"] * 45, dtype=object)}, ["allow_pickle"]),
    "channels first": ({"x_train": noise((90, 3, 10, 12))}, ["[N, H, W]", "[90, 3, 10, 12]"]),
    "flat images": ({"x_train": noise((90, 120))}, ["[90, 120]"]),
    "no images": ({"x_test": noise((0, 10, 12)), "y_test": np.arange(0)}, ["[0, 10, 12]"]),
    "labels short": ({"y_train": np.arange(89) % 3}, ["90", "y_train"]),
    "float labels": ({"y_train": np.arange(90) % 3 + 0.0}, ["float64"]),
    "one-hot labels": ({"y_train": np.eye(90, dtype=np.int64)}, ["[90, 90]"]),
    "labels from one": ({"y_train": np.arange(90) % 3 + 1}, ["without gaps", "1, 2, 3"]),
    "negative labels": ({"y_train": np.arange(90) % 3 - 1}, ["without gaps"]),
    "a new class in test": ({"y_test": np.arange(30) % 4}, ["y_test", "0 to 2"]),
    "test of another size": ({"x_test": noise((30, 12, 10))}, ["--size"]),
}


@pytest.mark.parametrize("kind", WRONG_NPZ)
def test_a_wrong_npz_is_one_line(tmp_path: Path, kind: str) -> None:
    changes, words = WRONG_NPZ[kind]
    assert_refused(save(tmp_path / "a.npz", arrays(**changes)), tmp_path / "a.h5", *words)


@FUZZ
@given(share=st.floats(0, 1, exclude_max=True), place=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255))
def test_a_damaged_npz_is_one_line_or_harmless(tmp_path: Path, share: float, place: float, byte: int) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays())
    whole = buffer.getvalue()
    source = tmp_path / "b.npz"
    source.write_bytes(whole[: int(share * len(whole))])
    assert_refused(source, tmp_path / "b.h5", "b.npz")
    flipped = bytearray(whole)
    flipped[int(place * len(whole))] ^= byte
    source.write_bytes(flipped)
    try:
        take(source, tmp_path / "c.h5", overwrite=True)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either way is right


@FUZZ
@given(
    dtype=st.sampled_from(["u1", "i1", "u2", "f4", "?", "S3", "M8[s]"]),
    shape=st.lists(st.integers(0, 4), max_size=5),
    key=st.sampled_from(["x_train", "y_train", "x_test", "y_test"]),
)
def test_any_array_anywhere_is_one_line_or_sound(tmp_path: Path, dtype: str, shape: list[int], key: str) -> None:
    source = save(tmp_path / "a.npz", arrays(**{key: np.zeros(shape, dtype)}))
    try:
        info, _ = take(source, tmp_path / "a.h5", overwrite=True)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either way is right
    else:
        assert read_info(info.path).content_hash == info.content_hash


# --- folders ---


def class_folders(root: Path, counts: dict[str, int], shape: tuple[int, ...] = (8, 9)) -> Path:
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            picture(root / name / f"{index:03}.png", noise(shape, 1000 * number + index))
    return root


@pytest.mark.parametrize("names", [("train", "test"), ("train", "val", "test"), ("Train", "validation", "TEST")])
def test_class_folders_under_splits(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        class_folders(tmp_path / "set" / name, {"кот": 3, "dog ü": 2})
    info, _ = take(tmp_path / "set", tmp_path / "a.h5")
    assert info.classes == ("dog ü", "кот")
    assert list(info.splits) == (["train", "val", "test"] if len(names) == 3 else ["train", "test"])
    split = read_split(info.path, "train")
    assert split.labels is not None
    assert split.labels.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_array_equal(split.images[2], noise((8, 9), 0))


def test_class_folders_without_splits(tmp_path: Path) -> None:
    info, _ = take(class_folders(tmp_path / "set", {"b": 2, "a": 70}), tmp_path / "a.h5")
    assert list(info.splits) == ["train"]
    assert info.classes == ("a", "b")
    assert info.splits["train"].n == 72


def test_images_without_labels(tmp_path: Path) -> None:
    for index in range(70):
        picture(tmp_path / "set" / f"{index:02}.png", noise((8, 9), index))
    info, _ = take(tmp_path / "set", tmp_path / "a.h5", test_fraction=0.1)
    assert (info.classes, info.splits["train"].n, info.splits["test"].n) == ((), 63, 7)
    assert not info.splits["train"].labelled
    assert read_split(info.path, "train").labels is None


@FUZZ
@given(
    counts=st.lists(st.integers(4, 30), min_size=1, max_size=4),
    val=st.sampled_from([0.0, 0.1, 0.25]),
    test=st.sampled_from([0.0, 0.2, 0.5]),
    seed=st.integers(0, 5),
)
def test_splits_are_stratified_and_disjoint(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], val: float, test: float, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("s")
    root = class_folders(folder / "set", {f"c{k}": count for k, count in enumerate(counts)}, (2, 8))
    info, _ = take(root, folder / "a.h5", val_fraction=val, test_fraction=test, seed=seed)
    assert list(info.splits) == ["train"] + ["val"] * (val > 0) + ["test"] * (test > 0)
    splits = {name: read_split(info.path, name) for name in info.splits}
    images = {image.tobytes() for split in splits.values() for image in split.images}
    assert len(images) == sum(counts)  # every image is in one split
    for label, count in enumerate(counts):
        in_test = max(1, round(test * count)) if test else 0
        in_val = max(1, round(val * (count - in_test))) if val else 0
        for name, expected in (("test", in_test), ("val", in_val), ("train", count - in_test - in_val)):
            found = np.count_nonzero(splits[name].labels == label) if name in splits else 0
            assert found == expected


def test_the_split_depends_on_names_and_seed_alone(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "one" / "set", {"a": 20, "b": 20})
    other = class_folders(tmp_path / "two" / "set", {"b": 20, "a": 20})
    for index in range(20):  # the same names and pixels, written in another order
        picture(other / "a" / f"{index:03}.png", noise((8, 9), index))
        picture(other / "b" / f"{index:03}.png", noise((8, 9), 1000 + index))
    first, _ = take(root, tmp_path / "1.h5", test_fraction=0.3)
    second, _ = take(other, tmp_path / "2.h5", test_fraction=0.3)
    assert first.path.read_bytes() == second.path.read_bytes()
    third, _ = take(root, tmp_path / "3.h5", test_fraction=0.3, seed=1)
    assert third.content_hash != first.content_hash


def test_an_added_image_moves_few_others(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "set", {"a": 20})
    before = read_split(take(root, tmp_path / "1.h5", test_fraction=0.5)[0].path, "train").images
    picture(root / "a" / "000b.png", noise((8, 9), 77))
    after = read_split(take(root, tmp_path / "2.h5", test_fraction=0.5)[0].path, "train").images
    assert len({i.tobytes() for i in before} - {i.tobytes() for i in after}) <= 1


def test_grey_stays_grey_only_if_all_are(tmp_path: Path) -> None:
    grey = np.repeat(noise((8, 9, 1)), 3, axis=2)
    picture(tmp_path / "set" / "a" / "0.png", noise((8, 9)))
    picture(tmp_path / "set" / "a" / "1.png", grey)  # RGB by its format, grey by its pixels
    assert take(tmp_path / "set", tmp_path / "a.h5")[0].splits["train"].channels == 1
    colour = noise((8, 9, 3))
    picture(tmp_path / "set" / "b" / "9.png", colour)
    info, _ = take(tmp_path / "set", tmp_path / "b.h5")
    assert info.splits["train"].channels == 3
    images = read_split(info.path, "train").images
    np.testing.assert_array_equal(images[1], grey)
    np.testing.assert_array_equal(images[2], colour)


# --- pixels, against Pillow ---


@pytest.mark.parametrize(
    ("kind", "shape"),  # GIF has a palette of 256 colours
    [(kind, s) for kind in ("png", "bmp", "tiff", "webp", "ppm", "jpg") for s in ((20, 30), (20, 30, 3))]
    + [("gif", (20, 30))],
)
def test_decoding_agrees_with_pillow(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    smooth = np.cumsum(np.ones(shape), axis=1) * 6 + np.arange(20).reshape(-1, *[1] * (len(shape) - 1))
    pixels = smooth.astype(np.uint8)
    if len(shape) == 3:
        pixels[..., 0] = 255 - pixels[..., 0]  # so that BGR cannot pass for RGB
    options = {"lossless": True} if kind == "webp" else {}
    path = picture(tmp_path / f"bäd näme.{kind}", pixels, **options)
    image = decode_rgb(path)
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    with Image.open(path) as opened:
        expected = np.asarray(opened.convert("RGB"))
    tolerance = 3 if kind == "jpg" else 0  # two JPEG decoders round differently
    assert np.abs(image.astype(int) - expected.astype(int)).max() <= tolerance


def test_transparent_pixels_show_white(tmp_path: Path) -> None:
    pixels = noise((8, 9, 4))
    path = picture(tmp_path / "a.png", pixels)
    with Image.open(path) as opened:
        white = Image.new("RGBA", opened.size, "white")
        expected = np.asarray(Image.alpha_composite(white, opened).convert("RGB"))
    assert np.abs(decode_rgb(path).astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    pixels = np.zeros((32, 48), np.uint8)
    pixels[:16, :16] = 200
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = picture(tmp_path / "a.jpg", pixels, exif=exif.tobytes(), quality=95)
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened))
    image = decode_rgb(path)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected.astype(int)).max() <= 3


def test_size_crops_the_centre_and_averages(tmp_path: Path) -> None:
    pixels = noise((40, 60))
    centre = pixels[:, 10:50].astype(float)
    expected = centre.reshape(10, 4, 10, 4).mean(axis=(1, 3))
    assert np.abs(to_square(pixels, 10) - expected).max() <= 0.51
    np.testing.assert_array_equal(to_square(pixels, 40), pixels[:, 10:50])
    assert to_square(noise((5, 9, 3)), 32).shape == (32, 32, 3)
    for index, shape in enumerate([(40, 60), (33, 20), (10, 10)]):
        picture(tmp_path / "set" / f"{index}.png", noise(shape))
    info, _ = take(tmp_path / "set", tmp_path / "a.h5", size=10)
    assert (info.splits["train"].height, info.splits["train"].width) == (10, 10)
    np.testing.assert_array_equal(read_split(info.path, "train").images[0], to_square(pixels, 10))


def test_a_side_that_shrinks_is_averaged_though_the_other_grows() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (50, 500))
    for image in (stripes, stripes.T):  # ten pixels become one
        assert np.abs(to_square(image, 100, "squash") - 127.5).max() <= 1


# --- what is wrong with folders ---


@pytest.mark.parametrize("kind", ["png", "jpg", "tiff", "bmp", "webp", "gif"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_a_cut_off_image_is_broken_not_half_grey(tmp_path: Path, kind: str, share: float) -> None:
    pixels = np.add.outer(np.arange(200), np.arange(300)).astype(np.uint8)
    with pytest.raises(Broken):
        decode_rgb(truncated(tmp_path / f"a.{kind}", pixels, share))


def truncated(path: Path, pixels: NDArray[np.uint8], share: float = 0.6) -> Path:
    picture(path, pixels)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


BREAK: dict[str, Callable[[Path], object]] = {
    "empty.png": lambda path: path.write_bytes(b""),
    "text.jpg": lambda path: path.write_text("not an image"),
    "cut.png": lambda path: truncated(path, noise((8, 9))),
    "cut.jpg": lambda path: truncated(path, noise((8, 9))),
    "cut.tiff": lambda path: truncated(path, noise((8, 9))),
    "cut.bmp": lambda path: truncated(path, noise((8, 9))),
    "header.png": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"),
    "nan.tiff": lambda path: picture(path, np.full((8, 9), np.nan, np.float32)),
    "pages.tiff": lambda path: picture(
        path, noise((8, 9)), save_all=True, append_images=[Image.fromarray(noise((8, 9)))]
    ),
}


@pytest.mark.parametrize("name", BREAK)
def test_a_broken_image_is_one_line_or_skipped(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    root = class_folders(tmp_path / "set", {"a": 70, "b": 3})
    BREAK[name](root / "a" / f"035 {name}")
    assert_refused(root, tmp_path / "a.h5", f"a/035 {name}", "1 broken image,", "--skip-broken")
    BREAK[name](root / "b" / name)
    assert_refused(root, tmp_path / "a.h5", f"a/035 {name}", "2 broken images,")
    info, skipped = take(root, tmp_path / "a.h5", skip_broken=True)
    assert [item.path for item in skipped] == [f"a/035 {name}", f"b/{name}"]
    assert all(item.reason and "\n" not in item.reason for item in skipped)
    split = read_split(info.path, "train")
    assert split.labels is not None
    assert split.labels.tolist() == [0] * 70 + [1] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "set"]
    assert capfd.readouterr().err == ""  # OpenCV is quiet


def test_other_files_are_listed_and_left_out(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "set" / "train", {"a": 2}).parent
    (root / "train" / "a" / "notes.txt").write_text("hello")
    (root / "train" / "a" / ".hidden.png").write_bytes(b"")
    picture(root / "train" / "a" / ".ipynb_checkpoints" / "0-checkpoint.png", noise((8, 8)))
    (root / "readme.md").write_text("hello")
    info, skipped = take(root, tmp_path / "a.h5")
    assert info.splits["train"].n == 2
    assert sorted(item.path for item in skipped) == [
        "readme.md",
        "train/a/.hidden.png",
        "train/a/.ipynb_checkpoints",
        "train/a/notes.txt",
    ]


def test_mixed_sizes_ask_for_size(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "set", {"a": 3})
    picture(root / "a" / "zz.png", noise((20, 30)))
    assert_refused(root, tmp_path / "a.h5", "9x8", "30x20", "a/zz.png", "--size 8")


def only_broken(root: Path) -> None:
    root.mkdir()
    (root / "a.png").write_bytes(b"")


def empty_test(root: Path) -> None:
    class_folders(root / "train", {"a": 2})
    (root / "test").mkdir()


def mixed_kinds(root: Path) -> None:
    picture(class_folders(root, {"a": 2}) / "loose.png", noise((8, 9)))


WRONG_FOLDER: dict[str, tuple[Callable[[Path], object], dict[str, Any], list[str]]] = {
    "missing": (lambda root: None, {}, ["nothing"]),
    "empty": (Path.mkdir, {}, ["none"]),
    "text": (lambda root: root.write_text("hello"), {}, ["a folder of images, parquet"]),
    "only broken": (only_broken, {"skip_broken": True}, ["train"]),
    "images beside classes": (mixed_kinds, {}, ["both"]),
    "empty test": (empty_test, {}, ["test"]),
    "new class": (
        lambda root: (class_folders(root / "train", {"a": 2}), class_folders(root / "test", {"b": 2})),
        {},
        ["'b'"],
    ),
    "test alone": (lambda root: class_folders(root / "test", {"a": 2}), {}, ["a folder train beside 'test'"]),
    "two vals": (
        lambda root: [class_folders(root / name, {"a": 2}) for name in ("train", "val", "valid")],
        {},
        ["'val'", "'valid'"],
    ),
    "own test": (
        lambda root: [class_folders(root / name, {"a": 2}) for name in ("train", "test")],
        {"test_fraction": 0.5},
        ["--test-fraction"],
    ),
    "one image a class": (lambda root: class_folders(root, {"a": 1}), {"val_fraction": 0.5}, ["'a'"]),
    "fraction": (lambda root: class_folders(root, {"a": 3}), {"val_fraction": 1.0}, ["--val-fraction"]),
    "NaN": (lambda root: class_folders(root, {"a": 3}), {"test_fraction": float("nan")}, ["--test-fraction"]),
    "size": (lambda root: class_folders(root, {"a": 3}), {"size": 0}, ["--size"]),
    "compression": (lambda root: class_folders(root, {"a": 3}), {"compression": "zip"}, ["gzip"]),
}


@pytest.mark.parametrize("kind", WRONG_FOLDER)
def test_a_wrong_folder_is_one_line(tmp_path: Path, kind: str) -> None:
    build, options, words = WRONG_FOLDER[kind]
    build(tmp_path / "set")
    assert_refused(tmp_path / "set", tmp_path / "a.h5", *words, **options)


@FUZZ
@given(
    files=st.dictionaries(
        st.tuples(st.sampled_from(["", "a/", "b/", "train/a/", "test/a/"]), st.sampled_from(["x", "y", "é"])).map(
            lambda pair: pair[0] + pair[1]
        ),
        st.tuples(
            st.sampled_from([".png", ".jpg", ".txt", ".PNG", ""]),
            st.one_of(st.binary(max_size=40), st.tuples(st.integers(1, 5), st.integers(1, 5))),
        ),
        max_size=8,
    ),
    skip=st.booleans(),
    size=st.sampled_from([None, 4]),
)
def test_any_folder_is_one_line_or_sound(
    tmp_path_factory: pytest.TempPathFactory,
    files: dict[str, tuple[str, bytes | tuple[int, int]]],
    skip: bool,
    size: int | None,
) -> None:
    folder = tmp_path_factory.mktemp("f")
    (folder / "set").mkdir()
    for stem, (suffix, content) in files.items():
        path = folder / "set" / (stem + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            Image.fromarray(noise(content)).save(path, format="png")
    try:
        info, _ = take(folder / "set", folder / "a.h5", skip_broken=skip, size=size)
    except (ValueError, OSError) as error:
        assert "\n" not in str(error)  # noqa: PT017 - either way is right
        assert not (folder / "a.h5").exists()
        assert "broken image" in str(error) or not list(folder.glob(".*"))  # noqa: PT017
    else:
        assert read_split(info.path, "train").images.size > 0
