"""What another process replaces while a command measures: no result, no embedding is kept of it.

Alone: pytest tests/probes/test_meanwhile.py
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from probekit.models.encoder import load_encoder, save_encoder
from probekit.probes import measure
from probekit.probes.measure import Source, sources
from probekit.restore import export
from probekit.restore.opened import open_encoder
from tests.datasets import small_shapes
from tests.typed import typed

pytestmark = pytest.mark.usefixtures("few_strengths")

SMALL = ["--encoder", "unet", "--set", "model.width=2", "--set", "model.depth=2", "--data", "d.h5"]


@pytest.mark.parametrize("what", ["d.h5", "runs/unet-d/encoder.safetensors"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_replaced_while_it_is_read_gives_no_result(
    what: str, when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a whole file of the same shape, before the first image is read or after the last."""
    small_shapes(tmp_path / "d.h5", n=16, n_test=12, size=16)
    small_shapes(tmp_path / "other.h5", n=16, n_test=12, size=16, generator="rect-tri-published")
    assert typed("probe", *SMALL, "--no-baselines", cwd=tmp_path).returncode == 0
    shutil.rmtree(tmp_path / "runs/unet-d/results")
    shutil.rmtree(tmp_path / "runs/unet-d/embeddings")

    def replace() -> None:
        if what == "d.h5":
            (tmp_path / "other.h5").replace(tmp_path / what)
        else:
            encoder, header = load_encoder(tmp_path / "runs/unet-d")
            rest = {key: value for key, value in header.items() if key not in ("format", "spec")}
            save_encoder(tmp_path / what, encoder, rest | {"epoch": 7})

    def meanwhile(*arguments: Any, **named: Any) -> Iterator[Source]:
        if when == "before":
            replace()
        yield from sources(*arguments, **named)
        if when == "after":
            replace()

    monkeypatch.setattr(measure, "sources", meanwhile)
    done = typed("probe", "unet-d", "--no-baselines", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        f"error: expected {what} as it was, found it replaced while it was read; measure again\n",
    )
    assert not list((tmp_path / "runs/unet-d").glob("results/*"))
    if (what, when) == ("d.h5", "before"):
        assert not list((tmp_path / "runs/unet-d").glob("embeddings/*"))


def test_what_is_replaced_while_it_is_exported_gives_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_shapes(tmp_path / "d.h5", n=16, n_test=12, size=16)
    assert typed("probe", *SMALL, "--no-baselines", cwd=tmp_path).returncode == 0
    weights = tmp_path / "runs/unet-d/encoder.safetensors"

    def meanwhile(*arguments: Any) -> Any:
        found = open_encoder(*arguments)
        encoder, header = load_encoder(weights.parent)
        save_encoder(weights, encoder, {k: v for k, v in header.items() if k not in ("format", "spec")} | {"epoch": 7})
        return found

    monkeypatch.setattr(export, "open_encoder", meanwhile)
    done = typed("export-embeddings", "unet-d", cwd=tmp_path)
    assert (done.returncode, "found it replaced while it was read; measure again" in done.stderr) == (1, True)
    assert not list(weights.parent.glob("embeddings-*"))
