"""Pairs in the pictures of dataset files and of all generators."""

from pathlib import Path

import numpy as np
import pytest

from generators import GENERATORS
from generators.certificates import shipped, told
from probekit.data.gallery import LISTED, draw_generators, pair_rows
from probekit.data.generate import generate
from probekit.data.show import grid_figure
from probekit.h5 import read_images, read_info


@pytest.mark.parametrize("name", ["landolt", "navon"])
def test_pairs_are_the_first_images_beside_their_counterfactuals(tmp_path: Path, name: str) -> None:
    settings = {"noise_sd": 0.1}
    info = generate(name, out=tmp_path / "a.h5", n=6, n_test=0, seed=3, size=64, parameters=settings)
    rows = pair_rows(info, "train", 8)
    generator = GENERATORS[name](size=64, parameters=settings)
    factors = generator.sample(3, "train", np.arange(4))
    assert [title for title, _ in rows] == [f"pairs that differ\nin {factor}" for factor in generator.class_factors]
    for factor, (_, cells) in zip(generator.class_factors, rows, strict=True):
        others = generator.render_images(generator.counterfactual(factors, factor))
        for k, image in enumerate(read_images(info.path, "train", range(4)).images):
            assert np.array_equal(cells[2 * k], image)
            assert np.array_equal(cells[2 * k + 1], others[k])


def test_files_that_the_generator_would_not_draw_so_have_no_pairs(tmp_path: Path) -> None:
    assert pair_rows(generate("landolt", out=tmp_path / "b.h5", n=0, n_test=3, size=32), "test", 1) == []
    assert GENERATORS["landolt"](size=32, parameters={"gap": 5.0}).values["gap"] == 5.0
    info = generate("landolt", out=tmp_path / "c.h5", n=3, n_test=0, size=32, parameters={"gap": 5.0})
    object.__setattr__(info, "parameters", info.parameters | {"gap": 8.0})
    assert pair_rows(info, "train", 8) == []


def test_the_picture_of_a_file_ends_with_a_row_of_each_class_factor(tmp_path: Path) -> None:
    generate("vernier", out=tmp_path / "a.h5", n=4, n_test=0, size=64)
    assert grid_figure(tmp_path / "a.h5").axes[0].get_ylim() == (3, 0)  # two classes, one class factor
    assert read_info(tmp_path / "a.h5").classes == ("aligned", "offset")


@pytest.mark.parametrize("name", GENERATORS)
def test_the_gallery_has_the_certificate_of_every_generator(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs/gallery.md").read_text()
    entry = " ".join(page.partition(f"**{name}**")[2].partition("\n- **")[0].split())
    assert [line for line in told(shipped(GENERATORS[name]())) if line not in entry] == []
    assert GENERATORS[name].about in entry


def test_every_class_factor_of_every_generator_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr("probekit.data.gallery.save", lambda figure, out: drawn.append(figure))
    draw_generators(tmp_path / "all.png")
    (axes,) = drawn[0].axes
    rows = sum(len(kind().class_factors) for kind in GENERATORS.values())
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 3 * LISTED), (rows, 0))
    assert len(axes.images) == 3 * LISTED * rows, "an image, its evidence, its counterfactual"
