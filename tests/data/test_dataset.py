"""The dataset of torch against the file, the generator and the counterfactuals that it stands for.

Alone: pytest tests/data/test_dataset.py
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from torch.utils.data import DataLoader

from generators import GENERATORS
from probekit.data.dataset import Dataset, render
from probekit.data.gallery import EVIDENCE_IS, MASKS_ARE
from probekit.data.generate import generate
from probekit.data.picture import dataset_figure
from probekit.h5 import read_split


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "shapes.h5"
    generate("rect-tri", out=out, n=12, n_test=6, seed=3, size=32)
    return out


def test_an_item_is_what_the_file_holds(path: Path) -> None:
    found, rows = Dataset(str(path), "test"), read_split(path, "test", masks=True)
    assert len(found) == 6
    assert rows.labels is not None
    assert rows.masks is not None
    item = found[-1]
    assert item["index"] == 5
    assert item["label"] == rows.labels[5]
    np.testing.assert_array_equal(item["image"].numpy()[0], rows.images[5] / np.float32(255))
    assert item["factors"]["angle"] == rows.factors["angle"][5]
    for bit, name in enumerate(found.info.mask_names):
        np.testing.assert_array_equal(item["masks"][name].numpy(), (rows.masks[5] >> bit & 1).astype(bool))
        np.testing.assert_array_equal(item["masks"][name].numpy(), found.masks[name][5])


def test_a_loader_puts_items_together(path: Path) -> None:
    batch = next(iter(DataLoader(Dataset(path), batch_size=4)))
    assert batch["image"].shape == (4, 1, 32, 32)
    assert batch["image"].dtype == torch.float32
    assert batch["label"].tolist() == Dataset(path).labels[:4].tolist()  # type: ignore[index]
    assert batch["masks"]["evidence:corner"].shape == (4, 32, 32)


def test_a_counterfactual_differs_in_its_evidence_and_in_its_label(path: Path) -> None:
    found = Dataset(path)
    other = found.counterfactuals["corner"]
    changed = other.images != found.images
    assert (changed & ~found.masks["evidence:corner"]).sum() == 0
    assert changed.any(axis=(1, 2)).all()
    assert (other.labels != found.labels).all()


def test_a_notebook_shows_classes_plain_and_outlined_with_a_scale(path: Path) -> None:
    """As `probekit show` draws the file."""
    found = Dataset(path)
    figure = dataset_figure("shapes, train", found.images, found.labels, found.classes, found.masks)
    texts = [text.get_text() for text in figure.findobj(Text)]
    assert [each for each in texts if each in ("image", "outlined")] == ["image", "outlined"] * 3  # three of a class
    assert {*found.classes, "corner", "triangle", EVIDENCE_IS} <= set(texts)
    assert any(text.endswith(" px") for text in texts)
    assert len(figure.axes[0].images) == 2 * len(found)
    plain = dataset_figure("photographs", found.images, None, (), {"bird": found.masks["evidence:corner"]})
    assert MASKS_ARE in [text.get_text() for text in plain.findobj(Text)]
    assert found._repr_png_().startswith(b"\x89PNG")


def test_rendered_in_memory_as_in_a_file(path: Path) -> None:
    in_file, in_memory = Dataset(path), render("rect-tri", n=5, seed=3, size=32)
    np.testing.assert_array_equal(in_memory.images, in_file.images[:5])
    np.testing.assert_array_equal(in_memory.labels, in_file.labels[:5])  # type: ignore[index]
    np.testing.assert_array_equal(in_memory.masks["evidence:corner"], in_file.masks["evidence:corner"][:5])
    assert "5 images of 32x32 px" in repr(in_memory)


def test_parameters_reach_the_generator(tmp_path: Path) -> None:
    found = render("landolt", n=3, gap=3)
    assert found.info.parameters == GENERATORS["landolt"](size=128, parameters={"gap": 3}).values
    assert found.info.parameters["gap"] == 3
    written = render("landolt", n=3, n_test=2, gap=3, out=tmp_path / "landolt.h5")
    np.testing.assert_array_equal(written.images, found.images)
    with pytest.raises(OSError, match="exists"):
        render("landolt", n=3, out=tmp_path / "landolt.h5")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"name": "landolf"}, "landolt"),
        ({"name": "landolt", "gab": 3}, "gap"),
        ({"name": "landolt", "n": 0}, "expected a whole n from 1"),
        ({"name": "landolt", "n": 2.5}, "expected a whole n from 1"),
        ({"name": "landolt", "seed": -1}, "a seed from 0"),
        ({"name": "landolt", "split": "tset"}, "unknown split 'tset'.*'test'"),
        ({"name": "landolt", "n": 2, "n_test": 5}, "found n_test=5 without out"),
    ],
)
def test_what_there_is_not_is_refused(given: dict[str, object], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        render(**given)  # type: ignore[arg-type]


def test_a_split_that_there_is_not_is_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="test"):
        Dataset(path, "tset")
    with pytest.raises(IndexError, match="below 12"):
        Dataset(path)[12]
