"""A file of TorchScript as a module: "torchscript:FILE". Its code runs: open only what you would run."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from probekit.files import sha256
from probekit.models.onnx_file import refuse_changed, split_name
from probekit.visible import first_line


class ScriptedModule(nn.Module):
    """What a file of `torch.jit.save` holds.

    A ValueError if it is no such file.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        path, rest = split_name(name, "torchscript")
        if rest:
            raise ValueError(f"expected torchscript:FILE, found {name}: its layers have no outputs of their own")
        try:
            scripted = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        except Exception as error:
            raise ValueError(f"expected a file of TorchScript in {path}, found another: {first_line(error)}") from error
        self.scripted = scripted

    def forward(self, x: torch.Tensor) -> Any:
        """What the file's module gives."""
        try:
            return self.scripted(x)
        except RuntimeError as error:  # torch says last what went wrong, behind a trace of the file's code
            raise RuntimeError(str(error).strip().splitlines()[-1]) from error


def script_code(name: str) -> str:
    """The SHA-256 of a file, hex; "" if it is gone."""
    path = Path(name.removeprefix("torchscript:"))
    return sha256(path) if path.is_file() else ""


def same_script(name: str, code: str) -> nn.Module:
    """The module with the file's weights, if it is the same; a ValueError if not."""
    refuse_changed(name, code, script_code(name))
    return ScriptedModule(name)
