"""Python against the commands: the same numbers, whatever the encoder is.

Alone: pytest tests/api/test_measure.py
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from probekit.api.measure import exam, heatmap, probe, report
from probekit.cli import app
from probekit.data.dataset import Dataset, render
from probekit.exams import examine
from probekit.measurement import encoder_row
from probekit.restore.load import load

MODULE = """
import torch
from torch import nn


def encoder():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1))
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_net.py").write_text(MODULE)
    return render("rect-tri", n=40, n_test=20, size=32, out="shapes.h5")


def mine(channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1))


def typed(*words: str) -> dict[str, object]:
    found = CliRunner().invoke(app, [*words, "--json"])
    assert found.exit_code == 0, found.output
    told: dict[str, object] = json.loads(found.stdout)
    return told


def test_python_has_what_it_names() -> None:
    import probekit.heatmaps.run  # a package of a function's name would take its place

    for name in probekit.__all__:
        assert callable(getattr(probekit, name)), name
    with pytest.raises(AttributeError, match="no attribute 'probes_'"):
        _ = probekit.probes_


def test_a_module_is_probed_as_the_command_probes_it(data: Dataset) -> None:
    found = probe(mine(), data, also=["knn"])
    command = typed("probe", "--encoder", "py:own_net:encoder", "--data", "shapes.h5", "--knn")
    assert found.keys() == command.keys()
    assert list(found.to_dict()["linear"]["rows"][1:]) == command["linear"]["rows"][1:]  # type: ignore[index]
    ours, theirs = (encoder_row(each) for each in (found.to_dict()["linear"], command["linear"]))  # type: ignore[arg-type]
    assert ours["predicted"] == theirs["predicted"]
    assert not [
        path for path in Path().iterdir() if path.name not in ("own_net.py", "shapes.h5", "runs", "__pycache__")
    ]


@pytest.mark.parametrize("option", ["layer=1", "pool=max"])
def test_a_module_is_probed_as_it_was_opened(data: Dataset, option: str) -> None:
    name, _, value = option.partition("=")
    opened = load(mine(), channels=1, size=32, **{name: value})  # type: ignore[arg-type]
    found = probe(opened, data)["linear"].to_dict()
    told = typed("probe", "--encoder", "py:own_net:encoder", "--data", "shapes.h5", f"--{name}", value)
    theirs: dict[str, object] = told["linear"]  # type: ignore[assignment]
    assert found["checkpoint"] == theirs["checkpoint"] != "last"
    assert encoder_row(found)["predicted"] == encoder_row(theirs)["predicted"]


def test_what_is_printed_is_what_the_command_prints(data: Dataset) -> None:
    found = probe(mine(), "shapes.h5", baselines=False)["linear"]
    assert f"{100 * next(iter(found.scores.values())).value:.1f}" in repr(found)  # type: ignore[operator]
    page = found._repr_html_()
    assert "<table>" in page
    assert found.figures()
    assert found.sentences[0] in " ".join(repr(found).split())


def test_a_heatmap_of_a_module_and_of_its_run_agree(data: Dataset) -> None:
    ours = heatmap(mine(), data, maps=("cam",), n=8, perturb=0)
    typed("probe", "--encoder", "py:own_net:encoder", "--data", "shapes.h5")
    run = load("encoder-shapes")
    theirs = heatmap(run, maps=("cam",), n=8, perturb=0)
    assert ours.scores == theirs.scores
    for named in (None, "[a] report.html"):  # which a terminal's markup would cut
        written = report(run, out=named)
        assert written == Path(named or "runs/encoder-shapes/report.html")
        assert written.is_file()


def test_a_string_is_one_of_what_may_be_several(data: Dataset) -> None:
    looked: dict[str, Any] = {"n": 4, "perturb": 0}
    one, two = (heatmap(mine(), data, maps=maps, **looked).to_dict() for maps in ("cam", "cam, gradcam"))
    assert {row["map"] for row in one["rows"] if row["kind"] == "map"} == {"cam"}
    assert {row["map"] for row in two["rows"] if row["kind"] == "map"} == {"cam", "gradcam"}
    assert one["options"]["maps"] == ["cam"]
    assert set(probe(mine(), data, also="knn", baselines=False)) == {"linear", "knn", "health"}


def test_maps_of_every_layer(data: Dataset) -> None:
    found = heatmap(mine(), data, layer="all", maps="cam", n=12)
    assert found.name == "map-depth"
    alone = heatmap(load(mine(), channels=1, size=32, layer=1), data, maps="cam", n=12, perturb=0)
    (first,) = (row for row in found.to_dict()["rows"] if row["kind"] == "encoder" and row["depth"] == 1)
    assert first["scores"]["AUROC: corner"]["value"] == alone.scores["AUROC: corner"].value
    assert found.figures()
    assert "Over depth" not in repr(found)


def test_an_exam_of_a_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(examine.PLANS, "quick", examine.Plan(train=14, held=4, test=6))
    found = exam(mine(3), parts=("acuity",), items=("landolt",), size=64)
    assert found.name == "exam"
    assert "a gap" in found.sentences[0]
    assert "landolt" in found.to_dict()["items"]
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_measured_is_refused(data: Dataset) -> None:
    with pytest.raises(ValueError, match=r"found rect-tri in memory.*out='data\.h5'"):
        probe(mine(), render("rect-tri", n=4, size=32))
    with pytest.raises(ValueError, match="found heatmap"):
        probe(mine(), data, also=["heatmap"])
    with pytest.raises(ValueError, match=r"fails on images \[2, 1, 32, 32\]"):
        probe(mine(2), data)


def test_an_encoder_that_is_read_at_a_layer_is_measured_there(data: Dataset) -> None:
    """As the command reads it; a layer may be a number."""
    typed("probe", "--encoder", "py:own_net:encoder", "--data", "shapes.h5", "--no-baselines", "--layer", "1")
    there = json.loads(next(Path("runs").glob("*/results/linear-*@gap.json")).read_text())
    found = probe(load(mine(), channels=1, size=32, layer=1), data)["linear"].to_dict()
    assert encoder_row(found)["predicted"] == encoder_row(there)["predicted"]
    assert encoder_row(found)["dim"] == 8


def test_an_encoder_of_grey_images_is_examined_too(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(examine.PLANS, "quick", examine.Plan(train=14, held=4, test=6))
    found = exam(mine(), parts=("acuity",), items=("landolt",), size=64)
    told = typed("exam", "--encoder", "py:own_net:encoder", "--size", "64", "--parts", "acuity", "--items", "landolt")
    assert found.to_dict()["items"] == told["items"]
    with pytest.raises(ValueError, match="to have 2 channels, but got 3 channels"):
        exam(mine(channels=2), parts=("acuity",), items=("landolt",), size=64)
