"""What local statistics reach on other files: counts against loops, and sets whose answers are known.

Alone: pytest tests/certificate/test_local.py
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probekit.certificate.local import brightness, drawn, level_counts, locality, locality_blocks, pattern_counts
from probekit.h5 import DatasetInfo, DatasetWriter, Header, Split, pack, read_info
from probekit.output.document import Table

Pixels = NDArray[np.uint8]


def noise(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def written(path: Path, splits: Mapping[str, tuple[Pixels, NDArray[Any]]], classes: tuple[str, ...]) -> DatasetInfo:
    header = Header(generator="", parameters={}, seed=0, classes=classes, factors=(), mask_names=())
    with DatasetWriter(path, header=header, compression="none", overwrite=False) as writer:
        for name, (images, labels) in splits.items():
            writer.begin(name, len(images))
            writer.append(pack(Split(images, labels, {}, None), "none"))
    return read_info(path)


def reached(info: DatasetInfo) -> dict[str, float]:
    found = locality(info, sides=(3, 5), seed=0)
    return {row["name"]: row["value"] for row in found["rows"]}


@pytest.mark.parametrize("side", [3, 5, 9])
def test_patterns_are_those_that_a_loop_counts(side: int) -> None:
    image, away = noise(12, 14) // 64 * 64, (side - 1) // 2
    expected = np.zeros(4 * 256)
    ring = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
    for i in range(away, 12 - away):
        for j in range(away, 14 - away):
            bits = [image[i + away * down, j + away * right] >= image[i, j] for down, right in ring]
            expected[256 * (int(image[i, j]) // 64) + sum(2**k for k, bit in enumerate(bits) if bit)] += 1
    assert pattern_counts(image[None], side)[0].tolist() == expected.tolist()
    assert pattern_counts(noise(3, 4, 4), 5).sum() == 0  # no patch fits


def test_patterns_and_levels_of_colour() -> None:
    grey = noise(2, 9, 9)
    colour = np.repeat(grey[..., None], 3, axis=3)
    assert np.array_equal(pattern_counts(colour, 3), pattern_counts(grey, 3))
    image = np.zeros((1, 4, 4, 3), np.uint8)
    image[0, 0, 0] = (255, 0, 128)
    assert np.flatnonzero(level_counts(image)).tolist() == [0, (3 * 4 + 0) * 4 + 2]
    assert level_counts(np.array([[[0, 7, 8, 255]]], np.uint8))[0, [0, 1, 31]].tolist() == [2, 1, 1]
    np.testing.assert_allclose(brightness(colour)[0, :3], grey[0].mean(), rtol=1e-6)
    np.testing.assert_allclose(brightness(grey)[1, 1], grey[1].std(), rtol=1e-6)


def test_drawings_are_told_from_photographs() -> None:
    ink = np.where(noise(4, 16, 16) > 128, 230, 40).astype(np.uint8)
    assert drawn(ink)
    assert not drawn(noise(4, 16, 16))
    assert not drawn(np.repeat(ink[..., None], 3, axis=3))


def stripes(n: int, seed: int) -> tuple[Pixels, NDArray[np.int64]]:
    """Grey stripes, upright or level, at any phase, under noise: local, and blind to a linear probe of pixels."""
    rng = np.random.default_rng(seed)
    labels, wave = np.arange(n) % 2, np.sin(2 * np.pi * (np.arange(16)[None] / 8 + rng.random((n, 1))))
    images = np.where(labels[:, None, None] == 0, wave[:, None, :], wave[:, :, None])
    return np.rint(128 + 60 * images + rng.normal(size=images.shape) * 5).astype(np.uint8), labels


def test_a_local_set_of_photographs_is_found_local(tmp_path: Path) -> None:
    info = written(tmp_path / "a.h5", {"train": stripes(160, 0), "test": stripes(80, 1)}, ("upright", "level"))
    found = reached(info)
    assert list(found) == ["chance", "mean and deviation", "levels", "pixels", "bag of 3x3", "bag of 5x5"]
    assert found["bag of 3x3"] > 0.95 < found["bag of 5x5"]
    assert max(found[line] for line in ("chance", "mean and deviation", "levels", "pixels")) < 0.75


def test_larger_files_are_drawn_from_and_the_draw_is_the_seeds(tmp_path: Path) -> None:
    info = written(tmp_path / "a.h5", {"train": stripes(200, 0), "test": stripes(100, 1)}, ("upright", "level"))
    one, two = (locality(info, n=60, sides=(3,), seed=0) for _ in range(2))
    assert one == two
    assert (one["n_train"], one["n_test"], one["drawings"], one["score"]) == (60, 60, False, "accuracy")
    assert one["rows"][-1]["value"] > 0.9
    (table,) = locality_blocks(one)
    assert isinstance(table, Table)
    assert table.columns == ("", "accuracy, %")
    assert "60 images of train" in table.how


def test_several_labels_an_image_have_average_precision(tmp_path: Path) -> None:
    images, which = stripes(120, 0)
    labels = np.stack([which, 1 - which, np.arange(120) % 3 == 0], axis=1).astype(np.uint8)
    halves = {"train": (images[:80], labels[:80]), "test": (images[80:], labels[80:])}
    found = locality(written(tmp_path / "a.h5", halves, ("level", "upright", "third")), sides=(3,), seed=0)
    assert found["score"] == "mAP"
    assert found["rows"][-1]["value"] > found["rows"][0]["value"] + 0.15


def test_a_file_without_test_labels_is_refused(tmp_path: Path) -> None:
    info = written(tmp_path / "a.h5", {"train": stripes(20, 0)}, ("upright", "level"))
    with pytest.raises(ValueError, match="found no test split"):
        locality(info, sides=(3,), seed=0)


def test_a_set_whose_colours_tell_is_found_out(tmp_path: Path) -> None:
    def coloured(n: int, seed: int) -> tuple[Pixels, NDArray[Any]]:
        labels = np.arange(n) % 2
        images = noise(n, 12, 12, 3, seed=seed) // 2
        images[..., 0] += (labels[:, None, None] * 100).astype(np.uint8)
        return images, labels

    info = written(tmp_path / "a.h5", {"train": coloured(80, 0), "test": coloured(40, 1)}, ("dull", "red"))
    found = reached(info)
    assert min(found["levels"], found["mean and deviation"]) > 0.95
