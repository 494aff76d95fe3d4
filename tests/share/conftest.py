"""A run to share."""

import shutil
from pathlib import Path

import pytest

from tests.datasets import small_shapes
from tests.train.test_loop import train


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of conrec."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "data").mkdir()
    small_shapes(folder / "data" / "shapes.h5", size=16)
    train(folder / "data" / "shapes.h5", folder / "runs", epochs=1, name="mine")
    return folder


@pytest.fixture
def home(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"
