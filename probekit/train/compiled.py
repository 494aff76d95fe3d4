"""The parts of a step that torch.compile makes shorter on a GPU: fused kernels in place of many."""

from collections.abc import Callable
from typing import Any

import torch

from probekit.methods.base import Method
from probekit.models.encoder import Encoder
from probekit.models.unet import UNetDecoder
from probekit.train.memory import ran_out_of_memory
from probekit.visible import first_line


class Compiled:
    """A function through torch.compile, or as it is once that has failed, which is said.

    Args:
        function: A function of tensors whose shapes stay the same.
        what: For the reader, plural.
        say: Takes a line for the user.
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
