"""`probekit heatmap RUN RUN`: each is measured as by itself, and one picture has the maps of all.

Alone: pytest tests/heatmaps/test_together.py
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from probekit.cli import app
from probekit.data.truth import read_truth
from probekit.h5 import read_info
from probekit.heatmaps.base import Row
from probekit.heatmaps.draw import draw_together
from tests.datasets import noise_npz, small_shapes

pytestmark = pytest.mark.usefixtures("few_strengths")
SMALL = ["--epochs", "1", "--batch-size", "8", "--set", "model.width=8", "--set", "model.depth=3"]
FEW = ["--maps", "cam", "--n", "8", "--perturb", "0"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three runs: a and b on the same images, c on others."""
    folder = tmp_path_factory.mktemp("together")
    small_shapes(folder / "data/one.h5", n=16, n_test=8, size=16)
    small_shapes(folder / "data/two.h5", n=16, n_test=9, size=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        noise_npz(folder / "rgb.npz", channels=3)
        assert CliRunner().invoke(app, ["import", "rgb.npz", "--out", "data/rgb.h5"]).exit_code == 0
        for name, data in (("a", "one"), ("c", "two")):
            typed = ["pretrain", "simclr", "--data", f"data/{data}.h5", "--name", name, *SMALL]
            done = CliRunner().invoke(app, typed)
            assert done.exit_code == 0, done.output
    shutil.copytree(folder / "runs/a", folder / "runs/b")
    return folder


def typed(home: Path, *words: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return CliRunner().invoke(app, ["heatmap", *words])


def test_each_run_has_its_result_and_all_are_in_one_picture(home: Path, plain_pictures: None) -> None:
    done = typed(home, "a", "b", *FEW, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found.keys() == {"a", "b"}
    for name in "ab":
        assert json.loads((home / f"runs/{name}/results/heatmap-last.json").read_text()) == found[name]
        assert found[name]["command"] == f"probekit heatmap {name} --maps cam --n 8 --perturb 0"
    assert (home / "reports/maps-a+b.png").exists()
    best = ("--checkpoint", "best_val")
    done = typed(home, "a", "c", "--data", "data/two.h5", *best, *FEW, "--out", "side.png")
    assert done.exit_code == 0, done.output
    assert "next: probekit exam a c --checkpoint best_val   or   probekit report a c   (" in done.output
    assert "picture side.png" in done.output
    assert (home / "side.png").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("a", "c"), "expected runs on the same images, found .*one.h5 and .*two.h5; type: --data"),
        (("a", "runs/a"), "expected each run once, found a twice"),
        (("a", "nosuch"), "unknown run 'nosuch'"),
        (("a", "--out", "b.png"), "expected --out with several runs, found one"),
        (("a", "b", "--data", "data/rgb.h5"), "expected images of 1 channel, as the encoder was trained on, found 3"),
        (("a", "b", "--out", "b.txt"), "expected a picture NAME.png"),
    ],
)
def test_what_cannot_be_drawn_together_is_refused_before_anything_is_measured(
    home: Path, words: tuple[str, ...], told: str
) -> None:
    before = sorted(home.glob("runs/*/results/*"))
    done = typed(home, *words, *FEW)
    assert done.exit_code == 1
    with pytest.raises(ValueError, match=told):
        raise done.exception
    assert sorted(home.glob("runs/*/results/*")) == before


def test_maps_of_one_name_are_under_one_another_with_the_encoders_names(home: Path) -> None:
    truth = read_truth(read_info(home / "data/one.h5"), "test", 8)
    rng = np.random.default_rng(0)
    rows = [
        [Row(name, name, "map", "", "trained", "", True, rng.normal(size=(8, 4, 4)).astype(np.float32)) for name in own]
        for own in (("cam", "gradcam-loss", "-gradcam-loss"), ("cam", "gradcam-loss"))
    ]
    results = [{"run": name, "checkpoint": "last", "data": "data/one.h5"} for name in ("moco", "vicreg")]
    figure = draw_together(results, truth, rows)
    names = [text.get_text() for text in figure.axes[0].texts if text.get_text().endswith("cells")]
    expected = [f"{run}\n{name}\n4 x 4 cells" for name in ("cam", "gradcam-loss") for run in ("moco", "vicreg")]
    assert names == expected
    assert figure.texts[0].get_text() == "Where encoders look on one: cam, gradcam-loss"
    alone = draw_together(results, truth, [own[:1] for own in rows])
    names = [text.get_text() for text in alone.axes[0].texts if text.get_text().endswith("cells")]
    assert names == ["moco\n4 x 4 cells", "vicreg\n4 x 4 cells"], "the title has the name of the map"
