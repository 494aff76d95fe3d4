"""The benchmarks compare like with like.

Run alone: python -m pytest tests/test_benchmarks.py
"""

import argparse
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

from benchmarks.generators import overlap, peer_with_masks, rows_of
from benchmarks.laws import LAWS, rows
from benchmarks.report import interleaved
from benchmarks.scenes import SCENES
from generators import GENERATORS
from probekit.config import resolve
from probekit.device import allow_tf32
from probekit.models.encoder import Encoder, Features
from probekit.registry import METHODS, get
from probekit.train.step import WARM_UP


@pytest.mark.parametrize("name", SCENES)
def test_the_peer_draws_the_same_scene(name: str) -> None:
    generator, scene = GENERATORS[name](), SCENES[name]
    factors = generator.sample(0, "train", np.arange(200))
    published = name.endswith("-published")
    # Whole pixels cost some of the edge, of which small shapes have much, and lines most.
    lines = name in ("enclosed", "trace")
    least = 1.0 if published else 0.95 if name in ("rect-tri", "circ-sq") else 0.75 if lines else 0.85
    assert overlap(generator, scene, factors) >= least
    if published:
        masks = np.stack([peer_with_masks(generator, scene, row)[1] for row in rows_of(factors)])
        assert np.array_equal(masks, generator.render(factors).masks)


@pytest.mark.parametrize("name", LAWS)
def test_the_peer_draws_factors_by_the_same_law(name: str) -> None:
    generator, n = GENERATORS[name](), 800
    factors, peers = generator.sample(0, "train", np.arange(n)), list(rows(name, n))
    assert peers[0].keys() == {factor.name for factor in generator.factors if factor.kind != "key"}
    for column in peers[0]:
        drawn = np.array([row[column] for row in peers], float)
        assert ks_2samp(factors[column].astype(float), drawn, method="asymp").pvalue > 1e-4, column


def test_smoke_without_committed_ratios_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import smoke

    monkeypatch.setattr(smoke, "COMMITTED", tmp_path / "none.json")
    monkeypatch.setattr("sys.argv", ["smoke"])
    with pytest.raises(SystemExit, match="--update"):
        smoke.main()


def test_a_step_of_timm_is_measured_beside_plain_pytorch() -> None:
    """A tiny model and one worker: both loops run, on the same images."""
    pytest.importorskip("timm")
    from benchmarks import step_timm

    tiny = ["--backbone", "test_resnet", "--size", "32", "--batch", "4", "--steps", "2", "--rounds", "2"]
    arguments = step_timm.parse([*tiny, "--workers", "1", "--precision", "fp32"])
    found = step_timm.measure(arguments, torch.device("cpu"))
    assert found["ratio"]["median"] > 0
    assert set(found["images_per_second"]) == {"ours", "peer"}


@pytest.mark.parametrize("peer", ["lightly", "lightly, bf16 and channels last", "torchvision, bf16 and channels last"])
def test_a_peer_steps_with_torchs_own_tf32_and_ours_without(peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightly")
    from benchmarks import step_peer

    options = {"model.width": 4, "train.batch_size": 2, "views.max_size": 32, "train.precision": "fp32"}
    config = resolve("simclr", get(METHODS, "method", "simclr"), preset="quick", seed=0, options=options)
    images = torch.randint(0, 256, (4, 1, 32, 32), dtype=torch.uint8)
    monkeypatch.setattr(step_peer, "STEPS", 1)
    seen: list[tuple[bool, bool, torch.dtype]] = []
    forward = Encoder.forward

    def watched(encoder: Encoder, x: Tensor) -> Features:
        features = forward(encoder, x)
        convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        seen.append((convolutions, products, features.map.dtype))
        return features

    monkeypatch.setattr(Encoder, "forward", watched)
    try:
        allow_tf32(convolutions=False, products=False)
        step_peer.peer_pass(config, images, torch.device("cpu"), 1, peer=peer)()
        assert not torch.backends.cudnn.allow_tf32
    finally:
        allow_tf32(convolutions=True, products=False)
    assert seen == [(True, False, torch.float32 if peer == "lightly" else torch.bfloat16)] * 2


def test_the_plan_for_many_gpus_takes_batches_longer_than_a_queue() -> None:
    """swav's at its default holds 3,840 features."""
    from benchmarks import ranks

    few, whole = (ranks.seconds("swav", batch) for batch in (ranks.FEW, 4096))
    assert 0 < few < whole


def test_jobs_take_turns_by_the_clock_given() -> None:
    calls: list[str] = []
    ticks = iter(range(100))
    jobs = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = interleaved(jobs, rounds=3, clock=lambda: float(next(ticks)))
    assert calls == ["a", "b"] * 4  # one for warming up
    assert times == {"a": [1.0] * 3, "b": [1.0] * 3}


def test_branches_are_timed_with_one_trainer_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each holds the memory of a whole step, recorded. The method's own step is timed anew beside each branch."""
    from benchmarks import branches

    class Trainer:
        def __init__(self) -> None:
            self.itself = self  # as a trainer's hooks refer to it

    alive: weakref.WeakSet[Trainer] = weakref.WeakSet()
    built: list[str] = []

    def build(name: str, *, branches: tuple[str, ...], **_: object) -> Trainer:
        assert len(alive) == 0
        trainer = Trainer()
        alive.add(trainer)
        built.append("+".join((name, *branches)))
        return trainer

    monkeypatch.setattr(branches, "trainer_for", build)
    monkeypatch.setattr(branches, "job_of", lambda trainer: lambda: trainer)
    monkeypatch.setattr(branches, "expected", lambda trainer: 1.5)
    arguments = argparse.Namespace(methods="byol,dino", preset="quick", precision=None, batch_size=8, rounds=3)
    rows = branches.measure(arguments, torch.device("cpu"), tmp_path)["rows"]
    assert {label: row["beside"] for label, row in rows.items()} == {
        "simclr": "simclr", "simclr + lcr": "simclr", "simclr + xcorr": "simclr",
        "byol": "simclr", "byol + lcr": "byol", "byol + xcorr": "byol", "dino": "simclr",
    }  # fmt: skip
    assert built[-6:] == ["byol", "byol+lcr", "byol", "byol+xcorr", "simclr", "dino"]
    assert rows["byol"]["ratio_of_forwards"]["max"] == pytest.approx(rows["byol"]["ratio"]["max"] / 1.5)


def test_the_bare_step_is_recorded_on_a_gpu_as_the_whole_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.step import recorded

    calls: list[str] = []
    graph = SimpleNamespace(replay=lambda: calls.append("replay"))

    @contextmanager
    def recording(into: object, stream: object) -> Iterator[None]:
        assert into is graph
        calls.append("begin")
        yield
        calls.append("end")

    stream = SimpleNamespace(wait_stream=lambda other: None)
    fakes = {"Stream": lambda device: stream, "current_stream": lambda device: stream, "CUDAGraph": lambda: graph}
    for name, fake in (fakes | {"stream": lambda stream: nullcontext(), "graph": recording}).items():
        monkeypatch.setattr(torch.cuda, name, fake)
    job = recorded(lambda: calls.append("job"), torch.device("cuda"))
    job()
    assert calls == ["job"] * WARM_UP + ["begin", "job", "end", "replay"]
    assert recorded(job, torch.device("cpu")) is job


def test_the_table_of_predictions_has_a_line_a_machine_that_adds_up() -> None:
    from benchmarks.predictions import rows

    lines = rows("simclr", 1, 32, batch=4, precision="bf16")
    assert [line.split(" | ")[2] for line in lines] == ["H100", "H200"]
    for line in lines:
        floor, predicted, *parts = map(float, line.strip("| ").split(" | ")[4:])
        assert floor < predicted == pytest.approx(sum(parts), abs=0.05)


@pytest.mark.parametrize(("method", "factor"), [("moco-v2", 2.5), ("byol", 1.75), ("simclr", 2.0)])
def test_further_views_of_xcorr_are_counted_beside_all_of_the_methods_own(
    method: str, factor: float, tmp_path: Path
) -> None:
    from benchmarks.branches import expected
    from benchmarks.step import trainer_for

    small = {"model.width": 4, "views.max_size": 32, "branch.xcorr.clusters": 4}
    trainer = trainer_for(
        method, preset="quick", precision="fp32", device=torch.device("cpu"), folder=tmp_path, options=small,
        branches=("xcorr",),
    )  # fmt: skip
    assert expected(trainer) == pytest.approx(factor)


def test_layers_are_read_beside_a_plain_loop_that_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    from benchmarks import exam
    from probekit.restore.load import load

    options = exam.parse(["--n", "3", "--size", "32", "--rounds", "1"])
    for name in ("timm:test_resnet", "timm:test_vit"):
        opened = load(name, size=32)
        monkeypatch.setitem(exam.NETWORKS, "tiny", lambda size, device: opened)  # noqa: B023
        found = exam.measure("tiny", options)
        assert found["largest_difference"] < 1e-5
        assert found["ratio_to_peer"]["median"] > 0
