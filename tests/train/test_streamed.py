"""Images that stay off the device: trained on bit for bit as if they were on it, and read ahead.

Alone: pytest tests/train/test_streamed.py
"""

import io
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor

from probekit.data import split as data_module
from probekit.data.split import AHEAD, StreamedImages, feed, open_split
from probekit.run import Run
from probekit.train import loop, pace
from probekit.train.pretrain import resume
from tests.datasets import small_shapes
from tests.h5.test_encoded import one_label, smooth, write
from tests.train.test_loop import assert_same, assert_same_run, content, data, quiet, stop_after, train  # noqa: F401

CPU = torch.device("cpu")
PIXELS = torch.arange(40 * 12, dtype=torch.uint8).view(40, 1, 3, 4)


def read(index: Tensor) -> Tensor:
    return PIXELS[index]


def streamed() -> StreamedImages:
    return StreamedImages(read, PIXELS.shape, CPU)


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 39), min_size=1, max_size=3), max_size=12))
def test_feeds_what_a_tensor_would(rows: list[list[int]]) -> None:
    batches = [torch.tensor(row) for row in rows]
    pairs = list(zip(feed(streamed(), batches), feed(PIXELS, batches), strict=True))
    assert len(pairs) == len(rows)
    assert all(torch.equal(a, b) for mine, theirs in pairs for a, b in zip(mine, theirs, strict=True))


def test_rows_are_read_as_a_tensor_gives_them() -> None:
    images = streamed()
    assert images.shape == PIXELS.shape
    assert len(images) == 40
    assert torch.equal(images[3:9], PIXELS[3:9])
    assert torch.equal(images[torch.tensor([5, 1, 5])], PIXELS[[5, 1, 5]])


def test_reads_some_batches_ahead_and_no_more() -> None:
    begun, go = [], threading.Event()

    def slow(index: Tensor) -> Tensor:
        begun.append(int(index[0]))
        return read(index)

    batches = [torch.tensor([i]) for i in range(20)]
    before = set(threading.enumerate())
    ahead = StreamedImages(slow, PIXELS.shape, CPU).ahead(batches)
    next(ahead)
    deadline = time.monotonic() + 60
    while len(begun) < AHEAD and time.monotonic() < deadline:
        go.wait(0.01)
    assert begun == list(range(AHEAD))
    ahead.close()  # type: ignore[attr-defined]
    assert not [new for new in set(threading.enumerate()) - before if new.name.startswith("images")]


def test_what_breaks_a_read_reaches_the_trainer() -> None:
    def broken(index: Tensor) -> Tensor:
        raise ValueError("image 7 of train is damaged")

    with pytest.raises(ValueError, match="image 7"):
        list(StreamedImages(broken, PIXELS.shape, CPU).ahead([torch.tensor([7])]))


@pytest.mark.parametrize("max_size", [32, 16])
def test_training_from_the_hosts_memory_is_training_on_the_device(data: Path, tmp_path: Path, max_size: int) -> None:  # noqa: F811
    size = {"data.max_size": max_size}
    resident, _ = train(data, tmp_path, name="device", options={**size, "data.placement": "device"})
    host, _ = train(data, tmp_path, name="host", options={**size, "data.placement": "host"})
    assert_same_run(resident, host)


def test_a_stopped_run_goes_on_where_it_was(
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"data.placement": "host"}
    whole, _ = train(data, tmp_path, name="whole", options=options)
    stop_after(6, monkeypatch)
    stopped, finished = train(data, tmp_path, name="stopped", options=options)
    assert not finished
    monkeypatch.undo()
    resume(stopped, epochs=None, device="cpu", console=quiet())
    assert_same(content(whole), content(stopped))


@pytest.mark.parametrize("channels", [1, 3])
def test_training_on_encoded_images_is_training_on_what_they_decode_to(tmp_path: Path, channels: int) -> None:
    shape = (32, 32, 3)[: 2 + channels // 3]
    path = tmp_path / "encoded.h5"
    splits = {name: (smooth(n, shape, seed=n), one_label(n)) for name, n in (("train", 24), ("test", 9))}
    write(path, splits, encoded=True)
    runs = {
        place: train(path, tmp_path, name=place, options={"data.placement": place, "data.max_size": 16})[0]
        for place in ("device", "host", "file")
    }
    assert_same_run(runs["device"], runs["host"])
    assert_same_run(runs["device"], runs["file"])


def test_pixels_cannot_be_left_in_the_file(data: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(ValueError, match=r"expected encoded images in split train of .*, found pixels"):
        train(data, tmp_path, options={"data.placement": "file"})


def test_auto_streams_what_has_no_room_on_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.h5"
    small_shapes(path, n=6, n_test=2)
    assert open_split(path, "train", CPU, max_size=32).placement == "device"
    gpu, free = torch.device("cuda"), [6 * 32 * 32 * 2 - 1]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: free)
    assert open_split(path, "train", gpu, max_size=32).placement == "host"
    free[0] += 1
    monkeypatch.setattr(data_module, "host_memory", lambda: 6 * 32 * 32 * 2 - 1)
    with monkeypatch.context() as patch:
        patch.setattr(data_module, "_resident", lambda *_: torch.empty(0))
        assert open_split(path, "train", gpu, max_size=32).placement == "device"  # whatever the host holds
    free[0] -= 1
    with pytest.raises(ValueError, match="import them again with --max-gb"):
        open_split(path, "train", gpu, max_size=32)
    write(path, {"train": (smooth(6, (32, 32)), one_label(6))}, encoded=True)
    assert open_split(path, "train", gpu, max_size=32).placement == "file"


def test_a_run_that_waits_for_images_says_so_once(
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "WAITS", 0.0)  # how long a step takes is a matter of the machine
    monkeypatch.setattr(loop, "READ_AFTER", 0.0)
    monkeypatch.setattr(pace, "READ_AFTER", 0.0)
    out = io.StringIO()
    console = Console(file=out, width=300)
    monkeypatch.setattr("tests.train.test_loop.quiet", lambda: console)
    train(data, tmp_path, options={"data.placement": "host"})
    assert "the images stay in the host's memory, 8.2 kB of pixels" in out.getvalue()
    assert out.getvalue().count("the images come more slowly than the steps take them") == 1


def test_encoders_are_kept_for_good_where_asked(data: Path, tmp_path: Path) -> None:  # noqa: F811
    run: Run = train(data, tmp_path, epochs=5, options={"train.keep_every": 2})[0]
    kept = sorted(path.name for path in run.checkpoints.glob("*.safetensors"))
    assert kept == ["epoch-0002.safetensors", "epoch-0004.safetensors", "epoch-0005.safetensors"]
    assert run.kept(5).read_bytes() == run.encoder.read_bytes()
    assert run.kept(2).read_bytes() != run.kept(4).read_bytes()
