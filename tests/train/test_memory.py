"""What does not fit into memory is told: a batch with one that does, and what is no batch by its name.

Alone: pytest tests/train/test_memory.py
"""

import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from probekit.branches.contrastive_crop import ContrastiveCrop
from probekit.device import batch_that_fits, ran_out_of_memory
from probekit.run import Run
from probekit.train import loop, plan
from probekit.train.evaluate import Monitor
from probekit.train.loop import Trainer
from probekit.train.step import TrainingStep
from tests.datasets import small_shapes
from tests.train.test_loop import train

# As torch 2.11 words them on a GPU.
CUBLAS = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
DRIVER = "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call"
CUDNN_8 = "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"
CUDNN_9 = "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_errors_of_that_kind_say_that_memory_ran_out(error: Exception) -> None:
    assert ran_out_of_memory(error)


@pytest.mark.parametrize("text", [CUBLAS, DRIVER, CUDNN_8, CUDNN_9])
def test_so_do_others_by_their_words(text: str) -> None:
    assert ran_out_of_memory(RuntimeError(text))


def test_so_does_torch_on_a_cpu() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58)
    assert ran_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
        RuntimeError("CUDA error: device-side assert triggered"),
        ValueError(CUBLAS),
    ],
)
def test_others_do_not(error: Exception) -> None:
    assert not ran_out_of_memory(error)


@pytest.mark.parametrize(
    ("batch", "most", "fits", "tries"),
    [(256, 100, 64, [128, 64]), (256, 1, None, [128, 64, 32, 16, 8, 4, 2]), (24, 24, 12, [12]), (3, 3, None, [])],
)
def test_halves_until_it_fits(batch: int, most: int, fits: int | None, tries: list[int]) -> None:
    tried: list[int] = []

    def attempt(count: int) -> None:
        tried.append(count)
        if count > most:
            raise RuntimeError(CUBLAS) if count % 8 else torch.OutOfMemoryError("CUDA out of memory")

    assert batch_that_fits(attempt, batch) == fits
    assert tried == tries


@pytest.mark.parametrize(("most", "advice"), [(2, "2 does: type --batch-size 2"), (0, "--set model.width=2")])
def test_a_batch_that_does_not_fit_says_which_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, advice: str
) -> None:
    data = tmp_path / "shapes.h5"
    small_shapes(data)
    rehearse = TrainingStep.rehearse

    def full(trainer: Trainer, display: object) -> bool:
        raise RuntimeError(CUDNN_9)

    def room(step: TrainingStep, batch: int) -> None:
        rehearse(step, batch)
        if batch > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "fit", full)
    monkeypatch.setattr(TrainingStep, "rehearse", room)
    with pytest.raises(ValueError, match=f"a batch of 8 images does not fit .*{advice}"):
        train(data, tmp_path)
    assert Run(tmp_path / "run").read()["state"] == "failed"


NEEDS_CROPS = {"branch.contrastive-crop.warmup": 0.0}
CROPS = ("contrastive-crop",)
NEEDS_BANK = {"branch.xcorr.clusters": 4}


@pytest.mark.parametrize(
    ("where", "name", "branches", "options", "said", "state"),
    [
        (plan, "open_split", (), {}, "the images of split train .* --set data.placement=host", None),
        (plan, "on_device", (), {}, "the weights .* try --set model.width=2", None),
        (loop, "build_step", (), {}, "the optimizer .* try --set model.width=2", "failed"),
        (Monitor, "score", (), {}, "the embeddings that are scored .* with --batch-size 4", "failed"),
        (ContrastiveCrop, "place", CROPS, NEEDS_CROPS, "which contrastive-crop reads, .* --batch-size 4", "failed"),
        (Trainer, "_project_all", ("xcorr",), NEEDS_BANK, "which xcorr reads, .* with --batch-size 4", "failed"),
    ],
)
def test_what_did_not_fit_is_told_and_the_batch_is_not_blamed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: object,
    name: str,
    branches: tuple[str, ...],
    options: dict[str, Any],
    said: str,
    state: str | None,
) -> None:
    data = tmp_path / "shapes.h5"
    small_shapes(data)

    def full(*args: object, **kwargs: object) -> None:
        raise RuntimeError(DRIVER)

    monkeypatch.setattr(where, name, full)
    with pytest.raises(ValueError, match=rf"{said}") as caught:
        train(data, tmp_path, branches=branches, options=options)
    assert "do not fit into the memory of cpu" in str(caught.value)
    assert "a batch of" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert state == (Run(tmp_path / "run").read()["state"] if (tmp_path / "run").exists() else None)


def test_other_errors_there_are_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "shapes.h5"
    small_shapes(data)

    def broken(monitor: Monitor, encoder: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Monitor, "score", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        train(data, tmp_path)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="a matter of the GNU C library, from 2.33")
def test_freed_memory_is_kept_for_the_next_activation() -> None:
    """What the allocator itself says of a large tensor, in a process of its own: mapped anew, or on the heap and kept.

    Page faults would say it too, but they vary: a small object in a freed block sends the next large one elsewhere.
    """
    code = """
import ctypes, torch
from probekit.device import keep_freed_memory
fields = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
class Info(ctypes.Structure):  # malloc.h: hblkhd bytes are mapped apart, fordblks bytes are free on the heap
    _fields_ = [(field, ctypes.c_size_t) for field in fields]
mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
def mapped_and_free():
    before = mallinfo().hblkhd
    activation = torch.ones(40 * 2**20, dtype=torch.uint8)
    mapped = mallinfo().hblkhd - before
    del activation
    return mapped >> 20, mallinfo().fordblks >> 20
print(*mapped_and_free())
assert keep_freed_memory()
print(*mapped_and_free())
"""
    root = Path(__file__).parents[2]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, check=True, text=True)
    mapped, kept = {}, {}
    for how, line in zip(("as it is", "kept"), said.stdout.splitlines(), strict=True):
        mapped[how], kept[how] = map(int, line.split())
    assert mapped["as it is"] >= 40
    assert mapped["kept"] == 0
    assert kept["as it is"] < 40 <= kept["kept"]
