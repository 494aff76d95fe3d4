"""The trainer: resume is the run that never stopped, also after kill -9; best checkpoints; non-finite loss; signals.

Alone: pytest tests/train/test_loop.py
"""

import io
import json
import math
import os
import re
import shutil
import signal
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from probekit.branches.base import Branch, Epoch, attach
from probekit.data.split import open_split
from probekit.methods.base import Method, Step
from probekit.models import Encoder
from probekit.models import extract as features
from probekit.reports.build import build
from probekit.reports.collect import collect
from probekit.reports.page import markdown
from probekit.restore.build import build_method, load_checkpoint, save_checkpoint
from probekit.run import Run
from probekit.settings import Asked
from probekit.train import loop, pace, plan
from probekit.train import pretrain as starter
from probekit.train.evaluate import Monitor, Projecting
from probekit.train.live import Display
from probekit.train.logged import Logged
from probekit.train.pretrain import pretrain, resume
from probekit.train.progress import NonFiniteLossError
from probekit.train.step import TrainingStep
from tests.datasets import small_shapes
from tests.forked import SERVER

SMALL = {"model.width": 4, "model.depth": 2, "train.batch_size": 8, "train.eval_every": 2}
CPU = torch.device("cpu")
WRITTEN = {"run.json", "metrics.jsonl", "encoder.safetensors", "checkpoints", "results", "figures"}


def quiet() -> Console:
    return Console(quiet=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "shapes.h5"
    small_shapes(path, size=16)
    return path


@pytest.fixture(scope="module")
def larger_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "larger.h5"
    small_shapes(path)
    return path


def train(
    data: Path,
    runs: Path,
    *,
    method: str = "conrec",
    branches: Sequence[str] = (),
    epochs: int = 3,
    name: str = "run",
    preset: str = "quick",
    options: Mapping[str, Any] = {},
    device: str = "cpu",
    log: Sequence[str] = (),
    console: Console | None = None,
) -> tuple[Run, bool]:
    return pretrain(
        Asked(
            method,
            preset=preset,
            options={**SMALL, "train.epochs": epochs, **options},
            branches=branches,
            device=device,
            log=log,
        ),
        data=data,
        runs=runs,
        name=name,
        console=console or quiet(),
    )


def content(run: Run) -> dict[str, Any]:
    return load_checkpoint(run.checkpoints / "last.pt", CPU)


def assert_same(a: Any, b: Any) -> None:
    """Bit for bit, through nested dicts and lists."""
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert a == b


def assert_same_run(a: Run, b: Run) -> None:
    assert a.read_metrics() == b.read_metrics()
    assert a.encoder.read_bytes() == b.encoder.read_bytes()
    for name in ("last", "best_val", "best_test"):
        ours, theirs = (run.checkpoints / f"{name}.pt" for run in (a, b))
        if ours.read_bytes() != theirs.read_bytes():  # which contents that are the same may have, too
            assert_same(load_checkpoint(ours, CPU), load_checkpoint(theirs, CPU))


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends this process the signal a user's Ctrl-C sends, in the middle of a step."""
    done = 0
    original = loop.Trainer.advance

    def step(self: loop.Trainer, index: Tensor, images: Tensor) -> None:
        nonlocal done
        done += 1
        original(self, index, images)
        if done == steps:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop.Trainer, "advance", step)


@pytest.fixture(scope="module")
def whole_runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Under each preset the run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    done = {preset: train(data, folder, name=preset, preset=preset) for preset in ("quick", "paper")}
    assert all(finished for _, finished in done.values())
    return {preset: run for preset, (run, _) in done.items()}


def test_a_run_that_goes_on_with_other_threads_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums in another order differ by rounding; its run.json and its report then say where it went on on what."""
    with monkeypatch.context() as patch:
        stop_after(6, patch)
        run, _ = train(data, tmp_path, method="simclr", epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 3)
        said = Console(file=io.StringIO(), width=200)
        resume(run, epochs=None, device="cpu", console=said)
    before = run.read()["device"]
    told = said.file.getvalue()  # type: ignore[attr-defined]
    assert f"note: run began on {before} and goes on on cpu (3 threads): equal up to rounding, not bit for bit" in told
    assert f"resuming {run.path} after epoch 1.5 of 2" in told
    assert run.read()["resumed"] == [{"epoch": 1, "device": "cpu (3 threads)"}]
    assert "after epoch 1 on cpu (3 threads)" in markdown(build(collect([run])))


@pytest.mark.parametrize(
    ("stop", "preset"), [(1, "quick"), (4, "quick"), (6, "quick"), (8, "quick"), (6, "paper"), (8, "paper")]
)
def test_stopped_and_resumed_is_the_run_that_was_never_stopped(
    data: Path,
    whole_runs: dict[str, Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    preset: str,
    stop: int,
) -> None:
    with monkeypatch.context() as patch:
        stop_after(stop, patch)
        part, finished = train(data, tmp_path, name="part", preset=preset)
    assert not finished
    assert part.read()["state"] == "interrupted"
    part.append_metrics({"epoch": 3, "step": 0})  # a line that the checkpoint does not know
    _, finished = resume(part, epochs=None, device="cpu", console=quiet())
    assert finished
    assert part.read()["state"] == "finished"
    assert_same_run(whole_runs[preset], part)


class Held(dict[str, Any]):
    """A checkpoint that can be watched."""


def test_what_a_run_resumes_from_is_let_go_before_it_trains(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = train(data, tmp_path, epochs=1)
    watched: list[weakref.ref[Held]] = []

    def load(path: Path, device: torch.device) -> Held:
        held = Held(load_checkpoint(path, device))
        watched.append(weakref.ref(held))
        return held

    def fit(trainer: loop.Trainer, display: Display) -> bool:
        return watched[0]() is None

    monkeypatch.setattr(starter, "load_checkpoint", load)
    monkeypatch.setattr(loop.Trainer, "fit", fit)
    assert resume(run, epochs=2, device="cpu", console=quiet())[1]


def test_what_a_run_resumes_from_is_not_read_into_the_gpu(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = train(data, tmp_path, epochs=1)
    asked: list[torch.device] = []

    def load(path: Path, device: torch.device) -> dict[str, Any]:
        asked.append(device)
        raise ValueError("enough")

    monkeypatch.setattr(starter, "choose_device", lambda name: torch.device("cuda", 0))
    monkeypatch.setattr(plan, "open_split", lambda *args, **kwargs: None)
    monkeypatch.setattr(starter, "load_checkpoint", load)
    with pytest.raises(ValueError, match="enough"):
        resume(run, epochs=2, device="cuda", console=quiet())
    assert asked == [CPU]


def go_on(run: Run, data: Path) -> None:
    """In a child process: begins a run that saves after every step, or resumes it."""
    pace.SAVE_EVERY, pace.READ_EVERY = 0.0, 1
    if (run.checkpoints / "last.pt").exists():
        resume(run, epochs=None, device="cpu", console=quiet())
    else:
        shutil.rmtree(run.path, ignore_errors=True)
        train(data, run.path.parent, name=run.name, epochs=6, options={"train.eval_every": 1})


def test_kill_at_any_moment_costs_nothing_but_time(data: Path, tmp_path: Path) -> None:
    """kill -9 after random delays, resume, repeat, until done: bit for bit the run that was never killed."""
    whole, _ = train(data, tmp_path, name="whole", epochs=6, options={"train.eval_every": 1})
    part = Run(tmp_path / "part")
    kills = 0
    for delay in (0.05, 0.3, None):
        child = SERVER.Process(target=go_on, args=(part, data))
        child.start()
        if delay is None:
            child.join()
            assert child.exitcode == 0
            break
        deadline = time.monotonic() + 200
        while not part.metrics.exists() and time.monotonic() < deadline and child.is_alive():
            time.sleep(0.01)
        seen = len(part.read_metrics())
        while len(part.read_metrics()) == seen and child.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)  # until it has got at least one line further
        time.sleep(delay)
        child.kill()
        child.join()
        kills += child.exitcode == -signal.SIGKILL
        if part.read()["state"] == "finished":
            break
    assert kills > 0
    assert part.read()["state"] == "finished"
    assert_same_run(whole, part)


@pytest.mark.parametrize("kept", ["old", "none"])
def test_kill_between_the_last_save_and_the_end_is_made_up_for(data: Path, tmp_path: Path, kept: str) -> None:
    """All epochs are in the checkpoint; the encoder's file and the state are from before."""
    run, _ = train(data, tmp_path, epochs=1)
    encoder = run.encoder.read_bytes()
    run.encoder.unlink()
    if kept == "old":
        run.encoder.write_bytes(b"of an earlier epoch")
    run.update(state="running")
    _, finished = resume(run, epochs=None, device="cpu", console=quiet())
    assert finished
    assert run.read()["state"] == "finished"
    assert run.encoder.read_bytes() == encoder


def test_a_run_of_a_gpu_is_not_resumed_on_a_cpu(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(2, monkeypatch)
    run, _ = train(data, tmp_path)
    saved = content(run)
    saved["rng"]["device"] = saved["rng"]["views"]  # what a GPU's checkpoint holds beside
    save_checkpoint([run.checkpoints / "last.pt"], saved)
    with pytest.raises(ValueError, match="type: --device cuda"):
        resume(run, epochs=None, device="cpu", console=quiet())


def test_same_seed_same_run_and_another_seed_another(data: Path, tmp_path: Path) -> None:
    a, _ = train(data, tmp_path, name="a", epochs=1)
    b, _ = train(data, tmp_path, name="b", epochs=1)
    assert_same_run(a, b)
    run, _ = pretrain(
        Asked("conrec", preset="quick", seed=1, options={**SMALL, "train.epochs": 1}, device="cpu"),
        data=data,
        runs=tmp_path,
        name="c",
        console=quiet(),
    )
    assert run.read_metrics() != a.read_metrics()


def test_more_epochs_extend_a_finished_run(data: Path, tmp_path: Path) -> None:
    """With a constant rate the weights are those of the longer run."""
    constant = {"optimizer.schedule": "constant", "optimizer.warmup_epochs": 0}
    long, _ = train(data, tmp_path, name="long", epochs=4, options=constant)
    short, _ = train(data, tmp_path, name="short", epochs=2, options=constant)
    resume(short, epochs=4, device="cpu", console=quiet())
    assert_same(content(long)["method"], content(short)["method"])
    assert short.read()["config"]["train"]["epochs"] == 4
    with pytest.raises(ValueError, match="has done its 4 epochs; to extend it type"):
        resume(short, epochs=None, device="cpu", console=quiet())


def test_every_epoch_has_an_order_of_its_own(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    original = loop.Trainer.advance

    def step(self: loop.Trainer, index: Tensor, images: Tensor) -> None:
        seen.append(index.tolist())
        original(self, index, images)

    monkeypatch.setattr(loop.Trainer, "advance", step)
    train(data, tmp_path, epochs=2)
    first, second = ([i for batch in part for i in batch] for part in (seen[:4], seen[4:]))
    assert sorted(first) == sorted(second) == list(range(32))
    assert first != second


def test_metrics_and_files(data: Path, tmp_path: Path) -> None:
    run, _ = train(data, tmp_path, epochs=4)
    lines = run.read_metrics()
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    assert [line["step"] for line in lines] == [4, 8, 12, 16]
    assert ["test" in line for line in lines] == [True, False, True, True]  # epochs 1, 3 and the last
    assert all({"loss", "contrastive", "reconstruction", "lr"} <= line.keys() for line in lines)
    written = run.read()
    assert written["state"] == "finished"
    assert written["config"]["method"] == "conrec"
    assert written["versions"]["torch"] == metadata.version("torch")
    best = load_checkpoint(run.checkpoints / "best_test.pt", CPU)["progress"]["best"]["best_test"]
    assert best == max(line["test"] for line in lines if "test" in line)
    found = {path.name for path in run.path.iterdir() if path.name[0] != "."}
    assert found == WRITTEN  # nothing of loggers that nobody asked for


def test_the_monitor_may_watch_what_the_loss_compares(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XCorr, section 3.1: the projection, after each epoch; a method without one is refused by name."""
    seen: list[nn.Module] = []
    original = Monitor.score

    def score(self: Monitor, watched: nn.Module) -> Any:
        seen.append(watched)
        return original(self, watched)

    monkeypatch.setattr(Monitor, "score", score)
    options = {"train.monitored": "projection", "train.monitor": "knn", "train.eval_every": 1}
    run, _ = train(data, tmp_path, method="simclr", epochs=2, options=options)
    assert len(seen) == len(run.read_metrics()) == 2
    watched = seen[-1]
    assert isinstance(watched, Projecting)
    images = torch.rand(4, 1, 16, 16)
    watched.eval()
    expected = watched.head(watched.encoder(images).pooled)
    torch.testing.assert_close(watched(images).pooled, expected)
    assert not torch.equal(expected[:, :4], watched.encoder(images).pooled[:, :4])
    with pytest.raises(ValueError, match=r"a projection head for train\.monitored=projection, found reconstruction"):
        train(data, tmp_path, method="reconstruction", name="none", options=options)


def test_any_failure_is_written_down(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: loop.Trainer, *best: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop.Trainer, "save", full)
    with pytest.raises(OSError, match="No space left"):
        train(data, tmp_path, epochs=1)
    assert Run(tmp_path / "run").read()["state"] == "failed"


def test_unlabelled_data_trains_without_scores(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Monitor, "can_score", property(lambda self: False))
    run, finished = train(data, tmp_path, epochs=1)
    assert finished
    assert "val" not in run.read_metrics()[0]
    assert run.read_metrics()[0]["effective rank"] > 1
    assert not (run.checkpoints / "best_val.pt").exists()
    assert run.encoder.exists()


def test_the_rank_needs_no_labels(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = open_split(data, "train", CPU, max_size=32)
    bare = replace(split, split=replace(split.split, labels=None))
    encoder = Encoder(channels=1, width=4, depth=4, pooling="gap")
    for most in (2048, 10):
        monkeypatch.setattr("probekit.train.evaluate.MOST", most)
        found, known = (Monitor(train, None, None, seed=0).score(encoder) for train in (bare, split))
        assert (found.val, found.test) == (None, None)
        assert found.rank is not None
        assert found.rank == pytest.approx(known.rank, rel=1e-4)


def test_an_unlabelled_validation_split_is_as_none(data: Path) -> None:
    train_split, test_split = (open_split(data, name, CPU, max_size=32) for name in ("train", "test"))
    bare = replace(test_split, split=replace(test_split.split, labels=None))
    encoder = Encoder(channels=1, width=4, depth=4, pooling="gap")
    with_bare = Monitor(train_split, bare, test_split, seed=0).score(encoder)
    assert with_bare == Monitor(train_split, None, test_split, seed=0).score(encoder)
    assert with_bare.val is not None


def test_non_finite_loss_stops_with_the_step_and_what_to_try(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TrainingStep._forward
    done = 0

    def forward(self: TrainingStep, index: Tensor, images: Tensor) -> Step:
        nonlocal done
        done += 1
        step = original(self, index, images)
        if done == 7:
            step.loss = step.loss * float("nan")
        return step

    monkeypatch.setattr(TrainingStep, "_forward", forward)
    with pytest.raises(NonFiniteLossError, match=r"at step 7; try --set optimizer.lr=") as caught:
        train(data, tmp_path)
    assert "\n" not in str(caught.value)
    run = Run(tmp_path / "run")
    assert run.read()["state"] == "failed"
    weights = content(run)["method"].values()
    assert all(torch.isfinite(w).all() for w in weights)


def test_weights_that_the_last_step_broke_say_what_to_try_before_they_are_probed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = loop.Trainer.advance

    def advance(self: loop.Trainer, index: Tensor, images: Tensor) -> None:
        original(self, index, images)
        if self.progress.batch + 1 == self.batches:  # its loss was finite, its gradient was not
            next(self.method.encoder.parameters()).data.fill_(math.nan)

    monkeypatch.setattr(loop.Trainer, "advance", advance)
    with pytest.raises(NonFiniteLossError, match=r"finite weights, found others after step 4; try --set optimizer.lr="):
        train(data, tmp_path)
    assert not list(Run(tmp_path / "run").checkpoints.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train.batch_size": 64}, "type: --batch-size 32"),
        ({"model.depth": 7}, r"type: --set model\.depth=5"),
        ({"model.depth": 40}, "expected model.depth of at most 5 for images of 16x16, found 40"),
        ({"views.recipe": "nonsense"}, "expected views.recipe one of"),
        ({"optimizer.name": "lion"}, "expected optimizer.name = one of lars, larc, sgd, adamw"),
        ({"optimizer.momentum": 1.0}, "expected optimizer.momentum = a number below 1"),
        ({"method.temperature": float("nan")}, "expected method.temperature"),
    ],
)
def test_what_does_not_fit_is_one_line_and_leaves_no_folder(
    data: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train(data, tmp_path, options=options)
    assert not list(tmp_path.iterdir())


def test_changed_data_are_refused_on_resume_and_moved_ones_taken(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.h5"
    copy.write_bytes(data.read_bytes())
    stop_after(2, monkeypatch)
    run, _ = train(copy, tmp_path)
    monkeypatch.undo()
    copy.unlink()
    small_shapes(copy, n=40)
    for named in (None, copy):
        with pytest.raises(ValueError, match="restore the file, name it where it lies now with --data PATH, or"):
            resume(run, data=named, epochs=None, device="cpu", console=quiet())
    copy.unlink()
    with pytest.raises(ValueError, match=re.escape(f"the data of run at {copy}, found nothing; if they were moved")):
        resume(run, epochs=None, device="cpu", console=quiet())
    assert resume(run, data=data, epochs=None, device="cpu", console=quiet())[1]
    assert run.data() == data


class Recorder(Branch):
    """A branch with a loss, companions and an epoch hook."""

    name = "recorder"

    def __init__(self) -> None:
        super().__init__(weight=0.1)
        self.pull = nn.Parameter(torch.tensor(1.0))
        self.embedded: list[tuple[int, ...]] = []
        self.beside: list[int] = []

    def begin_epoch(self, epoch: Epoch) -> Mapping[str, float]:
        self.embedded.append(tuple(epoch.embed().shape))
        assert epoch.labels is not None
        return {"embedded": len(self.embedded)}

    def companions(self, index: Tensor, generator: torch.Generator) -> Tensor:
        return index[:3]

    def loss(self, step: Step) -> Tensor:
        self.beside.append(len(step.companions[self.name].pooled))
        return self.pull**2 * step.companions[self.name].pooled.mean()


def test_a_branch_changes_no_line_of_the_loop(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()

    def build(*args: Any, **kwargs: Any) -> Method:
        method = build_method(*args, **kwargs)
        attach(method, recorder)
        return method

    monkeypatch.setattr(plan, "build_method", build)
    run, _ = train(data, tmp_path, epochs=2)
    assert recorder.embedded == [(32, 128), (32, 128)]  # projections
    assert [line["recorder embedded"] for line in run.read_metrics()] == [1, 2]
    assert recorder.beside == [3] * 8  # one view of each
    assert recorder.pull.item() != 1.0
    stop_after(2, monkeypatch)
    run, _ = train(data, tmp_path, epochs=2, name="part")
    assert len(recorder.embedded) == 3
    resume(run, epochs=None, device="cpu", console=quiet())
    assert len(recorder.embedded) == 4  # the stopped epoch is not begun again


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_passes_that_measure_nothing_run_in_the_runs_precision(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """The bank and the crops' regions; the monitor's features are float32 whatever it is."""
    seen: list[tuple[str, str]] = []
    for where, module in (("branches", loop), ("features", features)):
        plain = features.read_all

        def noted(*args: Any, where: str = where, plain: Any = plain, **kwargs: Any) -> Tensor:
            seen.append((where, kwargs.get("precision", "fp32")))
            found: Tensor = plain(*args, **kwargs)
            assert found.dtype != torch.bfloat16
            return found

        monkeypatch.setattr(module, "read_all", noted)
    options = {"train.precision": precision, "branch.xcorr.clusters": 3, "branch.contrastive-crop.warmup": 0.0}
    train(data, tmp_path, method="simclr", branches=["xcorr", "contrastive-crop"], epochs=1, options=options)
    assert seen[:2] == [("branches", precision)] * 2
    assert set(seen[2:]) == {("features", "fp32")}


def test_live_and_plain_displays_say_the_same(tmp_path: Path) -> None:
    about: dict[str, Any] = {"epochs": 10, "done": 0.0, "log": Logged({}, print)}
    for terminal, percents, told in ((True, True, "50.0 %"), (False, True, "50.0 %"), (False, False, "0.500")):
        console = Console(record=True, force_terminal=terminal, width=160, file=io.StringIO())
        with Display(console, **about, silent={"deviation"}, percents=percents) as display:
            display.printed = -math.inf  # long ago
            display.progress(epochs_done=1.5, means={"loss": 1.25, "deviation": 0.5}, rate=400.0, lr=0.3)
            display.epoch({"epoch": 10, "step": 40, "loss": 1.0, "test": 0.5}, scored=True)
        text = console.export_text()
        assert "epoch 1.5/10  loss 1.2500  lr 0.3  400 images/s" in text
        assert f"monitor after epoch 10: test {told}" in text.splitlines()


def test_run_json_is_strict_json(data: Path, tmp_path: Path) -> None:
    run, _ = train(data, tmp_path, epochs=1)
    words: list[str] = []
    json.loads(run.json.read_text(), parse_constant=words.append)
    assert words == []  # NaN and Infinity are no JSON
