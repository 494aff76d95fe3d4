"""The one way from a run to its encoder: each file is opened and hashed once, each part made once.

Alone: pytest tests/restore/test_opened.py
"""

import copy
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from probekit.config import resolve
from probekit.data.split import open_split
from probekit.h5 import read_info
from probekit.models import encoder as encoder_files
from probekit.models.extract import extract
from probekit.registry import METHODS, POOLS, get
from probekit.restore import build as checkpoint_files
from probekit.restore import opened
from probekit.restore.build import build_method
from probekit.restore.opened import open_encoder
from probekit.restore.pooled import Parts, pooled
from probekit.run import Run
from probekit.weights import LAST, Weights
from tests.datasets import small_shapes
from tests.typed import typed

CPU = torch.device("cpu")
MAP = ("--maps", "gradcam-ssl")  # it needs whole runs, and embeds images of train


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset, and a run with a branch, a decoder and a checkpoint chosen on val."""
    folder = tmp_path_factory.mktemp("home")
    small_shapes(folder / "d.h5", n=24, n_test=12, size=16, pairs=True)
    words = ("--data", "d.h5", "--epochs", "1", "--batch-size", "8", "--branch", "lcr", "--set", "model.width=4")
    assert typed("pretrain", "conrec", *words, "--name", "run", cwd=folder).returncode == 0
    return folder


@pytest.fixture
def touched(home: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file of weights was read, and hashed."""
    found: Counter[str] = Counter()
    monkeypatch.chdir(home)
    for module, name in (
        (encoder_files, "read_tensors"),
        (encoder_files, "read_torch"),
        (checkpoint_files, "read_torch"),
        (opened, "sha256"),
    ):
        monkeypatch.setattr(module, name, _counted(getattr(module, name), found))
    return found


def _counted(real: Any, found: Counter[str]) -> Any:
    def counted(path: Path, *args: Any) -> Any:
        found[f"{'hashed' if real.__name__ == 'sha256' else 'read'} {path.name}"] += 1
        return real(path, *args)

    return counted


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (("probe", "run", "--knn", "--retrieval"), ("encoder.safetensors",)),
        (("probe", "run", "--pool", "branch"), ("encoder.safetensors", "last.pt")),
        (("heatmap", "run", "--n", "4", "--perturb", "2", *MAP), ("encoder.safetensors", "last.pt")),
        (
            ("heatmap", "run", "--n", "4", "--perturb", "2", *MAP, "--pool", "branch"),
            ("encoder.safetensors", "last.pt"),
        ),
        (("heatmap", "run", "--n", "4", "--perturb", "0", *MAP, "--checkpoint", "best_test"), ("best_test.pt",)),
        (("export-embeddings", "run", "--overwrite"), ("encoder.safetensors",)),
        (("show", "run"), ("encoder.safetensors", "last.pt")),
    ],
)
def test_each_file_is_opened_and_hashed_once(
    home: Path,
    touched: Counter[str],
    words: tuple[str, ...],
    files: tuple[str, ...],
    plain_pictures: None,
    few_baselines: None,
) -> None:
    done = typed(*words, cwd=home)
    assert done.returncode == 0, done.stderr
    hashed = {} if words[0] == "show" else {f"hashed {files[0]}": 1}
    assert touched == hashed | {f"read {file}": 1 for file in files}


def test_what_it_embeds_is_what_its_encoder_makes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    found = open_encoder(Run(home / "runs/run"), LAST, CPU)
    info, notes = found.dataset(None)
    images = open_split(info.path, "test", CPU, max_size=1024).images
    for one in (found, found.random(3)):
        np.testing.assert_array_equal(one.embed(info, "test"), extract(one.encoder, images))
    assert (found.row, found.random(3).row, notes) == ("conrec last", "random weights", [])
    assert found.decodes
    assert found.whole is found.method


def test_weights_that_were_replaced_after_they_were_read_have_no_hash(home: Path, tmp_path: Path) -> None:
    """Else embeddings of the old weights would be kept under the hash of the new ones."""
    shutil.copytree(home / "runs/run", tmp_path / "run")
    found = open_encoder(Run(tmp_path / "run"), LAST, CPU)
    file = tmp_path / "run/encoder.safetensors"
    shutil.copy(file, tmp_path / "other")
    (tmp_path / "other").replace(file)
    with pytest.raises(ValueError, match=r"expected .*encoder.safetensors as it was, found it replaced"):
        _ = found.hash


def test_a_projection_is_what_the_head_makes_of_the_embedding(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    run = Run(home / "runs/run")
    plain, projected = (open_encoder(run, weights, CPU) for weights in (LAST, Weights(pool="projection")))
    info, _ = plain.dataset(None)
    assert plain.whole.projection is not None
    with torch.no_grad():
        made = plain.whole.projection(torch.from_numpy(np.array(plain.embed(info, "test"))))
    found = projected.embed(info, "test")
    np.testing.assert_allclose(found, made, rtol=1e-5, atol=1e-6)
    assert projected.encoder.dim == found.shape[1] == 128, "the ConRec paper's"
    assert not np.allclose(projected.random(3).embed(info, "test"), found)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_projects_by_its_own_head_or_says_that_it_has_none(name: str) -> None:
    method = build_method(
        resolve(name, get(METHODS, "method", name), preset="quick", seed=0, overrides=["model.width=4"]),
        channels=1,
        classes=3,
    ).eval()
    parts, encoder = Parts(projection=method.projection), copy.deepcopy(method.encoder)
    if method.projection is None:
        with pytest.raises(ValueError, match="expected a run whose method has a projection head"):
            pooled(encoder, "projection", parts)
        return
    with torch.no_grad():
        images = torch.rand(2, 1, 32, 32)
        found = pooled(encoder, "projection", parts)(images).pooled
        assert torch.allclose(found, method.projection(method.encoder(images).pooled).float(), atol=1e-6)
    assert encoder.dim == found.shape[1]


def test_random_weights_beside_it_are_never_its_own(home: Path) -> None:
    found = open_encoder(Run(home / "runs/run"), LAST, CPU)
    size = found.size(read_info(home / "d.h5"))
    other = found.beside(5, size)
    assert other is not None
    assert other.seed == 5
    again = other.beside(5, size)
    assert again is not None
    assert again.seed == 6
    monkey = found.random(7)
    monkey.random = lambda seed: monkey  # type: ignore[method-assign]
    assert monkey.beside(7, size) is None, "nothing in it can be drawn anew"


@given(
    st.sampled_from(["last", "best_val", "best_test", "epoch-0003"]),
    st.sampled_from([None, *POOLS]),
    st.sampled_from([None, "6", "block 6", "net.blocks.11", "a:b"]),
)
def test_weights_print_as_they_are_read(checkpoint: str, pool: str | None, layer: str | None) -> None:
    if layer is not None and pool is not None and not POOLS[pool].of_layers:
        with pytest.raises(ValueError, match=r"expected --pool gap, max, norm, cls, cls\+gap with --layer"):
            Weights(checkpoint, pool, layer)
        return
    weights = Weights(checkpoint, pool, layer)
    named = checkpoint if layer is None else f"{checkpoint}:{layer}"
    assert str(weights) == (named if pool is None else f"{named}@{pool}")
    assert Weights.parse(str(weights)) == weights
    assert Weights.parse(str(weights), "gap", "7") == Weights(checkpoint, "gap", "7")
    assert Weights.parse(checkpoint, pool, layer) == weights
    assert weights.file(Path("run")) == {
        "last": Path("run/encoder.safetensors"),
        "epoch-0003": Path("run/checkpoints/epoch-0003.safetensors"),
    }.get(checkpoint, Path(f"run/checkpoints/{checkpoint}.pt"))
