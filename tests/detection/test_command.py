"""`probekit detect` on a small network: what is written, told and reported, what is refused, and what is kept.

Alone: pytest tests/detection/test_command.py
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from probekit.cli import app
from probekit.data.generate import generate
from probekit.detection import protocol, run, train
from probekit.detection.measurement import Detection
from probekit.detection.protocol import QUICK
from probekit.files import read_json
from probekit.measurement import measurement, read_result
from probekit.reports.build import build
from probekit.reports.collect import collect
from probekit.reports.page import markdown
from probekit.run import Run
from probekit.statistics import mean_over_seeds
from tests.datasets import small_shapes

SMALL = replace(QUICK, steps=3, drops=(2,), warmup=1, batch=2, conv=4, hidden=8, regions=8, anchors=(12, 24))
UNET = ("--encoder", "unet", "--set", "model.width=2", "--set", "model.depth=3")
NAME = "unet-scenes"  # as its run is called


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(protocol, "QUICK", SMALL)
    generate("scenes", out=tmp_path / "data/scenes.h5", n=6, n_test=3, size=32, seed=1)


def detect(*words: str) -> Result:
    return CliRunner().invoke(app, ["detect", *words, "--device", "cpu"])


def measured(*words: str) -> dict[str, Any]:
    done = detect(*words, "--preset", "quick", "--json")
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


def test_what_is_written_is_told_and_reported() -> None:
    result = measured(*UNET, "--trials", "3")
    place = Run(Path("runs") / NAME)
    assert read_json(place.results / "detect-quick-last.json") == result
    reader = read_result(result)
    assert isinstance(reader, Detection)
    own, random = result["rows"]
    assert (own["kind"], random["name"]) == ("encoder", "random weights")
    for row in (own, random):
        assert [trial["seed"] for trial in row["trials"]] == [0, 1, 2]
        for kind in ("boxes", "masks"):
            for name in ("AP50", "AP", "AP75"):
                values = [trial[kind][name] for trial in row["trials"]]
                expected = mean_over_seeds(values)
                assert row[kind][name] == {"value": expected["mean"], "ci": expected["ci"]}
    assert [each["name"] for each in own["per_class"]] == ["rect-tri", "landolt", "navon"]
    assert set(reader.scores(own)) == {"AP50", "AP", "AP75", "mask AP50", "mask AP", "mask AP75"} == set(reader.named())
    lines = reader.sentences(result)
    difference = np.mean(
        [a["boxes"]["AP"] - b["boxes"]["AP"] for a, b in zip(own["trials"], random["trials"], strict=True)]
    )
    assert lines[0].startswith(
        f"AP of unet (random weights) last minus that of random weights: {100 * difference:+.1f} points"
    )
    assert [table.key for table in reader.tables(result)] == ["scores", "classes"]
    assert result["recipe"]["steps"] == 3
    page = markdown(build(collect([place])))
    assert "Mask R-CNN" in page
    assert "mask AP50 %" in page
    assert (place.path / "detect").is_dir()
    assert not list((place.path / "detect").glob("*.pt"))


def test_it_goes_on_after_an_interruption_and_asks_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured(*UNET, "--trials", "2", "--no-baselines")
    with monkeypatch.context() as patch:
        patch.setattr(train.Training, "run", lambda *_: pytest.fail("a training"))
        again = measured(NAME, "--trials", "1", "--no-baselines")
    assert again["rows"][0]["trials"] == whole["rows"][0]["trials"][:1]

    generate("scenes", out=Path("data/scenes.h5"), n=6, n_test=3, size=32, seed=2, overwrite=True)
    assert measured(NAME, "--trials", "1", "--no-baselines")["rows"][0]["trials"] != whole["rows"][0]["trials"][:1]
    generate("scenes", out=Path("data/scenes.h5"), n=6, n_test=3, size=32, seed=1, overwrite=True)
    for each in (Path("runs") / NAME / "detect").glob("*"):
        each.unlink()
    monkeypatch.setattr(train, "EVERY", 0.0)
    steps: list[int] = []
    step = train.Training._step

    def interrupted(self: train.Training, *given: Any) -> float:
        steps.append(self.seed)
        if len(steps) == 5:  # the second of the second training
            raise KeyboardInterrupt
        return step(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(train.Training, "_step", interrupted)
        assert detect(NAME, "--preset", "quick", "--trials", "2", "--no-baselines").exit_code == 130
    kept = sorted(path.suffix for path in (Path("runs") / NAME / "detect").glob("*"))
    assert kept == [".json", ".pt"]
    steps.clear()

    def counted(self: train.Training, *given: Any) -> float:
        steps.append(self.seed)
        return step(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(train.Training, "_step", counted)
        gone_on = measured(NAME, "--trials", "2", "--no-baselines")
    assert steps == [1, 1]
    assert gone_on["rows"] == whole["rows"]


def test_boxes_alone_make_a_faster_rcnn() -> None:
    generate("scenes", out=Path("data/boxes.h5"), n=6, n_test=3, size=32, seed=1, masks=False)
    result = measured(*UNET, "--data", "data/boxes.h5", "--trials", "1", "--no-baselines")
    (row,) = result["rows"]
    assert row["masks"] == {}
    assert result["how"].startswith("Faster R-CNN")
    assert set(measurement("detect").scores(row)) == {"AP50", "AP", "AP75"}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("--data", "data/plain.h5"),
            "expected a train and a test split with boxes in data/plain.h5, found none in train",
        ),
        (("--trials", "0"), "--trials"),
        (("--protocol", "moco"), "--protocol"),
    ],
)
def test_what_does_not_go_is_one_line(words: tuple[str, ...], line: str) -> None:
    small_shapes(Path("data/plain.h5"), n=4, n_test=2)
    measured(*UNET, "--data", "data/scenes.h5", "--trials", "1", "--no-baselines")
    done = detect(NAME, "--preset", "quick", *words)
    assert done.exit_code in (1, 2)
    assert line in f"{done.output}{done.exception}"


@pytest.mark.parametrize(
    "damaged", ["{}", '{"seed": 0, "loss": 1}', '{"seed": 0, "loss": 1, "boxes": 2, "masks": {}}', "[]", "{"]
)
def test_damaged_scores_of_a_training_are_refused(damaged: str) -> None:
    measured(*UNET, "--trials", "1", "--no-baselines")
    (done,) = (Path("runs") / NAME / "detect").glob("*.json")
    done.write_text(damaged)
    said = detect(NAME, "--preset", "quick", "--trials", "1", "--no-baselines")
    assert said.exit_code == 1
    assert isinstance(said.exception, ValueError)
    assert str(done) in str(said.exception)


@pytest.mark.parametrize("damaged", [{"detector": []}, {"detector": {}}, [1], b"junk"])
def test_a_damaged_state_of_a_training_is_refused(damaged: Any) -> None:
    measured(*UNET, "--trials", "1", "--no-baselines")
    (done,) = (Path("runs") / NAME / "detect").glob("*.json")
    state = done.with_suffix(".pt")
    done.unlink()
    if isinstance(damaged, bytes):
        state.write_bytes(damaged)
    else:
        torch.save(damaged, state)
    said = detect(NAME, "--preset", "quick", "--trials", "1", "--no-baselines")
    assert isinstance(said.exception, ValueError)
    assert str(said.exception) == f"expected the state of a training in {state}, found another; remove it"


def test_one_image_is_enough() -> None:
    generate("scenes", out=Path("data/one.h5"), n=1, n_test=1, size=16, seed=1)
    assert measured(*UNET, "--data", "data/one.h5", "--trials", "1", "--no-baselines")["n"] == 1


def test_without_pycocotools_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "find_spec", lambda name: None)
    done = detect(*UNET)
    assert done.exit_code == 1
    assert "expected pycocotools, which scores detectors, found none; type: pip install" in str(done.exception)
