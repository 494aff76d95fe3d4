"""The maps of LCR's filters: the paper's eq. 4 in loops, what may be typed, and their mosaic.

Alone: pytest tests/heatmaps/test_gfb.py
"""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from probekit.data.truth import read_truth
from probekit.h5 import read_info
from probekit.heatmaps.base import Context, Row, Subject, encode, make_map, unmet
from probekit.heatmaps.draw import draw_gallery
from probekit.heatmaps.draw_filters import draw_filters
from probekit.heatmaps.measurement import Heatmap
from probekit.heatmaps.protocol import choose_maps
from probekit.methods.base import Method
from probekit.restore.build import build_method
from tests.branches.attached import configured
from tests.datasets import small_shapes

RESULT = {"run": "a", "checkpoint": "last", "data": "somewhere/rect-tri.h5"}


@pytest.fixture(scope="module")
def method() -> Method:
    config = configured("byol", "lcr", branch__lcr__k=5, method__keep="target")
    return build_method(config, channels=1).eval()


def asked(method: Method) -> Subject:
    return Subject(method.target["encoder"], None, Context(method=method))  # type: ignore[index, arg-type]


def test_a_filter_is_its_product_with_each_cell_and_the_branch_the_largest(method: Any) -> None:
    subject = asked(method)
    images = torch.randint(0, 256, (2, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batch = encode(subject.encoder, images, torch.arange(2))
    maps = [make_map(f"gfb:{k}", subject.context)(subject.encoder, batch) for k in range(5)]
    filters = method.branches["lcr"].filters.weight[:, :, 0, 0]
    for n in range(2):
        for i in range(maps[0].shape[1]):
            for j in range(maps[0].shape[2]):
                products = [float(w.detach() @ batch.features.map[n, :, i, j]) for w in filters]
                assert [float(found[n, i, j]) for found in maps] == pytest.approx(products, abs=1e-5)
                whole = make_map("gfb", subject.context)(subject.encoder, batch)[n, i, j]
                assert float(whole) == pytest.approx(max(products), abs=1e-5)


def test_all_is_each_and_others_are_refused_in_a_line(method: Method) -> None:
    names, _ = choose_maps(asked(method), ["gfb:all"], has_weights=False, attention=None)
    assert names == [f"gfb:{k}" for k in range(5)]
    for name, told in [("gfb:5", "it has 5 filters, gfb:0 to gfb:4"), ("gfb", None)]:
        assert unmet(name, asked(method), has_weights=False, attention=None) == told
    bare = replace(asked(method), context=Context())
    for name in ("gfb", "gfb:0", "gfb:all"):
        with pytest.raises(ValueError, match="needs a run with the branch lcr"):
            choose_maps(bare, [name], has_weights=False, attention=None)
    for odd in ("first", "", "-1", "01", "1e3", "9" * 5000, "0:1"):
        with pytest.raises(ValueError, match="type: --maps gfb:0, or --maps gfb:all"):
            Heatmap(maps=(f"gfb:{odd}",))


def test_the_mosaic_has_every_filter_with_how_often_it_is_the_largest(tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("truth") / "rect-tri.h5"
    small_shapes(path, n=8, n_test=8, size=32)
    truth = read_truth(read_info(path), "test", 8)
    maps = np.random.default_rng(0).normal(size=(11, 8, 4, 4)).astype(np.float32)
    rows = [Row(f"gfb:{k}", f"gfb:{k}", "map", "", "trained", "", True, maps[k]) for k in range(11)]
    figure = draw_filters(RESULT, truth, rows)
    told = [text.get_text() for text in figure.axes[0].texts]
    shares = {found[1]: found[2] for text in told if (found := re.fullmatch(r"(\d+): (\d+) %", text))}
    largest = maps.max(axis=0)
    expected = {str(k): f"{100 * (maps[k] == largest).mean():.0f}" for k in range(11)}
    assert shares == expected
    assert sum("%" in text for text in told) == 22, "two images"
    beside = draw_gallery(RESULT, truth, [*rows, replace(rows[0], name="gfb")], None)
    names = [text.get_text() for text in beside.axes[0].texts if text.get_text().endswith("cells")]
    assert names == ["gfb\n4 x 4 cells"], "filters have a picture of their own"
    alone = draw_gallery(RESULT, truth, rows[:1], None)
    assert any(text.get_text().startswith("gfb:0") for text in alone.axes[0].texts)
