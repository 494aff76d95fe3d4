"""Files of tensors: what is read is what was written, or refused; every flipped bit.

Alone: pytest tests/models/test_tensor_files.py
"""

import os
import tracemalloc
import zipfile
import zlib
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from probekit.models.encoder import Encoder, load_encoder, save_encoder
from probekit.models.tensor_files import read_tensors, read_torch, save_tensors
from probekit.restore.build import FORMAT, PARTS, load_checkpoint, save_checkpoint
from tests.datasets import ABOUT

FLIPS = 150
CPU = torch.device("cpu")


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"w": torch.randn(30, 7, generator=generator), "steps": torch.tensor(3), "half": torch.ones(5).half()}


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[key], value) for key, value in wanted.items())


def flipped(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_safetensors_are_those_that_others_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, tensors(), {"name": 'é "quoted"', "spec": {"n": 1}})
    header, found = read_tensors(path)
    assert header == {"name": 'é "quoted"', "spec": {"n": 1}}
    assert same(found, tensors())
    with safe_open(path, framework="pt") as file:
        assert torch.equal(file.get_tensor("w"), tensors()["w"])
        checksum = file.metadata()["probekit"].partition('"crc32": "')[2][:8]
    data = path.read_bytes()
    assert data.count(checksum.encode()) == 1
    assert int(checksum, 16) == zlib.crc32(data.replace(checksum.encode(), b"0" * 8))
    again = tmp_path / "b.safetensors"
    save_tensors(again, dict(reversed(tensors().items())), {"spec": {"n": 1}, "name": 'é "quoted"'})
    assert again.read_bytes() == data, "equal runs have equal files"


def test_no_flipped_bit_of_safetensors_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, tensors(), {"spec": {}})
    whole = path.read_bytes()
    for bit in np.random.default_rng(0).integers(0, 8 * len(whole), FLIPS):
        path.write_bytes(whole)
        flipped(path, int(bit))
        with pytest.raises(ValueError, match="expected") as error:
            read_tensors(path)
        assert "\n" not in str(error.value)


def test_a_flipped_bit_of_a_checkpoint_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    """A zip file has bytes that nobody reads: times, padding."""
    path = tmp_path / "last.pt"
    header = {**ABOUT, "spec": {"channels": 1, "pooling": "gap"}}
    content = {**{part: {} for part in PARTS}, "method": tensors(), "progress": {"epoch": 1}, "encoder_header": header}
    save_checkpoint([path], content)
    whole, refused = path.read_bytes(), 0
    for bit in np.random.default_rng(0).integers(0, 8 * len(whole), FLIPS):
        path.write_bytes(whole)
        flipped(path, int(bit))
        with suppress(ValueError):
            assert same(load_checkpoint(path, CPU)["method"], tensors())
            continue
        refused += 1
    assert refused > FLIPS / 4
    inside = whole.index(tensors()["w"].numpy().tobytes()[:64])
    path.write_bytes(whole)
    flipped(path, 8 * inside + 3)
    with pytest.raises(ValueError, match="it is damaged"):
        load_checkpoint(path, CPU)


def test_what_is_cut_short_or_something_else_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, tensors(), {})
    torch.save({"format": FORMAT}, tmp_path / "bare.pt")
    torch.save([1], tmp_path / "list.pt")
    whole = path.read_bytes()
    for size in (0, 7, 60, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="expected"):
            read_tensors(path)
        with pytest.raises(ValueError, match="expected a checkpoint"):
            read_torch(path, CPU)
    with pytest.raises(ValueError, match="expected method, optimizer, rng, progress, encoder_header in"):
        load_checkpoint(tmp_path / "bare.pt", CPU)
    with pytest.raises(ValueError, match="expected a dictionary"):
        read_torch(tmp_path / "list.pt", CPU)


def test_what_is_vast_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Holes beyond all memory; a few bytes that unpack to many."""
    monkeypatch.setattr("probekit.models.tensor_files.host_memory", lambda: 2**30)
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(2**40)
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as records:
        records.writestr("archive/data.pkl", bytes(10**7))
    for read in (read_tensors, partial(read_torch, device=CPU)):
        with pytest.raises(ValueError, match=r"at most the 1 GiB of this machine's memory in .*, found 1024"):
            read(tmp_path / "holes")
    with pytest.raises(ValueError, match="10000000 bytes packed into"):
        read_torch(tmp_path / "bomb", CPU)
    os.truncate(tmp_path / "holes", 2**29)
    tracemalloc.start()
    with pytest.raises(ValueError, match="another kind of file"):
        read_tensors(tmp_path / "holes")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: {**state, "more": torch.ones(2)}, "expected no tensor for more"),
        (lambda state: {key: value.to(torch.complex64) for key, value in state.items()}, "found complex numbers"),
        (lambda state: {key: value[:1] for key, value in state.items() if value.ndim}, "expected real numbers"),
    ],
)
def test_tensors_of_another_encoder_are_one_line(tmp_path: Path, change: object, told: str) -> None:
    encoder = Encoder(channels=1, pooling="gap", width=2, depth=2)
    save_encoder(tmp_path / "encoder.safetensors", encoder, ABOUT)
    header, state = read_tensors(tmp_path / "encoder.safetensors")
    save_tensors(tmp_path / "encoder.safetensors", change(state), header)  # type: ignore[operator]
    with pytest.raises(ValueError, match=told) as error:
        load_encoder(tmp_path)
    assert "\n" not in str(error.value)


def test_checkpoints_of_one_state_are_written_in_turn_and_pickled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one, from which a killed run goes on, when the others stand."""
    best, last = tmp_path / "best_val.pt", tmp_path / "last.pt"
    saves: list[bool] = []
    save = torch.save

    def watched(*given: Any) -> None:
        saves.append(last.exists())
        save(*given)

    monkeypatch.setattr(torch, "save", watched)
    save_checkpoint([best, last], {"progress": {"epoch": 1}})
    assert saves == [False]
    assert best.stat().st_mtime_ns <= last.stat().st_mtime_ns
    assert best.read_bytes() == last.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best_val.pt", "last.pt"]
