"""What makes a step faster on a GPU, recording it and torch.compile: where one fails, all stays as it was."""

import inspect
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import probekit
from probekit.device import ran_out_of_memory
from probekit.methods.base import Method
from probekit.models.encoder import Encoder
from probekit.models.unet import UNetDecoder
from probekit.visible import first_line

COMPLAINT = "previous error"  # "operation failed due to a previous error during capture"
ROOT, TORCH = (Path(package.__file__ or "").parent for package in (probekit, torch))

# Graphs whose recording failed. Torch 2.11 may go on asking one, at each allocation of pinned memory, whether it is
# being recorded, and does not look whether it is still there.
_failed: list[torch.cuda.CUDAGraph] = []


class Before:
    """What a step changes on the host, as it is before a recording, which makes no step on the device.

    That is: what modules bind to their names, the optimizer's groups and state, the states of random numbers. `module`:
    the method, branches attached; `generators`: all that the step draws from.
    """

    def __init__(self, module: nn.Module, optimizer: Optimizer, generators: Iterable[torch.Generator]) -> None:
        self.optimizer = optimizer
        self.modules = [(part, dict(vars(part)), dict(part._buffers)) for part in module.modules()]
        self.state = {p: dict(of_p) for p, of_p in optimizer.state.items()}
        self.groups = [dict(group) for group in optimizer.param_groups]
        self.generators = [(generator, generator.get_state()) for generator in generators]

    def restore(self) -> None:
        """Puts all of it back; gradients are none."""
        for part, names, buffers in self.modules:
            _refill(vars(part), names)
            _refill(part._buffers, buffers)
        _refill(self.optimizer.state, self.state)
        for group, values in zip(self.optimizer.param_groups, self.groups, strict=True):
            _refill(group, values)
        for generator, state in self.generators:
            renew(generator, state)
        self.optimizer.zero_grad(set_to_none=True)


def _refill(found: dict[Any, Any], before: dict[Any, Any]) -> None:
    found.clear()
    found.update(before)


def renew(generator: torch.Generator, state: Tensor) -> None:
    """Puts a generator back to a state.

    On a GPU that state is a new object: in some versions of torch the one that was part of a failed recording still
    takes itself for recorded, and refuses to draw.
    """
    if generator.device.type == "cuda":
        generator.graphsafe_set_state(torch.Generator(generator.device).graphsafe_get_state())
    generator.set_state(state)


def release(graph: torch.cuda.CUDAGraph, pool: tuple[int, int], device: torch.device) -> None:
    """Gives back the memory of a recording that failed, as torch itself does from 2.13 on.

    In 2.11 a recording that cannot be ended goes on for the allocator (pytorch #180395), which then frees nothing and
    refuses the next recording. It is ended here; where torch has ended it, it refuses, and `reset` has freed the pool.
    """
    _failed.append(graph)
    with suppress(RuntimeError):
        graph.reset()
    if hasattr(torch._C, "_cuda_endAllocateToPool"):
        with suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(device.index or 0, pool)
            torch._C._cuda_releasePool(device.index or 0, pool)


def told(error: BaseException, parts: Sequence[nn.Module]) -> str:
    """A line for the user on why there is no recording.

    `error`: what ended it: often torch's complaint that an earlier error spoiled it, which stands in its context.
    """
    chain = [error]
    # Below torch's complaint stands what spoiled the recording; what that was raised beside may have been handled.
    while before := chain[-1].__cause__ or (chain[-1].__context__ if COMPLAINT in str(chain[-1]) else None):
        chain.append(before)
    if any(isinstance(link, torch.OutOfMemoryError) for link in chain):
        return "the recording of the step does not fit into the GPU's memory, and the step is launched kernel by kernel"
    reason = first_line(chain[-1])
    where = _place(chain[-1], parts)
    return f"the step cannot be recorded as a CUDA graph, and is launched kernel by kernel: {reason}{where}"


def _place(error: BaseException, parts: Sequence[nn.Module]) -> str:
    """Where in the method's or a branch's file an error came from, or else the innermost line that is not torch's."""
    files = {inspect.getfile(type(part)) for part in parts}
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    outside = [frame for frame in frames if not Path(frame[0]).is_relative_to(TORCH)]
    frames = [frame for frame in frames if frame[0] in files] or outside
    if not frames:
        return ""
    path, line = Path(frames[-1][0]), frames[-1][1]
    return f" ({path.relative_to(ROOT.parent) if path.is_relative_to(ROOT.parent) else path}, line {line})"


class Compiled:
    """A function through torch.compile, or as it is once that has failed, which is said.

    `function`: a function of tensors whose shapes stay the same.
    """

    def __init__(self, function: Callable[..., Any], what: str, say: Callable[[str], None]) -> None:
        self.plain, self.what, self.say = function, what, say
        self.fast: Callable[..., Any] | None = torch.compile(function, fullgraph=True, dynamic=False)

    def __call__(self, *arguments: Any) -> Any:
        """The function's result."""
        if self.fast is None:
            return self.plain(*arguments)
        try:
            return self.fast(*arguments)
        except Exception as error:  # no compiler, no Triton, an operator that it cannot take: of many types
            if ran_out_of_memory(error):
                raise
            reason = first_line(error)
            self.say(f"torch.compile cannot take the {self.what}, which are launched kernel by kernel: {reason}")
            self.fast = None
            return self.plain(*arguments)


def compile_networks(method: Method, say: Callable[[str], None]) -> None:
    """Lets the backbones and the decoder of a method compute through torch.compile while they train.

    Scoring takes batches of other sizes, each of which would be compiled on its own.
    """
    for module in list(method.modules()):
        network = module.backbone if isinstance(module, Encoder) else module
        if isinstance(module, Encoder | UNetDecoder):
            _while_training(network, Compiled(network.forward, "networks", say))


def _while_training(network: Any, compiled: Compiled) -> None:
    def forward(*inputs: Any) -> Any:
        return compiled(*inputs) if network.training else compiled.plain(*inputs)

    network.forward = forward
