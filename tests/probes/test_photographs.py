"""Photographs probed: through which test crop, said in results and command, and a head that is trained on whole ones.

Alone: pytest tests/probes/test_photographs.py
"""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from probekit.cli import app
from probekit.data.split import open_split, read_chunks, refuse_changed
from probekit.h5 import CentreCrop, open_encoded, read_info, read_split, seen_by, verify
from probekit.run import Run
from tests.datasets import small_shapes
from tests.h5.test_photographs import photographs
from tests.train.test_loop import train

OTHER = CentreCrop(24, 24)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("probed")
    return train(photographs(folder / "a.h5", 48), folder / "runs", epochs=1)[0]


def typed(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def test_seen_through_another_crop_it_is_another_dataset(tmp_path: Path) -> None:
    """What the file itself would be with that crop: its images and its hash, but for the masks."""
    path = photographs(tmp_path / "a.h5", 20)
    same = photographs(tmp_path / "b.h5", 20, masked=False, crop=OTHER)
    info, expected = seen_by(verify(path), OTHER), verify(same)
    assert info.content_hash != read_info(path).content_hash
    assert (info.first.shape, info.first.masked, info.mask_names) == ((24, 24, 3), False, ())
    images = read_split(same, "train").images
    np.testing.assert_array_equal(np.concatenate(list(read_chunks(info, "train"))), images)
    np.testing.assert_array_equal(open_encoded(path, "train", OTHER).image(3), images[3])
    for placement in ("device", "file"):
        split = open_split(path, "train", torch.device("cpu"), max_size=64, crop=OTHER, placement=placement)
        found = split.images[torch.tensor([3, 9])].permute(0, 2, 3, 1).numpy()
        np.testing.assert_array_equal(found, images[[3, 9]])
    refuse_changed(info)
    assert seen_by(expected, OTHER) == expected
    without = seen_by(verify(photographs(tmp_path / "c.h5", 20, masked=False)), OTHER)
    assert without.content_hash == expected.content_hash


def test_a_file_that_was_replaced_is_found_out(tmp_path: Path) -> None:
    path = photographs(tmp_path / "a.h5", 20)
    info = seen_by(read_info(path), OTHER)
    photographs(path, 19)
    with pytest.raises(ValueError, match="replaced while it was read"):
        refuse_changed(info)
    path.unlink()
    small_shapes(path, size=16)
    with pytest.raises(ValueError, match="replaced while it was read"):
        refuse_changed(info)


def test_probe_says_the_crop(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run.path.parent.parent
    own = json.loads(typed(folder, monkeypatch, "probe", "run", "--json", "--no-baselines"))["linear"]
    assert "test crop 20:16: of each photograph, its shorter side made 20 px, the middle 16 px" in own["notes"]
    other = json.loads(typed(folder, monkeypatch, "probe", "run", "--json", "--no-baselines", "--test-crop", "24:24"))
    found = other["linear"]
    assert any("test crop 24:24" in line for line in found["notes"])
    assert "--test-crop 24:24" in found["command"]
    assert found["data_hash"] == seen_by(read_info(run.data()), OTHER).content_hash != own["data_hash"]
    again = json.loads(typed(folder, monkeypatch, *shlex.split(found["command"])[1:], "--json", "--no-baselines"))
    assert again["linear"]["rows"] == found["rows"]
    assert {"linear-tuned-last.json", "linear-tuned-last-24-24.json"} <= {p.name for p in run.results.iterdir()}
    said = typed(folder, monkeypatch, "probe", "run", "--no-baselines", "--test-crop", "24:24")
    assert said.endswith("next: probekit probe run --test-crop 24:24 --protocol fixed\n"), "maps are of the file's own"
    page = folder / "report.html"
    typed(folder, monkeypatch, "report", "run", "--out", str(page))
    text = page.read_text()
    assert "test crop 20:16" in text
    assert "test crop 24:24" in text


def test_a_head_is_trained_on_crops_of_the_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run.path.parent.parent
    words = ("probe", "run", "--json", "--no-baselines", "--sgd", "conrec", "--epochs", "2")
    first = json.loads(typed(folder, monkeypatch, *words))["sgd"]
    again = json.loads(typed(folder, monkeypatch, *words))["sgd"]
    assert first["rows"] == again["rows"]
    other = json.loads(typed(folder, monkeypatch, *words, "--seed", "1"))["sgd"]
    assert first["rows"][0]["losses"] != other["rows"][0]["losses"]


@pytest.mark.parametrize(("crop", "said"), [("24", "RESIZE:SIDE"), ("16:24", "no larger than what it is cut from")])
def test_a_crop_that_is_none_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch, crop: str, said: str) -> None:
    monkeypatch.chdir(run.path.parent.parent)
    done = CliRunner().invoke(app, ["probe", "run", "--test-crop", crop])
    assert said in str(done.exception)


def test_masks_are_of_the_files_own_crop(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.path.parent.parent)
    done = CliRunner().invoke(app, ["probe", "run", "--dense", "--test-crop", "24:24"])
    assert "expected masks for --dense, found none seen through the test crop 24:24" in str(done.exception)


def test_images_of_one_size_have_no_test_crop(tmp_path: Path) -> None:
    info = small_shapes(tmp_path / "a.h5", size=16)
    with pytest.raises(ValueError, match="import them again with --store short:512"):
        seen_by(info, OTHER)
