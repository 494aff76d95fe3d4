"""The recording of a step, on a GPU that is none: what spoils one, what it leaves behind, what the user reads.

The fake records as the real one does: kernels have no effect while a recording is made, an error in it comes back as
torch's complaint at its end, and host allocations of other threads spoil it unless it is of the thread alone.
Alone: pytest tests/train/test_gpu_recorded.py
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from probekit.branches.base import begin_on_noise, branches_of
from probekit.data.split import StreamedImages
from probekit.methods.conrec import SimCLR
from probekit.train import loop
from probekit.train.gpu import release, told
from probekit.train.optim import build_optimizer
from probekit.train.step import WARM_UP, RecordedStep, TrainingStep
from tests.chance import noise
from tests.train.conftest import POOL
from tests.train.test_loop import assert_same_run, data, train  # noqa: F401
from tests.train.test_step import configured, losses, step_of

SPOILED = "CUDA error: operation failed due to a previous error during capture"
Say = Callable[[str], None]


class Recorder:
    """What stands for `torch.cuda` while a step is recorded.

    Attributes:
        steps: Every recorded step that was built.
        modes: How each recording treats errors of other threads.
        begun: Whether a recording has begun.
        released: What was done with the memory of failed ones, in order.
    """

    def __init__(self) -> None:
        self.steps: list[RecordedStep] = []
        self.modes: list[str] = []
        self.begun, self.pinned = threading.Event(), threading.Event()
        self.under_way = self.spoiled = False
        self.released: list[Any] = []

    def build(self, step: TrainingStep, say: Say) -> RecordedStep:
        self.steps.append(RecordedStep(step, say))
        return self.steps[-1]

    @contextmanager
    def graph(
        self, graph: Any, *, pool: object = None, stream: object, capture_error_mode: str = "global"
    ) -> Iterator[None]:
        step = self.steps[-1].step
        self.modes.append(capture_error_mode)
        tensors = [*step.method.parameters(), *step.method.buffers(), *optimizer_tensors(step)]
        kept = [t.detach().clone() for t in tensors]
        draws = [(g, g.get_state()) for g in (step.generator, torch.default_generator)]
        self.under_way, self.spoiled = True, False
        self.begun.set()
        try:
            yield
        except BaseException:
            self.spoiled = True
            raise
        finally:
            self.during()
            self.under_way = False
            with torch.no_grad():
                for tensor, before in zip(tensors, kept, strict=True):
                    tensor.copy_(before)
            if self.spoiled:  # and random numbers are drawn
                raise RuntimeError(SPOILED)
            for generator, state in draws:
                generator.set_state(state)

    def during(self) -> None:
        """What else happens while the recording is under way."""

    def pin(self, tensor: Tensor) -> Tensor:
        """A host allocation of another thread, with the error that CUDA gives."""
        if self.under_way and self.modes[-1] == "global":
            self.spoiled = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        return tensor


def optimizer_tensors(step: TrainingStep) -> list[Tensor]:
    return [v for of_p in step.optimizer.state.values() for v in of_p.values() if isinstance(v, Tensor)]


@pytest.fixture
def cuda(no_gpu: None, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()

    class Graph:
        def register_generator_state(self, generator: torch.Generator) -> None: ...

        def reset(self) -> None:
            recorder.released.append("reset")

        def replay(self) -> None:
            recorded = recorder.steps[-1]
            recorded.scalars = recorded.step(recorded.index, recorded.images)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recorder.graph)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", lambda d, p: recorder.released.append(("end", d, p)))
    monkeypatch.setattr(torch._C, "_cuda_releasePool", lambda d, p: recorder.released.append(("release", d, p)))
    return recorder


def test_images_are_pinned_while_the_step_is_recorded(
    cuda: Recorder,
    data: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the thread that reads ahead: neither the run nor the recording ends for it."""
    options = {"data.placement": "host", "train.batch_size": 4}
    launched, _ = train(data, tmp_path, name="launched", options=options)
    calls = 0

    def fetch(_: StreamedImages, read: Callable[[Tensor], Tensor], index: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls != WARM_UP + 2:  # the batch after the one that the step is recorded on
            return cuda.pin(read(index))
        assert cuda.begun.wait(10)
        try:
            return cuda.pin(read(index))
        finally:
            cuda.pinned.set()

    monkeypatch.setattr(StreamedImages, "_fetch", fetch)
    monkeypatch.setattr(cuda, "during", lambda: cuda.pinned.wait(10))
    monkeypatch.setattr(loop, "fastest_step", cuda.build)
    recorded, finished = train(data, tmp_path, name="recorded", options=options)
    assert finished
    assert cuda.modes == ["thread_local"]
    assert_same_run(launched, recorded)
    assert [run.read()["recorded"] for run in (launched, recorded)] == [False, True]


class Spoiler(SimCLR):
    """Changes on the host what a step may change there, and does what a test wants to see spoil a recording."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen = 0
        self.register_buffer("latest", torch.zeros(()))
        self.spoil: Callable[[], object] = int

    def after_step(self) -> None:
        self.seen += 1
        self.latest = torch.ones(()) * self.seen
        self.spoil()


def spoiler(cuda: Recorder, say: Say) -> tuple[RecordedStep, Spoiler, TrainingStep]:
    """A recorded step of it, and the same, launched."""
    found: list[TrainingStep] = []
    for _ in range(2):
        step = step_of(configured("simclr"))
        own = Spoiler(step.method.encoder, **step.config.method_options)
        own.load_state_dict(step.method.state_dict(), strict=False)
        step.method = own.train()
        step.optimizer = build_optimizer(own, name="adamw", lr=1e-3, momentum=0.9, weight_decay=1e-4)
        found.append(step)
    method = found[0].method
    assert isinstance(method, Spoiler)
    return cuda.build(found[0], say), method, found[1]


def test_a_failed_recording_leaves_everything_as_it_was(cuda: Recorder) -> None:
    """Counters, buffers, the optimizer, random numbers: the run goes on as if it had not been tried."""
    said: list[str] = []
    recorded, method, launched = spoiler(cuda, said.append)
    losses(recorded, WARM_UP)
    latest, seen = method.latest, method.seen
    groups = [dict(group) for group in recorded.step.optimizer.param_groups]
    moments = [dict(of_p) for of_p in recorded.step.optimizer.state.values()]
    noted = []

    def spoil() -> None:
        optimizer = recorded.step.optimizer
        if cuda.under_way:
            optimizer.param_groups[0]["weight_decay"] = 7.0
            optimizer.state[next(method.parameters())]["more"] = torch.ones(())
            torch.rand(3)
            raise RuntimeError("no")
        noted.append((method.latest, method.seen))

    method.spoil = spoil
    index = torch.arange(8) + 8 * (WARM_UP % 4)
    recorded._record(index, recorded.step.images[index])
    assert len(said) == 1
    assert (method.latest, method.seen) == (latest, seen)
    assert all(a.items() == b.items() for a, b in zip(recorded.step.optimizer.param_groups, groups, strict=True))
    assert [of_p.keys() for of_p in recorded.step.optimizer.state.values()] == [of_p.keys() for of_p in moments]
    assert all(p.grad is None for p in method.parameters())

    recorded.to_warm_up = -1
    found = torch.cat([losses(launched, WARM_UP), losses(launched, 4)])
    assert torch.equal(losses(recorded, 4), found[WARM_UP:])
    assert [n for _, n in noted] == [WARM_UP + k + 1 for k in range(4)]


@pytest.mark.parametrize("ended", [False, True])
def test_the_memory_of_a_failed_recording_is_given_back_once(
    cuda: Recorder, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """Where torch has ended the recording for the allocator it refuses a second end, and has given the pool back."""

    def refuse(device: int, pool: object) -> None:
        raise RuntimeError("endAllocatePool: not currently recording to mempool_id")

    if ended:
        monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", refuse)
    release(torch.cuda.CUDAGraph(), POOL, torch.device("cuda", 3))
    assert cuda.released == ["reset", *([] if ended else [("end", 3, POOL), ("release", 3, POOL)])]


def test_without_torchs_calls_nothing_is_given_back(cuda: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C, "_cuda_endAllocateToPool")
    release(torch.cuda.CUDAGraph(), POOL, torch.device("cuda", 3))
    assert cuda.released == ["reset"]


def read_back() -> None:
    torch.ones(2).view(3)


def read_back_elsewhere() -> None:
    noise(-1)  # fails in another file of ours


def read_back_beside_another() -> None:
    try:
        dict[str, int]()["missing"]
    except KeyError:
        torch.ones(2).view(3)


def resize_badly() -> None:
    torch.nn.functional.interpolate(torch.ones(1, 1, 2), mode="none")  # fails in a file of torch's


def line_of(function: Callable[[], None]) -> str:
    """Of the last of its body."""
    last = max(line for *_, line in function.__code__.co_lines() if line)
    return f" (tests/train/test_gpu_recorded.py, line {last})"


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (read_back, "shape '[3]' is invalid for input of size 2"),
        (read_back_beside_another, "shape '[3]' is invalid for input of size 2"),
        (read_back_elsewhere, "negative"),
    ],
)
def test_the_first_cause_is_told_and_where_in_the_method_it_is(
    cuda: Recorder, spoil: Callable[[], None], cause: str
) -> None:
    said: list[str] = []
    recorded, method, _ = spoiler(cuda, said.append)
    method.spoil = lambda: spoil() if cuda.under_way else None
    losses(recorded, WARM_UP + 2)
    (line,) = said
    assert "\n" not in line
    assert SPOILED not in line
    assert cause in line
    assert line.endswith(line_of(spoil))
    assert cuda.modes == ["thread_local"]


def test_a_cause_outside_the_method_has_the_line_that_is_not_torchs() -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        resize_badly()
    assert told(caught.value, []).endswith(line_of(resize_badly))


def test_a_recording_that_does_not_fit_is_told_as_such(cuda: Recorder) -> None:
    said: list[str] = []
    recorded, method, launched = spoiler(cuda, said.append)

    def run_out() -> None:
        if cuda.under_way:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    method.spoil = run_out
    found = losses(recorded, WARM_UP + 4)
    assert said == [
        "the recording of the step does not fit into the GPU's memory, and the step is launched kernel by kernel"
    ]
    assert torch.equal(found, losses(launched, WARM_UP + 4))


def test_the_step_is_recorded_anew_when_a_branch_begins(cuda: Recorder) -> None:
    """Before, it pays nothing for it."""
    options: dict[str, Any] = {"branch.xcorr.start": 5}  # `step_of` goes no further
    step, launched = (step_of(configured("simclr", "xcorr", **options)) for _ in range(2))
    recorded = cuda.build(step, pytest.fail)
    encoded: list[int] = []
    step.method.encoder.register_forward_pre_hook(lambda module, inputs: encoded.append(len(inputs[0])))
    for epoch in range(2):
        assert [b.resting for b in branches_of(step.method)] == [epoch == 0]
        encoded.clear()
        assert torch.equal(losses(recorded, 6), losses(launched, 6))
        assert len(cuda.modes) == 1 + epoch
        assert encoded == ([16] if epoch == 0 else [16, 16]) * 7  # the recording goes through it, too
        assert ("xcorr mu" in step.names) == (epoch == 1)
        for each in (step, launched):
            begin_on_noise(each.method, 6, images=32, size=(16, 16))


def test_recording_can_be_left_out() -> None:
    assert configured().train.record == "auto"
    assert configured(**{"train.record": "off"}).to_dict()["train"]["record"] == "off"
    with pytest.raises(ValueError, match=r"expected train\.record = one of auto, off, found 'never'"):
        configured(**{"train.record": "never"})
